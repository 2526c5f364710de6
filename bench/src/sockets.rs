//! What signaling costs a server: memory of sockets that are only there, CPU time of an event and of a delivery, and how long a
//! broadcast takes. It needs only `join-session` and `reaction` of the protocol, so that other Socket.IO servers can stand beside
//! (`bench/node/`). The server's process runs on this machine and is looked at from outside.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::call::live::Histogram;
use crate::call::target::{Moment, Process};
use crate::dial::Trust;
use crate::socketio::{Client, Frame};

/// Sockets from one address of loopback: servers take so many from one, and no more.
const PER_SOURCE: usize = 1_000;
/// People in a room, but for the broadcast's.
const ROOM: usize = 25;
/// Sockets that connect at the same time.
const CONNECTING_MAX: usize = 64;
/// How long the server may take to come to rest.
const REST: Duration = Duration::from_secs(3);
/// How often a socket says something: what the protocol allows for long.
const EVENT_INTERVAL: Duration = Duration::from_millis(220);
/// Between two broadcasts.
const BROADCAST_INTERVAL: Duration = Duration::from_millis(500);
/// Sockets that say something.
const SPEAKERS: usize = 200;

/// What to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// The server, `http://host:port`.
    pub url: String,
    /// Its process.
    pub pid: u32,
    /// Sockets that are only there.
    pub idle: usize,
    /// People in the room that is told something.
    pub members: usize,
    /// How often it is.
    pub broadcasts: usize,
    /// How long events are said.
    pub duration: Duration,
}

/// What came of it.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Report {
    /// Sockets that are only there, in rooms of 25.
    pub idle: usize,
    /// Memory of each, KiB.
    pub idle_kib: f64,
    /// CPU time of one that connects and joins, µs.
    pub join_us: f64,
    /// CPU time of an event that is acknowledged and comes back, µs.
    pub event_us: f64,
    /// People in the room that was told something.
    pub members: usize,
    /// CPU time for each of them, µs.
    pub delivery_us: f64,
    /// From saying to hearing, ms: median.
    pub broadcast_ms_p50: f64,
    /// 99th percentile.
    pub broadcast_ms_p99: f64,
    /// Of what should have been heard, what was not.
    pub undelivered: u64,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { idle, idle_kib, join_us, event_us, members, delivery_us, .. } = self;
        writeln!(
            f,
            "| idle sockets | KiB each | µs to join | µs an event | members | µs a delivery | broadcast p50 / p99 ms | undelivered |"
        )?;
        writeln!(f, "|---|---|---|---|---|---|---|---|")?;
        write!(
            f,
            "| {idle} | {idle_kib:.1} | {join_us:.0} | {event_us:.1} | {members} | {delivery_us:.1} | {:.0} / {:.0} | {} |",
            self.broadcast_ms_p50, self.broadcast_ms_p99, self.undelivered
        )
    }
}

/// What all sockets share.
struct Hall {
    began: Instant,
    /// When what was said, µs since the beginning.
    said: Vec<AtomicU64>,
    heard: AtomicU64,
    acked: AtomicU64,
    delay: Histogram,
    joined: AtomicUsize,
    failed: AtomicUsize,
}

/// What sockets do.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Word {
    /// Only answer pings.
    Rest,
    /// Those that speak say something again and again.
    Speak,
    /// The first says what has this number.
    Tell(usize),
    /// Go.
    Leave,
}

fn source(number: usize) -> IpAddr {
    Ipv4Addr::new(127, 0, 1 + (number / PER_SOURCE / 250) as u8, 1 + (number / PER_SOURCE % 250) as u8).into()
}

/// A socket that has come to a room; `speaks` and `tells` say what it does.
struct Socket {
    url: String,
    number: usize,
    session: String,
    speaks: bool,
    tells: bool,
}

