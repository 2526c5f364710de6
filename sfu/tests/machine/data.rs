//! Data channels through the SFU: who gets what, over paths that lose, and what becomes of those who break the rules (M8).

use std::time::Duration;

use sfu::data::{BYTES_PER_SECOND, CHANNELS_MAX, MESSAGE_BYTES_MAX, MESSAGES_BURST, SEND_BYTES_MAX};
use sfu::{Drop, Kind, Rights};

use crate::sctp::{Came, Sctp, packet, seal};
use crate::tab::attribute;
use crate::world::World;

const DATA: u16 = 0;
const LOSSY: u16 = 2;

/// Lets a tab in that has data channels and publishes `kinds`.
fn enter(world: &mut World, kinds: &[Kind], rights: Rights) -> usize {
    let index = world.enter_as(1, false, rights);
    for kind in kinds {
        world.tabs[index].add(*kind);
    }
    let now = world.now.mono;
    world.tabs[index].add_data(now);
    world.offer(index);
    world.run_ms(500);
    assert!(world.tabs[index].is_connected());
    index
}

/// A call of tabs with audio and both channels open.
fn call(tabs: usize) -> World {
    let mut world = World::new();
    for _ in 0..tabs {
        let index = enter(&mut world, &[Kind::Audio], Rights::default());
        open(&mut world, index);
    }
    world.run_ms(500);
    world
}

fn open(world: &mut World, index: usize) {
    let now = world.now.mono;
    let sctp = sctp(world, index);
    sctp.open(DATA, "data", false, now);
    sctp.open(LOSSY, "data-lossy", true, now);
    world.run_ms(100);
    assert_eq!(self::sctp(world, index).opened, [DATA, LOSSY]);
}

fn sctp(world: &mut World, index: usize) -> &mut Sctp {
    world.tabs[index].sctp.as_mut().unwrap()
}

fn say(world: &mut World, from: usize, stream: u16, text: &str) {
    let now = world.now.mono;
    sctp(world, from).text(stream, text, now);
    world.settle();
}

fn came(world: &mut World, index: usize) -> Vec<Came> {
    std::mem::take(&mut sctp(world, index).came)
}

#[test]
fn text_stays_text_and_binary_binary_to_everyone_else_with_the_sender_before_it() {
    let mut world = call(3);
    say(&mut world, 0, DATA, "\nhello\nyou");
    say(&mut world, 1, LOSSY, "\nfast");
    let now = world.now.mono;
    let long: Vec<u8> = (0..200u32 << 10).map(|n| (n % 251) as u8).collect();
    sctp(&mut world, 2).binary(DATA, &[b"\n", &long[..]].concat(), now);
    world.run_ms(2_000);
    let binary = Came { stream: DATA, text: false, bytes: [b"pa_2\n", &long[..]].concat() };
    assert_eq!(came(&mut world, 0), [Came::text(LOSSY, "pa_1\nfast"), binary.clone()]);
    assert_eq!(came(&mut world, 1), [Came::text(DATA, "pa_0\nhello\nyou"), binary]);
    assert_eq!(came(&mut world, 2), [Came::text(DATA, "pa_0\nhello\nyou"), Came::text(LOSSY, "pa_1\nfast")]);
    let counters = world.sfu.counters();
    assert_eq!((counters.data_messages_in, counters.data_messages_out), (3, 6));
    world.assert_media(0, 1);
}

#[test]
fn data_alone_brings_a_connection_up_and_is_answered_as_it_should_be() {
    let mut world = World::new();
    for _ in 0..2 {
        let index = enter(&mut world, &[], Rights::default());
        open(&mut world, index);
    }
    let (_, _, answer) = world.descriptions.iter().find(|(_, is_offer, _)| !is_offer).unwrap();
    assert!(answer.contains("\r\nm=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n"), "{answer}");
    assert!(answer.contains("\r\na=group:BUNDLE 0\r\n"), "{answer}");
    assert_eq!(attribute(answer, "sctp-port"), Some("5000"));
    assert_eq!(attribute(answer, "max-message-size"), Some("262144"));
    say(&mut world, 0, DATA, "\nhello");
    assert_eq!(came(&mut world, 1), [Came::text(DATA, "pa_0\nhello")]);
}

