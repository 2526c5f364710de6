//! Who somebody is and what they may do, as a verified token says.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sfu::Sources;

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
