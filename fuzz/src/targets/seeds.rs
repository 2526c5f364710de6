//! Where the corpora begin: real descriptions, and messages such as honest clients send.

use sfu::{Kind, rtcp};
use turn_server::stun::{Method, TransactionId, Writer};

use super::datagram::{step, write_step};
use super::{RECORD_SEPARATOR, sctp, turn_seeds};
use crate::media::{self, Stamp, Vp8};
use crate::peer::{ClientPeer, Identity};

/// RFC 5769 §2.1: a request with short-term credentials.
const RFC5769_REQUEST: &str = "000100582112a442b7e7a701bc34d686fa87dfae802200105354554e207465737420636c69656e74002400046e0001ff80290008932ff9b1\
    51263b36000600096576746a3a68367659202020000800149aeaa70cbfd8cb56781ef2b5b2d3f249c1b571a280280004e57a3bcf";
/// RFC 5769 §2.3: an answer with an IPv6 address.
const RFC5769_RESPONSE_IPV6: &str = "010100482112a442b7e7a701bc34d686fa87dfae8022000b7465737420766563746f7220002000140002a1470113a9faa5d3f179bc25f4b5\
    bed2b9d900080014a382954e4be67bf11784c97c8292c275bfe3ed4180280004c8fb0b4c";
/// draft-holmer-rmcat-transport-wide-cc-extensions-01 §3.1: a run, a vector of two bits, deltas of one and two bytes.
const TRANSPORT_FEEDBACK: &str = "8fcd00070000000100000002ffff0009000007032002d9000408ff3801000000";

macro_rules! descriptions {
    ($($name:literal),* $(,)?) => { [$(($name, include_str!(concat!("../../../sfu/tests/sdp/", $name, ".sdp")))),*] };
}

/// Captured from browsers, and written after those of other stacks; the smaller ones.
const DESCRIPTIONS: [(&str, &str); 8] = descriptions![
    "aiortc_offer",
    "chromium_max_bundle_offer",
    "chromium_simulcast_offer",
    "firefox_data_offer",
    "firefox_max_bundle_offer",
    "firefox_simulcast_offer",
    "firefox_stopped_offer",
    "gstreamer_offer",
];

/// A file of a corpus.
pub struct Seed {
    /// Whose corpus.
    pub target: &'static str,
    /// The file's name.
    pub name: String,
    /// Its content.
    pub bytes: Vec<u8>,
}

