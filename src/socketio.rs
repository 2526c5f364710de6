//! The Socket.IO edge: turns what sockets do into control's inputs, in order, and refuses what is too much.
//!
//! `socketioxide` runs ordinary handlers in a task each, which loses the order of a socket's events. The handlers here
//! run in the connection's own reader and put into the inbox at once. The Engine.IO session id is a secret that would let
//! anyone take over a session: it is never logged or published; sockets have numbers of our own.

use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use axum::extract::{OriginalUri, Request};
use axum::http::header::{CONTENT_TYPE, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;
use serde::de::{Deserializer as _, IgnoredAny, SeqAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;
use signaling::limits::PING_EVERY;
use signaling::{ErrorCode, SocketId};
use socketioxide::adapter::LocalAdapter;
use socketioxide::extract::AckSender;
use socketioxide::handler::{
    ConnectHandler, ConnectMiddleware, DisconnectHandler, FromMessageParts, MessageHandler, Value as Raw,
};
use socketioxide::layer::SocketIoLayer;
use socketioxide::socket::{DisconnectReason, Socket};
use socketioxide::{SendError, SocketError, SocketIo, TransportType};
use tokio::sync::{mpsc, oneshot};

use crate::auth::Auth;
use crate::auth::rate::Rate;
use crate::clock;
use crate::control::{INBOX_MAX, Input};
use crate::credit::{Credits, Refused, Verdict};
use crate::heard::{self, Reads, Sessions};
use crate::seldom::Seldom;

/// A connected Socket.IO client.
pub(crate) type Client = Socket<LocalAdapter>;

/// Where it is served.
const PATH: &str = "/socket.io";
/// Most bytes of one message or of one polling body.
pub(crate) const PAYLOAD_BYTES_MAX: u64 = 1_000_000;
/// Most bytes of one websocket message or frame.
const WS_MESSAGE_BYTES_MAX: usize = 1 << 20;
/// Bytes read at once of a websocket, of which each keeps a buffer: clients say little, and a longer message gets the room that it needs.
const WS_READ_BYTES: usize = 1_024;
/// The headers of a request that the library reads. See [`lighten`].
const KEPT_HEADERS: [HeaderName; 3] = [CONTENT_TYPE, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION];
/// Packets that wait for one client: the answers to a flood up to its end, and a room's news. When full, the client is
/// disconnected: it does not read.
const SEND_QUEUE_MAX: usize = 2_048;
/// Time from the Engine.IO handshake to the Socket.IO CONNECT packet.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest event name kept; the rest of a longer one is cut off, it is unknown anyway.
const NAME_BYTES_MAX: usize = 64;
/// Times that one Engine.IO session may connect to the namespace; clients do so once. More is refused, so that connecting
/// and leaving in turn cannot fill the inbox.
const CONNECTS_MAX: usize = 16;
/// How long a handshake waits for the lobby, which takes microseconds unless it is stuck.
const VERDICT_MAX: Duration = Duration::from_secs(5);
/// Connections of one user to one session: so many at once, then one an interval; each may leave a trace in history. More are
/// `rate/limited`.
const PERSON: (u32, Duration) = (60, Duration::from_secs(2));
/// The part of the inbox, in slots, that new sockets must leave free for those that are there.
const INBOX_RESERVE: usize = INBOX_MAX / 4;
/// How soon a disconnect is tried again that found the send queue full.
const DISCONNECT_RETRY: Duration = Duration::from_millis(250);
/// How long a polling client gets to fetch its goodbye. Whatever it posts after the disconnect ends its session, and what
/// was not fetched by then is lost.
const POLL_GRACE: Duration = Duration::from_millis(500);

/// The layer that serves `/socket.io/`, and the handle that closes all sockets at the end.
pub(crate) fn layer(inbox: mpsc::Sender<Input>, sessions: Sessions, auth: Auth) -> (SocketIoLayer, SocketIo) {
    let (layer, io) = SocketIo::builder()
        .req_path(PATH)
        .ping_interval(PING_EVERY)
        .ping_timeout(Duration::from_secs(10))
        .connect_timeout(CONNECT_TIMEOUT)
        .max_payload(PAYLOAD_BYTES_MAX)
        .ws_max_message_size(WS_MESSAGE_BYTES_MAX)
        .ws_max_frame_size(WS_MESSAGE_BYTES_MAX)
        .ws_read_buffer_size(WS_READ_BYTES)
        .max_buffer_size(SEND_QUEUE_MAX)
        .build_layer();
    let people = Arc::new(Rate::new(PERSON.0, PERSON.1));
    let welcome = Welcome { inbox, sessions, auth, next: Arc::new(AtomicU64::new(0)), people };
    io.ns("/", (async || {}).with(welcome));
    (layer, io)
}

/// Leaves a request of Socket.IO what is needed of it. Its session keeps the request that opened it for as long as it lives, and with any
/// of its headers, or its address, the whole buffer of 8 KiB that they were read into.
pub(crate) async fn lighten(request: Request) -> Request {
    if !request.uri().path().starts_with(PATH) {
        return request;
    }
    let (mut parts, body) = request.into_parts();
    let mut kept = HeaderMap::with_capacity(KEPT_HEADERS.len());
    for name in KEPT_HEADERS {
        let copy = parts.headers.get(&name).and_then(|value| HeaderValue::from_bytes(value.as_bytes()).ok());
        copy.and_then(|copy| kept.insert(name, copy));
    }
    parts.headers = kept;
    // The router remembers the address as it was, and a copy of one that was read is one; of what is parsed anew it is not.
    parts.extensions.remove::<OriginalUri>();
    if let Ok(copy) = parts.uri.to_string().parse() {
        parts.uri = copy;
    }
    Request::from_parts(parts, body)
}

/// Emits; an error means that the client must be disconnected, since it would miss a message.
pub(crate) fn emit(client: &Client, event: &str, payload: &RawValue) -> Result<(), SendError> {
    match client.emit(event, payload) {
        // Its `Disconnected` is on the way.
        Err(SendError::Socket(SocketError::Closed)) => Ok(()),
        other => other,
    }
}

/// Answers the event that the client numbered `ack`; errors as [`emit`].
pub(crate) fn ack(client: &Arc<Client>, ack: i64, body: &RawValue) -> Result<(), SendError> {
    let mut nothing = Raw::Bytes(axum::body::Bytes::new());
    let sender = match AckSender::from_message_parts(client, &mut nothing, &Some(ack)) {
        Ok(sender) => sender,
        Err(impossible) => match impossible {},
    };
    match sender.send(body) {
        Err(SendError::Socket(SocketError::Closed)) => Ok(()),
        other => other,
    }
}

/// Disconnects by a Socket.IO disconnect packet. When the send queue has no room for it, it is tried again until it has,
/// or until the heartbeat or the write deadline ends the connection.
pub(crate) fn disconnect(client: &Arc<Client>) {
    let full = |client: &Weak<Client>| match client.upgrade() {
        Some(client) => matches!(client.disconnect(), Err(SocketError::InternalChannelFull)),
        None => false,
    };
    let is_polling = client.transport_type() == TransportType::Polling;
    let client = Arc::downgrade(client);
    if is_polling || full(&client) {
        tokio::spawn(async move {
            if is_polling {
                tokio::time::sleep(POLL_GRACE).await;
            }
            while full(&client) {
                tokio::time::sleep(DISCONNECT_RETRY).await;
            }
        });
    }
}

/// Where a request came from, put into it by the listener. An Engine.IO session keeps that of its handshake.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    /// The connection's other end; or whom a trusted proxy there asks for, without a port.
    pub(crate) address: SocketAddr,
    /// The other end is a trusted proxy that does not say for whom it asks.
    pub(crate) is_unnamed: bool,
    /// What the connection's reader tells of.
    pub(crate) reads: Reads,
    /// How often the session that this request opens, if it does, connected to the namespace.
    connects: Arc<AtomicUsize>,
}

impl Source {
    /// The source of a new request.
    pub(crate) fn new(address: SocketAddr, reads: Reads) -> Self {
        Source { address, is_unnamed: false, reads, connects: Arc::default() }
    }
}

/// Most bytes of what a client sends with its CONNECT; of more, nothing is read.
const HANDSHAKE_BYTES_MAX: usize = 16 * 1024;

/// The `token` of what `io(url, { auth })` sent; `None` if there is none. Two of them, or one that is no string, are invalid.
fn token(handshake: Option<&Raw>) -> Result<Option<String>, ErrorCode> {
    #[derive(Deserialize)]
    struct Handshake {
        token: Option<String>,
    }
    let Some(Raw::Str(text, _)) = handshake else { return Ok(None) };
    if text.len() > HANDSHAKE_BYTES_MAX {
        return Err(ErrorCode::AuthInvalid);
    }
    if !text.trim_start().starts_with('{') {
        return Ok(None);
    }
    let read: Result<Handshake, _> = serde_json::from_str(text);
    read.map(|handshake| handshake.token).map_err(|_| ErrorCode::AuthInvalid)
}

/// Numbers a socket, finds out whose it is, and gives it its handlers before any of its events can come.
#[derive(Clone)]
struct Welcome {
    inbox: mpsc::Sender<Input>,
    sessions: Sessions,
    auth: Auth,
    next: Arc<AtomicU64>,
    /// How often each user of each session connects.
    people: Arc<Rate<(Arc<str>, Arc<str>)>>,
}

impl ConnectMiddleware<LocalAdapter, ()> for Welcome {
    async fn call<'a>(
        &'a self,
        client: Arc<Client>,
        handshake: &'a Option<Raw>,
    ) -> Result<(), Box<dyn fmt::Display + Send>> {
        let refused = |code: &'static str| -> Box<dyn fmt::Display + Send> { Box::new(code) };
        let Some(source) = client.req_parts().extensions.get::<Source>() else {
            return Err(refused("internal"));
        };
        if source.connects.fetch_add(1, Ordering::Relaxed) >= CONNECTS_MAX {
            return Err(refused("rate/limited"));
        }
        if self.inbox.capacity() < INBOX_RESERVE {
            return Err(refused("server/overloaded"));
        }
        // The socket is none yet: no event of it comes before this has ended.
        let token = token(handshake.as_ref()).map_err(|why| refused(why.as_str()))?;
        let identity = self.auth.admit(token.as_deref(), clock::now().unix_ms).await;
        let identity = identity.map_err(|why| {
            static LINE: Seldom = Seldom::new();
            // The client hears the code alone; whoever made the token wants to know what is wrong with it.
            if let Some(more) = LINE.due() {
                tracing::info!(code = why.code.as_str(), why = why.message, more, "a connection was refused");
            }
            refused(why.code.as_str())
        })?;
        if let Some(identity) = &identity {
            let who = (identity.session.clone(), identity.user.clone());
            self.people.take(who, clock::now().mono).map_err(|_| refused("rate/limited"))?;
        }
        let socket = SocketId(self.next.fetch_add(1, Ordering::Relaxed));
        let address = source.address.ip().to_canonical();
        let heard = self.sessions.enter(client.id);
        if heard::is_websocket(&client.req_parts().uri) {
            source.reads.belong_to(&heard);
        }
        let (verdict, admitted) = oneshot::channel();
        let connected = Input::Connected { socket, address, client: Arc::downgrade(&client), heard, identity, verdict };
        self.inbox.try_send(connected).map_err(|_| refused("server/overloaded"))?;
        // From here on it says when the socket is gone, even if that is before the verdict.
        let edge =
            Arc::new(Edge { socket, inbox: self.inbox.clone(), gone: AtomicBool::new(false), credits: Arc::default() });
        match tokio::time::timeout(VERDICT_MAX, admitted).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(code))) => return Err(refused(code.as_str())),
            Ok(Err(_)) | Err(_) => return Err(refused("server/overloaded")),
        }
        // All names come by the one fallback: unknown ones must be answered too.
        client.on_fallback(OnEvent(edge.clone()));
        client.on_disconnect(OnDisconnect(edge));
        Ok(())
    }
}

