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

use serde::de::{Deserializer as _, IgnoredAny, SeqAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;
use signaling::SocketId;
use socketioxide::adapter::LocalAdapter;
use socketioxide::extract::AckSender;
use socketioxide::handler::{
    ConnectHandler, ConnectMiddleware, DisconnectHandler, FromMessageParts, MessageHandler, Value as Raw,
};
use socketioxide::layer::SocketIoLayer;
use socketioxide::socket::{DisconnectReason, Socket};
use socketioxide::{SendError, SocketError, SocketIo};
use tokio::sync::mpsc;

use crate::control::{INBOX_MAX, Input};

/// A connected Socket.IO client.
pub(crate) type Client = Socket<LocalAdapter>;

/// Most bytes of one message or of one polling body.
pub(crate) const PAYLOAD_BYTES_MAX: u64 = 1_000_000;
/// Most bytes of one websocket message or frame.
const WS_MESSAGE_BYTES_MAX: usize = 1 << 20;
/// Packets that wait for one client. When full, the client is disconnected: it does not read.
const SEND_QUEUE_MAX: usize = 1_024;
/// Time from the Engine.IO handshake to the Socket.IO CONNECT packet.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Events of one socket that control has not handled yet. When used up, the socket is disconnected.
const CREDIT_EVENTS_MAX: usize = 256;
/// Bytes of those events.
const CREDIT_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Longest event name kept; the rest of a longer one is cut off, it is unknown anyway.
const NAME_BYTES_MAX: usize = 64;
/// Times that one Engine.IO session may connect to the namespace; clients do so once. More is refused, so that connecting
/// and leaving in turn cannot fill the inbox.
const CONNECTS_MAX: usize = 16;
/// The part of the inbox, in slots, that new sockets must leave free for those that are there.
const INBOX_RESERVE: usize = INBOX_MAX / 4;
/// How soon a disconnect is tried again that found the send queue full.
const DISCONNECT_RETRY: Duration = Duration::from_millis(250);

/// The layer that serves `/socket.io/`, and the handle that closes all sockets at the end.
pub(crate) fn layer(inbox: mpsc::Sender<Input>) -> (SocketIoLayer, SocketIo) {
    let (layer, io) = SocketIo::builder()
        .req_path("/socket.io")
        .ping_interval(Duration::from_secs(10))
        .ping_timeout(Duration::from_secs(10))
        .connect_timeout(CONNECT_TIMEOUT)
        .max_payload(PAYLOAD_BYTES_MAX)
        .ws_max_message_size(WS_MESSAGE_BYTES_MAX)
        .ws_max_frame_size(WS_MESSAGE_BYTES_MAX)
        .max_buffer_size(SEND_QUEUE_MAX)
        .build_layer();
    let welcome = Welcome { inbox, next: Arc::new(AtomicU64::new(0)) };
    io.ns("/", (async || {}).with(welcome));
    (layer, io)
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
pub(crate) fn disconnect(client: Weak<Client>) {
    let full = |client: &Weak<Client>| match client.upgrade() {
        Some(client) => matches!(client.disconnect(), Err(SocketError::InternalChannelFull)),
        None => false,
    };
    if full(&client) {
        tokio::spawn(async move {
            while full(&client) {
                tokio::time::sleep(DISCONNECT_RETRY).await;
            }
        });
    }
}

/// Where a request came from, put into it by the listener. An Engine.IO session keeps that of its handshake.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    /// The connection's other end.
    pub(crate) address: SocketAddr,
    /// How often the session that this request opens, if it does, connected to the namespace.
    connects: Arc<AtomicUsize>,
}

impl Source {
    /// The source of a new request.
    pub(crate) fn new(address: SocketAddr) -> Self {
        Source { address, connects: Arc::default() }
    }
}

/// Numbers a socket and gives it its handlers before any of its events can come.
#[derive(Clone)]
struct Welcome {
    inbox: mpsc::Sender<Input>,
    next: Arc<AtomicU64>,
}

impl ConnectMiddleware<LocalAdapter, ()> for Welcome {
    async fn call<'a>(
        &'a self,
        client: Arc<Client>,
        _auth: &'a Option<Raw>,
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
        let socket = SocketId(self.next.fetch_add(1, Ordering::Relaxed));
        let address = source.address.ip().to_canonical();
        let connected = Input::Connected { socket, address, client: Arc::downgrade(&client) };
        self.inbox.try_send(connected).map_err(|_| refused("server/overloaded"))?;
        let edge = Arc::new(Edge {
            socket,
            inbox: self.inbox.clone(),
            gone: AtomicBool::new(false),
            budget: Arc::new(Budget::default()),
        });
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
    budget: Arc<Budget>,
}

impl Edge {
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

/// Events that control has not handled yet, and their bytes.
#[derive(Debug, Default)]
struct Budget {
    events: AtomicUsize,
    bytes: AtomicUsize,
}

/// One event's share of its socket's budget, given back when dropped.
#[derive(Debug)]
pub(crate) struct Credit {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Credit {
    /// `None` when the budget is used up.
    fn take(budget: &Arc<Budget>, bytes: usize) -> Option<Self> {
        let credit = Credit { budget: budget.clone(), bytes };
        let events = budget.events.fetch_add(1, Ordering::Relaxed) + 1;
        let bytes = budget.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        (events <= CREDIT_EVENTS_MAX && bytes <= CREDIT_BYTES_MAX).then_some(credit)
    }
}

impl Drop for Credit {
    fn drop(&mut self) {
        self.budget.events.fetch_sub(1, Ordering::Relaxed);
        self.budget.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
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
        let Some(credit) = Credit::take(&edge.budget, raw.len()) else {
            tracing::debug!(socket = edge.socket.0, "disconnected: it sends more than is handled");
            return disconnect(Arc::downgrade(&client));
        };
        let (name, payload) = match &raw {
            // Attachments have no place in this protocol: a payload with them counts as none.
            Raw::Str(text, attachments) => parse(text.as_str(), attachments.is_none()),
            Raw::Bytes(_) => (String::new(), Value::Null),
        };
        if edge.inbox.try_send(Input::Event { socket: edge.socket, name, payload, ack, credit }).is_err() {
            tracing::debug!(socket = edge.socket.0, "disconnected: the control inbox is full");
            disconnect(Arc::downgrade(&client));
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

/// Name and first argument of `["name", argument, …]`; `Null` for an argument that is missing, not JSON, or nested deeper
/// than `serde_json` goes (128).
fn parse(text: &str, with_payload: bool) -> (String, Value) {
    let mut event = Event { name: String::new(), payload: Value::Null };
    let mut json = serde_json::Deserializer::from_str(text);
    let whole = json.deserialize_seq(&mut event).is_ok() && json.end().is_ok();
    if !whole || !with_payload {
        event.payload = Value::Null;
    }
    (event.name, event.payload)
}

struct Event {
    name: String,
    payload: Value,
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
    fn a_long_name_is_cut_at_a_character() {
        let (name, _) = parse(&format!(r#"["{}"]"#, "é".repeat(100)), true);
        assert_eq!(name, "é".repeat(32));
    }

    #[test]
    fn credits_come_back() {
        let budget = Arc::new(Budget::default());
        let held: Vec<_> = (0..CREDIT_EVENTS_MAX).map(|_| Credit::take(&budget, 10)).collect();
        assert!(held.iter().all(Option::is_some));
        assert!(Credit::take(&budget, 10).is_none());
        drop(held);
        assert!(Credit::take(&budget, CREDIT_BYTES_MAX).is_some());
        assert!(Credit::take(&budget, CREDIT_BYTES_MAX + 1).is_none());
        assert_eq!((budget.events.load(Ordering::Relaxed), budget.bytes.load(Ordering::Relaxed)), (0, 0));
    }
}
