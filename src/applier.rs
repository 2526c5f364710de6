//! Carries committed facts from the journal to the store, in order, and does what the store needs now and then.
//!
//! It remembers nothing: how far it came stands in the store, moved by the same transaction that applies records, so each is
//! applied exactly once whenever anything dies. While the store is away facts stay in the journal.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, mpsc};
use tokio::time::MissedTickBehavior;

use crate::clock;
use crate::config::StoreSettings;
use crate::control::Input;
use crate::error::Failure;
use crate::journal::{Journal, Reader, Record, Unreadable};
use crate::seldom::Seldom;
use crate::store::{Retained, Retention, Store, StoreError, Sweeper, Swept};
use crate::traces::{self, TARGET};

/// Records of one transaction. More would hold locks for longer, fewer cost a commit each.
const BATCH_MAX: usize = 500;
/// Waits before the store is tried again: from the first, twice as long each time, to the last.
const BACKOFF: std::ops::RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(5);
/// How often the store is told that we live (others close our connections after a minute of silence) and asked who else does.
const SWEEP_EVERY: Duration = Duration::from_secs(10);
/// How long until it is looked again whether the store has what the former boot wrote.
const RECALL_RETRY: Duration = Duration::from_millis(50);
/// How long the start waits for the store's first answer, so that the first health page is right. It goes on without.
const FIRST_ANSWER_MAX: Duration = Duration::from_secs(1);
/// How often what is too old is deleted.
const RETAIN_EVERY: Duration = Duration::from_secs(3_600);

/// Where history is: what the parts of the shell need of it. Cheap to clone.
#[derive(Clone)]
pub(crate) struct History {
    /// Where facts go first.
    pub(crate) journal: Journal,
    /// Where they come to, and where they are asked for.
    pub(crate) store: Store,
    /// How they get there.
    pub(crate) applying: Arc<Applying>,
}

/// Opens the journal, tells control what a former boot left open, and starts to apply. Whether the store can be reached is not waited for.
///
/// # Errors
/// If the journal cannot be used, or the store's URL cannot be understood.
pub(crate) fn start(
    settings: &StoreSettings,
    empty_timeout: Duration,
    inbox: &mpsc::Sender<Input>,
    ended: &mpsc::UnboundedSender<Failure>,
) -> Result<History, Failure> {
    let bytes_max = settings.journal_mb << 20;
    let (journal, open) = Journal::start(&settings.dir, bytes_max, inbox.clone(), ended.clone())?;
    tracing::debug!(node = %journal.node, boot = journal.boot, meetings = open.meetings.len(), "the journal is open");
    let went_on: Vec<(Arc<str>, u64)> = open.meetings.iter().map(|(id, m)| (id.clone(), m.last_at)).collect();
    let restored = inbox.try_send(Input::Restore { open });
    debug_assert!(restored.is_ok(), "nothing was put into the inbox before");
    let url = url(settings)?;
    let store = Store::new(&url).map_err(|error| Failure::Setting(format!("[store] url (DATABASE_URL): {error}")))?;
    let applying = Arc::new(Applying::default());
    tokio::spawn(recall(store.clone(), journal.found, applying.clone(), went_on, inbox.downgrade()));
    let sweeper = Sweeper::new(empty_timeout);
    let chores = tokio::spawn(sweep(sweeper, store.clone(), journal.clone(), applying.clone(), settings.retention));
    let apply = tokio::spawn(run(store.clone(), journal.clone(), applying.clone()));
    let ended = ended.clone();
    tokio::spawn(async move {
        let why = tokio::select! {
            apply = apply => apply.ok().map(|ahead| ahead.to_string()),
            _ = chores => None,
        };
        let why = why.unwrap_or_else(|| "a task that keeps the database has ended".to_owned());
        let _ = ended.send(Failure::Broken(why));
    });
    Ok(History { journal, store, applying })
}

/// Where the store is.
pub(crate) fn url(settings: &StoreSettings) -> Result<String, Failure> {
    match &settings.url {
        Some(url) => Ok(url.0.clone()),
        None => sqlite(&settings.dir).map_err(|error| Failure::Broken(format!("[store] dir: {error}"))),
    }
}

