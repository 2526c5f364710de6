//! A bottleneck in virtual time, senders on one side and receivers on the other, with real feedback packets.

use std::collections::{BinaryHeap, VecDeque};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::congestion::{Controller, Pacer, Purpose};
use crate::rtcp::{self, Packet};
use crate::twcc::Recorder;

const STEP: u64 = 500;
const PACKET: usize = 1_200;
const AUDIO: usize = 110;
const AUDIO_BPS: f64 = 44_000.0;

pub(super) fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// The bottleneck and the way behind it.
pub(super) struct Link {
    pub(super) bps: f64,
    /// The longest queue; what comes then is lost.
    pub(super) queue: Duration,
    /// One way.
    pub(super) delay: Duration,
    /// Up to this is added to each packet's delay.
    pub(super) jitter: Duration,
    /// Part of packets lost at random.
    pub(super) loss: f64,
    /// Losses come in bursts of this many packets.
    pub(super) burst: u32,
    /// Part of feedback lost.
    pub(super) feedback_loss: f64,
    busy_until: u64,
    losing: u32,
    rng: StdRng,
}

impl Link {
    pub(super) fn new(bps: f64) -> Self {
        Link {
            bps,
            queue: ms(300),
            delay: ms(25),
            jitter: ms(0),
            loss: 0.0,
            burst: 1,
            feedback_loss: 0.0,
            busy_until: 0,
            losing: 0,
            rng: StdRng::seed_from_u64(7),
        }
    }

    /// With other accidents.
    pub(super) fn seeded(mut self, seed: u64) -> Self {
        self.rng = StdRng::seed_from_u64(seed);
        self
    }

    /// When a packet that is sent now arrives.
    fn send(&mut self, bytes: usize, now: u64) -> Option<u64> {
        if self.bps <= 0.0 {
            return None;
        }
        let begins = self.busy_until.max(now);
        if begins - now > self.queue.as_micros() as u64 {
            return None;
        }
        self.busy_until = begins + (bytes as f64 * 8e6 / self.bps) as u64;
        let lost = if self.losing > 0 {
            self.losing -= 1;
            true
        } else if self.rng.random_bool(self.loss / f64::from(self.burst)) {
            self.losing = self.burst - 1;
            true
        } else {
            false
        };
        let jitter = self.rng.random_range(0..=self.jitter.as_micros() as u64);
        (!lost).then_some(self.busy_until + self.delay.as_micros() as u64 + jitter)
    }
}

/// A receiver on a machine that is short of time: now and then it sleeps, and then reads what has come.
#[derive(Clone, Copy)]
pub(super) struct Starved {
    /// It is awake and asleep for up to this.
    pub(super) awake: Duration,
    pub(super) asleep: Duration,
    /// Reading a packet takes up to this.
    pub(super) reading: Duration,
}

/// A receiver that estimates by itself and tells no arrivals (draft-alvestrand-rmcat-remb-03): once a second, and at once
/// when the queue grows, then 0.85 of what it gets; else 8 % more each second, but never above 1.5 times what it gets.
#[derive(Default)]
pub(super) struct Estimator {
    bps: f64,
    told: u64,
    lowered: u64,
    /// Arrivals of the last second.
    came: VecDeque<(u64, usize)>,
    /// What the last packet waited, in ms, and one 100 ms before.
    waited: f64,
    before: (u64, f64),
}

impl Estimator {
    fn note(&mut self, arrival: u64, bytes: usize, waited_ms: f64) {
        self.came.push_back((arrival, bytes));
        self.waited = waited_ms;
    }

