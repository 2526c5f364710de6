//! Streams of TURN clients, TCP and TLS: accepted or adopted, limited, read frame by frame, and written without waiting.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::io::{self, IoSlice, Read, Write};
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry, Token};
use rustls::ServerConnection;
use turn_server::framing::FRAME_BYTES_MAX;
use turn_server::{Client, StreamId};

use super::tls::TlsStream;
use super::{Adopted, Secure};
use crate::stream::{self, ACCEPTS_PER_TURN, Census, Listeners, Load, Outbox, STALLED_MAX};
use crate::tls::Certificates;

/// Streams in all. When full, whoever comes takes the place of the stream that is longest without an allocation; without
/// such, it is closed.
const STREAMS_MAX: usize = 4_096;
/// Streams from one IPv4 address or IPv6 /64. A school may sit behind one address, and a browser opens a stream from each of
/// its addresses to each URL that it was told. When full, further ones are closed as they come.
const STREAMS_PER_SOURCE_MAX: usize = 1_024;
/// A stream without an allocation for so long is closed: RFC 8656 lets a client take its time, browsers take a second.
pub(crate) const PROOF_MAX: Duration = Duration::from_secs(10);
/// Bytes read of one stream before others get their turn.
const READ_BYTES_MAX: usize = 64 * 1024;
/// The same for a stream without an allocation: some twenty requests, of which browsers need three.
const STRANGER_READ_BYTES_MAX: usize = 2 * 1024;
/// What a buffer for [`Streams::read`] must hold: what was kept of a frame whose end had not come, and what is read.
pub(crate) const BUFFER_BYTES: usize = FRAME_BYTES_MAX + READ_BYTES_MAX;

/// Steps of TLS handshakes taken before the sockets are read again: one may cost a signature, with RSA a millisecond, and
/// those who talk do not wait for a hundred who come.
const GREETINGS_PER_TURN: usize = 4;
/// Listeners from here on are those for TLS.
const SECURE: usize = 2;

/// What became of streams; counted since start, but for `open`.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    /// Open now: TCP, TLS.
    pub(crate) open: [u64; 2],
    /// Accepted or adopted.
    pub(crate) accepted: u64,
    /// Closed as they came, because there were too many.
    pub(crate) refused: u64,
    /// Closed without an allocation.
    pub(crate) unproven: u64,
    /// Packets dropped because their stream was full or slow.
    pub(crate) dropped: u64,
}

/// All streams.
pub(crate) struct Streams {
    registry: Registry,
    /// TCP, TLS, each IPv4 and IPv6.
    listeners: [Option<TcpListener>; 4],
    /// Edge-triggered: true until nobody waits to be accepted.
    accepting: [bool; 4],
    certificates: Option<Certificates>,
    /// Steps of handshakes that this turn has left.
    greetings: usize,
    /// The token of a stream's number.
    token: fn(u64) -> Token,
    streams: HashMap<StreamId, Stream>,
    census: Census,
    /// The number of the next stream; none is used twice.
    next: u64,
    /// Streams that may have something to read, without and with an allocation; each stands here once.
    readable: [VecDeque<StreamId>; 2],
    /// Whose turn it is: strangers get half the time at most while others talk.
    turn: bool,
    /// Streams without an allocation; the first is the oldest.
    strangers: BTreeSet<StreamId>,
    /// Streams that ended by themselves.
    ended: Vec<StreamId>,
    counts: Counts,
}

struct Stream {
    wire: Wire,
    client: Client,
    /// When it came, or was last seen to have an allocation.
    useful: Instant,
    /// It had an allocation when last looked at.
    proven: bool,
    /// It stands among the readable.
    readable: bool,
    /// Edge-triggered: true until the kernel takes nothing.
    writable: bool,
    /// The beginning of a frame whose end has not come.
    partial: Vec<u8>,
    outbox: Outbox,
}

/// What carries a stream's bytes.
enum Wire {
    Plain(TcpStream),
    Secure(Box<TlsStream<TcpStream>>),
}

impl Wire {
    /// Whether nothing can be said yet.
    fn is_handshaking(&self) -> bool {
        matches!(self, Wire::Secure(tls) if tls.is_handshaking())
    }

    /// Says that nothing follows; the connection below, which ends when it is dropped.
    fn close(&mut self) -> &mut TcpStream {
        match self {
            Wire::Plain(stream) => stream,
            Wire::Secure(tls) => {
                tls.close();
                tls.get_mut()
            }
        }
    }
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Wire::Plain(stream) => stream.read(buffer),
            Wire::Secure(tls) => tls.read(buffer),
        }
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Wire::Plain(stream) => stream.write_vectored(slices),
            Wire::Secure(tls) => tls.write_vectored(slices),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Wire::Plain(stream) => stream.flush(),
            Wire::Secure(tls) => tls.flush(),
        }
    }
}

