//! A publisher as a browser is one: Opus in RED with its level, three simulcast layers of VP8 with temporal layers, paced,
//! with keyframes on request, NACKs answered on RTX, and sender reports.
//!
//! Like libvpx, a keyframe request for one layer gives keyframes of all. Its own uplink is not estimated: rates are fixed.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sfu::rtcp::{self, Packet};

use super::wire::{
    Header, KEY, LEVEL_ID, MID_ID, PATTERN, PRINT_BYTES, Print, REPAIRED_RID_ID, RID_ID, SEND_TIME_ID, TRANSPORT_ID,
    Vp8, write_red,
};
use crate::peer::{ClientPeer, Identity, Opened};

const OPUS_PT: u8 = 111;
const RED_PT: u8 = 63;
const VP8_PT: u8 = 96;
const RTX_PT: u8 = 97;
/// Bytes of a 20 ms Opus frame: 40 kbit/s.
pub const OPUS_BYTES: usize = 100;
/// Time of one Opus frame.
pub const AUDIO_FRAME: Duration = Duration::from_millis(20);
/// Time of one picture.
pub const VIDEO_FRAME: Duration = Duration::from_nanos(1_000_000_000 / 30);
/// Payload bytes of a full video packet.
const PACKET_BYTES: usize = 1_100;
/// A keyframe is so many average frames long.
const KEY_FRAMES: f64 = 4.5;
/// Keyframes are at least so far apart, as in libwebrtc.
const KEY_INTERVAL: Duration = Duration::from_millis(300);
/// The pacer sends at so many times the encoder's rate.
const PACING_FACTOR: f64 = 2.5;
/// Packets of a stream that can be resent.
const SENT_MAX: usize = 1_024;
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// Seconds from 1900 to 1970.
const NTP_EPOCH: u64 = 2_208_988_800;

/// One simulcast layer: RID, pixels, bits a second.
pub const LAYERS: [(&str, (u16, u16), u32); 3] =
    [("q", (320, 180), 150_000), ("h", (640, 360), 500_000), ("f", (1_280, 720), 1_500_000)];

/// One packet but for what is stamped when it leaves.
#[derive(Clone)]
struct Draft {
    sequence: u16,
    timestamp: u32,
    marker: bool,
    payload: Vec<u8>,
    /// The original sequence number, on RTX.
    repairs: Option<u16>,
}

struct Layer {
    rid: &'static str,
    size: (u16, u16),
    bps: u32,
    ssrc: u32,
    rtx_ssrc: u32,
    sequence: u16,
    rtx_sequence: u16,
    timestamp_offset: u32,
    picture_id: u16,
    tl0: u8,
    place: usize,
    frame: u32,
    debt: f64,
    active: bool,
    sent: VecDeque<Draft>,
    packets: u32,
    octets: u32,
}

struct Audio {
    ssrc: u32,
    sequence: u16,
    timestamp_offset: u32,
    frame: u32,
    history: VecDeque<Vec<u8>>,
    sent: VecDeque<(u16, Vec<u8>)>,
    packets: u32,
    octets: u32,
}

/// See the module.
pub struct Publisher {
    /// Its transport.
    pub peer: ClientPeer,
    /// Older frames in each RED packet.
    pub redundancy: usize,
    /// Keyframes that it made.
    pub keyframes: u64,
    /// Packets that it resent.
    pub resent: u64,
    number: u8,
    rng: StdRng,
    began: Instant,
    unix_began_ms: u64,
    red: bool,
    simulcast: bool,
    audio: Audio,
    layers: Vec<Layer>,
    audio_due: Option<Instant>,
    video_due: Option<Instant>,
    report_due: Instant,
    key_wanted: bool,
    key_at: Option<Instant>,
    paced: VecDeque<(usize, Draft)>,
    pace_at: Instant,
    transport_seq: u16,
    out: VecDeque<Vec<u8>>,
}

