//! A participant that is not ours: the sans-IO `rtc` PeerConnection as a pure machine. It publishes stamped media,
//! negotiates as the polite side, and hands out what it receives. Sockets or a simulated network move its datagrams.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rtc::interceptor::{
    Interceptor, NackGeneratorBuilder, NackResponderBuilder, Packet, Registry, Slot, StreamInfo, TaggedPacket,
};
use rtc::media_stream::MediaStreamTrack;
use rtc::peer_connection::configuration::RTCConfigurationBuilder;
use rtc::peer_connection::configuration::interceptor_registry::{
    configure_rtcp_reports, configure_simulcast_extension_headers, configure_twcc_receiver_only,
};
use rtc::peer_connection::configuration::media_engine::{MIME_TYPE_OPUS, MIME_TYPE_RTX, MIME_TYPE_VP8, MediaEngine};
use rtc::peer_connection::configuration::setting_engine::SettingEngineBuilder;
use rtc::peer_connection::event::{RTCPeerConnectionEvent, RTCTrackEvent};
use rtc::peer_connection::message::{RTCMessage, TaggedRTCMessage};
use rtc::peer_connection::sdp::RTCSessionDescription;
use rtc::peer_connection::state::RTCPeerConnectionState;
use rtc::peer_connection::transport::{CandidateConfig, CandidateHostConfig, RTCDtlsRole, RTCIceCandidate};
use rtc::peer_connection::{RTCPeerConnection, RTCPeerConnectionBuilder};
use rtc::rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtc::rtp_transceiver::rtp_sender::{
    RTCPFeedback, RTCRtpCodec, RTCRtpCodecParameters, RTCRtpCodingParameters, RTCRtpEncodingParameters,
    RTCRtpHeaderExtensionCapability, RTCRtpRtxParameters, RtpCodecKind,
};
use rtc::rtp_transceiver::{RTCRtpTransceiverDirection, RTCRtpTransceiverId, RTCRtpTransceiverInit};
use rtc::sansio::Protocol;
use rtc::shared::error::Error;
use rtc::shared::{TaggedBytesMut, TransportContext, TransportProtocol};
use sfu::Kind;

use crate::media::{self, Stamp, Vp8};

const MID_URI: &str = "urn:ietf:params:rtp-hdrext:sdes:mid";
/// Payload types as Chromium numbers them.
const OPUS_PT: u8 = 111;
const VP8_PT: u8 = 96;
const VP8_RTX_PT: u8 = 97;

/// How often a bot asks for a missing packet. The crate's own default is for ever: it does not notice that RTX has filled
/// a gap, and would have everything that was lost sent again each 100 ms until 512 packets have gone by.
const NACKS_MAX: u16 = 8;

/// What a bot publishes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Publish {
    /// Opus-like audio, [`media::AUDIO_PPS`] packets a second.
    pub audio: bool,
    /// VP8-like video: packets in each of [`media::VIDEO_FPS`] frames a second.
    pub video_burst: Option<u32>,
}

/// A description for the other side.
#[derive(Clone, Debug)]
pub enum Signal {
    /// Our offer; each m-line of ours with its source.
    Offer {
        /// The SDP.
        sdp: String,
        /// Mid and kind of each published m-line.
        tracks: Vec<(String, Kind)>,
    },
    /// Our answer.
    Answer {
        /// The SDP.
        sdp: String,
    },
}

/// What happened to a bot.
#[derive(Clone, Debug)]
pub enum Happened {
    /// ICE and DTLS are up.
    Connected,
    /// The connection failed or ended.
    Failed,
    /// A packet came.
    Media(Media),
}

/// One received RTP packet, retransmissions already put back into their stream.
#[derive(Clone, Debug)]
pub struct Media {
    /// The track id of its `msid`.
    pub track: String,
    /// The stream id of its `msid`: a participant.
    pub participant: String,
    /// Its RTP sequence number.
    pub sequence: u16,
    /// Whose and which, if the payload is a bot's.
    pub stamp: Option<Stamp>,
    /// Bytes of the payload.
    pub payload_bytes: usize,
}

