use std::time::Duration;

use bench::alloc;
use mio::{Events, Poll, Token};
use turn_server::AllocationId;

use super::*;

// Counts for the whole test binary; only what asks for the count notices.
#[global_allocator]
static ALLOCATOR: alloc::Counting = alloc::Counting;

/// One thread's side: what wakes it.
struct Side {
    poll: Poll,
    waker: Arc<Waker>,
}

impl Side {
    fn new() -> Self {
        let poll = Poll::new().expect("epoll");
        let waker = Arc::new(Waker::new(poll.registry(), Token(0)).expect("eventfd"));
        Side { poll, waker }
    }

    /// Whether a wake has come; waits for it as long as `longest`.
    fn woken(&mut self, longest: Duration) -> bool {
        let mut events = Events::with_capacity(4);
        self.poll.poll(&mut events, Some(longest)).expect("poll");
        !events.is_empty()
    }

    fn is_woken(&mut self) -> bool {
        self.woken(Duration::ZERO)
    }
}

fn ends() -> (Side, TurnEnd, Side, WorkerEnd) {
    let (turn, worker) = (Side::new(), Side::new());
    let (turn_end, worker_end) = crossing(turn.waker.clone(), worker.waker.clone());
    (turn, turn_end, worker, worker_end)
}

fn path(allocation: u64) -> Path {
    let relayed = ([192, 0, 2, 1], 49_152).into();
    Path::Relay { allocation: AllocationId(allocation), relayed, peer: ([192, 0, 2, 1], 7_882).into() }
}

/// The bytes of each datagram, `None` for a closed path.
type Taken = Vec<(Path, Option<Vec<u8>>)>;

/// What a worker took, and whether there may be more.
fn at_worker(end: &mut WorkerEnd, most: usize) -> (Taken, bool) {
    let mut got = Vec::new();
    let more = end.take(most, |crossed| match crossed {
        Crossed::Datagram(path, datagram) => got.push((path, Some(datagram.to_vec()))),
        Crossed::Closed(path) => got.push((path, None)),
    });
    (got, more)
}

/// What the TURN thread took: path, bytes with rooms, stride; and whether there may be more.
fn at_turn(end: &mut TurnEnd, most: usize) -> (Vec<(Path, Vec<u8>, usize)>, bool) {
    let mut got = Vec::new();
    let more = end.take(most, |path, spaced| got.push((path, spaced.bytes.to_vec(), spaced.stride)));
    (got, more)
}

#[test]
fn datagrams_reach_the_worker_in_order_and_a_closed_path_behind_its_own() {
    let (_, mut turn, mut worker_side, mut worker) = ends();
    assert!(turn.push(path(1), b"abc") && turn.push(path(1), b"de") && turn.push(path(1), b"fgh"));
    assert!(turn.push(path(2), b"ijk") && turn.push(path(2), b""));
    turn.close(path(1));
    assert!(turn.push(path(2), b"lmn"));
    assert_eq!(at_worker(&mut worker, 9), (vec![], false), "nothing before the flush");
    turn.flush();
    assert!(worker_side.is_woken());
    let data = |n, bytes: &[u8]| (path(n), Some(bytes.to_vec()));
    let all = [data(1, b"abc"), data(1, b"de"), data(1, b"fgh"), data(2, b"ijk"), (path(1), None), data(2, b"lmn")];
    assert_eq!(at_worker(&mut worker, 9), (all.to_vec(), false));
    assert_eq!(turn.departures.dropped, 0);
}

