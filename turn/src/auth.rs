//! Who sent a request (RFC 8489 §9.2): long-term credentials whose passwords follow from their usernames, and nonces that
//! need no memory. What strangers are answered over UDP is neither larger than [`within`] allows nor more often than their
//! network's share.

use std::fmt;
use std::net::IpAddr;

use crate::credential;
use crate::nonce::{Age, Form, Nonces};
use crate::stun::{AttributeType, Message, Writer};
use crate::throttle::Throttle;
use crate::{Client, Now, Refusal};

/// PASSWORD-ALGORITHMS as we offer it (RFC 8489 §14.11): SHA-256, then MD5, neither with parameters.
const OFFERED: &[u8] = &[0, 2, 0, 0, 0, 1, 0, 0];
/// PASSWORD-ALGORITHM: SHA-256 (RFC 8489 §18.5.1).
const CHOSE_SHA256: &[u8] = &[0, 2, 0, 0];
/// PASSWORD-ALGORITHM: MD5.
const CHOSE_MD5: &[u8] = &[0, 1, 0, 0];

/// Checks requests, and writes the answers to those that do not pass.
pub(crate) struct Authenticator {
    realm: String,
    secret: Vec<u8>,
    nonces: Nonces,
    throttle: Throttle,
    /// Of Binding: one flood must not silence the other.
    bindings: Throttle,
}

/// A request whose sender knows the password of its username. Whether that has expired, and whether its holder was
/// granted anything, is not known yet.
#[derive(Debug)]
pub(crate) struct Sealed<'m> {
    /// What stands behind the expiry in its username.
    pub(crate) holder: &'m str,
    /// The expiry, in seconds since 1970 UTC.
    pub(crate) expires_unix_s: u64,
    /// What answers are sealed with.
    pub(crate) key: IntegrityKey,
}

/// Seals answers to a request as that was sealed (RFC 8489 §9.2.4).
#[derive(Clone)]
pub(crate) struct IntegrityKey {
    key: LongTermKey,
    sha256: bool,
}

/// The key of a username and its password.
#[derive(Clone)]
enum LongTermKey {
    Md5([u8; 16]),
    Sha256([u8; 32]),
}

/// Why a request does not pass.
enum Fault {
    /// 400.
    BadRequest,
    /// 401.
    Unauthenticated,
    /// 438. `ours`: the nonce is one that we gave to this address, so the client is where it claims to be.
    StaleNonce { ours: bool },
}

impl Authenticator {
    /// `realm` is no longer than 8 bytes, so that the shortest Allocate over UDP can be answered; with a longer one it is
    /// not. `seed` is secret and new in each process: it keys nonces, and the hash by which networks are counted.
    pub(crate) fn new(realm: &str, secret: &[u8], seed: [u8; 32], now: Now) -> Self {
        Authenticator {
            realm: realm.to_owned(),
            secret: secret.to_owned(),
            nonces: Nonces::new(realm, &seed, now.mono),
            throttle: Throttle::new(seed, now.mono),
            bindings: Throttle::new(seed, now.mono),
        }
    }

