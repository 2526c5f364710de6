//! Who does what and when, decided before anything begins and from one seed: the same command is the same class again.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};

use super::Options;
use super::chaos::{Chaos, Deed};
use super::shape::Shape;
use super::uplink::Publish;

/// One participant's part.
#[derive(Clone, Debug)]
pub struct Part {
    /// Unique in the run.
    pub number: u32,
    /// Index of its room.
    pub room: usize,
    /// Its place in the room.
    pub place: usize,
    /// Who it is.
    pub user: String,
    /// Or a participant.
    pub instructor: bool,
    /// What it publishes.
    pub publish: Publish,
    /// When it joins, since the run began.
    pub joins_at: Duration,
    /// What happens to it, since media began, in order.
    pub deeds: Vec<(Duration, Deed)>,
    /// Where its randomness comes from.
    pub seed: u64,
}

/// All parts of a run.
pub fn parts(options: &Options, run: u32) -> Vec<Part> {
    let mut rng = StdRng::seed_from_u64(options.seed);
    let per_room = options.people() / options.rooms.max(1);
    let total = options.rooms * per_room;
    let shape = options.shape.clone().unwrap_or_default();
    let mut parts: Vec<Part> = (0..total)
        .map(|index| {
            // Rooms fill side by side, instructors first, as schools' timetables have it.
            let (room, place) = (index % options.rooms, index / options.rooms);
            let instructor = place < options.instructors;
            let views = place >= options.instructors + options.participants;
            let shows = instructor || rng.random_bool(shape.cameras) && !views;
            let speaks = instructor || rng.random_bool(shape.microphones) && !views;
            let publish = Publish {
                audio: options.audio && speaks,
                camera: options.video && shows,
                // One screen a room, as people agree upon.
                screen: options.screen && place == 0,
                simulcast: options.simulcast,
                video_bps: options.video_bps,
                fps: options.fps,
                codec: options.codec,
            };
            let share = index as f64 / total.max(1) as f64;
            Part {
                number: index as u32,
                room,
                place,
                user: format!("bench-{run:08x}-{index}"),
                instructor,
                publish,
                joins_at: options.ramp.mul_f64(shape.joins_by(share)),
                deeds: Vec::new(),
                seed: rng.random(),
            }
        })
        .collect();
    let deeds = options.chaos.iter().chain(&shape.deeds);
    for chaos in deeds.filter(|chaos| chaos.deed != Deed::Restart) {
        strike(&mut parts, chaos, &mut rng);
    }
    parts.iter_mut().for_each(|part| part.deeds.sort_by_key(|(at, _)| *at));
    parts
}

/// Gives a deed to a share of all, at least one.
fn strike(parts: &mut [Part], chaos: &Chaos, rng: &mut StdRng) {
    let mut order: Vec<usize> = (0..parts.len()).collect();
    order.shuffle(rng);
    let count = (chaos.share * parts.len() as f64).round().max(1.0) as usize;
    for index in order.into_iter().take(count) {
        parts[index].deeds.push((chaos.at, chaos.deed));
    }
}

/// Whether somebody at `place` of `people` talks, `since` the run began: `speakers` at a time, in turns.
pub fn talks(shape: Option<&Shape>, room: usize, place: usize, people: usize, since: Duration) -> bool {
    let Some(talk) = shape.and_then(|shape| shape.talk) else { return true };
    let turn = (since.as_secs_f64() / talk.turn.as_secs_f64().max(0.1)) as usize + 7 * room;
    let ahead = (place + people - (turn * talk.speakers) % people.max(1)) % people.max(1);
    ahead < talk.speakers
}
