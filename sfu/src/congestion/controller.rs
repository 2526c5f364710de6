//! The estimate of one downlink, from whatever its client tells.

use std::time::{Duration, Instant};

use super::acked::{Acked, LONG, SHORT};
use super::delay::{Delay, Usage};
use super::fallback::{Fallback, Remb};
use super::history::History;
use super::loss::{Loss, Verdict};
use super::probe::{Prober, Wish};
use super::rate::{Rate, Seen};
use super::{MAX_BPS, MIN_BPS, Micros, Purpose, SECOND};
use crate::rtcp::TransportFeedback;

/// Before a round trip was measured.
const RTT_START: Duration = Duration::from_millis(200);
/// No longer round trip is believed.
const RTT_MAX: Duration = Duration::from_secs(3);
/// A round trip from reports is better than one from feedback, which waits up to 100 ms, for this long.
const RTT_OF_REPORTS: Micros = 10_000_000;
/// Nothing heard of a packet for this long, and a round trip: the path is cut. The rate halves, and again each such time.
const OUTAGE: Micros = 500_000;
/// Delay counts no more after a silence of this.
const SILENCE: Micros = 1_500_000;
/// What is sent is measured over this.
const SENT_WINDOW: Micros = 400_000;
/// Sending less than this part of the rate is not sending what the link carries.
const LIMITED: f64 = 0.7;
/// The receiver's reference time: units of 64 ms, 24 bits; deltas in units of 250 µs.
const REFERENCE: i64 = 64_000;
const REFERENCE_BITS: u32 = 24;
const TICK: i64 = 250;
/// Steps of the receiver's clock against ours beyond this begin anew.
const CLOCK_STEP: i64 = 5_000_000;
/// A queue that takes longer than this is emptied by sending less for a while, by half at this much more.
const QUEUE_MS: f64 = 80.0;
const QUEUE_MORE_MS: f64 = 400.0;
const EMPTYING: Micros = 3_000_000;
/// After this without overuse, what gets through is believed.
const CALM: Micros = 3_000_000;
/// For so long it may turn out that the rate was lowered for nothing.
const TAKE_BACK: Micros = 2_000_000;
/// A queue is gone that takes less than this.
const QUEUE_GONE_MS: f64 = 10.0;
/// Longer than this there is one, and the link is strained when that lasts, or when packets are missing, too.
const QUEUED_MS: f64 = 50.0;
const STRAINED: Micros = 300_000;
/// Of the rate at which a queue emptied, what is believed.
const EMPTIED: f64 = 0.9;
/// Time for the first probes, before an estimate that only began counts as one.
const FIRST_PROBES: Micros = 1_500_000;
/// No probe for this long after the queue had grown.
const PROBE_WAIT: Micros = 1_000_000;
/// Nor into a queue of this length.
const PROBE_QUEUE_MS: f64 = 100.0;
/// Then it is looked at again after this.
const PROBE_RETRY: Micros = 200_000;
/// A change of the estimate by this part is worth telling.
const WORTH_TELLING: f64 = 0.05;

/// See the module.
#[derive(Debug)]
pub(crate) struct Controller {
    began: Instant,
    /// When packets leave.
    clock: Micros,
    history: History,
    acked: Acked,
    delay: Delay,
    loss: Loss,
    rate: Rate,
    prober: Prober,
    fallback: Fallback,
    /// What the last report said was lost.
    reported: f64,
    wanted: f64,
    /// Padding can be sent.
    pads: bool,
    /// Feedback tells of too little to count.
    deaf: bool,
    /// When feedback came last.
    heard: Option<Micros>,
    /// And when it last told of a packet's delay: probes measure none.
    measured: Option<Micros>,
    /// When feedback came first.
    first_heard: Option<Micros>,
    informed: bool,
    /// The highest number that feedback told of.
    heard_of: u64,
    /// The last reference time, its wraps counted, and the receiver's clock against ours then.
    reference: Option<(i64, i64)>,
    rtt: Option<Duration>,
    rtt_reported: Option<Micros>,
    /// Bytes sent without a number, of which no feedback can tell.
    unnumbered: u64,
    /// When and how many bytes had been sent when that was last looked at, and bits a second in the time before.
    sent: (Micros, u64),
    sent_bps: f64,
    /// The rate before the path was cut, and when it was last lowered for it.
    outage: Option<(f64, Micros)>,
    /// The rate before it was last lowered, for a queue or for a silence, and when.
    before: Option<(f64, Micros)>,
    /// After a silence nothing was missing yet: perhaps only its feedback had been held back.
    all_came: bool,
    /// When feedback last told of a packet that was missing.
    missed: Option<Micros>,
    /// Since when there was a queue in all that was heard.
    queued: Option<Micros>,
    /// A part of the rate that is sent while a queue empties.
    emptying: f64,
    /// The estimate that others know of.
    told: Option<f64>,
}

