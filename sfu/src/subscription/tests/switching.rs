//! Three encodings of three temporal layers each, in real VP8 payloads, against a receiver that is strict about everything
//! that it could be strict about.

use std::collections::HashSet;

use super::*;
use crate::keyframe::VideoCodec;
use crate::payload::{DescriptorState, PictureIds};
use crate::track::SenderClock;

const LAYERS: usize = 3;
/// Ticks of a frame, and its time.
const FRAME: u32 = 3_000;
const FRAME_US: u64 = 33_333;
/// Temporal layer and Y bit of a frame by its place in the cycle.
const CYCLE: [(u8, bool); 4] = [(0, false), (2, true), (1, true), (2, false)];

/// A packet of the publisher's.
#[derive(Clone, Debug)]
struct Made {
    layer: usize,
    seq: u64,
    timestamp: u32,
    frame: u64,
    /// Its place in its frame, and whether it is the last.
    part: u64,
    last: bool,
    key: bool,
    temporal: u8,
    payload: Vec<u8>,
}

/// What an encoding counts.
#[derive(Clone, Debug)]
struct Encoder {
    seq: u64,
    timestamp: u32,
    ids: PictureIds,
    /// Place in the cycle of temporal layers.
    place: usize,
    wants_key: bool,
}

/// A packet as the receiver got it.
#[derive(Clone, Debug)]
struct Taken {
    made: Made,
    arrival: Instant,
    timestamp: u32,
    marker: bool,
    /// Without payload: it only fills its number.
    empty: bool,
    ids: PictureIds,
}

struct Stage {
    bench: Bench,
    encoders: Vec<Encoder>,
    /// Extended (layer, seq) to what was made.
    made: HashMap<(usize, u64), Made>,
    /// Packets that did not reach the ring in order.
    disturbed: HashSet<(usize, u64)>,
    /// Those of them that may still come.
    missing: Vec<Made>,
    taken: HashMap<u64, Taken>,
    /// The bytes of each, sealed once.
    payloads: HashMap<u64, Vec<u8>>,
    frame: u64,
    began: Instant,
    /// Outgoing numbers before which it was paused.
    paused_before: HashSet<u64>,
}

fn vp8(ids: PictureIds, (temporal, sync): (u8, bool), key: bool, part: u64, fill: u64) -> Vec<u8> {
    let picture = ids.picture_id.unwrap() | 0x8000;
    let first = if part == 0 { 0x90 } else { 0x80 };
    let mut payload = vec![first, 0xf0, (picture >> 8) as u8, picture as u8, ids.tl0.unwrap()];
    payload.push(temporal << 6 | u8::from(sync) << 5 | ids.key_index.unwrap());
    payload.extend([u8::from(!key), 0, 0]);
    if key && part == 0 {
        payload.extend([0x9d, 0x01, 0x2a, 64, 1, 240, 0]);
    }
    payload.extend(fill.to_be_bytes());
    payload
}

impl Stage {
    fn new(seqs: [u16; LAYERS], pictures: [u16; LAYERS], timestamps: [u32; LAYERS]) -> Stage {
        let mut bench = Bench::new(Kind::Video, draw());
        let began = bench.now;
        bench.layers = (0..LAYERS).map(|_| Layer::new(None, began)).collect();
        let encoders = (0..LAYERS).map(|n| Encoder {
            seq: 65_536 + u64::from(seqs[n]),
            timestamp: timestamps[n],
            ids: PictureIds {
                picture_id: Some(pictures[n] & 0x7fff),
                wide: true,
                tl0: Some(pictures[n] as u8),
                key_index: Some(pictures[n] as u8 & 0x1f),
            },
            place: 0,
            wants_key: true,
        });
        Stage {
            encoders: encoders.collect(),
            bench,
            made: HashMap::new(),
            disturbed: HashSet::new(),
            missing: Vec::new(),
            taken: HashMap::new(),
            payloads: HashMap::new(),
            frame: 0,
            began,
            paused_before: HashSet::new(),
        }
    }

