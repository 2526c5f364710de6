use super::*;
use proptest::prelude::*;
use rtc::rtcp as theirs;

const BLOCK: ReportBlock = ReportBlock {
    ssrc: 0x0102_0304,
    fraction_lost: 250,
    cumulative_lost: -3,
    extended_highest_sequence: 0x0001_fffe,
    jitter: 17,
    last_sender_report: 0xaabb_ccdd,
    delay_since_last_sender_report: 65_536,
};

fn written(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = vec![];
    write(&mut out);
    assert!(out.len().is_multiple_of(4));
    out
}

/// The only packet of these bytes.
fn only(bytes: &[u8]) -> Packet<'_> {
    let mut packets = parse(bytes);
    let packet = packets.next().unwrap();
    assert!(packets.next().is_none());
    packet
}

fn malformed(bytes: &[u8]) -> bool {
    matches!(parse(bytes).last(), Some(Packet::Malformed))
}

/// What another implementation reads in our bytes; it must be one packet of the type asked for.
fn read_by_them<P: 'static + Clone>(bytes: &[u8]) -> P {
    let packets = theirs::packet::unmarshal(&mut &bytes[..]).unwrap();
    assert_eq!(packets.len(), 1);
    packets[0].as_any().downcast_ref::<P>().unwrap().clone()
}

fn written_by_them(packet: impl theirs::packet::Packet + 'static) -> Vec<u8> {
    theirs::packet::marshal(&[Box::new(packet)]).unwrap().to_vec()
}

#[test]
fn reports_go_around() {
    let many = [BLOCK; 40];
    let bytes = written(|out| write_sender_report(9, 0x0102_0304_0506_0708, 10, 11, 12, &many, out));
    let Packet::SenderReport { ssrc, ntp, rtp_timestamp, packets, octets, reports } = only(&bytes) else {
        panic!("no sender report")
    };
    assert_eq!((ssrc, ntp, rtp_timestamp, packets, octets), (9, 0x0102_0304_0506_0708, 10, 11, 12));
    assert_eq!(reports.collect::<Vec<_>>(), [BLOCK; COUNT_MAX]);

    let bytes = written(|out| write_receiver_report(9, &[BLOCK, BLOCK], out));
    let Packet::ReceiverReport { ssrc, reports } = only(&bytes) else { panic!("no receiver report") };
    assert_eq!((ssrc, reports.collect::<Vec<_>>()), (9, vec![BLOCK; 2]));
}

#[test]
fn others_read_our_reports() {
    let bytes = written(|out| write_sender_report(9, 1 << 40, 10, 11, 12, &[BLOCK], out));
    let sr: theirs::sender_report::SenderReport = read_by_them(&bytes);
    assert_eq!((sr.ssrc, sr.ntp_time, sr.rtp_time, sr.packet_count, sr.octet_count), (9, 1 << 40, 10, 11, 12));
    let block = &sr.reports[0];
    assert_eq!((block.ssrc, block.fraction_lost, block.jitter), (BLOCK.ssrc, 250, 17));
    assert_eq!(block.total_lost, 0x00ff_fffd);
    assert_eq!(block.last_sequence_number, BLOCK.extended_highest_sequence);
    assert_eq!((block.last_sender_report, block.delay), (0xaabb_ccdd, 65_536));
    assert_eq!(written_by_them(sr), bytes);

    let bytes = written(|out| write_receiver_report(9, &[BLOCK], out));
    let rr: theirs::receiver_report::ReceiverReport = read_by_them(&bytes);
    assert_eq!((rr.ssrc, rr.reports.len()), (9, 1));
}

#[test]
fn a_loss_beyond_24_bits_is_clamped() {
    for (lost, read) in [(i32::MAX, (1 << 23) - 1), (i32::MIN, -(1 << 23)), (-1, -1)] {
        let block = ReportBlock { cumulative_lost: lost, ..BLOCK };
        let bytes = written(|out| write_receiver_report(9, &[block], out));
        let Packet::ReceiverReport { mut reports, .. } = only(&bytes) else { panic!("no receiver report") };
        assert_eq!(reports.next().unwrap().cumulative_lost, read);
    }
}

