//! Both halves of an association against each other, over a network that loses, in virtual time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::inbound::Inbound;
use super::outbound::{Message, Outbound, STALL_MAX};
use super::*;

const STEP: Duration = Duration::from_millis(10);

/// A sender and a receiver with a network between them, in which packets take [`STEP`].
struct Way {
    now: Instant,
    outbound: Outbound,
    inbound: Inbound,
    came: Vec<(u16, Vec<u8>)>,
}

impl Way {
    /// The TSNs wrap soon.
    fn new() -> Way {
        let (now, first) = (Instant::now(), u32::MAX - 20);
        let outbound = Outbound::new(first, RECEIVE_BYTES_MAX as u32, true, now);
        Way { now, outbound, inbound: Inbound::new(first), came: Vec::new() }
    }

    fn send(&mut self, stream: u16, ordered: bool, reliability: Reliability, bytes: Vec<u8>) {
        if !self.outbound.has_room(bytes.len(), reliability) {
            return;
        }
        let (protocol, bytes, queued_at) = (BINARY, bytes.into(), self.now);
        self.outbound.push(Message { stream, protocol, ordered, reliability, bytes, queued_at });
    }

    /// One step, in which each packet is lost if `loses` says so.
    fn step(&mut self, mut loses: impl FnMut() -> bool) {
        self.outbound.tick(self.now);
        let mut packets = Vec::new();
        loop {
            let mut packet = Vec::new();
            wire::begin(&mut packet, 1);
            if !self.outbound.write(&mut packet, self.now) {
                let due = self.outbound.deadline(self.now) == Some(self.now);
                assert!(!due || self.outbound.is_stalled(self.now), "what could be sent is");
                break;
            }
            assert!(packet.len() <= wire::PACKET_BYTES_MAX);
            packets.push(packet);
        }
        self.now += STEP;
        for packet in packets {
            if loses() {
                continue;
            }
            for chunk in wire::chunks(&packet[wire::HEADER_BYTES..]) {
                match chunk.kind {
                    wire::DATA => self.inbound.data(chunk.flags, chunk.body, self.now).unwrap(),
                    _ => self.inbound.forward(wire::u32_at(chunk.body, 0).unwrap(), self.now).unwrap(),
                }
            }
            self.inbound.packet_ended(self.now);
        }
        while let Some(received) = self.inbound.pop(self.now) {
            self.came.push((received.stream, received.bytes));
        }
        let mut sack = Vec::new();
        if self.inbound.write_sack(&mut sack, self.now) && !loses() {
            let body = &sack[4..];
            let (blocks, _) = body[12..].as_chunks::<4>();
            let gaps = blocks.iter().map(|[a, b, c, d]| (u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d])));
            let (cumulative, window) = (wire::u32_at(body, 0).unwrap(), wire::u32_at(body, 4).unwrap());
            self.outbound.acknowledge(cumulative, window, gaps, self.now);
        }
    }
}

fn any_reliability() -> impl Strategy<Value = Reliability> {
    prop_oneof![
        2 => Just(Reliability::Reliable),
        2 => (0u32..3).prop_map(Reliability::Resends),
        1 => (0u64..200).prop_map(|ms| Reliability::Lifetime(Duration::from_millis(ms))),
    ]
}

