//! The control task: owns the `Lobby`, takes one inbox of what happened, does what the lobby says.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use serde_json::Value;
use serde_json::value::RawValue;
use signaling::limits::HEARTBEAT_EVERY;
use signaling::{AckId, Fact, FactId, HttpId, Lobby, Output, Recipients, SocketId, WorkerId};
use tokio::sync::{mpsc, oneshot};

use crate::auth::Auth;
use crate::clock;
use crate::credit::{Credit, Credits};
use crate::heard::Heard;
use crate::held::{Freed, Held, Passed};
use crate::joins::{Joining, Openings, Tally};
use crate::journal::{self, Facts};
use crate::seldom::Seldom;
use crate::socketio::{self, Client};
use crate::turn::{self, Turn};
use crate::worker::{Full, Worker};

/// Inputs that wait for the lobby. When full, a socket that emits is disconnected, and workers keep their events.
pub(crate) const INBOX_MAX: usize = 32_768;
/// Inputs handled before the outputs' recipients and other tasks get a turn.
const BURST_MAX: usize = 256;
/// How long to wait for a full queue of a worker or the TURN thread before it is tried again.
const WORKER_RETRY: Duration = Duration::from_millis(1);
/// How long an HTTP client waits for the lobby and the SFU together, which answer within milliseconds unless they are stuck.
const REPLY_MAX: Duration = Duration::from_secs(10);
/// Longest sleep, so that a stuck task shows.
const BEAT_EVERY: Duration = Duration::from_secs(1);

/// What happened, as edges and workers tell it.
pub(crate) enum Input {
    /// A socket connected.
    Connected {
        /// Its number.
        socket: SocketId,
        /// Its source.
        address: IpAddr,
        /// How to reach it.
        client: Weak<Client>,
        /// When its packets come.
        heard: Arc<Heard>,
        /// What its token says; `None` in open mode.
        identity: Option<Arc<signaling::Identity>>,
        /// Whether it may; its handshake waits for that.
        verdict: oneshot::Sender<Result<(), signaling::ErrorCode>>,
    },
    /// A socket emitted.
    Event {
        /// Which.
        socket: SocketId,
        /// The event's name.
        name: String,
        /// Its first argument.
        payload: Value,
        /// The ack id that the client chose; nothing keeps it from choosing one twice.
        ack: Option<i64>,
        /// When it was read from the socket.
        came: Instant,
        /// Given back when the event was handled.
        credit: Credit,
    },
    /// A socket emitted more than its credits allow: a row of refused events stands here.
    Refused {
        /// Whose.
        socket: SocketId,
        /// Where the row is.
        credits: Arc<Credits>,
    },
    /// A socket is gone.
    Disconnected {
        /// Which.
        socket: SocketId,
        /// The client said goodbye.
        clean: bool,
    },
    /// A WHIP or WHEP client asks.
    Ask {
        /// Its source.
        address: IpAddr,
        /// What.
        ask: signaling::Ask,
        /// Where the answer goes. Dropped unanswered only when control ends.
        reply: oneshot::Sender<Replied>,
    },
    /// The application or a moderator asks over HTTP.
    Command {
        /// Who.
        actor: signaling::Actor,
        /// What.
        command: signaling::Command,
        /// Where the answer goes. Dropped unanswered only when control ends.
        reply: oneshot::Sender<Replied>,
    },
    /// The rules of a session, from now on; `None`: the server's own.
    Settings {
        /// Which.
        session: Arc<str>,
        /// Its rules.
        settings: Option<Box<signaling::RoomSettings>>,
    },
    /// What a former boot left open, with all connections closed. Before any other input.
    Restore {
        /// Meetings.
        open: signaling::attendance::Open,
    },
    /// What was said in a meeting that goes on, before this boot.
    Said {
        /// Which.
        meeting: Arc<str>,
        /// Chat facts, oldest first.
        messages: Vec<Fact>,
    },
    /// A token that is withdrawn.
    Revoked {
        /// Its `jti`.
        token: Arc<str>,
        /// Its `exp`, Unix ms.
        expires_ms: u64,
    },
    /// Whether facts can be written down.
    Recording {
        /// They can.
        possible: bool,
    },
    /// The journal has this fact and all before it on disk.
    Committed(FactId),
    /// The server will end, and everybody is told.
    Drain {
        /// When at the latest, Unix ms.
        deadline_ms: u64,
        /// Told when nobody new gets in any more and [`Counts`] say who is here.
        done: oneshot::Sender<()>,
    },
    /// The server is about to end: history learns who was there until now.
    Stop {
        /// Told when the journal has all of that in its queue.
        done: oneshot::Sender<()>,
    },
    /// A worker reports.
    Media {
        /// Which.
        worker: WorkerId,
        /// What.
        event: sfu::Event,
    },
}

