//! Session descriptions: Unified Plan by JSEP (RFC 9429), one BUNDLE group (RFC 9143), rtcp-mux, ICE, DTLS-SRTP.
//!
//! [`parse`] reads a client's description into what the negotiation needs and refuses what cannot be served;
//! [`Local`] is a description of ours and writes itself. Nothing here knows the state of a negotiation.

mod codec;
mod parse;
mod section;
#[cfg(test)]
mod tests;
mod write;

pub use codec::{Codec, CodecKey, CodecName, Feedback, supported};
pub use parse::{InvalidSdp, parse};
pub use write::{Local, LocalMedia, LocalSend};

use std::fmt;
use std::sync::Arc;

/// The longest description accepted, in bytes; a longer one is refused unread.
pub const SDP_BYTES_MAX: usize = 256 * 1024;
/// Most lines of a description; one with more is refused.
pub const LINES_MAX: usize = 10_000;
/// Most m-lines, rejected ones included; a description with more is refused.
pub const MEDIA_MAX: usize = 256;
/// Most `a=candidate` lines of a description. They are counted and otherwise ignored, for an ICE-lite server never
/// sends a check; a description with more is refused.
pub const CANDIDATES_MAX: usize = 1_000;
/// Longest mid, in bytes: what the header extension for it can carry (RFC 8285 §4.2). A longer one is refused.
pub const MID_BYTES_MAX: usize = 16;
/// Most formats of one m-line; one with more is refused.
pub const CODECS_MAX: usize = 64;
/// Most SSRCs of one m-line, RTX and FEC included, and most groups of them; one with more is refused.
pub const SSRCS_MAX: usize = 16;
/// Most RIDs of one m-line; one with more is refused.
pub const RIDS_MAX: usize = 8;
/// Most simulcast layers that an answer takes; further ones are left out of it, so that they are not sent.
pub const SIMULCAST_MAX: usize = 4;
/// Longest RID, in bytes (as for the mid); a longer one is refused.
pub const RID_BYTES_MAX: usize = 16;
/// Longest user name and longest session id of `o=`, in bytes each; longer ones are refused.
pub const ORIGIN_BYTES_MAX: usize = 128;
/// Longest ICE ufrag and password, in bytes (RFC 8839 §5.4); longer ones are refused.
pub const ICE_BYTES_MAX: usize = 256;
/// Longest format parameters of one payload type, in bytes; longer ones are refused.
pub const FMTP_BYTES_MAX: usize = 1_024;
/// Longest part of `a=msid`, in bytes. RFC 8830 says 64; a longer one counts as absent, for nothing depends on it.
pub const MSID_BYTES_MAX: usize = 64;

/// The name of an m-line (`a=mid`, RFC 5888): 1 to [`MID_BYTES_MAX`] token characters; empty by default, for what has no
/// m-line.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mid {
    /// Zero behind the name, so that equal names are equal bytes.
    bytes: [u8; MID_BYTES_MAX],
    length: u8,
}

impl Mid {
    /// A mid, or `None` if the name is empty, too long or has other than token characters (RFC 8866 §9).
    pub fn new(name: &str) -> Option<Mid> {
        if name.is_empty() || name.len() > MID_BYTES_MAX || !name.bytes().all(is_token_byte) {
            return None;
        }
        let mut bytes = [0; MID_BYTES_MAX];
        bytes[..name.len()].copy_from_slice(name.as_bytes());
        Some(Mid { bytes, length: name.len() as u8 })
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        str::from_utf8(self.as_bytes()).unwrap_or_default()
    }

    /// The name as the header extension carries it.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}

impl fmt::Display for Mid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Mid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mid({self})")
    }
}

/// `token-char` of RFC 8866 §9.
fn is_token_byte(byte: u8) -> bool {
    matches!(byte, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'0'..=b'9' | b'A'..=b'Z' | b'^'..=b'~')
}

/// What an m-line carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MediaKind {
    /// `m=audio`.
    Audio,
    /// `m=video`.
    Video,
    /// `m=application`: data channels.
    Application,
}

