//! Who hears and sees whom: demux, ICE-lite, DTLS, SRTP, SDP, rooms, tracks, egress. A pure machine: datagrams,
//! requests and time go in; datagrams and events come out.
//!
//! The way of a packet: [`Sfu::receive`] opens it and puts its plain text into the slab of its layer, once for all.
//! [`Sfu::next_run`] then goes from subscriber to subscriber, reads what each has not seen, and seals it into one run of
//! datagrams. Nothing on this way allocates once warm, and nothing is shared with another thread.
#![cfg_attr(test, allow(clippy::disallowed_methods))]

mod allocate;
mod allocator;
mod api;
mod congestion;
pub mod data;
mod describe;
mod downlink;
mod dtls;
mod durations;
mod egress;
mod feedback;
mod floor;
mod ice;
pub mod keyframe;
mod layers;
mod negotiation;
pub mod payload;
mod peer;
mod pipe;
mod program;
mod quality;
mod receive;
mod requests;
mod rights;
mod ring;
mod roam;
mod room;
pub mod rtcp;
pub mod rtp;
pub mod sdp;
mod shared;
mod snapshot;
mod speakers;
pub mod srtp;
mod subscribe;
mod subscription;
mod target;
mod track;
pub mod twcc;

pub use api::*;
pub use durations::{BOUNDS_US, Durations};
pub use pipe::{PipeBatch, Workers};
pub use snapshot::{LayerSnapshot, PeerSnapshot, SNAPSHOT_PEERS_MAX, Snapshot, SubscriptionSnapshot, TrackSnapshot};

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use rand::SeedableRng;
use rand::rngs::StdRng;
use slab::Slab;

use egress::Control;
use peer::Peer;
use room::Room;
use track::Track;

/// Most entries of [`Event::Speakers`].
pub const SPEAKERS_MAX: usize = 5;

/// How often a connected peer is sampled ([`Event::Sample`]).
pub const SAMPLE_INTERVAL: std::time::Duration = std::time::Duration::from_secs(5);

/// The certificate of a process: ECDSA P-256, self-signed, with a random serial (Firefox refuses a serial that it has seen).
#[derive(Clone)]
pub struct Certificate {
    /// The certificate, DER.
    pub certificate_der: Vec<u8>,
    /// The private key, PKCS#8 DER.
    pub private_key_der: Vec<u8>,
}

/// How an SFU is set up; one per worker.
#[derive(Clone)]
pub struct Config {
    /// The DTLS certificate, shared by all workers.
    pub certificate: Arc<Certificate>,
    /// The addresses and port of this worker that go into SDP as UDP host candidates, best first.
    pub udp_candidates: Vec<SocketAddr>,
    /// The same for passive TCP candidates (RFC 6544).
    pub tcp_candidates: Vec<SocketAddr>,
}

/// Point-in-time counts of one worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gauges {
    /// Rooms.
    pub rooms: usize,
    /// Peers.
    pub peers: usize,
    /// Peers whose ICE and DTLS are up.
    pub peers_connected: usize,
    /// Tracks.
    pub tracks: usize,
    /// Subscriptions.
    pub subscriptions: usize,
}

/// Whose timer it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    Peer(usize),
    Room(usize),
}

/// One worker's SFU.
pub struct Sfu {
    config: Config,
    identity: dtls::Identity,
    rng: StdRng,
    epoch: Instant,

    peers: Slab<Peer>,
    rooms: Slab<Room>,
    tracks: Slab<Track>,
    by_id: HashMap<PeerId, usize>,
    rooms_by_id: HashMap<RoomId, usize>,
    tracks_by_id: HashMap<TrackId, usize>,
    /// Paths from which a valid check came.
    paths: HashMap<Path, usize>,
    ufrags: HashMap<String, usize>,
    /// New paths by which peers were asked; who is not asked there any more may still stand here.
    roamers: HashMap<Path, usize>,
    lookups: roam::Lookups,

    timers: BinaryHeap<Reverse<(Instant, Timer)>>,
    outputs: VecDeque<Output>,
    control: Control,
    /// Tracks with packets that their subscribers have not been told of.
    fresh: Vec<usize>,
    ready_rooms: VecDeque<usize>,
    egress: Vec<u8>,
    scratch: Vec<u8>,
    sequences: Vec<u16>,
    allocation: allocate::Scratch,
    pipes: pipe::Pipes,
    counters: Counters,
    /// The peer that pays if what happens now panics.
    blame: Option<usize>,
    /// When the last thing happened.
    latest: Instant,
    /// When the datagram at hand came to us; it may have waited to be read.
    arrived: Instant,
}

