//! A room: its peers, and whose turn it is to be sent to.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::RoomId;
use crate::floor::Floor;
use crate::pipe::Workers;
use crate::speakers::Told;

/// How often the speakers of a room are looked at.
pub(crate) const SPEAKERS_INTERVAL: Duration = Duration::from_millis(300);

/// See the module.
#[derive(Debug)]
pub(crate) struct Room {
    pub(crate) id: RoomId,
    pub(crate) peers: Vec<usize>,
    /// Peers with audio to be sent, then those with video: audio goes first.
    pub(crate) ready_audio: VecDeque<usize>,
    pub(crate) ready_video: VecDeque<usize>,
    /// It stands in the queue of rooms.
    pub(crate) ready: bool,
    /// Who spoke when it was last said.
    pub(crate) told: Told,
    /// Whose audio is forwarded.
    pub(crate) floor: Floor,
    /// When the speakers are looked at next; `None` while nobody is heard.
    pub(crate) speakers_due: Option<Instant>,
    /// The other workers that have peers of it.
    pub(crate) others: Workers,
}

impl Room {
    pub(crate) fn new(id: RoomId) -> Self {
        Room {
            id,
            peers: Vec::new(),
            ready_audio: VecDeque::new(),
            ready_video: VecDeque::new(),
            ready: false,
            told: Told::default(),
            floor: Floor::default(),
            speakers_due: None,
            others: Workers::default(),
        }
    }

    /// Removes a peer from every list.
    pub(crate) fn forget(&mut self, peer: usize) {
        self.peers.retain(|p| *p != peer);
        self.ready_audio.retain(|p| *p != peer);
        self.ready_video.retain(|p| *p != peer);
    }
}
