//! The loop of the TURN thread.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token};
use sfu::Path;
use turn_server::framing::{Unframed, frame_bytes};
use turn_server::{Action, AllocationId, CHANNEL_HEAD_BYTES, Client, Config, Input, Now, Output, Server};

use super::clients::{Clients, Payloads};
use super::relay::Relays;
use super::stream::{BUFFER_BYTES, Streams};
use super::{Bound, Order, Report, SocketCounts};
use crate::clock;
use crate::crossing::TurnEnd;
use crate::pulse::{Pulse, REPORT_EVERY};
use crate::seldom::Seldom;
use crate::udp::{Batch, Family};

/// How long streams are read before the UDP sockets are again: requests of strangers cost more to answer than to send.
const STREAMS_TIME_MAX: Duration = Duration::from_millis(1);
/// Orders taken before the sockets are read again.
const ORDERS_PER_TURN: usize = 64;
/// Most batches read of a socket or a crossing before the others get their turn.
const BATCHES_MAX: usize = 4;

const V4: Token = Token(0);
const V6: Token = Token(1);
pub(super) const WAKE: Token = Token(2);
/// Those of the listeners: TCP, TLS, each IPv4 and IPv6.
const ACCEPT: [Token; 4] = [Token(3), Token(4), Token(5), Token(6)];
/// Tokens from here on are those of streams and, in between, of relay sockets.
const FIRST_TOKEN: usize = 16;

fn stream_token(number: u64) -> Token {
    Token(FIRST_TOKEN + 2 * number as usize)
}

fn relay_token(number: u64) -> Token {
    Token(FIRST_TOKEN + 2 * number as usize + 1)
}

/// Peers that policy refused: for whoever looks for abuse.
static FORBIDDEN: Seldom = Seldom::new();

/// What the thread owns.
pub(super) struct Machine {
    server: Server,
    clients: Clients,
    relays: Relays,
    crossings: Crossings,
    poll: Poll,
    orders: Receiver<Order>,
    pulse: Arc<Pulse<Report>>,
    reported: Instant,
    /// Edge-triggered readiness: true until a receive finds nothing. V4, V6.
    ready: [bool; 2],
    batch: Batch,
    /// What a stream is read into.
    buffer: Vec<u8>,
}

/// The ways to the media workers.
struct Crossings {
    ends: Vec<TurnEnd>,
    /// Whose each media address is.
    by_address: HashMap<SocketAddr, usize>,
    /// Payloads that found no room.
    dropped: u64,
}

impl Crossings {
    fn of(&mut self, media: SocketAddr) -> Option<&mut TurnEnd> {
        self.ends.get_mut(*self.by_address.get(&media)?)
    }
}

impl Machine {
    pub(super) fn new(
        bound: Bound,
        config: Config,
        workers: Vec<(Vec<SocketAddr>, TurnEnd)>,
        orders: Receiver<Order>,
        pulse: Arc<Pulse<Report>>,
    ) -> io::Result<Self> {
        let Bound { poll, waker: _, mut sockets, listeners, secure } = bound;
        let registry = poll.registry();
        registry.register(&mut sockets.v4.socket, V4, Interest::READABLE)?;
        if let Some(v6) = &mut sockets.v6 {
            registry.register(&mut v6.socket, V6, Interest::READABLE)?;
        }
        let streams = Streams::new(registry.try_clone()?, listeners, secure, ACCEPT, stream_token)?;
        let relays = Relays::new(registry.try_clone()?, relay_token);
        let mut crossings = Crossings { ends: Vec::new(), by_address: HashMap::new(), dropped: 0 };
        for (worker, (addresses, end)) in workers.into_iter().enumerate() {
            crossings.by_address.extend(addresses.into_iter().map(|address| (address, worker)));
            crossings.ends.push(end);
        }
        let now = turn_now();
        Ok(Machine {
            server: Server::new(config, rand::random(), now),
            clients: Clients { sockets, streams, counts: SocketCounts::default() },
            relays,
            crossings,
            poll,
            orders,
            pulse,
            reported: now.mono,
            ready: [true; 2],
            batch: Batch::new(),
            buffer: vec![0; BUFFER_BYTES],
        })
    }

