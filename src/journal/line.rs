//! A line of a segment: `crc32 synced json`, the first two in hexadecimal.
//!
//! `synced` says how many bytes of the segment were on disk for good when the line was written. So whoever reads can tell a
//! write that a power cut tore (nothing behind it relies on it) from damage to what was acknowledged (something does).

use serde::Serialize;
use serde::de::DeserializeOwned;

/// `crc32` and the space behind it.
const CRC_BYTES: usize = 9;

/// Writes a line behind what is in `buffer`.
pub(super) fn encode(buffer: &mut Vec<u8>, synced: u64, body: &impl Serialize) {
    let start = buffer.len();
    buffer.extend_from_slice(b"00000000 ");
    buffer.extend_from_slice(format!("{synced:x} ").as_bytes());
    serde_json::to_writer(&mut *buffer, body).expect("our own words are JSON, and memory takes them");
    let crc = crc32fast::hash(&buffer[start + CRC_BYTES..]);
    buffer[start..start + CRC_BYTES - 1].copy_from_slice(format!("{crc:08x}").as_bytes());
    buffer.push(b'\n');
}

/// What a line, without its end, holds.
pub(super) enum Line<T> {
    /// As it was written.
    Whole(T),
    /// As it was written, by a Lyceum that has other words.
    Foreign,
    /// Not as it was written.
    Bad,
}

pub(super) fn decode<T: DeserializeOwned>(line: &[u8]) -> Line<T> {
    let Some((_, json)) = checked(line) else { return Line::Bad };
    match serde_json::from_slice(json) {
        Ok(body) => Line::Whole(body),
        Err(_) => Line::Foreign,
    }
}

/// The parts of a line whose checksum is right.
pub(super) fn checked(line: &[u8]) -> Option<(u64, &[u8])> {
    let (crc, rest) = line.split_at_checked(CRC_BYTES)?;
    let crc = crc.strip_suffix(b" ").and_then(hexadecimal)?;
    if u64::from(crc32fast::hash(rest)) != crc {
        return None;
    }
    let space = rest.iter().position(|byte| *byte == b' ')?;
    Some((hexadecimal(&rest[..space])?, &rest[space + 1..]))
}

fn hexadecimal(digits: &[u8]) -> Option<u64> {
    u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}
