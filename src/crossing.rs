//! Where packets of TURN clients cross between the TURN thread and a media worker: two bounded queues of batches, each
//! handed over with one wake, and given back empty so that nothing is allocated once warm.

use std::sync::Arc;

use mio::Waker;
use sfu::{Path, Run};

/// Both ends of a crossing. `to_turn` wakes the TURN thread, `to_worker` the worker.
pub(crate) fn crossing(_to_turn: Arc<Waker>, _to_worker: Arc<Waker>) -> (TurnEnd, WorkerEnd) {
    (TurnEnd {}, WorkerEnd {})
}

/// The TURN thread's end.
pub(crate) struct TurnEnd {}

/// The worker's end.
pub(crate) struct WorkerEnd {}

impl TurnEnd {
    /// Copies a client's payload into the batch that is being filled, handing over a full one; false if it was dropped.
    pub(crate) fn push(&mut self, _path: Path, _payload: &[u8]) -> bool {
        false
    }

    /// Says that a path is closed, behind what was pushed before; never dropped.
    pub(crate) fn close(&mut self, _path: Path) {}

    /// Hands over what was pushed, with one wake. To be called once per turn of the loop.
    pub(crate) fn flush(&mut self) {}

    /// Gives each run from the worker to `each`, `most` batches at most; true if more wait. A run's datagrams lie
    /// [`turn_server::CHANNEL_HEAD_BYTES`] apart, with that much room in front of the first, so that heads can be written
    /// in place and all sent at once.
    pub(crate) fn take(&mut self, _most: usize, _each: impl FnMut(Path, Spaced<'_>)) -> bool {
        false
    }

    /// Paths that the SFU uses no more (`Output::ClosePath`).
    pub(crate) fn closed(&mut self) -> Option<Path> {
        None
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
    /// Gives each datagram of clients to `each`, `most` batches at most; true if more wait.
    pub(crate) fn take(&mut self, _most: usize, _each: impl FnMut(Crossed<'_>)) -> bool {
        false
    }

    /// Copies a run into the batch that is being filled; false if it was dropped.
    pub(crate) fn push(&mut self, _run: &Run<'_>) -> bool {
        false
    }

    /// Says that the SFU uses a path no more; never dropped.
    pub(crate) fn close(&mut self, _path: Path) {}

    /// Hands over what was pushed, with one wake.
    pub(crate) fn flush(&mut self) {}
}

/// What crosses to a worker, in order.
pub(crate) enum Crossed<'a> {
    /// A datagram, decrypted in place.
    Datagram(Path, &'a mut [u8]),
    /// A path that is closed.
    Closed(Path),
}
