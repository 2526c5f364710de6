//! The real binary under load, killed with -9 at random moments, on SQLite and on a PostgreSQL that is stopped and killed too: what it
//! acknowledged is in the database, once. Truth is what its clients wrote down.
//!
//! `LYCEUM_LONG=1` kills it a thousand times rather than ten, `LYCEUM_KILLS` as often as it says. `LYCEUM_SEED` chooses the moments.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, missing_docs)]

#[path = "attendance/bots.rs"]
mod bots;
#[path = "attendance/check.rs"]
mod check;
#[path = "attendance/disk.rs"]
mod disk;
#[path = "attendance/late.rs"]
mod late;
mod plain;
mod postgres;
#[path = "attendance/receiver.rs"]
mod receiver;
#[path = "attendance/restart.rs"]
mod restart;
#[path = "attendance/server.rs"]
mod server;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use bench::socketio::Client;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::sync::watch;

use self::bots::{Bots, Truth, unix_ms};
use self::postgres::Postgres;
use self::receiver::{HARD_ROOM, Receiver};
use self::server::Server;

/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long a meeting stays open with nobody there, so that some end while the server is killed again and again.
const EMPTY_MS: u64 = 1_500;
const GRACE_MS: u64 = 700;
/// The same where a restart must be over before.
const RESTART_MAX_MS: u64 = 10_000;
/// How long the server may run before it is killed, ms: from before it is ready.
const MOMENTS_MS: std::ops::Range<u64> = 200..1_600;
/// Once it runs for so long, ms: then heartbeats say how long people were there.
const LONG_MOMENT_MS: u64 = 8_500;
/// The round in which it does.
const LONG_ROUND: usize = 4;
/// Rooms, and who comes and goes in them.
const ROOMS: usize = 8;
const PEOPLE: usize = 24;

fn rounds() -> usize {
    let wished = std::env::var("LYCEUM_KILLS").ok().and_then(|kills| kills.parse().ok());
    wished.unwrap_or(if std::env::var_os("LYCEUM_LONG").is_some_and(|long| !long.is_empty()) { 1_000 } else { 10 })
}

/// What happens to a database in a round.
struct Outage {
    /// It is not there when the server starts.
    at_start: bool,
    /// It is killed while the server runs.
    midway: bool,
    /// It comes back while the server runs.
    back: bool,
}

/// Of ten rounds four have an outage.
fn outage(round: usize) -> Outage {
    let round = round % 10;
    Outage { at_start: matches!(round, 2 | 3), midway: matches!(round, 5 | 7), back: matches!(round, 3 | 5) }
}

struct Rig {
    dir: PathBuf,
    url: Option<String>,
    database: Option<Postgres>,
    is_away: bool,
    random: StdRng,
    receiver: Receiver,
    boots: watch::Sender<Option<(u64, String)>>,
    truth: Truth,
    ready_max: Duration,
}

