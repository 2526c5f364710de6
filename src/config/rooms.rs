//! `[room]`: the rules of rooms unless the application says otherwise.

use super::Key;

/// `[room]`.
#[derive(Clone, Debug, Default)]
pub(crate) struct RoomDefaults {}

pub(super) const KEYS: &[Key] = &[];
