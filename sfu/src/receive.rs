//! What comes in: one datagram to its peer, STUN to ICE, DTLS to the handshake, RTP to its track.

use std::time::{Duration, Instant};

use turn_server::stun::{self, Message, Method, Writer};

use crate::dtls::{Dtls, Progress};
use crate::payload::{self, Description, Targets, red};
use crate::peer::{EARLY_DTLS_MAX, FEEDBACK_INTERVAL, Peer, Srtp, Stream};
use crate::ring::Incoming;
use crate::rtp::{self, Class, Header};
use crate::sdp::CodecName;
use crate::srtp::Rejected;
use crate::track::{Arrival, Layer, SURVEY_INTERVAL, Track};
use crate::{CloseReason, Drop, Event, Kind, Now, Path, Sfu, Sources};

/// A new SSRC on an m-line replaces the old one only if the old one has been silent for so long.
const STREAM_SILENCE: Duration = Duration::from_millis(300);
/// The longest SRTP packet taken; a longer one is dropped as malformed. Forwarding adds up to 36 bytes (header extensions, two
/// of RTX, a longer tag) and the TURN server 4: together with IPv4 and UDP that is 1,500. More would be lost on the way, and
/// a run of such packets would be refused as a whole. Browsers stay below 1,300, others that are known to us at 1,416.
const RTP_BYTES_MAX: usize = 1_432;

/// The header extensions of a packet that mean something to us.
#[derive(Default)]
struct Extensions<'a> {
    mid: Option<&'a [u8]>,
    /// The RID, or for a retransmission that of what it repairs.
    rid: Option<&'a [u8]>,
    transport_seq: Option<u16>,
    level: Option<u8>,
    descriptor: &'a [u8],
}

impl From<Rejected> for Drop {
    fn from(rejected: Rejected) -> Self {
        match rejected {
            Rejected::Malformed => Drop::RtpMalformed,
            Rejected::Authentication => Drop::Authentication,
            Rejected::Replay => Drop::Replay,
            Rejected::TooManyStreams => Drop::TooManyStreams,
        }
    }
}

impl Sfu {
    /// The hot path in: one datagram, decrypted in place. What it causes to be sent waits for [`Sfu::next_run`]. `arrived`, not
    /// after `now`, is when it came: senders are told of that, lest the time in which nobody read it seem the network's.
    pub fn receive(&mut self, path: Path, datagram: &mut [u8], arrived: Instant, now: Now) {
        self.latest = now.mono;
        self.arrived = arrived;
        self.counters.datagrams_in += 1;
        self.counters.bytes_in += datagram.len() as u64;
        self.guarded(now, |sfu| {
            if let Err(reason) = sfu.dispatch(path, datagram, now) {
                sfu.counters.drops[reason as usize] += 1;
            }
            sfu.blame = None;
        });
    }

    fn dispatch(&mut self, path: Path, datagram: &mut [u8], now: Now) -> Result<(), Drop> {
        let class = rtp::classify(datagram);
        if class == Class::Stun {
            return self.on_stun(path, datagram, now);
        }
        if class == Class::Other {
            return Err(Drop::Unknown);
        }
        let key = match self.paths.get(&path) {
            Some(key) => *key,
            None => self.recognize(path, class, datagram, now).ok_or(Drop::UnknownPath)?,
        };
        self.blame = Some(key);
        match class {
            Class::Dtls => self.on_dtls(key, datagram, now),
            Class::Rtcp => self.on_rtcp(key, path, datagram, now),
            _ => self.on_rtp(key, path, datagram, now),
        }
    }

