//! Settings: defaults, then a TOML file, then environment, then flags. Every error says which setting, where it came
//! from and what is expected.

mod turn;

use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use clap::{Parser, ValueEnum};

use crate::addresses::ADDRESSES_MAX;
use crate::error::Failure;

pub(crate) use self::turn::TurnServer;
use self::turn::{networks, port_range};

/// Most media workers: each has a thread and a port.
const WORKERS_MAX: usize = 64;

/// All settings, resolved.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Where HTTP and Socket.IO listen.
    pub(crate) http_listen: SocketAddr,
    /// Further origins that may call us, as `scheme://host[:port]`.
    pub(crate) origins: Vec<String>,
    /// UDP and TCP port of worker 0; worker *i* has `port + i`, or any free port each where this is 0.
    pub(crate) media_port: u16,
    /// Whether workers take ICE-TCP on their ports too.
    pub(crate) tcp: bool,
    /// Media worker threads, `1..=WORKERS_MAX`.
    pub(crate) workers: usize,
    /// Addresses announced for media, best first; empty: those of the interfaces.
    pub(crate) addresses: Vec<IpAddr>,
    /// Where metrics and probes listen.
    pub(crate) admin_listen: SocketAddr,
    /// How long a dropped socket keeps its seat, ms.
    pub(crate) grace_ms: u64,
    /// The TURN server in this process.
    pub(crate) turn: TurnServer,
    /// How log lines look.
    pub(crate) log_format: LogFormat,
    /// Which log lines there are: a level, or a `tracing` filter such as `info,lyceum=debug`.
    pub(crate) log_level: String,
    /// PEM files of the certificate with its chain and of its key: both or neither.
    pub(crate) tls_files: [Option<PathBuf>; 2],
    /// Where HTTPS listens, with TURN over TLS on the same port; needs a certificate.
    pub(crate) tls_listen: Option<SocketAddr>,
    /// URLs of a TURN server outside (`turn:…`, `turns:…`, `stun:…`).
    pub(crate) turn_uris: Vec<String>,
    /// Its username.
    pub(crate) turn_username: String,
    /// Its password: a secret, never logged.
    pub(crate) turn_credential: Secret,
    /// What we share with it, or with nobody but the embedded server; empty: nothing. At least [`TURN_SECRET_BYTES_MIN`].
    pub(crate) turn_secret: Secret,
    /// Name or address at which browsers reach the embedded TURN server; empty: the announced addresses.
    pub(crate) turn_host: String,
}

/// A string that does not print itself.
#[derive(Clone, Default)]
pub(crate) struct Secret(pub(crate) String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(secret)")
    }
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            http_listen: SocketAddr::from(([0, 0, 0, 0], 3001)),
            origins: Vec::new(),
            media_port: 7882,
            tcp: true,
            workers: std::thread::available_parallelism().map_or(1, NonZeroUsize::get).min(WORKERS_MAX),
            addresses: Vec::new(),
            admin_listen: SocketAddr::from(([127, 0, 0, 1], 9464)),
            grace_ms: 20_000,
            turn: TurnServer::default(),
            log_format: LogFormat::Text,
            log_level: "info".to_owned(),
            tls_files: [None, None],
            tls_listen: None,
            turn_uris: Vec::new(),
            turn_username: String::new(),
            turn_credential: Secret::default(),
            turn_secret: Secret::default(),
            turn_host: String::new(),
        }
    }
}

impl Settings {
    /// Whether there is a TURN server in this process.
    pub(crate) fn has_turn_server(&self) -> bool {
        self.turn.enabled.unwrap_or(self.turn_uris.is_empty())
    }
}

