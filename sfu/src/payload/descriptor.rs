//! The dependency descriptor: appendix A of "RTP Payload Format For AV1", AOMedia.

use super::bits::Bits;
use super::{Description, SPATIAL_MAX, Targets};

/// Template IDs have 6 bits.
const TEMPLATES_MAX: usize = 64;
/// The format has 5 bits for their number.
const DECODE_TARGETS_MAX: usize = 32;
/// Frames that one refers to. No codec here refers to more than 8; of a template or a frame with more nothing is believed.
const REFERENCES_MAX: usize = 8;
/// Frames that are remembered to know who has what others refer to; who refers to older ones lets in only those that got it
/// anyway. Two cycles of three temporal and two spatial layers.
const FRAMES_MAX: usize = 16;
/// A structure that comes so many frames behind the newest, or fewer, is a retransmission and changes nothing; one that is
/// older yet is of an encoder that counts anew.
const LATE_FRAMES_MAX: u16 = 128;
/// Of a target that no active decode target serves.
const UNSERVED: u8 = u8::MAX;

/// Frame numbers before this one to which a frame refers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct References {
    differences: [u16; REFERENCES_MAX],
    len: u8,
}

impl References {
    fn push(&mut self, difference: u16) -> Option<()> {
        *self.differences.get_mut(usize::from(self.len))? = difference;
        self.len += 1;
        Some(())
    }

    fn iter(&self) -> impl Iterator<Item = u16> {
        self.differences.into_iter().take(usize::from(self.len))
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Template {
    spatial: u8,
    temporal: u8,
    /// For each decode target: 0 not present, 1 discardable, 2 switch, 3 required.
    indications: [u8; DECODE_TARGETS_MAX],
    references: References,
}

/// The structure that came with the last keyframe.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Structure {
    /// ID of the first template.
    id: u8,
    decode_targets: u8,
    /// At most [`TEMPLATES_MAX`].
    templates: Vec<Template>,
    /// Width and height of each spatial layer in pixels.
    sizes: Option<[(u16, u16); SPATIAL_MAX as usize]>,
}

/// What is remembered of a stream with descriptors.
#[derive(Clone, Debug)]
pub(super) struct Memory {
    structure: Structure,
    /// Where the next structure is read into, so that none is torn by a lie; it is kept for its allocation.
    spare: Structure,
    /// One bit for each decode target that the publisher sends now.
    active: u32,
    /// For each target, the decode target that serves it: the best active one that is not above it, or [`UNSERVED`].
    serving: [u8; 16],
    /// Number of the newest frame.
    newest: u16,
    /// Numbers of the last frames, and for whom they were present; a ring.
    frames: [(u16, Targets); FRAMES_MAX],
    next_frame: usize,
}

/// The fields of one descriptor that come before its structure.
struct Fields {
    starts_frame: bool,
    ends_frame: bool,
    template_id: u8,
    number: u16,
    has_structure: bool,
    has_active: bool,
    has_indications: bool,
    has_references: bool,
}

/// A.8.1: `mandatory_descriptor_fields`, and the flags of `extended_descriptor_fields` if there is a fourth byte.
fn fields(bits: &mut Bits, is_extended: bool) -> Option<Fields> {
    let (starts_frame, ends_frame) = (bits.flag()?, bits.flag()?);
    let (template_id, number) = (bits.number(6)? as u8, bits.number(16)? as u16);
    let mut flags = [false; 5];
    if is_extended {
        for flag in &mut flags {
            *flag = bits.flag()?;
        }
    }
    // The last, custom chains, stands for what comes last and is not read.
    let [has_structure, has_active, has_indications, has_references, _] = flags;
    Some(Fields {
        starts_frame,
        ends_frame,
        template_id,
        number,
        has_structure,
        has_active,
        has_indications,
        has_references,
    })
}

/// What a descriptor says of its packet; `None` if it lies, or if its structure never came.
pub(super) fn describe(descriptor: &[u8], memory: &mut Option<Box<Memory>>) -> Option<Description> {
    let mut bits = Bits::new(descriptor);
    let fields = fields(&mut bits, descriptor.len() > 3)?;
    if fields.has_structure {
        Memory::learn(memory, &mut bits, fields.number)?;
    }
    memory.as_deref_mut()?.frame(&fields, &mut bits)
}

impl Memory {
    /// Reads a structure, and remembers it unless it is late. `None` if it lies, or if it is late and another one by now.
    fn learn(memory: &mut Option<Box<Memory>>, bits: &mut Bits, number: u16) -> Option<()> {
        let Some(known) = memory.as_deref_mut() else {
            let mut structure = Structure::default();
            structure.read(bits)?;
            let frames = [(0, Targets::default()); FRAMES_MAX];
            let spare = Structure::default();
            let (active, serving) = (0, [UNSERVED; 16]);
            let mut new = Memory { structure, spare, active, serving, newest: number, frames, next_frame: 0 };
            new.activate(u32::MAX);
            *memory = Some(Box::new(new));
            return Some(());
        };
        known.spare.read(bits)?;
        if known.is_late(number) {
            // Its frame can be read by what is known, or not at all.
            return (known.spare == known.structure).then_some(());
        }
        std::mem::swap(&mut known.structure, &mut known.spare);
        known.newest = number;
        known.activate(u32::MAX);
        Some(())
    }

