//! Who is told of events: endpoints of webhooks, with their secrets.

use std::fmt;

use serde::Serialize;
use sqlx::Row as _;
use sqlx::any::AnyRow;

use super::{Store, StoreError, in_time, int, nat};

/// Id of the endpoint that the operator's settings name.
pub(crate) const ENDPOINT_CONFIGURED: &str = "configured";
/// Most endpoints; each has attempts of its own under way at once. Further ones are refused.
pub(crate) const ENDPOINTS_MAX: usize = 50;
/// How long a secret that was replaced signs too, ms.
pub(crate) const FORMER_SECRET_MS: u64 = 24 * 60 * 60 * 1_000;

/// An endpoint as the API shows it: without its secrets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Endpoint {
    /// Its id.
    pub(crate) id: String,
    /// Where events go.
    pub(crate) url: String,
    /// Types that it is told of; `None`: all.
    pub(crate) events: Option<Vec<String>>,
    /// Whether it is told.
    pub(crate) enabled: bool,
    /// Why it is not.
    pub(crate) disabled_reason: Option<String>,
    /// Until when its former secret signs too, Unix ms.
    pub(crate) former_secret_until: Option<u64>,
    /// Since when it is there, Unix ms.
    pub(crate) created_at: u64,
}

/// An endpoint that is to be.
#[derive(Clone)]
pub(crate) struct NewEndpoint {
    /// Its id, new, `[A-Za-z0-9_-]{1,64}`.
    pub(crate) id: String,
    /// `http://…` or `https://…`, checked.
    pub(crate) url: String,
    /// `whsec_…`, checked.
    pub(crate) secret: String,
    /// Types without spaces; `None`: all.
    pub(crate) events: Option<Vec<String>>,
}

impl fmt::Debug for NewEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewEndpoint").field("id", &self.id).field("events", &self.events).finish_non_exhaustive()
    }
}

/// Types as the column has them.
fn column(events: Option<&Vec<String>>) -> Option<String> {
    events.map(|events| events.join(" "))
}

fn endpoint(row: &AnyRow) -> Result<Endpoint, StoreError> {
    let events: Option<String> = row.try_get(2)?;
    let enabled: i64 = row.try_get(3)?;
    let until: Option<i64> = row.try_get(5)?;
    Ok(Endpoint {
        id: row.try_get(0)?,
        url: row.try_get(1)?,
        events: events.map(|events| events.split_whitespace().map(str::to_owned).collect()),
        enabled: enabled == 1,
        disabled_reason: row.try_get(4)?,
        former_secret_until: until.map(nat),
        created_at: nat(row.try_get(6)?),
    })
}

impl Store {
    /// All endpoints, the oldest first; at most [`ENDPOINTS_MAX`].
    pub(crate) async fn endpoints(&self) -> Result<Vec<Endpoint>, StoreError> {
        in_time(async {
            let rows = sqlx::query(
                "SELECT endpoint_id, url, events, enabled, disabled_reason, former_until, created_at FROM webhook_endpoints
                 ORDER BY created_at, endpoint_id LIMIT $1",
            )
            .bind(ENDPOINTS_MAX as i64)
            .fetch_all(self.read().await?)
            .await?;
            rows.iter().map(endpoint).collect()
        })
        .await
    }

    /// One endpoint.
    pub(crate) async fn endpoint(&self, id: &str) -> Result<Option<Endpoint>, StoreError> {
        in_time(async {
            let row = sqlx::query(
                "SELECT endpoint_id, url, events, enabled, disabled_reason, former_until, created_at FROM webhook_endpoints
                 WHERE endpoint_id = $1",
            )
            .bind(id)
            .fetch_optional(self.read().await?)
            .await?;
            row.as_ref().map(endpoint).transpose()
        })
        .await
    }

    /// Adds an endpoint, which is told of what happens from now on. `false` if there are [`ENDPOINTS_MAX`], or one with that id.
    pub(crate) async fn add_endpoint(&self, new: &NewEndpoint, now_ms: u64) -> Result<bool, StoreError> {
        in_time(async {
            let mut tx = self.write().await?;
            let done = sqlx::query(
                "INSERT INTO webhook_endpoints (endpoint_id, url, secret, events, enabled, created_at)
                 SELECT $1, $2, $3, $4, 1, $5 WHERE (SELECT COUNT(*) FROM webhook_endpoints) < $6 ON CONFLICT (endpoint_id) DO NOTHING",
            )
            .bind(&*new.id)
            .bind(&*new.url)
            .bind(&*new.secret)
            .bind(column(new.events.as_ref()))
            .bind(int(now_ms))
            .bind(ENDPOINTS_MAX as i64)
            .execute(&mut *tx)
            .await?;
            tx.commit().await?;
            Ok(done.rows_affected() == 1)
        })
        .await
    }

