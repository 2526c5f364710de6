//! `[store]`: where history is kept.

use std::path::PathBuf;

use super::values::number;
use super::{Key, Secret, put};

/// Schemes of databases that there are.
const SCHEMES: [&str; 3] = ["postgres://", "postgresql://", "sqlite://"];
/// Least and most of `journal_mb`: below, a lesson's facts fill it; above, nobody looks into why it grows.
const JOURNAL_MB: std::ops::RangeInclusive<u64> = 16..=1_000_000;
/// Default of `journal_mb`: about a day of a thousand people without the database.
const JOURNAL_MB_DEFAULT: u64 = 1_024;

/// `[store]`.
#[derive(Clone, Debug)]
pub(crate) struct StoreSettings {
    /// The directory of the journal, and of the SQLite file unless `url` names another. It must outlive the process.
    pub(crate) dir: PathBuf,
    /// `postgres://…` or `sqlite://…`; `None`: SQLite in `dir`. It may hold a password: never shown.
    pub(crate) url: Option<Secret>,
    /// Bytes of the journal, in units of 1,048,576, beyond which nobody new gets in.
    pub(crate) journal_mb: u64,
}

impl Default for StoreSettings {
    fn default() -> Self {
        StoreSettings { dir: PathBuf::from("data"), url: None, journal_mb: JOURNAL_MB_DEFAULT }
    }
}

fn dir(value: &str) -> Result<PathBuf, String> {
    let value = value.trim();
    if value.is_empty() { Err("expected a directory".to_owned()) } else { Ok(PathBuf::from(value)) }
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
];
