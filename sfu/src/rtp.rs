//! RTP packets as they lie on the wire (RFC 3550 §5.1), their header extensions (RFC 8285), and which protocol a
//! datagram belongs to (RFC 7983, RFC 5761). Everything is read in place; nothing here allocates or panics.

/// The fixed part of an RTP header, in bytes (RFC 3550 §5.1).
pub const FIXED_HEADER_BYTES: usize = 12;

const VERSION: u8 = 2;
const PROFILE_ONE_BYTE: u16 = 0xBEDE;

/// The protocol that a datagram belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// STUN (RFC 8489): first byte 0–3.
    Stun,
    /// DTLS: first byte 20–63.
    Dtls,
    /// RTP or SRTP: first byte 128–191.
    Rtp,
    /// RTCP or SRTCP: as RTP, with a second byte of 192–223.
    Rtcp,
    /// Anything else, which has no business here.
    Other,
}

/// Tells by its first two bytes which protocol a datagram belongs to (RFC 7983 §7, RFC 5761 §4).
pub fn classify(datagram: &[u8]) -> Class {
    match datagram {
        [0..=3, ..] => Class::Stun,
        [20..=63, ..] => Class::Dtls,
        [128..=191, 192..=223, ..] => Class::Rtcp,
        [128..=191, _, ..] => Class::Rtp,
        _ => Class::Other,
    }
}

/// An RTP header (RFC 3550 §5.1). SRTP leaves it in the clear, so it reads the same before and after decryption.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The marker bit; for video, the last packet of a picture.
    pub marker: bool,
    /// Payload type, 0–127.
    pub payload_type: u8,
    /// Sequence number, modulo 2^16.
    pub sequence_number: u16,
    /// Media time in units of the payload's clock rate, modulo 2^32.
    pub timestamp: u32,
    /// The stream's synchronization source.
    pub ssrc: u32,
    /// Bytes of fixed header, CSRC list and extension together: what SRTP authenticates but does not encrypt. Never
    /// more than the packet that it was parsed from.
    pub header_len: usize,
    /// Whether the payload ends in padding.
    pub padding: bool,
    /// The header extension, where there is one.
    pub extension: Option<Extension>,
}

/// Where a header extension lies (RFC 3550 §5.3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extension {
    /// The 16 bits "defined by profile": which form the elements have.
    pub profile: u16,
    /// Offset in the packet of the first element, behind the extension's own four bytes.
    pub start: usize,
    /// Bytes of elements, a multiple of 4.
    pub len: usize,
}

/// Reads the header of an RTP packet, encrypted or plain. `None` if the version is not 2, or if the CSRC list or the
/// extension would end behind the packet.
pub fn parse(packet: &[u8]) -> Option<Header> {
    let (&[flags, marker_and_type, s0, s1, t0, t1, t2, t3, c0, c1, c2, c3], _) =
        packet.split_first_chunk::<FIXED_HEADER_BYTES>()?;
    if flags >> 6 != VERSION {
        return None;
    }
    let mut header_len = FIXED_HEADER_BYTES + 4 * usize::from(flags & 0x0f);
    let mut extension = None;
    if flags & 0x10 != 0 {
        let start = header_len + 4;
        let len = 4 * usize::from(u16_at(packet, header_len + 2)?);
        extension = Some(Extension { profile: u16_at(packet, header_len)?, start, len });
        header_len = start + len;
    }
    if header_len > packet.len() {
        return None;
    }
    Some(Header {
        marker: marker_and_type & 0x80 != 0,
        payload_type: marker_and_type & 0x7f,
        sequence_number: u16::from_be_bytes([s0, s1]),
        timestamp: u32::from_be_bytes([t0, t1, t2, t3]),
        ssrc: u32::from_be_bytes([c0, c1, c2, c3]),
        header_len,
        padding: flags & 0x20 != 0,
        extension,
    })
}

/// The payload of a decrypted packet without its padding (RFC 3550 §5.1); it may be empty. `None` if the padding's
/// length is 0 or more than there is.
pub fn payload<'a>(plain: &'a [u8], header: &Header) -> Option<&'a [u8]> {
    let padded = plain.get(header.header_len..)?;
    if !header.padding {
        return Some(padded);
    }
    let padding = usize::from(*padded.last()?);
    if padding == 0 {
        return None;
    }
    padded.get(..padded.len().checked_sub(padding)?)
}

