//! One participant's transport and what it sends and receives.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use slab::Slab;

use crate::allocate::Allocation;
use crate::data::Channels;
use crate::downlink::Downlink;
use crate::dtls::Dtls;
use crate::ice::Ice;
use crate::negotiation::Negotiation;
use crate::quality::Quality;
use crate::srtp::{Opener, Sealer};
use crate::subscription::{ExtensionIds, Resend, Stamps, Subscription};
use crate::twcc;
use crate::{Kind, PeerId, Rights, TrackId, View, Wish};

/// Streams (SSRCs) that one peer may send, RTX included. More are dropped and counted.
pub(crate) const STREAMS_MAX: usize = 64;
/// Videos that one peer is subscribed to by itself. Further ones are `track-unavailable`.
pub(crate) const VIDEO_SUBSCRIPTIONS_MAX: usize = 25;
/// Tracks that found no place and are remembered. When full, further ones are forgotten and must be asked for.
pub(crate) const LEFT_OUT_MAX: usize = 256;
/// Wishes about tracks that have not crossed from their worker yet. When full, the oldest is forgotten and must be said again.
pub(crate) const EARLY_WISHES_MAX: usize = 256;
/// Retransmissions that wait for a peer. When full, further NACKs are ignored: the subscriber asks again.
pub(crate) const RESENDS_MAX: usize = 256;
/// DTLS datagrams kept while the client's description is on its way. When full, further ones are dropped: it resends.
pub(crate) const EARLY_DTLS_MAX: usize = 4;
/// How often sender and receiver reports go out.
pub(crate) const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// How often transport-wide feedback goes to a publisher that sends.
pub(crate) const FEEDBACK_INTERVAL: Duration = Duration::from_millis(50);
/// Keys of an established association.
pub(crate) struct Srtp {
    pub(crate) opener: Opener,
    pub(crate) sealer: Sealer,
}

/// An SSRC that a peer sends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stream {
    pub(crate) ssrc: u32,
    pub(crate) track: usize,
    /// Place of the layer in the track.
    pub(crate) layer: u8,
    /// It carries retransmissions.
    pub(crate) repairs: bool,
    /// A packet has come; until then the layer is what the description made us guess.
    pub(crate) bound: bool,
}

/// See the module.
pub(crate) struct Peer {
    pub(crate) id: PeerId,
    pub(crate) room: usize,
    pub(crate) participant: Arc<str>,
    pub(crate) auto_subscribe: bool,
    pub(crate) rights: Rights,
    pub(crate) view: View,
    /// It stands in for a peer of this worker: without a transport, it publishes what comes through the pipe.
    pub(crate) pipe: Option<usize>,

    pub(crate) ice: Ice,
    pub(crate) dtls: Option<Dtls>,
    pub(crate) early_dtls: Vec<Vec<u8>>,
    pub(crate) remote_fingerprint: Option<[u8; 32]>,
    pub(crate) srtp: Option<Srtp>,
    /// Its data channels, from the first packet of theirs on.
    pub(crate) data: Option<Box<Channels>>,
    /// Messages on them that it takes, bytes.
    pub(crate) message_bytes_max: u64,

    pub(crate) negotiation: Negotiation,
    /// The ids under which the client sends header extensions.
    pub(crate) inbound_ids: ExtensionIds,
    pub(crate) streams: Vec<Stream>,
    /// Tracks that it publishes.
    pub(crate) published: Vec<usize>,
    pub(crate) arrivals: twcc::Recorder,
    pub(crate) feedback_due: Option<Instant>,

    pub(crate) subscriptions: Slab<Subscription>,
    /// Tracks for which there was no place, in the order in which they came; one follows when a place is free.
    pub(crate) left_out: VecDeque<TrackId>,
    /// What it wished of tracks that are not known here yet, in order.
    pub(crate) early_wishes: VecDeque<(TrackId, Wish)>,
    /// Its subscriptions to the shared audio m-lines of its room, by slot; empty where there are none.
    pub(crate) slots: Vec<usize>,
    /// Audio flows on them, no longer on m-lines of the tracks.
    pub(crate) slots_live: bool,
    /// Subscriptions with packets to look at.
    pub(crate) pending_audio: Vec<usize>,
    pub(crate) pending_video: Vec<usize>,
    /// It stands in its room's queue of the kind.
    pub(crate) ready_audio: bool,
    pub(crate) ready_video: bool,
    pub(crate) resends: VecDeque<(usize, Resend)>,
    /// Padding is due to it.
    pub(crate) padding: bool,
    pub(crate) downlink: Downlink,
    pub(crate) stamps: Stamps,

