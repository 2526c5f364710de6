//! A published track: its layers, what has come of them, and who subscribes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::keyframe::VideoCodec;
use crate::ring::Ring;
use crate::rtp;
use crate::sdp::{Codec, Mid};
use crate::speakers::Voice;
use crate::{Kind, Source, TrackId};

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
    transit: Option<(Instant, u32)>,
}

/// What to make of an arriving sequence number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// It is new. `gap_too_large` means that what is missing before it will not be asked for.
    New { seq: u64, gap_too_large: bool },
    /// It came before, or is too old to tell.
    Duplicate,
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
            transit: None,
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
        if self.highest - seq >= WINDOW || self.seen[word] & bit != 0 {
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

/// One encoding of a track. A track has 1..n layers; all subscribers are on layer 0 for now.
#[derive(Debug)]
pub(crate) struct Layer {
    pub(crate) ssrc: u32,
    /// Grows when the publisher starts a new stream (SSRC) on this layer.
    pub(crate) epoch: u16,
    pub(crate) ring: Ring,
    pub(crate) reception: Reception,
    pub(crate) clock: Option<SenderClock>,
    pub(crate) keyframes: KeyframeRequests,
}

impl Layer {
    /// A layer that begins at `now`: a keyframe is wanted.
    pub(crate) fn new(ssrc: u32, first_seq: u16, now: Instant) -> Self {
        let mut keyframes = KeyframeRequests::default();
        keyframes.want(now);
        Layer { ssrc, epoch: 0, ring: Ring::default(), reception: Reception::new(first_seq), clock: None, keyframes }
    }

    /// When its last packet came; `now` if none has.
    pub(crate) fn last_packet(&self, now: Instant) -> Instant {
        self.ring.next().checked_sub(1).and_then(|last| self.ring.packet(last)).map_or(now, |p| p.arrival)
    }

    /// The publisher sends this layer under a new SSRC: numbers and timestamps start anew.
    pub(crate) fn restart(&mut self, ssrc: u32, first_seq: u16, now: Instant) {
        self.ssrc = ssrc;
        self.epoch = self.epoch.wrapping_add(1);
        self.reception = Reception::new(first_seq);
        self.clock = None;
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
    pub(crate) muted: bool,
    pub(crate) publisher: usize,
    pub(crate) participant: Arc<str>,
    pub(crate) mid: Mid,
    /// The codecs that the publisher may send, with its payload types.
    pub(crate) codecs: Vec<Codec>,
    pub(crate) layers: Vec<Layer>,
    pub(crate) subscribers: Vec<Subscriber>,
    /// It has packets that its subscribers have not been told of.
    pub(crate) fresh: bool,
    /// How loud it is.
    pub(crate) voice: Voice,
    /// Its packets go to its subscribers; of audio in large rooms only some are heard.
    pub(crate) forwarded: bool,
}

impl Track {
    /// A track of which nothing has come yet.
    pub(crate) fn new(id: TrackId, kind: Kind, source: Source, publisher: usize, participant: Arc<str>) -> Self {
        Track {
            id,
            kind,
            source,
            muted: false,
            publisher,
            participant,
            mid: Mid::default(),
            codecs: Vec::new(),
            layers: Vec::new(),
            subscribers: Vec::new(),
            fresh: false,
            voice: Voice::default(),
            forwarded: true,
        }
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

    /// The RTP clock rate, Hz.
    pub(crate) fn clock_rate(&self) -> u32 {
        match self.kind {
            Kind::Audio => 48_000,
            Kind::Video => 90_000,
        }
    }
}

#[cfg(test)]
mod tests;
