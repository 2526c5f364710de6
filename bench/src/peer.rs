//! A small client of our own, as a pure machine: ICE checks, DTLS client, SRTP, hand-written SDP. It shares no code with
//! the SFU but the codecs under test elsewhere (STUN, SRTP), and is cheap enough that five hundred fit in one bench.
//! What a real client does and this one does not: NACK, reports, congestion control, more than one path.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_lc_rs::digest;
use dimpl::{Dtls, DtlsCertificate, Output, SrtpProfile};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sfu::rtcp::{self, Packet};
use sfu::srtp::{self, Opener, Profile, Sealer};
use sfu::{Kind, TrackLine, rtp};
use turn_server::stun::{Class, Message, Method, TransactionId, Writer};

use crate::media::Stamp;

/// Payload types, as Chromium numbers them.
const OPUS_PT: u8 = 111;
const VP8_PT: u8 = 96;
const VP8_RTX_PT: u8 = 97;
/// Ids of header extensions in our offers.
const MID_EXTENSION: u8 = 4;
/// A check that got no answer is repeated after this (RFC 8445 §14.3 asks for growing intervals, over real networks).
const CHECK_RETRY: Duration = Duration::from_millis(100);
/// Once answered, consent is renewed this often (RFC 7675 §5.1).
const CHECK_INTERVAL: Duration = Duration::from_secs(4);
/// Bytes of RTP header that [`ClientPeer::rtp`] writes: the fixed header and one mid extension.
pub const RTP_HEADER_BYTES: usize = 20;
const RECORD_BYTES_MAX: usize = 2_048;

/// What the process's clients share: one certificate and one DTLS configuration.
#[derive(Clone)]
pub struct Identity {
    certificate: DtlsCertificate,
    config: Arc<dimpl::Config>,
}

impl Identity {
    /// An identity with a fresh certificate.
    ///
    /// # Panics
    /// If the libraries refuse their own defaults.
    pub fn new() -> Identity {
        let (certificate, private_key) = self_signed("client");
        let config = dimpl::Config::builder().build().expect("dimpl accepts its own defaults");
        Identity { certificate: DtlsCertificate { certificate, private_key }, config: Arc::new(config) }
    }
}

impl Default for Identity {
    fn default() -> Self {
        Identity::new()
    }
}

/// A self-signed P-256 certificate and its key, DER: for clients here and for an in-process SFU.
///
/// # Panics
/// If `rcgen` cannot make a P-256 certificate.
pub fn self_signed(name: &str) -> (Vec<u8>, Vec<u8>) {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("rcgen makes P-256 keys");
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    let certificate = params.self_signed(&key).expect("rcgen signs with its own key");
    (certificate.der().to_vec(), key.serialize_der())
}

/// One RTP packet that came and opened.
#[derive(Clone, Debug)]
pub struct Received {
    /// Its SSRC.
    pub ssrc: u32,
    /// Its payload type.
    pub payload_type: u8,
    /// Its sequence number.
    pub sequence: u16,
    /// Its RTP timestamp.
    pub timestamp: u32,
    /// Its marker bit.
    pub marker: bool,
    /// Whose and which, if a stamped payload.
    pub stamp: Option<Stamp>,
    /// Its payload.
    pub payload: Vec<u8>,
}

impl Received {
    fn read(plain: &[u8]) -> Option<Received> {
        let header = rtp::parse(plain)?;
        let payload = rtp::payload(plain, &header)?.to_vec();
        Some(Received {
            ssrc: header.ssrc,
            payload_type: header.payload_type,
            sequence: header.sequence_number,
            timestamp: header.timestamp,
            marker: header.marker,
            stamp: Stamp::read(&payload),
            payload,
        })
    }
}

/// What a datagram was, when it was media or about media.
#[derive(Clone, Debug)]
pub enum Opened {
    /// A plain RTP packet, header and all.
    Rtp(Vec<u8>),
    /// A plain RTCP compound.
    Rtcp(Vec<u8>),
}

/// One stream that this client publishes.
struct Published {
    kind: Kind,
    mid: u8,
    ssrc: u32,
    rtx_ssrc: u32,
    index: u64,
    timestamp: u32,
    number: u64,
}

