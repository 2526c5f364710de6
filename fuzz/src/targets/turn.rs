//! A TURN server between strangers, clients with credentials and peers; and the frames of a stream.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use turn_server::credential;
use turn_server::framing::{FRAME_BYTES_MAX, frame_bytes};
use turn_server::stun::{Message, Method, TransactionId, Writer};
use turn_server::{Action, AllocationId, Client, Config, Input, Limits, Now, Output, Prefix, Server, StreamId};

/// What the steps of an input do with their bytes.
pub mod step {
    /// A datagram or a frame, as it is; the first byte says which client's.
    pub const FROM_CLIENT: u8 = 0;
    /// A request with credentials: client, holder, method and transaction id, then the attributes as they lie on the wire.
    pub const SEALED: u8 = 1;
    /// Datagrams of a peer: which, how many, and 8 bytes in each for each byte that follows.
    pub const FROM_PEER: u8 = 2;
    /// So many seconds pass as the first two bytes say.
    pub const TIME: u8 = 3;
    /// Something else happens: what, and to whom.
    pub const INPUT: u8 = 4;
    /// How many there are.
    pub const KINDS: u8 = 5;
}

/// What [`step::INPUT`] may be.
pub mod input {
    /// The holder has a seat.
    pub const GRANT: u8 = 0;
    /// Its seat has ended.
    pub const REVOKE: u8 = 1;
    /// The client's stream has ended.
    pub const STREAM_CLOSED: u8 = 2;
    /// From now on relay sockets can be bound, or cannot if the second byte is odd.
    pub const BINDS: u8 = 3;
}

const REALM: &str = "lyceum";
const SECRET: &[u8] = b"a secret";
const UNIX_S: u64 = 1_700_000_000;
/// The last has no seat.
const HOLDERS: [&str; 4] = ["anna", "ben", "carla", "nobody"];
/// What waits after one step.
const OUTPUTS_MAX: usize = 1_000;

/// Our media addresses, a listed peer, and one that nobody may reach.
pub fn peers() -> [SocketAddr; 4] {
    [
        SocketAddr::from((Ipv4Addr::new(203, 0, 113, 1), 40_000)),
        SocketAddr::from((Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1), 40_000)),
        SocketAddr::from((Ipv4Addr::new(198, 51, 100, 7), 9)),
        SocketAddr::from((Ipv4Addr::LOCALHOST, 9)),
    ]
}

const MEDIA: usize = 2;

struct Stage {
    server: Server,
    now: Now,
    nonces: [Vec<u8>; 4],
    /// Nobody has shown credentials.
    only_strangers: bool,
    binds: bool,
    bound: HashSet<AllocationId>,
    paths: HashSet<(AllocationId, SocketAddr)>,
    allocations: Vec<AllocationId>,
    listed: bool,
    seen: Seen,
}

/// What happened: a test sees by it that the seeds still get where they should.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    /// Allocations made.
    pub allocated: u64,
    /// Payloads that went to our media addresses.
    pub media: usize,
    /// Payloads that went out of relay sockets.
    pub relayed: usize,
    /// Datagrams that went from peers to clients.
    pub to_client: usize,
}

/// Strangers get nothing but short answers, nobody reaches what is forbidden, and all that was begun ends.
pub fn turn(data: &[u8]) {
    play(data);
}

/// As [`turn`]; the first byte says whether a peer is listed.
pub fn play(data: &[u8]) -> Seen {
    let Some((first, mut data)) = data.split_first() else { return Seen::default() };
    let mut stage = Stage::new(first % 2 == 1);
    while let Some((head, rest)) = data.split_first_chunk::<3>() {
        let len = usize::from(u16::from_be_bytes([head[1], head[2]])).min(rest.len());
        let (bytes, next) = rest.split_at(len);
        data = next;
        stage.step(head[0] % step::KINDS, bytes);
        stage.settle();
    }
    stage.end()
}

impl Stage {
    fn new(listed: bool) -> Self {
        let now = Now { mono: Instant::now(), unix_ms: UNIX_S * 1_000 };
        let peers = peers();
        let config = Config {
            realm: REALM.into(),
            secret: SECRET.to_vec(),
            relayed: vec![peers[0].ip(), peers[1].ip()],
            media: peers[..MEDIA].to_vec(),
            listed: if listed { vec![Prefix { address: peers[2].ip(), bits: 24 }] } else { Vec::new() },
            relay_ports: 50_000..=50_015,
            limits: Limits { allocations: 3, per_holder: 2, bandwidth_bps: 100_000 },
        };
        let mut server = Server::new(config, [1; 32], now);
        for holder in &HOLDERS[..3] {
            server.handle(Input::Grant { holder: (*holder).into() }, now);
        }
        Stage {
            server,
            now,
            nonces: Default::default(),
            only_strangers: true,
            binds: true,
            bound: HashSet::new(),
            paths: HashSet::new(),
            allocations: Vec::new(),
            listed,
            seen: Seen::default(),
        }
    }

