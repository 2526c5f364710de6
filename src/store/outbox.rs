//! Deliveries: which event goes to which endpoint next, what came of it, and what is told again.
//!
//! A delivery is pending, delivered or dead. Of the pending ones of a room only the first is tried, so an endpoint hears of a room in
//! order; one that has waited for longer than [`BLOCKS_MS`] holds nobody up any more. Whoever tries one has claimed it for
//! [`CLAIM_MS`]: what a server that died had claimed comes back.

use std::fmt;

use serde::Serialize;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row as _};

use super::{Engine, PAGE_MAX, Store, StoreError, in_time, int, nat};
use crate::webhooks::{Outcome, Verdict};

/// How long a delivery that does not get through holds up those behind it, ms.
pub(crate) const BLOCKS_MS: u64 = 30 * 60 * 1_000;
/// How long a claim lasts, ms: several times the longest attempt with its statements.
pub(crate) const CLAIM_MS: u64 = 60 * 1_000;
/// Most events that one replay sets going; the answer says whether there may be more.
pub(crate) const REPLAY_MAX: usize = 10_000;

/// An endpoint to which something is due, and what signs for it.
#[derive(Clone)]
pub(crate) struct Recipient {
    /// Its id.
    pub(crate) id: String,
    /// Its URL.
    pub(crate) url: String,
    /// `whsec_…`: one, or two while a secret rotates.
    pub(crate) secrets: Vec<String>,
}

fn recipient(row: &AnyRow) -> Result<Recipient, StoreError> {
    let former: Option<String> = row.try_get(3)?;
    let secrets = std::iter::once(row.try_get(2)?).chain(former).collect();
    Ok(Recipient { id: row.try_get(0)?, url: row.try_get(1)?, secrets })
}

impl fmt::Debug for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recipient").field("id", &self.id).finish_non_exhaustive()
    }
}

/// A delivery that we may try, and nobody else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Claimed {
    /// To whom.
    pub(crate) endpoint: String,
    /// Which event.
    pub(crate) event: String,
    /// Its body.
    pub(crate) body: String,
    /// Which attempt this is, from 1.
    pub(crate) attempt: u64,
    /// Until when it is ours, Unix ms.
    until_ms: u64,
}

/// A delivery as the API shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Delivery {
    /// The event: its `webhook-id`.
    pub(crate) event_id: String,
    /// Its type.
    pub(crate) r#type: String,
    /// Its room.
    pub(crate) session_id: String,
    /// Its place in the room.
    pub(crate) room_seq: u64,
    /// `pending`, `delivered` or `dead`.
    pub(crate) state: String,
    /// Attempts so far.
    pub(crate) attempts: u64,
    /// Since when it waits, Unix ms.
    pub(crate) created_at: u64,
    /// When it is tried next, if it is pending.
    pub(crate) next_at: Option<u64>,
    /// What the receiver answered last.
    pub(crate) last_status: Option<u64>,
    /// What was wrong last.
    pub(crate) last_error: Option<String>,
    /// When it was delivered or given up.
    pub(crate) done_at: Option<u64>,
}

/// How much waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Backlog {
    /// Pending deliveries of enabled endpoints.
    pub(crate) pending: u64,
    /// Dead ones.
    pub(crate) dead: u64,
    /// Since when the oldest pending one waits, Unix ms.
    pub(crate) oldest_ms: Option<u64>,
}

impl Store {
    /// Gives up claims that a former boot of this node left behind.
    pub(crate) async fn release_claims(&self, node: &str) -> Result<(), StoreError> {
        in_time(async {
            let mut tx = self.write().await?;
            sqlx::query("UPDATE deliveries SET claimed_until = NULL WHERE state = 'pending' AND claimed_by = $1")
                .bind(node)
                .execute(&mut *tx)
                .await?;
            Ok(tx.commit().await?)
        })
        .await
    }

    /// Endpoints to which something may be due.
    pub(crate) async fn recipients(&self, now_ms: u64) -> Result<Vec<Recipient>, StoreError> {
        in_time(async {
            let rows = sqlx::query(
                "SELECT endpoint_id, url, secret, CASE WHEN former_until > $1 THEN former_secret END FROM webhook_endpoints AS e
                 WHERE enabled = 1 AND EXISTS (SELECT 1 FROM deliveries AS d WHERE d.endpoint_id = e.endpoint_id AND d.state = 'pending'
                     AND d.next_at <= $1 AND (d.claimed_until IS NULL OR d.claimed_until <= $1))",
            )
            .bind(int(now_ms))
            .fetch_all(self.read().await?)
            .await?;
            rows.iter().map(recipient).collect()
        })
        .await
    }

    /// An endpoint as one to which something is due, switched off or not.
    pub(crate) async fn recipient(&self, id: &str, now_ms: u64) -> Result<Option<Recipient>, StoreError> {
        in_time(async {
            let row = sqlx::query(
                "SELECT endpoint_id, url, secret, CASE WHEN former_until > $1 THEN former_secret END FROM webhook_endpoints
                 WHERE endpoint_id = $2",
            )
            .bind(int(now_ms))
            .bind(id)
            .fetch_optional(self.read().await?)
            .await?;
            row.as_ref().map(recipient).transpose()
        })
        .await
    }

