use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::payload::{Description, Targets};

fn arrive(reception: &mut Reception, seq: u64, now: Instant) -> Arrival {
    reception.arrive(seq as u16, true, now)
}

#[test]
fn the_first_packet_and_its_neighbours() {
    let now = Instant::now();
    for first in [0u16, 1, 0x7fff, 0x8000, 0xffff] {
        let mut reception = Reception::new(first);
        let extended = 65_536 + u64::from(first);
        assert_eq!(reception.arrive(first, true, now), Arrival::New { seq: extended, gap_too_large: false });
        assert_eq!(reception.arrive(first, true, now), Arrival::Duplicate);
        let before = reception.arrive(first.wrapping_sub(1), true, now);
        assert_eq!(before, Arrival::New { seq: extended - 1, gap_too_large: false });
        let after = reception.arrive(first.wrapping_add(1), true, now);
        assert_eq!(after, Arrival::New { seq: extended + 1, gap_too_large: false });
        assert_eq!(reception.report(), (u32::from(first) + 1, 0, 0, 0));
        assert_eq!(reception.nack_due(), None);
    }
}

#[test]
fn rollovers_are_counted_and_losses_told_once() {
    let now = Instant::now();
    let mut reception = Reception::new(65_000);
    // One in four is lost, over three rollovers.
    let mut lost = 0;
    for seq in 65_000u64..65_000 + 200_000 {
        if seq % 4 == 3 {
            lost += 1;
        } else {
            reception.arrive(seq as u16, false, now);
        }
    }
    let (highest, fraction, cumulative, _) = reception.report();
    assert_eq!((highest, fraction, cumulative), (264_998, 63, lost - 1));
    assert_eq!(reception.report(), (264_998, 0, lost - 1, 0), "nothing since");
    for seq in 265_000u64..265_100 {
        reception.arrive(seq as u16, false, now);
    }
    assert_eq!(reception.report().1, 2, "one of 101");
}

#[test]
fn jitter_is_the_mean_deviation() {
    let start = Instant::now();
    let mut reception = Reception::new(0);
    reception.arrive(0, true, start);
    for n in 0..200u32 {
        reception.note_jitter(n.wrapping_mul(960), 48_000, start + Duration::from_millis(u64::from(n) * 20));
    }
    assert_eq!(reception.report().3, 0, "a steady stream has none");
    let mut reception = Reception::new(0);
    reception.arrive(0, true, start);
    for n in 0..500u32 {
        let late = if n % 2 == 0 { 10 } else { 0 };
        reception.note_jitter(
            n.wrapping_mul(960).wrapping_add(u32::MAX - 9_000),
            48_000,
            start + Duration::from_millis(u64::from(n) * 20 + late),
        );
    }
    let jitter = reception.report().3;
    assert!((470..=480).contains(&jitter), "10 ms are 480 units: {jitter}");
}

#[test]
fn what_is_missing_is_asked_for_after_a_moment_repeatedly_and_then_given_up() {
    let start = Instant::now();
    let mut reception = Reception::new(10);
    arrive(&mut reception, 10, start);
    arrive(&mut reception, 14, start);
    assert_eq!(reception.nack_due(), Some(start + NACK_DELAY));
    let mut asked: Vec<u16> = Vec::new();
    reception.take_nacks(start, &mut asked);
    assert!(asked.is_empty());
    arrive(&mut reception, 12, start);
    let mut now = start + NACK_DELAY;
    reception.take_nacks(now, &mut asked);
    assert_eq!(asked, [11, 13]);
    arrive(&mut reception, 13, now);
    for round in 1..NACKS_MAX {
        assert_eq!(reception.nack_due(), Some(now + NACK_REPEAT), "round {round}");
        asked.clear();
        reception.take_nacks(now + NACK_REPEAT - Duration::from_millis(1), &mut asked);
        assert!(asked.is_empty());
        now += NACK_REPEAT;
        reception.take_nacks(now, &mut asked);
        assert_eq!(asked, [11]);
    }
    assert_eq!(reception.nack_due(), None, "given up");
}

