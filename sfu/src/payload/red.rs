//! Redundant audio (RFC 2198): where the primary block lies. It is always the last, so what precedes it can be left out
//! for those who do not take RED.

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
        }
    }
}
