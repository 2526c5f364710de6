//! Random requests and time, held against a small model of what RFC 8656 and our limits ask for.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use turn_server::stun::{Message, Method, TransactionId, Writer};
use turn_server::{Action, AllocationId, Client, Config, Input, Limits, Output, StreamId};

use crate::world::*;

const HOLDERS: [&str; 3] = ["ada", "bob", "cyd"];
/// Half by UDP, half by a stream.
const CLIENTS: usize = 6;
const PEERS: [&str; 7] =
    [MEDIA, MEDIA_B, "203.0.113.10:9", "198.51.100.7:4000", "198.51.100.7:4001", "192.0.2.77:1", MEDIA6];
const LIMITS: Limits = Limits { allocations: 5, per_holder: 3, bandwidth_bps: u64::MAX };
/// So few that they run out.
const RELAY_PORTS: std::ops::RangeInclusive<u16> = 50_001..=50_006;
const BINDS_MAX: usize = 8;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Ports {
    Any,
    Even,
    Pair,
    /// The token that was given last, if there is any.
    Token,
}

#[derive(Clone, Debug)]
enum Op {
    Grant(usize),
    Revoke(usize),
    Allocate { client: usize, holder: usize, expired: bool, ports: Ports, ipv6: bool, fails: usize },
    Again { client: usize, holder: usize },
    Refresh { client: usize, holder: usize, lifetime_s: u32 },
    Permit { client: usize, holder: usize, peers: Vec<usize> },
    Bind { client: usize, holder: usize, channel: u16, peer: usize },
    Send { client: usize, peer: usize },
    Data { client: usize, channel: u16 },
    FromPeer { client: usize, peer: usize },
    Hangup(usize),
    Wait(u64),
}

fn op() -> impl Strategy<Value = Op> {
    let (client, holder, peer) = (0..CLIENTS, prop_oneof![4 => Just(0), 1 => 1..HOLDERS.len()], 0..PEERS.len());
    // Mostly one's own: client n is used by holder n mod 3.
    let holder_of = move |client: usize| holder.clone().prop_map(move |it| (client + it) % HOLDERS.len());
    let both = client.clone().prop_flat_map(move |it| (Just(it), holder_of(it)));
    let ports =
        prop_oneof![4 => Just(Ports::Any), 1 => Just(Ports::Even), 2 => Just(Ports::Pair), 2 => Just(Ports::Token)];
    let fails = prop_oneof![8 => Just(0usize), 1 => 1..10usize];
    let lifetime = prop_oneof![1 => Just(0), 3 => 1..5000u32];
    let channel = prop_oneof![1 => Just(0x3fffu16), 9 => 0x4000..0x4003u16];
    let some_peers = prop::collection::vec(peer.clone(), 0..3);
    // Where something expires, and anywhere.
    let edge = prop::sample::select(vec![1, 29, 30, 299, 300, 600]);
    let time = prop_oneof![2 => edge, 4 => 1..60u64, 1 => 60..301u64, 1 => 301..1200u64];
    prop_oneof![
        3 => (0..HOLDERS.len()).prop_map(Op::Grant),
        1 => (0..HOLDERS.len()).prop_map(Op::Revoke),
        12 => (both.clone(), prop::bool::weighted(0.1), ports, prop::bool::weighted(0.1), fails).prop_map(
            |((client, holder), expired, ports, ipv6, fails)| Op::Allocate { client, holder, expired, ports, ipv6, fails }
        ),
        2 => both.clone().prop_map(|(client, holder)| Op::Again { client, holder }),
        4 => (both.clone(), lifetime).prop_map(|((client, holder), lifetime_s)| Op::Refresh { client, holder, lifetime_s }),
        8 => (both.clone(), some_peers).prop_map(|((client, holder), peers)| Op::Permit { client, holder, peers }),
        8 => (both, channel.clone(), peer.clone())
            .prop_map(|((client, holder), channel, peer)| Op::Bind { client, holder, channel, peer }),
        8 => (client.clone(), peer.clone()).prop_map(|(client, peer)| Op::Send { client, peer }),
        8 => (client.clone(), channel).prop_map(|(client, channel)| Op::Data { client, channel }),
        8 => (client.clone(), peer).prop_map(|(client, peer)| Op::FromPeer { client, peer }),
        1 => client.prop_map(Op::Hangup),
        4 => time.prop_map(Op::Wait),
    ]
}

