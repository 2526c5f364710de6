//! `--verify-attendance`: the server's summaries and webhooks held against what the tester's people really did. Pure: what was asked
//! for and what came are arguments.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Serialize;
use signaling::attendance::{Attendee, Summary, Visit};
use signaling::limits::CRASH_ERROR_MAX;

use super::hooks::Event;
use super::report::Spread;
use super::truth::{End, Stay};

/// A connection that ended without a word ends at its last proof of life: at most so long before (docs/attendance.md).
const CRASH_ERROR_MS: u64 = CRASH_ERROR_MAX.as_millis() as u64;
/// Faults told one by one; JSON has no more either.
const FAULTS_MAX: usize = 100;

/// How far server and truth may be apart, ms: two clocks, and what a loaded machine adds.
#[derive(Clone, Copy, Debug)]
pub struct Tolerance(pub u64);

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Verdict {
    /// Stays that were held against the server.
    pub stays: usize,
    /// Meetings that they were in.
    pub meetings: usize,
    /// Webhooks that came, each counted once.
    pub webhooks: usize,
    /// Of these, those that came more than once, which is allowed.
    pub repeated: usize,
    /// Times of the server, and how far they are off the truth.
    pub error_ms: Spread,
    /// What is missing.
    pub missing: usize,
    /// What is there twice.
    pub doubled: usize,
    /// What came in the wrong order.
    pub misordered: usize,
    /// Times that are off by more than is allowed.
    pub wrong: usize,
    /// All of these, in sentences.
    pub faults: Vec<String>,
}

impl Verdict {
    /// Whether the server tells the truth.
    pub fn passed(&self) -> bool {
        self.faults.is_empty()
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Verdict { stays, meetings, webhooks, repeated, missing, doubled, misordered, wrong, .. } = self;
        write!(f, "{stays} stays in {meetings} meetings, {webhooks} webhooks ({repeated} of them repeated): ")?;
        let ms = |value: Option<f64>| value.map_or("–".to_owned(), |value| format!("{value:.0} ms"));
        write!(f, "off by {} at most, {} at p95", ms(self.error_ms.max), ms(self.error_ms.p95))?;
        if self.passed() {
            return write!(f, "; it is the truth");
        }
        write!(f, "; {missing} missing, {doubled} doubled, {misordered} misordered, {wrong} wrong")?;
        self.faults.iter().try_for_each(|fault| write!(f, "\nFAILED {fault}"))
    }
}

/// What kind of fault.
#[derive(Clone, Copy)]
enum Fault {
    Missing,
    Doubled,
    Misordered,
    Wrong,
}

struct Check {
    tolerance: u64,
    verdict: Verdict,
    errors: Vec<f64>,
}

/// Holds them against each other. `events` in the order in which they came; `None` if nobody listened.
pub fn verify(stays: &[Stay], summaries: &[Summary], events: Option<&[Event]>, tolerance: Tolerance) -> Verdict {
    let mut check = Check { tolerance: tolerance.0, verdict: Verdict::default(), errors: Vec::new() };
    check.verdict.stays = stays.len();
    let mut meetings: BTreeMap<&str, BTreeMap<&str, Vec<&Stay>>> = BTreeMap::new();
    for stay in stays {
        meetings.entry(&stay.meeting).or_default().entry(&stay.user).or_default().push(stay);
    }
    check.verdict.meetings = meetings.len();
    for (meeting, people) in &mut meetings {
        people.values_mut().for_each(|own| own.sort_by_key(|stay| stay.asked));
        match summaries.iter().find(|summary| &*summary.meeting_id == *meeting) {
            Some(summary) => people.iter().for_each(|(user, own)| check.person(summary, user, own)),
            None => check.fault(Fault::Missing, format!("there is no summary of meeting {meeting}")),
        }
    }
    if let Some(events) = events {
        check.events(events, &meetings);
    }
    check.verdict.error_ms = Spread::of(check.errors.into_iter());
    check.verdict
}

