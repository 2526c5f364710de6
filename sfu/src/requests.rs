//! What signaling asks: joins, descriptions, subscriptions, leaves.

use std::sync::Arc;

use rand::RngExt;

use crate::data::MESSAGE_BYTES_DEFAULT;
use crate::downlink::Downlink;
use crate::floor::Mode;
use crate::ice::{Credentials, Generation, Ice};
use crate::negotiation::{FIRST_OFFER_DELAY, Inbound, Line, Negotiation, REOFFER_DELAY, Refused, Rules};
use crate::peer::{Peer, REPORT_INTERVAL, Stream};
use crate::quality::Quality;
use crate::room::Room;
use crate::sdp::{self, Codec, Description as Sdp, Media, MediaKind, Setup};
use crate::shared::NOBODY;
use crate::subscription::{ExtensionIds, Stamps};
use crate::track::Track;
use crate::{
    Codecs, Description, Event, Kind, Now, Path, PeerId, Refusal, Request, Rights, RoomId, Sfu, Source, TrackHint,
    TrackId, TrackInfo, Unavailable, View, twcc,
};

/// The parts of a [`Request::Join`] that its peer keeps.
pub(crate) struct Newcomer {
    pub(crate) participant: Arc<str>,
    pub(crate) auto_subscribe: bool,
    pub(crate) offer_first: bool,
    pub(crate) rights: Rights,
    pub(crate) codecs: Codecs,
    pub(crate) view: View,
}

impl Sfu {
    pub(crate) fn request(&mut self, request: Request, now: Now) {
        if let Request::Join { peer, room, participant, auto_subscribe, offer_first, rights, codecs, view } = request {
            let newcomer = Newcomer { participant, auto_subscribe, offer_first, rights, codecs, view };
            return self.join(peer, room, newcomer, now);
        }
        if let Request::Snapshot { room, only, ticket } = request {
            let snapshot = Box::new(self.snapshot(room, only.as_deref(), now.mono));
            return self.event(Event::Snapshot { ticket, snapshot });
        }
        if let Request::Spread { room, others } = request {
            return self.spread(room, others);
        }
        let id = match &request {
            Request::Join { peer, .. }
            | Request::Offer { peer, .. }
            | Request::Answer { peer, .. }
            | Request::Reoffer { peer }
            | Request::RestartIce { peer }
            | Request::Subscription { peer, .. }
            | Request::Mute { peer, .. }
            | Request::Hold { peer, .. }
            | Request::Rights { peer, .. }
            | Request::Leave { peer } => *peer,
            Request::Snapshot { .. } | Request::Spread { .. } => return,
        };
        let Some(key) = self.by_id.get(&id).copied() else { return };
        if self.peers.get(key).is_some_and(|peer| peer.pipe.is_some()) {
            return;
        }
        self.blame = Some(key);
        match request {
            Request::Offer { sdp, tracks, saw_ours, .. } => self.on_offer(key, &sdp, &tracks, saw_ours, now),
            Request::Answer { sdp, tracks, .. } => self.on_answer(key, &sdp, &tracks, now),
            Request::Reoffer { .. } => self.reoffer(key, now),
            Request::RestartIce { .. } => self.restart_ice(key, now),
            Request::Subscription { track, wish, .. } => self.set_subscription(key, track, wish, now),
            Request::Mute { track, muted, .. } => self.mute(key, track, muted, now),
            Request::Hold { track, held, .. } => self.hold(key, track, held, now),
            Request::Rights { rights, .. } => self.set_rights(key, rights, now),
            Request::Leave { .. } => self.remove_peer(key, now),
            Request::Join { .. } | Request::Snapshot { .. } | Request::Spread { .. } => {}
        }
        self.blame = None;
    }

    fn join(&mut self, id: PeerId, room: RoomId, newcomer: Newcomer, now: Now) {
        if self.by_id.contains_key(&id) {
            return;
        }
        let key = self.insert_peer(id, room, newcomer, now);
        let ufrag = self.peers[key].ice.current.local.ufrag.clone();
        self.ufrags.insert(ufrag, key);
        self.subscribe_all(key, now);
        self.arm(key, now.mono);
    }

