//! A run second by second: for the line of progress, and for plots.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::sync::watch;

use super::live::{LAYERS_MAX, Sums};
use super::tester::Cpu;
use super::{Phase, Shared};
use crate::metrics::{self, Samples};

const INTERVAL: Duration = Duration::from_secs(1);
/// Seconds kept: a day. Later ones are left out.
const SECONDS_MAX: usize = 86_400;

/// What happened within a second.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Second {
    /// Its end, s since the run began.
    pub at_s: f64,
    /// Whether all had joined and media is measured.
    pub measured: bool,
    /// People whose media has connected so far.
    pub joined: u64,
    /// RTP packets published.
    pub sent: u64,
    /// RTP packets that came.
    pub received: u64,
    /// Of those that should have, percent lost on the way down, repaired or not.
    pub loss_percent: f64,
    /// From publisher to subscriber, ms.
    pub delay_ms_p50: Option<f64>,
    /// See above.
    pub delay_ms_p95: Option<f64>,
    /// See above.
    pub delay_ms_p99: Option<f64>,
    /// Percent of the time that videos stood still.
    pub freeze_percent: f64,
    /// Pictures shown of each layer, the smallest first.
    pub layers: [u64; LAYERS_MAX],
    /// Cores that the tester took.
    pub tester_cores: f64,
    /// How late it sent, ms, at the 99th percentile.
    pub tester_late_ms: Option<f64>,
    /// Cores that the server took.
    pub server_cores: Option<f64>,
    /// Its resident memory, bytes.
    pub server_bytes: Option<f64>,
}

/// See the module.
pub struct Sampler {
    shared: Arc<Shared>,
    sums: Sums,
    lateness: super::live::Counted,
    cpu: Cpu,
    scraped: Option<(Instant, f64)>,
    seconds: Vec<Second>,
}

impl Sampler {
    /// Nothing has happened yet.
    pub fn new(shared: Arc<Shared>) -> Sampler {
        let lateness = shared.lateness.read();
        Sampler { shared, sums: Sums::default(), lateness, cpu: Cpu::read(), scraped: None, seconds: Vec::new() }
    }

    /// Until the run is over.
    pub async fn run(mut self, mut phase: watch::Receiver<Phase>) -> Vec<Second> {
        let mut beat = tokio::time::interval_at((Instant::now() + INTERVAL).into(), INTERVAL);
        loop {
            tokio::select! {
                _ = beat.tick() => {}
                changed = phase.changed() => {
                    if changed.is_err() || *phase.borrow_and_update() >= Phase::Draining {
                        return self.seconds;
                    }
                    continue;
                }
            }
            let measured = *phase.borrow() == Phase::Media;
            let second = self.second(measured).await;
            if self.shared.options.progress {
                eprintln!("{}", self.line(&second));
            }
            if self.seconds.len() < SECONDS_MAX {
                self.seconds.push(second);
            }
        }
    }

    async fn second(&mut self, measured: bool) -> Second {
        let page = match &self.shared.options.metrics {
            Some(url) => metrics::scrape(url, &self.shared.options.trust).await.ok(),
            None => None,
        };
        let (server_cores, server_bytes) = self.server(page);
        let sums = self.shared.sums();
        let lateness = self.shared.lateness.read();
        let cpu = Cpu::read();
        let old = std::mem::replace(&mut self.sums, sums.clone());
        let delay = sums.delay.since(&old.delay);
        let ms = |part| delay.quantile(part).map(|us| us / 1e3);
        // What was repaired meanwhile may make it smaller than it was.
        let (lost, received) = (sums.lost.saturating_sub(old.lost), sums.received - old.received);
        let watched = (sums.watched - old.watched).as_secs_f64();
        let second = Second {
            at_s: self.shared.began.elapsed().as_secs_f64(),
            measured,
            joined: sums.joined,
            sent: sums.sent - old.sent,
            received,
            loss_percent: 100.0 * lost as f64 / (received + lost).max(1) as f64,
            delay_ms_p50: ms(0.5),
            delay_ms_p95: ms(0.95),
            delay_ms_p99: ms(0.99),
            freeze_percent: 100.0 * (sums.frozen - old.frozen).as_secs_f64() / watched.max(1e-9),
            layers: std::array::from_fn(|layer| sums.layers[layer] - old.layers[layer]),
            tester_cores: cpu.since(&self.cpu).0,
            tester_late_ms: lateness.since(&self.lateness).quantile(0.99).map(|us| us / 1e3),
            server_cores,
            server_bytes,
        };
        (self.lateness, self.cpu) = (lateness, cpu);
        second
    }

    fn server(&mut self, page: Option<Samples>) -> (Option<f64>, Option<f64>) {
        let Some(page) = page else { return (None, None) };
        let value = |names: [&str; 2]| names.iter().find_map(|name| page.value(name));
        let now = Instant::now();
        let cpu = value(["process_cpu_seconds_total", "lyceum_process_cpu_seconds_total"]);
        let before = std::mem::replace(&mut self.scraped, cpu.map(|cpu| (now, cpu)));
        let cores = cpu.zip(before).map(|(cpu, (at, old))| (cpu - old) / (now - at).as_secs_f64().max(1e-3));
        (cores, value(["process_resident_bytes", "lyceum_process_resident_bytes"]))
    }

    fn line(&self, second: &Second) -> String {
        let people = self.shared.options.people();
        let ms = |value: Option<f64>| value.map_or("–".to_owned(), |value| format!("{value:.1} ms"));
        let server = second.server_cores.map(|cores| format!("  server {cores:.2} cores")).unwrap_or_default();
        format!(
            "{:>4.0} s  joined {}/{people}  sent {}/s  received {}/s  loss {:.2} %  delay p95 {}  frozen {:.1} %{server}  tester {:.2} cores",
            second.at_s,
            second.joined,
            second.sent,
            second.received,
            second.loss_percent,
            ms(second.delay_ms_p95),
            second.freeze_percent,
            second.tester_cores,
        )
    }
}
