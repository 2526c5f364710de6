//! What moderators do, by event and over HTTP.

use std::sync::Arc;

use serde_json::{Value, json};
use sfu::{Kind, PeerId, Request, Source, TrackId, TrackInfo};
use signaling::{
    Action, Actor, Ask, Command, Fact, Granted, HttpId, Identity, Input, Reason, Role, RoomSettings, SocketId,
};

use crate::identity::{play, publish};
use crate::world::*;

/// A teacher, and two students with SFU peers.
fn class(w: &mut World) -> (SocketId, [(SocketId, Value, PeerId); 2]) {
    let (tea, _) = w.join_with("math", "tea", json!({ "isInstructor": true }));
    let students = ["ann", "bob"].map(|user| w.join_sfu("math", user));
    (tea, students)
}

fn track(w: &mut World, peer: PeerId, track: u64, source: Source) {
    let kind = if matches!(source, Source::Camera | Source::Screen) { Kind::Video } else { Kind::Audio };
    w.sfu(sfu::Event::TrackPublished { peer, info: TrackInfo { track: TrackId(track), kind, source, muted: false } });
}

fn held(w: &mut World) -> Vec<(PeerId, u64)> {
    let requests = w.requests().into_iter();
    let held = |r| if let Request::Hold { peer, track, held: true } = r { Some((peer, track.0)) } else { None };
    requests.filter_map(held).collect()
}

#[test]
fn only_moderators_moderate() {
    let mut w = world();
    let (tea, [(ann, ack, _), _]) = class(&mut w);
    for action in
        ["mute", "mute-all", "ask-unmute", "remove", "promote", "lower-hands", "lock", "unlock", "admit", "end"]
    {
        let order = json!({ "action": action, "participantId": ack["participantId"] });
        assert_eq!(w.refused(ann, "moderate", order), "session/forbidden", "{action}");
    }
    w.mail(tea);
    for (order, code) in [
        (json!({}), "request/invalid"),
        (json!({ "action": "dance" }), "request/invalid"),
        (json!({ "action": "mute" }), "request/invalid"),
        (json!({ "action": "mute", "participantId": "p_nobody" }), "session/unknown_target"),
        (json!({ "action": "mute", "participantId": ack["participantId"], "source": "nose" }), "request/invalid"),
        (json!({ "action": "promote", "participantId": ack["participantId"], "role": "god" }), "request/invalid"),
        (json!({ "action": "admit", "participantId": "w_nobody" }), "session/unknown_target"),
    ] {
        assert_eq!(w.refused(tea, "moderate", order.clone()), code, "{order}");
    }
    assert_eq!(w.mail(tea), []);
}

#[test]
fn muting_holds_the_track_until_its_publisher_unmutes() {
    let mut w = world();
    let (tea, [(ann, ack, peer), _]) = class(&mut w);
    track(&mut w, peer, 1, Source::Microphone);
    track(&mut w, peer, 2, Source::Camera);
    w.wait(200);
    w.mail(ann);
    w.requests();
    let order = json!({ "action": "mute", "participantId": ack["participantId"], "source": "microphone" });
    w.granted(tea, "moderate", order);
    assert_eq!(held(&mut w), [(peer, 1)]);
    w.wait(200);
    let mail = w.mail(ann);
    let expected =
        json!({ "action": "mute", "participantId": ack["participantId"], "source": "microphone", "by": "tea" });
    assert_eq!(mail[0], ("moderated", expected));
    let muted: Vec<_> = w.roster(tea)[1]["tracks"].as_array().unwrap().iter().map(|t| t["muted"].clone()).collect();
    assert_eq!(muted, [true, false]);
    w.granted(ann, "track-update", json!({ "trackId": TrackId(1).to_string(), "muted": false }));
    assert!(matches!(w.requests()[..], [Request::Mute { muted: false, .. }]), "its own wish lets go");
    w.granted(tea, "moderate", json!({ "action": "mute", "participantId": ack["participantId"] }));
    assert_eq!(held(&mut w), [(peer, 1), (peer, 2)], "without a source all of it");
    w.mail(ann);
    w.granted(tea, "moderate", json!({ "action": "ask-unmute", "participantId": ack["participantId"] }));
    assert_eq!(w.one(ann, "moderated")["action"], "ask-unmute");
    assert!(w.requests().is_empty(), "nobody is unmuted by others");
}

