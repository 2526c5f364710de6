//! SRTP and SRTCP, sealed and opened in place, without an allocation per packet: AEAD_AES_128_GCM and AEAD_AES_256_GCM
//! (RFC 7714) and AES_CM_128_HMAC_SHA1_80 (RFC 3711). An [`Opener`] is one direction in, a [`Sealer`] is one direction
//! out; both come from one DTLS handshake by [`from_keying_material`].

mod cm;
mod gcm;
mod keys;
mod replay;
#[cfg(test)]
mod tests;

use cm::Cm;
use gcm::Gcm;
use keys::{AES_128_LEN, AES_256_LEN, SessionKeys};
use replay::{Slot, Streams};

/// Most SSRCs whose RTP an [`Opener`] follows, and as many for RTCP. When full, a packet of a further SSRC is refused
/// with [`Rejected::TooManyStreams`]; nothing is evicted, since an evicted SSRC could be replayed.
pub const STREAMS_MAX: usize = 64;

/// RTP packets of one SSRC that may arrive behind the newest one; an older one is a [`Rejected::Replay`]. Wide because
/// RTX and pacing reorder video by whole bursts.
pub const RTP_WINDOW: usize = RTP_WINDOW_WORDS * 64;
/// SRTCP packets of one SSRC that may arrive behind the newest one.
pub const RTCP_WINDOW: usize = RTCP_WINDOW_WORDS * 64;
const RTP_WINDOW_WORDS: usize = 16;
const RTCP_WINDOW_WORDS: usize = 2;

/// The fixed RTP header, RFC 3550 §5.1.
const RTP_HEADER_LEN_MIN: usize = 12;
/// What of an RTCP compound stays in the clear: the first header and its SSRC, RFC 3711 §3.4.
const RTCP_CLEAR_LEN: usize = 8;
/// E flag and SRTCP index, RFC 3711 §3.4.
const RTCP_WORD_LEN: usize = 4;
/// The E flag: the compound is encrypted.
const RTCP_ENCRYPTED: u32 = 1 << 31;
/// RTP indices are 48 bits, RFC 3711 §3.3.1; a key must not outlive them (§9.2).
const RTP_INDEX_END: u64 = 1 << 48;

/// An SRTP protection profile, as DTLS negotiates it (RFC 5764 §4.1.2, RFC 7714 §14.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// `SRTP_AEAD_AES_128_GCM`, 0x0007.
    AeadAes128Gcm,
    /// `SRTP_AEAD_AES_256_GCM`, 0x0008.
    AeadAes256Gcm,
    /// `SRTP_AES128_CM_HMAC_SHA1_80`, 0x0001.
    Aes128CmSha1_80,
}

impl Profile {
    /// Bytes of the master key.
    pub fn key_len(self) -> usize {
        match self {
            Profile::AeadAes128Gcm | Profile::Aes128CmSha1_80 => AES_128_LEN,
            Profile::AeadAes256Gcm => AES_256_LEN,
        }
    }

    /// Bytes of the master salt.
    pub fn salt_len(self) -> usize {
        match self {
            Profile::AeadAes128Gcm | Profile::AeadAes256Gcm => gcm::SALT_LEN,
            Profile::Aes128CmSha1_80 => cm::SALT_LEN,
        }
    }

    /// Bytes by which sealing lengthens an RTP packet.
    pub fn rtp_overhead(self) -> usize {
        match self {
            Profile::AeadAes128Gcm | Profile::AeadAes256Gcm => gcm::TAG_LEN,
            Profile::Aes128CmSha1_80 => cm::TAG_LEN,
        }
    }

    /// Bytes by which sealing lengthens an RTCP compound.
    pub fn rtcp_overhead(self) -> usize {
        RTCP_WORD_LEN + self.rtp_overhead()
    }

    /// Bytes to export from DTLS: two keys and two salts (RFC 5764 §4.2).
    pub fn keying_material_len(self) -> usize {
        2 * (self.key_len() + self.salt_len())
    }
}

/// Why a packet was not opened. The [`Opener`] is as before; the packet's bytes may be garbled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejected {
    /// Too short for what it claims to be, or RTCP sent in the clear, which WebRTC has no use for (as libsrtp does).
    Malformed,
    /// The tag does not fit: forged, damaged, or sealed with another key or rollover counter.
    Authentication,
    /// Seen already, or older than the window.
    Replay,
    /// An SSRC beyond [`STREAMS_MAX`].
    TooManyStreams,
}

