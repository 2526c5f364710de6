//! How packets of several encodings become one stream: sequence numbers, timestamps and picture numbers that go on
//! whatever is left out and wherever the stream comes from.
//!
//! The outgoing stream is a row of stretches. Within one everything differs from the publisher's by the same amounts; a
//! new one begins where packets are left out, where the layers change that are sent, and where another encoding begins. So
//! a late packet, and one that is asked for again, is translated as it would have been in time, or not at all.

use std::collections::VecDeque;
use std::time::Instant;

use crate::keyframe::VideoCodec;
use crate::payload::PictureIds;
use crate::ring::Packet;
use crate::target::Target;

/// Stretches remembered. An SVC stream of 30 pictures a second whose upper layers are left out makes 30 a second, and what
/// comes late or is asked for again is younger than a second. When full, the oldest goes, and its packets are dropped.
pub(super) const STRETCHES_MAX: usize = 48;
/// KEYIDX has five bits (RFC 7741 §4.2).
const KEY_INDEX_MASK: u8 = 0x1f;

/// See the module.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stretch {
    /// The outgoing number of the packet whose incoming one is `from`; what follows is counted alike.
    out: u64,
    from: u64,
    /// Incoming numbers from here to `from` are left out; 0 where an encoding begins, before which there is nothing.
    gap: u64,
    /// What is added to the publisher's timestamps.
    pub(super) timestamp: u32,
    /// The encoding: which layer, and which of the publisher's streams on it.
    pub(super) layer: u8,
    epoch: u16,
    /// The highest spatial and temporal layer that is sent.
    spatial: u8,
    temporal: u8,
    /// What is added to picture ids, TL0PICIDX and KEYIDX.
    picture: u16,
    tl0: u8,
    key: u8,
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// Its extended outgoing sequence number.
    pub(super) out: u64,
    pub(super) timestamp: u32,
    pub(super) marker: bool,
    /// Only its header goes out: it is not wanted, but its number was kept for it when others overtook it.
    pub(super) empty: bool,
    /// The picture numbers to write, where they differ from its own.
    pub(super) ids: Option<PictureIds>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Numbering {
    now: Stretch,
    past: VecDeque<Stretch>,
    /// The highest incoming number looked at.
    highest_in: u64,
    /// The timestamp of the packet with it: the picture that is being sent.
    picture: u32,
    /// The outgoing timestamp of the newest packet sent, and when that came.
    last_timestamp: u32,
    last_arrival: Instant,
    /// Ticks by which the stream runs ahead of the publisher's clock, so that time never went back.
    slip: u32,
    /// The newest picture numbers, as they came.
    ids: PictureIds,
    /// Lower spatial layers were left out since the last keyframe: they are not there to go back to.
    skipped_lower: bool,
    /// The timestamps of the current stretch have nothing to do with those of what comes next.
    strange: bool,
}

impl Stretch {
    pub(super) fn target(&self) -> Target {
        Target { layer: self.layer, spatial: self.spatial, temporal: self.temporal }
    }

    /// How a packet of this stretch is translated, whenever it goes out.
    pub(super) fn translate(&self, packet: &Packet, out: u64) -> Place {
        Place {
            out,
            timestamp: packet.timestamp.wrapping_add(self.timestamp),
            marker: packet.marker || packet.ends_frame && packet.spatial >= self.spatial,
            empty: !self.takes(packet),
            ids: self.ids(&packet.ids),
        }
    }

    fn takes(&self, packet: &Packet) -> bool {
        packet.payload_len != 0 && packet.present.contains(self.spatial, self.temporal)
    }

    fn ids(&self, came: &PictureIds) -> Option<PictureIds> {
        if self.picture == 0 && self.tl0 == 0 && self.key == 0 {
            return None;
        }
        Some(PictureIds {
            picture_id: came.picture_id.map(|id| id.wrapping_add(self.picture) & picture_mask(came)),
            tl0: came.tl0.map(|tl0| tl0.wrapping_add(self.tl0)),
            key_index: came.key_index.map(|key| key.wrapping_add(self.key) & KEY_INDEX_MASK),
            ..*came
        })
    }
}

fn picture_mask(ids: &PictureIds) -> u16 {
    if ids.wide { 0x7fff } else { 0x7f }
}

/// The highest target to which one may go with a packet, from one that is received, on the way to what is wanted.
pub(super) fn climb(at: Target, wanted: Target, packet: &Packet) -> Target {
    if !packet.decodable.contains(at.spatial, at.temporal) {
        return at;
    }
    for spatial in (at.spatial..=wanted.spatial).rev() {
        for temporal in (at.temporal..=wanted.temporal.max(at.temporal)).rev() {
            if packet.switch.contains(spatial, temporal) {
                return Target { spatial, temporal, ..at };
            }
        }
    }
    at
}

