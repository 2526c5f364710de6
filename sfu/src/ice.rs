//! ICE-lite (RFC 8445 §2.5): we answer the client's checks and learn its paths from them. The only checks of ours go to
//! addresses from which its media comes already (`roam.rs`).

use std::time::{Duration, Instant};

use rand::RngExt;
use rand::rngs::StdRng;

use crate::Path;
use crate::roam::{Asked, HEARD_LATELY};

/// Without a valid check for so long the client's consent has ended (RFC 7675 §5.1). An ICE-lite side sends none
/// for consent, so it counts from the client's.
pub(crate) const CONSENT_TIMEOUT: Duration = Duration::from_secs(30);
/// Without a valid check for so long the path is probably dead, and a restart is the client's way to another. It must come
/// before the client's own consent ends: Firefox sends no media after a restart that comes later. Lower takes two checks that
/// got lost for the end of a path.
pub(crate) const SILENCE_TIMEOUT: Duration = Duration::from_secs(12);
/// A path from which a peer sent a valid check so long ago or less is its own: another's check from there is dropped, so that
/// who can send under a stranger's address cannot stop its media. Clients check every 2.5 to 6 seconds (RFC 7675 §5.1), so two
/// may be lost. Higher makes whoever comes to the address of one who is gone wait for longer, lower makes loss a danger.
pub(crate) const PATH_OWNED: Duration = Duration::from_secs(15);
/// Paths remembered per peer. When full, the one that was checked longest ago goes.
pub(crate) const PATHS_MAX: usize = 8;

const UFRAG_LEN: usize = 8;
const PWD_LEN: usize = 24;

/// A username fragment and password (RFC 8445 §5.3): 48 and 144 random bits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Credentials {
    pub(crate) ufrag: String,
    pub(crate) pwd: String,
}

impl Credentials {
    pub(crate) fn random(rng: &mut StdRng) -> Self {
        Credentials { ufrag: ice_chars(rng, UFRAG_LEN), pwd: ice_chars(rng, PWD_LEN) }
    }
}

fn ice_chars(rng: &mut StdRng, len: usize) -> String {
    const CHARS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    (0..len).map(|_| char::from(CHARS[usize::from(rng.random::<u8>() & 63)])).collect()
}

/// One generation of checks: our credentials and, once the client's description came, its own.
#[derive(Clone, Debug)]
pub(crate) struct Generation {
    pub(crate) local: Credentials,
    /// Its ufrag and password.
    pub(crate) remote: Option<(String, String)>,
}

impl Generation {
    /// The client's ufrag.
    pub(crate) fn remote_ufrag(&self) -> Option<&str> {
        self.remote.as_ref().map(|(ufrag, _)| ufrag.as_str())
    }
}

/// What a valid check did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Checked {
    /// The path was not known before.
    pub(crate) new_path: bool,
    /// Media moved to this path.
    pub(crate) selected: bool,
    /// A path that had to go for it.
    pub(crate) evicted: Option<Path>,
}

/// What becomes of consent when no checks come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Consent {
    /// Checks come.
    Given,
    /// None came for [`SILENCE_TIMEOUT`].
    Silent,
    /// None came for [`CONSENT_TIMEOUT`]: nothing may be sent.
    Lost,
}

/// The ICE side of one peer.
#[derive(Debug)]
pub(crate) struct Ice {
    /// The generation that the last agreed descriptions named.
    pub(crate) current: Generation,
    /// A restart that we offered and that the client has not answered, or that it answered and has not used yet.
    pub(crate) next: Option<Generation>,
    paths: Vec<(Path, Instant)>,
    selected: Option<Path>,
    /// When the last valid check came; before the first, when the peer was made.
    last_check: Instant,
    consent: Consent,
    /// When media last came by the path in use.
    heard: Instant,
    /// What it was asked at a new address.
    pub(crate) asked: Option<Asked>,
}

impl Ice {
    pub(crate) fn new(local: Credentials, now: Instant) -> Self {
        Ice {
            current: Generation { local, remote: None },
            next: None,
            paths: Vec::new(),
            selected: None,
            last_check: now,
            consent: Consent::Given,
            heard: now,
            asked: None,
        }
    }

    /// The generation whose local ufrag a check named.
    pub(crate) fn generation(&self, local_ufrag: &str) -> Option<&Generation> {
        [Some(&self.current), self.next.as_ref()].into_iter().flatten().find(|g| g.local.ufrag == local_ufrag)
    }

    /// Where media goes; nowhere while there is no consent (RFC 7675 §5.1).
    pub(crate) fn selected(&self) -> Option<Path> {
        self.selected.filter(|_| self.consent != Consent::Lost)
    }

