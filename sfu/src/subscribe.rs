//! Who gets which track: subscribing, its limits, and what has to be left out.

use rand::RngExt;

use crate::negotiation::{Line, Outbound};
use crate::peer::{EARLY_WISHES_MAX, LEFT_OUT_MAX, VIDEO_SUBSCRIPTIONS_MAX};
use crate::sdp::CodecName;
use crate::subscription::{Draw, ExtensionIds, Outlet, PayloadTypes, Red, Subscription};
use crate::track::{Subscriber, Track};
use crate::{Event, Kind, Now, Sfu, TrackId, Unavailable, Wish};

impl Sfu {
    pub(crate) fn set_subscription(&mut self, key: usize, track: TrackId, wish: Wish, now: Now) {
        let Some(track_key) = self.tracks_by_id.get(&track).copied() else { return self.keep_wish(key, track, wish) };
        let Some(peer) = self.peers.get_mut(key) else { return };
        let Some(subscription_key) = peer.subscription_of(track) else {
            if wish.enabled == Some(false) {
                return peer.left_out.retain(|left_out| *left_out != track);
            }
            let same_room = self.tracks.get(track_key).and_then(|t| self.peers.get(t.publisher)).map(|p| p.room);
            if same_room == self.peers.get(key).map(|p| p.room) {
                self.subscribe(key, track_key, now);
                let peer = self.peers.get_mut(key);
                let subscription =
                    peer.and_then(|peer| peer.subscriptions.iter_mut().find(|(_, s)| s.track_id == track));
                if let Some((_, subscription)) = subscription {
                    subscription.wish(wish);
                }
            }
            return;
        };
        peer.subscriptions[subscription_key].wish(wish);
        self.heed(key, subscription_key, now.mono);
    }

