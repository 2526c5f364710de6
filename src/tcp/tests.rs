//! Framing, queues and limits, and real connections over loopback.

use std::io::Write;
use std::net::{Shutdown, TcpStream as Client};

use super::*;
use crate::stream::tests::{rtcp, rtp};
use crate::stream::{QUEUE_BYTES_MAX, listen};
use mio::{Events, Poll};

const PATIENCE: Duration = Duration::from_secs(60);
const ACCEPT: [Token; 2] = [Token(0), Token(1)];

fn framed(datagram: &[u8]) -> Vec<u8> {
    let mut frame = (datagram.len() as u16).to_be_bytes().to_vec();
    frame.extend(datagram);
    frame
}

/// The connections of a worker that has nothing else.
struct Net {
    poll: Poll,
    tcp: Tcp,
    address: SocketAddr,
    got: Vec<(Path, Vec<u8>)>,
}

impl Net {
    fn new() -> Net {
        let poll = Poll::new().expect("epoll");
        let listeners = listen(0, false).expect("a free port");
        let port = listeners[0].as_ref().and_then(|l| l.local_addr().ok()).expect("it is bound").port();
        let tcp = Tcp::new(poll.registry().try_clone().expect("a descriptor"), listeners, ACCEPT).expect("it listens");
        Net { poll, tcp, address: SocketAddr::from(([127, 0, 0, 1], port)), got: Vec::new() }
    }

    fn client(&self) -> Client {
        let client = Client::connect(self.address).expect("it listens");
        client.set_nodelay(true).expect("a TCP socket");
        client.set_read_timeout(Some(PATIENCE)).expect("a TCP socket");
        client
    }

    /// Waits for events and handles them until `done`.
    fn until(&mut self, done: impl Fn(&Net) -> bool) {
        let start = Instant::now();
        while !done(self) {
            assert!(start.elapsed() < PATIENCE, "it does not happen");
            let wait = if self.tcp.is_ready() { Duration::ZERO } else { Duration::from_millis(250) };
            let mut events = Events::with_capacity(64);
            self.poll.poll(&mut events, Some(wait)).expect("epoll");
            for event in &events {
                match ACCEPT.iter().position(|token| *token == event.token()) {
                    Some(family) => self.tcp.may_accept(family),
                    None => self.tcp.woken(event.token(), event.is_readable(), event.is_writable()),
                }
            }
            self.tcp.accept(Instant::now());
            let got = &mut self.got;
            self.tcp.receive(|path, datagram| got.push((path, datagram.to_vec())));
        }
    }

    fn path(&self) -> Path {
        self.tcp.connections.values().next().expect("a connection").path
    }
}

fn read_frame(client: &mut Client) -> Vec<u8> {
    let mut prefix = [0; 2];
    client.read_exact(&mut prefix).expect("a prefix in time");
    let mut datagram = vec![0; usize::from(u16::from_be_bytes(prefix))];
    client.read_exact(&mut datagram).expect("its datagram");
    datagram
}

fn is_closed(client: &mut Client) -> bool {
    !matches!(client.read(&mut [0; 16]), Ok(1..))
}

#[test]
fn a_stream_is_understood_wherever_it_is_cut() {
    let datagrams = [vec![1; 20], vec![2; 1], vec![], vec![3; FRAME_BYTES_MAX], vec![4; 3]];
    let stream: Vec<u8> = datagrams.iter().flat_map(|d| framed(d)).collect();
    let expected: Vec<Vec<u8>> = datagrams.into_iter().filter(|d| !d.is_empty()).collect();
    for cut in 0..=stream.len() {
        let mut got = Vec::new();
        let mut first = stream[..cut].to_vec();
        let rest = split(&mut first, |d| got.push(d.to_vec())).expect("no datagram is too long");
        assert!(first.len() - rest < PREFIX_BYTES + FRAME_BYTES_MAX);
        let mut second = [&first[rest..], &stream[cut..]].concat();
        assert_eq!(split(&mut second, |d| got.push(d.to_vec())), Some(second.len()), "cut at {cut}");
        assert_eq!(got, expected, "cut at {cut}");
    }
}

#[test]
fn a_stream_that_comes_byte_by_byte_is_understood_and_takes_no_room() {
    let mut net = Net::new();
    let mut client = net.client();
    let datagrams = [vec![7; 300], vec![], vec![8; 5]];
    for byte in datagrams.iter().flat_map(|d| framed(d)) {
        client.write_all(&[byte]).expect("it reads");
        net.until(|net| net.tcp.connections.len() == 1);
        let held = net.tcp.connections.values().map(|c| c.partial.capacity()).sum::<usize>();
        assert!(held <= 2 * FRAME_BYTES_MAX);
    }
    net.until(|net| net.got.len() == 2);
    assert_eq!(net.got.iter().map(|(_, d)| d.len()).collect::<Vec<_>>(), [300, 5]);
    let Path::Tcp { remote, .. } = net.path() else { panic!("TCP came, so TCP it is") };
    assert_eq!(remote, client.local_addr().expect("it is connected"));
}

