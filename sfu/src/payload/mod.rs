//! What RTP payloads and dependency descriptors say of themselves: enough of each codec's format to choose layers and to
//! renumber pictures. Publishers are strangers, so every offset is checked; what lies says nothing.

mod bits;
mod descriptor;
mod h264;
pub mod red;
mod vp8;
mod vp9;

use crate::keyframe::{self, VideoCodec};

/// Spatial and temporal layers that are told apart; packets of higher ones count as of the highest.
pub const SPATIAL_MAX: u8 = 4;
/// See [`SPATIAL_MAX`].
pub const TEMPORAL_MAX: u8 = 4;

/// A set of (spatial, temporal) targets, one bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Targets(pub u16);

impl Targets {
    /// All there are.
    pub const ALL: Targets = Targets(u16::MAX);

    /// Whether a subscriber of this highest spatial and temporal layer is meant.
    pub fn contains(self, spatial: u8, temporal: u8) -> bool {
        self.0 & Targets::bit(spatial, temporal) != 0
    }

    /// Adds a target.
    pub fn insert(&mut self, spatial: u8, temporal: u8) {
        self.0 |= Targets::bit(spatial, temporal);
    }

    /// Of any spatial layer, and of this temporal layer alone.
    fn of_temporal(temporal: u8) -> Targets {
        Targets(0x1111 << temporal.min(TEMPORAL_MAX - 1))
    }

    /// Of any spatial layer, and of this temporal layer or a higher one.
    fn from_temporal(temporal: u8) -> Targets {
        Targets(0x1111 * ((0xf << temporal.min(TEMPORAL_MAX - 1)) & 0xf))
    }

    /// Of this spatial layer or a higher one, and of any temporal layer.
    fn from_spatial(spatial: u8) -> Targets {
        Targets(u16::MAX << (spatial.min(SPATIAL_MAX - 1) * TEMPORAL_MAX))
    }

    /// Of this spatial layer alone, and of any temporal layer.
    fn of_spatial(spatial: u8) -> Targets {
        Targets(0xf << (spatial.min(SPATIAL_MAX - 1) * TEMPORAL_MAX))
    }

    fn and(self, other: Targets) -> Targets {
        Targets(self.0 & other.0)
    }

    fn or(self, other: Targets) -> Targets {
        Targets(self.0 | other.0)
    }

    fn bit(spatial: u8, temporal: u8) -> u16 {
        1 << (spatial.min(SPATIAL_MAX - 1) * TEMPORAL_MAX + temporal.min(TEMPORAL_MAX - 1))
    }
}

/// What one packet says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Description {
    /// First packet of a keyframe (with SVC, of its lowest spatial layer): a decoder can begin here. With H.264 it may be
    /// true again for later packets of the same frame.
    pub starts_keyframe: bool,
    /// First packet of a frame (with SVC, of one spatial layer's frame). H.264 says it of each of the first packets that
    /// stand before a frame's second slice; AV1 without a descriptor says it of keyframes only.
    pub starts_frame: bool,
    /// Last packet of such a frame, as VP9 and descriptors say it. Without SVC it is the packet with the marker, which does
    /// not lie in the payload.
    pub ends_frame: bool,
    /// Spatial layer.
    pub spatial: u8,
    /// Temporal layer.
    pub temporal: u8,
    /// Who needs this packet.
    pub present: Targets,
    /// Who, having got all that was [`present`](Self::present) for their target, has all that this frame refers to. Set on
    /// first packets of frames: all targets at keyframes, at VP8's base frames and at those with its Y bit; those of the lower
    /// spatial layers at VP9 frames without inter-picture prediction; else at least those for whom it is present.
    pub decodable: Targets,
    /// Which targets can be followed without gaps from this packet on by those to whom it is [`decodable`](Self::decodable):
    /// all at keyframes, its own layer at VP8 frames, its own and the higher temporal layers at VP9's U bit, `Switch` of a
    /// dependency descriptor. Set on first packets of frames. [`Description::may_switch`] joins the two.
    pub switch: Targets,
    /// Numbers that a subscriber's stream must count without gaps of ours (VP8, VP9).
    pub ids: PictureIds,
    /// Pixels of this packet's spatial layer, where it or what came before it says so (keyframes of VP8, structures of VP9,
    /// H.264 SPS, structures of descriptors).
    pub size: Option<(u16, u16)>,
}