impl Check {
    fn fault(&mut self, kind: Fault, says: String) {
        let (count, word) = match kind {
            Fault::Missing => (&mut self.verdict.missing, "missing"),
            Fault::Doubled => (&mut self.verdict.doubled, "doubled"),
            Fault::Misordered => (&mut self.verdict.misordered, "misordered"),
            Fault::Wrong => (&mut self.verdict.wrong, "wrong"),
        };
        *count += 1;
        if self.verdict.faults.len() < FAULTS_MAX {
            self.verdict.faults.push(format!("{word}: {says}"));
        }
    }

    /// Notes how far a time is off a span in which it must lie; a fault if that is too far.
    fn time(&mut self, what: impl Fn() -> String, found: u64, span: (u64, u64), allowed: u64) {
        let off = span.0.saturating_sub(found).max(found.saturating_sub(span.1));
        self.errors.push(off as f64);
        if off > allowed {
            self.fault(Fault::Wrong, format!("{} is {found}, {off} ms off", what()));
        }
    }

    fn end(&mut self, what: impl Fn() -> String, found: u64, stay: &Stay) {
        match stay.end {
            End::Left { sent, acked } => self.time(what, found, (sent, acked), self.tolerance),
            End::Dropped { at } => self.time(what, found, (at, at), CRASH_ERROR_MS + self.tolerance),
            End::Open => {}
        }
    }

    fn person(&mut self, summary: &Summary, user: &str, own: &[&Stay]) {
        let mut known = summary.participants.iter().filter(|it| &*it.user_id == user);
        let Some(attendee) = known.next() else {
            return self.fault(
                Fault::Missing,
                format!("{user} was in {}, and its summary does not say so", summary.session_id),
            );
        };
        if known.next().is_some() {
            self.fault(Fault::Doubled, format!("{user} is in the summary of {} twice", summary.session_id));
        }
        let visits = visits(own, summary.grace_ms);
        self.visits(user, attendee, &visits);
        let spans = own.iter().filter_map(|stay| span(stay));
        let (least, most) = spans.fold((0, 0), |sum, (least, most)| (sum.0 + least, sum.1 + most));
        // Gaps that nobody can know: a dropped connection may have ended that much earlier.
        let dropped = own.iter().filter(|stay| matches!(stay.end, End::Dropped { .. })).count() as u64;
        let allowed = self.tolerance * own.len() as u64 + dropped * CRASH_ERROR_MS;
        self.time(|| format!("connected_ms of {user}"), attendee.connected_ms, (least, most), allowed);
    }

    fn visits(&mut self, user: &str, attendee: &Attendee, expected: &[(&Stay, &Stay)]) {
        let found: Vec<&Visit> = attendee.visits.iter().collect();
        if found.len() != expected.len() {
            let kind = if found.len() < expected.len() { Fault::Missing } else { Fault::Doubled };
            return self
                .fault(kind, format!("{user} made {} visits, and the summary has {}", expected.len(), found.len()));
        }
        for (number, (visit, (first, last))) in found.into_iter().zip(expected).enumerate() {
            let what = |which: &str| format!("the {which} of visit {} of {user}", number + 1);
            self.time(|| what("begin"), visit.joined_at, (first.asked, first.acked), self.tolerance);
            match visit.left_at {
                Some(left) => self.end(|| what("end"), left, last),
                None if last.end != End::Open => self.fault(Fault::Missing, what("end")),
                None => {}
            }
        }
    }

    fn events(&mut self, events: &[Event], meetings: &BTreeMap<&str, BTreeMap<&str, Vec<&Stay>>>) {
        let mut ids = BTreeSet::new();
        let mut repeated = BTreeSet::new();
        let mut once: Vec<&Event> = Vec::new();
        for event in events.iter().filter(|event| meetings.contains_key(&*event.meeting)) {
            if ids.insert(&event.id) {
                once.push(event);
            } else {
                repeated.insert(&event.id);
            }
        }
        (self.verdict.webhooks, self.verdict.repeated) = (once.len(), repeated.len());
        self.order(&once);
        for (meeting, people) in meetings {
            for (user, own) in people {
                let of = |kind: &str| -> Vec<&Event> {
                    let mine = |event: &&&Event| event.kind == kind && event.meeting == *meeting && event.user == *user;
                    once.iter().filter(mine).copied().collect()
                };
                self.told(user, "participant.joined", &of("participant.joined"), own);
                let ended: Vec<&Stay> = own.iter().copied().filter(|stay| stay.end != End::Open).collect();
                self.told(user, "participant.left", &of("participant.left"), &ended);
            }
        }
    }

