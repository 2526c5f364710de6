//! The only clock.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use sfu::Now;

/// Reads both clocks once. A wall clock before 1970 reads as 0.
pub(crate) fn now() -> Now {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Now { mono: Instant::now(), unix_ms: u64::try_from(unix.as_millis()).unwrap_or(u64::MAX) }
}