impl Publisher {
    /// A publisher that has not offered yet. `number` tells it from others; `layers` is 1 to 3, the largest if 1.
    pub fn new(identity: Identity, number: u8, layers: usize, seed: u64, began: Instant, unix_began_ms: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let layer = |rng: &mut StdRng, (rid, size, bps): (&'static str, (u16, u16), u32)| Layer {
            rid,
            size,
            bps,
            ssrc: rng.random(),
            rtx_ssrc: rng.random(),
            sequence: rng.random::<u16>() >> 2,
            rtx_sequence: rng.random::<u16>() >> 2,
            timestamp_offset: rng.random(),
            picture_id: rng.random::<u16>() & 0x7fff,
            tl0: rng.random(),
            place: 0,
            frame: 0,
            debt: 0.0,
            active: true,
            sent: VecDeque::new(),
            packets: 0,
            octets: 0,
        };
        let layers = LAYERS[LAYERS.len() - layers..].iter().map(|spec| layer(&mut rng, *spec)).collect();
        Publisher {
            peer: ClientPeer::new(identity, u64::from(number), &[], seed),
            redundancy: 1,
            keyframes: 0,
            resent: 0,
            number,
            began,
            unix_began_ms,
            red: false,
            simulcast: false,
            audio: Audio {
                ssrc: rng.random(),
                sequence: rng.random::<u16>() >> 2,
                timestamp_offset: rng.random(),
                frame: 0,
                history: VecDeque::new(),
                sent: VecDeque::new(),
                packets: 0,
                octets: 0,
            },
            layers,
            audio_due: None,
            video_due: None,
            report_due: began,
            key_wanted: true,
            key_at: None,
            paced: VecDeque::new(),
            pace_at: began,
            transport_seq: rng.random(),
            rng,
            out: VecDeque::new(),
        }
    }

    /// Its offer: RED before Opus, and simulcast where it has layers for it, as a page asks of Chromium.
    pub fn offer(&self) -> String {
        let common = format!(
            "c=IN IP4 0.0.0.0\r\na=sendonly\r\na=rtcp-mux\r\na=rtcp-rsize\r\n\
             a=extmap:{SEND_TIME_ID} http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time\r\n\
             a=extmap:{TRANSPORT_ID} http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01\r\n\
             a=extmap:{MID_ID} urn:ietf:params:rtp-hdrext:sdes:mid\r\n"
        );
        let audio = format!(
            "m=audio 9 UDP/TLS/RTP/SAVPF {RED_PT} {OPUS_PT}\r\n{common}a=mid:0\r\n\
             a=extmap:{LEVEL_ID} urn:ietf:params:rtp-hdrext:ssrc-audio-level\r\n\
             a=rtpmap:{RED_PT} red/48000/2\r\na=fmtp:{RED_PT} {OPUS_PT}/{OPUS_PT}\r\n\
             a=rtpmap:{OPUS_PT} opus/48000/2\r\na=rtcp-fb:{OPUS_PT} transport-cc\r\na=rtcp-fb:{OPUS_PT} nack\r\n\
             a=fmtp:{OPUS_PT} minptime=10;useinbandfec=1\r\na=msid:own own-audio\r\na=ssrc:{} cname:own\r\n",
            self.audio.ssrc
        );
        let mut video = format!(
            "m=video 9 UDP/TLS/RTP/SAVPF {VP8_PT} {RTX_PT}\r\n{common}a=mid:1\r\n\
             a=extmap:{RID_ID} urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id\r\n\
             a=extmap:{REPAIRED_RID_ID} urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id\r\n\
             a=rtpmap:{VP8_PT} VP8/90000\r\na=rtcp-fb:{VP8_PT} goog-remb\r\na=rtcp-fb:{VP8_PT} transport-cc\r\n\
             a=rtcp-fb:{VP8_PT} ccm fir\r\na=rtcp-fb:{VP8_PT} nack\r\na=rtcp-fb:{VP8_PT} nack pli\r\n\
             a=rtpmap:{RTX_PT} rtx/90000\r\na=fmtp:{RTX_PT} apt={VP8_PT}\r\na=msid:own own-video\r\n"
        );
        if self.layers.len() > 1 {
            let rids: Vec<&str> = self.layers.iter().map(|layer| layer.rid).collect();
            rids.iter().for_each(|rid| video.push_str(&format!("a=rid:{rid} send\r\n")));
            video.push_str(&format!("a=simulcast:send {}\r\n", rids.join(";")));
        } else {
            let Layer { ssrc, rtx_ssrc, .. } = self.layers[0];
            video.push_str(&format!(
                "a=ssrc-group:FID {ssrc} {rtx_ssrc}\r\na=ssrc:{ssrc} cname:own\r\na=ssrc:{rtx_ssrc} cname:own\r\n"
            ));
        }
        self.peer.offer_of(&[("0", audio), ("1", video)])
    }

