//! The slab of a layer: a ring of its last packets in plain text, one copy for all subscribers.
//!
//! Forwarding and retransmission refer to packets by [`Index`], which only ever grows, so that a reference to a packet
//! that the ring has let go is recognised and never answered with another packet's bytes.

use std::time::{Duration, Instant};

use crate::keyframe::VideoCodec;
use crate::payload::{Description, PictureIds, Targets};

/// The number of a packet in its ring, in order of arrival, from 0.
pub(crate) type Index = u64;

/// How long a packet is kept at least while the ring may still grow.
pub(crate) const SLAB_AGE: Duration = Duration::from_secs(1);
/// The most payload bytes that one layer's slab holds. When full, the oldest packets go first.
pub(crate) const SLAB_BYTES_MAX: usize = 2 << 20;
/// The most packets that one layer's slab holds. When full, the oldest packets go first.
pub(crate) const SLAB_PACKETS_MAX: usize = 4096;
/// What a slab starts with: a quiet microphone needs no more.
const SLAB_BYTES_MIN: usize = 4 << 10;
const SLAB_PACKETS_MIN: usize = 32;

/// What is known of a packet beside its payload.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Packet {
    /// Extended sequence number of the publisher's stream.
    pub(crate) seq: u64,
    /// Which of the publisher's streams this sequence number belongs to: grows when a layer's SSRC changes.
    pub(crate) epoch: u16,
    /// RTP timestamp of the publisher's stream.
    pub(crate) timestamp: u32,
    /// When it came.
    pub(crate) arrival: Instant,
    /// How long it had waited to be read by then, in microseconds.
    pub(crate) waited_us: u32,
    /// RTP marker bit.
    pub(crate) marker: bool,
    /// Index into the track's codecs.
    pub(crate) codec: u8,
    /// What its payload is, where pictures are numbered in it.
    pub(crate) video: Option<VideoCodec>,
    /// First packet of a keyframe; for audio always true, since any packet may be the first.
    pub(crate) start: bool,
    /// Last packet of the frame of its spatial layer.
    pub(crate) ends_frame: bool,
    /// Its spatial and temporal layer.
    pub(crate) spatial: u8,
    pub(crate) temporal: u8,
    /// Who needs it.
    pub(crate) present: Targets,
    /// Who may go up with it, and to what ([`Description::may_switch`]).
    pub(crate) decodable: Targets,
    pub(crate) switch: Targets,
    /// The picture numbers that its payload carries.
    pub(crate) ids: PictureIds,
    /// The audio level byte (RFC 6464) if it had one.
    pub(crate) level: Option<u8>,
    /// Bytes of dependency descriptor stored before the payload.
    pub(crate) descriptor_len: u8,
    /// Payload bytes behind the descriptor; 0 for a packet of padding only.
    pub(crate) payload_len: u16,
    /// Bytes of the payload before its primary block (RFC 2198); 0 for what is no RED.
    pub(crate) skip: u16,
    /// Where descriptor and payload start, counted since the ring began.
    offset: u64,
}

/// The parts of a packet that a caller gives to [`Ring::push`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Incoming<'a> {
    pub(crate) seq: u64,
    pub(crate) epoch: u16,
    pub(crate) timestamp: u32,
    pub(crate) marker: bool,
    pub(crate) codec: u8,
    pub(crate) video: Option<VideoCodec>,
    pub(crate) description: Description,
    pub(crate) level: Option<u8>,
    pub(crate) descriptor: &'a [u8],
    pub(crate) skip: u16,
    pub(crate) payload: &'a [u8],
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Ring {
    packets: Vec<Packet>,
    /// The index that the next packet gets.
    next: Index,
    /// The oldest packet still kept.
    oldest: Index,
    bytes: Vec<u8>,
    /// Bytes ever written, with what was skipped at the ring's end.
    written: u64,
}

impl Ring {
    /// The index that the next packet will get.
    pub(crate) fn next(&self) -> Index {
        self.next
    }

