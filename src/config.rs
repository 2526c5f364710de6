//! Settings: defaults, then a TOML file, then environment, then flags. Every error says which setting, where it came
//! from and what is expected.

mod auth;
mod rooms;
mod store;
mod turn;
mod values;
mod webhooks;

use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use clap::{Parser, ValueEnum};

use crate::cli::Command;
use crate::error::Failure;

pub(crate) use self::auth::{AuthSettings, KeyPair, is_plain_and_far};
pub(crate) use self::rooms::RoomDefaults;
pub(crate) use self::store::{DAYS_MAX, StoreSettings};
pub(crate) use self::turn::TurnServer;
use self::values::{addresses, log_level, number, origin, pem_file, port, socket_address, truth};
pub(crate) use self::webhooks::WebhookSettings;

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
    /// How long a meeting stays open with nobody there, ms.
    pub(crate) empty_timeout_ms: u64,
    /// The rules of rooms unless the application says otherwise.
    pub(crate) rooms: RoomDefaults,
    /// Who may enter.
    pub(crate) auth: AuthSettings,
    /// Where history is kept.
    pub(crate) store: StoreSettings,
    /// Who is told of it.
    pub(crate) webhooks: WebhookSettings,
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
    /// What we share with it, or with nobody but the embedded server; empty: nothing. At least [`turn::SECRET_BYTES_MIN`].
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
            empty_timeout_ms: 120_000,
            rooms: RoomDefaults::default(),
            auth: AuthSettings::default(),
            store: StoreSettings::default(),
            webhooks: WebhookSettings::default(),
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
///   DATABASE_URL      a database in place of the file in [store] dir: postgres://user:password@host/database
///   TURN_URIS         TURN servers for browsers, separated by commas; with TURN_SECRET, or with TURN_USERNAME and
///                     TURN_CREDENTIAL
///   JWT_SECRET        secret shared with your application, at least 32 bytes: with it joins need a token
///   SUPABASE_URL      a Supabase project whose users may ask for tokens; or SUPABASE_JWKS_URL, its key set alone
///   LYCEUM_ADMIN_KEY  what operators show to the API
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
///   empty_timeout_ms = 120000     # how long a meeting stays open with nobody there
///   [tls]                         # no certificate, no TLS
///   # certificate = "fullchain.pem" # read again when it changes, as its key is
///   # key = "privkey.pem"
///   # listen = "0.0.0.0:443"      # HTTPS, with TURN over TLS on the same port
///   [turn]
///   # enabled = true              # default: unless there are uris
///   port = 3478                   # UDP and TCP
///   peers = []                    # "192.0.2.0/24": what TURN clients may reach besides our own media
///   uris = []                     # a TURN server outside; with secret, or with username and credential
///   [store]
///   dir = "data"                  # journal and database; must outlive the process
///   journal_mb = 1024             # what may wait for a database that is away
///   [auth]                        # no key: open mode, for trying it out
///   # secret = ""                 # or JWT_SECRET, better as JWT_SECRET_FILE
///   # keys = ["app:…"]            # API key pairs, id:secret
///   any_user_may_join = false     # else a hook or a roster says which sessions a user may enter
///   token_ttl_s = 900             # of the join tokens that the server mints
///   [log]
///   format = "text"               # or "json"
///   level = "info"
#[derive(Debug, Parser)]
#[command(name = "lyceum", version, verbatim_doc_comment)]
struct Flags {
    /// What to do; without a word it serves.
    #[command(subcommand)]
    command: Option<Command>,
    /// A TOML file with settings.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<std::path::PathBuf>,
    /// Address and port of pages and Socket.IO ([http] listen).
    #[arg(long, global = true, value_name = "ADDRESS:PORT")]
    listen: Option<String>,
    /// An origin whose pages may call, such as https://school.example; may be repeated ([http] origins).
    #[arg(long = "origin", global = true, value_name = "ORIGIN")]
    origins: Vec<String>,
    /// UDP port of the first media worker; the others follow; 0 takes any ([media] port).
    #[arg(long, global = true, value_name = "PORT")]
    media_port: Option<String>,
    /// Media worker threads ([media] workers).
    #[arg(long, global = true, value_name = "COUNT")]
    workers: Option<String>,
    /// An address at which browsers reach media, best first; may be repeated ([media] addresses).
    #[arg(long = "address", global = true, value_name = "IP")]
    addresses: Vec<String>,
    /// Address and port of metrics and probes ([admin] listen).
    #[arg(long, global = true, value_name = "ADDRESS:PORT")]
    admin_listen: Option<String>,
    /// Log lines as text or json ([log] format).
    #[arg(long, global = true, value_name = "FORMAT")]
    log_format: Option<String>,
    /// Log level or filter ([log] level).
    #[arg(long, global = true, value_name = "LEVEL")]
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

/// All settings; sections that have a file of their own bring theirs.
fn keys() -> impl Iterator<Item = &'static Key> {
    [KEYS, auth::KEYS, rooms::KEYS, store::KEYS, webhooks::KEYS].into_iter().flatten()
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
    Key {
        section: "room",
        name: "empty_timeout_ms",
        list: false,
        set: |s, v| put(&mut s.empty_timeout_ms, number(&v[0], 0, 86_400_000)),
    },
    Key { section: "turn", name: "enabled", list: false, set: |s, v| put(&mut s.turn.enabled, truth(&v[0]).map(Some)) },
    Key { section: "turn", name: "port", list: false, set: |s, v| put(&mut s.turn.port, port(&v[0])) },
    Key { section: "turn", name: "tls_port", list: false, set: |s, v| put(&mut s.turn.tls_port, port(&v[0])) },
    Key { section: "turn", name: "peers", list: true, set: |s, v| put(&mut s.turn.peers, turn::networks(v)) },
    Key {
        section: "turn",
        name: "relay_ports",
        list: false,
        set: |s, v| put(&mut s.turn.relay_ports, turn::port_range(&v[0])),
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
        set: |s, v| put(&mut s.turn.limits.bandwidth_bps, number(&v[0], 1_000, 10_000_000).map(|kbps| kbps * 1_000)),
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
        set: |s, v| put(&mut s.turn_uris, v.iter().map(|u| turn::uri(u)).collect()),
    },
    Key { section: "turn", name: "username", list: false, set: |s, v| put(&mut s.turn_username, Ok(v[0].clone())) },
    Key {
        section: "turn",
        name: "credential",
        list: false,
        set: |s, v| put(&mut s.turn_credential, Ok(Secret(v[0].clone()))),
    },
    Key { section: "turn", name: "secret", list: false, set: |s, v| put(&mut s.turn_secret, turn::secret(&v[0])) },
    Key { section: "turn", name: "host", list: false, set: |s, v| put(&mut s.turn_host, turn::host(&v[0])) },
];

