//! What the lobby lets history know: connections with their proofs of life, what they published, who spoke for how long.
//!
//! A fact never says more than is known: a connection that vanished ends at its last proof of life, not when that was noticed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use sfu::{Kind, PeerId, RoomId, Source, TrackId};

use crate::Lobby;
use crate::access::Role;
use crate::api::{Output, SocketId};
use crate::fact::{Alive, Fact, FactId, Reason};
use crate::limits::PING_EVERY;
use crate::room::SeatId;
use crate::seat::{Place, Seat};

/// A seat's present connection, as history knows it: a socket, or a WHIP client's peer.
#[derive(Debug)]
pub(crate) struct Connection {
    id: Arc<str>,
    /// The fact by which it began.
    joined: FactId,
    /// The last proof of life.
    alive: Instant,
    /// The last that history knows of.
    told_alive: Instant,
    /// Since when it speaks.
    speaking: Option<Instant>,
    /// How long it spoke that history does not know of.
    spoke: Duration,
    /// What history knows of it beside.
    told: Told,
}

#[derive(Debug, Default)]
struct Told {
    name: Arc<str>,
    role: Role,
    media: bool,
    tracks: BTreeMap<TrackId, (Source, bool)>,
}

impl Connection {
    /// Ends a stretch of speech.
    fn hush(&mut self, now: Instant) {
        if let Some(since) = self.speaking.take() {
            self.spoke += now.saturating_duration_since(since);
        }
    }

    /// What is new since the last heartbeat: the proof of life, and how long it spoke in ms; `None` if nothing is.
    fn beat(&mut self, now: Instant) -> Option<(Instant, u64)> {
        if self.speaking.is_some() {
            self.hush(now);
            self.speaking = Some(now);
        }
        let spoke_ms = self.spoke.as_millis() as u64;
        if self.alive == self.told_alive && spoke_ms == 0 {
            return None;
        }
        self.spoke -= Duration::from_millis(spoke_ms);
        self.told_alive = self.alive;
        Some((self.alive, spoke_ms))
    }
}

impl Seat {
    /// The fact by which its present connection began.
    pub(crate) fn joined(&self) -> Option<FactId> {
        self.connection.as_ref().map(|connection| connection.joined)
    }

    /// Whether it has a microphone that is not muted.
    fn is_heard(&self) -> bool {
        self.tracks.values().any(|t| t.kind == Kind::Audio && t.source == Source::Microphone && !t.muted)
    }

    /// What history does not know yet of its name, role, media and tracks.
    fn news(&mut self, meeting: &Arc<str>, at: u64, now: Instant) -> Vec<Fact> {
        let (is_heard, role) = (self.is_heard(), self.standing.role);
        let media = self.peer.as_ref().is_some_and(|peer| peer.is_up);
        let Some(connection) = &mut self.connection else { return Vec::new() };
        if !is_heard {
            connection.hush(now);
        }
        let mut news = Vec::new();
        let of = || (meeting.clone(), connection.id.clone());
        let told = &mut connection.told;
        if told.name != self.name || told.role != role {
            (told.name, told.role) = (self.name.clone(), role);
            let (meeting, connection) = of();
            news.push(Fact::Changed { meeting, connection, name: self.name.clone(), role, at });
        }
        if std::mem::replace(&mut told.media, media) != media {
            let (meeting, connection) = of();
            news.push(Fact::Media { meeting, connection, up: media, at });
        }
        let mut track = |track: TrackId, source: Source, on: bool, muted: bool| {
            let (meeting, connection) = of();
            let (track, source) = (track.to_string().into(), source.as_str().into());
            news.push(Fact::Track { meeting, connection, track, source, on, muted, at });
        };
        told.tracks.retain(|id, (source, muted)| {
            let stays = self.tracks.contains_key(id);
            if !stays {
                track(*id, *source, false, *muted);
            }
            stays
        });
        for (id, info) in &self.tracks {
            if told.tracks.insert(*id, (info.source, info.muted)) != Some((info.source, info.muted)) {
                track(*id, info.source, true, info.muted);
            }
        }
        news
    }
}

