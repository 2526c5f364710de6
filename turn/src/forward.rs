//! Payload between clients and peers (RFC 8656 §11, §12). Nothing here copies it, and once warm nothing allocates.

use std::net::SocketAddr;
use std::ops::Range;
use std::time::Instant;

use rand::RngExt;

use crate::allocation::Allocation;
use crate::api::{CHANNEL_HEAD_BYTES, HEAD_BYTES_MAX};
use crate::auth::wire_head_bytes;
use crate::policy::Way;
use crate::requests::UNDERSTOOD;
use crate::server::{Server, tell_forbidden};
use crate::stun::{AttributeType, MAGIC_COOKIE, Message, TransactionId, masked};
use crate::{Action, AllocationId, Client, Counters, Framing, Head, Limits, Refusal};

/// A Data indication: class and method (RFC 8489 §5).
const DATA_INDICATION: u16 = 0x0017;
/// The longest payload that fits a Data indication with an IPv6 peer, or ChannelData: 65,535 is the most that either
/// length field says.
const PAYLOAD_BYTES_MAX: usize = 65_535 - HEAD_BYTES_MAX;

/// Payload on its way to a peer.
struct Outbound {
    peer: SocketAddr,
    way: Way,
    payload: Range<usize>,
    /// Of the message that brought it.
    message_bytes: usize,
    dont_fragment: bool,
}

impl Server {
    /// ChannelData from a client (RFC 8656 §12.6). What follows its payload is padding.
    pub(crate) fn channel_data(
        &mut self,
        client: &Client,
        bytes: &[u8],
        now: Instant,
    ) -> Result<Action<'static>, Refusal> {
        let (&[n0, n1, l0, l1], rest) = bytes.split_first_chunk::<CHANNEL_HEAD_BYTES>().ok_or(Refusal::Malformed)?;
        let len = usize::from(u16::from_be_bytes([l0, l1]));
        if len > rest.len() {
            return Err(Refusal::Malformed);
        }
        let allocation = self.table.of(client).filter(|it| it.expires > now).ok_or(Refusal::NoPermission)?;
        let channel = allocation.peer_of(u16::from_be_bytes([n0, n1]), now);
        let (peer, way) = channel.ok_or(Refusal::NoPermission)?;
        let payload = CHANNEL_HEAD_BYTES..CHANNEL_HEAD_BYTES + len;
        let outbound = Outbound { peer, way, payload, message_bytes: bytes.len(), dont_fragment: false };
        outbound.pass(allocation, &self.config.limits, &mut self.counters, now)
    }

    /// A Send indication of a client (RFC 8656 §11.2).
    pub(crate) fn send(
        &mut self,
        message: &Message<'_>,
        client: &Client,
        now: Instant,
    ) -> Result<Action<'static>, Refusal> {
        let allocation = self.table.of(client).filter(|it| it.expires > now).ok_or(Refusal::NoPermission)?;
        let peer = message.xor_peer_address().ok_or(Refusal::Malformed)?;
        let payload = message.data_range().ok_or(Refusal::Malformed)?;
        if message.unknown_beyond(UNDERSTOOD).next().is_some() {
            return Err(Refusal::UnknownAttribute);
        }
        let Some(way) = self.policy.way(peer) else {
            tell_forbidden(&mut self.outputs, *client, peer);
            return Err(Refusal::Forbidden);
        };
        let message_bytes = message.as_bytes().len();
        let outbound = Outbound { peer, way, payload, message_bytes, dont_fragment: message.dont_fragment() };
        outbound.pass(allocation, &self.config.limits, &mut self.counters, now)
    }

    /// How payload from a peer is wrapped (RFC 8656 §11.3, §12.7).
    pub(crate) fn frame(
        &mut self,
        id: AllocationId,
        peer: SocketAddr,
        payload_bytes: usize,
        datagrams: usize,
        now: Instant,
    ) -> Result<Framing, Refusal> {
        let allocation = self.table.get(id).filter(|it| it.expires > now).ok_or(Refusal::NoPermission)?;
        if !allocation.permits(peer.ip(), now) {
            return Err(Refusal::NoPermission);
        }
        if payload_bytes > PAYLOAD_BYTES_MAX {
            return Err(Refusal::Malformed);
        }
        let to = allocation.client;
        let words = payload_bytes.next_multiple_of(4) - payload_bytes;
        let (head, padding) = match allocation.channel_of(peer, now) {
            Some(channel) => {
                let padding = if matches!(to, Client::Stream { .. }) { words } else { 0 };
                (Head::channel(channel, payload_bytes), padding)
            }
            None => (Head::indication(TransactionId(self.rng.random()), peer, payload_bytes), words),
        };
        let each = wire_head_bytes(&to) + head.as_slice().len() + payload_bytes + padding;
        let passing = allocation.to_client.pass(each, datagrams, &self.config.limits, now);
        // One that is refused is counted by who asked.
        for _ in passing.max(1)..datagrams {
            self.count(Refusal::Bandwidth);
        }
        if passing == 0 {
            return Err(Refusal::Bandwidth);
        }
        let [_, to_client] = self.counters.of(self.policy.is_media(peer));
        *to_client += (payload_bytes * passing) as u64;
        Ok(Framing { to, head, padding, datagrams: passing })
    }
}