/// A client.
pub struct ClientPeer {
    identity: Identity,
    tag: u64,
    rng: StdRng,
    ufrag: String,
    pwd: String,
    remote: Option<(String, String)>,
    published: Vec<Published>,
    check_due: Option<Instant>,
    check: Option<TransactionId>,
    checked: bool,
    dtls: Option<Dtls>,
    dtls_due: Option<Instant>,
    profile: Option<Profile>,
    keys: Option<(Opener, Sealer)>,
    connected: bool,
    out: VecDeque<Vec<u8>>,
    /// Where checks of a full ICE agent come from, which are answered; ICE-lite servers send none.
    pub checked_from: Option<SocketAddr>,
    /// Keyframe requests that came for streams of ours.
    pub keyframe_requests: u64,
    /// Packets that did not open, or were no RTP, RTCP, DTLS or STUN.
    pub garbage: u64,
    /// What our m-lines of the server's last description carry.
    pub lines: Vec<TrackLine>,
}

impl ClientPeer {
    /// A client that publishes one stream of each of `kinds`, stamped `2 × tag` (audio) and `2 × tag + 1` (video).
    pub fn new(identity: Identity, tag: u64, kinds: &[Kind], seed: u64) -> ClientPeer {
        let mut rng = StdRng::seed_from_u64(seed);
        let published = kinds
            .iter()
            .zip(0..)
            .map(|(kind, mid)| Published {
                kind: *kind,
                mid,
                ssrc: rng.random(),
                rtx_ssrc: rng.random(),
                index: u64::from(rng.random::<u16>() >> 1),
                timestamp: rng.random(),
                number: 0,
            })
            .collect();
        ClientPeer {
            identity,
            tag,
            ufrag: format!("u{:08x}", rng.random::<u32>()),
            pwd: format!("p{:016x}{:016x}", rng.random::<u64>(), rng.random::<u64>()),
            rng,
            remote: None,
            published,
            check_due: None,
            check: None,
            checked: false,
            dtls: None,
            dtls_due: None,
            profile: None,
            keys: None,
            connected: false,
            out: VecDeque::new(),
            checked_from: None,
            keyframe_requests: 0,
            garbage: 0,
            lines: Vec::new(),
        }
    }

    /// Our offer: one sendonly m-line for each published stream.
    pub fn offer(&self) -> String {
        let mut body = String::new();
        for stream in &self.published {
            body.push_str(&self.offered_line(stream));
        }
        let mids = self.published.iter().map(|stream| stream.mid.to_string());
        self.session(mids, "actpass") + &body
    }

    /// An offer of m-lines of the caller's making, each with its mid.
    pub fn offer_of(&self, sections: &[(&str, String)]) -> String {
        let mut offer = self.session(sections.iter().map(|(mid, _)| (*mid).to_owned()), "actpass");
        sections.iter().for_each(|(_, section)| offer.push_str(section));
        offer
    }

    /// An answer of m-lines of the caller's making, each with its mid, in the order of the offer.
    pub fn answer_of(&self, sections: &[(String, String)]) -> String {
        let live = sections.iter().filter(|(_, section)| !is_rejected(section));
        let mut answer = self.session(live.map(|(mid, _)| mid.clone()), "active");
        sections.iter().for_each(|(_, section)| answer.push_str(section));
        answer
    }

    /// Takes the server's answer to [`ClientPeer::offer`] and begins to check.
    pub fn handle_answer(&mut self, sdp: &str, now: Instant) {
        self.learn(sdp, now);
    }

    /// Answers the server's offer: everything that it sends is taken, in its own payload types and extension ids.
    pub fn handle_offer(&mut self, sdp: &str, now: Instant) -> String {
        self.learn(sdp, now);
        let mut sections = sdp.split("\r\nm=").skip(1).map(|section| format!("m={section}")).peekable();
        let mut mids = Vec::new();
        let mut body = String::new();
        while let Some(section) = sections.next() {
            let section = if sections.peek().is_some() { section + "\r\n" } else { section };
            if let Some(mid) = attribute(&section, "mid").filter(|_| !is_rejected(&section)) {
                mids.push(mid.to_owned());
            }
            body.push_str(&self.answered_section(&section));
        }
        self.session(mids.into_iter(), "active") + &body
    }