impl Controller {
    /// A controller that knows nothing.
    pub(crate) fn new(now: Instant) -> Self {
        Controller {
            began: now,
            clock: 0,
            history: History::new(),
            acked: Acked::default(),
            delay: Delay::new(),
            loss: Loss::default(),
            rate: Rate::new(),
            prober: Prober::new(),
            fallback: Fallback::default(),
            reported: 0.0,
            wanted: 0.0,
            pads: true,
            deaf: false,
            heard: None,
            measured: None,
            first_heard: None,
            informed: false,
            heard_of: 0,
            reference: None,
            rtt: None,
            rtt_reported: None,
            unnumbered: 0,
            sent: (0, 0),
            sent_bps: 0.0,
            outage: None,
            before: None,
            all_came: false,
            missed: None,
            queued: None,
            emptying: 1.0,
            told: None,
        }
    }

    fn micros(&self, now: Instant) -> Micros {
        now.saturating_duration_since(self.began).as_micros() as Micros
    }

    /// Bits a second that the downlink carries, everything included.
    pub(crate) fn estimate(&self) -> f64 {
        (self.rate.bps() * self.emptying).max(MIN_BPS)
    }

    /// What of the estimate is left for media when its losses are sent again.
    pub(crate) fn for_media(&self) -> f64 {
        self.estimate() * (1.0 - self.loss.recent().min(0.5))
    }

    /// Whether the client told enough to make an estimate of: the link was too small for what was sent, or the first
    /// probes have had their time.
    pub(crate) fn is_informed(&self) -> bool {
        self.informed || self.fallback.is_informed()
    }

    /// Whether the client tells anything, so that it can be paced.
    pub(crate) fn is_heard(&self) -> bool {
        self.heard.is_some() || self.fallback.is_informed()
    }

    /// Whether packets wait on their way for longer than a receiver's hiccup would let them: what is sent beyond the estimate
    /// hurts audio. Where the client does not tell, it is taken to be so.
    pub(crate) fn is_strained(&self, now: Instant) -> bool {
        let now = self.micros(now);
        let overflows = self.missed.is_some_and(|at| now.saturating_sub(at) < STRAINED);
        let queues = self.queued.is_some_and(|since| overflows || now.saturating_sub(since) > STRAINED);
        self.heard.is_none() || self.loss.tries() || queues
    }

    /// The part of packets lost lately, 0 to 1.
    pub(crate) fn lost(&self) -> f64 {
        if self.heard.is_some() { self.loss.recent() } else { self.reported }
    }

    /// The part of packets lost lately, 0 to 1, that sending less would not save: nothing while a queue had to be emptied.
    pub(crate) fn lost_by_link(&self, now: Instant) -> f64 {
        if self.is_congested(now) || self.outage.is_some() { 0.0 } else { self.lost() }
    }

    /// Whether the rate was lowered for a queue that may not be gone yet.
    pub(crate) fn is_congested(&self, now: Instant) -> bool {
        let now = self.micros(now);
        self.rate.decreased().is_some_and(|at| now.saturating_sub(at) < EMPTYING)
    }

    /// The round trip, if it is known.
    pub(crate) fn rtt(&self) -> Option<Duration> {
        self.rtt
    }