    /// The next frame of each encoding; `fates` says of each packet whether it is (lost for now, comes before the last).
    fn frame(&mut self, parts: u64, fates: &[(bool, bool)], silent: Option<usize>) {
        self.frame += 1;
        self.bench.now = self.began + Duration::from_micros(self.frame * FRAME_US);
        let mut fates = fates.iter().copied().cycle();
        for layer in 0..LAYERS {
            let made = self.encode(layer, parts + layer as u64);
            if silent == Some(layer) {
                self.disturbed.extend(made.iter().map(|packet| (layer, packet.seq)));
                continue;
            }
            let mut held: Option<Made> = None;
            for packet in made {
                let (lost, late) = fates.next().unwrap_or_default();
                if lost || late {
                    self.disturbed.insert((layer, packet.seq));
                }
                if lost {
                    self.missing.push(packet);
                } else if late && held.is_none() {
                    held = Some(packet);
                } else {
                    self.store(&packet);
                    held.take().inspect(|held| self.store(held));
                }
            }
            held.inspect(|held| self.store(held));
        }
    }

    fn encode(&mut self, layer: usize, parts: u64) -> Vec<Made> {
        let encoder = &mut self.encoders[layer];
        encoder.timestamp = encoder.timestamp.wrapping_add(FRAME);
        let key = std::mem::take(&mut encoder.wants_key);
        encoder.place = if key { 0 } else { (encoder.place + 1) % CYCLE.len() };
        let (temporal, sync) = CYCLE[encoder.place];
        let ids = &mut encoder.ids;
        ids.picture_id = ids.picture_id.map(|id| (id + 1) & 0x7fff);
        ids.tl0 = ids.tl0.map(|tl0| tl0.wrapping_add(u8::from(temporal == 0)));
        ids.key_index = ids.key_index.map(|index| (index + u8::from(key)) & 0x1f);
        let mut made = Vec::new();
        for part in 0..parts {
            encoder.seq += 1;
            let payload = vp8(encoder.ids, (temporal, sync), key, part, encoder.seq << 8 | layer as u64);
            let packet = Made {
                layer,
                seq: encoder.seq,
                timestamp: encoder.timestamp,
                frame: self.frame,
                part,
                last: part + 1 == parts,
                key,
                temporal,
                payload,
            };
            self.made.insert((layer, packet.seq), packet.clone());
            made.push(packet);
        }
        made
    }

    fn store(&mut self, made: &Made) {
        let says = payload::describe(VideoCodec::Vp8, &made.payload, &[], &mut DescriptorState::default());
        let layer = &mut self.bench.layers[made.layer];
        layer.heard(made.timestamp, self.bench.now);
        let incoming = Incoming {
            seq: made.seq,
            epoch: 0,
            timestamp: made.timestamp,
            marker: made.last,
            codec: 0,
            video: Some(VideoCodec::Vp8),
            description: says,
            level: None,
            descriptor: &[],
            skip: 0,
            payload: &made.payload,
        };
        layer.ring.push(incoming, self.bench.now);
    }

    /// The publisher's report on an encoding.
    fn report(&mut self, layer: usize) {
        let ntp = ((u128::from(self.frame * FRAME_US) << 32) / 1_000_000) as u64;
        let timestamp = self.encoders[layer].timestamp;
        self.bench.layers[layer].clock = Some(SenderClock { ntp, timestamp, arrival: self.bench.now });
    }

    fn drain(&mut self) {
        let Bench { layers, subscription, sealer, opener, stamps, .. } = &mut self.bench;
        while let Some((packet, ring)) = subscription.next(layers) {
            let layer = usize::from(subscription.current().unwrap().layer);
            let Some(prepared) = subscription.prepare(packet) else { continue };
            let mut out = vec![0; subscription.plain_len(packet, ring) + 40];
            let len = subscription.write(prepared, packet, ring, stamps, sealer, &mut out);
            out.truncate(len);
            let header = rtp::parse(&out).unwrap();
            let (len, index) =
                opener.open_rtp(&mut out, header.header_len, header.ssrc, header.sequence_number).unwrap();
            let payload = rtp::payload(&out[..len], &header).unwrap().to_vec();
            let made = self.made[&(layer, packet.seq)].clone();
            let says = payload::describe(VideoCodec::Vp8, &payload, &[], &mut DescriptorState::default());
            let empty = payload.is_empty();
            assert!(empty || payload[6..] == made.payload[6..], "only the numbers differ");
            let (arrival, timestamp, marker) = (packet.arrival, header.timestamp, header.marker);
            let taken = Taken { made, arrival, timestamp, marker, empty, ids: says.ids };
            assert!(self.taken.insert(index, taken).is_none(), "two packets under one number");
            self.payloads.insert(index, payload);
        }
    }

