//! The SFU with foreign clients (the `rtc` crate) on a seeded lossy network, in virtual time. The seed decides the
//! network's accidents, flow by flow, and the SFU; the foreign clients draw their own keys and SSRCs and the crate orders
//! its work by random hashes, so that a seed brings back the same weather but not always the same failure.
//! `WORLD_SEED=n` runs one seed alone.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

mod network;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bench::bot::{Bot, Happened, Media, Publish, Signal};
use bench::hall::SERVER;
use bench::peer::self_signed;
use network::{Network, Weather};
use sfu::{
    Certificate, Config, Event, Input, Kind, Now, Output, Path, PeerId, Request, RoomId, Sfu, Source, TrackHint,
};

/// One way of signaling. Descriptions of both sides can cross under way.
const SIGNALING_DELAY: Duration = Duration::from_millis(30);
/// Virtual time never stands still for longer.
const STEP_MAX: Duration = Duration::from_millis(50);
/// One way of DTLS, which is spared all accidents.
const DTLS_DELAY: Duration = Duration::from_millis(15);
/// In virtual time.
const CONNECT_LIMIT: Duration = Duration::from_secs(20);
/// Packets of a video frame.
const BURST: u32 = 4;
/// Packets after the first that came which may be missing: what the SFU sends before its last DTLS flight has come over
/// cannot be opened and is asked for by nobody, while what the publisher repeated arrives later. A browser would ask for
/// another keyframe; the crate does not.
const START_GAP: u64 = 8 * BURST as u64;
const ROOM: RoomId = RoomId(1);

enum Thing {
    /// A datagram from a bot.
    Up { from: usize, bytes: Vec<u8> },
    /// A datagram from the SFU.
    Down { to: usize, bytes: Vec<u8> },
    /// A bot's description.
    Request(Request),
    /// The SFU's description: an offer or an answer.
    Description { to: usize, offer: bool, sdp: String },
}

struct Seat {
    bot: Bot,
    participant: String,
    connected: bool,
    present: bool,
    media: Vec<Media>,
    /// The m-lines of the server's last description, by mid.
    lines: BTreeMap<String, Line>,
}

/// What an m-line of the server carries: `msid`, kept when it is rejected.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Line {
    msid: Option<String>,
    rejected: bool,
}

impl Seat {
    /// Reads the server's description, and holds it to the rule that a mid never changes its track.
    fn read_lines(&mut self, sdp: &str) {
        for section in sdp.split("\r\nm=").skip(1) {
            let value = |name: &str| section.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
            let Some(mid) = value("a=mid:") else { continue };
            let (msid, rejected) = (value("a=msid:"), section.split(' ').nth(1) == Some("0"));
            let line = self.lines.entry(mid.clone()).or_insert(Line { msid: None, rejected });
            if let (Some(before), Some(after)) = (&line.msid, &msid) {
                assert_eq!(before, after, "mid {mid} changed its track");
            }
            line.msid = msid.or(line.msid.take());
            line.rejected = rejected;
        }
    }

    fn lines_of(&self, participant: &str) -> impl Iterator<Item = &Line> {
        let of = move |line: &&Line| line.msid.as_deref().and_then(|msid| msid.split(' ').next()) == Some(participant);
        self.lines.values().filter(of)
    }
}

struct World {
    sfu: Sfu,
    network: Network<Thing>,
    now: Now,
    seats: Vec<Seat>,
    events: Vec<Event>,
}

impl World {
    fn new(seed: u64, weather: Weather) -> World {
        let (certificate_der, private_key_der) = self_signed("sfu");
        let certificate = Arc::new(Certificate { certificate_der, private_key_der });
        let now = Now { mono: Instant::now(), unix_ms: 1_700_000_000_000 };
        let mut sfu_seed = [0; 32];
        sfu_seed[..8].copy_from_slice(&seed.to_be_bytes());
        let config = Config { certificate, udp_candidates: vec![SERVER], tcp_candidates: vec![] };
        World {
            sfu: Sfu::new(config, sfu_seed, now),
            network: Network::new(seed, weather),
            now,
            seats: Vec::new(),
            events: Vec::new(),
        }
    }

