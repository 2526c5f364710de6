//! The end of a meeting: its log is summed up, and the summary, the rows that schools ask for and the event are written in one
//! transaction.
//!
//! A meeting that the sweeper ended too soon may still get facts from its own node, when that comes back from behind a broken network.
//! None is refused: they go behind the others in the log, a connection among them opens and ends as any, and the meeting stays
//! ended. When its node says that it is over (or the sweeper finds nobody in it) the log is summed up once more, and if
//! that says anything new it becomes the next version of the summary, with its own `session.ended`.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::json;
use signaling::attendance::{Summary, summarize};
use signaling::{Alive, Fact, Reason};
use sqlx::{AnyConnection, Row as _};

use super::apply::{Origin, left, log};
use super::event::{Event, Kind, emit};
use super::{StoreError, Text, int, nat, text, unreadable};

/// Rows that one statement inserts: 12 parameters each, and Postgres takes 65,535, older SQLite 32,766.
const ROWS_PER_STATEMENT: usize = 200;
/// Rows of a log that are read at once: a heartbeat of a thousand people is 70 KB.
const LOG_ROWS_PER_STATEMENT: i64 = 200;

/// Ends a meeting, once; connections that are open still end with it.
pub(super) async fn end(
    connection: &mut AnyConnection,
    origin: &Origin<'_>,
    meeting: &str,
    at: u64,
) -> Result<(), StoreError> {
    close_open(connection, origin, meeting, Reason::Ended).await?;
    let done = sqlx::query("UPDATE meetings SET ended_at = $2 WHERE meeting_id = $1 AND ended_at IS NULL")
        .bind(meeting)
        .bind(int(at))
        .execute(&mut *connection)
        .await?;
    if done.rows_affected() > 0 {
        let meeting: Text = Arc::from(meeting);
        log(connection, origin, &Fact::MeetingEnded { meeting: Arc::clone(&meeting), at }, &meeting).await?;
    }
    sum_up(connection, origin, meeting).await
}

/// Closes what is open in a meeting, each at its last proof of life.
async fn close_open(
    connection: &mut AnyConnection,
    origin: &Origin<'_>,
    meeting: &str,
    reason: Reason,
) -> Result<(), StoreError> {
    let rows = sqlx::query("SELECT connection_id, alive_at FROM connections WHERE meeting_id = $1 AND ended_at IS NULL ORDER BY started_at, connection_id")
        .bind(meeting)
        .fetch_all(&mut *connection)
        .await?;
    for row in rows {
        let (id, alive_at): (String, i64) = (row.try_get(0)?, row.try_get(1)?);
        let fact =
            Fact::Left { meeting: meeting.into(), connection: id.into(), at: nat(alive_at), reason, uncertainty_ms: 0 };
        left(connection, origin, &fact).await?;
    }
    Ok(())
}

/// Writes the next version of a meeting's summary if its log has grown since the last and says anything new.
async fn sum_up(connection: &mut AnyConnection, origin: &Origin<'_>, meeting: &str) -> Result<(), StoreError> {
    let row = sqlx::query(
        "SELECT session_id, last_seq, (SELECT body FROM summaries WHERE meeting_id = $1 ORDER BY version DESC LIMIT 1)
         FROM meetings WHERE meeting_id = $1 AND last_seq > summary_seq",
    )
    .bind(meeting)
    .fetch_optional(&mut *connection)
    .await?;
    let Some(row) = row else { return Ok(()) };
    let (session, seq, before): (String, i64, Option<String>) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    let before: Option<Summary> =
        before.map(|body| serde_json::from_str(&body)).transpose().map_err(|why| unreadable("a summary", &why))?;
    let Some(mut summary) = summary_of_log(connection, meeting, 0).await? else { return Ok(()) };
    sqlx::query("UPDATE meetings SET summary_seq = $2 WHERE meeting_id = $1")
        .bind(meeting)
        .bind(seq)
        .execute(&mut *connection)
        .await?;
    summary.version = before.as_ref().map_or(1, |before| before.version);
    if before.is_some_and(|before| before == summary) {
        return Ok(());
    }
    let known = sqlx::query("SELECT COALESCE(MAX(version), 0) FROM summaries WHERE meeting_id = $1")
        .bind(meeting)
        .fetch_one(&mut *connection)
        .await?;
    summary.version = u32::try_from(known.try_get::<i64, _>(0)?).unwrap_or(u32::MAX - 1) + 1;
    write(connection, &summary, origin.wall_ms).await?;
    let event = Event {
        kind: Kind::SessionEnded.as_str(),
        key: format!("{meeting}/summary/{}", summary.version),
        session: &session,
        meeting: Some(meeting),
        at: summary.ended_at.unwrap_or_default(),
        seq: Some(nat(seq)),
        data: json!(summary),
    };
    emit(connection, &event, origin.wall_ms).await
}