    fn is_late(&self, number: u16) -> bool {
        (1..=LATE_FRAMES_MAX).contains(&self.newest.wrapping_sub(number))
    }

    /// Finds who serves whom, now that these decode targets are sent.
    fn activate(&mut self, active: u32) {
        self.active = active;
        self.serving = [UNSERVED; 16];
        for target in (0..self.structure.decode_targets).filter(|it| active & 1 << it != 0) {
            let Some(layer) = self.structure.layer_of(target) else { continue };
            let served = Targets::from_spatial(layer.0).and(Targets::from_temporal(layer.1));
            for (bit, serving) in self.serving.iter_mut().enumerate() {
                // Any serves better than none, and of two the one of the higher layer.
                let is_best = *serving == UNSERVED || self.structure.layer_of(*serving) <= Some(layer);
                if served.0 & 1 << bit != 0 && is_best {
                    *serving = target;
                }
            }
        }
    }

    /// Of a template's indications, those targets for which it holds.
    fn targets(&self, indications: &[u8; DECODE_TARGETS_MAX], holds: fn(u8) -> bool) -> Targets {
        let mut targets = 0;
        for (bit, serving) in self.serving.iter().enumerate() {
            let indication = indications.get(usize::from(*serving)).copied().unwrap_or(0);
            targets |= u16::from(holds(indication)) << bit;
        }
        Targets(targets)
    }

    fn frame(&mut self, fields: &Fields, bits: &mut Bits) -> Option<Description> {
        let count = u32::from(self.structure.decode_targets);
        if fields.has_active {
            let active = bits.number(count)?;
            if active != self.active && !self.is_late(fields.number) {
                self.activate(active);
            }
        }
        let index = fields.template_id.wrapping_sub(self.structure.id) % TEMPLATES_MAX as u8;
        let mut template = *self.structure.templates.get(usize::from(index))?;
        if fields.has_indications {
            for indication in template.indications.iter_mut().take(count as usize) {
                *indication = bits.number(2)? as u8;
            }
        }
        if fields.has_references {
            template.references = References::default();
            while let size @ 1.. = bits.number(2)? {
                template.references.push(bits.number(4 * size)? as u16 + 1)?;
            }
        }
        let present = self.targets(&template.indications, |it| it != 0);
        let (mut decodable, mut switch) = Default::default();
        if fields.starts_frame {
            decodable = present.or(self.holders(fields.number, &template.references));
            switch = self.targets(&template.indications, |it| it == 2);
            self.remember(fields.number, present);
        }
        Some(Description {
            starts_keyframe: fields.starts_frame && fields.has_structure && template.references.len == 0,
            starts_frame: fields.starts_frame,
            ends_frame: fields.ends_frame,
            spatial: template.spatial,
            temporal: template.temporal,
            present,
            decodable,
            switch,
            ids: Default::default(),
            size: self.structure.sizes.filter(|_| fields.starts_frame).map(|it| it[usize::from(template.spatial)]),
        })
    }