/// Video calls for cohorts, in one process: call page, signaling and media.
///
/// Started without anything, it serves the call page at http://localhost:3001 to this machine and its private network.
/// Settings come from defaults, then the file given by --config, then the environment, then flags. A setting
/// `key` of `[section]` is LYCEUM__SECTION__KEY in the environment; some have plain names too:
///
///   SIGNALING_PORT    port of [http] listen (3001)
///   NEXTAUTH_URL      an origin whose pages may call, added to [http] origins
///   TURN_URIS         TURN servers for browsers, separated by commas; with TURN_SECRET, or with TURN_USERNAME and
///                     TURN_CREDENTIAL
///   RUST_LOG          log filter, as [log] level
///
/// A file may look like this (these values are the defaults; workers and addresses come from the machine otherwise):
///
///   [http]
///   listen = "0.0.0.0:3001"
///   origins = []                  # "https://school.example"
///   [media]
///   port = 7882                   # of the first worker; the others follow
///   tcp = true                    # media over TCP too, on the same numbers
///   # workers = 4                 # default: one a core
///   # addresses = ["203.0.113.7"] # default: those of the interfaces
///   [admin]
///   listen = "127.0.0.1:9464"
///   [room]
///   grace_ms = 20000              # how long a dropped connection keeps its seat
///   [tls]                         # no certificate, no TLS
///   # certificate = "fullchain.pem" # read again when it changes, as its key is
///   # key = "privkey.pem"
///   # listen = "0.0.0.0:443"      # HTTPS, with TURN over TLS on the same port
///   [turn]
///   # enabled = true              # default: unless there are uris
///   port = 3478                   # UDP and TCP
///   peers = []                    # "192.0.2.0/24": what TURN clients may reach besides our own media
///   uris = []                     # a TURN server outside; with secret, or with username and credential
///   [log]
///   format = "text"               # or "json"
///   level = "info"
#[derive(Debug, Parser)]
#[command(name = "lyceum", version, verbatim_doc_comment)]
struct Flags {
    /// What to do; there is only `serve`, which is also the default.
    #[arg(value_parser = ["serve"], default_value = "serve")]
    command: String,
    /// A TOML file with settings.
    #[arg(long, value_name = "FILE")]
    config: Option<std::path::PathBuf>,
    /// Address and port of pages and Socket.IO ([http] listen).
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<String>,
    /// An origin whose pages may call, such as https://school.example; may be repeated ([http] origins).
    #[arg(long = "origin", value_name = "ORIGIN")]
    origins: Vec<String>,
    /// UDP port of the first media worker; the others follow; 0 takes any ([media] port).
    #[arg(long, value_name = "PORT")]
    media_port: Option<String>,
    /// Media worker threads ([media] workers).
    #[arg(long, value_name = "COUNT")]
    workers: Option<String>,
    /// An address at which browsers reach media, best first; may be repeated ([media] addresses).
    #[arg(long = "address", value_name = "IP")]
    addresses: Vec<String>,
    /// Address and port of metrics and probes ([admin] listen).
    #[arg(long, value_name = "ADDRESS:PORT")]
    admin_listen: Option<String>,
    /// Log lines as text or json ([log] format).
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,
    /// Log level or filter ([log] level).
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
}

/// One setting: its name in the file, whether it is a list, and how it is taken.
struct Key {
    section: &'static str,
    name: &'static str,
    list: bool,
    /// Takes the values (exactly one unless `list`); the error says what is expected.
    set: fn(&mut Settings, &[String]) -> Result<(), String>,
}

