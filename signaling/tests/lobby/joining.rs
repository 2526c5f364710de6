//! Joins, rosters, early events, rooms.

use serde_json::{Value, json};
use signaling::ErrorCode;
use signaling::limits::*;

use crate::world::*;

#[test]
fn the_ack_has_all_that_a_client_needs() {
    let mut w = world();
    w.join("math", "ann");
    let (_, ack) = w.join_with("math", "bob", json!({ "isInstructor": true }));
    assert_eq!(ack["sessionId"], "math");
    assert_eq!(ack["userId"], "bob");
    assert_eq!(ack["role"], "instructor");
    assert_eq!(ack["resumed"], false);
    assert_eq!(ack["iceServers"][0], json!({ "urls": "stun:x" }));
    assert_eq!(ack["permissions"]["publish"], json!(["camera", "microphone", "screen", "screen-audio"]));
    assert_eq!(ack["permissions"]["moderate"], true);
    assert_eq!(users(ack["participants"].as_array().unwrap()), ["ann", "bob"]);
    assert!(ack["meetingId"].as_str().unwrap().starts_with("mtg_"));
    assert!(ack["participantId"].as_str().unwrap().starts_with("p_"));
    // 22 characters of 6 bits are 132 bits.
    assert!(ack["resumeToken"].as_str().unwrap().len() >= 22);
    let entry = &ack["participants"][1];
    let expected = json!({
        "userId": "bob", "userName": "BOB", "isInstructor": true, "role": "instructor",
        "participantId": ack["participantId"], "state": "connected", "handRaised": false, "tracks": [],
    });
    assert_eq!(*entry, expected);
}

#[test]
fn the_others_hear_of_a_join_and_all_get_the_roster() {
    let mut w = world();
    let ann = w.join("math", "ann");
    assert_eq!(users(&w.roster(ann)), ["ann"], "the joiner too, at once");
    w.wait(1_000);
    let (bob, ack) = w.join_with("math", "bob", json!({}));
    let mail = w.mail(ann);
    assert_eq!(names(&mail), ["user-joined", "participants-update"]);
    let joined =
        json!({ "userId": "bob", "userName": "BOB", "isInstructor": false, "participantId": ack["participantId"] });
    assert_eq!(mail[0].1, joined);
    assert_eq!(names(&w.mail(bob)), ["participants-update"], "not of itself");
}

#[test]
fn rosters_are_coalesced() {
    let mut w = world();
    let ann = w.join("math", "ann");
    for user in ["b", "c", "d"] {
        w.join("math", user);
    }
    assert_eq!(w.got(ann, "participants-update").len(), 1, "the first at once, the rest wait");
    w.wait(100);
    assert_eq!(users(&w.roster(ann)), ["ann", "b", "c", "d"]);
    w.wait(10_000);
    assert_eq!(w.mail(ann), []);
}

#[test]
fn large_rooms_get_whole_rosters_each_second_and_lines_meanwhile() {
    let mut w = world();
    let ann = w.join("math", "ann");
    let bob = w.join("math", "bob");
    for n in 0..ROSTER_SMALL_MAX {
        w.join("math", &format!("u{n}"));
    }
    w.wait(5_000);
    w.mail(ann);
    w.granted(bob, "raise-hand", json!({ "raised": true }));
    assert_eq!(w.got(ann, "participants-update").len(), 1, "long quiet: the whole roster at once");
    w.granted(bob, "raise-hand", json!({ "raised": false }));
    w.wait(100);
    let line = w.one(ann, "participant-updated");
    assert_eq!((&line["userId"], &line["handRaised"]), (&json!("bob"), &json!(false)));
    w.wait(1_000);
    assert_eq!(w.got(ann, "participants-update").len(), 1);
}

