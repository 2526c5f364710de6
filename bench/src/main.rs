//! `lyceum-bench`: bots against a running server, the in-memory forwarding bench, and simulated networks.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use bench::call::words::parse_duration;
use bench::{bots, call, floor, forward, idle, micro, network, scale, sockets, spread, turn};
use clap::{Args, Parser, Subcommand};

#[global_allocator]
static ALLOCATOR: bench::alloc::Counting = bench::alloc::Counting;

#[derive(Parser)]
#[command(name = "lyceum-bench", about = "Load generator and benches for Lyceum", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Put bots into a session of a running server and print a table; fails when one did not join or receive.
    Bots(BotArguments),
    /// Many rooms of a running server at once, measured second by second; fails when an assertion does.
    Call(Box<call::arguments::Arguments>),
    /// Forward through the SFU in memory and hold the cost against the bare cipher.
    Forward(ForwardArguments),
    /// What sending costs on this machine at this time without any server: seal and send, as forwarding must.
    Floor(FloorArguments),
    /// What connected peers cost while nothing is said or shown.
    Idle(IdleArguments),
    /// What single deeds cost in memory: descriptions, events, broadcasts, relayed packets.
    Micro(MicroArguments),
    /// Run the SFU on simulated networks in virtual time and print a table; fails when a row misses its aims.
    Network(NetworkArguments),
    /// How costs grow in memory as subscribers, publishers, rooms and members do.
    Scale(ScaleArguments),
    /// What a room costs one worker, and two that it is spread over, in memory.
    Spread(SpreadArguments),
    /// What signaling costs a server on this machine: idle sockets, events, a broadcast.
    Sockets(SocketArguments),
    /// What the TURN server costs per relayed packet, beside coturn with the same client; starts both servers itself.
    Turn(TurnArguments),
}

#[derive(Args)]
struct BotArguments {
    /// The server.
    #[arg(long, default_value = "http://localhost:3001")]
    url: String,
    /// Session name.
    #[arg(long)]
    session: String,
    /// Bots in all.
    #[arg(long)]
    participants: usize,
    /// Sessions to spread them over (`NAME-0`, `NAME-1`, …).
    #[arg(long, default_value_t = 1)]
    rooms: usize,
    /// Publishers in each room; all by default.
    #[arg(long)]
    publishers: Option<usize>,
    /// How long media runs after the last join, e.g. `30s` or `2m`.
    #[arg(long, default_value = "30s", value_parser = parse_duration)]
    duration: Duration,
    /// Joins begun per second.
    #[arg(long, default_value_t = 20)]
    joins_per_second: u32,
    /// Video of each publisher in packets a second (`280pps`), or `none`.
    #[arg(long, default_value = "280pps", value_parser = parse_video)]
    video: Video,
    /// Publish audio too.
    #[arg(long)]
    audio: bool,
    /// Media goes through the server's own TURN server, over UDP.
    #[arg(long)]
    turn: bool,
    /// Print JSON rather than a table.
    #[arg(long)]
    json: bool,
    /// The server's metrics page, for its CPU time and counters.
    #[arg(long)]
    metrics: Option<String>,
}

