//! An SFU and clients in one process and in virtual time: what benches and tests stand on.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use sfu::{
    Certificate, Config, Event, Input, Kind, Now, Output, Path, PeerId, Request, RoomId, Sfu, Source, TrackHint,
};

use crate::peer::{ClientPeer, Heard, Identity, self_signed};

/// Where the SFU is.
pub const SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 7_882);
/// A step of virtual time in which nothing is due.
const IDLE_STEP: Duration = Duration::from_millis(20);

/// One room, its SFU and its clients. Datagrams arrive at once; only timers move time.
pub struct Hall {
    /// The SFU.
    pub sfu: Sfu,
    /// The clients; client *i* is `PeerId(first + i)`.
    pub clients: Vec<ClientPeer>,
    /// 0 but where there are several halls.
    pub first: u64,
    /// What each client heard.
    pub heard: Vec<Heard>,
    /// The present moment.
    pub now: Now,
    /// Events that are no descriptions, in order.
    pub events: Vec<Event>,
    /// Offers to each client.
    pub offers: Vec<u32>,
    /// Datagrams carried or lost so far.
    pub datagrams: u64,
    /// Datagrams to lose, by their number in `datagrams`.
    pub lose: Vec<u64>,
    identity: Identity,
    began: Instant,
}

impl Hall {
    /// An SFU whose randomness comes from `seed`, and nobody in it yet.
    pub fn new(seed: u8) -> Hall {
        Hall::nth(seed, 0, Instant::now())
    }

    /// One of several workers, whose clients have numbers of their own.
    pub fn nth(seed: u8, first: u64, now: Instant) -> Hall {
        let (certificate_der, private_key_der) = self_signed("sfu");
        let certificate = Arc::new(Certificate { certificate_der, private_key_der });
        let config = Config { certificate, udp_candidates: vec![SERVER], tcp_candidates: vec![] };
        let now = Now { mono: now, unix_ms: 1_700_000_000_000 };
        Hall {
            sfu: Sfu::new(config, [seed; 32], now),
            clients: Vec::new(),
            first,
            heard: Vec::new(),
            now,
            events: Vec::new(),
            offers: Vec::new(),
            datagrams: 0,
            lose: Vec::new(),
            identity: Identity::new(),
            began: now.mono,
        }
    }

    /// Lets a client in that publishes `kinds`; one that publishes nothing waits for the server's offer.
    pub fn join(&mut self, kinds: &[Kind]) -> usize {
        self.join_in(RoomId(1), kinds)
    }

    /// The same, into a room of several.
    pub fn join_in(&mut self, room: RoomId, kinds: &[Kind]) -> usize {
        let index = self.clients.len();
        let client = ClientPeer::new(self.identity.clone(), index as u64, kinds, index as u64);
        let peer = PeerId(self.first + index as u64);
        let participant: Arc<str> = format!("pa_{}", peer.0).into();
        self.request(Request::Join {
            peer,
            room,
            participant,
            auto_subscribe: true,
            offer_first: kinds.is_empty(),
            rights: Default::default(),
            codecs: Default::default(),
            view: Default::default(),
        });
        if !kinds.is_empty() {
            let hints = kinds.iter().enumerate().map(|(mid, kind)| TrackHint {
                mid: mid.to_string(),
                source: match kind {
                    Kind::Audio => Source::Microphone,
                    Kind::Video => Source::Camera,
                },
                muted: None,
            });
            self.request(Request::Offer { peer, sdp: client.offer(), tracks: hints.collect(), saw_ours: true });
        }
        self.clients.push(client);
        self.heard.push(Heard::default());
        self.offers.push(0);
        index
    }

    /// Tells the SFU something.
    pub fn request(&mut self, request: Request) {
        self.sfu.handle(Input::Request(request), self.now);
    }

    /// The path of client `index`.
    pub fn path(index: usize) -> Path {
        let [high, low] = (index as u16).to_be_bytes();
        let remote = SocketAddr::from(([10, 0, high, low], 50_000));
        Path::Udp { local: SERVER, remote }
    }

