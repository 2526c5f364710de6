//! `[auth]`: who may enter.

use super::Key;

/// `[auth]`.
#[derive(Clone, Debug, Default)]
pub(crate) struct AuthSettings {}

pub(super) const KEYS: &[Key] = &[];
