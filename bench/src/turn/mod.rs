//! What the TURN server costs: per relayed packet, on the short cut and through relay sockets, beside coturn; and what it
//! remembers of strangers.

pub mod asker;
pub mod client;
pub mod flood;
pub mod process;
pub mod relay;

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::ValueEnum;
use serde::Serialize;
use serde_json::json;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use turn_server::credential;

use crate::bots;
use crate::socketio::{Client, Frame};
use client::Login;
use process::{Process, free_port};
use relay::{Load, Round};

/// Strangers' ports, and requests of each: a million in all.
const FLOOD: (u32, u32) = (10_000, 100);
/// Before the flood is measured: what the server touches once.
const FLOOD_BEFORE: (u32, u32) = (100, 100);
/// A round in which bots lost more says nothing of costs: the machine was too busy for them.
const LOSS_PERCENT_MAX: f64 = 1.0;
/// How long credentials made here are good for.
const LOGIN_S: u64 = 3_600;

/// A part of the bench.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// Relay sockets, beside coturn.
    Relay,
    /// Bots through TURN and without.
    ShortCut,
    /// Strangers' requests.
    Flood,
}

/// What to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Our binary.
    pub server: PathBuf,
    /// coturn's, if it is to be measured.
    pub coturn: Option<PathBuf>,
    /// What to measure.
    pub parts: Vec<Part>,
    /// Rounds of each kind, in turns.
    pub rounds: usize,
    /// How long each round's media runs.
    pub duration: Duration,
    /// Load through relay sockets.
    pub load: Load,
    /// Subscribers of one publisher, for the short cut.
    pub subscribers: usize,
}

/// Rounds of one kind.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Of what.
    pub name: String,
    /// Each round.
    pub rounds: Vec<Round>,
    /// The median of the rounds' µs per packet.
    pub us_per_packet: f64,
}

impl Row {
    fn new(name: &str, rounds: Vec<Round>) -> Row {
        let us_per_packet = median(rounds.iter().map(|round| round.us_per_packet).collect());
        Row { name: name.to_owned(), rounds, us_per_packet }
    }
}

/// What the short cut adds.
#[derive(Clone, Debug, Serialize)]
pub struct ShortCut {
    /// The server's CPU seconds without TURN and with it, round by round.
    pub cpu_s: Vec<(f64, f64)>,
    /// Datagrams through TURN, both ways, round by round.
    pub relayed: Vec<u64>,
    /// The difference per relayed datagram, median, µs.
    pub us_per_packet: f64,
    /// Losses of the bots in the worst round, percent.
    pub loss_percent: f64,
}

/// What is remembered of strangers.
#[derive(Clone, Debug, Serialize)]
pub struct Memory {
    /// Requests sent.
    pub requests: u64,
    /// Ports, of all, whose last request was answered.
    pub answered: u64,
    /// Growth of the server's resident memory, bytes.
    pub grown_bytes: i64,
}

/// What was found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Through relay sockets.
    pub relay: Vec<Row>,
    /// By the short cut.
    pub short_cut: Option<ShortCut>,
    /// After the flood.
    pub memory: Option<Memory>,
}

/// Runs all parts.
///
/// # Errors
/// If a server does not start, or refuses what it should not.
pub fn run(options: &Options) -> io::Result<Report> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let has = |part| options.parts.contains(&part);
    let relay = if has(Part::Relay) { relay_rows(options, &runtime)? } else { Vec::new() };
    let short_cut = has(Part::ShortCut).then(|| short_cut(options, &runtime)).transpose()?;
    let memory = has(Part::Flood).then(|| memory(&options.server, FLOOD)).transpose()?;
    Ok(Report { relay, short_cut, memory })
}

/// Our server, as the bench sets it up: on loopback, whose peers it must be told of.
pub struct Lyceum {
    /// The process.
    pub process: Process,
    /// `http://host:port`.
    pub url: String,
    /// Its metrics page.
    pub metrics: String,
    /// Its TURN server.
    pub turn: SocketAddr,
    /// What it keeps; after the process, which writes there.
    _store: Scratch,
}

