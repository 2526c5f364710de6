//! What a player sees and hears (WHEP): its own m-lines, filled with what matters most in the room.

use std::cmp::Reverse;

use crate::room::Room;
use crate::sdp::MediaKind;
use crate::subscribe::outlet;
use crate::track::Track;
use crate::{Kind, Now, Sfu, Source, TrackId, View};

impl Sfu {
    /// Gives each m-line on which a player would receive something a subscription, which shows nothing yet.
    pub(crate) fn fill_lines(&mut self, key: usize, now: Now) {
        let Some(peer) = self.peers.get(key).filter(|peer| peer.rights.subscribe) else { return };
        let lines: Vec<(TrackId, Kind)> = peer
            .negotiation
            .lines
            .iter()
            .filter_map(|line| {
                Some((line.sends()?, if line.kind == MediaKind::Audio { Kind::Audio } else { Kind::Video }))
            })
            .collect();
        let gone = |id: TrackId| !lines.iter().any(|(line, _)| *line == id);
        let gone: Vec<usize> =
            peer.subscriptions.iter().filter(|(_, s)| gone(s.track_id)).map(|(key, _)| key).collect();
        for subscription in gone {
            self.unpoint(key, subscription);
            self.peers[key].drop_subscription(subscription);
        }
        for (line, kind) in lines {
            if self.peers[key].subscription_of(line).is_none() {
                self.insert_shared(key, line, kind, "program".into(), now);
            }
        }
    }

    /// Decides anew what the players of a room see and hear.
    pub(crate) fn direct_room(&mut self, room_key: usize, now: Now) {
        let Some(room) = self.rooms.get(room_key) else { return };
        let is_player = |key: &usize| self.peers.get(*key).is_some_and(|peer| peer.view != View::Tracks);
        let players: Vec<usize> = room.peers.iter().copied().filter(is_player).collect();
        for key in players {
            self.direct(key, now);
        }
    }

    /// Decides anew what a player sees and hears.
    pub(crate) fn direct(&mut self, key: usize, now: Now) {
        for kind in [Kind::Video, Kind::Audio] {
            self.direct_kind(key, kind, now);
        }
    }

    fn direct_kind(&mut self, key: usize, kind: Kind, now: Now) {
        let Some(peer) = self.peers.get(key) else { return };
        let View::Program { participant } = &peer.view else { return };
        let lines: Vec<usize> = peer
            .negotiation
            .lines
            .iter()
            .filter_map(|line| peer.subscription_of(line.sends()?))
            .filter(|subscription| peer.subscriptions[*subscription].kind == kind)
            .collect();
        let shown: Vec<usize> = lines.iter().map(|s| peer.subscriptions[*s].track).collect();
        let Some(room) = self.rooms.get(peer.room) else { return };
        let published = room.peers.iter().filter_map(|key| self.peers.get(*key)).flat_map(|peer| &peer.published);
        let mut candidates: Vec<usize> = published
            .copied()
            .filter(|track_key| {
                self.tracks.get(*track_key).is_some_and(|track| {
                    let asked_for = participant.as_ref().is_none_or(|wanted| *wanted == track.participant);
                    track.kind == kind && track.publisher != key && !track.is_muted() && asked_for
                })
            })
            .collect();
        candidates.sort_by_key(|track| Reverse(self.importance(*track, shown.contains(track), room)));
        candidates.retain(|track| self.is_playable(key, lines.first(), *track));
        candidates.truncate(lines.len());
        let mut fresh: Vec<usize> = candidates.iter().rev().copied().filter(|track| !shown.contains(track)).collect();
        for (line, track) in lines.into_iter().zip(shown) {
            if candidates.contains(&track) {
                continue;
            }
            let next = fresh.pop();
            if next.is_some() || self.tracks.contains(track) {
                self.unpoint(key, line);
            }
            if let Some(next) = next {
                self.point(key, line, next, now);
            }
        }
    }

    /// Which of two tracks of a kind is shown first. What is shown stays unless something matters more.
    fn importance(&self, track_key: usize, is_shown: bool, room: &Room) -> (u8, bool, usize) {
        let Some(track) = self.tracks.get(track_key) else { return (0, false, 0) };
        let publisher = self.peers.get(track.publisher);
        let teaches = publisher.is_some_and(|peer| peer.rights.instructor);
        let mut speakers = room.told.speakers.iter().rev().map(|(speaker, _)| *speaker);
        let speaks = speakers.position(|speaker| publisher.is_some_and(|p| p.id == speaker)).map_or(0, |n| n + 1);
        let class = match track.source {
            Source::Screen => 3,
            Source::Camera if teaches => 2,
            Source::Camera => u8::from(speaks > 0),
            Source::Microphone | Source::ScreenAudio if speaks > 0 => 2,
            Source::Microphone | Source::ScreenAudio => u8::from(teaches),
        };
        (class, is_shown, speaks)
    }

    /// Whether a player can decode a track on an m-line.
    fn is_playable(&self, key: usize, subscription: Option<&usize>, track_key: usize) -> bool {
        let line = self.peers.get(key).and_then(|peer| {
            let subscription = peer.subscriptions.get(*subscription?)?;
            peer.negotiation.lines.iter().find(|line| line.sends() == Some(subscription.track_id))
        });
        let decodes = |track: &Track| line.is_some_and(|line| outlet(line, track).payloads.iter().any(Option::is_some));
        self.tracks.get(track_key).is_some_and(decodes)
    }
}
