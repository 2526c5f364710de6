//! What is in the database, beside what clients wrote down.

use std::collections::{BTreeMap, BTreeSet};

use signaling::Fact;
use signaling::attendance::{Summary, summarize};
use sqlx::{AnyConnection, Connection as _, Row as _};

use super::bots::{End, Stay, Truth, Written};

/// What the clocks of client and server may differ by, and a scheduler's whim between reading a clock and using it, ms.
const WHIM_MS: u64 = 1_500;
/// What a crash may cost one who is heard all the time, ms: a heartbeat.
const HEARTBEAT_MS: u64 = 5_000;
/// What is said that it may cost anybody, ms.
const UNCERTAINTY_MS: u64 = 15_000;

pub(crate) async fn connect(url: &str) -> AnyConnection {
    sqlx::any::install_default_drivers();
    AnyConnection::connect(url).await.expect("the database is there")
}

/// Meetings that are not over.
pub(crate) async fn open_meetings(url: &str) -> i64 {
    let mut connection = connect(url).await;
    number(&mut connection, "SELECT COUNT(*) FROM meetings WHERE ended_at IS NULL").await
}

/// When a seat's only connection ended, and why.
pub(crate) async fn end_of(url: &str, participant: &str) -> (u64, String) {
    let connections = connections(&mut connect(url).await).await;
    let mut of = connections.into_iter().filter(|c| c.participant == participant);
    let connection = of.next().expect("it joined");
    assert!(of.next().is_none(), "it joined once");
    (connection.ended, connection.reason)
}

/// Webhooks that wait.
pub(crate) async fn undelivered(url: &str) -> i64 {
    let mut connection = connect(url).await;
    number(&mut connection, "SELECT COUNT(*) FROM deliveries WHERE state <> 'delivered'").await
}

async fn number(connection: &mut AnyConnection, query: &'static str) -> i64 {
    let row = sqlx::query(query).fetch_one(connection).await.unwrap_or_else(|error| panic!("{query}: {error}"));
    row.try_get(0).expect("a number")
}

/// One row of `connections`.
#[derive(Clone, Debug)]
struct Connection {
    id: String,
    meeting: String,
    participant: String,
    user: String,
    started: u64,
    ended: u64,
    reason: String,
    uncertainty: u64,
}

/// Compares all of it. The largest error of an end that a crash made, ms.
pub(crate) async fn all(url: &str, truth: &Truth) -> u64 {
    let mut connection = connect(url).await;
    let connections = connections(&mut connection).await;
    let written = truth.read().stays.clone();
    let (unanswered, deaths) = {
        let truth = truth.read();
        (truth.unanswered, truth.deaths.clone())
    };
    let written = Written { stays: written, unanswered, deaths };
    let error_max = compare(&written, &connections);
    nothing_is_open_or_doubled(&mut connection).await;
    logs_and_summaries(&mut connection, &connections).await;
    error_max
}

async fn connections(connection: &mut AnyConnection) -> Vec<Connection> {
    let query =
        "SELECT connection_id, meeting_id, participant_id, user_id, started_at, ended_at, reason, uncertainty_ms
         FROM connections ORDER BY started_at, connection_id";
    let rows = sqlx::query(query).fetch_all(connection).await.expect("connections");
    let one = |row: &sqlx::any::AnyRow| {
        let word = |at: usize| row.try_get::<String, _>(at).expect("a word, and an end");
        let number = |at: usize| row.try_get::<i64, _>(at).expect("a number, and an end") as u64;
        Connection {
            id: word(0),
            meeting: word(1),
            participant: word(2),
            user: word(3),
            started: number(4),
            ended: number(5),
            reason: word(6),
            uncertainty: number(7),
        }
    };
    rows.iter().map(one).collect()
}

