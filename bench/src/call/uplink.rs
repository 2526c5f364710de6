//! What one participant publishes: recorded and stamped audio, camera and screen, with keyframes on request, retransmissions and reports.
//! Rates are fixed: the tester puts on the server exactly what it was told to.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sfu::rtcp::{self, Packet};

use super::codec::{Codec, Place};
use super::recording::{self, Size};
use super::stamp::{STAMP_BYTES, Stamp, Track};
use crate::inbound::TRANSPORT_URI;
use crate::network::wire::Header;
use crate::peer::ClientPeer;

/// Header extension ids of our offers, as Chromium numbers them.
const LEVEL_ID: u8 = 1;
const TRANSPORT_ID: u8 = 3;
const MID_ID: u8 = 4;
const RID_ID: u8 = 10;
const REPAIRED_RID_ID: u8 = 11;
/// Payload types likewise.
const OPUS_PT: u8 = 111;
const VIDEO_PT: u8 = 96;
const RTX_PT: u8 = 97;
/// Time of one Opus frame.
pub const AUDIO_FRAME: Duration = Duration::from_millis(20);
/// Bytes of one Opus frame: 40 kbit/s.
const OPUS_BYTES: usize = 100;
/// Payload bytes of a full video packet.
const PACKET_BYTES: usize = 1_100;
/// A keyframe is so many average frames long.
const KEY_FRAMES: usize = 4;
/// Keyframes are at least so far apart, as in libwebrtc.
const KEY_INTERVAL: Duration = Duration::from_millis(300);
/// Packets of a stream that can be sent again; older ones are gone.
const SENT_MAX: usize = 512;
/// Reports, and levels of what is said, change about so often.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// Frames that a machine too slow for its bots may send late in a row; what is later still is left out.
const LATE_FRAMES_MAX: u32 = 5;
/// Seconds from 1900 to 1970.
const NTP_EPOCH: u64 = 2_208_988_800;
/// Levels in −dBov with the voice bit, and of silence.
const SPEAKS: u8 = 0x80 | 28;
const SILENT: u8 = 127;

/// What a participant publishes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Publish {
    /// A microphone.
    pub audio: bool,
    /// A camera.
    pub camera: bool,
    /// A screen.
    pub screen: bool,
    /// The camera in three layers: a tenth, a third and all of `video_bps`.
    pub simulcast: bool,
    /// Bits a second of camera and screen each, payload only; at least 10,000. Pictures that need more take more.
    pub video_bps: u32,
    /// Frames a second, 1–60.
    pub fps: u32,
    /// Of camera and screen.
    pub codec: Codec,
}

impl Publish {
    /// Its tracks, in the order of their mids.
    pub fn tracks(self) -> impl Iterator<Item = Track> {
        [(self.audio, Track::Audio), (self.camera, Track::Camera), (self.screen, Track::Screen)]
            .into_iter()
            .filter_map(|(wanted, track)| wanted.then_some(track))
    }

    fn layers(self, track: Track) -> Vec<(&'static str, Size, u32)> {
        match track {
            Track::Camera if self.simulcast => vec![
                ("q", Size::Quarter, self.video_bps / 10),
                ("h", Size::Half, self.video_bps / 3),
                ("f", Size::Full, self.video_bps),
            ],
            _ => vec![("f", Size::Full, self.video_bps)],
        }
    }
}

struct Sent {
    sequence: u16,
    timestamp: u32,
    marker: bool,
    payload: Vec<u8>,
}

/// One RTP stream: audio, or a layer of video.
struct Stream {
    rid: &'static str,
    size: Size,
    bps: u32,
    ssrc: u32,
    rtx_ssrc: u32,
    index: u64,
    rtx_index: u64,
    timestamp: u32,
    frame: u32,
    active: bool,
    sent: VecDeque<Sent>,
    packets: u32,
    octets: u32,
    /// The newest packet that the server asked for again, extended.
    asked: u64,
}

struct Line {
    track: Track,
    mid: &'static str,
    streams: Vec<Stream>,
    simulcast: bool,
    due: Option<Instant>,
    /// How far the recording is.
    at: usize,
    key_wanted: bool,
    key_at: Option<Instant>,
}

/// What it has sent so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// RTP packets, first sends only.
    pub packets: u64,
    /// Distinct packets that the server asked for again: what its uplink lost.
    pub asked: u64,
    /// Keyframes.
    pub keyframes: u64,
    /// Frames that were left out since the tester was too late for them.
    pub skipped: u64,
}

