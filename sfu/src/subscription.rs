//! One track to one peer: what is negotiated for it, and the rewriting of its packets.
//!
//! The subscriber sees one continuous stream whatever happens to the publisher's: own SSRC, sequence numbers without
//! gaps of our making, timestamps that follow the publisher's clock. An (SSRC, packet index) is sealed at most once per
//! key: a resend goes out on the RTX stream, since other bytes under a used nonce would give the authentication key away.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::ring::{Index, Packet, Ring};
use crate::sdp::{Extension, Mid};
use crate::srtp::Sealer;
use crate::track::Track;
use crate::{Kind, Source, TrackId};

/// Packets of one subscription that can be asked for again, at most. When full, the oldest are forgotten.
const SENT_MAX: usize = 2_048;
const SENT_MIN: usize = 32;
/// The same packet is resent at most once in this time: a second NACK for it crossed the resend.
const RESEND_WINDOW: Duration = Duration::from_millis(20);
/// Places remembered at which the numbering shifted. When full, the oldest goes, and packets from before it are dropped.
const SHIFTS_MAX: usize = 8;
/// Packets before the first of a stream that are looked at again: more than a frame's worth of reordering. What overtook
/// it by more is lost to the subscriber, who asks for another keyframe.
const REWIND_MAX: u64 = 64;
/// First sequence numbers lie below 2^15, so that a receiver cannot mistake an early reordering for a wrap (RFC 3711 §3.3.1).
const FIRST_SEQ_MASK: u16 = 0x3fff;

/// The ids under which one m-line carries header extensions; 0 is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ExtensionIds {
    pub(crate) mid: u8,
    pub(crate) abs_send_time: u8,
    pub(crate) transport_cc: u8,
    pub(crate) audio_level: u8,
    pub(crate) descriptor: u8,
    pub(crate) rid: u8,
    pub(crate) repaired_rid: u8,
}

impl ExtensionIds {
    pub(crate) fn of(extensions: &[(u8, Extension)]) -> Self {
        let mut ids = ExtensionIds::default();
        for (id, extension) in extensions {
            match extension {
                Extension::Mid => ids.mid = *id,
                Extension::AbsSendTime => ids.abs_send_time = *id,
                Extension::TransportCc => ids.transport_cc = *id,
                Extension::AudioLevel => ids.audio_level = *id,
                Extension::DependencyDescriptor => ids.descriptor = *id,
                Extension::Rid => ids.rid = *id,
                Extension::RepairedRid => ids.repaired_rid = *id,
                _ => {}
            }
        }
        ids
    }

    /// Takes ids from another m-line of the same BUNDLE group, where they mean the same.
    pub(crate) fn merge(&mut self, other: ExtensionIds) {
        for (ours, theirs) in [
            (&mut self.mid, other.mid),
            (&mut self.abs_send_time, other.abs_send_time),
            (&mut self.transport_cc, other.transport_cc),
            (&mut self.audio_level, other.audio_level),
            (&mut self.descriptor, other.descriptor),
            (&mut self.rid, other.rid),
            (&mut self.repaired_rid, other.repaired_rid),
        ] {
            if theirs != 0 {
                *ours = theirs;
            }
        }
    }
}

/// A payload type and that of its retransmissions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PayloadTypes {
    pub(crate) primary: u8,
    pub(crate) rtx: Option<u8>,
    /// Of RED only the primary block is sent.
    pub(crate) unwraps: bool,
}

/// What the subscriber's answer agreed to.
#[derive(Clone, Debug)]
pub(crate) struct Outlet {
    pub(crate) mid: Mid,
    pub(crate) ids: ExtensionIds,
    /// It takes two-byte extension elements among others; else a descriptor too long for the one-byte form is left out.
    pub(crate) mixed: bool,
    /// For each codec of the track what the subscriber calls it; `None` where it cannot decode it.
    pub(crate) payloads: Vec<Option<PayloadTypes>>,
}

