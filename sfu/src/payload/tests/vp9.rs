use rtc::rtp::codec::vp9::Vp9Packet;
use rtc::rtp::packetizer::Depacketizer;

use super::*;

const VP9: VideoCodec = VideoCodec::Vp9;
/// I, L, B and E: a whole frame of a layer.
const WHOLE: u8 = 0xac;
const P: u8 = 0x40;
const V: u8 = 0x02;
const Z: u8 = 0x01;
/// Three layers, their sizes, and no picture group.
const THREE_LAYERS: [u8; 13] = [0x50, 1, 64, 0, 180, 2, 128, 1, 104, 5, 0, 2, 208];

/// Of the non-flexible mode, with a picture ID of 15 bits.
fn packet(flags: u8, spatial: u8, temporal: u8, up: bool) -> Vec<u8> {
    let inter_layer = u8::from(spatial > 0);
    let mut packet = vec![flags, 0x92, 0x34, temporal << 5 | u8::from(up) << 4 | spatial << 1 | inter_layer, 7];
    if flags & V != 0 {
        packet.extend(THREE_LAYERS);
    }
    packet.extend([0x82, 0x49, 0x83]);
    packet
}

/// What packets say one after the other.
fn play(packets: &[Vec<u8>]) -> Vec<Description> {
    let mut state = DescriptorState::default();
    packets.iter().map(|packet| describe(VP9, packet, &[], &mut state)).collect()
}

#[test]
fn keyframe_with_a_structure() {
    let pictures = play(&[
        packet(WHOLE | V, 0, 0, true),
        packet(WHOLE, 1, 0, true),
        packet(WHOLE, 2, 0, true),
        packet(WHOLE, 7, 0, true),
    ]);
    let ids = PictureIds { picture_id: Some(0x1234), wide: true, tl0: Some(7), key_index: None };
    let expected = Description {
        starts_keyframe: true,
        starts_frame: true,
        ends_frame: true,
        present: Targets::ALL,
        decodable: Targets::ALL,
        switch: Targets::ALL,
        ids,
        size: Some((320, 180)),
        ..Default::default()
    };
    assert_eq!(pictures[0], expected);
    let sizes: Vec<_> = pictures.iter().map(|it| (it.spatial, it.starts_keyframe, it.size)).collect();
    assert_eq!(sizes[1..3], [(1, false, Some((640, 360))), (2, false, Some((1280, 720)))]);
    assert_eq!(pictures[3].spatial, 7);
    // A layer without inter-picture prediction lets in those of the layer below, though not those of the one below that.
    assert!(pictures[2].may_switch((1, 0), (2, 2)) && !pictures[2].may_switch((0, 0), (2, 2)));
    assert!(pictures[1].may_switch((0, 2), (1, 2)) && !pictures[1].may_switch((0, 2), (2, 2)));
}

#[test]
fn full_svc() {
    let all = play(&[
        packet(WHOLE | V, 0, 0, true),
        packet(WHOLE | P, 0, 0, true),
        packet(WHOLE | P, 1, 0, true),
        packet(WHOLE | P | Z, 2, 0, true),
        packet(WHOLE | P, 1, 2, false),
    ]);
    let [_, base, middle, top, second] = all[..] else { unreachable!() };
    assert_eq!(base.present, Targets::ALL);
    assert_eq!(middle.present, Targets::from_spatial(1));
    assert_eq!(
        top.present,
        Targets::from_spatial(2),
        "a target above the highest layer counts as of it, whatever Z says"
    );
    assert_eq!(list(second.present), [(1, 2), (1, 3), (2, 2), (2, 3), (3, 2), (3, 3)]);
    // Up one more frame rate, with the layer's own frame; down to a lower picture.
    assert!(base.may_switch((0, 0), (0, 2)) && !base.may_switch((0, 0), (1, 2)));
    assert!(middle.may_switch((1, 0), (1, 2)) && top.may_switch((2, 0), (2, 2)));
    assert!(base.may_switch((2, 2), (0, 2)) && middle.may_switch((2, 2), (1, 1)));
    assert!(!middle.may_switch((0, 2), (1, 2)), "what it refers to was not sent to those below");
    assert!(!second.may_switch((1, 1), (1, 2)) && second.may_switch((2, 2), (1, 2)));
}

