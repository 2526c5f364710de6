//! WHIP and WHEP (RFC 9725, draft-ietf-wish-whep): seats and viewers that speak HTTP once, and media from then on.
//!
//! A publisher has a seat like anybody else, held by its resource instead of a socket. A viewer has a peer and no seat:
//! it is in no roster. Both live as long as ICE consent does, or until they are deleted.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use serde_json::json;
use sfu::{Event, Now, PeerId, Request, Rights, RoomId, Sources, View};

use crate::access::Identity;
use crate::api::{Ask, Granted, HttpId, Output, WorkerId};
use crate::code::{ErrorCode, Refused};
use crate::fact::{FactId, Reason};
use crate::join::overloaded;
use crate::limits::{OFFER_ANSWER_MAX, RESOURCES_MAX, RESOURCES_PER_ADDRESS_MAX};
use crate::moderation::not_live;
use crate::room::{Room, SeatId};
use crate::seat::Place;
use crate::wire::{Join, Media};
use crate::{Lobby, Timer};

/// Who wants to play.
struct Viewer {
    identity: Option<Arc<Identity>>,
    address: IpAddr,
}

/// What a WHIP or WHEP client holds.
#[derive(Debug)]
pub(crate) struct Resource {
    peer: PeerId,
    worker: WorkerId,
    room: RoomId,
    /// `None` for a viewer.
    seat: Option<SeatId>,
    /// The user whom a viewer's token names.
    user: Option<Arc<str>>,
    /// The seat's `participantId`, or what stands for a viewer: no secret, unlike the resource's id.
    participant: Arc<str>,
    address: IpAddr,
    /// The client's offer, which a restart of ICE varies.
    offer: String,
    /// Counts ICE sessions.
    etag: u64,
    /// The request that the SFU's next answer answers. One at a time: a second is told to wait.
    waiting: Option<HttpId>,
    /// When the first answer is overdue; `None` once it came.
    due: Option<Instant>,
}

impl Lobby {
    pub(crate) fn ask(&mut self, http: HttpId, address: IpAddr, ask: Ask, now: Now) {
        let asked = match ask {
            Ask::Publish { identity, session, user, name, instructor, sdp } => {
                let join = json!({ "sessionId": session, "userId": user, "userName": name, "isInstructor": instructor, "autoSubscribe": false });
                Join::parse(&join, identity).and_then(|join| self.publish(http, address, &join, sdp, now))
            }
            Ask::Play { identity, session, participant, sdp } => {
                let viewer = Viewer { identity, address };
                self.play(http, viewer, session.trim(), participant, sdp, now)
            }
            Ask::Patch { resource, etag, credentials } => self.patch(http, &resource, etag, credentials),
            Ask::End { resource } => self.end_resource(http, &resource),
        };
        if let Err(why) = asked {
            self.reply_http(http, Err(why));
        }
    }

    pub(crate) fn reply_http(&mut self, http: HttpId, reply: Result<Granted, Refused>) {
        self.reply_http_after(http, reply, None);
    }

    pub(crate) fn reply_http_after(&mut self, http: HttpId, reply: Result<Granted, Refused>, after: Option<FactId>) {
        self.out.push_back(Output::Reply { http, reply, after });
    }

    fn check_room_for(&self, address: IpAddr) -> Result<(), Refused> {
        self.check_draining()?;
        if self.resources.len() >= RESOURCES_MAX {
            return Err(overloaded());
        }
        if self.resources.values().filter(|r| r.address == address).count() >= RESOURCES_PER_ADDRESS_MAX {
            let why = "Too many WHIP and WHEP clients from your address: end some and try again.";
            return Err(ErrorCode::RateLimited.because(why));
        }
        Ok(())
    }

