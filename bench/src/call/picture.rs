//! Whether a picture moves: frames are put together whole and decoded only when what they need was decoded before, whatever the
//! codec. Freezes are counted as webrtc-stats does.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use super::stamp::Stamp;

/// Frames that wait to become whole or decodable. When full, the oldest go.
const FRAMES_MAX: usize = 120;
/// An interval between two pictures is a freeze if it is longer than three times the average of so many …
const INTERVALS: usize = 30;
/// … and longer than it by this (webrtc-stats, `freezeCount`).
const FREEZE_MORE: Duration = Duration::from_millis(150);
/// Without any picture a keyframe is asked for so often, as libwebrtc does; afterwards when none could be shown for so long.
const FIRST_KEY_WAIT: Duration = Duration::from_millis(200);
const KEY_WAIT: Duration = Duration::from_millis(500);

#[derive(Default)]
struct Frame {
    /// One bit a piece, of the first 128; further ones are counted only.
    seen: u128,
    count: u16,
    pieces: u16,
    needs: u8,
}

/// What came of one video.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Watched {
    /// Pictures shown.
    pub shown: u64,
    /// Time that it was to move.
    pub watched: Duration,
    /// Of this, time that it stood still.
    pub frozen: Duration,
    /// How often.
    pub freezes: u64,
}

/// See the module.
#[derive(Default)]
pub struct Picture {
    frames: BTreeMap<(u8, u32), Frame>,
    /// Layer and number of the newest decoded frame, and which of those before it were decoded.
    chain: Option<(u8, u32, u64)>,
    last_shown: Option<Instant>,
    last_packet: Option<Instant>,
    asked_key: Option<Instant>,
    intervals: VecDeque<Duration>,
    sums: Watched,
}

impl Picture {
    /// Takes a packet; whether a picture could be shown with it.
    pub fn take(&mut self, stamp: &Stamp, now: Instant) -> bool {
        self.last_packet = Some(now);
        let place = (stamp.layer, stamp.frame);
        if self.chain.is_some_and(|(layer, newest, _)| layer == stamp.layer && stamp.frame <= newest) {
            return false;
        }
        let frame = self.frames.entry(place).or_default();
        (frame.pieces, frame.needs) = (stamp.pieces, stamp.needs);
        let bit = 1_u128.checked_shl(u32::from(stamp.piece)).unwrap_or(0);
        if bit == 0 || frame.seen & bit == 0 {
            frame.seen |= bit;
            frame.count += 1;
        }
        if self.frames.len() > FRAMES_MAX {
            self.frames.pop_first();
        }
        self.decode(now)
    }

    fn decode(&mut self, now: Instant) -> bool {
        let mut shown = false;
        while let Some(place) =
            self.frames.iter().find(|(place, frame)| self.decodable(place, frame)).map(|(at, _)| *at)
        {
            let (layer, number) = place;
            let mask = match self.chain {
                Some((of, newest, mask)) if of == layer && number > newest => {
                    mask.checked_shl(number - newest).unwrap_or(0)
                }
                _ => 0,
            };
            self.chain = Some((layer, number, mask | 1));
            // What is older than the newest of its layer is of no use any more; neither are frames of layers that were left.
            self.frames.retain(|(of, frame), _| *of != layer || *frame > number);
            self.show(now);
            shown = true;
        }
        shown
    }

    fn decodable(&self, (layer, number): &(u8, u32), frame: &Frame) -> bool {
        if frame.count < frame.pieces {
            return false;
        }
        let Some((of, newest, mask)) = self.chain else { return frame.needs == 0 };
        // The mask counts back from the newest, `needs` from this frame.
        let ahead = number.wrapping_sub(newest);
        frame.needs == 0
            || (of == *layer
                && (1..=8).contains(&ahead)
                && (0..8).filter(|bit| frame.needs & (1 << bit) != 0).all(|bit| {
                    let back = bit + 1;
                    back >= ahead && mask & (1 << (back - ahead)) != 0
                }))
    }

    fn show(&mut self, now: Instant) {
        self.sums.shown += 1;
        if let Some(before) = self.last_shown.replace(now) {
            self.note_interval(now.saturating_duration_since(before));
        }
    }

