//! Whatever a stranger or a hostile participant sends is dropped and counted, and the others do not notice.

use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{Config as Cases, TestRunner};
use sfu::{CloseReason, Drop, Event, Kind, PeerId, Refusal, Request, rtcp};

use crate::tab::{LEVEL_ID, MID_ID, OPUS, Tab, VP8, VP8_RTX, offered_line, path, plain_rtp, vp8};
use crate::world::World;

const BOTH: [Kind; 2] = [Kind::Audio, Kind::Video];

/// A ClientHello of nobody.
fn client_hello(world: &World) -> Vec<u8> {
    let mut stranger = Tab::new(999, world.now.mono);
    stranger.shake(world.now.mono);
    stranger.out.pop_front().unwrap()
}

fn plis(tab: &Tab) -> usize {
    let packets = tab.rtcp.iter().flat_map(|compound| rtcp::parse(compound));
    packets.filter(|packet| matches!(packet, rtcp::Packet::Pli { .. })).count()
}

/// M1, M2.
#[test]
fn a_client_hello_from_an_address_without_a_check_is_nothing() {
    let mut world = World::new();
    let hello = client_hello(&world);
    world.join(1, &BOTH);
    for round in 0..10u16 {
        for port in 0..1_000 {
            world.send_from(path(77, 10_000 + port), hello.clone());
        }
        if round == 3 {
            world.run_ms(1_000);
            assert!(world.tabs[0].is_connected(), "the real handshake completes amid the flood");
        }
    }
    assert_eq!(world.drops(Drop::UnknownPath), 10_000);
    assert_eq!(world.sfu.counters().dtls_connected, 1);
    assert!(world.sfu.next_run(world.now).is_none(), "no ServerHello to a stranger");
    world.join(1, &BOTH);
    world.run_ms(1_000);
    world.assert_media(0, 1);
}

/// A hello from the client's own address, after the handshake: whoever forges it ends nothing.
#[test]
fn forged_dtls_from_the_validated_address_does_not_end_the_call() {
    let mut world = World::call(2, &BOTH);
    let hello = client_hello(&world);
    let alert = vec![21, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 9, 0, 2, 2, 40];
    let lie = vec![22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 9, 0xff, 0xff, 1, 0xff, 0xff, 0xff];
    for datagram in
        [hello, alert, lie, vec![22], vec![63; 1_200], vec![20, 0xfe, 0xfd, 0, 1, 0, 0, 0, 0, 0, 9, 0, 1, 1]]
    {
        for _ in 0..20 {
            world.send(0, datagram.clone());
        }
        world.run_ms(100);
        assert_eq!(world.events, [], "after {:02x?}", &datagram[..datagram.len().min(16)]);
        world.assert_media(0, 1);
        world.assert_media(1, 0);
    }
}

/// M3.
#[test]
fn a_certificate_other_than_the_fingerprint_said_ends_that_peer_alone() {
    let mut world = World::call(2, &BOTH);
    let index = world.enter(1, false);
    world.tabs[index].add(Kind::Audio);
    world.tabs[index].fingerprint[31] ^= 1;
    world.offer(index);
    world.run_ms(1_000);
    let closed = Event::Closed { peer: PeerId(index as u64), reason: CloseReason::Dtls };
    assert_eq!(world.events.iter().filter(|event| **event == closed).count(), 1);
    assert_eq!((world.sfu.counters().dtls_failed, world.sfu.gauges().peers), (1, 2));
    world.assert_media(0, 1);
}

/// M3: a goodbye amid the call.
#[test]
fn a_close_notify_ends_that_peer_alone() {
    let mut world = World::call(3, &BOTH);
    let now = world.now.mono;
    world.tabs[2].close(now);
    world.run_ms(200);
    let closed = Event::Closed { peer: PeerId(2), reason: CloseReason::Dtls };
    assert!(world.events.contains(&closed), "{:?}", world.events);
    assert_eq!(world.sfu.gauges().peers, 2);
    world.assert_media(0, 1);
}

