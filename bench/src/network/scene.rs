//! The rows of the table: who is there, over which links, and what is asked of them.

use std::time::Duration;

use super::link::{Loss, Weather};
use super::publisher::{LAYERS, OPUS_BYTES};
use super::starved::Starvation;

const MS: fn(u64) -> Duration = Duration::from_millis;
const SECS: fn(u64) -> Duration = Duration::from_secs;
const MBPS: u64 = 1_000_000;

/// Bytes of RTP, SRTP, UDP and IP around a payload.
const OVERHEAD_BYTES: f64 = 72.0;
/// What a video takes on the wire beyond its payload.
const VIDEO_OVERHEAD: f64 = 1.075;
/// No link is used to the last bit, since pictures differ in size.
const FULL: f64 = 0.97;

/// Something that happens to the subject's downlink.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Change {
    /// It has another rate, bits a second.
    Rate(u64),
    /// Nothing passes either way, or everything again.
    Cut(bool),
}

/// What a row must show; `None` where nothing is asked.
#[derive(Clone, Debug, Default)]
pub struct Aims {
    /// Audio frames unrecovered, in percent, at most.
    pub audio_lost_pct: Option<f64>,
    /// The longest freeze, in ms, at most.
    pub freeze_ms: Option<f64>,
    /// Time to go down to what the link carries, in ms, at most.
    pub down_ms: Option<f64>,
    /// Time to be back at the layer from before, in ms, at most.
    pub up_ms: Option<f64>,
    /// Part used of what of the ladder fits through the link, in percent, at least.
    pub use_pct: Option<f64>,
    /// Time from the end of an outage to picture and sound, in ms, at most.
    pub recovery_ms: Option<f64>,
    /// Jain's index over those who share the link, at least.
    pub jain: Option<f64>,
    /// The row whose subject this one's must see the same as.
    pub same_as: Option<&'static str>,
    /// The row of whose bits this one's subject must get most.
    pub most_of: Option<&'static str>,
    /// Time in pauses, in ms, at most.
    pub paused_ms: Option<f64>,
}

/// One row.
#[derive(Clone, Debug)]
pub struct Scene {
    /// Unique.
    pub name: &'static str,
    /// Publishers, each of audio and video.
    pub publishers: usize,
    /// Simulcast layers of each, 1 or 3.
    pub layers: usize,
    /// Older frames in each RED packet.
    pub redundancy: usize,
    /// From each publisher to the SFU.
    pub uplink: Weather,
    /// From the SFU to the subject.
    pub downlink: Weather,
    /// And back, for its feedback.
    pub back: Weather,
    /// Receivers on the subject's links, the subject among them.
    pub sharers: usize,
    /// Another receiver in the room, on a downlink of its own.
    pub beside: Option<Weather>,
    /// How short of time the subject's machine is once it has joined.
    pub starved: Option<Starvation>,
    /// And the SFU's.
    pub starved_sfu: Option<Starvation>,
    /// What happens to the downlink, by time since measuring began.
    pub changes: Vec<(Duration, Change)>,
    /// After joining, before measuring.
    pub warm_up: Duration,
    /// Measured.
    pub time: Duration,
    /// What is asked.
    pub aims: Aims,
}

impl Scene {
    /// One publisher and one subject, `rtt` apart, on links that carry everything.
    fn new(name: &'static str, rtt_ms: u64) -> Scene {
        // Publisher and subject have half of it each, one way.
        let fair = Weather { rate_bps: 20 * MBPS, ..Weather::fair(MS(rtt_ms / 2)) };
        let near = Weather { rate_bps: 20 * MBPS, ..Weather::fair(MS(10)) };
        let freeze_ms = (rtt_ms <= 150).then_some(1_000.0);
        Scene {
            name,
            publishers: 1,
            layers: 3,
            redundancy: 1,
            uplink: near,
            downlink: fair,
            back: fair,
            sharers: 1,
            beside: None,
            starved: None,
            starved_sfu: None,
            changes: Vec::new(),
            warm_up: SECS(12),
            time: SECS(30),
            aims: Aims { audio_lost_pct: Some(2.0), freeze_ms, ..Aims::default() },
        }
    }

    /// Loses on the subject's links, both ways.
    fn losing(mut self, loss: Loss) -> Scene {
        let share = match loss {
            Loss::Random(share) | Loss::Bursts { share, .. } => share,
        };
        (self.downlink.loss, self.back.loss) = (loss, loss);
        self.aims.freeze_ms = self.aims.freeze_ms.filter(|_| share <= 0.1);
        self.aims.audio_lost_pct = self.aims.audio_lost_pct.filter(|_| share <= 0.2);
        self
    }