/// What the handlers of one socket share. The socket owns it; when the socket vanishes without a disconnect (its
/// connection ended while it was being accepted), dropping this says so to control.
struct Edge {
    socket: SocketId,
    inbox: mpsc::Sender<Input>,
    gone: AtomicBool,
    credits: Arc<Credits>,
}

impl Edge {
    /// The inbox is full: the client is told so and sent away, and nothing more of it is heard.
    fn overloaded(&self, client: &Arc<Client>) {
        static LINE: Seldom = Seldom::new();
        self.credits.ignore();
        if let Some(more) = LINE.due() {
            tracing::warn!(socket = self.socket.0, more, "disconnected: the control inbox is full");
        }
        let why = serde_json::json!({
            "code": ErrorCode::Overloaded.as_str(),
            "message": "The server has too much to do: come back in a moment.",
            "event": "disconnect",
        });
        // A full send queue has room for the disconnect only.
        let _ = client.emit("session-error", &why);
        disconnect(client);
    }

    /// Says once that the socket is gone. It must not be lost: with a full inbox, a task waits for room.
    fn gone(&self, clean: bool) {
        if self.gone.swap(true, Ordering::Relaxed) {
            return;
        }
        let socket = self.socket;
        if let Err(mpsc::error::TrySendError::Full(input)) = self.inbox.try_send(Input::Disconnected { socket, clean })
        {
            let inbox = self.inbox.clone();
            tokio::spawn(async move {
                // Fails only when control is gone, and with it the need to know.
                let _ = inbox.send(input).await;
            });
        }
    }
}

