//! What must hold of every log: the invariants, said of one meeting.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::attendance::span::union;
use crate::attendance::summary::{Attendee, Summary, summarize};
use crate::fact::{Fact, Reason};
use crate::limits::EMPTY_TIMEOUT;

/// How long after its last proof of life a socket is found to be dead at the latest, ms.
const FOUND_DEAD_MS: u64 = 60_000;

/// What is wrong with one meeting's log, as sentences; nothing when all is well. `log` has the meeting's `seq` with each fact, in
/// that order. A meeting that goes on may have open connections.
pub fn check(log: &[(u64, Fact)]) -> Vec<String> {
    let mut checker = Checker::default();
    for (index, (seq, fact)) in (1..).zip(log) {
        if *seq != index {
            checker.wrong(index, format!("seq {seq} is not dense"));
        }
        checker.take(index, fact);
    }
    let facts: Vec<Fact> = log.iter().map(|(_, fact)| fact.clone()).collect();
    checker.summary(&facts);
    checker.found
}

#[derive(Default)]
struct Checker {
    meeting: Option<Arc<str>>,
    started_at: u64,
    grace_ms: u64,
    ended_at: Option<u64>,
    last_at: u64,
    last_end: u64,
    /// The last end was a crash: how long the server was away is nobody's fault.
    crashed: bool,
    connections: BTreeMap<Arc<str>, Seen>,
    found: Vec<String>,
}

struct Seen {
    participant: Arc<str>,
    user: Arc<str>,
    from: u64,
    end: Option<(u64, Reason)>,
}

impl Checker {
    fn wrong(&mut self, seq: u64, what: String) {
        self.found.push(format!("fact {seq}: {what}"));
    }

    fn take(&mut self, seq: u64, fact: &Fact) {
        let Some(meeting) = fact.meeting() else {
            return self.wrong(seq, "it stands in no log".to_owned());
        };
        if self.meeting.get_or_insert_with(|| meeting.clone()) != meeting {
            return self.wrong(seq, "it is of another meeting".to_owned());
        }
        if (seq == 1) != matches!(fact, Fact::MeetingStarted { .. }) {
            self.wrong(seq, "a meeting starts once, first of all".to_owned());
        }
        let is_end = matches!(fact, Fact::Left { .. });
        if self.ended_at.is_some() && !is_end {
            self.wrong(seq, "the meeting had ended".to_owned());
        }
        // Ends are told of when they are known; all else when it happens.
        if !is_end && !matches!(fact, Fact::MeetingEnded { .. }) {
            if fact.at() < self.last_at {
                self.wrong(seq, format!("time goes back by {} ms", self.last_at - fact.at()));
            }
            self.last_at = self.last_at.max(fact.at());
        }
        self.take_kind(seq, fact);
    }

    fn take_kind(&mut self, seq: u64, fact: &Fact) {
        match fact {
            Fact::MeetingStarted { at, grace_ms, .. } => {
                (self.started_at, self.grace_ms, self.last_end) = (*at, *grace_ms, *at);
            }
            Fact::Joined { .. } => self.joined(seq, fact),
            Fact::Left { connection, at, reason, uncertainty_ms, .. } => {
                self.left(seq, connection, *at, *reason);
                if *uncertainty_ms > 0 && *reason != Reason::Crashed {
                    self.wrong(seq, "only a crash leaves an end uncertain".to_owned());
                }
            }
            Fact::Changed { connection, .. } | Fact::Media { connection, .. } | Fact::Track { connection, .. } => {
                self.open(seq, connection);
            }
            Fact::Activity { alive, at, .. } => {
                for alive in alive {
                    self.open(seq, &alive.connection);
                    if alive.at > *at {
                        self.wrong(seq, format!("{} gave a proof of life in the future", alive.connection));
                    }
                }
            }
            Fact::MeetingEnded { at, .. } => {
                self.ended_at = Some(*at);
                if self.connections.values().any(|c| c.end.is_none()) {
                    self.wrong(seq, "the meeting ended over an open connection".to_owned());
                }
                if *at != self.last_end {
                    self.wrong(seq, format!("the meeting ended at {at}, its last connection at {}", self.last_end));
                }
            }
            Fact::Chat { .. }
            | Fact::Locked { .. }
            | Fact::Promoted { .. }
            | Fact::Removed { .. }
            | Fact::Aborted { .. } => {}
        }
    }

    fn open(&mut self, seq: u64, connection: &Arc<str>) {
        if self.connections.get(connection).is_none_or(|c| c.end.is_some()) {
            self.wrong(seq, format!("{connection} is not open"));
        }
    }

