//! Transport-wide feedback (draft-holmer-rmcat-transport-wide-cc-extensions-01): when a publisher's packets came, told
//! back to it so that it can find its bandwidth.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::{rtcp, rtp};

/// The most sequence numbers, lost ones included, that are remembered. When full, those that were told of are forgotten
/// before their time. A packet so far ahead of what was not told of begins anew: that is forgotten too, and the sender hears
/// nothing of it. At 100 ms between feedbacks this is 20,000 packets a second.
pub const WINDOW_MAX: usize = 2048;

/// A packet that comes so much later than those around it, at most, is told of though its loss was: its sender takes that
/// back, as it does with libwebrtc's receivers.
pub const LATE_MAX: Duration = Duration::from_millis(500);

/// The longest feedback packet, in bytes, so that it fits a datagram beside other RTCP; what does not fit goes into the
/// next one.
pub const FEEDBACK_BYTES_MAX: usize = 1000;

/// Header, both SSRCs, base, count, reference time and feedback count.
const FIXED_BYTES: usize = 20;
const RUN_MAX: usize = 0x1fff;
const VECTOR_LEN: usize = 7;
const TICK: Duration = Duration::from_micros(250);
const TICKS_PER_REFERENCE: u64 = 256;

// However many packets were lost in front of it, one that came fits: so every feedback packet tells of one at least.
const _: () = assert!(FIXED_BYTES + 2 * WINDOW_MAX.div_ceil(VECTOR_LEN) + 2 <= FEEDBACK_BYTES_MAX);

/// When the packets of one transport came, until its sender has been told and none is expected to come late.
#[derive(Debug, Default)]
pub struct Recorder {
    /// When the first packet came; ticks count from here.
    origin: Option<Instant>,
    /// The extended sequence number of the first arrival in `arrivals`.
    base: u64,
    /// Ticks at which the packets from `base` on came, `None` for those that have not. Never longer than
    /// [`WINDOW_MAX`]; the last, if any, has come.
    arrivals: VecDeque<Option<u64>>,
    /// So many of them, the first ones, were told of.
    told: usize,
    feedback_count: u8,
    /// The statuses of the feedback packet being written; kept for its memory only.
    symbols: Vec<Symbol>,
}

/// The status of a packet (§3.1.1), by its number on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Symbol {
    Lost = 0,
    SmallDelta = 1,
    LargeDelta = 2,
}

impl Recorder {
    /// A recorder that has seen nothing.
    pub fn new() -> Self {
        Recorder::default()
    }

    /// Notes that the packet with this transport-wide sequence number came. Of duplicates the first counts. After one whose
    /// loss was told already the next feedback begins with it; see [`LATE_MAX`], and [`WINDOW_MAX`] for one far ahead.
    pub fn record(&mut self, seq: u16, now: Instant) {
        let Some(origin) = self.origin else {
            // A round ahead of zero, so that numbers behind the first are told from ones ahead.
            self.origin = Some(now);
            self.base = (1 << 16) + u64::from(seq);
            self.arrivals.push_back(Some(0));
            return;
        };
        let ticks = (now.saturating_duration_since(origin).as_micros() / TICK.as_micros()) as u64;
        let newest = (self.base + self.arrivals.len() as u64).saturating_sub(1);
        let seq = rtp::extend(newest, seq);
        let Some(ahead) = seq.checked_sub(self.base) else {
            return;
        };
        let mut ahead = ahead as usize;
        if ahead >= WINDOW_MAX {
            let room = (ahead - WINDOW_MAX + 1).min(self.told);
            self.forget(room);
            ahead -= room;
        }
        if ahead >= WINDOW_MAX {
            self.arrivals.clear();
            (self.base, self.told, ahead) = (seq, 0, 0);
        }
        if ahead >= self.arrivals.len() {
            self.arrivals.resize(ahead + 1, None);
        }
        if let Some(arrival @ None) = self.arrivals.get_mut(ahead) {
            *arrival = Some(ticks);
            self.told = self.told.min(ahead);
        }
    }

    /// Forgets the first packets, which were told of.
    fn forget(&mut self, count: usize) {
        self.arrivals.drain(..count);
        self.base += count as u64;
        self.told -= count;
    }

    /// Forgets what was told of and is too old for anything around it to count as late.
    fn forget_old(&mut self) {
        let Some(newest) = self.arrivals.back().copied().flatten() else { return };
        let late = (LATE_MAX.as_micros() / TICK.as_micros()) as u64;
        let told = self.arrivals.range(..self.told);
        let old = told.rev().position(|arrival| arrival.is_some_and(|at| at + late < newest));
        if let Some(old) = old {
            self.forget(self.told - old);
        }
    }

