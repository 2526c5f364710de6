//! Puts bots into sessions of a running server and reports what they saw.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sfu::Kind;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::bot::{Bot, Happened, Publish, Signal};
use crate::dial::Trust;
use crate::media::{self, Tally};
use crate::metrics::{self, Samples};
use crate::report::{BotReport, Report, ServerReport, p99};
use crate::socketio::{Client, Frame};
use crate::turn::client::{Login, TurnClient};

/// How long all bots together may take to join; who has not joined by then has failed.
pub const JOIN_TIMEOUT: Duration = Duration::from_secs(20);
/// How long receivers wait for the tail after publishing stopped: a NACK round or two.
pub const DRAIN_TIME: Duration = Duration::from_millis(1_500);
/// Videos that one participant is subscribed to at most (docs/protocol.md).
pub const VIDEOS_MAX: usize = 25;
/// Failures kept for each bot; later ones are the consequences of the first.
const FAILURES_MAX: usize = 5;
/// Receive buffer asked for each bot's socket, bytes: a keyframe of everyone at once.
const RECEIVE_BUFFER_BYTES: usize = 2 << 20;
/// Datagrams read from a socket before timers and signaling are looked at again.
const READ_BATCH: usize = 64;

/// The server's CPU time, seconds: the conventional name, and the same with the server's prefix.
const CPU_METRICS: [&str; 2] = ["process_cpu_seconds_total", "lyceum_process_cpu_seconds_total"];
/// RTP packets that the server forwarded, first sends.
const FORWARDED_METRIC: &str = "lyceum_rtp_packets_out_total";

/// What to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// The server, `http://host:port`.
    pub url: String,
    /// Session name; with several rooms `-0`, `-1`, … is appended.
    pub session: String,
    /// Bots in all.
    pub participants: usize,
    /// Sessions over which the bots are spread evenly.
    pub rooms: usize,
    /// How many bots of each room publish; `None` means all.
    pub publishers: Option<usize>,
    /// How long media runs after the last join.
    pub duration: Duration,
    /// Joins begun per second.
    pub joins_per_second: u32,
    /// Video packets a second of each publisher.
    pub video_pps: Option<u32>,
    /// Whether publishers publish audio.
    pub audio: bool,
    /// The server's metrics page, if it is to be read.
    pub metrics: Option<String>,
    /// Media goes through the server's own TURN server, over UDP.
    pub turn: bool,
    /// Print a line of progress each second to standard error.
    pub progress: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
enum Phase {
    Joining,
    Media,
    Draining,
    Done,
}

/// What the tasks share: counters for the progress line, and nothing that anyone waits for.
#[derive(Default)]
struct Progress {
    joined: AtomicUsize,
    gone: AtomicUsize,
    sent: AtomicU64,
    received: AtomicU64,
    /// Datagrams that went through TURN, both ways.
    relayed: AtomicU64,
}

/// What a bot's task hands back.
struct Outcome {
    index: usize,
    report: BotReport,
    sent: Vec<(u64, u64)>,
    tallies: HashMap<u64, Tally>,
}

/// Runs the bots and sums up.
pub async fn run(options: &Options) -> Report {
    let (phase, watcher) = watch::channel(Phase::Joining);
    let progress = Arc::new(Progress::default());
    let mut tasks = JoinSet::new();
    let run: u32 = rand::random();
    for index in 0..options.participants {
        let seat = Seat::new(options, index, run);
        let (watcher, progress) = (watcher.clone(), progress.clone());
        tasks.spawn(async move {
            let begin = Duration::from_secs(1) * index as u32 / seat.joins_per_second.max(1);
            tokio::time::sleep(begin).await;
            let outcome = Session::run(seat, watcher, progress.clone()).await;
            progress.gone.fetch_add(1, Ordering::Relaxed);
            outcome
        });
    }

    let printer = options.progress.then(|| tokio::spawn(print_progress(progress.clone(), options.participants)));
    let spread = Duration::from_secs(1) * options.participants as u32 / options.joins_per_second.max(1);
    wait_for_joins(&progress, options.participants, spread + JOIN_TIMEOUT).await;
    phase.send_replace(Phase::Media);
    let before = scrape(options).await;
    let relayed_before = progress.relayed.load(Ordering::Relaxed);
    let began = Instant::now();
    tokio::time::sleep(options.duration).await;
    let duration = began.elapsed();
    let relayed = progress.relayed.load(Ordering::Relaxed) - relayed_before;
    phase.send_replace(Phase::Draining);
    let after = scrape(options).await;
    tokio::time::sleep(DRAIN_TIME).await;
    phase.send_replace(Phase::Done);

    let mut outcomes: Vec<Outcome> = tasks.join_all().await;
    if let Some(printer) = printer {
        printer.abort();
    }
    outcomes.sort_by_key(|outcome| outcome.index);
    let server = before.zip(after).map(|(before, after)| server_report(before, after));
    Report { relayed, ..Report::new(settle(options, outcomes), duration, server) }
}