    fn nack(&mut self, index: u64) {
        let Bench { layers, subscription, sealer, opener, stamps, now, .. } = &mut self.bench;
        let Some(resend) = subscription.resendable(index as u16, layers, *now) else { return };
        let (packet, ring) = subscription.resent(resend, layers).unwrap();
        let mut out = vec![0; 2_000];
        let len = subscription.write_rtx(resend, packet, ring, stamps, sealer, &mut out).unwrap();
        out.truncate(len);
        let header = rtp::parse(&out).unwrap();
        let (len, _) = opener.open_rtp(&mut out, header.header_len, header.ssrc, header.sequence_number).unwrap();
        let payload = rtp::payload(&out[..len], &header).unwrap();
        let first = &self.taken[&index];
        assert_eq!(payload[..2], (index as u16).to_be_bytes());
        assert_eq!(payload[2..], self.payloads[&index], "what is resent is what was sent");
        assert_eq!((header.timestamp, header.marker), (first.timestamp, first.marker));
    }

    /// Packets of an encoding between two of its numbers that did not come when they should have.
    fn disturbed_between(&self, layer: usize, from: u64, to: u64) -> u64 {
        self.disturbed.iter().filter(|(l, seq)| *l == layer && (from + 1..to).contains(seq)).count() as u64
    }

    /// What a strict receiver insists on.
    fn check(&self) {
        let mut order: Vec<(u64, &Taken)> = self.taken.iter().map(|(index, taken)| (*index, taken)).collect();
        order.sort_unstable_by_key(|(index, _)| *index);
        let sources: HashSet<(usize, u64)> = order.iter().map(|(_, t)| (t.made.layer, t.made.seq)).collect();
        assert_eq!(sources.len(), order.len(), "each packet goes out once");
        for pair in order.windows(2) {
            let ((a_out, a), (b_out, b)) = (pair[0], pair[1]);
            let same = a.made.layer == b.made.layer && !self.paused_before.contains(&b_out);
            let end = if same { b.made.seq } else { u64::MAX };
            let disturbed = self.disturbed_between(a.made.layer, a.made.seq, end);
            assert!(b_out - a_out <= 1 + disturbed, "a gap of our making before {b_out}: {a:?} {b:?}");
            assert!(!same || a.made.seq < b.made.seq, "the publisher's order is kept");
        }
        let full: Vec<(u64, &Taken)> = order.iter().copied().filter(|(_, taken)| !taken.empty).collect();
        if let Some((_, first)) = full.first() {
            assert!(first.made.key && first.made.part == 0, "begins with a keyframe: {first:?}");
        }
        for (_, taken) in &full {
            assert_eq!(taken.marker, taken.made.last);
        }
        for pair in full.windows(2) {
            self.check_pair(pair[0], pair[1]);
        }
    }

