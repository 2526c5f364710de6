//! Offers, answers and candidates: to another user unchanged, or to the SFU.

use serde_json::{Value, json};
use sfu::{Now, Request};

use crate::Lobby;
use crate::api::{Recipients, SocketId};
use crate::code::ErrorCode;
use crate::events::{Answer, accepted};
use crate::limits::{OFFERS, RELAY_BYTES_MAX};
use crate::mesh;
use crate::seat::{Peer, Place};
use crate::wire::{self, Fields, SFU, Verb, encode};

impl Lobby {
    pub(crate) fn signal(
        &mut self,
        socket: SocketId,
        place: Place,
        verb: Verb,
        fields: Fields<'_>,
        payload: &Value,
        now: Now,
    ) -> Answer {
        if verb == Verb::Offer {
            self.spend(socket, |s| &mut s.offers, OFFERS, now)?;
        }
        let target = fields.required("targetUserId")?;
        match verb {
            _ if &*target != SFU => self.relay(place, verb, &target, fields, payload),
            Verb::Offer => self.offer(place, fields),
            Verb::Answer => self.take_answer(place, fields, now),
            _ => {
                // The server is ICE-lite: it never sends to a candidate, it waits for the checks.
                wire::check_candidate(fields)?;
                self.first_word(place, now);
                accepted()
            }
        }
    }

    /// Mesh: the payload goes to the user as it is, but for who sent it.
    fn relay(&mut self, place: Place, verb: Verb, target: &str, fields: Fields<'_>, payload: &Value) -> Answer {
        let found = self.rooms.get(&place.room).and_then(|room| Some((room, room.seats.get(&place.seat)?)));
        let Some((room, sender)) = found else {
            return Err(ErrorCode::NotJoined.because("Join a session first."));
        };
        mesh::check(sender.may(), verb, fields)?;
        let sockets = room.sockets_of(target, place.seat).ok_or_else(|| {
            ErrorCode::UnknownTarget.because("targetUserId is nobody else in this session: see participants-update.")
        })?;
        if sockets.is_empty() {
            let why = "That user is reconnecting: try again when the roster says connected.";
            return Err(ErrorCode::UnknownTarget.because(why));
        }
        let mut payload = payload.clone();
        payload["userId"] = json!(&*sender.user);
        payload["sessionId"] = json!(&*room.session);
        let payload = encode(&payload);
        if payload.get().len() > RELAY_BYTES_MAX {
            let why = format!("The payload has {} bytes, at most {RELAY_BYTES_MAX} are relayed.", payload.get().len());
            return Err(ErrorCode::InvalidRequest.because(why));
        }
        let event = match verb {
            Verb::Offer => "offer",
            Verb::Answer => "answer",
            _ => "ice-candidate",
        };
        self.emit_raw(Recipients::Many(sockets), event, payload);
        accepted()
    }

    fn offer(&mut self, place: Place, fields: Fields<'_>) -> Answer {
        let sdp = wire::description(fields, "offer")?;
        let tracks = wire::track_hints(fields)?;
        self.start_peer(place, false);
        let Some((worker, peer)) = self.peer_mut(place) else {
            return Err(no_peer());
        };
        let wakes = !std::mem::replace(&mut peer.listening, true);
        if wakes {
            peer.new_page();
        }
        // The answer to an older offer is of no use any more.
        peer.answer = None;
        let saw_ours = peer.offer.as_ref().is_some_and(|o| o.shown);
        if !saw_ours {
            peer.asked = peer.asked.saturating_add(1);
        }
        let request = Request::Offer { peer: peer.id, sdp, tracks, saw_ours };
        self.request(worker, request);
        if wakes {
            self.repeat_flow(place);
        }
        accepted()
    }

    fn take_answer(&mut self, place: Place, fields: Fields<'_>, now: Now) -> Answer {
        let sdp = wire::description(fields, "answer")?;
        let tracks = wire::track_hints(fields)?;
        let Some((worker, peer)) = self.peer_mut(place) else {
            return Err(no_peer());
        };
        let request = Request::Answer { peer: peer.id, sdp, tracks };
        peer.answered = peer.offer.take();
        self.request(worker, request);
        self.first_word(place, now);
        accepted()
    }

    pub(crate) fn subscription(&mut self, place: Place, fields: Fields<'_>) -> Answer {
        let (track, wish) = wire::subscription(fields)?;
        let owner = self.rooms.get(&place.room).and_then(|r| r.tracks.get(&track).copied());
        match owner {
            None => {
                return Err(ErrorCode::InvalidRequest.because("There is no such track in this session."));
            }
            Some(owner) if owner == place.seat => {
                return Err(ErrorCode::InvalidRequest.because("That track is your own."));
            }
            Some(_) => {}
        }
        if !self.seat(place).is_some_and(|seat| seat.may().subscribe) {
            return Err(ErrorCode::NotPermitted.because("You may not receive what others publish here."));
        }
        let Some((worker, Peer { id, .. })) = self.peer_mut(place) else {
            return Err(no_peer());
        };
        let request = Request::Subscription { peer: *id, track, wish };
        self.request(worker, request);
        accepted()
    }

    pub(crate) fn track_update(&mut self, place: Place, fields: Fields<'_>) -> Answer {
        let track = fields.track()?;
        let muted = fields.required_flag("muted")?;
        let owner = self.rooms.get(&place.room).and_then(|r| r.tracks.get(&track).copied());
        match owner {
            None => {
                return Err(ErrorCode::InvalidRequest.because("There is no such track in this session."));
            }
            Some(owner) if owner != place.seat => {
                return Err(ErrorCode::NotPermitted.because("That track is another participant's."));
            }
            Some(_) => {}
        }
        let changed = self.seat_mut(place).and_then(|s| s.tracks.get_mut(&track)).is_some_and(|info| {
            let changed = info.muted != muted;
            info.muted = muted;
            changed
        });
        if changed {
            self.line_changed(place);
            if let Some((worker, peer)) = self.peer_mut(place) {
                let request = Request::Mute { peer: peer.id, track, muted };
                self.request(worker, request);
            }
        }
        accepted()
    }
}

fn no_peer() -> crate::code::Refused {
    ErrorCode::NewPeerRequired
        .because("You have no peer in the SFU: send an offer to \"sfu\" from a new RTCPeerConnection.")
}
