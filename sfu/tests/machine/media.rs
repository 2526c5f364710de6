//! What subscribers get of what publishers send.

use std::time::Duration;

use sfu::{Input, Kind, PeerId, Request, rtcp};

use crate::tab::{OPUS, VP8, plain_rtp, vp8};
use crate::world::World;

const BOTH: [Kind; 2] = [Kind::Audio, Kind::Video];

fn plis(world: &World, tab: usize) -> usize {
    let packets = world.tabs[tab].rtcp.iter().flat_map(|compound| rtcp::parse(compound));
    packets.filter(|packet| matches!(packet, rtcp::Packet::Pli { .. })).count()
}

#[test]
fn a_subscriber_is_given_a_keyframe_first_and_the_publisher_is_asked_for_it() {
    let mut world = World::call(2, &BOTH);
    world.assert_media(0, 1);
    let (asked, index) = (plis(&world, 0), world.join(1, &[]));
    world.run_ms(500);
    assert!(world.tabs[index].is_connected());
    assert!(plis(&world, 0) > asked, "a keyframe is asked for when the stream begins");
    for _ in 0..3 {
        world.media(0, 1, 3_000, &vp8(false, 1, 50));
        world.settle();
    }
    assert_eq!(world.tabs[index].got, []);
    world.assert_media(0, index);
    let first = &world.tabs[index].got[0];
    assert!(first.seq < 1 << 15);
    world.media(0, 1, 3_000, &vp8(false, 2, 50));
    world.settle();
    assert_eq!(world.tabs[index].got.last().unwrap().payload, vp8(false, 2, 50));
}

/// A slide, of which no frame follows: who joins is given the keyframe that came while the handshake was under way, and nobody
/// is asked for another; only one that has become old is asked for again.
#[test]
fn a_still_picture_that_came_before_its_viewer_was_connected_is_shown_at_once() {
    let slide = vp8(true, 7, 50);
    for (waited_ms, another) in [(100, 0), (700, 1)] {
        let mut world = World::call(1, &[Kind::Video]);
        let paints = |world: &mut World, frames: u8| {
            for n in 0..frames {
                world.media(0, 0, 9_000, &vp8(n == 0 && frames > 5, n, 50));
                world.run_ms(100);
            }
        };
        paints(&mut world, 10);
        let asked = plis(&world, 0);
        let viewer = world.join(1, &[]);
        world.tabs[viewer].shakes = false;
        paints(&mut world, 2);
        assert_eq!(plis(&world, 0), asked + 1, "it is asked for when the line is agreed");
        world.media(0, 0, 3_000, &slide);
        world.run_ms(waited_ms);
        assert!(!world.tabs[viewer].is_connected() && world.tabs[viewer].got.is_empty());
        let before = plis(&world, 0);
        world.tabs[viewer].shake(world.now.mono);
        world.run_ms(20);
        assert!(world.tabs[viewer].is_connected());
        assert_eq!(plis(&world, 0), before + another, "after {waited_ms} ms");
        if another > 0 {
            world.media(0, 0, 3_000, &slide);
            world.settle();
        }
        assert_eq!(world.tabs[viewer].got.iter().map(|got| &got.payload).collect::<Vec<_>>(), [&slide]);
    }
}

/// The first packet of a stream is lost, and nobody can know: the subscriber gets nothing that it could ask about.
#[test]
fn a_stream_whose_beginning_is_lost_is_asked_for_a_keyframe() {
    let mut world = World::call(2, &[Kind::Video]);
    let _lost = world.tabs[0].rtp(0, 3_000, &vp8(true, 1, 50));
    world.media(0, 0, 0, &[0, 1, 2, 3]);
    world.run_ms(50);
    assert_eq!((plis(&world, 0), world.tabs[1].got.len()), (1, 0));
    world.assert_media(0, 1);
    world.run_ms(3_000);
    assert_eq!(plis(&world, 0), 1);
}

#[test]
fn a_keyframe_is_asked_for_again_until_it_comes() {
    let mut world = World::call(2, &[Kind::Video]);
    world.media(0, 0, 3_000, &vp8(true, 1, 50));
    let ssrc = {
        world.settle();
        world.tabs[1].got[0].ssrc
    };
    world.run_ms(1_000);
    let before = plis(&world, 0);
    let mut pli = Vec::new();
    rtcp::write_pli(1, ssrc, &mut pli);
    world.rtcp(1, pli);
    world.run_ms(3_500);
    assert_eq!(plis(&world, 0), before + 4, "at once and after 1, 2 and 3 s");
    world.media(0, 0, 3_000, &vp8(true, 2, 50));
    world.run_ms(3_000);
    assert_eq!(plis(&world, 0), before + 4);
}