/// M3: handshakes of garbage, from an address that is validated.
#[test]
fn nonsense_in_the_handshake_is_survived() {
    let mut runner = TestRunner::new(Cases { cases: 24, ..Cases::default() });
    let strategy = prop::collection::vec((20u8..64, prop::collection::vec(any::<u8>(), 0..300), 0usize..4), 1..30);
    runner
        .run(&strategy, |datagrams| {
            let mut world = World::new();
            world.join(1, &[Kind::Audio]);
            world.tabs[0].shakes = false;
            world.run_ms(100);
            let hello = client_hello(&world);
            for (first, mut body, kind) in datagrams {
                match kind {
                    // A hello with some bytes changed.
                    0 => {
                        let mut changed = hello.clone();
                        for (at, byte) in body.iter().take(6).enumerate() {
                            let place = (usize::from(*byte) * 7 + at) % changed.len();
                            changed[place] = changed[place].wrapping_add(*byte);
                        }
                        world.send(0, changed);
                    }
                    // A fragment of a message of 2^24 bytes.
                    1 => {
                        let mut fragment =
                            vec![22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, first, 0, 0, 1, 0xff, 0xff, 0xff, 0, 0];
                        fragment.extend([first, 0x80, 0, 0, body.len() as u8]);
                        fragment.append(&mut body);
                        let len = (fragment.len() - 13) as u16;
                        fragment[11..13].copy_from_slice(&len.to_be_bytes());
                        world.send(0, fragment);
                    }
                    _ => {
                        body.insert(0, first);
                        world.send(0, body);
                    }
                }
            }
            world.run_ms(50);
            prop_assert_eq!(world.sfu.counters().peer_panics, 0);
            Ok(())
        })
        .unwrap();
}

/// M4.
#[test]
fn checks_with_a_wrong_password_or_an_unknown_name_change_nothing() {
    let mut world = World::call(2, &BOTH);
    let gauges = world.sfu.gauges();
    let (ufrag, pwd) = world.tabs[0].remote.clone().unwrap();
    let own = world.tabs[0].ufrag.clone();
    let wrong = world.tabs[0].check_as(&format!("{ufrag}:{own}"), "not the password of anybody", true);
    let other_client = world.tabs[0].check_as(&format!("{ufrag}:zzzz"), &pwd, true);
    world.send(0, wrong.clone());
    world.send_from(path(50, 1), wrong);
    assert_eq!(world.drops(Drop::StunIntegrity), 2);
    world.send_from(path(50, 1), other_client);
    for guess in 0..10_000u32 {
        let check = world.tabs[1].check_as(&format!("{guess:08x}:{own}"), &pwd, true);
        world.send_from(path(51, guess as u16), check);
    }
    assert_eq!(world.drops(Drop::StunUnknownUfrag), 10_001);
    assert!(world.sfu.next_run(world.now).is_none(), "none of them is answered");
    assert_eq!(world.sfu.gauges(), gauges);
    world.assert_media(0, 1);
    world.assert_media(1, 0);
}

/// M4.
#[test]
fn malformed_stun_is_dropped() {
    let mut world = World::call(2, &BOTH);
    let check = world.tabs[0].check(true);
    let before = world.drops(Drop::StunMalformed);
    for len in 1..20 {
        world.send(0, check[..len].to_vec());
    }
    assert_eq!(world.drops(Drop::StunMalformed), before + 19);
    for at in 0..check.len() {
        let mut changed = check.clone();
        changed[at] ^= 0x41;
        world.send_from(path(60, at as u16), changed);
    }
    while world.sfu.next_run(world.now).is_some() {}
    world.assert_media(0, 1);
}

