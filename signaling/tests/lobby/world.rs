//! The test kit: a lobby, virtual time, and a letter box for each socket.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sfu::{Kind, Now, PeerId, Request, RoomId, Source, TrackId, TrackInfo, View};
use signaling::*;

use crate::wire;

/// The grace time of these tests.
pub(crate) const GRACE_MS: u64 = 20_000;

pub(crate) struct World {
    pub(crate) lobby: Lobby,
    pub(crate) now: Now,
    next: i64,
    /// Every ack given, and how often.
    pub(crate) acks: BTreeMap<i64, Vec<Value>>,
    /// The events that they answer.
    asked: BTreeMap<i64, String>,
    mail: BTreeMap<SocketId, Vec<(&'static str, Value)>>,
    pub(crate) closed: BTreeSet<SocketId>,
    requests: Vec<(WorkerId, Request)>,
    /// Every reply to an HTTP request, and how often.
    replies: BTreeMap<HttpId, Vec<Result<Granted, Refused>>>,
    /// Who may use the TURN server, and who ever could.
    pub(crate) holders: BTreeSet<Arc<str>>,
    ever: BTreeSet<Arc<str>>,
    /// What WHEP clients watch with.
    viewers: BTreeSet<PeerId>,
    /// What history was told, and how much of it a test has seen.
    pub(crate) facts: Vec<Fact>,
    seen: usize,
    /// What the last ack or reply waits for.
    pub(crate) last_after: Option<FactId>,
    /// The rooms of peers.
    rooms: BTreeMap<PeerId, RoomId>,
    /// What lives in the SFU.
    pub(crate) peers: BTreeSet<PeerId>,
    /// Tokens that are to be renewed.
    pub(crate) renewals: Vec<(SocketId, Arc<Identity>)>,
}

/// What the lobby of these tests shares with its TURN servers.
pub(crate) const SECRETS: [&[u8]; 2] = [b"inside", b"outside"];

pub(crate) fn world() -> World {
    let [inside, outside] = SECRETS.map(<[u8]>::to_vec);
    let ice = IceServers {
        fixed: vec![json!({ "urls": "stun:x" })],
        minted: vec![
            TurnServer { urls: vec!["turn:inside".into()], secret: inside, for_mesh: false },
            TurnServer { urls: vec!["turn:outside".into()], secret: outside, for_mesh: true },
        ],
    };
    let config =
        Config { workers: 2, ice, grace_ms: GRACE_MS, empty_timeout_ms: limits::EMPTY_TIMEOUT.as_millis() as u64 };
    World {
        lobby: Lobby::new(config, [7; 32]),
        now: Now { mono: Instant::now(), unix_ms: 1_800_000_000_000 },
        next: 0,
        acks: BTreeMap::new(),
        asked: BTreeMap::new(),
        mail: BTreeMap::new(),
        closed: BTreeSet::new(),
        requests: Vec::new(),
        replies: BTreeMap::new(),
        holders: BTreeSet::new(),
        ever: BTreeSet::new(),
        viewers: BTreeSet::new(),
        peers: BTreeSet::new(),
        renewals: Vec::new(),
        facts: Vec::new(),
        seen: 0,
        last_after: None,
        rooms: BTreeMap::new(),
    }
}

impl World {
    pub(crate) fn handle(&mut self, input: Input) {
        self.lobby.handle(input, self.now);
        while let Some(output) = self.lobby.poll() {
            match output {
                Output::Emit { to, event, payload } => {
                    let payload: Value = serde_json::from_str(payload.get()).unwrap();
                    wire::check_event(event, &payload);
                    let sockets = match to {
                        Recipients::One(socket) => vec![socket],
                        Recipients::Many(sockets) => sockets,
                    };
                    for socket in sockets {
                        self.mail.entry(socket).or_default().push((event, payload.clone()));
                    }
                }
                Output::Ack { ack, body, after, .. } => {
                    assert!(after <= Some(self.last_fact()), "it waits for what was told");
                    self.last_after = after;
                    let body: Value = serde_json::from_str(body.get()).unwrap();
                    self.check_credentials(body["iceServers"].as_array().into_iter().flatten());
                    if let Some(asked) = self.asked.get(&ack.0) {
                        wire::check_ack(asked, &body);
                    }
                    self.acks.entry(ack.0).or_default().push(body);
                }
                Output::Disconnect { socket } => {
                    assert!(self.closed.insert(socket), "disconnected once")
                }
                Output::Media { worker, request } => {
                    self.note(&request);
                    self.requests.push((worker, request));
                }
                Output::Reply { http, reply, after } => {
                    self.last_after = after;
                    if let Ok(Granted::Created { ice_servers, .. }) = &reply {
                        self.check_credentials(ice_servers.iter());
                    }
                    self.replies.entry(http).or_default().push(reply);
                }
                Output::Grant { holder } => {
                    assert!(self.ever.insert(holder.clone()), "{holder} was granted before");
                    self.holders.insert(holder);
                }
                Output::Fact { id, fact } => {
                    self.facts.push(fact);
                    assert_eq!(id, self.last_fact(), "numbered in order");
                }
                Output::Renew { socket, identity } => self.renewals.push((socket, identity)),
                Output::Revoke { holder } => assert!(self.holders.remove(&holder), "{holder} holds nothing"),
            }
        }
        let present = self.lobby.gauges().participants + self.viewers.len();
        let by_token = self.holders.iter().filter(|holder| holder.starts_with("t_")).count();
        assert_eq!(self.holders.len() - by_token, present, "seats and viewers hold, and who has a token's");
    }