    /// Takes one datagram, opened in place; hands back the RTP packet in it, if it is one.
    pub fn handle(&mut self, datagram: &mut [u8], now: Instant) -> Option<Received> {
        match self.take(datagram, now)? {
            Opened::Rtp(plain) => {
                let received = Received::read(&plain);
                self.garbage += u64::from(received.is_none());
                received
            }
            Opened::Rtcp(plain) => {
                let requests = rtcp::parse(&plain).filter(|it| matches!(it, Packet::Pli { .. } | Packet::Fir { .. }));
                self.keyframe_requests += requests.count() as u64;
                None
            }
        }
    }

    /// Takes one datagram, opened in place; what is media or about media is left to the caller.
    pub fn take(&mut self, datagram: &mut [u8], now: Instant) -> Option<Opened> {
        let opened = match rtp::classify(datagram) {
            rtp::Class::Stun => {
                self.handle_stun(datagram, now);
                return None;
            }
            rtp::Class::Dtls => {
                self.handle_dtls(datagram, now);
                return None;
            }
            rtp::Class::Rtcp => self.open_rtcp(datagram),
            rtp::Class::Rtp => self.open_rtp(datagram),
            rtp::Class::Other => None,
        };
        self.garbage += u64::from(opened.is_none());
        opened
    }

    /// Sends the checks and retransmissions that are due.
    pub fn tick(&mut self, now: Instant) {
        if self.check_due.is_some_and(|due| due <= now) {
            self.send_check(now);
        }
        if self.dtls_due.is_some_and(|due| due <= now) {
            self.drive_dtls(now, None);
        }
    }

    /// When [`ClientPeer::tick`] is due.
    pub fn deadline(&self) -> Option<Instant> {
        [self.check_due, self.dtls_due].into_iter().flatten().min()
    }

    /// The next datagram for the server.
    pub fn transmit(&mut self) -> Option<Vec<u8>> {
        self.out.pop_front()
    }

    /// Whether a check was answered on the present path.
    pub fn is_checked(&self) -> bool {
        self.checked
    }

    /// Checks again at once: the path has changed under the caller's hands.
    pub fn recheck(&mut self, now: Instant) {
        self.checked = false;
        self.check_due = self.remote.is_some().then_some(now);
    }

    /// Whether DTLS is done and SRTP can flow.
    pub fn is_connected(&self) -> bool {
        self.connected
    }

    /// The SRTP profile that DTLS chose.
    pub fn profile(&self) -> Option<Profile> {
        self.profile
    }

    /// Who this is.
    pub fn tag(&self) -> u64 {
        self.tag
    }

    /// The stamp that the next packet of `kind` should carry, or `None` when no such stream is published.
    pub fn next_stamp(&self, kind: Kind) -> Option<Stamp> {
        let stream = self.published.iter().find(|stream| stream.kind == kind)?;
        Some(Stamp { stream: 2 * self.tag + u64::from(kind == Kind::Video), number: stream.number })
    }

    /// Seals one RTP packet of `kind` with the next sequence number and hands it back rather than queueing it. `None`
    /// when not connected or no such stream is published. `frame_ticks` is added to the timestamp after a marker.
    pub fn rtp(&mut self, kind: Kind, marker: bool, frame_ticks: u32, payload: &[u8]) -> Option<Vec<u8>> {
        let (_, sealer) = self.keys.as_ref().filter(|_| self.connected)?;
        let overhead = self.profile?.rtp_overhead();
        let stream = self.published.iter_mut().find(|stream| stream.kind == kind)?;
        let payload_type = match kind {
            Kind::Audio => OPUS_PT,
            Kind::Video => VP8_PT,
        };
        let mut packet = Vec::with_capacity(RTP_HEADER_BYTES + payload.len() + overhead);
        packet.extend([0x90, payload_type | u8::from(marker) << 7]);
        packet.extend((stream.index as u16).to_be_bytes());
        packet.extend(stream.timestamp.to_be_bytes());
        packet.extend(stream.ssrc.to_be_bytes());
        // One-byte extensions (RFC 8285 §4.2): the mid, one digit, and two bytes of padding.
        packet.extend([0xbe, 0xde, 0, 1, MID_EXTENSION << 4, b'0' + stream.mid, 0, 0]);
        packet.extend(payload);
        let plain = packet.len();
        packet.resize(plain + overhead, 0);
        let sealed = sealer.seal_rtp(&mut packet, RTP_HEADER_BYTES, plain, stream.ssrc, stream.index);
        packet.truncate(sealed);
        stream.index += 1;
        stream.number += 1;
        if marker {
            stream.timestamp = stream.timestamp.wrapping_add(frame_ticks);
        }
        Some(packet)
    }