/// What a meeting's log says; `None` if there is no log (no such meeting, or retention took it).
pub(super) async fn summary_of_log(
    connection: &mut AnyConnection,
    meeting: &str,
    now_ms: u64,
) -> Result<Option<Summary>, StoreError> {
    let facts = facts(connection, meeting).await?;
    Ok((!facts.is_empty()).then(|| summarize(&facts, now_ms)))
}

/// A meeting's log in order, as far as its summary needs it: the heartbeats, which are most of it, are added up into one, and the
/// end stands last, at the last end of a connection, whatever came after a meeting that was ended too soon. Empty if
/// retention has taken any of it: what is left says nothing of the whole.
pub(super) async fn facts(connection: &mut AnyConnection, meeting: &str) -> Result<Vec<Fact>, StoreError> {
    let mut log = Log::default();
    let mut after = 0;
    loop {
        let rows = sqlx::query(
            "SELECT fact, seq FROM connection_log WHERE meeting_id = $1 AND seq > $2 ORDER BY seq LIMIT $3",
        )
        .bind(meeting)
        .bind(after)
        .bind(LOG_ROWS_PER_STATEMENT)
        .fetch_all(&mut *connection)
        .await?;
        for row in &rows {
            let seq: i64 = row.try_get(1)?;
            if seq != after + 1 {
                return Ok(Vec::new());
            }
            after = seq;
            log.take(serde_json::from_str(row.try_get::<&str, _>(0)?).map_err(|why| unreadable("a fact", &why))?);
        }
        if int(rows.len() as u64) < LOG_ROWS_PER_STATEMENT {
            return Ok(log.facts(&Arc::from(meeting)));
        }
    }
}

/// A log while it is read.
#[derive(Default)]
struct Log {
    facts: Vec<Fact>,
    /// The last heartbeat, and each connection's last proof of life with all its speaking.
    beat_at: Option<u64>,
    alive: BTreeMap<Text, (u64, u64)>,
    ended_at: Option<u64>,
    last_left_at: u64,
}

impl Log {
    fn take(&mut self, fact: Fact) {
        match fact {
            Fact::Activity { alive, at, .. } => {
                self.beat_at = self.beat_at.max(Some(at));
                for one in alive {
                    let (at, speaking_ms) = self.alive.entry(one.connection).or_default();
                    *at = one.at.max(*at);
                    *speaking_ms = speaking_ms.saturating_add(one.speaking_ms);
                }
            }
            Fact::MeetingEnded { at, .. } => self.ended_at = self.ended_at.max(Some(at)),
            Fact::Left { at, .. } => {
                self.last_left_at = self.last_left_at.max(at);
                self.facts.push(fact);
            }
            _ => self.facts.push(fact),
        }
    }

    fn facts(mut self, meeting: &Text) -> Vec<Fact> {
        if let Some(at) = self.beat_at {
            let alive =
                self.alive.into_iter().map(|(connection, (at, speaking_ms))| Alive { connection, at, speaking_ms });
            self.facts.push(Fact::Activity { meeting: Arc::clone(meeting), alive: alive.collect(), at });
        }
        if let Some(at) = self.ended_at {
            self.facts.push(Fact::MeetingEnded { meeting: Arc::clone(meeting), at: at.max(self.last_left_at) });
        }
        self.facts
    }
}

