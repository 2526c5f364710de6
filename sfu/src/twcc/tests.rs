use super::*;
use proptest::prelude::*;
use rtc::rtcp::transport_feedbacks::transport_layer_cc::{PacketStatusChunk, SymbolTypeTcc, TransportLayerCc};
use std::collections::BTreeMap;

/// The tests' own time; only differences count.
fn start() -> Instant {
    Instant::now()
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Each packet told of, with the time it came, in ticks since the recorder's origin.
type Told = Vec<(u16, Option<i64>)>;

/// Everything that waits, as the publisher reads it.
fn told(recorder: &mut Recorder) -> Told {
    let mut told = vec![];
    let mut out = vec![];
    while recorder.write_feedback(1, 2, &mut out) {
        assert!(out.len() <= FEEDBACK_BYTES_MAX && out.len().is_multiple_of(4));
        told.extend(read(&out));
        assert_eq!(read_by_them(&out), read(&out));
        out.clear();
    }
    assert!(out.is_empty() && !recorder.is_pending());
    told
}

fn read(bytes: &[u8]) -> Told {
    let mut packets = rtcp::parse(bytes);
    let Some(rtcp::Packet::TransportFeedback(feedback)) = packets.next() else { panic!("no feedback") };
    assert!(packets.next().is_none() && feedback.is_complete() && feedback.status_count > 0);
    assert_eq!((feedback.sender, feedback.media), (1, 2));
    let mut ticks = i64::from(feedback.reference_time) * 256;
    feedback
        .statuses()
        .map(|(seq, delta)| {
            ticks += i64::from(delta.unwrap_or(0));
            (seq, delta.map(|_| ticks))
        })
        .collect()
}

/// What another implementation reads in our bytes.
fn read_by_them(bytes: &[u8]) -> Told {
    let packets = rtc::rtcp::packet::unmarshal(&mut &bytes[..]).unwrap();
    let feedback = packets[0].as_any().downcast_ref::<TransportLayerCc>().unwrap();
    let mut symbols = vec![];
    for chunk in &feedback.packet_chunks {
        match chunk {
            PacketStatusChunk::RunLengthChunk(run) => {
                symbols.extend(std::iter::repeat_n(run.packet_status_symbol, run.run_length.into()));
            }
            PacketStatusChunk::StatusVectorChunk(vector) => symbols.extend(&vector.symbol_list),
        }
    }
    let mut ticks = i64::from(feedback.reference_time) * 256;
    let mut deltas = feedback.recv_deltas.iter();
    let told = symbols.iter().take(feedback.packet_status_count.into()).enumerate().map(|(at, symbol)| {
        let seq = feedback.base_sequence_number.wrapping_add(at as u16);
        if *symbol == SymbolTypeTcc::PacketNotReceived {
            return (seq, None);
        }
        ticks += deltas.next().unwrap().delta / 250;
        (seq, Some(ticks))
    });
    told.collect()
}

#[test]
fn nothing_came_nothing_told() {
    let mut recorder = Recorder::new();
    let mut out = vec![1, 2, 3];
    assert!(!recorder.write_feedback(1, 2, &mut out));
    recorder.record(65_535, start());
    assert!(recorder.write_feedback(1, 2, &mut out));
    assert_eq!(read(&out[3..]), [(65_535, Some(0))]);
    assert!(!recorder.write_feedback(1, 2, &mut out));
}

#[test]
fn losses_and_reordering_across_a_wrap() {
    let (mut recorder, t) = (Recorder::new(), start());
    for (seq, at) in [(65_534, 0), (1, 10), (65_535, 20), (1, 30)] {
        recorder.record(seq, t + ms(at));
    }
    assert_eq!(told(&mut recorder), [(65_534, Some(0)), (65_535, Some(80)), (0, None), (1, Some(40))]);
    // The one whose loss was told comes late: it is told of, and those behind it again.
    recorder.record(0, t + ms(40));
    recorder.record(0, t + ms(45));
    assert_eq!(told(&mut recorder), [(0, Some(160)), (1, Some(40))]);
    recorder.record(1, t + ms(46));
    assert!(!recorder.is_pending(), "a duplicate is no news");
    recorder.record(3, t + ms(1000));
    assert_eq!(told(&mut recorder), [(2, None), (3, Some(4000))]);
    recorder.record(2, t + ms(1500));
    assert_eq!(told(&mut recorder), [(2, Some(6000)), (3, Some(4000))]);
    recorder.record(5, t + ms(1501));
    assert_eq!(told(&mut recorder), [(4, None), (5, Some(6004))]);
    recorder.record(0, t + ms(1502));
    assert!(!recorder.is_pending(), "all of its time are forgotten");
}

/// Packets with a delay of up to half a second that overtake each other: none that came stays lost.
#[test]
fn what_came_within_half_a_second_is_not_lost() {
    let (mut recorder, t) = (Recorder::new(), start());
    let lost = |seq: u64| seq % 50 == 7;
    let mut packets: Vec<(u64, u64)> = (0..3_000)
        .filter(|seq| !lost(*seq))
        .map(|seq| (2 * seq + seq.wrapping_mul(0x9e37_79b9_7f4a_7c15) % 450, seq))
        .collect();
    packets.sort_unstable();
    let (mut known, mut said) = (BTreeMap::new(), 0);
    let mut due = 50;
    for (at, seq) in packets {
        if at >= due {
            due = at + 50;
            for (seq, came) in told(&mut recorder) {
                said += 1;
                let before = known.entry(seq).or_insert(came);
                assert!(before.is_none() || *before == came, "what came is not taken back");
                *before = came;
            }
        }
        recorder.record(seq as u16, t + ms(at));
    }
    known.extend(told(&mut recorder));
    let missing: Vec<u64> = known.iter().filter(|(_, came)| came.is_none()).map(|(seq, _)| u64::from(*seq)).collect();
    assert_eq!(missing, (0..3_000).filter(|seq| lost(*seq)).collect::<Vec<_>>());
    assert!(said < 10 * 3_000, "{said}: each is told of in the feedbacks of half a second");
}

#[test]
fn feedback_packets_are_counted() {
    let (mut recorder, t) = (Recorder::new(), start());
    for count in 0..300u16 {
        recorder.record(count, t);
        let mut out = vec![];
        assert!(recorder.write_feedback(1, 2, &mut out));
        assert_eq!(out[19], count as u8);
    }
}

#[test]
fn a_pause_longer_than_a_delta_takes_another_packet() {
    let (mut recorder, t) = (Recorder::new(), start());
    recorder.record(0, t);
    recorder.record(2, t + ms(8191));
    recorder.record(4, t + ms(8191 + 8192));
    let mut out = vec![];
    assert!(recorder.write_feedback(1, 2, &mut out));
    assert_eq!(read(&out), [(0, Some(0)), (1, None), (2, Some(32_764))]);
    assert_eq!(told(&mut recorder), [(3, None), (4, Some(65_532))]);
}

#[test]
fn reference_time_wraps() {
    let (mut recorder, t) = (Recorder::new(), start());
    recorder.record(0, t);
    told(&mut recorder);
    recorder.record(1, t + ms(64 << 23));
    let mut out = vec![];
    assert!(recorder.write_feedback(1, 2, &mut out));
    assert_eq!(read(&out), [(1, Some(-(1 << 23) * 256))]);
    recorder.record(2, t + ms((64 << 24) + 64));
    out.clear();
    assert!(recorder.write_feedback(1, 2, &mut out));
    assert_eq!(read(&out), [(2, Some(256))]);
}

#[test]
fn a_full_window_takes_several_packets() {
    let (mut recorder, t) = (Recorder::new(), start());
    let expected: Told =
        (0..WINDOW_MAX as u16 - 1).map(|seq| (seq, (seq % 3 != 1).then_some(i64::from(seq) * 400))).collect();
    for (seq, ticks) in &expected {
        if let Some(ticks) = ticks {
            recorder.record(*seq, t + TICK * *ticks as u32);
        }
    }
    let mut out = vec![];
    assert!(recorder.write_feedback(1, 2, &mut out));
    assert!(out.len() > FEEDBACK_BYTES_MAX - 8, "no more than needed: {}", out.len());
    assert_eq!([read(&out), told(&mut recorder)].concat(), expected);
}

#[test]
fn a_jump_begins_anew() {
    let (mut recorder, t) = (Recorder::new(), start());
    recorder.record(0, t);
    recorder.record(WINDOW_MAX as u16 - 1, t);
    assert_eq!(told(&mut recorder).len(), WINDOW_MAX);
    recorder.record(WINDOW_MAX as u16, t);
    recorder.record(2 * WINDOW_MAX as u16, t + ms(64));
    assert_eq!(told(&mut recorder), [(2 * WINDOW_MAX as u16, Some(256))]);
}

#[test]
fn a_warm_recorder_allocates_nothing() {
    let (mut recorder, t) = (Recorder::new(), start());
    let mut out = Vec::with_capacity(4 * FEEDBACK_BYTES_MAX);
    let mut capacities = vec![];
    for round in 0..50u64 {
        for seq in 0..100 {
            recorder.record((round * 100 + seq) as u16, t + ms(round * 100 + seq));
        }
        out.clear();
        while recorder.write_feedback(1, 2, &mut out) {}
        capacities.push((recorder.arrivals.capacity(), recorder.symbols.capacity()));
    }
    let warm = &capacities[10..];
    assert!(warm.iter().all(|it| *it == warm[0]), "{capacities:?}");
}

proptest! {
    /// Whatever comes in whatever order at whatever time, the publisher reads each number, in order, with the time of its
    /// first arrival if it came; and again from the first on that came late.
    #[test]
    fn goes_around(
        first: u16,
        packets in prop::collection::vec((-20i64..60, 0u64..60_000, prop::bool::weighted(0.05)), 1..400),
        pause in 0usize..40,
    ) {
        let (mut recorder, t) = (Recorder::new(), start());
        let base = i64::from(first) + (1 << 20);
        let mut model = Model { newest: base, forgotten: base, next: base, came: BTreeMap::from([(base, 0)]) };
        let mut at = 0;
        recorder.record(first, t);
        for (number, (step, micros, long)) in packets.into_iter().enumerate() {
            at += if long && number % 8 == pause % 8 { micros * 200 } else { micros };
            let seq = model.newest + if step > 3 && !long { 1 } else { step };
            recorder.record(seq as u16, t + Duration::from_micros(at));
            model.record(seq, (at / 250) as i64);
            if long {
                model.check(&mut recorder)?;
            }
        }
        model.check(&mut recorder)?;
    }

    #[test]
    fn any_numbers_never_panic(seqs in prop::collection::vec((any::<u16>(), any::<u32>(), 0u8..8), 0..100)) {
        let (mut recorder, t) = (Recorder::new(), start());
        for (seq, micros, call) in seqs {
            recorder.record(seq, t + Duration::from_micros(micros.into()));
            prop_assert!(recorder.arrivals.len() <= WINDOW_MAX);
            if call == 0 {
                told(&mut recorder);
            }
        }
        told(&mut recorder);
    }
}

/// What a recorder should know, in the simplest words; it never fills the window.
struct Model {
    newest: i64,
    /// What lies before it is forgotten.
    forgotten: i64,
    /// The number to be told of next.
    next: i64,
    came: BTreeMap<i64, i64>,
}

impl Model {
    fn record(&mut self, seq: i64, ticks: i64) {
        if seq >= self.forgotten && !self.came.contains_key(&seq) {
            self.came.insert(seq, ticks);
            self.newest = self.newest.max(seq);
            self.next = self.next.min(seq);
        }
    }

    fn check(&mut self, recorder: &mut Recorder) -> Result<(), TestCaseError> {
        let numbers = self.next..=self.newest;
        let expected: Told = numbers.map(|seq| (seq as u16, self.came.get(&seq).copied())).collect();
        prop_assert_eq!(told(recorder), expected);
        self.next = self.newest + 1;
        let old = self.came[&self.newest] - (LATE_MAX.as_micros() / TICK.as_micros()) as i64;
        let old = self.came.iter().filter(|(_, at)| **at < old).map(|(seq, _)| seq + 1).max();
        self.forgotten = self.forgotten.max(old.unwrap_or(0));
        Ok(())
    }
}
