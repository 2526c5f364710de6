//! When video may leave. Frames leave as they came; a keyframe or a burst of retransmissions on a weak downlink is
//! spread, so that audio behind it does not wait in the link's queue.

use std::time::{Duration, Instant};

/// Video leaves at this multiple of the estimate. More hurts audio on weak links, less delays keyframes.
const PACE: f64 = 2.5;
/// Video waits no longer than this for what left without asking: audio, which goes on where the estimate is below what it
/// takes, as in an outage, would owe more and more.
const DEBT_MAX: Duration = Duration::from_millis(100);
/// What is behind by no more than this, at that pace, leaves at once: 1.5 times the estimate's share of a frame at 30/s.
const SLACK: Duration = Duration::from_millis(20);

/// A rate that is used up and comes back with time: the time at which all that was spent is paid for (the virtual
/// scheduling of GCRA), so that spending is a multiplication and a comparison.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Allowance {
    paid_at: Instant,
    nanos_per_byte: u32,
    slack: Duration,
}

impl Allowance {
    /// Of `bps`, of which `slack` may be used at once.
    pub(crate) fn new(bps: f64, slack: Duration, now: Instant) -> Self {
        let mut allowance = Allowance { paid_at: now, nanos_per_byte: 0, slack };
        allowance.set_rate(bps);
        allowance
    }

    /// Changes the rate; what is spent stays spent for as long as it was to be.
    pub(crate) fn set_rate(&mut self, bps: f64) {
        self.nanos_per_byte = (8e9 / bps.max(1_000.0)) as u32;
    }

    /// Whether it has something left.
    #[inline]
    pub(crate) fn has_some(&self, now: Instant) -> bool {
        self.paid_at <= now + self.slack
    }

    /// Bytes that may be spent now; the last packet may go beyond.
    #[inline]
    pub(crate) fn left(&self, now: Instant) -> usize {
        let left = (now + self.slack).saturating_duration_since(self.paid_at);
        left.min(self.slack).as_nanos() as usize / self.nanos_per_byte.max(1) as usize + usize::from(self.has_some(now))
    }

    /// Spends, whether it has it or not.
    #[inline]
    pub(crate) fn spend(&mut self, bytes: usize, now: Instant) {
        let cost = Duration::from_nanos(u64::from(self.nanos_per_byte) * bytes as u64);
        self.paid_at = self.paid_at.max(now) + cost;
    }

    /// When it has something left again.
    pub(crate) fn ready_at(&self) -> Instant {
        self.paid_at.checked_sub(self.slack).unwrap_or(self.paid_at)
    }
}

/// See the module. Audio spends too, but never waits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pacer(Allowance);

impl Pacer {
    /// A pacer for an estimate in bits a second.
    pub(crate) fn new(estimate: f64, now: Instant) -> Self {
        Pacer(Allowance::new(PACE * estimate, SLACK, now))
    }

    /// Follows the estimate.
    pub(crate) fn set_estimate(&mut self, estimate: f64) {
        self.0.set_rate(PACE * estimate);
    }

    /// Bytes of video that may leave now; the last packet may go beyond.
    #[inline]
    pub(crate) fn left(&self, now: Instant) -> usize {
        self.0.left(now)
    }

    /// Notes what leaves now.
    #[inline]
    pub(crate) fn spend(&mut self, bytes: usize, now: Instant) {
        self.0.spend(bytes, now);
        self.0.paid_at = self.0.paid_at.min(now + DEBT_MAX);
    }

    /// When video may leave, if it may not now.
    pub(crate) fn ready_at(&self) -> Instant {
        self.0.ready_at()
    }
}
