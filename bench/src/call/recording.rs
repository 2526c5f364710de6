//! What bots show and say: five seconds of a picture in three sizes of VP8, and one of a tone in Opus, which `bench/media/make.sh`
//! made. A browser in a room of bots decodes both. Each frame fits the first packet of its own; all behind it is filling, which
//! decoders pass over, so that rates are what the command says and each packet has its stamp.

use std::sync::OnceLock;

use super::stamp::STAMP_BYTES;

/// A recording of VP8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// 320 × 180.
    Quarter,
    /// 640 × 360.
    Half,
    /// 960 × 540.
    Full,
}

const FILES: [&[u8]; 3] =
    [include_bytes!("../../media/q.ivf"), include_bytes!("../../media/h.ivf"), include_bytes!("../../media/f.ivf")];
/// Frames of each; the first is a keyframe, and no other.
pub const FRAMES: usize = 150;
/// IVF: 32 bytes of header, and 12 before each frame, the first four of which are its length.
const IVF_HEADER_BYTES: usize = 32;
const IVF_FRAME_HEADER_BYTES: usize = 12;

const TONE: &[u8] = include_bytes!("../../media/tone.opus");
/// Bytes of each of its frames.
const TONE_FRAME_BYTES: usize = 60;

/// A frame of VP8; they begin again after [`FRAMES`].
pub fn picture(size: Size, number: usize) -> &'static [u8] {
    static READ: OnceLock<[Vec<&'static [u8]>; 3]> = OnceLock::new();
    let recordings = READ.get_or_init(|| FILES.map(|file| frames(&file[IVF_HEADER_BYTES..]).collect()));
    recordings[size as usize][number % FRAMES]
}

fn frames(mut rest: &'static [u8]) -> impl Iterator<Item = &'static [u8]> {
    std::iter::from_fn(move || {
        let length = u32::from_le_bytes(*rest.first_chunk()?) as usize;
        let (frame, behind) = rest.get(IVF_FRAME_HEADER_BYTES..)?.split_at_checked(length)?;
        rest = behind;
        Some(frame)
    })
}

/// Writes 20 ms of the tone as a packet of so many bytes, at most [`TONE_BYTES_MAX`]. Its end, of [`STAMP_BYTES`] at least, is
/// padding (RFC 6716 §3.2.5), which may say anything.
pub fn tone(number: usize, bytes: usize, out: &mut Vec<u8>) {
    let count = TONE.len() / TONE_FRAME_BYTES;
    let frame = &TONE[number % count * TONE_FRAME_BYTES..][..TONE_FRAME_BYTES];
    // The same as code 3, in which the number of frames and the padding's length follow the first byte: one frame, padded.
    const HEAD_BYTES: usize = 3;
    let padding = bytes.saturating_sub(HEAD_BYTES + frame.len() - 1).clamp(STAMP_BYTES, 254);
    out.extend([frame[0] | 3, 0x41, padding as u8]);
    out.extend_from_slice(&frame[1..]);
    out.resize(out.len() + padding, 0);
}

/// See [`tone`].
pub const TONE_BYTES_MAX: usize = 3 + TONE_FRAME_BYTES - 1 + 254;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recordings_begin_with_a_keyframe_of_their_size_and_fit_packets() {
        for (size, width, height) in [(Size::Quarter, 320, 180), (Size::Half, 640, 360), (Size::Full, 960, 540_u16)] {
            let keys: Vec<usize> = (0..FRAMES).filter(|at| picture(size, *at)[0] & 1 == 0).collect();
            assert_eq!(keys, [0]);
            // RFC 6386 §9.1.
            let key = picture(size, FRAMES);
            assert_eq!(key[3..6], [0x9d, 0x01, 0x2a]);
            assert_eq!([[key[6], key[7]], [key[8], key[9]]].map(u16::from_le_bytes), [width, height]);
            assert!((0..FRAMES).all(|at| picture(size, at).len() <= 1_050), "the rest of a packet is head and stamp");
        }
    }

    #[test]
    fn a_tone_is_as_long_as_asked_with_room_for_a_stamp() {
        for (asked, got) in [(100, 100), (10, 62 + STAMP_BYTES), (TONE_BYTES_MAX, 316)] {
            let mut packet = Vec::new();
            tone(77, asked, &mut packet);
            assert_eq!(packet.len(), got);
            assert_eq!(usize::from(packet[2]), got - 62);
        }
    }
}
