//! `[room]`: the rules of rooms unless the application says otherwise.

use std::sync::Arc;

use signaling::limits::ROOM_SEATS_MAX;
use signaling::{RoomSettings, SameUser};

use super::keys::{Key, text, texts, whole};
use super::put;
use super::values::{number, truth};

/// `[room]`.
#[derive(Clone, Debug, Default)]
pub(crate) struct RoomDefaults(pub(crate) RoomSettings);

fn same_user(value: &str) -> Result<SameUser, String> {
    SameUser::parse(value.trim()).ok_or_else(|| "expected replace, reject or allow".to_owned())
}

fn codecs(values: &[String]) -> Result<Vec<Arc<str>>, String> {
    RoomSettings::parse_codecs(values).ok_or_else(|| "expected some of vp8, h264, vp9 and av1".to_owned())
}

pub(super) const KEYS: &[Key] = &[
    Key::one(
        "room",
        "grace_ms",
        "How long a dropped connection keeps its seat, 0 to 600,000 ms.",
        |s, v| put(&mut s.grace_ms, number(&v[0], 0, 600_000)),
        |s| whole(s.grace_ms),
    ),
    Key::one(
        "room",
        "empty_timeout_ms",
        "How long a meeting stays open with nobody there, 0 to 86,400,000 ms.",
        |s, v| put(&mut s.empty_timeout_ms, number(&v[0], 0, 86_400_000)),
        |s| whole(s.empty_timeout_ms),
    ),
    Key::one(
        "room",
        "capacity",
        "Most participants, 1 to 5,000. The API says this and what follows for single sessions.",
        |s, v| put(&mut s.rooms.0.capacity, number(&v[0], 1, ROOM_SEATS_MAX as u64).map(|n| n as usize)),
        |s| whole(s.rooms.0.capacity),
    ),
    Key::one(
        "room",
        "same_user",
        "Somebody joins twice: the newest wins (replace), the older (reject), or both stay (allow).",
        |s, v| put(&mut s.rooms.0.same_user, same_user(&v[0])),
        |s| text(s.rooms.0.same_user.as_str()),
    ),
    Key::one(
        "room",
        "waiting_room",
        "Newcomers wait until a moderator admits them.",
        |s, v| put(&mut s.rooms.0.waiting_room, truth(&v[0])),
        |s| Some(s.rooms.0.waiting_room.into()),
    ),
    Key::one(
        "room",
        "chat",
        "Chat and reactions.",
        |s, v| put(&mut s.rooms.0.chat, truth(&v[0])),
        |s| Some(s.rooms.0.chat.into()),
    ),
    Key::one(
        "room",
        "chat_history",
        "Late joiners see what was said before.",
        |s, v| put(&mut s.rooms.0.chat_history, truth(&v[0])),
        |s| Some(s.rooms.0.chat_history.into()),
    ),
    Key::one(
        "room",
        "video",
        "Participants may show cameras.",
        |s, v| put(&mut s.rooms.0.video, truth(&v[0])),
        |s| Some(s.rooms.0.video.into()),
    ),
    Key::one(
        "room",
        "screen_share",
        "Participants may share screens.",
        |s, v| put(&mut s.rooms.0.screen_share, truth(&v[0])),
        |s| Some(s.rooms.0.screen_share.into()),
    ),
    Key::list(
        "room",
        "codecs",
        "Video codecs that may be negotiated: some of vp8, h264, vp9, av1. By default all.",
        |s, v| put(&mut s.rooms.0.codecs, codecs(v)),
        |s| texts(&s.rooms.0.codecs),
    )
    .example(r#"["vp8", "h264"]"#),
];
