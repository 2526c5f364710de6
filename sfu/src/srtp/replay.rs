//! What has been received of each SSRC: the newest index, and a window of those behind it (RFC 3711 §3.3.2).

use super::{Rejected, STREAMS_MAX};

/// The streams of one kind (RTP or RTCP), with windows of `WORDS` * 64 packets.
#[derive(Default)]
pub(super) struct Streams<const WORDS: usize> {
    /// Beside `windows` rather than in them, so that the search for an SSRC reads at most four cache lines.
    ssrcs: Vec<u32>,
    windows: Vec<Window<WORDS>>,
}

/// Where a stream is kept; that of an SSRC not seen before is one beyond the last.
#[derive(Clone, Copy)]
pub(super) struct Slot(usize);

impl<const WORDS: usize> Streams<WORDS> {
    /// The slot of `ssrc`, or the one it would take; an error when that is beyond [`STREAMS_MAX`].
    pub(super) fn slot(&self, ssrc: u32) -> Result<Slot, Rejected> {
        let slot = self.ssrcs.iter().position(|known| *known == ssrc).unwrap_or(self.ssrcs.len());
        if slot < STREAMS_MAX { Ok(Slot(slot)) } else { Err(Rejected::TooManyStreams) }
    }

    /// The index that a packet numbered `seq` has if it is within 2^15 of the newest; for a new SSRC, with rollover
    /// counter 0.
    pub(super) fn guess_rtp_index(&self, slot: Slot, seq: u16) -> u64 {
        self.windows.get(slot.0).map_or(u64::from(seq), |window| guess_rtp_index(window.newest, seq))
    }

    /// Whether `index` may be accepted. Indices end before `index_end`.
    pub(super) fn check(&self, slot: Slot, index: u64, index_end: u64) -> Result<(), Rejected> {
        let fresh = self.windows.get(slot.0).is_none_or(|window| window.is_fresh(index));
        if fresh && index < index_end { Ok(()) } else { Err(Rejected::Replay) }
    }

    /// Notes an authenticated packet; `slot` is that of `ssrc` and `index` has passed [`Streams::check`].
    pub(super) fn accept(&mut self, slot: Slot, ssrc: u32, index: u64) {
        match self.windows.get_mut(slot.0) {
            Some(window) => window.accept(index),
            None => {
                self.ssrcs.push(ssrc);
                self.windows.push(Window::new(index));
            }
        }
    }
}

/// RFC 3711 §3.3.1 and appendix A. Before the first rollover there is nothing to go back to, so there a number far
/// ahead is taken as it is.
fn guess_rtp_index(newest: u64, seq: u16) -> u64 {
    let (rollovers, newest_seq) = (newest >> 16, newest as u16);
    let guess = if newest_seq < 1 << 15 {
        let behind = seq > newest_seq + (1 << 15);
        rollovers.saturating_sub(u64::from(behind))
    } else {
        let ahead = seq < newest_seq - (1 << 15);
        rollovers + u64::from(ahead)
    };
    guess << 16 | u64::from(seq)
}

struct Window<const WORDS: usize> {
    newest: u64,
    /// Bit `index % (WORDS * 64)` is set if `index`, of the last `WORDS * 64` up to `newest`, was received.
    seen: [u64; WORDS],
}

impl<const WORDS: usize> Window<WORDS> {
    const LEN: u64 = WORDS as u64 * 64;

    fn new(first: u64) -> Self {
        let mut window = Window { newest: first, seen: [0; WORDS] };
        window.set(first);
        window
    }

    fn is_fresh(&self, index: u64) -> bool {
        if index > self.newest {
            return true;
        }
        let (word, bit) = place::<WORDS>(index);
        self.newest - index < Self::LEN && self.seen[word] & bit == 0
    }

    fn accept(&mut self, index: u64) {
        if index > self.newest {
            if index - self.newest >= Self::LEN {
                self.seen = [0; WORDS];
            } else {
                for skipped in self.newest + 1..index {
                    let (word, bit) = place::<WORDS>(skipped);
                    self.seen[word] &= !bit;
                }
            }
            self.newest = index;
        }
        self.set(index);
    }

    fn set(&mut self, index: u64) {
        let (word, bit) = place::<WORDS>(index);
        self.seen[word] |= bit;
    }
}

fn place<const WORDS: usize>(index: u64) -> (usize, u64) {
    let at = index % (WORDS as u64 * 64);
    ((at / 64) as usize, 1 << (at % 64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn guesses_as_appendix_a_does() {
        for (newest, seq, expected) in [
            (0x0000_0005, 6, 0x0000_0006),
            (0x0001_0005, 0xfffe, 0x0000_fffe),
            (0x0001_0005, 0x8005, 0x0001_8005),
            (0x0001_0005, 0x8006, 0x0000_8006),
            (0x0001_fffe, 3, 0x0002_0003),
            (0x0001_8005, 4, 0x0002_0004),
            (0x0001_8005, 5, 0x0001_0005),
            (0x0000_0005, 0xfffe, 0x0000_fffe),
            (0xffff_ffff_ffff, 0, 0x1_0000_0000_0000),
        ] {
            assert_eq!(guess_rtp_index(newest, seq), expected, "newest {newest:x}, seq {seq:x}");
        }
    }

    #[test]
    fn the_last_index_is_the_end() {
        let mut streams = Streams::<2>::default();
        let slot = streams.slot(1).unwrap();
        streams.accept(slot, 1, (1 << 48) - 1);
        let index = streams.guess_rtp_index(slot, 0);
        assert_eq!(streams.check(slot, index, 1 << 48), Err(Rejected::Replay));
    }

    proptest::proptest! {
        /// A window says of every index what a set of all accepted ones says.
        #[test]
        fn window_agrees_with_a_set(start in 0u64..300, steps in proptest::collection::vec(-200i64..200, 1..400)) {
            let mut window = Window::<2>::new(start);
            let mut accepted = BTreeSet::from([start]);
            let mut at = start;
            for step in steps {
                at = at.saturating_add_signed(step);
                let newest = *accepted.last().unwrap();
                let fresh = at + 128 > newest && !accepted.contains(&at);
                proptest::prop_assert_eq!(window.is_fresh(at), fresh);
                if fresh {
                    window.accept(at);
                    accepted.insert(at);
                }
            }
        }
    }
}
