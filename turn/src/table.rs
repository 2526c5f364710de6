//! All allocations: by client, by holder, their ports and timers, kept in step in one place.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use slab::Slab;

use crate::allocation::{Allocation, Opening, Token};
use crate::answer::Bad;
use crate::keyed::Keyed;
use crate::ports::{Ports, VIRTUAL_PORTS, Want};
use crate::{AllocationId, Client, Config, Limits, StreamId};

/// How long a port is reserved (RFC 8656 §7.2).
const RESERVATION_LIFETIME: Duration = Duration::from_secs(30);
/// How many low bits of an [`AllocationId`] are its slot; so many allocations are too many, whatever [`Limits`] say.
const SLOT_BITS: u32 = 24;

/// All allocations and reservations. [`Limits::allocations`] bounds both together, [`Limits::per_holder`] those of one
/// holder; holders are as many as were granted and not revoked.
#[derive(Debug)]
pub(crate) struct Table {
    slots: Slab<Allocation>,
    by_client: HashMap<Client, AllocationId, Keyed>,
    by_stream: HashMap<StreamId, AllocationId, Keyed>,
    holders: HashMap<Arc<str>, Holder, Keyed>,
    reservations: HashMap<Token, Reservation, Keyed>,
    /// One entry for each allocation and each reservation.
    timers: BTreeSet<(Instant, Timer)>,
    /// Of one address of each family at most.
    ports: Vec<Ports>,
    opened: u64,
}

/// Who may have allocations.
#[derive(Debug, Default)]
struct Holder {
    allocations: Vec<AllocationId>,
    reservations: Vec<Token>,
}

/// A port that waits for an Allocate request with its token.
#[derive(Debug)]
struct Reservation {
    holder: Arc<str>,
    relayed: SocketAddr,
    expires: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    Allocation(AllocationId),
    Reservation(Token),
}

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wish<'a> {
    pub(crate) client: &'a Client,
    pub(crate) holder: &'a str,
    /// The family of the relayed address, unless its port is reserved.
    pub(crate) ipv6: bool,
    pub(crate) port: Port,
    pub(crate) expires: Instant,
}

/// Which port.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Port {
    New(Want),
    Reserved(Token),
}

impl Table {
    pub(crate) fn new(config: &Config, keyed: &Keyed) -> Self {
        let range = if config.listed.is_empty() { &VIRTUAL_PORTS } else { &config.relay_ports };
        let first = |ipv6| config.relayed.iter().find(move |it| it.is_ipv6() == ipv6);
        let ports = first(false).into_iter().chain(first(true)).map(|ip| Ports::new(*ip, range)).collect();
        Table {
            slots: Slab::new(),
            by_client: HashMap::with_hasher(keyed.clone()),
            by_stream: HashMap::with_hasher(keyed.clone()),
            holders: HashMap::with_hasher(keyed.clone()),
            reservations: HashMap::with_hasher(keyed.clone()),
            timers: BTreeSet::new(),
            ports,
            opened: 0,
        }
    }

    /// The allocation of a client.
    pub(crate) fn of(&mut self, client: &Client) -> Option<&mut Allocation> {
        let id = *self.by_client.get(client)?;
        self.get(id)
    }

    /// The allocation of a stream.
    pub(crate) fn of_stream(&self, stream: StreamId) -> Option<AllocationId> {
        self.by_stream.get(&stream).copied()
    }

    /// Whether a client has an allocation.
    pub(crate) fn has(&self, client: &Client) -> bool {
        self.by_client.contains_key(client)
    }

    pub(crate) fn get(&mut self, id: AllocationId) -> Option<&mut Allocation> {
        self.slots.get_mut(slot(id)).filter(|it| it.id == id)
    }

    /// Whether there is a relayed address of the family.
    pub(crate) fn relays(&self, ipv6: bool) -> bool {
        self.ports.iter().any(|it| it.ip.is_ipv6() == ipv6)
    }

    pub(crate) fn grant(&mut self, holder: Arc<str>) {
        self.holders.entry(holder).or_default();
    }

    pub(crate) fn is_granted(&self, holder: &str) -> bool {
        self.holders.contains_key(holder)
    }

    /// Forgets a holder and says which allocations are to be removed with it.
    pub(crate) fn revoke(&mut self, holder: &str) -> Vec<AllocationId> {
        let Some(Holder { allocations, reservations }) = self.holders.remove(holder) else { return Vec::new() };
        for token in reservations {
            self.drop_reservation(token);
        }
        allocations
    }

