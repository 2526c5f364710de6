//! Refusals: a stable code for programs, a sentence for people.

use sfu::Refusal;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $word:literal),* $(,)?) => {
        /// Why something was refused: the same code in acks, `session-error`, `connect_error` and HTTP. More may be added;
        /// a code's meaning never changes.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum ErrorCode { $($(#[$doc])* $name),* }
        impl ErrorCode {
            /// All codes.
            pub const ALL: [ErrorCode; [$(ErrorCode::$name),*].len()] = [$(ErrorCode::$name),*];
            /// The code on the wire.
            pub fn as_str(self) -> &'static str { match self { $(ErrorCode::$name => $word),* } }
        }
    };
}

codes! {
    /// No token came where one is required.
    AuthMissing = "auth/missing",
    /// The token's time is over.
    AuthExpired = "auth/expired",
    /// The token cannot be believed.
    AuthInvalid = "auth/invalid",
    /// The token was withdrawn.
    AuthRevoked = "auth/revoked",
    /// The socket is not in that session.
    NotJoined = "session/not_joined",
    /// The session has as many participants as it may.
    Full = "session/full",
    /// The session lets nobody in.
    Locked = "session/locked",
    /// The session is over.
    Ended = "session/ended",
    /// A newer connection of the same user took the seat.
    Replaced = "session/replaced",
    /// The role or the session's rules do not allow it.
    Forbidden = "session/forbidden",
    /// Nobody is in the session, so there is nothing to play.
    NotLive = "session/not_live",
    /// Nobody in the session is called that, or cannot be reached now.
    UnknownTarget = "session/unknown_target",
    /// Only a new RTCPeerConnection can go on.
    NewPeerRequired = "media/new_peer_required",
    /// The session description breaks a rule.
    InvalidSdp = "media/invalid_sdp",
    /// This participant may not do that with media.
    NotPermitted = "media/not_permitted",
    /// There is no such WHIP or WHEP resource, or it has ended.
    UnknownResource = "media/unknown_resource",
    /// The ETag of a PATCH is not that of the present ICE session.
    StaleEtag = "media/stale_etag",
    /// Nothing of that name is in the store.
    UnknownRecord = "record/unknown",
    /// The database cannot be reached.
    StoreAway = "store/away",
    /// Too many in too little time.
    RateLimited = "rate/limited",
    /// The event or its payload is not of the protocol.
    InvalidRequest = "request/invalid",
    /// The server is about to stop.
    Draining = "server/draining",
    /// The server has as much to do as it may.
    Overloaded = "server/overloaded",
    /// A fault of the server's own.
    Internal = "internal",
}

impl From<Refusal> for ErrorCode {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::InvalidSdp => ErrorCode::InvalidSdp,
            Refusal::NewPeerRequired => ErrorCode::NewPeerRequired,
            Refusal::NotPermitted => ErrorCode::NotPermitted,
        }
    }
}

/// A refusal: the code, and a sentence that says what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// For programs.
    pub code: ErrorCode,
    /// For people: what to do.
    pub message: String,
}

impl ErrorCode {
    /// This refusal, with its sentence.
    pub(crate) fn because(self, message: impl Into<String>) -> Refused {
        Refused { code: self, message: message.into() }
    }
}
