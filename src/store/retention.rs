//! What is too old is deleted, by kind of data, a little at a time.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use sqlx::Row as _;
use utoipa::ToSchema;

use super::{PAGE_MAX, Store, StoreError, in_time, int};

/// Rows that one transaction deletes, so that nobody waits long for it.
const ROWS_PER_TURN: i64 = 500;
/// The same of events, each with its deliveries by statements of its own.
const EVENTS_PER_TURN: i64 = 100;
/// The same of meetings, each of which may have thousands of rows.
const MEETINGS_PER_TURN: i64 = 10;

/// How long each kind of data is kept; `None`: for ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Retention {
    /// Chat messages.
    pub(crate) chat: Option<Duration>,
    /// The logs of meetings that have ended; summaries, attendance and visits stay.
    pub(crate) log: Option<Duration>,
    /// Meetings that have ended, with all that belongs to them.
    pub(crate) meetings: Option<Duration>,
    /// Events that are delivered or dead, with their deliveries.
    pub(crate) outbox: Option<Duration>,
}

/// What stands for ever, ms: no time is so long ago.
const FOREVER_MS: i64 = i64::MAX / 4;
const DAY_MS: i64 = 24 * 60 * 60 * 1_000;

/// How long a room's data is kept, days: `None` as [`Retention`] says, 0 for ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RoomRetention {
    /// Chat messages; at most 36500, 0: for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(maximum = 36500)]
    pub(crate) chat_days: Option<u32>,
    /// The raw log of meetings that are over; summaries and attendance stay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(maximum = 36500)]
    pub(crate) log_days: Option<u32>,
    /// Meetings that are over, with all that belongs to them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(maximum = 36500)]
    pub(crate) meeting_days: Option<u32>,
}

impl RoomRetention {
    /// As the columns of `rooms` say it, ms.
    pub(super) fn columns(&self) -> [Option<i64>; 3] {
        let ms = |days: u32| if days == 0 { FOREVER_MS } else { i64::from(days) * DAY_MS };
        [self.chat_days, self.log_days, self.meeting_days].map(|days| days.map(ms))
    }
}

/// The time before which what is kept for so long is too old, ms.
fn before(kept: Duration, now_ms: i64) -> i64 {
    now_ms.saturating_sub(int(u64::try_from(kept.as_millis()).unwrap_or(u64::MAX)).min(FOREVER_MS))
}

/// How much of each kind a run deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Retained {
    /// Chat messages.
    pub(crate) chat: u64,
    /// Meetings whose log went.
    pub(crate) logs: u64,
    /// Meetings.
    pub(crate) meetings: u64,
    /// Events, those received from others too.
    pub(crate) events: u64,
    /// Revocations that had expired.
    pub(crate) revocations: u64,
}

/// What belongs to a meeting, and last its row.
const OF_MEETING: [&str; 8] = [
    "DELETE FROM connection_log WHERE meeting_id = $1",
    "DELETE FROM tracks WHERE connection_id IN (SELECT connection_id FROM connections WHERE meeting_id = $1)",
    "DELETE FROM connections WHERE meeting_id = $1",
    "DELETE FROM attendance WHERE meeting_id = $1",
    "DELETE FROM visits WHERE meeting_id = $1",
    "DELETE FROM summaries WHERE meeting_id = $1",
    "DELETE FROM chat_messages WHERE meeting_id = $1",
    "DELETE FROM meetings WHERE meeting_id = $1",
];

/// A kind of data of which a room may say for itself how long it is kept.
struct Kind {
    /// The next rooms behind `$1` that do, and how long, ms.
    rooms: &'static str,
    /// What is older in the room `$1` than the time `$2`, at most `$3`.
    of_room: &'static str,
    /// The same of all other rooms: older than `$1`, at most `$2`.
    of_rest: &'static str,
    /// What is to be done with the meetings that these find; none if they delete rows.
    of_meeting: &'static [&'static str],
}

