//! A published track: its layers, what has come of them, and who subscribes.

mod levels;
mod listeners;

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::keyframe::VideoCodec;
use crate::payload::DescriptorState;
use crate::pipe::{PipeEnd, SourcePipe};
use crate::quality::FREEZE;
use crate::ring::Ring;
use crate::rtp;
use crate::sdp::{Codec, Mid};
use crate::speakers::Voice;
use crate::target::Step;
use crate::{Kind, Source, TrackId};

use listeners::ListenerLoss;

/// A publisher is asked for a keyframe of a layer at most once in this time.
pub(crate) const KEYFRAME_WINDOW: Duration = Duration::from_millis(500);
/// … and again after this time until one comes.
pub(crate) const KEYFRAME_REPEAT: Duration = Duration::from_secs(1);
/// How often a missing packet is asked for again.
pub(crate) const NACK_REPEAT: Duration = Duration::from_millis(60);
/// A missing packet is asked for at most so often.
pub(crate) const NACKS_MAX: u8 = 8;
/// A reordered packet usually comes within this time; only then it is missed.
pub(crate) const NACK_DELAY: Duration = Duration::from_millis(8);
/// Missing packets remembered per layer. A larger gap means a burst that is lost for good: a keyframe is asked for.
pub(crate) const MISSING_MAX: usize = 256;
/// Encodings of one track. Further ones are refused when they are described, and their packets dropped.
pub(crate) const LAYERS_MAX: usize = 4;
/// An encoding from which nothing came for so long, while another went on, is dead. Raising it makes subscribers of a dead
/// one freeze for longer; lowering it takes a slow one for dead.
const LAYER_SILENCE: Duration = Duration::from_millis(700);
/// … and if it is silent for so many of the other's intervals between pictures: those of a still screen come seldom.
const LAYER_INTERVALS: u32 = 3;
/// A track that is silent as a whole loses its encodings after this time.
const TRACK_SILENCE: Duration = Duration::from_secs(3);
/// An encoding that sent for so long without a sender report will not send one.
const REPORTS_AWAITED: Duration = Duration::from_secs(3);
/// How often it is looked at which encodings live and who watches them.
pub(crate) const SURVEY_INTERVAL: Duration = Duration::from_millis(250);
/// An encoding that nobody has watched for so long is no longer wanted.
pub(crate) const INTEREST_LASTS: Duration = Duration::from_secs(3);
/// Packets behind the highest for which duplicates are recognised; older ones are dropped.
const WINDOW: u64 = 1_024;

/// A packet that has not come.
#[derive(Clone, Copy, Debug)]
struct Missing {
    seq: u64,
    due: Instant,
    asked: u8,
}

/// What has come of one stream (RFC 3550 appendix A), and what is missing.
#[derive(Debug)]
pub(crate) struct Reception {
    highest: u64,
    first: u64,
    seen: [u64; (WINDOW / 64) as usize],
    missing: Vec<Missing>,
    received: u64,
    /// For the fraction lost of the next report.
    reported: (u64, u64),
    jitter: f64,
    /// Packets that came as retransmissions.
    repaired: u64,
    /// A gap was not repaired in time.
    froze: bool,
    /// For the next [`Reception::progress`]: packets expected and lost before repair.
    told: (u64, u64),
    transit: Option<(Instant, u32)>,
    /// The number that would follow one too old to tell: if it comes, the stream began anew (RFC 3550 appendix A.1).
    suspect: Option<u16>,
}

/// What has come of a stream in a stretch of time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Progress {
    pub(crate) expected: u64,
    /// Before repair.
    pub(crate) lost: u64,
    /// In timestamp units.
    pub(crate) jitter: f64,
    /// A gap was not repaired in time; only of streams whose losses are asked for.
    pub(crate) froze: bool,
}

/// What to make of an arriving sequence number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// It is new. `gap_too_large` means that what is missing before it will not be asked for.
    New { seq: u64, gap_too_large: bool },
    /// It came before, or is too old to tell.
    Duplicate,
    /// The second in a row that is too old to tell: the publisher counts anew.
    Restart,
}

