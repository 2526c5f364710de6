//! Which addresses media is offered at.

pub(crate) mod public;

use std::net::IpAddr;

use crate::config::Settings;

/// Most addresses that are announced: each is one candidate per transport in every SDP. Further ones are left out.
pub(crate) const ADDRESSES_MAX: usize = 16;

/// Where media is offered, and who said so.
#[derive(Clone, Debug)]
pub(crate) struct Announced {
    /// Best first.
    pub(crate) addresses: Vec<IpAddr>,
    /// In words.
    pub(crate) from: &'static str,
}

/// As set; or what the cloud says, or the STUN server of the settings, before the addresses of the interfaces. It may wait for
/// [`public::ANSWER_MAX`] where one of these is asked.
pub(crate) fn announced(settings: &Settings) -> Announced {
    if !settings.addresses.is_empty() {
        return Announced { addresses: settings.addresses.clone(), from: "[media] addresses" };
    }
    let own = of_this_machine();
    let stun = || Some(&settings.stun).filter(|server| !server.is_empty()).and_then(|server| public::stun(server).ok());
    let found = public::cloud().address.map(|address| (address, "the cloud's metadata"));
    match found.or_else(|| stun().map(|address| (address, "[media] stun"))) {
        Some((address, from)) => Announced { addresses: before(address, own), from },
        None => Announced { addresses: own, from: "the interfaces" },
    }
}

/// An address that comes first.
fn before(address: IpAddr, mut others: Vec<IpAddr>) -> Vec<IpAddr> {
    others.retain(|other| *other != address);
    others.insert(0, address);
    others.truncate(ADDRESSES_MAX);
    others
}

/// The addresses of this machine's interfaces, best first: IPv4, then IPv6, and 127.0.0.1 last, for a browser on this
/// machine without a network. Link-local ones are left out, because they mean nothing without an interface.
pub(crate) fn of_this_machine() -> Vec<IpAddr> {
    let found = if_addrs::get_if_addrs().unwrap_or_default().into_iter().map(|interface| interface.ip());
    ranked(found)
}

/// Each address of this machine's interfaces.
pub(crate) fn all_of_this_machine() -> Vec<IpAddr> {
    if_addrs::get_if_addrs().unwrap_or_default().into_iter().map(|interface| interface.ip()).collect()
}

fn ranked(found: impl Iterator<Item = IpAddr>) -> Vec<IpAddr> {
    let mut addresses: Vec<IpAddr> =
        found.filter(|a| !a.is_loopback() && !a.is_unspecified() && !is_link_local(*a)).collect();
    // A stable sort keeps the system's order among one family.
    addresses.sort_by_key(IpAddr::is_ipv6);
    let mut distinct: Vec<IpAddr> = Vec::new();
    for address in addresses {
        if !distinct.contains(&address) {
            distinct.push(address);
        }
    }
    distinct.truncate(ADDRESSES_MAX - 1);
    distinct.push(IpAddr::from([127, 0, 0, 1]));
    distinct
}

/// fe80::/10 and 169.254/16.
pub(crate) fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

/// Loopback and private (RFC 1918, RFC 4193, link-local): where open mode serves.
pub(crate) fn is_near(address: IpAddr) -> bool {
    let address = address.to_canonical();
    address.is_loopback()
        || is_link_local(address)
        || match address {
            IpAddr::V4(v4) => v4.is_private(),
            IpAddr::V6(v6) => v6.is_unique_local(),
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(s: &str) -> IpAddr {
        s.parse().expect("a literal address")
    }

    #[test]
    fn loopback_comes_last_and_link_local_never() {
        let found =
            ["127.0.0.1", "fe80::1", "2001:db8::1", "10.0.0.2", "169.254.1.1", "10.0.0.2", "192.0.2.7", "::1"].map(ip);
        let expected = ["10.0.0.2", "192.0.2.7", "2001:db8::1", "127.0.0.1"].map(ip);
        assert_eq!(ranked(found.into_iter()), expected);
    }

    #[test]
    fn what_others_see_comes_first_and_once() {
        assert_eq!(before(ip("203.0.113.7"), vec![ip("10.0.0.2"), ip("127.0.0.1")])[0], ip("203.0.113.7"));
        let twice = before(ip("10.0.0.3"), vec![ip("10.0.0.2"), ip("10.0.0.3")]);
        assert_eq!(twice, [ip("10.0.0.3"), ip("10.0.0.2")]);
        assert_eq!(before(ip("203.0.113.7"), vec![ip("10.0.0.2"); ADDRESSES_MAX]).len(), ADDRESSES_MAX);
        let set =
            Settings { addresses: vec![ip("198.51.100.7")], stun: "nobody.invalid:1".into(), ..Settings::default() };
        assert_eq!(announced(&set).addresses, [ip("198.51.100.7")], "nobody is asked");
    }

    #[test]
    fn near_is_loopback_and_private() {
        for near in [
            "127.0.0.1",
            "127.9.9.9",
            "::1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "fd00::1",
            "fe80::1",
            "::ffff:10.0.0.1",
        ] {
            assert!(is_near(ip(near)), "{near}");
        }
        for far in ["8.8.8.8", "172.32.0.1", "100.64.0.1", "2001:db8::1", "::ffff:8.8.8.8", "0.0.0.0"] {
            assert!(!is_near(ip(far)), "{far}");
        }
    }
}
