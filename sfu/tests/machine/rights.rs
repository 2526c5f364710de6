//! What participants may not do, tried by clients that do it all the same (J4), and what a moderator holds back.

use sfu::{Codecs, Drop, Event, Kind, PeerId, Request, Rights, RoomId, Source, TrackHint, TrackId, rtcp};

use crate::tab::{LEVEL_ID, MID_ID, OPUS, Tab, VP8, offered_line, plain_rtp, sections, vp8};
use crate::world::World;

const BOTH: [Kind; 2] = [Kind::Audio, Kind::Video];

fn publishing(sources: &[Source]) -> Rights {
    Rights { publish: sources.iter().copied().collect(), ..Rights::default() }
}

/// A call of two, and a third who may publish nothing.
fn observed() -> (World, usize) {
    let mut world = World::call(2, &BOTH);
    let index = world.enter_as(1, false, publishing(&[]));
    (world, index)
}

fn refused(world: &World) -> Vec<(u64, Source)> {
    let refused = |event: &Event| match event {
        Event::NotPermitted { peer, source } => Some((peer.0, *source)),
        _ => None,
    };
    world.events.iter().filter_map(refused).collect()
}

/// The m-lines' directions in the last description to a tab.
fn directions(world: &World, index: usize) -> Vec<String> {
    let (_, _, sdp) = world.descriptions.iter().rfind(|(to, _, _)| *to == index).expect("a description");
    let words = ["a=sendrecv", "a=sendonly", "a=recvonly", "a=inactive"];
    let direction = |section: String| section.lines().find(|line| words.contains(line)).unwrap_or("none").to_owned();
    sections(sdp).into_iter().map(direction).collect()
}

fn offer_with(world: &mut World, index: usize, hints: &[(&str, Source)]) {
    let hint = |(mid, source): &(&str, Source)| TrackHint { mid: (*mid).to_owned(), source: *source, muted: None };
    let (sdp, tracks) = (world.tabs[index].offer(), hints.iter().map(hint).collect());
    world.request(Request::Offer { peer: PeerId(index as u64), sdp, tracks, saw_ours: true });
    world.run_ms(500);
}

fn set_rights(world: &mut World, index: usize, rights: Rights) {
    world.request(Request::Rights { peer: PeerId(index as u64), rights });
    world.run_ms(500);
}

/// What a tab sends on its sources, on SSRCs of others, on m-lines of its own and of ours and on none reaches nobody, and is
/// counted.
fn assert_unheard(world: &mut World, index: usize) {
    world.run_ms(100);
    world.tabs.iter_mut().for_each(|tab| tab.got.clear());
    let before = world.drops(Drop::NotPermitted);
    for source in 0..world.tabs[index].sources.len() {
        let payload =
            if world.tabs[index].sources[source].kind == Kind::Audio { vec![0x78; 20] } else { vp8(true, 9, 50) };
        world.media(index, source, 3_000, &payload);
    }
    let sent = world.tabs[index].sources.len();
    let theirs: Vec<u32> = world.tabs[0].sources.iter().map(|source| source.ssrc).collect();
    let mids: Vec<String> = world.tabs[index].lines.iter().map(|line| line.mid.clone()).collect();
    let mids: Vec<&[u8]> = mids.iter().map(String::as_bytes).chain([&b"none"[..]]).collect();
    let guesses: Vec<u32> = theirs.into_iter().chain(50_000..50_003).collect();
    for (n, ssrc) in guesses.iter().enumerate() {
        for (m, mid) in mids.iter().enumerate() {
            for pt in [OPUS, VP8] {
                let seq = before as u16 * 20 + (n * 100 + m * 4) as u16 + u16::from(pt == VP8);
                let plain = plain_rtp(*ssrc, pt, seq, 1, &[(MID_ID, mid)], &vp8(true, 9, 20));
                let header_len = plain.len() - 20;
                let sealed = world.tabs[index].seal(plain, header_len, *ssrc, seq.into());
                world.send(index, sealed);
            }
        }
    }
    world.run_ms(100);
    assert!(world.tabs.iter().all(|tab| tab.got.is_empty()));
    let sent = sent + guesses.len() * mids.len() * 2;
    assert_eq!(world.drops(Drop::NotPermitted) - before, sent as u64);
}

