//! H.264: RFC 6184, and of ITU-T H.264 as much as says where pictures begin and how large they are.

use super::Description;
use super::bits::Bits;

const IDR_SLICE: u8 = 5;
const SPS: u8 = 7;
const STAP_A: u8 = 24;
const FU_A: u8 = 28;

/// Most units of a STAP-A that are looked at; what comes behind is not seen. An honest one has SPS, PPS, SEI and slices.
const UNITS_MAX: usize = 32;
/// Longest code of Exp-Golomb that fits 32 bits; a longer one is a lie.
const GOLOMB_ZEROS_MAX: u32 = 31;
/// Entries of `offset_for_ref_frame` (§7.4.2.1.1). More is a lie.
const POC_CYCLE_MAX: u32 = 255;

/// `None` for what is no unit or has the forbidden bit.
pub(super) fn describe(payload: &[u8]) -> Option<Description> {
    let first = *payload.first()?;
    if first & 0x80 != 0 {
        return None;
    }
    match first & 0x1f {
        STAP_A => Some(aggregate(&payload[1..])),
        FU_A => {
            let fragment = *payload.get(1)?;
            // As it would be as a whole; its body begins behind both headers.
            let starts = fragment & 0x80 != 0;
            Some(if starts { unit(fragment & 0x1f, &payload[2..]) } else { Description::flat(false, false) })
        }
        kind => Some(unit(kind, &payload[1..])),
    }
}

/// RFC 6184 §5.7.1: units, each behind its length of 16 bits. Behind a unit that lies nothing is believed.
fn aggregate(mut units: &[u8]) -> Description {
    let mut all = Description::flat(false, false);
    for number in 0..UNITS_MAX {
        let Some((len, rest)) = units.split_first_chunk() else { break };
        let Some((bytes, rest)) = rest.split_at_checked(usize::from(u16::from_be_bytes(*len))) else { break };
        let Some((header, body)) = bytes.split_first() else { break };
        let one = unit(header & 0x1f, body);
        // The first says whether a picture begins; a key slice may stand anywhere.
        let starts_frame = if number == 0 { one.starts_frame } else { all.starts_frame || one.starts_keyframe };
        let size = all.size.or(one.size);
        all = Description { size, ..Description::flat(starts_frame, all.starts_keyframe || one.starts_keyframe) };
        units = rest;
    }
    all
}

/// A unit's type and what follows its header.
fn unit(kind: u8, body: &[u8]) -> Description {
    let is_key = matches!(kind, IDR_SLICE | SPS);
    let starts_frame = match kind {
        // `first_mb_in_slice` is 0, which Exp-Golomb writes as 1.
        1 | 2 => body.first().is_some_and(|byte| byte & 0x80 != 0),
        // SEI, PPS, delimiter, prefix and what else stands before slices (ITU-T H.264 §7.4.1.2.3).
        6 | 8 | 9 | 14..=18 => true,
        _ => is_key,
    };
    Description { size: if kind == SPS { size(body) } else { None }, ..Description::flat(starts_frame, is_key) }
}

/// Width and height in pixels of a sequence parameter set without its header; `None` if it lies or does not reach so far.
fn size(sps: &[u8]) -> Option<(u16, u16)> {
    let mut clean = [0; SPS_BYTES_MAX];
    let mut bits = Bits::new(unescape(sps, &mut clean));
    let profile = bits.number(8)?;
    bits.number(16)?;
    golomb(&mut bits)?;
    let mut chroma = 1;
    if matches!(profile, 100 | 110 | 122 | 244 | 44 | 83 | 86 | 118 | 128 | 138 | 139 | 134 | 135) {
        chroma = golomb(&mut bits)?;
        // Planes that are coded apart are each like one without chroma.
        if chroma == 3 && bits.flag()? {
            chroma = 0;
        }
        golomb(&mut bits)?;
        golomb(&mut bits)?;
        bits.flag()?;
        if bits.flag()? {
            scaling_matrix(&mut bits, if chroma == 3 { 12 } else { 8 })?;
        }
    }
    golomb(&mut bits)?;
    picture_order(&mut bits)?;
    golomb(&mut bits)?;
    bits.flag()?;
    let (columns, rows) = (golomb(&mut bits)?.checked_add(1)?, golomb(&mut bits)?.checked_add(1)?);
    let fields = if bits.flag()? { 1 } else { 2 };
    if fields == 2 {
        bits.flag()?;
    }
    bits.flag()?;
    let mut cropped = [0; 4];
    if bits.flag()? {
        for side in &mut cropped {
            *side = golomb(&mut bits)?;
        }
    }
    let (unit_x, unit_y) = match chroma {
        1 => (2, 2),
        2 => (2, 1),
        _ => (1, 1),
    };
    let side = |blocks: u32, unit: u32, before: u32, behind: u32| {
        let cropped = before.checked_add(behind)?.checked_mul(unit)?;
        u16::try_from(blocks.checked_mul(16)?.checked_sub(cropped)?).ok().filter(|it| *it > 0)
    };
    let [left, right, top, bottom] = cropped;
    Some((side(columns, unit_x, left, right)?, side(rows.checked_mul(fields)?, unit_y * fields, top, bottom)?))
}

/// §7.3.2.1.1: `pic_order_cnt_type` and what it brings.
fn picture_order(bits: &mut Bits) -> Option<()> {
    match golomb(bits)? {
        0 => {
            golomb(bits)?;
        }
        1 => {
            bits.flag()?;
            golomb(bits)?;
            golomb(bits)?;
            let offsets = golomb(bits)?;
            if offsets > POC_CYCLE_MAX {
                return None;
            }
            for _ in 0..offsets {
                golomb(bits)?;
            }
        }
        _ => {}
    }
    Some(())
}

/// §7.3.2.1.1.1. Only their lengths matter.
fn scaling_matrix(bits: &mut Bits, lists: usize) -> Option<()> {
    for list in 0..lists {
        if !bits.flag()? {
            continue;
        }
        let (mut last, mut next) = (8i64, 8i64);
        for _ in 0..if list < 6 { 16 } else { 64 } {
            if next != 0 {
                let code = i64::from(golomb(bits)?);
                let delta = if code % 2 == 0 { -code / 2 } else { code / 2 + 1 };
                next = (last + delta).rem_euclid(256);
            }
            last = if next == 0 { last } else { next };
        }
    }
    Some(())
}

/// `ue(v)`, §9.1; also good to skip `se(v)`, which has the same length.
fn golomb(bits: &mut Bits) -> Option<u32> {
    let mut zeros = 0;
    while !bits.flag()? {
        zeros += 1;
        if zeros > GOLOMB_ZEROS_MAX {
            return None;
        }
    }
    Some((1 << zeros) - 1 + bits.number(zeros)?)
}

/// As much of a parameter set as is read: far beyond what precedes the size, scaling matrices included, in honest ones.
const SPS_BYTES_MAX: usize = 256;

/// §7.3.1: 3 behind two zeros was put there so that no start code appears.
fn unescape<'a>(escaped: &[u8], clean: &'a mut [u8; SPS_BYTES_MAX]) -> &'a [u8] {
    let (mut len, mut zeros) = (0, 0);
    for &byte in escaped {
        if zeros >= 2 && byte == 3 {
            zeros = 0;
            continue;
        }
        if len == clean.len() {
            break;
        }
        zeros = if byte == 0 { zeros + 1 } else { 0 };
        clean[len] = byte;
        len += 1;
    }
    &clean[..len]
}
