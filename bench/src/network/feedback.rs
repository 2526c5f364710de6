//! Transport-wide feedback as libwebrtc's receivers write it: what came late is told again, up to half a second back.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use sfu::rtp;

/// Late packets make the next feedback begin anew with them if they are no older than this (`kBackWindow`).
const BACK_WINDOW: Duration = Duration::from_millis(500);
/// Most numbers that one feedback tells of.
const STATUSES_MAX: u64 = 400;
const TICK_US: i64 = 250;
const REFERENCE_TICKS: i64 = 256;

/// When packets came.
pub struct Arrivals {
    began: Instant,
    came: BTreeMap<u64, Instant>,
    /// The first number that was not told of; or one that came late.
    from: Option<u64>,
    newest: u64,
    count: u8,
}

impl Arrivals {
    /// Nothing came yet; ticks count from `began`.
    pub fn new(began: Instant) -> Arrivals {
        Arrivals { began, came: BTreeMap::new(), from: None, newest: 1 << 20, count: 0 }
    }

    /// Notes a packet.
    pub fn record(&mut self, seq: u16, now: Instant) {
        let seq = rtp::extend(self.newest, seq);
        self.newest = self.newest.max(seq);
        self.came.entry(seq).or_insert(now);
        self.from = Some(self.from.map_or(seq, |from| from.min(seq)));
        while self.came.first_key_value().is_some_and(|(seq, at)| now - *at > BACK_WINDOW && Some(*seq) < self.from) {
            self.came.pop_first();
        }
    }

    /// One feedback packet of what was not told, or `None` when all was.
    pub fn write(&mut self, sender: u32, media: u32) -> Option<Vec<u8>> {
        let from = self.from?;
        let (_, first) = self.came.range(from..).next()?;
        let ticks = |at: Instant| (at - self.began).as_micros() as i64 / TICK_US;
        let reference = ticks(*first) / REFERENCE_TICKS;
        let mut before = reference * REFERENCE_TICKS;
        let (mut symbols, mut deltas, mut next) = (Vec::new(), Vec::new(), from);
        for (seq, at) in self.came.range(from..) {
            let delta = ticks(*at) - before;
            let Ok(delta) = i16::try_from(delta) else { break };
            if seq - from >= STATUSES_MAX {
                break;
            }
            symbols.resize((seq - from) as usize, 0_u16);
            match u8::try_from(delta) {
                Ok(small) => {
                    symbols.push(1);
                    deltas.push(small);
                }
                Err(_) => {
                    symbols.push(2);
                    deltas.extend(delta.to_be_bytes());
                }
            }
            (before, next) = (ticks(*at), seq + 1);
        }
        if symbols.is_empty() {
            // A gap longer than a feedback, or a time longer than a delta: begin behind it.
            self.from = self.came.range(from + 1..).next().map(|(seq, _)| *seq);
            return None;
        }
        self.from = self.came.range(next..).next().map(|_| next);
        let mut out = vec![0x8f, 205, 0, 0];
        out.extend(sender.to_be_bytes());
        out.extend(media.to_be_bytes());
        out.extend((from as u16).to_be_bytes());
        out.extend((symbols.len() as u16).to_be_bytes());
        out.extend(((reference as u32) << 8 | u32::from(self.count)).to_be_bytes());
        self.count = self.count.wrapping_add(1);
        for chunk in symbols.chunks(7) {
            let bits = chunk.iter().fold(0, |bits, symbol| bits << 2 | symbol) << (2 * (7 - chunk.len()));
            out.extend((0xc000 | bits).to_be_bytes());
        }
        out.extend(deltas);
        out.resize(out.len().next_multiple_of(4), 0);
        let words = (out.len() / 4 - 1) as u16;
        out[2..4].copy_from_slice(&words.to_be_bytes());
        Some(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sfu::rtcp::{self, Packet};

    fn told(feedback: &[u8]) -> Vec<(u16, bool)> {
        let Some(Packet::TransportFeedback(feedback)) = rtcp::parse(feedback).next() else { panic!("no feedback") };
        feedback.statuses().map(|(seq, delta)| (seq, delta.is_some())).collect()
    }

    #[test]
    fn what_came_late_is_told_again() {
        let now = Instant::now();
        let at = |ms| now + Duration::from_millis(ms);
        let mut arrivals = Arrivals::new(now);
        for (seq, ms) in [(65_534, 10), (65_535, 12), (1, 13), (2, 14)] {
            arrivals.record(seq, at(ms));
        }
        let first = arrivals.write(1, 2).expect("feedback");
        assert_eq!(told(&first), [(65_534, true), (65_535, true), (0, false), (1, true), (2, true)]);
        assert!(arrivals.write(1, 2).is_none());
        arrivals.record(0, at(40));
        arrivals.record(3, at(41));
        let second = arrivals.write(1, 2).expect("feedback");
        assert_eq!(told(&second), [(0, true), (1, true), (2, true), (3, true)]);
    }
}