    /// Takes the answer; without simulcast in it only the largest layer is sent, without RED plain Opus.
    pub fn handle_answer(&mut self, sdp: &str, now: Instant) {
        let audio = sdp.lines().find(|line| line.starts_with("m=audio")).unwrap_or_default();
        self.red = self.redundancy > 0 && audio.split(' ').skip(3).any(|format| format == RED_PT.to_string());
        self.simulcast = sdp.lines().any(|line| line.starts_with("a=simulcast:recv"));
        if !self.simulcast {
            self.layers.drain(..self.layers.len() - 1);
        }
        self.peer.handle_answer(sdp, now);
    }

    /// What the answer agreed to: RED, simulcast.
    pub fn agreed(&self) -> (bool, bool) {
        (self.red, self.simulcast)
    }

    /// Switches layers on and off, as the server says they are wanted.
    pub fn want_layers(&mut self, wanted: &[(std::sync::Arc<str>, bool)]) {
        for (rid, active) in wanted {
            let Some(layer) = self.layers.iter_mut().find(|layer| layer.rid == &**rid) else { continue };
            self.key_wanted |= *active && !layer.active;
            layer.active = *active;
        }
    }

    /// RIDs of the layers that it sends now.
    pub fn active_layers(&self) -> impl Iterator<Item = &str> {
        self.layers.iter().filter(|layer| layer.active).map(|layer| layer.rid)
    }

    /// Takes a datagram from the server.
    pub fn handle(&mut self, datagram: &mut [u8], now: Instant) {
        let Some(Opened::Rtcp(compound)) = self.peer.take(datagram, now) else { return };
        for packet in rtcp::parse(&compound) {
            match packet {
                Packet::Nack { media, lost, .. } => lost.for_each(|seq| self.resend(media, seq)),
                Packet::Pli { .. } | Packet::Fir { .. } => self.key_wanted = true,
                _ => {}
            }
        }
    }

    fn resend(&mut self, media: u32, lost: u16) {
        if media == self.audio.ssrc {
            // Bit for bit what was sent: other bytes under one nonce would give the key away.
            if let Some((_, datagram)) = self.audio.sent.iter().find(|(seq, _)| *seq == lost) {
                self.resent += 1;
                self.out.push_back(datagram.clone());
            }
            return;
        }
        let Some((index, layer)) = self.layers.iter_mut().enumerate().find(|(_, layer)| layer.ssrc == media) else {
            return;
        };
        let Some(draft) = layer.sent.iter().find(|draft| draft.sequence == lost) else { return };
        let mut draft = Draft { repairs: Some(lost), ..draft.clone() };
        draft.sequence = layer.rtx_sequence;
        layer.rtx_sequence = layer.rtx_sequence.wrapping_add(1);
        self.resent += 1;
        // Before media, as libwebrtc's pacer has it.
        self.paced.push_front((index, draft));
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Instant) {
        self.peer.tick(now);
        if !self.peer.is_connected() {
            return;
        }
        let audio_due = *self.audio_due.get_or_insert(now);
        if audio_due <= now {
            self.send_audio(audio_due);
            self.audio_due = Some(audio_due + AUDIO_FRAME);
        }
        let video_due = *self.video_due.get_or_insert(now);
        if video_due <= now {
            self.encode(video_due);
            self.video_due = Some(video_due + VIDEO_FRAME);
        }
        if self.report_due <= now {
            self.report(now);
            self.report_due = now + REPORT_INTERVAL;
        }
        self.pace(now);
    }

    /// When [`Publisher::tick`] is due.
    pub fn deadline(&self) -> Option<Instant> {
        let paced = (!self.paced.is_empty()).then_some(self.pace_at);
        let media = [self.audio_due, self.video_due, paced, Some(self.report_due)];
        let media = media.into_iter().flatten().min().filter(|_| self.peer.is_connected());
        media.into_iter().chain(self.peer.deadline()).min()
    }

    /// The next datagram for the server.
    pub fn transmit(&mut self) -> Option<Vec<u8>> {
        self.peer.transmit().or_else(|| self.out.pop_front())
    }

