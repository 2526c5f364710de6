//! Reads compound packets.

use super::{
    BYE, FORMAT_FIR, FORMAT_NACK, FORMAT_PLI, FORMAT_REMB, FORMAT_TRANSPORT_WIDE, HEADER_BYTES,
    PAYLOAD_SPECIFIC_FEEDBACK, RECEIVER_REPORT, REMB_MAGIC, REPORT_BYTES, ReportBlock, SDES_CNAME,
    SENDER_REPORT, SOURCE_DESCRIPTION, TRANSPORT_LAYER_FEEDBACK, TransportFeedback, VERSION,
};
use crate::rtp::{u16_at, u32_at};

/// One packet of a compound packet; lists in it are read as they are iterated over.
#[derive(Clone, Debug)]
pub enum Packet<'a> {
    /// What a sender sent, and what it hears (RFC 3550 §6.4.1).
    SenderReport {
        /// The sender's own stream.
        ssrc: u32,
        /// Wall clock, in 2^−32 s since 1900.
        ntp: u64,
        /// The same moment in the stream's media time.
        rtp_timestamp: u32,
        /// Packets sent since the beginning.
        packets: u32,
        /// Payload bytes sent since the beginning.
        octets: u32,
        /// What it hears.
        reports: Reports<'a>,
    },
    /// What a receiver hears (RFC 3550 §6.4.2).
    ReceiverReport {
        /// The receiver.
        ssrc: u32,
        /// What it hears.
        reports: Reports<'a>,
    },
    /// Packets that a receiver wants again (RFC 4585 §6.2.1).
    Nack {
        /// The receiver.
        sender: u32,
        /// The stream.
        media: u32,
        /// Their sequence numbers, as many as 17 for each four bytes of the packet; they may repeat.
        lost: Nacks<'a>,
    },
    /// A receiver needs a keyframe (RFC 4585 §6.3.1).
    Pli {
        /// The receiver.
        sender: u32,
        /// The stream.
        media: u32,
    },
    /// A receiver needs keyframes (RFC 5104 §4.3.1).
    Fir {
        /// The receiver.
        sender: u32,
        /// The streams, each with the number of the command, which a repetition repeats.
        entries: FirEntries<'a>,
    },
    /// The bitrate that a receiver believes it can take (draft-alvestrand-rmcat-remb-03).
    Remb {
        /// Bits per second; what 64 bits cannot hold reads as `u64::MAX`.
        bitrate: u64,
        /// The streams that it is about.
        ssrcs: Ssrcs<'a>,
    },
    /// When a receiver got which packets of all streams together.
    TransportFeedback(TransportFeedback<'a>),
    /// Streams that end (RFC 3550 §6.6).
    Bye {
        /// The streams.
        ssrcs: Ssrcs<'a>,
    },
    /// Who a source is: the first chunk's SSRC and CNAME, if it has one that is UTF-8 (RFC 3550 §6.5).
    Sdes(Option<(u32, &'a str)>),
    /// A well-formed packet of a type that we have no use for.
    Other,
    /// Here the compound packet stopped making sense; nothing follows.
    Malformed,
}

/// Reads a decrypted compound packet. The first lie, of the compound packet or of any of its packets, ends the
/// iteration with [`Packet::Malformed`]. Reduced-size packets (RFC 5506) are fine; an empty one yields nothing.
pub fn parse(compound: &[u8]) -> Packets<'_> {
    Packets { rest: compound }
}

/// The packets of a compound packet.
#[derive(Clone, Debug)]
pub struct Packets<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Packets<'a> {
    type Item = Packet<'a>;

    fn next(&mut self) -> Option<Packet<'a>> {
        // Whatever is wrong ends the iteration for good.
        let rest = std::mem::take(&mut self.rest);
        if rest.is_empty() {
            return None;
        }
        let Some((raw, behind)) = split_packet(rest) else { return Some(Packet::Malformed) };
        let Some(packet) = raw.read() else { return Some(Packet::Malformed) };
        self.rest = behind;
        Some(packet)
    }
}

/// A packet whose length and padding hold.
struct Raw<'a> {
    /// Five bits: a count or a format.
    count: u8,
    packet_type: u8,
    /// What lies between header and padding.
    body: &'a [u8],
}

