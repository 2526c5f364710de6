//! The real lobby under a script: devices with sockets, a journal, a store, a clock that somebody sets.

mod media;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sfu::{Now, PeerId};
use signaling::attendance::Open;
use signaling::*;

use crate::facts::GRACE_MS;
use crate::script::*;
use crate::truth::*;
use media::Peer;

const EMPTY_MS: u64 = limits::EMPTY_TIMEOUT.as_millis() as u64;
const HEARTBEAT_MS: u64 = limits::HEARTBEAT_EVERY.as_millis() as u64;
/// How often a device's socket says something by itself.
const PACKET_MS: u64 = 1_000;
/// What a device did in its last moments may not have been written down.
const CRASH_SHORT_MS: u64 = HEARTBEAT_MS + PACKET_MS;

/// A device's connection: the socket that the device has, or had.
#[derive(Clone, Debug)]
struct Link {
    socket: SocketId,
    since: u64,
    /// What it said beside its packets.
    last_event: u64,
    /// Its stay, by index in [`Truth::stays`], while it has a seat.
    stay: Option<usize>,
}

/// A socket whose network broke.
#[derive(Clone, Debug)]
struct Ghost {
    device: usize,
    link: Link,
    heard: u64,
    found_at: u64,
    is_found: bool,
}

#[derive(Debug, Default)]
struct Device {
    link: Option<Link>,
    resume_token: Option<String>,
    token: Option<Arc<Identity>>,
}

pub(crate) struct School {
    script: Script,
    pub(crate) lobby: Lobby,
    boot: u8,
    start: Instant,
    /// Our own clock, ms.
    now: u64,
    /// The wall clock beside it.
    wall: i64,
    next: u64,
    last_fact: u64,
    devices: Vec<Device>,
    ghosts: Vec<Ghost>,
    peers: BTreeMap<PeerId, Peer>,
    acks: BTreeMap<i64, Value>,
    replies: BTreeMap<HttpId, bool>,
    closed: VecDeque<SocketId>,
    pub(crate) truth: Truth,
    open: Open,
    /// What the store does not have yet.
    spool: VecDeque<Fact>,
    is_store_away: bool,
    /// The logs, by meeting.
    pub(crate) store: BTreeMap<String, Vec<(u64, Fact)>>,
    /// How often something took effect.
    pub(crate) effects: BTreeMap<&'static str, u64>,
}

fn lobby(script: &Script, boot: u8) -> Lobby {
    let config = Config {
        workers: 1,
        ice: IceServers { fixed: vec![], minted: vec![] },
        grace_ms: GRACE_MS,
        empty_timeout_ms: EMPTY_MS,
    };
    let mut lobby = Lobby::new(config, [boot; 32]);
    lobby.set_room_settings(RoomSettings { same_user: script.same_user, ..RoomSettings::default() });
    lobby
}

impl School {
    /// Plays a script to its end, until nobody is there and all meetings are over.
    pub(crate) fn play(script: Script) -> School {
        let mut school = School::new(script);
        for step in school.script.steps.clone() {
            school.step(step);
        }
        school.go_home();
        school
    }

    pub(crate) fn new(script: Script) -> School {
        School {
            lobby: lobby(&script, 0),
            devices: script.devices.iter().map(|_| Device::default()).collect(),
            script,
            boot: 0,
            start: Instant::now(),
            now: 0,
            wall: 1_800_000_000_000,
            next: 0,
            last_fact: 0,
            ghosts: Vec::new(),
            peers: BTreeMap::new(),
            acks: BTreeMap::new(),
            replies: BTreeMap::new(),
            closed: VecDeque::new(),
            truth: Truth::default(),
            open: Open::default(),
            spool: VecDeque::new(),
            is_store_away: false,
            store: BTreeMap::new(),
            effects: BTreeMap::new(),
        }
    }

