//! Load generator and benches: bots that join a running server, an in-memory forwarding bench through the real `Sfu`,
//! and the client machines that both and the whole-system tests share.
//!
//! This crate is a shell: it owns clocks, sockets and tasks, which the pure crates may not.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod alloc;
pub mod bot;
pub mod bots;
pub mod call;
pub mod dial;
pub mod floor;
pub mod forward;
pub mod hall;
pub mod idle;
pub mod inbound;
pub mod media;
pub mod metrics;
pub mod micro;
pub mod network;
pub mod peer;
pub mod report;
pub mod scale;
pub mod socketio;
pub mod sockets;
pub mod spread;
pub mod turn;
