//! The relay, and the way to and from the SFU.

use serde_json::{Value, json};
use sfu::{CloseReason, Kind, Request, Source, TrackHint, TrackId, TrackLine, Unavailable};
use signaling::WorkerId;

use crate::world::*;

#[test]
fn the_relay_changes_nothing_but_the_sender() {
    let mut w = world();
    let ann = w.join("math", "ann");
    let bob = w.join("math", "bob");
    let eve = w.join("art", "eve");
    w.mail(bob);
    let payload = json!({
        "sessionId": "math", "targetUserId": "bob", "userId": "mallory", "offer": { "type": "offer", "sdp": "x", "deep": [1, null] }, "own": { "a": 1 },
    });
    w.granted(ann, "offer", payload.clone());
    let mut expected = payload;
    expected["userId"] = json!("ann");
    assert_eq!(w.mail(bob), [("offer", expected)]);
    w.granted(bob, "ice-candidate", json!({ "targetUserId": "ann", "candidate": { "candidate": "c" } }));
    assert_eq!(w.one(ann, "ice-candidate")["sessionId"], "math");
    // Only to members, only to others, only to those who are there.
    for target in ["eve", "nobody", "ann"] {
        assert_eq!(w.refused(ann, "offer", json!({ "targetUserId": target, "offer": 1 })), "session/unknown_target");
    }
    assert_eq!(w.refused(ann, "offer", json!({ "offer": 1 })), "request/invalid");
    w.drop(bob);
    assert_eq!(w.refused(ann, "offer", json!({ "targetUserId": "bob", "offer": 1 })), "session/unknown_target");
    assert_eq!(w.got(eve, "offer"), Vec::<Value>::new());
    assert!(w.requests().is_empty(), "the SFU has no part in it");
}

#[test]
fn media_sfu_at_the_join_makes_a_peer_that_may_offer_first() {
    let mut w = world();
    let (_, ack) = w.join_with("math", "ann", json!({ "media": "sfu", "autoSubscribe": false }));
    let [Request::Join { participant, auto_subscribe: false, offer_first: true, .. }] = &w.requests()[..] else {
        panic!("one join")
    };
    assert_eq!(**participant, *ack["participantId"].as_str().unwrap());
}

#[test]
fn the_first_offer_to_sfu_makes_a_peer() {
    let mut w = world();
    let ann = w.join("math", "ann");
    let mut offer = to_sfu("offer", "v=0");
    offer["tracks"] = json!([{ "mid": 1, "source": "screen", "muted": true }]);
    w.granted(ann, "offer", offer);
    let requests = w.requests();
    let [
        Request::Join { peer, offer_first: false, auto_subscribe: true, .. },
        Request::Offer { peer: same, sdp, tracks, saw_ours: false },
    ] = &requests[..]
    else {
        panic!("{requests:?}")
    };
    assert_eq!((peer, sdp.as_str()), (same, "v=0"));
    assert_eq!(*tracks, [TrackHint { mid: "1".into(), source: Source::Screen, muted: Some(true) }]);
    // A plain string is taken as well.
    w.granted(ann, "offer", json!({ "targetUserId": "sfu", "offer": "v=1" }));
    assert!(matches!(&w.requests()[..], [Request::Offer { sdp, .. }] if sdp == "v=1"));
}

#[test]
fn answers_and_offers_of_the_sfu_reach_their_client_only() {
    let mut w = world();
    let (ann, ack, peer) = w.join_sfu("math", "ann");
    let bob = w.join("math", "bob");
    w.mail(ann);
    w.mail(bob);
    let participant = ack["participantId"].as_str().unwrap();
    let line =
        TrackLine { mid: "3".into(), track: TrackId(9), participant: participant.into(), source: Source::Camera };
    w.sfu(sfu::Event::Offer { peer, sdp: "o".into(), tracks: vec![line] });
    let expected = json!({
        "sessionId": "math", "userId": "sfu", "targetUserId": "ann", "offer": { "type": "offer", "sdp": "o" },
        "tracks": [{ "mid": "3", "trackId": "tr_0000000000000009", "participantId": participant, "source": "camera" }],
    });
    assert_eq!(w.mail(ann), [("offer", expected)]);
    w.granted(ann, "answer", to_sfu("answer", "a"));
    assert!(matches!(&w.requests()[..], [Request::Answer { sdp, .. }] if sdp == "a"));
    w.sfu(answered(peer, "b"));
    assert_eq!(w.one(ann, "answer")["answer"], json!({ "type": "answer", "sdp": "b" }));
    assert_eq!(w.mail(bob), []);
}

