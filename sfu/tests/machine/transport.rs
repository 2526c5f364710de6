//! Paths, consent, restarts, and RTCPeerConnections that replace one another.

use std::time::Duration;

use sfu::{Event, Input, Kind, Path, PeerId, Refusal, Request, rtcp};

use crate::tab::{attribute, path, sections, vp8};
use crate::world::World;

const BOTH: [Kind; 2] = [Kind::Audio, Kind::Video];

/// Where the next RTP that tab `from` publishes goes.
fn media_goes_to(world: &mut World, from: usize, not: &[Path]) -> Option<Path> {
    world.media(from, 0, 960, &[1; 20]);
    let mut to = None;
    while let Some(run) = world.sfu.next_run(world.now) {
        if run.bytes[0] >= 128 && !(192..=223).contains(&run.bytes[1]) && !not.contains(&run.path) {
            to = Some(run.path);
        }
    }
    to
}

/// M4.
#[test]
fn media_moves_to_a_new_address_when_it_is_nominated_there() {
    let mut world = World::call(2, &BOTH);
    let (old, new) = (world.tabs[1].path, path(1, 60_000));
    let check = world.tabs[1].check(false);
    world.send_from(new, check);
    assert_eq!(media_goes_to(&mut world, 0, &[]), Some(old), "a check without a nomination moves nothing");
    let nomination = world.tabs[1].check(true);
    world.send_from(new, nomination);
    assert_eq!(media_goes_to(&mut world, 0, &[]), Some(new));
    // What still comes from the old address is his all the same.
    let before = world.sfu.counters().rtp_in;
    world.media(1, 0, 960, &[2; 20]);
    assert_eq!(world.sfu.counters().rtp_in, before + 1);
    world.tabs[1].path = new;
    world.assert_media(0, 1);
    world.assert_media(1, 0);
}

#[test]
fn addresses_of_a_peer_are_bounded_and_none_is_closed_that_has_no_connection() {
    let mut world = World::call(2, &BOTH);
    for port in 1..2_000 {
        let check = world.tabs[1].check(false);
        world.send_from(path(1, port), check);
    }
    world.settle();
    assert!(world.closed.is_empty(), "a UDP address is nothing to close");
    world.assert_media(0, 1);
    world.assert_media(1, 0);
    let unknown = world.drops(sfu::Drop::UnknownPath);
    world.send_from(path(1, 1), vec![22; 20]);
    assert_eq!(world.drops(sfu::Drop::UnknownPath), unknown + 1, "the oldest address is forgotten");
}

#[test]
fn a_connection_that_closes_is_used_no_more_and_costs_no_time() {
    let mut world = World::call(2, &BOTH);
    let path = world.tabs[1].path;
    world.tabs[1].checks = false;
    world.sfu.handle(Input::PathClosed(path), world.now);
    assert_eq!(media_goes_to(&mut world, 0, &[]), None);
    assert_eq!(world.sfu.gauges().peers_connected, 1);
    world.run_ms(1_500);
    // Nothing can be sent to him: his timers must not spin.
    let mut wakes = 0;
    let end = world.now.mono + Duration::from_secs(1);
    world.tabs[0].checks = false;
    while let Some(due) = world.sfu.deadline().filter(|due| *due < end) {
        world.now.mono = world.now.mono.max(due);
        world.sfu.handle(Input::Tick, world.now);
        while world.sfu.next_run(world.now).is_some() {}
        wakes += 1;
    }
    assert!(wakes < 50, "{wakes} wakes in a second of silence");
    world.tabs[1].checks = true;
    world.run_ms(2_500);
    world.assert_media(0, 1);
    world.assert_media(1, 0);
}

#[test]
fn consent_ends_once_and_comes_back_with_a_check() {
    let mut world = World::call(2, &BOTH);
    world.tabs[1].checks = false;
    world.run(Duration::from_secs(90));
    let lost = Event::ConsentLost { peer: PeerId(1) };
    assert_eq!(world.events.iter().filter(|event| **event == lost).count(), 1);
    world.tabs[1].checks = true;
    world.run(Duration::from_secs(3));
    world.assert_media(0, 1);
    world.assert_media(1, 0);
    world.events.clear();
    world.tabs[1].checks = false;
    world.run(Duration::from_secs(40));
    assert_eq!(world.events.iter().filter(|event| **event == lost).count(), 1, "it can end again");
}

