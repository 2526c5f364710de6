//! How datagrams reach the server's media: by UDP, by ICE-TCP (RFC 4571 frames), or through its TURN server.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::str::FromStr;
use std::time::Instant;

use quinn_udp::{RecvMeta, UdpSocketState};
use serde_json::Value;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::Interest;
use tokio::net::{TcpStream, UdpSocket};

use crate::bots::turn_server;
use crate::turn::client::TurnClient;

/// Receive buffer asked for each socket, bytes: a keyframe of everyone at once.
const RECEIVE_BUFFER_BYTES: usize = 1 << 20;
/// Bytes that wait for a slow TCP connection. When full, further datagrams are dropped, as a full UDP buffer does.
const PENDING_MAX: usize = 1 << 20;
/// What one call may bring.
const JOINED_BYTES_MAX: usize = 64 << 10;
/// The longest datagram.
const DATAGRAM_BYTES_MAX: usize = 2_048;

/// By which way a client comes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Path {
    /// Straight.
    #[default]
    Udp,
    /// ICE-TCP.
    Tcp,
    /// The server's TURN server, over UDP.
    Turn,
}

impl FromStr for Path {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        match word {
            "udp" => Ok(Path::Udp),
            "tcp" => Ok(Path::Tcp),
            "turn" => Ok(Path::Turn),
            _ => Err("expected udp, tcp or turn".to_owned()),
        }
    }
}

/// A UDP socket that takes what one send of the server brought in one call (GRO): cheaper for the tester, and on loopback the
/// kernel then cuts nothing apart at the server's cost.
pub struct Joined {
    socket: UdpSocket,
    state: UdpSocketState,
    held: Vec<u8>,
    /// Where in `held` lies what was not taken yet, and how long each datagram of it is.
    rest: Range<usize>,
    stride: usize,
}

impl Joined {
    async fn open(to: SocketAddr) -> io::Result<Joined> {
        let socket = udp(to).await?;
        let state = UdpSocketState::new((&socket).into())?;
        Ok(Joined { socket, state, held: Vec::new(), rest: 0..0, stride: 0 })
    }

    /// The next datagram that is there.
    fn receive(&mut self, buffer: &mut Vec<u8>) -> Option<()> {
        if self.rest.is_empty() {
            // Most sockets of a run get little at a time, but all may get much.
            self.held.resize(JOINED_BYTES_MAX, 0);
            let Joined { socket, state, held, .. } = self;
            let mut meta = [RecvMeta::default()];
            let mut slices = [IoSliceMut::new(held)];
            let count =
                socket.try_io(Interest::READABLE, || state.recv((&*socket).into(), &mut slices, &mut meta)).ok()?;
            let [RecvMeta { len, stride, .. }] = meta;
            (self.rest, self.stride) = (0..if count == 0 { 0 } else { len }, stride.max(1));
        }
        let end = (self.rest.start + self.stride).min(self.rest.end);
        buffer.extend_from_slice(self.held.get(self.rest.start..end)?);
        self.rest.start = end;
        Some(())
    }
}

/// See the module.
pub enum Way {
    /// Straight to a candidate.
    Udp(Box<Joined>),
    /// A connection to a candidate, what was received of a frame that is not whole, and what waits to be sent.
    Tcp(TcpStream, Vec<u8>, Vec<u8>),
    /// An allocation, from which a candidate is reached.
    Turn(UdpSocket, Box<TurnClient>, SocketAddr),
}

/// The server's candidate that a path goes to (RFC 8839 §5.1), one at `host` first, as that is where signaling reached it.
pub fn candidate(sdp: &str, path: Path, host: Option<IpAddr>) -> Option<SocketAddr> {
    let wanted = if path == Path::Tcp { "tcp" } else { "udp" };
    let candidates = sdp.lines().filter_map(|line| line.strip_prefix("a=candidate:"));
    let mut addresses = candidates.filter_map(|candidate| {
        let words: Vec<&str> = candidate.split(' ').collect();
        let [_, _, protocol, _, ip, port, ..] = words[..] else { return None };
        let is_wanted = protocol.eq_ignore_ascii_case(wanted);
        is_wanted.then(|| Some(SocketAddr::new(ip.parse().ok()?, port.parse().ok()?)))?
    });
    let all: Vec<SocketAddr> = addresses.by_ref().collect();
    all.iter().find(|address| Some(address.ip()) == host).or_else(|| all.first()).copied()
}

async fn udp(to: SocketAddr) -> io::Result<UdpSocket> {
    let (domain, any): (_, IpAddr) =
        if to.is_ipv4() { (Domain::IPV4, [0; 4].into()) } else { (Domain::IPV6, [0; 16].into()) };
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
    // The kernel gives what it allows; less than asked shows up as loss, which is reported.
    let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES);
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddr::new(any, 0).into())?;
    let socket = UdpSocket::from_std(socket.into())?;
    socket.connect(to).await?;
    // Before the runtime knows that it is, `try_send` fails, and the first check would be lost.
    socket.writable().await?;
    Ok(socket)
}

