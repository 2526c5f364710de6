//! Where packets of TURN clients cross between the TURN thread and a media worker: two bounded queues of batches, each
//! handed over with one wake, and given back empty so that nothing is allocated once warm.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use mio::Waker;
use sfu::{Path, Run};
use turn_server::CHANNEL_HEAD_BYTES;

/// Batches of each direction: with [`BATCH_BYTES`] 4 MiB, as much as a socket's buffer, for a worker sends a millisecond
/// long before it looks up. When all are full or on their way, datagrams are dropped and counted, as on a congested wire.
const BATCHES: usize = 64;
/// When fewer are free the other end is behind: a flush hands over full batches only, so that many small ones do not use
/// them up, and waits for one to come back.
const SPARE_MIN: usize = BATCHES / 2;
/// Bytes of a batch: the longest run and the longest datagram fit.
const BATCH_BYTES: usize = 64 * 1024;
/// Runs of a batch; when there are so many it is full.
const RUNS_MAX: usize = 256;

/// Both ends of a crossing. `to_turn` wakes the TURN thread, `to_worker` the worker.
pub(crate) fn crossing(to_turn: Arc<Waker>, to_worker: Arc<Waker>) -> (TurnEnd, WorkerEnd) {
    // A worker leaves room for the heads that the TURN thread writes.
    let (from_turn, at_worker) = queue(0, to_turn.clone(), to_worker.clone());
    let (from_worker, at_turn) = queue(CHANNEL_HEAD_BYTES, to_worker, to_turn);
    (
        TurnEnd { departures: from_turn, arrivals: at_turn, closed: VecDeque::new() },
        WorkerEnd { departures: from_worker, arrivals: at_worker },
    )
}

/// The TURN thread's end.
pub(crate) struct TurnEnd {
    departures: Departures,
    arrivals: Arrivals,
    /// As many as there are paths, at most.
    closed: VecDeque<Path>,
}

/// The worker's end.
pub(crate) struct WorkerEnd {
    departures: Departures,
    arrivals: Arrivals,
}

impl TurnEnd {
    /// Copies a client's payload into the batch that is being filled, handing over a full one; false if it was dropped.
    pub(crate) fn push(&mut self, path: Path, payload: &[u8]) -> bool {
        self.departures.push(path, payload)
    }

    /// Says that a path is closed, behind what was pushed before; never dropped.
    pub(crate) fn close(&mut self, path: Path) {
        self.departures.close(path);
    }

    /// Hands over what was pushed, with one wake. To be called once per turn of the loop, also when nothing was pushed.
    pub(crate) fn flush(&mut self) {
        self.departures.flush();
    }

    /// Gives each run from the worker to `each`, `most` batches at most; true if more may wait: then no wake announces
    /// them. A run's datagrams lie [`CHANNEL_HEAD_BYTES`] apart, with that much room in front of the first, so that heads
    /// can be written in place and all sent at once. No run is longer than one GSO send takes in bytes; of its datagrams
    /// there may be more than that.
    pub(crate) fn take(&mut self, most: usize, mut each: impl FnMut(Path, Spaced<'_>)) -> bool {
        let closed = &mut self.closed;
        self.arrivals.take(most, |part, bytes| match part {
            Part::Run { path, range, stride } => {
                each(path, Spaced { bytes: bytes.get_mut(range).unwrap_or_default(), stride });
            }
            Part::Closed(path) => closed.push_back(path),
        })
    }

    /// Paths that the SFU uses no more (`Output::ClosePath`), of what was taken so far.
    pub(crate) fn closed(&mut self) -> Option<Path> {
        self.closed.pop_front()
    }
}

/// Datagrams of one size (the last may be shorter), each with room for a ChannelData head in front.
pub(crate) struct Spaced<'a> {
    /// All, with the rooms.
    pub(crate) bytes: &'a mut [u8],
    /// From one datagram's room to the next's.
    pub(crate) stride: usize,
}

