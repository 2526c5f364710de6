//! Sockets: how they come and go, what they may cost, and the events that come before the join.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sfu::Now;

use crate::access::Identity;
use crate::api::{Output, Recipients, SocketId};
use crate::code::{ErrorCode, Refused};
use crate::events::Reply;
use crate::fact::{Fact, Reason};
use crate::limits::*;
use crate::seat::Place;
use crate::waiting::QueueId;
use crate::wire::{Verb, encode};
use crate::{Lobby, Timer};

/// A Socket.IO connection.
#[derive(Debug)]
pub(crate) struct Socket {
    address: IpAddr,
    /// What its token says; `None` in open mode.
    pub(crate) identity: Option<Arc<Identity>>,
    /// The seat that it speaks for.
    pub(crate) place: Option<Place>,
    /// Its join waits to be admitted.
    pub(crate) waits: Option<QueueId>,
    /// It had a seat once.
    pub(crate) has_joined: bool,
    /// We disconnected it; until the shell says that it is gone, all that it sends is refused.
    pub(crate) closing: bool,
    pub(crate) events: Bucket,
    pub(crate) excess: Bucket,
    pub(crate) joins: Bucket,
    pub(crate) chats: Bucket,
    pub(crate) offers: Bucket,
    pub(crate) gestures: Bucket,
    early: VecDeque<Early>,
    early_bytes: usize,
    early_due: Option<Instant>,
}

/// An event that waits for the join.
#[derive(Debug)]
pub(crate) struct Early {
    pub(crate) reply: Reply,
    pub(crate) verb: Verb,
    pub(crate) payload: Value,
    bytes: usize,
    until: Instant,
}

impl Lobby {
    /// Whether a socket may connect: asked before, so that whoever may not hears why as the answer to its handshake. A socket that is not
    /// connected yet can be told nothing else.
    pub fn admits(&self, address: IpAddr, identity: Option<&Identity>) -> Result<(), Refused> {
        if self.addresses.get(&address).is_some_and(|count| *count >= SOCKETS_PER_ADDRESS_MAX) {
            return Err(too_many());
        }
        self.check_token(identity)
    }

    pub(crate) fn connected(&mut self, socket: SocketId, address: IpAddr, identity: Option<Arc<Identity>>) {
        let fresh = Socket {
            address,
            identity,
            place: None,
            waits: None,
            has_joined: false,
            closing: false,
            events: Bucket::default(),
            excess: Bucket::default(),
            joins: Bucket::default(),
            chats: Bucket::default(),
            offers: Bucket::default(),
            gestures: Bucket::default(),
            early: VecDeque::new(),
            early_bytes: 0,
            early_due: None,
        };
        if self.sockets.contains_key(&socket) {
            return;
        }
        self.sockets.insert(socket, fresh);
        let count = self.addresses.entry(address).or_default();
        *count += 1;
        if *count > SOCKETS_PER_ADDRESS_MAX {
            return self.close(socket, too_many(), "connect");
        }
        let identity = self.sockets.get(&socket).and_then(|s| s.identity.clone());
        if let Err(why) = self.check_token(identity.as_deref()) {
            if let Some(s) = self.sockets.get_mut(&socket) {
                s.identity = None;
            }
            self.close(socket, why, "connect");
        }
    }

