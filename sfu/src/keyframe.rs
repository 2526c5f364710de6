//! Where keyframes start: just enough of each codec's RTP payload format to see it. Publishers are strangers, so every
//! offset is checked; a payload that ends before its own descriptor does starts nothing.

/// The codecs in which keyframes are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VideoCodec {
    /// RFC 7741.
    Vp8,
    /// RFC 9628.
    Vp9,
    /// RFC 6184.
    H264,
    /// "RTP Payload Format For AV1", AOMedia.
    Av1,
}

/// Whether `payload`, an RTP payload without padding, is the first of a keyframe, so that a decoder can begin here.
/// With H.264 it may be true again for later packets of the same frame: SPS and each IDR slice are marked.
pub fn starts_keyframe(codec: VideoCodec, payload: &[u8]) -> bool {
    match codec {
        VideoCodec::Vp8 => vp8(payload),
        VideoCodec::Vp9 => vp9(payload),
        VideoCodec::H264 => h264(payload),
        VideoCodec::Av1 => av1(payload),
    }
    .unwrap_or(false)
}

/// RFC 7741 §4.2 and §4.3: `|X|R|N|S|R| PID |`, then by X `|I|L|T|K| RSV |`, picture ID, TL0PICIDX, TID and KEYIDX.
fn vp8(payload: &[u8]) -> Option<bool> {
    let first = *payload.first()?;
    let mut header_at = 1;
    if first & 0x80 != 0 {
        let extension = *payload.get(1)?;
        header_at = 2;
        if extension & 0x80 != 0 {
            header_at += picture_id_len(*payload.get(header_at)?);
        }
        header_at += usize::from(extension & 0x40 != 0);
        header_at += usize::from(extension & 0x30 != 0);
    }
    let starts_first_partition = first & 0x10 != 0 && first & 0x07 == 0;
    let is_interframe = *payload.get(header_at)? & 0x01 != 0;
    Some(starts_first_partition && !is_interframe)
}

/// RFC 9628 §4.2: `|I|P|L|F|B|E|V|Z|`, then by I the picture ID, and by L `| TID |U| SID |D|`.
fn vp9(payload: &[u8]) -> Option<bool> {
    let first = *payload.first()?;
    let mut layer_at = 1;
    if first & 0x80 != 0 {
        layer_at += picture_id_len(*payload.get(1)?);
    }
    // Also without layers there must be something here: the rest of the descriptor, or the frame.
    let layer = *payload.get(layer_at)?;
    let is_base = first & 0x20 == 0 || layer & 0x0e == 0;
    let (is_interframe, starts_frame) = (first & 0x40 != 0, first & 0x08 != 0);
    Some(!is_interframe && starts_frame && is_base)
}

/// A VP8 or VP9 picture ID has 7 bits, or by its first bit 15.
fn picture_id_len(first: u8) -> usize {
    1 + usize::from(first & 0x80 != 0)
}

/// RFC 6184 §5.3: the first byte is `|F|NRI| type |`.
fn h264(payload: &[u8]) -> Option<bool> {
    const STAP_A: u8 = 24;
    const FU_A: u8 = 28;
    let first = *payload.first()?;
    match first & 0x1f {
        _ if first & 0x80 != 0 => Some(false),
        STAP_A => h264_aggregate(&payload[1..]),
        FU_A => {
            let fragment = *payload.get(1)?;
            Some(fragment & 0x80 != 0 && is_key_nal(fragment))
        }
        _ => Some(is_key_nal(first)),
    }
}

/// RFC 6184 §5.7.1: units, each behind its length of 16 bits.
fn h264_aggregate(mut units: &[u8]) -> Option<bool> {
    while !units.is_empty() {
        let (len, rest) = units.split_first_chunk()?;
        let (unit, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*len)))?;
        if is_key_nal(*unit.first()?) {
            return Some(true);
        }
        units = rest;
    }
    Some(false)
}

/// A coded slice of an IDR picture, or the sequence parameter set before it.
fn is_key_nal(header: u8) -> bool {
    matches!(header & 0x1f, 5 | 7)
}

/// AV1 RTP §4.4: `|Z|Y| W |N|-|-|-|`. N marks the first packet of a coded video sequence, which is no continuation (Z).
fn av1(payload: &[u8]) -> Option<bool> {
    let [aggregation, _, ..] = payload else { return None };
    Some(aggregation & 0x88 == 0x08)
}

#[cfg(test)]
mod tests {
    use super::VideoCodec::{self, *};
    use super::*;
    use proptest::prelude::*;

    fn check(codec: VideoCodec, cases: &[(&[u8], bool, &str)]) {
        for (payload, expected, why) in cases {
            assert_eq!(starts_keyframe(codec, payload), *expected, "{why}: {payload:02x?}");
        }
    }

    #[test]
    fn vp8() {
        check(
            Vp8,
            &[
                (&[0x10, 0x50, 0, 0, 0x9d, 0x01, 0x2a], true, "no extension"),
                (&[0x10, 0x51], false, "P=1"),
                (&[0x00, 0x50], false, "S=0"),
                (&[0x11, 0x50], false, "a later partition"),
                (&[0x30, 0x50], true, "N says nothing of keyframes"),
                (&[0x90, 0x00, 0x50], true, "empty extension"),
                (&[0x90, 0x80, 0x01, 0x50], true, "picture ID of 7 bits"),
                (&[0x90, 0x80, 0x81, 0x01, 0x50], true, "picture ID of 15 bits"),
                (&[0x90, 0xe0, 0x81, 0x01, 0x07, 0x20, 0x50], true, "I, L, T"),
                (&[0x90, 0xf0, 0x81, 0x01, 0x07, 0x21, 0x51], false, "I, L, T, K and P=1"),
                (&[0x90, 0xf0, 0x81, 0x01, 0x07, 0x21, 0x50], true, "T and K share a byte"),
                (&[0x90, 0x10, 0x01, 0x50], true, "K alone"),
                (&[0x90, 0x40, 0x01, 0x50], true, "L alone"),
            ],
        );
    }

