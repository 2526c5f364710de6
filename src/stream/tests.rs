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

#[test]
fn late_media_goes_wherever_it_stands() {
    let (mut outbox, now) = (Outbox::default(), Instant::now());
    let (control, video, young) = (rtcp(100), rtp(1_000, 1), rtp(500, 2));
    for datagram in [&control, &video, &control, &video, &video] {
        outbox.push_datagram(datagram, now);
    }
    let later = now + QUEUE_AGE_MAX + Duration::from_millis(1);
    outbox.push_datagram(&young, later);
    // The first is on its way.
    outbox.written(50);
    assert_eq!(outbox.drop_late(later), 3, "what stands behind control grows old, too");
    let left: Vec<u8> = outbox.bytes.iter().copied().collect();
    let framed = |datagram: &Vec<u8>| [&(datagram.len() as u16).to_be_bytes()[..], datagram].concat();
    assert_eq!(left, [&framed(&control)[50..], &framed(&control), &framed(&young)].concat());
    assert_eq!((outbox.begun, outbox.frames.len()), (50, 3));
}

/// Takes so many bytes, a write at most, and then none.
struct Slow {
    room: usize,
    most: usize,
    wire: Vec<u8>,
    writes: usize,
}

impl Write for Slow {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let all: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
        let taken = all.len().min(self.most).min(self.room);
        if taken == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        (self.room, self.writes) = (self.room - taken, self.writes + 1);
        self.wire.extend(&all[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A run to a stream that takes it leaves by one write and waits nowhere; what is not taken waits, whole and in order.
#[test]
fn a_run_goes_straight_to_a_stream_that_takes_it() {
    let packets: Vec<Vec<u8>> = (0..100u8).map(|n| rtp(200, n)).collect();
    let frames = || packets.iter().map(|packet| [&b"head"[..], packet, &b"000"[..]]);
    let whole: Vec<u8> = frames().flatten().flatten().copied().collect();
    for (room, most) in [(usize::MAX, usize::MAX), (usize::MAX, 333), (20_000, usize::MAX), (20_000, 7), (1, 1), (0, 1)]
    {
        let (mut outbox, now) = (Outbox::default(), Instant::now());
        let mut stream = Slow { room, most, wire: Vec::new(), writes: 0 };
        let mut writable = true;
        assert_eq!(outbox.send(frames(), Load::of, &mut stream, &mut writable, now).expect("it does not end"), 0);
        assert_eq!(stream.wire, whole[..whole.len().min(room)]);
        assert_eq!(outbox.bytes.len(), whole.len() - stream.wire.len());
        assert_eq!(writable, room > whole.len());
        if room > whole.len() && most > whole.len() {
            assert_eq!(stream.writes, 100usize.div_ceil(GATHERED_MAX));
            assert_eq!(outbox.bytes.capacity(), 0, "nothing was copied");
        }
        // What comes while something waits goes behind it.
        (stream.room, stream.most, writable) = (usize::MAX, usize::MAX, true);
        assert_eq!(outbox.send(frames(), Load::of, &mut stream, &mut writable, now).expect("it does not end"), 0);
        assert_eq!(stream.wire, [&whole[..], &whole].concat(), "room {room}, {most} a write");
        assert!(outbox.frames.is_empty() && outbox.begun == 0);
    }
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
