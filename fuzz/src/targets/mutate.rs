//! A small mutator, so that the ordinary tests look a little beyond the corpus too, the same way each time.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// Longest mutant, in bytes.
const MUTANT_BYTES_MAX: usize = 16 << 10;
const TELLING: [u8; 10] = [0x00, 0x01, 0x7f, 0x80, 0x81, 0xbe, 0xc8, 0xcd, 0xfe, 0xff];

/// Mutants of a corpus.
pub struct Mutator<'a> {
    corpus: &'a [Vec<u8>],
    rng: StdRng,
}

impl<'a> Mutator<'a> {
    /// A mutator of a corpus that is not empty; the seed decides everything.
    pub fn new(corpus: &'a [Vec<u8>], seed: u64) -> Self {
        Mutator { corpus, rng: StdRng::seed_from_u64(seed) }
    }

    /// The next mutant.
    pub fn mutant(&mut self) -> Vec<u8> {
        let mut bytes = self.pick().to_vec();
        for _ in 0..self.rng.random_range(1..8) {
            self.change(&mut bytes);
        }
        bytes.truncate(MUTANT_BYTES_MAX);
        bytes
    }

    fn pick(&mut self) -> &'a [u8] {
        &self.corpus[self.rng.random_range(0..self.corpus.len())]
    }

    fn change(&mut self, bytes: &mut Vec<u8>) {
        let at = self.rng.random_range(0..=bytes.len());
        let end = (at + self.rng.random_range(1..=32)).min(bytes.len());
        match self.rng.random_range(0..8) {
            0 => bytes.truncate(at),
            1 => drop(bytes.drain(at..end)),
            2 => {
                let again = bytes[at..end].to_vec();
                bytes.splice(at..at, again);
            }
            3 => {
                let other = self.pick();
                let from = self.rng.random_range(0..=other.len());
                let until = (from + self.rng.random_range(1..=64)).min(other.len());
                bytes.splice(at..end, other[from..until].iter().copied());
            }
            4 => bytes.insert(at, self.rng.random()),
            // The last byte is changed in place, like any other.
            it => {
                let last = bytes.len().saturating_sub(1);
                let Some(byte) = bytes.get_mut(at.min(last)) else { return };
                match it {
                    5 => *byte ^= 1 << self.rng.random_range(0..8),
                    6 => *byte = TELLING[self.rng.random_range(0..TELLING.len())],
                    _ => *byte = byte.wrapping_add(self.rng.random_range(0..=2)).wrapping_sub(1),
                }
            }
        }
    }
}