async fn wait_for_joins(progress: &Progress, participants: usize, limit: Duration) {
    let end = Instant::now() + limit;
    while Instant::now() < end {
        let settled = progress.joined.load(Ordering::Relaxed) + progress.gone.load(Ordering::Relaxed);
        if settled >= participants {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn print_progress(progress: Arc<Progress>, participants: usize) {
    let began = Instant::now();
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        eprintln!(
            "{:>4} s  joined {}/{participants}  sent {}  received {}",
            began.elapsed().as_secs(),
            progress.joined.load(Ordering::Relaxed),
            progress.sent.load(Ordering::Relaxed),
            progress.received.load(Ordering::Relaxed),
        );
    }
}

async fn scrape(options: &Options) -> Option<io::Result<Samples>> {
    Some(metrics::scrape(options.metrics.as_deref()?, &Trust::default()).await)
}

pub(crate) fn server_report(before: io::Result<Samples>, after: io::Result<Samples>) -> ServerReport {
    let (before, after) = match (before, after) {
        (Ok(before), Ok(after)) => (before, after),
        (Err(error), _) | (_, Err(error)) => {
            return ServerReport { failure: Some(error.to_string()), ..Default::default() };
        }
    };
    let mut counters = after.growth(&before);
    let cpu_seconds = CPU_METRICS.iter().find_map(|name| counters.remove(*name));
    let forwarded = counters.get(FORWARDED_METRIC).copied();
    let cpu_us_per_packet = cpu_seconds.zip(forwarded).filter(|(_, packets)| *packets > 0.0).map(|(s, n)| s * 1e6 / n);
    let failure = (cpu_seconds.is_none() || forwarded.is_none())
        .then(|| format!("the page lacks {} or {FORWARDED_METRIC}", CPU_METRICS[0]));
    let runs = after.classes(&before, "lyceum_run_datagrams_bucket{le=\"");
    let delay = |kind: &str| {
        let series = format!("lyceum_forward_delay_seconds_bucket{{kind=\"{kind}\",le=\"");
        Some((kind.to_owned(), 1e3 * p99(&after.classes(&before, &series))?))
    };
    let forward_ms_p99 = ["audio", "video"].into_iter().filter_map(delay).collect();
    ServerReport { cpu_seconds, forwarded, cpu_us_per_packet, counters, runs, forward_ms_p99, failure }
}

/// Holds each bot's tallies against what the others of its room sent.
fn settle(options: &Options, outcomes: Vec<Outcome>) -> Vec<BotReport> {
    let rooms = options.rooms.max(1);
    let sent: Vec<Vec<(u64, u64)>> = outcomes.iter().map(|outcome| outcome.sent.clone()).collect();
    let settle_one = |outcome: Outcome| {
        let mut report = outcome.report;
        let others = (outcome.index % rooms..sent.len()).step_by(rooms).filter(|other| *other != outcome.index);
        let streams = || others.clone().flat_map(|other| sent[other].iter().copied()).filter(|(_, sent)| *sent > 0);
        let videos = streams().filter(|(stream, _)| stream % 2 == 1).count();
        report.streams_expected = (streams().count() - videos + videos.min(VIDEOS_MAX)) as u64;
        for (stream, sent) in streams() {
            let Some(tally) = outcome.tallies.get(&stream) else { continue };
            report.streams_received += 1;
            report.received += tally.received;
            report.expected += tally.expected(sent);
            report.duplicates += tally.duplicates;
            report.payload_bytes += tally.payload_bytes;
        }
        if report.streams_received < report.streams_expected {
            let (got, want) = (report.streams_received, report.streams_expected);
            report.failures.push(format!("received {got} of {want} streams"));
        }
        report
    };
    outcomes.into_iter().map(settle_one).collect()
}

/// One bot's place in the run.
struct Seat {
    index: usize,
    url: String,
    session: String,
    name: String,
    publish: Publish,
    joins_per_second: u32,
    turn: bool,
}

impl Seat {
    fn new(options: &Options, index: usize, run: u32) -> Seat {
        let rooms = options.rooms.max(1);
        let publishes = options.publishers.is_none_or(|publishers| index / rooms < publishers);
        let burst = options.video_pps.map(|pps| (pps / media::VIDEO_FPS).max(1));
        Seat {
            index,
            url: options.url.clone(),
            session: if rooms == 1 {
                options.session.clone()
            } else {
                format!("{}-{}", options.session, index % rooms)
            },
            name: format!("bot-{run:08x}-{index}"),
            publish: Publish { audio: options.audio && publishes, video_burst: burst.filter(|_| publishes) },
            joins_per_second: options.joins_per_second,
            turn: options.turn,
        }
    }
}

/// One bot with its socket and its signaling.
struct Session {
    seat: Seat,
    client: Client,
    socket: UdpSocket,
    bot: Bot,
    /// Its allocation, and the server's address; once it has joined.
    turn: Option<(TurnClient, SocketAddr)>,
    relayed_before: u64,
    began: Instant,
    join_ack: u64,
    report: BotReport,
    tallies: HashMap<u64, Tally>,
    progress: Arc<Progress>,
    sent_before: u64,
}

impl Session {
    async fn run(seat: Seat, mut phase: watch::Receiver<Phase>, progress: Arc<Progress>) -> Outcome {
        let (index, name) = (seat.index, seat.name.clone());
        let mut session = match Session::begin(seat, progress).await {
            Ok(session) => session,
            Err(error) => {
                let report =
                    BotReport { name, failures: vec![format!("could not join: {error}")], ..Default::default() };
                return Outcome { index, report, sent: vec![], tallies: HashMap::new() };
            }
        };
        if let Err(error) = session.work(&mut phase).await {
            session.fail(error.to_string());
        }
        session.finish().await
    }

    async fn begin(seat: Seat, progress: Arc<Progress>) -> io::Result<Session> {
        let began = Instant::now();
        let mut client = Client::connect(&seat.url).await?;
        let (socket, local) = bind(&seat.url).await?;
        let bot = Bot::new(local, seat.index as u64, seat.publish, began).map_err(io::Error::other)?;
        let join = json!({
            "sessionId": seat.session, "userId": seat.name, "userName": seat.name,
            "isInstructor": false, "media": "sfu",
        });
        let join_ack = client.emit("join-session", join).await?;
        let report = BotReport { name: seat.name.clone(), ..Default::default() };
        let tallies = HashMap::new();
        let (turn, relayed_before, sent_before) = (None, 0, 0);
        Ok(Session {
            seat,
            client,
            socket,
            bot,
            turn,
            relayed_before,
            began,
            join_ack,
            report,
            tallies,
            progress,
            sent_before,
        })
    }

    async fn work(&mut self, phase: &mut watch::Receiver<Phase>) -> io::Result<()> {
        let mut buffer = vec![0; 2_048];
        loop {
            self.flush().await?;
            let turn_due = self.turn.as_ref().and_then(|(turn, _)| turn.deadline());
            let due = [self.bot.deadline(), turn_due].into_iter().flatten().min();
            let deadline = due.unwrap_or_else(|| Instant::now() + Duration::from_secs(1));
            tokio::select! {
                readable = self.socket.readable() => {
                    readable?;
                    self.read(&mut buffer);
                }
                frame = self.client.next() => match frame? {
                    Frame::Close => return Err(io::Error::new(io::ErrorKind::ConnectionReset, "the server closed the socket")),
                    frame => self.take(frame).await?,
                },
                () = tokio::time::sleep_until(deadline.into()) => self.bot.tick(Instant::now()),
                changed = phase.changed() => {
                    let now = if changed.is_ok() { *phase.borrow_and_update() } else { Phase::Done };
                    if now >= Phase::Draining {
                        self.bot.stop_publishing();
                    }
                    if now == Phase::Done {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Reads what waits in the socket, at most [`READ_BATCH`] datagrams.
    fn read(&mut self, buffer: &mut [u8]) {
        let now = Instant::now();
        for _ in 0..READ_BATCH {
            // An ICMP error of an earlier send shows up here; the next datagram is none the worse for it.
            let Ok((length, from)) = self.socket.try_recv_from(buffer) else { break };
            match &mut self.turn {
                Some((turn, server)) if *server == from => {
                    if let Some((peer, payload)) = turn.receive(&buffer[..length], now) {
                        self.bot.receive(peer, &buffer[payload], now);
                    }
                }
                _ => self.bot.receive(from, &buffer[..length], now),
            }
        }
        self.bot.tick(now);
    }

    /// Sends what the bot has to send, and notes what happened to it.
    async fn flush(&mut self) -> io::Result<()> {
        while let Some((to, datagram)) = self.bot.transmit() {
            let way = match &mut self.turn {
                // What finds no channel yet is repeated by ICE.
                Some((turn, server)) => turn.wrap(to, &datagram, Instant::now()).map(|wrapped| (*server, wrapped)),
                None if self.seat.turn => None,
                None => Some((to, datagram)),
            };
            if let Some((to, datagram)) = way {
                // Unreachable candidates are ordinary; ICE finds out by itself.
                let _ = self.socket.send_to(&datagram, to).await;
            }
        }
        self.flush_turn().await;
        while let Some(signal) = self.bot.signal() {
            self.emit(signal).await?;
        }
        while let Some(happened) = self.bot.happened() {
            self.note(happened);
        }
        let sent: u64 = self.bot.sent().map(|(_, sent)| sent).sum();
        self.progress.sent.fetch_add(sent - self.sent_before, Ordering::Relaxed);
        self.sent_before = sent;
        Ok(())
    }

    async fn flush_turn(&mut self) {
        let Some((turn, server)) = &mut self.turn else { return };
        turn.tick(Instant::now());
        while let Some(datagram) = turn.transmit() {
            // It is repeated until it is answered.
            let _ = self.socket.send_to(&datagram, *server).await;
        }
        let (sent, received) = turn.payloads();
        self.progress.relayed.fetch_add(sent + received - self.relayed_before, Ordering::Relaxed);
        self.relayed_before = sent + received;
        if let Some(failure) = turn.failure().map(str::to_owned) {
            self.fail(failure);
            self.turn = None;
        }
    }

    fn note(&mut self, happened: Happened) {
        match happened {
            Happened::Connected => {
                if self.report.join_ms.is_none() {
                    self.report.join_ms = Some(self.began.elapsed().as_secs_f64() * 1e3);
                    self.progress.joined.fetch_add(1, Ordering::Relaxed);
                }
            }
            Happened::Failed => self.fail("the media connection failed".to_owned()),
            Happened::Media(media) => {
                self.progress.received.fetch_add(1, Ordering::Relaxed);
                let Some(stamp) = media.stamp else { return };
                self.tallies
                    .entry(stamp.stream)
                    .and_modify(|tally| tally.note(stamp.number, media.payload_bytes))
                    .or_insert_with(|| Tally::new(stamp.number, media.payload_bytes));
            }
        }
    }

    async fn emit(&mut self, signal: Signal) -> io::Result<()> {
        let (event, kind, sdp, tracks) = match signal {
            Signal::Offer { sdp, tracks } => ("offer", "offer", sdp, Some(tracks)),
            Signal::Answer { sdp } => ("answer", "answer", sdp, None),
        };
        let mut payload = json!({
            "sessionId": self.seat.session, "targetUserId": "sfu", "userId": self.seat.name,
            kind: { "type": kind, "sdp": sdp },
        });
        if let Some(tracks) = tracks {
            payload["tracks"] =
                tracks.into_iter().map(|(mid, kind)| json!({ "mid": mid, "source": source(kind) })).collect();
        }
        self.client.emit(event, payload).await.map(drop)
    }

    async fn take(&mut self, frame: Frame) -> io::Result<()> {
        let now = Instant::now();
        let sdp = |payload: &Value, kind: &str| payload[kind]["sdp"].as_str().unwrap_or_default().to_owned();
        let taken = match frame {
            Frame::Ack { payload, .. } if payload["ok"] == false => {
                self.fail(format!("refused: {}", payload["error"]));
                Ok(())
            }
            Frame::Ack { id, payload } if id == self.join_ack => {
                if self.seat.turn {
                    match turn_server(&payload) {
                        Some((server, login)) => self.turn = Some((TurnClient::new(login, now), server)),
                        None => self.fail("the server names no TURN server over UDP".to_owned()),
                    }
                }
                self.bot.offer(now)
            }
            Frame::Event { name, payload } if name == "offer" => self.bot.handle_offer(&sdp(&payload, "offer"), now),
            Frame::Event { name, payload } if name == "answer" => self.bot.handle_answer(&sdp(&payload, "answer"), now),
            Frame::Event { name, payload } if name == "session-error" => {
                self.fail(format!("session-error {payload}"));
                Ok(())
            }
            _ => Ok(()),
        };
        if let Err(error) = taken {
            self.fail(format!("negotiation: {error}"));
        }
        self.bot.tick(now);
        Ok(())
    }

    fn fail(&mut self, failure: String) {
        if self.report.failures.len() < FAILURES_MAX {
            self.report.failures.push(failure);
        }
    }

    async fn finish(mut self) -> Outcome {
        if self.report.join_ms.is_none() {
            self.fail("never connected".to_owned());
        }
        let sent: Vec<(u64, u64)> = self.bot.sent().collect();
        self.report.sent = sent.iter().map(|(_, sent)| sent).sum();
        // The server may have closed already, and then there is nobody to tell.
        let _ = self.client.emit("leave-session", json!({ "sessionId": self.seat.session })).await;
        self.client.close().await;
        Outcome { index: self.seat.index, report: self.report, sent, tallies: self.tallies }
    }
}

/// The first TURN server over UDP that a join's ack names by address.
pub(crate) fn turn_server(ack: &Value) -> Option<(SocketAddr, Login)> {
    ack["iceServers"].as_array()?.iter().find_map(|server| {
        let login = Login {
            username: server["username"].as_str()?.to_owned(),
            password: server["credential"].as_str()?.to_owned(),
        };
        let urls = server["urls"].as_array()?.iter().filter_map(Value::as_str);
        let mut addresses = urls.filter_map(|url| {
            let (address, transport) = url.strip_prefix("turn:")?.split_once('?')?;
            (transport == "transport=udp").then(|| address.parse().ok())?
        });
        Some((addresses.next()?, login))
    })
}

fn source(kind: Kind) -> &'static str {
    match kind {
        Kind::Audio => "microphone",
        Kind::Video => "camera",
    }
}

/// A socket on all addresses, and the address by which the server's host reaches it.
async fn bind(url: &str) -> io::Result<(UdpSocket, SocketAddr)> {
    let authority = url.trim_start_matches("http://").trim_end_matches('/');
    let probe = UdpSocket::bind("0.0.0.0:0").await?;
    probe.connect(authority).await?;
    let ip: IpAddr = probe.local_addr()?.ip();
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    // The kernel gives what it allows; less than asked shows up as loss, which is reported.
    let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES);
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddr::from(([0, 0, 0, 0], 0)).into())?;
    let socket = UdpSocket::from_std(socket.into())?;
    let local = SocketAddr::new(ip, socket.local_addr()?.port());
    Ok((socket, local))
}