/// All seeds, the same each time.
pub fn seeds() -> Vec<Seed> {
    let mut seeds = Vec::new();
    let mut add = |target, name: &str, bytes: Vec<u8>| seeds.push(Seed { target, name: name.to_owned(), bytes });
    add("stun", "rfc5769_request", hex(RFC5769_REQUEST));
    add("stun", "rfc5769_response_ipv6", hex(RFC5769_RESPONSE_IPV6));
    add("stun", "check", check());
    add("stun", "error", error());
    for (name, packet) in rtp_packets() {
        add("rtp", name, packet.clone());
        for profile in 0..3 {
            add("srtp", &format!("{name}_{profile}"), [&[profile], &packet[..]].concat());
        }
    }
    for (name, compound) in compounds() {
        add("rtcp", name, compound.clone());
        add("srtp", name, [&[0], &compound[..]].concat());
    }
    for (name, payload) in KEYFRAMES {
        add("keyframe", name, payload.to_vec());
    }
    for (name, payload) in PAYLOADS {
        add("payload", name, payload.to_vec());
    }
    for (name, descriptors) in DESCRIPTORS {
        add("descriptor", name, hex(descriptors));
    }
    for (name, text) in DESCRIPTIONS {
        add("sdp", name, text.as_bytes().to_vec());
    }
    add("sdp", "offer_twice", records(&[&own_offer(), &own_offer()]));
    add("sdp", "answer", records(&[&format!("a{}", own_answer())]));
    add("sdp", "offer_answer_offer", records(&[&own_offer(), &format!("a{}", own_answer()), DESCRIPTIONS[4].1]));
    for (name, bytes) in scenes() {
        add("datagram", name, bytes);
    }
    for (name, lines) in TALKS {
        add("signaling", name, records(lines));
    }
    for (name, bytes) in arrivals() {
        add("twcc", name, bytes);
    }
    for (name, bytes) in associations() {
        add("sctp", name, bytes);
    }
    for (name, bytes) in turn_seeds::relays() {
        add("turn", name, bytes);
    }
    for (name, bytes) in turn_seeds::streams() {
        add("frames", name, bytes);
    }
    seeds
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.chars().filter_map(|it| it.to_digit(16)).map(|it| it as u8).collect();
    digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

fn records(texts: &[&str]) -> Vec<u8> {
    texts.join(&char::from(RECORD_SEPARATOR).to_string()).into_bytes()
}

fn check() -> Vec<u8> {
    let mut out = Vec::new();
    Writer::request(&mut out, Method::BINDING, TransactionId([7; 12]))
        .username("abcdefgh:wxyz")
        .priority(0x6e00_01ff)
        .ice_controlling(9)
        .use_candidate()
        .integrity(b"a password that nobody has")
        .fingerprint();
    out
}

fn error() -> Vec<u8> {
    let mut out = Vec::new();
    let address = crate::hall::SERVER;
    Writer::error(&mut out, Method::BINDING, TransactionId([1; 12]), 420, "Unknown Attribute")
        .unknown_attributes([0x7fff, 0x0001])
        .xor_mapped_address(address)
        .fingerprint();
    out
}

/// A plain packet whose SSRC is the n-th that the world of `datagram` knows.
fn packet(flags: u8, marker_and_type: u8, seq: u16, n: u8, behind: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x80 | flags, marker_and_type];
    packet.extend(seq.to_be_bytes());
    packet.extend([0, 1, 0, 0, 0xff, 0xff, 0xff, n]);
    packet.extend(behind);
    packet
}

fn vp8(first: bool, key: bool) -> Vec<u8> {
    media::video_payload(Vp8 { picture: 1, first, key }, Stamp { stream: 1, number: 1 }, 60)
}

fn rtp_packets() -> Vec<(&'static str, Vec<u8>)> {
    let mid = [0xbe, 0xde, 0, 1, 0x40, b'1', 0, 0];
    let two_bytes = [0x10, 0x00, 0, 2, 4, 1, b'1', 0, 9, 2, 1, 2];
    vec![
        ("audio", packet(0, 111, 1, 0, &[0x78, 1, 2, 3])),
        ("video_keyframe", packet(0x10, 0x80 | 96, 2, 1, &[&mid[..], &vp8(true, true)].concat())),
        ("two_byte_extensions", packet(0x10, 96, 3, 1, &[&two_bytes[..], &vp8(false, false)].concat())),
        ("csrcs_and_padding", packet(0x22, 111, 4, 0, &[1, 2, 3, 4, 5, 6, 7, 8, 0x78, 9, 0, 2])),
        ("rtx", packet(0x10, 97, 5, 2, &[&mid[..], &[0, 2], &vp8(true, true)].concat())),
    ]
}

fn compounds() -> Vec<(&'static str, Vec<u8>)> {
    let mut all = Vec::new();
    let mut add = |name, write: &dyn Fn(&mut Vec<u8>)| {
        let mut out = Vec::new();
        write(&mut out);
        all.push((name, out));
    };
    let ssrc = |n: u32| 0xffff_ff00 | n;
    let report = rtcp::ReportBlock { ssrc: ssrc(3), fraction_lost: 25, cumulative_lost: -3, ..Default::default() };
    add("sender_report_sdes", &|out| {
        rtcp::write_sender_report(ssrc(0), 0x0123_4567_89ab_cdef, 960, 5, 500, &[report], out);
        rtcp::write_sdes_cname(ssrc(0), "client-0", out);
    });
    add("receiver_report_nack", &|out| {
        rtcp::write_receiver_report(1, &[report, report], out);
        rtcp::write_nack(1, ssrc(4), [0, 1, 2, 16, 17, 40, 65_535], out);
    });
    add("pli_fir", &|out| {
        rtcp::write_pli(1, ssrc(4), out);
        rtcp::write_fir(1, &[(ssrc(3), 1), (ssrc(4), 2)], out);
    });
    add("remb_bye", &|out| {
        rtcp::write_remb(1, 1_234_567, &[ssrc(3), ssrc(4)], out);
        rtcp::write_bye(&[ssrc(0)], out);
    });
    add("transport_feedback", &|out| out.extend(hex(TRANSPORT_FEEDBACK)));
    all
}

