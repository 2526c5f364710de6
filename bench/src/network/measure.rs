//! Runs a scene and takes its measures.

use std::time::{Duration, Instant};

use serde::Serialize;

use super::link::{SLOT, Weather};
use super::receiver::{Audio, How};
use super::scene::{Change, Scene};
use super::stage::{JOIN_TIME, Stage};
use super::video::Shown;

/// A 20 ms frame of audio counts as played when it comes within this time of the earliest that any took.
const AUDIO_PLAYOUT: Duration = Duration::from_millis(200);
/// Sound and picture may differ by so much, in ms.
const LIP_SYNC_MS: f64 = 80.0;
/// Behind an outage audio counts again after this time.
const OUTAGE_GRACE: Duration = Duration::from_secs(3);
/// The link counts as relieved when over so many slots no more is put on it than it carries.
const RELIEVED_SLOTS: usize = 5;
/// Two subjects see the same when their pictures and bits differ by no more than this part.
const SAME_PART: f64 = 0.03;
/// And one gets most of what another does with this part of its bits.
const MOST_PART: f64 = 0.8;

/// What a row showed; times in ms.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Outcome {
    /// The scene's.
    pub name: &'static str,
    /// 20 ms frames not there in time, in percent.
    pub audio_lost_pct: f64,
    /// Of the frames that came, in percent: in a later packet's redundancy, and resent.
    pub audio_redundant_pct: f64,
    /// See [`Outcome::audio_redundant_pct`].
    pub audio_resent_pct: f64,
    /// Time in freezes as webrtc-stats defines them, all videos.
    pub frozen_ms: f64,
    /// The longest of them.
    pub freeze_ms: f64,
    /// Of video packets that did not come by themselves, the part that came resent, in percent.
    pub repaired_pct: f64,
    /// From the fall of the rate until no more is sent than it carries.
    pub down_ms: Option<f64>,
    /// From its rise until the layer from before is shown.
    pub up_ms: Option<f64>,
    /// Part of the downlink that is used, in percent; of the time after a fall, where there is one.
    pub use_pct: Option<f64>,
    /// The same of what of the ladder of layers fits through it at best ([`Scene::best_fit`]).
    pub fit_pct: Option<f64>,
    /// Time in the downlink's queue that one packet in twenty exceeds.
    pub queue_p95_ms: f64,
    /// From the end of the outage to picture and sound.
    pub recovery_ms: Option<f64>,
    /// The most that sound and picture differ by the clocks of the sender reports.
    pub lip_sync_ms: f64,
    /// Jain's index over those who share the link.
    pub jain: Option<f64>,
    /// Pictures a second, of one video.
    pub fps: f64,
    /// Part of the time, in percent, that pictures of the smallest, middle and largest layer were the last shown.
    pub layers_pct: [f64; 3],
    /// Time in which the first video was paused.
    pub paused_ms: f64,
    /// Bits a second that the subject got.
    pub received_bps: f64,
    /// The last estimate that the SFU told of, bits a second.
    pub estimate_bps: Option<u64>,
    /// Keyframes that publishers made a minute.
    pub keyframes_per_minute: f64,
    /// Packets that carried nothing new, of all time.
    pub padding: u64,
    /// Pictures that lacked a reference, or that descriptors kept from being shown, or mixed up, of all time: faults of the
    /// rewriting.
    pub faults: [u64; 3],
    /// What was asked and is not so.
    pub missed: Vec<String>,
}

struct Window {
    from: Instant,
    to: Instant,
    cut: Option<(Instant, Instant)>,
}

struct Cast {
    subject: usize,
    sharers: Vec<usize>,
    down: usize,
    back: usize,
}

