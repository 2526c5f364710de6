//! A room on several workers: pipes carry its tracks from the worker of their publisher to the others.
//!
//! To a track a pipe is one more subscriber ([`PipeEnd`]): each packet is copied once into what waits for a worker that has
//! subscribers of it, after *Open* and *Track* and before any rewriting. There a stand-in publishes it, a peer without a
//! transport, and everything else is as with a track of that worker's own: its slab, its keyframes, layers and speakers, and
//! NACKs, which are answered from that slab. What its subscribers want goes back as [`Notice`]s: which layers, and keyframes.
//!
//! A room has pipes only while it has peers on several workers ([`crate::Request::Spread`]). To all others this costs one
//! look at an empty list per packet.

mod ends;
mod stand_ins;

use std::sync::Arc;
use std::time::Instant;

use crate::data::Reliability;
use crate::keyframe::VideoCodec;
use crate::payload::Description;
use crate::receive::Came;
use crate::ring::Incoming;
use crate::sdp::Codec;
use crate::track::{SenderClock, Track};
use crate::{Counters, Drop, Kind, PeerId, RoomId, Source, TrackId};

/// Packets and bytes of them that wait for one worker. When full, further packets are dropped and counted: it has not taken
/// anything for many milliseconds, and its subscribers ask for a keyframe when it goes on.
const PACKETS_MAX: usize = 4_096;
const PACKET_BYTES_MAX: usize = 4 << 20;
/// Bytes of data channel messages that wait for one worker. When full, further ones are dropped and counted.
const MESSAGE_BYTES_MAX: usize = 4 << 20;

/// A set of media workers, `0..64`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Workers(u64);

impl Workers {
    /// Workers that can be told apart.
    pub const MAX: usize = 64;

    /// The set with one more; a number beyond [`Workers::MAX`] changes nothing.
    pub fn with(self, worker: usize) -> Self {
        Workers(self.0 | Workers::bit(worker))
    }

    /// The set with one less.
    pub fn without(self, worker: usize) -> Self {
        Workers(self.0 & !Workers::bit(worker))
    }

    /// Whether it is in the set.
    pub fn has(self, worker: usize) -> bool {
        self.0 & Workers::bit(worker) != 0
    }

    /// Nobody.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// What is in it, ascending.
    pub fn iter(self) -> impl Iterator<Item = usize> {
        (0..Workers::MAX).filter(move |worker| self.has(*worker))
    }

    fn bit(worker: usize) -> u64 {
        u32::try_from(worker).ok().and_then(|worker| 1u64.checked_shl(worker)).unwrap_or(0)
    }
}

impl FromIterator<usize> for Workers {
    fn from_iter<I: IntoIterator<Item = usize>>(workers: I) -> Self {
        workers.into_iter().fold(Workers::default(), Workers::with)
    }
}

/// Where a track goes beside its subscribers here: to those of another worker, who are one subscriber to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PipeEnd {
    pub(crate) worker: usize,
    /// The layers that are wanted there, one bit each.
    pub(crate) wanted: u8,
}

/// Where a track comes from that has its publisher on another worker, and what that was told of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SourcePipe {
    pub(crate) worker: usize,
    /// The layers that subscribers here get or wait for, one bit each.
    pub(crate) wanted: u8,
    /// Whether its packets are to come, and which layers are wanted, as was told; `None` before anything was.
    told: Option<(bool, u8)>,
}

/// What waits for one worker: handed over whole, taken by [`crate::Sfu::receive_pipe`] and used again.
#[derive(Debug, Default)]
pub struct PipeBatch {
    notices: Vec<Notice>,
    message_bytes: usize,
    packets: Vec<Piped>,
    bytes: Vec<u8>,
}

