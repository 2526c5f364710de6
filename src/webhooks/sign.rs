//! Signatures as Standard Webhooks has them: HMAC-SHA256 over `id.timestamp.body`, in Base64 behind `v1,`.

use std::fmt;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac::{self, HMAC_SHA256, Key};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::ID_BYTES_MAX;

/// Bytes of a secret: less can be guessed, more adds nothing (the specification's bounds).
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;
/// Random bytes of a secret that we make.
const FRESH_BYTES: usize = 32;
/// What secrets begin with.
const PREFIX: &str = "whsec_";
/// How far a timestamp may be from our clock, seconds, in both directions.
pub(crate) const TOLERANCE_S: u64 = 300;
/// Signatures of one event that are looked at; a sender has two while a secret rotates.
const SIGNATURES_MAX: usize = 8;

/// What both sides know. It does not print itself.
#[derive(Clone)]
pub(crate) struct Secret(Vec<u8>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

impl Secret {
    /// Reads `whsec_…`. The error says what is expected, and nothing of what was given.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let expected = || {
            format!(
                "expected whsec_ and 24 to 64 random bytes in Base64, such as `echo whsec_$(openssl rand -base64 {FRESH_BYTES})` gives"
            )
        };
        let bytes =
            text.trim().strip_prefix(PREFIX).and_then(|rest| STANDARD.decode(rest).ok()).ok_or_else(expected)?;
        if SECRET_BYTES.contains(&bytes.len()) { Ok(Secret(bytes)) } else { Err(expected()) }
    }

    /// A new one, as text.
    pub(crate) fn generate() -> String {
        format!("{PREFIX}{}", STANDARD.encode(rand::random::<[u8; FRESH_BYTES]>()))
    }

    fn tag(&self, id: &str, timestamp: &str, body: &[u8]) -> hmac::Tag {
        let mut context = hmac::Context::with_key(&Key::new(HMAC_SHA256, &self.0));
        for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
            context.update(part);
        }
        context.sign()
    }
}

/// The `webhook-signature` of one attempt: one for each secret, separated by spaces. `timestamp` is in seconds.
pub(crate) fn signatures(secrets: &[Secret], id: &str, timestamp: u64, body: &[u8]) -> String {
    let timestamp = timestamp.to_string();
    let one = |secret: &Secret| format!("v1,{}", STANDARD.encode(secret.tag(id, &timestamp, body)));
    secrets.iter().map(one).collect::<Vec<_>>().join(" ")
}

/// Why an event is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Disbelief {
    /// A header is missing or cannot be read.
    Malformed,
    /// Its timestamp is more than [`TOLERANCE_S`] from our clock: sent again by somebody who listened, or a clock is wrong.
    Late,
    /// No signature is of our secret.
    Wrong,
}

/// The three headers of an event as they came.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Signed<'a> {
    /// `webhook-id`.
    pub(crate) id: &'a str,
    /// `webhook-timestamp`, Unix seconds.
    pub(crate) timestamp: &'a str,
    /// `webhook-signature`.
    pub(crate) signatures: &'a str,
}

/// Whether somebody who knows `secret` sent this just now. How long it takes says nothing of the right signature.
pub(crate) fn verify(secret: &Secret, signed: &Signed<'_>, body: &[u8], now_s: u64) -> Result<(), Disbelief> {
    let is_id = (1..=ID_BYTES_MAX).contains(&signed.id.len()) && signed.id.bytes().all(|b| b.is_ascii_graphic());
    let is_number = (1..=15).contains(&signed.timestamp.len()) && signed.timestamp.bytes().all(|b| b.is_ascii_digit());
    let at: u64 = signed.timestamp.parse().ok().filter(|_| is_id && is_number).ok_or(Disbelief::Malformed)?;
    // The text is what is signed, so it is the text that counts, whatever zeros it begins with.
    let right = secret.tag(signed.id, signed.timestamp, body);
    let mut is_right = false;
    for given in signed.signatures.split(' ').take(SIGNATURES_MAX) {
        let Some(given) = given.strip_prefix("v1,").and_then(|given| STANDARD.decode(given).ok()) else { continue };
        is_right |= verify_slices_are_equal(&given, right.as_ref()).is_ok();
    }
    if !is_right {
        return Err(Disbelief::Wrong);
    }
    if at.abs_diff(now_s) > TOLERANCE_S { Err(Disbelief::Late) } else { Ok(()) }
}
