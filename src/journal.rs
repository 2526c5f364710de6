//! The journal: every fact is on local disk before anybody is told of it, and the store is filled from here alone.
//!
//! `log` writes segments, `thread` commits facts in groups, `reader` gives them to the applier. A start replays the newest
//! segment, closes what the former boot left open, and needs no database.

mod disk;
mod line;
mod log;
mod reader;
mod thread;

use std::fs::{self, File, TryLockError};
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use signaling::Fact;
use signaling::attendance::Open;
use tokio::sync::mpsc;

use self::disk::Folder;
pub(crate) use self::log::Unreadable;
use self::log::{BOOTS_MAX, Entry, Log, SEGMENT_BYTES, Shelf};
pub(crate) use self::reader::Reader;
pub(crate) use self::thread::{FACTS_MAX, Facts, Full, Status};
use crate::clock;
use crate::control;
use crate::error::Failure;

/// Boots are named for the time, Unix ms; what is less was a count.
const NAMED_FROM_MS: u64 = 1_000_000_000_000;

/// One fact as the journal keeps it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// Ascending over all boots of this node, without gaps, from 1.
    pub(crate) index: u64,
    /// Which boot of this node: ascending.
    pub(crate) boot: u64,
    /// Monotonic time since that boot, ms.
    pub(crate) mono_ms: u64,
    /// What the wall clock said, Unix ms.
    pub(crate) wall_ms: u64,
    /// What happened.
    pub(crate) fact: Fact,
}

/// Who writes a journal: `node_id`, kept in its directory.
pub(crate) type NodeId = Arc<str>;

/// The journal of this process. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Journal {
    /// Who we are to a store that several servers share.
    pub(crate) node: NodeId,
    /// Which boot of it this is.
    pub(crate) boot: u64,
    /// Where facts go.
    pub(crate) facts: Facts,
    /// How it is.
    pub(crate) status: Arc<Status>,
    /// The last record that was in it when it was opened; 0 if there was none. No store has more of it but by us.
    pub(crate) found: u64,
    /// This boot and those before it that are remembered, ascending; 0 before them if some were forgotten.
    boots: Arc<[u64]>,
    shelf: Arc<Shelf>,
    /// Held as long as anybody writes: two servers in one directory would ruin it.
    _lock: Arc<File>,
}

impl Journal {
    /// Opens the journal in `dir`, closes what a former boot left open, and starts its thread. Also what goes on: meetings
    /// that are open, with nobody in them.
    ///
    /// # Errors
    /// If the directory cannot be used or another server uses it, if the disk is full, or if what is there is damaged: a
    /// sentence each, that says what to do.
    pub(crate) fn start(
        dir: &Path,
        bytes_max: u64,
        inbox: mpsc::Sender<control::Input>,
        ended: mpsc::UnboundedSender<Failure>,
    ) -> Result<(Journal, Open), Failure> {
        let shown = dir.display();
        let cannot = |error: io::Error| {
            Failure::Broken(format!(
                "cannot keep a journal in {shown}: {error}; [store] dir (LYCEUM__STORE__DIR) names a directory that this process may write to"
            ))
        };
        let folder = dir.join("journal");
        make(&folder).map_err(cannot)?;
        let lock = lock(&folder).map_err(cannot)?.ok_or_else(|| {
            Failure::Broken(format!(
                "{shown} is in use by another Lyceum: end that one, or give this one a directory of its own with [store] dir (LYCEUM__STORE__DIR)"
            ))
        })?;
        let node = node_id(&folder).map_err(cannot)?;
        let unreadable = |unreadable| match unreadable {
            Unreadable::Io(error) => cannot(error),
            other => Failure::Broken(format!("[store] dir {shown}: {other}")),
        };
        let mut log = Log::open(Arc::new(Folder(folder)), SEGMENT_BYTES, clock::now().unix_ms).map_err(unreadable)?;
        let (found, boots) = (log.shelf.committed(), log.boots.as_slice().into());
        let crashed = log.open.crashed();
        let wall_ms = clock::now().unix_ms;
        let entries: Vec<Entry> = crashed.into_iter().map(|fact| Entry { mono_ms: 0, wall_ms, fact }).collect();
        log.commit(&entries).map_err(cannot)?;
        if !entries.is_empty() {
            tracing::warn!(connections = entries.len(), "closed what the server left open when it last ended");
        }
        let (open, boot, shelf) = (log.open.clone(), log.boot, log.shelf.clone());
        let (facts, status) = thread::start(log, bytes_max, inbox, ended)?;
        Ok((Journal { node, boot, facts, status, found, boots, shelf, _lock: Arc::new(lock) }, open))
    }

    /// Whether what that boot wrote can be in it, or was; 0 is none. One that another copy of this journal had is not known.
    pub(crate) fn knows(&self, boot: u64) -> bool {
        // Those of earlier versions, which counted them or told only their own, and those of long ago are not all remembered.
        let has_forgotten =
            self.boots.first().is_some_and(|first| *first < NAMED_FROM_MS) || self.boots.len() >= BOOTS_MAX;
        let oldest = self.boots.iter().find(|boot| **boot > 0);
        boot == 0 || self.boots.contains(&boot) || (has_forgotten && oldest.is_some_and(|oldest| boot < *oldest))
    }

    /// Committed records from the index `next` on.
    pub(crate) fn reader(&self, next: u64) -> Reader {
        Reader::new(self.shelf.clone(), next)
    }

    /// The index of the last record that is on disk for good; 0 if there is none.
    pub(crate) fn committed(&self) -> u64 {
        self.shelf.committed()
    }

    /// The store has the first `applied` records: they need not be kept any longer.
    ///
    /// # Errors
    /// If a file cannot be deleted; it is tried again the next time.
    pub(crate) fn applied(&self, applied: u64) -> io::Result<()> {
        self.shelf.forget(applied)
    }

    /// Bytes on disk.
    pub(crate) fn bytes(&self) -> u64 {
        self.shelf.bytes()
    }
}

/// Makes a directory and those above it, so that they outlive a power cut.
fn make(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let folder = std::path::absolute(folder)?;
    let Some(above) = folder.parent() else { return Ok(()) };
    make(above)?;
    match fs::create_dir(&folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => File::open(above)?.sync_all(),
    }
}

/// The lock of a directory; `None` if another process has it. It ends with the process, however that ends.
fn lock(folder: &Path) -> io::Result<Option<File>> {
    let file = File::options().create(true).truncate(false).write(true).open(folder.join("lock"))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// The id in the directory; a new one if there is none.
fn node_id(folder: &Path) -> io::Result<NodeId> {
    let path = folder.join("node-id");
    match fs::read_to_string(&path) {
        Ok(id) if !id.trim().is_empty() => return Ok(id.trim().into()),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let id = format!("node_{:032x}", rand::random::<u128>());
    let unfinished = folder.join("node-id.tmp");
    let mut file = File::create(&unfinished)?;
    file.write_all(id.as_bytes())?;
    file.sync_all()?;
    fs::rename(&unfinished, &path)?;
    File::open(folder)?.sync_all()?;
    Ok(id.into())
}

#[cfg(test)]
mod tests;
