//! Facts in few words, all of one meeting.

use std::sync::Arc;

use signaling::{Alive, Fact, Reason, Role};

pub(crate) const GRACE_MS: u64 = 20_000;

pub(crate) fn started(at: u64) -> Fact {
    Fact::MeetingStarted { meeting: "m".into(), session: "s".into(), at, grace_ms: GRACE_MS }
}

/// A connection of a seat `p-<user>`.
pub(crate) fn joined(connection: &str, user: &str, at: u64) -> Fact {
    seated(connection, &format!("p-{user}"), user, at)
}

pub(crate) fn seated(connection: &str, participant: &str, user: &str, at: u64) -> Fact {
    Fact::Joined {
        meeting: "m".into(),
        connection: connection.into(),
        participant: participant.into(),
        user: user.into(),
        name: user.to_uppercase().into(),
        role: Role::Participant,
        at,
        resumes: None,
    }
}

pub(crate) fn resumed(connection: &str, user: &str, former: &str, at: u64) -> Fact {
    let mut fact = joined(connection, user, at);
    if let Fact::Joined { resumes, .. } = &mut fact {
        *resumes = Some(former.into());
    }
    fact
}

pub(crate) fn left(connection: &str, at: u64, reason: Reason) -> Fact {
    Fact::Left { meeting: "m".into(), connection: connection.into(), at, reason, uncertainty_ms: 0 }
}

pub(crate) fn crashed(connection: &str, at: u64, uncertainty_ms: u64) -> Fact {
    let (meeting, connection) = ("m".into(), connection.into());
    Fact::Left { meeting, connection, at, reason: Reason::Crashed, uncertainty_ms }
}

pub(crate) fn changed(connection: &str, name: &str, role: Role, at: u64) -> Fact {
    Fact::Changed { meeting: "m".into(), connection: connection.into(), name: name.into(), role, at }
}

pub(crate) fn track(connection: &str, track: &str, source: &str, on: bool, muted: bool, at: u64) -> Fact {
    let (meeting, connection): (Arc<str>, Arc<str>) = ("m".into(), connection.into());
    Fact::Track { meeting, connection, track: track.into(), source: source.into(), on, muted, at }
}

pub(crate) fn beat(alive: &[(&str, u64)], at: u64) -> Fact {
    let alive = alive.iter().map(|(connection, speaking_ms)| Alive {
        connection: (*connection).into(),
        at,
        speaking_ms: *speaking_ms,
    });
    Fact::Activity { meeting: "m".into(), alive: alive.collect(), at }
}

pub(crate) fn ended(at: u64) -> Fact {
    Fact::MeetingEnded { meeting: "m".into(), at }
}

/// The same with `seq` from 1.
pub(crate) fn numbered(log: &[Fact]) -> Vec<(u64, Fact)> {
    (1..).zip(log.iter().cloned()).collect()
}
