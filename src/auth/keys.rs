//! Keys: secrets that are shared with applications, and what a published key set (RFC 7517) holds.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{DecodingKey, EncodingKey};
use serde_json::{Map, Value};

use super::token::{Alg, Key};
use crate::config::AuthSettings;
use crate::error::Failure;

/// Bytes of the key that we make when there is none to share.
const OWN_KEY_BYTES: usize = 32;
/// Where it is kept, in the store's directory.
const OWN_KEY_FILE: &str = "token.key";
/// Most keys that are taken from a set; issuers have two or three.
const SET_KEYS_MAX: usize = 64;
/// Longest name of a key in a set, in bytes; one with a longer name is left out.
const KID_BYTES_MAX: usize = 256;
/// Shortest RSA modulus, in bytes: 2,048 bits.
const RSA_BYTES_MIN: usize = 256;
/// Bytes of a coordinate on P-256, and of an Ed25519 key.
const POINT_BYTES: usize = 32;

/// The secrets that are shared with applications.
pub(super) struct Shared {
    /// For tokens that name no pair: `JWT_SECRET`, or one of our own where there is nothing else to mint with.
    secret: Option<Key>,
    pairs: Vec<Pair>,
    mint: (Option<String>, EncodingKey),
}

struct Pair {
    id: String,
    /// Of the secret: what is compared takes the same time whatever was guessed.
    hash: [u8; 32],
    key: Key,
}

impl Shared {
    pub(super) fn new(settings: &AuthSettings, own: OwnKey) -> Self {
        let OwnKey(own) = own;
        let key = |secret: &[u8]| Key { alg: Alg::Hs256, decoding: DecodingKey::from_secret(secret) };
        let secret = Some(settings.secret.0.as_bytes()).filter(|secret| !secret.is_empty());
        // Without a secret or a pair, the users of a key set get tokens that only we know.
        let secret = secret.or(settings.keys.is_empty().then_some(&own[..]));
        let mint = match (secret, settings.keys.first()) {
            (None, Some(first)) => (Some(first.id.clone()), EncodingKey::from_secret(first.secret.0.as_bytes())),
            (secret, _) => (None, EncodingKey::from_secret(secret.unwrap_or(&own))),
        };
        let pair = |pair: &crate::config::KeyPair| Pair {
            id: pair.id.clone(),
            hash: hash(&pair.secret.0),
            key: key(pair.secret.0.as_bytes()),
        };
        Shared { secret: secret.map(key), pairs: settings.keys.iter().map(pair).collect(), mint }
    }

    /// The key that a token with this `kid` must be signed with. A name that is no pair's says nothing: issuers name their secrets, too.
    pub(super) fn find(&self, kid: Option<&str>) -> Option<&Key> {
        let pair = kid.and_then(|kid| self.pairs.iter().find(|pair| pair.id == kid));
        pair.map(|pair| &pair.key).or(self.secret.as_ref())
    }

    /// Whether these are an API key pair.
    pub(super) fn is_pair(&self, id: &str, secret: &str) -> bool {
        let hash = hash(secret);
        // All are compared, so that time does not say which ids there are.
        self.pairs.iter().fold(false, |found, pair| found | (is_same(&pair.hash, &hash) & (pair.id == id)))
    }

    /// What our own tokens are signed with: the name that their header says, and the key.
    pub(super) fn mint(&self) -> (Option<&str>, &EncodingKey) {
        (self.mint.0.as_deref(), &self.mint.1)
    }
}

/// What join tokens are signed with where nothing is shared. It does not print itself.
pub(crate) struct OwnKey([u8; OWN_KEY_BYTES]);

impl OwnKey {
    /// One for this process.
    pub(crate) fn fleeting() -> Self {
        OwnKey(rand::random())
    }

    /// The one of `directory`, which is made at the first start, so that tokens outlive a restart.
    pub(crate) fn kept(directory: &Path) -> Result<Self, Failure> {
        let path = directory.join(OWN_KEY_FILE);
        let failed = |error: io::Error| {
            let shown = path.display();
            Failure::Setting(format!(
                "cannot keep the key of join tokens in {shown}: {error}; set JWT_SECRET, or [store] dir"
            ))
        };
        fs::create_dir_all(directory).map_err(failed)?;
        let fresh = Self::fleeting();
        // Written beside and moved there whole: two that start at once have one key, and no crash leaves half of one.
        let beside = directory.join(format!("{OWN_KEY_FILE}.{}", std::process::id()));
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside).map_err(failed)?;
        file.write_all(&fresh.0).and_then(|()| file.sync_all()).map_err(failed)?;
        let linked = fs::hard_link(&beside, &path);
        fs::remove_file(&beside).map_err(failed)?;
        match linked {
            Ok(()) => return Ok(fresh),
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(error)),
            Err(_) => {}
        }
        let kept = fs::read(&path).map_err(failed)?;
        let key = kept.try_into().map_err(|_| failed(io::Error::other(format!("it has not {OWN_KEY_BYTES} bytes"))))?;
        Ok(OwnKey(key))
    }
}