impl Reception {
    fn new(seq: u16) -> Self {
        // Far from zero, so that packets before the first have a number too.
        let first = (1 << 16) + u64::from(seq);
        Reception {
            highest: first - 1,
            first,
            seen: [0; (WINDOW / 64) as usize],
            missing: Vec::new(),
            received: 0,
            reported: (0, 0),
            jitter: 0.0,
            repaired: 0,
            froze: false,
            told: (0, 0),
            transit: None,
            suspect: None,
        }
    }

    fn bit(seq: u64) -> (usize, u64) {
        (((seq % WINDOW) / 64) as usize, 1 << (seq % 64))
    }

    /// Notes a sequence number. With `recover` what is missing is remembered, to be asked for.
    pub(crate) fn arrive(&mut self, seq: u16, recover: bool, now: Instant) -> Arrival {
        let seq = rtp::extend(self.highest, seq);
        if seq > self.highest {
            let gap = seq - self.highest - 1;
            let clear = gap.min(WINDOW - 1);
            for skipped in seq - clear..=seq {
                let (word, bit) = Self::bit(skipped);
                self.seen[word] &= !bit;
            }
            let gap_too_large = gap as usize + self.missing.len() > MISSING_MAX;
            if gap_too_large {
                self.missing.clear();
            } else if recover {
                let due = now + NACK_DELAY;
                self.missing.extend((self.highest + 1..seq).map(|seq| Missing { seq, due, asked: 0 }));
            }
            self.highest = seq;
            self.mark(seq);
            return Arrival::New { seq, gap_too_large: gap_too_large && recover };
        }
        let (word, bit) = Self::bit(seq);
        if self.highest - seq >= WINDOW {
            let again = self.suspect == Some(seq as u16);
            self.suspect = Some((seq as u16).wrapping_add(1));
            return if again { Arrival::Restart } else { Arrival::Duplicate };
        }
        if self.seen[word] & bit != 0 {
            return Arrival::Duplicate;
        }
        self.mark(seq);
        self.missing.retain(|m| m.seq != seq);
        Arrival::New { seq, gap_too_large: false }
    }

    fn mark(&mut self, seq: u64) {
        let (word, bit) = Self::bit(seq);
        self.seen[word] |= bit;
        self.received += 1;
        self.first = self.first.min(seq);
    }

    /// Notes the sequence number of a retransmission: one that is no news of the stream's head may not move it.
    pub(crate) fn repair(&mut self, seq: u16, recover: bool, now: Instant) -> Arrival {
        let suspect = self.suspect;
        if rtp::extend(self.highest, seq) > self.highest + WINDOW {
            return Arrival::Duplicate;
        }
        let arrival = self.arrive(seq, recover, now);
        self.suspect = suspect;
        if arrival == Arrival::Restart { Arrival::Duplicate } else { arrival }
    }

    /// Forgets what is missing: nobody watches.
    pub(crate) fn forget_missing(&mut self) {
        self.missing.clear();
    }

    /// RFC 3550 §6.4.1 interarrival jitter, in timestamp units.
    pub(crate) fn note_jitter(&mut self, timestamp: u32, clock_rate: u32, now: Instant) {
        if let Some((at, before)) = self.transit
            && timestamp != before
        {
            let arrived = (now.saturating_duration_since(at)).as_secs_f64() * f64::from(clock_rate);
            let sent = f64::from(timestamp.wrapping_sub(before) as i32);
            self.jitter += ((arrived - sent).abs() - self.jitter) / 16.0;
        }
        self.transit = Some((now, timestamp));
    }

    /// The packet that has just arrived was a retransmission.
    pub(crate) fn note_repair(&mut self) {
        self.repaired += 1;
    }

