//! What is measured of real handshakes and packets: samples, verdicts, and who is blamed.

use std::time::Duration;

use sfu::rtcp::{self, Packet, ReportBlock};
use sfu::twcc::Recorder;
use sfu::{Cause, Kind, PathKind, Sample};

use crate::tab::vp8;
use crate::world::World;

const AUDIO: [Kind; 1] = [Kind::Audio];
const PACKET: Duration = Duration::from_millis(20);

/// Seconds of audio from tab 0, of which each `lose`th packet does not arrive.
fn talk(world: &mut World, seconds: u32, lose: u32) {
    for n in 0..seconds * 50 {
        let packet = world.tabs[0].rtp(0, 960, &[1; 100]);
        if lose == 0 || n % lose != 0 {
            world.send(0, packet);
        }
        world.run(PACKET);
    }
}

fn last_sample(world: &World, tab: usize) -> Sample {
    world.samples.iter().rfind(|(of, _)| *of == tab).expect("a sample").1
}

#[test]
fn a_good_call_is_sampled_every_five_seconds_and_gives_no_cause_for_a_verdict() {
    let mut world = World::call(2, &AUDIO);
    world.samples.clear();
    talk(&mut world, 31, 0);
    for tab in 0..2 {
        let samples = world.samples.iter().filter(|(of, _)| *of == tab).count();
        assert!((6..=7).contains(&samples), "{samples} samples of tab {tab}");
    }
    let (speaker, listener) = (last_sample(&world, 0), last_sample(&world, 1));
    assert!((48..=52).contains(&speaker.up.pps) && (48..=52).contains(&listener.down.pps), "{speaker:?} {listener:?}");
    assert!((44_000..60_000).contains(&speaker.up.bps), "{speaker:?}");
    assert_eq!((speaker.up.loss_ppm, speaker.up.freezes, speaker.path), (0, 0, PathKind::Udp));
    assert_eq!((speaker.down, listener.up), (Default::default(), Default::default()), "they do neither");
    assert_eq!(world.verdicts, []);
}

#[test]
fn loss_on_the_way_to_us_is_the_speakers_and_no_one_elses() {
    let mut world = World::call(2, &AUDIO);
    talk(&mut world, 20, 8);
    let sample = last_sample(&world, 0);
    assert!((110_000..140_000).contains(&sample.up.loss_ppm), "{sample:?}");
    assert_eq!(last_sample(&world, 1).down.loss_ppm, 0, "he has not reported any");
    assert!(world.verdicts.iter().all(|(tab, _, cause)| *tab == 0 && *cause == Some(Cause::Uplink)));
    assert_eq!(world.verdicts.last(), Some(&(0, 2, Some(Cause::Uplink))));
    talk(&mut world, 20, 0);
    assert_eq!(world.verdicts.last(), Some(&(0, 4, None)), "it is good again");
    assert!(world.verdicts.len() <= 6, "{:?}", world.verdicts);
}

/// The SSRC and the NTP time of the last sender report that a tab got.
fn last_told(world: &World, tab: usize) -> Option<(u32, u64)> {
    let packets = world.tabs[tab].rtcp.iter().flat_map(|compound| rtcp::parse(compound));
    packets
        .filter_map(|packet| match packet {
            Packet::SenderReport { ssrc, ntp, .. } => Some((ssrc, ntp)),
            _ => None,
        })
        .last()
}

