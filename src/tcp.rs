//! ICE-TCP, the passive side (RFC 6544): connections to the number of the worker's UDP port, for networks that block UDP.
//! A stream carries datagrams, each behind its length in 16 bits (RFC 4571 §2).

use std::collections::{HashMap, VecDeque};
use std::io::{self, Read};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use sfu::{ConnectionId, Path, Run};

use crate::stream::{self, ACCEPTS_PER_TURN, Census, Listeners, Load, Outbox, STALLED_MAX};
use crate::udp::Sent;

/// Connections of one worker. When full, further ones are closed as they come.
const CONNECTIONS_MAX: usize = 2_048;
/// Connections from one IPv4 address or IPv6 /64. A school may sit behind one address, and a browser opens a connection
/// from each of its addresses to each of ours. When full, further ones are closed as they come.
const CONNECTIONS_PER_SOURCE_MAX: usize = 512;
/// A connection that has brought no valid STUN check for so long is closed. Browsers send one as soon as they are through.
const PROOF_MAX: Duration = Duration::from_secs(10);
/// The longest datagram taken, as long as the longest SRTP packet that the SFU takes. A longer one ends the connection:
/// either it is no ICE-TCP, or its framing is lost for good.
const FRAME_BYTES_MAX: usize = 2_048;
const PREFIX_BYTES: usize = 2;
/// Bytes read of one connection before others get their turn.
const READ_BYTES_MAX: usize = 64 * 1024;
/// Tokens from here on are those of connections, by their numbers.
pub(crate) const FIRST_TOKEN: usize = 16;

/// What became of connections; counted since start, but for `open`.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    /// Open now.
    pub(crate) open: u64,
    /// Accepted.
    pub(crate) accepted: u64,
    /// Closed as they came, because there were too many.
    pub(crate) refused: u64,
    /// Closed without a valid check.
    pub(crate) unproven: u64,
    /// Datagrams dropped because their connection was full or slow.
    pub(crate) dropped: u64,
}

/// The connections of one worker.
pub(crate) struct Tcp {
    registry: Registry,
    listeners: Listeners,
    /// Edge-triggered: true until nobody waits to be accepted.
    accepting: [bool; 2],
    connections: HashMap<ConnectionId, Connection>,
    census: Census,
    /// The number of the next connection; none is used twice.
    next: u64,
    /// Connections that may have something to read; each stands here once.
    readable: VecDeque<ConnectionId>,
    /// Paths of connections that ended by themselves.
    ended: Vec<Path>,
    buffer: Vec<u8>,
    counts: Counts,
}

impl Tcp {
    /// `tokens` are those of the listeners.
    pub(crate) fn new(registry: Registry, mut listeners: Listeners, tokens: [Token; 2]) -> io::Result<Self> {
        for (listener, token) in listeners.iter_mut().zip(tokens) {
            if let Some(listener) = listener {
                registry.register(listener, token, Interest::READABLE)?;
            }
        }
        Ok(Tcp {
            registry,
            listeners,
            accepting: [true; 2],
            connections: HashMap::new(),
            census: Census::new(CONNECTIONS_MAX, CONNECTIONS_PER_SOURCE_MAX),
            next: 0,
            readable: VecDeque::new(),
            ended: Vec::new(),
            buffer: vec![0; PREFIX_BYTES + FRAME_BYTES_MAX + READ_BYTES_MAX],
            counts: Counts::default(),
        })
    }

    /// Connections wait to be accepted: 0 is IPv4, 1 IPv6.
    pub(crate) fn may_accept(&mut self, family: usize) {
        self.accepting[family] = true;
    }

    /// Something changed with the connection of a token.
    pub(crate) fn woken(&mut self, token: Token, readable: bool, writable: bool) {
        let id = ConnectionId((token.0 - FIRST_TOKEN) as u64);
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if readable && !std::mem::replace(&mut connection.readable, true) {
            self.readable.push_back(id);
        }
        if writable {
            connection.writable = true;
            if self.flush(id, Instant::now()).is_err() {
                self.end(id);
            }
        }
    }

    /// Whether there is something to read.
    pub(crate) fn is_ready(&self) -> bool {
        !self.readable.is_empty()
    }

    pub(crate) fn counts(&self) -> Counts {
        Counts { open: self.connections.len() as u64, ..self.counts }
    }

    /// Accepts who waits.
    pub(crate) fn accept(&mut self, now: Instant) {
        for family in 0..self.listeners.len() {
            for _ in 0..ACCEPTS_PER_TURN {
                let Some(listener) = self.listeners[family].as_ref().filter(|_| self.accepting[family]) else { break };
                match listener.accept() {
                    Ok((stream, remote)) => self.admit(stream, remote, now),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.accepting[family] = false,
                    // Whoever waited has gone, or there are no more files: the next turn tries again, and none is hurried.
                    Err(_) => break,
                }
            }
        }
    }