    /// Seals a plain RTP packet or RTCP compound of the caller's making, for tests that lie; RTP under rollover counter 0.
    /// `None` when not connected, or when there is no whole header.
    pub fn seal(&mut self, plain: &[u8]) -> Option<Vec<u8>> {
        let (_, sealer) = self.keys.as_mut().filter(|_| self.connected)?;
        let mut packet = plain.to_vec();
        match rtp::classify(plain) {
            rtp::Class::Rtp => {
                let header = rtp::parse(plain)?;
                packet.resize(plain.len() + sealer.overhead(), 0);
                let index = u64::from(header.sequence_number);
                sealer.seal_rtp(&mut packet, header.header_len, plain.len(), header.ssrc, index);
            }
            rtp::Class::Rtcp if plain.len() >= 8 => sealer.seal_rtcp(&mut packet)?,
            _ => return None,
        }
        Some(packet)
    }

    /// Seals a plain RTP packet of the caller's making under its whole index (RFC 3711 §3.3.1). `None` when not connected.
    pub fn seal_indexed(&mut self, plain: &[u8], header_len: usize, ssrc: u32, index: u64) -> Option<Vec<u8>> {
        let (_, sealer) = self.keys.as_ref().filter(|_| self.connected)?;
        let mut packet = Vec::with_capacity(plain.len() + sealer.overhead());
        packet.extend_from_slice(plain);
        packet.resize(plain.len() + sealer.overhead(), 0);
        let sealed = sealer.seal_rtp(&mut packet, header_len, plain.len(), ssrc, index);
        packet.truncate(sealed);
        Some(packet)
    }

    fn learn(&mut self, sdp: &str, now: Instant) {
        let Some(remote) = attribute(sdp, "ice-ufrag").zip(attribute(sdp, "ice-pwd")) else { return };
        let remote = (remote.0.to_owned(), remote.1.to_owned());
        if self.remote.as_ref() != Some(&remote) {
            self.remote = Some(remote);
            self.checked = false;
            self.check_due = Some(now);
        }
    }

    fn send_check(&mut self, now: Instant) {
        let Some((ufrag, pwd)) = &self.remote else { return };
        // A repetition is the same transaction (RFC 8489 §6.2.1): its answer may take longer than the next is due.
        let id = self.check.unwrap_or_else(|| TransactionId(self.rng.random()));
        let mut out = Vec::new();
        Writer::request(&mut out, Method::BINDING, id)
            .username(&format!("{ufrag}:{}", self.ufrag))
            .priority(0x6e00_01ff)
            .ice_controlling(self.tag)
            .use_candidate()
            .integrity(pwd.as_bytes())
            .fingerprint();
        self.check = Some(id);
        self.check_due = Some(now + if self.checked { CHECK_INTERVAL } else { CHECK_RETRY });
        self.out.push_back(out);
    }

    fn handle_stun(&mut self, datagram: &[u8], now: Instant) {
        let Some(message) = Message::parse(datagram) else {
            self.garbage += 1;
            return;
        };
        if let Some(from) = self.checked_from.filter(|_| message.class() == Class::Request) {
            if message.check_integrity(self.pwd.as_bytes()) {
                let mut out = Vec::new();
                Writer::success(&mut out, Method::BINDING, message.transaction_id())
                    .xor_mapped_address(from)
                    .integrity(self.pwd.as_bytes())
                    .fingerprint();
                self.out.push_back(out);
            }
            return;
        }
        let ours = Some(message.transaction_id()) == self.check;
        let proven = self.remote.as_ref().is_some_and(|(_, pwd)| message.check_integrity(pwd.as_bytes()));
        if message.class() != Class::Success || !ours || !proven {
            self.garbage += 1;
            return;
        }
        self.checked = true;
        self.check = None;
        self.check_due = Some(now + CHECK_INTERVAL);
        if self.dtls.is_none() {
            let (config, certificate) = (self.identity.config.clone(), self.identity.certificate.clone());
            let mut dtls = Dtls::new_12(config, certificate, now);
            dtls.set_active(true);
            self.dtls = Some(dtls);
            self.drive_dtls(now, None);
        }
    }

