//! One track to one peer: what is negotiated for it, and the rewriting of its packets.
//!
//! The subscriber sees one continuous stream whatever happens to the publisher's and from whichever of its encodings it
//! comes: own SSRC, sequence numbers without gaps of our making, timestamps that follow the publisher's clock. An (SSRC,
//! packet index) is sealed at most once per key: a resend goes out on the RTX stream, since other bytes under a used nonce
//! would give the authentication key away.

mod numbering;
mod redundancy;

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::allocator::PRIORITY_DEFAULT;
use crate::downlink::Told;
use crate::payload;
use crate::quality::Heard;
use crate::ring::{Index, Packet, Ring};
use crate::sdp::{Extension, Mid};
use crate::srtp::Sealer;
use crate::target::Target;
use crate::track::{KEYFRAME_WINDOW, Layer, Track};
use crate::{Kind, Pause, Source, TrackId};

use numbering::{Numbering, Place, climb};
use redundancy::Older;

pub(crate) use redundancy::DEPTH_MAX;

/// Packets of one subscription that can be asked for again, at most. When full, the oldest are forgotten.
const SENT_MAX: usize = 2_048;
const SENT_MIN: usize = 32;
/// The same packet is resent at most once in this time: a second NACK for it crossed the resend.
const RESEND_WINDOW: Duration = Duration::from_millis(20);
/// A keyframe's first packet that was overtaken by packets so far ahead begins nothing: there will be another.
const OVERTAKEN_MAX: u64 = 64;
/// Packets among which what overtook it is looked for: stragglers lie between.
const REWIND_MAX: u64 = 2 * OVERTAKEN_MAX;
/// First sequence numbers lie below 2^15, so that a receiver cannot mistake an early reordering for a wrap (RFC 3711 §3.3.1).
const FIRST_SEQ_MASK: u16 = 0x3fff;

/// Padding of a packet that carries nothing else: the most that its last byte can say, in whole words.
const PADDING_BYTES: usize = 252;
/// Padding that makes packets of video as long as their neighbours, so that they leave by one send: at most so many bytes of each, and
/// at most one in [`EQUALISING_PART`]. Encoders cut a picture into packets that differ by a byte or two. Higher would spend the
/// downlink on it; a further send costs the server as much as a packet more.
const EQUALISING_MAX: usize = 32;
const EQUALISING_PART: usize = 16;
/// Packets that are looked at for it, as many as a run has at most.
const EQUALISED_MAX: Index = 64;

/// The padding bit of the first byte (RFC 3550 §5.1).
const PADDED: u8 = 0x20;

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
    /// What it calls RED and the Opus in it, if it takes RED: we may write our own.
    pub(crate) red: Option<Red>,
}

/// Payload types with which RED is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Red {
    pub(crate) payload_type: u8,
    pub(crate) opus: u8,
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

/// A packet ready to be written: what [`Subscription::prepare`] decided.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Prepared {
    index: Index,
    place: Place,
    payload_types: PayloadTypes,
    layout: Layout,
    /// Bytes behind the payload that say nothing.
    padding: u8,
}

impl Prepared {
    /// With so many bytes of padding (RFC 3550 §5.1), of which [`Subscription::padding`] spoke; one that carries nothing gets none.
    pub(crate) fn padded(self, padding: usize) -> Prepared {
        let padding = if self.place.empty { 0 } else { u8::try_from(padding).unwrap_or(0) };
        Prepared { padding, ..self }
    }

