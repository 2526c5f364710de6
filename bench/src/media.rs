//! Synthetic media that can be checked at the far end: each payload ends in a stamp that says whose and which it is,
//! so that a receiver knows what is missing even though the SFU rewrites every header.

/// Audio packets a second, each of 20 ms.
pub const AUDIO_PPS: u32 = 50;
/// Video frames a second; each frame is one burst.
pub const VIDEO_FPS: u32 = 28;
/// Payload bytes of a video packet.
pub const VIDEO_PAYLOAD_BYTES: usize = 1_100;
/// RTP clock of Opus, Hz.
pub const AUDIO_CLOCK_HZ: u32 = 48_000;
/// RTP clock of video, Hz.
pub const VIDEO_CLOCK_HZ: u32 = 90_000;
/// How many packets behind the newest a late one still counts; later ones stay lost.
pub const TALLY_WINDOW: u64 = 8_192;
/// The length of a [`Stamp`] at the end of a payload.
pub const STAMP_BYTES: usize = 16;

/// Whose packet and which: the last [`STAMP_BYTES`] of each payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Stamp {
    /// The publishing bot's stream, unique in a run.
    pub stream: u64,
    /// Counts the packets of that stream from 0.
    pub number: u64,
}

impl Stamp {
    /// Writes the stamp at the end of `payload`, which must be at least [`STAMP_BYTES`] long.
    pub fn write(self, payload: &mut [u8]) {
        let at = payload.len() - STAMP_BYTES;
        payload[at..at + 8].copy_from_slice(&self.stream.to_be_bytes());
        payload[at + 8..].copy_from_slice(&self.number.to_be_bytes());
    }

    /// Reads the stamp at the end of `payload`; `None` when it is too short to have one.
    pub fn read(payload: &[u8]) -> Option<Stamp> {
        let (rest, number) = payload.split_last_chunk::<8>()?;
        let (_, stream) = rest.split_last_chunk::<8>()?;
        Some(Stamp { stream: u64::from_be_bytes(*stream), number: u64::from_be_bytes(*number) })
    }
}

/// Fills an Opus-like payload: 100–160 bytes, varying with the packet's number as speech does.
pub fn audio_payload(stamp: Stamp) -> Vec<u8> {
    let mut payload = vec![0x5a; 100 + (stamp.number * 7 % 61) as usize];
    payload[0] = 0x78; // Opus TOC: CELT fullband, 20 ms, mono, one frame (RFC 6716 §3.1)
    stamp.write(&mut payload);
    payload
}

/// Where a VP8 packet stands in its frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vp8 {
    /// 15-bit picture id.
    pub picture: u16,
    /// First packet of the frame.
    pub first: bool,
    /// The frame is a keyframe.
    pub key: bool,
}

/// Bytes of the VP8 descriptor that [`video_payload`] writes: mandatory byte, X byte, 15-bit picture id.
pub const VP8_DESCRIPTOR_BYTES: usize = 4;

/// Fills a VP8 payload of `bytes` (RFC 7741 §4.2, §4.3): descriptor, on a first packet the frame header, then noise and stamp.
pub fn video_payload(frame: Vp8, stamp: Stamp, bytes: usize) -> Vec<u8> {
    let mut payload = vec![0xa5; bytes.max(VP8_DESCRIPTOR_BYTES + 10 + STAMP_BYTES)];
    payload[0] = 0x80 | if frame.first { 0x10 } else { 0 };
    payload[1] = 0x80;
    payload[2..4].copy_from_slice(&(0x8000 | frame.picture).to_be_bytes());
    if frame.first {
        // Frame tag: P bit clear on a keyframe, show_frame set; a keyframe goes on with its start code and 640×360.
        payload[4..7].copy_from_slice(&[if frame.key { 0x10 } else { 0x11 }, 0, 0]);
        if frame.key {
            payload[7..14].copy_from_slice(&[0x9d, 0x01, 0x2a, 0x80, 0x02, 0x68, 0x01]);
        }
    }
    stamp.write(&mut payload);
    payload
}

/// Counts what arrived of one stream, by the publisher's own numbers: a gap that the SFU made is a loss too.
#[derive(Clone, Debug)]
pub struct Tally {
    first: u64,
    highest: u64,
    seen: [u64; (TALLY_WINDOW / 64) as usize],
    /// Packets that came, each counted once.
    pub received: u64,
    /// Packets that came again.
    pub duplicates: u64,
    /// Payload bytes of the packets counted in `received`.
    pub payload_bytes: u64,
}

impl Tally {
    /// Starts at the first packet that came.
    pub fn new(number: u64, payload_bytes: usize) -> Self {
        let mut tally = Tally {
            first: number,
            highest: number,
            seen: [0; (TALLY_WINDOW / 64) as usize],
            received: 0,
            duplicates: 0,
            payload_bytes: 0,
        };
        tally.note(number, payload_bytes);
        tally
    }

    /// Counts one packet. One from before the first, or more than [`TALLY_WINDOW`] behind the newest, is not counted.
    pub fn note(&mut self, number: u64, payload_bytes: usize) {
        if number < self.first || number + TALLY_WINDOW <= self.highest {
            return;
        }
        if number >= self.highest + TALLY_WINDOW {
            self.seen.fill(0);
        } else {
            for skipped in self.highest + 1..=number {
                *self.word(skipped) &= !(1 << (skipped % 64));
            }
        }
        self.highest = self.highest.max(number);
        let bit = 1 << (number % 64);
        let word = self.word(number);
        if *word & bit != 0 {
            self.duplicates += 1;
            return;
        }
        *word |= bit;
        self.received += 1;
        self.payload_bytes += payload_bytes as u64;
    }

    fn word(&mut self, number: u64) -> &mut u64 {
        &mut self.seen[(number % TALLY_WINDOW / 64) as usize]
    }

    /// How many should have come since the first, when the publisher has sent `published` in all.
    pub fn expected(&self, published: u64) -> u64 {
        published.saturating_sub(self.first).max(self.received)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_survives_its_payload() {
        let stamp = Stamp { stream: 3, number: 77 };
        assert_eq!(Stamp::read(&audio_payload(stamp)), Some(stamp));
        let frame = Vp8 { picture: 5, first: true, key: true };
        let payload = video_payload(frame, stamp, VIDEO_PAYLOAD_BYTES);
        assert_eq!((payload.len(), Stamp::read(&payload)), (VIDEO_PAYLOAD_BYTES, Some(stamp)));
        assert_eq!(Stamp::read(&[0; STAMP_BYTES - 1]), None);
    }

    #[test]
    fn a_tally_counts_gaps_repeats_and_late_packets() {
        let mut tally = Tally::new(10, 1);
        for number in [11, 14, 12, 14, 9] {
            tally.note(number, 1);
        }
        assert_eq!((tally.received, tally.duplicates, tally.expected(15)), (4, 1, 5));
        tally.note(10 + 2 * TALLY_WINDOW, 1);
        tally.note(13, 1); // too late to be known as new
        assert_eq!((tally.received, tally.duplicates), (5, 1));
    }

    #[test]
    fn a_tally_forgets_what_left_its_window() {
        let mut tally = Tally::new(0, 1);
        (1..3 * TALLY_WINDOW).for_each(|number| tally.note(number, 1));
        assert_eq!((tally.received, tally.duplicates), (3 * TALLY_WINDOW, 0));
    }
}
