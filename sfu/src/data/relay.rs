//! From one peer's channels to those of the others in its room.
//!
//! Who a message is for stands in a first line of ids, in text and binary alike, and not in JSON: a media thread shall
//! not parse a quarter of a megabyte to find out, and what is behind the line stays what it was, byte for byte.

use std::sync::Arc;

use super::{CHANNELS_MAX, Channels, Delivery, MESSAGE_BYTES_MAX, Message};
use crate::negotiation::Line;
use crate::{Drop, Now, Sfu};

/// Addressees of one message. More are malformed; who means more means everyone.
const ADDRESSEES_MAX: usize = 32;
/// Participant ids have at most 64 characters; one more ends or parts them.
const FIRST_LINE_BYTES_MAX: usize = ADDRESSEES_MAX * 65;
/// SCTP packets to one peer in one go. What is more waits a millisecond, in which media has its turn.
const PACKETS_PER_TICK: usize = 16;

/// Whom a message is for, and what it says.
#[derive(Debug, PartialEq, Eq)]
struct Addressed<'a> {
    /// Participant ids with blanks between them; nobody means everyone.
    to: &'a str,
    body: &'a [u8],
}

/// Reads the first line, and nothing behind it.
fn addressed(bytes: &[u8]) -> Option<Addressed<'_>> {
    let end = bytes.iter().take(FIRST_LINE_BYTES_MAX).position(|byte| *byte == b'\n')?;
    let to = std::str::from_utf8(bytes.get(..end)?).ok()?;
    let body = bytes.get(end + 1..)?;
    (to.split_ascii_whitespace().count() <= ADDRESSEES_MAX).then_some(Addressed { to, body })
}

impl Sfu {
    /// Takes what the DTLS association of a peer carried.
    pub(crate) fn on_data(&mut self, key: usize, packets: &[Vec<u8>], now: Now) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        let agreed = peer.negotiation.lines.iter().any(Line::carries_data);
        for packet in packets {
            let rng = &mut self.rng;
            let channels = agreed
                .then(|| peer.data.get_or_insert_with(|| Box::new(Channels::new(rand::RngExt::random(rng), now.mono))));
            if !channels.is_some_and(|channels| channels.handle(packet, now.mono)) {
                self.counters.drops[Drop::DataMalformed as usize] += 1;
            }
        }
        self.take_messages(key, now);
        self.arm(key, now.mono);
    }

    /// Relays what a peer has said, as fast as it may say it.
    fn take_messages(&mut self, key: usize, now: Now) {
        while let Some(channels) = self.peers.get_mut(key).and_then(|peer| peer.data.as_mut()) {
            let message = channels.next(now.mono);
            self.counters.drops[Drop::DataRate as usize] += channels.take_over_rate();
            let Some(message) = message else { return };
            // An empty one only makes a negotiated channel known.
            if !message.bytes.is_empty()
                && let Err(reason) = self.relay(key, &message, now)
            {
                self.counters.drops[reason as usize] += 1;
            }
        }
    }

    fn relay(&mut self, key: usize, message: &Message, now: Now) -> Result<(), Drop> {
        let peer = self.peers.get_mut(key).ok_or(Drop::NotPermitted)?;
        if !peer.rights.data {
            if let Some(channels) = &mut peer.data {
                channels.close(message.stream);
            }
            return Err(Drop::NotPermitted);
        }
        let Addressed { to, body } = addressed(&message.bytes).ok_or(Drop::DataMalformed)?;
        let from = peer.participant.as_bytes();
        if from.len() + 1 + body.len() > MESSAGE_BYTES_MAX {
            return Err(Drop::DataMalformed);
        }
        self.counters.data_messages_in += 1;
        let bytes: Arc<[u8]> = [from, b"\n", body].concat().into();
        let room = peer.room;
        self.pipe_message(room, to, message, &bytes);
        self.deliver_message(room, Some(key), to, message, &bytes, now);
        Ok(())
    }

    /// Gives a message to those of a room's peers here whom it is for, but not to its sender.
    pub(crate) fn deliver_message(
        &mut self,
        room: usize,
        sender: Option<usize>,
        to: &str,
        message: &Message,
        bytes: &Arc<[u8]>,
        now: Now,
    ) {
        let everyone = to.split_ascii_whitespace().next().is_none();
        let others = self.rooms.get(room).map(|room| room.peers.clone()).unwrap_or_default();
        for other in others {
            let Some(target) = self.peers.get_mut(other).filter(|_| Some(other) != sender) else { continue };
            if !everyone && !to.split_ascii_whitespace().any(|id| *id == *target.participant) {
                continue;
            }
            let Some(channels) = target.data.as_mut().filter(|_| target.rights.subscribe) else { continue };
            match channels.send(message, bytes, target.message_bytes_max, now.mono) {
                Delivery::NoChannel => continue,
                Delivery::Queued => self.counters.data_messages_out += 1,
                Delivery::TooLong => self.counters.drops[Drop::DataTooLong as usize] += 1,
                Delivery::Dropped => self.counters.drops[Drop::DataOverrun as usize] += 1,
                Delivery::Full => {
                    channels.end();
                    self.counters.data_peers_dropped += 1;
                }
            }
            self.arm(other, now.mono);
        }
    }

    /// Sends what is due on a peer's channels, within the budget of a tick.
    pub(crate) fn tick_data(&mut self, key: usize, now: Now) {
        self.take_messages(key, now);
        let Some(peer) = self.peers.get_mut(key) else { return };
        let (Some(path), Some(dtls), Some(channels)) = (peer.ice.selected(), &mut peer.dtls, &mut peer.data) else {
            return;
        };
        let was_ended = channels.is_ended();
        channels.tick(now.mono);
        self.counters.data_peers_dropped += u64::from(!was_ended && channels.is_ended());
        let control = &mut self.control;
        for _ in 0..PACKETS_PER_TICK {
            // What does not fit now is not lost by being pushed where there is no room for it.
            if control.is_busy() || !channels.write(&mut self.scratch, now.mono) {
                break;
            }
            dtls.send(&self.scratch, now.mono, |record| control.push(path, record));
        }
    }
}

const _: () = assert!(CHANNELS_MAX >= 2, "the negotiated ones must fit");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_line_says_who_it_is_for() {
        let read = |text: &'static str| addressed(text.as_bytes()).map(|a| (a.to, a.body));
        assert_eq!(read("\nhello\nyou"), Some(("", &b"hello\nyou"[..])));
        assert_eq!(read("pa_1 pa_2\n"), Some(("pa_1 pa_2", &b""[..])));
        assert_eq!(read("hello"), None);
        assert_eq!(read(""), None);
        assert_eq!(addressed(b"\xff\nx"), None);
        let many = format!("{}\n", "a ".repeat(ADDRESSEES_MAX));
        assert!(addressed(many.as_bytes()).is_some());
        assert_eq!(addressed(format!("a {many}").as_bytes()), None);
        assert_eq!(addressed(&[b' '; 1 << 18]), None);
    }
}
