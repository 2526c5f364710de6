//! The journal: every fact is on local disk before anybody is told of it, and the store is filled from here alone.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use signaling::Fact;

/// One fact as the journal keeps it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// Ascending over all boots of this node, without gaps, from 1.
    pub(crate) index: u64,
    /// Which boot of this node: ascending, from 1.
    pub(crate) boot: u64,
    /// Monotonic time since that boot, ms.
    pub(crate) mono_ms: u64,
    /// What the wall clock said, Unix ms.
    pub(crate) wall_ms: u64,
    /// What happened.
    pub(crate) fact: Fact,
}

/// Who writes a journal: `node_id`, kept in its directory.
pub(crate) type NodeId = Arc<str>;
