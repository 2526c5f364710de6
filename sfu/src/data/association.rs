//! One SCTP association over DTLS (RFC 8261), in which we only ever answer: browsers begin it themselves.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::inbound::{Inbound, Received};
use super::outbound::{Message, Outbound};
use super::wire::{self, Chunk};
use super::{CHANNELS_MAX, RECEIVE_BYTES_MAX};

/// Stream ids 0 to this less one, both ways: Chromium uses no higher ones. Nothing is allocated for them.
pub(super) const STREAM_IDS_MAX: u16 = 1_024;
/// Chunks that answer others and wait to be sent. When full, further ones are dropped: their senders ask again.
const REPLIES_MAX: usize = 8;
/// The longest HEARTBEAT that is answered.
const HEARTBEAT_BYTES_MAX: usize = 512;
/// How often a stream reset is asked for again, and how often in all.
const RESET_INTERVAL: Duration = Duration::from_secs(1);
const RESETS_MAX: u32 = 10;

const FORWARD_TSN_SUPPORTED: u16 = 0xc000;
const SUPPORTED_EXTENSIONS: u16 = 0x8008;
const STATE_COOKIE: u16 = 7;
const OUTGOING_RESET: u16 = 13;
const RECONFIG_RESPONSE: u16 = 16;
/// Results of a reconfiguration (RFC 6525 §4.4).
const PERFORMED: u32 = 1;
const DENIED: u32 = 2;
const BAD_NUMBER: u32 = 5;
const IN_PROGRESS: u32 = 6;

/// An association that is up.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) inbound: Inbound,
    pub(super) outbound: Outbound,
    /// The number of the peer's next reconfiguration request, and what became of the last.
    their_request: u32,
    last_result: u32,
    /// Streams that we want to reset, at most [`CHANNELS_MAX`], of which `asked` are in the request under way.
    to_reset: Vec<u16>,
    asked: usize,
    /// Our last TSN when that request was first made.
    asked_at: u32,
    our_request: u32,
    reset_due: Option<Instant>,
    resets: u32,
    /// Streams that the peer has reset, for the channels to know.
    pub(super) reset: VecDeque<u16>,
}

#[derive(Debug)]
enum State {
    /// No COOKIE ECHO yet; what the last INIT said, if one came.
    Waiting(Option<Init>),
    Open(Box<Open>),
    Closed,
}

/// What the peer's INIT says.
#[derive(Clone, Copy, Debug)]
struct Init {
    window: u32,
    first: u32,
    forwards: bool,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Association {
    tag: u32,
    first: u32,
    cookie: [u8; 16],
    peer_tag: u32,
    replies: VecDeque<(u8, u8, Vec<u8>)>,
    state: State,
}

impl Association {
    /// `random` is as unguessable as the association is to be.
    pub(super) fn new(random: [u8; 24]) -> Self {
        let word = |at: usize| u32::from_be_bytes([random[at], random[at + 1], random[at + 2], random[at + 3]]);
        let mut cookie = [0; 16];
        cookie.copy_from_slice(&random[8..]);
        Association {
            tag: word(0).max(1),
            first: word(4),
            cookie,
            peer_tag: 0,
            replies: VecDeque::new(),
            state: State::Waiting(None),
        }
    }

    /// The association, if it is up.
    pub(super) fn open(&mut self) -> Option<&mut Open> {
        match &mut self.state {
            State::Open(open) => Some(open),
            _ => None,
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed)
    }

    /// Ends it; the peer is told once.
    pub(super) fn abort(&mut self) {
        if !self.is_closed() && self.peer_tag != 0 {
            self.replies.clear();
            self.reply(wire::ABORT, 0, Vec::new());
        }
        self.state = State::Closed;
    }

    fn reply(&mut self, kind: u8, flags: u8, body: Vec<u8>) {
        if self.replies.len() < REPLIES_MAX {
            self.replies.push_back((kind, flags, body));
        }
    }

    /// Takes a packet; `None` for one that is none of this association.
    pub(super) fn handle(&mut self, packet: &[u8], now: Instant) -> Option<()> {
        let (tag, chunks) = wire::open(packet)?;
        if self.is_closed() {
            return Some(());
        }
        let mut data = false;
        for (index, chunk) in wire::chunks(chunks).enumerate() {
            if chunk.kind == wire::INIT {
                // It stands alone, and without a tag (RFC 9260 §8.5.1).
                return (index == 0 && tag == 0).then(|| self.init(chunk.body)).flatten();
            }
            let reflected = chunk.kind == wire::ABORT && chunk.flags & 1 == 1 && tag == self.peer_tag;
            if tag != self.tag && !reflected {
                return None;
            }
            data |= chunk.kind == wire::DATA;
            self.chunk(chunk, now);
            // RFC 9260 §3.2: the highest bit of an unknown type says whether the next may be read.
            let known = chunk.kind <= 14 || chunk.kind & 0x80 != 0;
            if self.is_closed() || !known {
                break;
            }
        }
        if data && let Some(open) = self.open() {
            open.inbound.packet_ended(now);
        }
        Some(())
    }

