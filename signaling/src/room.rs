//! A room: its seats, its people, its order of hands, its rules.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use serde_json::{Value, json};
use sfu::{Codecs, TrackId};

use crate::access::{Role, Standing};
use crate::api::{Recipients, SocketId, WorkerId};
use crate::chat::Said;
use crate::code::{ErrorCode, Refused};
use crate::fact::FactId;
use crate::limits::{CLIENT_IDS_MAX, KNOWN_MAX, ROOM_SEATS_DEFAULT};
use crate::meeting::Life;
use crate::roster::Clock;
use crate::seat::Seat;

/// A seat's number, unique for the life of the process and ascending: rosters are in order of arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SeatId(pub(crate) u64);

/// What happens when a user who holds a seat joins again without its resume token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SameUser {
    /// The newest wins: it takes the seat, the older socket is told and disconnected.
    #[default]
    Replace,
    /// The older wins, while its socket lives.
    Reject,
    /// Both have a seat.
    Allow,
}

/// A room's rules. What is off is off for everybody but those who may moderate.
#[derive(Clone, Debug, PartialEq)]
pub struct RoomSettings {
    /// Most seats.
    pub capacity: usize,
    /// Two connections of one user.
    pub same_user: SameUser,
    /// How long a dropped socket keeps its seat, ms; `None`: as [`crate::Config::grace_ms`] says.
    pub grace_ms: Option<u64>,
    /// Newcomers who may not moderate wait until they are admitted.
    pub waiting_room: bool,
    /// Chat messages and reactions.
    pub chat: bool,
    /// Late joiners get what was said before, as many as [`crate::limits::CHAT_HISTORY_MAX`].
    pub chat_history: bool,
    /// Cameras.
    pub video: bool,
    /// Shared screens with their sound.
    pub screen_share: bool,
    /// Codecs that may be negotiated (`vp8`, `h264`, `vp9`, `av1`); empty: all. Opus always may.
    pub codecs: Vec<Arc<str>>,
    /// What the application wants clients to know of the room: any JSON, in the join's ack.
    pub metadata: Value,
}

impl Default for RoomSettings {
    fn default() -> Self {
        RoomSettings {
            capacity: ROOM_SEATS_DEFAULT,
            same_user: SameUser::default(),
            grace_ms: None,
            waiting_room: false,
            chat: true,
            chat_history: true,
            video: true,
            screen_share: true,
            codecs: Vec::new(),
            metadata: Value::Null,
        }
    }
}

impl SameUser {
    /// The reverse of [`SameUser::as_str`].
    pub fn parse(word: &str) -> Option<Self> {
        [SameUser::Replace, SameUser::Reject, SameUser::Allow].into_iter().find(|policy| policy.as_str() == word)
    }

    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            SameUser::Replace => "replace",
            SameUser::Reject => "reject",
            SameUser::Allow => "allow",
        }
    }
}

impl RoomSettings {
    /// Video codecs that a room may be held to.
    pub const CODECS: [&str; 4] = ["vp8", "h264", "vp9", "av1"];

    /// [`RoomSettings::codecs`] of these words; `None` if one is no codec, or there are more than there are codecs.
    pub fn parse_codecs(words: &[String]) -> Option<Vec<Arc<str>>> {
        let are_good = words.len() <= Self::CODECS.len() && words.iter().all(|word| Self::CODECS.contains(&&**word));
        are_good.then(|| words.iter().map(|word| word.as_str().into()).collect())
    }

    /// As `session-updated` and the API say it.
    pub fn to_json(&self) -> Value {
        let codecs: Vec<&str> = self.codecs.iter().map(|codec| &**codec).collect();
        json!({
            "capacity": self.capacity,
            "sameUser": self.same_user.as_str(),
            "graceMs": self.grace_ms,
            "waitingRoom": self.waiting_room,
            "chat": self.chat,
            "chatHistory": self.chat_history,
            "video": self.video,
            "screenShare": self.screen_share,
            "codecs": codecs,
            "metadata": self.metadata,
        })
    }
}

/// Somebody who is or was in the meeting.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// What a moderator made of it, whatever its token says.
    pub(crate) promoted: Option<Role>,
}

impl RoomSettings {
    /// What video may be negotiated in.
    pub(crate) fn codecs(&self) -> Codecs {
        Codecs::named(self.codecs.iter().map(|word| &**word))
    }
}

/// One user in one meeting.
#[derive(Debug, Default)]
pub(crate) struct Person {
    /// Its seats, oldest first: one, unless the room allows more.
    pub(crate) seats: Vec<SeatId>,
    sent: VecDeque<Sent>,
}

/// A chat message that may come again.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) client_id: Arc<str>,
    pub(crate) id: Arc<str>,
    pub(crate) timestamp: u64,
    /// By which it is written down.
    pub(crate) fact: Option<FactId>,
}

