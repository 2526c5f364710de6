//! How a seat begins, changes its socket and ends.

use std::sync::Arc;

use serde::Serialize;
use serde_json::{Value, json};
use sfu::{Now, RoomId};

use crate::api::{Recipients, SocketId, WorkerId};
use crate::chat::Said;
use crate::code::{ErrorCode, Refused};
use crate::events::{Answer, Outcome, Reply};
use crate::fact::Reason;
use crate::limits::{JOINS, ROOMS_MAX, SEATS_MAX};
use crate::room::{Room, SameUser, SeatId};
use crate::roster::Roster;
use crate::seat::{Place, Seat};
use crate::wire::{Join, Media, encode};
use crate::{Lobby, Timer};

/// How a join finds its seat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// The socket had it already.
    Again,
    /// By its resume token: the client goes on with what it has.
    Resumed,
    /// By its user: the client may be new or may only have blinked.
    Replaced,
    /// It is new.
    New,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Joined<'a> {
    ok: bool,
    session_id: &'a str,
    meeting_id: &'a str,
    user_id: &'a str,
    participant_id: &'a str,
    role: &'static str,
    permissions: Value,
    participants: Roster<'a>,
    metadata: &'a Value,
    locked: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    chat: Option<&'a Said>,
    ice_servers: Vec<Value>,
    resume_token: &'a str,
    resumed: bool,
}

impl Lobby {
    pub(crate) fn join_event(&mut self, reply: Reply, payload: &Value, now: Now) {
        let socket = reply.socket;
        if self.spend(socket, |s| &mut s.joins, JOINS, now).is_err() {
            return self.answer_limited(reply, now);
        }
        let here = self.sockets.get(&socket).and_then(|s| s.place);
        let identity = self.sockets.get(&socket).and_then(|s| s.identity.clone());
        let claimed = Join::parse(payload, identity).and_then(|join| {
            let claimed = self.claim(here, &join, now)?;
            Ok((join, claimed))
        });
        match claimed {
            Err(why) => self.answer(reply, Err(why)),
            Ok((join, None)) if self.must_wait(&join) => self.wait_at_the_door(reply, here, join, now),
            Ok((join, claimed)) => self.join(reply, &join, claimed, now),
        }
    }

    /// Gives a socket the seat that it may have: the ack, and what follows it.
    pub(crate) fn join(&mut self, reply: Reply, join: &Join, claimed: Option<(Place, Way)>, now: Now) {
        let socket = reply.socket;
        self.stop_waiting(socket, &|| ErrorCode::Replaced.because("A newer join of this connection took its place."));
        let (place, way) = self.enter(socket, join, claimed, now);
        let ack = self.join_ack(place, way, join.media, now);
        let after = self.seat(place).and_then(Seat::joined);
        self.finish(reply, ack.map(|body| Outcome { body, after, gates: true }));
        self.settle_media(place, way, join.media, now);
        self.tell_who_waits(place);
        self.tell_if_draining(socket);
        // In the order in which they came, behind the ack, before anything newer.
        for early in self.take_early(socket) {
            self.dispatch(early.reply, early.verb, &early.payload, now);
        }
    }

    fn join_ack(&self, place: Place, way: Way, media: Option<Media>, now: Now) -> Answer {
        let room = self.rooms.get(&place.room);
        let found = room.and_then(|room| Some((room, room.seats.get(&place.seat)?)));
        let (room, seat) = found.ok_or_else(|| ErrorCode::Internal.because("The seat was lost: join again."))?;
        Ok(encode(&Joined {
            ok: true,
            session_id: &room.session,
            meeting_id: &room.meeting,
            user_id: &seat.user,
            participant_id: &seat.participant,
            role: seat.standing.role.as_str(),
            permissions: seat.may().to_json(),
            participants: Roster(room),
            metadata: &room.settings.metadata,
            locked: room.locked,
            chat: room.settings.chat_history.then_some(&room.said),
            ice_servers: self.ice_servers(&seat.participant, media, now),
            resume_token: &seat.resume_token,
            resumed: matches!(way, Way::Again | Way::Resumed),
        }))
    }

    /// Finds or makes the seat and puts the socket on it; the others are told.
    fn enter(&mut self, socket: SocketId, join: &Join, mut claimed: Option<(Place, Way)>, now: Now) -> (Place, Way) {
        let here = self.sockets.get(&socket).and_then(|s| s.place);
        if let Some(left) = here.filter(|place| claimed.is_none_or(|(seat, _)| seat != *place)) {
            self.leave(left, Reason::Left);
        }
        if let Some((held, _)) = claimed
            && self.seat(held).is_some_and(|s| s.resource.is_some())
        {
            // A WHIP client's peer cannot go on in a browser.
            self.leave(held, Reason::Replaced);
            claimed = None;
        }
        let Some((place, way)) = claimed else {
            let place = self.new_seat(Some(socket), join, now);
            self.tell_joined(place);
            return (place, Way::New);
        };
        let fresh_mesh = way == Way::Replaced
            && self.seat(place).is_some_and(|s| s.peer.is_none() || join.media == Some(Media::Mesh));
        if fresh_mesh {
            // The others' RTCPeerConnections lead to a client that is gone: they negotiate anew.
            self.tell_left(place, Reason::Replaced);
        }
        self.take_seat(place, way, socket, join, now);
        if fresh_mesh {
            self.tell_joined(place);
        }
        (place, way)
    }