#[test]
fn a_listener_tells_its_loss_jitter_and_round_trip() {
    let mut world = World::call(2, &AUDIO);
    talk(&mut world, 1, 0);
    let mut report = Vec::new();
    let ssrc = world.tabs[0].sources[0].ssrc;
    rtcp::write_sender_report(ssrc, 0xdead_beef_0000_0000, 0, 1, 40, &[], &mut report);
    world.rtcp(0, report);
    for second in 0..15u32 {
        talk(&mut world, 1, 0);
        let (ssrc, ntp) = last_told(&world, 1).expect("we report every second");
        world.tabs[1].rtcp.clear();
        // It kept our report for 100 of the 250 ms since it came: that leaves a round trip of 150 ms. Yet more may have
        // passed since our report left, because reports are a second apart and this is written at any moment in between.
        let block = ReportBlock {
            ssrc,
            extended_highest_sequence: 1_000 + second * 50,
            cumulative_lost: (second * 5) as i32,
            jitter: 480,
            last_sender_report: (ntp >> 16) as u32,
            ..ReportBlock::default()
        };
        let mut report = Vec::new();
        rtcp::write_receiver_report(9, &[block], &mut report);
        world.rtcp(1, report);
    }
    let sample = last_sample(&world, 1);
    assert!((80_000..120_000).contains(&sample.down.loss_ppm), "{sample:?}");
    assert_eq!(sample.down.jitter_us, 10_000);
    let rtt = sample.rtt_us.expect("it was told");
    assert!(rtt < 1_000_000, "{rtt} µs: at most what lies between two reports");
    assert!(world.verdicts.iter().all(|(tab, _, cause)| *tab == 1 && *cause == Some(Cause::Downlink)));
    assert_eq!(world.verdicts.last(), Some(&(1, 2, Some(Cause::Downlink))));
}

#[test]
fn one_who_is_not_heard_any_more_is_lost_and_comes_back() {
    let mut world = World::call(2, &AUDIO);
    world.tabs[1].checks = false;
    world.run(Duration::from_secs(12));
    assert_eq!(world.verdicts, [(1, 0, Some(Cause::Uplink))]);
    world.tabs[1].checks = true;
    world.run(Duration::from_secs(4));
    assert_eq!(world.verdicts[1..], [(1, 4, None)]);
}

/// RFC 7675 §5.1: nothing is sent to one who has not asked for it for so long.
#[test]
fn nothing_is_sent_without_consent() {
    let mut world = World::call(2, &AUDIO);
    world.tabs[1].checks = false;
    world.run(Duration::from_secs(31));
    world.tabs[1].got.clear();
    talk(&mut world, 5, 0);
    assert_eq!(world.tabs[1].got.len(), 0);
    world.tabs[1].checks = true;
    world.run(Duration::from_secs(1));
    world.assert_media(0, 1);
}

/// One whose descriptions take their time has been here a while when its first packets are told of.
#[test]
fn whoever_joins_over_slow_signaling_is_judged_by_its_media_alone() {
    let mut world = World::new();
    world.signaling = Duration::from_millis(150);
    let (mut arrivals, mut seen) = ([Recorder::new(), Recorder::new()], [0; 2]);
    for tab in 0..2 {
        world.join(1, &[Kind::Audio, Kind::Video]);
        for n in 0..150 {
            for sender in 0..=tab {
                if world.tabs[sender].is_connected() {
                    world.media(sender, 0, 960, &[0x78; 80]);
                    for packet in 0..4 {
                        let ticks = if packet == 0 { 1_800 } else { 0 };
                        world.media(sender, 1, ticks, &vp8(n % 50 == 0 && packet == 0, 1, 1_100));
                    }
                }
            }
            world.run(PACKET);
            for listener in 0..=tab {
                tell_arrivals(&mut world, listener, &mut arrivals[listener], &mut seen[listener]);
            }
        }
    }
    assert!(seen[0].min(seen[1]) > 400, "they see each other: {seen:?}");
    assert_eq!(world.verdicts, []);
}

/// Sends feedback on what a tab got since the last time.
fn tell_arrivals(world: &mut World, tab: usize, arrivals: &mut Recorder, seen: &mut usize) {
    let attributes = world.tabs[tab].lines.iter().flat_map(|line| &line.attributes);
    let mut numbered = attributes.filter_map(|line| line.strip_prefix("a=extmap:")?.split_once(' '));
    let Some((id, _)) = numbered.rfind(|(_, uri)| uri.contains("transport-wide-cc")) else { return };
    let id: u8 = id.parse().expect("a number");
    for got in &world.tabs[tab].got[*seen..] {
        if let Some((_, seq)) = got.extensions.iter().find(|(of, _)| *of == id) {
            arrivals.record(u16::from_be_bytes(seq[..].try_into().expect("two bytes")), world.now.mono);
        }
    }
    *seen = world.tabs[tab].got.len();
    let mut feedback = Vec::new();
    while arrivals.write_feedback(1, 2, &mut feedback) {}
    if !feedback.is_empty() {
        world.rtcp(tab, feedback);
    }
}