impl Drop for Edge {
    fn drop(&mut self) {
        self.gone(false);
    }
}

/// Takes every event.
struct OnEvent(Arc<Edge>);

impl MessageHandler<LocalAdapter, ()> for OnEvent {
    fn call(&self, client: Arc<Client>, raw: Raw, ack: Option<i64>) {
        let edge = &self.0;
        if edge.gone.load(Ordering::Relaxed) {
            return;
        }
        let read = |with_payload: bool| match &raw {
            // Attachments have no place in this protocol: a payload with them counts as none.
            Raw::Str(text, attachments) => parse(text.as_str(), with_payload && attachments.is_none()),
            Raw::Bytes(_) => (String::new(), Value::Null),
        };
        let verdict = edge.credits.judge(raw.len(), || Refused { name: read(false).0, ack });
        let socket = edge.socket;
        let input = match verdict {
            Verdict::Granted(credit) => {
                let (name, payload) = read(true);
                Input::Event { socket, name, payload, ack, came: clock::now().mono, credit }
            }
            Verdict::Refused { is_new_row: true } => Input::Refused { socket, credits: edge.credits.clone() },
            Verdict::Refused { is_new_row: false } | Verdict::Ignored => return,
        };
        if edge.inbox.try_send(input).is_err() {
            edge.overloaded(&client);
        }
    }
}

