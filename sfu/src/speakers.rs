//! Who speaks, by the levels that clients claim (RFC 6464).

use std::time::{Duration, Instant};

use crate::room::SPEAKERS_INTERVAL;
use crate::{Event, Kind, Now, PeerId, SPEAKERS_MAX, Sfu, Timer};

/// Loudness (127 − dB below full scale) from which somebody begins to be a speaker, and below which he ceases to be
/// one. The distance between them keeps the list from flickering; raising both makes quiet speakers go unseen.
const SPEAKS_FROM: u8 = 80;
const SPEAKS_UNTIL: u8 = 65;
/// A speaker is also so much louder than the noise around him when he begins, and so much while he goes on.
const ABOVE_NOISE_FROM: u8 = 12;
const ABOVE_NOISE_UNTIL: u8 = 6;
/// What is always as loud as this is not taken for noise any more: music has no pauses either.
const NOISE_MAX: u8 = 80;
/// Noise is what the loudness falls to in pauses; in between it is believed to rise by this, in 1/64, with each packet of
/// 20 ms: 5 dB a second. Raising it takes long vowels for noise; lowering it shows a fan as a speaker for longer.
const NOISE_RISE: u16 = 6;
/// A speaker stays one for so long after he was last loud: pauses between words and sentences.
const HOLD: Duration = Duration::from_millis(800);
/// The loudness of who does not say it: heard where there is room, and never shown as a speaker.
const UNKNOWN: u8 = 60;
/// A speaker who was shown counts as so much louder when there are more of them than are shown.
const SHOWN_BONUS: u8 = 8;
/// Order and levels alone are told at most this often …
const LEVELS_INTERVAL: Duration = Duration::from_secs(1);
/// … and only if a level changed by this.
const LEVEL_STEP: u8 = 4;

/// How loud a track is. Fixed point: loudness in 1/64.
#[derive(Debug, Default)]
pub(crate) struct Voice {
    /// Over about 100 ms: rises fast and falls more slowly.
    short: u16,
    /// Over about a second.
    long: u16,
    noise: u16,
    /// When the last packet came.
    heard: Option<Instant>,
    /// When it was last loud, as long as it speaks.
    loud: Option<Instant>,
}

impl Voice {
    /// Takes the audio level byte of a packet; whether this packet alone is loud enough to be an onset of speech.
    pub(crate) fn note(&mut self, level: Option<u8>, now: Instant) -> bool {
        if self.is_silent(now) {
            self.short = 0;
        }
        self.heard = Some(now);
        let loudness = u16::from(level.map_or(UNKNOWN, |level| 127 - (level & 0x7f))) * 64;
        let speed = if loudness > self.short { 3 } else { 8 };
        self.short = approach(self.short, loudness, speed);
        self.long = approach(self.long, loudness, 64);
        self.noise = (self.noise + NOISE_RISE).min(self.short).min(u16::from(NOISE_MAX) * 64);
        let above = |least: u8, margin: u8| (u16::from(least) * 64).max(self.noise + u16::from(margin) * 64);
        let from = above(SPEAKS_FROM, ABOVE_NOISE_FROM);
        let until = above(SPEAKS_UNTIL, ABOVE_NOISE_UNTIL);
        if self.short >= from || (self.short >= until && self.is_speaking(now)) {
            self.loud = Some(now);
        }
        loudness >= from
    }

    /// Nothing comes in silence (DTX).
    fn is_silent(&self, now: Instant) -> bool {
        self.heard.is_none_or(|heard| now.saturating_duration_since(heard) > SPEAKERS_INTERVAL)
    }

    /// Whether somebody speaks, short pauses included.
    pub(crate) fn is_speaking(&self, now: Instant) -> bool {
        self.loud.is_some_and(|loud| now.saturating_duration_since(loud) < HOLD)
    }

    /// 0 silent … 127 loudest, now.
    pub(crate) fn loudness(&self, now: Instant) -> u8 {
        if self.is_silent(now) { 0 } else { (self.short / 64) as u8 }
    }