/// Splits DTLS-SRTP keying material (RFC 5764 §4.2: client key, server key, client salt, server salt) into what opens
/// the other side's packets and what seals ours. `server` says that we were the DTLS server. `None` if the length is
/// not [`Profile::keying_material_len`].
pub fn from_keying_material(profile: Profile, material: &[u8], server: bool) -> Option<(Opener, Sealer)> {
    if material.len() != profile.keying_material_len() {
        return None;
    }
    let (keys, salts) = material.split_at(2 * profile.key_len());
    let (client_key, server_key) = keys.split_at(profile.key_len());
    let (client_salt, server_salt) = salts.split_at(profile.salt_len());
    let (client, ours) = ((client_key, client_salt), (server_key, server_salt));
    let (theirs, ours) = if server { (client, ours) } else { (ours, client) };
    Some((Opener::new(profile, theirs.0, theirs.1)?, Sealer::new(profile, ours.0, ours.1)?))
}

/// One profile under one set of session keys. Boxed because each holds expanded keys of about a kilobyte, of which
/// only a pointer need move about.
enum Cipher {
    Gcm(Box<Gcm>),
    Cm(Box<Cm>),
}

impl Cipher {
    fn new(profile: Profile, keys: &SessionKeys) -> Option<Self> {
        Some(match profile {
            Profile::AeadAes128Gcm | Profile::AeadAes256Gcm => Cipher::Gcm(Box::new(Gcm::new(keys)?)),
            Profile::Aes128CmSha1_80 => Cipher::Cm(Box::new(Cm::new(keys)?)),
        })
    }
}

/// Opens what one peer sends: RTP of up to [`STREAMS_MAX`] SSRCs, and RTCP of as many.
pub struct Opener {
    profile: Profile,
    rtp: Cipher,
    rtcp: Cipher,
    rtp_streams: Streams<RTP_WINDOW_WORDS>,
    rtcp_streams: Streams<RTCP_WINDOW_WORDS>,
}

impl Opener {
    /// An opener from a master key and salt, or `None` if either has the wrong length for `profile`.
    pub fn new(profile: Profile, key: &[u8], salt: &[u8]) -> Option<Self> {
        let (rtp, rtcp) = keys::derive(profile, key, salt)?;
        Self::from_session_keys(profile, &rtp, &rtcp)
    }

    fn from_session_keys(profile: Profile, rtp: &SessionKeys, rtcp: &SessionKeys) -> Option<Self> {
        Some(Opener {
            profile,
            rtp: Cipher::new(profile, rtp)?,
            rtcp: Cipher::new(profile, rtcp)?,
            rtp_streams: Streams::default(),
            rtcp_streams: Streams::default(),
        })
    }

    /// Opens one SRTP packet in place. The caller has parsed the header: `header_len` bytes of it (CSRCs and extension
    /// included) are authenticated only, the rest is decrypted.
    ///
    /// Returns the length of header and plain payload, and the packet's 48-bit index ROC<<16|seq (RFC 3711 §3.3.1).
    /// An SSRC is expected to begin with rollover counter 0, and is followed only once a packet of it authenticated.
    pub fn open_rtp(
        &mut self,
        packet: &mut [u8],
        header_len: usize,
        ssrc: u32,
        seq: u16,
    ) -> Result<(usize, u64), Rejected> {
        let (plain_len, slot, index) = self.unseal_rtp(packet, header_len, ssrc, seq)?;
        self.rtp_streams.accept(slot, ssrc, index);
        Ok((plain_len, index))
    }

    /// Whether [`Opener::open_rtp`] would open this packet, which is garbled by it; the opener stays as it is.
    pub fn authenticates_rtp(&self, packet: &mut [u8], header_len: usize, ssrc: u32, seq: u16) -> bool {
        self.unseal_rtp(packet, header_len, ssrc, seq).is_ok()
    }

    fn unseal_rtp(
        &self,
        packet: &mut [u8],
        header_len: usize,
        ssrc: u32,
        seq: u16,
    ) -> Result<(usize, Slot, u64), Rejected> {
        let plain_len = packet.len().checked_sub(self.profile.rtp_overhead()).ok_or(Rejected::Malformed)?;
        if header_len < RTP_HEADER_LEN_MIN || plain_len < header_len {
            return Err(Rejected::Malformed);
        }
        let slot = self.rtp_streams.slot(ssrc)?;
        let index = self.rtp_streams.guess_rtp_index(slot, seq);
        self.rtp_streams.check(slot, index, RTP_INDEX_END)?;
        match &self.rtp {
            Cipher::Gcm(gcm) => gcm.open_rtp(packet, header_len, ssrc, index)?,
            Cipher::Cm(cm) => cm.open_rtp(packet, header_len, ssrc, index)?,
        }
        Ok((plain_len, slot, index))
    }

    /// Opens one SRTCP compound in place (RFC 3711 §3.4, RFC 7714 §9). Returns the length of the plain compound.
    pub fn open_rtcp(&mut self, packet: &mut [u8]) -> Result<usize, Rejected> {
        let (plain_len, slot, ssrc, index) = self.unseal_rtcp(packet)?;
        self.rtcp_streams.accept(slot, ssrc, u64::from(index));
        Ok(plain_len)
    }