#[test]
fn mute_all_is_for_those_who_do_not_moderate() {
    let mut w = world();
    let (tea, _) = w.join_with("math", "tea", json!({ "isInstructor": true, "media": "sfu" }));
    let own =
        w.requests().iter().find_map(|r| if let Request::Join { peer, .. } = r { Some(*peer) } else { None }).unwrap();
    let (ann, _, peer) = w.join_sfu("math", "ann");
    track(&mut w, own, 1, Source::Microphone);
    track(&mut w, peer, 2, Source::Microphone);
    track(&mut w, peer, 3, Source::Camera);
    w.requests();
    w.mail(ann);
    w.mail(tea);
    w.granted(tea, "moderate", json!({ "action": "mute-all" }));
    assert_eq!(held(&mut w), [(peer, 2)], "microphones, unless another source is named");
    assert_eq!(w.one(ann, "moderated"), json!({ "action": "mute-all", "source": "microphone", "by": "tea" }));
    assert_eq!(w.got(tea, "moderated"), Vec::<Value>::new());
    w.granted(tea, "moderate", json!({ "action": "mute-all", "source": "camera" }));
    assert_eq!(held(&mut w), [(peer, 3)]);
}

#[test]
fn who_is_removed_stays_out_whatever_token_comes() {
    let mut w = world();
    let tea = Arc::new(w.token("math", "tea", Role::Instructor));
    let ann = Arc::new(w.token("math", "ann", Role::Participant));
    let (teacher, _) = w.enter(&tea, json!({}));
    let (socket, ack) = w.enter(&ann, json!({ "media": "sfu" }));
    let spare = w.connect_as(&ann);
    w.command(Actor::Operator, Command::IceServers { identity: ann.clone() }).unwrap();
    w.ask(play("math", Some(ann.clone())));
    assert_eq!(w.holders.len(), 4, "two seats, a viewer, a token");
    w.mail(teacher);
    w.mail(socket);
    w.granted(teacher, "moderate", json!({ "action": "remove", "participantId": ack["participantId"] }));
    let at = w.now.unix_ms;
    let fact = w.facts.iter().position(|fact| matches!(fact, Fact::Removed { .. })).expect("a fact");
    let expected = Fact::Removed {
        session: "math".into(),
        meeting: ack["meetingId"].as_str().unwrap().into(),
        user: "ann".into(),
        token: ann.token.clone(),
        expires_ms: ann.expires_ms,
        at,
    };
    assert_eq!(w.facts[fact], expected);
    assert_eq!(w.last_after, Some(w.last_fact()), "the ack waits until all of it is written down");
    assert!(matches!(w.facts[fact + 1..], [Fact::Left { reason: Reason::Removed, .. }, ..]), "{:?}", w.facts);
    assert_eq!(w.one(socket, "session-error")["code"], "auth/revoked");
    assert!(w.closed.contains(&socket) && w.closed.contains(&spare));
    assert_eq!(w.one(teacher, "user-left")["reason"], "removed");
    assert_eq!(w.holders.len(), 1, "all that she had is gone");

    // The same token does not even connect; another one of hers does not get in, nor resume.
    let again = w.connect_as(&ann);
    assert!(w.closed.contains(&again));
    let fresh = Arc::new(Identity { token: Some("fresh".into()), ..(*ann).clone() });
    let socket = w.connect_as(&fresh);
    for payload in [json!({ "sessionId": "math" }), json!({ "sessionId": "math", "resumeToken": ack["resumeToken"] })] {
        assert_eq!(w.refused(socket, "join-session", payload), "auth/revoked");
    }
    for ask in [play("math", Some(fresh.clone())), publish("math", Some(fresh.clone()))] {
        let http = w.ask(ask);
        assert_eq!(w.refusal(http), "auth/revoked");
    }
    assert_eq!(w.command(Actor::Operator, Command::IceServers { identity: fresh.clone() }), Err("auth/revoked"));
    // In the next meeting only the token that was withdrawn is refused.
    w.granted(teacher, "moderate", json!({ "action": "end" }));
    w.enter(&fresh, json!({}));
    let again = w.connect_as(&ann);
    assert!(w.closed.contains(&again));
    assert!(w.renewals.is_empty());
}

