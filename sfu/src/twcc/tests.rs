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
    // The one whose loss was told comes too late; what follows begins where the last feedback ended.
    recorder.record(0, t + ms(40));
    assert!(!recorder.is_pending());
    recorder.record(3, t + ms(1000));
    assert_eq!(told(&mut recorder), [(2, None), (3, Some(4000))]);
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
    let expected: Told = (0..WINDOW_MAX as u16).map(|seq| (seq, (seq % 3 != 1).then_some(i64::from(seq) * 400))).collect();
    for (seq, ticks) in &expected {
        if let Some(ticks) = ticks {
            recorder.record(*seq, t + TICK * *ticks as u32);
        }
    }
    let mut out = vec![];
    assert!(recorder.write_feedback(1, 2, &mut out));
    assert!(out.len() > FEEDBACK_BYTES_MAX - 8, "no more than needed: {}", out.len());
    assert_eq!([read(&out), told(&mut recorder)].concat(), expected[..WINDOW_MAX - usize::from(WINDOW_MAX as u16 % 3 == 2)]);
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
    assert!(capacities[1..].iter().all(|it| *it == capacities[1]), "{capacities:?}");
}

proptest! {
    /// Whatever comes in whatever order at whatever time, the publisher reads each number once, in order, and of each
    /// that came the time of its first arrival.
    #[test]
    fn goes_around(
        first: u16,
        packets in prop::collection::vec((-20i64..60, 0u64..60_000, prop::bool::weighted(0.05)), 1..400),
        pause in 0usize..40,
    ) {
        let (mut recorder, t) = (Recorder::new(), start());
        let base = i64::from(first) + (1 << 20);
        let (mut newest, mut at, mut next) = (base, 0, base);
        let mut came = BTreeMap::new();
        recorder.record(first, t);
        came.insert(base, 0);
        for (number, (step, micros, long)) in packets.into_iter().enumerate() {
            at += if long && number % 8 == pause % 8 { micros * 200 } else { micros };
            let seq = newest + if step > 3 && !long { 1 } else { step };
            // More than fits the window at once is the business of another test.
            if seq - next >= WINDOW_MAX as i64 {
                continue;
            }
            recorder.record(seq as u16, t + Duration::from_micros(at));
            if seq >= next {
                came.entry(seq).or_insert((at / 250) as i64);
                newest = newest.max(seq);
            }
            if long {
                next = check(&mut recorder, &mut came, next, newest)?;
            }
        }
        check(&mut recorder, &mut came, next, newest)?;
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

/// Compares what is told with what came since `next`; the number to be told of next.
fn check(
    recorder: &mut Recorder,
    came: &mut BTreeMap<i64, i64>,
    next: i64,
    newest: i64,
) -> Result<i64, TestCaseError> {
    let expected: Told = match came.is_empty() {
        true => vec![],
        false => (next..=newest).map(|seq| (seq as u16, came.get(&seq).copied())).collect(),
    };
    came.clear();
    prop_assert_eq!(told(recorder), expected);
    Ok(next.max(newest + 1))
}
