//! Audio: RED, DTX, levels, who is forwarded.

use std::collections::HashSet;

use sfu::payload::red;
use sfu::rtcp::{self, ReportBlock};
use sfu::{Kind, PeerId, Request};

use crate::tab::{Got, MID_ID, OPUS, Tab, attribute, plain_rtp, sections};
use crate::world::World;

const RED: u8 = 63;

/// Adds a microphone that may send RED; `first` if it would rather.
fn add_red(tab: &mut Tab, first: bool) -> usize {
    let source = tab.add(Kind::Audio);
    let line = &mut tab.lines[tab.sources[source].line];
    let formats = if first { format!("{RED} {OPUS}") } else { format!("{OPUS} {RED}") };
    line.media = format!("m=audio 9 UDP/TLS/RTP/SAVPF {formats}");
    line.attributes.push(format!("a=rtpmap:{RED} red/48000/2"));
    line.attributes.push(format!("a=fmtp:{RED} {OPUS}/{OPUS}"));
    source
}

/// Sends a packet of a payload type of choice, 20 ms after the last.
fn send_as(world: &mut World, index: usize, payload_type: u8, payload: &[u8]) {
    let tab = &mut world.tabs[index];
    let source = &mut tab.sources[0];
    source.index += 1;
    source.timestamp = source.timestamp.wrapping_add(960);
    let source = *source;
    let mid = tab.lines[source.line].mid.clone();
    let extensions: [(u8, &[u8]); 1] = [(MID_ID, mid.as_bytes())];
    let plain = plain_rtp(source.ssrc, payload_type, source.index as u16, source.timestamp, &extensions, payload);
    let sealed = tab.seal(plain.clone(), plain.len() - payload.len(), source.ssrc, source.index);
    world.send(index, sealed);
}

/// A RED payload of one redundant block and the primary one.
fn red(redundant: &[u8], primary: &[u8]) -> Vec<u8> {
    let word = 1 << 31 | u32::from(OPUS) << 24 | 960 << 10 | redundant.len() as u32;
    [&word.to_be_bytes()[..], &[OPUS], redundant, primary].concat()
}

#[test]
fn red_goes_as_it_came_to_those_who_take_it_and_as_its_opus_to_the_others() {
    let mut world = World::new();
    let publisher = world.enter(1, false);
    add_red(&mut world.tabs[publisher], true);
    world.offer(publisher);
    let takes = world.join(1, &[]);
    let without = world.enter(1, true);
    world.silent.push(without);
    world.run_ms(500);

    // A browser without RED leaves it out of its answer.
    let (.., offer) = world.descriptions.iter().rev().find(|d| d.0 == without && d.1).cloned().unwrap();
    assert_eq!(attribute(&offer, "fmtp"), Some(format!("{RED} {OPUS}/{OPUS}").as_str()), "{offer}");
    let bare = offer.replace(&format!("SAVPF {RED} {OPUS}"), &format!("SAVPF {OPUS}"));
    let bare: Vec<&str> = bare.lines().filter(|line| !line.contains(&format!(":{RED} "))).collect();
    let answer = world.tabs[without].answer(&(bare.join("\r\n") + "\r\n"), world.now.mono);
    world.request(Request::Answer { peer: PeerId(without as u64), sdp: answer, tracks: vec![] });
    world.run_ms(500);

    let (mut wrapped, mut opened) = (vec![], vec![]);
    for n in 0..10u8 {
        let (payload_type, payload, primary) = match n {
            // The encoder may send either, packet by packet.
            4 => (OPUS, vec![n; 30], vec![n; 30]),
            _ => (RED, red(&[n - n.min(1); 20], &[n; 30]), vec![n; 30]),
        };
        send_as(&mut world, publisher, payload_type, &payload);
        world.run_ms(20);
        wrapped.push((payload_type, payload));
        opened.push((OPUS, primary));
    }
    let got = |index: usize| -> Vec<(u8, Vec<u8>)> {
        let tab: &Tab = &world.tabs[index];
        assert!(tab.got.windows(2).all(|two| two[1].seq == two[0].seq.wrapping_add(1)), "no gap");
        tab.got.iter().map(|got| (got.payload_type, got.payload.clone())).collect()
    };
    assert_eq!(got(takes), wrapped);
    assert_eq!(got(without), opened);
}

