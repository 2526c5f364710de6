//! What devices send to the SFU, which is played here.

use std::time::Duration;

use serde_json::json;
use sfu::{Kind, PeerId, RoomId, Sample, Source, TrackId, TrackInfo};
use signaling::{Input, WorkerId};

use super::School;
use crate::truth::Shown;

/// What a seat has in the SFU.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) room: RoomId,
    pub(super) participant: String,
    pub(super) has_microphone: bool,
    /// Each with since when it shows something.
    pub(super) tracks: Vec<(TrackId, Source, Option<u64>)>,
}

impl School {
    fn peer_of(&self, device: usize) -> Option<(PeerId, usize)> {
        let stay = self.stay_of(device)?;
        let participant = &self.truth.stays[stay].participant;
        let (peer, _) = self.peers.iter().find(|(_, peer)| peer.participant == *participant)?;
        Some((*peer, stay))
    }

    fn media(&mut self, event: sfu::Event) {
        self.handle(Input::Media { worker: WorkerId(0), event });
    }

    pub(super) fn publish(&mut self, device: usize, screen: bool, muted: bool) {
        let Some((peer, _)) = self.peer_of(device) else { return };
        self.next += 1;
        let source = if screen { Source::Screen } else { Source::Camera };
        let info = TrackInfo { track: TrackId(self.next), kind: Kind::Video, source, muted };
        let since = (!muted).then_some(self.now);
        if let Some(peer) = self.peers.get_mut(&peer) {
            peer.tracks.push((info.track, source, since));
        }
        self.did("publish");
        self.media(sfu::Event::TrackPublished { peer, info });
    }

    pub(super) fn mute(&mut self, device: usize, muted: bool) {
        let Some((peer, stay)) = self.peer_of(device) else { return };
        let Some((track, _, _)) = self.peers[&peer].tracks.last().copied() else { return };
        let Some(link) = self.devices[device].link.as_mut().filter(|link| link.stay == Some(stay)) else { return };
        link.last_event = self.now;
        let socket = link.socket;
        let ack = self.emit(socket, "track-update", json!({ "trackId": track.to_string(), "muted": muted }));
        assert_eq!(ack["ok"], true, "{ack}");
        self.cut(peer, track, !muted);
        self.did("mute");
    }

    pub(super) fn unpublish(&mut self, device: usize) {
        let Some((peer, _)) = self.peer_of(device) else { return };
        let Some((track, _, _)) = self.peers[&peer].tracks.last().copied() else { return };
        self.cut(peer, track, false);
        self.peers.get_mut(&peer).expect("it is there").tracks.pop();
        self.media(sfu::Event::TrackUnpublished { peer, track });
    }

    /// Ends what a track shows, or begins it anew.
    fn cut(&mut self, peer: PeerId, track: TrackId, goes_on: bool) {
        let now = self.now;
        let Some(peer) = self.peers.get_mut(&peer) else { return };
        for (_, source, since) in peer.tracks.iter_mut().filter(|(id, _, _)| *id == track) {
            if let Some(from) = std::mem::replace(since, goes_on.then_some(now)) {
                let (participant, is_screen) = (peer.participant.clone(), *source == Source::Screen);
                self.truth.shown.push(Shown { participant, is_screen, from, to: now });
            }
        }
    }

    pub(super) fn end_peer(&mut self, peer: PeerId) {
        let tracks: Vec<TrackId> = self.peers.get(&peer).map_or(Vec::new(), |p| p.tracks.iter().map(|t| t.0).collect());
        tracks.into_iter().for_each(|track| self.cut(peer, track, false));
        self.peers.remove(&peer);
    }

    pub(super) fn sample(&mut self, device: usize, silence: u64) {
        let Some((peer, stay)) = self.peer_of(device) else { return };
        let at = self.now.saturating_sub(silence);
        match self.devices[device].link.as_mut().filter(|link| link.stay == Some(stay)) {
            Some(link) => link.last_event = link.last_event.max(at),
            None => {
                let stay = &mut self.truth.stays[stay];
                stay.to = stay.to.max(Some(at.max(stay.from)));
                self.did("media after the socket");
            }
        }
        let silence = Duration::from_millis(silence.min(self.now));
        let sample = Box::new(Sample { silence, ..Sample::default() });
        self.media(sfu::Event::Sample { peer, sample });
    }

    pub(super) fn speak(&mut self, devices: &[usize]) {
        let mut speakers = Vec::new();
        let mut room = None;
        for device in devices {
            let Some((id, _)) = self.peer_of(*device) else { continue };
            self.next += 1;
            let info =
                TrackInfo { track: TrackId(self.next), kind: Kind::Audio, source: Source::Microphone, muted: false };
            let peer = self.peers.get_mut(&id).expect("it is there");
            room = Some(peer.room);
            speakers.push((id, 90));
            if !std::mem::replace(&mut peer.has_microphone, true) {
                self.media(sfu::Event::TrackPublished { peer: id, info });
            }
        }
        if let Some(room) = room {
            self.media(sfu::Event::Speakers { room, speakers, audio: Vec::new() });
        }
    }
}
