//! What is said of flowing media, and to whom.

use serde_json::{Value, json};
use sfu::{Cause, Event, Pause, PeerId, Request, TrackId, Wish};
use signaling::SocketId;

use crate::world::*;

const TRACK: &str = "tr_0000000000000001";

fn paused(peer: PeerId) -> Event {
    Event::TrackPaused { peer, track: TrackId(1), reason: Pause::Bandwidth }
}

/// The names of what is said of flowing media in a socket's mail.
fn news(w: &mut World, socket: SocketId) -> Vec<(&'static str, Value)> {
    let about = ["track-paused", "track-resumed", "layers-wanted", "connection-quality"];
    w.mail(socket).into_iter().filter(|(name, _)| about.contains(name)).collect()
}

#[test]
fn a_wish_has_a_size_and_a_priority() {
    let mut w = world();
    let (_, _, peer) = w.join_sfu("math", "ann");
    let (bob, ..) = w.join_sfu("math", "bob");
    w.sfu(published(peer, 1));
    let mut wish = |more: Value| {
        let mut payload = json!({ "trackId": TRACK });
        payload.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap());
        w.granted(bob, "subscription", payload);
        match w.requests().as_slice() {
            [Request::Subscription { track: TrackId(1), wish, .. }] => *wish,
            other => panic!("{other:?}"),
        }
    };
    let sized = |width, height| Wish { size: Some((width, height)), ..Wish::default() };
    assert_eq!(wish(json!({})), Wish::default());
    assert_eq!(wish(json!({ "width": 639.2, "height": 360 })), sized(640, 360));
    assert_eq!(wish(json!({ "width": 0.1, "height": 0.1 })), sized(1, 1), "only nothing is nothing");
    assert_eq!(wish(json!({ "width": 0, "height": 0 })), sized(0, 0));
    assert_eq!(wish(json!({ "width": 1280 })), sized(1_280, 720), "one alone is completed to 16:9");
    assert_eq!(wish(json!({ "height": 16_384 })), sized(29_128, 16_384));
    assert_eq!(wish(json!({ "height": null, "priority": 255, "enabled": true })).priority, Some(255));
    for bad in
        [json!({ "width": 16_385 }), json!({ "priority": 256 }), json!({ "height": "720" }), json!({ "width": -0.1 })]
    {
        let mut payload = bad;
        payload["trackId"] = json!(TRACK);
        assert_eq!(w.refused(bob, "subscription", payload), "request/invalid");
    }
}

#[test]
fn pauses_are_told_to_their_subscriber_and_again_to_a_resumed_socket() {
    let mut w = world();
    let (ann, _, anns) = w.join_sfu("math", "ann");
    let (bob, ack, bobs) = w.join_sfu("math", "bob");
    w.sfu(published(anns, 1));
    w.sfu(published(anns, 2));
    w.mail(bob);
    w.mail(ann);
    w.sfu(paused(bobs));
    let told = ("track-paused", json!({ "trackId": TRACK, "reason": "bandwidth" }));
    assert_eq!(news(&mut w, bob), std::slice::from_ref(&told));
    w.sfu(Event::TrackPaused { peer: bobs, track: TrackId(2), reason: Pause::Unsubscribed });
    w.sfu(Event::TrackResumed { peer: bobs, track: TrackId(2), reason: Pause::Unsubscribed });
    let resumed = w.got(bob, "track-resumed");
    assert_eq!(resumed, [json!({ "trackId": "tr_0000000000000002", "reason": "unsubscribed" })]);
    assert_eq!(news(&mut w, ann), []);

    w.drop(bob);
    let again = json!({ "media": "sfu", "resumeToken": ack["resumeToken"] });
    let (bob, _) = w.join_with("math", "bob", again.clone());
    assert_eq!(news(&mut w, bob), std::slice::from_ref(&told), "what is still paused");
    let (bob, _) = w.join_with("math", "bob", json!({ "media": "sfu" }));
    assert_eq!(news(&mut w, bob), [told], "a page that takes the seat over knows nothing either");

    w.drop(bob);
    w.sfu(Event::TrackUnpublished { peer: anns, track: TrackId(1) });
    let (bob, _) = w.join_with("math", "bob", again);
    assert_eq!(news(&mut w, bob), [], "a track that ended is not paused");
}

