//! Sender reports that keep what is published together together, and receiver reports that tell what was lost.

use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{Config as Cases, TestRunner};
use sfu::{Kind, rtcp};

use crate::tab::vp8;
use crate::world::World;

const BOTH: [Kind; 2] = [Kind::Audio, Kind::Video];
const HZ: [u64; 2] = [48_000, 90_000];

/// Sender reports of the other's streams, as (SSRC, NTP, timestamp, packets).
fn sender_reports(world: &World, tab: usize) -> Vec<(u32, u64, u32, u32)> {
    let mut reports = Vec::new();
    for compound in &world.tabs[tab].rtcp {
        for packet in rtcp::parse(compound) {
            if let rtcp::Packet::SenderReport { ssrc, ntp, rtp_timestamp, packets, .. } = packet {
                reports.push((ssrc, ntp, rtp_timestamp, packets));
            }
        }
    }
    reports
}

/// Whatever clocks a publisher has, and wherever its timestamps stand: at one moment of its wall clock the subscriber's
/// timestamps of audio and video stand for what was captured at that moment.
#[test]
fn sound_and_picture_stay_together() {
    let mut runner = TestRunner::new(Cases { cases: 12, ..Cases::default() });
    let strategy = (any::<u64>(), any::<[u32; 2]>(), 0u64..3_000, 0u64..900);
    runner
        .run(&strategy, |(ntp, timestamps, pause, later)| {
            let mut world = World::call(2, &BOTH);
            for (source, timestamp) in timestamps.into_iter().enumerate() {
                world.tabs[0].sources[source].timestamp = timestamp;
            }
            // The publisher's reports come at different moments; each says what its clocks were then.
            let began = world.now.mono;
            for (source, hz) in HZ.into_iter().enumerate() {
                let payload = if source == 0 { vec![1; 40] } else { vp8(true, 1, 40) };
                world.media(0, source, 0, &payload);
                world.settle();
                let elapsed = (world.now.mono - began).as_micros() as u64;
                let at = world.tabs[0].sources[source];
                let mut report = Vec::new();
                let since = ntp.wrapping_add(((u128::from(elapsed) << 32) / 1_000_000) as u64);
                let timestamp = at.timestamp.wrapping_add((elapsed * hz / 1_000_000) as u32);
                rtcp::write_sender_report(at.ssrc, since, timestamp, 1, 40, &[], &mut report);
                world.rtcp(0, report);
                world.run_ms(later);
            }
            world.tabs[1].rtcp.clear();
            world.run_ms(1_100 + pause);
            let first: Vec<(u32, u32)> = world.tabs[1].got.iter().map(|got| (got.ssrc, got.timestamp)).collect();
            let reports = sender_reports(&world, 1);
            prop_assert!(reports.len() >= 2);
            for (ssrc, ntp_then, timestamp, packets) in reports {
                prop_assert_eq!(packets, 1);
                let (source, (_, start)) = first.iter().enumerate().find(|(_, f)| f.0 == ssrc).unwrap();
                let passed = (u128::from(ntp_then.wrapping_sub(ntp)) * u128::from(HZ[source])) >> 32;
                let ticks = u128::from(timestamp.wrapping_sub(*start));
                prop_assert!(
                    passed.abs_diff(ticks) <= 3,
                    "source {}: {} ticks by NTP, {} by RTP",
                    source,
                    passed,
                    ticks
                );
            }
            Ok(())
        })
        .unwrap();
}

#[test]
fn all_of_one_participant_has_one_cname() {
    let mut world = World::call(2, &BOTH);
    world.assert_media(0, 1);
    for source in world.tabs[0].sources.clone() {
        let mut report = Vec::new();
        rtcp::write_sender_report(source.ssrc, 1 << 40, 7, 1, 40, &[], &mut report);
        world.rtcp(0, report);
    }
    world.run_ms(1_100);
    let mut names = Vec::new();
    for compound in &world.tabs[1].rtcp {
        for packet in rtcp::parse(compound) {
            if let rtcp::Packet::Sdes(Some((ssrc, name))) = packet {
                names.push((ssrc, name.to_owned()));
            }
        }
    }
    names.sort();
    names.dedup();
    assert_eq!(names.iter().map(|(_, name)| name.as_str()).collect::<Vec<_>>(), ["pa_0", "pa_0"]);
}

#[test]
fn no_report_is_made_of_a_stream_without_a_clock() {
    let mut world = World::call(2, &BOTH);
    world.assert_media(0, 1);
    world.run_ms(3_000);
    assert_eq!(sender_reports(&world, 1), []);
}

#[test]
fn a_publisher_is_told_what_was_lost() {
    let mut world = World::call(2, &[Kind::Audio]);
    world.media(0, 0, 960, &[1; 40]);
    world.run_ms(1_100);
    world.tabs[0].rtcp.clear();
    let ssrc = world.tabs[0].sources[0].ssrc;
    let mut report = Vec::new();
    rtcp::write_sender_report(ssrc, 0x1234_5678_9abc_def0, 7, 1, 40, &[], &mut report);
    world.rtcp(0, report);
    for n in 0..40 {
        let packet = world.tabs[0].rtp(0, 960, &[1; 40]);
        if n % 4 != 3 {
            world.send(0, packet);
        }
        world.run_ms(5);
    }
    world.media(0, 0, 960, &[1; 40]);
    world.run_ms(1_000);
    let highest = world.tabs[0].sources[0].index;
    let mut blocks = Vec::new();
    for compound in &world.tabs[0].rtcp {
        for packet in rtcp::parse(compound) {
            if let rtcp::Packet::ReceiverReport { reports, .. } = packet {
                blocks.extend(reports);
            }
        }
    }
    let block = blocks.iter().find(|b| b.fraction_lost > 0).unwrap();
    assert_eq!((block.ssrc, block.cumulative_lost), (ssrc, 10));
    assert_eq!(block.extended_highest_sequence, highest as u32 & 0xffff);
    assert_eq!(u32::from(block.fraction_lost), 10 * 256 / 41);
    assert_eq!(block.last_sender_report, 0x5678_9abc);
    assert!(block.delay_since_last_sender_report < 65_536 * 2);
}

/// We read packets of 100 ms at once, as on a machine that is short of time: a publisher who took that for a queue would send
/// less.
#[test]
fn what_lay_unread_is_told_of_by_when_it_came() {
    let mut world = World::call(2, &[Kind::Audio]);
    for _ in 0..10 {
        world.run_ms(100);
        for waited in [80, 60, 40, 20, 0] {
            let packet = world.tabs[0].rtp(0, 960, &[1; 40]);
            world.send_late(0, packet, Duration::from_millis(waited));
        }
    }
    world.run_ms(1_100);
    let (mut deltas, mut jitters) = (Vec::new(), Vec::new());
    for packet in world.tabs[0].rtcp.iter().flat_map(|compound| rtcp::parse(compound)) {
        match packet {
            // What the first counts from is 64 ms wide.
            rtcp::Packet::TransportFeedback(feedback) => {
                deltas.extend(feedback.statuses().skip(1).map(|(_, delta)| delta));
            }
            rtcp::Packet::ReceiverReport { reports, .. } => jitters.extend(reports.map(|block| block.jitter)),
            _ => {}
        }
    }
    assert!(deltas.len() >= 30 && deltas.iter().all(|delta| *delta == Some(80)), "in 250 us: {deltas:?}");
    assert!(!jitters.is_empty() && jitters.iter().all(|jitter| *jitter == 0), "{jitters:?}");
}
