//! How a server that runs stands: what the machine alone shows and what the server knows of itself. It is on the readiness page,
//! and decides whether anybody is to be sent here.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::{Finding, State, gather, judge};
use crate::config::Settings;

/// How long what is broken of the machine is not looked at again: probes come every few seconds, and a look writes to the disk.
const AGAIN: Duration = Duration::from_secs(10);

/// What the server itself knows at this moment.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// The certificate, if there is to be one.
    pub(crate) certificate: Option<Served>,
    /// The database answers.
    pub(crate) has_database: bool,
    /// Facts can be written down; else nobody new gets in.
    pub(crate) is_recording: bool,
}

/// The certificate that handshakes get.
#[derive(Debug)]
pub(crate) struct Served {
    /// Its last second, Unix s; 0: there is none yet.
    pub(crate) ends_s: i64,
    /// The name that it is for.
    pub(crate) name: Option<String>,
    /// Why another one is not taken, or could not be had.
    pub(crate) trouble: Option<String>,
}

/// What is not well, as of one moment.
pub(crate) struct Stand {
    found: Vec<Finding>,
    /// Why nobody should be sent here, if so.
    pub(crate) unfit: Option<String>,
}

/// Looks at the machine when the server starts, and again while something there is broken.
#[derive(Clone)]
pub(crate) struct Standing(Arc<Inner>);

struct Inner {
    settings: Settings,
    offered: Vec<IpAddr>,
    machine: Mutex<Machine>,
}

/// What is not well of it.
#[derive(Clone)]
struct Machine {
    found: Vec<Finding>,
    looked: Instant,
}

impl Machine {
    fn look(settings: &Settings, offered: &[IpAddr]) -> Self {
        let facts = gather::local(settings, offered.to_vec());
        Machine { found: not_well(judge::machine(settings, &facts)), looked: Instant::now() }
    }
}

impl Standing {
    /// Looks at the machine: files are read and written.
    pub(crate) fn look(settings: &Settings, offered: &[IpAddr]) -> Self {
        let machine = Mutex::new(Machine::look(settings, offered));
        Standing(Arc::new(Inner { settings: settings.clone(), offered: offered.to_vec(), machine }))
    }

    /// Writes what is not well of the machine to the log.
    pub(crate) fn log(&self) {
        for Finding { about, state, says, mend } in self.0.machine().found {
            tracing::info!(about, state = state.as_str(), mend, "{says}");
        }
    }

    /// How it stands now, with what the server knows.
    pub(crate) async fn now(&self, known: &Known) -> Stand {
        let mut machine = self.0.machine();
        if machine.found.iter().any(|found| found.state == State::Broken) && machine.looked.elapsed() >= AGAIN {
            let inner = self.0.clone();
            // A disk may not answer; then what was found before stands.
            let again = tokio::task::spawn_blocking(move || Machine::look(&inner.settings, &inner.offered));
            if let Ok(Ok(again)) = tokio::time::timeout(AGAIN / 4, again).await {
                machine = again.clone();
                *self.0.machine.lock().unwrap_or_else(PoisonError::into_inner) = again;
            }
        }
        let mut found = machine.found;
        found.extend(not_well(judge::running(&self.0.settings, known, super::now_s())));
        let bar = found.iter().find(|found| judge::bars(&self.0.settings, found));
        let unfit = bar.map(|found| format!("{}: {}", found.about, found.says));
        Stand { found, unfit }
    }
}

impl Inner {
    fn machine(&self) -> Machine {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Stand {
    /// As the command `doctor --json` says it.
    pub(crate) fn json(&self) -> serde_json::Value {
        super::json(&self.found)
    }
}

fn not_well(findings: Vec<Finding>) -> Vec<Finding> {
    findings.into_iter().filter(|found| found.state != State::Well).collect()
}
