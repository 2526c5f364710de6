//! The summary, rule by rule.

use signaling::attendance::{Summary, Visit, check, erase, erase_log, summarize};
use signaling::{Fact, Reason, Role};

use crate::facts::*;

/// The summary of a log that keeps the invariants.
fn good(log: &[Fact]) -> Summary {
    assert_eq!(check(&numbered(log)), [""; 0]);
    summarize(log, 0)
}

fn visit(joined_at: u64, left_at: u64, reason: Reason, gaps_ms: u64, uncertainty_ms: u64) -> Visit {
    Visit { joined_at, left_at: Some(left_at), reason: Some(reason), gaps_ms, uncertainty_ms }
}

#[test]
fn two_devices_count_once() {
    let log = [
        started(1_000),
        seated("a", "p1", "ann", 1_000),
        seated("b", "p2", "ann", 3_000),
        left("a", 5_000, Reason::Left),
        left("b", 9_000, Reason::Disconnected),
        ended(9_000),
    ];
    let summary = good(&log);
    let ann = &summary.participants[0];
    assert_eq!((ann.connected_ms, ann.first_join_at, ann.last_leave_at), (8_000, 1_000, Some(9_000)));
    assert_eq!(ann.visits, [visit(1_000, 9_000, Reason::Disconnected, 0, 0)]);
    assert_eq!((summary.peak_participants, summary.total_participants), (1, 1));
    assert_eq!((summary.started_at, summary.ended_at), (1_000, Some(9_000)));
}

#[test]
fn a_gap_up_to_the_grace_time_is_within_a_visit_and_does_not_count() {
    let log = [
        started(0),
        joined("a", "ann", 0),
        left("a", 10_000, Reason::Disconnected),
        resumed("b", "ann", "a", 30_000),
        left("b", 40_000, Reason::Left),
        joined("c", "ann", 60_001),
        left("c", 60_002, Reason::Removed),
        ended(60_002),
    ];
    let ann = &good(&log).participants[0];
    assert_eq!(ann.connected_ms, 20_001);
    let visits = [visit(0, 40_000, Reason::Left, 20_000, 0), visit(60_001, 60_002, Reason::Removed, 0, 0)];
    assert_eq!(ann.visits, visits);
}

#[test]
fn a_crash_leaves_an_uncertainty() {
    let log = [
        started(0),
        joined("a", "ann", 0),
        joined("b", "ben", 0),
        crashed("a", 10_000, 10_000),
        crashed("b", 12_000, 10_000),
        joined("c", "ann", 15_000),
        left("c", 20_000, Reason::Left),
        ended(20_000),
    ];
    let summary = good(&log);
    assert_eq!(summary.uncertainty_ms, 10_000);
    assert_eq!(summary.participants[0].visits, [visit(0, 20_000, Reason::Left, 5_000, 0)]);
    assert_eq!(summary.participants[1].visits, [visit(0, 12_000, Reason::Crashed, 0, 10_000)]);
}

#[test]
fn an_end_that_is_known_takes_the_place_of_a_guess() {
    let log = [started(0), joined("a", "ann", 0), crashed("a", 5, 60), left("a", 50, Reason::Left), ended(50)];
    assert_eq!(good(&log).participants[0].visits, [visit(0, 50, Reason::Left, 0, 0)]);
    let twice = [started(0), joined("a", "ann", 0), left("a", 50, Reason::Left), crashed("a", 90, 60), ended(50)];
    assert_eq!(summarize(&twice, 0).participants[0].connected_ms, 50);
    assert!(check(&numbered(&twice)).iter().any(|wrong| wrong == "fact 4: a had left"));
}

#[test]
fn cameras_and_screens_count_while_they_show_within_connections() {
    let log = [
        started(0),
        joined("a", "ann", 0),
        track("a", "t1", "camera", true, true, 1_000),
        track("a", "t1", "camera", true, false, 2_000),
        track("a", "t2", "camera", true, false, 3_000),
        track("a", "t1", "camera", false, false, 4_000),
        track("a", "t3", "screen", true, false, 4_000),
        track("a", "t4", "screen-audio", true, false, 4_000),
        track("a", "t2", "camera", true, true, 6_000),
        track("a", "t2", "camera", true, false, 7_000),
        // Its socket was last heard of at 8,000; the seat goes on with what it publishes at 10,000.
        track("a", "t3", "screen", false, false, 9_000),
        left("a", 8_000, Reason::Disconnected),
        resumed("b", "ann", "a", 10_000),
        left("b", 11_000, Reason::Left),
        ended(11_000),
    ];
    let ann = &good(&log).participants[0];
    assert_eq!(ann.connected_ms, 9_000);
    assert_eq!(ann.camera_ms, 4_000 + 1_000 + 1_000);
    assert_eq!(ann.screen_ms, 4_000);
}

#[test]
fn speaking_is_no_more_than_being_there() {
    let log = [
        started(0),
        joined("a", "ann", 0),
        joined("b", "ben", 0),
        beat(&[("a", 3_000), ("b", 9_000)], 10_000),
        beat(&[("a", 4_000), ("b", u64::MAX)], 20_000),
        left("a", 20_000, Reason::Left),
        left("b", 20_000, Reason::Left),
        ended(20_000),
    ];
    let spoke: Vec<u64> = good(&log).participants.iter().map(|p| p.speaking_ms).collect();
    assert_eq!(spoke, [7_000, 20_000]);
}

