//! The words in which the shell and the TURN server speak to each other.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::{Range, RangeInclusive};
use std::sync::Arc;

/// A TURN allocation; no number is used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AllocationId(pub u64);

/// A stream that the shell accepted, TCP or TLS; no number is used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId(pub u64);

/// A client's end of a conversation: the 5-tuple of RFC 8656 §3.2. Never a bare address, so that a client cannot be
/// taken for a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Client {
    /// By UDP.
    Udp {
        /// Our address and port, as the client addressed it.
        local: SocketAddr,
        /// Its address and port.
        remote: SocketAddr,
    },
    /// By TCP, or TLS over TCP.
    Stream {
        /// Which.
        stream: StreamId,
        /// Its address and port.
        remote: SocketAddr,
        /// Whether TLS is spoken.
        secure: bool,
    },
}

impl Client {
    /// The client's address and port, as we see it.
    pub fn remote(&self) -> SocketAddr {
        match *self {
            Client::Udp { remote, .. } | Client::Stream { remote, .. } => remote,
        }
    }
}

/// How the server is set up. It does not print its secret.
#[derive(Clone)]
pub struct Config {
    /// The realm of long-term credentials: short, for it is in every 401.
    pub realm: String,
    /// The key of time-limited credentials, as [`crate::credential`] makes them.
    pub secret: Vec<u8>,
    /// The addresses that relayed addresses have, best first: the first of each family is used.
    pub relayed: Vec<IpAddr>,
    /// Our own media addresses: what goes there takes the short cut. Always permitted, exactly these.
    pub media: Vec<SocketAddr>,
    /// All addresses of this machine: other services listen there, so a listed range does not open them.
    pub own: Vec<IpAddr>,
    /// Further peers. Empty: nothing but `media` can be reached, and no relay socket exists.
    pub listed: Vec<Prefix>,
    /// Ports of relay sockets, used when `listed` is not empty.
    pub relay_ports: RangeInclusive<u16>,
    /// What each and all may have.
    pub limits: Limits,
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config").field("realm", &self.realm).field("media", &self.media).finish_non_exhaustive()
    }
}

/// What each and all may have.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Allocations in all. When full: 508.
    pub allocations: usize,
    /// Allocations of one holder. When full: 486.
    pub per_holder: usize,
    /// Bits a second of one allocation in each direction, with a burst of one second. Beyond it packets are dropped.
    pub bandwidth_bps: u64,
}

/// A range of addresses, such as `192.0.2.0/24`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    /// Its first address.
    pub address: IpAddr,
    /// How many leading bits count: 0–32 or 0–128.
    pub bits: u8,
}

/// What the server does with what a client sent. Ranges are of the datagram or frame that was given.
#[derive(Debug, PartialEq, Eq)]
pub enum Action<'a> {
    /// Nothing, or nothing yet.
    Nothing,
    /// Send this back to the client.
    Reply(&'a [u8]),
    /// The short cut: hand the payload to the SFU of the worker whose media address `peer` is.
    Media {
        /// By which allocation.
        allocation: AllocationId,
        /// The relayed address that the client was given.
        relayed: SocketAddr,
        /// Our media address.
        peer: SocketAddr,
        /// Where the payload is.
        payload: Range<usize>,
    },
    /// Send the payload from the allocation's relay socket.
    Relay {
        /// Whose socket.
        allocation: AllocationId,
        /// To whom.
        peer: SocketAddr,
        /// Where the payload is.
        payload: Range<usize>,
        /// The client asked for the IP don't-fragment bit (RFC 8656 §18.9).
        dont_fragment: bool,
    },
}

/// How payload from a peer is wrapped for a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Framing {
    /// To whom.
    pub to: Client,
    /// What comes in front of the payload.
    pub head: Head,
    /// Zeros behind the payload: ChannelData in a stream and every Data indication are padded to words of four bytes.
    pub padding: usize,
    /// How many of the datagrams pass, the first ones; one at least. The others are beyond the allocation's bandwidth.
    pub datagrams: usize,
}

/// Bytes in front of a payload: 4 of ChannelData, or up to [`HEAD_BYTES_MAX`] of a Data indication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    pub(crate) bytes: [u8; HEAD_BYTES_MAX],
    pub(crate) len: u8,
}

