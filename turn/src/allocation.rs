//! An allocation, and what its holder has permitted.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::auth::IntegrityKey;
use crate::policy::Way;
use crate::ports::Want;
use crate::stun::TransactionId;
use crate::{AllocationId, Client, Limits};

/// How long a permission lasts (RFC 8656 §9).
pub(crate) const PERMISSION_LIFETIME: Duration = Duration::from_secs(300);
/// How long a channel lasts (RFC 8656 §12).
pub(crate) const CHANNEL_LIFETIME: Duration = Duration::from_secs(600);
/// Permissions of an allocation, expired ones not counted. When full: 508.
pub(crate) const PERMISSIONS_MAX: usize = 64;
/// Channels of an allocation, expired ones not counted. When full: 508.
pub(crate) const CHANNELS_MAX: usize = 64;

/// Eight bytes that nobody guesses: they stand for a reserved port (RFC 8656 §18.10).
pub(crate) type Token = [u8; 8];

/// An allocation (RFC 8656 §3.2).
#[derive(Debug)]
pub(crate) struct Allocation {
    pub(crate) id: AllocationId,
    pub(crate) client: Client,
    pub(crate) holder: Arc<str>,
    pub(crate) relayed: SocketAddr,
    pub(crate) expires: Instant,
    /// What a repeated request is answered with again.
    pub(crate) opening: Opening,
    /// Its relay socket is not there yet.
    pub(crate) pending: Option<Box<Pending>>,
    permissions: Vec<Permission>,
    channels: Vec<Channel>,
    /// The media addresses that it has sent to: at most all that there are.
    pub(crate) reached: Vec<SocketAddr>,
    pub(crate) from_client: Bucket,
    pub(crate) to_client: Bucket,
}

/// The Allocate request that made an allocation, and its answer.
#[derive(Clone, Debug)]
pub(crate) struct Opening {
    pub(crate) transaction: TransactionId,
    pub(crate) lifetime_s: u32,
    pub(crate) token: Option<Token>,
    /// An address of the other family was asked for as well.
    pub(crate) additional: bool,
}

/// What waits for a relay socket.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) key: IntegrityKey,
    /// What the port has to be; `None` if no other will do.
    pub(crate) want: Option<Want>,
    /// Ports that were tried.
    pub(crate) tried: usize,
}

/// Payload may go to and come from an address (RFC 8656 §9).
#[derive(Debug)]
struct Permission {
    ip: IpAddr,
    expires: Instant,
}

/// A number that stands for a peer (RFC 8656 §12).
#[derive(Debug)]
struct Channel {
    number: u16,
    peer: SocketAddr,
    way: Way,
    expires: Instant,
}

/// Why a channel was not bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unbound {
    /// The number or the peer is bound otherwise.
    Taken,
    /// There are too many.
    Full,
}

impl Allocation {
    pub(crate) fn new(
        id: AllocationId,
        client: Client,
        holder: Arc<str>,
        relayed: SocketAddr,
        expires: Instant,
        opening: Opening,
    ) -> Self {
        Allocation {
            id,
            client,
            holder,
            relayed,
            expires,
            opening,
            pending: None,
            permissions: Vec::new(),
            channels: Vec::new(),
            reached: Vec::new(),
            from_client: Bucket::default(),
            to_client: Bucket::default(),
        }
    }

    /// Makes or renews permissions for all these addresses, or for none if there are too many: then false.
    pub(crate) fn permit<I: Iterator<Item = IpAddr>>(&mut self, ips: impl Fn() -> I, now: Instant) -> bool {
        self.permissions.retain(|it| it.expires > now);
        let before = self.permissions.len();
        for ip in ips() {
            if !self.permissions.iter().any(|it| it.ip == ip) {
                if self.permissions.len() == PERMISSIONS_MAX {
                    self.permissions.truncate(before);
                    return false;
                }
                self.permissions.push(Permission { ip, expires: now });
            }
        }
        for ip in ips() {
            if let Some(it) = self.permissions.iter_mut().find(|it| it.ip == ip) {
                it.expires = now + PERMISSION_LIFETIME;
            }
        }
        true
    }

    /// Whether payload may go to and come from an address.
    pub(crate) fn permits(&self, ip: IpAddr, now: Instant) -> bool {
        self.permissions.iter().any(|it| it.ip == ip && it.expires > now)
    }

