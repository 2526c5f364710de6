//! Rooms that outgrow their worker: who is placed where, and what the workers are told.

use serde_json::json;
use sfu::{Event, Kind, PeerId, Request, Source, TrackId, TrackInfo};
use signaling::*;

use crate::world::{World, world};

fn spreading(at: usize) -> World {
    let mut w = world();
    w.lobby.set_spread(at);
    w
}

/// Joins as an SFU client; the socket, the peer, where that is, and who was told of which others.
fn enter(w: &mut World, user: &str) -> (SocketId, PeerId, usize, Vec<(usize, Vec<usize>)>) {
    let (socket, _) = w.join_with("math", user, json!({ "media": "sfu" }));
    let routed = w.routed();
    let peer = routed.iter().find_map(|(worker, request)| match request {
        Request::Join { peer, .. } => Some((*peer, worker.0)),
        _ => None,
    });
    let (peer, worker) = peer.expect("a join");
    (socket, peer, worker, spreads(&routed))
}

fn spreads(routed: &[(WorkerId, Request)]) -> Vec<(usize, Vec<usize>)> {
    let told = routed.iter().filter_map(|(worker, request)| match request {
        Request::Spread { others, .. } => Some((worker.0, others.iter().collect())),
        _ => None,
    });
    told.collect()
}

fn from(w: &mut World, worker: usize, event: Event) {
    w.handle(Input::Media { worker: WorkerId(worker), event });
}

#[test]
fn who_finds_a_worker_full_is_placed_on_the_next_and_both_are_told_of_each_other() {
    let mut w = spreading(2);
    let places: Vec<_> = ["a", "b", "c", "d", "e"].map(|user| enter(&mut w, user)).into();
    assert_eq!(
        places.iter().map(|place| place.2).collect::<Vec<_>>(),
        [0, 0, 1, 1, 1],
        "then all fill, who carries least first"
    );
    let told: Vec<_> = places.iter().map(|place| place.3.clone()).collect();
    // A worker is told with each newcomer: it may have lost its last peer, and with it the room, and that is not known here yet.
    let again = vec![(1, vec![0])];
    assert_eq!(told, [vec![], vec![], vec![(0, vec![1]), (1, vec![0])], again.clone(), again]);
    // What is asked of a peer is asked of its worker.
    let third = w.join_with("math", "c", json!({ "media": "sfu" })).0;
    let routed = w.routed();
    assert!(routed.iter().all(|(worker, _)| *worker == WorkerId(1)) && !routed.is_empty(), "{routed:?}");
    // The last to go says so to both.
    w.granted(third, "leave-session", json!({}));
    w.granted(places[4].0, "leave-session", json!({}));
    assert_eq!(spreads(&w.routed()), []);
    w.granted(places[3].0, "leave-session", json!({}));
    let routed = w.routed();
    assert!(matches!(&routed[0], (WorkerId(1), Request::Leave { peer }) if *peer == places[3].1), "{routed:?}");
    assert_eq!(spreads(&routed), [(1, vec![]), (0, vec![])]);
    // There is place at home again before another worker is taken.
    w.granted(places[0].0, "leave-session", json!({}));
    w.granted(places[1].0, "leave-session", json!({}));
    w.routed();
    assert_eq!(["f", "g", "h"].map(|user| enter(&mut w, user).2), [0, 0, 1]);
}

#[test]
fn a_room_that_is_not_to_be_spread_stays_where_it_is() {
    let mut w = spreading(0);
    for n in 0..20 {
        let (.., worker, told) = enter(&mut w, &format!("m{n}"));
        assert_eq!((worker, told), (0, vec![]));
    }
}

#[test]
fn each_worker_tells_its_own_who_speaks() {
    let mut w = spreading(1);
    let (ann, anns, ..) = enter(&mut w, "ann");
    let (bob, bobs, worker, _) = enter(&mut w, "bob");
    assert_eq!(worker, 1);
    let mesh = w.join("math", "cy");
    let room = w.room_of(anns);
    let speaks = |speaker: PeerId, line: u8| Event::Speakers {
        room,
        speakers: vec![(speaker, 90)],
        audio: vec![(line, speaker)],
    };
    from(&mut w, 0, speaks(bobs, 3));
    from(&mut w, 1, speaks(bobs, 5));
    for (socket, stream) in [(ann, "audio-3"), (mesh, "audio-3"), (bob, "audio-5")] {
        let told = w.one(socket, "active-speakers");
        assert_eq!(told["audio"][0]["streamId"], stream, "{told}");
    }
}

fn snapshot_of(participant: &str, track: u64, elsewhere: &[(u64, usize)]) -> Box<sfu::Snapshot> {
    let track = sfu::TrackSnapshot {
        track: TrackId(track),
        source: Source::Camera,
        codec: None,
        muted: false,
        held: false,
        subscribers: 1,
        layers: Vec::new(),
    };
    let peer = sfu::PeerSnapshot {
        participant: participant.into(),
        connected: true,
        sample: sfu::Sample::default(),
        score: 4,
        cause: None,
        tracks: vec![track],
        subscriptions: Vec::new(),
    };
    let elsewhere = elsewhere.iter().map(|(track, count)| (TrackId(*track), *count)).collect();
    Box::new(sfu::Snapshot { peers: vec![peer], truncated: false, elsewhere })
}

#[test]
fn what_the_workers_tell_of_a_room_is_told_as_one() {
    let mut w = spreading(1);
    enter(&mut w, "ann");
    enter(&mut w, "bob");
    let http = HttpId(7_000);
    let command = Command::Media { session: "math".into(), participant: None };
    w.handle(Input::Command { http, actor: Actor::Operator, command });
    let asked: Vec<(usize, u64)> = w
        .routed()
        .into_iter()
        .map(|(worker, request)| match request {
            Request::Snapshot { ticket, .. } => (worker.0, ticket),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(asked.iter().map(|(worker, _)| *worker).collect::<Vec<_>>(), [0, 1]);
    let ticket = asked[0].1;
    from(&mut w, 1, Event::Snapshot { ticket, snapshot: snapshot_of("p_b", 2, &[(1, 4)]) });
    assert!(w.reply(http).is_none(), "one is missing");
    from(&mut w, 0, Event::Snapshot { ticket, snapshot: snapshot_of("p_a", 1, &[]) });
    let Some(Ok(Granted::Answer(body))) = w.reply(http) else { panic!("an answer") };
    let told = body["participants"].as_array().unwrap();
    let told: Vec<_> = told.iter().map(|it| (&it["participantId"], &it["tracks"][0]["subscribers"])).collect();
    assert_eq!(told, [(&json!("p_b"), &json!(1)), (&json!("p_a"), &json!(5))]);
}

#[test]
fn what_moderators_do_to_a_track_is_asked_of_its_worker() {
    let mut w = spreading(1);
    let (ann, ..) = enter(&mut w, "ann");
    let (bob, bobs, ..) = enter(&mut w, "bob");
    let info = TrackInfo { track: TrackId(9), kind: Kind::Video, source: Source::Camera, muted: false };
    from(&mut w, 1, Event::TrackPublished { peer: bobs, info });
    // A track of one worker is subscribed to on the other.
    w.granted(ann, "subscription", json!({ "trackId": TrackId(9).to_string(), "enabled": false }));
    w.granted(bob, "track-update", json!({ "trackId": TrackId(9).to_string(), "muted": true }));
    let asked: Vec<(usize, bool)> =
        w.routed().iter().map(|(worker, request)| (worker.0, matches!(request, Request::Mute { .. }))).collect();
    assert_eq!(asked, [(0, false), (1, true)]);
}