/// Seconds since the start; nothing here happens between two.
type Time = u64;

#[derive(Clone, Debug)]
struct Allocation {
    holder: usize,
    transaction: u32,
    ipv6: bool,
    port: u16,
    expires: Time,
    permissions: BTreeMap<std::net::IpAddr, Time>,
    channels: BTreeMap<u16, (usize, Time)>,
    reached: BTreeSet<usize>,
    id: Option<AllocationId>,
}

#[derive(Debug)]
struct Reservation {
    holder: usize,
    port: u16,
    expires: Time,
}

/// What the server should hold, said as simply as possible.
#[derive(Debug, Default)]
struct Model {
    listed: bool,
    now: Time,
    granted: BTreeSet<usize>,
    allocations: BTreeMap<usize, Allocation>,
    reservations: BTreeMap<[u8; 8], Reservation>,
    token: Option<[u8; 8]>,
    /// What has ended since somebody looked: streams to be closed, media paths closed, sockets unbound.
    ended: (Vec<StreamId>, Vec<usize>, usize),
}

impl Model {
    fn end(&mut self, client: usize, hang_up: bool) {
        let Some(allocation) = self.allocations.remove(&client) else { return };
        if let (true, Client::Stream { stream, .. }) = (hang_up, client_of(client)) {
            self.ended.0.push(stream);
        }
        self.ended.1.extend(allocation.reached);
        self.ended.2 += usize::from(self.listed);
    }

    fn wait(&mut self, seconds: u64) {
        self.now += seconds;
        let over: Vec<_> =
            self.allocations.iter().filter(|(_, it)| it.expires <= self.now).map(|(it, _)| *it).collect();
        over.into_iter().for_each(|it| self.end(it, true));
        let now = self.now;
        self.reservations.retain(|_, it| it.expires > now);
    }

    fn revoke(&mut self, holder: usize) {
        self.granted.remove(&holder);
        let over: Vec<_> = self.allocations.iter().filter(|(_, it)| it.holder == holder).map(|(it, _)| *it).collect();
        over.into_iter().for_each(|it| self.end(it, true));
        self.reservations.retain(|_, it| it.holder != holder);
    }

    /// The code of an Allocate request that is no repetition; 0 if a port has to be found.
    fn allocate(&self, client: usize, holder: usize, expired: bool, ports: Ports, ipv6: bool) -> u16 {
        if self.allocations.contains_key(&client) {
            return 437;
        }
        if expired || !self.granted.contains(&holder) {
            return 401;
        }
        let reserved = self.token.and_then(|it| self.reservations.get(&it)).filter(|it| it.holder == holder);
        let more = match ports {
            Ports::Token if reserved.is_none() => return 508,
            Ports::Token => 0,
            Ports::Pair => 2,
            _ => 1,
        };
        let of = self.allocations.values().filter(|it| it.holder == holder).count()
            + self.reservations.values().filter(|it| it.holder == holder).count();
        if of + more > LIMITS.per_holder {
            return 486;
        }
        if self.allocations.len() + self.reservations.len() + more > LIMITS.allocations {
            return 508;
        }
        if ports != Ports::Token && !self.range().any(|port| self.fits(port, ports, ipv6)) {
            return 508;
        }
        0
    }

    fn range(&self) -> std::ops::RangeInclusive<u16> {
        if self.listed { RELAY_PORTS } else { 49152..=65535 }
    }

