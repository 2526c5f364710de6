//! Payloads: from JSON of strangers to types, and back.

use std::sync::Arc;

use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use sfu::{Now, Source, TrackHint, TrackId, TrackLine, Wish};

use crate::access::{Identity, Role, Standing};
use crate::code::{ErrorCode, Refused};
use crate::limits::*;

/// The user id by which the SFU is addressed; nobody may be called so.
pub(crate) const SFU: &str = "sfu";

/// The events that clients may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Join,
    Leave,
    Offer,
    Answer,
    Candidate,
    Chat,
    Subscription,
    TrackUpdate,
    RaiseHand,
    Reaction,
    Moderate,
}

impl Verb {
    pub(crate) fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "join-session" => Verb::Join,
            "leave-session" => Verb::Leave,
            "offer" => Verb::Offer,
            "answer" => Verb::Answer,
            "ice-candidate" => Verb::Candidate,
            "chat-message" => Verb::Chat,
            "subscription" => Verb::Subscription,
            "track-update" => Verb::TrackUpdate,
            "raise-hand" => Verb::RaiseHand,
            "reaction" => Verb::Reaction,
            "moderate" => Verb::Moderate,
            _ => return None,
        })
    }

    /// Whether it waits for the join when it comes before. A leave doesn't: what it meant to leave is gone.
    pub(crate) fn waits(self) -> bool {
        !matches!(self, Verb::Join | Verb::Leave)
    }
}

fn invalid(message: String) -> Refused {
    ErrorCode::InvalidRequest.because(message)
}

/// The fields of a payload. `null` is the same as absent; unknown fields are ignored.
#[derive(Clone, Copy)]
pub(crate) struct Fields<'a>(Option<&'a Map<String, Value>>);

impl<'a> Fields<'a> {
    /// A payload must be an object; none at all is an empty one.
    pub(crate) fn of(payload: &'a Value) -> Result<Self, Refused> {
        match payload {
            Value::Object(map) => Ok(Fields(Some(map))),
            Value::Null => Ok(Fields(None)),
            _ => Err(invalid("The payload must be a JSON object.".into())),
        }
    }

    pub(crate) fn get(self, name: &str) -> Option<&'a Value> {
        self.0?.get(name).filter(|v| !v.is_null())
    }

    /// A name of people or rooms: trimmed, 1–`chars_max` characters, none of them control characters; a number is taken as its digits.
    pub(crate) fn name(self, name: &str, chars_max: usize) -> Result<Option<Arc<str>>, Refused> {
        let number;
        let text = match self.get(name) {
            None => return Ok(None),
            Some(Value::String(text)) => text.trim(),
            Some(Value::Number(n)) => {
                number = n.to_string();
                number.as_str()
            }
            Some(_) => return Err(invalid(format!("{name} must be a string."))),
        };
        if text.is_empty() {
            return Err(invalid(format!("{name} must not be empty.")));
        }
        // Bytes first: counting the characters of a megabyte is work for a stranger.
        if text.len() > chars_max * 4 || text.chars().count() > chars_max {
            return Err(invalid(format!("{name} must have at most {chars_max} characters.")));
        }
        if text.chars().any(char::is_control) {
            return Err(invalid(format!("{name} must not contain control characters.")));
        }
        Ok(Some(text.into()))
    }

    /// The same, of a field that must be there.
    pub(crate) fn required(self, name: &str) -> Result<Arc<str>, Refused> {
        self.name(name, NAME_CHARS_MAX)?.ok_or_else(|| invalid(format!("{name} is missing.")))
    }

    pub(crate) fn flag(self, name: &str) -> Result<Option<bool>, Refused> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(_) => Err(invalid(format!("{name} must be true or false."))),
        }
    }

    pub(crate) fn required_flag(self, name: &str) -> Result<bool, Refused> {
        self.flag(name)?.ok_or_else(|| invalid(format!("{name} is missing: send true or false.")))
    }

    /// A string of 1–`bytes_max` bytes, as it is; line ends and tabs are its only control characters.
    pub(crate) fn text(self, name: &str, bytes_max: usize) -> Result<&'a str, Refused> {
        let Some(Value::String(text)) = self.get(name) else {
            return Err(invalid(format!("{name} must be a string.")));
        };
        if text.len() > bytes_max {
            return Err(invalid(format!("{name} must have at most {bytes_max} bytes, it has {}.", text.len())));
        }
        if text.trim().is_empty() {
            return Err(invalid(format!("{name} must not be empty.")));
        }
        if text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t')) {
            return Err(invalid(format!("{name} must not contain control characters.")));
        }
        Ok(text)
    }

    /// Any JSON of at most `bytes_max` bytes, encoded.
    fn small_json(self, name: &str, bytes_max: usize) -> Result<Option<Arc<RawValue>>, Refused> {
        let Some(value) = self.get(name).map(encode) else { return Ok(None) };
        if value.get().len() > bytes_max {
            return Err(invalid(format!("{name} must have at most {bytes_max} bytes, encoded.")));
        }
        Ok(Some(value))
    }

    pub(crate) fn track(self) -> Result<TrackId, Refused> {
        let text = self.get("trackId").and_then(Value::as_str);
        text.and_then(|t| t.parse().ok()).ok_or_else(|| invalid("trackId must be one of the roster's.".into()))
    }

    /// A whole number from 0 to `max`; a fraction is taken as the next whole number.
    fn number(self, name: &str, max: u16) -> Result<Option<u16>, Refused> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let number = value.as_f64().filter(|n| (0.0..=f64::from(max)).contains(n));
        let number = number.ok_or_else(|| invalid(format!("{name} must be a number from 0 to {max}.")))?;
        Ok(Some(number.ceil() as u16))
    }
}

