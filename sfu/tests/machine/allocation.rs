//! Who gets what of which video when a link is narrow, and what publishers and subscribers are told of it.

use std::time::Duration;

use sfu::{Event, Kind, Pause, PeerId, Request, Source, TrackHint, TrackId, Wish, rtcp};

use crate::tab::{MID_ID, Source as Stream, VP8, plain_rtp, vp8};
use crate::world::World;

const RID_ID: u8 = 7;
/// Bytes of a picture of each encoding, 20 a second: 96, 400 and 1,600 kbit/s of payload.
const ENCODINGS: [(&str, usize, (u16, u16)); 3] =
    [("q", 600, (320, 180)), ("h", 2 * 1_150, (640, 360)), ("f", 8 * 1_150, (1_280, 720))];
const FRAME: Duration = Duration::from_millis(50);

/// A tab that publishes pictures in three encodings, of which it sends those that it is told to.
struct Camera {
    tab: usize,
    track: TrackId,
    streams: Vec<Stream>,
    sends: [bool; 3],
    keyframe: [bool; 3],
    shot: u64,
}

impl Camera {
    /// Lets a tab in and has it publish.
    fn join(world: &mut World, source: Source, instructor: bool) -> Camera {
        let tab = world.enter_as(1, false, sfu::Rights { instructor, ..Default::default() });
        let first = world.tabs[tab].add(Kind::Video);
        let line = &mut world.tabs[tab].lines[0];
        line.sources.clear();
        line.attributes.push(format!("a=extmap:{RID_ID} urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id"));
        line.sources.extend(ENCODINGS.map(|(rid, ..)| format!("a=rid:{rid} send")));
        line.sources.push("a=simulcast:send q;h;f".into());
        let stream = world.tabs[tab].sources[first];
        let streams = (0..3).map(|n| Stream { ssrc: stream.ssrc ^ n, ..stream }).collect();
        let sdp = world.tabs[tab].offer();
        let tracks = vec![TrackHint { mid: "0".into(), source, muted: None }];
        world.request(Request::Offer { peer: PeerId(tab as u64), sdp, tracks, saw_ours: true });
        world.run_ms(300);
        assert!(world.tabs[tab].is_connected());
        let track = *world.published().last().unwrap();
        Camera { tab, track, streams, sends: [true; 3], keyframe: [true; 3], shot: 0 }
    }

    /// A picture in each encoding, and now and then which time its timestamp stands for.
    fn shoot(&mut self, world: &mut World) {
        self.shot += 1;
        for (n, (rid, bytes, size)) in ENCODINGS.into_iter().enumerate() {
            if !self.sends[n] {
                self.keyframe[n] = true;
                continue;
            }
            if self.shot % 10 == 1 {
                let (mut report, stream) = (Vec::new(), self.streams[n]);
                let next = stream.timestamp.wrapping_add(90 * FRAME.as_millis() as u32);
                rtcp::write_sender_report(stream.ssrc, self.clock(world), next, 1, 1, &[], &mut report);
                world.rtcp(self.tab, report);
            }
            let stream = &mut self.streams[n];
            stream.timestamp = stream.timestamp.wrapping_add(90 * FRAME.as_millis() as u32);
            let key = std::mem::take(&mut self.keyframe[n]);
            let packets = bytes.div_ceil(1_150);
            for packet in 0..packets {
                stream.index += 1;
                let mut payload = vp8(key, n as u8, bytes / packets);
                if packet > 0 {
                    payload[0] = 0;
                } else if key {
                    payload[4..7].copy_from_slice(&[0x9d, 0x01, 0x2a]);
                    payload[7..9].copy_from_slice(&size.0.to_le_bytes());
                    payload[9..11].copy_from_slice(&size.1.to_le_bytes());
                }
                let (tab, mid) = (&world.tabs[self.tab], b"0");
                let extensions: [(u8, &[u8]); 2] = [(MID_ID, mid), (RID_ID, rid.as_bytes())];
                let (seq, timestamp) = (stream.index as u16, stream.timestamp);
                let mut plain = plain_rtp(stream.ssrc, VP8, seq, timestamp, &extensions, &payload);
                plain[1] |= if packet + 1 == packets { 0x80 } else { 0 };
                let header_len = plain.len() - payload.len();
                let sealed = tab.seal(plain, header_len, stream.ssrc, stream.index);
                let index = self.tab;
                world.send(index, sealed);
            }
        }
    }

