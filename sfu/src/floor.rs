//! Who has the floor: which audio of a large room is forwarded at all.
//!
//! In a small room everybody is. In a larger one the loudest have a slot each, and what must always be heard is forwarded
//! beside them. In a very large one listeners have one m-line for each slot ([`crate::shared`]). Slots are given away by
//! the packet in which somebody begins to speak, and what came just before it is sent as well, so that no syllable is lost.

use std::time::{Duration, Instant};

use crate::ring::{Index, Ring};
use crate::track::Track;
use crate::{Kind, Now, Sfu, Source, TrackId};

/// Rooms with no more audio tracks forward all of it.
pub(crate) const AUDIO_FORWARD_ALL: usize = 12;
/// … and do so again when no more are left: a room in between stays as it is.
const AUDIO_FORWARD_ALL_AGAIN: usize = 10;
/// Rooms with more audio tracks have shared m-lines: a browser plays a few audio tracks well, and not hundreds.
pub(crate) const AUDIO_SHARED_ABOVE: usize = 50;
/// … until fewer are left.
const AUDIO_SHARED_UNTIL: usize = 40;
/// How many are heard at once.
pub(crate) const AUDIO_SLOTS: usize = 8;
/// Tracks that are forwarded beside the slots: of instructors, and the sound of screens. When full, they need slots like
/// all others.
const AUDIO_ALWAYS_MAX: usize = 8;
/// Among speakers a slot changes hands at most once in this time …
const SLOT_HOLD: Duration = Duration::from_millis(300);
/// … and only to one who is so much louder.
const SLOT_MARGIN: u8 = 6;
/// Audio from before an onset that is sent with it, and at most so many packets. More would be heard as delay.
const PREROLL: Duration = Duration::from_millis(60);
const PREROLL_PACKETS_MAX: u64 = 6;

/// How audio reaches the listeners of a room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Mode {
    /// All of it.
    #[default]
    All,
    /// That of the loudest, on m-lines of the tracks.
    Loudest,
    /// That of the loudest, on shared m-lines.
    Shared,
}

impl Mode {
    /// The mode of a room with so many audio tracks that was in this one.
    fn next(self, tracks: usize) -> Mode {
        let shared_from = if self == Mode::Shared { AUDIO_SHARED_UNTIL } else { AUDIO_SHARED_ABOVE + 1 };
        let all_until = if self == Mode::All { AUDIO_FORWARD_ALL } else { AUDIO_FORWARD_ALL_AGAIN };
        match tracks {
            n if n >= shared_from => Mode::Shared,
            n if n <= all_until => Mode::All,
            _ => Mode::Loudest,
        }
    }
}

/// Who is in a slot, and since when.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Holder {
    pub(crate) track: usize,
    since: Instant,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Floor {
    pub(crate) mode: Mode,
    /// Audio tracks in the room.
    pub(crate) tracks: usize,
    pub(crate) slots: [Option<Holder>; AUDIO_SLOTS],
    /// Tracks that are forwarded without a slot.
    always: Vec<usize>,
    /// What the shared m-lines stand under in negotiations; empty until there are some.
    pub(crate) lines: Vec<TrackId>,
}

/// What speaks for a track when slots are short: that it must always be heard, that somebody speaks, how loud.
type Claim = (bool, bool, u8);

impl Sfu {
    /// An audio track began or ended in a room.
    pub(crate) fn count_audio(&mut self, room_key: usize, now: Now) {
        let Some(room) = self.rooms.get(room_key) else { return };
        let published = room.peers.iter().filter_map(|peer| self.peers.get(*peer)).flat_map(|peer| &peer.published);
        let audio: Vec<usize> =
            published.copied().filter(|key| self.tracks.get(*key).is_some_and(|t| t.kind == Kind::Audio)).collect();
        let Some(room) = self.rooms.get_mut(room_key) else { return };
        let floor = &mut room.floor;
        floor.tracks = audio.len();
        floor.always.retain(|key| audio.contains(key));
        for slot in &mut floor.slots {
            *slot = slot.filter(|holder| audio.contains(&holder.track));
        }
        let (before, mode) = (floor.mode, floor.mode.next(audio.len()));
        floor.mode = mode;
        if mode == before {
            return;
        }
        match (before, mode) {
            (_, Mode::All) => {
                floor.slots = Default::default();
                floor.always.clear();
                for key in audio {
                    self.forward(key, now);
                }
            }
            (Mode::All, _) => self.first_slots(room_key, audio, now),
            // What had no slot because it needed none takes one when it is heard next.
            _ => {
                for key in std::mem::take(&mut floor.always) {
                    self.silence(key);
                }
            }
        }
        if before == Mode::Shared || mode == Mode::Shared {
            self.change_audio_lines(room_key, now);
        }
    }

    /// The loudest of a room in which all were forwarded keep on.
    fn first_slots(&mut self, room_key: usize, mut audio: Vec<usize>, now: Now) {
        audio.sort_by_key(|key| std::cmp::Reverse(self.tracks.get(*key).map(|track| self.claim(track, now.mono))));
        let Some(room) = self.rooms.get_mut(room_key) else { return };
        let mut heard = audio.iter();
        for slot in &mut room.floor.slots {
            *slot = heard.next().map(|key| Holder { track: *key, since: now.mono });
        }
        for key in heard {
            self.silence(*key);
        }
    }