    /// Keeps a wish about a track that is not known here: in a room on several workers signaling may know of it before it has
    /// crossed.
    fn keep_wish(&mut self, key: usize, track: TrackId, wish: Wish) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        if self.rooms.get(peer.room).is_none_or(|room| room.others.is_empty()) {
            return;
        }
        if peer.early_wishes.len() >= EARLY_WISHES_MAX {
            peer.early_wishes.pop_front();
        }
        peer.early_wishes.push_back((track, wish));
    }

    /// What was wished of a track before it was known here.
    pub(crate) fn take_early_wishes(&mut self, room: usize, track: TrackId, now: Now) {
        for key in self.rooms.get(room).map(|room| room.peers.clone()).unwrap_or_default() {
            while let Some(peer) = self.peers.get_mut(key) {
                let Some(at) = peer.early_wishes.iter().position(|(early, _)| *early == track) else { break };
                let Some((_, wish)) = peer.early_wishes.remove(at) else { break };
                self.set_subscription(key, track, wish, now);
            }
        }
    }

    /// Subscribes a peer to a track; it flows once the peer agreed to an m-line for it.
    pub(crate) fn subscribe(&mut self, key: usize, track_key: usize, now: Now) {
        let draw = Draw {
            ssrc: self.unused_ssrc(key),
            rtx_ssrc: self.unused_ssrc(key),
            first_seq: self.rng.random(),
            first_rtx: self.rng.random(),
        };
        let Some(track) = self.tracks.get_mut(track_key) else { return };
        let Some(peer) = self.peers.get_mut(key) else { return };
        if track.publisher == key || peer.subscription_of(track.id).is_some() || !peer.rights.subscribe {
            return;
        }
        if track.kind == Kind::Video && peer.video_subscriptions() >= VIDEO_SUBSCRIPTIONS_MAX {
            let track = track.id;
            return self.leave_out(key, track);
        }
        let subscription = peer.subscriptions.insert(Subscription::new(track_key, track, draw, now.mono));
        track.subscribers.push(Subscriber { peer: key, subscription });
        self.tell_interest(track_key);
        let Some(peer) = self.peers.get_mut(key) else { return };
        peer.negotiation.wants_offer = true;
        self.reaim_one(key, subscription, now.mono);
        self.arm(key, now.mono);
    }

    /// A peer has no place for a track: it is told so, and gets it when there is one.
    pub(crate) fn leave_out(&mut self, key: usize, track: TrackId) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        if let Some(subscription) = peer.subscription_of(track) {
            if peer.subscriptions[subscription].shared {
                return self.tell_unavailable(key, track, Unavailable::Limit);
            }
            let track_key = peer.subscriptions[subscription].track;
            peer.drop_subscription(subscription);
            if let Some(track) = self.tracks.get_mut(track_key) {
                track.subscribers.retain(|s| s.peer != key);
            }
        }
        if peer.left_out.len() < LEFT_OUT_MAX && !peer.left_out.contains(&track) {
            peer.left_out.push_back(track);
        }
        let peer = peer.id;
        self.event(Event::TrackUnavailable { peer, track, reason: Unavailable::Limit });
    }

    /// A track has ended: the first of those that found no place takes its.
    pub(crate) fn fill_place(&mut self, key: usize, now: Now) {
        while let Some(peer) = self.peers.get_mut(key)
            && peer.video_subscriptions() < VIDEO_SUBSCRIPTIONS_MAX
            && let Some(track) = peer.left_out.pop_front()
        {
            if let Some(track_key) = self.tracks_by_id.get(&track).copied() {
                return self.subscribe(key, track_key, now);
            }
        }
    }

    pub(crate) fn unused_ssrc(&mut self, key: usize) -> u32 {
        loop {
            let ssrc: u32 = self.rng.random();
            let used = self
                .peers
                .get(key)
                .is_some_and(|p| p.subscriptions.iter().any(|(_, s)| s.ssrc == ssrc || s.rtx_ssrc == ssrc));
            // 0 and our own report SSRC stay free.
            if ssrc > 1 && !used {
                return ssrc;
            }
        }
    }

    pub(crate) fn tell_unavailable(&mut self, key: usize, track: TrackId, reason: Unavailable) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        let Some(subscription) = peer.subscription_of(track) else { return };
        if !std::mem::replace(&mut peer.subscriptions[subscription].told_unavailable, true) {
            let peer = peer.id;
            self.event(Event::TrackUnavailable { peer, track, reason });
        }
    }

    pub(crate) fn reconcile_outbound(&mut self, key: usize) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        let mut unavailable = Vec::new();
        let mut wants_offer =
            peer.negotiation.retire_gone(|track| peer.subscriptions.iter().any(|(_, s)| s.track_id == track));
        for (_, subscription) in &mut peer.subscriptions {
            let line = peer.negotiation.lines.iter().find(|line| line.sends() == Some(subscription.track_id));
            let Some(line) = line else {
                subscription.outlet = None;
                wants_offer |= !subscription.told_unavailable;
                continue;
            };
            let wanted = matches!(line.outbound, Outbound::Track { wanted: true, .. });
            let outlet = match self.tracks.get(subscription.track) {
                None if subscription.shared => Some(bare_outlet(line)),
                track => track.map(|track| outlet(line, track)),
            };
            let decodable =
                subscription.shared || outlet.as_ref().is_some_and(|o| o.payloads.iter().any(Option::is_some));
            if !decodable {
                unavailable.push(subscription.track_id);
            }
            let outlet = outlet.filter(|_| wanted && decodable);
            if subscription.outlet.is_none() && outlet.is_some() {
                subscription.fresh_outlet = true;
            }
            subscription.outlet = outlet;
        }
        peer.negotiation.wants_offer |= wants_offer;
        for track in unavailable {
            self.tell_unavailable(key, track, Unavailable::Codec);
        }
    }

    /// Lets subscriptions flow whose line was just agreed, or whose peer just connected. While it has yet to connect, keyframes
    /// are asked for already: they are there when it has.
    pub(crate) fn start_subscriptions(&mut self, key: usize, now: Now) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        if peer.srtp.is_none() {
            return self.allocate(key, now.mono);
        }
        let mut watched = Vec::new();
        for (_, subscription) in &mut peer.subscriptions {
            if subscription.outlet.is_some() && std::mem::replace(&mut subscription.fresh_outlet, false) {
                let track = self.tracks.get(subscription.track);
                let needs_keyframe = track.is_none_or(|track| subscription.start_agreed(&track.layers, now.mono));
                let wanted = subscription.wanted();
                watched.extend(wanted.map(|wanted| (subscription.track, wanted.layer.into(), needs_keyframe)));
            }
        }
        for (track, layer, needs_keyframe) in watched {
            // What it begins with has come already, and may be the last for long.
            if !needs_keyframe
                && let Some(begun) = self.tracks.get_mut(track)
                && !std::mem::replace(&mut begun.fresh, true)
            {
                self.fresh.push(track);
            }
            self.watch(track, layer, needs_keyframe, now.mono);
        }
        self.allocate(key, now.mono);
    }
}

/// What a subscriber calls each codec of a track on its line.
pub(crate) fn outlet(line: &Line, track: &Track) -> Outlet {
    let payloads = track.codecs.iter().map(|codec| {
        let key = codec.key();
        if let Some(theirs) = line.codecs.iter().find(|c| c.key() == key) {
            return Some(PayloadTypes { primary: theirs.payload_type, rtx: theirs.rtx, unwraps: false });
        }
        // Who does not take RED gets the Opus in it.
        let opus = line.codecs.iter().find(|c| codec.name == CodecName::Red && c.name == CodecName::Opus)?;
        Some(PayloadTypes { primary: opus.payload_type, rtx: opus.rtx, unwraps: true })
    });
    Outlet { payloads: payloads.collect(), ..bare_outlet(line) }
}

/// An m-line on which nothing flows yet.
fn bare_outlet(line: &Line) -> Outlet {
    let payload_type = |name| line.codecs.iter().find(|codec| codec.name == name).map(|codec| codec.payload_type);
    let red = payload_type(CodecName::Red).zip(payload_type(CodecName::Opus));
    Outlet {
        mid: line.mid,
        ids: ExtensionIds::of(&line.extensions),
        mixed: line.mixed,
        payloads: Vec::new(),
        red: red.map(|(payload_type, opus)| Red { payload_type, opus }),
    }
}
