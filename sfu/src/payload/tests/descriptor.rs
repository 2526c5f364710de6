use super::*;

/// Writes what appendix A reads.
#[derive(Default)]
struct Writer {
    bits: Vec<bool>,
}

impl Writer {
    fn number(&mut self, value: u32, bits: u32) -> &mut Self {
        self.bits.extend((0..bits).rev().map(|it| value >> it & 1 != 0));
        self
    }

    fn non_symmetric(&mut self, value: u32, n: u32) -> &mut Self {
        let width = u32::BITS - n.leading_zeros();
        let short = (1 << width) - n;
        if value < short { self.number(value, width - 1) } else { self.number(value + short, width) }
    }

    fn indications(&mut self, all: &str) {
        for of in all.chars() {
            self.number("-DSR".find(of).unwrap() as u32, 2);
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let byte = |bits: &[bool]| bits.iter().enumerate().map(|(at, bit)| u8::from(*bit) << (7 - at)).sum();
        self.bits.chunks(8).map(byte).collect()
    }
}

/// A template: spatial and temporal layer, indications (`-`, `D`, `S`, `R`), references.
type Template = (u8, u8, &'static str, &'static [u32]);

/// A template structure as libwebrtc writes it.
#[derive(Clone, Copy)]
struct Structure {
    id: u32,
    templates: &'static [Template],
    chains: u32,
    sizes: &'static [(u16, u16)],
}

impl Structure {
    fn decode_targets(&self) -> u32 {
        self.templates[0].2.len() as u32
    }

    fn write(&self, out: &mut Writer) {
        out.number(self.id, 6).number(self.decode_targets() - 1, 5);
        for (index, template) in self.templates.iter().enumerate() {
            let next = match self.templates.get(index + 1) {
                None => 3,
                Some(next) if next.0 > template.0 => 2,
                Some(next) => u32::from(next.1 > template.1),
            };
            out.number(next, 2);
        }
        for indications in self.templates.iter().map(|it| it.2) {
            out.indications(indications);
        }
        for template in self.templates {
            for reference in template.3 {
                out.number(1, 1).number(reference - 1, 4);
            }
            out.number(0, 1);
        }
        out.non_symmetric(self.chains, self.decode_targets() + 1);
        if self.chains > 0 {
            for target in 0..self.decode_targets() {
                out.non_symmetric(target % self.chains, self.chains);
            }
            for _ in self.templates {
                out.number(0x5555, 4 * self.chains);
            }
        }
        out.number(u32::from(!self.sizes.is_empty()), 1);
        for (width, height) in self.sizes {
            out.number(u32::from(width - 1), 16).number(u32::from(height - 1), 16);
        }
    }

    /// A frame of a template, in one packet.
    fn frame(&self, template: u32, number: u16) -> Vec<u8> {
        let mut out = Writer::default();
        out.number(3, 2).number((self.id + template) % 64, 6).number(u32::from(number), 16);
        out.bytes()
    }

    /// The first packet of a keyframe, or of any frame that brings the structure.
    fn key(&self, template: u32, number: u16) -> Vec<u8> {
        let mut out = Writer::default();
        out.number(3, 2).number((self.id + template) % 64, 6).number(u32::from(number), 16).number(0b10000, 5);
        self.write(&mut out);
        out.bytes()
    }

    /// With a mask of active decode targets.
    fn active(&self, template: u32, number: u16, mask: u32) -> Vec<u8> {
        let mut out = Writer::default();
        out.number(3, 2).number((self.id + template) % 64, 6).number(u32::from(number), 16).number(0b01000, 5);
        out.number(mask, self.decode_targets());
        out.bytes()
    }