    pub(crate) fn index_of(path: Path) -> Option<usize> {
        match path {
            Path::Udp { remote: SocketAddr::V4(remote), .. } => {
                let [_, _, high, low] = remote.ip().octets();
                Some(usize::from(u16::from_be_bytes([high, low])))
            }
            _ => None,
        }
    }

    /// Moves virtual time.
    pub fn advance(&mut self, by: Duration) {
        self.now.mono += by;
        self.now.unix_ms = 1_700_000_000_000 + (self.now.mono - self.began).as_millis() as u64;
    }

    /// Carries everything that is due now, until nobody has anything to say.
    pub fn settle(&mut self) {
        loop {
            if self.sfu.deadline().is_some_and(|due| due <= self.now.mono) {
                self.sfu.handle(Input::Tick, self.now);
            }
            let mut moved = self.take_outputs();
            for index in 0..self.clients.len() {
                self.clients[index].tick(self.now.mono);
                while let Some(mut datagram) = self.clients[index].transmit() {
                    moved = true;
                    if self.carries() {
                        self.sfu.receive(Hall::path(index), &mut datagram, self.now.mono, self.now);
                    }
                }
            }
            moved |= self.deliver();
            if !moved {
                return;
            }
        }
    }

    /// Counts a datagram and says whether it arrives.
    fn carries(&mut self) -> bool {
        let number = self.datagrams;
        self.datagrams += 1;
        !self.lose.contains(&number)
    }

    /// Carries what the SFU wants to send; `false` when it was nothing.
    pub fn deliver(&mut self) -> bool {
        let mut moved = false;
        while let Some(run) = self.sfu.next_run(self.now) {
            moved = true;
            let Some(index) = Hall::index_of(run.path) else { continue };
            let datagrams: Vec<Vec<u8>> = run.datagrams().map(<[u8]>::to_vec).collect();
            for mut datagram in datagrams {
                if !self.carries() {
                    continue;
                }
                if let Some(received) = self.clients[index].handle(&mut datagram, self.now.mono) {
                    self.heard[index].note(&received);
                }
            }
        }
        moved
    }

    fn take_outputs(&mut self) -> bool {
        let mut moved = false;
        while let Some(output) = self.sfu.poll() {
            moved = true;
            match output {
                Output::Event(Event::Answer { peer, sdp, tracks }) => {
                    let client = &mut self.clients[(peer.0 - self.first) as usize];
                    client.lines = tracks;
                    client.handle_answer(&sdp, self.now.mono);
                }
                Output::Event(Event::Offer { peer, sdp, tracks }) => {
                    let index = (peer.0 - self.first) as usize;
                    self.offers[index] += 1;
                    let client = &mut self.clients[index];
                    client.lines = tracks;
                    let sdp = client.handle_offer(&sdp, self.now.mono);
                    self.request(Request::Answer { peer, sdp, tracks: Vec::new() });
                }
                Output::Event(event) => self.events.push(event),
                Output::ClosePath(_) => {}
            }
        }
        moved
    }

    /// Runs virtual time until `done`, for at most `limit`; says whether it came to that.
    pub fn run_until(&mut self, limit: Duration, done: impl Fn(&Hall) -> bool) -> bool {
        let end = self.now.mono + limit;
        loop {
            self.settle();
            if done(self) {
                return true;
            }
            if self.now.mono >= end {
                return false;
            }
            let due = self.clients.iter().filter_map(ClientPeer::deadline).chain(self.sfu.deadline()).min();
            let idle = self.now.mono + IDLE_STEP;
            let next = due.unwrap_or(idle).clamp(self.now.mono + Duration::from_millis(1), idle);
            self.advance(next - self.now.mono);
        }
    }

    /// Runs until all clients are connected; says whether they all came to be.
    pub fn connect_all(&mut self, limit: Duration) -> bool {
        self.run_until(limit, |hall| hall.clients.iter().all(ClientPeer::is_connected))
    }
}
