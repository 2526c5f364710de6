//! What a run of bots found, as a table and as JSON.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::Serialize;

/// What one bot saw.
#[derive(Clone, Debug, Default, Serialize)]
pub struct BotReport {
    /// Its name.
    pub name: String,
    /// From the first byte to ICE and DTLS being up, ms.
    pub join_ms: Option<f64>,
    /// RTP packets published, first sends only.
    pub sent: u64,
    /// Streams that it should have received.
    pub streams_expected: u64,
    /// Streams from which it received anything.
    pub streams_received: u64,
    /// Packets received, each counted once.
    pub received: u64,
    /// Packets that should have come since each stream's first.
    pub expected: u64,
    /// Packets that came more than once.
    pub duplicates: u64,
    /// RTP payload bytes received, each packet counted once: what a decoder would get.
    pub payload_bytes: u64,
    /// What went wrong, in sentences.
    pub failures: Vec<String>,
}

/// What the server said about itself over the time between the last join and the end.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ServerReport {
    /// CPU seconds, user and system.
    pub cpu_seconds: Option<f64>,
    /// RTP packets forwarded, first sends only.
    pub forwarded: Option<f64>,
    /// `cpu_seconds` per forwarded packet, µs.
    pub cpu_us_per_packet: Option<f64>,
    /// Growth of every `lyceum_…_total`.
    pub counters: BTreeMap<String, f64>,
    /// How many runs, each of which is one send, had how many datagrams: up to the first, and more than the entry before.
    pub runs: Vec<(String, f64)>,
    /// How long audio and video were in the server, from the arrival of a run's oldest packet on: 99 of 100 runs at most so many ms
    /// (the upper bound of their class).
    pub forward_ms_p99: BTreeMap<String, f64>,
    /// Why there is nothing here.
    pub failure: Option<String>,
}

impl ServerReport {
    /// Runs by their length, in words; `None` when there were none.
    pub fn runs_in_words(&self) -> Option<String> {
        let all: f64 = self.runs.iter().map(|(_, count)| count).sum();
        let mut least = 1.0;
        let mut words = Vec::new();
        for (most, count) in &self.runs {
            let range = match most.parse::<f64>() {
                Ok(most) if most == least => format!("{most:.0}"),
                Ok(most) if most.is_finite() => format!("{least:.0}–{most:.0}"),
                _ => format!("{least:.0} and more"),
            };
            least = most.parse::<f64>().unwrap_or(f64::INFINITY) + 1.0;
            if *count > 0.0 {
                words.push(format!("{range}: {:.1} %", 100.0 * count / all));
            }
        }
        (all > 0.0).then(|| words.join(", "))
    }
}

/// The bound below which 99 of 100 lie, of classes in ascending order; `None` when there is nothing in them.
pub(crate) fn p99(classes: &[(String, f64)]) -> Option<f64> {
    let all: f64 = classes.iter().map(|(_, count)| count).sum();
    let mut below = 0.0;
    let bound = classes.iter().find(|(_, count)| {
        below += count;
        below >= 0.99 * all
    });
    bound.filter(|_| all > 0.0).map(|(le, _)| le.parse().unwrap_or(f64::INFINITY))
}

/// What a run found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Bots asked for.
    pub participants: usize,
    /// Bots that joined.
    pub joined: usize,
    /// Median join time, ms.
    pub join_ms_p50: Option<f64>,
    /// 95th percentile of the join time, ms.
    pub join_ms_p95: Option<f64>,
    /// RTP packets published.
    pub sent: u64,
    /// RTP packets received, each counted once.
    pub received: u64,
    /// RTP packets that should have been received.
    pub expected: u64,
    /// Percentage of `expected` that never came.
    pub loss_percent: f64,
    /// RTP payload bytes received.
    pub payload_bytes: u64,
    /// Datagrams that went through TURN while media ran, both ways.
    pub relayed: u64,
    /// How long media ran.
    pub duration_s: f64,
    /// The server's side, if it was asked.
    pub server: Option<ServerReport>,
    /// The bots, one by one.
    pub bots: Vec<BotReport>,
}

impl Report {
    /// Sums up bots.
    pub fn new(bots: Vec<BotReport>, duration: Duration, server: Option<ServerReport>) -> Report {
        let mut joins: Vec<f64> = bots.iter().filter_map(|bot| bot.join_ms).collect();
        joins.sort_by(f64::total_cmp);
        let sum = |field: fn(&BotReport) -> u64| bots.iter().map(field).sum::<u64>();
        let (received, expected) = (sum(|bot| bot.received), sum(|bot| bot.expected));
        Report {
            participants: bots.len(),
            joined: joins.len(),
            join_ms_p50: percentile(&joins, 0.50),
            join_ms_p95: percentile(&joins, 0.95),
            sent: sum(|bot| bot.sent),
            received,
            expected,
            loss_percent: 100.0 * (expected - received) as f64 / (expected.max(1)) as f64,
            payload_bytes: sum(|bot| bot.payload_bytes),
            relayed: 0,
            duration_s: duration.as_secs_f64(),
            server,
            bots,
        }
    }