/// Writes a summary and the rows that say the same, in place of those of an older version.
pub(super) async fn write(connection: &mut AnyConnection, summary: &Summary, now_ms: u64) -> Result<(), StoreError> {
    let meeting = &*summary.meeting_id;
    let body = serde_json::to_string(summary).map_err(|why| unreadable("a summary", &why))?;
    sqlx::query("INSERT INTO summaries (meeting_id, version, body, created_at) VALUES ($1, $2, $3, $4)")
        .bind(meeting)
        .bind(i64::from(summary.version))
        .bind(body)
        .bind(int(now_ms))
        .execute(&mut *connection)
        .await?;
    sqlx::query(
        "UPDATE meetings SET ended_at = $2, peak_participants = $3, total_participants = $4 WHERE meeting_id = $1",
    )
    .bind(meeting)
    .bind(summary.ended_at.map(int))
    .bind(i64::from(summary.peak_participants))
    .bind(i64::from(summary.total_participants))
    .execute(&mut *connection)
    .await?;
    sqlx::query("DELETE FROM attendance WHERE meeting_id = $1").bind(meeting).execute(&mut *connection).await?;
    sqlx::query("DELETE FROM visits WHERE meeting_id = $1").bind(meeting).execute(&mut *connection).await?;
    let ended_at = summary.ended_at.unwrap_or(summary.started_at);
    for some in summary.participants.chunks(ROWS_PER_STATEMENT) {
        let statement = format!(
            "INSERT INTO attendance (meeting_id, session_id, user_id, user_name, role, first_join_at, last_leave_at,
                 connected_ms, speaking_ms, camera_ms, screen_ms, visits) VALUES {}",
            text::rows_of(some.len(), 12, 1)
        );
        let mut query = sqlx::query(sqlx::AssertSqlSafe(statement)).persistent(false);
        for person in some {
            query = query
                .bind(meeting)
                .bind(&*summary.session_id)
                .bind(&*person.user_id)
                .bind(&*person.user_name)
                .bind(person.role.as_str())
                .bind(int(person.first_join_at))
                .bind(int(person.last_leave_at.unwrap_or(ended_at)))
                .bind(int(person.connected_ms))
                .bind(int(person.speaking_ms))
                .bind(int(person.camera_ms))
                .bind(int(person.screen_ms))
                .bind(int(person.visits.len() as u64));
        }
        query.execute(&mut *connection).await?;
    }
    write_visits(connection, summary, ended_at).await
}

async fn write_visits(connection: &mut AnyConnection, summary: &Summary, ended_at: u64) -> Result<(), StoreError> {
    let visits: Vec<_> = summary
        .participants
        .iter()
        .flat_map(|person| (1_i64..).zip(&person.visits).map(|(n, visit)| (&*person.user_id, n, visit)))
        .collect();
    for some in visits.chunks(ROWS_PER_STATEMENT) {
        let statement = format!(
            "INSERT INTO visits (meeting_id, user_id, number, joined_at, left_at, reason, gaps_ms, uncertainty_ms) VALUES {}",
            text::rows_of(some.len(), 8, 1)
        );
        let mut query = sqlx::query(sqlx::AssertSqlSafe(statement)).persistent(false);
        for (user, number, visit) in some {
            query = query
                .bind(&*summary.meeting_id)
                .bind(*user)
                .bind(*number)
                .bind(int(visit.joined_at))
                .bind(int(visit.left_at.unwrap_or(ended_at)))
                .bind(visit.reason.unwrap_or(Reason::Ended).as_str())
                .bind(int(visit.gaps_ms))
                .bind(int(visit.uncertainty_ms));
        }
        query.execute(&mut *connection).await?;
    }
    Ok(())
}