/// What the lobby answers an HTTP request.
pub(crate) type Replied = Result<signaling::Granted, signaling::Refused>;

/// Where inputs go; weak, so that who asks does not keep control from ending.
pub(crate) type Inbox = mpsc::WeakSender<Input>;

/// Asks the lobby for an HTTP client; `input` is told where the answer goes. `server/overloaded` if nothing more fits into the inbox, or
/// no answer comes within [`REPLY_MAX`].
pub(crate) async fn ask(inbox: &Inbox, input: impl FnOnce(oneshot::Sender<Replied>) -> Input) -> Replied {
    let (reply, replied) = oneshot::channel();
    let is_sent = inbox.upgrade().is_some_and(|inbox| inbox.try_send(input(reply)).is_ok());
    match tokio::time::timeout(REPLY_MAX, replied).await {
        Ok(Ok(replied)) if is_sent => replied,
        _ => Err(overloaded()),
    }
}

/// Why a request is not even looked at.
pub(crate) fn overloaded() -> signaling::Refused {
    let message = "The server is full or about to stop: try again later.".to_owned();
    signaling::Refused { code: signaling::ErrorCode::Overloaded, message }
}

/// Counts for metrics and health, written by the control task after each burst.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) sockets: AtomicUsize,
    pub(crate) rooms: AtomicUsize,
    pub(crate) participants: AtomicUsize,
    /// Events that sockets emitted.
    pub(crate) events: AtomicU64,
    /// Messages to sockets: emits and acks.
    pub(crate) messages: AtomicU64,
    /// Sockets disconnected because they did not read.
    pub(crate) overflows: AtomicU64,
    /// Events refused because too many of their socket waited.
    pub(crate) refused: AtomicU64,
    /// Times that the queue of a worker or the TURN thread was full.
    pub(crate) worker_waits: AtomicU64,
    /// Times that the journal's queue was full.
    pub(crate) journal_waits: AtomicU64,
    /// Messages that wait for the disk, of the socket that has most of them.
    pub(crate) held: AtomicUsize,
    /// How long joins took.
    pub(crate) joins: Tally,
    /// When the control task last ran.
    beat: Mutex<Option<Instant>>,
}

impl Counts {
    /// Time since the control task last ran.
    pub(crate) fn idle(&self) -> Duration {
        let beat = self.beat.lock().unwrap_or_else(PoisonError::into_inner);
        beat.map_or(Duration::ZERO, |at| at.elapsed())
    }
}

/// Runs until every sender of the inbox is gone.
pub(crate) async fn run(
    lobby: Lobby,
    mut inbox: mpsc::Receiver<Input>,
    workers: Vec<Worker>,
    turn: Option<Turn>,
    facts: Facts,
    auth: Auth,
    counts: Arc<Counts>,
) {
    let mut control = Control {
        lobby,
        workers,
        turn,
        facts,
        auth,
        counts,
        seats: HashMap::new(),
        asked: HashMap::new(),
        next_http: 0,
        held: Held::new(),
        openings: Openings::default(),
        join: None,
    };
    let mut heartbeat = tokio::time::interval(HEARTBEAT_EVERY);
    heartbeat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut burst = Vec::with_capacity(BURST_MAX);
    loop {
        let beat = Instant::now() + BEAT_EVERY;
        let deadline = control.lobby.deadline().map_or(beat, |deadline| deadline.min(beat));
        let received = tokio::select! {
            received = inbox.recv_many(&mut burst, BURST_MAX) => received,
            () = tokio::time::sleep_until(deadline.into()) => usize::MAX,
            _ = heartbeat.tick() => {
                control.tell_heard();
                usize::MAX
            }
        };
        match received {
            0 => return,
            usize::MAX => control.lobby.handle(signaling::Input::Tick, clock::now()),
            _ => {}
        }
        for input in burst.drain(..) {
            control.take(input).await;
        }
        // A busy inbox must not keep the lobby from its deadlines.
        let now = clock::now();
        if control.lobby.deadline().is_some_and(|deadline| deadline <= now.mono) {
            control.lobby.handle(signaling::Input::Tick, now);
        }
        control.act().await;
        control.count();
    }
}

