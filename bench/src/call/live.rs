//! Counters that all clients of a room share, so that progress, seconds and totals are read from one place. Nothing here is waited for.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Buckets of a [`Histogram`]: sixteen to each power of two up to an hour, so that a value is known to 6 %.
const BUCKETS: usize = 16 * 30;
/// Simulcast layers that are told apart.
pub const LAYERS_MAX: usize = 3;

/// Microseconds, counted in buckets. Shared and never blocking.
pub struct Histogram(Vec<AtomicU64>);

/// What a [`Histogram`] held at one moment; they can be added up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counted(Vec<u64>);

impl Default for Histogram {
    fn default() -> Self {
        Histogram(std::iter::repeat_with(AtomicU64::default).take(BUCKETS).collect())
    }
}

fn bucket(us: u64) -> usize {
    if us < 16 {
        return us as usize;
    }
    let exponent = 63 - us.leading_zeros() as usize;
    (16 * (exponent - 3) + (us >> (exponent - 4)) as usize % 16).min(BUCKETS - 1)
}

/// The middle of a bucket, µs.
fn middle(bucket: usize) -> f64 {
    if bucket < 16 {
        return bucket as f64;
    }
    let width = (1_u64 << (bucket / 16 - 1)) as f64;
    (16 + bucket % 16) as f64 * width + width / 2.0
}

impl Histogram {
    /// Counts one.
    pub fn note(&self, us: u64) {
        self.0[bucket(us)].fetch_add(1, Relaxed);
    }

    /// What it holds.
    pub fn read(&self) -> Counted {
        Counted(self.0.iter().map(|count| count.load(Relaxed)).collect())
    }
}

impl Counted {
    /// Adds another.
    pub fn add(&mut self, other: &Counted) {
        self.0.resize(BUCKETS, 0);
        self.0.iter_mut().zip(&other.0).for_each(|(sum, count)| *sum += count);
    }

    /// What came since `before`.
    pub fn since(&self, before: &Counted) -> Counted {
        let old = |at: usize| before.0.get(at).copied().unwrap_or(0);
        Counted(self.0.iter().enumerate().map(|(at, count)| count.saturating_sub(old(at))).collect())
    }

    /// The value below which `part` of all lie, µs; `None` for nothing.
    pub fn quantile(&self, part: f64) -> Option<f64> {
        let total: u64 = self.0.iter().sum();
        let rank = ((part * total as f64).ceil() as u64).max(1);
        let mut seen = 0;
        let at = self.0.iter().position(|count| {
            seen += count;
            seen >= rank
        });
        at.filter(|_| total > 0).map(middle)
    }
}

/// One room's counters.
#[derive(Default)]
pub struct Room {
    /// People who are in it by now.
    pub joined: AtomicU64,
    /// RTP packets published, first sends only.
    pub sent: AtomicU64,
    /// Of these, what the server asked for again.
    pub sent_lost: AtomicU64,
    /// RTP packets that came, each counted once.
    pub received: AtomicU64,
    /// Packets that did not come in their turn …
    pub gaps: AtomicU64,
    /// … but by themselves a little later …
    pub late: AtomicU64,
    /// … or since they were asked for.
    pub repaired: AtomicU64,
    /// Pictures shown.
    pub shown: AtomicU64,
    /// Time that videos were to move, µs.
    pub watched_us: AtomicU64,
    /// Of this, time that they stood still, µs.
    pub frozen_us: AtomicU64,
    /// Freezes.
    pub freezes: AtomicU64,
    /// Time that videos were paused since the link was too narrow for them, as the server said, µs.
    pub paused_us: AtomicU64,
    /// Pictures shown of each simulcast layer.
    pub layers: [AtomicU64; LAYERS_MAX],
    /// Time from publisher to subscriber, µs.
    pub delay: Histogram,
    /// When audio and video were published first, µs since the run began, plus one; 0 for not yet.
    pub first_sent_us: [AtomicU64; 2],
}

/// What a [`Room`] held at one moment.
#[derive(Clone, Debug, Default)]
pub struct Sums {
    /// See [`Room`], here and below.
    pub joined: u64,
    /// See [`Room`].
    pub sent: u64,
    /// See [`Room`].
    pub sent_lost: u64,
    /// See [`Room`].
    pub received: u64,
    /// Packets that the network lost on the way down, repaired or not.
    pub lost: u64,
    /// Of these, what never came.
    pub unrepaired: u64,
    /// See [`Room`].
    pub shown: u64,
    /// See [`Room`].
    pub watched: Duration,
    /// See [`Room`].
    pub frozen: Duration,
    /// See [`Room`].
    pub freezes: u64,
    /// See [`Room`].
    pub paused: Duration,
    /// See [`Room`].
    pub layers: [u64; LAYERS_MAX],
    /// See [`Room`].
    pub delay: Counted,
}

