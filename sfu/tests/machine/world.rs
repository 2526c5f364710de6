//! An SFU and its tabs in virtual time, with a network that carries at once.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sfu::{
    Cause, Certificate, Config, Drop, Event, Input, Kind, Now, Output, Path, PeerId, Request, Rights, RoomId, Sample,
    Sfu, TrackHint, TrackId, TrackLine,
};

use crate::tab::{SERVER, Tab, self_signed};

/// Nothing may move virtual time by more than this at once.
const STEP: Duration = Duration::from_millis(20);

pub(crate) struct World {
    pub(crate) sfu: Sfu,
    pub(crate) now: Now,
    /// Tab *i* is `PeerId(first + i)`.
    pub(crate) tabs: Vec<Tab>,
    /// 0 but where there are several worlds.
    pub(crate) first: u64,
    /// Events that are no descriptions, samples or verdicts.
    pub(crate) events: Vec<Event>,
    /// Samples, by tab.
    pub(crate) samples: Vec<(usize, Sample)>,
    /// Verdicts on connections, by tab.
    pub(crate) verdicts: Vec<(usize, u8, Option<Cause>)>,
    /// Offers and answers, as (peer, is an offer, SDP).
    pub(crate) descriptions: Vec<(usize, bool, String)>,
    /// What the offers say of their m-lines, by tab.
    pub(crate) track_lines: Vec<(usize, Vec<TrackLine>)>,
    /// Tabs that leave the server's offers unanswered.
    pub(crate) silent: Vec<usize>,
    /// How long the SFU's descriptions take to their tabs.
    pub(crate) signaling: Duration,
    mail: VecDeque<(Instant, Event)>,
    pub(crate) closed: Vec<Path>,
}

impl World {
    pub(crate) fn new() -> World {
        World::nth(0, Now { mono: Instant::now(), unix_ms: 1_700_000_000_000 })
    }

    /// One of several workers.
    pub(crate) fn nth(worker: u8, now: Now) -> World {
        let (certificate_der, private_key_der) = self_signed();
        let certificate = Arc::new(Certificate { certificate_der, private_key_der });
        let config = Config { certificate, udp_candidates: vec![SERVER.into()], tcp_candidates: vec![SERVER.into()] };
        World {
            sfu: Sfu::new(config, [7 + worker; 32], now),
            now,
            tabs: Vec::new(),
            first: 100 * u64::from(worker),
            events: Vec::new(),
            samples: Vec::new(),
            verdicts: Vec::new(),
            descriptions: Vec::new(),
            track_lines: Vec::new(),
            silent: Vec::new(),
            signaling: Duration::ZERO,
            mail: VecDeque::new(),
            closed: Vec::new(),
        }
    }

    /// A call in which every tab publishes `kinds`, everybody is connected, and the events so far are forgotten.
    pub(crate) fn call(tabs: usize, kinds: &[Kind]) -> World {
        let mut world = World::new();
        for _ in 0..tabs {
            world.join(1, kinds);
        }
        world.run(Duration::from_secs(1));
        assert!(world.tabs.iter().all(Tab::is_connected));
        world.events.clear();
        world.descriptions.clear();
        world
    }

    /// A call of all media, in which the last of `tabs` reaches the SFU by `path`.
    pub(crate) fn call_by(tabs: usize, path: Path) -> World {
        let kinds = [Kind::Audio, Kind::Video];
        let mut world = World::new();
        for _ in 1..tabs {
            world.join(1, &kinds);
        }
        let index = world.enter(1, false);
        world.tabs[index].path = path;
        for kind in kinds {
            world.tabs[index].add(kind);
        }
        world.offer(index);
        world.run(Duration::from_secs(1));
        assert!(world.tabs.iter().all(Tab::is_connected));
        world.events.clear();
        world
    }

    /// The first two hear and see each other.
    pub(crate) fn assert_call(&mut self) {
        self.settle();
        self.assert_media(0, 1);
        self.assert_media(1, 0);
    }

    /// Moves a tab to another path, as a browser does that lost its network: it checks and nominates there.
    pub(crate) fn move_to(&mut self, index: usize, path: Path) {
        self.tabs[index].path = path;
        let nomination = self.tabs[index].check(true);
        self.send(index, nomination);
    }

