//! Audio: RED, DTX, levels, who is forwarded.

use sfu::{Kind, PeerId, Request};

use crate::tab::{MID_ID, OPUS, Tab, attribute, plain_rtp, sections};
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
