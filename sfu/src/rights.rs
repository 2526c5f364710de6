//! What a participant may do, where media flows: what is taken from it and given to it when that changes, and what a
//! moderator holds back.

use crate::floor::Mode;
use crate::{Event, Kind, Now, Rights, Sfu, TrackId};

impl Sfu {
    /// Does as a participant's rights say from now on.
    pub(crate) fn set_rights(&mut self, key: usize, rights: Rights, now: Now) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        let room = peer.room;
        let before = std::mem::replace(&mut peer.rights, rights);
        if before.publish != rights.publish {
            peer.negotiation.permit(rights.publish);
        }
        match (before.subscribe, rights.subscribe) {
            (true, false) => self.unsubscribe_all(key),
            (false, true) => self.subscribe_all(key, now),
            _ => {}
        }
        self.reconcile(key, now);
        if before.instructor != rights.instructor {
            self.demote(key);
            self.direct_room(room, now);
            self.allocate_room(room, now.mono);
            self.announce_peer(key);
        }
        self.arm(key, now.mono);
    }

    /// Subscribes a peer to what there is, if it wants that and may.
    pub(crate) fn subscribe_all(&mut self, key: usize, now: Now) {
        let Some(peer) = self.peers.get(key).filter(|peer| peer.auto_subscribe) else { return };
        let Some(room) = self.rooms.get(peer.room) else { return };
        let others = room.peers.iter().filter_map(|other| self.peers.get(*other));
        let tracks: Vec<usize> = others.flat_map(|other| other.published.clone()).collect();
        let shared = room.floor.mode == Mode::Shared;
        for track in tracks {
            if !shared || self.tracks.get(track).is_some_and(|track| track.kind == Kind::Video) {
                self.subscribe(key, track, now);
            }
        }
        self.give_audio_lines(key, now);
    }

    /// Nothing goes to a peer any more.
    fn unsubscribe_all(&mut self, key: usize) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        peer.left_out.clear();
        peer.slots.clear();
        peer.slots_live = false;
        let subscriptions: Vec<usize> = peer.subscriptions.iter().map(|(subscription, _)| subscription).collect();
        for subscription in subscriptions {
            self.unpoint(key, subscription);
            if let Some(peer) = self.peers.get_mut(key) {
                peer.drop_subscription(subscription);
            }
        }
    }

    /// Tells a client what it would publish and may not.
    pub(crate) fn tell_refused(&mut self, key: usize) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        let (peer, sources) = (peer.id, peer.negotiation.take_refused());
        for source in sources {
            self.event(Event::NotPermitted { peer, source });
        }
    }

    /// Notes that a track's publisher muted or unmuted it.
    pub(crate) fn mute(&mut self, key: usize, id: TrackId, muted: bool, now: Now) {
        let Some(track_key) = self.own_track(key, id) else { return };
        self.tracks[track_key].muted = muted;
        if let Some(peer) = self.peers.get_mut(key) {
            peer.negotiation.mute(id, muted);
        }
        if !muted {
            self.hold(key, id, false, now);
        }
        self.silenced(track_key, now);
    }

    /// Holds a track, or lets go of it: who subscribes to it then gets it from the next keyframe on.
    pub(crate) fn hold(&mut self, key: usize, id: TrackId, held: bool, now: Now) {
        let Some(track_key) = self.own_track(key, id) else { return };
        let track = &mut self.tracks[track_key];
        if std::mem::replace(&mut track.held, held) == held {
            return;
        }
        if held {
            for layer in &mut track.layers {
                layer.keyframes.arrived();
                layer.reception.forget_missing();
            }
        }
        let mut awaited = Vec::new();
        for subscriber in &track.subscribers {
            let peer = self.peers.get_mut(subscriber.peer);
            let Some(subscription) = peer.and_then(|peer| peer.subscriptions.get_mut(subscriber.subscription)) else {
                continue;
            };
            // What came before and has not been sent yet is not sent either.
            subscription.start(&track.layers);
            awaited.extend(subscription.wanted().filter(|_| !held && subscription.flows()));
        }
        for wanted in awaited {
            self.watch(track_key, wanted.layer.into(), true, now.mono);
        }
        self.silenced(track_key, now);
    }

    /// A peer's own track.
    fn own_track(&self, key: usize, id: TrackId) -> Option<usize> {
        let track_key = self.tracks_by_id.get(&id).copied()?;
        self.tracks.get(track_key).filter(|track| track.publisher == key).map(|_| track_key)
    }

    /// Whether a track is heard or seen has changed: others may be shown in its place.
    fn silenced(&mut self, track_key: usize, now: Now) {
        let publisher = self.tracks.get(track_key).and_then(|track| self.peers.get(track.publisher));
        if let Some(room) = publisher.map(|peer| peer.room) {
            self.direct_room(room, now);
        }
        self.reaim(track_key, now.mono);
        self.announce(track_key);
    }
}
