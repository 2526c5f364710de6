//! Facts: what the lobby lets history know. They go to the journal first, in order, and from there to the store.
//!
//! Times are server times, Unix ms. Within a meeting they come from the monotonic clock, anchored to the wall clock when the meeting
//! begins (or is taken over after a restart, never before what was said last), so that no step of the wall clock changes
//! a duration or the order.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::access::Role;

/// Numbers the facts of a boot: 1, 2, 3 and so on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FactId(pub u64);

/// Why a connection ended: one list everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reason {
    /// By its own wish.
    Left,
    /// It vanished, and its grace time passed or another connection took its seat up; or the server was stopped.
    Disconnected,
    /// A newer connection of the same user took the seat.
    Replaced,
    /// A moderator removed it.
    Removed,
    /// The meeting was ended for all.
    Ended,
    /// The server ended without saying so.
    Crashed,
}

impl Reason {
    /// The word on the wire and in the store.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Left => "left",
            Reason::Disconnected => "disconnected",
            Reason::Replaced => "replaced",
            Reason::Removed => "removed",
            Reason::Ended => "ended",
            Reason::Crashed => "crashed",
        }
    }
}

/// One connection's proof of life, and what it did since the last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alive {
    /// Whose.
    pub connection: Arc<str>,
    /// Its last proof of life.
    pub at: u64,
    /// How long it spoke since the last heartbeat, by the audio levels that it claims, ms.
    pub speaking_ms: u64,
}

/// What happened. Each but the last belongs to one meeting; the four before it stand in no log of attendance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Fact {
    /// A meeting begins: the first of its facts.
    MeetingStarted {
        /// Its id, `mtg_…`.
        meeting: Arc<str>,
        /// The room.
        session: Arc<str>,
        /// When.
        at: u64,
        /// The room's grace time, which says how long a gap within a visit may be.
        grace_ms: u64,
    },
    /// A connection begins: a new seat, or (`resumes`) one that goes on after its last connection ended.
    Joined {
        /// Where.
        meeting: Arc<str>,
        /// Its id, `c_…`.
        connection: Arc<str>,
        /// The seat, `p_…`.
        participant: Arc<str>,
        /// Who.
        user: Arc<str>,
        /// By what name.
        name: Arc<str>,
        /// As what.
        role: Role,
        /// When.
        at: u64,
        /// The seat's last connection, if this goes on from one.
        resumes: Option<Arc<str>>,
    },
    /// A connection ended.
    Left {
        /// Where.
        meeting: Arc<str>,
        /// Which.
        connection: Arc<str>,
        /// Its last proof of life. Of one who was there when it left by its own wish, was removed, or the meeting was ended: then.
        at: u64,
        /// Why.
        reason: Reason,
        /// By how much the true end may be later than `at`, ms; 0 when it is known.
        uncertainty_ms: u64,
    },
    /// A participant's role or name changed.
    Changed {
        /// Where.
        meeting: Arc<str>,
        /// Whose.
        connection: Arc<str>,
        /// By what name from now on.
        name: Arc<str>,
        /// As what from now on.
        role: Role,
        /// When.
        at: u64,
    },
    /// A connection's media came up or went down.
    Media {
        /// Where.
        meeting: Arc<str>,
        /// Whose.
        connection: Arc<str>,
        /// Whether it is up.
        up: bool,
        /// When.
        at: u64,
    },
    /// A track is published, changed or unpublished.
    Track {
        /// Where.
        meeting: Arc<str>,
        /// By whom.
        connection: Arc<str>,
        /// Which.
        track: Arc<str>,
        /// `camera`, `microphone`, `screen` or `screen-audio`.
        source: Arc<str>,
        /// Whether it is published.
        on: bool,
        /// Whether it is muted.
        muted: bool,
        /// When.
        at: u64,
    },
    /// The heartbeat: every [`crate::limits::HEARTBEAT_EVERY`] for each meeting where anything is new, or somebody has been silent for
    /// longer than [`crate::limits::PING_EVERY`]; also right before the end of a connection that spoke since.
    Activity {
        /// Where.
        meeting: Arc<str>,
        /// Of its connections, those that gave a new proof of life.
        alive: Vec<Alive>,
        /// When.
        at: u64,
    },
    /// A meeting is over: the last of its facts.
    MeetingEnded {
        /// Which.
        meeting: Arc<str>,
        /// When its last connection ended.
        at: u64,
    },
    /// A chat message.
    Chat {
        /// Where.
        meeting: Arc<str>,
        /// Its id, `msg_…`.
        id: Arc<str>,
        /// Whose.
        user: Arc<str>,
        /// By what name.
        name: Arc<str>,
        /// What.
        message: Arc<str>,
        /// When.
        at: u64,
    },
    /// A room was locked, or unlocked.
    Locked {
        /// The meeting.
        meeting: Arc<str>,
        /// Nobody new gets in.
        locked: bool,
        /// When.
        at: u64,
    },
    /// Somebody was given a role until the meeting ends, whatever token comes.
    Promoted {
        /// The meeting.
        meeting: Arc<str>,
        /// Who.
        user: Arc<str>,
        /// What it is from now on.
        role: Role,
        /// When.
        at: u64,
    },
    /// Somebody was removed, and stays out of the meeting whatever token comes.
    Removed {
        /// The room.
        session: Arc<str>,
        /// The meeting.
        meeting: Arc<str>,
        /// Who.
        user: Arc<str>,
        /// The token that is revoked, if it has an id.
        token: Option<Arc<str>>,
        /// Until when the token would have been good, Unix ms.
        expires_ms: u64,
        /// When.
        at: u64,
    },
    /// A socket with a good token came and went without a join.
    Aborted {
        /// The room that its token is for.
        session: Arc<str>,
        /// Whose.
        user: Arc<str>,
        /// When it went.
        at: u64,
    },
}

impl Fact {
    /// The meeting whose log it stands in; `None` if in none.
    pub fn meeting(&self) -> Option<&Arc<str>> {
        match self {
            Fact::MeetingStarted { meeting, .. }
            | Fact::Joined { meeting, .. }
            | Fact::Left { meeting, .. }
            | Fact::Changed { meeting, .. }
            | Fact::Media { meeting, .. }
            | Fact::Track { meeting, .. }
            | Fact::Activity { meeting, .. }
            | Fact::MeetingEnded { meeting, .. } => Some(meeting),
            Fact::Chat { .. }
            | Fact::Locked { .. }
            | Fact::Promoted { .. }
            | Fact::Removed { .. }
            | Fact::Aborted { .. } => None,
        }
    }

    /// When it happened.
    pub fn at(&self) -> u64 {
        match self {
            Fact::MeetingStarted { at, .. }
            | Fact::Joined { at, .. }
            | Fact::Left { at, .. }
            | Fact::Changed { at, .. }
            | Fact::Media { at, .. }
            | Fact::Track { at, .. }
            | Fact::Activity { at, .. }
            | Fact::MeetingEnded { at, .. }
            | Fact::Chat { at, .. }
            | Fact::Locked { at, .. }
            | Fact::Promoted { at, .. }
            | Fact::Removed { at, .. }
            | Fact::Aborted { at, .. } => *at,
        }
    }
}