    /// A peer in its room, of which nothing has come.
    pub(crate) fn insert_peer(&mut self, id: PeerId, room_id: RoomId, newcomer: Newcomer, now: Now) -> usize {
        let Newcomer { participant, auto_subscribe: auto, offer_first, rights, codecs, view } = newcomer;
        let room = *self.rooms_by_id.entry(room_id).or_insert_with(|| self.rooms.insert(Room::new(room_id)));
        let local = Credentials::random(&mut self.rng);
        let mut negotiation = Negotiation::new(self.rng.random::<u64>() >> 2, offer_first, now.mono);
        negotiation.only_answers = view != View::Tracks;
        negotiation.rules = Rules { publish: rights.publish, codecs };
        let peer = Peer {
            id,
            room,
            participant,
            auto_subscribe: auto,
            rights,
            view,
            pipe: None,
            ice: Ice::new(local, now.mono),
            dtls: None,
            early_dtls: Vec::new(),
            remote_fingerprint: None,
            srtp: None,
            data: None,
            message_bytes_max: MESSAGE_BYTES_DEFAULT,
            negotiation,
            inbound_ids: ExtensionIds::default(),
            streams: Vec::new(),
            published: Vec::new(),
            arrivals: twcc::Recorder::new(),
            feedback_due: None,
            subscriptions: slab::Slab::new(),
            left_out: std::collections::VecDeque::new(),
            early_wishes: std::collections::VecDeque::new(),
            slots: Vec::new(),
            slots_live: false,
            pending_audio: Vec::new(),
            pending_video: Vec::new(),
            ready_audio: false,
            ready_video: false,
            resends: std::collections::VecDeque::new(),
            padding: false,
            downlink: Downlink::new(now.mono),
            stamps: Stamps { transport_seq: 0, abs_send_time: 0 },
            report_due: now.mono + REPORT_INTERVAL,
            quality: Quality::new(now.mono),
            due: None,
            allocation: Default::default(),
        };
        let key = self.peers.insert(peer);
        self.by_id.insert(id, key);
        self.rooms[room].peers.push(key);
        key
    }

    fn refuse(&mut self, key: usize, description: Description, (refusal, message): Refused) {
        if let Some(peer) = self.peers.get(key) {
            let peer = peer.id;
            self.event(Event::Refused { peer, description, refusal, message });
        }
    }

    fn on_offer(&mut self, key: usize, sdp: &str, hints: &[TrackHint], saw_ours: bool, now: Now) {
        match self.take_offer(key, sdp, hints, saw_ours, now) {
            Ok(false) => {}
            Ok(true) => {
                self.reconcile(key, now);
                let (sdp, tracks) = self.describe(key, Setup::Passive);
                let Some(peer) = self.peers.get(key) else { return };
                let peer = peer.id;
                self.event(Event::Answer { peer, sdp, tracks });
                self.tell_refused(key);
                self.arm(key, now.mono);
            }
            Err(refused) => self.refuse(key, Description::Offer, refused),
        }
    }

    /// Whether the offer is to be answered; `false` for one that crossed ours.
    fn take_offer(
        &mut self,
        key: usize,
        sdp: &str,
        hints: &[TrackHint],
        saw_ours: bool,
        now: Now,
    ) -> Result<bool, Refused> {
        let offer = parse(sdp)?;
        let Some(peer) = self.peers.get_mut(key) else { return Ok(false) };
        check_role(peer, &offer)?;
        if peer.negotiation.offered.is_some() {
            if saw_ours {
                return Ok(false);
            }
            self.roll_back(key);
        }
        let Some(peer) = self.peers.get_mut(key) else { return Ok(false) };
        if is_another_connection(peer, &offer) {
            // Nothing of the old one is left.
            self.reset_peer(key, now);
        }
        let Some(peer) = self.peers.get_mut(key) else { return Ok(false) };
        check_transport(peer, &offer)?;
        let sent: Vec<TrackId> = peer.negotiation.lines.iter().filter_map(Line::sends).collect();
        let rng = &mut self.rng;
        peer.negotiation.apply_offer(&offer, hints, || TrackId(rng.random()))?;
        // A transceiver that the client stopped is a track that it does not want: it is not offered again.
        for track in sent {
            if !peer.negotiation.lines.iter().any(|line| line.sends() == Some(track))
                && let Some(subscription) = peer.subscription_of(track)
            {
                peer.subscriptions[subscription].told_unavailable = true;
            }
        }
        self.apply_transport(key, &offer, true, now);
        Ok(true)
    }

