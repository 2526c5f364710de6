//! `[store]`: where history is kept.

use std::path::PathBuf;
use std::time::Duration;

use toml::Value;

use super::keys::{Key, hidden, text, whole};
use super::values::number;
use super::{Secret, put};
use crate::store::Retention;

/// Schemes of databases that there are.
const SCHEMES: [&str; 3] = ["postgres://", "postgresql://", "sqlite://"];
/// Least and most of `journal_mb`: below, a lesson's facts fill it; above, nobody looks into why it grows.
const JOURNAL_MB: std::ops::RangeInclusive<u64> = 16..=1_000_000;
/// Default of `journal_mb`: about a day of a thousand people without the database.
const JOURNAL_MB_DEFAULT: u64 = 1_024;
const DAY_S: u64 = 24 * 60 * 60;
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
    Ok((days > 0).then(|| Duration::from_secs(days * DAY_S)))
}

fn url(value: &str) -> Result<Option<Secret>, String> {
    let value = value.trim();
    if SCHEMES.iter().any(|scheme| value.starts_with(scheme)) {
        return Ok(Some(Secret(value.to_owned())));
    }
    Err("expected postgres://user:password@host/database or sqlite:///path/of/a/file".to_owned())
}

pub(super) const KEYS: &[Key] = &[
    Key::one(
        "store",
        "dir",
        "Directory of the journal and the SQLite file. It must outlive the process.",
        |s, v| put(&mut s.store.dir, dir(&v[0])),
        |s| text(s.store.dir.display()),
    ),
    Key::one(
        "store",
        "url",
        "A database in place of lyceum.db in that directory; better as DATABASE_URL or DATABASE_URL_FILE.",
        |s, v| put(&mut s.store.url, url(&v[0])),
        |s| hidden(s.store.url.is_some()),
    )
    .secret()
    .example(r#""postgres://lyceum:password@db.example/lyceum""#),
    Key::one(
        "store",
        "journal_mb",
        "MiB of facts that may wait for the database, 16 to 1,000,000; beyond it nobody new gets in.",
        |s, v| put(&mut s.store.journal_mb, number(&v[0], *JOURNAL_MB.start(), *JOURNAL_MB.end())),
        |s| whole(s.store.journal_mb),
    ),
    Key::one(
        "store",
        "keep_chat_days",
        "After so many days chat messages are deleted; 0 keeps them.",
        |s, v| put(&mut s.store.retention.chat, days(&v[0])),
        |s| shown_days(s.store.retention.chat),
    ),
    Key::one(
        "store",
        "keep_log_days",
        "The same of the raw log of meetings that are over; summaries and attendance stay.",
        |s, v| put(&mut s.store.retention.log, days(&v[0])),
        |s| shown_days(s.store.retention.log),
    ),
    Key::one(
        "store",
        "keep_meeting_days",
        "The same of meetings with all that belongs to them.",
        |s, v| put(&mut s.store.retention.meetings, days(&v[0])),
        |s| shown_days(s.store.retention.meetings),
    ),
    Key::one(
        "store",
        "keep_event_days",
        "The same of webhook events that are done with.",
        |s, v| put(&mut s.store.retention.outbox, days(&v[0])),
        |s| shown_days(s.store.retention.outbox),
    ),
];

fn shown_days(kept: Option<Duration>) -> Option<Value> {
    whole(kept.map_or(0, |kept| kept.as_secs() / DAY_S))
}
