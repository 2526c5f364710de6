//! AEAD_AES_128_GCM, RFC 7714.

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, Tag, UnboundKey};

use super::keys::SessionKeys;
use super::{RTCP_CLEAR_LEN, RTCP_ENCRYPTED, RTCP_WORD_LEN, Rejected};

/// Bytes of the master and session salt, RFC 7714 §12.
pub(super) const SALT_LEN: usize = 12;
/// Bytes of the tag, RFC 7714 §13.2.
pub(super) const TAG_LEN: usize = 16;

/// RTP, or RTCP, of one direction.
pub(super) struct Gcm {
    key: LessSafeKey,
    salt: [u8; SALT_LEN],
}

impl Gcm {
    pub(super) fn new(keys: &SessionKeys) -> Option<Self> {
        let key = LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &keys.key).ok()?);
        let mut salt = [0; SALT_LEN];
        salt.copy_from_slice(&keys.salt[..SALT_LEN]);
        Some(Gcm { key, salt })
    }

    /// RFC 7714 §8.2: the header is associated data, the tag ends the packet.
    pub(super) fn seal_rtp(
        &self,
        buffer: &mut [u8],
        header_len: usize,
        plain_len: usize,
        ssrc: u32,
        index: u64,
    ) -> usize {
        let sealed_len = plain_len + TAG_LEN;
        let (plain, tag_room) = buffer[..sealed_len].split_at_mut(plain_len);
        let (header, payload) = plain.split_at_mut(header_len);
        tag_room.copy_from_slice(self.seal(header, payload, ssrc, index).as_ref());
        sealed_len
    }

    /// Undoes [`Gcm::seal_rtp`]. The caller has checked that `packet` holds `header_len` bytes and a tag.
    pub(super) fn open_rtp(&self, packet: &mut [u8], header_len: usize, ssrc: u32, index: u64) -> Result<(), Rejected> {
        let (header, sealed) = packet.split_at_mut(header_len);
        self.open(header, sealed, ssrc, index)
    }

    /// RFC 7714 §9.1: the first eight bytes and the trailing word are associated data; the tag stands before the word.
    pub(super) fn seal_rtcp(&self, packet: &mut Vec<u8>, ssrc: u32, index: u32) {
        let aad = rtcp_aad(packet, index);
        let tag = self.seal(&aad, &mut packet[RTCP_CLEAR_LEN..], ssrc, u64::from(index));
        packet.extend_from_slice(tag.as_ref());
        packet.extend_from_slice(&aad[RTCP_CLEAR_LEN..]);
    }

    /// Undoes [`Gcm::seal_rtcp`]. The caller has checked that `packet` holds `plain_len` bytes, a tag and the word.
    pub(super) fn open_rtcp(&self, packet: &mut [u8], plain_len: usize, ssrc: u32, index: u32) -> Result<(), Rejected> {
        let aad = rtcp_aad(packet, index);
        self.open(&aad, &mut packet[RTCP_CLEAR_LEN..plain_len + TAG_LEN], ssrc, u64::from(index))
    }

    fn seal(&self, aad: &[u8], plain: &mut [u8], ssrc: u32, index: u64) -> Tag {
        self.key
            .seal_in_place_separate_tag(self.nonce(ssrc, index), Aad::from(aad), plain)
            .expect("AES-GCM fails only beyond 64 GiB")
    }

    fn open(&self, aad: &[u8], sealed: &mut [u8], ssrc: u32, index: u64) -> Result<(), Rejected> {
        match self.key.open_in_place(self.nonce(ssrc, index), Aad::from(aad), sealed) {
            Ok(_) => Ok(()),
            Err(_) => Err(Rejected::Authentication),
        }
    }

    /// RFC 7714 §8.1 for RTP (48-bit index) and §9.1 for RTCP (31-bit index): they have one shape.
    fn nonce(&self, ssrc: u32, index: u64) -> Nonce {
        let mut iv = self.salt;
        for (byte, ssrc_byte) in iv[2..6].iter_mut().zip(ssrc.to_be_bytes()) {
            *byte ^= ssrc_byte;
        }
        for (byte, index_byte) in iv[6..].iter_mut().zip(&index.to_be_bytes()[2..]) {
            *byte ^= index_byte;
        }
        Nonce::assume_unique_for_key(iv)
    }
}

fn rtcp_aad(packet: &[u8], index: u32) -> [u8; RTCP_CLEAR_LEN + RTCP_WORD_LEN] {
    let mut aad = [0; RTCP_CLEAR_LEN + RTCP_WORD_LEN];
    aad[..RTCP_CLEAR_LEN].copy_from_slice(&packet[..RTCP_CLEAR_LEN]);
    aad[RTCP_CLEAR_LEN..].copy_from_slice(&(RTCP_ENCRYPTED | index).to_be_bytes());
    aad
}