    /// Whether it has any.
    pub(crate) fn is_padded(&self) -> bool {
        self.padding > 0
    }
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
    /// Pixels at which the subscriber shows it, and how much it wants it.
    pub(crate) size: Option<(u16, u16)>,
    pub(crate) priority: u8,
    /// What was chosen for it, whether that comes yet or not; `None` while it is paused.
    pub(crate) chosen: Option<Target>,
    /// It is new, or its wishes are: what is chosen may rise at once.
    pub(crate) eager: bool,
    /// The layer that its publisher should send for it.
    pub(crate) awaited: Option<u8>,
    /// Why nothing flows, as the subscriber was told.
    pub(crate) paused: Option<Pause>,
    /// Agreed with the subscriber.
    pub(crate) outlet: Option<Outlet>,
    /// It has an outlet but has not started.
    pub(crate) fresh_outlet: bool,
    /// It waits in its peer's list for [`crate::Sfu::next_run`].
    pub(crate) pending: bool,
    /// What it is to be sent; `None` pauses it.
    wanted: Option<Target>,
    /// Packets flow: `numbering` says which.
    flowing: bool,
    /// The next packet to look at of the layer that flows.
    cursor: Index,
    /// The next packet to look at of the layer that is wanted and does not flow.
    seek: Index,
    pub(crate) ssrc: u32,
    pub(crate) rtx_ssrc: u32,
    /// The subscriber was told that it cannot decode this.
    pub(crate) told_unavailable: bool,
    pub(crate) packets: u32,
    pub(crate) octets: u32,
    /// What the subscriber was told of it and reports.
    pub(crate) heard: Heard,
    /// What its subscriber estimates of it.
    pub(crate) told: Told,
    numbering: Option<Numbering>,
    first_seq: u16,
    next_rtx: u64,
    /// The timestamp that padding carries: that of the last packet.
    padding_time: u32,
    /// How many older frames go along with each; `None` if packets go as they came.
    redundancy: Option<u8>,
    /// Those that go along with the packet that is looked at.
    older: Older,
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
            size: None,
            priority: PRIORITY_DEFAULT,
            chosen: None,
            eager: true,
            awaited: None,
            paused: None,
            outlet: None,
            fresh_outlet: false,
            pending: false,
            wanted: None,
            flowing: false,
            cursor: 0,
            seek: 0,
            ssrc: draw.ssrc,
            rtx_ssrc: draw.rtx_ssrc,
            told_unavailable: false,
            packets: 0,
            octets: 0,
            heard: Heard::default(),
            told: Told::default(),
            numbering: None,
            first_seq: draw.first_seq & FIRST_SEQ_MASK,
            next_rtx: u64::from(draw.first_rtx & FIRST_SEQ_MASK),
            padding_time: 0,
            redundancy: None,
            older: Older::default(),
            sent: Vec::new(),
            began: now,
        }
    }

    /// Whether its track's packets are to be looked at.
    pub(crate) fn flows(&self) -> bool {
        self.wanted.is_some() && self.outlet.is_some()
    }

    /// What it is to be sent; `None` while it is paused.
    pub(crate) fn wanted(&self) -> Option<Target> {
        self.wanted
    }

    /// What it is being sent; `None` until a keyframe comes, and while it is paused.
    pub(crate) fn current(&self) -> Option<Target> {
        self.numbering.as_ref().filter(|_| self.flowing).map(Numbering::target)
    }

    /// Says what it is to be sent from now on; `None` stops it at once. What it is being sent goes on until a keyframe of
    /// what is wanted comes; returns whether that is to be asked for.
    pub(crate) fn aim(&mut self, wanted: Option<Target>, layers: &[Layer]) -> bool {
        let before = std::mem::replace(&mut self.wanted, wanted);
        let (Some(wanted), true) = (wanted, before != wanted) else {
            self.flowing &= wanted.is_some();
            return false;
        };
        if before.is_none_or(|before| before.layer != wanted.layer) {
            self.seek = end(layers, wanted);
        }
        match (&self.numbering, self.flowing) {
            (Some(numbering), true) if numbering.target().layer == wanted.layer => numbering.needs_keyframe(wanted),
            _ => true,
        }
    }

    /// Whether a keyframe of the wanted layer must come before it gets what is wanted.
    pub(crate) fn awaits_keyframe(&self) -> bool {
        let Some(wanted) = self.wanted else { return false };
        match (&self.numbering, self.flowing) {
            (Some(numbering), true) => self.is_switching() || numbering.needs_keyframe(wanted),
            _ => true,
        }
    }

    /// Starts (again) with the next keyframe of what is wanted.
    pub(crate) fn start(&mut self, layers: &[Layer]) {
        self.flowing = false;
        self.seek = self.wanted.map_or(0, |wanted| end(layers, wanted));
    }

    /// Starts when its peer can receive: what was never sent before begins with the last keyframe that came since it was aimed
    /// at, if that is so fresh that the publisher is not asked for another yet, else with the next. Returns whether one is to be
    /// asked for.
    pub(crate) fn start_agreed(&mut self, layers: &[Layer], now: Instant) -> bool {
        let since = self.seek;
        self.start(layers);
        let ring = self.wanted.and_then(|wanted| Some(&layers.get(usize::from(wanted.layer))?.ring));
        let Some(ring) = ring.filter(|_| self.numbering.is_none() && self.kind == Kind::Video) else { return true };
        let came = since.max(ring.oldest())..ring.next();
        let is_fresh = |packet: &Packet| now.saturating_duration_since(packet.arrival) < KEYFRAME_WINDOW;
        let recent =
            came.rev().map_while(|at| ring.packet(at).filter(|packet| is_fresh(packet)).map(|packet| (at, packet)));
        let last = recent.filter(|(_, packet)| packet.start && self.decodes(packet)).map(|(at, _)| at).next();
        self.seek = last.unwrap_or(self.seek);
        last.is_none()
    }

    /// Goes on with another track, under the same SSRC, numbers and time: nothing of it flows until it is aimed at, and
    /// then from its next keyframe on. `payloads` is what the subscriber calls its codecs ([`Outlet::payloads`]).
    pub(crate) fn retarget(&mut self, key: usize, track: &Track, payloads: Vec<Option<PayloadTypes>>) {
        self.track = key;
        self.track_id = track.id;
        self.source = track.source;
        self.wanted = None;
        self.flowing = false;
        // What was sent lies in rings of the other track: nobody can have it again.
        self.sent.fill(Sent::default());
        if let Some(numbering) = &mut self.numbering {
            numbering.estrange();
        }
        if let Some(outlet) = &mut self.outlet {
            outlet.payloads = payloads;
        }
    }

    /// Goes on from this packet of the ring of what is wanted, or from the next that may begin: its track was not forwarded
    /// for a time, or it has another one.
    pub(crate) fn resume(&mut self, from: Index) {
        self.flowing = false;
        self.seek = from;
    }

    /// Begins anew for another receiver under other keys: it expects rollover counter 0 (RFC 3711 §3.3.1) and a keyframe.
    pub(crate) fn renew(&mut self) {
        self.outlet = None;
        self.numbering = None;
        self.flowing = false;
        self.next_rtx &= u64::from(FIRST_SEQ_MASK);
        self.sent.clear();
        self.heard = Heard::default();
        self.told = Told::default();
        self.packets = 0;
        self.octets = 0;
    }

    /// Says how many older frames go along with each packet of audio from now on, up to [`DEPTH_MAX`]; with `None` they go as
    /// they came. Nothing changes for who takes no RED.
    pub(crate) fn set_redundancy(&mut self, depth: Option<u8>) {
        self.redundancy = depth.filter(|_| self.takes_red());
    }

    /// Whether older frames can go along with those of its audio.
    pub(crate) fn takes_red(&self) -> bool {
        self.outlet.as_ref().is_some_and(|outlet| outlet.red.is_some())
    }

    /// Bytes of header and payload that the packet that [`Subscription::next`] gave would have at most, before the SRTP tag.
    pub(crate) fn plain_len(&mut self, packet: &Packet, ring: &Ring) -> usize {
        if let Some(depth) = self.redundancy {
            let first = self.numbering.as_ref().map_or(packet.seq, Numbering::first);
            self.older = Older::gather(packet, self.cursor, ring, first, depth);
        }
        self.layout(packet, 0, self.payload_len(packet)).plain_len
    }

    /// Bytes of header and payload that a packet has when it is sent again, before the SRTP tag.
    pub(crate) fn resend_len(&self, packet: &Packet) -> usize {
        self.layout(packet, 2, usize::from(packet.payload_len) - self.skip(packet)).plain_len
    }

    /// Bytes of payload that the packet goes out with of which [`Subscription::plain_len`] was asked last.
    fn payload_len(&self, packet: &Packet) -> usize {
        let older = if self.redundancy.is_some() { self.older.len() } else { 0 };
        older + usize::from(packet.payload_len) - self.omitted(packet)
    }

    fn is_switching(&self) -> bool {
        match (&self.numbering, self.wanted) {
            (Some(numbering), Some(wanted)) => !self.flowing || numbering.target().layer != wanted.layer,
            (_, wanted) => wanted.is_some(),
        }
    }

    /// The packet to look at next and its ring; goes over to what is wanted if that can begin. `None` when all there is has
    /// been looked at.
    pub(crate) fn next<'a>(&mut self, layers: &'a [Layer]) -> Option<(&'a Packet, &'a Ring)> {
        if self.is_switching() {
            self.switch(layers);
        }
        let numbering = self.numbering.as_ref().filter(|_| self.flowing)?;
        let ring = &layers.get(usize::from(numbering.target().layer))?.ring;
        Some((ring.packet(self.cursor)?, ring))
    }

    /// Looks for a keyframe with which what is wanted can begin.
    fn switch(&mut self, layers: &[Layer]) {
        let Some(wanted) = self.wanted else { return };
        let Some(layer) = layers.get(usize::from(wanted.layer)) else { return };
        self.seek = self.seek.max(layer.ring.oldest());
        while let Some(packet) = layer.ring.packet(self.seek) {
            if packet.start && self.decodes(packet) && self.may_leave(layers, layer) {
                if self.is_amid_picture(layers) {
                    return;
                }
                if let Some(cursor) = rewound(self.seek, packet, &layer.ring)
                    && self.begin(packet, wanted, layers)
                {
                    self.flowing = true;
                    self.cursor = cursor;
                    return;
                }
            }
            self.seek += 1;
        }
    }

    fn decodes(&self, packet: &Packet) -> bool {
        let payloads = self.outlet.as_ref().map(|outlet| &outlet.payloads);
        payloads.and_then(|p| p.get(usize::from(packet.codec))).is_some_and(Option::is_some)
    }

    /// Whether what flows may be left for a layer: not for one whose clock is not known, unless it is dead.
    fn may_leave(&self, layers: &[Layer], to: &Layer) -> bool {
        let Some(current) = self.current() else { return true };
        let from = layers.get(usize::from(current.layer)).filter(|layer| layer.alive);
        from.is_none_or(|from| to.clock.is_some() || (from.clock.is_none() && to.reports_nothing()))
    }

    /// Whether the picture that is being sent goes on with a packet that has come: it is completed first.
    fn is_amid_picture(&self, layers: &[Layer]) -> bool {
        let Some(numbering) = self.numbering.as_ref().filter(|_| self.flowing) else { return false };
        let ring = layers.get(usize::from(numbering.target().layer)).map(|layer| &layer.ring);
        ring.and_then(|ring| ring.packet(self.cursor)).is_some_and(|packet| numbering.is_amid(packet))
    }

    /// Goes over to an encoding that begins with this packet, unless that is a straggler.
    fn begin(&mut self, packet: &Packet, wanted: Target, layers: &[Layer]) -> bool {
        let base = Target { layer: wanted.layer, ..Target::default() };
        let target = climb(base, wanted, packet);
        let Some(numbering) = &mut self.numbering else {
            self.numbering = Some(Numbering::new(packet, self.first_seq.into(), target));
            return true;
        };
        let clock_rate = clock_rate(self.kind);
        let (layer, epoch) = numbering.encoding();
        let from = layers.get(usize::from(layer)).filter(|layer| layer.epoch == epoch).and_then(|layer| layer.clock);
        let to = layers.get(usize::from(wanted.layer)).and_then(|layer| layer.clock);
        let relation = from.zip(to).map(|(from, to)| from.relation(&to, clock_rate));
        numbering.begin(packet, target, relation, clock_rate)
    }

    /// Waits for a keyframe, from a packet of the layer that flows on.
    fn stop(&mut self, at: Index) {
        let layer = self.current().map(|current| current.layer);
        if layer.is_some() && layer == self.wanted.map(|wanted| wanted.layer) {
            self.seek = at;
        }
        self.flowing = false;
    }

    /// How many packets of the layer that flows its ring has let go unseen. If any, it waits for a keyframe.
    pub(crate) fn overrun(&mut self, layers: &[Layer]) -> u64 {
        let Some(current) = self.current() else { return 0 };
        let oldest = layers.get(usize::from(current.layer)).map_or(0, |layer| layer.ring.oldest());
        let lost = oldest.saturating_sub(self.cursor);
        if lost > 0 {
            self.stop(oldest);
        }
        lost
    }

    /// Decides what becomes of the packet that [`Subscription::next`] gave and [`Subscription::plain_len`] measured, and moves
    /// on: `None` if it is not to be sent.
    pub(crate) fn prepare(&mut self, packet: &Packet) -> Option<Prepared> {
        let index = self.cursor;
        self.cursor += 1;
        let (numbering, wanted) = (self.numbering.as_mut()?, self.wanted?);
        let (layer, epoch) = numbering.encoding();
        if packet.epoch != epoch {
            // A new stream of the publisher's: it may begin with this very packet.
            self.stop(index);
            return None;
        }
        let Some(payload_types) = self.outlet.as_ref()?.payloads.get(usize::from(packet.codec)).copied().flatten()
        else {
            // What it cannot decode leaves no gap: the stream goes on at the next start that it can.
            self.stop(index + 1);
            return None;
        };
        let wanted = if wanted.layer == layer { wanted } else { numbering.target() };
        let place = numbering.place(packet, wanted)?;
        let mut layout = self.layout(packet, 0, self.payload_len(packet));
        if place.empty {
            layout.plain_len = layout.header_len;
        }
        Some(Prepared { index, place, payload_types, layout, padding: 0 })
    }

    /// How many bytes of padding the packet that [`Subscription::next`] gave, of `plain_len` bytes, should get so that those behind it
    /// can share its run. `run` is how long the run's datagrams are before the SRTP tag, if it has any yet. None for audio, where
    /// a few bytes are much, and none for the last packet there is. What this subscriber is not sent does not count.
    pub(crate) fn padding(&self, plain_len: usize, ring: &Ring, run: Option<usize>) -> usize {
        let Some(numbering) = self.numbering.as_ref().filter(|_| self.kind == Kind::Video) else { return 0 };
        let behind = (self.cursor + 1..self.cursor + EQUALISED_MAX).map_while(|index| ring.packet(index));
        let mut behind = behind.filter(|packet| numbering.takes(packet)).peekable();
        if behind.peek().is_none() {
            return 0;
        }
        let missing = |len: usize, goal: usize| {
            let missing = goal.saturating_sub(len);
            (missing <= EQUALISING_MAX && missing * EQUALISING_PART <= goal).then_some(missing)
        };
        let goal = run.unwrap_or_else(|| {
            let mut longest = plain_len;
            for packet in behind {
                let len = self.layout(packet, 0, self.payload_len(packet)).plain_len;
                let goal = longest.max(len);
                if missing(plain_len, goal).is_none() || missing(len, goal).is_none() {
                    break;
                }
                longest = goal;
            }
            longest
        });
        missing(plain_len, goal).unwrap_or(0)
    }

    /// What the timestamps of a layer are shifted by, if that is what flows.
    pub(crate) fn timestamp_offset(&self, layers: &[Layer]) -> Option<(usize, u32)> {
        let numbering = self.numbering.as_ref().filter(|_| self.flowing)?;
        let (layer, epoch) = numbering.encoding();
        let layer = usize::from(layer);
        layers.get(layer).filter(|of| of.epoch == epoch).map(|_| (layer, numbering.timestamp_offset()))
    }

    fn layout(&self, packet: &Packet, prefix: usize, payload: usize) -> Layout {
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

    /// Bytes of the payload as it came that do not go out: where we write the RED, all but the primary block.
    fn omitted(&self, packet: &Packet) -> usize {
        if self.redundancy.is_some() { usize::from(packet.skip) } else { self.skip(packet) }
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
        let Prepared { index, place, payload_types, layout, padding } = prepared;
        self.remember(place.out, index, ring);
        let (descriptor, payload) = ring.bytes(packet);
        let payload = &payload[self.omitted(packet)..];
        let red = self.outlet.as_ref().and_then(|outlet| outlet.red).filter(|_| self.redundancy.is_some());
        let wrapped = red.filter(|_| !self.older.is_empty() && !place.empty);
        let alone = red.map_or(payload_types.primary, |red| red.opus);
        let header = Header {
            marker: place.marker,
            payload_type: wrapped.map_or(alone, |red| red.payload_type),
            seq: place.out as u16,
            timestamp: place.timestamp,
            ssrc: self.ssrc,
        };
        self.write_header(&header, layout, packet.level, descriptor, stamps, out);
        let room = &mut out[layout.header_len..layout.plain_len];
        match wrapped {
            Some(red) => self.older.write(ring, red.opus, payload, room),
            None => write_payload(packet, &place, payload, room),
        }
        self.padding_time = header.timestamp;
        self.packets = self.packets.wrapping_add(1);
        self.octets = self.octets.wrapping_add((layout.plain_len - layout.header_len) as u32);
        let end = layout.plain_len + usize::from(padding);
        if padding > 0 {
            out[0] |= PADDED;
            out[layout.plain_len..end].fill(0);
            out[end - 1] = padding;
        }
        sealer.seal_rtp(out, layout.header_len, end, self.ssrc, place.out)
    }

    /// The packet that a resend is of, and its ring; `None` if it can no longer be sent.
    pub(crate) fn resent<'a>(&self, resend: Resend, layers: &'a [Layer]) -> Option<(&'a Packet, &'a Ring)> {
        let stretch = self.numbering.as_ref()?.went_out(resend.out)?;
        let ring = &layers.get(usize::from(stretch.layer))?.ring;
        Some((ring.packet(resend.index)?, ring))
    }

    /// Writes and seals the retransmission (RFC 4588) of a packet that [`Subscription::resent`] gave: the same bytes.
    pub(crate) fn write_rtx(
        &mut self,
        resend: Resend,
        packet: &Packet,
        ring: &Ring,
        stamps: &mut Stamps,
        sealer: &Sealer,
        out: &mut [u8],
    ) -> Option<usize> {
        let payload_types = (*self.outlet.as_ref()?.payloads.get(usize::from(packet.codec))?)?;
        let payload_type = payload_types.rtx?;
        let place = self.numbering.as_ref()?.went_out(resend.out)?.translate(packet, resend.out);
        let (descriptor, payload) = ring.bytes(packet);
        let payload = &payload[self.skip(packet)..];
        let mut layout = self.layout(packet, 2, payload.len());
        if place.empty {
            layout.plain_len = layout.header_len + 2;
        }
        let index = self.next_rtx;
        self.next_rtx += 1;
        let header = Header {
            marker: place.marker,
            payload_type,
            seq: index as u16,
            timestamp: place.timestamp,
            ssrc: self.rtx_ssrc,
        };
        self.write_header(&header, layout, packet.level, descriptor, stamps, out);
        let (number, rest) = out[layout.header_len..layout.plain_len].split_at_mut(2);
        number.copy_from_slice(&(resend.out as u16).to_be_bytes());
        write_payload(packet, &place, payload, rest);
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
        if old.out != 0 && self.sent.len() < SENT_MAX && self.is_kept(old, ring) {
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

    /// What its retransmissions are called, if it takes any.
    pub(crate) fn rtx_payload_type(&self) -> Option<u8> {
        self.outlet.as_ref()?.payloads.iter().flatten().find_map(|types| types.rtx)
    }

    /// Bytes of a packet of padding, before the SRTP tag.
    pub(crate) fn padding_len(&self) -> usize {
        self.padding_header_len() + PADDING_BYTES
    }

    fn padding_header_len(&self) -> usize {
        let Some(Outlet { ids, mid, .. }) = &self.outlet else { return 12 };
        let elements = [(ids.mid, mid.as_bytes().len()), (ids.abs_send_time, 3), (ids.transport_cc, 2)];
        let len: usize = elements.iter().filter(|(id, _)| *id != 0).map(|(_, body)| 1 + body).sum();
        if len == 0 { 12 } else { 16 + len.next_multiple_of(4) }
    }

    /// Writes and seals a packet of nothing but padding (RFC 3550 §5.1) on the RTX stream.
    pub(crate) fn write_padding(&mut self, stamps: &mut Stamps, sealer: &Sealer, out: &mut [u8]) -> Option<usize> {
        let payload_type = self.rtx_payload_type()?;
        let header_len = self.padding_header_len();
        let layout = Layout { two_byte: false, header_len, plain_len: header_len + PADDING_BYTES };
        let index = self.next_rtx;
        self.next_rtx += 1;
        let header = Header {
            marker: false,
            payload_type,
            seq: index as u16,
            timestamp: self.padding_time,
            ssrc: self.rtx_ssrc,
        };
        self.write_header(&header, layout, None, &[], stamps, out);
        out[0] |= PADDED;
        out[layout.header_len..layout.plain_len].fill(0);
        out[layout.plain_len - 1] = PADDING_BYTES as u8;
        Some(sealer.seal_rtp(out, layout.header_len, layout.plain_len, self.rtx_ssrc, index))
    }

    /// Whether a packet that was sent may still be asked for; of another layer than this ring's it is taken to be.
    fn is_kept(&self, sent: Sent, ring: &Ring) -> bool {
        let Some(numbering) = &self.numbering else { return false };
        let stretch = numbering.went_out(u64::from(sent.out) - 1);
        stretch.is_some_and(|s| s.layer != numbering.target().layer || ring.packet(sent.index).is_some())
    }

    /// Whether a packet that the subscriber NACKed can be resent now, and from where.
    pub(crate) fn resendable(&mut self, seq: u16, layers: &[Layer], now: Instant) -> Option<Resend> {
        let highest = self.numbering.as_ref()?.next_out().checked_sub(1)?;
        let out = crate::rtp::extend(highest, seq);
        if self.sent.is_empty() {
            return None;
        }
        let place = self.place(out);
        let sent = self.sent[place];
        let resend = Resend { index: sent.index, out };
        if sent.out != (out as u32).wrapping_add(1) || self.resent(resend, layers).is_none() {
            return None;
        }
        let elapsed = now.saturating_duration_since(self.began).as_millis() as u32;
        if sent.resent_ms != 0 && elapsed.saturating_sub(sent.resent_ms - 1) < RESEND_WINDOW.as_millis() as u32 {
            return None;
        }
        self.sent[place].resent_ms = elapsed.wrapping_add(1);
        Some(resend)
    }
}

/// A packet to be sent again: a reference into the slab, never a second payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Resend {
    index: Index,
    /// The extended sequence number under which it was first sent.
    out: u64,
}