    /// Claims up to `count` deliveries that are due at an endpoint: of each room the first that is pending.
    pub(crate) async fn claim(
        &self,
        node: &str,
        endpoint: &str,
        count: usize,
        now_ms: u64,
    ) -> Result<Vec<Claimed>, StoreError> {
        // The head of a room is asked for by its index: of "there is none before it" Postgres, whose statistics are old after an outage,
        // makes a join of all that wait with all that wait.
        // Two servers at one Postgres pass over what the other is about to claim. On SQLite there is one writer at a time.
        let lock = if self.engine() == Engine::Postgres { "FOR UPDATE SKIP LOCKED" } else { "" };
        let statement = format!(
            "WITH due AS MATERIALIZED (
                 SELECT d.event_id FROM deliveries AS d WHERE d.endpoint_id = $1 AND d.state = 'pending' AND d.next_at <= $2
                     AND (d.claimed_until IS NULL OR d.claimed_until <= $2)
                     AND d.room_seq <= COALESCE((SELECT b.room_seq FROM deliveries AS b WHERE b.endpoint_id = d.endpoint_id
                         AND b.session_id = d.session_id AND b.state = 'pending' AND b.created_at > $3
                         ORDER BY b.room_seq LIMIT 1), d.room_seq)
                 ORDER BY d.next_at, d.room_seq LIMIT $4 {lock})
             UPDATE deliveries SET claimed_by = $5, claimed_until = $6, attempts = attempts + 1
             WHERE endpoint_id = $1 AND event_id IN (SELECT event_id FROM due)
             RETURNING event_id, attempts, (SELECT body FROM outbox WHERE outbox.event_id = deliveries.event_id)"
        );
        let until_ms = now_ms + CLAIM_MS;
        in_time(async {
            let mut tx = self.write().await?;
            let rows = sqlx::query(sqlx::AssertSqlSafe(statement))
                .bind(endpoint)
                .bind(int(now_ms))
                .bind(int(now_ms.saturating_sub(BLOCKS_MS)))
                .bind(i64::try_from(count).unwrap_or(0))
                .bind(node)
                .bind(int(until_ms))
                .fetch_all(&mut *tx)
                .await?;
            tx.commit().await?;
            rows.iter()
                .map(|row| {
                    Ok(Claimed {
                        endpoint: endpoint.to_owned(),
                        event: row.try_get(0)?,
                        attempt: nat(row.try_get(1)?),
                        body: row.try_get(2)?,
                        until_ms,
                    })
                })
                .collect()
        })
        .await
    }

    /// Writes down what came of an attempt. Nothing changes if the claim is not ours any more: then it is tried again, since twice
    /// is better than never.
    pub(crate) async fn settle(
        &self,
        node: &str,
        claimed: &Claimed,
        outcome: &Outcome,
        verdict: Verdict,
        now_ms: u64,
    ) -> Result<(), StoreError> {
        let (state, next_ms) = match verdict {
            Verdict::Delivered => ("delivered", None),
            Verdict::Again(at) => ("pending", Some(at)),
            Verdict::Dead | Verdict::Gone => ("dead", None),
        };
        in_time(async {
            let mut tx = self.write().await?;
            sqlx::query(
                "UPDATE deliveries SET state = $4, next_at = $5, claimed_by = NULL, claimed_until = NULL, last_status = $6, last_error = $7,
                     done_at = $8
                 WHERE endpoint_id = $1 AND event_id = $2 AND state = 'pending' AND claimed_by = $3 AND claimed_until = $9",
            )
            .bind(&*claimed.endpoint)
            .bind(&*claimed.event)
            .bind(node)
            .bind(state)
            .bind(int(next_ms.unwrap_or(now_ms)))
            .bind(outcome.status.map(i64::from))
            .bind(outcome.error.as_deref())
            .bind(next_ms.is_none().then(|| int(now_ms)))
            .bind(int(claimed.until_ms))
            .execute(&mut *tx)
            .await?;
            if verdict == Verdict::Gone {
                gone(&mut tx, &claimed.endpoint, outcome, now_ms).await?;
            }
            Ok(tx.commit().await?)
        })
        .await
    }

    /// Deliveries to an endpoint, the newest first; only those in `state` if one is given. At most [`PAGE_MAX`] from `offset` on.
    pub(crate) async fn deliveries(
        &self,
        endpoint: &str,
        state: Option<&str>,
        offset: usize,
        count: usize,
    ) -> Result<Vec<Delivery>, StoreError> {
        in_time(async {
            let rows = sqlx::query(
                "SELECT d.event_id, o.type, d.session_id, d.room_seq, d.state, d.attempts, d.created_at, d.next_at, d.last_status,
                     d.last_error, d.done_at
                 FROM deliveries AS d JOIN outbox AS o ON o.event_id = d.event_id WHERE d.endpoint_id = $1 AND ($2 = '' OR d.state = $2)
                 ORDER BY o.created_at DESC, d.session_id, d.room_seq DESC LIMIT $3 OFFSET $4",
            )
            .bind(endpoint)
            .bind(state.unwrap_or(""))
            .bind(count.min(PAGE_MAX) as i64)
            .bind(i64::try_from(offset).unwrap_or(i64::MAX))
            .fetch_all(self.read().await?)
            .await?;
            let maybe = |row: &AnyRow, column| row.try_get::<Option<i64>, _>(column).map(|value| value.map(nat));
            rows.iter()
                .map(|row| {
                    let state: String = row.try_get(4)?;
                    Ok(Delivery {
                        event_id: row.try_get(0)?,
                        r#type: row.try_get(1)?,
                        session_id: row.try_get(2)?,
                        room_seq: nat(row.try_get(3)?),
                        attempts: nat(row.try_get(5)?),
                        created_at: nat(row.try_get(6)?),
                        next_at: if state == "pending" { maybe(row, 7)? } else { None },
                        last_status: maybe(row, 8)?,
                        last_error: row.try_get(9)?,
                        done_at: maybe(row, 10)?,
                        state,
                    })
                })
                .collect()
        })
        .await
    }

    /// Tells an endpoint again what happened from `from_seq` on, in one room or in all: what it was told, what it was not while it
    /// was off, and what is dead. Gives how many events, at most [`REPLAY_MAX`], and whether there may be more.
    pub(crate) async fn replay(
        &self,
        endpoint: &str,
        session: Option<&str>,
        from_seq: u64,
        now_ms: u64,
    ) -> Result<(usize, bool), StoreError> {
        in_time(async {
            let mut tx = self.write().await?;
            let done = sqlx::query(
                "INSERT INTO deliveries (endpoint_id, event_id, session_id, room_seq, state, attempts, created_at, next_at)
                 SELECT e.endpoint_id, o.event_id, o.session_id, o.room_seq, 'pending', 0, $4, $4 FROM outbox AS o, webhook_endpoints AS e
                 WHERE e.endpoint_id = $1 AND o.room_seq >= $2 AND ($3 = '' OR o.session_id = $3)
                     AND (e.events IS NULL OR ' ' || e.events || ' ' LIKE '% ' || o.type || ' %')
                 ORDER BY o.created_at, o.session_id, o.room_seq LIMIT $5
                 ON CONFLICT (endpoint_id, event_id) DO UPDATE SET state = 'pending', attempts = 0, created_at = excluded.created_at,
                     next_at = excluded.next_at, claimed_by = NULL, claimed_until = NULL, done_at = NULL",
            )
            .bind(endpoint)
            .bind(int(from_seq))
            .bind(session.unwrap_or(""))
            .bind(int(now_ms))
            .bind(REPLAY_MAX as i64)
            .execute(&mut *tx)
            .await?;
            tx.commit().await?;
            let count = usize::try_from(done.rows_affected()).unwrap_or(REPLAY_MAX);
            Ok((count, count >= REPLAY_MAX))
        })
        .await
    }

    /// How much waits, for metrics.
    pub(crate) async fn backlog(&self) -> Result<Backlog, StoreError> {
        in_time(async {
            let row = sqlx::query(
                "SELECT COUNT(*), MIN(d.created_at), (SELECT COUNT(*) FROM deliveries WHERE state = 'dead')
                 FROM deliveries AS d JOIN webhook_endpoints AS e ON e.endpoint_id = d.endpoint_id WHERE d.state = 'pending' AND e.enabled = 1",
            )
            .fetch_one(self.read().await?)
            .await?;
            let oldest: Option<i64> = row.try_get(1)?;
            Ok(Backlog { pending: nat(row.try_get(0)?), dead: nat(row.try_get(2)?), oldest_ms: oldest.map(nat) })
        })
        .await
    }
}

/// Switches an endpoint off that says itself that nobody is there. What waits for it is dead, which can be seen and replayed.
async fn gone(
    connection: &mut AnyConnection,
    endpoint: &str,
    outcome: &Outcome,
    now_ms: u64,
) -> Result<(), StoreError> {
    let reason = outcome.error.as_deref().unwrap_or("410");
    sqlx::query(
        "UPDATE webhook_endpoints SET enabled = 0, disabled_reason = $2 WHERE endpoint_id = $1 AND enabled = 1",
    )
    .bind(endpoint)
    .bind(reason)
    .execute(&mut *connection)
    .await?;
    sqlx::query(
        "UPDATE deliveries SET state = 'dead', last_error = $2, done_at = $3, claimed_by = NULL, claimed_until = NULL
         WHERE endpoint_id = $1 AND state = 'pending'",
    )
    .bind(endpoint)
    .bind(reason)
    .bind(int(now_ms))
    .execute(&mut *connection)
    .await?;
    Ok(())
}