#[derive(Args)]
struct FloorArguments {
    /// Receivers.
    #[arg(long, default_value_t = 100)]
    subscribers: usize,
    /// Packets of a picture, of which each run of the table has as many.
    #[arg(long, value_delimiter = ',', default_value = "1,2,5,10,20")]
    runs: Vec<usize>,
    /// How long each.
    #[arg(long, default_value = "5s", value_parser = parse_duration)]
    duration: Duration,
    /// Print JSON, a line for each.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct MicroArguments {
    /// Deeds; all by default.
    #[arg(long, value_delimiter = ',')]
    deeds: Vec<micro::Deed>,
    /// Do this one a fixed number of times, for `valgrind --tool=callgrind --toggle-collect=bench::micro::once`.
    #[arg(long)]
    count_instructions: Option<micro::Deed>,
    /// Print JSON rather than a table.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct ScaleArguments {
    /// The largest size.
    #[arg(long, default_value_t = 500)]
    most: usize,
    /// Pictures of each publisher, for each size.
    #[arg(long, default_value_t = 200)]
    pictures: usize,
    /// Print JSON rather than tables.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct SpreadArguments {
    /// Subscribers of each run.
    #[arg(long, value_delimiter = ',', default_value = "10,100,500")]
    subscribers: Vec<usize>,
    /// Frames of ten packets in each run.
    #[arg(long, default_value_t = 300)]
    frames: usize,
    /// Print JSON rather than a table.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct ForwardArguments {
    /// Subscribers of each run.
    #[arg(long, value_delimiter = ',', default_value = "1,10,100,500")]
    subscribers: Vec<usize>,
    /// Packets forwarded in each run, at least.
    #[arg(long, default_value_t = 1_000_000)]
    packets: u64,
    /// A small fixed workload without clocks, for `valgrind --tool=callgrind`.
    #[arg(long)]
    count_instructions: bool,
    /// Print JSON rather than a table.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct NetworkArguments {
    /// Where all accidents come from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Only the rows whose name contains one of these, split at semicolons.
    #[arg(long, value_delimiter = ';')]
    rows: Vec<String>,
    /// Print JSON rather than a table.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct TurnArguments {
    /// The server's binary; by default the one beside this.
    #[arg(long)]
    server: Option<PathBuf>,
    /// coturn's binary; `none` leaves it out.
    #[arg(long, default_value = "turnserver")]
    coturn: PathBuf,
    /// Parts to run: `relay` (relay sockets), `short-cut` (bots through TURN and without), `flood` (strangers' requests).
    #[arg(long, value_delimiter = ',', default_value = "relay,short-cut,flood")]
    parts: Vec<turn::Part>,
    /// Rounds of each kind, in turns.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// How long a round's media runs.
    #[arg(long, default_value = "10s", value_parser = parse_duration)]
    duration: Duration,
    /// Allocations through relay sockets.
    #[arg(long, default_value_t = 20)]
    allocations: usize,
    /// Packets a second of each, in bursts of ten; as many come back.
    #[arg(long, default_value_t = 280)]
    pps: u32,
    /// Subscribers of the one publisher, for the short cut.
    #[arg(long, default_value_t = 100)]
    subscribers: usize,
    /// Print JSON rather than a table.
    #[arg(long)]
    json: bool,
}

/// Packets a second, or no video.
#[derive(Clone, Copy)]
struct Video(Option<u32>);

fn parse_video(text: &str) -> Result<Video, String> {
    if text == "none" {
        return Ok(Video(None));
    }
    let number = text.strip_suffix("pps").unwrap_or(text);
    match number.parse() {
        Ok(pps @ 1..=100_000) => Ok(Video(Some(pps))),
        _ => Err("expected packets a second such as 280pps, or none".to_owned()),
    }
}

#[derive(Args)]
struct IdleArguments {
    /// Peers.
    #[arg(long, default_value_t = 200)]
    peers: usize,
    /// Virtual seconds.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Print JSON rather than a table.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Bots(arguments) => run_bots(arguments),
        Command::Call(arguments) => call::arguments::main(*arguments),
        Command::Floor(arguments) => run_floor(&arguments),
        Command::Forward(arguments) => run_forward(&arguments),
        Command::Idle(arguments) => {
            print(arguments.json, &idle::run(arguments.peers, arguments.seconds));
            ExitCode::SUCCESS
        }
        Command::Micro(arguments) => run_micro(&arguments),
        Command::Network(arguments) => run_network(&arguments),
        Command::Scale(arguments) => {
            print(arguments.json, &scale::run(arguments.most.max(1), arguments.pictures.max(1), micro::SLICES));
            ExitCode::SUCCESS
        }
        Command::Spread(arguments) => {
            print(arguments.json, &spread::run(&arguments.subscribers, arguments.frames));
            ExitCode::SUCCESS
        }
        Command::Sockets(arguments) => run_sockets(&arguments),
        Command::Turn(arguments) => run_turn(arguments),
    }
}

