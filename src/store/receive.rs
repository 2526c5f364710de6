//! Events of another Lyceum: the same rows as if the meeting had been here, once.

use serde::Deserialize;
use serde_json::Value;
use signaling::attendance::Summary;
use sqlx::{AnyConnection, Row as _};

use super::event::Kind;
use super::{Store, StoreError, in_time, int, meeting, nat, text, unreadable};

/// The node of meetings that another server told us of.
const RECEIVED: &str = "received";
/// Most people in a summary that is taken; more are [`StoreError::Broken`].
pub(crate) const PEOPLE_MAX: usize = 20_000;

/// A webhook event whose signature is good.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Received {
    /// Its `webhook-id`; not in the body.
    #[serde(skip)]
    pub(crate) id: String,
    /// Its type.
    pub(crate) r#type: String,
    /// What happened.
    #[serde(default)]
    pub(crate) data: Value,
}

impl Store {
    /// Takes an event that came from another server; `false` if it came before. `session.ended` writes meeting, summary,
    /// attendance and visits, unless the meeting was here or a version as high is known; other types are only noted.
    /// A summary that does not read is [`StoreError::Broken`], and not noted.
    pub(crate) async fn receive(&self, event: &Received, now_ms: u64) -> Result<bool, StoreError> {
        let mut event = event.clone();
        event.id = text::clean(&event.id);
        text::clean_value(&mut event.data, "");
        in_time(async {
            let mut tx = self.write().await?;
            let noted = sqlx::query(
                "INSERT INTO received_events (event_id, received_at) VALUES ($1, $2) ON CONFLICT (event_id) DO NOTHING",
            )
            .bind(&*event.id)
            .bind(int(now_ms))
            .execute(&mut *tx)
            .await?;
            if noted.rows_affected() == 0 {
                return Ok(false);
            }
            if event.r#type == Kind::SessionEnded.as_str() {
                let summary: Summary =
                    serde_json::from_value(event.data).map_err(|why| unreadable("the summary", &why))?;
                take(&mut tx, &summary, now_ms).await?;
            }
            tx.commit().await?;
            Ok(true)
        })
        .await
    }
}

async fn take(connection: &mut AnyConnection, summary: &Summary, now_ms: u64) -> Result<(), StoreError> {
    let visits: usize = summary.participants.iter().map(|person| person.visits.len()).sum();
    if summary.meeting_id.is_empty() || summary.participants.len() > PEOPLE_MAX || visits > 10 * PEOPLE_MAX {
        return Err(StoreError::Broken(format!("a summary names its meeting and at most {PEOPLE_MAX} people")));
    }
    let meeting = &*summary.meeting_id;
    sqlx::query(
        "INSERT INTO meetings (meeting_id, session_id, node_id, started_at, ended_at, grace_ms) VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (meeting_id) DO NOTHING",
    )
    .bind(meeting)
    .bind(&*summary.session_id)
    .bind(RECEIVED)
    .bind(int(summary.started_at))
    .bind(int(summary.ended_at.unwrap_or(summary.started_at)))
    .bind(int(summary.grace_ms))
    .execute(&mut *connection)
    .await?;
    // Locks the row, so that two versions at once come one after the other.
    let row = sqlx::query("UPDATE meetings SET last_seq = last_seq WHERE meeting_id = $1 RETURNING node_id")
        .bind(meeting)
        .fetch_one(&mut *connection)
        .await?;
    let known = sqlx::query("SELECT COALESCE(MAX(version), 0) FROM summaries WHERE meeting_id = $1")
        .bind(meeting)
        .fetch_one(&mut *connection)
        .await?;
    if row.try_get::<&str, _>(0)? != RECEIVED || nat(known.try_get(0)?) >= u64::from(summary.version) {
        return Ok(());
    }
    let summary = Summary { ended_at: Some(summary.ended_at.unwrap_or(summary.started_at)), ..summary.clone() };
    meeting::write(connection, &summary, now_ms).await
}