    fn publish(&mut self, http: HttpId, address: IpAddr, join: &Join, sdp: String, now: Now) -> Result<(), Refused> {
        self.check_room_for(address)?;
        let claimed = self.claim(None, join, now)?;
        self.check_publisher(join, claimed.is_none())?;
        if let Some((held, _)) = claimed {
            // Whoever held the seat has another transport: nothing of it can go on.
            if let Some(socket) = self.seat(held).and_then(|s| s.socket) {
                let why = "You joined this session over WHIP, which took this connection's place.";
                self.close(socket, ErrorCode::Replaced.because(why), "join-session");
            }
            self.leave(held, Reason::Replaced);
        }
        let place = self.new_seat(None, join, now);
        let id: Arc<str> = self.random_id("", 32).into();
        let lost = || ErrorCode::Internal.because("The seat was lost: try again.");
        let seat = self.seat_mut(place).ok_or_else(lost)?;
        seat.resource = Some(id.clone());
        let participant = seat.participant.clone();
        self.tell_joined(place);
        self.start_peer(place, false);
        let (worker, peer) = self.peer_mut(place).ok_or_else(lost)?;
        peer.asked = 1;
        let peer = peer.id;
        self.hold_resource(
            id,
            Resource {
                peer,
                worker,
                room: place.room,
                seat: Some(place.seat),
                user: None,
                participant,
                address,
                offer: sdp,
                etag: 1,
                waiting: Some(http),
                due: None,
            },
            now,
        );
        Ok(())
    }

    fn play(
        &mut self,
        http: HttpId,
        viewer: Viewer,
        session: &str,
        participant: Option<String>,
        sdp: String,
        now: Now,
    ) -> Result<(), Refused> {
        let Viewer { identity, address } = viewer;
        self.check_room_for(address)?;
        if let Some(identity) = &identity {
            self.check_member(identity, session, now)?;
        }
        let room = self.sessions.get(session).copied();
        let found = room.and_then(|id| Some((id, self.rooms.get(&id).filter(|room| !room.seats.is_empty())?)));
        let Some((room, live)) = found else {
            return Err(not_live());
        };
        check_viewer(live, identity.as_deref())?;
        let participant: Option<Arc<str>> = participant.map(Into::into);
        if let Some(wanted) = &participant
            && !live.seats.values().any(|seat| seat.participant == *wanted)
        {
            return Err(ErrorCode::UnknownTarget.because("participantId is nobody in this session."));
        }
        let codecs = live.settings.codecs();
        let worker = self.worker_for(room);
        let peer = PeerId(self.mint());
        let id: Arc<str> = self.random_id("", 32).into();
        let viewer: Arc<str> = self.random_id("v_", 16).into();
        self.grant(viewer.clone());
        let join = Request::Join {
            peer,
            room,
            participant: viewer.clone(),
            auto_subscribe: false,
            offer_first: false,
            rights: Rights { data: false, publish: Sources::NONE, ..Rights::default() },
            codecs,
            view: View::Program { participant },
        };
        self.request(worker, join);
        self.peer_came(room, worker);
        self.hold_resource(
            id,
            Resource {
                peer,
                worker,
                room,
                seat: None,
                user: identity.map(|identity| identity.user.clone()),
                participant: viewer,
                address,
                offer: sdp,
                etag: 1,
                waiting: Some(http),
                due: None,
            },
            now,
        );
        Ok(())
    }

    /// Keeps a resource and hands its offer to the SFU.
    fn hold_resource(&mut self, id: Arc<str>, mut resource: Resource, now: Now) {
        resource.due = Some(now.mono + OFFER_ANSWER_MAX);
        self.rearm(Timer::Offer(resource.peer), None, resource.due);
        self.resource_peers.insert(resource.peer, id.clone());
        self.resources.insert(id.clone(), resource);
        self.offer_resource(&id);
    }

    fn offer_resource(&mut self, id: &str) {
        let Some(resource) = self.resources.get(id) else { return };
        let worker = resource.worker;
        let request =
            Request::Offer { peer: resource.peer, sdp: resource.offer.clone(), tracks: Vec::new(), saw_ours: false };
        self.request(worker, request);
    }

    /// A worker that has not answered by now will not: what waits for it is let go, so that it keeps no meeting open.
    pub(crate) fn offer_expired(&mut self, peer: PeerId) {
        let Some(id) = self.resource_peers.get(&peer).cloned() else { return };
        let Some(resource) = self.resources.get_mut(&id) else { return };
        resource.due = None;
        if let Some(http) = resource.waiting.take() {
            self.reply_http(
                http,
                Err(ErrorCode::Overloaded.because("The server is too busy for media: try again later.")),
            );
            self.lose_resource(&id, Reason::Left);
        }
    }