impl MediaKind {
    /// The word of the m-line.
    pub fn as_str(self) -> &'static str {
        match self {
            MediaKind::Audio => "audio",
            MediaKind::Video => "video",
            MediaKind::Application => "application",
        }
    }
}

/// Which way media flows, as seen by the writer of the description (RFC 8866 §6.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Both ways.
    SendRecv,
    /// From the writer.
    SendOnly,
    /// To the writer.
    RecvOnly,
    /// Neither way.
    Inactive,
}

impl Direction {
    /// Whether the writer sends.
    pub fn sends(self) -> bool {
        matches!(self, Direction::SendRecv | Direction::SendOnly)
    }

    /// Whether the writer receives.
    pub fn receives(self) -> bool {
        matches!(self, Direction::SendRecv | Direction::RecvOnly)
    }

    /// The same flow as the other side writes it.
    pub fn reversed(self) -> Direction {
        match self {
            Direction::SendOnly => Direction::RecvOnly,
            Direction::RecvOnly => Direction::SendOnly,
            both_or_none => both_or_none,
        }
    }

    /// The attribute's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Direction::SendRecv => "sendrecv",
            Direction::SendOnly => "sendonly",
            Direction::RecvOnly => "recvonly",
            Direction::Inactive => "inactive",
        }
    }
}

/// Who starts DTLS (`a=setup`, RFC 8842 §4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Setup {
    /// Either; offers say so.
    ActPass,
    /// The writer is the client.
    Active,
    /// The writer is the server.
    Passive,
}

impl Setup {
    /// The attribute's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Setup::ActPass => "actpass",
            Setup::Active => "active",
            Setup::Passive => "passive",
        }
    }
}

macro_rules! extensions {
    ($($(#[$doc:meta])* $name:ident = $uri:literal),* $(,)?) => {
        /// The RTP header extensions that we know (RFC 8285). Others are skipped while parsing.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Extension { $($(#[$doc])* $name),* }
        impl Extension {
            /// All that we know.
            pub const ALL: [Extension; [$(Extension::$name),*].len()] = [$(Extension::$name),*];
            /// The URI of `a=extmap`.
            pub fn uri(self) -> &'static str { match self { $(Extension::$name => $uri),* } }
            /// The extension of a URI, if we know it.
            pub fn from_uri(uri: &str) -> Option<Extension> { match uri { $($uri => Some(Extension::$name),)* _ => None } }
        }
    };
}

extensions! {
    /// The m-line of a packet (RFC 9143 §15).
    Mid = "urn:ietf:params:rtp-hdrext:sdes:mid",
    /// When a packet was sent, in 1/2^18 s.
    AbsSendTime = "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time",
    /// Transport-wide sequence number.
    TransportCc = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01",
    /// Level of the audio in a packet (RFC 6464).
    AudioLevel = "urn:ietf:params:rtp-hdrext:ssrc-audio-level",
    /// The simulcast layer of a packet (RFC 8852).
    Rid = "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id",
    /// The simulcast layer that an RTX packet repairs (RFC 8852).
    RepairedRid = "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id",
    /// Frame dependencies (AV1 RTP specification, appendix A).
    DependencyDescriptor = "https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension",
    /// How a receiver must rotate the picture (3GPP TS 26.114). Where it is not negotiated, senders rotate themselves.
    VideoOrientation = "urn:3gpp:video-orientation",
    /// Bounds for the receiver's playout delay.
    PlayoutDelay = "http://www.webrtc.org/experiments/rtp-hdrext/playout-delay",
}

/// What we want on an m-line of a kind when we offer it. The orientation is not among them, nor accepted: senders then rotate
/// their pictures themselves, and every receiver sees them upright.
pub fn default_extensions(kind: MediaKind) -> &'static [Extension] {
    match kind {
        MediaKind::Audio => &[Extension::Mid, Extension::AbsSendTime, Extension::TransportCc, Extension::AudioLevel],
        MediaKind::Video => {
            &[Extension::Mid, Extension::AbsSendTime, Extension::TransportCc, Extension::DependencyDescriptor]
        }
        MediaKind::Application => &[],
    }
}

/// The most that we accept of an offered m-line's extensions: what we would offer, and for video the names of layers, which
/// Chromium does not offer on later m-lines where an earlier one was answered without.
pub fn accepts_extension(kind: MediaKind, extension: Extension) -> bool {
    let names_layer = matches!(extension, Extension::Rid | Extension::RepairedRid);
    default_extensions(kind).contains(&extension) || (kind == MediaKind::Video && names_layer)
}

/// A simulcast layer of an m-line (RFC 8851, RFC 8853).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rid {
    /// 1 to [`RID_BYTES_MAX`] letters, digits, `-` and `_`.
    pub id: Arc<str>,
    /// Its sender does not send it for now (`~`).
    pub paused: bool,
}