const KEYS: &[Key] = &[
    Key { section: "http", name: "listen", list: false, set: |s, v| put(&mut s.http_listen, socket_address(&v[0])) },
    Key {
        section: "http",
        name: "origins",
        list: true,
        set: |s, v| put(&mut s.origins, v.iter().map(|o| origin(o)).collect()),
    },
    Key { section: "media", name: "port", list: false, set: |s, v| put(&mut s.media_port, port(&v[0])) },
    Key { section: "media", name: "tcp", list: false, set: |s, v| put(&mut s.tcp, truth(&v[0])) },
    Key {
        section: "media",
        name: "workers",
        list: false,
        set: |s, v| put(&mut s.workers, number(&v[0], 1, WORKERS_MAX as u64).map(|n| n as usize)),
    },
    Key { section: "media", name: "addresses", list: true, set: |s, v| put(&mut s.addresses, addresses(v)) },
    Key { section: "admin", name: "listen", list: false, set: |s, v| put(&mut s.admin_listen, socket_address(&v[0])) },
    Key { section: "room", name: "grace_ms", list: false, set: |s, v| put(&mut s.grace_ms, number(&v[0], 0, 600_000)) },
    Key { section: "turn", name: "enabled", list: false, set: |s, v| put(&mut s.turn.enabled, truth(&v[0]).map(Some)) },
    Key { section: "turn", name: "port", list: false, set: |s, v| put(&mut s.turn.port, port(&v[0])) },
    Key { section: "turn", name: "tls_port", list: false, set: |s, v| put(&mut s.turn.tls_port, port(&v[0])) },
    Key { section: "turn", name: "peers", list: true, set: |s, v| put(&mut s.turn.peers, networks(v)) },
    Key {
        section: "turn",
        name: "relay_ports",
        list: false,
        set: |s, v| put(&mut s.turn.relay_ports, port_range(&v[0])),
    },
    Key {
        section: "turn",
        name: "allocations",
        list: false,
        set: |s, v| put(&mut s.turn.limits.allocations, number(&v[0], 1, 1_000_000).map(|n| n as usize)),
    },
    Key {
        section: "turn",
        name: "allocations_per_participant",
        list: false,
        set: |s, v| put(&mut s.turn.limits.per_holder, number(&v[0], 1, 1_000).map(|n| n as usize)),
    },
    Key {
        section: "turn",
        name: "bandwidth_kbps",
        list: false,
        set: |s, v| put(&mut s.turn.limits.bandwidth_bps, number(&v[0], 64, 10_000_000).map(|kbps| kbps * 1_000)),
    },
    Key {
        section: "log",
        name: "format",
        list: false,
        set: |s, v| {
            put(&mut s.log_format, LogFormat::from_str(&v[0], true).map_err(|_| "expected text or json".to_owned()))
        },
    },
    Key { section: "log", name: "level", list: false, set: |s, v| put(&mut s.log_level, log_level(&v[0])) },
    Key { section: "tls", name: "certificate", list: false, set: |s, v| put(&mut s.tls_files[0], pem_file(&v[0])) },
    Key { section: "tls", name: "key", list: false, set: |s, v| put(&mut s.tls_files[1], pem_file(&v[0])) },
    Key {
        section: "tls",
        name: "listen",
        list: false,
        set: |s, v| put(&mut s.tls_listen, socket_address(&v[0]).map(Some)),
    },
    Key {
        section: "turn",
        name: "uris",
        list: true,
        set: |s, v| put(&mut s.turn_uris, v.iter().map(|u| turn_uri(u)).collect()),
    },
    Key { section: "turn", name: "username", list: false, set: |s, v| put(&mut s.turn_username, Ok(v[0].clone())) },
    Key {
        section: "turn",
        name: "credential",
        list: false,
        set: |s, v| put(&mut s.turn_credential, Ok(Secret(v[0].clone()))),
    },
    Key { section: "turn", name: "secret", list: false, set: |s, v| put(&mut s.turn_secret, turn_secret(&v[0])) },
    Key { section: "turn", name: "host", list: false, set: |s, v| put(&mut s.turn_host, turn_host(&v[0])) },
];

/// Plain environment names, and the setting that each stands for.
const PLAIN: &[(&str, &str, &str)] = &[
    ("RUST_LOG", "log", "level"),
    ("TURN_URIS", "turn", "uris"),
    ("TURN_USERNAME", "turn", "username"),
    ("TURN_CREDENTIAL", "turn", "credential"),
    ("TURN_SECRET", "turn", "secret"),
];

