//! `[webhooks]`: who is told of what happens.

use super::Key;

/// `[webhooks]`.
#[derive(Clone, Debug, Default)]
pub(crate) struct WebhookSettings {}

pub(super) const KEYS: &[Key] = &[];
