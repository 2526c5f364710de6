//! Relay sockets, which only listed peers need.

use turn_server::stun::{Message, Method};
use turn_server::{AllocationId, Config, Input, Output, Refusal, StreamId};

use crate::world::*;

fn ask(world: &mut World, user: &mut User) -> (AllocationId, u16) {
    let seen = user.ask(world, Method::ALLOCATE, |it| it.requested_transport(UDP));
    bind(&seen)
}

fn bind(seen: &[Seen]) -> (AllocationId, u16) {
    let [Seen::Out(Output::Bind { allocation, relayed })] = seen else { panic!("{seen:?}") };
    assert_eq!(relayed.ip(), ip(HERE));
    (*allocation, relayed.port())
}

fn world() -> (World, User) {
    let mut world = World::new(listing());
    world.grant("ada");
    (world, User::new("ada", 5000))
}

#[test]
fn an_allocation_is_answered_when_its_socket_is_there() {
    let (mut world, mut user) = world();
    let (allocation, port) = ask(&mut world, &mut user);
    let transaction = |n| move |it: &User| it.request_in(n, Method::ALLOCATE, |it| it.requested_transport(UDP));
    let request = transaction(1)(&user);
    assert_eq!(world.receive(user.client, &request), [], "still waiting");
    assert_eq!(user.permit(&mut world, PEER), 437);
    assert_eq!(world.allocations(), 0);
    assert_eq!(world.handle(Input::Bound { allocation, there: true }), [Seen::Answer(0)]);
    let answer = world.answer.clone();
    assert_eq!(Message::parse(&answer).unwrap().xor_relayed_address().unwrap().port(), port);
    assert!(Message::parse(&answer).unwrap().check_integrity(&user.key()));
    assert_eq!(world.receive(user.client, &request), [Seen::Answer(0)]);
    assert_eq!(world.answer, answer);
    assert_eq!(world.handle(Input::Bound { allocation, there: true }), []);
    assert_eq!(world.handle(Input::Bound { allocation, there: false }), []);

    assert_eq!(user.bind(&mut world, 0x4000, PEER), 0);
    assert_eq!(user.channel_data(&mut world, 0x4000, b"x"), [Seen::Peer(at(PEER), b"x".into(), false)]);
    assert!(world.wrap(allocation, PEER, 7).is_some());
    assert_eq!(world.server.counters().relay_bytes, [1, 7]);
    // The short cut is open as well.
    assert_eq!(user.permit(&mut world, MEDIA), 0);
    assert_eq!(user.send(&mut world, MEDIA, b"x"), [Seen::Media(at(MEDIA), b"x".into())]);
    let seen = user.ask(&mut world, Method::REFRESH, |it| it.lifetime(0));
    let relayed = std::net::SocketAddr::new(ip(HERE), port);
    assert_eq!(
        seen,
        [
            Seen::Answer(0),
            Seen::Out(Output::Unbind { allocation }),
            Seen::Out(Output::PathClosed { allocation, relayed, peer: at(MEDIA) })
        ]
    );
}

#[test]
fn other_ports_are_tried_for_one_that_is_taken() {
    let (mut world, mut user) = world();
    let (allocation, first) = ask(&mut world, &mut user);
    let mut tried = vec![first];
    for _ in 1..8 {
        let (again, port) = bind(&world.handle(Input::Bound { allocation, there: false }));
        assert_eq!(again, allocation);
        assert!(!tried.contains(&port) && (50_000..=50_099).contains(&port));
        tried.push(port);
    }
    assert_eq!(world.handle(Input::Bound { allocation, there: false }), [Seen::Answer(508)]);
    assert!(Message::parse(&world.answer).unwrap().check_integrity(&user.key()));
    assert_eq!((world.allocations(), world.refused(Refusal::Capacity), world.server.deadline()), (0, 1, None));
    let (allocation, _) = ask(&mut world, &mut user);
    assert!(bind(&world.handle(Input::Bound { allocation, there: false })).1 >= 50_000);
    assert_eq!(world.handle(Input::Bound { allocation, there: true }), [Seen::Answer(0)]);
}

#[test]
fn what_ends_before_its_socket_is_there_is_not_answered() {
    let mut world = World::new(listing());
    world.grant("ada");
    let mut user = User::by_stream("ada", 1);
    let (allocation, _) = ask(&mut world, &mut user);
    assert_eq!(
        world.revoke("ada"),
        [Seen::Out(Output::Unbind { allocation }), Seen::Out(Output::Hangup { stream: StreamId(1) })]
    );
    assert_eq!(world.handle(Input::Bound { allocation, there: true }), []);
    assert_eq!(world.handle(Input::Bound { allocation, there: false }), []);

    world.grant("ada");
    let mut user = User::by_stream("ada", 2);
    let (allocation, _) = ask(&mut world, &mut user);
    let closed = world.handle(Input::StreamClosed { stream: StreamId(2) });
    assert_eq!(closed, [Seen::Out(Output::Unbind { allocation })]);
    assert_eq!((world.allocations(), world.server.deadline()), (0, None));
}

#[test]
fn a_pair_is_real_as_well() {
    let mut world = World::new(Config { relay_ports: 50_001..=50_004, ..listing() });
    world.grant("ada");
    let mut user = User::new("ada", 5000);
    let seen = user.ask(&mut world, Method::ALLOCATE, |it| it.requested_transport(UDP).even_port(true));
    let (allocation, port) = bind(&seen);
    assert_eq!(port, 50_002);
    assert_eq!(
        bind(&world.handle(Input::Bound { allocation, there: false })),
        (allocation, 50_002),
        "there is no other"
    );
    assert_eq!(world.handle(Input::Bound { allocation, there: true }), [Seen::Answer(0)]);
    let token = Message::parse(&world.answer).unwrap().reservation_token().unwrap();

    // While it is kept, nobody has it.
    let mut ports = vec![];
    for n in 0..2 {
        let (allocation, port) = ask(&mut world, &mut User::new("ada", 5001 + n));
        world.handle(Input::Bound { allocation, there: true });
        ports.push(port);
    }
    ports.sort();
    assert_eq!(ports, [50_001, 50_004]);
    let mut next = User::new("ada", 5003);
    let seen = next.ask(&mut world, Method::ALLOCATE, |it| it.requested_transport(UDP).reservation_token(token));
    let (allocation, port) = bind(&seen);
    assert_eq!(port, 50_003);
    assert_eq!(world.handle(Input::Bound { allocation, there: false }), [Seen::Answer(508)], "no other port will do");
    let (_, port) = ask(&mut world, &mut next);
    assert_eq!(port, 50_003, "it is free again");
}
