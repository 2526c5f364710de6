//! Whether the link carries more than is sent: for a moment it is filled to a multiple of the estimate, with padding
//! beside the media, and what arrives is measured.

use super::{MAX_BPS, Micros, SECOND};

/// A probe lasts this long: longer measures better and queues more on full links.
const LENGTH_SECONDS: f64 = 0.03;
/// And this multiple of the jitter, up to that time.
const LENGTH_JITTERS: f64 = 4.0;
const LENGTH_SECONDS_MAX: f64 = 0.12;
/// And has at least this many bytes and packets.
const BYTES_MIN: f64 = 2_000.0;
const PACKETS_MIN: u32 = 5;
/// And no more packets than this.
const PACKETS_MAX: u32 = 256;
/// Padding leaves this much ahead of the probe's rate, since timers are late.
const AHEAD: Micros = 2_000;
/// The first probe asks for this multiple of the estimate, later ones for the next.
const FIRST_FACTOR: f64 = 3.0;
const FACTOR: f64 = 2.0;
/// No more than this multiple of what is wanted is asked for.
const WANTED_FACTOR: f64 = 1.1;
/// What was sent must have arrived to this part, beside what the link loses by itself.
const ARRIVED: f64 = 0.8;
/// Below this part of the rate of sending the link was full; then a little less than was measured is believed.
const FULL: f64 = 0.9;
const BELIEVED: f64 = 0.95;
/// Packets that come this much faster than they were sent were held back somewhere, and measure nothing.
const FASTER_MAX: f64 = 2.0;
/// Where the receiver is short of time they were, too, if they came only this much faster, or if this part of the time of all
/// went by between two of them: on a link that is full they come evenly.
const FASTER_HELD: f64 = 1.2;
const HELD: f64 = 0.6;
/// There a probe that was held back is made again after this, up to so often in a row.
const HELD_PAUSE: Micros = 150_000;
const HELD_MAX: u8 = 8;
/// Time between probes while they find nothing; doubles up to the next.
const PAUSE_MIN: Micros = 2_000_000;
const PAUSE_MAX: Micros = 4_000_000;
/// A probe that is not sent in this time, or of which nothing is heard for it, is given up.
const PATIENCE: Micros = 1_500_000;

/// Sums for a line through points (least squares).
#[derive(Clone, Copy, Debug, Default)]
struct Line {
    n: f64,
    x: f64,
    y: f64,
    xx: f64,
    xy: f64,
}

impl Line {
    fn add(&mut self, x: f64, y: f64) {
        self.n += 1.0;
        self.x += x;
        self.y += y;
        self.xx += x * x;
        self.xy += x * y;
    }

    fn slope(&self) -> Option<f64> {
        let under = self.n * self.xx - self.x * self.x;
        (under > 0.0).then(|| (self.n * self.xy - self.x * self.y) / under)
    }
}

/// A probe under way. Rates are slopes of time over bytes through all its packets, so that jitter averages out, bursts
/// of media in it do no harm, and neither do losses.
#[derive(Clone, Copy, Debug)]
struct Run {
    bps: f64,
    /// Bytes that it is to have.
    size: f64,
    began: Micros,
    /// The number of its first packet.
    first: u64,
    bytes: u32,
    packets: u32,
    /// When all was sent.
    done: Option<Micros>,
    /// Times count from the first arrival.
    origin: i64,
    sent: Line,
    received: Line,
    /// Bytes before the last packet that came, when it was sent since the probe began, and when it came.
    last: (u32, Micros, i64),
    /// The longest time between two arrivals.
    gap: i64,
}

/// What the rest of the controller knows when a probe may begin.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wish {
    pub(super) bps: f64,
    pub(super) wanted: f64,
    /// Of the packets' arrival, in ms.
    pub(super) jitter_ms: f64,
    /// Where the receiver is short of time: the delay of an empty link, in microseconds between the two clocks.
    pub(super) empty: Option<i64>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Prober {
    run: Option<Run>,
    /// Number of the present or last probe, 1 to 255.
    cluster: u8,
    next: Micros,
    pause: Micros,
    factor: f64,
    /// Ask for this, as it was before an outage.
    again: Option<f64>,
    /// Probes in a row that were held back.
    held: u8,
    /// Bytes before each packet of the probe.
    before: Vec<u32>,
}