    /// Wait → orders → receive → crossings → outputs → report, until nobody orders any more or waiting fails; says why.
    pub(super) fn run(mut self) -> String {
        let mut events = Events::with_capacity(256);
        let mut unfinished = false;
        loop {
            let busy =
                unfinished || self.ready.contains(&true) || self.clients.streams.ready() > 0 || self.relays.ready() > 0;
            let timeout = if busy { Duration::ZERO } else { self.sleep() };
            match self.poll.poll(&mut events, Some(timeout)) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return format!("waiting for its sockets failed: {error}"),
            }
            let now = turn_now();
            self.wake(&events, now.mono);
            let Ok(more_orders) = self.take_orders(now) else {
                return "control is gone".to_owned();
            };
            if self.server.deadline().is_some_and(|deadline| deadline <= now.mono) {
                self.server.handle(Input::Tick, now);
            }
            self.receive();
            self.receive_streams(now);
            self.receive_relayed();
            self.clients.streams.accept(now.mono);
            unfinished = self.receive_crossed() || more_orders;
            self.act(now);
            for end in &mut self.crossings.ends {
                end.flush();
            }
            self.report(now.mono);
        }
    }

    /// How long nothing is due.
    fn sleep(&self) -> Duration {
        let due = self.server.deadline().map(|deadline| deadline.saturating_duration_since(Instant::now()));
        due.map_or(REPORT_EVERY, |due| due.min(REPORT_EVERY))
    }

    fn wake(&mut self, events: &Events, now: Instant) {
        for event in events {
            match event.token() {
                V4 => self.ready[0] = true,
                V6 => self.ready[1] = true,
                WAKE => {}
                token if token.0 >= FIRST_TOKEN => {
                    let number = ((token.0 - FIRST_TOKEN) / 2) as u64;
                    if token == stream_token(number) {
                        let readable = event.is_readable() || event.is_read_closed() || event.is_error();
                        self.clients.streams.woken(number, readable, event.is_writable(), now);
                    } else {
                        self.relays.woken(number);
                    }
                }
                token => {
                    if let Some(listener) = ACCEPT.iter().position(|accept| *accept == token) {
                        self.clients.streams.may_accept(listener);
                    }
                }
            }
        }
    }

    /// Takes what others order; `Ok(true)` when some may be left, an error when all of them are gone.
    fn take_orders(&mut self, now: Now) -> Result<bool, TryRecvError> {
        for _ in 0..ORDERS_PER_TURN {
            match self.orders.try_recv() {
                Ok(Order::Input(input)) => self.server.handle(input, now),
                Ok(Order::Adopt(adopted)) => self.clients.streams.adopt(adopted, now.mono),
                Err(TryRecvError::Empty) => return Ok(false),
                Err(gone) => return Err(gone),
            }
        }
        Ok(true)
    }

    /// Takes orders between a read and what it brought: a client that has just heard of its seat is granted what it asks for,
    /// because the order was given before the answer that told it.
    fn take_grants(&mut self, now: Now) {
        // All of them: any may be the one. That nobody orders any more is seen at the next turn.
        while let Ok(true) = self.take_orders(now) {}
    }

    /// Takes what clients sent by UDP.
    fn receive(&mut self) {
        for (index, family) in [Family::V4, Family::V6].into_iter().enumerate() {
            for _ in 0..BATCHES_MAX {
                let Some(socket) = self.clients.sockets.of(family).filter(|_| self.ready[index]) else { break };
                match self.batch.receive(socket) {
                    Ok(_) => self.ready[index] = self.batch.is_full(),
                    // An ICMP answer to something sent earlier; the next receive goes on behind it.
                    Err(_) => {
                        self.clients.counts.receive_errors += 1;
                        continue;
                    }
                }
                let now = turn_now();
                self.take_grants(now);
                for run in self.batch.runs() {
                    let Path::Udp { local, remote } = run.path else { continue };
                    let client = Client::Udp { local, remote };
                    for datagram in run.bytes.chunks(run.stride) {
                        let action = consider(&mut self.server, client, datagram, now);
                        answer(&mut self.clients, &mut self.relays, &mut self.crossings, client, action, datagram, now);
                    }
                }
                // What one batch causes is not heaped upon what the last has caused.
                self.act(now);
            }
        }
    }

    /// Takes what clients sent by streams: each that may have something is read once, for [`STREAMS_TIME_MAX`] at most.
    fn receive_streams(&mut self, now: Now) {
        let began = Instant::now();
        for _ in 0..self.clients.streams.ready() {
            if began.elapsed() >= STREAMS_TIME_MAX {
                return;
            }
            let Some((id, client, filled)) = self.clients.streams.read(&mut self.buffer) else { continue };
            self.take_grants(now);
            let mut rest = self.buffer.get(..filled).unwrap_or_default();
            loop {
                match frame_bytes(rest) {
                    Ok(Some(bytes)) => {
                        let (frame, behind) = rest.split_at(bytes);
                        let action = consider(&mut self.server, client, frame, now);
                        answer(&mut self.clients, &mut self.relays, &mut self.crossings, client, action, frame, now);
                        rest = behind;
                    }
                    Ok(None) => {
                        self.clients.streams.keep(id, rest);
                        break;
                    }
                    // Its framing is lost for good, or it never spoke TURN.
                    Err(Unframed) => {
                        self.clients.streams.end(id);
                        break;
                    }
                }
            }
            // All its answers at once.
            self.clients.streams.flush(id, now.mono);
        }
    }

    /// Takes what peers sent to relay sockets: each that may have something is read once.
    fn receive_relayed(&mut self) {
        for _ in 0..self.relays.ready() {
            let allocation = match self.relays.receive(&mut self.batch) {
                Ok(Some(allocation)) => allocation,
                Ok(None) => continue,
                Err(_) => {
                    self.clients.counts.receive_errors += 1;
                    continue;
                }
            };
            let now = turn_now();
            for run in self.batch.runs() {
                let Path::Udp { remote: peer, .. } = run.path else { continue };
                let payloads = Payloads { bytes: run.bytes, stride: run.stride, room: 0 };
                forward(&mut self.server, &mut self.clients, allocation, peer, payloads, now);
            }
        }
    }

    /// Takes what media workers send to clients; `true` when some may be left.
    fn receive_crossed(&mut self) -> bool {
        let mut more = false;
        for end in &mut self.crossings.ends {
            let (server, clients) = (&mut self.server, &mut self.clients);
            let mut now = None;
            more |= end.take(BATCHES_MAX, |path, spaced| {
                let now = *now.get_or_insert_with(turn_now);
                if let Path::Relay { allocation, peer, .. } = path {
                    let payloads = Payloads { bytes: spaced.bytes, stride: spaced.stride, room: CHANNEL_HEAD_BYTES };
                    forward(server, clients, allocation, peer, payloads, now);
                }
            });
            // The allocation stays: its client refreshes it or lets it go.
            while end.closed().is_some() {}
        }
        more
    }

    /// Does what the machine says.
    fn act(&mut self, now: Now) {
        loop {
            while let Some(id) = self.clients.streams.ended() {
                self.server.handle(Input::StreamClosed { stream: id }, now);
            }
            let Some(output) = self.server.poll() else { return };
            match output {
                Output::Reply { to, bytes } => {
                    self.clients.reply(to, &bytes, now.mono);
                    if let Client::Stream { stream, .. } = to {
                        self.clients.streams.flush(stream, now.mono);
                    }
                }
                Output::Bind { allocation, relayed } => {
                    let there = self.relays.open(allocation, relayed).is_ok();
                    self.server.handle(Input::Bound { allocation, there }, now);
                }
                Output::Unbind { allocation } => self.relays.close(allocation),
                Output::PathClosed { allocation, relayed, peer } => {
                    if let Some(end) = self.crossings.of(peer) {
                        end.close(Path::Relay { allocation, relayed, peer });
                    }
                }
                // Heard as an end: behind the allocation that has ended the client may have made another.
                Output::Hangup { stream } => self.clients.streams.end(stream),
                Output::Forbidden { client, peer } => {
                    if let Some(left_out) = FORBIDDEN.due() {
                        let client = client.remote();
                        tracing::warn!(%client, %peer, left_out, "a TURN client asked for a peer that policy forbids");
                    }
                }
            }
        }
    }

    fn report(&mut self, now: Instant) {
        self.pulse.beat(now);
        if now.saturating_duration_since(self.reported) < REPORT_EVERY {
            return;
        }
        self.reported = now;
        self.clients.streams.expire(now, |client| self.server.has_allocation(client));
        self.pulse.tell(Report {
            machine: self.server.counters().clone(),
            sockets: self.clients.counts,
            crossing_dropped: self.crossings.dropped,
            streams: self.clients.streams.counts(),
            relay_sockets: self.relays.open_sockets() as u64,
        });
    }
}

