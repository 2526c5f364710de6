//! Who is late or absent: a session's roster and its time against who came.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::json;
use signaling::Role;
use sqlx::Row as _;

use super::event::{Event, emit};
use super::rooms::Expected;
use super::{Store, StoreError, in_time, int, nat, text};

/// Who was there so long before the start, or later, is there for it, ms.
const EARLY_MS: u64 = 60 * 60 * 1_000;
/// So long after the start late comers are looked for, ms: later it is another lesson.
const WATCHED_MS: u64 = 6 * 60 * 60 * 1_000;
/// Schedules that one look takes up, of those that began last; earlier ones had their looks before.
const SCHEDULES_MAX: i64 = 5_000;

/// When a session begins, and when somebody is late for it. Times after the start in ms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Schedule {
    /// Unix ms.
    pub(crate) starts_at: u64,
    /// Who comes later than this is `participant.late`.
    #[serde(default = "late")]
    pub(crate) late_after_ms: u64,
    /// Who is not there by then is `participant.absent`.
    #[serde(default = "absent")]
    pub(crate) absent_after_ms: u64,
    /// If no instructor is there by then, `host.absent`.
    #[serde(default = "late")]
    pub(crate) host_absent_after_ms: u64,
}

fn late() -> u64 {
    5 * 60 * 1_000
}

fn absent() -> u64 {
    15 * 60 * 1_000
}

/// Somebody who came: when first, and as what.
struct Came {
    at: u64,
    is_instructor: bool,
}

impl Store {
    /// Keeps when a session begins; `None`: nobody is late for it.
    pub(crate) async fn put_schedule(&self, session: &str, schedule: Option<&Schedule>) -> Result<(), StoreError> {
        in_time(async {
            let mut tx = self.write().await?;
            let session = text::clean(session);
            sqlx::query("DELETE FROM schedules WHERE session_id = $1").bind(&*session).execute(&mut *tx).await?;
            if let Some(it) = schedule {
                sqlx::query(
                    "INSERT INTO schedules (session_id, starts_at, late_after_ms, absent_after_ms, host_absent_after_ms)
                     VALUES ($1, $2, $3, $4, $5)",
                )
                .bind(&*session)
                .bind(int(it.starts_at))
                .bind(int(it.late_after_ms))
                .bind(int(it.absent_after_ms))
                .bind(int(it.host_absent_after_ms))
                .execute(&mut *tx)
                .await?;
            }
            Ok(tx.commit().await?)
        })
        .await
    }

    /// When a session begins, if that was said.
    pub(crate) async fn schedule(&self, session: &str) -> Result<Option<Schedule>, StoreError> {
        in_time(async {
            let row = sqlx::query(
                "SELECT session_id, starts_at, late_after_ms, absent_after_ms, host_absent_after_ms FROM schedules WHERE session_id = $1",
            )
            .bind(session)
            .fetch_optional(self.read().await?)
            .await?;
            row.as_ref().map(|row| Ok(read(row)?.1)).transpose()
        })
        .await
    }

    /// Tells of who is late or absent at `now_ms`, each once. Gives how many were looked at.
    pub(crate) async fn look_for_absent(&self, now_ms: u64) -> Result<usize, StoreError> {
        let due = in_time(async {
            let rows = sqlx::query(
                "SELECT session_id, starts_at, late_after_ms, absent_after_ms, host_absent_after_ms FROM schedules
                 WHERE starts_at <= $1 AND starts_at > $2 ORDER BY starts_at DESC LIMIT $3",
            )
            .bind(int(now_ms))
            .bind(int(now_ms.saturating_sub(WATCHED_MS)))
            .bind(SCHEDULES_MAX)
            .fetch_all(self.read().await?)
            .await?;
            rows.iter().map(read).collect::<Result<Vec<_>, StoreError>>()
        })
        .await?;
        for (session, schedule) in &due {
            let expected = self.roster(session).await?;
            let came = self.who_came(session, schedule).await?;
            let events = events(session, schedule, &expected, &came, now_ms);
            if events.is_empty() {
                continue;
            }
            in_time(async {
                let mut tx = self.write().await?;
                for event in &events {
                    emit(&mut tx, event, now_ms).await?;
                }
                Ok(tx.commit().await?)
            })
            .await?;
        }
        Ok(due.len())
    }

    async fn who_came(&self, session: &str, schedule: &Schedule) -> Result<BTreeMap<String, Came>, StoreError> {
        in_time(async {
            let rows = sqlx::query(
                "SELECT c.user_id, MIN(c.started_at), MAX(CASE WHEN c.role = 'instructor' THEN 1 ELSE 0 END)
                 FROM connections AS c JOIN meetings AS m ON m.meeting_id = c.meeting_id
                 WHERE m.session_id = $1 AND c.started_at >= $2 AND c.started_at < $3 AND (c.ended_at IS NULL OR c.ended_at >= $4)
                 GROUP BY c.user_id",
            )
            .bind(session)
            .bind(int(schedule.starts_at.saturating_sub(EARLY_MS)))
            .bind(int(schedule.starts_at + WATCHED_MS))
            .bind(int(schedule.starts_at))
            .fetch_all(self.read().await?)
            .await?;
            rows.iter()
                .map(|row| {
                    let is_instructor = row.try_get::<i64, _>(2)? == 1;
                    Ok((row.try_get(0)?, Came { at: nat(row.try_get(1)?), is_instructor }))
                })
                .collect()
        })
        .await
    }
}

