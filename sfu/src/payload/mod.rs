//! What RTP payloads and dependency descriptors say of themselves: enough of each codec's format to choose layers and to
//! renumber pictures. Publishers are strangers, so every offset is checked; what lies says nothing.

#[allow(dead_code)]
mod bits;
pub mod red;
mod vp8;

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

    #[allow(dead_code)]
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
    /// Lower temporal layers of the same spatial one may be turned to anywhere, between any two pictures, without asking.
    ///
    /// `to` must be a target that the stream has. Someone who may not go all the way may often go a part of it and the rest
    /// a few frames later: VP8 leads up one layer at each Y. That such a frame of temporal layer t lets in target t alone
    /// is how libwebrtc's patterns are built: with three layers (0, 2Y, 1Y, 2, 0, 2, 1, 2) a frame of layer 2 that follows
    /// 1Y may refer to an earlier one of layer 2 in the short pattern, and with four layers to 2Y, which stand before 1Y.
    /// The other way round all is well: each cycle synchronises the highest layer first, and every lower one after it.
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

/// What must be remembered of a stream to read its dependency descriptors: the structure of the last keyframe.
#[derive(Clone, Debug, Default)]
pub struct DescriptorState {}

/// What a packet says, given its dependency descriptor (empty if it has none) and what was remembered of its stream.
/// A payload that cannot be read is present for everybody and starts nothing.
pub fn describe(codec: VideoCodec, payload: &[u8], descriptor: &[u8], state: &mut DescriptorState) -> Description {
    let _ = (descriptor, state);
    let own = match codec {
        VideoCodec::Vp8 => vp8::describe(payload),
        _ => {
            let starts_keyframe = keyframe::starts_keyframe(codec, payload);
            Some(Description::flat(starts_keyframe, starts_keyframe))
        }
    };
    own.unwrap_or_else(|| Description::flat(false, false))
}

/// Writes other picture numbers into a payload, in the forms that it has them in and cut to their bits; those that it has not
/// or that are `None` are left out, and no length changes.
pub fn renumber(codec: VideoCodec, payload: &mut [u8], ids: PictureIds) {
    if codec == VideoCodec::Vp8 {
        vp8::renumber(payload, ids);
    }
}

#[cfg(test)]
mod tests;
