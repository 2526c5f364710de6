//! Binding, Allocate and Refresh (RFC 8489 §7.3, RFC 8656 §7, §8).

use turn_server::stun::{AttributeType, FAMILY_IPV4, FAMILY_IPV6, Message, Method, TransactionId, Writer};
use turn_server::{Client, Config, Output, Refusal};

use crate::world::*;

#[test]
fn binding_says_where_the_client_is_seen() {
    let mut world = World::new(config());
    for remote in ["192.0.2.1:5000", "[2a00:db8::1]:5000"] {
        let client = Client::Udp { local: at(MEDIA), remote: at(remote) };
        let mut bytes = vec![];
        Writer::request(&mut bytes, Method::BINDING, TransactionId([1; 12]));
        assert_eq!(world.receive(client, &bytes), [Seen::Answer(0)]);
        let answer = Message::parse(&world.answer).unwrap();
        assert_eq!(answer.xor_mapped_address(), Some(at(remote)));
        let headers = if client.remote().is_ipv4() { 28 } else { 48 };
        assert!(2 * (world.answer.len() + headers) <= 3 * (bytes.len() + headers));

        // RFC 8489 §6.3.1: what must be understood and is not.
        let mut bytes = vec![];
        Writer::request(&mut bytes, Method::BINDING, TransactionId([1; 12])).attribute(AttributeType(0x7f01), &[]);
        assert_eq!(world.receive(client, &bytes), [Seen::Answer(420)]);
        let unknown = Message::parse(&world.answer).unwrap().attribute(AttributeType::UNKNOWN_ATTRIBUTES);
        assert_eq!(unknown, Some(&[0x7f, 0x01][..]));
        // An indication keeps a NAT open; no answer.
        let mut bytes = vec![];
        Writer::indication(&mut bytes, Method::BINDING, TransactionId([1; 12]));
        assert_eq!(world.receive(client, &bytes), []);
    }
    assert_eq!(world.allocations(), 0);
}

#[test]
fn an_allocation_has_a_relayed_address_of_ours_and_a_lifetime() {
    let (world, user) = allocated(config());
    let answer = Message::parse(&world.answer).unwrap();
    let relayed = answer.xor_relayed_address().unwrap();
    assert_eq!(relayed.ip(), ip(HERE));
    assert!(relayed.port() >= 49152);
    assert_eq!(answer.xor_mapped_address(), Some(user.client.remote()));
    assert_eq!(answer.lifetime(), Some(600));
    assert!(answer.check_integrity(&user.key()) && answer.check_fingerprint());
    assert_eq!(world.server.counters().allocations, [1, 0, 0]);
    assert_eq!(world.server.counters().allocated, 1);
}

#[test]
fn a_repeated_request_has_the_same_answer_and_another_is_a_mismatch() {
    let (mut world, mut user) = allocated(config());
    let first = world.answer.clone();
    world.wait(3);
    let again = user.request_in(1, Method::ALLOCATE, |it| it.requested_transport(UDP));
    assert_eq!(world.receive(user.client, &again), [Seen::Answer(0)]);
    assert_eq!(world.answer, first);
    assert_eq!(user.allocate(&mut world), 437);
    assert_eq!((world.allocations(), world.server.counters().allocated), (1, 1));

    let mut other = User::new("ada", 5001);
    assert_eq!(other.refresh(&mut world, 600), 437);
    assert_eq!(other.permit(&mut world, MEDIA), 437);
    assert_eq!(other.bind(&mut world, 0x4000, MEDIA), 437);
    assert_eq!(world.refused(Refusal::Mismatch), 4);
}

#[test]
fn only_udp_is_relayed() {
    let mut world = World::new(config());
    world.grant("ada");
    let mut user = User::new("ada", 5000);
    assert_eq!(user.code(&mut world, Method::ALLOCATE, |it| it), 400);
    assert_eq!(
        user.code(&mut world, Method::ALLOCATE, |it| it.attribute(AttributeType::REQUESTED_TRANSPORT, &[17])),
        400
    );
    assert_eq!(user.code(&mut world, Method::ALLOCATE, |it| it.requested_transport(6)), 442);
    assert_eq!(user.code(&mut world, Method(0x00b), |it| it), 400, "no method of ours");
    assert_eq!(world.allocations(), 0);
}