    fn address(index: usize) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, index as u8 + 1], 50_000))
    }

    fn join(&mut self) -> usize {
        let index = self.seats.len();
        let publish = Publish { audio: true, video_burst: Some(BURST) };
        let mut bot = Bot::new(World::address(index), index as u64, publish, self.now.mono).expect("a bot can be made");
        let participant = format!("pa_{index}");
        let request = Request::Join {
            peer: PeerId(index as u64),
            room: ROOM,
            participant: participant.as_str().into(),
            auto_subscribe: true,
            offer_first: true,
            rights: Default::default(),
            codecs: Default::default(),
            view: Default::default(),
        };
        self.sfu.handle(Input::Request(request), self.now);
        bot.offer(self.now.mono).expect("a bot can offer");
        self.seats.push(Seat {
            bot,
            participant,
            connected: false,
            present: true,
            media: vec![],
            lines: BTreeMap::new(),
        });
        index
    }

    fn leave(&mut self, index: usize) {
        self.seats[index].present = false;
        self.sfu.handle(Input::Request(Request::Leave { peer: PeerId(index as u64) }), self.now);
    }

    fn run(&mut self, time: Duration) {
        let end = self.now.mono + time;
        while self.now.mono < end {
            self.settle();
            let bots = self.seats.iter_mut().filter(|seat| seat.present).filter_map(|seat| seat.bot.deadline());
            let due = bots.chain(self.sfu.deadline()).chain(self.network.due()).min().unwrap_or(end);
            let next = due.clamp(self.now.mono + Duration::from_micros(100), self.now.mono + STEP_MAX).min(end);
            let step = next - self.now.mono;
            self.now.mono = next;
            self.now.unix_ms += step.as_millis() as u64;
        }
        self.settle();
    }

    /// Runs until everyone present is connected. A lost DTLS flight costs the foreign crate 1 s, then 2 s, then 4 s.
    fn connect(&mut self) {
        let end = self.now.mono + CONNECT_LIMIT;
        while self.seats.iter().any(|seat| seat.present && !seat.connected) {
            let connected: Vec<bool> = self.seats.iter().map(|seat| seat.connected).collect();
            let (told, counters) = (&self.events, self.sfu.counters());
            assert!(self.now.mono < end, "all connect within {CONNECT_LIMIT:?}: {connected:?} {told:?} {counters:?}");
            self.run(Duration::from_millis(100));
        }
    }

    fn settle(&mut self) {
        while let Some(thing) = self.network.arrived(self.now.mono) {
            self.arrive(thing);
        }
        if self.sfu.deadline().is_some_and(|due| due <= self.now.mono) {
            self.sfu.handle(Input::Tick, self.now);
        }
        for index in 0..self.seats.len() {
            if self.seats[index].present {
                self.seats[index].bot.tick(self.now.mono);
                self.drain_bot(index);
            }
        }
        self.drain_sfu();
    }

    fn arrive(&mut self, thing: Thing) {
        match thing {
            Thing::Up { from, mut bytes } => {
                let path = Path::Udp { local: SERVER, remote: World::address(from) };
                self.sfu.receive(path, &mut bytes, self.now.mono, self.now);
            }
            Thing::Down { to, bytes } if self.seats[to].present => {
                self.seats[to].bot.receive(SERVER, &bytes, self.now.mono);
            }
            Thing::Request(request) => self.sfu.handle(Input::Request(request), self.now),
            Thing::Description { to, offer, sdp } if self.seats[to].present => {
                self.seats[to].read_lines(&sdp);
                let bot = &mut self.seats[to].bot;
                let taken =
                    if offer { bot.handle_offer(&sdp, self.now.mono) } else { bot.handle_answer(&sdp, self.now.mono) };
                taken.unwrap_or_else(|error| panic!("bot {to} refuses a description (offer: {offer}): {error}\n{sdp}"));
            }
            Thing::Down { .. } | Thing::Description { .. } => {}
        }
    }

    fn drain_bot(&mut self, index: usize) {
        let (now, seat) = (self.now.mono, &mut self.seats[index]);
        while let Some((to, bytes)) = seat.bot.transmit() {
            assert_eq!(to, SERVER, "the server's only candidate");
            // The crate never repeats its last DTLS flight: lost once, it would never connect. Ours, lost several times over,
            // would take it longer than anybody waits; `joins.rs` loses them.
            let spared = is_dtls(&bytes);
            let thing = Thing::Up { from: index, bytes };
            match spared {
                true => self.network.deliver_at(thing, now + DTLS_DELAY),
                false => self.network.send(2 * index as u64, thing, now),
            }
        }
        while let Some(signal) = seat.bot.signal() {
            let peer = PeerId(index as u64);
            let request = match signal {
                Signal::Offer { sdp, tracks } => {
                    let tracks =
                        tracks.into_iter().map(|(mid, kind)| TrackHint { mid, source: source(kind), muted: None });
                    Request::Offer { peer, sdp, tracks: tracks.collect(), saw_ours: true }
                }
                Signal::Answer { sdp } => Request::Answer { peer, sdp, tracks: Vec::new() },
            };
            self.network.deliver_at(Thing::Request(request), now + SIGNALING_DELAY);
        }
        while let Some(happened) = seat.bot.happened() {
            match happened {
                Happened::Connected => seat.connected = true,
                Happened::Failed => panic!("the media connection of bot {index} failed"),
                Happened::Media(media) => seat.media.push(media),
            }
        }
    }

    fn drain_sfu(&mut self) {
        while let Some(run) = self.sfu.next_run(self.now) {
            let Path::Udp { remote, .. } = run.path else { panic!("a path that nobody has: {:?}", run.path) };
            let index = (0..self.seats.len()).find(|index| World::address(*index) == remote).expect("a bot's address");
            for datagram in run.datagrams() {
                let spared = is_dtls(datagram);
                let thing = Thing::Down { to: index, bytes: datagram.to_vec() };
                match spared {
                    true => self.network.deliver_at(thing, self.now.mono + DTLS_DELAY),
                    false => self.network.send(2 * index as u64 + 1, thing, self.now.mono),
                }
            }
        }
        while let Some(output) = self.sfu.poll() {
            let (peer, offer, sdp) = match output {
                Output::Event(Event::Offer { peer, sdp, .. }) => (peer, true, sdp),
                Output::Event(Event::Answer { peer, sdp, .. }) => (peer, false, sdp),
                Output::Event(Event::Refused { peer, description, refusal, message }) => {
                    panic!("the SFU refused the {description:?} of {peer:?}: {refusal:?}, {message}")
                }
                Output::Event(event) => {
                    self.events.push(event);
                    continue;
                }
                Output::ClosePath(_) => continue,
            };
            let description = Thing::Description { to: peer.0 as usize, offer, sdp };
            self.network.deliver_at(description, self.now.mono + SIGNALING_DELAY);
        }
    }

    /// What `receiver` got of one stream of `sender`: RTP sequence number by the sender's own number, per track.
    fn heard(&self, receiver: usize, sender: usize, kind: Kind) -> BTreeMap<u64, (u16, usize)> {
        let stream = 2 * sender as u64 + u64::from(kind == Kind::Video);
        let mut heard = BTreeMap::new();
        for media in &self.seats[receiver].media {
            let Some(stamp) = media.stamp.filter(|stamp| stamp.stream == stream) else { continue };
            assert_eq!(media.participant, self.seats[sender].participant, "the msid names who sent it");
            heard.entry(stamp.number).or_insert((media.sequence, 0)).1 += 1;
        }
        heard
    }

    fn sent(&self, sender: usize, kind: Kind) -> u64 {
        let stream = 2 * sender as u64 + u64::from(kind == Kind::Video);
        self.seats[sender].bot.sent().find(|(other, _)| *other == stream).map_or(0, |(_, sent)| sent)
    }

    /// What the SFU said of videos that it paused, and went on with.
    fn pauses(&self) -> Vec<&Event> {
        let is_pause = |event: &&Event| matches!(event, Event::TrackPaused { .. } | Event::TrackResumed { .. });
        self.events.iter().filter(is_pause).collect()
    }

    /// Asserts that `receiver` got `sender`'s stream in its order and nearly whole: of all packets between the first
    /// that came and the last that was sent, at most `missing_max` (0–1) are missing.
    fn assert_heard(&self, receiver: usize, sender: usize, kind: Kind, missing_max: f64) {
        let label = format!("bot {receiver} of bot {sender}'s {}", kind.as_str());
        let (heard, sent) = (self.heard(receiver, sender, kind), self.sent(sender, kind));
        let (first, (first_sequence, _)) = heard.first_key_value().unwrap_or_else(|| {
            panic!("{label}: nothing came of {sent}; {:?}; {:?}", self.sfu.counters(), self.pauses())
        });
        for (number, (sequence, _)) in &heard {
            let steps = (number - first) as u16;
            assert_eq!(sequence.wrapping_sub(*first_sequence), steps, "{label}: packet {number} out of its place");
        }
        let expected = sent - first;
        let at_start = if kind == Kind::Video { START_GAP } else { 0 };
        // What is lost at the very end leaves no gap that anyone could see and ask for.
        let end = sent - u64::from(BURST);
        let missing = (first + at_start..end).filter(|number| !heard.contains_key(number)).count();
        assert!(
            missing as f64 <= missing_max * expected as f64,
            "{label}: {missing} of {expected} missing: {:?}; {:?}; {:?}",
            (*first..sent).filter(|number| !heard.contains_key(number)).take(20).collect::<Vec<_>>(),
            self.sfu.counters(),
            self.pauses(),
        );
    }
}