    fn note_interval(&mut self, interval: Duration) {
        self.sums.watched += interval;
        if self.is_freeze(interval) {
            self.sums.frozen += interval;
            self.sums.freezes += 1;
        }
        self.intervals.push_back(interval);
        if self.intervals.len() > INTERVALS {
            self.intervals.pop_front();
        }
    }

    fn is_freeze(&self, interval: Duration) -> bool {
        let count = self.intervals.len().max(1) as u32;
        let average = self.intervals.iter().sum::<Duration>() / count;
        !self.intervals.is_empty() && interval > (3 * average).max(average + FREEZE_MORE)
    }

    /// Whether a keyframe is to be asked for now.
    pub fn wants_key(&mut self, now: Instant) -> bool {
        let (wait, since) = match self.last_shown {
            Some(at) => (KEY_WAIT, Some(at)),
            None => (FIRST_KEY_WAIT, self.asked_key.or(Some(now - FIRST_KEY_WAIT))),
        };
        let over = |since: Option<Instant>| since.is_none_or(|at| now.saturating_duration_since(at) >= wait);
        let comes = self.last_packet.is_some_and(|at| now.saturating_duration_since(at) < KEY_WAIT);
        let wants = comes && over(since) && over(self.asked_key) && !self.frames.is_empty();
        if wants {
            self.asked_key = Some(now);
        }
        wants
    }

    /// It stands still by agreement from now on (paused, or switched off): that is no freeze.
    pub fn pause(&mut self) {
        self.last_shown = None;
        self.intervals.clear();
        self.frames.clear();
    }

    /// The time to count is over: what stands still now and has not moved since is a freeze too.
    pub fn finish(&mut self, now: Instant) {
        if let Some(before) = self.last_shown.take() {
            let interval = now.saturating_duration_since(before);
            if self.is_freeze(interval) {
                self.note_interval(interval);
            }
        }
    }

    /// What was counted since the last time.
    pub fn take_sums(&mut self) -> Watched {
        std::mem::take(&mut self.sums)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::stamp::Track;

    fn piece(frame: u32, piece: u16, layer: u8, key: bool) -> Stamp {
        let needs = u8::from(!key);
        Stamp { publisher: 1, track: Track::Camera, layer, needs, frame, piece, pieces: 2, sent_us: 0 }
    }

    #[test]
    fn frames_are_shown_whole_in_order_and_after_what_they_need() {
        let (mut picture, now) = (Picture::default(), Instant::now());
        let mut take = |frame, at, layer, key| picture.take(&piece(frame, at, layer, key), now);
        assert!(!take(4, 0, 0, false) && !take(4, 1, 0, false), "nothing is shown without a keyframe");
        assert!(!take(5, 1, 0, true) && take(5, 0, 0, true), "the whole keyframe is");
        assert!(!take(7, 0, 0, false) && !take(7, 1, 0, false), "6 is missing");
        assert!(!take(6, 0, 0, false) && take(6, 1, 0, false), "6, and 7 behind it");
        assert!(!take(9, 0, 1, false) && !take(9, 1, 1, false), "another layer begins with a keyframe");
        assert!(!take(10, 0, 1, true) && take(10, 1, 1, true));
        assert_eq!(picture.take_sums().shown, 4);
    }

    #[test]
    fn a_long_interval_is_a_freeze_and_a_pause_is_none() {
        let (mut picture, mut now) = (Picture::default(), Instant::now());
        let mut show = |picture: &mut Picture, frame, ms| {
            now += Duration::from_millis(ms);
            (0..2).for_each(|at| _ = picture.take(&piece(frame, at, 0, frame == 0), now));
            now
        };
        (0..30).for_each(|frame| _ = show(&mut picture, frame, 33));
        show(&mut picture, 30, 170);
        assert_eq!(picture.take_sums().freezes, 0, "170 ms are a stutter");
        show(&mut picture, 31, 1_000);
        let sums = picture.take_sums();
        assert_eq!((sums.freezes, sums.frozen.as_millis(), sums.watched.as_millis()), (1, 1_000, 1_000));
        picture.pause();
        let last = show(&mut picture, 32, 5_000);
        assert_eq!(picture.take_sums().freezes, 0, "what was announced is none");
        picture.intervals.push_back(Duration::from_millis(33));
        picture.finish(last + Duration::from_secs(2));
        assert_eq!(picture.take_sums().frozen.as_secs(), 2, "it froze for good");
    }
}
