//! Whom people call: this server, or another that is held beside it; and what the kernel says of its process.

use std::collections::BTreeMap;
use std::str::FromStr;

use serde::Serialize;

use super::tester::seconds_of;
use crate::turn::process::resident;

/// Whom people call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Target {
    /// This server.
    #[default]
    Lyceum,
    /// A Janus with its VideoRoom, by its WebSocket API.
    Janus,
}

impl FromStr for Target {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        let names = BTreeMap::from([("lyceum", Target::Lyceum), ("janus", Target::Janus)]);
        names.get(word).copied().ok_or_else(|| "expected lyceum or janus".to_owned())
    }
}

/// A server's process at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Moment {
    /// CPU time, user and system, s.
    cpu_s: f64,
    /// Memory that it has touched, bytes.
    resident: u64,
}

impl Moment {
    /// Reads it; `None` when there is no such process, or no `/proc`.
    pub fn read(pid: u32) -> Option<Moment> {
        Some(Moment { cpu_s: seconds_of(&pid.to_string())?, resident: resident(pid).ok()? })
    }
}

/// What a server's process took while media ran.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Process {
    /// CPU time, user and system, s.
    pub cpu_seconds: f64,
    /// Of this, for each RTP packet that came to somebody, µs.
    pub cpu_us_per_packet: Option<f64>,
    /// Memory that it had touched more at the end than before anybody came, for each person, KiB.
    pub memory_kib_per_person: f64,
}

impl Process {
    /// From three moments: before anybody came, when media began, and when it ended.
    pub fn new([before, began, ended]: [Moment; 3], received: u64, people: usize) -> Process {
        let cpu_seconds = ended.cpu_s - began.cpu_s;
        let bytes = ended.resident.saturating_sub(before.resident) as f64;
        Process {
            cpu_seconds,
            cpu_us_per_packet: (received > 0).then(|| cpu_seconds * 1e6 / received as f64),
            memory_kib_per_person: bytes / 1024.0 / people.max(1) as f64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_read_and_a_process_is_counted() {
        assert_eq!(("janus".parse(), "lyceum".parse()), (Ok(Target::Janus), Ok(Target::Lyceum)));
        assert!("other".parse::<Target>().is_err());
        let moment = |cpu_s, mib: u64| Moment { cpu_s, resident: mib << 20 };
        let process = Process::new([moment(1.0, 10), moment(2.0, 11), moment(4.0, 20)], 1_000_000, 10);
        assert_eq!(process, Process { cpu_seconds: 2.0, cpu_us_per_packet: Some(2.0), memory_kib_per_person: 1024.0 });
        assert!(Moment::read(std::process::id()).is_some_and(|moment| moment.resident > 0));
    }
}
