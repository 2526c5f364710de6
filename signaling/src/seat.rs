//! A seat: one participant, whether its socket is there or not.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use serde_json::value::RawValue;
use sfu::{Cause, Pause, PeerId, TrackId, TrackInfo};

use crate::access::{Identity, Permissions, Role, Standing};
use crate::api::{SocketId, WorkerId};
use crate::history::Connection;
use crate::room::SeatId;
use crate::roster::Entry;

/// One participant of a room.
#[derive(Debug)]
pub(crate) struct Seat {
    /// The `participantId`.
    pub(crate) participant: Arc<str>,
    pub(crate) user: Arc<str>,
    pub(crate) name: Arc<str>,
    /// The token that it last joined with, or what it was renewed to; `None` in open mode.
    pub(crate) identity: Option<Arc<Identity>>,
    /// What its token or, in open mode, its client says that it may be and do.
    pub(crate) given: Standing,
    /// What it is and may do: after promotions, under the room's rules.
    pub(crate) standing: Standing,
    pub(crate) metadata: Option<Arc<RawValue>>,
    pub(crate) auto_subscribe: bool,
    pub(crate) resume_token: Arc<str>,
    /// `None` within the grace time after the socket dropped.
    pub(crate) socket: Option<SocketId>,
    /// A WHIP client holds it; then it has no socket.
    pub(crate) resource: Option<Arc<str>>,
    /// When the grace time ends.
    pub(crate) grace_until: Option<Instant>,
    /// When its token is renewed.
    pub(crate) renew_at: Option<Instant>,
    pub(crate) hand_raised: bool,
    /// What it publishes: as many as its SFU peer allows.
    pub(crate) tracks: BTreeMap<TrackId, TrackInfo>,
    /// `None` for a mesh client, and for one that has said nothing to the SFU yet.
    pub(crate) peer: Option<Peer>,
    /// Its present connection; `None` for a WHIP client that is not answered yet.
    pub(crate) connection: Option<Connection>,
}

impl Seat {
    /// The seat's line in the roster.
    pub(crate) fn entry(&self) -> Entry<'_> {
        Entry::of(self)
    }

    /// Whether somebody is there: a socket, or a WHIP client.
    pub(crate) fn is_held(&self) -> bool {
        self.socket.is_some() || self.resource.is_some()
    }

    pub(crate) fn is_instructor(&self) -> bool {
        self.standing.role == Role::Instructor
    }

    pub(crate) fn may(&self) -> Permissions {
        self.standing.permissions
    }
}

/// A seat's peer in the SFU, and what of the negotiation would be lost with a socket.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) id: PeerId,
    /// Who has it, for its life.
    pub(crate) worker: WorkerId,
    /// Whether the client on the present socket is known to speak to the SFU; else it gets nothing from it.
    pub(crate) listening: bool,
    /// The SFU's unanswered offer.
    pub(crate) offer: Option<Offered>,
    /// The offer that the client has just answered, until the SFU takes the answer or refuses it.
    pub(crate) answered: Option<Offered>,
    /// The client's offers that the SFU will answer or refuse. Meanwhile an offer of the SFU is held: they crossed, and the SFU
    /// rolls its own back when it reads the client's.
    pub(crate) asked: u32,
    /// How many of these a page made that is gone: their answers would fit no offer of the present one.
    pub(crate) stale: u32,
    /// The SFU's last answer and when it came.
    pub(crate) answer: Option<(Arc<RawValue>, Instant)>,
    /// ICE consent is lost and no restart was asked for since.
    pub(crate) consent_lost: bool,
    pub(crate) restarted_at: Option<Instant>,
    /// ICE and DTLS are up and consent is fresh.
    pub(crate) is_up: bool,
    /// Tracks of others that are paused for it: as many as the room has at most.
    pub(crate) paused: BTreeMap<TrackId, Pause>,
    /// What was last said of the layers of its own tracks.
    pub(crate) layers_wanted: BTreeMap<TrackId, Arc<RawValue>>,
    /// The last verdict on its connection.
    pub(crate) quality: Option<(u8, Option<Cause>)>,
}

/// An offer of the SFU, encoded for its client.
#[derive(Debug)]
pub(crate) struct Offered {
    pub(crate) payload: Arc<RawValue>,
    /// Whether it was emitted on the client's present socket.
    pub(crate) shown: bool,
}

impl Peer {
    pub(crate) fn new(id: PeerId, worker: WorkerId) -> Self {
        Peer {
            id,
            worker,
            listening: true,
            offer: None,
            answered: None,
            asked: 0,
            stale: 0,
            answer: None,
            consent_lost: false,
            restarted_at: None,
            is_up: false,
            paused: BTreeMap::new(),
            layers_wanted: BTreeMap::new(),
            quality: None,
        }
    }

    /// The SFU answered or refused an offer of the client; whether the client still waits for that.
    pub(crate) fn replied(&mut self) -> bool {
        self.asked = self.asked.saturating_sub(1);
        let awaited = self.stale == 0;
        self.stale = self.stale.saturating_sub(1);
        awaited
    }

    /// The client is a new page, or begins anew: what is under way for the old one must not reach it.
    pub(crate) fn new_page(&mut self) {
        self.stale = self.asked;
        self.answer = None;
    }

    /// The client has another socket: nothing was shown on it.
    pub(crate) fn new_socket(&mut self) {
        for offered in self.offer.iter_mut().chain(&mut self.answered) {
            offered.shown = false;
        }
    }
}

/// Where a seat is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) room: sfu::RoomId,
    pub(crate) seat: SeatId,
}
