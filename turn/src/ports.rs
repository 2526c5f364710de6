//! Which ports of a relayed address are taken.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;

/// The ports of relayed addresses without a socket: those that nobody registers (RFC 6335 §6), as RFC 8656 §7.2 advises.
pub(crate) const VIRTUAL_PORTS: RangeInclusive<u16> = 49152..=65535;

/// What a port has to be (RFC 8656 §18.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Want {
    /// Any.
    Any,
    /// Even.
    Even,
    /// Even, and the next one is taken as well.
    Pair,
}

/// The ports of one relayed address. At most all 65,536 can be taken; then there is none.
#[derive(Debug)]
pub(crate) struct Ports {
    pub(crate) ip: IpAddr,
    first: u16,
    taken: Vec<bool>,
}

impl Ports {
    pub(crate) fn new(ip: IpAddr, range: &RangeInclusive<u16>) -> Self {
        Ports { ip, first: *range.start(), taken: vec![false; range.len()] }
    }

    /// Takes the first free port behind `start`, a random number, in a circle; `None` if there is none.
    pub(crate) fn take(&mut self, want: Want, start: u16) -> Option<SocketAddr> {
        let free = |port: u16| self.slot(port).is_some_and(|it| !it);
        let port = match want {
            Want::Any => self.circle(start).find(|port| free(*port)),
            Want::Even => self.circle(start).find(|port| port % 2 == 0 && free(*port)),
            Want::Pair => self.circle(start).find(|port| port % 2 == 0 && free(*port) && free(port + 1)),
        }?;
        self.set(port, true);
        if want == Want::Pair {
            self.set(port + 1, true);
        }
        Some(SocketAddr::new(self.ip, port))
    }

    /// Gives back what [`Ports::take`] took for the same wish.
    pub(crate) fn release(&mut self, port: u16, want: Want) {
        self.set(port, false);
        if want == Want::Pair {
            self.set(port + 1, false);
        }
    }

    /// Where to look for another port than this one.
    pub(crate) fn behind(&self, port: u16) -> u16 {
        port.wrapping_sub(self.first).wrapping_add(1)
    }

    #[cfg(test)]
    pub(crate) fn taken(&self) -> usize {
        self.taken.iter().filter(|it| **it).count()
    }

    fn circle(&self, start: u16) -> impl Iterator<Item = u16> + use<> {
        let (first, count) = (usize::from(self.first), self.taken.len());
        (0..count).map(move |step| (first + (usize::from(start) + step) % count) as u16)
    }

    fn slot(&self, port: u16) -> Option<bool> {
        self.taken.get(usize::from(port.checked_sub(self.first)?)).copied()
    }

    fn set(&mut self, port: u16, taken: bool) {
        let slot = port.checked_sub(self.first).and_then(|at| self.taken.get_mut(usize::from(at)));
        if let Some(slot) = slot {
            *slot = taken;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn ports(range: RangeInclusive<u16>) -> Ports {
        Ports::new(Ipv4Addr::LOCALHOST.into(), &range)
    }

    fn take(ports: &mut Ports, want: Want, start: u16) -> Option<u16> {
        ports.take(want, start).map(|it| it.port())
    }

    #[test]
    fn each_port_is_taken_once() {
        let mut ports = ports(65531..=65535);
        let mut all: Vec<u16> = (0..5).filter_map(|_| take(&mut ports, Want::Any, 7)).collect();
        assert_eq!(all, [65533, 65534, 65535, 65531, 65532]);
        assert_eq!(take(&mut ports, Want::Any, 0), None);
        ports.release(65534, Want::Any);
        ports.release(1, Want::Any);
        all.push(65534);
        assert_eq!(take(&mut ports, Want::Any, 0), all.pop());
    }

    #[test]
    fn pairs_begin_even_and_end_within_the_range() {
        let mut ports = ports(1001..=1006);
        assert_eq!(take(&mut ports, Want::Pair, 0), Some(1002));
        assert_eq!(take(&mut ports, Want::Pair, 0), Some(1004));
        assert_eq!(take(&mut ports, Want::Pair, 0), None, "1007 is not ours");
        assert_eq!(take(&mut ports, Want::Even, 0), Some(1006));
        assert_eq!(take(&mut ports, Want::Even, 0), None);
        assert_eq!(take(&mut ports, Want::Any, 3), Some(1001));
        assert_eq!(ports.taken(), 6);
    }

    #[test]
    fn the_last_port_has_no_neighbour() {
        let mut ports = ports(65534..=65535);
        assert_eq!(take(&mut ports, Want::Any, 1), Some(65535));
        assert_eq!(take(&mut ports, Want::Pair, 0), None);
        assert_eq!(take(&mut ports, Want::Even, 0), Some(65534));
    }
}