const KEYFRAMES: &[(&str, &[u8])] = &[
    ("vp8", &[0x90, 0xf0, 0x81, 0x01, 0x07, 0x21, 0x50, 0, 0, 0x9d, 0x01, 0x2a]),
    ("vp8_short", &[0x10, 0x50]),
    ("vp9", &[0xaa, 0x81, 0x01, 0x00, 0x00, 0x18]),
    ("h264_stap", &[0x78, 0, 2, 0x67, 0x42, 0, 1, 0x68]),
    ("h264_fu", &[0x7c, 0x85, 0x88]),
    ("av1", &[0x18, 0x0a, 0x0b]),
];

/// Behind a byte that chooses the codec: VP8, VP9, H.264, AV1.
const PAYLOADS: &[(&str, &[u8])] = &[
    ("vp8_keyframe", &[0, 0x90, 0xf0, 0x92, 0x34, 7, 3, 0, 0, 0, 0x9d, 0x01, 0x2a, 0x80, 0x02, 0x68, 0x01]),
    ("vp8_layer_sync", &[0, 0x90, 0xe0, 0x12, 7, 0xa0, 0x01]),
    ("vp9_structure", &[1, 0xae, 0x92, 0x34, 0x10, 7, 0x30, 1, 64, 0, 180, 2, 128, 1, 104, 0x82]),
    ("vp9_group", &[1, 0x8a, 0x05, 0x08, 2, 0x04, 1, 0x28, 1, 2, 0x82]),
    ("vp9_flexible", &[1, 0xf8, 0x05, 0x30, 0x03, 0x05, 0x06, 0x82]),
    ("h264_sps", &[2, 0x67, 0x42, 0xe0, 0x1f, 0x8c, 0x8d, 0x40, 0x50, 0x1e, 0xd0, 0x0f, 0x08, 0x84, 0x6a]),
    ("h264_high", &[2, 0x67, 0x64, 0, 0x1f, 0xac, 0xd9, 0x40, 0x50, 0x05, 0xbb, 0x01, 0x10, 0, 0, 3, 0, 0x10]),
    ("h264_stap", &[2, 0x78, 0, 5, 0x67, 0x42, 0xe0, 0x1f, 0x8c, 0, 2, 0x68, 0xce, 0, 2, 0x65, 0x88]),
    ("h264_fu", &[2, 0x7c, 0x81, 0x9a]),
    ("av1", &[3, 0x18, 0x0a, 0x0b]),
];

/// Each behind its length: five pictures, then one with a mask of active decode targets, then one that differs from its
/// template in all.
const DESCRIPTORS: &[(&str, &str)] = &[
    (
        "l1t3",
        "14fcffdc878214eaa860414d14102aaaab04ff02cf03ffffdd03feffde03c0ffdf03fdffe004fcfffa430afefffb38c84218958000",
    ),
    (
        "l3t3",
        "5fc1ffdc80081485214eafffaaaa863cf0430c10c302afc0aaa0063c00430010c002a000a80006000040001d954926e082b04a0941b820\
         ac12825035ad6aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab013f00b3027f016704ff02cf03c6ffdd03cbffde03c3ffdf03c8\
         ffe003cdffe103c2ffe203c7ffe303ccffe403c4ffe503c9ffe603ceffe703c0ffe803c5ffe903caffea05c0fffa43fc0dc2fffb38dc96\
         84218958000000",
    ),
    (
        "l3t3_key",
        "5ad4ffdc82881485214eaaaaa8000600004000100002aa80a8000600004000100002a000a800060000400016d549241b5524906d549235\
         ad6aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab013f00b3027f016704ff02cf03d9ffdd03deffde03d7ffdf03dcffe003e1ff\
         e103d6ffe203dbffe303e0ffe403d8ffe503ddffe603e2ffe703d5ffe803daffe903dfffea05d4fffa43fc0dd6fffb38dc968421895800\
         0000",
    ),
];

