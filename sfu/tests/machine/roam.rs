//! Peers whose address changes under them, without a word and before their next check.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use sfu::{Drop, Kind, Path, rtcp};

use crate::tab::path;
use crate::world::World;

const BOTH: [Kind; 2] = [Kind::Audio, Kind::Video];
/// Checks to a peer at a new address until one is answered.
const ASKS_MAX: u64 = 5;

/// A call in which nobody's own checks help, and nobody was heard just now.
fn call(tabs: usize) -> World {
    let mut world = World::call(tabs, &BOTH);
    world.tabs.iter_mut().for_each(|tab| tab.checks = false);
    world.run_ms(200);
    world
}

/// What is sent to a path: how many datagrams of STUN and of anything else, and the bytes of both.
fn sent_to(world: &mut World, to: Path) -> (usize, usize, usize) {
    let mut sent = (0, 0, 0);
    while let Some(run) = world.sfu.next_run(world.now) {
        if run.path == to {
            let stun = run.bytes[0] < 4;
            sent = (sent.0 + usize::from(stun), sent.1 + usize::from(!stun), sent.2 + run.bytes.len());
        }
    }
    sent
}

fn report() -> Vec<u8> {
    let mut report = Vec::new();
    rtcp::write_receiver_report(1, &[], &mut report);
    report
}

/// A NAT that gives another port: the next packet of media is enough, whoever speaks.
#[test]
fn media_follows_a_peer_to_its_new_address_at_once() {
    let mut world = call(2);
    world.tabs[1].path = path(1, 61_000);
    let packet = world.tabs[1].rtp(0, 960, &[7; 40]);
    let before = world.sfu.counters().rtp_in;
    world.send(1, packet);
    assert_eq!(world.sfu.counters().rtp_in, before + 1, "it is heard");
    assert!(!world.sfu.knows(&path(1, 61_000)), "and not believed to be there");
    world.settle();
    assert_eq!(world.tabs[1].asked, 1);
    assert!(world.sfu.knows(&path(1, 61_000)));
    world.assert_call();
    assert_eq!((world.events.len(), world.descriptions.len()), (0, 0), "signaling hears nothing of it");
}

/// Listeners send nothing but reports, all under one SSRC.
#[test]
fn a_listener_is_found_by_its_reports() {
    let mut world = World::new();
    for index in 0..40 {
        world.join(1, if index == 0 { &BOTH } else { &[] });
    }
    world.run_ms(1_000);
    world.tabs.iter_mut().for_each(|tab| tab.checks = false);
    world.run_ms(200);
    for index in [1, 20, 39] {
        world.tabs[index].path = path(index, 61_000);
        for _ in 0..2 {
            world.rtcp(index, report());
            world.settle();
        }
        assert!(world.sfu.knows(&path(index, 61_000)), "listener {index}");
        world.assert_media(0, index);
    }
}

/// Whoever sees a packet can send it on from elsewhere. Until the peer answers from there, nothing goes there but few checks.
#[test]
fn who_does_not_answer_gets_no_media() {
    let mut world = call(2);
    let (elsewhere, home) = (path(9, 9_000), world.tabs[1].path);
    let (mut asked, mut came) = (0, 0);
    for _ in 0..50 {
        let stolen = world.tabs[1].rtp(0, 960, &[7; 60]);
        came += stolen.len();
        world.send_from(elsewhere, stolen);
        world.media(0, 0, 960, &[1; 60]);
        let (stun, other, bytes) = sent_to(&mut world, elsewhere);
        asked += stun;
        assert!(other == 0 && bytes <= 128 * stun, "{other} datagrams of no check, {bytes} bytes");
        world.run_ms(20);
    }
    assert!(asked as u64 == ASKS_MAX && came > 128 * asked, "asked {asked} times");
    assert!(!world.sfu.knows(&elsewhere));
    assert_eq!(world.tabs[1].path, home);
    world.assert_call();
}

/// The answer must be of the peer that is meant, to the check that was sent, from where it was sent to.
#[test]
fn another_cannot_answer_for_it() {
    let mut world = call(3);
    let elsewhere = path(9, 9_000);
    let stolen = world.tabs[1].rtp(0, 960, &[7; 60]);
    world.send_from(elsewhere, stolen);
    let mut check = Vec::new();
    while let Some(run) = world.sfu.next_run(world.now) {
        if run.path == elsewhere {
            check = run.bytes.to_vec();
        }
    }
    let check = turn_server::stun::Message::parse(&check).expect("a check");
    let answer = world.tabs[1].answer_check(&check);
    world.send_from(path(9, 9_001), answer.clone());
    assert_eq!(world.drops(Drop::UnknownPath), 1);
    let mut forged = answer.clone();
    *forged.last_mut().unwrap() ^= 1;
    forged[30] ^= 1;
    world.send_from(elsewhere, forged);
    let mut other = answer.clone();
    other[10] ^= 1; // another transaction
    world.send_from(elsewhere, other);
    assert!(!world.sfu.knows(&elsewhere));
    world.assert_media(0, 1);
    world.send_from(elsewhere, answer.clone());
    assert!(world.sfu.knows(&elsewhere), "only the right one counts");
    world.send_from(elsewhere, answer);
    assert_eq!(world.drops(Drop::UnknownPath), 2 + 1, "and once");
}