    /// Whether the estimate changed so much since this was last asked that others should know.
    pub(crate) fn take_change(&mut self) -> bool {
        let estimate = self.estimate();
        let changed = self.told.is_none_or(|told| (estimate - told).abs() > WORTH_TELLING * told);
        let tells = changed && self.is_informed();
        if tells {
            self.told = Some(estimate);
        }
        tells
    }

    /// What everything that the subscriber wishes for would need, in bits a second: probes look for no more.
    pub(crate) fn set_wanted(&mut self, bps: f64) {
        self.wanted = bps;
    }

    /// Whether padding can be sent to this subscriber. Without it nothing is probed for, and the estimate grows unproven.
    pub(crate) fn set_pads(&mut self, pads: bool) {
        self.pads = pads;
    }

    /// The transport-wide sequence number of the next packet.
    #[inline]
    pub(crate) fn next_seq(&self) -> u16 {
        self.history.next() as u16
    }

    /// Says when the packets leave of which [`Controller::on_sent`] tells next: once for many.
    #[inline]
    pub(crate) fn set_clock(&mut self, now: Instant) {
        self.clock = self.micros(now);
    }

    /// Notes a packet without a number, of this size on the wire.
    #[inline]
    pub(crate) fn on_sent_unnumbered(&mut self, bytes: usize) {
        self.unnumbered += bytes as u64;
    }

    /// Says that video leaves without numbers: feedback tells of the rest alone, and counts no more for this client. What it
    /// estimates and reports does.
    pub(crate) fn ignore_feedback(&mut self) {
        if !std::mem::replace(&mut self.deaf, true) {
            (self.heard, self.measured, self.first_heard) = (None, None, None);
            (self.outage, self.informed, self.emptying) = (None, false, 1.0);
        }
    }

    /// Notes a packet with that number, of this size on the wire. The hot path.
    #[inline]
    pub(crate) fn on_sent(&mut self, bytes: usize, purpose: Purpose) {
        let now = self.clock;
        let cluster = self.prober.cluster();
        if cluster != 0 {
            self.prober.on_sent(self.history.next(), bytes, now);
        }
        self.history.push(bytes, purpose, cluster, now);
    }

    /// Takes in transport-wide feedback, however wrong it is. At most as many statuses are looked at as packets are
    /// remembered.
    pub(crate) fn on_feedback(&mut self, feedback: &TransportFeedback<'_>, now: Instant) {
        if self.deaf {
            return;
        }
        let now = self.micros(now);
        let mut arrival = self.reference(feedback.reference_time, now);
        let resumed = self.resume(now);
        self.delay.set_estimate(self.rate.bps());
        let (mut news, mut arrived) = (false, false);
        let mut rtt = None;
        for (seq, delta) in feedback.statuses().take(self.history.len()) {
            arrival += i64::from(delta.unwrap_or(0)) * TICK;
            let Some((number, told)) = self.history.told(seq, delta.is_some(), now) else { continue };
            if !news && resumed.is_none() {
                self.fill_gap(number, arrival, now);
            }
            news = true;
            self.heard_of = self.heard_of.max(number);
            self.loss.count(told.at, delta.is_some(), told.corrected);
            if delta.is_none() {
                self.all_came = false;
                self.missed = Some(now);
                continue;
            }
            arrived = true;
            self.acked.on_arrival(arrival, told.bytes);
            if told.cluster != 0 {
                self.prober.on_arrival(told.cluster, number, told.at, arrival);
            } else {
                self.delay.on_arrival(told.at, arrival, told.bytes);
                self.measured = Some(now);
            }
            rtt = Some(now.saturating_sub(told.at));
        }
        if !news {
            if let Some(outage) = resumed {
                self.outage = Some(outage);
            }
            return;
        }
        self.heard = Some(now);
        if let Some(rtt) = rtt {
            self.note_rtt(Duration::from_micros(rtt), now);
        }
        self.measure_sent(now);
        if arrived {
            self.conclude(now);
        }
    }

