//! A subscriber as a browser is one: it answers our offers, tells when packets came (transport-wide feedback), asks for what
//! is missing, takes RTX apart, reports, and plays.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use sfu::rtcp::{self, Packet, ReportBlock};
use sfu::rtp;

use super::feedback::Arrivals;
use super::reception::{Arrival, Counts, Reception};
use super::video::Video;
use super::wire::{Print, read_red};
use crate::inbound::Line;
use crate::peer::{ClientPeer, Identity, Opened};

/// How often a receiver looks at what is due.
const TICK: Duration = Duration::from_millis(5);
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// Feedback takes 5 % of what comes, within these bounds, as in libwebrtc.
const FEEDBACK_BITS: f64 = 544.0;
const FEEDBACK_MIN: Duration = Duration::from_millis(50);
const FEEDBACK_MAX: Duration = Duration::from_millis(250);
const OWN_SSRC: u32 = 1;

/// How a 20 ms frame of audio came first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// In its own packet.
    Own,
    /// In a later one.
    Redundant,
    /// Resent.
    Resent,
}

/// All frames of an audio stream that came, by their publisher's count.
#[derive(Default)]
pub struct Audio {
    /// When each came first, when it was captured, and how it came.
    pub frames: BTreeMap<u32, (Instant, Duration, How)>,
    /// How far NTP time by sender reports is off the true one, in ms; with the moment.
    pub clock_errors_ms: Vec<(Instant, f64)>,
}

/// What one m-line brings.
pub enum Media {
    /// Heard.
    Audio(Audio),
    /// Seen.
    Video(Box<Video>),
}

struct Inbound {
    line: Line,
    reception: Option<Reception>,
    /// NTP, timestamp and arrival of the last sender report.
    clock: Option<(u64, u32, Instant)>,
    media: Media,
}

/// See the module.
pub struct Receiver {
    /// Its transport.
    pub peer: ClientPeer,
    /// Packets that carried nothing, for probing.
    pub padding: u64,
    /// Bits of RTP that came, headers and tags among them.
    pub received_bits: u64,
    began: Instant,
    unix_began_ms: u64,
    inbound: Vec<Inbound>,
    arrivals: Arrivals,
    bits: f64,
    bits_since: Instant,
    feedback_due: Option<Instant>,
    report_due: Instant,
    tick_due: Instant,
    out: VecDeque<Vec<u8>>,
}

impl Receiver {
    /// A receiver that waits for an offer.
    pub fn new(identity: Identity, tag: u64, seed: u64, began: Instant, unix_began_ms: u64) -> Receiver {
        Receiver {
            peer: ClientPeer::new(identity, tag, &[], seed),
            padding: 0,
            received_bits: 0,
            began,
            unix_began_ms,
            inbound: Vec::new(),
            arrivals: Arrivals::new(began),
            bits: 0.0,
            bits_since: began,
            feedback_due: None,
            report_due: began,
            tick_due: began,
            out: VecDeque::new(),
        }
    }

    /// Answers an offer.
    pub fn handle_offer(&mut self, sdp: &str, now: Instant) -> String {
        for section in sdp.split("\r\nm=").skip(1) {
            let Some(line) = Line::read(section) else { continue };
            if let Some(known) = self.inbound.iter_mut().find(|known| known.line.ssrc == line.ssrc) {
                known.line = line;
                continue;
            }
            let media = match line.video {
                true => Media::Video(Box::new(Video::new(self.began))),
                false => Media::Audio(Audio::default()),
            };
            self.inbound.push(Inbound { line, reception: None, clock: None, media });
        }
        self.peer.handle_offer(sdp, now)
    }

    /// Takes a datagram from the server.
    pub fn handle(&mut self, datagram: &mut [u8], now: Instant) {
        let bits = 8.0 * datagram.len() as f64;
        match self.peer.take(datagram, now) {
            Some(Opened::Rtp(plain)) => {
                self.bits += bits;
                self.received_bits += bits as u64;
                self.take_rtp(&plain, now);
            }
            Some(Opened::Rtcp(compound)) => {
                for packet in rtcp::parse(&compound) {
                    let Packet::SenderReport { ssrc, ntp, rtp_timestamp, .. } = packet else { continue };
                    if let Some(inbound) = self.inbound.iter_mut().find(|inbound| inbound.line.ssrc == ssrc) {
                        inbound.clock = Some((ntp, rtp_timestamp, now));
                    }
                }
            }
            None => {}
        }
    }

