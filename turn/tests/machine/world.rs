//! A server with a clock of its own, and clients that know how to ask it.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use turn_server::credential::{self, Credential};
use turn_server::stun::{Class, Message, Method, TransactionId, Writer};
use turn_server::{
    Action, AllocationId, Client, Config, Framing, Input, Limits, Now, Output, Prefix, Refusal, Server, StreamId,
};

pub(crate) const REALM: &str = "lyceum";
pub(crate) const SECRET: &[u8] = b"north";
pub(crate) const UNIX_S: u64 = 1_700_000_000;
pub(crate) const UDP: u8 = 17;

/// Our own addresses, and our media addresses on them.
pub(crate) const HERE: &str = "203.0.113.10";
pub(crate) const HERE6: &str = "2a00:db8::10";
pub(crate) const MEDIA: &str = "203.0.113.10:7000";
pub(crate) const MEDIA_B: &str = "203.0.113.10:7001";
pub(crate) const MEDIA6: &str = "[2a00:db8::10]:7000";
/// Listed where a test says so.
pub(crate) const PEER: &str = "198.51.100.7:4000";

pub(crate) fn at(address: &str) -> SocketAddr {
    address.parse().unwrap()
}

pub(crate) fn ip(address: &str) -> IpAddr {
    address.parse().unwrap()
}

pub(crate) fn prefix(text: &str) -> Prefix {
    let (address, bits) = text.split_once('/').unwrap();
    Prefix { address: ip(address), bits: bits.parse().unwrap() }
}

pub(crate) fn config() -> Config {
    Config {
        realm: REALM.into(),
        secret: SECRET.into(),
        relayed: vec![ip(HERE), ip(HERE6)],
        media: vec![at(MEDIA), at(MEDIA_B), at(MEDIA6)],
        listed: vec![],
        relay_ports: 50_000..=50_099,
        limits: Limits { allocations: 100, per_holder: 4, bandwidth_bps: 8_000_000 },
    }
}

/// With relay sockets: `198.51.100.0/24` may be reached.
pub(crate) fn listing() -> Config {
    Config { listed: vec![prefix("198.51.100.0/24"), prefix("2600::/16")], ..config() }
}

/// What came of one thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// An answer to the client: its code, 0 for a good one.
    Answer(u16),
    /// Payload by the short cut.
    Media(SocketAddr, Vec<u8>),
    /// Payload from the relay socket, and whether the don't-fragment bit is wanted.
    Peer(SocketAddr, Vec<u8>, bool),
    /// Anything else.
    Out(Output),
}

pub(crate) struct World {
    pub(crate) server: Server,
    pub(crate) now: Now,
    /// The last answer, whether it came at once or later.
    pub(crate) answer: Vec<u8>,
}

impl World {
    pub(crate) fn new(config: Config) -> Self {
        let now = Now { mono: Instant::now(), unix_ms: UNIX_S * 1000 };
        World { server: Server::new(config, [5; 32], now), now, answer: vec![] }
    }

    pub(crate) fn pass(&mut self, time: Duration) {
        self.now.mono += time;
        self.now.unix_ms += time.as_millis() as u64;
    }

    /// Lets time pass, and ticks when a tick is due.
    pub(crate) fn wait(&mut self, seconds: u64) -> Vec<Seen> {
        let end = self.now.mono + Duration::from_secs(seconds);
        let mut seen = vec![];
        while let Some(due) = self.server.deadline().filter(|it| *it <= end) {
            self.pass(due.saturating_duration_since(self.now.mono));
            seen.extend(self.handle(Input::Tick));
        }
        self.pass(end.saturating_duration_since(self.now.mono));
        seen
    }

    pub(crate) fn handle(&mut self, input: Input) -> Vec<Seen> {
        self.server.handle(input, self.now);
        self.outputs()
    }

    pub(crate) fn grant(&mut self, holder: &str) {
        assert_eq!(self.handle(Input::Grant { holder: holder.into() }), []);
    }

    pub(crate) fn revoke(&mut self, holder: &str) -> Vec<Seen> {
        self.handle(Input::Revoke { holder: holder.into() })
    }

