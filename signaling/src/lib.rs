//! Who is in which room and what may be said: wire messages, seats, roles, limits. A pure machine.
#![cfg_attr(test, allow(clippy::disallowed_methods))]

mod access;
mod api;
pub mod attendance;
mod chat;
mod code;
mod command;
mod drain;
mod events;
mod fact;
mod flow;
mod history;
mod ice;
mod inspect;
mod join;
pub mod limits;
mod media;
mod meeting;
mod mesh;
mod moderation;
mod relay;
mod room;
mod roster;
mod seat;
mod socket;
mod spread;
mod tokens;
mod waiting;
mod whip;
mod wire;

pub use access::{Identity, Permissions, Role};
pub use api::*;
pub use code::ErrorCode;
pub use fact::{Alive, Fact, FactId, Reason};
pub use ice::{IceServers, TurnServer};
pub use room::{RoomSettings, SameUser};
pub use wire::name;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::Value;
use serde_json::value::RawValue;
use sfu::{PeerId, RoomId};

use room::Room;
use seat::{Place, Seat};
use socket::Socket;
use tokens::{HolderId, TokenHolder};
use waiting::{Queue, QueueId};
use whip::Resource;
use wire::encode;

/// All rooms as people see them.
#[derive(Debug)]
pub struct Lobby {
    config: Config,
    room_settings: RoomSettings,
    /// Rules of sessions of their own: at most [`limits::SETTINGS_MAX`].
    settings: BTreeMap<Arc<str>, RoomSettings>,
    rng: StdRng,
    sockets: BTreeMap<SocketId, Socket>,
    /// Sockets per source address.
    addresses: BTreeMap<IpAddr, usize>,
    rooms: BTreeMap<RoomId, Room>,
    /// Rooms by the application's name.
    sessions: BTreeMap<Arc<str>, RoomId>,
    peers: BTreeMap<PeerId, Place>,
    /// What WHIP and WHEP clients hold, by id.
    resources: BTreeMap<Arc<str>, Resource>,
    /// The same, by peer.
    resource_peers: BTreeMap<PeerId, Arc<str>>,
    /// Who waits to be admitted.
    waiting: BTreeMap<QueueId, Queue>,
    /// The same, by session.
    queues: BTreeMap<Arc<str>, QueueId>,
    /// Tokens that are refused, and until when, Unix ms: at most [`limits::REVOKED_MAX`].
    revoked: BTreeMap<Arc<str>, u64>,
    /// Who holds TURN credentials by a token: at most [`limits::TOKEN_HOLDERS_MAX`].
    token_holders: BTreeMap<HolderId, TokenHolder>,
    workers: Vec<Load>,
    /// Peers of a room on one worker from which on the next are placed on another; 0 never.
    spread_at: usize,
    /// Snapshots of which some workers have not told their part: at most [`limits::SNAPSHOTS_MAX`].
    snapshots: BTreeMap<u64, spread::Gathered>,
    seats: usize,
    /// How many facts there were.
    facts: u64,
    /// The time of the present input; `None` before the first.
    now: Option<Now>,
    /// The last number minted, of whatever kind.
    minted: u64,
    timers: BTreeSet<(Instant, Timer)>,
    /// Meetings with nobody there, and when they end.
    empty: BTreeSet<(Instant, RoomId)>,
    /// Facts can be written down.
    is_recording: bool,
    /// When the server ends, Unix ms, once that is known.
    draining: Option<u64>,
    /// The server is about to end.
    is_stopping: bool,
    /// Rooms whose roster changed by the present input.
    dirty: BTreeSet<RoomId>,
    /// Drained by the shell after each input, so bounded by what one input can cause: a message to each seat of a room, what
    /// [`limits::EARLY_EVENTS_MAX`] events do, and a heartbeat's fact for each room.
    out: VecDeque<Output>,
}

