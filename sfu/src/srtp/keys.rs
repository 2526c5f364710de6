//! Session keys from a master key and salt.

use aws_lc_rs::cipher::{AES_128, AES_256, EncryptingKey, EncryptionContext, UnboundCipherKey};
use aws_lc_rs::iv::FixedLength;

use super::Profile;

/// Bytes of an AES-128 key, master or session.
pub(super) const AES_128_LEN: usize = 16;
/// Bytes of an AES-256 key, master or session.
pub(super) const AES_256_LEN: usize = 32;
/// Bytes of an HMAC-SHA1 key, RFC 3711 §8.2.
pub(super) const AUTH_KEY_LEN: usize = 20;
/// Bytes of salt that the pseudo-random function works with. A shorter salt stands at its head, RFC 7714 §11.
pub(super) const PRF_SALT_LEN: usize = 14;

const LABEL_RTP: u8 = 0;
const LABEL_RTCP: u8 = 3;

/// The session key of a cipher, as long as its master key.
pub(super) enum AesKey {
    Aes128([u8; AES_128_LEN]),
    Aes256([u8; AES_256_LEN]),
}

impl AesKey {
    pub(super) fn as_bytes(&self) -> &[u8] {
        match self {
            AesKey::Aes128(key) => key,
            AesKey::Aes256(key) => key,
        }
    }
}

/// What RTP, or RTCP, of one direction is sealed with. GCM leaves `auth` and the last two bytes of `salt` unused.
pub(super) struct SessionKeys {
    pub(super) key: AesKey,
    pub(super) auth: [u8; AUTH_KEY_LEN],
    pub(super) salt: [u8; PRF_SALT_LEN],
}

/// The session keys for RTP and for RTCP, RFC 3711 §4.3 with a key derivation rate of 0. A master key of
/// 32 bytes makes the pseudo-random function AES-256 (RFC 6188 §3.1, RFC 7714 §11). `None` if a length is wrong.
pub(super) fn derive(profile: Profile, key: &[u8], salt: &[u8]) -> Option<(SessionKeys, SessionKeys)> {
    if key.len() != profile.key_len() || salt.len() != profile.salt_len() {
        return None;
    }
    let mut padded_salt = [0; PRF_SALT_LEN];
    padded_salt[..salt.len()].copy_from_slice(salt);
    let master = aes_ctr(key)?;
    let session = |label| {
        Some(SessionKeys {
            key: match profile {
                Profile::AeadAes128Gcm | Profile::Aes128CmSha1_80 => AesKey::Aes128(prf(&master, &padded_salt, label)?),
                Profile::AeadAes256Gcm => AesKey::Aes256(prf(&master, &padded_salt, label)?),
            },
            auth: prf(&master, &padded_salt, label + 1)?,
            salt: prf(&master, &padded_salt, label + 2)?,
        })
    };
    Some((session(LABEL_RTP)?, session(LABEL_RTCP)?))
}

/// AES-128 or AES-256 in counter mode, by the length of `key`; `None` for any other length.
pub(super) fn aes_ctr(key: &[u8]) -> Option<EncryptingKey> {
    let algorithm = match key.len() {
        AES_128_LEN => &AES_128,
        AES_256_LEN => &AES_256,
        _ => return None,
    };
    EncryptingKey::ctr(UnboundCipherKey::new(algorithm, key).ok()?).ok()
}

/// Bytes of the AES-CM pseudo-random function, RFC 3711 §4.3.3 and, with AES-256, RFC 6188 §3.1.
pub(super) fn prf<const LEN: usize>(
    master: &EncryptingKey,
    master_salt: &[u8; PRF_SALT_LEN],
    label: u8,
) -> Option<[u8; LEN]> {
    let mut iv = [0; 16];
    iv[..PRF_SALT_LEN].copy_from_slice(master_salt);
    iv[7] ^= label; // `label || r`, seven bytes with r = 0, aligned to the salt's end.
    let mut out = [0; LEN];
    master.less_safe_encrypt(&mut out, EncryptionContext::Iv128(FixedLength::from(iv))).ok()?;
    Some(out)
}
