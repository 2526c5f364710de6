//! Players (WHEP) and those who only publish (WHIP): m-lines of their own, never an offer of ours.

use std::time::Duration;

use sfu::{Event, Kind, PeerId, Request, Rights, RoomId, Source, TrackHint, View};

use crate::tab::{OPUS, Tab, attribute, offered_line, sections, vp8};
use crate::world::World;

/// Lets a tab in that is no ordinary one.
fn enter(world: &mut World, view: View, rights: Rights) -> usize {
    let index = world.tabs.len();
    world.tabs.push(Tab::new(index, world.now.mono));
    world.request(Request::Join {
        peer: PeerId(index as u64),
        room: RoomId(1),
        participant: format!("pa_{index}").into(),
        auto_subscribe: false,
        offer_first: false,
        rights,
        codecs: Default::default(),
        view,
    });
    index
}

/// A player with m-lines of these kinds.
fn player(world: &mut World, participant: Option<&str>, kinds: &[Kind]) -> usize {
    let view = View::Program { participant: participant.map(Into::into) };
    let index = enter(world, view, Rights { data: false, ..Rights::default() });
    for (mid, kind) in kinds.iter().enumerate() {
        let mut line = offered_line(*kind, &mid.to_string(), 0, 0);
        line.direction = "recvonly";
        line.sources.clear();
        world.tabs[index].lines.push(line);
    }
    world.offer(index);
    world.run_ms(500);
    assert!(world.tabs[index].is_connected());
    index
}

/// Lets a publisher in whose m-lines show these sources.
fn publisher(world: &mut World, instructor: bool, sources: &[Source]) -> usize {
    let index = enter(world, View::Tracks, Rights { instructor, data: false, ..Rights::default() });
    let tracks = sources.iter().enumerate().map(|(mid, source)| {
        let kind = if matches!(source, Source::Camera | Source::Screen) { Kind::Video } else { Kind::Audio };
        world.tabs[index].add(kind);
        TrackHint { mid: mid.to_string(), source: *source, muted: None }
    });
    let tracks = tracks.collect();
    let sdp = world.tabs[index].offer();
    world.request(Request::Offer { peer: PeerId(index as u64), sdp, tracks, saw_ours: false });
    world.run_ms(300);
    index
}

/// Everybody of `publishers` sends video that begins with a keyframe whenever one is wanted, and audio; who `speaks` is loud.
fn air(world: &mut World, publishers: &[usize], speaks: Option<usize>, ms: u64) {
    for step in 0..ms / 20 {
        for index in publishers {
            for source in 0..world.tabs[*index].sources.len() {
                let wanted = world.tabs[*index].rtcp.iter().any(|rtcp| rtcp.windows(2).any(|pair| pair == [0x81, 206]));
                match world.tabs[*index].sources[source].kind {
                    Kind::Video => {
                        let payload = vp8(wanted || step == 0, (*index * 16 + source) as u8, 50);
                        world.media(*index, source, 1_800, &payload);
                    }
                    Kind::Audio => {
                        let loud = if speaks == Some(*index) { 27 } else { 100 };
                        audio(world, *index, source, loud);
                    }
                }
            }
            world.tabs[*index].rtcp.clear();
        }
        world.run_ms(20);
    }
}

fn audio(world: &mut World, index: usize, source: usize, level: u8) {
    let tab = &mut world.tabs[index];
    let sent = &mut tab.sources[source];
    sent.index += 1;
    sent.timestamp = sent.timestamp.wrapping_add(960);
    let sent = *sent;
    let mid = tab.lines[sent.line].mid.clone();
    let extensions: [(u8, &[u8]); 2] = [(crate::tab::MID_ID, mid.as_bytes()), (crate::tab::LEVEL_ID, &[level])];
    let payload = [0x78, 0, (index * 16 + source) as u8];
    let plain = crate::tab::plain_rtp(sent.ssrc, OPUS, sent.index as u16, sent.timestamp, &extensions, &payload);
    let sealed = tab.seal(plain.clone(), plain.len() - payload.len(), sent.ssrc, sent.index);
    world.send(index, sealed);
}

