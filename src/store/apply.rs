//! Facts become rows: the log, the state that it leads to, and what others are told, all in one transaction.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use signaling::{Alive, Fact};
use sqlx::{AnyConnection, Row as _};

use super::event::{Event, Kind, Who, emit};
use super::{Store, StoreError, int, meeting, nat, text, unreadable, within};
use crate::journal::{NodeId, Record};

/// How long a batch may go on before it is committed as far as it is: a slow database gets through too.
const BATCH_MAX: Duration = Duration::from_secs(3);
/// How long one may take in all, the end of a large meeting on a slow database included; then it is given up and tried again.
const APPLY_MAX: Duration = Duration::from_secs(60);
/// Proofs of life that one statement writes.
const ALIVE_PER_STATEMENT: usize = 100;

/// Where a fact comes from.
pub(super) struct Origin<'a> {
    pub(super) node: &'a str,
    pub(super) boot: u64,
    pub(super) index: u64,
    pub(super) mono_ms: u64,
    pub(super) wall_ms: u64,
}

impl Store {
    /// Applies records of one node in order: log, state, outbox, in one transaction. Those applied before are skipped, so each is
    /// applied exactly once. Gives the index of the last that is applied now: a slow database may not get to the end
    /// of the batch, so go on from there. After an error nothing of the batch is applied.
    pub(crate) async fn apply(&self, node: &NodeId, records: &[Record]) -> Result<u64, StoreError> {
        // One that is alone may be the end of a meeting of days, whose whole log is read: given up, it would block all behind it.
        let time = if records.len() == 1 { APPLY_MAX * 30 } else { APPLY_MAX };
        within(time, self.apply_batch(node, records)).await
    }

    async fn apply_batch(&self, node: &NodeId, records: &[Record]) -> Result<u64, StoreError> {
        let seen_ms = records.last().map_or(0, |record| record.wall_ms);
        let mut tx = self.write().await?;
        let begun = Instant::now();
        let before = seen(&mut tx, node, seen_ms).await?;
        let mut applied = before;
        let mut boot = 0;
        for record in records.iter().filter(|record| record.index > before) {
            let origin = Origin {
                node,
                boot: record.boot,
                index: record.index,
                mono_ms: record.mono_ms,
                wall_ms: record.wall_ms,
            };
            fact(&mut tx, &origin, &text::clean_fact(&record.fact)?).await?;
            applied = record.index;
            boot = record.boot;
            if begun.elapsed() > BATCH_MAX {
                break;
            }
        }
        if applied > before {
            sqlx::query("UPDATE nodes SET applied = $2, boot_id = $3 WHERE node_id = $1")
                .bind(&**node)
                .bind(int(applied))
                .bind(int(boot))
                .execute(&mut *tx)
                .await?;
        }
        tx.commit().await?;
        Ok(applied)
    }

    /// Up to which index this node's journal is applied; 0 if nothing is.
    #[cfg(test)]
    pub(crate) async fn applied(&self, node: &str) -> Result<u64, StoreError> {
        Ok(self.progress(node).await?.0)
    }

    /// The same, with the boot that wrote the last of it.
    pub(crate) async fn progress(&self, node: &str) -> Result<(u64, u64), StoreError> {
        super::in_time(async {
            let row = sqlx::query("SELECT applied, boot_id FROM nodes WHERE node_id = $1")
                .bind(node)
                .fetch_optional(self.read().await?)
                .await?;
            row.map_or(Ok((0, 0)), |row| Ok((nat(row.try_get(0)?), nat(row.try_get(1)?))))
        })
        .await
    }
}

/// Notes that a node lives, locks its row, and gives how far it is applied. The time may go back, as its clock may: that it moves is
/// the sign of life.
pub(super) async fn seen(connection: &mut AnyConnection, node: &str, now_ms: u64) -> Result<u64, StoreError> {
    let row = sqlx::query(
        "INSERT INTO nodes (node_id, seen_at) VALUES ($1, $2)
         ON CONFLICT (node_id) DO UPDATE SET seen_at = excluded.seen_at RETURNING applied",
    )
    .bind(node)
    .bind(int(now_ms))
    .fetch_one(&mut *connection)
    .await?;
    Ok(nat(row.try_get(0)?))
}

