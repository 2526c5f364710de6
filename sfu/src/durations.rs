//! How long things took, counted into fixed classes: nothing is allocated, and those of several threads can be added.

use std::time::Duration;

/// The longest time of each class but the last, which has no bound, in microseconds: from what forwarding takes to what joins take.
pub const BOUNDS_US: [u64; 16] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    5_000_000, 10_000_000,
];

/// Durations, each counted once, since start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Durations {
    /// How many were in each class; those longer than all bounds are in the last.
    pub classes: [u64; BOUNDS_US.len() + 1],
    /// All of them together.
    pub sum: Duration,
}

impl Durations {
    /// Counts one.
    pub fn note(&mut self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let class = BOUNDS_US.iter().position(|bound| us <= *bound).unwrap_or(BOUNDS_US.len());
        if let Some(count) = self.classes.get_mut(class) {
            *count += 1;
        }
        self.sum = self.sum.saturating_add(took);
    }

    /// Counts those of another, too.
    pub fn add(&mut self, other: &Durations) {
        for (ours, theirs) in self.classes.iter_mut().zip(&other.classes) {
            *ours += theirs;
        }
        self.sum = self.sum.saturating_add(other.sum);
    }

    /// How many were counted.
    pub fn count(&self) -> u64 {
        self.classes.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_in_the_first_class_that_it_fits() {
        let mut durations = Durations::default();
        for us in [0, 100, 101, 1_000, 10_000_000, 10_000_001] {
            durations.note(Duration::from_micros(us));
        }
        let last = BOUNDS_US.len();
        let expected = [(0, 2), (1, 1), (3, 1), (last - 1, 1), (last, 1)];
        let found = durations.classes.iter().copied().enumerate().filter(|(_, count)| *count > 0);
        assert_eq!(found.collect::<Vec<_>>(), expected);
        let mut twice = durations.clone();
        twice.add(&durations);
        assert_eq!((twice.count(), twice.sum), (12, 2 * durations.sum));
        assert!(BOUNDS_US.is_sorted());
    }
}
