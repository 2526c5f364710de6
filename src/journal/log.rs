//! The segments of the journal: how they are written, and what is in them after a crash.
//!
//! A segment is a file named for the index of its first record. It begins with a checkpoint, so the newest alone says what is
//! open; older ones are there for the store. A new one is begun when the last is long, at each boot, and after each failed write:
//! what was not synced is never relied on. What the last holds of records that the next one begins with is void.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use signaling::Fact;
use signaling::attendance::Open;

use super::Record;
use super::disk::{Disk, Tail};
use super::line::{self, Line};

/// What these lines are; another number means other words.
const FORMAT: u32 = 1;
/// Bytes of a segment's records after which the next is begun. Shorter ones are sooner deleted; each costs a checkpoint.
pub(super) const SEGMENT_BYTES: u64 = 8 << 20;
/// Boots that a journal remembers, the newest. Of an older one the store knows nothing newer than of these.
pub(super) const BOOTS_MAX: usize = 256;
/// A segment that is being made.
const UNFINISHED: &str = "next.tmp";
const ENDING: &str = ".journal";

/// The first line of a segment: all that went before, in brief.
#[derive(Debug, Serialize, Deserialize)]
struct Checkpoint {
    format: u32,
    /// The index of the segment's first record.
    next: u64,
    boot: u64,
    /// The boots that wrote what went before, ascending, that which wrote this the last; at most [`BOOTS_MAX`]. 0 before them: an older
    /// version, which tells none, wrote in between, so that some are forgotten.
    #[serde(default)]
    boots: Vec<u64>,
    open: Open,
}

/// What a segment is called whose first record is `first`.
pub(super) fn name(first: u64) -> String {
    format!("{first:020}{ENDING}")
}

/// A fact, and when it came.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// Since this boot, ms.
    pub(super) mono_ms: u64,
    /// Unix ms.
    pub(super) wall_ms: u64,
    pub(super) fact: Fact,
}

/// Why a journal cannot be read.
#[derive(Debug)]
pub(crate) enum Unreadable {
    /// The disk fails.
    Io(io::Error),
    /// Facts that were acknowledged are not in the file as they were written.
    Damaged {
        /// The file.
        name: String,
        /// From which byte on.
        at: u64,
    },
    /// Another version of Lyceum wrote it.
    Foreign {
        /// The file.
        name: String,
    },
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let aside = "move the whole directory aside to begin a new journal; then what is in it and not yet in the database is lost";
        match self {
            Unreadable::Io(error) => write!(f, "the journal cannot be read: {error}"),
            Unreadable::Damaged { name, at } => write!(
                f,
                "journal/{name} is damaged from byte {at} on, and facts that were acknowledged are behind it: put it back from a backup, or {aside}"
            ),
            Unreadable::Foreign { name } => write!(
                f,
                "journal/{name} was written by another version of Lyceum: run that one until the database has all of it, or {aside}"
            ),
        }
    }
}

impl From<io::Error> for Unreadable {
    fn from(error: io::Error) -> Self {
        Unreadable::Io(error)
    }
}

/// Which segments there are, and how far they may be read: what the writer shares with readers.
pub(super) struct Shelf {
    pub(super) disk: Arc<dyn Disk>,
    /// Bytes of each segment, by its first record. The last is being written.
    segments: Mutex<BTreeMap<u64, u64>>,
    /// The index of the last record that is on disk for good.
    committed: AtomicU64,
}

impl Shelf {
    fn segments(&self) -> MutexGuard<'_, BTreeMap<u64, u64>> {
        self.segments.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn committed(&self) -> u64 {
        self.committed.load(Ordering::Acquire)
    }

    /// Bytes of all segments.
    pub(super) fn bytes(&self) -> u64 {
        self.segments().values().sum()
    }

    /// The segment that a record is in, by its first; and the first of the one behind it.
    pub(super) fn find(&self, index: u64) -> Option<(u64, Option<u64>)> {
        let segments = self.segments();
        let (first, _) = segments.range(..=index).next_back()?;
        Some((*first, segments.range(index + 1..).next().map(|(next, _)| *next)))
    }

    /// The first record that is still there.
    pub(super) fn oldest(&self) -> Option<u64> {
        self.segments().keys().next().copied()
    }

    /// Deletes the segments whose records are all among the first `applied`, but never the newest.
    pub(super) fn forget(&self, applied: u64) -> io::Result<()> {
        loop {
            let oldest = {
                let segments = self.segments();
                let mut firsts = segments.keys();
                match (firsts.next(), firsts.next()) {
                    (Some(oldest), Some(next)) if *next <= applied + 1 => *oldest,
                    _ => return Ok(()),
                }
            };
            self.disk.remove(&name(oldest))?;
            self.segments().remove(&oldest);
        }
    }
}

/// The journal as its thread writes it.
pub(super) struct Log {
    pub(super) shelf: Arc<Shelf>,
    tail: Option<Box<dyn Tail>>,
    /// The first record of the segment that is being written, and its bytes that are synced.
    first: u64,
    synced: u64,
    /// Bytes of its checkpoint, which alone may be longer than a segment should be.
    checkpoint: u64,
    /// The next record.
    next: u64,
    pub(super) boot: u64,
    /// This boot and those before it, ascending, as a checkpoint has them; at most [`BOOTS_MAX`].
    pub(super) boots: Vec<u64>,
    pub(super) open: Open,
    segment_bytes: u64,
}

