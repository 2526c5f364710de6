//! Settings of TURN: the server in this process, and the one outside that browsers are told of.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use turn_server::{Limits, Prefix};

use super::keys::{Key, hidden, text, texts, whole};
use super::values::{number, port, truth};
use super::{Secret, Settings, put};

/// Most entries of `[turn] peers`: each packet to a new peer is compared with all.
const PEERS_MAX: usize = 64;

/// The TURN server in this process.
#[derive(Clone, Debug)]
pub(crate) struct TurnServer {
    /// Whether it runs; `None`: unless browsers are told of another.
    pub(crate) enabled: Option<bool>,
    /// UDP and TCP port; 0 takes any.
    pub(crate) port: u16,
    /// TCP port for TLS, if there is a certificate; 0 takes any.
    pub(crate) tls_port: u16,
    /// What clients may reach besides our own media addresses.
    pub(crate) peers: Vec<Prefix>,
    /// Ports of relay sockets, which exist only if there are `peers`.
    pub(crate) relay_ports: RangeInclusive<u16>,
    /// What each and all may have.
    pub(crate) limits: Limits,
}

impl Default for TurnServer {
    fn default() -> Self {
        TurnServer {
            enabled: None,
            port: 3478,
            tls_port: 5349,
            peers: Vec::new(),
            relay_ports: 49_152..=65_535,
            // A browser asks for one on each of its addresses, at each URL, and twice while it restarts ICE.
            limits: Limits { allocations: 10_000, per_holder: 32, bandwidth_bps: 20_000_000 },
        }
    }
}