impl Numbering {
    /// A stream that begins with this packet, under this number.
    pub(super) fn new(packet: &Packet, out: u64, target: Target) -> Self {
        let now = Stretch {
            out,
            from: packet.seq,
            gap: 0,
            timestamp: 0,
            layer: target.layer,
            epoch: packet.epoch,
            spatial: target.spatial,
            temporal: target.temporal,
            picture: 0,
            tl0: 0,
            key: 0,
        };
        Numbering {
            now,
            past: VecDeque::new(),
            highest_in: packet.seq - 1,
            picture: packet.timestamp,
            last_timestamp: packet.timestamp.wrapping_sub(1),
            last_arrival: packet.arrival,
            slip: 0,
            ids: packet.ids,
            skipped_lower: false,
            strange: false,
        }
    }

    /// Goes on with an encoding that begins with this packet. `relation` is what is added to its timestamps to get those of
    /// the last encoding, where both have told their clocks. `false` if this is a straggler of what was sent already.
    pub(super) fn begin(&mut self, packet: &Packet, target: Target, relation: Option<u32>, clock_rate: u32) -> bool {
        let same = !self.strange && (self.now.layer, self.now.epoch) == (target.layer, packet.epoch);
        let sent = if same { Some(self.highest_in) } else { self.last_sent(target.layer, packet.epoch) };
        if sent.is_some_and(|sent| packet.seq <= sent) {
            return false;
        }
        let timestamp = if same { self.now.timestamp } else { self.join(packet, relation, clock_rate) };
        let came = &packet.ids;
        let next = |came: Option<u16>, last: Option<u16>, offset: u16| match (came, last) {
            (Some(came), Some(last)) => last.wrapping_add(offset).wrapping_add(1).wrapping_sub(came),
            _ => 0,
        };
        let byte = |came: Option<u8>, last: Option<u8>, offset: u8| {
            next(came.map(u16::from), last.map(u16::from), offset.into()) as u8
        };
        let begun = Stretch {
            out: self.next_out(),
            from: packet.seq,
            gap: 0,
            timestamp,
            layer: target.layer,
            epoch: packet.epoch,
            spatial: target.spatial,
            temporal: target.temporal,
            picture: next(came.picture_id, self.ids.picture_id, self.now.picture) & picture_mask(came),
            tl0: byte(came.tl0, self.ids.tl0, self.now.tl0),
            key: byte(came.key_index, self.ids.key_index, self.now.key) & KEY_INDEX_MASK,
        };
        self.push(begun);
        self.highest_in = packet.seq - 1;
        self.picture = packet.timestamp;
        self.note_ids(came);
        self.skipped_lower = false;
        self.strange = false;
        true
    }

    /// The last incoming number that was sent of an encoding that was left, as far as that is remembered.
    fn last_sent(&self, layer: u8, epoch: u16) -> Option<u64> {
        let mut end = self.now.out;
        for stretch in self.past.iter().rev() {
            if (stretch.layer, stretch.epoch) == (layer, epoch) {
                return Some(stretch.from + (end - stretch.out) - 1);
            }
            end = stretch.out;
        }
        None
    }

    /// What is added to the timestamps of an encoding that begins with this packet, so that time goes on.
    fn join(&mut self, packet: &Packet, relation: Option<u32>, clock_rate: u32) -> u32 {
        let elapsed = packet.arrival.saturating_duration_since(self.last_arrival);
        let elapsed = (elapsed.as_micros() * u128::from(clock_rate) / 1_000_000) as u32;
        let relation = relation.filter(|_| !self.strange);
        let mapped = relation.map(|relation| {
            let offset = self.now.timestamp.wrapping_sub(self.slip);
            packet.timestamp.wrapping_add(relation).wrapping_add(offset).wrapping_sub(self.last_timestamp) as i32
        });
        self.slip = 0;
        let ahead = match mapped {
            // Clocks that are off by a second are believed less than ours.
            Some(ahead) if ahead.wrapping_sub(elapsed as i32).unsigned_abs() <= clock_rate => {
                if ahead <= 0 {
                    self.slip = 1 + ahead.unsigned_abs();
                }
                ahead.max(1) as u32
            }
            _ => elapsed.max(1),
        };
        self.last_timestamp.wrapping_add(ahead).wrapping_sub(packet.timestamp)
    }

    /// Another track comes next, of whose clock nothing is known, and whose packets must not be taken for these.
    pub(super) fn estrange(&mut self) {
        self.strange = true;
        self.past.clear();
        self.now.gap = 0;
    }

    /// What is sent now, at most.
    pub(super) fn target(&self) -> Target {
        self.now.target()
    }

    /// The encoding that is sent: layer and epoch.
    pub(super) fn encoding(&self) -> (u8, u16) {
        (self.now.layer, self.now.epoch)
    }

    /// The first incoming number since which nothing was left out.
    pub(super) fn first(&self) -> u64 {
        self.now.from
    }

    /// What is added to the timestamps of the encoding that is sent.
    pub(super) fn timestamp_offset(&self) -> u32 {
        self.now.timestamp
    }

    /// Whether the picture that is being sent goes on with this packet of the same encoding.
    pub(super) fn is_amid(&self, packet: &Packet) -> bool {
        packet.epoch == self.now.epoch && packet.timestamp == self.picture
    }

