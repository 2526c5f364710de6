//! Peers that come from a new address, as when a NAT gives another port. Their next check would say so, but clients send one
//! every 2.5 to 5 s. Media that authenticates says at once whose the address is; that the peer is reached there is shown by a
//! check of ours, which only it can answer. Nothing else goes there before.

use std::time::{Duration, Instant};

use rand::RngExt;
use turn_server::stun::{Message, Method, TransactionId, Writer};

use crate::rtp::{self, Class};
use crate::{Drop, Now, Path, Sfu};

/// Checks to peers at new addresses, until one is answered: no more, and at most one in that time; then none for the next.
pub(crate) const ASKS_MAX: u8 = 5;
const ASK_INTERVAL: Duration = Duration::from_millis(100);
const ASK_PAUSE: Duration = Duration::from_secs(10);
/// Whoever was heard where it is so lately is not looked for elsewhere: what is mirrored from there moves nobody.
pub(crate) const HEARD_LATELY: Duration = Duration::from_millis(150);
/// Datagrams from unknown addresses that are looked at so closely, each second. When full, further ones are dropped, and their
/// senders' next checks tell.
const LOOKUPS_PER_SECOND: u32 = 200;
/// Peers whose keys are tried on one of them. Further ones are tried on the next.
const TRIALS_MAX: usize = 32;
/// New addresses that peers are asked at. When full, all are forgotten, and looked up again.
const ROAMERS_MAX: usize = 256;
/// A longer datagram is nobody's.
const BYTES_MAX: usize = 1_500;
/// Type preference of a peer-reflexive candidate (RFC 8445 §5.1.2.1).
const PRIORITY: u32 = 0x6e00_01ff;

/// A check that was sent to a peer and not answered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    pub(crate) path: Path,
    pub(crate) transaction: [u8; 12],
    at: Instant,
    times: u8,
}

/// What of a worker's time goes to strangers' addresses.
#[derive(Debug)]
pub(crate) struct Lookups {
    since: Instant,
    count: u32,
    /// Where to begin when not all peers can be tried.
    next: usize,
}

impl Lookups {
    pub(crate) fn new(now: Instant) -> Self {
        Lookups { since: now, count: 0, next: 0 }
    }

    fn take(&mut self, now: Instant) -> bool {
        if now.saturating_duration_since(self.since) >= Duration::from_secs(1) {
            (self.since, self.count) = (now, 0);
        }
        self.count = self.count.saturating_add(1);
        self.count <= LOOKUPS_PER_SECOND
    }
}

impl Sfu {
    /// Whose media came by a path that nobody is known to have. It is heard; whether it is reached there is asked.
    pub(crate) fn recognize(&mut self, path: Path, class: Class, datagram: &[u8], now: Now) -> Option<usize> {
        if !matches!(path, Path::Udp { .. }) || !matches!(class, Class::Rtp | Class::Rtcp) {
            return None;
        }
        let known = self.roamers.get(&path).copied().filter(|key| self.is_asked(*key, path));
        let key = match known {
            Some(key) => key,
            None => self.sender_of(class, datagram, now)?,
        };
        self.ask(key, path, now);
        Some(key)
    }

    fn is_asked(&self, key: usize, path: Path) -> bool {
        self.peers.get(key).is_some_and(|peer| peer.ice.asked.is_some_and(|asked| asked.path == path))
    }

