//! The parts by themselves, and clients that lie.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::link::ms;
use crate::congestion::delay::{Delay, Usage};
use crate::congestion::history::{History, SENT_MAX};
use crate::congestion::{Allowance, Controller, MAX_BPS, MIN_BPS, Pacer, Purpose, START_BPS};
use crate::rtcp::{self, Packet};

/// A feedback packet as it lies on the wire.
fn feedback(base: u16, count: u16, reference: u32, number: u8, data: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x8f, 205, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2];
    bytes.extend(base.to_be_bytes());
    bytes.extend(count.to_be_bytes());
    bytes.extend((reference << 8 | u32::from(number)).to_be_bytes());
    bytes.extend(data);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    let words = (bytes.len() / 4 - 1) as u16;
    bytes[2..4].copy_from_slice(&words.to_be_bytes());
    bytes
}

fn give(controller: &mut Controller, bytes: &[u8], now: Instant) {
    for packet in rtcp::parse(bytes) {
        if let Packet::TransportFeedback(feedback) = packet {
            controller.on_feedback(&feedback, now);
        }
    }
}

fn send(controller: &mut Controller, bytes: usize, purpose: Purpose, now: Instant) {
    controller.set_clock(now);
    controller.on_sent(bytes, purpose);
}

proptest! {
    /// Whatever feedback says, the estimate stays within its bounds, and nothing panics.
    #[test]
    fn lies_are_survived(lies in prop::collection::vec(
        (any::<u16>(), any::<u16>(), 0u32..1 << 24, prop::collection::vec(any::<u8>(), 0..60), 0u64..3_000, 0usize..40), 1..60)
    ) {
        let mut now = Instant::now();
        let mut controller = Controller::new(now);
        controller.set_wanted(f64::MAX);
        for (n, (base, count, reference, data, wait, packets)) in lies.iter().enumerate() {
            for _ in 0..*packets {
                send(&mut controller, 1_200, Purpose::Media, now);
            }
            // Near the truth, so that it is not just ignored.
            let base = if base % 3 == 0 { controller.next_seq().wrapping_sub(base % 64) } else { *base };
            give(&mut controller, &feedback(base, *count, *reference, n as u8, data), now);
            now += ms(*wait);
            controller.tick(now);
            if controller.padding(now).is_some() {
                send(&mut controller, 300, Purpose::Padding, now);
            }
            controller.on_remb(u64::from(*count) << (n % 64), Some(u64::from(base)), Some(f64::from(*count)), now);
            controller.on_report(f64::from(base as u8) / 256.0, now);
            prop_assert!((MIN_BPS..=MAX_BPS).contains(&controller.estimate()), "{}", controller.estimate());
            prop_assert!(controller.deadline().is_none_or(|due| due < now + Duration::from_secs(3_600)));
        }
    }
}

#[test]
fn feedback_about_everything_and_the_future_says_nothing() {
    let now = Instant::now();
    let mut controller = Controller::new(now);
    for _ in 0..20 {
        send(&mut controller, 1_200, Purpose::Media, now);
    }
    let all_lost: Vec<u8> = [0x1f, 0xff].repeat(9);
    for n in 0..200 {
        let lie = feedback(controller.next_seq(), 65_535, 5, n, &all_lost);
        give(&mut controller, &lie, now + ms(100));
    }
    assert_eq!(controller.estimate(), START_BPS);
    assert_eq!(controller.lost(), 0.0);
}

#[test]
fn a_path_that_falls_silent_is_used_less_and_less_and_a_quiet_one_sleeps() {
    let start = Instant::now();
    let mut controller = Controller::new(start);
    let mut now = start;
    assert!(controller.deadline().is_none(), "nothing was ever heard");
    let mut out = Vec::new();
    let mut recorder = crate::twcc::Recorder::new();
    for _ in 0..20 {
        recorder.record(controller.next_seq(), now + ms(20));
        send(&mut controller, 1_200, Purpose::Media, now);
        now += ms(20);
    }
    recorder.write_feedback(1, 2, &mut out);
    give(&mut controller, &out, now + ms(40));
    assert!(controller.deadline().is_none(), "all was heard of, and no more is wanted");
    send(&mut controller, 1_200, Purpose::Media, now);
    let mut wakes = 0;
    while let Some(due) = controller.deadline() {
        assert!(due > now);
        now = due;
        controller.tick(now);
        wakes += 1;
        assert!(wakes < 20);
    }
    assert_eq!(controller.estimate(), MIN_BPS);
}

#[test]
fn rembs_are_clamped_and_followed() {
    let start = Instant::now();
    let mut controller = Controller::new(start);
    controller.set_wanted(2e6);
    let mut now = start + ms(1_000);
    (0..10).for_each(|_| send(&mut controller, 1_250, Purpose::Media, start));
    controller.on_remb(u64::MAX, None, None, now);
    assert!(!controller.is_informed(), "it may be about little that came");
    controller.on_remb(u64::MAX, Some(u64::MAX), None, now);
    assert_eq!((controller.estimate(), controller.is_informed()), (MAX_BPS, false));
    let mut before = Some(u64::MAX);
    for round in 0..60 {
        for _ in 0..40 {
            now += ms(25);
            send(&mut controller, 1_250, Purpose::Media, now);
        }
        let remb = if round < 30 { 300_000 } else { 900_000 };
        controller.on_remb(remb, before.replace(remb), None, now);
        if round == 29 {
            assert_eq!(controller.estimate(), 300_000.0, "400 kbit/s are sent: the receiver is at its end");
        }
    }
    assert!((900_000.0..=2e6).contains(&controller.estimate()), "{}", controller.estimate());
    controller.on_remb(0, before, None, now);
    assert_eq!(controller.estimate(), MIN_BPS);
}