    /// Who is told of a credential holds it already.
    fn check_credentials<'s>(&self, servers: impl Iterator<Item = &'s Value>) {
        for name in servers.filter_map(|server| server["username"].as_str()) {
            let (_, holder) = turn_server::credential::parse(name).expect("an expiry and a holder");
            assert!(self.holders.contains(holder), "{holder} is told before it is granted");
        }
    }

    fn note(&mut self, request: &Request) {
        match request {
            Request::Join { peer, room, view, .. } => {
                self.peers.insert(*peer);
                self.rooms.insert(*peer, *room);
                if matches!(view, View::Program { .. }) {
                    self.viewers.insert(*peer);
                }
            }
            Request::Leave { peer } => {
                self.peers.remove(peer);
                self.viewers.remove(peer);
            }
            _ => {}
        }
    }

    pub(crate) fn connect(&mut self) -> SocketId {
        self.connect_from([10, 0, 0, 1].into())
    }

    pub(crate) fn connect_from(&mut self, address: IpAddr) -> SocketId {
        self.next += 1;
        let socket = SocketId(self.next as u64);
        self.handle(Input::Connected { socket, address, identity: None });
        socket
    }

    /// Connects with a token.
    pub(crate) fn connect_as(&mut self, identity: &Arc<Identity>) -> SocketId {
        self.next += 1;
        let socket = SocketId(self.next as u64);
        self.handle(Input::Connected { socket, address: [10, 0, 0, 1].into(), identity: Some(identity.clone()) });
        socket
    }

    /// Connects and joins with a token; the socket and the ack.
    pub(crate) fn enter(&mut self, identity: &Arc<Identity>, more: Value) -> (SocketId, Value) {
        let socket = self.connect_as(identity);
        let mut payload = json!({ "sessionId": &*identity.session });
        payload.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
        let ack = self.granted(socket, "join-session", payload);
        (socket, ack)
    }

    /// A token of an hour.
    pub(crate) fn token(&self, session: &str, user: &str, role: Role) -> Identity {
        Identity {
            user: user.into(),
            name: Some(user.to_uppercase().into()),
            session: session.into(),
            role,
            permissions: Permissions::of(role),
            token: Some(format!("jti-{session}-{user}").into()),
            expires_ms: self.now.unix_ms + 3_600_000,
            is_expired: false,
        }
    }

