//! The journal's thread: takes facts from a queue, puts what has come on disk in one go, and says so.
//!
//! It never waits for control, which may wait for it: what control must hear is kept until its inbox has room.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use signaling::{Fact, FactId, Now};
use tokio::sync::{Notify, mpsc, oneshot};

use super::log::{Entry, Log};
use crate::control::Input;
use crate::error::Failure;
use crate::seldom::Seldom;

/// Facts that wait for the disk. When full, control waits: nothing else can be acknowledged anyway.
pub(crate) const FACTS_MAX: usize = 16_384;
/// Facts that are committed in one go; further ones wait for the next.
const GROUP_MAX: usize = 4_096;
/// How long a disk that refused gets before it is tried again, and how often a journal that is full is looked at.
const RETRY: Duration = Duration::from_secs(1);
/// How long control's full inbox gets before it is tried again.
const INBOX_RETRY: Duration = Duration::from_millis(2);
/// Above the limit nobody new gets in; above so many times the limit heartbeats are left out too, so that the journal ends
/// growing: what is lost is how exactly a crash would be known.
const HEARTBEATS_UP_TO: u64 = 2;

enum Order {
    Write { id: FactId, entry: Entry },
    Flush(oneshot::Sender<()>),
}

/// The queue is full; the fact comes back.
pub(crate) struct Full(pub(crate) Fact);

/// Where control hands facts in. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Facts {
    queue: SyncSender<Order>,
    booted: Instant,
    status: Arc<Status>,
}