impl Way {
    /// Opens the way to a candidate. `ack` is what the join was answered with: it names the TURN server.
    ///
    /// # Errors
    /// If the kernel refuses, or the server names no TURN server over UDP.
    pub async fn open(path: Path, to: SocketAddr, ack: &Value) -> io::Result<Way> {
        Ok(match path {
            Path::Udp => Way::Udp(Box::new(Joined::open(to).await?)),
            Path::Tcp => {
                let stream = TcpStream::connect(to).await?;
                stream.set_nodelay(true)?;
                Way::Tcp(stream, Vec::new(), Vec::new())
            }
            Path::Turn => {
                let (server, login) =
                    turn_server(ack).ok_or_else(|| io::Error::other("the server names no TURN server over UDP"))?;
                Way::Turn(udp(server).await?, Box::new(TurnClient::new(login, Instant::now())), to)
            }
        })
    }

    /// Sends one datagram, or loses it.
    pub fn send(&mut self, datagram: &[u8], now: Instant) {
        match self {
            // Full buffers and unreachable hosts are losses like others.
            Way::Udp(joined) => drop(joined.socket.try_send(datagram)),
            Way::Tcp(_, _, pending) => {
                if pending.len() + datagram.len() <= PENDING_MAX {
                    pending.extend((datagram.len() as u16).to_be_bytes());
                    pending.extend_from_slice(datagram);
                }
            }
            // What finds no channel yet is repeated by ICE.
            Way::Turn(socket, turn, to) => {
                if let Some(wrapped) = turn.wrap(*to, datagram, now) {
                    drop(socket.try_send(&wrapped));
                }
            }
        }
    }

    /// Sends what waits: for the connection, or of TURN itself.
    ///
    /// # Errors
    /// If the connection or the allocation is lost.
    pub fn flush(&mut self, now: Instant) -> io::Result<()> {
        match self {
            Way::Udp(_) => {}
            Way::Tcp(stream, _, pending) => {
                while !pending.is_empty() {
                    match stream.try_write(pending) {
                        Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                        Ok(sent) => drop(pending.drain(..sent)),
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                        Err(error) => return Err(error),
                    }
                }
            }
            Way::Turn(socket, turn, _) => {
                turn.tick(now);
                while let Some(datagram) = turn.transmit() {
                    drop(socket.try_send(&datagram));
                }
                if let Some(failure) = turn.failure() {
                    return Err(io::Error::other(failure.to_owned()));
                }
            }
        }
        Ok(())
    }

    /// Until there may be something to receive. Safe to cancel.
    ///
    /// # Errors
    /// If the kernel says so.
    pub async fn readable(&self) -> io::Result<()> {
        match self {
            Way::Udp(joined) if !joined.rest.is_empty() => Ok(()),
            Way::Udp(joined) => joined.socket.readable().await,
            Way::Turn(socket, ..) => socket.readable().await,
            Way::Tcp(stream, ..) => stream.readable().await,
        }
    }

    /// The next datagram that is there, in `buffer`; `None` when there is none.
    ///
    /// # Errors
    /// If the connection is lost.
    pub fn receive(&mut self, buffer: &mut Vec<u8>, now: Instant) -> io::Result<Option<()>> {
        buffer.clear();
        match self {
            // An ICMP error of an earlier send shows up here; the next datagram is none the worse for it.
            Way::Udp(joined) => Ok(joined.receive(buffer)),
            Way::Turn(socket, turn, _) => loop {
                buffer.clear();
                if socket.try_recv_buf(buffer).is_err() {
                    return Ok(None);
                }
                if let Some((_, payload)) = turn.receive(buffer, now) {
                    buffer.truncate(payload.end);
                    buffer.drain(..payload.start);
                    return Ok(Some(()));
                }
            },
            Way::Tcp(stream, held, _) => loop {
                if let Some(length) = held.first_chunk().map(|length| usize::from(u16::from_be_bytes(*length)))
                    && held.len() >= 2 + length
                {
                    buffer.extend_from_slice(&held[2..2 + length]);
                    held.drain(..2 + length);
                    return Ok(Some(()));
                }
                held.reserve(4 * DATAGRAM_BYTES_MAX);
                match stream.try_read_buf(held) {
                    Ok(0) => return Err(io::ErrorKind::ConnectionReset.into()),
                    Ok(_) => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                    Err(error) => return Err(error),
                }
            },
        }
    }

    /// When [`Way::flush`] is due without anything new.
    pub fn deadline(&self, now: Instant) -> Option<Instant> {
        match self {
            Way::Udp(_) => None,
            Way::Tcp(_, _, pending) => (!pending.is_empty()).then(|| now + std::time::Duration::from_millis(2)),
            Way::Turn(_, turn, _) => turn.deadline(),
        }
    }
}

/// A buffer for [`Way::receive`].
pub fn buffer() -> Vec<u8> {
    Vec::with_capacity(DATAGRAM_BYTES_MAX)
}
