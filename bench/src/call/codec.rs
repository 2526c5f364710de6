//! Video payloads that an SFU takes for what they say they are: descriptors and frame headers are right. Pictures of VP8 are
//! recorded, so that browsers show them; those of others are noise.

use std::str::FromStr;

/// What cameras are encoded with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Codec {
    /// RFC 7741.
    #[default]
    Vp8,
    /// RFC 9628, without layers.
    Vp9,
    /// RFC 6184, packetization-mode 1.
    H264,
    /// "RTP Payload Format For AV1", AOMedia.
    Av1,
}

impl FromStr for Codec {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        match word.to_ascii_lowercase().as_str() {
            "vp8" => Ok(Codec::Vp8),
            "vp9" => Ok(Codec::Vp9),
            "h264" => Ok(Codec::H264),
            "av1" => Ok(Codec::Av1),
            _ => Err("expected vp8, vp9, h264 or av1".to_owned()),
        }
    }
}

/// Where a packet stands.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Of the frame.
    pub key: bool,
    /// First packet of the frame.
    pub first: bool,
    /// Last packet of the frame.
    pub last: bool,
    /// Counts frames, 15 bits.
    pub picture: u16,
    /// The frame, of VP8.
    pub recorded: &'static [u8],
}

impl Codec {
    /// Its name in `a=rtpmap`.
    pub fn name(self) -> &'static str {
        match self {
            Codec::Vp8 => "VP8",
            Codec::Vp9 => "VP9",
            Codec::H264 => "H264",
            Codec::Av1 => "AV1",
        }
    }

    /// Its parameters in `a=fmtp`, if it has any.
    pub fn parameters(self) -> Option<&'static str> {
        match self {
            Codec::Vp8 | Codec::Av1 => None,
            Codec::Vp9 => Some("profile-id=0"),
            Codec::H264 => Some("level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f"),
        }
    }

    /// What stands before the filling.
    pub fn head(self, place: Place, out: &mut Vec<u8>) {
        let Place { key, first, last, picture, recorded } = place;
        let id = (0x8000 | picture).to_be_bytes();
        match self {
            Codec::Vp8 => {
                out.extend([0x80 | if first { 0x10 } else { 0 }, 0x80]);
                out.extend(id);
                if first {
                    out.extend_from_slice(recorded);
                }
            }
            Codec::Vp9 => {
                // I, then P for what is predicted, B at the beginning and E at the end.
                let predicted = if key { 0 } else { 0x40 };
                out.push(0x80 | predicted | if first { 0x08 } else { 0 } | if last { 0x04 } else { 0 });
                out.extend(id);
                out.push(0x82);
            }
            // FU-A even where one packet would do: the same bytes for all.
            Codec::H264 => {
                let edges = if first { 0x80 } else { 0 } | if last { 0x40 } else { 0 };
                // The slice's first bit says that it is the first of its picture.
                out.extend([0x7c, edges | if key { 5 } else { 1 }, 0x88]);
            }
            Codec::Av1 => {
                let goes_on = if first { 0 } else { 0x80 } | if last { 0 } else { 0x40 };
                out.push(goes_on | 0x10 | if key && first { 0x08 } else { 0 });
                // A frame OBU without its size.
                out.push(0x30);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::recording::{Size, picture};
    use sfu::keyframe::{VideoCodec, starts_keyframe};

    #[test]
    fn the_sfu_sees_where_keyframes_begin() {
        for (codec, theirs) in [
            (Codec::Vp8, VideoCodec::Vp8),
            (Codec::Vp9, VideoCodec::Vp9),
            (Codec::H264, VideoCodec::H264),
            (Codec::Av1, VideoCodec::Av1),
        ] {
            for (key, first) in [(true, true), (true, false), (false, true), (false, false)] {
                let mut payload = Vec::new();
                let recorded = picture(Size::Half, if key { 0 } else { 7 });
                codec.head(Place { key, first, last: !first, picture: 7, recorded }, &mut payload);
                payload.extend([0xa5; 40]);
                assert_eq!(starts_keyframe(theirs, &payload), key && first, "{codec:?} {key} {first}");
            }
        }
    }
}