    /// What has come since the last call.
    pub(crate) fn progress(&mut self) -> Progress {
        let expected = self.highest + 1 - self.first;
        let lost = expected.saturating_sub(self.received - self.repaired);
        let before = std::mem::replace(&mut self.told, (expected, lost));
        Progress {
            expected: expected.saturating_sub(before.0),
            lost: lost.saturating_sub(before.1),
            jitter: self.jitter,
            froze: std::mem::take(&mut self.froze),
        }
    }

    /// Packets that came since the stream began, and those that did not, before repair.
    pub(crate) fn counts(&self) -> (u64, u64) {
        let came = self.received - self.repaired;
        (came, (self.highest + 1 - self.first).saturating_sub(came))
    }

    /// Interarrival jitter in timestamp units.
    pub(crate) fn jitter(&self) -> f64 {
        self.jitter
    }

    /// When something missing is to be asked for.
    pub(crate) fn nack_due(&self) -> Option<Instant> {
        self.missing.iter().map(|m| m.due).min()
    }

    /// The missing packets that are to be asked for now, ascending, into `out`.
    pub(crate) fn take_nacks(&mut self, now: Instant, out: &mut Vec<u16>) {
        for missing in &mut self.missing {
            if missing.due <= now {
                out.push(missing.seq as u16);
                missing.asked += 1;
                missing.due = now + NACK_REPEAT;
                // Asked so often, it has been missing for too long for any picture.
                self.froze |= NACK_DELAY + NACK_REPEAT * u32::from(missing.asked - 1) >= FREEZE;
            }
        }
        self.missing.retain(|m| m.asked < NACKS_MAX);
    }

    /// The extended highest sequence number, fraction lost, cumulative lost and jitter of a report block.
    pub(crate) fn report(&mut self) -> (u32, u8, i32, u32) {
        let expected = self.highest + 1 - self.first;
        let (expected_before, received_before) = self.reported;
        let expected_now = expected.saturating_sub(expected_before);
        let lost_now = expected_now.saturating_sub(self.received.saturating_sub(received_before));
        self.reported = (expected, self.received);
        let fraction = (lost_now << 8).checked_div(expected_now).unwrap_or(0).min(255) as u8;
        let lost = (expected as i64 - self.received as i64).clamp(-0x80_0000, 0x7f_ffff) as i32;
        // The offset of `new` is no rollover of the client's.
        ((self.highest - (1 << 16)) as u32, fraction, lost, self.jitter as u32)
    }
}

/// The last sender report of a layer: which NTP time its timestamps stand for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SenderClock {
    pub(crate) ntp: u64,
    pub(crate) timestamp: u32,
    pub(crate) arrival: Instant,
}

impl SenderClock {
    /// What is added to timestamps of another stream of the same publisher to get those of this one for the same moment.
    pub(crate) fn relation(&self, other: &SenderClock, clock_rate: u32) -> u32 {
        // 32.32 fixed point seconds.
        let apart = i128::from(other.ntp.wrapping_sub(self.ntp) as i64) * i128::from(clock_rate);
        let ticks = ((apart + (1 << 31)) >> 32) as u32;
        self.timestamp.wrapping_sub(other.timestamp).wrapping_add(ticks)
    }
}

/// Who wants a keyframe, and when it was last asked for.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct KeyframeRequests {
    asked: Option<Instant>,
    due: Option<Instant>,
}

impl KeyframeRequests {
    /// Somebody wants a keyframe.
    pub(crate) fn want(&mut self, now: Instant) {
        let earliest = self.asked.map_or(now, |at| (at + KEYFRAME_WINDOW).max(now));
        self.due = Some(self.due.map_or(earliest, |due| due.min(earliest)));
    }

    /// Somebody still waits: wants a keyframe unless one was asked for within the last second.
    pub(crate) fn remind(&mut self, now: Instant) {
        if self.due.is_none() && self.asked.is_none_or(|at| now.saturating_duration_since(at) >= KEYFRAME_REPEAT) {
            self.want(now);
        }
    }

