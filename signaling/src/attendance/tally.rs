//! What a meeting's log says, taken fact by fact, before anything is added up.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::access::Role;
use crate::attendance::span::Span;
use crate::fact::{Fact, Reason};

/// All of a log of one meeting. Takes anything: what fits nothing is passed over.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Whose log it is: that of its first fact.
    pub(crate) meeting: Option<Arc<str>>,
    pub(crate) session: Option<Arc<str>>,
    pub(crate) started_at: Option<u64>,
    pub(crate) grace_ms: u64,
    pub(crate) ended_at: Option<u64>,
    /// The latest time that is told.
    pub(crate) last_at: u64,
    pub(crate) connections: Vec<Connection>,
    pub(crate) people: BTreeMap<Arc<str>, Person>,
    ids: BTreeMap<Arc<str>, usize>,
    /// By seat and track: a seat that goes on with another connection goes on with its tracks.
    tracks: BTreeMap<(Arc<str>, Arc<str>), Track>,
    shown: Vec<Shown>,
}

/// One connection's interval.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) user: Arc<str>,
    participant: Arc<str>,
    pub(crate) from: u64,
    alive_at: u64,
    pub(crate) end: Option<End>,
    pub(crate) speaking_ms: u64,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct End {
    pub(crate) at: u64,
    pub(crate) reason: Reason,
    pub(crate) uncertainty_ms: u64,
    /// Where in the log that stands.
    pub(crate) order: usize,
}

/// What is known of a user.
#[derive(Debug)]
pub(crate) struct Person {
    pub(crate) name: Arc<str>,
    pub(crate) role: Role,
}

/// A track as last told of.
#[derive(Debug)]
struct Track {
    connection: usize,
    source: Shows,
    /// Published and not muted.
    is_live: bool,
    /// Since when, while its connection lasts.
    since: Option<u64>,
}

/// What of a track is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shows {
    Camera,
    Screen,
    Nothing,
}

/// A time in which something was shown, by which connection.
#[derive(Debug)]
struct Shown {
    connection: usize,
    source: Shows,
    span: Span,
}

impl Tally {
    pub(crate) fn of(log: &[Fact]) -> Self {
        let mut tally = Tally { meeting: log.iter().find_map(Fact::meeting).cloned(), ..Tally::default() };
        for (order, fact) in log.iter().enumerate() {
            if fact.meeting().is_some_and(|meeting| Some(meeting) == tally.meeting.as_ref()) {
                tally.last_at = tally.last_at.max(fact.at());
                tally.take(fact, order);
            }
        }
        tally
    }

    fn take(&mut self, fact: &Fact, order: usize) {
        match fact {
            Fact::MeetingStarted { session, at, grace_ms, .. } if self.session.is_none() => {
                self.session = Some(session.clone());
                self.started_at = Some(*at);
                self.grace_ms = *grace_ms;
            }
            Fact::Joined { connection, participant, user, name, role, at, .. } => {
                if self.ids.contains_key(connection) {
                    return;
                }
                let index = self.connections.len();
                self.ids.insert(connection.clone(), index);
                self.connections.push(Connection {
                    user: user.clone(),
                    participant: participant.clone(),
                    from: *at,
                    alive_at: *at,
                    end: None,
                    speaking_ms: 0,
                });
                self.named(user, name, *role);
                self.go_on(participant, index, *at);
            }
            Fact::Left { connection, at, reason, uncertainty_ms, .. } => {
                let end = End { at: *at, reason: *reason, uncertainty_ms: *uncertainty_ms, order };
                self.left(connection, end);
            }
            Fact::Changed { connection, name, role, .. } => {
                if let Some(user) = self.connection(connection).map(|c| c.user.clone()) {
                    self.named(&user, name, *role);
                }
            }
            Fact::Track { connection, track, source, on, muted, at, .. } => {
                if let Some(index) = self.ids.get(connection) {
                    self.track(*index, track, Shows::parse(source), *on && !*muted, *at);
                }
            }
            Fact::Activity { alive, .. } => {
                for alive in alive {
                    if let Some(connection) = self.connection(&alive.connection) {
                        connection.alive_at = connection.alive_at.max(alive.at);
                        connection.speaking_ms = connection.speaking_ms.saturating_add(alive.speaking_ms);
                    }
                }
            }
            Fact::MeetingEnded { at, .. } => self.ended_at = self.ended_at.max(Some(*at)),
            _ => {}
        }
    }