/// One published stream.
struct Outgoing {
    kind: Kind,
    transceiver: RTCRtpTransceiverId,
    ssrc: u32,
    stream: u64,
    burst: u32,
    sequence: u16,
    timestamp: u32,
    picture: u16,
    sent: u64,
    keyframes: u64,
    next: Option<Instant>,
    /// Payload type and mid extension, once negotiated.
    wire: Option<(u8, Option<(u8, String)>)>,
}

impl Outgoing {
    fn interval(&self) -> Duration {
        match self.kind {
            Kind::Audio => Duration::from_secs(1) / media::AUDIO_PPS,
            Kind::Video => Duration::from_secs(1) / media::VIDEO_FPS,
        }
    }
}

/// The bot.
pub struct Bot {
    pc: RTCPeerConnection,
    local: SocketAddr,
    outgoing: Vec<Outgoing>,
    participants: HashMap<String, String>,
    offer_pending: bool,
    connected: bool,
    publishing: bool,
    key_wanted: Arc<AtomicBool>,
    signals: VecDeque<Signal>,
    happened: VecDeque<Happened>,
}

impl Bot {
    /// A bot at `local`, whose streams are stamped `2 × tag` (audio) and `2 × tag + 1` (video).
    pub fn new(local: SocketAddr, tag: u64, publish: Publish, now: Instant) -> Result<Self, Error> {
        let mut engine = media_engine()?;
        let key_wanted = Arc::new(AtomicBool::new(true));
        let watcher = KeyframeRequests { wanted: key_wanted.clone(), ..Default::default() };
        let registry = Registry::new().with(Slot::from(14_000), watcher);
        let registry = interceptors(registry, &mut engine)?;
        let mut pc = RTCPeerConnectionBuilder::new()
            .with_configuration(RTCConfigurationBuilder::new().build())
            .with_media_engine(engine)
            // By itself the crate answers `passive` to an ICE-lite offerer, and the SFU is always passive.
            .with_setting_engine(SettingEngineBuilder::new().with_answering_dtls_role(RTCDtlsRole::Client).build())
            .with_interceptor_registry(registry)
            .build(now)?;
        let candidate = CandidateHostConfig {
            base_config: CandidateConfig {
                network: "udp".to_owned(),
                address: local.ip().to_string(),
                port: local.port(),
                component: 1,
                ..Default::default()
            },
            ..Default::default()
        }
        .new_candidate_host()?;
        pc.add_local_candidate(RTCIceCandidate::from(&candidate).to_json()?)?;

        let mut outgoing = Vec::new();
        if publish.audio {
            outgoing.push(add_stream(&mut pc, Kind::Audio, 2 * tag, 1)?);
        }
        if let Some(burst) = publish.video_burst {
            outgoing.push(add_stream(&mut pc, Kind::Video, 2 * tag + 1, burst)?);
        }
        Ok(Bot {
            pc,
            local,
            outgoing,
            participants: HashMap::new(),
            offer_pending: false,
            connected: false,
            publishing: true,
            key_wanted,
            signals: VecDeque::new(),
            happened: VecDeque::new(),
        })
    }

    /// Offers what it publishes, if it publishes anything and has not been answered yet.
    pub fn offer(&mut self, now: Instant) -> Result<(), Error> {
        let settled = self.outgoing.iter().all(|out| out.wire.is_some());
        if self.offer_pending || settled {
            return Ok(());
        }
        let offer = self.pc.create_offer(None)?;
        let sdp = offer.sdp.clone();
        self.pc.set_local_description(now, offer)?;
        self.offer_pending = true;
        let tracks = self.published_lines();
        self.signals.push_back(Signal::Offer { sdp, tracks });
        Ok(())
    }

    /// Takes the server's offer and answers it; an offer of ours that crosses it is rolled back and made again
    /// (W3C perfect negotiation, polite side).
    pub fn handle_offer(&mut self, sdp: &str, now: Instant) -> Result<(), Error> {
        if self.offer_pending {
            self.pc.set_local_description(now, RTCSessionDescription::rollback(None)?)?;
            self.offer_pending = false;
        }
        self.pc.set_remote_description(now, RTCSessionDescription::offer(sdp.to_owned())?)?;
        let answer = self.pc.create_answer(None)?;
        let sdp = answer.sdp.clone();
        self.pc.set_local_description(now, answer)?;
        self.signals.push_back(Signal::Answer { sdp });
        self.offer(now)
    }