    fn patch(
        &mut self,
        http: HttpId,
        id: &str,
        etag: Option<u64>,
        credentials: Option<(String, String)>,
    ) -> Result<(), Refused> {
        let resource = self.resources.get_mut(id).ok_or_else(unknown)?;
        if etag.is_some_and(|etag| etag != resource.etag) {
            return Err(
                ErrorCode::StaleEtag.because("This ICE session is over: use the ETag of the last answer, or \"*\".")
            );
        }
        let Some((ufrag, pwd)) = credentials else {
            self.reply_http(http, Ok(Granted::Done));
            return Ok(());
        };
        let is_word = |word: &str, least: usize| {
            (least..=sfu::sdp::ICE_BYTES_MAX).contains(&word.len()) && word.bytes().all(|byte| byte.is_ascii_graphic())
        };
        if !is_word(&ufrag, 4) || !is_word(&pwd, 22) {
            return Err(
                ErrorCode::InvalidSdp.because("ice-ufrag needs 4 to 256 visible characters, ice-pwd 22 to 256.")
            );
        }
        let offer = with_credentials(&resource.offer, &ufrag, &pwd);
        if offer.len() > sfu::sdp::SDP_BYTES_MAX {
            return Err(ErrorCode::InvalidSdp.because("With these credentials the offer would be too long."));
        }
        if offer == resource.offer {
            // Candidates of the present ICE session: an ICE-lite server waits for the checks (RFC 8840 has both in each fragment).
            self.reply_http(http, Ok(Granted::Done));
            return Ok(());
        }
        if resource.waiting.is_some() {
            return Err(ErrorCode::RateLimited.because("An earlier request is not answered yet: wait for it."));
        }
        resource.offer = offer;
        resource.etag += 1;
        resource.waiting = Some(http);
        self.offer_resource(id);
        Ok(())
    }

    fn end_resource(&mut self, http: HttpId, id: &str) -> Result<(), Refused> {
        if !self.resources.contains_key(id) {
            return Err(unknown());
        }
        self.lose_resource(id, Reason::Left);
        self.reply_http(http, Ok(Granted::Done));
        Ok(())
    }

    /// Ends what a client holds: its seat, or its peer alone.
    fn lose_resource(&mut self, id: &str, reason: Reason) {
        let Some(resource) = self.resources.get(id) else { return };
        match resource.seat {
            Some(seat) => self.leave(Place { room: resource.room, seat }, reason),
            None => {
                let (peer, worker, room) = (resource.peer, resource.worker, resource.room);
                let viewer = resource.participant.clone();
                self.drop_resource(id);
                self.revoke(viewer);
                self.request(worker, Request::Leave { peer });
                self.peer_went(room, worker);
            }
        }
    }

    /// Forgets a resource whose seat or peer is gone.
    pub(crate) fn drop_resource(&mut self, id: &str) {
        let Some(resource) = self.resources.remove(id) else { return };
        self.rearm(Timer::Offer(resource.peer), resource.due, None);
        self.resource_peers.remove(&resource.peer);
        if let Some(http) = resource.waiting {
            self.reply_http(http, Err(ErrorCode::Ended.because("The session or your part in it has ended.")));
        }
    }

    /// The last seat of a room is gone: there is nothing more to see.
    pub(crate) fn end_viewers(&mut self, room: RoomId) {
        let viewers = self.resources.iter().filter(|(_, r)| r.room == room && r.seat.is_none());
        let ids: Vec<Arc<str>> = viewers.map(|(id, _)| id.clone()).collect();
        for id in ids {
            self.lose_resource(&id, Reason::Left);
        }
    }

    /// Ends what a removed user watches.
    pub(crate) fn end_viewers_of(&mut self, room: RoomId, user: &str) {
        let theirs = |r: &Resource| r.room == room && r.seat.is_none() && r.user.as_deref() == Some(user);
        let ids: Vec<Arc<str>> = self.resources.iter().filter(|(_, r)| theirs(r)).map(|(id, _)| id.clone()).collect();
        for id in ids {
            self.lose_resource(&id, Reason::Removed);
        }
    }

    /// Whether a WHIP client may publish anything, and need not be admitted first: it has nobody who would wait.
    fn check_publisher(&self, join: &Join, is_new: bool) -> Result<(), Refused> {
        let room = self.sessions.get(&join.session).and_then(|room| self.rooms.get(room));
        let standing = room
            .map_or_else(|| join.given.under(self.rules(&join.session)), |room| room.standing(&join.user, join.given));
        if standing.permissions.publish == Sources::NONE {
            return Err(ErrorCode::NotPermitted.because("You may not publish anything in this session."));
        }
        if is_new && self.must_wait(join) {
            return Err(
                ErrorCode::Forbidden.because("People must be admitted to this session: join it in a browser first.")
            );
        }
        Ok(())
    }

