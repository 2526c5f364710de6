//! Random logs: true ones against a count ms by ms, and garbage.

use std::collections::{BTreeMap, BTreeSet};

use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};
use signaling::attendance::{Open, check, summarize};
use signaling::{Fact, Reason, Role};

use crate::facts::*;

/// How long the meetings of this file are, ms.
const LENGTH: u64 = 400;

/// What was true of a user, for each ms.
#[derive(Clone)]
struct Truth {
    present: [bool; LENGTH as usize],
    camera: [bool; LENGTH as usize],
}

/// A log and what was true.
fn script(rng: &mut impl Rng) -> (Vec<Fact>, BTreeMap<String, Truth>) {
    let mut truth: BTreeMap<String, Truth> = BTreeMap::new();
    // (when, in which order at that time, what)
    let mut facts: Vec<(u64, u8, Fact)> = vec![(0, 0, started(0))];
    for n in 0..rng.random_range(1..8) {
        let user = format!("u{}", rng.random_range(0..4));
        let (connection, seat) = (format!("c{n}"), format!("p{n}"));
        let from = rng.random_range(0..LENGTH - 1);
        let to = rng.random_range(from + 1..LENGTH);
        facts.push((from, 1, seated(&connection, &seat, &user, from)));
        // Ends are told of when they are found out.
        let told = rng.random_range(to..=LENGTH);
        facts.push((told, 3, left(&connection, to, Reason::Disconnected)));
        let who = truth.entry(user).or_insert(Truth { present: [false; 400], camera: [false; 400] });
        who.present[from as usize..to as usize].fill(true);
        for t in 0..rng.random_range(0..3) {
            let on = rng.random_range(from..=told);
            let off = rng.random_range(on..=told);
            let (name, muted) = (format!("t{n}-{t}"), rng.random_bool(0.5));
            facts.push((on, 2, track(&connection, &name, "camera", true, false, on)));
            facts.push((off, 2, track(&connection, &name, "camera", muted, muted, off)));
            who.camera[on as usize..off.min(to).max(on) as usize].fill(true);
        }
    }
    facts.sort_by_key(|(at, order, _)| (*at, *order));
    let mut log: Vec<Fact> = facts.into_iter().map(|(_, _, fact)| fact).collect();
    let end = log.iter().filter(|f| matches!(f, Fact::Left { .. })).map(Fact::at).max().unwrap();
    log.push(ended(end));
    (log, truth)
}

#[test]
fn a_summary_is_what_counting_each_ms_gives() {
    let seeds: Vec<u64> = match std::env::var("LYCEUM_SEED") {
        Ok(seed) => vec![seed.parse().expect("a number")],
        Err(_) => (0..4_000).collect(),
    };
    for seed in seeds {
        let (log, truth) = script(&mut StdRng::seed_from_u64(seed));
        let wrong = check(&numbered(&log));
        assert!(wrong.is_empty(), "LYCEUM_SEED={seed}: {wrong:?}");
        let summary = summarize(&log, 0);
        let count = |of: &[bool]| of.iter().filter(|holds| **holds).count() as u64;
        for person in &summary.participants {
            let truth = &truth[&*person.user_id];
            let counted = (person.connected_ms, person.camera_ms);
            assert_eq!(
                counted,
                (count(&truth.present), count(&truth.camera)),
                "LYCEUM_SEED={seed}: {}",
                person.user_id
            );
        }
        let there = |ms: usize| truth.values().filter(|t| t.present[ms]).count() as u32;
        let peak = (0..LENGTH as usize).map(there).max().unwrap();
        let counted = (summary.peak_participants, summary.total_participants as usize);
        assert_eq!(counted, (peak, truth.len()), "LYCEUM_SEED={seed}");
    }
}

fn garbage(rng: &mut impl Rng) -> Fact {
    let at = match rng.random_range(0..8) {
        0 => u64::MAX,
        1 => u64::MAX - rng.random_range(0..3),
        _ => rng.random_range(0..60_000),
    };
    let connection = format!("c{}", rng.random_range(0..4));
    let user = format!("u{}", rng.random_range(0..3));
    let reasons = [Reason::Left, Reason::Disconnected, Reason::Replaced, Reason::Removed, Reason::Crashed];
    match rng.random_range(0..9) {
        0 => started(at),
        1 | 2 => seated(&connection, &format!("p{}", rng.random_range(0..2)), &user, at),
        3 => left(&connection, at, reasons[rng.random_range(0..5)]),
        4 => crashed(&connection, at, u64::MAX),
        5 => changed(&connection, "x", Role::Observer, at),
        6 => track(&connection, &format!("t{}", rng.random_range(0..3)), "screen", rng.random(), rng.random(), at),
        7 => beat(&[(&connection, at)], at),
        _ => ended(at),
    }
}

#[test]
fn any_log_has_a_summary_that_adds_up() {
    for seed in 0..4_000 {
        let mut rng = StdRng::seed_from_u64(seed);
        let log: Vec<Fact> = (0..rng.random_range(0..40)).map(|_| garbage(&mut rng)).collect();
        let now = rng.random();
        let summary = summarize(&log, now);
        assert_eq!(serde_json::to_string(&summary).unwrap(), serde_json::to_string(&summarize(&log, now)).unwrap());
        let users: BTreeSet<_> = summary.participants.iter().map(|p| &p.user_id).collect();
        assert_eq!(users.len(), summary.participants.len(), "seed {seed}");
        for person in &summary.participants {
            let end = summary.ended_at.or(person.last_leave_at).unwrap_or(u64::MAX);
            let holds = person.first_join_at >= summary.started_at
                && person.last_leave_at.is_none_or(|at| person.first_join_at <= at && at <= end)
                && person.connected_ms <= end - summary.started_at
                && [person.speaking_ms, person.camera_ms, person.screen_ms].iter().all(|ms| *ms <= person.connected_ms)
                && (summary.ended_at.is_none()
                    || person.visits.iter().all(|v| v.left_at.is_some() && v.reason.is_some()));
            assert!(holds, "seed {seed}: {person:?} of {log:?}");
        }
        let _ = check(&numbered(&log));
        let mut open = Open::default();
        log.iter().for_each(|fact| open.apply(fact));
        let closed = open.crashed();
        closed.iter().for_each(|fact| open.apply(fact));
        assert!(open.meetings.values().all(|m| m.connections.is_empty() && m.empty_since.is_some()), "seed {seed}");
    }
}
