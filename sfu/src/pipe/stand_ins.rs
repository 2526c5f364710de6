//! The worker of subscribers: stand-ins publish here what comes through pipes, and what is wanted of it goes back.

use std::time::Instant;

use super::{Described, Notice, PipeBatch, Piped, Relayed, SourcePipe};
use crate::data::Message;
use crate::requests::Newcomer;
use crate::sdp::Mid;
use crate::track::Track;
use crate::{Codecs, Kind, Now, Rights, Sfu, TrackId, View};

impl Sfu {
    /// Takes what another worker's SFU gave to its [`Sfu::take_pipe`], and leaves it empty. What it causes to be sent waits
    /// for [`Sfu::next_run`].
    pub fn receive_pipe(&mut self, worker: usize, batch: &mut PipeBatch, now: Now) {
        self.latest = now.mono;
        for notice in batch.notices.drain(..) {
            self.guarded(now, |sfu| sfu.take_notice(worker, notice, now));
            self.blame = None;
        }
        let mut last = None;
        for piped in &batch.packets {
            self.guarded(now, |sfu| sfu.take_piped(worker, piped, &batch.bytes, &mut last, now));
            self.blame = None;
        }
        batch.clear();
    }

    fn take_notice(&mut self, worker: usize, notice: Notice, now: Now) {
        match notice {
            Notice::Track(described) => self.take_track(worker, &described, now),
            Notice::Ended { track } => self.end_track(worker, track, now),
            Notice::Clock { track, place, ssrc, epoch, clock } => {
                let Some(track_key) = self.foreign(worker, track) else { return };
                let layer = self.tracks.get_mut(track_key).and_then(|t| t.layers.get_mut(usize::from(place)));
                let Some(layer) = layer else { return };
                layer.follow(ssrc, epoch, now.mono);
                self.set_clock(track_key, place.into(), clock);
            }
            Notice::Interest { track, flows, wanted } => self.take_interest_of(worker, track, flows, wanted, now),
            Notice::Keyframe { track, place } => self.keyframe_wanted_by(worker, track, place.into(), now),
            Notice::Loss { track, fraction } => self.loss_told_by(worker, track, fraction, now),
            Notice::Message(relayed) => self.take_relayed(&relayed, now),
        }
    }

    /// A track that comes through a pipe from this worker.
    fn foreign(&self, worker: usize, id: TrackId) -> Option<usize> {
        let key = self.tracks_by_id.get(&id).copied()?;
        let source = self.tracks.get(key)?.source_pipe.as_ref()?;
        (source.worker == worker).then_some(key)
    }

    fn take_track(&mut self, worker: usize, described: &Described, now: Now) {
        let Some(key) = self.stand_in(worker, described, now) else { return };
        self.blame = Some(key);
        let Some(track_key) = self.foreign(worker, described.track) else {
            let Described { track: id, kind, source, .. } = *described;
            let mut track = Track::new(id, kind, source, key, described.participant.clone(), Mid::default());
            (track.muted, track.held) = (described.muted, described.held);
            track.codecs.clone_from(&described.codecs);
            track.take_layers(&described.rids, described.layers, now.mono);
            track.source_pipe = Some(SourcePipe { worker, ..SourcePipe::default() });
            let track_key = self.insert_track(track, now);
            return self.tell_interest(track_key);
        };
        self.describe_track(track_key, &described.codecs, &described.rids, described.layers, now);
        self.rename(track_key, described.source, described.muted, now);
        self.hold(key, described.track, described.held, now);
    }

    /// Who stands here for a publisher of that worker.
    fn stand_in(&mut self, worker: usize, described: &Described, now: Now) -> Option<usize> {
        let Some(key) = self.by_id.get(&described.peer).copied() else {
            let newcomer = Newcomer {
                participant: described.participant.clone(),
                auto_subscribe: false,
                offer_first: false,
                rights: Rights { instructor: described.instructor, data: false, subscribe: false, ..Rights::default() },
                codecs: Codecs::ALL,
                view: View::Tracks,
            };
            let key = self.insert_peer(described.peer, described.room, newcomer, now);
            self.peers[key].pipe = Some(worker);
            return Some(key);
        };
        let peer = self.peers.get_mut(key).filter(|peer| peer.pipe == Some(worker))?;
        if std::mem::replace(&mut peer.rights.instructor, described.instructor) != described.instructor {
            let room = peer.room;
            self.demote(key);
            self.direct_room(room, now);
            self.allocate_room(room, now.mono);
        }
        Some(key)
    }