    /// Those for whom all frames were present that one refers to.
    fn holders(&self, number: u16, references: &References) -> Targets {
        references.iter().fold(Targets::ALL, |holders, difference| {
            let wanted = number.wrapping_sub(difference);
            let known = self.frames.iter().find(|it| it.0 == wanted).map_or(Targets::default(), |it| it.1);
            holders.and(known)
        })
    }

    fn remember(&mut self, number: u16, present: Targets) {
        if !self.is_late(number) {
            self.newest = number;
        }
        self.frames[self.next_frame] = (number, present);
        self.next_frame = (self.next_frame + 1) % FRAMES_MAX;
    }
}

impl Structure {
    /// A.8.2: `template_dependency_structure`. Leaves rubbish if it returns `None`.
    fn read(&mut self, bits: &mut Bits) -> Option<()> {
        self.id = bits.number(6)? as u8;
        self.decode_targets = bits.number(5)? as u8 + 1;
        self.templates.clear();
        self.sizes = None;
        self.read_layers(bits)?;
        let count = usize::from(self.decode_targets);
        for template in &mut self.templates {
            for indication in template.indications.iter_mut().take(count) {
                *indication = bits.number(2)? as u8;
            }
        }
        for template in &mut self.templates {
            while bits.flag()? {
                template.references.push(bits.number(4)? as u16 + 1)?;
            }
        }
        self.skip_chains(bits)?;
        if bits.flag()? {
            let mut sizes = [(0, 0); SPATIAL_MAX as usize];
            for size in sizes.iter_mut().take(usize::from(self.templates.last()?.spatial) + 1) {
                let mut side = || Some((bits.number(16)? as u16).saturating_add(1));
                *size = (side()?, side()?);
            }
            self.sizes = Some(sizes);
        }
        Some(())
    }

    /// `template_layers`: each template is followed by where the next stands.
    fn read_layers(&mut self, bits: &mut Bits) -> Option<()> {
        let (mut spatial, mut temporal) = (0, 0);
        while self.templates.len() < TEMPLATES_MAX {
            self.templates.push(Template { spatial, temporal, ..Default::default() });
            match bits.number(2)? {
                0 => {}
                1 => temporal += 1,
                2 => (spatial, temporal) = (spatial + 1, 0),
                _ => return Some(()),
            }
            if spatial >= SPATIAL_MAX || temporal >= 8 {
                return None;
            }
        }
        None
    }

    /// `template_chains`: how many there are, which protects which decode target, and 4 bits for each in each template.
    fn skip_chains(&self, bits: &mut Bits) -> Option<()> {
        let count = u32::from(self.decode_targets);
        let chains = non_symmetric(bits, count + 1)?;
        if chains == 0 {
            return Some(());
        }
        for _ in 0..count {
            non_symmetric(bits, chains)?;
        }
        for _ in 0..self.templates.len() {
            for _ in 0..chains {
                bits.number(4)?;
            }
        }
        Some(())
    }

    /// The highest layers of a decode target's frames; `None` if it has none.
    fn layer_of(&self, decode_target: u8) -> Option<(u8, u8)> {
        let has = |it: &&Template| it.indications[usize::from(decode_target)] != 0;
        let layers = self.templates.iter().filter(has).map(|it| (it.spatial, it.temporal));
        layers.reduce(|one, other| (one.0.max(other.0), one.1.max(other.1)))
    }
}

/// A.8.3: `ns(n)`, a number below n that takes as few bits as it can.
fn non_symmetric(bits: &mut Bits, n: u32) -> Option<u32> {
    let width = u32::BITS - n.leading_zeros();
    let short = (1 << width) - n;
    let value = bits.number(width - 1)?;
    if value < short {
        return Some(value);
    }
    Some((value << 1) + bits.number(1)? - short)
}
