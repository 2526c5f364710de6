//! A client whose every byte the test decides: ICE checks, DTLS client, SRTP, descriptions. What it got it keeps.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::sctp::Sctp;
use aws_lc_rs::digest;
use dimpl::{Dtls, DtlsCertificate, Output, SrtpProfile};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sfu::rtp;
use sfu::srtp::{self, Opener, Profile, Sealer};
use sfu::{Kind, Path};
use turn_server::stun::{Class, Message, Method, TransactionId, Writer};

pub(crate) const SERVER: ([u8; 4], u16) = ([192, 0, 2, 1], 7_882);
pub(crate) const OPUS: u8 = 111;
pub(crate) const VP8: u8 = 96;
pub(crate) const VP8_RTX: u8 = 97;
/// Ids of header extensions in the offers of a tab.
pub(crate) const LEVEL_ID: u8 = 1;
pub(crate) const TWCC_ID: u8 = 3;
pub(crate) const MID_ID: u8 = 4;

/// A certificate and its key, DER.
pub(crate) fn self_signed() -> (Vec<u8>, Vec<u8>) {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let certificate = rcgen::CertificateParams::default().self_signed(&key).unwrap();
    (certificate.der().to_vec(), key.serialize_der())
}

/// An RTP packet that came and opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Got {
    pub(crate) ssrc: u32,
    pub(crate) payload_type: u8,
    pub(crate) seq: u16,
    pub(crate) timestamp: u32,
    pub(crate) payload: Vec<u8>,
    /// Its header extensions, id and body.
    pub(crate) extensions: Vec<(u8, Vec<u8>)>,
}

/// One m-line as this tab describes it.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) media: String,
    pub(crate) mid: String,
    pub(crate) direction: &'static str,
    pub(crate) attributes: Vec<String>,
    pub(crate) sources: Vec<String>,
    pub(crate) rejected: bool,
}

/// What a tab sends on a line of its own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Source {
    pub(crate) kind: Kind,
    pub(crate) line: usize,
    pub(crate) ssrc: u32,
    pub(crate) rtx_ssrc: u32,
    pub(crate) index: u64,
    pub(crate) timestamp: u32,
}

pub(crate) struct Tab {
    pub(crate) path: Path,
    pub(crate) ufrag: String,
    pub(crate) pwd: String,
    pub(crate) origin: u64,
    version: u64,
    pub(crate) lines: Vec<Line>,
    pub(crate) sources: Vec<Source>,
    pub(crate) remote: Option<(String, String)>,
    /// It sends checks by itself.
    pub(crate) checks: bool,
    /// It answers checks, and how often it was asked.
    pub(crate) answers: bool,
    pub(crate) asked: u64,
    /// It takes part in the DTLS handshake by itself.
    pub(crate) shakes: bool,
    check_due: Option<Instant>,
    pub(crate) responses: u64,
    pub(crate) errors: Vec<u16>,
    identity: DtlsCertificate,
    /// The fingerprint that its descriptions name.
    pub(crate) fingerprint: [u8; 32],
    dtls: Option<Dtls>,
    dtls_due: Option<Instant>,
    pub(crate) keys: Option<(Opener, Sealer)>,
    pub(crate) profile: Option<Profile>,
    pub(crate) out: VecDeque<Vec<u8>>,
    pub(crate) got: Vec<Got>,
    /// RTCP compounds, opened.
    pub(crate) rtcp: Vec<Vec<u8>>,
    /// Media that did not open.
    pub(crate) unopened: u64,
    /// Its data channels, if it has any.
    pub(crate) sctp: Option<Sctp>,
    rng: StdRng,
}