struct OnDisconnect(Arc<Edge>);

impl DisconnectHandler<LocalAdapter, ()> for OnDisconnect {
    fn call_with_defer(&self, client: Arc<Client>, reason: DisconnectReason, defer: fn(Arc<Client>)) {
        // A closed transport is no goodbye: tabs are closed and laptops shut that way, and they may come back.
        self.0.gone(matches!(reason, DisconnectReason::ClientNSDisconnect));
        defer(client);
    }
}

/// Name and first argument of `["name", argument, …]`; `Null` for an argument that is not asked for, missing, not JSON, or
/// nested deeper than `serde_json` goes (128).
fn parse(text: &str, with_payload: bool) -> (String, Value) {
    let mut event = Event { name: String::new(), payload: Value::Null, with_payload };
    let mut json = serde_json::Deserializer::from_str(text);
    let whole = json.deserialize_seq(&mut event).is_ok() && json.end().is_ok();
    if !whole {
        event.payload = Value::Null;
    }
    (event.name, event.payload)
}

struct Event {
    name: String,
    payload: Value,
    with_payload: bool,
}

impl<'de> Visitor<'de> for &mut Event {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an event's array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let mut name: String = items.next_element()?.unwrap_or_default();
        name.truncate(name.floor_char_boundary(NAME_BYTES_MAX));
        self.name = name;
        if !self.with_payload {
            // What follows is not read; that the array has no end then is no matter.
            return Ok(());
        }
        self.payload = items.next_element()?.unwrap_or_default();
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn name_and_first_argument_are_found() {
        assert_eq!(parse(r#"["a",{"b":1},2,[3]]"#, true), ("a".to_owned(), json!({ "b": 1 })));
        assert_eq!(parse(r#"["a"]"#, true), ("a".to_owned(), Value::Null));
        assert_eq!(parse(r#"["a",1]"#, false), ("a".to_owned(), Value::Null));
    }

    #[test]
    fn what_is_not_json_keeps_its_name_and_loses_its_payload() {
        for bad in [r#"["a",{]"#, r#"["a",1"#, r#"["a",1] x"#, r#"["a",1,"#] {
            assert_eq!(parse(bad, true), ("a".to_owned(), Value::Null), "{bad}");
        }
        let deep = format!(r#"["a",{}{}]"#, "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(parse(&deep, true), ("a".to_owned(), Value::Null));
        assert_eq!(parse("{}", true), (String::new(), Value::Null));
    }

    #[test]
    fn a_handshake_has_one_token_or_none() {
        let token = |text: &str| token(Some(&Raw::Str(text.to_owned().into(), None)));
        assert_eq!(token(r#"{"token":"a.b.c","other":1}"#), Ok(Some("a.b.c".to_owned())));
        for none in ["{}", r#"{"token":null}"#, "", "null", "[]", r#""a.b.c""#] {
            assert_eq!(token(none), Ok(None), "{none}");
        }
        let long = format!(r#"{{"token":"{}"}}"#, "a".repeat(HANDSHAKE_BYTES_MAX));
        for bad in
            [r#"{"token":["a","b"]}"#, r#"{"token":7}"#, r#"{"token":"a","token":"b"}"#, r#"{"token":"a""#, &long]
        {
            assert_eq!(token(bad), Err(ErrorCode::AuthInvalid), "{bad}");
        }
    }

    #[tokio::test]
    async fn a_session_keeps_nothing_of_the_buffer_that_its_request_was_read_into() {
        let request = |path: &str| {
            let builder = Request::builder().uri(format!("{path}?EIO=4&transport=websocket"));
            let builder = builder.header("cookie", "a=b").header("sec-websocket-key", "dGhl").header("user-agent", "x");
            builder
                .extension(7_u8)
                .extension(OriginalUri(path.parse().expect("a path")))
                .body(axum::body::Body::from("body"))
                .expect("a request")
        };
        let light = lighten(request("/socket.io/")).await;
        assert_eq!(light.uri(), "/socket.io/?EIO=4&transport=websocket");
        assert_eq!(
            (light.headers().len(), &light.headers()["sec-websocket-key"]),
            (1, &HeaderValue::from_static("dGhl"))
        );
        assert_eq!(light.extensions().get(), Some(&7_u8), "who asks goes along");
        assert!(light.extensions().get::<OriginalUri>().is_none());
        assert_eq!(lighten(request("/api/health")).await.headers().len(), 3, "others are none of its business");
    }

    #[test]
    fn a_long_name_is_cut_at_a_character() {
        let (name, _) = parse(&format!(r#"["{}"]"#, "é".repeat(100)), true);
        assert_eq!(name, "é".repeat(32));
    }
}