const CHAT: Kind = Kind {
    rooms: "SELECT session_id, keep_chat_ms FROM rooms WHERE keep_chat_ms IS NOT NULL AND session_id > $1 ORDER BY session_id LIMIT $2",
    of_room: "DELETE FROM chat_messages WHERE message_id IN
         (SELECT message_id FROM chat_messages WHERE session_id = $1 AND sent_at < $2 LIMIT $3)",
    of_rest: "DELETE FROM chat_messages WHERE message_id IN (SELECT message_id FROM chat_messages WHERE sent_at < $1 AND NOT EXISTS
         (SELECT 1 FROM rooms WHERE rooms.session_id = chat_messages.session_id AND keep_chat_ms IS NOT NULL) LIMIT $2)",
    of_meeting: &[],
};
// Meetings are indexed by when they began, which is before they ended.
const LOGS: Kind = Kind {
    rooms: "SELECT session_id, keep_log_ms FROM rooms WHERE keep_log_ms IS NOT NULL AND session_id > $1 ORDER BY session_id LIMIT $2",
    of_room: "SELECT meeting_id FROM meetings WHERE session_id = $1 AND started_at <= $2 AND ended_at < $2 AND EXISTS
         (SELECT 1 FROM connection_log WHERE connection_log.meeting_id = meetings.meeting_id) LIMIT $3",
    of_rest: "SELECT meeting_id FROM meetings WHERE ended_at < $1 AND EXISTS
         (SELECT 1 FROM connection_log WHERE connection_log.meeting_id = meetings.meeting_id) AND NOT EXISTS
         (SELECT 1 FROM rooms WHERE rooms.session_id = meetings.session_id AND keep_log_ms IS NOT NULL) LIMIT $2",
    of_meeting: OF_MEETING.split_at(1).0,
};
const MEETINGS: Kind = Kind {
    rooms: "SELECT session_id, keep_meeting_ms FROM rooms WHERE keep_meeting_ms IS NOT NULL AND session_id > $1 ORDER BY session_id LIMIT $2",
    of_room: "SELECT meeting_id FROM meetings WHERE session_id = $1 AND started_at <= $2 AND ended_at < $2 LIMIT $3",
    of_rest: "SELECT meeting_id FROM meetings WHERE ended_at < $1 AND NOT EXISTS
         (SELECT 1 FROM rooms WHERE rooms.session_id = meetings.session_id AND keep_meeting_ms IS NOT NULL) LIMIT $2",
    of_meeting: &OF_MEETING,
};

impl Store {
    /// Deletes what is older than `policy` says at `now_ms`, in small transactions. Revocations that have expired go always. What an error
    /// leaves goes with the next run; the other kinds go all the same.
    ///
    /// # Errors
    /// The first, when all kinds were tried.
    pub(crate) async fn retain(&self, policy: &Retention, now_ms: u64) -> Result<Retained, StoreError> {
        let now = int(now_ms);
        let chat = self.delete_kind(&CHAT, policy.chat, now).await;
        let logs = self.delete_kind(&LOGS, policy.log, now).await;
        let meetings = self.delete_kind(&MEETINGS, policy.meetings, now).await;
        let (mut events, mut received) = (Ok(0), Ok(0));
        if let Some(kept) = policy.outbox {
            let before = before(kept, now);
            events = self.delete_events(before).await;
            let old = "DELETE FROM received_events WHERE event_id IN (SELECT event_id FROM received_events WHERE received_at < $1 LIMIT $2)";
            received = self.delete_old(old, None, before).await;
        }
        let old = "DELETE FROM revocations WHERE token_id IN (SELECT token_id FROM revocations WHERE expires_at < $1 LIMIT $2) AND expires_at < $1";
        let revocations = self.delete_old(old, None, now).await;
        Ok(Retained {
            chat: chat?,
            logs: logs?,
            meetings: meetings?,
            events: events? + received?,
            revocations: revocations?,
        })
    }

