//! Whom clients may reach: our own media addresses, and whom the operator has listed.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::keyed::Keyed;
use crate::{Config, Prefix};

/// How a permitted peer is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// By the short cut: it is one of our media addresses.
    Media,
    /// From the allocation's relay socket.
    Relay,
}

/// Says of each address whether it may be reached. What it does not permit is refused.
#[derive(Debug)]
pub(crate) struct Policy {
    media: HashSet<SocketAddr, Keyed>,
    /// Addresses of this machine: other services listen on them.
    own: HashSet<IpAddr, Keyed>,
    relayed: Vec<IpAddr>,
    relay_ports: std::ops::RangeInclusive<u16>,
    listed: Vec<Prefix>,
}

impl Policy {
    pub(crate) fn new(config: &Config, keyed: &Keyed) -> Self {
        let mut media = HashSet::with_hasher(keyed.clone());
        media.extend(&config.media);
        let mut own = HashSet::with_hasher(keyed.clone());
        own.extend(config.media.iter().map(SocketAddr::ip));
        own.extend(config.relayed.iter().chain(&config.own));
        Policy {
            media,
            own,
            relayed: config.relayed.clone(),
            relay_ports: config.relay_ports.clone(),
            listed: config.listed.clone(),
        }
    }

    /// Whether a permission may be made for this address: some port of it may be reached.
    pub(crate) fn permits(&self, ip: IpAddr) -> bool {
        self.media.iter().any(|it| it.ip() == ip) || self.lists(ip)
    }

    /// Whether it is one of our media addresses.
    pub(crate) fn is_media(&self, peer: SocketAddr) -> bool {
        self.media.contains(&peer)
    }

    /// The way to a peer, if it may be reached.
    pub(crate) fn way(&self, peer: SocketAddr) -> Option<Way> {
        if self.is_media(peer) {
            return Some(Way::Media);
        }
        (peer.port() != 0 && self.lists(peer.ip()) && !self.is_relayed(peer)).then_some(Way::Relay)
    }

    /// Whether the operator has listed an address. What a range holds by the way does not count where it leads into this
    /// machine or its network: such an address has to be listed alone.
    fn lists(&self, ip: IpAddr) -> bool {
        let alone = |it: &Prefix| it.address == ip && it.bits == whole(ip);
        let among = |it: &Prefix| it.contains(ip);
        self.listed.iter().any(alone) || !is_special(ip) && !self.own.contains(&ip) && self.listed.iter().any(among)
    }

    /// Whether it can be the relayed address of an allocation here: packets would go in circles.
    fn is_relayed(&self, peer: SocketAddr) -> bool {
        let ip = embedded(peer.ip()).map_or(peer.ip(), IpAddr::V4);
        self.relayed.contains(&ip) && self.relay_ports.contains(&peer.port())
    }
}

fn whole(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { 32 } else { 128 }
}

impl Prefix {
    /// Whether the address is in the range. An IPv4 address is in no range of IPv6, however it may be written.
    pub fn contains(&self, ip: IpAddr) -> bool {
        let leading = |difference: u128, width: u8| difference.leading_zeros() as u8 - (128 - width) >= self.bits;
        match (self.address, ip) {
            (IpAddr::V4(a), IpAddr::V4(b)) => leading(u128::from(a.to_bits() ^ b.to_bits()), 32),
            (IpAddr::V6(a), IpAddr::V6(b)) => leading(a.to_bits() ^ b.to_bits(), 128),
            _ => false,
        }
    }
}

/// Whether an address leads elsewhere than to one host of the Internet: into this machine, its network, to many, to a
/// cloud's metadata, or in disguise to any of these.
pub fn is_special(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => SPECIAL_IPV4.iter().any(|(first, bits)| {
            Prefix { address: IpAddr::V4(Ipv4Addr::from(*first)), bits: *bits }.contains(IpAddr::V4(ip))
        }),
        // All of IPv6 that is handed out is in 2000::/3; 2001::/23 is for protocols (RFC 6890).
        IpAddr::V6(it) => it.segments()[0] >> 13 != 1 || it.to_bits() >> 105 == 0x2001 << 7 || embedded(ip).is_some(),
    }
}

/// The IPv4 ranges of RFC 6890 that no relay should reach, and the metadata service that has a public address.
const SPECIAL_IPV4: [([u8; 4], u8); 13] = [
    ([0, 0, 0, 0], 8),
    ([10, 0, 0, 0], 8),
    ([100, 64, 0, 0], 10),
    ([127, 0, 0, 0], 8),
    ([168, 63, 129, 16], 32),
    ([169, 254, 0, 0], 16),
    ([172, 16, 0, 0], 12),
    ([192, 0, 0, 0], 24),
    ([192, 88, 99, 0], 24),
    ([192, 168, 0, 0], 16),
    ([198, 18, 0, 0], 15),
    ([224, 0, 0, 0], 4),
    ([240, 0, 0, 0], 4),
];

/// The IPv4 address that an IPv6 address leads to: mapped, compatible, translated (RFC 2765, 6052, 8215), 6to4 (RFC 3056),
/// Teredo (RFC 4380) or ISATAP (RFC 5214).
fn embedded(ip: IpAddr) -> Option<Ipv4Addr> {
    let IpAddr::V6(ip) = ip else { return None };
    let bits = ip.to_bits();
    let low = Ipv4Addr::from_bits(bits as u32);
    match ip.segments() {
        [0, 0, 0, 0, 0, 0, ..] => (!matches!(ip, Ipv6Addr::UNSPECIFIED | Ipv6Addr::LOCALHOST)).then_some(low),
        [0, 0, 0, 0, 0, 0xffff, ..] | [0, 0, 0, 0, 0xffff, 0, ..] => Some(low),
        [0x64, 0xff9b, 0, 0, 0, 0, ..] | [0x64, 0xff9b, 1, ..] => Some(low),
        [0x2002, ..] => Some(Ipv4Addr::from_bits((bits >> 80) as u32)),
        [0x2001, 0, ..] => Some(Ipv4Addr::from_bits(!(bits as u32))),
        [_, _, _, _, 0 | 0x200, 0x5efe, ..] => Some(low),
        _ => None,
    }
}
