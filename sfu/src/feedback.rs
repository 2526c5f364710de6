//! RTCP: what clients report and ask for, and what is due to them from time to time.

use std::time::{Duration, Instant};

use crate::peer::{FEEDBACK_INTERVAL, Peer, REPORT_INTERVAL, RESENDS_MAX};
use crate::rtcp::{self, Packet, ReportBlock};
use crate::track::{LAYERS_MAX, Layer, SenderClock, Track};
use crate::{Drop, Kind, Now, Path, Sfu};

/// Compounds are kept below this, so that they fit a datagram with their tag.
const COMPOUND_BYTES_MAX: usize = 1_100;
/// A stream of which nothing came for so long is reported no more: whoever is muted costs nothing (RFC 3550 §6.4).
const REPORTED_FOR: Duration = Duration::from_secs(10);
/// The SSRC under which we send reports and feedback.
const OWN_SSRC: u32 = 1;

impl Sfu {
    pub(crate) fn on_rtcp(&mut self, key: usize, path: Path, datagram: &mut [u8], now: Now) -> Result<(), Drop> {
        let peer = self.peers.get_mut(key).ok_or(Drop::UnknownPath)?;
        let srtp = peer.srtp.as_mut().ok_or(Drop::BeforeDtls)?;
        let len = srtp.opener.open_rtcp(datagram).map_err(Drop::from)?;
        let plain = datagram.get(..len).ok_or(Drop::RtcpMalformed)?;
        peer.ice.heard(path, now.mono);
        for packet in rtcp::parse(plain) {
            match packet {
                Packet::SenderReport { ssrc, ntp, rtp_timestamp, reports, .. } => {
                    self.note_sender_clock(key, ssrc, ntp, rtp_timestamp);
                    self.on_reports(key, reports, now.mono);
                }
                Packet::ReceiverReport { reports, .. } => self.on_reports(key, reports, now.mono),
                Packet::TransportFeedback(feedback) => {
                    if let Some(peer) = self.peers.get_mut(key) {
                        peer.downlink.on_feedback(&feedback, now.mono);
                        self.arm_downlink(key);
                        self.heed_downlink(key, now.mono);
                    }
                }
                Packet::Remb { bitrate, ssrcs } => self.on_remb(key, bitrate, ssrcs, now.mono),
                Packet::Nack { media, lost, .. } => self.on_nack(key, media, lost, now.mono),
                Packet::Pli { media, .. } => self.on_keyframe_request(key, media, now.mono),
                Packet::Fir { entries, .. } => {
                    for (media, _) in entries {
                        self.on_keyframe_request(key, media, now.mono);
                    }
                }
                Packet::Malformed => return Err(Drop::RtcpMalformed),
                // A BYE says nothing that signaling does not say better, and may name another's stream.
                _ => {}
            }
        }
        Ok(())
    }

    /// Only the publisher's own streams: a report about another's SSRC finds nothing.
    fn note_sender_clock(&mut self, key: usize, ssrc: u32, ntp: u64, timestamp: u32) {
        let Some(peer) = self.peers.get(key) else { return };
        let Some(stream) = peer.streams.iter().find(|s| s.ssrc == ssrc) else { return };
        let Some(track) = self.tracks.get_mut(stream.track) else { return };
        let Some(place) = track.layers.iter().position(|layer| layer.ssrc == Some(ssrc)) else { return };
        let clock = SenderClock { ntp, timestamp, arrival: self.arrived };
        self.pipes.tell_clock(track, place, clock);
        self.set_clock(stream.track, place, clock);
    }

    /// Notes which time a layer's timestamps stand for.
    pub(crate) fn set_clock(&mut self, track_key: usize, place: usize, clock: SenderClock) {
        let Some(track) = self.tracks.get_mut(track_key) else { return };
        let Some(layer) = track.layers.get_mut(place) else { return };
        let first = layer.clock.replace(clock).is_none();
        if first && track.layers.len() > 1 {
            // Whoever waits to go over to it had to wait for this, and may have let a keyframe pass.
            track.survey_due = Some(self.latest);
            let publisher = track.publisher;
            self.arm(publisher, self.latest);
        }
    }

