//! People who come by the `webrtc` crate, as an application in Rust would use it: its own sockets, tasks and PeerConnection, and of
//! ours only the Socket.IO client and the stamps in what is sent.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, missing_docs)]

mod plain;

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bench::media::{AUDIO_CLOCK_HZ, AUDIO_PPS, Stamp, VIDEO_CLOCK_HZ, VIDEO_FPS, Vp8, audio_payload, video_payload};
use bench::socketio::{Client, Frame};
use rtc::interceptor::Registry;
use rtc::media_stream::MediaStreamTrack;
use rtc::peer_connection::configuration::interceptor_registry::register_default_interceptors;
use rtc::peer_connection::configuration::media_engine::{MIME_TYPE_OPUS, MIME_TYPE_VP8, MediaEngine};
use rtc::peer_connection::sdp::RTCSessionDescription;
use rtc::rtp;
use rtc::rtp_transceiver::rtp_sender::{
    RTCRtpCodec, RTCRtpCodecParameters, RTCRtpCodingParameters, RTCRtpEncodingParameters, RtpCodecKind,
};
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use webrtc::media_stream::track_local::TrackLocal;
use webrtc::media_stream::track_local::static_rtp::TrackLocalStaticRTP;
use webrtc::media_stream::track_remote::{TrackRemote, TrackRemoteEvent};
use webrtc::peer_connection::{
    PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler, RTCIceGatheringState, RTCPeerConnectionState,
};

use crate::plain::plain;

/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);
/// A picture in so many is a keyframe: nobody here listens to requests for one.
const KEYFRAME_EVERY: u64 = 14;
const VIDEO_BYTES: usize = 900;

struct Server {
    child: Child,
    url: String,
    dir: PathBuf,
}

impl Server {
    fn start() -> Server {
        let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("interop-{}", std::process::id()));
        let mut command = plain(env!("CARGO_BIN_EXE_lyceum"));
        command.args(["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--media-port", "0"]);
        command.args(["--address", "127.0.0.1", "--log-format", "json"]);
        command.env("LYCEUM__TURN__PORT", "0").env("LYCEUM__TURN__TLS_PORT", "0").env("LYCEUM__STORE__DIR", &dir);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the binary starts");
        let lines = BufReader::new(child.stderr.take().expect("stderr is piped")).lines();
        let mut lines = lines.map(|line| serde_json::from_str::<Value>(&line.expect("text")).expect("JSON"));
        let line = lines.find(|line| line["message"] == "listening").expect("it says where it listens");
        // The pipe is read to its end, or what the server logs would fail.
        std::thread::spawn(move || lines.for_each(drop));
        Server { child, url: format!("http://{}", line["http"].as_str().expect("an address")), dir }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// What somebody got of whom: by the stream's name in the description, which is a participant, and by kind, the stamps' streams
/// with the number of packets.
type Heard = HashMap<(String, &'static str), HashMap<u64, u64>>;

enum Happened {
    Gathered,
    Connected,
    Failed,
}

/// The connection's handler: what happens goes to the person's loop, packets are counted.
struct Ears {
    happened: mpsc::UnboundedSender<Happened>,
    heard: Arc<Mutex<Heard>>,
}

#[async_trait]
impl PeerConnectionEventHandler for Ears {
    async fn on_ice_gathering_state_change(&self, state: RTCIceGatheringState) {
        if state == RTCIceGatheringState::Complete {
            let _ = self.happened.send(Happened::Gathered);
        }
    }

    async fn on_connection_state_change(&self, state: RTCPeerConnectionState) {
        let _ = match state {
            RTCPeerConnectionState::Connected => self.happened.send(Happened::Connected),
            RTCPeerConnectionState::Failed => self.happened.send(Happened::Failed),
            _ => Ok(()),
        };
    }

    async fn on_track(&self, track: Arc<dyn TrackRemote>) {
        let heard = self.heard.clone();
        tokio::spawn(async move {
            let of = (track.stream_id().await, word(track.kind().await));
            while let Some(event) = track.poll().await {
                let TrackRemoteEvent::OnRtpPacket(packet) = event else { continue };
                // Padding probes the path and holds nothing.
                let Some(stamp) = Stamp::read(&packet.payload) else { continue };
                *heard
                    .lock()
                    .expect("nobody panicked")
                    .entry(of.clone())
                    .or_default()
                    .entry(stamp.stream)
                    .or_default() += 1;
            }
        });
    }
}

fn word(kind: RtpCodecKind) -> &'static str {
    if kind == RtpCodecKind::Video { "video" } else { "audio" }
}

/// What a person sends of one kind.
struct Voice {
    track: Arc<TrackLocalStaticRTP>,
    kind: RtpCodecKind,
    stream: u64,
    ssrc: u32,
    sent: u64,
}

impl Voice {
    fn new(kind: RtpCodecKind, stream: u64, codec: RTCRtpCodec) -> Self {
        let ssrc = rand::random();
        let coding = RTCRtpCodingParameters { ssrc: Some(ssrc), ..Default::default() };
        let encoding = RTCRtpEncodingParameters { rtp_coding_parameters: coding, codec, ..Default::default() };
        let names = ["stream", "track", "label"].map(|what| format!("{what}-{stream}"));
        let [stream_id, track_id, label] = names;
        let track = MediaStreamTrack::new(stream_id, track_id, label, kind, vec![encoding]);
        Voice { track: Arc::new(TrackLocalStaticRTP::new(track)), kind, stream, ssrc, sent: 0 }
    }