/// What each packet to a peer is stamped with.
#[derive(Debug)]
pub(crate) struct Stamps {
    /// The next transport-wide sequence number of the peer.
    pub(crate) transport_seq: u16,
    /// 24-bit 6.18 fixed point seconds of this batch.
    pub(crate) abs_send_time: u32,
}

#[derive(Clone, Copy, Debug, Default)]
struct Sent {
    /// Low half of the extended outgoing sequence number, plus one: 0 is an empty place.
    out: u32,
    /// When it was last resent, ms since the subscription began, plus one: 0 is never.
    resent_ms: u32,
    index: Index,
}

/// From this incoming sequence number on, outgoing = incoming − base.
#[derive(Clone, Copy, Debug)]
struct Shift {
    from: u64,
    base: u64,
}

/// Where the numbering stands.
#[derive(Debug)]
struct Numbering {
    epoch: u16,
    shifts: Vec<Shift>,
    highest_in: u64,
    highest_out: u64,
    timestamp_offset: u32,
    last_timestamp: u32,
    last_arrival: Instant,
    /// What comes next is of another track.
    strange: bool,
}

/// A packet ready to be written: what [`Subscription::prepare`] decided.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Prepared {
    index: Index,
    out: u64,
    payload_types: PayloadTypes,
    layout: Layout,
}

#[derive(Clone, Copy, Debug)]
struct Layout {
    two_byte: bool,
    header_len: usize,
    plain_len: usize,
}

/// One track to one peer.
#[derive(Debug)]
pub(crate) struct Subscription {
    pub(crate) track: usize,
    pub(crate) track_id: TrackId,
    pub(crate) kind: Kind,
    pub(crate) source: Source,
    pub(crate) participant: Arc<str>,
    /// Its m-line is no track's own: `track_id` names the line, and tracks come and go.
    pub(crate) shared: bool,
    /// The subscriber wants it.
    pub(crate) enabled: bool,
    /// Agreed with the subscriber.
    pub(crate) outlet: Option<Outlet>,
    /// The first packet since it last waited, which a rewind must not send again.
    started_at: Option<Index>,
    /// It has an outlet but has not started.
    pub(crate) fresh_outlet: bool,
    /// It waits in its peer's list for [`crate::Sfu::next_run`].
    pub(crate) pending: bool,
    /// The next packet of the ring to look at.
    pub(crate) cursor: Index,
    pub(crate) ssrc: u32,
    pub(crate) rtx_ssrc: u32,
    /// Video waits for the first packet of a keyframe.
    pub(crate) waits_for_start: bool,
    /// The subscriber was told that it cannot decode this.
    pub(crate) told_unavailable: bool,
    pub(crate) packets: u32,
    pub(crate) octets: u32,
    numbering: Option<Numbering>,
    first_seq: u16,
    next_rtx: u64,
    sent: Vec<Sent>,
    began: Instant,
}

/// What is drawn at random for a new subscription.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Draw {
    pub(crate) ssrc: u32,
    pub(crate) rtx_ssrc: u32,
    pub(crate) first_seq: u16,
    pub(crate) first_rtx: u16,
}

impl Subscription {
    pub(crate) fn new(track: usize, of: &Track, draw: Draw, now: Instant) -> Self {
        Subscription {
            track,
            track_id: of.id,
            kind: of.kind,
            source: of.source,
            participant: of.participant.clone(),
            shared: false,
            enabled: true,
            outlet: None,
            started_at: None,
            fresh_outlet: false,
            pending: false,
            cursor: 0,
            ssrc: draw.ssrc,
            rtx_ssrc: draw.rtx_ssrc,
            waits_for_start: true,
            told_unavailable: false,
            packets: 0,
            octets: 0,
            numbering: None,
            first_seq: draw.first_seq & FIRST_SEQ_MASK,
            next_rtx: u64::from(draw.first_rtx & FIRST_SEQ_MASK),
            sent: Vec::new(),
            began: now,
        }
    }