    fn connection(&mut self, id: &str) -> Option<&mut Connection> {
        self.connections.get_mut(*self.ids.get(id)?)
    }

    fn named(&mut self, user: &Arc<str>, name: &Arc<str>, role: Role) {
        let person = self.people.entry(user.clone()).or_insert_with(|| Person { name: name.clone(), role });
        person.name = name.clone();
        if rank(role) > rank(person.role) {
            person.role = role;
        }
    }

    /// An end that is known takes the place of one that was guessed, of a server that was thought to be gone; apart from
    /// that the first counts.
    fn left(&mut self, id: &str, mut end: End) {
        let Some(index) = self.ids.get(id).copied() else { return };
        let Some(connection) = self.connections.get_mut(index) else { return };
        // Of two guesses the later one knew of more proofs of life.
        let is_better = |e: End| e.reason == Reason::Crashed && (end.reason != Reason::Crashed || end.at > e.at);
        let guessed = connection.end.is_some_and(is_better);
        if connection.end.is_some() && !guessed {
            return;
        }
        end.at = end.at.max(connection.from);
        connection.end = Some(end);
        for track in self.tracks.values_mut().filter(|track| track.connection == index) {
            self.shown.extend(track.cut(end.at));
        }
    }

    fn go_on(&mut self, participant: &Arc<str>, connection: usize, at: u64) {
        let first = (participant.clone(), Arc::from(""));
        for ((_, _), track) in self.tracks.range_mut(first..).take_while(|((p, _), _)| p == participant) {
            self.shown.extend(track.cut(at));
            track.connection = connection;
            track.since = track.is_live.then_some(at);
        }
    }

    fn track(&mut self, connection: usize, id: &Arc<str>, source: Shows, is_live: bool, at: u64) {
        let Some(participant) = self.connections.get(connection).map(|c| c.participant.clone()) else { return };
        let fresh = || Track { connection, source, is_live: false, since: None };
        let track = self.tracks.entry((participant, id.clone())).or_insert_with(fresh);
        self.shown.extend(track.cut(at));
        *track = Track { connection, source, is_live, since: is_live.then_some(at) };
    }

    /// Ends what is open: in a meeting that is over, at the last proof of life; else as of `now_ms`, without a reason.
    pub(crate) fn close(&mut self, now_ms: u64) {
        let now = now_ms.max(self.last_at);
        let mut ends = Vec::with_capacity(self.connections.len());
        for connection in &mut self.connections {
            if let (None, Some(ended)) = (connection.end, self.ended_at) {
                let at = connection.alive_at.max(connection.from);
                let uncertainty_ms = ended.saturating_sub(at);
                connection.end = Some(End { at, reason: Reason::Crashed, uncertainty_ms, order: usize::MAX });
            }
            ends.push(connection.end.map_or(now, |end| end.at));
        }
        for track in self.tracks.values_mut() {
            self.shown.extend(ends.get(track.connection).and_then(|end| track.cut(*end)));
        }
        self.last_at = now;
    }

    /// When a connection ended, or until when it is counted, after [`Tally::close`].
    pub(crate) fn until(&self, connection: &Connection) -> u64 {
        connection.end.map_or(self.last_at, |end| end.at)
    }

    /// Each time in which a user showed something, within the connection that did.
    pub(crate) fn shown(&self, what: Shows) -> BTreeMap<&str, Vec<Span>> {
        let mut times: BTreeMap<&str, Vec<Span>> = BTreeMap::new();
        for Shown { connection, span: (from, to), .. } in self.shown.iter().filter(|s| s.source == what) {
            let Some(by) = self.connections.get(*connection) else { continue };
            let (from, to) = ((*from).max(by.from), (*to).min(self.until(by)));
            if from < to {
                times.entry(&by.user).or_default().push((from, to));
            }
        }
        times
    }
}

impl Track {
    fn cut(&mut self, at: u64) -> Option<Shown> {
        let span = (self.since.take()?, at);
        Some(Shown { connection: self.connection, source: self.source, span })
    }
}

impl Shows {
    fn parse(source: &str) -> Self {
        match source {
            "camera" => Shows::Camera,
            "screen" => Shows::Screen,
            _ => Shows::Nothing,
        }
    }
}

/// Which role is higher.
fn rank(role: Role) -> u8 {
    match role {
        Role::Observer => 0,
        Role::Participant => 1,
        Role::Instructor => 2,
    }
}