    fn send_audio(&mut self, due: Instant) {
        let captured = due - self.began;
        let print = Print { publisher: self.number, frame: self.audio.frame, captured, ..Print::default() };
        // Opus TOC: CELT fullband, 20 ms, mono, one frame (RFC 6716 §3.1); the rest is noise.
        let mut frame = vec![0x78; OPUS_BYTES];
        self.rng.fill(&mut frame[1..OPUS_BYTES - PRINT_BYTES]);
        print.write(&mut frame);
        let mut payload = Vec::new();
        if self.red {
            let count = self.audio.history.len();
            let older: Vec<(u32, &[u8])> =
                self.audio.history.iter().enumerate().map(|(i, old)| (960 * (count - i) as u32, &old[..])).collect();
            write_red(OPUS_PT, &older, &frame, &mut payload);
        } else {
            payload.extend(&frame);
        }
        let (send_time, transport) = self.stamps(captured);
        // Speech: between -20 and -40 dBov, with the voice bit.
        let level = [0x80 | (20 + (self.audio.frame % 21) as u8)];
        let audio = &mut self.audio;
        let timestamp = audio.timestamp_offset.wrapping_add(960_u32.wrapping_mul(audio.frame));
        let header = Header {
            payload_type: if self.red { RED_PT } else { OPUS_PT },
            marker: false,
            sequence: audio.sequence,
            timestamp,
            ssrc: audio.ssrc,
            extensions: &[(MID_ID, b"0"), (SEND_TIME_ID, &send_time), (TRANSPORT_ID, &transport), (LEVEL_ID, &level)],
        };
        let mut packet = header.write();
        packet.extend(&payload);
        let Some(datagram) = self.peer.seal(&packet) else { return };
        audio.sent.push_back((audio.sequence, datagram.clone()));
        keep_newest(&mut audio.sent, SENT_MAX);
        self.out.push_back(datagram);
        audio.history.push_back(frame);
        keep_newest(&mut audio.history, self.redundancy);
        audio.sequence = audio.sequence.wrapping_add(1);
        audio.frame += 1;
        audio.packets += 1;
        audio.octets += payload.len() as u32;
    }

    fn encode(&mut self, now: Instant) {
        let key = self.key_wanted && self.key_at.is_none_or(|at| now - at >= KEY_INTERVAL);
        if key {
            (self.key_wanted, self.key_at) = (false, Some(now));
            self.keyframes += 1;
        }
        let captured = now - self.began;
        for index in 0..self.layers.len() {
            let layer = &mut self.layers[index];
            if !layer.active {
                continue;
            }
            let (number, noise) = (self.number, self.rng.random_range(0.85..1.15));
            let simulcast_layer = index as u8 + (LAYERS.len() - self.layers.len()) as u8;
            let layer = &mut self.layers[index];
            let drafts = layer.encode(
                key,
                noise,
                Print { publisher: number, layer: simulcast_layer, captured, ..Print::default() },
            );
            self.paced.extend(drafts.into_iter().map(|draft| (index, draft)));
        }
    }

    fn pace(&mut self, now: Instant) {
        let rate: u32 = self.layers.iter().filter(|layer| layer.active).map(|layer| layer.bps).sum();
        self.pace_at = self.pace_at.max(now - Duration::from_millis(5));
        while self.pace_at <= now {
            let Some((index, draft)) = self.paced.pop_front() else { return };
            let bits = 8.0 * draft.payload.len() as f64;
            self.pace_at += Duration::from_secs_f64(bits / (PACING_FACTOR * f64::from(rate.max(100_000))));
            self.send_video(index, draft, now);
        }
    }

    fn send_video(&mut self, index: usize, draft: Draft, now: Instant) {
        let (send_time, transport) = self.stamps(now - self.began);
        let layer = &mut self.layers[index];
        let rid = layer.rid.as_bytes();
        let rid_id = if draft.repairs.is_some() { REPAIRED_RID_ID } else { RID_ID };
        let mut extensions: Vec<(u8, &[u8])> =
            vec![(MID_ID, b"1"), (SEND_TIME_ID, &send_time), (TRANSPORT_ID, &transport)];
        if self.simulcast {
            extensions.push((rid_id, rid));
        }
        let header = Header {
            payload_type: if draft.repairs.is_some() { RTX_PT } else { VP8_PT },
            marker: draft.marker,
            sequence: draft.sequence,
            timestamp: draft.timestamp,
            ssrc: if draft.repairs.is_some() { layer.rtx_ssrc } else { layer.ssrc },
            extensions: &extensions,
        };
        let mut packet = header.write();
        if let Some(original) = draft.repairs {
            packet.extend(original.to_be_bytes());
        }
        packet.extend(&draft.payload);
        if draft.repairs.is_none() {
            layer.packets += 1;
            layer.octets += draft.payload.len() as u32;
            layer.sent.push_back(draft);
            keep_newest(&mut layer.sent, SENT_MAX);
        }
        self.out.extend(self.peer.seal(&packet));
    }