    fn random(self, percent: u32) -> Scene {
        self.losing(Loss::Random(f64::from(percent) / 100.0))
    }

    fn bursts(self, percent: u32) -> Scene {
        self.losing(Loss::Bursts { share: f64::from(percent) / 100.0, length: 4.0 })
    }

    fn shaking(mut self, jitter_ms: u64, reorders: bool) -> Scene {
        for weather in [&mut self.downlink, &mut self.back] {
            // Plus and minus: the delay is the mean.
            weather.delay = weather.delay.saturating_sub(MS(jitter_ms));
            weather.jitter = MS(2 * jitter_ms);
            weather.reorders = reorders;
        }
        self
    }

    fn narrow(mut self, bps: u64) -> Scene {
        self.downlink.rate_bps = bps;
        self.aims.use_pct = Some(85.0);
        self
    }

    /// Bits a second of the dearest choice of layers and temporal layers that a link of this rate carries: the ladder is
    /// coarse, so that even the best choice leaves some of a link free. Those who share it get the same. Of audio it counts what
    /// it takes without the older frames that go along against losses: where nothing is lost they would fill the link to no end.
    pub fn best_fit(&self, rate_bps: u64) -> f64 {
        let audio = 400.0 * (OPUS_BYTES as f64 + OVERHEAD_BYTES);
        // A larger picture at 15 a second is worth having, one at 7.5 is not.
        let temporal = |bps: u32| [0.6, 1.0].map(|share| share * VIDEO_OVERHEAD * f64::from(bps));
        let steps: Vec<f64> = [0.0].into_iter().chain(LAYERS.iter().flat_map(|(.., bps)| temporal(*bps))).collect();
        let room = FULL * rate_bps as f64 / self.sharers as f64 - audio * self.publishers as f64;
        let mut sums = vec![0.0];
        for _ in 0..self.publishers {
            sums = sums.iter().flat_map(|sum| steps.iter().map(move |step| sum + step)).collect();
            sums.retain(|sum| *sum <= room);
        }
        self.sharers as f64 * (audio * self.publishers as f64 + sums.into_iter().fold(0.0, f64::max))
    }

    fn with(mut self, change: impl FnOnce(&mut Scene)) -> Scene {
        change(&mut self);
        self
    }
}

/// All rows.
pub fn all() -> Vec<Scene> {
    let mut scenes = vec![
        Scene::new("RTT 20", 20),
        Scene::new("RTT 150", 150),
        Scene::new("RTT 500", 500),
        Scene::new("loss 1 %, RTT 20", 20).random(1),
        Scene::new("loss 5 %, RTT 20", 20).random(5),
        Scene::new("loss 10 %, RTT 20", 20).random(10),
        Scene::new("loss 20 %, RTT 20", 20).random(20),
        Scene::new("loss 30 %, RTT 20", 20).random(30),
        Scene::new("loss 5 %, RTT 150", 150).random(5),
        Scene::new("loss 10 %, RTT 150", 150).random(10),
        Scene::new("loss 20 %, RTT 150", 150).random(20),
        Scene::new("loss 10 %, RTT 500", 500).random(10),
        Scene::new("bursts 5 %, RTT 50", 50).bursts(5),
        Scene::new("bursts 10 %, RTT 50", 50).bursts(10),
        Scene::new("bursts 20 %, RTT 50", 50).bursts(20),
        Scene::new("jitter ±30 in order, RTT 100", 100).shaking(30, false),
        Scene::new("jitter ±30 reordering, RTT 100", 100).shaking(30, true),
        Scene::new("jitter ±30 reordering, loss 5 %, RTT 100", 100).shaking(30, true).random(5),
        Scene::new("uplink loss 10 %, RTT 50", 50).with(|scene| scene.uplink.loss = Loss::Random(0.1)),
    ];
    scenes.extend(narrow());
    scenes.extend(crowd());
    scenes.extend(short_of_time());
    scenes
}