impl Tab {
    pub(crate) fn new(number: usize, now: Instant) -> Tab {
        let (certificate, private_key) = self_signed();
        let mut tab = Tab {
            path: path(number, 50_000),
            ufrag: String::new(),
            pwd: String::new(),
            origin: 0,
            version: 0,
            lines: Vec::new(),
            sources: Vec::new(),
            remote: None,
            checks: true,
            answers: true,
            asked: 0,
            shakes: true,
            check_due: Some(now),
            responses: 0,
            errors: Vec::new(),
            fingerprint: sha256(&certificate),
            identity: DtlsCertificate { certificate, private_key },
            dtls: None,
            dtls_due: None,
            keys: None,
            profile: None,
            out: VecDeque::new(),
            got: Vec::new(),
            rtcp: Vec::new(),
            unopened: 0,
            sctp: None,
            rng: StdRng::seed_from_u64(number as u64),
        };
        tab.restart();
        tab.origin = tab.rng.random::<u32>().into();
        tab
    }

    /// New ICE credentials: an ICE restart, if a description goes with it.
    pub(crate) fn restart(&mut self) {
        self.ufrag = format!("u{:08x}", self.rng.random::<u32>());
        self.pwd = format!("p{:016x}{:016x}", self.rng.random::<u64>(), self.rng.random::<u64>());
    }

    /// A new RTCPeerConnection of the same person, behind another port. `keep` keeps the m-lines, as one has that
    /// answers a full offer; otherwise there are none.
    pub(crate) fn renew(&mut self, number: usize, keep: bool, now: Instant) {
        let before = std::mem::replace(self, Tab::new(number, now));
        self.rng = before.rng;
        self.restart();
        self.origin = before.origin + 1;
        if let Path::Udp { remote, .. } = before.path {
            self.path = path(number, remote.port() + 1);
        }
        if keep {
            self.lines = before.lines;
            self.sources = before.sources;
        }
    }

    /// Adds a line on which this tab sends.
    pub(crate) fn add(&mut self, kind: Kind) -> usize {
        let line = self.lines.len();
        let (ssrc, rtx_ssrc) = (self.rng.random(), self.rng.random());
        let source = Source {
            kind,
            line,
            ssrc,
            rtx_ssrc,
            index: u64::from(self.rng.random::<u16>() >> 1),
            timestamp: self.rng.random(),
        };
        self.sources.push(source);
        self.lines.push(offered_line(kind, &line.to_string(), ssrc, rtx_ssrc));
        self.sources.len() - 1
    }

    /// Adds the line of data channels.
    pub(crate) fn add_data(&mut self, now: Instant) {
        let attributes = vec!["a=sctp-port:5000".to_owned(), "a=max-message-size:262144".to_owned()];
        self.lines.push(Line {
            media: "m=application 9 UDP/DTLS/SCTP webrtc-datachannel".to_owned(),
            mid: self.lines.len().to_string(),
            direction: "sendrecv",
            attributes,
            sources: Vec::new(),
            rejected: false,
        });
        self.sctp = Some(Sctp::new(self.rng.random(), now));
    }

    /// Our offer.
    pub(crate) fn offer(&mut self) -> String {
        self.describe("actpass")
    }

    fn describe(&mut self, setup: &str) -> String {
        self.version += 1;
        let mids: Vec<&str> = self.lines.iter().filter(|l| !l.rejected).map(|l| l.mid.as_str()).collect();
        let fingerprint: Vec<String> = self.fingerprint.iter().map(|byte| format!("{byte:02X}")).collect();
        let mut sdp = format!(
            "v=0\r\no=- {} {} IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE {}\r\na=ice-ufrag:{}\r\na=ice-pwd:{}\r\n\
             a=fingerprint:sha-256 {}\r\na=setup:{setup}\r\n",
            self.origin,
            self.version,
            mids.join(" "),
            self.ufrag,
            self.pwd,
            fingerprint.join(":"),
        );
        for line in &self.lines {
            sdp.push_str(&line.write());
        }
        sdp
    }

