//! Reads transport-wide feedback (draft-holmer-rmcat-transport-wide-cc-extensions-01 §3.1).

use crate::rtp::{u16_at, u32_at};

/// When a receiver got which packets of all streams together. Only the fixed fields are read at first; the rest is
/// checked as it is iterated over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransportFeedback<'a> {
    /// The receiver.
    pub sender: u32,
    /// One of the streams.
    pub media: u32,
    /// The transport-wide sequence number of the first status.
    pub base_seq: u16,
    /// How many packets it says to tell of.
    pub status_count: u16,
    /// The receiver's clock, in units of 64 ms, 24 bits; the first delta counts from here.
    pub reference_time: i32,
    /// Counts these packets, modulo 256.
    pub feedback_count: u8,
    /// Chunks, then deltas, then padding.
    data: &'a [u8],
}

impl<'a> TransportFeedback<'a> {
    pub(super) fn parse(body: &'a [u8]) -> Option<Self> {
        let time_and_count = u32_at(body, 12)?;
        Some(TransportFeedback {
            sender: u32_at(body, 0)?,
            media: u32_at(body, 4)?,
            base_seq: u16_at(body, 8)?,
            status_count: u16_at(body, 10)?,
            // 24 signed bits at the top; the shift spreads the sign.
            reference_time: time_and_count as i32 >> 8,
            feedback_count: time_and_count as u8,
            data: body.get(16..)?,
        })
    }

    /// Each packet's sequence number and, if it came, the time since the one before it that came, in units of 250 µs.
    /// At most [`TransportFeedback::status_count`]; fewer if the rest is a lie, none if chunks are missing.
    pub fn statuses(&self) -> Statuses<'a> {
        let mut chunks = self.data;
        let mut covered = 0;
        // Each turn takes two bytes, so this ends with the data at the latest.
        while covered < usize::from(self.status_count) {
            let Some((chunk, behind)) = Chunk::split(chunks) else {
                return Statuses { chunks: &[], deltas: &[], chunk: Chunk::EMPTY, seq: self.base_seq, left: 0 };
            };
            covered += usize::from(chunk.left);
            chunks = behind;
        }
        Statuses {
            chunks: self.data,
            deltas: chunks,
            chunk: Chunk::EMPTY,
            seq: self.base_seq,
            left: self.status_count,
        }
    }

    /// Whether there is a status for every packet that it says to tell of; walks them all.
    pub fn is_complete(&self) -> bool {
        self.statuses().count() == usize::from(self.status_count)
    }
}

/// The statuses of a [`TransportFeedback`].
#[derive(Clone, Debug)]
pub struct Statuses<'a> {
    chunks: &'a [u8],
    deltas: &'a [u8],
    /// What is left of the current chunk.
    chunk: Chunk,
    seq: u16,
    left: u16,
}

impl Iterator for Statuses<'_> {
    type Item = (u16, Option<i32>);

    fn next(&mut self) -> Option<Self::Item> {
        // Whatever is wrong ends the iteration for good.
        let left = std::mem::take(&mut self.left).checked_sub(1)?;
        let symbol = loop {
            if let Some(symbol) = self.chunk.next() {
                break symbol;
            }
            (self.chunk, self.chunks) = Chunk::split(self.chunks)?;
        };
        let delta = match symbol {
            0 => None,
            1 => {
                let (&[delta], rest) = self.deltas.split_first_chunk()?;
                self.deltas = rest;
                Some(i32::from(delta))
            }
            2 => {
                let (&delta, rest) = self.deltas.split_first_chunk()?;
                self.deltas = rest;
                Some(i32::from(i16::from_be_bytes(delta)))
            }
            _ => return None,
        };
        let seq = self.seq;
        (self.seq, self.left) = (seq.wrapping_add(1), left);
        Some((seq, delta))
    }
}

/// A status chunk, as it is being used up (§3.1.3, §3.1.4).
#[derive(Clone, Copy, Debug)]
struct Chunk {
    /// The symbols of a vector, the next one at the top; the symbol of a run, in the top two bits.
    symbols: u16,
    /// Bits for each symbol; 0 for a run.
    step: u8,
    left: u16,
}

impl Chunk {
    const EMPTY: Chunk = Chunk { symbols: 0, step: 0, left: 0 };

    fn split(bytes: &[u8]) -> Option<(Chunk, &[u8])> {
        let (&chunk, rest) = bytes.split_first_chunk()?;
        let chunk = u16::from_be_bytes(chunk);
        let chunk = match chunk >> 14 {
            0b10 => Chunk { symbols: chunk << 2, step: 1, left: 14 },
            0b11 => Chunk { symbols: chunk << 2, step: 2, left: 7 },
            _ => Chunk { symbols: chunk << 1, step: 0, left: chunk & 0x1fff },
        };
        Some((chunk, rest))
    }

    fn next(&mut self) -> Option<u8> {
        self.left = self.left.checked_sub(1)?;
        let bits = if self.step == 1 { 1 } else { 2 };
        let symbol = self.symbols >> (16 - bits);
        self.symbols <<= self.step;
        Some(symbol as u8)
    }
}
