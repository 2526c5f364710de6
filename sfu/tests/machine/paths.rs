//! Ways to a peer: ICE-TCP, IPv6, new addresses, addresses that another claims, restarts.

use std::net::SocketAddr;
use std::time::Duration;

use sfu::{ConnectionId, Drop, Event, Input, Kind, Path, PeerId, Request};

use crate::tab::{attribute, path};
use crate::world::World;

const BOTH: [Kind; 2] = [Kind::Audio, Kind::Video];
/// Longer than a path is kept for a peer that is not heard on it.
const SILENCE: Duration = Duration::from_secs(16);

fn tcp(connection: u64) -> Path {
    Path::Tcp { connection: ConnectionId(connection), remote: ([10, 9, 0, 1], 40_000 + connection as u16).into() }
}

fn v6(port: u16) -> Path {
    let local = "[2001:db8::1]:7882".parse().unwrap();
    Path::Udp { local, remote: SocketAddr::new("2001:db8:7::9".parse().unwrap(), port) }
}

fn checks_answered(world: &mut World, index: usize) -> bool {
    let before = world.tabs[index].responses;
    let check = world.tabs[index].check(true);
    world.send(index, check);
    world.deliver();
    world.tabs[index].responses > before
}

#[test]
fn a_tcp_connection_carries_what_udp_does() {
    let mut world = World::call_by(2, tcp(1));
    world.assert_call();
    assert!(world.sfu.knows(&tcp(1)) && !world.sfu.knows(&tcp(2)));
    let (_, _, sdp) = &world.descriptions[0];
    let candidates: Vec<&str> = sdp.lines().filter(|line| line.contains("tcptype")).collect();
    assert!(!candidates.is_empty());
    for candidate in candidates {
        assert!(candidate.contains(" 1 tcp ") && candidate.ends_with("192.0.2.1 7882 typ host tcptype passive"));
    }
    world.request(Request::Leave { peer: PeerId(1) });
    world.settle();
    assert_eq!(world.closed, [tcp(1)], "a connection that nobody uses is closed");
    assert!(!world.sfu.knows(&tcp(1)));
}

#[test]
fn an_ipv6_path_carries_what_ipv4_does() {
    let mut world = World::call_by(2, v6(50_000));
    world.assert_call();
    world.move_to(1, path(1, 50_000));
    world.assert_call();
}

#[test]
fn a_call_goes_on_when_a_client_changes_between_udp_and_tcp() {
    let mut world = World::call_by(2, path(1, 50_000));
    let negotiated = world.descriptions.len();
    world.move_to(1, tcp(1));
    world.assert_call();
    world.move_to(1, tcp(2));
    world.assert_call();
    // The connection in use breaks: what the client last proved serves until it nominates.
    world.sfu.handle(Input::PathClosed(tcp(2)), world.now);
    world.tabs[1].path = tcp(1);
    world.assert_call();
    world.move_to(1, path(1, 50_000));
    world.assert_call();
    assert_eq!(world.events, [], "signaling hears nothing of it");
    assert_eq!(world.descriptions.len(), negotiated, "and nothing is negotiated");
}

#[test]
fn connections_beyond_the_paths_of_a_peer_are_closed() {
    let mut world = World::call_by(2, tcp(0));
    for connection in 1..50 {
        let check = world.tabs[1].check(false);
        world.send_from(tcp(connection), check);
        world.run_ms(10);
    }
    assert_eq!(world.closed, (1..43).map(tcp).collect::<Vec<_>>());
    assert!(world.sfu.knows(&tcp(0)), "but the one in use");
    world.assert_call();
}

#[test]
fn connections_of_a_peer_connection_that_was_replaced_are_closed() {
    let mut world = World::call_by(2, tcp(1));
    let now = world.now.mono;
    world.tabs[1].renew(1, true, now);
    world.tabs[1].path = tcp(2);
    world.request(Request::Reoffer { peer: PeerId(1) });
    world.run_ms(2_000);
    assert_eq!(world.closed, [tcp(1)]);
    world.assert_call();
}