/// Runs one scene.
///
/// # Panics
/// If somebody does not connect on fair links.
pub fn run(scene: &Scene, seed: u64) -> Outcome {
    let mut stage = Stage::new(seed);
    let cast = assemble(&mut stage, scene);
    let (down, back) = (cast.down, cast.back);
    stage.run_until(stage.began + JOIN_TIME);
    assert!(stage.connected(), "{}: all connect within {JOIN_TIME:?}", scene.name);
    // Only now the weather sets in: what joining over bad links is like is another matter.
    (stage.links[down].weather, stage.links[back].weather) = (scene.downlink, scene.back);
    if let Some(weather) = scene.beside {
        stage.links[back + 2].weather = weather;
    }
    for index in 0..scene.publishers {
        stage.links[2 * index].weather = scene.uplink;
    }
    stage.starve(cast.subject, scene.starved);
    stage.starve_sfu(scene.starved_sfu);
    let from = stage.began + JOIN_TIME + scene.warm_up;
    let mut window = Window { from, to: from + scene.time, cut: None };
    stage.run_until(from);
    let before = Snapshot::of(&stage, &cast);
    for (after, change) in &scene.changes {
        stage.run_until(from + *after);
        match *change {
            Change::Rate(bps) => stage.links[down].weather.rate_bps = bps,
            Change::Cut(cut) => {
                (stage.links[down].weather.cut, stage.links[back].weather.cut) = (cut, cut);
                let start = window.cut.map_or(from + *after, |(start, _)| start);
                window.cut = Some((start, from + *after));
            }
        }
    }
    stage.run_until(window.to);
    let after = Snapshot::of(&stage, &cast);
    // What was captured last has time to arrive.
    stage.run_until(window.to + Duration::from_secs(2));
    let mut outcome = measure(&stage, scene, &cast, &window, &before, &after);
    outcome.missed = missed(scene, &outcome);
    outcome
}

fn assemble(stage: &mut Stage, scene: &Scene) -> Cast {
    // Without a rate, since handshakes differ by a byte or two, which must not move anything in time.
    let fair = |delay| Weather { rate_bps: u64::MAX, ..Weather::fair(delay) };
    for _ in 0..scene.publishers {
        let (up, down) = (stage.link(fair(scene.uplink.delay)), stage.link(fair(scene.uplink.delay)));
        stage.publish(scene.layers, scene.redundancy, up, down);
    }
    let (down, back) = (stage.link(fair(scene.downlink.delay)), stage.link(fair(scene.back.delay)));
    let sharers: Vec<usize> = (0..scene.sharers).map(|_| stage.receive(back, down)).collect();
    if let Some(weather) = scene.beside {
        let (up, down) = (stage.link(fair(weather.delay)), stage.link(fair(weather.delay)));
        stage.receive(up, down);
    }
    Cast { subject: sharers[0], sharers, down, back }
}

/// Running counts at one moment.
struct Snapshot {
    counts: super::reception::Counts,
    keyframes: u64,
    bits: Vec<u64>,
}

impl Snapshot {
    fn of(stage: &Stage, cast: &Cast) -> Snapshot {
        Snapshot {
            counts: stage.receiver(cast.subject).video_counts(),
            keyframes: stage.publishers().map(|publisher| publisher.keyframes).sum(),
            bits: cast.sharers.iter().map(|index| stage.receiver(*index).received_bits).collect(),
        }
    }
}

