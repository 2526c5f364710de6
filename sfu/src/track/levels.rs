//! What an encoding sends in each of its layers: which there are, how many bits a second each target costs, how large
//! the picture is.

use std::time::{Duration, Instant};

use crate::payload::{Description, SPATIAL_MAX, TEMPORAL_MAX, Targets};
use crate::target::{Step, Target};

/// Bits are counted over so long.
const WINDOW: Duration = Duration::from_secs(1);
/// Less than this much of the first window says nothing of a rate.
const WINDOW_MIN: Duration = Duration::from_millis(300);
const TARGETS: usize = SPATIAL_MAX as usize * TEMPORAL_MAX as usize;
/// What an encoding is taken to cost of which nothing has come, by its place among the others, bits a second.
const GUESSED_BPS: [u32; 4] = [150_000, 500_000, 1_700_000, 4_000_000];

/// See the module.
#[derive(Debug)]
pub(crate) struct Levels {
    /// The (spatial, temporal) layers that packets came of in the last window and in this.
    before: Targets,
    present: Targets,
    /// Bytes of this window: of packets that everybody needs, and of the others by target.
    common: u64,
    bytes: [u64; TARGETS],
    began: Option<Instant>,
    /// Bits a second of each target in the last whole window; 0 before there was one.
    bps: [u32; TARGETS],
    /// Pixels of each spatial layer, (0, 0) where unknown.
    sizes: [(u16, u16); SPATIAL_MAX as usize],
}

impl Levels {
    pub(super) fn new() -> Self {
        Levels {
            before: Targets::default(),
            present: Targets::default(),
            common: 0,
            bytes: [0; TARGETS],
            began: None,
            bps: [0; TARGETS],
            sizes: [(0, 0); SPATIAL_MAX as usize],
        }
    }

    /// Counts a packet of so many bytes; whether it is of a layer of which nothing came lately.
    pub(crate) fn note(&mut self, says: &Description, bytes: usize, now: Instant) -> bool {
        let began = *self.began.get_or_insert(now);
        let elapsed = now.saturating_duration_since(began);
        if elapsed >= WINDOW {
            self.roll(elapsed, now);
        }
        if says.present == Targets::ALL {
            self.common += bytes as u64;
        } else {
            for (target, count) in self.bytes.iter_mut().enumerate() {
                *count += u64::from(says.present.0 >> target & 1) * bytes as u64;
            }
        }
        if let Some(size) = says.size {
            self.sizes[usize::from(says.spatial.min(SPATIAL_MAX - 1))] = size;
        }
        let known = self.levels().contains(says.spatial, says.temporal);
        self.present.insert(says.spatial, says.temporal);
        !known
    }

    fn roll(&mut self, elapsed: Duration, now: Instant) {
        for target in 0..TARGETS {
            self.bps[target] = self.rate(target, elapsed);
        }
        self.bytes = [0; TARGETS];
        self.common = 0;
        self.before = std::mem::take(&mut self.present);
        self.began = Some(now);
    }

    fn rate(&self, target: usize, elapsed: Duration) -> u32 {
        let bits = (self.common + self.bytes[target]) * 8;
        u32::try_from(bits * 1_000 / (elapsed.as_millis() as u64).max(1)).unwrap_or(u32::MAX)
    }

    /// The layers that there are.
    pub(crate) fn levels(&self) -> Targets {
        Targets(self.before.0 | self.present.0)
    }

    /// Begins to count anew after a silence; what was known stays known until a window is over.
    pub(super) fn resume(&mut self, now: Instant) {
        self.before = Targets(self.before.0 | self.present.0);
        self.present = Targets::default();
        self.bytes = [0; TARGETS];
        self.common = 0;
        self.began = Some(now);
    }

    /// Bits a second of a target, as measured last; 0 where nothing is known.
    fn bps(&self, target: usize, now: Instant) -> u32 {
        let measured = self.bps[target];
        let elapsed = self.began.map_or(Duration::ZERO, |began| now.saturating_duration_since(began));
        if measured == 0 && elapsed >= WINDOW_MIN { self.rate(target, elapsed) } else { measured }
    }

    /// Bits a second of all that comes; 0 where nothing is known.
    pub(crate) fn total_bps(&self, now: Instant) -> u32 {
        (0..TARGETS).map(|target| self.bps(target, now)).max().unwrap_or(0)
    }

    /// Pixels of a spatial layer: as it says, or half of the next higher one that does.
    fn size(&self, spatial: u8) -> (u16, u16) {
        let known = (spatial..SPATIAL_MAX).find(|s| self.sizes[usize::from(*s)] != (0, 0));
        known.map_or((0, 0), |known| {
            let (width, height) = self.sizes[usize::from(known)];
            (width >> (known - spatial), height >> (known - spatial))
        })
    }

    /// Width and height of the largest picture; (0, 0) where unknown.
    pub(crate) fn picture(&self) -> (u16, u16) {
        self.sizes
            .iter()
            .copied()
            .max_by_key(|(width, height)| u32::from(*width) * u32::from(*height))
            .unwrap_or_default()
    }

    /// Pixels of the largest picture; 0 where unknown.
    pub(super) fn area(&self) -> u32 {
        self.sizes.iter().map(|(width, height)| u32::from(*width) * u32::from(*height)).max().unwrap_or(0)
    }

    /// What this encoding can be had in, ascending. One of which nothing ever came has one step, its base.
    pub(super) fn steps(&self, layer: u8, rank: usize, alive: bool, now: Instant) -> impl Iterator<Item = Step> + '_ {
        let levels = if self.levels() == Targets::default() { Targets(1) } else { self.levels() };
        (0..TARGETS as u8).filter(move |bit| levels.0 >> bit & 1 == 1).map(move |bit| {
            let (spatial, temporal) = (bit / TEMPORAL_MAX, bit % TEMPORAL_MAX);
            let (width, height) = self.size(spatial);
            let bps = match self.bps(bit.into(), now) {
                0 => GUESSED_BPS[rank.min(GUESSED_BPS.len() - 1)],
                bps => bps,
            };
            Step { target: Target { layer, spatial, temporal }, bps, width, height, active: alive }
        })
    }
}