    /// RFC 8445 §7.3: a check is valid by our password, whatever address it comes from; the answer to one of ours by theirs.
    fn on_stun(&mut self, path: Path, datagram: &[u8], now: Now) -> Result<(), Drop> {
        let message = Message::parse(datagram).ok_or(Drop::StunMalformed)?;
        match (message.class(), message.method()) {
            (stun::Class::Request, Method::BINDING) => {}
            (stun::Class::Success, Method::BINDING) => return self.on_check_answered(path, &message, now),
            // Indications are keepalives, and nothing else is meant for us.
            _ => return Ok(()),
        }
        let (ours, theirs) = message.username().and_then(|name| name.split_once(':')).ok_or(Drop::StunMalformed)?;
        let key = *self.ufrags.get(ours).ok_or(Drop::StunUnknownUfrag)?;
        self.blame = Some(key);
        let peer = self.peers.get_mut(key).ok_or(Drop::StunUnknownUfrag)?;
        let generation = peer.ice.generation(ours).ok_or(Drop::StunUnknownUfrag)?;
        if generation.remote_ufrag().is_some_and(|known| known != theirs) {
            // An RTCPeerConnection that this peer no longer has.
            return Err(Drop::StunUnknownUfrag);
        }
        if !message.check_integrity(generation.local.pwd.as_bytes()) {
            return Err(Drop::StunIntegrity);
        }
        let pwd = generation.local.pwd.clone();
        if self.paths.get(&path).is_some_and(|other| *other != key && self.owns(*other, path, now)) {
            // Unanswered, so that the client tries again: the other may be gone by then.
            return Err(Drop::ContestedPath);
        }
        self.answer_check(path, &message, &pwd);
        if message.unknown_comprehension_required().next().is_none() && message.ice_controlled().is_none() {
            let ours = ours.to_owned();
            self.check_passed(key, path, &ours, message.use_candidate(), now);
        }
        Ok(())
    }

    fn answer_check(&mut self, path: Path, message: &Message<'_>, pwd: &str) {
        let id = message.transaction_id();
        self.scratch.clear();
        let out = &mut self.scratch;
        if message.unknown_comprehension_required().next().is_some() {
            Writer::error(out, Method::BINDING, id, 420, "Unknown Attribute")
                .unknown_attributes(message.unknown_comprehension_required())
                .integrity(pwd.as_bytes())
                .fingerprint();
        } else if message.ice_controlled().is_some() {
            // We are lite, so the client must be controlling (RFC 8445 §6.1.1).
            Writer::error(out, Method::BINDING, id, 487, "Role Conflict").integrity(pwd.as_bytes()).fingerprint();
        } else {
            let mapped = match path {
                Path::Udp { remote, .. } => remote,
                Path::Relay { relayed, .. } => relayed,
                Path::Tcp { remote, .. } => remote,
            };
            Writer::success(out, Method::BINDING, id)
                .xor_mapped_address(mapped)
                .integrity(pwd.as_bytes())
                .fingerprint();
        }
        self.control.push(path, &self.scratch);
    }

    fn owns(&self, key: usize, path: Path, now: Now) -> bool {
        self.peers.get(key).is_some_and(|peer| peer.ice.owns(path, now.mono))
    }

    pub(crate) fn check_passed(&mut self, key: usize, path: Path, ours: &str, nominated: bool, now: Now) {
        // Whoever had this path has not been heard there for long; keys keep peers apart in any case.
        if let Some(other) = self.paths.insert(path, key)
            && other != key
            && let Some(other) = self.peers.get_mut(other)
        {
            other.ice.forget(path);
        }
        let Some(peer) = self.peers.get_mut(key) else { return };
        if peer.ice.next.as_ref().is_some_and(|next| next.local.ufrag == ours)
            && let Some(next) = peer.ice.next.take()
        {
            let old = std::mem::replace(&mut peer.ice.current, next);
            self.ufrags.remove(&old.local.ufrag);
        }
        self.roamers.remove(&path);
        let regained = peer.ice.consent_due().is_none();
        let checked = peer.ice.checked(path, nominated, now.mono);
        let early = std::mem::take(&mut peer.early_dtls);
        if let Some(evicted) = checked.evicted {
            self.paths.remove(&evicted);
            self.close_path(evicted);
        }
        for datagram in &early {
            let _ = self.on_dtls(key, datagram, now);
        }
        // What waited for a path is due now. A check that renews one changes no deadline but consent's, which moves away:
        // a timer for each would fill the heap with stale ones.
        if checked.selected || regained {
            self.arm(key, now.mono);
        }
    }

    pub(crate) fn on_dtls(&mut self, key: usize, datagram: &[u8], now: Now) -> Result<(), Drop> {
        let peer = self.peers.get_mut(key).ok_or(Drop::UnknownPath)?;
        let Some(path) = peer.ice.selected() else { return Err(Drop::UnknownPath) };
        let Some(expected) = peer.remote_fingerprint else {
            // The client's answer is still on its way over the socket.
            if peer.early_dtls.len() < EARLY_DTLS_MAX {
                peer.early_dtls.push(datagram.to_vec());
            }
            return Ok(());
        };
        let identity = &self.identity;
        let dtls = peer.dtls.get_or_insert_with(|| Dtls::new(identity, expected, datagram, now.mono));
        let control = &mut self.control;
        let progress = dtls.handle(datagram, now.mono, |record| control.push(path, record));
        let data = dtls.take_data();
        self.dtls_progress(key, progress, now);
        if !data.is_empty() {
            self.on_data(key, &data, now);
        }
        Ok(())
    }

