//! What one subscriber's downlink carries, and how video leaves towards it.
//!
//! The [`Controller`] estimates a rate from what the subscriber tells of arrivals, after Google's congestion control
//! (draft-ietf-rmcat-gcc-02): growing delay says *too much* ([`delay`]), loss says so where queues are short ([`loss`]),
//! the acknowledged rate says how much got through ([`acked`]), and [`rate`] draws the conclusion. A sender whose packets
//! are other people's video rarely fills a link, so growth is found out by probing ([`probe`]), never believed. The
//! [`Pacer`] spreads what is more than a frame's share. No sockets, no clocks: time is an argument.

mod acked;
mod controller;
mod delay;
mod fallback;
mod history;
mod loss;
mod pacer;
mod probe;
mod rate;

#[cfg(test)]
mod tests;

pub(crate) use controller::Controller;
pub(crate) use pacer::{Allowance, Pacer};

/// Microseconds since the controller began.
type Micros = u64;

/// Microseconds in a second, for sums in floating point.
const SECOND: f64 = 1_000_000.0;

/// Bits a second before anything is known: audio of a whole room and one middle layer of 360 lines. A link of 300 kbit/s
/// is overdriven by less than 2, which shows in a quarter of a second; faster ones are found by the first probes.
pub(crate) const START_BPS: f64 = 500_000.0;
/// The least that is ever estimated: audio, and a slide now and then. Below it nothing is left to save.
pub(crate) const MIN_BPS: f64 = 30_000.0;
/// The most that is ever estimated: 25 videos of 2 Mbit/s. More is neither probed for nor believed.
pub(crate) const MAX_BPS: f64 = 50_000_000.0;

/// What a packet is sent for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A packet of a track, for the first time.
    Media,
    /// A packet that was asked for again.
    Resend,
    /// Nothing but the measuring of the link.
    Padding,
}