impl PipeBatch {
    /// Nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.notices.is_empty() && self.packets.is_empty()
    }

    /// RTP packets in it.
    pub fn packets(&self) -> usize {
        self.packets.len()
    }

    /// Forgets what is in it; its memory is kept.
    pub fn clear(&mut self) {
        self.notices.clear();
        self.message_bytes = 0;
        self.packets.clear();
        self.bytes.clear();
    }

    /// Adds what is to be known. What it says of a track anew replaces what waits: so there waits at most one of a kind for
    /// each layer of each track, between its beginning and its end.
    fn add(&mut self, notice: Notice) {
        if notice.track().is_none() {
            return self.notices.push(notice);
        }
        for waiting in self.notices.iter_mut().rev() {
            if waiting.track() != notice.track() {
                continue;
            }
            if matches!(waiting, Notice::Ended { .. }) {
                break;
            }
            if waiting.place() == notice.place() && std::mem::discriminant(waiting) == std::mem::discriminant(&notice) {
                *waiting = notice;
                return;
            }
        }
        self.notices.push(notice);
    }
}

/// What workers tell each other of tracks; never dropped, but for messages.
#[derive(Debug)]
enum Notice {
    /// To those that may have subscribers: a track, or what is new of it.
    Track(Box<Described>),
    /// To the same: it is no more.
    Ended { track: TrackId },
    /// To those that take it: which time a layer's timestamps stand for.
    Clock { track: TrackId, place: u8, ssrc: Option<u32>, epoch: u16, clock: SenderClock },
    /// To its worker: whether its packets are to come, and which of its layers are wanted.
    Interest { track: TrackId, flows: bool, wanted: u8 },
    /// To its worker: somebody waits for a keyframe.
    Keyframe { track: TrackId, place: u8 },
    /// To its worker: what its listeners lose of late, in 256ths.
    Loss { track: TrackId, fraction: u8 },
    /// A message on data channels.
    Message(Box<Relayed>),
}

impl Notice {
    fn track(&self) -> Option<TrackId> {
        match self {
            Notice::Track(described) => Some(described.track),
            Notice::Ended { track }
            | Notice::Clock { track, .. }
            | Notice::Interest { track, .. }
            | Notice::Loss { track, .. }
            | Notice::Keyframe { track, .. } => Some(*track),
            Notice::Message(_) => None,
        }
    }

    fn place(&self) -> u8 {
        match self {
            Notice::Clock { place, .. } | Notice::Keyframe { place, .. } => *place,
            _ => 0,
        }
    }
}

/// A track and its publisher, as other workers need to know them.
#[derive(Clone, Debug)]
struct Described {
    room: RoomId,
    peer: PeerId,
    participant: Arc<str>,
    instructor: bool,
    track: TrackId,
    kind: Kind,
    source: Source,
    muted: bool,
    held: bool,
    codecs: Vec<Codec>,
    rids: Vec<Arc<str>>,
    layers: usize,
}

/// A message on data channels, and whom it is for.
#[derive(Clone, Debug)]
struct Relayed {
    room: RoomId,
    /// Participant ids with blanks between them; nobody means everyone.
    to: Box<str>,
    label: Arc<str>,
    text: bool,
    ordered: bool,
    reliability: Reliability,
    /// With its sender before it.
    bytes: Arc<[u8]>,
}

/// A packet, opened and understood; its bytes lie in its batch.
#[derive(Clone, Copy, Debug)]
struct Piped {
    track: TrackId,
    place: u8,
    ssrc: Option<u32>,
    came: Came,
    seq: u64,
    epoch: u16,
    timestamp: u32,
    marker: bool,
    codec: u8,
    video: Option<VideoCodec>,
    description: Description,
    level: Option<u8>,
    skip: u16,
    /// Where its descriptor and behind that its payload begin, and how long they are.
    start: usize,
    descriptor_len: usize,
    payload_len: usize,
}

impl Piped {
    fn incoming<'a>(&self, bytes: &'a [u8]) -> Option<Incoming<'a>> {
        let bytes = bytes.get(self.start..self.start + self.descriptor_len + self.payload_len)?;
        let (descriptor, payload) = bytes.split_at_checked(self.descriptor_len)?;
        Some(Incoming {
            seq: self.seq,
            epoch: self.epoch,
            timestamp: self.timestamp,
            marker: self.marker,
            codec: self.codec,
            video: self.video,
            description: self.description,
            level: self.level,
            descriptor,
            skip: self.skip,
            payload,
        })
    }
}

