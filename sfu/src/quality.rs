//! How good each peer's connection is: facts for whoever keeps them ([`Event::Sample`]), and a verdict from 0 to 4 with its
//! cause for people ([`Event::Quality`]).
//!
//! The verdict follows the E-model (ITU-T G.107) in its short form for voice over IP (Cole and Rosenbluth, "Voice over IP
//! performance monitoring", 2001): a rating `R = 93.2 − Id − Ie`, with `Id = 0.024 d + 0.11 (d − 177.3)⁺` for a delay of `d`
//! milliseconds from mouth to ear, and `Ie = 95 P ÷ (P + 25)` for `P` percent of lost packets (G.113 appendix I: 25 is the
//! robustness of a codec that conceals). It is reckoned for each direction; pictures that froze or had to be paused and packets
//! that we sent late or dropped cost a fixed amount each. The worst of uplink, downlink and server is the verdict and its
//! cause; on a path that is not UDP the path is to blame. G.107 annex B names the classes: from 80 on users are satisfied (4),
//! from 70 some are not (3), from 60 many are not (2), below that nearly all (1). 0 is a client that is not heard any more.

use std::time::{Duration, Instant};

use crate::peer::Peer;
use crate::rtcp::ReportBlock;
use crate::track::Reception;
use crate::{Cause, Event, Flow, Now, Path, PathKind, Pause, SAMPLE_INTERVAL, Sample, Sfu};

/// How often the connection is judged, together with the reports that go out.
pub(crate) const JUDGE_INTERVAL: Duration = crate::peer::REPORT_INTERVAL;
/// Samples and verdicts are left out while so much waits for signaling: both are told anew, and what cannot wait must not
/// stand behind them.
const OUTPUTS_WAIT_MAX: usize = 4_096;
/// A verdict stands for so long at least.
const STANDS_MIN: Duration = Duration::from_secs(2);
/// A better class needs so much more rating than its bound, so that a verdict at a bound does not flicker.
const HYSTERESIS: f32 = 4.0;
/// Without a valid check for so long the client is not heard any more: clients check every 2.5 to 6 s.
const SILENT_MAX: Duration = Duration::from_secs(8);
/// Loss is averaged over about so many packets: five seconds of audio. Lower flickers, higher is late.
const LOSS_PACKETS: f32 = 250.0;
/// Delays are averaged over about so many judgements or reports.
const DELAY_WEIGHT: f32 = 0.25;
/// For so long a freeze, or packets that we dropped or sent late, count.
const REMEMBERED: Duration = Duration::from_secs(5);
/// A gap in video that is not repaired within this time must have frozen the picture.
pub(crate) const FREEZE: Duration = Duration::from_millis(200);
/// Freezes of one direction are told apart by this time: a gap of many packets is one.
const FREEZES_APART: Duration = Duration::from_secs(1);
/// A timer that fires so much too late shows that the worker has more to do than it can.
const LATE: Duration = Duration::from_millis(50);

/// The rating of a perfect narrow-band call, G.107's default.
const RATING_BEST: f32 = 93.2;
/// Milliseconds from mouth to ear beside network and jitter: 20 of packetisation, 40 of coding and playout.
const DELAY_FIXED_MS: f32 = 60.0;
/// What a playout buffer adds for jitter, in multiples of it.
const DELAY_PER_JITTER: f32 = 2.0;
/// `Bpl` of G.113, in percent.
const LOSS_ROBUSTNESS: f32 = 25.0;
/// Ratings that a freeze, a paused video, a link that carries hardly more than audio, and a server at its limit cost.
const FREEZE_COST: f32 = 15.0;
const PAUSED_COST: f32 = 15.0;
const NARROW_COST: f32 = 25.0;
const SERVER_COST: f32 = 25.0;
/// Below this a link carries no video, bits a second.
const NARROW_BPS: u64 = 100_000;
/// A report that claims more packets since the last is about a stream that began anew.
const REPORTED_PACKETS_MAX: u32 = 1 << 16;

/// What was counted of one direction since the last sample, and what is believed of it now.
#[derive(Clone, Copy, Debug, Default)]
struct Direction {
    bytes: u64,
    packets: u64,
    expected: u64,
    lost: u64,
    jitter_us: u32,
    freezes: u32,
    froze: Option<Instant>,
    /// 0 … 1, smoothed.
    loss: f32,
    /// Smoothed.
    jitter_ms: f32,
}

