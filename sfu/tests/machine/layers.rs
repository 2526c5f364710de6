//! A publisher of three encodings: who gets which, and what happens when one ends.

use std::time::Duration;

use sfu::{Drop, Event, Kind, rtcp};

use crate::tab::{Got, MID_ID, VP8, VP8_RTX, plain_rtp};
use crate::world::World;

const RID_ID: u8 = 10;
const REPAIRED_ID: u8 = 11;
const RIDS: [&str; 3] = ["q", "h", "f"];
/// Ticks of a frame, and its time.
const FRAME: u32 = 3_000;
const FRAME_MS: u64 = 33;

/// One encoding of tab 0's video.
#[derive(Clone, Copy)]
struct Encoding {
    ssrc: u32,
    rtx_ssrc: u32,
    index: u64,
    timestamp: u32,
    sends: bool,
}

/// Tab 0 publishes three encodings, tab 1 takes what it gets.
struct Call {
    world: World,
    encodings: [Encoding; 3],
    frame: u64,
    rtx_index: u64,
}

fn payload(place: usize, key: bool, frame: u64, len: usize) -> Vec<u8> {
    let mut payload = vec![0x10, u8::from(!key), 0, 0];
    if key {
        let (width, height) = (160u16 << place, 90u16 << place);
        payload.extend([0x9d, 0x01, 0x2a]);
        payload.extend(width.to_le_bytes());
        payload.extend(height.to_le_bytes());
    }
    payload.extend([place as u8, frame as u8]);
    payload.resize(len.max(payload.len()), 7);
    payload
}

impl Call {
    /// Everybody is connected; nothing has been sent yet.
    fn new() -> Call {
        let mut world = World::new();
        let publisher = world.enter(1, false);
        world.tabs[publisher].add(Kind::Video);
        let line = &mut world.tabs[publisher].lines[0];
        line.sources.clear();
        for (id, name) in [(RID_ID, "rtp-stream-id"), (REPAIRED_ID, "repaired-rtp-stream-id")] {
            line.attributes.push(format!("a=extmap:{id} urn:ietf:params:rtp-hdrext:sdes:{name}"));
        }
        line.attributes.extend(RIDS.map(|rid| format!("a=rid:{rid} send")));
        line.attributes.push("a=simulcast:send q;h;f".into());
        world.offer(publisher);
        world.join(1, &[]);
        world.run_ms(1_000);
        assert!(world.tabs.iter().all(|tab| tab.is_connected()));
        world.events.clear();
        let encoding = |place: u32| Encoding {
            ssrc: 1_000 + place,
            rtx_ssrc: 2_000 + place,
            index: 100 * u64::from(place),
            timestamp: 1 << (20 + place),
            sends: true,
        };
        Call { world, encodings: [encoding(0), encoding(1), encoding(2)], frame: 0, rtx_index: 5 }
    }

    fn seal(&self, place: usize, extensions: &[(u8, &[u8])], payload: &[u8]) -> Vec<u8> {
        let Encoding { ssrc, index, timestamp, .. } = self.encodings[place];
        let plain = plain_rtp(ssrc, VP8 | 0x80, index as u16, timestamp, extensions, payload);
        let header_len = plain.len() - payload.len();
        self.world.tabs[0].seal(plain, header_len, ssrc, index)
    }

    /// One frame of one packet of each encoding that sends: keyframes of those named. `lost` of them do not arrive.
    fn frame(&mut self, keys: &[usize], lost: &[usize]) {
        self.frame += 1;
        for (place, rid) in RIDS.iter().enumerate() {
            self.encodings[place].timestamp = self.encodings[place].timestamp.wrapping_add(FRAME);
            if !self.encodings[place].sends {
                continue;
            }
            self.encodings[place].index += 1;
            let payload = payload(place, keys.contains(&place), self.frame, 60 << place);
            let packet = self.seal(place, &[(MID_ID, b"0"), (RID_ID, rid.as_bytes())], &payload);
            if !lost.contains(&place) {
                self.world.send(0, packet);
            }
        }
        self.world.run_ms(FRAME_MS);
    }

    fn frames(&mut self, count: usize) {
        (0..count).for_each(|_| self.frame(&[], &[]));
    }

    /// Frames for so long that each keyframe that is asked for comes in the next; which encodings were asked.
    fn obliging_frames(&mut self, count: usize) -> Vec<usize> {
        let mut asked = Vec::new();
        for _ in 0..count {
            let wanted = self.asked_for();
            self.frame(&wanted, &[]);
            asked.extend(wanted);
        }
        asked
    }

    /// The encodings that keyframes were asked of since the last call.
    fn asked_for(&mut self) -> Vec<usize> {
        let rtcp = std::mem::take(&mut self.world.tabs[0].rtcp);
        let packets = rtcp.iter().flat_map(|compound| rtcp::parse(compound));
        let media = packets.filter_map(|packet| match packet {
            rtcp::Packet::Pli { media, .. } => Some(media),
            _ => None,
        });
        media.filter_map(|media| self.encodings.iter().position(|e| e.ssrc == media)).collect()
    }

