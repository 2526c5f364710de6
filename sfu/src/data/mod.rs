//! Data channels: SCTP over the DTLS association of a peer (RFC 8831), the channels on it (RFC 8832), and their relay.
//!
//! The SCTP is our own, and small: we only answer, and over DTLS one path and one peer are all there is. What it takes
//! from a stranger is bounded below. Its time and its randomness are arguments.

mod association;
mod channels;
mod crc32c;
mod inbound;
mod outbound;
mod relay;
mod wire;

pub use channels::{Channels, Delivery, Message};
pub use outbound::Reliability;
pub(crate) use wire::PORT;

/// The longest message, its addressees included (`a=max-message-size`). A longer one ends the association.
pub const MESSAGE_BYTES_MAX: usize = 256 << 10;
/// The longest message that a client takes whose description says nothing of it (RFC 8841 §6.1).
pub(crate) const MESSAGE_BYTES_DEFAULT: u64 = 64 << 10;
/// Bytes that wait for one peer. When full, the peer is too slow for what it subscribes to, and its association is ended.
pub const SEND_BYTES_MAX: usize = 1 << 20;
/// When so much waits for a peer already, further messages of lossy channels are dropped: reliable ones keep their room.
pub const LOSSY_BYTES_MAX: usize = 256 << 10;
/// Bytes that came of one peer and wait: for fragments before them, or until its rate allows them. When full, the peer is
/// told to wait (its window is zero), and what it sends all the same is dropped; it must send it again.
pub const RECEIVE_BYTES_MAX: usize = 1 << 20;
/// Channels of a peer. Further ones are closed at once.
pub const CHANNELS_MAX: usize = 64;
/// The longest label, in bytes. A channel with a longer one is closed at once.
pub const LABEL_BYTES_MAX: usize = 64;
/// Messages that a peer may send in a second, and at once. What is more waits, or is dropped on a lossy channel.
pub const MESSAGES_PER_SECOND: u64 = 100;
/// See [`MESSAGES_PER_SECOND`].
pub const MESSAGES_BURST: u64 = 200;
/// Bytes that a peer may send in a second, and at once. What is more waits, or is dropped on a lossy channel.
pub const BYTES_PER_SECOND: u64 = 512 << 10;
/// See [`BYTES_PER_SECOND`].
pub const BYTES_BURST: u64 = 1 << 20;

/// What a message or fragment costs beside its bytes: the counts above must hold for a million empty ones, too.
const OVERHEAD_BYTES: usize = 128;

/// Payload protocol identifiers (RFC 8831 §8).
const DCEP: u32 = 50;
const TEXT: u32 = 51;
const BINARY: u32 = 53;
const TEXT_EMPTY: u32 = 56;
const BINARY_EMPTY: u32 = 57;

#[cfg(test)]
mod tests;
