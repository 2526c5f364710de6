//! Payload descriptors and dependency descriptors.

use sfu::keyframe::{VideoCodec, starts_keyframe};
use sfu::payload::{Description, DescriptorState, PictureIds, describe, renumber};

const CODECS: [VideoCodec; 4] = [VideoCodec::Vp8, VideoCodec::Vp9, VideoCodec::H264, VideoCodec::Av1];

/// Other numbers than any that a fuzzer writes more often than others.
const NUMBERS: PictureIds = PictureIds { picture_id: Some(0x5a3c), wide: true, tl0: Some(0xa7), key_index: Some(0x15) };

/// A codec and a payload: what it says holds together, and other numbers can be written into it and taken back.
pub fn payload(data: &[u8]) {
    let Some((codec, payload)) = data.split_first() else { return };
    let codec = CODECS[usize::from(codec % 4)];
    let read = |payload: &[u8]| describe(codec, payload, &[], &mut DescriptorState::default());
    let description = read(payload);
    sane(&description);
    assert!(!description.starts_keyframe || starts_keyframe(codec, payload));
    let mut written = payload.to_vec();
    renumber(codec, &mut written, NUMBERS);
    let Description { ids, .. } = read(&written);
    let id = if ids.wide { 0x5a3c } else { 0x3c };
    assert_eq!(ids.picture_id, description.ids.picture_id.map(|_| id));
    assert_eq!(ids.tl0, description.ids.tl0.map(|_| 0xa7));
    assert_eq!(ids.key_index, description.ids.key_index.map(|_| 0x15));
    assert_eq!(Description { ids: description.ids, ..read(&written) }, description);
    renumber(codec, &mut written, description.ids);
    assert_eq!(written, payload);
}

/// Dependency descriptors of one stream, each behind a byte that says its length.
pub fn descriptor(mut data: &[u8]) {
    let mut state = DescriptorState::default();
    while let Some((len, rest)) = data.split_first() {
        let (one, rest) = rest.split_at(usize::from(*len).min(rest.len()));
        sane(&describe(VideoCodec::Av1, &[0x10, 0x32], one, &mut state));
        data = rest;
    }
}

fn sane(description: &Description) {
    let Description { starts_keyframe, starts_frame, present, decodable, switch, .. } = *description;
    assert!(starts_frame || !starts_keyframe);
    assert!(starts_frame || decodable.0 | switch.0 == 0, "only frames let anybody in");
    assert!(!starts_frame || present.0 & !decodable.0 == 0, "who gets it can decode it");
    assert!(description.spatial < 8 && description.temporal < 8);
}