    /// What it tells now, if anything, and what it told before.
    fn tell(&mut self, now: u64) -> Option<(u64, Option<u64>)> {
        while self.came.front().is_some_and(|(at, _)| now > at + 1_000_000) {
            self.came.pop_front();
        }
        let got: usize = self.came.iter().map(|(_, bytes)| bytes).sum();
        let got = got as f64 * 8.0;
        let grows = self.waited > 50.0 && self.waited > self.before.1 + 5.0;
        if now > self.before.0 + 100_000 {
            self.before = (now, self.waited);
        }
        let before = (self.told > 0).then_some(self.bps as u64);
        let over = grows && now > self.lowered + 300_000;
        if !over && now < self.told + 1_000_000 {
            return None;
        }
        if self.told == 0 {
            self.bps = 30e6;
        }
        if over {
            self.bps = self.bps.min(0.85 * got);
            self.lowered = now;
        } else if self.waited < 50.0 {
            let seconds = (now - self.told) as f64 / 1e6;
            self.bps = (self.bps * 1.08f64.powf(seconds)).min(1.5 * got + 10_000.0);
        }
        self.told = now;
        Some((self.bps as u64, before))
    }
}

/// How a sender uses its estimate.
#[derive(Clone, Copy)]
pub(super) enum Demand {
    /// It sends just as much.
    Elastic,
    /// The largest of these that fits into it, in bits a second.
    Steps(&'static [f64]),
    /// This, whatever the estimate.
    Fixed(f64),
}

/// What happens to feedback on its way back.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Mischief {
    None,
    /// Each comes twice, and each second one late, behind the next.
    Repeat,
}

pub(super) struct Flow {
    pub(super) controller: Controller,
    pub(super) demand: Demand,
    pub(super) mischief: Mischief,
    pub(super) starved: Option<Starved>,
    /// It tells no arrivals.
    pub(super) estimator: Option<Estimator>,
    /// Nobody speaks: nothing is sent but pictures.
    pub(super) silent: bool,
    /// It sleeps until the first of these, reads until the second, and is busy with a packet until the third.
    sleeps: [u64; 3],
    pub(super) sent: u64,
    pub(super) delivered: u64,
    pub(super) padding: u64,
    /// Sums of delay behind the bottleneck's own, for the mean.
    pub(super) waited: (f64, u64),
    pub(super) waited_max: f64,
    pacer: Pacer,
    queue: VecDeque<usize>,
    recorder: Recorder,
    /// Packets on their way: arrival, number.
    flying: BinaryHeap<std::cmp::Reverse<(u64, u16, usize)>>,
    feedback: VecDeque<(u64, Vec<u8>)>,
    next_frame: u64,
    next_audio: u64,
    next_feedback: u64,
    rng: StdRng,
}

impl Flow {
    pub(super) fn new(demand: Demand, start: Instant, seed: u64) -> Self {
        let mut controller = Controller::new(start);
        controller.set_wanted(match demand {
            Demand::Elastic => 50e6,
            Demand::Steps(steps) => steps.last().copied().unwrap_or(0.0) + AUDIO_BPS,
            Demand::Fixed(bps) => bps,
        });
        Flow {
            pacer: Pacer::new(controller.estimate(), start),
            controller,
            demand,
            mischief: Mischief::None,
            starved: None,
            estimator: None,
            silent: false,
            sleeps: [0; 3],
            sent: 0,
            delivered: 0,
            padding: 0,
            waited: (0.0, 0),
            waited_max: 0.0,
            queue: VecDeque::new(),
            recorder: Recorder::new(),
            flying: BinaryHeap::new(),
            feedback: VecDeque::new(),
            next_frame: seed * 3_000,
            next_audio: seed * 1_000,
            next_feedback: seed * 7_000,
            rng: StdRng::seed_from_u64(seed),
        }
    }

    fn video_bps(&self) -> f64 {
        if let (Demand::Steps(steps), false) = (self.demand, self.controller.is_informed() || self.estimator.is_none())
        {
            return steps.last().copied().unwrap_or(0.0);
        }
        let estimate = self.controller.estimate();
        match self.demand {
            Demand::Elastic => (estimate - AUDIO_BPS).max(0.0),
            Demand::Fixed(bps) => bps,
            Demand::Steps(steps) => steps.iter().copied().rfind(|step| *step <= estimate - AUDIO_BPS).unwrap_or(0.0),
        }
    }