    /// Takes the server's answer.
    pub(crate) fn take_answer(&mut self, sdp: &str, now: Instant) {
        self.learn(sdp, now);
        for (line, section) in self.lines.iter_mut().zip(sections(sdp)) {
            line.rejected |= is_rejected(&section);
        }
    }

    /// Takes the server's offer and answers it: all that is sent is taken.
    pub(crate) fn answer(&mut self, sdp: &str, now: Instant) -> String {
        self.learn(sdp, now);
        for (index, section) in sections(sdp).into_iter().enumerate() {
            let mid = attribute(&section, "mid").unwrap_or_default().to_owned();
            let own = self.lines.get(index).filter(|line| line.mid == mid);
            let sources = own.map(|line| line.sources.clone()).unwrap_or_default();
            let kept = ["a=sctp-port:", "a=max-message-size:", "a=rtpmap:", "a=fmtp:", "a=rtcp-fb:", "a=extmap:"];
            let attributes =
                section.lines().filter(|l| kept.iter().any(|k| l.starts_with(k))).map(str::to_owned).collect();
            let direction = match section.lines().find_map(direction_of) {
                Some("sendonly") => "recvonly",
                Some("recvonly") if !sources.is_empty() => "sendonly",
                Some("sendrecv") if !sources.is_empty() => "sendrecv",
                Some("sendrecv") => "recvonly",
                _ => "inactive",
            };
            let media = section.lines().next().unwrap_or_default().to_owned();
            let line = Line { media, mid, direction, attributes, sources, rejected: is_rejected(&section) };
            if index < self.lines.len() { self.lines[index] = line } else { self.lines.push(line) }
        }
        self.describe("active")
    }

    fn learn(&mut self, sdp: &str, now: Instant) {
        let Some(remote) = attribute(sdp, "ice-ufrag").zip(attribute(sdp, "ice-pwd")) else { return };
        let remote = Some((remote.0.to_owned(), remote.1.to_owned()));
        if self.remote != remote {
            self.remote = remote;
            self.check_due = Some(now);
        }
    }

    /// A check to the server, as it should be.
    pub(crate) fn check(&mut self, nominate: bool) -> Vec<u8> {
        let (ufrag, pwd) = self.remote.clone().unwrap();
        self.check_as(&format!("{ufrag}:{}", self.ufrag), &pwd, nominate)
    }

    /// A check under any name and password.
    pub(crate) fn check_as(&mut self, username: &str, pwd: &str, nominate: bool) -> Vec<u8> {
        let mut out = Vec::new();
        let writer = Writer::request(&mut out, Method::BINDING, TransactionId(self.rng.random()))
            .username(username)
            .priority(0x6e00_01ff)
            .ice_controlling(1);
        let writer = if nominate { writer.use_candidate() } else { writer };
        writer.integrity(pwd.as_bytes()).fingerprint();
        out
    }

    /// Does what is due.
    pub(crate) fn tick(&mut self, now: Instant) {
        if self.checks && self.remote.is_some() && self.check_due.is_some_and(|due| due <= now) {
            let check = self.check(true);
            self.out.push_back(check);
            self.check_due = Some(now + Duration::from_secs(2));
        }
        if self.dtls_due.is_some_and(|due| due <= now) {
            self.drive(now, None);
        }
        self.tick_data(now);
    }

    /// Lets the data channels say what they have to say.
    fn tick_data(&mut self, now: Instant) {
        let packets = match &mut self.sctp {
            Some(sctp) if self.keys.is_some() => sctp.tick(now),
            _ => return,
        };
        for packet in packets {
            self.send_data(&packet, now);
        }
    }

    /// Sends any SCTP packet over DTLS.
    pub(crate) fn send_data(&mut self, packet: &[u8], now: Instant) {
        self.dtls.as_mut().unwrap().send_application_data(packet).unwrap();
        self.drive(now, None);
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        let check = self.check_due.filter(|_| self.checks && self.remote.is_some());
        let data = self.sctp.as_ref().filter(|_| self.keys.is_some()).and_then(Sctp::deadline);
        [check, self.dtls_due, data].into_iter().flatten().min()
    }

