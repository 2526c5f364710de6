//! The words in which the shell speaks to the lobby.

use std::net::IpAddr;
use std::sync::Arc;

use serde_json::Value;
use serde_json::value::RawValue;

pub use sfu::Now;

/// A Socket.IO connection, numbered by the shell; never the Engine.IO session id, which is a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SocketId(pub u64);

/// An ack that a client waits for: unique per socket, given back in [`Output::Ack`] exactly once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AckId(pub i64);

/// A media worker thread, `0..workers`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkerId(pub usize);

/// What happened.
#[derive(Debug)]
pub enum Input {
    /// A socket connected and its origin was found good.
    Connected {
        /// Which.
        socket: SocketId,
        /// Its source address, for limits per address.
        address: IpAddr,
    },
    /// A socket emitted an event. All of one socket's events come in the order in which it sent them.
    Event {
        /// Which.
        socket: SocketId,
        /// The event's name, as sent: any string.
        name: String,
        /// Its first argument; `Null` if it had none or it was not JSON.
        payload: Value,
        /// The ack asked for.
        ack: Option<AckId>,
    },
    /// A socket emitted an event that the shell did not keep, because too many of its events waited. It comes in its turn,
    /// and counts as one refused for its rate.
    Refused {
        /// Which.
        socket: SocketId,
        /// The event's name, as sent.
        name: String,
        /// The ack asked for.
        ack: Option<AckId>,
    },
    /// A socket is gone.
    Disconnected {
        /// Which.
        socket: SocketId,
        /// The client said goodbye (a Socket.IO disconnect packet) rather than vanish.
        clean: bool,
    },
    /// A worker's SFU reports.
    Media {
        /// Which worker.
        worker: WorkerId,
        /// What.
        event: sfu::Event,
    },
    /// The deadline has come.
    Tick,
}

/// To whom an event goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recipients {
    /// One socket.
    One(SocketId),
    /// Several: the payload is encoded once for all.
    Many(Vec<SocketId>),
}

/// What to do about it.
#[derive(Debug)]
pub enum Output {
    /// Emit an event.
    Emit {
        /// To whom.
        to: Recipients,
        /// The event's name.
        event: &'static str,
        /// Its one argument, encoded once.
        payload: Arc<RawValue>,
    },
    /// Answer an event.
    Ack {
        /// Whose.
        socket: SocketId,
        /// Which.
        ack: AckId,
        /// `{ ok: true, … }` or `{ ok: false, error: { code, message } }`.
        body: Arc<RawValue>,
    },
    /// End a socket by a Socket.IO disconnect, after which clients do not come back by themselves.
    Disconnect {
        /// Which.
        socket: SocketId,
    },
    /// Ask a worker's SFU.
    Media {
        /// Which worker.
        worker: WorkerId,
        /// What.
        request: sfu::Request,
    },
}
