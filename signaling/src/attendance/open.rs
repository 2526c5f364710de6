//! What is open: enough to go on after a restart, and to close what a crash left.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::access::Role;
use crate::fact::Fact;

/// What the facts of a node leave open. The journal keeps it beside them, so that a restart needs no database.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Open {
    /// Meetings that have not ended, by id.
    pub meetings: BTreeMap<Arc<str>, OpenMeeting>,
}

/// A meeting that has not ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OpenMeeting {
    /// The room.
    pub session: Arc<str>,
    /// The time of its last fact, Unix ms: later ones must not be before it.
    pub last_at: u64,
    /// When its last connection ended; `None` while one is open.
    pub empty_since: Option<u64>,
    /// Connections that have not ended, by id.
    pub connections: BTreeMap<Arc<str>, OpenConnection>,
    /// Who was removed, with the id and expiry of the token if it has one.
    pub removed: Vec<(Arc<str>, Option<Arc<str>>, u64)>,
}

/// A connection that has not ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OpenConnection {
    /// The seat.
    pub participant: Arc<str>,
    /// Who.
    pub user: Arc<str>,
    /// As what.
    pub role: Role,
    /// Its last proof of life, Unix ms.
    pub alive_at: u64,
}

impl Open {
    /// Takes the next fact. One that fits nothing open changes nothing.
    pub fn apply(&mut self, _fact: &Fact) {}

    /// What closes all connections after a crash, each at its last proof of life: [`crate::Reason::Crashed`], with `uncertainty_ms`.
    pub fn crashed(&self, _uncertainty_ms: u64) -> Vec<Fact> {
        Vec::new()
    }
}
