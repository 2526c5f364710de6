//! A fast hasher with a secret.

use std::hash::{BuildHasher, Hasher};

/// Hashes a few words fast. It is keyed, so that whoever chooses addresses cannot choose which of them collide.
#[derive(Clone)]
pub(crate) struct Keyed {
    seed: u64,
    factor: u64,
}

impl Keyed {
    pub(crate) fn new(seed: [u64; 2]) -> Self {
        // An odd factor loses no bit of what it multiplies.
        Keyed { seed: seed[0], factor: seed[1] | 1 }
    }
}

impl std::fmt::Debug for Keyed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keyed")
    }
}

impl BuildHasher for Keyed {
    type Hasher = Folding;

    fn build_hasher(&self) -> Folding {
        Folding { state: self.seed, factor: self.factor }
    }
}

/// Multiplies to 128 bits and folds the halves, word by word.
pub(crate) struct Folding {
    state: u64,
    factor: u64,
}

impl Hasher for Folding {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            for (slot, byte) in word.iter_mut().zip(chunk) {
                *slot = *byte;
            }
            self.write_u64(u64::from_ne_bytes(word) ^ (chunk.len() as u64) << 56);
        }
    }

    fn write_u8(&mut self, word: u8) {
        self.write_u64(u64::from(word));
    }

    fn write_u16(&mut self, word: u16) {
        self.write_u64(u64::from(word));
    }

    fn write_u32(&mut self, word: u32) {
        self.write_u64(u64::from(word));
    }

    fn write_u64(&mut self, word: u64) {
        let product = u128::from(self.state ^ word) * u128::from(self.factor);
        self.state = product as u64 ^ (product >> 64) as u64;
    }

    fn write_usize(&mut self, word: usize) {
        self.write_u64(word as u64);
    }

    fn finish(&self) -> u64 {
        self.state
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

    #[test]
    fn neighbours_do_not_collide() {
        let keyed = Keyed::new([0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210]);
        let mut low: [HashSet<u64>; 2] = Default::default();
        let mut high = HashSet::new();
        for port in 0..=u16::MAX {
            let four = SocketAddr::from((Ipv4Addr::new(192, 0, 2, 1), port));
            let six = SocketAddr::from((Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, port), 3478));
            for (low, address) in low.iter_mut().zip([four, six]) {
                let hash = keyed.hash_one(address);
                low.insert(hash & 0xffff);
                high.insert(hash >> 57);
            }
        }
        // Of 65,536 balls in as many bins 63 % of the bins are hit; a map tells entries by the uppermost bits.
        assert!(low.iter().all(|it| (38_000..46_000).contains(&it.len())), "{} {}", low[0].len(), low[1].len());
        assert_eq!(high.len(), 128);
    }
}