/// Reads all settings, or ends the process by `--help`, `--version` or a flag that cannot be understood.
pub(crate) fn load(arguments: impl IntoIterator<Item = OsString>) -> Result<Settings, Failure> {
    let flags = match Flags::try_parse_from(arguments) {
        Ok(flags) => flags,
        Err(error) if error.use_stderr() => {
            let text = error.render().to_string();
            return Err(Failure::Setting(text.trim_start_matches("error: ").trim_end().to_owned()));
        }
        Err(help) => help.exit(),
    };
    let environment: Vec<(String, String)> =
        std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))).collect();
    resolve(&flags, &environment)
}

fn resolve(flags: &Flags, environment: &[(String, String)]) -> Result<Settings, Failure> {
    let mut settings = Settings::default();
    if let Some(path) = &flags.config {
        take_file(&mut settings, path)?;
    }
    take_environment(&mut settings, environment)?;
    take_flags(&mut settings, flags)?;
    check_turn(&settings).map_err(|why| Failure::Setting(why.to_owned()))?;
    if settings.media_port != 0 && usize::from(settings.media_port) + settings.workers > 65_536 {
        return Err(Failure::Setting(format!(
            "[media] port {} leaves no room for {} workers, which take consecutive ports; choose a lower one",
            settings.media_port, settings.workers
        )));
    }
    let lacking = match &settings.tls_files {
        [Some(_), None] => "[tls] certificate is set, but [tls] key is not; both name PEM files",
        [None, Some(_)] => "[tls] key is set, but [tls] certificate is not; both name PEM files",
        [None, None] if settings.tls_listen.is_some() => {
            "[tls] listen is set, but [tls] certificate is not; name PEM files with it and [tls] key"
        }
        _ => return Ok(settings),
    };
    Err(Failure::Setting(lacking.to_owned()))
}

/// A browser throws at an `RTCIceServer` that it cannot use, and then there is no call at all.
fn check_turn(settings: &Settings) -> Result<(), &'static str> {
    let (named, passed) = (!settings.turn_username.is_empty(), !settings.turn_credential.0.is_empty());
    let shared = !settings.turn_secret.0.is_empty();
    if (named || passed) && shared {
        return Err(
            "[turn] secret makes a username and a credential for each participant, beside [turn] username and \
            [turn] credential: remove those two (TURN_USERNAME, TURN_CREDENTIAL), or secret (TURN_SECRET) if the server \
            knows only them",
        );
    }
    if named != passed {
        return Err("[turn] username and [turn] credential belong together: set both or neither");
    }
    let relays = settings.turn_uris.iter().any(|uri| uri.starts_with("turn"));
    if relays && !named && !shared {
        return Err(
            "[turn] uris names a TURN server, which browsers do not use without credentials: set [turn] secret \
            (TURN_SECRET), or [turn] username and [turn] credential (TURN_USERNAME, TURN_CREDENTIAL)",
        );
    }
    Ok(())
}

fn take_file(settings: &mut Settings, path: &Path) -> Result<(), Failure> {
    let shown = path.display();
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::Setting(format!("cannot read the file {shown} given by --config: {error}")))?;
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
        let line = error.span().map_or(1, |span| text[..span.start.min(text.len())].lines().count().max(1));
        Failure::Setting(format!("{shown}, line {line}, is not TOML: {}", error.message()))
    })?;
    for (section, keys) in &table {
        let toml::Value::Table(keys) = keys else {
            return Err(unknown(section, &format!("in {shown}"), &file_names()));
        };
        for (name, value) in keys {
            let shown_key = format!("{section}.{name}");
            let key = find(section, name).ok_or_else(|| unknown(&shown_key, &format!("in {shown}"), &file_names()))?;
            let values = strings(value, key.list)
                .map_err(|expected| Failure::Setting(format!("{shown_key} in {shown}: {expected}")))?;
            apply(settings, key, &values, &format!("{shown_key} in {shown}"))?;
        }
    }
    Ok(())
}