#[test]
fn in_open_mode_the_user_id_is_kept_out() {
    let mut w = world();
    w.lobby.set_room_settings(RoomSettings { same_user: signaling::SameUser::Allow, ..Default::default() });
    let (tea, [(ann, ack, _), _]) = class(&mut w);
    let other = w.join("math", "ann");
    w.granted(tea, "moderate", json!({ "action": "remove", "participantId": ack["participantId"] }));
    assert!(w.closed.contains(&ann) && w.closed.contains(&other), "all seats of that user");
    let socket = w.connect();
    assert_eq!(w.refused(socket, "join-session", json!({ "sessionId": "math", "userId": "ann" })), "auth/revoked");
    w.granted(socket, "join-session", json!({ "sessionId": "art", "userId": "ann" }));
}

#[test]
fn a_promotion_lasts_until_the_meeting_ends() {
    let mut w = world();
    let (tea, [(ann, ack, peer), (bob, ..)]) = class(&mut w);
    w.requests();
    w.mail(ann);
    let id = ack["participantId"].clone();
    w.granted(tea, "moderate", json!({ "action": "promote", "participantId": id }));
    let told = w.one(ann, "permissions");
    assert_eq!(
        (&told["participantId"], &told["role"], &told["permissions"]["moderate"]),
        (&id, &json!("instructor"), &json!(true))
    );
    assert!(matches!(w.requests()[..], [Request::Rights { peer: p, rights }] if p == peer && rights.instructor));
    w.wait(200);
    assert_eq!(w.roster(bob)[1]["isInstructor"], true);
    w.granted(ann, "moderate", json!({ "action": "lock" }));
    w.granted(ann, "leave-session", json!({}));
    let back = w.rejoin(ann, "math", "ann", json!({}));
    assert_eq!(
        (&back["role"], &back["locked"]),
        (&json!("instructor"), &json!(true)),
        "and who was there may come back"
    );
    // Down again, to an observer.
    let order = json!({ "action": "promote", "participantId": back["participantId"], "role": "observer" });
    w.granted(tea, "moderate", order);
    assert_eq!(w.one(ann, "permissions")["role"], "observer");
    assert_eq!(w.refused(ann, "chat-message", json!({ "message": "hi" })), "session/forbidden");
    w.granted(tea, "moderate", json!({ "action": "end" }));
    assert_eq!(w.rejoin(ann, "math", "ann", json!({}))["role"], "participant");
}

#[test]
fn hands_are_lowered_one_or_all() {
    let mut w = world();
    let (tea, [(ann, ack, _), (bob, ..)]) = class(&mut w);
    w.granted(ann, "raise-hand", json!({ "raised": true }));
    w.granted(bob, "raise-hand", json!({ "raised": true }));
    w.mail(bob);
    w.granted(tea, "moderate", json!({ "action": "lower-hands", "participantId": ack["participantId"] }));
    let lowered = w.one(bob, "hand-raised");
    assert_eq!(
        (&lowered["participantId"], &lowered["raised"], &lowered["position"]),
        (&ack["participantId"], &json!(false), &json!(0))
    );
    assert_eq!(w.granted(bob, "raise-hand", json!({ "raised": true }))["position"], 1);
    w.granted(ann, "raise-hand", json!({ "raised": true }));
    w.mail(bob);
    w.granted(tea, "moderate", json!({ "action": "lower-hands" }));
    let mail = w.mail(bob);
    assert_eq!(mail.iter().filter(|(name, p)| *name == "hand-raised" && p["raised"] == false).count(), 2);
    assert_eq!(mail.iter().filter(|(name, _)| *name == "moderated").count(), 1);
}