    /// Takes what the SFU says of a resource's peer; gives back what is treated as any seat's.
    pub(crate) fn resource_event(&mut self, event: Event, now: Now) -> Option<Event> {
        let peer = match &event {
            Event::Answer { peer, .. }
            | Event::Offer { peer, .. }
            | Event::Refused { peer, .. }
            | Event::PathSilent { peer }
            | Event::ConsentLost { peer }
            | Event::Closed { peer, .. } => *peer,
            _ => return Some(event),
        };
        let Some(id) = self.resource_peers.get(&peer).cloned() else { return Some(event) };
        match event {
            Event::Answer { sdp, .. } => self.answer_resource(&id, sdp, now),
            Event::Refused { refusal, message, .. } => {
                let waiting = self.resources.get_mut(&id).and_then(|r| Some((r.waiting.take()?, r.etag)));
                let (http, etag) = waiting?;
                let code: ErrorCode = refusal.into();
                self.reply_http(http, Err(code.because(message)));
                // A refused restart leaves the session as it was; a refused beginning leaves nothing.
                if etag == 1 {
                    self.lose_resource(&id, Reason::Left);
                }
            }
            Event::ConsentLost { .. } => self.lose_resource(&id, Reason::Disconnected),
            Event::Closed { .. } => {
                if let Some(place) = self.peers.get(&peer).copied() {
                    self.forget_peer(place, false);
                }
                self.lose_resource(&id, Reason::Disconnected);
            }
            // Nobody could hear it.
            _ => {}
        }
        None
    }

    fn answer_resource(&mut self, id: &Arc<str>, sdp: String, now: Now) {
        let Some(resource) = self.resources.get_mut(id) else { return };
        let Some(http) = resource.waiting.take() else { return };
        let (peer, due) = (resource.peer, resource.due.take());
        let (etag, holder) = (resource.etag, resource.participant.clone());
        let place = resource.seat.filter(|_| etag == 1).map(|seat| Place { room: resource.room, seat });
        self.rearm(Timer::Offer(peer), due, None);
        // A publisher is there from its answer on: one that is refused never was.
        let joined = place.and_then(|place| self.begin_connection(place, None));
        let granted = match etag {
            1 => Granted::Created {
                resource: id.clone(),
                etag,
                sdp,
                ice_servers: self.ice_servers(&holder, Some(Media::Sfu), now),
            },
            _ => Granted::Restarted { etag, sdp },
        };
        self.reply_http_after(http, Ok(granted), joined);
    }
}

/// Whether somebody may watch without a seat: whoever would have to be admitted, or finds the session locked, may not.
fn check_viewer(room: &Room, identity: Option<&Identity>) -> Result<(), Refused> {
    let may = identity.map(|identity| room.standing(&identity.user, identity.standing()).permissions);
    if may.is_some_and(|may| !may.subscribe) {
        return Err(ErrorCode::NotPermitted.because("You may not receive what others publish here."));
    }
    let known = identity.is_some_and(|identity| room.known.contains_key(&identity.user));
    if known || may.is_some_and(|may| may.moderate) {
        return Ok(());
    }
    if room.locked {
        return Err(ErrorCode::Locked.because("The session is locked: ask somebody in it to unlock it."));
    }
    if room.settings.waiting_room {
        return Err(
            ErrorCode::Forbidden.because("People must be admitted to this session: join it in a browser first.")
        );
    }
    Ok(())
}

fn unknown() -> Refused {
    ErrorCode::UnknownResource.because("There is no such resource, or it has ended: begin anew with POST.")
}

/// The offer with another ICE ufrag and password, in every section.
fn with_credentials(offer: &str, ufrag: &str, pwd: &str) -> String {
    let line = |line: &str| {
        if line.starts_with("a=ice-ufrag:") {
            format!("a=ice-ufrag:{ufrag}\r\n")
        } else if line.starts_with("a=ice-pwd:") {
            format!("a=ice-pwd:{pwd}\r\n")
        } else {
            format!("{line}\r\n")
        }
    };
    offer.lines().map(line).collect()
}