#[test]
fn an_offer_of_ours_keeps_the_line_and_the_channels() {
    let mut world = call(2);
    let late = world.join(1, &[Kind::Audio, Kind::Video]);
    world.run_ms(1_000);
    assert!(world.descriptions.iter().any(|(to, is_offer, sdp)| {
        *to == 0 && *is_offer && sdp.contains("m=application 9 UDP/DTLS/SCTP webrtc-datachannel")
    }));
    world.assert_media(late, 0);
    say(&mut world, 0, DATA, "\nstill here");
    assert_eq!(came(&mut world, 1), [Came::text(DATA, "pa_0\nstill here")]);
}

#[test]
fn an_addressed_message_reaches_those_it_names() {
    let mut world = call(4);
    for (text, to) in
        [("pa_2\na", vec![2]), ("pa_3 pa_1\nb", vec![1, 3]), ("pa_0 pa_9\nc", vec![]), (" \nd", vec![1, 2, 3])]
    {
        say(&mut world, 0, DATA, text);
        let got: Vec<usize> = (0..4).filter(|index| !came(&mut world, *index).is_empty()).collect();
        assert_eq!(got, to, "{text:?}");
    }
    say(&mut world, 0, DATA, "no first line");
    assert_eq!(world.drops(Drop::DataMalformed), 1);
}

/// RFC 8841 §6: `a=max-message-size`, the sender's id before the message included.
#[test]
fn nobody_gets_longer_messages_than_it_takes() {
    let mut world = World::new();
    for takes in ["a=max-message-size:262144", "a=max-message-size:0", "a=max-message-size:1000", "a=x"] {
        let index = world.enter_as(1, false, Rights::default());
        let now = world.now.mono;
        world.tabs[index].add_data(now);
        world.tabs[index].lines[0].attributes[1] = takes.to_owned();
        world.offer(index);
        world.run_ms(500);
        open(&mut world, index);
    }
    let name = "pa_0\n".len();
    for (len, to) in [(1_000, 3), (1_001, 2), (65_536, 2), (65_537, 1), (200_000, 1)] {
        say(&mut world, 0, DATA, &format!("\n{}", "x".repeat(len - name)));
        world.run_ms(2_000);
        let got: Vec<usize> = (1..4).map(|index| came(&mut world, index).len()).collect();
        let want = [1, usize::from(len <= 1_000), usize::from(len <= 65_536)];
        assert_eq!((&got[..], got.iter().sum()), (&want[..], to), "{len} bytes");
    }
    assert_eq!(world.drops(Drop::DataTooLong), 4 + 2);
}

#[test]
fn rooms_and_labels_keep_apart() {
    let mut world = call(2);
    let elsewhere = world.enter(2, false);
    let now = world.now.mono;
    world.tabs[elsewhere].add_data(now);
    world.offer(elsewhere);
    world.run_ms(500);
    open(&mut world, elsewhere);
    let now = world.now.mono;
    sctp(&mut world, 0).open(4, "game", false, now);
    world.run_ms(100);
    say(&mut world, 0, 4, "\nalone with this label");
    say(&mut world, elsewhere, DATA, "pa_0 pa_1\nfrom another room");
    assert_eq!((came(&mut world, 0), came(&mut world, 1), came(&mut world, elsewhere)), (vec![], vec![], vec![]));
}

#[test]
fn negotiated_channels_are_known_from_their_first_message() {
    let mut world = call(1);
    let index = enter(&mut world, &[Kind::Audio], Rights::default());
    sctp(&mut world, index).open_silently(0, false);
    sctp(&mut world, index).open_silently(1, true);
    say(&mut world, index, 0, "\nhello");
    say(&mut world, index, 1, "\nfast");
    assert_eq!(came(&mut world, 0), [Came::text(DATA, "pa_1\nhello"), Came::text(LOSSY, "pa_1\nfast")]);
    say(&mut world, 0, DATA, "\nyou");
    say(&mut world, 0, LOSSY, "\ntoo");
    assert_eq!(came(&mut world, index), [Came::text(0, "pa_0\nyou"), Came::text(1, "pa_0\ntoo")]);
}

