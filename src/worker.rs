//! Media workers: one thread, one port and one `Sfu` each. Nothing between two sockets locks, waits or allocates.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token, Waker};
use sfu::{Certificate, Counters, Gauges, Input, Now, Output, Path, Request, Sfu};
use signaling::WorkerId;
use tokio::sync::mpsc;

use crate::clock;
use crate::control;
use crate::crossing::{self, Crossed, TurnEnd, WorkerEnd};
use crate::error::Failure;
use crate::pipe::Ends;
use crate::ports;
use crate::pulse::{End, Pulse, REPORT_EVERY};
use crate::stream::Listeners;
use crate::tcp::{self, Tcp};
use crate::udp::{Batch, Family, Sent, Sockets};

/// Requests that wait for one worker. When full, control waits: a worker never waits for control, so it drains.
pub(crate) const REQUESTS_MAX: usize = 4_096;
/// Requests taken before the sockets are read again: an offer costs as much as some hundred packets.
const REQUESTS_PER_TURN: usize = 32;
/// Longest time spent sending before the sockets are read again: one large room must not starve the others.
const FLUSH_MAX: Duration = Duration::from_millis(1);
/// Runs between two looks at the clock while sending.
const RUNS_PER_CLOCK: u32 = 16;
/// Most batches read of a socket, or of the crossing from the TURN thread, before what they cause is sent: with GRO a batch
/// may be some hundred datagrams, and what the SFU cannot send in time it drops by age.
const BATCHES_MAX: usize = 4;
/// When the control inbox was full, how soon the waiting events are offered again.
const EVENTS_RETRY: Duration = Duration::from_millis(5);

const V4: Token = Token(0);
const V6: Token = Token(1);
const WAKE: Token = Token(2);
/// Those of the TCP listeners; connections follow from [`tcp::FIRST_TOKEN`] on.
const ACCEPT: [Token; 2] = [Token(3), Token(4)];
/// What went through the sockets of one worker; counted since start.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SocketCounts {
    /// Runs sent, by the highest bit of their number of datagrams: 1, 2–3, 4–7, …, 64 and more.
    pub(crate) runs: [u64; RUN_CLASSES],
    /// Datagrams of those runs.
    pub(crate) datagrams_out: u64,
    /// Calls that received something.
    pub(crate) receives: u64,
    /// Turns that ended with something left to send.
    pub(crate) full_flushes: u64,
    /// Runs cut short because the socket's buffer was full.
    pub(crate) blocked: u64,
    /// Runs that the kernel refused.
    pub(crate) refused: u64,
    /// Errors of receiving.
    pub(crate) receive_errors: u64,
    /// ICE-TCP connections.
    pub(crate) tcp: tcp::Counts,
    /// Datagrams to TURN clients that found no room in the crossing.
    pub(crate) crossing_dropped: u64,
}

/// What a worker last said of itself, at most [`REPORT_EVERY`] old while it lives.
#[derive(Clone, Debug, Default)]
pub(crate) struct Report {
    pub(crate) counters: Counters,
    pub(crate) gauges: Gauges,
    pub(crate) sockets: SocketCounts,
}

/// Classes of run lengths.
pub(crate) const RUN_CLASSES: usize = 7;

impl SocketCounts {
    fn sent(&mut self, datagrams: usize) {
        let class = datagrams.max(1).ilog2() as usize;
        self.runs[class.min(RUN_CLASSES - 1)] += 1;
        self.datagrams_out += datagrams as u64;
    }
}

/// The shell's hold on a worker.
#[derive(Clone)]
pub(crate) struct Worker {
    /// The UDP port; with `[media] tcp` the TCP port too.
    pub(crate) port: u16,
    /// What it announces.
    pub(crate) candidates: Vec<SocketAddr>,
    requests: SyncSender<Request>,
    /// Requests in the queue, of [`REQUESTS_MAX`].
    queued: Arc<AtomicUsize>,
    waker: Arc<Waker>,
    pulse: Arc<Pulse<Report>>,
}

/// Ask again later.
#[derive(Debug)]
pub(crate) struct Full(pub(crate) Request);

