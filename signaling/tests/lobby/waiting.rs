//! The waiting room.

use std::sync::Arc;

use serde_json::{Value, json};
use signaling::limits::WAITING_MAX;
use signaling::{Action, Actor, Command, Role, RoomSettings, SocketId};

use crate::identity::{play, publish};
use crate::world::*;

fn rules() -> RoomSettings {
    RoomSettings { waiting_room: true, ..Default::default() }
}

/// Knocks: the socket and the number of the ack that is held back.
fn knock(w: &mut World, user: &str) -> (SocketId, i64) {
    let socket = w.connect();
    let ack =
        w.post(socket, "join-session", json!({ "sessionId": "math", "userId": user, "userName": user.to_uppercase() }));
    (socket, ack)
}

fn waiting(w: &mut World, socket: SocketId) -> Vec<Value> {
    w.got(socket, "waiting").pop().expect("a list")["participants"].as_array().unwrap().clone()
}

#[test]
fn newcomers_wait_until_they_are_admitted() {
    let mut w = world();
    w.rules("math", rules());
    let (tea, _) = w.join_with("math", "tea", json!({ "isInstructor": true }));
    w.mail(tea);
    let (ann, ack) = knock(&mut w, "ann");
    let early = w.post(ann, "chat-message", json!({ "message": "hello?" }));
    assert_eq!(w.ack(ack), None);
    assert_eq!(w.one(ann, "waiting"), json!({ "sessionId": "math", "position": 1 }));
    let list = waiting(&mut w, tea);
    assert_eq!((list.len(), &list[0]["userId"], &list[0]["userName"]), (1, &json!("ann"), &json!("ANN")));
    let (bob, second) = knock(&mut w, "bob");
    w.wait(200);
    assert_eq!(w.one(bob, "waiting")["position"], 2);
    let list = waiting(&mut w, tea);
    assert_eq!(list.len(), 2);
    assert_eq!(w.lobby.gauges().participants, 1, "who waits has no seat");

    w.granted(tea, "moderate", json!({ "action": "admit", "participantId": list[0]["waitingId"] }));
    let joined = w.ack(ack).expect("the ack at last");
    assert_eq!((&joined["ok"], joined["participants"].as_array().map(Vec::len)), (&json!(true), Some(2)));
    assert_eq!(w.ack(early).expect("what waited for it")["ok"], true);
    assert_eq!(w.one(ann, "admitted"), json!({ "sessionId": "math" }));
    w.wait(200);
    assert_eq!(w.one(bob, "waiting")["position"], 1, "it moved up");
    assert_eq!(waiting(&mut w, tea).len(), 1);
    w.granted(tea, "moderate", json!({ "action": "admit" }));
    assert_eq!(w.ack(second).unwrap()["ok"], true);
    assert_eq!(waiting(&mut w, tea).len(), 0);
    // Who was in the meeting does not wait again.
    w.granted(ann, "leave-session", json!({}));
    w.rejoin(ann, "math", "ann", json!({}));
}

#[test]
fn people_may_wait_before_anybody_is_there() {
    let mut w = world();
    w.rules("math", rules());
    let (ann, ack) = knock(&mut w, "ann");
    w.wait(10 * 60_000);
    assert_eq!((w.lobby.gauges().rooms, w.facts.len()), (0, 0), "there is no meeting");
    let (tea, _) = w.join_with("math", "tea", json!({ "isInstructor": true }));
    assert_eq!(waiting(&mut w, tea).len(), 1);
    w.granted(tea, "moderate", json!({ "action": "end" }));
    assert_eq!(code(&w.ack(ack).unwrap()), "session/ended");
    // The operator may let people in before.
    let (_, ack) = knock(&mut w, "bob");
    let admit = Command::Moderate {
        session: "math".into(),
        action: Action::Admit,
        participant: None,
        source: None,
        role: None,
    };
    w.command(Actor::Operator, admit).unwrap();
    assert_eq!(w.ack(ack).unwrap()["ok"], true);
    assert!(!w.closed.contains(&ann));
}

#[test]
fn who_is_turned_away_goes_or_is_removed_waits_no_more() {
    let mut w = world();
    w.rules("math", rules());
    let (tea, _) = w.join_with("math", "tea", json!({ "isInstructor": true }));
    let (_, refused) = knock(&mut w, "ann");
    let id = waiting(&mut w, tea)[0]["waitingId"].clone();
    w.granted(tea, "moderate", json!({ "action": "remove", "participantId": id }));
    assert_eq!(code(&w.ack(refused).unwrap()), "session/forbidden");
    assert_eq!(
        w.refused(tea, "moderate", json!({ "action": "remove", "participantId": id })),
        "session/unknown_target"
    );

    let (gone, first) = knock(&mut w, "ann");
    w.drop(gone);
    assert_eq!(w.ack(first).unwrap()["ok"], false);
    let (left, second) = knock(&mut w, "ann");
    w.granted(left, "leave-session", json!({}));
    assert_eq!(code(&w.ack(second).unwrap()), "session/not_joined");
    let (elsewhere, third) = knock(&mut w, "ann");
    w.rejoin(elsewhere, "art", "ann", json!({}));
    assert_eq!(code(&w.ack(third).unwrap()), "session/replaced");
    let (older, fourth) = knock(&mut w, "ann");
    let (_, newer) = knock(&mut w, "ann");
    assert_eq!(code(&w.ack(fourth).unwrap()), "session/replaced", "one place for each user");
    assert_eq!((w.ack(newer), w.closed.contains(&older)), (None, false));
    w.wait(200);
    assert_eq!(waiting(&mut w, tea).len(), 1);
}

#[test]
fn what_waits_is_bounded_and_seats_are_counted() {
    let mut w = world();
    w.rules("math", RoomSettings { capacity: 2, ..rules() });
    let (tea, _) = w.join_with("math", "tea", json!({ "isInstructor": true }));
    let acks: Vec<i64> = (0..WAITING_MAX).map(|n| knock(&mut w, &format!("u{n}")).1).collect();
    let (_, over) = knock(&mut w, "one too many");
    assert_eq!(code(&w.ack(over).unwrap()), "session/full");
    assert_eq!(w.refused(tea, "moderate", json!({ "action": "admit" })), "session/full");
    let answered = acks.iter().filter(|ack| w.ack(**ack).is_some()).count();
    assert_eq!((answered, w.lobby.gauges().participants), (1, 2), "one found a seat, the others go on waiting");
}

#[test]
fn there_is_no_way_around_the_waiting_room() {
    let mut w = world();
    w.rules("math", rules());
    w.join_with("math", "tea", json!({ "isInstructor": true }));
    let ann = Arc::new(w.token("math", "ann", Role::Participant));
    for ask in [play("math", None), play("math", Some(ann.clone())), publish("math", Some(ann.clone()))] {
        let http = w.ask(ask);
        assert_eq!(w.refusal(http), "session/forbidden");
    }
    // A participant is promoted: it is told who waits. The room's rule falls: all get in.
    let socket = w.connect_as(&ann);
    let ack = w.post(socket, "join-session", json!({ "sessionId": "math" }));
    assert_eq!(w.ack(ack), None);
    w.rules("math", RoomSettings::default());
    assert_eq!(w.ack(ack).unwrap()["ok"], true);
}
