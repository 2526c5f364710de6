//! The real binary, and clients that reach it over UDP, ICE-TCP and IPv6.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, missing_docs)]

use std::cell::Cell;
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bench::media;
use bench::peer::{ClientPeer, Heard, Identity};
use bench::socketio::{Client, Frame};
use serde_json::{Value, json};
use sfu::Kind;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpStream, UdpSocket};

/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);
/// Packets of each stream that a client is to hear.
const ENOUGH: usize = 50;
/// How often each client sends a packet.
const PACE: Duration = Duration::from_millis(20);

struct Server {
    child: Child,
    http: SocketAddr,
}

impl Server {
    /// A server that announces `address`.
    fn start(address: &str, tcp: bool) -> Server {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lyceum"));
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("LYCEUM__")) {
            command.env_remove(name);
        }
        command.args(["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--media-port", "0"]);
        command.args(["--workers", "1", "--address", address, "--log-format", "json"]);
        command.env("LYCEUM__TURN__PORT", "0").env("LYCEUM__TURN__TLS_PORT", "0");
        command.env("LYCEUM__MEDIA__TCP", tcp.to_string()).env_remove("SIGNALING_PORT").env_remove("RUST_LOG");
        let mut child = command.stderr(Stdio::piped()).spawn().expect("the binary starts");
        let lines = BufReader::new(child.stderr.take().expect("stderr is piped")).lines();
        let mut lines = lines.map(|line| serde_json::from_str::<Value>(&line.expect("text")).expect("JSON"));
        let line = lines.find(|line| line["message"] == "listening").expect("it says where it listens");
        // The pipe is read to its end, or what the server logs would fail.
        std::thread::spawn(move || lines.count());
        let http = line["http"].as_str().and_then(|http| http.parse().ok()).expect("an address");
        Server { child, http }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How a client reaches the server.
enum Way {
    Udp(UdpSocket),
    Tcp(OwnedReadHalf, OwnedWriteHalf, Vec<u8>),
}

impl Way {
    async fn open(to: SocketAddr, tcp: bool) -> Way {
        if tcp {
            let stream = TcpStream::connect(to).await.expect("a TCP candidate listens");
            stream.set_nodelay(true).expect("a TCP socket");
            let (read, write) = stream.into_split();
            return Way::Tcp(read, write, Vec::new());
        }
        let any: IpAddr = if to.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
        let socket = UdpSocket::bind((any, 0)).await.expect("a free port");
        socket.connect(to).await.expect("a route");
        Way::Udp(socket)
    }

    async fn send(&mut self, datagram: &[u8]) {
        match self {
            Way::Udp(socket) => drop(socket.send(datagram).await),
            Way::Tcp(_, write, _) => {
                let frame = [&(datagram.len() as u16).to_be_bytes()[..], datagram].concat();
                write.write_all(&frame).await.expect("the server keeps the connection");
            }
        }
    }

    /// The next datagram. Safe to cancel.
    async fn receive(&mut self) -> Vec<u8> {
        let mut buffer = [0; 4_096];
        match self {
            Way::Udp(socket) => {
                let len = socket.recv(&mut buffer).await.expect("the server listens");
                buffer[..len].to_vec()
            }
            Way::Tcp(read, _, held) => loop {
                if let Some(prefix) = held.first_chunk::<2>() {
                    let end = 2 + usize::from(u16::from_be_bytes(*prefix));
                    if held.len() >= end {
                        let datagram = held[2..end].to_vec();
                        held.drain(..end);
                        return datagram;
                    }
                }
                let len = read.read(&mut buffer).await.expect("the server keeps the connection");
                assert!(len > 0, "the server keeps the connection");
                held.extend_from_slice(&buffer[..len]);
            },
        }
    }
}

/// A client that publishes audio and video and takes what the other sends.
struct Caller {
    socket: Client,
    peer: ClientPeer,
    session: &'static str,
    name: String,
    tcp: bool,
    way: Option<Way>,
    heard: Heard,
    candidates: Vec<String>,
}

impl Caller {
    async fn join(server: &Server, session: &'static str, tag: u64, tcp: bool) -> Caller {
        let mut socket = Client::connect(&format!("http://{}", server.http)).await.expect("it lets us in");
        let peer = ClientPeer::new(Identity::new(), tag, &[Kind::Audio, Kind::Video], 70 + tag);
        let name = format!("caller-{tag}");
        let join = json!({
            "sessionId": session, "userId": name, "userName": name, "isInstructor": false, "media": "sfu"
        });
        socket.emit("join-session", join).await.expect("it reads");
        let mut caller =
            Caller { socket, peer, session, name, tcp, way: None, heard: Heard::default(), candidates: Vec::new() };
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
        let Frame::Event { name, payload } = frame else { return };
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
            self.way = Some(Way::open(to, self.tcp).await);
        }
    }

    /// The first candidate of this client's kind (RFC 8839 §5.1).
    fn candidate(&self) -> Option<SocketAddr> {
        let wanted = if self.tcp { "tcp" } else { "udp" };
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
async fn assert_call(server: &Server, ways: [bool; 2]) {
    let mut one = Caller::join(server, "paths", 0, ways[0]).await;
    let mut other = Caller::join(server, "paths", 1, ways[1]).await;
    let satisfied = Cell::new(0);
    tokio::join!(call(&mut one, 1, &satisfied), call(&mut other, 0, &satisfied));
    for (caller, tag) in [(&one, 1), (&other, 0)] {
        for stream in [2 * tag, 2 * tag + 1] {
            let numbers = caller.heard.of(stream);
            assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "stream {stream}: {numbers:?}");
        }
        assert_eq!(caller.peer.garbage, 0);
    }
}

#[tokio::test]
async fn a_client_over_tcp_and_one_over_udp_hold_a_call() {
    let server = Server::start("127.0.0.1", true);
    assert_call(&server, [true, false]).await;
}

#[tokio::test]
async fn a_call_over_ipv6_by_udp_and_tcp() {
    let server = Server::start("::1", true);
    assert_call(&server, [true, false]).await;
}

#[tokio::test]
async fn without_ice_tcp_nothing_of_it_is_offered() {
    let server = Server::start("127.0.0.1", false);
    let mut caller = Caller::join(&server, "udp-only", 0, false).await;
    while caller.candidates.is_empty() {
        let frame = tokio::time::timeout(PATIENCE, caller.socket.next()).await.expect("an answer in time");
        caller.take_frame(frame.expect("the socket stays open")).await;
    }
    assert!(caller.candidates.iter().all(|candidate| candidate.contains(" udp ")), "{:?}", caller.candidates);
    let to = caller.candidate().expect("a UDP candidate");
    assert!(TcpStream::connect(to).await.is_err(), "nobody listens");
}
