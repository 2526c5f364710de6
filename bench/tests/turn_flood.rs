//! What strangers ask of the TURN server leaves nothing behind.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bench::alloc;
use turn_server::stun::{Message, Method, TransactionId, Writer};
use turn_server::{Action, Client, Config, Limits, Now, Refusal, Server};

#[global_allocator]
static ALLOCATOR: alloc::Counting = alloc::Counting;

const REQUESTS: usize = 1_000_000;
/// Of 40 networks.
const PORTS: usize = 10_000;
/// More than the share of 40 networks, so that some are not answered.
const PER_MILLISECOND: usize = 20;

fn request(method: Method, with: impl FnOnce(Writer<'_>) -> Writer<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    with(Writer::request(&mut out, method, TransactionId([5; 12])));
    out
}

#[test]
#[allow(clippy::disallowed_methods)]
fn memory_does_not_grow_with_strangers() {
    let mut now = Now { mono: Instant::now(), unix_ms: 1_700_000_000_000 };
    let media: SocketAddr = "203.0.113.1:40000".parse().unwrap();
    let config = Config {
        realm: "lyceum".into(),
        secret: b"a secret".to_vec(),
        relayed: vec![media.ip()],
        media: vec![media],
        listed: Vec::new(),
        relay_ports: 50_000..=50_100,
        limits: Limits { allocations: 1_000, per_holder: 4, bandwidth_bps: 1_000_000 },
    };
    let mut server = Server::new(config, [1; 32], now);
    let kinds = [
        request(Method::BINDING, |it| it),
        request(Method::ALLOCATE, |it| it.requested_transport(17)),
        request(Method::ALLOCATE, |it| it.requested_transport(17).software("a client that says who it is, at length")),
        request(Method::REFRESH, |it| it.username("1700000060:x").realm("lyceum").nonce(b"x").integrity(b"x")),
        request(Method::CHANNEL_BIND, |it| it.username("1700000060:x").nonce(b"x").integrity(b"x")),
        vec![0x40, 0, 0, 4, 1, 2, 3, 4],
        vec![0; 30],
    ];
    let mut flood = |server: &mut Server, requests: usize| {
        let mut answered = 0;
        for number in 0..requests {
            if number % PER_MILLISECOND == 0 {
                now.mono += Duration::from_millis(1);
            }
            let port = number % PORTS;
            let ip = [192, 0, (port % 40) as u8, (port / 256) as u8];
            let client = Client::Udp { local: media, remote: SocketAddr::from((ip, port as u16)) };
            if let Action::Reply(reply) = server.receive(client, &kinds[number % kinds.len()], now) {
                assert!(Message::parse(reply).is_some());
                answered += 1;
            }
            assert!(server.poll().is_none());
        }
        answered
    };
    flood(&mut server, PORTS);
    let before = alloc::bytes();
    let answered = flood(&mut server, REQUESTS);
    assert_eq!(alloc::bytes(), before, "bytes held for {REQUESTS} requests, {answered} of them answered");
    let refused = |refusal: Refusal| {
        server.counters().refusals[Refusal::ALL.iter().position(|it| *it == refusal).expect("it is counted")]
    };
    assert!(answered > REQUESTS / 10, "{answered} answers");
    for refusal in [Refusal::Malformed, Refusal::Unauthenticated, Refusal::BadRequest, Refusal::RateLimited] {
        assert!(refused(refusal) > 1_000, "{refusal:?}: {}", refused(refusal));
    }
    assert!(server.deadline().is_none());
}