    fn silence(&mut self, track_key: usize) {
        if let Some(track) = self.tracks.get_mut(track_key) {
            track.forwarded = false;
        }
    }

    /// Forwards a track from now on, and from a little before.
    fn forward(&mut self, track_key: usize, now: Now) {
        let Some(track) = self.tracks.get_mut(track_key) else { return };
        if std::mem::replace(&mut track.forwarded, true) {
            return;
        }
        let Some(layer) = track.layers.first() else { return };
        let from = preroll(&layer.ring, now.mono);
        for subscriber in &track.subscribers {
            let Some(peer) = self.peers.get_mut(subscriber.peer) else { continue };
            if let Some(subscription) = peer.subscriptions.get_mut(subscriber.subscription) {
                subscription.resume(from);
            }
        }
    }

    fn is_privileged(&self, track: &Track) -> bool {
        track.source == Source::ScreenAudio
            || self.peers.get(track.publisher).is_some_and(|peer| peer.rights.instructor)
    }

    fn claim(&self, track: &Track, now: Instant) -> Claim {
        let speaks = track.voice.is_speaking(now) && !track.is_muted();
        (speaks && self.is_privileged(track), speaks, if track.is_muted() { 0 } else { track.voice.loudness(now) })
    }

    /// A packet came of an audio track that is not forwarded; with `onset`, one in which somebody seems to begin to speak,
    /// so loud.
    pub(crate) fn passed_over(&mut self, track_key: usize, onset: Option<u8>, now: Now) {
        let Some(track) = self.tracks.get(track_key).filter(|track| !track.is_muted()) else { return };
        let Some(room_key) = self.peers.get(track.publisher).map(|peer| peer.room) else { return };
        let privileged = self.is_privileged(track);
        let Some(room) = self.rooms.get(room_key) else { return };
        if privileged && room.floor.mode == Mode::Loudest && room.floor.always.len() < AUDIO_ALWAYS_MAX {
            self.rooms[room_key].floor.always.push(track_key);
            return self.forward(track_key, now);
        }
        let slots = &room.floor.slots;
        let slot = match (slots.iter().position(Option::is_none), onset) {
            (Some(free), _) => free,
            (None, Some(loudness)) => {
                let Some(slot) = self.slot_for((privileged, true, loudness), slots, now.mono) else { return };
                slot
            }
            (None, None) => return,
        };
        let shared = room.floor.mode == Mode::Shared;
        let before = self.rooms[room_key].floor.slots[slot].replace(Holder { track: track_key, since: now.mono });
        if let Some(before) = before {
            self.silence(before.track);
        }
        if shared {
            self.move_shared_line(room_key, slot, before.map(|before| before.track), now);
        }
        self.forward(track_key, now);
    }

    /// A peer does not teach any more: what is heard of it needs a slot like all others.
    pub(crate) fn demote(&mut self, key: usize) {
        let Some(room_key) = self.peers.get(key).map(|peer| peer.room) else { return };
        let is_its =
            |track: &usize| self.tracks.get(*track).is_some_and(|t| t.publisher == key && !self.is_privileged(t));
        let Some(room) = self.rooms.get(room_key) else { return };
        let demoted: Vec<usize> = room.floor.always.iter().copied().filter(is_its).collect();
        self.rooms[room_key].floor.always.retain(|track| !demoted.contains(track));
        for track in demoted {
            self.silence(track);
        }
    }

    /// The slot that somebody who begins to speak takes over, if one may be taken from its holder.
    fn slot_for(&self, claim: Claim, slots: &[Option<Holder>; AUDIO_SLOTS], now: Instant) -> Option<usize> {
        let held = slots.iter().enumerate().filter_map(|(slot, holder)| {
            let holder = holder.as_ref()?;
            let weight = self.tracks.get(holder.track).map_or((false, false, 0), |track| self.claim(track, now));
            Some((weight, holder.since, slot))
        });
        let ((privileged, speaks, loudness), since, slot) = held.min()?;
        let outranked = (privileged, speaks) < (claim.0, claim.1);
        let outspoken = (privileged, speaks) == (claim.0, claim.1)
            && claim.2 >= loudness.saturating_add(SLOT_MARGIN)
            && now.saturating_duration_since(since) >= SLOT_HOLD;
        (outranked || outspoken).then_some(slot)
    }
}

/// The first packet that is sent of a track of which nothing was sent before its last packet.
pub(crate) fn preroll(ring: &Ring, now: Instant) -> Index {
    let next = ring.next();
    let young = |index: &Index| {
        ring.packet(*index).is_some_and(|packet| now.saturating_duration_since(packet.arrival) <= PREROLL)
    };
    let earliest = next.saturating_sub(PREROLL_PACKETS_MAX);
    (earliest..next).rev().take_while(young).last().unwrap_or(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_change_late_and_back_later() {
        let walk = |counts: &[usize]| -> Vec<Mode> {
            let mut mode = Mode::All;
            counts
                .iter()
                .map(|count| {
                    mode = mode.next(*count);
                    mode
                })
                .collect()
        };
        use Mode::{All, Loudest, Shared};
        assert_eq!(walk(&[0, 12, 13, 12, 11, 10, 12]), [All, All, Loudest, Loudest, Loudest, All, All]);
        assert_eq!(walk(&[50, 51, 50, 40, 39, 50]), [Loudest, Shared, Shared, Shared, Loudest, Loudest]);
        assert_eq!(walk(&[500, 0]), [Shared, All]);
    }
}
