//! STUN (RFC 8489) and TURN (RFC 8656) for Lyceum: the codec that the SFU's ICE needs too, and the TURN server as a pure
//! machine: datagrams, frames and time in; replies, and what is to be forwarded, out.
#![cfg_attr(test, allow(clippy::disallowed_methods))]

mod allocation;
mod answer;
mod api;
mod auth;
pub mod credential;
mod forward;
pub mod framing;
mod keyed;
mod nonce;
mod policy;
mod ports;
mod requests;
mod server;
pub mod stun;
mod table;
mod throttle;

pub use api::*;
pub use policy::is_special;
pub use server::Server;

use std::time::Instant;

/// The present moment, as the shell read it once for a batch of work. The machines never read a clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Monotonic time: all durations and deadlines.
    pub mono: Instant,
    /// Wall clock, milliseconds since 1970 UTC: labels only.
    pub unix_ms: u64,
}
