//! Connections to the database, and the tables in it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use sqlx::{Any, AnyConnection, AnyPool, ConnectOptions as _, Connection as _, Executor as _};
use tokio::sync::OnceCell;

use super::{DEADLINE, StoreError, in_time, within};

/// Connections to Postgres: one applies, one sweeps, the others answer the API and the deliverer. More would help nobody and
/// cost the database a process each; a request that finds none waits up to [`DEADLINE`].
const POSTGRES_CONNECTIONS_MAX: u32 = 8;
/// Readers of SQLite, beside its one writer.
const SQLITE_READERS_MAX: u32 = 4;
/// How long a connection that is given back may take to show that it lives; then it is dropped.
const PING_MAX: Duration = Duration::from_secs(2);
/// How long making the tables may take: on large ones a migration may be long.
const MIGRATE_MAX: Duration = Duration::from_secs(600);
/// Times that the tables are tried to be made while others try the same (SQLite has no lock for it).
const MIGRATE_TRIES: u32 = 20;

// They run by `run_direct`: futures of the usual `run` cannot be spawned ("implementation of `Acquire` is not general enough").
static SQLITE_TABLES: sqlx::migrate::Migrator = sqlx::migrate!("migrations/sqlite");
static POSTGRES_TABLES: sqlx::migrate::Migrator = sqlx::migrate!("migrations/postgres");

/// A transaction: what is dropped without a commit never was.
pub(crate) type Tx = sqlx::Transaction<'static, Any>;

/// Which database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Engine {
    /// A file of ours, one writer.
    Sqlite,
    /// A server that several nodes may share.
    Postgres,
}

/// A database with our tables. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    engine: Engine,
    writer: AnyPool,
    reader: AnyPool,
    /// Set once the tables are as this version wants them.
    tables: OnceCell<()>,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("engine", &self.inner.engine).finish_non_exhaustive()
    }
}

impl Store {
    /// A store at `sqlite:///path/of/file.db` or `postgres://user:password@host/database`. Connects nothing yet, so it
    /// fails only for a URL that is wrong. Needs a tokio runtime.
    pub(crate) fn new(url: &str) -> Result<Self, StoreError> {
        let (engine, options) = connectable(url, "rwc")?;
        let (writer, reader) = match engine {
            Engine::Sqlite => (pool(engine, 1, &options), pool(engine, SQLITE_READERS_MAX, &options)),
            Engine::Postgres => {
                let both = pool(engine, POSTGRES_CONNECTIONS_MAX, &options);
                (both.clone(), both)
            }
        };
        Ok(Store { inner: Arc::new(Inner { engine, writer, reader, tables: OnceCell::new() }) })
    }

    /// The same, and its tables are there within `deadline`.
    pub(crate) async fn open(url: &str, deadline: Duration) -> Result<Self, StoreError> {
        let store = Store::new(url)?;
        within(deadline, store.migrate()).await?;
        Ok(store)
    }

    /// Which database it is.
    pub(crate) fn engine(&self) -> Engine {
        self.inner.engine
    }

    /// Makes the tables, or brings those of an older version up to date; safe when several start at once. Everything else here
    /// does it first where it has not succeeded yet. It goes on, for [`MIGRATE_MAX`] at most, when the caller waits no longer.
    pub(crate) async fn migrate(&self) -> Result<(), StoreError> {
        if self.inner.tables.initialized() {
            return Ok(());
        }
        let store = self.clone();
        let made = async move {
            let made = store.inner.tables.get_or_try_init(|| store.make_tables());
            match tokio::time::timeout(MIGRATE_MAX, made).await {
                Ok(made) => made.map(|_| ()),
                Err(_) => Err(StoreError::Away(format!("its tables are not made within {} s", MIGRATE_MAX.as_secs()))),
            }
        };
        let ended = |why| StoreError::Away(format!("making its tables was broken off: {why}"));
        tokio::spawn(made).await.map_err(ended)?
    }

