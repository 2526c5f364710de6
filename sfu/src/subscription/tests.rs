//! A subscription against a receiver that takes nothing on trust: it opens each packet, extends sequence numbers as SRTP
//! does, and holds what it got against what the publisher sent.

use std::collections::HashMap;

use proptest::prelude::*;

use super::numbering::STRETCHES_MAX;
use super::*;
use crate::payload::{Description, Targets};
use crate::ring::Incoming;
use crate::rtp;
use crate::sdp::{Codec, CodecName, Feedback};
use crate::srtp::{Opener, Profile};
use crate::track::Track;

mod switching;

const KEY: [u8; 16] = [3; 16];
const SALT: [u8; 12] = [9; 12];
const IDS: ExtensionIds =
    ExtensionIds { mid: 1, abs_send_time: 2, transport_cc: 3, audio_level: 4, descriptor: 5, rid: 0, repaired_rid: 0 };

fn codec(payload_type: u8) -> Codec {
    Codec {
        payload_type,
        name: CodecName::Vp8,
        clock_rate: 90_000,
        channels: 1,
        fmtp: String::new(),
        feedback: Feedback::video(),
        rtx: Some(payload_type + 1),
    }
}

fn track(kind: Kind) -> Track {
    let mut track = Track::new(TrackId(5), kind, Source::Camera, 0, "pa".into(), Mid::new("0").unwrap());
    track.codecs = vec![codec(96), codec(98)];
    track
}

fn outlet() -> Outlet {
    // The second codec cannot be decoded.
    let payloads = vec![Some(PayloadTypes { primary: 100, rtx: Some(101), unwraps: false }), None];
    Outlet { mid: Mid::new("s001").unwrap(), ids: IDS, mixed: true, payloads, red: None }
}

/// One subscription, its layer, and its receiver.
struct Bench {
    layers: Vec<Layer>,
    subscription: Subscription,
    sealer: Sealer,
    opener: Opener,
    stamps: Stamps,
    now: Instant,
    next_transport_seq: u16,
    /// Extended sequence number to (payload, incoming epoch, seq and timestamp, outgoing timestamp).
    got: HashMap<u64, Seen>,
    order: Vec<u64>,
    rtx_indices: Vec<u64>,
    overruns: u64,
    /// How long the datagrams of the run at hand are, if there is one.
    run: Option<usize>,
    /// How long what was written is, before the tag.
    lengths: Vec<usize>,
    /// The last number of each of the publisher's streams.
    ends: HashMap<u16, u64>,
}

#[derive(Clone, Debug, PartialEq)]
struct Seen {
    payload: Vec<u8>,
    epoch: u16,
    seq: u64,
    timestamp: u32,
    out_timestamp: u32,
}

impl Bench {
    fn new(kind: Kind, draw: Draw) -> Bench {
        let now = Instant::now();
        let mut subscription = Subscription::new(0, &track(kind), draw, now);
        subscription.outlet = Some(outlet());
        subscription.aim(Some(Target::default()), &[]);
        Bench {
            layers: vec![Layer::new(None, now)],
            subscription,
            sealer: Sealer::new(Profile::AeadAes128Gcm, &KEY, &SALT).unwrap(),
            opener: Opener::new(Profile::AeadAes128Gcm, &KEY, &SALT).unwrap(),
            stamps: Stamps { transport_seq: 65_530, abs_send_time: 0x12_3456 },
            now,
            next_transport_seq: 65_530,
            got: HashMap::new(),
            order: Vec::new(),
            rtx_indices: Vec::new(),
            overruns: 0,
            run: None,
            lengths: Vec::new(),
            ends: HashMap::new(),
        }
    }

    /// The publisher's packet; its payload says which it is.
    fn push(&mut self, incoming: Incoming<'_>) {
        self.layers[0].epoch = incoming.epoch;
        let end = self.ends.entry(incoming.epoch).or_default();
        *end = (*end).max(incoming.seq);
        self.layers[0].ring.push(incoming, self.now);
    }

