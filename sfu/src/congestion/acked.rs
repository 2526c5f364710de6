//! The rate at which packets arrive, by the receiver's clock.

use super::SECOND;

const BUCKET: i64 = 25_000;
const BUCKETS: usize = 32;
/// What a sudden fall of the rate shows in.
pub(super) const SHORT: i64 = 200_000;
/// What the rate is measured over otherwise; several frames.
pub(super) const LONG: i64 = 600_000;
const SPAN_MIN: i64 = 100_000;

/// Bytes that arrived in the last 0.8 s, by time of arrival.
#[derive(Debug, Default)]
pub(super) struct Acked {
    buckets: [u32; BUCKETS],
    /// Arrival of the first packet and of the last, in microseconds of the receiver's clock.
    span: Option<(i64, i64)>,
}

impl Acked {
    /// Notes an arrival. One that is older than the window is left out.
    pub(super) fn on_arrival(&mut self, arrival: i64, bytes: u16) {
        let (first, last) = *self.span.get_or_insert((arrival, arrival));
        let slots = arrival.div_euclid(BUCKET) - last.div_euclid(BUCKET);
        if slots <= -(BUCKETS as i64) {
            return;
        }
        for slot in 1..=slots.min(BUCKETS as i64) {
            self.buckets[place(last + slot * BUCKET)] = 0;
        }
        self.buckets[place(arrival)] += u32::from(bytes);
        self.span = Some((first, last.max(arrival)));
    }

    /// Forgets everything: the receiver's clock jumped, or nothing was heard for long.
    pub(super) fn reset(&mut self) {
        *self = Acked::default();
    }

    /// Bits a second over the last `window` of arrivals, [`SHORT`] or [`LONG`]; `None` before there was enough.
    pub(super) fn rate(&self, window: i64) -> Option<f64> {
        let (first, last) = self.span?;
        let from = (last - window).div_euclid(BUCKET) * BUCKET + BUCKET;
        let span = last - from.max(first);
        if span < SPAN_MIN.min(window / 2) {
            return None;
        }
        let mut bytes = 0;
        let mut at = from;
        while at <= last {
            bytes += self.buckets[place(at)];
            at += BUCKET;
        }
        Some(f64::from(bytes) * 8.0 * SECOND / span as f64)
    }
}

fn place(at: i64) -> usize {
    at.div_euclid(BUCKET).rem_euclid(BUCKETS as i64) as usize
}