/// See the module.
pub struct Uplink {
    number: u32,
    publish: Publish,
    began: Instant,
    unix_began_ms: u64,
    lines: Vec<Line>,
    report_due: Instant,
    /// Counts all packets of the connection, for the server's transport-wide feedback.
    transport_seq: u16,
    out: VecDeque<Vec<u8>>,
    /// Whether somebody talks into the microphone.
    pub speaking: bool,
    /// Nothing is sent while this is false.
    pub publishing: bool,
    /// What it has sent so far.
    pub sums: Sums,
    /// How late frames were sent that should have been by now, until somebody takes it.
    pub lateness: Vec<Duration>,
}

impl Uplink {
    /// Stamps count time from `began`, which was `unix_began_ms`; `number` is unique in the run.
    pub fn new(number: u32, publish: Publish, seed: u64, began: Instant, unix_began_ms: u64, now: Instant) -> Uplink {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut stream = |(rid, size, bps): (&'static str, Size, u32)| Stream {
            rid,
            size,
            bps: bps.max(10_000),
            ssrc: rng.random(),
            rtx_ssrc: rng.random(),
            // Below 2^15, so that a loss at the very start cannot be taken for a wrap (RFC 3711 §3.3.1).
            index: u64::from(rng.random::<u16>() >> 1),
            rtx_index: u64::from(rng.random::<u16>() >> 1),
            timestamp: rng.random(),
            frame: 0,
            active: true,
            sent: VecDeque::new(),
            packets: 0,
            octets: 0,
            asked: 0,
        };
        let lines = publish.tracks().map(|track| {
            let streams: Vec<Stream> = publish.layers(track).into_iter().map(&mut stream).collect();
            let simulcast = streams.len() > 1;
            let mid = ["0", "1", "2"][track as usize];
            Line { track, mid, streams, simulcast, due: None, at: 0, key_wanted: true, key_at: None }
        });
        Uplink {
            number,
            publish,
            began,
            unix_began_ms,
            lines: lines.collect(),
            report_due: now,
            transport_seq: seed as u16,
            out: VecDeque::new(),
            speaking: true,
            publishing: true,
            sums: Sums::default(),
            lateness: Vec::new(),
        }
    }

    /// Its m-lines, each with its mid and source.
    pub fn sections(&self) -> impl Iterator<Item = (&'static str, Track, String)> + '_ {
        self.lines.iter().map(|line| (line.mid, line.track, self.section(line)))
    }

    /// The kinds that it publishes: 0 audio, 1 video.
    pub fn kinds(&self) -> impl Iterator<Item = usize> + '_ {
        self.lines.iter().map(|line| usize::from(line.track != Track::Audio))
    }

    fn section(&self, line: &Line) -> String {
        let kind = if line.track == Track::Audio { "audio" } else { "video" };
        let first = &line.streams[0];
        let common = format!(
            "c=IN IP4 0.0.0.0\r\na=mid:{}\r\na=sendonly\r\na=rtcp-mux\r\na=rtcp-rsize\r\na=msid:own own-{}\r\n\
             a=extmap:{TRANSPORT_ID} {TRANSPORT_URI}\r\na=extmap:{MID_ID} urn:ietf:params:rtp-hdrext:sdes:mid\r\n",
            line.mid,
            line.track.source(),
        );
        if line.track == Track::Audio {
            return format!(
                "m={kind} 9 UDP/TLS/RTP/SAVPF {OPUS_PT}\r\n{common}\
                 a=extmap:{LEVEL_ID} urn:ietf:params:rtp-hdrext:ssrc-audio-level\r\na=rtpmap:{OPUS_PT} opus/48000/2\r\n\
                 a=rtcp-fb:{OPUS_PT} transport-cc\r\na=fmtp:{OPUS_PT} minptime=10;useinbandfec=1\r\na=ssrc:{} cname:own\r\n",
                first.ssrc
            );
        }
        let codec = self.publish.codec;
        let fmtp = codec.parameters().map(|it| format!("a=fmtp:{VIDEO_PT} {it}\r\n")).unwrap_or_default();
        let sources = if line.simulcast {
            let rids: Vec<&str> = line.streams.iter().map(|stream| stream.rid).collect();
            let each: String = rids.iter().map(|rid| format!("a=rid:{rid} send\r\n")).collect();
            format!(
                "a=extmap:{RID_ID} urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id\r\n\
                 a=extmap:{REPAIRED_RID_ID} urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id\r\n\
                 {each}a=simulcast:send {}\r\n",
                rids.join(";")
            )
        } else {
            let Stream { ssrc, rtx_ssrc, .. } = first;
            format!("a=ssrc-group:FID {ssrc} {rtx_ssrc}\r\na=ssrc:{ssrc} cname:own\r\na=ssrc:{rtx_ssrc} cname:own\r\n")
        };
        format!(
            "m={kind} 9 UDP/TLS/RTP/SAVPF {VIDEO_PT} {RTX_PT}\r\n{common}a=rtpmap:{VIDEO_PT} {}/90000\r\n{fmtp}\
             a=rtcp-fb:{VIDEO_PT} transport-cc\r\na=rtcp-fb:{VIDEO_PT} ccm fir\r\na=rtcp-fb:{VIDEO_PT} nack\r\na=rtcp-fb:{VIDEO_PT} nack pli\r\n\
             a=rtpmap:{RTX_PT} rtx/90000\r\na=fmtp:{RTX_PT} apt={VIDEO_PT}\r\n{sources}",
            codec.name()
        )
    }

