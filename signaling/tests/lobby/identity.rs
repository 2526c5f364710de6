//! What tokens say: who somebody is, where, what it may do, and for how long.

use std::sync::Arc;

use serde_json::json;
use sfu::{Request, Rights, Source, Sources};
use signaling::limits::{RENEW_BEFORE, TOKEN_HOLDERS_PER_USER_MAX, TOKEN_SKEW};
use signaling::{Actor, Ask, Command, Identity, Input, Permissions, Role};

use crate::world::*;

fn student(w: &World, user: &str) -> Arc<Identity> {
    Arc::new(w.token("math", user, Role::Participant))
}

fn teacher(w: &World) -> Arc<Identity> {
    Arc::new(w.token("math", "tea", Role::Instructor))
}

#[test]
fn a_token_goes_before_what_the_client_says() {
    let mut w = world();
    let ann = student(&w, "ann");
    let lies = json!({ "userId": "tea", "userName": "Teacher", "isInstructor": true });
    let (_, ack) = w.enter(&ann, lies);
    assert_eq!((&ack["userId"], &ack["role"]), (&json!("ann"), &json!("participant")));
    assert_eq!(ack["permissions"]["moderate"], false);
    let entry = &ack["participants"][0];
    assert_eq!((&entry["userName"], &entry["isInstructor"]), (&json!("ANN"), &json!(false)));
    let nameless = Arc::new(Identity { name: None, ..w.token("math", "bob", Role::Observer) });
    let (_, ack) = w.enter(&nameless, json!({ "userName": "Bobby" }));
    assert_eq!((&ack["participants"][1]["userName"], &ack["role"]), (&json!("Bobby"), &json!("observer")));
}

#[test]
fn a_token_for_one_session_touches_no_other() {
    let mut w = world();
    let ann = student(&w, "ann");
    let (victim, _) = w.join_with("art", "ann", json!({}));
    w.mail(victim);
    let socket = w.connect_as(&ann);
    for session in ["art", "Math", "*", "mаth", "math%20", "physics"] {
        w.wait(1_000);
        let before = w.lobby.gauges();
        assert_eq!(w.refused(socket, "join-session", json!({ "sessionId": session })), "session/forbidden");
        let after = w.lobby.gauges();
        assert_eq!((before.rooms, before.participants), (after.rooms, after.participants));
    }
    assert_eq!(w.mail(victim), [], "nobody there heard of it");
    for ask in [play("art", Some(ann.clone())), publish("art", Some(ann.clone()))] {
        let http = w.ask(ask);
        assert_eq!(w.refusal(http), "session/forbidden");
    }
    // What is trimmed away is no other session.
    w.granted(socket, "join-session", json!({ "sessionId": " math " }));
}

#[test]
fn an_expired_token_only_resumes_a_seat_that_lives() {
    let mut w = world();
    let ann = student(&w, "ann");
    let (socket, ack) = w.enter(&ann, json!({}));
    let (_, bob) = w.enter(&student(&w, "bob"), json!({}));
    let resume = json!({ "sessionId": "math", "resumeToken": ack["resumeToken"] });
    // It says more than the seat has: what was true once is not believed any more.
    let expired = Arc::new(Identity { is_expired: true, ..Identity { user: "ann".into(), ..(*teacher(&w)).clone() } });
    let again = w.connect_as(&expired);
    assert_eq!(w.refused(again, "join-session", json!({ "sessionId": "math" })), "auth/expired");
    let another = json!({ "sessionId": "math", "resumeToken": bob["resumeToken"] });
    assert_eq!(w.refused(again, "join-session", another), "auth/expired");
    assert!(!w.closed.contains(&socket), "a refused join leaves the seat as it was");
    let resumed = w.granted(again, "join-session", resume.clone());
    assert_eq!((&resumed["participantId"], &resumed["role"]), (&ack["participantId"], &json!("participant")));
    assert_eq!(w.renewals.len(), 1, "it gets a new token at once");
    w.granted(again, "leave-session", json!({}));
    assert_eq!(w.refused(again, "join-session", resume), "auth/expired", "the seat is gone");
}

#[test]
fn a_token_may_run_out_before_the_join() {
    let mut w = world();
    let ann = student(&w, "ann");
    let socket = w.connect_as(&ann);
    w.wait(3_600_000 + TOKEN_SKEW.as_millis() as u64 - 1);
    w.granted(socket, "join-session", json!({ "sessionId": "math" }));
    let late = w.connect_as(&ann);
    w.wait(1);
    assert_eq!(w.refused(late, "join-session", json!({ "sessionId": "math" })), "auth/expired");
    let http = w.ask(play("math", Some(ann)));
    assert_eq!(w.refusal(http), "auth/expired");
}