    fn step(&mut self, kind: u8, bytes: &[u8]) {
        let (first, second) = (bytes.first().copied().unwrap_or(0), bytes.get(1).copied().unwrap_or(0));
        match kind {
            step::FROM_CLIENT => self.receive(first, bytes.get(1..).unwrap_or_default(), false),
            step::SEALED => {
                let Some((&[client, holder, method, id], attributes)) = bytes.split_first_chunk() else { return };
                self.only_strangers = false;
                let request = self.sealed(usize::from(client % 4), holder, method, id, attributes);
                self.receive(client, &request, true);
            }
            step::FROM_PEER => {
                let peer = peers()[usize::from(first % 4)];
                for allocation in self.allocations.clone() {
                    let (count, len) = (usize::from(second % 64), 8 * bytes.len().saturating_sub(2));
                    let Some(framing) = self.server.to_client(allocation, peer, len, count, self.now) else { continue };
                    assert!(matches!(framing.head.as_slice().len(), 4 | 36 | 48) && framing.padding < 4);
                    assert!(!self.only_strangers && self.may_reach(peer));
                    self.seen.to_client += count;
                }
            }
            step::TIME => {
                let passes = Duration::from_secs(u16::from_be_bytes([first, second]).into());
                self.now.mono += passes;
                self.now.unix_ms += passes.as_millis() as u64;
                self.server.handle(Input::Tick, self.now);
                assert!(self.server.deadline().is_none_or(|due| due > self.now.mono), "what was due is done");
            }
            _ => {
                let holder = HOLDERS[usize::from(second % 3)].into();
                match first % 4 {
                    input::GRANT => self.server.handle(Input::Grant { holder }, self.now),
                    input::REVOKE => self.server.handle(Input::Revoke { holder }, self.now),
                    input::STREAM_CLOSED => {
                        self.server.handle(Input::StreamClosed { stream: StreamId(u64::from(second % 4)) }, self.now);
                    }
                    _ => self.binds = second % 2 == 0,
                }
            }
        }
    }

    fn sealed(&self, client: usize, holder: u8, method: u8, id: u8, attributes: &[u8]) -> Vec<u8> {
        let credential = credential::mint(SECRET, HOLDERS[usize::from(holder % 4)], UNIX_S + 3_600);
        let key = credential::md5_key(&credential.username, REALM, &credential.password);
        let mut request = Vec::new();
        let mut writer = Writer::request(&mut request, Method(u16::from(method % 16)), TransactionId([id; 12]));
        let mut rest = attributes;
        while let Some((&[t0, t1, l0, l1], behind)) = rest.split_first_chunk::<4>() {
            let len = usize::from(u16::from_be_bytes([l0, l1])).min(behind.len());
            let attribute = turn_server::stun::AttributeType(u16::from_be_bytes([t0, t1]));
            writer = writer.attribute(attribute, &behind[..len]);
            rest = behind.get(len.next_multiple_of(4)..).unwrap_or_default();
        }
        writer.username(&credential.username).realm(REALM).nonce(&self.nonces[client]).integrity(&key);
        request
    }

    fn receive(&mut self, client: u8, bytes: &[u8], sealed: bool) {
        let number = usize::from(client % 4);
        let client = client_of(number);
        match self.server.receive(client, bytes, self.now) {
            Action::Nothing => {}
            Action::Reply(reply) => {
                assert!(Message::parse(bytes).is_some(), "what is malformed is not answered");
                let message = Message::parse(reply).expect("what we answer parses");
                if let Some(nonce) = message.nonce() {
                    self.nonces[number] = nonce.to_vec();
                }
                let headers = if client.remote().is_ipv4() { 28 } else { 48 };
                let streams = matches!(client, Client::Stream { .. });
                let small = 2 * (headers + reply.len()) <= 3 * (headers + bytes.len());
                assert!(sealed || streams || small, "{} bytes for {}", reply.len(), bytes.len());
            }
            Action::Media { allocation, relayed, peer, payload } => {
                assert!(!self.only_strangers && peers()[..MEDIA].contains(&peer) && relayed.port() >= 49_152);
                assert!(bytes.get(payload).is_some(), "the payload lies in the datagram");
                self.seen.media += 1;
                self.paths.insert((allocation, peer));
                self.allocations.push(allocation);
            }
            Action::Relay { allocation, peer, payload, dont_fragment: _ } => {
                assert!(!self.only_strangers && self.listed && self.bound.contains(&allocation));
                assert!(self.may_reach(peer) && bytes.get(payload).is_some());
                self.seen.relayed += 1;
                self.allocations.push(allocation);
            }
        }
        self.allocations.sort_unstable();
        self.allocations.dedup();
    }

