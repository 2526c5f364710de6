//! Who hears and sees whom: demux, ICE-lite, DTLS, SRTP, SDP, rooms, tracks, egress. A pure machine: datagrams,
//! requests and time go in; datagrams and events come out.
#![cfg_attr(test, allow(clippy::disallowed_methods))]

mod api;
mod dtls;
mod egress;
mod ice;
pub mod keyframe;
mod negotiation;
mod peer;
mod ring;
mod room;
pub mod rtcp;
pub mod rtp;
pub mod srtp;
mod subscription;
mod track;
pub mod twcc;

pub use api::*;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

/// Most entries of [`Event::Speakers`].
pub const SPEAKERS_MAX: usize = 5;

/// Session descriptions.
pub mod sdp {
    /// The longest description accepted, in bytes; a longer one is refused unread.
    pub const SDP_BYTES_MAX: usize = 256 * 1024;
}

/// The certificate of a process: ECDSA P-256, self-signed, with a random serial (Firefox refuses a serial that it has seen).
#[derive(Clone)]
pub struct Certificate {
    /// The certificate, DER.
    pub certificate_der: Vec<u8>,
    /// The private key, PKCS#8 DER.
    pub private_key_der: Vec<u8>,
}

/// How an SFU is set up; one per worker.
#[derive(Clone)]
pub struct Config {
    /// The DTLS certificate, shared by all workers.
    pub certificate: Arc<Certificate>,
    /// The addresses and port of this worker that go into SDP as UDP host candidates, best first.
    pub udp_candidates: Vec<SocketAddr>,
    /// The same for passive TCP candidates (none yet).
    pub tcp_candidates: Vec<SocketAddr>,
}

/// One worker's SFU.
pub struct Sfu {}

/// Point-in-time counts of one worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gauges {
    /// Rooms.
    pub rooms: usize,
    /// Peers.
    pub peers: usize,
    /// Peers whose ICE and DTLS are up.
    pub peers_connected: usize,
    /// Tracks.
    pub tracks: usize,
    /// Subscriptions.
    pub subscriptions: usize,
}

impl Sfu {
    /// An SFU whose randomness comes from `seed`.
    pub fn new(_config: Config, _seed: [u8; 32], _now: Now) -> Self {
        Sfu {}
    }

    /// Takes one thing that happened. Never blocks, never fails: what cannot be understood is dropped and counted.
    pub fn handle(&mut self, _input: Input<'_>, _now: Now) {}

    /// The hot path in: one datagram, decrypted in place. What it causes to be sent waits for [`Sfu::next_run`].
    pub fn receive(&mut self, _path: Path, _datagram: &mut [u8], _now: Now) {}

    /// The hot path out: the next run of datagrams to send, or `None` when all is sent. The shell may read its socket
    /// between two calls; nothing is lost by it.
    pub fn next_run(&mut self, _now: Now) -> Option<Run<'_>> {
        None
    }

    /// The next thing to do, or `None`. Events wait here, coalesced and bounded, while signaling is slow.
    pub fn poll(&mut self) -> Option<Output> {
        None
    }

    /// When [`Input::Tick`] is due if nothing happens before.
    pub fn deadline(&self) -> Option<Instant> {
        None
    }

    /// Counters since start.
    pub fn counters(&self) -> &Counters {
        unimplemented!("the machine comes with its first slice")
    }

    /// Point-in-time counts.
    pub fn gauges(&self) -> Gauges {
        Gauges::default()
    }
}
