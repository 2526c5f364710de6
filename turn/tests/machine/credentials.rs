//! Who may have allocations, and whose they are (ABUSE.md T3, T7, T9). How requests are sealed is tested beside `auth`.

use turn_server::credential;
use turn_server::stun::{AttributeType, Message, Method, TransactionId, Writer};
use turn_server::{Client, Input, Refusal};

use crate::world::*;

fn client(port: u16) -> Client {
    User::new("", port).client
}

/// T3.
#[test]
fn nothing_is_allocated_without_a_credential_that_counts() {
    let mut world = World::new(config());
    world.grant("ada");
    let mut good = User::new("ada", 5000);
    good.greet(&mut world);

    // A wrong password, another's name, another realm, a cut seal.
    let mut wrong = good.clone();
    wrong.credential.password.push('x');
    let request = wrong.request(Method::ALLOCATE, |it| it.requested_transport(UDP));
    assert_eq!(world.receive(client(5000), &request), [Seen::Answer(401)]);
    let mut forged = good.clone();
    forged.credential.username = forged.credential.username.replace("ada", "bob");
    let request = forged.request(Method::ALLOCATE, |it| it.requested_transport(UDP));
    assert_eq!(world.receive(client(5000), &request), [Seen::Answer(401)]);
    let request = good.request(Method::ALLOCATE, |it| it.requested_transport(UDP));
    assert_eq!(world.receive(client(5000), &request[..request.len() - 12]), []);
    let mut bytes = vec![];
    Writer::request(&mut bytes, Method::ALLOCATE, TransactionId([1; 12]))
        .requested_transport(UDP)
        .username(&good.credential.username)
        .realm("elsewhere")
        .nonce(&[b'0'; 12])
        .integrity(&credential::md5_key(&good.credential.username, "elsewhere", &good.credential.password));
    assert_eq!(world.receive(client(5000), &bytes), [Seen::Answer(401)]);

    // What stands behind the seal does not count.
    let mut bytes = vec![];
    Writer::request(&mut bytes, Method::ALLOCATE, TransactionId([1; 12]))
        .username(&good.credential.username)
        .realm(REALM)
        .nonce(Message::parse(&request).unwrap().nonce().unwrap())
        .integrity(&good.key())
        .requested_transport(UDP);
    assert_eq!(world.receive(client(5000), &bytes), [Seen::Answer(400)]);
    assert_eq!(world.allocations(), 0);
    assert_eq!(good.allocate(&mut world), 0);
}

/// T3: another's nonce, and an old one.
#[test]
fn a_nonce_is_for_one_address_and_for_a_time() {
    let mut world = World::new(config());
    world.grant("ada");
    let mut user = User::new("ada", 5000);
    user.greet(&mut world);
    let request = user.request(Method::ALLOCATE, |it| it.requested_transport(UDP));
    let elsewhere = Client::Udp { local: at("203.0.113.10:3478"), remote: at("192.0.2.99:5000") };
    assert_eq!(world.receive(elsewhere, &request), [Seen::Answer(438)]);
    world.wait(24 * 3600);
    assert_eq!(world.receive(user.client, &request), [Seen::Answer(438)]);
    assert_eq!((world.allocations(), world.refused(Refusal::StaleNonce)), (0, 2));
}

/// T9.
#[test]
fn only_holders_with_a_seat_and_an_unexpired_credential_allocate() {
    let mut world = World::new(config());
    let mut nobody = User::new("ada", 5000);
    assert_eq!(nobody.allocate(&mut world), 401);
    let answer = Message::parse(&world.answer).unwrap();
    assert!(answer.nonce().is_some() && answer.realm() == Some(REALM));
    assert_eq!(world.refused(Refusal::NotGranted), 1);

    world.grant("ada");
    let mut late = User::by(client(5001), "ada", UNIX_S);
    assert_eq!(late.allocate(&mut world), 401, "the second of its expiry has come");
    assert_eq!(world.refused(Refusal::NotGranted), 2);
    let mut close = User::by(client(5001), "ada", UNIX_S + 1);
    assert_eq!(close.allocate(&mut world), 0);

    // What was allocated lives on while the seat does.
    world.wait(500);
    assert_eq!(close.refresh(&mut world, 600), 0);
    assert_eq!(close.bind(&mut world, 0x4000, MEDIA), 0);
    let mut other = User::by(client(5002), "ada", UNIX_S + 1);
    assert_eq!(other.allocate(&mut world), 401);
}

/// T9: the allocation ends with its seat, and so does the credential.
#[test]
fn a_credential_is_useless_after_a_kick() {
    let (mut world, mut user) = allocated(config());
    world.grant("bob");
    let mut bob = User::new("bob", 5001);
    assert_eq!(bob.allocate(&mut world), 0);
    assert_eq!(user.bind(&mut world, 0x4000, MEDIA), 0);
    assert_eq!(world.revoke("ada"), []);
    assert_eq!(world.allocations(), 1);
    assert_eq!(user.channel_data(&mut world, 0x4000, b"x"), []);
    assert_eq!(user.refresh(&mut world, 600), 437);
    assert_eq!(user.allocate(&mut world), 401);
    assert_eq!(world.revoke("ada"), []);
    assert_eq!(bob.refresh(&mut world, 600), 0);
    // A new seat has a new holder; the same one may be granted again.
    world.grant("ada");
    world.grant("ada");
    assert_eq!(user.allocate(&mut world), 0);
    assert_eq!(world.revoke("ada"), []);
    assert_eq!(world.allocations(), 1);
}

/// T7.
#[test]
fn an_allocation_is_its_holders() {
    let (mut world, mut user) = allocated(config());
    world.grant("eve");
    let mut eve = User::by(user.client, "eve", UNIX_S + 3600);
    assert_eq!(eve.refresh(&mut world, 0), 441);
    assert_eq!(eve.bind(&mut world, 0x4000, MEDIA), 441);
    assert_eq!(eve.permit(&mut world, MEDIA), 441);
    assert_eq!(eve.allocate(&mut world), 437);
    let request = eve.request_in(1, Method::ALLOCATE, |it| it.requested_transport(UDP));
    assert_eq!(world.receive(eve.client, &request), [Seen::Answer(437)], "the transaction is ada's");
    assert_eq!(world.refused(Refusal::WrongCredentials), 3);
    // A mobility ticket (RFC 8016) is none of what we understand.
    let moved = eve.code(&mut world, Method::REFRESH, |it| it.attribute(AttributeType(0x8030), b"ticket"));
    assert_eq!(moved, 441);
    assert_eq!(user.bind(&mut world, 0x4000, MEDIA), 0);
    // A credential of the same holder that was minted later is as good.
    let mut renewed = User::by(user.client, "ada", UNIX_S + 7200);
    assert_eq!(renewed.refresh(&mut world, 600), 0);
}

#[test]
fn a_holder_is_all_that_stands_behind_the_expiry() {
    let mut world = World::new(config());
    world.grant("ada");
    assert_eq!(world.handle(Input::Grant { holder: "ada:x".into() }), []);
    world.revoke("ada");
    assert_eq!(User::new("ada:x", 5000).allocate(&mut world), 0);
    assert_eq!(User::new("ada", 5001).allocate(&mut world), 401);
}