    async fn make_tables(&self) -> Result<(), StoreError> {
        if self.inner.engine == Engine::Postgres {
            let mut connection = self.inner.writer.acquire().await?;
            // sqlx takes an advisory lock: those that come second wait for it as long as the first needs, and it must not
            // outlive a failure in the pool.
            connection.close_on_drop();
            connection.execute(sqlx::raw_sql("SET statement_timeout = 0; SET lock_timeout = 0")).await?;
            return Ok(POSTGRES_TABLES.run_direct(None, &mut *connection, false).await?);
        }
        // Each migration is a transaction with its own row: who loses the race finds it done at the next try.
        let mut last = StoreError::Away("no connection".to_owned());
        for _ in 0..MIGRATE_TRIES {
            let mut connection = self.inner.writer.acquire().await?;
            match SQLITE_TABLES.run_direct(None, &mut *connection, false).await {
                Ok(()) => return Ok(()),
                Err(
                    error @ (sqlx::migrate::MigrateError::VersionMismatch(_)
                    | sqlx::migrate::MigrateError::VersionMissing(_)),
                ) => return Err(error.into()),
                Err(error) => last = error.into(),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Err(last)
    }

    /// Begins to write. On SQLite it is the only writer of this process, and waits for those of others.
    pub(crate) async fn write(&self) -> Result<Tx, StoreError> {
        in_time(async {
            self.migrate().await?;
            Ok(match self.inner.engine {
                // A deferred transaction that reads before it writes may fail where an immediate one waits.
                Engine::Sqlite => self.inner.writer.begin_with("BEGIN IMMEDIATE").await?,
                Engine::Postgres => self.inner.writer.begin().await?,
            })
        })
        .await
    }

    /// Where to read. What was committed before is seen.
    pub(crate) async fn read(&self) -> Result<&AnyPool, StoreError> {
        in_time(self.migrate()).await?;
        Ok(&self.inner.reader)
    }
}

/// The engine of a URL, and how to connect; `mode` is SQLite's (`rwc` makes a file, `rw` does not).
pub(super) fn connectable(url: &str, mode: &str) -> Result<(Engine, AnyConnectOptions), StoreError> {
    sqlx::any::install_default_drivers();
    let (engine, url) = if url.starts_with("postgres://") || url.starts_with("postgresql://") {
        (Engine::Postgres, url.to_owned())
    } else if url.starts_with("sqlite://") {
        (Engine::Sqlite, format!("{url}{}mode={mode}", if url.contains('?') { '&' } else { '?' }))
    } else {
        return Err(StoreError::Broken("its URL begins neither with sqlite:// nor with postgres://".to_owned()));
    };
    // The error of the parser would say the URL, and the URL the password.
    let options: AnyConnectOptions =
        url.parse().map_err(|_| StoreError::Broken("its URL cannot be read".to_owned()))?;
    // Statements' parameters are people's names and words.
    Ok((engine, options.disable_statement_logging()))
}

/// What makes the tables, step by step.
pub(super) fn migrations(engine: Engine) -> &'static sqlx::migrate::Migrator {
    match engine {
        Engine::Sqlite => &SQLITE_TABLES,
        Engine::Postgres => &POSTGRES_TABLES,
    }
}

fn pool(engine: Engine, connections_max: u32, options: &AnyConnectOptions) -> AnyPool {
    AnyPoolOptions::new()
        .max_connections(connections_max)
        .acquire_timeout(DEADLINE)
        .after_connect(move |connection, _| Box::pin(prepare(engine, connection)))
        // A connection whose query was abandoned may hang for as long as TCP does.
        .after_release(|connection, _| {
            Box::pin(async move {
                match tokio::time::timeout(PING_MAX, connection.ping()).await {
                    // A full disk makes SQLite roll back by itself; the library, whose own rollback then fails, would believe for ever
                    // that the transaction goes on.
                    Ok(alive) => alive.map(|()| !connection.is_in_transaction()),
                    Err(_) => Err(sqlx::Error::PoolTimedOut),
                }
            })
        })
        .connect_lazy_with(options.clone())
}

/// What holds for each connection from its beginning.
async fn prepare(engine: Engine, connection: &mut AnyConnection) -> Result<(), sqlx::Error> {
    let ms = DEADLINE.as_millis();
    let settings = match engine {
        // WAL: readers never wait for the writer. FULL: the journal lets go of what is applied here, so that must be on disk;
        // one sync per batch. SQLite waits half as long as we do, so that its own word arrives.
        Engine::Sqlite => format!(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; PRAGMA busy_timeout = {};",
            ms / 2
        ),
        Engine::Postgres => format!(
            "SET statement_timeout = {ms}; SET lock_timeout = {}; SET idle_in_transaction_session_timeout = {}; SET application_name = 'lyceum';",
            ms / 2,
            3 * ms
        ),
    };
    connection.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(settings))).await?;
    Ok(())
}