#[test]
fn an_ice_restart_of_the_client_gets_new_credentials_and_the_old_path_serves_until_they_are_used() {
    let mut world = World::call(2, &BOTH);
    let before = world.tabs[1].remote.clone();
    world.tabs[1].checks = false;
    world.tabs[1].restart();
    world.offer(1);
    world.settle();
    let after = world.tabs[1].remote.clone();
    assert_ne!(before.as_ref().map(|r| &r.0), after.as_ref().map(|r| &r.0));
    world.assert_media(0, 1);
    world.tabs[1].checks = true;
    world.run_ms(100);
    world.assert_media(0, 1);
    world.assert_media(1, 0);
    // The old password is gone once the new one was used.
    let (ufrag, pwd) = before.unwrap();
    let own = world.tabs[1].ufrag.clone();
    let stale = world.tabs[1].check_as(&format!("{ufrag}:{own}"), &pwd, true);
    world.send_from(path(9, 9), stale);
    assert_eq!(world.drops(sfu::Drop::StunUnknownUfrag), 1);
    assert!(world.descriptions.len() == 1, "one offer, one answer, no restart of our own");
}

#[test]
fn an_ice_restart_of_ours_is_an_offer_with_new_credentials() {
    let mut world = World::call(2, &BOTH);
    let before = world.tabs[1].remote.clone();
    world.request(Request::RestartIce { peer: PeerId(1) });
    world.tabs[1].restart();
    world.run_ms(500);
    assert_eq!(world.descriptions.len(), 1);
    assert!(world.descriptions[0].1, "an offer");
    assert_ne!(world.tabs[1].remote, before);
    world.assert_media(0, 1);
    world.assert_media(1, 0);
    world.run(Duration::from_secs(40));
    assert_eq!(world.events, [], "consent holds under the new credentials");
}

/// RFC 9429 §5.3.1: an answer to an offer that restarts nothing keeps its credentials.
#[test]
fn an_offer_that_overtakes_our_restart_is_answered_with_the_old_credentials() {
    let mut world = World::call(2, &BOTH);
    let before = world.tabs[1].remote.clone();
    world.request(Request::RestartIce { peer: PeerId(1) });
    let offer = world.tabs[1].offer();
    world.send_offer(1, offer);
    world.tabs[1].restart();
    world.run_ms(500);
    let (_, is_offer, answer) = world.descriptions[0].clone();
    assert!(!is_offer);
    assert_eq!(attribute(&answer, "ice-ufrag"), before.as_ref().map(|r| r.0.as_str()));
    let (_, is_offer, offer) = world.descriptions[1].clone();
    assert!(is_offer);
    assert_ne!(attribute(&offer, "ice-ufrag"), before.as_ref().map(|r| r.0.as_str()));
    world.run(Duration::from_secs(40));
    assert_eq!(world.events, []);
    world.assert_media(0, 1);
}

#[test]
fn another_fingerprint_needs_another_peer_and_nothing_changes() {
    let mut world = World::call(2, &BOTH);
    world.tabs[0].add(Kind::Video);
    world.tabs[0].fingerprint[0] ^= 1;
    world.offer(0);
    world.settle();
    let refused = |e: &Event| matches!(e, Event::Refused { refusal: Refusal::NewPeerRequired, .. });
    assert!(world.events.len() == 1 && refused(&world.events[0]), "{:?}", world.events);
    world.tabs[0].sources.pop();
    world.assert_media(0, 1);
}

#[test]
fn a_reoffer_is_the_whole_session_again() {
    let mut world = World::call(2, &BOTH);
    world.request(Request::Reoffer { peer: PeerId(1) });
    world.run_ms(900);
    assert_eq!(world.descriptions.len(), 0, "a new page has a second to offer itself");
    world.run_ms(200);
    assert_eq!(world.descriptions.len(), 1);
    let (_, is_offer, sdp) = &world.descriptions[0];
    assert!(*is_offer);
    assert_eq!(sections(sdp).len(), 4, "two lines of his own, two of the other's");
    world.assert_media(0, 1);
    world.assert_media(1, 0);
}

fn plis(world: &World, tab: usize) -> usize {
    let packets = world.tabs[tab].rtcp.iter().flat_map(|compound| rtcp::parse(compound));
    packets.filter(|packet| matches!(packet, rtcp::Packet::Pli { .. })).count()
}

/// Sends so much that the numbering of the subscription wraps: a new receiver begins at rollover 0 all the same.
fn wrap(world: &mut World) {
    for n in 0..70_000u32 {
        world.media(0, 0, 960, &n.to_be_bytes());
        if n % 64 == 0 {
            world.deliver();
        }
    }
    world.deliver();
    assert!(world.tabs[1].got.len() >= 70_000);
}

