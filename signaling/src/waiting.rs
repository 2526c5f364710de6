//! The waiting room: joins that are held back until a moderator admits them.
//!
//! People may wait before the meeting begins, so what waits belongs to the session's name and not to a room.

use std::sync::Arc;
use std::time::Instant;

use serde_json::{Value, json};
use sfu::Now;

use crate::access::Identity;
use crate::api::{Recipients, SocketId};
use crate::code::{ErrorCode, Refused};
use crate::events::Reply;
use crate::fact::Reason;
use crate::join::overloaded;
use crate::limits::{ROOMS_MAX, ROSTER_EVERY, WAITING_MAX};
use crate::moderation::not_live;
use crate::seat::Place;
use crate::wire::Join;
use crate::{Lobby, Timer};

/// Numbers queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct QueueId(u64);

/// Who waits for one session, first first.
#[derive(Debug)]
pub(crate) struct Queue {
    session: Arc<str>,
    people: Vec<Waiting>,
    told_at: Option<Instant>,
    /// When moderators and those who wait are told what changed.
    armed: Option<Instant>,
}

/// A join that is held back.
#[derive(Debug)]
struct Waiting {
    /// `w_…`, by which moderators name it.
    id: Arc<str>,
    join: Join,
    /// Answered when it is admitted, refused or over.
    reply: Reply,
    /// The place in the queue that it was told last.
    position: usize,
}

impl Queue {
    /// As moderators see it.
    fn to_json(&self) -> Value {
        let line = |w: &Waiting| json!({ "waitingId": &*w.id, "userId": &*w.join.user, "userName": &*w.join.name });
        self.people.iter().map(line).collect()
    }
}

impl Lobby {
    /// Whether somebody who has no seat must be admitted first.
    pub(crate) fn must_wait(&self, join: &Join) -> bool {
        let room = self.sessions.get(&join.session).and_then(|room| self.rooms.get(room));
        let Some(room) = room else {
            return self.rules(&join.session).waiting_room && !join.given.permissions.moderate;
        };
        let may_moderate = room.standing(&join.user, join.given).permissions.moderate;
        room.settings.waiting_room && !may_moderate && !room.known.contains_key(&join.user)
    }

    /// Holds a join back; the socket leaves where it was.
    pub(crate) fn wait_at_the_door(&mut self, reply: Reply, here: Option<Place>, join: Join, now: Now) {
        let newer = || ErrorCode::Replaced.because("A newer join took this one's place.");
        self.stop_waiting(reply.socket, &newer);
        if let Some(queue) = self.queues.get(&join.session).copied() {
            self.dismiss(queue, &newer, |w| w.join.user == join.user);
        }
        let queue = match self.queues.get(&join.session) {
            Some(queue) => *queue,
            None if self.queues.len() >= ROOMS_MAX => return self.answer(reply, Err(overloaded())),
            None => self.new_queue(&join.session),
        };
        let length = self.waiting.get(&queue).map_or(0, |q| q.people.len());
        if length >= WAITING_MAX {
            let why = format!("{WAITING_MAX} people wait for this session already: try again later.");
            return self.answer(reply, Err(ErrorCode::Full.because(why)));
        }
        if let Some(left) = here {
            self.leave(left, Reason::Left);
        }
        let (socket, session) = (reply.socket, join.session.clone());
        let id = self.random_id("w_", 16).into();
        let position = length + 1;
        if let Some(s) = self.sockets.get_mut(&socket) {
            s.waits = Some(queue);
        }
        if let Some(q) = self.waiting.get_mut(&queue) {
            q.people.push(Waiting { id, join, reply, position });
        }
        self.tell_position(socket, &session, position);
        self.queue_changed(queue, now.mono);
    }

    fn new_queue(&mut self, session: &Arc<str>) -> QueueId {
        let id = QueueId(self.mint());
        let queue = Queue { session: session.clone(), people: Vec::new(), told_at: None, armed: None };
        self.queues.insert(session.clone(), id);
        self.waiting.insert(id, queue);
        id
    }

    /// A socket waits no more: the join that it waits with is refused.
    pub(crate) fn stop_waiting(&mut self, socket: SocketId, why: &dyn Fn() -> Refused) {
        if let Some(queue) = self.sockets.get(&socket).and_then(|s| s.waits) {
            self.dismiss(queue, why, |w| w.reply.socket == socket);
        }
    }

    /// Nobody waits for a session any more.
    pub(crate) fn end_waiting(&mut self, session: &str) {
        if let Some(queue) = self.queues.get(session).copied() {
            self.dismiss(queue, &|| ErrorCode::Ended.because("The session has ended."), |_| true);
        }
    }

    /// A user waits no more for a session.
    pub(crate) fn dismiss_user(&mut self, session: &str, user: &str, why: &dyn Fn() -> Refused) {
        if let Some(queue) = self.queues.get(session).copied() {
            self.dismiss(queue, why, |w| *w.join.user == *user);
        }
    }

    /// Refuses one who waits, named by a moderator.
    pub(crate) fn turn_away(&mut self, session: &str, id: &str) -> Result<(), Refused> {
        let found = self.queues.get(session).copied();
        let found = found.filter(|q| self.waiting.get(q).is_some_and(|q| q.people.iter().any(|w| *w.id == *id)));
        let queue = found.ok_or_else(nobody)?;
        let why = || ErrorCode::Forbidden.because("A moderator did not let you in.");
        self.dismiss(queue, &why, |w| *w.id == *id);
        Ok(())
    }

