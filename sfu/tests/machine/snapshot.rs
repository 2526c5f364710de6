//! What operators are shown of a room.

use std::time::Duration;

use sfu::{Event, Kind, LayerSnapshot, PathKind, Request, RoomId, SNAPSHOT_PEERS_MAX, Snapshot, Source};

use crate::tab::vp8;
use crate::world::World;

/// The answer to a snapshot, which comes at once and once.
fn look(world: &mut World, room: u64, only: Option<&str>) -> Snapshot {
    world.request(Request::Snapshot { room: RoomId(room), only: only.map(Into::into), ticket: 99 });
    world.settle();
    let told = world.events.iter().filter_map(|event| match event {
        Event::Snapshot { ticket: 99, snapshot } => Some((**snapshot).clone()),
        _ => None,
    });
    let told: Vec<Snapshot> = told.collect();
    world.events.retain(|event| !matches!(event, Event::Snapshot { .. }));
    assert_eq!(told.len(), 1);
    told.into_iter().next().unwrap_or_default()
}

#[test]
fn it_tells_who_sends_what_to_whom() {
    let mut world = World::call(2, &[Kind::Audio, Kind::Video]);
    for n in 0..400u32 {
        let audio = world.tabs[0].rtp(0, 960, &[1; 100]);
        // Each eighth packet is lost on its way to us.
        if n % 8 != 0 {
            world.send(0, audio);
        }
        world.media(0, 1, 1_800, &vp8(n == 0, 7, 500));
        world.run(Duration::from_millis(20));
    }
    let all = look(&mut world, 1, None);
    assert_eq!(all.peers.iter().map(|peer| &*peer.participant).collect::<Vec<_>>(), ["pa_0", "pa_1"]);
    let ann = &all.peers[0];
    assert!(ann.connected && ann.sample.path == PathKind::Udp && ann.subscriptions.is_empty(), "{ann:?}");
    assert!(ann.sample.up.pps > 60 && ann.sample.silence < Duration::from_secs(10), "{:?}", ann.sample);
    assert_eq!(ann.tracks.iter().map(|track| track.source).collect::<Vec<_>>(), [Source::Microphone, Source::Camera]);
    assert!(ann.tracks.iter().all(|track| track.subscribers == 1 && track.codec.is_some() && !track.muted));
    let [audio, video]: [&LayerSnapshot; 2] = [0, 1].map(|at| &ann.tracks[at].layers[0]);
    assert!(audio.active && audio.watched && (340..=350).contains(&audio.packets), "{audio:?}");
    assert!((49..=51).contains(&audio.lost), "{audio:?}");
    assert!((150_000..300_000).contains(&video.bps) && video.lost == 0, "500 bytes, 50 times a second: {video:?}");

    let ben = look(&mut world, 1, Some("pa_1"));
    let [ben] = &ben.peers[..] else { panic!("{ben:?}") };
    let mut gets: Vec<_> = ben.subscriptions.iter().map(|s| (s.source, &*s.participant, s.level)).collect();
    gets.sort_by_key(|(source, ..)| source.as_str());
    let expected = [(Source::Camera, "pa_0", Some((0, 0))), (Source::Microphone, "pa_0", Some((0, 0)))];
    assert_eq!(gets, expected);
    assert!(ben.subscriptions.iter().all(|s| s.packets > 300 && s.bytes > 30_000 && s.paused.is_none()), "{ben:?}");

    world.run(Duration::from_secs(5));
    let later = look(&mut world, 1, Some("pa_0"));
    assert!(later.peers[0].tracks.iter().all(|track| track.layers[0].bps == 0), "nothing comes any more");
}

#[test]
fn it_is_bounded_and_never_lacks_an_answer() {
    let mut world = World::new();
    assert_eq!(look(&mut world, 1, None), Snapshot::default(), "there is no such room");
    for _ in 0..=SNAPSHOT_PEERS_MAX {
        world.enter(1, false);
    }
    world.enter(2, false);
    let all = look(&mut world, 1, None);
    assert_eq!((all.peers.len(), all.truncated), (SNAPSHOT_PEERS_MAX, true));
    assert!(all.peers.iter().all(|peer| !peer.connected));
    let last = look(&mut world, 1, Some(&format!("pa_{SNAPSHOT_PEERS_MAX}")));
    assert_eq!((last.peers.len(), last.truncated), (1, false));
    assert_eq!(look(&mut world, 2, Some("pa_0")).peers, [], "that one is elsewhere");
}
