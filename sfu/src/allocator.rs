//! How a subscriber's downlink is divided among the videos that it wants: a pure function of what is there, what is wished
//! and what flows now.
//!
//! Audio comes off the top and is never paused. Of the videos, each first gets the lowest step of its [ladder](Table::push)
//! in order of rank, then each is raised in the same order; tracks of one rank are raised evenly. What does not get even its
//! lowest step is paused. What is chosen so fits with head-room. It replaces what flows only if that no longer fits, or if
//! it is better and nothing changed for a while ([`Pace`]): so neither a noisy estimate nor a sawtooth makes pictures flicker.

use std::cmp::Ordering;
use std::ops::Range;
use std::time::{Duration, Instant};

use crate::payload::TEMPORAL_MAX;
use crate::target::{Step, Target};

/// What is newly chosen leaves so much of the estimate free, in percent of what it takes. Raising it wastes more of the
/// link; lowering it makes what was raised fall again by the estimate's noise.
const HEADROOM_PERCENT: u64 = 15;
/// What flows may be so much more than the estimate before it is lowered, in percent. With the head-room it spans ±10 % of
/// noise (1.15 × 1.07 > 1.1 ÷ 0.9); a real want of bandwidth soon lowers the estimate by more than this.
const TOLERANCE_PERCENT: u64 = 7;
/// A raise begins with keyframes, a burst that lowers the estimate though the link carries what follows. For so long what flows
/// may be so much more than the estimate, in percent: where the link is full the estimate falls to 85 % of what it carries,
/// so that a raise that is too much for it (1.15 × 0.85 < 1) fails at once all the same.
const BURST: Duration = Duration::from_secs(2);
const BURST_TOLERANCE_PERCENT: u64 = 15;
/// Nothing is raised within this time after a change.
const HOLD: Duration = Duration::from_secs(2);
/// A raise that fails within this time was one too many: the next waits twice as long …
const TRIAL: Duration = Duration::from_secs(8);
/// … but no longer than this.
const HOLD_MAX: Duration = Duration::from_secs(32);
/// What flows is not paused before its lowest step was too much for this long, unless the link is strained: an estimate that
/// falls through a hiccup of the receiver is soon up again, while a pause costs a keyframe and [`HOLD`].
const PATIENCE: Duration = Duration::from_secs(2);
/// Lines (the shorter side) from which a screen's text can be read.
const LEGIBLE_LINES: u16 = 720;
/// An encoding that is shown enlarged by up to this, in percent, still looks sharp.
const ENLARGED_PERCENT: u32 = 20;
/// The priority of a track about which the subscriber said nothing.
pub(crate) const PRIORITY_DEFAULT: u8 = 128;

/// What a video is to its subscriber, most wanted first; the wished priority ranks within a class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Class {
    Screen,
    InstructorCamera,
    ActiveSpeaker,
    Other,
}

/// One visible video that a subscriber wants.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Demand<'a> {
    pub(crate) class: Class,
    /// 0 unwanted … 255 pinned. 0 ranks behind everything, whatever the class.
    pub(crate) priority: u8,
    /// Pixels at which it is shown; `None` where the subscriber did not say.
    pub(crate) size: Option<(u16, u16)>,
    /// What it can be had in, by quality, ascending; none while nothing is known of it.
    pub(crate) steps: &'a [Step],
    /// What was last chosen ([`Choice::wanted`]); `None` if it is paused or new.
    pub(crate) current: Option<Target>,
    /// It is new, or its subscriber has just asked for something else: it need not wait to be raised.
    pub(crate) eager: bool,
    /// Its publisher muted it: it costs nothing and is not paused.
    pub(crate) muted: bool,
}

/// What a video gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Choice {
    /// What its publisher should send for this subscriber; with the highest temporal layer that can be where it may be had
    /// at its full frame rate, which is not the same all the time.
    pub(crate) wanted: Target,
    /// What to send now: the best that comes, up to what is wanted; where nothing so low comes, the lowest that does.
    pub(crate) send: Target,
}

/// What a subscriber's link carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Budget {
    /// Bits a second, all that may be sent.
    pub(crate) estimate: u64,
    /// Bits a second of it that audio takes.
    pub(crate) audio: u64,
    /// More than the estimate would hurt audio now.
    pub(crate) strained: bool,
}

impl Budget {
    /// What may be newly given to videos.
    fn careful(self) -> u64 {
        (self.estimate.saturating_mul(100) / (100 + HEADROOM_PERCENT)).saturating_sub(self.audio)
    }

