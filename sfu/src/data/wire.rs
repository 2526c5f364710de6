//! SCTP packets as they lie on the wire (RFC 9260 §3): a common header, then chunks.

use super::crc32c::crc32c;

/// The common header: ports, verification tag, checksum.
pub(super) const HEADER_BYTES: usize = 12;
/// The header of a DATA chunk, its own chunk header included.
pub(super) const DATA_HEADER_BYTES: usize = 16;
/// The longest packet that we write: sealed by DTLS (37 bytes with 1.2) the datagram has at most 1,200.
pub(super) const PACKET_BYTES_MAX: usize = 1_160;
/// Both ports, as our SDP says (`a=sctp-port`).
pub(crate) const PORT: u16 = 5_000;

pub(super) const DATA: u8 = 0;
pub(super) const INIT: u8 = 1;
pub(super) const INIT_ACK: u8 = 2;
pub(super) const SACK: u8 = 3;
pub(super) const HEARTBEAT: u8 = 4;
pub(super) const HEARTBEAT_ACK: u8 = 5;
pub(super) const ABORT: u8 = 6;
pub(super) const SHUTDOWN: u8 = 7;
pub(super) const SHUTDOWN_ACK: u8 = 8;
pub(super) const COOKIE_ECHO: u8 = 10;
pub(super) const COOKIE_ACK: u8 = 11;
/// RFC 6525 §3.1.
pub(super) const RE_CONFIG: u8 = 130;
/// RFC 3758 §3.2.
pub(super) const FORWARD_TSN: u8 = 192;

/// Flags of a DATA chunk: it ends a message, begins one, is unordered, wants its SACK at once (RFC 7053).
pub(super) const END: u8 = 1;
pub(super) const BEGIN: u8 = 2;
pub(super) const UNORDERED: u8 = 4;
pub(super) const IMMEDIATE: u8 = 8;

/// A chunk, or with other names a parameter: a type, flags and a body without padding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chunk<'a> {
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) body: &'a [u8],
}

/// The verification tag and the chunks of a packet whose ports and checksum are right.
pub(super) fn open(packet: &[u8]) -> Option<(u32, &[u8])> {
    let (header, chunks) = packet.split_at_checked(HEADER_BYTES)?;
    let sum = u32::from_le_bytes([header[8], header[9], header[10], header[11]]);
    let right = u16_at(header, 0)? == PORT && u16_at(header, 2)? == PORT;
    (right && crc32c(&[&header[..8], &[0; 4], chunks]) == sum).then_some((u32_at(header, 4)?, chunks))
}

/// The chunks up to the first whose length is a lie.
pub(super) fn chunks(mut bytes: &[u8]) -> impl Iterator<Item = Chunk<'_>> {
    std::iter::from_fn(move || {
        let (head, _) = bytes.split_first_chunk::<4>()?;
        let len = usize::from(u16::from_be_bytes([head[2], head[3]]));
        let body = bytes.get(4..len)?;
        let chunk = Chunk { kind: head[0], flags: head[1], body };
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some(chunk)
    })
}

/// The parameters in a chunk, type and body, up to the first whose length is a lie.
pub(super) fn parameters(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    chunks(bytes).map(|parameter| (u16::from_be_bytes([parameter.kind, parameter.flags]), parameter.body))
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|b| u16::from_be_bytes(*b))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|b| u32::from_be_bytes(*b))
}

/// Begins a packet in an empty buffer.
pub(super) fn begin(out: &mut Vec<u8>, tag: u32) {
    out.clear();
    out.extend(PORT.to_be_bytes());
    out.extend(PORT.to_be_bytes());
    out.extend(tag.to_be_bytes());
    out.extend([0; 4]);
}

/// Appends a chunk, padded; whether it fitted.
pub(super) fn push(out: &mut Vec<u8>, kind: u8, flags: u8, pieces: &[&[u8]]) -> bool {
    let len = 4 + pieces.iter().map(|piece| piece.len()).sum::<usize>();
    if out.len() + len.next_multiple_of(4) > PACKET_BYTES_MAX {
        return false;
    }
    out.extend([kind, flags]);
    out.extend((len as u16).to_be_bytes());
    pieces.iter().for_each(|piece| out.extend(*piece));
    out.resize(out.len().next_multiple_of(4), 0);
    true
}

/// Ends a packet: its checksum.
pub(super) fn finish(out: &mut [u8]) {
    let sum = crc32c(&[out]);
    if let Some(field) = out.get_mut(8..HEADER_BYTES) {
        field.copy_from_slice(&sum.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_reads_as_it_was_written_and_no_bit_of_it_may_differ() {
        let mut packet = Vec::new();
        begin(&mut packet, 7);
        assert!(push(&mut packet, HEARTBEAT, 3, &[&[1, 2], &[3]]));
        assert!(push(&mut packet, ABORT, 0, &[]));
        assert!(!push(&mut packet, DATA, 0, &[&[0; PACKET_BYTES_MAX]]));
        finish(&mut packet);
        let (tag, body) = open(&packet).unwrap();
        let read: Vec<Chunk<'_>> = chunks(body).collect();
        let heartbeat = Chunk { kind: HEARTBEAT, flags: 3, body: &[1, 2, 3] };
        assert_eq!((tag, read), (7, vec![heartbeat, Chunk { kind: ABORT, flags: 0, body: &[] }]));
        for bit in 0..packet.len() * 8 {
            packet[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(open(&packet), None);
            packet[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn lengths_that_lie_end_the_reading() {
        assert_eq!(chunks(&[1, 0, 0, 0]).count(), 0);
        assert_eq!(chunks(&[1, 0, 0, 3, 1]).count(), 0);
        assert_eq!(chunks(&[1, 0, 0, 9, 1, 1, 1, 1]).count(), 0);
        assert_eq!(chunks(&[1, 0, 0, 5, 1, 1, 0, 0]).count(), 1);
        assert_eq!(chunks(&[1, 0, 0, 5, 1]).count(), 1, "the last one's padding may be missing");
        assert_eq!(chunks(&[1, 0, 0, 4, 1, 0, 0xff, 0xff]).count(), 1);
    }
}