impl Log {
    /// Reads what former boots left, and begins a segment of this boot, which is named for the time (Unix ms) so that no other, of a copy of
    /// this journal, has its name. Nothing is closed yet.
    pub(super) fn open(disk: Arc<dyn Disk>, segment_bytes: u64, now_ms: u64) -> Result<Self, Unreadable> {
        let mut segments = BTreeMap::new();
        for file in disk.names()? {
            if let Some(first) = file.strip_suffix(ENDING).and_then(|digits| digits.parse().ok()) {
                segments.insert(first, disk.len(&file)?);
            }
        }
        let (next, mut boots, open) = match segments.keys().next_back() {
            Some(newest) => {
                let name = name(*newest);
                // The next segment will rely on what is read here.
                disk.sync(&name)?;
                replay(&disk.read(&name, 0, usize::MAX)?, &name)?
            }
            None => (1, Vec::new(), Open::default()),
        };
        let boot = boots.last().map_or(1, |last| last + 1).max(now_ms);
        boots.push(boot);
        boots.drain(..boots.len().saturating_sub(BOOTS_MAX));
        let shelf = Shelf { disk, segments: Mutex::new(segments), committed: AtomicU64::new(next - 1) };
        let shelf = Arc::new(shelf);
        let mut log =
            Log { shelf, tail: None, first: next, synced: 0, checkpoint: 0, next, boot, boots, open, segment_bytes };
        log.begin()?;
        Ok(log)
    }

    /// Puts facts on disk for good, all or none. After an error the same may be tried again.
    pub(super) fn commit(&mut self, entries: &[Entry]) -> io::Result<()> {
        if entries.is_empty() {
            return Ok(());
        }
        if self.tail.is_none() || self.synced - self.checkpoint >= self.segment_bytes {
            self.begin()?;
        }
        let mut lines = Vec::with_capacity(entries.len() * 256);
        for (index, entry) in (self.next..).zip(entries) {
            let Entry { mono_ms, wall_ms, ref fact } = *entry;
            line::encode(
                &mut lines,
                self.synced,
                &Record { index, boot: self.boot, mono_ms, wall_ms, fact: fact.clone() },
            );
        }
        let Some(tail) = &mut self.tail else { return Err(io::Error::other("no segment is begun")) };
        if let Err(error) = tail.append(&lines).and_then(|()| tail.sync()) {
            // What of it is on disk nobody knows.
            self.tail = None;
            return Err(error);
        }
        self.synced += lines.len() as u64;
        self.next += entries.len() as u64;
        entries.iter().for_each(|entry| self.open.apply(&entry.fact));
        self.shelf.segments().insert(self.first, self.synced);
        self.shelf.committed.store(self.next - 1, Ordering::Release);
        Ok(())
    }

    /// Begins a segment. It gets its name when its checkpoint is on disk, so each segment has one.
    fn begin(&mut self) -> io::Result<()> {
        self.tail = None;
        let disk = &self.shelf.disk;
        let mut line = Vec::new();
        let (boots, open) = (self.boots.clone(), self.open.clone());
        let checkpoint = Checkpoint { format: FORMAT, next: self.next, boot: self.boot, boots, open };
        line::encode(&mut line, 0, &checkpoint);
        let mut tail = disk.create(UNFINISHED)?;
        tail.append(&line)?;
        tail.sync()?;
        disk.rename(UNFINISHED, &name(self.next))?;
        disk.sync_names()?;
        self.first = self.next;
        self.synced = line.len() as u64;
        self.checkpoint = self.synced;
        self.shelf.segments().insert(self.first, self.synced);
        self.tail = Some(tail);
        Ok(())
    }
}

/// What a newest segment leads to: the next index, the boots that it knows, and what is open.
fn replay(bytes: &[u8], name: &str) -> Result<(u64, Vec<u64>, Open), Unreadable> {
    let damaged = |at: usize| Unreadable::Damaged { name: name.to_owned(), at: at as u64 };
    let foreign = || Unreadable::Foreign { name: name.to_owned() };
    let mut lines = Lines { bytes, at: 0 };
    let Checkpoint { format, mut next, boot, mut boots, mut open } =
        match lines.next().map(|(_, line)| line::decode(line)) {
            Some(Line::Whole(checkpoint)) => checkpoint,
            Some(Line::Foreign) => return Err(foreign()),
            Some(Line::Bad) | None => return Err(damaged(0)),
        };
    if format != FORMAT {
        return Err(foreign());
    }
    for (at, line) in lines {
        match line::decode::<Record>(line) {
            Line::Whole(record) if record.index == next => {
                open.apply(&record.fact);
                next += 1;
            }
            Line::Foreign => return Err(foreign()),
            Line::Whole(..) | Line::Bad if relies_on(&bytes[at + 1..], at) => return Err(damaged(at)),
            // Torn while it was written: nobody was told of it.
            Line::Whole(..) | Line::Bad => break,
        }
    }
    if boots.is_empty() {
        boots.extend([0, boot]);
    }
    Ok((next, boots, open))
}

/// Whether anything in `rest` was written when what stands at `at` was on disk for good. A line may begin anywhere in it: the end of
/// the one before may be what is damaged.
fn relies_on(rest: &[u8], at: usize) -> bool {
    rest.split(|byte| *byte == b'\n').any(|line| {
        let begins = |start: usize| line::checked(&line[start..]).is_some_and(|(synced, _)| synced > at as u64);
        (0..line.len()).any(begins)
    })
}

/// Lines with their ends, and where each begins. What has no end was not written whole.
pub(super) struct Lines<'b> {
    pub(super) bytes: &'b [u8],
    /// Where the next begins.
    pub(super) at: usize,
}

impl<'b> Iterator for Lines<'b> {
    type Item = (usize, &'b [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.bytes.get(self.at..)?;
        let length = rest.iter().position(|byte| *byte == b'\n')?;
        let at = self.at;
        self.at += length + 1;
        Some((at, &rest[..length]))
    }
}
