//! What a panic costs, and what timers cost: what cannot be seen from outside.

use std::time::Duration;

use super::*;
use crate::ring::Incoming;
use crate::srtp::{Profile, from_keying_material};
use crate::subscription::{ExtensionIds, Outlet, PayloadTypes};

fn sfu() -> (Sfu, Now) {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let certificate = rcgen::CertificateParams::default().self_signed(&key).unwrap();
    let certificate = Certificate { certificate_der: certificate.der().to_vec(), private_key_der: key.serialize_der() };
    let now = Now { mono: Instant::now(), unix_ms: 0 };
    let config = Config { certificate: Arc::new(certificate), udp_candidates: vec![], tcp_candidates: vec![] };
    (Sfu::new(config, [1; 32], now), now)
}

fn path(port: u16) -> Path {
    Path::Udp { local: ([192, 0, 2, 1], 7_882).into(), remote: ([10, 0, 0, 1], port).into() }
}

/// A room of connected peers in which the first publishes audio to all others.
fn call(peers: u64) -> (Sfu, Now) {
    let (mut sfu, now) = sfu();
    for id in 0..peers {
        let (participant, peer) = (format!("pa_{id}").into(), PeerId(id));
        let join = Request::Join {
            peer,
            room: RoomId(1),
            participant,
            auto_subscribe: true,
            offer_first: false,
            rights: Default::default(),
            codecs: Default::default(),
            view: Default::default(),
        };
        sfu.handle(Input::Request(join), now);
        let key = sfu.by_id[&PeerId(id)];
        let profile = Profile::AeadAes128Gcm;
        let (opener, sealer) =
            from_keying_material(profile, &vec![id as u8; profile.keying_material_len()], true).unwrap();
        let peer = &mut sfu.peers[key];
        peer.srtp = Some(peer::Srtp { opener, sealer });
        peer.ice.checked(path(id as u16), true, now.mono);
        sfu.paths.insert(path(id as u16), key);
    }
    let publisher = sfu.by_id[&PeerId(0)];
    let mid = sdp::Mid::new("0").unwrap();
    let mut track = Track::new(TrackId(9), Kind::Audio, Source::Microphone, publisher, "pa_0".into(), mid);
    track.take_layers(&[], 1, now.mono);
    let track = sfu.tracks.insert(track);
    sfu.tracks_by_id.insert(TrackId(9), track);
    sfu.peers[publisher].published.push(track);
    for id in 1..peers {
        let key = sfu.by_id[&PeerId(id)];
        sfu.subscribe(key, track, now);
        let payloads = vec![Some(PayloadTypes { primary: 111, rtx: None, unwraps: false })];
        let outlet = Outlet {
            mid: sdp::Mid::new("s000").unwrap(),
            ids: ExtensionIds::default(),
            mixed: true,
            payloads,
            red: None,
        };
        for (_, subscription) in &mut sfu.peers[key].subscriptions {
            subscription.outlet = Some(outlet.clone());
        }
    }
    (sfu, now)
}

/// The publisher's next packet.
fn publish(sfu: &mut Sfu, seq: u64, now: Now) {
    let (key, track) = sfu.tracks.iter_mut().next().unwrap();
    let incoming = Incoming {
        seq: 65_536 + seq,
        epoch: 0,
        timestamp: 960 * seq as u32,
        marker: false,
        codec: 0,
        video: None,
        description: receive::sound(&[1; 100]),
        skip: 0,
        level: None,
        descriptor: &[],
        payload: &[1; 100],
    };
    track.layers[0].ring.push(incoming, now.mono);
    track.fresh = true;
    sfu.fresh.push(key);
}

fn events(sfu: &mut Sfu) -> Vec<Event> {
    std::iter::from_fn(|| sfu.poll())
        .filter_map(|output| match output {
            Output::Event(event) => Some(event),
            Output::ClosePath(_) => None,
        })
        .collect()
}