    /// Whether every bot joined and received from everyone that it should, and the server answered if it was asked.
    pub fn passed(&self) -> bool {
        self.bots.iter().all(|bot| bot.failures.is_empty())
            && self.server.as_ref().is_none_or(|server| server.failure.is_none())
    }
}

/// The value below which `part` of the sorted values lie (nearest rank).
fn percentile(sorted: &[f64], part: f64) -> Option<f64> {
    let rank = (part * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.max(1) - 1).copied()
}

struct Number(Option<f64>, &'static str);

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(value) => write!(f, "{value:.1} {}", self.1),
            None => f.write_str("–"),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let streams = |field: fn(&BotReport) -> u64| self.bots.iter().map(field).sum::<u64>();
        writeln!(f, "joined              {} of {}", self.joined, self.participants)?;
        let (p50, p95) = (Number(self.join_ms_p50, "ms"), Number(self.join_ms_p95, "ms"));
        writeln!(f, "join time           p50 {p50}, p95 {p95}")?;
        let (got, want) = (streams(|bot| bot.streams_received), streams(|bot| bot.streams_expected));
        writeln!(f, "streams received    {got} of {want}")?;
        writeln!(f, "packets sent        {}", self.sent)?;
        writeln!(f, "packets received    {} of {} expected", self.received, self.expected)?;
        writeln!(f, "loss                {:.3} %", self.loss_percent)?;
        let rate = self.payload_bytes as f64 * 8e-6 / self.duration_s.max(1e-9);
        writeln!(f, "RTP payload         {} bytes ({rate:.1} Mbit/s)", self.payload_bytes)?;
        if self.relayed > 0 {
            writeln!(f, "through TURN        {} datagrams", self.relayed)?;
        }
        if let Some(server) = &self.server {
            writeln!(f, "server CPU          {}", Number(server.cpu_seconds, "s"))?;
            writeln!(f, "server forwarded    {}", Number(server.forwarded, "packets"))?;
            writeln!(f, "server CPU/packet   {}", Number(server.cpu_us_per_packet, "µs"))?;
            if let Some(runs) = server.runs_in_words() {
                writeln!(f, "datagrams a send     {runs}")?;
            }
            for (name, grown) in server.counters.iter().filter(|(_, grown)| **grown != 0.0) {
                writeln!(f, "  {name:<44} {grown:.0}")?;
            }
            if let Some(failure) = &server.failure {
                writeln!(f, "FAILED metrics: {failure}")?;
            }
        }
        for bot in self.bots.iter().filter(|bot| !bot.failures.is_empty()) {
            writeln!(f, "FAILED {}: {}", bot.name, bot.failures.join("; "))?;
        }
        f.write_str(if self.passed() { "passed" } else { "FAILED" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_told_by_their_length() {
        let classes = |counts: &[(&str, f64)]| -> Vec<(String, f64)> {
            counts.iter().map(|(le, count)| ((*le).to_owned(), *count)).collect()
        };
        let runs = classes(&[("1", 1.0), ("3", 0.0), ("7", 2.0), ("+Inf", 1.0)]);
        assert_eq!(p99(&runs), Some(f64::INFINITY));
        let report = ServerReport { runs, ..Default::default() };
        assert_eq!(report.runs_in_words().as_deref(), Some("1: 25.0 %, 4–7: 50.0 %, 8 and more: 25.0 %"));
        assert_eq!(ServerReport::default().runs_in_words(), None);
        assert_eq!(p99(&classes(&[("0.001", 99.0), ("0.01", 1.0)])), Some(0.001));
        assert_eq!(p99(&classes(&[("0.001", 0.0)])), None);
    }

    #[test]
    fn percentiles_are_nearest_rank() {
        let values: Vec<f64> = (1..=20).map(f64::from).collect();
        assert_eq!(percentile(&values, 0.5), Some(10.0));
        assert_eq!(percentile(&values, 0.95), Some(19.0));
        assert_eq!(percentile(&[], 0.5), None);
    }

    #[test]
    fn a_failure_anywhere_fails_the_run() {
        let good = BotReport { join_ms: Some(5.0), received: 9, expected: 10, ..Default::default() };
        let bad = BotReport { failures: vec!["never connected".into()], ..good.clone() };
        let report = Report::new(vec![good.clone()], Duration::from_secs(1), None);
        assert!(report.passed());
        assert_eq!(report.loss_percent, 10.0);
        assert!(!Report::new(vec![good, bad], Duration::from_secs(1), None).passed());
    }
}