#[test]
fn a_datagram_that_is_too_long_ends_its_connection_before_it_has_come() {
    for len in [FRAME_BYTES_MAX as u16 + 1, u16::MAX] {
        let mut net = Net::new();
        let mut client = net.client();
        client.write_all(&framed(&[5; 9])).expect("it reads");
        client.write_all(&len.to_be_bytes()).expect("it reads");
        net.until(|net| !net.tcp.ended.is_empty());
        assert_eq!((net.got.len(), net.tcp.counts().open), (1, 0));
        assert_eq!(net.tcp.ended(), Some(net.got[0].0));
        assert!(is_closed(&mut client));
    }
}

#[test]
fn a_connection_that_proves_nothing_in_time_is_closed() {
    let mut net = Net::new();
    let (mut silent, mut proven) = (net.client(), net.client());
    proven.write_all(&framed(b"a check, say")).expect("it reads");
    net.until(|net| net.got.len() == 1 && net.tcp.connections.len() == 2);
    let valid = net.got[0].0;
    net.tcp.expire(Instant::now(), |path| *path == valid);
    assert_eq!(net.tcp.ended(), None, "there is time");
    net.tcp.expire(Instant::now() + PROOF_MAX, |_| false);
    assert!(net.tcp.ended().is_some_and(|path| path != valid) && net.tcp.ended().is_none());
    assert!(is_closed(&mut silent));
    assert_eq!((net.tcp.counts().open, net.tcp.counts().unproven), (1, 1));
    // The SFU closes what it knew.
    net.tcp.close(valid);
    assert!(is_closed(&mut proven));
    assert_eq!((net.tcp.counts().open, net.tcp.ended(), net.tcp.census.all()), (0, None, 0));
}

#[test]
fn a_client_that_leaves_is_told_of_once() {
    let mut net = Net::new();
    let mut client = net.client();
    client.write_all(&framed(&[6; 4])).expect("it reads");
    client.shutdown(Shutdown::Both).expect("it is connected");
    net.until(|net| !net.tcp.ended.is_empty());
    assert_eq!((net.got.len(), net.tcp.ended(), net.tcp.ended()), (1, Some(net.got[0].0), None));
    let run = Run { path: net.got[0].0, bytes: &rtcp(50), segment: 50 };
    assert_eq!(net.tcp.send(&run, Instant::now()), Sent::Refused, "nobody is there");
}

#[test]
fn a_client_that_reads_slowly_gets_whole_datagrams_and_what_keeps_it_connected() {
    let mut net = Net::new();
    let mut client = net.client();
    client.write_all(&framed(&[9; 4])).expect("it reads");
    net.until(|net| net.got.len() == 1);
    let (path, now) = (net.path(), Instant::now());
    let run: Vec<u8> = (0..40).flat_map(|_| rtp(1_200, 4)).collect();
    let mut runs = 0;
    while net.tcp.send(&Run { path, bytes: &run, segment: 1_200 }, now) == Sent::All {
        runs += 1;
        assert!(runs < 10_000, "loopback holds less than that");
    }
    let check = rtcp(77);
    assert_eq!(net.tcp.send(&Run { path, bytes: &check, segment: 77 }, now), Sent::All);
    let waiting: usize = net.tcp.connections.values().map(|c| c.outbox.waiting()).sum();
    assert!(waiting <= QUEUE_BYTES_MAX && net.tcp.counts().dropped > 0);
    // Nobody reads for long: then it is given up.
    net.tcp.expire(now + STALLED_MAX - Duration::from_millis(1), |_| true);
    assert_eq!(net.tcp.counts().open, 1);
    let mut reader = client.try_clone().expect("a descriptor");
    let read = std::thread::spawn(move || {
        let mut sizes = Vec::new();
        while sizes.last() != Some(&77) {
            sizes.push(read_frame(&mut reader).len());
        }
        sizes
    });
    net.until(|net| net.tcp.connections.values().all(|c| c.outbox.waiting() == 0));
    let sizes = read.join().expect("it reads whole datagrams");
    assert!(
        sizes[..sizes.len() - 1].iter().all(|size| *size == 1_200) && sizes.len() > 40,
        "{} datagrams",
        sizes.len()
    );
}

#[test]
fn a_client_that_never_reads_is_given_up() {
    let mut net = Net::new();
    let mut client = net.client();
    client.write_all(&framed(&[9; 4])).expect("it reads");
    net.until(|net| net.got.len() == 1);
    let (path, now) = (net.path(), Instant::now());
    let run: Vec<u8> = (0..40).flat_map(|_| rtp(1_200, 4)).collect();
    while net.tcp.send(&Run { path, bytes: &run, segment: 1_200 }, now) == Sent::All {}
    net.tcp.expire(now + STALLED_MAX, |_| true);
    assert_eq!((net.tcp.counts().open, net.tcp.ended()), (0, Some(path)));
}