    fn may_reach(&self, peer: SocketAddr) -> bool {
        let listed = |ip: IpAddr| matches!(ip, IpAddr::V4(ip) if ip.octets()[..3] == [198, 51, 100]);
        peers()[..MEDIA].contains(&peer) || self.listed && listed(peer.ip())
    }

    /// Does what the server says.
    fn settle(&mut self) {
        for _ in 0..OUTPUTS_MAX {
            let Some(output) = self.server.poll() else {
                assert!(!self.only_strangers || self.server.counters().allocated == 0);
                return;
            };
            match output {
                Output::Reply { bytes, .. } => assert!(Message::parse(&bytes).is_some()),
                Output::Bind { allocation, relayed } => {
                    assert!(self.listed && (50_000..=50_015).contains(&relayed.port()));
                    if self.binds {
                        self.bound.insert(allocation);
                        self.allocations.push(allocation);
                    }
                    self.server.handle(Input::Bound { allocation, there: self.binds }, self.now);
                }
                Output::Unbind { allocation } => {
                    self.bound.remove(&allocation);
                }
                Output::PathClosed { allocation, peer, .. } => {
                    assert!(self.paths.remove(&(allocation, peer)), "a path ends once, and was there");
                }
                Output::Hangup { .. } => {}
                Output::Forbidden { peer, .. } => assert!(!self.only_strangers && !self.may_reach(peer)),
            }
        }
        panic!("{OUTPUTS_MAX} outputs after one step");
    }

    fn end(mut self) -> Seen {
        for holder in HOLDERS {
            self.server.handle(Input::Revoke { holder: holder.into() }, self.now);
            self.settle();
        }
        assert!(self.bound.is_empty() && self.paths.is_empty(), "{:?} {:?}", self.bound, self.paths);
        assert_eq!(self.server.counters().allocations, [0; 3]);
        self.seen.allocated = self.server.counters().allocated;
        self.seen
    }
}

fn client_of(number: usize) -> Client {
    let four = SocketAddr::from((Ipv4Addr::new(192, 0, 2, 1), 5_000 + number as u16));
    let six = SocketAddr::from((Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 1, 1), 5_000));
    let local = |remote: SocketAddr| if remote.is_ipv4() { peers()[0] } else { peers()[1] };
    match number {
        0 => Client::Udp { local: local(four), remote: four },
        1 => Client::Udp { local: local(six), remote: six },
        _ => Client::Stream { stream: StreamId(number as u64), remote: four, secure: number == 3 },
    }
}

/// However a stream comes in pieces, its frames are the same and bounded.
pub fn frames(data: &[u8]) {
    let Some((&size, stream)) = data.split_first() else { return };
    let whole = read_frames(stream, stream.len().max(1));
    assert_eq!(whole, read_frames(stream, usize::from(size).max(1)));
    assert_eq!(whole, read_frames(stream, 1));
    let (lengths, _) = whole;
    assert!(lengths.iter().all(|len| (4..=FRAME_BYTES_MAX).contains(len) && len % 4 == 0));
    assert!(lengths.iter().sum::<usize>() <= stream.len());
}

/// The lengths of the frames of a stream that comes in pieces of `size` bytes, and whether it had to end.
fn read_frames(stream: &[u8], size: usize) -> (Vec<usize>, bool) {
    let (mut kept, mut lengths) = (Vec::new(), Vec::new());
    for piece in stream.chunks(size) {
        kept.extend(piece);
        loop {
            match frame_bytes(&kept) {
                Ok(Some(len)) => {
                    kept.drain(..len);
                    lengths.push(len);
                }
                Ok(None) => break,
                Err(_) => return (lengths, true),
            }
        }
        assert!(kept.len() < FRAME_BYTES_MAX, "no more is kept than a frame");
    }
    (lengths, false)
}