#[test]
fn what_is_nacked_comes_again_on_the_other_stream() {
    let mut world = World::call(2, &[Kind::Video]);
    let payloads: Vec<Vec<u8>> = (0..10).map(|n| vp8(n == 0, n, 100 + usize::from(n) * 31)).collect();
    for payload in &payloads {
        world.media(0, 0, 3_000, payload);
        world.settle();
    }
    let first = world.tabs[1].got.clone();
    assert_eq!(first.len(), 10);
    let mut nack = Vec::new();
    rtcp::write_nack(1, first[0].ssrc, [first[3].seq, first[7].seq, first[9].seq.wrapping_add(1)], &mut nack);
    world.rtcp(1, nack.clone());
    world.rtcp(1, nack.clone());
    world.settle();
    let again = &world.tabs[1].got[10..];
    assert_eq!(again.len(), 2, "each once, and what was never sent not at all");
    for (got, original) in again.iter().zip([&first[3], &first[7]]) {
        assert_ne!((got.ssrc, got.payload_type), (original.ssrc, original.payload_type));
        assert_eq!(got.payload[..2], original.seq.to_be_bytes(), "the original sequence number comes first");
        assert_eq!((&got.payload[2..], got.timestamp), (&original.payload[..], original.timestamp));
    }
    assert_eq!(again[1].seq, again[0].seq.wrapping_add(1));
    world.run_ms(30);
    world.rtcp(1, nack);
    world.settle();
    assert_eq!(world.tabs[1].got.len(), 14, "after its window it may be asked for again");
}

#[test]
fn lost_packets_are_asked_of_the_publisher_and_taken_from_its_retransmissions() {
    let mut world = World::call(2, &[Kind::Video]);
    world.media(0, 0, 3_000, &vp8(true, 0, 50));
    let _lost = world.tabs[0].rtp(0, 3_000, &vp8(false, 1, 60));
    let source = world.tabs[0].sources[0];
    world.media(0, 0, 3_000, &vp8(false, 2, 50));
    world.run_ms(20);
    let asked: Vec<u16> =
        world.tabs[0].rtcp.iter().flat_map(|compound| rtcp::parse(compound)).fold(Vec::new(), |mut all, p| {
            if let rtcp::Packet::Nack { media, lost, .. } = p {
                assert_eq!(media, source.ssrc);
                all.extend(lost);
            }
            all
        });
    assert_eq!(asked, [source.index as u16]);
    let mut payload = (source.index as u16).to_be_bytes().to_vec();
    payload.extend(vp8(false, 1, 60));
    let plain = plain_rtp(source.rtx_ssrc, VP8 + 1, 77, source.timestamp, &[], &payload);
    let packet = world.tabs[0].seal(plain, 12, source.rtx_ssrc, 77);
    world.send(0, packet);
    world.settle();
    let got = &world.tabs[1].got;
    assert_eq!(got.iter().map(|g| g.payload[2]).collect::<Vec<_>>(), [0, 2, 1]);
    assert_eq!(got[2].seq, got[0].seq + 1, "in the place that was kept for it");
    assert_eq!(got[2].payload_type, got[0].payload_type);
}

#[test]
fn audio_goes_before_video() {
    let mut world = World::call(3, &BOTH);
    world.assert_media(0, 1);
    world.assert_media(0, 2);
    for n in 0..40 {
        world.media(0, 1, 0, &vp8(false, n, 1_000));
    }
    world.media(0, 0, 960, &[9; 40]);
    let audio = world.tabs[1].got.iter().find(|got| got.payload[0] == 0x78).unwrap().payload_type;
    let mut kinds = Vec::new();
    while let Some(run) = world.sfu.next_run(world.now) {
        if (128..=191).contains(&run.bytes[0]) && !(192..=223).contains(&run.bytes[1]) {
            kinds.push(run.bytes[1] & 0x7f == audio);
        }
    }
    assert_eq!(kinds[..2], [true, true]);
    assert!(kinds.len() > 2 && kinds[2..].iter().all(|audio| !audio), "{kinds:?}");
}

#[test]
fn rooms_take_turns() {
    let mut world = World::new();
    for _ in 0..60 {
        world.join(1, &[]);
    }
    let (large, small) = (world.join(1, &[Kind::Video]), world.join(2, &[Kind::Video]));
    let listener = world.join(2, &[]);
    world.run_ms(2_000);
    assert!(world.tabs.iter().all(|tab| tab.is_connected()));
    for tab in [large, small] {
        world.media(tab, 0, 3_000, &vp8(true, 1, 500));
        world.settle();
    }
    for _ in 0..130 {
        world.media(large, 0, 10, &vp8(false, 2, 1_000));
    }
    for _ in 0..130 {
        world.media(small, 0, 10, &vp8(false, 2, 1_000));
    }
    let (mut at, mut runs) = (Vec::new(), 0);
    while let Some(run) = world.sfu.next_run(world.now) {
        if run.path == world.tabs[listener].path {
            at.push(runs);
        }
        runs += 1;
    }
    assert!(runs > 150, "the large room has much to send: {runs}");
    assert!(at.len() >= 3 && at.windows(2).all(|pair| pair[1] - pair[0] <= 2) && at[0] <= 1, "{at:?}");
}

