//! What goes out on an association: fragments, their acknowledgement, repetition or abandonment, and how many may fly
//! (RFC 9260 §6 and §7, RFC 3758).

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::wire::{self, BEGIN, DATA_HEADER_BYTES, END, HEADER_BYTES, PACKET_BYTES_MAX, UNORDERED};
use super::{LOSSY_BYTES_MAX, OVERHEAD_BYTES, SEND_BYTES_MAX};

/// Payload of a DATA chunk that fills a packet.
const FRAGMENT_BYTES_MAX: usize = PACKET_BYTES_MAX - HEADER_BYTES - DATA_HEADER_BYTES;
/// Bytes that may fly at first, as RFC 6928 has it for TCP, and what is left after a loss that only a timer noticed.
const WINDOW_BYTES_MIN: usize = PACKET_BYTES_MAX;
const WINDOW_BYTES_FIRST: usize = 10 * PACKET_BYTES_MAX;
/// Bytes that fly at most: data shall not fill queues that media needs.
const WINDOW_BYTES_MAX: usize = 256 << 10;
/// Later packets that arrive before a fragment is taken for lost (RFC 9260 §7.2.4).
const REORDER_MAX: u8 = 3;
const RTO_FIRST: Duration = Duration::from_millis(500);
const RTO_MIN: Duration = Duration::from_millis(250);
const RTO_MAX: Duration = Duration::from_secs(5);
/// A peer that acknowledges nothing new for so long while something waits for it reads no more, however it says so: with
/// silence, or with a window of zero.
pub(super) const STALL_MAX: Duration = Duration::from_secs(30);
/// Streams named in one FORWARD-TSN. Were there more, the receiver would wait for what was given up on the others, so
/// no more TSNs are given up at once.
const FORWARD_STREAMS_MAX: usize = 64;

/// How hard a message is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reliability {
    /// Until it has come.
    Reliable,
    /// So many repetitions of each fragment.
    Resends(u32),
    /// For so long.
    Lifetime(Duration),
}

/// A message to be sent.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) stream: u16,
    pub(super) protocol: u32,
    pub(super) ordered: bool,
    pub(super) reliability: Reliability,
    pub(super) bytes: Arc<[u8]>,
    pub(super) queued_at: Instant,
}

impl Message {
    fn cost(&self) -> usize {
        self.bytes.len() + OVERHEAD_BYTES
    }

