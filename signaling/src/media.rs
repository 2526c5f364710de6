//! Between seats and their peers in the SFU: what outlives a socket, and what others are told.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use serde_json::value::RawValue;
use sfu::{Description, Event, Now, PeerId, Request, Source, TrackId, TrackInfo, TrackLine, Unavailable, View};

use crate::Lobby;
use crate::api::{Recipients, WorkerId};
use crate::code::ErrorCode;
use crate::join::Way;
use crate::limits::{ANSWER_REPEAT_MAX, ICE_RESTART_EVERY};
use crate::seat::{Offered, Peer, Place};
use crate::wire::{Line, Media, SFU, encode};

impl Lobby {
    /// A seat's peer, and the worker that has it.
    pub(crate) fn peer_mut(&mut self, place: Place) -> Option<(WorkerId, &mut Peer)> {
        let peer = self.seat_mut(place)?.peer.as_mut()?;
        Some((peer.worker, peer))
    }

    /// Makes the seat's peer, if it has none.
    pub(crate) fn start_peer(&mut self, place: Place, offer_first: bool) {
        if self.seat(place).is_none_or(|s| s.peer.is_some()) {
            return;
        }
        let id = PeerId(self.mint());
        let worker = self.worker_for(place.room);
        let Some(room) = self.rooms.get_mut(&place.room) else {
            return;
        };
        let codecs = room.settings.codecs();
        let Some(seat) = room.seats.get_mut(&place.seat) else {
            return;
        };
        seat.peer = Some(Peer::new(id, worker));
        let request = Request::Join {
            peer: id,
            room: place.room,
            participant: seat.participant.clone(),
            auto_subscribe: seat.auto_subscribe,
            offer_first,
            rights: seat.standing.rights(),
            codecs,
            view: View::Tracks,
        };
        self.peers.insert(id, place);
        self.request(worker, request);
        self.peer_came(place.room, worker);
        self.repeat_flow(place);
    }

    /// Drops the seat's peer and what it published; `ask` when the SFU does not know yet.
    pub(crate) fn forget_peer(&mut self, place: Place, ask: bool) {
        let Some(room) = self.rooms.get_mut(&place.room) else {
            return;
        };
        let Some(seat) = room.seats.get_mut(&place.seat) else {
            return;
        };
        let Some(peer) = seat.peer.take() else { return };
        let tracks = std::mem::take(&mut seat.tracks);
        for track in tracks.keys() {
            room.tracks.remove(track);
        }
        for track in tracks.into_keys() {
            self.forget_flow(place.room, track);
        }
        self.peers.remove(&peer.id);
        if ask {
            self.request(peer.worker, Request::Leave { peer: peer.id });
        }
        self.peer_went(place.room, peer.worker);
        self.line_changed(place);
    }

    /// After a join's ack: what the client says of its media, and what a lost socket may have swallowed.
    pub(crate) fn settle_media(&mut self, place: Place, way: Way, media: Option<Media>, now: Now) {
        if media == Some(Media::Mesh) {
            return self.forget_peer(place, true);
        }
        let Some((worker, peer)) = self.peer_mut(place) else {
            if media == Some(Media::Sfu) {
                self.start_peer(place, true);
            }
            return;
        };
        let says_sfu = media == Some(Media::Sfu);
        let wakes = says_sfu && !peer.listening;
        peer.listening = says_sfu || (peer.listening && way != Way::Replaced);
        match way {
            Way::Replaced if says_sfu => {
                // A full offer serves a new page as well as one that only blinked.
                peer.new_page();
                let request = Request::Reoffer { peer: peer.id };
                self.request(worker, request);
                self.repeat_flow(place);
            }
            Way::Again if !wakes => {}
            Way::New | Way::Replaced | Way::Again | Way::Resumed => {
                self.repeat(place, now);
                self.restart_if_lost(place, now);
            }
        }
    }

    /// A message to the SFU other than an offer: the client speaks to it, so it gets what was held for it.
    pub(crate) fn first_word(&mut self, place: Place, now: Now) {
        let Some((_, peer)) = self.peer_mut(place) else {
            return;
        };
        if !peer.listening {
            peer.listening = true;
            self.repeat(place, now);
        }
    }