impl Outbound {
    /// Lets the payload pass if its peer is permitted and the bandwidth lasts.
    fn pass(
        self,
        allocation: &mut Allocation,
        limits: &Limits,
        counters: &mut Counters,
        now: Instant,
    ) -> Result<Action<'static>, Refusal> {
        let Outbound { peer, way, payload, message_bytes, dont_fragment } = self;
        if !allocation.permits(peer.ip(), now) {
            return Err(Refusal::NoPermission);
        }
        let bytes = wire_head_bytes(&allocation.client) + message_bytes;
        if allocation.from_client.pass(bytes, 1, limits, now) == 0 {
            return Err(Refusal::Bandwidth);
        }
        let [from_client, _] = counters.of(way == Way::Media);
        *from_client += payload.len() as u64;
        let id = allocation.id;
        Ok(match way {
            Way::Media => {
                allocation.reach(peer);
                Action::Media { allocation: id, relayed: allocation.relayed, peer, payload }
            }
            Way::Relay => Action::Relay { allocation: id, peer, payload, dont_fragment },
        })
    }
}

impl Counters {
    /// Of the short cut, or of relay sockets.
    fn of(&mut self, media: bool) -> &mut [u64; 2] {
        if media { &mut self.media_bytes } else { &mut self.relay_bytes }
    }
}

impl Head {
    /// Of ChannelData (RFC 8656 §12.4).
    fn channel(number: u16, payload_bytes: usize) -> Self {
        Head::empty().with(&number.to_be_bytes()).with(&(payload_bytes as u16).to_be_bytes())
    }

    /// Of a Data indication: all but the payload and its padding (RFC 8656 §11.4).
    fn indication(transaction: TransactionId, peer: SocketAddr, payload_bytes: usize) -> Self {
        let (address, address_bytes) = masked(peer, transaction);
        let len = 4 + address_bytes + 4 + payload_bytes.next_multiple_of(4);
        Head::empty()
            .with(&DATA_INDICATION.to_be_bytes())
            .with(&(len as u16).to_be_bytes())
            .with(&MAGIC_COOKIE.to_be_bytes())
            .with(&transaction.0)
            .with(&AttributeType::XOR_PEER_ADDRESS.0.to_be_bytes())
            .with(&(address_bytes as u16).to_be_bytes())
            .with(address.get(..address_bytes).unwrap_or_default())
            .with(&AttributeType::DATA.0.to_be_bytes())
            .with(&(payload_bytes as u16).to_be_bytes())
    }

    fn empty() -> Self {
        Head { bytes: [0; HEAD_BYTES_MAX], len: 0 }
    }

    fn with(mut self, more: &[u8]) -> Self {
        let start = usize::from(self.len);
        if let Some(room) = self.bytes.get_mut(start..start + more.len()) {
            room.copy_from_slice(more);
            self.len += more.len() as u8;
        }
        self
    }
}