    fn on_answer(&mut self, key: usize, sdp: &str, hints: &[TrackHint], now: Now) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        if peer.negotiation.offered.is_none() {
            // The answer to an offer that a crossing one of the client's replaced.
            return;
        }
        if let Err(refused) = self.take_answer(key, sdp, hints, now) {
            self.refuse(key, Description::Answer, refused);
        }
    }

    fn take_answer(&mut self, key: usize, sdp: &str, hints: &[TrackHint], now: Now) -> Result<(), Refused> {
        let answer = parse(sdp)?;
        let Some(peer) = self.peers.get_mut(key) else { return Ok(()) };
        check_role(peer, &answer)?;
        let new_connection = is_another_connection(peer, &answer);
        if !new_connection {
            check_transport(peer, &answer)?;
        }
        let offered: Vec<TrackId> = peer.negotiation.offered.iter().flatten().filter_map(Line::sends).collect();
        let rng = &mut self.rng;
        peer.negotiation.apply_answer(&answer, hints, new_connection, || TrackId(rng.random()))?;
        let refused: Vec<TrackId> = offered
            .into_iter()
            .filter(|t| !peer.negotiation.lines.iter().any(|line| line.sends() == Some(*t)))
            .collect();
        if new_connection {
            self.reset_transport(key, now);
        }
        self.apply_transport(key, &answer, false, now);
        for track in refused {
            self.tell_unavailable(key, track, Unavailable::Codec);
        }
        self.reconcile(key, now);
        self.tell_refused(key);
        if self.peers.get(key).is_some_and(|peer| peer.negotiation.wants_restart) {
            self.restart_ice(key, now);
        }
        self.arm(key, now.mono);
        Ok(())
    }

    /// ICE and DTLS parameters of a client's description. A new ufrag in an offer is an ICE restart.
    fn apply_transport(&mut self, key: usize, description: &Sdp, offer: bool, now: Now) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        if let Some(data) = description.media.iter().find(|m| m.kind == MediaKind::Application && !m.rejected) {
            let longest = data.message_bytes_max.unwrap_or(MESSAGE_BYTES_DEFAULT);
            peer.message_bytes_max = if longest == 0 { u64::MAX } else { longest };
        }
        let Some(media) = description.media.iter().find(|m| !m.rejected) else { return };
        let remote = media.ice_ufrag.clone().zip(media.ice_pwd.clone());
        let ufrag = media.ice_ufrag.as_deref();
        peer.remote_fingerprint = peer.remote_fingerprint.or(media.fingerprint);
        if let Some(next) = &mut peer.ice.next {
            // An offer that restarts nothing overtook a restart of ours, which is still to be offered.
            if !offer || peer.ice.current.remote_ufrag() != ufrag {
                next.remote = remote;
            }
        } else if peer.ice.current.remote.is_none() {
            peer.ice.current.remote = remote;
        } else if peer.ice.current.remote_ufrag() != ufrag {
            let local = Credentials::random(&mut self.rng);
            self.ufrags.insert(local.ufrag.clone(), key);
            peer.ice.next = Some(Generation { local, remote });
        }
        let early = std::mem::take(&mut peer.early_dtls);
        for datagram in &early {
            let _ = self.on_dtls(key, datagram, now);
        }
    }

    /// Takes back our unanswered offer. What it said is still wanted, an ICE restart too, and goes into the next.
    fn roll_back(&mut self, key: usize) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        peer.negotiation.offered = None;
        peer.negotiation.wants_offer = true;
    }

    /// Forgets the client's RTCPeerConnection; seat and wishes stay.
    fn reset_peer(&mut self, key: usize, now: Now) {
        self.unpublish_all(key, now);
        self.reset_transport(key, now);
        let local = Credentials::random(&mut self.rng);
        let session_id = self.rng.random::<u64>() >> 2;
        let Some(peer) = self.peers.get_mut(key) else { return };
        self.ufrags.remove(&peer.ice.current.local.ufrag);
        if let Some(next) = &peer.ice.next {
            self.ufrags.remove(&next.local.ufrag);
        }
        self.ufrags.insert(local.ufrag.clone(), key);
        peer.ice = Ice::new(local, now.mono);
        let (only_answers, rules) = (peer.negotiation.only_answers, peer.negotiation.rules);
        peer.negotiation = Negotiation::new(session_id, true, now.mono);
        (peer.negotiation.only_answers, peer.negotiation.rules) = (only_answers, rules);
        // A page that was reloaded opens its devices one after the other: what it offers next would cross an offer of ours.
        peer.negotiation.offer_from += FIRST_OFFER_DELAY;
        for (_, subscription) in &mut peer.subscriptions {
            subscription.told_unavailable = false;
        }
    }

    /// Forgets keys, paths and streams: another RTCPeerConnection answers.
    fn reset_transport(&mut self, key: usize, now: Now) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        let paths: Vec<Path> = peer.ice.paths().collect();
        peer.ice.forget_all();
        peer.dtls = None;
        peer.early_dtls.clear();
        peer.remote_fingerprint = None;
        peer.srtp = None;
        peer.data = None;
        peer.streams.clear();
        peer.arrivals = twcc::Recorder::new();
        peer.resends.clear();
        peer.downlink = Downlink::new(now.mono);
        peer.stamps.transport_seq = 0;
        for (_, subscription) in &mut peer.subscriptions {
            subscription.renew();
        }
        for path in paths {
            self.paths.remove(&path);
            self.close_path(path);
        }
    }

    fn reoffer(&mut self, key: usize, now: Now) {
        self.roll_back(key);
        let Some(peer) = self.peers.get_mut(key) else { return };
        peer.negotiation.may_offer = true;
        peer.negotiation.offer_from = now.mono + REOFFER_DELAY;
        self.arm(key, now.mono);
    }

    fn restart_ice(&mut self, key: usize, now: Now) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        if peer.negotiation.offered.is_some() {
            // The answer may be under way, and would pass for the answer to the offer of the restart: that one comes next,
            // unless this offer is one of a restart already.
            peer.negotiation.wants_restart = peer.ice.next.as_ref().is_none_or(|next| next.remote.is_some());
            return;
        }
        peer.negotiation.wants_restart = false;
        let local = Credentials::random(&mut self.rng);
        let Some(peer) = self.peers.get_mut(key) else { return };
        if peer.negotiation.lines.iter().all(|line| line.rejected) {
            return;
        }
        if let Some(old) = peer.ice.next.replace(Generation { local: local.clone(), remote: None }) {
            self.ufrags.remove(&old.local.ufrag);
        }
        self.ufrags.insert(local.ufrag, key);
        peer.negotiation.wants_offer = true;
        peer.negotiation.offer_from = now.mono;
        self.arm(key, now.mono);
    }

    /// Makes the peer's tracks and subscriptions what its agreed lines say.
    pub(crate) fn reconcile(&mut self, key: usize, now: Now) {
        self.reconcile_inbound(key, now);
        let is_player = self.peers.get(key).is_some_and(|peer| peer.view != View::Tracks);
        if is_player {
            self.fill_lines(key, now);
        }
        self.reconcile_outbound(key);
        self.start_subscriptions(key, now);
        self.settle_audio_lines(key, now);
        if is_player {
            self.direct(key, now);
        }
    }

    fn reconcile_inbound(&mut self, key: usize, now: Now) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        let lines: Vec<Line> = peer.negotiation.lines.iter().filter(|l| !l.rejected).cloned().collect();
        peer.inbound_ids = ExtensionIds::default();
        for line in &lines {
            if line.inbound.is_some() {
                peer.inbound_ids.merge(ExtensionIds::of(&line.extensions));
            }
        }
        let live = |id: TrackId| lines.iter().any(|l| l.inbound.as_ref().is_some_and(|i| i.track == id && i.sending));
        let gone: Vec<usize> =
            peer.published.iter().copied().filter(|t| self.tracks.get(*t).is_none_or(|t| !live(t.id))).collect();
        for track in gone {
            self.unpublish(track, now);
        }
        for line in &lines {
            let Some(inbound) = line.inbound.as_ref().filter(|i| i.sending) else { continue };
            let track_key = match self.tracks_by_id.get(&inbound.track) {
                Some(existing) => *existing,
                None => self.publish(key, line, inbound, now),
            };
            self.rename(track_key, inbound.source, inbound.muted, now);
            let Some(track) = self.tracks.get_mut(track_key) else { continue };
            // Indices into the codecs are in the ring: they may grow in number but not change their order.
            if track.is_silent() {
                self.describe_track(track_key, &line.codecs, &inbound.rids, inbound.ssrcs.len(), now);
            }
            let (Some(track), Some(peer)) = (self.tracks.get(track_key), self.peers.get_mut(key)) else { continue };
            announce_streams(peer, track_key, track.layers.len(), inbound);
        }
    }

    /// What a description says of a track of which no packet has come.
    pub(crate) fn describe_track(
        &mut self,
        track_key: usize,
        codecs: &[Codec],
        rids: &[Arc<str>],
        ssrcs: usize,
        now: Now,
    ) {
        let Some(track) = self.tracks.get_mut(track_key) else { return };
        let others = track.codecs != codecs;
        if others {
            track.codecs = codecs.to_vec();
        }
        let reaims = track.take_layers(rids, ssrcs, now.mono);
        if reaims {
            self.reaim(track_key, now.mono);
        }
        if others || reaims {
            self.announce(track_key);
        }
    }

    /// A later description may say of a track that it shows something else, or that it is muted.
    pub(crate) fn rename(&mut self, track_key: usize, source: Source, muted: bool, now: Now) {
        let Some(track) = self.tracks.get_mut(track_key) else { return };
        if (track.source, track.muted) == (source, muted) {
            return;
        }
        (track.source, track.muted) = (source, muted);
        for subscriber in &track.subscribers {
            let Some(peer) = self.peers.get_mut(subscriber.peer) else { continue };
            if let Some(subscription) = peer.subscriptions.get_mut(subscriber.subscription) {
                subscription.source = source;
            }
        }
        let info = TrackInfo { track: track.id, kind: track.kind, source: track.source, muted: track.is_muted() };
        let Some(peer) = self.peers.get(track.publisher) else { return };
        let (peer, room, stands_in) = (peer.id, peer.room, peer.pipe.is_some());
        if !stands_in {
            self.event(Event::TrackPublished { peer, info });
        }
        self.reaim(track_key, now.mono);
        self.direct_room(room, now);
        self.announce(track_key);
    }

    fn publish(&mut self, key: usize, line: &Line, inbound: &Inbound, now: Now) -> usize {
        let peer = &mut self.peers[key];
        let kind = if line.kind == MediaKind::Audio { Kind::Audio } else { Kind::Video };
        let mut track = Track::new(inbound.track, kind, inbound.source, key, peer.participant.clone(), line.mid);
        track.muted = inbound.muted;
        track.codecs.clone_from(&line.codecs);
        track.take_layers(&inbound.rids, inbound.ssrcs.len(), now.mono);
        let info = TrackInfo { track: track.id, kind, source: track.source, muted: track.muted };
        let peer = peer.id;
        self.event(Event::TrackPublished { peer, info });
        let track_key = self.insert_track(track, now);
        self.announce(track_key);
        track_key
    }

    /// A track begins: whoever takes what there is subscribes to it.
    pub(crate) fn insert_track(&mut self, mut track: Track, now: Now) -> usize {
        let (id, kind, publisher) = (track.id, track.kind, track.publisher);
        let room = self.peers[publisher].room;
        let mode = self.rooms[room].floor.mode;
        track.forwarded = kind == Kind::Video || mode == Mode::All;
        let track_key = self.tracks.insert(track);
        self.peers[publisher].published.push(track_key);
        self.tracks_by_id.insert(id, track_key);
        let subscribers: Vec<usize> =
            self.rooms[room].peers.iter().copied().filter(|p| self.peers[*p].auto_subscribe).collect();
        if kind == Kind::Video || mode != Mode::Shared {
            for subscriber in subscribers {
                self.subscribe(subscriber, track_key, now);
            }
        }
        if kind == Kind::Audio {
            self.count_audio(room, now);
            self.watch_speakers(room, now);
        }
        self.direct_room(room, now);
        self.take_early_wishes(room, id, now);
        track_key
    }

    pub(crate) fn unpublish_all(&mut self, key: usize, now: Now) {
        let published = self.peers.get(key).map(|p| p.published.clone()).unwrap_or_default();
        for track in published {
            self.unpublish(track, now);
        }
    }

    pub(crate) fn unpublish(&mut self, track_key: usize, now: Now) {
        self.announce_end(track_key);
        let Some(track) = self.tracks.try_remove(track_key) else { return };
        self.tracks_by_id.remove(&track.id);
        self.fresh.retain(|t| *t != track_key);
        for subscriber in &track.subscribers {
            let Some(peer) = self.peers.get_mut(subscriber.peer) else { continue };
            if let Some(subscription) = peer.subscriptions.get_mut(subscriber.subscription).filter(|s| s.shared) {
                subscription.track = NOBODY;
                continue;
            }
            peer.drop_subscription(subscriber.subscription);
            peer.negotiation.retire(track.id);
            self.fill_place(subscriber.peer, now);
            self.arm(subscriber.peer, now.mono);
        }
        let room = self.peers.get(track.publisher).and_then(|publisher| self.rooms.get(publisher.room));
        for other in room.into_iter().flat_map(|room| &room.peers) {
            if let Some(other) = self.peers.get_mut(*other).filter(|other| !other.left_out.is_empty()) {
                other.left_out.retain(|left_out| *left_out != track.id);
            }
        }
        if let Some(publisher) = self.peers.get_mut(track.publisher) {
            publisher.published.retain(|t| *t != track_key);
            publisher.streams.retain(|s| s.track != track_key);
            let (peer, room) = (publisher.id, publisher.room);
            if track.source_pipe.is_none() {
                self.event(Event::TrackUnpublished { peer, track: track.id });
            }
            if track.kind == Kind::Audio {
                self.count_audio(room, now);
            }
            self.direct_room(room, now);
        }
    }
}

