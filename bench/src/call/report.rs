//! What a run of `call` found: a table for people, JSON for machines, and named figures for assertions.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::time::Duration;

use serde::Serialize;

use super::Shared;
use super::assertion::Checked;
use super::live::{Counted, Sums};
use super::outcome::{JoinTimes, Outcome};
use super::seconds::Second;
use super::stamp::Track;
use super::target::Process;
use super::tester::{Cpu, Tester};
use super::verify::Verdict;
use crate::bots::{VIDEOS_MAX, server_report};
use crate::metrics::Samples;
use crate::report::ServerReport;

/// In rooms of more audio tracks than this only the loudest are forwarded (docs/protocol.md, Large rooms).
const AUDIOS_MAX: usize = 12;
/// Failures that the table shows; JSON has all.
const FAILURES_SHOWN: usize = 20;

/// Some values, ms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Spread {
    /// How many.
    pub count: usize,
    /// Median.
    pub p50: Option<f64>,
    /// 95th percentile.
    pub p95: Option<f64>,
    /// 99th percentile.
    pub p99: Option<f64>,
    /// Largest.
    pub max: Option<f64>,
}

impl Spread {
    /// Of values, by nearest rank.
    pub fn of(values: impl Iterator<Item = f64>) -> Spread {
        let mut sorted: Vec<f64> = values.collect();
        sorted.sort_by(f64::total_cmp);
        let at = |part: f64| sorted.get(((part * sorted.len() as f64).ceil() as usize).max(1) - 1).copied();
        Spread { count: sorted.len(), p50: at(0.5), p95: at(0.95), p99: at(0.99), max: sorted.last().copied() }
    }

    fn of_counted(counted: &Counted) -> Spread {
        let ms = |part| counted.quantile(part).map(|us| us / 1e3);
        Spread { count: 0, p50: ms(0.5), p95: ms(0.95), p99: ms(0.99), max: ms(1.0) }
    }
}

/// Join times, each step since the join began.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Joins {
    /// See [`JoinTimes`], here and below.
    pub socket: Spread,
    /// See [`JoinTimes`].
    pub ack: Spread,
    /// See [`JoinTimes`].
    pub ice: Spread,
    /// See [`JoinTimes`].
    pub dtls: Spread,
    /// See [`JoinTimes`].
    pub first_audio: Spread,
    /// See [`JoinTimes`].
    pub first_frame: Spread,
}

/// What came of media in one room, or in all.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Media {
    /// People whose media connected.
    pub joined: u64,
    /// RTP packets published while media was measured.
    pub sent: u64,
    /// RTP packets that came.
    pub received: u64,
    /// Of those that should have come, percent that the network lost on the way down, repaired or not.
    pub loss_percent: f64,
    /// Percent that never came.
    pub unrepaired_percent: f64,
    /// Percent of what was published that the server asked for again.
    pub uplink_loss_percent: f64,
    /// From publisher to subscriber.
    pub delay_ms: Spread,
    /// Percent of the time that videos stood still.
    pub freeze_percent: Option<f64>,
    /// How often.
    pub freezes: u64,
    /// Percent of the time that videos were paused since a link was too narrow, as the server announced.
    pub paused_percent: Option<f64>,
}

impl Media {
    fn new(sums: &Sums) -> Media {
        Media {
            joined: sums.joined,
            sent: sums.sent,
            received: sums.received,
            loss_percent: sums.loss_percent(),
            unrepaired_percent: sums.unrepaired_percent(),
            uplink_loss_percent: sums.uplink_loss_percent(),
            delay_ms: Spread::of_counted(&sums.delay),
            freeze_percent: sums.freeze_percent(),
            freezes: sums.freezes,
            paused_percent: sums.paused_percent(),
        }
    }
}

/// What a run found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Where all choices came from.
    pub seed: u64,
    /// Rooms.
    pub rooms: usize,
    /// Everybody.
    pub people: usize,
    /// How long media was measured, s.
    pub duration_s: f64,
    /// Join times.
    pub join_ms: Joins,
    /// All rooms together.
    pub media: Media,
    /// Streams that somebody should have had, and how many of them did not come.
    pub streams_expected: u64,
    /// See above.
    pub streams_missing: u64,
    /// From a cut connection to the resumed seat.
    pub reconnect_ms: Spread,
    /// From blocked UDP to an answered check over TCP.
    pub switch_ms: Spread,
    /// Room by room.
    pub by_room: Vec<Media>,
    /// Second by second.
    pub seconds: Vec<Second>,
    /// Whether the tester kept up.
    pub tester: Tester,
    /// What the server says of itself.
    pub server: Option<ServerReport>,
    /// What the server's process took.
    pub process: Option<Process>,
    /// What attendance says, held against the truth.
    pub attendance: Option<Verdict>,
    /// What was asserted.
    pub assertions: Vec<Checked>,
    /// What went wrong, in sentences.
    pub failures: Vec<String>,
    /// What people really did.
    #[serde(skip)]
    pub stays: Vec<super::truth::Stay>,
}

