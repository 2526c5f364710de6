//! The life of a meeting: it begins with its first connection, outlives its last seat for a while, and ends once.

use std::sync::Arc;
use std::time::Instant;

/// What a room remembers of its present meeting beside its seats.
#[derive(Debug, Default)]
pub(crate) struct Life {
    /// When it began by our own clock, and the Unix ms that stand for it; `None` before its first fact.
    pub(crate) anchor: Option<(Instant, u64)>,
    /// Who was removed and stays out, with the id and the expiry (Unix ms) of the token if it had one. As many as moderators remove:
    /// one each at most, of those who had a seat.
    pub(crate) removed: Vec<(Arc<str>, Option<Arc<str>>, u64)>,
}