    /// Numbers of a room must come in order, each once and without gaps.
    fn order(&mut self, once: &[&Event]) {
        let mut rooms: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
        for event in once {
            rooms.entry(&event.session).or_default().push(event.room_seq);
        }
        for (room, numbers) in rooms {
            for pair in numbers.windows(2).filter(|pair| pair[1] < pair[0]) {
                self.fault(Fault::Misordered, format!("webhook {} of {room} came after {}", pair[1], pair[0]));
            }
            let distinct: BTreeSet<u64> = numbers.iter().copied().collect();
            if distinct.len() < numbers.len() {
                let more = numbers.len() - distinct.len();
                self.fault(Fault::Doubled, format!("{more} numbers of {room} stand on two webhooks"));
            }
            let (first, last) = (numbers.iter().min().copied(), numbers.iter().max().copied());
            for lost in first.zip(last).map(|(first, last)| first..last).into_iter().flatten() {
                if !distinct.contains(&lost) {
                    self.fault(Fault::Missing, format!("webhook {lost} of {room} never came"));
                }
            }
        }
    }

    fn told(&mut self, user: &str, kind: &str, found: &[&Event], own: &[&Stay]) {
        let connections: BTreeSet<&str> = found.iter().map(|event| &*event.connection).collect();
        if connections.len() < found.len() {
            self.fault(
                Fault::Doubled,
                format!("{kind} of {user} was told {} times for {} connections", found.len(), connections.len()),
            );
        }
        if connections.len() < own.len() {
            let (told, were) = (connections.len(), own.len());
            return self.fault(Fault::Missing, format!("{kind} of {user}: {told} webhooks for {were} connections"));
        }
        if connections.len() > own.len() {
            return self.fault(
                Fault::Doubled,
                format!("{kind} of {user}: {} webhooks for {} connections", connections.len(), own.len()),
            );
        }
        let mut found = found.to_vec();
        found.sort_by_key(|event| event.at);
        found.dedup_by_key(|event| &event.connection);
        for (event, stay) in found.iter().zip(own) {
            let what = || format!("{kind} of {user}");
            if kind == "participant.joined" {
                self.time(what, event.at, (stay.asked, stay.acked), self.tolerance);
            } else {
                self.end(what, event.at, stay);
            }
        }
    }
}

/// How long a stay was, at least and at most; `None` while it goes on.
fn span(stay: &Stay) -> Option<(u64, u64)> {
    match stay.end {
        End::Left { sent, acked } => Some((sent.saturating_sub(stay.acked), acked.saturating_sub(stay.asked))),
        End::Dropped { at } => Some((at.saturating_sub(stay.acked), at.saturating_sub(stay.asked))),
        End::Open => None,
    }
}

/// First and last stay of each visit: stays with no longer gap than the grace time between them (docs/attendance.md).
fn visits<'s>(own: &[&'s Stay], grace_ms: u64) -> Vec<(&'s Stay, &'s Stay)> {
    let mut visits: Vec<(&Stay, &Stay)> = Vec::new();
    for &stay in own {
        let ended = |last: &Stay| match last.end {
            End::Left { acked, .. } => acked,
            End::Dropped { at } => at,
            End::Open => u64::MAX,
        };
        match visits.last_mut() {
            Some((_, last)) if stay.asked.saturating_sub(ended(last)) <= grace_ms => *last = stay,
            _ => visits.push((stay, stay)),
        }
    }
    visits
}

#[cfg(test)]
#[path = "verify/tests.rs"]
mod tests;
