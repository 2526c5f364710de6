//! What must not leave before a fact is on disk: acks of joins with all that follows to their socket; other acks by themselves; and
//! replies, of which there are as many as HTTP requests that wait.

use std::collections::{BTreeMap, HashMap, VecDeque};

use signaling::{FactId, SocketId};

/// Messages to one socket that wait, the first of them an ack; and as many acks that wait by themselves. When full, the socket is
/// disconnected as if it did not read.
pub(crate) const HELD_MAX: usize = 1_024;

/// Messages `M` to sockets and replies `R`, until their facts are committed.
pub(crate) struct Held<M, R> {
    /// The last fact on disk.
    committed: FactId,
    /// What waits for each socket, in order, with the fact that must come before.
    sockets: HashMap<SocketId, VecDeque<(FactId, M)>>,
    /// Acks that wait by themselves, in order, each with its fact.
    acks: HashMap<SocketId, VecDeque<(FactId, M)>>,
    /// By the fact that they wait for: each socket at most once, for the first of its messages; each reply once; and each socket once
    /// that has acks for it.
    waiting: BTreeMap<FactId, Vec<Waiting<R>>>,
}

enum Waiting<R> {
    Socket(SocketId),
    Acks(SocketId),
    Reply(R),
}

/// What becomes of a message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Passed<M> {
    /// It may leave.
    Now(M),
    /// It waits.
    Later,
    /// Too much waits for its socket already.
    Full,
}

/// What may leave.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Freed<M, R> {
    /// To a socket.
    Message(SocketId, M),
    /// An ack that waited by itself, to a socket.
    Ack(SocketId, M),
    /// A reply.
    Reply(R),
}

impl<M, R> Held<M, R> {
    pub(crate) fn new() -> Self {
        Held { committed: FactId(0), sockets: HashMap::new(), acks: HashMap::new(), waiting: BTreeMap::new() }
    }

    /// A message wants to leave, but not before the fact `after`, and not before what already waits for its socket.
    pub(crate) fn pass(&mut self, socket: SocketId, message: M, after: Option<FactId>) -> Passed<M> {
        let after = after.unwrap_or_default();
        if let Some(queue) = self.sockets.get_mut(&socket) {
            if queue.len() >= HELD_MAX {
                return Passed::Full;
            }
            queue.push_back((after, message));
            return Passed::Later;
        }
        if after <= self.committed {
            return Passed::Now(message);
        }
        self.sockets.insert(socket, VecDeque::from([(after, message)]));
        self.waiting.entry(after).or_default().push(Waiting::Socket(socket));
        Passed::Later
    }

    /// The same of an ack that waits for its fact alone: what already waits for its socket may leave before or after it.
    pub(crate) fn pass_ack(&mut self, socket: SocketId, ack: M, after: Option<FactId>) -> Passed<M> {
        let Some(after) = after.filter(|after| *after > self.committed) else { return Passed::Now(ack) };
        let acks = self.acks.entry(socket).or_default();
        if acks.len() >= HELD_MAX {
            return Passed::Full;
        }
        if acks.iter().all(|(fact, _)| *fact != after) {
            self.waiting.entry(after).or_default().push(Waiting::Acks(socket));
        }
        acks.push_back((after, ack));
        Passed::Later
    }

    /// The same of a reply, which is given back if it may leave.
    pub(crate) fn pass_reply(&mut self, reply: R, after: Option<FactId>) -> Option<R> {
        match after.filter(|after| *after > self.committed) {
            Some(after) => self.waiting.entry(after).or_default().push(Waiting::Reply(reply)),
            None => return Some(reply),
        }
        None
    }

    /// A fact is on disk, and all before it: what may leave now, in order.
    pub(crate) fn commit(&mut self, fact: FactId) -> Vec<Freed<M, R>> {
        self.committed = self.committed.max(fact);
        let mut freed = Vec::new();
        while let Some(first) = self.waiting.first_entry().filter(|first| *first.key() <= self.committed) {
            for waiting in first.remove() {
                match waiting {
                    Waiting::Socket(socket) => self.free(socket, &mut freed),
                    Waiting::Acks(socket) => self.free_acks(socket, &mut freed),
                    Waiting::Reply(reply) => freed.push(Freed::Reply(reply)),
                }
            }
        }
        freed
    }

    /// What waits for a socket, up to what must wait for a later fact.
    fn free(&mut self, socket: SocketId, freed: &mut Vec<Freed<M, R>>) {
        let Some(queue) = self.sockets.get_mut(&socket) else { return };
        while let Some((_, message)) = queue.pop_front_if(|(after, _)| *after <= self.committed) {
            freed.push(Freed::Message(socket, message));
        }
        match queue.front() {
            Some((after, _)) => self.waiting.entry(*after).or_default().push(Waiting::Socket(socket)),
            None => drop(self.sockets.remove(&socket)),
        }
    }