    /// Packets between the last feedback and this one, of which a lost one told: they count as carried, or the
    /// acknowledged rate would seem to fall with every lost feedback.
    fn fill_gap(&mut self, number: u64, arrival: i64, now: Micros) {
        let oldest = self.history.next().saturating_sub(self.history.len() as u64);
        for number in (self.heard_of + 1).max(oldest)..number {
            if let Some((_, told)) = self.history.told(number as u16, true, now) {
                self.acked.on_arrival(arrival, told.bytes);
            }
        }
    }

    /// The time at which a feedback's deltas begin, by the receiver's clock, in microseconds.
    fn reference(&mut self, reference: i32, now: Micros) -> i64 {
        let reference = i64::from(reference);
        let unwrapped = self.reference.map_or(reference, |(last, _)| {
            let shift = i64::BITS - REFERENCE_BITS;
            last + (((reference - last) << shift) >> shift)
        });
        let against = unwrapped * REFERENCE - now as i64;
        let jumped = self.reference.is_some_and(|(_, last)| (against - last).abs() > CLOCK_STEP);
        if jumped {
            self.delay.reset(true);
            self.acked.reset();
        }
        self.reference = Some((unwrapped, against));
        unwrapped * REFERENCE
    }

    /// The first feedback after a silence: what was measured before it says nothing.
    fn resume(&mut self, now: Micros) -> Option<(f64, Micros)> {
        if self.heard.is_some_and(|heard| now.saturating_sub(heard) > SILENCE) {
            self.acked.reset();
        }
        if self.is_quiet(now) {
            self.delay.reset(false);
        }
        let outage = self.outage.take()?;
        self.loss.forget(now);
        self.note_before(outage.0, now);
        self.all_came = true;
        self.rate.come_back(outage.0);
        self.prober.again(outage.0, now);
        Some(outage)
    }

    fn conclude(&mut self, now: Micros) {
        let rtt = self.rtt.unwrap_or(RTT_START);
        let inherent = self.loss.inherent();
        let usage = self.delay.usage();
        // While a queue grows packets come as fast as the link carries them: where little was sent before, as when a larger
        // layer begins, the longer time says too little of the link.
        let lately = self.acked.rate(SHORT).filter(|_| usage == Usage::Over).unwrap_or(0.0);
        let throughput = self.throughput().map(|bps| bps.max(lately) / (1.0 - inherent));
        let seen = Seen {
            usage,
            throughput,
            limited: self.pads && self.sent_bps < LIMITED * self.rate.bps(),
            hold: self.loss.holds(),
            rtt,
        };
        let rate = self.rate.bps();
        if self.rate.on_feedback(&seen, now) {
            self.prober.wait_until(now + PROBE_WAIT);
            self.note_before(rate, now);
        }
        self.take_back(now);
        self.believe_throughput(&seen, now);
        let wish = self.wish();
        if let Some(found) = self.prober.result(wish, inherent, now)
            && seen.usage != Usage::Over
        {
            self.rate.set(found, now);
        }
        if let Some(got_through) = self.throughput() {
            match self.loss.on_feedback(self.rate.bps(), self.sent_bps, got_through, now) {
                Verdict::Nothing => {}
                Verdict::Lower(bps) => {
                    self.rate.set(bps, now);
                }
                Verdict::Restore(bps) => self.rate.set(bps.max(self.rate.bps()), now),
            }
        }
        self.empty_queue(now);
        let first_heard = *self.first_heard.get_or_insert(now);
        let short = self.rate.decreased().is_some() || self.loss.tries();
        self.informed |= short || now.saturating_sub(first_heard) > FIRST_PROBES;
    }

    fn note_before(&mut self, bps: f64, now: Micros) {
        let recent = self.before.filter(|(_, at)| now.saturating_sub(*at) < TAKE_BACK);
        self.before = Some((recent.map_or(bps, |(before, _)| before.max(bps)), now));
    }

    /// Takes back that the rate was lowered if the queue, or the silence, was not the link's: what had been held back came
    /// faster than a link that is too small would have let it.
    fn take_back(&mut self, now: Micros) {
        let late_feedback = self.all_came && self.delay.queue_ms().is_some_and(|queue| queue < QUEUE_GONE_MS);
        let emptied = self.delay.take_emptied().or(late_feedback.then_some(MAX_BPS));
        let Some(emptied) = emptied else { return };
        self.all_came = false;
        let Some((before, _)) = self.before.take().filter(|(_, at)| now.saturating_sub(*at) < TAKE_BACK) else {
            return;
        };
        let proven = before.min(EMPTIED * emptied);
        if proven > self.rate.bps() {
            self.rate.set(proven, now);
        }
    }