fn read(row: &sqlx::any::AnyRow) -> Result<(String, Schedule), StoreError> {
    let ms = |column| row.try_get::<i64, _>(column).map(nat);
    let schedule =
        Schedule { starts_at: ms(1)?, late_after_ms: ms(2)?, absent_after_ms: ms(3)?, host_absent_after_ms: ms(4)? };
    Ok((row.try_get(0)?, schedule))
}

/// What is due at `now_ms`. The same again gives the same events, of which each is written once.
fn events<'a>(
    session: &'a str,
    schedule: &Schedule,
    expected: &[Expected],
    came: &BTreeMap<String, Came>,
    now_ms: u64,
) -> Vec<Event<'a>> {
    let starts_at = schedule.starts_at;
    let event = |kind: &'static str, who: &str, at: u64, data| Event {
        kind,
        key: format!("{kind} {starts_at} {session} {who}"),
        session,
        meeting: None,
        at,
        seq: None,
        data,
    };
    let mut events = Vec::new();
    for person in expected {
        let who = json!({ "sessionId": session, "userId": person.user_id, "userName": person.user_name, "role": person.role, "startsAt": starts_at });
        let absent_at = starts_at + schedule.absent_after_ms;
        match came.get(&person.user_id) {
            Some(it) if it.at > starts_at + schedule.late_after_ms => {
                let mut data = who;
                data["joinedAt"] = json!(it.at);
                data["lateMs"] = json!(it.at - starts_at);
                events.push(event("participant.late", &person.user_id, it.at, data));
            }
            None if now_ms >= absent_at => events.push(event("participant.absent", &person.user_id, absent_at, who)),
            _ => {}
        }
    }
    let host_at = starts_at + schedule.host_absent_after_ms;
    let is_host = |user: &str, it: &Came| {
        it.at <= host_at
            && (it.is_instructor || expected.iter().any(|e| e.user_id == user && e.role == Role::Instructor))
    };
    if now_ms >= host_at && !came.iter().any(|(user, it)| is_host(user, it)) {
        events.push(event("host.absent", "", host_at, json!({ "sessionId": session, "startsAt": starts_at })));
    }
    events
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: u64 = 1_800_000_000_000;
    const MIN: u64 = 60_000;

    fn expected(user: &str, role: Role) -> Expected {
        Expected { user_id: user.to_owned(), user_name: None, role }
    }

    fn kinds(came: &[(&str, u64, bool)], now_ms: u64) -> Vec<String> {
        let schedule = Schedule {
            starts_at: START,
            late_after_ms: late(),
            absent_after_ms: absent(),
            host_absent_after_ms: late(),
        };
        let roster = [
            expected("ada", Role::Instructor),
            expected("bob", Role::Participant),
            expected("cleo", Role::Participant),
        ];
        let came = came
            .iter()
            .map(|(user, at, is_instructor)| ((*user).to_owned(), Came { at: *at, is_instructor: *is_instructor }));
        let events = events("algebra", &schedule, &roster, &came.collect(), now_ms);
        events.iter().map(|e| format!("{} {}", e.kind, e.data["userId"].as_str().unwrap_or("-"))).collect()
    }

    #[test]
    fn nobody_is_late_before_it_is_late() {
        assert_eq!(kinds(&[], START), Vec::<String>::new());
        assert_eq!(
            kinds(&[("ada", START - MIN, true), ("bob", START + 5 * MIN, false)], START + 14 * MIN),
            Vec::<String>::new()
        );
    }

    #[test]
    fn who_comes_late_or_not_at_all_is_told_of() {
        let came = [("ada", START, true), ("bob", START + 6 * MIN, false)];
        assert_eq!(kinds(&came, START + 20 * MIN), ["participant.late bob", "participant.absent cleo"]);
    }

    #[test]
    fn a_class_without_its_host_is_told_of_even_if_the_host_comes_later() {
        let came = [("ada", START + 7 * MIN, true), ("bob", START, false), ("cleo", START, false)];
        assert_eq!(kinds(&came, START + 8 * MIN), ["participant.late ada", "host.absent -"]);
        let stand_in = [("dora", START, true), ("bob", START, false), ("cleo", START, false)];
        assert_eq!(kinds(&stand_in, START + 8 * MIN), Vec::<String>::new(), "another instructor will do");
    }
}