    fn take_rtp(&mut self, plain: &[u8], now: Instant) {
        let Some(header) = rtp::parse(plain) else { return };
        let Some(payload) = rtp::payload(plain, &header) else { return };
        let of = |line: &Line| line.ssrc == header.ssrc || line.rtx_ssrc == Some(header.ssrc);
        let Some(inbound) = self.inbound.iter_mut().find(|inbound| of(&inbound.line)) else { return };
        let transport = rtp::extensions(plain, &header).find(|(id, _)| *id == inbound.line.transport_id);
        if let Some(seq) = transport.and_then(|(_, value)| value.first_chunk()).filter(|_| inbound.line.feedback) {
            self.arrivals.record(u16::from_be_bytes(*seq), now);
            self.feedback_due.get_or_insert(now + FEEDBACK_MIN);
        }
        let resent = inbound.line.rtx_ssrc == Some(header.ssrc);
        let (seq, payload) = match payload.split_first_chunk::<2>() {
            Some((original, rest)) if resent => (u16::from_be_bytes(*original), rest),
            _ if resent => {
                self.padding += 1;
                return;
            }
            _ => (header.sequence_number, payload),
        };
        if resent && inbound.reception.is_none() {
            self.padding += 1;
            return;
        }
        let reception = inbound.reception.get_or_insert_with(|| Reception::new(seq));
        let Some((seq, arrival)) = reception.arrive(seq, resent, now) else {
            self.padding += u64::from(resent);
            return;
        };
        if arrival == Arrival::Fresh {
            reception.note_jitter(header.timestamp, if inbound.line.video { 90e3 } else { 48e3 }, now);
        }
        if payload.is_empty() {
            self.padding += 1;
            return;
        }
        match &mut inbound.media {
            Media::Video(video) => video.take(seq, header.timestamp, header.marker, payload, now),
            Media::Audio(audio) => {
                let unix_ms = self.unix_began_ms as f64;
                let clock = inbound.clock.map(|(ntp, at, _)| (ntp_ms(ntp), at));
                let red = inbound.line.red == Some(header.payload_type);
                audio.take(header.timestamp, payload, red, arrival, clock, unix_ms, now);
            }
        }
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Instant) {
        self.peer.tick(now);
        if !self.peer.is_connected() || self.tick_due > now {
            return;
        }
        self.tick_due = now + TICK;
        if self.feedback_due.is_some_and(|due| due <= now) {
            self.send_feedback(now);
        }
        let mut compounds = Vec::new();
        for inbound in &mut self.inbound {
            let Some(reception) = &mut inbound.reception else { continue };
            let mut compound = Vec::new();
            if let Media::Video(video) = &mut inbound.media {
                let clock = inbound.clock.map(|(ntp, timestamp, _)| (ntp_ms(ntp), timestamp));
                let hopeless = std::mem::take(&mut reception.hopeless);
                let due = video.tick(clock, self.unix_began_ms as f64, reception.rtt(), hopeless, now);
                if let Some(seq) = due.forget_before {
                    reception.forget_before(seq);
                }
                if due.key {
                    rtcp::write_pli(OWN_SSRC, inbound.line.ssrc, &mut compound);
                }
            }
            let lost = reception.take_nacks(now);
            if inbound.line.nack {
                rtcp::write_nack(OWN_SSRC, inbound.line.ssrc, lost, &mut compound);
            }
            compounds.push(compound);
        }
        if self.report_due <= now {
            self.report_due = now + REPORT_INTERVAL;
            compounds.push(self.report(now));
        }
        let compounds = compounds.iter().filter(|compound| !compound.is_empty());
        self.out.extend(compounds.filter_map(|compound| self.peer.seal(compound)));
    }