/// The first packet and what lies behind it (RFC 3550 §6.4.1).
fn split_packet(bytes: &[u8]) -> Option<(Raw<'_>, &[u8])> {
    let (&[flags, packet_type, l0, l1], rest) = bytes.split_first_chunk::<HEADER_BYTES>()?;
    if flags >> 6 != VERSION {
        return None;
    }
    let (padded, behind) = rest.split_at_checked(4 * usize::from(u16::from_be_bytes([l0, l1])))?;
    let body = if flags & 0x20 == 0 {
        padded
    } else {
        let padding = usize::from(*padded.last()?);
        if padding == 0 {
            return None;
        }
        padded.get(..padded.len().checked_sub(padding)?)?
    };
    Some((Raw { count: flags & 0x1f, packet_type, body }, behind))
}

impl<'a> Raw<'a> {
    /// `None` if what the packet says of itself does not hold.
    fn read(self) -> Option<Packet<'a>> {
        match (self.packet_type, self.count) {
            (SENDER_REPORT, _) => self.sender_report(),
            (RECEIVER_REPORT, _) => {
                let (ssrc, reports) = (u32_at(self.body, 0)?, self.reports(4)?);
                Some(Packet::ReceiverReport { ssrc, reports })
            }
            (SOURCE_DESCRIPTION, 0) => Some(Packet::Sdes(None)),
            (SOURCE_DESCRIPTION, _) => sdes(self.body).map(Packet::Sdes),
            (BYE, count) => Some(Packet::Bye { ssrcs: ssrcs(self.body, 0, count)? }),
            (TRANSPORT_LAYER_FEEDBACK, FORMAT_NACK) => {
                let (sender, media, entries) = self.feedback::<4>()?;
                Some(Packet::Nack { sender, media, lost: Nacks { entries, pending: None } })
            }
            (TRANSPORT_LAYER_FEEDBACK, FORMAT_TRANSPORT_WIDE) => {
                TransportFeedback::parse(self.body).map(Packet::TransportFeedback)
            }
            (PAYLOAD_SPECIFIC_FEEDBACK, FORMAT_PLI) => {
                Some(Packet::Pli { sender: u32_at(self.body, 0)?, media: u32_at(self.body, 4)? })
            }
            (PAYLOAD_SPECIFIC_FEEDBACK, FORMAT_FIR) => {
                let (sender, _, entries) = self.feedback::<8>()?;
                Some(Packet::Fir { sender, entries: FirEntries { entries } })
            }
            (PAYLOAD_SPECIFIC_FEEDBACK, FORMAT_REMB) if self.body.get(8..12) == Some(&REMB_MAGIC) => {
                remb(self.body)
            }
            _ => Some(Packet::Other),
        }
    }

    /// RFC 3550 §6.4.1.
    fn sender_report(self) -> Option<Packet<'a>> {
        let body = self.body;
        Some(Packet::SenderReport {
            ssrc: u32_at(body, 0)?,
            ntp: u64::from(u32_at(body, 4)?) << 32 | u64::from(u32_at(body, 8)?),
            rtp_timestamp: u32_at(body, 12)?,
            packets: u32_at(body, 16)?,
            octets: u32_at(body, 20)?,
            reports: self.reports(24)?,
        })
    }

    /// The report blocks that the header counts. What lies behind them is an extension that we know nothing of.
    fn reports(&self, start: usize) -> Option<Reports<'a>> {
        let blocks = self.body.get(start..)?.get(..REPORT_BYTES * usize::from(self.count))?;
        Some(Reports { blocks: blocks.as_chunks().0.iter() })
    }

    /// Both SSRCs and at least one entry of `N` bytes, nothing but whole ones (RFC 4585 §6.1).
    fn feedback<const N: usize>(&self) -> Option<(u32, u32, std::slice::Iter<'a, [u8; N]>)> {
        let (entries, remainder) = self.body.get(8..)?.as_chunks();
        if entries.is_empty() || !remainder.is_empty() {
            return None;
        }
        Some((u32_at(self.body, 0)?, u32_at(self.body, 4)?, entries.iter()))
    }
}