    /// Switches layers of the camera on and off, as the server says they are wanted.
    pub fn want_layer(&mut self, rid: &str, active: bool) {
        for line in self.lines.iter_mut().filter(|line| line.simulcast) {
            let Some(stream) = line.streams.iter_mut().find(|stream| stream.rid == rid) else { continue };
            line.key_wanted |= active && !stream.active;
            stream.active = active;
        }
    }

    /// Takes a report about what was sent: what was lost goes again, who cannot begin gets a keyframe.
    pub fn take_feedback(&mut self, packet: &Packet<'_>, peer: &mut ClientPeer) {
        match packet {
            Packet::Nack { media, lost, .. } => lost.clone().for_each(|lost| self.resend(*media, lost, peer)),
            Packet::Pli { .. } | Packet::Fir { .. } => {
                // Like libvpx: one request brings keyframes of all layers. With screens it is of all videos, which is rare.
                self.lines.iter_mut().for_each(|line| line.key_wanted = true);
            }
            _ => {}
        }
    }

    fn resend(&mut self, media: u32, lost: u16, peer: &mut ClientPeer) {
        let Some((line, at)) = self.lines.iter_mut().find_map(|line| {
            let at = line.streams.iter().position(|stream| stream.ssrc == media)?;
            Some((line, at))
        }) else {
            return;
        };
        let stream = &mut line.streams[at];
        let extended = sfu::rtp::extend(stream.index, lost);
        if extended > stream.asked {
            stream.asked = extended;
            self.sums.asked += 1;
        }
        // Audio has no RTX: other bytes under one index would give the key away, and the same are of no use any more.
        let Some(old) = stream.sent.iter().find(|old| old.sequence == lost).filter(|_| line.track != Track::Audio)
        else {
            return;
        };
        let transport = next(&mut self.transport_seq);
        let mut extensions: Vec<(u8, &[u8])> = vec![(TRANSPORT_ID, &transport), (MID_ID, line.mid.as_bytes())];
        if line.simulcast {
            extensions.push((REPAIRED_RID_ID, stream.rid.as_bytes()));
        }
        let header = Header {
            payload_type: RTX_PT,
            marker: old.marker,
            sequence: stream.rtx_index as u16,
            timestamp: old.timestamp,
            ssrc: stream.rtx_ssrc,
            extensions: &extensions,
        };
        let mut packet = header.write();
        let header_len = packet.len();
        packet.extend(old.sequence.to_be_bytes());
        packet.extend(&old.payload);
        self.out.extend(peer.seal_indexed(&packet, header_len, stream.rtx_ssrc, stream.rtx_index));
        stream.rtx_index += 1;
    }

    /// Sends what is due.
    pub fn tick(&mut self, peer: &mut ClientPeer, now: Instant) {
        if !peer.is_connected() || !self.publishing {
            return;
        }
        for at in 0..self.lines.len() {
            let interval = self.interval(self.lines[at].track);
            while let Some(due) = self.lines[at].due.or(Some(now)).filter(|due| *due <= now) {
                self.lines[at].due = Some(due + interval);
                if due + LATE_FRAMES_MAX * interval < now {
                    self.sums.skipped += 1;
                    continue;
                }
                self.lateness.push(now - due);
                self.frame(at, peer, now);
            }
        }
        if self.report_due <= now {
            self.report_due = now + REPORT_INTERVAL;
            self.report(peer, now);
        }
    }

    fn interval(&self, track: Track) -> Duration {
        if track == Track::Audio { AUDIO_FRAME } else { Duration::from_secs(1) / self.publish.fps.max(1) }
    }

