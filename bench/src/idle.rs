//! What a connected peer costs that neither sends nor gets media: consent checks and reports, in memory and virtual time.

use std::fmt;
use std::time::{Duration, Instant};

use serde::Serialize;
use sfu::rtcp::{self, ReportBlock};
use sfu::{Certificate, Config, Input, Kind, Sfu};

use crate::alloc;
use crate::hall::Hall;
use crate::media;
use crate::peer::self_signed;

/// How long clients may take to join, in virtual time.
const JOIN_LIMIT: Duration = Duration::from_secs(20);
/// Packets of each kind that are sent before silence, so that streams and their reports have begun.
const PACKETS: u64 = 50;
/// How often each client reports, as one that watches a video does.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// The step of virtual time.
const STEP: Duration = Duration::from_millis(5);

/// What an idle peer cost.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Peers: one that publishes audio and video and is muted, and others that subscribe to both.
    pub peers: usize,
    /// Virtual seconds.
    pub seconds: u64,
    /// Microseconds that the SFU took for each peer and second; system calls are not in it.
    pub us_per_second: f64,
    /// Heap bytes that the SFU holds for each peer; 0 without the counting allocator.
    pub bytes: f64,
    /// Heap allocations of the SFU for each peer and second.
    pub allocations_per_second: f64,
    /// Datagrams to and from each peer and second.
    pub datagrams_per_second: f64,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "idle peers  seconds  µs/s of each  bytes of each  allocs/s  datagrams/s")?;
        write!(
            f,
            "{:>10}  {:>7}  {:>12.2}  {:>13.0}  {:>8.1}  {:>11.1}",
            self.peers,
            self.seconds,
            self.us_per_second,
            self.bytes,
            self.allocations_per_second,
            self.datagrams_per_second
        )
    }
}

/// Counts what the SFU takes.
#[derive(Default)]
struct Meter {
    time: Duration,
    allocations: u64,
    datagrams: u64,
}

impl Meter {
    fn measure<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let (allocations, began) = (alloc::allocations(), Instant::now());
        let done = work();
        self.time += began.elapsed();
        self.allocations += alloc::allocations() - allocations;
        done
    }
}

/// Lets `peers` join and does nothing for so many seconds.
///
/// # Panics
/// If they cannot join.
pub fn run(peers: usize, seconds: u64) -> Report {
    let mut hall = Hall::new(5);
    hall.join(&[Kind::Audio, Kind::Video]);
    for _ in 1..peers {
        hall.join(&[]);
    }
    assert!(hall.connect_all(JOIN_LIMIT), "{peers} peers join");
    publish(&mut hall);
    let ssrcs = ssrcs(&hall.clients[0].offer());
    let mut meter = Meter::default();
    for step in 0..seconds * 1_000 / STEP.as_millis() as u64 {
        silence(&mut hall, step, &ssrcs, &mut meter);
        hall.advance(STEP);
    }
    let every = (peers as u64 * seconds).max(1) as f64;
    Report {
        peers,
        seconds,
        us_per_second: meter.time.as_secs_f64() * 1e6 / every,
        bytes: (held(hall) - held_by_nobody()) / peers.max(1) as f64,
        allocations_per_second: meter.allocations as f64 / every,
        datagrams_per_second: meter.datagrams as f64 / every,
    }
}

fn publish(hall: &mut Hall) {
    for n in 0..PACKETS {
        let client = &mut hall.clients[0];
        let (audio, video) = (client.next_stamp(Kind::Audio), client.next_stamp(Kind::Video));
        let (audio, video) = audio.zip(video).expect("both are published");
        let frame = media::Vp8 { picture: n as u16, first: true, key: n == 0 };
        let payload = media::video_payload(frame, video, media::VIDEO_PAYLOAD_BYTES);
        let packets = [
            client.rtp(Kind::Audio, false, 960, &media::audio_payload(audio)),
            client.rtp(Kind::Video, true, 1_800, &payload),
        ];
        for mut packet in packets.into_iter().flatten() {
            hall.sfu.receive(Hall::path(0), &mut packet, hall.now.mono, hall.now);
        }
        hall.settle();
        hall.advance(Duration::from_millis(20));
    }
}

/// One step of what goes on in silence.
fn silence(hall: &mut Hall, step: u64, ssrcs: &[u32], meter: &mut Meter) {
    let now = hall.now;
    if hall.sfu.deadline().is_some_and(|due| due <= now.mono) {
        meter.measure(|| hall.sfu.handle(Input::Tick, now));
    }
    let steps = (REPORT_INTERVAL.as_millis() / STEP.as_millis()) as u64;
    for index in 0..hall.clients.len() {
        let client = &mut hall.clients[index];
        client.tick(now.mono);
        let mut datagrams: Vec<Vec<u8>> = std::iter::from_fn(|| client.transmit()).collect();
        if index as u64 % steps == step % steps {
            let mut report = Vec::new();
            rtcp::write_receiver_report(1, &[ReportBlock::default()], &mut report);
            datagrams.extend(client.seal(&report));
            for ssrc in ssrcs.iter().filter(|_| index == 0) {
                let mut report = Vec::new();
                rtcp::write_sender_report(*ssrc, now.unix_ms << 32, 0, PACKETS as u32, 1_000, &[], &mut report);
                datagrams.extend(client.seal(&report));
            }
        }
        for mut datagram in datagrams {
            meter.datagrams += 1;
            meter.measure(|| hall.sfu.receive(Hall::path(index), &mut datagram, now.mono, now));
        }
    }
    let Hall { sfu, clients, .. } = hall;
    while let Some(run) = meter.measure(|| sfu.next_run(now)) {
        meter.datagrams += 1;
        if let Some(index) = (0..clients.len()).find(|index| Hall::path(*index) == run.path) {
            clients[index].handle(&mut run.bytes.to_vec(), now.mono);
        }
    }
    while meter.measure(|| hall.sfu.poll()).is_some() {}
}

/// The first SSRC of each m-line of an offer.
fn ssrcs(offer: &str) -> Vec<u32> {
    let sections = offer.split("\r\nm=").skip(1);
    sections.filter_map(|section| section.split("a=ssrc:").nth(1)?.split(' ').next()?.parse().ok()).collect()
}

/// What goes with an SFU is what it held.
fn held(hall: Hall) -> f64 {
    let Hall { sfu, .. } = hall;
    let before = alloc::bytes();
    drop(sfu);
    (before - alloc::bytes()) as f64
}

/// What an SFU holds in which nobody is.
fn held_by_nobody() -> f64 {
    let (certificate_der, private_key_der) = self_signed("sfu");
    let certificate = std::sync::Arc::new(Certificate { certificate_der, private_key_der });
    let config = Config { certificate, udp_candidates: vec![], tcp_candidates: vec![] };
    let now = sfu::Now { mono: Instant::now(), unix_ms: 0 };
    let sfu = Sfu::new(config, [1; 32], now);
    let before = alloc::bytes();
    drop(sfu);
    (before - alloc::bytes()) as f64
}