    fn go_home(&mut self) {
        for device in 0..self.devices.len() {
            self.step(Step::Leave { device, by_event: false });
        }
        self.step(Step::Outage(false));
        self.wait(3 * GRACE_MS + EMPTY_MS);
        assert_eq!(self.open, Open::default(), "all meetings are over");
        assert!(self.ghosts.is_empty() && self.spool.is_empty());
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Wait(ms) => self.wait(ms),
            Step::Join { device, resumes, fresh } => self.join(device, resumes, fresh),
            Step::Dark { device, found_after } => self.dark(device, found_after),
            Step::Leave { device, by_event } => self.leave(device, by_event),
            Step::Remove { device } => self.remove(device),
            Step::End { session } => self.end(session),
            Step::Publish { device, screen, muted } => self.publish(device, screen, muted),
            Step::Mute { device, muted } => self.mute(device, muted),
            Step::Unpublish { device } => self.unpublish(device),
            Step::Sample { device, silence } => self.sample(device, silence),
            Step::Speak { devices } => self.speak(&devices),
            Step::Crash { down } => self.crash(down, CRASH_SHORT_MS),
            Step::Drain { down } => {
                let sockets = self.sockets();
                self.handle(Input::Stop { sockets });
                assert!(self.open.meetings.values().all(|m| m.connections.is_empty()), "a stop ends all");
                self.crash(down, 0);
            }
            Step::SetClock(by) => {
                self.wall += by;
                self.handle(Input::Tick);
            }
            Step::Outage(is_away) => {
                self.is_store_away = is_away;
                self.apply();
            }
            Step::Recording(possible) => self.handle(Input::Recording { possible }),
        }
    }

    fn did(&mut self, what: &'static str) {
        *self.effects.entry(what).or_default() += 1;
    }

    fn clock(&self) -> Now {
        let unix_ms = (self.now as i64 + self.wall) as u64;
        Now { mono: self.at(self.now), unix_ms }
    }

    fn at(&self, ms: u64) -> Instant {
        self.start + Duration::from_millis(ms)
    }

    // The lobby, the journal, the store.

    fn handle(&mut self, input: Input) {
        self.lobby.handle(input, self.clock());
        let mut facts = Vec::new();
        while let Some(output) = self.lobby.poll() {
            match output {
                Output::Fact { id, fact } => {
                    self.last_fact += 1;
                    assert_eq!(id, FactId(self.last_fact), "facts are numbered without gaps");
                    facts.push(fact);
                }
                Output::Ack { ack, body, .. } => {
                    self.acks.insert(ack.0, serde_json::from_str(body.get()).expect("JSON"));
                }
                Output::Reply { http, reply, .. } => {
                    self.replies.insert(http, reply.is_ok());
                }
                Output::Disconnect { socket } => self.closed.push_back(socket),
                Output::Media { request: sfu::Request::Join { peer, room, participant, .. }, .. } => {
                    let participant = participant.to_string();
                    self.peers.insert(peer, Peer { room, participant, has_microphone: false, tracks: Vec::new() });
                }
                Output::Media { request: sfu::Request::Leave { peer }, .. } => self.end_peer(peer),
                _ => {}
            }
        }
        self.commit(facts);
    }

    fn commit(&mut self, facts: Vec<Fact>) {
        facts.iter().for_each(|fact| self.open.apply(fact));
        self.spool.extend(facts);
        self.apply();
    }

    fn apply(&mut self) {
        if self.is_store_away {
            return;
        }
        for fact in self.spool.drain(..) {
            if let Some(meeting) = fact.meeting() {
                let log = self.store.entry(meeting.to_string()).or_default();
                log.push((log.len() as u64 + 1, fact));
            }
        }
    }

    fn crash(&mut self, down: u64, short: u64) {
        let is_crash = short > 0;
        self.did(if is_crash { "crash" } else { "drain" });
        for device in 0..self.devices.len() {
            if let Some(link) = self.devices[device].link.take() {
                let until = if is_crash { self.heard(&link) } else { self.now };
                self.end_stay(&link, until, short, 0);
            }
        }
        for ghost in std::mem::take(&mut self.ghosts) {
            // So is what its media said since.
            let to = ghost.link.stay.and_then(|stay| self.truth.stays[stay].to).unwrap_or(ghost.heard);
            let short = if is_crash { short + (to - ghost.heard) } else { 0 };
            // Who says that it stops believes that whoever it has not missed yet is there.
            let beyond = if is_crash || ghost.is_found { 0 } else { self.now - ghost.heard };
            self.end_stay(&ghost.link, ghost.heard, short, beyond);
        }
        let peers: Vec<PeerId> = self.peers.keys().copied().collect();
        peers.into_iter().for_each(|peer| self.end_peer(peer));
        self.closed.clear();
        self.now += down;
        self.boot += 1;
        self.lobby = lobby(&self.script, self.boot);
        self.last_fact = 0;
        let written = serde_json::to_string(&self.open).expect("JSON");
        self.open = serde_json::from_str(&written).expect("what was written");
        let closing = self.open.crashed();
        self.commit(closing);
        let open = self.open.clone();
        self.handle(Input::Restore { open });
    }

    // Time.

    fn wait(&mut self, ms: u64) {
        let end = self.now + ms;
        loop {
            let ticks = self.lobby.deadline().map(|at| (at - self.start).as_nanos().div_ceil(1_000_000) as u64);
            let found = self.ghosts.iter().filter(|g| !g.is_found).map(|g| g.found_at).min();
            let beat = (self.now / HEARTBEAT_MS + 1) * HEARTBEAT_MS;
            let next = [ticks, found, Some(beat)].into_iter().flatten().min().unwrap_or(end).max(self.now);
            if next > end {
                break;
            }
            self.now = next;
            self.find_ghosts();
            self.handle(Input::Tick);
            if next == beat {
                self.heartbeat();
            }
        }
        self.now = end;
        let gone = |g: &Ghost| g.is_found && g.found_at + GRACE_MS < end;
        self.ghosts.retain(|g| !gone(g));
    }

    fn heartbeat(&mut self) {
        let sockets = self.sockets();
        self.handle(Input::Heard { sockets });
    }

    /// When each socket that the server believes to be there was last heard.
    fn sockets(&self) -> Vec<(SocketId, Instant)> {
        let links = self.devices.iter().filter_map(|device| device.link.as_ref());
        let live = links.map(|link| (link.socket, self.at(self.heard(link))));
        let dark = self.ghosts.iter().filter(|g| !g.is_found).map(|g| (g.link.socket, self.at(g.heard)));
        live.chain(dark).collect()
    }

    fn find_ghosts(&mut self) {
        for index in 0..self.ghosts.len() {
            let ghost = &mut self.ghosts[index];
            if !ghost.is_found && ghost.found_at <= self.now {
                ghost.is_found = true;
                let (socket, heard) = (ghost.link.socket, ghost.heard);
                let heard = self.at(heard);
                self.handle(Input::Disconnected { socket, clean: false, heard });
            }
        }
    }

    // Devices.

    /// When the last packet of a socket came.
    fn heard(&self, link: &Link) -> u64 {
        let packets = (self.now - link.since) / PACKET_MS;
        link.last_event.max(link.since + packets * PACKET_MS)
    }

    fn end_stay(&mut self, link: &Link, to: u64, short: u64, beyond: u64) {
        let Some(stay) = link.stay.and_then(|stay| self.truth.stays.get_mut(stay)) else { return };
        stay.to = stay.to.max(Some(to));
        stay.short += short;
        stay.beyond += beyond;
    }

    /// The ack of an event on a device's socket.
    fn emit(&mut self, socket: SocketId, name: &str, payload: Value) -> Value {
        self.next += 1;
        let ack = self.next as i64;
        self.handle(Input::Event { socket, name: name.into(), payload, ack: Some(AckId(ack)) });
        self.acks.remove(&ack).expect("an ack at once")
    }

    fn identity(&mut self, device: usize, fresh: bool) -> Option<Arc<Identity>> {
        if !self.script.has_tokens {
            return None;
        }
        let unix_ms = self.clock().unix_ms;
        self.next += 1;
        let jti = format!("jti-{}", self.next);
        let held = &mut self.devices[device].token;
        if fresh || held.is_none() {
            let (user, session) = self.script.devices[device].clone();
            let (role, permissions) = (Role::Participant, Permissions::of(Role::Participant));
            *held = Some(Arc::new(Identity {
                user: user.into(),
                name: None,
                session: format!("s{session}").into(),
                role,
                permissions,
                token: Some(jti.into()),
                expires_ms: unix_ms + 60_000,
                is_expired: false,
            }));
        }
        let token = held.clone()?;
        let is_expired = token.expires_ms <= unix_ms;
        Some(Arc::new(Identity { is_expired, ..(*token).clone() }))
    }

    fn connect(&mut self, device: usize, fresh: bool) -> Link {
        self.next += 1;
        let socket = SocketId(self.next);
        let identity = self.identity(device, fresh);
        self.handle(Input::Connected { socket, address: [10, 0, 0, 1].into(), identity });
        Link { socket, since: self.now, last_event: self.now, stay: None }
    }

    fn join(&mut self, device: usize, resumes: bool, fresh: bool) {
        let (user, session) = self.script.devices[device].clone();
        if !resumes {
            // The page is loaded anew: its former socket is noticed to be gone when it says nothing any more.
            self.dark(device, 5_000);
            self.devices[device].resume_token = None;
        }
        let mut link = match self.devices[device].link.take() {
            Some(link) => link,
            None => self.connect(device, fresh),
        };
        let mut payload =
            json!({ "sessionId": format!("s{session}"), "userId": user, "userName": user, "media": "sfu" });
        if let Some(token) = self.devices[device].resume_token.as_ref().filter(|_| resumes) {
            payload["resumeToken"] = json!(token);
        }
        let ack = self.emit(link.socket, "join-session", payload);
        link.last_event = self.now;
        if ack["ok"] == true {
            let text = |name: &str| ack[name].as_str().expect("a string").to_owned();
            let (meeting, participant) = (text("meetingId"), text("participantId"));
            self.devices[device].resume_token = Some(text("resumeToken"));
            self.did(if ack["resumed"] == true { "resume" } else { "join" });
            self.take_over(&participant, &link);
            let again = link.stay.is_some_and(|stay| self.truth.stays[stay].participant == participant);
            if !again {
                self.end_stay(&link.clone(), self.now, 0, 0);
                link.stay = Some(self.truth.stays.len());
                let from = self.now;
                let stay = Stay { session, meeting, user, participant, from, to: None, short: 0, beyond: 0 };
                self.truth.stays.push(stay);
            }
        } else {
            self.did("refused");
            let code = ack["error"]["code"].as_str().unwrap_or_default();
            if code.starts_with("auth/") {
                self.did("refused for its token");
            }
        }
        self.devices[device].link = Some(link);
        self.close_sockets(CRASH_SHORT_MS, false);
    }

    /// A seat has another socket now: of one that the server believed to be there it knows what the last heartbeat said.
    fn take_over(&mut self, participant: &str, by: &Link) {
        let sits = |link: &Link, truth: &Truth| link.stay.is_some_and(|s| truth.stays[s].participant == participant);
        let mut taken: Vec<(Link, u64, u64)> = Vec::new();
        for ghost in self.ghosts.iter_mut().filter(|ghost| sits(&ghost.link, &self.truth)) {
            let short = if ghost.is_found { 0 } else { CRASH_SHORT_MS };
            taken.push((ghost.link.clone(), ghost.heard, short));
            ghost.link.stay = None;
        }
        for device in &mut self.devices {
            if let Some(link) = device.link.as_mut().filter(|link| link.socket != by.socket && sits(link, &self.truth))
            {
                taken.push((link.clone(), self.now, CRASH_SHORT_MS));
                link.stay = None;
            }
        }
        for (link, to, short) in taken {
            self.end_stay(&link, to, short, 0);
        }
    }

    /// Sockets that the server has disconnected are gone.
    fn close_sockets(&mut self, short: u64, ends_now: bool) {
        while let Some(socket) = self.closed.pop_front() {
            let of = |device: &Device| device.link.as_ref().is_some_and(|link| link.socket == socket);
            if let Some(link) = self.devices.iter_mut().find(|device| of(device)).and_then(|device| device.link.take())
            {
                self.end_stay(&link, self.now, short, 0);
                let heard = self.at(self.now);
                self.handle(Input::Disconnected { socket, clean: false, heard });
            }
            let now = self.now;
            if let Some(ghost) = self.ghosts.iter_mut().find(|ghost| ghost.link.socket == socket) {
                // What it is told does not reach it, and the server does not know.
                let (link, heard) = (ghost.link.clone(), ghost.heard);
                ghost.link.stay = None;
                let beyond = if ends_now { now - heard } else { 0 };
                self.end_stay(&link, heard, short, beyond);
            }
        }
    }

    fn dark(&mut self, device: usize, found_after: u64) {
        let Some(link) = self.devices[device].link.take() else { return };
        let heard = self.heard(&link);
        self.end_stay(&link, heard, 0, 0);
        let found_at = self.now + found_after;
        self.ghosts.push(Ghost { device, link, heard, found_at, is_found: false });
        self.did("drop");
        self.find_ghosts();
    }

    fn leave(&mut self, device: usize, by_event: bool) {
        let Some(mut link) = self.devices[device].link.take() else { return };
        link.last_event = self.now;
        if by_event && link.stay.is_some() {
            let ack = self.emit(link.socket, "leave-session", json!({}));
            assert_eq!(ack["ok"], true, "{ack}");
            self.end_stay(&link, self.now, 0, 0);
            link.stay = None;
            self.devices[device].link = Some(link);
        } else {
            let heard = self.at(self.now);
            self.handle(Input::Disconnected { socket: link.socket, clean: true, heard });
            self.end_stay(&link, self.now, 0, 0);
        }
    }

    /// The stay of a device that may still have a seat.
    fn stay_of(&self, device: usize) -> Option<usize> {
        let link = self.devices[device].link.as_ref();
        let ghosts = self.ghosts.iter().filter(|ghost| ghost.device == device).map(|ghost| &ghost.link);
        link.into_iter().chain(ghosts).find_map(|link| link.stay)
    }

    // Operators.

    fn command(&mut self, session: usize, action: Action, participant: Option<String>) -> bool {
        self.next += 1;
        let http = HttpId(self.next);
        let session = format!("s{session}");
        let command = Command::Moderate { session, action, participant, source: None, role: None };
        self.handle(Input::Command { http, actor: Actor::Operator, command });
        self.replies.remove(&http).expect("a reply at once")
    }

    fn remove(&mut self, device: usize) {
        let Some(stay) = self.stay_of(device).map(|stay| self.truth.stays[stay].clone()) else { return };
        let Stay { user, meeting, participant, session, .. } = stay;
        if self.command(session, Action::Remove, Some(participant)) {
            self.did("remove");
            self.all_gone(|stay| stay.user == user && stay.meeting == meeting);
        }
        self.close_sockets(0, true);
    }

    fn end(&mut self, session: usize) {
        if self.command(session, Action::End, None) {
            self.did("end");
            self.all_gone(|stay| stay.session == session);
        }
        self.close_sockets(0, true);
    }

    /// The server ended all that some people had.
    fn all_gone(&mut self, who: impl Fn(&Stay) -> bool) {
        let now = self.now;
        for device in &mut self.devices {
            let Some(link) = &mut device.link else { continue };
            if let Some(stay) = link.stay.map(|stay| &mut self.truth.stays[stay]).filter(|stay| who(stay)) {
                stay.to = Some(now);
                link.stay = None;
            }
        }
        for ghost in &mut self.ghosts {
            if let Some(stay) = ghost.link.stay.map(|stay| &mut self.truth.stays[stay]).filter(|stay| who(stay)) {
                stay.beyond += if ghost.is_found { 0 } else { now - ghost.heard };
                ghost.link.stay = None;
            }
        }
    }
}