fn own_offer() -> String {
    without_certificate(&ClientPeer::new(Identity::new(), 3, &[Kind::Audio, Kind::Video], 3).offer())
}

/// The fingerprint of a certificate made just now would make each run's seed another.
fn without_certificate(sdp: &str) -> String {
    let zeros = vec!["00"; 32].join(":");
    let line = |line: &str| match line.split_once("sha-256 ") {
        Some((head, _)) => format!("{head}sha-256 {zeros}\r\n"),
        None => format!("{line}\r\n"),
    };
    sdp.lines().map(line).collect()
}

/// To an offer with an audio and a video m-line, as the server makes it.
fn own_answer() -> String {
    let zeros = vec!["00"; 32].join(":");
    let head = format!(
        "v=0\r\no=- 9 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE s000 s001\r\na=ice-ufrag:abcd\r\n\
         a=ice-pwd:abcdefghijklmnopqrstuv\r\na=fingerprint:sha-256 {zeros}\r\na=setup:active\r\n"
    );
    let line = |kind, mid, formats, codec| {
        format!(
            "m={kind} 9 UDP/TLS/RTP/SAVPF {formats}\r\nc=IN IP4 0.0.0.0\r\na=mid:{mid}\r\na=recvonly\r\na=rtcp-mux\r\n\
             a=rtpmap:{formats} {codec}\r\n"
        )
    };
    head + &line("audio", "s000", 111, "opus/48000/2") + &line("video", "s001", 96, "VP8/90000")
}

fn scenes() -> Vec<(&'static str, Vec<u8>)> {
    let written = |steps: &[(u8, &[u8])]| {
        let mut out = Vec::new();
        steps.iter().for_each(|(kind, bytes)| write_step(*kind, bytes, &mut out));
        out
    };
    let rtp: Vec<Vec<u8>> = rtp_packets().into_iter().map(|(_, packet)| packet).collect();
    let rtcp: Vec<Vec<u8>> = compounds().into_iter().map(|(_, compound)| compound).collect();
    let check = check();
    let by_publisher: Vec<(u8, &[u8])> = rtp.iter().map(|it| (step::SEALED_BY_PUBLISHER, &it[..])).collect();
    let by_subscriber: Vec<(u8, &[u8])> = rtcp.iter().map(|it| (step::SEALED_BY_SUBSCRIBER, &it[..])).collect();
    let second = (step::TIME, &[3, 200][..]);
    // A fatal alert, a ClientHello that ends early, application data of an epoch to come.
    let alert: &[u8] = &[21, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 9, 0, 2, 2, 40];
    let hello: &[u8] = &[22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 14, 1, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 2, 0xfe, 0xfd];
    let data: &[u8] = &[23, 0xfe, 0xfd, 0, 1, 0, 0, 0, 0, 0, 1, 0, 4, 1, 2, 3, 4];
    let forged: Vec<(u8, &[u8])> = [step::FROM_STRANGER, step::FROM_PUBLISHER, step::FROM_HALF_OPEN]
        .into_iter()
        .flat_map(|from| [alert, hello, data, &check[..], &rtp[0], &rtcp[0]].map(|bytes| (from, bytes)))
        .collect();
    let (offer, answer) = (own_offer(), own_answer());
    let offered = [(step::OFFER, offer.as_bytes()), second, by_publisher[1]];
    let media: Vec<(u8, &[u8])> =
        by_publisher.iter().copied().chain([second]).chain(by_subscriber.iter().copied()).collect();
    vec![
        ("forged", written(&forged)),
        ("forged_then_time", written(&[forged[1], second, forged[7], second, forged[13], second])),
        ("media", written(&by_publisher)),
        ("media_and_feedback", written(&media)),
        ("report_of_publisher", written(&[(step::SEALED_BY_PUBLISHER, &rtcp[0]), second, second])),
        ("offer", written(&offered)),
        ("answer", written(&[(step::ANSWER, answer.as_bytes()), second])),
    ]
}

