//! The rules of a session as the application writes them, and their way into the lobby of every node.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use signaling::limits::ROOM_SEATS_MAX;
use signaling::{RoomSettings, SameUser};
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;
use utoipa::ToSchema;

use crate::clock;
use crate::config::DAYS_MAX;
use crate::control::Input;
use crate::store::{PAGE_MAX, Room, RoomRetention, Store};

/// How often the store is asked what other nodes were told.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How long the start waits for the first look.
const FIRST_LOOK_MAX: Duration = Duration::from_secs(3);
/// Looked at again each time, ms: clocks of nodes differ, and what is written commits a moment later.
const OVERLAP_MS: u64 = 60_000;
/// Largest `graceMs`: 10 min.
const GRACE_MS_MAX: u64 = 600_000;
/// Largest `metadata`, encoded, in bytes: it goes to each who joins.
const METADATA_BYTES_MAX: usize = 8 * 1024;

/// `PUT /v1/sessions/{id}`. What is left out is as the server's own settings say.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Rules {
    /// Most participants, 1–5000.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 5000)]
    capacity: Option<usize>,
    /// What happens when somebody joins twice: `replace`, `reject` or `allow`.
    #[serde(skip_serializing_if = "Option::is_none")]
    same_user: Option<String>,
    /// How long a dropped connection keeps its seat, ms, at most 600000.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(maximum = 600000)]
    grace_ms: Option<u64>,
    /// Newcomers wait until a moderator admits them.
    #[serde(skip_serializing_if = "Option::is_none")]
    waiting_room: Option<bool>,
    /// Whether there is chat.
    #[serde(skip_serializing_if = "Option::is_none")]
    chat: Option<bool>,
    /// Whether late joiners are shown what was said before.
    #[serde(skip_serializing_if = "Option::is_none")]
    chat_history: Option<bool>,
    /// Whether participants may show their cameras.
    #[serde(skip_serializing_if = "Option::is_none")]
    video: Option<bool>,
    /// Whether participants may share their screens.
    #[serde(skip_serializing_if = "Option::is_none")]
    screen_share: Option<bool>,
    /// Video codecs, of `vp8`, `h264`, `vp9`, `av1`; empty: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    codecs: Option<Vec<String>>,
    /// How long the data of its meetings is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    retention: Option<RoomRetention>,
    /// Whatever clients shall know of the session, at most 8 kB.
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<Value>,
}

impl Rules {
    /// How long its data is kept.
    pub(super) fn kept(&self) -> RoomRetention {
        self.retention.unwrap_or_default()
    }

    /// What the lobby takes; an error is a sentence for whoever wrote them.
    pub(super) fn settings(&self, defaults: &RoomSettings) -> Result<RoomSettings, String> {
        let same_user = match self.same_user.as_deref() {
            None => defaults.same_user,
            Some(word) => SameUser::parse(word)
                .ok_or_else(|| "sameUser must be \"replace\", \"reject\" or \"allow\".".to_owned())?,
        };
        if self.capacity.is_some_and(|capacity| !(1..=ROOM_SEATS_MAX).contains(&capacity)) {
            return Err(format!("capacity must be between 1 and {ROOM_SEATS_MAX}."));
        }
        if self.grace_ms.is_some_and(|grace_ms| grace_ms > GRACE_MS_MAX) {
            return Err(format!("graceMs must be at most {GRACE_MS_MAX}."));
        }
        let codecs = RoomSettings::parse_codecs(self.codecs.as_deref().unwrap_or_default())
            .ok_or_else(|| "codecs must be a list of vp8, h264, vp9 and av1, each once.".to_owned())?;
        let kept = self.kept();
        let days = [kept.chat_days, kept.log_days, kept.meeting_days];
        if days.into_iter().flatten().any(|days| u64::from(days) > DAYS_MAX) {
            return Err(format!("retention must be at most {DAYS_MAX} days each."));
        }
        if self.metadata.as_ref().is_some_and(|metadata| metadata.to_string().len() > METADATA_BYTES_MAX) {
            return Err(format!("metadata must have at most {METADATA_BYTES_MAX} bytes."));
        }
        Ok(RoomSettings {
            capacity: self.capacity.unwrap_or(defaults.capacity),
            same_user,
            grace_ms: self.grace_ms.or(defaults.grace_ms),
            waiting_room: self.waiting_room.unwrap_or(defaults.waiting_room),
            chat: self.chat.unwrap_or(defaults.chat),
            chat_history: self.chat_history.unwrap_or(defaults.chat_history),
            video: self.video.unwrap_or(defaults.video),
            screen_share: self.screen_share.unwrap_or(defaults.screen_share),
            codecs: if codecs.is_empty() { defaults.codecs.clone() } else { codecs },
            metadata: self.metadata.clone().unwrap_or_else(|| defaults.metadata.clone()),
        })
    }
}