    /// Binds a channel or renews it, and permits its peer.
    pub(crate) fn bind(&mut self, number: u16, peer: SocketAddr, way: Way, now: Instant) -> Result<(), Unbound> {
        self.channels.retain(|it| it.expires > now);
        let at = self.channels.iter().position(|it| it.number == number || it.peer == peer);
        if at.and_then(|at| self.channels.get(at)).is_some_and(|it| it.number != number || it.peer != peer) {
            return Err(Unbound::Taken);
        }
        if at.is_none() && self.channels.len() == CHANNELS_MAX || !self.permit(|| [peer.ip()].into_iter(), now) {
            return Err(Unbound::Full);
        }
        let expires = now + CHANNEL_LIFETIME;
        match at.and_then(|at| self.channels.get_mut(at)) {
            Some(channel) => channel.expires = expires,
            None => self.channels.push(Channel { number, peer, way, expires }),
        }
        Ok(())
    }

    /// The peer of a channel, and the way to it.
    pub(crate) fn peer_of(&self, number: u16, now: Instant) -> Option<(SocketAddr, Way)> {
        let channel = self.channels.iter().find(|it| it.number == number && it.expires > now)?;
        Some((channel.peer, channel.way))
    }

    /// The channel of a peer.
    pub(crate) fn channel_of(&self, peer: SocketAddr, now: Instant) -> Option<u16> {
        let channel = self.channels.iter().find(|it| it.peer == peer && it.expires > now)?;
        Some(channel.number)
    }

    /// Notes that the short cut to a media address is used.
    pub(crate) fn reach(&mut self, peer: SocketAddr) {
        if !self.reached.contains(&peer) {
            self.reached.push(peer);
        }
    }
}

/// Lets a number of bits a second pass, and as many at once after a second of silence.
#[derive(Debug, Default)]
pub(crate) struct Bucket {
    /// When what has passed would have passed at an even pace.
    even: Option<Instant>,
}

impl Bucket {
    /// How many of these datagrams, of so many bytes each, may pass now.
    pub(crate) fn pass(&mut self, bytes: usize, datagrams: usize, limits: &Limits, now: Instant) -> usize {
        const BURST: Duration = Duration::from_secs(1);
        const BITS_NS: u64 = 8 * 1_000_000_000;
        let Some(cost_ns) = (bytes as u64).saturating_mul(BITS_NS).checked_div(limits.bandwidth_bps) else {
            return 0;
        };
        let start = self.even.map_or(now, |it| it.max(now));
        // At most a second, so it fits.
        let left_ns = (now + BURST).saturating_duration_since(start).as_nanos() as u64;
        let passing = left_ns.checked_div(cost_ns).map_or(datagrams, |most| datagrams.min(most as usize));
        self.even = Some(start + Duration::from_nanos(cost_ns.saturating_mul(passing as u64)));
        passing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_lets_its_rate_pass_and_a_second_of_it_at_once() {
        let limits = Limits { allocations: 1, per_holder: 1, bandwidth_bps: 80_000 };
        let mut bucket = Bucket::default();
        let start = Instant::now();
        assert_eq!((bucket.pass(1000, 4, &limits, start), bucket.pass(1000, 9, &limits, start)), (4, 6));
        assert_eq!(bucket.pass(1, 1, &limits, start), 0);
        let soon = start + Duration::from_millis(100);
        assert_eq!((bucket.pass(1001, 1, &limits, soon), bucket.pass(1000, 2, &limits, soon)), (0, 1));
        assert_eq!(bucket.pass(1, 1, &limits, soon), 0);
        let late = start + Duration::from_secs(3600);
        assert_eq!(bucket.pass(1000, 20, &limits, late), 10);
        assert_eq!(bucket.pass(1, 1, &limits, late), 0, "an hour of silence is worth no more than a second");
        assert_eq!(bucket.pass(0, 7, &limits, late), 7);
        assert_eq!(Bucket::default().pass(1, 1, &Limits { bandwidth_bps: 0, ..limits }, late), 0);
        assert_eq!(Bucket::default().pass(usize::MAX, usize::MAX, &limits, late), 0);
    }
}