impl Streams {
    /// `tokens` are those of the listeners, `token` gives those of streams.
    pub(crate) fn new(
        registry: Registry,
        plain: Listeners,
        secure: Option<Secure>,
        tokens: [Token; 4],
        token: fn(u64) -> Token,
    ) -> io::Result<Self> {
        let (secure, certificates) =
            secure.map_or_else(Default::default, |secure| (secure.listeners, Some(secure.certificates)));
        let ([v4, v6], [secure_v4, secure_v6]) = (plain, secure);
        let mut listeners = [v4, v6, secure_v4, secure_v6];
        for (listener, token) in listeners.iter_mut().zip(tokens) {
            if let Some(listener) = listener {
                registry.register(listener, token, Interest::READABLE)?;
            }
        }
        Ok(Streams {
            registry,
            listeners,
            accepting: [true; 4],
            certificates,
            greetings: GREETINGS_PER_TURN,
            token,
            streams: HashMap::new(),
            census: Census::new(STREAMS_MAX, STREAMS_PER_SOURCE_MAX),
            next: 0,
            readable: [VecDeque::new(), VecDeque::new()],
            turn: false,
            strangers: BTreeSet::new(),
            ended: Vec::new(),
            counts: Counts::default(),
        })
    }

    /// Streams wait to be accepted by a listener.
    pub(crate) fn may_accept(&mut self, listener: usize) {
        self.accepting[listener] = true;
    }

    /// Something changed with a stream.
    pub(crate) fn woken(&mut self, number: u64, readable: bool, writable: bool, now: Instant) {
        let id = StreamId(number);
        let Some(stream) = self.streams.get_mut(&id) else { return };
        if readable && !std::mem::replace(&mut stream.readable, true) {
            self.readable[usize::from(stream.proven)].push_back(id);
        }
        if writable {
            // Answers of a handshake may wait too, which are none of ours.
            stream.writable = !matches!(stream.wire.flush(), Err(error) if error.kind() == io::ErrorKind::WouldBlock);
            self.flush(id, now);
        }
    }

    /// How many streams may have something to read.
    pub(crate) fn ready(&self) -> usize {
        self.readable.iter().map(VecDeque::len).sum()
    }

    pub(crate) fn counts(&self) -> Counts {
        let secure = |stream: &&Stream| matches!(stream.client, Client::Stream { secure: true, .. });
        let tls = self.streams.values().filter(secure).count() as u64;
        Counts { open: [self.streams.len() as u64 - tls, tls], ..self.counts }
    }

    /// Accepts who waits; once a turn.
    pub(crate) fn accept(&mut self, now: Instant) {
        self.greetings = GREETINGS_PER_TURN;
        for index in 0..self.listeners.len() {
            for _ in 0..ACCEPTS_PER_TURN {
                let Some(listener) = self.listeners[index].as_ref().filter(|_| self.accepting[index]) else { break };
                match listener.accept() {
                    Ok((stream, remote)) => {
                        let tls = self.certificates.as_ref().filter(|_| index >= SECURE);
                        self.admit(stream, remote, tls.map(Certificates::turn_session), now);
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.accepting[index] = false,
                    // Whoever waited has gone, or there are no more files: the next turn tries again, and none is hurried.
                    Err(_) => break,
                }
            }
        }
    }

    /// Takes over a connection that somebody else accepted.
    pub(crate) fn adopt(&mut self, adopted: Adopted, now: Instant) {
        let Adopted { stream, remote, tls } = adopted;
        if stream.set_nonblocking(true).is_err() {
            self.counts.refused += 1;
            return;
        }
        self.admit(TcpStream::from_std(stream), remote, Some(tls), now);
    }

    fn admit(&mut self, mut stream: TcpStream, remote: SocketAddr, tls: Option<Box<ServerConnection>>, now: Instant) {
        if self.streams.len() >= STREAMS_MAX
            && let Some(oldest) = self.strangers.first().copied()
        {
            self.counts.unproven += 1;
            self.end(oldest);
        }
        if !self.census.has_room(remote.ip()) {
            self.counts.refused += 1;
            return;
        }
        stream::tune(&stream);
        let id = StreamId(self.next);
        let token = (self.token)(self.next);
        if self.registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE).is_err() {
            return;
        }
        self.next += 1;
        self.counts.accepted += 1;
        self.census.enter(remote.ip());
        self.strangers.insert(id);
        self.readable[0].push_back(id);
        let client = Client::Stream { stream: id, remote, secure: tls.is_some() };
        let stream = Stream {
            wire: match tls {
                Some(tls) => Wire::Secure(Box::new(TlsStream::new(stream, tls))),
                None => Wire::Plain(stream),
            },
            client,
            useful: now,
            proven: false,
            readable: true,
            writable: true,
            partial: Vec::new(),
            outbox: Outbox::default(),
        };
        self.streams.insert(id, stream);
    }

