//! When a delivery is tried again: a pure function of what came back, how often it was tried, the time and chance.

use crate::outbound::{Answer, CallFailed};

const S: u64 = 1_000;
const MINUTE: u64 = 60 * S;
const HOUR: u64 = 60 * MINUTE;

/// When attempts are made, ms after the first. After the last the delivery is dead: kept, listed, and replayed on demand.
pub(crate) const OFFSETS_MS: [u64; 10] =
    [0, 5 * S, 5 * MINUTE, 30 * MINUTE, 2 * HOUR, 5 * HOUR, 10 * HOUR, 14 * HOUR, 20 * HOUR, 24 * HOUR];
/// Each wait is up to this much shorter or longer, in percent, so that receivers that were away are not met by all at once.
const JITTER_PERCENT: u64 = 10;
/// Longest wait that a receiver may ask for by `Retry-After`; one that asks for more gets this.
const RETRY_AFTER_S_MAX: u64 = 6 * 60 * 60;
/// Bytes of a reason that are kept.
const REASON_BYTES_MAX: usize = 300;

/// What came of one attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// The status code, if there was an answer.
    pub(crate) status: Option<u16>,
    /// Why it did not work; without secrets.
    pub(crate) error: Option<String>,
    /// `Retry-After`, seconds.
    pub(crate) retry_after_s: Option<u64>,
}

impl From<Result<Answer, CallFailed>> for Outcome {
    fn from(result: Result<Answer, CallFailed>) -> Self {
        match result {
            Ok(Answer { status, retry_after_s, .. }) => {
                let error = match status {
                    200..=299 => None,
                    300..=399 => Some(format!("{status}: redirects are not followed; set the URL that it leads to")),
                    410 => Some("410: the receiver says that nobody is there any more".to_owned()),
                    _ => Some(format!("the receiver answered {status}")),
                };
                Outcome { status: Some(status), error, retry_after_s }
            }
            Err(CallFailed { word, mut why }) => {
                why.truncate(why.floor_char_boundary(REASON_BYTES_MAX));
                Outcome { status: None, error: Some(format!("{word}: {why}")), retry_after_s: None }
            }
        }
    }
}

/// What to do with a delivery after an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It has arrived.
    Delivered,
    /// It is tried again then, Unix ms.
    Again(u64),
    /// It was tried for the last time.
    Dead,
    /// Nobody is there any more (410): the endpoint is switched off.
    Gone,
}

/// Judges the attempt number `attempt` (from 1) that has just ended. `chance` is any number.
pub(crate) fn judge(outcome: &Outcome, attempt: u64, now_ms: u64, chance: u64) -> Verdict {
    match outcome.status {
        Some(200..=299) => return Verdict::Delivered,
        Some(410) => return Verdict::Gone,
        _ => {}
    }
    let made = usize::try_from(attempt).unwrap_or(usize::MAX).max(1);
    let Some(next) = OFFSETS_MS.get(made) else { return Verdict::Dead };
    let wait = next - OFFSETS_MS[made - 1];
    let spread = wait * JITTER_PERCENT / 100;
    let wait = wait - spread + chance % (2 * spread + 1);
    let asked = outcome.retry_after_s.unwrap_or(0).min(RETRY_AFTER_S_MAX) * S;
    Verdict::Again(now_ms + wait.max(asked))
}
