//! The store: SQLite or Postgres, filled from the journal in order, asked by the API and the webhook deliverer.
//!
//! Both engines have the same tables (`migrations/`) and get the same statements, with `$1` for parameters: sqlx's `Any`
//! driver knows BIGINT and TEXT of both, and no column has another type. Times are Unix ms.
//!
//! What cannot be reached is [`StoreError::Away`], and nothing waits for it longer than [`DEADLINE`]. The tables are made at
//! the first use that succeeds, so that a server starts without its database and goes on when that comes.

mod apply;
mod endpoints;
mod erase;
mod event;
mod look;
mod meeting;
mod outbox;
mod pool;
mod query;
mod receive;
mod retention;
mod rooms;
mod schedule;
mod sweep;
mod text;

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use sqlx::migrate::MigrateError;

#[cfg(test)]
pub(crate) use self::endpoints::ENDPOINTS_MAX;
pub(crate) use self::endpoints::{ENDPOINT_CONFIGURED, NewEndpoint};
pub(crate) use self::look::{Tables, look};
pub(crate) use self::outbox::{Backlog, Claimed, Recipient};
pub(crate) use self::pool::{Engine, Store};
pub(crate) use self::query::{Listed, MeetingFilter, Page};
pub(crate) use self::receive::Received;
pub(crate) use self::retention::{Retained, Retention, RoomRetention};
pub(crate) use self::rooms::{Expected, ROSTER_MAX, Room};
pub(crate) use self::schedule::Schedule;
pub(crate) use self::sweep::{Sweeper, Swept};

/// How long anything in the store may take: a statement, the wait for a connection, a whole transaction. Longer is
/// [`StoreError::Away`]. Twice as long would make each outage twice as slow to be seen.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);
/// Most rows of a page.
pub(crate) const PAGE_MAX: usize = 1_000;

/// Why the store could not do something. Neither says the URL, which may hold a password.
#[derive(Debug)]
pub(crate) enum StoreError {
    /// It cannot be reached or is too busy: try again.
    Away(String),
    /// It refuses what we say: a fault of ours, or of its data.
    Broken(String),
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreError::Away(why) => write!(f, "the store cannot be reached: {why}"),
            StoreError::Broken(why) => write!(f, "the store refuses: {why}"),
        }
    }
}

impl std::error::Error for StoreError {}

/// SQLSTATE classes after which the same statement may succeed: connection, rollback by conflict, resources, operator, system.
const AGAIN_CLASSES: [&str; 5] = ["08", "40", "53", "57", "58"];
/// Primary SQLite codes of the same kind: busy, locked, read-only, I/O, full, cannot open.
const AGAIN_SQLITE: [i32; 6] = [5, 6, 8, 10, 13, 14];

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        use sqlx::Error as E;
        let again = match &error {
            E::Database(inner) => inner.code().is_some_and(|code| passes(&code)),
            E::Io(_) | E::Tls(_) | E::PoolTimedOut | E::PoolClosed | E::WorkerCrashed | E::BeginFailed => true,
            _ => false,
        };
        if again { StoreError::Away(error.to_string()) } else { StoreError::Broken(error.to_string()) }
    }
}

/// Whether an error with this code may pass. SQLite's are numbers without the five characters of a SQLSTATE.
fn passes(code: &str) -> bool {
    match code.parse::<i32>() {
        Ok(number) if code.len() < 5 => AGAIN_SQLITE.contains(&(number & 0xff)),
        // lock_not_available: our own lock timeout.
        _ => code == "55P03" || AGAIN_CLASSES.iter().any(|class| code.starts_with(class)),
    }
}

impl From<MigrateError> for StoreError {
    fn from(error: MigrateError) -> Self {
        match error {
            MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => error.into(),
            other => StoreError::Broken(format!(
                "{other}. The tables come from another version of Lyceum: start that one, or a newer"
            )),
        }
    }
}

/// What `work` gives, unless it takes longer than [`DEADLINE`].
async fn in_time<T>(work: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    within(DEADLINE, work).await
}

/// What `work` gives, unless it takes longer than `limit`.
async fn within<T>(limit: Duration, work: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    match tokio::time::timeout(limit, work).await {
        Ok(done) => done,
        Err(_) => Err(StoreError::Away(format!("no answer within {} ms", limit.as_millis()))),
    }
}

/// Our times and counts are far below 2^63; one that is not is a fault of its sender and stands for "for ever".
fn int(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// The reverse of [`int`]; no column that we write is negative.
fn nat(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

/// A row that does not read as we wrote it.
fn unreadable(what: &str, why: &dyn fmt::Display) -> StoreError {
    StoreError::Broken(format!("{what} does not read: {why}"))
}

/// A short text that many share.
type Text = Arc<str>;

#[cfg(test)]
mod tests;
