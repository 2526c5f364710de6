//! A link in virtual time: a queue that drains at a rate, a delay, jitter, and accidents drawn from a seed.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// Bytes of IP and UDP header that each datagram has on the wire.
pub const WIRE_OVERHEAD_BYTES: usize = 28;
/// How much of the past a link remembers of what was put on it, in slots.
pub const SLOT: Duration = Duration::from_millis(100);

/// How datagrams get lost.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Loss {
    /// Each for itself, with this probability (0–1).
    Random(f64),
    /// In bursts (Gilbert-Elliott): `share` of all (0–1), of `length` datagrams on average.
    Bursts {
        /// Part of the datagrams that is lost in the long run.
        share: f64,
        /// Mean length of a burst.
        length: f64,
    },
}

/// What a link does to datagrams.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Weather {
    /// Bits a second on the wire.
    pub rate_bps: u64,
    /// The queue holds what the rate carries in this time; what finds it full is lost.
    pub queue: Duration,
    /// Time that every datagram takes behind the queue.
    pub delay: Duration,
    /// Further time, evenly between nothing and this.
    pub jitter: Duration,
    /// Whether jitter lets datagrams overtake each other.
    pub reorders: bool,
    /// Accidents.
    pub loss: Loss,
    /// Nothing passes at all.
    pub cut: bool,
}

impl Weather {
    /// A link on which only the delay matters.
    pub fn fair(delay: Duration) -> Weather {
        Weather {
            rate_bps: 100_000_000,
            queue: Duration::from_millis(250),
            delay,
            jitter: Duration::ZERO,
            reorders: false,
            loss: Loss::Random(0.0),
            cut: false,
        }
    }
}

/// One direction of a link.
pub struct Link {
    /// What it does now; may be changed at any time.
    pub weather: Weather,
    rng: StdRng,
    in_burst: bool,
    free_at: Option<Instant>,
    last_arrival: Option<Instant>,
    waiting: VecDeque<(Instant, usize)>,
    waiting_bytes: usize,
    began: Instant,
    /// What was put on the link in each [`SLOT`] since it began, in bits on the wire, lost or not.
    pub offered_bits: Vec<u64>,
    /// What came out behind the queue in each [`SLOT`], lost by accident or not.
    pub carried_bits: Vec<u64>,
    /// Time in the queue of each datagram that got through it, with the moment at which it came.
    pub queue_delays: Vec<(Instant, Duration)>,
    /// Datagrams that found the queue full.
    pub overflowed: u64,
}

impl Link {
    /// An idle link, all of whose accidents come from `seed`.
    pub fn new(weather: Weather, seed: u64, now: Instant) -> Link {
        Link {
            weather,
            rng: StdRng::seed_from_u64(seed),
            in_burst: false,
            free_at: None,
            last_arrival: None,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            began: now,
            offered_bits: Vec::new(),
            carried_bits: Vec::new(),
            queue_delays: Vec::new(),
            overflowed: 0,
        }
    }

    /// Puts a datagram on the link; when it arrives, if it does.
    pub fn send(&mut self, datagram_bytes: usize, now: Instant) -> Option<Instant> {
        let bytes = datagram_bytes + WIRE_OVERHEAD_BYTES;
        let bits = 8 * bytes as u64;
        Self::note(&mut self.offered_bits, self.began, now, bits);
        while self.waiting.front().is_some_and(|(leaves, _)| *leaves <= now) {
            self.waiting_bytes -= self.waiting.pop_front().map_or(0, |(_, bytes)| bytes);
        }
        let room = self.weather.rate_bps as f64 * self.weather.queue.as_secs_f64() / 8.0;
        if self.weather.cut || (self.waiting_bytes > 0 && (self.waiting_bytes + bytes) as f64 > room) {
            self.overflowed += u64::from(!self.weather.cut);
            return None;
        }
        let begins = self.free_at.map_or(now, |free| free.max(now));
        let leaves = begins + Duration::from_secs_f64(bits as f64 / self.weather.rate_bps as f64);
        self.free_at = Some(leaves);
        self.waiting.push_back((leaves, bytes));
        self.waiting_bytes += bytes;
        self.queue_delays.push((now, begins - now));
        Self::note(&mut self.carried_bits, self.began, leaves, bits);

        // Drawn for each datagram, so that one more loss does not change the fate of all others.
        let (accident, jitter) = (self.accident(), self.weather.jitter.mul_f64(self.rng.random()));
        let mut arrives = leaves + self.weather.delay + jitter;
        if !self.weather.reorders {
            arrives = self.last_arrival.map_or(arrives, |last| arrives.max(last));
            self.last_arrival = Some(arrives);
        }
        (!accident).then_some(arrives)
    }