    /// What videos that flow may take; `fresh` if they were raised just now.
    fn tolerated(self, fresh: bool) -> u64 {
        let more = if fresh { BURST_TOLERANCE_PERCENT } else { TOLERANCE_PERCENT };
        (self.estimate.saturating_mul(100 + more) / 100).saturating_sub(self.audio)
    }
}

/// When a subscriber's videos may be raised again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pace {
    changed: Option<Instant>,
    /// The last raise, if nothing was lowered since.
    raised: Option<Instant>,
    hold: Duration,
    /// Since when the lowest steps of what flows are too much.
    short: Option<Instant>,
}

impl Default for Pace {
    fn default() -> Self {
        Pace { changed: None, raised: None, hold: HOLD, short: None }
    }
}

impl Pace {
    fn holds(&self, now: Instant) -> bool {
        self.changed.is_some_and(|at| now.saturating_duration_since(at) < self.hold)
    }

    /// The bursts of a raise may not be over.
    fn is_fresh(&self, now: Instant) -> bool {
        self.raised.is_some_and(|at| now.saturating_duration_since(at) < BURST)
    }

    fn note_raise(&mut self, now: Instant) {
        if self.raised.is_some_and(|at| now.saturating_duration_since(at) >= TRIAL) {
            self.hold = HOLD;
        }
        self.changed = Some(now);
        self.raised = Some(now);
    }

    fn note_shortage(&mut self, now: Instant) {
        let recent = |at: Instant| now.saturating_duration_since(at) < TRIAL;
        if self.raised.take().is_some_and(recent) {
            self.hold = (self.hold * 2).min(HOLD_MAX);
        } else if !self.changed.is_some_and(recent) {
            // No raise is to blame: the link itself carries less.
            self.hold = HOLD;
        }
        self.changed = Some(now);
    }
}

/// Unwanted last, then by class, then by priority.
type Rank = (bool, Class, u8);

/// One step of a ladder.
#[derive(Clone, Copy, Debug)]
struct Rung {
    choice: Choice,
    /// Which of the steps it is, and what that would cost, bits a second.
    step: usize,
    price: u32,
    /// Bits a second that must be there for it.
    needs: u64,
    /// Bits a second that it takes: those of what is sent instead while its publisher does not send it.
    takes: u64,
}

/// One video. Levels are numbers of rungs, counted from 1; 0 is paused.
#[derive(Clone, Debug)]
struct Row {
    rank: Rank,
    rungs: Range<usize>,
    eager: bool,
    muted: bool,
    current: usize,
    level: usize,
    /// Its lowest rung would fit if its publisher sent that.
    near: bool,
}

/// The videos of one subscriber. It is kept and filled anew each time, so that it allocates nothing once warm.
#[derive(Debug, Default)]
pub(crate) struct Table {
    rows: Vec<Row>,
    rungs: Vec<Rung>,
    /// Rows by rank; of one rank those that flow come first.
    order: Vec<(Rank, bool, usize)>,
}

impl Table {
    pub(crate) fn clear(&mut self) {
        self.rows.clear();
        self.rungs.clear();
        self.order.clear();
    }

