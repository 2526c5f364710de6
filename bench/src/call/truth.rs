//! What the tester's people really did, as they wrote it down themselves: what attendance is held against.

use serde::Serialize;

/// How a stay ended, as its client knows it. All times are Unix ms of the tester's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum End {
    /// It said that it leaves, and was told that it has left.
    Left {
        /// When it said so.
        sent: u64,
        /// When it was told.
        acked: u64,
    },
    /// Its connection ended without a word.
    Dropped {
        /// When.
        at: u64,
    },
    /// It has not ended.
    Open,
}

/// One join that was acknowledged, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Stay {
    /// Who.
    pub user: String,
    /// The session.
    pub session: String,
    /// The meeting's id, as the join was told.
    pub meeting: String,
    /// The participant's id, likewise.
    pub participant: String,
    /// It went on with the seat of the stay before.
    pub resumed: bool,
    /// When it asked to join.
    pub asked: u64,
    /// When it was told that it has.
    pub acked: u64,
    /// How it ended.
    pub end: End,
}