/// The elements of the header extension, as pairs of id and value, in their one-byte or two-byte form (RFC 8285 §4).
/// An extension of another profile has none; an element that would end behind the extension ends the iteration.
pub fn extensions<'a>(plain: &'a [u8], header: &Header) -> impl Iterator<Item = (u8, &'a [u8])> + use<'a> {
    let (profile, elements) = header
        .extension
        .and_then(|it| Some((it.profile, plain.get(it.start..it.start.checked_add(it.len)?)?)))
        .unwrap_or_default();
    let (rest, form) = match profile {
        PROFILE_ONE_BYTE => (elements, Form::OneByte),
        0x1000..=0x100f => (elements, Form::TwoByte),
        _ => (&[][..], Form::OneByte),
    };
    Elements { rest, form }
}

#[derive(Clone, Copy)]
enum Form {
    OneByte,
    TwoByte,
}

struct Elements<'a> {
    rest: &'a [u8],
    form: Form,
}

impl<'a> Iterator for Elements<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        // A zero byte between elements is padding.
        while let [0, rest @ ..] = self.rest {
            self.rest = rest;
        }
        // Whatever is wrong ends the iteration for good.
        let (id, len, rest) = match (self.form, std::mem::take(&mut self.rest)) {
            // Id 15 means stop, and so does a padding byte that claims a length (RFC 8285 §4.2).
            (Form::OneByte, [head, rest @ ..]) if !matches!(head >> 4, 0 | 15) => {
                (head >> 4, usize::from(head & 0x0f) + 1, rest)
            }
            (Form::TwoByte, [id, len, rest @ ..]) => (*id, usize::from(*len), rest),
            _ => return None,
        };
        let (value, rest) = rest.split_at_checked(len)?;
        self.rest = rest;
        Some((id, value))
    }
}

/// The 64-bit number nearest to `reference` whose low 16 bits are `seq`: counts the wraps of a sequence number. Near
/// the ends of the range, where the nearest would lie outside, the next inside.
pub fn extend(reference: u64, seq: u16) -> u64 {
    let ahead = seq.wrapping_sub(reference as u16);
    match reference.checked_add_signed(i64::from(ahead as i16)) {
        Some(nearest) => nearest,
        None if reference < 0x8000 => u64::from(seq),
        None => reference - u64::from(ahead.wrapping_neg()),
    }
}

/// Two bytes at an offset, in network order; `None` behind the end.
pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|it| u16::from_be_bytes(*it))
}

