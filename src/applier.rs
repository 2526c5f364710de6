//! Carries committed facts from the journal to the store, in order, and does what the store needs now and then.
//!
//! It remembers nothing: how far it came stands in the store, moved by the same transaction that applies records, so each is
//! applied exactly once whenever anything dies. While the store is away facts stay in the journal.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::clock;
use crate::journal::{Journal, Reader, Record, Unreadable};
use crate::seldom::Seldom;
use crate::store::{Store, StoreError};

/// Records of one transaction. More would hold locks for longer, fewer cost a commit each.
const BATCH_MAX: usize = 500;
/// Waits before the store is tried again: from the first, twice as long each time, to the last.
const BACKOFF: std::ops::RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(5);
/// How often the store is told that we live (others close our connections after a minute of silence), and is tried while idle.
const SEEN_EVERY: Duration = Duration::from_secs(5);

/// How the applier and its store are, for metrics and health.
#[derive(Debug, Default)]
pub(crate) struct Applying {
    /// The last thing asked of the store worked.
    is_up: AtomicBool,
    /// How long that took, µs.
    response_us: AtomicU64,
    /// The last record that is in the store.
    applied: AtomicU64,
    /// What the wall clock said at the first that is not, Unix ms; 0 if all are.
    oldest_ms: AtomicU64,
    /// Times that the store or the journal failed us.
    failures: AtomicU64,
    /// Why the last did; without what could be a secret.
    trouble: Mutex<Option<String>>,
}

impl Applying {
    /// Whether the store answers.
    pub(crate) fn is_up(&self) -> bool {
        self.is_up.load(Ordering::Relaxed)
    }

    /// How long its last answer took.
    pub(crate) fn response(&self) -> Duration {
        Duration::from_micros(self.response_us.load(Ordering::Relaxed))
    }

    /// The last record that is in the store.
    pub(crate) fn applied(&self) -> u64 {
        self.applied.load(Ordering::Relaxed)
    }

    /// How long the first fact waits that is not in the store.
    pub(crate) fn age(&self, unix_ms: u64) -> Duration {
        match self.oldest_ms.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            oldest => Duration::from_millis(unix_ms.saturating_sub(oldest)),
        }
    }

    /// Times that the store or the journal failed.
    pub(crate) fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    fn note(&self, start: Instant) {
        self.is_up.store(true, Ordering::Relaxed);
        self.response_us.store(start.elapsed().as_micros() as u64, Ordering::Relaxed);
        let trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner).take();
        if trouble.is_some() {
            tracing::info!("the database answers again");
        }
    }

    fn fail(&self, trouble: &Trouble) {
        static LINE: Seldom = Seldom::new();
        self.is_up.store(false, Ordering::Relaxed);
        self.failures.fetch_add(1, Ordering::Relaxed);
        let said = trouble.to_string();
        let mut last = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(more) = LINE.due() {
            tracing::warn!(more, "{said}; facts wait in the journal, calls go on");
        }
        *last = Some(said);
    }
}

/// Why records do not reach the store.
enum Trouble {
    Store(StoreError),
    Journal(Unreadable),
    /// The store has more of our records than we ever wrote.
    Ahead { applied: u64, committed: u64 },
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Trouble::Store(error) => write!(f, "{error}"),
            Trouble::Journal(unreadable) => f.write_str(&unreadable.to_string()),
            Trouble::Ahead { applied, committed } => write!(
                f,
                "the database has {applied} facts of this server, whose journal has {committed}: the journal is an old copy; move the directory of [store] dir aside, so that a new one begins"
            ),
        }
    }
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Self {
        Trouble::Store(error)
    }
}

impl From<Unreadable> for Trouble {
    fn from(error: Unreadable) -> Self {
        Trouble::Journal(error)
    }
}

/// Runs for as long as the process does.
pub(crate) async fn run(store: Store, journal: Journal, status: Arc<Applying>) {
    let mut applier = Applier { store, journal, status, reader: None, batch: BATCH_MAX, seen: None };
    let mut backoff = *BACKOFF.start();
    loop {
        match applier.step().await {
            Ok(true) => backoff = *BACKOFF.start(),
            Ok(false) => {
                backoff = *BACKOFF.start();
                let _ = tokio::time::timeout(SEEN_EVERY, applier.journal.status.fresh.notified()).await;
            }
            Err(trouble) => {
                applier.status.fail(&trouble);
                // Whether the last transaction came to pass only the store knows.
                applier.reader = None;
                applier.batch = 1;
                tokio::time::sleep(backoff).await;
                backoff = (backoff * 2).min(*BACKOFF.end());
            }
        }
    }
}

struct Applier {
    store: Store,
    journal: Journal,
    status: Arc<Applying>,
    /// `None` until the store has said how far it is.
    reader: Option<Reader>,
    /// Records of the next transaction: one after a failure, so that those before one that is refused get through; then twice as many
    /// each time.
    batch: usize,
    /// When the store last heard that we live.
    seen: Option<Instant>,
}

impl Applier {
    /// Does the next thing; `false` if there was nothing.
    async fn step(&mut self) -> Result<bool, Trouble> {
        if self.seen.is_none_or(|at| at.elapsed() >= SEEN_EVERY) {
            let start = Instant::now();
            self.store.seen(&self.journal.node, self.journal.boot, clock::now().unix_ms).await?;
            self.status.note(start);
            self.seen = Some(start);
        }
        let mut reader = match self.reader.take() {
            Some(reader) => reader,
            None => self.find().await?,
        };
        let batch = self.batch;
        // A disk may make its readers wait.
        let (reader, records) = tokio::task::spawn_blocking(move || {
            let records = reader.read(batch);
            (reader, records)
        })
        .await
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
        let records: Vec<Record> = records?;
        let Some((first, last)) = records.first().zip(records.last()) else {
            self.reader = Some(reader);
            return Ok(false);
        };
        self.status.oldest_ms.store(first.wall_ms.max(1), Ordering::Relaxed);
        let start = Instant::now();
        self.store.apply(&self.journal.node, &records).await?;
        self.status.note(start);
        self.status.applied.store(last.index, Ordering::Relaxed);
        if last.index == self.journal.committed() {
            self.status.oldest_ms.store(0, Ordering::Relaxed);
        }
        self.batch = (self.batch * 2).min(BATCH_MAX);
        self.reader = Some(reader);
        if let Err(error) = self.journal.applied(last.index) {
            tracing::warn!(%error, "a part of the journal that the database has cannot be deleted");
        }
        Ok(true)
    }

    /// A reader of what the store does not have.
    async fn find(&self) -> Result<Reader, Trouble> {
        let applied = self.store.applied(&self.journal.node).await?;
        let committed = self.journal.committed();
        if applied > committed {
            return Err(Trouble::Ahead { applied, committed });
        }
        self.status.applied.store(applied, Ordering::Relaxed);
        let mut reader = self.journal.reader(applied + 1);
        let missing = reader.skip_missing();
        if missing > 0 {
            tracing::error!(
                missing,
                "the database lacks facts that were applied to one before it and are not in the journal any more: restore it from a newer backup if there is one"
            );
        }
        Ok(reader)
    }
}
