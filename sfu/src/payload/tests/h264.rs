use super::*;

const H264: VideoCodec = VideoCodec::H264;

/// Writes bits, and the codes of parameter sets.
#[derive(Default)]
struct Writer {
    bits: Vec<bool>,
}

impl Writer {
    fn number(&mut self, value: u32, bits: u32) -> &mut Self {
        self.bits.extend((0..bits).rev().map(|it| value >> it & 1 != 0));
        self
    }

    fn golomb(&mut self, value: u32) -> &mut Self {
        let bits = u32::BITS - (value + 1).leading_zeros();
        self.number(0, bits - 1).number(value + 1, bits)
    }

    /// With the stop bit, and escaped.
    fn unit(&mut self, header: u8) -> Vec<u8> {
        self.bits.push(true);
        let mut unit = vec![header];
        for byte in self.bits.chunks(8) {
            let byte = byte.iter().enumerate().map(|(at, bit)| u8::from(*bit) << (7 - at)).sum();
            if unit.ends_with(&[0, 0]) && byte <= 3 {
                unit.push(3);
            }
            unit.push(byte);
        }
        unit
    }
}

/// A parameter set up to its size, in blocks of 16 pixels; `high` says what a high profile has more.
fn sps(
    profile: u32,
    high: &[u32],
    order: &[u32],
    (columns, rows): (u32, u32),
    is_frame: u32,
    crop: &[u32; 4],
) -> Vec<u8> {
    let mut out = Writer::default();
    out.number(profile, 8).number(0, 8).number(31, 8).golomb(0);
    if let [chroma, depth] = high {
        out.golomb(*chroma);
        if *chroma == 3 {
            out.number(0, 1);
        }
        // Depths, a flag, and a scaling matrix of which the first list is given and soon ends.
        out.golomb(*depth).golomb(*depth).number(0, 1).number(1, 1);
        out.number(1, 1).golomb(3).golomb(20);
        out.number(0, if *chroma == 3 { 11 } else { 7 });
    }
    out.golomb(5);
    match order {
        [] => out.golomb(2),
        [most] => out.golomb(0).golomb(*most),
        offsets => {
            out.golomb(1).number(0, 1).golomb(4).golomb(4).golomb(offsets.len() as u32);
            offsets.iter().fold(&mut out, |out, it| out.golomb(*it))
        }
    };
    out.golomb(1).number(0, 1).golomb(columns - 1).golomb(rows - 1).number(is_frame, 1);
    if is_frame == 0 {
        out.number(1, 1);
    }
    out.number(1, 1).number(1, 1);
    crop.iter().fold(&mut out, |out, it| out.golomb(*it)).unit(0x67)
}

fn size(unit: &[u8]) -> Option<(u16, u16)> {
    let description = alone(H264, unit);
    assert!(description.starts_keyframe && description.starts_frame);
    description.size
}

#[test]
fn sizes() {
    assert_eq!(size(&sps(66, &[], &[], (80, 45), 1, &[0; 4])), Some((1280, 720)));
    assert_eq!(size(&sps(66, &[], &[3], (120, 68), 1, &[0, 0, 0, 4])), Some((1920, 1080)));
    assert_eq!(size(&sps(100, &[1, 0], &[1, 2, 3], (120, 34), 0, &[0, 0, 0, 2])), Some((1920, 1080)), "fields");
    assert_eq!(size(&sps(100, &[2, 0], &[], (20, 15), 1, &[1, 1, 1, 1])), Some((316, 238)), "4:2:2");
    assert_eq!(size(&sps(244, &[3, 2], &[], (20, 15), 1, &[1, 1, 1, 1])), Some((318, 238)), "4:4:4");
    // As Chromium's encoder writes it, 42 e0 1f: 640 × 480.
    assert_eq!(
        size(&[0x67, 0x42, 0xe0, 0x1f, 0x8c, 0x8d, 0x40, 0x50, 0x1e, 0xd0, 0x0f, 0x08, 0x84, 0x6a]),
        Some((640, 480))
    );
}