    pub(crate) fn dtls_progress(&mut self, key: usize, progress: Progress, now: Now) {
        match progress {
            Progress::Going => self.arm(key, now.mono),
            Progress::Connected(keys) => {
                let Some(peer) = self.peers.get_mut(key) else { return };
                let (opener, sealer) = *keys;
                peer.srtp = Some(Srtp { opener, sealer });
                let id = peer.id;
                self.counters.dtls_connected += 1;
                self.event(Event::Connected { peer: id });
                self.start_subscriptions(key, now);
                self.arm(key, now.mono);
            }
            Progress::Ended => {
                let Some(peer) = self.peers.get(key) else { return };
                if peer.srtp.is_none() {
                    self.counters.dtls_failed += 1;
                }
                let id = peer.id;
                self.remove_peer(key, now);
                self.event(Event::Closed { peer: id, reason: CloseReason::Dtls });
            }
        }
    }

    fn on_rtp(&mut self, key: usize, path: Path, datagram: &mut [u8], now: Now) -> Result<(), Drop> {
        let peer = self.peers.get_mut(key).ok_or(Drop::UnknownPath)?;
        let srtp = peer.srtp.as_mut().ok_or(Drop::BeforeDtls)?;
        let header = rtp::parse(datagram).filter(|_| datagram.len() <= RTP_BYTES_MAX).ok_or(Drop::RtpMalformed)?;
        let (len, _) = srtp
            .opener
            .open_rtp(datagram, header.header_len, header.ssrc, header.sequence_number)
            .map_err(Drop::from)?;
        let plain = datagram.get(..len).ok_or(Drop::RtpMalformed)?;
        peer.ice.heard(path, now.mono);
        peer.quality.note_in(len);
        let extensions = read_extensions(peer, plain, &header);
        if let Some(seq) = extensions.transport_seq {
            peer.arrivals.record(seq, self.arrived);
            if peer.feedback_due.is_none() {
                let due = now.mono + FEEDBACK_INTERVAL;
                peer.feedback_due = Some(due);
                self.arm(key, due);
            }
        }
        let payload = rtp::payload(plain, &header).ok_or(Drop::RtpMalformed)?;
        let (track, layer) = self.layer_of(key, &header, &extensions, now)?;
        self.on_media(key, (track, layer), &header, &extensions, payload, now)
    }

    /// The track and layer that a packet belongs to: by SSRC once that is known, else by mid and RID.
    fn layer_of(
        &mut self,
        key: usize,
        header: &Header,
        extensions: &Extensions<'_>,
        now: Now,
    ) -> Result<(usize, usize), Drop> {
        let peer = self.peers.get_mut(key).ok_or(Drop::UnknownPath)?;
        let known = peer.streams.iter().find(|s| s.ssrc == header.ssrc).copied();
        if let Some(stream) = known.filter(|stream| stream.bound) {
            return Ok((stream.track, stream.layer.into()));
        }
        let track_key = match known {
            Some(stream) => stream.track,
            // Who may not publish everything is not just mistaken.
            None => track_of(peer, &self.tracks, header, extensions.mid)
                .map_err(|reason| if peer.rights.publish == Sources::ALL { reason } else { Drop::NotPermitted })?,
        };
        let track = self.tracks.get_mut(track_key).ok_or(Drop::UnknownStream)?;
        let codec = track.codec_of(header.payload_type).ok_or(Drop::UnknownPayloadType)?;
        let repairs = track.codecs[codec].payload_type != header.payload_type;
        let place = match (extensions.rid, known) {
            _ if track.layers.len() == 1 => Some(0),
            (Some(rid), _) if track.layers.iter().any(|layer| layer.rid.is_some()) => {
                track.layers.iter().position(|layer| layer.rid.as_ref().is_some_and(|r| r.as_bytes() == rid))
            }
            (_, known) => known.map(|stream| usize::from(stream.layer)),
        };
        let place = place.ok_or(Drop::UnknownStream)?;
        let layer = track.layers.get_mut(place).ok_or(Drop::UnknownStream)?;
        let stream = Stream { ssrc: header.ssrc, track: track_key, layer: place as u8, repairs, bound: true };
        match layer.ssrc {
            // What repairs nothing that is known.
            None if repairs => return Err(Drop::UnknownStream),
            // Another stream on a layer replaces the one that it had only if that has been silent.
            Some(_) if !repairs && now.mono.saturating_duration_since(layer.last_packet()) < STREAM_SILENCE => {
                return Err(Drop::UnknownStream);
            }
            _ => {}
        }
        if !peer.bind_stream(stream) {
            return Err(Drop::TooManyStreams);
        }
        if !repairs {
            layer.restart(header.ssrc, header.sequence_number, now.mono);
        }
        Ok((track_key, place))
    }