/// What the server says of the time between two scrapes.
pub(super) fn server(before: io::Result<Samples>, after: io::Result<Samples>) -> ServerReport {
    server_report(before, after)
}

/// What the run measured of itself while media ran.
pub(super) struct Measured {
    /// All rooms before media began, and room by room.
    pub(super) before: (Vec<Sums>, Counted, Cpu),
    /// The tester's CPU time at the end.
    pub(super) cpu: Cpu,
    /// How long it was.
    pub(super) lasted: Duration,
}

impl Report {
    /// Sums up.
    pub(super) fn new(
        shared: &Shared,
        outcomes: Vec<Outcome>,
        seconds: Vec<Second>,
        server: Option<ServerReport>,
        measured: Measured,
    ) -> Report {
        let (rooms_before, late_before, cpu_before) = &measured.before;
        let rooms: Vec<Sums> =
            shared.rooms.iter().zip(rooms_before).map(|(room, before)| room.read().since(before)).collect();
        let mut all = Sums::default();
        rooms.iter().for_each(|room| all.add(room));
        let of = |time: fn(&JoinTimes) -> Option<f64>| Spread::of(outcomes.iter().filter_map(|it| time(&it.times)));
        let skipped = outcomes.iter().map(|outcome| outcome.skipped).sum();
        let lateness = shared.lateness.read().since(late_before);
        let (streams_expected, streams_missing) = streams(&outcomes);
        let mut failures: Vec<String> = outcomes
            .iter()
            .flat_map(|outcome| outcome.failures.iter().map(move |failure| format!("{}: {failure}", outcome.user)))
            .collect();
        if streams_missing > 0 {
            failures.push(format!("{streams_missing} of {streams_expected} streams never came"));
        }
        failures.extend(server.as_ref().and_then(|server| Some(format!("metrics: {}", server.failure.as_ref()?))));
        Report {
            seed: shared.options.seed,
            rooms: shared.options.rooms,
            people: shared.options.people(),
            duration_s: measured.lasted.as_secs_f64(),
            join_ms: Joins {
                socket: of(|times| times.socket),
                ack: of(|times| times.ack),
                ice: of(|times| times.ice),
                dtls: of(|times| times.dtls),
                first_audio: of(|times| times.first_audio),
                first_frame: of(|times| times.first_frame),
            },
            media: Media::new(&all),
            streams_expected,
            streams_missing,
            reconnect_ms: Spread::of(outcomes.iter().flat_map(|it| it.reconnects.iter().copied())),
            switch_ms: Spread::of(outcomes.iter().flat_map(|it| it.switches.iter().copied())),
            by_room: rooms.iter().map(Media::new).collect(),
            seconds,
            tester: Tester::new(&lateness, skipped, cpu_before, &measured.cpu),
            server,
            process: None,
            attendance: None,
            assertions: Vec::new(),
            failures,
            stays: outcomes.into_iter().flat_map(|outcome| outcome.stays).collect(),
        }
    }

    /// Whether all went as it should.
    pub fn passed(&self) -> bool {
        self.failures.is_empty()
            && self.assertions.iter().all(|checked| checked.passed)
            && self.attendance.as_ref().is_none_or(Verdict::passed)
    }
}

