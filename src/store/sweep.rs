//! Closes what nodes that are gone left open, whoever comes first.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use signaling::limits::CRASH_ERROR_MAX;
use signaling::{Fact, Now, Reason};
use sqlx::{AnyConnection, Row as _};

use super::apply::{Origin, left, seen};
use super::{Engine, Store, StoreError, in_time, int, meeting, nat, within};
use crate::journal::NodeId;

/// A node is gone when it has said nothing for so long. Sooner would close visits of a node whose network is slow; later leaves
/// rooms that a crash ended without their summary.
pub(crate) const SILENT_MAX: Duration = Duration::from_secs(60);
/// Rounds further apart than this are no watch: what was seen before counts for nothing.
const WATCH_GAP_MAX: Duration = Duration::from_secs(30);
/// Connections that one transaction closes, about a hundred statements; the next takes the others.
const CLOSED_PER_TURN: usize = 20;
/// How long the end of one meeting may take, of which a transaction makes one: its whole log is read. Longer would look to other nodes as
/// if we were gone.
const END_MAX: Duration = Duration::from_secs(40);
/// After so long a round begins no further transaction; the next goes on.
const ROUND_MAX: Duration = Duration::from_secs(5);

/// One node's watch over the others. It believes its own clock alone: a node is silent when its `seen_at` has not moved for
/// [`SILENT_MAX`] of ours, watched without a gap; so neither clocks that differ nor an outage of the store ever look like a node's
/// death.
#[derive(Debug)]
pub(crate) struct Sweeper {
    /// How long a meeting stays open with nobody there.
    empty_timeout: Duration,
    /// The last round that succeeded.
    last: Option<Instant>,
    /// The others, as many as ever wrote to this store.
    others: BTreeMap<String, Other>,
}

#[derive(Debug)]
struct Other {
    seen_at: i64,
    /// When that was new to us.
    since: Instant,
    /// It has nothing open any more.
    swept: bool,
}

/// What a round closed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Swept {
    /// Connections.
    pub(crate) connections: u64,
    /// Meetings.
    pub(crate) meetings: u64,
}

impl Sweeper {
    /// One that ends meetings when nobody has been there for `empty_timeout`, as nodes that live do.
    pub(crate) fn new(empty_timeout: Duration) -> Self {
        Sweeper { empty_timeout, last: None, others: BTreeMap::new() }
    }

    /// A round, about every ten seconds: says that `node` lives, looks at the others, and closes what the silent ones left open:
    /// connections at their last proof of life as `crashed`, meetings that are empty for long enough with their summary.
    /// After an error the next round tries again.
    pub(crate) async fn round(&mut self, store: &Store, node: &NodeId, now: Now) -> Result<Swept, StoreError> {
        if self.last.is_none_or(|last| now.mono.saturating_duration_since(last) > WATCH_GAP_MAX) {
            self.others.clear();
        }
        self.look(store.others(node, now.unix_ms).await?, now.mono);
        self.last = Some(now.mono);
        let empty_since_ms =
            now.unix_ms.saturating_sub(u64::try_from(self.empty_timeout.as_millis()).unwrap_or(u64::MAX));
        let begun = Instant::now();
        let mut swept = Swept::default();
        for (name, other) in &mut self.others {
            if other.swept || now.mono.saturating_duration_since(other.since) < SILENT_MAX {
                continue;
            }
            while begun.elapsed() < ROUND_MAX {
                let turn = store.sweep(node, (name, other.seen_at), now.unix_ms, empty_since_ms).await?;
                swept.connections += turn.closed.connections;
                swept.meetings += turn.closed.meetings;
                other.swept = turn.nothing_left;
                if turn.closed == Swept::default() {
                    break;
                }
            }
        }
        Ok(swept)
    }

    fn look(&mut self, others: Vec<(String, i64)>, now: Instant) {
        let mut before = std::mem::take(&mut self.others);
        for (name, seen_at) in others {
            let other = match before.remove(&name) {
                Some(other) if other.seen_at == seen_at => other,
                _ => Other { seen_at, since: now, swept: false },
            };
            self.others.insert(name, other);
        }
    }
}

/// What one transaction did.
struct Turn {
    closed: Swept,
    nothing_left: bool,
}

impl Store {
    /// Says that a node lives, at its own time.
    pub(crate) async fn seen(&self, node: &str, now_ms: u64) -> Result<(), StoreError> {
        in_time(async {
            let mut tx = self.write().await?;
            seen(&mut tx, node, now_ms).await?;
            Ok(tx.commit().await?)
        })
        .await
    }

