//! The one source of the wire's types: web/packages/client/src/wire.ts is generated from this table, and every message of every test of the
//! lobby is held to it.

use std::collections::BTreeSet;
use std::fmt::Write;

use serde_json::Value;
use sfu::Source;
use signaling::{ErrorCode, Reason, Role, SameUser};

/// What a field may hold.
enum Type {
    Text,
    Number,
    Flag,
    /// Any JSON.
    Json,
    /// One of the words of a name in [`words`].
    Word(&'static str),
    /// One of these.
    OneOf(&'static [&'static str]),
    /// A shape of [`SHAPES`].
    Of(&'static str),
    /// An object of this type of the browser's.
    Dom(&'static str),
    List(&'static Type),
    /// That, or `null`.
    Nullable(&'static Type),
}

use Type::{Dom, Flag, Json, List, Nullable, Number, Of, OneOf, Text, Word};

/// Its name, with a `?` if it may be missing, and what it holds.
type Field = (&'static str, Type);

/// An object: its name in TypeScript, what it is, its fields.
struct Shape(&'static str, &'static str, &'static [Field]);

/// The words that may stand in a field, from where the server has them.
fn words() -> Vec<(&'static str, &'static str, Vec<&'static str>)> {
    let sources = [Source::Camera, Source::Microphone, Source::Screen, Source::ScreenAudio];
    let roles = [Role::Instructor, Role::Participant, Role::Observer];
    let reasons = [Reason::Left, Reason::Disconnected, Reason::Replaced, Reason::Removed, Reason::Ended];
    let same = [SameUser::Replace, SameUser::Reject, SameUser::Allow];
    vec![
        ("Source", "Where a track comes from.", sources.map(Source::as_str).to_vec()),
        ("Role", "What somebody is in a session.", roles.map(Role::as_str).to_vec()),
        ("LeaveReason", "Why somebody is not there any more.", reasons.map(Reason::as_str).to_vec()),
        ("SameUser", "What becomes of two connections of one user.", same.map(SameUser::as_str).to_vec()),
        ("ErrorCode", "Why something was refused. More may come.", ErrorCode::ALL.map(ErrorCode::as_str).to_vec()),
    ]
}

const SHAPES: &[Shape] = &[
    Shape(
        "RosterTrack",
        "What somebody publishes.",
        &[("trackId", Text), ("kind", OneOf(&["audio", "video"])), ("source", Word("Source")), ("muted", Flag)],
    ),
    Shape(
        "Participant",
        "A line of the roster.",
        &[
            ("participantId", Text),
            ("userId", Text),
            ("userName", Text),
            ("isInstructor", Flag),
            ("role", Word("Role")),
            ("state", OneOf(&["connected", "reconnecting"])),
            ("handRaised", Flag),
            ("tracks", List(&Of("RosterTrack"))),
            ("metadata?", Json),
        ],
    ),
    Shape(
        "Permissions",
        "What one may do in a session.",
        &[("publish", List(&Word("Source"))), ("subscribe", Flag), ("chat", Flag), ("data", Flag), ("moderate", Flag)],
    ),
    Shape(
        "ChatMessage",
        "What somebody said; `clientId` is the sender's own name for it.",
        &[
            ("sessionId", Text),
            ("id", Text),
            ("message", Text),
            ("userId", Text),
            ("userName", Text),
            ("clientId?", Text),
            ("timestamp", Number),
        ],
    ),
    Shape(
        "Joined",
        "The ack of a join. `metadata` is the session's own; `chat` what was said before.",
        &[
            ("sessionId", Text),
            ("meetingId", Text),
            ("userId", Text),
            ("participantId", Text),
            ("role", Word("Role")),
            ("permissions", Of("Permissions")),
            ("participants", List(&Of("Participant"))),
            ("metadata", Json),
            ("locked", Flag),
            ("chat?", List(&Of("ChatMessage"))),
            ("iceServers", List(&Dom("RTCIceServer"))),
            ("resumeToken", Text),
            ("resumed", Flag),
        ],
    ),
    Shape("Said", "The ack of a chat message.", &[("id", Text), ("timestamp", Number)]),
    Shape("HandPosition", "The ack of a hand: from 1; 0 when it is down.", &[("position", Number)]),
    Shape(
        "TrackLine",
        "What an m-line of the server's description carries.",
        &[("mid", Text), ("trackId", Text), ("participantId", Text), ("source", Word("Source"))],
    ),
    Shape(
        "Offer",
        "From the SFU; what comes from another user is as that user sent it.",
        &[
            ("sessionId", Text),
            ("userId", Text),
            ("targetUserId", Text),
            ("offer", Dom("RTCSessionDescriptionInit")),
            ("tracks", List(&Of("TrackLine"))),
        ],
    ),
    Shape(
        "Answer",
        "The same, the other way.",
        &[
            ("sessionId", Text),
            ("userId", Text),
            ("targetUserId", Text),
            ("answer", Dom("RTCSessionDescriptionInit")),
            ("tracks", List(&Of("TrackLine"))),
        ],
    ),
    Shape(
        "Candidate",
        "Of another user; the SFU sends none.",
        &[
            ("sessionId", Text),
            ("userId", Text),
            ("targetUserId", Text),
            ("candidate?", Nullable(&Dom("RTCIceCandidateInit"))),
        ],
    ),
    Shape(
        "UserJoined",
        "Somebody came.",
        &[("userId", Text), ("userName", Text), ("isInstructor", Flag), ("participantId", Text)],
    ),
    Shape(
        "UserLeft",
        "Somebody went.",
        &[("userId", Text), ("userName", Text), ("participantId", Text), ("reason", Word("LeaveReason"))],
    ),
    Shape("Roster", "Everybody, in order of arrival.", &[("participants", List(&Of("Participant")))]),
    Shape("Speaker", "`level` is 0…127.", &[("participantId", Text), ("level", Number)]),
    Shape("SharedAudio", "Whom a shared audio stream carries.", &[("streamId", Text), ("participantId", Text)]),
    Shape(
        "ActiveSpeakers",
        "Who speaks, loudest first.",
        &[("speakers", List(&Of("Speaker"))), ("audio?", List(&Of("SharedAudio")))],
    ),
    Shape(
        "TrackFlow",
        "A track that one gets stands still, or goes on.",
        &[("trackId", Text), ("reason", OneOf(&["bandwidth", "unsubscribed"]))],
    ),
    Shape("Layer", "An encoding of a track.", &[("rid", Text), ("active", Flag)]),
    Shape(
        "LayersWanted",
        "Which layers of a published track anybody watches.",
        &[("trackId", Text), ("layers", List(&Of("Layer")))],
    ),
    Shape(
        "Quality",
        "How good somebody's connection is, 0 (lost) to 4, and who is to blame.",
        &[("participantId", Text), ("score", Number), ("cause?", OneOf(&["uplink", "downlink", "server", "relay"]))],
    ),
    Shape(
        "TrackUnavailable",
        "A track that one cannot get.",
        &[("trackId", Text), ("reason", OneOf(&["codec", "limit"]))],
    ),
    Shape(
        "HandRaised",
        "`position` is from 1; 0 when it is down.",
        &[("participantId", Text), ("userId", Text), ("raised", Flag), ("position", Number)],
    ),
    Shape("Reaction", "Somebody reacts.", &[("participantId", Text), ("userId", Text), ("emoji", Text)]),
    Shape(
        "PermissionsChanged",
        "One's own.",
        &[("participantId", Text), ("role", Word("Role")), ("permissions", Of("Permissions"))],
    ),
    Shape(
        "Moderated",
        "What a moderator did to this participant; `by` is the moderator's `userId`.",
        &[
            ("action", OneOf(&["mute", "mute-all", "ask-unmute", "promote", "lower-hands"])),
            ("participantId?", Text),
            ("source?", Word("Source")),
            ("role?", Word("Role")),
            ("by?", Text),
        ],
    ),
    Shape(
        "WaitingLine",
        "Somebody who waits to be admitted.",
        &[("waitingId", Text), ("userId", Text), ("userName", Text)],
    ),
    Shape(
        "Waiting",
        "To whoever waits its `position`, to moderators all `participants`.",
        &[("sessionId?", Text), ("position?", Number), ("participants?", List(&Of("WaitingLine")))],
    ),
    Shape("Admitted", "Behind the ack of the join that waited.", &[("sessionId", Text)]),
    Shape(
        "SessionUpdated",
        "A session's rules.",
        &[
            ("sessionId", Text),
            ("locked", Flag),
            ("metadata", Json),
            ("capacity", Number),
            ("sameUser", Word("SameUser")),
            ("graceMs", Nullable(&Number)),
            ("waitingRoom", Flag),
            ("chat", Flag),
            ("chatHistory", Flag),
            ("video", Flag),
            ("screenShare", Flag),
            ("codecs", List(&Text)),
        ],
    ),
    Shape("TokenRenewed", "A join token in place of one that ends soon.", &[("token", Text), ("expiresAt", Number)]),
    Shape("Draining", "The server ends then, at the latest.", &[("deadline", Number)]),
    Shape(
        "SessionError",
        "A refusal that nobody waits for, or the end.",
        &[("code", Word("ErrorCode")), ("message", Text), ("event", Text)],
    ),
    Shape("Refusal", "Why not: `message` is for people.", &[("code", Word("ErrorCode")), ("message", Text)]),
];

/// The server's events, and the shapes of their payloads.
const EVENTS: &[(&str, &str)] = &[
    ("user-joined", "UserJoined"),
    ("user-left", "UserLeft"),
    ("participants-update", "Roster"),
    ("participant-updated", "Participant"),
    ("offer", "Offer"),
    ("answer", "Answer"),
    ("ice-candidate", "Candidate"),
    ("chat-message", "ChatMessage"),
    ("active-speakers", "ActiveSpeakers"),
    ("track-paused", "TrackFlow"),
    ("track-resumed", "TrackFlow"),
    ("layers-wanted", "LayersWanted"),
    ("connection-quality", "Quality"),
    ("track-unavailable", "TrackUnavailable"),
    ("hand-raised", "HandRaised"),
    ("reaction", "Reaction"),
    ("permissions", "PermissionsChanged"),
    ("moderated", "Moderated"),
    ("waiting", "Waiting"),
    ("admitted", "Admitted"),
    ("session-updated", "SessionUpdated"),
    ("token", "TokenRenewed"),
    ("server-draining", "Draining"),
    ("session-error", "SessionError"),
];

/// The events that clients send, and what their acks have beside `ok`.
const ACKS: &[(&str, Option<&str>)] = &[
    ("join-session", Some("Joined")),
    ("leave-session", None),
    ("offer", None),
    ("answer", None),
    ("ice-candidate", None),
    ("chat-message", Some("Said")),
    ("subscription", None),
    ("track-update", None),
    ("raise-hand", Some("HandPosition")),
    ("reaction", None),
    ("moderate", None),
];

fn shape(name: &str) -> &'static Shape {
    SHAPES.iter().find(|shape| shape.0 == name).unwrap_or_else(|| panic!("no shape {name}"))
}

/// Holds an event to the table.
pub(crate) fn check_event(event: &str, payload: &Value) {
    let (_, name) = EVENTS.iter().find(|(known, _)| *known == event).unwrap_or_else(|| panic!("no event {event}"));
    // Between mesh clients the server is no more than the post.
    if matches!(event, "offer" | "answer" | "ice-candidate") && payload["userId"] != "sfu" {
        return;
    }
    check_shape(name, payload, &[]).unwrap_or_else(|wrong| panic!("{event}{wrong} in {payload}"));
}

/// Holds an ack to the table; `asked` is the event that it answers.
pub(crate) fn check_ack(asked: &str, body: &Value) {
    let outcome = match (body["ok"].as_bool(), ACKS.iter().find(|(event, _)| *event == asked)) {
        (Some(true), Some((_, Some(name)))) => check_shape(name, body, &["ok"]),
        (Some(true), Some((_, None))) if *body == serde_json::json!({ "ok": true }) => Ok(()),
        (Some(false), _) => check_shape("Refusal", &body["error"], &[]),
        _ => Err(": no ack of ours".to_owned()),
    };
    outcome.unwrap_or_else(|wrong| panic!("the ack of {asked}{wrong}: {body}"));
}

/// What is wrong with an object, if anything: where, and what; `beside` may be there too.
fn check_shape(name: &str, value: &Value, beside: &[&str]) -> Result<(), String> {
    let Shape(_, _, fields) = shape(name);
    let object = value.as_object().ok_or(format!(" is no {name}"))?;
    let names: BTreeSet<&str> = fields.iter().map(|(field, _)| field.trim_end_matches('?')).collect();
    if let Some(more) = object.keys().find(|key| !names.contains(key.as_str()) && !beside.contains(&key.as_str())) {
        return Err(format!(".{more} is not in {name}"));
    }
    for (field, kind) in *fields {
        let plain = field.trim_end_matches('?');
        match object.get(plain) {
            None if field.ends_with('?') => {}
            None => return Err(format!(".{plain} is missing in {name}")),
            Some(value) => check_type(kind, value).map_err(|wrong| format!(".{plain}{wrong}"))?,
        }
    }
    Ok(())
}

fn check_type(kind: &Type, value: &Value) -> Result<(), String> {
    let fits = match kind {
        Text => value.is_string(),
        Number => value.is_number(),
        Flag => value.is_boolean(),
        Json => true,
        Dom(_) => value.is_object(),
        OneOf(all) => value.as_str().is_some_and(|word| all.contains(&word)),
        Word(name) => {
            let all = words().into_iter().find(|(known, ..)| known == name).expect("a name of words");
            value.as_str().is_some_and(|word| all.2.contains(&word))
        }
        Nullable(_) if value.is_null() => true,
        Nullable(kind) => return check_type(kind, value),
        Of(name) => return check_shape(name, value, &[]),
        List(kind) => {
            let items = value.as_array().ok_or(" is no list")?;
            return items.iter().try_for_each(|item| check_type(kind, item).map_err(|wrong| format!("[]{wrong}")));
        }
    };
    if fits { Ok(()) } else { Err(format!(" is not {}", typescript(kind))) }
}

/// The type as TypeScript writes it.
fn typescript(kind: &Type) -> String {
    let quoted = |all: &[&str]| all.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" | ");
    match kind {
        Text => "string".into(),
        Number => "number".into(),
        Flag => "boolean".into(),
        Json => "unknown".into(),
        Word(name) | Of(name) | Dom(name) => (*name).into(),
        OneOf(all) => quoted(all),
        Nullable(kind) => format!("{} | null", typescript(kind)),
        List(kind) => format!("{}[]", typescript(kind)),
    }
}

fn generated() -> String {
    let mut out = "// Generated from signaling/tests/lobby/wire.rs, which holds what the server says to the same table: change it there, and run\n\
                   // `LYCEUM_WRITE_WIRE=1 cargo test -p lyceum-signaling --test lobby wire`.\n"
        .to_owned();
    for (name, says, all) in words() {
        let all: Vec<String> = all.iter().map(|word| format!("\n  | '{word}'")).collect();
        let _ = writeln!(out, "\n/** {says} */\nexport type {name} ={};", all.concat());
    }
    for Shape(name, says, fields) in SHAPES {
        let _ = writeln!(out, "\n/** {says} */\nexport interface {name} {{");
        for (field, kind) in *fields {
            let _ = writeln!(out, "  {field}: {};", typescript(kind));
        }
        out.push_str("}\n");
    }
    out.push_str("\n/** What the server says: each event's payload. */\nexport interface ServerEvents {\n");
    for (event, name) in EVENTS {
        let _ = writeln!(out, "  '{event}': {name};");
    }
    out.push_str("}\n\n/** What clients say: what the ack has beside `ok`. */\nexport interface Acks {\n");
    for (event, name) in ACKS {
        let _ = writeln!(out, "  '{event}': {};", name.unwrap_or("object"));
    }
    out.push_str("}\n");
    out
}

#[test]
fn the_types_of_the_web_are_current() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../web/packages/client/src/wire.ts");
    if std::env::var_os("LYCEUM_WRITE_WIRE").is_some() {
        std::fs::write(path, generated()).unwrap();
    }
    let there = std::fs::read_to_string(path).unwrap_or_default();
    assert!(there == generated(), "wire.ts is not what the table says: write it anew with LYCEUM_WRITE_WIRE=1");
}

/// What stands in the first column of the table below a heading of the protocol, in backticks.
fn documented(heading: &str) -> BTreeSet<String> {
    let text = include_str!("../../../docs/protocol.md");
    let (_, after) = text.split_once(heading).expect("the heading");
    let rows = after.lines().skip_while(|line| !line.starts_with("| `")).take_while(|line| line.starts_with("| `"));
    let cells = rows.filter_map(|row| row.split('|').nth(1));
    cells.flat_map(|cell| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>()).collect()
}

#[test]
fn the_protocol_document_names_the_same_events() {
    let known: BTreeSet<String> = EVENTS.iter().map(|(event, _)| (*event).to_owned()).collect();
    assert_eq!(documented("### Server to client"), known);
    let sent: BTreeSet<String> = ACKS.iter().map(|(event, _)| (*event).to_owned()).collect();
    assert_eq!(documented("### Client to server"), sent);
}

#[test]
#[should_panic(expected = ".score is not number")]
fn what_does_not_fit_the_table_fails() {
    check_event("connection-quality", &serde_json::json!({ "participantId": "p", "score": "bad" }));
}