fn strings(value: &toml::Value, list: bool) -> Result<Vec<String>, String> {
    match value {
        toml::Value::String(s) => Ok(vec![s.clone()]),
        toml::Value::Integer(n) => Ok(vec![n.to_string()]),
        toml::Value::Boolean(b) => Ok(vec![b.to_string()]),
        toml::Value::Array(items) if list => {
            items.iter().map(|item| strings(item, false).map(|mut one| one.remove(0))).collect()
        }
        _ if list => Err("expected a list of strings".to_owned()),
        _ => Err("expected one value".to_owned()),
    }
}

fn take_environment(settings: &mut Settings, environment: &[(String, String)]) -> Result<(), Failure> {
    for (variable, section, name) in PLAIN {
        let key = find(section, name).expect("PLAIN names only keys of KEYS");
        for (wanted, is_file) in [((*variable).to_owned(), false), (format!("{variable}_FILE"), true)] {
            if let Some((_, value)) = environment.iter().find(|(k, v)| *k == wanted && !v.is_empty()) {
                take_variable(settings, key, &wanted, value, is_file)?;
            }
        }
    }
    let given = |name: &str| environment.iter().find(|(k, v)| k == name && !v.is_empty()).map(|(_, v)| v);
    if let Some(value) = given("SIGNALING_PORT") {
        let port =
            port(value).map_err(|expected| Failure::Setting(format!("SIGNALING_PORT is {value:?}: {expected}")))?;
        settings.http_listen.set_port(port);
    }
    for (variable, value) in environment {
        let Some(rest) = variable.strip_prefix("LYCEUM__") else { continue };
        let rest = rest.to_ascii_lowercase();
        let named = |rest: &str| rest.split_once("__").and_then(|(section, name)| find(section, name));
        let (key, is_file) = match (named(&rest), rest.strip_suffix("_file").and_then(named)) {
            (Some(key), _) => (key, false),
            (None, Some(key)) => (key, true),
            (None, None) => {
                let names: Vec<String> =
                    KEYS.iter().map(|k| format!("LYCEUM__{}__{}", k.section, k.name).to_ascii_uppercase()).collect();
                return Err(unknown(variable, "in the environment", &names));
            }
        };
        take_variable(settings, key, variable, value, is_file)?;
    }
    // Added last: it stands beside whatever list there is.
    if let Some(value) = given("NEXTAUTH_URL") {
        let origin =
            origin(value).map_err(|expected| Failure::Setting(format!("NEXTAUTH_URL is {value:?}: {expected}")))?;
        settings.origins.push(origin);
    }
    Ok(())
}

fn take_variable(
    settings: &mut Settings,
    key: &Key,
    variable: &str,
    value: &str,
    is_file: bool,
) -> Result<(), Failure> {
    let value = if is_file {
        std::fs::read_to_string(value)
            .map_err(|error| Failure::Setting(format!("cannot read the file {value} given by {variable}: {error}")))?
            .trim_end()
            .to_owned()
    } else {
        value.to_owned()
    };
    let values = if key.list {
        value.split(',').map(|v| v.trim().to_owned()).filter(|v| !v.is_empty()).collect()
    } else {
        vec![value]
    };
    apply(settings, key, &values, &format!("{variable} in the environment"))
}

fn take_flags(settings: &mut Settings, flags: &Flags) -> Result<(), Failure> {
    let one = |value: &Option<String>| value.iter().cloned().collect::<Vec<_>>();
    let given = [
        ("--listen", "http", "listen", one(&flags.listen)),
        ("--origin", "http", "origins", flags.origins.clone()),
        ("--media-port", "media", "port", one(&flags.media_port)),
        ("--workers", "media", "workers", one(&flags.workers)),
        ("--address", "media", "addresses", flags.addresses.clone()),
        ("--admin-listen", "admin", "listen", one(&flags.admin_listen)),
        ("--log-format", "log", "format", one(&flags.log_format)),
        ("--log-level", "log", "level", one(&flags.log_level)),
    ];
    for (flag, section, name, values) in given {
        if !values.is_empty() {
            apply(settings, find(section, name).expect("flags name only keys of KEYS"), &values, flag)?;
        }
    }
    Ok(())
}