/// Four bytes at an offset, in network order; `None` behind the end.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|it| u32::from_be_bytes(*it))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A packet with one CSRC and the given extension and payload.
    fn packet(flags: u8, profile: u16, elements: &[u8], payload: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x81 | flags, 0x80 | 96, 0x12, 0x34, 0, 0, 0, 9, 0xde, 0xad, 0xbe, 0xef, 1, 2, 3, 4];
        if flags & 0x10 != 0 {
            packet.extend(profile.to_be_bytes());
            packet.extend(((elements.len() / 4) as u16).to_be_bytes());
            packet.extend(elements);
        }
        packet.extend(payload);
        packet
    }

    fn elements(packet: &[u8]) -> Vec<(u8, &[u8])> {
        extensions(packet, &parse(packet).unwrap()).collect()
    }

    #[test]
    fn reads_every_field() {
        let packet = packet(0x10, 0xBEDE, &[0x10, 7, 0, 0], b"hello");
        let header = parse(&packet).unwrap();
        assert_eq!(
            header,
            Header {
                marker: true,
                payload_type: 96,
                sequence_number: 0x1234,
                timestamp: 9,
                ssrc: 0xdead_beef,
                header_len: 24,
                padding: false,
                extension: Some(Extension { profile: 0xBEDE, start: 20, len: 4 }),
            }
        );
        assert_eq!(payload(&packet, &header), Some(&b"hello"[..]));
    }

    #[test]
    fn a_header_behind_the_end_is_refused() {
        let whole = packet(0x10, 0xBEDE, &[0x10, 7, 0, 0], b"");
        for len in 0..whole.len() {
            assert_eq!(parse(&whole[..len]), None, "{len} bytes");
        }
        let mut other_version = whole.clone();
        other_version[0] = 0x51;
        assert_eq!(parse(&other_version), None);
    }

    #[test]
    fn padding_that_lies_is_refused() {
        let stripped = |tail: &[u8]| {
            let packet = packet(0x20, 0, &[], tail);
            payload(&packet, &parse(&packet).unwrap()).map(<[u8]>::to_vec)
        };
        assert_eq!(stripped(&[7, 7, 0, 2]), Some(vec![7, 7]));
        assert_eq!(stripped(&[0, 0, 0, 4]), Some(vec![]), "a packet of padding only");
        assert_eq!(stripped(&[7, 7, 0, 0]), None);
        assert_eq!(stripped(&[7, 7, 0, 5]), None);
        assert_eq!(stripped(&[]), None);
    }

    #[test]
    fn one_byte_elements() {
        let padded = packet(0x10, 0xBEDE, &[0x10, 7, 0, 0, 0x22, 1, 2, 3], b"x");
        assert_eq!(elements(&padded), [(1, &[7][..]), (2, &[1, 2, 3])]);
        let stopped = packet(0x10, 0xBEDE, &[0x10, 7, 0xf0, 0x20, 1, 0, 0, 0], b"x");
        assert_eq!(elements(&stopped), [(1, &[7][..])]);
        let padding_with_length = packet(0x10, 0xBEDE, &[0x10, 7, 0x01, 0x20, 1, 0, 0, 0], b"x");
        assert_eq!(elements(&padding_with_length), [(1, &[7][..])]);
        let past_the_end = packet(0x10, 0xBEDE, &[0x10, 7, 0x2f, 0], b"0123456789abcdef");
        assert_eq!(elements(&past_the_end), [(1, &[7][..])]);
        assert_eq!(elements(&packet(0x10, 0xABCD, &[0x10, 7, 0, 0], b"")), []);
        assert_eq!(elements(&packet(0, 0, &[], b"")), []);
    }

    #[test]
    fn two_byte_elements() {
        let packet = packet(0x10, 0x1005, &[0, 15, 2, 8, 9, 200, 0, 0], b"x");
        assert_eq!(elements(&packet), [(15, &[8, 9][..]), (200, &[])]);
    }

    #[test]
    fn first_bytes() {
        assert_eq!(classify(&[]), Class::Other);
        assert_eq!(classify(&[0]), Class::Stun);
        assert_eq!(classify(&[3, 1]), Class::Stun);
        assert_eq!(classify(&[4, 1]), Class::Other);
        assert_eq!(classify(&[19]), Class::Other);
        assert_eq!(classify(&[20]), Class::Dtls);
        assert_eq!(classify(&[63]), Class::Dtls);
        assert_eq!(classify(&[64, 0]), Class::Other);
        assert_eq!(classify(&[128]), Class::Other);
        assert_eq!(classify(&[128, 191]), Class::Rtp);
        assert_eq!(classify(&[128, 192]), Class::Rtcp);
        assert_eq!(classify(&[191, 223]), Class::Rtcp);
        assert_eq!(classify(&[191, 224]), Class::Rtp);
        assert_eq!(classify(&[192, 200]), Class::Other);
    }

    #[test]
    fn extends_across_wraps_and_at_the_ends() {
        assert_eq!(extend(0, 5), 5);
        assert_eq!(extend(0, 65535), 65535, "never below zero");
        assert_eq!(extend(65535, 0), 65536);
        assert_eq!(extend(65536, 65535), 65535);
        assert_eq!(extend(3 * 65536 + 10, 65530), 2 * 65536 + 65530);
        assert_eq!(extend(u64::MAX, 0), u64::MAX - 65535);
    }

    proptest! {
        #[test]
        fn nearest(reference in 65536..u64::MAX - 65536, seq: u16) {
            let extended = extend(reference, seq);
            prop_assert_eq!(extended as u16, seq);
            prop_assert!(extended.abs_diff(reference) <= 0x8000);
        }

        #[test]
        fn strangers_bytes_never_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..200), plausible: bool) {
            if let (true, Some(first)) = (plausible, bytes.first_mut()) {
                *first = 0x80 | (*first & 0x31);
            }
            classify(&bytes);
            if let Some(header) = parse(&bytes) {
                prop_assert!(header.header_len <= bytes.len());
                let elements: usize = extensions(&bytes, &header).map(|(_, value)| value.len()).sum();
                prop_assert!(elements <= bytes.len());
                payload(&bytes, &header);
                // A header that belongs to a longer packet.
                prop_assert!(payload(&bytes[..header.header_len - 1], &header).is_none());
                extensions(&[], &header).for_each(drop);
            }
        }
    }
}