/// draft-alvestrand-rmcat-remb-03 §2.2.
fn remb(body: &[u8]) -> Option<Packet<'_>> {
    let [count, high, middle, low] = u32_at(body, 12)?.to_be_bytes();
    let exponent = u32::from(high >> 2);
    let mantissa = u64::from(u32::from_be_bytes([0, high & 0x03, middle, low]));
    let fits = mantissa.leading_zeros() >= exponent;
    let bitrate = if fits { mantissa << exponent } else { u64::MAX };
    Some(Packet::Remb { bitrate, ssrcs: ssrcs(body, 16, count)? })
}

/// A list of SSRCs.
fn ssrcs(body: &[u8], start: usize, count: u8) -> Option<Ssrcs<'_>> {
    let list = body.get(start..)?.get(..4 * usize::from(count))?;
    Some(Ssrcs { list: list.as_chunks().0.iter() })
}

/// The CNAME of the first chunk; the outer `None` if an item would end behind the packet, or the chunk has no end.
fn sdes(body: &[u8]) -> Option<Option<(u32, &str)>> {
    let ssrc = u32_at(body, 0)?;
    let mut cname = None;
    let mut rest = body.get(4..)?;
    loop {
        match rest {
            [] => return None,
            [0, ..] => return Some(cname),
            [item, len, behind @ ..] => {
                let (text, behind) = behind.split_at_checked(usize::from(*len))?;
                if *item == SDES_CNAME && cname.is_none() {
                    cname = std::str::from_utf8(text).ok().map(|it| (ssrc, it));
                }
                rest = behind;
            }
            [_] => return None,
        }
    }
}

/// Report blocks.
#[derive(Clone, Debug)]
pub struct Reports<'a> {
    blocks: std::slice::Iter<'a, [u8; REPORT_BYTES]>,
}

impl Iterator for Reports<'_> {
    type Item = ReportBlock;

    fn next(&mut self) -> Option<ReportBlock> {
        let block = self.blocks.next()?;
        // 24 signed bits, moved to the top to spread the sign on the way back.
        let lost = (u32_at(block, 4)? << 8) as i32 >> 8;
        Some(ReportBlock {
            ssrc: u32_at(block, 0)?,
            fraction_lost: block[4],
            cumulative_lost: lost,
            extended_highest_sequence: u32_at(block, 8)?,
            jitter: u32_at(block, 12)?,
            last_sender_report: u32_at(block, 16)?,
            delay_since_last_sender_report: u32_at(block, 20)?,
        })
    }
}

/// Sequence numbers of lost packets: for each entry its packet id, then those that its bitmask adds.
#[derive(Clone, Debug)]
pub struct Nacks<'a> {
    entries: std::slice::Iter<'a, [u8; 4]>,
    /// The packet id of the current entry and what is left of its bitmask.
    pending: Option<(u16, u16)>,
}

impl Iterator for Nacks<'_> {
    type Item = u16;

    fn next(&mut self) -> Option<u16> {
        if let Some((id, mask)) = self.pending
            && mask != 0
        {
            self.pending = Some((id, mask & (mask - 1)));
            return Some(id.wrapping_add(mask.trailing_zeros() as u16 + 1));
        }
        let entry = self.entries.next()?;
        let (id, mask) = (u16_at(entry, 0)?, u16_at(entry, 2)?);
        self.pending = Some((id, mask));
        Some(id)
    }
}

/// Streams of which a keyframe is wanted, each with the number of the command.
#[derive(Clone, Debug)]
pub struct FirEntries<'a> {
    entries: std::slice::Iter<'a, [u8; 8]>,
}

impl Iterator for FirEntries<'_> {
    type Item = (u32, u8);

    fn next(&mut self) -> Option<(u32, u8)> {
        let [s0, s1, s2, s3, number, ..] = *self.entries.next()?;
        Some((u32::from_be_bytes([s0, s1, s2, s3]), number))
    }
}

/// A list of streams.
#[derive(Clone, Debug)]
pub struct Ssrcs<'a> {
    list: std::slice::Iter<'a, [u8; 4]>,
}

impl Iterator for Ssrcs<'_> {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        self.list.next().copied().map(u32::from_be_bytes)
    }
}