/// The URL of the file in `dir`.
fn sqlite(dir: &Path) -> std::io::Result<String> {
    let path = std::path::absolute(dir.join("lyceum.db"))?;
    let path = path.to_string_lossy().replace('%', "%25").replace('?', "%3f").replace('#', "%23");
    Ok(format!("sqlite://{path}"))
}

/// How the applier and its store are, for metrics and health.
#[derive(Debug, Default)]
pub(crate) struct Applying {
    /// The store answered, or failed.
    answered: Notify,
    /// Control knows what was said in meetings that went on.
    recalled: Notify,
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

    /// Returns when it is known whether the store can be reached, and control knows what of it belongs to meetings that went on; or that
    /// this takes its time.
    pub(crate) async fn first_answer(&self) {
        let _ = tokio::time::timeout(FIRST_ANSWER_MAX, self.answered.notified()).await;
        if self.is_up() {
            let _ = tokio::time::timeout(FIRST_ANSWER_MAX, self.recalled.notified()).await;
        }
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
        self.answered.notify_one();
        self.response_us.store(start.elapsed().as_micros() as u64, Ordering::Relaxed);
        let trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner).take();
        if trouble.is_some() {
            tracing::info!("the database answers again");
        }
    }

    fn fail(&self, trouble: &Trouble) {
        static LINE: Seldom = Seldom::new();
        self.is_up.store(false, Ordering::Relaxed);
        self.answered.notify_one();
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
    Ahead(Ahead),
}

/// The store has more of our records than we ever gave it: the journal is an old copy, or somebody else writes in our name. Whatever
/// is written from here on would bear numbers that are taken, and never come to the store; so nothing is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ahead {
    /// What the store has.
    applied: u64,
    /// What we have, or gave it.
    given: u64,
    /// The boot that wrote the last of it.
    boot: u64,
}

impl std::fmt::Display for Ahead {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Ahead { applied, given, boot } = self;
        write!(
            f,
            "the database has {applied} facts of this server, the last of boot {boot}, and the journal has {given} and does not know them all: it is an old copy; move the directory of [store] dir (LYCEUM__STORE__DIR) aside, so that a new one begins"
        )
    }
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Trouble::Store(error) => write!(f, "{error}"),
            Trouble::Journal(unreadable) => f.write_str(&unreadable.to_string()),
            Trouble::Ahead(ahead) => ahead.fmt(f),
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

/// Runs for as long as the process does; it must end when this does.
pub(crate) async fn run(store: Store, journal: Journal, status: Arc<Applying>) -> Ahead {
    let given = journal.found;
    let mut applier = Applier { store, journal, status, reader: None, given, batch: BATCH_MAX };
    let mut backoff = *BACKOFF.start();
    loop {
        match applier.step().await {
            Ok(true) => backoff = *BACKOFF.start(),
            Ok(false) => {
                backoff = *BACKOFF.start();
                applier.journal.status.fresh.notified().await;
            }
            Err(trouble) => {
                applier.status.fail(&trouble);
                if let Trouble::Ahead(ahead) = trouble {
                    return ahead;
                }
                // Whether the last transaction came to pass only the store knows.
                applier.reader = None;
                applier.batch = 1;
                tokio::time::sleep(backoff).await;
                backoff = (backoff * 2).min(*BACKOFF.end());
            }
        }
    }
}

/// Tells control what was said in the meetings that went on (until when, Unix ms), as soon as the store has all that the former boot wrote. What the
/// store refuses to tell is left out.
async fn recall(
    store: Store,
    found: u64,
    applying: Arc<Applying>,
    meetings: Vec<(Arc<str>, u64)>,
    inbox: mpsc::WeakSender<Input>,
) {
    for (meeting, until_ms) in meetings {
        let mut backoff = *BACKOFF.start();
        let messages = loop {
            if applying.applied() < found {
                tokio::time::sleep(RECALL_RETRY).await;
                continue;
            }
            match store.said(&meeting, until_ms).await {
                Ok(messages) => break messages,
                Err(error @ StoreError::Broken(_)) => {
                    tracing::warn!(%meeting, %error, "what was said before the restart is not shown in a meeting that went on");
                    break Vec::new();
                }
                Err(error) => applying.fail(&error.into()),
            }
            tokio::time::sleep(backoff).await;
            backoff = (backoff * 2).min(*BACKOFF.end());
        };
        let Some(inbox) = inbox.upgrade() else { return };
        if !messages.is_empty() {
            // Fails only when control is gone.
            let _ = inbox.send(Input::Said { meeting, messages }).await;
        }
    }
    applying.recalled.notify_one();
}