fn apply(settings: &mut Settings, key: &Key, values: &[String], origin: &str) -> Result<(), Failure> {
    (key.set)(settings, values).map_err(|expected| {
        // Neither is a key that stands where its file should be named.
        let is_key = key.section == "tls" && values.iter().any(|v| v.contains("-----"));
        if is_key || matches!(key.name, "credential" | "secret") {
            return Failure::Setting(format!("{origin}: {expected}"));
        }
        Failure::Setting(format!("{origin} is {:?}: {expected}", values.join(",")))
    })
}

fn find(section: &str, name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.section == section && key.name == name)
}

fn file_names() -> Vec<String> {
    KEYS.iter().map(|key| format!("{}.{}", key.section, key.name)).collect()
}

fn unknown(given: &str, origin: &str, valid: &[String]) -> Failure {
    let nearest = valid.iter().min_by_key(|name| distance(given, name)).expect("there are settings");
    Failure::Setting(format!("unknown setting {given} {origin}; did you mean {nearest}?"))
}

/// Edits between two words (Levenshtein); `given` is cut at 64 bytes.
fn distance(given: &str, name: &str) -> usize {
    let given = &given.as_bytes()[..given.len().min(64)];
    let mut row: Vec<usize> = (0..=name.len()).collect();
    for (i, a) in given.iter().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, b) in name.bytes().enumerate() {
            let substituted = diagonal + usize::from(!a.eq_ignore_ascii_case(&b));
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[name.len()]
}

fn put<T>(slot: &mut T, value: Result<T, String>) -> Result<(), String> {
    *slot = value?;
    Ok(())
}

fn socket_address(value: &str) -> Result<SocketAddr, String> {
    value.parse().map_err(|_| "expected an address and a port such as 0.0.0.0:3001 or [::]:3001".to_owned())
}

fn port(value: &str) -> Result<u16, String> {
    value.trim().parse().map_err(|_| "expected a port between 0 and 65535".to_owned())
}

fn truth(value: &str) -> Result<bool, String> {
    value.trim().parse().map_err(|_| "expected true or false".to_owned())
}

fn number(value: &str, min: u64, max: u64) -> Result<u64, String> {
    value
        .trim()
        .parse()
        .ok()
        .filter(|n| (min..=max).contains(n))
        .ok_or_else(|| format!("expected a whole number between {min} and {max}"))
}

fn addresses(values: &[String]) -> Result<Vec<IpAddr>, String> {
    if values.len() > ADDRESSES_MAX {
        return Err(format!("expected at most {ADDRESSES_MAX} addresses"));
    }
    let parsed: Result<Vec<IpAddr>, _> = values.iter().map(|v| v.parse::<IpAddr>()).collect();
    match parsed {
        Ok(list) if list.iter().all(|a| !a.is_unspecified() && !a.is_multicast()) => Ok(list),
        _ => Err("expected IP addresses at which browsers reach this machine, such as 203.0.113.7".to_owned()),
    }
}

/// The origin of a URL as browsers write it: `scheme://host[:port]`, lower case, without path or default port.
fn origin(value: &str) -> Result<String, String> {
    let expected = || "expected an origin such as https://school.example or http://10.0.0.5:8080".to_owned();
    let value = value.trim().to_ascii_lowercase();
    let (scheme, rest) = value.split_once("://").ok_or_else(expected)?;
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let default_port = match scheme {
        "http" => ":80",
        "https" => ":443",
        _ => return Err(expected()),
    };
    let uri: axum::http::uri::Authority = authority.parse().map_err(|_| expected())?;
    if uri.host().is_empty() || authority.contains('@') {
        return Err(expected());
    }
    Ok(format!("{scheme}://{}", authority.strip_suffix(default_port).unwrap_or(authority)))
}

fn pem_file(value: &str) -> Result<Option<PathBuf>, String> {
    if value.contains("-----") {
        return Err("expected the path of a PEM file, not what stands in it".to_owned());
    }
    let path = Some(value).filter(|path| !path.is_empty()).map(PathBuf::from);
    path.map(Some).ok_or_else(|| "expected the path of a PEM file, such as /etc/lyceum/tls.pem".to_owned())
}

