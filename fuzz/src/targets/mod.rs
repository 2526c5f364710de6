//! One function for each parser, from any bytes to assertions that hold whatever they are.

mod codecs;
pub mod datagram;
mod feedback;
pub mod mutate;
mod payload;
pub mod sctp;
pub mod sdp;
pub mod seeds;
mod signaling;
mod srtp;
pub mod turn;
mod turn_seeds;

pub use self::datagram::datagram;
pub use self::sctp::sctp;
pub use self::sdp::sdp;
pub use self::turn::{frames, turn};
pub use codecs::{keyframe, rtp, stun};
pub use feedback::{rtcp, twcc};
pub use payload::{descriptor, payload};
pub use signaling::signaling;
pub use srtp::srtp;

/// A target, as the ordinary tests run it.
pub struct Target {
    /// The name of its binary and of its corpus.
    pub name: &'static str,
    /// Panics when something does not hold.
    pub run: fn(&[u8]),
    /// Mutants that the ordinary tests try: as many as take about a second.
    pub mutants: usize,
}

/// All of them.
pub const TARGETS: [Target; 14] = [
    Target { name: "stun", run: stun, mutants: 5_000 },
    Target { name: "rtp", run: rtp, mutants: 5_000 },
    Target { name: "rtcp", run: rtcp, mutants: 5_000 },
    Target { name: "keyframe", run: keyframe, mutants: 5_000 },
    Target { name: "payload", run: payload, mutants: 5_000 },
    Target { name: "descriptor", run: descriptor, mutants: 2_000 },
    Target { name: "sdp", run: sdp, mutants: 300 },
    Target { name: "srtp", run: srtp, mutants: 1_000 },
    Target { name: "datagram", run: datagram, mutants: 60 },
    Target { name: "signaling", run: signaling, mutants: 200 },
    Target { name: "twcc", run: twcc, mutants: 2_000 },
    Target { name: "sctp", run: sctp, mutants: 1_000 },
    Target { name: "turn", run: turn, mutants: 1_000 },
    Target { name: "frames", run: frames, mutants: 5_000 },
];

/// Separates the records of a text corpus.
pub const RECORD_SEPARATOR: u8 = 0x1e;
