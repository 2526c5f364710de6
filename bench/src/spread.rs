//! A room on one worker, and the same room spread over two: what each of them has to do for a frame of one publisher.

use std::fmt;
use std::hint::black_box;
use std::time::{Duration, Instant};

use serde::Serialize;
use sfu::{Input, Kind, PipeBatch, Request, RoomId};

use crate::alloc;
use crate::forward::{BURST, CLIENT_FRAMES, FRAME_TICKS, FRAME_TIME, JOIN_LIMIT, PACKET_BYTES, WARM_UP_FRAMES};
use crate::hall::Hall;
use crate::media::{self, Vp8};
use crate::peer::RTP_HEADER_BYTES;

/// What a room of this size costs.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Subscribers in all.
    pub subscribers: usize,
    /// Microseconds of a frame of ten packets where all are on one worker, the median.
    pub one_us: f64,
    /// The same of the publisher's worker, which has half of the subscribers.
    pub first_us: f64,
    /// The same of the other one.
    pub second_us: f64,
    /// How much more the room may carry: `one_us` by the larger of the others.
    pub capacity: f64,
    /// Packets that crossed, by packets that were published.
    pub crossed: f64,
}

/// All sizes of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Table(pub Vec<Row>);

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "subscribers  one worker µs/frame  first of two  second of two  capacity  crossed")?;
        for row in &self.0 {
            writeln!(
                f,
                "{:>11}  {:>19.1}  {:>12.1}  {:>13.1}  {:>8.2}  {:>7.2}",
                row.subscribers, row.one_us, row.first_us, row.second_us, row.capacity, row.crossed,
            )?;
        }
        Ok(())
    }
}

/// One publisher, and subscribers on both workers.
pub struct Spread {
    halls: [Hall; 2],
    frames: u64,
    burst: Vec<Vec<u8>>,
    batch: PipeBatch,
    /// Packets that crossed so far.
    pub crossed: u64,
    /// Heap allocations for frames so far, without those of timers.
    pub allocations: u64,
}

/// What a frame took of each worker, and packets that each sent for it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Frame {
    /// Time of each.
    pub spent: [Duration; 2],
    /// RTP datagrams of each.
    pub packets: [u64; 2],
}

impl Spread {
    /// A room with so many subscribers on each worker, forwarding; with none on the second it lives on the first alone.
    ///
    /// # Panics
    /// If they do not connect: then there is nothing to measure.
    pub fn new(subscribers: [usize; 2]) -> Spread {
        let now = Instant::now();
        let mut halls = [Hall::nth(7, 0, now), Hall::nth(8, 1_000_000, now)];
        halls[0].join(&[Kind::Video]);
        for (hall, subscribers) in halls.iter_mut().zip(subscribers) {
            for _ in 0..subscribers {
                hall.join(&[]);
            }
        }
        let mut it =
            Spread { halls, frames: 0, burst: Vec::new(), batch: PipeBatch::default(), crossed: 0, allocations: 0 };
        if subscribers[1] > 0 {
            for (one, other) in [(0, 1), (1, 0)] {
                let others = [other].into_iter().collect();
                it.halls[one].request(Request::Spread { room: RoomId(1), others });
            }
        }
        let end = it.halls[0].now.mono + JOIN_LIMIT;
        while !it.halls.iter().all(|hall| hall.clients.iter().all(|client| client.is_connected())) {
            assert!(it.halls[0].now.mono < end, "all clients connect within {JOIN_LIMIT:?} of virtual time");
            it.advance(Duration::from_millis(10));
        }
        for _ in 0..100 {
            it.advance(Duration::from_millis(10));
        }
        for _ in 0..WARM_UP_FRAMES {
            it.frame();
            it.settle();
        }
        it
    }

    fn advance(&mut self, by: Duration) {
        self.halls.iter_mut().for_each(|hall| hall.advance(by));
        self.settle();
    }

