//! What a room's media is like now, for operators: read from what is kept anyway, and bounded.

use std::sync::Arc;
use std::time::Instant;

use crate::sdp::CodecName;
use crate::subscription::Subscription;
use crate::track::{Layer, Track};
use crate::{Cause, Pause, RoomId, Sample, Sfu, Source, TrackId};

/// Peers of one [`Snapshot`]. Further ones are left out, and it says so: rooms may have more, but nobody reads them at once.
pub const SNAPSHOT_PEERS_MAX: usize = 500;

/// A room's media at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// At most [`SNAPSHOT_PEERS_MAX`], in order of arrival.
    pub peers: Vec<PeerSnapshot>,
    /// There are more.
    pub truncated: bool,
    /// How many peers of this worker subscribe to which tracks of other workers.
    pub elsewhere: Vec<(TrackId, usize)>,
}

/// One participant's transport.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerSnapshot {
    /// Whose.
    pub participant: Arc<str>,
    /// ICE and DTLS are up.
    pub connected: bool,
    /// Its path, round trip and estimate now, and what flowed in the five seconds of its last sample.
    pub sample: Sample,
    /// 0 lost, 1 bad … 4 excellent.
    pub score: u8,
    /// Who is to blame for less than 4.
    pub cause: Option<Cause>,
    /// What it publishes.
    pub tracks: Vec<TrackSnapshot>,
    /// What it gets; only where one participant was asked for.
    pub subscriptions: Vec<SubscriptionSnapshot>,
}

/// A published track.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrackSnapshot {
    /// Which.
    pub track: TrackId,
    /// What it shows.
    pub source: Source,
    /// What it was negotiated in first.
    pub codec: Option<CodecName>,
    /// By its publisher.
    pub muted: bool,
    /// By a moderator.
    pub held: bool,
    /// Who subscribes.
    pub subscribers: usize,
    /// Its encodings, as the publisher described them.
    pub layers: Vec<LayerSnapshot>,
}

/// One encoding of a track. Counts are since its stream began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerSnapshot {
    /// Its name, where there are several.
    pub rid: Option<Arc<str>>,
    /// Packets come of it.
    pub active: bool,
    /// Somebody gets it or waits for it.
    pub watched: bool,
    /// Pixels; 0 where unknown.
    pub width: u16,
    /// Pixels; 0 where unknown.
    pub height: u16,
    /// Bits a second that come of it.
    pub bps: u32,
    /// Packets that came.
    pub packets: u64,
    /// Packets that did not, before repair.
    pub lost: u64,
    /// Interarrival jitter (RFC 3550 §6.4.1), microseconds.
    pub jitter_us: u32,
}

/// One track to one peer. Counts are since the subscription began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscriptionSnapshot {
    /// Which; on shared audio lines the line's own.
    pub track: TrackId,
    /// Who publishes it.
    pub participant: Arc<str>,
    /// What it shows.
    pub source: Source,
    /// The encoding that is sent, where there are several.
    pub rid: Option<Arc<str>>,
    /// The spatial and temporal layer that is sent; `None` while nothing is.
    pub level: Option<(u8, u8)>,
    /// Why nothing is.
    pub paused: Option<Pause>,
    /// Packets sent; wraps.
    pub packets: u32,
    /// Bytes of payload sent; wraps.
    pub bytes: u32,
    /// Packets that the subscriber reports as lost.
    pub lost: u64,
}

impl Sfu {
    /// What is asked with [`crate::Request::Snapshot`]; nothing of a room that is not there.
    pub(crate) fn snapshot(&self, room: RoomId, only: Option<&str>, now: Instant) -> Snapshot {
        let room = self.rooms_by_id.get(&room).and_then(|room| self.rooms.get(*room));
        let keys = room.map(|room| room.peers.as_slice()).unwrap_or_default();
        let wanted = keys.iter().filter_map(|key| self.peers.get(*key));
        let (own, stand_ins): (Vec<_>, Vec<_>) = wanted.partition(|peer| peer.pipe.is_none());
        let foreign = stand_ins.iter().flat_map(|peer| &peer.published).filter_map(|track| self.tracks.get(*track));
        let elsewhere = foreign.filter(|track| !track.subscribers.is_empty());
        let elsewhere = elsewhere.map(|track| (track.id, track.subscribers.len())).collect();
        let mut wanted = own.into_iter().filter(|peer| only.is_none_or(|only| *peer.participant == *only));
        let peers = wanted.by_ref().take(SNAPSHOT_PEERS_MAX).map(|peer| {
            let (score, cause) = peer.quality.verdict();
            let tracks = peer.published.iter().filter_map(|track| self.tracks.get(*track));
            let subscriptions = peer.subscriptions.iter().filter(|_| only.is_some());
            PeerSnapshot {
                participant: peer.participant.clone(),
                connected: peer.connected(),
                sample: peer.quality.last(peer.link(now)),
                score,
                cause,
                tracks: tracks.map(|track| of_track(track, now)).collect(),
                subscriptions: subscriptions.map(|(_, s)| self.of_subscription(s)).collect(),
            }
        });
        Snapshot { peers: peers.collect(), truncated: wanted.next().is_some(), elsewhere }
    }

    fn of_subscription(&self, subscription: &Subscription) -> SubscriptionSnapshot {
        let sent = subscription.current();
        let layer = sent.and_then(|to| self.tracks.get(subscription.track)?.layers.get(usize::from(to.layer)));
        SubscriptionSnapshot {
            track: subscription.track_id,
            participant: subscription.participant.clone(),
            source: subscription.source,
            rid: layer.and_then(|layer| layer.rid.clone()),
            level: sent.map(|to| (to.spatial, to.temporal)),
            paused: subscription.paused,
            packets: subscription.packets,
            bytes: subscription.octets,
            lost: subscription.heard.lost(),
        }
    }
}

fn of_track(track: &Track, now: Instant) -> TrackSnapshot {
    let layer = |(place, layer): (usize, &Layer)| {
        let (width, height) = layer.levels.picture();
        let (packets, lost) = layer.reception.counts();
        let jitter = layer.reception.jitter() * 1e6 / f64::from(track.clock_rate().max(1));
        LayerSnapshot {
            rid: layer.rid.clone(),
            active: layer.alive,
            watched: track.is_watched(place),
            width,
            height,
            bps: if layer.is_flowing(now) { layer.levels.total_bps(now) } else { 0 },
            packets,
            lost,
            jitter_us: jitter as u32,
        }
    };
    TrackSnapshot {
        track: track.id,
        source: track.source,
        codec: track.codecs.first().map(|codec| codec.name),
        muted: track.muted,
        held: track.held,
        subscribers: track.subscribers.len(),
        layers: track.layers.iter().enumerate().map(layer).collect(),
    }
}
