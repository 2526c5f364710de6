//! What leaves: control datagrams as they come, then media, one run of one subscriber's packets at a time.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::congestion::Purpose;
use crate::downlink::Downlink;
use crate::peer::{Peer, Srtp};
use crate::ring::Packet;
use crate::subscription::{Stamps, Subscription};
use crate::track::{Layer, Track};
use crate::{Counters, Drop, Kind, Now, Path, Run, Sfu};

/// The longest run, below what one UDP GSO send takes (65,507 bytes).
const RUN_BYTES_MAX: usize = 60_000;
/// The most datagrams of a run (UDP_MAX_SEGMENTS of older kernels is 64).
const RUN_DATAGRAMS_MAX: usize = 64;
/// Control datagrams (STUN, DTLS, RTCP) that wait to be sent. When full, further ones are dropped: all of them are
/// repeated by their protocols.
const CONTROL_BYTES_MAX: usize = 4 << 20;
/// When so much waits, data channels wait: media is next.
const CONTROL_BYTES_BUSY: usize = 256 << 10;
/// Room behind a packet for its tag.
const TAG_BYTES_MAX: usize = 16;

/// Control datagrams that wait.
#[derive(Debug, Default)]
pub(crate) struct Control {
    bytes: Vec<u8>,
    waiting: VecDeque<(Path, usize, usize)>,
}

impl Control {
    /// Whether what can wait should.
    pub(crate) fn is_busy(&self) -> bool {
        !self.waiting.is_empty() && self.bytes.len() > CONTROL_BYTES_BUSY
    }

    /// Queues a datagram.
    pub(crate) fn push(&mut self, path: Path, datagram: &[u8]) {
        if self.waiting.is_empty() {
            self.bytes.clear();
        }
        if self.bytes.len() + datagram.len() > CONTROL_BYTES_MAX {
            return;
        }
        let start = self.bytes.len();
        self.bytes.extend_from_slice(datagram);
        self.waiting.push_back((path, start, self.bytes.len()));
    }
}

/// A run that lies at the start of the egress buffer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Built {
    path: Path,
    len: usize,
    segment: usize,
}

/// A run under construction.
struct Batch<'a> {
    out: &'a mut [u8],
    len: usize,
    segment: usize,
    datagrams: usize,
    closed: bool,
    /// When the oldest of its packets reached the machine, of those that are sent for the first time.
    oldest: Option<Instant>,
    /// No further datagram once it is this long: the pacer's word.
    limit: usize,
}

impl<'a> Batch<'a> {
    /// Nothing yet.
    fn new(out: &'a mut [u8], limit: usize) -> Self {
        Batch { out, len: 0, segment: 0, datagrams: 0, closed: false, oldest: None, limit }
    }

    /// Whether a datagram of this size can follow: no longer than those before it, and none after a shorter one.
    fn takes(&self, len: usize) -> bool {
        let room = self.len + len + TAG_BYTES_MAX <= self.out.len() && self.datagrams < RUN_DATAGRAMS_MAX;
        let room = room && self.len < self.limit;
        self.datagrams == 0 || (room && !self.closed && len <= self.segment)
    }

    fn added(&mut self, len: usize) {
        if self.datagrams == 0 {
            self.segment = len;
        }
        self.closed = len < self.segment;
        self.len += len;
        self.datagrams += 1;
    }

    /// It carries a packet on that came at this time.
    fn carries(&mut self, packet: &Packet) {
        let came = packet.arrival.checked_sub(Duration::from_micros(packet.waited_us.into()));
        let came = came.unwrap_or(packet.arrival);
        self.oldest = Some(self.oldest.map_or(came, |oldest| oldest.min(came)));
    }
}

impl Sfu {
    pub(crate) fn egress_buffer() -> Vec<u8> {
        vec![0; RUN_BYTES_MAX + TAG_BYTES_MAX]
    }