    /// Makes an allocation for a client that has none. `start` is a random number.
    pub(crate) fn open(
        &mut self,
        wish: Wish<'_>,
        opening: Opening,
        limits: &Limits,
        start: u16,
    ) -> Result<&mut Allocation, Bad> {
        let (holder, quota) = self.holders.get_key_value(wish.holder).ok_or(Bad::NotGranted)?;
        let holder = holder.clone();
        let more = match wish.port {
            // The allocation takes the place of its reservation.
            Port::Reserved(token) => {
                self.reservations.get(&token).filter(|it| it.holder == holder).ok_or(Bad::Capacity)?;
                0
            }
            Port::New(Want::Pair) => 2,
            Port::New(_) => 1,
        };
        if quota.allocations.len() + quota.reservations.len() + more > limits.per_holder {
            return Err(Bad::HolderQuota);
        }
        if self.slots.len() + self.reservations.len() + more > limits.allocations.min(1 << SLOT_BITS) {
            return Err(Bad::Capacity);
        }
        let relayed = match wish.port {
            Port::Reserved(token) => self.unreserve(token),
            Port::New(want) => self.ports_mut(wish.ipv6).and_then(|it| it.take(want, start)),
        };
        let relayed = relayed.ok_or(Bad::Capacity)?;

        let entry = self.slots.vacant_entry();
        let id = AllocationId(self.opened << SLOT_BITS | entry.key() as u64);
        self.opened += 1;
        self.by_client.insert(*wish.client, id);
        if let Client::Stream { stream, .. } = wish.client {
            self.by_stream.insert(*stream, id);
        }
        self.timers.insert((wish.expires, Timer::Allocation(id)));
        if let Some(it) = self.holders.get_mut(&holder) {
            it.allocations.push(id);
        }
        Ok(entry.insert(Allocation::new(id, *wish.client, holder, relayed, wish.expires, opening)))
    }

    /// Gives an allocation whose port cannot be bound the next one; false if there is none.
    pub(crate) fn move_on(&mut self, id: AllocationId) -> bool {
        let Some(allocation) = self.slots.get_mut(slot(id)).filter(|it| it.id == id) else { return false };
        let Some(want) = allocation.pending.as_ref().and_then(|it| it.want) else { return false };
        let failed = allocation.relayed;
        let Some(ports) = self.ports.iter_mut().find(|it| it.ip == failed.ip()) else { return false };
        ports.release(failed.port(), want);
        let Some(next) = ports.take(want, ports.behind(failed.port())) else { return false };
        allocation.relayed = next;
        true
    }

    /// Reserves a port, which is taken already, for a holder.
    pub(crate) fn reserve(&mut self, token: Token, holder: &str, relayed: SocketAddr, now: Instant) {
        let Some((holder, _)) = self.holders.get_key_value(holder) else { return };
        let (holder, expires) = (holder.clone(), now + RESERVATION_LIFETIME);
        if let Some(it) = self.holders.get_mut(&holder) {
            it.reservations.push(token);
        }
        self.timers.insert((expires, Timer::Reservation(token)));
        self.reservations.insert(token, Reservation { holder, relayed, expires });
    }

    /// Makes an allocation last until `expires`.
    pub(crate) fn refresh(&mut self, id: AllocationId, expires: Instant) {
        let Some(allocation) = self.slots.get_mut(slot(id)).filter(|it| it.id == id) else { return };
        self.timers.remove(&(allocation.expires, Timer::Allocation(id)));
        self.timers.insert((expires, Timer::Allocation(id)));
        allocation.expires = expires;
    }

    /// Takes an allocation out, and gives its port back.
    pub(crate) fn remove(&mut self, id: AllocationId) -> Option<Allocation> {
        self.get(id)?;
        let allocation = self.slots.try_remove(slot(id))?;
        self.by_client.remove(&allocation.client);
        if let Client::Stream { stream, .. } = allocation.client {
            self.by_stream.remove(&stream);
        }
        self.timers.remove(&(allocation.expires, Timer::Allocation(id)));
        if let Some(it) = self.holders.get_mut(&allocation.holder) {
            it.allocations.retain(|it| *it != id);
        }
        let want = allocation.pending.as_ref().and_then(|it| it.want).unwrap_or(Want::Any);
        self.release(allocation.relayed, want);
        Some(allocation)
    }