    /// What the egress does: everything that has not been looked at is looked at.
    fn drain(&mut self) {
        let subscription = &mut self.subscription;
        self.overruns += u64::from(subscription.overrun(&self.layers) > 0);
        while let Some((packet, ring)) = subscription.next(&self.layers) {
            let plain_len = subscription.plain_len(packet, ring);
            let padding = subscription.padding(plain_len, ring, self.run);
            let Some(prepared) = subscription.prepare(packet).map(|prepared| prepared.padded(padding)) else {
                continue;
            };
            assert_eq!(prepared.layout.plain_len, plain_len, "the length by which room was made");
            let mut out = vec![0xee; plain_len + padding + 40];
            let len = subscription.write(prepared, packet, ring, &mut self.stamps, &self.sealer, &mut out);
            assert!(len <= plain_len + padding + self.sealer.overhead());
            self.lengths.push(len - self.sealer.overhead());
            self.run = self.run.or(Some(plain_len + padding));
            let seen = Seen {
                payload: ring.bytes(packet).1.to_vec(),
                epoch: packet.epoch,
                seq: packet.seq,
                timestamp: packet.timestamp,
                out_timestamp: 0,
            };
            let descriptor = ring.bytes(packet).0.to_vec();
            let (marker, level, ssrc) = (packet.marker, packet.level, subscription.ssrc);
            out.truncate(len);
            let (index, header, payload) =
                open(&mut self.opener, &mut out, level, &descriptor, self.next_transport_seq);
            self.next_transport_seq = self.next_transport_seq.wrapping_add(1);
            assert_eq!((header.ssrc, header.payload_type, header.marker), (ssrc, 100, marker));
            assert_eq!(payload, seen.payload);
            let seen = Seen { out_timestamp: header.timestamp, ..seen };
            assert_eq!(self.got.insert(index, seen), None, "two packets under one index");
            self.order.push(index);
        }
    }

    /// NACKs a sequence number and takes what comes, which must be what was sent under it.
    fn nack(&mut self, index: u64) -> bool {
        let Some(resend) = self.subscription.resendable(index as u16, &self.layers, self.now) else { return false };
        let mut out = vec![0; 3_000];
        let subscription = &mut self.subscription;
        let (packet, ring) = subscription.resent(resend, &self.layers).unwrap();
        let (level, descriptor) = (packet.level, ring.bytes(packet).0.to_vec());
        let len = subscription.write_rtx(resend, packet, ring, &mut self.stamps, &self.sealer, &mut out);
        let Some(len) = len else { return false };
        out.truncate(len);
        let (rtx, header, payload) = open(&mut self.opener, &mut out, level, &descriptor, self.next_transport_seq);
        self.next_transport_seq = self.next_transport_seq.wrapping_add(1);
        assert_eq!((header.ssrc, header.payload_type), (subscription.rtx_ssrc, 101));
        assert!(self.rtx_indices.last().is_none_or(|last| *last + 1 == rtx), "RTX has a numbering of its own");
        self.rtx_indices.push(rtx);
        let original = &self.got[&index];
        assert_eq!(payload[..2], (index as u16).to_be_bytes());
        assert_eq!(payload[2..], original.payload, "what is resent is what was sent");
        assert_eq!(header.timestamp, original.out_timestamp);
        true
    }