    fn chunk(&mut self, chunk: Chunk<'_>, now: Instant) {
        let body = chunk.body;
        match chunk.kind {
            wire::COOKIE_ECHO => self.cookie_echo(body, now),
            wire::HEARTBEAT if body.len() <= HEARTBEAT_BYTES_MAX => self.reply(wire::HEARTBEAT_ACK, 0, body.to_vec()),
            wire::ABORT => self.state = State::Closed,
            wire::SHUTDOWN if self.open().is_some() => {
                // Data ends with the connection; there is nothing that we would still want to hand over.
                self.reply(wire::SHUTDOWN_ACK, 0, Vec::new());
                self.state = State::Closed;
            }
            wire::RE_CONFIG => self.reconfigure(body, now),
            _ => {}
        }
        let State::Open(open) = &mut self.state else { return };
        let taken = match chunk.kind {
            wire::DATA => open.inbound.data(chunk.flags, body, now),
            wire::FORWARD_TSN => wire::u32_at(body, 0).map_or(Ok(()), |tsn| open.inbound.forward(tsn, now)),
            wire::SACK => {
                let (Some(cumulative), Some(window), Some(gaps)) =
                    (wire::u32_at(body, 0), wire::u32_at(body, 4), wire::u16_at(body, 8))
                else {
                    return;
                };
                let (gap_blocks, _) = body.get(12..).unwrap_or_default().as_chunks::<4>();
                let gaps = gap_blocks
                    .iter()
                    .take(gaps.into())
                    .map(|[a, b, c, d]| (u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d])));
                open.outbound.acknowledge(cumulative, window, gaps, now);
                Ok(())
            }
            _ => Ok(()),
        };
        if taken.is_err() {
            self.abort();
        }
    }

    /// RFC 9260 §5.1 B. We remember what it said, for over DTLS nobody else can ask; the cookie proves nothing more.
    fn init(&mut self, body: &[u8]) -> Option<()> {
        // On an association that is up it would be a restart, which in WebRTC comes with another RTCPeerConnection.
        let State::Waiting(waiting) = &mut self.state else { return None };
        let (tag, window, first) = (wire::u32_at(body, 0)?, wire::u32_at(body, 4)?, wire::u32_at(body, 12)?);
        let (outbound, inbound) = (wire::u16_at(body, 8)?, wire::u16_at(body, 10)?);
        if tag == 0 || outbound == 0 || inbound == 0 {
            return None;
        }
        let forwards = wire::parameters(body.get(16..)?).any(|(kind, _)| kind == FORWARD_TSN_SUPPORTED);
        *waiting = Some(Init { window, first, forwards });
        self.peer_tag = tag;
        let mut answer = Vec::with_capacity(64);
        answer.extend(self.tag.to_be_bytes());
        answer.extend((RECEIVE_BYTES_MAX as u32).to_be_bytes());
        answer.extend(STREAM_IDS_MAX.to_be_bytes());
        answer.extend(STREAM_IDS_MAX.to_be_bytes());
        answer.extend(self.first.to_be_bytes());
        answer.extend(STATE_COOKIE.to_be_bytes());
        answer.extend(20u16.to_be_bytes());
        answer.extend(self.cookie);
        answer.extend(FORWARD_TSN_SUPPORTED.to_be_bytes());
        answer.extend(4u16.to_be_bytes());
        answer.extend(SUPPORTED_EXTENSIONS.to_be_bytes());
        answer.extend(6u16.to_be_bytes());
        answer.extend([wire::RE_CONFIG, wire::FORWARD_TSN]);
        self.reply(wire::INIT_ACK, 0, answer);
        Some(())
    }

    fn cookie_echo(&mut self, cookie: &[u8], now: Instant) {
        if cookie != self.cookie {
            return;
        }
        if let State::Waiting(Some(init)) = self.state {
            self.state = State::Open(Box::new(Open {
                inbound: Inbound::new(init.first),
                outbound: Outbound::new(self.first, init.window, init.forwards, now),
                their_request: init.first,
                last_result: BAD_NUMBER,
                to_reset: Vec::new(),
                asked: 0,
                asked_at: 0,
                our_request: self.first,
                reset_due: None,
                resets: 0,
                reset: VecDeque::new(),
            }));
        }
        // One that comes again was acknowledged, but the acknowledgement was lost.
        if self.open().is_some() {
            self.reply(wire::COOKIE_ACK, 0, Vec::new());
        }
    }

    /// RFC 6525 §5.2.
    fn reconfigure(&mut self, body: &[u8], now: Instant) {
        let mut answers = Vec::new();
        let Some(open) = self.open() else { return };
        // A chunk has two at most (RFC 6525 §3.1).
        for (kind, parameter) in wire::parameters(body).take(2) {
            let Some(number) = wire::u32_at(parameter, 0) else { continue };
            if kind == RECONFIG_RESPONSE {
                if let Some(result) = wire::u32_at(parameter, 4) {
                    open.reset_answered(number, result, now);
                }
                continue;
            }
            let result = open.reset_asked(kind, number, parameter);
            let mut answer = RECONFIG_RESPONSE.to_be_bytes().to_vec();
            answer.extend(12u16.to_be_bytes());
            answer.extend(number.to_be_bytes());
            answer.extend(result.to_be_bytes());
            answers.push(answer);
        }
        for answer in answers {
            self.reply(wire::RE_CONFIG, 0, answer);
        }
    }

    /// Writes the next packet; `false` when there is nothing to send now.
    pub(super) fn write(&mut self, out: &mut Vec<u8>, now: Instant) -> bool {
        wire::begin(out, self.peer_tag);
        let mut any = false;
        if let Some((kind, flags, body)) = self.replies.pop_front() {
            any = wire::push(out, kind, flags, &[&body]);
        } else if let State::Open(open) = &mut self.state {
            any |= open.inbound.write_sack(out, now);
            any |= open.write_reset(out, now);
            any |= open.outbound.write(out, now);
        }
        wire::finish(out);
        any
    }

    /// Does what is due.
    pub(super) fn tick(&mut self, now: Instant) {
        let Some(open) = self.open() else { return };
        open.outbound.tick(now);
        if open.outbound.is_stalled(now) || open.resets > RESETS_MAX {
            self.abort();
        }
    }

    /// When [`Association::tick`] or [`Association::write`] has something to do; `now` stands for at once.
    pub(super) fn deadline(&self, now: Instant) -> Option<Instant> {
        if !self.replies.is_empty() {
            return Some(now);
        }
        let State::Open(open) = &self.state else { return None };
        let reset = if open.may_reset() { open.reset_due.or(Some(now)) } else { None };
        [open.inbound.sack_due(), open.outbound.deadline(now), reset].into_iter().flatten().min()
    }
}

