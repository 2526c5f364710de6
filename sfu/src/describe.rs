//! What we say to a peer of its session: offers when something has changed, and the descriptions themselves.

use crate::negotiation::{Inbound, Wanted};
use crate::sdp::{self, Direction, LocalMedia, LocalSend, MediaKind, Setup};
use crate::shared::audio_codecs;
use crate::{Event, Kind, Now, Sfu, TrackLine};

impl Sfu {
    /// Offers what has changed, if it may.
    pub(crate) fn offer_if_due(&mut self, key: usize, now: Now) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        if peer.negotiation.offer_due().is_none_or(|due| due > now.mono) {
            return;
        }
        let has_line = |track| peer.negotiation.lines.iter().any(|line| line.sends() == Some(track));
        // Firefox does not take ended tracks out of a stream to which the same offer adds others: first what ends, then
        // what begins.
        let removes = peer.negotiation.removes();
        let (mut wanted, shared_codecs) = (Vec::new(), audio_codecs());
        for (_, subscription) in &peer.subscriptions {
            let codecs = match self.tracks.get(subscription.track) {
                _ if subscription.shared => &shared_codecs,
                Some(track) => &track.codecs,
                None => continue,
            };
            if !has_line(subscription.track_id) && !subscription.told_unavailable {
                let kind = if subscription.kind == Kind::Audio { MediaKind::Audio } else { MediaKind::Video };
                wanted.push(Wanted { track: subscription.track_id, kind, codecs });
            }
        }
        if peer.negotiation.lines.is_empty() && wanted.is_empty() {
            peer.negotiation.wants_offer = false;
            return;
        }
        let later = removes && !wanted.is_empty();
        if later {
            wanted.clear();
        }
        let left_out = peer.negotiation.make_offer(&wanted, now.mono);
        peer.negotiation.wants_offer = later;
        for track in left_out {
            self.leave_out(key, track);
        }
        let (sdp, tracks) = self.describe(key, Setup::ActPass);
        let Some(peer) = self.peers.get(key) else { return };
        let peer = peer.id;
        self.event(Event::Offer { peer, sdp, tracks });
    }

    /// Our description of a peer's session: the unanswered offer, or else what is agreed.
    pub(crate) fn describe(&mut self, key: usize, setup: Setup) -> (String, Vec<TrackLine>) {
        let Some(peer) = self.peers.get_mut(key) else { return Default::default() };
        peer.negotiation.version += 1;
        let offering = setup == Setup::ActPass;
        let lines = match &peer.negotiation.offered {
            Some(offered) if offering => offered,
            _ => &peer.negotiation.lines,
        };
        let mut tracks = Vec::new();
        let mut media = Vec::with_capacity(lines.len());
        for line in lines {
            let direction = if offering { line.offered(peer.rights.publish) } else { line.answered() };
            let subscription =
                line.sends().and_then(|track| peer.subscription_of(track)).map(|s| &peer.subscriptions[s]);
            let mut send = None;
            if let Some(subscription) = subscription
                && direction.sends()
            {
                tracks.push(TrackLine {
                    mid: line.mid.to_string(),
                    track: subscription.track_id,
                    participant: subscription.participant.clone(),
                    source: subscription.source,
                });
                send = Some(LocalSend {
                    stream_id: subscription.participant.clone(),
                    track_id: subscription.track_id.to_string(),
                    cname: subscription.participant.clone(),
                    ssrc: subscription.ssrc,
                    rtx_ssrc: (line.kind == MediaKind::Video).then_some(subscription.rtx_ssrc),
                });
            }
            if let Some(inbound) = line.inbound.as_ref().filter(|i| i.sending && !line.rejected) {
                tracks.push(TrackLine {
                    mid: line.mid.to_string(),
                    track: inbound.track,
                    participant: peer.participant.clone(),
                    source: inbound.source,
                });
            }
            let direction = if send.is_none() && direction.sends() { without_send(direction) } else { direction };
            media.push(LocalMedia {
                kind: line.kind,
                mid: line.mid,
                rejected: line.rejected,
                direction,
                codecs: line.codecs.clone(),
                extensions: line.extensions.clone(),
                mixed: line.mixed,
                rids: line.inbound.as_ref().map(Inbound::layers).unwrap_or_default(),
                send,
            });
        }
        // A restart of ours begins with an offer; until then answers keep the credentials (RFC 9429 §5.3.1).
        let restart = peer.ice.next.as_ref().filter(|next| offering || next.remote.is_some());
        let credentials = &restart.unwrap_or(&peer.ice.current).local;
        let local = sdp::Local {
            session_id: peer.negotiation.session_id,
            version: peer.negotiation.version,
            ice_ufrag: credentials.ufrag.clone(),
            ice_pwd: credentials.pwd.clone(),
            fingerprint: self.identity.fingerprint(),
            setup,
            udp_candidates: self.config.udp_candidates.clone(),
            tcp_candidates: self.config.tcp_candidates.clone(),
            media,
        };
        (local.write(), tracks)
    }
}

fn without_send(direction: Direction) -> Direction {
    if direction.receives() { Direction::RecvOnly } else { Direction::Inactive }
}
