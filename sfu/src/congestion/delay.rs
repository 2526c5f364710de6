//! Whether the queue of the bottleneck grows: the slope of one-way delays against a threshold that adapts
//! (draft-ietf-rmcat-gcc-02 §5.2–5.4, with the trendline that took the Kalman filter's place).

use super::Micros;

/// Packets sent within this time are one group.
const GROUP: Micros = 5_000;
/// A group that grows because its packets came at once ends here.
const GROUP_MAX: i64 = 100_000;
const WINDOW: usize = 20;
const SMOOTHING: f64 = 0.9;
const GAIN: f64 = 4.0;
const COUNT_MAX: u32 = 60;
/// Delay must have grown for this long, in ms of sending, and in two groups.
const OVERUSE_MS: f64 = 10.0;
const THRESHOLD_START: f64 = 12.5;
const THRESHOLD_MIN: f64 = 6.0;
const THRESHOLD_MAX: f64 = 600.0;
/// The threshold ignores what is further away from it than this.
const ADAPT_MAX: f64 = 15.0;
const ADAPT_UP: f64 = 0.0087;
const ADAPT_DOWN: f64 = 0.039;
const JITTER_SMOOTHING: f64 = 0.05;
/// The least delay is taken over one to two of these.
const BASE_WINDOW: Micros = 10_000_000;
/// A queue is gone that is shorter than this, in microseconds.
const GONE: i64 = 10_000;
/// How fast a queue empties says something where it was longer by at least this, and this much came meanwhile.
const FALL_MIN: i64 = 20_000;
/// And fell this much faster than time went by: a link does so where less than a quarter of what it carries is sent.
const FALL_STEEP: [i64; 2] = [3, 2];
const FALL_BYTES_MIN: u32 = 1_500;

/// What the queue does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Usage {
    #[default]
    Normal,
    /// It grows.
    Over,
    /// It empties.
    Under,
}

#[derive(Clone, Copy, Debug)]
struct Group {
    first_sent: Micros,
    last_sent: Micros,
    first_arrival: i64,
    last_arrival: i64,
    /// The least of (arrival − sent): what a packet waited behind those of earlier groups, whatever the group's own size.
    delay: i64,
    bytes: u32,
}

/// A queue that empties: its length in microseconds when it was longest, when that was, and bytes that arrived since.
#[derive(Clone, Copy, Debug)]
struct Fall {
    from: i64,
    began: i64,
    bytes: u32,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Delay {
    group: Option<Group>,
    last_sent: Option<Micros>,
    origin: Option<(i64, i64)>,
    smoothed: f64,
    points: [(f64, f64); WINDOW],
    /// Groups so far; the next point's place is this modulo the window.
    count: usize,
    trend: f64,
    over_ms: Option<f64>,
    over_count: u32,
    threshold: f64,
    adapted: Option<f64>,
    usage: Usage,
    /// The least delay of this base window and of the one before.
    base: [i64; 2],
    base_began: Micros,
    latest: i64,
    jitter_ms: f64,
    fall: Option<Fall>,
    emptied: Option<f64>,
}

impl Delay {
    pub(super) fn new() -> Self {
        Delay {
            group: None,
            last_sent: None,
            origin: None,
            smoothed: 0.0,
            points: [(0.0, 0.0); WINDOW],
            count: 0,
            trend: 0.0,
            over_ms: None,
            over_count: 0,
            threshold: THRESHOLD_START,
            adapted: None,
            usage: Usage::Normal,
            base: [i64::MAX; 2],
            base_began: 0,
            latest: i64::MAX,
            jitter_ms: 0.0,
            fall: None,
            emptied: None,
        }
    }

    /// Begins anew after a silence; what is known of the empty queue stays unless the receiver's clock jumped.
    pub(super) fn reset(&mut self, clock_jumped: bool) {
        let (base, base_began) = (self.base, self.base_began);
        *self = Delay::new();
        if !clock_jumped {
            (self.base, self.base_began) = (base, base_began);
        }
    }

    pub(super) fn usage(&self) -> Usage {
        self.usage
    }

    /// How long packets wait at the bottleneck, in ms, by comparison with the least delay of the last 10 to 20 s; `None`
    /// while that is not known.
    pub(super) fn queue_ms(&self) -> Option<f64> {
        let base = self.base[0].min(self.base[1]);
        let known = base != i64::MAX && self.latest != i64::MAX;
        known.then(|| (self.latest - base) as f64 / 1_000.0)
    }

    /// Bits a second at which packets came while a queue emptied that is gone now, told once. A link empties a queue as fast
    /// as it carries; what is held back by something else, as by a receiver that had no time to read, comes in a heap.
    pub(super) fn take_emptied(&mut self) -> Option<f64> {
        self.emptied.take()
    }

    /// The mean difference of delay between neighbouring groups, in ms.
    pub(super) fn jitter_ms(&self) -> f64 {
        self.jitter_ms
    }

    /// Notes a packet that arrived, times in microseconds of either clock.
    pub(super) fn on_arrival(&mut self, sent: Micros, arrival: i64, bytes: u16) {
        let delay = arrival - sent as i64;
        let Some(group) = &mut self.group else {
            self.group = Some(Group::of(sent, arrival, bytes));
            return;
        };
        if sent < group.first_sent {
            // It belongs to a group that is closed.
            return;
        }
        if sent - group.first_sent <= GROUP || group.came_at_once(sent, arrival) {
            group.last_sent = group.last_sent.max(sent);
            group.last_arrival = group.last_arrival.max(arrival);
            group.delay = group.delay.min(delay);
            group.bytes = group.bytes.saturating_add(bytes.into());
            return;
        }
        let closed = *group;
        self.group = Some(Group::of(sent, arrival, bytes));
        self.on_group(&closed);
    }

