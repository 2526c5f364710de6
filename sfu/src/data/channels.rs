//! The channels of one peer: how they open and close, and how much may be said on them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::association::{Association, Open};
use super::{
    BINARY, BINARY_EMPTY, BYTES_BURST, BYTES_PER_SECOND, CHANNELS_MAX, DCEP, LABEL_BYTES_MAX, MESSAGES_BURST,
    MESSAGES_PER_SECOND, Reliability, TEXT, TEXT_EMPTY, outbound,
};

const DCEP_OPEN: u8 = 3;
const DCEP_ACK: u8 = 2;
/// Channels that a client may negotiate itself (`negotiated: true`), by stream: the first message makes them known.
const NEGOTIATED: [(&str, bool, Reliability); 2] =
    [("data", true, Reliability::Reliable), ("data-lossy", false, Reliability::Resends(0))];

#[derive(Debug)]
struct Channel {
    stream: u16,
    label: Arc<str>,
    ordered: bool,
    reliability: Reliability,
    /// We closed it, and wait for the peer to do the same.
    closing: bool,
}

/// A message that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The channel's stream, for [`Channels::close`].
    pub stream: u16,
    /// The channel's label.
    pub label: Arc<str>,
    /// Text (UTF-8 as the sender has it), or binary.
    pub text: bool,
    /// In order with those before it.
    pub ordered: bool,
    /// How hard the sender's channel tries.
    pub reliability: Reliability,
    /// What it says.
    pub bytes: Vec<u8>,
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// It is sent.
    Queued,
    /// The peer has no open channel of that label.
    NoChannel,
    /// It is longer than the peer takes.
    TooLong,
    /// A lossy message for which there was no room.
    Dropped,
    /// There is no room for a reliable message: the peer does not keep up.
    Full,
}

/// Something of which so much may be spent in a second, and so much at once.
#[derive(Debug)]
struct Allowance {
    per_second: u64,
    burst: u64,
    /// In billionths.
    left: u128,
    at: Instant,
}

const BILLION: u128 = 1_000_000_000;

impl Allowance {
    fn new(per_second: u64, burst: u64, now: Instant) -> Self {
        Allowance { per_second, burst, left: u128::from(burst) * BILLION, at: now }
    }

    /// From when on `amount`, which is at most the burst, may be spent.
    fn free_at(&mut self, amount: u64, now: Instant) -> Instant {
        let elapsed = now.saturating_duration_since(self.at).as_nanos();
        self.left = (self.left + elapsed * u128::from(self.per_second)).min(u128::from(self.burst) * BILLION);
        self.at = now;
        let lacking = (u128::from(amount) * BILLION).saturating_sub(self.left);
        now + Duration::from_nanos(lacking.div_ceil(u128::from(self.per_second)) as u64)
    }

    fn spend(&mut self, amount: u64) {
        self.left = self.left.saturating_sub(u128::from(amount) * BILLION);
    }
}

/// The data association of one peer. SCTP packets go in and out; messages come and are given.
#[derive(Debug)]
pub struct Channels {
    association: Association,
    channels: Vec<Channel>,
    messages: Allowance,
    bytes: Allowance,
    /// When the message that waits for its turn has it.
    turn: Option<Instant>,
    over_rate: u64,
}

impl Channels {
    /// `random` names the association and numbers its first packet.
    pub fn new(random: [u8; 24], now: Instant) -> Self {
        Channels {
            association: Association::new(random),
            channels: Vec::new(),
            messages: Allowance::new(MESSAGES_PER_SECOND, MESSAGES_BURST, now),
            bytes: Allowance::new(BYTES_PER_SECOND, BYTES_BURST, now),
            turn: None,
            over_rate: 0,
        }
    }

    /// Takes an SCTP packet; whether it is one of this association. [`Channels::next`] has what it brings.
    pub fn handle(&mut self, packet: &[u8], now: Instant) -> bool {
        self.association.handle(packet, now).is_some()
    }

    /// The next message that came and may be taken at this rate.
    pub fn next(&mut self, now: Instant) -> Option<Message> {
        self.turn = None;
        loop {
            let open = self.association.open()?;
            let Some(front) = open.front() else {
                // What was said on a channel before it was closed counts.
                let closed = open.reset.pop_front()?;
                self.closed_by_peer(closed);
                continue;
            };
            let (stream, protocol) = (front.stream, front.protocol);
            if protocol == DCEP {
                let message = open.inbound.pop(now)?;
                self.control(stream, &message.bytes, now);
                continue;
            }
            let index = self.channels.iter().position(|c| c.stream == stream).or_else(|| self.negotiated(stream));
            let open = self.association.open()?;
            let channel = index.and_then(|index| self.channels.get(index)).filter(|channel| !channel.closing);
            let text = match protocol {
                TEXT | TEXT_EMPTY => Some(true),
                BINARY | BINARY_EMPTY => Some(false),
                _ => None,
            };
            let (Some(channel), Some(text)) = (channel, text) else {
                open.inbound.pop(now)?;
                continue;
            };
            let len = open.front()?.bytes.len() as u64;
            let free_at = self.messages.free_at(1, now).max(self.bytes.free_at(len, now));
            let over_rate = free_at > now;
            if over_rate && channel.reliability == Reliability::Reliable {
                self.turn = Some(free_at);
                return None;
            }
            let message = open.inbound.pop(now)?;
            if over_rate {
                self.over_rate += 1;
                continue;
            }
            self.messages.spend(1);
            self.bytes.spend(len);
            let bytes = if matches!(protocol, TEXT_EMPTY | BINARY_EMPTY) { Vec::new() } else { message.bytes };
            let (label, ordered, reliability) = (channel.label.clone(), channel.ordered, channel.reliability);
            return Some(Message { stream, label, text, ordered, reliability, bytes });
        }
    }