    /// Whether packets flow.
    pub(crate) fn flows(&self) -> bool {
        self.enabled && self.outlet.is_some()
    }

    /// Starts (again) at the ring's end: the next packet that may start a stream is the first.
    pub(crate) fn start(&mut self, ring: &Ring) {
        self.cursor = ring.next();
        self.waits_for_start = true;
    }

    /// Goes on from this packet of its ring, or from the next that may start a stream: its track was not forwarded for a
    /// time, or it has another one.
    pub(crate) fn resume(&mut self, from: Index) {
        self.cursor = from;
        self.waits_for_start = true;
        self.started_at = None;
    }

    /// Goes on with another track, under the same SSRC, numbers and time. `payloads` is what the subscriber calls its codecs
    /// ([`Outlet::payloads`]).
    pub(crate) fn retarget(&mut self, key: usize, track: &Track, payloads: Vec<Option<PayloadTypes>>) {
        self.track = key;
        self.track_id = track.id;
        self.source = track.source;
        self.resume(0);
        // What was sent lies in rings of the other track: nobody can have it again.
        self.sent.fill(Sent::default());
        if let Some(numbering) = &mut self.numbering {
            numbering.strange = true;
        }
        if let Some(outlet) = &mut self.outlet {
            outlet.payloads = payloads;
        }
    }

    /// Begins anew for another receiver under other keys: it expects rollover counter 0 (RFC 3711 §3.3.1) and a keyframe.
    pub(crate) fn renew(&mut self) {
        self.outlet = None;
        self.numbering = None;
        self.waits_for_start = true;
        self.started_at = None;
        self.next_rtx &= u64::from(FIRST_SEQ_MASK);
        self.sent.clear();
        self.packets = 0;
        self.octets = 0;
    }

    /// Bytes of header and payload that a packet would have, before the SRTP tag.
    pub(crate) fn plain_len(&self, packet: &Packet) -> usize {
        self.layout(packet, 0).plain_len
    }

    /// Decides what becomes of the packet at the cursor, and moves the cursor on: `None` if it is not to be sent.
    pub(crate) fn prepare(&mut self, packet: &Packet, ring: &Ring) -> Option<Prepared> {
        let index = self.cursor;
        self.cursor += 1;
        let waited = self.waits_for_start;
        if (waited && !packet.start) || self.started_at == Some(index) {
            return None;
        }
        let Some(payload_types) = self.outlet.as_ref()?.payloads.get(usize::from(packet.codec)).copied().flatten()
        else {
            // What it cannot decode leaves no gap: the stream goes on at the next start that it can.
            self.waits_for_start = true;
            return None;
        };
        let out = self.number(packet)?;
        if waited {
            self.started_at = Some(index);
            self.rewind(index, packet, ring);
        }
        let layout = self.layout(packet, 0);
        Some(Prepared { index, out, payload_types, layout })
    }

    /// Goes back to what overtook the first packet of a stream: it was passed over while waiting, but belongs to it.
    fn rewind(&mut self, start: Index, first: &Packet, ring: &Ring) {
        let from = start.saturating_sub(REWIND_MAX).max(ring.oldest());
        let overtook = (from..start).find(|index| {
            ring.packet(*index).is_some_and(|packet| packet.epoch == first.epoch && packet.seq > first.seq)
        });
        if let Some(index) = overtook {
            self.cursor = index;
        }
    }

