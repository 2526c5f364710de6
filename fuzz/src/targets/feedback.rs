//! RTCP read, written again and read again; transport-wide feedback of any arrivals.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use sfu::rtcp::{self, Packet, ReportBlock};
use sfu::twcc::{FEEDBACK_BYTES_MAX, Recorder};

/// Lists are bounded by the bytes that they came from; what can be said by a writer of ours reads the same again.
pub fn rtcp(data: &[u8]) {
    let mut packets = 0;
    for packet in rtcp::parse(data) {
        packets += 1;
        assert!(packets <= data.len() / 4 + 1);
        bounded(&packet, data.len());
        let mut written = Vec::new();
        if write(&packet, &mut written) {
            let mut again = rtcp::parse(&written);
            let read = again.next().expect("what we write parses");
            assert_same(&packet, &read);
            assert!(again.next().is_none());
        }
    }
}

fn bounded(packet: &Packet<'_>, bytes: usize) {
    match packet {
        Packet::Nack { lost, .. } => assert!(lost.clone().count() <= bytes / 4 * 17),
        Packet::Remb { ssrcs, .. } | Packet::Bye { ssrcs } => assert!(ssrcs.clone().count() <= bytes / 4),
        Packet::TransportFeedback(feedback) => {
            // A run of two bytes may speak of 8,191 packets, but never of more than the header says.
            assert!(feedback.statuses().count() <= usize::from(feedback.status_count));
            let told = feedback.statuses().filter(|(_, delta)| delta.is_some()).count();
            assert!(told <= bytes, "each delta has a byte");
        }
        _ => {}
    }
}

fn sorted(numbers: impl Iterator<Item = u16>) -> Vec<u16> {
    numbers.collect::<BTreeSet<u16>>().into_iter().collect()
}

/// Writes what was read; `false` where there is no such writer.
fn write(packet: &Packet<'_>, out: &mut Vec<u8>) -> bool {
    match packet {
        Packet::SenderReport { ssrc, ntp, rtp_timestamp, packets, octets, reports } => {
            let reports: Vec<ReportBlock> = reports.clone().collect();
            rtcp::write_sender_report(*ssrc, *ntp, *rtp_timestamp, *packets, *octets, &reports, out);
        }
        Packet::ReceiverReport { ssrc, reports } => {
            rtcp::write_receiver_report(*ssrc, &reports.clone().collect::<Vec<_>>(), out);
        }
        Packet::Nack { sender, media, lost } => rtcp::write_nack(*sender, *media, sorted(lost.clone()), out),
        Packet::Pli { sender, media } => rtcp::write_pli(*sender, *media, out),
        Packet::Fir { sender, entries } => rtcp::write_fir(*sender, &entries.clone().collect::<Vec<_>>(), out),
        Packet::Remb { bitrate, ssrcs } => rtcp::write_remb(0, *bitrate, &ssrcs.clone().collect::<Vec<_>>(), out),
        Packet::Bye { ssrcs } => rtcp::write_bye(&ssrcs.clone().collect::<Vec<_>>(), out),
        Packet::Sdes(Some((ssrc, cname))) => rtcp::write_sdes_cname(*ssrc, cname, out),
        Packet::Sdes(None) | Packet::TransportFeedback(_) | Packet::Other | Packet::Malformed => return false,
    }
    true
}

fn assert_same(packet: &Packet<'_>, read: &Packet<'_>) {
    match (packet, read) {
        (Packet::Nack { lost, .. }, Packet::Nack { lost: again, .. }) => {
            // What is more than one packet can ask for is left out at the end.
            let (lost, again) = (sorted(lost.clone()), again.clone().collect::<Vec<_>>());
            assert!(lost.starts_with(&again) && again.len() >= lost.len().min(rtcp::NACK_ENTRIES_MAX));
        }
        (Packet::Fir { entries, .. }, Packet::Fir { entries: again, .. }) => {
            assert!(again.clone().eq(entries.clone().take(rtcp::FIR_ENTRIES_MAX)));
        }
        (Packet::Remb { bitrate, ssrcs }, Packet::Remb { bitrate: again, ssrcs: named }) => {
            assert!(again <= bitrate && bitrate - again <= bitrate >> 17, "{bitrate} became {again}");
            assert!(named.clone().eq(ssrcs.clone()));
        }
        // Their iterators are slices, so that their contents show.
        _ => assert_eq!(format!("{packet:?}"), format!("{read:?}")),
    }
}

/// Four bytes an arrival: its number, and the time since the one before in units of 100 µs; a time of 0xffff asks for feedback
/// instead. Whatever is told was recorded, at that time.
pub fn twcc(data: &[u8]) {
    let origin = Instant::now();
    let mut recorder = Recorder::new();
    let (mut now, mut first) = (origin, None);
    let mut recorded = BTreeSet::new();
    for &[s0, s1, t0, t1] in data.as_chunks().0 {
        let (seq, time) = (u16::from_be_bytes([s0, s1]), u16::from_be_bytes([t0, t1]));
        if time == u16::MAX {
            told(&mut recorder, &recorded);
            continue;
        }
        now += Duration::from_micros(100 * u64::from(time));
        let first = *first.get_or_insert(now);
        recorded.insert((seq, (now - first).as_micros() as i64 / 250));
        recorder.record(seq, now);
    }
    told(&mut recorder, &recorded);
}

fn told(recorder: &mut Recorder, recorded: &BTreeSet<(u16, i64)>) {
    let mut compound = Vec::new();
    let mut budget = recorded.len() + 1;
    while recorder.is_pending() {
        budget = budget.checked_sub(1).expect("every feedback tells of one arrival at least");
        let start = compound.len();
        assert!(recorder.write_feedback(1, 2, &mut compound));
        assert!(compound.len() - start <= FEEDBACK_BYTES_MAX && compound.len() % 4 == 0);
    }
    for packet in rtcp::parse(&compound) {
        let Packet::TransportFeedback(feedback) = packet else { panic!("no feedback: {packet:?}") };
        assert!(feedback.is_complete() && (feedback.sender, feedback.media) == (1, 2));
        let mut ticks = i64::from(feedback.reference_time) * 256;
        for (seq, delta) in feedback.statuses() {
            let Some(delta) = delta else { continue };
            ticks += i64::from(delta);
            assert!(recorded.contains(&(seq, ticks)), "{seq} at {ticks} was recorded");
        }
    }
}