#[test]
fn runs_reach_the_turn_thread_with_room_for_a_head_in_front_of_each_datagram() {
    let (mut turn_side, mut turn, _, mut worker) = ends();
    assert!(worker.push(&Run { path: path(1), bytes: b"abcdefgh", segment: 3 }));
    assert!(worker.push(&Run { path: path(1), bytes: b"xyz", segment: 3 }));
    assert!(worker.push(&Run { path: path(2), bytes: b"xyz", segment: 3 }));
    worker.close(path(1));
    worker.flush();
    assert!(turn_side.is_woken());
    let (got, more) = at_turn(&mut turn, 9);
    let zeros = [0; CHANNEL_HEAD_BYTES];
    let spaced = |datagrams: &[&[u8]]| datagrams.iter().flat_map(|d| [&zeros, *d]).flatten().copied().collect();
    assert!(!more);
    assert_eq!(
        got,
        [
            (path(1), spaced(&[b"abc", b"def", b"gh"]), 7),
            (path(1), spaced(&[b"xyz"]), 7),
            (path(2), spaced(&[b"xyz"]), 7)
        ]
    );
    assert_eq!((turn.closed(), turn.closed()), (Some(path(1)), None));
}

#[test]
fn the_longest_run_crosses_in_one_piece_and_the_longest_datagram_too() {
    let (_, mut turn, _, mut worker) = ends();
    let run = vec![7; 60_000];
    assert!(worker.push(&Run { path: path(1), bytes: &run, segment: 940 }));
    worker.flush();
    assert_eq!(at_turn(&mut turn, 9).0.len(), 1);
    assert!(turn.push(path(1), &vec![7; usize::from(u16::MAX)]));
    turn.flush();
    assert_eq!(at_worker(&mut worker, 9).0.len(), 1);
    assert!(!turn.push(path(1), &vec![7; BATCH_BYTES + 1]), "longer than any");
}

#[test]
fn who_was_told_is_not_told_again_before_it_has_taken_all() {
    let (_, mut turn, mut side, mut worker) = ends();
    let send = |turn: &mut TurnEnd| {
        turn.push(path(1), b"abc");
        turn.flush();
    };
    turn.flush();
    assert!(!side.is_woken(), "there was nothing");
    send(&mut turn);
    assert!(side.is_woken());
    send(&mut turn);
    send(&mut turn);
    assert!(!side.is_woken(), "it has not taken yet");
    assert_eq!(at_worker(&mut worker, 2).0.len(), 2);
    send(&mut turn);
    assert!(!side.is_woken(), "it knows that there may be more");
    assert_eq!(at_worker(&mut worker, 2).0.len(), 2);
    assert_eq!(at_worker(&mut worker, 2), (vec![], false));
    send(&mut turn);
    assert!(side.is_woken());
}

/// Fills every batch; how many datagrams it took.
fn fill(turn: &mut TurnEnd) -> usize {
    let datagram = [7; 1_100];
    let count = (0..).take_while(|_| turn.push(path(1), &datagram)).count();
    turn.flush();
    count
}

#[test]
fn many_small_flushes_use_up_no_batches() {
    let (mut turn_side, mut turn, _, mut worker) = ends();
    for _ in 0..10_000 {
        assert!(turn.push(path(1), b"abc"));
        turn.flush();
    }
    assert!(!turn_side.is_woken());
    let (first, more) = at_worker(&mut worker, BATCHES / 2);
    assert!(more && turn_side.is_woken(), "one is there again");
    turn.flush();
    let (rest, more) = at_worker(&mut worker, BATCHES);
    assert!(!more);
    assert_eq!((first.len() + rest.len(), turn.departures.dropped), (10_000, 0));
}

#[test]
fn when_full_datagrams_are_dropped_and_counted_but_no_closed_path_is() {
    let (mut turn_side, mut turn, _, mut worker) = ends();
    let count = fill(&mut turn);
    assert_eq!(count, BATCHES * (BATCH_BYTES / 1_100));
    for n in 0..1_000 {
        turn.close(path(n));
        assert!(!turn.push(path(1), b"more"));
    }
    turn.flush();
    assert_eq!(turn.departures.dropped, 1_001);
    assert!(!turn_side.is_woken());
    let (first, more) = at_worker(&mut worker, 1);
    assert!(more && first.len() == count / BATCHES);
    assert!(turn_side.is_woken(), "one batch came back");
    turn.flush();
    let (mut rest, more) = at_worker(&mut worker, BATCHES / 2);
    assert!(more && turn_side.is_woken(), "the notices have found room");
    turn.flush();
    rest.extend(at_worker(&mut worker, BATCHES).0);
    let closed: Vec<_> = rest.iter().filter(|(_, bytes)| bytes.is_none()).map(|(path, _)| *path).collect();
    assert_eq!(closed, (0..1_000).map(path).collect::<Vec<_>>());
    assert_eq!(rest.len() - closed.len(), count - first.len());
    assert_eq!(fill(&mut turn), count, "all batches came back");
}