    /// When a request is to be sent.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Whether to send one now; it is then repeated until a keyframe comes.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        if self.due.is_none_or(|due| due > now) {
            return false;
        }
        self.asked = Some(now);
        self.due = Some(now + KEYFRAME_REPEAT);
        true
    }

    /// A keyframe began at `now`.
    pub(crate) fn arrived(&mut self) {
        self.due = None;
    }
}

/// One encoding of a track.
#[derive(Debug)]
pub(crate) struct Layer {
    /// Its name, where there are several (RFC 8851).
    pub(crate) rid: Option<Arc<str>>,
    /// The stream that it comes in; `None` before its first packet.
    pub(crate) ssrc: Option<u32>,
    /// Grows when the publisher starts a new stream on this layer.
    pub(crate) epoch: u16,
    pub(crate) ring: Ring,
    pub(crate) reception: Reception,
    pub(crate) clock: Option<SenderClock>,
    pub(crate) keyframes: KeyframeRequests,
    pub(crate) levels: Levels,
    pub(crate) descriptors: DescriptorState,
    /// Packets come of it.
    pub(crate) alive: bool,
    /// Since when, and when the last one came.
    since: Instant,
    pub(crate) last: Instant,
    /// The timestamp of its last picture, when that began to come, and how long after the one before.
    picture: (u32, Instant),
    interval: Duration,
    /// When somebody last watched it or wanted to.
    pub(crate) watched_at: Instant,
}

impl Layer {
    /// A layer of which nothing has come.
    pub(crate) fn new(rid: Option<Arc<str>>, now: Instant) -> Self {
        Layer {
            rid,
            ssrc: None,
            epoch: 0,
            ring: Ring::default(),
            reception: Reception::new(0),
            clock: None,
            keyframes: KeyframeRequests::default(),
            levels: Levels::new(),
            descriptors: DescriptorState::default(),
            alive: false,
            since: now,
            last: now,
            picture: (0, now),
            interval: Duration::ZERO,
            watched_at: now,
        }
    }

    /// When its last packet came; when it was made if none has.
    pub(crate) fn last_packet(&self) -> Instant {
        self.last
    }

    /// A packet of the picture of this timestamp came; whether it is the first after a silence.
    pub(crate) fn heard(&mut self, timestamp: u32, now: Instant) -> bool {
        self.last = now;
        if self.picture.0 != timestamp {
            self.interval = now.saturating_duration_since(self.picture.1);
            self.picture = (timestamp, now);
        }
        let woke = !std::mem::replace(&mut self.alive, true);
        if woke {
            self.since = now;
            self.levels.resume(now);
        }
        woke
    }

    /// Something came of it lately.
    pub(crate) fn is_flowing(&self, now: Instant) -> bool {
        self.alive && now.saturating_duration_since(self.last) < TRACK_SILENCE
    }

    /// It sends no sender reports.
    pub(crate) fn reports_nothing(&self) -> bool {
        self.clock.is_none() && self.last.saturating_duration_since(self.since) >= REPORTS_AWAITED
    }

    /// What comes through a pipe is of this stream from now on. If it began anew, its clock is another's.
    pub(crate) fn follow(&mut self, ssrc: Option<u32>, epoch: u16, now: Instant) {
        if (self.ssrc, self.epoch) == (ssrc, epoch) {
            return;
        }
        if self.epoch != epoch {
            self.clock = None;
        }
        (self.ssrc, self.epoch) = (ssrc, epoch);
        self.keyframes.want(now);
    }

    /// The publisher begins a stream on this layer, or a new one: numbers and timestamps start anew. Should its first packets
    /// be lost, nobody could know: a keyframe is wanted unless this is one.
    pub(crate) fn restart(&mut self, ssrc: u32, first_seq: u16, now: Instant) {
        if self.ssrc.replace(ssrc).is_some() {
            self.epoch = self.epoch.wrapping_add(1);
            self.clock = None;
        }
        self.reception = Reception::new(first_seq);
        self.descriptors = DescriptorState::default();
        self.keyframes.want(now);
    }
}

/// Who receives a track: a peer, and where in it the subscription is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Subscriber {
    pub(crate) peer: usize,
    pub(crate) subscription: usize,
}