    /// The outgoing extended sequence number of a packet, or `None` if it must be left out.
    fn number(&mut self, packet: &Packet) -> Option<u64> {
        let clock_rate = if self.kind == Kind::Audio { 48_000.0 } else { 90_000.0 };
        let Some(numbering) = &mut self.numbering else {
            let out = u64::from(self.first_seq);
            self.numbering = Some(Numbering {
                epoch: packet.epoch,
                shifts: vec![Shift { from: packet.seq, base: packet.seq.wrapping_sub(out) }],
                highest_in: packet.seq,
                highest_out: out,
                timestamp_offset: 0,
                last_timestamp: packet.timestamp,
                last_arrival: packet.arrival,
                strange: false,
            });
            self.waits_for_start = false;
            return Some(out);
        };
        let new_stream = numbering.strange || numbering.epoch != packet.epoch;
        if self.waits_for_start || new_stream {
            if new_stream && !packet.start {
                self.waits_for_start = true;
                return None;
            }
            if new_stream {
                // The new stream's clock began anywhere: go on where the old one would be now.
                let elapsed =
                    packet.arrival.saturating_duration_since(numbering.last_arrival).as_secs_f64() * clock_rate;
                let expected = numbering
                    .last_timestamp
                    .wrapping_add(numbering.timestamp_offset)
                    .wrapping_add(elapsed.max(1.0) as u32);
                numbering.timestamp_offset = expected.wrapping_sub(packet.timestamp);
                numbering.epoch = packet.epoch;
                numbering.strange = false;
            } else if packet.seq <= numbering.highest_in {
                return None;
            }
            self.waits_for_start = false;
            // A straggler from before the pause must not be numbered: its place is taken by what follows.
            numbering.shifts.clear();
            numbering.highest_in = packet.seq.wrapping_sub(1);
            numbering.shift(packet.seq, packet.seq.wrapping_sub(numbering.highest_out + 1));
        }
        if packet.payload_len == 0 && packet.seq == numbering.highest_in + 1 {
            // Padding only, at the head of the stream: leave it out and close the gap.
            numbering.highest_in = packet.seq;
            let base = numbering.base(packet.seq)?;
            numbering.shift(packet.seq + 1, base.wrapping_add(1));
            return None;
        }
        let out = packet.seq.wrapping_sub(numbering.base(packet.seq)?);
        if packet.seq > numbering.highest_in {
            numbering.highest_in = packet.seq;
            numbering.highest_out = out;
            numbering.last_timestamp = packet.timestamp;
            numbering.last_arrival = packet.arrival;
        }
        Some(out)
    }

    /// What the publisher's timestamps are shifted by; `None` before the first packet.
    pub(crate) fn timestamp_offset(&self, epoch: u16) -> Option<u32> {
        self.numbering.as_ref().filter(|n| n.epoch == epoch && !n.strange).map(|n| n.timestamp_offset)
    }

    fn layout(&self, packet: &Packet, prefix: usize) -> Layout {
        let Some(outlet) = &self.outlet else { return Layout { two_byte: false, header_len: 12, plain_len: 12 } };
        let (ids, mid) = (&outlet.ids, outlet.mid.as_bytes().len());
        let descriptor = if ids.descriptor != 0 { usize::from(packet.descriptor_len) } else { 0 };
        let two_byte = descriptor > 16 && outlet.mixed;
        let descriptor = if descriptor > 16 && !two_byte { 0 } else { descriptor };
        let element = if two_byte { 2 } else { 1 };
        let mut len = 0;
        for (id, body) in [
            (ids.mid, mid),
            (ids.abs_send_time, 3),
            (ids.transport_cc, 2),
            (ids.audio_level, usize::from(packet.level.is_some())),
            (ids.descriptor, descriptor),
        ] {
            if id != 0 && body != 0 {
                len += element + body;
            }
        }
        let header_len = if len == 0 { 12 } else { 16 + len.next_multiple_of(4) };
        let payload = usize::from(packet.payload_len) - self.skip(packet);
        Layout { two_byte, header_len, plain_len: header_len + prefix + payload }
    }

    /// Bytes of the payload that this subscriber does not get: all but the primary block of RED, if it takes none.
    fn skip(&self, packet: &Packet) -> usize {
        if packet.skip == 0 {
            return 0;
        }
        let payloads = self.outlet.as_ref().and_then(|outlet| *outlet.payloads.get(usize::from(packet.codec))?);
        if payloads.is_some_and(|payloads| payloads.unwraps) { usize::from(packet.skip) } else { 0 }
    }