fn run_bots(arguments: BotArguments) -> ExitCode {
    let options = bots::Options {
        url: arguments.url,
        session: arguments.session,
        participants: arguments.participants,
        rooms: arguments.rooms,
        publishers: arguments.publishers,
        duration: arguments.duration,
        joins_per_second: arguments.joins_per_second,
        video_pps: arguments.video.0,
        audio: arguments.audio,
        metrics: arguments.metrics,
        turn: arguments.turn,
        progress: true,
    };
    if options.participants == 0 || options.rooms == 0 || (options.video_pps.is_none() && !options.audio) {
        eprintln!("nothing to do: give at least one participant, one room, and --video or --audio");
        return ExitCode::from(2);
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("cannot start: {error}");
            return ExitCode::from(2);
        }
    };
    let report = runtime.block_on(bots::run(&options));
    print(arguments.json, &report);
    if report.passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[derive(Args)]
struct SocketArguments {
    /// The server; its limits must let the people in: LYCEUM__ROOM__CAPACITY=5000.
    #[arg(long, default_value = "http://127.0.0.1:3001")]
    url: String,
    /// Its process.
    #[arg(long)]
    server_pid: u32,
    /// Sockets that are only there.
    #[arg(long, default_value_t = 10_000)]
    idle: usize,
    /// People in the room that is told something.
    #[arg(long, default_value_t = 5_000)]
    members: usize,
    /// How often it is.
    #[arg(long, default_value_t = 20)]
    broadcasts: usize,
    /// How long events are said.
    #[arg(long, default_value = "10s", value_parser = parse_duration)]
    duration: Duration,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

fn run_sockets(arguments: &SocketArguments) -> ExitCode {
    let options = sockets::Options {
        url: arguments.url.clone(),
        pid: arguments.server_pid,
        idle: arguments.idle,
        members: arguments.members,
        broadcasts: arguments.broadcasts,
        duration: arguments.duration,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    match runtime.and_then(|runtime| runtime.block_on(sockets::run(&options))) {
        Ok(report) => {
            print(arguments.json, &report);
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run_turn(arguments: TurnArguments) -> ExitCode {
    let options = turn::Options {
        server: arguments
            .server
            .unwrap_or_else(|| std::env::current_exe().unwrap_or_default().with_file_name("lyceum")),
        coturn: Some(arguments.coturn).filter(|path| path.as_os_str() != "none"),
        parts: arguments.parts,
        rounds: arguments.rounds.max(1),
        duration: arguments.duration,
        load: turn::relay::Load { allocations: arguments.allocations, pps: arguments.pps },
        subscribers: arguments.subscribers,
    };
    match turn::run(&options) {
        Ok(report) => {
            print(arguments.json, &report);
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run_floor(arguments: &FloorArguments) -> ExitCode {
    for run in &arguments.runs {
        let options =
            floor::Options { subscribers: arguments.subscribers, run: (*run).max(1), duration: arguments.duration };
        match floor::run(&options) {
            Ok(report) => print(arguments.json, &report),
            Err(error) => {
                eprintln!("{error}");
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}

fn run_micro(arguments: &MicroArguments) -> ExitCode {
    if let Some(deed) = arguments.count_instructions {
        println!("{} times {}", micro::count(deed), deed.word());
        return ExitCode::SUCCESS;
    }
    let deeds = if arguments.deeds.is_empty() { &micro::Deed::ALL[..] } else { &arguments.deeds };
    print(arguments.json, &micro::run(deeds));
    ExitCode::SUCCESS
}

fn run_forward(arguments: &ForwardArguments) -> ExitCode {
    if arguments.count_instructions {
        println!("forwarded {} packets", forward::fixed_workload());
        return ExitCode::SUCCESS;
    }
    print(arguments.json, &forward::run(&arguments.subscribers, arguments.packets));
    ExitCode::SUCCESS
}

fn run_network(arguments: &NetworkArguments) -> ExitCode {
    let table = network::run(arguments.seed, &arguments.rows, |outcome| eprintln!("{outcome}"));
    print(arguments.json, &table);
    if table.passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn print<T: serde::Serialize + std::fmt::Display>(json: bool, report: &T) {
    match serde_json::to_string_pretty(report) {
        Ok(text) if json => println!("{text}"),
        _ => println!("{report}"),
    }
}
