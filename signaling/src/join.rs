//! How a seat begins, changes its socket and ends.

use std::sync::Arc;

use serde::Serialize;
use serde_json::{Value, json};
use sfu::{Now, RoomId};

use crate::api::{Recipients, SocketId, WorkerId};
use crate::code::{ErrorCode, Refused};
use crate::events::{Answer, Reply};
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
        let joined = Join::parse(payload).and_then(|join| {
            let (place, way) = self.enter(socket, &join)?;
            Ok((join, place, way))
        });
        let (join, place, way) = match joined {
            Ok(joined) => joined,
            Err(why) => return self.answer(reply, Err(why)),
        };
        let ack = self.join_ack(place, way, join.media, now);
        let joined = self.seat(place).and_then(Seat::joined);
        self.answer_after(reply, ack, joined);
        self.settle_media(place, way, join.media, now);
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
            role: seat.role(),
            permissions: permissions(seat),
            participants: Roster(room),
            ice_servers: self.ice_servers(&seat.participant, media, now),
            resume_token: &seat.resume_token,
            resumed: matches!(way, Way::Again | Way::Resumed),
        }))
    }

    /// Finds or makes the seat and puts the socket on it; the others are told.
    fn enter(&mut self, socket: SocketId, join: &Join) -> Result<(Place, Way), Refused> {
        let here = self.sockets.get(&socket).and_then(|s| s.place);
        let mut claimed = self.claim(here, join)?;
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
            let place = self.new_seat(Some(socket), join);
            self.tell_joined(place);
            return Ok((place, Way::New));
        };
        let fresh_mesh = way == Way::Replaced
            && self.seat(place).is_some_and(|s| s.peer.is_none() || join.media == Some(Media::Mesh));
        if fresh_mesh {
            // The others' RTCPeerConnections lead to a client that is gone: they negotiate anew.
            self.tell_left(place, Reason::Replaced);
        }
        self.take_seat(place, way, socket, join);
        if fresh_mesh {
            self.tell_joined(place);
        }
        Ok((place, way))
    }

    /// The seat that the join continues, if any; refuses when there is none and none to be had.
    pub(crate) fn claim(&self, here: Option<Place>, join: &Join) -> Result<Option<(Place, Way)>, Refused> {
        let Some((id, room)) = self.sessions.get(&join.session).and_then(|id| Some((*id, self.rooms.get(id)?))) else {
            let full = self.gauges().rooms >= ROOMS_MAX || self.seats >= SEATS_MAX || !self.is_recording;
            return if full { Err(overloaded()) } else { Ok(None) };
        };
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
        if let Some(seat) = seats.last().filter(|_| room.settings.same_user != SameUser::Allow) {
            let lives = room.seats.get(seat).is_some_and(Seat::is_held);
            if lives && room.settings.same_user == SameUser::Reject {
                let why = "You are in this session on another connection: leave there first.";
                return Err(ErrorCode::Forbidden.because(why));
            }
            return Ok(Some((place(*seat), Way::Replaced)));
        }
        if room.seats.len() >= room.settings.capacity {
            let why = format!("The session is full: it has {} participants.", room.settings.capacity);
            return Err(ErrorCode::Full.because(why));
        }
        if self.seats >= SEATS_MAX || !self.is_recording { Err(overloaded()) } else { Ok(None) }
    }

    pub(crate) fn new_seat(&mut self, socket: Option<SocketId>, join: &Join) -> Place {
        let room = match self.sessions.get(&join.session) {
            Some(room) => *room,
            None => self.new_room(&join.session),
        };
        let id = SeatId(self.mint());
        let participant: Arc<str> = self.random_id("p_", 16).into();
        self.grant(participant.clone());
        let seat = Seat {
            participant,
            user: join.user.clone(),
            name: join.name.clone(),
            instructor: join.instructor,
            auto_subscribe: join.auto_subscribe,
            resume_token: self.random_id("", 32).into(),
            socket,
            resource: None,
            grace_until: None,
            hand_raised: false,
            tracks: Default::default(),
            peer: None,
            connection: None,
        };
        let place = Place { room, seat: id };
        if let Some(r) = self.rooms.get_mut(&room) {
            r.people.entry(join.user.clone()).or_default().seats.push(id);
            r.seats.insert(id, seat);
            self.seats += 1;
        }
        if let Some(s) = socket.and_then(|socket| self.sockets.get_mut(&socket)) {
            s.place = Some(place);
        }
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
        self.rooms.insert(id, Room::new(session.clone(), meeting, worker, self.room_settings.clone()));
        id
    }

    /// Puts a socket on a seat that exists, in place of the one that it had.
    fn take_seat(&mut self, place: Place, way: Way, socket: SocketId, join: &Join) {
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
        seat.instructor = join.instructor;
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
            "isInstructor": seat.instructor,
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

/// What a seat may do; all but moderation is open to everybody until tokens say otherwise.
fn permissions(seat: &Seat) -> Value {
    json!({
        "publish": ["camera", "microphone", "screen", "screen-audio"],
        "subscribe": true,
        "chat": true,
        "data": true,
        "moderate": seat.instructor,
    })
}

pub(crate) fn overloaded() -> Refused {
    ErrorCode::Overloaded.because("The server is full: try again later.")
}