    fn on_group(&mut self, group: &Group) {
        self.note_base(group);
        let sent_ms = self.last_sent.map(|last| (group.first_sent.saturating_sub(last)) as f64 / 1_000.0);
        self.last_sent = Some(group.first_sent);
        let (first_arrival, first_delay) = *self.origin.get_or_insert((group.last_arrival, group.delay));
        let Some(sent_ms) = sent_ms else { return };
        let at = (group.last_arrival - first_arrival) as f64 / 1_000.0;
        let delay = (group.delay - first_delay) as f64 / 1_000.0;
        self.smoothed = SMOOTHING * self.smoothed + (1.0 - SMOOTHING) * delay;
        self.points[self.count % WINDOW] = (at, self.smoothed);
        self.count += 1;
        let before = self.trend;
        if self.count >= WINDOW {
            self.trend = slope(&self.points).unwrap_or(self.trend);
        }
        self.detect(before, sent_ms, at);
    }

    fn note_base(&mut self, group: &Group) {
        if group.first_sent.saturating_sub(self.base_began) > BASE_WINDOW {
            self.base = [i64::MAX, self.base[0]];
            self.base_began = group.first_sent;
        }
        self.base[0] = self.base[0].min(group.delay);
        if self.latest != i64::MAX {
            let differs = (group.delay - self.latest).abs() as f64 / 1_000.0;
            self.jitter_ms += JITTER_SMOOTHING * (differs - self.jitter_ms);
        }
        self.latest = group.delay;
        self.note_fall(group);
    }

    fn note_fall(&mut self, group: &Group) {
        let queue = group.delay - self.base[0].min(self.base[1]);
        let Some(fall) = self.fall.as_mut().filter(|fall| queue < fall.from) else {
            self.fall = Some(Fall { from: queue, began: group.last_arrival, bytes: 0 });
            return;
        };
        fall.bytes = fall.bytes.saturating_add(group.bytes);
        if queue < GONE {
            let (fell, elapsed) = (fall.from - queue, (group.last_arrival - fall.began).max(1_000));
            if fell >= FALL_MIN && elapsed * FALL_STEEP[0] <= fell * FALL_STEEP[1] && fall.bytes >= FALL_BYTES_MIN {
                self.emptied = Some(f64::from(fall.bytes) * 8.0 * super::SECOND / elapsed as f64);
            }
            self.fall = None;
        }
    }

    fn detect(&mut self, before: f64, sent_ms: f64, at: f64) {
        let trend = f64::from((self.count as u32).min(COUNT_MAX)) * self.trend * GAIN;
        if trend > self.threshold {
            let over = self.over_ms.map_or(sent_ms / 2.0, |over| over + sent_ms);
            self.over_ms = Some(over);
            self.over_count += 1;
            if over > OVERUSE_MS && self.over_count > 1 && self.trend >= before {
                self.over_ms = Some(0.0);
                self.over_count = 0;
                self.usage = Usage::Over;
            }
        } else {
            self.over_ms = None;
            self.over_count = 0;
            self.usage = if trend < -self.threshold { Usage::Under } else { Usage::Normal };
        }
        self.adapt(trend.abs(), at);
    }

    fn adapt(&mut self, trend: f64, at: f64) {
        let elapsed = (at - self.adapted.unwrap_or(at)).clamp(0.0, 100.0);
        self.adapted = Some(at);
        if trend > self.threshold + ADAPT_MAX {
            return;
        }
        let speed = if trend < self.threshold { ADAPT_DOWN } else { ADAPT_UP };
        self.threshold =
            (self.threshold + speed * (trend - self.threshold) * elapsed).clamp(THRESHOLD_MIN, THRESHOLD_MAX);
    }
}

impl Group {
    fn of(sent: Micros, arrival: i64, bytes: u16) -> Self {
        Group {
            first_sent: sent,
            last_sent: sent,
            first_arrival: arrival,
            last_arrival: arrival,
            delay: arrival - sent as i64,
            bytes: u32::from(bytes),
        }
    }

    /// Whether a packet came in one breath with the group although it was sent later: something held them back and let
    /// them go together, as radio links do.
    fn came_at_once(&self, sent: Micros, arrival: i64) -> bool {
        let apart = arrival - self.last_arrival;
        let sent_apart = sent.saturating_sub(self.last_sent) as i64;
        apart <= GROUP as i64 && apart < sent_apart && arrival - self.first_arrival < GROUP_MAX
    }
}

/// Least squares.
fn slope(points: &[(f64, f64)]) -> Option<f64> {
    let n = points.len() as f64;
    let (x, y) = points.iter().fold((0.0, 0.0), |sum, point| (sum.0 + point.0 / n, sum.1 + point.1 / n));
    let (over, under) = points
        .iter()
        .fold((0.0, 0.0), |sum, point| (sum.0 + (point.0 - x) * (point.1 - y), sum.1 + (point.0 - x).powi(2)));
    (under > 0.0).then(|| over / under)
}
