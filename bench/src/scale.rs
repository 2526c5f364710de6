//! The scaling law, in memory: what a forwarded packet, a peer, an event and a delivery cost as subscribers, publishers, rooms and
//! members grow. What a table shows as constant grows linearly in all; nothing grows faster than what it has to do.

use std::fmt;
use std::hint::black_box;
use std::time::{Duration, Instant};

use serde::Serialize;
use sfu::{Input, Kind, RoomId};

use crate::alloc;
use crate::forward::{CLIENT_FRAMES, FRAME_TICKS, FRAME_TIME, JOIN_LIMIT, PACKET_BYTES, WARM_UP_FRAMES};
use crate::hall::Hall;
use crate::media::{self, Vp8};
use crate::micro::{Talk, time};
use crate::peer::RTP_HEADER_BYTES;

/// Packets of a picture.
const BURST: u32 = 10;
/// Of one of many publishers, who share what a subscriber's downlink is believed to carry.
const SMALL_BURST: u32 = 2;
/// Subscribers of the room that gets more publishers, and of each of many rooms.
const FEW: usize = 4;

/// Rooms, and people in each.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Size {
    /// Rooms.
    pub rooms: usize,
    /// Publishers in each, who see each other.
    pub publishers: usize,
    /// Further people in each, who only watch.
    pub subscribers: usize,
}

/// What media of a size costs.
#[derive(Clone, Debug, Serialize)]
pub struct MediaRow {
    /// The size.
    pub size: Size,
    /// Packets forwarded for a picture of each publisher.
    pub forwarded: f64,
    /// Nanoseconds of a forwarded packet, the fastest picture: in the others is what else the machine did.
    pub ns_per_packet: f64,
    /// Bytes that the SFU holds for a peer.
    pub bytes_per_peer: f64,
    /// Allocations of a forwarded packet.
    pub allocations_per_packet: f64,
}

/// What signaling of a size costs.
#[derive(Clone, Debug, Serialize)]
pub struct TalkRow {
    /// Rooms.
    pub rooms: usize,
    /// Members of each.
    pub members: usize,
    /// Microseconds of what one says to its room, the fastest slice, as below.
    pub event_us: f64,
    /// Nanoseconds of it for each who is told.
    pub ns_per_delivery: f64,
    /// Microseconds of one who comes and leaves; all others are told of both.
    pub join_us: f64,
}

/// Both tables.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Forwarding.
    pub media: Vec<MediaRow>,
    /// Signaling.
    pub talk: Vec<TalkRow>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "| rooms | publishers | subscribers | forwarded for a picture of each | ns/packet | allocations/packet | bytes a peer |"
        )?;
        writeln!(f, "|---|---|---|---|---|---|---|")?;
        for MediaRow { size, forwarded, ns_per_packet, bytes_per_peer, allocations_per_packet } in &self.media {
            writeln!(
                f,
                "| {} | {} | {} | {forwarded:.0} | {ns_per_packet:.0} | {allocations_per_packet:.4} | {bytes_per_peer:.0} |",
                size.rooms, size.publishers, size.subscribers
            )?;
        }
        writeln!(
            f,
            "\n| rooms | members of each | µs an event | ns of it a delivery | µs to come and leave |\n|---|---|---|---|---|"
        )?;
        self.talk.iter().try_for_each(|row| {
            let TalkRow { rooms, members, event_us, ns_per_delivery, join_us } = row;
            writeln!(f, "| {rooms} | {members} | {event_us:.2} | {ns_per_delivery:.0} | {join_us:.1} |")
        })
    }
}

/// Measures all sizes up to `most`: subscribers, publishers (of which every other sees all, so no more than a tenth), rooms, members. What is said is
/// timed in so many slices.
pub fn run(most: usize, pictures: usize, slices: usize) -> Report {
    let steps = |most: usize| [1, 2, 5, 10, 50, 100, 500].into_iter().filter(move |n| *n <= most);
    let more_subscribers = steps(most).map(|subscribers| Size { rooms: 1, publishers: 1, subscribers });
    let more_publishers = [1, 2, 5, 10, 20].into_iter().filter(|n| *n <= most).map(|publishers| Size {
        rooms: 1,
        publishers,
        subscribers: FEW,
    });
    let more_rooms = steps(most.min(100)).map(|rooms| Size { rooms, publishers: 1, subscribers: FEW });
    let media =
        more_subscribers.chain(more_publishers).chain(more_rooms).map(|size| media_row(size, pictures)).collect();
    let members = steps(most).map(|members| (1, members));
    let rooms = steps(most).map(|rooms| (rooms, 10));
    Report { media, talk: members.chain(rooms).map(|(rooms, members)| talk_row(rooms, members, slices)).collect() }
}