/// M5: packets that open, since their sender has the key, and are nonsense behind that.
#[test]
fn nonsense_under_the_right_key_reaches_no_subscriber_as_harm() {
    let mut world = World::call(3, &BOTH);
    let video = world.tabs[0].sources[1];
    let other = world.tabs[1].sources[1].ssrc;
    let mut index = video.index;
    let mut send = |world: &mut World, plain: Vec<u8>, header_len: usize, ssrc: u32| {
        index += 1;
        let mut plain = plain;
        plain[2..4].copy_from_slice(&(index as u16).to_be_bytes());
        let sealed = world.tabs[0].seal(plain, header_len, ssrc, index);
        world.send(0, sealed);
        world.settle();
    };
    let mid: (u8, &[u8]) = (MID_ID, b"1");
    // Padding that lies, on its own and behind a payload.
    for tail in [&[0u8][..], &[255], &[1, 2, 3, 9], &[]] {
        let mut plain = plain_rtp(video.ssrc, VP8, 0, 1, &[mid], tail);
        plain[0] |= 0x20;
        let header_len = plain.len() - tail.len();
        send(&mut world, plain, header_len, video.ssrc);
    }
    assert_eq!(world.drops(Drop::RtpMalformed), 4);
    // Payload types of nobody, and of another line.
    for pt in [0, 35, 77, OPUS, 127] {
        let plain = plain_rtp(video.ssrc, pt, 0, 1, &[mid], &[0x10; 20]);
        let header_len = plain.len() - 20;
        send(&mut world, plain, header_len, video.ssrc);
    }
    assert_eq!(world.drops(Drop::UnknownPayloadType), 5);
    // RTX of nothing and of one byte; padding only; extension ids 15 and 0; an extension that ends in itself.
    for (pt, payload) in [(VP8_RTX, &[][..]), (VP8_RTX, &[1]), (VP8, &[]), (VP8, &[0x90, 0xf0])] {
        let plain = plain_rtp(video.ssrc, pt, 0, 1, &[mid, (15, &[1, 2])], payload);
        let header_len = plain.len() - payload.len();
        send(&mut world, plain, header_len, video.ssrc);
    }
    let mut lying = plain_rtp(video.ssrc, VP8, 0, 1, &[(LEVEL_ID, &[0; 3])], &[0x10; 20]);
    lying[16] = LEVEL_ID << 4 | 15;
    let header_len = lying.len() - 20;
    send(&mut world, lying, header_len, video.ssrc);
    // A mid of another line and of no line, on an SSRC not seen before; the SSRC of another's video.
    for (mid, ssrc) in [(&b"0"[..], 4_711), (b"nobody", 4_712), (b"1", other)] {
        let plain = plain_rtp(ssrc, VP8, 0, 1, &[(MID_ID, mid)], &[0x10; 20]);
        let header_len = plain.len() - 20;
        send(&mut world, plain, header_len, ssrc);
    }
    assert_eq!(world.sfu.counters().peer_panics, 0);
    assert_eq!(world.sfu.gauges().peers, 3);
    world.assert_media(1, 2);
    world.assert_media(1, 0);
}

/// M5: a datagram that no run could take would otherwise cost every subscriber its peer.
#[test]
fn a_packet_as_long_as_a_datagram_can_be_is_dropped() {
    let mut world = World::call(3, &BOTH);
    world.assert_media(0, 1);
    for len in [2_000, 9_000, 59_000, 60_000, 65_400] {
        world.media(0, 1, 3_000, &vp8(true, 1, len));
        world.settle();
    }
    assert_eq!((world.sfu.counters().peer_panics, world.sfu.gauges().peers), (0, 3));
    assert!(world.drops(Drop::RtpMalformed) >= 3);
    world.assert_media(0, 1);
    world.assert_media(1, 2);
}

/// M5: header lies that are seen before any key is used.
#[test]
fn rtp_headers_that_lie_are_dropped() {
    let mut world = World::call(2, &BOTH);
    let packet = world.tabs[0].rtp(1, 3_000, &vp8(true, 1, 100));
    let before = world.drops(Drop::RtpMalformed) + world.drops(Drop::Authentication);
    let mut lies: Vec<Vec<u8>> = (2..13).map(|len| packet[..len].to_vec()).collect();
    let mut csrc = packet.clone();
    csrc[0] |= 0x0f;
    lies.push(csrc[..40].to_vec());
    let mut extension = packet.clone();
    extension[14..16].copy_from_slice(&[0xff, 0xff]);
    lies.push(extension);
    let count = lies.len() as u64;
    for lie in lies {
        world.send(0, lie);
    }
    assert_eq!(world.drops(Drop::RtpMalformed) + world.drops(Drop::Authentication), before + count);
    world.send(0, packet);
    world.settle();
    world.assert_media(0, 1);
}

/// M5: more streams than a peer may have.
#[test]
fn an_ssrc_flood_stays_within_its_peer() {
    let mut world = World::call(2, &BOTH);
    world.assert_media(0, 1);
    for ssrc in 10_000..10_500 {
        let plain = plain_rtp(ssrc, VP8, 5, 1, &[(MID_ID, b"1")], &[0x10; 20]);
        let header_len = plain.len() - 20;
        let sealed = world.tabs[0].seal(plain, header_len, ssrc, 5);
        world.send(0, sealed);
    }
    assert!(world.drops(Drop::TooManyStreams) >= 400);
    world.assert_media(1, 0);
    world.assert_media(0, 1);
}

