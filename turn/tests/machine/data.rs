//! Payload in both directions (RFC 8656 §11, §12).

use turn_server::stun::{AttributeType, Class, Message, Method, TransactionId, Writer};
use turn_server::{Client, Framing, Input, Refusal};

use crate::world::*;

/// The whole of what goes to a client.
fn framed(framing: &Framing, payload: &[u8]) -> Vec<u8> {
    [framing.head.as_slice(), payload, &vec![0; framing.padding]].concat()
}

/// ABUSE.md T8.
#[test]
fn channel_data_is_as_long_as_it_says() {
    let (mut world, mut user) = allocated(config());
    assert_eq!(user.bind(&mut world, 0x4000, MEDIA), 0);
    let malformed = world.refused(Refusal::Malformed);
    for (bytes, payload) in [
        (&[0x40, 0, 0, 3, 1, 2, 3][..], Some(&[1, 2, 3][..])),
        (&[0x40, 0, 0, 3, 1, 2, 3, 0], Some(&[1, 2, 3])),
        (&[0x40, 0, 0, 0], Some(&[])),
        (&[0x40, 0, 0, 4, 1, 2, 3], None),
        (&[0x40, 0, 0xff, 0xff, 1, 2, 3], None),
        (&[0x40, 0, 0], None),
        (&[0x40], None),
    ] {
        let seen = world.receive(user.client, bytes);
        assert_eq!(seen, payload.map(|it| Seen::Media(at(MEDIA), it.to_vec())).into_iter().collect::<Vec<_>>());
    }
    assert_eq!(world.refused(Refusal::Malformed) - malformed, 4);
    assert_eq!(world.server.counters().media_bytes, [6, 0]);
}