#[test]
fn a_subscription_that_is_turned_off_sends_nothing_and_goes_on_with_a_keyframe() {
    let mut world = World::new();
    world.join(1, &[Kind::Video]);
    world.join(1, &[]);
    world.run_ms(1_000);
    let track = world.published()[0];
    world.assert_media(0, 1);
    let last = world.tabs[1].got.last().unwrap().clone();
    let off = |enabled| Request::Subscription {
        peer: PeerId(1),
        track,
        wish: sfu::Wish { enabled: Some(enabled), ..Default::default() },
    };
    world.request(off(false));
    for _ in 0..5 {
        world.media(0, 0, 3_000, &vp8(true, 3, 50));
        world.settle();
    }
    assert_eq!(world.tabs[1].got.last(), Some(&last));
    let before = plis(&world, 0);
    world.request(off(true));
    world.run_ms(600);
    assert!(plis(&world, 0) > before);
    world.media(0, 0, 3_000, &vp8(false, 4, 50));
    world.settle();
    assert_eq!(world.tabs[1].got.last(), Some(&last));
    world.assert_media(0, 1);
    assert_eq!(world.tabs[1].got.last().unwrap().seq, last.seq.wrapping_add(1), "no gap of our making");
}

#[test]
fn a_publisher_that_begins_a_new_stream_goes_on_in_the_old_one() {
    let mut world = World::call(2, &[Kind::Video]);
    world.assert_media(0, 1);
    let before = world.tabs[1].got.last().unwrap().clone();
    world.run_ms(400);
    world.tabs[0].sources[0].ssrc ^= 1;
    world.tabs[0].sources[0].index = 9;
    world.tabs[0].sources[0].timestamp = 1;
    world.media(0, 0, 0, &vp8(false, 1, 50));
    world.settle();
    assert_eq!(world.tabs[1].got.last(), Some(&before), "not before a keyframe");
    world.assert_media(0, 1);
    let after = world.tabs[1].got.last().unwrap();
    assert_eq!((after.ssrc, after.seq), (before.ssrc, before.seq.wrapping_add(1)));
    let ticks = after.timestamp.wrapping_sub(before.timestamp);
    assert!((30_000..50_000).contains(&ticks), "about 0.4 s passed: {ticks} ticks");
}

#[test]
fn a_publisher_that_leaves_takes_its_tracks_and_the_others_go_on() {
    let mut world = World::call(3, &BOTH);
    world.request(Request::Leave { peer: PeerId(0) });
    world.run_ms(500);
    assert_eq!((world.sfu.gauges().tracks, world.sfu.gauges().peers), (4, 2));
    world.assert_media(1, 2);
    world.assert_media(2, 1);
    for peer in 1..3 {
        world.request(Request::Leave { peer: PeerId(peer) });
    }
    let left = world.sfu.gauges();
    assert_eq!((left.rooms, left.peers, left.tracks, left.subscriptions), (0, 0, 0, 0));
    world.sfu.handle(Input::Tick, world.now);
}

/// Two hundred joins within a second cost each participant an offer in each interval, not one for each join.
#[test]
fn many_joins_are_told_in_few_offers() {
    let mut world = World::new();
    let first = world.join(1, &[Kind::Audio]);
    world.run_ms(500);
    world.descriptions.clear();
    let began = world.now.mono;
    for _ in 0..200 {
        let index = world.join(1, &[Kind::Audio]);
        world.tabs[index].checks = false;
        world.silent.push(index);
        world.run_ms(5);
    }
    world.run_ms(300);
    let offers = world.descriptions.iter().filter(|(tab, is_offer, _)| *tab == first && *is_offer).count() as u128;
    let elapsed = (world.now.mono - began).as_millis();
    assert!(offers <= elapsed / 100 + 1, "{offers} offers in {elapsed} ms");
    let live = world.tabs[first].lines.iter().filter(|line| !line.rejected).count();
    assert_eq!(live, 1 + 8, "and they tell all of it: its own m-line, and what so many share");
    assert!(world.tabs[first].lines[1].media.contains(&OPUS.to_string()));
}

#[test]
fn levels_make_speakers() {
    let mut world = World::call(2, &[Kind::Audio]);
    let loud = |world: &mut World, level: u8| {
        let source = &mut world.tabs[0].sources[0];
        source.index += 1;
        source.timestamp = source.timestamp.wrapping_add(960);
        let source = *source;
        let extensions: [(u8, &[u8]); 2] = [(crate::tab::LEVEL_ID, &[level]), (crate::tab::MID_ID, b"0")];
        let plain = plain_rtp(source.ssrc, OPUS, source.index as u16, source.timestamp, &extensions, &[1; 30]);
        let packet = world.tabs[0].seal(plain, 20, source.ssrc, source.index);
        world.send(0, packet);
        world.run(Duration::from_millis(20));
    };
    (0..50).for_each(|_| loud(&mut world, 0x80 | 20));
    let speakers: Vec<_> = world.events.drain(..).collect();
    assert!(
        matches!(&speakers[..], [sfu::Event::Speakers { speakers, .. }] if speakers.len() == 1 && speakers[0].0 == PeerId(0)),
        "{speakers:?}"
    );
    (0..100).for_each(|_| loud(&mut world, 127));
    assert!(
        matches!(&world.events[..], [.., sfu::Event::Speakers { speakers, .. }] if speakers.is_empty()),
        "{:?}",
        world.events
    );
}