/// How the lobby is set up.
#[derive(Clone, Debug)]
pub struct Config {
    /// Media workers, at least 1: rooms are spread over them.
    pub workers: usize,
    /// What clients are told of STUN and TURN servers.
    pub ice: IceServers,
    /// How long a dropped socket keeps its seat, ms.
    pub grace_ms: u64,
    /// How long a meeting stays open with nobody there, ms; see [`limits::EMPTY_TIMEOUT`].
    pub empty_timeout_ms: u64,
}

/// Counts for metrics and health.
#[derive(Clone, Copy, Debug, Default)]
pub struct Gauges {
    /// Sockets connected.
    pub sockets: usize,
    /// Rooms with at least one seat.
    pub rooms: usize,
    /// Seats.
    pub participants: usize,
}

/// What a worker carries. The fields' order is the order in which they decide where the next room goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Load {
    peers: usize,
    rooms: usize,
}

/// What a deadline is for. Each is armed at most once at a time, by its owner's field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    /// A socket's oldest early event has waited long enough.
    Early(SocketId),
    /// A seat's grace time is over.
    Grace(Place),
    /// A room's roster may be told again.
    Roster(RoomId),
    /// Who waits may be told again.
    Waiting(QueueId),
    /// A seat's token ends soon.
    Renew(Place),
    /// A token with TURN credentials has ended.
    Holder(HolderId),
    /// A meeting has waited long enough for somebody to come back.
    Empty(RoomId),
    /// A WHIP or WHEP client has waited long enough for its answer.
    Offer(PeerId),
}

impl Lobby {
    /// A lobby whose randomness comes from `seed`.
    pub fn new(config: Config, seed: [u8; 32]) -> Self {
        Lobby {
            workers: vec![Load::default(); config.workers.max(1)],
            config,
            room_settings: RoomSettings::default(),
            settings: BTreeMap::new(),
            rng: StdRng::from_seed(seed),
            sockets: BTreeMap::new(),
            addresses: BTreeMap::new(),
            rooms: BTreeMap::new(),
            sessions: BTreeMap::new(),
            peers: BTreeMap::new(),
            resources: BTreeMap::new(),
            resource_peers: BTreeMap::new(),
            waiting: BTreeMap::new(),
            queues: BTreeMap::new(),
            revoked: BTreeMap::new(),
            token_holders: BTreeMap::new(),
            spread_at: 0,
            snapshots: BTreeMap::new(),
            seats: 0,
            facts: 0,
            now: None,
            minted: 0,
            timers: BTreeSet::new(),
            empty: BTreeSet::new(),
            is_recording: true,
            draining: None,
            is_stopping: false,
            dirty: BTreeSet::new(),
            out: VecDeque::new(),
        }
    }

    /// The rules of rooms that begin from now on.
    pub fn set_room_settings(&mut self, settings: RoomSettings) {
        self.room_settings = settings;
    }

    /// How many peers of a room one worker has at most while others have fewer; with 0 a room stays on one worker. Of rooms
    /// that go on, only newcomers are placed by it.
    pub fn set_spread(&mut self, peers: usize) {
        self.spread_at = peers;
    }

    /// Takes one thing that happened. Never blocks, never fails.
    pub fn handle(&mut self, input: Input, now: Now) {
        self.now = Some(now);
        // First what is due: that a grace time is over must not depend on how late the shell's tick is.
        self.fire(now);
        match input {
            Input::Connected { socket, address, identity } => self.connected(socket, address, identity),
            Input::Event { socket, name, payload, ack } => {
                self.heard(socket, now.mono);
                self.event(socket, &name, payload, ack, now);
            }
            Input::Refused { socket, name, ack } => {
                self.heard(socket, now.mono);
                let (reply, is_open) = self.reply(socket, &name, ack);
                if is_open {
                    self.answer_limited(reply, now);
                } else {
                    self.answer_closed(reply);
                }
            }
            Input::Disconnected { socket, clean, heard } => {
                self.heard(socket, heard);
                self.disconnected(socket, clean, now);
            }
            Input::Heard { sockets } => self.heartbeat(&sockets),
            Input::Stop { sockets } => self.stop(&sockets),
            Input::Restore { open } => self.restore(open, now),
            Input::Said { meeting, messages } => self.said_before(&meeting, &messages),
            Input::Revoked { token, expires_ms } => self.revoke_token(token, expires_ms),
            Input::Recording { possible } => self.is_recording = possible,
            Input::Drain { deadline_ms } => self.drain(deadline_ms),
            Input::Renewed { socket, token, expires_ms } => self.renewed(socket, token, expires_ms, now),
            Input::Settings { session, settings } => self.set_rules(&session, settings, now),
            Input::Command { http, actor, command } => self.command(http, &actor, command, now),
            Input::Ask { http, address, ask } => self.ask(http, address, ask, now),
            Input::Media { worker, event } => {
                if let Some(event) = self.resource_event(event, now) {
                    self.media_event(worker, event, now);
                }
            }
            Input::Tick => {}
        }
        // What the input made due at once: who waits, a token that ends soon.
        self.fire(now);
        self.tell_rosters(now);
    }