    /// Says that `node` lives, and gives the others with what they said last.
    async fn others(&self, node: &str, now_ms: u64) -> Result<Vec<(String, i64)>, StoreError> {
        self.seen(node, now_ms).await?;
        in_time(async {
            let rows = sqlx::query("SELECT node_id, seen_at FROM nodes WHERE node_id <> $1")
                .bind(node)
                .fetch_all(self.read().await?)
                .await?;
            rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
        })
        .await
    }

    /// Closes some of what a silent node left open. Its row is locked meanwhile: should it speak again, or another node
    /// sweep it too, one of us waits or goes without, and finds the work done.
    async fn sweep(
        &self,
        node: &str,
        (other, seen_at): (&str, i64),
        now_ms: u64,
        empty_since_ms: u64,
    ) -> Result<Turn, StoreError> {
        within(END_MAX, async {
            let mut tx = self.write().await?;
            let still = match self.engine() {
                Engine::Postgres => "SELECT 1 FROM nodes WHERE node_id = $1 AND seen_at = $2 FOR UPDATE SKIP LOCKED",
                Engine::Sqlite => "SELECT 1 FROM nodes WHERE node_id = $1 AND seen_at = $2",
            };
            if sqlx::query(still).bind(other).bind(seen_at).fetch_optional(&mut *tx).await?.is_none() {
                return Ok(Turn { closed: Swept::default(), nothing_left: false });
            }
            let origin = Origin { node, boot: 0, index: 0, mono_ms: 0, wall_ms: now_ms };
            let connections = close_connections(&mut tx, &origin, other).await?;
            let meetings = if connections == 0 { end_one(&mut tx, &origin, other, empty_since_ms).await? } else { 0 };
            let open = sqlx::query(
                "SELECT 1 FROM connections WHERE node_id = $1 AND ended_at IS NULL
                 UNION ALL SELECT 1 FROM meetings WHERE node_id = $1 AND (ended_at IS NULL OR last_seq > summary_seq) LIMIT 1",
            )
            .bind(other)
            .fetch_optional(&mut *tx)
            .await?;
            tx.commit().await?;
            Ok(Turn { closed: Swept { connections, meetings }, nothing_left: open.is_none() })
        })
        .await
    }
}

async fn close_connections(connection: &mut AnyConnection, origin: &Origin<'_>, node: &str) -> Result<u64, StoreError> {
    let rows = sqlx::query(
        "SELECT connection_id, meeting_id, alive_at FROM connections WHERE node_id = $1 AND ended_at IS NULL
         ORDER BY meeting_id, started_at, connection_id LIMIT $2",
    )
    .bind(node)
    .bind(int(CLOSED_PER_TURN as u64))
    .fetch_all(&mut *connection)
    .await?;
    let uncertainty_ms = u64::try_from(CRASH_ERROR_MAX.as_millis()).unwrap_or(u64::MAX);
    for row in &rows {
        let (id, meeting, alive_at): (String, String, i64) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        let fact = Fact::Left {
            meeting: meeting.into(),
            connection: id.into(),
            at: nat(alive_at),
            reason: Reason::Crashed,
            uncertainty_ms,
        };
        left(connection, origin, &fact).await?;
    }
    Ok(rows.len() as u64)
}

/// Ends one meeting in which nobody has been since then, if there is one: how many that are. The shortest first, so that one that takes
/// too long keeps nobody waiting.
async fn end_one(
    connection: &mut AnyConnection,
    origin: &Origin<'_>,
    node: &str,
    empty_since_ms: u64,
) -> Result<u64, StoreError> {
    let row = sqlx::query(
        "SELECT meeting_id, COALESCE(last_left_at, started_at) FROM meetings
         WHERE node_id = $1 AND (ended_at IS NULL OR last_seq > summary_seq) AND COALESCE(last_left_at, started_at) <= $2
           AND NOT EXISTS (SELECT 1 FROM connections WHERE connections.meeting_id = meetings.meeting_id AND connections.ended_at IS NULL)
         ORDER BY last_seq, meeting_id LIMIT 1",
    )
    .bind(node)
    .bind(int(empty_since_ms))
    .fetch_optional(&mut *connection)
    .await?;
    let Some(row) = row else { return Ok(0) };
    let (id, at): (String, i64) = (row.try_get(0)?, row.try_get(1)?);
    meeting::end(connection, origin, &id, nat(at)).await?;
    Ok(1)
}
