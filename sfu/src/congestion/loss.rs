//! What losses mean. A link with short queues shows overload by loss alone; a radio link loses whatever the rate. The
//! two are told apart by trying: the rate goes down once, and if the losses stay, they are the link's own.

use super::Micros;

/// Losses are counted over at least this time and this many packets.
const WINDOW: Micros = 500_000;
const PACKETS_MIN: u32 = 50;
/// With few packets, over this time.
const WINDOW_MAX: Micros = 2_000_000;
/// What came of a try is counted over this.
const WINDOW_TRY: Micros = 800_000;
/// More loss than the link's own by this: the rate does not grow.
const EXCESS_HOLD: f64 = 0.03;
/// By this, in two windows on end: it is tried whether a lower rate helps. Less would pause videos for losses that resends make
/// good; and one window in thirty shows so much where a link loses 5 % by itself.
const EXCESS_TRY: f64 = 0.08;
/// By this: it is tried at once.
const EXCESS_MUCH: f64 = 0.2;
/// The most that is ever taken for the link's own. Beyond it the rate goes down with what gets through.
const INHERENT_MAX: f64 = 0.35;
/// A try that helped nothing is repeated after this, and after twice that, up to the next.
const RETRY: Micros = 5_000_000;
const RETRY_MAX: Micros = 40_000_000;
/// One that helped, after this.
const AGAIN: Micros = 1_000_000;
/// What is known of the link's own losses follows what is seen by this part in each window, down and up.
const FOLLOW_DOWN: f64 = 0.3;
const FOLLOW_UP: f64 = 0.05;
/// A try lowers the rate to this part of what got through, and by half at most.
const TRY_BELOW: f64 = 0.95;
const TRY_MIN: f64 = 0.5;

/// What the rate should do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Verdict {
    Nothing,
    /// Go down to this, in bits a second.
    Lower(f64),
    /// The try helped nothing: back to where it was.
    Restore(f64),
}

#[derive(Clone, Copy, Debug)]
struct Try {
    /// Where the rate was.
    bps: f64,
    sent_bps: f64,
    loss: f64,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Loss {
    received: u32,
    lost: u32,
    /// Packets sent before this are not counted.
    from: Micros,
    began: Option<Micros>,
    /// The part that the link loses by itself.
    inherent: f64,
    excess: f64,
    /// By how much losses differ from that from window to window: bursts make it large.
    spread: f64,
    recent: f64,
    /// What was lost in the window before, if that was so much that a try is due if it goes on.
    suspect: Option<f64>,
    trial: Option<Try>,
    /// No try before this, and what is added to it when the next helps nothing.
    retry: Micros,
    pause: Micros,
}

impl Loss {
    /// The part of packets that the link loses whatever the rate.
    pub(super) fn inherent(&self) -> f64 {
        self.inherent
    }

    /// The part of packets lost lately.
    pub(super) fn recent(&self) -> f64 {
        self.recent
    }

    /// Whether it is being tried if a lower rate helps.
    pub(super) fn tries(&self) -> bool {
        self.trial.is_some()
    }

    pub(super) fn holds(&self) -> bool {
        self.excess > EXCESS_HOLD
    }

    /// Leaves out what was sent before now: it was lost in an outage.
    pub(super) fn forget(&mut self, now: Micros) {
        *self = Loss {
            from: now,
            inherent: self.inherent,
            spread: self.spread,
            retry: self.retry,
            pause: self.pause,
            ..Loss::default()
        };
    }

    /// Notes what became of a packet.
    pub(super) fn count(&mut self, sent: Micros, received: bool, corrected: bool) {
        if sent < self.from {
            return;
        }
        if received {
            self.received += 1;
        } else {
            self.lost += 1;
        }
        if corrected {
            self.lost = self.lost.saturating_sub(1);
        }
    }

    /// After each feedback: `sent_bps` is what we send, `throughput` what gets through, `bps` the rate.
    pub(super) fn on_feedback(&mut self, bps: f64, sent_bps: f64, throughput: f64, now: Micros) -> Verdict {
        let began = *self.began.get_or_insert(now);
        let packets = self.received + self.lost;
        let elapsed = now.saturating_sub(began);
        let window = if self.trial.is_some() { WINDOW_TRY } else { WINDOW };
        let enough = elapsed >= window && packets >= PACKETS_MIN || elapsed >= WINDOW_MAX && packets >= PACKETS_MIN / 3;
        if !enough {
            return Verdict::Nothing;
        }
        let loss = f64::from(self.lost) / f64::from(packets);
        (self.received, self.lost, self.began) = (0, 0, Some(now));
        self.recent = loss;
        if let Some(trial) = self.trial.take() {
            return self.judge(trial, loss, sent_bps, now);
        }
        self.excess = loss - self.inherent;
        let chance = (2.5 * (loss * (1.0 - loss) / f64::from(packets)).sqrt()).max(2.5 * self.spread);
        let due = now >= self.retry || self.excess > EXCESS_MUCH;
        let before = self.suspect.take();
        if due && self.excess > EXCESS_TRY.max(chance) {
            let Some(before) = before.or((self.excess > EXCESS_MUCH).then_some(loss)) else {
                self.suspect = Some(loss);
                return Verdict::Nothing;
            };
            self.trial = Some(Try { bps, sent_bps, loss: (before + loss) / 2.0 });
            self.from = now;
            self.began = None;
            let got_through = throughput / (1.0 - self.inherent);
            return Verdict::Lower((TRY_BELOW * got_through).min(0.9 * sent_bps).max(TRY_MIN * bps).min(bps));
        }
        for excess in before.map(|loss| loss - self.inherent).into_iter().chain([self.excess]) {
            self.spread += 0.2 * (excess.abs() - self.spread);
        }
        let follow = if self.excess < 0.0 { FOLLOW_DOWN } else { FOLLOW_UP };
        self.inherent = (self.inherent + follow * self.excess).min(INHERENT_MAX);
        Verdict::Nothing
    }

    /// Had the link been too small, then as much as before would have got through, and less been lost.
    fn judge(&mut self, trial: Try, loss: f64, sent_bps: f64, now: Micros) -> Verdict {
        let expected = (1.0 - (1.0 - trial.loss) * trial.sent_bps / sent_bps.max(1.0)).max(self.inherent);
        if loss < (trial.loss + expected) / 2.0 {
            self.inherent = self.inherent.min(loss);
            (self.excess, self.pause) = (0.0, 0);
            self.retry = now + AGAIN;
            return Verdict::Nothing;
        }
        self.inherent = loss.min(INHERENT_MAX);
        self.excess = loss - self.inherent;
        self.pause = (2 * self.pause).clamp(RETRY, RETRY_MAX);
        self.retry = now + self.pause;
        if self.excess > EXCESS_HOLD { Verdict::Nothing } else { Verdict::Restore(trial.bps) }
    }
}