    /// What a subscriber says of our streams; blocks about others find nothing. For the estimate the one that lost most counts.
    fn on_reports(&mut self, key: usize, reports: rtcp::Reports<'_>, now: Instant) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        let Peer { subscriptions, downlink, quality, .. } = peer;
        let mut worst = None;
        for block in reports {
            let Some((_, subscription)) = subscriptions.iter_mut().find(|(_, s)| s.ssrc == block.ssrc) else {
                continue;
            };
            downlink.on_round_trip(&block, self.arrived);
            quality.note_report(&mut subscription.heard, &block, subscription.kind.clock_rate());
            worst = worst.max(Some(block.fraction_lost));
            if subscription.kind == Kind::Audio
                && !subscription.takes_red()
                && let Some(track) = self.tracks.get_mut(subscription.track)
            {
                track.lost.note(block.fraction_lost, now);
                self.pipes.tell_loss(track, now);
            }
        }
        if let Some(lost) = worst {
            peer.downlink.on_lost(f64::from(lost) / 256.0, now);
            self.heed_downlink(key, now);
        }
    }

    fn on_nack(&mut self, key: usize, media: u32, lost: rtcp::Nacks<'_>, now: Instant) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        let Some((subscription_key, subscription)) = peer.subscriptions.iter_mut().find(|(_, s)| s.ssrc == media)
        else {
            return;
        };
        let Some(track) = self.tracks.get(subscription.track) else { return };
        let mut queued = false;
        for seq in lost {
            self.counters.nack_in += 1;
            if peer.resends.len() >= RESENDS_MAX {
                break;
            }
            if let Some(resend) = subscription.resendable(seq, &track.layers, now) {
                peer.resends.push_back((subscription_key, resend));
                queued = true;
            }
        }
        if queued {
            self.queue_video(key);
        }
    }

    fn on_keyframe_request(&mut self, key: usize, media: u32, now: Instant) {
        self.counters.keyframe_requests_in += 1;
        let Some(peer) = self.peers.get_mut(key) else { return };
        let Some((_, subscription)) = peer.subscriptions.iter_mut().find(|(_, s)| s.ssrc == media) else { return };
        // Whoever waits for another layer is helped by that one's.
        let (track, wanted, packets) = (subscription.track, subscription.wanted(), subscription.packets);
        // Before its first packet there is no picture that could freeze.
        if packets > 0 {
            peer.quality.note_freeze(now);
        }
        let Some(target) = wanted.filter(|_| subscription.heard.may_ask(now)) else { return };
        self.want_keyframe(track, target.layer.into(), now);
    }

    /// Sends what is due to a peer: transport feedback, NACKs, keyframe requests, reports.
    pub(crate) fn send_feedback(&mut self, key: usize, now: Now) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        let Some(path) = peer.ice.selected() else { return };
        let Some(srtp) = &mut peer.srtp else { return };
        let mut compounds = Compounds { scratch: &mut self.scratch, control: &mut self.control, srtp, path };

        if peer.feedback_due.is_some_and(|due| due <= now.mono) {
            peer.feedback_due = None;
            let media = peer.streams.first().map_or(0, |stream| stream.ssrc);
            while compounds.start(|out| peer.arrivals.write_feedback(OWN_SSRC, media, out)) {}
            if peer.arrivals.is_pending() {
                peer.feedback_due = Some(now.mono + FEEDBACK_INTERVAL);
            }
        }
        for track in &peer.published {
            let Some(track) = self.tracks.get_mut(*track) else { continue };
            for place in 0..track.layers.len() {
                let watched = track.is_watched(place);
                let layer = &mut track.layers[place];
                let Some(ssrc) = layer.ssrc else { continue };
                if !watched {
                    layer.keyframes.arrived();
                }
                self.sequences.clear();
                layer.reception.take_nacks(now.mono, &mut self.sequences);
                if !self.sequences.is_empty() {
                    self.counters.nack_out += self.sequences.len() as u64;
                    let lost = self.sequences.iter().copied();
                    compounds.send(|out| rtcp::write_nack(OWN_SSRC, ssrc, lost, out));
                }
                if layer.keyframes.take(now.mono) {
                    self.counters.keyframe_requests_out += 1;
                    compounds.send(|out| rtcp::write_pli(OWN_SSRC, ssrc, out));
                }
            }
        }
        if peer.report_due <= now.mono {
            peer.report_due = now.mono + REPORT_INTERVAL;
            let blocks = report_blocks(&peer.published, &mut self.tracks, now.mono);
            if !blocks.is_empty() {
                compounds.send(|out| rtcp::write_receiver_report(OWN_SSRC, &blocks, out));
            }
            send_sender_reports(&peer.subscriptions, &mut peer.downlink, &self.tracks, &mut compounds, now.mono);
        }
    }
}

/// Seals compounds one by one into the control queue.
struct Compounds<'a> {
    scratch: &'a mut Vec<u8>,
    control: &'a mut crate::egress::Control,
    srtp: &'a mut crate::peer::Srtp,
    path: crate::Path,
}

