//! Whether the tester itself could keep up: how late it was with what it had to send, and how much of the machine it took. A run in
//! which it was the bottleneck says nothing of the server.

use std::fmt;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::live::Counted;

/// Frames later than this at the 99th percentile make delays and losses the tester's own.
const LATE_MS_MAX: f64 = 20.0;
/// With more of all cores than this taken by the tester, it is near its end.
const SHARE_MAX: f64 = 0.85;
/// With more of the machine than this busy, tester and server wait for each other.
const BUSY_MAX: f64 = 0.97;
/// Clock ticks of `/proc` a second, as Linux has them on all platforms that we run on.
const TICKS: f64 = 100.0;

/// CPU time as the kernel counts it, at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Cpu {
    at: Instant,
    /// Of this process, seconds.
    own: f64,
    /// Of all, busy and in all, seconds.
    machine: Option<(f64, f64)>,
}

impl Cpu {
    /// Reads it; without `/proc` everything is nothing.
    pub fn read() -> Cpu {
        let own = seconds_of("self").unwrap_or(0.0);
        let machine = std::fs::read_to_string("/proc/stat").ok().and_then(|stat| machine_seconds(&stat));
        Cpu { at: Instant::now(), own, machine }
    }

    /// Cores that this process took since `before`, and the part of the machine that was busy.
    pub fn since(&self, before: &Cpu) -> (f64, Option<f64>) {
        let elapsed = (self.at - before.at).max(Duration::from_millis(1)).as_secs_f64();
        let machine = self.machine.zip(before.machine).map(|(now, then)| (now.0 - then.0) / (now.1 - then.1).max(1e-3));
        ((self.own - before.own) / elapsed, machine)
    }
}

/// CPU time of a process, user and system, s, by its number in `/proc`.
pub fn seconds_of(process: &str) -> Option<f64> {
    own_seconds(&std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?)
}

/// User and system time: the 14th and 15th field, counted behind the name, which may hold anything.
fn own_seconds(stat: &str) -> Option<f64> {
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |at: usize| fields.get(at)?.parse::<f64>().ok();
    Some((ticks(11)? + ticks(12)?) / TICKS)
}

/// All but idle and waiting for disks, and all.
fn machine_seconds(stat: &str) -> Option<(f64, f64)> {
    let line = stat.lines().next()?.strip_prefix("cpu ")?;
    let ticks: Vec<f64> = line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let all: f64 = ticks.iter().take(8).sum();
    let idle = ticks.get(3)? + ticks.get(4)?;
    Some(((all - idle) / TICKS, all / TICKS))
}

/// What it found of itself while media ran.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Tester {
    /// How late frames were sent, ms, at the 50th and 99th percentile.
    pub late_ms_p50: Option<f64>,
    /// See above.
    pub late_ms_p99: Option<f64>,
    /// Frames that were left out since they were far too late.
    pub skipped: u64,
    /// Cores that it took.
    pub cores_used: f64,
    /// Cores that there are.
    pub cores: usize,
    /// Part of the machine that was busy, percent; the server's share is in it if it runs here.
    pub machine_busy_percent: Option<f64>,
    /// Why figures are not the server's, in sentences. Empty is good.
    pub limits: Vec<String>,
}

impl Tester {
    /// Judges a run.
    pub fn new(lateness: &Counted, skipped: u64, from: &Cpu, to: &Cpu) -> Tester {
        let (cores_used, busy) = to.since(from);
        let late = |part| lateness.quantile(part).map(|us| us / 1e3);
        let mut tester = Tester {
            late_ms_p50: late(0.5),
            late_ms_p99: late(0.99),
            skipped,
            cores_used,
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            machine_busy_percent: busy.map(|busy| 100.0 * busy),
            limits: Vec::new(),
        };
        tester.judge();
        tester
    }

    fn judge(&mut self) {
        let mut limits = Vec::new();
        if let Some(late) = self.late_ms_p99.filter(|late| *late > LATE_MS_MAX) {
            limits.push(format!("it sent one frame in a hundred more than {late:.0} ms late"));
        }
        if self.skipped > 0 {
            limits.push(format!("it left out {} frames for which it was too late", self.skipped));
        }
        if self.cores_used > SHARE_MAX * self.cores as f64 {
            limits.push(format!("it took {:.1} of {} cores", self.cores_used, self.cores));
        }
        if let Some(busy) = self.machine_busy_percent.filter(|busy| *busy > 100.0 * BUSY_MAX) {
            limits.push(format!("its machine was {busy:.0} % busy"));
        }
        self.limits = limits;
    }
}

impl fmt::Display for Tester {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Tester { late_ms_p99, cores_used, cores, machine_busy_percent, limits, .. } = self;
        write!(f, "sent up to {:.1} ms late (p99), {cores_used:.2} of {cores} cores", late_ms_p99.unwrap_or(0.0))?;
        if let Some(busy) = machine_busy_percent {
            write!(f, ", machine {busy:.0} % busy")?;
        }
        if limits.is_empty() {
            write!(f, ": it kept up")
        } else {
            write!(f, "\nTHE TESTER IS THE BOTTLENECK: {}", limits.join("; "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_counters_are_read() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4 9 0 0 0 150 50 0 0 20 0 9 0 1 2";
        assert_eq!(own_seconds(stat), Some(2.0));
        assert_eq!(machine_seconds("cpu  100 0 100 700 100 0 0 0 0 0\ncpu0 1"), Some((2.0, 10.0)));
        assert_eq!((own_seconds("x"), machine_seconds("")), (None, None));
    }

    #[test]
    fn a_tester_that_does_not_keep_up_says_so() {
        let good = Tester {
            late_ms_p99: Some(3.0),
            cores_used: 1.0,
            cores: 2,
            machine_busy_percent: Some(80.0),
            ..Default::default()
        };
        let judged = |change: fn(&mut Tester)| {
            let mut tester = good.clone();
            change(&mut tester);
            tester.judge();
            tester.limits.len()
        };
        assert_eq!(judged(|_| {}), 0);
        assert_eq!(judged(|it| it.late_ms_p99 = Some(50.0)), 1);
        assert_eq!(judged(|it| it.skipped = 1), 1);
        assert_eq!(judged(|it| (it.cores_used, it.machine_busy_percent) = (1.9, Some(99.0))), 2);
    }
}