    /// Takes the server's answer; one without a pending offer of ours is ignored.
    pub fn handle_answer(&mut self, sdp: &str, now: Instant) -> Result<(), Error> {
        if !std::mem::take(&mut self.offer_pending) {
            return Ok(());
        }
        self.pc.set_remote_description(now, RTCSessionDescription::answer(sdp.to_owned())?)?;
        for out in &mut self.outgoing {
            out.wire = negotiated(&mut self.pc, out);
        }
        Ok(())
    }

    /// Takes one datagram.
    pub fn receive(&mut self, from: SocketAddr, datagram: &[u8], now: Instant) {
        let transport = TransportContext {
            local_addr: self.local,
            peer_addr: from,
            ecn: None,
            transport_protocol: TransportProtocol::UDP,
        };
        // The crate reports what it cannot read as errors; on a lossy network they are ordinary.
        let _ = self.pc.handle_read(TaggedBytesMut { now, transport, message: datagram.into() });
        self.drain(now);
    }

    /// Does what is due: timers and media.
    pub fn tick(&mut self, now: Instant) {
        if self.pc.poll_timeout().is_some_and(|due| due <= now) {
            // As for `receive`: a timer's error is the crate's word for a lost peer, seen as `Failed`.
            let _ = self.pc.handle_timeout(now);
        }
        self.drain(now);
        if self.connected && self.publishing {
            for index in 0..self.outgoing.len() {
                self.publish(index, now);
            }
        }
    }

    /// When [`Bot::tick`] is due.
    pub fn deadline(&mut self) -> Option<Instant> {
        let timers = self.pc.poll_timeout();
        let live = self.connected && self.publishing;
        let media = self.outgoing.iter().filter_map(|out| out.next).filter(|_| live).min();
        [timers, media].into_iter().flatten().min()
    }

    /// The next datagram to send, and where.
    pub fn transmit(&mut self) -> Option<(SocketAddr, Vec<u8>)> {
        let out = self.pc.poll_write()?;
        Some((out.transport.peer_addr, out.message.to_vec()))
    }

    /// The next description for the other side.
    pub fn signal(&mut self) -> Option<Signal> {
        self.signals.pop_front()
    }

    /// The next thing that happened.
    pub fn happened(&mut self) -> Option<Happened> {
        self.happened.pop_front()
    }

    /// Stops publishing; what is on its way still arrives.
    pub fn stop_publishing(&mut self) {
        self.publishing = false;
    }

    /// Whether ICE and DTLS are up.
    pub fn is_connected(&self) -> bool {
        self.connected
    }

    /// Stream number and packets sent of each published stream.
    pub fn sent(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.outgoing.iter().map(|out| (out.stream, out.sent))
    }

    /// Keyframes published.
    pub fn keyframes(&self) -> u64 {
        self.outgoing.iter().map(|out| out.keyframes).sum()
    }

    fn published_lines(&mut self) -> Vec<(String, Kind)> {
        let (pc, outgoing) = (&mut self.pc, &self.outgoing);
        outgoing
            .iter()
            .filter_map(|out| Some((pc.rtp_transceiver(out.transceiver)?.mid().clone()?, out.kind)))
            .collect()
    }

