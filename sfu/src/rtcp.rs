//! RTCP: a lazy reader of strangers' compound packets that neither allocates nor panics, and writers of our own
//! (RFC 3550 §6, RFC 4585, RFC 5104, draft-alvestrand-rmcat-remb-03, draft-holmer-rmcat-transport-wide-cc-extensions-01).

mod parse;
mod transport_feedback;
mod write;

#[cfg(test)]
mod tests;

pub use parse::{FirEntries, Nacks, Packet, Packets, Reports, Ssrcs, parse};
pub use transport_feedback::{Statuses, TransportFeedback};
pub use write::{
    write_bye, write_fir, write_nack, write_pli, write_receiver_report, write_remb, write_sdes_cname,
    write_sender_report,
};

/// The most that the five-bit count of an RTCP header can say: report blocks, SSRCs of a BYE (RFC 3550 §6.4.1).
pub const COUNT_MAX: usize = 31;

/// Most entries of a NACK that we write, each of up to 17 packets; the packets of further ones are left out, to be
/// asked for again later. 250 keep it in one datagram.
pub const NACK_ENTRIES_MAX: usize = 250;

/// Most SSRCs of a REMB: its count has eight bits. Further ones are left out.
pub const REMB_SSRCS_MAX: usize = 255;

/// Most streams of a FIR that we write; further ones are left out, to be asked for again later.
pub const FIR_ENTRIES_MAX: usize = 100;

/// The longest CNAME, in bytes (RFC 3550 §6.5); a longer one is cut.
pub const CNAME_BYTES_MAX: usize = 255;

const VERSION: u8 = 2;
const HEADER_BYTES: usize = 4;
const REPORT_BYTES: usize = 24;

const SENDER_REPORT: u8 = 200;
const RECEIVER_REPORT: u8 = 201;
const SOURCE_DESCRIPTION: u8 = 202;
const BYE: u8 = 203;
const TRANSPORT_LAYER_FEEDBACK: u8 = 205;
const PAYLOAD_SPECIFIC_FEEDBACK: u8 = 206;

const FORMAT_NACK: u8 = 1;
pub(crate) const FORMAT_TRANSPORT_WIDE: u8 = 15;
const FORMAT_PLI: u8 = 1;
const FORMAT_FIR: u8 = 4;
const FORMAT_REMB: u8 = 15;
const REMB_MAGIC: [u8; 4] = *b"REMB";
const REMB_MANTISSA_BITS: u32 = 18;
const SDES_CNAME: u8 = 1;

/// What a receiver tells about one stream (RFC 3550 §6.4.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReportBlock {
    /// The stream.
    pub ssrc: u32,
    /// The part of packets lost since the last report, in 256ths.
    pub fraction_lost: u8,
    /// Packets lost since the beginning, −2^23 to 2^23 − 1; duplicates may make it negative.
    pub cumulative_lost: i32,
    /// Highest sequence number received, its wraps counted in the upper half.
    pub extended_highest_sequence: u32,
    /// Interarrival jitter, in units of the stream's clock rate.
    pub jitter: u32,
    /// The middle 32 bits of the NTP time of the last sender report received, or 0.
    pub last_sender_report: u32,
    /// Time since then, in 65,536ths of a second, or 0.
    pub delay_since_last_sender_report: u32,
}

/// Begins a packet whose length is known: the header for `body_bytes` to follow, a multiple of 4.
pub(crate) fn write_header(count: u8, packet_type: u8, body_bytes: usize, out: &mut Vec<u8>) {
    debug_assert!(body_bytes.is_multiple_of(4) && body_bytes / 4 <= usize::from(u16::MAX));
    out.extend([VERSION << 6 | count, packet_type]);
    out.extend(((body_bytes / 4) as u16).to_be_bytes());
}

/// Begins a transport-layer feedback packet (RFC 4585 §6.1) with `body_bytes` to follow, both SSRCs among them.
pub(crate) fn write_transport_layer_header(format: u8, body_bytes: usize, out: &mut Vec<u8>) {
    write_header(format, TRANSPORT_LAYER_FEEDBACK, body_bytes, out);
}