/// M6, M10: whoever asks for keyframes and lets nothing be heard of them gets them ever more seldom; nobody else waits for it.
#[test]
fn a_storm_of_keyframe_requests_reaches_the_publisher_ever_more_seldom() {
    let mut world = World::call(3, &BOTH);
    world.assert_media(0, 1);
    let ssrc = world.tabs[1].got.last().unwrap().ssrc;
    world.assert_media(0, 2);
    let video = |world: &World| world.tabs[2].got.iter().rfind(|got| got.payload_type == VP8).unwrap().ssrc;
    let other = video(&world);
    let (before, requests) = (plis(&world.tabs[0]), world.sfu.counters().keyframe_requests_in);
    let mut answered = before;
    let mut answer = |world: &mut World| {
        let asked = plis(&world.tabs[0]);
        if std::mem::replace(&mut answered, asked) != asked {
            world.media(0, 1, 3_000, &vp8(true, 1, 50));
            world.settle();
        }
        asked
    };
    let mut asked = 0;
    for step in 0..60_000 {
        let mut storm = Vec::new();
        if step % 2 == 0 {
            rtcp::write_pli(1, ssrc, &mut storm);
        } else {
            rtcp::write_fir(1, &[(ssrc, step as u8); 5], &mut storm);
        }
        world.rtcp(1, storm);
        world.run_ms(1);
        asked = answer(&mut world) - before;
    }
    assert_eq!(asked, 7, "at once, then after 0.5, 1 … 16 s");
    assert_eq!(world.sfu.counters().keyframe_requests_in - requests, 30_000 + 5 * 30_000);

    let mut request = Vec::new();
    rtcp::write_pli(1, other, &mut request);
    world.rtcp(2, request);
    world.run_ms(10);
    assert_eq!(answer(&mut world) - before, 8, "another's is heard at once");

    world.run_ms(1_000);
    for highest in [1, 2] {
        let block = rtcp::ReportBlock { ssrc, extended_highest_sequence: highest, ..Default::default() };
        let mut report = Vec::new();
        rtcp::write_receiver_report(1, &[block], &mut report);
        rtcp::write_pli(1, ssrc, &mut report);
        world.rtcp(1, report);
        world.run_ms(600);
        assert_eq!(answer(&mut world) - before, 8 + highest as usize, "and its own, when packets arrive");
    }
}

/// M6: what is asked for that was never sent, and all that was sent at once.
#[test]
fn a_storm_of_nacks_is_held_to_a_budget() {
    let mut world = World::call(2, &BOTH);
    world.media(0, 1, 3_000, &vp8(true, 1, 1_100));
    for _ in 0..600 {
        world.media(0, 1, 3_000, &vp8(false, 1, 1_100));
        world.settle();
    }
    let ssrc = world.tabs[1].got.last().unwrap().ssrc;
    let sent = world.tabs[1].got.len();
    for _ in 0..200 {
        let mut all = Vec::new();
        for chunk in 0..16u32 {
            let start = (chunk * 4_096) as u16;
            rtcp::write_nack(1, ssrc, (0..4_096).map(|n| start.wrapping_add(n)), &mut all);
        }
        world.rtcp(1, all);
        world.run_ms(5);
    }
    let resent: usize = world.tabs[1].got[sent..].iter().map(|got| got.payload.len()).sum();
    // A quarter of 500 kbit/s, 1.5 s of it at once.
    assert!(resent > 30_000, "the budget is spent: {resent}");
    assert!(resent < 23_500 + 15_700 + 1_200, "{resent} bytes in a second");
    assert_eq!(world.tabs[1].unopened, 0);
    world.assert_media(0, 1);
}

/// M6: compounds of every kind, whole and lying.
#[test]
fn rtcp_that_lies_or_speaks_of_others_does_nothing() {
    let mut world = World::call(3, &BOTH);
    world.assert_media(0, 1);
    let video = world.tabs[0].sources[1].ssrc;
    let tracks = world.sfu.gauges();
    let mut hostile: Vec<Vec<u8>> = Vec::new();
    let mut bye = Vec::new();
    rtcp::write_bye(&[video], &mut bye);
    hostile.push(bye);
    let mut report = Vec::new();
    rtcp::write_sender_report(video, u64::MAX, 0, 1, 1, &[], &mut report);
    hostile.push(report);
    for bitrate in [0, 1, u64::MAX] {
        let mut remb = Vec::new();
        rtcp::write_remb(1, bitrate, &[video], &mut remb);
        hostile.push(remb);
    }
    // Transport feedback of 65,535 statuses in runs of 8,191 lost, and of chunks that are not there.
    let mut feedback = vec![0x8f, 205, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 1];
    for _ in 0..9 {
        feedback.extend([0x1f, 0xff]);
    }
    feedback.extend([0, 0]);
    let words = (feedback.len() / 4 - 1) as u16;
    feedback[2..4].copy_from_slice(&words.to_be_bytes());
    hostile.push(feedback.clone());
    hostile.push(feedback[..20].to_vec());
    hostile.push(vec![0x81, 206, 0xff, 0xff, 0, 0, 0, 1, 0, 0, 0, 1]);
    hostile.push(vec![0x80, 200, 0, 0, 0, 0, 0, 0]);
    let unheard = plis(&world.tabs[0]);
    for compound in hostile {
        world.rtcp(1, compound);
        world.settle();
    }
    assert!(world.drops(Drop::RtcpMalformed) >= 2);
    assert_eq!(world.sfu.gauges(), tracks);
    assert_eq!(plis(&world.tabs[0]), unheard);
    world.assert_media(0, 1);
    world.run_ms(2_000);
    let clocks = world.tabs[2].rtcp.iter().flat_map(|c| rtcp::parse(c));
    assert!(
        clocks.filter(|p| matches!(p, rtcp::Packet::SenderReport { .. })).count() == 0,
        "another's report is not taken for the publisher's"
    );
}

