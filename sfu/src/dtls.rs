//! DTLS behind a small interface: we are the passive side (RFC 8842), the library is `dimpl`.

use std::sync::Arc;
use std::time::Instant;

use aws_lc_rs::digest;
use dimpl::{DtlsCertificate, Output, SrtpProfile};

use crate::Certificate;
use crate::srtp::{self, Opener, Profile, Sealer};

/// A datagram larger than this would be fragmented on common paths.
const MTU: usize = 1_200;
/// Room for one record that the engine writes.
const RECORD_BYTES_MAX: usize = 2_048;

/// What is shared by the handshakes of a process.
#[derive(Clone)]
pub(crate) struct Identity {
    config: Arc<dimpl::Config>,
    certificate: DtlsCertificate,
    fingerprint: [u8; 32],
}

impl Identity {
    /// # Panics
    /// If the library refuses its own defaults, which a test of ours would show first.
    pub(crate) fn new(certificate: &Certificate) -> Self {
        // A cookie would cost a round trip and protect nothing: only ICE-validated addresses get here.
        let config = dimpl::Config::builder().mtu(MTU).use_server_cookie(false).build().expect("defaults are valid");
        Identity {
            config: Arc::new(config),
            certificate: DtlsCertificate {
                certificate: certificate.certificate_der.clone(),
                private_key: certificate.private_key_der.clone(),
            },
            fingerprint: sha256(&certificate.certificate_der),
        }
    }

    /// SHA-256 of the certificate, for SDP.
    pub(crate) fn fingerprint(&self) -> [u8; 32] {
        self.fingerprint
    }
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    out
}

/// How far a handshake got through one input.
pub(crate) enum Progress {
    /// Nothing to tell.
    Going,
    /// Keys are there and the peer's certificate has the fingerprint that its SDP named.
    Connected(Box<(Opener, Sealer)>),
    /// The peer said goodbye, or the handshake failed for good.
    Ended,
}

/// One association.
pub(crate) struct Dtls {
    engine: dimpl::Dtls,
    expected: [u8; 32],
    verified: bool,
    keys: Option<Box<(Opener, Sealer)>>,
    due: Option<Instant>,
    /// What came for data channels since [`Dtls::take_data`].
    data: Vec<Vec<u8>>,
}

impl Dtls {
    /// Answers the first ClientHello of a peer whose SDP named the certificate fingerprint `expected`.
    pub(crate) fn new(identity: &Identity, expected: [u8; 32], first: &[u8], now: Instant) -> Self {
        let (config, certificate) = (identity.config.clone(), identity.certificate.clone());
        // With DTLS 1.3 the library takes the client's first SRTP profile, with 1.2 its own order, GCM first. Chromium names
        // AES_CM first, which costs three times as much per packet: a newer handshake is not worth that.
        let engine = if names_gcm_first(first) {
            dimpl::Dtls::new_auto(config, certificate, now)
        } else {
            dimpl::Dtls::new_12(config, certificate, now)
        };
        Dtls { engine, expected, verified: false, keys: None, due: None, data: Vec::new() }
    }

    /// When [`Dtls::tick`] is due.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Takes a datagram; `send` gets what must go back.
    pub(crate) fn handle(&mut self, datagram: &[u8], now: Instant, send: impl FnMut(&[u8])) -> Progress {
        // The engine has no clock of its own: tell it the time before it starts timers.
        if self.engine.handle_timeout(now).is_err() || self.engine.handle_packet(datagram).is_err() {
            return Progress::Ended;
        }
        self.drain(send)
    }

    /// Retransmits what is due.
    pub(crate) fn tick(&mut self, now: Instant, send: impl FnMut(&[u8])) -> Progress {
        if self.engine.handle_timeout(now).is_err() {
            return Progress::Ended;
        }
        self.drain(send)
    }

    /// What the peer sent on the association, one packet of SCTP each.
    pub(crate) fn take_data(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.data)
    }

    /// Sends a packet of SCTP; what cannot be sent is lost, and SCTP sends it again.
    pub(crate) fn send(&mut self, packet: &[u8], now: Instant, send: impl FnMut(&[u8])) {
        if self.engine.handle_timeout(now).is_ok() && self.engine.send_application_data(packet).is_ok() {
            let _ = self.drain(send);
        }
    }

    fn drain(&mut self, mut send: impl FnMut(&[u8])) -> Progress {
        let mut buffer = [0; RECORD_BYTES_MAX];
        let mut connected = false;
        loop {
            match self.engine.poll_output(&mut buffer) {
                Output::Packet(bytes) => send(bytes),
                Output::Timeout(at) => {
                    self.due = Some(at);
                    break;
                }
                Output::PeerCert(der) => {
                    if sha256(der) != self.expected {
                        return Progress::Ended;
                    }
                    self.verified = true;
                }
                Output::KeyingMaterial(material, profile) => {
                    self.keys = profile_of(profile)
                        .and_then(|profile| srtp::from_keying_material(profile, &material, true))
                        .map(Box::new);
                }
                Output::Connected => connected = true,
                // Whoever has another certificate than the SDP named has nothing to say.
                Output::ApplicationData(packet) if self.verified => self.data.push(packet.to_vec()),
                // The records are at most as long as the MTU, so a larger one means a broken engine.
                Output::CloseNotify | Output::BufferTooSmall { .. } => return Progress::Ended,
                _ => {}
            }
        }
        match self.keys.take() {
            Some(keys) if self.verified => Progress::Connected(keys),
            Some(keys) => {
                self.keys = Some(keys);
                Progress::Going
            }
            // A handshake that ends without SRTP keys or without a certificate is of no use.
            None if connected && !self.verified => Progress::Ended,
            None => Progress::Going,
        }
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

/// Whether a ClientHello that lies in one datagram lists an AEAD profile first in `use_srtp` (RFC 5764 §4.1.1).
fn names_gcm_first(datagram: &[u8]) -> bool {
    first_srtp_profile(datagram).is_some_and(|profile| matches!(profile, 0x0007 | 0x0008))
}

fn first_srtp_profile(datagram: &[u8]) -> Option<u16> {
    const RECORD_HEADER: usize = 13;
    const HANDSHAKE_HEADER: usize = 12;
    const USE_SRTP: u16 = 14;
    let hello = datagram.get(RECORD_HEADER + HANDSHAKE_HEADER..)?;
    // client_version, random
    let rest = hello.get(34..)?;
    let rest = skip_vector(rest, 1)?; // session_id
    let rest = skip_vector(rest, 1)?; // cookie
    let rest = skip_vector(rest, 2)?; // cipher_suites
    let rest = skip_vector(rest, 1)?; // compression_methods
    let mut extensions = rest.get(2..)?;
    loop {
        let kind = u16::from_be_bytes([*extensions.first()?, *extensions.get(1)?]);
        let body = extensions.get(2..)?;
        if kind == USE_SRTP {
            // extension length, profiles length, then the first profile
            return Some(u16::from_be_bytes([*body.get(4)?, *body.get(5)?]));
        }
        extensions = skip_vector(body, 2)?;
    }
}

/// What follows a vector whose length is in its first `width` bytes.
fn skip_vector(bytes: &[u8], width: usize) -> Option<&[u8]> {
    let len = bytes.get(..width)?.iter().fold(0usize, |n, b| n << 8 | usize::from(*b));
    bytes.get(width + len..)
}