    fn drain(&mut self, now: Instant) {
        while let Some(event) = self.pc.poll_event() {
            match event {
                RTCPeerConnectionEvent::OnConnectionStateChangeEvent(RTCPeerConnectionState::Connected) => {
                    self.connected = true;
                    self.happened.push_back(Happened::Connected);
                    for out in &mut self.outgoing {
                        out.next.get_or_insert(now);
                    }
                }
                RTCPeerConnectionEvent::OnConnectionStateChangeEvent(
                    RTCPeerConnectionState::Failed | RTCPeerConnectionState::Closed,
                ) => {
                    self.connected = false;
                    self.happened.push_back(Happened::Failed);
                }
                RTCPeerConnectionEvent::OnTrack(RTCTrackEvent::OnOpen(init)) => {
                    let participant = init.stream_ids.first().cloned().unwrap_or_default();
                    self.participants.insert(init.track_id, participant);
                }
                _ => {}
            }
        }
        while let Some(TaggedRTCMessage { message, .. }) = self.pc.poll_read() {
            let RTCMessage::RtpPacket(track, packet) = message else { continue };
            let participant = self.participants.get(&track).cloned().unwrap_or_default();
            self.happened.push_back(Happened::Media(Media {
                track,
                participant,
                sequence: packet.header.sequence_number,
                stamp: Stamp::read(&packet.payload),
                payload_bytes: packet.payload.len(),
            }));
        }
    }

    fn publish(&mut self, index: usize, now: Instant) {
        let out = &mut self.outgoing[index];
        let interval = out.interval();
        let Some((payload_type, mid)) = out.wire.clone() else { return };
        // A machine that slept does not make up for it with a burst of old frames.
        while out.next.is_some_and(|next| next + 5 * interval < now) {
            out.next = out.next.map(|next| next + interval);
        }
        while out.next.is_some_and(|next| next <= now) {
            out.next = out.next.map(|next| next + interval);
            let key = out.kind == Kind::Video && self.key_wanted.swap(false, Ordering::Relaxed);
            out.keyframes += u64::from(key);
            for position in 0..out.burst {
                let stamp = Stamp { stream: out.stream, number: out.sent };
                let (marker, payload) = match out.kind {
                    Kind::Audio => (out.sent == 0, media::audio_payload(stamp)),
                    Kind::Video => {
                        let frame = Vp8 { picture: out.picture, first: position == 0, key };
                        let payload = media::video_payload(frame, stamp, media::VIDEO_PAYLOAD_BYTES);
                        (position + 1 == out.burst, payload)
                    }
                };
                let mut packet = rtc::rtp::Packet { payload: payload.into(), ..Default::default() };
                packet.header.version = 2;
                packet.header.marker = marker;
                packet.header.payload_type = payload_type;
                packet.header.sequence_number = out.sequence;
                packet.header.timestamp = out.timestamp;
                packet.header.ssrc = out.ssrc;
                if let Some((id, mid)) = &mid {
                    // Fails only for an id out of range, which no negotiated id is.
                    let _ = packet.header.set_extension(*id, mid.clone().into_bytes().into());
                }
                let sender = self.pc.rtp_transceiver(out.transceiver).and_then(|transceiver| transceiver.sender());
                let written = sender
                    .and_then(|sender| self.pc.rtp_sender(sender))
                    .is_some_and(|mut sender| sender.write_rtp(now, packet).is_ok());
                out.sequence = out.sequence.wrapping_add(u16::from(written));
                out.sent += u64::from(written);
            }
            out.picture = (out.picture + 1) & 0x7fff;
            out.timestamp = out.timestamp.wrapping_add(match out.kind {
                Kind::Audio => media::AUDIO_CLOCK_HZ / media::AUDIO_PPS,
                Kind::Video => media::VIDEO_CLOCK_HZ / media::VIDEO_FPS,
            });
        }
    }
}

fn rtp_codec(mime_type: &str, clock_rate: u32, channels: u16, fmtp: &str) -> RTCRtpCodec {
    RTCRtpCodec {
        mime_type: mime_type.to_owned(),
        clock_rate,
        channels,
        sdp_fmtp_line: fmtp.to_owned(),
        rtcp_feedback: vec![],
    }
}

fn codec_of(kind: Kind) -> RTCRtpCodec {
    match kind {
        Kind::Audio => rtp_codec(MIME_TYPE_OPUS, media::AUDIO_CLOCK_HZ, 2, "minptime=10;useinbandfec=1"),
        Kind::Video => rtp_codec(MIME_TYPE_VP8, media::VIDEO_CLOCK_HZ, 0, ""),
    }
}

fn rtc_kind(kind: Kind) -> RtpCodecKind {
    match kind {
        Kind::Audio => RtpCodecKind::Audio,
        Kind::Video => RtpCodecKind::Video,
    }
}