#[test]
fn a_locked_session_lets_nobody_new_in() {
    let mut w = world();
    let (tea, [(ann, ack, _), (bob, ..)]) = class(&mut w);
    w.mail(bob);
    w.granted(tea, "moderate", json!({ "action": "lock" }));
    assert_eq!(w.one(bob, "session-updated")["locked"], true);
    w.granted(tea, "moderate", json!({ "action": "lock" }));
    assert_eq!(w.got(bob, "session-updated"), Vec::<Value>::new(), "no news");
    let carl = w.connect();
    let join = json!({ "sessionId": "math", "userId": "carl" });
    assert_eq!(w.refused(carl, "join-session", join.clone()), "session/locked");
    for ask in [play("math", None), studio()] {
        let http = w.ask(ask);
        assert_eq!(w.refusal(http), "session/locked");
    }
    // Who was there may come back: by resuming, by leaving and coming again.
    w.drop(ann);
    let (ann, _) = w.join_with("math", "ann", json!({ "resumeToken": ack["resumeToken"] }));
    w.granted(ann, "leave-session", json!({}));
    w.rejoin(ann, "math", "ann", json!({}));
    // And who may moderate gets in.
    w.join_with("math", "head", json!({ "isInstructor": true }));
    w.granted(tea, "moderate", json!({ "action": "unlock" }));
    w.granted(carl, "join-session", join);
}

#[test]
fn the_end_is_for_all() {
    let mut w = world();
    let (tea, [(ann, ack, _), _]) = class(&mut w);
    w.mail(ann);
    w.granted(tea, "moderate", json!({ "action": "end" }));
    for socket in [ann, tea] {
        assert_eq!(w.got(socket, "session-error").pop().expect("told")["code"], "session/ended");
    }
    assert_eq!(w.lobby.gauges().participants, 0);
    let reasons = w.facts.iter().filter(|f| matches!(f, Fact::Left { reason: Reason::Ended, .. })).count();
    assert_eq!(reasons, 3);
    assert!(matches!(w.facts.last(), Some(Fact::MeetingEnded { .. })));
    assert_eq!(w.refused(ann, "leave-session", json!({})), "session/not_joined");
    assert_ne!(w.rejoin(ann, "math", "ann", json!({}))["meetingId"], ack["meetingId"]);
}