#[test]
fn leaving_tells_the_others_and_ends_an_empty_meeting() {
    let mut w = world();
    let (ann, first) = w.join_with("math", "ann", json!({}));
    let bob = w.join("math", "bob");
    w.mail(ann);
    w.granted(bob, "leave-session", json!({ "sessionId": "math" }));
    assert_eq!(w.one(ann, "user-left")["reason"], "left");
    w.wait(100);
    assert_eq!(users(&w.roster(ann)), ["ann"]);
    w.bye(ann);
    assert_eq!((w.lobby.gauges().rooms, w.lobby.gauges().participants, w.lobby.gauges().sockets), (0, 0, 1));
    w.wait(EMPTY_TIMEOUT.as_millis() as u64);
    assert_eq!(w.lobby.deadline(), None, "an empty lobby waits for nothing");
    let (_, second) = w.join_with("math", "ann", json!({}));
    assert_ne!(first["meetingId"], second["meetingId"]);
    // The one who left is not in the new meeting.
    assert_eq!(w.refused(bob, "leave-session", json!({})), "session/not_joined");
}

#[test]
fn one_socket_is_in_one_session() {
    let mut w = world();
    let ann = w.join("math", "ann");
    let (bob, first) = w.join_with("math", "bob", json!({}));
    w.mail(ann);
    let again = w.rejoin(bob, "math", "bob", json!({}));
    assert_eq!(again["participantId"], first["participantId"]);
    assert_eq!(again["resumeToken"], first["resumeToken"]);
    assert_eq!(w.got(ann, "user-joined"), Vec::<Value>::new(), "the same again changes nothing");
    w.rejoin(bob, "art", "bob", json!({}));
    assert_eq!(w.one(ann, "user-left")["reason"], "left");
    assert_eq!(w.refused(bob, "chat-message", json!({ "sessionId": "math", "message": "hi" })), "session/not_joined");
    w.granted(bob, "chat-message", json!({ "sessionId": "art", "message": "hi" }));
    // Another user on the same socket: the first one leaves.
    let carl = w.join("art", "carl");
    w.mail(carl);
    w.rejoin(bob, "art", "rob", json!({}));
    assert_eq!(names(&w.mail(carl))[..2], ["user-left", "user-joined"]);
}

#[test]
fn a_refused_join_leaves_things_as_they_were() {
    let mut w = world();
    let ann = w.join("math", "ann");
    assert_eq!(w.refused(ann, "join-session", json!({ "sessionId": "art", "userId": "sfu" })), "request/invalid");
    w.granted(ann, "chat-message", json!({ "message": "still here" }));
}

#[test]
fn names_are_trimmed_numbers_are_strings_and_bad_ones_refused() {
    let mut w = world();
    let (_, ack) = w.join_with("x", "y", json!({ "sessionId": 17, "userId": "  4 ", "userName": null }));
    assert_eq!((&ack["sessionId"], &ack["userId"]), (&json!("17"), &json!("4")));
    assert_eq!(ack["participants"][0]["userName"], "4", "nameless people are called by their id");
    let socket = w.connect();
    let exact = "é".repeat(NAME_CHARS_MAX);
    w.rejoin(socket, &exact, &exact, json!({}));
    let long = "é".repeat(NAME_CHARS_MAX + 1);
    for bad in [
        json!({ "userId": "u" }),
        json!({ "sessionId": "s" }),
        json!({ "sessionId": "", "userId": "u" }),
        json!({ "sessionId": "s", "userId": "   " }),
        json!({ "sessionId": "s", "userId": long }),
        json!({ "sessionId": "s", "userId": "a\u{0}b" }),
        json!({ "sessionId": "s", "userId": ["u"] }),
        json!({ "sessionId": "s", "userId": "u", "userName": "a\nb" }),
        json!({ "sessionId": "s", "userId": " sfu " }),
        json!({ "sessionId": "s", "userId": "u", "media": "tv" }),
        json!({ "sessionId": "s", "userId": "u", "isInstructor": "yes" }),
        json!({ "sessionId": "s", "userId": "u", "autoSubscribe": 1 }),
        json!({ "sessionId": "s", "userId": "u", "resumeToken": {} }),
        json!([]),
        json!("join"),
        Value::Null,
    ] {
        w.wait(1_000);
        assert_eq!(w.refused(socket, "join-session", bad.clone()), "request/invalid", "{bad}");
    }
}

