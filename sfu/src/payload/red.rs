//! Redundant audio (RFC 2198): where the primary block lies, and writing it anew. The primary block is always the last, so
//! what precedes it can be left out for those who do not take RED.

use std::ops::Range;

/// Bytes of the header of a redundant block.
pub const HEADER_LEN: usize = 4;
/// A redundant block is shorter: its length has 10 bits.
pub const BLOCK_MAX: usize = 1 << 10;
/// Bits of the timestamp offset of a redundant block, and the bit that says that another header follows.
const OFFSET_MASK: u32 = (1 << 14) - 1;
const MORE: u32 = 1 << 31;

/// The primary block of a RED payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Primary {
    /// Its payload type, 0–127: the encoding's own.
    pub payload_type: u8,
    /// Bytes of block headers and redundant blocks before it; at least 1, and less than the payload's length.
    pub offset: usize,
}

/// Reads the block headers (RFC 2198 §3): `|F| PT |`, and while F is set 14 bits of timestamp offset and 10 bits of length
/// behind it. `None` if headers or redundant blocks would end behind the payload, or nothing is left for the primary one.
pub fn primary(payload: &[u8]) -> Option<Primary> {
    let (mut headers, mut redundant) = (payload, 0);
    loop {
        let (first, rest) = headers.split_first()?;
        if first & 0x80 == 0 {
            let offset = payload.len() - rest.len() + redundant;
            return (offset < payload.len()).then_some(Primary { payload_type: *first, offset });
        }
        let ([_, high, low], rest) = rest.split_first_chunk()?;
        redundant += usize::from(u16::from_be_bytes([high & 0x03, *low]));
        headers = rest;
    }
}

/// A redundant block of a RED payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redundant {
    /// Its payload type, 0–127.
    pub payload_type: u8,
    /// Ticks by which it is older than the primary block, below 2^14.
    pub timestamp_offset: u16,
    /// Where it lies in the payload; never beyond its end, but it may be empty.
    pub range: Range<usize>,
}

/// The `nth` redundant block before the primary one, 1 being the last; `None` if there are not so many, or if the payload is
/// one of which [`primary`] finds none.
pub fn older(payload: &[u8], nth: usize) -> Option<Redundant> {
    let end = primary(payload)?.offset;
    let headers = || payload.chunks(HEADER_LEN).take_while(|header| header[0] & 0x80 != 0);
    let wanted = headers().count().checked_sub(nth).filter(|_| nth > 0)?;
    let word = |header: &[u8]| header.iter().fold(0u32, |word, byte| word << 8 | u32::from(*byte));
    let len = |header: &[u8]| word(header) as usize % BLOCK_MAX;
    let header = headers().nth(wanted)?;
    // The blocks lie in order of their headers, right before the primary one.
    let start = end.checked_sub(headers().skip(wanted).map(len).sum())?;
    Some(Redundant {
        payload_type: header[0] & 0x7f,
        timestamp_offset: (word(header) >> 10 & OFFSET_MASK) as u16,
        range: start..start + len(header),
    })
}