fn turn_uri(value: &str) -> Result<String, String> {
    let rest = ["turn:", "turns:", "stun:", "stuns:"].iter().find_map(|scheme| value.strip_prefix(scheme));
    // These URLs have no slashes (RFC 7065).
    rest.filter(|rest| !rest.is_empty() && !rest.starts_with('/') && !rest.contains(char::is_whitespace))
        .map(|_| value.to_owned())
        .ok_or_else(|| "expected URLs such as turn:turn.example:3478?transport=udp".to_owned())
}

/// Shorter ones can be found from one credential, by trying.
const TURN_SECRET_BYTES_MIN: usize = 16;

fn turn_secret(value: &str) -> Result<Secret, String> {
    if value.len() < TURN_SECRET_BYTES_MIN {
        let expected = "expected at least 16 bytes that nobody can guess, such as `openssl rand -base64 24` gives";
        return Err(expected.to_owned());
    }
    Ok(Secret(value.to_owned()))
}

/// A host as it stands in a URL: an IPv6 address in brackets.
fn turn_host(value: &str) -> Result<String, String> {
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

fn log_level(value: &str) -> Result<String, String> {
    tracing_subscriber::EnvFilter::try_new(value)
        .map(|_| value.to_owned())
        .map_err(|_| "expected error, warn, info, debug, trace or a filter such as info,lyceum=debug".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(arguments: &[&str], environment: &[(&str, &str)]) -> Result<Settings, String> {
        let flags = Flags::try_parse_from(["lyceum"].iter().chain(arguments)).map_err(|e| e.to_string())?;
        let environment: Vec<_> = environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        resolve(&flags, &environment).map_err(|e| e.to_string())
    }

    #[test]
    fn flags_beat_environment_and_environment_beats_defaults() {
        let settings =
            with(&["serve", "--media-port", "9000"], &[("LYCEUM__MEDIA__PORT", "8000"), ("SIGNALING_PORT", "4001")]);
        let settings = settings.expect("all of these are good");
        assert_eq!((settings.media_port, settings.http_listen.port()), (9000, 4001));
        assert_eq!(settings.admin_listen.port(), 9464);
    }

    #[test]
    fn an_unknown_setting_names_its_neighbour() {
        let error = with(&[], &[("LYCEUM__HTTP__LISTN", "x")]).expect_err("there is no such setting");
        assert_eq!(error, "unknown setting LYCEUM__HTTP__LISTN in the environment; did you mean LYCEUM__HTTP__LISTEN?");
    }

    #[test]
    fn an_origin_is_normalised() {
        let settings = with(&[], &[("NEXTAUTH_URL", "https://School.example:443/path")]).expect("a good URL");
        assert_eq!(settings.origins, ["https://school.example"]);
        for bad in ["school.example", "ftp://x", "https://", "https://u@x"] {
            assert!(origin(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn turn_has_plain_names_and_its_secrets_are_not_shown() {
        let environment =
            [("TURN_URIS", "turn:a:3478, turns:a:5349"), ("TURN_USERNAME", "u"), ("TURN_CREDENTIAL", "hush")];
        let settings = with(&[], &environment).expect("all of these are good");
        assert_eq!(settings.turn_uris, ["turn:a:3478", "turns:a:5349"]);
        assert_eq!((settings.turn_username.as_str(), settings.turn_credential.0.as_str()), ("u", "hush"));
        assert!(!format!("{settings:?}").contains("hush"));
        let settings = with(&[], &[("TURN_SECRET", "hush, for sixteen bytes")]).expect("long enough");
        assert!(!format!("{settings:?}").contains("hush"));
        let error = with(&[], &[("TURN_SECRET", "hush")]).expect_err("too short");
        assert!(
            error.contains("TURN_SECRET in the environment: expected at least 16 bytes") && !error.contains("hush")
        );
    }

    #[test]
    fn turn_settings_that_no_browser_could_use_are_refused() {
        let (uris, user, pass) = (("TURN_URIS", "turn:a"), ("TURN_USERNAME", "u"), ("TURN_CREDENTIAL", "c"));
        let secret = ("TURN_SECRET", "0123456789abcdef");
        for (environment, says) in [
            (&[uris][..], "set [turn] secret (TURN_SECRET), or [turn] username"),
            (&[uris, user], "belong together"),
            (&[uris, pass], "belong together"),
            (&[uris, user, pass, secret], "remove those two (TURN_USERNAME, TURN_CREDENTIAL), or secret (TURN_SECRET)"),
        ] {
            let error = with(&[], environment).expect_err(says);
            assert!(error.contains(says), "{error}");
        }
        for good in [&[uris, user, pass][..], &[uris, secret], &[secret], &[("TURN_URIS", "stun:a")], &[]] {
            assert!(with(&[], good).is_ok(), "{good:?}");
        }
    }

    #[test]
    fn a_turn_host_is_as_it_stands_in_a_url() {
        for (given, taken) in [
            ("turn.school.example", Some("turn.school.example")),
            ("192.0.2.1", Some("192.0.2.1")),
            ("2001:db8::1", Some("[2001:db8::1]")),
            ("[2001:db8::1]", Some("[2001:db8::1]")),
            ("turn.example:3478", None),
            ("turn:turn.example", None),
            ("a b", None),
        ] {
            let settings = with(&[], &[("LYCEUM__TURN__HOST", given)]);
            assert_eq!(settings.ok().map(|s| s.turn_host).as_deref(), taken, "{given}");
        }
    }

    #[test]
    fn a_certificate_has_a_key() {
        let (certificate, key) = (("LYCEUM__TLS__CERTIFICATE", "c.pem"), ("LYCEUM__TLS__KEY", "k.pem"));
        let listen = ("LYCEUM__TLS__LISTEN", "0.0.0.0:443");
        let settings = with(&[], &[certificate, key, listen]).expect("all of these are good");
        assert_eq!(settings.tls_files, [Some("c.pem".into()), Some("k.pem".into())]);
        assert_eq!(settings.tls_listen.map(|a| a.port()), Some(443));
        for (given, says) in [
            (certificate, "[tls] certificate is set, but [tls] key is not; both name PEM files"),
            (key, "[tls] key is set, but [tls] certificate is not; both name PEM files"),
            (listen, "[tls] listen is set, but [tls] certificate is not; name PEM files with it and [tls] key"),
        ] {
            assert_eq!(with(&[], &[given]).expect_err(says), says);
        }
        let error = with(&[], &[("LYCEUM__TLS__KEY", "-----BEGIN PRIVATE KEY-----\nMIG")]).expect_err("no path");
        assert_eq!(
            error,
            "LYCEUM__TLS__KEY in the environment: expected the path of a PEM file, not what stands in it"
        );
    }

    #[test]
    fn bad_values_say_what_is_expected() {
        for (variable, value, says) in [
            ("SIGNALING_PORT", "70000", "SIGNALING_PORT is \"70000\": expected a port between 0 and 65535"),
            ("LYCEUM__MEDIA__WORKERS", "0", "expected a whole number between 1 and 64"),
            ("LYCEUM__MEDIA__ADDRESSES", "0.0.0.0", "expected IP addresses"),
            ("LYCEUM__LOG__FORMAT", "xml", "expected text or json"),
            ("TURN_URIS", "http://x", "expected URLs such as turn:"),
            ("TURN_URIS", "turn://x", "expected URLs such as turn:"),
        ] {
            let error = with(&[], &[(variable, value)]).expect_err(variable);
            assert!(error.contains(says), "{error}");
        }
        assert!(with(&[], &[("LYCEUM__MEDIA__PORT", "65535"), ("LYCEUM__MEDIA__WORKERS", "2")]).is_err());
    }
}
