//! The golden day: 30 people, 6 rooms, 8 hours, whatever happens on a school day. Its summaries are a file.
//!
//! `LYCEUM_GOLDEN=write` writes the file anew; its diff then says what a change does to attendance.

use std::fmt::Write as _;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use signaling::attendance::{Summary, summarize};
use signaling::{Fact, SameUser};

use crate::histories::faults;
use crate::school::School;
use crate::script::{Script, Step};

const PEOPLE: usize = 30;
const ROOMS: usize = 6;
const HOURS: usize = 8;
const HOUR: u64 = 3_600_000;
const MINUTE: u64 = 60_000;

/// A device for each person and room.
fn device(person: usize, room: usize) -> usize {
    person * ROOMS + room
}

fn day() -> Script {
    let mut rng = StdRng::seed_from_u64(2026);
    let mut plan: Vec<(u64, Step)> = Vec::new();
    // Who is there when the server crashes.
    let mut crashed = Vec::new();
    for hour in 0..HOURS {
        let bell = hour as u64 * HOUR + 5 * MINUTE;
        for room in 0..ROOMS {
            // Groups of five go from room to room; the first of each is never late.
            let group: Vec<usize> = (0..PEOPLE).filter(|person| (person / 5 + hour) % ROOMS == room).collect();
            for (n, person) in group.iter().enumerate() {
                let device = device(*person, room);
                if n > 0 && rng.random_bool(0.05) {
                    continue;
                }
                let join = |resumes| Step::Join { device, resumes, fresh: true };
                let came = bell + if n == 0 { 0 } else { rng.random_range(0..6 * MINUTE) };
                plan.push((came, join(false)));
                if hour == 3 {
                    crashed.push(device);
                }
                plan.push((came + 2_000, Step::Publish { device, screen: n == 0, muted: false }));
                if rng.random_bool(0.3) {
                    let broke = came + rng.random_range(5 * MINUTE..20 * MINUTE);
                    plan.push((broke, Step::Dark { device, found_after: rng.random_range(0..20_000) }));
                    plan.push((broke + rng.random_range(500..60_000), join(rng.random())));
                }
                if rng.random_bool(0.3) {
                    let muted = came + rng.random_range(5 * MINUTE..30 * MINUTE);
                    plan.push((muted, Step::Mute { device, muted: true }));
                }
                if n > 0 && rng.random_bool(0.1) {
                    plan.push((
                        bell + rng.random_range(20 * MINUTE..40 * MINUTE),
                        Step::Leave { device, by_event: true },
                    ));
                }
                let end = bell + 45 * MINUTE + if n == 0 { MINUTE } else { rng.random_range(0..MINUTE) };
                plan.push((end, Step::Leave { device, by_event: false }));
            }
            for minute in 2..40 {
                let speaks = group[rng.random_range(0..group.len())];
                let at = bell + minute * MINUTE + rng.random_range(0..MINUTE);
                plan.push((at, Step::Speak { devices: vec![device(speaks, room)] }));
            }
            if (hour + room) % 5 == 0 {
                plan.push((bell + 45 * MINUTE + 30_000, Step::End { session: room }));
            }
        }
    }
    let crash = 3 * HOUR + 25 * MINUTE;
    plan.push((crash, Step::Crash { down: 4_000 }));
    for (n, device) in crashed.into_iter().enumerate() {
        plan.push((crash + 5_000 + n as u64 * 400, Step::Join { device, resumes: true, fresh: true }));
    }
    plan.push((4 * HOUR + 10 * MINUTE, Step::Outage(true)));
    plan.push((4 * HOUR + 35 * MINUTE, Step::Outage(false)));
    plan.push((5 * HOUR + 20 * MINUTE, Step::SetClock(3_600_000)));
    plan.push((6 * HOUR + 20 * MINUTE, Step::SetClock(-3_600_000)));
    plan.sort_by_key(|(at, _)| *at);
    let mut steps = Vec::new();
    let mut now = 0;
    for (at, step) in plan {
        // A crash takes its time; what was planned for it comes after.
        steps.push(Step::Wait(at.saturating_sub(now)));
        now = now.max(at);
        if let Step::Crash { down } = &step {
            now += down;
        }
        steps.push(step);
    }
    let devices = (0..PEOPLE * ROOMS).map(|d| (format!("person-{:02}", d / ROOMS), d % ROOMS)).collect();
    Script { devices, same_user: SameUser::Replace, has_tokens: false, steps }
}

/// One line for each meeting, in order of their start. Ids of meetings are random and say nothing: they are numbered.
fn written(school: &School) -> String {
    let logs = school.store.values().map(|log| log.iter().map(|(_, fact)| fact.clone()).collect::<Vec<Fact>>());
    let mut summaries: Vec<Summary> = logs.map(|log| summarize(&log, 0)).collect();
    summaries.sort_by(|a, b| (a.started_at, &a.session_id).cmp(&(b.started_at, &b.session_id)));
    let mut text = String::from("[\n");
    let last = summaries.len() - 1;
    for (n, mut summary) in summaries.into_iter().enumerate() {
        summary.meeting_id = format!("meeting-{:02}", n + 1).into();
        let comma = if n < last { "," } else { "" };
        writeln!(text, "{}{comma}", serde_json::to_string(&summary).unwrap()).unwrap();
    }
    text.push_str("]\n");
    text
}

#[test]
fn the_golden_day_is_as_it_was() {
    let school = School::play(day());
    assert_eq!(faults(&school), [""; 0]);
    assert!(school.store.len() >= ROOMS * HOURS, "{} meetings", school.store.len());
    let text = written(&school);
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/attendance/golden_day.json");
    if std::env::var("LYCEUM_GOLDEN").is_ok_and(|what| what == "write") {
        std::fs::write(path, &text).unwrap();
    }
    let golden = std::fs::read_to_string(path).unwrap();
    for (n, (now, then)) in text.lines().zip(golden.lines()).enumerate() {
        assert_eq!(now, then, "line {}", n + 1);
    }
    assert_eq!(text.lines().count(), golden.lines().count());
}