impl Person {
    pub(crate) fn sent(&self, client_id: &str) -> Option<&Sent> {
        self.sent.iter().find(|s| &*s.client_id == client_id)
    }

    pub(crate) fn remember(&mut self, sent: Sent) {
        if self.sent.len() == CLIENT_IDS_MAX {
            self.sent.pop_front();
        }
        self.sent.push_back(sent);
    }
}

/// What the wire calls a session, in its present meeting.
#[derive(Debug)]
pub(crate) struct Room {
    pub(crate) session: Arc<str>,
    pub(crate) meeting: Arc<str>,
    /// Its home, for the room's life: where its first peers are.
    pub(crate) worker: WorkerId,
    /// Where its peers are, and how many.
    pub(crate) spread: BTreeMap<WorkerId, usize>,
    pub(crate) settings: RoomSettings,
    pub(crate) seats: BTreeMap<SeatId, Seat>,
    pub(crate) people: BTreeMap<Arc<str>, Person>,
    /// Who publishes which track.
    pub(crate) tracks: BTreeMap<TrackId, SeatId>,
    /// Raised hands, first first.
    pub(crate) hands: Vec<SeatId>,
    /// Nobody new gets in.
    pub(crate) locked: bool,
    /// Who is or was in the meeting: at most [`KNOWN_MAX`].
    pub(crate) known: BTreeMap<Arc<str>, Known>,
    /// What was said last.
    pub(crate) said: Said,
    pub(crate) clock: Clock,
    pub(crate) life: Life,
    /// Seats whose roster line changed since the last roster.
    pub(crate) changed: BTreeSet<SeatId>,
}

impl Room {
    pub(crate) fn new(session: Arc<str>, meeting: Arc<str>, worker: WorkerId, settings: RoomSettings) -> Self {
        Room {
            session,
            meeting,
            worker,
            spread: BTreeMap::new(),
            settings,
            seats: BTreeMap::new(),
            people: BTreeMap::new(),
            tracks: BTreeMap::new(),
            hands: Vec::new(),
            locked: false,
            known: BTreeMap::new(),
            said: Said::default(),
            clock: Clock::default(),
            life: Life::default(),
            changed: BTreeSet::new(),
        }
    }

    /// What somebody is and may do here.
    pub(crate) fn standing(&self, user: &str, given: Standing) -> Standing {
        self.promoted(user, given).under(&self.settings)
    }

    /// The same but for the room's rules.
    pub(crate) fn promoted(&self, user: &str, given: Standing) -> Standing {
        self.known.get(user).and_then(|known| known.promoted).map_or(given, Standing::of)
    }

    /// Remembers somebody; `None` if there is no place for it.
    pub(crate) fn know(&mut self, user: &Arc<str>) -> Option<&mut Known> {
        if self.known.len() >= KNOWN_MAX && !self.known.contains_key(user) {
            let mut others = self.known.iter();
            let least = others.find(|(other, known)| known.promoted.is_none() && !self.people.contains_key(*other));
            let least = least?.0.clone();
            self.known.remove(&least);
        }
        Some(self.known.entry(user.clone()).or_default())
    }

    /// Whether a moderator removed somebody.
    pub(crate) fn is_removed(&self, user: &str) -> bool {
        self.life.removed.iter().any(|(removed, _, _)| **removed == *user)
    }

    /// Refuses who was removed.
    pub(crate) fn check_user(&self, user: &str) -> Result<(), Refused> {
        if self.is_removed(user) {
            return Err(
                ErrorCode::AuthRevoked.because("A moderator removed you: you cannot come back to this meeting.")
            );
        }
        Ok(())
    }

    /// The sockets of those who may moderate.
    pub(crate) fn moderators(&self) -> Vec<SocketId> {
        self.seats.values().filter(|seat| seat.may().moderate).filter_map(|seat| seat.socket).collect()
    }

    /// Everybody who can be reached, but for one.
    pub(crate) fn sockets(&self, but: Option<SeatId>) -> Recipients {
        Recipients::Many(self.seats.iter().filter(|(id, _)| Some(**id) != but).filter_map(|(_, s)| s.socket).collect())
    }

    /// The sockets of one user's seats, but for one seat; `None` if the user has no such seat.
    pub(crate) fn sockets_of(&self, user: &str, but: SeatId) -> Option<Vec<SocketId>> {
        let seats = || self.people.get(user).into_iter().flat_map(|p| &p.seats).filter(|id| **id != but);
        seats().next()?;
        Some(seats().filter_map(|id| self.seats.get(id)?.socket).collect())
    }

    /// The 1-based place in the order of hands; 0 if the hand is down.
    pub(crate) fn hand_position(&self, seat: SeatId) -> usize {
        self.hands.iter().position(|s| *s == seat).map_or(0, |i| i + 1)
    }
}