#[test]
fn when_offers_cross_the_sfu_learns_whether_ours_was_seen() {
    let mut w = world();
    let (ann, _, peer) = w.join_sfu("math", "ann");
    // Ours was delivered: it stands.
    w.sfu(offered(peer, "o1"));
    w.granted(ann, "offer", to_sfu("offer", "c1"));
    assert!(matches!(w.requests()[..], [Request::Offer { saw_ours: true, .. }]));
    w.granted(ann, "answer", to_sfu("answer", "a1"));
    w.requests();
    w.mail(ann);
    // Ours comes after the client's was taken: it is held, and gone when the SFU answers.
    w.granted(ann, "offer", to_sfu("offer", "c2"));
    assert!(matches!(w.requests()[..], [Request::Offer { saw_ours: false, .. }]));
    w.sfu(offered(peer, "o2"));
    assert_eq!(w.mail(ann), []);
    w.sfu(answered(peer, "a2"));
    w.sfu(offered(peer, "o3"));
    let mail = w.mail(ann);
    assert_eq!(names(&mail), ["answer", "offer"]);
    assert_eq!(mail[1].1["offer"]["sdp"], "o3");
    // The SFU refuses the client's: then nothing changed, and ours is due.
    w.granted(ann, "answer", to_sfu("answer", "a3"));
    w.granted(ann, "offer", to_sfu("offer", "bad"));
    w.sfu(offered(peer, "o4"));
    w.sfu(sfu::Event::Refused {
        peer,
        description: sfu::Description::Offer,
        refusal: sfu::Refusal::NotPermitted,
        message: "No.".into(),
    });
    let mail = w.mail(ann);
    assert_eq!(names(&mail), ["session-error", "offer"]);
    assert_eq!(mail[0].1["code"], "media/not_permitted");
}

#[test]
fn who_would_publish_what_it_may_not_is_told() {
    let mut w = world();
    let (ann, _, peer) = w.join_sfu("math", "ann");
    let (bob, _, _) = w.join_sfu("math", "bob");
    w.mail(ann);
    w.mail(bob);
    w.sfu(sfu::Event::NotPermitted { peer, source: sfu::Source::Screen });
    let mail = w.mail(ann);
    assert_eq!(names(&mail), ["session-error"]);
    assert_eq!((&mail[0].1["code"], &mail[0].1["event"]), (&json!("media/not_permitted"), &json!("offer")));
    assert!(mail[0].1["message"].as_str().is_some_and(|why| why.contains("screen")));
    assert_eq!(w.mail(bob), []);
}

#[test]
fn descriptions_and_candidates_are_checked() {
    let mut w = world();
    let (ann, _, _) = w.join_sfu("math", "ann");
    let long = "x".repeat(sfu::sdp::SDP_BYTES_MAX + 1);
    for bad in [
        json!({}),
        json!({ "offer": 7 }),
        json!({ "offer": { "type": "answer", "sdp": "" } }),
        json!({ "offer": long }),
    ] {
        let mut bad = bad;
        bad["targetUserId"] = json!("sfu");
        assert_eq!(w.refused(ann, "offer", bad), "media/invalid_sdp");
    }
    for bad in
        [json!(1), json!([{ "mid": "0" }]), json!([{ "source": "camera" }]), json!([{ "mid": "0", "source": "tv" }])]
    {
        let mut offer = to_sfu("offer", "x");
        offer["tracks"] = bad;
        assert_eq!(w.refused(ann, "offer", offer), "request/invalid");
    }
    for good in
        [json!(null), json!({}), json!({ "candidate": "" }), json!({ "candidate": "candidate:1 …", "sdpMid": "0" })]
    {
        w.granted(ann, "ice-candidate", json!({ "targetUserId": "sfu", "candidate": good }));
    }
    w.granted(ann, "ice-candidate", json!({ "targetUserId": "sfu" }));
    for bad in [json!(1), json!([]), json!({ "candidate": 1 }), json!({ "candidate": "x".repeat(2048) })] {
        assert_eq!(
            w.refused(ann, "ice-candidate", json!({ "targetUserId": "sfu", "candidate": bad })),
            "request/invalid"
        );
    }
    assert!(w.requests().is_empty());
}