    /// When something expires next.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.timers.first().map(|(due, _)| *due)
    }

    /// Drops reservations that have expired and gives the next allocation that has: it is to be removed.
    pub(crate) fn expired(&mut self, now: Instant) -> Option<AllocationId> {
        while let Some((_, timer)) = self.timers.first().filter(|(due, _)| *due <= now) {
            match *timer {
                Timer::Allocation(id) => return Some(id),
                Timer::Reservation(token) => self.drop_reservation(token),
            }
        }
        None
    }

    fn drop_reservation(&mut self, token: Token) {
        if let Some(relayed) = self.unreserve(token) {
            self.release(relayed, Want::Any);
        }
    }

    /// Takes a reservation out. Its port stays taken.
    fn unreserve(&mut self, token: Token) -> Option<SocketAddr> {
        let Reservation { holder, relayed, expires } = self.reservations.remove(&token)?;
        self.timers.remove(&(expires, Timer::Reservation(token)));
        if let Some(it) = self.holders.get_mut(&holder) {
            it.reservations.retain(|it| *it != token);
        }
        Some(relayed)
    }

    fn ports_mut(&mut self, ipv6: bool) -> Option<&mut Ports> {
        self.ports.iter_mut().find(|it| it.ip.is_ipv6() == ipv6)
    }

    fn release(&mut self, relayed: SocketAddr, want: Want) {
        if let Some(it) = self.ports_mut(relayed.is_ipv6()) {
            it.release(relayed.port(), want);
        }
    }
}

fn slot(id: AllocationId) -> usize {
    (id.0 & ((1 << SLOT_BITS) - 1)) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    use crate::stun::TransactionId;

    const LIMITS: Limits = Limits { allocations: 10, per_holder: 10, bandwidth_bps: 1 };

    impl Table {
        fn is_empty(&self) -> bool {
            let Table { slots, by_client, by_stream, holders, reservations, timers, ports, opened: _ } = self;
            let maps = [by_client.len(), by_stream.len(), holders.len(), reservations.len(), timers.len(), slots.len()];
            maps == [0; 6] && ports.iter().all(|it| it.taken() == 0)
        }
    }

    fn table() -> Table {
        let config = Config {
            realm: String::new(),
            secret: vec![],
            relayed: vec![Ipv4Addr::LOCALHOST.into(), IpAddr::V6(Ipv6Addr::LOCALHOST), Ipv4Addr::BROADCAST.into()],
            media: vec![],
            listed: vec![],
            relay_ports: 1..=1,
            limits: LIMITS,
        };
        let mut table = Table::new(&config, &Keyed::new([1, 2]));
        table.grant("ada".into());
        table
    }

    /// An allocation by a stream, whose next port is reserved; another by UDP over IPv6.
    fn open(table: &mut Table, now: Instant) -> [AllocationId; 2] {
        let remote = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        let clients =
            [Client::Stream { stream: StreamId(1), remote, secure: true }, Client::Udp { local: remote, remote }];
        let opening = Opening { transaction: TransactionId([0; 12]), lifetime_s: 1, token: None, additional: false };
        let expires = now + Duration::from_secs(600);
        let [pair, any] =
            [(false, Want::Pair, &clients[0]), (true, Want::Any, &clients[1])].map(|(ipv6, want, client)| {
                let wish = Wish { client, holder: "ada", ipv6, port: Port::New(want), expires };
                let allocation = table.open(wish, opening.clone(), &LIMITS, 7).expect("there is room");
                (allocation.id, allocation.relayed)
            });
        assert!(pair.1.ip() == Ipv4Addr::LOCALHOST && any.1.ip() == Ipv6Addr::LOCALHOST);
        assert_eq!(table.of_stream(StreamId(1)), Some(pair.0));
        let next = SocketAddr::new(pair.1.ip(), pair.1.port() + 1);
        table.reserve([3; 8], "ada", next, now);
        [pair.0, any.0]
    }

    #[test]
    fn nothing_is_left_of_what_has_ended() {
        let now = Instant::now();
        let mut table = table();
        for id in open(&mut table, now) {
            assert!(table.remove(id).is_some() && table.remove(id).is_none() && table.get(id).is_none());
        }
        assert_eq!(table.deadline(), Some(now + RESERVATION_LIFETIME));
        assert_eq!(table.expired(now + RESERVATION_LIFETIME), None);
        assert_eq!(table.deadline(), None);
        let ids = open(&mut table, now);
        assert_eq!(table.revoke("ada"), ids);
        assert!(!table.is_empty());
        assert!(ids.into_iter().all(|id| table.remove(id).is_some()));
        assert!(table.is_empty());
    }

    #[test]
    fn no_number_is_used_twice() {
        let now = Instant::now();
        let mut table = table();
        let first = open(&mut table, now);
        table.revoke("ada");
        first.into_iter().for_each(|id| drop(table.remove(id)));
        table.grant("ada".into());
        let second = open(&mut table, now);
        assert!(second.iter().all(|id| !first.contains(id)));
        assert!(first.into_iter().all(|id| table.get(id).is_none()));
    }
}
