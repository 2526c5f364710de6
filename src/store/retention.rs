//! What is too old is deleted, by kind of data, a little at a time.

use std::time::Duration;

use sqlx::Row as _;

use super::{Store, StoreError, in_time, int};

/// Rows that one transaction deletes, so that nobody waits long for it.
const ROWS_PER_TURN: i64 = 500;
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
        let before = |kept: Duration| int(now_ms.saturating_sub(u64::try_from(kept.as_millis()).unwrap_or(u64::MAX)));
        let mut gone = Retained::default();
        if let Some(kept) = policy.chat {
            let old = "DELETE FROM chat_messages WHERE message_id IN (SELECT message_id FROM chat_messages WHERE sent_at < $1 LIMIT $2)";
            gone.chat = self.delete_old(old, before(kept)).await?;
        }
        if let Some(kept) = policy.log {
            let old = "SELECT meeting_id FROM meetings WHERE ended_at < $1 AND EXISTS
                 (SELECT 1 FROM connection_log WHERE connection_log.meeting_id = meetings.meeting_id) LIMIT $2";
            gone.logs = self.delete_meetings(old, &OF_MEETING[..1], before(kept)).await?;
        }
        if let Some(kept) = policy.meetings {
            let old = "SELECT meeting_id FROM meetings WHERE ended_at < $1 LIMIT $2";
            let mut statements = OF_MEETING.to_vec();
            statements.push("DELETE FROM meetings WHERE meeting_id = $1");
            gone.meetings = self.delete_meetings(old, &statements, before(kept)).await?;
        }
        if let Some(kept) = policy.outbox {
            gone.events = self.delete_events(before(kept)).await?;
            let old = "DELETE FROM received_events WHERE event_id IN (SELECT event_id FROM received_events WHERE received_at < $1 LIMIT $2)";
            gone.events += self.delete_old(old, before(kept)).await?;
        }
        let old = "DELETE FROM revocations WHERE token_id IN (SELECT token_id FROM revocations WHERE expires_at < $1 LIMIT $2) AND expires_at < $1";
        gone.revocations = self.delete_old(old, int(now_ms)).await?;
        Ok(gone)
    }

    /// Runs a statement that deletes up to `$2` rows older than `$1` until it finds none.
    async fn delete_old(&self, statement: &'static str, before_ms: i64) -> Result<u64, StoreError> {
        let mut gone = 0;
        loop {
            let rows = in_time(async {
                let mut tx = self.write().await?;
                let done = sqlx::query(statement).bind(before_ms).bind(ROWS_PER_TURN).execute(&mut *tx).await?;
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
        before_ms: i64,
    ) -> Result<u64, StoreError> {
        let mut gone = 0;
        loop {
            let count = in_time(async {
                let mut tx = self.write().await?;
                let rows = sqlx::query(old).bind(before_ms).bind(MEETINGS_PER_TURN).fetch_all(&mut *tx).await?;
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
                .bind(ROWS_PER_TURN)
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
