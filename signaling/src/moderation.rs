//! What moderators do: by the `moderate` event and over HTTP alike, by the same rules and with the same codes.

use std::sync::Arc;

use serde_json::{Value, json};
use sfu::{Now, Request, RoomId, Source, TrackId};

use crate::Lobby;
use crate::access::{Role, Standing};
use crate::api::{Action, Recipients, SocketId};
use crate::code::{ErrorCode, Refused};
use crate::events::Outcome;
use crate::fact::{Fact, FactId, Reason};
use crate::limits::{ID_CHARS_MAX, REMOVED_MAX};
use crate::room::{Room, SeatId};
use crate::seat::Place;
use crate::wire::{Fields, encode};

/// What a moderator wants.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    pub(crate) action: Action,
    /// A `participantId`, or a `waitingId` of whoever waits.
    pub(crate) target: Option<Arc<str>>,
    pub(crate) source: Option<Source>,
    pub(crate) role: Option<Role>,
    /// Who; `None` for the operator.
    pub(crate) by: Option<Arc<str>>,
}

impl Order {
    fn parse(fields: Fields<'_>, by: Arc<str>) -> Result<Self, Refused> {
        let invalid = |why: &str| ErrorCode::InvalidRequest.because(why);
        let word = |name: &str| fields.get(name).map(|value| value.as_str().unwrap_or_default());
        let action = word("action").and_then(Action::parse).ok_or_else(|| {
            invalid(
                "action must be mute, mute-all, ask-unmute, remove, promote, lower-hands, lock, unlock, admit or end.",
            )
        })?;
        let unknown_source = || invalid("source must be camera, microphone, screen or screen-audio.");
        let source = word("source").map(|word| Source::parse(word).ok_or_else(unknown_source)).transpose()?;
        let unknown_role = || invalid("role must be instructor, participant or observer.");
        let role = word("role").map(|word| Role::parse(word).ok_or_else(unknown_role)).transpose()?;
        let target = fields.name("participantId", ID_CHARS_MAX)?;
        Ok(Order { action, target, source, role, by: Some(by) })
    }

    /// Whom it is about, where it is about one.
    fn target(&self) -> Result<&Arc<str>, Refused> {
        self.target.as_ref().ok_or_else(|| ErrorCode::InvalidRequest.because("participantId is missing."))
    }

    /// What a target is told: `moderated`.
    fn told(&self, action: &str, participant: Option<&str>) -> Value {
        let mut payload = json!({ "action": action });
        if let Some(participant) = participant {
            payload["participantId"] = json!(participant);
        }
        if let Some(source) = self.source {
            payload["source"] = json!(source.as_str());
        }
        if let Some(by) = &self.by {
            payload["by"] = json!(&**by);
        }
        payload
    }
}

impl Lobby {
    /// The `moderate` event.
    pub(crate) fn moderate_event(&mut self, place: Place, fields: Fields<'_>, now: Now) -> Result<Outcome, Refused> {
        let found = self.rooms.get(&place.room).and_then(|room| Some((room, room.seats.get(&place.seat)?)));
        let (room, seat) = found.ok_or_else(|| ErrorCode::NotJoined.because("Join a session first."))?;
        if !seat.may().moderate {
            return Err(not_a_moderator());
        }
        let order = Order::parse(fields, seat.user.clone())?;
        let session = room.session.clone();
        let after = self.moderate(&session, &order, now)?;
        Ok(Outcome { body: encode(&json!({ "ok": true })), after, gates: false })
    }

    /// Does what a moderator wants; whoever asks has been found to be one. The fact that must be written down before the answer
    /// leaves, if there is one.
    pub(crate) fn moderate(&mut self, session: &str, order: &Order, now: Now) -> Result<Option<FactId>, Refused> {
        // People wait before the meeting begins, too.
        match (order.action, &order.target) {
            (Action::Admit, target) => return self.admit(session, target.as_deref(), now).map(|()| None),
            (Action::Remove, Some(id)) if id.starts_with("w_") => return self.turn_away(session, id).map(|()| None),
            _ => {}
        }
        let room = self.sessions.get(session).copied().ok_or_else(not_live)?;
        let before = self.facts;
        match order.action {
            Action::Mute => self.mute_one(room, order)?,
            Action::MuteAll => self.mute_all(room, order),
            Action::AskUnmute => {
                let place = self.find(room, order.target()?)?;
                self.tell_moderated(place, order, "ask-unmute", None);
            }
            Action::Remove => self.remove(room, order)?,
            Action::Promote => self.promote(room, order)?,
            Action::LowerHands => self.lower_hands(room, order)?,
            Action::Lock => self.lock(room, true),
            Action::Unlock => self.lock(room, false),
            Action::Admit => {}
            Action::End => self.end_for_all(room),
        }
        // Nobody is told that a door is shut, or a lesson over, that a restart would open again. What a mute changes the next
        // heartbeat would say as well.
        let is_kept = !matches!(order.action, Action::Mute | Action::MuteAll);
        Ok((is_kept && self.facts > before).then_some(FactId(self.facts)))
    }

