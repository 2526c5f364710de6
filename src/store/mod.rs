//! The store: SQLite or Postgres, filled from the journal in order, asked by the API and the webhook deliverer.
//!
//! Both engines have the same tables (`migrations/`) and get the same statements, with `$1` for parameters. Times are Unix ms.

use crate::journal::{NodeId, Record};

/// Why the store could not do something.
#[derive(Debug)]
pub(crate) enum StoreError {
    /// It cannot be reached or is too busy: try again.
    Away(String),
    /// It refuses what we say: a fault of ours, or of its data.
    Broken(String),
}

/// A database with our tables. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Store {}

impl Store {
    /// Applies records of one node in order, in one transaction: log, state, outbox. Those applied before are skipped.
    pub(crate) async fn apply(&self, node: &NodeId, records: &[Record]) -> Result<(), StoreError> {
        let _ = (node, records);
        Err(StoreError::Away("There is no store yet.".to_owned()))
    }
}
