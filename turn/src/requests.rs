//! What authenticated requests ask for (RFC 8656 §7–§10, §12).

use std::net::SocketAddr;
use std::time::Duration;

use rand::RngExt;

use crate::allocation::{Allocation, Opening, Pending, Unbound};
use crate::answer::{self, Bad};
use crate::auth::Sealed;
use crate::ports::Want;
use crate::server::{Server, tell_forbidden, transport};
use crate::stun::{AttributeType, FAMILY_IPV4, FAMILY_IPV6, Message, Method};
use crate::table::{Port, Wish};
use crate::{AllocationId, Client, Now, Output};

/// How long an allocation lasts that asks for nothing else, or for less (RFC 8656 §7.2).
pub(crate) const LIFETIME_S: u32 = 600;
/// How long an allocation may last without being refreshed, in seconds: who asks for more gets this.
pub(crate) const LIFETIME_S_MAX: u32 = 3600;
/// Ports that are tried for a relay socket. When none could be bound: 508.
const BINDS_MAX: usize = 8;
/// The numbers that channels may have (RFC 8656 §12).
const CHANNEL_NUMBERS: std::ops::RangeInclusive<u16> = 0x4000..=0x4fff;
/// Of REQUESTED-TRANSPORT: UDP.
const TRANSPORT_UDP: u8 = 17;
/// Connect, of TURN's TCP allocations, which we do not offer (RFC 6062 §4.3).
const CONNECT: Method = Method(0x00a);

/// What a request may carry beside STUN's own: with any other attribute that must be understood it is a 420.
pub(crate) const UNDERSTOOD: &[AttributeType] = &[
    AttributeType::CHANNEL_NUMBER,
    AttributeType::LIFETIME,
    AttributeType::XOR_PEER_ADDRESS,
    AttributeType::DATA,
    AttributeType::REQUESTED_ADDRESS_FAMILY,
    AttributeType::EVEN_PORT,
    AttributeType::REQUESTED_TRANSPORT,
    AttributeType::DONT_FRAGMENT,
    AttributeType::MESSAGE_INTEGRITY_SHA256,
    AttributeType::PASSWORD_ALGORITHM,
    AttributeType::USERHASH,
    AttributeType::RESERVATION_TOKEN,
];

/// A request whose sender is known.
pub(crate) struct Request<'m> {
    pub(crate) message: &'m Message<'m>,
    pub(crate) client: &'m Client,
    pub(crate) sealed: Sealed<'m>,
    pub(crate) now: Now,
}

/// What a request is answered with when it is granted.
pub(crate) enum Good {
    /// Nothing yet.
    Later,
    /// The addresses of its allocation.
    Allocated(AllocationId),
    /// How long its allocation lasts now, in seconds.
    Refreshed(u32),
    /// That it was granted.
    Done,
}

impl Server {
    pub(crate) fn grant_request(&mut self, request: &Request<'_>) -> Result<Good, Bad> {
        if request.message.unknown_beyond(UNDERSTOOD).next().is_some() {
            return Err(Bad::UnknownAttribute);
        }
        match request.message.method() {
            Method::ALLOCATE => self.allocate(request),
            Method::REFRESH => self.refresh(request),
            Method::CREATE_PERMISSION => self.create_permission(request),
            Method::CHANNEL_BIND => self.channel_bind(request),
            CONNECT => self.connect(request),
            _ => Err(Bad::Request),
        }
    }

    /// RFC 8656 §7.2.
    fn allocate(&mut self, request: &Request<'_>) -> Result<Good, Bad> {
        let Request { message, client, sealed, now } = request;
        if let Some(it) = self.table.of(client) {
            let again = it.opening.transaction == message.transaction_id() && *it.holder == *sealed.holder;
            return match (again, &it.pending) {
                (false, _) => Err(Bad::Mismatch),
                (true, Some(_)) => Ok(Good::Later),
                (true, None) => Ok(Good::Allocated(it.id)),
            };
        }
        if sealed.expires_unix_s <= now.unix_ms / 1000 || !self.table.is_granted(sealed.holder) {
            return Err(Bad::NotGranted);
        }
        let asked = Asked::read(message)?;
        // Who names no family means IPv4, and has IPv6 where there is nothing else: no browser names one.
        let ipv6 = asked.ipv6.unwrap_or(!self.table.relays(false));
        if matches!(asked.port, Port::New(_)) && !self.table.relays(ipv6) {
            return Err(Bad::Family);
        }
        let wish = Wish {
            client,
            holder: sealed.holder,
            ipv6,
            port: asked.port,
            expires: now.mono + Duration::from_secs(asked.lifetime_s.into()),
        };
        let opening = Opening {
            transaction: message.transaction_id(),
            lifetime_s: asked.lifetime_s,
            token: None,
            additional: asked.additional,
        };
        let allocation = self.table.open(wish, opening, &self.config.limits, self.rng.random())?;
        let (id, relayed) = (allocation.id, allocation.relayed);
        let want = match asked.port {
            Port::New(want) => Some(want),
            Port::Reserved(_) => None,
        };
        if self.config.listed.is_empty() {
            self.begin(id, want, *now);
            return Ok(Good::Allocated(id));
        }
        allocation.pending = Some(Box::new(Pending { key: sealed.key.clone(), want, tried: 1 }));
        self.outputs.push_back(Output::Bind { allocation: id, relayed });
        Ok(Good::Later)
    }

