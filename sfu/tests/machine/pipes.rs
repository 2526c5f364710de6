//! One room on two workers, in virtual time and without threads: what crosses, how often, and what is asked back.

use std::time::{Duration, Instant};

use sfu::{Event, Gauges, Kind, Now, PeerId, PipeBatch, Request, RoomId, Wish, Workers, rtcp};

use crate::tab::{Got, LEVEL_ID, MID_ID, OPUS, VP8, plain_rtp, vp8};
use crate::world::World;

const STEP: Duration = Duration::from_millis(20);
const A: usize = 0;
const B: usize = 1;

/// Two workers and what crosses between them.
struct Pair {
    worlds: [World; 2],
    /// Batches and packets that crossed, by the worker that gave them.
    batches: [u64; 2],
    packets: [u64; 2],
    spare: PipeBatch,
}

impl Pair {
    fn new() -> Pair {
        let now = Now { mono: Instant::now(), unix_ms: 1_700_000_000_000 };
        let worlds = [World::nth(0, now), World::nth(1, now)];
        Pair { worlds, batches: [0; 2], packets: [0; 2], spare: PipeBatch::default() }
    }

    /// A call: so many tabs that publish `kinds` on each worker, all connected.
    fn call(tabs: [usize; 2], kinds: [&[Kind]; 2]) -> Pair {
        let mut pair = Pair::new();
        for worker in [A, B] {
            for _ in 0..tabs[worker] {
                pair.worlds[worker].join(1, kinds[worker]);
            }
        }
        pair.spread();
        pair.run_ms(1_500);
        pair
    }

    /// Both are told that the room is on both.
    fn spread(&mut self) {
        for worker in [A, B] {
            self.tell(worker, [1 - worker].into_iter().collect());
        }
    }

    fn tell(&mut self, worker: usize, others: Workers) {
        self.worlds[worker].request(Request::Spread { room: RoomId(1), others });
    }

    fn cross(&mut self) -> bool {
        let mut moved = false;
        for from in [A, B] {
            let waiting = self.worlds[from].sfu.piped();
            for to in waiting.iter() {
                assert_eq!(to, 1 - from);
                self.worlds[from].sfu.take_pipe(to, &mut self.spare);
                assert!(!self.spare.is_empty());
                self.batches[from] += 1;
                self.packets[from] += self.spare.packets() as u64;
                let now = self.worlds[to].now;
                self.worlds[to].sfu.receive_pipe(from, &mut self.spare, now);
                assert!(self.spare.is_empty());
                moved = true;
            }
        }
        moved
    }

    fn settle(&mut self) {
        loop {
            self.worlds.iter_mut().for_each(World::settle);
            if !self.cross() {
                return;
            }
        }
    }

    fn run_ms(&mut self, ms: u64) {
        let end = self.worlds[A].now.mono + Duration::from_millis(ms);
        loop {
            self.settle();
            let now = self.worlds[A].now.mono;
            if now >= end {
                return;
            }
            let due = self.worlds.iter().filter_map(World::due).min();
            let latest = (now + STEP).min(end);
            let next = due.unwrap_or(latest).clamp((now + Duration::from_millis(1)).min(latest), latest);
            for world in &mut self.worlds {
                world.now.unix_ms += (next - now).as_millis() as u64;
                world.now.mono = next;
            }
        }
    }

    /// The next packet of a tab's source, and all that comes of it.
    fn media(&mut self, worker: usize, tab: usize, source: usize, payload: &[u8]) {
        self.worlds[worker].media(tab, source, 3_000, payload);
        self.settle();
    }

    /// A frame and a packet of audio of a tab reach another.
    fn assert_media(&mut self, from: (usize, usize), to: (usize, usize)) {
        for source in 0..self.worlds[from.0].tabs[from.1].sources.len() {
            let payload = match self.worlds[from.0].tabs[from.1].sources[source].kind {
                Kind::Audio => vec![0x78, from.0 as u8, from.1 as u8, source as u8],
                Kind::Video => vp8(true, 10 * from.0 as u8 + from.1 as u8, 50),
            };
            let before = self.got(to).len();
            self.media(from.0, from.1, source, &payload);
            let got: Vec<_> = self.got(to)[before..].iter().map(|got| &got.payload).collect();
            assert_eq!(got, [&payload], "source {source} of {from:?} reaches {to:?}");
        }
    }

