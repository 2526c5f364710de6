//! What the lobby lets history know: facts, numbered in order, with times that no step of the wall clock changes.

use sfu::{Now, RoomId};

use crate::Lobby;
use crate::api::Output;
use crate::fact::{Fact, FactId, Reason};
use crate::seat::Place;

impl Lobby {
    /// Lets history know of a fact; its number.
    pub(crate) fn record(&mut self, fact: Fact) -> FactId {
        self.facts += 1;
        let id = FactId(self.facts);
        self.out.push_back(Output::Fact { id, fact });
        id
    }

    /// Ends a meeting for all: its seats end with [`Reason::Ended`], and it is over at once. Who was there is told by the caller.
    pub(crate) fn end_meeting(&mut self, room: RoomId) {
        let seats = self.rooms.get(&room).map(|r| r.seats.keys().copied().collect::<Vec<_>>()).unwrap_or_default();
        for seat in seats {
            self.leave(Place { room, seat }, Reason::Ended);
        }
    }

    /// The time in a room's meeting, Unix ms: what its facts are stamped with.
    pub(crate) fn at(&self, _room: RoomId) -> u64 {
        self.now.map_or(0, |now: Now| now.unix_ms)
    }
}
