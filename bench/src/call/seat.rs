//! One participant with its sockets: it joins over Socket.IO, negotiates, and does what its part says until the run is over.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tokio::sync::watch;

use super::caller::{Caller, Start};
use super::chaos::Deed;
use super::impair::Gate;
use super::outcome::Outcome;
use super::plan::{Part, talks};
use super::truth::{End, Stay};
use super::way::{self, Path, Way};
use super::{Phase, Shared};
use crate::socketio::{Client, Frame};

/// Failures kept of each participant; later ones are the consequences of the first.
const FAILURES_MAX: usize = 5;
/// Datagrams read before timers and signaling are looked at again.
const READ_BATCH: usize = 64;
/// How long an answer to leaving is waited for.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(5);
/// Whose UDP is blocked notices after this, as browsers do by consent checks, and goes on by TCP.
const NOTICE: Duration = Duration::from_secs(2);
/// A token is good for so long.
const TOKEN_S: u64 = 6 * 3_600;
/// How often a socket that was cut tries to come back, and for how long.
const RECONNECT_WAIT: Duration = Duration::from_millis(250);
const RECONNECT_TIMEOUT: Duration = Duration::from_secs(20);

/// Why the work on one connection ended.
enum Stop {
    Done,
    Killed,
    Left(Duration),
}

struct Seat {
    part: Part,
    shared: Arc<Shared>,
    session: String,
    began: Instant,
    client: Client,
    caller: Caller,
    way: Option<Way>,
    path: Path,
    up: Gate,
    down: Gate,
    /// What the join was answered with.
    ack: Value,
    ack_id: u64,
    asked_ms: u64,
    blocked: Option<Instant>,
    resumes: Option<Instant>,
    media_began: Option<Instant>,
    finished: bool,
    outcome: Outcome,
}

/// The wall clock, Unix ms.
pub fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}

/// Plays a part until the run is over.
pub async fn run(part: Part, shared: Arc<Shared>, mut phase: watch::Receiver<Phase>) -> Outcome {
    let (number, user, room) = (part.number, part.user.clone(), part.room);
    let mut outcome = Outcome { number, user, room, ..Outcome::default() };
    let mut media_began = None;
    let mut part = part;
    // When a server that was restarted on purpose went away.
    let mut lost: Option<Instant> = None;
    loop {
        let mut seat = match Seat::begin(part.clone(), shared.clone(), outcome).await {
            Ok(seat) => seat,
            Err((tried, _)) if lost.is_some_and(|at| at.elapsed() < RECONNECT_TIMEOUT) => {
                outcome = tried;
                tokio::time::sleep(RECONNECT_WAIT).await;
                continue;
            }
            Err((mut outcome, error)) => {
                outcome.failures.push(format!("could not join: {error}"));
                return outcome;
            }
        };
        seat.media_began = media_began;
        seat.resumes = lost.take();
        let stop = match seat.live(&mut phase).await {
            Ok(stop) => stop,
            Err(_) if shared.restarted.load(Relaxed) && *phase.borrow() == Phase::Media => {
                lost = Some(Instant::now());
                seat.end_stay(End::Dropped { at: unix_ms() });
                Stop::Left(RECONNECT_WAIT)
            }
            Err(error) => {
                seat.fail(error.to_string());
                Stop::Done
            }
        };
        (media_began, part) = (seat.media_began, seat.part.clone());
        outcome = seat.finish().await;
        let Stop::Left(away) = stop else { return outcome };
        tokio::time::sleep(away).await;
        if *phase.borrow() >= Phase::Draining {
            return outcome;
        }
    }
}

impl Seat {
    async fn begin(part: Part, shared: Arc<Shared>, outcome: Outcome) -> Result<Seat, (Outcome, io::Error)> {
        let began = Instant::now();
        let session = shared.options.session_of(part.room);
        let client = match connect(&part, &shared, &session).await {
            Ok(client) => client,
            Err(error) => return Err((outcome, error)),
        };
        let start = Start {
            identity: shared.identity.clone(),
            number: part.number,
            publish: part.publish,
            seed: part.seed,
            began: shared.began,
            unix_began_ms: shared.unix_began_ms,
            room: shared.rooms[part.room].clone(),
        };
        let (impair, path) = (shared.options.impair, shared.options.path);
        let mut seat = Seat {
            session,
            began,
            client,
            caller: Caller::new(start, began),
            way: None,
            path,
            up: Gate::new(impair, part.seed ^ 1),
            down: Gate::new(impair, part.seed ^ 2),
            ack: Value::Null,
            ack_id: u64::MAX,
            asked_ms: 0,
            blocked: None,
            resumes: None,
            media_began: None,
            finished: false,
            outcome,
            part,
            shared,
        };
        seat.outcome.times.socket.get_or_insert(ms(began.elapsed()));
        match seat.join().await {
            Ok(()) => Ok(seat),
            Err(error) => Err((seat.outcome, error)),
        }
    }

