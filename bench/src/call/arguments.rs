//! The command line of `call`, and what a command does from beginning to end.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::ask::{Api, summaries};
use super::assertion::{self, Assertion};
use super::chaos::{Chaos, Deed};
use super::codec::Codec;
use super::hooks::Hooks;
use super::impair::Impair;
use super::page::page;
use super::report::Report;
use super::shape::Shape;
use super::target::Target;
use super::token::Signer;
use super::verify::{Tolerance, verify};
use super::way::Path;
use super::words::{parse_duration, parse_rate};
use super::{Options, run};
use crate::dial::Trust;

/// How long webhooks and summaries may take after the last has left.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(30);
/// How often it is looked whether all webhooks have come.
const SETTLE_INTERVAL: Duration = Duration::from_millis(200);
/// Most people of a run, that a slip of the finger does not take the machine down.
const PEOPLE_MAX: usize = 20_000;
const EXIT_FAILED: u8 = 1;
const EXIT_USAGE: u8 = 2;

/// Many rooms at once, measured; see bench/RESULTS.md.
#[derive(Args, Clone)]
pub struct Arguments {
    /// Whom people call: lyceum, or janus, of which only joining and media are tested.
    #[arg(long, default_value = "lyceum")]
    pub target: Target,
    /// The server; a Janus's WebSocket API is at ws://host:8188.
    #[arg(long, default_value = "http://localhost:3001")]
    pub url: String,
    /// Believe the server's certificate if those of this PEM file vouch for it, and not by the machine's store.
    #[arg(long, conflicts_with = "insecure")]
    pub ca: Option<PathBuf>,
    /// Believe any certificate.
    #[arg(long)]
    pub insecure: bool,
    /// Send media there instead: to a proxy that sends it on to the server's media port, and back.
    #[arg(long)]
    pub via: Option<SocketAddr>,
    /// What sessions are called: NAME-0, NAME-1, …; a name of its own for each run by default.
    #[arg(long)]
    pub session: Option<String>,
    /// Rooms.
    #[arg(long, default_value_t = 1)]
    pub rooms: usize,
    /// Instructors in each room.
    #[arg(long, default_value_t = 1)]
    pub instructors: usize,
    /// Participants in each room beside them.
    #[arg(long, default_value_t = 3)]
    pub participants: usize,
    /// People in each room who publish nothing.
    #[arg(long, default_value_t = 0)]
    pub viewers: usize,
    /// Publish microphones.
    #[arg(long)]
    pub audio: bool,
    /// Publish cameras.
    #[arg(long)]
    pub video: bool,
    /// The first of each room shares a screen.
    #[arg(long)]
    pub screen: bool,
    /// Cameras in three layers.
    #[arg(long)]
    pub simulcast: bool,
    /// vp8, vp9, h264 or av1.
    #[arg(long, default_value = "vp8")]
    pub codec: Codec,
    /// Bits a second of each camera and screen, such as 500k or 2M.
    #[arg(long, default_value = "500k", value_parser = parse_rate)]
    pub bitrate: u64,
    /// Frames a second.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=60))]
    pub fps: u32,
    /// How long media runs after the last join.
    #[arg(long, default_value = "30s", value_parser = parse_duration)]
    pub duration: Duration,
    /// In which time all join.
    #[arg(long, default_value = "5s", value_parser = parse_duration)]
    pub ramp: Duration,
    /// Where all choices come from: the same seed, the same class.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// The secret that the server shares with its application (JWT_SECRET): joins with tokens.
    #[arg(long, env = "JWT_SECRET", hide_env_values = true, conflicts_with = "api_key")]
    pub secret: Option<String>,
    /// An API key pair, id:secret: joins with tokens.
    #[arg(long, hide_env_values = true)]
    pub api_key: Option<String>,
    /// By which way media goes: udp, tcp or turn.
    #[arg(long, default_value = "udp")]
    pub path: Path,
    /// What happens to each client's datagrams, both ways: loss=1%,delay=50ms,jitter=5ms,rate=500k.
    #[arg(long, default_value = "")]
    pub impair: Impair,
    /// What goes wrong on purpose, since media began: kill-socket@30s:10%,block-udp@60s:5%,leave@20s:10%:5s.
    #[arg(long, value_delimiter = ',')]
    pub chaos: Vec<Chaos>,
    /// What restarts the server for --chaos restart@90s, run by sh; it is to return when the server listens again.
    #[arg(long)]
    pub restart_command: Option<String>,
    /// What the class is like, from a TOML or JSON file: join curve, cameras, talk, chaos.
    #[arg(long)]
    pub shape: Option<PathBuf>,
    /// The server's metrics page, such as http://localhost:9464/metrics.
    #[arg(long)]
    pub metrics: Option<String>,
    /// The server's process, if it runs here: its CPU time and memory, whatever server it is.
    #[arg(long)]
    pub server_pid: Option<u32>,
    /// What must hold, such as 'join_p95<2s,loss<0.5%,freeze<1%'; an unknown name lists all.
    #[arg(long = "assert", value_name = "ASSERTIONS")]
    pub assertions: Option<String>,
    /// Write a JUnit file.
    #[arg(long)]
    pub junit: Option<PathBuf>,
    /// Write everything as JSON.
    #[arg(long)]
    pub json: Option<PathBuf>,
    /// Write a page with plots.
    #[arg(long)]
    pub report: Option<PathBuf>,
    /// Hold the server's summaries, and its webhooks if --webhook-listen is given, against what people really did.
    #[arg(long, requires = "admin_key")]
    pub verify_attendance: bool,
    /// The operator's key.
    #[arg(long, env = "LYCEUM_ADMIN_KEY", hide_env_values = true)]
    pub admin_key: Option<String>,
    /// Receive webhooks here; the server's [webhooks] url must lead to it.
    #[arg(long, requires = "webhook_secret")]
    pub webhook_listen: Option<SocketAddr>,
    /// What signs them, whsec_….
    #[arg(long, env = "LYCEUM__WEBHOOKS__SECRET", hide_env_values = true)]
    pub webhook_secret: Option<String>,
    /// How far the server's times may be off.
    #[arg(long, default_value = "1s", value_parser = parse_duration)]
    pub tolerance: Duration,
    /// No line of progress each second.
    #[arg(long)]
    pub quiet: bool,
}

