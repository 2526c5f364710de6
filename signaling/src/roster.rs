//! Rosters: who is here, told not more often than people can read.

use std::time::{Duration, Instant};

use serde::{Serialize, Serializer, ser::SerializeSeq};
use serde_json::value::RawValue;
use sfu::{Now, RoomId};

use crate::limits::{ROSTER_EVERY, ROSTER_HUGE_EVERY, ROSTER_HUGE_MIN, ROSTER_LARGE_EVERY, ROSTER_SMALL_MAX};
use crate::room::Room;
use crate::seat::{Place, Seat};
use crate::wire::encode;
use crate::{Lobby, Timer};

/// One line of the roster.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Entry<'a> {
    user_id: &'a str,
    user_name: &'a str,
    is_instructor: bool,
    role: &'static str,
    participant_id: &'a str,
    state: &'static str,
    hand_raised: bool,
    tracks: Vec<Track>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<&'a RawValue>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Track {
    track_id: String,
    kind: &'static str,
    source: &'static str,
    muted: bool,
}

impl<'a> Entry<'a> {
    pub(crate) fn of(seat: &'a Seat) -> Self {
        let track = |t: &sfu::TrackInfo| Track {
            track_id: t.track.to_string(),
            kind: t.kind.as_str(),
            source: t.source.as_str(),
            muted: t.muted,
        };
        Entry {
            user_id: &seat.user,
            user_name: &seat.name,
            is_instructor: seat.is_instructor(),
            role: seat.standing.role.as_str(),
            participant_id: &seat.participant,
            state: if seat.is_held() { "connected" } else { "reconnecting" },
            hand_raised: seat.hand_raised,
            tracks: seat.tracks.values().map(track).collect(),
            metadata: seat.metadata.as_deref(),
        }
    }
}

/// The whole roster, in order of arrival.
pub(crate) struct Roster<'a>(pub(crate) &'a Room);

impl Serialize for Roster<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(self.0.seats.len()))?;
        for seat in self.0.seats.values() {
            list.serialize_element(&seat.entry())?;
        }
        list.end()
    }
}

#[derive(Serialize)]
struct Update<'a> {
    participants: Roster<'a>,
}

/// When a room's roster was and will be told.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Clock {
    whole_at: Option<Instant>,
    lines_at: Option<Instant>,
    /// Something changed since the last whole roster.
    stale: bool,
    pub(crate) armed: Option<Instant>,
}

/// How far apart whole rosters of so many seats are.
fn whole_every(seats: usize) -> Duration {
    if seats <= ROSTER_SMALL_MAX {
        return ROSTER_EVERY;
    }
    let part = seats.min(ROSTER_HUGE_MIN) as f64 / ROSTER_HUGE_MIN as f64;
    ROSTER_HUGE_EVERY.mul_f64(part * part).max(ROSTER_LARGE_EVERY)
}

impl Lobby {
    /// A seat came, went or changed name: the roster must be told.
    pub(crate) fn roster_changed(&mut self, room: RoomId) {
        if let Some(r) = self.rooms.get_mut(&room) {
            r.clock.stale = true;
            self.dirty.insert(room);
        }
    }

    /// A seat's line changed.
    pub(crate) fn line_changed(&mut self, place: Place) {
        if let Some(r) = self.rooms.get_mut(&place.room) {
            r.changed.insert(place.seat);
        }
        self.note_changes(place);
        self.roster_changed(place.room);
    }

    /// Tells the rosters that are due and sets the time for the others.
    pub(crate) fn tell_rosters(&mut self, now: Now) {
        while let Some(room) = self.dirty.pop_first() {
            self.tell_roster(room, now.mono);
        }
    }

    pub(crate) fn tell_roster(&mut self, id: RoomId, now: Instant) {
        let Some(room) = self.rooms.get_mut(&id) else {
            return;
        };
        let large = room.seats.len() > ROSTER_SMALL_MAX;
        let whole_due = room.clock.whole_at.map(|t| t + whole_every(room.seats.len()));
        let lines_due = room.clock.lines_at.map(|t| t + ROSTER_EVERY);
        let due = |at: Option<Instant>| at.is_none_or(|t| t <= now);
        let mut news = Vec::new();
        if room.clock.stale && due(whole_due) {
            news.push(("participants-update", encode(&Update { participants: Roster(room) })));
            room.changed.clear();
            room.clock.stale = false;
            room.clock.whole_at = Some(now);
            room.clock.lines_at = Some(now);
        } else if large && !room.changed.is_empty() && due(lines_due) {
            let lines = std::mem::take(&mut room.changed);
            let seats = lines.iter().filter_map(|seat| room.seats.get(seat));
            news.extend(seats.map(|seat| ("participant-updated", encode(&seat.entry()))));
            room.clock.lines_at = Some(now);
        }
        let next_whole = whole_due.filter(|_| room.clock.stale);
        let next_lines = lines_due.filter(|_| large && !room.changed.is_empty());
        let next = next_whole.into_iter().chain(next_lines).min();
        let armed = std::mem::replace(&mut room.clock.armed, next);
        let to = room.sockets(None);
        self.rearm(Timer::Roster(id), armed, next);
        for (event, payload) in news {
            self.emit_raw(to.clone(), event, payload);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_larger_the_room_the_rarer_its_roster() {
        let every = |seats| whole_every(seats).as_millis();
        assert_eq!([1, 100, 101, 300].map(every), [100, 100, 1_000, 1_000]);
        assert_eq!([500, 1_000, 5_000].map(every), [2_500, 10_000, 10_000]);
    }
}
