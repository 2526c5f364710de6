//! How often somebody may ask: token buckets by address or name, in a table that strangers cannot make grow.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Most entries. When it is full, those who have not asked of late are forgotten; if all have, all are: who has so many
/// addresses is not kept off by this.
const ENTRIES_MAX: usize = 16_384;

/// So many at once, then one an interval.
pub(crate) struct Rate<K> {
    burst: u32,
    interval: Duration,
    /// When each bucket will be full again.
    full_at: Mutex<HashMap<K, Instant>>,
}

impl<K: Eq + Hash> Rate<K> {
    pub(crate) fn new(burst: u32, interval: Duration) -> Self {
        Rate { burst, interval, full_at: Mutex::default() }
    }

    /// Takes one; else how long until there is one.
    pub(crate) fn take(&self, key: K, now: Instant) -> Result<(), Duration> {
        let mut table = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        if table.len() >= ENTRIES_MAX && !table.contains_key(&key) {
            table.retain(|_, full_at| *full_at > now);
            if table.len() >= ENTRIES_MAX {
                table.clear();
            }
        }
        let full_at = table.entry(key).or_insert(now);
        let next = (*full_at).max(now) + self.interval;
        let over = (next - now).checked_sub(self.interval * self.burst).filter(|over| !over.is_zero());
        match over {
            Some(over) => Err(over),
            None => {
                *full_at = next;
                Ok(())
            }
        }
    }
}

/// What counts as one address: an IPv6 network (/64) is one.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into(),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_says_when_it_has_one_again() {
        let (rate, start) = (Rate::new(2, Duration::from_secs(3)), Instant::now());
        assert_eq!([rate.take(1, start), rate.take(1, start)], [Ok(()), Ok(())]);
        assert_eq!(rate.take(1, start), Err(Duration::from_secs(3)));
        assert_eq!(rate.take(2, start), Ok(()));
        assert_eq!(rate.take(1, start + Duration::from_secs(2)), Err(Duration::from_secs(1)));
        assert_eq!(rate.take(1, start + Duration::from_secs(3)), Ok(()));
    }

    #[test]
    fn the_table_is_bounded() {
        let (rate, start) = (Rate::new(1, Duration::from_secs(60)), Instant::now());
        for key in 0..ENTRIES_MAX * 3 {
            assert!(rate.take(key, start).is_ok());
        }
        assert!(rate.full_at.lock().expect("nobody panicked").len() <= ENTRIES_MAX);
    }

    #[test]
    fn an_ipv6_network_is_one() {
        let network = |text: &str| network(text.parse().expect("an address")).to_string();
        assert_eq!(network("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(network("::ffff:192.0.2.1"), "192.0.2.1");
    }
}
