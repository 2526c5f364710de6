//! Whom clients may reach (ABUSE.md T1, T2, T10).

use turn_server::stun::Method;
use turn_server::{Config, Input, Output, Prefix, Refusal};

use crate::world::*;

/// The list of T1, and what else is like it.
const INNER_IPV4: &[&str] = &[
    "127.0.0.1",
    "127.255.255.254",
    "0.0.0.0",
    "0.1.2.3",
    "169.254.169.254",
    "169.254.0.1",
    "168.63.129.16",
    "10.0.0.1",
    "10.255.255.255",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.0.1",
    "192.168.255.255",
    "100.64.0.1",
    "100.100.100.200",
    "100.127.255.255",
    "192.0.0.1",
    "192.0.0.192",
    "192.88.99.1",
    "198.18.0.1",
    "198.19.255.255",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
];

const INNER_IPV6: &[&str] = &[
    "::",
    "::1",
    "::ffff:127.0.0.1",
    "::127.0.0.1",
    "::ffff:0.0.0.0",
    "::ffff:169.254.169.254",
    "::ffff:198.51.100.7",
    "::ffff:0:198.51.100.7",
    "::198.51.100.7",
    "64:ff9b::7f00:1",
    "64:ff9b::c633:6407",
    "64:ff9b:1::7f00:1",
    "64:ff9b:1:ffff::7f00:1",
    "2002:7f00:1::",
    "2002:a9fe:a9fe::1",
    "2002:c633:6407::1",
    "2001::1",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    "2001:2::1",
    "2001:10::1",
    "2001:20::1",
    "2600::5efe:7f00:1",
    "2600::200:5efe:10.0.0.1",
    "fe80::1",
    "febf::1",
    "fc00::1",
    "fd00:ec2::254",
    "fec0::1",
    "ff02::1",
    "ff0e::1",
    "100::1",
    "5f00::1",
];

/// Everything that our own addresses have beside the media ports.
const OWN: &[&str] = &["203.0.113.10:3478", "203.0.113.10:5432", "203.0.113.10:9090", "203.0.113.10:6999"];

/// All requests that name a peer: CreatePermission, ChannelBind, Send, Connect.
struct Asked {
    permit: u16,
    bind: u16,
    sent: bool,
    connect: u16,
    /// The audit lines of each.
    told: [usize; 4],
}

fn ask_all(world: &mut World, user: &mut User, peer: &str) -> Asked {
    let told = |seen: &[Seen]| {
        let forbidden = |it: &&Seen| {
            matches!(it, Seen::Out(Output::Forbidden { client, peer: it })
            if *client == user.client && *it == at(peer))
        };
        seen.iter().filter(forbidden).count()
    };
    let code = |seen: &[Seen]| seen.iter().find_map(|it| if let Seen::Answer(code) = it { Some(*code) } else { None });
    let mut asker = user.clone();
    let permit = asker.ask(world, Method::CREATE_PERMISSION, |it| it.xor_peer_address(at(peer)));
    let bind = asker.ask(world, Method::CHANNEL_BIND, |it| it.channel_number(0x4000).xor_peer_address(at(peer)));
    let send = asker.send(world, peer, b"x");
    let connect = asker.ask(world, Method(0x00a), |it| it.xor_peer_address(at(peer)));
    let asked = Asked {
        permit: code(&permit).unwrap(),
        bind: code(&bind).unwrap(),
        sent: send.iter().any(|it| matches!(it, Seen::Media(..) | Seen::Peer(..))),
        connect: code(&connect).unwrap(),
        told: [told(&permit), told(&bind), told(&send), told(&connect)],
    };
    *user = asker;
    asked
}

/// A user with a permission for the media addresses, whose relayed address is of the family.
fn stage(config: Config, ipv6: bool) -> (World, User) {
    let mut world = World::new(config);
    world.grant("ada");
    let mut user = User::new("ada", 5000);
    let family = if ipv6 { 2 } else { 1 };
    let seen =
        user.ask(&mut world, Method::ALLOCATE, |it| it.requested_transport(UDP).requested_address_family(family));
    if let [Seen::Out(Output::Bind { allocation, .. })] = seen[..] {
        world.handle(Input::Bound { allocation, there: true });
    }
    assert_eq!(user.permit(&mut world, if ipv6 { MEDIA6 } else { MEDIA }), 0);
    (world, user)
}

fn port_of(peer: &str) -> String {
    if peer.contains(':') { format!("[{peer}]:5432") } else { format!("{peer}:5432") }
}

fn all() -> Vec<Prefix> {
    vec![prefix("0.0.0.0/0"), prefix("::/0"), prefix("::ffff:0:0/96"), prefix("127.0.0.0/8"), prefix("10.0.0.0/31")]
}

/// T1: nothing inside, in no disguise, whether the operator has listed nothing or nearly everything.
#[test]
fn inner_addresses_are_forbidden_by_each_request() {
    for listed in [vec![], all()] {
        for (ipv6, peers) in [(false, INNER_IPV4), (true, INNER_IPV6)] {
            let (mut world, mut user) = stage(Config { listed: listed.clone(), ..config() }, ipv6);
            for peer in peers {
                let before = world.refused(Refusal::Forbidden);
                let asked = ask_all(&mut world, &mut user, &port_of(peer));
                assert_eq!((asked.permit, asked.bind, asked.sent, asked.connect), (403, 403, false, 403), "{peer}");
                assert_eq!(asked.told, [1; 4], "{peer}");
                assert_eq!(world.refused(Refusal::Forbidden) - before, 4);
            }
        }
    }
}

