//! Any chunks to the SCTP of data channels, with messages to be sent and time in between.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sfu::data::{CHANNELS_MAX, Channels, MESSAGE_BYTES_MAX, Message, RECEIVE_BYTES_MAX, Reliability, SEND_BYTES_MAX};

/// What the steps of an input do with their bytes.
pub mod step {
    /// Chunks of one packet.
    pub const CHUNKS: u8 = 0;
    /// So many milliseconds pass as there are bytes, each counted ten times.
    pub const TIME: u8 = 1;
    /// Something is sent to the client: a hundred bytes for each one here, lossy if the first one is odd.
    pub const SEND: u8 = 2;
    /// A packet as it is.
    pub const PACKET: u8 = 3;
}

/// The client's first TSN; ours is 0, as is all that is random here.
pub const FIRST_TSN: u32 = 1_000;
/// Packets that may answer one step: what waits for a peer, and what it is told of what it sent.
const PACKETS_MAX: usize = 2 * SEND_BYTES_MAX / 100;

/// Appends a step to an input.
pub fn write_step(out: &mut Vec<u8>, kind: u8, bytes: &[u8]) {
    out.push(kind);
    out.extend((bytes.len() as u16).to_be_bytes());
    out.extend(bytes);
}

/// Bounds hold, nothing waits that could be sent, and no message is longer than it may be.
pub fn sctp(data: &[u8]) {
    play(data);
}

/// As [`sctp`]; how many messages came, how many packets went.
pub fn play(mut data: &[u8]) -> (usize, usize) {
    let mut now = Instant::now();
    let mut channels = Channels::new([0; 24], now);
    let mut counts = (0, 0);
    let init =
        [&77u32.to_be_bytes()[..], &[0, 16, 0, 0, 0xff, 0xff, 0xff, 0xff], &FIRST_TSN.to_be_bytes(), &[0xc0, 0, 0, 4]];
    channels.handle(&packet(0, &chunk(1, 0, &init.concat())), now);
    channels.handle(&packet(1, &chunk(10, 0, &[0; 16])), now);
    while let Some((head, rest)) = data.split_first_chunk::<3>() {
        let len = usize::from(u16::from_be_bytes([head[1], head[2]])).min(rest.len());
        let (bytes, next) = rest.split_at(len);
        data = next;
        match head[0] % 4 {
            step::CHUNKS => drop(channels.handle(&packet(1, bytes), now)),
            step::TIME => now += Duration::from_millis(10 * len as u64),
            step::SEND => send(&mut channels, bytes, now),
            _ => drop(channels.handle(bytes, now)),
        }
        channels.tick(now);
        settle(&mut channels, now, &mut counts);
    }
    counts
}

fn send(channels: &mut Channels, bytes: &[u8], now: Instant) {
    let lossy = bytes.first().is_some_and(|first| first % 2 == 1);
    let reliability = if lossy { Reliability::Resends(0) } else { Reliability::Reliable };
    let message =
        Message { stream: 0, label: "data".into(), text: true, ordered: !lossy, reliability, bytes: Vec::new() };
    let body: Arc<[u8]> = vec![b'x'; (100 * bytes.len()).clamp(1, MESSAGE_BYTES_MAX)].into();
    channels.send(&message, &body, u64::MAX, now);
}

fn settle(channels: &mut Channels, now: Instant, counts: &mut (usize, usize)) {
    let mut came = 0;
    while let Some(message) = channels.next(now) {
        assert!(message.bytes.len() <= MESSAGE_BYTES_MAX);
        came += message.bytes.len();
    }
    assert!(came <= RECEIVE_BYTES_MAX + MESSAGE_BYTES_MAX);
    counts.0 += usize::from(came > 0);
    assert!(channels.len() <= CHANNELS_MAX);
    let mut out = Vec::new();
    let mut packets = 0;
    while channels.write(&mut out, now) {
        packets += 1;
        assert!(packets <= PACKETS_MAX && out.len() <= 1_160, "{packets} packets, {} bytes", out.len());
    }
    assert!(channels.deadline(now).is_none_or(|due| due > now), "nothing is due that was not done");
    counts.1 += packets;
}

/// A chunk with its padding.
pub fn chunk(kind: u8, flags: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![kind, flags];
    out.extend((body.len() as u16 + 4).to_be_bytes());
    out.extend(body);
    out.resize(out.len().next_multiple_of(4), 0);
    out
}

fn packet(tag: u32, chunks: &[u8]) -> Vec<u8> {
    let mut out = vec![0x13, 0x88, 0x13, 0x88];
    out.extend(tag.to_be_bytes());
    out.extend([0; 4]);
    out.extend(chunks);
    let crc = out.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 })
    });
    out[8..12].copy_from_slice(&(!crc).to_le_bytes());
    out
}