    #[test]
    fn vp9() {
        check(
            Vp9,
            &[
                (&[0x08, 0x82], true, "no layers, no picture ID"),
                (&[0x8c, 0x01, 0x82], true, "picture ID of 7 bits"),
                (&[0x8c, 0x81, 0x01, 0x82], true, "picture ID of 15 bits"),
                (&[0x48, 0x82], false, "P=1"),
                (&[0x04, 0x82], false, "B=0"),
                (&[0xaa, 0x81, 0x01, 0x00, 0x00, 0x18], true, "spatial layer 0"),
                (&[0xaa, 0x81, 0x01, 0x02, 0x00, 0x18], false, "spatial layer 1"),
                (&[0xa8, 0x01, 0x0e, 0x00], false, "spatial layer 7"),
                (&[0xa8, 0x01, 0xf1, 0x00], true, "TID, U and D are not the spatial layer"),
            ],
        );
    }

    #[test]
    fn h264() {
        check(
            H264,
            &[
                (&[0x67, 0x42], true, "SPS"),
                (&[0x65, 0x88], true, "IDR"),
                (&[0x61, 0x9a], false, "a slice"),
                (&[0x68, 0xce], false, "PPS"),
                (&[0xe7, 0x42], false, "forbidden bit"),
                (&[0x78, 0, 2, 0x67, 0x42, 0, 1, 0x68], true, "STAP-A with SPS first"),
                (&[0x78, 0, 2, 0x09, 0xf0, 0, 1, 0x65], true, "STAP-A with IDR last"),
                (&[0x78, 0, 1, 0x61, 0, 1, 0x68], false, "STAP-A with neither"),
                (&[0x7c, 0x85, 0x88], true, "FU-A, first of an IDR"),
                (&[0x7c, 0x05, 0x88], false, "FU-A, amid an IDR"),
                (&[0x7c, 0x45, 0x88], false, "FU-A, last of an IDR"),
                (&[0x7c, 0x81, 0x88], false, "FU-A, first of a slice"),
                (&[0x7c, 0x87, 0x42], true, "FU-A, first of an SPS"),
            ],
        );
    }

    #[test]
    fn av1() {
        check(
            Av1,
            &[
                (&[0x18, 0x0a, 0x0b], true, "N"),
                (&[0x58, 0x0a, 0x0b], true, "N, to be continued"),
                (&[0x10, 0x32], false, "no N"),
                (&[0x98, 0x0a], false, "N on a continuation"),
            ],
        );
    }

    /// Payloads that promise more than they hold.
    #[test]
    fn lies() {
        for codec in [Vp8, Vp9, H264, Av1] {
            check(codec, &[(&[], false, "empty")]);
        }
        check(
            Vp8,
            &[
                (&[0x10], false, "no payload header"),
                (&[0x90], false, "no extension byte"),
                (&[0x90, 0x80], false, "no picture ID"),
                (&[0x90, 0x80, 0x80], false, "half a picture ID"),
                (&[0x90, 0xf0, 0x81, 0x01, 0x07, 0x21], false, "ends with its descriptor"),
            ],
        );
        check(
            Vp9,
            &[
                (&[0x88], false, "no picture ID"),
                (&[0x88, 0x80], false, "half a picture ID"),
                (&[0xa8, 0x01], false, "no layer byte"),
                (&[0x08], false, "a descriptor of nothing"),
            ],
        );
        check(
            H264,
            &[
                (&[0x78], false, "STAP-A of nothing"),
                (&[0x78, 0], false, "half a length"),
                (&[0x78, 0, 0], false, "unit of no bytes"),
                (&[0x78, 0, 0, 0, 1, 0x65], false, "unit of no bytes, then IDR"),
                (&[0x78, 0xff, 0xff, 0x67], false, "unit beyond the payload"),
                (&[0x78, 0, 1, 0x61, 0xff, 0xff, 0x65], false, "second unit beyond the payload"),
                (&[0x7c], false, "FU-A without its header"),
            ],
        );
        check(Av1, &[(&[0x08], false, "no OBU")]);
    }

    proptest! {
        /// Never a panic, and never a keyframe in a payload cut so that nothing of the frame is left.
        #[test]
        fn arbitrary_bytes(payload in prop::collection::vec(any::<u8>(), 0..64)) {
            for codec in [Vp8, Vp9, H264, Av1] {
                starts_keyframe(codec, &payload);
                prop_assert!(!starts_keyframe(codec, &[]));
                if codec != H264 {
                    prop_assert!(!starts_keyframe(codec, &payload[..payload.len().min(1)]));
                }
            }
        }

        /// Walking a STAP-A of honest units finds what is in them.
        #[test]
        fn honest_aggregates(types in prop::collection::vec(1u8..24, 1..20)) {
            let mut payload = vec![0x78];
            for unit in &types {
                payload.extend_from_slice(&[0, 3, 0x60 | unit, 0, 0]);
            }
            let expected = types.iter().any(|unit| [5, 7].contains(unit));
            prop_assert_eq!(starts_keyframe(H264, &payload), expected);
        }
    }
}