    /// Takes a datagram.
    pub(crate) fn take(&mut self, datagram: &mut [u8], now: Instant) {
        match rtp::classify(datagram) {
            rtp::Class::Stun => {
                let message = Message::parse(datagram).unwrap();
                if let Some((code, _)) = message.error_code() {
                    self.errors.push(code);
                } else if message.class() == Class::Success {
                    self.responses += 1;
                    if self.dtls.is_none() && self.shakes {
                        self.shake(now);
                    }
                } else if message.username().is_some_and(|name| name.starts_with(&format!("{}:", self.ufrag))) {
                    self.asked += 1;
                    let answer = self.answer_check(&message);
                    self.out.extend(Some(answer).filter(|_| self.answers));
                }
            }
            rtp::Class::Dtls => self.drive(now, Some(datagram)),
            rtp::Class::Rtp => match self.open(datagram) {
                Some(got) => self.got.push(got),
                None => self.unopened += 1,
            },
            rtp::Class::Rtcp => {
                let Some((opener, _)) = &mut self.keys else { return self.unopened += 1 };
                match opener.open_rtcp(datagram) {
                    Ok(len) => self.rtcp.push(datagram[..len].to_vec()),
                    Err(_) => self.unopened += 1,
                }
            }
            rtp::Class::Other => panic!("the SFU sent a datagram of no protocol"),
        }
    }

    /// What a browser answers to a check of an ICE-lite server.
    pub(crate) fn answer_check(&self, check: &Message<'_>) -> Vec<u8> {
        let (theirs, _) = self.remote.as_ref().unwrap();
        assert_eq!(check.username(), Some(format!("{}:{theirs}", self.ufrag).as_str()));
        assert!(check.check_integrity(self.pwd.as_bytes()) && check.check_fingerprint());
        assert!(check.ice_controlled().is_some() && check.ice_controlling().is_none() && !check.use_candidate());
        let Path::Udp { local, .. } = self.path else { panic!("only UDP is asked") };
        let mut out = Vec::new();
        Writer::success(&mut out, Method::BINDING, check.transaction_id())
            .xor_mapped_address(local)
            .integrity(self.pwd.as_bytes())
            .fingerprint();
        out
    }

    /// Begins the DTLS handshake.
    pub(crate) fn shake(&mut self, now: Instant) {
        let config = Arc::new(dimpl::Config::builder().build().unwrap());
        let mut dtls = Dtls::new_12(config, self.identity.clone(), now);
        dtls.set_active(true);
        self.dtls = Some(dtls);
        self.drive(now, None);
    }

    /// Says goodbye (close_notify).
    pub(crate) fn close(&mut self, now: Instant) {
        self.dtls.as_mut().unwrap().close().unwrap();
        self.drive(now, None);
    }

    fn drive(&mut self, now: Instant, datagram: Option<&[u8]>) {
        let Some(dtls) = &mut self.dtls else { return };
        if dtls.handle_timeout(now).is_err() || datagram.is_some_and(|d| dtls.handle_packet(d).is_err()) {
            self.dtls_due = None;
            return;
        }
        let mut buffer = [0; 2_048];
        loop {
            match dtls.poll_output(&mut buffer) {
                Output::Packet(record) => self.out.push_back(record.to_vec()),
                Output::KeyingMaterial(material, profile) => {
                    let profile = match profile {
                        SrtpProfile::AEAD_AES_256_GCM => Profile::AeadAes256Gcm,
                        SrtpProfile::AEAD_AES_128_GCM => Profile::AeadAes128Gcm,
                        _ => Profile::Aes128CmSha1_80,
                    };
                    self.profile = Some(profile);
                    self.keys = srtp::from_keying_material(profile, &material, false);
                }
                Output::ApplicationData(packet) => {
                    if let Some(sctp) = &mut self.sctp {
                        sctp.take(packet, now);
                    }
                }
                Output::Timeout(at) => {
                    self.dtls_due = self.keys.is_none().then_some(at);
                    break;
                }
                _ => {}
            }
        }
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.keys.is_some()
    }