    fn find(&self, room: RoomId, participant: &str) -> Result<Place, Refused> {
        let seats = self.rooms.get(&room).map(|room| &room.seats).into_iter().flatten();
        let mut found = seats.filter(|(_, seat)| *seat.participant == *participant);
        let (seat, _) = found.next().ok_or_else(|| {
            ErrorCode::UnknownTarget.because("participantId is nobody in this session: see participants-update.")
        })?;
        Ok(Place { room, seat: *seat })
    }

    fn tell_moderated(&mut self, place: Place, order: &Order, action: &str, role: Option<Role>) {
        let Some(seat) = self.seat(place) else { return };
        let Some(socket) = seat.socket else { return };
        let mut payload = order.told(action, Some(&seat.participant));
        if let Some(role) = role {
            payload["role"] = json!(role.as_str());
        }
        self.emit(Recipients::One(socket), "moderated", &payload);
    }

    fn mute_one(&mut self, room: RoomId, order: &Order) -> Result<(), Refused> {
        let place = self.find(room, order.target()?)?;
        self.hold_tracks(place, |source| order.source.is_none_or(|wanted| wanted == source));
        self.tell_moderated(place, order, "mute", None);
        Ok(())
    }

    /// Everybody but moderators: what is named, or else their microphones.
    fn mute_all(&mut self, room: RoomId, order: &Order) {
        let Some(live) = self.rooms.get(&room) else { return };
        let targets = live.seats.iter().filter(|(_, seat)| !seat.may().moderate);
        let (seats, sockets): (Vec<SeatId>, Vec<Option<SocketId>>) = targets.map(|(id, s)| (*id, s.socket)).unzip();
        let wanted = order.source.unwrap_or(Source::Microphone);
        for seat in seats {
            self.hold_tracks(Place { room, seat }, |source| source == wanted);
        }
        let payload = Order { source: Some(wanted), ..order.clone() }.told("mute-all", None);
        self.emit(Recipients::Many(sockets.into_iter().flatten().collect()), "moderated", &payload);
    }

    /// Nothing of those tracks is forwarded any more until their publisher unmutes them.
    fn hold_tracks(&mut self, place: Place, wanted: impl Fn(Source) -> bool) {
        let Some(seat) = self.seat_mut(place) else { return };
        let mut held: Vec<TrackId> = Vec::new();
        for info in seat.tracks.values_mut().filter(|info| wanted(info.source)) {
            info.muted = true;
            held.push(info.track);
        }
        let Some((worker, peer)) = self.peer_mut(place) else { return };
        let peer = peer.id;
        for track in held {
            self.request(worker, Request::Hold { peer, track, held: true });
        }
        self.line_changed(place);
    }

    /// Ends all that a user has in this meeting, for good, and its token everywhere.
    fn remove(&mut self, room: RoomId, order: &Order) -> Result<(), Refused> {
        let place = self.find(room, order.target()?)?;
        let at = self.at(room);
        let live = self.rooms.get_mut(&room).ok_or_else(not_live)?;
        if live.life.removed.len() >= REMOVED_MAX {
            let why = "Too many people were removed from this meeting: lock the session.";
            return Err(ErrorCode::Overloaded.because(why));
        }
        let user = live.seats.get(&place.seat).map(|seat| seat.user.clone()).ok_or_else(not_live)?;
        let (session, meeting) = (live.session.clone(), live.meeting.clone());
        let seats: Vec<SeatId> = live.people.get(&user).map_or_else(Vec::new, |person| person.seats.clone());
        let mut tokens: Vec<(Option<Arc<str>>, u64)> = Vec::new();
        for seat in seats.iter().filter_map(|id| live.seats.get(id)) {
            let token = seat.identity.as_ref().map_or((None, 0), |id| (id.token.clone(), id.expires_ms));
            if !tokens.contains(&token) {
                tokens.push(token);
            }
        }
        live.life.removed.extend(tokens.iter().map(|(token, expires)| (user.clone(), token.clone(), *expires)));
        for (token, expires_ms) in tokens {
            if let Some(token) = &token {
                self.revoke_token(token.clone(), expires_ms);
            }
            let (session, meeting, user) = (session.clone(), meeting.clone(), user.clone());
            self.record(Fact::Removed { session, meeting, user, token, expires_ms, at });
        }
        let why = || ErrorCode::AuthRevoked.because("A moderator removed you from this session.");
        for seat in seats {
            let place = Place { room, seat };
            if let Some(socket) = self.seat(place).and_then(|seat| seat.socket) {
                self.close(socket, why(), "join-session");
            }
            self.leave(place, Reason::Removed);
        }
        self.dismiss_user(&session, &user, &why);
        self.close_sockets_of(&session, &user, &why);
        self.end_viewers_of(room, &user);
        self.end_token_holders_of(&session, &user);
        Ok(())
    }

    /// Disconnects what else a removed user has connected with tokens for that session.
    fn close_sockets_of(&mut self, session: &str, user: &str, why: &dyn Fn() -> Refused) {
        let theirs = self.sockets.iter().filter(|(_, socket)| {
            let identity = socket.identity.as_ref();
            !socket.closing && identity.is_some_and(|id| *id.user == *user && *id.session == *session)
        });
        let ids: Vec<SocketId> = theirs.map(|(id, _)| *id).collect();
        for id in ids {
            self.close(id, why(), "join-session");
        }
    }

