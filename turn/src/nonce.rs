//! Nonces that need no memory (RFC 8489 §9.2): each carries its time and a MAC over that, the client's IP address and the
//! realm, so that whatever strangers ask for, nothing is kept.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use aws_lc_rs::{constant_time, hmac};

use crate::credential::{BASE64_DIGITS, base64};

/// How long a nonce is taken. Shorter costs clients more round trips (438), longer lets what was overheard be repeated
/// for longer. Allocations live on across it.
pub(crate) const NONCE_AGE_MAX: Duration = Duration::from_secs(600);

/// What tells that a nonce names security features, then those features: bit 0, password algorithms. Bits count from the
/// right, as the erratum to RFC 8489 §18.1 and its own vector have it.
const COOKIE: &str = "obMatJos2AAAB";
/// Seconds, in digits of base 64: 18 bits, which come around after three days.
const TIME_DIGITS: usize = 3;
/// 54 bits of the MAC. A forged nonce gains nothing but a repetition of what was overheard.
const MAC_DIGITS: usize = 9;

/// What a nonce is fit for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// 12 characters, where the answer must be short.
    Short,
    /// 25 characters: it says that password algorithms were offered.
    Long,
}

/// What became of a nonce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Age {
    /// Made by us, for this client, not long ago.
    Fresh,
    /// Made by us, for this client, longer ago than [`NONCE_AGE_MAX`].
    Stale,
    /// Not made by us since we started, or for another address, or one of the last three days.
    Foreign,
}

/// Makes nonces and knows them again.
#[derive(Debug)]
pub(crate) struct Nonces {
    key: hmac::Key,
    realm: String,
    started: Instant,
}

impl Nonces {
    pub(crate) fn new(realm: &str, seed: &[u8], now: Instant) -> Self {
        Nonces { key: hmac::Key::new(hmac::HMAC_SHA256, seed), realm: realm.to_owned(), started: now }
    }

    /// A nonce for a client's address.
    pub(crate) fn mint(&self, form: Form, ip: IpAddr, now: Instant) -> String {
        self.at(form, ip, self.seconds(now))
    }

    /// How old a nonce is; which form it has is told by [`form`].
    pub(crate) fn age(&self, nonce: &[u8], ip: IpAddr, now: Instant) -> Age {
        let now = self.seconds(now);
        let form = form(nonce);
        let skipped = if form == Form::Long { COOKIE.len() } else { 0 };
        let Some(written) = nonce.get(skipped..skipped + TIME_DIGITS).and_then(read_time) else {
            return Age::Foreign;
        };
        // The latest moment with these 18 bits.
        let age = now.wrapping_sub(written) & TIME_MASK;
        let Some(made) = now.checked_sub(age) else { return Age::Foreign };
        if constant_time::verify_slices_are_equal(self.at(form, ip, made).as_bytes(), nonce).is_err() {
            Age::Foreign
        } else if age > NONCE_AGE_MAX.as_secs() {
            Age::Stale
        } else {
            Age::Fresh
        }
    }

    fn at(&self, form: Form, ip: IpAddr, seconds: u64) -> String {
        let ip = match ip {
            IpAddr::V4(it) => it.to_ipv6_mapped(),
            IpAddr::V6(it) => it,
        };
        // The form is covered, so that nobody on the way can hide what was offered.
        let mut context = hmac::Context::with_key(&self.key);
        context.update(&seconds.to_be_bytes());
        context.update(&ip.octets());
        context.update(&[u8::from(form == Form::Long)]);
        context.update(self.realm.as_bytes());
        let mac = base64(context.sign().as_ref());
        let mut nonce = String::with_capacity(COOKIE.len() + TIME_DIGITS + MAC_DIGITS);
        if form == Form::Long {
            nonce.push_str(COOKIE);
        }
        for digit in (0..TIME_DIGITS).rev() {
            let value = seconds >> (6 * digit) & 63;
            nonce.push(BASE64_DIGITS.get(value as usize).copied().map_or('A', char::from));
        }
        nonce.push_str(mac.get(..MAC_DIGITS).unwrap_or_default());
        nonce
    }

