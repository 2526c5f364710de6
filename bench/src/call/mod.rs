//! `lyceum-bench call`: many rooms of a running server at once, with a client of the tester's own that is cheap enough for it; what
//! they saw, second by second; and whether the tester itself could keep up.

pub mod arguments;
pub mod ask;
pub mod assertion;
pub mod caller;
pub mod chaos;
pub mod codec;
pub mod downlink;
pub mod hooks;
pub mod impair;
pub mod janus;
pub mod live;
pub mod outcome;
pub mod page;
pub mod picture;
pub mod plan;
pub mod plot;
pub mod reception;
pub mod recording;
pub mod report;
pub mod seat;
pub mod seconds;
pub mod shape;
pub mod stamp;
pub mod target;
pub mod tester;
pub mod token;
pub mod truth;
pub mod uplink;
pub mod verify;
pub mod way;
pub mod words;

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinSet;

use self::chaos::{Chaos, Deed};
use self::codec::Codec;
use self::impair::Impair;
use self::live::{Histogram, Room, Sums};
use self::report::{Measured, Report};
use self::seconds::Sampler;
use self::shape::Shape;
use self::target::{Moment, Process, Target};
use self::tester::Cpu;
use self::token::Signer;
use self::way::Path;
use crate::dial::Trust;
use crate::metrics;
use crate::peer::Identity;

/// How long all together may take to join after the last has begun; who has not by then has failed.
pub const JOIN_TIMEOUT: Duration = Duration::from_secs(30);
/// How long receivers wait for the tail after publishing stopped: a NACK round or two.
pub const DRAIN_TIME: Duration = Duration::from_millis(500);

/// What to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Whom people call.
    pub target: Target,
    /// The server, `http://host:port`; a Janus's `ws://host:port`.
    pub url: String,
    /// What sessions are called: `NAME-0`, `NAME-1`, …
    pub session: String,
    /// Rooms.
    pub rooms: usize,
    /// Instructors in each room.
    pub instructors: usize,
    /// Participants in each room beside them.
    pub participants: usize,
    /// People in each room who publish nothing.
    pub viewers: usize,
    /// Whether microphones are published.
    pub audio: bool,
    /// Whether cameras are.
    pub video: bool,
    /// Whether the first of each room shares a screen.
    pub screen: bool,
    /// Cameras in three layers.
    pub simulcast: bool,
    /// Of cameras and screens.
    pub codec: Codec,
    /// Bits a second of each camera and screen.
    pub video_bps: u32,
    /// Frames a second.
    pub fps: u32,
    /// How long media runs after the last join.
    pub duration: Duration,
    /// In which time all join.
    pub ramp: Duration,
    /// Where all choices come from.
    pub seed: u64,
    /// What signs join tokens; open mode without it.
    pub signer: Option<Signer>,
    /// By which way media goes.
    pub path: Path,
    /// What happens to the datagrams of each client, both ways.
    pub impair: Impair,
    /// What goes wrong on purpose.
    pub chaos: Vec<Chaos>,
    /// Whose certificate is believed, for `https://`.
    pub trust: Trust,
    /// Media goes there instead of to the server: a proxy that sends it on.
    pub via: Option<SocketAddr>,
    /// What restarts the server, for a shell.
    pub restart_command: Option<String>,
    /// What the class is like.
    pub shape: Option<Shape>,
    /// The server's metrics page, if it is to be read.
    pub metrics: Option<String>,
    /// The server's process, if it runs on this machine and is to be looked at.
    pub server_pid: Option<u32>,
    /// Print a line of progress each second to standard error.
    pub progress: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            target: Target::Lyceum,
            url: "http://localhost:3001".to_owned(),
            session: "bench".to_owned(),
            rooms: 1,
            instructors: 1,
            participants: 3,
            viewers: 0,
            audio: true,
            video: true,
            screen: false,
            simulcast: false,
            codec: Codec::Vp8,
            video_bps: 500_000,
            fps: 30,
            duration: Duration::from_secs(30),
            ramp: Duration::from_secs(2),
            seed: 1,
            signer: None,
            path: Path::Udp,
            impair: Impair::default(),
            chaos: Vec::new(),
            trust: Trust::default(),
            via: None,
            restart_command: None,
            shape: None,
            metrics: None,
            server_pid: None,
            progress: false,
        }
    }
}

impl Options {
    /// What a room's session is called.
    pub fn session_of(&self, room: usize) -> String {
        format!("{}-{room}", self.session)
    }

    /// Everybody.
    pub fn people(&self) -> usize {
        self.rooms * (self.instructors + self.participants + self.viewers)
    }
}

/// Where a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
pub enum Phase {
    /// People come.
    Joining,
    /// What is measured.
    Media,
    /// Nothing is published any more.
    Draining,
    /// All leave.
    Done,
}

