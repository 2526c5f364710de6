//! The ways back to clients: by the UDP sockets or by their streams.

use std::time::Instant;

use sfu::{Path, Run};
use turn_server::{CHANNEL_HEAD_BYTES, Client, Framing};

use super::SocketCounts;
use super::stream::Streams;
use crate::stream::Load;
use crate::udp::{Family, Framed, Sent, Sockets};

/// Payloads of one size, one behind the other.
pub(crate) struct Payloads<'a> {
    /// All of them.
    pub(crate) bytes: &'a mut [u8],
    /// From the beginning of one's room to that of the next.
    pub(crate) stride: usize,
    /// Room in front of each payload.
    pub(crate) room: usize,
}

/// The sockets by which clients come.
pub(crate) struct Clients {
    pub(crate) sockets: Sockets,
    pub(crate) streams: Streams,
    pub(crate) counts: SocketCounts,
}

impl Clients {
    /// Sends a message of the machine; to a stream it leaves with the next [`Streams::flush`].
    pub(crate) fn reply(&mut self, to: Client, bytes: &[u8], now: Instant) {
        match to {
            Client::Udp { local, remote } => {
                let run = Run { path: Path::Udp { local, remote }, bytes, segment: bytes.len() };
                let sent = self.sockets.send(&run, now);
                self.counts.sent(sent);
            }
            Client::Stream { stream, .. } => {
                self.streams.push(stream, Load::Control, &[bytes], now);
            }
        }
    }

    /// Sends payloads of a peer all at once, whatever the framing, and without copying them; a stream that takes no more keeps
    /// a copy of the rest.
    pub(crate) fn deliver(&mut self, framing: &Framing, payloads: Payloads<'_>, now: Instant) {
        let head = framing.head.as_slice();
        let Payloads { bytes, stride, room } = payloads;
        match framing.to {
            Client::Udp { local, remote } => {
                let Some(socket) = self.sockets.of(Family::of(remote)) else { return };
                let fits = framing.head.is_channel() && room == CHANNEL_HEAD_BYTES && framing.padding == 0;
                let sent = if fits {
                    for datagram in bytes.chunks_mut(stride) {
                        if let Some(room) = datagram.get_mut(..room) {
                            room.copy_from_slice(head);
                        }
                    }
                    socket.send(local, remote, bytes, stride, now)
                } else {
                    let framed = Framed { head, padding: framing.padding, bytes, stride, room };
                    socket.send_framed(local, remote, &framed, now)
                };
                self.counts.sent(sent);
            }
            Client::Stream { stream, .. } => {
                let zeros = [0; 3];
                let padding = zeros.get(..framing.padding).unwrap_or_default();
                let payloads = bytes.chunks(stride).filter_map(|datagram| datagram.get(room..));
                self.streams.send(stream, payloads.map(|payload| [head, payload, padding]), now);
            }
        }
    }
}

impl SocketCounts {
    /// Counts what became of a run.
    pub(crate) fn sent(&mut self, sent: Sent) {
        match sent {
            Sent::All => {}
            Sent::Blocked => self.blocked += 1,
            Sent::Refused => self.refused += 1,
        }
    }
}
