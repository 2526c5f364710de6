//! Audio in large rooms: who is forwarded, shared m-lines, who speaks.

use std::collections::BTreeMap;

use sfu::{Event, Input, Kind, PeerId, Request, Rights, RoomId, Source};

use crate::tab::{LEVEL_ID, MID_ID, OPUS, attribute, plain_rtp, sections};
use crate::world::World;

/// Loudness of speech, of a quiet room, and of what is no speech.
const LOUD: u8 = 100;
const QUIET: u8 = 30;

/// A room in which the first `speakers` tabs have microphones; the rest listen.
fn room(speakers: usize, listeners: usize) -> World {
    let mut world = World::new();
    for _ in 0..speakers {
        world.join(1, &[Kind::Audio]);
    }
    world.run_ms(500);
    for _ in 0..listeners {
        world.join(1, &[]);
    }
    world.run_ms(2_000);
    assert!(world.tabs.iter().all(|tab| tab.is_connected()));
    world.events.clear();
    forget(&mut world);
    world
}

fn forget(world: &mut World) {
    world.tabs.iter_mut().for_each(|tab| tab.got.clear());
}

/// One packet of a microphone that says how loud it is; what it holds tells who sent it and which it is.
fn say(world: &mut World, index: usize, loudness: Option<u8>, number: u8) {
    let tab = &mut world.tabs[index];
    let source = &mut tab.sources[0];
    source.index += 1;
    source.timestamp = source.timestamp.wrapping_add(960);
    let source = *source;
    let mid = tab.lines[source.line].mid.clone();
    let level = [127 - loudness.unwrap_or(127)];
    let mut extensions: Vec<(u8, &[u8])> = vec![(MID_ID, mid.as_bytes())];
    extensions.extend(loudness.map(|_| (LEVEL_ID, &level[..])));
    let payload = [0x78, index as u8, number];
    let plain = plain_rtp(source.ssrc, OPUS, source.index as u16, source.timestamp, &extensions, &payload);
    let sealed = tab.seal(plain.clone(), plain.len() - payload.len(), source.ssrc, source.index);
    world.send(index, sealed);
}

/// So many packets of 20 ms from all of the first `tabs`, each as loud as `loudness` says.
fn talk(world: &mut World, tabs: usize, packets: u8, loudness: impl Fn(usize) -> Option<u8>) {
    for number in 0..packets {
        for index in 0..tabs {
            say(world, index, loudness(index), number);
        }
        world.run_ms(20);
    }
}

/// Whom a tab heard, and how many packets of each.
fn heard(world: &World, index: usize) -> BTreeMap<usize, usize> {
    let mut heard = BTreeMap::new();
    for got in &world.tabs[index].got {
        *heard.entry(usize::from(got.payload[1])).or_default() += 1;
    }
    heard
}

fn assert_no_gaps(world: &World, index: usize) {
    let mut last = BTreeMap::new();
    for got in &world.tabs[index].got {
        if let Some((seq, timestamp)) = last.insert(got.ssrc, (got.seq, got.timestamp)) {
            assert_eq!(got.seq, u16::wrapping_add(seq, 1), "tab {index}");
            let step = got.timestamp.wrapping_sub(timestamp);
            assert!((1..480_000).contains(&step), "time goes on: {step}");
        }
    }
}

#[test]
fn a_small_room_hears_everybody() {
    let mut world = room(12, 1);
    talk(&mut world, 12, 5, |_| Some(QUIET));
    assert_eq!(heard(&world, 12).len(), 12);
    assert_eq!(heard(&world, 0).len(), 11, "but nobody himself");
}

#[test]
fn a_larger_room_hears_the_loudest() {
    let mut world = room(16, 1);
    talk(&mut world, 16, 50, |index| Some(if index >= 10 { LOUD } else { QUIET }));
    forget(&mut world);
    talk(&mut world, 16, 20, |index| Some(if index >= 10 { LOUD } else { QUIET }));
    let heard_now = heard(&world, 16);
    assert_eq!(heard_now.len(), 8, "{heard_now:?}");
    assert!((10..16).all(|index| heard_now.get(&index) == Some(&20)), "{heard_now:?}");
    assert_no_gaps(&world, 16);
}

#[test]
fn who_begins_to_speak_loses_no_syllable() {
    let mut world = room(16, 1);
    talk(&mut world, 16, 50, |index| Some(if index < 8 { QUIET + 10 } else { QUIET }));
    let silent: Vec<usize> = (0..16).filter(|index| !heard(&world, 16).contains_key(index)).collect();
    let newcomer = silent[0];
    forget(&mut world);
    talk(&mut world, 16, 3, |_| Some(QUIET));
    assert!(!heard(&world, 16).contains_key(&newcomer));
    forget(&mut world);
    talk(&mut world, 16, 10, |index| Some(if index == newcomer { LOUD } else { QUIET }));
    let count = heard(&world, 16)[&newcomer];
    assert!((12..=14).contains(&count), "all of it, and a little from before: {count}");
    assert_no_gaps(&world, 16);

    // He pauses, others take the slots, and he comes back in the middle of the ring: nothing is sent twice.
    for _ in 0..3 {
        talk(&mut world, 16, 60, |index| Some(if index == newcomer { QUIET } else { LOUD }));
        talk(&mut world, 16, 60, |index| Some(if index == newcomer { LOUD + 20 } else { QUIET }));
    }
    assert_no_gaps(&world, 16);
}