    /// Gives the present socket what the last one may have swallowed: the answer first, for it came first.
    fn repeat(&mut self, place: Place, now: Now) {
        let Some(seat) = self.seat(place) else { return };
        let Some((socket, peer)) = seat.socket.zip(seat.peer.as_ref().filter(|p| p.listening)) else {
            return;
        };
        let young = |at| now.mono.saturating_duration_since(at) < ANSWER_REPEAT_MAX;
        let answer = peer.answer.as_ref().filter(|(_, at)| young(*at)).map(|(payload, _)| payload.clone());
        if let Some(answer) = answer {
            self.emit_raw(Recipients::One(socket), "answer", answer);
        }
        self.show_offer(place);
        self.repeat_flow(place);
    }

    /// Emits the unanswered offer, unless the socket has had it or must not have it now.
    fn show_offer(&mut self, place: Place) {
        let Some(seat) = self.seat_mut(place) else {
            return;
        };
        let Some((socket, peer)) = seat.socket.zip(seat.peer.as_mut()) else {
            return;
        };
        if !peer.listening || peer.asked > 0 {
            return;
        }
        if let Some(offer) = peer.offer.as_mut().filter(|o| !o.shown) {
            offer.shown = true;
            let payload = offer.payload.clone();
            self.emit_raw(Recipients::One(socket), "offer", payload);
        }
    }

    pub(crate) fn media_event(&mut self, worker: WorkerId, event: Event, now: Now) {
        match event {
            Event::Answer { peer, sdp, tracks } => self.sfu_answer(peer, &sdp, &tracks, now),
            Event::Offer { peer, sdp, tracks } => self.sfu_offer(peer, &sdp, &tracks),
            Event::Refused { peer, description, refusal, message } => {
                self.sfu_refused(peer, description, refusal.into(), message);
            }
            Event::NotPermitted { peer, source } => self.not_permitted(peer, source),
            Event::Connected { peer } => {
                if let Some((_, peer)) = self.peers.get(&peer).copied().and_then(|place| self.peer_mut(place)) {
                    peer.consent_lost = false;
                }
                self.sampled(peer, Duration::ZERO);
            }
            Event::PathSilent { peer } => self.consent_lost(peer, now),
            Event::ConsentLost { peer } => {
                self.media_is(peer, false);
                self.consent_lost(peer, now);
            }
            Event::Closed { peer, reason: _ } => self.sfu_closed(peer),
            Event::TrackPublished { peer, info } => self.track_published(peer, info),
            Event::TrackUnpublished { peer, track } => self.track_unpublished(peer, track),
            Event::TrackUnavailable { peer, track, reason } => self.track_unavailable(peer, track, reason),
            Event::TrackPaused { peer, track, reason } => self.track_flow(peer, track, true, reason),
            Event::TrackResumed { peer, track, reason } => self.track_flow(peer, track, false, reason),
            Event::LayersWanted { peer, track, layers } => self.layers_wanted(peer, track, &layers),
            Event::Snapshot { ticket, snapshot } => self.gather_snapshot(ticket, *snapshot),
            Event::Quality { peer, score, cause } => self.quality(peer, score, cause),
            Event::Speakers { room, speakers, audio } => self.speakers(worker, room, &speakers, &audio),
            Event::Sample { peer, sample } => self.sampled(peer, sample.silence),
        }
    }

    fn description(&self, place: Place, kind: &'static str, sdp: &str, tracks: &[TrackLine]) -> Option<Arc<RawValue>> {
        let room = self.rooms.get(&place.room)?;
        let lines: Vec<Line<'_>> = tracks.iter().map(Line::from).collect();
        Some(encode(&json!({
            "sessionId": &*room.session,
            "userId": SFU,
            "targetUserId": &*room.seats.get(&place.seat)?.user,
            kind: { "type": kind, "sdp": sdp },
            "tracks": lines,
        })))
    }

    fn sfu_answer(&mut self, peer: PeerId, sdp: &str, tracks: &[TrackLine], now: Now) {
        let Some(place) = self.peers.get(&peer).copied() else {
            return;
        };
        let Some(payload) = self.description(place, "answer", sdp, tracks) else {
            return;
        };
        let Some(seat) = self.seat_mut(place) else {
            return;
        };
        let Some(peer) = seat.peer.as_mut() else {
            return;
        };
        let awaited = peer.replied();
        // It was rolled back when the SFU read the client's offer; what it wanted comes in the next.
        peer.offer = None;
        if !awaited {
            return;
        }
        peer.answer = Some((payload.clone(), now.mono));
        if let Some(socket) = seat.socket.filter(|_| peer.listening) {
            self.emit_raw(Recipients::One(socket), "answer", payload);
        }
    }

