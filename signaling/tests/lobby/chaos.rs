//! Any sequence of events from several sockets, garbage among them: each ack once, and rosters that agree.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use serde_json::{Value, json};
use sfu::{CloseReason, Kind, PeerId, Source, TrackId, TrackInfo};
use signaling::attendance::check;
use signaling::limits::EMPTY_TIMEOUT;
use signaling::{Ask, Fact, HttpId, Input, SocketId};

use crate::world::*;

#[derive(Clone, Debug)]
enum Step {
    Connect,
    Drop(usize, bool),
    Join {
        socket: usize,
        session: u8,
        user: u8,
        media: u8,
        resume: bool,
    },
    Send {
        socket: usize,
        name: &'static str,
        payload: Value,
        ack: bool,
    },
    Sfu {
        peer: u64,
        what: u8,
    },
    Ask {
        session: u8,
        user: u8,
        plays: bool,
    },
    Wait(u64),
    /// The heartbeat.
    Beat,
    /// Somebody sets the wall clock, by so many ms.
    Clock(i64),
}

fn garbage() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        prop_oneof!["sfu", "u[0-3]", "s[0-1]", "tr_000000000000000[0-3]", "camera"].prop_map(Value::from),
    ];
    let key = prop_oneof![
        "sessionId",
        "userId",
        "targetUserId",
        "offer",
        "answer",
        "candidate",
        "tracks",
        "sdp",
        "type",
        "message",
        "clientId",
        "trackId",
        "enabled",
        "muted",
        "raised",
        "emoji",
        "mid",
        "source",
        "media",
        ".{0,4}"
    ];
    leaf.prop_recursive(3, 24, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(key.clone(), inner, 0..6).prop_map(Value::from_iter),
        ]
    })
}

/// Payloads that mean something more often than not.
fn payload() -> impl Strategy<Value = Value> {
    let whole = prop_oneof![
        Just(json!({ "targetUserId": "sfu", "offer": "o", "answer": "a", "candidate": null })),
        (0u8..4).prop_map(|u| json!({ "targetUserId": format!("u{u}"), "offer": 1 })),
        Just(json!({ "message": "hi", "clientId": 1, "raised": true, "emoji": "x" })),
        (0u64..4, any::<bool>())
            .prop_map(|(t, f)| json!({ "trackId": TrackId(t).to_string(), "muted": f, "raised": f })),
        (0u8..3).prop_map(|s| json!({ "sessionId": format!("s{s}") })),
    ];
    prop_oneof![3 => whole, 1 => garbage()]
}

fn step() -> impl Strategy<Value = Step> {
    let socket = 0usize..6;
    let name = prop::sample::select(vec![
        "join-session",
        "leave-session",
        "offer",
        "answer",
        "ice-candidate",
        "chat-message",
        "subscription",
        "track-update",
        "raise-hand",
        "reaction",
        "moderate",
        "nonsense",
        "",
    ]);
    let join = (socket.clone(), 0u8..2, 0u8..4, 0u8..3, any::<bool>())
        .prop_map(|(socket, session, user, media, resume)| Step::Join { socket, session, user, media, resume });
    let send = (socket.clone(), name, payload(), any::<bool>()).prop_map(|(socket, name, payload, ack)| Step::Send {
        socket,
        name,
        payload,
        ack,
    });
    prop_oneof![
        1 => Just(Step::Connect),
        1 => (socket, any::<bool>()).prop_map(|(s, clean)| Step::Drop(s, clean)),
        4 => join,
        6 => send,
        3 => (0u64..40, 0u8..16).prop_map(|(peer, what)| Step::Sfu { peer, what }),
        1 => (0u8..2, 0u8..4, any::<bool>()).prop_map(|(session, user, plays)| Step::Ask { session, user, plays }),
        1 => prop::sample::select(vec![1, 50, 100, 2_000, 20_000, 120_000]).prop_map(Step::Wait),
        1 => Just(Step::Beat),
        1 => prop::sample::select(vec![-3_600_000, 3_600_000]).prop_map(Step::Clock),
    ]
}

/// What a client believes of its session.
struct Belief {
    me: String,
    session: String,
    user: String,
    people: BTreeSet<String>,
}

struct Chaos {
    w: World,
    sockets: Vec<SocketId>,
    beliefs: BTreeMap<SocketId, Belief>,
    tokens: BTreeMap<(String, String), Value>,
    posted: Vec<i64>,
    asked: Vec<HttpId>,
}