    /// NTP time, 32.32 fixed point.
    fn clock(&self, world: &World) -> u64 {
        (u128::from(world.now.unix_ms) * (1 << 32) / 1_000) as u64
    }

    /// Does what the SFU asks for: keyframes, and layers on and off.
    fn obey(&mut self, world: &mut World) {
        for compound in std::mem::take(&mut world.tabs[self.tab].rtcp) {
            for packet in rtcp::parse(&compound) {
                if let rtcp::Packet::Pli { media, .. } = packet
                    && let Some(n) = self.streams.iter().position(|stream| stream.ssrc == media)
                {
                    self.keyframe[n] = true;
                }
            }
        }
    }
}

/// Lets everybody send for so long.
fn film(world: &mut World, cameras: &mut [&mut Camera], ms: u64) {
    for _ in 0..ms / FRAME.as_millis() as u64 {
        for camera in cameras.iter_mut() {
            camera.obey(world);
            camera.shoot(world);
        }
        world.run(FRAME);
    }
}

/// The same while a subscriber says each second what its link carries, as receivers do that estimate by themselves.
fn film_estimated(world: &mut World, cameras: &mut [&mut Camera], viewer: &Viewer, kbps: u64, seconds: u64) {
    for _ in 0..seconds {
        viewer.estimate(world, kbps);
        film(world, cameras, 1_000);
    }
}

/// A subscriber and what it gets.
struct Viewer(usize);

impl Viewer {
    fn join(world: &mut World, kbps: u64) -> Viewer {
        let tab = world.join(1, &[]);
        world.run_ms(300);
        assert!(world.tabs[tab].is_connected());
        let viewer = Viewer(tab);
        viewer.estimate(world, kbps);
        viewer
    }

    /// Says what its link carries.
    fn estimate(&self, world: &mut World, kbps: u64) {
        let mut remb = Vec::new();
        rtcp::write_remb(1, kbps * 1_000, &[], &mut remb);
        world.rtcp(self.0, remb);
    }

    fn wish(&self, world: &mut World, camera: &Camera, wish: Wish) {
        world.request(Request::Subscription { peer: PeerId(self.0 as u64), track: camera.track, wish });
    }

    /// The encodings of which it got pictures since last asked, by how many packets of each came, in order of the cameras' tabs.
    fn got(&self, world: &mut World) -> Vec<u8> {
        let mut encodings: Vec<u8> = Vec::new();
        for got in std::mem::take(&mut world.tabs[self.0].got) {
            let encoding = *got.payload.last().unwrap();
            if got.payload_type == VP8 && !encodings.contains(&encoding) {
                encodings.push(encoding);
            }
        }
        encodings.sort_unstable();
        encodings
    }

    /// What it was told of pauses since last asked: the track, whether it is paused, and why.
    fn told(&self, world: &mut World) -> Vec<(TrackId, bool, Pause)> {
        let me = PeerId(self.0 as u64);
        let told = world.events.iter().filter_map(|event| match event {
            Event::TrackPaused { peer, track, reason } if *peer == me => Some((*track, true, *reason)),
            Event::TrackResumed { peer, track, reason } if *peer == me => Some((*track, false, *reason)),
            _ => None,
        });
        let told = told.collect();
        world.events.retain(
            |event| !matches!(event, Event::TrackPaused { peer, .. } | Event::TrackResumed { peer, .. } if *peer == me),
        );
        told
    }
}

/// What the publisher of a camera was told of its layers, in order.
fn wanted(world: &World, camera: &Camera) -> Vec<[bool; 3]> {
    let told = world.events.iter().filter_map(|event| match event {
        Event::LayersWanted { peer, track, layers } if *track == camera.track => {
            assert_eq!(*peer, PeerId(camera.tab as u64));
            assert_eq!(layers.iter().map(|(rid, _)| &**rid).collect::<Vec<_>>(), ["q", "h", "f"]);
            Some([layers[0].1, layers[1].1, layers[2].1])
        }
        _ => None,
    });
    told.collect()
}

