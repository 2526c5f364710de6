//! Writes packets, each appended to what is in the buffer.

use super::{
    BYE, CNAME_BYTES_MAX, COUNT_MAX, FIR_ENTRIES_MAX, FORMAT_FIR, FORMAT_NACK, FORMAT_PLI, FORMAT_REMB, HEADER_BYTES,
    NACK_ENTRIES_MAX, PAYLOAD_SPECIFIC_FEEDBACK, RECEIVER_REPORT, REMB_MAGIC, REMB_MANTISSA_BITS, REMB_SSRCS_MAX,
    REPORT_BYTES, ReportBlock, SDES_CNAME, SENDER_REPORT, SOURCE_DESCRIPTION, write_header,
    write_transport_layer_header,
};

/// A sender report (RFC 3550 §6.4.1); units as in [`super::Packet::SenderReport`]. Report blocks beyond [`COUNT_MAX`]
/// are left out.
pub fn write_sender_report(
    ssrc: u32,
    ntp: u64,
    rtp_timestamp: u32,
    packets: u32,
    octets: u32,
    reports: &[ReportBlock],
    out: &mut Vec<u8>,
) {
    let reports = first(reports, COUNT_MAX);
    write_header(reports.len() as u8, SENDER_REPORT, 24 + REPORT_BYTES * reports.len(), out);
    out.extend(ssrc.to_be_bytes());
    out.extend(ntp.to_be_bytes());
    out.extend(rtp_timestamp.to_be_bytes());
    out.extend(packets.to_be_bytes());
    out.extend(octets.to_be_bytes());
    write_reports(reports, out);
}

/// A receiver report (RFC 3550 §6.4.2). Report blocks beyond [`COUNT_MAX`] are left out.
pub fn write_receiver_report(ssrc: u32, reports: &[ReportBlock], out: &mut Vec<u8>) {
    let reports = first(reports, COUNT_MAX);
    write_header(reports.len() as u8, RECEIVER_REPORT, 4 + REPORT_BYTES * reports.len(), out);
    out.extend(ssrc.to_be_bytes());
    write_reports(reports, out);
}

fn write_reports(reports: &[ReportBlock], out: &mut Vec<u8>) {
    for it in reports {
        let lost = it.cumulative_lost.clamp(-(1 << 23), (1 << 23) - 1) as u32 & 0x00ff_ffff;
        out.extend(it.ssrc.to_be_bytes());
        out.extend((u32::from(it.fraction_lost) << 24 | lost).to_be_bytes());
        out.extend(it.extended_highest_sequence.to_be_bytes());
        out.extend(it.jitter.to_be_bytes());
        out.extend(it.last_sender_report.to_be_bytes());
        out.extend(it.delay_since_last_sender_report.to_be_bytes());
    }
}

/// A source description with the CNAME of one source (RFC 3550 §6.5), cut to [`CNAME_BYTES_MAX`].
pub fn write_sdes_cname(ssrc: u32, cname: &str, out: &mut Vec<u8>) {
    let cname = cname.get(..cname.floor_char_boundary(CNAME_BYTES_MAX)).unwrap_or_default();
    // At least one zero ends the chunk; zeros fill it up.
    let body = (4 + 2 + cname.len() + 1).next_multiple_of(4);
    let end = out.len() + HEADER_BYTES + body;
    write_header(1, SOURCE_DESCRIPTION, body, out);
    out.extend(ssrc.to_be_bytes());
    out.extend([SDES_CNAME, cname.len() as u8]);
    out.extend(cname.as_bytes());
    out.resize(end, 0);
}