/// A connected socket, as control knows it.
struct Seat {
    client: Weak<Client>,
    /// Our ack ids → the client's. The lobby answers each exactly once.
    acks: HashMap<AckId, i64>,
    next_ack: i64,
    heard: Arc<Heard>,
    /// Its join, until that is answered.
    joining: Option<Joining>,
}

/// What a socket is sent.
enum Message {
    Emit { event: &'static str, payload: Arc<RawValue> },
    Ack { ack: AckId, body: Arc<RawValue> },
    Disconnect,
}

struct Control {
    lobby: Lobby,
    workers: Vec<Worker>,
    turn: Option<Turn>,
    facts: Facts,
    auth: Auth,
    counts: Arc<Counts>,
    seats: HashMap<SocketId, Seat>,
    /// HTTP requests that wait for the lobby's reply, which comes when the SFU has answered or the seat is gone.
    asked: HashMap<HttpId, oneshot::Sender<Replied>>,
    next_http: u64,
    /// What waits for facts to be on disk.
    held: Held<Message, (HttpId, Replied)>,
    /// Whose media is not up yet.
    openings: Openings,
    /// The span of the join that is being handled.
    join: Option<tracing::Id>,
}

impl Control {
    /// Tells the lobby what happened, and does what it says.
    async fn take(&mut self, input: Input) {
        let now = clock::now();
        match input {
            Input::Connected { socket, address, client, heard, identity, verdict } => {
                let admitted = self.lobby.admits(address, identity.as_deref()).map_err(|why| why.code);
                let may = admitted.is_ok();
                // Of one that does not wait any more, the edge says that it is gone.
                let _ = verdict.send(admitted);
                if !may {
                    return;
                }
                let seat = Seat { client, acks: HashMap::new(), next_ack: 0, heard, joining: None };
                self.seats.insert(socket, seat);
                self.lobby.handle(signaling::Input::Connected { socket, address, identity }, now);
            }
            Input::Event { socket, name, payload, ack, came, credit } => {
                // Events of a socket that overflowed a moment ago have no one to answer to.
                if let Some(seat) = self.seats.get_mut(&socket) {
                    let ack = ack.map(|theirs| seat.expect_ack(theirs));
                    if let Some(joining) = Joining::of(&name, &payload, ack, came) {
                        self.join = joining.span();
                        seat.joining = Some(joining);
                    }
                    self.counts.events.fetch_add(1, Ordering::Relaxed);
                    self.lobby.handle(signaling::Input::Event { socket, name, payload, ack }, now);
                }
                drop(credit);
            }
            Input::Refused { socket, credits } => {
                for refused in credits.end_row() {
                    let Some(seat) = self.seats.get_mut(&socket) else { break };
                    let ack = refused.ack.map(|theirs| seat.expect_ack(theirs));
                    self.counts.refused.fetch_add(1, Ordering::Relaxed);
                    self.lobby.handle(signaling::Input::Refused { socket, name: refused.name, ack }, now);
                    self.act().await;
                }
            }
            Input::Disconnected { socket, clean } => {
                if let Some(seat) = self.seats.remove(&socket) {
                    self.held.forget(socket);
                    let heard = seat.heard.at().min(now.mono);
                    self.lobby.handle(signaling::Input::Disconnected { socket, clean, heard }, now);
                }
            }
            Input::Command { actor, command, reply } => {
                let http = self.expect_reply(reply);
                self.lobby.handle(signaling::Input::Command { http, actor, command }, now);
            }
            Input::Settings { session, settings } => {
                self.lobby.handle(signaling::Input::Settings { session, settings }, now);
            }
            Input::Restore { open } => self.lobby.handle(signaling::Input::Restore { open }, now),
            Input::Said { meeting, messages } => self.lobby.handle(signaling::Input::Said { meeting, messages }, now),
            Input::Revoked { token, expires_ms } => {
                self.lobby.handle(signaling::Input::Revoked { token, expires_ms }, now);
            }
            Input::Recording { possible } => self.lobby.handle(signaling::Input::Recording { possible }, now),
            Input::Committed(fact) => self.commit(fact),
            Input::Drain { deadline_ms, done } => {
                self.lobby.handle(signaling::Input::Drain { deadline_ms }, now);
                self.count();
                // Whoever does not wait any more was told to end at once.
                let _ = done.send(());
            }
            Input::Stop { done } => {
                let sockets = self.heard();
                self.lobby.handle(signaling::Input::Stop { sockets }, now);
                self.act().await;
                // Who does not wait any more need not know.
                let _ = done.send(());
            }
            Input::Ask { address, ask, reply } => {
                let http = self.expect_reply(reply);
                self.lobby.handle(signaling::Input::Ask { http, address, ask }, now);
            }
            Input::Media { worker, event } => {
                self.openings.heard(&event, &self.counts.joins, now.mono);
                self.lobby.handle(signaling::Input::Media { worker, event }, now);
            }
        }
        self.act().await;
        self.join = None;
    }

