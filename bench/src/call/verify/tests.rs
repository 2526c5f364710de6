//! A truthful server passes; each fault that it may have is found.

use std::sync::Arc;

use signaling::Reason;

use super::*;

const GRACE_MS: u64 = 20_000;

fn stay(user: &str, from: u64, to: u64) -> Stay {
    Stay {
        user: user.to_owned(),
        session: "algebra-0".to_owned(),
        meeting: "mtg_1".to_owned(),
        participant: format!("p_{user}"),
        resumed: false,
        asked: from - 10,
        acked: from + 10,
        end: End::Left { sent: to - 10, acked: to + 10 },
    }
}

/// Ann was there twice, Bob once and was cut off.
fn truth() -> Vec<Stay> {
    let mut bob = stay("bob", 2_000, 50_000);
    bob.end = End::Dropped { at: 50_000 };
    vec![stay("ann", 1_000, 10_000), stay("ann", 60_000, 70_000), bob]
}

fn visit(joined_at: u64, left_at: u64) -> Visit {
    Visit { joined_at, left_at: Some(left_at), reason: Some(Reason::Left), gaps_ms: 0, uncertainty_ms: 0 }
}

fn summary() -> Summary {
    let person = |user: &str, connected_ms, visits: Vec<Visit>| Attendee {
        user_id: Arc::from(user),
        connected_ms,
        visits,
        ..Attendee::default()
    };
    Summary {
        meeting_id: Arc::from("mtg_1"),
        session_id: Arc::from("algebra-0"),
        grace_ms: GRACE_MS,
        participants: vec![
            person("ann", 19_000, vec![visit(1_000, 10_000), visit(60_005, 70_000)]),
            person("bob", 45_000, vec![visit(2_000, 47_000)]),
        ],
        ..serde_json::from_value(serde_json::json!({
            "meetingId": "", "sessionId": "", "version": 1, "startedAt": 0, "endedAt": null, "graceMs": 0,
            "peakParticipants": 2, "totalParticipants": 2, "uncertaintyMs": 0, "participants": [],
        }))
        .expect("a summary")
    }
}

fn events() -> Vec<Event> {
    let tell = |number: u64, kind: &str, user: &str, connection: &str, at| Event {
        id: format!("msg_{number}"),
        kind: kind.to_owned(),
        session: "algebra-0".to_owned(),
        meeting: "mtg_1".to_owned(),
        room_seq: number,
        connection: connection.to_owned(),
        user: user.to_owned(),
        at,
    };
    vec![
        tell(1, "session.started", "", "", 990),
        tell(2, "participant.joined", "ann", "c_1", 1_000),
        tell(3, "participant.joined", "bob", "c_2", 2_000),
        tell(4, "participant.left", "ann", "c_1", 10_000),
        tell(5, "participant.left", "bob", "c_2", 47_000),
        tell(6, "participant.joined", "ann", "c_3", 60_005),
        tell(7, "participant.left", "ann", "c_3", 70_000),
    ]
}

fn judge(change: impl FnOnce(&mut Summary, &mut Vec<Event>)) -> Verdict {
    let (mut summary, mut events) = (summary(), events());
    change(&mut summary, &mut events);
    verify(&truth(), &[summary], Some(&events), Tolerance(100))
}

#[test]
fn a_truthful_server_passes_and_the_error_is_told() {
    let verdict = judge(|_, _| {});
    assert_eq!(verdict.faults, [""; 0], "{verdict}");
    assert_eq!((verdict.stays, verdict.meetings, verdict.webhooks), (3, 1, 7));
    // Bob's end is his last proof of life.
    assert_eq!(verdict.error_ms.max, Some(3_000.0));
    let repeated = judge(|_, events| events.push(events[3].clone()));
    assert!(repeated.passed() && repeated.repeated == 1, "at least once is allowed: {repeated}");
}

#[test]
fn a_tampered_store_is_found() {
    let visits = |summary: &mut Summary, user: usize| std::mem::take(&mut summary.participants[user].visits);
    for (name, found, verdict) in [
        ("a visit was moved", [0, 0, 0, 1], judge(|it, _| it.participants[0].visits[0].joined_at += 500)),
        ("a visit was made longer", [0, 0, 0, 1], judge(|it, _| it.participants[0].visits[1].left_at = Some(90_000))),
        ("minutes were added", [0, 0, 0, 1], judge(|it, _| it.participants[0].connected_ms += 60_000)),
        ("a visit was deleted", [1, 0, 0, 0], judge(|it, _| it.participants[0].visits.truncate(1))),
        ("all visits were", [1, 0, 0, 0], judge(|it, _| drop(visits(it, 1)))),
        ("a visit was invented", [0, 1, 0, 0], judge(|it, _| it.participants[1].visits.push(visit(80_000, 90_000)))),
        ("somebody was deleted", [1, 0, 0, 0], judge(|it, _| drop(it.participants.pop()))),
        ("somebody was doubled", [0, 1, 0, 0], judge(|it, _| it.participants.push(it.participants[1].clone()))),
        ("it never ended", [1, 0, 0, 0], judge(|it, _| it.participants[1].visits[0].left_at = None)),
        ("another meeting", [1, 0, 0, 0], judge(|it, _| it.meeting_id = Arc::from("mtg_2"))),
    ] {
        let counts = [verdict.missing, verdict.doubled, verdict.misordered, verdict.wrong];
        assert_eq!(counts, found, "{name}: {verdict}");
    }
}

#[test]
fn what_is_wrong_with_webhooks_is_found() {
    let doubled = |events: &mut Vec<Event>| {
        let again = Event { id: "msg_8".to_owned(), room_seq: 8, ..events[6].clone() };
        events.push(again);
    };
    for (name, found, verdict) in [
        ("one in the middle was lost", [2, 0, 0, 0], judge(|_, events| drop(events.remove(3)))),
        ("the last was lost", [1, 0, 0, 0], judge(|_, events| drop(events.pop()))),
        ("one came too late", [0, 0, 1, 0], judge(|_, events| events.swap(2, 3))),
        ("one was told under two ids", [0, 1, 0, 0], judge(|_, events| doubled(events))),
        ("a time is wrong", [0, 0, 0, 1], judge(|_, events| events[1].at += 700)),
        ("none came", [6 - 2, 0, 0, 0], judge(|_, events| events.clear())),
    ] {
        let counts = [verdict.missing, verdict.doubled, verdict.misordered, verdict.wrong];
        assert_eq!(counts, found, "{name}: {verdict}");
    }
}

#[test]
fn a_gap_within_the_grace_time_is_one_visit() {
    let mut stays = truth();
    stays[1] = stay("ann", 15_000, 70_000);
    let mut summary = summary();
    let ann = &mut summary.participants[0];
    (ann.visits, ann.connected_ms) = (vec![visit(1_000, 70_000)], 64_000);
    let verdict = verify(&stays, &[summary], None, Tolerance(100));
    assert!(verdict.passed(), "{verdict}");
}