    fn stamps(&mut self, elapsed: Duration) -> ([u8; 3], [u8; 2]) {
        let send_time = ((elapsed.as_micros() << 18) / 1_000_000) as u32;
        let transport = self.transport_seq.to_be_bytes();
        self.transport_seq = self.transport_seq.wrapping_add(1);
        let [_, a, b, c] = send_time.to_be_bytes();
        ([a, b, c], transport)
    }

    fn report(&mut self, now: Instant) {
        let elapsed = now - self.began;
        let micros = u128::from(self.unix_began_ms) * 1_000 + elapsed.as_micros();
        let ntp = ((micros << 32) / 1_000_000) as u64;
        let ntp = ntp.wrapping_add(NTP_EPOCH << 32);
        let audio = &self.audio;
        let mut compounds = Vec::new();
        // The clock of audio stands where its frames do.
        let since =
            self.audio_due.map_or(Duration::ZERO, |due| AUDIO_FRAME.saturating_sub(due.saturating_duration_since(now)));
        let ticks =
            960_u32.wrapping_mul(audio.frame.wrapping_sub(1)).wrapping_add((since.as_micros() * 48 / 1_000) as u32);
        let streams = self.layers.iter().filter(|layer| layer.active && layer.packets > 0).map(|layer| {
            let timestamp = layer.timestamp_offset.wrapping_add(video_ticks(elapsed));
            (layer.ssrc, timestamp, layer.packets, layer.octets)
        });
        let streams =
            std::iter::once((audio.ssrc, audio.timestamp_offset.wrapping_add(ticks), audio.packets, audio.octets))
                .filter(|(_, _, packets, _)| *packets > 0)
                .chain(streams);
        for (ssrc, timestamp, packets, octets) in streams {
            let mut compound = Vec::new();
            rtcp::write_sender_report(ssrc, ntp, timestamp, packets, octets, &[], &mut compound);
            rtcp::write_sdes_cname(ssrc, "own", &mut compound);
            compounds.push(compound);
        }
        self.out.extend(compounds.iter().filter_map(|compound| self.peer.seal(compound)));
    }
}

/// Ticks of the 90 kHz clock.
pub fn video_ticks(elapsed: Duration) -> u32 {
    (elapsed.as_micros() * 90 / 1_000) as u32
}

impl Layer {
    /// One frame, in packets. `noise` varies its size about 1.
    fn encode(&mut self, key: bool, noise: f64, print: Print) -> Vec<Draft> {
        self.place = if key { 0 } else { self.place };
        let tid = PATTERN[self.place];
        let average = f64::from(self.bps) / 8.0 * VIDEO_FRAME.as_secs_f64();
        // The base takes 40 % of the bits, the middle 20 %, the two highest frames 40 %.
        let share = if key { KEY_FRAMES } else { [1.6, 0.8, 0.8, 0.8][self.place] };
        let wanted = average * share * noise;
        // What a keyframe took too much is saved in the frames behind it.
        let saved = if key { 0.0 } else { self.debt.min(0.35 * wanted) };
        self.debt += if key { wanted - average } else { -saved };
        let bytes = (wanted - saved) as usize;

        if tid == 0 {
            self.tl0 = self.tl0.wrapping_add(1);
        }
        let role = if key { KEY } else { self.place as u8 };
        let print = Print { role, frame: self.frame, ..print };
        let count = bytes.div_ceil(PACKET_BYTES).max(1);
        let timestamp = self.timestamp_offset.wrapping_add(video_ticks(print.captured));
        let drafts = (0..count).map(|index| {
            let vp8 = Vp8 {
                starts: index == 0,
                key,
                picture_id: self.picture_id,
                tl0: self.tl0,
                tid,
                sync: matches!(self.place, 1 | 2),
            };
            let mut payload = Vec::with_capacity(PACKET_BYTES);
            vp8.write(self.size, &mut payload);
            payload.resize((bytes / count).max(payload.len() + PRINT_BYTES), 0xa5);
            print.write(&mut payload);
            let sequence = self.sequence;
            self.sequence = self.sequence.wrapping_add(1);
            Draft { sequence, timestamp, marker: index + 1 == count, payload, repairs: None }
        });
        let drafts = drafts.collect();
        self.picture_id = (self.picture_id + 1) & 0x7fff;
        self.place = (self.place + 1) % PATTERN.len();
        self.frame += 1;
        drafts
    }
}

fn keep_newest<T>(queue: &mut VecDeque<T>, max: usize) {
    while queue.len() > max {
        queue.pop_front();
    }
}