#[test]
fn who_may_not_send_is_not_heard_and_the_channel_is_closed() {
    let mut world = call(2);
    let index = enter(&mut world, &[Kind::Audio], Rights { data: false, ..Rights::default() });
    open(&mut world, index);
    say(&mut world, 0, DATA, "\nfor all");
    for other in [1, index] {
        assert_eq!(came(&mut world, other), [Came::text(DATA, "pa_0\nfor all")]);
    }
    say(&mut world, index, DATA, "\nnot allowed");
    assert_eq!((came(&mut world, 0), came(&mut world, 1)), (vec![], vec![]));
    assert_eq!(world.drops(Drop::NotPermitted), 1);
    world.run_ms(3_000);
    assert!(!sctp(&mut world, index).has(DATA) && sctp(&mut world, index).has(LOSSY));
    world.assert_media(index, 0);
}

#[test]
fn who_may_not_subscribe_is_sent_no_messages() {
    let mut world = call(2);
    let index = enter(&mut world, &[Kind::Audio], Rights { subscribe: false, ..Rights::default() });
    open(&mut world, index);
    say(&mut world, 0, DATA, "\nfor all");
    say(&mut world, 0, DATA, &format!("pa_{index}\nfor you"));
    assert_eq!((came(&mut world, 1).len(), came(&mut world, index)), (1, vec![]));
    say(&mut world, index, DATA, "\nhello");
    assert_eq!(came(&mut world, 1), [Came::text(DATA, &format!("pa_{index}\nhello"))]);
}

#[test]
fn a_closed_channel_gets_nothing_and_its_stream_can_be_used_again() {
    let mut world = call(2);
    for round in 0..3 {
        let now = world.now.mono;
        sctp(&mut world, 1).close(DATA, now);
        world.run_ms(3_000);
        assert!(!sctp(&mut world, 1).has(DATA), "round {round}");
        say(&mut world, 0, DATA, "\nto nobody");
        assert_eq!(came(&mut world, 1), []);
        let now = world.now.mono;
        sctp(&mut world, 1).open(DATA, "data", false, now);
        world.run_ms(100);
        say(&mut world, 0, DATA, "\nagain");
        assert_eq!(came(&mut world, 1), [Came::text(DATA, "pa_0\nagain")]);
        say(&mut world, 1, DATA, "\nback");
        assert_eq!(came(&mut world, 0), [Came::text(DATA, "pa_1\nback")]);
    }
}

#[test]
fn over_a_path_that_loses_reliable_messages_come_in_order_and_lossy_ones_at_most_once() {
    let mut world = call(2);
    sctp(&mut world, 0).loss = 10;
    sctp(&mut world, 1).loss = 10;
    let body = "x".repeat(5_000);
    for number in 0..60 {
        say(&mut world, 0, DATA, &format!("\n{number} {body}"));
        say(&mut world, 0, LOSSY, &format!("\n{number}"));
        world.run_ms(50);
    }
    world.run(Duration::from_secs(60));
    let came = came(&mut world, 1);
    let numbers = |stream| -> Vec<u32> {
        let of = came.iter().filter(|it| it.stream == stream);
        of.map(|it| {
            let text = std::str::from_utf8(&it.bytes).unwrap().strip_prefix("pa_0\n").unwrap();
            assert!(stream == LOSSY || text.ends_with(&body));
            text.split(' ').next().unwrap().parse().unwrap()
        })
        .collect()
    };
    assert_eq!(numbers(DATA), (0..60).collect::<Vec<u32>>());
    let mut lossy = numbers(LOSSY);
    assert!((20..60).contains(&lossy.len()), "{} lossy messages came", lossy.len());
    lossy.sort_unstable();
    assert!(lossy.is_sorted_by(|a, b| a < b), "none comes twice");
    assert!(!sctp(&mut world, 1).lost);
}

#[test]
fn who_sends_too_fast_is_slowed_down_and_loses_what_is_lossy() {
    let mut world = call(2);
    let now = world.now.mono;
    let body = vec![b'\n'; 100 << 10];
    for _ in 0..30 {
        sctp(&mut world, 0).binary(DATA, &body, now);
    }
    world.run_ms(1_000);
    let early = came(&mut world, 1).len();
    assert!((10..20).contains(&early), "{early} at once");
    let rest = 30 * body.len() as u64 / BYTES_PER_SECOND + 10;
    world.run(Duration::from_secs(rest));
    assert_eq!(early + came(&mut world, 1).len(), 30, "none is lost");
    for _ in 0..MESSAGES_BURST + 50 {
        say(&mut world, 0, LOSSY, "\nx");
    }
    assert_eq!(came(&mut world, 1).len() as u64, MESSAGES_BURST);
    assert_eq!(world.drops(Drop::DataRate), 50);
    world.assert_media(0, 1);
}