impl Direction {
    fn note_loss(&mut self, expected: u64, lost: u64) {
        self.expected += expected;
        self.lost += lost.min(expected);
        if expected > 0 {
            let weight = expected as f32 / (expected as f32 + LOSS_PACKETS);
            self.loss += (lost.min(expected) as f32 / expected as f32 - self.loss) * weight;
        }
    }

    fn note_jitter(&mut self, us: u32) {
        self.jitter_us = self.jitter_us.max(us);
        self.jitter_ms += (us as f32 / 1_000.0 - self.jitter_ms) * DELAY_WEIGHT;
    }

    fn note_freeze(&mut self, now: Instant) {
        if self.froze.is_none_or(|at| now.saturating_duration_since(at) >= FREEZES_APART) {
            self.freezes += 1;
            self.froze = Some(now);
        }
    }

    fn rating(&self, delay_ms: f32, now: Instant) -> f32 {
        let freeze = if is_recent(self.froze, now) { FREEZE_COST } else { 0.0 };
        rating(self.loss, delay_ms + DELAY_PER_JITTER * self.jitter_ms) - freeze
    }

    /// The facts since the last sample, `elapsed` ago, which are then forgotten.
    fn take(&mut self, elapsed: Duration) -> Flow {
        let us = elapsed.as_micros().max(1) as u64;
        let flow = Flow {
            bps: self.bytes.saturating_mul(8_000_000) / us,
            pps: u32::try_from(self.packets.saturating_mul(1_000_000) / us).unwrap_or(u32::MAX),
            loss_ppm: (self.lost * 1_000_000).checked_div(self.expected).unwrap_or(0) as u32,
            jitter_us: self.jitter_us,
            freezes: self.freezes,
        };
        let Direction { froze, loss, jitter_ms, .. } = *self;
        *self = Direction { froze, loss, jitter_ms, ..Direction::default() };
        flow
    }
}

/// `R` for a part of packets lost and a delay in the network.
fn rating(loss: f32, network_ms: f32) -> f32 {
    let (delay, percent) = (network_ms + DELAY_FIXED_MS, loss * 100.0);
    let of_delay = 0.024 * delay + 0.11 * (delay - 177.3).max(0.0);
    let of_loss = 95.0 * percent / (percent + LOSS_ROBUSTNESS);
    RATING_BEST - of_delay - of_loss
}

fn is_recent(at: Option<Instant>, now: Instant) -> bool {
    at.is_some_and(|at| now.saturating_duration_since(at) < REMEMBERED)
}

/// Whoever has a keyframe asked for and lets nothing be heard of what comes waits so long before the next request, each time
/// twice as long, up to the second.
const ASK_WAIT_MIN: Duration = Duration::from_millis(500);
const ASK_WAIT_MAX: Duration = Duration::from_secs(32);
/// After this without a request the next is a first one again.
const ASK_FORGOTTEN: Duration = Duration::from_secs(64);

/// What a subscriber was told of one stream and what it last reported: lives in the subscription.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Heard {
    /// Extended highest sequence number and cumulative loss.
    reported: Option<(u32, i32)>,
    /// When a keyframe was last asked for on its behalf, and how long the next request waits.
    asked: Option<(Instant, Duration)>,
}

impl Heard {
    /// Whether its subscriber may have a keyframe asked for now: the first time at once, and then, while nothing says that
    /// packets arrive, more and more seldom. Everybody else gets that keyframe too, and pays for it.
    pub(crate) fn may_ask(&mut self, now: Instant) -> bool {
        let wait = match self.asked {
            Some((at, wait)) if now.saturating_duration_since(at) < wait => return false,
            Some((at, wait)) if now.saturating_duration_since(at) < ASK_FORGOTTEN => (wait * 2).min(ASK_WAIT_MAX),
            _ => ASK_WAIT_MIN,
        };
        self.asked = Some((now, wait));
        true
    }

    /// Packets lost since the stream began, as reported last.
    pub(crate) fn lost(&self) -> u64 {
        self.reported.map_or(0, |(_, lost)| lost.max(0) as u64)
    }