/// What the machine makes of a client's message. A broken assumption of ours costs that message, not every call.
fn consider<'s>(server: &'s mut Server, client: Client, message: &[u8], now: Now) -> Action<'s> {
    let receive = AssertUnwindSafe(move || {
        // Moved out, so that what is returned may borrow from it.
        let server = server;
        server.receive(client, message, now)
    });
    catch_unwind(receive).unwrap_or_else(|_| {
        tracing::error!(remote = %client.remote(), bytes = message.len(), "a message to the TURN server broke an assumption");
        Action::Nothing
    })
}

/// Does what the machine makes of a client's message.
fn answer(
    clients: &mut Clients,
    relays: &mut Relays,
    crossings: &mut Crossings,
    client: Client,
    action: Action<'_>,
    message: &[u8],
    now: Now,
) {
    match action {
        Action::Nothing => {}
        Action::Reply(bytes) => clients.reply(client, bytes, now.mono),
        Action::Media { allocation, relayed, peer, payload } => {
            let path = Path::Relay { allocation, relayed, peer };
            let payload = message.get(payload).unwrap_or_default();
            if !crossings.of(peer).is_some_and(|end| end.push(path, payload)) {
                crossings.dropped += 1;
            }
        }
        Action::Relay { allocation, peer, payload, dont_fragment: _ } => {
            let sent = relays.send(allocation, peer, message.get(payload).unwrap_or_default(), now.mono);
            clients.counts.sent(sent);
        }
    }
}

/// Sends payloads of a peer to the client of an allocation, as far as the machine lets them. The last may be shorter.
fn forward(
    server: &mut Server,
    clients: &mut Clients,
    allocation: AllocationId,
    peer: SocketAddr,
    payloads: Payloads<'_>,
    now: Now,
) {
    let Payloads { bytes, stride, room } = payloads;
    let whole = bytes.len() / stride.max(1) * stride;
    let (alike, shorter) = bytes.split_at_mut(whole);
    for bytes in [alike, shorter].into_iter().filter(|bytes| bytes.len() >= room.max(1)) {
        let stride = stride.min(bytes.len());
        if let Some(framing) = server.to_client(allocation, peer, stride - room, bytes.len() / stride, now) {
            let (passing, _) = bytes.split_at_mut(framing.datagrams * stride);
            clients.deliver(&framing, Payloads { bytes: passing, stride, room }, now.mono);
        }
    }
}

/// The present, in the machine's words.
fn turn_now() -> Now {
    let now = clock::now();
    Now { mono: now.mono, unix_ms: now.unix_ms }
}
