//! The words in which the shell speaks to the lobby.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use serde_json::Value;
use serde_json::value::RawValue;
use sfu::Source;

pub use sfu::Now;

use crate::access::{Identity, Role};
use crate::attendance::Open;
pub use crate::code::Refused;
use crate::fact::{Fact, FactId};
use crate::room::RoomSettings;

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
        /// Whose token came; it says who and where, whatever stands below. `None` in open mode.
        identity: Option<Arc<Identity>>,
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
        /// Whose token came; it must be for this session and may subscribe. `None` in open mode.
        identity: Option<Arc<Identity>>,
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

/// Who asks over HTTP, apart from WHIP and WHEP.
#[derive(Clone, Debug)]
pub enum Actor {
    /// The operator or the application: admin key, admin token or API key pair.
    Operator,
    /// Somebody with a join token, which must be for the session and may moderate it.
    Member(Arc<Identity>),
}

/// What a moderator does: `moderate`'s `action`, and the routes that say the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// `mute`: one participant, one source of it or all.
    Mute,
    /// `mute-all`: everybody but those who may moderate.
    MuteAll,
    /// `ask-unmute`: asks; nobody is ever unmuted by others.
    AskUnmute,
    /// `remove`: for this meeting, whatever token comes.
    Remove,
    /// `promote`: to the role named, by default instructor, until the meeting ends.
    Promote,
    /// `lower-hands`: one or all.
    LowerHands,
    /// `lock`: nobody new gets in.
    Lock,
    /// `unlock`.
    Unlock,
    /// `admit`: out of the waiting room, one or all.
    Admit,
    /// `end`: the meeting, for all.
    End,
}

impl Action {
    /// The word on the wire.
    pub fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "mute" => Action::Mute,
            "mute-all" => Action::MuteAll,
            "ask-unmute" => Action::AskUnmute,
            "remove" => Action::Remove,
            "promote" => Action::Promote,
            "lower-hands" => Action::LowerHands,
            "lock" => Action::Lock,
            "unlock" => Action::Unlock,
            "admit" => Action::Admit,
            "end" => Action::End,
            _ => return None,
        })
    }
}

/// What the application asks over HTTP; [`Output::Reply`] answers each exactly once, with [`Granted::Answer`] or why not.
#[derive(Clone, Debug)]
pub enum Command {
    /// The live rooms: `{ sessions: [...] }`. For operators only.
    Sessions,
    /// One live room with its participants; `session/not_live` if there is none.
    Session {
        /// Which.
        session: String,
    },
    /// Moderates, by the same rules and with the same codes as the `moderate` event.
    Moderate {
        /// Where.
        session: String,
        /// What.
        action: Action,
        /// Whom, where the action is about one.
        participant: Option<String>,
        /// Of its tracks, only those of this source.
        source: Option<Source>,
        /// To which role ([`Action::Promote`]).
        role: Option<Role>,
    },
    /// How media flows in a live room: `{ participants: [...], truncated }`, answered by the room's worker. For operators only.
    Media {
        /// Which.
        session: String,
        /// Only of this participant, and then what it gets, too.
        participant: Option<Arc<str>>,
    },
    /// TURN credentials for whoever was just given a join token: `{ iceServers: [...] }`. They end with the token, or when
    /// its user is removed.
    IceServers {
        /// Whom.
        identity: Arc<Identity>,
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
    /// The body of an answer to a [`Command`].
    Answer(Value),
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
        /// What its token says; `None` in open mode, where clients are believed.
        identity: Option<Arc<Identity>>,
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
        /// When the last packet of it came: its proof of life.
        heard: Instant,
    },
    /// When packets of sockets last came, every [`crate::limits::HEARTBEAT_EVERY`]: it makes the heartbeat ([`Fact::Activity`]).
    Heard {
        /// Each that is connected.
        sockets: Vec<(SocketId, Instant)>,
    },
    /// The server is about to end, having said so: a last heartbeat, then all connections end, as [`crate::Reason::Disconnected`].
    /// Their meetings stay open for whoever follows us. Nobody gets in any more: `server/draining`.
    Stop {
        /// When packets of each socket last came.
        sockets: Vec<(SocketId, Instant)>,
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
    /// The application asks for something; [`Output::Reply`] answers it exactly once.
    Command {
        /// Which request.
        http: HttpId,
        /// Who asks.
        actor: Actor,
        /// What.
        command: Command,
    },
    /// The rules of a session, from now on; of a meeting that is on, too. `None`: the server's own.
    Settings {
        /// Which.
        session: Arc<str>,
        /// Its rules.
        settings: Option<Box<RoomSettings>>,
    },
    /// What a former boot left open: its meetings go on, and who was removed stays out. Before anything else.
    Restore {
        /// All connections in it are closed.
        open: Open,
    },
    /// What was said in a meeting that goes on, before the restart: late joiners are shown it as if nothing had been.
    Said {
        /// Which.
        meeting: Arc<str>,
        /// [`Fact::Chat`], oldest first; of more than [`crate::limits::CHAT_HISTORY_MAX`] the newest are kept.
        messages: Vec<Fact>,
    },
    /// A socket was given a new token, by [`Output::Renew`]: what is known of it now stands for the old one's.
    Renewed {
        /// Which.
        socket: SocketId,
        /// The new `jti`.
        token: Option<Arc<str>>,
        /// The new `exp`, Unix time in ms.
        expires_ms: u64,
    },
    /// A token that is withdrawn, as the store knows from a former boot or another node: it is refused from now on.
    Revoked {
        /// Its `jti`.
        token: Arc<str>,
        /// Its `exp`, Unix ms.
        expires_ms: u64,
    },
    /// Whether facts can be written down. While they cannot, nobody new gets in: `server/overloaded`.
    Recording {
        /// They can.
        possible: bool,
    },
    /// The server will end: every socket is told ([`crate::ErrorCode::Draining`] refuses who is new), and those with a seat keep it.
    Drain {
        /// When at the latest, Unix ms.
        deadline_ms: u64,
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
        /// It must not leave before this fact is committed to the journal.
        after: Option<FactId>,
        /// Nor may anything after it to this socket, which would mean nothing to the client: it is the ack of a join.
        gates: bool,
    },
    /// Answer an HTTP request.
    Reply {
        /// Which.
        http: HttpId,
        /// What was granted, or why not.
        reply: Result<Granted, Refused>,
        /// It must not leave before this fact is committed to the journal.
        after: Option<FactId>,
    },
    /// Write down what happened. Ids are given in order, without gaps.
    Fact {
        /// Its number.
        id: FactId,
        /// What.
        fact: Fact,
    },
    /// The token behind a seat ends soon: mint a new one with the same claims and emit it as `token`.
    Renew {
        /// To whom.
        socket: SocketId,
        /// What the new one says, but for its `jti` and `exp`.
        identity: Arc<Identity>,
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