impl Rig {
    fn new(name: &str, database: Option<Postgres>, receiver: Receiver) -> (Self, Bots) {
        let seed = std::env::var("LYCEUM_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(rand::random);
        eprintln!("attendance on {name}: LYCEUM_SEED={seed}");
        let dir = folder(name);
        let url = database.as_ref().map(|database| database.database("lyceum"));
        let (boots, _) = watch::channel(None);
        let truth = Truth::default();
        let bots = Bots::start(PEOPLE, ROOMS, seed, &boots, &truth);
        let random = StdRng::seed_from_u64(seed);
        (Rig { dir, url, database, is_away: false, random, receiver, boots, truth, ready_max: Duration::ZERO }, bots)
    }

    /// The URL by which the test reads what the server wrote.
    fn read_url(&self) -> String {
        self.url.clone().unwrap_or_else(|| format!("sqlite://{}", self.dir.join("lyceum.db").display()))
    }

    /// Starts the server, and waits until it has acknowledged a join.
    async fn start(&mut self, boot: u64) -> Server {
        let begun = Instant::now();
        let server = Server::start(&self.dir, self.url.as_deref(), &self.receiver.url, EMPTY_MS);
        bots::probe(&server.url, boot, "probes", &self.truth).await;
        self.ready_max = self.ready_max.max(begun.elapsed());
        self.boots.send_replace(Some((boot, server.url.clone())));
        server
    }

    fn database_away(&mut self, kill: bool) {
        if let Some(database) = self.database.as_mut().filter(|_| !self.is_away) {
            tokio::task::block_in_place(|| if kill { database.kill() } else { database.stop() });
            self.is_away = true;
        }
    }

    fn database_back(&mut self) {
        if let Some(database) = self.database.as_mut().filter(|_| self.is_away) {
            tokio::task::block_in_place(|| database.start_again());
            self.is_away = false;
        }
    }

    async fn round(&mut self, round: usize) {
        let outage = outage(round);
        if outage.at_start {
            self.database_away(round % 20 >= 10);
        } else {
            self.database_back();
        }
        let mut server = self.start(round as u64).await;
        if self.is_away {
            let health = server.health();
            assert_eq!((health.0, health.1["status"].as_str()), (200, Some("degraded")), "{}", health.1);
        }
        let moment = match round % 10 {
            LONG_ROUND => LONG_MOMENT_MS,
            _ => self.random.random_range(MOMENTS_MS),
        };
        tokio::time::sleep(Duration::from_millis(moment / 2)).await;
        if outage.midway {
            self.database_away(true);
        }
        if outage.back {
            self.database_back();
        }
        tokio::time::sleep(Duration::from_millis(moment / 2)).await;
        self.boots.send_replace(None);
        let died = unix_ms();
        server.kill();
        self.truth.died(round as u64, died, unix_ms());
    }

    /// Lets everybody go, and waits until all that happened is in the database and all meetings are over.
    async fn end(mut self, bots: Bots) {
        self.database_back();
        let last = rounds() as u64;
        let mut server = self.start(last).await;
        bots.leave().await;
        bots::probe(&server.url, last, HARD_ROOM, &self.truth).await;
        let begun = Instant::now();
        loop {
            let waiting = server.metric("lyceum_store_waiting_facts");
            let open = check::open_meetings(&self.read_url()).await;
            let undelivered = check::undelivered(&self.read_url()).await;
            if waiting == 0.0 && open == 0 && undelivered == 0 {
                break;
            }
            assert!(
                begun.elapsed() < PATIENCE,
                "{waiting} facts wait, {open} meetings are open, {undelivered} events are not delivered\n{}",
                server.log()
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert!(server.end().success(), "{}", server.log());
        let error_max = check::all(&self.read_url(), &self.truth).await;
        self.receiver.compare(&mut check::connect(&self.read_url()).await).await;
        let aim = if self.url.is_some() { 5 } else { 3 };
        eprintln!(
            "attendance on {}: killed {last} times; {} joins acknowledged, all there; ready again within {} ms (aim {aim} s); a crash was known to {error_max} ms (aim 5 s)",
            if self.url.is_some() { "Postgres" } else { "SQLite" },
            self.truth.joins(),
            self.ready_max.as_millis(),
        );
        assert!(self.ready_max < 6 * Duration::from_secs(aim), "ready again in {:?}", self.ready_max);
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// An empty directory of this test.
fn folder(name: &str) -> PathBuf {
    let dir = std::env::temp_dir().join(format!("lyceum-attendance-{}-{name}", std::process::id()));
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).expect("a writable temporary directory");
    dir
}

/// Waits until all that happened is in the database and all meetings are over.
async fn settled(server: &Server, database: &str) {
    let begun = Instant::now();
    while server.metric("lyceum_store_waiting_facts") > 0.0 || check::open_meetings(database).await > 0 {
        assert!(begun.elapsed() < PATIENCE, "{}", server.log());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_meeting_goes_on_after_a_clean_stop_and_who_was_in_it_was_there_until_then() {
    let dir = folder("stop");
    let database = format!("sqlite://{}", dir.join("lyceum.db").display());
    let (receiver, truth) = (Receiver::start().await, Truth::default());
    let mut server = Server::start(&dir, None, &receiver.url, RESTART_MAX_MS);
    let mut client = Client::connect(&server.url).await.expect("it listens");
    let (stay, _) = bots::join(&mut client, 0, ("ada", false), "lesson", None, &truth).await.expect("an answer");
    tokio::time::sleep(Duration::from_secs(2)).await;
    let sign = unix_ms();
    let raised = bots::ask(&mut client, "raise-hand", serde_json::json!({ "raised": true })).await;
    assert_eq!(raised.expect("an answer")["ok"], true);
    assert!(server.end().success(), "{}", server.log());
    let stopped = unix_ms();

    let mut server = Server::start(&dir, None, &receiver.url, RESTART_MAX_MS);
    let mut client = Client::connect(&server.url).await.expect("it listens");
    let (next, _) = bots::join(&mut client, 1, ("bob", false), "lesson", None, &truth).await.expect("an answer");
    assert_eq!(next.meeting, stay.meeting, "it is the same meeting");
    assert!(bots::ask(&mut client, "leave-session", serde_json::json!({})).await.is_some());
    settled(&server, &database).await;
    assert!(server.end().success(), "{}", server.log());
    let (ended, reason) = check::end_of(&database, &stay.participant).await;
    // Without a last heartbeat it would be when she joined.
    assert!((sign - 500..=stopped + 500).contains(&ended), "{ended} is not between {sign} and {stopped}");
    assert_eq!(reason, "disconnected");
    let _ = std::fs::remove_dir_all(&dir);
}

async fn survives(name: &str, database: Option<Postgres>) {
    let (mut rig, bots) = Rig::new(name, database, Receiver::start().await);
    for round in 0..rounds() {
        rig.round(round).await;
    }
    rig.end(bots).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_on_sqlite_when_the_server_is_killed() {
    survives("sqlite", None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_on_postgres_when_the_server_and_postgres_are_killed() {
    let database = tokio::task::block_in_place(Postgres::start);
    survives("postgres", Some(database)).await;
}