/// Copies from elsewhere of what comes from a peer's own address move nobody, even if they come first.
#[test]
fn a_peer_that_is_heard_where_it_is_is_not_looked_for_elsewhere() {
    let mut world = call(2);
    let elsewhere = path(9, 9_000);
    for _ in 0..50 {
        let packet = world.tabs[1].rtp(0, 960, &[7; 60]);
        world.send(1, packet.clone());
        world.send_from(elsewhere, packet);
        let next = world.tabs[1].rtp(0, 960, &[7; 60]);
        world.send_from(elsewhere, next.clone());
        world.send(1, next);
        assert_eq!(sent_to(&mut world, elsewhere), (0, 0, 0));
        world.run_ms(20);
    }
    world.assert_call();
}

/// Garbage from many addresses costs little, and what cannot be looked up waits for a check.
#[test]
fn strangers_are_looked_at_seldom() {
    let mut world = call(2);
    let mut garbage = world.tabs[1].rtp(0, 960, &[7; 60]);
    *garbage.last_mut().unwrap() ^= 1;
    for port in 0..2_000 {
        world.send_from(path(9, port), garbage.clone());
    }
    world.tabs[1].path = path(1, 61_000);
    let packet = world.tabs[1].rtp(0, 960, &[7; 40]);
    world.send(1, packet);
    assert_eq!((world.drops(Drop::UnknownPath), world.tabs[1].asked), (2_001, 0));
    world.run_ms(1_000);
    let packet = world.tabs[1].rtp(0, 960, &[7; 40]);
    world.send(1, packet);
    world.assert_call();
}

/// A client that goes over to another of its proven paths sends by it at once and nominates it later.
#[test]
fn media_follows_a_peer_to_another_path_of_its_own() {
    let mut world = call(2);
    let other = path(1, 61_000);
    let check = world.tabs[1].check(false);
    world.send_from(other, check);
    world.settle();
    world.assert_media(0, 1);
    world.run_ms(200);
    world.tabs[1].path = other;
    let packet = world.tabs[1].rtp(0, 960, &[7; 40]);
    world.send(1, packet);
    world.assert_call();
    assert_eq!(world.tabs[1].asked, 0, "there is nothing to ask");
}

/// Whatever addresses three peers come from, and whatever each sends under the others': nobody speaks for another, and nobody
/// hears what is meant for another.
#[test]
fn nobody_speaks_for_another() {
    for seed in 0..8 {
        let mut world = call(3);
        let mut rng = StdRng::seed_from_u64(seed);
        for step in 0..200u64 {
            let [who, other] = [rng.random_range(0..3), rng.random_range(0..3)];
            match rng.random_range(0..4) {
                0 => world.tabs[who].path = path(who, 50_000 + rng.random_range(0..4)),
                // The address of another, who ignores what is asked there.
                1 if who != other => {
                    let forged = world.tabs[who].rtp(0, 960, &[0x78, who as u8, 9]);
                    world.send_from(world.tabs[other].path, forged);
                }
                2 => {
                    let check = world.tabs[who].check(rng.random());
                    world.send(who, check);
                }
                _ => {
                    let packet = world.tabs[who].rtp(0, 960, &[0x78, who as u8, 9]);
                    world.send(who, packet);
                }
            }
            world.settle();
            world.run_ms(rng.random_range(1..120));
            for (index, tab) in world.tabs.iter().enumerate() {
                assert_eq!(tab.unopened, 0, "seed {seed}, step {step}: tab {index} got what is sealed for another");
                for got in tab.got.iter().filter(|got| got.payload.first() == Some(&0x78)) {
                    let tracks = tab.got.iter().filter(|it| it.ssrc == got.ssrc && it.payload.first() == Some(&0x78));
                    let speakers: std::collections::BTreeSet<u8> = tracks.map(|it| it.payload[1]).collect();
                    assert_eq!(
                        speakers.len(),
                        1,
                        "seed {seed}, step {step}: {speakers:?} speak on one track of tab {index}"
                    );
                }
            }
            world.tabs.iter_mut().for_each(|tab| tab.got.truncate(400));
        }
        // Once they stay where they are, all is as before.
        for index in 0..3 {
            world.tabs[index].path = path(index, 60_000);
            let packet = world.tabs[index].rtp(0, 960, &[0x78, index as u8, 9]);
            world.run_ms(200);
            world.send(index, packet);
            let check = world.tabs[index].check(true);
            world.send(index, check);
            world.settle();
        }
        for (from, to) in [(0, 1), (1, 2), (2, 0)] {
            world.assert_media(from, to);
        }
    }
}