fn sized(width: u16, height: u16) -> Wish {
    Wish { size: Some((width, height)), ..Wish::default() }
}

#[test]
fn a_narrow_link_pauses_the_least_wanted_and_says_so() {
    let mut world = World::new();
    let mut other = Camera::join(&mut world, Source::Camera, false);
    let mut screen = Camera::join(&mut world, Source::Screen, false);
    let mut teacher = Camera::join(&mut world, Source::Camera, true);
    let viewer = Viewer::join(&mut world, 50_000);
    let mut cameras = [&mut other, &mut screen, &mut teacher];
    film(&mut world, &mut cameras, 3_000);
    viewer.got(&mut world);
    film(&mut world, &mut cameras, 1_000);
    assert_eq!((viewer.got(&mut world), viewer.told(&mut world)), (vec![2], vec![]), "all in full");

    // The screen in 720 lines, and one camera in 180.
    viewer.estimate(&mut world, 1_900);
    film(&mut world, &mut cameras, 1_000);
    let [other_track, screen_track] = [cameras[0].track, cameras[1].track];
    assert_eq!(viewer.told(&mut world), [(other_track, true, Pause::Bandwidth)]);
    viewer.got(&mut world);
    film(&mut world, &mut cameras, 1_000);
    assert_eq!(viewer.got(&mut world), [0, 2]);

    // Not even the screen: what is left goes to the teacher, then to the other.
    viewer.estimate(&mut world, 300);
    film(&mut world, &mut cameras, 4_000);
    assert_eq!(
        viewer.told(&mut world),
        [(screen_track, true, Pause::Bandwidth), (other_track, false, Pause::Bandwidth)]
    );
    viewer.got(&mut world);
    film(&mut world, &mut cameras, 1_000);
    assert_eq!(viewer.got(&mut world), [0]);

    film_estimated(&mut world, &mut cameras, &viewer, 50_000, 10);
    assert_eq!(viewer.told(&mut world), [(screen_track, false, Pause::Bandwidth)]);
    viewer.got(&mut world);
    film(&mut world, &mut cameras, 1_000);
    assert_eq!(viewer.got(&mut world), [2]);
}

#[test]
fn size_and_visibility_bound_what_flows() {
    let mut world = World::new();
    let mut camera = Camera::join(&mut world, Source::Camera, false);
    let viewer = Viewer::join(&mut world, 50_000);
    film(&mut world, &mut [&mut camera], 1_000);
    for (size, encoding) in [((160, 90), 0), ((1_280, 720), 2), ((600, 340), 1), ((0, 0), u8::MAX), ((320, 180), 0)] {
        viewer.wish(&mut world, &camera, sized(size.0, size.1));
        film(&mut world, &mut [&mut camera], 500);
        viewer.got(&mut world);
        film(&mut world, &mut [&mut camera], 500);
        let expected: Vec<u8> = Some(encoding).filter(|n| *n < 3).into_iter().collect();
        assert_eq!(viewer.got(&mut world), expected, "at {size:?}");
    }
    let track = camera.track;
    assert_eq!(viewer.told(&mut world), [(track, true, Pause::Unsubscribed), (track, false, Pause::Unsubscribed)]);
    viewer.wish(&mut world, &camera, Wish { enabled: Some(false), ..Wish::default() });
    film(&mut world, &mut [&mut camera], 300);
    viewer.got(&mut world);
    film(&mut world, &mut [&mut camera], 300);
    assert_eq!(viewer.got(&mut world), []);
    assert_eq!(viewer.told(&mut world), [(track, true, Pause::Unsubscribed)]);
}

