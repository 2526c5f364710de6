//! Any sequence of people with tokens, moderators' orders, and rules that change: nobody gets more than is theirs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Value, json};
use sfu::CloseReason;
use signaling::limits::{EMPTY_TIMEOUT, TOKEN_SKEW};
use signaling::{Action, Actor, Command, Fact, Identity, Input, Role, RoomSettings, SameUser, SocketId};

use crate::identity::{play, publish};
use crate::world::*;

/// Seats of each session.
const CAPACITY: usize = 3;
const HOUR_MS: u64 = 3_600_000;
const ACTIONS: [&str; 10] =
    ["mute", "mute-all", "ask-unmute", "remove", "promote", "lower-hands", "lock", "unlock", "admit", "end"];

/// Who comes with which token, by `session`, `user` and the token's number.
type Who = (u8, u8, u8);

#[derive(Clone, Debug)]
enum Step {
    Connect { who: Who, expired: bool },
    Drop(usize, bool),
    Join { socket: usize, resume: bool, media: bool },
    Send(usize, &'static str),
    Order { socket: usize, action: usize, target: usize },
    Command { who: Option<Who>, action: usize, target: usize },
    Ask { who: Who, plays: bool },
    IceServers(Who),
    Rules(u8, u8),
    Published(usize),
    Renewed(usize),
    Wait(u64),
}

fn who() -> impl Strategy<Value = Who> {
    (0u8..2, 0u8..5, 0u8..2)
}

fn step() -> impl Strategy<Value = Step> {
    let (socket, action, target) = (0usize..8, 0..ACTIONS.len(), 0usize..8);
    let sent = prop::sample::select(vec!["leave-session", "chat-message", "raise-hand", "reaction"]);
    prop_oneof![
        5 => (who(), prop::bool::weighted(0.2)).prop_map(|(who, expired)| Step::Connect { who, expired }),
        2 => (socket.clone(), any::<bool>()).prop_map(|(s, clean)| Step::Drop(s, clean)),
        8 => (socket.clone(), any::<bool>(), any::<bool>()).prop_map(|(socket, resume, media)| Step::Join { socket, resume, media }),
        3 => (socket.clone(), sent).prop_map(|(s, name)| Step::Send(s, name)),
        8 => (socket.clone(), action.clone(), target.clone())
            .prop_map(|(socket, action, target)| Step::Order { socket, action, target }),
        2 => (prop::option::of(who()), action, target).prop_map(|(who, action, target)| Step::Command { who, action, target }),
        1 => (who(), any::<bool>()).prop_map(|(who, plays)| Step::Ask { who, plays }),
        1 => who().prop_map(Step::IceServers),
        2 => (0u8..2, 0u8..32).prop_map(|(session, rules)| Step::Rules(session, rules)),
        2 => (0usize..8).prop_map(Step::Published),
        1 => socket.prop_map(Step::Renewed),
        2 => prop::sample::select(vec![1, 100, 2_000, 20_000, 120_000, HOUR_MS / 2]).prop_map(Step::Wait),
    ]
}

struct School {
    w: World,
    sockets: Vec<SocketId>,
    /// What was asked and is not answered yet: which socket joins by it, if it is a join.
    open: BTreeMap<i64, Option<SocketId>>,
    posted: Vec<i64>,
    /// Who was told last that it may moderate.
    moderators: BTreeSet<SocketId>,
    resume: Option<Value>,
    /// Users by the meeting from which they were removed.
    removed: BTreeSet<(String, String)>,
    facts: usize,
}

impl School {
    fn identity(&self, (session, user, token): Who) -> Arc<Identity> {
        let role = [Role::Instructor, Role::Instructor, Role::Participant, Role::Participant, Role::Observer];
        let identity = self.w.token(&format!("s{session}"), &format!("u{user}"), role[usize::from(user)]);
        Arc::new(Identity { token: Some(format!("jti-{session}-{user}-{token}").into()), ..identity })
    }

