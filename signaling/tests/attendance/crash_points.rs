//! A server that dies before or after each write, commit, message and row: what it had said stays true.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sfu::{Kind, Now, PeerId, Source, TrackId, TrackInfo};
use signaling::attendance::{Open, check};
use signaling::*;

use crate::facts::GRACE_MS;

const HEARTBEAT_MS: u64 = limits::HEARTBEAT_EVERY.as_millis() as u64;
const EMPTY_MS: u64 = limits::EMPTY_TIMEOUT.as_millis() as u64;

/// A join that a client was told is good.
#[derive(Debug)]
struct Told {
    participant: String,
    at: u64,
    /// When it left or vanished, by its own account.
    gone: Option<u64>,
}

struct Node {
    lobby: Lobby,
    boot: u8,
    start: Instant,
    now: u64,
    /// Written and not on disk yet.
    buffer: Vec<Fact>,
    disk: Vec<Fact>,
    applied: usize,
    store: BTreeMap<Arc<str>, Vec<(u64, Fact)>>,
    told: Vec<Told>,
    /// Who is connected, and which join it was told of.
    sockets: BTreeMap<SocketId, Option<usize>>,
    peers: BTreeMap<String, PeerId>,
    next: u64,
    /// Places where the server may die that were passed.
    points: usize,
    dies_at: usize,
    /// What was written and not committed is on disk all the same.
    survives: bool,
    died: Option<u64>,
}

fn lobby(boot: u8) -> Lobby {
    let ice = IceServers { fixed: vec![], minted: vec![] };
    let config = Config { workers: 1, ice, grace_ms: GRACE_MS, empty_timeout_ms: EMPTY_MS };
    Lobby::new(config, [boot; 32])
}

impl Node {
    fn new(dies_at: usize, survives: bool) -> Node {
        Node {
            lobby: lobby(0),
            boot: 0,
            start: Instant::now(),
            now: 0,
            buffer: Vec::new(),
            disk: Vec::new(),
            applied: 0,
            store: BTreeMap::new(),
            told: Vec::new(),
            sockets: BTreeMap::new(),
            peers: BTreeMap::new(),
            next: 0,
            points: 0,
            dies_at,
            survives,
            died: None,
        }
    }

    fn clock(&self) -> Now {
        Now { mono: self.start + Duration::from_millis(self.now), unix_ms: 1_800_000_000_000 + self.now }
    }

    /// A place where the server may die; whether it does.
    fn dies(&mut self) -> bool {
        self.points += 1;
        self.points == self.dies_at
    }

    fn handle(&mut self, input: Input) {
        self.lobby.handle(input, self.clock());
        let outputs: Vec<Output> = std::iter::from_fn(|| self.lobby.poll()).collect();
        if !self.carry_out(outputs) {
            self.restart();
        }
    }

    /// Does what the lobby says as the shell does: facts are written, then committed, then whoever waits is told, then the store
    /// learns of it. `false`: the server died.
    fn carry_out(&mut self, outputs: Vec<Output>) -> bool {
        let mut messages = Vec::new();
        for output in outputs {
            match output {
                Output::Fact { fact, .. } => {
                    if self.dies() {
                        return false;
                    }
                    self.buffer.push(fact);
                    if self.dies() {
                        return false;
                    }
                }
                Output::Media { request: sfu::Request::Join { peer, participant, .. }, .. } => {
                    self.peers.insert(participant.to_string(), peer);
                }
                message @ (Output::Ack { .. } | Output::Emit { .. }) => messages.push(message),
                _ => {}
            }
        }
        if !self.buffer.is_empty() {
            if self.dies() {
                return false;
            }
            self.disk.append(&mut self.buffer);
            if self.dies() {
                return false;
            }
        }
        for message in messages {
            if self.dies() {
                return false;
            }
            if let Output::Ack { socket, body, .. } = message {
                self.tell(socket, &serde_json::from_str(body.get()).unwrap());
            }
            if self.dies() {
                return false;
            }
        }
        self.apply()
    }

    /// A client learns that its join is good.
    fn tell(&mut self, socket: SocketId, ack: &Value) {
        let Some(participant) = ack["participantId"].as_str().filter(|_| ack["ok"] == true) else { return };
        let told = Told { participant: participant.to_owned(), at: self.now, gone: None };
        if let Some(own) = self.sockets.get_mut(&socket) {
            *own = Some(self.told.len());
        }
        self.told.push(told);
    }

    /// Rows are written in one transaction with how far that is.
    fn apply(&mut self) -> bool {
        while let Some(fact) = self.disk.get(self.applied).cloned() {
            if self.dies() {
                return false;
            }
            self.applied += 1;
            if let Some(meeting) = fact.meeting().cloned() {
                let log = self.store.entry(meeting).or_default();
                log.push((log.len() as u64 + 1, fact));
            }
            if self.dies() {
                return false;
            }
        }
        true
    }

    fn restart(&mut self) {
        self.died = Some(self.now);
        let now = self.now;
        for told in std::mem::take(&mut self.sockets).into_values().flatten() {
            self.told[told].gone.get_or_insert(now);
        }
        if self.survives {
            self.disk.append(&mut self.buffer);
        }
        self.buffer.clear();
        self.peers.clear();
        let mut open = Open::default();
        self.disk.iter().for_each(|fact| open.apply(fact));
        for fact in open.crashed() {
            open.apply(&fact);
            self.disk.push(fact);
        }
        self.now += 3_000;
        self.boot += 1;
        self.lobby = lobby(self.boot);
        self.handle(Input::Restore { open });
    }

