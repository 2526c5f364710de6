//! What leaves towards a subscriber behind a slow path: probes, pacing, and audio that never waits.

use std::time::{Duration, Instant};

use sfu::twcc::Recorder;
use sfu::{Kind, rtcp};

use crate::tab::{OPUS, VP8, VP8_RTX, vp8};
use crate::world::World;

const BOTH: [Kind; 2] = [Kind::Audio, Kind::Video];

/// A publisher (tab 0), a subscriber (tab 1) that tells of arrivals, and the slow path between it and the SFU.
struct Call {
    world: World,
    bps: f64,
    busy_until: Instant,
    recorder: Recorder,
    transport_cc: u8,
    /// Packets that the subscriber will get: when, and their transport-wide number.
    flying: Vec<(Instant, u16)>,
    seen: usize,
    /// Each packet that left: when, payload type, payload bytes.
    left: Vec<(Instant, u8, usize)>,
    ms: u64,
}

impl Call {
    fn new(bps: f64) -> Call {
        let world = World::call(2, &BOTH);
        let attributes = world.tabs[1].lines.iter().flat_map(|line| &line.attributes);
        let mut numbered = attributes.filter_map(|line| line.strip_prefix("a=extmap:")?.split_once(' '));
        let (id, _) = numbered.rfind(|(_, uri)| uri.contains("transport-wide-cc")).unwrap();
        Call {
            bps,
            busy_until: world.now.mono,
            recorder: Recorder::new(),
            transport_cc: id.parse().unwrap(),
            flying: Vec::new(),
            seen: world.tabs[1].got.len(),
            left: Vec::new(),
            ms: 0,
            world,
        }
    }

    /// A millisecond: audio every 20, a frame of three packets every 33, feedback every 50.
    fn step(&mut self) {
        self.ms += 1;
        if self.ms.is_multiple_of(20) {
            self.world.media(0, 0, 960, &[0x78; 80]);
        }
        if self.ms.is_multiple_of(33) {
            for n in 0..3 {
                self.world.media(0, 1, if n == 0 { 2_970 } else { 0 }, &vp8(self.ms == 33 && n == 0, 1, 1_100));
            }
        }
        self.world.run_ms(1);
        let now = self.world.now.mono;
        let got: Vec<_> = self.world.tabs[1].got[self.seen..].to_vec();
        self.seen += got.len();
        for got in got {
            self.left.push((now, got.payload_type, got.payload.len()));
            let padding = if got.payload.is_empty() { 252 } else { 0 };
            let seconds = (got.payload.len() + padding + 60) as f64 * 8.0 / self.bps;
            self.busy_until = self.busy_until.max(now) + Duration::from_secs_f64(seconds);
            let seq = got.extensions.iter().find(|(id, _)| *id == self.transport_cc).unwrap();
            self.flying.push((self.busy_until, u16::from_be_bytes(seq.1[..].try_into().unwrap())));
        }
        if self.ms.is_multiple_of(50) {
            self.tell();
        }
    }

    fn tell(&mut self) {
        let now = self.world.now.mono;
        let arrived = self.flying.partition_point(|(at, _)| *at <= now);
        for (at, seq) in self.flying.drain(..arrived) {
            self.recorder.record(seq, at);
        }
        let mut feedback = Vec::new();
        while self.recorder.write_feedback(1, 2, &mut feedback) {}
        if !feedback.is_empty() {
            self.world.rtcp(1, feedback);
        }
    }

    fn run(&mut self, ms: u64) {
        (0..ms).for_each(|_| self.step());
    }

    /// Asks again for the last three packets of video, and says how many come.
    fn resent(&mut self) -> usize {
        let video: Vec<_> = self.world.tabs[1].got.iter().rev().filter(|got| got.payload_type == VP8).take(3).collect();
        let mut nack = Vec::new();
        rtcp::write_nack(1, video[0].ssrc, video.iter().rev().map(|got| got.seq), &mut nack);
        self.world.rtcp(1, nack);
        let from = self.left.len();
        self.run(100);
        self.of(VP8_RTX, from).iter().filter(|(_, len)| *len > 1_000).count()
    }

    fn of(&self, payload_type: u8, from: usize) -> Vec<(Instant, usize)> {
        let of = self.left[from..].iter().filter(|(_, pt, _)| *pt == payload_type);
        of.map(|(at, _, len)| (*at, *len)).collect()
    }
}