/// A NACK for these packets (RFC 4585 §6.2.1), which ascend modulo 2^16; none for none. After
/// [`NACK_ENTRIES_MAX`] entries the rest is left out.
pub fn write_nack(sender: u32, media: u32, lost: impl IntoIterator<Item = u16>, out: &mut Vec<u8>) {
    let start = out.len();
    write_transport_layer_header(FORMAT_NACK, 8, out);
    out.extend(sender.to_be_bytes());
    out.extend(media.to_be_bytes());
    let mut entries: u16 = 0;
    let mut open: Option<(u16, u16)> = None;
    for seq in lost {
        let (id, mask) = open.unwrap_or((seq, 0));
        match seq.wrapping_sub(id) {
            0 => open = Some((id, mask)),
            ahead @ 1..=16 => open = Some((id, mask | 1 << (ahead - 1))),
            _ => {
                entries += 1;
                write_nack_entry(id, mask, out);
                open = Some((seq, 0));
                if usize::from(entries) == NACK_ENTRIES_MAX {
                    open = None;
                    break;
                }
            }
        }
    }
    if let Some((id, mask)) = open {
        entries += 1;
        write_nack_entry(id, mask, out);
    }
    if entries == 0 {
        out.truncate(start);
    } else if let Some([_, _, length @ ..]) = out.get_mut(start..).and_then(|it| it.first_chunk_mut::<4>()) {
        *length = (2 + entries).to_be_bytes();
    }
}

fn write_nack_entry(id: u16, mask: u16, out: &mut Vec<u8>) {
    out.extend(id.to_be_bytes());
    out.extend(mask.to_be_bytes());
}

/// Asks for a keyframe (RFC 4585 §6.3.1).
pub fn write_pli(sender: u32, media: u32, out: &mut Vec<u8>) {
    write_header(FORMAT_PLI, PAYLOAD_SPECIFIC_FEEDBACK, 8, out);
    out.extend(sender.to_be_bytes());
    out.extend(media.to_be_bytes());
}

/// Asks for keyframes of these streams, each with the number of the command (RFC 5104 §4.3.1); writes nothing for
/// none. Entries beyond [`FIR_ENTRIES_MAX`] are left out.
pub fn write_fir(sender: u32, entries: &[(u32, u8)], out: &mut Vec<u8>) {
    let entries = first(entries, FIR_ENTRIES_MAX);
    if entries.is_empty() {
        return;
    }
    write_header(FORMAT_FIR, PAYLOAD_SPECIFIC_FEEDBACK, 8 + 8 * entries.len(), out);
    out.extend(sender.to_be_bytes());
    out.extend([0; 4]);
    for (ssrc, number) in entries {
        out.extend(ssrc.to_be_bytes());
        out.extend([*number, 0, 0, 0]);
    }
}

/// The bitrate that we can take, in bits per second, rounded down to what 18 bits and an exponent can say
/// (draft-alvestrand-rmcat-remb-03 §2.2). SSRCs beyond [`REMB_SSRCS_MAX`] are left out.
pub fn write_remb(sender: u32, bitrate: u64, ssrcs: &[u32], out: &mut Vec<u8>) {
    let ssrcs = first(ssrcs, REMB_SSRCS_MAX);
    write_header(FORMAT_REMB, PAYLOAD_SPECIFIC_FEEDBACK, 16 + 4 * ssrcs.len(), out);
    let exponent = (u64::BITS - bitrate.leading_zeros()).saturating_sub(REMB_MANTISSA_BITS);
    let mantissa = (bitrate >> exponent) as u32;
    out.extend(sender.to_be_bytes());
    out.extend([0; 4]);
    out.extend(REMB_MAGIC);
    out.extend(((ssrcs.len() as u32) << 24 | exponent << REMB_MANTISSA_BITS | mantissa).to_be_bytes());
    ssrcs.iter().for_each(|it| out.extend(it.to_be_bytes()));
}

/// These streams end (RFC 3550 §6.6). SSRCs beyond [`COUNT_MAX`] are left out.
pub fn write_bye(ssrcs: &[u32], out: &mut Vec<u8>) {
    let ssrcs = first(ssrcs, COUNT_MAX);
    write_header(ssrcs.len() as u8, BYE, 4 * ssrcs.len(), out);
    ssrcs.iter().for_each(|it| out.extend(it.to_be_bytes()));
}

fn first<T>(list: &[T], max: usize) -> &[T] {
    list.get(..max).unwrap_or(list)
}