fn media_engine() -> Result<MediaEngine, Error> {
    let mut engine = MediaEngine::default();
    let rtx = rtp_codec(MIME_TYPE_RTX, media::VIDEO_CLOCK_HZ, 0, "apt=96");
    for (rtp_codec, payload_type, kind) in [
        (codec_of(Kind::Audio), OPUS_PT, RtpCodecKind::Audio),
        (codec_of(Kind::Video), VP8_PT, RtpCodecKind::Video),
        (rtx, VP8_RTX_PT, RtpCodecKind::Video),
    ] {
        engine.register_codec(RTCRtpCodecParameters { rtp_codec, payload_type }, kind)?;
    }
    let mid = RTCRtpHeaderExtensionCapability { uri: MID_URI.to_owned() };
    engine.register_header_extension(mid, RtpCodecKind::Audio, None)?;
    Ok(engine)
}

/// The crate's default interceptors, but for [`NACKS_MAX`].
fn interceptors(registry: Registry, engine: &mut MediaEngine) -> Result<Registry, Error> {
    for parameter in ["", "pli"] {
        let feedback = RTCPFeedback { typ: "nack".to_owned(), parameter: parameter.to_owned() };
        engine.register_feedback(feedback, RtpCodecKind::Video);
    }
    let generator = NackGeneratorBuilder::new().with_max_nacks_per_packet(NACKS_MAX).build();
    let registry =
        registry.with(Slot::NackResponder, NackResponderBuilder::new().build()).with(Slot::NackGenerator, generator);
    configure_simulcast_extension_headers(engine)?;
    Ok(configure_rtcp_reports(configure_twcc_receiver_only(registry, engine)?))
}

fn add_stream(pc: &mut RTCPeerConnection, kind: Kind, stream: u64, burst: u32) -> Result<Outgoing, Error> {
    let ssrc: u32 = rand::random();
    let rtx = (kind == Kind::Video).then(|| RTCRtpRtxParameters { ssrc: rand::random() });
    let track = MediaStreamTrack::new(
        format!("bot-{}", stream / 2),
        format!("bot-{}-{}", stream / 2, kind.as_str()),
        kind.as_str().to_owned(),
        rtc_kind(kind),
        vec![RTCRtpEncodingParameters {
            rtp_coding_parameters: RTCRtpCodingParameters { ssrc: Some(ssrc), rtx, ..Default::default() },
            codec: codec_of(kind),
            ..Default::default()
        }],
    );
    let init = RTCRtpTransceiverInit {
        direction: RTCRtpTransceiverDirection::Sendonly,
        streams: vec![],
        send_encodings: vec![],
    };
    let transceiver = pc.add_transceiver_from_track(track, Some(init))?;
    Ok(Outgoing {
        kind,
        transceiver,
        ssrc,
        stream,
        burst,
        // Below 2^15, so that a loss at the very start cannot be taken for a wrap (RFC 3711 §3.3.1).
        sequence: rand::random::<u16>() >> 1,
        timestamp: rand::random(),
        picture: 0,
        sent: 0,
        keyframes: 0,
        next: None,
        wire: None,
    })
}

/// The payload type and mid extension that the answer left for a stream; `None` when it was refused.
fn negotiated(pc: &mut RTCPeerConnection, out: &Outgoing) -> Option<(u8, Option<(u8, String)>)> {
    let transceiver = pc.rtp_transceiver(out.transceiver)?;
    if !transceiver.current_direction().has_send() {
        return None;
    }
    let mid = transceiver.mid().clone();
    let sender = transceiver.sender()?;
    let mut sender = pc.rtp_sender(sender)?;
    let parameters = &sender.get_parameters().rtp_parameters;
    let mime_type = codec_of(out.kind).mime_type;
    let codec = parameters.codecs.iter().find(|codec| codec.rtp_codec.mime_type.eq_ignore_ascii_case(&mime_type))?;
    let extension = parameters.header_extensions.iter().find(|extension| extension.uri == MID_URI);
    let mid = extension.and_then(|extension| Some((extension.id as u8, mid?)));
    Some((codec.payload_type, mid))
}