impl WorkerEnd {
    /// Gives each datagram of clients to `each`, `most` batches at most; true if more may wait: then no wake announces
    /// them.
    pub(crate) fn take(&mut self, most: usize, mut each: impl FnMut(Crossed<'_>)) -> bool {
        self.arrivals.take(most, |part, bytes| match part {
            Part::Run { path, range, stride } => {
                for datagram in bytes.get_mut(range).unwrap_or_default().chunks_mut(stride) {
                    each(Crossed::Datagram(path, datagram));
                }
            }
            Part::Closed(path) => each(Crossed::Closed(path)),
        })
    }

    /// Copies a run into the batch that is being filled; false if some of it was dropped.
    pub(crate) fn push(&mut self, run: &Run<'_>) -> bool {
        let dropped = self.departures.dropped;
        for datagram in run.datagrams() {
            self.departures.push(run.path, datagram);
        }
        self.departures.dropped == dropped
    }

    /// Says that the SFU uses a path no more; never dropped.
    pub(crate) fn close(&mut self, path: Path) {
        self.departures.close(path);
    }

    /// Hands over what was pushed, with one wake. To be called once per turn of the loop, also when nothing was pushed.
    pub(crate) fn flush(&mut self) {
        self.departures.flush();
    }

    /// Datagrams towards clients that found no room, since start.
    pub(crate) fn dropped(&self) -> u64 {
        self.departures.dropped
    }
}

/// What crosses to a worker, in order.
pub(crate) enum Crossed<'a> {
    /// A datagram, decrypted in place.
    Datagram(Path, &'a mut [u8]),
    /// A path that is closed.
    Closed(Path),
}

/// What one end hands over at once.
struct Batch {
    bytes: Vec<u8>,
    parts: Vec<Part>,
}

/// One thing in a batch.
enum Part {
    /// Datagrams of one size (the last may be shorter), each with its room in front, `stride` apart.
    Run { path: Path, range: Range<usize>, stride: usize },
    /// A path that is closed.
    Closed(Path),
}

impl Batch {
    fn new() -> Self {
        Batch { bytes: Vec::with_capacity(BATCH_BYTES), parts: Vec::with_capacity(RUNS_MAX) }
    }

    fn takes(&self, bytes: usize) -> bool {
        self.bytes.len() + bytes <= BATCH_BYTES && self.parts.len() < RUNS_MAX
    }

    fn add(&mut self, path: Path, room: usize, datagram: &[u8]) {
        let start = self.bytes.len();
        self.bytes.resize(start + room, 0);
        self.bytes.extend_from_slice(datagram);
        let len = self.bytes.len() - start;
        match self.parts.last_mut() {
            // A shorter datagram is the last of its run.
            Some(Part::Run { path: same, range, stride })
                if *same == path && range.len().is_multiple_of(*stride) && len <= *stride =>
            {
                range.end += len;
            }
            _ => self.parts.push(Part::Run { path, range: start..start + len, stride: len }),
        }
    }
}

/// What both sides of one queue know. Each flag is only ever swapped, so that who finds it changed also finds the batch
/// that was sent before.
#[derive(Default)]
struct Flags {
    /// The receiving end was woken, or is about to take, and will take all there is before it sleeps.
    told: AtomicBool,
    /// The sending end has something to hand over and too few batches: it wants to be woken when one comes back.
    starved: AtomicBool,
}

/// Wakers are the sending and the receiving thread's.
fn queue(room: usize, sender: Arc<Waker>, receiver: Arc<Waker>) -> (Departures, Arrivals) {
    let (full, arriving) = sync_channel(BATCHES);
    let (empty, returning) = sync_channel(BATCHES);
    let flags = Arc::new(Flags::default());
    let departures = Departures {
        room,
        filling: None,
        free: (0..BATCHES).map(|_| Batch::new()).collect(),
        returning,
        full,
        handed_over: false,
        notices: VecDeque::new(),
        dropped: 0,
        flags: flags.clone(),
        receiver,
    };
    (departures, Arrivals { arriving, empty, flags, sender })
}

/// The sending end of one queue.
struct Departures {
    /// Bytes in front of each datagram.
    room: usize,
    filling: Option<Batch>,
    /// The one used last is used next: its memory is still in the cache, and memory that no load ever needed is never
    /// touched.
    free: Vec<Batch>,
    returning: Receiver<Batch>,
    full: SyncSender<Batch>,
    /// Since the last flush.
    handed_over: bool,
    /// Closed paths for which there is no batch; as many as there are paths, at most. Empty while one is being filled.
    notices: VecDeque<Path>,
    dropped: u64,
    flags: Arc<Flags>,
    receiver: Arc<Waker>,
}

impl Departures {
    fn push(&mut self, path: Path, datagram: &[u8]) -> bool {
        if datagram.is_empty() {
            return true;
        }
        let room = self.room;
        let bytes = room + datagram.len();
        if self.filling.as_ref().is_some_and(|batch| !batch.takes(bytes)) {
            self.hand_over();
        }
        match self.batch().filter(|batch| batch.takes(bytes)) {
            Some(batch) => {
                batch.add(path, room, datagram);
                true
            }
            None => {
                self.dropped += 1;
                false
            }
        }
    }

