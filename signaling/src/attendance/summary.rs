//! The summary of a meeting.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::access::Role;
use crate::attendance::span::{Span, measure, peak, union};
use crate::attendance::tally::{Connection, Shows, Tally};
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
///
/// Any log will do, a damaged one too. An end that is missing though the meeting has ended is taken to be the last proof of
/// life; nothing ends before it began, and nothing lies outside the meeting.
pub fn summarize(log: &[Fact], now_ms: u64) -> Summary {
    let mut tally = Tally::of(log);
    tally.close(now_ms);
    let mut stays: BTreeMap<&str, Vec<&Connection>> = BTreeMap::new();
    for connection in &tally.connections {
        stays.entry(&connection.user).or_default().push(connection);
    }
    let spans: BTreeMap<&str, Vec<Span>> = stays.iter().map(|(user, own)| (*user, presence(&tally, own))).collect();
    let (cameras, screens) = (tally.shown(Shows::Camera), tally.shown(Shows::Screen));
    let shown = |by: &BTreeMap<&str, Vec<Span>>, user| measure(&union(by.get(user).cloned().unwrap_or_default()));
    let mut participants = Vec::with_capacity(stays.len());
    for (user, own) in &stays {
        let Some((user_id, person)) = tally.people.get_key_value(*user) else { continue };
        let present = spans.get(user).map_or(&[][..], Vec::as_slice);
        let connected_ms = measure(present);
        let is_open = own.iter().any(|c| c.end.is_none());
        participants.push(Attendee {
            user_id: user_id.clone(),
            user_name: person.name.clone(),
            role: person.role,
            first_join_at: present.first().map_or(0, |span| span.0),
            last_leave_at: present.last().filter(|_| !is_open).map(|span| span.1),
            connected_ms,
            speaking_ms: own.iter().fold(0u64, |sum, c| sum.saturating_add(c.speaking_ms)).min(connected_ms),
            camera_ms: shown(&cameras, user),
            screen_ms: shown(&screens, user),
            visits: visits(&tally, own),
        });
    }
    in_order(&mut participants);
    let first = participants.first().map(|p| p.first_join_at);
    let last = participants.iter().filter_map(|p| p.last_leave_at).max();
    let started_at = tally.started_at.into_iter().chain(first).min().unwrap_or_default();
    Summary {
        version: 1,
        started_at,
        ended_at: tally.ended_at.map(|at| at.max(started_at).max(last.unwrap_or_default())),
        grace_ms: tally.grace_ms,
        peak_participants: peak(spans.values().map(Vec::as_slice)),
        total_participants: u32::try_from(participants.len()).unwrap_or(u32::MAX),
        uncertainty_ms: tally.connections.iter().filter_map(|c| Some(c.end?.uncertainty_ms)).max().unwrap_or_default(),
        participants,
        meeting_id: tally.meeting.unwrap_or_default(),
        session_id: tally.session.unwrap_or_default(),
    }
}

/// The one order of people in a summary: by first join, then by user.
pub(crate) fn in_order(participants: &mut [Attendee]) {
    participants.sort_by(|a, b| (a.first_join_at, &a.user_id).cmp(&(b.first_join_at, &b.user_id)));
}

fn presence(tally: &Tally, own: &[&Connection]) -> Vec<Span> {
    union(own.iter().map(|c| (c.from, tally.until(c))).collect())
}

/// Connections of one person joined over gaps up to the grace time.
fn visits(tally: &Tally, own: &[&Connection]) -> Vec<Visit> {
    let mut own: Vec<&Connection> = own.to_vec();
    own.sort_by_key(|c| (c.from, tally.until(c)));
    let mut visits: Vec<Stay> = Vec::new();
    for connection in own {
        let until = tally.until(connection);
        match visits.last_mut().filter(|stay| connection.from <= stay.until.saturating_add(tally.grace_ms)) {
            Some(stay) => stay.extend(connection, until),
            None => visits.push(Stay::new(connection, until)),
        }
    }
    visits.into_iter().map(Stay::visit).collect()
}

/// A visit that may still grow.
struct Stay<'a> {
    from: u64,
    until: u64,
    gaps_ms: u64,
    /// The true end is not later.
    latest: u64,
    is_open: bool,
    /// The connection that ended last, of two that ended at once the one told of later.
    last: &'a Connection,
}

impl<'a> Stay<'a> {
    fn new(connection: &'a Connection, until: u64) -> Self {
        let (from, last) = (connection.from, connection);
        let mut stay = Stay { from, until: from, gaps_ms: 0, latest: from, is_open: false, last };
        stay.extend(connection, until);
        stay
    }

    fn extend(&mut self, connection: &'a Connection, until: u64) {
        self.gaps_ms = self.gaps_ms.saturating_add(connection.from.saturating_sub(self.until));
        let order = |c: &Connection| c.end.map(|end| end.order);
        if until > self.until || (until == self.until && order(connection) > order(self.last)) {
            self.last = connection;
        }
        self.until = self.until.max(until);
        let uncertainty_ms = connection.end.map_or(0, |end| end.uncertainty_ms);
        self.latest = self.latest.max(until.saturating_add(uncertainty_ms));
        self.is_open |= connection.end.is_none();
    }

    fn visit(self) -> Visit {
        let ended = self.last.end.filter(|_| !self.is_open);
        Visit {
            joined_at: self.from,
            left_at: ended.map(|_| self.until),
            reason: ended.map(|end| end.reason),
            gaps_ms: self.gaps_ms,
            uncertainty_ms: ended.map_or(0, |_| self.latest - self.until),
        }
    }
}