    fn send(&mut self, bytes: usize, purpose: Purpose, link: &mut Link, start: Instant, now: u64) {
        let at = start + Duration::from_micros(now);
        let seq = self.controller.next_seq();
        self.controller.set_clock(at);
        if self.estimator.is_some() {
            self.controller.on_sent_unnumbered(bytes);
        } else {
            self.controller.on_sent(bytes, purpose);
        }
        self.pacer.spend(bytes, at);
        self.sent += bytes as u64;
        if purpose == Purpose::Padding {
            self.padding += bytes as u64;
        }
        if let Some(arrival) = link.send(bytes, now) {
            let waited = (arrival - now) as f64 / 1_000.0 - link.delay.as_secs_f64() * 1_000.0;
            self.waited = (self.waited.0 + waited, self.waited.1 + 1);
            self.waited_max = self.waited_max.max(waited);
            self.flying.push(std::cmp::Reverse((arrival, seq, bytes)));
        }
    }

    fn produce(&mut self, link: &mut Link, start: Instant, now: u64) {
        if now >= self.next_audio && !self.silent {
            self.next_audio += 20_000;
            self.send(AUDIO, Purpose::Media, link, start, now);
        }
        if now >= self.next_frame {
            self.next_frame += 33_333;
            let size = self.video_bps() / 30.0 / 8.0 * self.rng.random_range(0.7..1.3);
            let packets = (size / PACKET as f64).ceil() as usize;
            self.queue.extend((0..packets).map(|_| (size / packets as f64) as usize));
        }
        let at = start + Duration::from_micros(now);
        self.pacer.set_estimate(self.controller.estimate());
        while self.pacer.left(at) > 0 {
            let Some(bytes) = self.queue.pop_front() else { break };
            self.send(bytes, Purpose::Media, link, start, now);
        }
        while self.controller.deadline().is_some_and(|due| due <= at) {
            self.controller.tick(at);
            let Some(due) = self.controller.padding(at) else { break };
            self.send(due.clamp(60, PACKET), Purpose::Padding, link, start, now);
        }
    }

    fn sleeps(&mut self, now: u64) -> bool {
        let Some(starved) = self.starved else { return false };
        if now >= self.sleeps[1] {
            let mut some = |most: Duration| self.rng.random_range(0..=most.as_micros() as u64);
            let wakes = now + some(starved.asleep);
            self.sleeps = [wakes, wakes + some(starved.awake), wakes];
        }
        now < self.sleeps[0]
    }

    fn receive(&mut self, link: &mut Link, start: Instant, now: u64) {
        // Real receivers correct a loss that was only late; this one waits before it tells.
        let late = link.jitter.as_micros() as u64;
        let sleeps = self.sleeps(now);
        while !sleeps && self.sleeps[2] <= now && self.flying.peek().is_some_and(|it| it.0.0 + late <= now) {
            let Some(std::cmp::Reverse((mut arrival, seq, bytes))) = self.flying.pop() else { break };
            if let Some(starved) = self.starved {
                arrival = now;
                self.sleeps[2] = now + self.rng.random_range(0..=starved.reading.as_micros() as u64);
            }
            self.recorder.record(seq, start + Duration::from_micros(arrival));
            self.delivered += bytes as u64;
            let waited = link.busy_until.saturating_sub(now) as f64 / 1_000.0;
            if let Some(estimator) = &mut self.estimator {
                estimator.note(arrival, bytes, waited);
            }
        }
        if let Some(estimator) = &mut self.estimator {
            if let Some((bps, before)) = estimator.tell(now) {
                self.controller.on_remb(bps, before, None, start + Duration::from_micros(now));
            }
            return;
        }
        if now >= self.next_feedback && !sleeps {
            self.next_feedback = self.next_feedback.max(now.saturating_sub(80_000)) + 80_000;
            let mut bytes = Vec::new();
            while self.recorder.write_feedback(1, 2, &mut bytes) {
                let lost = link.bps <= 0.0 || self.rng.random_bool(link.feedback_loss);
                let arrival = now + link.delay.as_micros() as u64;
                if !lost {
                    if self.mischief == Mischief::Repeat {
                        let late = if self.rng.random_bool(0.5) { 100_000 } else { 0 };
                        self.feedback.push_back((arrival + late, bytes.clone()));
                        self.feedback.push_back((arrival + 150_000, bytes.clone()));
                    } else {
                        self.feedback.push_back((arrival, bytes.clone()));
                    }
                }
                bytes.clear();
            }
        }
        while let Some(at) = self.feedback.iter().position(|(arrival, _)| *arrival <= now) {
            let Some((_, bytes)) = self.feedback.remove(at) else { break };
            for packet in rtcp::parse(&bytes) {
                let Packet::TransportFeedback(feedback) = packet else { panic!("feedback") };
                self.controller.on_feedback(&feedback, start + Duration::from_micros(now));
            }
        }
    }
}

