//! When each subscriber's downlink is divided anew, and what comes of it: targets, pauses, interest in layers.

use std::time::{Duration, Instant};

use crate::allocator::{Budget, Choice, Class, Demand, Pace, Table, is_hidden};
use crate::peer::Peer;
use crate::subscription::Subscription;
use crate::target::{Step, Target};
use crate::track::Track;
use crate::{Event, Kind, Now, Pause, Sfu, Source, Wish};

/// How often a downlink is divided while nothing happens but that rates change.
const INTERVAL: Duration = Duration::from_millis(500);
/// … and how often when publishers change what can be had, so that a restless one costs little.
const SPACING: Duration = Duration::from_millis(100);
/// Audio is measured over at least this.
const AUDIO_WINDOW: Duration = Duration::from_millis(400);
/// What a downlink is taken to carry about which nothing is known.
const UNKNOWN_BPS: u64 = 50_000_000;

/// What a subscriber's part in this remembers.
#[derive(Debug, Default)]
pub(crate) struct Allocation {
    /// When its downlink is divided next; `None` while no video comes that it wants.
    pub(crate) due: Option<Instant>,
    last: Option<Instant>,
    pace: Pace,
    /// Bytes of audio that it was sent.
    pub(crate) audio_bytes: u64,
    audio_bps: u64,
    counted: Option<(Instant, u64)>,
}

impl Allocation {
    /// Bits a second that audio takes: at once more, but only slowly less, for who pauses speaks again.
    fn audio(&mut self, now: Instant) -> u64 {
        let (at, bytes) = *self.counted.get_or_insert((now, self.audio_bytes));
        let elapsed = now.saturating_duration_since(at);
        if elapsed >= AUDIO_WINDOW {
            let measured = (self.audio_bytes - bytes) * 8_000 / elapsed.as_millis() as u64;
            self.audio_bps = measured.max(self.audio_bps * 7 / 8);
            self.counted = Some((now, self.audio_bytes));
        }
        self.audio_bps
    }
}

/// What is kept from one division to the next so that it allocates nothing.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    table: Table,
    steps: Vec<Step>,
    /// The subscriptions in the table.
    rows: Vec<usize>,
    /// Something comes of some of them.
    lively: bool,
    /// Videos that nothing flows of because their subscriber asked for it.
    unseen: Vec<usize>,
}

