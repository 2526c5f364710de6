//! A person is forgotten: minutes stay, who they were does not.

use serde_json::Value;
use signaling::attendance::Summary;
use sqlx::{AnyConnection, Row as _};

use super::{Store, StoreError, in_time, meeting, unreadable};

/// The name of everybody who was erased.
pub(crate) const ERASED_NAME: &str = "(erased)";
/// Events without a meeting that one transaction looks through.
const EVENTS_PER_TURN: i64 = 500;

/// What an erasure did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Erased {
    /// Who it is from now on: new each time, so that two erasures cannot be joined.
    pub(crate) pseudonym: String,
    /// In how many meetings it was replaced.
    pub(crate) meetings: u64,
    /// In how many meetings it is that still run. Nothing is changed there, so that it does not count as two people: erase again
    /// after their end.
    pub(crate) running: u64,
    /// How many chat messages were deleted.
    pub(crate) messages: u64,
}

/// One person becomes another.
struct Change<'a> {
    user: &'a str,
    pseudonym: &'a str,
}

impl Store {
    /// Puts a pseudonym in the place of a user: connections, log, summaries (whose version rises), attendance, visits and the bodies of
    /// events, delivered or not. Its chat messages and its places on rosters are deleted. What was sent is sent. Meeting by
    /// meeting, so it can be run again after it was interrupted.
    pub(crate) async fn erase(&self, user: &str, now_ms: u64) -> Result<Erased, StoreError> {
        let mut erased = Erased { pseudonym: format!("erased_{:032x}", rand::random::<u128>()), ..Erased::default() };
        let pseudonym = erased.pseudonym.clone();
        let change = Change { user, pseudonym: &pseudonym };
        for meeting in self.meetings_of(user).await? {
            if in_time(self.erase_in(&change, &meeting, now_ms)).await? {
                erased.meetings += 1;
            } else {
                erased.running += 1;
            }
        }
        erased.messages = in_time(self.erase_elsewhere(&change, now_ms)).await?;
        self.erase_events(&change).await?;
        Ok(erased)
    }

    async fn meetings_of(&self, user: &str) -> Result<Vec<String>, StoreError> {
        in_time(async {
            let rows = sqlx::query("SELECT meeting_id FROM connections WHERE user_id = $1 UNION SELECT meeting_id FROM attendance WHERE user_id = $1")
                .bind(user)
                .fetch_all(self.read().await?)
                .await?;
            rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
        })
        .await
    }

    /// `false` if the meeting still runs.
    async fn erase_in(&self, change: &Change<'_>, meeting: &str, now_ms: u64) -> Result<bool, StoreError> {
        let mut tx = self.write().await?;
        // Whoever applies facts of this meeting waits.
        let ended =
            sqlx::query("UPDATE meetings SET last_seq = last_seq WHERE meeting_id = $1 AND ended_at IS NOT NULL")
                .bind(meeting)
                .execute(&mut *tx)
                .await?;
        if ended.rows_affected() == 0 {
            return Ok(false);
        }
        change.log(&mut tx, meeting).await?;
        sqlx::query("UPDATE connections SET user_id = $3, user_name = $4 WHERE meeting_id = $1 AND user_id = $2")
            .bind(meeting)
            .bind(change.user)
            .bind(change.pseudonym)
            .bind(ERASED_NAME)
            .execute(&mut *tx)
            .await?;
        change.summary(&mut tx, meeting, now_ms).await?;
        let events = sqlx::query("SELECT event_id, body FROM outbox WHERE meeting_id = $1")
            .bind(meeting)
            .fetch_all(&mut *tx)
            .await?;
        for row in &events {
            change.event(&mut tx, row.try_get(0)?, row.try_get(1)?).await?;
        }
        tx.commit().await?;
        Ok(true)
    }

    /// What belongs to no meeting, or to chat. Gives how many messages there were.
    async fn erase_elsewhere(&self, change: &Change<'_>, now_ms: u64) -> Result<u64, StoreError> {
        let mut tx = self.write().await?;
        let chat =
            sqlx::query("DELETE FROM chat_messages WHERE user_id = $1").bind(change.user).execute(&mut *tx).await?;
        sqlx::query(
            "UPDATE rooms SET updated_at = $2 WHERE session_id IN (SELECT session_id FROM rosters WHERE user_id = $1)",
        )
        .bind(change.user)
        .bind(super::int(now_ms))
        .execute(&mut *tx)
        .await?;
        sqlx::query("DELETE FROM rosters WHERE user_id = $1").bind(change.user).execute(&mut *tx).await?;
        // A token stays void; whoever was removed from a meeting that runs stays out.
        sqlx::query("UPDATE revocations SET user_id = $2 WHERE user_id = $1 AND meeting_id NOT IN (SELECT meeting_id FROM meetings WHERE ended_at IS NULL)")
            .bind(change.user)
            .bind(change.pseudonym)
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(chat.rows_affected())
    }