    /// The port of an allocation is there: it can be used.
    fn begin(&mut self, id: AllocationId, want: Option<Want>, now: Now) {
        let token = self.rng.random();
        let Some(allocation) = self.table.get(id) else { return };
        self.counters.allocated += 1;
        if let Some(count) = self.counters.allocations.get_mut(transport(&allocation.client)) {
            *count += 1;
        }
        if want == Some(Want::Pair) {
            allocation.opening.token = Some(token);
            let (holder, mut next) = (allocation.holder.clone(), allocation.relayed);
            next.set_port(next.port() + 1);
            self.table.reserve(token, &holder, next, now.mono);
        }
    }

    /// Goes on with an allocation that waited for its relay socket.
    pub(crate) fn bound(&mut self, id: AllocationId, there: bool, now: Now) {
        let Some(allocation) = self.table.get(id) else { return };
        let Some(pending) = &mut allocation.pending else { return };
        let mut bytes = Vec::new();
        if there {
            let Some(pending) = allocation.pending.take() else { return };
            let to = allocation.client;
            self.begin(id, pending.want, now);
            if let Some(allocation) = self.table.get(id) {
                answer::allocated(&mut bytes, allocation, &pending.key);
                self.outputs.push_back(Output::Reply { to, bytes });
            }
            return;
        }
        pending.tried += 1;
        if pending.tried <= BINDS_MAX && self.table.move_on(id) {
            let Some(Allocation { relayed, .. }) = self.table.get(id) else { return };
            self.outputs.push_back(Output::Bind { allocation: id, relayed: *relayed });
            return;
        }
        let Some(allocation) = self.table.remove(id) else { return };
        let Some(pending) = allocation.pending else { return };
        self.count(Bad::Capacity.refusal());
        let writer = Bad::Capacity.write(&mut bytes, Method::ALLOCATE, allocation.opening.transaction);
        pending.key.seal(writer).fingerprint();
        self.outputs.push_back(Output::Reply { to: allocation.client, bytes });
    }

    /// RFC 8656 §8.2.
    fn refresh(&mut self, request: &Request<'_>) -> Result<Good, Bad> {
        let message = request.message;
        let allocation = self.allocation_of(request)?;
        let (id, family) = (allocation.id, family(allocation.relayed));
        let lifetime_s = granted_lifetime(message)?;
        if let Some(wanted) =
            value(message, AttributeType::REQUESTED_ADDRESS_FAMILY, message.requested_address_family())?
            && wanted != family
        {
            return Err(Bad::PeerFamily);
        }
        if message.lifetime() == Some(0) {
            self.end(id, false);
            return Ok(Good::Refreshed(0));
        }
        self.table.refresh(id, request.now.mono + Duration::from_secs(lifetime_s.into()));
        Ok(Good::Refreshed(lifetime_s))
    }

    /// RFC 8656 §10.2.
    fn create_permission(&mut self, request: &Request<'_>) -> Result<Good, Bad> {
        let relayed = self.allocation_of(request)?.relayed;
        let mut count = 0;
        for peer in request.message.xor_peer_addresses() {
            let peer = peer.ok_or(Bad::Request)?;
            same_family(relayed, peer)?;
            if !self.policy.permits(peer.ip()) {
                return Err(self.forbid(request.client, peer));
            }
            count += 1;
        }
        if count == 0 {
            return Err(Bad::Request);
        }
        let ips = || request.message.xor_peer_addresses().flatten().map(|it| it.ip());
        if self.allocation_of(request)?.permit(ips, request.now.mono) { Ok(Good::Done) } else { Err(Bad::Capacity) }
    }

