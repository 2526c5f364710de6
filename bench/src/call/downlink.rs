//! What one participant gets: it tells when packets came (transport-wide feedback), asks for what is missing, takes RTX apart,
//! reports, and counts.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use sfu::rtcp::{self, ReportBlock};
use sfu::rtp;

use super::live::{LAYERS_MAX, Room};
use super::picture::Picture;
use super::reception::{Arrival, Reception};
use super::stamp::{Stamp, Track};
use crate::inbound;
use crate::network::feedback::Arrivals;
use crate::peer::{ClientPeer, attribute, is_rejected};

/// How often a receiver looks for what is missing and tells what came.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
const OWN_SSRC: u32 = 1;
/// Streams told apart in what was heard. When full, further ones are not counted.
const HEARD_MAX: usize = 4_096;

/// An m-line on which the server sends.
struct Line {
    video: bool,
    ssrc: u32,
    rtx_ssrc: Option<u32>,
    nack: bool,
    feedback: bool,
    transport_id: u8,
    participant: String,
    track: String,
    reception: Option<Reception>,
    clock: Option<(u64, Instant)>,
    picture: Picture,
    /// Since when the link is too narrow for it, as the server says.
    paused: Option<Instant>,
}

/// See the module.
pub struct Downlink {
    room: Arc<Room>,
    began: Instant,
    lines: Vec<Line>,
    by_ssrc: HashMap<u32, usize>,
    arrivals: Arrivals,
    look_due: Instant,
    report_due: Instant,
    out: VecDeque<Vec<u8>>,
    /// Publishers and tracks of which anything came.
    pub heard: BTreeSet<(u32, Track)>,
    /// When the first packet of audio came, and when the first picture was shown.
    pub firsts: [Option<Instant>; 2],
}

impl Downlink {
    /// Nothing is received yet; stamps count time from `began`.
    pub fn new(room: Arc<Room>, began: Instant, now: Instant) -> Downlink {
        Downlink {
            room,
            began,
            lines: Vec::new(),
            by_ssrc: HashMap::new(),
            arrivals: Arrivals::new(now),
            look_due: now,
            report_due: now,
            out: VecDeque::new(),
            heard: BTreeSet::new(),
            firsts: [None; 2],
        }
    }