impl Sfu {
    /// An SFU whose randomness comes from `seed`.
    pub fn new(config: Config, seed: [u8; 32], now: Now) -> Self {
        Sfu {
            identity: dtls::Identity::new(&config.certificate),
            config,
            rng: StdRng::from_seed(seed),
            epoch: now.mono,
            peers: Slab::new(),
            rooms: Slab::new(),
            tracks: Slab::new(),
            by_id: HashMap::new(),
            rooms_by_id: HashMap::new(),
            tracks_by_id: HashMap::new(),
            paths: HashMap::new(),
            ufrags: HashMap::new(),
            roamers: HashMap::new(),
            lookups: roam::Lookups::new(now.mono),
            timers: BinaryHeap::new(),
            outputs: VecDeque::new(),
            control: Control::default(),
            fresh: Vec::new(),
            ready_rooms: VecDeque::new(),
            egress: Self::egress_buffer(),
            scratch: Vec::with_capacity(2_048),
            sequences: Vec::new(),
            allocation: allocate::Scratch::default(),
            pipes: pipe::Pipes::default(),
            counters: Counters::default(),
            blame: None,
            latest: now.mono,
            arrived: now.mono,
        }
    }

    /// Takes one thing that happened. Never blocks, never fails: what cannot be understood is dropped and counted.
    pub fn handle(&mut self, input: Input<'_>, now: Now) {
        self.latest = now.mono;
        match input {
            Input::Datagram { path, bytes } => self.receive(path, bytes, now.mono, now),
            Input::PathClosed(path) => self.path_closed(path),
            Input::Request(request) => {
                self.guarded(now, |sfu| sfu.request(request, now));
            }
            Input::Tick => self.tick(now),
        }
    }

    /// The next thing to do, or `None`. Events wait here while signaling is slow; a request
    /// causes a few of them, and what time causes is one offer or one list of speakers at once.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Input::Tick`] is due if nothing happens before.
    pub fn deadline(&self) -> Option<Instant> {
        self.timers.peek().map(|Reverse((at, _))| *at)
    }

    /// Counters since start.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Whether somebody proved this path by a valid check and it has not been given up since. The shell closes connections
    /// that nobody proves.
    pub fn knows(&self, path: &Path) -> bool {
        self.paths.contains_key(path)
    }

    /// Point-in-time counts.
    pub fn gauges(&self) -> Gauges {
        Gauges {
            rooms: self.rooms.len(),
            peers: self.peers.iter().filter(|(_, p)| p.pipe.is_none()).count(),
            peers_connected: self.peers.iter().filter(|(_, p)| p.connected()).count(),
            tracks: self.tracks.iter().filter(|(_, track)| track.source_pipe.is_none()).count(),
            subscriptions: self.peers.iter().map(|(_, p)| p.subscriptions.len()).sum(),
        }
    }

    fn event(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }

    /// Runs `work`; if it panics, the peer to blame is removed and the others go on.
    fn guarded<T>(&mut self, now: Now, work: impl FnOnce(&mut Self) -> T) -> Option<T> {
        let done = catch_unwind(AssertUnwindSafe(|| work(self)));
        if done.is_err() {
            self.counters.peer_panics += 1;
            if let Some(key) = self.blame.take()
                && let Some(peer) = self.peers.get(key)
            {
                let (peer, stands_in) = (peer.id, peer.pipe.is_some());
                // Should its state be too broken even to be taken down, the rest of it is forgotten: the others go on.
                if catch_unwind(AssertUnwindSafe(|| self.remove_peer(key, now))).is_err() {
                    self.peers.try_remove(key);
                    self.by_id.remove(&peer);
                }
                // Who lives on another worker goes on there.
                if !stands_in {
                    self.event(Event::Closed { peer, reason: CloseReason::Internal });
                }
            }
        }
        done.ok()
    }

    /// Has a connection or allocation closed that nobody uses any more; a UDP address is nothing to close.
    fn close_path(&mut self, path: Path) {
        if !matches!(path, Path::Udp { .. }) {
            self.outputs.push_back(Output::ClosePath(path));
        }
    }

    fn path_closed(&mut self, path: Path) {
        if let Some(key) = self.paths.remove(&path)
            && let Some(peer) = self.peers.get_mut(key)
        {
            peer.ice.forget(path);
        }
    }

    /// Sees to it that a peer is looked at no later than `at`; what should have been before now is not late, but due now.
    fn arm(&mut self, key: usize, at: Instant) {
        let at = at.max(self.latest);
        let Some(peer) = self.peers.get_mut(key) else { return };
        if peer.due.is_none_or(|due| at < due) {
            peer.due = Some(at);
            self.timers.push(Reverse((at, Timer::Peer(key))));
        }
    }