#[test]
fn the_last_name_and_the_highest_role() {
    let log = [
        started(0),
        joined("b", "ben", 0),
        joined("a", "ann", 0),
        changed("a", "Ann", Role::Instructor, 5),
        changed("a", "Anna", Role::Observer, 6),
        changed("b", "Ben", Role::Observer, 6),
        left("a", 9, Reason::Ended),
        left("b", 9, Reason::Ended),
        ended(9),
    ];
    let people = good(&log).participants;
    let people: Vec<_> = people.iter().map(|p| (&*p.user_id, &*p.user_name, p.role)).collect();
    assert_eq!(people, [("ann", "Anna", Role::Instructor), ("ben", "Ben", Role::Participant)]);
}

#[test]
fn a_running_meeting_is_summed_up_as_of_now() {
    let log = [
        started(0),
        joined("a", "ann", 0),
        joined("b", "ben", 1_000),
        left("b", 2_000, Reason::Left),
        track("a", "t", "camera", true, false, 3_000),
    ];
    let summary = summarize(&log, 5_000);
    assert_eq!((summary.ended_at, summary.peak_participants), (None, 2));
    let [ann, ben] = &summary.participants[..] else { panic!("two people") };
    assert_eq!((ann.connected_ms, ann.camera_ms, ann.last_leave_at), (5_000, 2_000, None));
    assert_eq!(ann.visits, [Visit { joined_at: 0, left_at: None, reason: None, gaps_ms: 0, uncertainty_ms: 0 }]);
    assert_eq!((ben.connected_ms, ben.last_leave_at), (1_000, Some(2_000)));
    assert_eq!(summarize(&log, 1_500).participants[0].connected_ms, 3_000, "a clock behind the log is not believed");
    assert_eq!(check(&numbered(&log)), [""; 0]);
}

#[test]
fn an_end_that_is_missing_is_the_last_proof_of_life() {
    let log = [started(0), joined("a", "ann", 0), beat(&[("a", 0)], 4_000), ended(9_000)];
    let ann = &summarize(&log, 0).participants[0];
    assert_eq!(ann.visits, [visit(0, 4_000, Reason::Crashed, 0, 5_000)]);
    assert_eq!(check(&numbered(&log))[0], "fact 4: the meeting ended over an open connection");
}

#[test]
fn a_log_of_nothing_has_a_summary() {
    assert_eq!(summarize(&[], 5), Summary { version: 1, ..Summary::default() });
    let nobody = good(&[started(7), ended(7)]);
    assert_eq!((nobody.started_at, nobody.ended_at, nobody.peak_participants), (7, Some(7), 0));
}

#[test]
fn forgetting_keeps_the_minutes() {
    let mut log = vec![
        started(0),
        joined("z", "zoe", 0),
        joined("a", "ann", 0),
        joined("e", "erased_1", 0),
        changed("a", "Ann", Role::Instructor, 5),
        left("a", 9_000, Reason::Ended),
        left("e", 9_000, Reason::Ended),
        left("z", 9_000, Reason::Ended),
        ended(9_000),
    ];
    let before = good(&log);
    let after = erase(before.clone(), "ann");
    assert_eq!(after.version, 2);
    let minutes = |s: &Summary| s.participants.iter().map(|p| (p.connected_ms, p.role)).collect::<Vec<_>>();
    assert_eq!(minutes(&after).len(), minutes(&before).len());
    let text = serde_json::to_string(&after).unwrap();
    assert!(!text.to_lowercase().contains("ann"), "{text}");
    assert!(text.contains("erased_2"), "a name that is not taken: {text}");
    assert_eq!(erase(after.clone(), "ann"), after, "there is nobody of that name");
    erase_log(&mut log, "ann");
    assert_eq!(Summary { version: 2, ..good(&log) }, after);
}

#[test]
fn the_checker_finds_what_is_wrong() {
    let find = |log: &[Fact], wrong: &str| {
        let found = check(&numbered(log));
        assert!(found.iter().any(|f| f.contains(wrong)), "{wrong}: {found:?}");
    };
    find(&[joined("a", "ann", 0)], "a meeting starts once, first of all");
    find(&[started(5), joined("a", "ann", 4)], "time goes back by 1 ms");
    find(&[started(0), joined("a", "ann", 0), joined("a", "ann", 1)], "a had joined");
    find(&[started(0), left("a", 0, Reason::Left)], "a left and never joined");
    find(&[started(0), joined("a", "ann", 5), left("a", 4, Reason::Left)], "a left before it joined");
    find(&[started(0), beat(&[("a", 0)], 5)], "a is not open");
    find(&[started(0), ended(0), joined("a", "ann", 5)], "the meeting had ended");
    find(&[started(0), joined("a", "ann", 5), left("a", 9, Reason::Left), ended(10)], "its last connection at 9");
    let late = joined("b", "ann", 9 + 120_000 + GRACE_MS + 60_001);
    find(&[started(0), joined("a", "ann", 5), left("a", 9, Reason::Left), late], "the meeting had been empty");
    find(&[started(0), joined("a", "ann", 5), resumed("b", "ann", "a", 6)], "which is no ended connection");
    assert_eq!(check(&[(2, started(0))])[0], "fact 1: seq 2 is not dense");
}