    /// The seat that the join continues, if any; refuses when there is none and none to be had.
    pub(crate) fn claim(&self, here: Option<Place>, join: &Join, now: Now) -> Result<Option<(Place, Way)>, Refused> {
        self.check_token(join.identity.as_deref())?;
        if self.is_stopping {
            return Err(ErrorCode::Draining.because("The server is about to stop: connect again in a moment."));
        }
        let Some((id, room)) = self.sessions.get(&join.session).and_then(|id| Some((*id, self.rooms.get(id)?))) else {
            if join.is_over(now) {
                return Err(expired());
            }
            self.check_draining()?;
            let full = self.gauges().rooms >= ROOMS_MAX || self.seats >= SEATS_MAX || !self.is_recording;
            return if full { Err(overloaded()) } else { Ok(None) };
        };
        room.check_user(&join.user)?;
        let seats = room.people.get(&join.user).map_or(&[][..], |person| &person.seats);
        let place = |seat: SeatId| Place { room: id, seat };
        if let Some(again) = here.filter(|h| h.room == id && seats.contains(&h.seat)) {
            return Ok(Some((again, Way::Again)));
        }
        let resumes =
            |seat: &&SeatId| room.seats.get(seat).is_some_and(|s| Some(&s.resume_token) == join.resume_token.as_ref());
        if let Some(seat) = seats.iter().find(resumes) {
            return Ok(Some((place(*seat), Way::Resumed)));
        }
        if join.is_over(now) {
            return Err(expired());
        }
        if join.identity.is_some() && room.seats.iter().any(|(id, _)| resumes(&id)) {
            return Err(ErrorCode::Forbidden.because("That resumeToken is another user's: join without it."));
        }
        if let Some(seat) = seats.last().filter(|_| room.settings.same_user != SameUser::Allow) {
            let lives = room.seats.get(seat).is_some_and(Seat::is_held);
            if lives && room.settings.same_user == SameUser::Reject {
                let why = "You are in this session on another connection: leave there first.";
                return Err(ErrorCode::Forbidden.because(why));
            }
            return Ok(Some((place(*seat), Way::Replaced)));
        }
        self.check_draining()?;
        let standing = room.standing(&join.user, join.given);
        if room.locked && !standing.permissions.moderate && !room.known.contains_key(&join.user) {
            return Err(ErrorCode::Locked.because("The session is locked: ask somebody in it to unlock it."));
        }
        if room.seats.len() >= room.settings.capacity {
            let why = format!("The session is full: it has {} participants.", room.settings.capacity);
            return Err(ErrorCode::Full.because(why));
        }
        if self.seats >= SEATS_MAX || !self.is_recording { Err(overloaded()) } else { Ok(None) }
    }

    pub(crate) fn new_seat(&mut self, socket: Option<SocketId>, join: &Join, now: Now) -> Place {
        let room = match self.sessions.get(&join.session) {
            Some(room) => *room,
            None => self.new_room(&join.session),
        };
        let id = SeatId(self.mint());
        let participant: Arc<str> = self.random_id("p_", 16).into();
        self.grant(participant.clone());
        let mut seat = Seat {
            participant,
            user: join.user.clone(),
            name: join.name.clone(),
            identity: join.identity.clone(),
            given: join.given,
            standing: join.given,
            metadata: join.metadata.clone(),
            auto_subscribe: join.auto_subscribe,
            resume_token: self.random_id("", 32).into(),
            socket,
            resource: None,
            grace_until: None,
            renew_at: None,
            hand_raised: false,
            tracks: Default::default(),
            peer: None,
            connection: None,
        };
        let place = Place { room, seat: id };
        if let Some(r) = self.rooms.get_mut(&room) {
            seat.standing = r.standing(&join.user, join.given);
            r.know(&join.user);
            r.people.entry(join.user.clone()).or_default().seats.push(id);
            r.seats.insert(id, seat);
            self.seats += 1;
        }
        if let Some(s) = socket.and_then(|socket| self.sockets.get_mut(&socket)) {
            s.place = Some(place);
        }
        self.arm_renewal(place, join.is_over(now), now);
        if socket.is_some() {
            self.begin_connection(place, None);
        }
        self.roster_changed(room);
        place
    }

    pub(crate) fn new_room(&mut self, session: &Arc<str>) -> RoomId {
        self.make_room();
        let id = RoomId(self.mint());
        let meeting = self.random_id("mtg_", 16).into();
        let least = self.workers.iter().enumerate().min_by_key(|(_, load)| **load);
        let worker = WorkerId(least.map_or(0, |(index, _)| index));
        self.workers[worker.0].rooms += 1;
        self.sessions.insert(session.clone(), id);
        self.rooms.insert(id, Room::new(session.clone(), meeting, worker, self.rules(session).clone()));
        id
    }

