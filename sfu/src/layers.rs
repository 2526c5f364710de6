//! Which encodings of a track live, who watches which, and what its publisher is told of it.

use std::time::Instant;

use crate::target::Target;
use crate::track::{INTEREST_LASTS, SURVEY_INTERVAL, Track};
use crate::{Event, Kind, Now, Sfu};

impl Sfu {
    /// Says what a subscription is to be sent from now on (`None` stops it), asks for the keyframe that this needs, and
    /// tells the publisher if nobody watched that layer before.
    pub(crate) fn aim(&mut self, key: usize, subscription_key: usize, wanted: Option<Target>, now: Instant) {
        let subscription = self.peers.get_mut(key).and_then(|peer| peer.subscriptions.get_mut(subscription_key));
        let Some(subscription) = subscription else { return };
        let track_key = subscription.track;
        let Some(track) = self.tracks.get_mut(track_key) else { return };
        let needs_keyframe = subscription.aim(wanted, &track.layers);
        let (Some(wanted), true) = (wanted, subscription.flows()) else { return };
        self.watch(track_key, wanted.layer.into(), needs_keyframe, now);
    }

    /// Somebody gets a layer or wants to.
    pub(crate) fn watch(&mut self, track_key: usize, layer: usize, needs_keyframe: bool, now: Instant) {
        let Some(track) = self.tracks.get_mut(track_key) else { return };
        let Some(of) = track.layers.get_mut(layer) else { return };
        track.watched |= 1 << layer;
        of.watched_at = now;
        if let Some(pipe) = &mut track.source_pipe {
            pipe.wanted |= 1 << layer;
        }
        if needs_keyframe {
            self.want_keyframe(track_key, layer, now);
        }
        self.tell_layers(track_key, now);
    }

    /// Looks at those of a peer's tracks for which it is time.
    pub(crate) fn survey(&mut self, key: usize, now: Now) {
        let Some(peer) = self.peers.get(key) else { return };
        for n in 0..peer.published.len() {
            let Some(track_key) = self.peers.get(key).and_then(|peer| peer.published.get(n)).copied() else { break };
            let Some(track) = self.tracks.get_mut(track_key) else { continue };
            if track.survey_due.is_none_or(|due| due > now.mono) {
                continue;
            }
            track.survey_due = None;
            let changed = track.bury(now.mono) | track.rank(now.mono);
            if changed {
                self.reaim(track_key, now.mono);
            }
            self.note_watched(track_key, now.mono);
            self.tell_layers(track_key, now.mono);
            if let Some(track) = self.tracks.get_mut(track_key) {
                // With nothing coming there is nothing to see, but that interest ends.
                let lives = track.layers.iter().any(|layer| layer.alive);
                if lives || (track.source_pipe.is_none() && is_simulcast(track) && track.told & !track.watched != 0) {
                    track.survey_due = Some(now.mono + SURVEY_INTERVAL);
                }
            }
        }
    }

    /// Finds out who watches which layer, and has keyframes asked for again that are still awaited.
    fn note_watched(&mut self, track_key: usize, now: Instant) {
        let Some(track) = self.tracks.get_mut(track_key) else { return };
        let mut watched = track.ends.iter().fold(0, |all, end| all | end.wanted);
        for subscriber in &track.subscribers {
            let subscription =
                self.peers.get(subscriber.peer).and_then(|p| p.subscriptions.get(subscriber.subscription));
            let Some(subscription) = subscription else { continue };
            watched |= subscription.awaited.map_or(0, |layer| 1 << layer);
            if !subscription.flows() {
                continue;
            }
            for target in [subscription.wanted(), subscription.current()].into_iter().flatten() {
                watched |= 1u8 << target.layer;
            }
            if let Some(wanted) = subscription.wanted().filter(|_| subscription.awaits_keyframe())
                && let Some(layer) =
                    track.layers.get_mut(usize::from(wanted.layer)).filter(|layer| layer.alive && !track.held)
            {
                layer.keyframes.remind(now);
            }
        }
        if let Some(pipe) = &mut track.source_pipe {
            pipe.wanted = watched;
        }
        if watched != 0 && !track.layers.iter().any(|layer| layer.alive) {
            // Nothing comes of what is watched: anything else will do.
            watched = u8::MAX;
        }
        track.watched = watched;
        for (place, layer) in track.layers.iter_mut().enumerate() {
            if watched >> place & 1 == 1 {
                layer.watched_at = now;
            } else {
                layer.keyframes.arrived();
                layer.reception.forget_missing();
            }
        }
    }

    /// Tells a publisher which of its layers are wanted, if that has changed.
    fn tell_layers(&mut self, track_key: usize, now: Instant) {
        if self.tracks.get(track_key).is_some_and(|track| track.source_pipe.is_some()) {
            return self.tell_interest(track_key);
        }
        let Some(track) = self.tracks.get_mut(track_key).filter(|track| is_simulcast(track)) else { return };
        let lasts = |at: Instant| now.saturating_duration_since(at) < INTEREST_LASTS;
        let wanted = track.layers.iter().enumerate().filter(|(_, layer)| lasts(layer.watched_at));
        let wanted = wanted.fold(0u8, |all, (place, _)| all | 1 << place);
        if track.told == wanted {
            return;
        }
        track.told = wanted;
        let named = track.layers.iter().enumerate();
        let layers = named.filter_map(|(place, l)| Some((l.rid.clone()?, wanted >> place & 1 == 1))).collect();
        let (publisher, track) = (track.publisher, track.id);
        let Some(peer) = self.peers.get(publisher).map(|peer| peer.id) else { return };
        self.event(Event::LayersWanted { peer, track, layers });
    }

    /// Asks the publisher for a keyframe of a layer as soon as its window allows.
    pub(crate) fn want_keyframe(&mut self, track_key: usize, layer: usize, now: Instant) {
        let Some(track) = self.tracks.get_mut(track_key).filter(|track| track.kind == Kind::Video && !track.held)
        else {
            return;
        };
        let publisher = track.publisher;
        let Some(layer) = track.layers.get_mut(layer) else { return };
        layer.keyframes.want(now);
        if let Some(due) = layer.keyframes.due() {
            self.arm(publisher, due);
        }
    }
}

/// Its layers have names by which its publisher can turn them off.
fn is_simulcast(track: &Track) -> bool {
    track.layers.len() > 1 && track.layers.iter().all(|layer| layer.rid.is_some())
}
