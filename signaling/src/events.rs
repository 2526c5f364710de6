//! The way of an event: may this socket speak, is it in a session, who handles it, and the one answer.

use std::sync::Arc;

use serde_json::value::RawValue;
use serde_json::{Value, json};
use sfu::Now;

use crate::Lobby;
use crate::api::{AckId, Output, SocketId};
use crate::code::{ErrorCode, Refused};
use crate::fact::{FactId, Reason};
use crate::limits::{Bucket, EVENTS, EXCESS, Rate};
use crate::seat::Place;
use crate::socket::{Socket, not_joined};
use crate::wire::{Fields, Verb, encode};

/// Where the answer to an event goes. It is consumed by [`Lobby::answer`], so that none is given twice.
#[derive(Debug)]
#[must_use = "every event is answered exactly once"]
pub(crate) struct Reply {
    pub(crate) socket: SocketId,
    ack: Option<AckId>,
    /// The event's name, for `session-error`.
    event: String,
}

/// The body of a positive ack, or why there is none.
pub(crate) type Answer = Result<Arc<RawValue>, Refused>;

/// What was granted: the ack's body, the fact that must be written down before it leaves, and whether what follows waits with it.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) body: Arc<RawValue>,
    pub(crate) after: Option<FactId>,
    pub(crate) gates: bool,
}

impl From<Arc<RawValue>> for Outcome {
    fn from(body: Arc<RawValue>) -> Self {
        Outcome { body, after: None, gates: false }
    }
}

/// `{ ok: true }`.
pub(crate) fn accepted() -> Answer {
    Ok(encode(&json!({ "ok": true })))
}

impl Lobby {
    pub(crate) fn event(&mut self, id: SocketId, name: &str, payload: Value, ack: Option<AckId>, now: Now) {
        let (reply, is_open) = self.reply(id, name, ack);
        let Some(socket) = self.sockets.get_mut(&id).filter(|_| is_open) else {
            return self.answer_closed(reply);
        };
        let known = Verb::parse(name);
        let (granted, place) = (socket.events.take(EVENTS, now.mono), socket.place);
        if !granted {
            return self.answer_limited(reply, now);
        }
        match (known, place) {
            (None, _) => {
                let why = format!("There is no event \"{}\".", reply.event);
                self.answer(reply, Err(ErrorCode::InvalidRequest.because(why)));
            }
            (Some(Verb::Join), _) => self.join_event(reply, &payload, now),
            (Some(verb), None) if verb.waits() => self.hold(reply, verb, payload, now),
            (Some(verb), _) => self.dispatch(reply, verb, &payload, now),
        }
    }

    /// Where the answer to an event goes, and whether its socket may still be heard.
    pub(crate) fn reply(&self, id: SocketId, name: &str, ack: Option<AckId>) -> (Reply, bool) {
        let reply = Reply { socket: id, ack, event: name.chars().take(64).collect() };
        (reply, self.sockets.get(&id).is_some_and(|s| !s.closing))
    }

    /// Answers what was sent before the client learnt that we disconnected it: whoever waits for an ack shall not wait for
    /// ever.
    pub(crate) fn answer_closed(&mut self, reply: Reply) {
        if reply.ack.is_some() {
            let why = not_joined("The server has closed this connection.");
            self.answer(reply, Err(why));
        }
    }

    /// Handles an event of the socket's session and answers it.
    pub(crate) fn dispatch(&mut self, reply: Reply, verb: Verb, payload: &Value, now: Now) {
        let answer = self.act(reply.socket, verb, payload, now);
        match answer {
            Err(why) if why.code == ErrorCode::RateLimited => self.answer_limited(reply, now),
            outcome => self.finish(reply, outcome),
        }
    }

