//! A TURN client (RFC 8656) without sockets or plans of its own: it makes requests, and says of what comes back what it
//! is. For tests of what servers answer.

use std::net::SocketAddr;
use std::ops::Range;

use turn_server::credential::md5_key;
use turn_server::stun::{Class, Message, Method, TransactionId, Writer};

/// `UDP` of the protocol numbers that REQUESTED-TRANSPORT names (RFC 8656 §18.7).
const UDP: u8 = 17;
/// Families as STUN names them (RFC 8489 §14.1).
const IPV4: u8 = 1;
const IPV6: u8 = 2;

/// What a client knows of its server.
#[derive(Debug, Default)]
pub struct Asker {
    username: String,
    password: String,
    realm: String,
    nonce: Vec<u8>,
    /// Of the next request or indication.
    transaction: u64,
}

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// The request is to be made again, with what the client knows now (401 or 438).
    Again,
    /// It was granted.
    Granted(Grant),
    /// It was refused.
    Refused(u16),
    /// Payload of a peer, by a Data indication.
    Data(SocketAddr, Range<usize>),
    /// Payload of a peer, by ChannelData.
    Channel(u16, Range<usize>),
    /// None of these.
    Noise,
}

/// What a request was answered with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Grant {
    /// XOR-RELAYED-ADDRESS.
    pub relayed: Option<SocketAddr>,
    /// XOR-MAPPED-ADDRESS.
    pub mapped: Option<SocketAddr>,
    /// LIFETIME, s.
    pub lifetime_s: Option<u32>,
}

impl Asker {
    /// With the credentials that it was given.
    pub fn new(username: &str, password: &str) -> Self {
        Asker { username: username.to_owned(), password: password.to_owned(), ..Asker::default() }
    }

    /// Asks for an allocation, of IPv4 as browsers do.
    pub fn allocate(&mut self) -> Vec<u8> {
        self.request(Method::ALLOCATE, |writer| writer.requested_transport(UDP))
    }

    /// Asks for an allocation of the family that a peer is of.
    pub fn allocate_for(&mut self, peer: SocketAddr) -> Vec<u8> {
        let family = if peer.is_ipv4() { IPV4 } else { IPV6 };
        self.request(Method::ALLOCATE, |writer| writer.requested_transport(UDP).requested_address_family(family))
    }

    /// Asks to go on; 0 ends the allocation.
    pub fn refresh(&mut self, lifetime_s: u32) -> Vec<u8> {
        self.request(Method::REFRESH, |writer| writer.lifetime(lifetime_s))
    }

    /// Asks for a permission.
    pub fn permit(&mut self, peer: SocketAddr) -> Vec<u8> {
        self.request(Method::CREATE_PERMISSION, |writer| writer.xor_peer_address(peer))
    }

    /// Asks for a channel, 0x4000–0x4fff.
    pub fn bind(&mut self, channel: u16, peer: SocketAddr) -> Vec<u8> {
        self.request(Method::CHANNEL_BIND, |writer| writer.channel_number(channel).xor_peer_address(peer))
    }

    /// Payload in a Send indication.
    pub fn send(&mut self, peer: SocketAddr, payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(payload.len() + 64);
        let writer = Writer::indication(&mut out, Method::SEND, self.next());
        let _ = writer.xor_peer_address(peer).data(payload);
        out
    }

    /// Takes a message or frame of the server.
    pub fn take(&mut self, bytes: &[u8]) -> Heard {
        if let Some((channel, payload)) = channel_data(bytes) {
            return Heard::Channel(channel, payload);
        }
        let Some(message) = Message::parse(bytes) else { return Heard::Noise };
        match (message.class(), message.method(), message.error_code()) {
            (Class::Indication, Method::DATA, _) => match (message.xor_peer_address(), message.data_range()) {
                (Some(peer), Some(payload)) => Heard::Data(peer, payload),
                _ => Heard::Noise,
            },
            (Class::Success, ..) => Heard::Granted(Grant {
                relayed: message.xor_relayed_address(),
                mapped: message.xor_mapped_address(),
                lifetime_s: message.lifetime(),
            }),
            // The same nonce again means that the credentials are not taken.
            (Class::Error, _, Some((code @ (401 | 438), _))) => match (message.realm(), message.nonce()) {
                (Some(realm), Some(nonce)) if code == 438 || self.nonce.is_empty() => {
                    realm.clone_into(&mut self.realm);
                    nonce.clone_into(&mut self.nonce);
                    Heard::Again
                }
                _ => Heard::Refused(code),
            },
            (Class::Error, _, Some((code, _))) => Heard::Refused(code),
            _ => Heard::Noise,
        }
    }

    fn request(&mut self, method: Method, fill: impl FnOnce(Writer<'_>) -> Writer<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        let writer = fill(Writer::request(&mut out, method, self.next()));
        if self.nonce.is_empty() {
            writer.fingerprint();
            return out;
        }
        let key = md5_key(&self.username, &self.realm, &self.password);
        writer.username(&self.username).realm(&self.realm).nonce(&self.nonce).integrity(&key).fingerprint();
        out
    }

    fn next(&mut self) -> TransactionId {
        self.transaction += 1;
        let mut id = [0; 12];
        id[4..].copy_from_slice(&self.transaction.to_be_bytes());
        TransactionId(id)
    }
}

/// Payload as ChannelData; in a stream it is padded.
pub fn channel_frame(channel: u16, payload: &[u8], is_stream: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(payload.len() + 8);
    out.extend(channel.to_be_bytes());
    out.extend((payload.len() as u16).to_be_bytes());
    out.extend(payload);
    if is_stream {
        out.resize(out.len().next_multiple_of(4), 0);
    }
    out
}

fn channel_data(bytes: &[u8]) -> Option<(u16, Range<usize>)> {
    let (&[c0, c1, l0, l1], rest) = bytes.split_first_chunk()?;
    let len = usize::from(u16::from_be_bytes([l0, l1]));
    ((0x40..0x50).contains(&c0) && len <= rest.len()).then(|| (u16::from_be_bytes([c0, c1]), 4..4 + len))
}
