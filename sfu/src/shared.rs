//! M-lines that are no track's own: the shared audio of a very large room, one for each slot of its [`crate::floor`]; and
//! those of a player ([`crate::program`]). What flows on them moves from track to track.

use std::sync::Arc;

use rand::RngExt;

use crate::floor::{AUDIO_SLOTS, Mode, preroll};
use crate::peer::Peer;
use crate::sdp::{Codec, CodecName, Feedback, Mid};
use crate::subscribe::outlet;
use crate::subscription::{Draw, Subscription};
use crate::track::{Subscriber, Track};
use crate::{Kind, Now, PeerId, Sfu, Source, TrackId, View};

/// The key of no track: what a shared m-line carries while it carries nothing.
pub(crate) const NOBODY: usize = usize::MAX;

/// What shared audio may be.
pub(crate) fn audio_codecs() -> Vec<Codec> {
    vec![audio_codec(111, CodecName::Opus, "minptime=10;useinbandfec=1"), red()]
}

/// RED under the number that Chromium gives it.
pub(crate) fn red() -> Codec {
    audio_codec(63, CodecName::Red, "111/111")
}

fn audio_codec(payload_type: u8, name: CodecName, fmtp: &str) -> Codec {
    Codec {
        payload_type,
        name,
        clock_rate: 48_000,
        channels: 2,
        fmtp: fmtp.into(),
        feedback: Feedback::audio(),
        rtx: None,
    }
}

impl Peer {
    /// Whether it takes what the room has to offer, on m-lines that we offer.
    fn takes_all(&self) -> bool {
        self.auto_subscribe && self.rights.subscribe && self.view == View::Tracks
    }

    /// Whether everything that it is to hear has its place in what is agreed.
    fn has_lines(&self, shared: bool) -> bool {
        let mut audio = self.subscriptions.iter().filter(|(_, s)| s.kind == Kind::Audio && s.shared == shared);
        audio.all(|(_, s)| s.outlet.is_some() || s.told_unavailable)
    }
}

impl Sfu {
    /// A subscription of an m-line that is no track's own. Nothing flows until it is [`Sfu::point`]ed at a track.
    pub(crate) fn insert_shared(&mut self, key: usize, line: TrackId, kind: Kind, stream: Arc<str>, now: Now) -> usize {
        let draw = Draw {
            ssrc: self.unused_ssrc(key),
            rtx_ssrc: self.unused_ssrc(key),
            first_seq: self.rng.random(),
            first_rtx: self.rng.random(),
        };
        let source = if kind == Kind::Audio { Source::Microphone } else { Source::Camera };
        let nobody = Track::new(line, kind, source, NOBODY, stream, Mid::default());
        let mut subscription = Subscription::new(NOBODY, &nobody, draw, now.mono);
        subscription.shared = true;
        self.peers[key].subscriptions.insert(subscription)
    }