    /// The application asks for something; its answer.
    pub(crate) fn command(&mut self, actor: Actor, command: Command) -> Result<Value, &'static str> {
        self.next += 1;
        let http = HttpId(self.next as u64);
        self.handle(Input::Command { http, actor, command });
        match self.reply(http).expect("a reply at once") {
            Ok(Granted::Answer(body)) => Ok(body),
            Ok(other) => panic!("{other:?}"),
            Err(why) => Err(why.code.as_str()),
        }
    }

    /// Sets the rules of a session.
    pub(crate) fn rules(&mut self, session: &str, settings: RoomSettings) {
        self.handle(Input::Settings { session: session.into(), settings: Some(Box::new(settings)) });
    }

    /// Sends an event with an ack; the ack's number.
    pub(crate) fn post(&mut self, socket: SocketId, name: &str, payload: Value) -> i64 {
        self.next += 1;
        let ack = self.next;
        self.asked.insert(ack, name.to_owned());
        self.handle(Input::Event { socket, name: name.into(), payload, ack: Some(AckId(ack)) });
        ack
    }

    /// Sends an event whose ack comes at once.
    pub(crate) fn send(&mut self, socket: SocketId, name: &str, payload: Value) -> Value {
        let ack = self.post(socket, name, payload);
        self.ack(ack).expect("an ack at once")
    }

    /// Sends an event that must be refused; the code.
    pub(crate) fn refused(&mut self, socket: SocketId, name: &str, payload: Value) -> String {
        code(&self.send(socket, name, payload))
    }

    /// Sends an event that must be granted.
    pub(crate) fn granted(&mut self, socket: SocketId, name: &str, payload: Value) -> Value {
        let ack = self.send(socket, name, payload);
        assert_eq!(ack["ok"], true, "{name}: {ack}");
        ack
    }

    /// Sends an event without ack.
    pub(crate) fn say(&mut self, socket: SocketId, name: &str, payload: Value) {
        self.handle(Input::Event { socket, name: name.into(), payload, ack: None });
    }

    /// A WHIP or WHEP client asks; the number of its request.
    pub(crate) fn ask(&mut self, ask: Ask) -> HttpId {
        self.next += 1;
        let http = HttpId(self.next as u64);
        self.handle(Input::Ask { http, address: [10, 0, 0, 9].into(), ask });
        http
    }

    /// The one reply to an HTTP request, if it came.
    pub(crate) fn reply(&self, http: HttpId) -> Option<Result<Granted, Refused>> {
        let replies = self.replies.get(&http)?;
        assert_eq!(replies.len(), 1, "answered exactly once");
        Some(replies[0].clone())
    }

    /// The code of a refused HTTP request.
    pub(crate) fn refusal(&self, http: HttpId) -> &'static str {
        self.reply(http).expect("a reply").expect_err("a refusal").code.as_str()
    }

    pub(crate) fn ack(&self, ack: i64) -> Option<Value> {
        self.acks.get(&ack).map(|given| given[0].clone())
    }

    pub(crate) fn drop(&mut self, socket: SocketId) {
        self.handle(Input::Disconnected { socket, clean: false, heard: self.now.mono });
    }

    pub(crate) fn bye(&mut self, socket: SocketId) {
        self.handle(Input::Disconnected { socket, clean: true, heard: self.now.mono });
    }

    /// Lets time pass, ticking whenever the lobby asked for it.
    pub(crate) fn wait(&mut self, ms: u64) {
        let end = self.now.mono + Duration::from_millis(ms);
        while let Some(at) = self.lobby.deadline().filter(|at| *at <= end) {
            self.at(at.max(self.now.mono));
            self.handle(Input::Tick);
            assert!(self.lobby.deadline() > Some(self.now.mono) || self.lobby.deadline().is_none());
        }
        self.at(end);
    }

    fn at(&mut self, mono: Instant) {
        self.now.unix_ms += (mono - self.now.mono).as_millis() as u64;
        self.now.mono = mono;
    }

    /// What a socket got since last asked, in order.
    pub(crate) fn mail(&mut self, socket: SocketId) -> Vec<(&'static str, Value)> {
        self.mail.remove(&socket).unwrap_or_default()
    }

    /// The events of one name that a socket got since last asked; all others are thrown away.
    pub(crate) fn got(&mut self, socket: SocketId, name: &str) -> Vec<Value> {
        self.mail(socket).into_iter().filter(|(event, _)| *event == name).map(|(_, payload)| payload).collect()
    }

    /// The one event of that name.
    pub(crate) fn one(&mut self, socket: SocketId, name: &str) -> Value {
        let got = self.got(socket, name);
        assert_eq!(got.len(), 1, "one {name}: {got:?}");
        got[0].clone()
    }

    /// The facts since last asked.
    pub(crate) fn new_facts(&mut self) -> Vec<Fact> {
        let new = self.facts[self.seen..].to_vec();
        self.seen = self.facts.len();
        new
    }

    /// The number of the last fact.
    pub(crate) fn last_fact(&self) -> FactId {
        FactId(self.facts.len() as u64)
    }

    /// The room that a peer was made in; if there is no such peer, one that hardly is.
    pub(crate) fn room_of(&self, peer: PeerId) -> RoomId {
        self.rooms.get(&peer).copied().unwrap_or(RoomId(peer.0))
    }

    /// What the SFU was asked since last asked.
    pub(crate) fn requests(&mut self) -> Vec<Request> {
        std::mem::take(&mut self.requests).into_iter().map(|(_, request)| request).collect()
    }

    pub(crate) fn routed(&mut self) -> Vec<(WorkerId, Request)> {
        std::mem::take(&mut self.requests)
    }

    pub(crate) fn sfu(&mut self, event: sfu::Event) {
        if let sfu::Event::Closed { peer, .. } = &event {
            self.peers.remove(peer);
        }
        self.handle(Input::Media { worker: WorkerId(0), event });
    }

    pub(crate) fn join_with(&mut self, session: &str, user: &str, more: Value) -> (SocketId, Value) {
        let socket = self.connect();
        let ack = self.rejoin(socket, session, user, more);
        (socket, ack)
    }

    /// Joins on a socket that is there.
    pub(crate) fn rejoin(&mut self, socket: SocketId, session: &str, user: &str, more: Value) -> Value {
        let mut payload =
            json!({ "sessionId": session, "userId": user, "userName": user.to_uppercase(), "isInstructor": false });
        payload.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
        self.granted(socket, "join-session", payload)
    }

    pub(crate) fn join(&mut self, session: &str, user: &str) -> SocketId {
        self.join_with(session, user, json!({})).0
    }

    /// Joins as an SFU client; the socket, the ack and the peer.
    pub(crate) fn join_sfu(&mut self, session: &str, user: &str) -> (SocketId, Value, PeerId) {
        let (socket, ack) = self.join_with(session, user, json!({ "media": "sfu" }));
        let peer = self.requests().iter().rev().find_map(|r| match r {
            Request::Join { peer, .. } => Some(*peer),
            _ => None,
        });
        (socket, ack, peer.expect("a peer"))
    }

    /// The user ids of the last roster in a socket's mail.
    pub(crate) fn roster(&mut self, socket: SocketId) -> Vec<Value> {
        let last = self.got(socket, "participants-update").pop().expect("a roster");
        last["participants"].as_array().unwrap().clone()
    }
}