    fn wait(&mut self, ms: u64) {
        let end = self.now + ms;
        while self.now < end {
            let beat = (self.now / HEARTBEAT_MS + 1) * HEARTBEAT_MS;
            let due = self.lobby.deadline().map_or(end, |at| (at - self.start).as_nanos().div_ceil(1_000_000) as u64);
            self.now = beat.min(due.max(self.now + 1)).min(end);
            self.handle(Input::Tick);
            if self.now == beat {
                let mono = self.clock().mono;
                let sockets = self.sockets.keys().map(|socket| (*socket, mono)).collect();
                self.handle(Input::Heard { sockets });
            }
        }
    }

    fn emit(&mut self, socket: SocketId, name: &str, payload: Value) {
        self.next += 1;
        let ack = Some(AckId(self.next as i64));
        self.handle(Input::Event { socket, name: name.into(), payload, ack });
    }

    fn join(&mut self, user: &str) -> SocketId {
        self.next += 1;
        let socket = SocketId(self.next);
        self.sockets.insert(socket, None);
        self.handle(Input::Connected { socket, address: [10, 0, 0, 1].into(), identity: None });
        self.emit(
            socket,
            "join-session",
            json!({ "sessionId": "s", "userId": user, "userName": user, "media": "sfu" }),
        );
        socket
    }

    fn gone(&mut self, socket: SocketId, clean: bool) {
        let Some(own) = self.sockets.remove(&socket) else { return };
        if let Some(told) = own {
            self.told[told].gone.get_or_insert(self.now);
        }
        let heard = self.clock().mono;
        self.handle(Input::Disconnected { socket, clean, heard });
    }

    fn camera(&mut self, socket: SocketId) {
        let own = self.sockets.get(&socket).copied().flatten();
        let peer = own.and_then(|told| self.peers.get(&self.told[told].participant).copied());
        if let Some(peer) = peer {
            let info = TrackInfo { track: TrackId(7), kind: Kind::Video, source: Source::Camera, muted: false };
            self.handle(Input::Media { worker: WorkerId(0), event: sfu::Event::TrackPublished { peer, info } });
        }
    }

    /// A lesson in which all kinds of facts are written.
    fn lesson(&mut self) {
        let ann = self.join("ann");
        self.wait(1_500);
        let ben = self.join("ben");
        self.camera(ann);
        self.wait(14_000);
        self.gone(ben, false);
        self.wait(5_000);
        let ben = self.join("ben");
        self.emit(ann, "chat-message", json!({ "message": "hi" }));
        self.wait(8_000);
        self.gone(ben, false);
        self.wait(GRACE_MS + 1_000);
        self.emit(ann, "leave-session", json!({}));
        if let Some(Some(told)) = self.sockets.get(&ann) {
            self.told[*told].gone = Some(self.now);
        }
        self.wait(2_000);
        let cay = self.join("cay");
        self.wait(11_000);
        self.gone(cay, true);
        self.gone(ann, true);
        self.wait(EMPTY_MS + GRACE_MS);
        self.wait(1_000);
    }

    /// What must hold in the end.
    fn verify(&self) {
        let which = format!("died at {} of {} (written survives: {})", self.dies_at, self.points, self.survives);
        assert_eq!(self.applied, self.disk.len(), "{which}");
        for log in self.store.values() {
            assert_eq!(check(log), [""; 0], "{which}");
            assert!(matches!(log.last(), Some((_, Fact::MeetingEnded { .. }))), "{which}");
        }
        let wall = |ms: u64| 1_800_000_000_000 + ms;
        let facts = || self.store.values().flatten().map(|(_, fact)| fact);
        for told in &self.told {
            let begins = facts().find_map(|fact| match fact {
                Fact::Joined { connection, participant, at, .. }
                    if **participant == *told.participant && *at == wall(told.at) =>
                {
                    Some(connection.clone())
                }
                _ => None,
            });
            let begins = begins.unwrap_or_else(|| panic!("{which}: {told:?} is not in the log"));
            let ends = facts().find_map(|fact| match fact {
                Fact::Left { connection, at, reason, .. } if *connection == begins => Some((*at, *reason)),
                _ => None,
            });
            let (at, reason) = ends.unwrap_or_else(|| panic!("{which}: {told:?} has no end"));
            let gone = wall(told.gone.expect("everybody has gone"));
            let short = if reason == Reason::Crashed { HEARTBEAT_MS } else { 0 };
            assert!(at <= gone && gone <= at + short, "{which}: {told:?} ends at {at} ({reason:?})");
        }
    }
}

#[test]
fn what_was_said_stays_true_wherever_the_server_dies() {
    let mut whole = Node::new(0, false);
    whole.lesson();
    whole.verify();
    assert_eq!(whole.told.len(), 4, "{:?}", whole.told);
    assert!(whole.points > 100, "{} places to die at", whole.points);
    for dies_at in 1..=whole.points {
        for survives in [false, true] {
            let mut node = Node::new(dies_at, survives);
            node.lesson();
            assert!(node.died.is_some(), "it dies at {dies_at}");
            node.verify();
        }
    }
}
