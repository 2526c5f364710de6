//! The real SFU, publishers, receivers and the links between them, in one process and in virtual time.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use sfu::{Certificate, Config, Event, Input, Now, Output, Pause, PeerId, Request, RoomId, Sfu, Source, TrackHint};

use super::link::{Link, Weather};
use super::publisher::Publisher;
use super::receiver::Receiver;
use super::starved::{Starvation, Starved};
use crate::hall::{Hall, SERVER};
use crate::peer::{Identity, self_signed};

/// Signaling takes so long each way.
const SIGNALING_DELAY: Duration = Duration::from_millis(30);
/// Clients join over fair links and have so long for it.
pub const JOIN_TIME: Duration = Duration::from_secs(3);
/// The least step of virtual time.
const STEP_MIN: Duration = Duration::from_micros(100);
const UNIX_BEGAN_MS: u64 = 1_700_000_000_000;

/// Something on its way.
enum Thing {
    Up { from: usize, bytes: Vec<u8> },
    Down { to: usize, bytes: Vec<u8> },
    Request(Request),
    Description { to: usize, sdp: String, offer: bool },
}

/// Whom a peer is.
enum Role {
    Publisher(Box<Publisher>),
    Receiver(Box<Receiver>),
}

struct Client {
    role: Role,
    /// It may have no time for what has come.
    starved: Option<Starved>,
    came: VecDeque<Vec<u8>>,
    /// Indices of links.
    up: usize,
    down: usize,
}

/// A track was paused or resumed for a receiver.
#[derive(Clone, Copy, Debug)]
pub struct Paused {
    /// Which client.
    pub client: usize,
    /// When.
    pub at: Instant,
    /// Or resumed.
    pub paused: bool,
}

/// See the module.
pub struct Stage {
    /// The SFU.
    pub sfu: Sfu,
    /// All links.
    pub links: Vec<Link>,
    /// The present moment.
    pub now: Now,
    /// When it began.
    pub began: Instant,
    /// Pauses for want of bandwidth.
    pub pauses: Vec<Paused>,
    /// Estimates that the SFU told of, by client, with their moments.
    pub estimates: Vec<(usize, Instant, u64)>,
    clients: Vec<Client>,
    /// The SFU's worker may have no time, either: what came by then, from whom and when.
    starved: Option<Starved>,
    came: VecDeque<(usize, Instant, Vec<u8>)>,
    seed: u64,
    identity: Identity,
    under_way: BinaryHeap<Reverse<(Instant, u64, usize)>>,
    things: Vec<Option<Thing>>,
    free: Vec<usize>,
    next: u64,
}