    async fn join(&mut self) -> io::Result<()> {
        let mut join = json!({
            "sessionId": self.session, "userId": self.part.user, "userName": self.part.user,
            "isInstructor": self.part.instructor, "media": "sfu",
        });
        if let Some(token) = self.ack["resumeToken"].as_str() {
            join["resumeToken"] = token.into();
        }
        self.asked_ms = unix_ms();
        self.ack_id = self.client.emit("join-session", join).await?;
        Ok(())
    }

    /// Until the run is over or it leaves; sockets that were cut come back.
    async fn live(&mut self, phase: &mut watch::Receiver<Phase>) -> io::Result<Stop> {
        loop {
            match self.work(phase).await? {
                Stop::Killed => self.reconnect().await?,
                stop => return Ok(stop),
            }
        }
    }

    async fn reconnect(&mut self) -> io::Result<()> {
        let cut = Instant::now();
        self.end_stay(End::Dropped { at: unix_ms() });
        self.resumes = Some(cut);
        loop {
            match connect(&self.part, &self.shared, &self.session).await {
                Ok(client) => {
                    // The old one goes without a word.
                    self.client = client;
                    return self.join().await;
                }
                Err(error) if cut.elapsed() > RECONNECT_TIMEOUT => return Err(error),
                Err(_) => tokio::time::sleep(RECONNECT_WAIT).await,
            }
        }
    }