/// Notes keyframe requests as they pass; the crate keeps RTCP to its interceptors, and the bot has one video at most.
#[derive(Default)]
struct KeyframeRequests {
    wanted: Arc<AtomicBool>,
    read: VecDeque<TaggedPacket>,
    write: VecDeque<TaggedPacket>,
}

impl Protocol<TaggedPacket, TaggedPacket, ()> for KeyframeRequests {
    type Rout = TaggedPacket;
    type Wout = TaggedPacket;
    type Eout = ();
    type Error = Error;
    type Time = Instant;

    fn handle_read(&mut self, message: TaggedPacket) -> Result<(), Error> {
        if let Packet::Rtcp(packets) = &message.message.packet
            && packets.iter().any(|packet| packet.as_any().is::<PictureLossIndication>())
        {
            self.wanted.store(true, Ordering::Relaxed);
        }
        self.read.push_back(message);
        Ok(())
    }

    fn poll_read(&mut self) -> Option<TaggedPacket> {
        self.read.pop_front()
    }

    fn handle_write(&mut self, message: TaggedPacket) -> Result<(), Error> {
        self.write.push_back(message);
        Ok(())
    }

    fn poll_write(&mut self) -> Option<TaggedPacket> {
        self.write.pop_front()
    }

    fn handle_timeout(&mut self, _now: Instant) -> Result<(), Error> {
        Ok(())
    }

    fn poll_timeout(&mut self) -> Option<Instant> {
        None
    }
}

impl Interceptor for KeyframeRequests {
    fn bind_local_stream(&mut self, _info: &StreamInfo) {}
    fn unbind_local_stream(&mut self, _info: &StreamInfo) {}
    fn bind_remote_stream(&mut self, _info: &StreamInfo) {}
    fn unbind_remote_stream(&mut self, _info: &StreamInfo) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Carries everything between two bots at once, datagrams and descriptions.
    fn exchange(bots: &mut [Bot; 2], now: Instant) -> Vec<(usize, Happened)> {
        let mut happened = Vec::new();
        let mut moved = true;
        while std::mem::take(&mut moved) {
            for (from, to) in [(0, 1), (1, 0)] {
                bots[from].tick(now);
                let address = bots[from].local;
                while let Some((_, datagram)) = bots[from].transmit() {
                    moved = true;
                    bots[to].receive(address, &datagram, now);
                }
                while let Some(signal) = bots[from].signal() {
                    moved = true;
                    match signal {
                        Signal::Offer { sdp, .. } => bots[to].handle_offer(&sdp, now).expect("the offer is good"),
                        Signal::Answer { sdp } => bots[to].handle_answer(&sdp, now).expect("the answer is good"),
                    }
                }
                happened.extend(std::iter::from_fn(|| bots[from].happened()).map(|what| (from, what)));
            }
        }
        happened
    }

    #[test]
    fn two_bots_hold_a_call() {
        let mut now = Instant::now();
        let publish = Publish { audio: true, video_burst: Some(3) };
        let bot = |port: u16, tag| Bot::new(SocketAddr::from(([127, 0, 0, 1], port)), tag, publish, now);
        let mut bots = [bot(5_000, 0).expect("a bot"), bot(5_001, 1).expect("a bot")];
        bots[0].offer(now).expect("an offer");
        let mut heard = [const { Vec::new() }; 2];
        for _ in 0..500 {
            for (index, what) in exchange(&mut bots, now) {
                if let Happened::Media(media) = what {
                    heard[index].push(media.stamp.expect("bots stamp their packets"));
                }
            }
            now += Duration::from_millis(10);
        }
        for (index, other) in [(0, 1), (1, 0)] {
            for (stream, sent) in bots[other].sent() {
                let mut numbers = heard[index].iter().filter(|stamp| stamp.stream == stream).map(|stamp| stamp.number);
                let first = numbers.next().unwrap_or_else(|| panic!("bot {index} heard nothing of stream {stream}"));
                assert!(sent > 100, "stream {stream} goes on: {sent}");
                assert!(numbers.eq(first + 1..sent), "bot {index} heard stream {stream} whole and in order");
            }
        }
    }
}
