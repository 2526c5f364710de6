//! One participant's media as a pure machine: one connection both ways, descriptions as the polite side (W3C perfect negotiation),
//! what it publishes and what it gets. Sockets and signaling belong to its seat.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use sfu::rtcp::{self, Packet};

use super::downlink::Downlink;
use super::live::Room;
use super::stamp::Track;
use super::uplink::{Publish, Sums, Uplink};
use crate::peer::{ClientPeer, Identity, Opened, attribute, is_rejected};

/// What a caller needs to begin.
pub struct Start {
    /// Certificate and DTLS configuration, shared by all.
    pub identity: Identity,
    /// Unique in the run.
    pub number: u32,
    /// What it publishes.
    pub publish: Publish,
    /// Where its randomness comes from.
    pub seed: u64,
    /// When the run began: stamps count from there.
    pub began: Instant,
    /// The same as Unix ms.
    pub unix_began_ms: u64,
    /// Where it counts.
    pub room: Arc<Room>,
}

/// See the module.
pub struct Caller {
    /// Its transport.
    pub peer: ClientPeer,
    /// What it publishes.
    pub up: Uplink,
    /// What it gets.
    pub down: Downlink,
    room: Arc<Room>,
    began: Instant,
    /// Our half of the present description: mids and m-lines, in order.
    sections: Vec<(String, String)>,
    offer_pending: bool,
    /// What we publish was answered.
    settled: bool,
    counted: Sums,
    /// The server's last description, for its candidates.
    remote: Option<String>,
}

impl Caller {
    /// A caller that has not offered yet.
    pub fn new(start: Start, now: Instant) -> Caller {
        let Start { identity, number, publish, seed, began, unix_began_ms, room } = start;
        Caller {
            peer: ClientPeer::new(identity, u64::from(number), &[], seed),
            up: Uplink::new(number, publish, seed, began, unix_began_ms, now),
            down: Downlink::new(room.clone(), began, now),
            room,
            began,
            sections: Vec::new(),
            offer_pending: false,
            settled: publish.tracks().next().is_none(),
            counted: Sums::default(),
            remote: None,
        }
    }

    /// The server's last description.
    pub fn remote(&self) -> Option<&str> {
        self.remote.as_deref()
    }

    /// An offer of what it publishes, with its mids and tracks; `None` if there is nothing to offer now.
    pub fn offer(&mut self) -> Option<(String, Vec<(&'static str, Track)>)> {
        if self.settled || self.offer_pending {
            return None;
        }
        self.offer_pending = true;
        let mut sections = self.sections.clone();
        let mut tracks = Vec::new();
        for (mid, track, section) in self.up.sections() {
            tracks.push((mid, track));
            if !sections.iter().any(|(known, _)| known == mid) {
                sections.push((mid.to_owned(), section));
            }
        }
        let live: Vec<(&str, String)> = sections.iter().map(|(mid, section)| (&**mid, section.clone())).collect();
        let offer = self.peer.offer_of(&live);
        self.sections = sections;
        Some((offer, tracks))
    }

    /// Takes the server's answer; one without a pending offer is ignored.
    pub fn handle_answer(&mut self, sdp: &str, now: Instant) {
        if std::mem::take(&mut self.offer_pending) {
            self.remote = Some(sdp.to_owned());
            self.settled = true;
            self.peer.handle_answer(sdp, now);
        }
    }

    /// Answers the server's offer. An offer of ours that crosses it is taken back; [`Caller::offer`] makes it again.
    pub fn handle_offer(&mut self, sdp: &str, now: Instant) -> String {
        self.offer_pending = false;
        self.remote = Some(sdp.to_owned());
        self.peer.handle_answer(sdp, now);
        let own: Vec<_> = self.up.sections().collect();
        let offered: Vec<String> =
            sdp.split("\r\nm=").skip(1).map(|rest| format!("m={}\r\n", rest.trim_end())).collect();
        let answers = offered.iter().map(|section| {
            let mid = attribute(section, "mid").unwrap_or_default();
            let ours = own.iter().find(|(own, ..)| *own == mid).filter(|_| !is_rejected(section));
            let answer = ours.map_or_else(|| self.peer.answered_section(section), |(.., own)| own.clone());
            (mid.to_owned(), answer)
        });
        self.sections = answers.collect();
        self.down.learn(offered.iter().map(String::as_str));
        self.peer.answer_of(&self.sections)
    }

    /// Takes a datagram from the server, opened in place.
    pub fn handle(&mut self, datagram: &mut [u8], now: Instant) {
        match self.peer.take(datagram, now) {
            Some(Opened::Rtp(plain)) => self.down.take_rtp(&plain, now),
            Some(Opened::Rtcp(compound)) => {
                for packet in rtcp::parse(&compound) {
                    match packet {
                        Packet::SenderReport { ssrc, ntp, .. } => self.down.take_report(ssrc, ntp, now),
                        other => self.up.take_feedback(&other, &mut self.peer),
                    }
                }
            }
            None => {}
        }
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Instant) {
        self.peer.tick(now);
        if self.settled {
            self.up.tick(&mut self.peer, now);
        }
        self.down.tick(&mut self.peer, now);
        let sums = self.up.sums;
        if sums.packets > self.counted.packets {
            self.room.sent.fetch_add(sums.packets - self.counted.packets, Relaxed);
            self.up.kinds().for_each(|kind| self.room.published(kind, now - self.began));
        }
        self.room.sent_lost.fetch_add(sums.asked - self.counted.asked, Relaxed);
        self.counted = sums;
    }

    /// When [`Caller::tick`] is due.
    pub fn deadline(&self) -> Option<Instant> {
        let media = self.peer.is_connected().then(|| [self.up.deadline(), Some(self.down.deadline())]);
        media.into_iter().flatten().flatten().chain(self.peer.deadline()).min()
    }

    /// The next datagram for the server.
    pub fn transmit(&mut self) -> Option<Vec<u8>> {
        self.peer.transmit().or_else(|| self.up.transmit()).or_else(|| self.down.transmit())
    }
}