    fn send_feedback(&mut self, now: Instant) {
        let elapsed = (now - self.bits_since).as_secs_f64().max(0.01);
        let rate = self.bits / elapsed;
        (self.bits, self.bits_since) = (0.0, now);
        let interval = Duration::from_secs_f64((FEEDBACK_BITS / (0.05 * rate.max(1.0))).min(1.0));
        self.feedback_due = Some(now + interval.clamp(FEEDBACK_MIN, FEEDBACK_MAX));
        let media = self.inbound.first().map_or(0, |inbound| inbound.line.ssrc);
        while let Some(feedback) = self.arrivals.write(OWN_SSRC, media) {
            self.out.extend(self.peer.seal(&feedback));
        }
    }

    fn report(&mut self, now: Instant) -> Vec<u8> {
        let blocks = self.inbound.iter_mut().filter_map(|inbound| {
            let clock = inbound.clock.map(|(ntp, _, at)| (ntp, at));
            Some(inbound.reception.as_mut()?.report(inbound.line.ssrc, clock, now))
        });
        let blocks: Vec<ReportBlock> = blocks.collect();
        let mut compound = Vec::new();
        rtcp::write_receiver_report(OWN_SSRC, &blocks, &mut compound);
        compound
    }

    /// When [`Receiver::tick`] is due.
    pub fn deadline(&self) -> Option<Instant> {
        let tick = self.peer.is_connected().then_some(self.tick_due);
        tick.into_iter().chain(self.peer.deadline()).min()
    }

    /// The next datagram for the server.
    pub fn transmit(&mut self) -> Option<Vec<u8>> {
        self.peer.transmit().or_else(|| self.out.pop_front())
    }

    /// Its videos.
    pub fn videos(&self) -> impl Iterator<Item = &Video> {
        self.inbound.iter().filter_map(|inbound| match &inbound.media {
            Media::Video(video) => Some(&**video),
            Media::Audio(_) => None,
        })
    }

    /// Its audio streams.
    pub fn audios(&self) -> impl Iterator<Item = &Audio> {
        self.inbound.iter().filter_map(|inbound| match &inbound.media {
            Media::Audio(audio) => Some(audio),
            Media::Video(_) => None,
        })
    }

    /// What was lost and repaired of all videos.
    pub fn video_counts(&self) -> Counts {
        let videos = self.inbound.iter().filter(|inbound| inbound.line.video);
        videos.filter_map(|inbound| Some(inbound.reception.as_ref()?.counts)).fold(Counts::default(), |sum, counts| {
            Counts {
                gaps: sum.gaps + counts.gaps,
                late: sum.late + counts.late,
                repaired: sum.repaired + counts.repaired,
                asked: sum.asked + counts.asked,
                duplicates: sum.duplicates + counts.duplicates,
            }
        })
    }

    /// Whether audio comes in RED, whether it may be asked for again, and whether feedback is agreed.
    pub fn agreed(&self) -> (bool, bool, bool) {
        let audio = self.inbound.iter().find(|inbound| !inbound.line.video);
        let feedback = self.inbound.iter().any(|inbound| inbound.line.feedback && inbound.line.transport_id != 0);
        audio.map_or((false, false, feedback), |it| (it.line.red.is_some(), it.line.nack, feedback))
    }
}

/// Milliseconds since 1970.
fn ntp_ms(ntp: u64) -> f64 {
    let seconds = ntp as f64 / 4_294_967_296.0;
    (seconds - 2_208_988_800.0) * 1e3
}

impl Audio {
    #[expect(clippy::too_many_arguments, reason = "what one packet says, and the clock to hold it against")]
    fn take(
        &mut self,
        timestamp: u32,
        payload: &[u8],
        red: bool,
        arrival: Arrival,
        clock: Option<(f64, u32)>,
        unix_ms: f64,
        now: Instant,
    ) {
        let frames = if red { read_red(payload).unwrap_or_default() } else { vec![(0, payload)] };
        for (back, frame) in frames {
            let Some(print) = Print::read(frame) else { continue };
            let how = match arrival {
                _ if back > 0 => How::Redundant,
                Arrival::Repaired => How::Resent,
                _ => How::Own,
            };
            self.frames.entry(print.frame).or_insert((now, print.captured, how));
            if let Some((ntp_ms, at)) = clock {
                let ticks = timestamp.wrapping_sub(back).wrapping_sub(at) as i32;
                let error = ntp_ms + f64::from(ticks) / 48.0 - (unix_ms + print.captured.as_secs_f64() * 1e3);
                self.clock_errors_ms.push((now, error));
            }
        }
    }
}
