//! The rules of rooms, set before and while somebody is there, and what late joiners are told.

use serde_json::{Value, json};
use sfu::{Request, Source, Sources};
use signaling::limits::*;
use signaling::{Fact, Input, RoomSettings};

use crate::world::*;

#[test]
fn what_is_off_is_off_for_those_who_do_not_moderate() {
    let mut w = world();
    w.rules("math", RoomSettings { video: false, screen_share: false, chat: false, ..Default::default() });
    let (tea, ack) = w.join_with("math", "tea", json!({ "isInstructor": true }));
    assert_eq!(ack["permissions"]["publish"].as_array().map(Vec::len), Some(4));
    let (ann, ack) = w.join_with("math", "ann", json!({ "media": "sfu" }));
    assert_eq!((&ack["permissions"]["publish"], &ack["permissions"]["chat"]), (&json!(["microphone"]), &json!(false)));
    let requests = w.requests();
    let Some(Request::Join { rights, .. }) = requests.first() else { panic!("{requests:?}") };
    assert_eq!(rights.publish, Sources::NONE.with(Source::Microphone));
    assert_eq!(w.refused(ann, "chat-message", json!({ "message": "hi" })), "session/forbidden");
    assert_eq!(w.refused(ann, "reaction", json!({ "emoji": "👍" })), "session/forbidden");
    w.granted(ann, "raise-hand", json!({ "raised": true }));
    w.granted(tea, "chat-message", json!({ "message": "hi" }));
    // Another session has the server's own rules.
    let (_, ack) = w.join_with("art", "ann", json!({}));
    assert_eq!(ack["permissions"]["chat"], true);
}

#[test]
fn rules_change_at_once_and_everybody_is_told() {
    let mut w = world();
    let (ann, ack) = w.join_with("math", "ann", json!({ "media": "sfu" }));
    assert_eq!(ack["metadata"], Value::Null);
    w.mail(ann);
    w.requests();
    let settings =
        RoomSettings { video: false, capacity: 1, metadata: json!({ "title": "Fractions" }), ..Default::default() };
    w.rules("math", settings.clone());
    let mail = w.mail(ann);
    assert_eq!(names(&mail)[..2], ["session-updated", "permissions"]);
    assert_eq!((&mail[0].1["metadata"]["title"], &mail[0].1["video"]), (&json!("Fractions"), &json!(false)));
    assert_eq!(mail[1].1["permissions"]["publish"], json!(["microphone", "screen", "screen-audio"]));
    assert!(matches!(w.requests()[..], [Request::Rights { rights, .. }] if !rights.publish.has(Source::Camera)));
    let bob = w.connect();
    let join = json!({ "sessionId": "math", "userId": "bob" });
    assert_eq!(w.refused(bob, "join-session", join.clone()), "session/full");
    w.rules("math", settings);
    assert_eq!(w.mail(ann), [], "the same again is no news");
    w.handle(Input::Settings { session: "math".into(), settings: None });
    assert_eq!(names(&w.mail(ann)), ["session-updated", "permissions"]);
    assert_eq!(w.granted(bob, "join-session", join)["metadata"], Value::Null);
}

#[test]
fn grace_is_the_rooms_own() {
    let mut w = world();
    w.rules("math", RoomSettings { grace_ms: Some(1_000), ..Default::default() });
    let ann = w.join("math", "ann");
    w.drop(ann);
    w.wait(999);
    assert_eq!(w.lobby.gauges().participants, 1);
    w.wait(1);
    assert_eq!(w.lobby.gauges().participants, 0);
}

#[test]
fn late_joiners_hear_what_was_said() {
    let mut w = world();
    let (ann, ack) = w.join_with("math", "ann", json!({}));
    assert_eq!(ack["chat"], json!([]));
    for n in 0..CHAT_HISTORY_MAX + 3 {
        w.wait(200);
        w.granted(ann, "chat-message", json!({ "message": n.to_string(), "clientId": n }));
    }
    assert!(
        matches!(w.facts.last(), Some(Fact::Chat { message, .. }) if **message == *(CHAT_HISTORY_MAX + 2).to_string())
    );
    assert_eq!(w.last_after.map(|id| id.0), Some(w.facts.len() as u64), "the ack waits until it is written down");
    let again = json!({ "message": "x", "clientId": CHAT_HISTORY_MAX + 2 });
    w.granted(ann, "chat-message", again);
    assert_eq!(w.last_after.map(|id| id.0), Some(w.facts.len() as u64), "and that of its repetition");
    let (_, ack) = w.join_with("math", "bob", json!({}));
    let said = ack["chat"].as_array().unwrap();
    assert_eq!((said.len(), &said[0]["message"], &said[0]["userId"]), (CHAT_HISTORY_MAX, &json!("3"), &json!("ann")));
    let long = "x".repeat(CHAT_BYTES_MAX);
    for _ in 0..CHAT_HISTORY_BYTES_MAX / CHAT_BYTES_MAX + 2 {
        w.wait(200);
        w.granted(ann, "chat-message", json!({ "message": long }));
    }
    let (_, ack) = w.join_with("math", "carl", json!({}));
    let bytes: usize = ack["chat"].as_array().unwrap().iter().map(|m| m.to_string().len()).sum();
    assert!((CHAT_HISTORY_BYTES_MAX - 2 * CHAT_BYTES_MAX..=CHAT_HISTORY_BYTES_MAX).contains(&bytes), "{bytes}");
    w.rules("math", RoomSettings { chat_history: false, ..Default::default() });
    let (_, ack) = w.join_with("math", "dora", json!({}));
    assert_eq!(ack.get("chat"), None);
}

#[test]
fn metadata_of_participants_is_in_the_roster() {
    let mut w = world();
    let (_, ack) = w.join_with("math", "ann", json!({ "metadata": { "photo": "a.png" } }));
    assert_eq!(ack["participants"][0]["metadata"], json!({ "photo": "a.png" }));
    let socket = w.connect();
    let long = json!({ "sessionId": "math", "userId": "u", "metadata": "x".repeat(METADATA_BYTES_MAX - 1) });
    assert_eq!(w.refused(socket, "join-session", long), "request/invalid");
    let (_, ack) = w.join_with("math", "bob", json!({ "metadata": "x".repeat(METADATA_BYTES_MAX - 2) }));
    assert!(ack["participants"][1]["metadata"].is_string());
    assert_eq!(ack["participants"][0].get("metadata"), Some(&json!({ "photo": "a.png" })));
}
