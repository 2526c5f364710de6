//! Permissions and channels (RFC 8656 §9, §10, §12).

use turn_server::Refusal;
use turn_server::stun::{AttributeType, Method};

use crate::world::*;

fn media(payload: &[u8]) -> Vec<Seen> {
    vec![Seen::Media(at(MEDIA), payload.to_vec())]
}

#[test]
fn a_permission_lasts_five_minutes() {
    let (mut world, mut user) = allocated(config());
    assert_eq!(user.send(&mut world, MEDIA, b"early"), []);
    assert_eq!(world.refused(Refusal::NoPermission), 1);
    assert_eq!(user.permit(&mut world, MEDIA), 0);
    assert_eq!(user.send(&mut world, MEDIA, b"hello"), media(b"hello"));
    // It is for the address, whatever its port (RFC 8656 §9).
    assert_eq!(user.send(&mut world, MEDIA_B, b"hello"), [Seen::Media(at(MEDIA_B), b"hello".to_vec())]);
    world.wait(299);
    assert_eq!(user.send(&mut world, MEDIA, b"still").len(), 1);
    assert_eq!(user.permit(&mut world, MEDIA), 0);
    world.wait(299);
    assert_eq!(user.send(&mut world, MEDIA, b"still").len(), 1);
    world.wait(1);
    assert_eq!(user.send(&mut world, MEDIA, b"late"), []);
}

#[test]
fn all_peers_of_a_request_are_permitted_or_none() {
    let (mut world, mut user) = allocated(listing());
    let (a, b, c) = ("198.51.100.1:1", "198.51.100.2:2", "198.51.100.3:3");
    let mut permit = |world: &mut World, peers: &[&str]| {
        user.code(world, Method::CREATE_PERMISSION, |it| {
            peers.iter().fold(it, |it, peer| it.xor_peer_address(at(peer)))
        })
    };
    assert_eq!(permit(&mut world, &[]), 400);
    assert_eq!(permit(&mut world, &[a, "192.0.2.9:9", b]), 403);
    assert_eq!(permit(&mut world, &[a, MEDIA6]), 443);
    assert_eq!(permit(&mut world, &[b, c]), 0);
    let torn = user.code(&mut world, Method::CREATE_PERMISSION, |it| {
        it.xor_peer_address(at(a)).attribute(AttributeType::XOR_PEER_ADDRESS, &[0, 1, 0])
    });
    assert_eq!(torn, 400);
    assert_eq!(user.send(&mut world, a, b"x"), []);
    for peer in [b, c] {
        assert_eq!(user.send(&mut world, peer, b"x"), [Seen::Peer(at(peer), b"x".to_vec(), false)]);
    }
}

#[test]
fn permissions_are_bounded_and_come_free_again() {
    let (mut world, mut user) = allocated(listing());
    let peer = |n: u32| format!("198.51.100.{n}:1");
    for n in 0..63 {
        assert_eq!(user.permit(&mut world, &peer(n)), 0);
    }
    let two = |user: &mut User, world: &mut World, a: u32, b: u32| {
        user.code(world, Method::CREATE_PERMISSION, |it| {
            it.xor_peer_address(at(&peer(a))).xor_peer_address(at(&peer(b)))
        })
    };
    assert_eq!(two(&mut user, &mut world, 100, 101), 508);
    assert_eq!(two(&mut user, &mut world, 3, 100), 0);
    assert_eq!(user.permit(&mut world, &peer(101)), 508);
    assert_eq!(user.bind(&mut world, 0x4000, &peer(101)), 508);
    assert_eq!(user.send(&mut world, &peer(101), b"x"), []);
    assert_eq!(user.permit(&mut world, &peer(0)), 0, "to renew one is always possible");
    world.wait(300);
    assert_eq!(user.permit(&mut world, &peer(101)), 0);
}

#[test]
fn channels_are_bounded() {
    let (mut world, mut user) = allocated(listing());
    for n in 0..64 {
        assert_eq!(user.bind(&mut world, 0x4000 + n, &format!("198.51.100.1:{}", n + 1)), 0);
    }
    assert_eq!(user.bind(&mut world, 0x4100, "198.51.100.1:100"), 508);
    assert_eq!(user.bind(&mut world, 0x4000, "198.51.100.1:1"), 0);
}

/// ABUSE.md T8.
#[test]
fn channel_numbers_have_their_range_and_keep_their_peer() {
    let (mut world, mut user) = allocated(config());
    for number in [0, 0x3fff, 0x5000, 0x7fff, 0x8000, 0xffff] {
        assert_eq!(user.bind(&mut world, number, MEDIA), 400, "{number:x}");
    }
    assert_eq!(user.code(&mut world, Method::CHANNEL_BIND, |it| it.xor_peer_address(at(MEDIA))), 400);
    assert_eq!(user.code(&mut world, Method::CHANNEL_BIND, |it| it.channel_number(0x4000)), 400);
    assert_eq!(user.bind(&mut world, 0x4000, MEDIA), 0);
    assert_eq!(user.bind(&mut world, 0x4fff, MEDIA_B), 0);
    assert_eq!(user.bind(&mut world, 0x4000, MEDIA_B), 400);
    assert_eq!(user.bind(&mut world, 0x4001, MEDIA), 400);
    assert_eq!(user.bind(&mut world, 0x4fff, MEDIA), 400, "each of the two is bound otherwise");
    assert_eq!(user.bind(&mut world, 0x4000, MEDIA), 0);
    assert_eq!(user.channel_data(&mut world, 0x4000, b"a"), media(b"a"));
    assert_eq!(user.channel_data(&mut world, 0x4fff, b"b"), [Seen::Media(at(MEDIA_B), b"b".to_vec())]);
    assert_eq!(user.channel_data(&mut world, 0x4001, b"c"), []);
    assert_eq!(user.channel_data(&mut world, 0x5000, b"c"), []);
    assert_eq!(user.channel_data(&mut world, 0x7fff, b"c"), []);
}

#[test]
fn a_channel_lasts_ten_minutes_and_its_permission_five() {
    let (mut world, mut user) = allocated(config());
    assert_eq!(user.refresh(&mut world, 3600), 0);
    assert_eq!(user.bind(&mut world, 0x4000, MEDIA), 0);
    world.wait(299);
    assert_eq!(user.channel_data(&mut world, 0x4000, b"x"), media(b"x"));
    world.wait(1);
    assert_eq!(user.channel_data(&mut world, 0x4000, b"x"), [], "the permission is over");
    assert_eq!(user.permit(&mut world, MEDIA), 0);
    assert_eq!(user.channel_data(&mut world, 0x4000, b"x"), media(b"x"));
    world.wait(299);
    assert_eq!(user.channel_data(&mut world, 0x4000, b"x"), media(b"x"));
    assert_eq!(user.bind(&mut world, 0x4001, MEDIA), 400);
    assert_eq!(user.permit(&mut world, MEDIA), 0);
    world.wait(1);
    assert_eq!(user.channel_data(&mut world, 0x4000, b"x"), [], "the channel is over");
    assert_eq!(user.send(&mut world, MEDIA, b"x"), media(b"x"));
    assert_eq!(user.bind(&mut world, 0x4001, MEDIA), 0);
    assert_eq!(user.channel_data(&mut world, 0x4001, b"x"), media(b"x"));
}
