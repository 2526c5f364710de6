//! Whether the queue of the bottleneck grows: the slope of one-way delays against a threshold that adapts
//! (draft-ietf-rmcat-gcc-02 §5.2–5.4, with the trendline that took the Kalman filter's place).

use super::Micros;

/// Packets sent within this time are one group.
const GROUP: Micros = 5_000;
/// A group that grows because its packets came at once ends here.
const GROUP_MAX: i64 = 100_000;
/// Packets come in a heap that come so many times faster than they were sent, and than the link is believed to carry: no
/// queue of its lets them go like that. Whoever should have read them had no time.
const HEAP_SENT: i64 = 2;
const HEAP_RATE: f64 = 4.0;
/// Where little is believed of a link this is a heap's rate, in bits a second.
const HEAP_BPS_MIN: f64 = 4_000_000.0;
/// And they were sent over at least this.
const HEAP_SPAN: i64 = 10_000;
/// For so long after a heap the receiver is taken to be short of time. Lower takes the next hiccup for a queue; higher is
/// slower to see real queues behind one.
const HEAP_WINDOW: i64 = 2_000_000;
/// Then the least delay of so many groups counts: one that was late by itself shows no queue, for a queue goes on.
const LATELY: usize = 3;
/// And a queue only counts from this on, in ms.
const OVER_MS: f64 = 40.0;
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
    /// Those behind the first packet: they came in the time since it.
    behind: u32,
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
    /// When a heap came last.
    heap: Option<i64>,
    /// The rate of one, at least.
    heap_bps: f64,
    /// Delays of the last groups.
    lately: [i64; LATELY],
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
            heap: None,
            heap_bps: f64::MAX,
            lately: [i64::MAX; LATELY],
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
        let base = self.base().filter(|_| self.latest != i64::MAX);
        base.map(|base| (self.latest - base) as f64 / 1_000.0)
    }

    /// The least delay of the last 10 to 20 s, in microseconds between two clocks; `None` while that is not known.
    pub(super) fn base(&self) -> Option<i64> {
        Some(self.base[0].min(self.base[1])).filter(|base| *base != i64::MAX)
    }

    /// Says what the link is believed to carry, in bits a second.
    pub(super) fn set_estimate(&mut self, bps: f64) {
        self.heap_bps = (HEAP_RATE * bps).max(HEAP_BPS_MIN);
    }

    /// Whether packets came in a heap of late, so that the receiver seems to be short of time. Then they came faster than the
    /// link carries, and slower before.
    pub(super) fn heaped(&self) -> bool {
        let last = self.group.map(|group| group.last_arrival);
        self.heap.zip(last).is_some_and(|(heap, last)| last - heap < HEAP_WINDOW)
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
        if sent - group.first_sent <= GROUP || group.came_at_once(sent, arrival, bytes, self.heap_bps) {
            group.last_sent = group.last_sent.max(sent);
            group.last_arrival = group.last_arrival.max(arrival);
            group.delay = group.delay.min(delay);
            group.bytes = group.bytes.saturating_add(bytes.into());
            group.behind = group.behind.saturating_add(bytes.into());
            return;
        }
        let closed = *group;
        self.group = Some(Group::of(sent, arrival, bytes));
        self.on_group(&closed);
    }

    fn on_group(&mut self, group: &Group) {
        if group.is_heap(self.heap_bps) {
            self.heap = Some(group.last_arrival);
        }
        self.lately.rotate_right(1);
        self.lately[0] = group.delay;
        let least = self.lately.iter().copied().min().filter(|_| self.heaped());
        let group = &Group { delay: least.unwrap_or(group.delay), ..*group };
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
            let short = self.heaped() && self.queue_ms().is_some_and(|queue| queue < OVER_MS);
            if over > OVERUSE_MS && self.over_count > 1 && self.trend >= before && !short {
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
            behind: 0,
        }
    }

    /// Whether a packet came in one breath with the group although it was sent later: something held them back and let
    /// them go together, as radio links do, and receivers that had no time to read.
    fn came_at_once(&self, sent: Micros, arrival: i64, bytes: u16, heap_bps: f64) -> bool {
        let (apart, sent_apart) = (arrival - self.last_arrival, since(sent, self.last_sent));
        let heaps = || {
            let behind = self.behind.saturating_add(bytes.into());
            is_heap(since(sent, self.first_sent), arrival - self.first_arrival, behind, heap_bps)
        };
        apart <= GROUP as i64 && arrival - self.first_arrival < GROUP_MAX && (apart < sent_apart || heaps())
    }

    fn is_heap(&self, heap_bps: f64) -> bool {
        let (sent, came) = (since(self.last_sent, self.first_sent), self.last_arrival - self.first_arrival);
        sent > HEAP_SPAN && is_heap(sent, came, self.behind, heap_bps)
    }
}

fn since(later: Micros, earlier: Micros) -> i64 {
    later.saturating_sub(earlier) as i64
}

/// Whether what was sent and came over these times came too fast for a link.
fn is_heap(sent: i64, came: i64, bytes: u32, heap_bps: f64) -> bool {
    HEAP_SENT * came <= sent && f64::from(bytes) * 8.0 * super::SECOND >= heap_bps * came as f64
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