    pub(crate) fn receive(&mut self, client: Client, bytes: &[u8]) -> Vec<Seen> {
        let mut seen = match self.server.receive(client, bytes, self.now) {
            Action::Nothing => vec![],
            Action::Reply(answer) => {
                self.answer = answer.to_vec();
                vec![Seen::Answer(code(answer))]
            }
            Action::Media { peer, payload, .. } => vec![Seen::Media(peer, bytes[payload].to_vec())],
            Action::Relay { peer, payload, dont_fragment, .. } => {
                vec![Seen::Peer(peer, bytes[payload].to_vec(), dont_fragment)]
            }
        };
        seen.extend(self.outputs());
        seen
    }

    pub(crate) fn wrap(&mut self, allocation: AllocationId, peer: &str, payload_bytes: usize) -> Option<Framing> {
        self.server.to_client(allocation, at(peer), payload_bytes, 1, self.now)
    }

    pub(crate) fn refused(&self, refusal: Refusal) -> u64 {
        self.server.counters().refusals[refusal as usize]
    }

    pub(crate) fn allocations(&self) -> u64 {
        self.server.counters().allocations.iter().sum()
    }

    fn outputs(&mut self) -> Vec<Seen> {
        let mut seen = vec![];
        while let Some(output) = self.server.poll() {
            seen.push(match output {
                Output::Reply { bytes, .. } => {
                    self.answer = bytes;
                    Seen::Answer(code(&self.answer))
                }
                output => Seen::Out(output),
            });
        }
        seen
    }
}

/// The code of an answer, 0 for a good one. FINGERPRINT is in all but those to strangers, whose size counts.
pub(crate) fn code(answer: &[u8]) -> u16 {
    let message = Message::parse(answer).expect("answers can be read");
    match message.class() {
        Class::Success => {
            assert!(message.check_fingerprint());
            0
        }
        Class::Error => message.error_code().expect("an error has a code").0,
        class => panic!("{class:?} is no answer"),
    }
}

/// A client with a credential.
#[derive(Clone)]
pub(crate) struct User {
    pub(crate) client: Client,
    pub(crate) credential: Credential,
    nonce: Vec<u8>,
    pub(crate) transactions: u32,
}

impl User {
    /// By UDP over IPv4; the credential lasts an hour.
    pub(crate) fn new(holder: &str, port: u16) -> Self {
        let client = Client::Udp { local: at("203.0.113.10:3478"), remote: SocketAddr::new(ip("192.0.2.1"), port) };
        User::by(client, holder, UNIX_S + 3600)
    }

    pub(crate) fn by(client: Client, holder: &str, expires_unix_s: u64) -> Self {
        let credential = credential::mint(SECRET, holder, expires_unix_s);
        User { client, credential, nonce: vec![], transactions: 0 }
    }

    pub(crate) fn by_stream(holder: &str, stream: u64) -> Self {
        let remote = SocketAddr::new(ip("192.0.2.2"), stream as u16);
        User::by(
            Client::Stream { stream: StreamId(stream), remote, secure: stream.is_multiple_of(2) },
            holder,
            UNIX_S + 3600,
        )
    }

    pub(crate) fn key(&self) -> [u8; 16] {
        credential::md5_key(&self.credential.username, REALM, &self.credential.password)
    }

