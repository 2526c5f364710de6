//! Datagrams to an SFU with a publisher, a subscriber, and a third peer whose handshake has not begun: from strangers, from
//! people who speak from another's address, and from clients with a key who lie.

use std::time::Duration;

use sfu::{Counters, Event, Input, Kind, Output, Path, PeerId, Request, RoomId, rtp};

use crate::hall::Hall;
use crate::media;
use crate::peer::{ClientPeer, Identity};

const PUBLISHER: usize = 0;
const SUBSCRIBER: usize = 1;
const HALF_OPEN: usize = 2;
const STRANGER: usize = 9;

const STEPS_MAX: usize = 64;
/// An Ethernet's worth.
const DATAGRAM_BYTES_MAX: usize = 1_500;
/// What leaves may be longer by its tag and by the extensions that the SFU writes.
const SENT_BYTES_MAX: usize = DATAGRAM_BYTES_MAX + 128;
/// What one step may cause to be sent: a full budget of resends is 128 KiB, and rounds up.
const STEP_BYTES_MAX: usize = 256 << 10;
/// Consent, which nobody renews here, ends after 30 s.
const QUIET_MAX: Duration = Duration::from_secs(25);

/// The kinds of a step: one byte, then the length of its bytes in two, then these.
pub mod step {
    /// From the publisher's address, not sealed.
    pub const FROM_PUBLISHER: u8 = 0;
    /// From an address that nobody has proven.
    pub const FROM_STRANGER: u8 = 1;
    /// Plain RTP or RTCP, sealed with the publisher's key.
    pub const SEALED_BY_PUBLISHER: u8 = 2;
    /// The same with the subscriber's.
    pub const SEALED_BY_SUBSCRIBER: u8 = 3;
    /// From the address of the peer whose handshake has not begun.
    pub const FROM_HALF_OPEN: u8 = 4;
    /// Milliseconds pass, modulo 1,000.
    pub const TIME: u8 = 5;
    /// The publisher's next offer.
    pub const OFFER: u8 = 6;
    /// The subscriber's next answer.
    pub const ANSWER: u8 = 7;
    /// How many kinds there are; a byte stands for its remainder.
    pub const KINDS: u8 = 8;
}

/// Appends a step to a corpus file.
pub fn write_step(kind: u8, bytes: &[u8], out: &mut Vec<u8>) {
    out.push(kind);
    out.extend((bytes.len() as u16).to_be_bytes());
    out.extend(bytes);
}

struct Stage {
    hall: Hall,
    /// SSRCs that the words `ff ff ff 0n` stand for: the publisher's own, then what the subscriber gets.
    ssrcs: Vec<u32>,
    /// What the sequence number 0 stands for in RTP of the first of these, of which honest packets have come.
    first_seq: u16,
    elapsed: Duration,
    /// Nothing came from anybody with a key.
    only_forged: bool,
    sent_bytes: usize,
}

/// Nobody panics, strangers get nothing, and forged datagrams neither end a call nor stop its media.
pub fn datagram(data: &[u8]) {
    play(data);
}

/// The same, and what the SFU counted: a test sees by it that the seeds still get where they should.
pub fn play(data: &[u8]) -> Counters {
    let mut stage = Stage::new();
    let mut rest = data;
    for _ in 0..STEPS_MAX {
        let Some((&[kind, l0, l1], behind)) = rest.split_first_chunk() else { break };
        let len = usize::from(u16::from_be_bytes([l0, l1])).min(behind.len());
        let (bytes, behind) = behind.split_at(len);
        stage.step(kind % step::KINDS, &bytes[..len.min(DATAGRAM_BYTES_MAX)], bytes);
        rest = behind;
    }
    stage.finish()
}

