//! What descriptions bring about in the SFU as a whole: simulcast, hints, limits.

use sfu::{Event, Input, Kind, Output, PeerId, Request, Source, TrackHint, TrackInfo, Unavailable};

use crate::tab::{attribute, sections};
use crate::world::World;

/// The SFU's answer to an offer from outside.
fn answer_to(world: &mut World, index: usize, sdp: &str) -> String {
    let request = Request::Offer { peer: PeerId(index as u64), sdp: sdp.into(), tracks: vec![], saw_ours: true };
    world.sfu.handle(Input::Request(request), world.now);
    let answer = std::iter::from_fn(|| world.sfu.poll()).find_map(|output| match output {
        Output::Event(Event::Answer { sdp, .. }) => Some(sdp),
        _ => None,
    });
    answer.expect("an answer")
}

#[test]
fn simulcast_offers_of_browsers_are_answered_with_their_layers() {
    let offers = [
        (include_str!("../sdp/chromium_simulcast_offer.sdp"), [10, 11, 12]),
        (include_str!("../sdp/firefox_simulcast_offer.sdp"), [9, 10, 8]),
    ];
    for (offer, [rid, repaired, descriptor]) in offers {
        let mut world = World::new();
        let index = world.enter(1, false);
        let answer = answer_to(&mut world, index, offer);
        let [audio, video] = &sections(&answer)[..] else { panic!("two m-lines") };
        assert!(
            video.contains("a=rid:q recv\r\na=rid:h recv\r\na=rid:f recv\r\na=simulcast:recv q;h;f\r\n"),
            "{video}"
        );
        for (id, uri) in [
            (rid, "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id"),
            (repaired, "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id"),
            (descriptor, "https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension"),
        ] {
            assert!(video.contains(&format!("a=extmap:{id} {uri}\r\n")), "{video}");
        }
        assert!(!audio.contains("a=rid") && !audio.contains("rtp-stream-id"), "{audio}");
        assert_eq!(video.matches("a=extmap-allow-mixed\r\n").count(), 1);
    }
}

#[test]
fn a_later_offer_says_other_things_of_a_track() {
    let mut world = World::call(2, &[Kind::Video]);
    let hint = |source, muted| vec![TrackHint { mid: "0".into(), source, muted }];
    let said = |world: &mut World, tracks: Vec<TrackHint>| -> Vec<TrackInfo> {
        world.events.clear();
        let sdp = world.tabs[0].offer();
        world.request(Request::Offer { peer: PeerId(0), sdp, tracks, saw_ours: true });
        world.run_ms(200);
        let infos = world.events.iter().map(|event| match event {
            Event::TrackPublished { peer: PeerId(0), info } => info.clone(),
            other => panic!("{other:?}"),
        });
        infos.collect()
    };
    let first = said(&mut world, hint(Source::Screen, Some(true)));
    let [info] = &first[..] else { panic!("one change") };
    assert_eq!((info.kind, info.source, info.muted), (Kind::Video, Source::Screen, true));
    assert_eq!(said(&mut world, vec![]), []);
    world.request(Request::Mute { peer: PeerId(0), track: info.track, muted: false });
    assert_eq!(said(&mut world, hint(Source::Screen, None)), [], "what was said over signaling holds");
    let then = said(&mut world, hint(Source::Camera, None));
    let [again] = &then[..] else { panic!("one change") };
    assert_eq!(*again, TrackInfo { source: Source::Camera, muted: false, ..info.clone() }, "the same track");
    world.assert_media(0, 1);
}

#[test]
fn a_video_that_found_no_place_follows_when_another_ends() {
    let mut world = World::new();
    let publisher = world.join(1, &[Kind::Video; 27]);
    world.run_ms(500);
    let tracks = world.published();
    let listener = world.join(1, &[]);
    world.run_ms(1_000);
    let unavailable = |world: &World| -> Vec<sfu::TrackId> {
        let left_out = world.events.iter().filter_map(|event| match event {
            Event::TrackUnavailable { peer: PeerId(1), track, reason: Unavailable::Limit } => Some(*track),
            _ => None,
        });
        left_out.collect()
    };
    assert_eq!(unavailable(&world), tracks[25..]);
    let offered = |world: &World| world.descriptions.iter().rev().find(|d| d.0 == listener && d.1).unwrap().2.clone();
    assert!(!offered(&world).contains(&tracks[25].to_string()));

    world.tabs[publisher].lines[3].direction = "inactive";
    world.offer(publisher);
    world.run_ms(1_000);
    let sdp = offered(&world);
    assert!(sdp.contains(&tracks[25].to_string()) && !sdp.contains(&tracks[26].to_string()), "one place, one track");
    assert!(!sdp.contains(&tracks[3].to_string()) && attribute(&sdp, "msid").is_some());
    assert_eq!(unavailable(&world), tracks[25..], "nothing new is left out");
}
