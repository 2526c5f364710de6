//! The thread with its sockets over loopback. A media worker is the other end of the crossing.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use bench::turn::asker::{Asker, Grant, Heard, channel_frame};
use mio::{Events, Token};
use sfu::{Path, Run};
use turn_server::framing::frame_bytes;
use turn_server::{Limits, Prefix, credential};

use super::stream::{PROOF_MAX, Streams};
use super::*;
use crate::crossing::{Crossed, WorkerEnd, crossing};
use crate::tls::tests::{client as tls_client, issue};

const PATIENCE: Duration = Duration::from_secs(60);
const SECRET: &[u8] = b"a secret of tests";
const CHANNEL: u16 = 0x4abc;
const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Apart from those that the kernel gives to peers: what may be a relayed address is no peer.
const RELAY_PORTS: std::ops::RangeInclusive<u16> = 20_000..=30_000;

/// Our media address: nobody listens there, for the short cut needs no socket.
fn media() -> SocketAddr {
    SocketAddr::new(LOCAL, 9)
}

/// The thread, and the worker's end of its crossing.
struct World {
    turn: Turn,
    end: WorkerEnd,
    poll: Poll,
    broken: tokio::sync::mpsc::UnboundedReceiver<Failure>,
}

impl World {
    fn new(listed: &[Prefix]) -> World {
        World::with(listed, None)
    }

    fn with(listed: &[Prefix], certificates: Option<&Certificates>) -> World {
        let poll = Poll::new().expect("epoll");
        let waker = Arc::new(Waker::new(poll.registry(), Token(0)).expect("an eventfd"));
        let settings = TurnServer { port: 0, tls_port: 0, ..TurnServer::default() };
        let bound = bind(&settings, certificates).expect("free ports");
        let (turn_end, end) = crossing(bound.waker(), waker);
        let config = Config {
            realm: REALM.to_owned(),
            secret: SECRET.to_vec(),
            relayed: vec![LOCAL],
            media: vec![media()],
            own: vec![],
            listed: listed.to_vec(),
            relay_ports: RELAY_PORTS,
            limits: Limits { allocations: 100, per_holder: 10, bandwidth_bps: 1_000_000_000_000 },
        };
        let (ended, broken) = tokio::sync::mpsc::unbounded_channel();
        let turn = bound.start(config, vec![(vec![media()], turn_end)], ended).expect("a thread");
        World { turn, end, poll, broken }
    }

    fn grant(&self, holder: &str) {
        let mut input = Input::Grant { holder: holder.into() };
        while let Err(Full(again)) = self.turn.order(input) {
            std::thread::yield_now();
            input = again;
        }
    }

    fn udp(&self) -> Client<UdpSocket> {
        let socket = UdpSocket::bind((LOCAL, 0)).expect("a free port");
        socket.connect((LOCAL, self.turn.port)).expect("a route");
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        Client::new(socket)
    }

    fn tcp(&self) -> Client<TcpWay<TcpStream>> {
        Client::new(TcpWay::new(connect(self.turn.port)))
    }

    /// The next datagram that crosses to the worker, or the path that is closed.
    fn crossed(&mut self) -> (Path, Option<Vec<u8>>) {
        let start = Instant::now();
        let mut events = Events::with_capacity(4);
        loop {
            let mut got = None;
            self.end.take(1, |crossed| {
                assert!(got.is_none(), "one thing crosses at a time in these tests");
                got = Some(match crossed {
                    Crossed::Datagram(path, bytes) => (path, Some(bytes.to_vec())),
                    Crossed::Closed(path) => (path, None),
                });
            });
            self.end.flush();
            if let Some(got) = got {
                return got;
            }
            assert!(start.elapsed() < PATIENCE, "nothing crosses");
            self.poll.poll(&mut events, Some(PATIENCE)).expect("epoll");
        }
    }

    /// Sends a run from the worker.
    fn push(&mut self, path: Path, bytes: &[u8], segment: usize) {
        assert!(self.end.push(&Run { path, bytes, segment }), "there is room");
        self.end.flush();
    }

