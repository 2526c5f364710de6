//! What the SFU says of flowing media: who speaks, what is paused, which layers are watched, how good connections are.
//!
//! All of it is state that changes, so a seat's peer remembers the last of it, and a client whose socket or page is new gets
//! it again: what it is not told then is as it usually is.

use std::sync::Arc;

use serde_json::{Value, json};
use sfu::{Cause, Pause, PeerId, RoomId, TrackId};

use crate::Lobby;
use crate::api::{Recipients, SocketId, WorkerId};
use crate::limits::QUALITY_TO_ALL_MAX;
use crate::room::Room;
use crate::seat::{Peer, Place, Seat};
use crate::wire::encode;

/// The best score of a connection, of which nobody needs to be reminded.
const EXCELLENT: u8 = 4;

impl Lobby {
    /// Who speaks, and which shared m-line carries whom: a worker says it to its own, for the m-lines are its.
    pub(crate) fn speakers(
        &mut self,
        worker: WorkerId,
        room: RoomId,
        speakers: &[(PeerId, u8)],
        audio: &[(u8, PeerId)],
    ) {
        if self.rooms.get(&room).is_some_and(|room| room.speaks_for_all(worker)) {
            self.note_speakers(room, speakers);
        }
        let Some(r) = self.rooms.get(&room) else { return };
        let participant = |peer: &PeerId| {
            let place = self.peers.get(peer).filter(|place| place.room == room)?;
            Some(&*r.seats.get(&place.seat)?.participant)
        };
        let speaker =
            |(peer, level): &(PeerId, u8)| Some(json!({ "participantId": participant(peer)?, "level": level }));
        let line = |(n, peer): &(u8, PeerId)| {
            Some(json!({ "streamId": format!("audio-{n}"), "participantId": participant(peer)? }))
        };
        let mut payload = json!({ "speakers": speakers.iter().filter_map(speaker).collect::<Vec<Value>>() });
        if !audio.is_empty() {
            payload["audio"] = audio.iter().filter_map(line).collect();
        }
        let to = r.sockets_at(worker);
        self.emit(to, "active-speakers", &payload);
    }

    /// Nothing of a track flows to its subscriber any more, or it flows again, having been paused for `why`.
    pub(crate) fn track_flow(&mut self, peer: PeerId, track: TrackId, paused: bool, why: Pause) {
        let Some(place) = self.peers.get(&peer).copied() else { return };
        let Some(room) = self.rooms.get_mut(&place.room) else { return };
        let known = room.tracks.contains_key(&track);
        let Some(seat) = room.seats.get_mut(&place.seat) else { return };
        let Some(peer) = seat.peer.as_mut() else { return };
        if paused && known {
            peer.paused.insert(track, why);
        } else {
            peer.paused.remove(&track);
        }
        if let Some(socket) = seat.listener() {
            let event = if paused { "track-paused" } else { "track-resumed" };
            self.emit(Recipients::One(socket), event, &paused_payload(track, why));
        }
    }

    /// Which layers of its track a publisher need not send.
    pub(crate) fn layers_wanted(&mut self, peer: PeerId, track: TrackId, layers: &[(Arc<str>, bool)]) {
        let Some(place) = self.peers.get(&peer).copied() else { return };
        let Some(seat) = self.seat_mut(place) else { return };
        let Some(peer) = seat.peer.as_mut().filter(|_| seat.tracks.contains_key(&track)) else { return };
        let layers: Vec<Value> =
            layers.iter().map(|(rid, active)| json!({ "rid": &**rid, "active": active })).collect();
        let payload = encode(&json!({ "trackId": track.to_string(), "layers": layers }));
        peer.layers_wanted.insert(track, payload.clone());
        if let Some(socket) = seat.listener() {
            self.emit_raw(Recipients::One(socket), "layers-wanted", payload);
        }
    }