    fn act(&mut self, socket: SocketId, verb: Verb, payload: &Value, now: Now) -> Result<Outcome, Refused> {
        let fields = Fields::of(payload)?;
        if verb == Verb::Leave && self.sockets.get(&socket).is_some_and(|s| s.waits.is_some()) {
            self.stop_waiting(socket, &|| not_joined("You left before you were admitted."));
            return accepted().map(Outcome::from);
        }
        let place = self.place(socket, fields)?;
        let answer = match verb {
            Verb::Join => Err(ErrorCode::Internal.because("A join is not an event of a session.")),
            Verb::Leave => {
                self.leave(place, Reason::Left);
                // Who is told that it has left is never said to have been cut off.
                let after = Some(FactId(self.facts));
                return accepted().map(|body| Outcome { body, after, gates: false });
            }
            Verb::Offer | Verb::Answer | Verb::Candidate => self.signal(socket, place, verb, fields, payload, now),
            Verb::Chat => return self.chat(socket, place, fields, now),
            Verb::Subscription => self.subscription(place, fields),
            Verb::TrackUpdate => self.track_update(place, fields),
            Verb::RaiseHand => self.raise_hand(socket, place, fields, now),
            Verb::Reaction => self.reaction(socket, place, fields, now),
            Verb::Moderate => return self.moderate_event(place, fields, now),
        };
        answer.map(Outcome::from)
    }

    /// The seat that a socket speaks for; if the event names a session, it must be that one.
    fn place(&self, socket: SocketId, fields: Fields<'_>) -> Result<Place, Refused> {
        let place = self.sockets.get(&socket).and_then(|s| s.place);
        let place = place.ok_or_else(|| not_joined("Join a session first."))?;
        match fields.name("sessionId", crate::limits::NAME_CHARS_MAX)? {
            Some(named) if self.sessions.get(&named) != Some(&place.room) => {
                Err(not_joined("You are not in that session: join it first."))
            }
            _ => Ok(place),
        }
    }

    /// Takes from one of a socket's narrower rates.
    pub(crate) fn spend(
        &mut self,
        socket: SocketId,
        bucket: fn(&mut Socket) -> &mut Bucket,
        rate: Rate,
        now: Now,
    ) -> Result<(), Refused> {
        let granted = self.sockets.get_mut(&socket).is_none_or(|s| bucket(s).take(rate, now.mono));
        if granted { Ok(()) } else { Err(slow_down()) }
    }

    /// Refuses an event for its rate, and disconnects a socket that does not slow down.
    pub(crate) fn answer_limited(&mut self, reply: Reply, now: Now) {
        let id = reply.socket;
        let patience = self.sockets.get_mut(&id).is_none_or(|s| s.excess.take(EXCESS, now.mono));
        // A flooder's events without ack are not answered one by one.
        if reply.ack.is_some() || patience {
            self.answer(reply, Err(slow_down()));
        }
        if patience {
            return;
        }
        let place = self.sockets.get(&id).and_then(|s| s.place);
        self.close(id, ErrorCode::RateLimited.because("Disconnected: far too many events."), "disconnect");
        if let Some(place) = place {
            self.leave(place, Reason::Disconnected);
        }
    }

    /// Gives the one answer to an event: an ack if one was asked for, else `session-error` if there is something to say.
    pub(crate) fn answer(&mut self, reply: Reply, answer: Answer) {
        self.finish(reply, answer.map(Outcome::from));
    }

    /// The same, where a fact may have to be written down first.
    pub(crate) fn finish(&mut self, reply: Reply, outcome: Result<Outcome, Refused>) {
        let Reply { socket, ack, event } = reply;
        let Some(ack) = ack else {
            if let Err(why) = outcome {
                self.session_error(socket, &why, &event);
            }
            return;
        };
        let refusal = |why: Refused| {
            encode(&json!({ "ok": false, "error": { "code": why.code.as_str(), "message": why.message } }))
        };
        let Outcome { body, after, gates } = outcome.unwrap_or_else(|why| refusal(why).into());
        self.out.push_back(Output::Ack { socket, ack, body, after, gates });
    }
}

fn slow_down() -> Refused {
    ErrorCode::RateLimited.because("Too many events: wait a moment and send fewer.")
}
