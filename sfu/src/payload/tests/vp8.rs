use rtc::rtp::codec::vp8::Vp8Packet;
use rtc::rtp::packetizer::Depacketizer;

use super::*;

/// As Chromium sends it: I, L, T and K, a picture ID of 15 bits, and a frame of which the first byte says whether it is a key.
fn packet(id: u16, tl0: u8, temporal: u8, sync: bool, key: bool) -> Vec<u8> {
    let [high, low] = (id | 0x8000).to_be_bytes();
    let mut packet = vec![0x90, 0xf0, high, low, tl0, temporal << 6 | u8::from(sync) << 5 | 3];
    // 640 × 360, of which the width is to be scaled.
    packet.extend([u8::from(!key), 0, 0, 0x9d, 0x01, 0x2a, 0x80, 0x42, 0x68, 0x01, 0xaa]);
    packet
}

#[test]
fn keyframe() {
    let description = alone(VideoCodec::Vp8, &packet(0x1234, 7, 0, false, true));
    let ids = PictureIds { picture_id: Some(0x1234), wide: true, tl0: Some(7), key_index: Some(3) };
    let expected = Description {
        starts_keyframe: true,
        starts_frame: true,
        present: Targets::ALL,
        decodable: Targets::ALL,
        switch: Targets::ALL,
        ids,
        size: Some((640, 360)),
        ..Default::default()
    };
    assert_eq!(description, expected);
}

#[test]
fn short_forms() {
    let ids = |payload: &[u8]| alone(VideoCodec::Vp8, payload).ids;
    assert_eq!(ids(&[0x10, 0x01]), PictureIds::default());
    assert_eq!(ids(&[0x90, 0x00, 0x01]), PictureIds::default());
    assert_eq!(ids(&[0x90, 0x80, 0x7f, 0x01]), PictureIds { picture_id: Some(127), ..Default::default() });
    assert_eq!(ids(&[0x90, 0x40, 0xff, 0x01]), PictureIds { tl0: Some(255), ..Default::default() });
    assert_eq!(ids(&[0x90, 0x10, 0xff, 0x01]), PictureIds { key_index: Some(31), ..Default::default() });
    assert_eq!(ids(&[0x90, 0x20, 0xff, 0x01]), PictureIds::default());
    let without_t = alone(VideoCodec::Vp8, &[0x90, 0x10, 0xff, 0x01]);
    assert_eq!((without_t.temporal, without_t.present), (0, Targets::ALL), "TID says nothing without T");
    let keyframe_without_size = alone(VideoCodec::Vp8, &[0x10, 0x00, 0, 0, 0x9d, 0x01, 0x2b, 0x80, 2, 0x68, 1]);
    assert!(keyframe_without_size.starts_keyframe && keyframe_without_size.size.is_none());
}

#[test]
fn later_packets_start_nothing() {
    for first in [0x80, 0x91, 0x82] {
        let mut payload = packet(1, 1, 1, true, true);
        payload[0] = first;
        let description = alone(VideoCodec::Vp8, &payload);
        assert_sane(&description);
        assert!(!description.starts_frame && !description.starts_keyframe, "{first:02x}");
        assert_eq!((description.temporal, description.present), (1, Targets::from_temporal(1)));
    }
}

/// A decoder that knows which frames are in libwebrtc's three buffers, and never shows what refers to one that it has not.
#[test]
fn nobody_loses_a_reference() {
    // Temporal layer, buffers that the frame refers to and buffers that it updates (1 last, 2 golden, 4 altref), Y.
    type Frame = (u8, u8, u8, bool);
    let usual: &[Frame] = &[
        (0, 1, 1, false),
        (2, 1, 0, true),
        (1, 1, 2, true),
        (2, 3, 0, false),
        (0, 1, 1, false),
        (2, 3, 0, false),
        (1, 3, 2, false),
        (2, 3, 0, false),
    ];
    let short: &[Frame] = &[(0, 1, 1, false), (2, 1, 4, true), (1, 1, 2, true), (2, 7, 0, false)];
    let four: &[Frame] = &[
        (0, 1, 1, false),
        (3, 1, 0, true),
        (2, 1, 4, true),
        (3, 5, 0, false),
        (1, 1, 2, true),
        (3, 7, 0, false),
        (2, 7, 4, false),
        (3, 7, 0, false),
    ];
    let two: &[Frame] = &[(0, 1, 1, false), (1, 1, 2, true), (0, 1, 1, false), (1, 3, 0, false)];
    for pattern in [usual, short, four, two] {
        let highest = pattern.iter().map(|it| it.0).max().unwrap();
        for (from, to) in (0..=highest).flat_map(|from| (0..=highest).map(move |to| (from, to))) {
            for asked_at in 0..pattern.len() {
                let (mut target, mut stale, mut arrived_after) = (from, 0u8, None);
                for (index, &(temporal, refers, updates, sync)) in pattern.iter().cycle().take(40).enumerate() {
                    let description = alone(VideoCodec::Vp8, &packet(9, 9, temporal, sync, false));
                    if index >= asked_at && arrived_after.is_none() {
                        // As far as it goes.
                        let steps = if to > target { (target + 1..=to).rev().collect() } else { vec![to] };
                        target = steps
                            .into_iter()
                            .find(|it| description.may_switch((0, target), (0, *it)))
                            .unwrap_or(target);
                        arrived_after = (target == to).then_some(index - asked_at);
                    }
                    if description.present.contains(0, target) {
                        assert_eq!(refers & stale, 0, "{from} to {to}, frame {index} of {pattern:?}");
                        stale &= !updates;
                    } else {
                        stale |= updates;
                    }
                }
                assert!(arrived_after.is_some_and(|frames| frames < 2 * pattern.len()), "{from} to {to}");
            }
        }
    }
}

#[test]
fn truncated() {
    let whole = packet(0x1234, 7, 2, true, true);
    for len in 0..whole.len() {
        let description = alone(VideoCodec::Vp8, &whole[..len]);
        assert_sane(&description);
        assert_eq!(description.starts_keyframe, len > 6, "{len}");
        assert_eq!(description.size.is_some(), len >= 16, "{len}");
        let nothing = Description { present: Targets::ALL, ..Default::default() };
        assert!(len > 6 || description == nothing, "{len}");
    }
}

proptest! {
    /// The depacketizer of another stack reads the same.
    #[test]
    fn as_rtc_reads_it(payload in prop::collection::vec(any::<u8>(), 0..16), ids in any_ids()) {
        let mut theirs = Vp8Packet::default();
        let read = theirs.depacketize(&payload.clone().into());
        let ours = alone(VideoCodec::Vp8, &payload);
        // They refuse payloads under four bytes, and say nothing of absent fields.
        if let Ok(frame) = read {
            prop_assert!(!frame.is_empty());
            prop_assert_eq!(ours.ids.picture_id.unwrap_or(0), theirs.picture_id);
            prop_assert_eq!(ours.ids.picture_id.is_some(), theirs.i == 1);
            prop_assert_eq!(ours.ids.tl0, (theirs.l == 1).then_some(theirs.tl0_pic_idx));
            prop_assert_eq!(ours.ids.key_index, (theirs.k == 1).then_some(theirs.key_idx));
            prop_assert_eq!(ours.temporal, theirs.tid);
            prop_assert_eq!(ours.starts_frame, theirs.s == 1 && theirs.pid == 0);
            assert_renumbers(VideoCodec::Vp8, &payload, ids);
        } else if payload.len() >= 4 {
            prop_assert_eq!(ours, Description { present: Targets::ALL, ..Default::default() });
        }
    }
}