    /// How good a participant's connection is.
    pub(crate) fn quality(&mut self, peer: PeerId, score: u8, cause: Option<Cause>) {
        let Some(place) = self.peers.get(&peer).copied() else { return };
        let Some((_, peer)) = self.peer_mut(place) else { return };
        if peer.quality.replace((score, cause)) == Some((score, cause)) {
            return;
        }
        let Some(room) = self.rooms.get(&place.room) else { return };
        let Some(seat) = room.seats.get(&place.seat) else { return };
        let to = if room.seats.len() <= QUALITY_TO_ALL_MAX {
            room.sockets(None)
        } else {
            let told = room.seats.iter().filter(|(id, other)| **id == place.seat || other.is_instructor());
            Recipients::Many(told.filter_map(|(_, other)| other.socket).collect())
        };
        let payload = quality_payload(seat, score, cause);
        self.emit(to, "connection-quality", &payload);
    }

    /// Gives a client whose socket or page is new what the last one was told.
    pub(crate) fn repeat_flow(&mut self, place: Place) {
        let Some(room) = self.rooms.get(&place.room) else { return };
        let Some(seat) = room.seats.get(&place.seat) else { return };
        let Some((socket, peer)) = seat.listener().zip(seat.peer.as_ref()) else { return };
        let paused = peer.paused.iter().map(|(track, why)| ("track-paused", encode(&paused_payload(*track, *why))));
        let wanted = peer.layers_wanted.values().map(|payload| ("layers-wanted", payload.clone()));
        let news: Vec<_> = paused.chain(wanted).chain(qualities(room, seat)).collect();
        for (event, payload) in news {
            self.emit_raw(Recipients::One(socket), event, payload);
        }
    }

    /// A track has ended: nobody is told any more that it is paused.
    pub(crate) fn forget_flow(&mut self, room: RoomId, track: TrackId) {
        let Some(room) = self.rooms.get_mut(&room) else { return };
        for peer in room.seats.values_mut().filter_map(|seat| seat.peer.as_mut()) {
            peer.paused.remove(&track);
            peer.layers_wanted.remove(&track);
        }
    }
}

/// The connections of which a seat is told, where they are not excellent.
fn qualities<'a>(
    room: &'a Room,
    seat: &'a Seat,
) -> impl Iterator<Item = (&'static str, Arc<serde_json::value::RawValue>)> + 'a {
    let all = room.seats.len() <= QUALITY_TO_ALL_MAX || seat.is_instructor();
    let told = room.seats.values().filter(move |other| all || other.participant == seat.participant);
    told.filter_map(|other| {
        let (score, cause) = other.peer.as_ref()?.quality.filter(|(score, _)| *score < EXCELLENT)?;
        Some(("connection-quality", encode(&quality_payload(other, score, cause))))
    })
}

fn quality_payload(seat: &Seat, score: u8, cause: Option<Cause>) -> Value {
    let mut payload = json!({ "participantId": &*seat.participant, "score": score });
    if let Some(cause) = cause {
        payload["cause"] = json!(cause_word(cause));
    }
    payload
}

/// A cause as the wire has it.
pub(crate) fn cause_word(cause: Cause) -> &'static str {
    match cause {
        Cause::Uplink => "uplink",
        Cause::Downlink => "downlink",
        Cause::Server => "server",
        Cause::Relay => "relay",
    }
}

fn paused_payload(track: TrackId, why: Pause) -> Value {
    json!({ "trackId": track.to_string(), "reason": pause_word(why) })
}

/// A reason as the wire has it.
pub(crate) fn pause_word(why: Pause) -> &'static str {
    match why {
        Pause::Bandwidth => "bandwidth",
        Pause::Unsubscribed => "unsubscribed",
    }
}

impl Seat {
    /// The socket that may be told of media: its client speaks to the SFU.
    fn listener(&self) -> Option<SocketId> {
        self.socket.filter(|_| self.peer.as_ref().is_some_and(|peer: &Peer| peer.listening))
    }
}
