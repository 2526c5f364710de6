//! `--target janus`: the same people and the same traffic in a Janus, its VideoRoom joined over WebSockets, so that two servers are
//! held side by side. Whoever publishes has a connection for that, and whoever watches one for all that the room's others publish.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use super::caller::{Caller, Start};
use super::outcome::Outcome;
use super::plan::Part;
use super::uplink::Publish;
use super::way::{self, Path, Way};
use super::{Phase, Shared};

/// How long Janus may take for one answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);
/// How often it is looked whether all publishers of a room are there.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);
/// A session of which nothing is heard ends after 60 s.
const KEEPALIVE: Duration = Duration::from_secs(25);
/// Datagrams read before timers are looked at again.
const READ_BATCH: usize = 64;
/// What Janus says of a room that there is already.
const ROOM_EXISTS: u64 = 427;

/// A session with one handle of the VideoRoom.
struct Janus {
    stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
    session: u64,
    handle: u64,
    transaction: u64,
}

fn lost(error: tungstenite::Error) -> io::Error {
    io::Error::other(error)
}

impl Janus {
    async fn connect(url: &str) -> io::Result<Janus> {
        let mut request = url.into_client_request().map_err(lost)?;
        request.headers_mut().insert("sec-websocket-protocol", http_value("janus-protocol"));
        let connected = tokio::time::timeout(ANSWER_TIMEOUT, tokio_tungstenite::connect_async(request)).await;
        let (stream, _) = connected.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?.map_err(lost)?;
        let mut janus = Janus { stream, session: 0, handle: 0, transaction: 0 };
        let created = janus.ask(json!({ "janus": "create" })).await?;
        janus.session = created["data"]["id"].as_u64().unwrap_or_default();
        let attached = janus.ask(json!({ "janus": "attach", "plugin": "janus.plugin.videoroom" })).await?;
        janus.handle = attached["data"]["id"].as_u64().unwrap_or_default();
        Ok(janus)
    }

    async fn send(&mut self, mut message: Value) -> io::Result<String> {
        self.transaction += 1;
        let transaction = self.transaction.to_string();
        message["transaction"] = transaction.clone().into();
        for (key, id) in [("session_id", self.session), ("handle_id", self.handle)] {
            if id != 0 {
                message[key] = id.into();
            }
        }
        self.stream.send(Message::text(message.to_string())).await.map_err(lost)?;
        Ok(transaction)
    }

    /// Asks and waits for the answer itself, not for the word that it will come.
    async fn ask(&mut self, message: Value) -> io::Result<Value> {
        let transaction = self.send(message).await?;
        let answered = async {
            loop {
                let heard = self.next().await?;
                if heard["transaction"] == transaction.as_str() && heard["janus"] != "ack" {
                    return Ok::<Value, io::Error>(heard);
                }
            }
        };
        let answer = tokio::time::timeout(ANSWER_TIMEOUT, answered);
        let answer = answer.await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        let data = &answer["plugindata"]["data"];
        let failed = answer["janus"] == "error" || !data["error_code"].is_null();
        if failed && data["error_code"] != ROOM_EXISTS {
            return Err(io::Error::other(format!("Janus refused: {answer}")));
        }
        Ok(answer)
    }

    async fn tell_room(&mut self, body: Value, jsep: Option<(&str, String)>) -> io::Result<Value> {
        let mut message = json!({ "janus": "message", "body": body });
        if let Some((kind, sdp)) = jsep {
            message["jsep"] = json!({ "type": kind, "sdp": sdp });
        }
        self.ask(message).await
    }

    /// The next message. Safe to cancel.
    async fn next(&mut self) -> io::Result<Value> {
        loop {
            match self.stream.next().await {
                Some(Ok(Message::Text(text))) => return Ok(serde_json::from_str(&text).unwrap_or_default()),
                Some(Ok(Message::Close(_))) | None => return Err(io::ErrorKind::ConnectionReset.into()),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(lost(error)),
            }
        }
    }
}

fn http_value(text: &'static str) -> tungstenite::http::HeaderValue {
    tungstenite::http::HeaderValue::from_static(text)
}

