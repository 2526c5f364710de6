//! What the application says of rooms: their settings and who is expected.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use signaling::Role;
use sqlx::{AnyPool, Row as _};

use super::{RoomRetention, Store, StoreError, in_time, int, nat, text};

/// Most people on a roster; more are [`StoreError::Broken`], and the API says so before.
pub(crate) const ROSTER_MAX: usize = 5_000;

/// People that one statement writes.
const ROWS_PER_STATEMENT: usize = 500;

/// Somebody who is expected.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Expected {
    /// Who.
    pub(crate) user_id: String,
    /// By what name, if the application says so.
    #[serde(default)]
    pub(crate) user_name: Option<String>,
    /// As what.
    #[serde(default)]
    pub(crate) role: Role,
}

/// What the application said of a room.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Room {
    /// Which.
    pub(crate) session: String,
    /// As PUT, JSON; `None`: the server's defaults.
    pub(crate) settings: Option<String>,
    /// When its settings or roster changed last, Unix ms.
    pub(crate) updated_at: u64,
}

impl Store {
    /// Keeps a room's settings (JSON) in place of the former, and how long its data is kept.
    pub(crate) async fn put_settings(
        &self,
        session: &str,
        settings: &str,
        kept: &RoomRetention,
        now_ms: u64,
    ) -> Result<(), StoreError> {
        let [chat, log, meetings] = kept.columns();
        in_time(async {
            let mut tx = self.write().await?;
            sqlx::query(
                "INSERT INTO rooms (session_id, settings, updated_at, keep_chat_ms, keep_log_ms, keep_meeting_ms)
                 VALUES ($1, $2, $3, $4, $5, $6)
                 ON CONFLICT (session_id) DO UPDATE SET settings = excluded.settings, updated_at = excluded.updated_at,
                     keep_chat_ms = excluded.keep_chat_ms, keep_log_ms = excluded.keep_log_ms, keep_meeting_ms = excluded.keep_meeting_ms",
            )
            .bind(text::clean(session))
            // No index is on it, and JSON that is cut is none.
            .bind(text::without_nul(settings))
            .bind(int(now_ms))
            .bind(chat)
            .bind(log)
            .bind(meetings)
            .execute(&mut *tx)
            .await?;
            Ok(tx.commit().await?)
        })
        .await
    }

    /// Rooms of which something was said after `since_ms`, or then by rooms behind `after`: by time, then by room. Clocks of nodes differ, so
    /// ask from a while before the newest that is known. At most [`super::PAGE_MAX`]; ask again from the last.
    pub(crate) async fn rooms_changed(&self, since_ms: u64, after: &str) -> Result<Vec<Room>, StoreError> {
        in_time(async {
            let rows = sqlx::query(
                "SELECT session_id, settings, updated_at FROM rooms WHERE (updated_at > $1 OR (updated_at = $1 AND session_id > $2)) AND updated_at > 0
                 ORDER BY updated_at, session_id LIMIT $3",
            )
            .bind(int(since_ms))
            .bind(after)
            .bind(int(super::PAGE_MAX as u64))
            .fetch_all(self.read().await?)
            .await?;
            rows.iter().map(room).collect()
        })
        .await
    }

    /// Keeps a room's roster in place of the former; empty: nobody is expected.
    pub(crate) async fn put_roster(&self, session: &str, roster: &[Expected], now_ms: u64) -> Result<(), StoreError> {
        if roster.len() > ROSTER_MAX {
            return Err(StoreError::Broken(format!("a roster has at most {ROSTER_MAX} people")));
        }
        in_time(async {
            let session = text::clean(session);
            let mut tx = self.write().await?;
            sqlx::query(
                "INSERT INTO rooms (session_id, updated_at) VALUES ($1, $2)
                 ON CONFLICT (session_id) DO UPDATE SET updated_at = excluded.updated_at",
            )
            .bind(&*session)
            .bind(int(now_ms))
            .execute(&mut *tx)
            .await?;
            sqlx::query("DELETE FROM rosters WHERE session_id = $1").bind(&*session).execute(&mut *tx).await?;
            // The last of those with one id counts.
            let people: BTreeMap<_, _> =
                roster.iter().map(|expected| (text::clean(&expected.user_id), expected)).collect();
            let people: Vec<_> = people.into_iter().collect();
            for some in people.chunks(ROWS_PER_STATEMENT) {
                let rows = text::rows_of(some.len(), 4, 1);
                let statement = format!("INSERT INTO rosters (session_id, user_id, user_name, role) VALUES {rows}");
                let mut query = sqlx::query(sqlx::AssertSqlSafe(statement)).persistent(false);
                for (user, expected) in some {
                    let name = expected.user_name.as_deref().map(text::clean);
                    query = query.bind(&*session).bind(user.as_str()).bind(name).bind(expected.role.as_str());
                }
                query.execute(&mut *tx).await?;
            }
            Ok(tx.commit().await?)
        })
        .await
    }

    /// Whether a room's roster names somebody.
    pub(crate) async fn is_expected(&self, session: &str, user: &str) -> Result<bool, StoreError> {
        in_time(async {
            let row = sqlx::query("SELECT 1 FROM rosters WHERE session_id = $1 AND user_id = $2")
                .bind(session)
                .bind(user)
                .fetch_optional(self.read().await?)
                .await?;
            Ok(row.is_some())
        })
        .await
    }

    /// Who is expected in a room, by user.
    pub(crate) async fn roster(&self, session: &str) -> Result<Vec<Expected>, StoreError> {
        in_time(async { roster(self.read().await?, session).await }).await
    }
}

async fn roster(pool: &AnyPool, session: &str) -> Result<Vec<Expected>, StoreError> {
    let rows = sqlx::query("SELECT user_id, user_name, role FROM rosters WHERE session_id = $1 ORDER BY user_id")
        .bind(session)
        .fetch_all(pool)
        .await?;
    rows.iter()
        .map(|row| {
            Ok(Expected {
                user_id: row.try_get(0)?,
                user_name: row.try_get(1)?,
                role: Role::parse(row.try_get::<&str, _>(2)?).unwrap_or_default(),
            })
        })
        .collect()
}

fn room(row: &sqlx::any::AnyRow) -> Result<Room, StoreError> {
    Ok(Room { session: row.try_get(0)?, settings: row.try_get(1)?, updated_at: nat(row.try_get(2)?) })
}