    /// RFC 8656 §12.2.
    fn channel_bind(&mut self, request: &Request<'_>) -> Result<Good, Bad> {
        let relayed = self.allocation_of(request)?.relayed;
        let number = request.message.channel_number().filter(|it| CHANNEL_NUMBERS.contains(it)).ok_or(Bad::Request)?;
        let peer = request.message.xor_peer_address().ok_or(Bad::Request)?;
        same_family(relayed, peer)?;
        let Some(way) = self.policy.way(peer) else { return Err(self.forbid(request.client, peer)) };
        match self.allocation_of(request)?.bind(number, peer, way, request.now.mono) {
            Ok(()) => Ok(Good::Done),
            Err(Unbound::Taken) => Err(Bad::Request),
            Err(Unbound::Full) => Err(Bad::Capacity),
        }
    }

    /// RFC 6062 §5.2: there are no TCP allocations, but who asks for a forbidden peer is told so.
    fn connect(&mut self, request: &Request<'_>) -> Result<Good, Bad> {
        self.allocation_of(request)?;
        match request.message.xor_peer_address() {
            Some(peer) if self.policy.way(peer).is_none() => Err(self.forbid(request.client, peer)),
            _ => Err(Bad::Request),
        }
    }

    /// The allocation that a request is about: its client's, and its sender's (RFC 8656 §5).
    fn allocation_of(&mut self, request: &Request<'_>) -> Result<&mut Allocation, Bad> {
        let allocation = self.table.of(request.client).filter(|it| it.pending.is_none()).ok_or(Bad::Mismatch)?;
        if *allocation.holder == *request.sealed.holder { Ok(allocation) } else { Err(Bad::Credentials) }
    }

    /// Tells the shell of a refused peer.
    fn forbid(&mut self, client: &Client, peer: SocketAddr) -> Bad {
        tell_forbidden(&mut self.outputs, *client, peer);
        Bad::Forbidden
    }
}

/// What an Allocate request asks for.
struct Asked {
    /// `None` if it does not say.
    ipv6: Option<bool>,
    port: Port,
    lifetime_s: u32,
    additional: bool,
}

impl Asked {
    fn read(message: &Message<'_>) -> Result<Self, Bad> {
        let transport = message.requested_transport().ok_or(Bad::Request)?;
        if transport != TRANSPORT_UDP {
            return Err(Bad::Transport);
        }
        let even = value(message, AttributeType::EVEN_PORT, message.even_port())?;
        let token = value(message, AttributeType::RESERVATION_TOKEN, message.reservation_token())?;
        let family = value(message, AttributeType::REQUESTED_ADDRESS_FAMILY, message.requested_address_family())?;
        let additional = value(message, AttributeType::ADDITIONAL_ADDRESS_FAMILY, message.additional_address_family())?;
        let reserved_otherwise = token.is_some() && (even.is_some() || family.is_some() || additional.is_some());
        let two_families = additional.is_some() && (family.is_some() || even == Some(true));
        if reserved_otherwise || two_families || additional.is_some_and(|it| it != FAMILY_IPV6) {
            return Err(Bad::Request);
        }
        let port = match (token, even) {
            (Some(token), _) => Port::Reserved(token),
            (None, Some(true)) => Port::New(Want::Pair),
            (None, Some(false)) => Port::New(Want::Even),
            (None, None) => Port::New(Want::Any),
        };
        let ipv6 = match family {
            None => None,
            Some(FAMILY_IPV4) => Some(false),
            Some(FAMILY_IPV6) => Some(true),
            Some(_) => return Err(Bad::Family),
        };
        Ok(Asked { ipv6, port, lifetime_s: granted_lifetime(message)?, additional: additional.is_some() })
    }
}

/// How long an allocation is to last, in seconds.
fn granted_lifetime(message: &Message<'_>) -> Result<u32, Bad> {
    let wanted = value(message, AttributeType::LIFETIME, message.lifetime())?;
    Ok(wanted.unwrap_or(LIFETIME_S).clamp(LIFETIME_S, LIFETIME_S_MAX))
}

/// An attribute's value; an error if it is there and cannot be read.
fn value<T>(message: &Message<'_>, attribute: AttributeType, value: Option<T>) -> Result<Option<T>, Bad> {
    if value.is_none() && message.attribute(attribute).is_some() { Err(Bad::Request) } else { Ok(value) }
}

fn family(address: SocketAddr) -> u8 {
    if address.is_ipv6() { FAMILY_IPV6 } else { FAMILY_IPV4 }
}

fn same_family(relayed: SocketAddr, peer: SocketAddr) -> Result<(), Bad> {
    if relayed.is_ipv6() == peer.is_ipv6() { Ok(()) } else { Err(Bad::PeerFamily) }
}