    /// Learns from the m-lines of the server's offer what comes from now on.
    pub fn learn<'a>(&mut self, sections: impl Iterator<Item = &'a str>) {
        let mut old = std::mem::take(&mut self.lines);
        for mut line in sections.filter_map(Line::read) {
            if let Some(at) = old.iter().position(|known| known.ssrc == line.ssrc && known.track == line.track) {
                let known = old.swap_remove(at);
                let Line { reception, clock, picture, paused, .. } = known;
                (line.reception, line.clock, line.picture, line.paused) = (reception, clock, picture, paused);
            }
            self.lines.push(line);
        }
        // What has ended is counted as far as it went.
        old.iter_mut().for_each(|gone| count_picture(&self.room, &mut gone.picture));
        self.by_ssrc.clear();
        for (at, line) in self.lines.iter().enumerate() {
            self.by_ssrc.extend([Some(line.ssrc), line.rtx_ssrc].into_iter().flatten().map(|ssrc| (ssrc, at)));
        }
    }

    /// A track was paused for want of bandwidth or goes on, as the server says.
    pub fn pause(&mut self, track: &str, paused: bool, now: Instant) {
        for line in self.lines.iter_mut().filter(|line| line.track == track) {
            line.picture.pause();
            count_pause(&self.room, &mut line.paused, now);
            line.paused = paused.then_some(now);
        }
    }

    /// A participant has left: what it showed stands still by agreement.
    pub fn gone(&mut self, participant: &str) {
        self.lines.iter_mut().filter(|line| line.participant == participant).for_each(|line| line.picture.pause());
    }

    /// Takes a plain RTP packet.
    pub fn take_rtp(&mut self, plain: &[u8], now: Instant) {
        let Some(header) = rtp::parse(plain) else { return };
        let Some(payload) = rtp::payload(plain, &header) else { return };
        let Some(line) = self.by_ssrc.get(&header.ssrc).and_then(|at| self.lines.get_mut(*at)) else { return };
        if line.feedback
            && let Some((_, value)) = rtp::extensions(plain, &header).find(|(id, _)| *id == line.transport_id)
            && let Some(seq) = value.first_chunk()
        {
            self.arrivals.record(u16::from_be_bytes(*seq), now);
        }
        let resent = line.rtx_ssrc == Some(header.ssrc);
        // On RTX the first two bytes are the original number (RFC 4588 §4); without them it is padding for a probe.
        let (seq, payload) = match payload.split_first_chunk::<2>() {
            Some((original, rest)) if resent => (u16::from_be_bytes(*original), rest),
            _ if resent => return,
            _ => (header.sequence_number, payload),
        };
        if resent && line.reception.is_none() {
            return;
        }
        let reception = line.reception.get_or_insert_with(|| Reception::new(seq));
        let arrival = reception.arrive(seq, resent, now);
        match arrival {
            Arrival::Again => return,
            Arrival::Fresh { gap } => {
                self.room.gaps.fetch_add(gap, Relaxed);
                reception.note_jitter(header.timestamp, if line.video { 90e3 } else { 48e3 }, now);
            }
            Arrival::Late => _ = self.room.late.fetch_add(1, Relaxed),
            Arrival::Repaired => _ = self.room.repaired.fetch_add(1, Relaxed),
        }
        self.room.received.fetch_add(1, Relaxed);
        let Some(stamp) = Stamp::read(payload) else { return };
        if arrival != Arrival::Repaired {
            // What was asked for again took its time for that; it shows as a loss.
            let here_us = now.saturating_duration_since(self.began).as_micros() as u64;
            self.room.delay.note(here_us.saturating_sub(stamp.sent_us));
        }
        if self.heard.len() < HEARD_MAX {
            self.heard.insert((stamp.publisher, stamp.track));
        }
        let seen = line.video && line.picture.take(&stamp, now);
        if seen {
            self.room.layers[usize::from(stamp.layer).min(LAYERS_MAX - 1)].fetch_add(1, Relaxed);
        }
        if !line.video || seen {
            self.firsts[usize::from(line.video)].get_or_insert(now);
        }
    }

    /// A sender report: when the stream's clock showed what.
    pub fn take_report(&mut self, ssrc: u32, ntp: u64, now: Instant) {
        if let Some(line) = self.by_ssrc.get(&ssrc).and_then(|at| self.lines.get_mut(*at)) {
            line.clock = Some((ntp, now));
        }
    }

    /// Does what is due.
    pub fn tick(&mut self, peer: &mut ClientPeer, now: Instant) {
        if !peer.is_connected() || self.look_due > now {
            return;
        }
        self.look_due = now + LOOK_INTERVAL;
        let mut compounds = Vec::new();
        let media = self.lines.first().map_or(0, |line| line.ssrc);
        compounds.extend(std::iter::from_fn(|| self.arrivals.write(OWN_SSRC, media)));
        for line in &mut self.lines {
            let Some(reception) = &mut line.reception else { continue };
            let mut compound = Vec::new();
            if line.video && line.picture.wants_key(now) {
                rtcp::write_pli(OWN_SSRC, line.ssrc, &mut compound);
            }
            let lost = reception.take_nacks(now);
            if line.nack && !lost.is_empty() {
                rtcp::write_nack(OWN_SSRC, line.ssrc, lost, &mut compound);
            }
            compounds.push(compound);
        }
        if self.report_due <= now {
            self.report_due = now + REPORT_INTERVAL;
            compounds.push(self.report(now));
            for line in &mut self.lines {
                count_picture(&self.room, &mut line.picture);
                let still = line.paused.is_some();
                count_pause(&self.room, &mut line.paused, now);
                line.paused = still.then_some(now);
            }
        }
        let compounds = compounds.iter().filter(|compound| !compound.is_empty());
        self.out.extend(compounds.filter_map(|compound| peer.seal(compound)));
    }

    fn report(&mut self, now: Instant) -> Vec<u8> {
        let blocks = self.lines.iter_mut().filter_map(|line| {
            let clock = line.clock;
            Some(line.reception.as_mut()?.report(line.ssrc, clock, now))
        });
        let blocks: Vec<ReportBlock> = blocks.collect();
        let mut compound = Vec::new();
        rtcp::write_receiver_report(OWN_SSRC, &blocks, &mut compound);
        compound
    }

    /// When [`Downlink::tick`] is due.
    pub fn deadline(&self) -> Instant {
        self.look_due
    }

    /// The next datagram for the server.
    pub fn transmit(&mut self) -> Option<Vec<u8>> {
        self.out.pop_front()
    }

    /// The time to count is over.
    pub fn finish(&mut self, now: Instant) {
        for line in &mut self.lines {
            line.picture.finish(now);
            count_pause(&self.room, &mut line.paused, now);
            count_picture(&self.room, &mut line.picture);
        }
    }
}

fn count_pause(room: &Room, since: &mut Option<Instant>, now: Instant) {
    let paused = since.take().map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
    room.paused_us.fetch_add(paused.as_micros() as u64, Relaxed);
}

fn count_picture(room: &Room, picture: &mut Picture) {
    let sums = picture.take_sums();
    room.shown.fetch_add(sums.shown, Relaxed);
    room.watched_us.fetch_add(sums.watched.as_micros() as u64, Relaxed);
    room.frozen_us.fetch_add(sums.frozen.as_micros() as u64, Relaxed);
    room.freezes.fetch_add(sums.freezes, Relaxed);
}

impl Line {
    /// Reads an offered section that sends and is not rejected.
    fn read(section: &str) -> Option<Line> {
        if is_rejected(section) {
            return None;
        }
        let inbound::Line { video, ssrc, rtx_ssrc, nack, feedback, transport_id, .. } = inbound::Line::read(section)?;
        let (participant, track) = attribute(section, "msid").and_then(|msid| msid.split_once(' '))?;
        Some(Line {
            video,
            ssrc,
            rtx_ssrc,
            nack,
            feedback,
            transport_id,
            participant: participant.to_owned(),
            track: track.to_owned(),
            reception: None,
            clock: None,
            picture: Picture::default(),
            paused: None,
        })
    }
}