/// A publisher that sends RED with one older frame, or plain Opus, and two listeners, of whom the last takes no RED.
fn redundant_call(wraps: bool) -> World {
    let mut world = World::new();
    let publisher = world.enter(1, false);
    if wraps {
        add_red(&mut world.tabs[publisher], true);
    } else {
        world.tabs[publisher].add(Kind::Audio);
    }
    world.offer(publisher);
    world.join(1, &[]);
    let without = world.enter(1, true);
    world.silent.push(without);
    world.run_ms(500);
    let (.., offer) = world.descriptions.iter().rev().find(|d| d.0 == without && d.1).cloned().unwrap();
    assert!(offer.contains(&format!("a=rtpmap:{RED} red/48000/2")), "we write it ourselves, so it is always offered");
    let bare = offer.replace(&format!("SAVPF {RED} {OPUS}"), &format!("SAVPF {OPUS}"));
    let bare = bare.replace(&format!("SAVPF {OPUS} {RED}"), &format!("SAVPF {OPUS}"));
    let bare: Vec<&str> = bare.lines().filter(|line| !line.contains(&format!(":{RED} "))).collect();
    let answer = world.tabs[without].answer(&(bare.join("\r\n") + "\r\n"), world.now.mono);
    world.request(Request::Answer { peer: PeerId(without as u64), sdp: answer, tracks: vec![] });
    world.run_ms(500);
    world
}

/// Frame `n`, unlike all others and of its own length.
fn frame(n: usize) -> Vec<u8> {
    (0..20 + n % 50).map(|byte| (n + 7 * byte) as u8).collect()
}

/// Sends frames `from..to`, except those that `lost` on the way to us.
fn talk(world: &mut World, wraps: bool, frames: std::ops::Range<usize>, lost: impl Fn(usize) -> bool) {
    for n in frames {
        let (payload_type, payload) =
            if wraps { (RED, red(&frame(n.saturating_sub(1)), &frame(n))) } else { (OPUS, frame(n)) };
        if lost(n) {
            world.tabs[0].sources[0].index += 1;
            let timestamp = &mut world.tabs[0].sources[0].timestamp;
            *timestamp = timestamp.wrapping_add(960);
        } else {
            send_as(world, 0, payload_type, &payload);
        }
        world.run_ms(20);
    }
}

/// A listener reports that it lost this many of 256.
fn report_lost(world: &mut World, listener: usize, fraction_lost: u8) {
    let ssrc = world.tabs[listener].got.last().expect("it got something").ssrc;
    let mut report = Vec::new();
    rtcp::write_receiver_report(9, &[ReportBlock { ssrc, fraction_lost, ..ReportBlock::default() }], &mut report);
    // Twice, for it is to last.
    world.rtcp(listener, report.clone());
    world.run_ms(1_500);
    world.rtcp(listener, report);
}

/// What the publisher is told next of its sound: the fraction lost, in 256ths.
fn told_lost(world: &mut World) -> u8 {
    world.tabs[0].rtcp.clear();
    talk(world, false, 0..60, |_| false);
    let compounds = world.tabs[0].rtcp.iter();
    let mut blocks = compounds.flat_map(|compound| rtcp::parse(compound)).filter_map(|packet| match packet {
        rtcp::Packet::ReceiverReport { mut reports, .. } => reports.next(),
        _ => None,
    });
    blocks.next().expect("a report each second").fraction_lost
}

/// Its encoder then packs the frame before into each packet; whoever takes RED has that from us.
#[test]
fn a_publisher_is_told_what_listeners_without_red_lose() {
    let mut world = redundant_call(false);
    assert_eq!(told_lost(&mut world), 0);
    report_lost(&mut world, 1, 20);
    assert_eq!(told_lost(&mut world), 0, "who takes RED has older frames from us");
    report_lost(&mut world, 2, 20);
    assert_eq!(told_lost(&mut world), 20);
    report_lost(&mut world, 2, 90);
    assert_eq!(told_lost(&mut world), 26, "a tenth is the most that one listener can make of it");
    report_lost(&mut world, 2, 0);
    talk(&mut world, false, 0..600, |_| false);
    assert_eq!(told_lost(&mut world), 0, "it is over");
    report_lost(&mut world, 2, 250);
    assert_eq!(told_lost(&mut world), 0, "who loses nearly all is not helped by it");
}