/// A peer that takes nothing more loses its data association; nobody else loses anything.
#[test]
fn a_peer_that_does_not_keep_up_is_dropped_from_data_and_the_room_goes_on() {
    let mut world = call(4);
    sctp(&mut world, 3).mute = true;
    let body = vec![b'\n'; 100 << 10];
    let messages = SEND_BYTES_MAX / body.len() + 5;
    for _ in 0..messages {
        let now = world.now.mono;
        sctp(&mut world, 0).binary(DATA, &body, now);
        world.run_ms(300);
        world.assert_media(3, 1);
    }
    for index in [1, 2] {
        assert_eq!(came(&mut world, index).len(), messages);
    }
    assert_eq!(world.sfu.counters().data_peers_dropped, 1);
    let last = sctp(&mut world, 3).raw.pop().unwrap();
    assert_eq!(last[12], 6, "it is told with an ABORT");
    // Lossy messages never cost anybody the association.
    sctp(&mut world, 2).mute = true;
    for _ in 0..20 {
        let now = world.now.mono;
        sctp(&mut world, 0).binary(LOSSY, &body, now);
        world.run_ms(300);
    }
    assert_eq!(world.sfu.counters().data_peers_dropped, 1);
    assert!(world.drops(Drop::DataOverrun) > 0);
    world.assert_media(0, 3);
}

/// A client whose SCTP the test writes.
struct Raw {
    index: usize,
    tag: u32,
    tsn: u32,
}

impl Raw {
    fn init(window: u32, streams: u16) -> Vec<u8> {
        let mut init = 77u32.to_be_bytes().to_vec();
        init.extend(window.to_be_bytes());
        init.extend(streams.to_be_bytes());
        init.extend(streams.to_be_bytes());
        init.extend(1_000u32.to_be_bytes());
        init
    }

    fn connect(world: &mut World, window: u32, streams: u16) -> Raw {
        let index = enter_mute(world);
        let mut raw = Raw { index, tag: 0, tsn: 999 };
        raw.send(world, &[(1, 0, Raw::init(window, streams))]);
        let answer = sctp(world, index).raw.pop().unwrap();
        assert_eq!((answer[12], &answer[4..8]), (2, &77u32.to_be_bytes()[..]));
        raw.tag = u32::from_be_bytes(answer[16..20].try_into().unwrap());
        let cookie = answer[12 + 20 + 4..][..16].to_vec();
        raw.send(world, &[(10, 0, cookie)]);
        assert_eq!(sctp(world, index).raw.pop().unwrap()[12], 11);
        raw
    }

    fn send(&self, world: &mut World, chunks: &[(u8, u8, Vec<u8>)]) {
        send_raw(world, self.index, &packet(self.tag, chunks));
    }

    fn data(&mut self, flags: u8, stream: u16, protocol: u32, bytes: &[u8]) -> (u8, u8, Vec<u8>) {
        self.tsn += 1;
        let mut body = self.tsn.to_be_bytes().to_vec();
        body.extend(stream.to_be_bytes());
        body.extend([0, 0]);
        body.extend(protocol.to_be_bytes());
        body.extend(bytes);
        (0, flags, body)
    }

    fn open(&mut self, world: &mut World, stream: u16) {
        let open = self.data(3, stream, 50, b"\x03\0\0\0\0\0\0\0\0\x04\0\0data");
        self.send(world, &[open]);
    }

    fn is_aborted(&self, world: &mut World) -> bool {
        sctp(world, self.index).raw.iter().any(|packet| packet[12] == 6)
    }
}

fn enter_mute(world: &mut World) -> usize {
    let index = world.enter(1, false);
    let now = world.now.mono;
    world.tabs[index].add(Kind::Audio);
    world.tabs[index].add_data(now);
    sctp(world, index).mute = true;
    world.offer(index);
    world.run_ms(500);
    index
}

fn send_raw(world: &mut World, index: usize, packet: &[u8]) {
    let now = world.now.mono;
    world.tabs[index].send_data(packet, now);
    world.settle();
}