impl Stage {
    fn new() -> Stage {
        let mut hall = Hall::new(1);
        hall.join(&[Kind::Audio, Kind::Video]);
        hall.join(&[]);
        assert!(hall.connect_all(Duration::from_secs(5)), "both connect");
        hall.settle();
        let offer = hall.clients[PUBLISHER].offer();
        let named = offer.lines().filter_map(|line| line.strip_prefix("a=ssrc:")?.split(' ').next()?.parse().ok());
        let ssrcs = named.collect();
        let mut stage = Stage { hall, ssrcs, first_seq: 0, elapsed: Duration::ZERO, only_forged: true, sent_bytes: 0 };
        stage.half_open();
        assert!(stage.audio_flows(), "honest audio arrives");
        stage
    }

    /// Brings a third peer, in a room of its own, to where its address is proven and its keys are not there.
    fn half_open(&mut self) {
        let (hall, peer) = (&mut self.hall, PeerId(HALF_OPEN as u64));
        let mut client = ClientPeer::new(Identity::new(), 7, &[Kind::Audio], 7);
        let (room, participant) = (RoomId(2), "pa_half".into());
        hall.request(Request::Join {
            peer,
            room,
            participant,
            auto_subscribe: true,
            offer_first: false,
            rights: Default::default(),
            codecs: Default::default(),
            view: Default::default(),
        });
        hall.request(Request::Offer { peer, sdp: client.offer(), tracks: Vec::new(), saw_ours: true });
        while let Some(output) = hall.sfu.poll() {
            if let Output::Event(Event::Answer { sdp, .. }) = output {
                client.handle_answer(&sdp, hall.now.mono);
            }
        }
        client.tick(hall.now.mono);
        let mut check = client.transmit().expect("a check for the server's answer");
        hall.sfu.receive(Hall::path(HALF_OPEN), &mut check, hall.now.mono, hall.now);
        hall.clients.push(client);
        self.carry();
    }

    fn step(&mut self, kind: u8, datagram: &[u8], whole: &[u8]) {
        match kind {
            step::FROM_PUBLISHER => self.receive(PUBLISHER, datagram.to_vec()),
            step::FROM_STRANGER => self.receive(STRANGER, datagram.to_vec()),
            step::SEALED_BY_PUBLISHER => self.sealed(PUBLISHER, datagram),
            step::SEALED_BY_SUBSCRIBER => self.sealed(SUBSCRIBER, datagram),
            step::FROM_HALF_OPEN => self.receive(HALF_OPEN, datagram.to_vec()),
            step::TIME => self.pass(datagram),
            step::OFFER => {
                self.only_forged = false;
                let (peer, sdp) = (PeerId(PUBLISHER as u64), String::from_utf8_lossy(whole).into_owned());
                self.hall.request(Request::Offer { peer, sdp, tracks: Vec::new(), saw_ours: true });
            }
            step::ANSWER => {
                self.only_forged = false;
                let (peer, sdp) = (PeerId(SUBSCRIBER as u64), String::from_utf8_lossy(whole).into_owned());
                self.hall.request(Request::Answer { peer, sdp, tracks: Vec::new() });
            }
            _ => unreachable!("a remainder by {}", step::KINDS),
        }
        self.carry();
        assert_eq!(self.hall.sfu.counters().peer_panics, 0);
    }

    fn receive(&mut self, from: usize, mut datagram: Vec<u8>) {
        self.hall.sfu.receive(Hall::path(from), &mut datagram, self.hall.now.mono, self.hall.now);
    }

    fn sealed(&mut self, by: usize, datagram: &[u8]) {
        self.only_forged = false;
        let mut plain = datagram.to_vec();
        if let [_, _, s0, s1, _, _, _, _, 0xff, 0xff, 0xff, 0, ..] = &mut plain[..]
            && rtp::classify(datagram) == rtp::Class::Rtp
        {
            [*s0, *s1] = u16::from_be_bytes([*s0, *s1]).wrapping_add(self.first_seq).to_be_bytes();
        }
        for word in plain.as_chunks_mut::<4>().0 {
            if let [0xff, 0xff, 0xff, n] = *word
                && let Some(ssrc) = self.ssrcs.get(usize::from(n))
            {
                *word = ssrc.to_be_bytes();
            }
        }
        if let Some(datagram) = self.hall.clients[by].seal(&plain) {
            self.receive(by, datagram);
        }
    }