    /// Packets expected and lost since the last report.
    fn since(&mut self, block: &ReportBlock) -> (u64, u64) {
        let now = (block.extended_highest_sequence, block.cumulative_lost);
        let Some((highest, lost)) = self.reported.replace(now) else {
            self.asked = None;
            return (0, 0);
        };
        let expected = now.0.wrapping_sub(highest);
        if expected > REPORTED_PACKETS_MAX {
            return (0, 0);
        }
        if expected > 0 {
            self.asked = None;
        }
        (expected.into(), now.1.saturating_sub(lost).max(0) as u64)
    }
}

/// What others know of a connection at the moment of judgement.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Link {
    pub(crate) path: Option<Path>,
    /// Time since the last valid check.
    pub(crate) silence: Duration,
    pub(crate) rtt: Option<Duration>,
    /// What the downlink is believed to carry, bits a second.
    pub(crate) estimate_bps: Option<u64>,
    /// Videos paused for want of bandwidth.
    pub(crate) paused: u32,
}

impl Link {
    fn kind(&self) -> PathKind {
        match self.path {
            Some(Path::Tcp { .. }) => PathKind::Tcp,
            Some(Path::Relay { .. }) => PathKind::Relay,
            _ => PathKind::Udp,
        }
    }

    /// What is known without having counted.
    fn sample(&self) -> Sample {
        Sample {
            path: self.kind(),
            silence: self.silence,
            rtt_us: self.rtt.and_then(|rtt| u32::try_from(rtt.as_micros()).ok()),
            estimate_bps: self.estimate_bps,
            paused: self.paused,
            ..Sample::default()
        }
    }
}

impl Peer {
    /// Its connection as others know it.
    pub(crate) fn link(&self, now: Instant) -> Link {
        Link {
            path: self.ice.selected(),
            silence: self.ice.silence(now),
            rtt: self.downlink.rtt(),
            estimate_bps: self.downlink.is_informed().then(|| self.downlink.estimate() as u64),
            paused: self.subscriptions.iter().filter(|(_, s)| s.paused == Some(Pause::Bandwidth)).count() as u32,
        }
    }
}

/// The quality of one peer's connection.
#[derive(Debug)]
pub(crate) struct Quality {
    up: Direction,
    down: Direction,
    /// When we last dropped packets for it or were late.
    overloaded: Option<Instant>,
    due: Instant,
    sampled: Instant,
    last: Sample,
    verdict: (u8, Option<Cause>),
    told: Option<Instant>,
}

impl Quality {
    /// A connection of which nothing is known is excellent until it shows otherwise; signaling believes so too.
    pub(crate) fn new(now: Instant) -> Self {
        Quality {
            up: Direction::default(),
            down: Direction::default(),
            overloaded: None,
            due: now + JUDGE_INTERVAL,
            sampled: now,
            last: Sample::default(),
            verdict: (4, None),
            told: None,
        }
    }

    /// When [`Sfu::judge`] is due.
    pub(crate) fn due(&self) -> Instant {
        self.due
    }

    /// An RTP packet came.
    pub(crate) fn note_in(&mut self, bytes: usize) {
        self.up.bytes += bytes as u64;
        self.up.packets += 1;
    }

    /// RTP packets leave.
    pub(crate) fn note_out(&mut self, bytes: usize, packets: usize) {
        self.down.bytes += bytes as u64;
        self.down.packets += packets as u64;
    }

    /// We dropped packets that it was to get.
    pub(crate) fn note_overrun(&mut self, now: Instant) {
        self.overloaded = Some(now);
    }

    /// A timer of its fired this late.
    pub(crate) fn note_late(&mut self, late: Duration, now: Instant) {
        if late >= LATE {
            self.overloaded = Some(now);
        }
    }

    /// Its decoder stands still: it asked for a keyframe of a video that flows.
    pub(crate) fn note_freeze(&mut self, now: Instant) {
        self.down.note_freeze(now);
    }

    /// It reports about a stream of ours.
    pub(crate) fn note_report(&mut self, heard: &mut Heard, block: &ReportBlock, clock_rate: u32) {
        let (expected, lost) = heard.since(block);
        self.down.note_loss(expected, lost);
        let jitter_us = u64::from(block.jitter) * 1_000_000 / u64::from(clock_rate.max(1));
        self.down.note_jitter(u32::try_from(jitter_us).unwrap_or(u32::MAX));
    }

