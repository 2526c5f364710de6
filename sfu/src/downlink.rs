//! One peer's downlink: what it is believed to carry, and what may leave towards it now.

mod redundancy;
mod remb;

use std::time::{Duration, Instant};

use crate::congestion::{Allowance, Controller, Pacer, Purpose};
use crate::rtcp::{ReportBlock, TransportFeedback};
use crate::subscription::Subscription;
use crate::{Kind, Now, Sfu};

use redundancy::Redundancy;
pub(crate) use remb::Told;

/// The part of the estimate that goes to retransmissions, beside as much as is being lost. When it is used up, NACKs are
/// ignored: the subscriber asks again.
const RESEND_SHARE: f64 = 0.25;
/// It is probed for this much more than what is wished for takes: the allocator leaves 15 % free.
const WANTED: f64 = 1.2;
/// What may be resent at once: a lost keyframe comes back as one burst, which the pacer spreads.
const RESEND_SLACK: Duration = Duration::from_millis(1_500);
/// Sender reports of which the receiver's answers tell the round trip: those sent last.
const REPORTS_MAX: usize = 4;
/// A longer delay between report and answer is a lie or a machine that slept.
const REPORT_AGE_MAX: Duration = Duration::from_secs(30);

/// See the module.
#[derive(Debug)]
pub(crate) struct Downlink {
    controller: Controller,
    pacer: Pacer,
    resends: Allowance,
    redundancy: Redundancy,
    /// The middle 32 bits of the NTP time of sender reports, and when they left; the next goes to the place `report`.
    reports: [Option<(u32, Instant)>; REPORTS_MAX],
    report: usize,
    /// What the run at hand is of.
    kind: Kind,
    /// When what is sent of each stream was measured last.
    measured: Option<Instant>,
}

impl Downlink {
    pub(crate) fn new(now: Instant) -> Self {
        let controller = Controller::new(now);
        let estimate = controller.estimate();
        Downlink {
            pacer: Pacer::new(estimate, now),
            resends: Allowance::new(RESEND_SHARE * estimate, RESEND_SLACK, now),
            redundancy: Redundancy::new(now),
            controller,
            reports: [None; REPORTS_MAX],
            report: 0,
            kind: Kind::Audio,
            measured: None,
        }
    }

    /// Bits a second that may be given to media: what the downlink carries, less what its losses take to resend.
    pub(crate) fn estimate(&self) -> f64 {
        self.controller.for_media()
    }

    /// Whether what is sent beyond the estimate would hurt audio now: a queue stands, or losses may be of our making.
    pub(crate) fn is_strained(&self, now: Instant) -> bool {
        self.controller.is_strained(now)
    }

    /// Whether the client ever told anything that an estimate can be made of.
    pub(crate) fn is_informed(&self) -> bool {
        self.controller.is_informed()
    }

    /// Whether the estimate changed so much since this was last asked that the allocator is due.
    pub(crate) fn take_change(&mut self) -> bool {
        self.controller.take_change()
    }

    /// Bits a second that everything wished for would need; more is not probed for.
    pub(crate) fn set_wanted(&mut self, bps: f64) {
        self.controller.set_wanted(WANTED * bps);
    }

    /// The round trip, if it is known.
    pub(crate) fn rtt(&self) -> Option<Duration> {
        self.controller.rtt()
    }

    /// Says when the packets leave that are noted next; bytes of video that may leave. Whoever told nothing is not paced.
    #[inline]
    pub(crate) fn begin_run(&mut self, kind: Kind, now: Instant) -> usize {
        self.kind = kind;
        self.controller.set_clock(now);
        if kind == Kind::Audio || !self.controller.is_heard() { usize::MAX } else { self.pacer.left(now) }
    }

    /// Notes a packet that went into the run. `next_seq` is the number that the one behind it will have: it is the same as
    /// before if the packet carried none.
    #[inline]
    pub(crate) fn on_sent(&mut self, bytes: usize, purpose: Purpose, next_seq: u16) {
        if next_seq != self.controller.next_seq() {
            self.controller.on_sent(bytes, purpose);
        } else {
            self.controller.on_sent_unnumbered(bytes);
            if self.kind == Kind::Video {
                self.controller.ignore_feedback();
            }
        }
    }

    /// Notes the bytes of a run.
    #[inline]
    pub(crate) fn end_run(&mut self, bytes: usize, now: Instant) {
        self.pacer.spend(bytes, now);
    }

    /// Notes bytes of audio that went into a run.
    #[inline]
    pub(crate) fn note_audio(&mut self, bytes: usize) {
        self.redundancy.note(bytes);
    }

