//! Reading a client's description. Lines go into raw sections, which keep slices of the text; sections become
//! [`Media`] at the end, when it is known what they inherit.

use std::collections::HashSet;
use std::fmt;

use super::section::{Section, Shared};
use super::{CANDIDATES_MAX, Description, LINES_MAX, MEDIA_MAX, Media, Mid, ORIGIN_BYTES_MAX, SDP_BYTES_MAX};

/// Most bytes of the input that an error repeats.
const EXCERPT_BYTES_MAX: usize = 64;

/// Why a description was refused: what was expected and what came, with at most 64 bytes of the input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidSdp(pub String);

impl fmt::Display for InvalidSdp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for InvalidSdp {}

pub(super) type Result<T> = std::result::Result<T, InvalidSdp>;

pub(super) fn refused<T>(message: impl Into<String>) -> Result<T> {
    Err(InvalidSdp(message.into()))
}

pub(super) fn unexpected<T>(expected: &str, came: &str) -> Result<T> {
    let excerpt = came.bytes().take(EXCERPT_BYTES_MAX);
    let excerpt: String =
        excerpt.map(|byte| if byte == b' ' || byte.is_ascii_graphic() { byte as char } else { '?' }).collect();
    refused(format!("expected {expected}, got `{excerpt}`"))
}

/// Reads a description (RFC 8866; lines may end in CRLF or LF). Refuses what breaks the grammar of the parts we use, what
/// exceeds a limit of this module, and what cannot be served: an m-line that is not rejected needs a mid, ICE
/// credentials and a SHA-256 fingerprint, and for audio and video `UDP/TLS/RTP/SAVPF` and rtcp-mux.
pub fn parse(sdp: &str) -> Result<Description> {
    if sdp.len() > SDP_BYTES_MAX {
        return refused(format!("expected at most {SDP_BYTES_MAX} bytes, got {}", sdp.len()));
    }
    let mut parser = Parser::default();
    for (index, line) in sdp.split('\n').enumerate() {
        if index >= LINES_MAX {
            return refused(format!("expected at most {LINES_MAX} lines"));
        }
        let line = line.strip_suffix('\r').unwrap_or(line);
        if !line.is_empty() {
            parser.line(line).map_err(|InvalidSdp(message)| InvalidSdp(format!("line {}: {message}", index + 1)))?;
        }
    }
    parser.finish()
}

#[derive(Default)]
struct Parser<'a> {
    has_version: bool,
    origin: Option<(String, u64)>,
    ice_lite: bool,
    shared: Shared<'a>,
    bundle: Option<Vec<Mid>>,
    candidates: usize,
    sections: Vec<Section<'a>>,
}

impl<'a> Parser<'a> {
    fn line(&mut self, line: &'a str) -> Result<()> {
        if line.bytes().any(|byte| byte.is_ascii_control() && byte != b'\t') {
            return unexpected("no control characters", line);
        }
        let Some((kind, value)) = line.split_once('=') else { return unexpected("<type>=<value>", line) };
        if !self.has_version && line != "v=0" {
            return unexpected("v=0 first", line);
        }
        match kind {
            "v" if self.has_version => return unexpected("one v=", line),
            "v" => self.has_version = true,
            "o" => self.origin(value)?,
            "m" => {
                if self.sections.len() == MEDIA_MAX {
                    return refused(format!("expected at most {MEDIA_MAX} m-lines"));
                }
                self.sections.push(Section::new(value)?);
            }
            "a" => {
                let (name, value) = value.split_once(':').unwrap_or((value, ""));
                self.attribute(name, value)?;
            }
            // Names, times, bandwidths, addresses: of no use behind ICE.
            "s" | "t" | "c" | "b" | "i" | "u" | "e" | "p" | "k" | "r" | "z" => {}
            _ => return unexpected("a line of RFC 8866", line),
        }
        Ok(())
    }

    /// `<username> <sess-id> <sess-version> <nettype> <addrtype> <address>` (RFC 8866 §5.2).
    fn origin(&mut self, value: &str) -> Result<()> {
        let mut words = value.split_ascii_whitespace();
        let (Some(user), Some(session), Some(version)) = (words.next(), words.next(), words.next()) else {
            return unexpected("a user name, a session id and a version", value);
        };
        if self.origin.is_some() || user.len() > ORIGIN_BYTES_MAX || session.len() > ORIGIN_BYTES_MAX {
            return unexpected("one o= with short words", value);
        }
        let Ok(version) = version.parse() else { return unexpected("a session version of 64 bits", version) };
        self.origin = Some((format!("{user} {session}"), version));
        Ok(())
    }

    fn attribute(&mut self, name: &str, value: &'a str) -> Result<()> {
        match name {
            "candidate" => {
                self.candidates += 1;
                if self.candidates > CANDIDATES_MAX {
                    return refused(format!("expected at most {CANDIDATES_MAX} candidates"));
                }
                Ok(())
            }
            "ice-lite" => {
                self.ice_lite = true;
                Ok(())
            }
            _ => match self.sections.last_mut() {
                Some(section) => section.attribute(name, value),
                None if name == "group" => self.group(value),
                None => self.shared.attribute(name, value),
            },
        }
    }

    /// `BUNDLE <mid> ...` (RFC 9143 §6); groups of other semantics do not matter here.
    fn group(&mut self, value: &str) -> Result<()> {
        let mut words = value.split_ascii_whitespace();
        if words.next() != Some("BUNDLE") {
            return Ok(());
        }
        if self.bundle.is_some() {
            return unexpected("one BUNDLE group", value);
        }
        let mut bundle = Vec::new();
        for word in words {
            match Mid::new(word) {
                Some(mid) if bundle.len() < MEDIA_MAX => bundle.push(mid),
                _ => return unexpected("a BUNDLE group of mids", word),
            }
        }
        self.bundle = Some(bundle);
        Ok(())
    }

    fn finish(self) -> Result<Description> {
        let Some((origin, version)) = self.origin else { return refused("expected v=0 and o=") };
        let bundle = self.bundle.unwrap_or_default();
        let mids = self.sections.iter().enumerate().map(|(index, section)| match section.mid {
            Some(mid) => Ok(mid),
            None if section.is_rejected() => {
                Ok(Mid::new(&format!("rejected-{index}")).expect("12 token characters at most"))
            }
            None => refused(format!("expected a mid for the m-line of index {index}")),
        });
        let mids = mids.collect::<Result<Vec<Mid>>>()?;
        let mut unbundled = HashSet::new();
        if let Some(mid) = mids.iter().find(|mid| !unbundled.insert(**mid)) {
            return unexpected("each mid once", mid.as_str());
        }
        if let Some(mid) = bundle.iter().find(|mid| !unbundled.remove(mid)) {
            return unexpected("BUNDLE of the mids of m-lines, each once", mid.as_str());
        }
        let tag = bundle.first().and_then(|tag| mids.iter().position(|mid| mid == tag));
        let tag = tag.map(|index| &self.sections[index].shared);
        let media = self
            .sections
            .iter()
            .zip(&mids)
            .map(|(section, mid)| section.media(*mid, &self.shared, tag.filter(|_| !unbundled.contains(mid))));
        let media = media.collect::<Result<Vec<Media>>>()?;
        Ok(Description { origin, version, ice_lite: self.ice_lite, media, bundle })
    }
}
