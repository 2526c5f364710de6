//! Framing, queues and limits, and real connections over loopback.

use std::net::{Shutdown, TcpStream as Client};

use mio::{Events, Poll};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;

const PATIENCE: Duration = Duration::from_secs(10);
const ACCEPT: [Token; 2] = [Token(0), Token(1)];

fn framed(datagram: &[u8]) -> Vec<u8> {
    let mut frame = (datagram.len() as u16).to_be_bytes().to_vec();
    frame.extend(datagram);
    frame
}

fn rtp(len: usize, fill: u8) -> Vec<u8> {
    let mut packet = vec![fill; len];
    (packet[0], packet[1]) = (0x80, 96);
    packet
}

fn rtcp(len: usize) -> Vec<u8> {
    let mut packet = vec![1; len];
    (packet[0], packet[1]) = (0x80, 201);
    packet
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
    assert_eq!((net.tcp.counts().open, net.tcp.ended(), net.tcp.census.all), (0, None, 0));
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
fn connections_are_limited_in_all_and_by_source() {
    let mut census = Census::default();
    let v6 = |net: u16, host: u16| IpAddr::from([0x2001, 0xdb8, 0, net, 0, 0, 0, host]);
    for host in 0..CONNECTIONS_PER_SOURCE_MAX as u16 {
        assert!(census.has_room(v6(1, host)));
        census.enter(v6(1, host));
    }
    assert!(!census.has_room(v6(1, 9_999)), "a /64 is one source");
    let one = IpAddr::from([192, 0, 2, 1]);
    for n in CONNECTIONS_PER_SOURCE_MAX..CONNECTIONS_MAX {
        let address = IpAddr::from([10, 0, (n >> 8) as u8, n as u8]);
        assert!(census.has_room(address) && census.has_room(one));
        census.enter(address);
    }
    assert!(!census.has_room(one), "there are enough in all");
    census.leave(v6(1, 0));
    assert!(census.has_room(one) && census.has_room(v6(1, 0)));
    for host in 1..CONNECTIONS_PER_SOURCE_MAX as u16 {
        census.leave(v6(1, host));
    }
    assert_eq!(census.sources.len(), CONNECTIONS_MAX - CONNECTIONS_PER_SOURCE_MAX, "who is gone is not remembered");
}

#[test]
fn a_full_queue_takes_video_no_more_then_audio_then_nothing() {
    let (mut outbox, now) = (Outbox::default(), Instant::now());
    let mut fill = |datagram: &[u8]| {
        while outbox.takes(datagram) {
            outbox.push(datagram, now);
        }
        outbox.bytes.len()
    };
    let (video, audio, control) = (rtp(1_200, 1), rtp(150, 2), rtcp(100));
    let filled = fill(&video);
    assert!((VIDEO_BYTES_MAX - 1_202..=VIDEO_BYTES_MAX).contains(&filled));
    let filled = fill(&audio);
    assert!((MEDIA_BYTES_MAX - 152..=MEDIA_BYTES_MAX).contains(&filled));
    let filled = fill(&control);
    assert!((QUEUE_BYTES_MAX - 102..=QUEUE_BYTES_MAX).contains(&filled));
    assert_eq!(outbox.drop_late(now + QUEUE_AGE_MAX), 0);
    let dropped = outbox.drop_late(now + QUEUE_AGE_MAX + Duration::from_millis(1));
    assert_eq!(dropped, (VIDEO_BYTES_MAX / 1_202 + (MEDIA_BYTES_MAX - VIDEO_BYTES_MAX / 1_202 * 1_202) / 152) as u64);
    assert!(outbox.takes(&video) && outbox.frames.iter().all(|frame| !frame.is_media), "control is never late");
}

/// Whatever is taken, dropped and written in pieces: what leaves is whole datagrams in order.
#[test]
fn what_leaves_is_whole() {
    for seed in 0..200 {
        let mut rng = StdRng::seed_from_u64(seed);
        let (mut outbox, mut now) = (Outbox::default(), Instant::now());
        let (mut pushed, mut dropped, mut wire) = (0u32, 0, Vec::new());
        for _ in 0..2_000 {
            now += Duration::from_millis(rng.random_range(0..15));
            let len = rng.random_range(16..1_300);
            let mut datagram = if rng.random_ratio(1, 5) { rtcp(len) } else { rtp(len, 3) };
            datagram[4..8].copy_from_slice(&pushed.to_be_bytes());
            if outbox.takes(&datagram) {
                outbox.push(&datagram, now);
                pushed += 1;
            }
            dropped += outbox.drop_late(now);
            let waiting = outbox.bytes.len();
            assert!(waiting <= QUEUE_BYTES_MAX);
            assert_eq!(waiting, outbox.frames.iter().map(|f| f.bytes).sum::<usize>() - outbox.begun);
            let written = rng.random_range(0..=waiting.min(1_500));
            wire.extend(outbox.bytes.iter().take(written));
            outbox.written(written);
        }
        wire.extend(outbox.bytes.iter());
        let (mut whole, mut last) = (0, None);
        let end = split(&mut wire, |datagram| {
            let number = u32::from_be_bytes([datagram[4], datagram[5], datagram[6], datagram[7]]);
            assert!(last < Some(number), "in order");
            last = Some(number);
            whole += 1;
        });
        assert_eq!((end, whole), (Some(wire.len()), u64::from(pushed) - dropped), "seed {seed}");
    }
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
    let waiting: usize = net.tcp.connections.values().map(|c| c.outbox.bytes.len()).sum();
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
    net.until(|net| net.tcp.connections.values().all(|c| c.outbox.bytes.is_empty()));
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
