//! Log lines that a stranger can cause, so at most one in [`EVERY`].

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Time between two lines of one place. Shorter fills disks, longer hides that it goes on.
const EVERY: Duration = Duration::from_secs(10);

/// When a place last logged, and how often it kept silent since.
pub(crate) struct Seldom(Mutex<(Option<Instant>, u64)>);

impl Seldom {
    /// A place that has not logged yet.
    pub(crate) const fn new() -> Self {
        Seldom(Mutex::new((None, 0)))
    }

    /// How often this place kept silent since its last line, if it may log now.
    pub(crate) fn due(&self) -> Option<u64> {
        let mut guard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (last, silent) = &mut *guard;
        if last.is_some_and(|at| at.elapsed() < EVERY) {
            *silent += 1;
            return None;
        }
        *last = Some(Instant::now());
        Some(std::mem::take(silent))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_is_logged_and_the_next_held_back() {
        let place = Seldom::new();
        assert_eq!([place.due(), place.due(), place.due()], [Some(0), None, None]);
    }
}