impl Lyceum {
    /// Starts it; with `peers` it has relay sockets.
    ///
    /// # Errors
    /// If it does not listen in time.
    pub fn start(binary: &Path, peers: bool) -> io::Result<Lyceum> {
        let (http, admin, turn) = (free_port()?, free_port()?, free_port()?);
        let store = Scratch(std::env::temp_dir().join(format!("lyceum-bench-{}-{http}", std::process::id())));
        let mut command = Command::new(binary);
        command
            .env("LYCEUM__HTTP__LISTEN", format!("127.0.0.1:{http}"))
            .env("LYCEUM__ADMIN__LISTEN", format!("127.0.0.1:{admin}"))
            .env("LYCEUM__MEDIA__PORT", "0")
            .env("LYCEUM__MEDIA__ADDRESSES", "127.0.0.1")
            .env("LYCEUM__TURN__ENABLED", "true")
            .env("LYCEUM__TURN__PORT", turn.to_string())
            .env("LYCEUM__TURN__ALLOCATIONS_PER_PARTICIPANT", "1000")
            .env("LYCEUM__TURN__BANDWIDTH_KBPS", "1000000")
            .env("LYCEUM__STORE__DIR", &store.0)
            .env_remove("DATABASE_URL");
        if peers {
            command.env("LYCEUM__TURN__PEERS", format!("{}/32", relay::PEER));
        }
        let process = Process::start(&mut command, http)?;
        Ok(Lyceum {
            process,
            url: format!("http://127.0.0.1:{http}"),
            metrics: format!("http://127.0.0.1:{admin}/metrics"),
            turn: (Ipv4Addr::LOCALHOST, turn).into(),
            _store: store,
        })
    }
}

/// A directory that is deleted with this.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        // It need not have been made.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A seat that lives as long as its task, and what its TURN credentials are.
async fn seat(url: &str) -> io::Result<(SocketAddr, Login, JoinHandle<()>)> {
    let mut client = Client::connect(url).await?;
    let join = json!({ "sessionId": "relay", "userId": "relay", "userName": "relay", "isInstructor": false });
    let id = client.emit("join-session", join).await?;
    let ack = loop {
        match client.next().await? {
            Frame::Ack { id: of, payload } if of == id => break payload,
            Frame::Close => return Err(io::ErrorKind::ConnectionReset.into()),
            _ => {}
        }
    };
    let (server, login) = bots::turn_server(&ack)
        .ok_or_else(|| io::Error::other(format!("the join's ack names no TURN server over UDP: {ack}")))?;
    // Answers pings until nobody needs the seat.
    let stays = tokio::spawn(async move { while client.next().await.is_ok_and(|frame| frame != Frame::Close) {} });
    Ok((server, login, stays))
}

fn coturn(binary: &PathBuf) -> io::Result<(Process, SocketAddr, Login)> {
    let port = free_port()?;
    let secret = format!("{:016x}", rand::random::<u64>());
    let mut command = Command::new(binary);
    command.args(["-n", "-L", "127.0.0.1", "-E", "127.0.0.1", "-p", &port.to_string(), "-r", "lyceum"]);
    command.args(["--use-auth-secret", "--static-auth-secret", &secret, "--allow-loopback-peers"]);
    command.args(["--no-cli", "--no-tls", "--no-dtls", "--log-file", "/dev/null", "--pidfile", "/dev/null"]);
    let process = Process::start(&mut command, port)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let minted = credential::mint(secret.as_bytes(), "bench", now + LOGIN_S);
    let login = Login { username: minted.username, password: minted.password };
    Ok((process, (Ipv4Addr::LOCALHOST, port).into(), login))
}

fn relay_rows(options: &Options, runtime: &Runtime) -> io::Result<Vec<Row>> {
    let lyceum = Lyceum::start(&options.server, true)?;
    let (ours, login, stays) = runtime.block_on(seat(&lyceum.url))?;
    let theirs = options.coturn.as_ref().map(coturn).transpose()?;
    let mut rounds = (Vec::new(), Vec::new());
    for number in 1..=options.rounds {
        let cpu = || lyceum.process.cpu();
        let round = runtime.block_on(relay::round(ours, &login, options.load, options.duration, cpu))?;
        eprintln!("relay sockets, round {number}: Lyceum {:.2} µs", round.us_per_packet);
        rounds.0.push(round);
        if let Some((process, server, login)) = &theirs {
            let cpu = || process.cpu();
            let round = runtime.block_on(relay::round(*server, login, options.load, options.duration, cpu))?;
            eprintln!("relay sockets, round {number}: coturn {:.2} µs", round.us_per_packet);
            rounds.1.push(round);
        }
    }
    stays.abort();
    let mut rows = vec![Row::new("Lyceum", rounds.0)];
    rows.extend((!rounds.1.is_empty()).then(|| Row::new("coturn", rounds.1)));
    Ok(rows)
}