    /// Gives a role, until the meeting ends.
    fn promote(&mut self, room: RoomId, order: &Order) -> Result<(), Refused> {
        let place = self.find(room, order.target()?)?;
        let role = order.role.unwrap_or(Role::Instructor);
        let user = self.seat(place).map(|seat| seat.user.clone()).ok_or_else(not_live)?;
        let live = self.rooms.get_mut(&room).ok_or_else(not_live)?;
        let known = live.know(&user).ok_or_else(|| {
            ErrorCode::Overloaded.because("This meeting has had too many people: promote somebody who is known to it.")
        })?;
        known.promoted = Some(role);
        let meeting = live.meeting.clone();
        let at = self.at(room);
        self.record(Fact::Promoted { meeting, user: user.clone(), role, at });
        let live = self.rooms.get(&room).ok_or_else(not_live)?;
        let seats = live.people.get(&user).map_or_else(Vec::new, |person| person.seats.clone());
        for seat in seats {
            let place = Place { room, seat };
            self.tell_moderated(place, order, "promote", Some(role));
            self.reconsider(place, true);
        }
        Ok(())
    }

    fn lower_hands(&mut self, room: RoomId, order: &Order) -> Result<(), Refused> {
        let seats = match &order.target {
            Some(participant) => vec![self.find(room, participant)?.seat],
            None => self.rooms.get(&room).map_or_else(Vec::new, |room| room.hands.clone()),
        };
        for seat in seats {
            let place = Place { room, seat };
            if self.set_hand(place, false) {
                self.tell_moderated(place, order, "lower-hands", None);
            }
        }
        Ok(())
    }

    fn lock(&mut self, id: RoomId, locked: bool) {
        let at = self.at(id);
        let Some(room) = self.rooms.get_mut(&id) else { return };
        if std::mem::replace(&mut room.locked, locked) != locked {
            let meeting = room.meeting.clone();
            self.record(Fact::Locked { meeting, locked, at });
            self.tell_session(id);
        }
    }

    fn end_for_all(&mut self, id: RoomId) {
        let Some(room) = self.rooms.get(&id) else { return };
        let sockets: Vec<SocketId> = room.seats.values().filter_map(|seat| seat.socket).collect();
        let why = ErrorCode::Ended.because("The session was ended for all.");
        let payload = json!({ "code": why.code.as_str(), "message": why.message, "event": "moderate" });
        self.emit(Recipients::Many(sockets), "session-error", &payload);
        self.end_meeting(id);
    }

    /// Everybody is told the room's rules.
    pub(crate) fn tell_session(&mut self, id: RoomId) {
        let Some(room) = self.rooms.get(&id) else { return };
        let mut payload = room.settings.to_json();
        payload["sessionId"] = json!(&*room.session);
        payload["locked"] = json!(room.locked);
        let to = room.sockets(None);
        self.emit(to, "session-updated", &payload);
    }

    /// Finds anew what a seat may do: its role, its token or the room's rules may have changed. `tells`: its client, which does not
    /// learn of it by an ack.
    pub(crate) fn reconsider(&mut self, place: Place, tells: bool) {
        let Some(room) = self.rooms.get_mut(&place.room) else { return };
        let Some((user, given)) = room.seats.get(&place.seat).map(|seat| (seat.user.clone(), seat.given)) else {
            return;
        };
        let standing = room.standing(&user, given);
        let Some(seat) = room.seats.get_mut(&place.seat) else { return };
        let old = std::mem::replace(&mut seat.standing, standing);
        if old == standing {
            return;
        }
        let (socket, participant) = (seat.socket, seat.participant.clone());
        let peer = seat.peer.as_ref().map(|peer| (peer.id, peer.worker));
        if let Some((peer, worker)) = peer.filter(|_| old.rights() != standing.rights()) {
            self.request(worker, Request::Rights { peer, rights: standing.rights() });
        }
        if old.role != standing.role {
            self.line_changed(place);
        }
        let Some(socket) = socket.filter(|_| tells) else { return };
        let Standing { role, permissions } = standing;
        let payload = json!({
            "participantId": &*participant,
            "role": role.as_str(),
            "permissions": permissions.to_json(),
        });
        self.emit(Recipients::One(socket), "permissions", &payload);
        if permissions.moderate && !old.permissions.moderate {
            self.tell_who_waits(place);
        }
    }

    /// Whether the room lets a member moderate, who may not be there: by its token or a promotion.
    pub(crate) fn may_moderate(room: Option<&Room>, user: &str, given: Standing) -> bool {
        room.map_or(given, |room| room.standing(user, given)).permissions.moderate
    }
}

pub(crate) fn not_a_moderator() -> Refused {
    ErrorCode::Forbidden.because("Only those who may moderate this session can do that.")
}

pub(crate) fn not_live() -> Refused {
    ErrorCode::NotLive.because("Nobody is in this session: try again when it has begun.")
}