/// M6: any bytes under the right key.
#[test]
fn any_rtcp_and_any_rtp_under_the_right_key_is_survived() {
    let mut world = World::call(2, &BOTH);
    let world = std::cell::RefCell::new(&mut world);
    let mut runner = TestRunner::new(Cases { cases: 512, ..Cases::default() });
    let ssrc = world.borrow().tabs[0].sources[1].ssrc;
    let index = std::cell::Cell::new(1u64 << 17);
    let strategy = (any::<bool>(), 192u8..=223, any::<u8>(), prop::collection::vec(any::<u8>(), 8..200));
    runner
        .run(&strategy, |(rtcp, kind, count, mut body)| {
            let mut world = world.borrow_mut();
            if rtcp {
                let words = (body.len() / 4) as u16;
                let mut compound = vec![0x80 | (count & 0x3f), kind];
                compound.extend(if count & 1 == 0 { words.to_be_bytes() } else { [body[0], body[1]] });
                compound.append(&mut body);
                world.rtcp(0, compound);
            } else {
                index.set(index.get() + 1);
                let mut plain = plain_rtp(ssrc, VP8, index.get() as u16, 9, &[(MID_ID, b"1")], &body);
                plain[0] |= count & 0x20;
                plain[16..20].copy_from_slice(&body[..4]);
                let sealed = world.tabs[0].seal(plain, 20, ssrc, index.get());
                world.send(0, sealed);
            }
            world.settle();
            prop_assert_eq!(world.sfu.counters().peer_panics, 0);
            Ok(())
        })
        .unwrap();
    let mut world = world.borrow_mut();
    assert_eq!(world.tabs[1].unopened, 0);
    world.assert_media(1, 0);
}

/// M7.
#[test]
fn replayed_changed_and_early_media_is_dropped() {
    let mut world = World::call(2, &BOTH);
    let packet = world.tabs[0].rtp(0, 960, &[7; 50]);
    world.send(0, packet.clone());
    world.send(0, packet.clone());
    assert_eq!(world.drops(Drop::Replay), 1);
    let fresh = world.tabs[0].rtp(0, 960, &[7; 50]);
    for at in [4, 13, 30, fresh.len() - 1] {
        let mut changed = fresh.clone();
        changed[at] ^= 1;
        world.send(0, changed);
    }
    world.send(0, fresh[..fresh.len() - 1].to_vec());
    world.send(1, fresh.clone());
    assert!(world.drops(Drop::Authentication) >= 5, "{}", world.drops(Drop::Authentication));
    world.send(0, fresh);
    let source = world.tabs[0].sources[0];
    let jumped = world.tabs[0].rtp_at(source, source.index + 3 * 65_536 + 5, &[7; 50]);
    let before = world.drops(Drop::Authentication);
    world.send(0, jumped);
    assert_eq!(world.drops(Drop::Authentication), before + 1, "a rollover that nobody saw");
    let late = world.enter(1, false);
    world.tabs[late].add(Kind::Audio);
    world.tabs[late].shakes = false;
    world.offer(late);
    world.run_ms(100);
    world.send(late, packet);
    assert_eq!(world.drops(Drop::BeforeDtls), 1);
    world.assert_media(0, 1);
}

