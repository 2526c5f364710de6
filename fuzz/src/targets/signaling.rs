//! Events of three sockets to a lobby with its SFU: two of them in a session, the third not yet.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use sfu::{Kind, TrackId};
use signaling::limits::{EARLY_WAIT, RELAY_BYTES_MAX};
use signaling::{AckId, Config, Input, Lobby, Output, Recipients, SocketId, WorkerId};

use super::RECORD_SEPARATOR;
use crate::hall::Hall;
use crate::peer::{ClientPeer, Identity};

const SOCKETS: u64 = 3;
const RECORDS_MAX: usize = 64;
/// What one event may cause: messages to each socket, and what the SFU has to say.
const OUTPUTS_MAX: usize = 256;
/// A relayed payload as it is written again may be longer by its escapes.
const EMIT_BYTES_MAX: usize = 4 * RELAY_BYTES_MAX;

struct Stage {
    lobby: Lobby,
    hall: Hall,
    /// The acks asked for, and whether they were given.
    acks: BTreeMap<i64, (SocketId, bool)>,
    track: Option<TrackId>,
    /// Who may use the TURN server.
    holders: BTreeSet<Arc<str>>,
    /// An offer, as the inside of a JSON string.
    offer: String,
}

/// Records of `<socket><event>\n<JSON>`, in which `$TRACK` and `$OFFER` stand for a real track and a real offer. Each ack is
/// given exactly once, to whom it belongs.
pub fn signaling(data: &[u8]) {
    let mut stage = Stage::new();
    for record in data.split(|byte| *byte == RECORD_SEPARATOR).take(RECORDS_MAX) {
        let text = String::from_utf8_lossy(record);
        let (head, body) = text.split_once('\n').unwrap_or((&text, "null"));
        let mut name = head.chars();
        let socket = name.next().map_or(0, |it| u64::from(u32::from(it)) % SOCKETS);
        let track = stage.track.unwrap_or(TrackId(1)).to_string();
        let body = body.replace("$TRACK", &track).replace("$OFFER", &stage.offer);
        // What is no JSON never gets here: the Socket.IO edge says null for it.
        let payload = serde_json::from_str(&body).unwrap_or_default();
        stage.event(SocketId(socket), name.as_str(), payload);
    }
    stage.finish();
}

impl Stage {
    fn new() -> Stage {
        let config = Config { workers: 1, ice: Default::default(), grace_ms: 20_000, empty_timeout_ms: 120_000 };
        let client = ClientPeer::new(Identity::new(), 1, &[Kind::Audio, Kind::Video], 1);
        let offer = Value::from(client.offer()).to_string();
        let mut stage = Stage {
            lobby: Lobby::new(config, [1; 32]),
            hall: Hall::new(1),
            acks: BTreeMap::new(),
            track: None,
            holders: BTreeSet::new(),
            offer: offer.trim_matches('"').to_owned(),
        };
        for id in 0..SOCKETS {
            let address = IpAddr::V4(Ipv4Addr::new(10, 0, 0, id as u8));
            stage.handle(Input::Connected { socket: SocketId(id), address, identity: None });
        }
        for (id, user) in [(0, "u0"), (1, "u1")] {
            let join =
                json!({ "sessionId": "s", "userId": user, "userName": user, "isInstructor": false, "media": "sfu" });
            stage.event(SocketId(id), "join-session", join);
        }
        let offer =
            json!({ "sessionId": "s", "targetUserId": "sfu", "offer": { "type": "offer", "sdp": client.offer() } });
        stage.event(SocketId(0), "offer", offer);
        assert!(stage.track.is_some(), "the offer published something");
        assert!(stage.acks.values().all(|(_, given)| *given));
        stage
    }

    fn event(&mut self, socket: SocketId, name: &str, payload: Value) {
        let ack = self.acks.len() as i64;
        self.acks.insert(ack, (socket, false));
        self.handle(Input::Event { socket, name: name.to_owned(), payload, ack: Some(AckId(ack)) });
    }

    /// Gives the lobby an input, and lobby and SFU to each other until neither has anything to say.
    fn handle(&mut self, input: Input) {
        self.lobby.handle(input, self.hall.now);
        let mut outputs = 0;
        loop {
            while let Some(output) = self.lobby.poll() {
                outputs += 1;
                self.check(output);
            }
            let Some(said) = self.hall.sfu.poll() else { break };
            outputs += 1;
            let sfu::Output::Event(event) = said else { continue };
            if let sfu::Event::TrackPublished { info, .. } = &event {
                self.track = Some(info.track);
            }
            self.lobby.handle(Input::Media { worker: WorkerId(0), event }, self.hall.now);
        }
        assert!(outputs <= OUTPUTS_MAX, "one input caused {outputs} outputs");
        assert_eq!(self.hall.sfu.counters().peer_panics, 0);
    }

    fn check(&mut self, output: Output) {
        match output {
            Output::Ack { socket, ack, body, .. } => {
                let Some((owner, given)) = self.acks.get_mut(&ack.0) else { panic!("nobody asked for {ack:?}") };
                assert_eq!(*owner, socket);
                assert!(!std::mem::replace(given, true), "{ack:?} was given twice");
                let body: Value = serde_json::from_str(body.get()).expect("an ack is JSON");
                assert_eq!(body["ok"] == true, body.get("error").is_none(), "{body}");
            }
            Output::Emit { to, payload, .. } => {
                let sockets = match to {
                    Recipients::One(socket) => vec![socket],
                    Recipients::Many(sockets) => sockets,
                };
                assert!(sockets.iter().all(|socket| socket.0 < SOCKETS));
                assert!(payload.get().len() <= EMIT_BYTES_MAX);
                assert!(serde_json::from_str::<Value>(payload.get()).is_ok());
            }
            Output::Media { worker, request } => {
                assert_eq!(worker, WorkerId(0));
                self.hall.request(request);
            }
            Output::Reply { http, .. } => panic!("nobody asked over HTTP: {http:?}"),
            Output::Disconnect { .. } | Output::Fact { .. } | Output::Renew { .. } => {}
            Output::Grant { holder } => assert!(self.holders.insert(holder), "granted twice"),
            Output::Revoke { holder } => assert!(self.holders.remove(&holder), "revoked without a grant"),
        }
    }

    /// What waited for a join is answered when it has waited long enough.
    fn finish(mut self) {
        self.hall.advance(EARLY_WAIT + Duration::from_millis(100));
        self.hall.sfu.handle(sfu::Input::Tick, self.hall.now);
        self.handle(Input::Tick);
        for (ack, (socket, given)) in &self.acks {
            assert!(given, "ack {ack} of {socket:?} was never given");
        }
        for id in 0..SOCKETS {
            self.handle(Input::Disconnected { socket: SocketId(id), clean: true, heard: self.hall.now.mono });
        }
        let gauges = self.lobby.gauges();
        assert_eq!((gauges.sockets, gauges.participants, gauges.rooms), (0, 0, 0));
        assert!(self.holders.is_empty(), "whoever left has no more use of the TURN server");
        assert_eq!(self.hall.sfu.gauges().peers, 0);
    }
}