/// M8: a window of zero, and no acknowledgement ever.
#[test]
fn a_peer_with_a_window_of_zero_is_dropped_in_time() {
    let mut world = call(2);
    let mut raw = Raw::connect(&mut world, 0, 65_535);
    raw.open(&mut world, 0);
    say(&mut world, 0, DATA, "\nhello");
    world.run(Duration::from_secs(20));
    assert!(!raw.is_aborted(&mut world), "an outage is no reason");
    world.run(Duration::from_secs(15));
    assert!(raw.is_aborted(&mut world));
    assert_eq!(world.sfu.counters().data_peers_dropped, 1);
    let after = sctp(&mut world, raw.index).raw.len();
    say(&mut world, 0, DATA, "\nhello");
    world.run(Duration::from_secs(60));
    assert_eq!(sctp(&mut world, raw.index).raw.len(), after, "nothing more is said to it");
    assert_eq!(came(&mut world, 1).len(), 2);
    world.assert_media(raw.index, 0);
}

/// M8: a message without an end.
#[test]
fn a_message_that_is_too_long_ends_the_association() {
    let mut world = call(2);
    let mut raw = Raw::connect(&mut world, 1 << 20, 65_535);
    raw.open(&mut world, 0);
    let begin = raw.data(2, 0, 53, &[b'\n'; 1_000]);
    raw.send(&mut world, &[begin]);
    for _ in 0..MESSAGE_BYTES_MAX / 1_000 - 1 {
        let middle = raw.data(0, 0, 53, &[0; 1_000]);
        raw.send(&mut world, &[middle]);
    }
    assert!(!raw.is_aborted(&mut world));
    for _ in 0..2 {
        let middle = raw.data(0, 0, 53, &[0; 1_000]);
        raw.send(&mut world, &[middle]);
    }
    assert!(raw.is_aborted(&mut world));
    say(&mut world, 0, DATA, "\ngo on");
    assert_eq!(came(&mut world, 1).len(), 1);
}

/// M8: more streams than anybody needs, and channels on all of them.
#[test]
fn channels_beyond_the_limit_are_closed_and_unknown_streams_are_ignored() {
    let mut world = call(2);
    let mut raw = Raw::connect(&mut world, 1 << 20, 65_535);
    for stream in 0..65_535 {
        let data = raw.data(3, stream, 51, b"\nx");
        raw.send(&mut world, &[data]);
    }
    // The first two are those that may be negotiated.
    assert_eq!(came(&mut world, 1).len(), 2);
    sctp(&mut world, raw.index).raw.clear();
    let mut acks = 0;
    for stream in 0..CHANNELS_MAX as u16 + 10 {
        raw.open(&mut world, stream);
        let packets = std::mem::take(&mut sctp(&mut world, raw.index).raw);
        acks += packets.iter().filter(|packet| has_chunk(packet, 0)).count();
        for packet in packets.iter().filter(|packet| has_chunk(packet, 0)) {
            let tsn = chunk(packet, 0).unwrap()[..4].to_vec();
            raw.send(&mut world, &[(3, 0, [&tsn[..], &[0, 16, 0, 0, 0, 0, 0, 0]].concat())]);
        }
    }
    assert_eq!(acks, CHANNELS_MAX);
    world.run_ms(2_000);
    let packets = std::mem::take(&mut sctp(&mut world, raw.index).raw);
    assert!(packets.iter().any(|packet| has_chunk(packet, 130)), "the others are reset");
    world.run(Duration::from_secs(30));
    assert!(raw.is_aborted(&mut world), "who never answers that is dropped");
    world.assert_media(0, 1);
}

