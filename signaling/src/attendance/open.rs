//! What is open: enough to go on after a restart, and to close what a crash left.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::access::Role;
use crate::fact::{Alive, Fact, Reason};
use crate::limits::{CRASH_ERROR_MAX, HEARTBEAT_EVERY, KNOWN_MAX};

/// Removals of one meeting that are remembered, newest kept: whoever else was removed is kept out by the store's word alone.
pub const REMOVED_MAX: usize = 10_000;
const CRASH_ERROR_MS: u64 = CRASH_ERROR_MAX.as_millis() as u64;
const HEARTBEAT_MS: u64 = HEARTBEAT_EVERY.as_millis() as u64;

/// What the facts of a node leave open. The journal keeps it beside them, so that a restart needs no database.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Open {
    /// Meetings that have not ended, by id.
    pub meetings: BTreeMap<Arc<str>, OpenMeeting>,
}

/// A meeting that has not ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OpenMeeting {
    /// The room.
    pub session: Arc<str>,
    /// The time of its last fact, Unix ms: later ones must not be before it.
    pub last_at: u64,
    /// When the last of its connections ended (it began, if there was none yet), Unix ms; `None` while one is open.
    pub empty_since: Option<u64>,
    /// The latest end of a connection so far, Unix ms: one that ended last may have been written down first.
    #[serde(default)]
    pub last_end: u64,
    /// Connections that have not ended, by id.
    pub connections: BTreeMap<Arc<str>, OpenConnection>,
    /// Who was removed, with the id and expiry of the token if it has one; at most [`REMOVED_MAX`].
    pub removed: Vec<(Arc<str>, Option<Arc<str>>, u64)>,
    /// Nobody new gets in.
    #[serde(default)]
    pub locked: bool,
    /// Who is or was there, who gets in again wherever newcomers do not, with the role that a moderator gave; at most [`KNOWN_MAX`],
    /// of which those who were given one stay.
    #[serde(default)]
    pub known: BTreeMap<Arc<str>, Option<Role>>,
}

/// A connection that has not ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OpenConnection {
    /// The seat.
    pub participant: Arc<str>,
    /// Who.
    pub user: Arc<str>,
    /// As what.
    pub role: Role,
    /// Its last proof of life, Unix ms.
    pub alive_at: u64,
}

impl Open {
    /// Takes the next fact. One that fits nothing open changes nothing.
    pub fn apply(&mut self, fact: &Fact) {
        let meeting = match fact {
            Fact::MeetingStarted { meeting, session, at, .. } => {
                let began = || OpenMeeting {
                    session: session.clone(),
                    last_at: *at,
                    empty_since: Some(*at),
                    last_end: 0,
                    connections: BTreeMap::new(),
                    removed: Vec::new(),
                    locked: false,
                    known: BTreeMap::new(),
                };
                self.meetings.entry(meeting.clone()).or_insert_with(began);
                return;
            }
            Fact::MeetingEnded { meeting, .. } => {
                self.meetings.remove(meeting);
                return;
            }
            Fact::Chat { meeting, .. }
            | Fact::Locked { meeting, .. }
            | Fact::Promoted { meeting, .. }
            | Fact::Removed { meeting, .. } => Some(meeting),
            other => other.meeting(),
        };
        if let Some(meeting) = meeting.and_then(|id| self.meetings.get_mut(id)) {
            meeting.apply(fact);
        }
    }

    /// What closes all connections after a crash, each at its last proof of life: [`crate::Reason::Crashed`], with what is
    /// not known of its end: [`CRASH_ERROR_MAX`], or more if it had been silent for longer when the server was last heard of. In the
    /// order of the ids of meetings, and of connections in them.
    pub fn crashed(&self) -> Vec<Fact> {
        let all = self.meetings.iter().flat_map(|(id, m)| m.connections.iter().map(move |(c, open)| (id, m, c, open)));
        let left = |(id, meeting, connection, open): (&Arc<str>, &OpenMeeting, &Arc<str>, &OpenConnection)| {
            let silence_ms = meeting.last_at.saturating_sub(open.alive_at);
            Fact::Left {
                meeting: id.clone(),
                connection: connection.clone(),
                at: open.alive_at,
                reason: Reason::Crashed,
                uncertainty_ms: silence_ms.saturating_add(HEARTBEAT_MS).max(CRASH_ERROR_MS),
            }
        };
        all.map(left).collect()
    }
}