impl Room {
    /// Notes that audio (0) or video (1) is published.
    pub fn published(&self, kind: usize, at: Duration) {
        let at = at.as_micros() as u64 + 1;
        let _ = self.first_sent_us[kind].compare_exchange(0, at, Relaxed, Relaxed);
    }

    /// When audio (0) or video (1) was published first, since the run began.
    pub fn first_published(&self, kind: usize) -> Option<Duration> {
        let at = self.first_sent_us[kind].load(Relaxed);
        at.checked_sub(1).map(Duration::from_micros)
    }

    /// What it holds.
    pub fn read(&self) -> Sums {
        let of = |counter: &AtomicU64| counter.load(Relaxed);
        let lost = of(&self.gaps).saturating_sub(of(&self.late));
        Sums {
            joined: of(&self.joined),
            sent: of(&self.sent),
            sent_lost: of(&self.sent_lost),
            received: of(&self.received),
            lost,
            unrepaired: lost.saturating_sub(of(&self.repaired)),
            shown: of(&self.shown),
            watched: Duration::from_micros(of(&self.watched_us)),
            frozen: Duration::from_micros(of(&self.frozen_us)),
            freezes: of(&self.freezes),
            paused: Duration::from_micros(of(&self.paused_us)),
            layers: self.layers.each_ref().map(of),
            delay: self.delay.read(),
        }
    }
}

impl Sums {
    /// Adds another room's.
    pub fn add(&mut self, other: &Sums) {
        self.joined += other.joined;
        self.sent += other.sent;
        self.sent_lost += other.sent_lost;
        self.received += other.received;
        self.lost += other.lost;
        self.unrepaired += other.unrepaired;
        self.shown += other.shown;
        self.watched += other.watched;
        self.frozen += other.frozen;
        self.freezes += other.freezes;
        self.paused += other.paused;
        self.layers.iter_mut().zip(other.layers).for_each(|(sum, more)| *sum += more);
        self.delay.add(&other.delay);
    }

    /// What came since `before`; people are counted from the beginning.
    pub fn since(&self, before: &Sums) -> Sums {
        Sums {
            joined: self.joined,
            sent: self.sent - before.sent,
            sent_lost: self.sent_lost - before.sent_lost,
            received: self.received - before.received,
            // What was repaired or came late meanwhile may make these smaller than they were.
            lost: self.lost.saturating_sub(before.lost),
            unrepaired: self.unrepaired.saturating_sub(before.unrepaired),
            shown: self.shown - before.shown,
            watched: self.watched - before.watched,
            frozen: self.frozen - before.frozen,
            freezes: self.freezes - before.freezes,
            paused: self.paused - before.paused,
            layers: std::array::from_fn(|layer| self.layers[layer] - before.layers[layer]),
            delay: self.delay.since(&before.delay),
        }
    }

    /// Share of the packets that should have come that the network lost, percent.
    pub fn loss_percent(&self) -> f64 {
        percent(self.lost, self.received + self.unrepaired)
    }

    /// Share that never came, percent.
    pub fn unrepaired_percent(&self) -> f64 {
        percent(self.unrepaired, self.received + self.unrepaired)
    }

    /// Share of what was published that the server had to ask for again, percent.
    pub fn uplink_loss_percent(&self) -> f64 {
        percent(self.sent_lost, self.sent)
    }

    /// Share of the time that videos were paused for want of bandwidth, percent; `None` where nobody watched any.
    pub fn paused_percent(&self) -> Option<f64> {
        let paused = self.paused.as_secs_f64();
        let all = paused + self.watched.as_secs_f64();
        (all > 0.0).then(|| 100.0 * paused / all)
    }

    /// Share of the time that videos stood still, percent; `None` where nobody watched any.
    pub fn freeze_percent(&self) -> Option<f64> {
        let watched = self.watched.as_secs_f64();
        (watched > 0.0).then(|| 100.0 * self.frozen.as_secs_f64() / watched)
    }
}

fn percent(part: u64, whole: u64) -> f64 {
    100.0 * part as f64 / whole.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_right_to_a_sixteenth() {
        let histogram = Histogram::default();
        (1..=10_000).for_each(|us| histogram.note(us));
        let before = histogram.read();
        for part in [0.5, 0.95, 0.99] {
            let (found, right) = (before.quantile(part).expect("there are values"), part * 10_000.0);
            assert!((found - right).abs() < right / 16.0, "{part}: {found}");
        }
        histogram.note(3);
        histogram.note(u64::MAX);
        assert_eq!(histogram.read().since(&before).quantile(0.5), Some(3.0));
        assert_eq!(Counted::default().quantile(0.5), None);
    }

    #[test]
    fn what_came_late_was_not_lost() {
        let room = Room::default();
        room.gaps.store(10, Relaxed);
        room.late.store(4, Relaxed);
        room.repaired.store(5, Relaxed);
        room.received.store(99, Relaxed);
        let sums = room.read();
        assert_eq!((sums.loss_percent(), sums.unrepaired_percent()), (6.0, 1.0));
        assert_eq!(sums.freeze_percent(), None);
    }
}