    /// Adds the endpoint of the operator's settings, or makes it what they say now. A secret that was another before signs too for
    /// [`FORMER_SECRET_MS`]. It is enabled, whatever switched it off: the settings say that it wants to be told. It is told of
    /// what was written since `since_ms` too, when this server started: the store may have been away.
    pub(crate) async fn configure_endpoint(
        &self,
        url: &str,
        secret: &str,
        since_ms: u64,
        now_ms: u64,
    ) -> Result<(), StoreError> {
        in_time(async {
            let mut tx = self.write().await?;
            sqlx::query(
                "INSERT INTO webhook_endpoints (endpoint_id, url, secret, enabled, created_at) VALUES ($1, $2, $3, 1, $4)
                 ON CONFLICT (endpoint_id) DO UPDATE SET url = excluded.url, secret = excluded.secret, enabled = 1, disabled_reason = NULL,
                     former_secret = CASE WHEN webhook_endpoints.secret = excluded.secret THEN webhook_endpoints.former_secret
                         ELSE webhook_endpoints.secret END,
                     former_until = CASE WHEN webhook_endpoints.secret = excluded.secret THEN webhook_endpoints.former_until ELSE $5 END",
            )
            .bind(ENDPOINT_CONFIGURED)
            .bind(url)
            .bind(secret)
            .bind(int(now_ms))
            .bind(int(now_ms + FORMER_SECRET_MS))
            .execute(&mut *tx)
            .await?;
            sqlx::query(
                "INSERT INTO deliveries (endpoint_id, event_id, session_id, room_seq, state, attempts, created_at, next_at)
                 SELECT $1, event_id, session_id, room_seq, 'pending', 0, $3, $3 FROM outbox WHERE created_at >= $2
                 ON CONFLICT (endpoint_id, event_id) DO NOTHING",
            )
            .bind(ENDPOINT_CONFIGURED)
            .bind(int(since_ms))
            .bind(int(now_ms))
            .execute(&mut *tx)
            .await?;
            Ok(tx.commit().await?)
        })
        .await
    }

    /// Removes an endpoint, with what it was to be told and has been. `false` if there is none.
    pub(crate) async fn remove_endpoint(&self, id: &str) -> Result<bool, StoreError> {
        in_time(async {
            let mut tx = self.write().await?;
            let done =
                sqlx::query("DELETE FROM webhook_endpoints WHERE endpoint_id = $1").bind(id).execute(&mut *tx).await?;
            sqlx::query("DELETE FROM deliveries WHERE endpoint_id = $1").bind(id).execute(&mut *tx).await?;
            tx.commit().await?;
            Ok(done.rows_affected() == 1)
        })
        .await
    }

    /// Gives an endpoint a new secret (`whsec_…`, checked). The former signs too for [`FORMER_SECRET_MS`]. `false` if there is no
    /// such endpoint.
    pub(crate) async fn rotate_secret(&self, id: &str, secret: &str, now_ms: u64) -> Result<bool, StoreError> {
        in_time(async {
            let mut tx = self.write().await?;
            let done = sqlx::query(
                "UPDATE webhook_endpoints SET former_secret = secret, former_until = $3, secret = $2 WHERE endpoint_id = $1",
            )
            .bind(id)
            .bind(secret)
            .bind(int(now_ms + FORMER_SECRET_MS))
            .execute(&mut *tx)
            .await?;
            tx.commit().await?;
            Ok(done.rows_affected() == 1)
        })
        .await
    }

    /// Switches an endpoint on. What still waits for it is tried anew, in order; what it was not told while it was off is replayed on
    /// demand. `false` if there is no such endpoint.
    pub(crate) async fn switch_on(&self, id: &str, now_ms: u64) -> Result<bool, StoreError> {
        in_time(async {
            let mut tx = self.write().await?;
            let done = sqlx::query("UPDATE webhook_endpoints SET enabled = 1, disabled_reason = NULL WHERE endpoint_id = $1 AND enabled = 0")
                .bind(id)
                .execute(&mut *tx)
                .await?;
            if done.rows_affected() == 1 {
                sqlx::query(
                    "UPDATE deliveries SET attempts = 0, created_at = $2, next_at = $2 WHERE endpoint_id = $1 AND state = 'pending'",
                )
                .bind(id)
                .bind(int(now_ms))
                .execute(&mut *tx)
                .await?;
            }
            tx.commit().await?;
            Ok(self.endpoint(id).await?.is_some())
        })
        .await
    }

    /// Switches an endpoint off, and keeps why. `false` if there is no such endpoint.
    pub(crate) async fn switch_off(&self, id: &str, reason: &str) -> Result<bool, StoreError> {
        in_time(async {
            let mut tx = self.write().await?;
            let done =
                sqlx::query("UPDATE webhook_endpoints SET enabled = 0, disabled_reason = $2 WHERE endpoint_id = $1")
                    .bind(id)
                    .bind(reason)
                    .execute(&mut *tx)
                    .await?;
            tx.commit().await?;
            Ok(done.rows_affected() == 1)
        })
        .await
    }
}