    fn got(&self, (worker, tab): (usize, usize)) -> &[Got] {
        &self.worlds[worker].tabs[tab].got
    }

    /// PLIs and NACKs that a tab has got.
    fn asked(&self, (worker, tab): (usize, usize)) -> (usize, usize) {
        let packets = || self.worlds[worker].tabs[tab].rtcp.iter().flat_map(|compound| rtcp::parse(compound));
        let plis = packets().filter(|packet| matches!(packet, rtcp::Packet::Pli { .. })).count();
        (plis, packets().filter(|packet| matches!(packet, rtcp::Packet::Nack { .. })).count())
    }

    fn nack(&mut self, (worker, tab): (usize, usize), ssrc: u32, lost: &[u16]) {
        let mut nack = Vec::new();
        rtcp::write_nack(1, ssrc, lost.iter().copied(), &mut nack);
        self.worlds[worker].rtcp(tab, nack);
        self.settle();
    }

    fn pli(&mut self, (worker, tab): (usize, usize)) {
        let ssrc = self.got((worker, tab)).last().unwrap().ssrc;
        let mut pli = Vec::new();
        rtcp::write_pli(1, ssrc, &mut pli);
        self.worlds[worker].rtcp(tab, pli);
        self.settle();
    }
}

#[test]
fn everybody_hears_and_sees_everybody_whatever_the_worker() {
    let kinds: &[Kind] = &[Kind::Audio, Kind::Video];
    let mut pair = Pair::call([2, 2], [kinds; 2]);
    let everybody = [(A, 0), (A, 1), (B, 0), (B, 1)];
    // The first of a track may be what its subscribers begin with.
    for from in everybody {
        for to in everybody.into_iter().filter(|to| *to != from) {
            pair.assert_media(from, to);
        }
    }
    for world in &pair.worlds {
        assert_eq!((world.sfu.gauges().peers, world.sfu.gauges().tracks, world.sfu.gauges().subscriptions), (2, 4, 12));
        // Nobody is told of the other worker's by the wrong one.
        let foreign = world.events.iter().filter(|event| match event {
            Event::TrackPublished { peer, .. } | Event::LayersWanted { peer, .. } => peer.0 / 100 != world.first / 100,
            _ => false,
        });
        assert_eq!(foreign.count(), 0, "{:?}", world.events);
    }
}

/// Signaling knows of a track before it has crossed, and acknowledges what is wished of it.
#[test]
fn a_wish_for_a_track_that_has_not_crossed_yet_counts_when_it_has() {
    let mut pair = Pair::call([1, 1], [&[Kind::Audio], &[Kind::Audio]]);
    let newcomer = pair.worlds[A].join(1, &[Kind::Video]);
    // Its tracks are known on A, and the batch has not been taken.
    pair.worlds[A].settle();
    let mut published = pair.worlds[A].events.iter().filter_map(|event| match event {
        Event::TrackPublished { info, .. } if info.kind == Kind::Video => Some(info.track),
        _ => None,
    });
    let track = published.next_back().expect("its video is announced");
    let listener = PeerId(pair.worlds[B].first);
    let wish = Wish { enabled: Some(false), ..Wish::default() };
    pair.worlds[B].request(Request::Subscription { peer: listener, track, wish });
    pair.run_ms(1_500);
    let before = pair.got((B, 0)).len();
    pair.media(A, newcomer, 0, &vp8(true, 1, 50));
    pair.run_ms(100);
    assert_eq!(pair.got((B, 0)).len(), before, "it was switched off before it came");
    let wish = Wish { enabled: Some(true), ..Wish::default() };
    pair.worlds[B].request(Request::Subscription { peer: listener, track, wish });
    pair.run_ms(100);
    pair.media(A, newcomer, 0, &vp8(true, 2, 50));
    pair.run_ms(100);
    assert!(pair.got((B, 0)).len() > before, "and it can be switched on");
}

