//! The SFU as a whole, through its public methods and in virtual time: real handshakes, real keys, hostile bytes.
#![allow(clippy::disallowed_methods)]

mod abuse;
mod allocation;
mod audio;
mod data;
mod downlink;
mod floor;
mod layers;
mod media;
mod negotiation;
mod paths;
mod pipes;
mod program;
mod quality;
mod relayed;
mod reports;
mod rights;
mod roam;
mod sctp;
mod snapshot;
mod tab;
mod transport;
mod world;