    fn end_track(&mut self, worker: usize, id: TrackId, now: Now) {
        let Some(track_key) = self.foreign(worker, id) else { return };
        let Some(publisher) = self.tracks.get(track_key).map(|track| track.publisher) else { return };
        self.unpublish(track_key, now);
        // Who publishes nothing is not known here.
        if self.peers.get(publisher).is_some_and(|peer| peer.published.is_empty()) {
            self.remove_peer(publisher, now);
        }
    }

    fn take_piped(
        &mut self,
        worker: usize,
        piped: &Piped,
        bytes: &[u8],
        last: &mut Option<(TrackId, usize)>,
        now: Now,
    ) {
        let known = last.filter(|(id, key)| *id == piped.track && self.tracks.get(*key).is_some_and(|t| t.id == *id));
        let Some(track_key) = known.map(|(_, key)| key).or_else(|| self.foreign(worker, piped.track)) else { return };
        *last = Some((piped.track, track_key));
        let Some(incoming) = piped.incoming(bytes) else { return };
        let Some(track) = self.tracks.get_mut(track_key).filter(|track| !track.held) else { return };
        let (key, place) = (track.publisher, usize::from(piped.place));
        let Some(layer) = track.layers.get_mut(place) else { return };
        layer.follow(piped.ssrc, piped.epoch, now.mono);
        self.blame = Some(key);
        self.counters.piped_in += 1;
        let _ = self.take_in(key, (track_key, place), &incoming, piped.came, now);
    }

    fn take_relayed(&mut self, relayed: &Relayed, now: Now) {
        let Some(room) = self.rooms_by_id.get(&relayed.room).copied() else { return };
        let message = Message {
            stream: 0,
            label: relayed.label.clone(),
            text: relayed.text,
            ordered: relayed.ordered,
            reliability: relayed.reliability,
            bytes: Vec::new(),
        };
        self.deliver_message(room, None, &relayed.to, &message, &relayed.bytes, now);
    }

    /// Tells the worker of a track's publisher what is wanted of it here, if it is on another and that has changed. Audio
    /// always comes: who speaks must be known everywhere.
    pub(crate) fn tell_interest(&mut self, track_key: usize) {
        let Some(track) = self.tracks.get_mut(track_key) else { return };
        let Some(pipe) = &mut track.source_pipe else { return };
        let flows = track.kind == Kind::Audio || !track.subscribers.is_empty();
        let interest = (flows, if flows { pipe.wanted } else { 0 });
        if pipe.told.replace(interest) != Some(interest) {
            let (flows, wanted) = interest;
            self.pipes.tell(pipe.worker, Notice::Interest { track: track.id, flows, wanted });
        }
    }

    /// Does what is due of a stand-in: layers are looked at, and keyframes asked for that subscribers here wait for.
    pub(crate) fn tick_stand_in(&mut self, key: usize, now: Now) {
        if let Some(peer) = self.peers.get_mut(key) {
            peer.due = None;
        }
        self.survey(key, now);
        let Some(peer) = self.peers.get(key) else { return };
        let mut next: Option<Instant> = None;
        for track in &peer.published {
            let Some(track) = self.tracks.get_mut(*track).filter(|track| track.kind == Kind::Video) else { continue };
            let Some(pipe) = track.source_pipe else { continue };
            for place in 0..track.layers.len() {
                let watched = track.is_watched(place);
                let keyframes = &mut track.layers[place].keyframes;
                if !watched {
                    keyframes.arrived();
                }
                if keyframes.take(now.mono) {
                    self.pipes.tell(pipe.worker, Notice::Keyframe { track: track.id, place: place as u8 });
                }
                next = [next, keyframes.due()].into_iter().flatten().min();
            }
            next = [next, track.survey_due].into_iter().flatten().min();
        }
        if let Some(at) = next {
            self.arm(key, at);
        }
    }
}
