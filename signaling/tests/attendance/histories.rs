//! Random histories that drive the real lobby, against the truth.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use signaling::attendance::{check, summarize};
use signaling::{Fact, Reason};

use crate::school::School;
use crate::script::{Script, Step};

/// Histories of a default run; `LYCEUM_LONG` makes it ten times as many.
const HISTORIES: u64 = 10_000;

/// So many failing histories are shrunk and told.
const FAILURES_MAX: usize = 8;

/// What is wrong with a history, if anything.
pub(crate) fn faults(school: &School) -> Vec<String> {
    let mut faults = Vec::new();
    let expected = school.truth.expected();
    let mut counted = 0;
    for (meeting, log) in &school.store {
        faults.extend(check(log).into_iter().map(|wrong| format!("{meeting}: {wrong}")));
        if !matches!(log.last(), Some((_, Fact::MeetingEnded { .. }))) {
            faults.push(format!("{meeting} has no end"));
        }
        let facts: Vec<Fact> = log.iter().map(|(_, fact)| fact.clone()).collect();
        let summary = summarize(&facts, 0);
        let mut is_exact = true;
        for person in &summary.participants {
            counted += 1;
            let Some(truth) = expected.get(&(&**meeting, &*person.user_id)) else {
                faults.push(format!("{meeting}: {} was never there", person.user_id));
                continue;
            };
            is_exact &= truth.short == 0 && truth.beyond == 0;
            let close = |counted: u64, real: u64| counted + truth.short >= real && counted <= real + truth.beyond;
            let holds = close(person.connected_ms, truth.connected)
                && close(person.camera_ms, truth.camera)
                && close(person.screen_ms, truth.screen);
            if !holds {
                faults.push(format!("{meeting}: {truth:?} is true, {person:?} is counted"));
            }
            let crashed = person.visits.iter().any(|v| v.reason == Some(Reason::Crashed) && v.uncertainty_ms == 0);
            if crashed {
                faults.push(format!("{meeting}: a crash of {} is certain", person.user_id));
            }
        }
        let peak = school.truth.peak(meeting).filter(|_| is_exact);
        if peak.is_some_and(|peak| peak != summary.peak_participants as usize) {
            faults.push(format!("{meeting}: the peak is {peak:?}, {} is counted", summary.peak_participants));
        }
    }
    if counted != expected.len() {
        faults.push(format!("{counted} attendances, not {}", expected.len()));
    }
    faults
}

fn run(script: &Script) -> (Vec<String>, BTreeMap<&'static str, u64>) {
    let played = catch_unwind(AssertUnwindSafe(|| {
        let school = School::play(script.clone());
        (faults(&school), school.effects)
    }));
    played.unwrap_or_else(|panic| {
        let why = panic.downcast_ref::<String>().cloned();
        let why = why.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
        (vec![format!("panic: {}", why.unwrap_or_default())], BTreeMap::new())
    })
}

/// What took effect how often, and which seeds failed.
fn run_all(seeds: &[u64]) -> (BTreeMap<&'static str, u64>, Vec<u64>) {
    let (mut effects, mut failed) = (BTreeMap::new(), Vec::new());
    for seed in seeds {
        let (faults, did) = run(&Script::random(*seed));
        did.into_iter().for_each(|(what, times)| *effects.entry(what).or_default() += times);
        if !faults.is_empty() {
            failed.push(*seed);
        }
        if failed.len() >= FAILURES_MAX {
            break;
        }
    }
    (effects, failed)
}

/// The least of a script that still fails: steps are left out, many at a time and then one by one.
fn shrink(mut script: Script) -> Script {
    let mut chunk = script.steps.len() / 2;
    while chunk > 0 {
        let mut at = 0;
        while at < script.steps.len() {
            let mut less = script.clone();
            less.steps.drain(at..(at + chunk).min(less.steps.len()));
            if run(&less).0.is_empty() { at += chunk } else { script = less }
        }
        chunk /= 2;
    }
    script
}

#[test]
fn histories_are_counted_as_they_were() {
    let seeds: Vec<u64> = match std::env::var("LYCEUM_SEED") {
        Ok(seed) => vec![seed.parse().expect("a number")],
        Err(_) => (0..HISTORIES
            * if std::env::var_os("LYCEUM_LONG").is_some_and(|long| !long.is_empty()) { 10 } else { 1 })
            .collect(),
    };
    println!("seeds {} to {}", seeds[0], seeds[seeds.len() - 1]);
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    let (mut effects, mut failed) = (BTreeMap::<&str, u64>::new(), Vec::new());
    std::thread::scope(|scope| {
        let shares = seeds.chunks(seeds.len().div_ceil(threads));
        let running: Vec<_> = shares.map(|share| scope.spawn(|| run_all(share))).collect();
        for share in running {
            let (did, seeds) = share.join().expect("a panic of a history is its fault");
            did.into_iter().for_each(|(what, times)| *effects.entry(what).or_default() += times);
            failed.extend(seeds);
        }
    });
    for seed in &failed {
        let least = shrink(Script::random(*seed));
        println!("LYCEUM_SEED={seed}: {:#?}\n{least:?}", run(&least).0);
    }
    assert!(failed.is_empty(), "LYCEUM_SEED={}", failed[0]);
    println!("{effects:?}");
    if seeds.len() > 1 {
        let all = ["join", "resume", "drop", "refused", "refused for its token", "remove", "end", "crash", "drain"];
        for what in all.iter().chain(&["publish", "mute", "media after the socket"]) {
            assert!(effects.get(what).is_some_and(|times| *times > 100), "{what} hardly ever took effect: {effects:?}");
        }
    }
}

#[test]
fn a_script_is_the_same_each_time() {
    let written = |seed| {
        let school = School::play(Script::random(seed));
        serde_json::to_string(&school.store).unwrap()
    };
    assert_eq!(written(3), written(3));
    let steps: usize = (0..50).map(|seed| Script::random(seed).steps.len()).sum();
    assert!(steps > 500, "scripts have steps");
    let crashes = |seed| Script::random(seed).steps.iter().filter(|s| matches!(s, Step::Crash { .. })).count();
    assert!((0..50).map(crashes).sum::<usize>() > 5, "and crashes");
}
