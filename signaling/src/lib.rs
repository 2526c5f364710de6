//! Who is in which room and what may be said: wire messages, seats, roles, limits. A pure machine.
#![cfg_attr(test, allow(clippy::disallowed_methods))]

mod api;

pub use api::*;

use std::time::Instant;

/// All rooms as people see them.
#[derive(Debug, Default)]
pub struct Lobby {}

/// How the lobby is set up.
#[derive(Clone, Debug)]
pub struct Config {
    /// Media workers, at least 1: rooms are spread over them.
    pub workers: usize,
    /// `iceServers` of the join ack, as `RTCIceServer` objects.
    pub ice_servers: Vec<serde_json::Value>,
    /// How long a dropped socket keeps its seat, ms.
    pub grace_ms: u64,
}

/// Counts for metrics and health.
#[derive(Clone, Copy, Debug, Default)]
pub struct Gauges {
    /// Sockets connected.
    pub sockets: usize,
    /// Rooms with at least one seat.
    pub rooms: usize,
    /// Seats.
    pub participants: usize,
}

impl Lobby {
    /// A lobby whose randomness comes from `seed`.
    pub fn new(_config: Config, _seed: [u8; 32]) -> Self {
        Lobby {}
    }

    /// Takes one thing that happened. Never blocks, never fails.
    pub fn handle(&mut self, _input: Input, _now: Now) {}

    /// The next thing to do, or `None`.
    pub fn poll(&mut self) -> Option<Output> {
        None
    }

    /// When [`Input::Tick`] is due if nothing happens before.
    pub fn deadline(&self) -> Option<Instant> {
        None
    }

    /// Counts for metrics and health.
    pub fn gauges(&self) -> Gauges {
        Gauges::default()
    }
}
