//! Forwarding through the real SFU in memory, held against the bare cipher of the same run: what a forwarded packet
//! costs beyond the seal that no SFU can do without.

use std::fmt;
use std::hint::black_box;
use std::time::{Duration, Instant};

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, Algorithm, LessSafeKey, Nonce, UnboundKey};
use serde::Serialize;
use sfu::srtp::Profile;
use sfu::{Input, Kind};

use crate::alloc;
use crate::hall::Hall;
use crate::media::{self, Vp8};
use crate::peer::RTP_HEADER_BYTES;

/// Packets of one video frame: one burst, received whole before anything is sent.
pub const BURST: u32 = 10;
/// Bytes of an RTP packet before sealing.
pub const PACKET_BYTES: usize = 1_200;
/// Frames before counting starts: buffers have found their size, and the keyframe is through.
pub const WARM_UP_FRAMES: u64 = 60;
/// How long clients may take to join, in virtual time.
pub const JOIN_LIMIT: Duration = Duration::from_secs(20);
/// Time is taken over slices of so many frames; the median slice counts, so that a neighbour's burst does not.
const SLICE_FRAMES: u64 = 16;
/// Virtual time of one frame.
pub(crate) const FRAME_TIME: Duration = Duration::from_nanos(1_000_000_000 / media::VIDEO_FPS as u64);
/// Clients speak up (consent checks) once in so many frames.
pub(crate) const CLIENT_FRAMES: u64 = media::VIDEO_FPS as u64;
pub(crate) const FRAME_TICKS: u32 = media::VIDEO_CLOCK_HZ / media::VIDEO_FPS;

/// What one room size cost.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Subscribers.
    pub subscribers: usize,
    /// Packets forwarded while counting.
    pub forwarded: u64,
    /// Nanoseconds of one forwarded packet, the median slice: receiving, opening and timers included.
    pub ns_per_packet: f64,
    /// The fastest slice.
    pub ns_per_packet_best: f64,
    /// The seal alone with the cipher that the peers negotiated, header and payload copied, the median slice.
    pub seal_ns: f64,
    /// The same with AES-128-GCM, whatever was negotiated.
    pub seal_aes128_ns: f64,
    /// `ns_per_packet / seal_ns`.
    pub ratio: f64,
    /// Datagrams of a run handed out, mean: what one GSO send carries.
    pub packets_per_run: f64,
    /// Heap allocations of one forwarded packet; 0 without the counting allocator.
    pub allocations_per_packet: f64,
}

/// All room sizes of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Table {
    /// The cipher that the peers negotiated.
    pub cipher: &'static str,
    /// One row a room size.
    pub rows: Vec<Row>,
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "forwarding {PACKET_BYTES}-byte packets in bursts of {BURST}, {}", self.cipher)?;
        writeln!(
            f,
            "subscribers  forwarded  ns/packet  (best)  seal ns  (AES-128)  ratio  packets/run  allocs/packet"
        )?;
        for row in &self.rows {
            writeln!(
                f,
                "{:>11}  {:>9}  {:>9.0}  {:>6.0}  {:>7.0}  {:>9.0}  {:>5.2}  {:>11.1}  {:>13.4}",
                row.subscribers,
                row.forwarded,
                row.ns_per_packet,
                row.ns_per_packet_best,
                row.seal_ns,
                row.seal_aes128_ns,
                row.ratio,
                row.packets_per_run,
                row.allocations_per_packet,
            )?;
        }
        Ok(())
    }
}

/// One publisher and its subscribers, connected and warm.
pub struct Stage {
    /// The room.
    pub hall: Hall,
    publisher: usize,
    subscribers: usize,
    frames: u64,
    burst: Vec<Vec<u8>>,
    payload: Vec<u8>,
}

/// What came out of the SFU for a frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Forwarded {
    /// RTP datagrams.
    pub packets: u64,
    /// Runs that carried them.
    pub runs: u64,
}

