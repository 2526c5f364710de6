//! Who somebody is and what they may do, as a verified token says.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sfu::{Rights, Source, Sources};

use crate::limits::TOKEN_SKEW;
use crate::room::RoomSettings;

/// What somebody is in a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Teaches: moderates, and its media comes first.
    Instructor,
    /// Takes part.
    #[default]
    Participant,
    /// Sees and hears.
    Observer,
}

impl Role {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Instructor => "instructor",
            Role::Participant => "participant",
            Role::Observer => "observer",
        }
    }

    /// The reverse of [`Role::as_str`].
    pub fn parse(word: &str) -> Option<Self> {
        [Role::Instructor, Role::Participant, Role::Observer].into_iter().find(|role| role.as_str() == word)
    }
}

/// What a participant may do: in signaling and at the media plane alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permissions {
    /// What it may publish.
    pub publish: Sources,
    /// It may receive what others publish.
    pub subscribe: bool,
    /// It may write chat messages and reactions, and raise its hand.
    pub chat: bool,
    /// It may send on data channels.
    pub data: bool,
    /// It may moderate.
    pub moderate: bool,
}

impl Permissions {
    /// What a role may do unless a token says otherwise.
    pub fn of(role: Role) -> Self {
        let takes_part = role != Role::Observer;
        Permissions {
            publish: if takes_part { Sources::ALL } else { Sources::NONE },
            subscribe: true,
            chat: takes_part,
            data: takes_part,
            moderate: role == Role::Instructor,
        }
    }

    /// As acks, tokens and the `permissions` event say it.
    pub fn to_json(self) -> Value {
        let publish: Vec<&str> = self.publish.iter().map(sfu::Source::as_str).collect();
        json!({ "publish": publish, "subscribe": self.subscribe, "chat": self.chat, "data": self.data, "moderate": self.moderate })
    }
}

/// Who speaks on a socket or sends a request: what a verified join token says. In open mode there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// `sub`: 1–128 characters, trimmed, no control characters.
    pub user: Arc<str>,
    /// `name`, if the token has one; the same bounds.
    pub name: Option<Arc<str>>,
    /// The one session that it is for.
    pub session: Arc<str>,
    /// What it is there.
    pub role: Role,
    /// What it may do there.
    pub permissions: Permissions,
    /// `jti`, at most 64 characters; `None` if the token has none.
    pub token: Option<Arc<str>>,
    /// `exp`, Unix time in ms.
    pub expires_ms: u64,
    /// The token's time was over when it was shown: it is good only beside the resume token of a seat that lives.
    pub is_expired: bool,
}

impl Identity {
    /// Whether the token's time is over: it was when it was shown, or is by now. [`TOKEN_SKEW`] is allowed for, as at the edge.
    pub(crate) fn is_over(&self, unix_ms: u64) -> bool {
        self.is_expired || unix_ms >= self.expires_ms.saturating_add(TOKEN_SKEW.as_millis() as u64)
    }

    pub(crate) fn standing(&self) -> Standing {
        Standing { role: self.role, permissions: self.permissions }
    }
}

/// What somebody is and may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) role: Role,
    pub(crate) permissions: Permissions,
}

impl Standing {
    /// What a role brings with it.
    pub(crate) fn of(role: Role) -> Self {
        Standing { role, permissions: Permissions::of(role) }
    }

    /// What is left of it where what is off is off for everybody but those who may moderate.
    pub(crate) fn under(mut self, settings: &RoomSettings) -> Self {
        let may = &mut self.permissions;
        if may.moderate {
            return self;
        }
        if !settings.video {
            may.publish = may.publish.without(Source::Camera);
        }
        if !settings.screen_share {
            may.publish = may.publish.without(Source::Screen).without(Source::ScreenAudio);
        }
        may.chat &= settings.chat;
        self
    }

    /// The same for the media plane.
    pub(crate) fn rights(self) -> Rights {
        let Permissions { publish, subscribe, data, .. } = self.permissions;
        Rights { instructor: self.role == Role::Instructor, data, publish, subscribe }
    }
}