/// All frames of a packet with the timestamps at which they are played, newest first.
fn frames(got: &Got) -> Vec<(u32, Vec<u8>)> {
    if got.payload_type == OPUS {
        return vec![(got.timestamp, got.payload.clone())];
    }
    assert_eq!(got.payload_type, RED);
    let primary = red::primary(&got.payload).expect("RED that can be read");
    let mut frames = vec![(got.timestamp, got.payload[primary.offset..].to_vec())];
    for block in (1..).map_while(|nth| red::older(&got.payload, nth)) {
        assert_eq!(block.payload_type, OPUS);
        let timestamp = got.timestamp.wrapping_sub(block.timestamp_offset.into());
        frames.push((timestamp, got.payload[block.range].to_vec()));
    }
    frames
}

#[test]
fn who_loses_much_gets_three_older_frames_whatever_the_publisher_sends() {
    for wraps in [true, false] {
        let mut world = redundant_call(wraps);
        talk(&mut world, wraps, 0..10, |_| false);
        let as_it_came = world.tabs[1].got.len();
        assert_eq!(as_it_came, 10);
        for (n, got) in world.tabs[1].got.iter().enumerate() {
            let came = if wraps { red(&frame(n.saturating_sub(1)), &frame(n)) } else { frame(n) };
            assert_eq!(got.payload, came, "without loss it comes as it was sent");
        }
        report_lost(&mut world, 1, 38);
        talk(&mut world, wraps, 10..40, |_| false);
        let got = &world.tabs[1].got;
        assert_eq!(got.len(), 40);
        for (n, got) in got.iter().enumerate().skip(10) {
            let expected: Vec<_> =
                (0..4).map(|back| (got.timestamp.wrapping_sub(960 * back), frame(n - back as usize))).collect();
            assert_eq!(frames(got), expected, "{wraps}: packet {n}");
        }
        assert!(got.windows(2).all(|two| two[1].seq == two[0].seq.wrapping_add(1)), "no gap");
        let opened: Vec<_> = world.tabs[2].got.iter().map(|got| (got.payload_type, got.payload.clone())).collect();
        let plain: Vec<_> = (0..40).map(|n| (OPUS, frame(n))).collect();
        assert_eq!(opened, plain, "who takes no RED gets plain Opus");
        report_lost(&mut world, 2, 100);
        talk(&mut world, wraps, 40..45, |_| false);
        assert!(world.tabs[2].got[40..].iter().zip(40..).all(|(got, n)| got.payload == frame(n)));
    }
}

#[test]
fn who_plays_by_timestamps_misses_nothing_of_what_is_lost_before_us_or_behind_us() {
    for (wraps, before) in [(false, false), (true, false), (true, true)] {
        let mut world = redundant_call(wraps);
        talk(&mut world, wraps, 0..10, |_| false);
        report_lost(&mut world, 1, 85);
        // Before us one in ten is lost, of which the publisher's RED tells; behind us one in three, two of them in a row.
        talk(&mut world, wraps, 10..310, |n| before && n % 10 == 5);
        let got = &world.tabs[1].got[10..];
        assert_eq!(got.len(), if before { 270 } else { 300 });
        let first = got[0].timestamp;
        let kept = got.iter().filter(|got| !matches!(got.seq % 6, 1 | 2));
        let heard: HashSet<(u32, Vec<u8>)> = kept.flat_map(frames).collect();
        // The last may be among those that nothing follows.
        for n in 0..296u32 {
            let played = (first.wrapping_add(960 * n), frame(10 + n as usize));
            assert!(heard.contains(&played), "{wraps} {before}: frame {n}");
        }
    }
}

#[test]
fn what_is_too_long_or_too_long_ago_is_left_out() {
    let mut world = redundant_call(false);
    talk(&mut world, false, 0..3, |_| false);
    report_lost(&mut world, 1, 85);
    // Pauses of DTX: frames 400 ms apart have nothing to do with each other.
    for n in 0..5u8 {
        world.media(0, 0, 19_200, &[n; 8]);
        world.run_ms(400);
    }
    assert!(world.tabs[1].got[3..].iter().all(|got| got.payload_type == OPUS && got.payload.len() == 8));
    // A payload has room for two of these, and for none of 1,100 bytes.
    for n in 0..10u8 {
        world.media(0, 0, 960, &[n; 400]);
        world.run_ms(20);
    }
    assert!(world.tabs[1].got[12..].iter().all(|got| frames(got).len() == 2 && got.payload.len() == 805));
    for n in 0..3u8 {
        world.media(0, 0, 960, &[n; 1_100]);
        world.run_ms(20);
    }
    assert!(world.tabs[1].got[18..].iter().all(|got| frames(got).len() == 1 && got.payload.len() == 1_100));
}