/// Applies one fact. One that says what is known already changes nothing.
pub(super) async fn fact(connection: &mut AnyConnection, origin: &Origin<'_>, fact: &Fact) -> Result<(), StoreError> {
    match fact {
        Fact::MeetingStarted { meeting, session, at, grace_ms } => {
            if !insert_meeting(connection, origin, (meeting, session), *at, *grace_ms).await? {
                return Ok(());
            }
            let (seq, session) = log(connection, origin, fact, meeting).await?;
            let data = json!({ "meetingId": meeting, "sessionId": session, "startedAt": at });
            tell(connection, origin, Kind::SessionStarted, (meeting, &session, seq), *at, data).await
        }
        Fact::Joined { .. } => joined(connection, origin, fact).await,
        Fact::Left { .. } => left(connection, origin, fact).await,
        Fact::Changed { meeting, connection: id, name, role, .. } => {
            sqlx::query("UPDATE connections SET user_name = $2, role = $3 WHERE connection_id = $1")
                .bind(&**id)
                .bind(&**name)
                .bind(role.as_str())
                .execute(&mut *connection)
                .await?;
            log(connection, origin, fact, meeting).await.map(|_| ())
        }
        Fact::Media { meeting, .. } => log(connection, origin, fact, meeting).await.map(|_| ()),
        Fact::Track { .. } => track(connection, origin, fact).await,
        Fact::Activity { meeting, alive, .. } => {
            for some in alive.chunks(ALIVE_PER_STATEMENT) {
                heard(connection, some).await?;
            }
            log(connection, origin, fact, meeting).await.map(|_| ())
        }
        Fact::MeetingEnded { meeting, at } => meeting::end(connection, origin, meeting, *at).await,
        Fact::Chat { .. } => chat(connection, fact).await,
        Fact::Removed { .. } => removed(connection, fact).await,
        // They matter to whoever goes on with the meeting: the journal keeps them for its own node.
        Fact::Locked { .. } | Fact::Promoted { .. } => Ok(()),
        Fact::Aborted { session, user, at } => {
            let event = Event {
                kind: Kind::ConnectionAborted.as_str(),
                key: format!("{}/{}", origin.node, origin.index),
                session,
                meeting: None,
                at: *at,
                seq: None,
                data: json!({ "sessionId": session, "userId": user, "at": at }),
            };
            emit(connection, &event, origin.wall_ms).await
        }
    }
}

/// `false` if it is there already.
async fn insert_meeting(
    connection: &mut AnyConnection,
    origin: &Origin<'_>,
    (meeting, session): (&str, &str),
    at: u64,
    grace_ms: u64,
) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "INSERT INTO meetings (meeting_id, session_id, node_id, started_at, grace_ms) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (meeting_id) DO NOTHING",
    )
    .bind(meeting)
    .bind(session)
    .bind(origin.node)
    .bind(int(at))
    .bind(int(grace_ms))
    .execute(&mut *connection)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Appends to a meeting's log and gives the row's `seq` and the room. A meeting whose beginning this database never saw (it was put in
/// the place of another) begins here, in a room without a name, rather than losing who is there.
pub(super) async fn log(
    connection: &mut AnyConnection,
    origin: &Origin<'_>,
    fact: &Fact,
    meeting: &str,
) -> Result<(u64, String), StoreError> {
    let left_at = if let Fact::Left { at, .. } = fact { Some(int(*at)) } else { None };
    let mut row = None;
    for _ in 0..2 {
        row = sqlx::query(
            "UPDATE meetings SET last_seq = last_seq + 1,
                 last_left_at = CASE WHEN $2 > COALESCE(last_left_at, 0) THEN $2 ELSE last_left_at END
             WHERE meeting_id = $1 RETURNING last_seq, session_id",
        )
        .bind(meeting)
        .bind(left_at)
        .fetch_optional(&mut *connection)
        .await?;
        if row.is_some() {
            break;
        }
        insert_meeting(connection, origin, (meeting, ""), fact.at(), 0).await?;
    }
    let row = row.ok_or_else(|| StoreError::Broken("a meeting's row vanished within a transaction".to_owned()))?;
    let (seq, session): (i64, String) = (row.try_get(0)?, row.try_get(1)?);
    let value = serde_json::to_value(fact).map_err(|why| unreadable("a fact", &why))?;
    let word = |key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
    sqlx::query(
        "INSERT INTO connection_log (meeting_id, seq, kind, at, connection_id, user_id, reason,
             node_id, boot_id, journal_index, mono_ms, wall_at, fact)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
    )
    .bind(meeting)
    .bind(seq)
    .bind(word("kind").unwrap_or_default())
    .bind(int(fact.at()))
    .bind(word("connection"))
    .bind(word("user"))
    .bind(word("reason"))
    .bind(origin.node)
    .bind(int(origin.boot))
    .bind(int(origin.index))
    .bind(int(origin.mono_ms))
    .bind(int(origin.wall_ms))
    .bind(value.to_string())
    .execute(&mut *connection)
    .await?;
    Ok((nat(seq), session))
}

