//! The command line, and what `--help` teaches.

use std::path::PathBuf;

use clap::Parser;

use crate::cli::Command;

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
///   OTEL_EXPORTER_OTLP_ENDPOINT  where traces go, as [log] otlp; OTEL_EXPORTER_OTLP_HEADERS, as [log] otlp_headers
///
/// `lyceum config example` prints a file with every setting and what it is about, `lyceum config print` what holds here and
/// where it came from, and `lyceum config check` says what is wrong before the server does. A file of two lines will do:
///
///   [room]
///   grace_ms = 20000   # how long a dropped connection keeps its seat
///
/// On a machine of its own: `lyceum doctor` looks whether calls can work and says what mends what is wrong.
#[derive(Debug, Parser)]
#[command(name = "lyceum", version, verbatim_doc_comment)]
pub(super) struct Flags {
    /// What to do; without a word it serves.
    #[command(subcommand)]
    pub(super) command: Option<Command>,
    /// A TOML file with settings.
    #[arg(long, global = true, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Address and port of pages and Socket.IO ([http] listen).
    #[arg(long, global = true, value_name = "ADDRESS:PORT")]
    pub(super) listen: Option<String>,
    /// An origin whose pages may call, such as https://school.example; may be repeated ([http] origins).
    #[arg(long = "origin", global = true, value_name = "ORIGIN")]
    pub(super) origins: Vec<String>,
    /// UDP port of the first media worker; the others follow; 0 takes any ([media] port).
    #[arg(long, global = true, value_name = "PORT")]
    pub(super) media_port: Option<String>,
    /// Media worker threads ([media] workers).
    #[arg(long, global = true, value_name = "COUNT")]
    pub(super) workers: Option<String>,
    /// An address at which browsers reach media, best first; may be repeated ([media] addresses).
    #[arg(long = "address", global = true, value_name = "IP")]
    pub(super) addresses: Vec<String>,
    /// Address and port of metrics and probes ([admin] listen).
    #[arg(long, global = true, value_name = "ADDRESS:PORT")]
    pub(super) admin_listen: Option<String>,
    /// Log lines as text or json ([log] format).
    #[arg(long, global = true, value_name = "FORMAT")]
    pub(super) log_format: Option<String>,
    /// Log level or filter ([log] level).
    #[arg(long, global = true, value_name = "LEVEL")]
    pub(super) log_level: Option<String>,
}