impl Chaos {
    fn socket(&self, n: usize) -> SocketId {
        // Sockets that never were, too.
        self.sockets.get(n).copied().unwrap_or(SocketId(1 << 40))
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Connect if self.sockets.len() < 6 => {
                let socket = self.w.connect();
                self.sockets.push(socket);
            }
            Step::Connect => {}
            Step::Drop(n, clean) => {
                let socket = self.socket(n);
                self.w.handle(Input::Disconnected { socket, clean, heard: self.w.now.mono });
                self.gone(socket);
            }
            Step::Join { socket, session, user, media, resume } => self.join(socket, session, user, media, resume),
            Step::Send { socket, name, payload, ack } => {
                let socket = self.socket(socket);
                // Whoever leaves waits for the ack, so that the test knows.
                if !ack && name != "leave-session" {
                    return self.w.say(socket, name, payload);
                }
                let ack = self.w.post(socket, name, payload);
                self.posted.push(ack);
                let left = name == "leave-session" && self.w.ack(ack).is_some_and(|a| a["ok"] == true);
                if left {
                    self.read_mail();
                    assert!(self.beliefs.remove(&socket).is_some(), "only members leave");
                }
            }
            Step::Sfu { peer, what } => self.sfu(PeerId(peer), what),
            Step::Ask { session, user, plays } => self.ask(session, user, plays),
            Step::Wait(ms) => {
                self.w.wait(ms);
                // A socket that says nothing for longer is found to be dead.
                if ms > 60_000 {
                    self.beat();
                }
            }
            Step::Beat => self.beat(),
            Step::Clock(ms) => self.w.now.unix_ms = self.w.now.unix_ms.saturating_add_signed(ms),
        }
    }

    fn beat(&mut self) {
        let sockets = self.sockets.iter().map(|socket| (*socket, self.w.now.mono)).collect();
        self.w.handle(Input::Heard { sockets });
    }

    /// WHEP or WHIP; the one is in no roster, the other may take a seat away.
    fn ask(&mut self, session: u8, user: u8, plays: bool) {
        let (session, sdp) = (format!("s{session}"), "o".to_owned());
        let ask = if plays {
            Ask::Play { identity: None, session, participant: None, sdp }
        } else {
            Ask::Publish { identity: None, session, user: format!("u{user}"), name: None, instructor: false, sdp }
        };
        self.asked.push(self.w.ask(ask));
    }

    fn join(&mut self, socket: usize, session: u8, user: u8, media: u8, resume: bool) {
        let socket = self.socket(socket);
        let (session, user) = (format!("s{session}"), format!("u{user}"));
        let mut payload = json!({ "sessionId": session, "userId": user });
        payload["media"] = [Value::Null, json!("sfu"), json!("mesh")][usize::from(media)].clone();
        if resume {
            payload["resumeToken"] = self.tokens.get(&(session.clone(), user.clone())).cloned().unwrap_or_default();
        }
        // What came before belongs to what it believed before.
        self.read_mail();
        let ack = self.w.post(socket, "join-session", payload);
        self.posted.push(ack);
        let ack = self.w.ack(ack).expect("a join is answered at once");
        if ack["ok"] != true {
            return;
        }
        self.tokens.insert((session.clone(), user.clone()), ack["resumeToken"].clone());
        let ids = ack["participants"].as_array().unwrap().iter();
        let people = ids.map(|p| p["participantId"].as_str().unwrap().to_owned()).collect();
        let me = ack["participantId"].as_str().unwrap().to_owned();
        self.beliefs.insert(socket, Belief { me, session, user, people });
    }

    fn sfu(&mut self, peer: PeerId, what: u8) {
        let track = TrackId(peer.0 % 4);
        self.w.sfu(match what {
            0 => offered(peer, "o"),
            1 => answered(peer, "a"),
            2 => published(peer, track.0),
            3 => sfu::Event::TrackUnpublished { peer, track },
            4 => sfu::Event::Closed { peer, reason: CloseReason::Internal },
            5 => sfu::Event::ConsentLost { peer },
            6 => sfu::Event::Speakers { room: self.w.room_of(peer), speakers: vec![(peer, 1)], audio: vec![] },
            7 => sfu::Event::TrackPaused { peer, track, reason: sfu::Pause::Bandwidth },
            8 => sfu::Event::TrackResumed { peer, track, reason: sfu::Pause::Bandwidth },
            9 => sfu::Event::LayersWanted { peer, track, layers: vec![("h".into(), false)] },
            11 => sfu::Event::Connected { peer },
            12 => sampled(peer, peer.0 * 1_000),
            13 | 14 => {
                let info = TrackInfo { track, kind: Kind::Audio, source: Source::Microphone, muted: what == 13 };
                sfu::Event::TrackPublished { peer, info }
            }
            10 => sfu::Event::Quality { peer, score: (peer.0 % 5) as u8, cause: None },
            _ => sfu::Event::Refused {
                peer,
                description: sfu::Description::Offer,
                refusal: sfu::Refusal::InvalidSdp,
                message: "No.".into(),
            },
        });
    }

    fn gone(&mut self, socket: SocketId) {
        self.read_mail();
        self.beliefs.remove(&socket);
        self.sockets.retain(|s| *s != socket);
    }

    /// Replays joins and leaves on what each client believes.
    fn read_mail(&mut self) {
        for socket in self.sockets.clone() {
            for (event, payload) in self.w.mail(socket) {
                let Some(belief) = self.beliefs.get_mut(&socket) else {
                    continue;
                };
                let who = payload["participantId"].as_str().unwrap_or_default().to_owned();
                match event {
                    "user-joined" => assert!(belief.people.insert(who), "joined twice"),
                    "user-left" => {
                        assert!(belief.people.remove(&who), "left without having joined")
                    }
                    "session-error" if payload["code"] == "session/replaced" => {
                        self.beliefs.remove(&socket);
                    }
                    _ => {}
                }
            }
        }
    }

    /// Everybody who believes to be in a session is, and what was told of joins and leaves replays to the truth.
    fn check(&mut self) {
        self.read_mail();
        for (socket, belief) in &self.beliefs {
            let again = json!({ "sessionId": belief.session, "userId": belief.user });
            let ack = self.w.granted(*socket, "join-session", again);
            assert_eq!(ack["participantId"], belief.me.as_str());
            let list = ack["participants"].as_array().unwrap().iter();
            let truth: BTreeSet<String> = list.map(|p| p["participantId"].as_str().unwrap().to_owned()).collect();
            assert_eq!(truth, belief.people);
        }
        assert!(self.w.lobby.gauges().participants >= self.beliefs.len());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_comes(steps in prop::collection::vec(step(), 1..120)) {
        let mut c = Chaos {
            w: world(),
            sockets: Vec::new(),
            beliefs: BTreeMap::new(),
            tokens: BTreeMap::new(),
            posted: Vec::new(),
            asked: Vec::new(),
        };
        for _ in 0..4 {
            c.step(Step::Connect);
        }
        for step in steps {
            c.step(step);
        }
        // Early events are answered by now, and the buckets are full again.
        c.w.wait(10_000);
        for ack in &c.posted {
            prop_assert_eq!(c.w.acks.get(ack).map(Vec::len), Some(1), "each ack exactly once");
        }
        c.check();
        for socket in c.sockets.clone() {
            c.w.bye(socket);
        }
        c.w.wait(GRACE_MS);
        // What has no socket ends with its peer.
        while let Some(peer) = c.w.peers.last().copied() {
            c.w.sfu(sfu::Event::Closed { peer, reason: CloseReason::Internal });
        }
        for http in &c.asked {
            prop_assert!(c.w.reply(*http).is_some(), "each request is answered exactly once");
        }
        prop_assert!(c.w.holders.is_empty(), "nobody holds what nobody has a seat for");
        c.w.wait(EMPTY_TIMEOUT.as_millis() as u64);
        let mut logs: BTreeMap<_, Vec<(u64, Fact)>> = BTreeMap::new();
        for fact in c.w.new_facts() {
            let Some(meeting) = fact.meeting() else { continue };
            let log = logs.entry(meeting.clone()).or_default();
            log.push((log.len() as u64 + 1, fact));
        }
        for log in logs.values() {
            prop_assert!(matches!(log.last(), Some((_, Fact::MeetingEnded { .. }))), "each meeting ends");
            prop_assert_eq!(check(log), Vec::<String>::new());
        }
        let gauges = c.w.lobby.gauges();
        prop_assert_eq!((gauges.sockets, gauges.rooms, gauges.participants), (0, 0, 0));
        prop_assert_eq!(c.w.lobby.deadline(), None, "nothing is left to wait for");
    }
}
