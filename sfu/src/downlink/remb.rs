//! What receivers estimate by themselves (draft-alvestrand-rmcat-remb-03): of all streams together, or, as aiortc does, of each
//! video by itself.

use std::time::{Duration, Instant};

use crate::Sfu;
use crate::peer::Peer;
use crate::rtcp::Ssrcs;

/// What is sent of a stream is measured over this, as receivers do.
const WINDOW: Duration = Duration::from_secs(1);

/// What a subscriber told of one stream, and what it was sent of it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Told {
    /// The last estimate that named it, in bits a second.
    remb: Option<u64>,
    /// Bytes of payload that had been sent when that was last looked at, and bits a second in the time before.
    octets: u32,
    bps: f64,
}

impl Sfu {
    /// Takes in a REMB of any value about any streams; one that names none is about all.
    pub(crate) fn on_remb(&mut self, key: usize, bps: u64, ssrcs: Ssrcs<'_>, now: Instant) {
        let Some(Peer { subscriptions, downlink, .. }) = self.peers.get_mut(key) else { return };
        let elapsed = downlink.measured.map(|at| now.saturating_duration_since(at));
        let due = elapsed.is_none_or(|elapsed| elapsed >= WINDOW);
        if due {
            downlink.measured = Some(now);
        }
        let all = ssrcs.clone().next().is_none();
        let (mut sent_bps, mut before) = (0.0, None);
        for (_, subscription) in subscriptions.iter_mut() {
            let octets = subscription.octets;
            let told = &mut subscription.told;
            if due {
                let sent = f64::from(octets.saturating_sub(told.octets)) * 8.0;
                told.bps = elapsed.map_or(0.0, |elapsed| sent / elapsed.as_secs_f64());
                told.octets = octets;
            }
            if all || ssrcs.clone().any(|ssrc| ssrc == subscription.ssrc) {
                sent_bps += told.bps;
                before = before.max(told.remb.replace(bps));
            }
        }
        if all || sent_bps > 0.0 {
            let named = Some(sent_bps).filter(|_| !all);
            downlink.controller.on_remb(bps, before, named, now);
            downlink.follow(now);
        }
        self.heed_downlink(key, now);
    }
}