/// RFC 7983 §7.
fn is_dtls(datagram: &[u8]) -> bool {
    datagram.first().is_some_and(|first| (20..64).contains(first))
}

fn source(kind: Kind) -> Source {
    match kind {
        Kind::Audio => Source::Microphone,
        Kind::Video => Source::Camera,
    }
}

/// Runs a story once for each seed, telling which, so that a failure can be had again.
fn for_seeds(seeds: std::ops::Range<u64>, story: impl Fn(u64)) {
    let only = std::env::var("WORLD_SEED").ok().and_then(|seed| seed.parse().ok());
    for seed in only.map_or(seeds, |seed: u64| seed..seed + 1) {
        println!("seed {seed}; again with WORLD_SEED={seed}");
        story(seed);
    }
}

/// Three join one after the other, one leaves, one comes back.
fn meeting(seed: u64, weather: Weather, video_missing_max: f64) {
    let mut world = World::new(seed, weather);
    for _ in 0..3 {
        world.join();
        world.run(Duration::from_millis(400));
    }
    world.connect();
    world.run(Duration::from_secs(5));

    for receiver in [0, 1] {
        let live = world.seats[receiver].lines_of("pa_2").filter(|line| !line.rejected).count();
        assert_eq!(live, 2, "bot {receiver} has both tracks of the third");
    }

    // Before it goes, the third stops, so that what it sent has time to arrive.
    world.seats[2].bot.stop_publishing();
    world.run(Duration::from_millis(1_500));
    world.leave(2);
    world.run(Duration::from_secs(1));
    for receiver in [0, 1] {
        let rejected = world.seats[receiver].lines_of("pa_2").filter(|line| line.rejected).count();
        let lines = &world.seats[receiver].lines;
        assert_eq!(rejected, 2, "bot {receiver} is told that both tracks of the third ended: {lines:?}");
    }

    let again = world.join();
    world.connect();
    world.run(Duration::from_secs(4));
    let present = [0, 1, again];
    present.iter().for_each(|index| world.seats[*index].bot.stop_publishing());
    world.run(Duration::from_secs(2));

    let pairs = present.iter().flat_map(|receiver| present.iter().map(move |sender| (*receiver, *sender)));
    let early = [(0, 2), (1, 2), (2, 0), (2, 1)];
    for (receiver, sender) in pairs.filter(|(receiver, sender)| receiver != sender).chain(early) {
        // The third stopped listening when it left; the others went on.
        if receiver == 2 {
            assert!(!world.heard(receiver, sender, Kind::Video).is_empty(), "the third saw bot {sender}");
            continue;
        }
        // Audio is not retransmitted and is lost on both hops; 165 packets at 10 % stray to 17 % once in a thousand runs.
        world.assert_heard(receiver, sender, Kind::Audio, 4.0 * weather.loss);
        world.assert_heard(receiver, sender, Kind::Video, video_missing_max);
    }
    assert_eq!(world.sfu.counters().peer_panics, 0);
}

#[test]
fn a_meeting_on_a_perfect_network() {
    let weather = Weather { loss: 0.0, delay: Duration::from_millis(10), jitter: Duration::ZERO };
    for_seeds(0..1, |seed| meeting(seed, weather, 0.0));
}

#[test]
fn a_meeting_with_reordering() {
    let weather = Weather { loss: 0.0, delay: Duration::from_millis(15), jitter: Duration::from_millis(12) };
    for_seeds(10..12, |seed| meeting(seed, weather, 0.0));
}

#[test]
fn a_meeting_with_one_packet_in_twenty_lost() {
    let weather = Weather { loss: 0.05, delay: Duration::from_millis(15), jitter: Duration::from_millis(5) };
    // The crate begins its log of what is missing anew with every renegotiation, of which there are three here, and never
    // asks for what was lost within its last 100 ms; everything else is filled by RTX on both hops.
    for_seeds(20..24, |seed| meeting(seed, weather, 0.005));
}