#[test]
fn speakers_of_one_loudness_keep_their_slots() {
    let mut world = room(16, 1);
    talk(&mut world, 16, 50, |_| Some(LOUD));
    forget(&mut world);
    talk(&mut world, 16, 100, |index| Some(LOUD + (index % 4) as u8));
    let heard_now = heard(&world, 16);
    assert_eq!(heard_now.len(), 8);
    assert!(heard_now.values().all(|count| *count == 100), "nobody is cut to pieces: {heard_now:?}");
}

#[test]
fn who_says_no_level_is_heard_while_there_is_room() {
    let mut world = room(13, 1);
    talk(&mut world, 13, 50, |index| (index != 12 && index > 6).then_some(LOUD).or((index < 6).then_some(QUIET)));
    forget(&mut world);
    let loudness = |index: usize| match index {
        7..12 => Some(LOUD),
        6 | 12 => None,
        _ => Some(QUIET),
    };
    talk(&mut world, 13, 20, loudness);
    let heard_now = heard(&world, 13);
    assert_eq!(heard_now.len(), 8);
    assert!((7..12).all(|index| heard_now.contains_key(&index)));
}

#[test]
fn instructors_are_always_heard() {
    let mut world = World::new();
    for index in 0..16 {
        world.tabs.push(crate::tab::Tab::new(index, world.now.mono));
        world.sfu.handle(
            Input::Request(Request::Join {
                peer: PeerId(index as u64),
                room: RoomId(1),
                participant: format!("pa_{index}").into(),
                auto_subscribe: true,
                offer_first: false,
                rights: Rights { instructor: index == 15, data: false, ..Rights::default() },
                codecs: Default::default(),
                view: Default::default(),
            }),
            world.now,
        );
        world.tabs[index].add(Kind::Audio);
        world.offer(index);
    }
    world.run_ms(2_000);
    talk(&mut world, 16, 50, |index| Some(if index == 15 { QUIET } else { LOUD }));
    forget(&mut world);
    talk(&mut world, 16, 20, |index| Some(if index == 15 { QUIET } else { LOUD }));
    let heard_now = heard(&world, 0);
    assert_eq!(heard_now.get(&15), Some(&20), "{heard_now:?}");
    let others = heard(&world, 15);
    assert_eq!(others.len(), 8, "beside the loudest: {others:?}");
}

/// The slots of the last event that told them.
fn slots(world: &World) -> Vec<(u8, PeerId)> {
    let told = world.events.iter().rev().find_map(|event| match event {
        Event::Speakers { audio, .. } => Some(audio.clone()),
        _ => None,
    });
    told.unwrap_or_default()
}

fn streams(sdp: &str) -> Vec<String> {
    let live =
        sections(sdp).into_iter().filter(|section| section.contains("a=sendonly") || section.contains("a=sendrecv"));
    live.filter_map(|section| attribute(&section, "msid").map(|msid| msid.split(' ').next().unwrap().to_owned()))
        .collect()
}

fn last_offer(world: &World, index: usize) -> String {
    world.descriptions.iter().rev().find(|d| d.0 == index && d.1).unwrap().2.clone()
}

#[test]
fn a_very_large_room_shares_its_m_lines() {
    let mut world = room(51, 1);
    let listener = 51;
    assert_eq!(streams(&last_offer(&world, listener)), (0..8).map(|n| format!("audio-{n}")).collect::<Vec<_>>());
    assert_eq!(streams(&last_offer(&world, 0)).len(), 8, "who was there before has them, too");
    let (_, lines) = world.track_lines.iter().rfind(|(to, _)| *to == listener).expect("it was offered them");
    let lines: Vec<_> = lines.iter().map(|line| (line.participant.to_string(), line.source)).collect();
    assert_eq!(lines, (0..8).map(|n| (format!("audio-{n}"), Source::Microphone)).collect::<Vec<_>>());

    // Three speak, one after the other; each is heard from the beginning, on one of eight streams.
    for speaker in [3, 20, 50, 3] {
        forget(&mut world);
        talk(&mut world, 51, 40, |index| Some(if index == speaker { LOUD } else { QUIET }));
        assert!(heard(&world, listener)[&speaker] >= 40, "{:?}", heard(&world, listener));
        assert!(!heard(&world, speaker).contains_key(&speaker), "nobody hears himself");
        let told = slots(&world);
        assert!(told.iter().any(|(_, peer)| *peer == PeerId(speaker as u64)) && told.len() == 8, "{told:?}");
        assert_no_gaps(&world, listener);
    }
    let mut ssrcs: Vec<u32> = world.tabs[listener].got.iter().map(|got| got.ssrc).collect();
    ssrcs.sort_unstable();
    ssrcs.dedup();
    assert_eq!(ssrcs.len(), 8);

    // The streams are those that the event names.
    forget(&mut world);
    talk(&mut world, 51, 20, |index| Some(if index == 3 { LOUD } else { QUIET }));
    for (slot, peer) in slots(&world) {
        let section =
            sections(&last_offer(&world, listener)).into_iter().find(|s| s.contains(&format!("msid:audio-{slot} ")));
        let section = section.unwrap();
        let ssrc: u32 = attribute(&section, "ssrc").unwrap().split(' ').next().unwrap().parse().unwrap();
        let got = world.tabs[listener].got.iter().rev().find(|got| got.ssrc == ssrc).unwrap();
        assert_eq!(u64::from(got.payload[1]), peer.0, "slot {slot}");
    }
}