#[test]
fn a_packet_crosses_once_for_all_and_losses_there_are_repaired_there() {
    let mut pair = Pair::call([2, 6], [&[Kind::Video], &[]]);
    for n in 0..=1 {
        pair.media(A, 0, 0, &vp8(n == 0, 0, 1_000));
    }
    pair.run_ms(100);
    let (before, asked) = (pair.packets[A], pair.asked((A, 0)));
    for n in 2..50u8 {
        pair.media(A, 0, 0, &vp8(false, n, 1_000));
        pair.run_ms(10);
    }
    assert_eq!(pair.packets[A] - before, 48, "each once, whoever gets it");
    assert_eq!(pair.packets[B], 0, "nothing is published there");
    let payloads = |pair: &Pair, to| pair.got(to).iter().map(|got| got.payload.clone()).collect::<Vec<_>>();
    let expected: Vec<Vec<u8>> = (0..50u8).map(|n| vp8(n == 0, if n < 2 { 0 } else { n }, 1_000)).collect();
    assert_eq!(payloads(&pair, (A, 1)), expected);
    for tab in 0..6 {
        assert_eq!(payloads(&pair, (B, tab)), expected, "tab {tab}");
        assert!(pair.got((B, tab)).windows(2).all(|pair| pair[1].seq == pair[0].seq.wrapping_add(1)));
    }
    // What is lost on the way from B is there still.
    let lost: Vec<u16> = pair.got((B, 3))[20..25].iter().map(|got| got.seq).collect();
    let ssrc = pair.got((B, 3))[0].ssrc;
    pair.nack((B, 3), ssrc, &lost);
    pair.run_ms(100);
    let again: Vec<Vec<u8>> = pair.got((B, 3))[50..].iter().map(|got| got.payload[2..].to_vec()).collect();
    assert_eq!(again, expected[20..25]);
    assert_eq!((pair.packets[A] - before, pair.worlds[A].sfu.counters().nack_in), (48, 0), "nothing crosses for it");
    assert_eq!(pair.asked((A, 0)), asked, "and the publisher knows nothing of it");
}

#[test]
fn what_is_lost_before_the_first_worker_is_asked_for_there_and_crosses_when_it_comes() {
    let mut pair = Pair::call([1, 1], [&[Kind::Video], &[]]);
    pair.media(A, 0, 0, &vp8(true, 0, 100));
    for n in 1..20u8 {
        let packet = pair.worlds[A].tabs[0].rtp(0, 3_000, &vp8(false, n, 100));
        if n != 5 {
            pair.worlds[A].send(0, packet);
        }
        pair.run_ms(10);
        if n == 10 {
            assert_eq!(pair.asked((A, 0)).1, 1, "only B has subscribers, and A asks for what they miss");
            let source = pair.worlds[A].tabs[0].sources[0];
            let index = source.index - 5;
            let mut payload = (index as u16).to_be_bytes().to_vec();
            payload.extend(vp8(false, 5, 100));
            let number = (9_000u16).to_be_bytes();
            let timestamp = source.timestamp.wrapping_sub(5 * 3_000);
            let rtx = source.rtx_ssrc;
            let plain = plain_rtp(rtx, VP8 + 1, 9_000, timestamp, &[(MID_ID, b"0"), (3, &number)], &payload);
            let sealed = pair.worlds[A].tabs[0].seal(plain.clone(), plain.len() - payload.len(), rtx, 9_000);
            pair.worlds[A].send(0, sealed);
            pair.settle();
        }
    }
    let mut got: Vec<(u16, u8)> = pair.got((B, 0)).iter().map(|got| (got.seq, got.payload[4])).collect();
    let first = got[0].0;
    got.sort_by_key(|(seq, _)| seq.wrapping_sub(first));
    assert_eq!(got.iter().map(|(_, n)| *n).collect::<Vec<_>>(), (0..20).collect::<Vec<_>>(), "whole, in its order");
    assert!(got.windows(2).all(|pair| pair[1].0 == pair[0].0.wrapping_add(1)));
}

#[test]
fn keyframes_wanted_on_both_workers_are_asked_for_together() {
    let mut pair = Pair::call([3, 3], [&[], &[]]);
    let publisher = (A, pair.worlds[A].join(1, &[Kind::Video]));
    pair.run_ms(1_500);
    let everybody: Vec<_> = [A, B].into_iter().flat_map(|worker| (0..3).map(move |tab| (worker, tab))).collect();
    pair.media(A, publisher.1, 0, &vp8(true, 0, 100));
    pair.run_ms(1_000);
    let before = pair.asked(publisher).0;
    for n in 0..100u8 {
        if n.is_multiple_of(10) {
            everybody.iter().for_each(|from| pair.pli(*from));
        }
        pair.media(A, publisher.1, 0, &vp8(n % 25 == 24, n, 100));
        pair.run_ms(20);
    }
    let asked = pair.asked(publisher).0 - before;
    assert!((2..=5).contains(&asked), "{asked} in 2 s, of 60 requests");
    assert!(everybody.iter().all(|to| pair.got(*to).len() == 101));
}