/// Notes the SSRCs that a description names, and guesses their layers by their order.
fn announce_streams(peer: &mut Peer, track: usize, layers: usize, inbound: &Inbound) {
    let layer = |place: usize| place.min(layers - 1) as u8;
    let repaired = |ssrc| inbound.ssrcs.iter().position(|s| *s == ssrc).unwrap_or(0);
    let media = inbound.ssrcs.iter().enumerate().map(|(place, ssrc)| (*ssrc, layer(place), false));
    let rtx = inbound.rtx_ssrcs.iter().map(|(ssrc, rtx)| (*rtx, layer(repaired(*ssrc)), true));
    for (ssrc, layer, repairs) in media.chain(rtx) {
        if !peer.streams.iter().any(|s| s.ssrc == ssrc && s.track == track && s.bound) {
            peer.bind_stream(Stream { ssrc, track, layer, repairs, bound: false });
        }
    }
}

fn parse(text: &str) -> Result<Sdp, Refused> {
    let description = sdp::parse(text).map_err(|e| (Refusal::InvalidSdp, e.to_string()))?;
    if description.ice_lite {
        return Err((Refusal::InvalidSdp, "a=ice-lite came: two lite sides never meet".into()));
    }
    Ok(description)
}

/// Whether a description comes from another RTCPeerConnection than the last. `o=` says so (RFC 9429 §5.2.1), but aiortc
/// writes a new one into each description, so the ufrag must be new too: a new connection has one, and an ICE restart
/// keeps `o=`.
fn is_another_connection(peer: &Peer, description: &Sdp) -> bool {
    let ufrag = description.media.iter().find(|m| !m.rejected).and_then(|m| m.ice_ufrag.as_deref());
    let generations = std::iter::once(&peer.ice.current).chain(&peer.ice.next);
    let is_known = generations.filter_map(|g| g.remote_ufrag()).any(|known| Some(known) == ufrag);
    peer.negotiation.origin.as_ref().is_some_and(|origin| *origin != description.origin) && !is_known
}