    /// The publisher's sender reports.
    fn report(&mut self) {
        let ntp = (((u128::from(self.frame) * u128::from(FRAME)) << 32) / 90_000) as u64;
        for encoding in self.encodings {
            let mut report = Vec::new();
            rtcp::write_sender_report(encoding.ssrc, ntp, encoding.timestamp, 1, 40, &[], &mut report);
            self.world.rtcp(0, report);
        }
    }

    fn got(&self) -> &[Got] {
        &self.world.tabs[1].got
    }

    /// The encodings of which tab 1 got frames since it had got so many.
    fn places(&self, since: usize) -> Vec<u8> {
        let places = self.got()[since..].iter().map(|got| {
            let at = if got.payload[1] & 1 == 0 { 11 } else { 4 };
            got.payload[at]
        });
        places.collect()
    }

    /// What tab 1 got is one stream without gaps whose time goes on.
    fn assert_whole(&self) {
        for pair in self.got().windows(2) {
            assert_eq!(pair[1].ssrc, pair[0].ssrc);
            assert_eq!(pair[1].seq, pair[0].seq.wrapping_add(1));
            let ahead = pair[1].timestamp.wrapping_sub(pair[0].timestamp);
            assert!((1..=130 * FRAME).contains(&ahead), "{ahead} ticks");
        }
    }

    fn told(&self) -> Vec<Vec<bool>> {
        let told = self.world.events.iter().filter_map(|event| match event {
            Event::LayersWanted { layers, .. } => {
                assert_eq!(layers.iter().map(|(rid, _)| &**rid).collect::<Vec<_>>(), RIDS);
                Some(layers.iter().map(|(_, wanted)| *wanted).collect())
            }
            _ => None,
        });
        told.collect()
    }
}

/// Down when the best ends, within a second and at a keyframe, and up when it is back: one stream, no packet missing.
#[test]
fn a_layer_that_ends_is_replaced_and_taken_again_when_it_is_back() {
    let mut call = Call::new();
    call.frame(&[0, 1, 2], &[]);
    call.report();
    call.frames(20);
    assert_eq!(call.places(0), [2; 21], "the largest");
    let before = call.got().len();
    assert_eq!(call.asked_for(), [], "what begins with a keyframe is not asked for one");
    call.encodings[2].sends = false;
    let asked = call.obliging_frames(34);
    assert!(asked.contains(&1) && !asked.contains(&0), "{asked:?}");
    let places = call.places(before);
    assert!(!places.is_empty() && places.iter().all(|place| *place == 1), "{places:?}");
    assert!(call.got()[before].payload[1] & 1 == 0, "at a keyframe");
    let before = call.got().len();
    call.encodings[2].sends = true;
    call.frame(&[], &[]);
    assert_eq!(call.places(before), [1], "not before its keyframe");
    call.obliging_frames(10);
    assert_eq!(call.places(call.got().len() - 5), [2; 5]);
    call.assert_whole();
    // The same moment has the same timestamp, whichever encoding shows it.
    let ticks = |got: &Got| {
        let frame = got.payload[if got.payload[1] & 1 == 0 { 12 } else { 5 }];
        got.timestamp.wrapping_sub(u32::from(frame) * FRAME)
    };
    let offsets: Vec<u32> = call.got().iter().map(ticks).collect();
    let (least, most) = (offsets.iter().min().unwrap(), offsets.iter().max().unwrap());
    assert!(most - least <= FRAME, "{offsets:?}");
}

#[test]
fn what_was_sent_of_the_last_layer_can_still_be_asked_for() {
    let mut call = Call::new();
    call.frame(&[0, 1, 2], &[]);
    call.report();
    call.frames(10);
    let before = call.got().len();
    call.encodings[2].sends = false;
    call.obliging_frames(34);
    let after = call.got().to_vec();
    let (old, new) = (&after[before - 1], &after[before]);
    assert_ne!(call.places(before - 1)[..2], [1, 1]);
    let mut nack = Vec::new();
    // The old one is over a second old; what its ring keeps, it gives.
    rtcp::write_nack(1, old.ssrc, [old.seq, new.seq], &mut nack);
    call.world.rtcp(1, nack);
    call.world.settle();
    let resent = &call.got()[after.len()..];
    assert_eq!(resent.len(), 2);
    for (got, original) in resent.iter().zip([old, new]) {
        assert_eq!(got.payload[..2], original.seq.to_be_bytes());
        assert_eq!((&got.payload[2..], got.timestamp), (&original.payload[..], original.timestamp));
    }
}

