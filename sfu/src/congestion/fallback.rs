//! Estimates for clients that do not tell of arrivals: what they estimate themselves (draft-alvestrand-rmcat-remb-03),
//! or what they say was lost (draft-ietf-rmcat-gcc-02 §6).

use super::{MAX_BPS, MIN_BPS, Micros, SECOND};

/// Growth each second while nothing speaks against it.
const GROWTH: f64 = 1.08;
/// The same where a receiver estimates: it knows no more than half as much again as it gets, so what is paused must be tried.
const REMB_GROWTH: f64 = 2.0;
/// A receiver estimates by what it gets, so a REMB that is above it by this does not say that the link is at its end.
const REMB_ROOM: f64 = 1.2;
/// Below this part lost the rate grows, above the next it goes down.
const LOSS_LOW: f64 = 0.02;
const LOSS_HIGH: f64 = 0.1;
/// Reports count at most this often: each tells of a second or so.
const REPORT_WINDOW: Micros = 500_000;
/// A step up after silence counts no longer than this.
const STEP_SECONDS_MAX: f64 = 2.0;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Fallback {
    changed: Option<Micros>,
    /// The last REMB.
    remb: Option<f64>,
}

impl Fallback {
    /// Whether a REMB or a report ever came.
    pub(super) fn is_informed(&self) -> bool {
        self.changed.is_some()
    }

    /// The new rate after a REMB of any value.
    pub(super) fn on_remb(&mut self, remb: u64, bps: f64, sent_bps: f64, wanted: f64, now: Micros) -> f64 {
        let remb = (remb as f64).clamp(MIN_BPS, MAX_BPS);
        let first = self.remb.replace(remb).is_none();
        let elapsed = self.elapsed(now);
        if first || remb < REMB_ROOM * sent_bps {
            return remb;
        }
        remb.max(grown(bps, REMB_GROWTH, elapsed, wanted))
    }

    /// The new rate after a receiver report with this part lost, the worst of its blocks; what is sent without loss is
    /// carried. A REMB is better.
    pub(super) fn on_report(&mut self, lost: f64, bps: f64, sent_bps: f64, wanted: f64, now: Micros) -> Option<f64> {
        if self.remb.is_some() || self.changed.is_some_and(|at| now.saturating_sub(at) < REPORT_WINDOW) {
            return None;
        }
        let elapsed = self.elapsed(now);
        if lost > LOSS_HIGH {
            Some((bps * (1.0 - 0.5 * lost)).max(MIN_BPS))
        } else if lost < LOSS_LOW {
            Some(grown(bps, GROWTH, elapsed, wanted).max(sent_bps))
        } else {
            None
        }
    }

    fn elapsed(&mut self, now: Micros) -> f64 {
        let elapsed = now.saturating_sub(self.changed.unwrap_or(now)) as f64 / SECOND;
        self.changed = Some(now);
        elapsed.min(STEP_SECONDS_MAX)
    }
}

/// Grows towards what is wanted and not beyond: nothing would prove it.
fn grown(bps: f64, growth: f64, elapsed: f64, wanted: f64) -> f64 {
    (bps * growth.powf(elapsed)).min(wanted.max(bps)).min(MAX_BPS)
}