    async fn send(&mut self) {
        let stamp = Stamp { stream: self.stream, number: self.sent };
        let (payload_type, clock, payload) = match self.kind {
            RtpCodecKind::Video => {
                let key = self.sent.is_multiple_of(KEYFRAME_EVERY);
                let frame = Vp8 { picture: self.sent as u16 & 0x7fff, first: true, key };
                (VP8_PT, VIDEO_CLOCK_HZ / VIDEO_FPS, video_payload(frame, stamp, VIDEO_BYTES))
            }
            _ => (OPUS_PT, AUDIO_CLOCK_HZ / AUDIO_PPS, audio_payload(stamp)),
        };
        let header = rtp::Header {
            version: 2,
            marker: self.kind == RtpCodecKind::Video,
            payload_type,
            sequence_number: self.sent as u16,
            timestamp: (self.sent as u32).wrapping_mul(clock),
            ssrc: self.ssrc,
            ..Default::default()
        };
        // Until the connection is up there is nobody to send to.
        let _ = self.track.write_rtp(rtp::Packet { header, payload: payload.into() }).await;
        self.sent += 1;
    }
}

const OPUS_PT: u8 = 111;
const VP8_PT: u8 = 96;

fn codecs() -> [(RtpCodecKind, RTCRtpCodecParameters); 2] {
    let codec = |mime: &str, clock_rate, channels| RTCRtpCodec {
        mime_type: mime.to_owned(),
        clock_rate,
        channels,
        sdp_fmtp_line: String::new(),
        rtcp_feedback: vec![],
    };
    let parameters = |rtp_codec, payload_type| RTCRtpCodecParameters { rtp_codec, payload_type };
    [
        (RtpCodecKind::Audio, parameters(codec(MIME_TYPE_OPUS, AUDIO_CLOCK_HZ, 2), OPUS_PT)),
        (RtpCodecKind::Video, parameters(codec(MIME_TYPE_VP8, VIDEO_CLOCK_HZ, 0), VP8_PT)),
    ]
}

/// A person in the call, who talks and shows until told to leave.
struct Person {
    name: &'static str,
    participant: String,
    heard: Arc<Mutex<Heard>>,
    leave: watch::Sender<bool>,
    call: JoinHandle<()>,
}

impl Person {
    async fn join(url: &str, name: &'static str, number: u64) -> Person {
        let mut socket = Client::connect(url).await.expect("a socket");
        let ids = json!({ "sessionId": "interop", "userId": name, "userName": name, "isInstructor": false });
        let joining = socket.emit("join-session", ids).await.expect("it is sent");
        let ack = loop {
            if let Frame::Ack { id, payload } = socket.next().await.expect("a frame")
                && id == joining
            {
                break payload;
            }
        };
        assert_eq!(ack["ok"], true, "{ack}");
        let participant = ack["participantId"].as_str().expect("a participant").to_owned();

        let heard = Arc::<Mutex<Heard>>::default();
        let (happened, happening) = mpsc::unbounded_channel();
        let mut engine = MediaEngine::default();
        for (kind, codec) in codecs() {
            engine.register_codec(codec, kind).expect("a codec");
        }
        let registry = register_default_interceptors(Registry::new(), &mut engine).expect("interceptors");
        let peer = PeerConnectionBuilder::new()
            .with_media_engine(engine)
            .with_interceptor_registry(registry)
            .with_handler(Arc::new(Ears { happened, heard: heard.clone() }))
            .with_udp_addrs(vec!["127.0.0.1:0"])
            .build()
            .await
            .expect("a connection");
        let mut voices = Vec::new();
        for (at, (kind, codec)) in codecs().into_iter().enumerate() {
            let voice = Voice::new(kind, 2 * number + at as u64, codec.rtp_codec);
            peer.add_track(voice.track.clone() as Arc<dyn TrackLocal>).await.expect("a track");
            voices.push(voice);
        }
        let (leave, leaving) = watch::channel(false);
        let call = Call { name, socket, peer: Arc::new(peer), happening, voices, has_offer: false };
        Person { name, participant, heard, leave, call: tokio::spawn(call.go_on(leaving)) }
    }

    /// Packets of that kind from that participant, all of which must be of that stream.
    fn heard(&self, of: &Person, kind: &'static str, stream: u64) -> u64 {
        let heard = self.heard.lock().expect("nobody panicked");
        let Some(streams) = heard.get(&(of.participant.clone(), kind)) else { return 0 };
        assert!(streams.keys().eq([&stream]), "{} got {streams:?} as {kind} of {}", self.name, of.name);
        streams[&stream]
    }