async fn live(socket: Socket, hall: Arc<Hall>, mut word: watch::Receiver<Word>) -> io::Result<()> {
    let mut client = Client::connect_from(&socket.url, None, Some(source(socket.number)), &Trust::default()).await?;
    let user = format!("user-{}", socket.number);
    let join = json!({ "sessionId": socket.session, "userId": user, "userName": user, "media": "mesh" });
    let join = client.emit("join-session", join).await?;
    let mut due = None;
    loop {
        let speak = async {
            match due {
                Some(due) => tokio::time::sleep_until(tokio::time::Instant::from_std(due)).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            frame = client.next() => match frame? {
                Frame::Ack { id, payload } if id == join => {
                    if payload["ok"] != true {
                        return Err(io::Error::other(payload.to_string()));
                    }
                    hall.joined.fetch_add(1, Relaxed);
                }
                Frame::Ack { payload, .. } if payload["ok"] == true => _ = hall.acked.fetch_add(1, Relaxed),
                Frame::Event { name, payload } if name == "reaction" => {
                    hall.heard.fetch_add(1, Relaxed);
                    if let Some(said) = payload["emoji"].as_str().and_then(|it| hall.said.get(it.parse::<usize>().ok()?)) {
                        let now = hall.began.elapsed().as_micros() as u64;
                        hall.delay.note(now.saturating_sub(said.load(Relaxed)));
                    }
                }
                Frame::Close => return Err(io::ErrorKind::ConnectionReset.into()),
                _ => {}
            },
            () = speak => {
                due = due.map(|due| due + EVENT_INTERVAL);
                client.emit("reaction", json!({ "emoji": "x" })).await?;
            }
            changed = word.changed() => {
                let said = if changed.is_ok() { *word.borrow_and_update() } else { Word::Leave };
                // Side by side, and not all at once.
                let first = Instant::now() + EVENT_INTERVAL * (socket.number % SPEAKERS) as u32 / SPEAKERS as u32;
                due = (said == Word::Speak && socket.speaks).then_some(first);
                match said {
                    Word::Tell(number) if socket.tells => {
                        hall.said[number].store(hall.began.elapsed().as_micros() as u64, Relaxed);
                        client.emit("reaction", json!({ "emoji": number.to_string() })).await?;
                    }
                    Word::Leave => return Ok(()),
                    _ => {}
                }
            }
        }
    }
}

/// A crowd of sockets, in one room or in rooms of `room`.
struct Crowd {
    tasks: JoinSet<()>,
    word: watch::Sender<Word>,
    hall: Arc<Hall>,
}

impl Crowd {
    /// Connects so many and waits until all have joined.
    async fn gather(options: &Options, name: &str, first: usize, count: usize, room: usize) -> io::Result<Crowd> {
        let (word, watcher) = watch::channel(Word::Rest);
        let hall = Arc::new(Hall {
            began: Instant::now(),
            said: std::iter::repeat_with(AtomicU64::default).take(options.broadcasts).collect(),
            heard: AtomicU64::default(),
            acked: AtomicU64::default(),
            delay: Histogram::default(),
            joined: AtomicUsize::default(),
            failed: AtomicUsize::default(),
        });
        let mut tasks = JoinSet::new();
        for number in 0..count {
            let socket = Socket {
                url: options.url.clone(),
                number: first + number,
                session: format!("{name}-{}", number / room),
                speaks: number < SPEAKERS,
                tells: number == 0,
            };
            let (shared, watcher) = (hall.clone(), watcher.clone());
            tasks.spawn(async move {
                if let Err(error) = live(socket, shared.clone(), watcher).await
                    && shared.failed.fetch_add(1, Relaxed) == 0
                {
                    eprintln!("a socket failed: {error}");
                }
            });
            while number + 1 - (hall.joined.load(Relaxed) + hall.failed.load(Relaxed)) > CONNECTING_MAX {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        while hall.joined.load(Relaxed) + hall.failed.load(Relaxed) < count {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        match hall.failed.load(Relaxed) {
            0 => Ok(Crowd { tasks, word, hall }),
            failed => Err(io::Error::other(format!("{failed} of {count} sockets did not join"))),
        }
    }

    async fn leave(self) {
        self.word.send_replace(Word::Leave);
        drop(self.tasks.join_all().await);
    }
}

/// Runs all parts, one after the other.
///
/// # Errors
/// When sockets do not join, or the process is not there.
pub async fn run(options: &Options) -> io::Result<Report> {
    let moment =
        || Moment::read(options.pid).ok_or_else(|| io::Error::other(format!("there is no process {}", options.pid)));
    let mut report = Report { idle: options.idle, members: options.members, ..Report::default() };
    let before = moment()?;
    let crowd = Crowd::gather(options, "idle", 0, options.idle, ROOM).await?;
    let joined = moment()?;
    tokio::time::sleep(REST).await;
    let there = Process::new([before, before, joined], options.idle as u64, options.idle);
    report.join_us = there.cpu_us_per_packet.unwrap_or_default();
    report.idle_kib = Process::new([before, before, moment()?], 1, options.idle).memory_kib_per_person;
    crowd.leave().await;

    let crowd = Crowd::gather(options, "events", 100_000, SPEAKERS, 1).await?;
    tokio::time::sleep(REST).await;
    crowd.word.send_replace(Word::Speak);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (before, acked) = (moment()?, crowd.hall.acked.load(Relaxed));
    tokio::time::sleep(options.duration).await;
    let events = crowd.hall.acked.load(Relaxed) - acked;
    report.event_us = Process::new([before, before, moment()?], events, 1).cpu_us_per_packet.unwrap_or_default();
    crowd.leave().await;

    let crowd = Crowd::gather(options, "broadcast", 200_000, options.members, options.members.max(1)).await?;
    tokio::time::sleep(REST).await;
    let (before, heard) = (moment()?, crowd.hall.heard.load(Relaxed));
    for number in 0..options.broadcasts {
        crowd.word.send_replace(Word::Tell(number));
        tokio::time::sleep(BROADCAST_INTERVAL).await;
    }
    tokio::time::sleep(REST).await;
    let deliveries = crowd.hall.heard.load(Relaxed) - heard;
    report.delivery_us = Process::new([before, before, moment()?], deliveries, 1).cpu_us_per_packet.unwrap_or_default();
    let delay = crowd.hall.delay.read();
    let ms = |part| delay.quantile(part).unwrap_or_default() / 1e3;
    (report.broadcast_ms_p50, report.broadcast_ms_p99) = (ms(0.5), ms(0.99));
    report.undelivered =
        (options.members * options.broadcasts) as u64 - deliveries.min((options.members * options.broadcasts) as u64);
    crowd.leave().await;
    Ok(report)
}