#[test]
fn layers_wanted_go_to_the_publisher_only() {
    let mut w = world();
    let (ann, ack, peer) = w.join_sfu("math", "ann");
    let (bob, ..) = w.join_sfu("math", "bob");
    let wanted =
        |high| Event::LayersWanted { peer, track: TrackId(1), layers: vec![("q".into(), true), ("f".into(), high)] };
    w.sfu(wanted(true));
    w.sfu(published(peer, 1));
    assert_eq!(news(&mut w, ann), [], "of no track that it has");
    w.sfu(wanted(false));
    let layers = json!([{ "rid": "q", "active": true }, { "rid": "f", "active": false }]);
    let told = ("layers-wanted", json!({ "trackId": TRACK, "layers": layers }));
    assert_eq!(news(&mut w, ann), std::slice::from_ref(&told));
    assert_eq!(news(&mut w, bob), []);
    w.drop(ann);
    let (ann, _) = w.join_with("math", "ann", json!({ "resumeToken": ack["resumeToken"] }));
    assert_eq!(news(&mut w, ann), [told]);
}

#[test]
fn quality_is_told_to_all_when_it_changes_and_the_bad_to_newcomers() {
    let mut w = world();
    let (ann, ack, peer) = w.join_sfu("math", "ann");
    let (bob, ..) = w.join_sfu("math", "bob");
    let mesh = w.join("math", "mesh");
    let quality = |score, cause| Event::Quality { peer, score, cause };
    w.sfu(quality(1, Some(Cause::Uplink)));
    w.sfu(quality(1, Some(Cause::Uplink)));
    let bad = ("connection-quality", json!({ "participantId": ack["participantId"], "score": 1, "cause": "uplink" }));
    for socket in [ann, bob, mesh] {
        assert_eq!(news(&mut w, socket), std::slice::from_ref(&bad), "told once");
    }
    let (eve, ..) = w.join_sfu("math", "eve");
    assert_eq!(news(&mut w, eve), [bad]);
    w.sfu(quality(4, None));
    let good = ("connection-quality", json!({ "participantId": ack["participantId"], "score": 4 }));
    assert_eq!(news(&mut w, eve), [good]);
    let (joe, ..) = w.join_sfu("math", "joe");
    assert_eq!(news(&mut w, joe), [], "an excellent connection is no news");
}

#[test]
fn in_a_large_room_quality_is_told_to_whom_it_concerns() {
    let mut w = world();
    let (ann, _, anns) = w.join_sfu("math", "ann");
    let (bob, _, bobs) = w.join_sfu("math", "bob");
    let (teacher, _) = w.join_with("math", "tea", json!({ "media": "sfu", "isInstructor": true }));
    for n in 3..=signaling::limits::QUALITY_TO_ALL_MAX {
        w.join("math", &format!("m{n}"));
    }
    for socket in [ann, bob, teacher] {
        w.mail(socket);
    }
    w.sfu(Event::Quality { peer: anns, score: 2, cause: Some(Cause::Downlink) });
    w.sfu(Event::Quality { peer: bobs, score: 2, cause: Some(Cause::Server) });
    let counts = [ann, bob, teacher].map(|socket| news(&mut w, socket).len());
    assert_eq!(counts, [1, 1, 2]);
}

#[test]
fn shared_audio_lines_name_whom_they_carry() {
    let mut w = world();
    let (_, ack) = w.join_with("math", "ann", json!({ "media": "sfu" }));
    let Some((_, Request::Join { peer, room, .. })) = w.routed().into_iter().next() else { panic!("a join") };
    let bob = w.join("math", "bob");
    w.sfu(Event::Speakers { room, speakers: vec![], audio: vec![(0, peer), (7, PeerId(99))] });
    let speakers = w.one(bob, "active-speakers");
    let audio = json!([{ "streamId": "audio-0", "participantId": ack["participantId"] }]);
    assert_eq!(speakers, json!({ "speakers": [], "audio": audio }));
    w.sfu(Event::Speakers { room, speakers: vec![(peer, 90)], audio: vec![] });
    assert_eq!(w.one(bob, "active-speakers").get("audio"), None);
}