    /// Lets one in, or all. Whoever finds no place goes on waiting, and the moderator is told why.
    pub(crate) fn admit(&mut self, session: &str, only: Option<&str>, now: Now) -> Result<(), Refused> {
        let queue = self.queues.get(session).copied();
        if queue.is_none() && !self.sessions.contains_key(session) {
            return Err(not_live());
        }
        let people = queue.and_then(|q| self.waiting.get(&q)).map_or(&[][..], |q| &q.people);
        let ids: Vec<Arc<str>> =
            people.iter().filter(|w| only.is_none_or(|id| *w.id == *id)).map(|w| w.id.clone()).collect();
        if only.is_some() && ids.is_empty() {
            return Err(nobody());
        }
        for id in ids {
            let Some(waiting) = queue.and_then(|q| self.waiting.get(&q)?.people.iter().find(|w| w.id == id)) else {
                continue;
            };
            let mut join = waiting.join.clone();
            // It was good at the door, and nobody can renew it while they wait; whether it was withdrawn is looked at again.
            join.identity = join.identity.map(|identity| {
                let expires_ms = identity.expires_ms.max(now.unix_ms + 1);
                Arc::new(Identity { expires_ms, ..(*identity).clone() })
            });
            if let Some(room) = self.sessions.get(session).and_then(|room| self.rooms.get_mut(room)) {
                room.know(&join.user);
            }
            let claimed = self.claim(None, &join, now);
            if let Err(why) = &claimed
                && matches!(why.code, ErrorCode::Full | ErrorCode::Overloaded)
            {
                return Err(why.clone());
            }
            let Some(Waiting { reply, .. }) = queue.and_then(|q| self.take_waiting(q, |w| w.id == id)) else {
                continue;
            };
            let socket = reply.socket;
            match claimed {
                Ok(claimed) => {
                    self.join(reply, &join, claimed, now);
                    self.emit(Recipients::One(socket), "admitted", &json!({ "sessionId": &*join.session }));
                }
                Err(why) => self.answer(reply, Err(why)),
            }
        }
        Ok(())
    }

    fn take_waiting(&mut self, queue: QueueId, which: impl Fn(&Waiting) -> bool) -> Option<Waiting> {
        let people = &mut self.waiting.get_mut(&queue)?.people;
        let waiting = people.remove(people.iter().position(which)?);
        if let Some(socket) = self.sockets.get_mut(&waiting.reply.socket) {
            socket.waits = None;
        }
        self.queue_changed(queue, self.now?.mono);
        Some(waiting)
    }

    fn dismiss(&mut self, queue: QueueId, why: &dyn Fn() -> Refused, which: impl Fn(&Waiting) -> bool) {
        while let Some(waiting) = self.take_waiting(queue, &which) {
            self.answer(waiting.reply, Err(why()));
        }
    }

    /// Who waits for a session, as moderators are told.
    pub(crate) fn who_waits(&self, session: &str) -> Value {
        let queue = self.queues.get(session).and_then(|queue| self.waiting.get(queue));
        queue.map_or_else(|| json!([]), Queue::to_json)
    }

    /// Tells one who may moderate, and is new or newly may, who waits.
    pub(crate) fn tell_who_waits(&mut self, place: Place) {
        let Some(room) = self.rooms.get(&place.room) else { return };
        let Some(seat) = room.seats.get(&place.seat).filter(|seat| seat.may().moderate) else { return };
        let Some(socket) = seat.socket.filter(|_| self.queues.contains_key(&room.session)) else { return };
        let payload = json!({ "participants": self.who_waits(&room.session) });
        self.emit(Recipients::One(socket), "waiting", &payload);
    }

    fn tell_position(&mut self, socket: SocketId, session: &str, position: usize) {
        self.emit(Recipients::One(socket), "waiting", &json!({ "sessionId": session, "position": position }));
    }

    /// A queue grew or shrank: it is told at the end of the input, but not more often than rosters are; an empty one is gone.
    fn queue_changed(&mut self, id: QueueId, now: Instant) {
        let Some(queue) = self.waiting.get_mut(&id) else { return };
        let due = queue.told_at.map_or(now, |at| (at + ROSTER_EVERY).max(now));
        let due = if queue.people.is_empty() { now } else { due };
        let old = queue.armed.replace(due);
        self.rearm(Timer::Waiting(id), old, Some(due));
    }

    /// Tells moderators who waits, and those who wait their place where it changed.
    pub(crate) fn tell_queue(&mut self, id: QueueId, now: Now) {
        let Some(queue) = self.waiting.get_mut(&id) else { return };
        queue.armed = None;
        queue.told_at = Some(now.mono);
        let session = queue.session.clone();
        let payload = json!({ "participants": queue.to_json() });
        let mut moved = Vec::new();
        for (index, waiting) in queue.people.iter_mut().enumerate() {
            if waiting.position != index + 1 {
                waiting.position = index + 1;
                moved.push((waiting.reply.socket, index + 1));
            }
        }
        if queue.people.is_empty() {
            self.waiting.remove(&id);
            self.queues.remove(&session);
        }
        let room = self.sessions.get(&session).and_then(|room| self.rooms.get(room));
        let moderators = room.map(|room| room.moderators()).unwrap_or_default();
        self.emit(Recipients::Many(moderators), "waiting", &payload);
        for (socket, position) in moved {
            self.tell_position(socket, &session, position);
        }
    }
}

fn nobody() -> Refused {
    ErrorCode::UnknownTarget.because("Nobody of that waitingId waits for this session.")
}
