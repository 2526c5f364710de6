//! UDP sockets: batches in (recvmmsg, GRO), runs out (GSO).

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use mio::net::UdpSocket;
use quinn_udp::{BATCH_SIZE, RecvMeta, UdpSockRef, UdpSocketState};
use sfu::{Now, Path, Run};
use socket2::{Domain, MsgHdr, Protocol, SockAddr, SockRef, Socket, Type};

use crate::clock;

mod control;

/// Bytes asked of the kernel for each direction; it gives what `net.core.rmem_max` and `wmem_max` allow.
const KERNEL_BUFFER_BYTES: usize = 4 * 1024 * 1024;
/// A receive buffer holds what GRO may join: one 64 KiB datagram's worth.
const RECEIVE_BUFFER_BYTES: usize = 64 * 1024;
/// Most bytes of one GSO send: below the largest UDP payload, with room for headers.
const SEND_BYTES_MAX: usize = 60_000;
/// A segment no longer than this fits every path that carries IPv6, so that a refusal is not about its length.
const GSO_SEGMENT_SAFE: usize = 1_232;
/// Errors of a device that cannot do GSO, as Linux numbers them.
const EIO: i32 = 5;
const EINVAL: i32 = 22;
/// How long a socket that refused GSO goes without it before it is tried again. Lower costs failed sends on a device
/// that cannot do it; higher lets one odd destination slow a worker for longer.
const GSO_RETRY: Duration = Duration::from_secs(60);

/// No datagram counts as having waited in a socket for longer: it would be the wall clock, by which the kernel stamps, that
/// was set meanwhile. Lower takes what a starved machine left lying for the network's delay; higher tells senders of more
/// that never was when the clock is set.
const WAITED_MAX: Duration = Duration::from_secs(2);

/// Binds a socket for each family: IPv4, and IPv6 on the same number where the machine has it. `port` 0 takes any.
pub(crate) fn bind(port: u16) -> io::Result<Sockets> {
    let v4 = One::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)), KERNEL_BUFFER_BYTES)?;
    let v6 = One::bind(SocketAddr::from((Ipv6Addr::UNSPECIFIED, v4.local.port())), KERNEL_BUFFER_BYTES);
    let v6 = match v6 {
        // A taken IPv6 port is a second server; only a machine without IPv6 goes on without it.
        Err(error) if port != 0 && error.kind() == io::ErrorKind::AddrInUse => return Err(error),
        other => other.ok(),
    };
    Ok(Sockets { v4, v6 })
}

/// Both sockets.
pub(crate) struct Sockets {
    pub(crate) v4: One,
    pub(crate) v6: Option<One>,
}

/// What one call received: datagrams of several senders, those of one size and sender one behind the other.
pub(crate) struct Batch {
    buffers: Vec<u8>,
    meta: [RecvMeta; BATCH_SIZE],
    /// How many of `meta` are filled.
    count: usize,
    /// Of the socket that received it.
    local: SocketAddr,
}

impl Batch {
    pub(crate) fn new() -> Self {
        Batch {
            buffers: vec![0; BATCH_SIZE * RECEIVE_BUFFER_BYTES],
            meta: [RecvMeta::default(); BATCH_SIZE],
            count: 0,
            local: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        }
    }

    /// Receives from a socket. `Ok(false)`: nothing waits there.
    pub(crate) fn receive(&mut self, socket: &One) -> io::Result<bool> {
        self.count = 0;
        self.local = socket.local;
        let mut rest = self.buffers.chunks_exact_mut(RECEIVE_BUFFER_BYTES).map(IoSliceMut::new);
        let mut slices: [IoSliceMut<'_>; BATCH_SIZE] =
            std::array::from_fn(|_| rest.next().expect("there are BATCH_SIZE buffers"));
        match socket.state.recv(UdpSockRef::from(&socket.socket), &mut slices, &mut self.meta) {
            Ok(count) => self.count = count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        }
        Ok(true)
    }

    /// Whether more may wait there. One that was not filled has emptied its socket, and what comes later is an event again.
    pub(crate) fn is_full(&self) -> bool {
        self.count == BATCH_SIZE
    }

    /// The datagrams of each sender.
    pub(crate) fn runs(&mut self) -> impl Iterator<Item = Received<'_>> {
        let local = self.local;
        let received = self.meta.iter().take(self.count).zip(self.buffers.chunks_exact_mut(RECEIVE_BUFFER_BYTES));
        // Nothing can be sent to port 0, and trying would cost the socket its GSO (EINVAL).
        received.filter(|(meta, _)| meta.addr.port() != 0 && meta.stride != 0).map(move |(meta, buffer)| {
            let local = SocketAddr::new(meta.dst_ip.unwrap_or(local.ip()), local.port());
            let path = Path::Udp { local, remote: meta.addr };
            Received { path, bytes: &mut buffer[..meta.len], stride: meta.stride, stamp: meta.timestamp }
        })
    }
}