    fn close(&mut self, path: Path) {
        match self.batch() {
            // Notices are few: they go in even if it means that the list grows.
            Some(batch) => batch.parts.push(Part::Closed(path)),
            None => self.notices.push_back(path),
        }
    }

    fn flush(&mut self) {
        if (self.filling.is_some() || !self.notices.is_empty()) && self.has_spare_or_asks() {
            self.batch();
            self.hand_over();
        }
        if std::mem::take(&mut self.handed_over) && !self.flags.told.swap(true, Ordering::AcqRel) {
            // It fails only when the poll is gone, and with it whom to wake.
            let _ = self.receiver.wake();
        }
    }

    fn has_spare_or_asks(&mut self) -> bool {
        if self.has_spare() {
            return true;
        }
        self.flags.starved.swap(true, Ordering::AcqRel);
        // What came back before that could be seen.
        self.has_spare()
    }

    fn has_spare(&mut self) -> bool {
        self.free.extend(self.returning.try_iter());
        self.free.len() >= SPARE_MIN
    }

    /// The batch that is being filled, or another that begins with what waits.
    fn batch(&mut self) -> Option<&mut Batch> {
        if self.filling.is_none() {
            self.free.extend(self.returning.try_iter());
            let mut batch = self.free.pop()?;
            batch.parts.extend(self.notices.drain(..).map(Part::Closed));
            self.filling = Some(batch);
        }
        self.filling.as_mut()
    }

    fn hand_over(&mut self) {
        if let Some(batch) = self.filling.take() {
            // There is room for all batches that exist; if the other end is gone, the process is ending.
            self.handed_over |= self.full.try_send(batch).is_ok();
        }
    }
}

/// The receiving end of one queue.
struct Arrivals {
    arriving: Receiver<Batch>,
    empty: SyncSender<Batch>,
    flags: Arc<Flags>,
    sender: Arc<Waker>,
}

impl Arrivals {
    /// Gives each part of `most` batches to `each`, with its batch's bytes; true if more may wait.
    fn take(&mut self, most: usize, mut each: impl FnMut(Part, &mut [u8])) -> bool {
        // Nothing was flushed since all was taken; if something is just now, a wake follows.
        if !self.flags.told.load(Ordering::Relaxed) {
            return false;
        }
        for _ in 0..most {
            let Some(mut batch) = self.next() else { return false };
            let Batch { bytes, parts } = &mut batch;
            for part in parts.drain(..) {
                each(part, bytes);
            }
            bytes.clear();
            // There is room for all batches that exist; if the other end is gone, the process is ending.
            let _ = self.empty.try_send(batch);
            if self.flags.starved.swap(false, Ordering::AcqRel) {
                // It fails only when the poll is gone, and with it whom to wake.
                let _ = self.sender.wake();
            }
        }
        true
    }

    fn next(&mut self) -> Option<Batch> {
        self.arriving.try_recv().ok().or_else(|| {
            // From here on we want to be woken; what came before that could be seen is taken now.
            self.flags.told.swap(false, Ordering::AcqRel);
            let batch = self.arriving.try_recv().ok()?;
            self.flags.told.swap(true, Ordering::AcqRel);
            Some(batch)
        })
    }
}

#[cfg(test)]
mod tests;
