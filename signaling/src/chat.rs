//! What people say and show: chat, hands, reactions.

use std::sync::Arc;

use serde_json::json;
use sfu::Now;

use crate::Lobby;
use crate::api::SocketId;
use crate::code::{ErrorCode, Refused};
use crate::events::{Answer, accepted};
use crate::limits::{CHAT_BYTES_MAX, CHATS, EMOJI_BYTES_MAX, GESTURES, ID_CHARS_MAX};
use crate::room::Sent;
use crate::seat::Place;
use crate::wire::{Fields, encode};

impl Lobby {
    pub(crate) fn chat(&mut self, socket: SocketId, place: Place, fields: Fields<'_>, now: Now) -> Answer {
        self.spend(socket, |s| &mut s.chats, CHATS, now)?;
        let message = fields.text("message", CHAT_BYTES_MAX)?;
        let client_id = fields.name("clientId", ID_CHARS_MAX)?;
        let user = self.seat(place).map(|s| s.user.clone()).ok_or_else(gone)?;
        let known = client_id.as_deref().and_then(|c| self.person(place, &user)?.sent(c));
        if let Some(sent) = known {
            return Ok(chat_ack(&sent.id, sent.timestamp));
        }
        let id = self.random_id("msg_", 16);
        let timestamp = now.unix_ms;
        let room = self.rooms.get_mut(&place.room).ok_or_else(gone)?;
        let name = room.seats.get(&place.seat).map(|s| s.name.clone()).ok_or_else(gone)?;
        let mut payload = json!({
            "sessionId": &*room.session,
            "id": id,
            "message": message,
            "userId": &*user,
            "userName": &*name,
            "timestamp": timestamp,
        });
        if let Some(client_id) = client_id {
            payload["clientId"] = json!(&*client_id);
            if let Some(person) = room.people.get_mut(&user) {
                person.remember(Sent { client_id, id: id.clone(), timestamp });
            }
        }
        let to = room.sockets(None);
        self.emit(to, "chat-message", &payload);
        Ok(chat_ack(&id, timestamp))
    }

    fn person(&self, place: Place, user: &Arc<str>) -> Option<&crate::room::Person> {
        self.rooms.get(&place.room)?.people.get(user)
    }

    pub(crate) fn raise_hand(&mut self, socket: SocketId, place: Place, fields: Fields<'_>, now: Now) -> Answer {
        self.spend(socket, |s| &mut s.gestures, GESTURES, now)?;
        let raised = fields.required_flag("raised")?;
        let room = self.rooms.get_mut(&place.room).ok_or_else(gone)?;
        let seat = room.seats.get_mut(&place.seat).ok_or_else(gone)?;
        let changed = std::mem::replace(&mut seat.hand_raised, raised) != raised;
        let (user, participant) = (seat.user.clone(), seat.participant.clone());
        if changed && raised {
            room.hands.push(place.seat);
        } else if changed {
            room.hands.retain(|s| *s != place.seat);
        }
        let position = room.hand_position(place.seat);
        if changed {
            let to = room.sockets(None);
            let payload = json!({
                "participantId": &*participant,
                "userId": &*user,
                "raised": raised,
                "position": position,
            });
            self.emit(to, "hand-raised", &payload);
            self.line_changed(place);
        }
        Ok(encode(&json!({ "ok": true, "position": position })))
    }

    pub(crate) fn reaction(&mut self, socket: SocketId, place: Place, fields: Fields<'_>, now: Now) -> Answer {
        self.spend(socket, |s| &mut s.gestures, GESTURES, now)?;
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