impl Lobby {
    /// Lets history know of a fact; its number.
    pub(crate) fn record(&mut self, fact: Fact) -> FactId {
        self.facts += 1;
        let id = FactId(self.facts);
        self.out.push_back(Output::Fact { id, fact });
        id
    }

    /// A seat's connection begins, and with the first of a meeting the meeting; `resumes` names the seat's last connection.
    pub(crate) fn begin_connection(&mut self, place: Place, resumes: Option<Arc<str>>) -> Option<FactId> {
        let now = self.now?;
        self.begin_meeting(place.room);
        let at = self.at(place.room);
        let id: Arc<str> = self.random_id("c_", 16).into();
        let room = self.rooms.get(&place.room)?;
        let seat = room.seats.get(&place.seat)?;
        let (name, role, socket) = (seat.name.clone(), seat.standing.role, seat.socket);
        let fact = Fact::Joined {
            meeting: room.meeting.clone(),
            connection: id.clone(),
            participant: seat.participant.clone(),
            user: seat.user.clone(),
            name: name.clone(),
            role,
            at,
            resumes,
        };
        let joined = self.record(fact);
        let told = Told { name, role, ..Told::default() };
        let (alive, told_alive) = (now.mono, now.mono);
        self.seat_mut(place)?.connection =
            Some(Connection { id, joined, alive, told_alive, speaking: None, spoke: Duration::ZERO, told });
        if let Some(socket) = socket.and_then(|socket| self.sockets.get_mut(&socket)) {
            socket.has_joined = true;
        }
        self.note_changes(place);
        Some(joined)
    }

    /// A seat's connection ends, if it has one; its id. What the server ends while somebody is there, or who is there by its own
    /// wish, ends now; all else at the last proof of life.
    pub(crate) fn end_connection(&mut self, place: Place, reason: Reason) -> Option<Arc<str>> {
        let now = self.now?.mono;
        let seat = self.seat_mut(place)?;
        let is_held = seat.is_held();
        let mut connection = seat.connection.take()?;
        let reason = match reason {
            // Nobody was there any more whom anybody could replace.
            Reason::Replaced if !is_held => Reason::Disconnected,
            reason => reason,
        };
        if is_held && matches!(reason, Reason::Left | Reason::Removed | Reason::Ended) {
            connection.alive = now;
        }
        connection.hush(now);
        let room = self.rooms.get(&place.room)?;
        let (meeting, left) = (room.meeting.clone(), room.life.stamp(connection.alive));
        if connection.spoke >= Duration::from_millis(1)
            && let Some((_, speaking_ms)) = connection.beat(now)
        {
            let alive = vec![Alive { connection: connection.id.clone(), at: left, speaking_ms }];
            let at = self.at(place.room);
            self.record(Fact::Activity { meeting: meeting.clone(), alive, at });
        }
        let id = connection.id.clone();
        self.record(Fact::Left { meeting, connection: id.clone(), at: left, reason, uncertainty_ms: 0 });
        if let Some(room) = self.rooms.get_mut(&place.room) {
            room.life.left(left);
        }
        Some(id)
    }

    /// A seat was heard of.
    pub(crate) fn proof_of_life(&mut self, place: Place, at: Instant) {
        let Some(now) = self.now else { return };
        if let Some(connection) = self.seat_mut(place).and_then(|seat| seat.connection.as_mut()) {
            connection.alive = connection.alive.max(at.min(now.mono));
        }
    }

    /// A socket was heard of.
    pub(crate) fn heard(&mut self, socket: SocketId, at: Instant) {
        if let Some(place) = self.sockets.get(&socket).and_then(|socket| socket.place) {
            self.proof_of_life(place, at);
        }
    }

    /// Lets history know what changed about a seat, if anything did.
    pub(crate) fn note_changes(&mut self, place: Place) {
        let Some(now) = self.now else { return };
        let at = self.at(place.room);
        let Some(room) = self.rooms.get_mut(&place.room) else { return };
        let Some(seat) = room.seats.get_mut(&place.seat) else { return };
        for fact in seat.news(&room.meeting, at, now.mono) {
            self.record(fact);
        }
    }

