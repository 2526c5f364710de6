//! Clients of the TURN server, whose packets cross without a relay socket: a path like any other, that can end at once.

use std::time::Duration;

use sfu::rtcp::{self, ReportBlock};
use sfu::{AllocationId, Cause, Drop, Event, Input, Kind, Path, PathKind, PeerId, Request, Rights, View};
use turn_server::CHANNEL_HEAD_BYTES;
use turn_server::stun::{Class, Message};

use crate::tab::{SERVER, Tab, offered_line, path, plain_rtp, vp8};
use crate::world::World;

/// What a datagram has in front of it on Ethernet (1,500 bytes): IPv6 and UDP.
const IP_HEAD_BYTES: usize = 48;

fn relay(allocation: u64) -> Path {
    let relayed = ([192, 0, 2, 7], 49_152 + allocation as u16).into();
    Path::Relay { allocation: AllocationId(allocation), relayed, peer: SERVER.into() }
}

/// A call in which the last tab reaches the SFU through the TURN server.
fn call(tabs: usize) -> World {
    let mut world = World::call_by(tabs, relay(1));
    world.descriptions.clear();
    world
}

/// How many datagrams leave for a path.
fn sent_to(world: &mut World, path: Path) -> usize {
    let mut datagrams = 0;
    while let Some(run) = world.sfu.next_run(world.now) {
        datagrams += if run.path == path { run.datagrams().count() } else { 0 };
    }
    datagrams
}

#[test]
fn a_relayed_client_is_in_the_call_and_is_told_its_relayed_address() {
    let mut world = call(2);
    world.assert_call();
    assert!(world.sfu.knows(&relay(1)) && !world.sfu.knows(&relay(2)));
    let check = world.tabs[1].check(true);
    world.send(1, check);
    let mut mapped = None;
    while let Some(run) = world.sfu.next_run(world.now) {
        let answer = Message::parse(run.bytes).filter(|m| run.path == relay(1) && m.class() == Class::Success);
        mapped = mapped.or(answer.and_then(|message| message.xor_mapped_address()));
    }
    let Path::Relay { relayed, .. } = relay(1) else { unreachable!("it is one") };
    assert_eq!(mapped, Some(relayed), "what a server behind a relay socket would see (RFC 8445 §7.3.1.3)");
    world.request(Request::Leave { peer: PeerId(1) });
    world.settle();
    assert_eq!(world.closed, [relay(1)], "the shell hears that nobody uses it");
    assert!(!world.sfu.knows(&relay(1)));
}

#[test]
fn a_call_goes_on_when_a_client_changes_between_the_relay_and_a_direct_path() {
    let mut world = call(2);
    for way in [path(1, 50_000), relay(1), relay(2), path(1, 50_001), relay(1)] {
        world.move_to(1, way);
        world.assert_call();
        assert_eq!(world.sfu.counters().dtls_connected, 2, "no other handshake");
    }
    assert_eq!((world.events.len(), world.descriptions.len()), (0, 0), "signaling hears nothing of it");
}

/// Whoever holds credentials can have an allocation, but not another's.
#[test]
fn a_relayed_path_is_not_anothers() {
    let mut world = call(3);
    let contested = world.drops(Drop::ContestedPath);
    for _ in 0..60 {
        let check = world.tabs[1].check(true);
        world.send_from(relay(1), check);
        world.assert_media(0, 2);
        world.assert_media(2, 0);
        world.run_ms(1_000);
    }
    assert_eq!(world.drops(Drop::ContestedPath) - contested, 60);
    let before = world.sfu.counters().rtp_in;
    let forged = world.tabs[1].rtp(0, 960, &[3; 30]);
    world.send_from(relay(1), forged);
    // Nor is a relayed address that was given to another allocation since the path that it was.
    let Path::Relay { relayed, peer, .. } = relay(1) else { unreachable!("it is one") };
    let packet = world.tabs[2].rtp(0, 960, &[3; 30]);
    world.send_from(Path::Relay { allocation: AllocationId(9), relayed, peer }, packet);
    assert_eq!((world.drops(Drop::Authentication), world.drops(Drop::UnknownPath)), (1, 1));
    assert_eq!(world.sfu.counters().rtp_in, before);
    assert_eq!(world.events, [], "nobody lost consent");
}

/// An allocation that ends takes its path along in the same moment: nothing more comes or goes by it.
#[test]
fn nothing_goes_by_a_path_whose_allocation_has_ended() {
    let mut world = call(2);
    world.assert_call();
    world.sfu.handle(Input::PathClosed(relay(1)), world.now);
    assert!(!world.sfu.knows(&relay(1)));
    for _ in 0..10 {
        world.media(0, 0, 960, &[1; 20]);
        assert_eq!(sent_to(&mut world, relay(1)), 0);
    }
    let unknown = world.drops(Drop::UnknownPath);
    world.media(1, 0, 960, &[1; 20]);
    assert_eq!(world.drops(Drop::UnknownPath), unknown + 1);
    assert_eq!(world.closed, [], "what has ended by itself needs no closing");
    // The client gets another allocation and checks from there.
    world.move_to(1, relay(2));
    world.assert_call();
    assert_eq!(world.events, []);
}