/// Tells the lobby what the store knows and it does not: at the start, and whenever another node was told, the rules of sessions and
/// which tokens are withdrawn.
pub(crate) struct Watch {
    store: Store,
    defaults: RoomSettings,
    /// Weak, so that it does not keep control from ending.
    inbox: mpsc::WeakSender<Input>,
    rules_since: u64,
    tokens_since: u64,
}

impl Watch {
    /// Has told nothing yet.
    pub(crate) fn new(store: Store, defaults: RoomSettings, inbox: mpsc::WeakSender<Input>) -> Self {
        Watch { store, defaults, inbox, rules_since: 0, tokens_since: 0 }
    }

    /// Before the first client comes: its session may have a waiting room. Not longer than [`FIRST_LOOK_MAX`].
    pub(crate) async fn first_look(&mut self) {
        if tokio::time::timeout(FIRST_LOOK_MAX, self.look()).await.is_err() {
            tracing::warn!("the database does not answer: the rules of sessions are the server's own until it does");
        }
    }

    /// Looks again and again, until control ends.
    pub(crate) async fn run(mut self) {
        let mut every = tokio::time::interval(LOOK_EVERY);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while self.inbox.upgrade().is_some() {
            every.tick().await;
            self.look().await;
        }
    }

    /// While the store is away, all stays as it is.
    async fn look(&mut self) {
        let (mut since, mut after) = (self.rules_since, String::new());
        while let Ok(rooms) = self.store.rooms_changed(since, &after).await {
            let is_last = rooms.len() < PAGE_MAX;
            for room in rooms {
                (since, after) = (room.updated_at, room.session.clone());
                self.tell(room).await;
            }
            if is_last {
                self.rules_since = self.rules_since.max(since.saturating_sub(OVERLAP_MS));
                break;
            }
        }
        let tokens = self.store.revoked_since(self.tokens_since, clock::now().unix_ms).await.unwrap_or_default();
        for (token, expires_ms, removed_at) in tokens {
            self.tokens_since = self.tokens_since.max(removed_at.saturating_sub(OVERLAP_MS));
            self.send(Input::Revoked { token: token.into(), expires_ms }).await;
        }
    }

    async fn tell(&self, room: Room) {
        let settings = match room.settings.as_deref().map(|text| self.read(text)) {
            None => None,
            Some(Ok(settings)) => Some(Box::new(settings)),
            Some(Err(why)) => {
                // Another version wrote them: better the rules that are known than none.
                tracing::warn!(session = room.session, why, "the rules of a session cannot be read");
                return;
            }
        };
        self.send(Input::Settings { session: room.session.into(), settings }).await;
    }

    fn read(&self, text: &str) -> Result<RoomSettings, String> {
        let rules: Rules = serde_json::from_str(text).map_err(|why| why.to_string())?;
        rules.settings(&self.defaults)
    }

    async fn send(&self, input: Input) {
        if let Some(inbox) = self.inbox.upgrade() {
            // Fails only when control is gone.
            let _ = inbox.send(input).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(text: &str) -> Result<RoomSettings, String> {
        let rules: Rules = serde_json::from_str(text).map_err(|why| why.to_string())?;
        rules.settings(&RoomSettings::default())
    }

    #[test]
    fn what_is_left_out_is_the_servers_own() {
        assert_eq!(settings("{}"), Ok(RoomSettings::default()));
        let some = settings(
            r#"{"capacity":3,"sameUser":"reject","video":false,"codecs":["vp8"],"metadata":{"a":1},"new":true}"#,
        );
        let expected = RoomSettings {
            capacity: 3,
            same_user: SameUser::Reject,
            video: false,
            codecs: vec!["vp8".into()],
            metadata: serde_json::json!({ "a": 1 }),
            ..RoomSettings::default()
        };
        assert_eq!(some, Ok(expected));
    }

    #[test]
    fn what_cannot_be_is_said() {
        let long = format!(r#"{{"metadata":"{}"}}"#, "x".repeat(METADATA_BYTES_MAX));
        for bad in [
            r#"{"capacity":0}"#,
            r#"{"capacity":5001}"#,
            r#"{"capacity":-1}"#,
            r#"{"sameUser":"both"}"#,
            r#"{"graceMs":600001}"#,
            r#"{"retention":{"chatDays":36501}}"#,
            r#"{"retention":{"logDays":-1}}"#,
            r#"{"codecs":["mpeg2"]}"#,
            r#"{"codecs":["vp8","vp8","vp8","vp8","vp8"]}"#,
            &long,
        ] {
            assert!(settings(bad).is_err(), "{bad}");
        }
    }
}