    fn is_given_up(&self, resends: u32, now: Instant) -> bool {
        match self.reliability {
            Reliability::Reliable => false,
            Reliability::Resends(most) => resends >= most,
            Reliability::Lifetime(most) => now.saturating_duration_since(self.queued_at) > most,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Flying,
    Acknowledged,
    Lost,
    Abandoned,
}

/// A fragment that has a TSN.
#[derive(Debug)]
struct Sent {
    message: Arc<Message>,
    ssn: u16,
    start: usize,
    end: usize,
    state: State,
    resends: u32,
    overtaken: u8,
    sent_at: Instant,
}

impl Sent {
    fn len(&self) -> usize {
        self.end - self.start
    }

    fn ends(&self) -> bool {
        self.end == self.message.bytes.len()
    }

    fn flags(&self) -> u8 {
        let begin = if self.start == 0 { BEGIN } else { 0 };
        let end = if self.ends() { END } else { 0 };
        begin | end | if self.message.ordered { 0 } else { UNORDERED }
    }
}

/// The message whose fragments get TSNs now.
#[derive(Debug)]
struct Head {
    message: Arc<Message>,
    ssn: u16,
    start: usize,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Outbound {
    /// The last TSN up to which all is acknowledged.
    acknowledged: u32,
    /// Those behind it.
    sent: VecDeque<Sent>,
    head: Option<Head>,
    queue: VecDeque<Arc<Message>>,
    /// What `sent`, `head` and `queue` cost.
    buffered: usize,
    flying: usize,
    lost: usize,
    /// The next sequence number of each ordered stream that was sent on; as many as channels.
    ssns: BTreeMap<u16, u16>,
    window: usize,
    threshold: usize,
    acknowledged_in_window: usize,
    recovers_until: Option<u32>,
    /// What the peer still takes.
    peer_window: usize,
    round_trip: Option<(Duration, Duration)>,
    rto: Duration,
    /// When the oldest flying fragment is taken for lost.
    timer: Option<Instant>,
    progress_at: Instant,
    /// The peer knows FORWARD-TSN, and one is due.
    may_forward: bool,
    forward_due: bool,
    forwarded: u32,
}

impl Outbound {
    /// `first` is our initial TSN; `peer_window` and `may_forward` are what the peer's INIT said.
    pub(super) fn new(first: u32, peer_window: u32, may_forward: bool, now: Instant) -> Self {
        Outbound {
            acknowledged: first.wrapping_sub(1),
            sent: VecDeque::new(),
            head: None,
            queue: VecDeque::new(),
            buffered: 0,
            flying: 0,
            lost: 0,
            ssns: BTreeMap::new(),
            window: WINDOW_BYTES_FIRST,
            threshold: WINDOW_BYTES_MAX,
            acknowledged_in_window: 0,
            recovers_until: None,
            peer_window: peer_window as usize,
            round_trip: None,
            rto: RTO_FIRST,
            timer: None,
            progress_at: now,
            may_forward,
            forward_due: false,
            forwarded: first.wrapping_sub(1),
        }
    }

    /// The TSN that is given out next.
    pub(super) fn next_tsn(&self) -> u32 {
        self.acknowledged.wrapping_add(1).wrapping_add(self.sent.len() as u32)
    }

    /// Whether a message would still fit.
    pub(super) fn has_room(&self, bytes: usize, reliability: Reliability) -> bool {
        let most = if reliability == Reliability::Reliable { SEND_BYTES_MAX } else { LOSSY_BYTES_MAX };
        self.buffered + bytes + OVERHEAD_BYTES <= most
    }

    pub(super) fn push(&mut self, message: Message) {
        if self.is_idle() {
            self.progress_at = message.queued_at;
        }
        self.buffered += message.cost();
        self.queue.push_back(Arc::new(message));
    }

    /// Nothing waits or flies.
    pub(super) fn is_idle(&self) -> bool {
        self.sent.is_empty() && self.head.is_none() && self.queue.is_empty()
    }

    /// Nothing of a stream waits to get a TSN.
    pub(super) fn has_sent_all(&self, stream: u16) -> bool {
        self.head.as_ref().is_none_or(|head| head.message.stream != stream)
            && self.queue.iter().all(|message| message.stream != stream)
    }

    /// Forgets what waits for a stream that is closed. A message that has begun is sent to its end.
    pub(super) fn forget(&mut self, stream: u16) {
        let buffered = &mut self.buffered;
        self.queue.retain(|message| {
            let stays = message.stream != stream;
            *buffered -= if stays { 0 } else { message.cost() };
            stays
        });
    }

    /// A stream was reset: its numbering begins anew (RFC 6525 §5.2.2).
    pub(super) fn restart(&mut self, stream: u16) {
        self.ssns.remove(&stream);
    }

    /// Whether the peer has stopped taking anything.
    pub(super) fn is_stalled(&self, now: Instant) -> bool {
        !self.is_idle() && now.saturating_duration_since(self.progress_at) >= STALL_MAX
    }

    /// When [`Outbound::tick`] or [`Outbound::write`] has something to do; `now` stands for at once.
    pub(super) fn deadline(&self, now: Instant) -> Option<Instant> {
        let next = self.next_len();
        if self.forward_due || self.lost > 0 && self.may_fly() || next.is_some_and(|len| self.may_send(len)) {
            return Some(now);
        }
        let stall = (!self.is_idle()).then(|| self.progress_at + STALL_MAX);
        [self.timer, stall].into_iter().flatten().min()
    }

    /// Nothing is counted that is not there.
    #[cfg(test)]
    pub(super) fn assert_empty(&self) {
        assert_eq!((self.buffered, self.flying, self.lost), (0, 0, 0));
    }

    fn next_len(&self) -> Option<usize> {
        let rest = match &self.head {
            Some(head) => head.message.bytes.len() - head.start,
            None => self.queue.front()?.bytes.len(),
        };
        Some(rest.min(FRAGMENT_BYTES_MAX))
    }

    fn may_fly(&self) -> bool {
        self.flying < self.window
    }

    /// One fragment may fly whatever the peer's window is: it finds out when that opens (RFC 9260 §6.1 A).
    fn may_send(&self, len: usize) -> bool {
        self.lost == 0 && (self.flying == 0 || self.may_fly() && len <= self.peer_window)
    }

    /// Takes a SACK: all up to `cumulative` has come, and of what is behind it `gaps`, which are distances from it.
    pub(super) fn acknowledge(
        &mut self,
        cumulative: u32,
        peer_window: u32,
        gaps: impl Iterator<Item = (u16, u16)>,
        now: Instant,
    ) {
        let advance = cumulative.wrapping_sub(self.acknowledged) as i32;
        if advance < 0 || advance as usize > self.sent.len() {
            return;
        }
        let was_full = self.flying + PACKET_BYTES_MAX > self.window;
        let flew = self.flying;
        for _ in 0..advance {
            self.pop_acknowledged(now);
        }
        self.acknowledge_gaps(gaps, now);
        if self.recovers_until.is_some_and(|until| self.acknowledged.wrapping_sub(until) as i32 >= 0) {
            self.recovers_until = None;
        }
        if advance > 0 {
            if was_full && self.recovers_until.is_none() {
                self.grow(flew.saturating_sub(self.flying));
            }
            self.progress_at = now;
            self.timer = None;
        }
        if self.sent.is_empty() {
            self.timer = None;
        } else if self.timer.is_none() {
            self.timer = Some(now + self.rto);
        }
        self.peer_window = (peer_window as usize).saturating_sub(self.flying);
        let abandoned = self.abandoned_end();
        self.forward_due = abandoned != self.forwarded && abandoned != self.acknowledged;
    }

    fn pop_acknowledged(&mut self, now: Instant) {
        let Some(sent) = self.sent.pop_front() else { return };
        self.acknowledged = self.acknowledged.wrapping_add(1);
        match sent.state {
            State::Flying => {
                self.flying -= sent.len();
                if sent.resends == 0 {
                    self.measure(now.saturating_duration_since(sent.sent_at));
                }
            }
            State::Lost => self.lost -= 1,
            State::Acknowledged | State::Abandoned => {}
        }
        self.buffered -= sent.len() + if sent.ends() { OVERHEAD_BYTES } else { 0 };
    }

    fn acknowledge_gaps(&mut self, gaps: impl Iterator<Item = (u16, u16)>, now: Instant) {
        // Gaps in any other order than the one they must have could cost their number times what flies.
        let mut next = 0;
        let mut newest = None;
        for (first, last) in gaps {
            let (first, end) = (usize::from(first).saturating_sub(1), usize::from(last).min(self.sent.len()));
            if first < next || first >= end {
                break;
            }
            next = end;
            for (index, sent) in self.sent.range_mut(first..end).enumerate() {
                match sent.state {
                    State::Flying => {
                        self.flying -= sent.len();
                        newest = Some(first + index);
                    }
                    State::Lost => self.lost -= 1,
                    State::Acknowledged | State::Abandoned => continue,
                }
                sent.state = State::Acknowledged;
            }
        }
        let mut any = false;
        for index in 0..newest.unwrap_or(0) {
            let sent = &mut self.sent[index];
            // What was repeated once is not taken for lost again by what overtook its first sending.
            if sent.state != State::Flying || sent.resends > 0 {
                continue;
            }
            sent.overtaken += 1;
            if sent.overtaken == REORDER_MAX {
                any = true;
                self.lose(index, now);
            }
        }
        if any && self.recovers_until.is_none() {
            self.threshold = (self.window / 2).max(4 * PACKET_BYTES_MAX);
            (self.window, self.acknowledged_in_window) = (self.threshold, 0);
            self.recovers_until = Some(self.next_tsn().wrapping_sub(1));
        }
    }

    /// RFC 9260 §7.2.1 and §7.2.2.
    fn grow(&mut self, bytes: usize) {
        if self.window <= self.threshold {
            self.window += bytes.min(2 * PACKET_BYTES_MAX);
        } else {
            self.acknowledged_in_window += bytes;
            if self.acknowledged_in_window >= self.window {
                self.acknowledged_in_window -= self.window;
                self.window += PACKET_BYTES_MAX;
            }
        }
        self.window = self.window.min(WINDOW_BYTES_MAX);
    }

    /// RFC 9260 §6.3.1.
    fn measure(&mut self, sample: Duration) {
        let (smooth, variance) = match self.round_trip {
            None => (sample, sample / 2),
            Some((smooth, variance)) => ((smooth * 7 + sample) / 8, (variance * 3 + smooth.abs_diff(sample)) / 4),
        };
        self.round_trip = Some((smooth, variance));
        self.rto = (smooth + variance * 4).clamp(RTO_MIN, RTO_MAX);
    }

    /// A flying fragment is lost: it is repeated, or its message given up.
    fn lose(&mut self, index: usize, now: Instant) {
        let sent = &mut self.sent[index];
        self.flying -= sent.len();
        sent.state = State::Lost;
        self.lost += 1;
        if self.may_forward && sent.message.is_given_up(sent.resends, now) {
            self.abandon(index);
        }
    }

    /// Gives up the whole message of a fragment (RFC 3758 §3.5 A3).
    fn abandon(&mut self, index: usize) {
        let message = self.sent[index].message.clone();
        let same = |sent: &Sent| Arc::ptr_eq(&sent.message, &message);
        let first = (0..=index).rev().take_while(|i| same(&self.sent[*i])).last().unwrap_or(index);
        for sent in self.sent.range_mut(first..).take_while(|sent| same(sent)) {
            match sent.state {
                State::Flying => self.flying -= sent.len(),
                State::Lost => self.lost -= 1,
                State::Acknowledged | State::Abandoned => {}
            }
            sent.state = State::Abandoned;
        }
        if let Some(head) = self.head.take_if(|head| Arc::ptr_eq(&head.message, &message)) {
            // The rest gets a TSN that is never sent, so that there is one to forward the peer beyond.
            let (start, end) = (head.start, message.bytes.len());
            let (ssn, sent_at) = (head.ssn, message.queued_at);
            let state = State::Abandoned;
            self.sent.push_back(Sent { message, ssn, start, end, state, resends: 0, overtaken: 0, sent_at });
        }
        if self.abandoned_end() != self.acknowledged {
            self.forward_due = true;
        }
    }

    /// The TSN up to which all is acknowledged or given up.
    fn abandoned_end(&self) -> u32 {
        let run = self.sent.iter().take_while(|sent| sent.state == State::Abandoned).count();
        self.acknowledged.wrapping_add(run as u32)
    }

    /// Does what is due: takes all that flies for lost when nothing was acknowledged in time (RFC 9260 §6.3.3).
    pub(super) fn tick(&mut self, now: Instant) {
        if self.timer.is_none_or(|due| due > now) {
            return;
        }
        self.timer = None;
        self.rto = (self.rto * 2).min(RTO_MAX);
        self.threshold = (self.window / 2).max(4 * PACKET_BYTES_MAX);
        (self.window, self.acknowledged_in_window, self.recovers_until) = (WINDOW_BYTES_MIN, 0, None);
        for index in 0..self.sent.len() {
            if self.sent[index].state == State::Flying {
                self.lose(index, now);
            }
        }
        self.forward_due = self.abandoned_end() != self.acknowledged;
    }

    /// Appends what may be sent to a packet; whether there was anything.
    pub(super) fn write(&mut self, out: &mut Vec<u8>, now: Instant) -> bool {
        let before = out.len();
        if std::mem::take(&mut self.forward_due) {
            self.write_forward(out);
        }
        if self.lost > 0 {
            self.write_lost(out, now);
        }
        while self.write_next(out, now) {}
        let any = out.len() > before;
        if any && self.timer.is_none() {
            self.timer = Some(now + self.rto);
        }
        any
    }

    /// RFC 3758 §3.2.
    fn write_forward(&mut self, out: &mut Vec<u8>) {
        let mut streams: BTreeMap<u16, u16> = BTreeMap::new();
        let mut end = self.acknowledged;
        for sent in self.sent.iter().take_while(|sent| sent.state == State::Abandoned) {
            if sent.message.ordered {
                if streams.len() == FORWARD_STREAMS_MAX && !streams.contains_key(&sent.message.stream) {
                    break;
                }
                streams.insert(sent.message.stream, sent.ssn);
            }
            end = end.wrapping_add(1);
        }
        if end == self.acknowledged {
            return;
        }
        let mut body = end.to_be_bytes().to_vec();
        for (stream, ssn) in streams {
            body.extend(stream.to_be_bytes());
            body.extend(ssn.to_be_bytes());
        }
        self.forwarded = end;
        wire::push(out, wire::FORWARD_TSN, 0, &[&body]);
    }

    fn write_lost(&mut self, out: &mut Vec<u8>, now: Instant) {
        let mut index = 0;
        while let Some(sent) = self.sent.get_mut(index) {
            let len = sent.len();
            if sent.state == State::Lost {
                if self.flying >= self.window || !push_data(out, self.acknowledged, index, sent) {
                    return;
                }
                sent.state = State::Flying;
                sent.resends += 1;
                sent.sent_at = now;
                self.lost -= 1;
                self.flying += len;
            }
            index += 1;
        }
    }

    /// Gives the next fragment its TSN; whether it could be written.
    fn write_next(&mut self, out: &mut Vec<u8>, now: Instant) -> bool {
        let Some(len) = self.next_len().filter(|len| self.may_send(*len)) else { return false };
        if out.len() + (DATA_HEADER_BYTES + len).next_multiple_of(4) > PACKET_BYTES_MAX {
            return false;
        }
        let head = match self.head.take() {
            Some(head) => head,
            None => {
                let Some(message) = self.queue.pop_front() else { return false };
                // One whose time is over before it began leaves no gap: it never had a number.
                if matches!(message.reliability, Reliability::Lifetime(_)) && message.is_given_up(0, now) {
                    self.buffered -= message.cost();
                    return true;
                }
                let ssn = if message.ordered { next_ssn(&mut self.ssns, message.stream) } else { 0 };
                Head { message, ssn, start: 0 }
            }
        };
        let Head { message, ssn, start } = head;
        let end = start + len;
        if end < message.bytes.len() {
            self.head = Some(Head { message: message.clone(), ssn, start: end });
        }
        let sent = Sent { message, ssn, start, end, state: State::Flying, resends: 0, overtaken: 0, sent_at: now };
        push_data(out, self.acknowledged, self.sent.len(), &sent);
        self.sent.push_back(sent);
        self.flying += len;
        self.peer_window = self.peer_window.saturating_sub(len);
        true
    }
}

fn next_ssn(ssns: &mut BTreeMap<u16, u16>, stream: u16) -> u16 {
    let next = ssns.entry(stream).or_insert(0);
    let ssn = *next;
    *next = next.wrapping_add(1);
    ssn
}

/// Appends the DATA chunk of a fragment; whether it fitted.
fn push_data(out: &mut Vec<u8>, acknowledged: u32, index: usize, sent: &Sent) -> bool {
    let tsn = acknowledged.wrapping_add(1).wrapping_add(index as u32);
    let message = &sent.message;
    let mut header = [0; DATA_HEADER_BYTES - 4];
    header[..4].copy_from_slice(&tsn.to_be_bytes());
    header[4..6].copy_from_slice(&message.stream.to_be_bytes());
    header[6..8].copy_from_slice(&sent.ssn.to_be_bytes());
    header[8..].copy_from_slice(&message.protocol.to_be_bytes());
    wire::push(out, wire::DATA, sent.flags(), &[&header, &message.bytes[sent.start..sent.end]])
}