    fn socket(&self, n: usize) -> SocketId {
        self.sockets.get(n).copied().unwrap_or(SocketId(1 << 40))
    }

    fn post(&mut self, socket: SocketId, name: &str, payload: Value) -> i64 {
        let ack = self.w.post(socket, name, payload);
        self.posted.push(ack);
        self.open.insert(ack, (name == "join-session").then_some(socket));
        ack
    }

    /// The live sessions, as operators see them.
    fn sessions(&mut self) -> Vec<Value> {
        let body = self.w.command(Actor::Operator, Command::Sessions).expect("operators see all");
        body["sessions"].as_array().expect("a list").clone()
    }

    /// Somebody who has a seat or waits for one; or nobody.
    fn target(&mut self, n: usize) -> String {
        let sessions = self.sessions();
        let all = |list: &str, id: &str| -> Vec<String> {
            let people = sessions.iter().flat_map(|s| s[list].as_array().unwrap().clone());
            people.map(|p| p[id].as_str().unwrap().to_owned()).collect()
        };
        let ids = [all("participants", "participantId"), all("waiting", "waitingId")].concat();
        ids.get(n).cloned().unwrap_or_else(|| "p_nobody".into())
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Connect { who, expired } if self.sockets.len() < 8 => {
                let identity = self.identity(who);
                let identity = Arc::new(Identity { is_expired: expired, ..(*identity).clone() });
                let socket = self.w.connect_as(&identity);
                self.sockets.push(socket);
            }
            Step::Connect { .. } => {}
            Step::Drop(n, clean) => {
                let socket = self.socket(n);
                self.w.handle(Input::Disconnected { socket, clean, heard: self.w.now.mono });
                self.sockets.retain(|s| *s != socket);
                self.moderators.remove(&socket);
            }
            Step::Join { socket, resume, media } => {
                let token = self.resume.clone().filter(|_| resume);
                let media = media.then_some("sfu");
                let socket = self.socket(socket);
                self.post(socket, "join-session", json!({ "resumeToken": token, "media": media }));
            }
            Step::Send(n, name) => {
                let socket = self.socket(n);
                self.post(socket, name, json!({ "message": "hi", "raised": true, "emoji": "x" }));
            }
            Step::Order { socket, action, target } => {
                let target = self.target(target);
                let socket = self.socket(socket);
                let may = self.moderators.contains(&socket);
                let order = json!({ "action": ACTIONS[action], "participantId": target });
                let ack = self.post(socket, "moderate", order);
                let granted = self.w.ack(ack).is_some_and(|ack| ack["ok"] == true);
                assert!(may || !granted, "only moderators moderate");
            }
            Step::Command { who, action, target } => {
                let participant = Some(self.target(target)).filter(|_| target > 0);
                let session = format!("s{}", who.map_or(0, |(session, ..)| session));
                let actor = who.map_or(Actor::Operator, |who| Actor::Member(self.identity(who)));
                let action = Action::parse(ACTIONS[action]).expect("an action");
                let command = Command::Moderate { session, action, participant, source: None, role: None };
                // What comes of it is seen below.
                let _ = self.w.command(actor, command);
            }
            Step::Ask { who, plays } => {
                let (session, identity) = (format!("s{}", who.0), Some(self.identity(who)));
                self.w.ask(if plays { play(&session, identity) } else { publish(&session, identity) });
            }
            Step::IceServers(who) => {
                let identity = self.identity(who);
                let _ = self.w.command(Actor::Operator, Command::IceServers { identity });
            }
            Step::Rules(session, rules) => self.rules(session, rules),
            Step::Published(n) => {
                if let Some(peer) = self.w.peers.iter().nth(n).copied() {
                    self.w.sfu(published(peer, peer.0));
                }
            }
            Step::Renewed(n) => {
                let (socket, expires_ms) = (self.socket(n), self.w.now.unix_ms + HOUR_MS);
                self.w.handle(Input::Renewed { socket, token: None, expires_ms });
            }
            Step::Wait(ms) => self.w.wait(ms),
        }
        self.check();
    }

