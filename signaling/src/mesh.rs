//! What a mesh client may send to another: its descriptions must keep to its permissions, since there is no SFU between.

use crate::access::Permissions;
use crate::code::{ErrorCode, Refused};
use crate::wire::{Fields, Verb, description};
use sfu::Source;

/// Refuses a description that sends or receives what its client may not. Those who may do everything are not looked at.
pub(crate) fn check(may: Permissions, verb: Verb, fields: Fields<'_>) -> Result<(), Refused> {
    let kind = match verb {
        Verb::Offer => "offer",
        Verb::Answer => "answer",
        _ => return Ok(()),
    };
    let audio = may.publish.has(Source::Microphone) || may.publish.has(Source::ScreenAudio);
    let video = may.publish.has(Source::Camera) || may.publish.has(Source::Screen);
    if audio && video && may.subscribe && may.data {
        return Ok(());
    }
    let sdp = description(fields, kind)?;
    let sections: Vec<Section> = sections(&sdp);
    let allowed = sections.iter().filter(|s| !s.rejected).all(|s| {
        let sends = match s.kind {
            "audio" => audio,
            "video" => video,
            _ => return may.data,
        };
        (sends || !s.sends) && (may.subscribe || !s.receives)
    });
    if allowed {
        Ok(())
    } else {
        Err(ErrorCode::NotPermitted.because("You may not send or receive that: see permissions."))
    }
}

/// One m-line, by RFC 8866 §5.14 and §6.7.
struct Section<'a> {
    kind: &'a str,
    rejected: bool,
    /// Its direction was said; it is `sendrecv` until then.
    said: bool,
    sends: bool,
    receives: bool,
}

/// The m-lines of a description, with the directions that hold for them.
fn sections(sdp: &str) -> Vec<Section<'_>> {
    let mut session = (true, true);
    let mut sections: Vec<Section<'_>> = Vec::new();
    // As browsers do it: a line ends with a line feed, and nothing but one carriage return before it is left out.
    for line in sdp.lines() {
        if let Some(media) = line.strip_prefix("m=") {
            let mut words = media.split_ascii_whitespace();
            let kind = words.next().unwrap_or_default();
            let rejected = words.next() == Some("0");
            sections.push(Section { kind, rejected, said: false, sends: session.0, receives: session.1 });
            continue;
        }
        // Browsers take what follows the word for its value, and the word for said.
        let direction = match line.split([':', ' ', '\t']).next().unwrap_or_default() {
            "a=sendrecv" => (true, true),
            "a=sendonly" => (true, false),
            "a=recvonly" => (false, true),
            "a=inactive" => (false, false),
            _ => continue,
        };
        match sections.last_mut() {
            // One that is said twice is taken for both.
            Some(section) if section.said => {
                section.sends |= direction.0;
                section.receives |= direction.1;
            }
            Some(section) => {
                (section.said, section.sends, section.receives) = (true, direction.0, direction.1);
            }
            None => session = direction,
        }
    }
    sections
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Role;
    use serde_json::json;

    fn allowed(may: Permissions, sdp: &str) -> bool {
        let payload = json!({ "offer": { "type": "offer", "sdp": sdp } });
        check(may, Verb::Offer, Fields::of(&payload).unwrap()).is_ok()
    }

    #[test]
    fn observers_receive_and_do_not_send() {
        let observer = Permissions::of(Role::Observer);
        assert!(allowed(observer, "v=0\r\nm=audio 9 x 0\r\na=recvonly\r\nm=video 9 x 0\r\na=recvonly\r\n"));
        assert!(allowed(observer, "a=inactive\r\nm=video 0 x 0\r\na=sendrecv\r\nm=audio 9 x 0\r\n"));
        assert!(!allowed(observer, "m=audio 9 x 0\r\na=recvonly\r\nm=video 9 x 0\r\n"), "sendrecv is the default");
        assert!(!allowed(observer, "m=audio 9 x 0\r\na=sendonly\r\n"));
        assert!(!allowed(observer, "a=sendonly\nm=video 9 x 0\n"), "of all sections");
        assert!(!allowed(observer, "m=audio 9 x 0\r\na=sendonly\r\na=recvonly\r\n"), "said twice");
        assert!(!allowed(observer, "m=audio 9 x 0\r\na=x\ra=recvonly\r\n"), "no line of its own");
        assert!(!allowed(observer, "m=application 9 x y\r\n"), "data channels have no direction");
        assert!(allowed(Permissions::of(Role::Participant), "whatever"));
    }

    #[test]
    fn who_may_not_subscribe_only_sends() {
        let may = Permissions { subscribe: false, ..Permissions::of(Role::Participant) };
        assert!(allowed(may, "m=audio 9 x 0\r\na=sendonly\r\nm=application 9 x y\r\n"));
        assert!(!allowed(may, "m=audio 9 x 0\r\na=sendrecv\r\n"));
        let no_sound = Permissions { publish: sfu::Sources::NONE.with(Source::Screen), ..may };
        assert!(
            allowed(no_sound, "m=video 9 x 0\r\na=sendonly\r\n")
                && !allowed(no_sound, "m=audio 9 x 0\r\na=sendonly\r\n")
        );
    }
}