const TALKS: &[(&str, &[&str])] = &[
    (
        "joins",
        &[
            "2join-session\n{\"sessionId\":\"s\",\"userId\":\"u2\",\"userName\":\"Zoe\",\"media\":\"mesh\"}",
            "2leave-session\n{\"sessionId\":\"s\"}",
            "1join-session\n{\"sessionId\":\"t\",\"userId\":7,\"autoSubscribe\":false}",
        ],
    ),
    (
        "early",
        &[
            "2chat-message\n{\"message\":\"hi\"}",
            "2offer\n{}",
            "2join-session\n{\"sessionId\":\"s\",\"userId\":\"u2\"}",
        ],
    ),
    (
        "relay",
        &[
            "0offer\n{\"sessionId\":\"s\",\"targetUserId\":\"u1\",\"userId\":\"u0\",\"offer\":{\"type\":\"offer\",\"sdp\":\"x\"}}",
            "1ice-candidate\n{\"targetUserId\":\"u0\",\"candidate\":{\"candidate\":\"\"}}",
            "1ice-candidate\n{\"targetUserId\":\"sfu\",\"candidate\":null}",
        ],
    ),
    (
        "sfu",
        &[
            "1offer\n{\"targetUserId\":\"sfu\",\"offer\":{\"type\":\"offer\",\"sdp\":\"$OFFER\"},\"tracks\":[{\"mid\":\"0\",\"source\":\"microphone\",\"muted\":true}]}",
            "1answer\n{\"targetUserId\":\"sfu\",\"answer\":{\"type\":\"answer\",\"sdp\":\"$OFFER\"}}",
            "1subscription\n{\"trackId\":\"$TRACK\",\"enabled\":false,\"width\":640,\"height\":360,\"priority\":1}",
            "0track-update\n{\"trackId\":\"$TRACK\",\"muted\":true}",
        ],
    ),
    (
        "talk",
        &[
            "0chat-message\n{\"sessionId\":\"s\",\"message\":\"hello\",\"clientId\":\"c1\"}",
            "0chat-message\n{\"sessionId\":\"s\",\"message\":\"hello\",\"clientId\":\"c1\"}",
            "1raise-hand\n{\"raised\":true}",
            "1reaction\n{\"emoji\":\"👩‍🚀\"}",
            "0moderate\n{\"action\":\"mute\",\"participantId\":\"x\"}",
        ],
    ),
    ("nonsense", &["0\n[]", "0nonsense\n{\"a\":[[[[1e308,-0.0,\"\\u0000\"]]]]}", "1join-session\n", "2"]),
];

fn arrivals() -> Vec<(&'static str, Vec<u8>)> {
    let bytes = |arrivals: &[(u16, u16)]| {
        arrivals.iter().flat_map(|(seq, time)| [seq.to_be_bytes(), time.to_be_bytes()]).flatten().collect()
    };
    let steady: Vec<(u16, u16)> = (0..40).map(|it| (65_520u16.wrapping_add(it), 10)).collect();
    vec![
        ("steady", bytes(&steady)),
        ("lossy", bytes(&[(1, 5), (2, 5), (5, 700), (4, 0), (30, 60_000), (31, 1), (0, u16::MAX), (3, 1), (90, 2)])),
        (
            "leap",
            bytes(&[(10, 1), (3_000, 1), (11, 1), (0, u16::MAX), (35_000, 9), (35_001, 65_534), (35_002, 65_534)]),
        ),
    ]
}

