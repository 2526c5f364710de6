//! The control task: owns the `Lobby`, takes one inbox of what happened, does what the lobby says.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use serde_json::Value;
use serde_json::value::RawValue;
use signaling::{AckId, HttpId, Lobby, Output, Recipients, SocketId, WorkerId};
use tokio::sync::{mpsc, oneshot};

use crate::clock;
use crate::credit::{Credit, Credits};
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
    /// A worker reports.
    Media {
        /// Which.
        worker: WorkerId,
        /// What.
        event: sfu::Event,
    },
}

/// What the lobby answers a WHIP or WHEP client.
pub(crate) type Replied = Result<signaling::Granted, signaling::Refused>;

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
    counts: Arc<Counts>,
) {
    let mut control =
        Control { lobby, workers, turn, counts, seats: HashMap::new(), asked: HashMap::new(), next_http: 0 };
    let mut burst = Vec::with_capacity(BURST_MAX);
    loop {
        let beat = Instant::now() + BEAT_EVERY;
        let deadline = control.lobby.deadline().map_or(beat, |deadline| deadline.min(beat));
        let received = tokio::select! {
            received = inbox.recv_many(&mut burst, BURST_MAX) => received,
            () = tokio::time::sleep_until(deadline.into()) => usize::MAX,
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
}

struct Control {
    lobby: Lobby,
    workers: Vec<Worker>,
    turn: Option<Turn>,
    counts: Arc<Counts>,
    seats: HashMap<SocketId, Seat>,
    /// HTTP requests that wait for the lobby's reply, which comes when the SFU has answered or the seat is gone.
    asked: HashMap<HttpId, oneshot::Sender<Replied>>,
    next_http: u64,
}

impl Control {
    /// Tells the lobby what happened, and does what it says.
    async fn take(&mut self, input: Input) {
        let now = clock::now();
        match input {
            Input::Connected { socket, address, client } => {
                self.seats.insert(socket, Seat { client, acks: HashMap::new(), next_ack: 0 });
                self.lobby.handle(signaling::Input::Connected { socket, address, identity: None }, now);
            }
            Input::Event { socket, name, payload, ack, credit } => {
                // Events of a socket that overflowed a moment ago have no one to answer to.
                if let Some(seat) = self.seats.get_mut(&socket) {
                    let ack = ack.map(|theirs| seat.expect_ack(theirs));
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
                if self.seats.remove(&socket).is_some() {
                    self.lobby.handle(signaling::Input::Disconnected { socket, clean, heard: now.mono }, now);
                }
            }
            Input::Ask { address, ask, reply } => {
                let http = HttpId(self.next_http);
                self.next_http += 1;
                self.asked.insert(http, reply);
                self.lobby.handle(signaling::Input::Ask { http, address, ask }, now);
            }
            Input::Media { worker, event } => self.lobby.handle(signaling::Input::Media { worker, event }, now),
        }
        self.act().await;
    }

    /// Does what the lobby says, until it says nothing more.
    async fn act(&mut self) {
        while let Some(output) = self.lobby.poll() {
            match output {
                Output::Emit { to: Recipients::One(socket), event, payload } => self.emit(socket, event, &payload),
                Output::Emit { to: Recipients::Many(sockets), event, payload } => {
                    for socket in sockets {
                        self.emit(socket, event, &payload);
                    }
                }
                Output::Ack { socket, ack, body, after: _ } => self.ack(socket, ack, &body),
                Output::Reply { http, reply, after: _ } => {
                    // A client that does not wait any more has closed its end.
                    let _ = self.asked.remove(&http).map(|asked| asked.send(reply));
                }
                Output::Disconnect { socket } => {
                    // Its `Disconnected` comes by the inbox, as for any other.
                    if let Some(client) = self.seats.get(&socket).and_then(|seat| seat.client.upgrade()) {
                        socketio::disconnect(&client);
                    }
                }
                Output::Grant { holder } => self.order(turn_server::Input::Grant { holder }).await,
                Output::Revoke { holder } => self.order(turn_server::Input::Revoke { holder }).await,
                // Not written down yet.
                Output::Fact { .. } | Output::Renew { .. } => {}
                Output::Media { worker, request } => self.request(worker, request).await,
            }
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

    fn emit(&mut self, socket: SocketId, event: &'static str, payload: &RawValue) {
        let Some(client) = self.seats.get(&socket).and_then(|seat| seat.client.upgrade()) else { return };
        self.counts.messages.fetch_add(1, Ordering::Relaxed);
        if socketio::emit(&client, event, payload).is_err() {
            self.overflow(socket, &client);
        }
    }

    fn ack(&mut self, socket: SocketId, ack: AckId, body: &RawValue) {
        let Some(seat) = self.seats.get_mut(&socket) else { return };
        let Some(theirs) = seat.acks.remove(&ack) else {
            debug_assert!(false, "the lobby answers each ack exactly once");
            return;
        };
        let Some(client) = seat.client.upgrade() else { return };
        self.counts.messages.fetch_add(1, Ordering::Relaxed);
        if socketio::ack(&client, theirs, body).is_err() {
            self.overflow(socket, &client);
        }
    }

    /// A client that does not read would silently miss messages: it is disconnected, and to the lobby it is gone now.
    fn overflow(&mut self, socket: SocketId, client: &Arc<Client>) {
        static LINE: Seldom = Seldom::new();
        self.seats.remove(&socket);
        self.counts.overflows.fetch_add(1, Ordering::Relaxed);
        if let Some(more) = LINE.due() {
            tracing::info!(socket = socket.0, more, "disconnected: it does not read what it is sent");
        }
        socketio::disconnect(client);
        let now = clock::now();
        self.lobby.handle(signaling::Input::Disconnected { socket, clean: false, heard: now.mono }, now);
    }

    async fn request(&mut self, id: WorkerId, mut request: sfu::Request) {
        static LINE: Seldom = Seldom::new();
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
