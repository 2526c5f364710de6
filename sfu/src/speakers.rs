//! Who speaks, by the levels that clients claim (RFC 6464).

use crate::room::SPEAKERS_INTERVAL;
use crate::track::Track;
use crate::{Event, Kind, Now, PeerId, SPEAKERS_MAX, Sfu, Timer};

/// Loudness (127 − dB below full scale) from which somebody begins to be a speaker, and below which he ceases to be
/// one. The distance between them keeps the list from flickering; raising both makes quiet speakers go unseen.
const SPEAKS_FROM: u8 = 80;
const SPEAKS_UNTIL: u8 = 65;

impl Track {
    /// Takes the audio level byte of a packet into the smoothed loudness.
    pub(crate) fn note_level(&mut self, level: u8) {
        let loudness = u16::from(127 - (level & 0x7f));
        self.loudness = ((u16::from(self.loudness) * 7 + loudness) / 8) as u8;
    }
}

impl Sfu {
    /// Looks at a room's speakers from now on.
    pub(crate) fn watch_speakers(&mut self, room_key: usize, now: Now) {
        let Some(room) = self.rooms.get_mut(room_key) else { return };
        if room.speakers_due.is_none() {
            let due = now.mono + SPEAKERS_INTERVAL;
            room.speakers_due = Some(due);
            self.timers.push(std::cmp::Reverse((due, Timer::Room(room_key))));
        }
    }

    pub(crate) fn tick_room(&mut self, room_key: usize, at: std::time::Instant, now: Now) {
        let Some(room) = self.rooms.get_mut(room_key) else { return };
        if room.speakers_due != Some(at) {
            return;
        }
        room.speakers_due = None;
        let mut heard = false;
        let mut loud: Vec<(PeerId, u8)> = Vec::new();
        for key in &room.peers {
            let Some(peer) = self.peers.get(*key) else { continue };
            let mut loudest = 0;
            for track_key in &peer.published {
                let Some(track) = self.tracks.get_mut(*track_key).filter(|t| t.kind == Kind::Audio) else { continue };
                heard = true;
                let last = track.layers.first().map(|l| l.last_packet());
                if last.is_none_or(|last| now.mono.saturating_duration_since(last) > SPEAKERS_INTERVAL) {
                    // Nothing comes in silence (DTX): fade out.
                    track.loudness /= 2;
                }
                loudest = loudest.max(if track.muted { 0 } else { track.loudness });
            }
            let threshold = if room.speakers.contains(&peer.id) { SPEAKS_UNTIL } else { SPEAKS_FROM };
            if loudest >= threshold {
                loud.push((peer.id, loudest));
            }
        }
        loud.sort_by_key(|(peer, loudness)| (std::cmp::Reverse(*loudness), *peer));
        loud.truncate(SPEAKERS_MAX);
        let mut speakers: Vec<PeerId> = loud.iter().map(|(peer, _)| *peer).collect();
        speakers.sort_unstable();
        if speakers != room.speakers {
            room.speakers = speakers;
            let room = room.id;
            self.event(Event::Speakers { room, speakers: loud, audio: Vec::new() });
            self.allocate_room(room_key, now.mono);
        }
        if heard {
            self.watch_speakers(room_key, now);
        }
    }
}
