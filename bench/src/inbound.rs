//! What all receivers here do with a stream that the server sends: read its m-line, and report it.

use std::time::{Duration, Instant};

use sfu::rtcp::ReportBlock;

/// The header extension by which packets are counted across streams.
pub const TRANSPORT_URI: &str = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";

/// An offered m-line on which the server sends.
#[derive(Clone, Debug, Default)]
pub struct Line {
    /// It is of video.
    pub video: bool,
    /// Of the stream.
    pub ssrc: u32,
    /// Of its retransmissions.
    pub rtx_ssrc: Option<u32>,
    /// Payload type of RED.
    pub red: Option<u8>,
    /// What is missing may be asked for.
    pub nack: bool,
    /// It may be told when packets came.
    pub feedback: bool,
    /// The id of [`TRANSPORT_URI`]; 0 if it has none.
    pub transport_id: u8,
}

impl Line {
    /// Reads a section of a description, with or without its `m=`; `None` if the server does not send on it.
    pub fn read(section: &str) -> Option<Line> {
        if !section.contains("\r\na=sendonly") && !section.contains("\r\na=sendrecv") {
            return None;
        }
        let video = section.trim_start_matches("m=").starts_with("video");
        let mut line = Line { video, ..Line::default() };
        for attribute in section.lines().filter_map(|it| it.strip_prefix("a=")) {
            let (name, value) = attribute.split_once(':').unwrap_or((attribute, ""));
            let mut words = value.split(' ');
            match name {
                "ssrc-group" => line.rtx_ssrc = words.nth(2)?.parse().ok(),
                "ssrc" if line.ssrc == 0 => line.ssrc = words.next()?.parse().ok()?,
                "rtpmap" => {
                    let payload_type = words.next()?.parse().ok();
                    line.red = payload_type.filter(|_| words.next() == Some("red/48000/2")).or(line.red);
                }
                "rtcp-fb" => match words.nth(1) {
                    Some("nack") => line.nack = true,
                    Some("transport-cc") => line.feedback = true,
                    _ => {}
                },
                "extmap" => {
                    let id = words.next()?.parse().ok()?;
                    if words.next() == Some(TRANSPORT_URI) {
                        line.transport_id = id;
                    }
                }
                _ => {}
            }
        }
        line.feedback &= line.transport_id != 0;
        (line.ssrc != 0).then_some(line)
    }
}

/// What was reported of a stream, and what is to be.
#[derive(Clone, Debug, Default)]
pub struct Reported {
    /// Packets expected and received.
    before: (u64, u64),
    transit: Option<(Instant, u32)>,
    jitter: f64,
}

impl Reported {
    /// RFC 3550 §6.4.1, in timestamp units.
    pub fn note_jitter(&mut self, timestamp: u32, clock_hz: f64, now: Instant) {
        if let Some((at, before)) = self.transit.replace((now, timestamp))
            && before != timestamp
        {
            let came = (now - at).as_secs_f64() * clock_hz;
            let sent = f64::from(timestamp.wrapping_sub(before) as i32);
            self.jitter += ((came - sent).abs() - self.jitter) / 16.0;
        }
    }

    /// The next block, of a stream whose numbers, counted on from 2^16, went from `first` to `highest`, and of which so many
    /// packets came; `clock` is NTP time and arrival of the last sender report.
    pub fn block(
        &mut self,
        ssrc: u32,
        (first, highest, received): (u64, u64, u64),
        clock: Option<(u64, Instant)>,
        now: Instant,
    ) -> ReportBlock {
        let expected = highest + 1 - first;
        let (expected_before, received_before) = std::mem::replace(&mut self.before, (expected, received));
        let expected_now = expected - expected_before;
        let lost_now = expected_now.saturating_sub(received - received_before);
        let since = clock.map_or(Duration::ZERO, |(_, at)| now - at);
        ReportBlock {
            ssrc,
            fraction_lost: (256 * lost_now).checked_div(expected_now).unwrap_or(0).min(255) as u8,
            cumulative_lost: (expected as i64 - received as i64) as i32,
            extended_highest_sequence: (highest - (1 << 16)) as u32,
            jitter: self.jitter as u32,
            last_sender_report: clock.map_or(0, |(ntp, _)| (ntp >> 16) as u32),
            delay_since_last_sender_report: (since.as_micros() * 65_536 / 1_000_000) as u32,
        }
    }
}