/// Datagrams of one sender that came together.
pub(crate) struct Received<'a> {
    pub(crate) path: Path,
    /// All of them.
    pub(crate) bytes: &'a mut [u8],
    /// The size of each but the last, which may be shorter.
    pub(crate) stride: usize,
    /// When the kernel had the first of them, since 1970; `None` where it does not tell (SO_TIMESTAMPNS is of Linux).
    stamp: Option<Duration>,
}

impl Received<'_> {
    /// When they came: before `now`, which the wall clock calls `unix`, by as long as they waited to be read.
    fn arrived(&self, now: Instant, unix: Duration) -> Instant {
        let waited = self.stamp.map_or(Duration::ZERO, |stamp| unix.saturating_sub(stamp).min(WAITED_MAX));
        now.checked_sub(waited).unwrap_or(now)
    }
}

/// Which of the two sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    /// That of an address.
    pub(crate) fn of(address: SocketAddr) -> Self {
        if address.is_ipv4() { Family::V4 } else { Family::V6 }
    }
}

/// What became of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    /// The kernel took it.
    All,
    /// The socket's buffer was full: the rest of the run is lost, as it would be on a congested wire.
    Blocked,
    /// The kernel refused it: no route, too big, not permitted.
    Refused,
}

impl Sockets {
    /// The number that both sockets have.
    pub(crate) fn port(&self) -> u16 {
        self.v4.local.port()
    }

    /// The socket of a family, if the machine has it.
    pub(crate) fn of(&mut self, family: Family) -> Option<&mut One> {
        match family {
            Family::V4 => Some(&mut self.v4),
            Family::V6 => self.v6.as_mut(),
        }
    }

    /// Receives one batch and gives each datagram to `each`, with the time at which it came and the present one, which is read
    /// once. `Ok(false)`: nothing waits on that socket.
    pub(crate) fn receive(
        &mut self,
        family: Family,
        batch: &mut Batch,
        mut each: impl FnMut(Path, &mut [u8], Instant, Now),
    ) -> io::Result<bool> {
        let Some(socket) = self.of(family) else { return Ok(false) };
        if !batch.receive(socket)? {
            return Ok(false);
        }
        let (now, unix) = clock::both();
        for run in batch.runs() {
            let arrived = run.arrived(now.mono, unix);
            for datagram in run.bytes.chunks_mut(run.stride) {
                each(run.path, datagram, arrived, now);
            }
        }
        Ok(true)
    }

    /// Sends a run from the address at which its destination reached us.
    pub(crate) fn send(&mut self, run: &Run<'_>, now: Instant) -> Sent {
        let Path::Udp { local, remote } = run.path else { return Sent::Refused };
        let Some(socket) = self.of(Family::of(remote)) else { return Sent::Refused };
        socket.send(local, remote, run.bytes, run.segment.max(1), now)
    }
}

/// One socket.
pub(crate) struct One {
    pub(crate) socket: UdpSocket,
    state: UdpSocketState,
    local: SocketAddr,
    /// When GSO was last found refused.
    refused_gso: Option<Instant>,
}