    /// Whether there is something to tell.
    pub fn is_pending(&self) -> bool {
        self.told < self.arrivals.len()
    }

    /// Appends one feedback packet about what came since the last, and what did not, and what lies between if some of it
    /// came late; `false` and nothing if nothing came. What is more than [`FEEDBACK_BYTES_MAX`] stays for the next call, which may follow at once.
    pub fn write_feedback(&mut self, sender_ssrc: u32, media_ssrc: u32, out: &mut Vec<u8>) -> bool {
        let mut untold = self.arrivals.range(self.told..);
        let Some(reference) = untold.find_map(|arrival| *arrival).map(|it| it / TICKS_PER_REFERENCE) else {
            return false;
        };
        self.choose_symbols(reference);
        let start = out.len();
        rtcp::write_transport_layer_header(rtcp::FORMAT_TRANSPORT_WIDE, 0, out);
        out.extend(sender_ssrc.to_be_bytes());
        out.extend(media_ssrc.to_be_bytes());
        out.extend(((self.base + self.told as u64) as u16).to_be_bytes());
        out.extend((self.symbols.len() as u16).to_be_bytes());
        out.extend(((reference as u32) << 8 | u32::from(self.feedback_count)).to_be_bytes());
        write_chunks(&self.symbols, out);
        let mut before = reference * TICKS_PER_REFERENCE;
        for (arrival, symbol) in self.arrivals.range(self.told..).zip(&self.symbols) {
            let Some(ticks) = *arrival else { continue };
            let delta = ticks as i64 - before as i64;
            match symbol {
                Symbol::SmallDelta => out.push(delta as u8),
                _ => out.extend((delta as i16).to_be_bytes()),
            }
            before = ticks;
        }
        // Zeros fill the last word. The status count says where the deltas end, so the padding bit is not needed; it
        // would be wrong wherever another packet follows in the compound packet.
        out.resize(start + (out.len() - start).next_multiple_of(4), 0);
        let words = (out.len() - start) / 4 - 1;
        if let Some([_, _, length @ ..]) = out.get_mut(start..).and_then(|it| it.first_chunk_mut::<4>()) {
            *length = (words as u16).to_be_bytes();
        }
        self.told += self.symbols.len();
        self.forget_old();
        self.feedback_count = self.feedback_count.wrapping_add(1);
        true
    }

    /// Fills `symbols` with the statuses of the next feedback packet: up to the last packet that came, that fits, and
    /// whose delta can be said.
    fn choose_symbols(&mut self, reference: u64) {
        self.symbols.clear();
        let mut before = reference * TICKS_PER_REFERENCE;
        let mut delta_bytes = 0;
        let mut told = 0;
        for arrival in self.arrivals.range(self.told..) {
            let Some(ticks) = *arrival else {
                self.symbols.push(Symbol::Lost);
                continue;
            };
            let delta = ticks as i64 - before as i64;
            let (symbol, bytes) = match delta {
                0..=255 => (Symbol::SmallDelta, 1),
                -32768..=32767 => (Symbol::LargeDelta, 2),
                _ => break,
            };
            delta_bytes += bytes;
            // Each chunk but the last tells of seven statuses at least.
            let chunk_bytes = 2 * (self.symbols.len() + 1).div_ceil(VECTOR_LEN);
            if FIXED_BYTES + chunk_bytes + delta_bytes > FEEDBACK_BYTES_MAX {
                break;
            }
            self.symbols.push(symbol);
            told = self.symbols.len();
            before = ticks;
        }
        self.symbols.truncate(told);
    }
}

/// Runs where they are worth it, vectors of two bits elsewhere (§3.1.3, §3.1.4). Each chunk but the last tells of
/// seven statuses at least.
fn write_chunks(mut symbols: &[Symbol], out: &mut Vec<u8>) {
    while let Some(&first) = symbols.first() {
        let run = symbols.iter().take(RUN_MAX).take_while(|it| **it == first).count();
        let (chunk, told) = if run >= VECTOR_LEN.min(symbols.len()) {
            ((first as u16) << 13 | run as u16, run)
        } else {
            let vector = symbols.iter().take(VECTOR_LEN);
            let told = vector.len();
            let bits = vector.fold(0, |bits, it| bits << 2 | *it as u16);
            (0b11 << 14 | bits << (2 * (VECTOR_LEN - told)), told)
        };
        out.extend(chunk.to_be_bytes());
        symbols = symbols.get(told..).unwrap_or_default();
    }
}

#[cfg(test)]
mod tests;