    /// Lets a tab in; one that publishes nothing waits for the server's offer.
    pub(crate) fn join(&mut self, room: u64, kinds: &[Kind]) -> usize {
        let index = self.enter(room, kinds.is_empty());
        if !kinds.is_empty() {
            for kind in kinds {
                self.tabs[index].add(*kind);
            }
            self.offer(index);
        }
        index
    }

    /// Lets a tab in that has not offered anything yet.
    pub(crate) fn enter(&mut self, room: u64, offer_first: bool) -> usize {
        self.enter_as(room, offer_first, Rights::default())
    }

    pub(crate) fn enter_as(&mut self, room: u64, offer_first: bool, rights: Rights) -> usize {
        let index = self.tabs.len();
        self.tabs.push(Tab::new(index, self.now.mono));
        let peer = self.peer(index);
        let participant: Arc<str> = format!("pa_{}", peer.0).into();
        self.request(Request::Join {
            peer,
            room: RoomId(room),
            participant,
            auto_subscribe: true,
            offer_first,
            rights,
            codecs: Default::default(),
            view: Default::default(),
        });
        index
    }

    /// A tab's id.
    pub(crate) fn peer(&self, index: usize) -> PeerId {
        PeerId(self.first + index as u64)
    }

    fn index(&self, peer: PeerId) -> usize {
        (peer.0 - self.first) as usize
    }

    /// Sends the offer of a tab.
    pub(crate) fn offer(&mut self, index: usize) {
        let sdp = self.tabs[index].offer();
        self.send_offer(index, sdp);
    }

    pub(crate) fn send_offer(&mut self, index: usize, sdp: String) {
        let tracks: Vec<TrackHint> = Vec::new();
        self.request(Request::Offer { peer: self.peer(index), sdp, tracks, saw_ours: true });
    }

    pub(crate) fn request(&mut self, request: Request) {
        self.sfu.handle(Input::Request(request), self.now);
    }

    /// Gives the SFU a datagram as if it came from a tab.
    pub(crate) fn send(&mut self, index: usize, datagram: Vec<u8>) {
        self.send_from(self.tabs[index].path, datagram);
    }

    pub(crate) fn send_from(&mut self, path: Path, mut datagram: Vec<u8>) {
        self.sfu.receive(path, &mut datagram, self.now.mono, self.now);
    }

    /// Gives the SFU a datagram from a tab that came some time ago and was not read.
    pub(crate) fn send_late(&mut self, index: usize, mut datagram: Vec<u8>, waited: Duration) {
        self.sfu.receive(self.tabs[index].path, &mut datagram, self.now.mono - waited, self.now);
    }

    /// The next packet of a tab's source.
    pub(crate) fn media(&mut self, index: usize, source: usize, ticks: u32, payload: &[u8]) {
        let packet = self.tabs[index].rtp(source, ticks, payload);
        self.send(index, packet);
    }

    /// An RTCP compound of a tab.
    pub(crate) fn rtcp(&mut self, index: usize, plain: Vec<u8>) {
        let sealed = self.tabs[index].seal_rtcp(plain);
        self.send(index, sealed);
    }

    /// Carries what there is until nobody has anything to say at this moment.
    pub(crate) fn settle(&mut self) {
        loop {
            if self.sfu.deadline().is_some_and(|due| due <= self.now.mono) {
                self.sfu.handle(Input::Tick, self.now);
            }
            let mut moved = self.outputs();
            for index in 0..self.tabs.len() {
                self.tabs[index].tick(self.now.mono);
                while let Some(datagram) = self.tabs[index].out.pop_front() {
                    moved = true;
                    self.send(index, datagram);
                }
            }
            moved |= self.deliver();
            if !moved {
                return;
            }
        }
    }