    /// Does what the lobby says, until it says nothing more.
    async fn act(&mut self) {
        while let Some(output) = self.lobby.poll() {
            match output {
                Output::Emit { to: Recipients::One(socket), event, payload } => {
                    self.tell(socket, Message::Emit { event, payload }, None);
                }
                Output::Emit { to: Recipients::Many(sockets), event, payload } => {
                    for socket in sockets {
                        self.tell(socket, Message::Emit { event, payload: payload.clone() }, None);
                    }
                }
                Output::Ack { socket, ack, body, after, gates: true } => {
                    self.tell(socket, Message::Ack { ack, body }, after);
                }
                Output::Ack { socket, ack, body, after, gates: false } => {
                    self.tell_by_itself(socket, Message::Ack { ack, body }, after);
                }
                Output::Reply { http, reply, after } => {
                    if let Some((http, reply)) = self.held.pass_reply((http, reply), after) {
                        self.answer(http, reply);
                    }
                }
                Output::Disconnect { socket } => self.tell(socket, Message::Disconnect, None),
                Output::Grant { holder } => self.order(turn_server::Input::Grant { holder }).await,
                Output::Revoke { holder } => self.order(turn_server::Input::Revoke { holder }).await,
                Output::Fact { id, fact } => self.write_down(id, fact).await,
                Output::Renew { socket, identity } => self.renew(socket, &identity),
                Output::Media { worker, request } => self.request(worker, request).await,
            }
        }
    }

    /// Mints a token that goes on where another ends, and sends it.
    fn renew(&mut self, socket: SocketId, identity: &signaling::Identity) {
        let now = clock::now();
        let minted = self.auth.mint(identity, None, now.unix_ms);
        let (token, expires_ms) = (minted.identity.token.clone(), minted.identity.expires_ms);
        self.lobby.handle(signaling::Input::Renewed { socket, token, expires_ms }, now);
        let body = serde_json::json!({ "token": minted.token, "expiresAt": minted.identity.expires_ms });
        if let Ok(payload) = serde_json::value::to_raw_value(&body) {
            self.tell(socket, Message::Emit { event: "token", payload: payload.into() }, None);
        }
    }

    /// Tells the TURN server, if there is one, who has a seat. It takes this before what the client will ask of it.
    async fn order(&self, mut input: turn_server::Input) {
        let Some(turn) = &self.turn else { return };
        while let Err(turn::Full(back)) = turn.order(input) {
            self.counts.worker_waits.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(WORKER_RETRY).await;
            input = back;
        }
    }

    fn expect_reply(&mut self, reply: oneshot::Sender<Replied>) -> HttpId {
        let http = HttpId(self.next_http);
        self.next_http += 1;
        self.asked.insert(http, reply);
        http
    }

    fn answer(&mut self, http: HttpId, reply: Replied) {
        // A client that does not wait any more has closed its end.
        drop(self.asked.remove(&http).map(|asked| asked.send(reply)));
    }

    /// Sends to a socket, or holds it if that must wait for a fact or comes behind what waits.
    fn tell(&mut self, socket: SocketId, message: Message, after: Option<FactId>) {
        if !self.seats.contains_key(&socket) {
            return;
        }
        match self.held.pass(socket, message, after) {
            Passed::Now(message) => self.send(socket, message),
            Passed::Later => {}
            Passed::Full => self.full(socket),
        }
    }

    /// Sends an ack, or holds it while all else to its socket goes on.
    fn tell_by_itself(&mut self, socket: SocketId, ack: Message, after: Option<FactId>) {
        if !self.seats.contains_key(&socket) {
            return;
        }
        match self.held.pass_ack(socket, ack, after) {
            // Behind the ack of its join, if that waits still.
            Passed::Now(ack) => self.tell(socket, ack, None),
            Passed::Later => {}
            Passed::Full => self.full(socket),
        }
    }

    /// Too much waits for a socket.
    fn full(&mut self, socket: SocketId) {
        if let Some(client) = self.seats.get(&socket).and_then(|seat| seat.client.upgrade()) {
            self.overflow(socket, &client);
        }
    }