/// The number of a room: names are other runs' too.
fn room_number(shared: &Shared, room: usize) -> u64 {
    let name = shared.options.session_of(room);
    // FNV-1a, cut to what JSON carries exactly.
    name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
        >> 12
}

/// One connection: what is published, or what is watched.
struct Line {
    janus: Janus,
    caller: Caller,
    way: Way,
    began: Instant,
    /// This one says when its person has joined.
    counts: bool,
}

/// Plays a part until the run is over.
pub async fn run(part: Part, shared: Arc<Shared>, phase: watch::Receiver<Phase>) -> Outcome {
    let publishes = part.publish.tracks().next().is_some();
    let others = shared.publishers[part.room] - usize::from(publishes);
    let play = |publish: bool| {
        let (part, shared, phase) = (part.clone(), shared.clone(), phase.clone());
        async move {
            let wanted = if publish { publishes } else { others > 0 };
            if !wanted {
                return Outcome::default();
            }
            let mut outcome = Outcome::default();
            let counts = !publish || others == 0;
            if let Err(error) = play(&part, &shared, phase, publish, counts, &mut outcome).await {
                outcome.failures.push(error.to_string());
            }
            outcome
        }
    };
    let (up, down) = tokio::join!(play(true), play(false));
    let times = if others > 0 { down.times } else { up.times };
    Outcome {
        number: part.number,
        user: part.user,
        room: part.room,
        times,
        published: up.published,
        heard: down.heard,
        skipped: up.skipped,
        failures: [up.failures, down.failures].concat(),
        ..Outcome::default()
    }
}

async fn play(
    part: &Part,
    shared: &Arc<Shared>,
    mut phase: watch::Receiver<Phase>,
    publish: bool,
    counts: bool,
    outcome: &mut Outcome,
) -> io::Result<()> {
    let began = Instant::now();
    let mut janus = Janus::connect(&shared.options.url).await?;
    outcome.times.socket = Some(ms(began.elapsed()));
    let number = room_number(shared, part.room);
    let room = json!({ "request": "create", "room": number, "publishers": 1_000, "audiolevel_event": false });
    janus.tell_room(room, None).await?;
    let start = Start {
        identity: shared.identity.clone(),
        number: part.number,
        publish: if publish {
            part.publish
        } else {
            Publish { audio: false, camera: false, screen: false, ..part.publish }
        },
        seed: part.seed ^ u64::from(publish),
        began: shared.began,
        unix_began_ms: shared.unix_began_ms,
        room: shared.rooms[part.room].clone(),
    };
    let mut caller = Caller::new(start, began);
    if publish {
        let join = json!({ "request": "join", "ptype": "publisher", "room": number, "display": part.user });
        janus.tell_room(join, None).await?;
        let (offer, _) = caller.offer().unwrap_or_default();
        // It would take the client's side of DTLS, which is ours.
        let offer = offer.replace("a=setup:actpass", "a=setup:active");
        let answer = janus.tell_room(json!({ "request": "publish" }), Some(("offer", offer))).await?;
        caller.handle_answer(answer["jsep"]["sdp"].as_str().unwrap_or_default(), Instant::now());
    } else {
        let join = json!({ "request": "join", "ptype": "subscriber", "room": number, "streams": feeds(&mut janus, part, shared, number).await? });
        let offered = janus.tell_room(join, None).await?;
        let answer = caller.handle_offer(offered["jsep"]["sdp"].as_str().unwrap_or_default(), Instant::now());
        janus.tell_room(json!({ "request": "start" }), Some(("answer", answer))).await?;
    }
    janus.send(json!({ "janus": "trickle", "candidate": { "completed": true } })).await?;
    outcome.times.ack = Some(ms(began.elapsed()));
    let candidate = caller.remote().and_then(|sdp| way::candidate(sdp, Path::Udp, shared.server_ip));
    let candidate = candidate.ok_or_else(|| io::Error::other("Janus names no UDP candidate"))?;
    let way = Way::open(Path::Udp, candidate, &Value::Null).await?;
    caller.peer.checked_from = Some(candidate);
    let mut line = Line { janus, caller, way, began, counts };
    let ended = line.live(shared, part, &mut phase, outcome).await;
    line.finish(part, outcome);
    ended?;
    line.janus.send(json!({ "janus": "destroy" })).await.map(drop)
}

