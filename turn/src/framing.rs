//! Frames in a stream of a client (RFC 8656 §3.7 and §12.5): STUN messages, whose header says how long they are, and
//! ChannelData, padded to words of four bytes.

use crate::CHANNEL_HEAD_BYTES;

/// The longest payload taken in a stream, as long as the longest SRTP packet that the SFU takes. More would only become
/// IP fragments behind us; a stream whose frames are longer is ended, since nothing can be skipped that is not read.
pub const PAYLOAD_BYTES_MAX: usize = 2_048;
/// The longest STUN message taken: such a payload in a Send indication, and as much again as its header, XOR-PEER-ADDRESS
/// and FINGERPRINT need. Requests with the longest username that we make stay far below.
pub const STUN_BYTES_MAX: usize = PAYLOAD_BYTES_MAX + 256;
/// The longest ChannelData taken, its head included.
pub const CHANNEL_DATA_BYTES_MAX: usize = CHANNEL_HEAD_BYTES + PAYLOAD_BYTES_MAX;
/// No frame is longer, so neither is what must be kept of one whose end has not come.
pub const FRAME_BYTES_MAX: usize = STUN_BYTES_MAX;

const STUN_HEADER_BYTES: usize = 20;
const MAGIC_COOKIE: [u8; 4] = 0x2112_a442u32.to_be_bytes();

/// What a stream brought is no frame of TURN's, or too long. Where the next would begin is not known: the stream has to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unframed;