impl Stage {
    /// An SFU and nobody in it.
    pub fn new(seed: u64) -> Stage {
        let (certificate_der, private_key_der) = self_signed("sfu");
        let certificate = Arc::new(Certificate { certificate_der, private_key_der });
        let config = Config { certificate, udp_candidates: vec![SERVER], tcp_candidates: vec![] };
        let now = Now { mono: Instant::now(), unix_ms: UNIX_BEGAN_MS };
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_be_bytes());
        Stage {
            sfu: Sfu::new(config, bytes, now),
            links: Vec::new(),
            now,
            began: now.mono,
            pauses: Vec::new(),
            estimates: Vec::new(),
            clients: Vec::new(),
            starved: None,
            came: VecDeque::new(),
            seed,
            identity: Identity::new(),
            under_way: BinaryHeap::new(),
            things: Vec::new(),
            free: Vec::new(),
            next: 0,
        }
    }

    /// Adds a link.
    pub fn link(&mut self, weather: Weather) -> usize {
        let seed = self.seed << 16 | self.links.len() as u64;
        self.links.push(Link::new(weather, seed, self.now.mono));
        self.links.len() - 1
    }

    /// Lets a publisher in; its index.
    pub fn publish(&mut self, layers: usize, redundancy: usize, up: usize, down: usize) -> usize {
        let (index, seed) = (self.clients.len(), self.seed << 8 | self.clients.len() as u64);
        let mut publisher = Publisher::new(self.identity.clone(), index as u8, layers, seed, self.began, UNIX_BEGAN_MS);
        publisher.redundancy = redundancy;
        self.join(index, false, false);
        let hint = |mid: &str, source| TrackHint { mid: mid.to_owned(), source, muted: None };
        let tracks = vec![hint("0", Source::Microphone), hint("1", Source::Camera)];
        let peer = PeerId(index as u64);
        let offer = Request::Offer { peer, sdp: publisher.offer(), tracks, saw_ours: true };
        self.deliver_at(Thing::Request(offer), self.now.mono + SIGNALING_DELAY);
        self.clients.push(Client::new(Role::Publisher(Box::new(publisher)), up, down));
        index
    }

    /// Lets a receiver in; its index.
    pub fn receive(&mut self, up: usize, down: usize) -> usize {
        let (index, seed) = (self.clients.len(), self.seed << 8 | self.clients.len() as u64);
        let receiver = Receiver::new(self.identity.clone(), index as u64, seed, self.began, UNIX_BEGAN_MS);
        self.join(index, true, true);
        self.clients.push(Client::new(Role::Receiver(Box::new(receiver)), up, down));
        index
    }

    /// From now on a client's machine is short of time, or has enough.
    pub fn starve(&mut self, index: usize, starvation: Option<Starvation>) {
        let seed = self.seed << 24 | index as u64;
        self.clients[index].starved = starvation.map(|it| Starved::new(it, seed, self.now.mono));
    }

    /// From now on the SFU's machine is short of time, or has enough.
    pub fn starve_sfu(&mut self, starvation: Option<Starvation>) {
        self.starved = starvation.map(|it| Starved::new(it, self.seed << 32, self.now.mono));
    }

    fn join(&mut self, index: usize, auto_subscribe: bool, offer_first: bool) {
        let join = Request::Join {
            peer: PeerId(index as u64),
            room: RoomId(1),
            participant: format!("pa_{index}").into(),
            auto_subscribe,
            offer_first,
            rights: Default::default(),
            codecs: Default::default(),
            view: Default::default(),
        };
        self.sfu.handle(Input::Request(join), self.now);
    }

    /// A receiver, by index.
    ///
    /// # Panics
    /// If that client is none.
    pub fn receiver(&self, index: usize) -> &Receiver {
        match &self.clients[index].role {
            Role::Receiver(receiver) => receiver,
            Role::Publisher(_) => panic!("client {index} publishes"),
        }
    }

    /// The publishers.
    pub fn publishers(&self) -> impl Iterator<Item = &Publisher> {
        self.clients.iter().filter_map(|client| match &client.role {
            Role::Publisher(publisher) => Some(&**publisher),
            Role::Receiver(_) => None,
        })
    }

    /// Runs virtual time until a moment.
    pub fn run_until(&mut self, end: Instant) {
        while self.now.mono < end {
            self.settle();
            let now = self.now.mono;
            let back = |starved: &mut Option<Starved>| starved.as_mut().and_then(|it| it.back_at(now));
            let sfu = back(&mut self.starved).or(self.sfu.deadline());
            let clients =
                self.clients.iter_mut().filter_map(|client| back(&mut client.starved).or(client.role.deadline()));
            let arrival = self.under_way.peek().map(|Reverse((at, ..))| *at);
            let due = clients.chain(sfu).chain(arrival).min().unwrap_or(end);
            self.now.mono = due.max(self.now.mono + STEP_MIN).min(end);
            self.now.unix_ms = UNIX_BEGAN_MS + (self.now.mono - self.began).as_millis() as u64;
        }
        self.settle();
    }

    /// Whether everybody is connected.
    pub fn connected(&self) -> bool {
        self.clients.iter().all(|client| match &client.role {
            Role::Publisher(publisher) => publisher.peer.is_connected(),
            Role::Receiver(receiver) => receiver.peer.is_connected(),
        })
    }

    fn settle(&mut self) {
        let now = self.now.mono;
        while let Some(Reverse((_, _, place))) = self.under_way.peek().copied().filter(|Reverse((at, ..))| *at <= now) {
            self.under_way.pop();
            self.free.push(place);
            if let Some(thing) = self.things[place].take() {
                self.arrive(thing);
            }
        }
        let sfu_away = self.starved.as_mut().is_some_and(|it| it.back_at(now).is_some());
        if !sfu_away {
            for (from, arrived, mut bytes) in self.came.drain(..) {
                self.sfu.receive(Hall::path(from), &mut bytes, arrived, self.now);
            }
            if self.sfu.deadline().is_some_and(|due| due <= now) {
                self.sfu.handle(Input::Tick, self.now);
            }
        }
        for index in 0..self.clients.len() {
            let client = &mut self.clients[index];
            if !client.catches_up(now) {
                continue;
            }
            client.role.tick(now);
            while let Some(bytes) = self.clients[index].role.transmit() {
                let link = self.clients[index].up;
                if let Some(at) = self.links[link].send(bytes.len(), now) {
                    self.deliver_at(Thing::Up { from: index, bytes }, at);
                }
            }
        }
        if !sfu_away {
            self.drain_sfu();
        }
    }

    fn deliver_at(&mut self, thing: Thing, at: Instant) {
        let place = self.free.pop().unwrap_or_else(|| {
            self.things.push(None);
            self.things.len() - 1
        });
        self.things[place] = Some(thing);
        self.under_way.push(Reverse((at, self.next, place)));
        self.next += 1;
    }

    fn arrive(&mut self, thing: Thing) {
        let now = self.now.mono;
        match thing {
            Thing::Up { from, bytes } => self.came.push_back((from, now, bytes)),
            Thing::Down { to, bytes } => self.clients[to].came.push_back(bytes),
            Thing::Request(request) => self.sfu.handle(Input::Request(request), self.now),
            Thing::Description { to, sdp, offer } => match &mut self.clients[to].role {
                Role::Publisher(publisher) if !offer => publisher.handle_answer(&sdp, now),
                Role::Receiver(receiver) if offer => {
                    let answer = receiver.handle_offer(&sdp, now);
                    let answer = Request::Answer { peer: PeerId(to as u64), sdp: answer, tracks: Vec::new() };
                    self.deliver_at(Thing::Request(answer), now + SIGNALING_DELAY);
                }
                _ => {}
            },
        }
    }

    fn drain_sfu(&mut self) {
        let now = self.now.mono;
        loop {
            let mut arrivals = Vec::new();
            let Some(run) = self.sfu.next_run(self.now) else { break };
            let Some(index) = Hall::index_of(run.path) else { continue };
            let link = &mut self.links[self.clients[index].down];
            for datagram in run.datagrams() {
                arrivals.extend(link.send(datagram.len(), now).map(|at| (at, datagram.to_vec())));
            }
            for (at, bytes) in arrivals {
                self.deliver_at(Thing::Down { to: index, bytes }, at);
            }
        }
        while let Some(output) = self.sfu.poll() {
            if let Output::Event(event) = output {
                self.take_event(event);
            }
        }
    }

    fn take_event(&mut self, event: Event) {
        let now = self.now.mono;
        match event {
            Event::Offer { peer, sdp, .. } => {
                let thing = Thing::Description { to: peer.0 as usize, sdp, offer: true };
                self.deliver_at(thing, now + SIGNALING_DELAY);
            }
            Event::Answer { peer, sdp, .. } => {
                let thing = Thing::Description { to: peer.0 as usize, sdp, offer: false };
                self.deliver_at(thing, now + SIGNALING_DELAY);
            }
            Event::Refused { peer, message, .. } => panic!("a description of {peer:?} was refused: {message}"),
            Event::LayersWanted { peer, layers, .. } => {
                if let Role::Publisher(publisher) = &mut self.clients[peer.0 as usize].role {
                    publisher.want_layers(&layers);
                }
            }
            Event::TrackPaused { peer, reason: Pause::Bandwidth, .. } => {
                self.pauses.push(Paused { client: peer.0 as usize, at: now, paused: true });
            }
            Event::TrackResumed { peer, reason: Pause::Bandwidth, .. } => {
                self.pauses.push(Paused { client: peer.0 as usize, at: now, paused: false });
            }
            Event::Sample { peer, sample } => {
                self.estimates.extend(sample.estimate_bps.map(|bps| (peer.0 as usize, now, bps)));
            }
            _ => {}
        }
    }
}