/// A network that changes: the old address is dead and the client comes from a new one, nothing else is said.
#[test]
fn a_new_address_is_used_within_a_second_and_without_a_word() {
    let mut world = World::call(2, &BOTH);
    let began = world.now.mono;
    world.tabs[1].path = path(1, 61_000);
    let mut returned = None;
    // The new address has to be proven before media may come from it; until then it is dropped.
    while returned.is_none() {
        world.run_ms(20);
        let check = world.tabs[1].check(true);
        world.send(1, check);
        let before = world.tabs[1].got.len();
        world.media(0, 0, 960, &[1; 20]);
        world.settle();
        returned = (world.tabs[1].got.len() > before).then_some(world.now.mono - began);
    }
    assert!(returned < Some(Duration::from_secs(1)), "{returned:?}");
    world.assert_call();
    assert_eq!((world.events.len(), world.descriptions.len()), (0, 0));
}

/// A participant who can send under another's address must not stop that one's media.
#[test]
fn a_path_in_use_is_not_taken_over() {
    let mut world = World::call(3, &BOTH);
    let contested = world.tabs[1].path;
    for _ in 0..60 {
        let check = world.tabs[2].check(true);
        world.send_from(contested, check);
        world.assert_media(0, 1);
        world.assert_media(1, 0);
        world.assert_media(0, 2);
        world.run_ms(1_000);
    }
    assert_eq!(world.drops(Drop::ContestedPath), 60);
    assert_eq!(world.events, [], "nobody lost consent");
    // Nor is the claim answered: the claimant must not believe that the path is good.
    let mut answered = 0;
    let check = world.tabs[2].check(true);
    world.send_from(contested, check);
    while let Some(run) = world.sfu.next_run(world.now) {
        answered += usize::from(run.path == contested && run.bytes[0] < 4);
    }
    assert_eq!(answered, 0);
}

#[test]
fn media_under_anothers_address_is_nobodys() {
    let mut world = World::call(3, &BOTH);
    let victim = world.tabs[1].path;
    let before = world.sfu.counters().rtp_in;
    for _ in 0..20 {
        let forged = world.tabs[2].rtp(0, 960, &[3; 30]);
        world.send_from(victim, forged);
    }
    assert_eq!((world.sfu.counters().rtp_in, world.drops(Drop::Authentication)), (before, 20));
    for (from, to) in [(0, 1), (1, 0), (2, 1)] {
        world.assert_media(from, to);
    }
}

/// An address that a NAT gives to the next client, or a port that another page of the same browser gets.
#[test]
fn the_address_of_one_who_is_gone_is_free() {
    let mut world = World::call(3, &BOTH);
    let address = world.tabs[1].path;
    world.tabs[1].checks = false;
    world.tabs[1].path = path(1, 62_000);
    world.tabs[2].path = address;
    assert!(!checks_answered(&mut world, 2), "he may still be there");
    world.run(SILENCE);
    assert!(checks_answered(&mut world, 2));
    world.assert_media(0, 2);
    world.assert_media(2, 0);
    // Back from somewhere else, the other is in the call as before.
    world.tabs[1].checks = true;
    world.move_to(1, path(1, 62_000));
    world.assert_call();
    world.request(Request::Leave { peer: PeerId(2) });
    world.settle();
    world.move_to(1, address);
    world.assert_call();
}

/// Twelve seconds without a check: signaling is told, and asks for a restart.
#[test]
fn a_path_that_falls_silent_is_told_of_before_consent_ends() {
    let mut world = World::call(2, &BOTH);
    world.enter(1, false);
    world.tabs[1].checks = false;
    world.run(Duration::from_secs(9));
    assert_eq!(world.events, []);
    world.run(Duration::from_secs(4));
    assert_eq!(world.events, [Event::PathSilent { peer: PeerId(1) }], "one who has not come yet has no path to lose");
    world.tabs[1].checks = true;
    world.tabs[1].path = path(1, 63_000);
    world.run(Duration::from_secs(60));
    world.assert_call();
    assert_eq!(world.events.iter().filter(|event| matches!(event, Event::PathSilent { peer: PeerId(1) })).count(), 1);
}