/// A client's description, parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// `<username> <sess-id>` of `o=`: names the client's RTCPeerConnection.
    pub origin: String,
    /// `sess-version` of `o=`: which description of that RTCPeerConnection.
    pub version: u64,
    /// Whether the writer is an ICE-lite agent, which never sends a check; two of them cannot meet.
    pub ice_lite: bool,
    /// The m-lines in order, at most [`MEDIA_MAX`].
    pub media: Vec<Media>,
    /// The mids of the BUNDLE group in order; each is one of `media`'s, once.
    pub bundle: Vec<Mid>,
}

/// An m-line. What it leaves out it has from the session, or from the first m-line of its BUNDLE group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Media {
    /// What it carries.
    pub kind: MediaKind,
    /// Its name, unique in the description. A rejected m-line without one is named `rejected-<index>`.
    pub mid: Mid,
    /// Port 0, and not bundle-only (RFC 9143 §6). Nothing else of it means anything then.
    pub rejected: bool,
    /// Which way media flows, as the client sees it.
    pub direction: Direction,
    /// 4 to [`ICE_BYTES_MAX`] visible characters without `:`; present unless rejected.
    pub ice_ufrag: Option<String>,
    /// 22 to [`ICE_BYTES_MAX`] visible characters; present unless rejected.
    pub ice_pwd: Option<String>,
    /// SHA-256 of the client's certificate; present unless rejected. Other hashes are ignored.
    pub fingerprint: Option<[u8; 32]>,
    /// Who starts DTLS.
    pub setup: Option<Setup>,
    /// The codecs that we know, in order of the m-line, at most [`CODECS_MAX`].
    pub codecs: Vec<Codec>,
    /// The header extensions that we know, each once, each id once.
    pub extensions: Vec<(u8, Extension)>,
    /// `a=extmap-allow-mixed`, of the session or its own (RFC 8285 §6): packets with two-byte extension elements may come
    /// among others.
    pub mixed: bool,
    /// Stream and track of the first `a=msid`; the track may be empty.
    pub msid: Option<(String, String)>,
    /// The SSRCs of media, SIM groups first, without RTX and FEC. Firefox gives one even where it only receives.
    pub ssrcs: Vec<u32>,
    /// FID groups: SSRC of media, SSRC of its RTX.
    pub rtx_ssrcs: Vec<(u32, u32)>,
    /// The layers that the client would send, in order of `a=simulcast`; of alternatives the first that has an `a=rid`. Without
    /// `a=simulcast` there are none: the m-line has one encoding. At most [`RIDS_MAX`].
    pub rids: Vec<Rid>,
    /// RTP and RTCP on one port (RFC 5761); always so for audio and video unless rejected.
    pub rtcp_mux: bool,
    /// `a=sctp-port` (RFC 8841).
    pub sctp_port: Option<u16>,
    /// `a=max-message-size`, bytes (RFC 8841 §6): 0 is any size, and without it 65,536 are meant.
    pub message_bytes_max: Option<u64>,
}