    /// With indications and references of its own, and chains that nobody reads.
    fn custom(&self, template: u32, number: u16, indications: &str, references: &[u32]) -> Vec<u8> {
        let mut out = Writer::default();
        out.number(3, 2).number((self.id + template) % 64, 6).number(u32::from(number), 16).number(0b00111, 5);
        out.indications(indications);
        for reference in references {
            let nibbles = (u32::BITS - (reference - 1).leading_zeros()).div_ceil(4).max(1);
            out.number(nibbles, 2).number(reference - 1, 4 * nibbles);
        }
        out.number(0, 2).number(0, 8 * self.chains);
        out.bytes()
    }
}

const L1T3: Structure = Structure {
    id: 60,
    templates: &[
        (0, 0, "SSS", &[]),
        (0, 0, "SSS", &[4]),
        (0, 1, "-DS", &[2]),
        (0, 2, "--D", &[1]),
        (0, 2, "--D", &[1]),
    ],
    chains: 1,
    sizes: &[(1280, 720)],
};

const SIZES: &[(u16, u16)] = &[(320, 180), (640, 360), (1280, 720)];

const L3T3: Structure = Structure {
    id: 0,
    templates: &[
        (0, 0, "SSSRRRRRR", &[12]),
        (0, 0, "SSSSSSSSS", &[]),
        (0, 1, "-DS-RR-RR", &[6]),
        (0, 2, "--D--R--R", &[3]),
        (0, 2, "--D--R--R", &[3]),
        (1, 0, "---SSSRRR", &[12, 1]),
        (1, 0, "---SSSSSS", &[1]),
        (1, 1, "----DS-RR", &[6, 1]),
        (1, 2, "-----D--R", &[3, 1]),
        (1, 2, "-----D--R", &[3, 1]),
        (2, 0, "------SSS", &[12, 1]),
        (2, 0, "------SSS", &[1]),
        (2, 1, "-------DS", &[6, 1]),
        (2, 2, "--------D", &[3, 1]),
        (2, 2, "--------D", &[3, 1]),
    ],
    chains: 3,
    sizes: SIZES,
};

const L3T3_KEY: Structure = Structure {
    id: 20,
    templates: &[
        (0, 0, "SSSSSSSSS", &[]),
        (0, 0, "SSS------", &[12]),
        (0, 1, "-DS------", &[6]),
        (0, 2, "--D------", &[3]),
        (0, 2, "--D------", &[3]),
        (1, 0, "---SSSSSS", &[1]),
        (1, 0, "---SSS---", &[12]),
        (1, 1, "----DS---", &[6]),
        (1, 2, "-----D---", &[3]),
        (1, 2, "-----D---", &[3]),
        (2, 0, "------SSS", &[1]),
        (2, 0, "------SSS", &[12]),
        (2, 1, "-------DS", &[6]),
        (2, 2, "--------D", &[3]),
        (2, 2, "--------D", &[3]),
    ],
    chains: 3,
    sizes: SIZES,
};

/// Templates of the four pictures of a cycle, lowest layer first, and of the keyframe that stands for the first.
fn cycle(structure: &Structure) -> (Vec<Vec<u32>>, Vec<u32>) {
    match structure.templates.len() {
        5 => (vec![vec![1], vec![3], vec![2], vec![4]], vec![0]),
        _ if structure.id == 0 => {
            (vec![vec![0, 5, 10], vec![3, 8, 13], vec![2, 7, 12], vec![4, 9, 14]], vec![1, 6, 11])
        }
        _ => (vec![vec![1, 6, 11], vec![3, 8, 13], vec![2, 7, 12], vec![4, 9, 14]], vec![0, 5, 10]),
    }
}

/// Descriptors of some pictures, and the frames that each refers to.
fn stream(structure: &Structure, pictures: usize, key_every: usize) -> Vec<(Vec<u8>, Vec<u16>, bool)> {
    let (cycle, key) = cycle(structure);
    let mut number = 65_500u16;
    let mut all = Vec::new();
    for picture in 0..pictures {
        let is_key = picture % key_every == 0;
        let templates = if is_key { &key } else { &cycle[picture % key_every % 4] };
        for (layer, template) in templates.iter().enumerate() {
            let begins = is_key && layer == 0;
            let bytes = if begins { structure.key(*template, number) } else { structure.frame(*template, number) };
            let references = structure.templates[*template as usize].3;
            all.push((bytes, references.iter().map(|it| number.wrapping_sub(*it as u16)).collect(), begins));
            number = number.wrapping_add(1);
        }
    }
    all
}

fn tell(descriptor: &[u8], state: &mut DescriptorState) -> Description {
    describe(VideoCodec::Av1, &[0x10, 0x32], descriptor, state)
}

#[test]
fn layers_read_back() {
    for structure in [&L1T3, &L3T3, &L3T3_KEY] {
        let mut state = DescriptorState::default();
        let top = structure.templates.last().unwrap();
        for (index, (bytes, ..)) in stream(structure, 16, 16).iter().enumerate() {
            let description = tell(bytes, &mut state);
            assert_sane(&description);
            let (cycle, key) = cycle(structure);
            let layers = key.len();
            let template = if index < layers { key[index] } else { cycle[index / layers % 4][index % layers] };
            let (spatial, temporal, indications, _) = structure.templates[template as usize];
            assert_eq!((description.spatial, description.temporal), (spatial, temporal));
            assert_eq!((description.starts_frame, description.ends_frame), (true, true));
            assert_eq!(description.starts_keyframe, index == 0);
            assert_eq!(description.size, structure.sizes.get(usize::from(spatial)).copied());
            for (bit, of) in indications.chars().enumerate() {
                let (spatial, temporal) = ((bit / 3) as u8, (bit % 3) as u8);
                assert_eq!(description.present.contains(spatial, temporal), of != '-');
                assert_eq!(description.switch.contains(spatial, temporal), of == 'S');
            }
            let beyond = !indications.ends_with('-');
            assert_eq!(description.present.contains(3, 3), beyond, "counts as the highest there is");
            assert_eq!(description.present.contains(top.0, 3), description.present.contains(top.0, 2));
        }
    }
}

/// Whoever goes where `may_switch` lets him misses no frame that another refers to; and temporal layers are climbed soon.
#[test]
fn nobody_loses_a_reference() {
    for structure in [&L1T3, &L3T3, &L3T3_KEY] {
        let top = structure.templates.last().unwrap().0;
        let targets: Vec<(u8, u8)> =
            (0..=top).flat_map(|spatial| (0..3).map(move |temporal| (spatial, temporal))).collect();
        for (from, to) in targets.iter().flat_map(|from| targets.iter().map(move |to| (*from, *to))) {
            for asked_at in (5..30).step_by(4) {
                let mut state = DescriptorState::default();
                let (mut target, mut got, mut waited) = (from, std::collections::HashSet::new(), None);
                for (index, (bytes, references, begins)) in stream(structure, 36, 16).iter().enumerate() {
                    let description = tell(bytes, &mut state);
                    if index >= asked_at && waited.is_none() && description.may_switch(target, to) {
                        (target, waited) = (to, Some((index - asked_at, *begins)));
                    }
                    if description.present.contains(target.0, target.1) {
                        assert!(references.iter().all(|it| got.contains(it)), "{from:?} to {to:?}, frame {index}");
                        got.insert(u16::from_be_bytes([bytes[1], bytes[2]]));
                    }
                }
                let (frames, at_key) = waited.expect("a keyframe comes at last");
                // Between keyframes nothing but them leads to a higher spatial layer, where all refer to the same ones below.
                assert!(at_key || structure.id != 0 || to.0 <= from.0, "{from:?} to {to:?}");
                let same_frames_below = to.0 == from.0 || structure.id == 0 && to.0 < from.0;
                assert!(frames <= 15 || !same_frames_below, "{from:?} to {to:?} took {frames} frames");
            }
        }
    }
}

#[test]
fn a_layer_that_begins_anew_lets_in_those_below() {
    // The middle layer comes back without a keyframe, and refers to the base layer alone.
    let mut state = DescriptorState::default();
    tell(&L3T3.key(1, 100), &mut state);
    tell(&L3T3.frame(0, 112), &mut state);
    let again = tell(&L3T3.frame(6, 113), &mut state);
    assert!(again.may_switch((0, 2), (1, 2)) && again.may_switch((0, 2), (2, 2)));
    let usual = tell(&L3T3.frame(5, 125), &mut state);
    assert!(!usual.may_switch((0, 2), (1, 2)));
}

#[test]
fn frames_may_differ_from_their_template() {
    let mut state = DescriptorState::default();
    tell(&L1T3.key(0, 9), &mut state);
    let custom = tell(&L1T3.custom(2, 10, "-RS", &[1, 16, 17, 256, 257, 4096]), &mut state);
    assert_eq!((custom.spatial, custom.temporal, custom.starts_frame), (0, 1, true));
    assert_eq!(list(custom.present)[..3], [(0, 1), (0, 2), (0, 3)]);
    assert_eq!(list(custom.switch)[..2], [(0, 2), (0, 3)]);
    assert!(!custom.decodable.contains(0, 0), "what it refers to is not known");
    let known = tell(&L1T3.custom(2, 11, "-RS", &[2]), &mut state);
    assert!(known.may_switch((0, 0), (0, 2)));
    let nothing = tell(&L1T3.custom(2, 12, "-RS", &[1; 9]), &mut state);
    assert_eq!(nothing, tell(&[], &mut state), "nine references");
}

#[test]
fn what_is_not_sent_is_served_by_what_is() {
    let mut state = DescriptorState::default();
    tell(&L3T3.key(1, 0), &mut state);
    // Only the base layer and two temporal layers of the middle.
    let base = tell(&L3T3.active(0, 12, 0b000_011_111), &mut state);
    assert_eq!(base.present, Targets::ALL);
    let middle = tell(&L3T3.frame(7, 13), &mut state);
    assert_eq!(list(middle.present)[..3], [(1, 1), (1, 2), (1, 3)]);
    assert!(middle.present.contains(2, 2) && middle.present.contains(3, 1) && !middle.present.contains(2, 0));
    // It lasts until a structure comes.
    assert!(!tell(&L3T3.frame(8, 14), &mut state).present.contains(1, 2));
    tell(&L3T3.key(1, 15), &mut state);
    assert!(tell(&L3T3.frame(8, 16), &mut state).present.contains(1, 2));
    // Nothing is sent at all.
    assert_eq!(tell(&L3T3.active(0, 17, 0), &mut state).present, Targets::default());
}

#[test]
fn structures_are_replaced_by_newer_ones_only() {
    let mut state = DescriptorState::default();
    let own = tell(&[], &mut state);
    assert_eq!(tell(&L1T3.frame(1, 8), &mut state), own, "no structure yet");
    tell(&L1T3.key(0, 10), &mut state);
    assert_eq!(tell(&L3T3_KEY.frame(6, 21), &mut state), own, "of a structure that has not come yet");
    assert!(tell(&L3T3_KEY.key(0, 20), &mut state).starts_keyframe);
    assert_eq!(tell(&L3T3_KEY.frame(6, 21), &mut state).spatial, 1);
    assert_eq!(tell(&L1T3.key(0, 10), &mut state), own, "sent again");
    assert_eq!(tell(&L3T3_KEY.frame(6, 33), &mut state).spatial, 1);
    assert!(tell(&L3T3_KEY.key(0, 20), &mut state).starts_keyframe, "sent again, and still what holds");
    assert!(tell(&L1T3.key(0, 40_000), &mut state).starts_keyframe, "an encoder that counts anew");
    assert_eq!(tell(&L1T3.frame(2, 40_001), &mut state).temporal, 1);
}

#[test]
fn codecs_keep_their_numbers() {
    let mut state = DescriptorState::default();
    let payload = [0x90, 0xf0, 0x81, 0x02, 7, 0xa0, 0x01];
    let description = describe(VideoCodec::Vp8, &payload, &L1T3.key(0, 1), &mut state);
    assert_eq!((description.ids, description.temporal), (alone(VideoCodec::Vp8, &payload).ids, 0));
    assert_eq!(description.size, Some((1280, 720)));
    assert_eq!(describe(VideoCodec::Vp8, &payload, &[], &mut state).temporal, 2, "no descriptor, no word of it");
}

#[test]
fn later_packets_start_nothing() {
    let mut state = DescriptorState::default();
    tell(&L1T3.key(0, 1), &mut state);
    let mut bytes = L1T3.frame(2, 3);
    bytes[0] &= 0x7f;
    let description = tell(&bytes, &mut state);
    assert_sane(&description);
    assert!(!description.starts_frame && description.ends_frame && description.present.contains(0, 1));
}

#[test]
fn lies() {
    let own = tell(&[], &mut DescriptorState::default());
    for structure in [&L1T3, &L3T3, &L3T3_KEY] {
        let whole = structure.key(if structure.id == 0 { 1 } else { 0 }, 5);
        for len in 0..whole.len() {
            let mut state = DescriptorState::default();
            assert_eq!(tell(&whole[..len], &mut state), own, "{len}");
            // Nor does it tear what was known.
            tell(&L1T3.key(0, 1), &mut state);
            tell(&whole[..len], &mut state);
            assert_eq!(tell(&L1T3.frame(2, 3), &mut state).temporal, 1, "{len}");
        }
    }
    // Templates without end, spatial layers without end, temporal layers without end.
    for next in [0x00, 0xaa, 0x55] {
        let mut state = DescriptorState::default();
        assert_eq!(tell(&[&[0xc0, 0, 1, 0x80, 0][..], &[next; 250]].concat(), &mut state), own);
    }
    let mut state = DescriptorState::default();
    tell(&L1T3.key(0, 1), &mut state);
    for template in 5..64 {
        assert_eq!(tell(&L1T3.frame(template, 2), &mut state), own, "no such template");
    }
}

proptest! {
    /// Any bytes after a real keyframe, one after the other.
    #[test]
    fn arbitrary_descriptors(all in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..20), which in 0usize..3) {
        let mut state = DescriptorState::default();
        let structure = [L1T3, L3T3, L3T3_KEY][which];
        tell(&structure.key(if which == 1 { 1 } else { 0 }, 5), &mut state);
        for bytes in &all {
            assert_sane(&tell(bytes, &mut state));
        }
    }

    /// Real ones with some bits turned over.
    #[test]
    fn damaged_descriptors(which in 0usize..3, damage in prop::collection::vec((0usize..200, any::<u8>()), 1..12)) {
        let mut state = DescriptorState::default();
        let mut stream = stream(&[L1T3, L3T3, L3T3_KEY][which], 12, 5);
        for (at, bits) in damage {
            let index = at % stream.len();
            let bytes = &mut stream[index].0;
            let at = at * 7 % bytes.len();
            bytes[at] ^= bits;
        }
        for (bytes, ..) in &stream {
            assert_sane(&tell(bytes, &mut state));
        }
    }
}
