//! The TURN server as its clients and its shell see it, in virtual time.
#![allow(clippy::disallowed_methods)]

mod allocate;
mod credentials;
mod data;
mod model;
mod permit;
mod policy;
mod quota;
mod sockets;
mod world;