/// Nothing is wrong with the link, or nothing more than in another row, but a machine at its end is short of time: what waits
/// there for somebody to read it is no queue of the link's.
fn short_of_time() -> Vec<Scene> {
    let starved = |name: &'static str, listener: Option<Starvation>, sfu: Option<Starvation>| {
        Scene::new(name, 50).with(|scene| {
            (scene.starved, scene.starved_sfu) = (listener, sfu);
            scene.time = SECS(60);
            // What a machine does not play is its own.
            scene.aims = Aims { most_of: Some("beside nobody, RTT 50"), paused_ms: Some(0.0), ..Aims::default() };
        })
    };
    let steps = |mut scene: Scene| {
        scene.downlink.rate_bps = 2 * MBPS;
        scene.changes = vec![(SECS(10), Change::Rate(300_000)), (SECS(25), Change::Rate(2 * MBPS))];
        scene.aims = Aims { down_ms: Some(2_000.0), up_ms: Some(10_000.0), ..Aims::default() };
        scene
    };
    let (mild, hard, hardest) = (Some(Starvation::MILD), Some(Starvation::HARD), Some(Starvation::HARDEST));
    vec![
        starved("listener a little short of time, RTT 50", mild, None),
        starved("listener short of time, RTT 50", hard, None),
        starved("listener very short of time, RTT 50", hardest, None),
        starved("SFU short of time, RTT 50", None, hard),
        starved("both short of time, RTT 50", hard, hard),
        starved("listener short of time at 2 Mbit/s, RTT 50", hard, None).with(|scene| {
            scene.downlink.rate_bps = 2 * MBPS;
        }),
        steps(starved("listener a little short of time, 2 → 0.3 → 2 Mbit/s, RTT 50", mild, None)),
        steps(starved("listener short of time, 2 → 0.3 → 2 Mbit/s, RTT 50", hard, None)),
        steps(starved("listener very short of time, 2 → 0.3 → 2 Mbit/s, RTT 50", hardest, None)),
        steps(starved("both short of time, 2 → 0.3 → 2 Mbit/s, RTT 50", hard, hard)),
    ]
}

/// Links that carry less than there is to send.
fn narrow() -> [Scene; 8] {
    let steps = |scene: &mut Scene| {
        scene.changes = vec![(SECS(10), Change::Rate(300_000)), (SECS(25), Change::Rate(2 * MBPS))];
        scene.time = SECS(45);
        scene.aims.down_ms = Some(1_000.0);
        scene.aims.up_ms = Some(10_000.0);
    };
    let outage = |scene: &mut Scene| {
        scene.changes = vec![(SECS(10), Change::Cut(true)), (SECS(20), Change::Cut(false))];
        scene.time = SECS(40);
        scene.aims.recovery_ms = Some(3_000.0);
        scene.aims.use_pct = None;
    };
    [
        Scene::new("2 Mbit/s, RTT 50", 50).narrow(2 * MBPS),
        Scene::new("1 Mbit/s, RTT 50", 50).narrow(MBPS),
        Scene::new("0.6 Mbit/s, RTT 50", 50).narrow(600_000),
        Scene::new("2 → 0.3 → 2 Mbit/s, RTT 50", 50).narrow(2 * MBPS).with(steps),
        Scene::new("2 → 0.3 → 2 Mbit/s, RTT 150", 150).narrow(2 * MBPS).with(steps),
        Scene::new("2 → 0.3 → 2 Mbit/s, loss 2 %, RTT 50", 50).narrow(2 * MBPS).random(2).with(steps),
        Scene::new("outage of 10 s, RTT 50", 50).with(outage),
        Scene::new("outage of 10 s at 2 Mbit/s, RTT 50", 50).narrow(2 * MBPS).with(outage),
    ]
}

/// More than one publisher or receiver.
fn crowd() -> [Scene; 6] {
    let alone = "beside nobody, RTT 50";
    let beside = |weather: Weather| {
        move |scene: &mut Scene| {
            scene.beside = Some(weather);
            scene.aims.same_as = Some("beside nobody, RTT 50");
        }
    };
    let thin = Weather { rate_bps: 30_000, ..Weather::fair(MS(25)) };
    let deaf = Weather { loss: Loss::Random(1.0), ..Weather::fair(MS(25)) };
    [
        Scene::new("3 publishers at 2 Mbit/s, RTT 50", 50).narrow(2 * MBPS).with(|scene| scene.publishers = 3),
        Scene::new("2 on a link of 2 Mbit/s, RTT 50", 50).narrow(2 * MBPS).with(|scene| {
            scene.sharers = 2;
            scene.time = SECS(45);
            scene.aims.jain = Some(0.9);
        }),
        Scene::new(alone, 50),
        Scene::new("beside one at 30 kbit/s, RTT 50", 50).with(beside(thin)),
        Scene::new("beside one who loses all, RTT 50", 50).with(beside(deaf)),
        Scene::new("at 30 kbit/s itself, RTT 50", 50).narrow(30_000).with(|scene| {
            scene.aims = Aims::default();
        }),
    ]
}
