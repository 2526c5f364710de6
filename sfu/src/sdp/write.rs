//! Writing a description of ours: ICE-lite, one BUNDLE group, host candidates given at once.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::data;

use super::{Codec, Direction, Extension, MediaKind, Mid, Rid, Setup, is_token_byte};

/// Type preference of UDP host candidates (RFC 8445 §5.1.2.2).
const UDP_PREFERENCE: u32 = 126;
/// Type preference of TCP host candidates: below UDP, as RFC 6544 §4.2 recommends; the value is libwebrtc's.
const TCP_PREFERENCE: u32 = 90;
/// Direction preference of passive TCP host candidates (RFC 6544 §4.2).
const TCP_PASSIVE_PREFERENCE: u32 = 4;

/// A description of ours. No string in it can add a line: characters that do not belong are written as `_`.
#[derive(Clone, Debug)]
pub struct Local {
    /// `sess-id` of `o=`; the top bit is dropped (RFC 9429 §5.2.1).
    pub session_id: u64,
    /// `sess-version` of `o=`: one more for each description that differs.
    pub version: u64,
    /// Our ICE ufrag.
    pub ice_ufrag: String,
    /// Our ICE password.
    pub ice_pwd: String,
    /// SHA-256 of our certificate.
    pub fingerprint: [u8; 32],
    /// `ActPass` in offers; in answers, what the offer leaves.
    pub setup: Setup,
    /// UDP host candidates, best first.
    pub udp_candidates: Vec<SocketAddr>,
    /// Passive TCP host candidates, best first; all come after UDP.
    pub tcp_candidates: Vec<SocketAddr>,
    /// The m-lines in order.
    pub media: Vec<LocalMedia>,
}

/// An m-line of ours.
#[derive(Clone, Debug)]
pub struct LocalMedia {
    /// What it carries. Application m-lines need no codecs.
    pub kind: MediaKind,
    /// Its name.
    pub mid: Mid,
    /// Written with port 0 and outside BUNDLE. So is an m-line without codecs, which could not stand in SDP.
    pub rejected: bool,
    /// Which way media flows, as we see it.
    pub direction: Direction,
    /// What we offer or accept, in order of preference. The first gives a rejected m-line its one format.
    pub codecs: Vec<Codec>,
    /// Header extensions with their ids.
    pub extensions: Vec<(u8, Extension)>,
    /// Two-byte extension elements may come among others. An answer may say so only where the offer did (RFC 8285 §6).
    pub mixed: bool,
    /// The layers that we receive (RFC 8853). A browser stops sending all but one layer where a description of ours names
    /// none, and takes over which of them are paused.
    pub rids: Vec<Rid>,
    /// What we send on it.
    pub send: Option<LocalSend>,
}

/// The stream that we send on an m-line.
#[derive(Clone, Debug)]
pub struct LocalSend {
    /// The MediaStream: the participant who publishes.
    pub stream_id: Arc<str>,
    /// The MediaStreamTrack.
    pub track_id: String,
    /// The RTCP canonical name: equal for what a client must play in step.
    pub cname: Arc<str>,
    /// SSRC of the media.
    pub ssrc: u32,
    /// SSRC of its retransmissions.
    pub rtx_ssrc: Option<u32>,
}

impl Local {
    /// The text, with CRLF line ends.
    pub fn write(&self) -> String {
        self.to_string()
    }

    /// The m-lines that share our one transport.
    fn bundled(&self) -> impl Iterator<Item = &LocalMedia> {
        self.media.iter().filter(|media| !media.is_rejected())
    }

    fn write_transport(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a=ice-ufrag:{}\r\n", Text::visible(&self.ice_ufrag))?;
        write!(f, "a=ice-pwd:{}\r\n", Text::visible(&self.ice_pwd))?;
        write!(f, "a=fingerprint:sha-256 ")?;
        for (index, byte) in self.fingerprint.iter().enumerate() {
            let colon = if index == 0 { "" } else { ":" };
            write!(f, "{colon}{byte:02X}")?;
        }
        write!(f, "\r\na=setup:{}\r\n", self.setup.as_str())
    }

