//! The SFU as a whole, through its public methods and in virtual time: real handshakes, real keys, hostile bytes.
#![allow(clippy::disallowed_methods)]

mod abuse;
mod audio;
mod floor;
mod media;
mod negotiation;
mod paths;
mod program;
mod reports;
mod tab;
mod transport;
mod world;