impl Prober {
    pub(super) fn new() -> Self {
        Prober {
            run: None,
            cluster: 0,
            next: 0,
            pause: PAUSE_MIN,
            factor: FIRST_FACTOR,
            again: None,
            held: 0,
            before: Vec::new(),
        }
    }

    /// The probe that a packet sent now belongs to; 0 is none.
    #[inline]
    pub(super) fn cluster(&self) -> u8 {
        if self.run.as_ref().is_some_and(|run| run.done.is_none()) { self.cluster } else { 0 }
    }

    /// Whether one has begun, and is not heard of yet.
    pub(super) fn is_under_way(&self) -> bool {
        self.run.is_some()
    }

    /// Notes a packet of the present probe.
    pub(super) fn on_sent(&mut self, number: u64, bytes: usize, now: Micros) {
        let Some(run) = self.run.as_mut().filter(|run| run.done.is_none()) else { return };
        if run.packets == 0 {
            (run.began, run.first) = (now, number);
            self.before.clear();
        }
        self.before.push(run.bytes);
        run.bytes += bytes as u32;
        run.packets += 1;
        if f64::from(run.bytes) >= run.size && run.packets >= PACKETS_MIN || run.packets >= PACKETS_MAX {
            run.done = Some(now);
        }
    }

    /// Probes as soon as possible, for the rate that there was before an outage.
    pub(super) fn again(&mut self, bps: f64, now: Micros) {
        self.run = None;
        self.again = Some(bps);
        (self.next, self.pause) = (now, PAUSE_MIN);
    }

    /// Not before `at`, since the queue is to empty.
    pub(super) fn wait_until(&mut self, at: Micros) {
        self.next = self.next.max(at);
    }

    /// When the next probe may begin, or its next padding is due; `None` while nothing is wanted or it waits to hear.
    pub(super) fn due(&self, wish: Wish) -> Option<Micros> {
        match &self.run {
            None => self.wants(wish).map(|_| self.next),
            Some(Run { done: Some(at), .. }) => Some(at + PATIENCE),
            Some(run) => Some(run.began + (f64::from(run.bytes) * 8.0 * SECOND / run.bps) as Micros),
        }
    }

    fn wants(&self, wish: Wish) -> Option<f64> {
        if let Some(again) = self.again {
            return Some(again.max(FACTOR * wish.bps));
        }
        let more = wish.wanted.min(MAX_BPS) > wish.bps;
        more.then(|| (self.factor * wish.bps).min(WANTED_FACTOR * wish.wanted).min(MAX_BPS))
    }

    /// Begins a probe if one is due.
    pub(super) fn begin(&mut self, wish: Wish, now: Micros) {
        if self.run.is_some() || now < self.next {
            return;
        }
        let Some(bps) = self.wants(wish) else { return };
        self.again = None;
        self.cluster = self.cluster.checked_add(1).unwrap_or(1);
        let length = (LENGTH_SECONDS + LENGTH_JITTERS * wish.jitter_ms / 1_000.0).min(LENGTH_SECONDS_MAX);
        self.run = Some(Run {
            bps,
            size: (bps * length / 8.0).max(BYTES_MIN),
            began: now,
            first: 0,
            bytes: 0,
            packets: 0,
            done: None,
            origin: 0,
            sent: Line::default(),
            received: Line::default(),
            last: (0, 0, 0),
            gap: 0,
        });
    }

    /// Bytes of padding that are due now.
    pub(super) fn padding(&mut self, now: Micros) -> Option<usize> {
        let run = self.run.as_ref()?;
        if now.saturating_sub(run.done.unwrap_or(run.began)) >= PATIENCE {
            self.give_up(now);
            return None;
        }
        if run.done.is_some() {
            return None;
        }
        let elapsed = now.saturating_sub(run.began);
        let due = run.bps * (elapsed + AHEAD) as f64 / 8.0 / SECOND - f64::from(run.bytes);
        (due > 0.0).then_some(due.ceil() as usize)
    }