    /// Seals a plain RTP packet of any kind.
    pub(crate) fn seal(&self, mut plain: Vec<u8>, header_len: usize, ssrc: u32, index: u64) -> Vec<u8> {
        let (_, sealer) = self.keys.as_ref().unwrap();
        let len = plain.len();
        plain.resize(len + sealer.overhead(), 0);
        let sealed = sealer.seal_rtp(&mut plain, header_len, len, ssrc, index);
        plain.truncate(sealed);
        plain
    }

    /// Seals an RTCP compound of any kind.
    pub(crate) fn seal_rtcp(&mut self, mut plain: Vec<u8>) -> Vec<u8> {
        let (_, sealer) = self.keys.as_mut().unwrap();
        sealer.seal_rtcp(&mut plain).unwrap();
        plain
    }

    /// The next packet of a source; `ticks` pass on its clock before it.
    pub(crate) fn rtp(&mut self, source: usize, ticks: u32, payload: &[u8]) -> Vec<u8> {
        let source = &mut self.sources[source];
        source.timestamp = source.timestamp.wrapping_add(ticks);
        source.index += 1;
        let source = *source;
        self.rtp_at(source, source.index, payload)
    }

    /// A packet of a source under an index of choice; its transport-wide number is that index, too.
    pub(crate) fn rtp_at(&self, source: Source, index: u64, payload: &[u8]) -> Vec<u8> {
        let payload_type = if source.kind == Kind::Audio { OPUS } else { VP8 };
        let mid = self.lines[source.line].mid.as_bytes();
        let number = (index as u16).to_be_bytes();
        let extensions: &[(u8, &[u8])] = &[(MID_ID, mid), (TWCC_ID, &number)];
        let plain = plain_rtp(source.ssrc, payload_type, index as u16, source.timestamp, extensions, payload);
        let header_len = plain.len() - payload.len();
        self.seal(plain, header_len, source.ssrc, index)
    }

    fn open(&mut self, datagram: &mut [u8]) -> Option<Got> {
        let (opener, _) = self.keys.as_mut()?;
        let header = rtp::parse(datagram)?;
        let (len, _) = opener.open_rtp(datagram, header.header_len, header.ssrc, header.sequence_number).ok()?;
        let plain = &datagram[..len];
        Some(Got {
            ssrc: header.ssrc,
            payload_type: header.payload_type,
            seq: header.sequence_number,
            timestamp: header.timestamp,
            payload: rtp::payload(plain, &header)?.to_vec(),
            extensions: rtp::extensions(plain, &header).map(|(id, body)| (id, body.to_vec())).collect(),
        })
    }
}

impl Line {
    fn write(&self) -> String {
        let mut media: Vec<&str> = self.media.split(' ').collect();
        media[1] = if self.rejected { "0" } else { "9" };
        let mut out = format!(
            "{}\r\nc=IN IP4 0.0.0.0\r\na=mid:{}\r\na={}\r\na=rtcp-mux\r\n",
            media.join(" "),
            self.mid,
            self.direction
        );
        for line in self.attributes.iter().chain(&self.sources) {
            out.push_str(line);
            out.push_str("\r\n");
        }
        out
    }
}