    fn on_media(
        &mut self,
        key: usize,
        (track_key, place): (usize, usize),
        header: &Header,
        extensions: &Extensions<'_>,
        payload: &[u8],
        now: Now,
    ) -> Result<(), Drop> {
        let track = self.tracks.get_mut(track_key).ok_or(Drop::UnknownStream)?;
        let codec = track.codec_of(header.payload_type).ok_or(Drop::UnknownPayloadType)?;
        let repaired = track.codecs[codec].payload_type != header.payload_type;
        let (seq, payload) = if repaired {
            self.counters.rtx_in += 1;
            // RFC 4588 §4: the original sequence number stands before the payload. Less is padding for probing.
            let (osn, rest) = payload.split_first_chunk::<2>().ok_or(Drop::Padding)?;
            (u16::from_be_bytes(*osn), rest)
        } else {
            (header.sequence_number, payload)
        };
        let recover = track.codecs[codec].feedback.nack && track.is_watched(place) && !track.held;
        let red = red_primary(track, codec, payload)?;
        let video = track.video_codec(codec as u8);
        let clock_rate = track.clock_rate();
        let layer = track.layers.get_mut(place).ok_or(Drop::UnknownStream)?;
        let (seq, gap_too_large) = arrive(layer, header, seq, repaired, recover, now)?;
        if repaired {
            layer.reception.note_repair();
        } else {
            layer.reception.note_jitter(header.timestamp, clock_rate, self.arrived);
        }
        if track.held {
            // Counted as what came, and kept nowhere.
            layer.keyframes.arrived();
            return Err(Drop::NotPermitted);
        }
        let description = match video {
            Some(codec) => payload::describe(codec, payload, extensions.descriptor, &mut layer.descriptors),
            None => sound(payload),
        };
        let incoming = Incoming {
            seq,
            epoch: layer.epoch,
            timestamp: header.timestamp,
            marker: header.marker,
            codec: codec as u8,
            video,
            description,
            level: extensions.level,
            descriptor: extensions.descriptor,
            skip: red.map_or(0, |primary| primary.offset as u16),
            payload,
        };
        self.counters.rtp_in += 1;
        let bytes = payload.len() + header.header_len;
        let came = Came { arrived: self.arrived, bytes, repaired, gap_too_large };
        self.take_in(key, (track_key, place), &incoming, came, now)
    }

    /// The *Track* step of a packet that is new: from its publisher, or through a pipe.
    pub(crate) fn take_in(
        &mut self,
        key: usize,
        (track_key, place): (usize, usize),
        incoming: &Incoming<'_>,
        came: Came,
        now: Now,
    ) -> Result<(), Drop> {
        let track = self.tracks.get_mut(track_key).ok_or(Drop::UnknownStream)?;
        let layer = track.layers.get_mut(place).ok_or(Drop::UnknownStream)?;
        let woke = layer.heard(incoming.timestamp, now.mono);
        if layer.levels.note(&incoming.description, came.bytes, now.mono) || woke {
            // Before the packet lies in the ring: what begins with it can be seen to begin.
            track.rank(now.mono);
            self.reaim(track_key, now.mono);
        }
        let track = self.tracks.get_mut(track_key).ok_or(Drop::UnknownStream)?;
        if !track.ends.is_empty() {
            self.pipes.push(track, place, incoming, came, &mut self.counters);
        }
        let kind = track.kind;
        let layer = track.layers.get_mut(place).ok_or(Drop::UnknownStream)?;
        if incoming.description.starts_keyframe {
            layer.keyframes.arrived();
        }
        if came.gap_too_large && kind == Kind::Video {
            layer.keyframes.want(now.mono);
        }
        layer.ring.push(*incoming, now.mono);
        layer.ring.last_waited(now.mono.saturating_duration_since(came.arrived));
        let mut due = [layer.reception.nack_due(), layer.keyframes.due()].into_iter().flatten().min();
        let onset = kind == Kind::Audio && !came.repaired && track.voice.note(incoming.level, now.mono);
        let onset = incoming.level.filter(|_| onset).map(|level| 127 - (level & 0x7f));
        let forwarded = track.forwarded;
        if kind == Kind::Video && track.survey_due.is_none() {
            let survey = now.mono + SURVEY_INTERVAL;
            track.survey_due = Some(survey);
            due = Some(due.map_or(survey, |due| due.min(survey)));
        }
        if !std::mem::replace(&mut track.fresh, true) {
            self.fresh.push(track_key);
        }
        if !forwarded {
            self.passed_over(track_key, onset, now);
        }
        if let Some(due) = due {
            self.arm(key, due);
        }
        Ok(())
    }
}