impl Facts {
    /// Hands in the next fact; [`Input::Committed`] says when it is on disk for good.
    pub(crate) fn write(&self, id: FactId, fact: Fact, now: Now) -> Result<(), Full> {
        if self.status.disk_refuses.load(Ordering::Relaxed)
            && matches!(fact, Fact::Activity { .. } | Fact::Media { .. })
        {
            // They would fill the queue, for which control waits: calls go on, and who comes and goes is still written down.
            self.status.left_out.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        }
        let mono_ms = now.mono.saturating_duration_since(self.booted).as_millis() as u64;
        let order = Order::Write { id, entry: Entry { mono_ms, wall_ms: now.unix_ms, fact } };
        self.status.queued.fetch_add(1, Ordering::Relaxed);
        match self.queue.try_send(order) {
            Err(TrySendError::Full(Order::Write { entry, .. })) => {
                self.status.queued.fetch_sub(1, Ordering::Relaxed);
                Err(Full(entry.fact))
            }
            // The thread has ended, of which the process is told: nothing is acknowledged any more.
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Returns when all that was handed in is on disk for good; never, if the disk refuses.
    pub(crate) async fn flush(&self) {
        let (done, flushed) = oneshot::channel();
        let mut order = Order::Flush(done);
        while let Err(TrySendError::Full(back)) = self.queue.try_send(order) {
            order = back;
            tokio::time::sleep(INBOX_RETRY).await;
        }
        let _ = flushed.await;
    }
}

/// How the journal is, for metrics and health.
#[derive(Debug, Default)]
pub(crate) struct Status {
    /// Facts were put on disk; for the one who carries them on.
    pub(crate) fresh: Notify,
    /// Facts cannot be written down, so nobody new gets in.
    pub(crate) refusing: AtomicBool,
    /// The disk refuses, and is tried again and again.
    pub(crate) disk_refuses: AtomicBool,
    /// Facts put on disk.
    pub(crate) facts: AtomicU64,
    /// Facts in the queue, of [`FACTS_MAX`].
    pub(crate) queued: AtomicUsize,
    /// Times that they were put there in one go.
    pub(crate) commits: AtomicU64,
    /// Times that the disk refused.
    pub(crate) failures: AtomicU64,
    /// Heartbeats left out because the journal was far beyond its limit.
    pub(crate) left_out: AtomicU64,
}

pub(super) fn start(
    log: Log,
    bytes_max: u64,
    inbox: mpsc::Sender<Input>,
    ended: mpsc::UnboundedSender<Failure>,
) -> Result<(Facts, Arc<Status>), Failure> {
    let (queue, orders) = sync_channel(FACTS_MAX);
    let status = Arc::new(Status::default());
    let mut writer = Writer {
        log,
        bytes_max,
        inbox,
        status: status.clone(),
        committed: None,
        told: None,
        refusing: false,
        told_refusing: false,
    };
    let run = move || {
        let _alarm = Alarm(ended);
        writer.run(&orders);
    };
    std::thread::Builder::new()
        .name("journal".to_owned())
        .spawn(run)
        .map_err(|error| Failure::Broken(format!("cannot start the thread of the journal: {error}")))?;
    Ok((Facts { queue, booted: Instant::now(), status: status.clone() }, status))
}

/// Says that the thread has ended, however it did.
struct Alarm(mpsc::UnboundedSender<Failure>);

impl Drop for Alarm {
    fn drop(&mut self) {
        let _ = self.0.send(Failure::Broken("the thread of the journal has ended".to_owned()));
    }
}

struct Writer {
    log: Log,
    bytes_max: u64,
    inbox: mpsc::Sender<Input>,
    status: Arc<Status>,
    /// The last fact that is on disk, and the last of which control was told.
    committed: Option<FactId>,
    told: Option<FactId>,
    refusing: bool,
    told_refusing: bool,
}

impl Writer {
    fn run(&mut self, orders: &Receiver<Order>) {
        let mut group = Vec::new();
        let mut flushes = Vec::new();
        loop {
            let wait = if self.is_told() { RETRY } else { INBOX_RETRY };
            match orders.recv_timeout(wait) {
                Ok(order) => {
                    let mut last = None;
                    for order in std::iter::once(order).chain(orders.try_iter().take(GROUP_MAX - 1)) {
                        match order {
                            Order::Write { id, entry } => {
                                self.status.queued.fetch_sub(1, Ordering::Relaxed);
                                last = Some(id);
                                group.push(entry);
                            }
                            Order::Flush(done) => flushes.push(done),
                        }
                    }
                    self.commit(&mut group, last);
                    // Who does not wait any more need not know.
                    for done in flushes.drain(..) {
                        let _ = done.send(());
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.look(true);
            self.tell();
        }
    }

    /// Puts a group on disk, however often that must be tried.
    fn commit(&mut self, group: &mut Vec<Entry>, last: Option<FactId>) {
        static LINE: Seldom = Seldom::new();
        if self.log.shelf.bytes() >= self.bytes_max.saturating_mul(HEARTBEATS_UP_TO) {
            let before = group.len();
            group.retain(|entry| !matches!(entry.fact, Fact::Activity { .. }));
            self.status.left_out.fetch_add((before - group.len()) as u64, Ordering::Relaxed);
        }
        while let Err(error) = self.log.commit(group) {
            self.status.failures.fetch_add(1, Ordering::Relaxed);
            if let Some(more) = LINE.due() {
                tracing::error!(%error, more, "the journal cannot be written: nobody new gets in until it can; is the disk of [store] dir full?");
            }
            self.status.disk_refuses.store(true, Ordering::Relaxed);
            self.look(false);
            self.tell();
            std::thread::sleep(RETRY);
        }
        self.status.disk_refuses.store(false, Ordering::Relaxed);
        if !group.is_empty() {
            self.status.facts.fetch_add(group.len() as u64, Ordering::Relaxed);
            self.status.commits.fetch_add(1, Ordering::Relaxed);
            self.status.fresh.notify_one();
        }
        group.clear();
        self.committed = last.or(self.committed);
    }

    /// Sees whether facts of newcomers can be taken.
    fn look(&mut self, disk_is_well: bool) {
        let bytes = self.log.shelf.bytes();
        let refusing = !disk_is_well || bytes >= self.bytes_max;
        if refusing != self.refusing {
            self.refusing = refusing;
            self.status.refusing.store(refusing, Ordering::Relaxed);
            if !refusing {
                tracing::info!("the journal has room again: newcomers get in");
            } else if disk_is_well {
                tracing::error!(
                    bytes,
                    "the journal has reached [store] journal_mb: nobody new gets in until the database takes what it holds"
                );
            }
        }
    }

    fn is_told(&self) -> bool {
        self.told == self.committed && self.told_refusing == self.refusing
    }

    /// Tells control what it does not know yet, if its inbox has room.
    fn tell(&mut self) {
        if let Some(committed) = self.committed.filter(|_| self.told != self.committed)
            && self.inbox.try_send(Input::Committed(committed)).is_ok()
        {
            self.told = Some(committed);
        }
        if self.told_refusing != self.refusing
            && self.inbox.try_send(Input::Recording { possible: !self.refusing }).is_ok()
        {
            self.told_refusing = self.refusing;
        }
    }
}