impl Worker {
    /// Queues a request and wakes the worker; gives it back when the queue is full. Requests to a dead worker vanish:
    /// the process is ending.
    pub(crate) fn request(&self, request: Request) -> Result<(), Full> {
        self.queued.fetch_add(1, Ordering::Relaxed);
        match self.requests.try_send(request) {
            Ok(()) => {
                // Failing to wake would delay the request by REPORT_EVERY at most.
                let _ = self.waker.wake();
                Ok(())
            }
            Err(TrySendError::Full(request)) => {
                self.queued.fetch_sub(1, Ordering::Relaxed);
                let _ = self.waker.wake();
                Err(Full(request))
            }
            Err(TrySendError::Disconnected(_)) => Ok(()),
        }
    }

    /// Requests that wait for it, of [`REQUESTS_MAX`].
    pub(crate) fn queued(&self) -> usize {
        self.queued.load(Ordering::Relaxed)
    }

    /// The last report.
    pub(crate) fn report(&self) -> Report {
        self.pulse.report()
    }

    /// Time since the loop last ran; `None` when the thread has ended.
    pub(crate) fn idle(&self) -> Option<Duration> {
        self.pulse.idle()
    }
}

/// Where a worker is to be reached.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reach<'a> {
    /// Its port; 0 takes any.
    pub(crate) port: u16,
    /// Whether it takes ICE-TCP too.
    pub(crate) tcp: bool,
    /// The addresses that are announced, best first.
    pub(crate) addresses: &'a [IpAddr],
}

/// What a worker waits with, and what wakes it: others need that before it starts.
pub(crate) struct Waiting {
    poll: Poll,
    /// Wakes the worker.
    pub(crate) waker: Arc<Waker>,
    /// Its ways to the other workers.
    pub(crate) pipes: Ends,
}

impl Waiting {
    /// For the worker of this number.
    pub(crate) fn new(id: WorkerId) -> Result<Self, Failure> {
        let made = Poll::new().and_then(|poll| Ok((Waker::new(poll.registry(), WAKE)?, poll)));
        let (waker, poll) =
            made.map_err(|error| Failure::Broken(format!("media worker {} cannot wait for anything: {error}", id.0)))?;
        Ok(Waiting { poll, waker: Arc::new(waker), pipes: Ends::default() })
    }
}

/// Starts the thread of worker `id`. What ends it goes to `ended`, once. With `turn`, which wakes the TURN thread, clients of
/// the TURN server cross to it, and the other end of their crossing is given back.
pub(crate) fn start(
    id: WorkerId,
    reach: Reach<'_>,
    Waiting { poll, waker, pipes }: Waiting,
    certificate: Arc<Certificate>,
    inbox: mpsc::Sender<control::Input>,
    ended: mpsc::UnboundedSender<Failure>,
    turn: Option<Arc<Waker>>,
) -> Result<(Worker, Option<TurnEnd>), Failure> {
    let (mut sockets, listeners) = ports::bind(reach.port, reach.tcp, "LYCEUM__MEDIA__PORT or [media] port")?;
    let port = sockets.port();
    let has_v6 = sockets.v6.is_some();
    let candidates: Vec<SocketAddr> =
        reach.addresses.iter().filter(|a| a.is_ipv4() || has_v6).map(|a| SocketAddr::new(*a, port)).collect();
    let tcp = register(&poll, &mut sockets, listeners)
        .map_err(|error| Failure::Broken(format!("media worker {} cannot wait for its sockets: {error}", id.0)))?;
    let (turn_end, crossing) = turn.map(|turn| crossing::crossing(turn, waker.clone())).unzip();
    let (requests, queue) = sync_channel(REQUESTS_MAX);
    let queued = Arc::new(AtomicUsize::new(0));
    let pulse = Pulse::<Report>::new();
    let tcp_candidates = if reach.tcp { candidates.clone() } else { Vec::new() };
    let config = sfu::Config { certificate, udp_candidates: candidates.clone(), tcp_candidates };
    let (thread_pulse, thread_queued) = (pulse.clone(), queued.clone());
    std::thread::Builder::new()
        .name(format!("media-{}", id.0))
        .spawn(move || {
            let mut end = End::new(format!("media worker {}", id.0), thread_pulse.clone(), ended);
            let sfu = Sfu::new(config, rand::random(), clock::now());
            let machine = Machine {
                id,
                sfu,
                sockets,
                batch: Batch::new(),
                tcp,
                crossing,
                pipes,
                poll,
                queue,
                queued: thread_queued,
                inbox,
                pulse: thread_pulse,
                counts: SocketCounts::default(),
                reported: Instant::now(),
                events_wait: false,
                ready: [true, true],
            };
            end.reason = machine.run();
        })
        .map_err(|error| Failure::Broken(format!("cannot start media worker {}: {error}", id.0)))?;
    Ok((Worker { port, candidates, requests, queued, waker, pulse }, turn_end))
}