    /// What must hold of everything that came.
    fn check(&self) {
        let Some(first) = self.order.first() else { return };
        assert!(*first < 1 << 15);
        let mut indices: Vec<u64> = self.got.keys().copied().collect();
        indices.sort_unstable();
        for pair in indices.windows(2) {
            let (a, b) = (&self.got[&pair[0]], &self.got[&pair[1]]);
            if a.epoch == b.epoch {
                assert!(a.seq < b.seq, "the publisher's order is kept");
                assert!(pair[1] - pair[0] <= b.seq - a.seq, "no gap that the publisher's numbers do not have");
                let (theirs, ours) =
                    (b.timestamp.wrapping_sub(a.timestamp), b.out_timestamp.wrapping_sub(a.out_timestamp));
                assert_eq!(theirs, ours, "timestamps keep their distance");
            } else {
                assert!(a.epoch < b.epoch);
                assert!(pair[1] - pair[0] <= 1 + self.ends[&a.epoch] - a.seq, "a new stream follows without a gap");
                let ahead = b.out_timestamp.wrapping_sub(a.out_timestamp) as i32;
                assert!(ahead > 0, "time goes on: {ahead}");
            }
        }
    }
}

/// Opens a packet and reads its extensions with the parser of strangers' packets.
fn open(
    opener: &mut Opener,
    packet: &mut [u8],
    level: Option<u8>,
    descriptor: &[u8],
    transport_seq: u16,
) -> (u64, rtp::Header, Vec<u8>) {
    let header = rtp::parse(packet).unwrap();
    let (len, index) = opener.open_rtp(packet, header.header_len, header.ssrc, header.sequence_number).unwrap();
    let plain = &packet[..len];
    let elements: Vec<(u8, &[u8])> = rtp::extensions(plain, &header).collect();
    let of = |id| elements.iter().find(|(i, _)| *i == id).map(|(_, body)| *body);
    assert_eq!(of(IDS.mid), Some(&b"s001"[..]));
    assert_eq!(of(IDS.abs_send_time), Some(&[0x12, 0x34, 0x56][..]));
    assert_eq!(of(IDS.transport_cc), Some(&transport_seq.to_be_bytes()[..]));
    assert_eq!(of(IDS.audio_level), level.as_ref().map(std::slice::from_ref));
    assert_eq!(of(IDS.descriptor).unwrap_or_default(), descriptor);
    assert_eq!(elements.len(), 3 + usize::from(level.is_some()) + usize::from(!descriptor.is_empty()));
    (index, header, rtp::payload(plain, &header).unwrap().to_vec())
}

#[derive(Clone, Debug)]
enum Step {
    /// Packets, of which some are lost, late or empty: for each (lost, held back, padding, start).
    Packets(Vec<(bool, bool, bool, bool)>),
    /// The subscriber turns it off, so many packets pass, and it turns it on.
    Pause(u8),
    /// The publisher begins a new stream.
    Restart { seq: u16, timestamp: u32, after_ms: u16 },
    /// A codec that the subscriber does not have, for so many packets.
    Undecodable(u8),
    /// So much at once that the ring lets go of what was not looked at.
    Overrun,
    /// NACKs for what lies so far behind.
    Nacks(Vec<u16>),
    /// Another receiver with other keys.
    Renew,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let packet =
        (prop::bool::weighted(0.1), prop::bool::weighted(0.15), prop::bool::weighted(0.15), prop::bool::weighted(0.3));
    let step = prop_oneof![
        8 => prop::collection::vec(packet, 1..40).prop_map(Step::Packets),
        2 => (1u8..20).prop_map(Step::Pause),
        2 => (any::<u16>(), any::<u32>(), 1u16..2_000)
            .prop_map(|(seq, timestamp, after_ms)| Step::Restart { seq, timestamp, after_ms }),
        1 => (1u8..20).prop_map(Step::Undecodable),
        1 => Just(Step::Overrun),
        3 => prop::collection::vec(0u16..300, 1..20).prop_map(Step::Nacks),
        1 => Just(Step::Renew),
    ];
    prop::collection::vec(step, 1..30)
}

/// The publisher's side of a run of steps.
struct Publisher {
    seq: u64,
    epoch: u16,
    timestamp: u32,
    sent: u64,
}

