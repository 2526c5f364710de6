//! What each payload of the tester says of itself in its last bytes, whatever the server makes of the headers: whose it is, which
//! part of which frame, what that frame needs, and when it was sent.

/// Bytes of a [`Stamp`], at the end of a payload.
pub const STAMP_BYTES: usize = 28;
const MAGIC: [u8; 4] = *b"lbs1";

/// Which of a publisher's tracks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Track {
    /// Microphone.
    Audio = 0,
    /// Camera.
    Camera = 1,
    /// Shared screen.
    Screen = 2,
}

impl Track {
    /// All, in the order of their mids.
    pub const ALL: [Track; 3] = [Track::Audio, Track::Camera, Track::Screen];

    /// What signaling calls it.
    pub fn source(self) -> &'static str {
        ["microphone", "camera", "screen"][self as usize]
    }
}

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Who published it: unique in a run.
    pub publisher: u32,
    /// Which of its tracks.
    pub track: Track,
    /// Simulcast layer, 0 the smallest.
    pub layer: u8,
    /// Frames that must be decoded before: bit *i* is the one that lies *i + 1* back in its layer. 0 is a keyframe.
    pub needs: u8,
    /// Counts the frames of the layer.
    pub frame: u32,
    /// Which packet of the frame, from 0.
    pub piece: u16,
    /// Packets of the frame.
    pub pieces: u16,
    /// When it was sent first, µs since the run began.
    pub sent_us: u64,
}

impl Stamp {
    /// Writes itself to the end of a payload, which must have [`STAMP_BYTES`].
    pub fn write(self, payload: &mut [u8]) {
        let at = payload.len() - STAMP_BYTES;
        let stamp = &mut payload[at..];
        stamp[..4].copy_from_slice(&MAGIC);
        stamp[4..8].copy_from_slice(&self.publisher.to_be_bytes());
        stamp[8..12].copy_from_slice(&[self.track as u8, self.layer, self.needs, 0]);
        stamp[12..16].copy_from_slice(&self.frame.to_be_bytes());
        stamp[16..18].copy_from_slice(&self.piece.to_be_bytes());
        stamp[18..20].copy_from_slice(&self.pieces.to_be_bytes());
        stamp[20..].copy_from_slice(&self.sent_us.to_be_bytes());
    }

    /// Reads the end of a payload; `None` when it is not the tester's.
    pub fn read(payload: &[u8]) -> Option<Stamp> {
        let stamp: &[u8; STAMP_BYTES] = payload.last_chunk()?;
        let (magic, rest) = stamp.split_first_chunk()?;
        let (&publisher, rest) = rest.split_first_chunk()?;
        let (&[track, layer, needs, _], rest) = rest.split_first_chunk()?;
        let (&frame, rest) = rest.split_first_chunk()?;
        let (&piece, rest) = rest.split_first_chunk()?;
        let (&pieces, rest) = rest.split_first_chunk()?;
        let stamp = Stamp {
            publisher: u32::from_be_bytes(publisher),
            track: *Track::ALL.get(usize::from(track))?,
            layer,
            needs,
            frame: u32::from_be_bytes(frame),
            piece: u16::from_be_bytes(piece),
            pieces: u16::from_be_bytes(pieces),
            sent_us: u64::from_be_bytes(*rest.first_chunk()?),
        };
        (*magic == MAGIC).then_some(stamp)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_the_same_and_noise_is_nothing() {
        let stamp = Stamp {
            publisher: 70_000,
            track: Track::Screen,
            layer: 2,
            needs: 5,
            frame: 77,
            piece: 3,
            pieces: 9,
            sent_us: 1_234_567_890_123,
        };
        let mut payload = vec![0x5a; 100];
        stamp.write(&mut payload);
        assert_eq!(Stamp::read(&payload), Some(stamp));
        payload[100 - STAMP_BYTES] ^= 1;
        assert_eq!((Stamp::read(&payload), Stamp::read(&payload[..10])), (None, None));
    }
}