/// T1 by the other family: whoever has an IPv4 address asks for IPv6 peers and the reverse.
#[test]
fn inner_addresses_of_the_other_family_are_refused_too() {
    for (ipv6, peers) in [(true, INNER_IPV4), (false, INNER_IPV6)] {
        let (mut world, mut user) = stage(Config { listed: all(), ..config() }, ipv6);
        for peer in peers {
            let asked = ask_all(&mut world, &mut user, &port_of(peer));
            assert_eq!((asked.permit, asked.bind, asked.sent, asked.connect), (443, 443, false, 403), "{peer}");
        }
    }
}

/// Exactly our own media addresses are exempt.
#[test]
fn media_addresses_are_permitted_exactly() {
    for listed in [vec![], all()] {
        let (mut world, mut user) = stage(Config { listed, ..config() }, false);
        for peer in OWN {
            let asked = ask_all(&mut world, &mut user, peer);
            assert_eq!((asked.permit, asked.bind, asked.sent, asked.connect), (0, 403, false, 403), "{peer}");
            assert_eq!(asked.told, [0, 1, 1, 1]);
        }
        let asked = ask_all(&mut world, &mut user, MEDIA);
        assert_eq!((asked.permit, asked.bind, asked.sent, asked.connect), (0, 0, true, 400));
        assert_eq!(asked.told, [0; 4]);
    }
    let inside = Config { media: vec![at("10.1.2.3:7000"), at("127.0.0.1:7000")], ..config() };
    let mut world = World::new(inside);
    world.grant("ada");
    let mut user = User::new("ada", 5000);
    assert_eq!(user.allocate(&mut world), 0);
    assert_eq!(user.permit(&mut world, "10.1.2.3:1"), 0);
    assert_eq!(user.bind(&mut world, 0x4000, "10.1.2.3:7000"), 0);
    assert_eq!(user.bind(&mut world, 0x4001, "10.1.2.3:7001"), 403);
    assert_eq!(user.bind(&mut world, 0x4001, "127.0.0.1:7000"), 0);
    assert_eq!(user.permit(&mut world, "10.1.2.4:7000"), 403);
}

/// T2: what is not listed is not reached.
#[test]
fn listed_peers_are_those_and_no_others() {
    let (mut world, mut user) = stage(listing(), false);
    for (peer, permitted) in [
        ("198.51.100.0:1", true),
        ("198.51.100.255:65535", true),
        ("198.51.99.255:1", false),
        ("198.51.101.0:1", false),
        ("8.8.8.8:53", false),
    ] {
        let asked = ask_all(&mut world, &mut user, peer);
        let code = if permitted { 0 } else { 403 };
        assert_eq!((asked.permit, asked.sent), (code, permitted), "{peer}");
    }
    assert_eq!(user.bind(&mut world, 0x4005, "198.51.100.1:0"), 403, "no port");
    let (mut world, mut user) = stage(listing(), true);
    assert!(ask_all(&mut world, &mut user, "[2600:1::1]:5").sent);
    assert!(!ask_all(&mut world, &mut user, "[2601::1]:5").sent);
}

#[test]
fn inner_addresses_are_permitted_one_by_one() {
    let listed = vec![prefix("127.0.0.1/32"), prefix("::1/128"), prefix("10.0.0.0/8")];
    let (mut world, mut user) = stage(Config { listed: listed.clone(), ..config() }, false);
    assert!(ask_all(&mut world, &mut user, "127.0.0.1:5432").sent);
    assert_eq!(user.permit(&mut world, "127.0.0.2:5432"), 403);
    assert_eq!(user.permit(&mut world, "10.0.0.0:5432"), 403);
    let (mut world, mut user) = stage(Config { listed, ..config() }, true);
    assert!(ask_all(&mut world, &mut user, "[::1]:5432").sent);
    assert_eq!(user.permit(&mut world, "[::ffff:127.0.0.1]:5432"), 403, "listed as it is written, not in disguise");
}

/// T10: relayed addresses of ours are no peers, listed or not.
#[test]
fn relays_do_not_talk_to_relays() {
    let listed = vec![prefix("203.0.113.10/32"), prefix("2a00:db8::10/128"), prefix("::ffff:203.0.113.10/128")];
    for (ipv6, here) in [(false, HERE), (true, "[2a00:db8::10]"), (true, "[::ffff:203.0.113.10]")] {
        let (mut world, mut user) = stage(Config { listed: listed.clone(), ..config() }, ipv6);
        for port in [50_000, 50_050, 50_099] {
            let asked = ask_all(&mut world, &mut user, &format!("{here}:{port}"));
            assert_eq!((asked.bind, asked.sent, asked.connect), (403, false, 403));
        }
        assert!(ask_all(&mut world, &mut user, &format!("{here}:49999")).sent, "the operator has listed it");
    }
    // Nor when virtual: a chain of ten does not begin.
    let mut world = World::new(config());
    let mut relayed: Option<std::net::SocketAddr> = None;
    for n in 0..10 {
        let holder = format!("holder {n}");
        world.grant(&holder);
        let mut user = User::new(&holder, 5000 + n);
        assert_eq!(user.allocate(&mut world), 0);
        let mine = turn_server::stun::Message::parse(&world.answer).unwrap().xor_relayed_address();
        if let Some(before) = relayed {
            assert_eq!(user.permit(&mut world, &before.to_string()), 0, "its address is that of our media");
            assert_eq!(user.bind(&mut world, 0x4000, &before.to_string()), 403);
            assert!(matches!(
                user.send(&mut world, &before.to_string(), b"x")[..],
                [Seen::Out(Output::Forbidden { .. })]
            ));
        }
        relayed = mine;
    }
    assert_eq!(world.server.counters().relay_bytes, [0, 0]);
}