#[test]
fn a_closed_peer_is_forgotten_and_the_next_offer_makes_a_new_one() {
    let mut w = world();
    let (ann, _, peer) = w.join_sfu("math", "ann");
    w.sfu(published(peer, 1));
    w.mail(ann);
    w.sfu(sfu::Event::Closed { peer, reason: CloseReason::Dtls });
    let mail = w.mail(ann);
    assert_eq!(mail[0].1["code"], "media/new_peer_required");
    assert_eq!(w.refused(ann, "answer", to_sfu("answer", "x")), "media/new_peer_required");
    w.sfu(answered(peer, "late"));
    w.wait(100);
    assert_eq!(w.roster(ann)[0]["tracks"], json!([]));
    w.granted(ann, "offer", to_sfu("offer", "x"));
    let requests = w.requests();
    assert!(
        matches!(requests[..], [Request::Join { peer: p, .. }, Request::Offer { .. }] if p != peer),
        "{requests:?}"
    );
}

#[test]
fn lost_consent_restarts_ice_while_the_socket_lives_but_not_too_often() {
    let mut w = world();
    let (ann, ack, peer) = w.join_sfu("math", "ann");
    w.sfu(sfu::Event::ConsentLost { peer });
    assert!(matches!(w.requests()[..], [Request::RestartIce { .. }]));
    w.wait(4_999);
    w.sfu(sfu::Event::ConsentLost { peer });
    assert!(w.requests().is_empty());
    w.wait(1);
    w.sfu(sfu::Event::ConsentLost { peer });
    assert!(matches!(w.requests()[..], [Request::RestartIce { .. }]));
    w.wait(10_000);
    w.drop(ann);
    w.sfu(sfu::Event::ConsentLost { peer });
    assert!(w.requests().is_empty(), "nobody is there to answer");
    w.join_with("math", "ann", json!({ "resumeToken": ack["resumeToken"] }));
    assert!(matches!(w.requests()[..], [Request::RestartIce { .. }]), "as soon as somebody is");
}

#[test]
fn a_silent_path_restarts_ice_as_lost_consent_does_and_not_beside_it() {
    let mut w = world();
    let (ann, ack, peer) = w.join_sfu("math", "ann");
    w.sfu(sfu::Event::PathSilent { peer });
    assert!(matches!(w.requests()[..], [Request::RestartIce { peer: p }] if p == peer));
    w.sfu(sfu::Event::ConsentLost { peer });
    assert!(w.requests().is_empty(), "one restart will do");
    w.wait(60_000);
    w.sfu(sfu::Event::PathSilent { peer });
    assert!(matches!(w.requests()[..], [Request::RestartIce { .. }]), "this is another silence");
    w.wait(60_000);
    w.drop(ann);
    w.sfu(sfu::Event::PathSilent { peer });
    w.sfu(sfu::Event::ConsentLost { peer });
    assert!(w.requests().is_empty(), "nobody is there to answer");
    w.join_with("math", "ann", json!({ "resumeToken": ack["resumeToken"] }));
    assert!(matches!(w.requests()[..], [Request::RestartIce { .. }]), "as soon as somebody is, and once");
}