/// M10: a subscriber on a link of 30 kbit/s hears everything and sees nothing; the publisher and the others do not notice.
#[test]
fn a_starving_subscriber_has_audio_and_concerns_nobody_else() {
    let mut world = World::new();
    let mut camera = Camera::join(&mut world, Source::Camera, false);
    let speaker = world.join(1, &[Kind::Audio]);
    let (healthy, starving) = (Viewer::join(&mut world, 50_000), Viewer::join(&mut world, 30));
    film_estimated(&mut world, &mut [&mut camera], &starving, 30, 6);
    let mut frames = 0;
    for tab in [healthy.0, starving.0] {
        world.tabs[tab].got.clear();
    }
    for _ in 0..100 {
        film(&mut world, &mut [&mut camera], 50);
        frames += 1;
        for _ in 0..2 {
            world.media(speaker, 0, 960, &[0x78; 60]);
            world.run_ms(1);
        }
    }
    let count = |world: &World, viewer: &Viewer, video: bool| {
        world.tabs[viewer.0].got.iter().filter(|got| (got.payload_type == VP8) == video).count()
    };
    assert_eq!((count(&world, &starving, true), count(&world, &starving, false)), (0, 2 * frames));
    assert_eq!((count(&world, &healthy, true), count(&world, &healthy, false)), (8 * frames, 2 * frames));
    let track = camera.track;
    assert_eq!(starving.told(&mut world), [(track, true, Pause::Bandwidth)]);
    assert_eq!(healthy.told(&mut world), []);
}

/// M10: each encoding that is switched on takes a keyframe of everybody.
#[test]
fn what_a_starving_subscriber_cannot_have_is_not_switched_on_for_it() {
    let mut world = World::new();
    let mut camera = Camera::join(&mut world, Source::Camera, false);
    let (_healthy, starving) = (Viewer::join(&mut world, 50_000), Viewer::join(&mut world, 30));
    let obey = |world: &mut World, camera: &mut Camera, kbps, seconds| {
        for n in 0..20 * seconds {
            if n % 20 == 0 {
                starving.estimate(world, kbps);
            }
            film(world, &mut [camera], 50);
            camera.sends = wanted(world, camera).last().copied().unwrap_or(camera.sends);
        }
    };
    obey(&mut world, &mut camera, 30, 6);
    assert_eq!(camera.sends, [false, false, true]);
    world.events.clear();
    obey(&mut world, &mut camera, 30, 20);
    assert_eq!(wanted(&world, &camera), Vec::<[bool; 3]>::new());
    obey(&mut world, &mut camera, 300, 4);
    assert_eq!(wanted(&world, &camera)[0], [true, false, true], "now it fits");
    assert_eq!(starving.told(&mut world).last(), Some(&(camera.track, false, Pause::Bandwidth)));
}

#[test]
fn layers_that_nobody_watches_are_given_up_after_a_while_and_wanted_again_at_once() {
    let mut world = World::new();
    let mut camera = Camera::join(&mut world, Source::Camera, false);
    let viewer = Viewer::join(&mut world, 50_000);
    film(&mut world, &mut [&mut camera], 1_000);
    viewer.wish(&mut world, &camera, sized(160, 90));
    world.events.clear();
    film(&mut world, &mut [&mut camera], 2_000);
    assert!(wanted(&world, &camera).iter().all(|layers| layers[2]), "somebody may come back to it");
    film(&mut world, &mut [&mut camera], 3_000);
    assert_eq!(wanted(&world, &camera).last(), Some(&[true, false, false]));

    camera.sends = [true, false, false];
    film(&mut world, &mut [&mut camera], 2_000);
    world.events.clear();
    viewer.got(&mut world);
    viewer.wish(&mut world, &camera, sized(1_280, 720));
    world.settle();
    assert_eq!(wanted(&world, &camera), [[true, false, true]]);
    film(&mut world, &mut [&mut camera], 1_000);
    assert_eq!(viewer.got(&mut world), [0], "meanwhile it gets what there is");
    camera.sends[2] = true;
    film(&mut world, &mut [&mut camera], 200);
    viewer.got(&mut world);
    film(&mut world, &mut [&mut camera], 500);
    assert_eq!(viewer.got(&mut world), [2], "its first keyframe is enough");
}