#[test]
fn nobody_resumes_the_seat_of_another() {
    let mut w = world();
    let (ann, ack) = w.enter(&student(&w, "ann"), json!({}));
    w.mail(ann);
    let bob = w.connect_as(&student(&w, "bob"));
    let stolen = json!({ "sessionId": "math", "userId": "ann", "resumeToken": ack["resumeToken"] });
    assert_eq!(w.refused(bob, "join-session", stolen), "session/forbidden");
    assert_eq!(w.mail(ann), []);
    assert!(!w.closed.contains(&ann));
}

#[test]
fn permissions_are_told_to_the_sfu_and_enforced_here() {
    let mut w = world();
    let may = Permissions {
        publish: Sources::NONE.with(Source::Microphone),
        subscribe: false,
        chat: false,
        data: false,
        moderate: false,
    };
    let (ann, ack) =
        w.enter(&Arc::new(Identity { permissions: may, ..(*student(&w, "ann")).clone() }), json!({ "media": "sfu" }));
    let expected =
        json!({ "publish": ["microphone"], "subscribe": false, "chat": false, "data": false, "moderate": false });
    assert_eq!(ack["permissions"], expected);
    let requests = w.requests();
    let Some(Request::Join { rights, .. }) = requests.first() else { panic!("{requests:?}") };
    assert_eq!(*rights, Rights { instructor: false, data: false, publish: may.publish, subscribe: false });
    let (_, _) = w.enter(&teacher(&w), json!({ "media": "sfu" }));
    let tea = w
        .requests()
        .iter()
        .find_map(|r| if let Request::Join { peer, rights, .. } = r { Some((*peer, *rights)) } else { None });
    let (peer, rights) = tea.expect("a peer");
    assert!(rights.instructor);
    w.sfu(published(peer, 7));
    for (event, payload, code) in [
        ("chat-message", json!({ "message": "hi" }), "session/forbidden"),
        ("reaction", json!({ "emoji": "👍" }), "session/forbidden"),
        ("raise-hand", json!({ "raised": true }), "session/forbidden"),
        ("subscription", json!({ "trackId": "tr_0000000000000007" }), "media/not_permitted"),
        ("moderate", json!({ "action": "end" }), "session/forbidden"),
        ("moderate", json!({ "action": "nonsense" }), "session/forbidden"),
    ] {
        assert_eq!(w.refused(ann, event, payload), code, "{event}");
    }
}

#[test]
fn an_observer_hears_and_is_not_heard_in_mesh_too() {
    let mut w = world();
    let (tea, _) = w.enter(&teacher(&w), json!({}));
    let (eve, _) = w.enter(&Arc::new(w.token("math", "eve", Role::Observer)), json!({}));
    w.mail(tea);
    let offer = |line: &str| {
        let sdp = format!("v=0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\n{line}\r\n");
        json!({ "targetUserId": "tea", "offer": { "type": "offer", "sdp": sdp } })
    };
    assert_eq!(w.refused(eve, "offer", offer("a=sendrecv")), "media/not_permitted");
    assert_eq!(w.mail(tea), []);
    w.granted(eve, "offer", offer("a=recvonly"));
    assert_eq!(names(&w.mail(tea)), ["offer"]);
    // Who may do all is not looked at.
    w.granted(tea, "offer", json!({ "targetUserId": "eve", "offer": 1 }));
}

#[test]
fn a_reconnect_may_change_the_role_but_not_who_it_is() {
    let mut w = world();
    let ann = student(&w, "ann");
    let (first, ack) = w.enter(&ann, json!({ "media": "sfu" }));
    w.requests();
    w.drop(first);
    let better =
        Arc::new(Identity { role: Role::Instructor, permissions: Permissions::of(Role::Instructor), ..(*ann).clone() });
    let (_, again) = w.enter(&better, json!({ "media": "sfu", "resumeToken": ack["resumeToken"] }));
    assert_eq!((&again["participantId"], &again["role"]), (&ack["participantId"], &json!("instructor")));
    assert!(w.requests().iter().any(|r| matches!(r, Request::Rights { rights, .. } if rights.instructor)));
}

#[test]
fn a_token_is_renewed_in_time_for_who_is_there() {
    let mut w = world();
    let (ann, _) = w.enter(&student(&w, "ann"), json!({}));
    let before = 3_600_000 - RENEW_BEFORE.as_millis() as u64;
    w.wait(before - 1);
    assert!(w.renewals.is_empty());
    w.wait(1);
    assert_eq!(w.renewals.len(), 1);
    assert_eq!((w.renewals[0].0, &*w.renewals[0].1.user), (ann, "ann"));
    w.wait(3_600_000);
    assert_eq!(w.renewals.len(), 1, "once for each expiry");
    w.renewals.clear();
    let expires_ms = w.now.unix_ms + 3_600_000;
    w.handle(Input::Renewed { socket: ann, token: Some("new".into()), expires_ms });
    w.wait(before);
    assert_eq!(w.renewals.len(), 1);
    let renewed = w.renewals[0].1.clone();
    assert_eq!((renewed.token.as_deref(), renewed.expires_ms), (Some("new"), expires_ms));
    // The socket's own identity is the new one too: it may join again.
    w.granted(ann, "leave-session", json!({}));
    w.granted(ann, "join-session", json!({ "sessionId": "math" }));
}