    /// Time since the last valid check.
    pub(crate) fn silence(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.last_check)
    }

    /// Every path from which a valid check came.
    pub(crate) fn paths(&self) -> impl Iterator<Item = Path> + '_ {
        self.paths.iter().map(|(path, _)| *path)
    }

    /// Whether this peer was heard by a path of late.
    pub(crate) fn owns(&self, path: Path, now: Instant) -> bool {
        self.paths.iter().any(|(p, at)| *p == path && now.saturating_duration_since(*at) <= PATH_OWNED)
    }

    /// A check with valid integrity came. `nominated` is USE-CANDIDATE (RFC 8445 §7.3.1.5).
    pub(crate) fn checked(&mut self, path: Path, nominated: bool, now: Instant) -> Checked {
        let mut done = Checked::default();
        self.last_check = now;
        self.consent = Consent::Given;
        match self.paths.iter_mut().find(|(p, _)| *p == path) {
            Some((_, at)) => *at = now,
            None => {
                if self.paths.len() == PATHS_MAX {
                    done.evicted = self.evict();
                }
                self.paths.push((path, now));
                done.new_path = true;
            }
        }
        // Before any nomination the first valid path serves, so that DTLS need not wait.
        if (nominated || self.selected.is_none()) && self.selected != Some(path) {
            (self.selected, self.heard) = (Some(path), now);
            done.selected = true;
        }
        if self.asked.is_some_and(|asked| asked.path == path) {
            self.asked = None;
        }
        done
    }

    /// Whether no media came of late by the path in use.
    pub(crate) fn is_silent(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.heard) >= HEARD_LATELY
    }

    /// Media that authenticated came by a path. It goes where it comes from: a client that moves to another of its paths sends
    /// by it at once, and nominates it with its next check, seconds later.
    pub(crate) fn heard(&mut self, path: Path, now: Instant) {
        if self.selected != Some(path) {
            if !self.is_silent(now) || !self.owns(path, now) {
                return;
            }
            self.selected = Some(path);
        }
        self.heard = now;
    }

    fn evict(&mut self) -> Option<Path> {
        let oldest = (0..self.paths.len())
            .filter(|i| Some(self.paths[*i].0) != self.selected)
            .min_by_key(|i| self.paths[*i].1)?;
        Some(self.paths.swap_remove(oldest).0)
    }

    /// Forgets a path that ended or that another peer proved to be its own. If it was in use, the one that was checked last
    /// serves, unless its own consent has ended: who has its address by now asked for nothing.
    pub(crate) fn forget(&mut self, path: Path) {
        self.paths.retain(|(p, _)| *p != path);
        if self.selected == Some(path) {
            let latest = self.paths.iter().max_by_key(|(_, at)| *at);
            let consents = |at| self.last_check.saturating_duration_since(at) < CONSENT_TIMEOUT;
            self.selected = latest.filter(|(_, at)| consents(*at)).map(|(p, _)| *p);
        }
    }

    /// Forgets every path: another RTCPeerConnection will prove its own.
    pub(crate) fn forget_all(&mut self) {
        self.paths.clear();
        self.selected = None;
        self.asked = None;
        self.current.remote = None;
        if let Some(next) = &mut self.next {
            next.remote = None;
        }
    }

    /// When consent becomes less unless a check comes; `None` when it is lost.
    pub(crate) fn consent_due(&self) -> Option<Instant> {
        let after = match self.consent {
            Consent::Given => SILENCE_TIMEOUT,
            Consent::Silent => CONSENT_TIMEOUT,
            Consent::Lost => return None,
        };
        Some(self.last_check + after)
    }

    /// What consent has just become, if it became less.
    pub(crate) fn consent_ends(&mut self, now: Instant) -> Option<Consent> {
        self.consent_due().filter(|due| *due <= now)?;
        self.consent = if self.consent == Consent::Given { Consent::Silent } else { Consent::Lost };
        Some(self.consent)
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    fn ice() -> (Ice, Instant) {
        let now = Instant::now();
        (Ice::new(Credentials::random(&mut StdRng::seed_from_u64(1)), now), now)
    }

    fn path(port: u16) -> Path {
        Path::Udp { local: ([192, 0, 2, 1], 7_882).into(), remote: ([10, 0, 0, 1], port).into() }
    }

    #[test]
    fn credentials_are_of_ice_chars_and_never_the_same() {
        let mut rng = StdRng::seed_from_u64(2);
        let (one, other) = (Credentials::random(&mut rng), Credentials::random(&mut rng));
        assert_ne!(one, other);
        assert_eq!((one.ufrag.len(), one.pwd.len()), (8, 24));
        let chars = one.ufrag.chars().chain(one.pwd.chars());
        assert!(chars.into_iter().all(|c| c.is_ascii_alphanumeric() || c == '+' || c == '/'));
    }

    #[test]
    fn the_first_path_serves_until_another_is_nominated() {
        let (mut ice, now) = ice();
        assert_eq!(ice.checked(path(1), false, now), Checked { new_path: true, selected: true, evicted: None });
        assert_eq!(ice.checked(path(2), false, now), Checked { new_path: true, selected: false, evicted: None });
        assert_eq!(ice.selected(), Some(path(1)));
        assert_eq!(ice.checked(path(2), true, now), Checked { new_path: false, selected: true, evicted: None });
        assert_eq!(ice.checked(path(2), true, now), Checked::default());
        assert_eq!(ice.selected(), Some(path(2)));
    }

    #[test]
    fn the_path_checked_longest_ago_goes_but_never_the_one_in_use() {
        let (mut ice, now) = ice();
        for port in 0..PATHS_MAX as u16 {
            ice.checked(path(port), false, now + Duration::from_secs(port.into()));
        }
        ice.checked(path(1), false, now + Duration::from_secs(20));
        let later = now + Duration::from_secs(21);
        assert_eq!(ice.checked(path(100), false, later).evicted, Some(path(2)), "0 is in use, 1 was renewed");
        for port in 101..200 {
            assert!(ice.checked(path(port), false, later + Duration::from_secs(port.into())).evicted.is_some());
        }
        assert_eq!((ice.paths().count(), ice.selected()), (PATHS_MAX, Some(path(0))));
    }

    #[test]
    fn when_the_path_in_use_ends_the_freshest_other_serves() {
        let (mut ice, now) = ice();
        for port in 1..4 {
            ice.checked(path(port), false, now + Duration::from_secs(u64::from(4 - port)));
        }
        ice.forget(path(1));
        assert_eq!(ice.selected(), Some(path(2)));
        ice.forget(path(3));
        assert_eq!(ice.selected(), Some(path(2)), "another's end changes nothing");
        ice.forget(path(2));
        assert_eq!(ice.selected(), None);
        assert!(ice.checked(path(9), false, now).selected);
        ice.forget_all();
        assert_eq!((ice.selected(), ice.paths().count()), (None, 0));
    }

    #[test]
    fn a_path_without_consent_of_its_own_does_not_serve() {
        let (mut ice, now) = ice();
        let ms = Duration::from_millis(1);
        for (since, serves) in [(CONSENT_TIMEOUT, None), (CONSENT_TIMEOUT - ms, Some(path(1)))] {
            ice.checked(path(1), true, now);
            ice.checked(path(2), true, now + since);
            ice.forget(path(2));
            assert_eq!(ice.selected(), serves, "checked {since:?} before the other");
        }
    }

    #[test]
    fn a_path_is_owned_for_as_long_as_checks_come_by_it() {
        let (mut ice, now) = ice();
        assert!(!ice.owns(path(1), now));
        ice.checked(path(1), false, now);
        ice.checked(path(2), true, now + PATH_OWNED);
        assert!(ice.owns(path(1), now + PATH_OWNED));
        let later = now + PATH_OWNED + Duration::from_millis(1);
        assert!(!ice.owns(path(1), later) && ice.owns(path(2), later));
        ice.forget(path(2));
        assert!(!ice.owns(path(2), later));
    }

    #[test]
    fn consent_ends_once_and_any_check_brings_it_back() {
        let (mut ice, now) = ice();
        let ms = Duration::from_millis(1);
        assert_eq!(ice.consent_due(), Some(now + SILENCE_TIMEOUT));
        let checked = now + Duration::from_secs(10);
        ice.checked(path(1), true, checked);
        assert_eq!(ice.consent_ends(now + SILENCE_TIMEOUT), None);
        assert_eq!(ice.consent_ends(checked + SILENCE_TIMEOUT - ms), None);
        assert_eq!(ice.consent_ends(checked + SILENCE_TIMEOUT), Some(Consent::Silent));
        assert_eq!(ice.consent_ends(checked + CONSENT_TIMEOUT - ms), None);
        assert_eq!(ice.selected(), Some(path(1)), "media still goes there");
        assert_eq!(ice.consent_ends(checked + CONSENT_TIMEOUT), Some(Consent::Lost));
        assert_eq!(ice.consent_ends(checked + CONSENT_TIMEOUT * 2), None);
        assert_eq!((ice.consent_due(), ice.selected()), (None, None));
        let back = checked + CONSENT_TIMEOUT * 3;
        ice.checked(path(1), false, back);
        assert_eq!((ice.consent_due(), ice.selected()), (Some(back + SILENCE_TIMEOUT), Some(path(1))));
        assert_eq!(ice.consent_ends(back + CONSENT_TIMEOUT), Some(Consent::Silent));
        assert_eq!(ice.consent_ends(back + CONSENT_TIMEOUT), Some(Consent::Lost));
    }
}