/// RFC 7675: thirty seconds without a check, then signaling is told and asks for a restart; the tracks stay.
#[test]
fn after_consent_is_lost_a_restart_brings_the_same_peer_back() {
    let mut world = World::call(2, &BOTH);
    let before = world.tabs[1].remote.clone();
    world.tabs[1].checks = false;
    world.run(Duration::from_secs(27));
    assert_eq!(world.events, [Event::PathSilent { peer: PeerId(1) }]);
    world.events.clear();
    world.run(Duration::from_secs(4));
    assert_eq!(world.events, [Event::ConsentLost { peer: PeerId(1) }]);
    world.request(Request::RestartIce { peer: PeerId(1) });
    world.tabs[1].path = path(1, 63_000);
    world.tabs[1].checks = true;
    world.run_ms(500);
    let (to, is_offer, offer) = &world.descriptions[0];
    assert!(*to == 1 && *is_offer);
    assert_ne!(attribute(offer, "ice-ufrag"), before.as_ref().map(|remote| remote.0.as_str()));
    world.assert_call();
    assert_eq!(world.events.len(), 1, "no track and no peer went or came: {:?}", world.events);
    assert_eq!(world.sfu.counters().dtls_connected, 2, "nor was there another handshake");
}

/// First the path falls silent, then consent ends: who has not answered the one restart is not asked for another.
#[test]
fn a_restart_that_is_offered_already_is_not_offered_again() {
    let mut world = World::call(2, &BOTH);
    world.silent.push(1);
    world.tabs[1].checks = false;
    for _ in 0..2 {
        world.request(Request::RestartIce { peer: PeerId(1) });
        world.run(Duration::from_secs(18));
    }
    let [(1, true, offer)] = &world.descriptions[..] else { panic!("{:?}", world.descriptions) };
    let (offer, now) = (offer.clone(), world.now.mono);
    world.silent.clear();
    world.tabs[1].checks = true;
    world.tabs[1].path = path(1, 63_000);
    let sdp = world.tabs[1].answer(&offer, now);
    world.request(Request::Answer { peer: PeerId(1), sdp, tracks: vec![] });
    world.run_ms(500);
    assert_eq!(world.descriptions.len(), 1, "nor when it has answered");
    world.assert_call();
}

/// Nothing in an answer says which offer it answers: an answer to the offer before must not pass for one to the restart.
#[test]
fn a_restart_of_ice_waits_for_an_answer_that_is_under_way() {
    let mut world = World::call(2, &BOTH);
    let before = world.tabs[1].remote.clone();
    world.silent.push(1);
    world.tabs[0].add(Kind::Video);
    world.offer(0);
    world.run_ms(500);
    let under_way = world.descriptions.iter().rfind(|(to, is_offer, _)| *to == 1 && *is_offer).cloned();
    let (_, _, offer) = under_way.expect("the new track is offered");
    world.descriptions.clear();
    world.request(Request::RestartIce { peer: PeerId(1) });
    world.run_ms(3_000);
    assert_eq!(world.descriptions, [], "no offer before the answer");
    assert_eq!(attribute(&offer, "ice-ufrag"), before.as_ref().map(|remote| remote.0.as_str()));
    world.silent.clear();
    let now = world.now.mono;
    let sdp = world.tabs[1].answer(&offer, now);
    world.request(Request::Answer { peer: PeerId(1), sdp, tracks: vec![] });
    world.run_ms(500);
    let (_, _, restart) = &world.descriptions[0];
    assert_ne!(attribute(restart, "ice-ufrag"), before.as_ref().map(|remote| remote.0.as_str()), "then the restart");
    world.run(Duration::from_secs(40));
    assert_eq!(world.events.iter().filter(|e| matches!(e, Event::ConsentLost { .. })).count(), 0);
    world.assert_call();
}
