//! How many connections there may be, and what waits for one.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;

const MOST: usize = 64;
const MOST_OF_SOURCE: usize = 16;
/// Bytes in front of each packet, here.
const PREFIX_BYTES: usize = 2;

/// Something like RTP of video.
pub(crate) fn rtp(len: usize, fill: u8) -> Vec<u8> {
    let mut packet = vec![fill; len];
    (packet[0], packet[1]) = (0x80, 96);
    packet
}

/// Something like a receiver report.
pub(crate) fn rtcp(len: usize) -> Vec<u8> {
    let mut packet = vec![1; len];
    (packet[0], packet[1]) = (0x80, 201);
    packet
}

impl Outbox {
    fn takes_datagram(&self, datagram: &[u8]) -> bool {
        self.takes(Load::of(datagram), PREFIX_BYTES + datagram.len())
    }

    fn push_datagram(&mut self, datagram: &[u8], now: Instant) {
        self.push(Load::of(datagram), &[&(datagram.len() as u16).to_be_bytes(), datagram], now);
    }
}

#[test]
fn connections_are_limited_in_all_and_by_source() {
    let mut census = Census::new(MOST, MOST_OF_SOURCE);
    let v6 = |net: u16, host: u16| IpAddr::from([0x2001, 0xdb8, 0, net, 0, 0, 0, host]);
    for host in 0..MOST_OF_SOURCE as u16 {
        assert!(census.has_room(v6(1, host)));
        census.enter(v6(1, host));
    }
    assert!(!census.has_room(v6(1, 9_999)), "a /64 is one source");
    let one = IpAddr::from([192, 0, 2, 1]);
    for n in MOST_OF_SOURCE..MOST {
        let address = IpAddr::from([10, 0, (n >> 8) as u8, n as u8]);
        assert!(census.has_room(address) && census.has_room(one));
        census.enter(address);
    }
    assert!(!census.has_room(one), "there are enough in all");
    census.leave(v6(1, 0));
    assert!(census.has_room(one) && census.has_room(v6(1, 0)));
    for host in 1..MOST_OF_SOURCE as u16 {
        census.leave(v6(1, host));
    }
    assert_eq!(census.sources.len(), MOST - MOST_OF_SOURCE, "who is gone is not remembered");
}

#[test]
fn a_full_queue_takes_video_no_more_then_audio_then_nothing() {
    let (mut outbox, now) = (Outbox::default(), Instant::now());
    let mut fill = |datagram: &[u8]| {
        while outbox.takes_datagram(datagram) {
            outbox.push_datagram(datagram, now);
        }
        outbox.bytes.len()
    };
    let (video, audio, control) = (rtp(1_200, 1), rtp(150, 2), rtcp(100));
    let filled = fill(&video);
    assert!((VIDEO_BYTES_MAX - 1_202..=VIDEO_BYTES_MAX).contains(&filled));
    let filled = fill(&audio);
    assert!((MEDIA_BYTES_MAX - 152..=MEDIA_BYTES_MAX).contains(&filled));
    let filled = fill(&control);
    assert!((QUEUE_BYTES_MAX - 102..=QUEUE_BYTES_MAX).contains(&filled));
    assert_eq!(outbox.drop_late(now + QUEUE_AGE_MAX), 0);
    let dropped = outbox.drop_late(now + QUEUE_AGE_MAX + Duration::from_millis(1));
    assert_eq!(dropped, (VIDEO_BYTES_MAX / 1_202 + (MEDIA_BYTES_MAX - VIDEO_BYTES_MAX / 1_202 * 1_202) / 152) as u64);
    assert!(
        outbox.takes_datagram(&video) && outbox.frames.iter().all(|frame| frame.load == Load::Control),
        "control is never late"
    );
}

/// Whatever is taken, dropped and written in pieces: what leaves is whole datagrams in order.
#[test]
fn what_leaves_is_whole() {
    for seed in 0..200 {
        let mut rng = StdRng::seed_from_u64(seed);
        let (mut outbox, mut now) = (Outbox::default(), Instant::now());
        let (mut pushed, mut dropped, mut wire) = (0u32, 0, Vec::new());
        for _ in 0..2_000 {
            now += Duration::from_millis(rng.random_range(0..15));
            let len = rng.random_range(16..1_300);
            let mut datagram = if rng.random_ratio(1, 5) { rtcp(len) } else { rtp(len, 3) };
            datagram[4..8].copy_from_slice(&pushed.to_be_bytes());
            if outbox.takes_datagram(&datagram) {
                outbox.push_datagram(&datagram, now);
                pushed += 1;
            }
            dropped += outbox.drop_late(now);
            let waiting = outbox.bytes.len();
            assert!(waiting <= QUEUE_BYTES_MAX);
            assert_eq!(waiting, outbox.frames.iter().map(|f| f.bytes).sum::<usize>() - outbox.begun);
            let written = rng.random_range(0..=waiting.min(1_500));
            wire.extend(outbox.bytes.iter().take(written));
            outbox.written(written);
        }
        wire.extend(outbox.bytes.iter());
        let (mut whole, mut last, mut rest) = (0, None, wire.as_slice());
        while let Some((prefix, behind)) = rest.split_first_chunk() {
            let (datagram, behind) = behind.split_at(usize::from(u16::from_be_bytes(*prefix)));
            let number = u32::from_be_bytes([datagram[4], datagram[5], datagram[6], datagram[7]]);
            assert!(last < Some(number), "in order");
            last = Some(number);
            whole += 1;
            rest = behind;
        }
        assert_eq!((rest.len(), whole), (0, u64::from(pushed) - dropped), "seed {seed}");
    }
}