impl Publisher {
    /// The next packet, stored in the ring unless it is lost or held back.
    fn next(&mut self, codec: u8, padding: bool, start: bool) -> (u64, Vec<u8>, Vec<u8>, bool, u8, u32, u16) {
        self.seq += 1;
        self.sent += 1;
        self.timestamp = self.timestamp.wrapping_add(3_000);
        let mut payload = self.sent.to_be_bytes().to_vec();
        payload.resize(8 + (self.sent as usize * 7) % 50, 1);
        let descriptor = vec![7; [0, 3, 16, 17, 40][self.sent as usize % 5]];
        if padding {
            payload.clear();
        }
        (self.seq, payload, descriptor, start && !padding, codec, self.timestamp, self.epoch)
    }
}

/// What a packet of a stream without layers says.
fn flat(starts_keyframe: bool) -> Description {
    let switch = if starts_keyframe { Targets::ALL } else { Targets::default() };
    let decodable = Targets::ALL;
    Description { starts_keyframe, present: Targets::ALL, decodable, switch, ..Description::default() }
}

fn store(
    bench: &mut Bench,
    (seq, payload, descriptor, start, codec, timestamp, epoch): &(u64, Vec<u8>, Vec<u8>, bool, u8, u32, u16),
) {
    bench.push(Incoming {
        seq: *seq,
        epoch: *epoch,
        timestamp: *timestamp,
        marker: seq % 3 == 0,
        codec: *codec,
        video: None,
        description: flat(*start),
        level: (seq % 2 == 0).then_some(*seq as u8),
        descriptor,
        skip: 0,
        payload,
    });
}

#[test]
fn a_late_packet_may_be_the_newest_that_was_sent() {
    let mut bench = Bench::new(Kind::Video, Draw { ssrc: 1, rtx_ssrc: 2, first_seq: 0, first_rtx: 0 });
    let mut publisher = Publisher { seq: 65_536, epoch: 0, timestamp: 0, sent: 0 };
    let first = publisher.next(0, false, true);
    let late = publisher.next(0, false, false);
    let overtakes = publisher.next(0, true, false);
    let mut publisher = Publisher { epoch: 1, timestamp: 0, ..publisher };
    let restarted = publisher.next(0, false, true);
    for packet in [first, overtakes, late, restarted] {
        bench.now += Duration::from_millis(5);
        store(&mut bench, &packet);
        bench.drain();
    }
    assert_eq!(bench.got.len(), 3);
    bench.check();
}

/// Writes packets with payloads of these lengths in one go; how long each went out, less the header of all.
fn lengths(kind: Kind, payloads: &[usize]) -> Vec<usize> {
    let layered: Vec<(u8, usize)> = payloads.iter().map(|len| (0, *len)).collect();
    let lengths = base_lengths(kind, &layered);
    assert_eq!(lengths.len(), payloads.len(), "each came, and with its payload");
    lengths
}

/// The same for who is sent the base layer alone, of packets each of a temporal layer.
fn base_lengths(kind: Kind, packets: &[(u8, usize)]) -> Vec<usize> {
    let mut bench = Bench::new(kind, Draw { ssrc: 1, rtx_ssrc: 2, first_seq: 0, first_rtx: 0 });
    for (seq, (temporal, len)) in (65_537..).zip(packets) {
        let payload = vec![9; *len];
        let mut present = if *temporal == 0 { Targets::ALL } else { Targets::default() };
        present.insert(0, *temporal);
        bench.push(Incoming {
            seq,
            epoch: 0,
            timestamp: 7,
            marker: false,
            codec: 0,
            video: None,
            description: Description { temporal: *temporal, present, ..flat(*temporal == 0) },
            level: None,
            descriptor: &[],
            skip: 0,
            payload: &payload,
        });
    }
    bench.drain();
    bench.lengths.iter().map(|len| len - 28).collect()
}

