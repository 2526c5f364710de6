//! Real descriptions, hostile ones, and ours read back.

use std::net::SocketAddr;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::*;

macro_rules! fixtures {
    ($($name:literal),* $(,)?) => { [$(($name, include_str!(concat!("../../tests/sdp/", $name, ".sdp")))),*] };
}

/// Chromium's and Firefox's are captured; aiortc's and GStreamer's are written after theirs.
const FIXTURES: [(&str, &str); 18] = fixtures![
    "chromium_data_offer",
    "chromium_max_bundle_offer",
    "chromium_publish_offer",
    "chromium_receive_answer",
    "chromium_recvonly_offer",
    "chromium_simulcast_offer",
    "chromium_stopped_answer",
    "chromium_stopped_offer",
    "firefox_data_offer",
    "firefox_max_bundle_offer",
    "firefox_publish_offer",
    "firefox_receive_answer",
    "firefox_recvonly_offer",
    "firefox_simulcast_offer",
    "firefox_stopped_answer",
    "firefox_stopped_offer",
    "aiortc_offer",
    "gstreamer_offer",
];

fn text(name: &str) -> &'static str {
    FIXTURES.iter().find(|(other, _)| *other == name).expect("a fixture of that name").1
}

fn fixture(name: &str) -> Description {
    parse(text(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn refusal(sdp: &str) -> String {
    parse(sdp).expect_err("a description to be refused").0
}

fn mid(name: &str) -> Mid {
    Mid::new(name).expect("a mid")
}

fn payload_types(media: &Media) -> Vec<(u8, CodecName, Option<u8>)> {
    media.codecs.iter().map(|codec| (codec.payload_type, codec.name, codec.rtx)).collect()
}

/// Paused layers behind a tilde.
fn rids(media: &Media) -> Vec<String> {
    media.rids.iter().map(|rid| format!("{}{}", if rid.paused { "~" } else { "" }, rid.id)).collect()
}

fn kinds(description: &Description) -> Vec<(MediaKind, Direction, bool)> {
    description.media.iter().map(|media| (media.kind, media.direction, media.rejected)).collect()
}

/// A description with one m-line of audio, on which the cases of refusal build.
const MINIMAL: &str = "v=0\no=- 1 2 IN IP4 0.0.0.0\ns=-\nt=0 0\na=group:BUNDLE 0\n\
    m=audio 9 UDP/TLS/RTP/SAVPF 111\na=mid:0\na=ice-ufrag:abcd\na=ice-pwd:abcdefghijklmnopqrstuv\n\
    a=fingerprint:sha-256 00:01:02:03:04:05:06:07:08:09:0A:0B:0C:0D:0E:0F:10:11:12:13:14:15:16:17:18:19:1A:1B:1C:1D:1E:1f\n\
    a=rtcp-mux\na=rtpmap:111 opus/48000/2\n";

#[test]
fn every_fixture_parses_and_is_whole() {
    for (name, _) in FIXTURES {
        let description = fixture(name);
        assert!(!description.media.is_empty() && !description.ice_lite, "{name}");
        for media in description.media.iter().filter(|media| !media.rejected) {
            assert!(description.bundle.contains(&media.mid), "{name}");
            assert!(media.ice_ufrag.is_some() && media.ice_pwd.is_some() && media.fingerprint.is_some(), "{name}");
            if media.kind != MediaKind::Application {
                assert!(media.codecs.iter().any(supported), "{name} {}", media.mid);
                assert!(
                    media.extensions.iter().any(|(_, extension)| *extension == Extension::Mid),
                    "{name} {}",
                    media.mid
                );
            }
        }
    }
}

#[test]
fn chromium_publishes_camera_microphone_and_screen() {
    use CodecName::*;
    let offer = fixture("chromium_publish_offer");
    assert_eq!((offer.origin.as_str(), offer.version), ("- 5176621556147995671", 2));
    assert_eq!(offer.bundle, [mid("0"), mid("1"), mid("2")]);
    assert_eq!(
        kinds(&offer),
        [
            (MediaKind::Audio, Direction::SendRecv, false),
            (MediaKind::Video, Direction::SendRecv, false),
            (MediaKind::Video, Direction::SendOnly, false)
        ]
    );
    let [audio, camera, screen] = &offer.media[..] else { panic!("three m-lines") };
    assert_eq!(audio.ice_ufrag.as_deref(), Some("8fPX"));
    assert_eq!(audio.ice_pwd.as_deref(), Some("rpf8HgzISD+HxBT0WmE5551D"));
    assert_eq!(audio.fingerprint.map(|bytes| [bytes[0], bytes[31]]), Some([0x68, 0xa7]));
    assert_eq!((audio.setup, audio.rtcp_mux, audio.sctp_port), (Some(Setup::ActPass), true, None));
    assert_eq!(payload_types(audio), [(111, Opus, None), (63, Red, None)]);
    assert_eq!((audio.codecs[0].fmtp.as_str(), audio.codecs[0].channels), ("minptime=10;useinbandfec=1", 2));
    assert_eq!(audio.codecs[0].feedback, Feedback::audio());
    use Extension as E;
    assert_eq!(audio.extensions, [(1, E::AudioLevel), (2, E::AbsSendTime), (3, E::TransportCc), (4, E::Mid)]);
    assert_eq!((&audio.ssrcs[..], audio.rtx_ssrcs.is_empty()), (&[4_087_889_728][..], true));
    let msid = audio.msid.as_ref().map(|(stream, track)| (stream.as_str(), track.as_str()));
    assert_eq!(msid, Some(("a060cbbd-9c9f-45a9-a29e-79bf0a9d06a1", "a9a2a8e1-191e-4e7c-809e-8ab1313282e6")));
    let h264 = |payload_type: u8, rtx: u8| (payload_type, H264, Some(rtx));
    assert_eq!(
        payload_types(camera),
        [
            (96, Vp8, Some(97)),
            h264(102, 103),
            h264(104, 107),
            h264(108, 109),
            h264(114, 115),
            h264(116, 117),
            h264(39, 40),
            (45, Av1, Some(46)),
            (98, Vp9, Some(99)),
            (100, Vp9, Some(101)),
            (118, Red, Some(119)),
        ],
        "in order of the m-line, without ulpfec"
    );
    assert_eq!(camera.codecs[0].feedback, Feedback::video());
    assert_eq!(camera.ssrcs, [camera.rtx_ssrcs[0].0], "RTX is no media");
    assert_ne!(camera.ssrcs, screen.ssrcs);
}

#[test]
fn firefox_inherits_its_fingerprint_and_marks_bundle_only() {
    let offer = fixture("firefox_publish_offer");
    assert_eq!((offer.origin.as_str(), offer.version), ("mozilla...THIS_IS_SDPARTA-99.0 9115118538900603411", 0));
    let [audio, camera, screen] = &offer.media[..] else { panic!("three m-lines") };
    assert_eq!(audio.fingerprint.map(|bytes| [bytes[0], bytes[31]]), Some([0x61, 0x3d]));
    assert_eq!(audio.fingerprint, screen.fingerprint);
    assert!(text("firefox_publish_offer").contains("a=bundle-only") && !screen.rejected);
    assert_eq!(screen.direction, Direction::SendOnly);
    use CodecName::*;
    assert_eq!(
        payload_types(camera),
        [(120, Vp8, Some(124)), (121, Vp9, Some(125)), (99, Av1, Some(100)), (122, Red, Some(119))]
    );
    assert_eq!(camera.ssrcs, [2_444_175_761]);
    assert_eq!(camera.rtx_ssrcs, [(2_444_175_761, 965_083_632)]);
}

#[test]
fn answers_of_receivers() {
    for name in ["chromium_receive_answer", "firefox_receive_answer"] {
        let answer = fixture(name);
        assert!(
            answer
                .media
                .iter()
                .all(|media| media.direction == Direction::RecvOnly && media.setup == Some(Setup::Active)),
            "{name}"
        );
    }
    for name in ["chromium_recvonly_offer", "firefox_recvonly_offer"] {
        let offer = fixture(name);
        assert!(
            offer.media.iter().all(|media| media.direction == Direction::RecvOnly && media.msid.is_none()),
            "{name}"
        );
        assert_eq!(offer.media.len(), 3, "{name}");
    }
}

#[test]
fn stopped_m_lines_are_rejected() {
    for name in ["chromium_stopped_offer", "chromium_stopped_answer", "firefox_stopped_offer", "firefox_stopped_answer"]
    {
        let description = fixture(name);
        let rejected: Vec<bool> = description.media.iter().map(|media| media.rejected).collect();
        assert_eq!(rejected, [false, false, true], "{name}");
        assert_eq!(description.bundle, [mid("0"), mid("1")], "{name}");
        assert_eq!(description.media[2].mid, mid("2"), "{name}");
    }
}

#[test]
fn simulcast_offers_name_their_layers() {
    for name in ["chromium_simulcast_offer", "firefox_simulcast_offer"] {
        let offer = fixture(name);
        assert_eq!(rids(&offer.media[1]), ["q", "h", "f"], "{name}");
        assert!(offer.media.iter().all(|media| media.mixed), "{name}: of the session or of each m-line");
        assert!(offer.media[1].extensions.iter().any(|(_, extension)| *extension == Extension::RepairedRid), "{name}");
        assert!(offer.media[0].rids.is_empty(), "{name}");
    }
    assert_eq!(fixture("firefox_simulcast_offer").media[1].ssrcs, [3_104_651_057, 3_045_404_458, 730_438_484]);
    assert!(fixture("chromium_simulcast_offer").media[1].ssrcs.is_empty());
}

#[test]
fn simulcast_is_what_both_attributes_say() {
    let rid_lines = "a=rid:a send pt=111;max-width=320\na=rid:b send\na=rid:c recv\na=rid:d send\n";
    let layers = |simulcast: &str| {
        let parsed = parse(&format!("{MINIMAL}{rid_lines}{simulcast}\n")).expect("simulcast");
        rids(&parsed.media[0])
    };
    let none: [&str; 0] = [];
    assert_eq!(layers("a=simulcast:send d;a;b"), ["d", "a", "b"], "in the order of a=simulcast");
    assert_eq!(layers("a=simulcast:recv c send ~b,x;~a;b;c"), ["~b", "~a"], "each once, and what has an a=rid to send");
    assert_eq!(layers("a=simulcast:send x,~a,b;y;d"), ["~a", "d"], "of alternatives the first that is there");
    assert_eq!(layers("a=simulcast:send a;~~b;;~;,"), ["a", "~b"]);
    assert_eq!(layers("a=simulcast:recv a;b"), none, "not what it would receive");
    assert_eq!(layers(""), none, "an a=rid alone restricts the one encoding");
    assert_eq!(layers("a=simulcast:send"), none);
    let many: String = (0..RIDS_MAX).map(|index| format!("a=rid:r{index} send\n")).collect();
    let all = vec!["r0"; 100].join(";") + ";r1";
    let parsed = parse(&format!("{MINIMAL}{many}a=simulcast:send {all}\n")).expect("simulcast");
    assert_eq!(rids(&parsed.media[0]), ["r0"], "what is behind the limit is not looked at");
    for bad in ["a=rid: send", "a=rid:a", "a=rid:a;b send", "a=rid:~a send", "a=rid:a\u{1}b send", "a=rid:\u{e9} send"]
    {
        assert!(parse(&format!("{MINIMAL}{bad}\n")).is_err(), "{bad}");
    }
}

#[test]
fn the_layers_that_we_receive_are_written() {
    let layer = |id: &str, paused| Rid { id: id.into(), paused };
    let media = |rids: Vec<Rid>| {
        let Description { mut media, .. } = fixture("chromium_simulcast_offer");
        let video = media.swap_remove(1);
        LocalMedia {
            kind: video.kind,
            mid: video.mid,
            rejected: false,
            direction: Direction::RecvOnly,
            codecs: video.codecs,
            extensions: video.extensions,
            mixed: video.mixed,
            rids,
            send: None,
        }
    };
    let written = |media: LocalMedia| {
        let local = Local {
            session_id: 1,
            version: 1,
            ice_ufrag: "ufrag".into(),
            ice_pwd: "passwordpasswordpassword".into(),
            fingerprint: [1; 32],
            setup: Setup::Passive,
            udp_candidates: Vec::new(),
            tcp_candidates: Vec::new(),
            media: vec![media],
        };
        let sdp = local.write();
        let lines = sdp.lines().filter(|line| line.starts_with("a=rid:") || line.starts_with("a=simulcast:"));
        lines.map(str::to_owned).collect::<Vec<String>>()
    };
    let three = media(vec![layer("q", false), layer("h", true), layer("f", false)]);
    assert_eq!(written(three), ["a=rid:q recv", "a=rid:h recv", "a=rid:f recv", "a=simulcast:recv q;~h;f"]);
    assert_eq!(written(media(Vec::new())), Vec::<String>::new());
}

#[test]
fn data_channels() {
    for name in ["chromium_data_offer", "firefox_data_offer", "aiortc_offer"] {
        let offer = fixture(name);
        let data = &offer.media[2];
        assert_eq!((data.kind, data.rejected, data.sctp_port), (MediaKind::Application, false, Some(5_000)), "{name}");
        assert!(data.codecs.is_empty() && data.fingerprint.is_some(), "{name}");
    }
}

#[test]
fn other_clients() {
    use CodecName::*;
    let aiortc = fixture("aiortc_offer");
    assert_eq!(payload_types(&aiortc.media[0]), [(96, Opus, None)]);
    assert_eq!(payload_types(&aiortc.media[1]), [(97, Vp8, Some(98)), (99, H264, Some(100)), (101, H264, Some(102))]);
    assert!(aiortc.media[1].fingerprint.is_some(), "sha-256 among three hashes");
    let gstreamer = fixture("gstreamer_offer");
    assert_eq!(gstreamer.bundle, [mid("video0"), mid("audio1")]);
    assert_eq!(payload_types(&gstreamer.media[0]), [(96, Vp8, Some(97))]);
    assert_eq!(payload_types(&gstreamer.media[1]), [(98, Opus, None)], "whatever the case of its name");
    assert_eq!(gstreamer.media[1].codecs[0].key(), aiortc.media[0].codecs[0].key());
    assert!(gstreamer.media[0].codecs[0].feedback.nack_pli, "feedback of `*`");
    assert_eq!(gstreamer.media[1].ice_pwd, gstreamer.media[0].ice_pwd, "transport of the group's first m-line");
}

#[test]
fn what_cannot_be_served_is_refused() {
    assert_eq!(parse(MINIMAL).expect("the minimal description").media[0].mid, mid("0"));
    let fingerprint = MINIMAL.lines().find(|line| line.starts_with("a=fingerprint")).expect("it has one");
    let cases = [
        ("v=0", "v=1", "v=0 first"),
        ("v=0\n", "", "v=0 first"),
        ("s=-", "v=0", "one v="),
        ("s=-", "o=- 1 2 IN IP4 0.0.0.0", "one o="),
        ("o=- 1 2 IN IP4 0.0.0.0", "", "expected v=0 and o="),
        ("o=- 1 2 ", "o=- 1 -2 ", "session version"),
        ("s=-", "s:-", "<type>=<value>"),
        ("s=-", "session=-", "a line of RFC 8866"),
        ("s=-", "s=a\u{0}b", "control"),
        ("s=-", "s=a\rb", "control"),
        ("m=audio", "m=text", "m=audio, m=video or m=application"),
        ("audio 9", "audio 65536", "a port"),
        ("UDP/TLS/RTP/SAVPF", "RTP/AVP", "UDP/TLS/RTP/SAVPF"),
        ("SAVPF 111", "SAVPF 111 128", "0 to 127"),
        ("SAVPF 111", "SAVPF 111 x", "0 to 127"),
        ("SAVPF 111", "SAVPF 111 111", "each payload type once"),
        ("rtpmap:111 ", "rtpmap:256 ", "0 to 127"),
        ("a=rtcp-mux", "a=rtpmap:111 VP8/90000", "one codec for a payload type"),
        ("a=rtcp-mux", "", "rtcp-mux for mid 0"),
        ("a=mid:0\n", "", "a mid for the m-line"),
        ("a=mid:0\n", "a=mid:0\na=mid:1\n", "one mid"),
        ("a=mid:0\n", "a=mid:0 1\n", "token characters"),
        ("a=mid:0\n", "a=mid:\n", "token characters"),
        ("BUNDLE 0", "BUNDLE 0 1", "BUNDLE of the mids"),
        ("BUNDLE 0", "BUNDLE 0 0", "BUNDLE of the mids"),
        ("s=-", "a=group:BUNDLE 0", "one BUNDLE group"),
        ("a=ice-ufrag:abcd\n", "", "ice-ufrag and ice-pwd"),
        ("ufrag:abcd", "ufrag:abc", "4 to 256 ice-chars"),
        ("ufrag:abcd", "ufrag:ab:cd", "4 to 256 ice-chars"),
        ("qrstuv", "qrstu", "22 to 256 ice-chars"),
        ("1E:1f", "1E", "32 bytes of SHA-256"),
        ("1E:1f", "1E:1f:20", "32 bytes of SHA-256"),
        ("1E:1f", "1E:+f", "32 bytes of SHA-256"),
        ("1E:1f", "1E:é", "32 bytes of SHA-256"),
        ("a=fingerprint:sha-256", "a=fingerprint:sha-1", "a sha-256 fingerprint"),
        ("a=rtcp-mux", &format!("a=rtcp-mux\n{}", fingerprint.replace("00:01", "01:01")), "two SHA-256"),
        ("a=rtcp-mux", "a=rtcp-mux\na=setup:holdconn", "actpass, active or passive"),
        (
            "a=rtcp-mux",
            "a=rtcp-mux\na=extmap:1 urn:ietf:params:rtp-hdrext:sdes:mid\na=extmap:1 urn:3gpp:video-orientation",
            "one extension",
        ),
        ("a=rtcp-mux", "a=rtcp-mux\na=ssrc:x cname:y", "an SSRC"),
        ("a=rtcp-mux", "a=rtcp-mux\na=rid:12345678901234567 send", "1 to 16"),
        ("a=rtcp-mux", "a=rtcp-mux\na=sctp-port:65536", "an SCTP port"),
        ("a=rtcp-mux", "a=rtcp-mux\na=max-message-size:-1", "a size in bytes"),
    ];
    for (what, with, expected) in cases {
        let message = refusal(&MINIMAL.replacen(what, with, 1));
        assert!(message.contains(expected), "{with:?}: {message}");
    }
}

#[test]
fn what_exceeds_a_limit_is_refused() {
    let more = |lines: String| format!("{MINIMAL}{lines}");
    let many = |count: usize, line: &dyn Fn(usize) -> String| more((0..count).map(line).collect());
    let media = MINIMAL.split_once("m=audio").expect("it has an m-line").1;
    let media = |index: usize| format!("m=audio{}", media.replace("mid:0", &format!("mid:m{index}")));
    assert!(refusal(&"v=0\n".repeat(256 * 1024)).contains("at most 262144 bytes"));
    assert!(refusal(&many(LINES_MAX, &|_| "i=\n".into())).contains("at most 10000 lines"));
    assert_eq!(parse(&many(MEDIA_MAX - 1, &media)).expect("as many as may be").media.len(), MEDIA_MAX);
    assert!(refusal(&many(MEDIA_MAX, &media)).contains("at most 256 m-lines"));
    assert!(refusal(&many(999, &|_| "m=audio 0 X 0\n".into())).contains("at most 256 m-lines"));
    let candidate = |index: usize| format!("a=candidate:{index} 1 udp 1 evil{index}.local 22 typ host\n");
    assert!(parse(&many(CANDIDATES_MAX, &candidate)).is_ok());
    assert!(refusal(&many(5_000, &candidate)).contains("at most 1000 candidates"));
    assert!(refusal(&MINIMAL.replace("mid:0", &format!("mid:{}", "x".repeat(65_536)))).contains("1 to 16"));
    assert!(refusal(&many(1, &|_| media(0) + &media(0))).contains("each mid once"));
    let formats: String = (0..70).map(|payload_type| format!(" {payload_type}")).collect();
    assert!(refusal(&MINIMAL.replace(" 111\n", &format!("{formats}\n"))).contains("at most 64 formats"));
    assert!(parse(&many(SSRCS_MAX, &|index| format!("a=ssrc:{index} cname:x\n"))).is_ok());
    assert!(refusal(&many(SSRCS_MAX + 1, &|index| format!("a=ssrc:{index} cname:x\n"))).contains("at most 16 SSRCs"));
    assert!(refusal(&many(SSRCS_MAX + 1, &|_| "a=ssrc-group:FID 1 2\n".into())).contains("at most 16 SSRC groups"));
    assert!(refusal(&more(format!("a=ssrc-group:SIM{}\n", " 1".repeat(17)))).contains("at most 16 SSRCs"));
    assert!(refusal(&many(RIDS_MAX + 1, &|index| format!("a=rid:{index} send\n"))).contains("at most 8 RIDs"));
    assert!(refusal(&more(format!("a=fmtp:111 {}\n", "x".repeat(2_000)))).contains("at most 1024 bytes"));
    assert!(refusal(&MINIMAL.replace("o=-", &format!("o={}", "x".repeat(129)))).contains("short words"));
    assert_eq!(parse(&more(format!("a=msid:{} t\n", "x".repeat(65)))).expect("still served").media[0].msid, None);
}

#[test]
fn errors_repeat_no_more_than_64_bytes_and_only_printable_ones() {
    let message = refusal(&format!("v=0\n\u{1b}[31m{}é", "z".repeat(1_000)));
    assert_eq!(message.matches('z').count(), 64 - 5);
    assert!(message.starts_with("line 2: ") && message.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()));
}

#[test]
fn quirks_that_are_taken() {
    let crlf = MINIMAL.replace('\n', "\r\n");
    assert_eq!(parse(&crlf), parse(MINIMAL));
    assert_eq!(parse(MINIMAL.trim_end()), parse(MINIMAL), "without the last line end");
    assert_eq!(parse(&MINIMAL.replace("s=-\nt=0 0\n", "\n\n")), parse(MINIMAL), "blank lines, no s= and t=");
    let rejected = parse(&format!("{MINIMAL}m=video 0 RTP/AVP 0\n")).expect("a rejected m-line may be bare");
    assert_eq!((rejected.media[1].mid, rejected.media[1].rejected), (mid("rejected-1"), true));
    let sim = "a=ssrc:3 cname:x\na=ssrc:6 cname:x\na=ssrc-group:SIM 1 2 3\na=ssrc-group:FID 1 4\na=ssrc-group:FID 2 5\na=ssrc-group:FEC-FR 1 6\n";
    let sim = parse(&format!("{MINIMAL}{sim}")).expect("SSRC simulcast");
    assert_eq!((&sim.media[0].ssrcs[..], &sim.media[0].rtx_ssrcs[..]), (&[1, 2, 3][..], &[(1, 4), (2, 5)][..]));
    let like_rtcp = MINIMAL.replace("SAVPF 111", "SAVPF 111 72") + "a=rtpmap:72 VP8/90000\n";
    assert_eq!(payload_types(&parse(&like_rtcp).expect("served without it").media[0]), [(111, CodecName::Opus, None)]);
    let any_id =
        "a=extmap:4096 urn:ietf:params:rtp-hdrext:sdes:mid\na=extmap:7/sendonly urn:ietf:params:rtp-hdrext:sdes:mid\n";
    assert_eq!(parse(&format!("{MINIMAL}{any_id}")).expect("extensions").media[0].extensions, [(7, Extension::Mid)]);
}

#[test]
fn mids() {
    assert_eq!(mid("0123456789abcdef").as_str(), "0123456789abcdef");
    assert_eq!((mid("a").as_bytes(), mid("a").to_string()), (&b"a"[..], "a".to_string()));
    assert_ne!(mid("a"), mid("b"));
    for bad in ["", "0123456789abcdefg", "a b", "a\r\n", "a:b", "é", "a,b", "\"a\"", "a\0"] {
        assert_eq!(Mid::new(bad), None, "{bad:?}");
    }
}

/// What parsing a written description must give.
fn as_parsed(local: &Local) -> Description {
    let is_rejected =
        |media: &LocalMedia| media.rejected || media.kind != MediaKind::Application && media.codecs.is_empty();
    let muxes = local.media.iter().find(|m| !is_rejected(m)).is_some_and(|m| m.kind != MediaKind::Application);
    let media = local.media.iter().map(|media| {
        let rejected = is_rejected(media);
        let data = media.kind == MediaKind::Application;
        let send = media.send.as_ref().filter(|_| !rejected && !data);
        let bare =
            |codec: &Codec| Codec { fmtp: String::new(), feedback: Feedback::default(), rtx: None, ..codec.clone() };
        Media {
            kind: media.kind,
            mid: media.mid,
            rejected,
            direction: match media.kind {
                _ if rejected => Direction::Inactive,
                MediaKind::Application => Direction::SendRecv,
                _ => media.direction,
            },
            ice_ufrag: (!rejected).then(|| local.ice_ufrag.clone()),
            ice_pwd: (!rejected).then(|| local.ice_pwd.clone()),
            fingerprint: (!rejected).then_some(local.fingerprint),
            setup: (!rejected).then_some(local.setup),
            codecs: match media.kind {
                MediaKind::Application => Vec::new(),
                _ if rejected => media.codecs.first().map(bare).into_iter().collect(),
                _ => media.codecs.clone(),
            },
            extensions: if rejected || data { Vec::new() } else { media.extensions.clone() },
            mixed: !rejected && !data && media.mixed,
            msid: send.map(|send| (send.stream_id.to_string(), send.track_id.clone())),
            ssrcs: send.map(|send| send.ssrc).into_iter().collect(),
            rtx_ssrcs: send.and_then(|send| Some((send.ssrc, send.rtx_ssrc?))).into_iter().collect(),
            rids: Vec::new(),
            // It means nothing for data, and comes from the first line of the group.
            rtcp_mux: !rejected && (!data || muxes),
            sctp_port: (!rejected && data).then_some(5_000),
            message_bytes_max: (!rejected && data).then_some(262_144),
        }
    });
    Description {
        origin: format!("- {}", local.session_id & (u64::MAX >> 1)),
        version: local.version,
        ice_lite: true,
        media: media.collect(),
        bundle: local.media.iter().filter(|media| !is_rejected(media)).map(|media| media.mid).collect(),
    }
}

fn any_feedback() -> impl Strategy<Value = Feedback> {
    any::<[bool; 5]>().prop_map(|[nack, nack_pli, ccm_fir, goog_remb, transport_cc]| Feedback {
        nack,
        nack_pli,
        ccm_fir,
        goog_remb,
        transport_cc,
    })
}

/// Codecs of an m-line, with payload types of their own from 96 on.
fn any_codecs() -> impl Strategy<Value = Vec<Codec>> {
    let names = vec![CodecName::Opus, CodecName::Red, CodecName::Vp8, CodecName::Vp9, CodecName::H264, CodecName::Av1];
    let fmtp = prop_oneof![Just(String::new()), "[a-z-]{1,8}=[0-9a-f]{1,6}(;[a-z]{1,8}=[0-9]{1,3}){0,3}"];
    vec((select(names), 1..200_000_u32, 1..=2_u8, fmtp, any_feedback(), any::<bool>()), 0..8).prop_map(|codecs| {
        let codec = |(index, (name, clock_rate, channels, fmtp, feedback, rtx))| {
            let payload_type = 96 + 2 * index as u8;
            Codec {
                payload_type,
                name,
                clock_rate,
                channels,
                fmtp,
                feedback,
                rtx: bool::then_some(rtx, payload_type + 1),
            }
        };
        codecs.into_iter().enumerate().map(codec).collect()
    })
}

fn any_send(id: &'static str) -> impl Strategy<Value = LocalSend> {
    (id, id, id, 0..1_000_u32, proptest::option::of(1_000..2_000_u32)).prop_map(
        |(stream, track_id, cname, ssrc, rtx_ssrc)| LocalSend {
            stream_id: stream.into(),
            track_id,
            cname: cname.into(),
            ssrc,
            rtx_ssrc,
        },
    )
}

fn any_media(id: &'static str) -> impl Strategy<Value = LocalMedia> {
    let kind = select(vec![MediaKind::Audio, MediaKind::Video, MediaKind::Application]);
    let direction = select(vec![Direction::SendRecv, Direction::SendOnly, Direction::RecvOnly, Direction::Inactive]);
    let extensions = proptest::sample::subsequence(Extension::ALL.to_vec(), 0..=Extension::ALL.len());
    let rejected = proptest::bool::weighted(0.3);
    (kind, rejected, direction, any_codecs(), extensions, any::<bool>(), proptest::option::of(any_send(id))).prop_map(
        |(kind, rejected, direction, codecs, extensions, mixed, send)| {
            let extensions = extensions.into_iter().enumerate().map(|(index, extension)| (index as u8 + 1, extension));
            let extensions = extensions.collect();
            LocalMedia { kind, mid: mid("0"), rejected, direction, codecs, extensions, mixed, rids: Vec::new(), send }
        },
    )
}

fn any_local(id: &'static str) -> impl Strategy<Value = Local> {
    let credentials = ("[a-zA-Z0-9+/]{4,256}", "[a-zA-Z0-9+/]{22,256}", any::<[u8; 32]>());
    let setup = select(vec![Setup::ActPass, Setup::Active, Setup::Passive]);
    let candidates = (vec(any::<SocketAddr>(), 0..4), vec(any::<SocketAddr>(), 0..4));
    (any::<[u64; 2]>(), credentials, setup, candidates, vec(any_media(id), 0..6)).prop_map(
        |(
            [session_id, version],
            (ice_ufrag, ice_pwd, fingerprint),
            setup,
            (udp_candidates, tcp_candidates),
            mut media,
        )| {
            for (index, media) in media.iter_mut().enumerate() {
                media.mid = mid(&format!("m{index}"));
            }
            Local { session_id, version, ice_ufrag, ice_pwd, fingerprint, setup, udp_candidates, tcp_candidates, media }
        },
    )
}

proptest! {
    #[test]
    fn what_we_write_is_what_we_read(local in any_local("[a-zA-Z0-9_-]{1,36}")) {
        prop_assert_eq!(parse(&local.write()), Ok(as_parsed(&local)));
    }

    #[test]
    fn no_string_adds_a_line(local in any_local("[a\r\n= é\u{0}:]{0,20}"), word in "[a\r\n= é\u{0}:]{0,20}") {
        let mut harmless = local.clone();
        let mut hostile = local;
        for (local, word) in [(&mut harmless, "x"), (&mut hostile, word.as_str())] {
            local.ice_ufrag = word.into();
            local.ice_pwd = word.into();
            for media in &mut local.media {
                media.codecs.iter_mut().for_each(|codec| codec.fmtp = format!("y{word}"));
                if let Some(send) = media.send.as_mut().filter(|_| word == "x") {
                    (send.stream_id, send.track_id, send.cname) = ("x".into(), "x".into(), "x".into());
                }
            }
        }
        let attributes = |sdp: &str| -> Vec<String> {
            sdp.split("\r\n").map(|line| line.split([' ', ':']).next().unwrap_or_default().into()).collect()
        };
        let written = hostile.write();
        prop_assert_eq!(attributes(&written), attributes(&harmless.write()));
        prop_assert!(written.replace("\r\n", "").bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()));
    }

    #[test]
    fn strangers_strings_never_panic(sdp in any::<String>(), lines in vec("[voasmtc]=[ -~]{0,40}", 0..20)) {
        prop_assert!(parse(&sdp).is_err());
        prop_assert!(parse(&lines.join("\n")).is_err());
        // Behind a start that is good, any line may come; what it does is up to it.
        let _ = parse(&format!("{MINIMAL}{sdp}\n{}", lines.join("\n")));
    }

    /// Lines lost, repeated and moved, and bytes changed: whatever comes out keeps the promises of [`Media`].
    #[test]
    fn mutated_fixtures_keep_the_promises(
        fixture in select(FIXTURES.to_vec()),
        moves in vec((any::<Index>(), any::<Index>(), 0..3_u8), 0..6),
        bytes in vec((any::<Index>(), any::<u8>()), 0..6),
    ) {
        let mut lines: Vec<&str> = fixture.1.lines().collect();
        for (from, to, how) in moves {
            let (from, to) = (from.index(lines.len()), to.index(lines.len()));
            match how {
                0 => lines.swap(from, to),
                1 => lines.insert(to, lines[from]),
                _ => drop(lines.remove(from)),
            }
        }
        let mut mutated = lines.join("\r\n").into_bytes();
        for (at, byte) in bytes {
            let at = at.index(mutated.len());
            mutated[at] = byte;
        }
        if let Ok(description) = parse(&String::from_utf8_lossy(&mutated)) {
            for media in &description.media {
                prop_assert!(media.rejected || (media.ice_ufrag.is_some() && media.ice_pwd.is_some() && media.fingerprint.is_some()));
                prop_assert!(media.codecs.iter().all(|codec| codec.payload_type <= 127 && codec.rtx != Some(codec.payload_type)));
                prop_assert_eq!(description.media.iter().filter(|other| other.mid == media.mid).count(), 1);
            }
            prop_assert!(description.bundle.iter().all(|mid| description.media.iter().any(|media| media.mid == *mid)));
        }
    }
}

/// The whole text, for what parsing leaves out: candidates and their priorities, and the order of lines.
#[test]
fn a_written_offer() {
    let opus = Codec {
        payload_type: 111,
        name: CodecName::Opus,
        clock_rate: 48_000,
        channels: 2,
        fmtp: "useinbandfec=1".into(),
        feedback: Feedback::audio(),
        rtx: None,
    };
    let vp8 = Codec {
        payload_type: 96,
        name: CodecName::Vp8,
        clock_rate: 90_000,
        channels: 1,
        fmtp: String::new(),
        feedback: Feedback { nack: true, nack_pli: true, ..Feedback::default() },
        rtx: Some(97),
    };
    let media = |name: &str, kind: MediaKind, codecs: Vec<Codec>| LocalMedia {
        kind,
        mid: mid(name),
        rejected: false,
        direction: Direction::SendOnly,
        codecs,
        extensions: vec![(1, Extension::Mid)],
        mixed: true,
        rids: Vec::new(),
        send: None,
    };
    let send =
        LocalSend { stream_id: "ann".into(), track_id: "t1".into(), cname: "ann".into(), ssrc: 7, rtx_ssrc: Some(8) };
    let address = |address: &str| address.parse::<SocketAddr>().expect("an address");
    let local = Local {
        session_id: u64::MAX,
        version: 3,
        ice_ufrag: "ufrag".into(),
        ice_pwd: "passwordpasswordpassword".into(),
        fingerprint: [0xab; 32],
        setup: Setup::ActPass,
        udp_candidates: vec![address("192.0.2.1:443"), address("[2001:db8::1]:443")],
        tcp_candidates: vec![address("192.0.2.1:444")],
        media: vec![
            LocalMedia { rejected: true, ..media("0", MediaKind::Audio, vec![opus.clone()]) },
            LocalMedia { send: Some(send), ..media("1", MediaKind::Video, vec![vp8]) },
            media("2", MediaKind::Application, Vec::new()),
            media("3", MediaKind::Video, Vec::new()),
            LocalMedia { mixed: false, ..media("4", MediaKind::Audio, vec![opus]) },
        ],
    };
    let transport = format!(
        "a=ice-ufrag:ufrag\na=ice-pwd:passwordpasswordpassword\na=fingerprint:sha-256 {}AB\na=setup:actpass",
        "AB:".repeat(31)
    );
    let candidates = "a=candidate:1 1 udp 2130706431 192.0.2.1 443 typ host\n\
        a=candidate:2 1 udp 2130706175 2001:db8::1 443 typ host\n\
        a=candidate:3 1 tcp 1520435199 192.0.2.1 444 typ host tcptype passive\na=end-of-candidates";
    let expected = format!(
        "v=0\no=- 9223372036854775807 3 IN IP4 127.0.0.1\ns=-\nt=0 0\na=ice-lite\na=ice-options:ice2 trickle\n\
         a=group:BUNDLE 1 2 4\na=msid-semantic:WMS *\n\
         m=audio 0 UDP/TLS/RTP/SAVPF 111\nc=IN IP4 0.0.0.0\na=inactive\na=mid:0\na=rtpmap:111 opus/48000/2\n\
         m=video 9 UDP/TLS/RTP/SAVPF 96 97\nc=IN IP4 0.0.0.0\na=rtcp-mux\na=rtcp-rsize\n{transport}\n{candidates}\n\
         a=mid:1\na=sendonly\na=extmap:1 urn:ietf:params:rtp-hdrext:sdes:mid\na=extmap-allow-mixed\n\
         a=rtpmap:96 VP8/90000\na=rtcp-fb:96 nack\na=rtcp-fb:96 nack pli\na=rtpmap:97 rtx/90000\na=fmtp:97 apt=96\n\
         a=msid:ann t1\na=ssrc-group:FID 7 8\na=ssrc:7 cname:ann\na=ssrc:7 msid:ann t1\na=ssrc:8 cname:ann\na=ssrc:8 msid:ann t1\n\
         m=application 9 UDP/DTLS/SCTP webrtc-datachannel\nc=IN IP4 0.0.0.0\n{transport}\n{candidates}\n\
         a=mid:2\na=sctp-port:5000\na=max-message-size:262144\n\
         m=video 0 UDP/TLS/RTP/SAVPF 0\nc=IN IP4 0.0.0.0\na=inactive\na=mid:3\n\
         m=audio 9 UDP/TLS/RTP/SAVPF 111\nc=IN IP4 0.0.0.0\na=rtcp-mux\na=rtcp-rsize\n{transport}\n{candidates}\n\
         a=mid:4\na=sendonly\na=extmap:1 urn:ietf:params:rtp-hdrext:sdes:mid\n\
         a=rtpmap:111 opus/48000/2\na=rtcp-fb:111 transport-cc\na=fmtp:111 useinbandfec=1\n"
    );
    assert_eq!(local.write(), expected.replace('\n', "\r\n"));
}
