//! The one table of settings: names, what each is about, how it is taken, and how it is shown.

use std::time::Duration;

use clap::ValueEnum as _;
use toml::Value;

use super::values::{addresses, host_and_port, log_level, number, origin, pem_file, port, socket_address, truth};
use super::{LogFormat, Settings, WORKERS_MAX, acme, auth, put, rooms, store, traces, turn, webhooks};

/// One setting.
pub(super) struct Key {
    /// The table of the file in which it stands.
    pub(super) section: &'static str,
    /// Its name there.
    pub(super) name: &'static str,
    /// What it is about, in a few words for whoever reads the example file.
    pub(super) about: &'static str,
    /// Whether it takes several values.
    pub(super) is_list: bool,
    /// Whether no error and no page may show its value.
    pub(super) is_secret: bool,
    /// What the example file says, as TOML, where there is no default to say.
    pub(super) example: &'static str,
    /// Takes the values (exactly one unless `is_list`); the error says what is expected.
    pub(super) set: fn(&mut Settings, &[String]) -> Result<(), String>,
    /// The effective value; `None`: not set. Of secrets only whether there is one is looked at.
    pub(super) show: fn(&Settings) -> Option<Value>,
}

type Set = fn(&mut Settings, &[String]) -> Result<(), String>;
type Show = fn(&Settings) -> Option<Value>;

impl Key {
    /// A setting of one value.
    pub(super) const fn one(
        section: &'static str,
        name: &'static str,
        about: &'static str,
        set: Set,
        show: Show,
    ) -> Self {
        Key { section, name, about, is_list: false, is_secret: false, example: "", set, show }
    }

    /// A setting of any number of values.
    pub(super) const fn list(
        section: &'static str,
        name: &'static str,
        about: &'static str,
        set: Set,
        show: Show,
    ) -> Self {
        Key { is_list: true, ..Self::one(section, name, about, set, show) }
    }

    /// The same, never shown.
    pub(super) const fn secret(self) -> Self {
        Key { is_secret: true, ..self }
    }

    /// The same with what the example file says.
    pub(super) const fn example(self, toml: &'static str) -> Self {
        Key { example: toml, ..self }
    }
}

/// All settings, in the order of the file; sections that have a file of their own bring theirs.
pub(super) fn all() -> impl Iterator<Item = &'static Key> {
    [HTTP, acme::KEYS, MEDIA, rooms::KEYS, turn::KEYS, auth::KEYS, store::KEYS, webhooks::KEYS, OPERATION, traces::KEYS]
        .into_iter()
        .flatten()
}

/// The setting of that name.
pub(super) fn find(section: &str, name: &str) -> Option<&'static Key> {
    all().find(|key| key.section == section && key.name == name)
}

/// The names as they stand in a file: `section.name`.
pub(super) fn names() -> Vec<String> {
    all().map(|key| format!("{}.{}", key.section, key.name)).collect()
}

/// Shows a value by how it is written; nothing if that is empty.
pub(super) fn text(value: impl ToString) -> Option<Value> {
    Some(value.to_string()).filter(|text| !text.is_empty()).map(Value::String)
}

/// Shows a whole number.
pub(super) fn whole(value: impl TryInto<i64>) -> Option<Value> {
    Some(Value::Integer(value.try_into().unwrap_or(i64::MAX)))
}

/// Shows a list.
pub(super) fn texts(values: impl IntoIterator<Item = impl ToString>) -> Option<Value> {
    Some(Value::Array(values.into_iter().map(|value| Value::String(value.to_string())).collect()))
}

/// Shows whether there is a secret, and nothing of it.
pub(super) fn hidden(is_set: bool) -> Option<Value> {
    is_set.then(|| Value::String("(hidden)".to_owned()))
}