/// Channels that open, talk, lose and close.
fn associations() -> Vec<(&'static str, Vec<u8>)> {
    let data = |tsn: u32, flags: u8, stream: u16, protocol: u32, bytes: &[u8]| {
        let tsn = sctp::FIRST_TSN + tsn;
        let head = [&tsn.to_be_bytes()[..], &stream.to_be_bytes(), &[0, 0], &protocol.to_be_bytes()].concat();
        sctp::chunk(0, flags, &[&head, bytes].concat())
    };
    let sack = |cumulative: u32, gaps: &[u8]| {
        let count = (gaps.len() / 4) as u16;
        let head = [&cumulative.to_be_bytes()[..], &[0, 16, 0, 0], &count.to_be_bytes(), &[0, 0]].concat();
        sctp::chunk(3, 0, &[&head, gaps].concat())
    };
    let open = data(0, 3, 0, 50, b"\x03\0\0\0\0\0\0\0\0\x04\0\0data");
    let (chunks, time, send) = (sctp::step::CHUNKS, sctp::step::TIME, sctp::step::SEND);
    let scene = |steps: &[(u8, Vec<u8>)]| {
        let mut out = Vec::new();
        steps.iter().for_each(|(kind, bytes)| sctp::write_step(&mut out, *kind, bytes));
        out
    };
    let talk = scene(&[
        (chunks, [open.clone(), data(1, 3, 0, 51, b"\nhello")].concat()),
        (send, vec![0; 100]),
        (chunks, sack(3, &[0, 2, 0, 4])),
        (time, vec![0; 60]),
        (chunks, sack(9, &[])),
        (chunks, sctp::chunk(4, 0, b"\0\x01\0\x08beat")),
    ]);
    let gaps = scene(&[
        (chunks, open.clone()),
        (chunks, data(2, 2, 0, 53, b"\nbegin")),
        (chunks, data(4, 1, 0, 53, b"end")),
        (chunks, data(3, 0, 0, 53, b"middle")),
        (chunks, data(6, 7, 0, 51, b"\novertakes")),
        (time, vec![0; 10]),
        (chunks, sctp::chunk(192, 0, &(sctp::FIRST_TSN + 1).to_be_bytes())),
        (chunks, sctp::chunk(192, 0, &[&(sctp::FIRST_TSN + 5).to_be_bytes()[..], &[0; 4]].concat())),
    ]);
    let lossy = scene(&[
        (chunks, open.clone()),
        (chunks, sack(0, &[])),
        (send, vec![1; 50]),
        (chunks, sack(0, &[0, 2, 0, 2])),
        (chunks, sack(0, &[0, 2, 0, 3])),
        (chunks, sack(0, &[0, 2, 0, 4])),
        (time, vec![0; 100]),
        (time, vec![0; 4_000]),
    ]);
    let request = |number: u32, last: u32| {
        let body = [&number.to_be_bytes()[..], &[0; 4], &last.to_be_bytes(), &[0, 0]].concat();
        sctp::chunk(130, 0, &[&[0, 13, 0, 18][..], &body].concat())
    };
    let reset = scene(&[
        (chunks, open),
        (chunks, request(sctp::FIRST_TSN, sctp::FIRST_TSN + 1)),
        (chunks, data(1, 3, 0, 51, b"\nlast words")),
        (chunks, request(sctp::FIRST_TSN, sctp::FIRST_TSN + 1)),
        (chunks, sctp::chunk(130, 0, &[0, 16, 0, 12, 0, 0, 0, 0, 0, 0, 0, 1])),
        (chunks, data(2, 3, 0, 50, b"\x03\x81\0\0\0\0\0\0\0\x04\0\0data")),
    ]);
    vec![("talk", talk), ("gaps", gaps), ("lossy", lossy), ("reset", reset)]
}