    /// Carries what the SFU sends; whether it sent anything.
    pub(crate) fn deliver(&mut self) -> bool {
        let mut moved = false;
        while let Some(run) = self.sfu.next_run(self.now) {
            moved = true;
            assert!(run.segment > 0 && run.bytes.len() <= 60_016, "a run of {} bytes", run.bytes.len());
            assert!(run.bytes[0] >= 64 || run.segment <= 1_200, "a DTLS datagram of {} bytes", run.segment);
            let datagrams: Vec<Vec<u8>> = run.datagrams().map(<[u8]>::to_vec).collect();
            let Some(tab) = self.tabs.iter_mut().find(|tab| tab.path == run.path) else { continue };
            for mut datagram in datagrams {
                tab.take(&mut datagram, self.now.mono);
            }
        }
        moved
    }

    fn outputs(&mut self) -> bool {
        let mut moved = false;
        while let Some(output) = self.sfu.poll() {
            moved = true;
            match output {
                Output::Event(event @ (Event::Answer { .. } | Event::Offer { .. })) => {
                    self.mail.push_back((self.now.mono + self.signaling, event));
                }
                Output::Event(Event::Sample { peer, sample }) => self.samples.push((self.index(peer), *sample)),
                Output::Event(Event::Quality { peer, score, cause }) => {
                    self.verdicts.push((self.index(peer), score, cause));
                }
                Output::Event(event) => self.events.push(event),
                Output::ClosePath(path) => self.closed.push(path),
            }
        }
        while self.mail.front().is_some_and(|(at, _)| *at <= self.now.mono) {
            moved = true;
            match self.mail.pop_front() {
                Some((_, Event::Answer { peer, sdp, .. })) => {
                    let index = self.index(peer);
                    self.tabs[index].take_answer(&sdp, self.now.mono);
                    self.descriptions.push((index, false, sdp));
                }
                Some((_, Event::Offer { peer, sdp, tracks })) => {
                    let index = self.index(peer);
                    self.track_lines.push((index, tracks));
                    self.descriptions.push((index, true, sdp.clone()));
                    if !self.silent.contains(&index) {
                        let sdp = self.tabs[index].answer(&sdp, self.now.mono);
                        self.request(Request::Answer { peer, sdp, tracks: vec![] });
                    }
                }
                other => unreachable!("{other:?} is no description"),
            }
        }
        moved
    }

    /// Moves virtual time, from one deadline to the next.
    pub(crate) fn run(&mut self, by: Duration) {
        let end = self.now.mono + by;
        loop {
            self.settle();
            if self.now.mono >= end {
                return;
            }
            let due = self.due();
            let latest = (self.now.mono + STEP).min(end);
            let earliest = (self.now.mono + Duration::from_millis(1)).min(latest);
            let next = due.unwrap_or(latest).clamp(earliest, latest);
            self.now.unix_ms += (next - self.now.mono).as_millis() as u64;
            self.now.mono = next;
        }
    }

    /// When somebody has something to do.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.tabs.iter().filter_map(Tab::deadline).chain(self.sfu.deadline()).min()
    }

    pub(crate) fn run_ms(&mut self, ms: u64) {
        self.run(Duration::from_millis(ms));
    }

    pub(crate) fn drops(&self, reason: Drop) -> u64 {
        self.sfu.counters().drops[reason as usize]
    }

    /// The tracks of the events so far, in order.
    pub(crate) fn published(&self) -> Vec<TrackId> {
        let tracks = self.events.iter().map(|event| match event {
            Event::TrackPublished { info, .. } => Some(info.track),
            _ => None,
        });
        tracks.flatten().collect()
    }

    /// A frame of video and a packet of audio from tab `from` must reach tab `to`: the call between them is whole.
    pub(crate) fn assert_media(&mut self, from: usize, to: usize) {
        let before = self.tabs[to].got.len();
        for source in 0..self.tabs[from].sources.len() {
            let payload = match self.tabs[from].sources[source].kind {
                Kind::Audio => vec![0x78, from as u8, source as u8, 1],
                Kind::Video => crate::tab::vp8(true, from as u8, 50),
            };
            self.media(from, source, 3_000, &payload);
            self.settle();
            let last = self.tabs[to].got.last().filter(|_| self.tabs[to].got.len() > before);
            assert_eq!(last.map(|got| &got.payload), Some(&payload), "source {source} of tab {from} reaches tab {to}");
        }
    }
}