    /// Lets another track, or none, flow on a shared m-line; the last one no longer knows of it.
    pub(crate) fn point(&mut self, key: usize, subscription_key: usize, track_key: usize, now: Now) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        let Some(subscription) = peer.subscriptions.get_mut(subscription_key) else { return };
        // What was asked for again lies in the ring of the other track.
        peer.resends.retain(|(resend, _)| *resend != subscription_key);
        let Some(track) = self.tracks.get_mut(track_key) else {
            subscription.track = NOBODY;
            return;
        };
        let line_id = subscription.track_id;
        let line = peer.negotiation.lines.iter().find(|line| line.sends() == Some(line_id));
        let payloads = line.map(|line| outlet(line, track).payloads).unwrap_or_default();
        subscription.retarget(track_key, track, payloads);
        subscription.track_id = line_id;
        // What was chosen was chosen of the other track.
        (subscription.chosen, subscription.awaited, subscription.eager) = (None, None, true);
        track.subscribers.push(Subscriber { peer: key, subscription: subscription_key });
        let from = track.layers.first().filter(|_| track.kind == Kind::Audio).map(|l| preroll(&l.ring, now.mono));
        self.tell_interest(track_key);
        self.heed(key, subscription_key, now.mono);
        let subscription = self.peers.get_mut(key).and_then(|peer| peer.subscriptions.get_mut(subscription_key));
        if let (Some(subscription), Some(from)) = (subscription, from) {
            subscription.resume(from);
        }
    }

    /// Takes a shared m-line off a track.
    pub(crate) fn unpoint(&mut self, key: usize, subscription_key: usize) {
        let Some(subscription) = self.peers.get_mut(key).and_then(|p| p.subscriptions.get_mut(subscription_key)) else {
            return;
        };
        let track = std::mem::replace(&mut subscription.track, NOBODY);
        if let Some(track) = self.tracks.get_mut(track) {
            track.subscribers.retain(|s| (s.peer, s.subscription) != (key, subscription_key));
        }
    }

    /// Which shared audio m-line carries whom; none where everybody has m-lines of their own.
    pub(crate) fn shared_audio(&self, room_key: usize) -> Vec<(u8, PeerId)> {
        let Some(room) = self.rooms.get(room_key).filter(|room| room.floor.mode == Mode::Shared) else {
            return Vec::new();
        };
        let carried = (0..).zip(&room.floor.slots).filter_map(|(slot, holder)| {
            let track = self.tracks.get(holder.as_ref()?.track)?;
            Some((slot, self.peers.get(track.publisher)?.id))
        });
        carried.collect()
    }

    /// Gives a peer the audio m-lines that its room's mode asks for. Those that it has go on until the others are agreed.
    pub(crate) fn give_audio_lines(&mut self, key: usize, now: Now) {
        let Some(peer) = self.peers.get(key).filter(|peer| peer.takes_all()) else { return };
        let Some(room) = self.rooms.get_mut(peer.room) else { return };
        if room.floor.mode == Mode::Shared {
            if room.floor.lines.is_empty() {
                room.floor.lines = (0..AUDIO_SLOTS).map(|_| TrackId(self.rng.random())).collect();
            }
            if peer.slots.is_empty() {
                let lines = room.floor.lines.clone();
                let slots = lines.into_iter().enumerate();
                let slots: Vec<usize> = slots
                    .map(|(n, line)| self.insert_shared(key, line, Kind::Audio, format!("audio-{n}").into(), now))
                    .collect();
                let peer = &mut self.peers[key];
                peer.slots = slots;
                peer.negotiation.wants_offer = true;
            }
        } else if !peer.slots.is_empty() {
            let publishers: Vec<usize> = room.peers.clone();
            let published = publishers.iter().filter_map(|p| self.peers.get(*p)).flat_map(|p| p.published.clone());
            let audio: Vec<usize> =
                published.filter(|t| self.tracks.get(*t).is_some_and(|t| t.kind == Kind::Audio)).collect();
            for track in audio {
                self.subscribe(key, track, now);
            }
        }
        self.settle_audio_lines(key, now);
        self.arm(key, now.mono);
    }

    /// The audio mode of a room changed.
    pub(crate) fn change_audio_lines(&mut self, room_key: usize, now: Now) {
        let peers = self.rooms.get(room_key).map(|room| room.peers.clone()).unwrap_or_default();
        for key in peers {
            self.give_audio_lines(key, now);
        }
    }

    /// Once a peer's new audio m-lines are agreed, the old ones end and the new ones begin.
    pub(crate) fn settle_audio_lines(&mut self, key: usize, now: Now) {
        let Some(peer) = self.peers.get(key).filter(|peer| !peer.slots.is_empty() && peer.takes_all()) else { return };
        let Some(room) = self.rooms.get(peer.room) else { return };
        let shared = room.floor.mode == Mode::Shared;
        if !peer.has_lines(shared) {
            return;
        }
        let begins = peer.slots_live != shared;
        let ends = peer.subscriptions.iter().filter(|(_, s)| s.kind == Kind::Audio && s.shared != shared);
        let ends: Vec<usize> = ends.map(|(key, _)| key).collect();
        let slots = room.floor.slots;
        for subscription in ends {
            self.unpoint(key, subscription);
            let peer = &mut self.peers[key];
            let line = peer.subscriptions[subscription].track_id;
            peer.drop_subscription(subscription);
            peer.negotiation.retire(line);
        }
        let peer = &mut self.peers[key];
        peer.slots_live = shared;
        if !shared {
            peer.slots.clear();
        }
        for (slot, holder) in slots.into_iter().enumerate().filter(|_| begins && shared) {
            self.point_slot(key, slot, holder.map_or(NOBODY, |holder| holder.track), now);
        }
    }

    fn point_slot(&mut self, key: usize, slot: usize, track_key: usize, now: Now) {
        let Some(peer) = self.peers.get(key).filter(|peer| peer.slots_live) else { return };
        let Some(subscription) = peer.slots.get(slot).copied() else { return };
        // Nobody hears himself.
        let own = self.tracks.get(track_key).is_some_and(|track| track.publisher == key);
        self.point(key, subscription, if own { NOBODY } else { track_key }, now);
    }

    /// A slot went over to the track that holds it now.
    pub(crate) fn move_shared_line(&mut self, room_key: usize, slot: usize, before: Option<usize>, now: Now) {
        let Some(room) = self.rooms.get(room_key) else { return };
        let (peers, holder) = (room.peers.clone(), room.floor.slots[slot]);
        if let Some(track) = before.and_then(|before| self.tracks.get_mut(before)) {
            let is_slot = |s: &Subscriber| {
                self.peers.get(s.peer).is_some_and(|peer| peer.slots.get(slot) == Some(&s.subscription))
            };
            track.subscribers.retain(|s| !is_slot(s));
        }
        for key in peers {
            self.point_slot(key, slot, holder.map_or(NOBODY, |holder| holder.track), now);
        }
    }
}