#[test]
fn red_that_lies_is_dropped() {
    let mut world = World::new();
    let publisher = world.enter(1, false);
    add_red(&mut world.tabs[publisher], false);
    world.offer(publisher);
    let listener = world.join(1, &[]);
    world.run_ms(500);
    let lies: [&[u8]; 6] =
        [&[OPUS], &[0xef], &[0xef, 0, 0, 200, OPUS, 1, 2], &[96, 1, 2], &[RED, 1, 2, 3], &[0xff; 1_000]];
    for lie in lies {
        send_as(&mut world, publisher, RED, lie);
    }
    world.run_ms(20);
    assert_eq!(world.drops(sfu::Drop::RtpMalformed), lies.len() as u64);
    assert!(world.tabs[listener].got.is_empty());
    send_as(&mut world, publisher, RED, &red(b"", b"good"));
    world.run_ms(20);
    assert_eq!(world.tabs[listener].got.len(), 1);
}

#[test]
fn answers_keep_the_order_of_codecs_and_what_is_said_of_opus() {
    for (first, formats) in [(true, "63 111"), (false, "111 63")] {
        let mut world = World::new();
        let index = world.enter(1, false);
        let source = add_red(&mut world.tabs[index], first);
        let line = world.tabs[index].sources[source].line;
        let fmtp = "minptime=10;useinbandfec=1;usedtx=1;stereo=1";
        for attribute in &mut world.tabs[index].lines[line].attributes {
            if attribute.starts_with(&format!("a=fmtp:{OPUS}")) {
                *attribute = format!("a=fmtp:{OPUS} {fmtp}");
            }
        }
        world.offer(index);
        world.run_ms(100);
        let answer = &sections(&world.descriptions[0].2)[0];
        assert!(answer.starts_with(&format!("m=audio 9 UDP/TLS/RTP/SAVPF {formats}\r\n")), "a browser sends the first");
        assert!(answer.contains(&format!("a=fmtp:{OPUS} {fmtp}\r\n")), "{answer}");
        assert!(answer.contains(&format!("a=fmtp:{RED} {OPUS}/{OPUS}\r\n")), "{answer}");
    }
}

#[test]
fn red_over_nothing_is_not_taken() {
    let mut world = World::new();
    let index = world.enter(1, false);
    add_red(&mut world.tabs[index], true);
    for attribute in &mut world.tabs[index].lines[0].attributes {
        *attribute = attribute.replace(&format!("{OPUS}/{OPUS}"), "9/9");
    }
    world.offer(index);
    world.run_ms(100);
    assert!(sections(&world.descriptions[0].2)[0].starts_with(&format!("m=audio 9 UDP/TLS/RTP/SAVPF {OPUS}\r\n")));
}

#[test]
fn silence_of_dtx_is_no_loss() {
    let mut world = World::new();
    let publisher = world.enter(1, false);
    world.tabs[publisher].add(Kind::Audio);
    world.tabs[publisher].lines[0].attributes.push(format!("a=rtcp-fb:{OPUS} nack"));
    world.offer(publisher);
    let listener = world.join(1, &[]);
    world.run_ms(500);
    let nacks = world.sfu.counters().nack_out;
    for _ in 0..10 {
        // One frame of comfort noise each 400 ms.
        world.media(publisher, 0, 19_200, &[0x78, 1]);
        world.run_ms(400);
    }
    assert_eq!(world.sfu.counters().nack_out, nacks);
    let got = &world.tabs[listener].got;
    assert_eq!(got.len(), 10);
    for two in got.windows(2) {
        assert_eq!(two[1].seq, two[0].seq.wrapping_add(1));
        assert_eq!(two[1].timestamp.wrapping_sub(two[0].timestamp), 19_200, "its clock goes on");
    }
}