/// Numbered messages, so that each is known again.
fn body(number: usize, len: usize) -> Vec<u8> {
    let mut body = vec![number as u8; len + 4];
    body[..4].copy_from_slice(&(number as u32).to_be_bytes());
    body
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, max_shrink_iters: 500, ..ProptestConfig::default() })]

    /// Whatever is lost: reliable messages all come, once, and in order where they are ordered; others come once or not
    /// at all, and never in part. In the end nobody keeps anything.
    #[test]
    fn messages_come_as_hard_as_they_are_tried(
        messages in prop::collection::vec(
            (0u16..4, any::<bool>(), any_reliability(), prop_oneof![0usize..2_000, 0usize..30_000], 0usize..4), 1..60),
        losses in prop::collection::vec(any::<u8>(), 1..400),
        loss in 0u8..100,
    ) {
        let mut way = Way::new();
        let mut at = 0;
        let mut loses = || {
            at += 1;
            losses[at % losses.len()] < loss
        };
        let mut sent = BTreeMap::new();
        for (number, (stream, ordered, reliability, len, steps)) in messages.iter().copied().enumerate() {
            sent.insert(number as u32, (stream, ordered, reliability, body(number, len)));
            way.send(stream, ordered, reliability, body(number, len));
            for _ in 0..steps {
                way.step(&mut loses);
            }
        }
        for _ in 0..1_000 {
            way.step(&mut loses);
        }
        // In the end the network mends.
        for _ in 0..10_000 {
            if way.outbound.is_idle() {
                break;
            }
            way.step(|| false);
        }
        prop_assert!(way.outbound.is_idle());
        way.outbound.assert_empty();
        way.inbound.assert_empty();
        let mut last = BTreeMap::new();
        for (stream, bytes) in &way.came {
            let number = wire::u32_at(bytes, 0).unwrap();
            let (expected, ordered, _, whole) = sent.remove(&number).expect("each comes once");
            prop_assert_eq!((*stream, bytes), (expected, &whole));
            if ordered {
                prop_assert!(last.insert(expected, number).is_none_or(|last| last < number), "in order");
            }
        }
        for (number, (_, _, reliability, whole)) in sent {
            let fits = whole.len() + OVERHEAD_BYTES <= LOSSY_BYTES_MAX;
            prop_assert!(reliability != Reliability::Reliable || !fits, "message {number} is missing");
        }
    }

    /// Whatever chunks come, what is kept has its bound, and the window that is told is never larger than what is free.
    #[test]
    fn any_chunks_are_taken_within_bounds(
        chunks in prop::collection::vec((0u32..6_000, any::<u8>(), 0u16..4, 0usize..1_200, prop::bool::weighted(0.02)), 1..2_000),
    ) {
        let now = Instant::now();
        let mut inbound = Inbound::new(u32::MAX - 100);
        for (tsn, flags, stream, len, forward) in chunks {
            let tsn = tsn.wrapping_sub(150);
            if forward {
                prop_assume!(inbound.forward(tsn, now).is_ok());
            } else {
                let mut body = tsn.to_be_bytes().to_vec();
                body.extend([0, stream as u8, 0, 0, 0, 0, 0, 53]);
                body.resize(12 + len, 1);
                prop_assume!(inbound.data(flags, &body, now).is_ok());
            }
            inbound.assert_bounds();
        }
    }
}

#[test]
fn a_long_message_that_is_given_up_half_sent_is_forgotten_by_both() {
    let mut way = Way::new();
    way.send(1, true, Reliability::Resends(0), vec![7; 100 << 10]);
    way.step(|| false);
    // The second flight loses its first packet, which costs the message.
    let mut packets = 0;
    way.step(|| {
        packets += 1;
        packets == 1
    });
    way.send(1, true, Reliability::Reliable, vec![8; 10]);
    for _ in 0..100 {
        way.step(|| false);
    }
    assert_eq!(way.came, [(1, vec![8; 10])], "the next of the stream does not wait for it");
    assert!(way.outbound.is_idle());
    way.outbound.assert_empty();
    way.inbound.assert_empty();
}

#[test]
fn an_unordered_message_overtakes_what_is_missing() {
    let mut way = Way::new();
    way.send(1, true, Reliability::Reliable, vec![1; 1_000]);
    way.step(|| true);
    way.send(2, false, Reliability::Resends(0), vec![2; 1_000]);
    way.step(|| false);
    assert_eq!(way.came, [(2, vec![2; 1_000])]);
}

#[test]
fn what_is_not_acknowledged_for_long_is_stalled_and_what_is_slow_is_not() {
    let mut way = Way::new();
    let start = way.now;
    way.send(1, true, Reliability::Reliable, vec![1; 10]);
    while way.now < start + STALL_MAX {
        assert!(!way.outbound.is_stalled(way.now));
        way.step(|| true);
    }
    assert!(way.outbound.is_stalled(way.now));
    let mut way = Way::new();
    let mut step = 0u32;
    for _ in 0..20_000 {
        way.send(1, true, Reliability::Reliable, vec![1; 10]);
        way.step(|| {
            step += 1;
            !step.is_multiple_of(3)
        });
        assert!(!way.outbound.is_stalled(way.now));
    }
}

#[test]
fn a_window_of_zero_is_probed_by_one_fragment_and_what_is_queued_flows_when_it_opens() {
    let mut way = Way::new();
    way.outbound = Outbound::new(u32::MAX - 20, 0, true, way.now);
    let bytes: Arc<[u8]> = vec![1; 10_000].into();
    way.send(1, true, Reliability::Reliable, bytes.to_vec());
    let mut packet = Vec::new();
    wire::begin(&mut packet, 1);
    assert!(way.outbound.write(&mut packet, way.now));
    let mut second = Vec::new();
    wire::begin(&mut second, 1);
    assert!(!way.outbound.write(&mut second, way.now));
    for _ in 0..200 {
        way.step(|| false);
    }
    assert_eq!(way.came, [(1, bytes.to_vec())]);
}