/// What came last on the n-th m-line of a player: (tab, source). Also checks that each stream is one, begun by a keyframe
/// after each change.
fn shows(world: &World, player: usize, line: usize) -> Option<(usize, usize)> {
    let answer = world.descriptions.iter().rev().find(|d| d.0 == player && !d.1).unwrap();
    let section = &sections(&answer.2)[line];
    let ssrc: u32 = attribute(section, "ssrc")?.split(' ').next()?.parse().ok()?;
    let got: Vec<_> = world.tabs[player].got.iter().filter(|got| got.ssrc == ssrc).collect();
    for two in got.windows(2) {
        assert_eq!(two[1].seq, two[0].seq.wrapping_add(1));
        assert!((1..900_000).contains(&two[1].timestamp.wrapping_sub(two[0].timestamp)));
        if section.starts_with("m=video") && two[0].payload[2] != two[1].payload[2] {
            assert_eq!(two[1].payload[1] & 1, 0, "another picture begins with a keyframe");
        }
    }
    got.last().map(|got| (usize::from(got.payload[2] / 16), usize::from(got.payload[2] % 16)))
}

fn offers_to(world: &World, index: usize) -> usize {
    world.descriptions.iter().filter(|d| d.0 == index && d.1).count()
}

#[test]
fn a_player_sees_the_screen_else_the_instructor_else_who_speaks() {
    let mut world = World::new();
    let ann = publisher(&mut world, false, &[Source::Microphone, Source::Camera]);
    let ben = publisher(&mut world, false, &[Source::Microphone, Source::Camera]);
    let player = player(&mut world, None, &[Kind::Audio, Kind::Video]);
    air(&mut world, &[ann, ben], Some(ben), 2_000);
    assert_eq!((shows(&world, player, 0), shows(&world, player, 1)), (Some((ben, 0)), Some((ben, 1))));
    air(&mut world, &[ann, ben], Some(ann), 3_000);
    assert_eq!((shows(&world, player, 0), shows(&world, player, 1)), (Some((ann, 0)), Some((ann, 1))));
    air(&mut world, &[ann, ben], None, 3_000);
    assert_eq!((shows(&world, player, 0), shows(&world, player, 1)), (Some((ann, 0)), Some((ann, 1))), "she stays");

    let teacher = publisher(&mut world, true, &[Source::Microphone, Source::Camera]);
    air(&mut world, &[ann, ben, teacher], Some(ben), 3_000);
    assert_eq!((shows(&world, player, 0), shows(&world, player, 1)), (Some((ben, 0)), Some((teacher, 1))));
    let screen = publisher(&mut world, false, &[Source::Screen]);
    air(&mut world, &[ann, ben, teacher, screen], None, 3_000);
    assert_eq!((shows(&world, player, 0), shows(&world, player, 1)), (Some((teacher, 0)), Some((screen, 0))));

    world.request(Request::Leave { peer: PeerId(screen as u64) });
    air(&mut world, &[ann, ben, teacher], None, 1_000);
    assert_eq!(shows(&world, player, 1), Some((teacher, 1)), "what ends is replaced at once");
    assert_eq!(offers_to(&world, player), 0);
    let said =
        world.events.iter().any(|event| matches!(event, Event::TrackPublished { peer, .. } if peer.0 == player as u64));
    assert!(!said && world.sfu.counters().peer_panics == 0);
}