pub(super) const KEYS: &[Key] = &[
    Key::one(
        "turn",
        "enabled",
        "The TURN server in this process. By default it runs unless there are uris.",
        |s, v| put(&mut s.turn.enabled, truth(&v[0]).map(Some)),
        |s| Some(s.has_turn_server().into()),
    ),
    Key::one(
        "turn",
        "port",
        "Its UDP and TCP port; 0 takes any.",
        |s, v| put(&mut s.turn.port, port(&v[0])),
        |s| whole(s.turn.port),
    ),
    Key::one(
        "turn",
        "tls_port",
        "Its port for TLS, which is there if there is a certificate; 0 takes any.",
        |s, v| put(&mut s.turn.tls_port, port(&v[0])),
        |s| whole(s.turn.tls_port),
    ),
    Key::one(
        "turn",
        "host",
        "Name or address at which browsers are told to reach it. By default the announced addresses.",
        |s, v| put(&mut s.turn_host, host(&v[0])),
        |s| text(&s.turn_host),
    )
    .example(r#""turn.school.example""#),
    Key::list(
        "turn",
        "peers",
        "Networks or addresses that its clients may reach besides our own media.",
        |s, v| put(&mut s.turn.peers, networks(v)),
        |s| texts(s.turn.peers.iter().map(shown_network)),
    )
    .example(r#"["192.0.2.0/24"]"#),
    Key::one(
        "turn",
        "relay_ports",
        "UDP ports of its relay sockets, which are there only for listed peers.",
        |s, v| put(&mut s.turn.relay_ports, port_range(&v[0])),
        |s| text(format_args!("{}-{}", s.turn.relay_ports.start(), s.turn.relay_ports.end())),
    ),
    Key::one(
        "turn",
        "allocations",
        "Allocations in all, 1 to 1,000,000.",
        |s, v| put(&mut s.turn.limits.allocations, number(&v[0], 1, 1_000_000).map(|n| n as usize)),
        |s| whole(s.turn.limits.allocations),
    ),
    Key::one(
        "turn",
        "allocations_per_participant",
        "Allocations of one seat, 1 to 1,000; a browser opens one on each of its networks for each URL.",
        |s, v| put(&mut s.turn.limits.per_holder, number(&v[0], 1, 1_000).map(|n| n as usize)),
        |s| whole(s.turn.limits.per_holder),
    ),
    Key::one(
        "turn",
        "bandwidth_kbps",
        "Of one allocation in each direction, 1,000 to 10,000,000; beyond it packets are dropped.",
        |s, v| put(&mut s.turn.limits.bandwidth_bps, number(&v[0], 1_000, 10_000_000).map(|kbps| kbps * 1_000)),
        |s| whole(s.turn.limits.bandwidth_bps / 1_000),
    ),
    Key::list(
        "turn",
        "uris",
        "TURN servers outside, in place of it; with secret, or with username and credential. TURN_URIS.",
        |s, v| put(&mut s.turn_uris, v.iter().map(|u| uri(u)).collect()),
        |s| texts(&s.turn_uris),
    )
    .example(r#"["turn:turn.example:3478?transport=udp"]"#),
    Key::one(
        "turn",
        "secret",
        "What credentials are made with, at least 16 bytes; shared with the server outside. By default random.",
        |s, v| put(&mut s.turn_secret, secret(&v[0])),
        |s| hidden(!s.turn_secret.0.is_empty()),
    )
    .secret()
    .example(r#""what `openssl rand -base64 24` gives""#),
    Key::one(
        "turn",
        "username",
        "For a server outside that has one password for all. TURN_USERNAME.",
        |s, v| put(&mut s.turn_username, Ok(v[0].clone())),
        |s| text(&s.turn_username),
    )
    .example(r#""lyceum""#),
    Key::one(
        "turn",
        "credential",
        "That password; better as TURN_CREDENTIAL_FILE.",
        |s, v| put(&mut s.turn_credential, Ok(Secret(v[0].clone()))),
        |s| hidden(!s.turn_credential.0.is_empty()),
    )
    .secret()
    .example(r#""password""#),
];

/// Networks, or single addresses.
pub(super) fn networks(values: &[String]) -> Result<Vec<Prefix>, String> {
    if values.len() > PEERS_MAX {
        return Err(format!("expected at most {PEERS_MAX} networks"));
    }
    values
        .iter()
        .map(|value| network(value.trim()))
        .collect::<Option<_>>()
        .ok_or_else(|| "expected networks or addresses such as 192.0.2.0/24 or 2001:db8::7".to_owned())
}

/// `None` also if bits behind the prefix are set: then it is not the network that was meant, or not all of it.
fn network(value: &str) -> Option<Prefix> {
    let (address, bits) = match value.split_once('/') {
        Some((address, bits)) => (address, Some(bits.parse().ok()?)),
        None => (value, None),
    };
    let address: IpAddr = address.parse().ok()?;
    let (width, low) = match address {
        IpAddr::V4(v4) => (32, v4.to_bits().trailing_zeros()),
        IpAddr::V6(v6) => (128, v6.to_bits().trailing_zeros()),
    };
    let bits = bits.unwrap_or(width);
    (bits <= width && low >= u32::from(width - bits)).then_some(Prefix { address, bits })
}

/// A network as it is written in settings.
pub(super) fn shown_network(network: &Prefix) -> String {
    format!("{}/{}", network.address, network.bits)
}

/// Two ports with a dash between them.
pub(super) fn port_range(value: &str) -> Result<RangeInclusive<u16>, String> {
    let range = value.split_once('-').and_then(|(first, last)| {
        let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        (1 <= first && first <= last).then_some(first..=last)
    });
    range.ok_or_else(|| "expected two ports such as 49152-65535, the lower one first".to_owned())
}

pub(super) fn uri(value: &str) -> Result<String, String> {
    let rest = ["turn:", "turns:", "stun:", "stuns:"].iter().find_map(|scheme| value.strip_prefix(scheme));
    // These URLs have no slashes (RFC 7065).
    rest.filter(|rest| !rest.is_empty() && !rest.starts_with('/') && !rest.contains(char::is_whitespace))
        .map(|_| value.to_owned())
        .ok_or_else(|| "expected URLs such as turn:turn.example:3478?transport=udp".to_owned())
}

/// Shorter ones can be found from one credential, by trying.
const SECRET_BYTES_MIN: usize = 16;

pub(super) fn secret(value: &str) -> Result<Secret, String> {
    if value.len() < SECRET_BYTES_MIN {
        let expected = "expected at least 16 bytes that nobody can guess, such as `openssl rand -base64 24` gives";
        return Err(expected.to_owned());
    }
    Ok(Secret(value.to_owned()))
}

/// A host as it stands in a URL: an IPv6 address in brackets.
pub(super) fn host(value: &str) -> Result<String, String> {
    let value = value.trim();
    let bare = value.strip_prefix('[').and_then(|v| v.strip_suffix(']')).unwrap_or(value);
    if let Ok(address) = bare.parse::<IpAddr>() {
        return Ok(crate::ice::host(address));
    }
    let is_name = !value.is_empty() && value.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.');
    is_name
        .then(|| value.to_owned())
        .ok_or_else(|| "expected a name or an address without port, such as turn.school.example".to_owned())
}

/// A browser throws at an `RTCIceServer` that it cannot use, and then there is no call at all.
pub(super) fn check(settings: &Settings) -> Result<(), String> {
    let (named, passed) = (!settings.turn_username.is_empty(), !settings.turn_credential.0.is_empty());
    let shared = !settings.turn_secret.0.is_empty();
    if (named || passed) && shared {
        return Err("[turn] secret makes a username and a credential for each participant, beside [turn] username and \
            [turn] credential: remove those two (TURN_USERNAME, TURN_CREDENTIAL), or secret (TURN_SECRET) if the server \
            knows only them".to_owned());
    }
    if named != passed {
        return Err("[turn] username and [turn] credential belong together: set both or neither".to_owned());
    }
    let relays = settings.turn_uris.iter().any(|uri| uri.starts_with("turn"));
    if relays && !named && !shared {
        return Err(
            "[turn] uris names a TURN server, which browsers do not use without credentials: set [turn] secret \
            (TURN_SECRET), or [turn] username and [turn] credential (TURN_USERNAME, TURN_CREDENTIAL)"
                .to_owned(),
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_read_exactly() {
        for (given, taken) in [
            ("192.0.2.0/24", Some(("192.0.2.0", 24))),
            ("192.0.2.7", Some(("192.0.2.7", 32))),
            ("0.0.0.0/0", Some(("0.0.0.0", 0))),
            ("2001:db8::/32", Some(("2001:db8::", 32))),
            ("::1", Some(("::1", 128))),
            ("192.0.2.7/24", None),
            ("192.0.2.0/33", None),
            ("2001:db8::/129", None),
            ("192.0.2.0/", None),
            ("turn.example", None),
            ("", None),
        ] {
            let expected = taken.map(|(address, bits)| Prefix { address: address.parse().expect("good"), bits });
            assert_eq!(network(given), expected, "{given}");
        }
    }

    #[test]
    fn a_port_range_has_two_ends() {
        assert_eq!(port_range("49152-65535"), Ok(49_152..=65_535));
        assert_eq!(port_range("7-7"), Ok(7..=7));
        for bad in ["", "7", "8-7", "0-7", "1-65536", "a-b", "1-2-3"] {
            assert!(port_range(bad).is_err(), "{bad}");
        }
    }
}