/// Encodings of a simulcasting tab of A, and one subscriber on B.
struct Simulcast {
    pair: Pair,
    timestamps: [u32; 3],
    indices: [u64; 3],
    frame: u64,
}

const RIDS: [&str; 3] = ["q", "h", "f"];

impl Simulcast {
    fn new() -> Simulcast {
        let mut pair = Pair::new();
        let publisher = pair.worlds[A].enter(1, false);
        pair.worlds[A].tabs[publisher].add(Kind::Video);
        let line = &mut pair.worlds[A].tabs[publisher].lines[0];
        line.sources.clear();
        line.attributes.push("a=extmap:10 urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id".into());
        line.attributes.extend(RIDS.map(|rid| format!("a=rid:{rid} send")));
        line.attributes.push("a=simulcast:send q;h;f".into());
        pair.worlds[A].offer(publisher);
        pair.worlds[B].join(1, &[]);
        pair.spread();
        pair.run_ms(1_000);
        Simulcast { pair, timestamps: [7, 1 << 30, 1 << 31], indices: [100, 200, 300], frame: 0 }
    }

    /// Frames of the encodings that are `wanted`, each a keyframe if one is asked for, with sender reports now and then.
    fn frames(&mut self, count: usize, wanted: [bool; 3]) {
        for _ in 0..count {
            self.frame += 1;
            let rtcp = std::mem::take(&mut self.pair.worlds[A].tabs[0].rtcp);
            let plis = rtcp.iter().flat_map(|compound| rtcp::parse(compound)).filter_map(|packet| match packet {
                rtcp::Packet::Pli { media, .. } => Some(media),
                _ => None,
            });
            let plis: Vec<u32> = plis.collect();
            for place in 0..3 {
                self.timestamps[place] = self.timestamps[place].wrapping_add(3_000);
                if !wanted[place] {
                    continue;
                }
                let (ssrc, timestamp) = (1_000 + place as u32, self.timestamps[place]);
                if self.frame % 15 == 1 {
                    let ntp = ((u128::from(self.frame) << 32) / 30) as u64;
                    let mut report = Vec::new();
                    rtcp::write_sender_report(ssrc, ntp, timestamp, 1, 40, &[], &mut report);
                    self.pair.worlds[A].rtcp(0, report);
                }
                self.indices[place] += 1;
                let mut payload = vp8(plis.contains(&ssrc) || self.frame == 1, place as u8, 60 << place);
                if payload[1] == 0 {
                    payload[3..10].copy_from_slice(&[0, 0x9d, 0x01, 0x2a, 160, 0, 90]);
                    payload[7..9].copy_from_slice(&(160u16 << place).to_le_bytes());
                    payload[9..11].copy_from_slice(&(90u16 << place).to_le_bytes());
                }
                let index = self.indices[place];
                let extensions: [(u8, &[u8]); 2] = [(MID_ID, b"0"), (10, RIDS[place].as_bytes())];
                let plain = plain_rtp(ssrc, VP8 | 0x80, index as u16, timestamp, &extensions, &payload);
                let sealed = self.pair.worlds[A].tabs[0].seal(plain.clone(), plain.len() - payload.len(), ssrc, index);
                self.pair.worlds[A].send(0, sealed);
            }
            self.pair.run_ms(33);
        }
    }

    fn told(&mut self) -> Vec<Vec<bool>> {
        let events = std::mem::take(&mut self.pair.worlds[A].events);
        let told = events.into_iter().filter_map(|event| match event {
            Event::LayersWanted { layers, .. } => Some(layers.into_iter().map(|(_, wanted)| wanted).collect()),
            _ => None,
        });
        told.collect()
    }

    /// Which encoding B's tab gets, by the length of its packets.
    fn shown(&self) -> usize {
        let last = self.pair.got((B, 0)).last().unwrap();
        (0..3).find(|place| last.payload.len() == 60 << place).unwrap()
    }
}