    /// Whether [`Opener::open_rtcp`] would open this compound, which is garbled by it; the opener stays as it is.
    pub fn authenticates_rtcp(&self, packet: &mut [u8]) -> bool {
        self.unseal_rtcp(packet).is_ok()
    }

    fn unseal_rtcp(&self, packet: &mut [u8]) -> Result<(usize, Slot, u32, u32), Rejected> {
        let plain_len = packet.len().checked_sub(self.profile.rtcp_overhead()).ok_or(Rejected::Malformed)?;
        if plain_len < RTCP_CLEAR_LEN {
            return Err(Rejected::Malformed);
        }
        let word_at = match self.profile {
            Profile::AeadAes128Gcm | Profile::AeadAes256Gcm => plain_len + gcm::TAG_LEN,
            Profile::Aes128CmSha1_80 => plain_len,
        };
        let word = u32_at(packet, word_at);
        if word & RTCP_ENCRYPTED == 0 {
            return Err(Rejected::Malformed);
        }
        let (ssrc, index) = (u32_at(packet, 4), word & !RTCP_ENCRYPTED);
        let slot = self.rtcp_streams.slot(ssrc)?;
        self.rtcp_streams.check(slot, u64::from(index), u64::from(RTCP_ENCRYPTED))?;
        match &self.rtcp {
            Cipher::Gcm(gcm) => gcm.open_rtcp(packet, plain_len, ssrc, index)?,
            Cipher::Cm(cm) => cm.open_rtcp(packet, plain_len, ssrc, index)?,
        }
        Ok((plain_len, slot, ssrc, index))
    }
}

/// Seals what we send to one peer.
pub struct Sealer {
    profile: Profile,
    rtp: Cipher,
    rtcp: Cipher,
    /// The index of the next SRTCP compound. One count for all our SSRCs: what matters is that no (SSRC, index) comes twice.
    rtcp_index: u32,
}

impl Sealer {
    /// A sealer from a master key and salt, or `None` if either has the wrong length for `profile`.
    pub fn new(profile: Profile, key: &[u8], salt: &[u8]) -> Option<Self> {
        let (rtp, rtcp) = keys::derive(profile, key, salt)?;
        Self::from_session_keys(profile, &rtp, &rtcp)
    }

    fn from_session_keys(profile: Profile, rtp: &SessionKeys, rtcp: &SessionKeys) -> Option<Self> {
        Some(Sealer { profile, rtp: Cipher::new(profile, rtp)?, rtcp: Cipher::new(profile, rtcp)?, rtcp_index: 0 })
    }

    /// Bytes by which [`Sealer::seal_rtp`] lengthens a packet.
    pub fn overhead(&self) -> usize {
        self.profile.rtp_overhead()
    }

    /// Seals one RTP packet in place: `buffer[..plain_len]` is header and payload, of which `header_len` bytes stay in
    /// the clear; the tag is written behind. `index` is ROC<<16|seq, kept by the caller, who must never seal two
    /// different packets under one (`ssrc`, `index`): that would give away their content, and with GCM the key that
    /// authenticates. Returns the sealed length, `plain_len` plus [`Profile::rtp_overhead`].
    ///
    /// # Panics
    /// If `header_len` > `plain_len`, if `buffer` has no room for the tag, or if `index` has more than 48 bits, which
    /// would repeat an earlier one.
    pub fn seal_rtp(&self, buffer: &mut [u8], header_len: usize, plain_len: usize, ssrc: u32, index: u64) -> usize {
        assert!(index < RTP_INDEX_END, "an RTP index has 48 bits");
        match &self.rtp {
            Cipher::Gcm(gcm) => gcm.seal_rtp(buffer, header_len, plain_len, ssrc, index),
            Cipher::Cm(cm) => cm.seal_rtp(buffer, header_len, plain_len, ssrc, index),
        }
    }

    /// Seals one RTCP compound in place and appends trailer and tag, [`Profile::rtcp_overhead`] bytes; with that much
    /// spare capacity nothing is allocated. `None`, with `packet` untouched, when all 2^31 indices are used (RFC 3711
    /// §9.2): the peer must be re-keyed.
    ///
    /// # Panics
    /// If the compound is shorter than its first header and SSRC, 8 bytes.
    pub fn seal_rtcp(&mut self, packet: &mut Vec<u8>) -> Option<()> {
        let index = self.rtcp_index;
        if index >= RTCP_ENCRYPTED {
            return None;
        }
        let ssrc = u32_at(packet, 4);
        match &self.rtcp {
            Cipher::Gcm(gcm) => gcm.seal_rtcp(packet, ssrc, index),
            Cipher::Cm(cm) => cm.seal_rtcp(packet, ssrc, index),
        }
        self.rtcp_index += 1;
        Some(())
    }
}

/// The big-endian word at `at`; the caller has checked that it is there.
fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}