#[test]
fn cnames_go_around() {
    for len in 0..=COUNT_MAX {
        let name = "x".repeat(len);
        let bytes = written(|out| write_sdes_cname(9, &name, out));
        assert!(matches!(only(&bytes), Packet::Sdes(Some((9, it))) if it == name));
        let sdes: theirs::source_description::SourceDescription = read_by_them(&bytes);
        assert_eq!(sdes.chunks[0].items[0].text, name.as_bytes());
    }
    let bytes = written(|out| write_sdes_cname(9, &"é".repeat(200), out));
    assert!(matches!(only(&bytes), Packet::Sdes(Some((9, it))) if it.len() == CNAME_BYTES_MAX - 1));
    assert!(matches!(only(&[0x80, SOURCE_DESCRIPTION, 0, 0]), Packet::Sdes(None)));
    assert!(malformed(&[0x81, SOURCE_DESCRIPTION, 0, 2, 0, 0, 0, 9, SDES_CNAME, 3, b'a', b'b']), "an item too long");
    assert!(malformed(&[0x81, SOURCE_DESCRIPTION, 0, 2, 0, 0, 0, 9, SDES_CNAME, 2, b'a', b'b']), "a chunk without end");
}

#[test]
fn keyframe_requests_go_around() {
    let bytes = written(|out| write_pli(1, 2, out));
    assert!(matches!(only(&bytes), Packet::Pli { sender: 1, media: 2 }));
    let pli: theirs::payload_feedbacks::picture_loss_indication::PictureLossIndication = read_by_them(&bytes);
    assert_eq!((pli.sender_ssrc, pli.media_ssrc), (1, 2));

    let bytes = written(|out| write_fir(1, &[(2, 3), (4, 255)], out));
    let Packet::Fir { sender: 1, entries } = only(&bytes) else { panic!("no FIR") };
    assert_eq!(entries.collect::<Vec<_>>(), [(2, 3), (4, 255)]);
    let fir: theirs::payload_feedbacks::full_intra_request::FullIntraRequest = read_by_them(&bytes);
    assert_eq!((fir.fir[1].ssrc, fir.fir[1].sequence_number), (4, 255));
    assert!(written(|out| write_fir(1, &[], out)).is_empty());
    assert!(malformed(&[0x84, PAYLOAD_SPECIFIC_FEEDBACK, 0, 3, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2]), "half an entry");
}

#[test]
fn bitrates_go_around() {
    for (bitrate, read) in
        [(0, 0), (1, 1), (262_143, 262_143), (262_145, 262_144), (2_500_000, 2_500_000), (u64::MAX, 0x3ffff << 46)]
    {
        let bytes = written(|out| write_remb(1, bitrate, &[7, 8], out));
        let Packet::Remb { bitrate, ssrcs } = only(&bytes) else { panic!("no REMB") };
        assert_eq!((bitrate, ssrcs.collect::<Vec<_>>()), (read, vec![7, 8]));
    }
    let bytes = written(|out| write_remb(1, 2_500_000, &[7], out));
    let remb: theirs::payload_feedbacks::receiver_estimated_maximum_bitrate::ReceiverEstimatedMaximumBitrate =
        read_by_them(&bytes);
    assert_eq!((remb.bitrate, remb.ssrcs), (2_500_000.0, vec![7]));

    let mut bytes = written(|out| write_remb(1, 1, &[], out));
    bytes[17..20].copy_from_slice(&[0xff, 0xff, 0xff]);
    assert!(matches!(only(&bytes), Packet::Remb { bitrate: u64::MAX, .. }), "saturates");
    bytes[17..20].copy_from_slice(&[0xfc, 0, 0]);
    assert!(matches!(only(&bytes), Packet::Remb { bitrate: 0, .. }));
    bytes[16] = 1;
    assert!(malformed(&bytes), "an SSRC that is not there");
    bytes[12] = b'r';
    assert!(matches!(only(&bytes), Packet::Other), "another application's feedback");
}

