//! The summary of a meeting.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::access::Role;
use crate::fact::{Fact, Reason};

/// What a meeting was: the body of `session.ended`, and what the store keeps of it. Field names are those of the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// Its id.
    pub meeting_id: Arc<str>,
    /// The room.
    pub session_id: Arc<str>,
    /// Raised by an erasure; the first is 1.
    pub version: u32,
    /// When it began, Unix ms.
    pub started_at: u64,
    /// When its last connection ended; `None` while it goes on.
    pub ended_at: Option<u64>,
    /// A gap between two connections of a person that is no longer than this is within one visit.
    pub grace_ms: u64,
    /// Most people at one time.
    pub peak_participants: u32,
    /// Distinct people.
    pub total_participants: u32,
    /// By how much times may be wrong where the server crashed, ms: the largest.
    pub uncertainty_ms: u64,
    /// The people, by first join, then by user.
    pub participants: Vec<Attendee>,
}

/// One person in a meeting.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Attendee {
    /// Who.
    pub user_id: Arc<str>,
    /// The last name.
    pub user_name: Arc<str>,
    /// The highest role that it had: instructor, participant, observer.
    pub role: Role,
    /// First join, Unix ms.
    pub first_join_at: u64,
    /// Last end of a connection; `None` while one is open.
    pub last_leave_at: Option<u64>,
    /// The union of its connections' intervals, ms: two devices count once, gaps do not count.
    pub connected_ms: u64,
    /// By the audio levels that its clients claim, ms; at most `connected_ms`.
    pub speaking_ms: u64,
    /// Time with an unmuted camera, ms: the union over its tracks, within its connections.
    pub camera_ms: u64,
    /// The same of shared screens.
    pub screen_ms: u64,
    /// Its visits, in order.
    pub visits: Vec<Visit>,
}

/// One unbroken stay of a person: connections joined over gaps no longer than the grace time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Visit {
    /// When it began, Unix ms.
    pub joined_at: u64,
    /// When it ended; `None` while it goes on.
    pub left_at: Option<u64>,
    /// Why it ended: the reason of the connection that ended last.
    pub reason: Option<Reason>,
    /// Time within it without any connection, ms.
    pub gaps_ms: u64,
    /// By how much its end may be later, ms.
    pub uncertainty_ms: u64,
}

/// The summary of one meeting's log, in `seq` order; of a running meeting as things stand at `now_ms` (Unix ms), which is
/// not looked at once the meeting has ended. The same log gives the same bytes.
pub fn summarize(_log: &[Fact], _now_ms: u64) -> Summary {
    Summary::default()
}