    pub(crate) allocation: Allocation,

    pub(crate) report_due: Instant,
    pub(crate) quality: Quality,
    /// When its timer is set for.
    pub(crate) due: Option<Instant>,
}

impl Peer {
    /// Media can go out: keys are there and a path is known.
    pub(crate) fn connected(&self) -> bool {
        self.srtp.is_some() && self.ice.selected().is_some()
    }

    /// Notes that an SSRC carries a layer, which then has no other of this kind that was bound before. `false` if the peer
    /// has too many streams.
    pub(crate) fn bind_stream(&mut self, new: Stream) -> bool {
        bind(&mut self.streams, new)
    }

    /// The subscription of a track.
    pub(crate) fn subscription_of(&self, track: TrackId) -> Option<usize> {
        self.subscriptions.iter().find(|(_, s)| s.track_id == track).map(|(key, _)| key)
    }

    /// Removes a subscription and every reference to it.
    pub(crate) fn drop_subscription(&mut self, key: usize) {
        self.subscriptions.try_remove(key);
        self.pending_audio.retain(|k| *k != key);
        self.pending_video.retain(|k| *k != key);
        self.resends.retain(|(k, _)| *k != key);
    }

    /// Notes that a subscription has packets to look at; whether its peer must be queued for it.
    pub(crate) fn note_pending(&mut self, key: usize, kind: Kind) -> bool {
        let (pending, ready) = match kind {
            Kind::Audio => (&mut self.pending_audio, &mut self.ready_audio),
            Kind::Video => (&mut self.pending_video, &mut self.ready_video),
        };
        pending.push(key);
        !std::mem::replace(ready, true)
    }

    /// Something of the video kind waits to be sent to it.
    pub(crate) fn has_video(&self) -> bool {
        !self.pending_video.is_empty() || !self.resends.is_empty() || self.padding
    }

    /// How many videos it is subscribed to.
    pub(crate) fn video_subscriptions(&self) -> usize {
        self.subscriptions.iter().filter(|(_, s)| s.kind == Kind::Video).count()
    }
}

fn bind(streams: &mut Vec<Stream>, new: Stream) -> bool {
    let same = |s: &Stream| (s.track, s.layer, s.repairs) == (new.track, new.layer, new.repairs);
    if new.bound {
        streams.retain(|s| s.ssrc == new.ssrc || !s.bound || !same(s));
    }
    if let Some(stream) = streams.iter_mut().find(|s| s.ssrc == new.ssrc) {
        *stream = new;
        return true;
    }
    let free = streams.len() < STREAMS_MAX;
    if free {
        streams.push(new);
    }
    free
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A layer that comes again and again under new SSRCs fills no list; what a description names waits for its packets.
    #[test]
    fn a_layer_has_one_stream_of_a_kind() {
        let mut streams = Vec::new();
        let stream = |ssrc, layer, repairs, bound| Stream { ssrc, track: 0, layer, repairs, bound };
        assert!(bind(&mut streams, stream(1, 0, false, false)) && bind(&mut streams, stream(2, 1, false, false)));
        for ssrc in 10..1_000 {
            assert!(bind(&mut streams, stream(ssrc, (ssrc % 3) as u8, ssrc % 2 == 0, true)));
        }
        assert_eq!(streams.len(), 2 + 6);
        assert!(bind(&mut streams, stream(1, 0, false, true)));
        assert_eq!(streams.len(), 2 + 5, "and takes the place of what came before");
        for ssrc in 2_000..3_000 {
            bind(&mut streams, stream(ssrc, 0, false, false));
        }
        assert_eq!(streams.len(), STREAMS_MAX);
        assert!(!bind(&mut streams, stream(5_000, 3, false, true)));
    }
}
