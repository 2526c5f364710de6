//! Time-limited credentials: `username = <expiry>:<holder>`, `credential = base64(HMAC-SHA1(secret, username))`, as coturn
//! takes them too. `expiry` is in seconds since 1970 UTC.

use aws_lc_rs::{digest, hmac};
use md5::{Digest, Md5};

/// A username and its password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    /// `<expiry>:<holder>`.
    pub username: String,
    /// `base64(HMAC-SHA1(secret, username))`.
    pub password: String,
}

/// The credential of a holder until `expires_unix_s`.
pub fn mint(secret: &[u8], holder: &str, expires_unix_s: u64) -> Credential {
    let username = format!("{expires_unix_s}:{holder}");
    let password = password(secret, &username);
    Credential { username, password }
}

/// The password that belongs to a username.
pub fn password(secret: &[u8], username: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret);
    base64(hmac::sign(&key, username.as_bytes()).as_ref())
}

/// The expiry and the holder of a username; `None` if it has another form.
pub fn parse(username: &str) -> Option<(u64, &str)> {
    let (expiry, holder) = username.split_once(':')?;
    Some((expiry.parse().ok()?, holder))
}

/// The key of MESSAGE-INTEGRITY where no algorithm was chosen (RFC 8489 §18.5.1.1).
pub fn md5_key(username: &str, realm: &str, password: &str) -> [u8; 16] {
    Md5::digest(format!("{username}:{realm}:{password}")).into()
}

/// The key where SHA-256 was chosen (RFC 8489 §18.5.1.2).
pub fn sha256_key(username: &str, realm: &str, password: &str) -> [u8; 32] {
    let mut key = [0; 32];
    let digest = digest::digest(&digest::SHA256, format!("{username}:{realm}:{password}").as_bytes());
    key.copy_from_slice(digest.as_ref());
    key
}

/// The digits of base 64 by their values.
pub(crate) const BASE64_DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Base 64 with padding (RFC 4648 §4).
pub(crate) fn base64(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let group = three.iter().fold(0u32, |group, byte| group << 8 | u32::from(*byte)) << (8 * (3 - three.len()));
        for digit in 0..4 {
            let value = BASE64_DIGITS.get((group >> (18 - 6 * digit) & 63) as usize).copied().unwrap_or(b'=');
            out.push(if digit <= three.len() { char::from(value) } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_rfc() {
        for (plain, coded) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")] {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
    }

    #[test]
    fn a_password_is_that_of_coturn() {
        // As `openssl dgst -sha1 -hmac north | base64` gives it.
        let credential = mint(b"north", "seat", 1_700_000_000);
        assert_eq!(credential.username, "1700000000:seat");
        assert_eq!(credential.password, "SUGKlOS2kyBTgI7vLqulWyiDae8=");
        assert_eq!(parse(&credential.username), Some((1_700_000_000, "seat")));
    }
}