    /// The hot path out: the next run of datagrams to send, or `None` when all is sent. The shell may read its socket
    /// between two calls; nothing is lost by it.
    pub fn next_run(&mut self, now: Now) -> Option<Run<'_>> {
        if let Some((path, start, end)) = self.control.waiting.pop_front() {
            return Some(Run { path, bytes: &self.control.bytes[start..end], segment: end - start });
        }
        self.settle();
        let built = loop {
            if self.ready_rooms.is_empty() {
                return None;
            }
            if let Some(built) = self.guarded(now, |sfu| sfu.build_run(now.mono)).flatten() {
                break built;
            }
        };
        self.counters.runs += 1;
        self.counters.bytes_out += built.len as u64;
        Some(Run { path: built.path, bytes: &self.egress[..built.len], segment: built.segment })
    }

    /// Tells subscribers of fresh packets that they have something to look at.
    pub(crate) fn settle(&mut self) {
        while let Some(key) = self.fresh.pop() {
            let Some(track) = self.tracks.get_mut(key) else { continue };
            track.fresh = false;
            if !track.forwarded {
                continue;
            }
            for subscriber in &track.subscribers {
                let Some(peer) = self.peers.get_mut(subscriber.peer) else { continue };
                let Some(subscription) = peer.subscriptions.get_mut(subscriber.subscription) else { continue };
                if subscription.pending || !subscription.flows() {
                    continue;
                }
                subscription.pending = true;
                let room = peer.room;
                if peer.note_pending(subscriber.subscription, track.kind) {
                    Self::queue(&mut self.rooms, &mut self.ready_rooms, room, subscriber.peer, track.kind);
                }
            }
        }
    }

    fn queue(
        rooms: &mut slab::Slab<crate::room::Room>,
        ready_rooms: &mut VecDeque<usize>,
        room_key: usize,
        peer: usize,
        kind: Kind,
    ) {
        let Some(room) = rooms.get_mut(room_key) else { return };
        match kind {
            Kind::Audio => room.ready_audio.push_back(peer),
            Kind::Video => room.ready_video.push_back(peer),
        }
        if !std::mem::replace(&mut room.ready, true) {
            ready_rooms.push_back(room_key);
        }
    }

    /// Queues a peer that has something to resend, or that had to wait.
    pub(crate) fn queue_video(&mut self, key: usize) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        let room = peer.room;
        if !std::mem::replace(&mut peer.ready_video, true) {
            Self::queue(&mut self.rooms, &mut self.ready_rooms, room, key, Kind::Video);
        }
    }

    /// One run of the next peer of the next room. Rooms take turns, so that a large one does not starve the others.
    pub(crate) fn build_run(&mut self, now: Instant) -> Option<Built> {
        // It stays at the head meanwhile: a panic that costs the peer must not cost the room its place.
        let room_key = *self.ready_rooms.front()?;
        let Some(room) = self.rooms.get_mut(room_key) else {
            self.ready_rooms.pop_front();
            return None;
        };
        let kind = if room.ready_audio.is_empty() { Kind::Video } else { Kind::Audio };
        let queue = match kind {
            Kind::Audio => &mut room.ready_audio,
            Kind::Video => &mut room.ready_video,
        };
        let (mut built, mut held) = (None, None);
        if let Some(key) = queue.front().copied() {
            self.blame = Some(key);
            let mut more = false;
            let mut wait = None;
            if let Some(peer) = self.peers.get_mut(key) {
                let abs_send_time = abs_send_time(now.saturating_duration_since(self.epoch));
                peer.stamps.abs_send_time = abs_send_time;
                built = fill_run(peer, kind, &mut self.tracks, &mut self.egress, &mut self.counters, now);
                more = match kind {
                    Kind::Audio => !peer.pending_audio.is_empty(),
                    Kind::Video => peer.has_video(),
                };
                if more && kind == Kind::Video && built.is_none() {
                    // The pacer holds it back: its timer brings it here again.
                    (more, wait) = (false, Some(peer.downlink.ready_at()));
                }
                if !more {
                    match kind {
                        Kind::Audio => peer.ready_audio = false,
                        Kind::Video => peer.ready_video = false,
                    }
                }
            }
            self.blame = None;
            if !more {
                queue.pop_front();
            }
            held = wait.map(|at| (key, at));
        }
        self.ready_rooms.pop_front();
        if room.ready_audio.is_empty() && room.ready_video.is_empty() {
            room.ready = false;
        } else {
            self.ready_rooms.push_back(room_key);
        }
        if let Some((key, at)) = held {
            self.arm(key, at);
        }
        built
    }
}

/// 24 bits of 6.18 fixed point seconds.
fn abs_send_time(elapsed: std::time::Duration) -> u32 {
    ((elapsed.as_micros() << 18) / 1_000_000) as u32 & 0x00ff_ffff
}