    /// Whether a target of the encoding that is sent cannot be had before its next keyframe.
    pub(super) fn needs_keyframe(&self, wanted: Target) -> bool {
        wanted.spatial > self.now.spatial || wanted.spatial < self.now.spatial && self.skipped_lower
    }

    /// The number that the next packet gets.
    pub(super) fn next_out(&self) -> u64 {
        self.now.out + (self.highest_in + 1 - self.now.from)
    }

    /// Whether a packet of the encoding that is sent would go out, were it the next.
    pub(super) fn takes(&self, packet: &Packet) -> bool {
        self.now.takes(packet)
    }

    /// What becomes of a packet of the encoding that is sent; `None` if it is left out.
    pub(super) fn place(&mut self, packet: &Packet, wanted: Target) -> Option<Place> {
        if packet.seq <= self.highest_in {
            let stretch = self.came_in(packet.seq)?;
            let place = stretch.translate(packet, stretch.out + (packet.seq - stretch.from));
            // What overtook it may have been left out; then it is the newest that is sent.
            if place.timestamp.wrapping_sub(self.last_timestamp) as i32 > 0 {
                (self.last_timestamp, self.last_arrival) = (place.timestamp, packet.arrival);
            }
            return Some(place);
        }
        if (self.now.spatial, self.now.temporal) != (wanted.spatial, wanted.temporal) {
            self.approach(packet, wanted);
        }
        self.picture = packet.timestamp;
        if !self.now.takes(packet) {
            self.leave_out(packet);
            return None;
        }
        self.highest_in = packet.seq;
        self.note_ids(&packet.ids);
        let place = self.now.translate(packet, self.now.out + (packet.seq - self.now.from));
        self.last_timestamp = place.timestamp;
        self.last_arrival = packet.arrival;
        Some(place)
    }

    /// Down at once where a picture begins; up where the publisher says that one may.
    fn approach(&mut self, packet: &Packet, wanted: Target) {
        let mut at = self.now.target();
        if packet.start {
            self.skipped_lower = false;
        }
        // Were packets missing right before it, they could be of the same picture and come late, as if of the one before.
        let begins_picture = packet.timestamp != self.picture && packet.seq == self.highest_in + 1;
        if begins_picture || packet.start {
            at.temporal = at.temporal.min(wanted.temporal);
            if !self.skipped_lower {
                at.spatial = at.spatial.min(wanted.spatial);
            }
        }
        at = climb(at, wanted, packet);
        if at == self.now.target() {
            return;
        }
        let changed = Stretch {
            out: self.now.out + (packet.seq - self.now.from),
            from: packet.seq,
            gap: packet.seq,
            spatial: at.spatial,
            temporal: at.temporal,
            ..self.now
        };
        if self.now.from == packet.seq {
            self.now = Stretch { gap: self.now.gap, ..changed };
        } else {
            self.push(changed);
        }
    }

    /// Closes the gap of a packet that is left out. What is missing before it keeps its numbers.
    fn leave_out(&mut self, packet: &Packet) {
        let lower = packet.spatial < self.now.spatial && packet.temporal <= self.now.temporal;
        if lower && packet.payload_len != 0 {
            self.skipped_lower = true;
        }
        let mut rest = Stretch {
            out: self.now.out + (packet.seq - self.now.from),
            from: packet.seq + 1,
            gap: packet.seq,
            ..self.now
        };
        // The frames of VP8 are counted, too. In VP9 numbers say what refers to what, and those of temporal layers left out
        // are expected to be missing.
        let another = packet.ids.picture_id != self.ids.picture_id;
        if packet.video == Some(VideoCodec::Vp8) && another && packet.temporal > self.now.temporal {
            rest.picture = rest.picture.wrapping_sub(1) & picture_mask(&packet.ids);
        }
        if self.now.from == packet.seq {
            self.now = Stretch { gap: self.now.gap, ..rest };
        } else {
            self.push(rest);
        }
        self.highest_in = packet.seq;
        self.note_ids(&packet.ids);
    }

    fn note_ids(&mut self, ids: &PictureIds) {
        if ids.picture_id.is_some() {
            self.ids = PictureIds { key_index: ids.key_index.or(self.ids.key_index), ..*ids };
        }
    }

    fn push(&mut self, stretch: Stretch) {
        if self.past.len() == STRETCHES_MAX {
            self.past.pop_front();
        }
        self.past.push_back(self.now);
        self.now = stretch;
    }

    /// The stretch of an incoming number of the encoding that is sent, unless that is left out or forgotten.
    fn came_in(&self, seq: u64) -> Option<&Stretch> {
        if seq >= self.now.from {
            return Some(&self.now);
        }
        let mut gap = self.now.gap;
        for stretch in self.past.iter().rev() {
            if seq >= gap {
                return None;
            }
            if seq >= stretch.from {
                return Some(stretch);
            }
            gap = stretch.gap;
        }
        None
    }

    /// The stretch of an outgoing number, unless it is forgotten.
    pub(super) fn went_out(&self, out: u64) -> Option<&Stretch> {
        if out >= self.now.out {
            return Some(&self.now);
        }
        self.past.iter().rev().find(|stretch| stretch.out <= out)
    }
}
