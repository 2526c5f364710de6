//! Packets as libwebrtc sends them, written by hand from the RFCs; all of them cut at each byte; and any bytes.

mod descriptor;
mod h264;
mod vp8;
mod vp9;

use proptest::prelude::*;

use super::*;
use crate::keyframe::starts_keyframe;

const CODECS: [VideoCodec; 4] = [VideoCodec::Vp8, VideoCodec::Vp9, VideoCodec::H264, VideoCodec::Av1];

/// Without a descriptor and with nothing remembered.
fn alone(codec: VideoCodec, payload: &[u8]) -> Description {
    describe(codec, payload, &[], &mut DescriptorState::default())
}

/// The targets in a set, in order.
fn list(targets: Targets) -> Vec<(u8, u8)> {
    let all = (0..SPATIAL_MAX).flat_map(|spatial| (0..TEMPORAL_MAX).map(move |temporal| (spatial, temporal)));
    all.filter(|it| targets.contains(it.0, it.1)).collect()
}

/// What holds of any description.
fn assert_sane(description: &Description) {
    let Description { starts_keyframe, starts_frame, decodable, switch, present, spatial, temporal, .. } = *description;
    assert!(!starts_keyframe || starts_frame);
    assert!(starts_frame || (decodable, switch) == Default::default(), "only frames let anybody in");
    assert!(!starts_frame || present.and(decodable) == present, "who gets it can decode it");
    assert!(spatial < 8 && temporal < 8);
}

/// Renumbering writes what it is told, cut to the bits there are, and nothing else.
fn assert_renumbers(codec: VideoCodec, payload: &[u8], ids: PictureIds) {
    let before = alone(codec, payload);
    let mut written = payload.to_vec();
    renumber(codec, &mut written, ids);
    let after = alone(codec, &written);
    let id_mask = if before.ids.wide { 0x7fff } else { 0x7f };
    let expected = PictureIds {
        picture_id: before.ids.picture_id.map(|old| ids.picture_id.map_or(old, |new| new & id_mask)),
        wide: before.ids.wide,
        tl0: before.ids.tl0.map(|old| ids.tl0.unwrap_or(old)),
        key_index: before.ids.key_index.map(|old| ids.key_index.map_or(old, |new| new & 0x1f)),
    };
    assert_eq!(after.ids, expected, "{codec:?} {payload:02x?}");
    assert_eq!(Description { ids: before.ids, ..after }, before);
    renumber(codec, &mut written, before.ids);
    assert_eq!(written, payload, "and back");
}

fn any_ids() -> impl Strategy<Value = PictureIds> {
    let ids = (any::<Option<u16>>(), any::<Option<u8>>(), any::<Option<u8>>());
    ids.prop_map(|(picture_id, tl0, key_index)| PictureIds { picture_id, wide: false, tl0, key_index })
}

#[test]
fn sets_of_targets() {
    assert_eq!(list(Targets::ALL).len(), 16);
    assert_eq!(list(Targets::of_temporal(2)), [(0, 2), (1, 2), (2, 2), (3, 2)]);
    assert_eq!(list(Targets::from_temporal(3)), [(0, 3), (1, 3), (2, 3), (3, 3)]);
    assert_eq!(Targets::from_temporal(0), Targets::ALL);
    assert_eq!(Targets::from_spatial(0), Targets::ALL);
    assert_eq!(list(Targets::from_spatial(2).and(Targets::from_temporal(2))), [(2, 2), (2, 3), (3, 2), (3, 3)]);
    assert_eq!(list(Targets::of_spatial(1)), [(1, 0), (1, 1), (1, 2), (1, 3)]);
    assert_eq!(
        (Targets::of_spatial(7), Targets::from_temporal(7)),
        (Targets::of_spatial(3), Targets::from_temporal(3))
    );
    let mut set = Targets::default();
    set.insert(9, 9);
    assert_eq!(list(set), [(3, 3)]);
}

proptest! {
    #[test]
    fn arbitrary_bytes(payload in prop::collection::vec(any::<u8>(), 0..64), ids in any_ids()) {
        for codec in CODECS {
            let description = alone(codec, &payload);
            assert_sane(&description);
            prop_assert!(!description.starts_keyframe || starts_keyframe(codec, &payload), "{codec:?}");
            assert_renumbers(codec, &payload, ids);
        }
    }
}