    /// Writes and seals a prepared packet at the start of `out`, which has room for it and its tag; returns its length.
    pub(crate) fn write(
        &mut self,
        prepared: Prepared,
        packet: &Packet,
        ring: &Ring,
        stamps: &mut Stamps,
        sealer: &Sealer,
        out: &mut [u8],
    ) -> usize {
        self.remember(prepared.out, prepared.index, ring);
        let (descriptor, payload) = ring.bytes(packet);
        let payload = &payload[self.skip(packet)..];
        let header = Header {
            marker: packet.marker,
            payload_type: prepared.payload_types.primary,
            seq: prepared.out as u16,
            timestamp: packet.timestamp.wrapping_add(self.timestamp_offset(packet.epoch).unwrap_or(0)),
            ssrc: self.ssrc,
        };
        let layout = prepared.layout;
        self.write_header(&header, layout, packet.level, descriptor, stamps, out);
        out[layout.header_len..layout.plain_len].copy_from_slice(payload);
        self.packets = self.packets.wrapping_add(1);
        self.octets = self.octets.wrapping_add(payload.len() as u32);
        sealer.seal_rtp(out, layout.header_len, layout.plain_len, self.ssrc, prepared.out)
    }

    /// Writes and seals the retransmission (RFC 4588) of a packet that [`Subscription::resendable`] found.
    pub(crate) fn write_rtx(
        &mut self,
        resend: Resend,
        ring: &Ring,
        stamps: &mut Stamps,
        sealer: &Sealer,
        out: &mut [u8],
    ) -> Option<usize> {
        let packet = ring.packet(resend.index)?;
        let payload_types = (*self.outlet.as_ref()?.payloads.get(usize::from(packet.codec))?)?;
        let payload_type = payload_types.rtx?;
        let offset = self.timestamp_offset(packet.epoch)?;
        let (descriptor, payload) = ring.bytes(packet);
        let payload = &payload[self.skip(packet)..];
        let layout = self.layout(packet, 2);
        let index = self.next_rtx;
        self.next_rtx += 1;
        let header = Header {
            marker: packet.marker,
            payload_type,
            seq: index as u16,
            timestamp: packet.timestamp.wrapping_add(offset),
            ssrc: self.rtx_ssrc,
        };
        self.write_header(&header, layout, packet.level, descriptor, stamps, out);
        out[layout.header_len..layout.header_len + 2].copy_from_slice(&resend.seq.to_be_bytes());
        out[layout.header_len + 2..layout.plain_len].copy_from_slice(payload);
        Some(sealer.seal_rtp(out, layout.header_len, layout.plain_len, self.rtx_ssrc, index))
    }

    fn write_header(
        &self,
        header: &Header,
        layout: Layout,
        level: Option<u8>,
        descriptor: &[u8],
        stamps: &mut Stamps,
        out: &mut [u8],
    ) {
        let extended = layout.header_len > 12;
        out[0] = 0x80 | u8::from(extended) << 4;
        out[1] = u8::from(header.marker) << 7 | header.payload_type;
        out[2..4].copy_from_slice(&header.seq.to_be_bytes());
        out[4..8].copy_from_slice(&header.timestamp.to_be_bytes());
        out[8..12].copy_from_slice(&header.ssrc.to_be_bytes());
        let (true, Some(outlet)) = (extended, &self.outlet) else { return };
        let profile: u16 = if layout.two_byte { 0x1000 } else { 0xbede };
        out[12..14].copy_from_slice(&profile.to_be_bytes());
        out[14..16].copy_from_slice(&(((layout.header_len - 16) / 4) as u16).to_be_bytes());
        let ids = &outlet.ids;
        let mut elements = Elements { out: &mut out[16..layout.header_len], at: 0, two_byte: layout.two_byte };
        elements.put(ids.mid, outlet.mid.as_bytes());
        elements.put(ids.abs_send_time, &stamps.abs_send_time.to_be_bytes()[1..]);
        if ids.transport_cc != 0 {
            elements.put(ids.transport_cc, &stamps.transport_seq.to_be_bytes());
            stamps.transport_seq = stamps.transport_seq.wrapping_add(1);
        }
        if let Some(level) = level {
            elements.put(ids.audio_level, &[level]);
        }
        if layout.two_byte || descriptor.len() <= 16 {
            elements.put(ids.descriptor, descriptor);
        }
        elements.pad();
    }