fn measure(stage: &Stage, scene: &Scene, cast: &Cast, window: &Window, before: &Snapshot, after: &Snapshot) -> Outcome {
    let subject = stage.receiver(cast.subject);
    let seconds = scene.time.as_secs_f64();
    let mut outcome = Outcome { name: scene.name, ..Outcome::default() };

    let audios: Vec<Heard> = subject.audios().filter_map(|audio| heard(audio, stage.began, window)).collect();
    let mean = |of: fn(&Heard) -> f64| audios.iter().map(of).sum::<f64>() / audios.len().max(1) as f64;
    outcome.audio_lost_pct = if audios.is_empty() { 100.0 } else { mean(|heard| heard.lost_pct) };
    outcome.audio_redundant_pct = mean(|heard| heard.redundant_pct);
    outcome.audio_resent_pct = mean(|heard| heard.resent_pct);

    let pauses = pauses(stage, cast.subject, window.to);
    for video in subject.videos() {
        let (frozen, longest) = freezes(&video.shown, window, &pauses);
        outcome.frozen_ms += frozen;
        outcome.freeze_ms = outcome.freeze_ms.max(longest);
        outcome.faults[0] += video.corrupt;
        outcome.faults[1] += video.refused;
        outcome.faults[2] += video.mixed;
        let in_window = video.shown.iter().filter(|shown| window.contains(shown.at));
        outcome.fps += in_window.count() as f64 / seconds / subject.videos().count() as f64;
        for audio in subject.audios().take(1) {
            outcome.lip_sync_ms = outcome.lip_sync_ms.max(lip_sync(&video.shown, audio, window));
        }
    }
    outcome.layers_pct = subject.videos().next().map_or([0.0; 3], |video| layers(&video.shown, window));
    outcome.paused_ms =
        pauses.iter().map(|pause| ms(overlap(*pause, (window.from, window.to)))).fold(0.0, |sum, pause| sum + pause);
    outcome.padding = subject.padding;

    let lost = (after.counts.gaps - before.counts.gaps).saturating_sub(after.counts.late - before.counts.late);
    outcome.repaired_pct = match lost {
        0 => 100.0,
        _ => 100.0 * (after.counts.repaired - before.counts.repaired) as f64 / lost as f64,
    };
    outcome.keyframes_per_minute = (after.keyframes - before.keyframes) as f64 * 60.0 / seconds;
    let bits: Vec<f64> = after.bits.iter().zip(&before.bits).map(|(after, before)| (after - before) as f64).collect();
    outcome.received_bps = bits[0] / seconds;
    if bits.len() > 1 {
        let squares: f64 = bits.iter().map(|bits| bits * bits).sum();
        outcome.jain = Some(bits.iter().sum::<f64>().powi(2) / (bits.len() as f64 * squares));
    }
    let mut estimates = stage.estimates.iter().filter(|(client, at, _)| *client == cast.subject && *at <= window.to);
    outcome.estimate_bps = estimates.next_back().map(|(.., bps)| *bps);
    measure_link(stage, scene, cast, window, &mut outcome);
    outcome
}

fn measure_link(stage: &Stage, scene: &Scene, cast: &Cast, window: &Window, outcome: &mut Outcome) {
    let link = &stage.links[cast.down];
    let queued = link.queue_delays.iter().filter(|(at, _)| window.contains(*at));
    let mut queued: Vec<Duration> = queued.map(|(_, delay)| *delay).collect();
    queued.sort();
    outcome.queue_p95_ms = queued.get(queued.len() * 95 / 100).map_or(0.0, |delay| ms(*delay));

    let first = stage.receiver(cast.subject).videos().next();
    let shown = first.map_or(&[][..], |video| &video.shown);
    let (mut low_from, mut low_to, mut rate) = (window.from, window.to, scene.downlink.rate_bps);
    for (after, change) in &scene.changes {
        let at = window.from + *after;
        match *change {
            Change::Rate(bps) if bps < scene.downlink.rate_bps => {
                outcome.down_ms = relieved(link, at, window.to, bps).map(ms);
                (low_from, rate) = (at + Duration::from_secs(2), bps);
            }
            Change::Rate(_) => {
                low_to = at;
                let fell = low_from - Duration::from_secs(2);
                let before = shown.iter().filter(|it| it.at < fell && it.at + Duration::from_secs(5) > fell);
                let top = before.map(|it| it.print.layer).max();
                let back = shown.iter().find(|it| it.at >= at && Some(it.print.layer) >= top);
                outcome.up_ms = back.map(|it| ms(it.at - at));
            }
            Change::Cut(false) => {
                let picture = shown.iter().find(|it| it.at > at).map(|it| it.at);
                let audio = stage.receiver(cast.subject).audios().next();
                let sound = audio.and_then(|audio| {
                    audio.frames.values().filter(|(came, ..)| *came > at).map(|(came, ..)| *came).min()
                });
                outcome.recovery_ms = picture.zip(sound).map(|(picture, sound)| ms(picture.max(sound) - at));
            }
            Change::Cut(true) => {}
        }
    }
    if scene.aims.use_pct.is_some() {
        let carried = link.bits_between(&link.carried_bits, low_from, low_to) as f64;
        let carried_bps = carried / (low_to - low_from).as_secs_f64();
        outcome.use_pct = Some(100.0 * carried_bps / rate as f64);
        outcome.fit_pct = Some(100.0 * carried_bps / scene.best_fit(rate));
    }
}