#[test]
fn reports_of_loss_lower_it_where_there_is_nothing_better() {
    let start = Instant::now();
    let mut controller = Controller::new(start);
    controller.set_wanted(1e6);
    for n in 0..30 {
        controller.on_report(0.0, start + ms(1_000 * n));
    }
    assert!((0.95e6..=1e6).contains(&controller.estimate()), "up to what is wanted: {}", controller.estimate());
    for n in 30..35 {
        controller.on_report(0.5, start + ms(1_000 * n));
        controller.on_report(0.5, start + ms(1_000 * n + 1));
    }
    assert!((0.2e6..0.3e6).contains(&controller.estimate()), "a quarter each second: {}", controller.estimate());
    controller.on_remb(2_000_000, Some(2_000_000), None, start + ms(36_000));
    controller.on_report(0.0, start + ms(37_000));
    assert_eq!(controller.estimate(), 2e6);
    controller.on_report(0.5, start + ms(38_000));
    assert_eq!(controller.estimate(), 1.5e6, "it knows nothing of losses");
}

#[test]
fn the_history_grows_with_what_is_in_flight_and_forgets_the_oldest() {
    let mut history = History::new();
    (0..10_000).for_each(|n| history.push(1_000, Purpose::Media, 0, n));
    assert_eq!(history.len(), 256, "nothing was ever heard");
    let mut history = History::new();
    let mut now = 0;
    for _ in 0..1_000 {
        now += 1_000;
        let seq = history.next() as u16;
        history.push(1_000, Purpose::Media, 0, now);
        assert!(history.told(seq, true, now).is_some(), "acknowledged at once");
        assert!(history.told(seq, true, now).is_none(), "and once");
    }
    assert_eq!(history.len(), 32, "nothing is in flight");
    let first = history.next() as u16;
    for _ in 0..100_000 {
        now += 100;
        history.push(1_000, Purpose::Media, 0, now);
    }
    assert_eq!(history.len(), SENT_MAX);
    assert!(history.told(first, true, now).is_none(), "it is forgotten");
    let last = (history.next() - 1) as u16;
    assert!(history.told(last.wrapping_add(1), true, now).is_none(), "it was never sent");
    let (_, missing) = history.told(last, false, now).unwrap();
    assert!(!missing.corrected && missing.at == now && missing.bytes == 1_000);
    assert!(history.told(last, true, now).unwrap().1.corrected);
}

#[test]
fn a_frame_within_its_share_leaves_at_once_and_a_keyframe_is_spread() {
    let start = Instant::now();
    let leaves = |bytes: usize| {
        let mut pacer = Pacer::new(1e6, start);
        let mut now = start;
        for _ in 0..bytes / 1_000 {
            if pacer.left(now) == 0 {
                assert!(pacer.ready_at() > now);
                now = pacer.ready_at();
                assert!(pacer.left(now) > 0);
            }
            pacer.spend(1_000, now);
        }
        now - start
    };
    let pacer = Pacer::new(1e6, start);
    assert_eq!(pacer.left(start), 6_251, "20 ms of 2.5 Mbit/s, and a packet more");
    // A frame's share is 1 Mbit/s / 30 = 4.2 kB.
    assert_eq!(leaves(6_000), ms(0));
    let keyframe = leaves(50_000);
    assert!((ms(120)..ms(150)).contains(&keyframe), "{keyframe:?}");
}

#[test]
fn an_allowance_holds_in_every_stretch_of_time() {
    let start = Instant::now();
    let mut allowance = Allowance::new(80_000.0, ms(500), start);
    let mut spent = 0;
    for us in (0..10_000_000u64).step_by(700) {
        let now = start + Duration::from_micros(us);
        if allowance.has_some(now) {
            allowance.spend(1_000, now);
            spent += 1_000;
        }
    }
    assert!((100_000..=107_000).contains(&spent), "10 s of 10 kB, half a second and one packet ahead: {spent}");
}

/// A receiver that is away for 200 ms of each 500: what it then reads at once shows no queue, and what waits longer and longer
/// while it is there shows one.
#[test]
fn a_heap_is_no_queue_and_behind_one_a_queue_is_still_seen() {
    const MS: u64 = 1_000;
    let mut delay = Delay::new();
    delay.set_estimate(1e6);
    let mut last = 0;
    for sent in (0..10_000 * MS).step_by(10_000) {
        let came = (sent + 20 * MS) as i64;
        let back = came - came.rem_euclid(500_000) + 200_000;
        last = came.max(back).max(last + 100);
        delay.on_arrival(sent, last, 1_000);
        assert_ne!(delay.usage(), Usage::Over, "after {sent} us");
        assert!(delay.queue_ms().is_none_or(|queue| queue < 15.0), "{:?} after {sent} us", delay.queue_ms());
    }
    assert!(delay.heaped());
    let overused = (10_000 * MS..11_000 * MS).step_by(10_000).find(|sent| {
        let queue = (sent - 10_000 * MS) / 3;
        delay.on_arrival(*sent, (sent + 20 * MS + queue) as i64, 1_000);
        delay.usage() == Usage::Over
    });
    assert!(overused.is_some_and(|sent| sent < 10_400 * MS), "{overused:?}");
}
