//! What comes on an association: which TSNs, and the messages that they make.
//!
//! Fragments are joined in the order of their TSNs. DATA chunks of one message have consecutive TSNs and messages of one
//! stream have them in order, so one message is under way at a time and no stream needs a state of its own. A whole
//! unordered message overtakes what is missing before it; all others wait for it, those of other streams too.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::wire::{self, BEGIN, END, IMMEDIATE, UNORDERED};
use super::{MESSAGE_BYTES_MAX, OVERHEAD_BYTES, RECEIVE_BYTES_MAX};

/// TSNs beyond the first missing one that are taken. Further ones are dropped: the peer sends them again.
const TSNS_AHEAD_MAX: usize = 4_096;
/// Bytes of fragments that wait for one before them. Further ones are dropped: the peer sends them again.
const HELD_BYTES_MAX: usize = RECEIVE_BYTES_MAX / 2;
/// Gaps told in one SACK; what lies beyond is told when these are filled.
const GAPS_MAX: usize = 32;
/// How long a SACK may wait for a second packet (RFC 9260 §6.2 allows 200 ms).
const SACK_DELAY: Duration = Duration::from_millis(50);

/// A whole message.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Received {
    pub(super) stream: u16,
    pub(super) protocol: u32,
    pub(super) bytes: Vec<u8>,
}

#[derive(Debug)]
struct Fragment {
    flags: u8,
    ssn: u16,
    message: Received,
}

#[derive(Debug)]
enum Slot {
    Missing,
    /// Came, and its message was given on.
    Done,
    Held(Fragment),
}

/// A message longer than [`MESSAGE_BYTES_MAX`].
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooLong;

/// See the module.
#[derive(Debug)]
pub(super) struct Inbound {
    /// The last TSN before which nothing is missing.
    cumulative: u32,
    /// What came of the TSNs behind it.
    slots: VecDeque<Slot>,
    held_bytes: usize,
    /// The message whose fragments come now.
    partial: Option<Fragment>,
    /// Whole messages that nobody has taken yet.
    inbox: VecDeque<Received>,
    inbox_bytes: usize,
    /// Packets with DATA since the last SACK.
    unacknowledged: u32,
    sack_due: Option<Instant>,
    /// The window that the last SACK told.
    told_window: usize,
}

impl Inbound {
    /// `first` is the peer's initial TSN.
    pub(super) fn new(first: u32) -> Self {
        Inbound {
            cumulative: first.wrapping_sub(1),
            slots: VecDeque::new(),
            held_bytes: 0,
            partial: None,
            inbox: VecDeque::new(),
            inbox_bytes: 0,
            unacknowledged: 0,
            sack_due: None,
            told_window: RECEIVE_BYTES_MAX,
        }
    }

    /// Whether all up to a TSN has come.
    pub(super) fn has_all(&self, tsn: u32) -> bool {
        self.cumulative.wrapping_sub(tsn) as i32 >= 0
    }

    /// The next whole message, which stays.
    pub(super) fn front(&self) -> Option<&Received> {
        self.inbox.front()
    }

    /// The next whole message. When the window opens again by it, the peer is told.
    pub(super) fn pop(&mut self, now: Instant) -> Option<Received> {
        let received = self.inbox.pop_front()?;
        self.inbox_bytes -= received.bytes.len() + OVERHEAD_BYTES;
        if self.window() >= self.told_window + RECEIVE_BYTES_MAX / 4 {
            self.sack_due = Some(now);
        }
        Some(received)
    }

    /// Bytes that may still come.
    fn window(&self) -> usize {
        let partial = self.partial.as_ref().map_or(0, |partial| partial.message.bytes.len());
        RECEIVE_BYTES_MAX.saturating_sub(self.held_bytes + partial + self.inbox_bytes)
    }

    /// What is counted is what is there, and no more than may be.
    #[cfg(test)]
    pub(super) fn assert_bounds(&self) {
        let cost = |received: &Received| received.bytes.len() + OVERHEAD_BYTES;
        let held = self.slots.iter().map(|slot| if let Slot::Held(it) = slot { cost(&it.message) } else { 0 });
        assert_eq!(held.sum::<usize>(), self.held_bytes);
        assert_eq!(self.inbox.iter().map(cost).sum::<usize>(), self.inbox_bytes);
        assert!(self.held_bytes <= HELD_BYTES_MAX && self.slots.len() <= TSNS_AHEAD_MAX);
        assert!(self.held_bytes + self.inbox_bytes <= RECEIVE_BYTES_MAX);
        assert!(!matches!(self.slots.front(), Some(Slot::Done | Slot::Held(_))));
    }

    #[cfg(test)]
    pub(super) fn assert_empty(&self) {
        self.assert_bounds();
        assert_eq!((self.held_bytes, self.inbox_bytes, self.partial.is_none()), (0, 0, true));
    }

