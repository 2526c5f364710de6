//! What goes wrong on purpose: `kill-socket@30s:10%,block-udp@60s:5%,leave@20s:10%,restart@90s`.

use std::str::FromStr;
use std::time::Duration;

use super::words::{parse_duration, parse_percent};

/// Whoever leaves comes back after this, unless the deed says otherwise.
const AWAY: Duration = Duration::from_secs(2);
const EXPECTED: &str = "expected kill-socket@TIME:SHARE, block-udp@TIME:SHARE, leave@TIME:SHARE[:AWAY] or restart@TIME, such as kill-socket@30s:10%";

/// What happens to a participant, or to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// Its signaling connection is cut without a word; it comes back to its seat at once.
    KillSocket,
    /// No UDP passes any more; it goes on by ICE-TCP, as browsers do.
    BlockUdp,
    /// It leaves, and joins anew.
    Leave {
        /// So much later.
        away: Duration,
    },
    /// The server ends and begins again, by the command that the tester was given; all come back.
    Restart,
}

/// A deed, when, and to how many.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Chaos {
    /// What happens.
    pub deed: Deed,
    /// Since media began.
    pub at: Duration,
    /// Part of all participants, 0–1; at least one.
    pub share: f64,
}

impl FromStr for Chaos {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || format!("{EXPECTED}, not {text:?}");
        let (name, rest) = text.trim().split_once('@').ok_or_else(expected)?;
        let mut words = rest.split(':');
        let at = parse_duration(words.next().unwrap_or_default())?;
        if name == "restart" && words.clone().next().is_none() {
            return Ok(Chaos { deed: Deed::Restart, at, share: 1.0 });
        }
        let share = parse_percent(words.next().ok_or_else(expected)?)?;
        let away = words.next().map(parse_duration).transpose()?;
        let deed = match name {
            "kill-socket" if away.is_none() => Deed::KillSocket,
            "block-udp" if away.is_none() => Deed::BlockUdp,
            "leave" => Deed::Leave { away: away.unwrap_or(AWAY) },
            _ => return Err(expected()),
        };
        if words.next().is_some() { Err(expected()) } else { Ok(Chaos { deed, at, share }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deeds_are_read_or_refused() {
        let chaos = |deed, at, share| Chaos { deed, at: Duration::from_secs(at), share };
        assert_eq!("kill-socket@30s:10%".parse(), Ok(chaos(Deed::KillSocket, 30, 0.1)));
        assert_eq!("block-udp@1m:5%".parse(), Ok(chaos(Deed::BlockUdp, 60, 0.05)));
        let away = Duration::from_secs(5);
        assert_eq!("leave@20s:100%:5s".parse(), Ok(chaos(Deed::Leave { away }, 20, 1.0)));
        assert_eq!("restart@90s".parse(), Ok(chaos(Deed::Restart, 90, 1.0)));
        for wrong in [
            "restart@9s:1%",
            "",
            "kill-socket",
            "kill-socket@30s",
            "kill-socket@30s:10",
            "burn@1s:1%",
            "leave@1s:1%:1s:1s",
        ] {
            assert!(wrong.parse::<Chaos>().is_err(), "{wrong}");
        }
    }
}