/// Tells of what stands at `seq` in a meeting's log.
async fn tell(
    connection: &mut AnyConnection,
    origin: &Origin<'_>,
    kind: Kind,
    (meeting, session, seq): (&str, &str, u64),
    at: u64,
    data: Value,
) -> Result<(), StoreError> {
    let key = format!("{meeting}/{seq}");
    let event = Event { kind: kind.as_str(), key, session, meeting: Some(meeting), at, seq: Some(seq), data };
    emit(connection, &event, origin.wall_ms).await
}

async fn joined(connection: &mut AnyConnection, origin: &Origin<'_>, fact: &Fact) -> Result<(), StoreError> {
    let Fact::Joined { meeting, connection: id, participant, user, name, role, at, resumes } = fact else {
        return Ok(());
    };
    let done = sqlx::query(
        "INSERT INTO connections (connection_id, meeting_id, participant_id, user_id, user_name, role, node_id, started_at, alive_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8) ON CONFLICT (connection_id) DO NOTHING",
    )
    .bind(&**id)
    .bind(&**meeting)
    .bind(&**participant)
    .bind(&**user)
    .bind(&**name)
    .bind(role.as_str())
    .bind(origin.node)
    .bind(int(*at))
    .execute(&mut *connection)
    .await?;
    if done.rows_affected() == 0 {
        return Ok(());
    }
    let (seq, session) = log(connection, origin, fact, meeting).await?;
    let who = Who {
        session: session.clone(),
        participant: participant.to_string(),
        user: user.to_string(),
        name: name.to_string(),
        role: role.as_str().to_owned(),
    };
    let mut data = who.data(meeting, id);
    data["joinedAt"] = json!(at);
    data["resumes"] = json!(resumes);
    tell(connection, origin, Kind::ParticipantJoined, (meeting, &session, seq), *at, data).await
}

/// The end of a connection. Of one that has ended already, or never began, nothing is written: each has one end. Only what its
/// own node knows takes the place of what others guessed when that node was silent.
pub(super) async fn left(connection: &mut AnyConnection, origin: &Origin<'_>, fact: &Fact) -> Result<(), StoreError> {
    let Fact::Left { meeting, connection: id, at, reason, uncertainty_ms } = fact else { return Ok(()) };
    let row = sqlx::query(
        "UPDATE connections SET ended_at = CASE WHEN $2 > started_at THEN $2 ELSE started_at END,
             alive_at = CASE WHEN $2 > started_at THEN $2 ELSE started_at END, reason = $3, uncertainty_ms = $4
         WHERE connection_id = $1 AND (ended_at IS NULL OR (reason = 'crashed' AND ($3 <> 'crashed' OR $2 > ended_at)))
         RETURNING participant_id, user_id, user_name, role",
    )
    .bind(&**id)
    .bind(int(*at))
    .bind(reason.as_str())
    .bind(int(*uncertainty_ms))
    .fetch_optional(&mut *connection)
    .await?;
    let Some(row) = row else { return Ok(()) };
    sqlx::query("DELETE FROM tracks WHERE connection_id = $1").bind(&**id).execute(&mut *connection).await?;
    let (seq, session) = log(connection, origin, fact, meeting).await?;
    let who = Who::of(&row, session)?;
    let mut data = who.data(meeting, id);
    data["leftAt"] = json!(at);
    data["reason"] = json!(reason);
    data["uncertaintyMs"] = json!(uncertainty_ms);
    tell(connection, origin, Kind::ParticipantLeft, (meeting, &who.session, seq), *at, data).await
}

