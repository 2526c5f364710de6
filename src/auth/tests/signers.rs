//! Keys that sign tokens as the tests say, good or not.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
};
use aws_lc_rs::{hmac, signature};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

pub(super) enum Signer {
    Shared(Vec<u8>),
    Rsa(Box<RsaKeyPair>),
    Ec(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
}

pub(super) fn part(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

impl Signer {
    pub(super) fn shared(secret: &str) -> Self {
        Signer::Shared(secret.as_bytes().to_vec())
    }

    pub(super) fn rsa() -> Self {
        Signer::Rsa(Box::new(RsaKeyPair::generate(KeySize::Rsa2048).expect("a key")))
    }

    pub(super) fn ec() -> Self {
        Signer::Ec(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key"))
    }

    pub(super) fn ed() -> Self {
        Signer::Ed(Ed25519KeyPair::generate().expect("a key"))
    }

    pub(super) fn alg(&self) -> &'static str {
        match self {
            Signer::Shared(_) => "HS256",
            Signer::Rsa(_) => "RS256",
            Signer::Ec(_) => "ES256",
            Signer::Ed(_) => "EdDSA",
        }
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Signer::Shared(secret) => hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message).as_ref().to_vec(),
            Signer::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).expect("it signs");
                signature
            }
            Signer::Ec(pair) => pair.sign(&random, message).expect("it signs").as_ref().to_vec(),
            Signer::Ed(pair) => pair.sign(message).as_ref().to_vec(),
        }
    }

    /// Any header over any claims.
    pub(super) fn token(&self, header: &Value, claims: &Value) -> String {
        self.raw(header.to_string().as_bytes(), claims.to_string().as_bytes())
    }

    /// The same of any bytes.
    pub(super) fn raw(&self, header: &[u8], claims: &[u8]) -> String {
        let message = format!("{}.{}", part(header), part(claims));
        let signature = part(&self.sign(message.as_bytes()));
        format!("{message}.{signature}")
    }

    /// Under the name of a key.
    pub(super) fn named(&self, kid: &str, claims: &Value) -> String {
        self.token(&json!({ "alg": self.alg(), "typ": "JWT", "kid": kid }), claims)
    }

    /// As a key set publishes it; a shared secret too, which nobody should.
    pub(super) fn jwk(&self, kid: &str) -> Value {
        match self {
            Signer::Shared(secret) => json!({ "kty": "oct", "kid": kid, "alg": "HS256", "k": part(secret) }),
            Signer::Rsa(pair) => {
                let public = signature::KeyPair::public_key(&**pair);
                let (n, e) = (public.modulus(), public.exponent());
                json!({ "kty": "RSA", "kid": kid, "alg": "RS256", "use": "sig",
                    "n": part(n.big_endian_without_leading_zero()), "e": part(e.big_endian_without_leading_zero()) })
            }
            Signer::Ec(pair) => {
                let point = pair.public_key().as_ref();
                json!({ "kty": "EC", "crv": "P-256", "kid": kid, "alg": "ES256", "key_ops": ["verify"], "ext": true,
                    "x": part(&point[1..33]), "y": part(&point[33..]) })
            }
            Signer::Ed(pair) => {
                json!({ "kty": "OKP", "crv": "Ed25519", "kid": kid, "alg": "EdDSA", "x": part(pair.public_key().as_ref()) })
            }
        }
    }

    /// The public key's bytes, as an attacker would take them for a shared secret.
    pub(super) fn public(&self) -> Vec<u8> {
        match self {
            Signer::Shared(secret) => secret.clone(),
            Signer::Rsa(pair) => signature::KeyPair::public_key(&**pair).as_ref().to_vec(),
            Signer::Ec(pair) => pair.public_key().as_ref().to_vec(),
            Signer::Ed(pair) => pair.public_key().as_ref().to_vec(),
        }
    }
}