impl Description {
    /// Whether a subscriber of one target (spatial, temporal) may become one of another with this packet, and see no freeze.
    /// It presumes that all that was present for the old target was sent. Lower temporal layers of the same spatial layer
    /// need no leave: they may be turned to between any two pictures.
    ///
    /// `to` must be a target that the stream has. Who may not go all the way may often go a part of it, and the rest some
    /// frames later: ask for each step down from the one that is wanted.
    pub fn may_switch(&self, from: (u8, u8), to: (u8, u8)) -> bool {
        self.decodable.contains(from.0, from.1) && self.switch.contains(to.0, to.1)
    }

    /// Of a stream without layers.
    fn flat(starts_frame: bool, starts_keyframe: bool) -> Description {
        Description {
            starts_keyframe,
            starts_frame,
            present: Targets::ALL,
            decodable: if starts_frame { Targets::ALL } else { Targets::default() },
            switch: if starts_keyframe { Targets::ALL } else { Targets::default() },
            ..Default::default()
        }
    }
}

/// Picture numbers of VP8 (RFC 7741 §4.2) and VP9 (RFC 9628 §4.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PictureIds {
    /// 7 or 15 bits.
    pub picture_id: Option<u16>,
    /// The picture id has 15 bits.
    pub wide: bool,
    /// TL0PICIDX.
    pub tl0: Option<u8>,
    /// VP8 KEYIDX, 5 bits.
    pub key_index: Option<u8>,
}

impl PictureIds {
    /// Reads a picture ID of 7 bits, or by its first bit 15, at an offset; returns the offset behind it.
    fn read_picture_id(&mut self, payload: &[u8], at: usize) -> Option<usize> {
        let high = *payload.get(at)?;
        self.wide = high & 0x80 != 0;
        if !self.wide {
            self.picture_id = Some(u16::from(high));
            return Some(at + 1);
        }
        self.picture_id = Some(u16::from_be_bytes([high & 0x7f, *payload.get(at + 1)?]));
        Some(at + 2)
    }
}

/// Writes a picture ID in the form of the one that lies at the offset.
fn write_picture_id(payload: &mut [u8], at: usize, id: u16) {
    match payload.get_mut(at..) {
        Some([high, low, ..]) if *high & 0x80 != 0 => [*high, *low] = (id | 0x8000).to_be_bytes(),
        Some([only, ..]) => *only = (id & 0x7f) as u8,
        _ => {}
    }
}

/// What must be remembered of a stream (one SSRC) to read its packets: the structure of the last keyframe. 40 bytes, and on
/// the heap, for streams with dependency descriptors, about 2 KB of which nothing is allocated anew from frame to frame.
#[derive(Clone, Debug, Default)]
pub struct DescriptorState {
    vp9: vp9::Layers,
    descriptor: Option<Box<descriptor::Memory>>,
}

/// What a packet says, given its dependency descriptor (empty if it has none) and what was remembered of its stream.
///
/// A descriptor that can be read says all but the picture numbers, with any codec: H.264 and AV1 have no layers of their own to
/// tell, and of what VP8 and VP9 tell it knows the exact dependencies. One that cannot be read (it lies, or its structure was
/// lost) leaves the codec's own words. A payload that cannot be read is present for everybody and starts nothing.
pub fn describe(codec: VideoCodec, payload: &[u8], descriptor: &[u8], state: &mut DescriptorState) -> Description {
    let own = match codec {
        VideoCodec::Vp8 => vp8::describe(payload),
        VideoCodec::Vp9 => vp9::describe(payload, &mut state.vp9),
        VideoCodec::H264 => h264::describe(payload),
        VideoCodec::Av1 => {
            let starts_keyframe = keyframe::starts_keyframe(codec, payload);
            Some(Description::flat(starts_keyframe, starts_keyframe))
        }
    };
    let own = own.unwrap_or_else(|| Description::flat(false, false));
    if descriptor.is_empty() {
        return own;
    }
    match descriptor::describe(descriptor, &mut state.descriptor) {
        Some(told) => Description { ids: own.ids, size: told.size.or(own.size), ..told },
        None => own,
    }
}

/// Writes other picture numbers into a payload, in the forms that it has them in and cut to their bits; those that it has not
/// or that are `None` are left out, and no length changes.
pub fn renumber(codec: VideoCodec, payload: &mut [u8], ids: PictureIds) {
    match codec {
        VideoCodec::Vp8 => vp8::renumber(payload, ids),
        VideoCodec::Vp9 => vp9::renumber(payload, ids),
        VideoCodec::H264 | VideoCodec::Av1 => {}
    }
}

#[cfg(test)]
mod tests;