#[test]
fn tracks_are_in_the_roster_and_their_owner_mutes_them() {
    let mut w = world();
    let (ann, _, peer) = w.join_sfu("math", "ann");
    let (bob, _, bobs) = w.join_sfu("math", "bob");
    w.wait(200);
    w.mail(bob);
    w.sfu(published(peer, 1));
    let track = json!({ "trackId": "tr_0000000000000001", "kind": "video", "source": "camera", "muted": false });
    assert_eq!(w.roster(bob)[0]["tracks"], json!([track]));
    let id = "tr_0000000000000001";
    w.granted(ann, "track-update", json!({ "trackId": id, "muted": true }));
    w.granted(ann, "track-update", json!({ "trackId": id, "muted": true }));
    assert!(matches!(w.requests()[..], [Request::Mute { track: TrackId(1), muted: true, .. }]), "told once");
    w.wait(100);
    assert_eq!(w.roster(bob)[0]["tracks"][0]["muted"], true);
    assert_eq!(w.refused(bob, "track-update", json!({ "trackId": id, "muted": false })), "media/not_permitted");
    assert_eq!(w.refused(ann, "track-update", json!({ "trackId": id })), "request/invalid");
    assert_eq!(w.refused(ann, "track-update", json!({ "trackId": "tr_1", "muted": true })), "request/invalid");
    let subscription = json!({ "trackId": id, "enabled": false, "width": 320, "height": 180.5, "priority": 1 });
    w.granted(bob, "subscription", subscription);
    let requests = w.requests();
    assert!(
        matches!(requests[..], [Request::Subscription { peer: p, wish: sfu::Wish { enabled: Some(false), size: Some((320, 181)), priority: Some(1) }, .. }] if p == bobs),
        "{requests:?}"
    );
    assert_eq!(w.refused(ann, "subscription", json!({ "trackId": id })), "request/invalid");
    assert_eq!(w.refused(bob, "subscription", json!({ "trackId": id, "width": -1 })), "request/invalid");
    let mesh = w.join("math", "mesh");
    assert_eq!(w.refused(mesh, "subscription", json!({ "trackId": id })), "media/new_peer_required");
    let elsewhere = w.join("art", "eve");
    assert_eq!(w.refused(elsewhere, "subscription", json!({ "trackId": id })), "request/invalid");
    w.sfu(sfu::Event::TrackUnpublished { peer, track: TrackId(1) });
    w.wait(100);
    assert_eq!(w.roster(bob)[0]["tracks"], json!([]));
}

#[test]
fn speakers_and_missing_tracks_are_told() {
    let mut w = world();
    let ann = w.join("math", "ann");
    w.granted(ann, "offer", to_sfu("offer", "x"));
    let Some((_, Request::Join { peer, room, .. })) = w.routed().into_iter().next() else { panic!("a join") };
    let bob = w.join("math", "bob");
    w.sfu(sfu::Event::Speakers { room, speakers: vec![(peer, 90), (sfu::PeerId(999), 3)], audio: vec![] });
    let told = w.one(bob, "active-speakers");
    assert!(told.get("audio").is_none());
    let speakers = told["speakers"].clone();
    assert_eq!((speakers.as_array().unwrap().len(), &speakers[0]["level"]), (1, &json!(90)));
    assert_eq!(w.got(ann, "active-speakers").len(), 1);
    w.sfu(sfu::Event::Speakers { room, speakers: vec![], audio: vec![(0, sfu::PeerId(999)), (3, peer)] });
    let told = w.one(bob, "active-speakers");
    let participant = speakers[0]["participantId"].clone();
    assert_eq!(told, json!({ "speakers": [], "audio": [{ "streamId": "audio-3", "participantId": participant }] }));
    w.got(ann, "active-speakers");
    w.sfu(sfu::Event::TrackUnavailable { peer, track: TrackId(4), reason: Unavailable::Codec });
    assert_eq!(w.one(ann, "track-unavailable"), json!({ "trackId": "tr_0000000000000004", "reason": "codec" }));
    assert_eq!(Kind::Audio.as_str(), "audio");
}

#[test]
fn a_room_stays_on_the_worker_with_the_fewest_peers_when_it_began() {
    let mut w = world();
    for n in 0..3 {
        w.join_with("math", &format!("m{n}"), json!({ "media": "sfu" }));
    }
    w.join_with("art", "a", json!({ "media": "sfu" }));
    w.join_with("tea", "t", json!({ "media": "sfu" }));
    w.join_with("math", "m3", json!({ "media": "sfu" }));
    let workers: Vec<usize> = w.routed().iter().map(|(WorkerId(n), _)| *n).collect();
    assert_eq!(workers, [0, 0, 0, 1, 1, 0]);
}

#[test]
fn the_end_of_a_seat_is_the_end_of_its_peer() {
    let mut w = world();
    let (ann, _, peer) = w.join_sfu("math", "ann");
    w.drop(ann);
    assert!(w.requests().is_empty());
    w.wait(GRACE_MS);
    assert!(matches!(w.requests()[..], [Request::Leave { peer: p }] if p == peer));
    w.sfu(offered(peer, "late"));
    assert_eq!(w.lobby.gauges().rooms, 0);
}