    fn admit(&mut self, mut stream: TcpStream, remote: SocketAddr, now: Instant) {
        if !self.census.has_room(remote.ip()) {
            self.counts.refused += 1;
            return;
        }
        stream::tune(&stream);
        let id = ConnectionId(self.next);
        let token = Token(FIRST_TOKEN + self.next as usize);
        if self.registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE).is_err() {
            return;
        }
        self.next += 1;
        self.counts.accepted += 1;
        self.census.enter(remote.ip());
        self.readable.push_back(id);
        let path = Path::Tcp { connection: id, remote };
        let connection = Connection {
            stream,
            path,
            accepted: now,
            proven: false,
            readable: true,
            writable: true,
            partial: Vec::new(),
            outbox: Outbox::default(),
        };
        self.connections.insert(id, connection);
    }

    /// Reads each connection once that has something and gives each datagram to `each`.
    pub(crate) fn receive(&mut self, mut each: impl FnMut(Path, &mut [u8])) {
        for _ in 0..self.readable.len() {
            let Some(id) = self.readable.pop_front() else { return };
            let Some(connection) = self.connections.get_mut(&id) else { continue };
            let path = connection.path;
            match connection.read(&mut self.buffer, |datagram| each(path, datagram)) {
                Ok(true) => self.readable.push_back(id),
                Ok(false) => connection.readable = false,
                Err(_) => self.end(id),
            }
        }
    }

    /// Queues a run and writes what the kernel takes; what finds no room is dropped.
    pub(crate) fn send(&mut self, run: &Run<'_>, now: Instant) -> Sent {
        let Path::Tcp { connection: id, .. } = run.path else { return Sent::Refused };
        let Some(connection) = self.connections.get_mut(&id) else { return Sent::Refused };
        match connection.send(run, now) {
            Ok(0) => Sent::All,
            Ok(dropped) => {
                self.counts.dropped += dropped;
                Sent::Blocked
            }
            Err(_) => {
                self.end(id);
                Sent::Refused
            }
        }
    }

    fn flush(&mut self, id: ConnectionId, now: Instant) -> io::Result<()> {
        let Some(connection) = self.connections.get_mut(&id) else { return Ok(()) };
        let Connection { stream, outbox, writable, .. } = connection;
        self.counts.dropped += outbox.flush(stream, writable, now)?;
        Ok(())
    }

    /// Closes connections that brought no valid check in time, as `proven` tells, and those that take nothing any more.
    pub(crate) fn expire(&mut self, now: Instant, proven: impl Fn(&Path) -> bool) {
        let mut late = Vec::new();
        for (id, connection) in &mut self.connections {
            connection.proven = connection.proven || proven(&connection.path);
            if !connection.proven && now.saturating_duration_since(connection.accepted) >= PROOF_MAX {
                self.counts.unproven += 1;
                late.push(*id);
            } else if connection.outbox.waits_since().is_some_and(|at| now.saturating_duration_since(at) >= STALLED_MAX)
            {
                late.push(*id);
            }
        }
        for id in late {
            self.end(id);
        }
    }

    /// Closes a connection that the SFU needs no more.
    pub(crate) fn close(&mut self, path: Path) {
        let Path::Tcp { connection: id, remote } = path else { return };
        let Some(mut connection) = self.connections.remove(&id) else { return };
        // The descriptor is closed with the stream, which takes it out of the registry all the same.
        let _ = self.registry.deregister(&mut connection.stream);
        self.census.leave(remote.ip());
    }

    fn end(&mut self, id: ConnectionId) {
        if let Some(path) = self.connections.get(&id).map(|connection| connection.path) {
            self.close(path);
            self.ended.push(path);
        }
    }

    /// A path whose connection has ended, once.
    pub(crate) fn ended(&mut self) -> Option<Path> {
        self.ended.pop()
    }
}

struct Connection {
    stream: TcpStream,
    path: Path,
    accepted: Instant,
    /// A valid check came by it.
    proven: bool,
    /// It stands among the readable.
    readable: bool,
    /// Edge-triggered: true until the kernel takes nothing.
    writable: bool,
    /// The beginning of a datagram whose end has not come; shorter than the longest datagram with its prefix.
    partial: Vec<u8>,
    outbox: Outbox,
}

impl Connection {
    /// One read; whether there may be more. An error when the stream has ended or cannot be understood any more.
    fn read(&mut self, buffer: &mut [u8], each: impl FnMut(&mut [u8])) -> io::Result<bool> {
        let held = self.partial.len();
        buffer[..held].copy_from_slice(&self.partial);
        let read = match self.stream.read(&mut buffer[held..]) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(true),
            Err(error) => return Err(error),
        };
        let whole = split(&mut buffer[..held + read], each).ok_or(io::ErrorKind::InvalidData)?;
        self.partial.clear();
        self.partial.extend_from_slice(&buffer[whole..held + read]);
        Ok(true)
    }

    /// Sends a run; how many datagrams were dropped.
    fn send(&mut self, run: &Run<'_>, now: Instant) -> io::Result<u64> {
        let Connection { stream, outbox, writable, .. } = self;
        let prefix = |bytes| u16::try_from(bytes).map(u16::to_be_bytes).map_err(|_| io::ErrorKind::InvalidInput);
        let segment = run.segment.max(1);
        // All are of one size but the last, which may be shorter.
        let (whole, shorter) = (prefix(segment.min(run.bytes.len()))?, prefix(run.bytes.len() % segment)?);
        let frames = run.datagrams().map(|datagram| {
            let prefix = if datagram.len() == segment { &whole } else { &shorter };
            [prefix, datagram, &[]]
        });
        outbox.send(frames, Load::of, stream, writable, now)
    }
}

/// Gives each whole datagram to `each`; where the rest begins, or `None` when a datagram is longer than any of ours. One
/// without a byte says nothing (RFC 4571 §2).
fn split(bytes: &mut [u8], mut each: impl FnMut(&mut [u8])) -> Option<usize> {
    let mut at = 0;
    while let Some(prefix) = bytes.get(at..).and_then(|rest| rest.first_chunk::<PREFIX_BYTES>()) {
        let len = usize::from(u16::from_be_bytes(*prefix));
        if len > FRAME_BYTES_MAX {
            return None;
        }
        let start = at + PREFIX_BYTES;
        let Some(datagram) = bytes.get_mut(start..start + len) else { break };
        if !datagram.is_empty() {
            each(datagram);
        }
        at = start + len;
    }
    Some(at)
}

#[cfg(test)]
mod tests;