fn runs(sfu: &mut Sfu, now: Now) -> usize {
    let mut runs = 0;
    while let Some(run) = sfu.next_run(now) {
        runs += usize::from(run.bytes.len() > 100);
    }
    runs
}

#[test]
fn a_panic_while_a_run_is_built_costs_that_peer_and_not_its_room() {
    let (mut sfu, now) = call(4);
    publish(&mut sfu, 0, now);
    assert_eq!(runs(&mut sfu, now), 3);
    events(&mut sfu);
    publish(&mut sfu, 1, now);
    // The buffer is too short for the first run that is built.
    let buffer = std::mem::replace(&mut sfu.egress, vec![0; 20]);
    sfu.settle();
    assert!(sfu.guarded(now, |sfu| sfu.build_run(now.mono)).is_none());
    sfu.egress = buffer;
    let closed = events(&mut sfu);
    assert!(matches!(closed[..], [Event::Closed { reason: CloseReason::Internal, .. }]), "{closed:?}");
    assert_eq!((sfu.counters().peer_panics, sfu.gauges().peers), (1, 3));
    assert_eq!(runs(&mut sfu, now), 2, "the others get what they had to get");
    publish(&mut sfu, 2, now);
    assert_eq!(runs(&mut sfu, now), 2, "and what comes after");
}

#[test]
fn a_panic_in_anything_else_costs_the_peer_that_it_was_about() {
    let (mut sfu, now) = call(3);
    let key = sfu.by_id[&PeerId(0)];
    sfu.blame = Some(key);
    assert!(sfu.guarded(now, |_| -> () { panic!("an assumption about this peer broke") }).is_none());
    let told = events(&mut sfu);
    assert!(told.contains(&Event::Closed { peer: PeerId(0), reason: CloseReason::Internal }));
    assert!(told.contains(&Event::TrackUnpublished { peer: PeerId(0), track: TrackId(9) }));
    assert_eq!((sfu.gauges().peers, sfu.gauges().tracks, sfu.gauges().subscriptions), (2, 0, 0));
    // Nobody to blame: nobody pays.
    assert!(sfu.guarded(now, |_| -> () { panic!("an assumption about nobody broke") }).is_none());
    assert_eq!((sfu.gauges().peers, sfu.counters().peer_panics), (2, 2));
    sfu.handle(Input::Tick, Now { mono: now.mono + Duration::from_secs(1), ..now });
}

/// Checks come as fast as a client likes; each must not leave a timer behind.
#[test]
fn timers_do_not_pile_up() {
    let (mut sfu, mut now) = call(2);
    let key = sfu.by_id[&PeerId(0)];
    sfu.peers[key].srtp = None;
    let ufrag = sfu.peers[key].ice.current.local.ufrag.clone();
    for _ in 0..20_000 {
        now.mono += Duration::from_millis(1);
        sfu.check_passed(key, path(0), &ufrag, true, now);
        if sfu.deadline().is_some_and(|due| due <= now.mono) {
            sfu.handle(Input::Tick, now);
        }
    }
    assert!(sfu.timers.len() < 100, "{} timers of two peers", sfu.timers.len());
}

/// Nothing of those who left stays behind.
#[test]
fn everything_of_a_peer_goes_with_it() {
    let (mut sfu, now) = call(50);
    publish(&mut sfu, 0, now);
    sfu.settle();
    for id in 0..50 {
        sfu.handle(Input::Request(Request::Leave { peer: PeerId(id) }), now);
    }
    assert_eq!(sfu.gauges(), Gauges::default());
    assert_eq!((sfu.paths.len(), sfu.ufrags.len(), sfu.by_id.len()), (0, 0, 0));
    assert_eq!((sfu.rooms_by_id.len(), sfu.tracks_by_id.len(), sfu.fresh.len(), sfu.ready_rooms.len()), (0, 0, 0, 0));
    assert!(sfu.next_run(now).is_none());
    sfu.handle(Input::Tick, Now { mono: now.mono + Duration::from_secs(60), ..now });
    assert_eq!(sfu.timers.len(), 0);
}