    /// The oldest index that can still be read.
    pub(crate) fn oldest(&self) -> Index {
        self.oldest
    }

    /// The packet of an index, or `None` if the ring has let it go or never had it.
    pub(crate) fn packet(&self, index: Index) -> Option<&Packet> {
        if index < self.oldest || index >= self.next {
            return None;
        }
        self.packets.get(self.slot(index))
    }

    /// The dependency descriptor and payload of a packet that [`Ring::packet`] just returned.
    pub(crate) fn bytes(&self, packet: &Packet) -> (&[u8], &[u8]) {
        let start = self.position(packet.offset);
        let descriptor = usize::from(packet.descriptor_len);
        let end = start + descriptor + usize::from(packet.payload_len);
        self.bytes.get(start..end).map_or((&[], &[]), |b| b.split_at(descriptor))
    }

    /// Stores a packet; packets too long for the slab (over 64 KiB) cannot come from a datagram.
    pub(crate) fn push(&mut self, incoming: Incoming<'_>, now: Instant) -> Index {
        let descriptor_len = u8::try_from(incoming.descriptor.len()).unwrap_or(0);
        let descriptor = &incoming.descriptor[..usize::from(descriptor_len)];
        let payload_len = u16::try_from(incoming.payload.len()).unwrap_or(0);
        let payload = &incoming.payload[..usize::from(payload_len)];
        let len = descriptor.len() + payload.len();

        self.make_room(len, now);
        let mut position = self.position(self.written);
        if position + len > self.bytes.len() {
            // A packet lies in one piece: skip what is left at the end.
            self.written += (self.bytes.len() - position) as u64;
            position = 0;
        }
        self.bytes[position..position + descriptor.len()].copy_from_slice(descriptor);
        self.bytes[position + descriptor.len()..position + len].copy_from_slice(payload);
        let index = self.next;
        let says = &incoming.description;
        let packet = Packet {
            seq: incoming.seq,
            epoch: incoming.epoch,
            timestamp: incoming.timestamp,
            arrival: now,
            waited_us: 0,
            marker: incoming.marker,
            codec: incoming.codec,
            video: incoming.video,
            start: says.starts_keyframe,
            ends_frame: says.ends_frame,
            spatial: says.spatial,
            temporal: says.temporal,
            present: says.present,
            decodable: says.decodable,
            switch: says.switch,
            ids: says.ids,
            level: incoming.level,
            descriptor_len,
            payload_len,
            skip: incoming.skip,
            offset: self.written,
        };
        let slot = self.slot(index);
        self.packets[slot] = packet;
        self.written += len as u64;
        self.next += 1;
        index
    }

    /// The packet that came last had waited to be read.
    pub(crate) fn last_waited(&mut self, waited: Duration) {
        let last = self.next.checked_sub(1).map(|last| self.slot(last));
        if let Some(packet) = last.and_then(|slot| self.packets.get_mut(slot)) {
            packet.waited_us = u32::try_from(waited.as_micros()).unwrap_or(u32::MAX);
        }
    }

    fn slot(&self, index: Index) -> usize {
        // The capacity is a power of two.
        (index as usize) & (self.packets.len().wrapping_sub(1))
    }

    fn position(&self, offset: u64) -> usize {
        (offset as usize) & (self.bytes.len().wrapping_sub(1))
    }

    /// Grows the ring while its oldest packet is young, then lets go of what must be overwritten.
    fn make_room(&mut self, len: usize, now: Instant) {
        loop {
            if self.packets.is_empty() || len * 2 > self.bytes.len() {
                let packets = self.packets.len().max(SLAB_PACKETS_MIN);
                self.resize(packets, (len * 2).next_power_of_two().max(SLAB_BYTES_MIN), now);
                continue;
            }
            let slots_full = self.next - self.oldest >= self.packets.len() as u64;
            // The end of the ring may have to be skipped: count the packet twice to be safe.
            let bytes_full = self
                .packet(self.oldest)
                .is_some_and(|p| self.written + 2 * len as u64 > p.offset + self.bytes.len() as u64);
            if !slots_full && !bytes_full {
                return;
            }
            let young = self.packet(self.oldest).is_some_and(|p| now.saturating_duration_since(p.arrival) < SLAB_AGE);
            if young && slots_full && self.packets.len() < SLAB_PACKETS_MAX {
                self.resize(self.packets.len() * 2, self.bytes.len(), now);
            } else if young && bytes_full && self.bytes.len() < SLAB_BYTES_MAX {
                self.resize(self.packets.len(), self.bytes.len() * 2, now);
            } else {
                self.oldest += 1;
            }
        }
    }