#[test]
fn an_encoding_that_is_wanted_on_another_worker_alone_is_sent_and_no_other() {
    let mut call = Simulcast::new();
    call.frames(60, [true; 3]);
    assert_eq!(call.shown(), 2, "the largest");
    let track = call.pair.worlds[A].published()[0];
    call.told();
    call.frames(150, [true; 3]);
    assert_eq!(call.told(), [[false, false, true]], "nobody anywhere watches the others");
    let small = Wish { size: Some((160, 90)), ..Wish::default() };
    let peer = call.pair.worlds[B].peer(0);
    call.pair.worlds[B].request(Request::Subscription { peer, track, wish: small });
    call.frames(2, [false, false, true]);
    assert_eq!(call.told().last().map(|layers| layers[0]), Some(true), "what is wanted there is asked for here");
    call.frames(180, [true, false, true]);
    assert_eq!((call.shown(), call.told().last()), (0, Some(&vec![true, false, false])));
    let large = Wish { size: Some((640, 360)), ..Wish::default() };
    call.pair.worlds[B].request(Request::Subscription { peer, track, wish: large });
    call.frames(60, [true; 3]);
    assert_eq!(call.shown(), 2);
    // One stream, whose time goes on across the encodings: their clocks crossed, too.
    for pair in call.pair.got((B, 0)).windows(2) {
        assert_eq!((pair[1].ssrc, pair[1].seq), (pair[0].ssrc, pair[0].seq.wrapping_add(1)));
        let ahead = pair[1].timestamp.wrapping_sub(pair[0].timestamp);
        assert!((1..=40 * 3_000).contains(&ahead), "{ahead} ticks");
    }
}

#[test]
fn a_publisher_that_leaves_and_a_worker_that_empties_leave_nothing_behind() {
    let kinds: &[Kind] = &[Kind::Audio, Kind::Video];
    let mut pair = Pair::call([2, 1], [kinds, &[]]);
    pair.assert_media((A, 0), (B, 0));
    let leaver = pair.worlds[A].peer(0);
    pair.worlds[A].request(Request::Leave { peer: leaver });
    pair.run_ms(500);
    assert_eq!(pair.worlds[B].sfu.gauges().subscriptions, 2, "those of the other publisher");
    let ended = |event: &Event| matches!(event, Event::TrackUnpublished { .. });
    assert_eq!(pair.worlds[A].events.iter().filter(|e| ended(e)).count(), 2);
    assert_eq!(pair.worlds[B].events.iter().filter(|e| ended(e)).count(), 0, "its worker says it");
    pair.assert_media((A, 1), (B, 0));

    let last = pair.worlds[B].peer(0);
    pair.worlds[B].request(Request::Leave { peer: last });
    pair.tell(B, Workers::default());
    pair.tell(A, Workers::default());
    pair.run_ms(100);
    assert_eq!(pair.worlds[B].sfu.gauges(), Gauges::default());
    let (before, batches) = (pair.packets[A], pair.batches);
    for _ in 0..10 {
        pair.media(A, 1, 0, &[1; 50]);
        pair.media(A, 1, 1, &vp8(true, 1, 50));
    }
    pair.run_ms(2_000);
    assert_eq!((pair.packets[A], pair.batches), (before, batches), "nothing crosses any more");

    // And somebody comes again.
    pair.worlds[B].join(1, &[]);
    pair.spread();
    pair.run_ms(1_500);
    pair.assert_media((A, 1), (B, 1));
}

#[test]
fn what_is_muted_held_or_renamed_is_so_everywhere() {
    let mut pair = Pair::call([1, 1], [&[Kind::Video], &[]]);
    pair.assert_media((A, 0), (B, 0));
    let (peer, track) = (pair.worlds[A].peer(0), pair.worlds[A].published()[0]);
    pair.worlds[A].request(Request::Hold { peer, track, held: true });
    pair.settle();
    let before = pair.got((B, 0)).len();
    pair.media(A, 0, 0, &vp8(true, 0, 50));
    assert_eq!(pair.got((B, 0)).len(), before);
    let asked = pair.asked((A, 0)).0;
    pair.worlds[A].request(Request::Mute { peer, track, muted: false });
    pair.run_ms(600);
    assert!(pair.asked((A, 0)).0 > asked, "who waits on the other worker is helped");
    pair.media(A, 0, 0, &vp8(false, 1, 50));
    assert_eq!(pair.got((B, 0)).len(), before, "it goes on with a keyframe");
    pair.assert_media((A, 0), (B, 0));
}