    /// The peer by whose keys a datagram opens: one that sends that stream, or else, since listeners all report under the same
    /// SSRC, any that was not heard of late.
    fn sender_of(&mut self, class: Class, datagram: &[u8], now: Now) -> Option<usize> {
        if datagram.len() > BYTES_MAX || !self.lookups.take(now.mono) {
            return None;
        }
        let header = rtp::parse(datagram).filter(|_| class == Class::Rtp);
        let ssrc = match class {
            Class::Rtp => header?.ssrc,
            _ => u32::from_be_bytes(*datagram.get(4..8)?.first_chunk()?),
        };
        let mut copy = [0; BYTES_MAX];
        let mut opens = |key: usize| {
            let Some(srtp) = self.peers.get(key).and_then(|peer| peer.srtp.as_ref()) else { return false };
            let Some(copy) = copy.get_mut(..datagram.len()) else { return false };
            copy.copy_from_slice(datagram);
            match &header {
                Some(it) => srtp.opener.authenticates_rtp(copy, it.header_len, it.ssrc, it.sequence_number),
                None => srtp.opener.authenticates_rtcp(copy),
            }
        };
        let silent = self.peers.iter().filter(|(_, peer)| peer.srtp.is_some() && peer.ice.is_silent(now.mono));
        let sends = |ssrc| move |(_, peer): &(usize, &crate::peer::Peer)| peer.streams.iter().any(|s| s.ssrc == ssrc);
        if let Some((key, _)) = silent.clone().filter(sends(ssrc)).take(TRIALS_MAX).find(|(key, _)| opens(*key)) {
            return Some(key);
        }
        if class == Class::Rtp {
            return None;
        }
        let from = self.lookups.next;
        let (ahead, behind) = (silent.clone().filter(|(key, _)| *key >= from), silent.filter(|(key, _)| *key < from));
        let mut found = None;
        for (key, _) in ahead.chain(behind).take(TRIALS_MAX) {
            self.lookups.next = key + 1;
            if opens(key) {
                found = Some(key);
                break;
            }
        }
        found
    }

    /// Sends a check to a peer at a new address (RFC 8445 §7.2.2), if one is due. It is smaller than most that came from there.
    fn ask(&mut self, key: usize, path: Path, now: Now) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        let Some((theirs, pwd)) = peer.ice.current.remote.as_ref() else { return };
        let asked = peer.ice.asked;
        let elapsed = asked.map(|asked| now.mono.saturating_duration_since(asked.at));
        let times = match (asked, elapsed) {
            (Some(asked), Some(elapsed)) if elapsed < ASK_PAUSE => asked.times,
            _ => 0,
        };
        if times == ASKS_MAX || elapsed.is_some_and(|elapsed| elapsed < ASK_INTERVAL) {
            return;
        }
        let same = asked.filter(|asked| asked.path == path);
        let transaction = same.map_or_else(|| self.rng.random(), |asked| asked.transaction);
        self.scratch.clear();
        Writer::request(&mut self.scratch, Method::BINDING, TransactionId(transaction))
            .username(&format!("{theirs}:{}", peer.ice.current.local.ufrag))
            .priority(PRIORITY)
            .ice_controlled(self.rng.random())
            .integrity(pwd.as_bytes())
            .fingerprint();
        peer.ice.asked = Some(Asked { path, transaction, at: now.mono, times: times + 1 });
        if same.is_none() {
            if let Some(asked) = asked {
                self.roamers.remove(&asked.path);
            }
            if self.roamers.len() == ROAMERS_MAX {
                self.roamers.clear();
            }
            self.roamers.insert(path, key);
        }
        self.control.push(path, &self.scratch);
    }

    /// The answer to a check of ours: the peer is reached where its media comes from, and media for it goes there.
    pub(crate) fn on_check_answered(&mut self, path: Path, message: &Message<'_>, now: Now) -> Result<(), Drop> {
        let key = *self.roamers.get(&path).ok_or(Drop::UnknownPath)?;
        self.blame = Some(key);
        let peer = self.peers.get(key).ok_or(Drop::UnknownPath)?;
        let ours = |asked: &Asked| asked.path == path && TransactionId(asked.transaction) == message.transaction_id();
        peer.ice.asked.filter(ours).ok_or(Drop::UnknownPath)?;
        let (_, pwd) = peer.ice.current.remote.as_ref().ok_or(Drop::UnknownPath)?;
        if !message.check_integrity(pwd.as_bytes()) {
            return Err(Drop::StunIntegrity);
        }
        if self.paths.get(&path).is_some_and(|other| *other != key) {
            return Err(Drop::ContestedPath);
        }
        let ufrag = peer.ice.current.local.ufrag.clone();
        self.check_passed(key, path, &ufrag, true, now);
        Ok(())
    }
}
