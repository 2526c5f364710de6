//! `[store]`: where history is kept.

use super::Key;

/// `[store]`.
#[derive(Clone, Debug, Default)]
pub(crate) struct StoreSettings {}

pub(super) const KEYS: &[Key] = &[];
