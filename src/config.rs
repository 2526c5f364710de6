//! Settings: defaults, then a TOML file, then environment, then flags. Every error says which setting, where it came
//! from and what is expected.

mod acme;
mod auth;
mod flags;
mod keys;
mod print;
mod rooms;
mod sources;
mod store;
mod traces;
mod turn;
mod values;
mod webhooks;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use turn_server::Prefix;

use crate::cli::{Command, ConfigCommand};
use crate::error::Failure;

pub(crate) use self::acme::AcmeSettings;
pub(crate) use self::auth::{AuthSettings, KeyPair, is_plain_and_far, site};
use self::flags::Flags;
pub(crate) use self::print::{example, print};
pub(crate) use self::rooms::RoomDefaults;
pub(crate) use self::store::{DAYS_MAX, StoreSettings};
pub(crate) use self::traces::TraceSettings;
pub(crate) use self::turn::TurnServer;
pub(crate) use self::webhooks::WebhookSettings;

/// Most media workers: each has a thread and a port.
const WORKERS_MAX: usize = 64;

/// How many participants of a room one worker has before the next are placed on another. Raising it makes large rooms slow
/// where one core does not carry them; lowering it makes rooms pay for pipes that one core would carry.
const ROOM_SPREAD_AT: usize = 100;

/// How long calls may go on when the server is told to end: less than the 30 s after which Kubernetes kills by default.
const DRAIN_DEFAULT: Duration = Duration::from_secs(20);

/// All settings, resolved.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Where HTTP and Socket.IO listen.
    pub(crate) http_listen: SocketAddr,
    /// Further origins that may call us, as `scheme://host[:port]`.
    pub(crate) origins: Vec<String>,
    /// Proxies that are believed about whom they ask for.
    pub(crate) trusted_proxies: Vec<Prefix>,
    /// UDP and TCP port of worker 0; worker *i* has `port + i`, or any free port each where this is 0.
    pub(crate) media_port: u16,
    /// Whether workers take ICE-TCP on their ports too.
    pub(crate) tcp: bool,
    /// Media worker threads, `1..=WORKERS_MAX`.
    pub(crate) workers: usize,
    /// Participants of a room on one worker from which on the next are placed on another; 0 never.
    pub(crate) room_spread_at: usize,
    /// Addresses announced for media, best first; empty: those of the interfaces.
    pub(crate) addresses: Vec<IpAddr>,
    /// A STUN server, `host:port`, that is asked for our public address; empty: none.
    pub(crate) stun: String,
    /// Where metrics and probes listen.
    pub(crate) admin_listen: SocketAddr,
    /// How long calls may go on when the server is told to end.
    pub(crate) drain: Duration,
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
    /// Where traces are sent.
    pub(crate) traces: TraceSettings,
    /// PEM files of the certificate with its chain and of its key: both or neither.
    pub(crate) tls_files: [Option<PathBuf>; 2],
    /// The certificate that the server gets by itself, in place of files.
    pub(crate) acme: AcmeSettings,
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

impl LogFormat {
    /// The word in settings.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            LogFormat::Text => "text",
            LogFormat::Json => "json",
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            http_listen: SocketAddr::from(([0, 0, 0, 0], 3001)),
            origins: Vec::new(),
            trusted_proxies: Vec::new(),
            media_port: 7882,
            tcp: true,
            workers: std::thread::available_parallelism().map_or(1, NonZeroUsize::get).min(WORKERS_MAX),
            room_spread_at: ROOM_SPREAD_AT,
            addresses: Vec::new(),
            stun: String::new(),
            admin_listen: SocketAddr::from(([127, 0, 0, 1], 9464)),
            drain: DRAIN_DEFAULT,
            grace_ms: 20_000,
            empty_timeout_ms: 120_000,
            rooms: RoomDefaults::default(),
            auth: AuthSettings::default(),
            store: StoreSettings::default(),
            webhooks: WebhookSettings::default(),
            turn: TurnServer::default(),
            log_format: LogFormat::Text,
            log_level: "info".to_owned(),
            traces: TraceSettings::default(),
            tls_files: [None, None],
            acme: AcmeSettings::default(),
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
    /// Whether there is to be a certificate.
    pub(crate) fn has_certificate(&self) -> bool {
        self.tls_files[0].is_some() || !self.acme.domains.is_empty()
    }

    /// Whether there is a TURN server in this process.
    pub(crate) fn has_turn_server(&self) -> bool {
        self.turn.enabled.unwrap_or(self.turn_uris.is_empty())
    }
}

/// What the command line, the environment and the file came to.
pub(crate) struct Loaded {
    /// All settings.
    pub(crate) settings: Settings,
    /// Where they came from.
    pub(crate) origins: Origins,
    /// What to do with them.
    pub(crate) command: Command,
}

/// Where each setting that was given came from.
#[derive(Debug)]
pub(crate) struct Origins(BTreeMap<sources::Name, String>);

/// Reads all settings and what is to be done with them, or ends the process by `--help`, `--version` or a flag that cannot be understood.
///
/// # Errors
/// With a line for each setting that is wrong: its name, where it came from, and what is expected.
pub(crate) fn load(arguments: impl IntoIterator<Item = OsString>) -> Result<Loaded, Failure> {
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
    if let Command::Config(ConfigCommand::Example) = command {
        // Whoever asks for an example may have no good settings yet.
        return Ok(Loaded { settings: Settings::default(), origins: Origins(BTreeMap::new()), command });
    }
    let gathered =
        sources::resolve(&flags, &environment).map_err(|wrong| Failure::Setting(wrong.join("\nlyceum: ")))?;
    Ok(Loaded { settings: gathered.settings, origins: Origins(gathered.origins), command })
}

fn put<T>(slot: &mut T, value: Result<T, String>) -> Result<(), String> {
    *slot = value?;
    Ok(())
}

#[cfg(test)]
mod tests;