#[test]
fn a_send_indication_needs_peer_and_data() {
    let (mut world, mut user) = allocated(listing());
    assert_eq!(user.permit(&mut world, MEDIA), 0);
    assert_eq!(user.permit(&mut world, PEER), 0);
    let mut send = |fill: fn(Writer<'_>) -> Writer<'_>| {
        let mut bytes = vec![];
        fill(Writer::indication(&mut bytes, Method::SEND, TransactionId([1; 12])));
        world.receive(user.client, &bytes)
    };
    assert_eq!(send(|it| it.data(b"x")), []);
    assert_eq!(send(|it| it.xor_peer_address(at(MEDIA))), []);
    assert_eq!(send(|it| it.xor_peer_address(at(MEDIA)).data(b"")), [Seen::Media(at(MEDIA), vec![])]);
    assert_eq!(send(|it| it.data(b"first").xor_peer_address(at(PEER))), [Seen::Peer(at(PEER), b"first".into(), false)]);
    let whole = send(|it| it.dont_fragment().xor_peer_address(at(PEER)).data(b"whole"));
    assert_eq!(whole, [Seen::Peer(at(PEER), b"whole".into(), true)]);
    assert_eq!(send(|it| it.attribute(AttributeType::XOR_PEER_ADDRESS, &[1]).data(b"x")), []);
    assert_eq!(world.server.counters().relay_bytes, [10, 0]);
    let stranger = User::new("ada", 6000);
    assert_eq!(stranger.send(&mut world, MEDIA, b"x"), []);
    assert_eq!(stranger.send(&mut world, "127.0.0.1:1", b"x"), [], "strangers write no audit lines");
}

#[test]
fn a_peer_reaches_its_client_by_indication_and_then_by_channel() {
    let (mut world, mut user) = allocated(config());
    let (id, _) = user.allocation(&mut world);
    for payload in [&b""[..], b"1", b"1234", b"12345"] {
        let framing = world.wrap(id, MEDIA, payload.len()).unwrap();
        let bytes = framed(&framing, payload);
        assert!(!framing.head.is_channel());
        let message = Message::parse(&bytes).expect("a Data indication");
        assert_eq!((message.class(), message.method()), (Class::Indication, Method::DATA));
        assert_eq!(message.xor_peer_address(), Some(at(MEDIA)));
        assert_eq!(&bytes[message.data_range().unwrap()], payload);
        assert_eq!(framing.to, user.client);
    }
    assert_eq!(user.bind(&mut world, 0x4123, MEDIA), 0);
    let framing = world.wrap(id, MEDIA, 5).unwrap();
    assert!(framing.head.is_channel());
    assert_eq!(framed(&framing, b"12345"), b"\x41\x23\x00\x0512345", "datagrams need no padding");
    assert!(!world.wrap(id, MEDIA_B, 5).unwrap().head.is_channel(), "the channel is of one port");
    assert_eq!(world.server.counters().media_bytes, [0, 20]);

    assert_eq!(world.wrap(id, MEDIA, 70_000), None);
    assert_eq!(world.wrap(id, PEER, 5), None, "no permission");
    world.wait(300);
    assert_eq!(world.wrap(id, MEDIA, 5), None, "no permission any more");
    assert_eq!(user.refresh(&mut world, 0), 0);
    assert_eq!(world.wrap(id, MEDIA, 5), None, "no allocation");
    assert_eq!(world.refused(Refusal::NoPermission), 3);
}

#[test]
fn a_peer_of_ipv6_is_named_in_full() {
    let mut world = World::new(config());
    world.grant("ada");
    let mut user = User::by_stream("ada", 1);
    let code = user.code(&mut world, Method::ALLOCATE, |it| it.requested_transport(UDP).requested_address_family(2));
    assert_eq!((code, user.permit(&mut world, MEDIA6)), (0, 0));
    let mut bytes = vec![];
    Writer::indication(&mut bytes, Method::SEND, TransactionId([1; 12])).xor_peer_address(at(MEDIA6)).data(b"x");
    let id = match world.server.receive(user.client, &bytes, world.now) {
        turn_server::Action::Media { allocation, .. } => allocation,
        action => panic!("{action:?}"),
    };
    let bytes = framed(&world.wrap(id, MEDIA6, 3).unwrap(), b"123");
    let message = Message::parse(&bytes).unwrap();
    assert_eq!(message.xor_peer_address(), Some(at(MEDIA6)));
    assert_eq!(&bytes[message.data_range().unwrap()], b"123");
}

#[test]
fn frames_of_a_stream_are_whole_words() {
    let mut world = World::new(config());
    world.grant("ada");
    let mut user = User::by_stream("ada", 1);
    assert_eq!(user.allocate(&mut world), 0);
    let (id, _) = user.allocation(&mut world);
    assert_eq!(user.bind(&mut world, 0x4000, MEDIA), 0);
    for (payload, padding) in [(0, 0), (1, 3), (4, 0), (5, 3), (7, 1)] {
        let framing = world.wrap(id, MEDIA, payload).unwrap();
        assert_eq!((framing.head.as_slice(), framing.padding), (&[0x40, 0, 0, payload as u8][..], padding));
    }
}

#[test]
fn bandwidth_is_bounded_in_each_direction_by_itself() {
    let mut config = config();
    // Ten datagrams a second of 1,000 bytes with 4 of a channel and 28 of IPv4 and UDP.
    config.limits.bandwidth_bps = 8 * 10 * 1_032;
    let (mut world, mut user) = allocated(config);
    // It asked once with a datagram, and that has been paid for after a second.
    let (id, _) = user.allocation(&mut world);
    world.wait(1);
    assert_eq!(user.bind(&mut world, 0x4000, MEDIA), 0);
    let passed =
        |world: &mut World| (0..20).filter(|_| !user.channel_data(world, 0x4000, &[0; 1000]).is_empty()).count();
    assert_eq!(passed(&mut world), 10);
    assert_eq!(world.refused(Refusal::Bandwidth), 10);
    let passing = |world: &mut World, datagrams| {
        world.server.to_client(id, at(MEDIA), 1000, datagrams, world.now).map_or(0, |framing| framing.datagrams)
    };
    assert_eq!(passing(&mut world, 10), 10);
    assert!(world.server.to_client(id, at(MEDIA), 1, 1, world.now).is_none());
    assert_eq!(world.refused(Refusal::Bandwidth), 11);
    world.wait(1);
    assert_eq!(passed(&mut world), 10);
    assert_eq!(world.refused(Refusal::Bandwidth), 21);
    assert_eq!(passing(&mut world, 14), 10, "of a run only what is beyond is dropped");
    assert_eq!(passing(&mut world, 3), 0);
    assert_eq!(world.refused(Refusal::Bandwidth), 21 + 4 + 3);
    assert_eq!(world.server.counters().media_bytes, [20_000, 20_000]);
}

#[test]
fn what_was_reached_is_closed_once() {
    let (mut world, mut user) = allocated(config());
    let (_, relayed) = user.allocation(&mut world);
    assert_eq!(user.bind(&mut world, 0x4000, MEDIA_B), 0);
    for _ in 0..3 {
        user.channel_data(&mut world, 0x4000, b"x");
        user.send(&mut world, MEDIA, b"x");
    }
    let closed: Vec<_> = world
        .revoke("ada")
        .into_iter()
        .map(|it| match it {
            Seen::Out(turn_server::Output::PathClosed { relayed: from, peer, .. }) => (from, peer),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(closed, [(relayed, at(MEDIA)), (relayed, at(MEDIA_B))]);
    assert_eq!(user.channel_data(&mut world, 0x4000, b"x"), []);
}

#[test]
fn a_stream_and_its_allocation_end_together() {
    let mut world = World::new(config());
    for (stream, holder) in [(1, "ada"), (2, "bob"), (4, "cyd")] {
        world.grant(holder);
        assert_eq!(User::by_stream(holder, stream).allocate(&mut world), 0);
    }
    assert_eq!(world.server.counters().allocations, [0, 1, 2]);
    let stream = |n| turn_server::StreamId(n);
    assert_eq!(world.handle(Input::StreamClosed { stream: stream(9) }), []);
    assert_eq!(world.handle(Input::StreamClosed { stream: stream(2) }), []);
    assert_eq!(world.server.counters().allocations, [0, 1, 1]);
    assert_eq!(world.revoke("ada"), [Seen::Out(turn_server::Output::Hangup { stream: stream(1) })]);
    assert_eq!(world.wait(600), [Seen::Out(turn_server::Output::Hangup { stream: stream(4) })]);
    assert_eq!(world.server.counters().allocations, [0, 0, 0]);
}

#[test]
fn the_same_address_by_another_way_is_another_client() {
    let (mut world, user) = allocated(config());
    let Client::Udp { remote, .. } = user.client else { panic!() };
    let mut elsewhere = User::new("ada", 1);
    elsewhere.client = Client::Udp { local: at("203.0.113.11:3478"), remote };
    assert_eq!(elsewhere.allocate(&mut world), 0);
    assert_eq!(world.allocations(), 2);
}
