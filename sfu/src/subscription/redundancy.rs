//! Older frames of audio that go along with each packet to a listener whose link loses some (RFC 2198): as many as that
//! link needs, whatever the publisher sends. They are gathered from the ring, or from the publisher's own RED where a packet
//! never came.

use crate::payload::red;
use crate::ring::{Index, Packet, Ring};

/// Older frames in a packet, at most. With as many, one in 600 is lost for good at random losses of 20 %.
pub(crate) const DEPTH_MAX: usize = 3;
/// No older frame lies further back, in ticks of 48 kHz (200 ms): its time has gone by. Fits the 14 bits of its header.
const REACH: u32 = 9_600;
/// Bytes of a payload, beyond which no further frame is added: with its headers the packet must pass everywhere.
const PAYLOAD_MAX: usize = 1_100;
/// Packets before one among which its predecessors are looked for: some come out of order.
const SEARCH_MAX: u64 = 16;

/// Where an older frame lies: in which packet's payload, from which byte on, and how many ticks back it was.
#[derive(Clone, Copy, Debug, Default)]
struct Frame {
    index: Index,
    start: u16,
    len: u16,
    ticks: u16,
}

/// The older frames that go along with a packet, newest first.
#[derive(Debug, Default)]
pub(super) struct Older {
    frames: [Frame; DEPTH_MAX],
    count: usize,
}

impl Older {
    /// Finds up to `depth` frames before a packet of the ring; nothing from before the sequence number `first`.
    pub(super) fn gather(packet: &Packet, at: Index, ring: &Ring, first: u64, depth: u8) -> Older {
        let mut older = Older::default();
        let mut len = 1 + usize::from(packet.payload_len - packet.skip);
        // The last predecessor that came, and how many before it did not.
        let (mut index, mut carrier, mut missing) = (at, packet, 0);
        for seq in (first..packet.seq).rev().take(usize::from(depth).min(DEPTH_MAX)) {
            let range = if let Some((found, predecessor)) = find(ring, at, packet.epoch, seq) {
                (index, carrier, missing) = (found, predecessor, 0);
                Some((0, usize::from(carrier.skip)..usize::from(carrier.payload_len)))
            } else {
                missing += 1;
                let block = if carrier.skip == 0 { None } else { red::older(ring.bytes(carrier).1, missing) };
                block.map(|block| (u32::from(block.timestamp_offset), block.range))
            };
            let Some((before, range)) = range.filter(|(_, range)| (1..red::BLOCK_MAX).contains(&range.len())) else {
                continue;
            };
            let ticks = packet.timestamp.wrapping_sub(carrier.timestamp).wrapping_add(before);
            let last = older.frames[..older.count].last().map_or(0, |frame| u32::from(frame.ticks));
            if ticks <= last || ticks > REACH {
                continue;
            }
            len += red::HEADER_LEN + range.len();
            if len > PAYLOAD_MAX {
                break;
            }
            older.frames[older.count] =
                Frame { index, start: range.start as u16, len: range.len() as u16, ticks: ticks as u16 };
            older.count += 1;
        }
        older
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes that they add to a payload: headers, among them that of the frame they go along with, and frames.
    pub(super) fn len(&self) -> usize {
        let frames: usize = self.frames[..self.count].iter().map(|f| red::HEADER_LEN + usize::from(f.len)).sum();
        if self.is_empty() { 0 } else { frames + 1 }
    }

    /// Writes a RED payload of them and the frame that they go along with into `out`, which is exactly as long.
    pub(super) fn write(&self, ring: &Ring, payload_type: u8, frame: &[u8], out: &mut [u8]) {
        let blocks = self.frames[..self.count].iter().rev().map(|frame| {
            let payload = ring.packet(frame.index).map_or(&[][..], |packet| ring.bytes(packet).1);
            (frame.ticks, &payload[usize::from(frame.start)..usize::from(frame.start + frame.len)])
        });
        red::write(blocks, payload_type, frame, out);
    }
}

fn find(ring: &Ring, before: Index, epoch: u16, seq: u64) -> Option<(Index, &Packet)> {
    let mut candidates = (before.saturating_sub(SEARCH_MAX)..before).rev().filter_map(|i| Some((i, ring.packet(i)?)));
    candidates.find(|(_, packet)| packet.seq == seq && packet.epoch == epoch)
}