impl Compounds<'_> {
    /// One compound of what `write` appends; whether it appended anything.
    fn start(&mut self, write: impl FnOnce(&mut Vec<u8>) -> bool) -> bool {
        self.scratch.clear();
        let wrote = write(self.scratch);
        self.finish();
        wrote
    }

    fn send(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        self.scratch.clear();
        write(self.scratch);
        self.finish();
    }

    fn finish(&mut self) {
        if !self.scratch.is_empty() && self.srtp.sealer.seal_rtcp(self.scratch).is_some() {
            self.control.push(self.path, self.scratch);
        }
        self.scratch.clear();
    }
}

/// One block for each encoding that has sent of late. The fraction lost of sound is that of its listeners where theirs is larger: it
/// is what an encoder goes by, while rates follow the cumulative number, which is our own.
fn report_blocks(published: &[usize], tracks: &mut slab::Slab<Track>, now: Instant) -> Vec<ReportBlock> {
    let mut blocks = Vec::new();
    for (key, place) in published.iter().flat_map(|key| (0..LAYERS_MAX).map(move |place| (key, place))) {
        let Some(track) = tracks.get_mut(*key) else { continue };
        let by_listeners = track.lost.told(now);
        let Some(layer) = track.layers.get_mut(place) else { continue };
        let Some(ssrc) = layer.ssrc.filter(|_| !is_silent(layer, now)) else { continue };
        let (highest, fraction, lost, jitter) = layer.reception.report();
        let (last, delay) = layer.clock.map_or((0, 0), |clock| {
            let delay = now.saturating_duration_since(clock.arrival);
            ((clock.ntp >> 16) as u32, (delay.as_micros() * 65_536 / 1_000_000) as u32)
        });
        blocks.push(ReportBlock {
            ssrc,
            fraction_lost: fraction.max(by_listeners),
            cumulative_lost: lost,
            extended_highest_sequence: highest,
            jitter,
            last_sender_report: last,
            delay_since_last_sender_report: delay,
        });
    }
    blocks
}

fn is_silent(layer: &Layer, now: Instant) -> bool {
    now.saturating_duration_since(layer.last) >= REPORTED_FOR
}

/// One report for each subscription that has sent, carrying the publisher's NTP time: what it publishes together plays
/// together (RFC 3550 §6.4.1).
fn send_sender_reports(
    subscriptions: &slab::Slab<crate::subscription::Subscription>,
    downlink: &mut crate::downlink::Downlink,
    tracks: &slab::Slab<Track>,
    compounds: &mut Compounds<'_>,
    now: Instant,
) {
    compounds.scratch.clear();
    for (_, subscription) in subscriptions {
        let Some(track) = tracks.get(subscription.track) else { continue };
        let Some((place, offset)) = subscription.timestamp_offset(&track.layers) else { continue };
        let Some((ntp, timestamp)) = sender_time(&track.layers[place], track.clock_rate(), now) else { continue };
        if subscription.packets == 0 || is_silent(&track.layers[place], now) {
            continue;
        }
        downlink.reported(ntp, now);
        let out = &mut *compounds.scratch;
        let timestamp = timestamp.wrapping_add(offset);
        rtcp::write_sender_report(
            subscription.ssrc,
            ntp,
            timestamp,
            subscription.packets,
            subscription.octets,
            &[],
            out,
        );
        rtcp::write_sdes_cname(subscription.ssrc, &subscription.participant, out);
        if out.len() > COMPOUND_BYTES_MAX {
            compounds.finish();
        }
    }
    compounds.finish();
}

/// The publisher's NTP time now, and the timestamp that goes with it.
fn sender_time(layer: &Layer, clock_rate: u32, now: Instant) -> Option<(u64, u32)> {
    let clock = layer.clock?;
    let elapsed = now.saturating_duration_since(clock.arrival).min(Duration::from_secs(3_600));
    let ntp = clock.ntp.wrapping_add(((elapsed.as_nanos() << 32) / 1_000_000_000) as u64);
    let units = elapsed.as_micros() * u128::from(clock_rate) / 1_000_000;
    Some((ntp, clock.timestamp.wrapping_add(units as u32)))
}

impl Peer {
    /// When [`Sfu::send_feedback`] has something to do.
    pub(crate) fn feedback_deadline(&self, tracks: &slab::Slab<Track>) -> Option<Instant> {
        self.srtp.as_ref()?;
        let layers = self.published.iter().filter_map(|t| tracks.get(*t)).flat_map(|track| &track.layers);
        let layers = layers.filter(|layer| layer.ssrc.is_some());
        let media = layers.flat_map(|l| [l.reception.nack_due(), l.keyframes.due()]).flatten().min();
        [Some(self.report_due), self.feedback_due, media].into_iter().flatten().min()
    }
}
