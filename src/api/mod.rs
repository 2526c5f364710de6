//! The REST API: tokens, sessions, meetings, attendance, webhooks.

pub(crate) mod token;