/// A STUN header, XOR-PEER-ADDRESS for IPv6, and the head of DATA.
pub const HEAD_BYTES_MAX: usize = 20 + 24 + 4;
/// Of ChannelData (RFC 8656 §12.4): channel and length.
pub const CHANNEL_HEAD_BYTES: usize = 4;

impl Head {
    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }

    /// Whether it is the head of ChannelData: then each datagram of a run of one size has the same.
    pub fn is_channel(&self) -> bool {
        usize::from(self.len) == CHANNEL_HEAD_BYTES
    }
}

/// What happened, apart from what clients and peers sent.
#[derive(Clone, Debug)]
pub enum Input {
    /// A holder has a seat: its credentials open allocations from now on.
    Grant {
        /// What stands behind the expiry in its username.
        holder: Arc<str>,
    },
    /// The seat has ended: its allocations end, and its credentials open no more.
    Revoke {
        /// Whose.
        holder: Arc<str>,
    },
    /// The answer to [`Output::Bind`]: whether the relay socket is there.
    Bound {
        /// Whose socket.
        allocation: AllocationId,
        /// False: the port is taken by somebody else, or the machine has no more sockets.
        there: bool,
    },
    /// A stream has ended.
    StreamClosed {
        /// Which.
        stream: StreamId,
    },
    /// The deadline has come.
    Tick,
}

/// What the shell has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send this to a client, later than its request.
    Reply {
        /// To whom.
        to: Client,
        /// What.
        bytes: Vec<u8>,
    },
    /// Bind a relay socket, then say [`Input::Bound`].
    Bind {
        /// Whose.
        allocation: AllocationId,
        /// Its relayed address: the port, and which family.
        relayed: SocketAddr,
    },
    /// Close the relay socket of an allocation.
    Unbind {
        /// Whose.
        allocation: AllocationId,
    },
    /// An allocation that took the short cut has ended: its path to that media address is closed.
    PathClosed {
        /// Which allocation.
        allocation: AllocationId,
        /// Its relayed address.
        relayed: SocketAddr,
        /// Our media address.
        peer: SocketAddr,
    },
    /// Close a stream: its allocation has ended.
    Hangup {
        /// Which.
        stream: StreamId,
    },
    /// A peer was refused by policy: for the audit log.
    Forbidden {
        /// The client.
        client: Client,
        /// What it wanted to reach.
        peer: SocketAddr,
    },
}

/// Why something was refused or dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// Not STUN and not ChannelData, or broken.
    Malformed,
    /// 400.
    BadRequest,
    /// 401, answered.
    Unauthenticated,
    /// An unauthenticated request beyond its source's rate: not answered.
    RateLimited,
    /// A well-made credential that is expired, revoked or of nobody here: 401.
    NotGranted,
    /// 403: policy.
    Forbidden,
    /// 420.
    UnknownAttribute,
    /// 437.
    Mismatch,
    /// 438.
    StaleNonce,
    /// 440 or 442 or 443.
    Unsupported,
    /// 441.
    WrongCredentials,
    /// 486.
    HolderQuota,
    /// 508.
    Capacity,
    /// Data without permission or channel.
    NoPermission,
    /// Data beyond the allocation's bandwidth.
    Bandwidth,
}

impl Refusal {
    /// All, in the order of their counters.
    pub const ALL: [Refusal; 15] = [
        Refusal::Malformed,
        Refusal::BadRequest,
        Refusal::Unauthenticated,
        Refusal::RateLimited,
        Refusal::NotGranted,
        Refusal::Forbidden,
        Refusal::UnknownAttribute,
        Refusal::Mismatch,
        Refusal::StaleNonce,
        Refusal::Unsupported,
        Refusal::WrongCredentials,
        Refusal::HolderQuota,
        Refusal::Capacity,
        Refusal::NoPermission,
        Refusal::Bandwidth,
    ];
}

/// Counted since start, but for `allocations`.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    /// Allocations that live: UDP, TCP, TLS.
    pub allocations: [u64; 3],
    /// Allocations made.
    pub allocated: u64,
    /// Payload bytes from clients and to clients, by the short cut.
    pub media_bytes: [u64; 2],
    /// Payload bytes from clients and to clients, through relay sockets.
    pub relay_bytes: [u64; 2],
    /// By [`Refusal::ALL`].
    pub refusals: [u64; Refusal::ALL.len()],
}