fn register(poll: &Poll, sockets: &mut Sockets, listeners: Listeners) -> std::io::Result<Tcp> {
    poll.registry().register(&mut sockets.v4.socket, V4, Interest::READABLE)?;
    if let Some(v6) = &mut sockets.v6 {
        poll.registry().register(&mut v6.socket, V6, Interest::READABLE)?;
    }
    Tcp::new(poll.registry().try_clone()?, listeners, ACCEPT)
}

/// What a worker thread owns.
struct Machine {
    id: WorkerId,
    sfu: Sfu,
    sockets: Sockets,
    batch: Batch,
    tcp: Tcp,
    crossing: Option<WorkerEnd>,
    pipes: Ends,
    poll: Poll,
    queue: Receiver<Request>,
    queued: Arc<AtomicUsize>,
    inbox: mpsc::Sender<control::Input>,
    pulse: Arc<Pulse<Report>>,
    counts: SocketCounts,
    reported: Instant,
    /// The control inbox was full: events wait in the `Sfu`, which coalesces them.
    events_wait: bool,
    /// Edge-triggered readiness: true until a receive finds nothing. V4, V6.
    ready: [bool; 2],
}

impl Machine {
    /// Wait → requests → receive → send → events, until control is gone or waiting fails; says why.
    fn run(mut self) -> String {
        let mut events = Events::with_capacity(64);
        let mut unfinished = false;
        loop {
            let busy = unfinished || self.ready.contains(&true) || self.tcp.is_ready();
            let timeout = if busy { Duration::ZERO } else { self.sleep() };
            match self.poll.poll(&mut events, Some(timeout)) {
                Ok(()) => {}
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return format!("waiting for its sockets failed: {error}"),
            }
            for event in &events {
                match event.token() {
                    V4 => self.ready[0] = true,
                    V6 => self.ready[1] = true,
                    WAKE => {}
                    token => match ACCEPT.iter().position(|accept| *accept == token) {
                        Some(family) => self.tcp.may_accept(family),
                        None => {
                            let readable = event.is_readable() || event.is_read_closed() || event.is_error();
                            self.tcp.woken(token, readable, event.is_writable());
                        }
                    },
                }
            }
            let now = clock::now();
            let Ok(more_requests) = self.take_requests(now) else {
                return "control is gone".to_owned();
            };
            if self.sfu.deadline().is_some_and(|deadline| deadline <= now.mono) {
                self.sfu.handle(Input::Tick, now);
            }
            self.receive();
            let more_crossed = self.receive_crossed() | self.receive_piped();
            // The other workers go on with it while we send.
            self.pipes.send(&mut self.sfu);
            self.tcp.accept(now.mono);
            unfinished = self.flush() || more_requests || more_crossed;
            while let Some(path) = self.tcp.ended() {
                self.sfu.handle(Input::PathClosed(path), now);
            }
            self.tell();
            self.pipes.send(&mut self.sfu);
            if let Some(crossing) = &mut self.crossing {
                crossing.flush();
            }
            self.report(now.mono);
        }
    }

    /// How long nothing is due.
    fn sleep(&self) -> Duration {
        let longest = if self.events_wait { EVENTS_RETRY } else { REPORT_EVERY };
        let due = self.sfu.deadline().map(|deadline| deadline.saturating_duration_since(Instant::now()));
        due.map_or(longest, |due| due.min(longest))
    }

    /// Takes what control asks; `Ok(true)` when some may be left, an error when control is gone.
    fn take_requests(&mut self, now: Now) -> Result<bool, TryRecvError> {
        for _ in 0..REQUESTS_PER_TURN {
            match self.queue.try_recv() {
                Ok(request) => {
                    self.queued.fetch_sub(1, Ordering::Relaxed);
                    self.sfu.handle(Input::Request(request), now);
                }
                Err(TryRecvError::Empty) => return Ok(false),
                Err(gone) => return Err(gone),
            }
        }
        Ok(true)
    }