/// We are the passive side of DTLS, so the client has to be the active one. The roles of an association are agreed upon once
/// (RFC 8842 §5.3): what later descriptions say of them is passed over, since some (Pion, webrtc-rs) call themselves passive in
/// each answer to a lite peer, whatever they are.
fn check_role(peer: &Peer, description: &Sdp) -> Result<(), Refused> {
    let passive = description.media.iter().find(|m| !m.rejected && m.setup == Some(Setup::Passive));
    let is_agreed = peer.remote_fingerprint.is_some() && !is_another_connection(peer, description);
    match passive {
        Some(Media { mid, .. }) if !is_agreed => {
            Err((Refusal::InvalidSdp, format!("a=setup of {mid} is passive: the client must be able to be active")))
        }
        _ => Ok(()),
    }
}

/// A certificate cannot change under an association; that takes a new RTCPeerConnection.
fn check_transport(peer: &Peer, description: &Sdp) -> Result<(), Refused> {
    let Some(media) = description.media.iter().find(|m| !m.rejected) else { return Ok(()) };
    match (peer.remote_fingerprint, media.fingerprint) {
        (Some(known), Some(new)) if known != new => Err((
            Refusal::NewPeerRequired,
            "the DTLS fingerprint changed: close this RTCPeerConnection and make a new one".into(),
        )),
        _ => Ok(()),
    }
}
