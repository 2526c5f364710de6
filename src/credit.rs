//! What one socket may have waiting in control's inbox, and what becomes of its events beyond that.
//!
//! A socket whose credits are used up has its further events refused: they keep their name and ack in a row of the
//! socket's own, and one marker in the inbox stands for the whole row. Control answers the row when it comes to the
//! marker, so that answers keep the order of the events. Until then the row stays open, for the same reason.

use std::mem;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use signaling::limits::EXCESS_EVENTS_MAX;

/// Events of one socket that control has not handled yet: as many as the lobby allows at once. Further ones are refused.
const EVENTS_MAX: usize = 512;
/// Bytes of those events; an event beyond them is refused.
const BYTES_MAX: usize = 4 * 1024 * 1024;
/// Events in a row of refused ones: one more than the lobby bears before it disconnects. When full, nothing more of the
/// socket is heard, since its end is certain.
const REFUSED_MAX: usize = EXCESS_EVENTS_MAX as usize + 1;

/// The credits of one socket and its row of refused events.
#[derive(Debug, Default)]
pub(crate) struct Credits {
    events: AtomicUsize,
    bytes: AtomicUsize,
    row: Mutex<Row>,
}

/// Where the socket's next event goes.
#[derive(Debug, Default)]
enum Row {
    /// Into the inbox, while there are credits.
    #[default]
    None,
    /// Behind those that were refused already.
    Open(Vec<Refused>),
    /// Nowhere: the row was full.
    Over,
}

/// What is kept of a refused event.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    /// Its name.
    pub(crate) name: String,
    /// The ack id that the client chose.
    pub(crate) ack: Option<i64>,
}

/// What becomes of an event.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// It may go into the inbox.
    Granted(Credit),
    /// It was refused and stands in the row; a new row needs its marker in the inbox.
    Refused { is_new_row: bool },
    /// The row is full.
    Ignored,
}

impl Credits {
    /// Judges an event of that many bytes; `refused` is called when its name and ack have to be kept.
    pub(crate) fn judge(self: &Arc<Self>, bytes: usize, refused: impl FnOnce() -> Refused) -> Verdict {
        let mut row = self.row.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *row {
            Row::None => match self.take(bytes) {
                Some(credit) => Verdict::Granted(credit),
                None => {
                    *row = Row::Open(vec![refused()]);
                    Verdict::Refused { is_new_row: true }
                }
            },
            Row::Open(events) if events.len() < REFUSED_MAX => {
                events.push(refused());
                Verdict::Refused { is_new_row: false }
            }
            Row::Open(_) | Row::Over => Verdict::Ignored,
        }
    }

    /// Ends the row and gives what stands in it.
    pub(crate) fn end_row(&self) -> Vec<Refused> {
        let mut row = self.row.lock().unwrap_or_else(PoisonError::into_inner);
        match mem::take(&mut *row) {
            Row::None => Vec::new(),
            Row::Open(events) => {
                if events.len() == REFUSED_MAX {
                    *row = Row::Over;
                }
                events
            }
            Row::Over => {
                *row = Row::Over;
                Vec::new()
            }
        }
    }

    /// From now on nothing of the socket is heard.
    pub(crate) fn ignore(&self) {
        *self.row.lock().unwrap_or_else(PoisonError::into_inner) = Row::Over;
    }

    fn take(self: &Arc<Self>, bytes: usize) -> Option<Credit> {
        let credit = Credit { of: self.clone(), bytes };
        let events = self.events.fetch_add(1, Ordering::Relaxed) + 1;
        let bytes = self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        (events <= EVENTS_MAX && bytes <= BYTES_MAX).then_some(credit)
    }
}

/// One event's share of its socket's credits, given back when dropped.
#[derive(Debug)]
pub(crate) struct Credit {
    of: Arc<Credits>,
    bytes: usize,
}

impl Drop for Credit {
    fn drop(&mut self) {
        self.of.events.fetch_sub(1, Ordering::Relaxed);
        self.of.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(ack: i64) -> Refused {
        Refused { name: "x".to_owned(), ack: Some(ack) }
    }

    #[test]
    fn credits_come_back() {
        let credits = Arc::new(Credits::default());
        let held: Vec<_> = (0..EVENTS_MAX).map(|_| credits.take(10)).collect();
        assert!(held.iter().all(Option::is_some));
        assert!(credits.take(10).is_none());
        drop(held);
        assert!(credits.take(BYTES_MAX).is_some());
        assert!(credits.take(BYTES_MAX + 1).is_none());
        assert_eq!((credits.events.load(Ordering::Relaxed), credits.bytes.load(Ordering::Relaxed)), (0, 0));
    }

    #[test]
    fn beyond_the_credits_a_row_keeps_the_order_until_it_is_ended() {
        let credits = Arc::new(Credits::default());
        let held: Vec<_> = (0..EVENTS_MAX).map(|_| credits.take(1)).collect();
        assert!(matches!(credits.judge(1, || refused(1)), Verdict::Refused { is_new_row: true }));
        drop(held);
        // There are credits again, but the row has not been answered: what comes must not overtake it.
        assert!(matches!(credits.judge(1, || refused(2)), Verdict::Refused { is_new_row: false }));
        assert_eq!(credits.end_row(), [refused(1), refused(2)]);
        assert!(matches!(credits.judge(1, || refused(3)), Verdict::Granted(_)));
        assert_eq!(credits.end_row(), []);
    }

    #[test]
    fn a_full_row_is_the_last() {
        let credits = Arc::new(Credits::default());
        let _held: Vec<_> = (0..EVENTS_MAX).map(|_| credits.take(1)).collect();
        for ack in 0..REFUSED_MAX as i64 {
            assert!(matches!(credits.judge(1, || refused(ack)), Verdict::Refused { .. }));
        }
        assert!(matches!(credits.judge(1, || refused(0)), Verdict::Ignored));
        assert_eq!(credits.end_row().len(), REFUSED_MAX);
        assert!(matches!(credits.judge(1, || refused(0)), Verdict::Ignored));
        assert_eq!(credits.end_row(), []);
    }
}