#[test]
fn a_player_may_have_several_m_lines_or_one_participant() {
    let mut world = World::new();
    let ann = publisher(&mut world, false, &[Source::Microphone, Source::Camera]);
    let ben = publisher(&mut world, true, &[Source::Microphone, Source::Camera, Source::Screen]);
    let wide =
        player(&mut world, None, &[Kind::Audio, Kind::Audio, Kind::Video, Kind::Video, Kind::Video, Kind::Video]);
    let only = player(&mut world, Some("pa_0"), &[Kind::Video, Kind::Audio, Kind::Video]);
    air(&mut world, &[ann, ben], Some(ben), 2_000);
    let mut pictures: Vec<_> = (2..6).filter_map(|line| shows(&world, wide, line)).collect();
    pictures.sort_unstable();
    assert_eq!(pictures, [(ann, 1), (ben, 1), (ben, 2)], "each once, and one m-line has nothing");
    let mut voices: Vec<_> = (0..2).filter_map(|line| shows(&world, wide, line)).collect();
    voices.sort_unstable();
    assert_eq!(voices, [(ann, 0), (ben, 0)]);
    assert_eq!([0, 1, 2].map(|line| shows(&world, only, line)), [Some((ann, 1)), Some((ann, 0)), None]);

    // A camera that is off is not shown.
    let tracks = world.published();
    world.request(Request::Mute { peer: PeerId(ann as u64), track: tracks[1], muted: true });
    air(&mut world, &[ann, ben], Some(ben), 600);
    world.tabs[only].got.clear();
    air(&mut world, &[ann, ben], Some(ben), 200);
    assert_eq!(shows(&world, only, 0), None);
}

#[test]
fn without_any_audio_a_player_sees_what_is_turned_on_and_off() {
    let mut world = World::new();
    let ann = publisher(&mut world, false, &[Source::Camera]);
    let ben = publisher(&mut world, false, &[Source::Camera]);
    let player = player(&mut world, None, &[Kind::Video]);
    air(&mut world, &[ann, ben], None, 500);
    let first = shows(&world, player, 0).unwrap().0;
    let other = if first == ann { ben } else { ann };
    let tracks = world.published();
    world.request(Request::Mute { peer: PeerId(first as u64), track: tracks[usize::from(first == ben)], muted: true });
    air(&mut world, &[ann, ben], None, 1_000);
    assert_eq!(shows(&world, player, 0), Some((other, 0)));
}

#[test]
fn a_player_that_restarts_ice_or_would_send_keeps_to_its_program() {
    let mut world = World::new();
    let ann = publisher(&mut world, false, &[Source::Microphone, Source::Camera]);
    let player = player(&mut world, None, &[Kind::Audio, Kind::Video]);
    air(&mut world, &[ann], None, 500);
    assert_eq!(shows(&world, player, 1), Some((ann, 1)));
    world.tabs[player].restart();
    world.tabs[player].lines[1].direction = "sendrecv";
    world.offer(player);
    air(&mut world, &[ann], None, 500);
    assert_eq!(shows(&world, player, 1), Some((ann, 1)), "on the stream that it had");
    let answer = &world.descriptions.iter().rev().find(|d| d.0 == player).unwrap().2;
    assert!(sections(answer)[1].contains("a=sendonly"), "a player publishes nothing");
    world.tabs[player].lines[1].direction = "inactive";
    world.offer(player);
    world.run_ms(100);
    world.tabs[player].got.clear();
    air(&mut world, &[ann], None, 500);
    assert!(world.tabs[player].got.iter().all(|got| got.payload_type == OPUS) && !world.tabs[player].got.is_empty());
    for request in
        [Request::Reoffer { peer: PeerId(player as u64) }, Request::RestartIce { peer: PeerId(player as u64) }]
    {
        world.request(request);
        world.run(Duration::from_secs(3));
    }
    assert_eq!(offers_to(&world, player), 0);
}

#[test]
fn who_only_publishes_never_gets_an_offer() {
    let mut world = World::new();
    let whip = publisher(&mut world, false, &[Source::Microphone, Source::Camera]);
    let others: Vec<usize> = (0..3).map(|_| world.join(1, &[Kind::Audio, Kind::Video])).collect();
    world.run_ms(1_000);
    world.assert_media(whip, others[0]);
    for other in &others {
        world.request(Request::Leave { peer: PeerId(*other as u64) });
    }
    world.run_ms(500);
    world.tabs[whip].restart();
    world.offer(whip);
    world.join(1, &[Kind::Video]);
    world.run_ms(3_000);
    assert_eq!(offers_to(&world, whip), 0);
    assert!(world.tabs[whip].got.is_empty(), "nor anything else");
}