    fn place(&self, out: u64) -> usize {
        (out as usize) & (self.sent.len().wrapping_sub(1))
    }

    fn remember(&mut self, out: u64, index: Index, ring: &Ring) {
        if self.sent.is_empty() {
            self.sent = vec![Sent::default(); SENT_MIN];
        }
        let old = self.sent[self.place(out)];
        debug_assert_ne!(old.out, out as u32 + 1, "a sequence number is sealed at most once");
        if old.out != 0 && self.sent.len() < SENT_MAX && ring.packet(old.index).is_some() {
            let mut larger = vec![Sent::default(); self.sent.len() * 2];
            let mask = larger.len() - 1;
            for sent in self.sent.drain(..).filter(|s| s.out != 0) {
                larger[(sent.out - 1) as usize & mask] = sent;
            }
            self.sent = larger;
        }
        let place = self.place(out);
        self.sent[place] = Sent { out: (out as u32).wrapping_add(1), resent_ms: 0, index };
    }

    /// Whether a packet that the subscriber NACKed can be resent now, and from where.
    pub(crate) fn resendable(&mut self, seq: u16, ring: &Ring, now: Instant) -> Option<Resend> {
        let highest = self.numbering.as_ref()?.highest_out;
        let out = crate::rtp::extend(highest, seq);
        if self.sent.is_empty() {
            return None;
        }
        let place = self.place(out);
        let sent = &mut self.sent[place];
        if sent.out != (out as u32).wrapping_add(1) || ring.packet(sent.index).is_none() {
            return None;
        }
        let elapsed = now.saturating_duration_since(self.began).as_millis() as u32;
        if sent.resent_ms != 0 && elapsed.saturating_sub(sent.resent_ms - 1) < RESEND_WINDOW.as_millis() as u32 {
            return None;
        }
        sent.resent_ms = elapsed.wrapping_add(1);
        Some(Resend { index: sent.index, seq })
    }
}

/// A packet to be sent again: a reference into the slab, never a second payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Resend {
    pub(crate) index: Index,
    /// The sequence number under which it was first sent.
    pub(crate) seq: u16,
}

impl Numbering {
    fn base(&self, seq: u64) -> Option<u64> {
        self.shifts.iter().rev().find(|s| s.from <= seq).map(|s| s.base)
    }

    fn shift(&mut self, from: u64, base: u64) {
        if self.shifts.len() == SHIFTS_MAX {
            self.shifts.remove(0);
        }
        self.shifts.push(Shift { from, base });
    }
}

struct Header {
    marker: bool,
    payload_type: u8,
    seq: u16,
    timestamp: u32,
    ssrc: u32,
}

/// Writes header extension elements (RFC 8285 §4.2, §4.3).
struct Elements<'a> {
    out: &'a mut [u8],
    at: usize,
    two_byte: bool,
}

impl Elements<'_> {
    fn put(&mut self, id: u8, body: &[u8]) {
        if id == 0 || body.is_empty() {
            return;
        }
        if self.two_byte {
            self.out[self.at] = id;
            self.out[self.at + 1] = body.len() as u8;
            self.at += 2;
        } else {
            self.out[self.at] = id << 4 | (body.len() - 1) as u8;
            self.at += 1;
        }
        self.out[self.at..self.at + body.len()].copy_from_slice(body);
        self.at += body.len();
    }

    fn pad(&mut self) {
        self.out[self.at..].fill(0);
    }
}

#[cfg(test)]
mod tests;