#[test]
fn nacks_of_a_long_list_are_cut() {
    let bytes = written(|out| write_nack(1, 2, (0..4000).map(|it| it * 16 + it / 2), out));
    let Packet::Nack { sender: 1, media: 2, lost } = only(&bytes) else { panic!("no NACK") };
    assert!(bytes.len() == 12 + 4 * NACK_ENTRIES_MAX && lost.count() >= NACK_ENTRIES_MAX);
    assert!(written(|out| write_nack(1, 2, [], out)).is_empty());
    assert!(malformed(&[0x81, TRANSPORT_LAYER_FEEDBACK, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2]), "a NACK of nothing");
}

#[test]
fn goodbyes_go_around() {
    let bytes = written(|out| write_bye(&[1, 2, 3], out));
    let Packet::Bye { ssrcs } = only(&bytes) else { panic!("no BYE") };
    assert_eq!(ssrcs.collect::<Vec<_>>(), [1, 2, 3]);
    let bye: theirs::goodbye::Goodbye = read_by_them(&bytes);
    assert_eq!(bye.sources, [1, 2, 3]);
    assert!(malformed(&[0x82, BYE, 0, 1, 0, 0, 0, 1]), "an SSRC that is not there");
}

#[test]
fn a_compound_packet_is_read_up_to_its_first_lie() {
    let mut compound = vec![];
    write_receiver_report(1, &[], &mut compound);
    write_sdes_cname(1, "me", &mut compound);
    write_pli(1, 2, &mut compound);
    assert!(matches!(
        parse(&compound).collect::<Vec<_>>()[..],
        [Packet::ReceiverReport { .. }, Packet::Sdes(_), Packet::Pli { .. }]
    ));
    compound.truncate(compound.len() - 1);
    assert!(matches!(
        parse(&compound).collect::<Vec<_>>()[..],
        [Packet::ReceiverReport { .. }, Packet::Sdes(_), Packet::Malformed]
    ));
    assert_eq!(parse(&[]).count(), 0);
    // Version, padding of 0, padding longer than the packet, a count of blocks that are not there.
    assert!(malformed(&[0x40, RECEIVER_REPORT, 0, 1, 0, 0, 0, 1]));
    assert!(malformed(&[0xa0, RECEIVER_REPORT, 0, 1, 0, 0, 0, 0]));
    assert!(malformed(&[0xa0, RECEIVER_REPORT, 0, 1, 0, 0, 0, 5]));
    assert!(malformed(&[0x81, RECEIVER_REPORT, 0, 1, 0, 0, 0, 1]));
    let padded = [0xa0, RECEIVER_REPORT, 0, 2, 0, 0, 0, 1, 0, 0, 0, 4];
    assert!(matches!(only(&padded), Packet::ReceiverReport { ssrc: 1, .. }));
    assert!(matches!(only(&[0x80, 204, 0, 0]), Packet::Other));
}

/// A transport-wide feedback with these statuses.
fn feedback(status_count: u16, data: &[u8]) -> Vec<u8> {
    written(|out| {
        write_transport_layer_header(FORMAT_TRANSPORT_WIDE, 16 + data.len(), out);
        out.extend([0, 0, 0, 1, 0, 0, 0, 2, 0xff, 0xff]);
        out.extend(status_count.to_be_bytes());
        out.extend([0xff, 0xff, 0xfe, 200]);
        out.extend(data);
    })
}

fn statuses(status_count: u16, data: &[u8]) -> (Vec<(u16, Option<i32>)>, bool) {
    let bytes = feedback(status_count, data);
    let Packet::TransportFeedback(it) = only(&bytes) else { panic!("no feedback") };
    assert_eq!((it.sender, it.media, it.base_seq, it.status_count), (1, 2, 0xffff, status_count));
    assert_eq!((it.reference_time, it.feedback_count), (-2, 200));
    (it.statuses().collect(), it.is_complete())
}