    fn joined(&mut self, seq: u64, fact: &Fact) {
        let Fact::Joined { connection, participant, user, at, resumes, .. } = fact else { return };
        let seen = Seen { participant: participant.clone(), user: user.clone(), from: *at, end: None };
        let is_empty = self.connections.values().all(|c| c.end.is_some());
        let away = at.saturating_sub(self.last_end);
        let empty_max = u64::try_from(EMPTY_TIMEOUT.as_millis()).unwrap_or(u64::MAX) + self.grace_ms + FOUND_DEAD_MS;
        if is_empty && !self.crashed && away > empty_max {
            self.wrong(seq, format!("the meeting had been empty for {away} ms"));
        }
        if let Some(former) = resumes {
            match self.connections.get(former).map(|c| (&c.participant, &c.user, c.end)) {
                Some((seat, who, Some((end, _)))) if seat == participant && who == user => {
                    if end > *at {
                        self.wrong(seq, format!("{connection} resumes {former}, which ended {} ms later", end - at));
                    }
                }
                _ => {
                    self.wrong(seq, format!("{connection} resumes {former}, which is no ended connection of its seat"))
                }
            }
        }
        if self.connections.insert(connection.clone(), seen).is_some() {
            self.wrong(seq, format!("{connection} had joined"));
        }
    }

    fn left(&mut self, seq: u64, connection: &Arc<str>, at: u64, reason: Reason) {
        let Some(seen) = self.connections.get_mut(connection) else {
            return self.wrong(seq, format!("{connection} left and never joined"));
        };
        let before = seen.end.replace((at, reason));
        let backwards = at < seen.from;
        // A node that was thought to be gone may come back and know better.
        if before.is_some_and(|(_, guess)| guess != Reason::Crashed) {
            self.wrong(seq, format!("{connection} had left"));
        }
        if backwards {
            self.wrong(seq, format!("{connection} left before it joined"));
        }
        self.last_end = self.last_end.max(at);
        self.crashed = reason == Reason::Crashed;
    }

    /// What must hold of the summary, by ways of its own.
    fn summary(&mut self, facts: &[Fact]) {
        let now = self.last_at.max(self.last_end);
        let summary = summarize(facts, now);
        let again = serde_json::to_string(&summarize(facts, now)).ok();
        if serde_json::to_string(&summary).ok() != again {
            self.found.push("the summary is another when it is made again".to_owned());
        }
        let end = summary.ended_at.unwrap_or(now);
        let mut intervals: BTreeMap<&str, Vec<(u64, u64)>> = BTreeMap::new();
        for seen in self.connections.values() {
            intervals.entry(&seen.user).or_default().push((seen.from, seen.end.map_or(now, |(at, _)| at)));
        }
        let mut found = Vec::new();
        for person in &summary.participants {
            let parts = intervals.get(&*person.user_id).map_or(&[][..], Vec::as_slice);
            person_holds(person, parts, &summary, end, &mut found);
        }
        if summary.total_participants as usize != intervals.len() || summary.participants.len() != intervals.len() {
            found.push(format!("{} people are counted, {} joined", summary.total_participants, intervals.len()));
        }
        let peak = peak(&intervals);
        if summary.peak_participants as usize != peak {
            found.push(format!("the peak is said to be {}, and is {peak}", summary.peak_participants));
        }
        self.found.append(&mut found);
    }
}

/// I2 and I3 of one person.
fn person_holds(person: &Attendee, parts: &[(u64, u64)], summary: &Summary, end: u64, found: &mut Vec<String>) {
    let who = &person.user_id;
    let mut wrong = |what: &str| found.push(format!("{who}: {what}"));
    let sum = parts.iter().fold(0u64, |sum, (from, to)| sum.saturating_add(to.saturating_sub(*from)));
    if person.connected_ms > end.saturating_sub(summary.started_at) {
        wrong("there for longer than the meeting");
    }
    if person.connected_ms > sum {
        wrong("there for longer than its connections");
    }
    if [person.speaking_ms, person.camera_ms, person.screen_ms].iter().any(|ms| *ms > person.connected_ms) {
        wrong("did something for longer than it was there");
    }
    let stays = || person.visits.iter().map(|v| (v.joined_at, v.left_at.unwrap_or(end), v.gaps_ms));
    let counted =
        stays().fold(0u64, |all, (from, to, gaps)| all.saturating_add(to.saturating_sub(from).saturating_sub(gaps)));
    if counted != person.connected_ms {
        wrong("its visits do not add up");
    }
    if stays().any(|(from, to, _)| from > to || from < summary.started_at || to > end) {
        wrong("a visit is not within the meeting");
    }
    if stays().zip(stays().skip(1)).any(|((_, to, _), (from, _, _))| from <= to.saturating_add(summary.grace_ms)) {
        wrong("two visits are one");
    }
    let ends = summary.ended_at.is_some() || person.last_leave_at.is_some();
    if ends && person.visits.iter().any(|v| v.left_at.is_none() || v.reason.is_none()) {
        wrong("a visit has no end");
    }
}

/// I8, the plain way: how many are there as each comes, where one that goes at that time has gone.
fn peak(intervals: &BTreeMap<&str, Vec<(u64, u64)>>) -> usize {
    let unions: Vec<_> = intervals.values().map(|own| union(own.clone())).collect();
    let starts: BTreeSet<u64> = unions.iter().flatten().map(|(from, _)| *from).collect();
    let there = |at: u64| {
        let holds = |(from, to): &(u64, u64)| *from <= at && (at < *to || (from == to && at == *to));
        unions.iter().filter(|own| own.iter().any(holds)).count()
    };
    starts.into_iter().map(there).max().unwrap_or_default()
}