#[test]
fn families_are_those_of_our_addresses() {
    let mut world = World::new(config());
    world.grant("ada");
    let mut user = User::new("ada", 5000);
    let code = user.code(&mut world, Method::ALLOCATE, |it| it.requested_transport(UDP).requested_address_family(3));
    assert_eq!(code, 440);
    let code =
        user.code(&mut world, Method::ALLOCATE, |it| it.requested_transport(UDP).requested_address_family(FAMILY_IPV6));
    assert_eq!(code, 0);
    assert_eq!(Message::parse(&world.answer).unwrap().xor_relayed_address().unwrap().ip(), ip(HERE6));
    // RFC 8656 §8.2, §10.2, §12.2: peers are of the same family.
    let code = user.code(&mut world, Method::REFRESH, |it| it.requested_address_family(FAMILY_IPV4));
    assert_eq!(code, 443);
    assert_eq!(user.code(&mut world, Method::REFRESH, |it| it.requested_address_family(FAMILY_IPV6)), 0);
    assert_eq!(user.permit(&mut world, MEDIA), 443);
    assert_eq!(user.bind(&mut world, 0x4000, MEDIA), 443);
    assert_eq!(user.permit(&mut world, MEDIA6), 0);
    assert_eq!(user.bind(&mut world, 0x4000, MEDIA6), 0);
    assert_eq!(user.send(&mut world, MEDIA, b"x"), []);

    let mut world = World::new(Config { relayed: vec![ip(HERE)], ..config() });
    world.grant("ada");
    let code =
        user.code(&mut world, Method::ALLOCATE, |it| it.requested_transport(UDP).requested_address_family(FAMILY_IPV6));
    assert_eq!(code, 440);
}

#[test]
fn who_names_no_family_gets_what_there_is() {
    let mut world = World::new(Config { relayed: vec![ip(HERE6)], ..config() });
    world.grant("ada");
    let mut user = User::new("ada", 5000);
    let code =
        user.code(&mut world, Method::ALLOCATE, |it| it.requested_transport(UDP).requested_address_family(FAMILY_IPV4));
    assert_eq!(code, 440, "who asks for IPv4 by name does not get something else");
    assert_eq!(user.allocate(&mut world), 0);
    assert_eq!(Message::parse(&world.answer).unwrap().xor_relayed_address().unwrap().ip(), ip(HERE6));
}

