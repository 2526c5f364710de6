//! Rooms on several workers: where a newcomer's peer is placed, and what the workers of a room are told of each other.

use std::sync::Arc;

use sfu::{Request, RoomId, SNAPSHOT_PEERS_MAX, Snapshot, Workers};

use crate::Lobby;
use crate::api::{HttpId, Recipients, WorkerId};
use crate::code::ErrorCode;
use crate::limits::SNAPSHOTS_MAX;
use crate::room::Room;
use crate::seat::Seat;

/// What workers told of a room so far, and how many have not.
#[derive(Debug)]
pub(crate) struct Gathered {
    missing: usize,
    snapshot: Snapshot,
}

impl Room {
    /// Whether this worker's word on who speaks is written down: that of one of them is.
    pub(crate) fn speaks_for_all(&self, worker: WorkerId) -> bool {
        !self.is_spread() || self.first_worker() == worker
    }

    /// Whom a worker tells who speaks: those whose peers it has. One of the workers tells those without a peer, too.
    pub(crate) fn sockets_at(&self, worker: WorkerId) -> Recipients {
        if !self.is_spread() {
            return self.sockets(None);
        }
        let first = self.first_worker();
        let is_told = |seat: &&Seat| seat.peer.as_ref().map_or(first, |peer| peer.worker) == worker;
        Recipients::Many(self.seats.values().filter(is_told).filter_map(|seat| seat.socket).collect())
    }

    fn is_spread(&self) -> bool {
        self.spread.len() > 1
    }

    /// Its home while that has peers of it.
    fn first_worker(&self) -> WorkerId {
        let others = self.spread.keys().next().copied();
        if self.spread.contains_key(&self.worker) { self.worker } else { others.unwrap_or(self.worker) }
    }
}

impl Lobby {
    /// Where the next peer of a room is placed: at home while there is place, else where it is already, else on the worker
    /// that carries least.
    pub(crate) fn worker_for(&self, room: RoomId) -> WorkerId {
        let Some(room) = self.rooms.get(&room) else { return WorkerId(0) };
        let home = room.worker;
        let has = |worker: &WorkerId| room.spread.get(worker).copied().unwrap_or(0);
        if self.spread_at == 0 || has(&home) < self.spread_at {
            return home;
        }
        if let Some((worker, _)) = room.spread.iter().find(|(_, peers)| **peers < self.spread_at) {
            return *worker;
        }
        let all = (0..self.workers.len().min(Workers::MAX)).map(WorkerId);
        // With all of them in use they fill evenly.
        all.min_by_key(|worker| (has(worker), self.workers[worker.0])).unwrap_or(home)
    }

    /// A worker has been asked to let a peer in. The others of its room are told if they do not know of it yet. The worker is told
    /// of them each time: with its last peer it forgets the room, which may not be known here yet.
    pub(crate) fn peer_came(&mut self, room: RoomId, worker: WorkerId) {
        self.workers[worker.0].peers += 1;
        let Some(live) = self.rooms.get_mut(&room) else { return };
        let peers = live.spread.entry(worker).or_default();
        *peers += 1;
        let is_first = *peers == 1;
        if !live.is_spread() {
            return;
        }
        if is_first {
            return self.tell_spread(room);
        }
        let others = live.spread.keys().filter(|other| **other != worker).map(|other| other.0).collect();
        self.request(worker, Request::Spread { room, others });
    }

    /// A worker has lost a peer. The others of its room are told if that was its last.
    pub(crate) fn peer_went(&mut self, room: RoomId, worker: WorkerId) {
        self.workers[worker.0].peers -= 1;
        let Some(live) = self.rooms.get_mut(&room) else { return };
        let Some(peers) = live.spread.get_mut(&worker) else { return };
        *peers -= 1;
        if *peers == 0 {
            let was_spread = live.is_spread();
            live.spread.remove(&worker);
            if was_spread {
                self.request(worker, Request::Spread { room, others: Workers::default() });
                self.tell_spread(room);
            }
        }
    }

    fn tell_spread(&mut self, room: RoomId) {
        let Some(live) = self.rooms.get(&room) else { return };
        let workers: Vec<WorkerId> = live.spread.keys().copied().collect();
        let all: Workers = workers.iter().map(|worker| worker.0).collect();
        for worker in workers {
            self.request(worker, Request::Spread { room, others: all.without(worker.0) });
        }
    }

    /// Asks all workers of a room how its media flows.
    pub(crate) fn ask_snapshot(&mut self, room: RoomId, only: Option<Arc<str>>, ticket: u64) {
        let Some(live) = self.rooms.get(&room) else { return };
        let workers: Vec<WorkerId> = match live.is_spread() {
            true => live.spread.keys().copied().collect(),
            false => vec![live.first_worker()],
        };
        if workers.len() > 1 {
            if self.snapshots.len() >= SNAPSHOTS_MAX {
                let why = "Too many questions like this are open: ask again in a moment.";
                return self.reply_http(HttpId(ticket), Err(ErrorCode::Overloaded.because(why)));
            }
            self.snapshots.insert(ticket, Gathered { missing: workers.len(), snapshot: Snapshot::default() });
        }
        for worker in workers {
            self.request(worker, Request::Snapshot { room, only: only.clone(), ticket });
        }
    }

    /// A worker's part of what was asked.
    pub(crate) fn gather_snapshot(&mut self, ticket: u64, part: Snapshot) {
        let Some(gathered) = self.snapshots.get_mut(&ticket) else { return self.tell_snapshot(ticket, &part) };
        gathered.missing -= 1;
        let all = &mut gathered.snapshot;
        all.truncated |= part.truncated || all.peers.len() + part.peers.len() > SNAPSHOT_PEERS_MAX;
        all.peers.extend(part.peers);
        all.peers.truncate(SNAPSHOT_PEERS_MAX);
        all.elsewhere.extend(part.elsewhere);
        if gathered.missing > 0 {
            return;
        }
        let Some(Gathered { mut snapshot, .. }) = self.snapshots.remove(&ticket) else { return };
        for track in snapshot.peers.iter_mut().flat_map(|peer| &mut peer.tracks) {
            let elsewhere = snapshot.elsewhere.iter().filter(|(id, _)| *id == track.track);
            track.subscribers += elsewhere.map(|(_, subscribers)| subscribers).sum::<usize>();
        }
        self.tell_snapshot(ticket, &snapshot);
    }
}
