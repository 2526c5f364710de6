//! JSON Web Tokens as they come: read strictly, believed only with a key whose algorithm we know beforehand, and minted.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey};
use serde_json::{Map, Value, json};
use signaling::{ErrorCode, Refused};

/// Longest token, in bytes; a longer one is `auth/invalid`. Those of identity providers have 1–2 kB.
pub(crate) const TOKEN_BYTES_MAX: usize = 8 * 1024;
/// How far clocks may differ, ms: a token is good for so much longer, and so much sooner.
pub(crate) const LEEWAY_MS: u64 = 30_000;
/// The last second of the year 9999: what is later was no time to begin with.
const SECONDS_MAX: u64 = 253_402_300_799;
/// Header fields that say where to find the key, or that there is more to understand. No key comes from a token.
const FOREIGN: [&str; 8] = ["jku", "jwk", "x5u", "x5c", "crit", "b64", "zip", "enc"];

/// The signatures that are understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Alg {
    /// A shared secret.
    Hs256,
    /// RSA, 2,048 bits and more.
    Rs256,
    /// ECDSA on P-256.
    Es256,
    /// Ed25519.
    EdDsa,
}

impl Alg {
    fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "HS256" => Alg::Hs256,
            "RS256" => Alg::Rs256,
            "ES256" => Alg::Es256,
            "EdDSA" => Alg::EdDsa,
            _ => return None,
        })
    }

    fn of_library(self) -> Algorithm {
        match self {
            Alg::Hs256 => Algorithm::HS256,
            Alg::Rs256 => Algorithm::RS256,
            Alg::Es256 => Algorithm::ES256,
            Alg::EdDsa => Algorithm::EdDSA,
        }
    }
}

/// A key by which tokens are believed, and the one algorithm that it is for.
#[derive(Clone)]
pub(crate) struct Key {
    pub(crate) alg: Alg,
    pub(crate) decoding: DecodingKey,
}

/// A token of which nothing is believed yet.
pub(crate) struct Unverified<'t> {
    /// What it says it was signed with; only for finding a key, whose own algorithm counts.
    pub(crate) alg: Alg,
    /// What it says its key is called.
    pub(crate) kid: Option<String>,
    /// Header and claims, as they were signed.
    message: &'t str,
    claims: &'t str,
    signature: &'t str,
}

impl<'t> Unverified<'t> {
    /// Reads the compact form (RFC 7515 §3.1).
    pub(crate) fn parse(token: &'t str) -> Result<Self, Refused> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(invalid(format!("The token has more than {TOKEN_BYTES_MAX} bytes.")));
        }
        let malformed = || invalid("The token is no JWT: it has three parts of base64url without padding.");
        let (message, signature) = token.rsplit_once('.').ok_or_else(malformed)?;
        let (header, claims) = message.split_once('.').ok_or_else(malformed)?;
        // The claims are read when they are believed; that they are base64, and one part, is seen then.
        let header = object(header).ok_or_else(malformed)?;
        if let Some(field) = FOREIGN.iter().find(|field| header.contains_key(**field)) {
            return Err(invalid(format!("The token's header has {field:?}, which is not taken.")));
        }
        let alg = header
            .get("alg")
            .and_then(Value::as_str)
            .and_then(Alg::parse)
            .ok_or_else(|| invalid("The token's algorithm is none of HS256, RS256, ES256 and EdDSA."))?;
        let kid = match header.get("kid") {
            None => None,
            Some(Value::String(kid)) => Some(kid.clone()),
            Some(_) => return Err(invalid("The token's kid must be a string.")),
        };
        Ok(Unverified { alg, kid, message, claims, signature })
    }

    /// Its claims, if the key signed them.
    pub(crate) fn verify(&self, key: &Key) -> Result<Claims, Refused> {
        let is_good = key.alg == self.alg
            && jsonwebtoken::crypto::verify(
                self.signature,
                self.message.as_bytes(),
                &key.decoding,
                key.alg.of_library(),
            )
            .unwrap_or(false);
        if !is_good {
            return Err(unknown_key());
        }
        object(self.claims).map(Claims).ok_or_else(|| invalid("The token's claims are no JSON object."))
    }
}

/// No key of ours signed the token.
pub(crate) fn unknown_key() -> Refused {
    invalid("The token was not signed with a key of this server.")
}

/// A part of a token. Only canonical base64url is taken, so that nobody finds a second spelling of a token.
fn object(part: &str) -> Option<Map<String, Value>> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}

/// What a token says that is believed.
pub(crate) struct Claims(pub(crate) Map<String, Value>);

impl Claims {
    /// Whether `aud`, a string or a list, names `audience`.
    pub(crate) fn is_for(&self, audience: &str) -> bool {
        match self.0.get("aud") {
            Some(Value::String(one)) => one == audience,
            Some(Value::Array(all)) => all.iter().any(|one| one.as_str() == Some(audience)),
            _ => false,
        }
    }

    /// A claim that must be a string if it is there.
    pub(crate) fn text(&self, name: &str) -> Result<Option<&str>, Refused> {
        match self.0.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(invalid(format!("The token's {name} must be a string."))),
        }
    }

    /// A name, by the rules of the wire.
    pub(crate) fn name(&self, name: &str, chars_max: usize) -> Result<Option<std::sync::Arc<str>>, Refused> {
        if self.0.get(name).is_some_and(Value::is_null) {
            return Err(invalid(format!("The token's {name} must not be null.")));
        }
        signaling::name(&self.0, name, chars_max).map_err(|why| invalid(format!("The token: {}", why.message)))
    }

    /// Looks at `exp` and `nbf`: when the token ends, in Unix ms, and whether that is over. Too early is `auth/invalid`.
    pub(crate) fn time(&self, now_ms: u64) -> Result<(u64, bool), Refused> {
        let seconds = |name: &str| match self.0.get(name) {
            None => Ok(None),
            Some(value) => match value.as_u64().filter(|seconds| *seconds <= SECONDS_MAX) {
                Some(seconds) => Ok(Some(seconds * 1000)),
                None => Err(invalid(format!("The token's {name} must be a whole number of seconds since 1970."))),
            },
        };
        let expires_ms = seconds("exp")?.ok_or_else(|| invalid("The token has no exp: it must end some time."))?;
        if seconds("nbf")?.is_some_and(|from_ms| from_ms > now_ms.saturating_add(LEEWAY_MS)) {
            return Err(invalid("The token is not good yet (nbf): are the clocks right?"));
        }
        Ok((expires_ms, now_ms >= expires_ms + LEEWAY_MS))
    }
}

/// A token signed with a shared secret.
pub(crate) fn sign(key: &EncodingKey, kid: Option<&str>, claims: &Value) -> String {
    let mut header = json!({ "alg": "HS256", "typ": "JWT" });
    if let Some(kid) = kid {
        header["kid"] = kid.into();
    }
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let message = format!("{}.{}", part(&header), part(claims));
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), key, Algorithm::HS256)
        .expect("HMAC takes any key and any message");
    format!("{message}.{signature}")
}

/// `auth/invalid`.
pub(crate) fn invalid(message: impl Into<String>) -> Refused {
    Refused { code: ErrorCode::AuthInvalid, message: message.into() }
}

/// `auth/expired`.
pub(crate) fn expired() -> Refused {
    Refused { code: ErrorCode::AuthExpired, message: "The token's time is over: get a new one.".to_owned() }
}

/// `auth/missing`.
pub(crate) fn missing(message: impl Into<String>) -> Refused {
    Refused { code: ErrorCode::AuthMissing, message: message.into() }
}