/// Tells the store that we live, closes what other servers left open when they died, and deletes what is too old.
async fn sweep(mut sweeper: Sweeper, store: Store, journal: Journal, status: Arc<Applying>, retention: Retention) {
    // What was on disk at the last turn, and when that was: who came until then is in the store once that is applied.
    let mut known = (u64::MAX, 0);
    let mut every = tokio::time::interval(SWEEP_EVERY);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut retained: Option<Instant> = None;
    loop {
        every.tick().await;
        let start = Instant::now();
        match sweeper.round(&store, &journal.node, clock::now()).await {
            Ok(Swept { connections: 0, meetings: 0 }) => status.note(start),
            Ok(Swept { connections, meetings }) => {
                status.note(start);
                tracing::warn!(connections, meetings, "closed what a server left open that is silent");
            }
            Err(error) => status.fail(&error.into()),
        }
        if status.is_up()
            && status.applied() >= known.0
            && let Err(error) = store.look_for_absent(known.1).await
        {
            tracing::warn!(%error, "who is late is not told yet");
        }
        known = (journal.committed(), clock::now().unix_ms);
        if !status.is_up() || retained.is_some_and(|at| at.elapsed() < RETAIN_EVERY) {
            continue;
        }
        match store.retain(&retention, clock::now().unix_ms).await {
            Ok(gone) if gone == Retained::default() => {}
            Ok(gone) => tracing::info!(?gone, "deleted what is older than [store] keeps"),
            Err(error) => tracing::warn!(%error, "what is too old is not deleted yet"),
        }
        retained = Some(Instant::now());
    }
}

struct Applier {
    store: Store,
    journal: Journal,
    status: Arc<Applying>,
    /// `None` until the store has said how far it is.
    reader: Option<Reader>,
    /// The last record that the store can have: it was there when the journal was opened, or we gave it since.
    given: u64,
    /// Records of the next transaction: one after a failure, so that those before one that is refused get through; then twice as many
    /// each time.
    batch: usize,
}

impl Applier {
    /// Does the next thing; `false` if there was nothing.
    async fn step(&mut self) -> Result<bool, Trouble> {
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
        self.given = self.given.max(last.index);
        let span = tracing::info_span!(target: TARGET, parent: None, "database", facts = records.len() as u64, error = traces::EMPTY);
        let applied = self.store.apply(&self.journal.node, &records).await.inspect_err(|_| {
            span.record("error", "the database failed");
        })?;
        drop(span);
        self.check(applied, self.journal.boot)?;
        self.status.note(start);
        self.status.applied.store(applied, Ordering::Relaxed);
        if applied == self.journal.committed() {
            self.status.oldest_ms.store(0, Ordering::Relaxed);
        }
        self.batch = (self.batch * 2).min(BATCH_MAX);
        // A slow database may not have got to the end of the batch.
        self.reader = Some(if applied == last.index { reader } else { self.journal.reader(applied + 1) });
        if let Err(error) = self.journal.applied(applied) {
            tracing::warn!(%error, "a part of the journal that the database has cannot be deleted");
        }
        Ok(true)
    }

    /// Whether what the store has is ours: no more than we gave, and of boots that we know. Numbers alone say nothing once an old copy has
    /// grown.
    fn check(&self, applied: u64, boot: u64) -> Result<(), Trouble> {
        let given = self.given;
        if applied > given || !self.journal.knows(boot) {
            Err(Trouble::Ahead(Ahead { applied, given, boot }))
        } else {
            Ok(())
        }
    }

    /// A reader of what the store does not have.
    async fn find(&self) -> Result<Reader, Trouble> {
        let (applied, boot) = self.store.progress(&self.journal.node).await?;
        self.check(applied, boot)?;
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

#[cfg(test)]
mod tests;