#[test]
fn a_room_that_grows_and_shrinks_changes_its_m_lines_and_goes_on() {
    let mut world = room(50, 1);
    let listener = 50;
    assert_eq!(streams(&last_offer(&world, listener)).len(), 50);
    talk(&mut world, 10, 5, |_| Some(LOUD));
    // One more, while somebody speaks all the time.
    let newcomer = world.join(1, &[Kind::Audio]);
    forget(&mut world);
    talk(&mut world, 1, 50, |_| Some(LOUD));
    assert!(
        heard(&world, listener)[&0] >= 49,
        "not even while the m-lines are exchanged: {:?}",
        heard(&world, listener)
    );
    assert_eq!(streams(&last_offer(&world, listener)).len(), 8);
    assert_eq!(streams(&last_offer(&world, newcomer)).len(), 8);
    for index in 1..13 {
        world.request(Request::Leave { peer: PeerId(index) });
    }
    forget(&mut world);
    talk(&mut world, 1, 50, |_| Some(LOUD));
    assert_eq!(streams(&last_offer(&world, listener)).len(), 39);
    assert!(heard(&world, listener)[&0] >= 49, "{:?}", heard(&world, listener));
    assert_eq!(slots(&world), [], "everybody has m-lines of his own");
}

#[test]
fn a_room_that_changes_its_mind_is_heard_once() {
    let mut world = room(52, 1);
    let listener = 52;
    for index in 1..14 {
        world.request(Request::Leave { peer: PeerId(index) });
    }
    for _ in 0..13 {
        world.join(1, &[Kind::Audio]);
    }
    world.run_ms(2_000);
    forget(&mut world);
    talk(&mut world, 1, 50, |_| Some(LOUD));
    assert_eq!(heard(&world, listener), BTreeMap::from([(0, 50)]));
    let subscriptions = world.sfu.gauges().subscriptions;
    assert_eq!(subscriptions, 53 * 8, "eight shared m-lines each, and nothing else");
}

#[test]
fn shared_m_lines_survive_holders_that_leave_and_listeners_that_renew() {
    let mut world = room(53, 1);
    let listener = 53;
    talk(&mut world, 53, 30, |index| Some(if index < 3 { LOUD } else { QUIET }));
    world.request(Request::Leave { peer: PeerId(1) });
    forget(&mut world);
    let speak = |index: usize| Some(if index == 7 || index == 0 { LOUD } else { QUIET });
    for number in 0..30 {
        for index in (0..53).filter(|index| *index != 1) {
            say(&mut world, index, speak(index), number);
        }
        world.run_ms(20);
    }
    assert!(heard(&world, listener)[&7] >= 30 && heard(&world, listener)[&0] == 30);
    // Another RTCPeerConnection of the listener.
    world.request(Request::Reoffer { peer: PeerId(listener as u64) });
    let now = world.now.mono;
    world.tabs[listener].renew(listener, true, now);
    world.run_ms(2_500);
    assert!(world.tabs[listener].is_connected());
    forget(&mut world);
    for number in 0..10 {
        say(&mut world, 0, Some(LOUD), number);
        world.run_ms(20);
    }
    assert_eq!(heard(&world, listener), BTreeMap::from([(0, 10)]));
    assert_eq!(streams(&last_offer(&world, listener)).len(), 8);
    assert_eq!(world.sfu.counters().peer_panics, 0);
}

#[test]
fn speakers_do_not_flicker() {
    let mut world = room(3, 1);
    // A second of speech each, in turns, with pauses between words.
    let mut told = 0;
    for turn in 0..6 {
        let speaker = turn % 2;
        for word in 0..3 {
            talk(&mut world, 3, 12, |index| Some(if index == speaker { LOUD + word } else { QUIET }));
            talk(&mut world, 3, 8, |_| Some(QUIET));
        }
        told += world.events.drain(..).filter(|event| matches!(event, Event::Speakers { .. })).count();
    }
    // Six turns of 1.2 s: each begins and ends once, and levels come once a second at most.
    assert!((6..=18).contains(&told), "{told}");
}