    fn accident(&mut self) -> bool {
        match self.weather.loss {
            Loss::Random(share) => self.rng.random_bool(share),
            Loss::Bursts { share, length } => {
                let change = if self.in_burst { 1.0 / length } else { share / (length * (1.0 - share)) };
                self.in_burst ^= self.rng.random_bool(change.min(1.0));
                self.in_burst
            }
        }
    }

    fn note(slots: &mut Vec<u64>, began: Instant, at: Instant, bits: u64) {
        let slot = ((at - began).as_micros() / SLOT.as_micros()) as usize;
        if slots.len() <= slot {
            slots.resize(slot + 1, 0);
        }
        slots[slot] += bits;
    }

    /// Bits of whole slots between two moments.
    pub fn bits_between(&self, slots: &[u64], from: Instant, to: Instant) -> u64 {
        let slot = |at: Instant| ((at - self.began).as_micros() / SLOT.as_micros()) as usize;
        slots.get(slot(from).min(slots.len())..slot(to).min(slots.len())).unwrap_or_default().iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(change: impl FnOnce(&mut Weather)) -> (Link, Instant) {
        let mut weather = Weather::fair(Duration::from_millis(50));
        change(&mut weather);
        let now = Instant::now();
        (Link::new(weather, 1, now), now)
    }

    #[test]
    fn a_queue_drains_at_its_rate_and_overflows() {
        let (mut link, now) = link(|weather| weather.rate_bps = 1_000_000);
        // 1,250 bytes on the wire are 10 ms each; the queue of 250 ms holds 25 of them.
        let arrivals: Vec<_> = (0..40).map(|_| link.send(1_250 - WIRE_OVERHEAD_BYTES, now)).collect();
        assert_eq!(arrivals[0], Some(now + Duration::from_millis(60)));
        assert_eq!(arrivals[24], Some(now + Duration::from_millis(300)));
        assert_eq!((arrivals[25], link.overflowed), (None, 15));
        assert_eq!(link.bits_between(&link.carried_bits, now, now + Duration::from_millis(200)), 190_000);
        assert!(link.send(100, now + Duration::from_millis(100)).is_some(), "it has room again");
    }

    #[test]
    fn losses_are_as_frequent_and_as_long_as_asked() {
        for loss in [Loss::Random(0.1), Loss::Bursts { share: 0.1, length: 4.0 }] {
            let (mut link, now) = link(|weather| weather.loss = loss);
            let lost: Vec<bool> =
                (0..50_000).map(|i| link.send(100, now + Duration::from_millis(i)).is_none()).collect();
            let share = lost.iter().filter(|lost| **lost).count() as f64 / lost.len() as f64;
            assert!((0.09..0.11).contains(&share), "{loss:?}: {share}");
            let bursts = lost.windows(2).filter(|pair| !pair[0] && pair[1]).count() as f64;
            let length = share * lost.len() as f64 / bursts;
            let expected = if loss == Loss::Random(0.1) { 1.0..1.2 } else { 3.5..4.5 };
            assert!(expected.contains(&length), "{loss:?}: {length}");
        }
    }

    #[test]
    fn jitter_overtakes_only_where_it_may() {
        for reorders in [false, true] {
            let (mut link, now) = link(|weather| {
                weather.jitter = Duration::from_millis(60);
                weather.reorders = reorders;
            });
            let arrivals: Vec<_> =
                (0..100).filter_map(|i| link.send(100, now + Duration::from_millis(5 * i))).collect();
            assert_eq!(arrivals.is_sorted(), !reorders);
        }
    }
}
