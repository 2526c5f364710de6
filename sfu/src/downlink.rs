//! One peer's downlink: what it is believed to carry, and what may leave towards it now.

use std::time::{Duration, Instant};

use crate::congestion::{Allowance, Controller, Pacer, Purpose};
use crate::rtcp::TransportFeedback;
use crate::subscription::Subscription;
use crate::{Kind, Now, Sfu};

/// The part of the estimate that goes to retransmissions, beside as much as is being lost. When it is used up, NACKs are
/// ignored: the subscriber asks again.
const RESEND_SHARE: f64 = 0.25;
/// What may be resent at once: a lost keyframe comes back as one burst, which the pacer spreads.
const RESEND_SLACK: Duration = Duration::from_millis(1_500);
/// See the module.
#[derive(Debug)]
pub(crate) struct Downlink {
    controller: Controller,
    pacer: Pacer,
    resends: Allowance,
}

impl Downlink {
    pub(crate) fn new(now: Instant) -> Self {
        let controller = Controller::new(now);
        let estimate = controller.estimate();
        Downlink {
            pacer: Pacer::new(estimate, now),
            resends: Allowance::new(RESEND_SHARE * estimate, RESEND_SLACK, now),
            controller,
        }
    }

    /// Bits a second that may be given to media: what the downlink carries, less what its losses take to resend. `None`
    /// before its client told anything that can be believed.
    pub(crate) fn estimate(&self) -> Option<u64> {
        self.controller.is_informed().then(|| self.controller.for_media() as u64)
    }

    /// Bits a second that everything wished for would need; more is not probed for.
    pub(crate) fn set_wanted(&mut self, bps: f64) {
        self.controller.set_wanted(bps);
    }

    /// Says when the packets leave that are noted next; bytes of video that may leave. Whoever told nothing is not paced.
    #[inline]
    pub(crate) fn begin_run(&mut self, kind: Kind, now: Instant) -> usize {
        self.controller.set_clock(now);
        if kind == Kind::Audio || !self.controller.is_heard() { usize::MAX } else { self.pacer.left(now) }
    }

    /// Notes a packet that went into the run. `next_seq` is the number that the one behind it will have: it is the same as
    /// before if the packet carried none.
    #[inline]
    pub(crate) fn on_sent(&mut self, bytes: usize, purpose: Purpose, next_seq: u16) {
        if next_seq != self.controller.next_seq() {
            self.controller.on_sent(bytes, purpose);
        }
    }

    /// Notes the bytes of a run.
    #[inline]
    pub(crate) fn end_run(&mut self, bytes: usize, now: Instant) {
        self.pacer.spend(bytes, now);
    }

    /// When video may leave again.
    pub(crate) fn ready_at(&self) -> Instant {
        self.pacer.ready_at()
    }

    /// Whether a packet may be resent now; it is then paid for.
    pub(crate) fn may_resend(&mut self, bytes: usize, now: Instant) -> bool {
        let may = self.resends.has_some(now);
        if may {
            self.resends.spend(bytes, now);
        }
        may
    }

    /// Bytes of padding that are due now.
    pub(crate) fn padding(&mut self, now: Instant) -> Option<usize> {
        self.controller.padding(now)
    }

    pub(crate) fn on_feedback(&mut self, feedback: &TransportFeedback<'_>, now: Instant) {
        self.controller.on_feedback(feedback, now);
        self.follow();
    }

    pub(crate) fn on_remb(&mut self, bps: u64, now: Instant) {
        self.controller.on_remb(bps, now);
        self.follow();
    }

    /// Takes in what receiver reports say: the part lost of the worst stream, in 256ths, and the round trip.
    pub(crate) fn on_reports(&mut self, lost: u8, rtt: Option<Duration>, now: Instant) {
        if let Some(rtt) = rtt {
            self.controller.on_rtt(rtt, now);
        }
        self.controller.on_report(f64::from(lost) / 256.0, now);
        self.follow();
    }

    /// When [`Sfu::tick_downlink`] has something to do.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.controller.deadline()
    }

    fn follow(&mut self) {
        self.pacer.set_estimate(self.controller.estimate());
        let share = RESEND_SHARE + self.controller.lost().min(RESEND_SHARE);
        self.resends.set_rate(share * self.controller.estimate());
    }
}

impl Sfu {
    /// Lets time go by for a downlink, and sends on what had to wait for it: paced video, padding that is due.
    pub(crate) fn tick_downlink(&mut self, key: usize, now: Now) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        if !peer.connected() {
            return;
        }
        let downlink = &mut peer.downlink;
        downlink.controller.set_pads(peer.subscriptions.iter().any(|(_, s)| s.can_pad()));
        if downlink.deadline().is_some_and(|due| due <= now.mono) {
            downlink.controller.tick(now.mono);
            downlink.follow();
            peer.padding = downlink.padding(now.mono).is_some();
            if let Some(bps) = downlink.estimate() {
                self.on_estimate(key, bps, now.mono);
            }
        }
        let Some(peer) = self.peers.get(key) else { return };
        if peer.has_video() && peer.downlink.ready_at() <= now.mono {
            self.queue_video(key);
        }
    }

    /// Tells the allocator of what a downlink carries now, and looks at it when it next needs it.
    pub(crate) fn follow_downlink(&mut self, key: usize, now: Instant) {
        let Some(downlink) = self.peers.get(key).map(|peer| &peer.downlink) else { return };
        let (estimate, due) = (downlink.estimate(), downlink.deadline());
        if let Some(bps) = estimate {
            self.on_estimate(key, bps, now);
        }
        if let Some(due) = due {
            self.arm(key, due);
        }
    }
}

impl Subscription {
    /// Whether padding can go out beside it: video, be it paused, to a client that takes retransmissions and tells of
    /// arrivals.
    pub(crate) fn can_pad(&self) -> bool {
        let told_of = self.outlet.as_ref().is_some_and(|outlet| outlet.ids.transport_cc != 0);
        self.kind == Kind::Video && told_of && self.rtx_payload_type().is_some()
    }
}