/// A track that appears, changes or vanishes; others are told of the first and the last.
async fn track(connection: &mut AnyConnection, origin: &Origin<'_>, fact: &Fact) -> Result<(), StoreError> {
    let Fact::Track { meeting, connection: id, track, source, on, at, .. } = fact else { return Ok(()) };
    let statement = if *on {
        sqlx::query(
            "INSERT INTO tracks (connection_id, track_id) VALUES ($1, $2) ON CONFLICT (connection_id, track_id) DO NOTHING",
        )
    } else {
        sqlx::query("DELETE FROM tracks WHERE connection_id = $1 AND track_id = $2")
    };
    let changed = statement.bind(&**id).bind(&**track).execute(&mut *connection).await?.rows_affected() > 0;
    let (seq, session) = log(connection, origin, fact, meeting).await?;
    if !changed {
        return Ok(());
    }
    let row = sqlx::query("SELECT participant_id, user_id, user_name, role FROM connections WHERE connection_id = $1")
        .bind(&**id)
        .fetch_optional(&mut *connection)
        .await?;
    let Some(row) = row else { return Ok(()) };
    let who = Who::of(&row, session)?;
    let mut data = who.data(meeting, id);
    data["trackId"] = json!(track);
    data["source"] = json!(source);
    data["at"] = json!(at);
    let kind = if *on { Kind::TrackPublished } else { Kind::TrackUnpublished };
    tell(connection, origin, kind, (meeting, &who.session, seq), *at, data).await
}

/// Notes proofs of life, many in one statement; at most [`ALIVE_PER_STATEMENT`].
async fn heard(connection: &mut AnyConnection, alive: &[Alive]) -> Result<(), StoreError> {
    // Both engines call the columns of VALUES column1 and column2.
    let statement = format!(
        "UPDATE connections SET alive_at = heard.column2 FROM (VALUES {}) AS heard
         WHERE connection_id = heard.column1 AND heard.column2 > alive_at AND ended_at IS NULL",
        text::rows_of(alive.len(), 2, 1)
    );
    let mut query = sqlx::query(sqlx::AssertSqlSafe(statement)).persistent(false);
    for one in alive {
        query = query.bind(&*one.connection).bind(int(one.at));
    }
    query.execute(&mut *connection).await?;
    Ok(())
}

async fn chat(connection: &mut AnyConnection, fact: &Fact) -> Result<(), StoreError> {
    let Fact::Chat { meeting, id, user, name, message, at } = fact else { return Ok(()) };
    sqlx::query(
        "INSERT INTO chat_messages (message_id, session_id, meeting_id, user_id, user_name, message, sent_at)
         VALUES ($1, COALESCE((SELECT session_id FROM meetings WHERE meeting_id = $2), ''), $2, $3, $4, $5, $6)
         ON CONFLICT (message_id) DO NOTHING",
    )
    .bind(&**id)
    .bind(&**meeting)
    .bind(&**user)
    .bind(&**name)
    .bind(&**message)
    .bind(int(*at))
    .execute(&mut *connection)
    .await?;
    Ok(())
}

async fn removed(connection: &mut AnyConnection, fact: &Fact) -> Result<(), StoreError> {
    let Fact::Removed { session, meeting, user, token, expires_ms, at } = fact else { return Ok(()) };
    // A user may be removed twice with different tokens: each stays void.
    sqlx::query(
        "INSERT INTO revocations (meeting_id, user_id, token_id, session_id, expires_at, created_at) VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (meeting_id, user_id, token_id) DO UPDATE SET expires_at = excluded.expires_at",
    )
    .bind(&**meeting)
    .bind(&**user)
    .bind(token.as_deref().unwrap_or(""))
    .bind(&**session)
    .bind(int(*expires_ms))
    .bind(int(*at))
    .execute(&mut *connection)
    .await?;
    Ok(())
}
