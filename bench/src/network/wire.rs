//! What publisher and receiver agree on beneath the SFU: header extensions, VP8 descriptors, RED, and a print in each
//! payload that says truly what it is, whatever the SFU makes of the headers.

use std::time::Duration;

/// Header extension ids of publishers' offers, as Chromium numbers them.
pub const LEVEL_ID: u8 = 1;
/// See [`LEVEL_ID`].
pub const SEND_TIME_ID: u8 = 2;
/// See [`LEVEL_ID`].
pub const TRANSPORT_ID: u8 = 3;
/// See [`LEVEL_ID`].
pub const MID_ID: u8 = 4;
/// See [`LEVEL_ID`].
pub const RID_ID: u8 = 10;
/// See [`LEVEL_ID`].
pub const REPAIRED_RID_ID: u8 = 11;

/// Bytes of a [`Print`].
pub const PRINT_BYTES: usize = 24;
/// Bytes of the VP8 descriptor that [`Vp8::write`] writes.
pub const VP8_BYTES: usize = 6;

/// What a payload is, told by its publisher in its last bytes: of audio a 20 ms frame, of video a part of a picture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Print {
    /// Who published it.
    pub publisher: u8,
    /// Simulcast layer, 0 the smallest; 0 for audio.
    pub layer: u8,
    /// Where the frame stands in the pattern of four of [`PATTERN`], or [`KEY`].
    pub role: u8,
    /// Counts the frames of this stream (audio) or layer (video) since it began.
    pub frame: u32,
    /// Since the run began.
    pub captured: Duration,
}

/// A frame's place in the pattern: a keyframe.
pub const KEY: u8 = 255;
/// Temporal layers of four frames, as libwebrtc's three-layer pattern for VP8 has them.
pub const PATTERN: [u8; 4] = [0, 2, 1, 2];

impl Print {
    /// Writes itself to the end of a payload, which must have [`PRINT_BYTES`].
    pub fn write(self, payload: &mut [u8]) {
        let at = payload.len() - PRINT_BYTES;
        let print = &mut payload[at..];
        print[..4].copy_from_slice(&[0xc3, self.publisher, self.layer, self.role]);
        print[4..8].copy_from_slice(&self.frame.to_be_bytes());
        print[8..16].copy_from_slice(&(self.captured.as_micros() as u64).to_be_bytes());
        print[16..].copy_from_slice(b"lyceum!!");
    }

    /// Reads the end of a payload.
    pub fn read(payload: &[u8]) -> Option<Print> {
        let print: &[u8; PRINT_BYTES] = payload.last_chunk()?;
        let (&[magic, publisher, layer, role], rest) = print.split_first_chunk()?;
        let (&frame, rest) = rest.split_first_chunk()?;
        let (&captured, tail) = rest.split_first_chunk()?;
        (magic == 0xc3 && tail == b"lyceum!!").then(|| Print {
            publisher,
            layer,
            role,
            frame: u32::from_be_bytes(frame),
            captured: Duration::from_micros(u64::from_be_bytes(captured)),
        })
    }

    /// The frames of its layer that must be decoded before.
    pub fn references(self) -> impl Iterator<Item = u32> {
        // The base needs the base before, four frames ago; the next two need the base. The last needs base and middle, and
        // libwebrtc has it wait for the frame between, too, since it refers to all layers up to its own.
        let back: &[u32] = match self.role {
            0 => &[4],
            1 => &[1],
            2 => &[2],
            3 => &[3, 2, 1],
            _ => &[],
        };
        back.iter().map(move |back| self.frame.wrapping_sub(*back))
    }
}

/// A VP8 payload descriptor with a 15-bit picture id, TL0PICIDX and a temporal layer (RFC 7741 §4.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Vp8 {
    /// First packet of a frame.
    pub starts: bool,
    /// From the frame header; only a first packet tells.
    pub key: bool,
    /// 15 bits.
    pub picture_id: u16,
    /// Counts the frames of the base layer.
    pub tl0: u8,
    /// Temporal layer.
    pub tid: u8,
    /// Needs the base layer only.
    pub sync: bool,
}

impl Vp8 {
    /// The descriptor, and behind it on a first packet the frame header.
    pub fn write(self, size: (u16, u16), out: &mut Vec<u8>) {
        out.extend([0x80 | if self.starts { 0x10 } else { 0 } | if self.tid == 2 { 0x20 } else { 0 }, 0xe0]);
        out.extend((0x8000 | self.picture_id).to_be_bytes());
        out.extend([self.tl0, self.tid << 6 | u8::from(self.sync) << 5]);
        if self.starts {
            out.extend([if self.key { 0x10 } else { 0x11 }, 0, 0]);
        }
        if self.starts && self.key {
            out.extend([0x9d, 0x01, 0x2a]);
            out.extend(size.0.to_le_bytes());
            out.extend(size.1.to_le_bytes());
        }
    }