    /// What has come of one of its layers since the last judgement.
    fn note_reception(&mut self, reception: &mut Reception, clock_rate: u32, now: Instant) {
        let progress = reception.progress();
        if progress.expected == 0 {
            return;
        }
        self.up.note_loss(progress.expected, progress.lost);
        self.up.note_jitter((progress.jitter * 1e6 / f64::from(clock_rate.max(1))) as u32);
        if progress.froze {
            self.up.note_freeze(now);
        }
    }

    /// The verdict, if it is another than before.
    fn judge(&mut self, link: Link, now: Instant) -> Option<(u8, Option<Cause>)> {
        self.due = now + JUDGE_INTERVAL;
        let verdict = self.verdict_now(link, now);
        let stands = self.told.is_some_and(|at| now.saturating_duration_since(at) < STANDS_MIN);
        if verdict == self.verdict || stands {
            return None;
        }
        self.verdict = verdict;
        self.told = Some(now);
        Some(verdict)
    }

    fn verdict_now(&self, link: Link, now: Instant) -> (u8, Option<Cause>) {
        if link.silence > SILENT_MAX {
            return (0, Some(Cause::Uplink));
        }
        let way_ms = link.rtt.map_or(0.0, |rtt| rtt.as_secs_f32() * 500.0);
        let mut down = self.down.rating(way_ms, now);
        if link.paused > 0 {
            down -= PAUSED_COST;
        }
        if link.estimate_bps.is_some_and(|bps| bps < NARROW_BPS) {
            down -= NARROW_COST;
        }
        let up = self.up.rating(0.0, now);
        let server = RATING_BEST - if is_recent(self.overloaded, now) { SERVER_COST } else { 0.0 };
        let (rating, cause) = [(server, Cause::Server), (up, Cause::Uplink), (down, Cause::Downlink)]
            .into_iter()
            .min_by(|one, other| one.0.total_cmp(&other.0))
            .expect("there are three");
        let score = class(rating).min(self.verdict.0.max(class(rating - HYSTERESIS)));
        let cause = match cause {
            Cause::Uplink | Cause::Downlink if link.kind() != PathKind::Udp => Cause::Relay,
            cause => cause,
        };
        (score, (score < 4).then_some(cause))
    }

    /// The facts since the last sample, if it is time.
    fn sample(&mut self, link: Link, now: Instant) -> Option<Sample> {
        let elapsed = now.saturating_duration_since(self.sampled);
        if elapsed < SAMPLE_INTERVAL {
            return None;
        }
        self.sampled = now;
        self.last = Sample { up: self.up.take(elapsed), down: self.down.take(elapsed), ..link.sample() };
        Some(self.last)
    }

    /// The connection as it is now, with what flowed in the last sample.
    pub(crate) fn last(&self, link: Link) -> Sample {
        Sample { up: self.last.up, down: self.last.down, ..link.sample() }
    }

    /// How good it was when that was last judged, and who is to blame.
    pub(crate) fn verdict(&self) -> (u8, Option<Cause>) {
        self.verdict
    }
}

fn class(rating: f32) -> u8 {
    match rating {
        80.0.. => 4,
        70.0.. => 3,
        60.0.. => 2,
        _ => 1,
    }
}

impl Sfu {
    /// Judges a peer's connection if it is time.
    pub(crate) fn judge(&mut self, key: usize, now: Now) {
        let Some(peer) = self.peers.get_mut(key).filter(|peer| peer.srtp.is_some()) else { return };
        if peer.quality.due > now.mono {
            return;
        }
        for track in &peer.published {
            let Some(track) = self.tracks.get_mut(*track) else { continue };
            let clock_rate = track.clock_rate();
            for layer in &mut track.layers {
                peer.quality.note_reception(&mut layer.reception, clock_rate, now.mono);
            }
        }
        let link = peer.link(now.mono);
        if self.outputs.len() >= OUTPUTS_WAIT_MAX {
            peer.quality.due = now.mono + JUDGE_INTERVAL;
            return;
        }
        let (verdict, sample) = (peer.quality.judge(link, now.mono), peer.quality.sample(link, now.mono));
        let peer = peer.id;
        if let Some((score, cause)) = verdict {
            self.event(Event::Quality { peer, score, cause });
        }
        if let Some(sample) = sample {
            self.event(Event::Sample { peer, sample: Box::new(sample) });
        }
    }
}

#[cfg(test)]
mod tests;