    /// What a room says of its own data stands before what is said of all, `kept`.
    async fn delete_kind(&self, kind: &Kind, kept: Option<Duration>, now_ms: i64) -> Result<u64, StoreError> {
        let mut gone = 0;
        let mut last = String::new();
        loop {
            let rows = in_time(async {
                let query = sqlx::query(kind.rooms).bind(&last).bind(int(PAGE_MAX as u64));
                Ok(query.fetch_all(self.read().await?).await?)
            })
            .await?;
            let Some(row) = rows.last() else { break };
            last = row.try_get(0)?;
            for row in &rows {
                let (room, keep_ms): (&str, i64) = (row.try_get(0)?, row.try_get(1)?);
                if keep_ms < FOREVER_MS {
                    gone += self.delete_of(kind, Some(room), now_ms.saturating_sub(keep_ms)).await?;
                }
            }
        }
        if let Some(kept) = kept {
            gone += self.delete_of(kind, None, before(kept, now_ms)).await?;
        }
        Ok(gone)
    }

    /// Deletes what is older than that in a room, or in all that say nothing for themselves.
    async fn delete_of(&self, kind: &Kind, room: Option<&str>, before_ms: i64) -> Result<u64, StoreError> {
        let old = if room.is_some() { kind.of_room } else { kind.of_rest };
        match kind.of_meeting {
            [] => self.delete_old(old, room, before_ms).await,
            statements => self.delete_meetings(old, statements, room, before_ms).await,
        }
    }

    /// Runs a statement that deletes rows until it finds none; its parameters are the room, if there is one, the time before which they
    /// are too old, and how many it may delete.
    async fn delete_old(&self, statement: &'static str, room: Option<&str>, before_ms: i64) -> Result<u64, StoreError> {
        let mut gone = 0;
        loop {
            let rows = in_time(async {
                let mut tx = self.write().await?;
                let query = room.into_iter().fold(sqlx::query(statement), |query, room| query.bind(room));
                let done = query.bind(before_ms).bind(ROWS_PER_TURN).execute(&mut *tx).await?;
                tx.commit().await?;
                Ok(done.rows_affected())
            })
            .await?;
            gone += rows;
            if rows == 0 {
                return Ok(gone);
            }
        }
    }

    /// The same of meetings, which a query with the same parameters finds.
    async fn delete_meetings(
        &self,
        old: &'static str,
        statements: &[&'static str],
        room: Option<&str>,
        before_ms: i64,
    ) -> Result<u64, StoreError> {
        let mut gone = 0;
        loop {
            let count = in_time(async {
                let mut tx = self.write().await?;
                let query = room.into_iter().fold(sqlx::query(old), |query, room| query.bind(room));
                let rows = query.bind(before_ms).bind(MEETINGS_PER_TURN).fetch_all(&mut *tx).await?;
                for row in &rows {
                    let meeting: &str = row.try_get(0)?;
                    for statement in statements {
                        sqlx::query(*statement).bind(meeting).execute(&mut *tx).await?;
                    }
                }
                tx.commit().await?;
                Ok(rows.len() as u64)
            })
            .await?;
            gone += count;
            if count == 0 {
                return Ok(gone);
            }
        }
    }

    /// Events that nobody waits for any more.
    async fn delete_events(&self, before_ms: i64) -> Result<u64, StoreError> {
        let mut gone = 0;
        loop {
            let count = in_time(async {
                let mut tx = self.write().await?;
                let rows = sqlx::query(
                    "SELECT event_id FROM outbox WHERE created_at < $1 AND NOT EXISTS
                       (SELECT 1 FROM deliveries WHERE deliveries.event_id = outbox.event_id AND deliveries.state = 'pending') LIMIT $2",
                )
                .bind(before_ms)
                .bind(EVENTS_PER_TURN)
                .fetch_all(&mut *tx)
                .await?;
                for row in &rows {
                    let event: &str = row.try_get(0)?;
                    sqlx::query("DELETE FROM deliveries WHERE event_id = $1").bind(event).execute(&mut *tx).await?;
                    sqlx::query("DELETE FROM outbox WHERE event_id = $1").bind(event).execute(&mut *tx).await?;
                }
                tx.commit().await?;
                Ok(rows.len() as u64)
            })
            .await?;
            gone += count;
            if count == 0 {
                return Ok(gone);
            }
        }
    }
}
