//! How often a network may be answered before it has shown who it is. Whoever forges source addresses would have us
//! answer somebody else; so UDP answers to strangers are counted by the network they go to.

use std::hash::{DefaultHasher, Hasher};
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

/// Time in which one answer becomes free again: 100 a second.
const INTERVAL: Duration = Duration::from_millis(10);
/// Answers at once. A school sits behind one address, and each of its browsers asks a few times when a lesson begins.
const BURST: u32 = 500;
/// Buckets. A network has one, by its hash, and shares it with whatever else falls there: memory never grows. Fewer would
/// let one network's flood silence more of the others; more would let forged sources have us answer more in all.
const BUCKETS: usize = 4_096;

/// Token buckets by source network: /24 for IPv4, /48 for IPv6.
#[derive(Debug)]
pub(crate) struct Throttle {
    seed: [u8; 32],
    started: Instant,
    /// By bucket, when its tokens will all be there again, since `started`.
    full_at: Box<[Duration; BUCKETS]>,
}

impl Throttle {
    pub(crate) fn new(seed: [u8; 32], now: Instant) -> Self {
        Throttle { seed, started: now, full_at: Box::new([Duration::ZERO; BUCKETS]) }
    }

    /// Takes a token of the network's bucket; false if there is none.
    pub(crate) fn admits(&mut self, ip: IpAddr, now: Instant) -> bool {
        let now = now.saturating_duration_since(self.started);
        let bucket = self.bucket(ip);
        let Some(full_at) = self.full_at.get_mut(bucket) else { return false };
        let next = now.max(*full_at) + INTERVAL;
        let admitted = next - now <= INTERVAL * BURST;
        if admitted {
            *full_at = next;
        }
        admitted
    }

    fn bucket(&self, ip: IpAddr) -> usize {
        // The seed is a secret, so nobody can choose networks that share a bucket with somebody else's.
        let mut hasher = DefaultHasher::new();
        hasher.write(&self.seed);
        hasher.write_u64(network(ip));
        hasher.finish() as usize % BUCKETS
    }
}

/// The network of an address: 24 bits of IPv4 behind a mark that no IPv6 network has, or 48 bits.
fn network(ip: IpAddr) -> u64 {
    const IPV4: u64 = 1 << 63;
    match ip.to_canonical() {
        IpAddr::V4(it) => IPV4 | u64::from(it.to_bits() >> 8),
        IpAddr::V6(it) => (it.to_bits() >> (Ipv6Addr::BITS - 48)) as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "192.0.2.1";

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_network_has_a_burst_and_then_its_rate() {
        let started = Instant::now();
        let mut throttle = Throttle::new([1; 32], started);
        let granted = (0..2_000).filter(|_| throttle.admits(ip(A), started)).count();
        assert_eq!(granted, 500);
        let second = |second: u64| started + Duration::from_secs(second);
        let granted = (0..2_000).filter(|_| throttle.admits(ip(A), second(1))).count();
        assert_eq!(granted, 100);
        let granted = (0..2_000).filter(|_| throttle.admits(ip(A), second(1_000))).count();
        assert_eq!(granted, 500);
        // What was refused costs nothing, and a clock that stands still or goes back harms nothing.
        assert!(!throttle.admits(ip(A), started));
    }

    #[test]
    fn networks_are_counted_apart() {
        let now = Instant::now();
        for (a, b, same) in [
            (A, "192.0.2.254", true),
            (A, "::ffff:192.0.2.7", true),
            (A, "192.0.3.1", false),
            ("2001:db8:1:2::1", "2001:db8:1:ffff::1", true),
            ("2001:db8:1:2::1", "2001:db8:2:2::1", false),
            ("0.0.0.1", "::1", false),
        ] {
            let mut throttle = Throttle::new([1; 32], now);
            while throttle.admits(ip(a), now) {}
            assert_eq!(throttle.admits(ip(b), now), !same, "{a} {b}");
        }
    }

    #[test]
    fn who_shares_a_bucket_is_a_secret_and_few_do() {
        let throttle = |seed| Throttle::new([seed; 32], Instant::now());
        let nets: Vec<IpAddr> = (0..1_000u32).map(|it| IpAddr::V4((it << 8).into())).collect();
        let buckets = |seed: u8| -> Vec<usize> { nets.iter().map(|it| throttle(seed).bucket(*it)).collect() };
        let (one, other) = (buckets(1), buckets(2));
        assert_ne!(one, other);
        let mut distinct = one;
        distinct.sort_unstable();
        distinct.dedup();
        assert!(distinct.len() > 850, "{} buckets for 1,000 networks", distinct.len());
    }
}