/// Runs a command to its exit code: 0 when all went as it should, 1 when not, 2 when it cannot be understood.
pub fn main(arguments: Arguments) -> ExitCode {
    let usage = |error: String| {
        eprintln!("{error}");
        ExitCode::from(EXIT_USAGE)
    };
    let assertions = match assertion::parse(arguments.assertions.as_deref().unwrap_or_default()) {
        Ok(assertions) => assertions,
        Err(error) => return usage(error),
    };
    let options = match arguments.options() {
        Ok(options) => options,
        Err(error) => return usage(error),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return usage(format!("cannot start: {error}")),
    };
    let report = match runtime.block_on(perform(&arguments, &options, &assertions)) {
        Ok(report) => report,
        Err(error) => return usage(error),
    };
    println!("{report}");
    if let Err(error) = arguments.write(&report) {
        return usage(error);
    }
    if report.passed() { ExitCode::SUCCESS } else { ExitCode::from(EXIT_FAILED) }
}

async fn perform(arguments: &Arguments, options: &Options, assertions: &[Assertion]) -> Result<Report, String> {
    let hooks = match arguments.webhook_listen.zip(arguments.webhook_secret.as_deref()) {
        Some((address, secret)) => {
            let hooks = Hooks::listen(address, secret, None).await;
            Some(hooks.map_err(|error| format!("cannot receive webhooks: {error}"))?)
        }
        None => None,
    };
    let mut report = run(options).await;
    if let Some(admin_key) = arguments.admin_key.clone().filter(|_| arguments.verify_attendance) {
        let api = Api { url: options.url.clone(), admin_key, trust: options.trust.clone() };
        let tolerance = Tolerance(arguments.tolerance.as_millis() as u64);
        hold_to_truth(&mut report, &api, hooks.as_ref(), tolerance, [SETTLE_TIMEOUT; 2]).await;
    }
    report.assertions = assertions.iter().map(|assertion| assertion.check(&report)).collect();
    Ok(report)
}