    /// Host candidates of component 1 (RFC 8839 §5.1); within a protocol, the order of the list is the preference.
    fn write_candidates(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, address) in self.udp_candidates.iter().enumerate() {
            let local_preference = 65_535_u32.saturating_sub(index as u32);
            let priority = priority(UDP_PREFERENCE, local_preference);
            let (ip, port) = (address.ip(), address.port());
            write!(f, "a=candidate:{} 1 udp {priority} {ip} {port} typ host\r\n", index + 1)?;
        }
        for (index, address) in self.tcp_candidates.iter().enumerate() {
            let local_preference = (TCP_PASSIVE_PREFERENCE << 13) + 8_191_u32.saturating_sub(index as u32);
            let priority = priority(TCP_PREFERENCE, local_preference);
            let (ip, port, foundation) = (address.ip(), address.port(), self.udp_candidates.len() + index + 1);
            write!(f, "a=candidate:{foundation} 1 tcp {priority} {ip} {port} typ host tcptype passive\r\n")?;
        }
        f.write_str("a=end-of-candidates\r\n")
    }
}

/// RFC 8445 §5.1.2.1, for component 1.
fn priority(type_preference: u32, local_preference: u32) -> u32 {
    (type_preference << 24) + (local_preference << 8) + 255
}

impl fmt::Display for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let session_id = self.session_id & (u64::MAX >> 1);
        write!(f, "v=0\r\no=- {session_id} {} IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n", self.version)?;
        // All candidates are here; `trickle` tells the client that it need not wait for its own.
        f.write_str("a=ice-lite\r\na=ice-options:ice2 trickle\r\n")?;
        if self.bundled().next().is_some() {
            f.write_str("a=group:BUNDLE")?;
            self.bundled().try_for_each(|media| write!(f, " {}", media.mid))?;
            f.write_str("\r\n")?;
        }
        f.write_str("a=msid-semantic:WMS *\r\n")?;
        for media in &self.media {
            if media.is_rejected() {
                media.write_rejected(f)?;
                continue;
            }
            media.write_line(f)?;
            self.write_transport(f)?;
            // The first m-line of the group would do (RFC 9143 §7.2.1), but aiortc looks for them in the last.
            self.write_candidates(f)?;
            media.write_attributes(f)?;
        }
        Ok(())
    }
}

impl LocalMedia {
    fn is_rejected(&self) -> bool {
        self.rejected || self.kind != MediaKind::Application && self.codecs.is_empty()
    }

    /// Port 0, one format and a name: nothing that could be taken for more.
    fn write_rejected(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.kind, self.codecs.first()) {
            (MediaKind::Application, _) => f.write_str("m=application 0 UDP/DTLS/SCTP webrtc-datachannel\r\n")?,
            (kind, codec) => {
                let payload_type = codec.map_or(0, |codec| codec.payload_type);
                write!(f, "m={} 0 UDP/TLS/RTP/SAVPF {payload_type}\r\n", kind.as_str())?;
            }
        }
        write!(f, "c=IN IP4 0.0.0.0\r\na=inactive\r\na=mid:{}\r\n", self.mid)?;
        self.codecs.first().filter(|_| self.kind != MediaKind::Application).map_or(Ok(()), |codec| codec.write_map(f))
    }

    fn write_line(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.kind == MediaKind::Application {
            return f.write_str("m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\n");
        }
        write!(f, "m={} 9 UDP/TLS/RTP/SAVPF", self.kind.as_str())?;
        for codec in &self.codecs {
            write!(f, " {}", codec.payload_type)?;
            codec.rtx.map_or(Ok(()), |rtx| write!(f, " {rtx}"))?;
        }
        f.write_str("\r\nc=IN IP4 0.0.0.0\r\na=rtcp-mux\r\na=rtcp-rsize\r\n")
    }

    fn write_simulcast(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.rids.iter().try_for_each(|rid| write!(f, "a=rid:{} recv\r\n", Text::token(&rid.id)))?;
        for (index, rid) in self.rids.iter().enumerate() {
            let (before, pause) =
                (if index == 0 { "a=simulcast:recv " } else { ";" }, if rid.paused { "~" } else { "" });
            write!(f, "{before}{pause}{}", Text::token(&rid.id))?;
        }
        f.write_str(if self.rids.is_empty() { "" } else { "\r\n" })
    }

    fn write_attributes(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.kind == MediaKind::Application {
            let (port, size) = (data::PORT, data::MESSAGE_BYTES_MAX);
            return write!(f, "a=mid:{}\r\na=sctp-port:{port}\r\na=max-message-size:{size}\r\n", self.mid);
        }
        write!(f, "a=mid:{}\r\na={}\r\n", self.mid, self.direction.as_str())?;
        for (id, extension) in &self.extensions {
            write!(f, "a=extmap:{id} {}\r\n", extension.uri())?;
        }
        f.write_str(if self.mixed { "a=extmap-allow-mixed\r\n" } else { "" })?;
        self.codecs.iter().try_for_each(|codec| codec.write(f))?;
        self.write_simulcast(f)?;
        self.send.as_ref().map_or(Ok(()), |send| send.write(f))
    }
}

