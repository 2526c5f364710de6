//! A machine that is short of time: now and then it does nothing for a while, and then finds all that has come meanwhile.

use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// How short of time it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Starvation {
    /// It is away for a time between these.
    pub away: [Duration; 2],
    /// And for this part of all time (0–1, exclusive).
    pub part: f64,
    /// Reading a datagram takes up to this.
    pub reading: Duration,
}

impl Starvation {
    /// Away for 20 to 300 ms, for 30 % of the time.
    pub const HARD: Starvation = Starvation {
        away: [Duration::from_millis(20), Duration::from_millis(300)],
        part: 0.3,
        reading: Duration::from_micros(200),
    };
    /// The same for half of the time, and slow when it is there.
    pub const HARDEST: Starvation = Starvation { part: 0.5, reading: Duration::from_millis(1), ..Starvation::HARD };
    /// Away for 5 to 60 ms, for 30 % of the time.
    pub const MILD: Starvation =
        Starvation { away: [Duration::from_millis(5), Duration::from_millis(60)], ..Starvation::HARD };
}

/// See the module.
#[derive(Debug)]
pub struct Starved {
    starvation: Starvation,
    rng: StdRng,
    /// It is away from the first until the second.
    away: [Instant; 2],
    busy_until: Instant,
}

impl Starved {
    /// A machine that has time now. All that happens to it comes from `seed`.
    pub fn new(starvation: Starvation, seed: u64, now: Instant) -> Starved {
        let mut starved = Starved { starvation, rng: StdRng::seed_from_u64(seed), away: [now; 2], busy_until: now };
        starved.plan();
        starved
    }

    /// When it does something again; `None` if it has time now.
    pub fn back_at(&mut self, now: Instant) -> Option<Instant> {
        while self.away[1] <= now {
            self.plan();
        }
        let back = if self.away[0] <= now { self.away[1] } else { self.busy_until };
        (back > now).then_some(back)
    }

    /// Reads a datagram.
    pub fn read(&mut self, now: Instant) {
        self.busy_until = now + self.starvation.reading.mul_f64(self.rng.random());
    }

    fn plan(&mut self) {
        let [least, most] = self.starvation.away;
        let away = least + (most - least).mul_f64(self.rng.random());
        let there = (least + most).mul_f64((1.0 - self.starvation.part) / self.starvation.part);
        let begins = self.away[1] + there.mul_f64(self.rng.random());
        self.away = [begins, begins + away];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_away_for_as_long_as_asked() {
        let now = Instant::now();
        let at = |ms| now + Duration::from_millis(ms);
        for starvation in [Starvation::HARD, Starvation::MILD, Starvation::HARDEST] {
            let mut starved = Starved::new(starvation, 1, now);
            let away = (0..200_000).filter(|ms| starved.back_at(at(*ms)).is_some()).count() as f64 / 200_000.0;
            assert!((away - starvation.part).abs() < 0.03, "{away} of {starvation:?}");
        }
    }
}