impl OpenMeeting {
    fn apply(&mut self, fact: &Fact) {
        self.last_at = self.last_at.max(fact.at());
        match fact {
            Fact::Joined { connection, participant, user, role, at, .. } => {
                let began = || OpenConnection {
                    participant: participant.clone(),
                    user: user.clone(),
                    role: *role,
                    alive_at: *at,
                };
                self.connections.entry(connection.clone()).or_insert_with(began);
                self.empty_since = None;
                self.know(user, None);
            }
            Fact::Left { connection, at, .. } => self.left(connection, *at),
            Fact::Changed { connection, role, .. } => {
                if let Some(open) = self.connections.get_mut(connection) {
                    open.role = *role;
                }
            }
            Fact::Activity { alive, .. } => {
                for Alive { connection, at, .. } in alive {
                    if let Some(open) = self.connections.get_mut(connection) {
                        open.alive_at = open.alive_at.max(*at);
                    }
                }
            }
            Fact::Locked { locked, .. } => self.locked = *locked,
            Fact::Promoted { user, role, .. } => self.know(user, Some(*role)),
            Fact::Removed { user, token, expires_ms, .. } => self.remove(user, token.as_ref(), *expires_ms),
            _ => {}
        }
    }

    fn know(&mut self, user: &Arc<str>, role: Option<Role>) {
        if self.known.len() >= KNOWN_MAX && !self.known.contains_key(user) {
            let there = |user: &Arc<str>| self.connections.values().any(|c| c.user == *user);
            let mut others = self.known.iter().filter(|(other, role)| role.is_none() && !there(other));
            let Some(least) = others.next().map(|(other, _)| other.clone()) else { return };
            self.known.remove(&least);
        }
        let known = self.known.entry(user.clone()).or_default();
        *known = role.or(*known);
    }

    fn left(&mut self, connection: &str, at: u64) {
        if self.connections.remove(connection).is_some() {
            self.last_end = self.last_end.max(at);
            self.empty_since = self.connections.is_empty().then_some(self.last_end);
        }
    }