#[test]
fn a_new_peer_connection_that_answers_a_reoffer_sees_and_hears_from_the_start() {
    let mut world = World::call(2, &BOTH);
    world.media(0, 1, 3_000, &vp8(true, 1, 50));
    wrap(&mut world);
    let (asked, now) = (plis(&world, 0), world.now.mono);
    world.tabs[1].renew(1, true, now);
    world.request(Request::Reoffer { peer: PeerId(1) });
    world.run_ms(2_000);
    assert!(world.tabs[1].is_connected());
    assert!(plis(&world, 0) > asked, "a new decoder needs a keyframe");
    world.media(0, 1, 3_000, &vp8(false, 2, 50));
    world.settle();
    assert_eq!(world.tabs[1].got.len(), 0, "nothing before the keyframe");
    world.assert_media(0, 1);
    world.assert_media(1, 0);
    assert_eq!(world.tabs[1].unopened, 0);
    assert!(world.tabs[1].got.iter().all(|got| got.seq < 1 << 15));
}

#[test]
fn a_new_peer_connection_that_offers_replaces_the_old_one() {
    let mut world = World::call(2, &BOTH);
    wrap(&mut world);
    let now = world.now.mono;
    world.tabs[1].renew(1, false, now);
    for kind in BOTH {
        world.tabs[1].add(kind);
    }
    world.offer(1);
    world.run_ms(1_000);
    let unpublished =
        world.events.iter().filter(|e| matches!(e, Event::TrackUnpublished { peer: PeerId(1), .. })).count();
    assert_eq!((unpublished, world.published().len()), (2, 2));
    world.assert_media(0, 1);
    world.assert_media(1, 0);
    assert_eq!(world.tabs[1].unopened, 0);
    assert_eq!(world.sfu.gauges().tracks, 4);
}

/// What is refused must not have taken anything away before.
#[test]
fn an_offer_of_a_new_peer_connection_that_is_refused_leaves_the_old_one() {
    let mut world = World::call(2, &BOTH);
    let offer = world.tabs[0].offer();
    let (origin, passive) = (world.tabs[0].origin, offer.replace("a=setup:actpass", "a=setup:passive"));
    let passive = passive.replace("a=ice-ufrag:", "a=ice-ufrag:new");
    world.send_offer(0, passive.replace(&format!("o=- {origin}"), "o=- 77"));
    world.settle();
    assert!(matches!(world.events[..], [Event::Refused { .. }]), "{:?}", world.events);
    world.assert_media(0, 1);
}

/// Pion and webrtc-rs call themselves passive in whatever they answer to a lite peer; the association has its roles by then.
#[test]
fn roles_are_agreed_upon_once() {
    let mut world = World::call(2, &BOTH);
    let passive = world.tabs[0].offer().replace("a=setup:actpass", "a=setup:passive");
    world.send_offer(0, passive);
    world.settle();
    assert!(world.events.is_empty(), "{:?}", world.events);
    world.assert_media(0, 1);
    world.assert_media(1, 0);
}

/// Takes the server's offer that the tab left unanswered, and answers it as one that calls itself passive.
fn answer_passively(world: &mut World, tab: usize) {
    let (_, _, offer) = world.descriptions.iter().rfind(|(to, is_offer, _)| *to == tab && *is_offer).expect("an offer");
    let sdp = world.tabs[tab].answer(offer, world.now.mono).replace("a=setup:active", "a=setup:passive");
    world.request(Request::Answer { peer: PeerId(tab as u64), sdp, tracks: vec![] });
    world.settle();
}

#[test]
fn a_later_answer_changes_no_roles() {
    let mut world = World::call(2, &BOTH);
    world.silent.push(1);
    world.request(Request::RestartIce { peer: PeerId(1) });
    world.tabs[1].restart();
    world.settle();
    answer_passively(&mut world, 1);
    world.run_ms(500);
    assert!(world.events.is_empty(), "{:?}", world.events);
    world.assert_media(0, 1);
    world.assert_media(1, 0);
}

#[test]
fn a_first_answer_that_is_passive_is_refused() {
    let mut world = World::call(1, &BOTH);
    let tab = world.join(1, &[]);
    world.silent.push(tab);
    world.run_ms(1_500);
    answer_passively(&mut world, tab);
    let refused = |e: &Event| matches!(e, Event::Refused { refusal: Refusal::InvalidSdp, .. });
    assert!(world.events.len() == 1 && refused(&world.events[0]), "{:?}", world.events);
}