/// Each waits for the other for ever, but for the test's patience: a lost wake would show.
#[test]
fn two_threads_lose_neither_datagrams_nor_wakes() {
    const ROUNDS: u64 = 20_000;
    let patience = Duration::from_secs(60);
    let (mut turn_side, mut turn, mut worker_side, mut worker) = ends();
    let echo = std::thread::spawn(move || {
        let mut next = 0;
        while next < ROUNDS {
            let mut back = Vec::new();
            let more = worker.take(1, |crossed| match crossed {
                Crossed::Datagram(_, bytes) => back.push(bytes.to_vec()),
                Crossed::Closed(_) => panic!("nothing was closed"),
            });
            for bytes in &back {
                assert_eq!(*bytes, u64::to_be_bytes(next));
                next += 1;
                assert!(worker.push(&Run { path: path(1), bytes, segment: 8 }));
            }
            worker.flush();
            assert!(more || next == ROUNDS || worker_side.woken(patience), "not woken at {next}");
        }
        worker
    });
    let (mut sent, mut got) = (0, 0);
    while got < ROUNDS {
        // Ahead of the other by up to so many, so that both the full and the empty queue occur.
        for _ in 0..3 {
            if sent < ROUNDS && sent < got + 1 + sent % 97 {
                assert!(turn.push(path(1), &u64::to_be_bytes(sent)));
                sent += 1;
            }
        }
        turn.flush();
        let before = got;
        let more = turn.take(1, |_, spaced| {
            for datagram in spaced.bytes.chunks(spaced.stride) {
                assert_eq!(datagram[CHANNEL_HEAD_BYTES..], u64::to_be_bytes(got));
                got += 1;
            }
        });
        if !more && got == before && sent > got && got < ROUNDS {
            assert!(turn_side.woken(patience), "not woken at {got} of {sent}");
        }
    }
    echo.join().expect("the worker's thread ends well");
}

#[test]
fn once_warm_crossing_allocates_nothing() {
    let (_, mut turn, _, mut worker) = ends();
    let packets = vec![7; 10 * 1_100];
    let round = |turn: &mut TurnEnd, worker: &mut WorkerEnd| {
        let mut bytes = 0;
        for client in 0..100 {
            assert!(turn.push(path(client), &packets[..100]));
        }
        turn.flush();
        while worker.take(4, |crossed| {
            let Crossed::Datagram(_, datagram) = crossed else { return };
            bytes += datagram.len();
        }) {}
        for client in 0..100 {
            assert!(worker.push(&Run { path: path(client), bytes: &packets, segment: 1_100 }));
        }
        worker.flush();
        while turn.take(4, |_, spaced| bytes += spaced.bytes.len()) {}
        bytes
    };
    let warm = round(&mut turn, &mut worker);
    assert_eq!(warm, 100 * 100 + 100 * 10 * (1_100 + CHANNEL_HEAD_BYTES));
    let before = alloc::allocations();
    drop(Box::new(before));
    assert!(alloc::allocations() > before, "the counting allocator counts");
    let before = alloc::allocations();
    for _ in 0..100 {
        assert_eq!(round(&mut turn, &mut worker), warm);
    }
    assert_eq!(alloc::allocations() - before, 0, "allocations over 110,000 datagrams");
}