    /// A sealed request in a new transaction.
    pub(crate) fn request(&mut self, method: Method, fill: impl FnOnce(Writer<'_>) -> Writer<'_>) -> Vec<u8> {
        self.transactions += 1;
        self.request_in(self.transactions, method, fill)
    }

    pub(crate) fn request_in(
        &self,
        transaction: u32,
        method: Method,
        fill: impl FnOnce(Writer<'_>) -> Writer<'_>,
    ) -> Vec<u8> {
        let mut bytes = vec![];
        fill(Writer::request(&mut bytes, method, id(self.client, transaction)))
            .username(&self.credential.username)
            .realm(REALM)
            .nonce(&self.nonce)
            .integrity(&self.key())
            .fingerprint();
        bytes
    }

    /// Gets a nonce.
    pub(crate) fn greet(&mut self, world: &mut World) {
        let mut bytes = vec![];
        Writer::request(&mut bytes, Method::ALLOCATE, id(self.client, 0)).requested_transport(UDP).fingerprint();
        assert_eq!(world.receive(self.client, &bytes), [Seen::Answer(401)]);
        self.nonce = Message::parse(&world.answer).unwrap().nonce().expect("a 401 has a nonce").to_vec();
    }

    /// Sends a request, and gives all that came of it.
    pub(crate) fn ask(
        &mut self,
        world: &mut World,
        method: Method,
        fill: impl Fn(Writer<'_>) -> Writer<'_>,
    ) -> Vec<Seen> {
        if self.nonce.is_empty() {
            self.greet(world);
        }
        let request = self.request(method, &fill);
        let mut seen = world.receive(self.client, &request);
        if seen == [Seen::Answer(438)] {
            self.nonce = Message::parse(&world.answer).unwrap().nonce().unwrap().to_vec();
            let request = self.request(method, fill);
            seen = world.receive(self.client, &request);
        }
        if let Some(Seen::Answer(code)) = seen.first() {
            let answer = Message::parse(&world.answer).unwrap();
            assert!(*code == 401 || answer.check_integrity(&self.key()), "the answer {code} is sealed");
            assert_eq!(answer.method(), method);
            assert_eq!(answer.transaction_id(), id(self.client, self.transactions));
        }
        seen
    }

    /// Sends a request, and gives the code of its answer.
    pub(crate) fn code(&mut self, world: &mut World, method: Method, fill: impl Fn(Writer<'_>) -> Writer<'_>) -> u16 {
        let seen = self.ask(world, method, fill);
        let codes: Vec<_> =
            seen.iter().filter_map(|it| if let Seen::Answer(code) = it { Some(*code) } else { None }).collect();
        assert_eq!(codes.len(), 1, "{seen:?}");
        codes[0]
    }

    pub(crate) fn allocate(&mut self, world: &mut World) -> u16 {
        self.code(world, Method::ALLOCATE, |it| it.requested_transport(UDP))
    }

    pub(crate) fn refresh(&mut self, world: &mut World, lifetime_s: u32) -> u16 {
        self.code(world, Method::REFRESH, |it| it.lifetime(lifetime_s))
    }

    pub(crate) fn permit(&mut self, world: &mut World, peer: &str) -> u16 {
        self.code(world, Method::CREATE_PERMISSION, |it| it.xor_peer_address(at(peer)))
    }

    pub(crate) fn bind(&mut self, world: &mut World, channel: u16, peer: &str) -> u16 {
        self.code(world, Method::CHANNEL_BIND, |it| it.channel_number(channel).xor_peer_address(at(peer)))
    }

    pub(crate) fn send(&self, world: &mut World, peer: &str, payload: &[u8]) -> Vec<Seen> {
        let mut bytes = vec![];
        Writer::indication(&mut bytes, Method::SEND, id(self.client, 0)).xor_peer_address(at(peer)).data(payload);
        world.receive(self.client, &bytes)
    }

    pub(crate) fn channel_data(&self, world: &mut World, channel: u16, payload: &[u8]) -> Vec<Seen> {
        let mut bytes = channel.to_be_bytes().to_vec();
        bytes.extend((payload.len() as u16).to_be_bytes());
        bytes.extend(payload);
        world.receive(self.client, &bytes)
    }

    /// The id by which the shell knows the allocation: it is told with each payload.
    pub(crate) fn allocation(&mut self, world: &mut World) -> (AllocationId, SocketAddr) {
        assert_eq!(self.permit(world, MEDIA), 0);
        let mut bytes = vec![];
        Writer::indication(&mut bytes, Method::SEND, id(self.client, 0)).xor_peer_address(at(MEDIA)).data(b"");
        match world.server.receive(self.client, &bytes, world.now) {
            Action::Media { allocation, relayed, .. } => (allocation, relayed),
            action => panic!("{action:?}"),
        }
    }
}

fn id(client: Client, transaction: u32) -> TransactionId {
    let mut id = [0; 12];
    id[..2].copy_from_slice(&client.remote().port().to_be_bytes());
    id[8..].copy_from_slice(&transaction.to_be_bytes());
    TransactionId(id)
}

/// A user with an allocation in a new world.
pub(crate) fn allocated(config: Config) -> (World, User) {
    let mut world = World::new(config);
    world.grant("ada");
    let mut user = User::new("ada", 5000);
    let seen = user.ask(&mut world, Method::ALLOCATE, |it| it.requested_transport(UDP));
    if let [Seen::Out(Output::Bind { allocation, .. })] = seen[..] {
        assert_eq!(world.handle(Input::Bound { allocation, there: true }), [Seen::Answer(0)]);
    } else {
        assert_eq!(seen, [Seen::Answer(0)]);
    }
    (world, user)
}