impl Stage {
    /// A room with one publisher and `subscribers`, forwarding.
    ///
    /// # Panics
    /// If they do not connect, or a frame does not reach every subscriber: then there is nothing to measure.
    pub fn new(subscribers: usize) -> Stage {
        let mut hall = Hall::new(7);
        let publisher = hall.join(&[Kind::Video]);
        for _ in 0..subscribers {
            hall.join(&[]);
        }
        assert!(hall.connect_all(JOIN_LIMIT), "all clients connect within {JOIN_LIMIT:?} of virtual time");
        let mut stage = Stage { hall, publisher, subscribers, frames: 0, burst: Vec::new(), payload: Vec::new() };
        for _ in 0..WARM_UP_FRAMES {
            stage.prepare();
            stage.receive();
            stage.hall.settle();
        }
        let video = 2 * publisher as u64 + 1;
        let complete = |index: &usize| stage.hall.heard[*index].of(video).len() as u64 >= u64::from(BURST);
        let hearing = (1..=subscribers).filter(complete).count();
        assert_eq!(hearing, subscribers, "every subscriber opens the publisher's packets");
        stage
    }

    /// Seals the next frame at the publisher and moves time on; not part of what is measured.
    pub fn prepare(&mut self) {
        self.hall.advance(FRAME_TIME);
        let key = self.frames.is_multiple_of(60 * CLIENT_FRAMES);
        let client = &mut self.hall.clients[self.publisher];
        self.burst.clear();
        for position in 0..BURST {
            let Some(stamp) = client.next_stamp(Kind::Video) else { continue };
            let frame = Vp8 { picture: (self.frames & 0x7fff) as u16, first: position == 0, key };
            self.payload = media::video_payload(frame, stamp, PACKET_BYTES - RTP_HEADER_BYTES);
            self.burst.extend(client.rtp(Kind::Video, position + 1 == BURST, FRAME_TICKS, &self.payload));
        }
        self.frames += 1;
        if self.frames.is_multiple_of(CLIENT_FRAMES) {
            self.hall.settle();
        }
    }

    /// Gives the prepared frame to the SFU: the whole burst is received before anything is sent.
    pub fn receive(&mut self) {
        let path = Hall::path(self.publisher);
        for datagram in &mut self.burst {
            self.hall.sfu.receive(path, datagram, self.hall.now.mono, self.hall.now);
        }
    }

    /// Takes out what the SFU sends for it, looking at no byte.
    pub fn drain(&mut self) -> Forwarded {
        let mut forwarded = Forwarded::default();
        while let Some(run) = self.hall.sfu.next_run(self.hall.now) {
            // RTCP and the rest are runs of one short datagram.
            if run.segment > PACKET_BYTES / 2 {
                forwarded.packets += run.datagrams().count() as u64;
                forwarded.runs += 1;
            }
            black_box(run.bytes);
        }
        forwarded
    }

    /// Runs the SFU's timers, if they are due.
    pub fn tick(&mut self) {
        if self.hall.sfu.deadline().is_some_and(|due| due <= self.hall.now.mono) {
            self.hall.sfu.handle(Input::Tick, self.hall.now);
        }
    }

    /// One frame through the SFU.
    pub fn forward(&mut self) -> Forwarded {
        self.tick();
        self.receive();
        self.drain()
    }
}

/// Runs each room size until about `packets` were forwarded.
pub fn run(subscribers: &[usize], packets: u64) -> Table {
    let mut cipher = "";
    let rows = subscribers
        .iter()
        .map(|subscribers| {
            let mut stage = Stage::new(*subscribers);
            let profile = stage.hall.clients[0].profile();
            cipher = match profile {
                Some(Profile::AeadAes256Gcm) => "AEAD_AES_256_GCM",
                Some(Profile::AeadAes128Gcm) => "AEAD_AES_128_GCM",
                Some(Profile::Aes128CmSha1_80) => "AES128_CM_SHA1_80 (seal column: AES-128-GCM)",
                None => "no cipher",
            };
            let negotiated = if profile == Some(Profile::AeadAes256Gcm) { &AES_256_GCM } else { &AES_128_GCM };
            measure(&mut stage, packets, negotiated)
        })
        .collect();
    Table { cipher, rows }
}