    fn remove(&mut self, user: &Arc<str>, token: Option<&Arc<str>>, expires_ms: u64) {
        let again = self.removed.iter_mut().find(|(u, t, _)| u == user && t.as_ref() == token);
        if let Some((_, _, until)) = again {
            *until = (*until).max(expires_ms);
            return;
        }
        if self.removed.len() >= REMOVED_MAX {
            self.removed.remove(0);
        }
        self.removed.push((user.clone(), token.cloned(), expires_ms));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn started(at: u64) -> Fact {
        Fact::MeetingStarted { meeting: "m".into(), session: "s".into(), at, grace_ms: 20_000 }
    }

    fn joined(connection: &str, at: u64) -> Fact {
        Fact::Joined {
            meeting: "m".into(),
            connection: connection.into(),
            participant: "p".into(),
            user: "u".into(),
            name: "U".into(),
            role: Role::Participant,
            at,
            resumes: None,
        }
    }

    fn left(connection: &str, at: u64) -> Fact {
        let (meeting, connection) = ("m".into(), connection.into());
        Fact::Left { meeting, connection, at, reason: Reason::Left, uncertainty_ms: 0 }
    }

    fn beat(connection: &str, at: u64) -> Fact {
        let alive = vec![Alive { connection: connection.into(), at: at - 1, speaking_ms: 0 }];
        Fact::Activity { meeting: "m".into(), alive, at }
    }

    fn removed(user: &str, token: Option<&str>, expires_ms: u64) -> Fact {
        let (session, meeting, user) = ("s".into(), "m".into(), user.into());
        Fact::Removed { session, meeting, user, token: token.map(Arc::from), expires_ms, at: 9 }
    }

    fn open(facts: &[Fact]) -> Open {
        let mut open = Open::default();
        facts.iter().for_each(|fact| open.apply(fact));
        open
    }

    #[test]
    fn a_crash_ends_connections_at_their_last_proof_of_life() {
        let open = open(&[started(100), joined("b", 100), joined("a", 200), beat("a", 1_000), left("b", 1_500)]);
        assert_eq!(open.meetings["m"].last_at, 1_500);
        assert_eq!(open.meetings["m"].empty_since, None);
        let (meeting, connection) = ("m".into(), "a".into());
        let crash = Fact::Left { meeting, connection, at: 999, reason: Reason::Crashed, uncertainty_ms: 15_000 };
        assert_eq!(open.crashed(), std::slice::from_ref(&crash));
        let mut closed = open;
        closed.apply(&crash);
        assert_eq!(closed.crashed(), []);
        assert_eq!(closed.meetings["m"].empty_since, Some(1_500), "the latest end, not the one written last");
        closed.apply(&joined("c", 1_600));
        assert_eq!(closed.meetings["m"].empty_since, None);
    }

    #[test]
    fn a_meeting_is_open_from_its_start_to_its_end() {
        let mut open = open(&[started(5)]);
        assert_eq!(open.meetings["m"].empty_since, Some(5));
        open.apply(&Fact::MeetingEnded { meeting: "m".into(), at: 5 });
        assert_eq!(open, Open::default());
    }

    #[test]
    fn what_fits_nothing_changes_nothing() {
        let mut open = open(&[joined("a", 1), left("a", 1), beat("a", 3), removed("u", None, 1)]);
        assert_eq!(open, Open::default());
        open.apply(&started(10));
        open.apply(&joined("a", 20));
        let before = open.meetings["m"].connections.clone();
        for fact in [started(30), joined("a", 40), left("b", 50), beat("b", 60)] {
            open.apply(&fact);
        }
        assert_eq!(open.meetings["m"].connections, before);
        assert_eq!(open.meetings["m"].empty_since, None);
    }

    #[test]
    fn the_removed_are_remembered_once_for_each_token() {
        let mut open =
            open(&[started(1), removed("u", None, 5), removed("u", Some("t"), 5), removed("u", Some("t"), 9)]);
        let expected = [("u".into(), None, 5), ("u".into(), Some("t".into()), 9)];
        assert_eq!(open.meetings["m"].removed, expected);
        for n in 0..REMOVED_MAX {
            open.apply(&removed(&format!("v{n}"), None, 1));
        }
        assert_eq!(open.meetings["m"].removed.len(), REMOVED_MAX);
        assert_eq!(&*open.meetings["m"].removed[0].0, "v0");
    }

    #[test]
    fn what_an_older_version_wrote_is_read() {
        let old = r#"{"meetings":{"m":{"session":"s","last_at":2,"empty_since":null,"connections":
            {"a":{"participant":"p","user":"u","role":"participant","alive_at":2}},"removed":[]}}}"#;
        let old: Open = serde_json::from_str(old).unwrap();
        let mut now = open(&[started(1), joined("a", 2)]);
        now.meetings.get_mut("m").unwrap().known.clear();
        assert_eq!(old, now);
    }

    #[test]
    fn who_was_there_is_known_up_to_a_bound_and_the_promoted_stay() {
        let promoted = Fact::Promoted { meeting: "m".into(), user: "boss".into(), role: Role::Instructor, at: 2 };
        let locked = |locked| Fact::Locked { meeting: "m".into(), locked, at: 2 };
        let mut open = open(&[started(1), promoted, locked(true)]);
        for n in 0..=KNOWN_MAX {
            let mut fact = joined(&format!("c{n}"), 3);
            if let Fact::Joined { user, .. } = &mut fact {
                *user = format!("u{n}").into();
            }
            open.apply(&fact);
            open.apply(&left(&format!("c{n}"), 4));
        }
        let meeting = &open.meetings["m"];
        assert_eq!((meeting.known.len(), meeting.known["boss"]), (KNOWN_MAX, Some(Role::Instructor)));
        assert!(meeting.locked && meeting.known.contains_key(&*format!("u{KNOWN_MAX}")));
        open.apply(&locked(false));
        assert!(!open.meetings["m"].locked);
    }

    #[test]
    fn it_is_the_same_after_being_written_down() {
        let open = open(&[started(1), joined("a", 2), removed("u", Some("t"), 5)]);
        let text = serde_json::to_string(&open).unwrap();
        assert_eq!(serde_json::from_str::<Open>(&text).unwrap(), open);
    }
}
