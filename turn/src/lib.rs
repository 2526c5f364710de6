//! STUN (RFC 8489) for Lyceum: the codec that the SFU's ICE needs. The TURN server will live here too.
#![cfg_attr(test, allow(clippy::disallowed_methods))]

pub mod stun;

use std::time::Instant;

/// The present moment, as the shell read it once for a batch of work. The machines never read a clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Monotonic time: all durations and deadlines.
    pub mono: Instant,
    /// Wall clock, milliseconds since 1970 UTC: labels only.
    pub unix_ms: u64,
}