    pub(crate) fn disconnected(&mut self, id: SocketId, clean: bool, now: Now) {
        let why = || not_joined("The connection ended before the session was joined.");
        self.stop_waiting(id, &why);
        self.refuse_early(id, why);
        let Some(socket) = self.sockets.remove(&id) else {
            return;
        };
        if let Some(count) = self.addresses.get_mut(&socket.address) {
            *count -= 1;
            if *count == 0 {
                self.addresses.remove(&socket.address);
            }
        }
        if let Some(identity) = socket.identity.filter(|identity| !socket.has_joined && !identity.is_expired) {
            let (session, user) = (identity.session.clone(), identity.user.clone());
            self.record(Fact::Aborted { session, user, at: now.unix_ms });
        }
        let Some(place) = socket.place else { return };
        if clean {
            return self.leave(place, Reason::Left);
        }
        let own = self.rooms.get(&place.room).and_then(|room| room.settings.grace_ms);
        let until = now.mono + Duration::from_millis(own.unwrap_or(self.config.grace_ms));
        let Some(seat) = self.seat_mut(place) else {
            return;
        };
        seat.socket = None;
        let old = seat.grace_until.replace(until);
        if let Some(peer) = &mut seat.peer {
            peer.new_socket();
        }
        self.rearm(Timer::Grace(place), old, Some(until));
        self.line_changed(place);
    }

    /// Says why and disconnects a socket. Its seat is the caller's business.
    pub(crate) fn close(&mut self, id: SocketId, why: Refused, event: &str) {
        self.session_error(id, &why, event);
        self.stop_waiting(id, &|| why.clone());
        self.refuse_early(id, || why.clone());
        if let Some(socket) = self.sockets.get_mut(&id) {
            socket.place = None;
            socket.closing = true;
            self.out.push_back(Output::Disconnect { socket: id });
        }
    }

    pub(crate) fn session_error(&mut self, socket: SocketId, why: &Refused, event: &str) {
        let payload = json!({ "code": why.code.as_str(), "message": why.message, "event": event });
        self.emit(Recipients::One(socket), "session-error", &payload);
    }

    /// Keeps an event until its socket's join, or refuses it when too much waits.
    pub(crate) fn hold(&mut self, reply: Reply, verb: Verb, payload: Value, now: Now) {
        let bytes = encode(&payload).get().len();
        let until = now.mono + EARLY_WAIT;
        let Some(socket) = self.sockets.get_mut(&reply.socket) else {
            return;
        };
        if socket.early.len() >= EARLY_EVENTS_MAX || socket.early_bytes + bytes > EARLY_BYTES_MAX {
            let why = not_joined("Join a session first: too many events wait for it already.");
            return self.answer(reply, Err(why));
        }
        let id = reply.socket;
        socket.early_bytes += bytes;
        socket.early.push_back(Early { reply, verb, payload, bytes, until });
        self.rearm_early(id);
    }

    /// All that waits on a socket, in order.
    pub(crate) fn take_early(&mut self, id: SocketId) -> VecDeque<Early> {
        let Some(socket) = self.sockets.get_mut(&id) else {
            return VecDeque::new();
        };
        socket.early_bytes = 0;
        let early = std::mem::take(&mut socket.early);
        self.rearm_early(id);
        early
    }

    pub(crate) fn early_expired(&mut self, id: SocketId, now: Now) {
        let Some(socket) = self.sockets.get_mut(&id) else {
            return;
        };
        socket.early_due = None;
        let count = socket.early.iter().take_while(|e| e.until <= now.mono).count();
        let expired: Vec<Early> = socket.early.drain(..count).collect();
        socket.early_bytes -= expired.iter().map(|e| e.bytes).sum::<usize>();
        self.rearm_early(id);
        for early in expired {
            self.answer(early.reply, Err(not_joined("Join a session first.")));
        }
    }

    fn refuse_early(&mut self, id: SocketId, why: impl Fn() -> Refused) {
        for early in self.take_early(id) {
            self.answer(early.reply, Err(why()));
        }
    }

    fn rearm_early(&mut self, id: SocketId) {
        let Some(socket) = self.sockets.get_mut(&id) else {
            return;
        };
        let next = socket.early.front().map(|e| e.until);
        let old = std::mem::replace(&mut socket.early_due, next);
        self.rearm(Timer::Early(id), old, next);
    }
}

fn too_many() -> Refused {
    ErrorCode::RateLimited.because("Too many connections from your address: close some and try again.")
}

pub(crate) fn not_joined(message: &str) -> Refused {
    ErrorCode::NotJoined.because(message)
}
