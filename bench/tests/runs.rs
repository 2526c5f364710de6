//! How packets are bundled into runs, of which each leaves by one send: a picture cut up as browsers do it is one run.
#![allow(missing_docs)]

use std::time::Duration;

use bench::forward::JOIN_LIMIT;
use bench::hall::Hall;
use bench::media::{self, Vp8};
use sfu::Kind;

const SUBSCRIBERS: usize = 3;
const FRAMES: u16 = 120;
/// What a browser puts into a packet at most, and the ticks of 90 kHz between two pictures.
const PAYLOAD_MAX: usize = 1_180;
const FRAME_TICKS: u32 = 3_000;

/// As libwebrtc cuts a picture: packets of nearly one size, the longer ones last.
fn cut(bytes: usize) -> Vec<usize> {
    let packets = bytes.div_ceil(PAYLOAD_MAX);
    (0..packets).map(|at| (bytes + at) / packets).collect()
}

#[test]
fn a_picture_cut_as_browsers_cut_it_is_one_run() {
    let mut hall = Hall::new(5);
    hall.join(&[Kind::Video]);
    for _ in 0..SUBSCRIBERS {
        hall.join(&[]);
    }
    assert!(hall.connect_all(JOIN_LIMIT));
    let (mut runs, mut packets, mut payloads) = (0, 0, [0; SUBSCRIBERS]);
    for picture in 0..FRAMES {
        // Any size of picture, most of them no multiple of the packets that it takes.
        let sizes = cut(3_000 + usize::from(picture) * 79);
        assert_eq!(sizes.iter().sum::<usize>(), 3_000 + usize::from(picture) * 79);
        hall.advance(Duration::from_millis(33));
        hall.settle();
        for (at, size) in sizes.iter().enumerate() {
            let client = &mut hall.clients[0];
            let stamp = client.next_stamp(Kind::Video).expect("it publishes video");
            let frame = Vp8 { picture, first: at == 0, key: picture == 0 };
            let payload = media::video_payload(frame, stamp, *size);
            let packet = client.rtp(Kind::Video, at + 1 == sizes.len(), FRAME_TICKS, &payload);
            let mut packet = packet.expect("it is connected");
            hall.sfu.receive(Hall::path(0), &mut packet, hall.now.mono, hall.now);
        }
        packets += sizes.len() * SUBSCRIBERS;
        while let Some(run) = hall.sfu.next_run(hall.now) {
            let index = (1..=SUBSCRIBERS).find(|index| Hall::path(*index) == run.path);
            let datagrams: Vec<Vec<u8>> = run.datagrams().map(<[u8]>::to_vec).collect();
            let Some(index) = index else { continue };
            runs += usize::from(run.segment > PAYLOAD_MAX / 2);
            for mut datagram in datagrams {
                let Some(received) = hall.clients[index].handle(&mut datagram, hall.now.mono) else { continue };
                assert!(sizes.contains(&received.payload.len()), "the payload is what was published");
                payloads[index - 1] += received.payload.len();
                hall.heard[index].note(&received);
            }
        }
    }
    let pictures = usize::from(FRAMES) * SUBSCRIBERS;
    assert_eq!(runs, pictures, "{packets} packets");
    let counters = hall.sfu.counters();
    assert_eq!(counters.rtp_out, packets as u64);
    assert!(counters.rtp_padded_out > 0 && counters.rtp_padded_out < packets as u64, "{}", counters.rtp_padded_out);
    let published: usize = (0..FRAMES).map(|picture| 3_000 + usize::from(picture) * 79).sum();
    assert_eq!(payloads, [published; SUBSCRIBERS], "all of it came to each");
}