fn fill_run(
    peer: &mut Peer,
    kind: Kind,
    tracks: &mut slab::Slab<Track>,
    out: &mut [u8],
    counters: &mut Counters,
    now: Instant,
) -> Option<Built> {
    let (Some(path), Some(_)) = (peer.ice.selected(), &peer.srtp) else {
        forget_pending(peer, kind);
        return None;
    };
    let limit = peer.downlink.begin_run(kind, now);
    if limit == 0 {
        return None;
    }
    let mut batch = Batch::new(out, limit);
    let full = fill_media(peer, kind, tracks, &mut batch, counters, now);
    if kind == Kind::Video && !full {
        fill_resends(peer, tracks, &mut batch, counters, now);
        if peer.padding && batch.datagrams == 0 {
            fill_padding(peer, &mut batch, now);
        }
    }
    if kind == Kind::Audio {
        peer.allocation.audio_bytes += batch.len as u64;
        peer.downlink.note_audio(batch.len);
    }
    if let Some(oldest) = batch.oldest {
        counters.forward_delays[kind as usize].note(now.saturating_duration_since(oldest));
    }
    let (len, segment, datagrams) = (batch.len, batch.segment, batch.datagrams);
    peer.downlink.end_run(len, now);
    peer.quality.note_out(len, datagrams);
    (datagrams > 0).then_some(Built { path, len, segment })
}

fn forget_pending(peer: &mut Peer, kind: Kind) {
    let pending = match kind {
        Kind::Audio => &mut peer.pending_audio,
        Kind::Video => &mut peer.pending_video,
    };
    for key in pending.drain(..) {
        if let Some(subscription) = peer.subscriptions.get_mut(key) {
            subscription.pending = false;
        }
    }
    if kind == Kind::Video {
        peer.resends.clear();
        peer.padding = false;
    }
}

/// Writes the packets that subscriptions of a kind have not looked at; whether the run is full before they are done.
fn fill_media(
    peer: &mut Peer,
    kind: Kind,
    tracks: &mut slab::Slab<Track>,
    batch: &mut Batch<'_>,
    counters: &mut Counters,
    now: Instant,
) -> bool {
    let Some(srtp) = &peer.srtp else { return false };
    let pending = match kind {
        Kind::Audio => &mut peer.pending_audio,
        Kind::Video => &mut peer.pending_video,
    };
    while let Some(key) = pending.last().copied() {
        if let Some(subscription) = peer.subscriptions.get_mut(key) {
            if kind == Kind::Audio {
                subscription.set_redundancy(peer.downlink.redundancy());
            }
            if let Some(track) = tracks.get_mut(subscription.track) {
                let lost = subscription.overrun(&track.layers);
                if lost > 0 {
                    counters.drops[Drop::Overrun as usize] += lost;
                    peer.quality.note_overrun(now);
                    let wanted = subscription.wanted().map_or(0, |wanted| usize::from(wanted.layer));
                    if let Some(layer) = track.layers.get_mut(wanted).filter(|_| kind == Kind::Video) {
                        layer.keyframes.want(now);
                    }
                }
                if fill_subscription(
                    subscription,
                    &track.layers,
                    srtp,
                    &mut peer.stamps,
                    &mut peer.downlink,
                    batch,
                    counters,
                ) {
                    return true;
                }
            }
            subscription.pending = false;
        }
        pending.pop();
    }
    false
}

/// Whether the run is full before the subscription has seen all.
fn fill_subscription(
    subscription: &mut Subscription,
    layers: &[Layer],
    srtp: &Srtp,
    stamps: &mut Stamps,
    downlink: &mut Downlink,
    batch: &mut Batch<'_>,
    counters: &mut Counters,
) -> bool {
    let overhead = srtp.sealer.overhead();
    while let Some((packet, ring)) = subscription.next(layers) {
        let plain_len = subscription.plain_len(packet, ring);
        let run = (batch.datagrams > 0).then(|| batch.segment.saturating_sub(overhead));
        let padding = subscription.padding(plain_len, ring, run);
        if !batch.takes(plain_len + padding + overhead) {
            return true;
        }
        let Some(prepared) = subscription.prepare(packet) else { continue };
        let prepared = prepared.padded(padding);
        counters.rtp_padded_out += u64::from(prepared.is_padded());
        let at = batch.len;
        let len = subscription.write(prepared, packet, ring, stamps, &srtp.sealer, &mut batch.out[at..]);
        batch.added(len);
        batch.carries(packet);
        downlink.on_sent(len, Purpose::Media, stamps.transport_seq);
        counters.rtp_out += 1;
    }
    false
}