#[test]
fn packets_of_nearly_one_size_get_one_size() {
    let video = |payloads: &[usize]| lengths(Kind::Video, payloads);
    assert_eq!(video(&[1_000, 1_000, 1_001, 1_001]), [1_001; 4]);
    assert_eq!(video(&[1_000, 1_020, 1_032, 1_033]), [1_032, 1_032, 1_032, 1_033], "by no more than some bytes");
    assert_eq!(
        video(&[1_000, 990, 400]),
        [1_000, 1_000, 400],
        "what comes behind a shorter one would need another run"
    );
    assert_eq!(video(&[1_000, 990]), [1_000, 990], "the last may be shorter");
    assert_eq!(video(&[100, 104, 130]), [104, 104, 130], "of a short one only a little");
    assert_eq!(video(&[1_000, 1_040, 1_041]), [1_000, 1_040, 1_041], "the next run is another's business");
    assert_eq!(lengths(Kind::Audio, &[80, 81, 82]), [80, 81, 82]);
}

#[test]
fn what_is_left_out_is_no_reason_for_padding() {
    let base = |packets: &[(u8, usize)]| base_lengths(Kind::Video, packets);
    assert_eq!(base(&[(0, 1_000), (1, 1_010), (1, 1_010)]), [1_000], "nothing that it takes follows");
    assert_eq!(base(&[(0, 1_000), (0, 990), (1, 1_010), (0, 0)]), [1_000, 990], "neither within a run");
    assert_eq!(base(&[(0, 1_000), (1, 400), (0, 1_004)]), [1_004; 2], "what follows behind it counts");
    assert_eq!(base(&[(0, 1_000), (1, 1_020), (0, 1_004)]), [1_004; 2], "it does not say how long");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn whatever_the_publisher_does_the_subscriber_sees_one_stream(
        draw in any::<(u32, u16, u16)>(), first: u16, first_timestamp: u32, steps in steps(),
    ) {
        let draw = Draw { ssrc: draw.0, rtx_ssrc: !draw.0, first_seq: draw.1, first_rtx: draw.2 };
        let mut bench = Bench::new(Kind::Video, draw);
        let mut publisher = Publisher { seq: 65_536 + u64::from(first), epoch: 0, timestamp: first_timestamp, sent: 0 };
        for step in steps {
            match step {
                Step::Packets(packets) => {
                    let mut held = Vec::new();
                    for (lost, late, padding, start) in packets {
                        let packet = publisher.next(0, padding, start);
                        bench.now += Duration::from_millis(5);
                        if late {
                            held.push(packet);
                        } else if !lost {
                            store(&mut bench, &packet);
                            bench.drain();
                        }
                        if held.len() > 4 {
                            store(&mut bench, &held.remove(0));
                            bench.drain();
                        }
                    }
                    held.iter().for_each(|packet| store(&mut bench, packet));
                    bench.drain();
                }
                Step::Pause(packets) => {
                    for _ in 0..packets {
                        let packet = publisher.next(0, false, false);
                        store(&mut bench, &packet);
                    }
                    bench.subscription.start(&bench.layers);
                    bench.drain();
                }
                Step::Restart { seq, timestamp, after_ms } => {
                    bench.now += Duration::from_millis(after_ms.into());
                    publisher = Publisher { seq: 65_536 + u64::from(seq), epoch: publisher.epoch + 1, timestamp, ..publisher };
                }
                Step::Undecodable(packets) => {
                    for n in 0..packets {
                        let packet = publisher.next(1, false, n % 3 == 0);
                        store(&mut bench, &packet);
                    }
                    bench.drain();
                }
                Step::Overrun => {
                    for _ in 0..crate::ring::SLAB_PACKETS_MAX + 10 {
                        let packet = publisher.next(0, false, publisher.sent.is_multiple_of(100));
                        store(&mut bench, &packet);
                    }
                    bench.drain();
                }
                Step::Nacks(behind) => {
                    let Some(highest) = bench.got.keys().max().copied() else { continue };
                    for behind in behind {
                        let index = highest.saturating_sub(behind.into());
                        if !bench.got.contains_key(&index) {
                            assert!(bench.subscription.resendable(index as u16, &bench.layers, bench.now).is_none());
                        } else if bench.nack(index) {
                            assert!(!bench.nack(index), "not twice within the window");
                            bench.now += RESEND_WINDOW;
                        }
                    }
                }
                Step::Renew => {
                    bench.check();
                    let stamps = std::mem::replace(&mut bench.stamps, Stamps { transport_seq: 0, abs_send_time: 0 });
                    let fresh = Bench { ends: bench.ends, ..Bench::new(Kind::Video, draw) };
                    let (layers, mut subscription, now) = (bench.layers, bench.subscription, bench.now);
                    subscription.renew();
                    prop_assert!(!subscription.flows());
                    subscription.outlet = Some(outlet());
                    let next_transport_seq = stamps.transport_seq;
                    bench = Bench { layers, subscription, now, stamps, next_transport_seq, ..fresh };
                }
            }
        }
        bench.check();
    }
}

