//! A bad network in user space, for one direction of one client: loss, delay, jitter and a rate with its queue.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::str::FromStr;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::words::{parse_duration, parse_percent, parse_rate};

/// The queue before a rate holds what passes in this time; what finds it full is lost.
const QUEUE: Duration = Duration::from_millis(250);
/// Datagrams on their way. When full, further ones are lost.
const WAITING_MAX: usize = 4_096;
/// Bytes of IP and UDP header of each datagram.
const HEADERS_BYTES: usize = 28;
const EXPECTED: &str = "expected some of loss=1%,delay=50ms,jitter=10ms,rate=500k, separated by commas";

/// What happens to datagrams in each direction.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Impair {
    /// Part that is lost, 0–1.
    pub loss: f64,
    /// Time that each takes longer.
    pub delay: Duration,
    /// Further time, evenly between nothing and this; they may overtake each other.
    pub jitter: Duration,
    /// Bits a second, IP and UDP headers included; 0 for no limit.
    pub rate_bps: u64,
}

impl FromStr for Impair {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut impair = Impair::default();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').ok_or_else(|| format!("{EXPECTED}, not {part:?}"))?;
            match name {
                "loss" => impair.loss = parse_percent(value)?,
                "delay" => impair.delay = parse_duration(value)?,
                "jitter" => impair.jitter = parse_duration(value)?,
                "rate" => impair.rate_bps = parse_rate(value)?,
                _ => return Err(format!("{EXPECTED}, not {name:?}")),
            }
        }
        Ok(impair)
    }
}

/// One direction: datagrams go in and come out when it is their time.
pub struct Gate {
    impair: Impair,
    rng: StdRng,
    free_at: Option<Instant>,
    waiting: BinaryHeap<Reverse<(Instant, u64, Vec<u8>)>>,
    next: u64,
    /// Nothing passes at all.
    pub cut: bool,
}

impl Gate {
    /// Nothing is on its way.
    pub fn new(impair: Impair, seed: u64) -> Gate {
        let rng = StdRng::seed_from_u64(seed);
        Gate { impair, rng, free_at: None, waiting: BinaryHeap::new(), next: 0, cut: false }
    }

    /// Takes a datagram; hands it back if it passes at once.
    pub fn put(&mut self, datagram: Vec<u8>, now: Instant) -> Option<Vec<u8>> {
        let Impair { loss, delay, jitter, rate_bps } = self.impair;
        if self.cut || (loss > 0.0 && self.rng.random_bool(loss)) || self.waiting.len() >= WAITING_MAX {
            return None;
        }
        let mut leaves = now;
        if rate_bps > 0 {
            let begins = self.free_at.map_or(now, |free| free.max(now));
            if begins - now > QUEUE {
                return None;
            }
            let bits = 8 * (datagram.len() + HEADERS_BYTES) as u64;
            leaves = begins + Duration::from_secs_f64(bits as f64 / rate_bps as f64);
            self.free_at = Some(leaves);
        }
        if jitter > Duration::ZERO {
            leaves += jitter.mul_f64(self.rng.random());
        }
        leaves += delay;
        if leaves <= now {
            return Some(datagram);
        }
        self.waiting.push(Reverse((leaves, self.next, datagram)));
        self.next += 1;
        None
    }

    /// The next datagram whose time has come.
    pub fn take(&mut self, now: Instant) -> Option<Vec<u8>> {
        let due = self.waiting.peek().is_some_and(|Reverse((at, ..))| *at <= now);
        due.then(|| self.waiting.pop().map(|Reverse((.., datagram))| datagram)).flatten().filter(|_| !self.cut)
    }

    /// When the next datagram comes out.
    pub fn deadline(&self) -> Option<Instant> {
        self.waiting.peek().map(|Reverse((at, ..))| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn impairments_are_read_or_refused() {
        let impair: Impair = "loss=1%,delay=50ms,jitter=5ms,rate=500k".parse().expect("it is right");
        let (delay, jitter) = (Duration::from_millis(50), Duration::from_millis(5));
        assert_eq!(impair, Impair { loss: 0.01, delay, jitter, rate_bps: 500_000 });
        for wrong in ["loss", "loss=2", "loss=150%", "delay=1y", "rate=fast", "colour=red"] {
            assert!(wrong.parse::<Impair>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_gate_loses_delays_and_limits() {
        let now = Instant::now();
        let mut lossy = Gate::new(Impair { loss: 0.1, ..Default::default() }, 1);
        let passed = (0..10_000).filter(|_| lossy.put(vec![0; 10], now).is_some()).count();
        assert!((8_800..9_200).contains(&passed), "{passed} of 10,000 pass");

        let mut slow = Gate::new("delay=50ms,rate=1M".parse().expect("it is right"), 1);
        // 1,250 bytes on the wire are 10 ms each, and the queue is 250 ms long.
        for _ in 0..100 {
            assert!(slow.put(vec![0; 1_250 - HEADERS_BYTES], now).is_none());
        }
        assert_eq!(slow.deadline(), Some(now + Duration::from_millis(60)));
        let out = (1..=1_000).filter(|ms| slow.take(now + Duration::from_millis(*ms)).is_some()).count();
        assert_eq!(out, 26, "the rest found the queue full");
        slow.cut = true;
        assert!(slow.put(vec![0], now).is_none());
    }
}
