//! Scripts: what people, networks and operators do, from a seed.

use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};
use signaling::SameUser;

/// One thing that happens. What does not apply (a device that is not there leaves) does nothing, so that any subset of a script is
/// one, too.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Wait(u64),
    /// A device joins, again if it is there. `resumes`: with its resume token, and on its present socket if that lives; else as a
    /// page that was loaded anew. `fresh`: with a new token.
    Join {
        device: usize,
        resumes: bool,
        fresh: bool,
    },
    /// A device's network breaks, which the server notices `found_after` ms later.
    Dark {
        device: usize,
        found_after: u64,
    },
    /// A device goes: it says so in its session, or on its socket.
    Leave {
        device: usize,
        by_event: bool,
    },
    Remove {
        device: usize,
    },
    End {
        session: usize,
    },
    Publish {
        device: usize,
        screen: bool,
        muted: bool,
    },
    Mute {
        device: usize,
        muted: bool,
    },
    Unpublish {
        device: usize,
    },
    /// The media of a device gave a proof of life that long ago.
    Sample {
        device: usize,
        silence: u64,
    },
    /// In their room only those devices speak from now on; each publishes a microphone when it first does.
    Speak {
        devices: Vec<usize>,
    },
    /// The server is killed, and is there again `down` ms later.
    Crash {
        down: u64,
    },
    /// The same, having said so.
    Drain {
        down: u64,
    },
    SetClock(i64),
    /// The store cannot be reached, or can again.
    Outage(bool),
    /// Whether the journal takes facts.
    Recording(bool),
}

/// A history to be.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    /// Whose each device is, and to which session it goes.
    pub(crate) devices: Vec<(String, usize)>,
    pub(crate) same_user: SameUser,
    /// Whether devices come with tokens.
    pub(crate) has_tokens: bool,
    pub(crate) steps: Vec<Step>,
}

const DEVICES: usize = 6;
const SESSIONS: usize = 2;

/// Whose a device of a random script is, and where it goes: two users have two.
fn owner(device: usize) -> (String, usize) {
    (format!("u{}", device % 4), usize::from(device % 5 == 3))
}

impl Script {
    pub(crate) fn random(seed: u64) -> Script {
        let mut rng = StdRng::seed_from_u64(seed);
        let same_user = [SameUser::Allow, SameUser::Replace, SameUser::Reject][rng.random_range(0..3)];
        let has_tokens = rng.random();
        let length = rng.random_range(4..40);
        let devices = (0..DEVICES).map(owner).collect();
        Script { devices, same_user, has_tokens, steps: (0..length).map(|_| step(&mut rng)).collect() }
    }
}

fn step(rng: &mut impl Rng) -> Step {
    let device = rng.random_range(0..DEVICES);
    match rng.random_range(0..100) {
        0..22 => Step::Wait(match rng.random_range(0..10) {
            0 => rng.random_range(100_000..200_000),
            1..4 => rng.random_range(15_000..30_000),
            4..8 => rng.random_range(1_000..15_000),
            _ => rng.random_range(0..100),
        }),
        22..48 => Step::Join { device, resumes: rng.random_bool(0.7), fresh: rng.random_bool(0.7) },
        48..57 => Step::Dark { device, found_after: if rng.random() { 0 } else { rng.random_range(0..20_000) } },
        57..61 => Step::Leave { device, by_event: rng.random() },
        61..63 => Step::Remove { device },
        63..64 => Step::End { session: rng.random_range(0..SESSIONS) },
        64..74 => Step::Publish { device, screen: rng.random(), muted: rng.random_bool(0.3) },
        74..84 => Step::Mute { device, muted: rng.random() },
        84..86 => Step::Unpublish { device },
        86..91 => Step::Sample { device, silence: rng.random_range(0..5_000) },
        91..93 => Step::Crash { down: down(rng) },
        93..95 => Step::Drain { down: down(rng) },
        95..97 => Step::SetClock(if rng.random() { 3_600_000 } else { -3_600_000 }),
        97..98 => Step::Outage(rng.random()),
        _ => Step::Recording(rng.random_bool(0.7)),
    }
}

fn down(rng: &mut impl Rng) -> u64 {
    if rng.random_bool(0.2) { rng.random_range(100_000..400_000) } else { rng.random_range(500..15_000) }
}