fn chunk(packet: &[u8], kind: u8) -> Option<&[u8]> {
    let mut rest = &packet[12..];
    while rest.len() >= 4 {
        let len = usize::from(u16::from_be_bytes([rest[2], rest[3]]));
        if rest[0] == kind {
            return Some(&rest[4..len]);
        }
        rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    None
}

fn has_chunk(packet: &[u8], kind: u8) -> bool {
    chunk(packet, kind).is_some()
}

/// M8: fragments that nothing ever completes, acknowledgements of what was never sent, lengths that lie.
#[test]
fn lies_are_dropped_and_what_they_cost_is_bounded() {
    let mut world = call(2);
    let index = enter_mute(&mut world);
    for init in [vec![], Raw::init(1, 1)[..15].to_vec(), [&[0; 4], &Raw::init(1, 1)[4..]].concat(), Raw::init(1, 0)] {
        send_raw(&mut world, index, &packet(0, &[(1, 0, init)]));
    }
    let mut lying = packet(0, &[(1, 0, Raw::init(1, 1))]);
    for len in [0u16, 3, 4, 19, 21, 0xffff] {
        lying[14..16].copy_from_slice(&len.to_be_bytes());
        seal(&mut lying);
        send_raw(&mut world, index, &lying);
    }
    assert_eq!(sctp(&mut world, index).raw, Vec::<Vec<u8>>::new(), "none is answered");
    assert!(world.drops(Drop::DataMalformed) >= 5);

    let mut raw = Raw::connect(&mut world, 1 << 20, 65_535);
    raw.open(&mut world, 0);
    // One TSN is left out: all that follows waits for it, up to a limit that the window tells.
    raw.tsn += 1;
    for _ in 0..4_000 {
        let fragment = raw.data(2, 0, 53, &[1; 1_000]);
        raw.send(&mut world, &[fragment]);
    }
    let told = std::mem::take(&mut sctp(&mut world, raw.index).raw);
    let windows = told
        .iter()
        .filter_map(|packet| chunk(packet, 3))
        .map(|sack| u32::from_be_bytes(sack[4..8].try_into().unwrap()));
    assert!(windows.min().unwrap() > 400 << 10, "half of it is all that may wait");
    for tsn in [0u32, 5, 0x7fff_ffff, 0xffff_ffff] {
        let sack = [&tsn.to_be_bytes()[..], &[0, 0, 0, 0, 0xff, 0xff, 0, 0], &[0, 1, 0xff, 0xff].repeat(200)].concat();
        raw.send(&mut world, &[(3, 0, sack), (192, 0, tsn.to_be_bytes().to_vec()), (130, 0, vec![0, 13, 0, 6, 1, 1])]);
    }
    for kind in 0..=255u8 {
        if ![6, 7].contains(&kind) {
            raw.send(&mut world, &[(kind, 0xff, vec![0xff; 40]), (kind, 0, vec![])]);
        }
    }
    world.assert_media(0, 1);
    say(&mut world, 0, DATA, "\ngo on");
    assert_eq!(came(&mut world, 1), [Came::text(DATA, "pa_0\ngo on")]);
    assert_eq!(world.sfu.counters().peer_panics, 0);
}

#[test]
fn a_packet_without_a_data_line_is_dropped() {
    let mut world = World::call(2, &[Kind::Audio]);
    let now = world.now.mono;
    world.tabs[0].send_data(&packet(0, &[(1, 0, Raw::init(1, 1))]), now);
    world.settle();
    assert_eq!(world.drops(Drop::DataMalformed), 1);
    world.assert_media(0, 1);
}

/// Whoever is on another worker gets what is for all and what is for it, and nothing twice.
#[test]
fn messages_cross_to_the_other_workers_of_a_room() {
    let mut near = call(2);
    let now = near.now;
    let mut far = World::nth(1, now);
    let index = enter(&mut far, &[Kind::Audio], Rights::default());
    open(&mut far, index);
    let lag = far.now.mono - near.now.mono;
    near.run(lag.max(std::time::Duration::from_millis(1)));
    for (world, other) in [(&mut near, 1), (&mut far, 0)] {
        let others = [other].into_iter().collect();
        world.request(sfu::Request::Spread { room: sfu::RoomId(1), others });
    }
    let mut batch = sfu::PipeBatch::default();
    for text in ["\nto all", "pa_100\nto one", "pa_1\nto another"] {
        say(&mut near, 0, DATA, text);
        near.sfu.take_pipe(1, &mut batch);
        let now = far.now;
        far.sfu.receive_pipe(0, &mut batch, now);
        far.settle();
    }
    near.run_ms(100);
    far.run_ms(100);
    let texts =
        |came: Vec<Came>| came.into_iter().map(|came| String::from_utf8(came.bytes).unwrap()).collect::<Vec<_>>();
    assert_eq!(texts(came(&mut far, 0)), ["pa_0\nto all", "pa_0\nto one"]);
    assert_eq!(texts(came(&mut near, 1)), ["pa_0\nto all", "pa_0\nto another"]);
}
