//! What a thread of ours lets others know of itself: that its loop runs, what it counted, and that it has ended.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::UnboundedSender;

use crate::error::Failure;

/// How often counters are copied for others to read, and the longest sleep, so that a stuck thread shows.
pub(crate) const REPORT_EVERY: Duration = Duration::from_millis(250);

/// Shared by a thread and those who look at it.
#[derive(Debug)]
pub(crate) struct Pulse<R> {
    /// Touched four times a second by the thread, and at each scrape.
    report: Mutex<R>,
    /// When the thread's loop last ran, ms after `started`.
    looped_ms: AtomicU64,
    started: Instant,
    dead: AtomicBool,
}

impl<R: Clone + Default> Pulse<R> {
    /// Of a thread that is about to start.
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Pulse {
            report: Mutex::default(),
            looped_ms: AtomicU64::new(0),
            started: Instant::now(),
            dead: AtomicBool::new(false),
        })
    }

    /// The last report, at most [`REPORT_EVERY`] old while the thread lives.
    pub(crate) fn report(&self) -> R {
        self.report.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Time since the loop last ran; `None` when the thread has ended.
    pub(crate) fn idle(&self) -> Option<Duration> {
        if self.dead.load(Ordering::Relaxed) {
            return None;
        }
        let looped = Duration::from_millis(self.looped_ms.load(Ordering::Relaxed));
        Some(self.started.elapsed().saturating_sub(looped))
    }

    /// The loop has run.
    pub(crate) fn beat(&self, now: Instant) {
        let looped = now.saturating_duration_since(self.started).as_millis();
        self.looped_ms.store(u64::try_from(looped).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Leaves a report.
    pub(crate) fn tell(&self, report: R) {
        *self.report.lock().unwrap_or_else(PoisonError::into_inner) = report;
    }
}

/// Says that a thread has ended, also when it unwinds.
pub(crate) struct End<R> {
    /// Of the thread.
    pub(crate) pulse: Arc<Pulse<R>>,
    /// Where its end is told.
    pub(crate) ended: UnboundedSender<Failure>,
    /// What it is, such as `media worker 0`.
    pub(crate) name: String,
    /// Why it ends.
    pub(crate) reason: String,
}

impl<R> End<R> {
    /// To be held by the thread, whose `reason` it sets when it returns.
    pub(crate) fn new(name: String, pulse: Arc<Pulse<R>>, ended: UnboundedSender<Failure>) -> Self {
        End { pulse, ended, name, reason: "it panicked".to_owned() }
    }
}

impl<R> Drop for End<R> {
    fn drop(&mut self) {
        self.pulse.dead.store(true, Ordering::Relaxed);
        // Nobody listens any more when the process is ending anyway.
        let _ = self.ended.send(Failure::Broken(format!("{} has ended: {}", self.name, self.reason)));
    }
}