#[test]
fn the_same_over_http() {
    let mut w = world();
    let tea = Arc::new(w.token("math", "tea", Role::Instructor));
    let ann = Arc::new(w.token("math", "ann", Role::Participant));
    let (_, _) = w.enter(&tea, json!({}));
    let (socket, ack) = w.enter(&ann, json!({ "metadata": { "seat": 4 } }));
    let order = |action, participant: Option<&Value>| Command::Moderate {
        session: "math".into(),
        action,
        participant: participant.map(|id| id.as_str().unwrap().to_owned()),
        source: None,
        role: None,
    };
    let session = || Command::Session { session: "math".into() };
    let stranger = Arc::new(w.token("art", "tea", Role::Instructor));
    for (actor, expected) in [
        (Actor::Member(ann.clone()), Err("session/forbidden")),
        (Actor::Member(stranger), Err("session/forbidden")),
        (Actor::Member(Arc::new(Identity { is_expired: true, ..(*tea).clone() })), Err("auth/expired")),
    ] {
        assert_eq!(w.command(actor.clone(), order(Action::Lock, None)), expected);
        assert_eq!(w.command(actor, session()), expected);
    }
    assert_eq!(w.command(Actor::Member(tea.clone()), Command::Sessions), Err("session/forbidden"));
    let all = w.command(Actor::Operator, Command::Sessions).unwrap();
    let one = w.command(Actor::Member(tea.clone()), session()).unwrap();
    assert_eq!(all["sessions"], json!([one]));
    assert_eq!(one["participants"][1]["metadata"], json!({ "seat": 4 }));
    assert_eq!((&one["locked"], &one["capacity"], &one["waiting"]), (&json!(false), &json!(500), &json!([])));
    assert_eq!((&one["startedAt"], &one["meetingId"]), (&json!(w.now.unix_ms), &ack["meetingId"]));

    w.mail(socket);
    w.command(Actor::Operator, order(Action::AskUnmute, Some(&ack["participantId"]))).unwrap();
    assert_eq!(w.one(socket, "moderated").get("by"), None, "the operator is nobody in the room");
    assert_eq!(w.command(Actor::Operator, order(Action::Mute, None)), Err("request/invalid"));
    w.command(Actor::Member(tea.clone()), order(Action::Remove, Some(&ack["participantId"]))).unwrap();
    assert!(w.last_after.is_some(), "the reply waits for the fact");
    assert!(w.closed.contains(&socket));
    assert_eq!(
        w.command(Actor::Operator, order(Action::Remove, Some(&ack["participantId"]))),
        Err("session/unknown_target")
    );
    w.command(Actor::Operator, order(Action::End, None)).unwrap();
    assert_eq!(w.command(Actor::Operator, session()), Err("session/not_live"));
    assert_eq!(w.command(Actor::Operator, order(Action::Lock, None)), Err("session/not_live"));
    assert_eq!(w.command(Actor::Operator, Command::Sessions).unwrap(), json!({ "sessions": [] }));
}

#[test]
fn operators_see_how_media_flows() {
    let mut w = world();
    let tea = Arc::new(w.token("math", "tea", Role::Instructor));
    w.enter(&tea, json!({}));
    let media = |session: &str| Command::Media { session: session.into(), participant: Some("p_1".into()) };
    assert_eq!(w.command(Actor::Member(tea), media("math")), Err("session/forbidden"));
    assert_eq!(w.command(Actor::Operator, media("art")), Err("session/not_live"));
    w.requests();
    let http = HttpId(7_000);
    w.handle(Input::Command { http, actor: Actor::Operator, command: media(" math ") });
    assert!(w.reply(http).is_none(), "the worker answers");
    let requests = w.requests();
    let [Request::Snapshot { ticket, only, .. }] = &requests[..] else { panic!("{requests:?}") };
    assert_eq!(only.as_deref(), Some("p_1"));
    let peer = sfu::PeerSnapshot {
        participant: "p_1".into(),
        connected: true,
        sample: sfu::Sample { path: sfu::PathKind::Relay, rtt_us: Some(1_500), ..Default::default() },
        score: 2,
        cause: Some(sfu::Cause::Relay),
        tracks: Vec::new(),
        subscriptions: Vec::new(),
    };
    let snapshot = Box::new(sfu::Snapshot { peers: vec![peer], ..sfu::Snapshot::default() });
    w.sfu(sfu::Event::Snapshot { ticket: *ticket, snapshot });
    let Some(Ok(Granted::Answer(body))) = w.reply(http) else { panic!("an answer") };
    let one = &body["participants"][0];
    assert_eq!((&one["path"], &one["rttMs"], &one["cause"]), (&json!("relay"), &json!(1.5), &json!("relay")));
}

/// A WHIP client that nobody knows.
fn studio() -> Ask {
    let (session, user, sdp) = ("math".into(), "studio".into(), "o".into());
    Ask::Publish { identity: None, session, user, name: None, instructor: false, sdp }
}