/// Where to go on when a stream begins with the packet at `start`: at what overtook it, if anything did. `None` if it came
/// too late to begin with.
fn rewound(start: Index, first: &Packet, ring: &Ring) -> Option<Index> {
    let mut cursor = start;
    for index in (start.saturating_sub(REWIND_MAX).max(ring.oldest())..start).rev() {
        let overtook = ring.packet(index).filter(|packet| packet.epoch == first.epoch && packet.seq > first.seq);
        if let Some(packet) = overtook {
            if packet.seq > first.seq + OVERTAKEN_MAX {
                return None;
            }
            cursor = index;
        }
    }
    Some(cursor)
}

fn end(layers: &[Layer], wanted: Target) -> Index {
    layers.get(usize::from(wanted.layer)).map_or(0, |layer| layer.ring.next())
}

fn clock_rate(kind: Kind) -> u32 {
    match kind {
        Kind::Audio => 48_000,
        Kind::Video => 90_000,
    }
}

/// The payload with its picture numbers, into `out`, which is as long, or empty.
fn write_payload(packet: &Packet, place: &Place, payload: &[u8], out: &mut [u8]) {
    if place.empty {
        return;
    }
    out.copy_from_slice(payload);
    if let (Some(ids), Some(codec)) = (place.ids, packet.video) {
        payload::renumber(codec, out, ids);
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