    async fn work(&mut self, phase: &mut watch::Receiver<Phase>) -> io::Result<Stop> {
        let mut buffer = way::buffer();
        loop {
            let now = Instant::now();
            if let Some(stop) = self.do_deeds(now).await? {
                return Ok(stop);
            }
            self.flush(now).await?;
            let deadline = self.deadline(now);
            let way = &self.way;
            let readable = async {
                match way {
                    Some(way) => way.readable().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                result = readable => {
                    result?;
                    self.read(&mut buffer)?;
                }
                frame = self.client.next() => match frame? {
                    Frame::Close => return Err(io::Error::new(io::ErrorKind::ConnectionReset, "the server closed the socket")),
                    frame => self.take(frame).await?,
                },
                () = tokio::time::sleep_until(deadline.into()) => {}
                changed = phase.changed() => {
                    let now = if changed.is_ok() { *phase.borrow_and_update() } else { Phase::Done };
                    self.enter(now);
                    if now == Phase::Done {
                        return Ok(Stop::Done);
                    }
                }
            }
            self.caller.tick(Instant::now());
        }
    }

    fn enter(&mut self, phase: Phase) {
        let now = Instant::now();
        if phase >= Phase::Media {
            self.media_began.get_or_insert(now);
        }
        if phase >= Phase::Draining && !self.finished {
            self.finished = true;
            self.caller.down.finish(now);
            self.caller.up.publishing = false;
        }
    }

    fn deadline(&self, now: Instant) -> Instant {
        let deed = self.media_began.zip(self.part.deeds.first()).map(|(began, (at, _))| began + *at);
        let notices = self.blocked.filter(|_| self.path != Path::Tcp).map(|at| at + NOTICE);
        let way = self.way.as_ref().and_then(|way| way.deadline(now));
        let mine = [deed, notices, way, self.caller.deadline(), self.up.deadline(), self.down.deadline()];
        mine.into_iter().flatten().min().unwrap_or(now + Duration::from_secs(1))
    }

    /// Does what its part says is due.
    async fn do_deeds(&mut self, now: Instant) -> io::Result<Option<Stop>> {
        if let Some(at) = self.blocked.filter(|at| self.path != Path::Tcp && now >= *at + NOTICE) {
            self.path = Path::Tcp;
            (self.up.cut, self.down.cut) = (false, false);
            self.way = None;
            self.open_way().await?;
            self.caller.peer.recheck(now);
            self.blocked = Some(at);
        }
        let Some(began) = self.media_began.filter(|_| !self.finished) else { return Ok(None) };
        let Some((_, deed)) = self.part.deeds.first().filter(|(at, _)| began + *at <= now).copied() else {
            return Ok(None);
        };
        self.part.deeds.remove(0);
        Ok(match deed {
            Deed::KillSocket => Some(Stop::Killed),
            Deed::Leave { away } => Some(Stop::Left(away)),
            // All of them lose it at once, and notice by themselves.
            Deed::Restart => None,
            Deed::BlockUdp => {
                if self.path != Path::Tcp {
                    (self.up.cut, self.down.cut) = (true, true);
                    self.blocked = Some(now);
                }
                None
            }
        })
    }

    async fn open_way(&mut self) -> io::Result<()> {
        let Some(to) = self.candidate() else { return Ok(()) };
        let to = self.shared.options.via.unwrap_or(to);
        self.way = Some(Way::open(self.path, to, &self.ack).await?);
        Ok(())
    }

    fn candidate(&self) -> Option<SocketAddr> {
        let host: Option<IpAddr> = self.shared.server_ip;
        way::candidate(self.caller.remote()?, self.path, host)
    }

    /// Reads what waits, at most [`READ_BATCH`] datagrams.
    fn read(&mut self, buffer: &mut Vec<u8>) -> io::Result<()> {
        let now = Instant::now();
        let Some(way) = &mut self.way else { return Ok(()) };
        for _ in 0..READ_BATCH {
            if way.receive(buffer, now)?.is_none() {
                break;
            }
            if let Some(mut datagram) = self.down.put(buffer.clone(), now) {
                self.caller.handle(&mut datagram, now);
            }
        }
        Ok(())
    }

    /// Sends what is to be sent, and notes what has come to be.
    async fn flush(&mut self, now: Instant) -> io::Result<()> {
        while let Some(mut datagram) = self.down.take(now) {
            self.caller.handle(&mut datagram, now);
        }
        self.caller.up.speaking = talks(
            self.shared.options.shape.as_ref(),
            self.part.room,
            self.part.place,
            self.shared.options.people() / self.shared.options.rooms.max(1),
            now - self.shared.began,
        );
        self.caller.tick(now);
        if let Some(way) = &mut self.way {
            while let Some(datagram) = self.caller.transmit() {
                if let Some(datagram) = self.up.put(datagram, now) {
                    way.send(&datagram, now);
                }
            }
            while let Some(datagram) = self.up.take(now) {
                way.send(&datagram, now);
            }
            way.flush(now)?;
        }
        for late in self.caller.up.lateness.drain(..) {
            self.shared.lateness.note(late.as_micros() as u64);
        }
        self.note_steps(now);
        Ok(())
    }

    fn note_steps(&mut self, now: Instant) {
        let since = |at: Instant| Some(ms(now.saturating_duration_since(at)));
        if let Some(at) = self.blocked.filter(|_| self.path == Path::Tcp && self.caller.peer.is_checked()) {
            self.outcome.switches.extend(since(at));
            self.blocked = None;
        }
        let times = &mut self.outcome.times;
        if times.first_frame.is_some() && times.first_audio.is_some() {
            return;
        }
        if times.ice.is_none() && self.caller.peer.is_checked() {
            times.ice = since(self.began);
        }
        if times.dtls.is_none() && self.caller.peer.is_connected() {
            times.dtls = since(self.began);
            self.shared.rooms[self.part.room].joined.fetch_add(1, Relaxed);
        }
        for (kind, time) in [&mut times.first_audio, &mut times.first_frame].into_iter().enumerate() {
            if let (None, Some(at)) = (*time, self.caller.down.firsts[kind]) {
                let published = self.shared.rooms[self.part.room].first_published(kind);
                let from = published.map_or(self.began, |since| (self.shared.began + since).max(self.began));
                *time = Some(ms(at.saturating_duration_since(from)));
            }
        }
    }

    async fn take(&mut self, frame: Frame) -> io::Result<()> {
        match frame {
            Frame::Ack { id, payload } if id == self.ack_id => self.take_ack(payload).await?,
            Frame::Ack { payload, .. } if payload["ok"] == false => self.fail(format!("refused: {}", payload["error"])),
            Frame::Event { name, payload } => self.take_event(&name, &payload).await?,
            _ => {}
        }
        self.offer().await
    }

    async fn take_ack(&mut self, ack: Value) -> io::Result<()> {
        if ack["ok"] != true {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                format!("the join was refused: {}", ack["error"]),
            ));
        }
        self.outcome.times.ack.get_or_insert(ms(self.began.elapsed()));
        if let Some(cut) = self.resumes.take() {
            self.outcome.reconnects.push(ms(cut.elapsed()));
        }
        let word = |key: &str| ack[key].as_str().unwrap_or_default().to_owned();
        self.outcome.stays.push(Stay {
            user: self.part.user.clone(),
            session: self.session.clone(),
            meeting: word("meetingId"),
            participant: word("participantId"),
            resumed: ack["resumed"] == true,
            asked: self.asked_ms,
            acked: unix_ms(),
            end: End::Open,
        });
        self.ack = ack;
        Ok(())
    }

    /// Offers what it publishes, once it has joined and as often as a crossing offer takes it back.
    async fn offer(&mut self) -> io::Result<()> {
        if self.ack.is_null() {
            return Ok(());
        }
        let Some((sdp, tracks)) = self.caller.offer() else { return Ok(()) };
        let tracks: Vec<Value> =
            tracks.iter().map(|(mid, track)| json!({ "mid": mid, "source": track.source() })).collect();
        self.tell("offer", &sdp, Some(tracks)).await
    }

    async fn tell(&mut self, kind: &str, sdp: &str, tracks: Option<Vec<Value>>) -> io::Result<()> {
        let mut payload = json!({ "targetUserId": "sfu", kind: { "type": kind, "sdp": sdp } });
        if let Some(tracks) = tracks {
            payload["tracks"] = tracks.into();
        }
        self.client.emit(kind, payload).await.map(drop)
    }

    async fn take_event(&mut self, name: &str, payload: &Value) -> io::Result<()> {
        let now = Instant::now();
        let word = |key: &str| payload[key].as_str().unwrap_or_default();
        match name {
            "offer" | "answer" => {
                let Some(sdp) = payload[name]["sdp"].as_str() else { return Ok(()) };
                if name == "offer" {
                    let answer = self.caller.handle_offer(sdp, now);
                    self.tell("answer", &answer, None).await?;
                } else {
                    self.caller.handle_answer(sdp, now);
                }
                if self.way.is_none() {
                    self.open_way().await?;
                }
            }
            "layers-wanted" => {
                for layer in payload["layers"].as_array().into_iter().flatten() {
                    let rid = layer["rid"].as_str().unwrap_or_default();
                    self.caller.up.want_layer(rid, layer["active"] == true);
                }
            }
            "track-paused" => self.caller.down.pause(word("trackId"), word("reason") == "bandwidth", now),
            "track-resumed" => self.caller.down.pause(word("trackId"), false, now),
            "user-left" => self.caller.down.gone(word("participantId")),
            "session-error" => self.fail(format!("session-error {payload}")),
            _ => {}
        }
        Ok(())
    }

    fn fail(&mut self, failure: String) {
        if self.outcome.failures.len() < FAILURES_MAX {
            self.outcome.failures.push(failure);
        }
    }

    fn end_stay(&mut self, end: End) {
        if let Some(stay) = self.outcome.stays.last_mut().filter(|stay| stay.end == End::Open) {
            stay.end = end;
        }
    }

    async fn finish(mut self) -> Outcome {
        if self.outcome.times.dtls.is_none() {
            self.fail("media never connected".to_owned());
        }
        if self.caller.up.sums.packets > 0 {
            self.outcome.published = self.part.publish.tracks().collect();
        }
        self.outcome.skipped += self.caller.up.sums.skipped;
        self.outcome.heard.extend(self.caller.down.heard.iter());
        let sent = unix_ms();
        let left = tokio::time::timeout(LEAVE_TIMEOUT, leave(&mut self.client)).await;
        let end = match left {
            Ok(Ok(())) => End::Left { sent, acked: unix_ms() },
            _ => End::Dropped { at: sent },
        };
        self.end_stay(end);
        self.client.close().await;
        self.outcome
    }
}

async fn leave(client: &mut Client) -> io::Result<()> {
    let id = client.emit("leave-session", json!({})).await?;
    loop {
        match client.next().await? {
            Frame::Ack { id: of, payload } if of == id && payload["ok"] == true => return Ok(()),
            Frame::Ack { id: of, .. } if of == id => return Err(io::ErrorKind::PermissionDenied.into()),
            Frame::Close => return Err(io::ErrorKind::ConnectionReset.into()),
            _ => {}
        }
    }
}

async fn connect(part: &Part, shared: &Shared, session: &str) -> io::Result<Client> {
    let options = &shared.options;
    let expires = unix_ms() / 1_000 + TOKEN_S;
    let token = options.signer.as_ref().map(|it| it.token(session, &part.user, part.instructor, expires));
    Client::connect_with(&options.url, token.as_deref(), &options.trust).await
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