/// Each acknowledged join has its connection, which ended when its client says.
fn compare(truth: &Written, connections: &[Connection]) -> u64 {
    let mut free: BTreeMap<&str, Vec<&Connection>> = BTreeMap::new();
    connections.iter().for_each(|c| free.entry(&c.participant).or_default().push(c));
    let mut stays: Vec<&Stay> = truth.stays.iter().collect();
    stays.sort_by_key(|stay| stay.asked);
    let mut error_max = 0;
    for stay in stays {
        let rows = free.get_mut(stay.participant.as_str()).unwrap_or_else(|| panic!("{stay:?} is not there"));
        let is_it = |row: &&Connection| {
            (stay.asked.saturating_sub(WHIM_MS)..=stay.acked + WHIM_MS).contains(&row.started)
                && row.user == stay.user
                && row.meeting == stay.meeting
        };
        let at = rows.iter().position(is_it).unwrap_or_else(|| panic!("{stay:?} is not among {rows:?}"));
        let row = rows.remove(at);
        error_max = error_max.max(compare_end(truth, stay, row));
    }
    let further: usize = free.values().map(Vec::len).sum();
    assert!(further <= truth.unanswered, "{further} connections that nobody opened: {free:?}");
    let count = |reason: &str| connections.iter().filter(|c| c.reason == reason).count();
    let reasons = ["crashed", "disconnected", "ended", "left"].map(|reason| (reason, count(reason)));
    assert!(reasons.iter().all(|(reason, count)| *count > 0 || *reason == "ended"), "{reasons:?}");
    let resumed = truth.stays.iter().filter(|stay| stay.resumed).count();
    assert!(resumed > 0, "nobody came back to a seat");
    eprintln!("attendance: ends {reasons:?}, {resumed} resumed, {} joins unanswered", truth.unanswered);
    error_max
}

/// The error of an end that a crash made, ms.
fn compare_end(truth: &Written, stay: &Stay, row: &Connection) -> u64 {
    // The last boot was not killed.
    let death = truth.deaths.get(&stay.boot);
    // When it was certainly there, and when certainly not any more.
    let (there, gone) = match (stay.end, death) {
        (End::Left(sent, acked), _) => (sent, acked),
        (End::Dropped(at), _) => (stay.sign, at),
        (End::Cut(at), death) => (stay.sign, death.map_or(at, |(_, to)| at.min(*to))),
    };
    assert!(row.ended <= gone + WHIM_MS, "{row:?} ended after {stay:?} and {death:?}");
    assert!(row.ended >= row.started, "{row:?}");
    if row.reason == "crashed" {
        assert!(!matches!(stay.end, End::Left(..)), "{stay:?} was told that it has left, but {row:?}");
        assert!((UNCERTAINTY_MS..UNCERTAINTY_MS + 10_000).contains(&row.uncertainty), "{row:?}");
        let error = gone.saturating_sub(row.ended);
        assert!(error <= HEARTBEAT_MS + WHIM_MS, "{row:?} of {stay:?}: the server died at {death:?}");
        return error;
    }
    assert!(row.ended + WHIM_MS >= there, "{row:?} ended before {stay:?}");
    match stay.end {
        End::Left(..) => assert_eq!(row.reason, "left", "{stay:?}"),
        // The lesson may have been ended for all before its grace was over; or it was back so soon, without its token, that the server
        // had not heard of the drop.
        End::Dropped(_) => {
            assert!(matches!(row.reason.as_str(), "disconnected" | "ended" | "replaced"), "{row:?} of {stay:?}");
        }
        // By whoever teaches; or it had left, and the server died before it could say so.
        End::Cut(_) => {
            assert!(matches!(row.reason.as_str(), "ended" | "left" | "disconnected"), "{row:?} of {stay:?}");
        }
    }
    0
}