    fn handle_dtls(&mut self, datagram: &[u8], now: Instant) {
        self.drive_dtls(now, Some(datagram));
    }

    fn drive_dtls(&mut self, now: Instant, datagram: Option<&[u8]>) {
        let Some(dtls) = &mut self.dtls else { return };
        let timed = dtls.handle_timeout(now);
        let handled = datagram.map_or(Ok(()), |datagram| dtls.handle_packet(datagram));
        if timed.is_err() || handled.is_err() {
            // The library's errors are final: this client is lost, which its owner sees by never being connected.
            self.dtls = None;
            self.dtls_due = None;
            return;
        }
        let mut buffer = [0; RECORD_BYTES_MAX];
        loop {
            match dtls.poll_output(&mut buffer) {
                Output::Packet(record) => self.out.push_back(record.to_vec()),
                Output::KeyingMaterial(material, profile) => {
                    let profile = profile_of(profile);
                    self.profile = profile;
                    self.keys = profile.and_then(|profile| srtp::from_keying_material(profile, &material, false));
                }
                Output::Connected => self.connected = true,
                Output::Timeout(at) => {
                    // After the handshake the engine names a far future; it must not keep virtual time from moving.
                    self.dtls_due = (!self.connected || at < now + Duration::from_secs(60)).then_some(at);
                    break;
                }
                _ => {}
            }
        }
    }

    fn open_rtcp(&mut self, datagram: &mut [u8]) -> Option<Opened> {
        let (opener, _) = self.keys.as_mut()?;
        let plain = opener.open_rtcp(datagram).ok()?;
        Some(Opened::Rtcp(datagram.get(..plain)?.to_vec()))
    }

    fn open_rtp(&mut self, datagram: &mut [u8]) -> Option<Opened> {
        let (opener, _) = self.keys.as_mut()?;
        let header = rtp::parse(datagram)?;
        let (plain, _) = opener.open_rtp(datagram, header.header_len, header.ssrc, header.sequence_number).ok()?;
        Some(Opened::Rtp(datagram.get(..plain)?.to_vec()))
    }

    /// The session part of a description, with what bundled m-lines share.
    fn session(&self, mids: impl Iterator<Item = String>, setup: &str) -> String {
        let fingerprint = digest::digest(&digest::SHA256, &self.identity.certificate.certificate);
        let fingerprint: Vec<String> = fingerprint.as_ref().iter().map(|byte| format!("{byte:02X}")).collect();
        format!(
            "v=0\r\no=- {} 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE {}\r\na=ice-ufrag:{}\r\na=ice-pwd:{}\r\n\
             a=fingerprint:sha-256 {}\r\na=setup:{setup}\r\n",
            self.tag + 1,
            mids.collect::<Vec<_>>().join(" "),
            self.ufrag,
            self.pwd,
            fingerprint.join(":"),
        )
    }

    fn offered_line(&self, stream: &Published) -> String {
        let (formats, codecs) = match stream.kind {
            Kind::Audio => (
                OPUS_PT.to_string(),
                format!("a=rtpmap:{OPUS_PT} opus/48000/2\r\na=fmtp:{OPUS_PT} minptime=10;useinbandfec=1\r\n"),
            ),
            Kind::Video => (
                format!("{VP8_PT} {VP8_RTX_PT}"),
                format!(
                    "a=rtpmap:{VP8_PT} VP8/90000\r\na=rtcp-fb:{VP8_PT} nack\r\na=rtcp-fb:{VP8_PT} nack pli\r\n\
                     a=rtpmap:{VP8_RTX_PT} rtx/90000\r\na=fmtp:{VP8_RTX_PT} apt={VP8_PT}\r\n"
                ),
            ),
        };
        format!(
            "m={} 9 UDP/TLS/RTP/SAVPF {formats}\r\nc=IN IP4 0.0.0.0\r\na=mid:{}\r\na=sendonly\r\na=rtcp-mux\r\n\
             a=extmap:{MID_EXTENSION} urn:ietf:params:rtp-hdrext:sdes:mid\r\n{codecs}{}",
            stream.kind.as_str(),
            stream.mid,
            self.sources(stream),
        )
    }

