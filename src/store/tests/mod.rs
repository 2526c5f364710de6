//! The store on both engines: a SQLite file, and a PostgreSQL that the tests start.

mod applying;
mod away;
mod deleting;
mod delivering;
mod history;
mod questions;
mod schools;
mod sweeping;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use signaling::{Fact, Reason, Role};
use sqlx::{Column as _, Row as _};

use self::postgres::Postgres;
use super::{Engine, Store, Tables, look};
use crate::journal::{NodeId, Record};

#[path = "../../../tests/postgres/mod.rs"]
mod postgres;

/// Times of tests begin here: 2026-09-07, a Monday, 00:00 UTC.
const MONDAY: u64 = 1_788_739_200_000;
const MINUTE: u64 = 60_000;
/// Long enough for a machine that does many other things.
const PATIENCE: Duration = Duration::from_secs(60);

/// One server for all tests of this process; it ends with the process.
fn server() -> &'static Postgres {
    static SERVER: OnceLock<Postgres> = OnceLock::new();
    SERVER.get_or_init(Postgres::start)
}

/// A fresh database.
struct Fresh {
    engine: Engine,
    url: String,
    /// Its name on the server.
    name: String,
    /// Where its file is.
    dir: Option<PathBuf>,
}

impl Fresh {
    fn new(engine: Engine) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("lyceum_{}_{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        if engine == Engine::Postgres {
            return Fresh { engine, url: server().database(&name), name, dir: None };
        }
        let dir = std::env::temp_dir().join(&name);
        std::fs::create_dir_all(&dir).expect("the temporary directory is writable");
        Fresh { engine, url: format!("sqlite://{}/lyceum.db", dir.display()), name, dir: Some(dir) }
    }

    /// One of each engine.
    fn both() -> [Self; 2] {
        [Fresh::new(Engine::Sqlite), Fresh::new(Engine::Postgres)]
    }

    async fn open(&self) -> Store {
        Store::open(&self.url, PATIENCE).await.expect("it opens")
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        match &self.dir {
            Some(dir) => drop(std::fs::remove_dir_all(dir)),
            None if std::thread::panicking() => {}
            None => drop(server().psql("postgres", &format!("DROP DATABASE \"{}\" WITH (FORCE)", self.name))),
        }
    }
}

/// A node that writes facts.
struct Node {
    id: NodeId,
    index: u64,
}

impl Node {
    fn new(id: &str) -> Self {
        Node { id: id.into(), index: 0 }
    }

    fn records(&mut self, facts: impl IntoIterator<Item = Fact>) -> Vec<Record> {
        let record = |fact: Fact| {
            self.index += 1;
            Record { index: self.index, boot: 1, mono_ms: fact.at() - MONDAY, wall_ms: fact.at(), fact }
        };
        facts.into_iter().map(record).collect()
    }

    async fn apply(&mut self, store: &Store, facts: impl IntoIterator<Item = Fact>) {
        let records = self.records(facts);
        apply_all(store, &self.id, &records).await;
    }
}

/// Applies to the end, as the applier does.
async fn apply_all(store: &Store, node: &NodeId, records: &[Record]) {
    let last = records.last().map_or(0, |record| record.index);
    let mut applied = 0;
    while applied < last {
        applied = store.apply(node, records).await.expect("it applies");
    }
}

fn started(meeting: &str, session: &str, at: u64) -> Fact {
    Fact::MeetingStarted { meeting: meeting.into(), session: session.into(), at, grace_ms: 30_000 }
}

fn joined(meeting: &str, connection: &str, user: &str, at: u64) -> Fact {
    Fact::Joined {
        meeting: meeting.into(),
        connection: connection.into(),
        participant: format!("p_{connection}").into(),
        user: user.into(),
        name: format!("Name of {user}").into(),
        role: if user.starts_with("teacher") { Role::Instructor } else { Role::Participant },
        at,
        resumes: None,
    }
}

fn left(meeting: &str, connection: &str, at: u64) -> Fact {
    Fact::Left { meeting: meeting.into(), connection: connection.into(), at, reason: Reason::Left, uncertainty_ms: 0 }
}

