//! Session keys from a master key and salt.

use aws_lc_rs::cipher::{AES_128, EncryptingKey, EncryptionContext, UnboundCipherKey};
use aws_lc_rs::iv::FixedLength;

use super::Profile;

/// Bytes of master and session keys, both profiles.
pub(super) const KEY_LEN: usize = 16;
/// Bytes of an HMAC-SHA1 key, RFC 3711 §8.2.
pub(super) const AUTH_KEY_LEN: usize = 20;
/// Bytes of salt that the pseudo-random function works with. A shorter salt stands at its head, RFC 7714 §11.
pub(super) const PRF_SALT_LEN: usize = 14;

const LABEL_RTP: u8 = 0;
const LABEL_RTCP: u8 = 3;

/// What RTP, or RTCP, of one direction is sealed with. GCM leaves `auth` and the last two bytes of `salt` unused.
pub(super) struct SessionKeys {
    pub(super) key: [u8; KEY_LEN],
    pub(super) auth: [u8; AUTH_KEY_LEN],
    pub(super) salt: [u8; PRF_SALT_LEN],
}

/// The session keys for RTP and for RTCP, RFC 3711 §4.3 with a key derivation rate of 0. `None` if a length is wrong.
pub(super) fn derive(profile: Profile, key: &[u8], salt: &[u8]) -> Option<(SessionKeys, SessionKeys)> {
    if key.len() != profile.key_len() || salt.len() != profile.salt_len() {
        return None;
    }
    let mut padded_salt = [0; PRF_SALT_LEN];
    padded_salt[..salt.len()].copy_from_slice(salt);
    let master = aes_ctr(key)?;
    let session = |label| {
        Some(SessionKeys {
            key: prf(&master, &padded_salt, label)?,
            auth: prf(&master, &padded_salt, label + 1)?,
            salt: prf(&master, &padded_salt, label + 2)?,
        })
    };
    Some((session(LABEL_RTP)?, session(LABEL_RTCP)?))
}

/// AES-128 in counter mode, or `None` if `key` is not 16 bytes.
pub(super) fn aes_ctr(key: &[u8]) -> Option<EncryptingKey> {
    EncryptingKey::ctr(UnboundCipherKey::new(&AES_128, key).ok()?).ok()
}

/// Bytes of the AES-CM pseudo-random function, RFC 3711 §4.3.3.
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