    fn report_when(&self, done: impl Fn(&Report) -> bool) -> Report {
        let start = Instant::now();
        loop {
            let report = self.turn.report();
            if done(&report) {
                return report;
            }
            assert!(start.elapsed() < PATIENCE, "{report:?}");
            // Reports are made four times a second, and nothing tells of them.
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect((LOCAL, port)).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream.set_nodelay(true).expect("a TCP socket");
    stream
}

/// How messages go to and fro.
trait Way {
    const IS_STREAM: bool;
    fn put(&mut self, message: &[u8]);
    fn get(&mut self) -> Vec<u8>;
}

impl Way for UdpSocket {
    const IS_STREAM: bool = false;

    fn put(&mut self, message: &[u8]) {
        self.send(message).expect("it listens");
    }

    fn get(&mut self) -> Vec<u8> {
        let mut buffer = [0; 4_096];
        let len = self.recv(&mut buffer).expect("an answer in time");
        buffer[..len].to_vec()
    }
}

struct TcpWay<S> {
    stream: S,
    held: Vec<u8>,
}

impl<S> TcpWay<S> {
    fn new(stream: S) -> Self {
        TcpWay { stream, held: Vec::new() }
    }
}

impl<S: Read + Write> Way for TcpWay<S> {
    const IS_STREAM: bool = true;

    fn put(&mut self, message: &[u8]) {
        self.stream.write_all(message).expect("it reads");
    }

    fn get(&mut self) -> Vec<u8> {
        loop {
            if let Some(len) = frame_bytes(&self.held).expect("whole frames, one behind the other") {
                return self.held.drain(..len).collect();
            }
            let mut buffer = [0; 4_096];
            let len = self.stream.read(&mut buffer).expect("an answer in time");
            assert!(len > 0, "the stream has ended");
            self.held.extend(&buffer[..len]);
        }
    }
}

/// A client whose credentials are those of the holder `seat`.
struct Client<W> {
    way: W,
    turn: Asker,
}

impl<W: Way> Client<W> {
    fn new(way: W) -> Self {
        let credential = credential::mint(SECRET, "seat", u64::from(u32::MAX));
        Client { way, turn: Asker::new(&credential.username, &credential.password) }
    }

    /// Asks, with credentials as soon as the server wants them.
    fn ask(&mut self, mut request: impl FnMut(&mut Asker) -> Vec<u8>) -> Result<Grant, u16> {
        loop {
            let message = request(&mut self.turn);
            self.way.put(&message);
            let answer = self.way.get();
            match self.turn.take(&answer) {
                Heard::Again => {}
                Heard::Granted(grant) => return Ok(grant),
                Heard::Refused(code) => return Err(code),
                other => panic!("{other:?} answers nothing"),
            }
        }
    }

    fn allocate(&mut self) -> SocketAddr {
        self.ask(Asker::allocate).expect("an allocation").relayed.expect("a relayed address")
    }

    /// The next payload, and from whom it comes.
    fn hear(&mut self) -> (From, Vec<u8>) {
        let message = self.way.get();
        match self.turn.take(&message) {
            Heard::Data(peer, payload) => (From::Peer(peer), message[payload].to_vec()),
            Heard::Channel(channel, payload) => (From::Channel(channel), message[payload].to_vec()),
            other => panic!("{other:?} is no payload"),
        }
    }

    fn indicate(&mut self, peer: SocketAddr, payload: &[u8]) {
        let message = self.turn.send(peer, payload);
        self.way.put(&message);
    }
}

#[derive(Debug, PartialEq, Eq)]
enum From {
    Peer(SocketAddr),
    Channel(u16),
}

/// Two datagrams of `len` bytes and a shorter one.
fn run(len: usize) -> Vec<u8> {
    (0..2 * len + len / 2).map(|at| (at * 7) as u8).collect()
}

/// The short cut both ways, before a channel is bound and behind it.
fn short_cut<W: Way>(world: &mut World, client: &mut Client<W>) {
    let relayed = client.allocate();
    client.ask(|turn| turn.permit(media())).expect("a permission");
    client.indicate(media(), b"a check");
    let (path, payload) = world.crossed();
    assert_eq!(payload.as_deref(), Some(&b"a check"[..]));
    let Path::Relay { relayed: seen, peer, .. } = path else { panic!("{path:?} is not relayed") };
    assert_eq!((seen, peer), (relayed, media()));

    for len in [1_000, 1_001, 37, 1] {
        let run = run(len);
        world.push(path, &run, len);
        for datagram in run.chunks(len) {
            assert_eq!(client.hear(), (From::Peer(media()), datagram.to_vec()), "{len}");
        }
    }
    client.ask(|turn| turn.bind(CHANNEL, media())).expect("a channel");
    for len in [1_000, 1_001, 37, 1] {
        let run = run(len);
        world.push(path, &run, len);
        for datagram in run.chunks(len) {
            assert_eq!(client.hear(), (From::Channel(CHANNEL), datagram.to_vec()), "{len}");
            client.way.put(&channel_frame(CHANNEL, datagram, W::IS_STREAM));
            assert_eq!(world.crossed(), (path, Some(datagram.to_vec())), "{len}");
        }
    }
    client.ask(|turn| turn.refresh(0)).expect("the end");
    assert_eq!(world.crossed(), (path, None), "the SFU is told");
}

#[test]
fn the_short_cut_over_udp() {
    let mut world = World::new(&[]);
    world.grant("seat");
    let mut client = world.udp();
    short_cut(&mut world, &mut client);
    let report = world.report_when(|report| report.machine.allocated == 1 && report.machine.allocations == [0; 3]);
    let bytes = (2_500 + 2_502 + 92 + 2) as u64;
    assert_eq!(report.machine.media_bytes, [7 + bytes, 2 * bytes]);
    assert_eq!((report.sockets.blocked, report.sockets.refused, report.crossing_dropped), (0, 0, 0));
}

#[test]
fn the_short_cut_over_tcp() {
    let mut world = World::new(&[]);
    world.grant("seat");
    let mut client = world.tcp();
    short_cut(&mut world, &mut client);
}

#[test]
fn the_short_cut_over_tls() {
    let directory = std::env::temp_dir().join(format!("lyceum-turn-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("a directory");
    let (certificate, key) = (directory.join("certificate.pem"), directory.join("key.pem"));
    let issued = issue(2020..2090);
    std::fs::write(&certificate, &issued.chain_pem).expect("a file");
    std::fs::write(&key, &issued.key_pem).expect("a file");
    let certificates = Certificates::load(&certificate, &key).expect("both files are good");
    std::fs::remove_dir_all(&directory).expect("it was made");

    let mut world = World::with(&[], Some(&certificates));
    world.grant("seat");
    let name = rustls::pki_types::ServerName::try_from("localhost").expect("a name");
    let config = Arc::new(tls_client(&issued.root, &[&rustls::version::TLS13]));
    let session = rustls::ClientConnection::new(config, name).expect("a good configuration");
    let stream = connect(world.turn.tls_port.expect("there is a certificate"));
    let mut client = Client::new(TcpWay::new(rustls::StreamOwned::new(session, stream)));
    short_cut(&mut world, &mut client);
    assert_eq!(certificates.counts().completed.load(Ordering::Relaxed), 1);
}

#[test]
fn an_answer_leaves_from_the_address_that_was_asked() {
    let world = World::new(&[]);
    let socket = UdpSocket::bind((LOCAL, 0)).expect("a free port");
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let asked = SocketAddr::from(([127, 0, 0, 2], world.turn.port));
    socket.send_to(&Asker::default().allocate(), asked).expect("a route");
    let (_, from) = socket.recv_from(&mut [0; 2_048]).expect("a 401");
    assert_eq!(from, asked);
}

#[test]
fn a_seat_that_ends_takes_its_allocations_along() {
    let mut world = World::new(&[]);
    let mut early = world.udp();
    assert_eq!(early.ask(Asker::allocate), Err(401), "nobody was granted anything");
    world.grant("seat");
    let (mut udp, mut tcp) = (world.udp(), world.tcp());
    udp.allocate();
    tcp.allocate();
    udp.ask(|turn| turn.permit(media())).expect("a permission");
    udp.indicate(media(), b"hello");
    let (path, _) = world.crossed();
    world.turn.order(Input::Revoke { holder: "seat".into() }).expect("there is room");
    assert_eq!(world.crossed(), (path, None));
    assert_eq!(tcp.way.stream.read(&mut [0; 1]).expect("an end, not an error"), 0, "the stream is closed");
    assert_eq!(udp.ask(Asker::allocate), Err(401));
    let report = world.report_when(|report| report.machine.allocations == [0; 3]);
    assert_eq!(report.streams.open, [0, 0]);
}

/// Whoever is told of a seat asks at once, be the thread in the middle of a turn and a thousand orders before.
#[test]
fn a_seat_is_known_as_soon_as_its_client_can_ask() {
    let world = World::new(&[]);
    for round in 0..20 {
        let mut client = world.udp();
        assert_eq!(client.ask(Asker::allocate), Err(401), "it knows its nonce now");
        for other in 0..1_000 {
            world.grant(&format!("{round}-{other}"));
        }
        world.grant("seat");
        client.allocate();
        world.turn.order(Input::Revoke { holder: "seat".into() }).expect("there is room");
    }
}

#[test]
fn a_stream_that_ends_takes_its_allocation_along_and_what_is_no_turn_ends_it() {
    let world = World::new(&[]);
    world.grant("seat");
    let mut client = world.tcp();
    client.allocate();
    world.report_when(|report| report.machine.allocations == [0, 1, 0]);
    drop(client);
    world.report_when(|report| report.machine.allocations == [0; 3] && report.streams.open == [0, 0]);
    let mut stranger = connect(world.turn.port);
    stranger.write_all(b"GET / HTTP/1.1\r\n\r\n").expect("it reads");
    assert!(!matches!(stranger.read(&mut [0; 1]), Ok(1)), "it is closed");
}

#[test]
fn a_stream_that_comes_byte_by_byte_is_understood() {
    let world = World::new(&[]);
    world.grant("seat");
    let mut client = world.tcp();
    let answer = loop {
        let message = client.turn.allocate();
        for byte in message {
            client.way.put(&[byte]);
        }
        let answer = client.way.get();
        match client.turn.take(&answer) {
            Heard::Again => {}
            heard => break heard,
        }
    };
    assert!(matches!(answer, Heard::Granted(_)), "{answer:?}");
}

#[test]
fn a_slow_stream_loses_video_and_keeps_what_it_lives_by() {
    let mut world = World::new(&[]);
    world.grant("seat");
    let mut client = world.tcp();
    client.allocate();
    client.ask(|turn| turn.bind(CHANNEL, media())).expect("a channel");
    client.way.put(&channel_frame(CHANNEL, b"here", true));
    let (path, _) = world.crossed();
    let mut video = vec![3; 40 * 1_200];
    for packet in video.chunks_mut(1_200) {
        (packet[0], packet[1]) = (0x80, 96);
    }
    // As long as the kernel takes something, and then as much as is dropped.
    let (mut pushed, start) = (0, Instant::now());
    while world.turn.report().streams.dropped == 0 {
        if world.end.push(&Run { path, bytes: &video, segment: 1_200 }) {
            pushed += 40;
        }
        world.end.flush();
        // Reports are made four times a second, and a fast machine drops a million meanwhile.
        assert!(start.elapsed() < PATIENCE, "{pushed} and none dropped");
    }
    let check = [1; 77];
    // The video may fill all batches; the TURN thread empties them, for whatever the stream does not take is dropped.
    while !world.end.push(&Run { path, bytes: &check, segment: 77 }) {
        assert!(start.elapsed() < 2 * PATIENCE, "no batch comes back");
        world.end.flush();
        std::thread::yield_now();
    }
    world.end.flush();
    let (mut heard, done) = (0, AtomicBool::new(false));
    let World { end, poll, .. } = &mut world;
    std::thread::scope(|scope| {
        // What found no batch to go in leaves when one comes back, which wakes the worker.
        scope.spawn(|| {
            let (start, mut events) = (Instant::now(), Events::with_capacity(4));
            while !done.load(Ordering::Relaxed) && start.elapsed() < 2 * PATIENCE {
                end.flush();
                poll.poll(&mut events, Some(Duration::from_millis(50))).expect("epoll");
            }
        });
        loop {
            let (_, payload) = client.hear();
            if payload.len() == 77 {
                break;
            }
            assert_eq!(payload, video[..1_200], "whole packets");
            heard += 1;
        }
        done.store(true, Ordering::Relaxed);
    });
    assert!(heard > 40 && heard < pushed, "{heard} of {pushed}");
}

/// The token of the first stream; the others follow.
const STREAM: usize = 16;

/// Streams without a thread, and the port at which they come.
fn listening() -> (Poll, Streams, u16) {
    let poll = Poll::new().expect("epoll");
    let registry = poll.registry().try_clone().expect("a descriptor");
    let listeners = crate::stream::listen(0, false).expect("a free port");
    let port = listeners[0].as_ref().and_then(|l| l.local_addr().ok()).expect("it is bound").port();
    let tokens = [0, 1, 2, 3].map(Token);
    let streams = Streams::new(registry, listeners, None, tokens, |number| Token(STREAM + number as usize));
    (poll, streams.expect("it listens"), port)
}

#[test]
fn a_stream_without_an_allocation_is_closed_in_time() {
    let (_poll, mut streams, port) = listening();
    let (mut idle, useful) = (connect(port), connect(port));
    let start = Instant::now();
    streams.accept(start);
    assert_eq!(streams.counts().open, [2, 0], "both are connected, so both wait to be accepted");
    let its = useful.local_addr().expect("it is connected");
    streams.expire(start + PROOF_MAX - Duration::from_millis(1), |client| client.remote() == its);
    assert_eq!(streams.ended(), None, "there is time");
    streams.expire(start + PROOF_MAX, |_| false);
    assert!(streams.ended().is_some() && streams.ended().is_none());
    assert_eq!(idle.read(&mut [0; 1]).expect("an end, not an error"), 0);
    assert_eq!((streams.counts().open, streams.counts().unproven), ([1, 0], 1));
    streams.expire(start + 2 * PROOF_MAX, |_| false);
    assert!(streams.ended().is_some(), "it has had none for as long");
}

#[test]
fn strangers_are_read_in_small_portions() {
    let (mut poll, mut streams, port) = listening();
    let (mut strangers, mut known) = ([(); 3].map(|()| connect(port)), connect(port));
    let start = Instant::now();
    streams.accept(start);
    let its = known.local_addr().expect("it is connected");
    streams.expire(start, |client| client.remote() == its);
    for stream in strangers.iter_mut().chain([&mut known]) {
        stream.write_all(&[0; 60_000]).expect("the kernel takes it");
    }
    let mut buffer = vec![0; super::stream::BUFFER_BYTES];
    let mut portions: HashMap<SocketAddr, Vec<usize>> = HashMap::new();
    let mut events = Events::with_capacity(8);
    while portions.values().flatten().sum::<usize>() < 4 * 60_000 {
        assert!(start.elapsed() < PATIENCE, "{portions:?}");
        poll.poll(&mut events, Some(PATIENCE)).expect("epoll");
        for event in events.iter().filter(|event| event.token().0 >= STREAM) {
            streams.woken((event.token().0 - STREAM) as u64, event.is_readable(), false, start);
        }
        while streams.ready() > 0 {
            if let Some((_, client, filled)) = streams.read(&mut buffer) {
                portions.entry(client.remote()).or_default().push(filled);
            }
        }
    }
    assert_eq!(portions.len(), 4);
    for (client, portions) in portions {
        assert_eq!(portions.iter().sum::<usize>(), 60_000);
        let most = portions.into_iter().max();
        assert!(if client == its { most > Some(2_048) } else { most == Some(2_048) }, "{client} had {most:?} at once");
    }
}

#[test]
fn listed_peers_are_reached_through_a_socket_and_others_not() {
    // Not where relayed addresses are: a peer whose port could be another allocation's is refused.
    let beside = IpAddr::from([127, 0, 0, 2]);
    let world = World::new(&[Prefix { address: beside, bits: 32 }]);
    world.grant("seat");
    let peer = UdpSocket::bind((beside, 0)).expect("a free port");
    peer.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let address = peer.local_addr().expect("it is bound");
    let mut client = world.udp();
    let relayed = client.allocate();
    assert_eq!(client.ask(|turn| turn.permit("192.0.2.1:9".parse().expect("an address"))), Err(403));
    client.ask(|turn| turn.permit(address)).expect("a permission");
    client.indicate(address, b"out");
    let mut buffer = [0; 2_048];
    let (len, from) = peer.recv_from(&mut buffer).expect("the payload");
    assert_eq!((&buffer[..len], from), (&b"out"[..], relayed));
    for len in [1_000, 37] {
        peer.send_to(&vec![5; len], relayed).expect("a route");
        assert_eq!(client.hear(), (From::Peer(address), vec![5; len]));
    }
    client.ask(|turn| turn.bind(CHANNEL, address)).expect("a channel");
    client.way.put(&channel_frame(CHANNEL, b"by a channel", false));
    let (len, _) = peer.recv_from(&mut buffer).expect("the payload");
    assert_eq!(&buffer[..len], b"by a channel");
    peer.send_to(b"and back", relayed).expect("a route");
    assert_eq!(client.hear(), (From::Channel(CHANNEL), b"and back".to_vec()));
    world.report_when(|report| report.relay_sockets == 1);
    client.ask(|turn| turn.refresh(0)).expect("the end");
    world.report_when(|report| report.relay_sockets == 0);
    UdpSocket::bind(relayed).expect("the port is free again");
}

#[test]
fn the_thread_says_that_it_lives_and_that_it_has_ended() {
    let mut world = World::new(&[]);
    assert!(world.turn.idle().is_some_and(|idle| idle < PATIENCE));
    let pulse = world.turn.pulse.clone();
    drop(world.turn);
    let failure = world.broken.blocking_recv().expect("it says so");
    assert_eq!(failure.to_string(), "the TURN thread has ended: control is gone");
    assert_eq!(pulse.idle(), None);
}

#[test]
fn taken_ports_are_told_with_their_settings() {
    let first = bind(&TurnServer { port: 0, ..TurnServer::default() }, None).expect("a free port");
    let port = first.sockets.port();
    let Err(error) = bind(&TurnServer { port, ..TurnServer::default() }, None) else { panic!("it is taken") };
    assert!(error.to_string().contains("choose another with LYCEUM__TURN__PORT or [turn] port"), "{error}");
}