/// What the room's others publish, once all of them do.
async fn feeds(janus: &mut Janus, part: &Part, shared: &Shared, room: u64) -> io::Result<Vec<Value>> {
    let end = Instant::now() + shared.options.ramp + super::JOIN_TIMEOUT;
    let others = shared.publishers[part.room] - usize::from(part.publish.tracks().next().is_some());
    loop {
        let said = janus.tell_room(json!({ "request": "listparticipants", "room": room }), None).await?;
        let people = said["plugindata"]["data"]["participants"].as_array().cloned().unwrap_or_default();
        let feeds: Vec<Value> = people
            .iter()
            .filter(|person| person["publisher"] == true && person["display"] != part.user.as_str())
            .map(|person| json!({ "feed": person["id"] }))
            .collect();
        if feeds.len() >= others {
            return Ok(feeds);
        }
        if Instant::now() >= end {
            return Err(io::Error::other(format!("only {} of {others} publish", feeds.len())));
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

impl Line {
    async fn live(
        &mut self,
        shared: &Shared,
        part: &Part,
        phase: &mut watch::Receiver<Phase>,
        outcome: &mut Outcome,
    ) -> io::Result<()> {
        let mut buffer = way::buffer();
        let mut keepalive = Instant::now() + KEEPALIVE;
        let mut finished = false;
        loop {
            let now = Instant::now();
            if keepalive <= now {
                keepalive = now + KEEPALIVE;
                self.janus.send(json!({ "janus": "keepalive" })).await?;
            }
            self.caller.up.speaking = true;
            self.caller.tick(now);
            while let Some(datagram) = self.caller.transmit() {
                self.way.send(&datagram, now);
            }
            for late in self.caller.up.lateness.drain(..) {
                shared.lateness.note(late.as_micros() as u64);
            }
            self.note_steps(shared, part, outcome, now);
            let deadline = self.caller.deadline().unwrap_or(keepalive).min(keepalive);
            tokio::select! {
                result = self.way.readable() => {
                    result?;
                    let now = Instant::now();
                    for _ in 0..READ_BATCH {
                        if self.way.receive(&mut buffer, now)?.is_none() {
                            break;
                        }
                        self.caller.handle(&mut buffer, now);
                    }
                }
                // Everything that is told here belongs to what others do.
                said = self.janus.next() => drop(said?),
                () = tokio::time::sleep_until(deadline.into()) => {}
                changed = phase.changed() => {
                    let phase = if changed.is_ok() { *phase.borrow_and_update() } else { Phase::Done };
                    if phase >= Phase::Draining && !std::mem::replace(&mut finished, true) {
                        self.caller.down.finish(Instant::now());
                        self.caller.up.publishing = false;
                    }
                    if phase == Phase::Done {
                        return Ok(());
                    }
                }
            }
        }
    }

    fn note_steps(&mut self, shared: &Shared, part: &Part, outcome: &mut Outcome, now: Instant) {
        let since = ms(now.saturating_duration_since(self.began));
        let times = &mut outcome.times;
        if self.caller.peer.is_checked() {
            times.ice.get_or_insert(since);
        }
        if self.caller.peer.is_connected() && times.dtls.is_none() {
            times.dtls = Some(since);
            let joined = &shared.rooms[part.room].joined;
            joined.fetch_add(u64::from(self.counts), Relaxed);
        }
        for (kind, time) in [&mut times.first_audio, &mut times.first_frame].into_iter().enumerate() {
            if let (None, Some(at)) = (*time, self.caller.down.firsts[kind]) {
                let published = shared.rooms[part.room].first_published(kind);
                let from = published.map_or(self.began, |since| (shared.began + since).max(self.began));
                *time = Some(ms(at.saturating_duration_since(from)));
            }
        }
    }

    fn finish(&mut self, part: &Part, outcome: &mut Outcome) {
        if outcome.times.dtls.is_none() {
            outcome.failures.push("media never connected".to_owned());
        }
        if self.caller.up.sums.packets > 0 {
            outcome.published = part.publish.tracks().collect();
        }
        outcome.skipped += self.caller.up.sums.skipped;
        outcome.heard.extend(self.caller.down.heard.iter());
    }
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