impl One {
    /// Binds a socket of one family only, asking the kernel for so many bytes in each direction. Datagrams leave
    /// unfragmented: the don't-fragment bit is set on all.
    pub(crate) fn bind(address: SocketAddr, kernel_bytes: usize) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        // The kernel caps both silently; a refusal would only mean its default size.
        let _ = socket.set_recv_buffer_size(kernel_bytes);
        let _ = socket.set_send_buffer_size(kernel_bytes);
        socket.bind(&address.into())?;
        let socket: std::net::UdpSocket = socket.into();
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        let local = socket.local_addr()?;
        Ok(One { socket: UdpSocket::from_std(socket), state, local, refused_gso: None })
    }

    /// Sends datagrams of `segment` bytes each, of which the last may be shorter, from `local`'s address.
    pub(crate) fn send(
        &mut self,
        local: SocketAddr,
        remote: SocketAddr,
        mut bytes: &[u8],
        segment: usize,
        now: Instant,
    ) -> Sent {
        let destination = SockAddr::from(remote);
        let mut singly = self.goes_singly(now);
        while !bytes.is_empty() {
            let most = if singly { 1 } else { self.state.max_gso_segments() };
            let segments = most.min(SEND_BYTES_MAX / segment).max(1);
            let (chunk, rest) = bytes.split_at(bytes.len().min(segments * segment));
            let gso = (chunk.len() > segment).then_some(segment);
            match self.transmit(local, &destination, &[IoSlice::new(chunk)], gso, now) {
                Transmitted::All => bytes = rest,
                Transmitted::Singly => singly = true,
                Transmitted::Not(sent) => return sent,
            }
        }
        Sent::All
    }

    /// Sends datagrams that are put together by the kernel, from `local`'s address.
    pub(crate) fn send_framed(
        &mut self,
        local: SocketAddr,
        remote: SocketAddr,
        framed: &Framed<'_>,
        now: Instant,
    ) -> Sent {
        let Framed { head, padding, bytes: mut rest, stride, room } = *framed;
        let Some(zeros) = ZEROS.get(..padding) else { return Sent::Refused };
        let segment = head.len() + stride.saturating_sub(room) + padding;
        let destination = SockAddr::from(remote);
        let mut singly = self.goes_singly(now);
        while !rest.is_empty() {
            let most = if singly { 1 } else { self.state.max_gso_segments() };
            let datagrams = most.min(SEND_BYTES_MAX / segment).clamp(1, FRAMED_MAX);
            let (chunk, behind) = rest.split_at(rest.len().min(datagrams * stride.max(1)));
            let mut slices = [IoSlice::new(&[]); 3 * FRAMED_MAX];
            let mut filled = 0;
            for (datagram, slices) in chunk.chunks(stride.max(1)).zip(slices.chunks_exact_mut(3)) {
                let payload = datagram.get(room..).unwrap_or_default();
                slices.copy_from_slice(&[head, payload, zeros].map(IoSlice::new));
                filled += slices.len();
            }
            let gso = (filled > 3).then_some(segment);
            match self.transmit(local, &destination, &slices[..filled], gso, now) {
                Transmitted::All => rest = behind,
                Transmitted::Singly => singly = true,
                Transmitted::Not(sent) => return sent,
            }
        }
        Sent::All
    }

    /// Sends datagrams that are put together from `slices`: one, or as many as `gso` cuts them into.
    fn transmit(
        &mut self,
        local: SocketAddr,
        destination: &SockAddr,
        slices: &[IoSlice<'_>],
        gso: Option<usize>,
        now: Instant,
    ) -> Transmitted {
        let control = control::Message::new(local.ip(), gso);
        let message = MsgHdr::new().with_addr(destination).with_buffers(slices).with_control(control.as_slice());
        loop {
            let error = match SockRef::from(&self.socket).sendmsg(&message, 0) {
                Ok(_) => return Transmitted::All,
                Err(error) => error,
            };
            match (error.kind(), gso) {
                (io::ErrorKind::Interrupted, _) => {}
                (io::ErrorKind::WouldBlock, _) => return Transmitted::Not(Sent::Blocked),
                (_, Some(segment)) => {
                    // The same go again, one a send; others too where the device is to blame and not this destination.
                    if is_of_device(&error, segment) {
                        self.refused_gso = Some(now);
                    }
                    return Transmitted::Singly;
                }
                (_, None) => return Transmitted::Not(Sent::Refused),
            }
        }
    }

    /// Whether GSO was refused lately.
    fn goes_singly(&mut self, now: Instant) -> bool {
        self.refused_gso = self.refused_gso.filter(|at| now.saturating_duration_since(*at) < GSO_RETRY);
        self.refused_gso.is_some()
    }

    /// Where it is bound.
    pub(crate) fn local(&self) -> SocketAddr {
        self.local
    }
}

/// What became of one send.
enum Transmitted {
    /// The kernel took it.
    All,
    /// The kernel does not cut this into datagrams: they are to be sent one by one.
    Singly,
    /// It is lost.
    Not(Sent),
}

/// Whether GSO was refused because the device cannot do it at all, and not because these datagrams are too long for the way to
/// one destination: a client behind a small MTU is no reason to send to all others one by one.
fn is_of_device(error: &io::Error, segment: usize) -> bool {
    matches!(error.raw_os_error(), Some(EIO | EINVAL)) && segment <= GSO_SEGMENT_SAFE
}