    /// A channel that the client negotiated itself, if this stream can be one.
    fn negotiated(&mut self, stream: u16) -> Option<usize> {
        let (label, ordered, reliability) = *NEGOTIATED.get(usize::from(stream))?;
        let index = self.channels.len();
        if index == CHANNELS_MAX {
            return None;
        }
        self.channels.push(Channel { stream, label: label.into(), ordered, reliability, closing: false });
        Some(index)
    }

    /// DATA_CHANNEL_OPEN (RFC 8832 §5.1); nothing else needs to be said to us.
    fn control(&mut self, stream: u16, bytes: &[u8], now: Instant) {
        let Some(open) = self.association.open() else { return };
        if bytes.first() != Some(&DCEP_OPEN) {
            return;
        }
        let known = self.channels.iter().position(|channel| channel.stream == stream);
        let is_full = known.is_none() && self.channels.len() == CHANNELS_MAX;
        let Some(channel) = opened(stream, bytes).filter(|_| !is_full) else { return open.reset(stream) };
        match known {
            Some(index) => self.channels[index] = channel,
            None => self.channels.push(channel),
        }
        let bytes = Arc::new([DCEP_ACK]);
        if open.outbound.has_room(bytes.len(), Reliability::Reliable) {
            give(open, stream, DCEP, true, Reliability::Reliable, bytes, now);
        }
    }

    /// RFC 8831 §6.7: a channel is closed when both have reset its stream.
    fn closed_by_peer(&mut self, stream: u16) {
        let known = self.channels.iter().position(|channel| channel.stream == stream);
        let closing = known.is_some_and(|index| self.channels.swap_remove(index).closing);
        if let Some(open) = self.association.open().filter(|_| !closing) {
            open.reset(stream);
        }
    }

    /// Sends a message on the channel of a label, if there is one, to a peer that takes at most `longest` bytes.
    pub fn send(&mut self, message: &Message, bytes: &Arc<[u8]>, longest: u64, now: Instant) -> Delivery {
        let Some(open) = self.association.open() else { return Delivery::NoChannel };
        let Some(channel) = self.channels.iter().find(|c| c.label == message.label && !c.closing) else {
            return Delivery::NoChannel;
        };
        if bytes.len() as u64 > longest {
            return Delivery::TooLong;
        }
        let reliability = message.reliability;
        if !open.outbound.has_room(bytes.len(), reliability) {
            return if reliability == Reliability::Reliable { Delivery::Full } else { Delivery::Dropped };
        }
        let protocol = if message.text { TEXT } else { BINARY };
        give(open, channel.stream, protocol, message.ordered, reliability, bytes.clone(), now);
        Delivery::Queued
    }

    /// Closes a channel.
    pub fn close(&mut self, stream: u16) {
        let Some(open) = self.association.open() else { return };
        if let Some(channel) = self.channels.iter_mut().find(|channel| channel.stream == stream) {
            channel.closing = true;
            open.reset(stream);
        }
    }

    /// Ends the association; all channels of the client close.
    pub fn end(&mut self) {
        self.association.abort();
        self.channels.clear();
    }

    /// Whether it is over: by [`Channels::end`], by the peer, or because the peer takes nothing or breaks the rules.
    pub fn is_ended(&self) -> bool {
        self.association.is_closed()
    }

    /// Open channels.
    pub fn len(&self) -> usize {
        self.channels.iter().filter(|channel| !channel.closing).count()
    }

    /// Whether no channel is open.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many messages of lossy channels were dropped because too many came, since this was asked last.
    pub fn take_over_rate(&mut self) -> u64 {
        std::mem::take(&mut self.over_rate)
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Instant) {
        self.association.tick(now);
    }

    /// Writes the next SCTP packet, at most 1,160 bytes; `false` when there is nothing to send now.
    pub fn write(&mut self, out: &mut Vec<u8>, now: Instant) -> bool {
        self.association.write(out, now)
    }

    /// When [`Channels::tick`], [`Channels::next`] or [`Channels::write`] has something to do; `now` stands for at once.
    pub fn deadline(&self, now: Instant) -> Option<Instant> {
        [self.association.deadline(now), self.turn].into_iter().flatten().min()
    }
}

fn give(
    open: &mut Open,
    stream: u16,
    protocol: u32,
    ordered: bool,
    reliability: Reliability,
    bytes: Arc<[u8]>,
    now: Instant,
) {
    open.send(outbound::Message { stream, protocol, ordered, reliability, bytes, queued_at: now });
}

/// The channel that a DATA_CHANNEL_OPEN asks for.
fn opened(stream: u16, bytes: &[u8]) -> Option<Channel> {
    let (head, rest) = bytes.split_first_chunk::<12>()?;
    let [_, kind, _, _, a, b, c, d, e, f, _, _] = *head;
    let amount = u32::from_be_bytes([a, b, c, d]);
    let len = usize::from(u16::from_be_bytes([e, f]));
    let label = rest.get(..len).filter(|label| label.len() <= LABEL_BYTES_MAX)?;
    let reliability = match kind & 0x7f {
        0 => Reliability::Reliable,
        1 => Reliability::Resends(amount),
        2 => Reliability::Lifetime(Duration::from_millis(amount.into())),
        _ => return None,
    };
    let label = std::str::from_utf8(label).ok()?.into();
    Some(Channel { stream, label, ordered: kind & 0x80 == 0, reliability, closing: false })
}