impl Open {
    pub(super) fn send(&mut self, message: Message) {
        self.outbound.push(message);
    }

    pub(super) fn front(&self) -> Option<&Received> {
        self.inbound.front()
    }

    /// Closes a stream on our side. When too many wait already it stays as it is, which costs nobody anything.
    pub(super) fn reset(&mut self, stream: u16) {
        self.outbound.forget(stream);
        if !self.to_reset.contains(&stream) && self.to_reset.len() < CHANNELS_MAX {
            self.to_reset.push(stream);
        }
    }

    /// What becomes of a request of the peer's.
    fn reset_asked(&mut self, kind: u16, number: u32, parameter: &[u8]) -> u32 {
        if number != self.their_request {
            return if number == self.their_request.wrapping_sub(1) { self.last_result } else { BAD_NUMBER };
        }
        if kind == OUTGOING_RESET {
            if !wire::u32_at(parameter, 8).is_some_and(|last| self.inbound.has_all(last)) {
                return IN_PROGRESS;
            }
            let (streams, _) = parameter.get(12..).unwrap_or_default().as_chunks::<2>();
            let room = 2 * CHANNELS_MAX - self.reset.len().min(2 * CHANNELS_MAX);
            self.reset.extend(streams.iter().take(room).map(|stream| u16::from_be_bytes(*stream)));
        }
        self.their_request = number.wrapping_add(1);
        self.last_result = if kind == OUTGOING_RESET { PERFORMED } else { DENIED };
        self.last_result
    }

    fn reset_answered(&mut self, number: u32, result: u32, now: Instant) {
        if number != self.our_request || self.asked == 0 {
            return;
        }
        if result == IN_PROGRESS {
            self.reset_due = Some(now + RESET_INTERVAL);
            return;
        }
        // Refused or not: asking again would change nothing.
        for stream in self.to_reset.drain(..self.asked) {
            self.outbound.restart(stream);
        }
        self.our_request = self.our_request.wrapping_add(1);
        (self.asked, self.resets, self.reset_due) = (0, 0, None);
    }

    /// Whether there is a request to be made or repeated.
    fn may_reset(&self) -> bool {
        self.asked > 0 || self.to_reset.first().is_some_and(|stream| self.outbound.has_sent_all(*stream))
    }

    fn write_reset(&mut self, out: &mut Vec<u8>, now: Instant) -> bool {
        if !self.may_reset() || self.reset_due.is_some_and(|due| due > now) {
            return false;
        }
        if self.asked == 0 {
            let ready = self.to_reset.iter().take_while(|stream| self.outbound.has_sent_all(**stream));
            self.asked = ready.count();
            self.asked_at = self.outbound.next_tsn().wrapping_sub(1);
        }
        let mut body = OUTGOING_RESET.to_be_bytes().to_vec();
        body.extend((16 + 2 * self.asked as u16).to_be_bytes());
        body.extend(self.our_request.to_be_bytes());
        body.extend(self.their_request.wrapping_sub(1).to_be_bytes());
        body.extend(self.asked_at.to_be_bytes());
        self.to_reset.iter().take(self.asked).for_each(|stream| body.extend(stream.to_be_bytes()));
        self.reset_due = Some(now + RESET_INTERVAL);
        self.resets += 1;
        wire::push(out, wire::RE_CONFIG, 0, &[&body])
    }
}
