//! Joins complete, in virtual time, with each of the first ten datagrams lost in turn.

use std::time::Duration;

use bench::hall::Hall;
use bench::media::{self, Vp8};
use bench::peer::ClientPeer;
use sfu::{Event, Kind, PeerId};

/// DTLS starts to retransmit after one second; a join with one loss takes one such round.
const JOIN_LIMIT: Duration = Duration::from_secs(5);

fn connected(hall: &Hall) -> bool {
    let told = |index| hall.events.contains(&Event::Connected { peer: PeerId(index as u64) });
    hall.clients.iter().all(ClientPeer::is_connected) && (0..hall.clients.len()).all(told)
}

fn publisher_and_subscriber(lose: &[u64]) -> Hall {
    let mut hall = Hall::new(3);
    hall.lose = lose.to_vec();
    hall.join(&[Kind::Audio, Kind::Video]);
    hall.join(&[]);
    assert!(hall.run_until(JOIN_LIMIT, connected), "joins complete with datagrams {lose:?} lost");
    hall
}

/// Publishes `frames` of both kinds, 40 ms apart.
fn publish(hall: &mut Hall, frames: u16) {
    for picture in 0..frames {
        let client = &mut hall.clients[0];
        let audio = client.next_stamp(Kind::Audio).expect("audio is published");
        let video = client.next_stamp(Kind::Video).expect("video is published");
        let frame = Vp8 { picture, first: true, key: picture % 10 == 0 };
        let packets = [
            client.rtp(Kind::Audio, false, 960, &media::audio_payload(audio)),
            client.rtp(Kind::Video, true, 3_600, &media::video_payload(frame, video, media::VIDEO_PAYLOAD_BYTES)),
        ];
        for mut packet in packets.into_iter().flatten() {
            hall.sfu.receive(Hall::path(0), &mut packet, hall.now.mono, hall.now);
        }
        hall.settle();
        hall.advance(Duration::from_millis(40));
    }
}

#[test]
fn a_subscriber_hears_and_sees_in_order() {
    let mut hall = publisher_and_subscriber(&[]);
    publish(&mut hall, 50);
    for (stream, tail) in [(0, 49), (1, 40)] {
        let numbers = hall.heard[1].of(stream);
        assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "stream {stream}: {numbers:?}");
        assert!(numbers.first().is_some_and(|first| *first <= tail), "stream {stream} begins: {numbers:?}");
        assert_eq!(numbers.last(), Some(&49), "stream {stream} goes on to the end");
    }
}

#[test]
fn joins_complete_with_each_of_the_first_ten_datagrams_lost() {
    for lost in 0..10 {
        let mut hall = publisher_and_subscriber(&[lost]);
        assert!(hall.datagrams > lost, "datagram {lost} was sent at all");
        publish(&mut hall, 20);
        assert!(!hall.heard[1].of(0).is_empty(), "audio flows after datagram {lost} was lost");
    }
}

#[test]
fn joins_complete_with_neighbours_of_the_first_ten_lost() {
    for lost in 0..10 {
        publisher_and_subscriber(&[lost, lost + 1]);
    }
}

#[test]
fn a_keyframe_that_comes_in_disorder_reaches_the_subscriber_whole() {
    let mut hall = publisher_and_subscriber(&[]);
    let mut packets = Vec::new();
    for (position, key) in [(0, true), (1, true), (2, true), (3, true)] {
        let client = &mut hall.clients[0];
        let stamp = client.next_stamp(Kind::Video).expect("video is published");
        let frame = Vp8 { picture: 0, first: position == 0, key };
        let payload = media::video_payload(frame, stamp, media::VIDEO_PAYLOAD_BYTES);
        packets.extend(client.rtp(Kind::Video, position == 3, 3_600, &payload));
    }
    for position in [1, 0, 3, 2] {
        hall.sfu.receive(Hall::path(0), &mut packets[position], hall.now.mono, hall.now);
    }
    hall.run_until(Duration::from_millis(200), |_| false);
    let mut numbers = hall.heard[1].of(1).to_vec();
    numbers.sort_unstable();
    assert_eq!(numbers, [0, 1, 2, 3], "the whole keyframe arrives");
}

#[test]
fn a_keyframe_whose_first_packet_never_came_is_asked_for_again() {
    let mut hall = publisher_and_subscriber(&[]);
    for picture in 0..20 {
        let client = &mut hall.clients[0];
        let stamp = client.next_stamp(Kind::Video).expect("video is published");
        let frame = Vp8 { picture, first: true, key: picture == 0 };
        let packet = client.rtp(Kind::Video, true, 3_600, &media::video_payload(frame, stamp, 1_000));
        let mut packet = packet.expect("the publisher is connected");
        if picture > 0 {
            hall.sfu.receive(Hall::path(0), &mut packet, hall.now.mono, hall.now);
        }
        hall.run_until(Duration::from_millis(40), |_| false);
    }
    assert!(hall.clients[0].keyframe_requests > 0, "the publisher is asked for a keyframe");
}
