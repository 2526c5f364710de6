//! What has come of one RTP stream and what is missing, in little memory: thousands of these run beside each other.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use sfu::rtcp::ReportBlock;
use sfu::rtp;

use crate::inbound::Reported;

/// A gap is asked for after this time, in which what was overtaken usually comes.
const NACK_DELAY: Duration = Duration::from_millis(10);
/// Asked again after this.
const NACK_INTERVAL: Duration = Duration::from_millis(100);
/// Asked for at most so often, as in libwebrtc.
const NACKS_MAX: u8 = 10;
/// With more missing than this nothing is asked for any more: a keyframe must help.
const MISSING_MAX: u64 = 500;
/// Numbers behind the highest that are remembered.
const WINDOW: u64 = 2_048;

struct Missing {
    due: Instant,
    asked: u8,
}

/// How a packet came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// In its turn; so many before it are missing.
    Fresh {
        /// Packets between the highest so far and this.
        gap: u64,
    },
    /// Later than its successors, by itself.
    Late,
    /// Since it was asked for.
    Repaired,
    /// It was there already, or is of no use any more.
    Again,
}

/// See the module.
pub struct Reception {
    first: u64,
    highest: u64,
    seen: [u64; (WINDOW / 64) as usize],
    received: u64,
    missing: BTreeMap<u64, Missing>,
    reported: Reported,
}

impl Reception {
    /// A stream whose first packet has this number.
    pub fn new(seq: u16) -> Reception {
        let first = (1 << 16) + u64::from(seq);
        Reception {
            first,
            highest: first - 1,
            seen: [0; (WINDOW / 64) as usize],
            received: 0,
            missing: BTreeMap::new(),
            reported: Reported::default(),
        }
    }

    /// Notes a number; `resent` if it came on RTX.
    pub fn arrive(&mut self, seq: u16, resent: bool, now: Instant) -> Arrival {
        let seq = rtp::extend(self.highest, seq);
        if seq <= self.highest {
            if seq + WINDOW <= self.highest || seq < self.first || *self.word(seq) & (1 << (seq % 64)) != 0 {
                return Arrival::Again;
            }
            *self.word(seq) |= 1 << (seq % 64);
            self.received += 1;
            let asked = self.missing.remove(&seq).is_some_and(|missing| missing.asked > 0);
            return if resent || asked { Arrival::Repaired } else { Arrival::Late };
        }
        let gap = seq - self.highest - 1;
        if gap >= WINDOW {
            self.seen.fill(0);
        } else {
            (self.highest + 1..seq).for_each(|lost| *self.word(lost) &= !(1 << (lost % 64)));
        }
        if self.missing.len() as u64 + gap > MISSING_MAX {
            self.missing.clear();
        } else {
            let missing = |seq| (seq, Missing { due: now + NACK_DELAY, asked: 0 });
            self.missing.extend((self.highest + 1..seq).map(missing));
        }
        *self.word(seq) |= 1 << (seq % 64);
        self.highest = seq;
        self.received += 1;
        Arrival::Fresh { gap }
    }

    fn word(&mut self, seq: u64) -> &mut u64 {
        &mut self.seen[(seq % WINDOW / 64) as usize]
    }

    /// RFC 3550 §6.4.1, in timestamp units.
    pub fn note_jitter(&mut self, timestamp: u32, clock_hz: f64, now: Instant) {
        self.reported.note_jitter(timestamp, clock_hz, now);
    }

    /// What is to be asked for now, ascending.
    pub fn take_nacks(&mut self, now: Instant) -> Vec<u16> {
        if self.missing.is_empty() {
            return Vec::new();
        }
        self.missing.retain(|_, missing| missing.due > now || missing.asked < NACKS_MAX);
        let due = self.missing.iter_mut().filter(|(_, missing)| missing.due <= now);
        due.map(|(seq, missing)| {
            missing.asked += 1;
            missing.due = now + NACK_INTERVAL;
            *seq as u16
        })
        .collect()
    }

    /// The next report block, with the middle bits of the last sender report and when it came.
    pub fn report(&mut self, ssrc: u32, clock: Option<(u64, Instant)>, now: Instant) -> ReportBlock {
        self.reported.block(ssrc, (self.first, self.highest, self.received), clock, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_asked_for_and_what_comes_is_told_apart() {
        let now = Instant::now();
        let mut reception = Reception::new(65_534);
        let arrive = |reception: &mut Reception, seq, resent| reception.arrive(seq, resent, now);
        assert_eq!(arrive(&mut reception, 65_534, false), Arrival::Fresh { gap: 0 });
        assert_eq!(arrive(&mut reception, 2, false), Arrival::Fresh { gap: 3 });
        assert_eq!(arrive(&mut reception, 0, false), Arrival::Late);
        assert!(reception.take_nacks(now).is_empty(), "what was overtaken may still come");
        assert_eq!(reception.take_nacks(now + NACK_DELAY), [65_535, 1]);
        assert_eq!(arrive(&mut reception, 65_535, true), Arrival::Repaired);
        assert_eq!(arrive(&mut reception, 65_535, true), Arrival::Again);
        assert_eq!(reception.take_nacks(now + NACK_DELAY), [0_u16; 0]);
        let block = reception.report(7, None, now);
        assert_eq!((block.cumulative_lost, block.fraction_lost), (1, 51));
        assert_eq!(arrive(&mut reception, 20_000, false), Arrival::Fresh { gap: 19_997 });
        assert!(reception.take_nacks(now + Duration::from_secs(1)).is_empty(), "so much is not asked for");
    }
}