    /// Since we started.
    fn seconds(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.started).as_secs()
    }
}

const TIME_MASK: u64 = (1 << (6 * TIME_DIGITS)) - 1;

/// The form that a nonce claims to have.
pub(crate) fn form(nonce: &[u8]) -> Form {
    if nonce.starts_with(COOKIE.as_bytes()) { Form::Long } else { Form::Short }
}

fn read_time(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0, |time, digit| {
        let value = BASE64_DIGITS.iter().position(|it| it == digit)?;
        Some(time << 6 | value as u64)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

    fn nonces() -> (Nonces, Instant) {
        let started = Instant::now();
        (Nonces::new("lyceum", &[7; 32], started), started)
    }

    #[test]
    fn a_nonce_is_fresh_then_stale_then_foreign() {
        let (nonces, started) = nonces();
        for made in [0, 5, 599, 262_143, 262_144, 1_000_000] {
            let made = started + Duration::from_secs(made);
            for form in [Form::Short, Form::Long] {
                let nonce = nonces.mint(form, CLIENT, made);
                let age = |seconds| nonces.age(nonce.as_bytes(), CLIENT, made + Duration::from_secs(seconds));
                assert_eq!(nonce.len(), if form == Form::Short { 12 } else { 25 });
                assert_eq!([age(0), age(600)], [Age::Fresh; 2]);
                assert_eq!([age(601), age(TIME_MASK)], [Age::Stale; 2]);
                // After the time has come around it must not be taken for a new one.
                assert_eq!([age(TIME_MASK + 1), age(TIME_MASK + 100)], [Age::Foreign; 2]);
            }
        }
    }

    #[test]
    fn a_nonce_is_bound_to_address_realm_seed_and_form() {
        let (nonces, now) = nonces();
        let nonce = nonces.mint(Form::Long, CLIENT, now);
        let at = |nonces: &Nonces, ip, nonce: &str| nonces.age(nonce.as_bytes(), ip, now);
        assert_eq!(at(&nonces, CLIENT, &nonce), Age::Fresh);
        assert_eq!(at(&nonces, IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2)), &nonce), Age::Foreign);
        assert_eq!(at(&nonces, IpAddr::V6(Ipv6Addr::LOCALHOST), &nonce), Age::Foreign);
        // A socket for both families shows IPv4 clients so.
        assert_eq!(at(&nonces, IpAddr::V6(Ipv4Addr::new(192, 0, 2, 1).to_ipv6_mapped()), &nonce), Age::Fresh);
        assert_eq!(at(&Nonces::new("other", &[7; 32], now), CLIENT, &nonce), Age::Foreign);
        assert_eq!(at(&Nonces::new("lyceum", &[8; 32], now), CLIENT, &nonce), Age::Foreign);
        assert_eq!(at(&nonces, CLIENT, &nonce[COOKIE.len()..]), Age::Foreign);
        let short = nonces.mint(Form::Short, CLIENT, now);
        assert_eq!(at(&nonces, CLIENT, &format!("{COOKIE}{short}")), Age::Foreign);
    }

    #[test]
    fn strangers_nonces_are_foreign() {
        let (nonces, now) = nonces();
        let nonce = nonces.mint(Form::Long, CLIENT, now);
        for len in 0..nonce.len() {
            assert_eq!(nonces.age(&nonce.as_bytes()[..len], CLIENT, now), Age::Foreign);
        }
        let long = [nonce.as_bytes(), &[0; 800]].concat();
        for other in [&long[..], &[0xff; 12], b"AAAAAAAAAAAA", b"AAB_________", b"\0"] {
            assert_eq!(nonces.age(other, CLIENT, now), Age::Foreign);
        }
        for at in 0..nonce.len() {
            let mut changed = nonce.clone().into_bytes();
            changed[at] ^= 1;
            assert_eq!(nonces.age(&changed, CLIENT, now), Age::Foreign, "character {at}");
        }
    }
}