    /// Whether a port can be given for this wish. Reservations are all of IPv4.
    fn fits(&self, port: u16, ports: Ports, ipv6: bool) -> bool {
        let free = |port: u16| {
            self.range().contains(&port)
                && !self.allocations.values().any(|it| (it.port, it.ipv6) == (port, ipv6))
                && (ipv6 || !self.reservations.values().any(|it| it.port == port))
        };
        match ports {
            Ports::Any => free(port),
            Ports::Even => port.is_multiple_of(2) && free(port),
            Ports::Pair => port.is_multiple_of(2) && free(port) && free(port + 1),
            Ports::Token => self.token.and_then(|it| self.reservations.get(&it)).is_some_and(|it| it.port == port),
        }
    }

    /// The code with which all but Allocate begin.
    fn owned(&mut self, client: usize, holder: usize) -> Result<&mut Allocation, u16> {
        match self.allocations.get_mut(&client) {
            None => Err(437),
            Some(it) if it.holder != holder => Err(441),
            Some(it) => Ok(it),
        }
    }

    fn refresh(&mut self, client: usize, holder: usize, lifetime_s: u32) -> u16 {
        let now = self.now;
        match self.owned(client, holder) {
            Err(code) => return code,
            Ok(_) if lifetime_s == 0 => self.end(client, false),
            Ok(it) => it.expires = now + u64::from(lifetime_s.clamp(600, 3600)),
        }
        0
    }

    fn permit(&mut self, client: usize, holder: usize, peers: &[usize]) -> u16 {
        let (now, listed) = (self.now, self.listed);
        let allocation = match self.owned(client, holder) {
            Err(code) => return code,
            Ok(it) => it,
        };
        for peer in peers {
            match (at(PEERS[*peer]).is_ipv6() == allocation.ipv6, *peer) {
                (false, _) => return 443,
                (true, 0 | 1 | 2 | 6) => {}
                (true, 3 | 4) if listed => {}
                _ => return 403,
            }
        }
        for peer in peers {
            allocation.permissions.insert(at(PEERS[*peer]).ip(), now + 300);
        }
        if peers.is_empty() { 400 } else { 0 }
    }

    fn bind(&mut self, client: usize, holder: usize, channel: u16, peer: usize) -> u16 {
        let (now, listed) = (self.now, self.listed);
        let allocation = match self.owned(client, holder) {
            Err(code) => return code,
            Ok(it) => it,
        };
        if channel < 0x4000 {
            return 400;
        }
        if at(PEERS[peer]).is_ipv6() != allocation.ipv6 {
            return 443;
        }
        if !reachable(peer, listed) {
            return 403;
        }
        allocation.channels.retain(|_, (_, expires)| *expires > now);
        let taken = |(number, (bound, _)): (&u16, &(usize, Time))| (*number == channel) != (*bound == peer);
        if allocation.channels.iter().any(taken) {
            return 400;
        }
        allocation.channels.insert(channel, (peer, now + 600));
        allocation.permissions.insert(at(PEERS[peer]).ip(), now + 300);
        0
    }

    /// Whether payload passes between an allocation and a peer, in either direction.
    fn passes(&self, client: usize, peer: usize) -> bool {
        let permitted = |it: &Allocation| it.permissions.get(&at(PEERS[peer]).ip()).is_some_and(|it| *it > self.now);
        self.allocations.get(&client).is_some_and(permitted)
    }

    fn channel(&self, client: usize, channel: u16) -> Option<usize> {
        let (peer, expires) = self.allocations.get(&client)?.channels.get(&channel)?;
        (*expires > self.now && self.passes(client, *peer)).then_some(*peer)
    }
}

fn reachable(peer: usize, listed: bool) -> bool {
    matches!(peer, 0 | 1 | 6) || listed && matches!(peer, 3 | 4)
}

fn is_media(peer: usize) -> bool {
    matches!(peer, 0 | 1 | 6)
}

fn client_of(client: usize) -> Client {
    if client.is_multiple_of(2) {
        User::new("", 5000 + client as u16).client
    } else {
        User::by_stream("", client as u64).client
    }
}