    /// Adds a video. Those of one rank that flow come before those that do not, and else in the order in which they are added.
    ///
    /// Its ladder has the steps that are of use: none larger than it is shown at; for a screen nothing below the smallest
    /// legible encoding, however low its frame rate; for a camera at least half an encoding's frame rate, but for the
    /// smallest encoding; nothing that costs more than something better.
    pub(crate) fn push(&mut self, demand: &Demand<'_>) {
        let start = self.rungs.len();
        let shown = shown(demand.steps, demand.size);
        let lowest = demand.steps.iter().find(|step| step.active);
        let sharp = demand.class == Class::Screen;
        let least = if sharp { legible(shown) } else { 0 };
        for (index, step) in shown.iter().enumerate().skip(least) {
            let same = || shown.iter().filter(|other| encoding(other.target) == encoding(step.target));
            let fastest = same().map(|step| step.target.temporal).max().unwrap_or(0);
            let smallest = encoding(shown[0].target) == encoding(step.target);
            if !sharp && !smallest && step.target.temporal + 1 < fastest {
                continue;
            }
            let sent = shown[..=index].iter().rev().find(|step| step.active).or(lowest);
            while self.rungs.len() > start && self.rungs.last().is_some_and(|lower| lower.price >= step.bps) {
                self.rungs.pop();
            }
            let full = step.target.temporal == fastest;
            let temporal = if full { TEMPORAL_MAX - 1 } else { step.target.temporal };
            let wanted = Target { temporal, ..step.target };
            let (send, takes) = sent.map_or((step.target, 0), |sent| (sent.target, sent.bps));
            self.rungs.push(Rung {
                choice: Choice { wanted, send },
                step: index,
                price: step.bps,
                needs: step.bps.max(takes).into(),
                takes: takes.into(),
            });
        }
        if self.rungs.len() == start {
            // Nothing is known of it yet: whatever comes first is let through.
            self.rungs.push(Rung { choice: Choice::default(), step: 0, price: 0, needs: 0, takes: 0 });
        }
        let rungs = start..self.rungs.len();
        let current = demand.current.map_or(0, |current| {
            let step = place(demand.steps, current);
            self.rungs[rungs.clone()].iter().filter(|rung| rung.step <= step).count().max(1)
        });
        let rank = (demand.priority == 0, demand.class, u8::MAX - demand.priority);
        self.rows.push(Row { rank, rungs, eager: demand.eager, muted: demand.muted, current, level: 0, near: false });
    }

    /// Divides the budget: afterwards [`Table::choice`] says what each video gets.
    pub(crate) fn allocate(&mut self, budget: Budget, pace: &mut Pace, now: Instant) {
        self.order.clear();
        self.order.extend(self.rows.iter().enumerate().map(|(index, row)| (row.rank, row.current == 0, index)));
        self.order.sort_unstable();
        let flowing: u64 = self.rows.iter().map(|row| self.takes(row, row.current)).sum();
        if flowing > budget.tolerated(pace.is_fresh(now)) {
            self.fill(budget.careful(), true);
            self.keep(budget, pace, now);
            return pace.note_shortage(now);
        }
        pace.short = None;
        self.fill(budget.careful(), pace.holds(now));
        if self.is_better() {
            pace.note_raise(now);
        } else {
            self.rows.iter_mut().for_each(|row| row.level = row.current);
        }
    }

    /// Lets flow on, at its lowest, what would have to be paused, for a while.
    fn keep(&mut self, budget: Budget, pace: &mut Pace, now: Instant) {
        let pauses = |row: &&mut Row| row.level == 0 && row.current > 0 && !row.muted;
        let mut short = self.rows.iter_mut().filter(pauses).peekable();
        if short.peek().is_none() {
            pace.short = None;
            return;
        }
        let since = *pace.short.get_or_insert(now);
        if !budget.strained && now.saturating_duration_since(since) < PATIENCE {
            short.for_each(|row| row.level = 1);
        }
    }

    /// What the video that was added as the `row`th gets; `None` is paused for want of bandwidth.
    pub(crate) fn choice(&self, row: usize) -> Option<Choice> {
        let row = self.rows.get(row)?;
        let level = if row.muted { 1 } else { row.level };
        Some(self.rungs[row.rungs.clone()].get(level.checked_sub(1)?)?.choice)
    }

    /// What a paused video waits for: its lowest encoding, which its publisher may have switched off while it sends dearer
    /// ones. Where that would not fit either nothing is waited for: to switch it on takes a keyframe of everybody.
    pub(crate) fn missing(&self, row: usize) -> Option<Target> {
        let row = self.rows.get(row).filter(|row| row.level == 0 && row.near)?;
        Some(self.rungs[row.rungs.clone()].first()?.choice.wanted)
    }

    /// Bits a second that all would take if there were no limit: what the link is worth probing for.
    #[allow(dead_code)]
    pub(crate) fn wished(&self) -> u64 {
        let dearest = |row: &Row| self.rungs[row.rungs.clone()].last().map_or(0, |rung| rung.needs);
        self.rows.iter().filter(|row| !row.muted).map(dearest).sum()
    }

    fn takes(&self, row: &Row, level: usize) -> u64 {
        if level == 0 || row.muted { 0 } else { self.rungs[row.rungs.start + level - 1].takes }
    }

    /// What a level of a row is counted with: what it takes, but what it needs if it is a raise, for an encoding that its
    /// publisher does not send comes soon. One that does not come costs nothing from the next raise on.
    fn costs(row: &Row, rungs: &[Rung], level: usize) -> u64 {
        let Some(rung) = level.checked_sub(1).map(|index| rungs[row.rungs.start + index]) else { return 0 };
        if level > row.current { rung.needs } else { rung.takes }
    }