    fn receive(&mut self) {
        for (index, family) in [Family::V4, Family::V6].into_iter().enumerate() {
            for _ in 0..BATCHES_MAX {
                if !self.ready[index] {
                    break;
                }
                let sfu = &mut self.sfu;
                let received = self.sockets.receive(family, &mut self.batch, |path, datagram, arrived, now| {
                    sfu.receive(path, datagram, arrived, now);
                });
                match received {
                    Ok(received) => {
                        // A batch with room left has emptied the socket: asking again would be one more call for nothing.
                        self.ready[index] = received && self.batch.is_full();
                        self.counts.receives += u64::from(received);
                    }
                    // An ICMP answer to something sent earlier; the next receive goes on behind it.
                    Err(_) => self.counts.receive_errors += 1,
                }
            }
        }
        if self.tcp.is_ready() {
            let now = clock::now();
            self.tcp.receive(|path, datagram| self.sfu.receive(path, datagram, now.mono, now));
        }
    }

    /// Takes what comes from clients of the TURN server; `true` when some may be left.
    fn receive_crossed(&mut self) -> bool {
        let Some(crossing) = &mut self.crossing else { return false };
        let mut now = None;
        crossing.take(BATCHES_MAX, |crossed| {
            let now = *now.get_or_insert_with(clock::now);
            match crossed {
                Crossed::Datagram(path, datagram) => self.sfu.receive(path, datagram, now.mono, now),
                Crossed::Closed(path) => self.sfu.handle(Input::PathClosed(path), now),
            }
        })
    }

    /// Takes what other workers pipe; `true` when some may be left.
    fn receive_piped(&mut self) -> bool {
        let sfu = &mut self.sfu;
        self.pipes.take(|worker, batch| sfu.receive_pipe(worker, batch, clock::now()))
    }

    /// Sends what waits, for [`FLUSH_MAX`] at most; `true` when some is left.
    fn flush(&mut self) -> bool {
        let begun = clock::now();
        let (mut now, mut runs) = (begun, 0);
        while let Some(run) = self.sfu.next_run(now) {
            let sent = match run.path {
                Path::Udp { .. } => self.sockets.send(&run, now.mono),
                Path::Tcp { .. } => self.tcp.send(&run, now.mono),
                Path::Relay { .. } => match self.crossing.as_mut().map(|crossing| crossing.push(&run)) {
                    Some(true) => Sent::All,
                    Some(false) => Sent::Blocked,
                    None => Sent::Refused,
                },
            };
            match sent {
                Sent::All => self.counts.sent(run.bytes.len().div_ceil(run.segment.max(1))),
                Sent::Blocked => self.counts.blocked += 1,
                Sent::Refused => self.counts.refused += 1,
            }
            runs += 1;
            if runs % RUNS_PER_CLOCK == 0 {
                now = clock::now();
                if now.mono.saturating_duration_since(begun.mono) >= FLUSH_MAX {
                    self.counts.full_flushes += 1;
                    return true;
                }
            }
        }
        false
    }

    /// Tells control what happened, as far as its inbox has room; the rest waits in the `Sfu`.
    fn tell(&mut self) {
        loop {
            let Ok(permit) = self.inbox.try_reserve() else {
                self.events_wait = true;
                return;
            };
            match self.sfu.poll() {
                Some(Output::Event(event)) => permit.send(control::Input::Media { worker: self.id, event }),
                Some(Output::ClosePath(path)) => match (path, &mut self.crossing) {
                    (Path::Relay { .. }, Some(crossing)) => crossing.close(path),
                    _ => self.tcp.close(path),
                },
                None => break,
            }
        }
        self.events_wait = false;
    }

    fn report(&mut self, now: Instant) {
        self.pulse.beat(now);
        if now.saturating_duration_since(self.reported) < REPORT_EVERY {
            return;
        }
        self.reported = now;
        self.tcp.expire(now, |path| self.sfu.knows(path));
        self.counts.tcp = self.tcp.counts();
        self.counts.crossing_dropped = self.crossing.as_ref().map_or(0, WorkerEnd::dropped);
        let report = Report { counters: self.sfu.counters().clone(), gauges: self.sfu.gauges(), sockets: self.counts };
        self.pulse.tell(report);
    }
}