#[test]
fn who_may_only_subscribe_publishes_nothing_and_gets_everything() {
    let (mut world, index) = observed();
    for kind in BOTH {
        world.tabs[index].add(kind);
    }
    world.offer(index);
    world.settle();
    let all = directions(&world, index);
    assert_eq!(all[..2], ["a=inactive", "a=inactive"], "the offer is answered");
    assert!(all[2..].iter().all(|direction| direction == "a=sendonly"), "and ours follows: {all:?}");
    assert_eq!(refused(&world), [(2, Source::Microphone), (2, Source::Camera)]);
    world.run_ms(1_000);
    assert!(world.tabs[index].is_connected() && world.published().is_empty());
    assert_unheard(&mut world, index);
    world.assert_media(0, index);
    world.assert_media(1, index);
    world.offer(index);
    world.run_ms(500);
    assert_eq!(refused(&world).len(), 2, "it was told once");
    assert_unheard(&mut world, index);
}

#[test]
fn renegotiating_does_not_help() {
    let (mut world, index) = observed();
    let now = world.now.mono;
    world.tabs[index].add_data(now);
    world.offer(index);
    world.run_ms(1_000);
    world.assert_media(0, index);
    world.tabs[index].add(Kind::Video);
    world.offer(index);
    world.run_ms(500);
    assert_eq!(refused(&world), [(2, Source::Camera)]);
    assert_unheard(&mut world, index);
    // On an m-line on which it receives something.
    let line = world.tabs[index].lines.iter().position(|line| line.direction == "recvonly").expect("a line of ours");
    world.tabs[index].lines[line].direction = "sendrecv";
    offer_with(&mut world, index, &[]);
    assert_eq!(directions(&world, index)[line], "a=sendonly");
    assert!(world.published().is_empty());
    assert_unheard(&mut world, index);
    world.assert_media(0, index);
    // In an answer, to an offer that left no way for it.
    world.silent.push(index);
    world.join(1, &[Kind::Audio]);
    world.run_ms(500);
    let (_, _, sdp) =
        world.descriptions.iter().rfind(|(to, offer, _)| *to == index && *offer).cloned().expect("an offer");
    let now = world.now.mono;
    let answer = world.tabs[index].answer(&sdp, now).replace("a=recvonly", "a=sendrecv\r\na=msid:x y");
    world.request(Request::Answer { peer: PeerId(index as u64), sdp: answer, tracks: vec![] });
    world.silent.clear();
    world.run_ms(1_000);
    assert!(world.published().len() == 1, "but that of the newcomer");
    assert_unheard(&mut world, index);
    world.assert_media(3, index);
}

#[test]
fn a_claim_counts_only_where_it_fits() {
    let mut world = World::call(1, &BOTH);
    let microphone = world.enter_as(1, false, publishing(&[Source::Microphone]));
    for kind in BOTH {
        world.tabs[microphone].add(kind);
    }
    offer_with(&mut world, microphone, &[("0", Source::Microphone), ("1", Source::Microphone)]);
    assert_eq!(refused(&world), [(1, Source::Camera)]);
    assert_eq!(directions(&world, microphone)[..2], ["a=recvonly", "a=inactive"]);
    let camera = world.enter_as(1, false, publishing(&[Source::Camera]));
    world.tabs[camera].add(Kind::Video);
    offer_with(&mut world, camera, &[("0", Source::Camera)]);
    world.assert_media(camera, 0);
    world.events.clear();
    // What was a camera when it was agreed becomes a screen.
    offer_with(&mut world, camera, &[("0", Source::Screen)]);
    assert_eq!(refused(&world), [(2, Source::Screen)]);
    assert!(world.events.iter().any(|event| matches!(event, Event::TrackUnpublished { peer: PeerId(2), .. })));
    assert_unheard(&mut world, camera);
    offer_with(&mut world, camera, &[("0", Source::Camera)]);
    world.assert_media(camera, 0);
}

#[test]
fn a_right_that_is_taken_stops_at_once_and_one_that_is_given_is_offered() {
    let mut world = World::call(2, &BOTH);
    world.assert_media(0, 1);
    world.request(Request::Rights { peer: PeerId(0), rights: publishing(&[Source::Microphone]) });
    let before = world.drops(Drop::NotPermitted);
    let got = world.tabs[1].got.len();
    world.media(0, 1, 3_000, &vp8(true, 1, 50));
    world.settle();
    assert_eq!((world.tabs[1].got.len(), world.drops(Drop::NotPermitted)), (got, before + 1));
    assert_eq!(world.events.iter().filter(|e| matches!(e, Event::TrackUnpublished { .. })).count(), 1);
    world.run_ms(500);
    assert_eq!(directions(&world, 0)[..2], ["a=recvonly", "a=inactive"]);
    world.media(0, 0, 960, &[0x78; 20]);
    world.settle();
    assert_eq!(world.tabs[1].got.len(), got + 1, "the microphone goes on");
    world.assert_media(1, 0);
    set_rights(&mut world, 0, Rights::default());
    assert_eq!(directions(&world, 0)[1], "a=recvonly");
    world.assert_media(0, 1);
    assert!(refused(&world).is_empty(), "who lost a right is told of that by signaling");
}

