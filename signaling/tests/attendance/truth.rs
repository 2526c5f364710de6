//! What was true, and the reference: attendance counted from it in the plainest way.

use std::collections::{BTreeMap, BTreeSet};

/// From when to when, ms.
type Spans = Vec<(u64, u64)>;

/// One stay of a device in a meeting, as the script knows it. Times are those of our own clock, ms.
#[derive(Clone, Debug)]
pub(crate) struct Stay {
    pub(crate) session: usize,
    pub(crate) meeting: String,
    pub(crate) user: String,
    pub(crate) participant: String,
    pub(crate) from: u64,
    /// Its last sign of life; `None` while it goes on.
    pub(crate) to: Option<u64>,
    /// By how much what is written down may fall short of it, and go beyond it.
    pub(crate) short: u64,
    pub(crate) beyond: u64,
}

/// A time in which a seat showed something.
#[derive(Clone, Debug)]
pub(crate) struct Shown {
    pub(crate) participant: String,
    pub(crate) is_screen: bool,
    pub(crate) from: u64,
    pub(crate) to: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Truth {
    pub(crate) stays: Vec<Stay>,
    pub(crate) shown: Vec<Shown>,
}

/// What must be counted of a person in a meeting.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Expected {
    pub(crate) connected: u64,
    pub(crate) camera: u64,
    pub(crate) screen: u64,
    pub(crate) short: u64,
    pub(crate) beyond: u64,
}

impl Truth {
    /// By meeting and user.
    pub(crate) fn expected(&self) -> BTreeMap<(&str, &str), Expected> {
        let mut all: BTreeMap<(&str, &str), Expected> = BTreeMap::new();
        let mut spans: BTreeMap<(&str, &str), [Spans; 3]> = BTreeMap::new();
        for stay in &self.stays {
            let key = (&*stay.meeting, &*stay.user);
            let to = stay.to.expect("everybody has gone");
            let [connected, camera, screen] = spans.entry(key).or_default();
            connected.push((stay.from, to));
            for shown in self.shown.iter().filter(|s| s.participant == stay.participant) {
                let list = if shown.is_screen { &mut *screen } else { &mut *camera };
                list.push((shown.from.max(stay.from), shown.to.min(to)));
            }
            let person = all.entry(key).or_default();
            person.short += stay.short;
            person.beyond += stay.beyond;
        }
        for (key, [connected, camera, screen]) in spans {
            let person = all.entry(key).or_default();
            (person.connected, person.camera, person.screen) = (covered(connected), covered(camera), covered(screen));
        }
        all
    }

    /// The most people of a meeting at one time; `None` where somebody came and went at once, which is none.
    pub(crate) fn peak(&self, meeting: &str) -> Option<usize> {
        let stays = || self.stays.iter().filter(|stay| stay.meeting == meeting);
        let there = |at: u64| {
            let holds = |stay: &&Stay| stay.from <= at && stay.to.is_none_or(|to| at < to);
            stays().filter(holds).map(|stay| &stay.user).collect::<BTreeSet<_>>().len()
        };
        let is_plain = stays().all(|stay| stay.to > Some(stay.from));
        stays().map(|stay| there(stay.from)).max().filter(|_| is_plain)
    }
}

/// How much of the time some span covers: counted up and down over all their edges.
fn covered(spans: Spans) -> u64 {
    let mut edges: Vec<(u64, i32)> =
        spans.into_iter().filter(|(from, to)| from < to).flat_map(|(from, to)| [(from, 1), (to, -1)]).collect();
    edges.sort_unstable();
    let (mut depth, mut last, mut sum) = (0, 0, 0);
    for (at, step) in edges {
        if depth > 0 {
            sum += at - last;
        }
        depth += step;
        last = at;
    }
    sum
}