/// The server, the model, and all who may ask.
struct Pair {
    world: World,
    model: Model,
    /// By client, holder and whether the credential is expired.
    users: BTreeMap<(usize, usize, bool), User>,
    /// Of allocations that are over.
    dead: Vec<AllocationId>,
}

impl Pair {
    fn new(listed: bool) -> Self {
        let config = if listed { listing() } else { config() };
        let mut users = BTreeMap::new();
        for client in 0..CLIENTS {
            for (holder, name) in HOLDERS.into_iter().enumerate() {
                for expired in [false, true] {
                    let expires = if expired { UNIX_S } else { UNIX_S + 1_000_000 };
                    let mut user = User::by(client_of(client), name, expires);
                    // So that no two use one transaction id by chance.
                    user.transactions = 100_000 * (1 + holder as u32 * 2 + u32::from(expired));
                    users.insert((client, holder, expired), user);
                }
            }
        }
        Pair {
            world: World::new(Config { limits: LIMITS, relay_ports: RELAY_PORTS, ..config }),
            model: Model { listed, ..Model::default() },
            users,
            dead: vec![],
        }
    }

    fn ask(&mut self, client: usize, holder: usize, method: Method, fill: impl Fn(Writer<'_>) -> Writer<'_>) -> u16 {
        let user = self.users.get_mut(&(client, holder, false)).expect("there is one");
        let seen = user.ask(&mut self.world, method, fill);
        self.ended(&seen);
        codes(&seen)
    }

    /// Holds what the shell is told of ends against the model.
    fn ended(&mut self, seen: &[Seen]) {
        let (mut streams, mut paths, mut sockets) = std::mem::take(&mut self.model.ended);
        let (mut hung_up, mut closed, mut unbound) = (vec![], vec![], 0);
        for it in seen {
            match it {
                Seen::Out(Output::Hangup { stream }) => hung_up.push(*stream),
                Seen::Out(Output::PathClosed { allocation, peer, .. }) => {
                    closed.push(PEERS.iter().position(|it| at(it) == *peer).expect("one of ours"));
                    self.dead.push(*allocation);
                }
                Seen::Out(Output::Unbind { .. }) => unbound += 1,
                _ => {}
            }
        }
        for list in [&mut paths, &mut closed] {
            list.sort();
        }
        streams.sort();
        hung_up.sort();
        assert_eq!((hung_up, closed, unbound), (streams, paths, std::mem::take(&mut sockets)));
    }

    fn step(&mut self, op: &Op) {
        match *op {
            Op::Grant(holder) => {
                self.model.granted.insert(holder);
                self.world.grant(HOLDERS[holder]);
            }
            Op::Revoke(holder) => {
                self.model.revoke(holder);
                let seen = self.world.revoke(HOLDERS[holder]);
                self.ended(&seen);
            }
            Op::Hangup(client) => {
                let Client::Stream { stream, .. } = client_of(client) else { return };
                self.model.end(client, false);
                let seen = self.world.handle(Input::StreamClosed { stream });
                self.ended(&seen);
            }
            Op::Wait(seconds) => {
                self.model.wait(seconds);
                let seen = self.world.wait(seconds);
                self.ended(&seen);
            }
            Op::Allocate { client, holder, expired, ports, ipv6, fails } => {
                self.allocate(
                    client,
                    holder,
                    expired,
                    ports,
                    ipv6 && ports != Ports::Token && ports != Ports::Pair,
                    fails,
                );
            }
            Op::Again { client, holder } => self.again(client, holder),
            Op::Refresh { client, holder, lifetime_s } => {
                let expected = self.model.refresh(client, holder, lifetime_s);
                assert_eq!(self.ask(client, holder, Method::REFRESH, |it| it.lifetime(lifetime_s)), expected);
            }
            Op::Permit { client, holder, ref peers } => {
                let expected = self.model.permit(client, holder, peers);
                let code = self.ask(client, holder, Method::CREATE_PERMISSION, |it| {
                    peers.iter().fold(it, |it, peer| it.xor_peer_address(at(PEERS[*peer])))
                });
                assert_eq!(code, expected);
            }
            Op::Bind { client, holder, channel, peer } => {
                let expected = self.model.bind(client, holder, channel, peer);
                let code = self.ask(client, holder, Method::CHANNEL_BIND, |it| {
                    it.channel_number(channel).xor_peer_address(at(PEERS[peer]))
                });
                assert_eq!(code, expected);
            }
            Op::Send { client, peer } => {
                let passes = self.model.passes(client, peer) && reachable(peer, self.model.listed);
                let mut bytes = vec![];
                let writer = Writer::indication(&mut bytes, Method::SEND, TransactionId([9; 12]));
                writer.xor_peer_address(at(PEERS[peer])).data(b"payload");
                self.forward(client, &bytes, passes.then_some(peer));
            }
            Op::Data { client, channel } => {
                let [c0, c1] = channel.to_be_bytes();
                self.forward(client, &[c0, c1, 0, 2, 1, 2, 0, 0], self.model.channel(client, channel));
            }
            Op::FromPeer { client, peer } => self.answer(client, peer),
        }
        assert_eq!(self.world.allocations(), self.model.allocations.len() as u64);
        let timers = self.model.allocations.len() + self.model.reservations.len();
        assert_eq!(self.world.server.deadline().is_some(), timers > 0);
    }

    fn allocate(&mut self, client: usize, holder: usize, expired: bool, ports: Ports, ipv6: bool, fails: usize) {
        let mut expected = self.model.allocate(client, holder, expired, ports, ipv6);
        let token = self.model.token.unwrap_or([1; 8]);
        let user = self.users.get_mut(&(client, holder, expired)).expect("there is one");
        let mut seen = user.ask(&mut self.world, Method::ALLOCATE, |it| {
            let it = it.requested_transport(UDP);
            let it = if ipv6 { it.requested_address_family(2) } else { it };
            match ports {
                Ports::Any => it,
                Ports::Even => it.even_port(false),
                Ports::Pair => it.even_port(true),
                Ports::Token => it.reservation_token(token),
            }
        });
        let transaction = user.transactions;
        let mut id = None;
        if self.model.listed && expected == 0 {
            for left in (0..=fails).rev() {
                let [Seen::Out(Output::Bind { allocation, relayed })] = seen[..] else { break };
                assert!(self.model.fits(relayed.port(), ports, ipv6), "{relayed} for {ports:?}");
                id = Some(allocation);
                seen = self.world.handle(Input::Bound { allocation, there: left == 0 });
            }
            if ports == Ports::Token {
                expected = if fails > 0 { 508 } else { 0 };
            } else if fails >= BINDS_MAX {
                expected = 508;
            }
        }
        self.ended(&seen);
        assert_eq!(codes(&seen), expected, "{seen:?}");
        if expected == 508 && ports == Ports::Token && self.model.listed && id.is_some() {
            self.model.reservations.remove(&token);
        }
        if expected != 0 {
            return;
        }
        let answer = Message::parse(&self.world.answer).unwrap();
        let port = answer.xor_relayed_address().unwrap().port();
        assert!(self.model.fits(port, ports, ipv6), "{port} for {ports:?}");
        assert_eq!(answer.reservation_token().is_some(), ports == Ports::Pair);
        if ports == Ports::Token {
            self.model.reservations.remove(&token);
        }
        if let Some(token) = answer.reservation_token() {
            let reservation = Reservation { holder, port: port + 1, expires: self.model.now + 30 };
            self.model.reservations.insert(token, reservation);
            self.model.token = Some(token);
        }
        let allocation = Allocation {
            holder,
            transaction,
            ipv6,
            port,
            expires: self.model.now + 600,
            permissions: BTreeMap::new(),
            channels: BTreeMap::new(),
            reached: BTreeSet::new(),
            id,
        };
        self.model.allocations.insert(client, allocation);
    }

    /// Repeats the request that made an allocation.
    fn again(&mut self, client: usize, holder: usize) {
        let Some(allocation) = self.model.allocations.get(&client) else { return };
        let user = &self.users[&(client, holder, false)];
        let repeat = user.request_in(allocation.transaction, Method::ALLOCATE, |it| it.requested_transport(UDP));
        let seen = self.world.receive(client_of(client), &repeat);
        match codes(&seen) {
            // The nonce of this one is old, or it has none yet.
            438 | 401 => {}
            code => assert_eq!(code, if holder == allocation.holder { 0 } else { 437 }),
        }
    }

    fn forward(&mut self, client: usize, bytes: &[u8], peer: Option<usize>) {
        let action = self.world.server.receive(client_of(client), bytes, self.world.now);
        let to = match &action {
            Action::Nothing => None,
            Action::Media { allocation, peer, .. } => Some((*allocation, *peer, true)),
            Action::Relay { allocation, peer, .. } => Some((*allocation, *peer, false)),
            Action::Reply(_) => panic!("{action:?}"),
        };
        assert_eq!(to.map(|(_, to, way)| (to, way)), peer.map(|it| (at(PEERS[it]), is_media(it))));
        while let Some(output) = self.world.server.poll() {
            assert!(matches!(output, Output::Forbidden { .. }));
        }
        let (Some((id, ..)), Some(peer)) = (to, peer) else { return };
        let allocation = self.model.allocations.get_mut(&client).expect("payload passes");
        assert!(!self.dead.contains(&id) && allocation.id.is_none_or(|it| it == id));
        allocation.id = Some(id);
        if is_media(peer) {
            allocation.reached.insert(peer);
        }
    }

    fn answer(&mut self, client: usize, peer: usize) {
        for dead in &self.dead {
            assert_eq!(self.world.server.to_client(*dead, at(PEERS[peer]), 7, 1, self.world.now), None);
        }
        let Some(allocation) = self.model.allocations.get(&client) else { return };
        let Some(id) = allocation.id else { return };
        let framing = self.world.server.to_client(id, at(PEERS[peer]), 7, 1, self.world.now);
        assert_eq!(framing.is_some(), self.model.passes(client, peer));
        let channel = |number: &u16| self.model.channel(client, *number) == Some(peer);
        let channel = allocation.channels.keys().copied().find(channel);
        if let Some(framing) = framing {
            assert_eq!(framing.to, client_of(client));
            let head = channel.map(|it| [&it.to_be_bytes()[..], &[0, 7]].concat());
            assert_eq!(framing.head.is_channel(), head.is_some());
            assert!(head.is_none_or(|it| it == framing.head.as_slice()));
        }
    }

    /// When all is over, all is there again.
    fn nothing_is_left(&mut self) {
        self.step(&Op::Wait(3600));
        assert_eq!((self.world.allocations(), self.world.server.deadline()), (0, None));
        for holder in 0..HOLDERS.len() {
            self.step(&Op::Grant(holder));
        }
        for client in 0..CLIENTS {
            let ports = if client == 0 { Ports::Pair } else { Ports::Any };
            self.step(&Op::Allocate { client, holder: client % 3, expired: false, ports, ipv6: false, fails: 0 });
        }
        assert_eq!(self.model.allocations.len() + self.model.reservations.len(), LIMITS.allocations);
    }
}

fn codes(seen: &[Seen]) -> u16 {
    let codes: Vec<_> =
        seen.iter().filter_map(|it| if let Seen::Answer(code) = it { Some(*code) } else { None }).collect();
    assert_eq!(codes.len(), 1, "{seen:?}");
    codes[0]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_server_does_what_the_model_does(listed: bool, ops in prop::collection::vec(op(), 1..150)) {
        let mut pair = Pair::new(listed);
        for holder in 0..HOLDERS.len() {
            pair.step(&Op::Grant(holder));
        }
        for op in &ops {
            pair.step(op);
        }
        pair.nothing_is_left();
    }
}
