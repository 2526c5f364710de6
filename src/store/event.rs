//! What others are told: a row of the outbox and a delivery for each endpoint, in the transaction that made it true.

use aws_lc_rs::digest::{SHA256, digest};
use serde::Serialize;
use serde_json::{Value, json};
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row as _};

use super::{StoreError, int, text};
use crate::clock;

/// The kinds of events, as receivers and endpoints name them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A meeting began.
    SessionStarted,
    /// It is over: the whole summary.
    SessionEnded,
    /// A connection began.
    ParticipantJoined,
    /// It ended.
    ParticipantLeft,
    /// A good token came and no join.
    ConnectionAborted,
    /// A track is published.
    TrackPublished,
    /// It is not any more.
    TrackUnpublished,
}

impl Kind {
    /// The word on the wire.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Kind::SessionStarted => "session.started",
            Kind::SessionEnded => "session.ended",
            Kind::ParticipantJoined => "participant.joined",
            Kind::ParticipantLeft => "participant.left",
            Kind::ConnectionAborted => "connection.aborted",
            Kind::TrackPublished => "track.published",
            Kind::TrackUnpublished => "track.unpublished",
        }
    }
}

/// An event before it has its place in the room's order.
pub(crate) struct Event<'a> {
    /// Its kind.
    pub(crate) kind: &'a str,
    /// What makes it this event and no other: its id derives from it, so that what happens once is told once.
    pub(crate) key: String,
    /// The room.
    pub(crate) session: &'a str,
    /// The meeting, if it is about one.
    pub(crate) meeting: Option<&'a str>,
    /// When it happened, Unix ms.
    pub(crate) at: u64,
    /// Its place in the meeting's log, if it has one.
    pub(crate) seq: Option<u64>,
    /// What happened.
    pub(crate) data: Value,
}

/// The body of a webhook: fixed once, the same at every attempt.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    r#type: &'a str,
    timestamp: u64,
    data: &'a Value,
    seq: Option<u64>,
    room_seq: u64,
}

/// The id of the event with this key: the same from whoever derives it.
pub(crate) fn id_of(key: &str) -> String {
    let hash = digest(&SHA256, key.as_bytes());
    hash.as_ref().iter().take(16).fold("msg_".to_owned(), |id, byte| format!("{id}{byte:02x}"))
}

/// Writes the event behind the last of its room, with a delivery to each enabled endpoint that wants its kind. One that is there
/// already changes nothing.
pub(crate) async fn emit(connection: &mut AnyConnection, event: &Event<'_>, now_ms: u64) -> Result<(), StoreError> {
    let id = id_of(&event.key);
    let known =
        sqlx::query("SELECT 1 FROM outbox WHERE event_id = $1").bind(&*id).fetch_optional(&mut *connection).await?;
    if known.is_some() {
        return Ok(());
    }
    // The row stays locked until the commit, so that the room's numbers have no gap, and none is seen before a lower one.
    let row = sqlx::query(
        "INSERT INTO rooms (session_id, room_seq, updated_at) VALUES ($1, 1, 0)
         ON CONFLICT (session_id) DO UPDATE SET room_seq = rooms.room_seq + 1 RETURNING room_seq",
    )
    .bind(event.session)
    .fetch_one(&mut *connection)
    .await?;
    let room_seq: i64 = row.try_get(0)?;
    let body = Body {
        r#type: event.kind,
        timestamp: event.at,
        data: &event.data,
        seq: event.seq,
        room_seq: super::nat(room_seq),
    };
    let body = serde_json::to_string(&body).map_err(|why| super::unreadable("an event", &why))?;
    sqlx::query(
        "INSERT INTO outbox (event_id, session_id, room_seq, meeting_id, type, body, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(&*id)
    .bind(event.session)
    .bind(room_seq)
    .bind(event.meeting)
    .bind(event.kind)
    .bind(text::without_nul(&body))
    .bind(int(now_ms))
    .execute(&mut *connection)
    .await?;
    sqlx::query(
        "INSERT INTO deliveries (endpoint_id, event_id, session_id, room_seq, state, attempts, created_at, next_at)
         SELECT endpoint_id, $1, $2, $3, 'pending', 0, $4, $4 FROM webhook_endpoints
         WHERE enabled = 1 AND (events IS NULL OR ' ' || events || ' ' LIKE '% ' || $5 || ' %')",
    )
    .bind(&*id)
    .bind(event.session)
    .bind(room_seq)
    // They wait from now on, whenever it happened: events that lay in the journal while the store was away keep their order too.
    .bind(int(clock::now().unix_ms))
    .bind(event.kind)
    .execute(&mut *connection)
    .await?;
    Ok(())
}

/// Who a connection is, as events say it.
pub(super) struct Who {
    pub(super) session: String,
    pub(super) participant: String,
    pub(super) user: String,
    pub(super) name: String,
    pub(super) role: String,
}

impl Who {
    /// Of a row of `connections`: its participant, user, name and role, in this order.
    pub(super) fn of(row: &AnyRow, session: String) -> Result<Self, StoreError> {
        let [participant, user, name, role] = [row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?];
        Ok(Who { session, participant, user, name, role })
    }

    /// The common part of `data`.
    pub(super) fn data(&self, meeting: &str, connection: &str) -> Value {
        json!({
            "meetingId": meeting,
            "sessionId": self.session,
            "participantId": self.participant,
            "connectionId": connection,
            "userId": self.user,
            "userName": self.name,
            "role": self.role,
        })
    }
}