#[test]
fn who_may_not_subscribe_gets_nothing() {
    let mut world = World::call(2, &BOTH);
    let deaf = world.enter_as(1, true, Rights { subscribe: false, ..Rights::default() });
    world.tabs[deaf].add(Kind::Audio);
    world.offer(deaf);
    world.run_ms(1_000);
    assert_eq!(world.tabs[deaf].lines.len(), 1, "no m-line of others");
    let track = world.published()[0];
    assert_eq!(world.sfu.gauges().subscriptions, 2 * 2 + 2);
    let wanted: Vec<TrackId> = world.track_lines.iter().flat_map(|(_, lines)| lines).map(|line| line.track).collect();
    for track in wanted.into_iter().chain([track]) {
        let wish = sfu::Wish { enabled: Some(true), ..Default::default() };
        world.request(Request::Subscription { peer: PeerId(deaf as u64), track, wish });
    }
    world.run_ms(500);
    assert_eq!(world.sfu.gauges().subscriptions, 2 * 2 + 2);
    world.assert_media(deaf, 0);
    world.assert_media(0, 1);
    assert!(world.tabs[deaf].got.is_empty());

    set_rights(&mut world, deaf, Rights::default());
    world.assert_media(0, deaf);
    set_rights(&mut world, deaf, Rights { subscribe: false, ..Rights::default() });
    let got = world.tabs[deaf].got.len();
    world.assert_media(0, 1);
    assert_eq!(world.tabs[deaf].got.len(), got);
    assert_eq!(world.sfu.gauges().subscriptions, 2 * 2 + 2);
    set_rights(&mut world, deaf, Rights::default());
    world.assert_media(1, deaf);
}

fn plis(tab: &Tab) -> usize {
    let packets = tab.rtcp.iter().flat_map(|compound| rtcp::parse(compound));
    packets.filter(|packet| matches!(packet, rtcp::Packet::Pli { .. })).count()
}

fn hold(world: &mut World, index: usize, track: TrackId, held: bool) {
    world.request(Request::Hold { peer: PeerId(index as u64), track, held });
}

/// A call of two, and the tracks of the first: audio, video.
fn call() -> (World, Vec<TrackId>) {
    let mut world = World::new();
    let first = world.join(1, &BOTH);
    world.settle();
    let tracks = world.published();
    world.join(1, &BOTH);
    world.run_ms(1_000);
    world.assert_media(first, 1);
    (world, tracks)
}

#[test]
fn nothing_of_a_held_track_is_forwarded_until_its_publisher_unmutes() {
    let (mut world, tracks) = call();
    let (audio, video) = (tracks[0], tracks[1]);
    let got = world.tabs[1].got.len();
    // What has come and not been sent when it is held is not sent either.
    world.media(0, 1, 3_000, &vp8(false, 1, 50));
    hold(&mut world, 0, audio, true);
    hold(&mut world, 0, video, true);
    world.settle();
    let (dropped, asked) = (world.drops(Drop::NotPermitted), plis(&world.tabs[0]));
    for n in 0..50 {
        world.media(0, 0, 960, &[0x78, n]);
        world.media(0, 1, 3_000, &vp8(n % 10 == 0, n, 50));
        world.run_ms(20);
    }
    let ssrc = world.tabs[1].got.last().unwrap().ssrc;
    let mut wants = Vec::new();
    rtcp::write_pli(1, ssrc, &mut wants);
    world.rtcp(1, wants);
    world.run_ms(3_000);
    assert_eq!(world.tabs[1].got.len(), got);
    assert_eq!(world.drops(Drop::NotPermitted), dropped + 100);
    assert_eq!(plis(&world.tabs[0]), asked, "no keyframe is asked for that nobody would get");
    world.assert_media(1, 0);

    // Nobody lets go of what is another's, and a muted track stays held.
    world.request(Request::Mute { peer: PeerId(1), track: video, muted: false });
    world.request(Request::Mute { peer: PeerId(0), track: video, muted: true });
    world.media(0, 1, 3_000, &vp8(true, 1, 50));
    world.settle();
    assert_eq!(world.tabs[1].got.len(), got);

    for track in [audio, video] {
        world.request(Request::Mute { peer: PeerId(0), track, muted: false });
    }
    world.run_ms(50);
    assert_eq!(plis(&world.tabs[0]), asked + 1, "a keyframe is asked for");
    world.media(0, 1, 3_000, &vp8(false, 1, 50));
    world.settle();
    assert_eq!(world.tabs[1].got.len(), got, "nothing before it");
    world.assert_media(0, 1);
    assert_eq!(world.tabs[1].got.len(), got + 2);
    assert_eq!(world.tabs[1].unopened, 0);

    // A moderator may let go, too.
    hold(&mut world, 0, audio, true);
    world.media(0, 0, 960, &[0x78, 1]);
    world.settle();
    assert_eq!(world.tabs[1].got.len(), got + 2);
    hold(&mut world, 0, audio, false);
    world.assert_media(0, 1);
}