/// Flows on one link.
pub(super) struct World {
    pub(super) link: Link,
    pub(super) flows: Vec<Flow>,
    pub(super) start: Instant,
    pub(super) now: u64,
}

/// What one flow did in a stretch of time.
#[derive(Debug)]
#[allow(dead_code)]
pub(super) struct Stretch {
    /// Bits a second that entered the link.
    pub(super) sent: f64,
    /// Bits a second that arrived.
    pub(super) delivered: f64,
    pub(super) waited_ms: f64,
    pub(super) waited_max_ms: f64,
    pub(super) estimate: f64,
    pub(super) estimate_min: f64,
    pub(super) estimate_max: f64,
}

impl World {
    pub(super) fn new(link: Link, demands: &[Demand]) -> Self {
        let start = Instant::now();
        let flows = demands.iter().enumerate().map(|(n, demand)| Flow::new(*demand, start, n as u64 + 1)).collect();
        World { link, flows, start, now: 0 }
    }

    /// Lets time go by; what each flow did in it.
    pub(super) fn run(&mut self, time: Duration) -> Vec<Stretch> {
        let until = self.now + time.as_micros() as u64;
        let before: Vec<_> = self.flows.iter().map(|flow| (flow.sent, flow.delivered)).collect();
        let mut estimates = vec![(f64::MAX, 0.0f64); self.flows.len()];
        for flow in &mut self.flows {
            (flow.waited, flow.waited_max) = ((0.0, 0), 0.0);
        }
        while self.now < until {
            self.now += STEP;
            for (flow, (least, most)) in self.flows.iter_mut().zip(&mut estimates) {
                flow.receive(&mut self.link, self.start, self.now);
                flow.produce(&mut self.link, self.start, self.now);
                let estimate = flow.controller.estimate();
                (*least, *most) = (least.min(estimate), most.max(estimate));
            }
        }
        let seconds = time.as_secs_f64();
        let done = self.flows.iter().zip(before).zip(estimates);
        done.map(|((flow, (sent, delivered)), (least, most))| Stretch {
            sent: (flow.sent - sent) as f64 * 8.0 / seconds,
            delivered: (flow.delivered - delivered) as f64 * 8.0 / seconds,
            waited_ms: flow.waited.0 / flow.waited.1.max(1) as f64,
            waited_max_ms: flow.waited_max,
            estimate: flow.controller.estimate(),
            estimate_min: least,
            estimate_max: most,
        })
        .collect()
    }

    /// Lets time go by until the first flow's estimate does something; how long that took.
    pub(super) fn until(&mut self, most: Duration, done: impl Fn(f64) -> bool) -> Duration {
        let began = self.now;
        while !done(self.flows[0].controller.estimate()) {
            assert!(
                self.now - began < most.as_micros() as u64,
                "{} after {most:?}",
                self.flows[0].controller.estimate()
            );
            self.run(ms(10));
        }
        Duration::from_micros(self.now - began)
    }
}