/// Loss is repaired where somebody watches; the retransmission says by its repaired RID what it repairs.
#[test]
fn a_lost_packet_of_the_watched_layer_is_asked_for_and_found_by_its_repaired_rid() {
    let mut call = Call::new();
    call.frame(&[0, 1, 2], &[]);
    call.report();
    call.frames(30);
    call.world.tabs[0].rtcp.clear();
    let before = call.got().len();
    call.frame(&[], &[0, 1, 2]);
    let (lost, timestamp) = (call.encodings[2].index as u16, call.encodings[2].timestamp);
    let repaired = payload(2, false, call.frame, 240);
    call.frames(1);
    let nacks: Vec<(u32, Vec<u16>)> = (call.world.tabs[0].rtcp.iter())
        .flat_map(|compound| rtcp::parse(compound))
        .filter_map(|packet| match packet {
            rtcp::Packet::Nack { media, lost, .. } => Some((media, lost.collect())),
            _ => None,
        })
        .collect();
    assert_eq!(nacks, [(call.encodings[2].ssrc, vec![lost])]);
    for (rid, comes) in [("x", 0), ("f", 1)] {
        let mut body = lost.to_be_bytes().to_vec();
        body.extend(&repaired);
        let extensions: [(u8, &[u8]); 2] = [(MID_ID, b"0"), (REPAIRED_ID, rid.as_bytes())];
        let ssrc = call.encodings[2].rtx_ssrc + u32::from(rid == "x");
        let plain = plain_rtp(ssrc, VP8_RTX, call.rtx_index as u16, timestamp, &extensions, &body);
        let header_len = plain.len() - body.len();
        let packet = call.world.tabs[0].seal(plain, header_len, ssrc, call.rtx_index);
        let had = call.got().len();
        call.world.send(0, packet);
        call.world.settle();
        assert_eq!(call.got().len() - had, comes, "{rid}");
    }
    let got = call.got();
    let seq = |n: usize| got[n].seq;
    assert_eq!(seq(before), seq(before - 1).wrapping_add(2), "its place was kept");
    let last = got.last().unwrap();
    assert_eq!((last.seq, &last.payload), (seq(before - 1).wrapping_add(1), &repaired));
    // Once its SSRC is known it needs no name.
    assert_eq!(call.world.drops(Drop::UnknownStream), 1);
}

#[test]
fn what_nobody_watches_is_told_to_be_unwanted_until_it_is_needed() {
    let mut call = Call::new();
    call.frame(&[0, 1, 2], &[]);
    call.report();
    call.frames(60);
    assert!(call.told().is_empty(), "not at once");
    call.frames(60);
    assert_eq!(call.told(), [[false, false, true]]);
    call.encodings[0].sends = false;
    call.encodings[1].sends = false;
    call.frames(30);
    call.encodings[2].sends = false;
    call.frames(120);
    assert_eq!(call.told()[1..], [[true, true, true]], "when it ends, anything will do");
    call.encodings[1].sends = true;
    call.obliging_frames(20);
    assert_eq!(call.places(call.got().len() - 5), [1; 5]);
    call.assert_whole();
}

/// Names that are not ours, those of a living layer, and those of another m-line bring nothing in.
#[test]
fn a_stream_that_names_no_layer_or_a_living_one_is_dropped() {
    let mut call = Call::new();
    call.frame(&[0, 1, 2], &[]);
    call.frames(5);
    let had = call.got().len();
    let strange: [&[(u8, &[u8])]; 5] = [
        &[(MID_ID, b"0"), (RID_ID, b"x")],
        &[(MID_ID, b"0")],
        &[(MID_ID, b"7"), (RID_ID, b"f")],
        &[(MID_ID, b"0"), (RID_ID, b"f")],
        &[],
    ];
    for (n, extensions) in strange.iter().enumerate() {
        let body = payload(2, true, 99, 50);
        let plain = plain_rtp(5_000, VP8, n as u16, 9, extensions, &body);
        let header_len = plain.len() - body.len();
        let packet = call.world.tabs[0].seal(plain, header_len, 5_000, n as u64);
        call.world.send(0, packet);
        call.world.settle();
    }
    assert_eq!(call.world.drops(Drop::UnknownStream), strange.len() as u64);
    assert_eq!(call.got().len(), had);
    call.frames(5);
    call.assert_whole();
}

/// A layer may come again and again under new SSRCs.
#[test]
fn a_layer_may_change_its_ssrc_as_often_as_it_likes() {
    let mut call = Call::new();
    call.frame(&[0, 1, 2], &[]);
    call.report();
    for round in 0..50 {
        call.world.run(Duration::from_millis(350));
        call.encodings[2].ssrc = 10_000 + round;
        call.encodings[2].index = u64::from(round) * 7;
        let had = call.got().len();
        call.frame(&[2], &[]);
        assert_eq!(call.got().len(), had + 1, "round {round}");
    }
    assert_eq!(call.world.drops(Drop::TooManyStreams), 0);
}