/// A name of people or rooms among a stranger's fields, by the rules of the wire: trimmed, 1–`chars_max` characters, none of them
/// control characters; a number is taken as its digits. `None` if it is missing or `null`; else `request/invalid`.
pub fn name(fields: &Map<String, Value>, field: &str, chars_max: usize) -> Result<Option<Arc<str>>, Refused> {
    Fields(Some(fields)).name(field, chars_max)
}

/// How a joining client says that it carries media.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Media {
    Sfu,
    Mesh,
}

/// `join-session`.
#[derive(Clone, Debug)]
pub(crate) struct Join {
    pub(crate) session: Arc<str>,
    pub(crate) user: Arc<str>,
    pub(crate) name: Arc<str>,
    /// Who its token says it is; `None` in open mode.
    pub(crate) identity: Option<Arc<Identity>>,
    /// What it may be and do before the meeting and the room's rules have their say.
    pub(crate) given: Standing,
    pub(crate) media: Option<Media>,
    pub(crate) auto_subscribe: bool,
    pub(crate) resume_token: Option<Arc<str>>,
    /// What the application wants the others to know of it.
    pub(crate) metadata: Option<Arc<RawValue>>,
}

impl Join {
    /// Reads a join. What an identity says goes before what the payload says; a session that it is not for is refused.
    pub(crate) fn parse(payload: &Value, identity: Option<Arc<Identity>>) -> Result<Self, Refused> {
        let fields = Fields::of(payload)?;
        let (session, user, name, given) = match &identity {
            Some(identity) => {
                let session = fields.name("sessionId", NAME_CHARS_MAX)?;
                if session.is_some_and(|session| session != identity.session) {
                    return Err(
                        ErrorCode::Forbidden.because("Your token is for another session: ask for one for this.")
                    );
                }
                (identity.session.clone(), identity.user.clone(), identity.name.clone(), identity.standing())
            }
            None => {
                let role = match fields.flag("isInstructor")? {
                    Some(true) => Role::Instructor,
                    _ => Role::Participant,
                };
                (fields.required("sessionId")?, fields.required("userId")?, None, Standing::of(role))
            }
        };
        if &*user == SFU {
            return Err(invalid("userId \"sfu\" is the server's own: choose another.".into()));
        }
        let media = match fields.get("media").map(Value::as_str) {
            None => None,
            Some(Some("sfu")) => Some(Media::Sfu),
            Some(Some("mesh")) => Some(Media::Mesh),
            Some(_) => return Err(invalid("media must be \"sfu\" or \"mesh\".".into())),
        };
        Ok(Join {
            session,
            name: match name {
                Some(name) => name,
                None => fields.name("userName", NAME_CHARS_MAX)?.unwrap_or_else(|| user.clone()),
            },
            user,
            identity,
            given,
            media,
            auto_subscribe: fields.flag("autoSubscribe")?.unwrap_or(true),
            resume_token: fields.name("resumeToken", ID_CHARS_MAX)?,
            metadata: fields.small_json("metadata", METADATA_BYTES_MAX)?,
        })
    }

    /// Whether its token's time is over, so that only a seat that lives lets it in.
    pub(crate) fn is_over(&self, now: Now) -> bool {
        self.identity.as_ref().is_some_and(|identity| identity.is_over(now.unix_ms))
    }
}

