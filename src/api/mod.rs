//! The REST API: tokens, sessions, meetings, attendance, webhooks.