/// How a packet came, beside what it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Came {
    /// When it came to us.
    pub(crate) arrived: Instant,
    /// Its length, with its header.
    pub(crate) bytes: usize,
    /// As a retransmission.
    pub(crate) repaired: bool,
    /// What is missing before it is given up.
    pub(crate) gap_too_large: bool,
}

/// Where the Opus of a RED packet lies. One whose blocks cannot be told apart is of no use to anybody.
fn red_primary(track: &Track, codec: usize, payload: &[u8]) -> Result<Option<red::Primary>, Drop> {
    if track.codecs[codec].name != CodecName::Red || payload.is_empty() {
        return Ok(None);
    }
    let is_opus = |primary: &red::Primary| {
        track.codecs.iter().any(|c| c.name == CodecName::Opus && c.payload_type == primary.payload_type)
    };
    red::primary(payload).filter(is_opus).map(Some).ok_or(Drop::RtpMalformed)
}

/// Notes a packet's sequence number in its layer: its extended number, and whether what is missing before it is given up.
fn arrive(
    layer: &mut Layer,
    header: &Header,
    seq: u16,
    repaired: bool,
    recover: bool,
    now: Now,
) -> Result<(u64, bool), Drop> {
    let mut arrival = match repaired {
        true => layer.reception.repair(seq, recover, now.mono),
        false => layer.reception.arrive(seq, recover, now.mono),
    };
    if arrival == Arrival::Restart {
        layer.restart(header.ssrc, seq, now.mono);
        arrival = layer.reception.arrive(seq, recover, now.mono);
    }
    match arrival {
        Arrival::New { seq, gap_too_large } => Ok((seq, gap_too_large)),
        _ => Err(Drop::Duplicate),
    }
}

/// What a packet of audio says: any may be the first.
pub(crate) fn sound(payload: &[u8]) -> Description {
    Description {
        starts_keyframe: !payload.is_empty(),
        starts_frame: true,
        ends_frame: true,
        present: Targets::ALL,
        decodable: Targets::ALL,
        switch: Targets::ALL,
        ..Description::default()
    }
}

/// The track of a stream that is not known yet: by mid, else by a payload type that only one m-line has.
fn track_of(peer: &Peer, tracks: &slab::Slab<Track>, header: &Header, mid: Option<&[u8]>) -> Result<usize, Drop> {
    let mut candidates = peer.published.iter().copied().filter(|track| {
        tracks.get(*track).is_some_and(|track| match mid {
            Some(mid) => track.mid.as_bytes() == mid,
            None => track.codec_of(header.payload_type).is_some(),
        })
    });
    let track = candidates.next().ok_or(Drop::UnknownStream)?;
    if candidates.next().is_some() { Err(Drop::UnknownStream) } else { Ok(track) }
}

fn read_extensions<'a>(peer: &Peer, plain: &'a [u8], header: &Header) -> Extensions<'a> {
    let ids = &peer.inbound_ids;
    let mut found = Extensions::default();
    for (id, body) in rtp::extensions(plain, header) {
        if id == 0 {
            continue;
        }
        if id == ids.transport_cc {
            found.transport_seq = body.first_chunk::<2>().map(|b| u16::from_be_bytes(*b));
        } else if id == ids.mid {
            found.mid = Some(body);
        } else if id == ids.audio_level {
            found.level = body.first().copied();
        } else if id == ids.descriptor {
            found.descriptor = body;
        } else if id == ids.rid || id == ids.repaired_rid {
            found.rid = Some(body);
        }
    }
    found
}
