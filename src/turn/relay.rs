//! Relay sockets: one UDP socket per allocation, connected to nobody. They exist only where the operator lists peers.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Instant;

use mio::{Interest, Registry, Token};
use turn_server::AllocationId;

use crate::udp::{Batch, One, Sent};

/// Bytes asked of the kernel for each direction of a relay socket: half a second of 8 Mbit/s.
const KERNEL_BUFFER_BYTES: usize = 512 * 1024;

/// All relay sockets: as many as there are allocations, at most.
pub(crate) struct Relays {
    registry: Registry,
    /// The token of an allocation's number.
    token: fn(u64) -> Token,
    sockets: HashMap<AllocationId, Relay>,
    /// Sockets that may have something to receive; each stands here once.
    readable: VecDeque<AllocationId>,
}

struct Relay {
    socket: One,
    /// It stands among the readable.
    readable: bool,
}

impl Relays {
    /// `token` gives those of the sockets.
    pub(crate) fn new(registry: Registry, token: fn(u64) -> Token) -> Self {
        Relays { registry, token, sockets: HashMap::new(), readable: VecDeque::new() }
    }

    /// Binds the socket of an allocation: at its relayed address or, if a router translates that to one of ours, at every
    /// address of the family. The port must be free.
    pub(crate) fn open(&mut self, allocation: AllocationId, relayed: SocketAddr) -> io::Result<()> {
        let any = match relayed.ip() {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        let mut socket = match One::bind(relayed, KERNEL_BUFFER_BYTES) {
            Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => {
                One::bind(SocketAddr::new(any, relayed.port()), KERNEL_BUFFER_BYTES)?
            }
            bound => bound?,
        };
        self.registry.register(&mut socket.socket, (self.token)(allocation.0), Interest::READABLE)?;
        self.sockets.insert(allocation, Relay { socket, readable: false });
        Ok(())
    }

    /// Closes the socket of an allocation.
    pub(crate) fn close(&mut self, allocation: AllocationId) {
        if let Some(mut relay) = self.sockets.remove(&allocation) {
            // The descriptor is closed with the socket, which takes it out of the registry all the same.
            let _ = self.registry.deregister(&mut relay.socket.socket);
        }
    }

    /// Something came for an allocation.
    pub(crate) fn woken(&mut self, number: u64) {
        let id = AllocationId(number);
        if let Some(relay) = self.sockets.get_mut(&id)
            && !std::mem::replace(&mut relay.readable, true)
        {
            self.readable.push_back(id);
        }
    }

    /// How many sockets may have something to receive.
    pub(crate) fn ready(&self) -> usize {
        self.readable.len()
    }

    /// How many sockets there are.
    pub(crate) fn open_sockets(&self) -> usize {
        self.sockets.len()
    }

    /// Receives a batch from the next socket that may have something; whose it is, `None` if there was nothing.
    pub(crate) fn receive(&mut self, batch: &mut Batch) -> io::Result<Option<AllocationId>> {
        let Some(id) = self.readable.pop_front() else { return Ok(None) };
        let Some(relay) = self.sockets.get_mut(&id) else { return Ok(None) };
        match batch.receive(&relay.socket) {
            Ok(false) => {
                relay.readable = false;
                Ok(None)
            }
            // An ICMP answer to something sent earlier is an error; the next receive goes on behind it.
            received => {
                self.readable.push_back(id);
                received.map(|_| Some(id))
            }
        }
    }

    /// Sends a payload to a peer. It leaves unfragmented, whether the client asked for that or not.
    pub(crate) fn send(&mut self, allocation: AllocationId, peer: SocketAddr, payload: &[u8], now: Instant) -> Sent {
        match self.sockets.get_mut(&allocation) {
            Some(relay) => relay.socket.send(relay.socket.local(), peer, payload, payload.len().max(1), now),
            None => Sent::Refused,
        }
    }
}