impl Sfu {
    /// Divides a peer's downlink as soon as its timer runs: something changed.
    pub(crate) fn allocate_soon(&mut self, key: usize, now: Instant) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        let earliest = peer.allocation.last.map_or(now, |last| (last + SPACING).max(now));
        if peer.allocation.due.is_none_or(|due| earliest < due) {
            peer.allocation.due = Some(earliest);
            self.arm(key, earliest);
        }
    }

    /// Divides a downlink anew if it is believed to carry more or less than before.
    pub(crate) fn heed_downlink(&mut self, key: usize, now: Instant) {
        if self.peers.get_mut(key).is_some_and(|peer| peer.downlink.take_change()) {
            self.allocate_soon(key, now);
        }
    }

    /// Others speak now: whoever watches videos may have to get others of them.
    pub(crate) fn allocate_room(&mut self, room_key: usize, now: Instant) {
        for n in 0.. {
            let Some(key) = self.rooms.get(room_key).and_then(|room| room.peers.get(n)).copied() else { return };
            if self.peers.get(key).is_some_and(|peer| peer.allocation.due.is_some()) {
                self.allocate_soon(key, now);
            }
        }
    }

    /// Divides a peer's downlink if it is time.
    pub(crate) fn allocate_if_due(&mut self, key: usize, now: Now) {
        if self.peers.get(key).is_some_and(|peer| peer.allocation.due.is_some_and(|due| due <= now.mono)) {
            self.allocate(key, now.mono);
        }
    }

    /// Divides a peer's downlink.
    pub(crate) fn allocate(&mut self, key: usize, now: Instant) {
        let mut scratch = std::mem::take(&mut self.allocation);
        self.divide(key, &mut scratch, now);
        self.allocation = scratch;
        if let Some(due) = self.peers.get(key).and_then(|peer| peer.allocation.due) {
            self.arm(key, due);
        }
    }

    fn divide(&mut self, key: usize, scratch: &mut Scratch, now: Instant) {
        self.collect(key, scratch, now);
        let Some(peer) = self.peers.get_mut(key) else { return };
        peer.allocation.last = Some(now);
        peer.allocation.due = scratch.lively.then(|| now + INTERVAL);
        let strained = peer.downlink.is_strained(now);
        let budget = Budget { estimate: downlink(peer), audio: peer.allocation.audio(now), strained };
        scratch.table.allocate(budget, &mut peer.allocation.pace, now);
        peer.downlink.set_wanted((scratch.table.wished() + budget.audio) as f64);
        for subscription in &scratch.unseen {
            self.give(key, *subscription, None, Pause::Unsubscribed, now);
            self.take_interest(key, *subscription, None, now);
        }
        for (row, subscription) in scratch.rows.iter().enumerate() {
            let choice = scratch.table.choice(row);
            self.give(key, *subscription, choice, Pause::Bandwidth, now);
            let awaited = choice.map(|choice| choice.wanted).or(scratch.table.missing(row));
            self.take_interest(key, *subscription, awaited, now);
        }
    }

    /// What the peer wants of which video.
    fn collect(&self, key: usize, scratch: &mut Scratch, now: Instant) {
        let Scratch { table, steps, rows, unseen, lively } = scratch;
        *lively = false;
        table.clear();
        rows.clear();
        unseen.clear();
        let Some(peer) = self.peers.get(key) else { return };
        let is_there = |s: &Subscription| s.kind == Kind::Video && s.outlet.is_some() && !s.told_unavailable;
        let videos = peer.subscriptions.iter().filter(|(_, subscription)| is_there(subscription));
        for (subscription_key, subscription) in videos {
            let Some(track) = self.tracks.get(subscription.track) else { continue };
            if !subscription.enabled || is_hidden(subscription.size) {
                unseen.push(subscription_key);
                continue;
            }
            steps.clear();
            steps.extend(track.steps(now));
            // What is paused for want of bandwidth its publisher may have switched off, since nobody watches: it must be
            // thought of again all the same.
            let paused = subscription.paused == Some(Pause::Bandwidth);
            *lively |= !track.is_muted() && (paused || steps.iter().any(|step| step.active));
            table.push(&Demand {
                class: self.class(track),
                priority: subscription.priority,
                size: subscription.size,
                steps,
                current: subscription.chosen,
                eager: subscription.eager,
                muted: track.is_muted(),
            });
            rows.push(subscription_key);
        }
    }

    fn class(&self, track: &Track) -> Class {
        let Some(publisher) = self.peers.get(track.publisher) else { return Class::Other };
        let speaks = || self.rooms.get(publisher.room).is_some_and(|room| room.told.shows(publisher.id));
        match track.source {
            Source::Screen => Class::Screen,
            _ if publisher.rights.instructor => Class::InstructorCamera,
            _ if speaks() => Class::ActiveSpeaker,
            _ => Class::Other,
        }
    }

    /// Makes a subscription what was chosen for it; `None` pauses it for this reason.
    fn give(&mut self, key: usize, subscription_key: usize, choice: Option<Choice>, why: Pause, now: Instant) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        let Some(subscription) = peer.subscriptions.get_mut(subscription_key) else { return };
        let Some(of) = self.tracks.get(subscription.track) else { return };
        // What was chosen while nothing came was chosen blindly: when it comes it need not wait to be chosen anew.
        subscription.eager &= of.is_muted() || !of.layers.iter().any(|layer| layer.alive);
        subscription.chosen = choice.map(|choice| choice.wanted);
        let pause = choice.is_none().then_some(why);
        let before = std::mem::replace(&mut subscription.paused, pause);
        let (peer, track) = (peer.id, of.id);
        let send = choice.map(|choice| choice.send);
        if subscription.wanted() != send {
            self.aim(key, subscription_key, send, now);
        }
        match (before, pause) {
            (before, Some(reason)) if before != pause => self.event(Event::TrackPaused { peer, track, reason }),
            (Some(reason), None) => self.event(Event::TrackResumed { peer, track, reason }),
            _ => {}
        }
    }

    /// Notes which encoding a subscriber waits for, so that its publisher sends it.
    fn take_interest(&mut self, key: usize, subscription_key: usize, awaited: Option<Target>, now: Instant) {
        let subscription = self.peers.get_mut(key).and_then(|peer| peer.subscriptions.get_mut(subscription_key));
        let Some(subscription) = subscription else { return };
        let track = subscription.track;
        let before = std::mem::replace(&mut subscription.awaited, awaited.map(|awaited| awaited.layer));
        if let Some(layer) = subscription.awaited.filter(|_| before != subscription.awaited) {
            self.watch(track, layer.into(), false, now);
        }
    }

    /// An encoding of a track has come to life, died, or is to be had in other steps.
    pub(crate) fn reaim(&mut self, track_key: usize, now: Instant) {
        for n in 0.. {
            let subscriber = self.tracks.get(track_key).and_then(|track| track.subscribers.get(n)).copied();
            let Some(subscriber) = subscriber else { return };
            self.reaim_one(subscriber.peer, subscriber.subscription, now);
        }
    }

    /// Audio is sent to whoever wants it. Video is divided anew soon; but an encoding that was chosen and begins just now is
    /// sent at once, or else its first keyframe would be over.
    pub(crate) fn reaim_one(&mut self, key: usize, subscription_key: usize, now: Instant) {
        let subscription = self.peers.get(key).and_then(|peer| peer.subscriptions.get(subscription_key));
        let Some(subscription) = subscription else { return };
        if subscription.kind == Kind::Audio {
            return self.give_audio(key, subscription_key, now);
        }
        let Some(track) = self.tracks.get(subscription.track) else { return };
        let best = subscription.chosen.and_then(|chosen| best(track, chosen, now));
        if best.is_some() && best != subscription.wanted() {
            self.aim(key, subscription_key, best, now);
        }
        self.allocate_soon(key, now);
    }

    /// Does as a subscriber has just wished.
    pub(crate) fn heed(&mut self, key: usize, subscription_key: usize, now: Instant) {
        let subscription = self.peers.get(key).and_then(|peer| peer.subscriptions.get(subscription_key));
        match subscription.map(|subscription| subscription.kind) {
            Some(Kind::Audio) => self.give_audio(key, subscription_key, now),
            Some(Kind::Video) => self.allocate(key, now),
            None => {}
        }
    }

    fn give_audio(&mut self, key: usize, subscription_key: usize, now: Instant) {
        let subscription = self.peers.get(key).and_then(|peer| peer.subscriptions.get(subscription_key));
        let Some(enabled) = subscription.map(|subscription| subscription.enabled) else { return };
        let target = Target::default();
        let choice = enabled.then_some(Choice { wanted: target, send: target });
        self.give(key, subscription_key, choice, Pause::Unsubscribed, now);
    }
}

/// The best that comes of a track, up to what was chosen; the lowest that comes where nothing so low does.
fn best(track: &Track, chosen: Target, now: Instant) -> Option<Target> {
    let (mut best, mut reached) = (None, false);
    for step in track.steps(now) {
        let same = (step.target.layer, step.target.spatial) == (chosen.layer, chosen.spatial);
        if best.is_some() && (same && step.target.temporal > chosen.temporal || reached && !same) {
            break;
        }
        reached |= same;
        if step.active {
            best = Some(step.target);
        }
    }
    best
}

/// Bits a second that a peer can be sent, as far as its client told: many negotiate that they will and never do.
fn downlink(peer: &Peer) -> u64 {
    if peer.downlink.is_informed() { peer.downlink.estimate() as u64 } else { UNKNOWN_BPS }
}

impl Subscription {
    /// Takes what its subscriber wishes.
    pub(crate) fn wish(&mut self, wish: Wish) {
        let before = (self.enabled, self.size, self.priority);
        self.enabled = wish.enabled.unwrap_or(self.enabled);
        self.size = wish.size.or(self.size);
        self.priority = wish.priority.unwrap_or(self.priority);
        self.eager |= before != (self.enabled, self.size, self.priority);
    }
}