/// The code of a refusal.
pub(crate) fn code(ack: &Value) -> String {
    assert_eq!(ack["ok"], false, "{ack}");
    assert!(ack["error"]["message"].as_str().is_some_and(|m| m.ends_with('.')), "a sentence: {ack}");
    ack["error"]["code"].as_str().unwrap().to_owned()
}

pub(crate) fn users(roster: &[Value]) -> Vec<&str> {
    roster.iter().map(|entry| entry["userId"].as_str().unwrap()).collect()
}

/// The names of events, for asserting their order.
pub(crate) fn names(mail: &[(&'static str, Value)]) -> Vec<&'static str> {
    mail.iter().map(|(name, _)| *name).collect()
}

pub(crate) fn to_sfu(kind: &str, sdp: &str) -> Value {
    json!({ "targetUserId": "sfu", kind: { "type": kind, "sdp": sdp } })
}

pub(crate) fn offered(peer: PeerId, sdp: &str) -> sfu::Event {
    sfu::Event::Offer { peer, sdp: sdp.into(), tracks: vec![] }
}

pub(crate) fn answered(peer: PeerId, sdp: &str) -> sfu::Event {
    sfu::Event::Answer { peer, sdp: sdp.into(), tracks: vec![] }
}

pub(crate) fn sampled(peer: PeerId, silence_ms: u64) -> sfu::Event {
    let sample = sfu::Sample { silence: Duration::from_millis(silence_ms), ..sfu::Sample::default() };
    sfu::Event::Sample { peer, sample: Box::new(sample) }
}

pub(crate) fn published(peer: PeerId, track: u64) -> sfu::Event {
    let info = TrackInfo { track: TrackId(track), kind: Kind::Video, source: Source::Camera, muted: false };
    sfu::Event::TrackPublished { peer, info }
}
