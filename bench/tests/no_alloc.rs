//! Once warm, forwarding a packet allocates nothing.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bench::alloc;
use bench::forward::{BURST, Stage};
use turn_server::credential;
use turn_server::stun::{Message, Method, TransactionId, Writer};
use turn_server::{Action, AllocationId, Client, Config, Input, Limits, Now, Output, Prefix, Server};

#[global_allocator]
static ALLOCATOR: alloc::Counting = alloc::Counting;

/// Forwarded packets over which not one allocation may happen.
const PACKETS_MIN: u64 = 10_000;

#[test]
fn forwarding_allocates_nothing_once_warm() {
    let subscribers = 10;
    let mut stage = Stage::new(subscribers);
    let before = alloc::allocations();
    drop(Box::new(before));
    assert!(alloc::allocations() > before, "the counting allocator counts");

    let (mut allocated, mut forwarded) = (0, 0);
    while forwarded < PACKETS_MIN {
        stage.prepare();
        stage.tick();
        let before = alloc::allocations();
        stage.receive();
        let frame = stage.drain();
        allocated += alloc::allocations() - before;
        assert_eq!(frame.packets, u64::from(BURST) * subscribers as u64, "a whole frame reaches everyone");
        forwarded += frame.packets;
    }
    assert_eq!(allocated, 0, "allocations over {forwarded} forwarded packets");
}

/// A TURN server with one client that has a relay socket, and channels to a media address and to a listed peer.
struct Relay {
    server: Server,
    now: Now,
    client: Client,
    allocation: AllocationId,
}

const MEDIA: ([u8; 4], u16) = ([203, 0, 113, 10], 7000);
/// The client has permitted it, and has no channel for it.
const MEDIA_BESIDE: ([u8; 4], u16) = ([203, 0, 113, 10], 7001);
const LISTED: ([u8; 4], u16) = ([198, 51, 100, 7], 4000);

impl Relay {
    #[allow(clippy::disallowed_methods)]
    fn new() -> Self {
        let now = Now { mono: Instant::now(), unix_ms: 1_700_000_000_000 };
        let config = Config {
            realm: "lyceum".into(),
            secret: b"a secret".to_vec(),
            relayed: vec![SocketAddr::from(MEDIA).ip()],
            media: vec![MEDIA.into(), MEDIA_BESIDE.into()],
            listed: vec![Prefix { address: SocketAddr::from(LISTED).ip(), bits: 24 }],
            relay_ports: 50_000..=50_100,
            limits: Limits { allocations: 10, per_holder: 4, bandwidth_bps: 1_000_000_000 },
        };
        let client = Client::Udp { local: ([203, 0, 113, 10], 3478).into(), remote: ([192, 0, 2, 1], 5000).into() };
        let mut it = Relay { server: Server::new(config, [1; 32], now), now, client, allocation: AllocationId(0) };
        it.server.handle(Input::Grant { holder: "seat".into() }, now);
        let nonce = it.ask(Method::ALLOCATE, &[], |it| it.requested_transport(17));
        it.ask(Method::ALLOCATE, &nonce, |it| it.requested_transport(17));
        let Some(Output::Bind { allocation, .. }) = it.server.poll() else { panic!("a socket is needed") };
        it.allocation = allocation;
        it.server.handle(Input::Bound { allocation, there: true }, now);
        assert!(matches!(it.server.poll(), Some(Output::Reply { .. })));
        for (channel, peer) in [(0x4000, MEDIA), (0x4001, LISTED)] {
            it.ask(Method::CHANNEL_BIND, &nonce, |it| it.channel_number(channel).xor_peer_address(peer.into()));
        }
        it
    }

    /// Sends a sealed request, and gives the nonce of its answer if that has one.
    fn ask(&mut self, method: Method, nonce: &[u8], fill: impl FnOnce(Writer<'_>) -> Writer<'_>) -> Vec<u8> {
        let credential = credential::mint(b"a secret", "seat", 1_700_000_600);
        let key = credential::md5_key(&credential.username, "lyceum", &credential.password);
        let mut bytes = vec![];
        let writer = fill(Writer::request(&mut bytes, method, TransactionId([7; 12])));
        writer.username(&credential.username).realm("lyceum").nonce(nonce).integrity(&key);
        match self.server.receive(self.client, &bytes, self.now) {
            Action::Reply(answer) => Message::parse(answer).and_then(|it| it.nonce()).unwrap_or_default().to_vec(),
            _ => vec![],
        }
    }
}

#[test]
fn relaying_allocates_nothing_once_warm() {
    let mut relay = Relay::new();
    let payload = [0x80; 1200];
    let mut sent = vec![];
    for channel in [0x4000u16, 0x4001] {
        sent.push([&channel.to_be_bytes()[..], &1200u16.to_be_bytes(), &payload].concat());
    }
    for peer in [MEDIA, LISTED] {
        let mut bytes = vec![];
        let writer = Writer::indication(&mut bytes, Method::SEND, TransactionId([7; 12]));
        writer.xor_peer_address(peer.into()).data(&payload);
        sent.push(bytes);
    }
    let mut round = |rounds: u64| {
        let before = alloc::allocations();
        for _ in 0..rounds {
            relay.now.mono += Duration::from_millis(1);
            for bytes in &sent {
                let action = relay.server.receive(relay.client, bytes, relay.now);
                assert!(matches!(action, Action::Media { .. } | Action::Relay { .. }), "{action:?}");
            }
            for peer in [MEDIA, MEDIA_BESIDE, LISTED] {
                let framing = relay.server.to_client(relay.allocation, peer.into(), 1200, 4, relay.now);
                assert!(framing.is_some_and(|it| it.head.is_channel() == (peer != MEDIA_BESIDE)));
            }
            assert!(relay.server.poll().is_none());
        }
        alloc::allocations() - before
    };
    round(1);
    assert_eq!(round(PACKETS_MIN), 0);
    assert_eq!(relay.server.counters().media_bytes[0], 2 * 1200 * (PACKETS_MIN + 1));
}