#[test]
fn key_svc() {
    // Between keyframes no layer is for those above it.
    let all =
        play(&[packet(WHOLE | V, 0, 0, true), packet(WHOLE | P | Z, 0, 0, true), packet(WHOLE | P | Z, 1, 2, true)]);
    assert_eq!(all[0].present, Targets::ALL);
    assert_eq!(all[1].present, Targets::of_spatial(0));
    assert_eq!(list(all[2].present), [(1, 2), (1, 3)]);
    assert!(all[1].may_switch((0, 0), (0, 2)));
    assert!(!all[1].may_switch((2, 2), (0, 2)), "those above did not get its references");
}

#[test]
fn one_layer() {
    let key = alone(VP9, &[0x0c, 0x82]);
    assert!(key.starts_keyframe && key.starts_frame && key.ends_frame);
    assert_eq!(
        (key.present, key.decodable, key.switch, key.ids),
        (Targets::ALL, Targets::ALL, Targets::ALL, Default::default())
    );
    let amid = alone(VP9, &[0xc0, 0x7f, 0x82]);
    assert_eq!(
        amid,
        Description {
            present: Targets::ALL,
            ids: PictureIds { picture_id: Some(127), ..Default::default() },
            ..Default::default()
        }
    );
    assert!(alone(VP9, &[0xc4, 0x7f, 0x82]).ends_frame);
}

#[test]
fn flexible_mode() {
    // I, P, L, F, B: layer byte without TL0PICIDX, then references.
    let description = alone(VP9, &[0xf8, 0x05, 0x30, 0x03, 0x05, 0x06, 0x82]);
    assert_eq!((description.temporal, description.ids.tl0, description.starts_frame), (1, None, true));
    assert!(description.may_switch((0, 1), (0, 2)), "U");
    let unreadable = Description { present: Targets::ALL, ..Default::default() };
    assert_eq!(alone(VP9, &[0xf8, 0x05, 0x30, 0x03, 0x05, 0x07, 0x02, 0x82]), unreadable, "four references");
    assert_eq!(alone(VP9, &[0xf8, 0x05, 0x30, 0x02]), unreadable, "nothing behind the references");
}

#[test]
fn picture_groups_are_passed_over() {
    // N_S 0, no sizes, a group of two pictures with one and two references.
    let mut payload = vec![0x8a, 0x05, 0x08, 2, 0x04, 1, 0x28, 1, 2];
    assert!(!alone(VP9, &payload).starts_keyframe, "nothing behind the structure");
    payload.push(0x82);
    assert!(alone(VP9, &payload).starts_keyframe);
}

#[test]
fn truncated() {
    let whole = packet(WHOLE | V, 0, 0, true);
    for len in 0..whole.len() {
        let mut state = DescriptorState::default();
        let description = describe(VP9, &whole[..len], &[], &mut state);
        assert_sane(&description);
        assert_eq!(description.starts_keyframe, len > 5 + THREE_LAYERS.len(), "{len}");
        assert_eq!(description.size.is_some(), description.starts_keyframe, "half a structure is none");
    }
}

proptest! {
    /// The depacketizer of another stack reads the same.
    #[test]
    fn as_rtc_reads_it(payload in prop::collection::vec(any::<u8>(), 1..40), plain in any::<bool>(), ids in any_ids()) {
        let mut payload = payload;
        if plain {
            payload[0] &= !V;
        }
        let mut theirs = Vp9Packet::default();
        let read = theirs.depacketize(&payload.clone().into());
        let mut state = DescriptorState::default();
        let ours = describe(VP9, &payload, &[], &mut state);
        assert_renumbers(VP9, &payload, ids);
        // They take G to be any of three bits, of which RFC 9628 reserves two, and count a fourth reference.
        let known = !theirs.v || !theirs.g;
        if let Ok(frame) = read && !frame.is_empty() && known {
            prop_assert_eq!(ours.ids.picture_id, theirs.i.then_some(theirs.picture_id));
            prop_assert_eq!(ours.ids.tl0, (theirs.l && !theirs.f).then_some(theirs.tl0picidx));
            prop_assert_eq!((ours.spatial, ours.temporal), (theirs.sid, theirs.tid));
            prop_assert_eq!((ours.starts_frame, ours.ends_frame), (theirs.b, theirs.e));
            if theirs.v && theirs.b {
                let sizes = state.vp9.sizes().map(|it| it[0]);
                prop_assert_eq!(sizes, theirs.width.first().copied().zip(theirs.height.first().copied()));
            }
        }
    }
}