/// A published track.
#[derive(Debug)]
pub(crate) struct Track {
    pub(crate) id: TrackId,
    pub(crate) kind: Kind,
    pub(crate) source: Source,
    /// By its publisher.
    pub(crate) muted: bool,
    /// By a moderator: what comes of it is kept nowhere, until its publisher unmutes it.
    pub(crate) held: bool,
    pub(crate) publisher: usize,
    pub(crate) participant: Arc<str>,
    pub(crate) mid: Mid,
    /// The codecs that the publisher may send, with its payload types.
    pub(crate) codecs: Vec<Codec>,
    /// Its encodings, in order of the publisher's description, at least one and at most [`LAYERS_MAX`]. Places never change.
    pub(crate) layers: Vec<Layer>,
    /// Places of the layers by quality, the smallest picture first.
    pub(crate) ranks: [u8; LAYERS_MAX],
    /// The layers that subscribers get or wait for, one bit each.
    pub(crate) watched: u8,
    /// The layers of which the publisher was told that they are wanted.
    pub(crate) told: u8,
    /// When it is next looked at which layers live and who watches them.
    pub(crate) survey_due: Option<Instant>,
    pub(crate) subscribers: Vec<Subscriber>,
    /// It has packets that its subscribers have not been told of.
    pub(crate) fresh: bool,
    /// How loud it is.
    pub(crate) voice: Voice,
    /// The workers that take it for subscribers there; empty in rooms that live on one worker.
    pub(crate) ends: Vec<PipeEnd>,
    /// It comes through a pipe from the worker that has its publisher.
    pub(crate) source_pipe: Option<SourcePipe>,
    /// What listeners without RED lose of it.
    pub(crate) lost: ListenerLoss,
    /// Its packets go to its subscribers; of audio in large rooms only some are heard.
    pub(crate) forwarded: bool,
}

impl Track {
    /// A track of which nothing is known but what its description says; it has no layers yet ([`Track::take_layers`]).
    pub(crate) fn new(
        id: TrackId,
        kind: Kind,
        source: Source,
        publisher: usize,
        participant: Arc<str>,
        mid: Mid,
    ) -> Self {
        Track {
            id,
            kind,
            source,
            muted: false,
            held: false,
            publisher,
            participant,
            mid,
            codecs: Vec::new(),
            layers: Vec::new(),
            ranks: [0, 1, 2, 3],
            watched: 0,
            told: 0,
            survey_due: None,
            subscribers: Vec::new(),
            fresh: false,
            voice: Voice::default(),
            ends: Vec::new(),
            source_pipe: None,
            lost: ListenerLoss::default(),
            forwarded: true,
        }
    }

    /// The codec that a payload type is of, or the retransmissions of.
    pub(crate) fn codec_of(&self, payload_type: u8) -> Option<usize> {
        self.codecs.iter().position(|c| c.payload_type == payload_type || c.rtx == Some(payload_type))
    }

    /// What the keyframe detector needs to know of a codec.
    pub(crate) fn video_codec(&self, codec: u8) -> Option<VideoCodec> {
        use crate::sdp::CodecName;
        Some(match self.codecs.get(usize::from(codec))?.name {
            CodecName::Vp8 => VideoCodec::Vp8,
            CodecName::Vp9 => VideoCodec::Vp9,
            CodecName::H264 => VideoCodec::H264,
            CodecName::Av1 => VideoCodec::Av1,
            CodecName::Opus | CodecName::Red => return None,
        })
    }

    /// Takes the encodings that a description names, before any packet came: by their RIDs; without these one, or for video
    /// (`a=ssrc-group:SIM`) as many as it has SSRCs. Whether there are others now than
    /// before.
    pub(crate) fn take_layers(&mut self, rids: &[Arc<str>], ssrcs: usize, now: Instant) -> bool {
        let count = match self.kind {
            Kind::Audio => 1,
            Kind::Video if rids.is_empty() => ssrcs.clamp(1, LAYERS_MAX),
            Kind::Video => rids.len().min(LAYERS_MAX),
        };
        let named = (0..count).map(|place| rids.get(place).cloned());
        if self.layers.iter().map(|layer| layer.rid.clone()).eq(named.clone()) {
            return false;
        }
        self.layers = named.map(|rid| Layer::new(rid, now)).collect();
        self.told = (1 << count) - 1;
        self.survey_due = (count > 1).then_some(now + SURVEY_INTERVAL);
        true
    }

