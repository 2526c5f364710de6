//! A network in virtual time, all of whose accidents come from one seed.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// What a network does to datagrams, each way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weather {
    /// Part of the datagrams that are lost, 0–1.
    pub(crate) loss: f64,
    /// Time that every datagram takes.
    pub(crate) delay: Duration,
    /// Time that it takes on top, evenly between nothing and this; what makes datagrams overtake each other.
    pub(crate) jitter: Duration,
}

/// Things on their way, in the order of their arrival.
pub(crate) struct Network<T> {
    seed: u64,
    /// Each flow has its own accidents, so that one more datagram on one does not change the fate of all others.
    flows: HashMap<u64, StdRng>,
    weather: Weather,
    under_way: BinaryHeap<Reverse<(Instant, u64)>>,
    things: HashMap<u64, T>,
    next: u64,
}

impl<T> Network<T> {
    pub(crate) fn new(seed: u64, weather: Weather) -> Self {
        Network { seed, flows: HashMap::new(), weather, under_way: BinaryHeap::new(), things: HashMap::new(), next: 0 }
    }

    /// Sends over the lossy network, on one of its flows.
    pub(crate) fn send(&mut self, flow: u64, thing: T, now: Instant) {
        let seed = self.seed << 16 | flow;
        let rng = self.flows.entry(flow).or_insert_with(|| StdRng::seed_from_u64(seed));
        let lost = rng.random_bool(self.weather.loss);
        let jitter = self.weather.jitter.mul_f64(rng.random());
        if !lost {
            self.deliver_at(thing, now + self.weather.delay + jitter);
        }
    }

    /// Lets something arrive at a certain time, as signaling over TCP does.
    pub(crate) fn deliver_at(&mut self, thing: T, at: Instant) {
        self.under_way.push(Reverse((at, self.next)));
        self.things.insert(self.next, thing);
        self.next += 1;
    }

    /// When the next thing arrives.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.under_way.peek().map(|Reverse((at, _))| *at)
    }

    /// What has arrived by `now`.
    pub(crate) fn arrived(&mut self, now: Instant) -> Option<T> {
        self.due().filter(|due| *due <= now)?;
        let Reverse((_, number)) = self.under_way.pop()?;
        self.things.remove(&number)
    }
}