    /// What waits for a socket by itself, and need not any more.
    fn free_acks(&mut self, socket: SocketId, freed: &mut Vec<Freed<M, R>>) {
        let Some(acks) = self.acks.remove(&socket) else { return };
        let (may, wait): (VecDeque<_>, VecDeque<_>) = acks.into_iter().partition(|(after, _)| *after <= self.committed);
        freed.extend(may.into_iter().map(|(_, ack)| Freed::Ack(socket, ack)));
        if !wait.is_empty() {
            self.acks.insert(socket, wait);
        }
    }

    /// How much waits for the socket for which most does, of [`HELD_MAX`].
    pub(crate) fn most(&self) -> usize {
        self.sockets.values().chain(self.acks.values()).map(VecDeque::len).max().unwrap_or(0)
    }

    /// A socket is gone: nothing waits for it any more.
    pub(crate) fn forget(&mut self, socket: SocketId) {
        self.sockets.remove(&socket);
        self.acks.remove(&socket);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: SocketId = SocketId(1);
    const B: SocketId = SocketId(2);

    fn fact(id: u64) -> Option<FactId> {
        Some(FactId(id))
    }

    #[test]
    fn what_follows_an_ack_waits_with_it_and_keeps_its_order() {
        let mut held: Held<&str, &str> = Held::new();
        assert_eq!(held.pass(A, "before", None), Passed::Now("before"));
        assert_eq!(held.pass(A, "ack", fact(2)), Passed::Later);
        assert_eq!(held.pass(A, "news", None), Passed::Later);
        assert_eq!(held.pass(A, "later ack", fact(4)), Passed::Later);
        assert_eq!(held.pass(A, "more news", fact(1)), Passed::Later);
        assert_eq!(held.pass(B, "news", None), Passed::Now("news"), "others do not wait");
        assert_eq!(held.pass(B, "ack", fact(3)), Passed::Later);
        assert_eq!(held.commit(FactId(1)), []);
        assert_eq!(
            held.commit(FactId(3)),
            [Freed::Message(A, "ack"), Freed::Message(A, "news"), Freed::Message(B, "ack")]
        );
        assert_eq!(held.pass(B, "again", fact(3)), Passed::Now("again"));
        assert_eq!(held.pass(A, "behind", None), Passed::Later);
        let rest = ["later ack", "more news", "behind"].map(|message| Freed::Message(A, message));
        assert_eq!(held.commit(FactId(9)), rest);
        assert!(held.sockets.is_empty() && held.waiting.is_empty());
    }

    #[test]
    fn replies_wait_for_their_own_fact_alone() {
        let mut held: Held<&str, &str> = Held::new();
        assert_eq!(held.pass_reply("at once", None), Some("at once"));
        assert_eq!(held.pass_reply("first", fact(1)), None);
        assert_eq!(held.pass_reply("second", fact(2)), None);
        assert_eq!(held.commit(FactId(1)), [Freed::Reply("first")]);
        assert_eq!(held.pass_reply("known", fact(1)), Some("known"));
        assert_eq!(held.commit(FactId(2)), [Freed::Reply("second")]);
    }

    #[test]
    fn acks_that_wait_by_themselves_are_bounded_and_end_with_their_socket() {
        let mut held: Held<usize, ()> = Held::new();
        assert_eq!(held.pass_ack(A, 0, None), Passed::Now(0));
        assert!((0..HELD_MAX).all(|n| held.pass_ack(A, n, fact(1)) == Passed::Later));
        assert_eq!(held.pass_ack(A, HELD_MAX, fact(1)), Passed::Full);
        assert_eq!(held.pass(A, 7, None), Passed::Now(7), "others pass them");
        assert_eq!(held.pass_ack(B, 2, fact(2)), Passed::Later);
        assert_eq!(held.pass_ack(B, 1, fact(1)), Passed::Later);
        held.forget(A);
        assert_eq!(held.commit(FactId(1)), [Freed::Ack(B, 1)]);
        assert_eq!(held.pass_ack(B, 1, fact(1)), Passed::Now(1));
        assert_eq!(held.commit(FactId(2)), [Freed::Ack(B, 2)]);
        assert!(held.acks.is_empty() && held.waiting.is_empty());
    }

    #[test]
    fn what_waits_is_bounded_and_ends_with_its_socket() {
        let mut held: Held<usize, ()> = Held::new();
        assert!((0..HELD_MAX).all(|n| held.pass(A, n, fact(1)) == Passed::Later));
        assert_eq!((held.pass(A, HELD_MAX, None), held.most()), (Passed::Full, HELD_MAX));
        assert_eq!(held.pass(B, 0, fact(1)), Passed::Later);
        held.forget(A);
        assert_eq!(held.commit(FactId(1)), [Freed::Message(B, 0)]);
    }
}
