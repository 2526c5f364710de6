//! How many older frames go along with each of audio: as many as the link loses, as long as it has room for them.

use std::time::{Duration, Instant};

use crate::subscription::DEPTH_MAX;

/// From which part lost on, 0 to 1, how many older frames go along. At random losses of p, a frame is lost for good at about
/// p to the power of one more than these.
const LEVELS: [(f64, u8); DEPTH_MAX] = [(0.01, 1), (0.05, 2), (0.12, 3)];
/// More go along after losses have asked for them for this long: a queue that overflows once is no lossy link.
const RISE: Duration = Duration::from_millis(1_200);
/// Fewer go along after losses have asked for fewer for this long: they come in waves.
const HOLD: Duration = Duration::from_secs(10);
/// Below this many bits a second at most one goes along, and below the next none: audio itself must get through first.
const NARROW_BPS: f64 = 100_000.0;
const TINY_BPS: f64 = 60_000.0;
/// Where more than one goes along, audio takes no more than this part of the estimate with them.
const SHARE: f64 = 0.5;
/// What audio takes is measured over at least this, and believed to fall by a part of this only.
const WINDOW: Duration = Duration::from_secs(1);
const FALL: f64 = 0.9;

/// See the module.
#[derive(Debug)]
pub(super) struct Redundancy {
    /// What losses ask for, and when they last did.
    level: u8,
    asked: Instant,
    /// Since when they ask for more, and the least that they asked for since.
    rising: Option<(Instant, u8)>,
    depth: Option<u8>,
    /// Bytes of audio since `counted`, without what went along, and bits a second before.
    bytes: usize,
    counted: Instant,
    bps: f64,
}

impl Redundancy {
    pub(super) fn new(now: Instant) -> Self {
        Redundancy { level: 0, asked: now, rising: None, depth: None, bytes: 0, counted: now, bps: 0.0 }
    }

    /// Older frames to go along with each; `None` if audio goes as it came.
    #[inline]
    pub(super) fn depth(&self) -> Option<u8> {
        self.depth
    }

    /// Notes bytes of audio that were sent at the present depth.
    #[inline]
    pub(super) fn note(&mut self, bytes: usize) {
        self.bytes += bytes / (1 + usize::from(self.depth.unwrap_or(0)));
    }

    /// Takes in the part that is lost, 0 to 1, and the estimate in bits a second.
    pub(super) fn follow(&mut self, lost: f64, estimate: f64, now: Instant) {
        self.measure(now);
        let asked = LEVELS.iter().rev().find(|(from, _)| lost >= *from).map_or(0, |(_, level)| *level);
        self.approach(asked, now);
        let fits = 2.0 * self.bps <= estimate;
        let room = (SHARE * estimate / self.bps.max(1.0) - 1.0).clamp(1.0, DEPTH_MAX as f64) as u8;
        self.depth = match self.level {
            _ if estimate < TINY_BPS => Some(0),
            0 => None,
            _ if !fits => Some(0),
            _ if estimate < NARROW_BPS => Some(1),
            level => Some(level.min(room)),
        };
    }

    fn approach(&mut self, asked: u8, now: Instant) {
        if asked >= self.level {
            self.asked = now;
        } else if now.saturating_duration_since(self.asked) >= HOLD {
            (self.level, self.asked) = (self.level - 1, now);
        }
        if asked <= self.level {
            self.rising = None;
            return;
        }
        let (since, least) = self.rising.map_or((now, asked), |(since, least)| (since, least.min(asked)));
        self.rising = Some((since, least));
        if now.saturating_duration_since(since) >= RISE {
            (self.level, self.rising) = (least, None);
        }
    }

    fn measure(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.counted);
        if elapsed >= WINDOW {
            let measured = self.bytes as f64 * 8.0 / elapsed.as_secs_f64();
            self.bps = measured.max(FALL * self.bps);
            (self.bytes, self.counted) = (0, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MBPS: f64 = 1_000_000.0;

    /// Half a minute of what `lost` says, with audio of 40 kbit/s, told every 100 ms.
    fn after(redundancy: &mut Redundancy, now: &mut Instant, lost: f64, estimate: f64, seconds: u32) -> Option<u8> {
        for _ in 0..seconds * 10 {
            *now += Duration::from_millis(100);
            redundancy.note(500 * (1 + usize::from(redundancy.depth().unwrap_or(0))));
            redundancy.follow(lost, estimate, *now);
        }
        redundancy.depth()
    }

    #[test]
    fn as_many_as_are_needed() {
        let mut now = Instant::now();
        let mut redundancy = Redundancy::new(now);
        for (lost, depth) in [(0.0, None), (0.009, None), (0.01, Some(1)), (0.05, Some(2)), (0.2, Some(3))] {
            assert_eq!(after(&mut redundancy, &mut now, lost, MBPS, 2), depth, "at {lost}");
        }
        assert_eq!(after(&mut redundancy, &mut now, 0.0, MBPS, 9), Some(3), "losses come in waves");
        assert_eq!(after(&mut redundancy, &mut now, 0.0, MBPS, 2), Some(2));
        assert_eq!(after(&mut redundancy, &mut now, 0.0, MBPS, 20), None);
        assert_eq!(after(&mut redundancy, &mut now, 0.3, MBPS, 1), None, "a queue that overflows once");
        assert_eq!(after(&mut redundancy, &mut now, 0.0, MBPS, 1), None);
        assert_eq!(after(&mut redundancy, &mut now, 0.06, MBPS, 1), None);
        assert_eq!(after(&mut redundancy, &mut now, 0.3, MBPS, 1), Some(2), "the least of the time");
    }

    #[test]
    fn audio_itself_first() {
        for (estimate, lost, depth) in [
            (30_000.0, 0.0, Some(0)),
            (30_000.0, 0.3, Some(0)),
            (70_000.0, 0.0, None),
            (70_000.0, 0.3, Some(0)),
            (90_000.0, 0.3, Some(1)),
            (200_000.0, 0.3, Some(1)),
            (300_000.0, 0.3, Some(2)),
            (400_000.0, 0.3, Some(3)),
        ] {
            let mut now = Instant::now();
            let mut redundancy = Redundancy::new(now);
            assert_eq!(after(&mut redundancy, &mut now, lost, estimate, 5), depth, "{estimate} {lost}");
        }
        let mut now = Instant::now();
        let mut whisper = Redundancy::new(now);
        whisper.follow(0.3, 90_000.0, now);
        now += RISE;
        whisper.follow(0.3, 90_000.0, now);
        assert_eq!(whisper.depth(), Some(1), "at most one on a narrow link, however little it takes");
    }
}