/// Streams that people should have had of others in their room, and how many did not come to them.
fn streams(outcomes: &[Outcome]) -> (u64, u64) {
    let mut published: BTreeMap<usize, Vec<(u32, Track)>> = BTreeMap::new();
    for outcome in outcomes {
        let own = outcome.published.iter().map(|track| (outcome.number, *track));
        published.entry(outcome.room).or_default().extend(own);
    }
    let (mut expected, mut missing) = (0, 0);
    for outcome in outcomes.iter().filter(|outcome| outcome.times.dtls.is_some()) {
        let Some(room) = published.get(&outcome.room) else { continue };
        let others = room.iter().filter(|(number, _)| *number != outcome.number);
        let (audio, video): (Vec<_>, Vec<_>) = others.partition(|(_, track)| *track == Track::Audio);
        let all_audio = room.iter().filter(|(_, track)| *track == Track::Audio).count() <= AUDIOS_MAX;
        let heard = |wanted: &[&(u32, Track)]| wanted.iter().filter(|it| outcome.heard.contains(it)).count();
        let audios = if all_audio { audio.len() } else { 1 };
        let videos = video.len().min(VIDEOS_MAX);
        expected += (audios + videos) as u64;
        missing += (audios.saturating_sub(heard(&audio)) + videos.saturating_sub(heard(&video))) as u64;
    }
    (expected, missing)
}

struct Line<'a>(&'a Spread);

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |value: Option<f64>| value.map_or("–".to_owned(), |value| format!("{value:.1}"));
        let Spread { p50, p95, p99, max, .. } = self.0;
        write!(f, "{:>9} {:>9} {:>9} {:>9}", ms(*p50), ms(*p95), ms(*p99), ms(*max))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { media, join_ms, .. } = self;
        writeln!(
            f,
            "{} of {} joined, rooms: {}; {:.0} s of media, seed {}",
            media.joined, self.people, self.rooms, self.duration_s, self.seed
        )?;
        writeln!(f, "{:<22} {:>9} {:>9} {:>9} {:>9}", "ms", "p50", "p95", "p99", "max")?;
        for (name, spread) in [
            ("socket", &join_ms.socket),
            ("join acknowledged", &join_ms.ack),
            ("ICE", &join_ms.ice),
            ("DTLS: joined", &join_ms.dtls),
            ("first audio", &join_ms.first_audio),
            ("first picture", &join_ms.first_frame),
            ("one-way delay", &media.delay_ms),
            ("reconnect", &self.reconnect_ms),
            ("UDP to TCP", &self.switch_ms),
        ] {
            if spread.p50.is_some() {
                writeln!(f, "{name:<22} {}", Line(spread))?;
            }
        }
        writeln!(f, "packets                {} published, {} received", media.sent, media.received)?;
        writeln!(
            f,
            "loss                   {:.3} % down ({:.3} % never came), {:.3} % up",
            media.loss_percent, media.unrepaired_percent, media.uplink_loss_percent
        )?;
        if let Some(freeze) = media.freeze_percent {
            writeln!(f, "frozen                 {freeze:.2} % of the time, {} freezes", media.freezes)?;
        }
        if let Some(paused) = media.paused_percent {
            writeln!(f, "paused                 {paused:.2} % of the time, for want of bandwidth")?;
        }
        writeln!(
            f,
            "streams                {} of {} came",
            self.streams_expected - self.streams_missing,
            self.streams_expected
        )?;
        if let Some(server) = &self.server {
            let us = server.cpu_us_per_packet.map(|us| format!(", {us:.2} µs a forwarded packet")).unwrap_or_default();
            writeln!(f, "server                 {:.2} s of CPU{us}", server.cpu_seconds.unwrap_or(0.0))?;
        }
        if let Some(runs) = self.server.as_ref().and_then(ServerReport::runs_in_words) {
            writeln!(f, "datagrams a send       {runs}")?;
        }
        for (kind, ms) in self.server.iter().flat_map(|server| &server.forward_ms_p99) {
            writeln!(f, "{:<22} p99 up to {ms} ms", format!("{kind} in the server"))?;
        }
        if let Some(process) = &self.process {
            let us = process.cpu_us_per_packet.map(|us| format!(", {us:.2} µs for each that came")).unwrap_or_default();
            let (cpu, memory) = (process.cpu_seconds, process.memory_kib_per_person);
            writeln!(f, "its process            {cpu:.2} s of CPU{us}; {memory:.0} KiB a person")?;
        }
        writeln!(f, "tester                 {}", self.tester)?;
        if let Some(verdict) = &self.attendance {
            writeln!(f, "attendance             {verdict}")?;
        }
        for failure in self.failures.iter().take(FAILURES_SHOWN) {
            writeln!(f, "FAILED {failure}")?;
        }
        if self.failures.len() > FAILURES_SHOWN {
            writeln!(f, "FAILED … and {} more", self.failures.len() - FAILURES_SHOWN)?;
        }
        self.assertions.iter().try_for_each(|checked| writeln!(f, "{checked}"))?;
        f.write_str(if self.passed() { "passed" } else { "FAILED" })
    }
}
