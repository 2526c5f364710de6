//! What is too old is deleted, by kind of data, a little at a time.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use sqlx::Row as _;
use utoipa::ToSchema;

use super::{Store, StoreError, in_time, int};

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

/// What belongs to a meeting, apart from its row.
const OF_MEETING: [&str; 7] = [
    "DELETE FROM connection_log WHERE meeting_id = $1",
    "DELETE FROM tracks WHERE connection_id IN (SELECT connection_id FROM connections WHERE meeting_id = $1)",
    "DELETE FROM connections WHERE meeting_id = $1",
    "DELETE FROM attendance WHERE meeting_id = $1",
    "DELETE FROM visits WHERE meeting_id = $1",
    "DELETE FROM summaries WHERE meeting_id = $1",
    "DELETE FROM chat_messages WHERE meeting_id = $1",
];

impl Store {
    /// Deletes what is older than `policy` says at `now_ms`, in small transactions. Revocations that have expired go always. What an error
    /// leaves goes with the next run.
    pub(crate) async fn retain(&self, policy: &Retention, now_ms: u64) -> Result<Retained, StoreError> {
        let ms = |kept: Duration| int(u64::try_from(kept.as_millis()).unwrap_or(u64::MAX)).min(FOREVER_MS);
        let before = |kept: Duration| int(now_ms).saturating_sub(ms(kept));
        let mut gone = Retained::default();
        // What a room says of its own data stands before what is said of all.
        if let Some(age) = self.age("SELECT MIN(keep_chat_ms) FROM rooms", policy.chat.map(ms), now_ms).await? {
            let old = "DELETE FROM chat_messages WHERE message_id IN (SELECT message_id FROM chat_messages WHERE sent_at < $1 AND sent_at <
                 $2 - COALESCE((SELECT keep_chat_ms FROM rooms WHERE rooms.session_id = chat_messages.session_id), $3) LIMIT $4)";
            gone.chat = self.delete_old(old, &age).await?;
        }
        if let Some(age) = self.age("SELECT MIN(keep_log_ms) FROM rooms", policy.log.map(ms), now_ms).await? {
            let old = "SELECT meeting_id FROM meetings WHERE ended_at < $1 AND ended_at <
                 $2 - COALESCE((SELECT keep_log_ms FROM rooms WHERE rooms.session_id = meetings.session_id), $3) AND EXISTS
                 (SELECT 1 FROM connection_log WHERE connection_log.meeting_id = meetings.meeting_id) LIMIT $4";
            gone.logs = self.delete_meetings(old, &OF_MEETING[..1], &age).await?;
        }
        if let Some(age) = self.age("SELECT MIN(keep_meeting_ms) FROM rooms", policy.meetings.map(ms), now_ms).await? {
            let old = "SELECT meeting_id FROM meetings WHERE ended_at < $1 AND ended_at <
                 $2 - COALESCE((SELECT keep_meeting_ms FROM rooms WHERE rooms.session_id = meetings.session_id), $3) LIMIT $4";
            let mut statements = OF_MEETING.to_vec();
            statements.push("DELETE FROM meetings WHERE meeting_id = $1");
            gone.meetings = self.delete_meetings(old, &statements, &age).await?;
        }
        if let Some(kept) = policy.outbox {
            gone.events = self.delete_events(before(kept)).await?;
            let old = "DELETE FROM received_events WHERE event_id IN (SELECT event_id FROM received_events WHERE received_at < $1 LIMIT $2)";
            gone.events += self.delete_old(old, &[before(kept)]).await?;
        }
        let old = "DELETE FROM revocations WHERE token_id IN (SELECT token_id FROM revocations WHERE expires_at < $1 LIMIT $2) AND expires_at < $1";
        gone.revocations = self.delete_old(old, &[int(now_ms)]).await?;
        Ok(gone)
    }

    /// What statements take to find what is too old: a time before which anything may be, now, and how long that is kept of which its room
    /// says nothing; `None` if all is kept for ever.
    async fn age(&self, least: &'static str, kept: Option<i64>, now_ms: u64) -> Result<Option<[i64; 3]>, StoreError> {
        let row = in_time(async { Ok(sqlx::query(least).fetch_one(self.read().await?).await?) }).await?;
        let (own, kept, now) = (row.try_get::<Option<i64>, _>(0)?, kept.unwrap_or(FOREVER_MS), int(now_ms));
        let least = own.unwrap_or(FOREVER_MS).min(kept);
        Ok((least < FOREVER_MS).then(|| [now.saturating_sub(least), now, kept]))
    }

    /// Runs a statement that deletes rows until it finds none; its parameters are `age` and, last, how many it may delete.
    async fn delete_old(&self, statement: &'static str, age: &[i64]) -> Result<u64, StoreError> {
        let mut gone = 0;
        loop {
            let rows = in_time(async {
                let mut tx = self.write().await?;
                let query = age.iter().fold(sqlx::query(statement), |query, ms| query.bind(*ms));
                let done = query.bind(ROWS_PER_TURN).execute(&mut *tx).await?;
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

    async fn delete_meetings(
        &self,
        old: &'static str,
        statements: &[&'static str],
        age: &[i64],
    ) -> Result<u64, StoreError> {
        let mut gone = 0;
        loop {
            let count = in_time(async {
                let mut tx = self.write().await?;
                let query = age.iter().fold(sqlx::query(old), |query, ms| query.bind(*ms));
                let rows = query.bind(MEETINGS_PER_TURN).fetch_all(&mut *tx).await?;
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
