//! The rate, raised and lowered (draft-ietf-rmcat-gcc-02 §5.5): by a part of itself while the link's capacity is
//! unknown, by little near it, down to a part of what got through when the queue grows.

use std::time::Duration;

use super::delay::Usage;
use super::{MAX_BPS, MIN_BPS, Micros, SECOND, START_BPS};

/// After overuse: this part of what got through, so that the queue empties.
const BACKOFF: f64 = 0.85;
/// Growth each second far from the link's capacity. More finds it sooner and overshoots more.
const GROWTH: f64 = 1.08;
/// Growth each second near it, as a part of the rate.
const GROWTH_NEAR: f64 = 0.03;
/// After an outage the rate doubles each second until it is where it was.
const GROWTH_BACK: f64 = 2.0;
/// The rate never grows above this part of what got through, so that it is not believed without proof.
const PROVEN: f64 = 1.5;
const PROVEN_MORE: f64 = 10_000.0;
/// However little got through of late, it goes down by no more than to this at once: that may have been a hiccup.
const BACKOFF_MOST: f64 = 0.2;
/// A sender that used little of the rate loses no more than this at once: what it sent says little of the link.
const BACKOFF_LIMITED: f64 = 0.6;

/// What is known beside the queue, when the rate is reconsidered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    pub(super) usage: Usage,
    /// Bits a second that the link carries, inherent loss made good; the last 0.2 s only where they are much less.
    pub(super) throughput: Option<f64>,
    /// We send much less than the rate allows.
    pub(super) limited: bool,
    /// Losses forbid to grow.
    pub(super) hold: bool,
    pub(super) rtt: Duration,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Rate {
    bps: f64,
    /// Waits after it went down or while the queue empties.
    holds: bool,
    changed: Option<Micros>,
    decreased: Option<Micros>,
    /// The link's capacity as overuse showed it: mean and normalised deviation, in kbit/s.
    link: Option<(f64, f64)>,
    /// Where the rate was before the outage that it comes back from.
    back_to: Option<f64>,
}

impl Rate {
    pub(super) fn new() -> Self {
        Rate { bps: START_BPS, holds: false, changed: None, decreased: None, link: None, back_to: None }
    }

    pub(super) fn bps(&self) -> f64 {
        self.bps
    }

    /// When it last went down because the queue grew.
    pub(super) fn decreased(&self) -> Option<Micros> {
        self.decreased
    }

    /// Sets what something else found out: a probe, losses, an outage.
    pub(super) fn set(&mut self, bps: f64, now: Micros) {
        self.bps = bps.clamp(MIN_BPS, MAX_BPS);
        self.changed = Some(now);
        if self.link.is_some_and(|link| bps > upper(link) * 1_000.0) {
            self.link = None;
        }
    }

    /// Lets it double each second until it is near what it was before an outage, unless the queue grows.
    pub(super) fn come_back(&mut self, bps: f64) {
        self.back_to = Some(BACKOFF * bps);
    }

    /// Draws the conclusion from one feedback; whether the rate went down.
    pub(super) fn on_feedback(&mut self, seen: &Seen, now: Micros) -> bool {
        let elapsed = now.saturating_sub(self.changed.unwrap_or(now)).min(SECOND as u64) as f64 / SECOND;
        self.changed = Some(now);
        match seen.usage {
            Usage::Over => return self.decrease(seen, now),
            Usage::Under => self.holds = true,
            Usage::Normal if self.holds => self.holds = false,
            Usage::Normal => self.increase(seen, elapsed),
        }
        false
    }

    fn decrease(&mut self, seen: &Seen, now: Micros) -> bool {
        self.back_to = None;
        let Some(throughput) = seen.throughput else { return false };
        let wait = seen.rtt.clamp(Duration::from_millis(10), Duration::from_millis(200)).as_micros() as u64;
        let waited = self.decreased.is_none_or(|at| now.saturating_sub(at) >= wait);
        if !waited && throughput >= 0.5 * self.bps {
            return false;
        }
        let mut to = BACKOFF * throughput;
        if seen.limited {
            to = to.max(BACKOFF_LIMITED * self.bps);
        } else {
            if to > self.bps
                && let Some((kbps, _)) = self.link
            {
                to = BACKOFF * kbps * 1_000.0;
            }
            self.note_link(throughput / 1_000.0);
        }
        self.bps = to.max(BACKOFF_MOST * self.bps).min(self.bps).max(MIN_BPS);
        self.holds = true;
        self.decreased = Some(now);
        true
    }

    fn note_link(&mut self, kbps: f64) {
        let known = self.link.filter(|(mean, deviation)| {
            let spread = 3.0 * (deviation * mean).sqrt();
            (mean - spread..=mean + spread).contains(&kbps)
        });
        self.link = Some(match known {
            None => (kbps, 0.4),
            Some((mean, deviation)) => {
                let mean = 0.95 * mean + 0.05 * kbps;
                let error = (mean - kbps).powi(2) / mean.max(1.0);
                (mean, (0.95 * deviation + 0.05 * error).clamp(0.4, 2.5))
            }
        });
    }

    fn increase(&mut self, seen: &Seen, elapsed: f64) {
        if let Some(to) = self.back_to {
            if self.bps < to {
                self.bps = (self.bps * GROWTH_BACK.powf(elapsed)).min(to);
                return;
            }
            self.back_to = None;
        }
        let Some(throughput) = seen.throughput else { return };
        if seen.limited || seen.hold {
            return;
        }
        if self.link.is_some_and(|link| throughput / 1_000.0 > upper(link)) {
            self.link = None;
        }
        let grown = if self.link.is_some() {
            // About a packet in the time in which its effect comes back.
            let response = 2.0 * (seen.rtt.as_secs_f64() + 0.1);
            self.bps + elapsed * (9_600.0 / response).max(GROWTH_NEAR * self.bps)
        } else {
            self.bps * GROWTH.powf(elapsed) + elapsed * 1_000.0
        };
        let proven = PROVEN * throughput + PROVEN_MORE;
        if grown > self.bps {
            self.bps = grown.min(proven.max(self.bps)).min(MAX_BPS);
        }
    }
}

/// What the link's capacity is hardly above, in kbit/s.
fn upper((mean, deviation): (f64, f64)) -> f64 {
    mean + 3.0 * (deviation * mean).sqrt()
}