impl Codec {
    fn write_map(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a=rtpmap:{} {}/{}", self.payload_type, self.name, self.clock_rate)?;
        if self.channels > 1 {
            write!(f, "/{}", self.channels)?;
        }
        f.write_str("\r\n")
    }

    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_map(f)?;
        for feedback in self.feedback.values() {
            write!(f, "a=rtcp-fb:{} {feedback}\r\n", self.payload_type)?;
        }
        if !self.fmtp.is_empty() {
            write!(f, "a=fmtp:{} {}\r\n", self.payload_type, Text::words(&self.fmtp))?;
        }
        if let Some(rtx) = self.rtx {
            write!(f, "a=rtpmap:{rtx} rtx/{}\r\na=fmtp:{rtx} apt={}\r\n", self.clock_rate, self.payload_type)?;
        }
        Ok(())
    }
}

impl LocalSend {
    /// `a=msid` is what JSEP reads; SSRCs with names are for clients that signal no RID and for demultiplexing before a mid.
    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (stream, track, cname) =
            (Text::token(&self.stream_id), Text::token(&self.track_id), Text::token(&self.cname));
        write!(f, "a=msid:{stream} {track}\r\n")?;
        if let Some(rtx_ssrc) = self.rtx_ssrc {
            write!(f, "a=ssrc-group:FID {} {rtx_ssrc}\r\n", self.ssrc)?;
        }
        for ssrc in std::iter::once(self.ssrc).chain(self.rtx_ssrc) {
            write!(f, "a=ssrc:{ssrc} cname:{cname}\r\na=ssrc:{ssrc} msid:{stream} {track}\r\n")?;
        }
        Ok(())
    }
}

/// A string as it may stand in a line: every byte that may not is written as `_`, and nothing at all as `-`.
struct Text<'a> {
    text: &'a str,
    allowed: fn(u8) -> bool,
}

impl<'a> Text<'a> {
    fn token(text: &'a str) -> Text<'a> {
        Text { text, allowed: is_token_byte }
    }

    fn visible(text: &'a str) -> Text<'a> {
        Text { text, allowed: |byte| byte.is_ascii_graphic() }
    }

    fn words(text: &'a str) -> Text<'a> {
        Text { text, allowed: |byte| byte == b' ' || byte.is_ascii_graphic() }
    }
}

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.text.is_empty() {
            return f.write_str("-");
        }
        if self.text.bytes().all(self.allowed) {
            return f.write_str(self.text);
        }
        use fmt::Write;
        self.text.bytes().try_for_each(|byte| f.write_char(if (self.allowed)(byte) { byte as char } else { '_' }))
    }
}
