//! VP8: RFC 7741.

use super::{Description, PictureIds, Targets, write_picture_id};

/// A payload descriptor (§4.2), `|X|R|N|S|R| PID |`, then by X `|I|L|T|K| RSV |`, then what these name.
struct Header {
    /// S, and PID 0.
    starts_frame: bool,
    /// TID; 0 without T.
    temporal: u8,
    /// Y; `false` without T.
    is_layer_sync: bool,
    ids: PictureIds,
    picture_id_at: usize,
    tl0_at: usize,
    key_index_at: usize,
    /// Where the VP8 payload header (§4.3) begins; there is a byte there.
    payload_at: usize,
}

fn parse(payload: &[u8]) -> Option<Header> {
    let first = *payload.first()?;
    let extended = first & 0x80 != 0;
    let named = if extended { *payload.get(1)? } else { 0 };
    let mut ids = PictureIds::default();
    let picture_id_at = 1 + usize::from(extended);
    let tl0_at = if named & 0x80 != 0 { ids.read_picture_id(payload, picture_id_at)? } else { picture_id_at };
    let mut at = tl0_at;
    if named & 0x40 != 0 {
        ids.tl0 = Some(*payload.get(at)?);
        at += 1;
    }
    let key_index_at = at;
    let (mut temporal, mut is_layer_sync) = (0, false);
    if named & 0x30 != 0 {
        let byte = *payload.get(at)?;
        if named & 0x20 != 0 {
            (temporal, is_layer_sync) = (byte >> 6, byte & 0x20 != 0);
        }
        ids.key_index = (named & 0x10 != 0).then_some(byte & 0x1f);
        at += 1;
    }
    payload.get(at)?;
    let starts_frame = first & 0x10 != 0 && first & 0x07 == 0;
    Some(Header { starts_frame, temporal, is_layer_sync, ids, picture_id_at, tl0_at, key_index_at, payload_at: at })
}

/// `None` where the payload ends before its descriptor, or with it.
pub(super) fn describe(payload: &[u8]) -> Option<Description> {
    let header = parse(payload)?;
    let frame = &payload[header.payload_at..];
    let starts_keyframe = header.starts_frame && frame[0] & 0x01 == 0;
    let present = Targets::from_temporal(header.temporal);
    let (mut decodable, mut switch) = Default::default();
    if starts_keyframe {
        (decodable, switch) = (Targets::ALL, Targets::ALL);
    } else if header.starts_frame {
        // The base layer refers to nothing above it, and everybody has it. A frame with Y refers to that alone, and so lets
        // in from any layer below; but only to its own layer: in libwebrtc's patterns each cycle synchronises the highest
        // layer first and every lower one after it (0, 2Y, 1Y, 2 …), so that whoever came in at 1Y may lack what the next
        // frame of layer 2 refers to, while whoever came in at 2Y has 1Y before anything refers to it.
        let needs_base_only = header.temporal == 0 || header.is_layer_sync;
        decodable = if needs_base_only { Targets::ALL } else { present };
        switch = Targets::of_temporal(header.temporal);
    }
    Some(Description {
        starts_keyframe,
        starts_frame: header.starts_frame,
        ends_frame: false,
        spatial: 0,
        temporal: header.temporal,
        present,
        decodable,
        switch,
        ids: header.ids,
        size: if starts_keyframe { size(frame) } else { None },
    })
}

/// RFC 6386 §9.1: behind a tag of 3 bytes and the start code, 14 bits of width and 14 of height, each below 2 of scaling.
fn size(frame: &[u8]) -> Option<(u16, u16)> {
    let &[_, _, _, 0x9d, 0x01, 0x2a, width, width_high, height, height_high, ..] = frame else { return None };
    let (width, height) = (u16::from_le_bytes([width, width_high]), u16::from_le_bytes([height, height_high]));
    Some((width & 0x3fff, height & 0x3fff))
}

pub(super) fn renumber(payload: &mut [u8], ids: PictureIds) {
    let Some(header) = parse(payload) else { return };
    if let (Some(_), Some(id)) = (header.ids.picture_id, ids.picture_id) {
        write_picture_id(payload, header.picture_id_at, id);
    }
    if let (Some(_), Some(tl0)) = (header.ids.tl0, ids.tl0) {
        payload[header.tl0_at] = tl0;
    }
    if let (Some(_), Some(index)) = (header.ids.key_index, ids.key_index) {
        payload[header.key_index_at] = payload[header.key_index_at] & 0xe0 | index & 0x1f;
    }
}
