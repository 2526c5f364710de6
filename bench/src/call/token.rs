//! Join tokens that the tester signs itself (docs/protocol.md, Tokens).

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;

/// What signs: the server's secret, or an API key pair.
#[derive(Clone)]
pub struct Signer {
    id: Option<String>,
    secret: Vec<u8>,
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(signer)")
    }
}

impl Signer {
    /// The secret that the server shares with its application.
    pub fn secret(secret: &str) -> Signer {
        Signer { id: None, secret: secret.as_bytes().to_vec() }
    }

    /// An API key pair, `id:secret`.
    ///
    /// # Errors
    /// If it is no pair; nothing of it is repeated.
    pub fn api_key(pair: &str) -> Result<Signer, String> {
        let (id, secret) = pair.split_once(':').ok_or("expected an API key pair, id:secret")?;
        Ok(Signer { id: Some(id.to_owned()), secret: secret.as_bytes().to_vec() })
    }

    /// A token for one user and one session, good until `expires_s` (Unix seconds).
    pub fn token(&self, session: &str, user: &str, instructor: bool, expires_s: u64) -> String {
        let mut header = json!({ "alg": "HS256", "typ": "JWT" });
        if let Some(id) = &self.id {
            header["kid"] = json!(id);
        }
        let role = if instructor { "instructor" } else { "participant" };
        let claims =
            json!({ "aud": "lyceum", "sub": user, "name": user, "sessionId": session, "role": role, "exp": expires_s });
        let part = |value: &serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(&header), part(&claims));
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &self.secret), signed.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag))
    }
}