fn ended(meeting: &str, at: u64) -> Fact {
    Fact::MeetingEnded { meeting: meeting.into(), at }
}

fn chat(meeting: &str, id: &str, user: &str, message: &str, at: u64) -> Fact {
    Fact::Chat {
        meeting: meeting.into(),
        id: id.into(),
        user: user.into(),
        name: user.into(),
        message: message.into(),
        at,
    }
}

/// A whole meeting: each person comes and goes at these times.
fn meeting(meeting: &str, session: &str, people: &[(&str, u64, u64)]) -> Vec<Fact> {
    let from = people.iter().map(|p| p.1).min().unwrap_or(MONDAY);
    let to = people.iter().map(|p| p.2).max().unwrap_or(MONDAY);
    let mut facts = vec![];
    for (number, (user, came, went)) in people.iter().enumerate() {
        facts.push(joined(meeting, &format!("c_{meeting}_{number}"), user, *came));
        facts.push(left(meeting, &format!("c_{meeting}_{number}"), *went));
    }
    facts.sort_by_key(Fact::at);
    facts.insert(0, started(meeting, session, from));
    facts.push(ended(meeting, to));
    facts
}

/// All tables, and the columns by which their rows are told apart.
const TABLES: [&str; 17] = [
    "nodes",
    "rooms",
    "rosters",
    "schedules",
    "meetings",
    "connection_log",
    "connections",
    "tracks",
    "summaries",
    "attendance",
    "visits",
    "chat_messages",
    "revocations",
    "webhook_endpoints",
    "outbox",
    "deliveries",
    "received_events",
];

/// Rows of a query, each as one line.
async fn rows(store: &Store, query: &str) -> Vec<String> {
    let pool = store.read().await.expect("it is there");
    let rows = sqlx::query(sqlx::AssertSqlSafe(query.to_owned()))
        .fetch_all(pool)
        .await
        .unwrap_or_else(|error| panic!("{query}: {error}"));
    rows.iter()
        .map(|row| {
            let cell = |at: usize| {
                let number = row.try_get::<Option<i64>, _>(at).map(|n| n.map(|n| n.to_string()));
                let text = || row.try_get::<Option<String>, _>(at);
                let cell = number.or_else(|_| text()).unwrap_or_else(|error| panic!("{query}: {error}"));
                cell.unwrap_or_else(|| "NULL".to_owned())
            };
            (0..row.columns().len())
                .map(|at| format!("{}={}", row.column(at).name(), cell(at)))
                .collect::<Vec<_>>()
                .join(" ")
        })
        .collect()
}

/// One number.
async fn count(store: &Store, query: &str) -> u64 {
    let rows = rows(store, query).await;
    rows.first().and_then(|row| row.split_once('=')?.1.parse().ok()).unwrap_or_else(|| panic!("{query}: {rows:?}"))
}

/// Everything in the store, in an order that is the same on both engines.
async fn everything(store: &Store) -> Vec<String> {
    let mut all = vec![];
    for table in TABLES {
        let mut rows = rows(store, &format!("SELECT * FROM {table}")).await;
        rows.sort();
        all.extend(rows.into_iter().map(|row| format!("{table}: {row}")));
    }
    all
}

/// The types of all events of a room, in order, after checking that their numbers have no gap.
async fn events(store: &Store, session: &str) -> Vec<String> {
    let bodies =
        rows(store, &format!("SELECT body FROM outbox WHERE session_id = '{session}' ORDER BY room_seq")).await;
    let mut types = vec![];
    for (number, body) in (1_u64..).zip(bodies) {
        let body: serde_json::Value =
            serde_json::from_str(body.strip_prefix("body=").expect("one column")).expect("it is JSON");
        assert_eq!(body["roomSeq"], number, "{body}");
        types.push(body["type"].as_str().expect("it has a type").to_owned());
    }
    types
}

fn node_id(id: &str) -> NodeId {
    Arc::from(id)
}
