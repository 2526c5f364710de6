//! The worker of a publisher: what it tells the other workers of its tracks, and what they want of them.

use std::sync::Arc;

use super::{Described, MESSAGE_BYTES_MAX, Notice, PipeBatch, PipeEnd, Relayed, Workers, of_clock};
use crate::data::Message;
use crate::track::Track;
use crate::{Drop, Now, RoomId, Sfu, TrackId};

impl Sfu {
    /// The workers for which something waits.
    pub fn piped(&self) -> Workers {
        self.pipes.waiting
    }

    /// Exchanges what waits for a worker for an empty batch. That worker's [`Sfu::receive_pipe`] must get each batch, in
    /// order.
    pub fn take_pipe(&mut self, worker: usize, empty: &mut PipeBatch) {
        self.pipes.waiting = self.pipes.waiting.without(worker);
        if let Some(batch) = self.pipes.batches.get_mut(worker) {
            std::mem::swap(batch, empty);
        }
    }

    /// A room is on these other workers from now on: new ones are told of its tracks here, and those that it left that
    /// these have ended.
    pub(crate) fn spread(&mut self, room: RoomId, others: Workers) {
        let Some(room) = self.rooms_by_id.get(&room).and_then(|key| self.rooms.get_mut(*key)) else { return };
        let before = std::mem::replace(&mut room.others, others);
        let peers = room.peers.iter().filter_map(|key| self.peers.get(*key)).filter(|peer| peer.pipe.is_none());
        let tracks: Vec<usize> = peers.flat_map(|peer| peer.published.iter().copied()).collect();
        for track_key in tracks {
            for worker in others.iter().filter(|worker| !before.has(*worker)) {
                self.announce_to(worker, track_key);
            }
            let Some(track) = self.tracks.get_mut(track_key) else { continue };
            track.ends.retain(|end| others.has(end.worker));
            let track = track.id;
            for worker in before.iter().filter(|worker| !others.has(*worker)) {
                self.pipes.tell(worker, Notice::Ended { track });
            }
        }
    }

    /// Tells the other workers of its room what there is to know of a track.
    pub(crate) fn announce(&mut self, track_key: usize) {
        for worker in self.others_of(track_key).iter() {
            self.announce_to(worker, track_key);
        }
    }

    /// What others know of a peer has changed.
    pub(crate) fn announce_peer(&mut self, key: usize) {
        let tracks = self.peers.get(key).map(|peer| peer.published.clone()).unwrap_or_default();
        for track in tracks {
            self.announce(track);
        }
    }

    /// A track is about to end.
    pub(crate) fn announce_end(&mut self, track_key: usize) {
        let others = self.others_of(track_key);
        let Some(track) = self.tracks.get(track_key).map(|track| track.id) else { return };
        for worker in others.iter() {
            self.pipes.tell(worker, Notice::Ended { track });
        }
    }

    /// The workers that know of a track that is published here.
    fn others_of(&self, track_key: usize) -> Workers {
        let track = self.tracks.get(track_key).filter(|track| track.source_pipe.is_none());
        let publisher = track.and_then(|track| self.peers.get(track.publisher));
        publisher.and_then(|peer| self.rooms.get(peer.room)).map(|room| room.others).unwrap_or_default()
    }

    fn announce_to(&mut self, worker: usize, track_key: usize) {
        let Some(track) = self.tracks.get(track_key) else { return };
        let Some(peer) = self.peers.get(track.publisher) else { return };
        let Some(room) = self.rooms.get(peer.room) else { return };
        let described = Described {
            room: room.id,
            peer: peer.id,
            participant: peer.participant.clone(),
            instructor: peer.rights.instructor,
            track: track.id,
            kind: track.kind,
            source: track.source,
            muted: track.muted,
            held: track.held,
            codecs: track.codecs.clone(),
            rids: track.layers.iter().filter_map(|layer| layer.rid.clone()).collect(),
            layers: track.layers.len(),
        };
        self.pipes.tell(worker, Notice::Track(Box::new(described)));
    }

    /// Relays a message to the other workers of its room.
    pub(crate) fn pipe_message(&mut self, room_key: usize, to: &str, message: &Message, bytes: &Arc<[u8]>) {
        let Some(room) = self.rooms.get(room_key) else { return };
        let size = bytes.len() + to.len() + size_of::<Relayed>();
        for worker in room.others.iter() {
            let batch = self.pipes.batch(worker);
            if batch.message_bytes + size > MESSAGE_BYTES_MAX {
                self.counters.drops[Drop::DataOverrun as usize] += 1;
                continue;
            }
            batch.message_bytes += size;
            batch.add(Notice::Message(Box::new(Relayed {
                room: room.id,
                to: to.into(),
                label: message.label.clone(),
                text: message.text,
                ordered: message.ordered,
                reliability: message.reliability,
                bytes: bytes.clone(),
            })));
        }
    }

    /// What another worker wants of a track that is published here.
    pub(super) fn take_interest_of(&mut self, worker: usize, id: TrackId, flows: bool, wanted: u8, now: Now) {
        let Some(track_key) = self.tracks_by_id.get(&id).copied() else { return };
        // What it wanted before it lost its last peer of the room.
        if !self.others_of(track_key).has(worker) {
            return;
        }
        let Some(track) = self.tracks.get_mut(track_key) else { return };
        let before = track.ends.iter().position(|end| end.worker == worker);
        match (before, flows) {
            (Some(end), true) => track.ends[end].wanted = wanted,
            (Some(end), false) => _ = track.ends.swap_remove(end),
            (None, true) => {
                track.ends.push(PipeEnd { worker, wanted });
                self.tell_clocks(worker, track_key);
            }
            (None, false) => {}
        }
        let layers = self.tracks.get(track_key).map_or(0, |track: &Track| track.layers.len());
        for layer in (0..layers).filter(|layer| flows && wanted >> layer & 1 == 1) {
            self.watch(track_key, layer, false, now.mono);
        }
    }

    fn tell_clocks(&mut self, worker: usize, track_key: usize) {
        let Some(track) = self.tracks.get(track_key) else { return };
        for (place, layer) in track.layers.iter().enumerate() {
            if let Some(clock) = layer.clock {
                self.pipes.tell(worker, of_clock(track, place, clock));
            }
        }
    }

    /// Somebody on another worker waits for a keyframe: that is asked for together with what others want.
    pub(super) fn keyframe_wanted_by(&mut self, worker: usize, id: TrackId, place: usize, now: Now) {
        let Some(track_key) = self.tracks_by_id.get(&id).copied() else { return };
        if self.others_of(track_key).has(worker) {
            self.want_keyframe(track_key, place, now.mono);
        }
    }

    /// Listeners on another worker lose so much of a track that is published here.
    pub(super) fn loss_told_by(&mut self, worker: usize, id: TrackId, fraction: u8, now: Now) {
        let Some(track_key) = self.tracks_by_id.get(&id).copied() else { return };
        if self.others_of(track_key).has(worker)
            && let Some(track) = self.tracks.get_mut(track_key)
        {
            track.lost.note(fraction, now.mono);
        }
    }
}