/// Datagrams of one size, each made of a head, a payload and zeros.
pub(crate) struct Framed<'a> {
    /// In front of each payload.
    pub(crate) head: &'a [u8],
    /// Zeros behind each, 3 at most.
    pub(crate) padding: usize,
    /// The payloads.
    pub(crate) bytes: &'a [u8],
    /// From the beginning of one's room to that of the next.
    pub(crate) stride: usize,
    /// Bytes in front of each payload that are not sent.
    pub(crate) room: usize,
}

/// Most datagrams of one framed send: as many as GSO takes.
const FRAMED_MAX: usize = 64;
const ZEROS: [u8; 3] = [0; 3];

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket as Client;

    /// Waits until something was received, by readiness and not by sleeping.
    fn receive_one(sockets: &mut Sockets) -> (Path, Vec<u8>, Instant, Instant) {
        let mut poll = mio::Poll::new().expect("epoll");
        poll.registry().register(&mut sockets.v4.socket, mio::Token(0), mio::Interest::READABLE).expect("register");
        let (mut batch, mut got) = (Batch::new(), None);
        while got.is_none() {
            poll.poll(&mut mio::Events::with_capacity(4), Some(Duration::from_secs(5))).expect("poll");
            let each =
                |path, bytes: &mut [u8], arrived, now: Now| got = Some((path, bytes.to_vec(), arrived, now.mono));
            sockets.receive(Family::V4, &mut batch, each).expect("receive");
        }
        got.expect("the loop ends with one")
    }

    #[test]
    fn what_waits_to_be_read_came_when_the_kernel_had_it() {
        let mut sockets = bind(0).expect("a free port");
        let client = Client::bind("127.0.0.1:0").expect("a free port");
        let late = Duration::from_millis(200);
        // Linux begins to stamp a moment after it is asked to, and the two clocks are not read at one instant.
        let is_stamped = (0..10).any(|_| {
            let before = Instant::now();
            client.send_to(b"early", ("127.0.0.1", sockets.port())).expect("send");
            let sent = Instant::now();
            std::thread::sleep(late);
            let (.., arrived, now) = receive_one(&mut sockets);
            assert!(now >= sent + late);
            before <= arrived + Duration::from_secs(1) && arrived <= sent + late / 2
        });
        assert!(is_stamped, "in ten tries no datagram came when it was sent");
    }

    #[test]
    fn a_clock_that_was_set_moves_arrivals_little() {
        let (now, unix) = (Instant::now() + Duration::from_secs(60), Duration::from_secs(1_700_000_000));
        let arrived = |stamp| {
            let path = Path::Udp { local: SocketAddr::from(([0; 4], 1)), remote: SocketAddr::from(([0; 4], 2)) };
            now - Received { path, bytes: &mut [], stride: 1, stamp }.arrived(now, unix)
        };
        assert_eq!(arrived(None), Duration::ZERO);
        assert_eq!(arrived(Some(unix - Duration::from_millis(30))), Duration::from_millis(30));
        assert_eq!(arrived(Some(unix + Duration::from_secs(3_600))), Duration::ZERO);
        assert_eq!(arrived(Some(Duration::ZERO)), WAITED_MAX);
    }

    #[test]
    fn a_reply_leaves_from_the_address_that_was_asked_and_splits_into_datagrams() {
        let mut sockets = bind(0).expect("a free port");
        let client = Client::bind("127.0.0.1:0").expect("a free port");
        client.set_read_timeout(Some(Duration::from_secs(60))).expect("set_read_timeout");
        // 127.0.0.2 is not what a wildcard socket would answer from.
        client.send_to(b"hello", ("127.0.0.2", sockets.port())).expect("send");
        let (path, bytes, ..) = receive_one(&mut sockets);
        assert_eq!(bytes, b"hello");
        let Path::Udp { local, remote } = path else { panic!("UDP came, so UDP it is") };
        assert_eq!(local, SocketAddr::from(([127, 0, 0, 2], sockets.port())));
        assert_eq!(remote, client.local_addr().expect("bound"));

        let run: Vec<u8> = (0..2_500u32).map(|i| i as u8).collect();
        assert_eq!(sockets.send(&Run { path, bytes: &run, segment: 1_000 }, Instant::now()), Sent::All);
        let mut sizes = Vec::new();
        let mut joined = Vec::new();
        while joined.len() < run.len() {
            let mut buffer = [0; 2_000];
            let (n, from) = client.recv_from(&mut buffer).expect("three datagrams");
            assert_eq!(from, local);
            sizes.push(n);
            joined.extend_from_slice(&buffer[..n]);
        }
        assert_eq!((sizes, joined), (vec![1_000, 1_000, 500], run));
    }

    /// A run leaves by one GSO send and arrives by one receive (GRO), where the kernel has both.
    #[test]
    fn a_run_crosses_loopback_in_one_piece() {
        let (mut from, mut to) = (bind(0).expect("a free port"), bind(0).expect("a free port"));
        let local = SocketAddr::from(([127, 0, 0, 1], from.port()));
        let remote = SocketAddr::from(([127, 0, 0, 1], to.port()));
        assert!(from.v4.state.max_gso_segments() > 1, "this kernel has no UDP GSO: Linux 4.18 and newer have it");
        let run = vec![7; 16 * 1_200];
        let sent = from.send(&Run { path: Path::Udp { local, remote }, bytes: &run, segment: 1_200 }, Instant::now());
        assert_eq!((sent, from.v4.refused_gso), (Sent::All, None));
        let mut poll = mio::Poll::new().expect("epoll");
        poll.registry().register(&mut to.v4.socket, mio::Token(0), mio::Interest::READABLE).expect("register");
        poll.poll(&mut mio::Events::with_capacity(4), Some(Duration::from_secs(5))).expect("poll");
        let mut sizes = Vec::new();
        let mut batch = Batch::new();
        assert!(to.receive(Family::V4, &mut batch, |_, datagram, _, _| sizes.push(datagram.len())).expect("receive"));
        assert_eq!(sizes, [1_200; 16]);
        assert_eq!(batch.meta[0].len, run.len(), "one buffer of the batch carried all");
    }

    /// Put together by the kernel, in one send as well, from the address that was asked; IPv4 and IPv6.
    #[test]
    fn framed_datagrams_cross_loopback_in_one_piece() {
        let (mut from, mut to) = (bind(0).expect("a free port"), bind(0).expect("a free port"));
        let bytes: Vec<u8> = (0..5 * 1_004u32).map(|at| at as u8).collect();
        let framed = Framed { head: b"a head", padding: 2, bytes: &bytes, stride: 1_004, room: 4 };
        let expected: Vec<Vec<u8>> =
            bytes.chunks(1_004).map(|datagram| [b"a head", &datagram[4..], &[0, 0]].concat()).collect();
        for (family, address) in [(Family::V4, "127.0.0.2"), (Family::V6, "::1")] {
            let ip: std::net::IpAddr = address.parse().expect("a literal address");
            let (local, remote) = (SocketAddr::new(ip, from.port()), SocketAddr::new(ip, to.port()));
            // A machine may have no IPv6.
            let (Some(socket), Some(receiver)) = (from.of(family), to.of(family)) else { continue };
            let mut poll = mio::Poll::new().expect("epoll");
            poll.registry().register(&mut receiver.socket, mio::Token(0), mio::Interest::READABLE).expect("register");
            assert_eq!(socket.send_framed(local, remote, &framed, Instant::now()), Sent::All);
            assert_eq!(socket.refused_gso, None);
            poll.poll(&mut mio::Events::with_capacity(4), Some(Duration::from_secs(5))).expect("poll");
            let (mut batch, mut got) = (Batch::new(), Vec::new());
            assert!(
                to.receive(family, &mut batch, |path, datagram, _, _| {
                    assert_eq!(path, Path::Udp { local: remote, remote: local });
                    got.push(datagram.to_vec());
                })
                .expect("receive")
            );
            assert_eq!(got, expected);
            assert_eq!(batch.meta[0].len, 5 * 1_008, "one buffer of the batch carried all");
        }
    }

    #[test]
    fn a_destination_that_takes_no_long_datagrams_costs_nobody_else_gso() {
        let error = io::Error::from_raw_os_error;
        assert!(is_of_device(&error(EIO), 1_200) && is_of_device(&error(EINVAL), GSO_SEGMENT_SAFE));
        assert!(!is_of_device(&error(EIO), 1_400) && !is_of_device(&error(EINVAL), GSO_SEGMENT_SAFE + 1));
        assert!(!is_of_device(&error(90), 1_200), "EMSGSIZE is about a length whatever it is");
    }

    #[test]
    fn a_taken_port_is_an_error() {
        let first = bind(0).expect("a free port");
        let error = bind(first.port()).err().expect("the port is taken");
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }
}
