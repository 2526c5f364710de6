//! A webhook receiver that records, delays, fails and loses its answers.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use serde_json::Value;
use sqlx::{AnyConnection, Row as _};

/// What the server signs with; that signatures are right is tested elsewhere.
pub(crate) const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
/// The room whose second event it refuses once, and after whose third it says nothing once. The next attempt is 5 s later, and the one
/// after that would be minutes: so only where no attempt can be lost to a kill.
pub(crate) const HARD_ROOM: &str = "hard";
/// How long answers take in turn, ms.
const DELAYS_MS: [u64; 5] = [0, 0, 40, 0, 150];

/// An event as it came.
#[derive(Clone, Debug)]
struct Event {
    room: String,
    room_seq: u64,
    body: Bytes,
    times: usize,
}

/// What has come.
#[derive(Default)]
struct Came {
    events: HashMap<String, Event>,
    /// The numbers of each room's events, as they first came.
    order: BTreeMap<String, Vec<u64>>,
    requests: usize,
}

/// Runs as long as the runtime does.
#[derive(Clone)]
pub(crate) struct Receiver {
    pub(crate) url: String,
    came: Arc<Mutex<Came>>,
}

impl Receiver {
    /// Listens on a free port.
    pub(crate) async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.expect("a free port");
        let url = format!("http://{}/hooks", listener.local_addr().expect("it listens"));
        let receiver = Receiver { url, came: Arc::default() };
        let router = Router::new().route("/hooks", post(take)).with_state(receiver.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        receiver
    }

    /// What was told of a kind, in order of its room's numbers.
    pub(crate) fn told(&self, kind: &str) -> Vec<Value> {
        let parse = |event: &Event| serde_json::from_slice::<Value>(&event.body).expect("an event is JSON");
        let mut told: Vec<Value> = self.came().events.values().map(parse).filter(|said| said["type"] == kind).collect();
        told.sort_by_key(|said| said["roomSeq"].as_u64());
        told
    }

    fn came(&self) -> MutexGuard<'_, Came> {
        self.came.lock().expect("nobody panics with it")
    }

    /// Notes an event; how often it came so far.
    fn note(&self, id: &str, body: Bytes) -> (usize, u64, String, u64) {
        let said: Value = serde_json::from_slice(&body).expect("an event is JSON");
        let room = said["data"]["sessionId"].as_str().unwrap_or_else(|| panic!("no room in {said}")).to_owned();
        let room_seq = said["roomSeq"].as_u64().unwrap_or_else(|| panic!("no number in {said}"));
        let mut came = self.came();
        came.requests += 1;
        let delay = DELAYS_MS[came.requests % DELAYS_MS.len()];
        let new = Event { room: room.clone(), room_seq, body: body.clone(), times: 0 };
        let event = came.events.entry(id.to_owned()).or_insert(new);
        event.times += 1;
        assert_eq!(event.body, body, "{id} is another at another attempt");
        let times = event.times;
        if times == 1 {
            came.order.entry(room.clone()).or_default().push(room_seq);
        }
        (times, delay, room, room_seq)
    }

    /// Compares with the outbox: each delivery arrived, nothing else did, in the order of its room; a summary of each meeting once.
    pub(crate) async fn compare(&self, connection: &mut AnyConnection) {
        let query = "SELECT o.event_id, o.session_id, o.room_seq, o.body FROM outbox o
             JOIN deliveries d ON d.event_id = o.event_id WHERE d.state = 'delivered'";
        let rows = sqlx::query(query).fetch_all(connection).await.expect("the outbox");
        let came = self.came();
        for row in &rows {
            let word = |at: usize| row.try_get::<String, _>(at).expect("a word");
            let event =
                came.events.get(&word(0)).unwrap_or_else(|| panic!("{} was not delivered: {}", word(0), word(3)));
            let room_seq = row.try_get::<i64, _>(2).expect("a number") as u64;
            assert_eq!((&event.room, event.room_seq), (&word(1), room_seq));
            assert_eq!(event.body, word(3).as_bytes());
        }
        assert_eq!(came.events.len(), rows.len(), "events came that the outbox does not have");
        for (room, order) in &came.order {
            assert!(order.is_sorted(), "{room}: {order:?}");
            assert!(order.windows(2).all(|pair| pair[1] == pair[0] + 1), "{room} has gaps: {order:?}");
        }
        let twice = came.events.values().filter(|event| event.times > 1).count();
        assert!(twice >= 2, "nothing was delivered again");
        let hard = came.order.get(HARD_ROOM).map_or(0, Vec::len);
        assert!(hard >= 4, "{hard} events of the hard room");
        eprintln!("attendance: {} webhooks came, {twice} of them more than once", came.events.len());
    }
}

async fn take(State(receiver): State<Receiver>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let id = headers.get("webhook-id").and_then(|id| id.to_str().ok()).expect("each event has an id").to_owned();
    let (times, delay, room, room_seq) = receiver.note(&id, body);
    tokio::time::sleep(Duration::from_millis(delay)).await;
    match (room.as_str(), room_seq, times) {
        (HARD_ROOM, 2, 1) => StatusCode::INTERNAL_SERVER_ERROR,
        // It was taken, but the sender does not hear of it.
        (HARD_ROOM, 3, 1) => StatusCode::GATEWAY_TIMEOUT,
        _ => StatusCode::NO_CONTENT,
    }
}
