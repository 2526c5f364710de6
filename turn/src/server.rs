//! The TURN server (RFC 8656): allocations, permissions and channels.

use std::net::SocketAddr;
use std::time::Instant;

use crate::{Action, AllocationId, Client, Config, Counters, Framing, Input, Now, Output};

/// The TURN server. It owns all allocations; what clients send is forwarded in place.
#[derive(Debug)]
pub struct Server {
    config: Config,
    counters: Counters,
}

impl Server {
    /// `seed` keys nonces, reservation tokens and hashes.
    pub fn new(config: Config, _seed: [u8; 32], _now: Now) -> Self {
        Server { config, counters: Counters::default() }
    }

    /// Takes a datagram of a client, or one frame of its stream: a STUN message or ChannelData with its padding.
    pub fn receive(&mut self, _client: Client, _bytes: &[u8], _now: Now) -> Action<'_> {
        Action::Nothing
    }

    /// How `datagrams` payloads of `payload_bytes` bytes each are wrapped that `peer` sends to an allocation; `None` if they
    /// are dropped: no allocation, no permission, no bandwidth. Data indications differ in nothing but their payload.
    pub fn to_client(
        &mut self,
        _allocation: AllocationId,
        _peer: SocketAddr,
        _payload_bytes: usize,
        _datagrams: usize,
        _now: Now,
    ) -> Option<Framing> {
        None
    }

    /// Takes something else that happened.
    pub fn handle(&mut self, _input: Input, _now: Now) {}

    /// The next thing to do, after each call of the others.
    pub fn poll(&mut self) -> Option<Output> {
        None
    }

    /// When [`Input::Tick`] is due.
    pub fn deadline(&self) -> Option<Instant> {
        None
    }

    /// Whether a client has an allocation.
    pub fn has_allocation(&self, _client: &Client) -> bool {
        false
    }

    /// What was counted.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// How it is set up.
    pub fn config(&self) -> &Config {
        &self.config
    }
}