    /// Reads the next stream that may have something into `buffer`, behind what it had kept. Whose frames are there, and
    /// where they end; `None` if it has nothing. What is no whole frame must be given to [`Streams::keep`].
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> Option<(StreamId, Client, usize)> {
        self.turn = !self.turn;
        let first = usize::from(self.turn);
        let id = self.readable[first].pop_front().or_else(|| self.readable[1 - first].pop_front())?;
        let stream = self.streams.get_mut(&id)?;
        let queue = &mut self.readable[usize::from(stream.proven)];
        let was_greeting = stream.wire.is_handshaking();
        if was_greeting {
            let Some(left) = self.greetings.checked_sub(1) else {
                queue.push_back(id);
                return None;
            };
            self.greetings = left;
        }
        let held = stream.partial.len();
        buffer.get_mut(..held)?.copy_from_slice(&stream.partial);
        let most = if stream.proven { READ_BYTES_MAX } else { STRANGER_READ_BYTES_MAX };
        let read = match stream.wire.read(buffer.get_mut(held..held + most)?) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                stream.readable = false;
                Ok(0)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(0),
            read => read,
        };
        if stream.readable {
            queue.push_back(id);
        }
        if was_greeting && !stream.wire.is_handshaking() {
            // What was to be written waited for the handshake, not for the kernel.
            stream.writable = true;
            if let Some(certificates) = &self.certificates {
                certificates.counts().completed.fetch_add(1, Ordering::Relaxed);
            }
        }
        match read {
            Ok(0) => None,
            Ok(read) => Some((id, stream.client, held + read)),
            Err(_) => {
                self.end(id);
                None
            }
        }
    }

    /// Keeps the beginning of a frame until the next read; it is shorter than the longest frame.
    pub(crate) fn keep(&mut self, id: StreamId, beginning: &[u8]) {
        debug_assert!(beginning.len() < FRAME_BYTES_MAX, "longer frames end their stream");
        let Some(stream) = self.streams.get_mut(&id) else { return };
        stream.partial.clear();
        stream.partial.extend_from_slice(beginning);
    }

    /// Queues a frame of these parts and, if it must, writes what the stream takes; [`Streams::flush`] does the rest.
    pub(crate) fn push(&mut self, id: StreamId, load: Load, parts: &[&[u8]], now: Instant) {
        let Some(Stream { wire, outbox, writable, .. }) = self.streams.get_mut(&id) else { return };
        match outbox.offer(load, parts, wire, writable, now) {
            Ok(dropped) => self.counts.dropped += dropped,
            Err(_) => self.end(id),
        }
    }

    /// Sends frames, each of a head, a packet and zeros.
    pub(crate) fn send<'a>(&mut self, id: StreamId, frames: impl Iterator<Item = [&'a [u8]; 3]>, now: Instant) {
        let Some(Stream { wire, outbox, writable, .. }) = self.streams.get_mut(&id) else { return };
        match outbox.send(frames, Load::of, wire, writable, now) {
            Ok(dropped) => self.counts.dropped += dropped,
            Err(_) => self.end(id),
        }
    }

    /// Writes what the stream takes.
    pub(crate) fn flush(&mut self, id: StreamId, now: Instant) {
        let Some(Stream { wire, outbox, writable, .. }) = self.streams.get_mut(&id) else { return };
        match outbox.flush(wire, writable, now) {
            Ok(dropped) => self.counts.dropped += dropped,
            Err(_) => self.end(id),
        }
    }

    /// Closes streams that have had no allocation for too long, as `has_allocation` tells, and those that take nothing any
    /// more.
    pub(crate) fn expire(&mut self, now: Instant, has_allocation: impl Fn(&Client) -> bool) {
        let mut late = Vec::new();
        for (id, stream) in &mut self.streams {
            stream.proven = has_allocation(&stream.client);
            if stream.proven {
                stream.useful = now;
                self.strangers.remove(id);
            } else {
                self.strangers.insert(*id);
            }
            if now.saturating_duration_since(stream.useful) >= PROOF_MAX {
                self.counts.unproven += 1;
                late.push(*id);
            } else if stream.outbox.waits_since().is_some_and(|at| now.saturating_duration_since(at) >= STALLED_MAX) {
                late.push(*id);
            }
        }
        for id in late {
            self.end(id);
        }
    }

    /// Closes a stream that the machine needs no more.
    pub(crate) fn close(&mut self, id: StreamId) {
        let Some(mut stream) = self.streams.remove(&id) else { return };
        self.strangers.remove(&id);
        // The descriptor is closed with the stream, which takes it out of the registry all the same.
        let _ = self.registry.deregister(stream.wire.close());
        if stream.wire.is_handshaking()
            && let Some(certificates) = &self.certificates
        {
            certificates.counts().failed.fetch_add(1, Ordering::Relaxed);
        }
        self.census.leave(stream.client.remote().ip());
    }

    /// Closes a stream that is over, or cannot be understood any more.
    pub(crate) fn end(&mut self, id: StreamId) {
        if self.streams.contains_key(&id) {
            self.close(id);
            self.ended.push(id);
        }
    }

    /// A stream that has ended by itself, once.
    pub(crate) fn ended(&mut self) -> Option<StreamId> {
        self.ended.pop()
    }
}