    /// Takes a DATA chunk (RFC 9260 §6.2).
    pub(super) fn data(&mut self, flags: u8, body: &[u8], now: Instant) -> Result<(), TooLong> {
        let (Some(tsn), Some(stream), Some(ssn), Some(protocol)) =
            (wire::u32_at(body, 0), wire::u16_at(body, 4), wire::u16_at(body, 6), wire::u32_at(body, 8))
        else {
            return Ok(());
        };
        let Some(bytes) = body.get(12..).filter(|bytes| !bytes.is_empty()) else { return Ok(()) };
        let ahead = tsn.wrapping_sub(self.cumulative) as i32;
        let whole = flags & (UNORDERED | BEGIN | END) == UNORDERED | BEGIN | END;
        let cost = bytes.len() + OVERHEAD_BYTES;
        let waits = ahead > 1 && !whole;
        let is_new = ahead > 0 && !matches!(self.slots.get(ahead as usize - 1), Some(Slot::Done | Slot::Held(_)));
        let has_room = self.window() >= cost && (!waits || self.held_bytes + cost <= HELD_BYTES_MAX);
        if !is_new || ahead as usize > TSNS_AHEAD_MAX || !has_room {
            self.sack_due = Some(now);
            return Ok(());
        }
        let index = ahead as usize - 1;
        while self.slots.len() <= index {
            self.slots.push_back(Slot::Missing);
        }
        let message = Received { stream, protocol, bytes: bytes.to_vec() };
        self.slots[index] = if whole {
            self.give(message);
            Slot::Done
        } else {
            self.held_bytes += cost;
            Slot::Held(Fragment { flags, ssn, message })
        };
        self.advance()?;
        if flags & IMMEDIATE != 0 || !self.slots.is_empty() {
            self.sack_due = Some(now);
        }
        Ok(())
    }

    /// The end of a packet that had DATA: every second one is acknowledged at once.
    pub(super) fn packet_ended(&mut self, now: Instant) {
        self.unacknowledged += 1;
        let due = if self.unacknowledged >= 2 { now } else { now + SACK_DELAY };
        self.sack_due = Some(self.sack_due.map_or(due, |before| before.min(due)));
    }

    /// FORWARD-TSN (RFC 3758 §3.6): the peer gives up all up to `tsn`.
    pub(super) fn forward(&mut self, tsn: u32, now: Instant) -> Result<(), TooLong> {
        let skipped = tsn.wrapping_sub(self.cumulative) as i32;
        self.sack_due = Some(now);
        if skipped <= 0 {
            return Ok(());
        }
        for _ in 0..(skipped as usize).min(self.slots.len()) {
            match self.slots.pop_front() {
                Some(Slot::Held(fragment)) => self.join(fragment)?,
                Some(Slot::Missing) => self.partial = None,
                Some(Slot::Done) | None => {}
            }
        }
        // Of the message under way the rest is either skipped, too, or follows without its middle.
        self.partial = None;
        self.cumulative = tsn;
        self.advance()
    }

    fn advance(&mut self) -> Result<(), TooLong> {
        while let Some(Slot::Done | Slot::Held(_)) = self.slots.front() {
            self.cumulative = self.cumulative.wrapping_add(1);
            if let Some(Slot::Held(fragment)) = self.slots.pop_front() {
                self.join(fragment)?;
            }
        }
        Ok(())
    }

    /// Takes the fragment that follows the last one; one that does not fit belongs to a message given up.
    fn join(&mut self, fragment: Fragment) -> Result<(), TooLong> {
        self.held_bytes -= fragment.message.bytes.len() + OVERHEAD_BYTES;
        let end = fragment.flags & END != 0;
        if fragment.flags & BEGIN != 0 {
            self.partial = Some(fragment);
        } else {
            let fits = |partial: &&mut Fragment| {
                (partial.message.stream, partial.ssn) == (fragment.message.stream, fragment.ssn)
                    && (partial.flags ^ fragment.flags) & UNORDERED == 0
            };
            let Some(partial) = self.partial.as_mut().filter(fits) else {
                self.partial = None;
                return Ok(());
            };
            partial.message.bytes.extend(&fragment.message.bytes);
            if partial.message.bytes.len() > MESSAGE_BYTES_MAX {
                return Err(TooLong);
            }
        }
        if end && let Some(whole) = self.partial.take() {
            self.give(whole.message);
        }
        Ok(())
    }

    fn give(&mut self, message: Received) {
        self.inbox_bytes += message.bytes.len() + OVERHEAD_BYTES;
        self.inbox.push_back(message);
    }

    /// When a SACK is due.
    pub(super) fn sack_due(&self) -> Option<Instant> {
        self.sack_due
    }

    /// Appends a SACK that is due (RFC 9260 §3.3.4); whether there was one.
    pub(super) fn write_sack(&mut self, out: &mut Vec<u8>, now: Instant) -> bool {
        if self.sack_due.is_none_or(|due| due > now) {
            return false;
        }
        let gaps = self.gaps();
        let window = self.window();
        let mut body = Vec::with_capacity(12 + 4 * gaps.len());
        body.extend(self.cumulative.to_be_bytes());
        body.extend((window as u32).to_be_bytes());
        body.extend((gaps.len() as u16).to_be_bytes());
        body.extend([0; 2]);
        for (first, last) in gaps {
            body.extend(first.to_be_bytes());
            body.extend(last.to_be_bytes());
        }
        if !wire::push(out, wire::SACK, 0, &[&body]) {
            return false;
        }
        (self.sack_due, self.unacknowledged, self.told_window) = (None, 0, window);
        true
    }

    /// What came beyond the first missing TSN, as distances from the cumulative one.
    fn gaps(&self) -> Vec<(u16, u16)> {
        let mut gaps: Vec<(u16, u16)> = Vec::new();
        let came = (1..).zip(&self.slots).filter(|(_, slot)| !matches!(slot, Slot::Missing));
        for (offset, _) in came {
            match gaps.last_mut() {
                Some((_, last)) if *last + 1 == offset => *last = offset,
                _ => gaps.push((offset, offset)),
            }
        }
        gaps.truncate(GAPS_MAX);
        gaps
    }
}