#[test]
fn tokens_of_seconds_are_renewed_and_not_without_end() {
    let mut w = world();
    let brief = Arc::new(Identity { expires_ms: w.now.unix_ms + 10_000, ..(*student(&w, "ann")).clone() });
    let (ann, _) = w.enter(&brief, json!({}));
    w.wait(5_000);
    assert_eq!(w.renewals.len(), 1);
    for renewed in 2..5 {
        w.handle(Input::Renewed { socket: ann, token: None, expires_ms: w.now.unix_ms });
        assert_eq!(w.renewals.len(), renewed - 1);
        w.wait(1_000);
        assert_eq!(w.renewals.len(), renewed);
    }
}

#[test]
fn who_is_away_is_renewed_on_coming_back() {
    let mut w = world();
    w.rules("math", signaling::RoomSettings { grace_ms: Some(7_200_000), ..Default::default() });
    let ann = student(&w, "ann");
    let (socket, ack) = w.enter(&ann, json!({}));
    w.drop(socket);
    w.wait(3_700_000);
    assert!(w.renewals.is_empty(), "nobody is there to take it");
    let old = Arc::new(Identity { is_expired: true, ..(*ann).clone() });
    let (socket, _) = w.enter(&old, json!({ "resumeToken": ack["resumeToken"] }));
    assert_eq!(w.renewals.len(), 1);
    assert_eq!(w.renewals[0].0, socket);
}

#[test]
fn whip_and_whep_ask_for_rights() {
    let mut w = world();
    let (tea, _) = w.enter(&teacher(&w), json!({}));
    let observer = Arc::new(w.token("math", "eve", Role::Observer));
    let http = w.ask(publish("math", Some(observer.clone())));
    assert_eq!(w.refusal(http), "media/not_permitted");
    let deaf = Permissions { subscribe: false, ..Permissions::of(Role::Participant) };
    let deaf = Arc::new(Identity { permissions: deaf, ..(*student(&w, "bob")).clone() });
    let http = w.ask(play("math", Some(deaf)));
    assert_eq!(w.refusal(http), "media/not_permitted");
    w.mail(tea);
    w.ask(play("math", Some(observer)));
    assert_eq!(w.holders.len(), 2, "it watches");
    w.ask(publish("math", Some(student(&w, "ann"))));
    let joined = w.one(tea, "user-joined");
    assert_eq!(
        (&joined["userId"], &joined["userName"], &joined["isInstructor"]),
        (&json!("ann"), &json!("ANN"), &json!(false))
    );
}

#[test]
fn a_token_has_turn_credentials_until_it_ends() {
    let mut w = world();
    let ann = student(&w, "ann");
    let ask = |w: &mut World, actor: Actor, identity: &Arc<Identity>| {
        w.command(actor, Command::IceServers { identity: identity.clone() })
    };
    let body = ask(&mut w, Actor::Operator, &ann).unwrap();
    let (expires, holder) =
        turn_server::credential::parse(body["iceServers"][1]["username"].as_str().unwrap()).unwrap();
    assert_eq!(expires, ann.expires_ms / 1_000, "no longer than the token");
    assert!(holder.starts_with("t_") && w.holders.contains(holder));
    let bob = Actor::Member(student(&w, "bob"));
    assert_eq!(ask(&mut w, bob, &ann), Err("session/forbidden"));
    for _ in 0..TOKEN_HOLDERS_PER_USER_MAX {
        ask(&mut w, Actor::Member(ann.clone()), &ann).unwrap();
    }
    assert_eq!(w.holders.len(), TOKEN_HOLDERS_PER_USER_MAX, "the oldest of that user went");
    assert!(!w.holders.contains(holder));
    w.wait(3_600_000);
    assert!(w.holders.is_empty());
    w.wait(TOKEN_SKEW.as_millis() as u64);
    assert_eq!(ask(&mut w, Actor::Operator, &ann), Err("auth/expired"));
}

pub(crate) fn publish(session: &str, identity: Option<Arc<Identity>>) -> Ask {
    Ask::Publish {
        identity,
        session: session.into(),
        user: "studio".into(),
        name: None,
        instructor: true,
        sdp: "o".into(),
    }
}

pub(crate) fn play(session: &str, identity: Option<Arc<Identity>>) -> Ask {
    Ask::Play { identity, session: session.into(), participant: None, sdp: "o".into() }
}