/// Asks the server what it has written down, waits for its webhooks, and holds both against the truth.
/// They may take `patience`: summaries, then webhooks.
pub async fn hold_to_truth(
    report: &mut Report,
    api: &Api,
    hooks: Option<&Hooks>,
    tolerance: Tolerance,
    patience: [Duration; 2],
) {
    let known = match summaries(api, &report.stays, patience[0]).await {
        Ok(known) => known,
        Err(error) => {
            report.failures.push(format!("the server's summaries cannot be read: {error}"));
            return;
        }
    };
    let end = std::time::Instant::now() + patience[1];
    let verdict = loop {
        let events = hooks.map(Hooks::events);
        let verdict = verify(&report.stays, &known, events.as_deref(), tolerance);
        // What is missing may be on its way; all else stays as it is.
        if verdict.missing == 0 || hooks.is_none() || std::time::Instant::now() >= end {
            break verdict;
        }
        tokio::time::sleep(SETTLE_INTERVAL).await;
    };
    if let Some(refused) = hooks.map(Hooks::refused).filter(|refused| *refused > 0) {
        report.failures.push(format!(
            "{refused} webhooks were refused: their signature is of another secret, or they cannot be read"
        ));
    }
    report.attendance = Some(verdict);
}

impl Arguments {
    fn options(&self) -> Result<Options, String> {
        let people =
            self.rooms.saturating_mul(self.instructors.saturating_add(self.participants).saturating_add(self.viewers));
        if !(1..=PEOPLE_MAX).contains(&people) {
            return Err(format!("expected 1 to {PEOPLE_MAX} people in all rooms, not {people}"));
        }
        if !(self.audio || self.video || self.screen) {
            return Err("nothing to do: give --audio, --video or --screen".to_owned());
        }
        if self.via.is_some() && self.path != Path::Udp {
            return Err("--via is for media over UDP".to_owned());
        }
        let is_plain =
            self.path == Path::Udp && self.via.is_none() && self.impair == Impair::default() && self.chaos.is_empty();
        if self.target == Target::Janus && !is_plain {
            return Err("a Janus is called over UDP as it is: leave out --path, --via, --impair and --chaos".to_owned());
        }
        let restarts = self.chaos.iter().any(|chaos| chaos.deed == Deed::Restart);
        if restarts && self.restart_command.is_none() {
            return Err("restart@TIME needs --restart-command".to_owned());
        }
        let signer = match (&self.secret, &self.api_key) {
            (Some(secret), _) => Some(Signer::secret(secret)),
            (None, Some(pair)) => Some(Signer::api_key(pair)?),
            (None, None) => None,
        };
        let shape = self.shape.as_ref().map(|path| {
            let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
            Shape::parse(&text).map_err(|error| format!("{}: {error}", path.display()))
        });
        Ok(Options {
            target: self.target,
            url: self.url.clone(),
            session: self.session.clone().unwrap_or_else(|| format!("bench-{:08x}", rand::random::<u32>())),
            rooms: self.rooms,
            instructors: self.instructors,
            participants: self.participants,
            viewers: self.viewers,
            audio: self.audio,
            video: self.video,
            screen: self.screen,
            simulcast: self.simulcast,
            codec: self.codec,
            video_bps: u32::try_from(self.bitrate).map_err(|_| "the bit rate is too high".to_owned())?,
            fps: self.fps,
            duration: self.duration,
            ramp: self.ramp,
            seed: self.seed,
            signer,
            path: self.path,
            impair: self.impair,
            chaos: self.chaos.clone(),
            trust: Trust::new(self.ca.as_deref(), self.insecure)?,
            via: self.via,
            restart_command: self.restart_command.clone(),
            shape: shape.transpose()?,
            metrics: self.metrics.clone(),
            server_pid: self.server_pid,
            progress: !self.quiet,
        })
    }

    fn write(&self, report: &Report) -> Result<(), String> {
        let json = || serde_json::to_string_pretty(report).unwrap_or_default();
        let page = || page(report, "lyceum-bench call");
        let files: [(&Option<PathBuf>, &dyn Fn() -> String); 3] =
            [(&self.json, &json), (&self.junit, &|| assertion::junit(report)), (&self.report, &page)];
        for (path, text) in files {
            let Some(path) = path else { continue };
            std::fs::write(path, text()).map_err(|error| format!("cannot write {}: {error}", path.display()))?;
        }
        Ok(())
    }
}
