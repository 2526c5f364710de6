//! Which STUN and TURN servers browsers are told of: one outside, ours, both or none.

use std::net::IpAddr;

use serde_json::json;
use signaling::{IceServers, TurnServer};

use crate::config::Settings;

/// Bytes of a secret that nobody has to know.
const RANDOM_SECRET_BYTES: usize = 32;

/// What of the embedded TURN server must be known to name it to browsers.
pub(crate) struct Embedded<'a> {
    /// Its port, UDP and TCP.
    pub(crate) port: u16,
    /// Its port for TLS, and the first DNS name of the certificate; `None` without a certificate.
    pub(crate) tls: Option<(u16, Option<&'a str>)>,
    /// The addresses announced for media, best first.
    pub(crate) addresses: &'a [IpAddr],
    /// The key of its credentials, from [`secret`].
    pub(crate) secret: &'a [u8],
    /// Whether peers are listed: else it reaches only the SFU.
    pub(crate) has_peers: bool,
}

/// The key of credentials: as set, or one that ends with the process, and all credentials with it.
pub(crate) fn secret(settings: &Settings) -> Vec<u8> {
    match settings.turn_secret.0.as_bytes() {
        [] => rand::random::<[u8; RANDOM_SECRET_BYTES]>().to_vec(),
        set => set.to_vec(),
    }
}

/// What clients are told. No STUN server: an SFU that is ICE-lite learns a client's address from its checks.
pub(crate) fn servers(settings: &Settings, embedded: Option<Embedded<'_>>) -> IceServers {
    let mut servers = outside(settings);
    servers.minted.extend(embedded.map(|embedded| TurnServer {
        urls: urls(&settings.turn_host, &embedded),
        secret: embedded.secret.to_vec(),
        for_mesh: embedded.has_peers,
    }));
    servers
}

fn outside(settings: &Settings) -> IceServers {
    let (urls, secret) = (settings.turn_uris.clone(), settings.turn_secret.0.as_bytes());
    if urls.is_empty() {
        return IceServers::default();
    }
    if !secret.is_empty() {
        let server = TurnServer { urls, secret: secret.to_vec(), for_mesh: true };
        return IceServers { minted: vec![server], ..Default::default() };
    }
    let mut server = json!({ "urls": urls });
    if !settings.turn_username.is_empty() {
        server["username"] = settings.turn_username.clone().into();
        server["credential"] = settings.turn_credential.0.clone().into();
    }
    IceServers { fixed: vec![server], ..Default::default() }
}

/// One URL for each way in: browsers open an allocation for each, on each of their networks. UDP first, TLS last.
fn urls(host_set: &str, embedded: &Embedded<'_>) -> Vec<String> {
    let hosts: Vec<String> = if host_set.is_empty() {
        let first = |is_of_family: fn(&IpAddr) -> bool| embedded.addresses.iter().copied().find(is_of_family);
        [first(IpAddr::is_ipv4), first(IpAddr::is_ipv6)].into_iter().flatten().map(host).collect()
    } else {
        vec![host_set.to_owned()]
    };
    let port = embedded.port;
    let plain = ["udp", "tcp"]
        .into_iter()
        .flat_map(|transport| hosts.iter().map(move |host| format!("turn:{host}:{port}?transport={transport}")));
    // A browser wants the name that the certificate has: an address would not do.
    let secure = embedded.tls.and_then(|(port, name)| {
        let host = Some(host_set).filter(|host| !host.is_empty()).or(name)?;
        Some(format!("turns:{host}:{port}?transport=tcp"))
    });
    plain.chain(secure).collect()
}

/// An address as it stands in a URL.
pub(crate) fn host(address: IpAddr) -> String {
    match address {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => format!("[{v6}]"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    fn outside_with(set: impl FnOnce(&mut Settings)) -> IceServers {
        let mut settings =
            Settings { turn_uris: vec!["turn:a:3478".into(), "turns:a:5349".into()], ..Settings::default() };
        set(&mut settings);
        servers(&settings, None)
    }

    #[test]
    fn a_server_outside_has_fixed_credentials_or_a_shared_secret() {
        let fixed = outside_with(|s| {
            s.turn_username = "u".into();
            s.turn_credential = Secret("c".into());
        });
        let expected = json!({ "urls": ["turn:a:3478", "turns:a:5349"], "username": "u", "credential": "c" });
        assert_eq!((fixed.fixed, fixed.minted.len()), (vec![expected], 0));

        let shared = outside_with(|s| s.turn_secret = Secret("0123456789abcdef".into()));
        assert!(shared.fixed.is_empty());
        let [server] = &shared.minted[..] else { panic!("{shared:?}") };
        assert_eq!((&server.secret[..], server.for_mesh), (&b"0123456789abcdef"[..], true));
        assert!(!format!("{server:?}").contains("48, 49"), "secrets do not print themselves");

        let stun = outside_with(|s| s.turn_uris = vec!["stun:a".into()]);
        assert_eq!(stun.fixed, [json!({ "urls": ["stun:a"] })]);
    }

    #[test]
    fn a_secret_is_as_set_or_another_each_time() {
        let mut settings = Settings::default();
        assert_ne!(secret(&settings), secret(&settings));
        settings.turn_secret = Secret("0123456789abcdef".into());
        assert_eq!(secret(&settings), b"0123456789abcdef");
    }

    #[test]
    fn the_embedded_server_is_named_once_for_each_way_in() {
        let addresses = ["192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2", "127.0.0.1"]
            .map(|address| address.parse().expect("a literal address"));
        let embedded = |tls| Embedded { port: 3478, tls, addresses: &addresses, secret: b"s", has_peers: false };
        let plain = [
            "turn:192.0.2.1:3478?transport=udp",
            "turn:[2001:db8::1]:3478?transport=udp",
            "turn:192.0.2.1:3478?transport=tcp",
            "turn:[2001:db8::1]:3478?transport=tcp",
        ];
        assert_eq!(urls("", &embedded(None)), plain);
        assert_eq!(urls("", &embedded(Some((5349, None)))), plain, "no browser would believe it without a name");
        let named = urls("", &embedded(Some((443, Some("a.example")))));
        assert_eq!(named.last().map(String::as_str), Some("turns:a.example:443?transport=tcp"));
        let set = urls("b.example", &embedded(Some((5349, Some("a.example")))));
        let expected = [
            "turn:b.example:3478?transport=udp",
            "turn:b.example:3478?transport=tcp",
            "turns:b.example:5349?transport=tcp",
        ];
        assert_eq!(set, expected);

        let servers = servers(&Settings::default(), Some(embedded(None)));
        assert!(servers.fixed.is_empty() && !servers.minted[0].for_mesh);
    }
}