#[test]
fn when_an_allocation_ends_a_direct_path_serves_at_once() {
    let mut world = call(2);
    let direct = path(1, 50_000);
    let check = world.tabs[1].check(false);
    world.send_from(direct, check);
    world.settle();
    world.sfu.handle(Input::PathClosed(relay(1)), world.now);
    world.tabs[1].path = direct;
    world.assert_call();
}

#[test]
fn without_another_path_consent_ends_and_any_way_brings_the_peer_back() {
    let mut world = call(2);
    world.tabs[1].checks = false;
    world.sfu.handle(Input::PathClosed(relay(1)), world.now);
    world.run(Duration::from_secs(31));
    assert_eq!(world.events, [Event::PathSilent { peer: PeerId(1) }, Event::ConsentLost { peer: PeerId(1) }]);
    world.tabs[1].checks = true;
    world.tabs[1].path = relay(2);
    world.run(Duration::from_secs(3));
    world.assert_call();
}

#[test]
fn a_bad_connection_through_the_relay_is_called_so() {
    let mut world = call(2);
    for second in 0..15u32 {
        for _ in 0..50 {
            world.media(0, 0, 960, &[1; 100]);
            world.run_ms(20);
        }
        let cumulative_lost = (second * 5) as i32;
        let extended_highest_sequence = 1_000 + second * 50;
        let ssrc = world.tabs[1].got.last().map_or(0, |got| got.ssrc);
        let block = ReportBlock { ssrc, extended_highest_sequence, cumulative_lost, ..ReportBlock::default() };
        let mut report = Vec::new();
        rtcp::write_receiver_report(9, &[block], &mut report);
        world.rtcp(1, report);
    }
    assert_eq!(world.verdicts.last().map(|(tab, _, cause)| (*tab, *cause)), Some((1, Some(Cause::Relay))));
    let path_of = |tab| world.samples.iter().rfind(|(of, _)| *of == tab).map(|(_, sample)| sample.path);
    assert_eq!((path_of(0), path_of(1)), (Some(PathKind::Udp), Some(PathKind::Relay)));
}

/// WHIP and WHEP.
#[test]
fn publishers_and_players_without_a_socket_come_by_it_too() {
    let mut world = World::new();
    let views = [View::Tracks, View::Program { participant: None }];
    for (index, view) in views.into_iter().enumerate() {
        let plays = view != View::Tracks;
        world.tabs.push(Tab::new(index, world.now.mono));
        world.request(Request::Join {
            peer: PeerId(index as u64),
            room: sfu::RoomId(1),
            participant: format!("pa_{index}").into(),
            auto_subscribe: false,
            offer_first: false,
            rights: Rights { instructor: !plays, data: false, ..Rights::default() },
            codecs: Default::default(),
            view,
        });
        world.tabs[index].path = relay(index as u64);
        if plays {
            let mut line = offered_line(Kind::Video, "0", 0, 0);
            line.direction = "recvonly";
            line.sources.clear();
            world.tabs[index].lines.push(line);
        } else {
            world.tabs[index].add(Kind::Video);
        }
        world.offer(index);
        world.run_ms(500);
        assert!(world.tabs[index].is_connected());
    }
    for n in 0..20 {
        world.media(0, 0, 1_800, &vp8(n % 10 == 0, 7, 50));
        world.run_ms(20);
    }
    assert!(world.tabs[1].got.len() > 10, "{} packets", world.tabs[1].got.len());
}

/// The longest packet that is taken must not need fragments on its way to a relayed client: IPv4 with a worst case of
/// header extensions, IPv6 with the packets of those who make them as long as a payload of 1,400 bytes allows.
#[test]
fn what_is_forwarded_fits_the_wire_with_a_channels_head_in_front() {
    let mut world = call(2);
    let mut longest_in = 0;
    for len in 1_300..1_500 {
        let source = &mut world.tabs[0].sources[1];
        source.index += 1;
        source.timestamp = source.timestamp.wrapping_add(3_000);
        let source = *source;
        // Without header extensions: ours come on top.
        let plain =
            plain_rtp(source.ssrc, crate::tab::VP8, source.index as u16, source.timestamp, &[], &vp8(true, 1, len));
        let sealed = world.tabs[0].seal(plain, 12, source.ssrc, source.index);
        let bytes = sealed.len();
        let before = world.sfu.counters().rtp_in;
        world.send(0, sealed);
        if world.sfu.counters().rtp_in == before {
            break;
        }
        longest_in = bytes;
        while let Some(run) = world.sfu.next_run(world.now) {
            let room = 1_500 - IP_HEAD_BYTES - CHANNEL_HEAD_BYTES;
            // IPv4 has twenty bytes more.
            let room = if bytes <= 1_416 { room } else { room + 20 };
            assert!(run.path != relay(1) || run.segment <= room, "{bytes} bytes became {}", run.segment);
        }
        world.run_ms(5);
    }
    assert!(longest_in >= 1_416, "1,400 bytes and a tag must be taken; {longest_in} were");
}