fn talk_row(rooms: usize, members: usize, slices: usize) -> TalkRow {
    let mut talk = Talk::new(rooms, members);
    let last = rooms * members - 1;
    let (_, event_ns) = time(&mut || assert_eq!(talk.say(last), members), slices);
    // The room has a place for whoever comes and goes.
    let mut talk = Talk::new(rooms, members.min(signaling::limits::ROOM_SEATS_DEFAULT - 1));
    let (_, join_ns) = time(&mut || assert!(black_box(talk.come_and_go()) > 0), slices);
    TalkRow {
        rooms,
        members,
        event_us: event_ns / 1e3,
        ns_per_delivery: event_ns / members as f64,
        join_us: join_ns / 1e3,
    }
}

/// Rooms in which pictures are forwarded.
struct Scene {
    hall: Hall,
    publishers: Vec<usize>,
    burst: u32,
    pictures: u64,
    datagrams: Vec<(usize, Vec<u8>)>,
}

impl Scene {
    fn new(size: Size) -> Scene {
        let mut hall = Hall::new(7);
        let mut publishers = Vec::new();
        for room in 0..size.rooms {
            let room = RoomId(1 + room as u64);
            publishers.extend((0..size.publishers).map(|_| hall.join_in(room, &[Kind::Video])));
            for _ in 0..size.subscribers {
                hall.join_in(room, &[]);
            }
        }
        assert!(hall.connect_all(JOIN_LIMIT), "all clients connect within {JOIN_LIMIT:?} of virtual time");
        let burst = if size.publishers > 1 { SMALL_BURST } else { BURST };
        let mut scene = Scene { hall, publishers, burst, pictures: 0, datagrams: Vec::new() };
        for _ in 0..WARM_UP_FRAMES {
            scene.prepare();
            scene.forward();
            scene.hall.settle();
        }
        scene
    }

    /// Seals the next picture of each publisher; not measured.
    fn prepare(&mut self) {
        self.hall.advance(FRAME_TIME);
        let key = self.pictures.is_multiple_of(60 * CLIENT_FRAMES);
        self.datagrams.clear();
        for publisher in &self.publishers {
            let client = &mut self.hall.clients[*publisher];
            for position in 0..self.burst {
                let Some(stamp) = client.next_stamp(Kind::Video) else { continue };
                let frame = Vp8 { picture: (self.pictures & 0x7fff) as u16, first: position == 0, key };
                let payload = media::video_payload(frame, stamp, PACKET_BYTES - RTP_HEADER_BYTES);
                let packet = client.rtp(Kind::Video, position + 1 == self.burst, FRAME_TICKS, &payload);
                self.datagrams.extend(packet.map(|packet| (*publisher, packet)));
            }
        }
        self.pictures += 1;
        if self.pictures.is_multiple_of(CLIENT_FRAMES) {
            self.hall.settle();
        }
    }

    /// One picture of each, which is sent on before the next one's comes; how many packets left.
    fn forward(&mut self) -> u64 {
        let Hall { sfu, now, .. } = &mut self.hall;
        if sfu.deadline().is_some_and(|due| due <= now.mono) {
            sfu.handle(Input::Tick, *now);
        }
        let mut packets = 0;
        for pictures in self.datagrams.chunk_by_mut(|a, b| a.0 == b.0) {
            for (publisher, datagram) in pictures {
                sfu.receive(Hall::path(*publisher), datagram, now.mono, *now);
            }
            while let Some(run) = sfu.next_run(*now) {
                if run.segment > PACKET_BYTES / 2 {
                    packets += run.datagrams().count() as u64;
                }
                black_box(run.bytes);
            }
        }
        packets
    }
}

fn media_row(size: Size, pictures: usize) -> MediaRow {
    let mut scene = Scene::new(size);
    let (mut spent, mut forwarded, mut allocations) = (Vec::new(), 0, 0);
    for _ in 0..pictures {
        scene.prepare();
        let (allocated, began) = (alloc::allocations(), Instant::now());
        let packets = scene.forward();
        let took: Duration = began.elapsed();
        allocations += alloc::allocations() - allocated;
        forwarded += packets;
        spent.push(took.as_nanos() as f64 / packets.max(1) as f64);
    }
    let peers = size.rooms * (size.publishers + size.subscribers);
    let Hall { sfu, .. } = scene.hall;
    let before = alloc::bytes();
    drop(sfu);
    MediaRow {
        size,
        forwarded: forwarded as f64 / pictures.max(1) as f64,
        ns_per_packet: spent.into_iter().fold(f64::INFINITY, f64::min),
        bytes_per_peer: (before - alloc::bytes()) as f64 / peers as f64,
        allocations_per_packet: allocations as f64 / forwarded.max(1) as f64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_forwarded_grows_as_those_who_get_it() {
        let report = run(5, 2, 1);
        for row in &report.media {
            let Size { rooms, publishers, subscribers } = row.size;
            let burst = if publishers > 1 { SMALL_BURST } else { BURST } as usize;
            let expected = rooms * publishers * (publishers - 1 + subscribers) * burst;
            assert_eq!(row.forwarded, expected as f64, "{row:?}");
        }
        assert_eq!((report.media.len(), report.talk.len()), (9, 6));
    }
}