/// Writes a RED payload: redundant blocks, each with the ticks by which it is older, oldest first, and the primary one, all
/// of one payload type. Returns its length: [`HEADER_LEN`] and its bytes for each redundant block, 1 and its bytes for the
/// primary one.
///
/// # Panics
/// If `out` is shorter, or a redundant block not shorter than [`BLOCK_MAX`].
pub fn write<'a>(
    redundant: impl Iterator<Item = (u16, &'a [u8])> + Clone,
    payload_type: u8,
    primary: &[u8],
    out: &mut [u8],
) -> usize {
    let mut at = 0;
    let mut put = |bytes: &[u8]| {
        out[at..at + bytes.len()].copy_from_slice(bytes);
        at += bytes.len();
    };
    for (ticks, block) in redundant.clone() {
        assert!(block.len() < BLOCK_MAX, "a redundant block has a length of 10 bits");
        let offset = (u32::from(ticks) & OFFSET_MASK) << 10;
        put(&(MORE | u32::from(payload_type & 0x7f) << 24 | offset | block.len() as u32).to_be_bytes());
    }
    put(&[payload_type & 0x7f]);
    redundant.for_each(|(_, block)| put(block));
    put(primary);
    at
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A RED payload of redundant blocks and a primary one.
    fn red(redundant: &[(u8, u16, Vec<u8>)], payload_type: u8, primary: &[u8]) -> Vec<u8> {
        let mut payload = Vec::new();
        for (payload_type, timestamp_offset, block) in redundant {
            let word = u32::from(*timestamp_offset) << 10 | block.len() as u32;
            payload.extend((1 << 31 | u32::from(*payload_type) << 24 | word).to_be_bytes());
        }
        payload.push(payload_type);
        redundant.iter().for_each(|(_, _, block)| payload.extend(block));
        payload.extend(primary);
        payload
    }

    #[test]
    fn the_primary_block_is_the_last() {
        assert_eq!(primary(&red(&[], 111, b"now")), Some(Primary { payload_type: 111, offset: 1 }));
        let two = red(&[(111, 960, b"before".to_vec())], 111, b"now");
        assert_eq!(primary(&two), Some(Primary { payload_type: 111, offset: 11 }));
        assert_eq!(&two[11..], b"now");
        assert_eq!(primary(&red(&[(111, 16_383, vec![])], 5, b"x")), Some(Primary { payload_type: 5, offset: 5 }));
    }

    #[test]
    fn lies() {
        for (payload, why) in [
            (&[][..], "empty"),
            (&[111], "no block"),
            (&[0xef, 0, 0], "half a header"),
            (&[0xef, 0, 0, 0], "no last header"),
            (&[0xef, 0, 0, 0, 111], "no primary block"),
            (&[0xef, 0, 0, 4, 111, 1, 2, 3], "a redundant block beyond the end"),
            (&[0xef, 0, 0, 3, 111, 1, 2, 3], "a redundant block up to the end"),
            (&[0xef, 0xff, 0xff, 0xff, 111, 1, 2, 3], "the longest lengths"),
            (&[0xff; 1_400], "headers without end"),
        ] {
            assert_eq!(primary(payload), None, "{why}");
        }
    }

    proptest! {
        #[test]
        fn strangers_bytes(payload in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Some(found) = primary(&payload) {
                prop_assert!((1..payload.len()).contains(&found.offset) && found.payload_type < 128);
            }
            for nth in 0..20 {
                let found = older(&payload, nth);
                prop_assert!(found.is_none_or(|found| found.range.end <= payload.len() && found.payload_type < 128));
            }
        }

        #[test]
        fn honest_payloads(
            redundant in prop::collection::vec(
                (0u8..128, 0u16..1 << 14, prop::collection::vec(any::<u8>(), 0..200)), 0..9),
            payload_type in 0u8..128,
            block in prop::collection::vec(any::<u8>(), 1..200),
        ) {
            let payload = red(&redundant, payload_type, &block);
            let found = primary(&payload).unwrap();
            prop_assert_eq!(found.payload_type, payload_type);
            prop_assert_eq!(&payload[found.offset..], &block[..]);
            for (nth, (payload_type, ticks, block)) in redundant.iter().rev().enumerate() {
                let found = older(&payload, nth + 1).unwrap();
                prop_assert_eq!((found.payload_type, found.timestamp_offset), (*payload_type, *ticks));
                prop_assert_eq!(&payload[found.range], &block[..]);
            }
            prop_assert_eq!(older(&payload, redundant.len() + 1), None);
            prop_assert_eq!(older(&payload, 0), None);
        }

        #[test]
        fn what_is_written_is_what_is_read(
            redundant in prop::collection::vec((0u16..1 << 14, prop::collection::vec(any::<u8>(), 0..1_023)), 0..4),
            payload_type in 0u8..128,
            block in prop::collection::vec(any::<u8>(), 1..200),
        ) {
            let blocks = redundant.iter().map(|(ticks, block)| (*ticks, &block[..]));
            let mut out = vec![0xee; 5_000];
            let len = write(blocks, payload_type, &block, &mut out);
            let typed: Vec<_> = redundant.iter().map(|(ticks, block)| (payload_type, *ticks, block.clone())).collect();
            prop_assert_eq!(&out[..len], &red(&typed, payload_type, &block)[..]);
            prop_assert!(out[len..].iter().all(|byte| *byte == 0xee));
            prop_assert_eq!(&out[primary(&out[..len]).unwrap().offset..len], &block[..]);
        }
    }
}