/// From a fall of the rate until no more is put on the link than it carries.
fn relieved(link: &super::link::Link, at: Instant, to: Instant, bps: u64) -> Option<Duration> {
    let mut after = Duration::ZERO;
    loop {
        let (from, until) = (at + after, at + after + SLOT * RELIEVED_SLOTS as u32);
        if until > to {
            return None;
        }
        let offered = link.bits_between(&link.offered_bits, from, until) as f64;
        if offered <= 1.1 * bps as f64 * (until - from).as_secs_f64() {
            return Some(after);
        }
        after += SLOT;
    }
}

struct Heard {
    lost_pct: f64,
    redundant_pct: f64,
    resent_pct: f64,
}

fn heard(audio: &Audio, began: Instant, window: &Window) -> Option<Heard> {
    let (&last, &(_, last_captured, _)) = audio.frames.last_key_value()?;
    let transits = audio.frames.values().map(|(came, captured, _)| came.saturating_duration_since(began + *captured));
    let base = transits.min()?;
    let (mut expected, mut in_time, mut redundant, mut resent) = (0_u32, 0_u32, 0_u32, 0_u32);
    // Numbers and capture times go in step, also of frames that never came.
    for frame in 0..last + 3_000 {
        let captured = (began + last_captured + super::publisher::AUDIO_FRAME * (frame.saturating_sub(last)))
            .checked_sub(super::publisher::AUDIO_FRAME * last.saturating_sub(frame));
        let Some(captured) = captured.filter(|captured| window.counts(*captured)) else { continue };
        expected += 1;
        let Some((came, _, how)) = audio.frames.get(&frame) else { continue };
        if *came <= captured + base + AUDIO_PLAYOUT {
            in_time += 1;
            redundant += u32::from(*how == How::Redundant);
            resent += u32::from(*how == How::Resent);
        }
    }
    let percent = |part: u32| 100.0 * f64::from(part) / f64::from(expected.max(1));
    Some(Heard {
        lost_pct: percent(expected - in_time),
        redundant_pct: percent(redundant),
        resent_pct: percent(resent),
    })
}

/// Time in freezes and the longest, in ms: gaps of more than three times the average, or of 150 ms more than it, whichever is
/// longer (webrtc-stats, `freezeCount`).
fn freezes(shown: &[Shown], window: &Window, pauses: &[(Instant, Instant)]) -> (f64, f64) {
    let mut moments: Vec<Instant> = shown.iter().map(|shown| shown.at).filter(|at| *at <= window.to).collect();
    if moments.is_empty() {
        return (ms(window.to - window.from), ms(window.to - window.from));
    }
    moments.push(window.to);
    let (mut frozen, mut longest) = (0.0, 0.0_f64);
    for index in 1..moments.len() {
        let gap = (moments[index - 1], moments[index]);
        let back = index.saturating_sub(31);
        let average = (moments[index - 1] - moments[back]).as_secs_f64() * 1e3 / (index - 1 - back).max(1) as f64;
        let threshold = (3.0 * average).max(average + 150.0);
        if ms(gap.1 - gap.0) <= threshold || gap.1 <= window.from {
            continue;
        }
        let whole = (gap.0.max(window.from), gap.1);
        let excused = pauses.iter().chain(window.cut.as_ref()).map(|excuse| ms(overlap(*excuse, whole)));
        let length = ms(whole.1 - whole.0) - excused.sum::<f64>();
        // What remains of an excused gap is its own freeze only if it would be one.
        if length > threshold {
            frozen += length;
            longest = longest.max(length);
        }
    }
    (frozen, longest)
}

fn lip_sync(shown: &[Shown], audio: &Audio, window: &Window) -> f64 {
    let mut errors = audio.clock_errors_ms.iter().peekable();
    let mut sound = None;
    let mut most = 0.0_f64;
    for picture in shown {
        while let Some((_, error)) = errors.next_if(|(at, _)| *at <= picture.at) {
            sound = Some(*error);
        }
        if let Some((sound, picture)) = sound.zip(picture.clock_error_ms.filter(|_| window.contains(picture.at))) {
            most = most.max((picture - sound).abs());
        }
    }
    most
}