/// How many of the bytes are the first frame, padding included; `None` if its end has not come. At most
/// [`FRAME_BYTES_MAX`].
///
/// # Errors
///
/// Said as early as the bytes tell it: with the first byte if that begins neither STUN nor a channel of RFC 8656 §12, and
/// with the fourth if the frame is to be longer than taken.
pub fn frame_bytes(bytes: &[u8]) -> Result<Option<usize>, Unframed> {
    let Some(first) = bytes.first() else { return Ok(None) };
    let is_stun = match first {
        0x00..=0x3f => true,
        0x40..=0x4f => false,
        _ => return Err(Unframed),
    };
    let Some(&[_, _, l0, l1]) = bytes.first_chunk::<CHANNEL_HEAD_BYTES>() else { return Ok(None) };
    let len = usize::from(u16::from_be_bytes([l0, l1]));
    let frame = if is_stun {
        let cookie = bytes.get(4..).unwrap_or_default();
        let begins = cookie.iter().zip(MAGIC_COOKIE).all(|(byte, cookie)| *byte == cookie);
        if len % 4 != 0 || STUN_HEADER_BYTES + len > STUN_BYTES_MAX || !begins {
            return Err(Unframed);
        }
        STUN_HEADER_BYTES + len
    } else {
        if len > PAYLOAD_BYTES_MAX {
            return Err(Unframed);
        }
        CHANNEL_HEAD_BYTES + len.next_multiple_of(4)
    };
    Ok((bytes.len() >= frame).then_some(frame))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stun::{Method, TransactionId, Writer};
    use proptest::prelude::*;

    fn stun(payload: usize) -> Vec<u8> {
        let mut out = Vec::new();
        Writer::indication(&mut out, Method::SEND, TransactionId([9; 12]))
            .xor_peer_address("[2001:db8::1]:9".parse().unwrap())
            .dont_fragment()
            .data(&vec![0x55; payload])
            .software("a client of some name")
            .fingerprint();
        out
    }

    fn channel_data(payload: usize) -> Vec<u8> {
        let mut out = vec![0x40, 0x01];
        out.extend((payload as u16).to_be_bytes());
        out.resize(4 + payload.next_multiple_of(4), 0x40);
        out
    }

    /// The frames of a stream that comes in `pieces`, kept as the shell keeps them.
    fn read<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Result<Vec<Vec<u8>>, Unframed> {
        let (mut kept, mut frames) = (Vec::new(), vec![]);
        for piece in pieces {
            kept.extend(piece);
            while let Some(len) = frame_bytes(&kept)? {
                frames.push(kept.drain(..len).collect());
            }
            assert!(kept.len() < FRAME_BYTES_MAX);
        }
        assert!(kept.is_empty(), "{} bytes are left", kept.len());
        Ok(frames)
    }

    #[test]
    fn a_stream_split_at_every_byte_has_the_same_frames() {
        let lengths = [0, 1, 2, 3, 4, 5, 160];
        let frames: Vec<Vec<u8>> = lengths.iter().flat_map(|it| [stun(*it), channel_data(*it)]).collect();
        let stream = frames.concat();
        assert_eq!(read([&stream[..]].into_iter()).as_ref(), Ok(&frames));
        assert_eq!(read(stream.chunks(1)).as_ref(), Ok(&frames));
        for at in 0..stream.len() {
            let (a, b) = stream.split_at(at);
            assert_eq!(read([a, b].into_iter()).as_ref(), Ok(&frames), "split at {at}");
        }
    }

    #[test]
    fn the_longest_frames_are_taken_and_longer_ones_are_not() {
        for frame in [stun(PAYLOAD_BYTES_MAX), channel_data(PAYLOAD_BYTES_MAX)] {
            assert!(frame.len() <= FRAME_BYTES_MAX);
            assert_eq!(frame_bytes(&frame), Ok(Some(frame.len())));
        }
        assert_eq!(channel_data(PAYLOAD_BYTES_MAX).len(), CHANNEL_DATA_BYTES_MAX);
        assert_eq!(frame_bytes(&channel_data(PAYLOAD_BYTES_MAX + 1)[..4]), Err(Unframed));
        assert_eq!(frame_bytes(&[0x00, 0x01, 0x08, 0xec]), Ok(None), "2,304 bytes");
        assert_eq!(frame_bytes(&[0x00, 0x01, 0x08, 0xf0]), Err(Unframed), "2,308 bytes");
    }

    /// Whoever announces much and sends it byte by byte is gone with the fourth.
    #[test]
    fn the_longest_announcement_drip_fed_keeps_nothing() {
        for kind in [[0x40, 0x00], [0x4f, 0xff], [0x00, 0x01], [0x3f, 0xff]] {
            for announced in [0xffffu16, 0xfffc, 0x8000] {
                let [a, b] = announced.to_be_bytes();
                let stream = [kind[0], kind[1], a, b];
                assert!((0..4).all(|len| frame_bytes(&stream[..len]) == Ok(None)));
                assert_eq!(frame_bytes(&stream), Err(Unframed));
            }
        }
    }

    #[test]
    fn what_is_no_turn_ends_the_stream() {
        for other in [&b"GET / HTTP/1.1\r\n"[..], b"\x80\x60", b"\x50\x00\x00\x00", b"\xff", b"SSH-2.0"] {
            assert_eq!(frame_bytes(other), Err(Unframed), "{other:?}");
        }
        // A TLS ClientHello begins like a STUN message of 1–515 bytes.
        assert_eq!(frame_bytes(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"), Err(Unframed));
        assert_eq!(frame_bytes(b"\x16\x03\x01\x02\x03"), Err(Unframed), "no words of four");
        let mut cookieless = stun(0);
        cookieless[7] ^= 1;
        assert_eq!(frame_bytes(&cookieless), Err(Unframed));
        assert_eq!(frame_bytes(&cookieless[..7]), Ok(None));
    }

    proptest! {
        #[test]
        fn any_bytes_give_frames_within_bounds(bytes in prop::collection::vec(any::<u8>(), 0..64), kind in 0u8..0x60) {
            let mut bytes = bytes;
            if let Some(first) = bytes.first_mut() {
                *first = kind;
            }
            match frame_bytes(&bytes) {
                Ok(Some(len)) => prop_assert!((4..=bytes.len().min(FRAME_BYTES_MAX)).contains(&len) && len % 4 == 0),
                // More bytes may decide otherwise, fewer must not have ended the stream.
                Ok(None) => (0..bytes.len()).try_for_each(|len| {
                    prop_assert_eq!(frame_bytes(&bytes[..len]), Ok(None));
                    Ok(())
                })?,
                // What has ended stays ended.
                Err(Unframed) => prop_assert_eq!(frame_bytes(&[&bytes[..], &[0; 8]].concat()), Err(Unframed)),
            }
        }
    }
}
