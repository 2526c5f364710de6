//! The only clock.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use sfu::Now;

/// Reads both clocks once. A wall clock before 1970 reads as 0.
pub(crate) fn now() -> Now {
    both().0
}

/// As [`now`], with all that the wall clock says: time since 1970.
pub(crate) fn both() -> (Now, Duration) {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    (Now { mono: Instant::now(), unix_ms: u64::try_from(unix.as_millis()).unwrap_or(u64::MAX) }, unix)
}