    /// One frame of a line: of all its layers that anybody wants.
    fn frame(&mut self, at: usize, peer: &mut ClientPeer, now: Instant) {
        let interval = self.interval(self.lines[at].track);
        let sent_us = (now - self.began).as_micros() as u64;
        let line = &mut self.lines[at];
        let audio = line.track == Track::Audio;
        let wanted = line.key_wanted && line.key_at.is_none_or(|at| now - at >= KEY_INTERVAL);
        let key = !audio && (wanted || line.at == recording::FRAMES);
        if key {
            (line.key_wanted, line.key_at, line.at) = (false, Some(now), 0);
            self.sums.keyframes += 1;
        }
        let clock_hz = if audio { 48_000 } else { 90_000 };
        let ticks = (interval.as_micros() as u64 * clock_hz / 1_000_000) as u32;
        let level = [if self.speaking { SPEAKS } else { SILENT }];
        for (layer, stream) in line.streams.iter_mut().enumerate() {
            stream.timestamp = stream.timestamp.wrapping_add(ticks);
            if !stream.active {
                continue;
            }
            let average = (stream.bps as usize / 8 / self.publish.fps.max(1) as usize).max(2 * STAMP_BYTES);
            let bytes = if audio { OPUS_BYTES } else { average * if key { KEY_FRAMES } else { 1 } };
            let recorded = if audio { &[] } else { recording::picture(stream.size, line.at) };
            let pieces = bytes.div_ceil(PACKET_BYTES).max(1);
            for piece in 0..pieces {
                let mut payload = Vec::with_capacity(PACKET_BYTES);
                let last = piece + 1 == pieces;
                if audio {
                    recording::tone(line.at, bytes, &mut payload);
                } else {
                    let picture = stream.frame as u16 & 0x7fff;
                    let place = Place { key, first: piece == 0, last, picture, recorded };
                    self.publish.codec.head(place, &mut payload);
                    payload.resize((bytes / pieces).max(payload.len() + STAMP_BYTES), 0xa5);
                }
                let stamp = Stamp {
                    publisher: self.number,
                    track: line.track,
                    layer: layer as u8,
                    needs: u8::from(!key && !audio),
                    frame: stream.frame,
                    piece: piece as u16,
                    pieces: pieces as u16,
                    sent_us,
                };
                stamp.write(&mut payload);
                let transport = next(&mut self.transport_seq);
                let mut extensions: Vec<(u8, &[u8])> = vec![(TRANSPORT_ID, &transport), (MID_ID, line.mid.as_bytes())];
                if audio {
                    extensions.push((LEVEL_ID, &level));
                } else if line.simulcast {
                    extensions.push((RID_ID, stream.rid.as_bytes()));
                }
                let header = Header {
                    payload_type: if audio { OPUS_PT } else { VIDEO_PT },
                    marker: last && !audio,
                    sequence: stream.index as u16,
                    timestamp: stream.timestamp,
                    ssrc: stream.ssrc,
                    extensions: &extensions,
                };
                let mut packet = header.write();
                let header_len = packet.len();
                packet.extend(&payload);
                self.out.extend(peer.seal_indexed(&packet, header_len, stream.ssrc, stream.index));
                if !audio {
                    let (sequence, timestamp) = (stream.index as u16, stream.timestamp);
                    stream.octets = stream.octets.wrapping_add(payload.len() as u32);
                    stream.sent.push_back(Sent { sequence, timestamp, marker: last, payload });
                    if stream.sent.len() > SENT_MAX {
                        stream.sent.pop_front();
                    }
                }
                stream.index += 1;
                stream.packets = stream.packets.wrapping_add(1);
                self.sums.packets += 1;
            }
            stream.frame = stream.frame.wrapping_add(1);
        }
        line.at += 1;
    }

    fn report(&mut self, peer: &mut ClientPeer, now: Instant) {
        let micros = u128::from(self.unix_began_ms) * 1_000 + (now - self.began).as_micros();
        let ntp = (((micros << 32) / 1_000_000) as u64).wrapping_add(NTP_EPOCH << 32);
        for stream in self.lines.iter().flat_map(|line| &line.streams).filter(|it| it.packets > 0 && it.active) {
            let mut compound = Vec::new();
            let Stream { ssrc, timestamp, packets, octets, .. } = *stream;
            rtcp::write_sender_report(ssrc, ntp, timestamp, packets, octets, &[], &mut compound);
            rtcp::write_sdes_cname(ssrc, "own", &mut compound);
            self.out.extend(peer.seal(&compound));
        }
    }

    /// When [`Uplink::tick`] is due.
    pub fn deadline(&self) -> Option<Instant> {
        let media = self.lines.iter().filter_map(|line| line.due).filter(|_| self.publishing).min();
        media.map(|media| media.min(self.report_due))
    }

    /// The next datagram for the server.
    pub fn transmit(&mut self) -> Option<Vec<u8>> {
        self.out.pop_front()
    }
}

/// Counts on, and hands back what it was.
fn next(seq: &mut u16) -> [u8; 2] {
    let bytes = seq.to_be_bytes();
    *seq = seq.wrapping_add(1);
    bytes
}
