//! VP9: RFC 9628.

use super::{Description, PictureIds, SPATIAL_MAX, Targets, write_picture_id};

/// Most reference indices of a picture (§4.2). A descriptor with more is a lie.
const REFERENCES_MAX: usize = 3;

/// What the last scalability structure said. A target above the highest layer counts as of that layer.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Layers {
    /// N_S; `None` before the first structure.
    top: Option<u8>,
    /// Width and height of each layer in pixels, where Y says them.
    sizes: Option<[(u16, u16); SPATIAL_MAX as usize]>,
}

#[cfg(test)]
impl Layers {
    pub(super) fn sizes(&self) -> Option<[(u16, u16); SPATIAL_MAX as usize]> {
        self.sizes
    }
}

/// A payload descriptor (§4.2): `|I|P|L|F|B|E|V|Z|` and what it names.
struct Header {
    flags: u8,
    ids: PictureIds,
    tl0_at: usize,
    temporal: u8,
    /// U.
    may_switch_up: bool,
    spatial: u8,
    /// D.
    is_inter_layer: bool,
    structure: Option<Layers>,
}

impl Header {
    const ID: u8 = 0x80;
    const INTER_PICTURE: u8 = 0x40;
    const LAYERS: u8 = 0x20;
    const FLEXIBLE: u8 = 0x10;
    const STARTS_FRAME: u8 = 0x08;
    const ENDS_FRAME: u8 = 0x04;
    const STRUCTURE: u8 = 0x02;
    const NOT_FOR_UPPER: u8 = 0x01;

    fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

const PICTURE_ID_AT: usize = 1;

fn parse(payload: &[u8]) -> Option<Header> {
    let flags = *payload.first()?;
    let mut header = Header {
        flags,
        ids: PictureIds::default(),
        tl0_at: 0,
        temporal: 0,
        may_switch_up: false,
        spatial: 0,
        is_inter_layer: false,
        structure: None,
    };
    let mut at = PICTURE_ID_AT;
    if header.has(Header::ID) {
        at = header.ids.read_picture_id(payload, at)?;
    }
    if header.has(Header::LAYERS) {
        let byte = *payload.get(at)?;
        at += 1;
        (header.temporal, header.may_switch_up) = (byte >> 5, byte & 0x10 != 0);
        (header.spatial, header.is_inter_layer) = (byte >> 1 & 0x07, byte & 0x01 != 0);
        if !header.has(Header::FLEXIBLE) {
            header.ids.tl0 = Some(*payload.get(at)?);
            header.tl0_at = at;
            at += 1;
        }
    }
    if header.has(Header::FLEXIBLE) && header.has(Header::INTER_PICTURE) {
        // `| P_DIFF |N|`: the last has no N.
        at += 1 + payload.get(at..)?.iter().take(REFERENCES_MAX).position(|byte| byte & 0x01 == 0)?;
    }
    if header.has(Header::STRUCTURE) {
        let (layers, len) = structure(payload.get(at..)?)?;
        header.structure = Some(layers);
        at += len;
    }
    // A descriptor of nothing.
    payload.get(at)?;
    Some(header)
}

/// §4.2.1: `| N_S |Y|G|-|-|-|`, by Y the sizes, by G a picture group. Returns its length too.
fn structure(bytes: &[u8]) -> Option<(Layers, usize)> {
    let first = *bytes.first()?;
    let top = first >> 5;
    let mut at = 1;
    let mut sizes = None;
    if first & 0x10 != 0 {
        let mut all = [(0, 0); SPATIAL_MAX as usize];
        for layer in 0..=usize::from(top) {
            let [width, width_low, height, height_low] = *bytes.get(at..)?.first_chunk()?;
            // Layers that are not told apart have the size of the highest.
            all[layer.min(all.len() - 1)] =
                (u16::from_be_bytes([width, width_low]), u16::from_be_bytes([height, height_low]));
            at += 4;
        }
        sizes = Some(all);
    }
    if first & 0x08 != 0 {
        let pictures = *bytes.get(at)?;
        at += 1;
        for _ in 0..pictures {
            // `| T |U| R |-|-|`, then R times P_DIFF.
            at += 1 + usize::from(*bytes.get(at)? >> 2 & 0x03);
        }
    }
    (at <= bytes.len()).then_some((Layers { top: Some(top), sizes }, at))
}

/// `None` where the payload ends before its descriptor, or with it.
pub(super) fn describe(payload: &[u8], layers: &mut Layers) -> Option<Description> {
    let header = parse(payload)?;
    if let Some(structure) = header.structure {
        *layers = structure;
    }
    let (spatial, temporal) = (header.spatial, header.temporal);
    let is_top = layers.top.is_some_and(|top| spatial >= top);
    let for_upper = is_top || !header.has(Header::NOT_FOR_UPPER);
    let needed_by = if for_upper { Targets::from_spatial(spatial) } else { Targets::of_spatial(spatial) };
    let present = needed_by.and(Targets::from_temporal(temporal));
    let starts_frame = header.has(Header::STARTS_FRAME);
    let is_intra = !header.has(Header::INTER_PICTURE);
    let starts_keyframe = starts_frame && is_intra && spatial == 0;
    let (mut decodable, mut switch) = Default::default();
    if starts_keyframe {
        (decodable, switch) = (Targets::ALL, Targets::ALL);
    } else if starts_frame {
        let own = if is_top { Targets::from_spatial(spatial) } else { Targets::of_spatial(spatial) };
        decodable = match (is_intra, header.is_inter_layer) {
            (false, _) => present,
            // It refers to the layer below, in the same picture.
            (true, true) => Targets::from_spatial(spatial.saturating_sub(1)).and(Targets::from_temporal(temporal)),
            (true, false) => Targets::ALL,
        };
        // The U bit promises that higher temporal layers refer to nothing of theirs before this picture. A layer that
        // begins anew cannot refer to what was before either.
        let up = is_intra || header.may_switch_up;
        let reachable = if up { Targets::from_temporal(temporal) } else { Targets::of_temporal(temporal) };
        switch = own.and(reachable);
    }
    let size = if starts_frame { layers.sizes.map(|it| it[usize::from(spatial.min(SPATIAL_MAX - 1))]) } else { None };
    Some(Description {
        starts_keyframe,
        starts_frame,
        ends_frame: header.has(Header::ENDS_FRAME),
        spatial,
        temporal,
        present,
        decodable,
        switch,
        ids: header.ids,
        size,
    })
}

pub(super) fn renumber(payload: &mut [u8], ids: PictureIds) {
    let Some(header) = parse(payload) else { return };
    if let (Some(_), Some(id)) = (header.ids.picture_id, ids.picture_id) {
        write_picture_id(payload, PICTURE_ID_AT, id);
    }
    if let (Some(_), Some(tl0)) = (header.ids.tl0, ids.tl0) {
        payload[header.tl0_at] = tl0;
    }
}