    fn tick(&mut self, now: Now) {
        while let Some(Reverse((at, timer))) = self.timers.peek().copied() {
            if at > now.mono {
                break;
            }
            self.timers.pop();
            match timer {
                Timer::Peer(key) => {
                    if self.peers.get(key).is_some_and(|peer| peer.due == Some(at)) {
                        self.blame = Some(key);
                        self.guarded(now, |sfu| sfu.tick_peer(key, now));
                        self.blame = None;
                    }
                }
                Timer::Room(key) => {
                    self.guarded(now, |sfu| sfu.tick_room(key, at, now));
                }
            }
        }
    }

    fn tick_peer(&mut self, key: usize, now: Now) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        if peer.pipe.is_some() {
            return self.tick_stand_in(key, now);
        }
        if let Some(due) = peer.due.take() {
            peer.quality.note_late(now.mono.saturating_duration_since(due), now.mono);
        }
        let (id, connected) = (peer.id, peer.srtp.is_some());
        while let Some(consent) = self.peers.get_mut(key).and_then(|peer| peer.ice.consent_ends(now.mono)) {
            match consent {
                ice::Consent::Lost => self.event(Event::ConsentLost { peer: id }),
                // Who has not come yet has no path that could have died.
                _ if connected => self.event(Event::PathSilent { peer: id }),
                _ => {}
            }
        }
        self.tick_dtls(key, now);
        self.tick_data(key, now);
        self.offer_if_due(key, now);
        self.survey(key, now);
        self.allocate_if_due(key, now);
        self.send_feedback(key, now);
        self.judge(key, now);
        self.tick_downlink(key, now);
        let Some(peer) = self.peers.get(key) else { return };
        let dtls = peer.dtls.as_ref().filter(|_| peer.srtp.is_none()).and_then(dtls::Dtls::due);
        // Without a path nothing can be sent, however long it is due: the next check wakes the peer.
        let data = peer.data.as_ref().and_then(|channels| channels.deadline(now.mono));
        let paced = peer.has_video().then(|| peer.downlink.ready_at());
        let feedback = peer.feedback_deadline(&self.tracks);
        let judged = peer.srtp.as_ref().map(|_| peer.quality.due());
        let sends = [dtls, data, judged, feedback, peer.downlink.deadline(), paced].into_iter().flatten();
        let sends = sends.filter(|_| peer.ice.selected().is_some()).min();
        let survey = peer.published.iter().filter_map(|track| self.tracks.get(*track)?.survey_due).min();
        let next = [sends, peer.ice.consent_due(), peer.negotiation.offer_due(), survey, peer.allocation.due];
        if let Some(at) = next.into_iter().flatten().min() {
            // Never in the past: what was due has been done, and the rest can wait a moment.
            self.arm(key, at.max(now.mono + std::time::Duration::from_millis(1)));
        }
    }

    /// Resends handshake flights; once keys are there the library has nothing more to say in time.
    fn tick_dtls(&mut self, key: usize, now: Now) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        let Some(path) = peer.ice.selected() else { return };
        let Some(dtls) = &mut peer.dtls else { return };
        if dtls.due().is_none_or(|due| due > now.mono) {
            return;
        }
        let control = &mut self.control;
        let progress = dtls.tick(now.mono, |record| control.push(path, record));
        if !matches!(progress, dtls::Progress::Going) {
            self.dtls_progress(key, progress, now);
        }
    }

    fn remove_peer(&mut self, key: usize, now: Now) {
        self.unpublish_all(key, now);
        let Some(peer) = self.peers.try_remove(key) else { return };
        self.by_id.remove(&peer.id);
        for (_, subscription) in &peer.subscriptions {
            if let Some(track) = self.tracks.get_mut(subscription.track) {
                track.subscribers.retain(|s| s.peer != key);
            }
        }
        for path in peer.ice.paths() {
            self.paths.remove(&path);
            self.close_path(path);
        }
        for generation in [Some(&peer.ice.current), peer.ice.next.as_ref()].into_iter().flatten() {
            self.ufrags.remove(&generation.local.ufrag);
        }
        if let Some(room) = self.rooms.get_mut(peer.room) {
            room.forget(key);
            if room.peers.is_empty() {
                self.rooms_by_id.remove(&room.id);
                self.ready_rooms.retain(|r| *r != peer.room);
                self.rooms.remove(peer.room);
            }
        }
    }
}

#[cfg(test)]
mod tests;
