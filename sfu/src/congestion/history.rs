//! What was sent under which transport-wide sequence number.

use super::{Micros, Purpose};

/// Packets remembered, at most: 1.3 s at 50 Mbit/s in packets of 1,000 bytes. When full, the oldest are forgotten, and
/// feedback about them finds nothing.
pub(super) const SENT_MAX: usize = 8_192;
const SENT_MIN: usize = 32;
/// As long as feedback never came: most likely it never will.
const SENT_UNHEARD_MAX: usize = 256;
/// A packet that nothing was heard of makes the ring grow rather than be forgotten within this time.
const KEEP: u32 = 2_000_000;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Empty,
    InFlight,
    /// Reported as not received; that may be corrected.
    Missing,
    Received,
}

/// 8 bytes, since every idle peer has some of them.
#[derive(Clone, Copy, Debug, Default)]
struct Sent {
    /// Low half of the send time; it wraps after 71 minutes.
    at: u32,
    bytes: u16,
    /// The probe that it belonged to; 0 is none.
    cluster: u8,
    state: State,
}

/// What feedback told of one packet for the first time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) at: Micros,
    pub(super) bytes: u16,
    pub(super) cluster: u8,
    /// It was told to be missing before.
    pub(super) corrected: bool,
}

/// See the module.
#[derive(Debug)]
pub(super) struct History {
    /// A power of two; the place is the number's low bits.
    sent: Vec<Sent>,
    next: u64,
    /// How long it may become.
    most: usize,
    /// Bytes ever sent, padding left out.
    pub(super) bytes: u64,
}

impl History {
    pub(super) fn new() -> Self {
        // A round ahead, so that numbers behind the first are told from ones ahead.
        History { sent: Vec::new(), next: 1 << 16, most: SENT_UNHEARD_MAX, bytes: 0 }
    }

    /// The number of the next packet; its low half goes out with it.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// How many packets feedback can be about.
    pub(super) fn len(&self) -> usize {
        self.sent.len()
    }

    /// Notes a packet that is sent now. The hot path.
    #[inline]
    pub(super) fn push(&mut self, bytes: usize, purpose: Purpose, cluster: u8, at: Micros) {
        let place = self.next as usize & self.sent.len().wrapping_sub(1);
        let full = self.sent.get(place).is_none_or(|old| {
            old.state == State::InFlight && (at as u32).wrapping_sub(old.at) < KEEP && self.sent.len() < self.most
        });
        if full {
            self.grow();
        }
        let place = self.next as usize & self.sent.len().wrapping_sub(1);
        self.sent[place] = Sent { at: at as u32, bytes: bytes as u16, cluster, state: State::InFlight };
        self.next += 1;
        if purpose != Purpose::Padding {
            self.bytes += bytes as u64;
        }
    }

    #[cold]
    fn grow(&mut self) {
        let old_len = self.sent.len() as u64;
        let mut larger = vec![Sent::default(); (self.sent.len() * 2).max(SENT_MIN)];
        let mask = larger.len() - 1;
        for number in self.next - old_len..self.next {
            larger[number as usize & mask] = self.sent[(number & (old_len - 1)) as usize];
        }
        self.sent = larger;
    }

    /// When a packet was sent, by its whole number.
    pub(super) fn sent_at(&self, number: u64, now: Micros) -> Option<Micros> {
        if number >= self.next || number + (self.sent.len() as u64) < self.next {
            return None;
        }
        let sent = self.sent.get(number as usize & self.sent.len().wrapping_sub(1))?;
        (sent.state != State::Empty).then(|| since(sent.at, now))
    }

    /// Notes what feedback says of a packet, and says what is new in it: nothing if it was never sent, is forgotten, or
    /// was told of before. Its whole number comes with it.
    pub(super) fn told(&mut self, seq: u16, received: bool, now: Micros) -> Option<(u64, Told)> {
        let newest = self.next - 1;
        let behind = (newest as u16).wrapping_sub(seq);
        if usize::from(behind) >= self.sent.len() {
            return None;
        }
        self.most = SENT_MAX;
        let number = newest - u64::from(behind);
        let place = number as usize & self.sent.len().wrapping_sub(1);
        let sent = self.sent.get_mut(place)?;
        let corrected = match (sent.state, received) {
            (State::InFlight, _) => false,
            (State::Missing, true) => true,
            _ => return None,
        };
        sent.state = if received { State::Received } else { State::Missing };
        Some((number, Told { at: since(sent.at, now), bytes: sent.bytes, cluster: sent.cluster, corrected }))
    }
}

/// The whole of a time of which the low half is known, not after `now`.
fn since(low: u32, now: Micros) -> Micros {
    now.saturating_sub(u64::from((now as u32).wrapping_sub(low)))
}
