//! The real binary, and clients that reach it over UDP, ICE-TCP, IPv6 and TURN.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, missing_docs)]

mod plain;

use std::cell::Cell;
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use bench::media;
use bench::peer::{ClientPeer, Heard, Identity};
use bench::socketio::{Client, Frame};
use bench::turn::asker::{Asker, Grant, Heard as Answer, channel_frame};
use serde_json::{Value, json};
use sfu::Kind;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpStream, UdpSocket};
use turn_server::framing::frame_bytes;
use turn_server::stun::{Class, Message};

use crate::plain::plain;

/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);
/// Packets of each stream that a client is to hear.
const ENOUGH: usize = 50;
/// How often each client sends a packet.
const PACE: Duration = Duration::from_millis(20);
/// Of relayed clients.
const CHANNEL: u16 = 0x4001;

/// A directory for one server: two cannot share one.
fn store_dir() -> PathBuf {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let name = format!("paths-store-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name)
}

struct Server {
    child: Child,
    http: SocketAddr,
    /// What it logs behind its start.
    log: Receiver<Value>,
}

impl Server {
    /// A server that announces `address`.
    fn start(address: &str, tcp: bool) -> Server {
        let mut command = plain(env!("CARGO_BIN_EXE_lyceum"));
        command.args(["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--media-port", "0"]);
        command.args(["--workers", "1", "--address", address, "--log-format", "json"]);
        command
            .env("LYCEUM__TURN__PORT", "0")
            .env("LYCEUM__TURN__TLS_PORT", "0")
            .env("LYCEUM__STORE__DIR", store_dir());
        command.env("LYCEUM__MEDIA__TCP", tcp.to_string());
        let mut child = command.stderr(Stdio::piped()).spawn().expect("the binary starts");
        let lines = BufReader::new(child.stderr.take().expect("stderr is piped")).lines();
        let mut lines = lines.map(|line| serde_json::from_str::<Value>(&line.expect("text")).expect("JSON"));
        let line = lines.find(|line| line["message"] == "listening").expect("it says where it listens");
        // The pipe is read to its end, or what the server logs would fail.
        let (logged, log) = channel();
        std::thread::spawn(move || lines.for_each(|line| drop(logged.send(line))));
        let http = line["http"].as_str().and_then(|http| http.parse().ok()).expect("an address");
        Server { child, http, log }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// By which way a client comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Route {
    Udp,
    Tcp,
    /// Through the TURN server.
    Relay {
        tcp: bool,
    },
}

/// A socket, and what was received of a message that is not whole.
enum Link {
    Udp(UdpSocket),
    Tcp(OwnedReadHalf, OwnedWriteHalf, Vec<u8>),
}

impl Link {
    async fn open(to: SocketAddr, tcp: bool) -> Link {
        if tcp {
            let stream = TcpStream::connect(to).await.expect("somebody listens");
            stream.set_nodelay(true).expect("a TCP socket");
            let (read, write) = stream.into_split();
            return Link::Tcp(read, write, Vec::new());
        }
        let any: IpAddr = if to.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
        let socket = UdpSocket::bind((any, 0)).await.expect("a free port");
        socket.connect(to).await.expect("a route");
        Link::Udp(socket)
    }

    async fn send(&mut self, message: &[u8]) {
        match self {
            Link::Udp(socket) => drop(socket.send(message).await),
            Link::Tcp(_, write, _) => write.write_all(message).await.expect("the server keeps the connection"),
        }
    }

    /// The next message, of which `frame` says in a stream how many bytes it has. Safe to cancel.
    async fn receive(&mut self, frame: impl Fn(&[u8]) -> Option<usize>) -> Vec<u8> {
        let mut buffer = [0; 4_096];
        match self {
            Link::Udp(socket) => {
                let len = socket.recv(&mut buffer).await.expect("the server listens");
                buffer[..len].to_vec()
            }
            Link::Tcp(read, _, held) => loop {
                if let Some(len) = frame(held) {
                    return held.drain(..len).collect();
                }
                let len = read.read(&mut buffer).await.expect("the server keeps the connection");
                assert!(len > 0, "the server keeps the connection");
                held.extend_from_slice(&buffer[..len]);
            },
        }
    }
}

/// RFC 4571 §2.
fn ice_tcp_frame(held: &[u8]) -> Option<usize> {
    let len = 2 + usize::from(u16::from_be_bytes(*held.first_chunk()?));
    (held.len() >= len).then_some(len)
}

fn turn_frame(held: &[u8]) -> Option<usize> {
    frame_bytes(held).expect("frames, one behind the other")
}

/// How a client reaches the server.
enum Way {
    Udp(Link),
    Tcp(Link),
    Relay(Box<Relay>),
}

impl Way {
    async fn send(&mut self, datagram: &[u8]) {
        match self {
            Way::Udp(link) => link.send(datagram).await,
            Way::Tcp(link) => link.send(&[&(datagram.len() as u16).to_be_bytes()[..], datagram].concat()).await,
            Way::Relay(relay) => relay.send(datagram).await,
        }
    }

    /// The next datagram. Safe to cancel.
    async fn receive(&mut self) -> Vec<u8> {
        match self {
            Way::Udp(link) => link.receive(|_| None).await,
            Way::Tcp(link) => link.receive(ice_tcp_frame).await.split_off(2),
            Way::Relay(relay) => relay.receive().await,
        }
    }
}

/// An allocation of ours.
struct Relay {
    link: Link,
    asker: Asker,
    relayed: SocketAddr,
    /// What the SFU said where our checks came from.
    mapped: Option<SocketAddr>,
}

impl Relay {
    /// Opens an allocation with what the join was answered with, and a channel to the candidate.
    async fn open(ice_servers: &Value, tcp: bool, candidate: SocketAddr) -> Relay {
        let text = |value: &Value| value.as_str().expect("a string").to_owned();
        let server = &ice_servers[0];
        let transport = if tcp { "?transport=tcp" } else { "?transport=udp" };
        let mut urls = server["urls"].as_array().expect("a list").iter().map(text);
        let url =
            urls.find(|url| url.starts_with("turn:") && url.ends_with(transport)).expect("one for each transport");
        let at = url.strip_prefix("turn:").and_then(|url| url.strip_suffix(transport)).expect("it was looked for");
        let link = Link::open(at.parse().expect("an address and a port"), tcp).await;
        let asker = Asker::new(&text(&server["username"]), &text(&server["credential"]));
        let mut relay = Relay { link, asker, relayed: candidate, mapped: None };
        let allocation = relay.ask(|asker| asker.allocate_for(candidate)).await.expect("an allocation");
        relay.relayed = allocation.relayed.expect("a relayed address");
        relay.ask(|asker| asker.bind(CHANNEL, candidate)).await.expect("a channel");
        relay
    }

    async fn ask(&mut self, request: impl Fn(&mut Asker) -> Vec<u8>) -> Result<Grant, u16> {
        loop {
            let message = request(&mut self.asker);
            self.link.send(&message).await;
            let answer = self.link.receive(turn_frame).await;
            match self.asker.take(&answer) {
                Answer::Again => {}
                Answer::Granted(grant) => return Ok(grant),
                Answer::Refused(code) => return Err(code),
                other => panic!("{other:?} answers nothing"),
            }
        }
    }

    async fn send(&mut self, datagram: &[u8]) {
        let is_stream = matches!(self.link, Link::Tcp(..));
        self.link.send(&channel_frame(CHANNEL, datagram, is_stream)).await;
    }

    async fn receive(&mut self) -> Vec<u8> {
        let message = self.link.receive(turn_frame).await;
        let Answer::Channel(CHANNEL, payload) = self.asker.take(&message) else { panic!("{message:?} is no payload") };
        let datagram = message[payload].to_vec();
        if let Some(answer) = Message::parse(&datagram).filter(|answer| answer.class() == Class::Success) {
            self.mapped = answer.xor_mapped_address();
        }
        datagram
    }
}

/// A client that publishes audio and video and takes what the other sends.
struct Caller {
    socket: Client,
    peer: ClientPeer,
    session: &'static str,
    name: String,
    route: Route,
    way: Option<Way>,
    heard: Heard,
    candidates: Vec<String>,
    ice_servers: Value,
}

impl Caller {
    async fn join(server: &Server, session: &'static str, tag: u64, route: Route) -> Caller {
        let mut socket = Client::connect(&format!("http://{}", server.http)).await.expect("it lets us in");
        let peer = ClientPeer::new(Identity::new(), tag, &[Kind::Audio, Kind::Video], 70 + tag);
        let name = format!("caller-{tag}");
        let join = json!({
            "sessionId": session, "userId": name, "userName": name, "isInstructor": false, "media": "sfu"
        });
        socket.emit("join-session", join).await.expect("it reads");
        let mut caller = Caller {
            socket,
            peer,
            session,
            name,
            route,
            way: None,
            heard: Heard::default(),
            candidates: Vec::new(),
            ice_servers: Value::Null,
        };
        let offer = caller.peer.offer();
        caller.tell("offer", &offer).await;
        caller
    }

    async fn tell(&mut self, kind: &str, sdp: &str) {
        let description = json!({ "type": kind, "sdp": sdp });
        let message =
            json!({ "sessionId": self.session, "userId": self.name, "targetUserId": "sfu", kind: description });
        self.socket.emit(kind, message).await.expect("it reads");
    }

    async fn take_frame(&mut self, frame: Frame) {
        let (name, payload) = match frame {
            Frame::Event { name, payload } => (name, payload),
            Frame::Ack { payload, .. } if payload["iceServers"].is_array() => {
                self.ice_servers = payload["iceServers"].clone();
                return;
            }
            _ => return,
        };
        let Some(sdp) = payload[&name]["sdp"].as_str() else { return };
        let candidates = sdp.lines().filter_map(|line| line.strip_prefix("a=candidate:"));
        self.candidates = candidates.map(str::to_owned).collect();
        let now = Instant::now();
        match name.as_str() {
            "answer" => self.peer.handle_answer(sdp, now),
            "offer" => {
                let answer = self.peer.handle_offer(sdp, now);
                self.tell("answer", &answer).await;
            }
            _ => return,
        }
        if self.way.is_none() {
            let to = self.candidate().expect("a candidate of the kind");
            self.way = Some(match self.route {
                Route::Udp => Way::Udp(Link::open(to, false).await),
                Route::Tcp => Way::Tcp(Link::open(to, true).await),
                Route::Relay { tcp } => Way::Relay(Box::new(Relay::open(&self.ice_servers, tcp, to).await)),
            });
        }
    }

    /// The first candidate of this client's kind (RFC 8839 §5.1).
    fn candidate(&self) -> Option<SocketAddr> {
        let wanted = if self.route == Route::Tcp { "tcp" } else { "udp" };
        self.candidates.iter().find_map(|candidate| {
            let words: Vec<&str> = candidate.split(' ').collect();
            let [_, _, protocol, _, ip, port, ..] = words[..] else { return None };
            (protocol == wanted).then(|| Some(SocketAddr::new(ip.parse().ok()?, port.parse().ok()?)))?
        })
    }

    /// Does the next thing that is due or comes.
    async fn step(&mut self, publish: &mut tokio::time::Interval) {
        let now = Instant::now();
        self.peer.tick(now);
        if let Some(way) = &mut self.way {
            while let Some(datagram) = self.peer.transmit() {
                way.send(&datagram).await;
            }
        }
        let due = self.peer.deadline().unwrap_or(now + PATIENCE);
        let way = &mut self.way;
        let received = async {
            match way {
                Some(way) => way.receive().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            frame = self.socket.next() => {
                let frame = frame.expect("the socket stays open");
                self.take_frame(frame).await;
            }
            mut datagram = received => {
                if let Some(received) = self.peer.handle(&mut datagram, Instant::now()) {
                    self.heard.note(&received);
                }
            }
            _ = publish.tick() => self.publish().await,
            () = tokio::time::sleep_until(due.into()) => {}
        }
    }

    async fn publish(&mut self) {
        let Some(way) = self.way.as_mut().filter(|_| self.peer.is_connected()) else { return };
        let (audio, video) = (self.peer.next_stamp(Kind::Audio), self.peer.next_stamp(Kind::Video));
        let (audio, video) = audio.zip(video).expect("both are published");
        let frame = media::Vp8 { picture: video.number as u16, first: true, key: video.number % 25 == 0 };
        let packets = [
            self.peer.rtp(Kind::Audio, false, 960, &media::audio_payload(audio)),
            self.peer.rtp(Kind::Video, true, 1_800, &media::video_payload(frame, video, media::VIDEO_PAYLOAD_BYTES)),
        ];
        for packet in packets.into_iter().flatten() {
            way.send(&packet).await;
        }
    }
}

/// Goes on until as many callers as there are have heard enough of both streams of `other`.
async fn call(caller: &mut Caller, other: u64, satisfied: &Cell<usize>) {
    let mut pace = tokio::time::interval(PACE);
    let (start, mut content) = (Instant::now(), false);
    while satisfied.get() < 2 {
        caller.step(&mut pace).await;
        let heard = [2 * other, 2 * other + 1].map(|stream| caller.heard.of(stream).len());
        if !content && heard.iter().all(|packets| *packets >= ENOUGH) {
            content = true;
            satisfied.set(satisfied.get() + 1);
        }
        assert!(start.elapsed() < PATIENCE, "{} heard {heard:?} of the other", caller.name);
    }
}

/// Two callers hear and see each other, without a loss once it has begun.
async fn assert_call(server: &Server, routes: [Route; 2]) {
    let mut one = Caller::join(server, "paths", 0, routes[0]).await;
    let mut other = Caller::join(server, "paths", 1, routes[1]).await;
    let satisfied = Cell::new(0);
    tokio::join!(call(&mut one, 1, &satisfied), call(&mut other, 0, &satisfied));
    for (caller, tag) in [(&one, 1), (&other, 0)] {
        for stream in [2 * tag, 2 * tag + 1] {
            let numbers = caller.heard.of(stream);
            assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "stream {stream}: {numbers:?}");
        }
        assert_eq!(caller.peer.garbage, 0);
        if let Some(Way::Relay(relay)) = &caller.way {
            assert_eq!(relay.mapped, Some(relay.relayed), "to the SFU it is where its allocation is");
        }
    }
}

#[tokio::test]
async fn a_client_over_tcp_and_one_over_udp_hold_a_call() {
    let server = Server::start("127.0.0.1", true);
    assert_call(&server, [Route::Tcp, Route::Udp]).await;
}

#[tokio::test]
async fn a_call_over_ipv6_by_udp_and_tcp() {
    let server = Server::start("::1", true);
    assert_call(&server, [Route::Tcp, Route::Udp]).await;
}

#[tokio::test]
async fn a_call_through_turn_by_udp_and_tcp() {
    let server = Server::start("127.0.0.1", true);
    assert_call(&server, [Route::Relay { tcp: false }, Route::Relay { tcp: true }]).await;
}

#[tokio::test]
async fn a_call_through_turn_over_ipv6() {
    let server = Server::start("::1", true);
    assert_call(&server, [Route::Relay { tcp: true }, Route::Udp]).await;
}

#[tokio::test]
async fn what_turn_refuses_is_one_line_in_the_log() {
    let server = Server::start("127.0.0.1", true);
    let mut caller = Caller::join(&server, "curious", 0, Route::Relay { tcp: false }).await;
    while caller.way.is_none() {
        let frame = tokio::time::timeout(PATIENCE, caller.socket.next()).await.expect("an answer in time");
        caller.take_frame(frame.expect("the socket stays open")).await;
    }
    let Some(Way::Relay(relay)) = &mut caller.way else { panic!("it is relayed") };
    for peer in ["169.254.169.254:80", "192.0.2.1:9", "10.0.0.1:22"] {
        let peer = peer.parse().expect("an address");
        assert_eq!(relay.ask(|asker| asker.permit(peer)).await, Err(403));
    }
    let is_audit = |line: &Value| !line["peer"].is_null();
    let line = std::iter::from_fn(|| server.log.recv_timeout(PATIENCE).ok()).find(is_audit).expect("it is said");
    assert_eq!(
        (&line["level"], &line["peer"], &line["left_out"]),
        (&json!("WARN"), &json!("169.254.169.254:80"), &json!(0))
    );
    let text = line.to_string();
    assert!(text.contains("policy forbids") && text.contains("127.0.0.1"), "{text}");
    assert!(!text.contains(&caller.ice_servers[0]["credential"].to_string()), "{text}");
    assert!(!server.log.try_iter().any(|line| is_audit(&line)), "the others are left out");
}

#[tokio::test]
async fn without_ice_tcp_nothing_of_it_is_offered() {
    let server = Server::start("127.0.0.1", false);
    let mut caller = Caller::join(&server, "udp-only", 0, Route::Udp).await;
    while caller.candidates.is_empty() {
        let frame = tokio::time::timeout(PATIENCE, caller.socket.next()).await.expect("an answer in time");
        caller.take_frame(frame.expect("the socket stays open")).await;
    }
    assert!(caller.candidates.iter().all(|candidate| candidate.contains(" udp ")), "{:?}", caller.candidates);
    let to = caller.candidate().expect("a UDP candidate");
    assert!(TcpStream::connect(to).await.is_err(), "nobody listens");
}