#[test]
fn each_worker_tells_of_its_own_peers_and_how_many_take_what_is_of_others() {
    let mut pair = Pair::call([2, 1], [&[Kind::Video], &[]]);
    let viewer = pair.worlds[B].peer(0);
    pair.worlds[B].request(Request::Snapshot { room: RoomId(1), only: None, ticket: 1 });
    pair.settle();
    let snapshot = pair.worlds[B].events.iter().find_map(|event| match event {
        Event::Snapshot { snapshot, .. } => Some(snapshot.clone()),
        _ => None,
    });
    let snapshot = snapshot.expect("it is answered");
    assert_eq!(snapshot.peers.iter().map(|peer| &*peer.participant).collect::<Vec<_>>(), [format!("pa_{}", viewer.0)]);
    let mut tracks = pair.worlds[A].published();
    tracks.sort();
    let mut elsewhere = snapshot.elsewhere.clone();
    elsewhere.sort();
    assert_eq!(elsewhere, tracks.iter().map(|track| (*track, 1)).collect::<Vec<_>>());
}

/// A packet of audio at a level (0 loudest).
fn sound(pair: &mut Pair, (worker, tab): (usize, usize), level: u8) {
    let tab_ref = &mut pair.worlds[worker].tabs[tab];
    let source = &mut tab_ref.sources[0];
    source.index += 1;
    source.timestamp = source.timestamp.wrapping_add(960);
    let source = *source;
    let level = [level];
    let extensions: [(u8, &[u8]); 2] = [(MID_ID, b"0"), (LEVEL_ID, &level)];
    let payload = [source.index as u8; 40];
    let plain = plain_rtp(source.ssrc, OPUS, source.index as u16, source.timestamp, &extensions, &payload);
    let sealed = tab_ref.seal(plain.clone(), plain.len() - payload.len(), source.ssrc, source.index);
    pair.worlds[worker].send(tab, sealed);
}

fn speakers(world: &World) -> Option<Vec<u64>> {
    world.events.iter().rev().find_map(|event| match event {
        Event::Speakers { speakers, .. } => Some(speakers.iter().map(|(peer, _)| peer.0).collect()),
        _ => None,
    })
}

#[test]
fn the_same_people_speak_on_all_workers() {
    let mut pair = Pair::call([2, 2], [&[Kind::Audio]; 2]);
    for _ in 0..60 {
        sound(&mut pair, (A, 0), 127);
        sound(&mut pair, (B, 1), 20);
        sound(&mut pair, (A, 1), 90);
        pair.run_ms(20);
    }
    for world in &pair.worlds {
        assert_eq!(speakers(world), Some(vec![101]), "{:?}", world.events);
    }
}

/// In a large room only the loudest are forwarded: of all, wherever they are.
#[test]
fn the_floor_of_a_large_room_is_one_for_all_workers() {
    let mut pair = Pair::call([10, 10], [&[Kind::Audio]; 2]);
    for _ in 0..50 {
        for tab in 0..10 {
            for worker in [A, B] {
                let loud = (worker, tab) == (B, 7) || (worker, tab) == (A, 3);
                sound(&mut pair, (worker, tab), if loud { 15 } else { 110 });
            }
        }
        pair.run_ms(20);
    }
    let counts = |pair: &Pair, to| -> Vec<usize> {
        let mut by_ssrc = std::collections::BTreeMap::new();
        for got in pair.got(to) {
            *by_ssrc.entry(got.ssrc).or_insert(0usize) += 1;
        }
        by_ssrc.into_values().collect()
    };
    for to in [(A, 0), (B, 0)] {
        let all = counts(&pair, to);
        assert!(all.len() <= 9 && all.iter().filter(|count| **count >= 45).count() >= 2, "{to:?}: {all:?}");
    }
}

#[test]
fn a_worker_that_takes_nothing_costs_its_subscribers_packets_and_never_what_is_to_be_known() {
    let mut pair = Pair::call([1, 1], [&[Kind::Video], &[]]);
    pair.assert_media((A, 0), (B, 0));
    let full = |pair: &Pair| pair.worlds[A].drops(sfu::Drop::PipeFull);
    for n in 0..6_000u32 {
        pair.worlds[A].media(0, 0, 3_000, &vp8(false, n as u8, 1_000));
    }
    assert!(full(&pair) > 1_000);
    let leaver = pair.worlds[A].peer(0);
    pair.worlds[A].request(Request::Leave { peer: leaver });
    pair.run_ms(500);
    assert_eq!(pair.worlds[B].sfu.gauges().subscriptions, 0, "that it has ended is known all the same");
}