    fn check_pair(&self, (a_out, a): (u64, &Taken), (b_out, b): (u64, &Taken)) {
        let ahead = b.timestamp.wrapping_sub(a.timestamp) as i32;
        let turned =
            a.made.layer != b.made.layer || self.paused_before.iter().any(|at| (a_out + 1..=b_out).contains(at));
        if !turned && a.made.frame == b.made.frame {
            assert_eq!((ahead, a.ids), (0, b.ids), "one timestamp and one number a frame");
            return;
        }
        assert!(ahead > 0, "time goes on: {a:?} {b:?}");
        // By the publisher's clock, or where that is not known by ours.
        let frames = (b.arrival.saturating_duration_since(a.arrival).as_micros() as u64 / FRAME_US)
            .max(b.made.frame.saturating_sub(a.made.frame));
        let passed = frames as i32 * FRAME as i32;
        assert!(ahead <= passed + 4 * FRAME as i32, "no more than passed: {ahead} of {passed}");
        if a.made.layer != b.made.layer {
            assert!(b.made.key && b.made.part == 0, "goes over at a keyframe: {a:?} {b:?}");
        }
        let pictures = b.ids.picture_id.unwrap().wrapping_sub(a.ids.picture_id.unwrap()) & 0x7fff;
        let bases = b.ids.tl0.unwrap().wrapping_sub(a.ids.tl0.unwrap());
        let keys = b.ids.key_index.unwrap().wrapping_sub(a.ids.key_index.unwrap()) & 0x1f;
        let undisturbed = b_out == a_out + 1 && (a.made.last || turned);
        if undisturbed {
            assert_eq!(pictures, 1, "pictures are counted without gaps: {a:?} {b:?}");
            assert_eq!(bases, u8::from(b.made.temporal == 0), "TL0PICIDX {a:?} {b:?}");
            assert_eq!(keys, u8::from(b.made.key), "KEYIDX {a:?} {b:?}");
        }
        assert!((1..0x4000).contains(&pictures) && bases < 0x80, "numbers only grow: {a:?} {b:?}");
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// So many frames of so many packets.
    Frames(u8, u64, Vec<(bool, bool)>),
    /// The subscriber is to get this, or nothing.
    Aim(Option<(u8, u8)>),
    Key(usize),
    Report(usize),
    /// What is missing comes at last.
    Recover,
    /// An encoding is silent, for so many frames, and known to be.
    Silence(usize, u8),
    Nack(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let fate = (prop::bool::weighted(0.08), prop::bool::weighted(0.1));
    let target = (0u8..LAYERS as u8, 0u8..3);
    let step = prop_oneof![
        10 => (1u8..9, 1u64..4, prop::collection::vec(fate, 1..40)).prop_map(|(n, parts, fates)| Step::Frames(n, parts, fates)),
        4 => target.prop_map(|target| Step::Aim(Some(target))),
        1 => Just(Step::Aim(None)),
        5 => (0..LAYERS).prop_map(Step::Key),
        3 => (0..LAYERS).prop_map(Step::Report),
        3 => Just(Step::Recover),
        1 => (0..LAYERS, 1u8..9).prop_map(|(layer, frames)| Step::Silence(layer, frames)),
        3 => (0u64..200).prop_map(Step::Nack),
    ];
    prop::collection::vec(step, 1..60)
}

fn play(stage: &mut Stage, step: Step) {
    match step {
        Step::Frames(frames, parts, fates) => {
            for n in 0..frames {
                let from = usize::from(n) * 3 % fates.len();
                stage.frame(parts, &fates[from..], None);
                stage.drain();
            }
        }
        Step::Aim(target) => aim(stage, target),
        Step::Key(layer) => stage.encoders[layer].wants_key = true,
        Step::Report(layer) => stage.report(layer),
        Step::Recover => {
            for packet in std::mem::take(&mut stage.missing) {
                stage.store(&packet);
            }
            stage.drain();
        }
        Step::Silence(layer, frames) => {
            stage.bench.layers[layer].alive = false;
            for _ in 0..frames {
                stage.frame(2, &[(false, false)], Some(layer));
                stage.drain();
            }
        }
        Step::Nack(behind) => {
            let highest = stage.taken.keys().max().copied().unwrap_or_default();
            stage.nack(highest.saturating_sub(behind));
        }
    }
}

fn aim(stage: &mut Stage, target: Option<(u8, u8)>) {
    if target.is_none()
        && let Some(highest) = stage.taken.keys().max()
    {
        let bench = &stage.bench;
        let next = bench.subscription.numbering.as_ref().map_or(highest + 1, Numbering::next_out);
        stage.paused_before.insert(next);
    }
    let target = target.map(|(layer, temporal)| Target { layer, spatial: 0, temporal });
    stage.bench.subscription.aim(target, &stage.bench.layers);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    /// Any sequence of losses, reorders, recoveries, switches, pauses: one stream that a strict receiver takes; and in the
    /// end it gets exactly what it is aimed at.
    #[test]
    fn whatever_is_switched_the_receiver_sees_one_stream(
        seqs: [u16; 3], pictures: [u16; 3], timestamps: [u32; 3], steps in steps(), end in (0u8..3, 0u8..3),
    ) {
        let mut stage = Stage::new(seqs, pictures, timestamps);
        for step in steps {
            play(&mut stage, step);
        }
        // What was let alone until now goes on well: reports come, keyframes come.
        stage.missing.clear();
        aim(&mut stage, Some(end));
        let layer = usize::from(end.0);
        for _ in 0..2 {
            for layer in 0..LAYERS {
                stage.report(layer);
            }
            stage.encoders[layer].wants_key = true;
            for _ in 0..5 {
                stage.frame(2, &[(false, false)], None);
                stage.drain();
            }
        }
        let current = stage.bench.subscription.current().unwrap();
        prop_assert_eq!((current.layer, current.temporal), end);
        let before: HashSet<u64> = stage.taken.keys().copied().collect();
        for _ in 0..8 {
            stage.frame(2, &[(false, false)], None);
            stage.drain();
        }
        let parts = 2 + layer;
        let fresh: Vec<&Taken> = stage.taken.iter().filter(|(out, _)| !before.contains(out)).map(|(_, t)| t).collect();
        prop_assert!(fresh.iter().all(|t| t.made.layer == layer && t.made.temporal <= end.1 && !t.empty));
        prop_assert_eq!(fresh.len(), parts * [2, 4, 8][usize::from(end.1)], "every frame up to what is wanted");
        stage.check();
    }
}

fn calm(stage: &mut Stage, frames: usize) {
    for _ in 0..frames {
        stage.frame(2, &[(false, false)], None);
        stage.drain();
    }
}

fn begun(end: (u8, u8)) -> Stage {
    let mut stage = Stage::new([100, 200, 300], [7, 8, 9], [1, 2, 3]);
    aim(&mut stage, Some(end));
    calm(&mut stage, 8);
    (0..LAYERS).for_each(|layer| stage.report(layer));
    stage
}

/// The same moment has the same timestamp, whichever encoding shows it.
#[test]
fn timestamps_follow_the_publishers_clock_through_switches() {
    let mut stage = begun((0, 2));
    for to in [2u8, 0, 1, 2, 1] {
        aim(&mut stage, Some((to, 2)));
        stage.encoders[usize::from(to)].wants_key = true;
        calm(&mut stage, 8);
    }
    let offsets: HashSet<u32> =
        stage.taken.values().map(|t| t.timestamp.wrapping_sub(t.made.frame as u32 * FRAME)).collect();
    // The first picture of an encoding may be the one that was just shown in the other; then it comes a tick later.
    let (least, most) = (offsets.iter().min().unwrap(), offsets.iter().max().unwrap());
    assert!(most - least <= 2 * FRAME, "{offsets:?}");
    stage.check();
}

#[test]
fn no_layer_is_gone_to_whose_clock_is_not_known_while_another_lives() {
    let mut stage = begun((0, 2));
    stage.bench.layers[2].clock = None;
    aim(&mut stage, Some((2, 2)));
    stage.encoders[2].wants_key = true;
    calm(&mut stage, 8);
    assert_eq!(stage.bench.subscription.current().unwrap().layer, 0);
    stage.bench.layers[0].alive = false;
    stage.encoders[2].wants_key = true;
    stage.frame(2, &[(false, false)], Some(0));
    stage.drain();
    assert_eq!(stage.bench.subscription.current().unwrap().layer, 2);
    stage.check();
}

/// Another track under the same SSRC: numbers and time go on, and what was sent before is nobody's any more.
#[test]
fn another_track_goes_on_in_the_same_stream() {
    let mut stage = begun((1, 2));
    let (last_out, last) = stage.taken.iter().max_by_key(|(out, _)| **out).map(|(o, t)| (*o, t.clone())).unwrap();
    let payloads = stage.bench.subscription.outlet.as_ref().unwrap().payloads.clone();
    stage.bench.subscription.retarget(9, &track(Kind::Video), payloads);
    assert!(!stage.bench.subscription.flows());
    let before = stage.taken.clone();
    let strange = Stage::new([9_000, 9_100, 9_200], [70, 80, 90], [1 << 30, 1 << 29, 1 << 28]);
    stage.bench.layers = strange.bench.layers;
    stage.encoders = strange.encoders;
    assert!(stage.bench.subscription.resendable(last_out as u16, &stage.bench.layers, stage.bench.now).is_none());
    aim(&mut stage, Some((1, 2)));
    calm(&mut stage, 4);
    let first = stage.taken.iter().filter(|(out, _)| !before.contains_key(out)).min_by_key(|(out, _)| **out).unwrap();
    assert_eq!((*first.0, first.1.made.key, first.1.made.part), (last_out + 1, true, 0));
    let ahead = first.1.timestamp.wrapping_sub(last.timestamp);
    assert!(ahead.abs_diff(FRAME) <= 3, "a frame's time passed: {ahead}");
    assert_eq!(first.1.ids.picture_id.unwrap(), last.ids.picture_id.unwrap() + 1);
}

/// One picture of three spatial layers, a packet each; a keyframe, or one that refers to the last.
fn svc_picture(bench: &mut Bench, seq: &mut u64, key: bool) {
    let timestamp = (*seq as u32).wrapping_mul(1_000);
    bench.now += Duration::from_micros(FRAME_US);
    for spatial in 0..3u8 {
        *seq += 1;
        let mut present = Targets::default();
        (spatial..4).for_each(|s| (0..4).for_each(|t| present.insert(s, t)));
        let mut own = Targets::default();
        (0..4).for_each(|t| own.insert(spatial, t));
        let starts_keyframe = key && spatial == 0;
        let says = Description {
            starts_keyframe,
            starts_frame: true,
            ends_frame: true,
            spatial,
            present,
            decodable: if key { Targets::ALL } else { present },
            switch: if starts_keyframe { Targets::ALL } else { own },
            ..Description::default()
        };
        let incoming = Incoming {
            seq: *seq,
            epoch: 0,
            timestamp,
            marker: spatial == 2,
            codec: 0,
            video: Some(VideoCodec::Vp9),
            description: says,
            level: None,
            descriptor: &[],
            skip: 0,
            payload: &[spatial, *seq as u8],
        };
        bench.push(incoming);
    }
}

/// The spatial layers and markers of what goes out, which is without gaps.
fn svc_taken(bench: &mut Bench) -> Vec<(u8, bool)> {
    let Bench { layers, subscription, .. } = bench;
    let mut taken = Vec::new();
    while let Some((packet, _)) = subscription.next(layers) {
        let next = subscription.numbering.as_ref().map(Numbering::next_out);
        let Some(prepared) = subscription.prepare(packet) else { continue };
        assert_eq!(Some(prepared.place.out), next, "no gap is left");
        taken.push((packet.spatial, prepared.place.marker));
    }
    taken
}

#[test]
fn spatial_layers_go_down_at_once_and_up_at_a_keyframe_and_the_highest_has_the_marker() {
    let mut bench = Bench::new(Kind::Video, draw());
    let mut seq = 70_000;
    let target = |spatial| Some(Target { layer: 0, spatial, temporal: 0 });
    bench.subscription.aim(target(2), &bench.layers);
    svc_picture(&mut bench, &mut seq, true);
    assert_eq!(svc_taken(&mut bench), [(0, false), (1, false), (2, true)]);
    assert!(!bench.subscription.aim(target(1), &bench.layers), "down without a keyframe");
    svc_picture(&mut bench, &mut seq, false);
    svc_picture(&mut bench, &mut seq, false);
    assert_eq!(svc_taken(&mut bench), [(0, false), (1, true), (0, false), (1, true)]);
    assert!(bench.subscription.aim(target(2), &bench.layers) && bench.subscription.awaits_keyframe());
    svc_picture(&mut bench, &mut seq, false);
    assert_eq!(svc_taken(&mut bench), [(0, false), (1, true)], "not before the keyframe");
    svc_picture(&mut bench, &mut seq, true);
    assert_eq!(svc_taken(&mut bench), [(0, false), (1, false), (2, true)]);
    assert!(!bench.subscription.awaits_keyframe());
}
