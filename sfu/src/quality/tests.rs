//! Verdicts: what they come from, whom they blame, and that they do not flicker.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::ConnectionId;

const SECOND: Duration = Duration::from_secs(1);

fn block(highest: u32, lost: i32) -> ReportBlock {
    ReportBlock { extended_highest_sequence: highest, cumulative_lost: lost, ..ReportBlock::default() }
}

/// A subscriber that reports this loss for as long as it takes.
fn after_loss(percent: u32) -> Quality {
    let now = Instant::now();
    let (mut quality, mut heard) = (Quality::new(now), Heard::default());
    for n in 0..50 {
        quality.note_report(&mut heard, &block(n * 100, (n * percent) as i32), 48_000);
    }
    quality
}

#[test]
fn loss_has_its_class_and_its_cause() {
    for (percent, score) in [(0, 4), (1, 4), (3, 4), (5, 3), (10, 2), (20, 1), (60, 1)] {
        let quality = after_loss(percent);
        let cause = (score < 4).then_some(Cause::Downlink);
        assert_eq!(quality.verdict_now(Link::default(), Instant::now()), (score, cause), "{percent} % lost");
    }
    let mut quality = Quality::new(Instant::now());
    for _ in 0..50 {
        quality.up.note_loss(50, 5);
    }
    assert_eq!(quality.verdict_now(Link::default(), Instant::now()), (2, Some(Cause::Uplink)));
}

#[test]
fn delay_has_its_class_and_its_cause() {
    let now = Instant::now();
    for (rtt_ms, score) in [(20, 4), (150, 4), (300, 4), (500, 3), (800, 1)] {
        let link = Link { rtt: Some(Duration::from_millis(rtt_ms)), ..Link::default() };
        assert_eq!(Quality::new(now).verdict_now(link, now).0, score, "{rtt_ms} ms there and back");
    }
    let mut quality = Quality::new(now);
    for _ in 0..50 {
        quality.up.note_jitter(100_000);
    }
    assert_eq!(quality.verdict_now(Link::default(), now), (3, Some(Cause::Uplink)));
}

#[test]
fn whatever_else_is_bad_is_named() {
    let now = Instant::now();
    let verdict = |quality: &Quality, link: Link| quality.verdict_now(link, now);
    let fine = Quality::new(now);
    assert_eq!(verdict(&fine, Link { paused: 1, ..Link::default() }), (3, Some(Cause::Downlink)));
    assert_eq!(verdict(&fine, Link { estimate_bps: Some(50_000), ..Link::default() }), (2, Some(Cause::Downlink)));
    assert_eq!(verdict(&fine, Link { silence: SILENT_MAX * 2, ..Link::default() }), (0, Some(Cause::Uplink)));
    let mut server = Quality::new(now);
    server.note_late(Duration::from_millis(10), now);
    assert_eq!(verdict(&server, Link::default()), (4, None), "as late as timers are");
    server.note_late(Duration::from_millis(200), now);
    assert_eq!(verdict(&server, Link::default()), (2, Some(Cause::Server)));
    assert_eq!(server.verdict_now(Link::default(), now + REMEMBERED), (4, None), "it is over");
    let remote = ([10, 0, 0, 1], 1).into();
    let link = Link { path: Some(Path::Tcp { connection: ConnectionId(1), remote }), ..Link::default() };
    assert_eq!(verdict(&after_loss(10), link), (2, Some(Cause::Relay)));
    assert_eq!(verdict(&fine, link), (4, None), "TCP alone is no fault");
}

#[test]
fn a_freeze_is_counted_once_and_soon_forgiven() {
    let now = Instant::now();
    let mut quality = Quality::new(now);
    for ms in [0, 300, 900] {
        quality.note_freeze(now + Duration::from_millis(ms));
    }
    assert_eq!(quality.verdict_now(Link::default(), now + SECOND), (3, Some(Cause::Downlink)));
    assert_eq!(quality.verdict_now(Link::default(), now + REMEMBERED + SECOND), (4, None));
    let sample = quality.sample(Link::default(), now + SAMPLE_INTERVAL).expect("it is time");
    assert_eq!((sample.down.freezes, sample.up.freezes), (1, 0));
}

/// Loss that wavers about the bound of a class: few changes, none soon after another, none that says nothing new.
#[test]
fn verdicts_do_not_flicker() {
    for seed in 0..50 {
        let mut rng = StdRng::seed_from_u64(seed);
        let start = Instant::now();
        let (mut quality, mut told) = (Quality::new(start), vec![(start, (4, None))]);
        for second in 1..=600 {
            let now = start + SECOND * second;
            let lost = (0..50).filter(|_| rng.random_ratio(4, 100)).count() as u64;
            quality.up.note_loss(50, lost);
            if let Some(verdict) = quality.judge(Link::default(), now) {
                let (before, last) = told[told.len() - 1];
                assert!(verdict != last && (told.len() == 1 || now - before >= STANDS_MIN));
                told.push((now, verdict));
            }
        }
        assert!(told.len() <= 40, "seed {seed}: {} changes in ten minutes at the bound of 4 and 3", told.len() - 1);
    }
}

#[test]
fn reports_are_held_against_the_ones_before() {
    let mut heard = Heard::default();
    assert_eq!(heard.since(&block(1_000, 10)), (0, 0), "the first tells of a time unknown");
    assert_eq!(heard.since(&block(1_100, 15)), (100, 5));
    assert_eq!(heard.since(&block(1_200, 12)), (100, 0), "duplicates make loss smaller");
    assert_eq!(heard.since(&block(1_200, i32::MAX)), (0, i32::MAX as u64 - 12));
    assert_eq!(heard.since(&block(5, 0)), (0, 0), "another stream");
    assert_eq!(heard.since(&block(u32::MAX, i32::MIN)), (0, 0));
    assert_eq!(heard.since(&block(9, i32::MAX)), (10, i32::MAX as u64), "numbers wrap");
    let now = Instant::now();
    let mut quality = Quality::new(now);
    for n in 0..1_000u32 {
        let lie = ReportBlock { jitter: u32::MAX, ..block(n.wrapping_mul(0x9e37_79b9), (n as i32) << 20) };
        quality.note_report(&mut heard, &lie, 90_000);
    }
    assert!((0.0..=1.0).contains(&quality.down.loss) && quality.down.jitter_ms.is_finite());
    assert_eq!(quality.verdict_now(Link::default(), now).0, 1);
}

#[test]
fn a_sample_tells_rates_and_begins_anew() {
    let now = Instant::now();
    let mut quality = Quality::new(now);
    for _ in 0..500 {
        quality.note_in(1_000);
    }
    quality.note_out(60_000, 50);
    quality.up.note_loss(500, 25);
    assert!(quality.sample(Link::default(), now + SECOND * 4).is_none(), "it is not time");
    let sample = quality.sample(Link::default(), now + SECOND * 5).expect("it is time");
    assert_eq!((sample.up.bps, sample.up.pps, sample.up.loss_ppm), (800_000, 100, 50_000));
    assert_eq!((sample.down.bps, sample.down.pps, sample.down.loss_ppm), (96_000, 10, 0));
    let empty = quality.sample(Link::default(), now + SECOND * 10).expect("it is time");
    assert_eq!(empty, Sample::default());
}