/// A line that a tab offers to send on.
pub(crate) fn offered_line(kind: Kind, mid: &str, ssrc: u32, rtx_ssrc: u32) -> Line {
    let mut attributes = vec![format!("a=extmap:{MID_ID} urn:ietf:params:rtp-hdrext:sdes:mid")];
    attributes
        .push(format!("a=extmap:{TWCC_ID} http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01"));
    let mut sources = vec![format!("a=ssrc:{ssrc} cname:c")];
    let media = match kind {
        Kind::Audio => {
            attributes.push(format!("a=extmap:{LEVEL_ID} urn:ietf:params:rtp-hdrext:ssrc-audio-level"));
            attributes.push(format!("a=rtpmap:{OPUS} opus/48000/2"));
            attributes.push(format!("a=fmtp:{OPUS} minptime=10;useinbandfec=1"));
            format!("m=audio 9 UDP/TLS/RTP/SAVPF {OPUS}")
        }
        Kind::Video => {
            attributes.push(format!("a=rtpmap:{VP8} VP8/90000"));
            attributes.push(format!("a=rtcp-fb:{VP8} nack"));
            attributes.push(format!("a=rtcp-fb:{VP8} nack pli"));
            attributes.push(format!("a=rtcp-fb:{VP8} transport-cc"));
            attributes.push(format!("a=rtpmap:{VP8_RTX} rtx/90000"));
            attributes.push(format!("a=fmtp:{VP8_RTX} apt={VP8}"));
            sources.insert(0, format!("a=ssrc-group:FID {ssrc} {rtx_ssrc}"));
            sources.push(format!("a=ssrc:{rtx_ssrc} cname:c"));
            format!("m=video 9 UDP/TLS/RTP/SAVPF {VP8} {VP8_RTX}")
        }
    };
    Line { media, mid: mid.to_owned(), direction: "sendonly", attributes, sources, rejected: false }
}

/// A plain RTP packet with one-byte header extensions.
pub(crate) fn plain_rtp(
    ssrc: u32,
    pt: u8,
    seq: u16,
    timestamp: u32,
    extensions: &[(u8, &[u8])],
    payload: &[u8],
) -> Vec<u8> {
    let mut packet = vec![0x80, pt];
    packet.extend(seq.to_be_bytes());
    packet.extend(timestamp.to_be_bytes());
    packet.extend(ssrc.to_be_bytes());
    if !extensions.is_empty() {
        packet[0] |= 0x10;
        let mut elements = Vec::new();
        for (id, body) in extensions {
            elements.push(id << 4 | (body.len() - 1) as u8);
            elements.extend(*body);
        }
        elements.resize(elements.len().next_multiple_of(4), 0);
        packet.extend([0xbe, 0xde]);
        packet.extend(((elements.len() / 4) as u16).to_be_bytes());
        packet.extend(elements);
    }
    packet.extend(payload);
    packet
}

/// A VP8 payload: the first packet of a frame, a keyframe or not.
pub(crate) fn vp8(key: bool, fill: u8, len: usize) -> Vec<u8> {
    let mut payload = vec![fill; len.max(4)];
    payload[0] = 0x10;
    payload[1] = u8::from(!key);
    payload
}

/// The path of tab `number` from one of its ports.
pub(crate) fn path(number: usize, port: u16) -> Path {
    let [high, low] = (number as u16).to_be_bytes();
    Path::Udp { local: SocketAddr::from(SERVER), remote: SocketAddr::from(([10, 0, high, low], port)) }
}

pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    digest::digest(&digest::SHA256, bytes).as_ref().try_into().unwrap()
}

/// The m-sections of a description.
pub(crate) fn sections(sdp: &str) -> Vec<String> {
    sdp.split("\r\nm=").skip(1).map(|section| format!("m={section}")).collect()
}

fn is_rejected(section: &str) -> bool {
    section.split(' ').nth(1) == Some("0")
}

fn direction_of(line: &str) -> Option<&str> {
    line.strip_prefix("a=").filter(|word| ["sendonly", "recvonly", "sendrecv", "inactive"].contains(word))
}

/// The value of the first `a=name:` line.
pub(crate) fn attribute<'a>(sdp: &'a str, name: &str) -> Option<&'a str> {
    sdp.lines().find_map(|line| line.strip_prefix("a=")?.strip_prefix(name)?.strip_prefix(':'))
}