/// Writes what was NACKed, within the peer's budget.
fn fill_resends(
    peer: &mut Peer,
    tracks: &slab::Slab<Track>,
    batch: &mut Batch<'_>,
    counters: &mut Counters,
    now: Instant,
) {
    let Some(srtp) = &peer.srtp else { return };
    let overhead = srtp.sealer.overhead();
    while let Some((key, resend)) = peer.resends.front().copied() {
        // A paused picture goes on with a keyframe: what it lacks would only fill the queue for which it was paused.
        let subscription = peer.subscriptions.get_mut(key);
        let needed = subscription.filter(|it| it.flows() || !peer.downlink.is_congested(now));
        let found = needed.and_then(|subscription| {
            let layers = &tracks.get(subscription.track)?.layers;
            subscription.resent(resend, layers).map(|(packet, ring)| (subscription, packet, ring))
        });
        let Some((subscription, packet, ring)) = found else {
            peer.resends.pop_front();
            continue;
        };
        let len = subscription.resend_len(packet) + overhead;
        if !batch.takes(len) {
            return;
        }
        peer.resends.pop_front();
        if !peer.downlink.may_resend(len, now) {
            continue;
        }
        let at = batch.len;
        let out = &mut batch.out[at..];
        if let Some(len) = subscription.write_rtx(resend, packet, ring, &mut peer.stamps, &srtp.sealer, out) {
            batch.added(len);
            peer.downlink.on_sent(len, Purpose::Resend, peer.stamps.transport_seq);
            counters.rtx_out += 1;
        }
    }
}

/// Writes the padding that a probe of the link is due to send, all of one size.
fn fill_padding(peer: &mut Peer, batch: &mut Batch<'_>, now: Instant) {
    peer.padding = false;
    let Some(srtp) = &peer.srtp else { return };
    let Some((_, subscription)) = peer.subscriptions.iter_mut().find(|(_, s)| s.can_pad()) else { return };
    let len = subscription.padding_len() + srtp.sealer.overhead();
    while peer.downlink.padding(now).is_some() {
        if !batch.takes(len) {
            peer.padding = true;
            return;
        }
        let at = batch.len;
        let written = subscription.write_padding(&mut peer.stamps, &srtp.sealer, &mut batch.out[at..]);
        let Some(len) = written else { return };
        batch.added(len);
        peer.downlink.on_sent(len, Purpose::Padding, peer.stamps.transport_seq);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_datagrams_are_bounded_and_leave_in_order() {
        let path = Path::Udp { local: ([192, 0, 2, 1], 7_882).into(), remote: ([10, 0, 0, 1], 1).into() };
        let mut control = Control::default();
        for round in 0..3 {
            for n in 0..10_000u32 {
                let mut datagram = n.to_be_bytes().to_vec();
                datagram.resize(1_000, round);
                control.push(path, &datagram);
            }
            assert_eq!(control.waiting.len(), CONTROL_BYTES_MAX / 1_000, "what came last is dropped");
            for n in 0..control.waiting.len() as u32 {
                let (_, start, end) = control.waiting.pop_front().unwrap();
                assert_eq!((&control.bytes[start..start + 4], end - start), (&n.to_be_bytes()[..], 1_000));
            }
        }
        assert!(control.bytes.capacity() <= 2 * CONTROL_BYTES_MAX);
    }

    #[test]
    fn a_run_has_datagrams_of_one_size_and_a_shorter_one_ends_it() {
        let mut buffer = Sfu::egress_buffer();
        let mut batch = Batch::new(&mut buffer, usize::MAX);
        assert!(batch.takes(1_000));
        batch.added(1_000);
        assert!(batch.takes(1_000) && batch.takes(999) && !batch.takes(1_001));
        batch.added(500);
        assert!(!batch.takes(500));
        let mut batch = Batch::new(&mut buffer, usize::MAX);
        while batch.takes(1_200) {
            batch.added(1_200);
        }
        assert!(batch.datagrams == 50 && batch.len <= RUN_BYTES_MAX);
        let mut batch = Batch::new(&mut buffer, usize::MAX);
        while batch.takes(100) {
            batch.added(100);
        }
        assert_eq!(batch.datagrams, RUN_DATAGRAMS_MAX);
    }
}