    fn pass(&mut self, bytes: &[u8]) {
        let ms = bytes.first_chunk().map_or(0, |it| u16::from_be_bytes(*it) % 1_000);
        let step = Duration::from_millis(u64::from(ms));
        self.elapsed += step;
        self.hall.advance(step);
        let mut ticks = 0;
        while self.hall.sfu.deadline().is_some_and(|due| due <= self.hall.now.mono) {
            ticks += 1;
            assert!(ticks <= 100, "what is due gets done");
            self.hall.sfu.handle(Input::Tick, self.hall.now);
        }
    }

    /// Takes everything that the SFU wants to send and say.
    fn carry(&mut self) {
        let before = self.sent_bytes;
        while let Some(run) = self.hall.sfu.next_run(self.hall.now) {
            assert!(run.segment > 0 && !run.bytes.is_empty());
            let index = (0..=STRANGER).find(|index| Hall::path(*index) == run.path);
            assert!(index.is_some_and(|index| index <= HALF_OPEN), "sent to {:?}, which nobody has proven", run.path);
            let datagrams: Vec<Vec<u8>> = run.datagrams().map(<[u8]>::to_vec).collect();
            for mut datagram in datagrams {
                assert!(datagram.len() <= SENT_BYTES_MAX, "{} bytes in one datagram", datagram.len());
                self.sent_bytes += datagram.len();
                let client = &mut self.hall.clients[index.unwrap_or_default()];
                if let Some(received) = client.handle(&mut datagram, self.hall.now.mono) {
                    self.hall.heard[SUBSCRIBER].note(&received);
                    if !self.ssrcs.contains(&received.ssrc) && self.ssrcs.len() < 16 {
                        self.ssrcs.push(received.ssrc);
                    }
                }
            }
        }
        assert!(self.sent_bytes - before <= STEP_BYTES_MAX, "one step caused {} bytes", self.sent_bytes - before);
        while let Some(output) = self.hall.sfu.poll() {
            let Output::Event(Event::Closed { peer, reason }) = output else { continue };
            let called = peer.0 != HALF_OPEN as u64;
            assert!(!(called && self.only_forged), "a forged datagram ended the call of {peer:?}: {reason:?}");
        }
    }

    /// Whether what the publisher says next gets to the subscriber.
    fn audio_flows(&mut self) -> bool {
        let client = &mut self.hall.clients[PUBLISHER];
        let stamp = client.next_stamp(Kind::Audio).expect("audio is published");
        let packet = client.rtp(Kind::Audio, false, 960, &media::audio_payload(stamp)).expect("connected");
        self.first_seq = rtp::parse(&packet).expect("an RTP packet").sequence_number;
        self.receive(PUBLISHER, packet);
        self.carry();
        self.hall.heard[SUBSCRIBER].of(stamp.stream).last() == Some(&stamp.number)
    }

    fn finish(mut self) -> Counters {
        if self.only_forged && self.elapsed < QUIET_MAX {
            assert!(self.audio_flows(), "honest audio still arrives");
        }
        assert!(self.hall.sfu.gauges().peers <= 3);
        for peer in 0..3 {
            self.hall.request(Request::Leave { peer: PeerId(peer) });
        }
        let gauges = self.hall.sfu.gauges();
        assert_eq!((gauges.peers, gauges.rooms, gauges.tracks, gauges.subscriptions), (0, 0, 0, 0));
        let path = Path::Udp { local: crate::hall::SERVER, remote: crate::hall::SERVER };
        self.hall.sfu.handle(Input::PathClosed(path), self.hall.now);
        assert_eq!(self.hall.sfu.counters().peer_panics, 0);
        self.hall.sfu.counters().clone()
    }
}