fn draw() -> Draw {
    Draw { ssrc: 10, rtx_ssrc: 11, first_seq: 0xffff, first_rtx: 0xffff }
}

fn plain(bench: &mut Bench, publisher: &mut Publisher, padding: bool, start: bool) {
    let packet = publisher.next(0, padding, start);
    store(bench, &packet);
    bench.drain();
}

#[test]
fn real_losses_stay_and_padding_leaves_no_gap() {
    let mut bench = Bench::new(Kind::Video, draw());
    let mut publisher = Publisher { seq: 70_000, epoch: 0, timestamp: 0, sent: 0 };
    plain(&mut bench, &mut publisher, false, true);
    for _ in 0..30 {
        plain(&mut bench, &mut publisher, true, false);
        plain(&mut bench, &mut publisher, false, false);
    }
    assert_eq!(bench.order, (0x3fff..0x3fff + 31).collect::<Vec<u64>>());
    publisher.next(0, false, false);
    plain(&mut bench, &mut publisher, false, false);
    assert_eq!(bench.order.last(), Some(&(0x3fff + 32)), "what was lost keeps its number");
}

/// A straggler from before more shifts than are remembered is dropped, not misnumbered.
#[test]
fn a_straggler_from_before_the_shifts_is_left_out() {
    let mut bench = Bench::new(Kind::Video, draw());
    let mut publisher = Publisher { seq: 70_000, epoch: 0, timestamp: 0, sent: 0 };
    plain(&mut bench, &mut publisher, false, true);
    let late = publisher.next(0, false, false);
    for _ in 0..=STRETCHES_MAX {
        plain(&mut bench, &mut publisher, false, false);
        plain(&mut bench, &mut publisher, true, false);
    }
    let count = bench.order.len();
    store(&mut bench, &late);
    bench.drain();
    assert_eq!(bench.order.len(), count);
    bench.check();
}

#[test]
fn what_is_remembered_for_retransmission_is_bounded() {
    let mut bench = Bench::new(Kind::Audio, draw());
    let mut publisher = Publisher { seq: 70_000, epoch: 0, timestamp: 0, sent: 0 };
    for _ in 0..10_000 {
        plain(&mut bench, &mut publisher, false, true);
    }
    assert_eq!(bench.subscription.sent.len(), SENT_MAX);
    let last = *bench.order.last().unwrap();
    assert!(bench.nack(last) && bench.nack(last - 1_000) && !bench.nack(last - SENT_MAX as u64));
}

#[test]
fn a_subscriber_without_rtx_gets_no_retransmission() {
    let mut bench = Bench::new(Kind::Audio, draw());
    bench.subscription.outlet.as_mut().unwrap().payloads[0] =
        Some(PayloadTypes { primary: 100, rtx: None, unwraps: false });
    let mut publisher = Publisher { seq: 70_000, epoch: 0, timestamp: 0, sent: 0 };
    plain(&mut bench, &mut publisher, false, true);
    assert!(!bench.nack(0x3fff));
}