    /// The acknowledged rate, in bits a second; of a shorter time if it fell, unless that was because nobody read.
    fn throughput(&self) -> Option<f64> {
        let long = self.acked.rate(LONG)?;
        let short = self.acked.rate(SHORT).filter(|short| *short < 0.7 * long && !self.delay.heaped());
        Some(short.unwrap_or(long))
    }

    fn empty_queue(&mut self, now: Micros) {
        let queued = self.delay.queue_ms().is_some_and(|queue| queue > QUEUED_MS);
        self.queued = queued.then(|| self.queued.unwrap_or(now));
        let recent = self.rate.decreased().is_some_and(|at| now.saturating_sub(at) < EMPTYING);
        let over = (self.delay.queue_ms().unwrap_or(0.0) - QUEUE_MS) / QUEUE_MORE_MS;
        self.emptying = if recent { 1.0 - over.clamp(0.0, 0.5) } else { 1.0 };
    }

    fn measure_sent(&mut self, now: Micros) {
        let (at, bytes) = self.sent;
        let elapsed = now.saturating_sub(at);
        if elapsed >= SENT_WINDOW {
            let total = self.history.bytes + self.unnumbered;
            self.sent_bps = (total - bytes) as f64 * 8.0 * SECOND / elapsed as f64;
            self.sent = (now, total);
        }
    }

    fn note_rtt(&mut self, sample: Duration, now: Micros) {
        if self.rtt_reported.is_some_and(|at| now.saturating_sub(at) < RTT_OF_REPORTS) {
            return;
        }
        self.smooth_rtt(sample);
    }

    fn smooth_rtt(&mut self, sample: Duration) {
        let sample = sample.min(RTT_MAX);
        self.rtt = Some(self.rtt.map_or(sample, |rtt| if sample < rtt { sample } else { (rtt * 7 + sample) / 8 }));
    }

    /// Takes in a round trip that a receiver report told.
    pub(crate) fn on_rtt(&mut self, rtt: Duration, now: Instant) {
        self.rtt_reported = Some(self.micros(now));
        self.smooth_rtt(rtt);
    }

    /// Takes in a REMB of any value, given the same receiver's one before and bits a second that were sent of the streams which
    /// it names, `None` if it names none; of no effect where there is transport-wide feedback.
    pub(crate) fn on_remb(&mut self, bps: u64, before: Option<u64>, named_bps: Option<f64>, now: Instant) {
        if self.heard.is_some() {
            return;
        }
        let now = self.micros(now);
        self.measure_sent(now);
        // A receiver may estimate each stream by itself, as aiortc does: then it stands for the others, too.
        let scale = named_bps.map_or(1.0, |named| (self.sent_bps / named.max(1.0)).max(1.0));
        let whole = |bps: u64| (bps as f64 * scale).clamp(MIN_BPS, MAX_BPS);
        let remb = Remb { bps: whole(bps), before: before.map(whole) };
        let bps = self.fallback.on_remb(remb, self.rate.bps(), self.sent_bps, self.wanted, now);
        self.rate.set(bps, now);
    }

    /// Takes in what a receiver report says was lost, 0 to 1; of no effect where there is something better.
    pub(crate) fn on_report(&mut self, lost: f64, now: Instant) {
        if self.heard.is_some() {
            return;
        }
        self.reported = lost;
        let now = self.micros(now);
        self.measure_sent(now);
        if let Some(bps) = self.fallback.on_report(lost, self.rate.bps(), self.sent_bps, self.wanted, now) {
            self.rate.set(bps, now);
        }
    }