    fn settle(&mut self) {
        loop {
            self.halls.iter_mut().for_each(Hall::settle);
            if !(self.cross(0) | self.cross(1)) {
                return;
            }
        }
    }

    fn cross(&mut self, from: usize) -> bool {
        let to = 1 - from;
        if !self.halls[from].sfu.piped().has(to) {
            return false;
        }
        self.halls[from].sfu.take_pipe(to, &mut self.batch);
        self.crossed += self.batch.packets() as u64;
        let now = self.halls[to].now;
        self.halls[to].sfu.receive_pipe(from, &mut self.batch, now);
        true
    }

    /// The next frame through both workers.
    pub fn frame(&mut self) -> Frame {
        self.halls.iter_mut().for_each(|hall| hall.advance(FRAME_TIME));
        let key = self.frames.is_multiple_of(60 * CLIENT_FRAMES);
        self.burst.clear();
        let client = &mut self.halls[0].clients[0];
        for position in 0..BURST {
            let Some(stamp) = client.next_stamp(Kind::Video) else { continue };
            let frame = Vp8 { picture: (self.frames & 0x7fff) as u16, first: position == 0, key };
            let payload = media::video_payload(frame, stamp, PACKET_BYTES - RTP_HEADER_BYTES);
            self.burst.extend(client.rtp(Kind::Video, position + 1 == BURST, FRAME_TICKS, &payload));
        }
        self.frames += 1;
        if self.frames.is_multiple_of(CLIENT_FRAMES) {
            self.settle();
        }
        let mut frame = Frame::default();
        for worker in [0, 1] {
            let hall = &mut self.halls[worker];
            let began = Instant::now();
            if hall.sfu.deadline().is_some_and(|due| due <= hall.now.mono) {
                hall.sfu.handle(Input::Tick, hall.now);
            }
            let allocated = alloc::allocations();
            if worker == 0 {
                for datagram in &mut self.burst {
                    hall.sfu.receive(Hall::path(0), datagram, hall.now.mono, hall.now);
                }
                if hall.sfu.piped().has(1) {
                    hall.sfu.take_pipe(1, &mut self.batch);
                    self.crossed += self.batch.packets() as u64;
                }
            } else if !self.batch.is_empty() {
                hall.sfu.receive_pipe(0, &mut self.batch, hall.now);
            }
            while let Some(run) = hall.sfu.next_run(hall.now) {
                if run.segment > PACKET_BYTES / 2 {
                    frame.packets[worker] += run.datagrams().count() as u64;
                }
                black_box(run.bytes);
            }
            frame.spent[worker] = began.elapsed();
            self.allocations += alloc::allocations() - allocated;
        }
        frame
    }
}

/// Runs each size, both ways, frame by frame.
pub fn run(subscribers: &[usize], frames: usize) -> Table {
    let median = |mut times: Vec<Duration>| {
        times.sort();
        times.get(times.len() / 2).map_or(f64::NAN, |time| time.as_secs_f64() * 1e6)
    };
    let row = |subscribers: &usize| {
        let mut one = Spread::new([*subscribers, 0]);
        let mut two = Spread::new([subscribers.div_ceil(2), subscribers / 2]);
        let crossed = two.crossed;
        let (mut alone, mut first, mut second) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..frames {
            // By turns, so that both see the same machine.
            alone.push(one.frame().spent[0]);
            let frame = two.frame();
            first.push(frame.spent[0]);
            second.push(frame.spent[1]);
        }
        let (one_us, first_us, second_us) = (median(alone), median(first), median(second));
        let published = frames as f64 * f64::from(BURST);
        let crossed = (two.crossed - crossed) as f64 / published;
        Row {
            subscribers: *subscribers,
            one_us,
            first_us,
            second_us,
            capacity: one_us / first_us.max(second_us),
            crossed,
        }
    };
    Table(subscribers.iter().map(row).collect())
}