#[test]
fn a_slow_path_is_probed_a_keyframe_is_spread_and_audio_goes_between() {
    let mut call = Call::new(1.2e6);
    call.run(8_000);
    let padding = call.of(VP8_RTX, 0).len();
    assert!(padding > 10, "{padding} packets of padding");
    assert!(padding < 200, "probes are short: {padding} packets of padding in 8 s");
    assert!(call.busy_until < call.world.now.mono + Duration::from_millis(60), "and leave no queue");

    let from = call.left.len();
    let began = call.world.now.mono;
    for n in 0..60 {
        call.world.media(0, 1, if n == 0 { 3_000 } else { 0 }, &vp8(n == 0, 1, 1_100));
    }
    call.run(400);
    let keyframe: Vec<_> = call.of(VP8, from).into_iter().take(60).collect();
    let last = keyframe.last().unwrap().0 - began;
    assert_eq!(keyframe.len(), 60, "all of it leaves");
    assert!((80..300).contains(&last.as_millis()), "spread over {last:?}");
    let at_once = keyframe.iter().filter(|(at, _)| *at <= began + Duration::from_millis(1)).count();
    assert!((2..20).contains(&at_once), "{at_once} packets at once");
    let between = call.of(OPUS, from).iter().filter(|(at, _)| *at < began + last).count() as u64;
    assert!(between >= last.as_millis() as u64 / 20 - 1, "{between} audio packets meanwhile");
}

#[test]
fn a_path_that_narrows_is_not_filled() {
    let mut call = Call::new(2e6);
    call.run(5_000);
    // The publisher goes on to send 800 kbit/s.
    call.bps = 0.2e6;
    call.run(4_000);
    let from = call.left.len();
    let mut queue = Duration::ZERO;
    for _ in 0..2_000 {
        call.step();
        queue = queue.max(call.busy_until.saturating_duration_since(call.world.now.mono));
    }
    assert_eq!(call.of(OPUS, from).len(), 100, "audio never waits");
    assert!(queue < Duration::from_millis(400), "for anything but the path: {queue:?}");
}

/// The listener asks for what a full queue lost, and would hear nothing for as long as that fills the queue again.
#[test]
fn nothing_is_resent_of_a_picture_that_was_paused_for_a_queue() {
    let mut call = Call::new(2e6);
    call.run(5_000);
    assert_eq!(call.resent(), 3);
    call.bps = 0.1e6;
    let paused = (0..40).any(|_| {
        let from = call.left.len();
        call.run(100);
        call.of(VP8, from).is_empty()
    });
    assert!(paused);
    assert_eq!(call.resent(), 0);
}

#[test]
fn a_frame_of_usual_size_leaves_at_once() {
    let mut call = Call::new(4e6);
    call.run(3_000);
    let from = call.left.len();
    let began = call.world.now.mono;
    for _ in 0..6 {
        call.world.media(0, 1, 0, &vp8(false, 1, 1_100));
    }
    call.run(1);
    assert_eq!(call.of(VP8, from).iter().filter(|(at, _)| *at <= began + Duration::from_millis(1)).count(), 6);
}

/// Who tells nothing is neither probed nor paced: nothing could be learned from it.
#[test]
fn who_tells_nothing_is_sent_what_comes() {
    let mut call = Call::new(1e6);
    for _ in 0..100 {
        call.flying.clear();
        call.ms = call.ms / 50 * 50;
        call.run(49);
    }
    assert_eq!(call.of(VP8_RTX, 0).len(), 0);
    let from = call.left.len();
    for _ in 0..60 {
        call.world.media(0, 1, 0, &vp8(false, 1, 1_100));
    }
    call.run(1);
    assert_eq!(call.of(VP8, from).len(), 60);
}

#[test]
fn receivers_estimates_and_reports_of_any_value_are_survived() {
    let mut call = Call::new(1e6);
    for bitrate in [0, 1, u64::MAX, 1 << 50, 300_000] {
        let mut out = Vec::new();
        rtcp::write_remb(1, bitrate, &[], &mut out);
        call.world.rtcp(1, out);
        call.flying.clear();
        call.ms = 0;
        call.run(49);
    }
    let mut out = Vec::new();
    rtcp::write_remb(1, 10_000_000, &[], &mut out);
    call.world.rtcp(1, out);
    for _ in 0..100 {
        (call.flying, call.ms) = (Vec::new(), 0);
        call.run(49);
    }
    call.world.assert_media(0, 1);
}
