//! `[store]`: where history is kept.

use std::path::PathBuf;
use std::time::Duration;

use super::values::number;
use super::{Key, Secret, put};
use crate::store::Retention;

/// Schemes of databases that there are.
const SCHEMES: [&str; 3] = ["postgres://", "postgresql://", "sqlite://"];
/// Least and most of `journal_mb`: below, a lesson's facts fill it; above, nobody looks into why it grows.
const JOURNAL_MB: std::ops::RangeInclusive<u64> = 16..=1_000_000;
/// Default of `journal_mb`: about a day of a thousand people without the database.
const JOURNAL_MB_DEFAULT: u64 = 1_024;
/// Most days that a setting may say.
pub(crate) const DAYS_MAX: u64 = 36_500;

/// `[store]`.
#[derive(Clone, Debug)]
pub(crate) struct StoreSettings {
    /// The directory of the journal, and of the SQLite file unless `url` names another. It must outlive the process.
    pub(crate) dir: PathBuf,
    /// `postgres://…` or `sqlite://…`; `None`: SQLite in `dir`. It may hold a password: never shown.
    pub(crate) url: Option<Secret>,
    /// Bytes of the journal, in units of 1,048,576, beyond which nobody new gets in.
    pub(crate) journal_mb: u64,
    /// What is deleted after how long.
    pub(crate) retention: Retention,
}

impl Default for StoreSettings {
    fn default() -> Self {
        StoreSettings {
            dir: PathBuf::from("data"),
            url: None,
            journal_mb: JOURNAL_MB_DEFAULT,
            retention: Retention::default(),
        }
    }
}

fn dir(value: &str) -> Result<PathBuf, String> {
    let value = value.trim();
    if value.is_empty() { Err("expected a directory".to_owned()) } else { Ok(PathBuf::from(value)) }
}

/// Days; 0: for ever.
fn days(value: &str) -> Result<Option<Duration>, String> {
    let days = number(value, 0, DAYS_MAX)?;
    Ok((days > 0).then(|| Duration::from_secs(days * 24 * 60 * 60)))
}

fn url(value: &str) -> Result<Option<Secret>, String> {
    let value = value.trim();
    if SCHEMES.iter().any(|scheme| value.starts_with(scheme)) {
        return Ok(Some(Secret(value.to_owned())));
    }
    Err("expected postgres://user:password@host/database or sqlite:///path/of/a/file".to_owned())
}

pub(super) const KEYS: &[Key] = &[
    Key { section: "store", name: "dir", list: false, set: |s, v| put(&mut s.store.dir, dir(&v[0])) },
    Key { section: "store", name: "url", list: false, set: |s, v| put(&mut s.store.url, url(&v[0])) },
    Key {
        section: "store",
        name: "journal_mb",
        list: false,
        set: |s, v| put(&mut s.store.journal_mb, number(&v[0], *JOURNAL_MB.start(), *JOURNAL_MB.end())),
    },
    Key {
        section: "store",
        name: "keep_chat_days",
        list: false,
        set: |s, v| put(&mut s.store.retention.chat, days(&v[0])),
    },
    Key {
        section: "store",
        name: "keep_log_days",
        list: false,
        set: |s, v| put(&mut s.store.retention.log, days(&v[0])),
    },
    Key {
        section: "store",
        name: "keep_meeting_days",
        list: false,
        set: |s, v| put(&mut s.store.retention.meetings, days(&v[0])),
    },
    Key {
        section: "store",
        name: "keep_event_days",
        list: false,
        set: |s, v| put(&mut s.store.retention.outbox, days(&v[0])),
    },
];
