//! What *full* means.

use serde_json::json;
use signaling::limits::*;
use signaling::{AckId, Fact, Input, RoomSettings, SocketId};

use crate::world::*;

#[test]
fn a_room_has_its_capacity() {
    let mut w = world();
    w.lobby.set_room_settings(RoomSettings { capacity: 2, ..Default::default() });
    let (ann, first) = w.join_with("math", "ann", json!({}));
    w.join("math", "bob");
    let carl = w.connect();
    let join = json!({ "sessionId": "math", "userId": "carl" });
    assert_eq!(w.refused(carl, "join-session", join.clone()), "session/full");
    // A seat in its grace time is taken, and its owner gets back in.
    w.drop(ann);
    assert_eq!(w.refused(carl, "join-session", join.clone()), "session/full");
    w.join_with("math", "ann", json!({ "resumeToken": first["resumeToken"] }));
    let (_, replaced) = w.join_with("math", "bob", json!({}));
    assert_eq!(replaced["participants"].as_array().unwrap().len(), 2);
}

#[test]
fn the_server_has_its_rooms() {
    let mut w = world();
    for n in 0..ROOMS_MAX {
        let socket = w.connect_from([10, 1, (n >> 8) as u8, n as u8].into());
        w.rejoin(socket, &format!("room {n}"), "u", json!({}));
    }
    let socket = w.connect();
    assert_eq!(w.refused(socket, "join-session", json!({ "sessionId": "x", "userId": "u" })), "server/overloaded");
    w.rejoin(socket, "room 7", "v", json!({}));
    // Meetings that only wait for somebody to come back take no place away: the one that waits longest ends.
    let first = w.new_facts()[0].meeting().cloned();
    w.bye(SocketId(1));
    w.rejoin(socket, "x", "u", json!({}));
    let ended = |fact: &&Fact| matches!(fact, Fact::MeetingEnded { .. });
    assert_eq!(w.new_facts().iter().find(ended).and_then(Fact::meeting), first.as_ref());
}

#[test]
fn an_address_has_its_sockets() {
    let mut w = world();
    let sockets: Vec<_> = (0..SOCKETS_PER_ADDRESS_MAX).map(|_| w.connect()).collect();
    assert!(w.closed.is_empty());
    let one_more = w.connect();
    assert!(w.closed.contains(&one_more));
    assert_eq!(w.one(one_more, "session-error")["code"], "rate/limited");
    assert_eq!(w.refused(one_more, "join-session", json!({})), "session/not_joined");
    let elsewhere = w.connect_from([10, 0, 0, 2].into());
    assert!(!w.closed.contains(&elsewhere));
    w.drop(one_more);
    w.drop(sockets[0]);
    let next = w.connect();
    assert!(!w.closed.contains(&next));
}

#[test]
fn each_kind_of_event_has_its_rate() {
    let mut w = world();
    let cases = [
        ("chat-message", json!({ "message": "x" }), 30),
        ("reaction", json!({ "emoji": "x" }), 20),
        ("offer", json!({ "targetUserId": "sfu", "offer": "x" }), 60),
        ("join-session", json!({ "sessionId": "math", "userId": "u" }), 20),
        ("dance", json!({}), 500),
    ];
    for (name, payload, burst) in cases {
        let socket = w.connect();
        if name != "join-session" {
            w.rejoin(socket, "math", name, json!({}));
        }
        let taken = if name == "dance" { burst - 1 } else { burst };
        for _ in 0..taken {
            assert_ne!(w.send(socket, name, payload.clone())["error"]["code"], "rate/limited", "{name}");
        }
        assert_eq!(w.refused(socket, name, payload.clone()), "rate/limited", "{name}");
        w.wait(500);
        assert_ne!(w.send(socket, name, payload)["error"]["code"], "rate/limited", "{name}: it refills");
    }
}

#[test]
fn a_flooder_is_disconnected_and_all_its_acks_are_given() {
    let mut w = world();
    let ann = w.join("math", "ann");
    let eve = w.join("math", "eve");
    w.mail(ann);
    let acks: Vec<_> = (0..3_000).map(|_| w.post(eve, "reaction", json!({ "emoji": "x" }))).collect();
    assert!(w.closed.contains(&eve));
    assert!(acks.iter().all(|ack| w.acks[ack].len() == 1));
    assert_eq!(w.one(ann, "user-left")["userId"], "eve");
    assert_eq!(w.got(eve, "session-error").last().unwrap()["code"], "rate/limited");
    w.drop(eve);
    w.wait(2 * GRACE_MS);
    assert_eq!(w.lobby.gauges().participants, 1);
}

#[test]
fn what_the_shell_refused_counts_to_the_end() {
    let mut w = world();
    let ann = w.join("math", "ann");
    let eve = w.join("math", "eve");
    for n in 0..=i64::from(EXCESS_EVENTS_MAX) {
        assert!(!w.closed.contains(&eve), "after {n}");
        let ack = 1_000_000 + n;
        w.handle(Input::Refused { socket: eve, name: "reaction".into(), ack: Some(AckId(ack)) });
        assert_eq!(code(&w.ack(ack).expect("an ack at once")), "rate/limited");
    }
    assert!(w.closed.contains(&eve));
    let last = w.got(eve, "session-error").pop().unwrap();
    assert_eq!(last["code"], "rate/limited");
    assert_eq!(w.one(ann, "user-left")["userId"], "eve");
    // Without an ack each is told by `session-error`, until it is too much.
    let fay = w.join("math", "fay");
    w.mail(fay);
    w.handle(Input::Refused { socket: fay, name: "reaction".into(), ack: None });
    assert_eq!(w.one(fay, "session-error")["event"], "reaction");
}

#[test]
fn relayed_payloads_are_bounded() {
    let mut w = world();
    let ann = w.join("math", "ann");
    w.join("math", "bob");
    let large = json!({ "targetUserId": "bob", "offer": "x".repeat(RELAY_BYTES_MAX) });
    assert_eq!(w.refused(ann, "offer", large), "request/invalid");
}