/// M8: an m-line for data on another port is refused, not the description.
#[test]
fn an_application_line_that_cannot_be_served_is_rejected_in_the_answer() {
    let mut world = World::new();
    let index = world.enter(1, false);
    world.tabs[index].add(Kind::Audio);
    let mut line = offered_line(Kind::Audio, "data", 1, 2);
    line.media = "m=application 9 UDP/DTLS/SCTP webrtc-datachannel".into();
    line.attributes = vec!["a=sctp-port:5001".into(), "a=max-message-size:18446744073709551615".into()];
    line.sources.clear();
    world.tabs[index].lines.push(line);
    world.offer(index);
    world.run_ms(500);
    let (_, _, answer) = &world.descriptions[0];
    let sections = crate::tab::sections(answer);
    assert!(sections[1].starts_with("m=application 0 "), "{}", sections[1]);
    assert!(!answer.contains("BUNDLE 0 data"));
    assert!(world.tabs[index].is_connected());
}

/// A second association would have nowhere to go.
#[test]
fn of_two_application_lines_the_second_is_rejected() {
    let mut world = World::new();
    let index = world.enter(1, false);
    let now = world.now.mono;
    world.tabs[index].add_data(now);
    world.tabs[index].add_data(now);
    for _ in 0..2 {
        world.offer(index);
        world.run_ms(500);
        let (_, _, answer) = world.descriptions.last().expect("an answer");
        let sections = crate::tab::sections(answer);
        assert!(sections[0].starts_with("m=application 9 "), "{}", sections[0]);
        assert!(sections[1].starts_with("m=application 0 "), "{}", sections[1]);
        assert!(answer.contains("\r\na=group:BUNDLE 0\r\n"), "{answer}");
        world.tabs[index].lines[1].rejected = false;
    }
    assert!(world.tabs[index].is_connected());
}

/// M9.
#[test]
fn hostile_descriptions_are_refused_and_change_nothing() {
    let mut world = World::call(2, &BOTH);
    let good = world.tabs[0].offer();
    let mut hostile: Vec<String> = vec![
        String::new(),
        "\0".repeat(300_000),
        format!("{good}{}", "a=x\r\n".repeat(20_000)),
        format!("{good}{}", "a=candidate:1 1 udp 1 10.0.0.1 22 typ host\r\n".repeat(5_000)),
        good.replace("a=mid:1", "a=mid:0"),
        good.replace("a=mid:1", &format!("a=mid:{}", "m".repeat(65_536))),
        good.replace("a=mid:1", "a=mid:7"),
        good.replace("m=video", "m=audio"),
        good.replace("a=setup:actpass", "a=setup:passive")
            .replace("o=- ", "o=- 9")
            .replace("a=ice-ufrag:", "a=ice-ufrag:new"),
        good.replace("s=-", "s=-\r\na=ice-lite"),
        good.split("m=video").next().unwrap().to_owned(),
    ];
    let line = good.split("m=video").nth(1).unwrap();
    hostile.push(
        (0..1_000).fold(good.clone(), |sdp, n| sdp + "m=video" + &line.replace("a=mid:1", &format!("a=mid:x{n}"))),
    );
    for sdp in hostile {
        let head: String = sdp.chars().take(40).collect();
        world.events.clear();
        world.send_offer(0, sdp);
        world.settle();
        let refused = |event: &Event| matches!(event, Event::Refused { refusal: Refusal::InvalidSdp, message, .. } if message.len() < 1_000);
        assert!(world.events.len() == 1 && refused(&world.events[0]), "{head}: {:?}", world.events);
        world.assert_media(0, 1);
    }
    // An answer to nothing is no more.
    world.request(Request::Answer { peer: PeerId(0), sdp: good, tracks: vec![] });
    world.settle();
    world.assert_media(0, 1);
}

/// M9: candidates of a client are never looked at, whatever they name: we send to nobody who did not prove himself.
#[test]
fn candidates_cause_no_datagram() {
    let mut world = World::new();
    let index = world.enter(1, false);
    world.tabs[index].add(Kind::Audio);
    world.tabs[index].checks = false;
    for host in ["127.0.0.1 22", "169.254.169.254 80", "internal.local 7", "example.com 443", "::1 0"] {
        world.tabs[index].lines[0].attributes.push(format!("a=candidate:1 1 udp 2122260223 {host} typ host"));
    }
    world.offer(index);
    world.settle();
    assert_eq!(world.descriptions.len(), 1, "the offer is answered");
    world.run(Duration::from_secs(5));
    assert!(world.sfu.next_run(world.now).is_none());
    assert_eq!(world.sfu.counters().datagrams_in, 0);
}