    /// Notes a packet of a probe that arrived.
    pub(super) fn on_arrival(&mut self, cluster: u8, number: u64, sent: Micros, arrival: i64) {
        let Some(run) = self.run.as_mut().filter(|_| cluster == self.cluster) else { return };
        let index = number.saturating_sub(run.first) as usize;
        let Some(before) = self.before.get(index) else { return };
        if run.received.n == 0.0 {
            run.origin = arrival;
            run.last = (*before, sent.saturating_sub(run.began), arrival);
        }
        let bytes = f64::from(*before);
        let sent = sent.saturating_sub(run.began);
        run.sent.add(bytes, sent as f64);
        run.received.add(bytes, (arrival - run.origin) as f64);
        if *before >= run.last.0 {
            run.gap = run.gap.max(arrival - run.last.2);
            run.last = (*before, sent, arrival);
        }
    }

    /// After each feedback: the rate that a probe found, if it is more than the estimate.
    pub(super) fn result(&mut self, wish: Wish, inherent: f64, now: Micros) -> Option<f64> {
        let run = self.run.filter(|run| run.done.is_some())?;
        if run.received.n < (ARRIVED * (1.0 - inherent) * f64::from(run.packets)).max(3.0) {
            return None;
        }
        let Some((sent, received, held)) = run.rates(inherent, wish.empty) else {
            self.give_up(now);
            return None;
        };
        let full = received < FULL * sent.min(run.bps);
        let found = if full { BELIEVED * received } else { sent.min(received) };
        if found <= wish.bps {
            if held && self.held < HELD_MAX {
                self.held += 1;
                (self.run, self.next) = (None, now + HELD_PAUSE);
            } else {
                self.give_up(now);
            }
            return None;
        }
        (self.run, self.held) = (None, 0);
        self.factor = FACTOR;
        if full {
            self.next = now + self.pause;
        } else {
            (self.next, self.pause) = (now, PAUSE_MIN);
        }
        Some(found.min(MAX_BPS))
    }

    fn give_up(&mut self, now: Micros) {
        (self.run, self.held) = (None, 0);
        self.factor = FACTOR;
        self.next = now + self.pause;
        self.pause = (self.pause * 2).min(PAUSE_MAX);
    }
}

impl Run {
    /// Bits a second of sending and of receiving, and whether packets were held back; `None` if they say nothing. What was
    /// lost beyond what the link loses by itself took none of its time.
    fn rates(&self, inherent: f64, empty: Option<i64>) -> Option<(f64, f64, bool)> {
        let rate = |line: &Line| line.slope().filter(|slope| *slope > 0.0).map(|slope| 8.0 * SECOND / slope);
        let arrived = (self.received.n / f64::from(self.packets) / (1.0 - inherent)).min(1.0);
        let (sent, received) = (rate(&self.sent)?, rate(&self.received).map(|received| received * arrived));
        let plausible = received.filter(|received| *received <= FASTER_MAX * sent);
        let Some(empty) = empty else { return plausible.map(|received| (sent, received, false)) };
        // They may have come in a heap. By then the link had carried them all, and the last cannot have waited longer in its
        // queue than its delay is longer than that of an empty link.
        let (bytes, sent_after, arrival) = self.last;
        let waited = (arrival - (self.began + sent_after) as i64 - empty).max(0);
        let proven = f64::from(bytes) * 8.0 * SECOND / (sent_after as f64 + waited as f64).max(1.0) * arrived;
        let gap = self.gap as f64 > HELD * (arrival - self.origin) as f64;
        let held = gap || plausible.is_none_or(|received| received > FASTER_HELD * sent);
        let received = plausible.map_or(proven, |received| if held { received.min(proven) } else { received });
        Some((sent, received, held))
    }
}