    fn sources(&self, stream: &Published) -> String {
        let Published { ssrc, rtx_ssrc, .. } = stream;
        let mut sources = format!("a=msid:own own-{}\r\n", stream.kind.as_str());
        let mut ssrcs = vec![ssrc];
        if stream.kind == Kind::Video {
            let _ = write!(sources, "a=ssrc-group:FID {ssrc} {rtx_ssrc}\r\n");
            ssrcs.push(rtx_ssrc);
        }
        for ssrc in ssrcs {
            let _ = write!(sources, "a=ssrc:{ssrc} cname:client-{}\r\n", self.tag);
        }
        sources
    }

    /// Our answer to one m-line: the offered codecs and extensions, the direction turned round.
    pub(crate) fn answered_section(&self, section: &str) -> String {
        let m_line = section.lines().next().unwrap_or_default();
        if is_rejected(section) {
            let mid = attribute(section, "mid").map(|mid| format!("a=mid:{mid}\r\n")).unwrap_or_default();
            return format!("{m_line}\r\nc=IN IP4 0.0.0.0\r\n{mid}a=inactive\r\n");
        }
        let mut answer = format!("{m_line}\r\n");
        for line in section.lines().skip(1) {
            const KEPT: [&str; 7] = ["c=", "a=mid:", "a=rtpmap:", "a=fmtp:", "a=rtcp-fb:", "a=extmap:", "a=rtcp-mux"];
            if KEPT.iter().any(|kept| line.starts_with(kept)) {
                let _ = write!(answer, "{line}\r\n");
            }
            match line {
                "a=sendonly" => answer.push_str("a=recvonly\r\n"),
                "a=inactive" => answer.push_str("a=inactive\r\n"),
                "a=recvonly" => {
                    answer.push_str("a=sendonly\r\n");
                    let mid = attribute(section, "mid");
                    let own = self.published.iter().find(|stream| mid == Some(stream.mid.to_string().as_str()));
                    answer.push_str(&own.map(|stream| self.sources(stream)).unwrap_or_default());
                }
                _ => {}
            }
        }
        answer
    }
}

fn profile_of(profile: SrtpProfile) -> Option<Profile> {
    Some(match profile {
        SrtpProfile::AEAD_AES_256_GCM => Profile::AeadAes256Gcm,
        SrtpProfile::AEAD_AES_128_GCM => Profile::AeadAes128Gcm,
        SrtpProfile::AES128_CM_SHA1_80 => Profile::Aes128CmSha1_80,
        _ => return None,
    })
}

/// The value of the first `a=name:` line.
pub(crate) fn attribute<'a>(sdp: &'a str, name: &str) -> Option<&'a str> {
    sdp.lines().find_map(|line| line.strip_prefix("a=")?.strip_prefix(name)?.strip_prefix(':'))
}

/// Whether an m-line has port 0 (and is no bundle-only line).
pub(crate) fn is_rejected(section: &str) -> bool {
    section.split(' ').nth(1) == Some("0") && !section.contains("a=bundle-only")
}

/// Counts what came of each stream; what [`ClientPeer::handle`] hands back goes in.
#[derive(Debug, Default)]
pub struct Heard(BTreeMap<u64, Vec<u64>>);

impl Heard {
    /// Notes one packet.
    pub fn note(&mut self, received: &Received) {
        if let Some(stamp) = received.stamp {
            self.0.entry(stamp.stream).or_default().push(stamp.number);
        }
    }

    /// The numbers that came of a stream, in the order in which they came.
    pub fn of(&self, stream: u64) -> &[u64] {
        self.0.get(&stream).map(Vec::as_slice).unwrap_or_default()
    }
}