    /// The same as is shown to people, who do not care for single words.
    fn shown(&self) -> u8 {
        (self.long.max(self.short / 2) / 64).max(1) as u8
    }
}

/// A step of a moving average over `speed` packets. It arrives, though it is whole numbers.
fn approach(from: u16, to: u16, speed: u16) -> u16 {
    if to > from { from + (to - from).div_ceil(speed) } else { from - (from - to).div_ceil(speed) }
}

/// The speakers of a room as they were last told.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// Loudest first.
    pub(crate) speakers: Vec<(PeerId, u8)>,
    /// Which shared audio m-line carries whom.
    audio: Vec<(u8, PeerId)>,
    at: Option<Instant>,
}

impl Told {
    /// Whether somebody is shown as a speaker.
    pub(crate) fn shows(&self, peer: PeerId) -> bool {
        self.speakers.iter().any(|(shown, _)| *shown == peer)
    }

    fn shows_others_than(&self, speakers: &[(PeerId, u8)]) -> bool {
        speakers.len() != self.speakers.len() || !speakers.iter().all(|(peer, _)| self.shows(*peer))
    }

    /// Whether this is news now.
    fn differs(&self, speakers: &[(PeerId, u8)], audio: &[(u8, PeerId)], now: Instant) -> bool {
        if self.shows_others_than(speakers) || audio != self.audio {
            return true;
        }
        let recently = self.at.is_some_and(|at| now.saturating_duration_since(at) < LEVELS_INTERVAL);
        let changed =
            |(old, new): (&(PeerId, u8), &(PeerId, u8))| old.0 != new.0 || old.1.abs_diff(new.1) >= LEVEL_STEP;
        !recently && self.speakers.iter().zip(speakers).any(changed)
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

    pub(crate) fn tick_room(&mut self, room_key: usize, at: Instant, now: Now) {
        let Some(room) = self.rooms.get_mut(room_key) else { return };
        if room.speakers_due != Some(at) {
            return;
        }
        room.speakers_due = None;
        let heard = room.floor.tracks > 0;
        self.tell_speakers(room_key, now);
        self.direct_room(room_key, now);
        if heard {
            self.watch_speakers(room_key, now);
        }
    }

    fn tell_speakers(&mut self, room_key: usize, now: Now) {
        let Some(room) = self.rooms.get(room_key) else { return };
        let mut speakers: Vec<(PeerId, u8)> = Vec::new();
        for peer in room.peers.iter().filter_map(|key| self.peers.get(*key)) {
            let tracks = peer.published.iter().filter_map(|key| self.tracks.get(*key));
            let speaking = tracks.filter(|t| t.kind == Kind::Audio && !t.is_muted() && t.voice.is_speaking(now.mono));
            if let Some(shown) = speaking.map(|t| t.voice.shown()).max() {
                speakers.push((peer.id, shown));
            }
        }
        let rank = |(peer, loudness): &(PeerId, u8)| loudness + if room.told.shows(*peer) { SHOWN_BONUS } else { 0 };
        speakers.sort_by_key(|speaker| (std::cmp::Reverse(rank(speaker)), speaker.0));
        speakers.truncate(SPEAKERS_MAX);
        speakers.sort_by_key(|(peer, loudness)| (std::cmp::Reverse(*loudness), *peer));
        let audio = self.shared_audio(room_key);
        let Some(room) = self.rooms.get_mut(room_key) else { return };
        if room.told.differs(&speakers, &audio, now.mono) {
            let others = room.told.shows_others_than(&speakers);
            room.told = Told { speakers: speakers.clone(), audio: audio.clone(), at: Some(now.mono) };
            let room = room.id;
            self.event(Event::Speakers { room, speakers, audio });
            if others {
                self.allocate_room(room_key, now.mono);
            }
        }
    }
}

#[cfg(test)]
mod tests;