/// What all seats share.
pub struct Shared {
    /// What to run.
    pub options: Options,
    /// Certificate and DTLS configuration.
    pub identity: Identity,
    /// When the run began.
    pub began: Instant,
    /// The same as Unix ms.
    pub unix_began_ms: u64,
    /// The rooms' counters.
    pub rooms: Vec<Arc<Room>>,
    /// How many publish in each room.
    pub publishers: Vec<usize>,
    /// How late frames are sent, µs: what the tester adds to every delay.
    pub lateness: Histogram,
    /// Seats that have ended.
    pub gone: AtomicUsize,
    /// The server was restarted on purpose: who lost it comes back.
    pub restarted: AtomicBool,
    /// Where signaling reaches the server.
    pub server_ip: Option<IpAddr>,
}

impl Shared {
    /// All rooms together.
    pub fn sums(&self) -> Sums {
        let mut sums = Sums::default();
        self.rooms.iter().for_each(|room| sums.add(&room.read()));
        sums
    }
}

/// Runs it and sums up.
pub async fn run(options: &Options) -> Report {
    let (phase, watcher) = watch::channel(Phase::Joining);
    let authority = options.url.split_once("://").map_or(&*options.url, |(_, rest)| rest).trim_end_matches('/');
    let parts = plan::parts(options, rand::random());
    let mut publishers = vec![0; options.rooms];
    parts.iter().for_each(|part| publishers[part.room] += usize::from(part.publish.tracks().next().is_some()));
    let shared = Arc::new(Shared {
        options: options.clone(),
        identity: Identity::new(),
        began: Instant::now(),
        unix_began_ms: seat::unix_ms(),
        rooms: (0..options.rooms).map(|_| Arc::default()).collect(),
        publishers,
        lateness: Histogram::default(),
        gone: AtomicUsize::new(0),
        restarted: AtomicBool::new(false),
        server_ip: authority.to_socket_addrs().ok().and_then(|mut all| all.next()).map(|address| address.ip()),
    });
    let process = || options.server_pid.and_then(Moment::read);
    let process_idle = process();
    let mut tasks = JoinSet::new();
    for part in parts {
        let (shared, watcher) = (shared.clone(), watcher.clone());
        tasks.spawn(async move {
            tokio::time::sleep(part.joins_at).await;
            let outcome = match shared.options.target {
                Target::Lyceum => seat::run(part, shared.clone(), watcher).await,
                Target::Janus => janus::run(part, shared.clone(), watcher).await,
            };
            shared.gone.fetch_add(1, Relaxed);
            outcome
        });
    }
    let sampler = tokio::spawn(Sampler::new(shared.clone()).run(watcher));
    wait_for_joins(&shared).await;
    let before = scrape(options).await;
    let received_before = shared.sums().received;
    let rooms_before = shared.rooms.iter().map(|room| room.read()).collect();
    let process_began = process();
    let (measured_before, began) = ((rooms_before, shared.lateness.read(), Cpu::read()), Instant::now());
    phase.send_replace(Phase::Media);
    let restarts = tokio::spawn(restart(shared.clone()));
    tokio::time::sleep(options.duration).await;
    let (lasted, cpu) = (began.elapsed(), Cpu::read());
    let (process_ended, received) = (process(), shared.sums().received - received_before);
    phase.send_replace(Phase::Draining);
    let after = scrape(options).await;
    tokio::time::sleep(DRAIN_TIME).await;
    phase.send_replace(Phase::Done);
    let mut outcomes = tasks.join_all().await;
    outcomes.sort_by_key(|outcome| outcome.number);
    // It ends by itself with the last phase; a panic in it would be a fault of ours, and loses the seconds only.
    let seconds = sampler.await.unwrap_or_default();
    let server = before.zip(after).map(|(before, after)| report::server(before, after));
    let measured = Measured { before: measured_before, cpu, lasted };
    let moments = process_idle.zip(process_began).zip(process_ended);
    restarts.abort();
    let process = moments.map(|((a, b), c)| Process::new([a, b, c], received, options.people()));
    Report { process, ..Report::new(&shared, outcomes, seconds, server, measured) }
}

async fn wait_for_joins(shared: &Shared) {
    let end = Instant::now() + shared.options.ramp + JOIN_TIMEOUT;
    while Instant::now() < end {
        let joined: u64 = shared.rooms.iter().map(|room| room.joined.load(Relaxed)).sum();
        if joined as usize + shared.gone.load(Relaxed) >= shared.options.people() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Restarts the server whenever that is due.
async fn restart(shared: Arc<Shared>) {
    let options = &shared.options;
    let deeds = options.chaos.iter().chain(options.shape.iter().flat_map(|shape| &shape.deeds));
    let mut due: Vec<Duration> = deeds.filter(|chaos| chaos.deed == Deed::Restart).map(|chaos| chaos.at).collect();
    due.sort();
    let began = tokio::time::Instant::now();
    for at in due {
        tokio::time::sleep_until(began + at).await;
        let Some(command) = options.restart_command.clone() else { return };
        shared.restarted.store(true, Relaxed);
        let run = move || std::process::Command::new("sh").arg("-c").arg(command).status();
        match tokio::task::spawn_blocking(run).await {
            Ok(Ok(status)) if status.success() => {}
            failed => eprintln!("the command that restarts the server failed: {failed:?}"),
        }
    }
}

async fn scrape(options: &Options) -> Option<std::io::Result<metrics::Samples>> {
    Some(metrics::scrape(options.metrics.as_deref()?, &options.trust).await)
}
