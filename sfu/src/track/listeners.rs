//! What listeners lose of a track's sound, as its publisher is told. An Opus encoder that knows of loss packs the frame before into
//! each packet (in-band FEC, RFC 6716 §2.1.7), and listeners without RED have nothing else.

use std::time::{Duration, Instant};

/// The publisher is told of a tenth at most, in 256ths: encoders give all they have from there on, and one listener cannot make
/// the sound worse for the others.
const TOLD_MAX: u8 = 26;
/// Whoever loses more than half, in 256ths, is not helped by one more frame.
const HOPELESS: u8 = 128;
/// A report counts for one to two of these; listeners report each second to five.
const WINDOW: Duration = Duration::from_secs(6);

/// The worst of late.
#[derive(Debug, Default)]
pub(crate) struct ListenerLoss {
    worst: u8,
    before: u8,
    turned: Option<Instant>,
}

impl ListenerLoss {
    /// A listener without RED says what part it lost of late, in 256ths.
    pub(crate) fn note(&mut self, fraction_lost: u8, now: Instant) {
        self.turn(now);
        if fraction_lost <= HOPELESS {
            self.worst = self.worst.max(fraction_lost.min(TOLD_MAX));
        }
    }

    /// What the publisher is to reckon with, in 256ths.
    pub(crate) fn told(&mut self, now: Instant) -> u8 {
        self.turn(now);
        self.worst.max(self.before)
    }

    fn turn(&mut self, now: Instant) {
        let Some(turned) = self.turned else {
            self.turned = Some(now);
            return;
        };
        let windows = now.saturating_duration_since(turned).as_millis() / WINDOW.as_millis();
        if windows > 0 {
            let worst = std::mem::take(&mut self.worst);
            self.before = if windows == 1 { worst } else { 0 };
            self.turned = Some(now);
        }
    }
}
