//! What has come of one stream and what is missing: NACKs as libwebrtc sends them, and report blocks.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use sfu::rtcp::ReportBlock;
use sfu::rtp;

use crate::inbound::Reported;

/// A gap is asked for after this time, in which what was overtaken usually comes.
const NACK_DELAY: Duration = Duration::from_millis(10);
/// Asked again no sooner than this, however short the round trip.
const NACK_INTERVAL_MIN: Duration = Duration::from_millis(20);
/// Asked for at most so often, as in libwebrtc.
const NACKS_MAX: u8 = 10;
/// With more missing than this nothing is asked for any more: a keyframe must help (libwebrtc's `kMaxNackPackets`).
const MISSING_MAX: usize = 1_000;
/// The round trip before one was measured, as in libwebrtc.
const FIRST_RTT: Duration = Duration::from_millis(100);
/// Numbers behind the highest that are remembered.
const WINDOW: u64 = 4_096;

struct Missing {
    due: Instant,
    asked: u8,
    asked_at: Instant,
}

/// How a packet came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// In its turn.
    Fresh,
    /// Later than its successors.
    Late,
    /// On RTX, or on the same stream after it was asked for.
    Repaired,
}

/// Counts of one stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Gaps seen, in packets.
    pub gaps: u64,
    /// Of these, what came late by itself.
    pub late: u64,
    /// Of these, what came because it was asked for.
    pub repaired: u64,
    /// Packets asked for, each as often as it was.
    pub asked: u64,
    /// Packets that came twice.
    pub duplicates: u64,
}

/// See the module.
pub struct Reception {
    first: u64,
    highest: u64,
    received: BTreeSet<u64>,
    received_count: u64,
    missing: BTreeMap<u64, Missing>,
    reported: Reported,
    rtt: Duration,
    /// A gap was too large to be asked for.
    pub hopeless: bool,
    /// Since the beginning.
    pub counts: Counts,
}

impl Reception {
    /// A stream whose first packet has this number.
    pub fn new(seq: u16) -> Reception {
        let first = (1 << 16) + u64::from(seq);
        Reception {
            first,
            highest: first - 1,
            received: BTreeSet::new(),
            received_count: 0,
            missing: BTreeMap::new(),
            reported: Reported::default(),
            rtt: FIRST_RTT,
            hopeless: false,
            counts: Counts::default(),
        }
    }

    /// Notes a number; its extended form and how it came, `None` for one that came before. `resent` if on RTX.
    pub fn arrive(&mut self, seq: u16, resent: bool, now: Instant) -> Option<(u64, Arrival)> {
        let seq = rtp::extend(self.highest, seq);
        if seq + WINDOW < self.highest || self.received.contains(&seq) {
            self.counts.duplicates += 1;
            return None;
        }
        let mut arrival = Arrival::Fresh;
        if seq > self.highest {
            let gap = self.highest + 1..seq;
            self.counts.gaps += seq - self.highest - 1;
            if self.missing.len() as u64 + (seq - self.highest - 1) > MISSING_MAX as u64 {
                self.missing.clear();
                self.hopeless = true;
            } else {
                let missing = |seq| (seq, Missing { due: now + NACK_DELAY, asked: 0, asked_at: now });
                self.missing.extend(gap.map(missing));
            }
            self.highest = seq;
        } else {
            let missing = self.missing.remove(&seq);
            let asked = missing.as_ref().map_or(0, |missing| missing.asked);
            // On the stream itself it may have been overtaken; only after a plausible round trip was it resent.
            let answered = missing.as_ref().is_some_and(|it| it.asked > 0 && now - it.asked_at > self.rtt / 2);
            arrival = if resent || answered { Arrival::Repaired } else { Arrival::Late };
            match arrival {
                Arrival::Repaired => self.counts.repaired += 1,
                _ => self.counts.late += 1,
            }
            if let Some(missing) = missing.filter(|_| resent && asked == 1) {
                self.rtt = self.rtt * 3 / 4 + (now - missing.asked_at) / 4;
            }
        }
        self.received.insert(seq);
        self.received_count += 1;
        if self.received.len() as u64 > 2 * WINDOW {
            self.received = self.received.split_off(&(self.highest - WINDOW));
        }
        Some((seq, arrival))
    }

    /// RFC 3550 §6.4.1, in timestamp units.
    pub fn note_jitter(&mut self, timestamp: u32, clock_hz: f64, now: Instant) {
        self.reported.note_jitter(timestamp, clock_hz, now);
    }

    /// What is to be asked for now, ascending.
    pub fn take_nacks(&mut self, now: Instant) -> Vec<u16> {
        let interval = self.rtt.max(NACK_INTERVAL_MIN);
        self.missing.retain(|_, missing| missing.due > now || missing.asked < NACKS_MAX);
        let mut lost = Vec::new();
        for (seq, missing) in self.missing.iter_mut().filter(|(_, missing)| missing.due <= now) {
            missing.asked += 1;
            (missing.asked_at, missing.due) = (now, now + interval);
            lost.push(*seq as u16);
        }
        self.counts.asked += lost.len() as u64;
        lost
    }

    /// What lies before this number is no longer needed.
    pub fn forget_before(&mut self, seq: u64) {
        self.missing = self.missing.split_off(&seq);
    }

    /// The round trip of a NACK.
    pub fn rtt(&self) -> Duration {
        self.rtt
    }

    /// The next report block, with the middle bits of the last sender report and when it came.
    pub fn report(&mut self, ssrc: u32, clock: Option<(u64, Instant)>, now: Instant) -> ReportBlock {
        self.reported.block(ssrc, (self.first, self.highest, self.received_count), clock, now)
    }
}