#[test]
fn sizes_that_lie() {
    assert_eq!(size(&sps(66, &[], &[], (80, 45), 1, &[400, 300, 0, 0])), None, "cropped to nothing");
    assert_eq!(size(&sps(66, &[], &[], (80, 45), 1, &[u32::MAX / 2, u32::MAX / 2, 0, 0])), None);
    assert_eq!(size(&sps(66, &[], &[], (5000, 45), 1, &[0; 4])), None, "above 65,535");
    assert_eq!(size(&sps(66, &[], &[], (u32::MAX / 2, u32::MAX / 2), 0, &[0; 4])), None);
    assert_eq!(size(&sps(66, &[], &[0; 256], (80, 45), 1, &[0; 4])), None, "256 offsets");
    assert_eq!(size(&[&[0x67, 66, 0, 31][..], &[0; 60]].concat()), None, "a code without end");
    let whole = sps(100, &[1, 0], &[1, 2, 3], (120, 34), 0, &[0, 0, 0, 2]);
    for len in 0..whole.len() - 1 {
        assert_eq!(alone(H264, &whole[..len]).size, None, "{len}");
    }
}

#[test]
fn where_pictures_begin() {
    let begins = |payload: &[u8]| {
        let description = alone(H264, payload);
        assert_sane(&description);
        assert_eq!(description.starts_keyframe, starts_keyframe(H264, payload), "{payload:02x?}");
        description.starts_frame
    };
    assert!(begins(&[0x61, 0x9a]), "first_mb_in_slice 0");
    assert!(!begins(&[0x61, 0x5a]) && !begins(&[0x61]));
    assert!(begins(&[0x09, 0xf0]) && begins(&[0x06, 1]) && begins(&[0x68, 0xce]));
    assert!(begins(&[0x65, 0x40]), "every slice of a keyframe");
    assert!(begins(&[0x7c, 0x81, 0x9a]) && !begins(&[0x7c, 0x81, 0x1a]) && !begins(&[0x7c, 0x01, 0x9a]));
    assert!(
        begins(&[0x78, 0, 2, 0x61, 0x9a, 0, 2, 0x61, 0x1a]) && !begins(&[0x78, 0, 2, 0x61, 0x1a, 0, 2, 0x61, 0x9a])
    );
    assert!(!begins(&[0x78, 0, 0]) && !begins(&[0x78]) && !begins(&[0x7c]) && !begins(&[0xe7, 0x42]) && !begins(&[]));
}

#[test]
fn aggregates_tell_the_size() {
    let sps = sps(66, &[], &[], (80, 45), 1, &[0; 4]);
    let mut payload = vec![0x78, 0, 2, 0x09, 0xf0, 0, sps.len() as u8];
    payload.extend(&sps);
    payload.extend([0, 2, 0x68, 0xce]);
    let description = alone(H264, &payload);
    assert_eq!((description.starts_keyframe, description.size), (true, Some((1280, 720))));
    let fragment = [&[0x7c, 0x87][..], &sps[1..]].concat();
    assert_eq!(alone(H264, &fragment).size, Some((1280, 720)));
}

proptest! {
    #[test]
    fn any_size(columns in 1u32..4096, rows in 1u32..2048, crop in prop::array::uniform4(0u32..4), order in prop::collection::vec(0u32..9, 0..6)) {
        let expected = (columns * 16 - 2 * (crop[0] + crop[1]), rows * 16 - 2 * (crop[2] + crop[3]));
        let read = size(&sps(66, &[], &order, (columns, rows), 1, &crop));
        let fits = expected.0 > 0 && expected.1 > 0;
        prop_assert_eq!(read, fits.then_some((expected.0 as u16, expected.1 as u16)));
    }

    #[test]
    fn any_parameter_set(body in prop::collection::vec(any::<u8>(), 0..300), profile in prop::sample::select(vec![66u8, 100, 244])) {
        let description = alone(H264, &[&[0x67, profile, 0, 31][..], &body].concat());
        prop_assert!(description.starts_keyframe);
        prop_assert!(description.size.is_none_or(|(width, height)| width > 0 && height > 0));
    }
}