/// Plain environment names, and the setting that each stands for.
const PLAIN: &[(&str, &str, &str)] = &[
    ("RUST_LOG", "log", "level"),
    ("DATABASE_URL", "store", "url"),
    ("TURN_URIS", "turn", "uris"),
    ("TURN_USERNAME", "turn", "username"),
    ("TURN_CREDENTIAL", "turn", "credential"),
    ("TURN_SECRET", "turn", "secret"),
    ("JWT_SECRET", "auth", "secret"),
    ("SUPABASE_URL", "auth", "supabase_url"),
    ("SUPABASE_JWKS_URL", "auth", "jwks_url"),
    ("LYCEUM_ADMIN_KEY", "auth", "admin_key"),
];

/// Reads all settings and what is to be done with them, or ends the process by `--help`, `--version` or a flag that cannot be understood.
pub(crate) fn load(arguments: impl IntoIterator<Item = OsString>) -> Result<(Settings, Command), Failure> {
    let mut flags = match Flags::try_parse_from(arguments) {
        Ok(flags) => flags,
        Err(error) if error.use_stderr() => {
            let text = error.render().to_string();
            return Err(Failure::Setting(text.trim_start_matches("error: ").trim_end().to_owned()));
        }
        Err(help) => help.exit(),
    };
    let environment: Vec<(String, String)> =
        std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))).collect();
    let command = flags.command.take().unwrap_or(Command::Serve);
    Ok((resolve(&flags, &environment)?, command))
}

fn resolve(flags: &Flags, environment: &[(String, String)]) -> Result<Settings, Failure> {
    let mut settings = Settings::default();
    if let Some(path) = &flags.config {
        take_file(&mut settings, path)?;
    }
    take_environment(&mut settings, environment)?;
    take_flags(&mut settings, flags)?;
    turn::check(&settings).map_err(|why| Failure::Setting(why.to_owned()))?;
    webhooks::check(&settings).map_err(|why| Failure::Setting(why.to_owned()))?;
    auth::complete(&mut settings).map_err(Failure::Setting)?;
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
                    keys().map(|k| format!("LYCEUM__{}__{}", k.section, k.name).to_ascii_uppercase()).collect();
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
        let is_secret = (key.section == "auth" && auth::is_secret(key.name))
            || (key.section == "webhooks" && webhooks::is_secret(key.name));
        if is_key || is_secret || matches!(key.name, "credential" | "secret" | "url") {
            return Failure::Setting(format!("{origin}: {expected}"));
        }
        Failure::Setting(format!("{origin} is {:?}: {expected}", values.join(",")))
    })
}

fn find(section: &str, name: &str) -> Option<&'static Key> {
    keys().find(|key| key.section == section && key.name == name)
}

fn file_names() -> Vec<String> {
    keys().map(|key| format!("{}.{}", key.section, key.name)).collect()
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

#[cfg(test)]
mod tests;