    /// The next thing to do, or `None`.
    pub fn poll(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    /// When [`Input::Tick`] is due if nothing happens before.
    pub fn deadline(&self) -> Option<Instant> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// Counts for metrics and health.
    pub fn gauges(&self) -> Gauges {
        Gauges { sockets: self.sockets.len(), rooms: self.rooms.len() - self.empty.len(), participants: self.seats }
    }

    fn fire(&mut self, now: Now) {
        while self.timers.first().is_some_and(|(at, _)| *at <= now.mono) {
            let Some((_, timer)) = self.timers.pop_first() else {
                return;
            };
            match timer {
                Timer::Early(socket) => self.early_expired(socket, now),
                Timer::Grace(place) => self.leave(place, Reason::Disconnected),
                Timer::Waiting(queue) => self.tell_queue(queue, now),
                Timer::Renew(place) => self.renew(place),
                Timer::Holder(holder) => self.end_token_holder(holder),
                Timer::Empty(room) => self.end_meeting(room),
                Timer::Offer(peer) => self.offer_expired(peer),
                Timer::Roster(room) => {
                    if let Some(r) = self.rooms.get_mut(&room) {
                        r.clock.armed = None;
                        self.dirty.insert(room);
                    }
                }
            }
        }
    }

    /// Moves a timer; the caller keeps `new` as the next call's `old`.
    fn rearm(&mut self, timer: Timer, old: Option<Instant>, new: Option<Instant>) {
        if old != new {
            if let Some(at) = old {
                self.timers.remove(&(at, timer));
            }
            self.timers.extend(new.map(|at| (at, timer)));
        }
    }

    fn seat(&self, place: Place) -> Option<&Seat> {
        self.rooms.get(&place.room)?.seats.get(&place.seat)
    }

    fn seat_mut(&mut self, place: Place) -> Option<&mut Seat> {
        self.rooms.get_mut(&place.room)?.seats.get_mut(&place.seat)
    }

    fn mint(&mut self) -> u64 {
        self.minted += 1;
        self.minted
    }

    /// `prefix` and `chars` random characters of `[A-Za-z0-9_-]`, 6 bits each.
    fn random_id(&mut self, prefix: &str, chars: usize) -> String {
        const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-";
        let mut bytes = vec![0; chars];
        self.rng.fill_bytes(&mut bytes);
        let random = bytes.iter().map(|b| char::from(ALPHABET[usize::from(b % 64)]));
        prefix.chars().chain(random).collect()
    }

    fn emit(&mut self, to: Recipients, event: &'static str, payload: &Value) {
        self.emit_raw(to, event, encode(payload));
    }

    fn emit_raw(&mut self, to: Recipients, event: &'static str, payload: Arc<RawValue>) {
        if to != Recipients::Many(Vec::new()) {
            self.out.push_back(Output::Emit { to, event, payload });
        }
    }

    fn request(&mut self, worker: WorkerId, request: sfu::Request) {
        self.out.push_back(Output::Media { worker, request });
    }
}