#[test]
fn an_additional_family_is_refused_beside_the_first() {
    let mut world = World::new(config());
    world.grant("ada");
    let mut user = User::new("ada", 5000);
    let mut ask = |fill: fn(Writer<'_>) -> Writer<'_>| {
        let code = user.code(&mut world, Method::ALLOCATE, |it| fill(it.requested_transport(UDP)));
        let answer = Message::parse(&world.answer).unwrap();
        (code, answer.xor_relayed_address().map(|it| it.ip()), answer.address_error_code())
    };
    assert_eq!(ask(|it| it.additional_address_family(FAMILY_IPV4)).0, 400);
    assert_eq!(ask(|it| it.additional_address_family(FAMILY_IPV6).requested_address_family(FAMILY_IPV4)).0, 400);
    assert_eq!(ask(|it| it.additional_address_family(FAMILY_IPV6).even_port(true)).0, 400);
    let both = ask(|it| it.additional_address_family(FAMILY_IPV6));
    assert_eq!(both, (0, Some(ip(HERE)), Some((FAMILY_IPV6, 440))));
}

#[test]
fn a_pair_of_ports_is_an_even_one_and_a_token_for_the_next() {
    let mut world = World::new(config());
    world.grant("ada");
    world.grant("bob");
    let mut users: Vec<_> = (5000..5006).map(|port| User::new("ada", port)).collect();
    assert_eq!(users[0].code(&mut world, Method::ALLOCATE, |it| it.requested_transport(UDP).even_port(false)), 0);
    let answer = Message::parse(&world.answer).unwrap();
    assert_eq!(answer.xor_relayed_address().unwrap().port() % 2, 0);
    assert_eq!(answer.reservation_token(), None);

    assert_eq!(users[1].code(&mut world, Method::ALLOCATE, |it| it.requested_transport(UDP).even_port(true)), 0);
    let answer = Message::parse(&world.answer).unwrap();
    let port = answer.xor_relayed_address().unwrap().port();
    let token = answer.reservation_token().expect("a token");
    assert_eq!(port % 2, 0);

    let claim = |user: &mut User, world: &mut World, token| {
        user.code(world, Method::ALLOCATE, |it| it.requested_transport(UDP).reservation_token(token))
    };
    let with_even = users[2]
        .code(&mut world, Method::ALLOCATE, |it| it.requested_transport(UDP).reservation_token(token).even_port(false));
    assert_eq!(with_even, 400);
    let with_family = users[2].code(&mut world, Method::ALLOCATE, |it| {
        it.requested_transport(UDP).reservation_token(token).requested_address_family(FAMILY_IPV4)
    });
    assert_eq!(with_family, 400);
    assert_eq!(claim(&mut users[2], &mut world, [0; 8]), 508);
    assert_eq!(claim(&mut User::new("bob", 5010), &mut world, token), 508, "it is ada's");
    assert_eq!(claim(&mut users[2], &mut world, token), 0);
    assert_eq!(Message::parse(&world.answer).unwrap().xor_relayed_address().unwrap().port(), port + 1);
    assert_eq!(claim(&mut users[3], &mut world, token), 508, "it is used up");

    // Two of four, and a pair needs two; then the token expires.
    assert_eq!(users[0].refresh(&mut world, 0), 0);
    assert_eq!(users[3].code(&mut world, Method::ALLOCATE, |it| it.requested_transport(UDP).even_port(true)), 0);
    let token = Message::parse(&world.answer).unwrap().reservation_token().unwrap();
    assert_eq!(users[4].allocate(&mut world), 486, "what is reserved counts");
    assert_eq!(world.wait(30), []);
    assert_eq!(claim(&mut users[4], &mut world, token), 508);
    assert_eq!(users[4].allocate(&mut world), 0);
}

#[test]
fn lifetimes_are_ten_minutes_to_an_hour() {
    for (asked, given) in [(None, 600), (Some(1), 600), (Some(601), 601), (Some(3600), 3600), (Some(u32::MAX), 3600)] {
        let mut world = World::new(config());
        world.grant("ada");
        let mut user = User::new("ada", 5000);
        let code = user.code(&mut world, Method::ALLOCATE, |it| match asked {
            Some(asked) => it.requested_transport(UDP).lifetime(asked),
            None => it.requested_transport(UDP),
        });
        assert_eq!((code, Message::parse(&world.answer).unwrap().lifetime()), (0, Some(given)));
        world.wait(u64::from(given) - 1);
        assert_eq!(world.allocations(), 1);
        world.wait(1);
        assert_eq!((world.allocations(), world.server.deadline()), (0, None));
    }
}

#[test]
fn a_refresh_prolongs_or_ends() {
    let (mut world, mut user) = allocated(config());
    world.wait(599);
    assert_eq!(user.refresh(&mut world, 900), 0);
    assert_eq!(Message::parse(&world.answer).unwrap().lifetime(), Some(900));
    world.wait(899);
    assert_eq!(user.code(&mut world, Method::REFRESH, |it| it), 0);
    assert_eq!(Message::parse(&world.answer).unwrap().lifetime(), Some(600));
    assert_eq!(user.code(&mut world, Method::REFRESH, |it| it.attribute(AttributeType::LIFETIME, &[0])), 400);
    assert_eq!(user.refresh(&mut world, 0), 0);
    assert_eq!(Message::parse(&world.answer).unwrap().lifetime(), Some(0));
    assert_eq!((world.allocations(), world.server.deadline()), (0, None));
    assert_eq!(user.refresh(&mut world, 0), 437);
    assert_eq!(user.allocate(&mut world), 0);
}

#[test]
fn an_allocation_is_over_when_its_time_is_over_though_no_tick_has_come() {
    let (mut world, mut user) = allocated(config());
    assert_eq!(user.bind(&mut world, 0x4000, MEDIA), 0);
    world.wait(300);
    assert_eq!(user.bind(&mut world, 0x4000, MEDIA), 0);
    world.pass(std::time::Duration::from_secs(299));
    assert_eq!(user.channel_data(&mut world, 0x4000, b"x").len(), 1);
    world.pass(std::time::Duration::from_secs(1));
    assert_eq!(user.channel_data(&mut world, 0x4000, b"x"), []);
    let seen = user.ask(&mut world, Method::REFRESH, |it| it);
    assert!(matches!(seen[..], [Seen::Answer(437), Seen::Out(Output::PathClosed { .. })]), "{seen:?}");
}

#[test]
fn what_must_be_understood_and_is_not_is_named() {
    let (mut world, mut user) = allocated(config());
    let code = user.code(&mut world, Method::REFRESH, |it| {
        it.attribute(AttributeType(0x0021), &[0; 4])
            .attribute(AttributeType(0x9999), &[])
            .attribute(AttributeType(0x7777), &[])
    });
    assert_eq!(code, 420);
    let unknown = Message::parse(&world.answer).unwrap().attribute(AttributeType::UNKNOWN_ATTRIBUTES);
    assert_eq!(unknown, Some(&[0x00, 0x21, 0x77, 0x77][..]));
    assert_eq!(world.refused(Refusal::UnknownAttribute), 1);
    let mut bytes = vec![];
    Writer::indication(&mut bytes, Method::SEND, TransactionId([1; 12]))
        .xor_peer_address(at(MEDIA))
        .attribute(AttributeType(0x7777), &[])
        .data(b"x");
    assert_eq!(user.permit(&mut world, MEDIA), 0);
    assert_eq!(world.receive(user.client, &bytes), []);
}

#[test]
fn what_is_no_request_of_ours_is_dropped() {
    let (mut world, mut user) = allocated(config());
    let before = world.refused(Refusal::Malformed);
    let good = user.request(Method::REFRESH, |it| it);
    let mut wrong_fingerprint = good.clone();
    *wrong_fingerprint.last_mut().unwrap() ^= 1;
    let mut answer = vec![];
    Writer::success(&mut answer, Method::REFRESH, TransactionId([1; 12]));
    let mut indication = vec![];
    Writer::indication(&mut indication, Method::DATA, TransactionId([1; 12]));
    let dropped = [&wrong_fingerprint[..], &good[..good.len() - 1], &answer, &indication, &[], &[0x80; 40], &[0xff; 3]];
    for bytes in dropped {
        assert_eq!(world.receive(user.client, bytes), [], "{bytes:x?}");
    }
    assert_eq!(world.refused(Refusal::Malformed) - before, dropped.len() as u64);
    assert_eq!(world.receive(user.client, &good), [Seen::Answer(0)]);
}