    /// When [`Controller::tick`] or [`Controller::padding`] has something to do; `None` for a quiet or silent subscriber.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.heard?;
        let outage = self.unheard().map(|sent| self.outage_due(sent));
        let probe = if self.pads { self.prober.due(self.wish()) } else { None };
        let held = self.outage.is_some() && !self.prober.is_under_way();
        let probe = probe.map(|due| if held { due.max(self.last_sent() + SILENCE) } else { due });
        let due = [outage, probe].into_iter().flatten().min()?;
        Some(self.began + Duration::from_micros(due))
    }

    /// What gets through without a growing queue is carried, however little was believed before.
    fn believe_throughput(&mut self, seen: &Seen, now: Micros) {
        let calm = self.rate.decreased().is_none_or(|at| now.saturating_sub(at) > CALM);
        // What comes in a heap was sent over a longer time than it came in.
        let most = if self.delay.heaped() { self.sent_bps } else { f64::MAX };
        if let Some(throughput) = seen.throughput.map(|bps| bps.min(most))
            && calm
            && seen.usage == Usage::Normal
            && !self.loss.tries()
            && self.delay.queue_ms().is_some_and(|queue| queue < QUEUE_MS)
            && throughput > self.rate.bps()
        {
            self.rate.set(throughput, now);
        }
    }

    /// Notes that time went by: lowers the rate while nothing is heard of what is sent.
    pub(crate) fn tick(&mut self, now: Instant) {
        let now = self.micros(now);
        if self.heard.is_none() {
            return;
        }
        let due = self.unheard().is_some_and(|sent| self.outage_due(sent) <= now);
        if due && self.rate.bps() > MIN_BPS {
            let before = self.outage.map_or(self.rate.bps(), |(before, _)| before);
            self.outage = Some((before, now));
            self.informed = true;
            self.rate.set(self.rate.bps() / 2.0, now);
        }
    }

    /// When the first packet was sent that nothing was heard of.
    fn unheard(&self) -> Option<Micros> {
        if self.rate.bps() <= MIN_BPS {
            return None;
        }
        let last_heard = self.heard?;
        let sent = self.history.sent_at(self.heard_of + 1, self.last_micros(last_heard));
        sent.or_else(|| (self.history.next() > self.heard_of + 1).then_some(last_heard))
    }

    fn last_micros(&self, heard: Micros) -> Micros {
        // Send times are kept as their low halves; within 71 minutes of the last feedback they are told apart.
        heard + u64::from(u32::MAX) / 2
    }

    fn outage_due(&self, sent: Micros) -> Micros {
        let from = self.outage.map_or(sent, |(_, lowered)| lowered);
        from + OUTAGE + self.rtt.unwrap_or(RTT_START).as_micros() as u64
    }

    fn wish(&self) -> Wish {
        let empty = self.delay.base().filter(|_| self.delay.heaped());
        Wish { bps: self.rate.bps(), wanted: self.wanted, jitter_ms: self.delay.jitter_ms(), empty }
    }

    /// When the last packet left that feedback can tell of.
    fn last_sent(&self) -> Micros {
        self.history.sent_at(self.history.next() - 1, self.clock).unwrap_or(0)
    }

    /// Whether nothing was sent for a while that tells of delay, as when the only picture is paused: what was known of a queue
    /// says nothing any more.
    fn is_quiet(&self, now: Micros) -> bool {
        self.measured.is_none_or(|at| now.saturating_sub(at) > SILENCE)
    }

    /// Bytes of padding that should leave now to probe the link; `None` if none. To be asked again after each packet.
    pub(crate) fn padding(&mut self, now: Instant) -> Option<usize> {
        let now = self.micros(now);
        self.heard.filter(|_| self.pads)?;
        let short = self.delay.queue_ms().is_some_and(|queue| queue < PROBE_QUEUE_MS);
        let bears = if self.outage.is_some() {
            // Nobody would ever hear that the path is whole again if nothing were sent.
            now.saturating_sub(self.last_sent()) >= SILENCE
        } else {
            self.is_quiet(now) || short && self.delay.usage() != Usage::Over
        };
        if bears {
            let wish = self.wish();
            self.prober.begin(wish, now);
        } else {
            self.prober.wait_until(now + PROBE_RETRY);
        }
        self.prober.padding(now)
    }
}