async fn nothing_is_open_or_doubled(connection: &mut AnyConnection) {
    for (what, query) in [
        ("open connections", "SELECT COUNT(*) FROM connections WHERE ended_at IS NULL"),
        ("open meetings", "SELECT COUNT(*) FROM meetings WHERE ended_at IS NULL"),
        (
            "meetings without exactly one summary",
            "SELECT COUNT(*) FROM meetings m WHERE (SELECT COUNT(*) FROM summaries s WHERE s.meeting_id = m.meeting_id) <> 1",
        ),
        (
            "meetings whose end was not told exactly once",
            "SELECT COUNT(*) FROM meetings m WHERE
             (SELECT COUNT(*) FROM outbox o WHERE o.meeting_id = m.meeting_id AND o.type = 'session.ended') <> 1",
        ),
        (
            "meetings whose log has gaps",
            "SELECT COUNT(*) FROM meetings m WHERE m.last_seq <> (SELECT COUNT(*) FROM connection_log l WHERE l.meeting_id = m.meeting_id)
             OR m.last_seq <> (SELECT MAX(seq) FROM connection_log l WHERE l.meeting_id = m.meeting_id)",
        ),
        (
            "rooms whose events have gaps",
            "SELECT COUNT(*) FROM (SELECT session_id FROM outbox GROUP BY session_id
             HAVING COUNT(*) <> MAX(room_seq) OR MIN(room_seq) <> 1) AS gaps",
        ),
        (
            "connections outside of their meeting",
            "SELECT COUNT(*) FROM connections c JOIN meetings m ON m.meeting_id = c.meeting_id
             WHERE c.started_at < m.started_at OR c.ended_at > m.ended_at OR c.ended_at < c.started_at",
        ),
        (
            "sessions with two meetings at a time",
            "SELECT COUNT(*) FROM meetings a JOIN meetings b ON a.session_id = b.session_id AND a.meeting_id < b.meeting_id
             WHERE a.started_at < b.ended_at AND b.started_at < a.ended_at",
        ),
    ] {
        assert_eq!(number(connection, query).await, 0, "{what}");
    }
    assert!(number(connection, "SELECT COUNT(*) FROM meetings").await > 1, "meetings");
}

/// Each meeting's log leads to its summary, byte for byte, and has one start and one end of each connection.
async fn logs_and_summaries(connection: &mut AnyConnection, connections: &[Connection]) {
    let query = "SELECT meeting_id, fact FROM connection_log ORDER BY meeting_id, seq";
    let rows = sqlx::query(query).fetch_all(&mut *connection).await.expect("the log");
    let mut logs: BTreeMap<String, Vec<Fact>> = BTreeMap::new();
    for row in &rows {
        let (meeting, fact): (String, String) = (row.try_get(0).expect("a meeting"), row.try_get(1).expect("a fact"));
        logs.entry(meeting).or_default().push(serde_json::from_str(&fact).expect("a fact of ours"));
    }
    let rows = sqlx::query("SELECT meeting_id, body FROM summaries").fetch_all(connection).await.expect("summaries");
    assert_eq!(rows.len(), logs.len());
    for row in &rows {
        let (meeting, body): (String, String) =
            (row.try_get(0).expect("a meeting"), row.try_get(1).expect("a summary"));
        let said: Summary = serde_json::from_str(&body).expect("a summary of ours");
        assert_eq!(said, summarize(&logs[&meeting], 0), "{meeting}");
    }
    let (mut joined, mut left) = (BTreeSet::new(), BTreeSet::new());
    for fact in logs.values().flatten() {
        match fact {
            Fact::Joined { connection, .. } => {
                assert!(joined.insert(connection.to_string()), "{connection} joined twice")
            }
            Fact::Left { connection, .. } => {
                assert!(joined.contains(&**connection), "{connection} left and never joined");
                assert!(left.insert(connection.to_string()), "{connection} left twice");
            }
            _ => {}
        }
    }
    let ids: BTreeSet<String> = connections.iter().map(|c| c.id.clone()).collect();
    assert_eq!((&joined, &left), (&ids, &ids));
}