fn measure(stage: &mut Stage, packets: u64, negotiated: &'static Algorithm) -> Row {
    let subscribers = stage.subscribers as u64;
    let per_slice = SLICE_FRAMES * u64::from(BURST) * subscribers.max(1);
    let slices = packets.div_ceil(per_slice).max(3);
    let mut seal = Seal::new(negotiated, stage.subscribers);
    let mut seal_aes128 = Seal::new(&AES_128_GCM, stage.subscribers);
    let mut total = Forwarded::default();
    let mut allocations = 0;
    let (mut forwarding, mut sealing, mut sealing_aes128) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..slices {
        let mut spent = Duration::ZERO;
        let mut slice = Forwarded::default();
        for _ in 0..SLICE_FRAMES {
            stage.prepare();
            let (allocated, began) = (alloc::allocations(), Instant::now());
            let forwarded = stage.forward();
            spent += began.elapsed();
            allocations += alloc::allocations() - allocated;
            slice.packets += forwarded.packets;
            slice.runs += forwarded.runs;
        }
        forwarding.push(spent.as_nanos() as f64 / slice.packets.max(1) as f64);
        total.packets += slice.packets;
        total.runs += slice.runs;
        // Interleaved with the forwarding, so that both see the same machine.
        sealing.push(seal.slice());
        sealing_aes128.push(seal_aes128.slice());
    }
    let (ns_per_packet, seal_ns) = (median(&mut forwarding), median(&mut sealing));
    Row {
        subscribers: stage.subscribers,
        forwarded: total.packets,
        ns_per_packet,
        ns_per_packet_best: forwarding[0],
        seal_ns,
        seal_aes128_ns: median(&mut sealing_aes128),
        ratio: ns_per_packet / seal_ns,
        packets_per_run: total.packets as f64 / total.runs.max(1) as f64,
        allocations_per_packet: allocations as f64 / total.packets.max(1) as f64,
    }
}

/// Sorts, and takes the middle.
pub(crate) fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The bare cost: copy a packet into the egress buffer and seal it with one subscriber's key, burst by burst.
struct Seal {
    keys: Vec<LessSafeKey>,
    plain: Vec<u8>,
    run: Vec<u8>,
    nonce: u64,
}

impl Seal {
    fn new(algorithm: &'static Algorithm, subscribers: usize) -> Seal {
        let key = |index: usize| {
            let mut bytes = vec![0x42; algorithm.key_len()];
            bytes[..8].copy_from_slice(&(index as u64).to_be_bytes());
            LessSafeKey::new(UnboundKey::new(algorithm, &bytes).expect("the key is as long as the algorithm says"))
        };
        let run = vec![0; BURST as usize * (PACKET_BYTES + algorithm.tag_len())];
        Seal { keys: (0..subscribers.max(1)).map(key).collect(), plain: vec![0x17; PACKET_BYTES], run, nonce: 0 }
    }

    /// Nanoseconds of one seal, over at least a few hundred.
    fn slice(&mut self) -> f64 {
        let rounds = 400_usize.div_ceil(self.keys.len() * BURST as usize).max(1);
        let began = Instant::now();
        for _ in 0..rounds {
            for key in &self.keys {
                let sealed_bytes = self.run.len() / BURST as usize;
                for packet in self.run.chunks_exact_mut(sealed_bytes) {
                    self.nonce += 1;
                    seal_one(key, self.nonce, &self.plain, packet);
                }
                black_box(&mut self.run);
            }
        }
        began.elapsed().as_nanos() as f64 / (rounds * self.keys.len() * BURST as usize) as f64
    }
}

pub(crate) fn seal_one(key: &LessSafeKey, number: u64, plain: &[u8], packet: &mut [u8]) {
    packet[..plain.len()].copy_from_slice(plain);
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&number.to_be_bytes());
    let (header, rest) = packet.split_at_mut(RTP_HEADER_BYTES);
    let (payload, tag) = rest.split_at_mut(plain.len() - RTP_HEADER_BYTES);
    let sealed = key
        .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(&*header), payload)
        .expect("the payload is far below the cipher's limit");
    tag.copy_from_slice(sealed.as_ref());
}

/// A small fixed workload for counting instructions: 10 subscribers, 100 frames; hands back packets forwarded. The
/// joins are in the count too; subtract a run of [`Stage::new`] alone, or look at `Stage::forward` in the profile.
pub fn fixed_workload() -> u64 {
    let mut stage = Stage::new(10);
    (0..100)
        .map(|_| {
            stage.prepare();
            stage.forward().packets
        })
        .sum()
}
