//! `lyceum doctor`: can calls work here? Facts are gathered (`gather`), then judged by functions that only look at them; each
//! finding that is not well says what mends it.

mod gather;
mod judge;
mod route;
mod standing;
mod turn;
mod web;

use std::fmt::Write as _;

use serde_json::json;

pub(crate) use self::gather::Wait;
pub(crate) use self::route::router;
pub(crate) use self::standing::{Known, Served, Standing};
pub(crate) use self::web::HOLD_MAX;
use crate::clock;
use crate::config::Settings;
use crate::error::Failure;

/// How well something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// As it should be.
    Well,
    /// Calls work, but not everywhere or not for long; or it cannot be told.
    Doubtful,
    /// Calls do not work, or what people were promised is in danger.
    Broken,
}

impl State {
    fn as_str(self) -> &'static str {
        match self {
            State::Well => "well",
            State::Doubtful => "doubtful",
            State::Broken => "broken",
        }
    }

    fn sign(self) -> char {
        match self {
            State::Well => '✓',
            State::Doubtful => '!',
            State::Broken => '✗',
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    /// What, in one word.
    pub(crate) about: &'static str,
    /// How it is.
    pub(crate) state: State,
    /// What was found.
    pub(crate) says: String,
    /// What to do, often a command; empty where nothing is to be done.
    pub(crate) mend: String,
}

impl Finding {
    fn well(about: &'static str, says: impl Into<String>) -> Self {
        Finding { about, state: State::Well, says: says.into(), mend: String::new() }
    }

    fn doubtful(about: &'static str, says: impl Into<String>, mend: impl Into<String>) -> Self {
        Finding { about, state: State::Doubtful, says: says.into(), mend: mend.into() }
    }

    fn broken(about: &'static str, says: impl Into<String>, mend: impl Into<String>) -> Self {
        Finding { about, state: State::Broken, says: says.into(), mend: mend.into() }
    }
}

/// Looks at everything. `Err` if something is broken; both are what is to be shown.
///
/// # Errors
/// If calls cannot work as things are.
pub(crate) async fn run(settings: &Settings, as_json: bool, wait: Option<&Wait>) -> Result<String, Failure> {
    let findings = judge::all(settings, &gather::all(settings, wait).await);
    let text = if as_json { to_json(&findings) } else { to_text(&findings) };
    let is_broken = findings.iter().any(|finding| finding.state == State::Broken);
    if is_broken { Err(Failure::Found(text)) } else { Ok(text) }
}

/// The wall clock, Unix s.
fn now_s() -> i64 {
    i64::try_from(clock::now().unix_ms / 1_000).unwrap_or(i64::MAX)
}

fn to_text(findings: &[Finding]) -> String {
    let mut text = String::new();
    for Finding { about, state, says, mend } in findings {
        let _ = writeln!(text, "{} {:<8} {about:<11} {says}", state.sign(), state.as_str());
        for line in mend.lines() {
            let _ = writeln!(text, "                       → {line}");
        }
    }
    let count = |wanted: State| findings.iter().filter(|finding| finding.state == wanted).count();
    let _ = match (count(State::Broken), count(State::Doubtful)) {
        (0, 0) => write!(text, "\nAll is well, as far as can be seen from here."),
        (0, doubtful) => write!(text, "\nCalls can work; {doubtful} to look at."),
        (broken, _) => write!(text, "\n{broken} broken: calls will not work as they should."),
    };
    text
}

fn to_json(findings: &[Finding]) -> String {
    format!("{:#}", json(findings))
}

fn json(findings: &[Finding]) -> serde_json::Value {
    findings
        .iter()
        .map(|Finding { about, state, says, mend }| {
            json!({ "about": about, "state": state.as_str(), "says": says, "mend": mend })
        })
        .collect()
}

#[cfg(test)]
mod tests;