    /// Puts a socket on a seat that exists, in place of the one that it had.
    fn take_seat(&mut self, place: Place, way: Way, socket: SocketId, join: &Join, now: Now) {
        let token = (way == Way::Replaced).then(|| self.random_id("", 32));
        let ended = match way {
            Way::Again | Way::New => None,
            Way::Resumed => self.end_connection(place, Reason::Disconnected),
            Way::Replaced => self.end_connection(place, Reason::Replaced),
        };
        let Some(seat) = self.seat_mut(place) else {
            return;
        };
        seat.name = join.name.clone();
        seat.metadata = join.metadata.clone();
        if !join.is_over(now) {
            // What a token said whose time is over may have changed since.
            seat.identity = join.identity.clone();
            seat.given = join.given;
        }
        seat.auto_subscribe = join.auto_subscribe;
        if let Some(token) = token {
            seat.resume_token = token.into();
        }
        let old = seat.socket.replace(socket).filter(|old| *old != socket);
        let grace = seat.grace_until.take();
        if let Some(peer) = seat.peer.as_mut().filter(|_| way != Way::Again) {
            peer.new_socket();
        }
        self.rearm(Timer::Grace(place), grace, None);
        if let Some(s) = self.sockets.get_mut(&socket) {
            s.place = Some(place);
        }
        if let Some(old) = old {
            let why = "You joined this session on another connection, which took this one's place.";
            self.close(old, ErrorCode::Replaced.because(why), "join-session");
        }
        self.reconsider(place, false);
        self.arm_renewal(place, join.is_over(now), now);
        if way != Way::Again {
            self.begin_connection(place, ended);
        }
        self.line_changed(place);
    }

    /// Ends a seat: history and the others are told, its peer goes, and the last leaves an empty room behind.
    pub(crate) fn leave(&mut self, place: Place, reason: Reason) {
        self.end_connection(place, reason);
        self.forget_peer(place, true);
        self.tell_left(place, reason);
        let Some(room) = self.rooms.get_mut(&place.room) else {
            return;
        };
        let Some(seat) = room.seats.remove(&place.seat) else {
            return;
        };
        self.seats -= 1;
        room.hands.retain(|s| *s != place.seat);
        room.changed.remove(&place.seat);
        if let Some(person) = room.people.get_mut(&seat.user) {
            person.seats.retain(|s| *s != place.seat);
            if person.seats.is_empty() {
                room.people.remove(&seat.user);
            }
        }
        let empty = room.seats.is_empty();
        if let Some(socket) = seat.socket.and_then(|id| self.sockets.get_mut(&id)) {
            socket.place = None;
        }
        self.rearm(Timer::Grace(place), seat.grace_until, None);
        self.rearm(Timer::Renew(place), seat.renew_at, None);
        if let Some(resource) = &seat.resource {
            self.drop_resource(resource);
        }
        self.revoke(seat.participant);
        if empty {
            self.emptied(place.room);
        } else {
            self.roster_changed(place.room);
        }
    }

    pub(crate) fn end_room(&mut self, id: RoomId) {
        self.end_viewers(id);
        self.meeting_over(id);
        let Some(room) = self.rooms.remove(&id) else {
            return;
        };
        self.sessions.remove(&room.session);
        self.end_waiting(&room.session);
        self.workers[room.worker.0].rooms -= 1;
        self.rearm(Timer::Roster(id), room.clock.armed, None);
    }

    pub(crate) fn tell_joined(&mut self, place: Place) {
        let Some(room) = self.rooms.get(&place.room) else {
            return;
        };
        let Some(seat) = room.seats.get(&place.seat) else {
            return;
        };
        let payload = json!({
            "userId": &*seat.user,
            "userName": &*seat.name,
            "isInstructor": seat.is_instructor(),
            "participantId": &*seat.participant,
        });
        let to: Recipients = room.sockets(Some(place.seat));
        self.emit(to, "user-joined", &payload);
    }

    fn tell_left(&mut self, place: Place, reason: Reason) {
        let Some(room) = self.rooms.get(&place.room) else {
            return;
        };
        let Some(seat) = room.seats.get(&place.seat) else {
            return;
        };
        let payload = json!({
            "userId": &*seat.user,
            "userName": &*seat.name,
            "participantId": &*seat.participant,
            "reason": reason.as_str(),
        });
        let to: Recipients = room.sockets(Some(place.seat));
        self.emit(to, "user-left", &payload);
    }
}

fn expired() -> Refused {
    ErrorCode::AuthExpired.because("Your token has expired: ask for a new one and connect again.")
}

pub(crate) fn overloaded() -> Refused {
    ErrorCode::Overloaded.because("The server is full: try again later.")
}