fn short_cut(options: &Options, runtime: &Runtime) -> io::Result<ShortCut> {
    let lyceum = Lyceum::start(&options.server, false)?;
    let mut found = ShortCut { cpu_s: Vec::new(), relayed: Vec::new(), us_per_packet: 0.0, loss_percent: 0.0 };
    let mut costs = Vec::new();
    for number in 1..=options.rounds {
        let mut round = |turn: bool| {
            let options = bots::Options {
                url: lyceum.url.clone(),
                session: format!("short-cut-{number}-{turn}"),
                participants: options.subscribers + 1,
                rooms: 1,
                publishers: Some(1),
                duration: options.duration,
                joins_per_second: 50,
                video_pps: Some(280),
                audio: false,
                metrics: Some(lyceum.metrics.clone()),
                turn,
                progress: false,
            };
            let report = runtime.block_on(bots::run(&options));
            if !report.passed() || report.loss_percent > LOSS_PERCENT_MAX {
                eprintln!("short cut, round {number}: left out\n{report}");
                return None;
            }
            found.loss_percent = found.loss_percent.max(report.loss_percent);
            let cpu_s = report.server.as_ref().and_then(|server| server.cpu_seconds).unwrap_or(0.0);
            let forwarded = report.server.as_ref().and_then(|server| server.forwarded).unwrap_or(0.0);
            Some((cpu_s, forwarded, report.relayed))
        };
        let (Some((direct_s, forwarded, _)), Some((turn_s, forwarded_turn, relayed))) = (round(false), round(true))
        else {
            continue;
        };
        // Both rounds forward nearly as many packets; what differs is left out.
        let direct_s = direct_s * forwarded_turn / forwarded.max(1.0);
        let cost = (turn_s - direct_s) * 1e6 / relayed.max(1) as f64;
        eprintln!("short cut, round {number}: {cost:.2} µs ({direct_s:.2} s without, {turn_s:.2} s with)");
        found.cpu_s.push((direct_s, turn_s));
        found.relayed.push(relayed);
        costs.push(cost);
    }
    if costs.is_empty() {
        return Err(io::Error::other(
            "the bots lost packets in each round: the machine is too busy, or they are too many",
        ));
    }
    found.us_per_packet = median(costs);
    Ok(found)
}

/// What our server remembers of `ports` strangers with `each` requests.
///
/// # Errors
/// If it does not start.
pub fn memory(binary: &Path, (ports, each): (u32, u32)) -> io::Result<Memory> {
    let lyceum = Lyceum::start(binary, false)?;
    flood::run(lyceum.turn, FLOOD_BEFORE.0, FLOOD_BEFORE.1)?;
    let before = lyceum.process.resident()?;
    let flood::Flood { requests, answered } = flood::run(lyceum.turn, ports, each)?;
    let grown_bytes = lyceum.process.resident()? as i64 - before as i64;
    Ok(Memory { requests, answered, grown_bytes })
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.relay.is_empty() {
            writeln!(f, "| relay sockets | µs/packet | rounds | loss % |\n|---|---|---|---|")?;
        }
        for row in &self.relay {
            let rounds: Vec<String> = row.rounds.iter().map(|round| format!("{:.2}", round.us_per_packet)).collect();
            let loss = row.rounds.iter().map(|round| round.loss_percent).fold(0.0, f64::max);
            writeln!(f, "| {} | {:.2} | {} | {loss:.2} |", row.name, row.us_per_packet, rounds.join(", "))?;
        }
        if let Some(ShortCut { cpu_s, relayed, us_per_packet, loss_percent }) = &self.short_cut {
            writeln!(
                f,
                "| short cut | µs/packet | CPU s without, with TURN | relayed | loss % |\n|---|---|---|---|---|"
            )?;
            let rounds: Vec<String> = cpu_s.iter().map(|(direct, turn)| format!("{direct:.2} {turn:.2}")).collect();
            let relayed = relayed.iter().sum::<u64>();
            writeln!(f, "| Lyceum | {us_per_packet:.2} | {} | {relayed} | {loss_percent:.2} |", rounds.join(", "))?;
        }
        if let Some(Memory { requests, answered, grown_bytes }) = &self.memory {
            let megabytes = *grown_bytes as f64 / 1e6;
            writeln!(
                f,
                "{requests} strangers' requests: {megabytes:.2} MB more ({answered} ports answered at the end)"
            )?;
        }
        Ok(())
    }
}