    /// How many older frames should go along with each of audio; `None` if it goes as it came.
    #[inline]
    pub(crate) fn redundancy(&self) -> Option<u8> {
        self.redundancy.depth()
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

    /// Whether what can be spared should not be sent now: a queue has to empty.
    pub(crate) fn is_congested(&self, now: Instant) -> bool {
        self.controller.is_congested(now)
    }

    /// Bytes of padding that are due now.
    pub(crate) fn padding(&mut self, now: Instant) -> Option<usize> {
        self.controller.padding(now)
    }

    pub(crate) fn on_feedback(&mut self, feedback: &TransportFeedback<'_>, now: Instant) {
        self.controller.on_feedback(feedback, now);
        self.follow(now);
    }

    /// Notes a sender report that leaves now.
    pub(crate) fn reported(&mut self, ntp: u64, now: Instant) {
        self.reports[self.report] = Some(((ntp >> 16) as u32, now));
        self.report = (self.report + 1) % REPORTS_MAX;
    }

    /// Takes in how long the client's report was after the one of ours that it answers (RFC 3550 §6.4.1).
    pub(crate) fn on_round_trip(&mut self, block: &ReportBlock, now: Instant) {
        let answered = self.reports.iter().flatten().find(|(ntp, _)| *ntp == block.last_sender_report);
        if let Some((_, sent)) = answered.filter(|_| block.last_sender_report != 0) {
            let held = Duration::from_secs_f64(f64::from(block.delay_since_last_sender_report) / 65_536.0);
            let elapsed = now.saturating_duration_since(*sent);
            if let Some(rtt) = elapsed.checked_sub(held).filter(|_| elapsed < REPORT_AGE_MAX) {
                self.controller.on_rtt(rtt, now);
            }
        }
    }

    /// Takes in the part that the client's last report says was lost, 0 to 1.
    pub(crate) fn on_lost(&mut self, lost: f64, now: Instant) {
        self.controller.on_report(lost, now);
        self.follow(now);
    }

    /// When [`Sfu::tick_downlink`] has something to do.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.controller.deadline()
    }

    fn follow(&mut self, now: Instant) {
        self.pacer.set_estimate(self.controller.estimate());
        let share = RESEND_SHARE + self.controller.lost().min(RESEND_SHARE);
        self.resends.set_rate(share * self.controller.estimate());
        self.redundancy.follow(self.controller.lost_by_link(now), self.controller.estimate(), now);
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
            downlink.follow(now.mono);
            peer.padding = downlink.padding(now.mono).is_some();
            self.heed_downlink(key, now.mono);
        }
        let Some(peer) = self.peers.get_mut(key) else { return };
        if peer.has_video() && peer.downlink.ready_at() <= now.mono {
            self.queue_video(key);
        }
    }

    /// Looks at a downlink when it next needs it.
    pub(crate) fn arm_downlink(&mut self, key: usize) {
        if let Some(due) = self.peers.get(key).and_then(|peer| peer.downlink.deadline()) {
            self.arm(key, due);
        }
    }
}

impl Subscription {
    /// Whether its packets carry transport-wide numbers, by which the client tells of arrivals.
    pub(crate) fn is_numbered(&self) -> bool {
        self.outlet.as_ref().is_some_and(|outlet| outlet.ids.transport_cc != 0)
    }

    /// Whether padding can go out beside it: video, be it paused, to a client that takes retransmissions and tells of
    /// arrivals.
    pub(crate) fn can_pad(&self) -> bool {
        self.kind == Kind::Video && self.is_numbered() && self.rtx_payload_type().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feedback that is negotiated for audio alone tells nothing of what the downlink carries of video.
    #[test]
    fn feedback_about_audio_alone_lowers_no_video() {
        let start = Instant::now();
        let mut downlink = Downlink::new(start);
        downlink.set_wanted(1.5e6);
        let mut recorder = crate::twcc::Recorder::new();
        for ms in (0..10_000).step_by(20) {
            let now = start + Duration::from_millis(ms);
            downlink.begin_run(Kind::Audio, now);
            let seq = downlink.controller.next_seq();
            downlink.on_sent(120, Purpose::Media, seq.wrapping_add(1));
            recorder.record(seq, now + Duration::from_millis(30));
            downlink.begin_run(Kind::Video, now);
            let unnumbered = downlink.controller.next_seq();
            (0..3).for_each(|_| downlink.on_sent(1_100, Purpose::Media, unnumbered));
            if ms % 100 == 0 {
                let mut bytes = Vec::new();
                recorder.write_feedback(1, 2, &mut bytes);
                for packet in crate::rtcp::parse(&bytes) {
                    let crate::rtcp::Packet::TransportFeedback(feedback) = packet else { panic!("feedback") };
                    downlink.on_feedback(&feedback, now + Duration::from_millis(50));
                }
            }
            if ms % 1_000 == 0 {
                downlink.on_lost(0.0, now);
            }
            assert!(downlink.deadline().is_none(), "nothing is probed for, and no outage is looked out for");
        }
        assert!(downlink.is_informed() && downlink.estimate() > 1.3e6, "{}", downlink.estimate());
    }

    #[test]
    fn a_round_trip_is_what_passed_less_what_the_receiver_kept() {
        let (now, ms) = (Instant::now(), Duration::from_millis);
        let at = now + Duration::from_secs(1);
        let report = |last: u32, kept: u32| ReportBlock {
            last_sender_report: last,
            delay_since_last_sender_report: kept,
            ..ReportBlock::default()
        };
        let rtt = |block: &ReportBlock, answered: Instant| {
            let mut downlink = Downlink::new(now);
            downlink.reported(7 << 16, now);
            downlink.reported(8 << 16, at);
            downlink.on_round_trip(block, answered);
            downlink.rtt()
        };
        assert_eq!(rtt(&report(8, 32_768), at + ms(620)), Some(ms(120)), "half a second was kept");
        assert_eq!(rtt(&report(7, 0), at + ms(200)), Some(ms(1_200)), "the one before");
        assert_eq!(rtt(&report(6, 0), at), None, "too long ago");
        assert_eq!(rtt(&report(8, 65_536), at + ms(10)), None, "nobody keeps it for longer than that");
        assert_eq!(rtt(&report(8, u32::MAX), at), None);
        assert_eq!(rtt(&report(0, 0), at), None, "nothing was told yet");
    }
}