#[test]
fn transport_feedback_in_every_form() {
    // One bit: came, lost, came; then a run of two large deltas; then two bits: lost, small.
    let bytes = [0xa8, 0, 0x40, 2, 0xc4, 0, 1, 2, 0xff, 0xfe, 0x7f, 0xff, 9, 0, 0, 0];
    let vector: Vec<_> = (0..11).map(|it| (2u16.wrapping_add(it), None)).collect();
    let mut expected = vec![(0xffff, Some(1)), (0, None), (1, Some(2))];
    expected.extend(vector);
    expected.extend([(13, Some(-2)), (14, Some(0x7fff)), (15, None), (16, Some(9))]);
    assert_eq!(statuses(18, &bytes), (expected, true));
}

#[test]
fn transport_feedback_that_lies_ends() {
    let lost = [0x1f, 0xff].repeat(10);
    let (all, complete) = statuses(u16::MAX, &lost);
    assert!(complete && all.len() == 65_535 && all.iter().all(|(_, delta)| delta.is_none()));
    assert_eq!(statuses(u16::MAX, &lost[..4]), (vec![], false), "chunks missing");
    assert_eq!(statuses(u16::MAX, &[0; 1000]), (vec![], false), "runs of nothing");
    assert_eq!(statuses(1, &[]), (vec![], false));
    assert_eq!(statuses(0, &[]), (vec![], true));
    let (some, complete) = statuses(u16::MAX, &[0x3f, 0xff].repeat(10));
    assert!(!complete && some.len() < 20, "deltas missing");
    assert_eq!(statuses(2, &[0x60, 2, 1, 1]), (vec![], false), "the reserved symbol");
}

proptest! {
    #[test]
    fn nacks_go_around(first: u16, steps in prop::collection::vec(0u16..40, 0..80)) {
        let mut lost = vec![first];
        for step in steps {
            lost.push(lost[lost.len() - 1].wrapping_add(step));
        }
        let bytes = written(|out| write_nack(1, 2, lost.iter().copied(), out));
        lost.dedup();
        let Packet::Nack { lost: read, .. } = only(&bytes) else { panic!("no NACK") };
        prop_assert_eq!(read.collect::<Vec<_>>(), lost.clone());
        let nack: theirs::transport_feedbacks::transport_layer_nack::TransportLayerNack = read_by_them(&bytes);
        let read: Vec<u16> = nack.nacks.iter().flat_map(|it| it.packet_list()).collect();
        prop_assert_eq!(read, lost);
    }

    #[test]
    fn strangers_bytes_never_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..160), kind in 200u8..208, format: u8) {
        read_all(&bytes);
        let words = (bytes.len() / 4).saturating_sub(1) as u8;
        if let Some(head) = bytes.first_chunk_mut::<4>() {
            *head = [0x80 | format & 0x3f, kind, 0, words];
        }
        read_all(&bytes);
        if let Some(magic) = bytes.get_mut(12..16) {
            magic.copy_from_slice(b"REMB");
        }
        read_all(&bytes);
    }
}

fn read_all(bytes: &[u8]) {
    let mut packets = 0;
    for packet in parse(bytes) {
        packets += 1;
        let items = match packet {
            Packet::SenderReport { reports, .. } | Packet::ReceiverReport { reports, .. } => reports.count(),
            Packet::Nack { lost, .. } => lost.count() / 17,
            Packet::Fir { entries, .. } => entries.count(),
            Packet::Remb { ssrcs, .. } | Packet::Bye { ssrcs } => ssrcs.count(),
            Packet::TransportFeedback(it) => {
                assert!(it.statuses().count() <= usize::from(it.status_count));
                0
            }
            Packet::Pli { .. } | Packet::Sdes(_) | Packet::Other | Packet::Malformed => 0,
        };
        assert!(items <= bytes.len());
    }
    assert!(packets <= bytes.len().div_ceil(4));
}
