//! Estimates for clients that do not tell of arrivals: what they estimate themselves (draft-alvestrand-rmcat-remb-03),
//! or what they say was lost (draft-ietf-rmcat-gcc-02 §6).

use super::{MAX_BPS, MIN_BPS, Micros, SECOND};

/// Growth each second while nothing speaks against it.
const GROWTH: f64 = 1.08;
/// The same where a receiver estimates: it knows no more than half as much again as it gets, so what is paused must be tried.
const REMB_GROWTH: f64 = 1.5;
/// A receiver at its link's end says this part of what it gets …
const REMB_BACKOFF: f64 = 0.85;
/// … so a REMB that fell, by this at least, and is not above what is sent by this, says that the link is at its end. One that
/// is low for another reason follows what is sent, late and slowly, and says nothing.
const REMB_FELL: f64 = 0.97;
const REMB_ROOM: f64 = 1.1;
/// One that neither falls nor rises and stays below this part of what is sent so many times in a row is meant so.
const REMB_LOW: f64 = 0.85;
const REMB_LOW_TIMES: u8 = 3;
/// After the link was at its end no more than it carried then is tried for this long.
const REMB_RETRY: Micros = 8_000_000;
/// A REMB that falls again within this time means it.
const REMB_AGAIN: Micros = 2_000_000;
/// And so does one that is below this part of what had been carried.
const REMB_MUCH: f64 = 0.7;
/// A REMB counts for so long.
const REMB_AGE: Micros = 3_000_000;
/// Below this part lost the rate grows, above the next it goes down.
const LOSS_LOW: f64 = 0.02;
const LOSS_HIGH: f64 = 0.1;
/// Reports count at most this often: each tells of a second or so.
const REPORT_WINDOW: Micros = 500_000;
/// A step up after silence counts no longer than this.
const STEP_SECONDS_MAX: f64 = 2.0;

/// What a receiver estimates for all that is sent, and what it estimated before, in bits a second.
#[derive(Clone, Copy, Debug)]
pub(super) struct Remb {
    pub(super) bps: f64,
    pub(super) before: Option<f64>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Fallback {
    changed: Option<Micros>,
    /// When a report last counted.
    reported: Option<Micros>,
    informed: bool,
    /// When the last REMB came, and how many in a row were low.
    remb: Option<Micros>,
    low: u8,
    /// When the link was at its end, and what it carried.
    end: Option<(Micros, f64)>,
    /// A little more than was sent when the last REMB spoke against nothing, in bits a second.
    carried: f64,
}

impl Fallback {
    /// Whether a report ever came, or a REMB that said that the link is at its end. Other REMBs tell of what was sent.
    pub(super) fn is_informed(&self) -> bool {
        self.informed
    }

    /// The new rate after a REMB of any value, given the same receiver's one before. Receivers raise theirs by 8 % a second, and
    /// not above 1.5 times what they get, so that theirs alone would never let a paused video or a larger layer be tried: the
    /// rate grows towards what is wanted as long as no REMB falls.
    pub(super) fn on_remb(&mut self, remb: Remb, bps: f64, sent_bps: f64, wanted: f64, now: Micros) -> f64 {
        let Remb { bps: remb, before } = remb;
        let elapsed = self.elapsed(now);
        self.remb = Some(now);
        let Some(before) = before else { return bps };
        let fell = remb < REMB_FELL * before;
        let low = remb < REMB_LOW * sent_bps && remb * REMB_FELL <= before;
        self.low = if low { self.low.saturating_add(1) } else { 0 };
        if fell && remb < REMB_ROOM * sent_bps || self.low >= REMB_LOW_TIMES {
            let again = self.end.is_some_and(|(at, _)| now.saturating_sub(at) < REMB_AGAIN);
            // What had been carried for long is carried still, most likely: what was tried beside it was too much.
            let kept = if again || fell && remb < REMB_MUCH * self.carried { 0.0 } else { self.carried };
            self.end = Some((now, kept.max(remb / REMB_BACKOFF)));
            self.carried = 0.0;
            let most = if self.informed { bps } else { bps.max(sent_bps) };
            self.informed = true;
            return kept.max(remb).min(most);
        }
        if !low && self.end.is_none_or(|(at, _)| now.saturating_sub(at) >= REMB_AGAIN) {
            self.carried = REMB_ROOM * sent_bps;
        }
        if remb <= MIN_BPS {
            // Nothing fits.
            return bps;
        }
        let end = self.end.filter(|(at, _)| now.saturating_sub(*at) < REMB_RETRY);
        let most = end.map_or(MAX_BPS, |(_, carried)| carried);
        grown(bps, REMB_GROWTH, elapsed, most.min(wanted)).max(remb.min(most))
    }

    /// The new rate after a receiver report with this part lost, the worst of its blocks; what is sent without loss is
    /// carried. While a REMB is new it is better, unless much is lost of which it does not know.
    pub(super) fn on_report(&mut self, lost: f64, bps: f64, sent_bps: f64, wanted: f64, now: Micros) -> Option<f64> {
        let remb = self.remb.is_some_and(|at| now.saturating_sub(at) < REMB_AGE);
        let recent = self.reported.is_some_and(|at| now.saturating_sub(at) < REPORT_WINDOW);
        if recent || remb && lost <= LOSS_HIGH {
            return None;
        }
        self.reported = Some(now);
        let elapsed = self.elapsed(now);
        self.informed = true;
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
