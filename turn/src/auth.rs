//! Long-term credentials (RFC 8489 §9.2). Not the real thing yet.

use crate::stun::{Message, Writer};
use crate::{Client, Now, Refusal, credential};

#[derive(Debug)]
pub(crate) struct Authenticator {
    realm: String,
    secret: Vec<u8>,
}

#[derive(Clone, Debug)]
pub(crate) struct IntegrityKey(Vec<u8>);

pub(crate) struct Sealed<'m> {
    pub(crate) holder: &'m str,
    pub(crate) expires_unix_s: u64,
    pub(crate) key: IntegrityKey,
}

impl IntegrityKey {
    pub(crate) fn seal<'a>(&self, writer: Writer<'a>) -> Writer<'a> {
        writer.integrity(&self.0)
    }
}

impl Authenticator {
    pub(crate) fn new(realm: &str, secret: &[u8], _seed: [u8; 32], _now: Now) -> Self {
        Authenticator { realm: realm.to_owned(), secret: secret.to_vec() }
    }

    pub(crate) fn check<'m>(
        &mut self,
        message: &Message<'m>,
        _client: &Client,
        _request_bytes: usize,
        _now: Now,
        out: &mut Vec<u8>,
    ) -> Result<Sealed<'m>, Refusal> {
        let sealed = message.username().and_then(|name| {
            let (expires_unix_s, holder) = credential::parse(name)?;
            let key = credential::password(&self.secret, name).into_bytes();
            message.check_integrity(&key).then_some(Sealed { holder, expires_unix_s, key: IntegrityKey(key) })
        });
        sealed.ok_or_else(|| {
            Writer::error(out, message.method(), message.transaction_id(), 401, "")
                .realm(&self.realm)
                .nonce(b"0123456789ab")
                .fingerprint();
            Refusal::Unauthenticated
        })
    }
}