/// `[http]` and `[tls]`.
const HTTP: &[Key] = &[
    Key::one(
        "http",
        "listen",
        "Address and port of pages and Socket.IO; SIGNALING_PORT sets the port alone.",
        |s, v| put(&mut s.http_listen, socket_address(&v[0])),
        |s| text(s.http_listen),
    ),
    Key::list(
        "http",
        "origins",
        "Further origins whose pages may call, besides our own and localhost's. NEXTAUTH_URL adds one.",
        |s, v| put(&mut s.origins, v.iter().map(|o| origin(o)).collect()),
        |s| texts(&s.origins),
    )
    .example(r#"["https://school.example"]"#),
    Key::list(
        "http",
        "trusted_proxies",
        "Proxies that are believed in X-Forwarded-For and X-Forwarded-Proto: networks or addresses, up to 64.",
        |s, v| put(&mut s.trusted_proxies, turn::networks(v)),
        |s| texts(s.trusted_proxies.iter().map(turn::shown_network)),
    )
    .example(r#"["10.0.0.0/8"]"#),
    Key::one(
        "tls",
        "certificate",
        "PEM file: the server's certificate, then its chain. It is read again when it changes, as its key is.",
        |s, v| put(&mut s.tls_files[0], pem_file(&v[0])),
        |s| s.tls_files[0].as_ref().and_then(|path| text(path.display())),
    )
    .example(r#""/etc/lyceum/tls/fullchain.pem""#),
    Key::one(
        "tls",
        "key",
        "PEM file: its private key, not encrypted.",
        |s, v| put(&mut s.tls_files[1], pem_file(&v[0])),
        |s| s.tls_files[1].as_ref().and_then(|path| text(path.display())),
    )
    .example(r#""/etc/lyceum/tls/privkey.pem""#),
    Key::one(
        "tls",
        "listen",
        "HTTPS, with TURN over TLS on the same port; needs a certificate.",
        |s, v| put(&mut s.tls_listen, socket_address(&v[0]).map(Some)),
        |s| s.tls_listen.and_then(text),
    )
    .example(r#""0.0.0.0:443""#),
];

/// `[media]`.
const MEDIA: &[Key] = &[
    Key::one(
        "media",
        "port",
        "UDP and TCP port of the first worker; the others follow. 0 takes any.",
        |s, v| put(&mut s.media_port, port(&v[0])),
        |s| whole(s.media_port),
    ),
    Key::one(
        "media",
        "tcp",
        "Media over TCP too, on the same numbers, for networks that block UDP.",
        |s, v| put(&mut s.tcp, truth(&v[0])),
        |s| Some(s.tcp.into()),
    ),
    Key::one(
        "media",
        "workers",
        "Media threads, 1 to 64. By default one a core.",
        |s, v| put(&mut s.workers, number(&v[0], 1, WORKERS_MAX as u64).map(|n| n as usize)),
        |s| whole(s.workers),
    )
    .example("4"),
    Key::one(
        "media",
        "room_spread_at",
        "Participants of a room on one media thread from which on the next are placed on another. 0: never.",
        |s, v| put(&mut s.room_spread_at, number(&v[0], 0, 10_000).map(|n| n as usize)),
        |s| whole(s.room_spread_at),
    ),
    Key::list(
        "media",
        "addresses",
        "Addresses at which browsers reach this machine, best first. By default those of the interfaces.",
        |s, v| put(&mut s.addresses, addresses(v)),
        |s| texts(&s.addresses),
    )
    .example(r#"["203.0.113.7"]"#),
    Key::one(
        "media",
        "stun",
        "A STUN server that is asked at the start what address others see, where no addresses are set. By default none.",
        |s, v| put(&mut s.stun, host_and_port(&v[0])),
        |s| text(&s.stun),
    )
    .example(r#""stun.l.google.com:19302""#),
];

/// `[admin]` and `[log]`.
const OPERATION: &[Key] = &[
    Key::one(
        "admin",
        "listen",
        "Address and port of metrics, probes and drain. Keep it from strangers.",
        |s, v| put(&mut s.admin_listen, socket_address(&v[0])),
        |s| text(s.admin_listen),
    ),
    Key::one(
        "admin",
        "drain_s",
        "How long calls may go on after SIGTERM or `lyceum drain`, 0 to 86,400 s; who supervises must wait 5 s longer.",
        |s, v| put(&mut s.drain, number(&v[0], 0, 86_400).map(Duration::from_secs)),
        |s| whole(s.drain.as_secs()),
    ),
    Key::one(
        "log",
        "format",
        "text, or json: one object a line.",
        |s, v| put(&mut s.log_format, LogFormat::from_str(&v[0], true).map_err(|_| "expected text or json".to_owned())),
        |s| text(s.log_format.as_str()),
    ),
    Key::one(
        "log",
        "level",
        "error, warn, info, debug, trace, or a filter such as info,lyceum=debug. RUST_LOG says the same.",
        |s, v| put(&mut s.log_level, log_level(&v[0])),
        |s| text(&s.log_level),
    ),
];