    /// Nobody is to hear or see it now.
    pub(crate) fn is_muted(&self) -> bool {
        self.muted || self.held
    }

    /// No packet has come yet.
    pub(crate) fn is_silent(&self) -> bool {
        self.layers.iter().all(|layer| layer.ssrc.is_none())
    }

    /// The qualities that it can be had in, ascending; encodings that are known and silent are among them.
    pub(crate) fn steps(&self, now: Instant) -> impl Iterator<Item = Step> + '_ {
        let ranks = self.ranks.iter().take(self.layers.len()).enumerate();
        ranks.flat_map(move |(rank, place)| {
            let layer = self.layers.get(usize::from(*place)).into_iter();
            layer.flat_map(move |layer| layer.levels.steps(*place, rank, layer.alive, now))
        })
    }

    /// Puts the layers in order: by the size of their pictures, or else their rates, where these are known; others keep the
    /// places that the description gave them. Whether anything changed.
    pub(crate) fn rank(&mut self, now: Instant) -> bool {
        let mut known = [0u8; LAYERS_MAX];
        let mut count = 0;
        let seen = || self.layers.iter().take(LAYERS_MAX).enumerate().filter(|(_, layer)| layer.ssrc.is_some());
        let by_area = seen().all(|(_, layer)| layer.levels.area() > 0);
        let by_rate = seen().all(|(_, layer)| layer.levels.total_bps(now) > 0);
        for (place, _) in seen().filter(|_| by_area || by_rate) {
            known[count] = place as u8;
            count += 1;
        }
        let slots = known;
        let key = |place: &u8| {
            let levels = &self.layers[usize::from(*place)].levels;
            if by_area { levels.area() } else { levels.total_bps(now) }
        };
        known[..count].sort_by_key(key);
        // Rates waver: those that are nearly alike say nothing.
        let apart = |pair: &[u8]| u64::from(key(&pair[0])) * 3 <= u64::from(key(&pair[1])) * 2;
        if !by_area && !known[..count].windows(2).all(apart) {
            return false;
        }
        let mut ranks = [0, 1, 2, 3];
        for (slot, place) in slots.iter().zip(known).take(count) {
            ranks[usize::from(*slot)] = place;
        }
        std::mem::replace(&mut self.ranks, ranks) != ranks
    }

    /// Finds out which layers have died. Whether any has.
    pub(crate) fn bury(&mut self, now: Instant) -> bool {
        let newest = self.layers.iter().filter(|layer| layer.alive).max_by_key(|layer| layer.last);
        let Some((newest, interval)) = newest.map(|layer| (layer.last, layer.interval)) else { return false };
        let mut any = false;
        for layer in self.layers.iter_mut().filter(|layer| layer.alive) {
            let silence = now.saturating_duration_since(layer.last);
            let behind =
                newest.saturating_duration_since(layer.last) >= LAYER_SILENCE.max(interval * LAYER_INTERVALS) / 2;
            if silence >= TRACK_SILENCE || (silence >= LAYER_SILENCE && behind) {
                layer.alive = false;
                any = true;
            }
        }
        any
    }

    /// Whether somebody gets or waits for a layer.
    pub(crate) fn is_watched(&self, layer: usize) -> bool {
        !(self.subscribers.is_empty() && self.ends.is_empty()) && self.watched >> layer & 1 == 1
    }

    /// The RTP clock rate, Hz.
    pub(crate) fn clock_rate(&self) -> u32 {
        self.kind.clock_rate()
    }
}

use levels::Levels;

#[cfg(test)]
mod tests;