/// What waits for the other workers.
#[derive(Debug, Default)]
pub(crate) struct Pipes {
    /// By worker, as many as were ever needed.
    batches: Vec<PipeBatch>,
    waiting: Workers,
}

impl Pipes {
    fn batch(&mut self, worker: usize) -> &mut PipeBatch {
        let worker = worker.min(Workers::MAX - 1);
        if self.batches.len() <= worker {
            self.batches.resize_with(worker + 1, PipeBatch::default);
        }
        self.waiting = self.waiting.with(worker);
        &mut self.batches[worker]
    }

    fn tell(&mut self, worker: usize, notice: Notice) {
        self.batch(worker).add(notice);
    }

    /// Copies a packet for each worker that takes its track.
    pub(crate) fn push(
        &mut self,
        track: &Track,
        place: usize,
        incoming: &Incoming<'_>,
        came: Came,
        counters: &mut Counters,
    ) {
        let ssrc = track.layers.get(place).and_then(|layer| layer.ssrc);
        for end in &track.ends {
            let batch = self.batch(end.worker);
            let (start, len) = (batch.bytes.len(), incoming.descriptor.len() + incoming.payload.len());
            if batch.packets.len() >= PACKETS_MAX || start + len > PACKET_BYTES_MAX {
                counters.drops[Drop::PipeFull as usize] += 1;
                continue;
            }
            batch.bytes.extend_from_slice(incoming.descriptor);
            batch.bytes.extend_from_slice(incoming.payload);
            batch.packets.push(Piped {
                track: track.id,
                place: place as u8,
                ssrc,
                came,
                seq: incoming.seq,
                epoch: incoming.epoch,
                timestamp: incoming.timestamp,
                marker: incoming.marker,
                codec: incoming.codec,
                video: incoming.video,
                description: incoming.description,
                level: incoming.level,
                skip: incoming.skip,
                start,
                descriptor_len: incoming.descriptor.len(),
                payload_len: incoming.payload.len(),
            });
            counters.piped_out += 1;
        }
    }

    /// Tells the worker of a track's publisher what its listeners here lose of it.
    pub(crate) fn tell_loss(&mut self, track: &mut Track, now: Instant) {
        let Some(pipe) = track.source_pipe else { return };
        let fraction = track.lost.told(now);
        if fraction > 0 {
            self.tell(pipe.worker, Notice::Loss { track: track.id, fraction });
        }
    }

    /// Tells those who take a track which time a layer's timestamps stand for.
    pub(crate) fn tell_clock(&mut self, track: &Track, place: usize, clock: SenderClock) {
        for end in &track.ends {
            self.tell(end.worker, of_clock(track, place, clock));
        }
    }
}

fn of_clock(track: &Track, place: usize, clock: SenderClock) -> Notice {
    let (ssrc, epoch) = track.layers.get(place).map_or((None, 0), |layer| (layer.ssrc, layer.epoch));
    Notice::Clock { track: track.id, place: place as u8, ssrc, epoch, clock }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_anew_takes_the_place_of_what_waits_but_never_before_an_end() {
        let mut batch = PipeBatch::default();
        let track = TrackId(1);
        for wanted in 0..100 {
            batch.add(Notice::Interest { track, flows: true, wanted });
            batch.add(Notice::Keyframe { track, place: wanted % 4 });
        }
        assert_eq!(batch.notices.len(), 1 + 4);
        assert!(matches!(batch.notices[0], Notice::Interest { wanted: 99, .. }));
        batch.add(Notice::Ended { track });
        batch.add(Notice::Keyframe { track, place: 0 });
        batch.add(Notice::Keyframe { track, place: 0 });
        assert_eq!(batch.notices.len(), 1 + 4 + 1 + 1);
        assert!(matches!(batch.notices[6], Notice::Keyframe { .. }));
    }

    #[test]
    fn a_set_of_workers() {
        let set: Workers = [0, 3, 63, 64, 1_000].into_iter().collect();
        assert_eq!(set.iter().collect::<Vec<_>>(), [0, 3, 63]);
        assert!(set.has(63) && !set.has(64) && !set.without(63).has(63) && Workers::default().is_empty());
    }
}