impl Client {
    fn new(role: Role, up: usize, down: usize) -> Client {
        Client { role, starved: None, came: VecDeque::new(), up, down }
    }

    /// Reads what has come, as far as there is time; whether there is time for more.
    fn catches_up(&mut self, now: Instant) -> bool {
        loop {
            if self.starved.as_mut().is_some_and(|it| it.back_at(now).is_some()) {
                return false;
            }
            let Some(mut bytes) = self.came.pop_front() else { return true };
            self.role.handle(&mut bytes, now);
            if let Some(starved) = &mut self.starved {
                starved.read(now);
                // Feedback may be due between two of them.
                self.role.tick(now);
            }
        }
    }
}

impl Role {
    fn tick(&mut self, now: Instant) {
        match self {
            Role::Publisher(publisher) => publisher.tick(now),
            Role::Receiver(receiver) => receiver.tick(now),
        }
    }

    fn deadline(&self) -> Option<Instant> {
        match self {
            Role::Publisher(publisher) => publisher.deadline(),
            Role::Receiver(receiver) => receiver.deadline(),
        }
    }

    fn transmit(&mut self) -> Option<Vec<u8>> {
        match self {
            Role::Publisher(publisher) => publisher.transmit(),
            Role::Receiver(receiver) => receiver.transmit(),
        }
    }

    fn handle(&mut self, datagram: &mut [u8], now: Instant) {
        match self {
            Role::Publisher(publisher) => publisher.handle(datagram, now),
            Role::Receiver(receiver) => receiver.handle(datagram, now),
        }
    }
}
