//! What people say and show: chat, hands, reactions.

use std::collections::VecDeque;
use std::sync::Arc;

use serde::ser::{Serialize, SerializeSeq, Serializer};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use sfu::Now;

use crate::Lobby;
use crate::api::SocketId;
use crate::code::{ErrorCode, Refused};
use crate::events::{Answer, Outcome, accepted};
use crate::fact::Fact;
use crate::limits::{
    CHAT_BYTES_MAX, CHAT_HISTORY_BYTES_MAX, CHAT_HISTORY_MAX, CHATS, EMOJI_BYTES_MAX, GESTURES, ID_CHARS_MAX,
};
use crate::room::Sent;
use crate::seat::Place;
use crate::wire::{Fields, encode};

/// What was said last in a meeting, as it was told: at most [`CHAT_HISTORY_MAX`] messages and [`CHAT_HISTORY_BYTES_MAX`], newest kept.
#[derive(Debug, Default)]
pub(crate) struct Said {
    messages: VecDeque<Arc<RawValue>>,
    bytes: usize,
}

impl Said {
    fn push(&mut self, message: Arc<RawValue>) {
        self.bytes += message.get().len();
        self.messages.push_back(message);
        while self.messages.len() > CHAT_HISTORY_MAX || self.bytes > CHAT_HISTORY_BYTES_MAX {
            let Some(oldest) = self.messages.pop_front() else { return };
            self.bytes -= oldest.get().len();
        }
    }
}

impl Serialize for Said {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(self.messages.len()))?;
        for message in &self.messages {
            list.serialize_element::<RawValue>(message)?;
        }
        list.end()
    }
}

/// A message as it is told.
fn told(session: &str, (id, message, at): (&str, &str, u64), (user, name): (&str, &str)) -> Value {
    json!({ "sessionId": session, "id": id, "message": message, "userId": user, "userName": name, "timestamp": at })
}

impl Lobby {
    /// What was said in a meeting before a restart, oldest first: it stands before what was said since.
    pub(crate) fn said_before(&mut self, meeting: &str, messages: &[Fact]) {
        let Some(room) = self.rooms.values_mut().find(|room| *room.meeting == *meeting) else { return };
        let since = std::mem::take(&mut room.said);
        for fact in messages {
            if let Fact::Chat { id, user, name, message, at, .. } = fact {
                room.said.push(encode(&told(&room.session, (id, message, *at), (user, name))));
            }
        }
        since.messages.into_iter().for_each(|message| room.said.push(message));
    }

    pub(crate) fn chat(
        &mut self,
        socket: SocketId,
        place: Place,
        fields: Fields<'_>,
        now: Now,
    ) -> Result<Outcome, Refused> {
        self.spend(socket, |s| &mut s.chats, CHATS, now)?;
        self.check_chat(place)?;
        let message = fields.text("message", CHAT_BYTES_MAX)?;
        let client_id = fields.name("clientId", ID_CHARS_MAX)?;
        let user = self.seat(place).map(|s| s.user.clone()).ok_or_else(gone)?;
        let known = client_id.as_deref().and_then(|c| self.person(place, &user)?.sent(c));
        if let Some(sent) = known {
            return Ok(Outcome { body: chat_ack(&sent.id, sent.timestamp), after: sent.fact, gates: false });
        }
        let id: Arc<str> = self.random_id("msg_", 16).into();
        let timestamp = self.at(place.room);
        let room = self.rooms.get_mut(&place.room).ok_or_else(gone)?;
        let name = room.seats.get(&place.seat).map(|s| s.name.clone()).ok_or_else(gone)?;
        let mut payload = told(&room.session, (&id, message, timestamp), (&user, &name));
        if let Some(client_id) = &client_id {
            payload["clientId"] = json!(&**client_id);
        }
        let payload = encode(&payload);
        room.said.push(payload.clone());
        let (to, meeting) = (room.sockets(None), room.meeting.clone());
        let fact =
            Fact::Chat { meeting, id: id.clone(), user: user.clone(), name, message: message.into(), at: timestamp };
        let after = Some(self.record(fact));
        let person = self.rooms.get_mut(&place.room).and_then(|room| room.people.get_mut(&user));
        if let Some((person, client_id)) = person.zip(client_id) {
            person.remember(Sent { client_id, id: id.clone(), timestamp, fact: after });
        }
        self.emit_raw(to, "chat-message", payload);
        Ok(Outcome { body: chat_ack(&id, timestamp), after, gates: false })
    }

    /// Refuses chat to whom token or room deny it.
    fn check_chat(&self, place: Place) -> Result<(), Refused> {
        if self.seat(place).is_some_and(|seat| seat.may().chat) {
            return Ok(());
        }
        Err(ErrorCode::Forbidden.because("You may not chat in this session: see permissions."))
    }

    /// Raises or lowers a hand; whether that changed anything.
    pub(crate) fn set_hand(&mut self, place: Place, raised: bool) -> bool {
        let Some(room) = self.rooms.get_mut(&place.room) else { return false };
        let Some(seat) = room.seats.get_mut(&place.seat).filter(|seat| seat.hand_raised != raised) else {
            return false;
        };
        seat.hand_raised = raised;
        let (user, participant) = (seat.user.clone(), seat.participant.clone());
        if raised {
            room.hands.push(place.seat);
        } else {
            room.hands.retain(|s| *s != place.seat);
        }
        let payload = json!({
            "participantId": &*participant,
            "userId": &*user,
            "raised": raised,
            "position": room.hand_position(place.seat),
        });
        let to = room.sockets(None);
        self.emit(to, "hand-raised", &payload);
        self.line_changed(place);
        true
    }

    fn person(&self, place: Place, user: &Arc<str>) -> Option<&crate::room::Person> {
        self.rooms.get(&place.room)?.people.get(user)
    }

    pub(crate) fn raise_hand(&mut self, socket: SocketId, place: Place, fields: Fields<'_>, now: Now) -> Answer {
        self.spend(socket, |s| &mut s.gestures, GESTURES, now)?;
        let raised = fields.required_flag("raised")?;
        let room = self.rooms.get(&place.room).ok_or_else(gone)?;
        let seat = room.seats.get(&place.seat).ok_or_else(gone)?;
        // Where the room's chat is off hands are what is left.
        if raised && !room.promoted(&seat.user, seat.given).permissions.chat {
            return Err(ErrorCode::Forbidden.because("You may not raise your hand in this session."));
        }
        self.set_hand(place, raised);
        let position = self.rooms.get(&place.room).map_or(0, |room| room.hand_position(place.seat));
        Ok(encode(&json!({ "ok": true, "position": position })))
    }

    pub(crate) fn reaction(&mut self, socket: SocketId, place: Place, fields: Fields<'_>, now: Now) -> Answer {
        self.spend(socket, |s| &mut s.gestures, GESTURES, now)?;
        self.check_chat(place)?;
        let emoji = fields.text("emoji", EMOJI_BYTES_MAX)?;
        let room = self.rooms.get(&place.room).ok_or_else(gone)?;
        let seat = room.seats.get(&place.seat).ok_or_else(gone)?;
        let payload = json!({ "participantId": &*seat.participant, "userId": &*seat.user, "emoji": emoji });
        let to = room.sockets(None);
        self.emit(to, "reaction", &payload);
        accepted()
    }
}

fn chat_ack(id: &str, timestamp: u64) -> Arc<serde_json::value::RawValue> {
    encode(&json!({ "ok": true, "id": id, "timestamp": timestamp }))
}

fn gone() -> Refused {
    ErrorCode::NotJoined.because("Join a session first.")
}
