//! Between media workers: pipes for the rooms that are on several of them. Each way has a few batches, each handed over
//! with one wake and given back empty, so that nothing is allocated once warm. What finds no batch waits in the `Sfu`,
//! which bounds it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use mio::Waker;
use sfu::PipeBatch;

/// Batches of each way. When all are on their way the other end is behind; what comes meanwhile goes into one batch, and
/// waits for one of these to come back.
const BATCHES: usize = 4;

/// What each worker holds of its pipes to each other: for worker *i* the ends at place *i*, by the other's number.
pub(crate) fn mesh(wakers: &[Arc<Waker>]) -> Vec<Ends> {
    let mut all: Vec<Ends> = wakers.iter().map(|_| Ends::default()).collect();
    for (one, its) in wakers.iter().enumerate() {
        for (other, others) in wakers.iter().enumerate().skip(one + 1) {
            let (there, at_other) = way(its.clone(), others.clone());
            let (back, at_one) = way(others.clone(), its.clone());
            all[one].0.push(End { worker: other, departures: there, arrivals: at_one });
            all[other].0.push(End { worker: one, departures: back, arrivals: at_other });
        }
    }
    all
}

/// One worker's ends of all its pipes.
#[derive(Default)]
pub(crate) struct Ends(Vec<End>);

struct End {
    worker: usize,
    departures: Departures,
    arrivals: Arrivals,
}

impl Ends {
    /// Hands over what waits in the `Sfu`, as far as there are batches.
    pub(crate) fn send(&mut self, sfu: &mut sfu::Sfu) {
        let waiting = sfu.piped();
        if waiting.is_empty() {
            return;
        }
        for end in self.0.iter_mut().filter(|end| waiting.has(end.worker)) {
            if let Some(mut batch) = end.departures.spare() {
                sfu.take_pipe(end.worker, &mut batch);
                end.departures.hand_over(batch);
            }
        }
    }

    /// Gives what came to `each`, with the number of the worker that sent it: as much as was there when this began, at most.
    /// True if more may wait: then no wake announces it.
    pub(crate) fn take(&mut self, mut each: impl FnMut(usize, &mut PipeBatch)) -> bool {
        let mut more = false;
        for end in &mut self.0 {
            more |= end.arrivals.take(|batch| each(end.worker, batch));
        }
        more
    }
}

/// What both sides of one way know. Each flag is only ever swapped, so that who finds it changed also finds the batch that
/// was sent before.
#[derive(Default)]
struct Flags {
    /// The receiving worker was woken and will take all there is before it sleeps.
    told: AtomicBool,
    /// The sending worker has something to hand over and no batch: it wants to be woken when one comes back.
    starved: AtomicBool,
}

/// Wakers are the sending and the receiving worker's.
fn way(sender: Arc<Waker>, receiver: Arc<Waker>) -> (Departures, Arrivals) {
    let (full, arriving) = sync_channel(BATCHES);
    let (empty, returning) = sync_channel(BATCHES);
    let flags = Arc::new(Flags::default());
    let free = (0..BATCHES).map(|_| PipeBatch::default()).collect();
    (Departures { free, returning, full, flags: flags.clone(), receiver }, Arrivals { arriving, empty, flags, sender })
}

/// The sending end of one way.
struct Departures {
    /// The one used last is used next: its memory is there already.
    free: Vec<PipeBatch>,
    returning: Receiver<PipeBatch>,
    full: SyncSender<PipeBatch>,
    flags: Arc<Flags>,
    receiver: Arc<Waker>,
}

impl Departures {
    fn spare(&mut self) -> Option<PipeBatch> {
        self.free.extend(self.returning.try_iter());
        if self.free.is_empty() {
            self.flags.starved.swap(true, Ordering::AcqRel);
            // What came back before that could be seen.
            self.free.extend(self.returning.try_iter());
        }
        self.free.pop()
    }

    fn hand_over(&mut self, batch: PipeBatch) {
        // There is room for all batches that exist; if the other end is gone, the process is ending. Waking fails only when
        // the poll is gone, and with it whom to wake.
        if self.full.try_send(batch).is_ok() && !self.flags.told.swap(true, Ordering::AcqRel) {
            let _ = self.receiver.wake();
        }
    }
}

/// The receiving end of one way.
struct Arrivals {
    arriving: Receiver<PipeBatch>,
    empty: SyncSender<PipeBatch>,
    flags: Arc<Flags>,
    sender: Arc<Waker>,
}

impl Arrivals {
    fn take(&mut self, mut each: impl FnMut(&mut PipeBatch)) -> bool {
        // Nothing was handed over since all was taken; if something is just now, a wake follows.
        if !self.flags.told.load(Ordering::Relaxed) {
            return false;
        }
        for _ in 0..BATCHES {
            let Some(mut batch) = self.next() else { return false };
            each(&mut batch);
            batch.clear();
            // There is room for all batches that exist; if the other end is gone, the process is ending.
            let _ = self.empty.try_send(batch);
            if self.flags.starved.swap(false, Ordering::AcqRel) {
                // It fails only when the poll is gone, and with it whom to wake.
                let _ = self.sender.wake();
            }
        }
        true
    }

    fn next(&mut self) -> Option<PipeBatch> {
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
mod tests {
    use std::time::Duration;

    use mio::{Events, Poll, Token};

    use super::*;

    fn poll() -> (Poll, Arc<Waker>) {
        let poll = Poll::new().expect("a poll");
        let waker = Waker::new(poll.registry(), Token(0)).expect("a waker");
        (poll, Arc::new(waker))
    }

    fn is_woken(poll: &mut Poll) -> bool {
        let mut events = Events::with_capacity(4);
        poll.poll(&mut events, Some(Duration::ZERO)).expect("it polls");
        !events.is_empty()
    }

    #[test]
    fn one_wake_announces_many_batches_and_one_the_return_of_the_first_that_was_missed() {
        let (mut one, to_one) = poll();
        let (mut other, to_other) = poll();
        let (mut departures, mut arrivals) = way(to_one, to_other);
        for round in 0..3 {
            for n in 0..BATCHES {
                let batch = departures.spare().expect("there is one");
                departures.hand_over(batch);
                assert_eq!(is_woken(&mut other), n == 0, "round {round}, batch {n}");
            }
            assert!(departures.spare().is_none());
            assert!(!is_woken(&mut one));
            let mut taken = 0;
            while arrivals.take(|_| taken += 1) {}
            assert_eq!(taken, BATCHES);
            assert!(is_woken(&mut one), "it waited for one");
        }
        assert!(!arrivals.take(|_| unreachable!("nothing is there")));
        assert!(!is_woken(&mut one) && !is_woken(&mut other));
    }

    #[test]
    fn each_worker_has_an_end_to_each_other() {
        let polls: Vec<_> = (0..3).map(|_| poll()).collect();
        let wakers: Vec<_> = polls.iter().map(|(_, waker)| waker.clone()).collect();
        let ends = mesh(&wakers);
        let others = |ends: &Ends| ends.0.iter().map(|end| end.worker).collect::<Vec<_>>();
        assert_eq!(ends.iter().map(others).collect::<Vec<_>>(), [[1, 2], [0, 2], [0, 1]]);
    }
}