    /// Reads a descriptor that has at least a picture id; a 7-bit one counts as it is.
    pub fn read(payload: &[u8]) -> Option<Vp8> {
        let (&[first, extended], mut rest) = payload.split_first_chunk()?;
        let mut vp8 = Vp8 { starts: first & 0x17 == 0x10, ..Vp8::default() };
        if first & 0x80 == 0 || extended & 0x80 == 0 {
            return None;
        }
        let mut next = || {
            let (byte, behind) = rest.split_first()?;
            rest = behind;
            Some(*byte)
        };
        vp8.picture_id = u16::from(next()?);
        if vp8.picture_id & 0x80 != 0 {
            vp8.picture_id = (vp8.picture_id & 0x7f) << 8 | u16::from(next()?);
        }
        if extended & 0x40 != 0 {
            vp8.tl0 = next()?;
        }
        if extended & 0x30 != 0 {
            let byte = next()?;
            (vp8.tid, vp8.sync) = (byte >> 6, byte & 0x20 != 0);
        }
        vp8.key = vp8.starts && rest.first()? & 1 == 0;
        Some(vp8)
    }
}

/// A plain RTP packet under construction.
pub struct Header<'a> {
    /// See RFC 3550 §5.1, here and below.
    pub payload_type: u8,
    /// The marker bit.
    pub marker: bool,
    /// Sequence number.
    pub sequence: u16,
    /// Timestamp.
    pub timestamp: u32,
    /// SSRC.
    pub ssrc: u32,
    /// Header extensions, 1–16 bytes each.
    pub extensions: &'a [(u8, &'a [u8])],
}

impl Header<'_> {
    /// The header with its extensions in their one-byte form (RFC 8285 §4.2).
    pub fn write(&self) -> Vec<u8> {
        let mut packet = Vec::with_capacity(1_300);
        packet.extend([0x90, self.payload_type | u8::from(self.marker) << 7]);
        packet.extend(self.sequence.to_be_bytes());
        packet.extend(self.timestamp.to_be_bytes());
        packet.extend(self.ssrc.to_be_bytes());
        packet.extend([0xbe, 0xde, 0, 0]);
        for (id, value) in self.extensions {
            packet.push(id << 4 | (value.len() - 1) as u8);
            packet.extend(*value);
        }
        packet.resize(packet.len().next_multiple_of(4), 0);
        packet[15] = ((packet.len() - 16) / 4) as u8;
        packet
    }
}

/// Writes RED (RFC 2198 §3): older frames with how far back they lie, oldest first, then the newest.
pub fn write_red(payload_type: u8, older: &[(u32, &[u8])], newest: &[u8], out: &mut Vec<u8>) {
    for (back, frame) in older {
        let word = (u32::from(0x80 | payload_type)) << 24 | back << 10 | frame.len() as u32;
        out.extend(word.to_be_bytes());
    }
    out.push(payload_type);
    older.iter().for_each(|(_, frame)| out.extend(*frame));
    out.extend(newest);
}

/// The frames of a RED payload, with how far back each lies; the newest last. `None` if it lies.
pub fn read_red(payload: &[u8]) -> Option<Vec<(u32, &[u8])>> {
    let mut heads = Vec::new();
    let mut rest = payload;
    while rest.first()? & 0x80 != 0 {
        let (&word, behind) = rest.split_first_chunk::<4>()?;
        let word = u32::from_be_bytes(word);
        heads.push((word >> 10 & 0x3fff, (word & 0x3ff) as usize));
        rest = behind;
    }
    rest = &rest[1..];
    let mut frames = Vec::new();
    for (back, len) in heads {
        let (frame, behind) = rest.split_at_checked(len)?;
        frames.push((back, frame));
        rest = behind;
    }
    frames.push((0, rest));
    Some(frames)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_the_same() {
        let print = Print { publisher: 3, layer: 2, role: 1, frame: 77, captured: Duration::from_micros(1_234_567) };
        let vp8 = Vp8 { starts: true, key: true, picture_id: 0x1234, tl0: 9, tid: 1, sync: true };
        let mut payload = Vec::new();
        vp8.write((640, 360), &mut payload);
        payload.resize(100, 0);
        print.write(&mut payload);
        assert_eq!((Print::read(&payload), Vp8::read(&payload)), (Some(print), Some(vp8)));
        assert_eq!(print.references().collect::<Vec<_>>(), [76]);

        let mut red = Vec::new();
        write_red(111, &[(1_920, b"older"), (960, b"old")], b"new", &mut red);
        assert_eq!(read_red(&red), Some(vec![(1_920, &b"older"[..]), (960, b"old"), (0, b"new")]));
    }

    #[test]
    fn the_sfu_reads_our_headers() {
        let extensions: [(u8, &[u8]); 2] = [(MID_ID, b"1"), (TRANSPORT_ID, &[1, 2])];
        let header =
            Header { payload_type: 96, marker: true, sequence: 5, timestamp: 6, ssrc: 7, extensions: &extensions };
        let packet = header.write();
        let read = sfu::rtp::parse(&packet).expect("a header");
        assert_eq!((read.marker, read.payload_type, read.ssrc, read.header_len), (true, 96, 7, packet.len()));
        assert_eq!(sfu::rtp::extensions(&packet, &read).collect::<Vec<_>>(), extensions);
    }
}
