//! How much there is for each and for all (ABUSE.md T4, T5, T6).

use std::collections::HashSet;
use std::time::Duration;

use turn_server::stun::{Message, Method, TransactionId, Writer};
use turn_server::{Client, Config, Input, Limits, Output, Refusal, StreamId};

use crate::world::*;

/// T5: one asks for a thousand.
#[test]
fn a_holder_has_its_quota() {
    let mut world = World::new(config());
    world.grant("ada");
    world.grant("bob");
    for n in 0..1000 {
        // At the pace at which strangers of one network are answered.
        world.pass(Duration::from_millis(10));
        let code = User::new("ada", 5000 + n).allocate(&mut world);
        assert_eq!(code, if n < 4 { 0 } else { 486 });
    }
    assert_eq!(world.allocations(), 4);
    assert_eq!(world.refused(Refusal::HolderQuota), 996);
    assert_eq!(User::new("bob", 6000).allocate(&mut world), 0);
}

/// T5: all together, and what comes free again: by expiry, by refresh, by the stream's end, by a kick.
#[test]
fn all_have_what_there_is_and_give_it_back() {
    let limits = Limits { allocations: 10, per_holder: 3, ..config().limits };
    let mut world = World::new(Config { limits, ..config() });
    let mut users: Vec<User> = vec![];
    for n in 0..5 {
        let holder = format!("holder {n}");
        world.grant(&holder);
        for k in 0..2 {
            users.push(User::by_stream(&holder, n * 2 + k));
        }
    }
    world.grant("late");
    let mut late = User::new("late", 5000);
    let mut relayed = HashSet::new();
    for user in &mut users {
        assert_eq!(user.allocate(&mut world), 0);
        relayed.insert(Message::parse(&world.answer).unwrap().xor_relayed_address().unwrap());
    }
    assert_eq!(relayed.len(), 10);
    let mut full_then_free = |world: &mut World, seen: usize| {
        assert_eq!(late.allocate(world), 0);
        assert_eq!(late.refresh(world, 0), 0);
        assert_eq!(world.allocations(), seen as u64);
    };
    assert_eq!(User::new("late", 5001).allocate(&mut world), 508);
    assert_eq!(world.refused(Refusal::Capacity), 1);
    assert_eq!(users[0].refresh(&mut world, 0), 0);
    full_then_free(&mut world, 9);
    world.handle(Input::StreamClosed { stream: StreamId(1) });
    full_then_free(&mut world, 8);
    world.revoke("holder 1");
    full_then_free(&mut world, 6);
    world.wait(600);
    full_then_free(&mut world, 0);
    assert_eq!(world.server.deadline(), None);
}

#[test]
fn ports_are_as_many_as_there_are() {
    let (mut world, _) = allocated(Config { relay_ports: 50_000..=50_003, ..listing() });
    world.grant("bob");
    let mut ports = HashSet::new();
    for n in 0..3 {
        let seen = User::new("bob", 5001 + n).ask(&mut world, Method::ALLOCATE, |it| it.requested_transport(UDP));
        let [Seen::Out(Output::Bind { allocation, relayed })] = seen[..] else { panic!("{seen:?}") };
        assert!(ports.insert(relayed.port()) && (50_000..=50_003).contains(&relayed.port()));
        assert_eq!(world.handle(Input::Bound { allocation, there: true }), [Seen::Answer(0)]);
    }
    assert_eq!(User::new("bob", 5010).allocate(&mut world), 508);
    world.revoke("ada");
    let seen = User::new("bob", 5011).ask(&mut world, Method::ALLOCATE, |it| it.requested_transport(UDP));
    assert!(matches!(seen[..], [Seen::Out(Output::Bind { .. })]));
}

/// T4: answers to strangers are no larger than 1.5 × what they sent, and malformed packets have none.
#[test]
fn strangers_gain_nothing_by_having_us_answer_others() {
    let mut world = World::new(config());
    for remote in ["192.0.2.1:5000", "[2a00:db8::1]:5000"] {
        let client = Client::Udp { local: at(MEDIA), remote: at(remote) };
        let headers = if client.remote().is_ipv4() { 28 } else { 48 };
        for method in 0..0x20 {
            for attribute in 0..0x40 {
                let mut bytes = vec![];
                let writer = Writer::request(&mut bytes, Method(method), TransactionId([method as u8; 12]));
                writer.attribute(turn_server::stun::AttributeType(attribute), &vec![0; usize::from(attribute)]);
                world.answer.clear();
                world.receive(client, &bytes);
                assert!(2 * (world.answer.len() + headers) <= 3 * (bytes.len() + headers), "{method} {attribute}");
                world.wait(1);
                for end in (0..bytes.len()).step_by(7) {
                    assert_eq!(world.receive(client, &bytes[..end]), []);
                }
            }
        }
    }
}