/// SHA-256 of a secret.
pub(super) fn hash(secret: &str) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, secret.as_bytes()).as_ref());
    hash
}

/// Compares in constant time.
pub(super) fn is_same(a: &[u8; 32], b: &[u8; 32]) -> bool {
    verify_slices_are_equal(a, b).is_ok()
}

/// A key of a published set.
#[derive(Clone)]
pub(super) struct Published {
    pub(super) kid: Option<String>,
    pub(super) key: Key,
}

/// The keys of a set that can be used; `None` if it is no set. Others than for signatures, with other algorithms, too short,
/// or secret (`oct`: what is published is none) are left out.
pub(super) fn published(set: &[u8]) -> Option<Vec<Published>> {
    let set: Value = serde_json::from_slice(set).ok()?;
    let keys = set.get("keys")?.as_array()?;
    Some(keys.iter().filter_map(Value::as_object).filter_map(one).take(SET_KEYS_MAX).collect())
}

fn one(jwk: &Map<String, Value>) -> Option<Published> {
    let text = |name: &str| jwk.get(name).and_then(Value::as_str);
    let bytes = |name: &str| URL_SAFE_NO_PAD.decode(text(name)?).ok();
    let is_for_signatures = jwk.get("use").is_none_or(|usage| usage == "sig")
        && jwk.get("key_ops").is_none_or(|ops| ops.as_array().is_some_and(|ops| ops.iter().any(|op| op == "verify")));
    let kid = match jwk.get("kid") {
        None => None,
        Some(kid) => Some(kid.as_str().filter(|kid| kid.len() <= KID_BYTES_MAX)?.to_owned()),
    };
    // The algorithm follows from the key. What the key says must agree, and what a token says is not asked.
    let (alg, words, decoding) = match (text("kty")?, text("crv")) {
        ("RSA", _) => {
            let (n, e) = (bytes("n")?, bytes("e")?);
            let n = n.get(n.iter().position(|byte| *byte != 0)?..)?;
            if n.len() < RSA_BYTES_MIN {
                return None;
            }
            (Alg::Rs256, ["RS256"; 2], DecodingKey::from_rsa_raw_components(n, &e))
        }
        ("EC", Some("P-256")) => {
            let is_point = [bytes("x")?, bytes("y")?].iter().all(|c| c.len() == POINT_BYTES);
            (
                Alg::Es256,
                ["ES256"; 2],
                DecodingKey::from_ec_components(text("x")?, text("y")?).ok().filter(|_| is_point)?,
            )
        }
        ("OKP", Some("Ed25519")) => {
            let key = bytes("x").filter(|x| x.len() == POINT_BYTES)?;
            // RFC 9864 names the curve, too.
            (Alg::EdDsa, ["EdDSA", "Ed25519"], DecodingKey::from_ed_der(&key))
        }
        _ => return None,
    };
    let agrees = jwk.get("alg").is_none_or(|alg| words.iter().any(|word| alg == word));
    (is_for_signatures && agrees).then_some(Published { kid, key: Key { alg, decoding } })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_key_is_made_once_and_read_by_us_alone() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = std::env::temp_dir().join(format!("lyceum-own-key-{}", std::process::id()));
        let _ = fs::remove_dir_all(&directory);
        let keys: Vec<[u8; OWN_KEY_BYTES]> =
            (0..3).map(|_| OwnKey::kept(&directory.join("data")).expect("a writable directory").0).collect();
        assert!(keys[0] == keys[1] && keys[1] == keys[2] && keys[0] != OwnKey::fleeting().0);
        let path = directory.join("data").join(OWN_KEY_FILE);
        assert_eq!(fs::metadata(&path).expect("it is there").permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(directory.join("data")).expect("it is there").count(), 1, "nothing is left beside it");
        fs::write(&path, b"short").expect("it is ours");
        assert!(OwnKey::kept(&directory.join("data")).is_err_and(|why| why.to_string().contains("32 bytes")));
        fs::remove_dir_all(&directory).expect("it is ours");
    }
}