    /// Events without a meeting, a few at a time.
    async fn erase_events(&self, change: &Change<'_>) -> Result<(), StoreError> {
        let mut after = String::new();
        loop {
            let last = in_time(async {
                let mut tx = self.write().await?;
                let rows = sqlx::query("SELECT event_id, body FROM outbox WHERE meeting_id IS NULL AND event_id > $1 ORDER BY event_id LIMIT $2")
                    .bind(&*after)
                    .bind(EVENTS_PER_TURN)
                    .fetch_all(&mut *tx)
                    .await?;
                for row in &rows {
                    change.event(&mut tx, row.try_get(0)?, row.try_get(1)?).await?;
                }
                tx.commit().await?;
                rows.last().map(|row| Ok::<_, StoreError>(row.try_get::<String, _>(0)?)).transpose()
            })
            .await?;
            match last {
                Some(last) => after = last,
                None => return Ok(()),
            }
        }
    }
}

impl Change<'_> {
    async fn log(&self, connection: &mut AnyConnection, meeting: &str) -> Result<(), StoreError> {
        let rows = sqlx::query(
            "SELECT seq, fact FROM connection_log WHERE meeting_id = $1 AND kind IN ('joined', 'changed')
               AND connection_id IN (SELECT connection_id FROM connections WHERE meeting_id = $1 AND user_id = $2)",
        )
        .bind(meeting)
        .bind(self.user)
        .fetch_all(&mut *connection)
        .await?;
        for row in rows {
            let (seq, fact): (i64, String) = (row.try_get(0)?, row.try_get(1)?);
            let mut fact: Value = serde_json::from_str(&fact).map_err(|why| unreadable("a fact", &why))?;
            if fact.get("user").is_some() {
                fact["user"] = self.pseudonym.into();
            }
            fact["name"] = ERASED_NAME.into();
            sqlx::query("UPDATE connection_log SET fact = $3, user_id = CASE WHEN user_id IS NULL THEN NULL ELSE $4 END WHERE meeting_id = $1 AND seq = $2")
                .bind(meeting)
                .bind(seq)
                .bind(fact.to_string())
                .bind(self.pseudonym)
                .execute(&mut *connection)
                .await?;
        }
        Ok(())
    }

    /// The next version of the summary, without the person; older ones go.
    async fn summary(&self, connection: &mut AnyConnection, meeting: &str, now_ms: u64) -> Result<(), StoreError> {
        let row = sqlx::query("SELECT body FROM summaries WHERE meeting_id = $1 ORDER BY version DESC LIMIT 1")
            .bind(meeting)
            .fetch_optional(&mut *connection)
            .await?;
        let Some(row) = row else { return Ok(()) };
        let mut summary: Summary =
            serde_json::from_str(row.try_get::<&str, _>(0)?).map_err(|why| unreadable("a summary", &why))?;
        for person in summary.participants.iter_mut().filter(|person| &*person.user_id == self.user) {
            person.user_id = self.pseudonym.into();
            person.user_name = ERASED_NAME.into();
        }
        summary.participants.sort_by(|a, b| (a.first_join_at, &a.user_id).cmp(&(b.first_join_at, &b.user_id)));
        summary.version = summary.version.saturating_add(1);
        sqlx::query("DELETE FROM summaries WHERE meeting_id = $1").bind(meeting).execute(&mut *connection).await?;
        meeting::write(connection, &summary, now_ms).await
    }

    async fn event(&self, connection: &mut AnyConnection, id: &str, body: &str) -> Result<(), StoreError> {
        let mut value: Value = serde_json::from_str(body).map_err(|why| unreadable("an event", &why))?;
        if self.replace(&mut value) {
            // The order of the keys is that of a sorted map from now on: receivers parse.
            sqlx::query("UPDATE outbox SET body = $2 WHERE event_id = $1")
                .bind(id)
                .bind(value.to_string())
                .execute(&mut *connection)
                .await?;
        }
        Ok(())
    }

    /// Replaces the person in each object that names it by `userId`, and says whether there was one.
    fn replace(&self, value: &mut Value) -> bool {
        match value {
            Value::Array(items) => items.iter_mut().fold(false, |changed, item| self.replace(item) | changed),
            Value::Object(fields) => {
                let named = fields.get("userId").and_then(Value::as_str) == Some(self.user);
                if named {
                    fields.insert("userId".to_owned(), self.pseudonym.into());
                    if let Some(name) = fields.get_mut("userName") {
                        *name = ERASED_NAME.into();
                    }
                }
                fields.values_mut().fold(named, |changed, item| self.replace(item) | changed)
            }
            _ => false,
        }
    }
}
