//! AES_CM_128_HMAC_SHA1_80, RFC 3711: encrypt, then authenticate.

use aws_lc_rs::cipher::{EncryptingKey, EncryptionContext};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use aws_lc_rs::iv::FixedLength;

use super::keys::{self, PRF_SALT_LEN, SessionKeys};
use super::{RTCP_CLEAR_LEN, RTCP_ENCRYPTED, RTCP_WORD_LEN, Rejected};

/// Bytes of the master and session salt, RFC 3711 §8.2.
pub(super) const SALT_LEN: usize = PRF_SALT_LEN;
/// Bytes of the tag: HMAC-SHA1 cut to 80 bits, RFC 3711 §4.2.
pub(super) const TAG_LEN: usize = 10;

/// RTP, or RTCP, of one direction.
pub(super) struct Cm {
    cipher: EncryptingKey,
    auth: hmac::Key,
    salt: [u8; SALT_LEN],
}

impl Cm {
    pub(super) fn new(keys: &SessionKeys) -> Option<Self> {
        Some(Cm {
            cipher: keys::aes_ctr(&keys.key)?,
            auth: hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &keys.auth),
            salt: keys.salt,
        })
    }

    /// RFC 3711 §3.1: the payload is encrypted; the tag covers the packet and the rollover counter, which is not sent.
    pub(super) fn seal_rtp(
        &self,
        buffer: &mut [u8],
        header_len: usize,
        plain_len: usize,
        ssrc: u32,
        index: u64,
    ) -> usize {
        let sealed_len = plain_len + TAG_LEN;
        let (packet, tag_room) = buffer[..sealed_len].split_at_mut(plain_len);
        self.apply_keystream(&mut packet[header_len..], ssrc, index);
        tag_room.copy_from_slice(&self.tag(packet, &rollover_counter(index)));
        sealed_len
    }

    /// Undoes [`Cm::seal_rtp`]. The caller has checked that `packet` holds `header_len` bytes and a tag.
    pub(super) fn open_rtp(&self, packet: &mut [u8], header_len: usize, ssrc: u32, index: u64) -> Result<(), Rejected> {
        let (authenticated, tag) = packet.split_at_mut(packet.len() - TAG_LEN);
        self.verify(authenticated, &rollover_counter(index), tag)?;
        self.apply_keystream(&mut authenticated[header_len..], ssrc, index);
        Ok(())
    }

    /// RFC 3711 §3.4: the word with E flag and index follows the compound, the tag covers both and ends the packet.
    pub(super) fn seal_rtcp(&self, packet: &mut Vec<u8>, ssrc: u32, index: u32) {
        self.apply_keystream(&mut packet[RTCP_CLEAR_LEN..], ssrc, u64::from(index));
        packet.extend_from_slice(&(RTCP_ENCRYPTED | index).to_be_bytes());
        let tag = self.tag(packet, &[]);
        packet.extend_from_slice(&tag);
    }

    /// Undoes [`Cm::seal_rtcp`]. The caller has checked that `packet` holds `plain_len` bytes, the word and a tag.
    pub(super) fn open_rtcp(&self, packet: &mut [u8], plain_len: usize, ssrc: u32, index: u32) -> Result<(), Rejected> {
        let (authenticated, tag) = packet.split_at_mut(plain_len + RTCP_WORD_LEN);
        self.verify(authenticated, &[], tag)?;
        self.apply_keystream(&mut authenticated[RTCP_CLEAR_LEN..plain_len], ssrc, u64::from(index));
        Ok(())
    }

    /// Encrypts or decrypts: AES in counter mode, RFC 3711 §4.1.1.
    pub(super) fn apply_keystream(&self, bytes: &mut [u8], ssrc: u32, index: u64) {
        let mut iv = [0; 16];
        iv[..SALT_LEN].copy_from_slice(&self.salt);
        for (byte, ssrc_byte) in iv[4..8].iter_mut().zip(ssrc.to_be_bytes()) {
            *byte ^= ssrc_byte;
        }
        for (byte, index_byte) in iv[8..SALT_LEN].iter_mut().zip(&index.to_be_bytes()[2..]) {
            *byte ^= index_byte;
        }
        self.cipher
            .less_safe_encrypt(bytes, EncryptionContext::Iv128(FixedLength::from(iv)))
            .expect("counter mode takes any length and this IV");
    }

    fn tag(&self, authenticated: &[u8], rollover_counter: &[u8]) -> [u8; TAG_LEN] {
        let mut context = hmac::Context::with_key(&self.auth);
        context.update(authenticated);
        context.update(rollover_counter);
        let mut tag = [0; TAG_LEN];
        tag.copy_from_slice(&context.sign().as_ref()[..TAG_LEN]);
        tag
    }

    fn verify(&self, authenticated: &[u8], rollover_counter: &[u8], tag: &[u8]) -> Result<(), Rejected> {
        verify_slices_are_equal(&self.tag(authenticated, rollover_counter), tag).map_err(|_| Rejected::Authentication)
    }
}

fn rollover_counter(index: u64) -> [u8; 4] {
    ((index >> 16) as u32).to_be_bytes()
}
