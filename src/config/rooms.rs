//! `[room]`: the rules of rooms unless the application says otherwise.

use std::sync::Arc;

use signaling::limits::ROOM_SEATS_MAX;
use signaling::{RoomSettings, SameUser};

use super::values::{number, truth};
use super::{Key, put};

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
    Key {
        section: "room",
        name: "capacity",
        list: false,
        set: |s, v| put(&mut s.rooms.0.capacity, number(&v[0], 1, ROOM_SEATS_MAX as u64).map(|n| n as usize)),
    },
    Key {
        section: "room",
        name: "same_user",
        list: false,
        set: |s, v| put(&mut s.rooms.0.same_user, same_user(&v[0])),
    },
    Key { section: "room", name: "codecs", list: true, set: |s, v| put(&mut s.rooms.0.codecs, codecs(v)) },
    Key {
        section: "room",
        name: "waiting_room",
        list: false,
        set: |s, v| put(&mut s.rooms.0.waiting_room, truth(&v[0])),
    },
    Key { section: "room", name: "chat", list: false, set: |s, v| put(&mut s.rooms.0.chat, truth(&v[0])) },
    Key {
        section: "room",
        name: "chat_history",
        list: false,
        set: |s, v| put(&mut s.rooms.0.chat_history, truth(&v[0])),
    },
    Key { section: "room", name: "video", list: false, set: |s, v| put(&mut s.rooms.0.video, truth(&v[0])) },
    Key {
        section: "room",
        name: "screen_share",
        list: false,
        set: |s, v| put(&mut s.rooms.0.screen_share, truth(&v[0])),
    },
];
