//! What the API asks: meetings, who attended, what was said.

use std::sync::Arc;

use serde::Serialize;
use signaling::attendance::Summary;
use signaling::limits::CHAT_HISTORY_MAX;
use signaling::{Fact, Role};
use sqlx::any::AnyRow;
use sqlx::{AnyPool, Row as _};

use super::{PAGE_MAX, Store, StoreError, Text, in_time, int, meeting, nat, unreadable};

/// Withdrawn tokens that one look takes up.
const REVOKED_PAGE: i64 = 10_000;

/// Which meetings.
#[derive(Clone, Debug, Default)]
pub(crate) struct MeetingFilter {
    /// Of this room; `None`: of all.
    pub(crate) session: Option<String>,
    /// Those that began at or after this, Unix ms.
    pub(crate) from: Option<u64>,
    /// Those that began before this, Unix ms.
    pub(crate) to: Option<u64>,
}

/// Some rows, and where to go on.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Page<T> {
    /// In order.
    pub(crate) items: Vec<T>,
    /// For the next page: what comes after these, whatever is written meanwhile; `None` after the last.
    pub(crate) next: Option<String>,
}

/// A meeting as lists show it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Listed {
    /// Its id.
    pub(crate) meeting_id: String,
    /// The room.
    pub(crate) session_id: String,
    /// Unix ms.
    pub(crate) started_at: u64,
    /// Unix ms; `None` while it goes on.
    pub(crate) ended_at: Option<u64>,
    /// Most people at one time; `None` while it goes on.
    pub(crate) peak_participants: Option<u64>,
    /// Distinct people; `None` while it goes on.
    pub(crate) total_participants: Option<u64>,
}

/// One person in one meeting that has ended.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Attended {
    /// The meeting.
    pub(crate) meeting_id: String,
    /// The room.
    pub(crate) session_id: String,
    /// Who.
    pub(crate) user_id: String,
    /// The last name.
    pub(crate) user_name: String,
    /// As what.
    pub(crate) role: Role,
    /// Unix ms.
    pub(crate) first_join_at: u64,
    /// Unix ms.
    pub(crate) last_leave_at: u64,
    /// The union of its connections, ms.
    pub(crate) connected_ms: u64,
    /// As its clients claim, ms.
    pub(crate) speaking_ms: u64,
    /// With an unmuted camera, ms.
    pub(crate) camera_ms: u64,
    /// With a shared screen, ms.
    pub(crate) screen_ms: u64,
    /// How many visits.
    pub(crate) visits: u64,
}

/// A server that writes to the store.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct NodeRow {
    /// Its id.
    pub(crate) node: String,
    /// When it last said that it lives, Unix ms of its own clock.
    pub(crate) seen_at: u64,
    /// Its meetings that are on.
    pub(crate) meetings: u64,
    /// Connections to them that have not ended.
    pub(crate) participants: u64,
}

/// A chat message.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ChatLine {
    /// `msg_…`.
    pub(crate) id: String,
    /// In which meeting.
    pub(crate) meeting_id: String,
    /// Whose.
    pub(crate) user_id: String,
    /// By what name.
    pub(crate) user_name: String,
    /// What.
    pub(crate) message: String,
    /// Unix ms.
    pub(crate) timestamp: u64,
}

/// Where a page ended: the time and the id of its last row.
struct Cursor {
    at: i64,
    id: String,
}

impl Cursor {
    /// The word of [`Page::next`]; one that is not ours reads as `None`.
    fn parse(word: &str) -> Option<Self> {
        let (at, id) = word.split_once('.')?;
        Some(Cursor { at: at.parse().ok()?, id: id.to_owned() })
    }
}

/// Rows of one more than a page, made into that page.
fn page<T>(mut items: Vec<T>, limit: usize, place: impl Fn(&T) -> (u64, &str)) -> Page<T> {
    let more = items.len() > limit;
    items.truncate(limit);
    let next = items.last().filter(|_| more).map(|last| {
        let (at, id) = place(last);
        format!("{at}.{id}")
    });
    Page { items, next }
}

const ATTENDED: &str = "meeting_id, session_id, user_id, user_name, role, first_join_at, last_leave_at, \
     connected_ms, speaking_ms, camera_ms, screen_ms, visits";