fn layers(shown: &[Shown], window: &Window) -> [f64; 3] {
    let mut time = [0.0; 3];
    let in_window: Vec<&Shown> = shown.iter().filter(|shown| window.contains(shown.at)).collect();
    for (index, picture) in in_window.iter().enumerate() {
        let until = in_window.get(index + 1).map_or(window.to, |next| next.at);
        time[usize::from(picture.print.layer.min(2))] += ms(until - picture.at);
    }
    time.map(|time| 100.0 * time / ms(window.to - window.from))
}

fn pauses(stage: &Stage, client: usize, end: Instant) -> Vec<(Instant, Instant)> {
    let mut pauses = Vec::new();
    let mut since = None;
    for change in stage.pauses.iter().filter(|change| change.client == client) {
        match (since, change.paused) {
            (None, true) => since = Some(change.at),
            (Some(start), false) => {
                // The first picture needs a keyframe and its way.
                pauses.push((start, change.at + Duration::from_millis(500)));
                since = None;
            }
            _ => {}
        }
    }
    pauses.extend(since.map(|start| (start, end)));
    pauses
}

fn missed(scene: &Scene, outcome: &Outcome) -> Vec<String> {
    let mut missed = Vec::new();
    let aims = &scene.aims;
    let mut at_most = |what: &str, is: Option<f64>, aim: Option<f64>| {
        if aim.is_some_and(|aim| is.is_none_or(|is| is > aim)) {
            missed.push(what.to_owned());
        }
    };
    at_most("audio", Some(outcome.audio_lost_pct), aims.audio_lost_pct);
    at_most("freeze", Some(outcome.freeze_ms), aims.freeze_ms);
    at_most("down", outcome.down_ms, aims.down_ms);
    at_most("up", outcome.up_ms, aims.up_ms);
    at_most("recovery", outcome.recovery_ms, aims.recovery_ms);
    at_most("use", outcome.fit_pct.map(|is| -is), aims.use_pct.map(|aim| -aim));
    at_most("fair", outcome.jain.map(|is| -is), aims.jain.map(|aim| -aim));
    at_most("paused", Some(outcome.paused_ms), aims.paused_ms);
    at_most("sync", Some(outcome.lip_sync_ms), Some(LIP_SYNC_MS));
    at_most("faults", Some(outcome.faults.iter().sum::<u64>() as f64), Some(0.0));
    missed
}

/// Adds to each row that is held against another what is not so.
pub fn compare(scenes: &[Scene], outcomes: &mut [Outcome]) {
    for scene in scenes {
        let (aims, all) = (&scene.aims, outcomes.to_vec());
        let Some(outcome) = outcomes.iter_mut().find(|outcome| outcome.name == scene.name) else { continue };
        let other = |name: Option<&str>| all.iter().find(|other| Some(other.name) == name);
        let differ = |a: f64, b: f64| (a - b).abs() > SAME_PART * b;
        if let Some(other) = other(aims.same_as)
            && (differ(outcome.fps, other.fps) || differ(outcome.received_bps, other.received_bps))
        {
            outcome.missed.push("same".to_owned());
        }
        if let Some(other) = other(aims.most_of)
            && outcome.received_bps < MOST_PART * other.received_bps
        {
            outcome.missed.push("most".to_owned());
        }
    }
}

impl Window {
    fn contains(&self, at: Instant) -> bool {
        self.from <= at && at <= self.to
    }

    /// Whether an audio frame captured then must have come.
    fn counts(&self, captured: Instant) -> bool {
        let excused = self.cut.is_some_and(|(start, end)| {
            captured + Duration::from_millis(200) >= start && captured <= end + OUTAGE_GRACE
        });
        self.contains(captured) && !excused
    }
}

fn overlap(a: (Instant, Instant), b: (Instant, Instant)) -> Duration {
    a.1.min(b.1).saturating_duration_since(a.0.max(b.0))
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