    async fn go(self) {
        self.leave.send(true).expect("it is still there");
        self.call.await.expect("it went well");
    }
}

struct Call {
    name: &'static str,
    socket: Client,
    peer: Arc<dyn PeerConnection>,
    happening: mpsc::UnboundedReceiver<Happened>,
    voices: Vec<Voice>,
    has_offer: bool,
}

impl Call {
    async fn go_on(mut self, mut leaving: watch::Receiver<bool>) {
        let mut ticks = tokio::time::interval(Duration::from_millis(20));
        let offer = self.peer.create_offer(None).await.expect("an offer");
        self.peer.set_local_description(offer).await.expect("it takes it");
        let mut is_up = false;
        loop {
            tokio::select! {
                _ = leaving.changed() => break,
                happened = self.happening.recv() => match happened.expect("the handler lives as long as the connection") {
                    Happened::Gathered if !self.has_offer => self.say("offer").await,
                    Happened::Gathered => {}
                    Happened::Connected => is_up = true,
                    Happened::Failed => panic!("{}: the connection failed", self.name),
                },
                frame = self.socket.next() => self.take(frame.expect("a frame")).await,
                _ = ticks.tick() => if is_up {
                    for voice in &mut self.voices {
                        voice.send().await;
                    }
                },
            }
        }
        self.socket.emit("leave-session", json!({ "sessionId": "interop" })).await.expect("it is sent");
        self.socket.close().await;
        self.peer.close().await.expect("it closes");
    }

    /// Sends the local description.
    async fn say(&mut self, kind: &str) {
        self.has_offer = true;
        let description = self.peer.local_description().await.expect("there is one");
        let description = json!({ "type": kind, "sdp": description.sdp });
        let message = json!({ "sessionId": "interop", "userId": self.name, "targetUserId": "sfu", kind: description });
        self.socket.emit(kind, message).await.expect("it is sent");
    }

    async fn take(&mut self, frame: Frame) {
        match frame {
            Frame::Event { name, payload } if name == "offer" => {
                let sdp = payload["offer"]["sdp"].as_str().expect("SDP").to_owned();
                let offer = RTCSessionDescription::offer(sdp).expect("it can be read");
                self.peer.set_remote_description(offer).await.expect("it takes it");
                let answer = self.peer.create_answer(None).await.expect("an answer");
                self.peer.set_local_description(answer).await.expect("it takes it");
                self.say("answer").await;
            }
            Frame::Event { name, payload } if name == "answer" => {
                let sdp = payload["answer"]["sdp"].as_str().expect("SDP").to_owned();
                let answer = RTCSessionDescription::answer(sdp).expect("it can be read");
                self.peer.set_remote_description(answer).await.expect("it takes it");
            }
            Frame::Event { name, payload } if name == "session-error" => panic!("{}: {payload}", self.name),
            Frame::Ack { payload, .. } => assert_eq!(payload["ok"], true, "{}: {payload}", self.name),
            Frame::Close => panic!("{}: the server closed", self.name),
            _ => {}
        }
    }
}

/// Until each of these has so many packets more of each of the others, of both kinds, as themselves.
async fn until_all_hear_all(people: &[(u64, &Person)], packets: u64) {
    let pairs =
        || people.iter().flat_map(|to| people.iter().map(move |of| (to.1, of))).filter(|(to, of)| to.name != of.1.name);
    let look = || -> Vec<(String, u64)> {
        pairs()
            .flat_map(|(to, (number, of))| {
                [("audio", 2 * number), ("video", 2 * number + 1)]
                    .map(|(kind, stream)| (format!("{kind} of {} to {}", of.name, to.name), to.heard(of, kind, stream)))
            })
            .collect()
    };
    let before = look();
    let hear = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(50));
        while look().iter().zip(&before).any(|(now, before)| now.1 < before.1 + packets) {
            ticks.tick().await;
            assert!(people.iter().all(|(_, one)| !one.call.is_finished()), "somebody's call ended");
        }
    };
    if tokio::time::timeout(PATIENCE, hear).await.is_err() {
        panic!("not all hear all: {:#?}", look());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn three_people_of_the_webrtc_crate_hold_a_call_and_one_leaves() {
    let server = Server::start();
    let ada = Person::join(&server.url, "ada", 1).await;
    let bob = Person::join(&server.url, "bob", 2).await;
    until_all_hear_all(&[(1, &ada), (2, &bob)], 30).await;
    let cleo = Person::join(&server.url, "cleo", 3).await;
    until_all_hear_all(&[(1, &ada), (2, &bob), (3, &cleo)], 30).await;
    bob.go().await;
    until_all_hear_all(&[(1, &ada), (3, &cleo)], 30).await;
    // The line that is free again goes to somebody else.
    let dan = Person::join(&server.url, "dan", 4).await;
    until_all_hear_all(&[(1, &ada), (3, &cleo), (4, &dan)], 30).await;
    for one in [ada, cleo, dan] {
        one.go().await;
    }
}