/// The SDP of an `offer` or `answer` for the SFU: an `RTCSessionDescription` as JSON, or the SDP alone.
pub(crate) fn description(fields: Fields<'_>, kind: &'static str) -> Result<String, Refused> {
    let bad = |why: String| ErrorCode::InvalidSdp.because(why);
    let sdp = match fields.get(kind) {
        Some(Value::String(sdp)) => sdp,
        Some(Value::Object(map)) => {
            if let Some(other) = map.get("type").filter(|t| t.as_str() != Some(kind)) {
                let other: String = other.to_string().chars().take(32).collect();
                return Err(bad(format!("The description's type must be \"{kind}\", not {other}.")));
            }
            match map.get("sdp") {
                Some(Value::String(sdp)) => sdp,
                _ => return Err(bad(format!("{kind}.sdp must be a string."))),
            }
        }
        _ => return Err(bad(format!("{kind} must be {{ type: \"{kind}\", sdp }}."))),
    };
    if sdp.len() > sfu::sdp::SDP_BYTES_MAX {
        return Err(bad(format!("The SDP has {} bytes, at most {} are taken.", sdp.len(), sfu::sdp::SDP_BYTES_MAX)));
    }
    Ok(sdp.clone())
}

/// What an offer's `tracks` say about its m-lines.
pub(crate) fn track_hints(fields: Fields<'_>) -> Result<Vec<TrackHint>, Refused> {
    let list = match fields.get("tracks") {
        None => return Ok(Vec::new()),
        Some(Value::Array(list)) if list.len() <= TRACK_HINTS_MAX => list,
        Some(_) => {
            return Err(invalid(format!("tracks must be a list of at most {TRACK_HINTS_MAX}.")));
        }
    };
    let hint = |item: &Value| {
        let fields = Fields::of(item)?;
        let mid = fields.name("mid", ID_CHARS_MAX)?.ok_or_else(|| invalid("A track's mid is missing.".into()))?;
        let word = fields.get("source").and_then(Value::as_str).unwrap_or_default();
        let source = Source::parse(word).ok_or_else(|| {
            invalid("A track's source must be \"camera\", \"microphone\", \"screen\" or \"screen-audio\".".into())
        })?;
        Ok(TrackHint { mid: mid.to_string(), source, muted: fields.flag("muted")? })
    };
    list.iter().map(hint).collect()
}

/// An `ice-candidate` for the SFU: only its shape matters, since the server is ICE-lite. Absent, `null`, `{}` and an empty `candidate` mean
/// that there are no more.
pub(crate) fn check_candidate(fields: Fields<'_>) -> Result<(), Refused> {
    let Some(candidate) = fields.get("candidate") else {
        return Ok(());
    };
    let shape = match candidate {
        Value::String(_) => true,
        Value::Object(map) => map.get("candidate").is_none_or(|c| c.is_string() || c.is_null()),
        _ => false,
    };
    if !shape {
        return Err(invalid("candidate must be an RTCIceCandidate as JSON, or null.".into()));
    }
    if encode(candidate).get().len() > CANDIDATE_BYTES_MAX {
        return Err(invalid(format!("candidate must have at most {CANDIDATE_BYTES_MAX} bytes.")));
    }
    Ok(())
}

/// `subscription`. A width or height alone is completed to 16:9, the shape of most cameras and screens.
pub(crate) fn subscription(fields: Fields<'_>) -> Result<(TrackId, Wish), Refused> {
    let size = match (fields.number("width", PIXELS_MAX)?, fields.number("height", PIXELS_MAX)?) {
        (None, None) => None,
        (Some(width), Some(height)) => Some((width, height)),
        (Some(width), None) => Some((width, (u32::from(width) * 9).div_ceil(16) as u16)),
        (None, Some(height)) => Some(((u32::from(height) * 16).div_ceil(9) as u16, height)),
    };
    let priority = fields.number("priority", PRIORITY_MAX)?.map(|priority| priority as u8);
    Ok((fields.track()?, Wish { enabled: fields.flag("enabled")?, size, priority }))
}

/// An offer's or answer's `tracks`: what the server's m-lines carry.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Line<'a> {
    mid: &'a str,
    track_id: String,
    participant_id: &'a str,
    source: &'static str,
}

impl<'a> From<&'a TrackLine> for Line<'a> {
    fn from(line: &'a TrackLine) -> Self {
        Line {
            mid: &line.mid,
            track_id: line.track.to_string(),
            participant_id: &line.participant,
            source: line.source.as_str(),
        }
    }
}

/// JSON, encoded once.
pub(crate) fn encode(value: &impl Serialize) -> Arc<RawValue> {
    // Our types have string keys and no fallible Serialize, the only two causes of failure.
    let raw = serde_json::value::to_raw_value(value).expect("a value of ours always encodes");
    Arc::from(raw)
}