/// One packet of a microphone that is as loud as can be.
fn shout(world: &mut World, index: usize) {
    let tab = &mut world.tabs[index];
    let source = &mut tab.sources[0];
    source.index += 1;
    source.timestamp = source.timestamp.wrapping_add(960);
    let source = *source;
    let payload = [0x78, index as u8];
    let plain = plain_rtp(source.ssrc, OPUS, source.index as u16, source.timestamp, &[(LEVEL_ID, &[5])], &payload);
    let sealed = tab.seal(plain.clone(), plain.len() - payload.len(), source.ssrc, source.index);
    world.send(index, sealed);
}

#[test]
fn who_is_held_is_no_speaker() {
    let (mut world, tracks) = call();
    let speak = |world: &mut World| {
        for _ in 0..50 {
            shout(world, 0);
            shout(world, 1);
            world.run_ms(20);
        }
        let speakers = world.events.iter().rev().find_map(|event| match event {
            Event::Speakers { speakers, .. } => Some(speakers.iter().map(|(peer, _)| peer.0).collect::<Vec<_>>()),
            _ => None,
        });
        let mut speakers = speakers.unwrap_or_default();
        speakers.sort();
        speakers
    };
    assert_eq!(speak(&mut world), [0, 1]);
    hold(&mut world, 0, tracks[0], true);
    assert_eq!(speak(&mut world), [1]);
    world.request(Request::Mute { peer: PeerId(0), track: tracks[0], muted: false });
    assert_eq!(speak(&mut world), [0, 1]);
}

#[test]
fn a_room_has_the_codecs_that_it_is_given() {
    let h264 = |line: &mut crate::tab::Line| {
        line.media.push_str(" 102");
        line.attributes.push("a=rtpmap:102 H264/90000".to_owned());
        line.attributes.push("a=fmtp:102 packetization-mode=1;profile-level-id=42e01f".to_owned());
    };
    for (words, expected) in [
        (&[][..], "m=video 9 UDP/TLS/RTP/SAVPF 96 97 102"),
        (&["vp8", "av1"][..], "m=video 9 UDP/TLS/RTP/SAVPF 96 97"),
        (&["h264"][..], "m=video 9 UDP/TLS/RTP/SAVPF 102"),
        (&["vp9"][..], "m=video 0 "),
        (&["telepathy"][..], "m=video 0 "),
    ] {
        let mut world = World::new();
        let now = world.now.mono;
        world.tabs.push(Tab::new(0, now));
        world.request(Request::Join {
            peer: PeerId(0),
            room: RoomId(1),
            participant: "pa_0".into(),
            auto_subscribe: true,
            offer_first: false,
            rights: Rights::default(),
            codecs: Codecs::named(words.iter().copied()),
            view: Default::default(),
        });
        world.tabs[0].add(Kind::Audio);
        let mut line = offered_line(Kind::Video, "1", 7, 8);
        h264(&mut line);
        world.tabs[0].lines.push(line);
        world.offer(0);
        world.settle();
        let answer = sections(&world.descriptions[0].2);
        assert!(answer[0].starts_with("m=audio 9 ") && answer[1].starts_with(expected), "{words:?}: {}", answer[1]);
    }
}