#[test]
fn a_gap_too_large_to_ask_for_is_said_once_and_remembers_nothing() {
    let now = Instant::now();
    let mut reception = Reception::new(0);
    arrive(&mut reception, 0, now);
    assert_eq!(arrive(&mut reception, 257, now), Arrival::New { seq: 65_536 + 257, gap_too_large: false });
    assert_eq!(reception.missing.len(), MISSING_MAX);
    assert_eq!(arrive(&mut reception, 259, now), Arrival::New { seq: 65_536 + 259, gap_too_large: true });
    assert_eq!(reception.missing.len(), 0);
    assert_eq!(arrive(&mut reception, 261, now), Arrival::New { seq: 65_536 + 261, gap_too_large: false });
    let mut unasked = Reception::new(0);
    unasked.arrive(0, false, now);
    assert_eq!(unasked.arrive(30_000, false, now), Arrival::New { seq: 65_536 + 30_000, gap_too_large: false });
    assert_eq!(unasked.nack_due(), None, "what was not negotiated is not asked for");
}

#[test]
fn a_stream_that_jumps_back_begins_anew_and_a_straggler_or_retransmission_does_not() {
    let now = Instant::now();
    let mut reception = Reception::new(30_000);
    arrive(&mut reception, 30_000, now);
    assert_eq!(arrive(&mut reception, 20_000, now), Arrival::Duplicate, "one may be a straggler");
    arrive(&mut reception, 30_001, now);
    assert_eq!(arrive(&mut reception, 20_007, now), Arrival::Duplicate);
    for seq in 20_008..20_010 {
        assert_eq!(reception.repair(seq, true, now), Arrival::Duplicate);
    }
    assert_eq!(arrive(&mut reception, 20_008, now), Arrival::Restart);
    assert_eq!(reception.repair(32_000, true, now), Arrival::Duplicate, "a repair does not lead");
    assert_eq!(reception.repair(30_002, true, now), Arrival::New { seq: 65_536 + 30_002, gap_too_large: false });
}

fn simulcast(now: Instant) -> Track {
    let mid = Mid::new("0").unwrap();
    let mut track = Track::new(TrackId(1), Kind::Video, Source::Camera, 0, "pa".into(), mid);
    assert!(track.take_layers(&["f".into(), "h".into(), "q".into()], 0, now));
    assert!(!track.take_layers(&["f".into(), "h".into(), "q".into()], 0, now));
    track
}

fn hear(track: &mut Track, place: usize, temporal: u8, bytes: usize, size: Option<(u16, u16)>, now: Instant) {
    let mut present = Targets::default();
    (temporal..4).for_each(|t| (0..4).for_each(|s| present.insert(s, t)));
    let says = Description { temporal, present, size, ..Description::default() };
    let layer = &mut track.layers[place];
    layer.ssrc = Some(place as u32);
    let timestamp = layer.picture.0.wrapping_add(3_000);
    layer.heard(timestamp, now);
    layer.levels.note(&says, bytes, now);
}

/// The description names the largest first; what is known of the pictures counts for more.
#[test]
fn steps_ascend_by_picture_and_by_layer_with_the_rates_that_were_measured() {
    let start = Instant::now();
    let mut track = simulcast(start);
    let silent: Vec<Step> = track.steps(start).collect();
    assert_eq!(
        silent.iter().map(|s| (s.target.layer, s.active)).collect::<Vec<_>>(),
        [(0, false), (1, false), (2, false)]
    );
    assert!(silent.is_sorted_by_key(|s| s.bps) && silent[0].bps > 0);
    for n in 0..90u64 {
        let now = start + Duration::from_micros(n * 33_333);
        for place in 0..3 {
            let size = (n == 0).then_some((1280 >> place, 720 >> place));
            hear(&mut track, place, (n % 2) as u8, 4_000 >> (2 * place), size, now);
        }
    }
    let now = start + Duration::from_secs(3);
    assert!(track.rank(now) && !track.rank(now));
    let steps: Vec<Step> = track.steps(now).collect();
    let of = |s: &Step| (s.target.layer, s.target.temporal, s.width);
    let expected = [(2, 0, 320), (2, 1, 320), (1, 0, 640), (1, 1, 640), (0, 0, 1280), (0, 1, 1280)];
    assert_eq!(steps.iter().map(of).collect::<Vec<_>>(), expected);
    assert!(steps.iter().all(|s| s.active && s.target.spatial == 0));
    for (step, bytes) in steps.iter().zip([250u32, 250, 1_000, 1_000, 4_000, 4_000]) {
        let expected = bytes * 8 * if step.target.temporal == 0 { 15 } else { 30 };
        assert!(step.bps.abs_diff(expected) <= expected / 10, "{step:?} {expected}");
    }
}