#[test]
fn early_events_wait_for_the_join_and_follow_its_ack_in_order() {
    let mut w = world();
    let ann = w.join("math", "ann");
    let bob = w.connect();
    let first = w.post(bob, "chat-message", json!({ "message": "one" }));
    w.say(bob, "chat-message", json!({ "message": "two" }));
    let other = w.post(bob, "reaction", json!({ "sessionId": "art", "emoji": "👍" }));
    assert_eq!(w.ack(first), None);
    w.wait(1_900);
    w.mail(ann);
    w.rejoin(bob, "math", "bob", json!({}));
    assert_eq!(w.ack(first).unwrap()["ok"], true);
    assert_eq!(code(&w.ack(other).unwrap()), "session/not_joined", "it was meant for another session");
    let mail = w.mail(ann);
    let said: Vec<_> = mail.iter().filter(|(n, _)| *n == "chat-message").map(|(_, p)| p["message"].clone()).collect();
    assert_eq!(said, ["one", "two"]);
    w.wait(10_000);
    assert_eq!(w.got(bob, "session-error"), Vec::<Value>::new(), "they do not expire as well");
}

#[test]
fn early_events_expire_each_after_its_own_wait() {
    let mut w = world();
    let bob = w.connect();
    let first = w.post(bob, "raise-hand", json!({ "raised": true }));
    w.wait(1_000);
    w.say(bob, "reaction", json!({ "emoji": "👍" }));
    w.wait(999);
    assert_eq!(w.ack(first), None);
    w.wait(1);
    assert_eq!(code(&w.ack(first).unwrap()), "session/not_joined");
    assert_eq!(w.mail(bob), []);
    w.wait(1_000);
    let error = w.one(bob, "session-error");
    assert_eq!((&error["code"], &error["event"]), (&json!("session/not_joined"), &json!("reaction")));
}

#[test]
fn what_waits_is_bounded_in_count_and_bytes() {
    let mut w = world();
    let bob = w.connect();
    for _ in 0..EARLY_EVENTS_MAX {
        w.post(bob, "reaction", json!({ "emoji": "👍" }));
    }
    assert!(w.acks.is_empty());
    assert_eq!(w.refused(bob, "reaction", json!({ "emoji": "👍" })), "session/not_joined");
    let carl = w.connect();
    w.post(carl, "offer", json!({ "offer": "x".repeat(EARLY_BYTES_MAX - 100) }));
    assert_eq!(w.refused(carl, "offer", json!({ "offer": "x".repeat(200) })), "session/not_joined");
    // A leave waits for nothing: replayed behind the join it would undo it.
    let dave = w.connect();
    assert_eq!(w.refused(dave, "leave-session", json!({})), "session/not_joined");
    w.drop(bob);
    assert_eq!(w.acks.len(), EARLY_EVENTS_MAX + 3, "all that waited is answered in the end");
}

#[test]
fn unknown_events_and_shapes_are_answered() {
    let mut w = world();
    let ann = w.join("math", "ann");
    assert_eq!(w.refused(ann, "dance", json!({})), "request/invalid");
    assert_eq!(w.refused(ann, "offer", json!([1])), "request/invalid");
    assert_eq!(w.refused(ann, "moderate", json!({ "action": "end" })), "session/forbidden");
    w.mail(ann);
    w.say(ann, &"x".repeat(10_000), Value::Null);
    let error = w.one(ann, "session-error");
    assert_eq!(error["code"], "request/invalid");
    assert_eq!(error["event"].as_str().unwrap().len(), 64);
}

#[test]
fn codes_are_distinct_words() {
    let words: std::collections::BTreeSet<_> = ErrorCode::ALL.iter().map(|c| c.as_str()).collect();
    assert_eq!(words.len(), ErrorCode::ALL.len());
    assert_eq!(ErrorCode::from(sfu::Refusal::NotPermitted).as_str(), "media/not_permitted");
}
