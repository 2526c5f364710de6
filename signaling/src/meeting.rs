//! The life of a meeting: it begins with its first connection, outlives its last seat for a while, and ends once.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sfu::{Now, RoomId};

use crate::attendance::Open;
use crate::fact::{Fact, Reason};
use crate::limits::ROOMS_MAX;
use crate::room::{Known, SeatId};
use crate::seat::Place;
use crate::{Lobby, Timer};

/// What a room remembers of its present meeting beside its seats.
#[derive(Debug, Default)]
pub(crate) struct Life {
    /// When it began or was taken over by our own clock, and the Unix ms that stand for it; `None` before its first fact.
    anchor: Option<(Instant, u64)>,
    /// When the last of its connections that have ended ended, Unix ms.
    last_left: u64,
    /// Nobody is there: when it ends if nobody comes.
    empty_until: Option<Instant>,
    /// Who speaks, as the SFU last said: as many as it tells of at most.
    pub(crate) speaking: BTreeSet<SeatId>,
    /// Who was removed and stays out, with the id and the expiry (Unix ms) of the token if it had one. As many as moderators remove:
    /// one each at most, of those who had a seat.
    pub(crate) removed: Vec<(Arc<str>, Option<Arc<str>>, u64)>,
}

impl Life {
    /// The time that an instant has in the meeting's history, Unix ms: durations are those of our own clock, however the wall
    /// clock is set meanwhile.
    pub(crate) fn stamp(&self, at: Instant) -> u64 {
        self.anchor.map_or(0, |(mono, wall)| wall + at.saturating_duration_since(mono).as_millis() as u64)
    }

    /// When it began or was taken over, Unix ms; `None` before its first fact.
    pub(crate) fn began(&self) -> Option<u64> {
        self.anchor.map(|(_, wall)| wall)
    }

    /// A connection ended.
    pub(crate) fn left(&mut self, at: u64) {
        self.last_left = self.last_left.max(at);
    }
}

impl Lobby {
    /// The time in a room's meeting, Unix ms: what its facts are stamped with.
    pub(crate) fn at(&self, room: RoomId) -> u64 {
        let life = self.rooms.get(&room).map(|room| &room.life).filter(|life| life.anchor.is_some());
        self.now.map_or(0, |now| life.map_or(now.unix_ms, |life| life.stamp(now.mono)))
    }

    /// Somebody is there: the meeting begins unless it is on, and does not end for want of people.
    pub(crate) fn begin_meeting(&mut self, id: RoomId) {
        let (Some(now), Some(room)) = (self.now, self.rooms.get_mut(&id)) else { return };
        if room.life.anchor.is_none() {
            room.life.anchor = Some((now.mono, now.unix_ms));
            let (meeting, session) = (room.meeting.clone(), room.session.clone());
            let grace_ms = room.settings.grace_ms.unwrap_or(self.config.grace_ms);
            self.record(Fact::MeetingStarted { meeting, session, at: now.unix_ms, grace_ms });
        }
        self.ends_when_empty(id, None);
    }

    /// A room's last seat is gone. Its meeting stays for who comes back; a meeting that never began does not.
    pub(crate) fn emptied(&mut self, id: RoomId) {
        self.end_viewers(id);
        let (Some(now), Some(room)) = (self.now, self.rooms.get_mut(&id)) else { return };
        room.life.speaking.clear();
        let armed = room.clock.armed.take();
        match (room.life.anchor, room.life.empty_until) {
            (None, _) => self.end_room(id),
            // Who had a seat since was never there.
            (Some(_), Some(_)) => {}
            (Some(_), None) => self.ends_when_empty(id, Some(now.mono + self.empty_timeout())),
        }
        self.rearm(Timer::Roster(id), armed, None);
    }

    fn empty_timeout(&self) -> Duration {
        Duration::from_millis(self.config.empty_timeout_ms)
    }

    fn ends_when_empty(&mut self, id: RoomId, until: Option<Instant>) {
        let Some(room) = self.rooms.get_mut(&id) else { return };
        let old = std::mem::replace(&mut room.life.empty_until, until);
        if let Some(at) = old {
            self.empty.remove(&(at, id));
        }
        self.empty.extend(until.map(|at| (at, id)));
        self.rearm(Timer::Empty(id), old, until);
    }

    /// Makes a place for one more room: beyond [`ROOMS_MAX`] the meeting that nobody has been in for longest ends early.
    pub(crate) fn make_room(&mut self) {
        if self.rooms.len() >= ROOMS_MAX
            && let Some((_, longest)) = self.empty.first()
        {
            self.end_meeting(*longest);
        }
    }

    /// Ends a meeting for all: its seats end with [`Reason::Ended`], and it is over at once. Who was there is told by the caller.
    pub(crate) fn end_meeting(&mut self, id: RoomId) {
        let seats = self.rooms.get(&id).map(|r| r.seats.keys().copied().collect::<Vec<_>>()).unwrap_or_default();
        for seat in seats {
            self.leave(Place { room: id, seat }, Reason::Ended);
        }
        self.end_room(id);
    }

    /// Lets history know that a room's meeting is over, when the room goes.
    pub(crate) fn meeting_over(&mut self, id: RoomId) {
        self.ends_when_empty(id, None);
        let Some(room) = self.rooms.get(&id).filter(|room| room.life.anchor.is_some()) else { return };
        let (meeting, at) = (room.meeting.clone(), room.life.last_left);
        self.record(Fact::MeetingEnded { meeting, at });
    }

    /// Goes on with the meetings that a former boot left open, with nobody there.
    pub(crate) fn restore(&mut self, open: Open, now: Now) {
        for (meeting, left) in open.meetings {
            for (_, token, expires_ms) in &left.removed {
                if let Some(token) = token {
                    self.revoke_token(token.clone(), *expires_ms);
                }
            }
            let at = left.empty_since.unwrap_or(left.last_at);
            if self.sessions.contains_key(&left.session) {
                self.record(Fact::MeetingEnded { meeting, at });
                continue;
            }
            let id = self.new_room(&left.session);
            let Some(room) = self.rooms.get_mut(&id) else { continue };
            room.meeting = meeting;
            room.life.anchor = Some((now.mono, now.unix_ms.max(left.last_at)));
            room.life.last_left = at;
            room.life.removed = left.removed;
            room.locked = left.locked;
            room.known = left.known.into_iter().map(|(user, promoted)| (user, Known { promoted })).collect();
            let waited = Duration::from_millis(now.unix_ms.saturating_sub(at));
            self.ends_when_empty(id, Some(now.mono + self.empty_timeout().saturating_sub(waited)));
        }
    }
}
