//! The words in which the shell speaks to the lobby.

use std::net::IpAddr;
use std::sync::Arc;

use serde_json::Value;
use serde_json::value::RawValue;

pub use sfu::Now;

pub use crate::code::Refused;

/// A Socket.IO connection, numbered by the shell; never the Engine.IO session id, which is a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SocketId(pub u64);

/// An ack that a client waits for: unique per socket, given back in [`Output::Ack`] exactly once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AckId(pub i64);

/// A media worker thread, `0..workers`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkerId(pub usize);

/// An HTTP request that waits for the lobby, numbered by the shell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HttpId(pub u64);

/// What WHIP (RFC 9725) and WHEP clients ask. Strings are a stranger's: any length that HTTP lets through.
#[derive(Clone, Debug)]
pub enum Ask {
    /// Publish as a participant (WHIP).
    Publish {
        /// Where.
        session: String,
        /// As whom.
        user: String,
        /// Its name, by default the user.
        name: Option<String>,
        /// It teaches.
        instructor: bool,
        /// The offer.
        sdp: String,
    },
    /// Play what a session shows (WHEP).
    Play {
        /// Which.
        session: String,
        /// Only what this participant publishes.
        participant: Option<String>,
        /// The offer.
        sdp: String,
    },
    /// Candidates, which an ICE-lite server needs not, or an ICE restart.
    Patch {
        /// Which resource.
        resource: String,
        /// The ICE session that the client knows, as [`Granted`] gave it; `None` for any.
        etag: Option<u64>,
        /// The new ufrag and password of a restart.
        credentials: Option<(String, String)>,
    },
    /// End it.
    End {
        /// Which resource.
        resource: String,
    },
}

/// What was granted to a WHIP or WHEP client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Granted {
    /// The resource is there.
    Created {
        /// Its id: a secret, for whoever knows it may end it.
        resource: Arc<str>,
        /// Which ICE session this is.
        etag: u64,
        /// The answer.
        sdp: String,
        /// `RTCIceServer` objects for `Link` headers.
        ice_servers: Vec<Value>,
    },
    /// ICE was restarted.
    Restarted {
        /// Which ICE session this is.
        etag: u64,
        /// The answer.
        sdp: String,
    },
    /// Nothing to say.
    Done,
}

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
    /// A WHIP or WHEP client asks for something; [`Output::Reply`] answers it exactly once.
    Ask {
        /// Which request.
        http: HttpId,
        /// Its source address, for limits per address.
        address: IpAddr,
        /// What.
        ask: Ask,
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
    /// Answer an HTTP request.
    Reply {
        /// Which.
        http: HttpId,
        /// What was granted, or why not.
        reply: Result<Granted, Refused>,
    },
    /// End a socket by a Socket.IO disconnect, after which clients do not come back by themselves.
    Disconnect {
        /// Which.
        socket: SocketId,
    },
    /// Tell the TURN server that a holder may open allocations: once for each, before any credential of it leaves.
    Grant {
        /// A `participantId`, or what stands for a viewer: it is behind the expiry in the username.
        holder: Arc<str>,
    },
    /// Tell the TURN server that a granted holder has gone: once for each, and never again anything of that name.
    Revoke {
        /// Who.
        holder: Arc<str>,
    },
    /// Ask a worker's SFU.
    Media {
        /// Which worker.
        worker: WorkerId,
        /// What.
        request: sfu::Request,
    },
}