    fn rules(&mut self, session: u8, rules: u8) {
        let is = |bit: u8| rules & 1 << bit != 0;
        let settings = RoomSettings {
            capacity: CAPACITY,
            same_user: [SameUser::Replace, SameUser::Allow][usize::from(is(0))],
            waiting_room: is(1),
            chat: is(2),
            video: is(3),
            chat_history: is(4),
            ..RoomSettings::default()
        };
        self.w.rules(&format!("s{session}"), settings);
    }

    fn check(&mut self) {
        // The acks come before what is told afterwards.
        let answered: Vec<i64> = self.open.keys().filter(|ack| self.w.acks.contains_key(ack)).copied().collect();
        for ack in answered {
            let Some(Some(socket)) = self.open.remove(&ack) else { continue };
            let ack = self.w.ack(ack).expect("answered");
            if ack["ok"] == true {
                self.resume = Some(ack["resumeToken"].clone());
                self.told(socket, &ack["permissions"]);
            }
        }
        for socket in self.sockets.clone() {
            for (_, payload) in self.w.mail(socket).iter().filter(|(name, _)| *name == "permissions") {
                self.told(socket, &payload["permissions"]);
            }
        }
        for fact in &self.w.facts[self.facts..] {
            if let Fact::Removed { meeting, user, .. } = fact {
                self.removed.insert((meeting.to_string(), user.to_string()));
            }
        }
        self.facts = self.w.facts.len();
        for session in self.sessions() {
            let people = session["participants"].as_array().unwrap();
            assert!(people.len() <= CAPACITY, "never one more: {people:?}");
            let meeting = session["meetingId"].as_str().unwrap();
            for person in people {
                let user = person["userId"].as_str().unwrap();
                assert!(!self.removed.contains(&(meeting.to_owned(), user.to_owned())), "{user} was removed");
            }
        }
    }

    fn told(&mut self, socket: SocketId, permissions: &Value) {
        if permissions["moderate"] == true {
            self.moderators.insert(socket);
        } else {
            self.moderators.remove(&socket);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nobody_gets_more_than_is_theirs(steps in prop::collection::vec(step(), 1..120)) {
        let mut s = School {
            w: world(),
            sockets: Vec::new(),
            open: BTreeMap::new(),
            posted: Vec::new(),
            moderators: BTreeSet::new(),
            resume: None,
            removed: BTreeSet::new(),
            facts: 0,
        };
        s.w.lobby.set_room_settings(RoomSettings { capacity: CAPACITY, ..Default::default() });
        for user in 0..3 {
            s.step(Step::Connect { who: (0, user, 0), expired: false });
            s.step(Step::Join { socket: usize::from(user), resume: false, media: true });
        }
        for step in steps {
            s.step(step);
        }
        for socket in s.sockets.clone() {
            s.w.bye(socket);
        }
        s.w.wait(GRACE_MS);
        while let Some(peer) = s.w.peers.last().copied() {
            s.w.sfu(sfu::Event::Closed { peer, reason: CloseReason::Internal });
        }
        for ack in &s.posted {
            prop_assert_eq!(s.w.acks.get(ack).map(Vec::len), Some(1), "each ack exactly once");
        }
        s.w.wait(HOUR_MS + (TOKEN_SKEW + EMPTY_TIMEOUT).as_millis() as u64);
        prop_assert!(s.w.holders.is_empty(), "nobody holds what nobody has a seat or a token for");
        let gauges = s.w.lobby.gauges();
        prop_assert_eq!((gauges.sockets, gauges.rooms, gauges.participants), (0, 0, 0));
        prop_assert_eq!(s.w.lobby.deadline(), None, "nothing is left to wait for");
    }
}