    /// Whether a peer's media flows.
    pub(crate) fn media_is(&mut self, peer: PeerId, is_up: bool) {
        let Some(place) = self.peers.get(&peer).copied() else { return };
        if let Some((_, peer)) = self.peer_mut(place) {
            peer.is_up = is_up;
            self.note_changes(place);
        }
    }

    /// A peer was sampled: it gave a valid check `silence` ago.
    pub(crate) fn sampled(&mut self, peer: PeerId, silence: Duration) {
        let Some((place, now)) = self.peers.get(&peer).copied().zip(self.now) else { return };
        if let Some(at) = now.mono.checked_sub(silence) {
            self.proof_of_life(place, at);
        }
        // Consent that was lost is back by a restart of ICE, of which nothing else tells.
        if silence < sfu::SAMPLE_INTERVAL {
            self.media_is(peer, true);
        }
    }

    /// Who speaks in a room from now on. Who is muted does not, whatever is sent.
    pub(crate) fn note_speakers(&mut self, id: RoomId, speakers: &[(PeerId, u8)]) {
        let Some(now) = self.now else { return };
        let Some(room) = self.rooms.get_mut(&id) else { return };
        let places = speakers.iter().filter_map(|(peer, _)| self.peers.get(peer));
        let speaking: BTreeSet<SeatId> = places.filter(|p| p.room == id).map(|p| p.seat).collect();
        for silent in room.life.speaking.difference(&speaking) {
            if let Some(connection) = room.seats.get_mut(silent).and_then(|seat| seat.connection.as_mut()) {
                connection.hush(now.mono);
            }
        }
        for seat in &speaking {
            let Some(seat) = room.seats.get_mut(seat).filter(|seat| seat.is_heard()) else { continue };
            if let Some(connection) = &mut seat.connection {
                connection.speaking.get_or_insert(now.mono);
            }
        }
        room.life.speaking = speaking;
    }

    /// All connections end because the server does: those that are there now, others at their last proof of life.
    pub(crate) fn stop(&mut self, sockets: &[(SocketId, Instant)]) {
        let Some(now) = self.now else { return };
        self.heartbeat(sockets);
        self.is_stopping = true;
        let seats =
            self.rooms.iter().flat_map(|(room, r)| r.seats.keys().map(|seat| Place { room: *room, seat: *seat }));
        for place in seats.collect::<Vec<_>>() {
            if self.seat(place).is_some_and(Seat::is_held) {
                self.proof_of_life(place, now.mono);
            }
            self.end_connection(place, Reason::Disconnected);
        }
    }

    /// The heartbeat: proofs of life of sockets, and what is new of all connections.
    pub(crate) fn heartbeat(&mut self, sockets: &[(SocketId, Instant)]) {
        let Some(now) = self.now else { return };
        for (socket, at) in sockets {
            self.heard(*socket, *at);
        }
        let mut beats = Vec::new();
        for (id, room) in &mut self.rooms {
            let life = &room.life;
            let connections = room.seats.values_mut().filter_map(|seat| seat.connection.as_mut());
            let mut is_overdue = false;
            let alive: Vec<Alive> = connections
                .filter_map(|connection| {
                    is_overdue |= now.mono.saturating_duration_since(connection.alive) > PING_EVERY;
                    let (at, speaking_ms) = connection.beat(now.mono)?;
                    Some(Alive { connection: connection.id.clone(), at: life.stamp(at), speaking_ms })
                })
                .collect();
            // Of one who has been silent for long a crash must know that the server was there all that time.
            if !alive.is_empty() || is_overdue {
                beats.push((*id, room.meeting.clone(), alive));
            }
        }
        for (room, meeting, alive) in beats {
            let at = self.at(room);
            self.record(Fact::Activity { meeting, alive, at });
        }
    }
}