    fn sfu_offer(&mut self, peer: PeerId, sdp: &str, tracks: &[TrackLine]) {
        let Some(place) = self.peers.get(&peer).copied() else {
            return;
        };
        let Some(payload) = self.description(place, "offer", sdp, tracks) else {
            return;
        };
        let Some((_, peer)) = self.peer_mut(place) else {
            return;
        };
        peer.answered = None;
        peer.offer = Some(Offered { payload, shown: false });
        self.show_offer(place);
    }

    fn sfu_refused(&mut self, peer: PeerId, description: Description, code: ErrorCode, message: String) {
        let Some(place) = self.peers.get(&peer).copied() else {
            return;
        };
        let Some(seat) = self.seat_mut(place) else {
            return;
        };
        let Some(peer) = seat.peer.as_mut() else {
            return;
        };
        let (event, awaited) = match description {
            Description::Offer => ("offer", peer.replied()),
            Description::Answer => {
                peer.offer = peer.offer.take().or(peer.answered.take());
                ("answer", true)
            }
        };
        if let Some(socket) = seat.socket.filter(|_| peer.listening && awaited) {
            self.session_error(socket, &code.because(message), event);
        }
        self.show_offer(place);
    }

    fn not_permitted(&mut self, peer: PeerId, source: Source) {
        let socket = self.peers.get(&peer).and_then(|place| self.seat(*place)?.socket);
        if let Some(socket) = socket {
            let why = format!("You may not publish {} here: others do not get it.", source.as_str());
            self.session_error(socket, &ErrorCode::NotPermitted.because(why), "offer");
        }
    }

    fn consent_lost(&mut self, peer: PeerId, now: Now) {
        let Some(place) = self.peers.get(&peer).copied() else {
            return;
        };
        if let Some((_, peer)) = self.peer_mut(place) {
            peer.consent_lost = true;
        }
        self.restart_if_lost(place, now);
    }

    /// Restarts ICE where consent is lost while somebody is there to answer; else the socket's return does.
    fn restart_if_lost(&mut self, place: Place, now: Now) {
        if self.seat(place).is_none_or(|s| s.socket.is_none()) {
            return;
        }
        let Some((worker, peer)) = self.peer_mut(place) else {
            return;
        };
        let soon = peer.restarted_at.is_some_and(|at| now.mono < at + ICE_RESTART_EVERY);
        if peer.consent_lost && peer.listening && !soon {
            peer.consent_lost = false;
            peer.restarted_at = Some(now.mono);
            let request = Request::RestartIce { peer: peer.id };
            self.request(worker, request);
        }
    }

    fn sfu_closed(&mut self, peer: PeerId) {
        let Some(place) = self.peers.get(&peer).copied() else {
            return;
        };
        let listening = self.peer_mut(place).is_some_and(|(_, p)| p.listening);
        self.forget_peer(place, false);
        if let Some(socket) = self.seat(place).and_then(|s| s.socket).filter(|_| listening) {
            let why = "The media connection has ended: offer again from a new RTCPeerConnection.";
            self.session_error(socket, &ErrorCode::NewPeerRequired.because(why), "offer");
        }
    }

    fn track_published(&mut self, peer: PeerId, info: TrackInfo) {
        let Some(place) = self.peers.get(&peer).copied() else {
            return;
        };
        let Some(room) = self.rooms.get_mut(&place.room) else {
            return;
        };
        room.tracks.insert(info.track, place.seat);
        if let Some(seat) = room.seats.get_mut(&place.seat) {
            seat.tracks.insert(info.track, info);
        }
        self.line_changed(place);
    }

    fn track_unpublished(&mut self, peer: PeerId, track: TrackId) {
        let Some(place) = self.peers.get(&peer).copied() else {
            return;
        };
        let Some(room) = self.rooms.get_mut(&place.room) else {
            return;
        };
        let Some(seat) = room.seats.get_mut(&place.seat) else {
            return;
        };
        if seat.tracks.remove(&track).is_some() {
            room.tracks.remove(&track);
            self.forget_flow(place.room, track);
            self.line_changed(place);
        }
    }

    fn track_unavailable(&mut self, peer: PeerId, track: TrackId, reason: Unavailable) {
        let Some(place) = self.peers.get(&peer).copied() else {
            return;
        };
        let reason = match reason {
            Unavailable::Codec => "codec",
            Unavailable::Limit => "limit",
        };
        if let Some(socket) = self.seat(place).and_then(|s| s.socket) {
            let payload = json!({ "trackId": track.to_string(), "reason": reason });
            self.emit(Recipients::One(socket), "track-unavailable", &payload);
        }
    }
}