    fn send(&mut self, socket: SocketId, message: Message) {
        let Some(seat) = self.seats.get_mut(&socket) else { return };
        let theirs = match &message {
            Message::Ack { ack, body } => {
                if let Some(joining) = seat.joining.take_if(|joining| joining.is_answered_by(*ack)) {
                    joining.answered(body, &self.counts.joins, clock::now().mono);
                }
                seat.acks.remove(ack)
            }
            Message::Emit { event, .. } if Joining::is_held_up_by(event) => {
                seat.joining = None;
                None
            }
            _ => None,
        };
        let Some(client) = seat.client.upgrade() else { return };
        let sent = match message {
            Message::Emit { event, payload } => socketio::emit(&client, event, &payload),
            Message::Ack { body, .. } => match theirs {
                Some(theirs) => socketio::ack(&client, theirs, &body),
                None => {
                    debug_assert!(false, "the lobby answers each ack exactly once");
                    return;
                }
            },
            // Its `Disconnected` comes by the inbox, as for any other.
            Message::Disconnect => return socketio::disconnect(&client),
        };
        self.counts.messages.fetch_add(1, Ordering::Relaxed);
        if sent.is_err() {
            self.overflow(socket, &client);
        }
    }

    /// Hands a fact to the journal, which says when it is on disk. While its queue is full nobody could be answered anyway.
    async fn write_down(&self, id: FactId, mut fact: Fact) {
        let now = clock::now();
        while let Err(journal::Full(back)) = self.facts.write(id, fact, now) {
            self.counts.journal_waits.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(WORKER_RETRY).await;
            fact = back;
        }
    }

    /// A fact is on disk, and all before it: what waited for them leaves.
    fn commit(&mut self, fact: FactId) {
        for freed in self.held.commit(fact) {
            match freed {
                Freed::Message(socket, message) => self.send(socket, message),
                Freed::Ack(socket, ack) => self.tell(socket, ack, None),
                Freed::Reply((http, reply)) => self.answer(http, reply),
            }
        }
    }

    /// Tells the lobby when each socket was last heard, which makes a heartbeat.
    fn tell_heard(&mut self) {
        let sockets = self.heard();
        self.lobby.handle(signaling::Input::Heard { sockets }, clock::now());
    }

    /// When each socket was last heard.
    fn heard(&self) -> Vec<(SocketId, Instant)> {
        let now = clock::now().mono;
        self.seats.iter().map(|(socket, seat)| (*socket, seat.heard.at().min(now))).collect()
    }

    /// A client that does not read would silently miss messages: it is disconnected, and to the lobby it is gone now.
    fn overflow(&mut self, socket: SocketId, client: &Arc<Client>) {
        static LINE: Seldom = Seldom::new();
        let Some(seat) = self.seats.remove(&socket) else { return };
        self.held.forget(socket);
        self.counts.overflows.fetch_add(1, Ordering::Relaxed);
        if let Some(more) = LINE.due() {
            tracing::info!(socket = socket.0, more, "disconnected: it does not read what it is sent");
        }
        socketio::disconnect(client);
        let now = clock::now();
        let heard = seat.heard.at().min(now.mono);
        self.lobby.handle(signaling::Input::Disconnected { socket, clean: false, heard }, now);
    }

    async fn request(&mut self, id: WorkerId, mut request: sfu::Request) {
        static LINE: Seldom = Seldom::new();
        self.openings.asked(&request, self.join.as_ref(), clock::now().mono);
        let Some(worker) = self.workers.get(id.0) else {
            debug_assert!(false, "the lobby knows how many workers there are");
            return;
        };
        while let Err(Full(again)) = worker.request(request) {
            request = again;
            self.counts.worker_waits.fetch_add(1, Ordering::Relaxed);
            if let Some(more) = LINE.due() {
                tracing::warn!(
                    worker = id.0,
                    more,
                    "the request queue of a media worker is full: signaling waits for it"
                );
            }
            tokio::time::sleep(WORKER_RETRY).await;
        }
    }

    fn count(&self) {
        let gauges = self.lobby.gauges();
        *self.counts.beat.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        self.counts.sockets.store(self.seats.len(), Ordering::Relaxed);
        self.counts.rooms.store(gauges.rooms, Ordering::Relaxed);
        self.counts.participants.store(gauges.participants, Ordering::Relaxed);
        self.counts.held.store(self.held.most(), Ordering::Relaxed);
    }
}

impl Seat {
    fn expect_ack(&mut self, theirs: i64) -> AckId {
        let ours = AckId(self.next_ack);
        self.next_ack += 1;
        self.acks.insert(ours, theirs);
        ours
    }
}