    /// Moves what is kept into a larger ring.
    fn resize(&mut self, packets: usize, bytes: usize, now: Instant) {
        let mut larger = Ring {
            packets: Vec::with_capacity(packets),
            next: self.next,
            oldest: self.oldest,
            bytes: vec![0; bytes],
            written: 0,
        };
        let filler = Packet {
            seq: 0,
            epoch: 0,
            timestamp: 0,
            arrival: now,
            waited_us: 0,
            marker: false,
            codec: 0,
            video: None,
            start: false,
            ends_frame: false,
            spatial: 0,
            temporal: 0,
            present: Targets::default(),
            decodable: Targets::default(),
            switch: Targets::default(),
            ids: PictureIds::default(),
            level: None,
            descriptor_len: 0,
            payload_len: 0,
            skip: 0,
            offset: 0,
        };
        larger.packets.resize(packets, filler);
        for index in self.oldest..self.next {
            let Some(packet) = self.packet(index).copied() else { continue };
            let (descriptor, payload) = self.bytes(&packet);
            let at = larger.written as usize;
            larger.bytes[at..at + descriptor.len()].copy_from_slice(descriptor);
            larger.bytes[at + descriptor.len()..at + descriptor.len() + payload.len()].copy_from_slice(payload);
            let slot = larger.slot(index);
            larger.packets[slot] = Packet { offset: larger.written, ..packet };
            larger.written += (descriptor.len() + payload.len()) as u64;
        }
        *self = larger;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(ring: &mut Ring, seq: u64, payload: &[u8], now: Instant) -> Index {
        let incoming = Incoming {
            seq,
            epoch: 0,
            timestamp: 0,
            marker: false,
            codec: 0,
            video: None,
            description: Description::default(),
            level: None,
            descriptor: &[1, 2],
            skip: 0,
            payload,
        };
        ring.push(incoming, now)
    }

    #[test]
    fn keeps_every_packet_of_the_last_second_whatever_the_sizes() {
        let start = Instant::now();
        let mut ring = Ring::default();
        let mut kept = Vec::new();
        for i in 0..5_000u64 {
            // 700 packets a second of sizes that never divide the ring's length.
            let now = start + Duration::from_micros(i * 1_429);
            let payload = vec![i as u8; 1 + (i as usize * 37) % 1_300];
            let index = push(&mut ring, i, &payload, now);
            kept.push((index, payload, now));
            for (index, payload, at) in kept.iter().rev().take(800).step_by(97) {
                match ring.packet(*index) {
                    Some(packet) => assert_eq!(ring.bytes(packet), (&[1u8, 2][..], &payload[..])),
                    None => assert!(now - *at >= SLAB_AGE, "packet {index} went after {:?}", now - *at),
                }
            }
        }
        assert!(ring.bytes.len() <= SLAB_BYTES_MAX && ring.packets.len() <= SLAB_PACKETS_MAX);
    }

    #[test]
    fn a_reference_to_a_packet_let_go_finds_nothing() {
        let now = Instant::now();
        let mut ring = Ring::default();
        let first = push(&mut ring, 7, &[9; 1_200], now);
        for i in 0..10_000 {
            push(&mut ring, 8 + i, &[0; 1_200], now);
        }
        assert!(ring.packet(first).is_none());
        assert!(ring.packet(ring.next()).is_none());
        assert!(ring.bytes.len() <= SLAB_BYTES_MAX);
    }
}