#[test]
fn a_layer_dies_within_a_second_of_the_others_and_slow_ones_live() {
    let start = Instant::now();
    let mut track = simulcast(start);
    let at = |ms| start + Duration::from_millis(ms);
    for ms in (0..5_000u64).step_by(20) {
        // Frames of a still screen come once a second, of all encodings together.
        if ms % 1_000 < 60 {
            hear(&mut track, (ms % 1_000 / 20) as usize, 0, 100, None, at(ms));
        }
        assert!(!track.bury(at(ms)), "{ms}");
    }
    for ms in (5_000..6_000u64).step_by(20) {
        (0..2).for_each(|place| hear(&mut track, place, 0, 100, None, at(ms)));
        if track.bury(at(ms)) {
            break;
        }
    }
    assert_eq!(track.layers.iter().map(|l| l.alive).collect::<Vec<_>>(), [true, true, false]);
    assert!(track.steps(at(6_000)).any(|step| step.target.layer == 2 && !step.active));
    assert!(track.bury(at(10_000)) && track.layers.iter().all(|l| !l.alive), "nothing comes at all");
}

proptest! {
    /// Against a model that remembers everything.
    #[test]
    fn each_packet_counts_once_and_what_is_missing_is_what_has_not_come(
        first: u16, moves in prop::collection::vec((0i64..12, 0i64..30), 1..400),
    ) {
        let now = Instant::now();
        let mut reception = Reception::new(first);
        reception.arrive(first, true, now);
        let mut highest = 65_536 + i64::from(first);
        let mut seen = BTreeSet::from([highest]);
        let (mut given_up, mut at) = (BTreeSet::new(), highest);
        for (forth, back) in moves {
            at += forth;
            let seq = (at - back).max(65_536 + i64::from(first) - 900);
            match reception.arrive(seq as u16, true, now) {
                Arrival::New { seq: extended, gap_too_large } => {
                    prop_assert_eq!(extended as i64, seq);
                    prop_assert!(seen.insert(seq), "{} counted twice", seq);
                    if gap_too_large {
                        given_up = (65_536 + i64::from(first)..seq).filter(|s| !seen.contains(s)).collect();
                    }
                }
                Arrival::Duplicate | Arrival::Restart => prop_assert!(seen.contains(&seq) || highest - seq >= 1_024),
            }
            highest = highest.max(seq);
            prop_assert!(reception.missing.len() <= MISSING_MAX);
        }
        let mut asked: Vec<u16> = Vec::new();
        reception.take_nacks(now + NACK_DELAY, &mut asked);
        let lowest = 65_536 + i64::from(first);
        let missing: Vec<u16> =
            (lowest..highest).filter(|s| !seen.contains(s) && !given_up.contains(s)).map(|s| s as u16).collect();
        prop_assert_eq!(asked, missing);
        let (extended, _, lost, _) = reception.report();
        let begins = seen.first().copied().unwrap();
        prop_assert_eq!(i64::from(extended), highest - 65_536);
        prop_assert_eq!(i64::from(lost), highest - begins + 1 - seen.len() as i64);
    }

    /// Whoever wants keyframes how often: never two requests within the window, none without a wish, and after a wish one
    /// within the window, repeated until a keyframe comes.
    #[test]
    fn keyframes_are_asked_for_in_bounds(events in prop::collection::vec((0u8..4, 1u64..300), 1..200)) {
        let mut now = Instant::now();
        let mut requests = KeyframeRequests::default();
        let (mut last, mut wanted_since): (Option<Instant>, Option<Instant>) = (None, None);
        for (event, ms) in events {
            now += Duration::from_millis(ms);
            match event {
                0 => {
                    requests.want(now);
                    wanted_since.get_or_insert(now);
                }
                1 => {
                    requests.arrived();
                    wanted_since = None;
                }
                _ => {}
            }
            prop_assert_eq!(requests.due().is_some(), wanted_since.is_some());
            if requests.take(now) {
                prop_assert!(wanted_since.is_some());
                prop_assert!(last.is_none_or(|last| now - last >= KEYFRAME_WINDOW));
                last = Some(now);
            } else if let Some(since) = wanted_since {
                let reference = last.map_or(since, |last| last.max(since));
                prop_assert!(now < reference + KEYFRAME_REPEAT);
            }
        }
    }
}