    /// Checks a request of `request_bytes` bytes by RFC 8489 §9.2.4. On `Err`, `out` holds the whole answer, or nothing
    /// if there is to be none; then what is returned is [`Refusal::RateLimited`].
    ///
    /// Attributes behind the integrity are not covered by it; [`Message`] does not show them.
    pub(crate) fn check<'m>(
        &mut self,
        message: &Message<'m>,
        client: &Client,
        request_bytes: usize,
        now: Now,
        out: &mut Vec<u8>,
    ) -> Result<Sealed<'m>, Refusal> {
        out.clear();
        let fault = match self.judge(message, client, now) {
            Ok(sealed) => return Ok(sealed),
            Err(fault) => fault,
        };
        let proven = matches!(fault, Fault::StaleNonce { ours: true });
        if !proven && !has_share(&mut self.throttle, client, now) {
            return Err(Refusal::RateLimited);
        }
        let refusal = match fault {
            Fault::BadRequest => {
                Writer::error(out, message.method(), message.transaction_id(), 400, "Bad Request");
                Refusal::BadRequest
            }
            Fault::Unauthenticated => {
                self.unauthenticated(message, client, request_bytes, now, out);
                Refusal::Unauthenticated
            }
            Fault::StaleNonce { .. } => {
                self.challenge(message, client, request_bytes, (438, "Stale Nonce"), now, out);
                Refusal::StaleNonce
            }
        };
        if !within(client, request_bytes, out.len()) {
            out.clear();
        }
        if out.is_empty() { Err(Refusal::RateLimited) } else { Err(refusal) }
    }

    /// Writes a 401 with a nonce, for a request that passed [`Authenticator::check`] but is granted nothing.
    pub(crate) fn unauthenticated(
        &self,
        message: &Message<'_>,
        client: &Client,
        request_bytes: usize,
        now: Now,
        out: &mut Vec<u8>,
    ) {
        self.challenge(message, client, request_bytes, (401, "Unauthenticated"), now, out);
    }

    /// Whether `answer` may go to a client that has shown nothing of itself, as the answer to a Binding request has to;
    /// empties it if not.
    pub(crate) fn admits(&mut self, client: &Client, request_bytes: usize, answer: &mut Vec<u8>, now: Now) -> bool {
        let admitted = within(client, request_bytes, answer.len()) && has_share(&mut self.bindings, client, now);
        if !admitted {
            answer.clear();
        }
        admitted
    }

    /// The rules of RFC 8489 §9.2.4, in its order. Of who sends USERHASH we know nothing: it cannot be inverted, and we do
    /// not offer to take it, so that is an unknown user.
    fn judge<'m>(&self, message: &Message<'m>, client: &Client, now: Now) -> Result<Sealed<'m>, Fault> {
        if !message.has_integrity() {
            return Err(Fault::Unauthenticated);
        }
        let named =
            [AttributeType::USERNAME, AttributeType::USERHASH].iter().any(|it| message.attribute(*it).is_some());
        let (true, Some(realm), Some(nonce)) = (named, message.attribute(AttributeType::REALM), message.nonce()) else {
            return Err(Fault::BadRequest);
        };
        let uses_sha256 = chosen_algorithm(message)?;
        let username = message.username().ok_or(Fault::Unauthenticated)?;
        let (expires_unix_s, holder) = credential::parse(username).ok_or(Fault::Unauthenticated)?;
        if realm != self.realm.as_bytes() {
            return Err(Fault::Unauthenticated);
        }
        let password = credential::password(&self.secret, username);
        let key = if uses_sha256 {
            LongTermKey::Sha256(credential::sha256_key(username, &self.realm, &password))
        } else {
            LongTermKey::Md5(credential::md5_key(username, &self.realm, &password))
        };
        let key = IntegrityKey { key, sha256: message.has_integrity_sha256() };
        if !key.sealed(message) {
            return Err(Fault::Unauthenticated);
        }
        match self.nonces.age(nonce, client.remote().ip(), now.mono) {
            Age::Fresh => Ok(Sealed { holder, expires_unix_s, key }),
            Age::Stale => Err(Fault::StaleNonce { ours: true }),
            Age::Foreign => Err(Fault::StaleNonce { ours: false }),
        }
    }

    /// Writes an error with realm and nonce: the long form with our password algorithms if it may be so large, else the
    /// short one; nothing if even that is too large.
    fn challenge(
        &self,
        message: &Message<'_>,
        client: &Client,
        request_bytes: usize,
        (code, reason): (u16, &str),
        now: Now,
        out: &mut Vec<u8>,
    ) {
        for form in [Form::Long, Form::Short] {
            out.clear();
            let nonce = self.nonces.mint(form, client.remote().ip(), now.mono);
            let reason = if form == Form::Long { reason } else { "" };
            let writer = Writer::error(out, message.method(), message.transaction_id(), code, reason)
                .realm(&self.realm)
                .nonce(nonce.as_bytes());
            if form == Form::Long {
                writer.attribute(AttributeType::PASSWORD_ALGORITHMS, OFFERED);
            }
            if within(client, request_bytes, out.len()) {
                return;
            }
        }
        out.clear();
    }
}

impl fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authenticator").field("realm", &self.realm).finish_non_exhaustive()
    }
}

impl IntegrityKey {
    /// Seals an answer.
    pub(crate) fn seal<'w>(&self, writer: Writer<'w>) -> Writer<'w> {
        if self.sha256 { writer.integrity_sha256(self.key.as_slice()) } else { writer.integrity(self.key.as_slice()) }
    }

    /// Whether a message was sealed with it.
    fn sealed(&self, message: &Message<'_>) -> bool {
        if self.sha256 {
            message.check_integrity_sha256(self.key.as_slice())
        } else {
            message.check_integrity(self.key.as_slice())
        }
    }
}

impl fmt::Debug for IntegrityKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IntegrityKey").field("sha256", &self.sha256).finish_non_exhaustive()
    }
}

impl LongTermKey {
    fn as_slice(&self) -> &[u8] {
        match self {
            LongTermKey::Md5(key) => key,
            LongTermKey::Sha256(key) => key,
        }
    }
}

/// Whether the key is made by SHA-256, else by MD5 (RFC 8489 §9.2.4). A client that says anything of algorithms must repeat
/// our offer as it was and choose from it, so that nobody on the way can have shortened it.
fn chosen_algorithm(message: &Message<'_>) -> Result<bool, Fault> {
    let offer = message.attribute(AttributeType::PASSWORD_ALGORITHMS);
    match (offer, message.attribute(AttributeType::PASSWORD_ALGORITHM)) {
        (None, None) => Ok(false),
        (Some(OFFERED), Some(CHOSE_MD5)) => Ok(false),
        (Some(OFFERED), Some(CHOSE_SHA256)) => Ok(true),
        _ => Err(Fault::BadRequest),
    }
}

/// Whether an answer is no larger than 1.5 × its request, both with their IP and UDP headers: so that nobody gains by
/// having us answer somebody else. What goes to a stream may have any size.
fn within(client: &Client, request_bytes: usize, answer_bytes: usize) -> bool {
    let Client::Udp { .. } = client else { return true };
    let headers = wire_head_bytes(client);
    2 * (headers + answer_bytes) <= 3 * (headers + request_bytes)
}

/// Takes one answer from the share of the client's network. Who has a stream is where it claims to be.
fn has_share(throttle: &mut Throttle, client: &Client, now: Now) -> bool {
    match client {
        Client::Udp { remote, .. } => throttle.admits(remote.ip(), now.mono),
        Client::Stream { .. } => true,
    }
}

/// Bytes of IP and UDP headers of a datagram to or from a client; of a stream, whose segments nobody knows, as many as if each
/// message were one.
pub(crate) fn wire_head_bytes(client: &Client) -> usize {
    match client.remote().ip().to_canonical() {
        IpAddr::V4(_) => 20 + 8,
        IpAddr::V6(_) => 40 + 8,
    }
}

#[cfg(test)]
mod tests;