    /// Gives each its level. With `held` only what is eager rises above what flows.
    fn fill(&mut self, budget: u64, held: bool) {
        let cap = |row: &Row| if held && !row.eager { row.current } else { row.rungs.len() };
        let mut spent = 0;
        for (_, _, index) in &self.order {
            let row = &mut self.rows[*index];
            row.level = 0;
            if row.muted {
                row.level = row.current;
                continue;
            }
            let lowest = self.rungs[row.rungs.start];
            row.near = spent + u64::from(lowest.price) <= budget;
            if cap(row) > 0 && spent + lowest.needs <= budget {
                row.level = 1;
                spent += Self::costs(row, &self.rungs, 1);
            }
        }
        for group in self.order.chunk_by(|a, b| a.0 == b.0) {
            let mut rises = true;
            while std::mem::take(&mut rises) {
                for (_, _, index) in group {
                    let row = &mut self.rows[*index];
                    if row.muted || row.level == 0 || row.level >= cap(row) {
                        continue;
                    }
                    let next = self.rungs[row.rungs.start + row.level];
                    let others = spent - Self::costs(row, &self.rungs, row.level);
                    if others + next.needs <= budget {
                        row.level += 1;
                        spent = others + Self::costs(row, &self.rungs, row.level);
                        rises = true;
                    }
                }
            }
        }
    }

    /// Whether the levels are better than what flows: in the first rank that differs more tracks flow, or, where the same
    /// flow everywhere, its lowest are higher.
    fn is_better(&self) -> bool {
        let groups = || self.order.chunk_by(|a, b| a.0 == b.0);
        // How many are above a level, now and before.
        let above = |group: &[(Rank, bool, usize)], level: usize| {
            let rows = || group.iter().map(|(_, _, index)| &self.rows[*index]);
            let now = rows().filter(|row| row.level > level).count();
            now.cmp(&rows().filter(|row| row.current > level).count())
        };
        let flows = groups().map(|group| above(group, 0));
        let highest = self.rows.iter().map(|row| row.rungs.len()).max().unwrap_or(0);
        let heights = groups().flat_map(|group| (1..highest).map(move |level| (group, level)));
        let heights = heights.map(|(group, level)| above(group, level));
        flows.chain(heights).find(|order| order.is_ne()) == Some(Ordering::Greater)
    }
}

/// Whether a subscriber who asked for this size does not see the track at all.
pub(crate) fn is_hidden(size: Option<(u16, u16)>) -> bool {
    size.is_some_and(|(width, height)| width == 0 || height == 0)
}

/// Temporal layers of one encoding differ in nothing but frame rate.
fn encoding(target: Target) -> (u8, u8) {
    (target.layer, target.spatial)
}

/// The steps up to the first encoding that fills what it is shown in.
fn shown(steps: &[Step], size: Option<(u16, u16)>) -> &[Step] {
    let Some((width, height)) = size else { return steps };
    let fills = |has: u16, wants: u16| u32::from(has) * (100 + ENLARGED_PERCENT) >= u32::from(wants) * 100;
    let enough = |step: &&Step| step.width > 0 && (fills(step.width, width) || fills(step.height, height));
    let Some(enough) = steps.iter().find(enough).map(|step| encoding(step.target)) else { return steps };
    let last = steps.iter().rposition(|step| encoding(step.target) == enough);
    &steps[..last.map_or(steps.len(), |last| last + 1)]
}

/// Where the smallest encoding begins in which text can be read, or the largest there is.
fn legible(steps: &[Step]) -> usize {
    let Some(largest) = steps.last().map(|step| encoding(step.target)) else { return 0 };
    let legible = steps.iter().position(|step| step.width.min(step.height) >= LEGIBLE_LINES);
    legible.or(steps.iter().position(|step| encoding(step.target) == largest)).unwrap_or(0)
}

/// Which step is what was chosen when there may have been others; the first if there is none of its encoding.
fn place(steps: &[Step], chosen: Target) -> usize {
    let same = |step: &Step| encoding(step.target) == encoding(chosen);
    let slower = |step: &Step| same(step) && step.target.temporal <= chosen.temporal;
    steps.iter().rposition(slower).or(steps.iter().position(same)).unwrap_or(0)
}

#[cfg(test)]
mod tests;
