//! What a database is like, without changing it.

use std::path::Path;
use std::str::FromStr as _;
use std::time::Duration;

use sqlx::any::AnyConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AnyConnection, ConnectOptions as _, Connection as _};

use super::pool::{Engine, connectable, migrations};
use super::{StoreError, within};

/// How the tables of a database are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tables {
    /// As this version wants them.
    Current,
    /// Of an older version: a start brings them up to date.
    Older,
    /// A start makes them.
    None,
    /// There is not even a file: a start makes that, too.
    NoFile,
}

/// Connects to the database of this URL (as in [`super::Store::new`]) and looks at its tables, all within `deadline`. Makes and
/// changes nothing.
///
/// # Errors
/// If it cannot be reached, or its tables are of a newer version.
pub(crate) async fn look(url: &str, deadline: Duration) -> Result<Tables, StoreError> {
    // Not read-only: that would leave the files of SQLite's log behind, as whoever looks, and the server could not write them.
    let (engine, options) = connectable(url, "rw")?;
    if engine == Engine::Sqlite && !file(url)?.exists() {
        return Ok(Tables::NoFile);
    }
    within(deadline, tables(engine, options)).await
}

fn file(url: &str) -> Result<Box<Path>, StoreError> {
    let options = SqliteConnectOptions::from_str(url);
    let options = options.map_err(|_| StoreError::Broken("its URL cannot be read".to_owned()))?;
    Ok(options.get_filename().into())
}

async fn tables(engine: Engine, options: AnyConnectOptions) -> Result<Tables, StoreError> {
    let mut connection: AnyConnection = options.connect().await?;
    let is_there = match engine {
        Engine::Sqlite => "SELECT COUNT(*) FROM sqlite_master WHERE name = '_sqlx_migrations'",
        Engine::Postgres => "SELECT COUNT(to_regclass('_sqlx_migrations'))",
    };
    let is_there: i64 = sqlx::query_scalar(is_there).fetch_one(&mut connection).await?;
    let done: Vec<i64> = match is_there {
        0 => Vec::new(),
        _ => {
            sqlx::query_scalar("SELECT version FROM _sqlx_migrations WHERE success").fetch_all(&mut connection).await?
        }
    };
    connection.close().await?;
    let wanted: Vec<i64> = migrations(engine).iter().map(|migration| migration.version).collect();
    if let Some(other) = done.iter().find(|version| !wanted.contains(version)) {
        return Err(StoreError::Broken(format!(
            "its tables come from another version of Lyceum (migration {other}): start that one, or a newer"
        )));
    }
    Ok(match done.len() {
        0 => Tables::None,
        count if count < wanted.len() => Tables::Older,
        _ => Tables::Current,
    })
}