impl Store {
    /// What was said in a meeting until then, Unix ms: the newest [`CHAT_HISTORY_MAX`], oldest first.
    pub(crate) async fn said(&self, meeting: &Text, until_ms: u64) -> Result<Vec<Fact>, StoreError> {
        in_time(async {
            let rows = sqlx::query(
                "SELECT message_id, user_id, user_name, message, sent_at FROM chat_messages
                 WHERE meeting_id = $1 AND sent_at <= $2 ORDER BY sent_at DESC, message_id DESC LIMIT $3",
            )
            .bind(&**meeting)
            .bind(int(until_ms))
            .bind(int(CHAT_HISTORY_MAX as u64))
            .fetch_all(self.read().await?)
            .await?;
            let word = |row: &AnyRow, column: usize| row.try_get::<&str, _>(column).map(Arc::from);
            let fact = |row: &AnyRow| -> Result<Fact, StoreError> {
                let (meeting, at) = (meeting.clone(), nat(row.try_get(4)?));
                let (user, name) = (word(row, 1)?, word(row, 2)?);
                Ok(Fact::Chat { meeting, id: word(row, 0)?, user, name, message: word(row, 3)?, at })
            };
            rows.iter().rev().map(fact).collect()
        })
        .await
    }

    /// Meetings, newest first, at most `limit` (1..=[`PAGE_MAX`]) after `cursor` ([`Page::next`]; one that does not read counts
    /// as none).
    pub(crate) async fn meetings(
        &self,
        filter: &MeetingFilter,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<Page<Listed>, StoreError> {
        let limit = limit.clamp(1, PAGE_MAX);
        let after = cursor.and_then(Cursor::parse).unwrap_or(Cursor { at: i64::MAX, id: String::new() });
        in_time(async {
            let rows = sqlx::query(
                "SELECT meeting_id, session_id, started_at, ended_at, peak_participants, total_participants FROM meetings
                 WHERE (CAST($1 AS TEXT) IS NULL OR session_id = $1) AND started_at >= $2 AND started_at < $3
                   AND (started_at < $4 OR (started_at = $4 AND meeting_id > $5))
                 ORDER BY started_at DESC, meeting_id LIMIT $6",
            )
            .bind(filter.session.as_deref())
            .bind(int(filter.from.unwrap_or(0)))
            .bind(filter.to.map_or(i64::MAX, int))
            .bind(after.at)
            .bind(after.id)
            .bind(int(limit as u64 + 1))
            .fetch_all(self.read().await?)
            .await?;
            let items = rows.iter().map(listed).collect::<Result<Vec<_>, _>>()?;
            Ok(page(items, limit, |m| (m.started_at, &m.meeting_id)))
        })
        .await
    }

    /// The servers that ever wrote here, whoever spoke last first, at most [`PAGE_MAX`].
    pub(crate) async fn nodes(&self) -> Result<Vec<NodeRow>, StoreError> {
        in_time(async {
            let rows = sqlx::query(
                "SELECT node_id, seen_at, (SELECT COUNT(*) FROM meetings WHERE meetings.node_id = nodes.node_id AND ended_at IS NULL),
                     (SELECT COUNT(*) FROM connections WHERE connections.node_id = nodes.node_id AND ended_at IS NULL)
                 FROM nodes ORDER BY seen_at DESC, node_id LIMIT $1",
            )
            .bind(int(PAGE_MAX as u64))
            .fetch_all(self.read().await?)
            .await?;
            let node = |row: &AnyRow| {
                Ok(NodeRow {
                    node: row.try_get(0)?,
                    seen_at: nat(row.try_get(1)?),
                    meetings: nat(row.try_get(2)?),
                    participants: nat(row.try_get(3)?),
                })
            };
            rows.iter().map(node).collect()
        })
        .await
    }

    /// One meeting.
    pub(crate) async fn meeting(&self, meeting: &str) -> Result<Option<Listed>, StoreError> {
        in_time(async {
            let row = sqlx::query(
                "SELECT meeting_id, session_id, started_at, ended_at, peak_participants, total_participants
                 FROM meetings WHERE meeting_id = $1",
            )
            .bind(meeting)
            .fetch_optional(self.read().await?)
            .await?;
            row.as_ref().map(listed).transpose()
        })
        .await
    }

    /// Who is or was in a meeting: its current summary, or of a running one what its log says at `now_ms`. `None` if there is no such
    /// meeting.
    pub(crate) async fn attendance(&self, meeting: &str, now_ms: u64) -> Result<Option<Summary>, StoreError> {
        in_time(async {
            let pool = self.read().await?;
            match current_summary(pool, meeting).await? {
                Some(summary) => Ok(Some(summary)),
                None => {
                    let mut connection = pool.acquire().await?;
                    meeting::summary_of_log(&mut connection, meeting, now_ms).await
                }
            }
        })
        .await
    }

    /// A person's meetings that have ended and in which it first joined from `from` until before `to` (Unix ms), oldest first.
    pub(crate) async fn attended(
        &self,
        user: &str,
        from: u64,
        to: u64,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<Page<Attended>, StoreError> {
        let limit = limit.clamp(1, PAGE_MAX);
        let after = cursor.and_then(Cursor::parse).unwrap_or(Cursor { at: -1, id: String::new() });
        in_time(async {
            let rows = sqlx::query(sqlx::AssertSqlSafe(format!(
                "SELECT {ATTENDED} FROM attendance
                 WHERE user_id = $1 AND first_join_at >= $2 AND first_join_at < $3
                   AND (first_join_at > $4 OR (first_join_at = $4 AND meeting_id > $5))
                 ORDER BY first_join_at, meeting_id LIMIT $6"
            )))
            .bind(user)
            .bind(int(from))
            .bind(int(to))
            .bind(after.at)
            .bind(after.id)
            .bind(int(limit as u64 + 1))
            .fetch_all(self.read().await?)
            .await?;
            let items = rows.iter().map(attended).collect::<Result<Vec<_>, _>>()?;
            Ok(page(items, limit, |a| (a.first_join_at, &a.meeting_id)))
        })
        .await
    }

    /// What was said in a room, over all its meetings, newest first.
    pub(crate) async fn chat(
        &self,
        session: &str,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<Page<ChatLine>, StoreError> {
        let limit = limit.clamp(1, PAGE_MAX);
        let after = cursor.and_then(Cursor::parse).unwrap_or(Cursor { at: i64::MAX, id: String::new() });
        in_time(async {
            let rows = sqlx::query(
                "SELECT message_id, meeting_id, user_id, user_name, message, sent_at FROM chat_messages
                 WHERE session_id = $1 AND (sent_at < $2 OR (sent_at = $2 AND message_id > $3))
                 ORDER BY sent_at DESC, message_id LIMIT $4",
            )
            .bind(session)
            .bind(after.at)
            .bind(after.id)
            .bind(int(limit as u64 + 1))
            .fetch_all(self.read().await?)
            .await?;
            let items = rows.iter().map(chat_line).collect::<Result<Vec<_>, _>>()?;
            Ok(page(items, limit, |line| (line.timestamp, &line.id)))
        })
        .await
    }

    /// Withdrawn tokens whose time is not over, of removals at or after `since_ms`, the oldest first: id, end and when. At most
    /// [`REVOKED_PAGE`]; the next look begins where this one ended.
    pub(crate) async fn revoked_since(
        &self,
        since_ms: u64,
        now_ms: u64,
    ) -> Result<Vec<(String, u64, u64)>, StoreError> {
        in_time(async {
            let rows = sqlx::query(
                "SELECT token_id, expires_at, created_at FROM revocations
                 WHERE token_id <> '' AND expires_at > $1 AND created_at >= $2 ORDER BY created_at LIMIT $3",
            )
            .bind(int(now_ms))
            .bind(int(since_ms))
            .bind(REVOKED_PAGE)
            .fetch_all(self.read().await?)
            .await?;
            rows.iter().map(|row| Ok((row.try_get(0)?, nat(row.try_get(1)?), nat(row.try_get(2)?)))).collect()
        })
        .await
    }
}

/// The newest version of a meeting's summary; `None` while it runs.
pub(super) async fn current_summary(pool: &AnyPool, meeting: &str) -> Result<Option<Summary>, StoreError> {
    let row = sqlx::query("SELECT body FROM summaries WHERE meeting_id = $1 ORDER BY version DESC LIMIT 1")
        .bind(meeting)
        .fetch_optional(pool)
        .await?;
    let Some(row) = row else { return Ok(None) };
    let body: String = row.try_get(0)?;
    serde_json::from_str(&body).map(Some).map_err(|why| unreadable("a summary", &why))
}

fn listed(row: &AnyRow) -> Result<Listed, StoreError> {
    let number = |at: usize| row.try_get::<Option<i64>, _>(at).map(|n| n.map(nat));
    Ok(Listed {
        meeting_id: row.try_get(0)?,
        session_id: row.try_get(1)?,
        started_at: nat(row.try_get(2)?),
        ended_at: number(3)?,
        peak_participants: number(4)?,
        total_participants: number(5)?,
    })
}

fn attended(row: &AnyRow) -> Result<Attended, StoreError> {
    let number = |at: usize| row.try_get::<i64, _>(at).map(nat);
    Ok(Attended {
        meeting_id: row.try_get(0)?,
        session_id: row.try_get(1)?,
        user_id: row.try_get(2)?,
        user_name: row.try_get(3)?,
        role: Role::parse(row.try_get::<&str, _>(4)?).unwrap_or_default(),
        first_join_at: number(5)?,
        last_leave_at: number(6)?,
        connected_ms: number(7)?,
        speaking_ms: number(8)?,
        camera_ms: number(9)?,
        screen_ms: number(10)?,
        visits: number(11)?,
    })
}

fn chat_line(row: &AnyRow) -> Result<ChatLine, StoreError> {
    Ok(ChatLine {
        id: row.try_get(0)?,
        meeting_id: row.try_get(1)?,
        user_id: row.try_get(2)?,
        user_name: row.try_get(3)?,
        message: row.try_get(4)?,
        timestamp: nat(row.try_get(5)?),
    })
}
