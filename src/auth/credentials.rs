//! What HTTP requests show: one `Authorization` header, and who that makes them.

use std::net::IpAddr;
use std::sync::Arc;

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use signaling::{Actor, Identity, Refused};

use super::Auth;
use super::token::{TOKEN_BYTES_MAX, expired, invalid, missing};

/// What stands in `Authorization`. It does not print itself.
pub(crate) enum Credentials {
    /// `Bearer`: a token, or the admin key.
    Bearer(String),
    /// `Basic`: id and secret.
    Basic(String, String),
}

impl Credentials {
    /// What a request shows; `None` if nothing. Two headers, another scheme and what cannot be read are `auth/invalid`.
    pub(crate) fn of(headers: &HeaderMap) -> Result<Option<Self>, Refused> {
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let Some(value) = values.next() else { return Ok(None) };
        let unreadable =
            || invalid("Send one Authorization header: Bearer with a token, or Basic with an API key pair.");
        let text = value.to_str().ok().filter(|text| text.len() <= TOKEN_BYTES_MAX + "Bearer ".len());
        let (scheme, rest) = text.and_then(|text| text.split_once(' ')).ok_or_else(unreadable)?;
        if values.next().is_some() {
            return Err(unreadable());
        }
        let rest = rest.trim_start();
        if scheme.eq_ignore_ascii_case("bearer") {
            return Ok(Some(Credentials::Bearer(rest.to_owned())));
        }
        let decoded = STANDARD.decode(rest).ok().filter(|_| scheme.eq_ignore_ascii_case("basic"));
        let text = decoded.and_then(|bytes| String::from_utf8(bytes).ok()).ok_or_else(unreadable)?;
        let (id, secret) = text.split_once(':').ok_or_else(unreadable)?;
        Ok(Some(Credentials::Basic(id.to_owned(), secret.to_owned())))
    }
}

impl Auth {
    /// Who asks the API: the operator by admin key, admin token or API key pair, or a member by a join token. In open mode this machine is
    /// the operator's.
    pub(crate) async fn actor(&self, headers: &HeaderMap, source: IpAddr, now_ms: u64) -> Result<Actor, Refused> {
        match Credentials::of(headers)? {
            Some(Credentials::Basic(id, secret)) if self.is_pair(&id, &secret) => Ok(Actor::Operator),
            Some(Credentials::Basic(..)) => Err(unknown_pair()),
            Some(Credentials::Bearer(text)) if self.is_admin(&text, now_ms) => Ok(Actor::Operator),
            Some(Credentials::Bearer(token)) => self.member(&token, now_ms).await.map(Actor::Member),
            None if !self.is_required() && source.to_canonical().is_loopback() => Ok(Actor::Operator),
            None => {
                Err(missing("Send the admin key or a token as Authorization: Bearer, or an API key pair as Basic."))
            }
        }
    }

    /// Who publishes or plays by WHIP and WHEP; `None` in open mode.
    pub(crate) async fn guest(&self, headers: &HeaderMap, now_ms: u64) -> Result<Option<Arc<Identity>>, Refused> {
        if !self.is_required() {
            return Ok(None);
        }
        match Credentials::of(headers)? {
            Some(Credentials::Bearer(token)) => self.member(&token, now_ms).await.map(Some),
            _ => Err(missing("Send a join token as Authorization: Bearer.")),
        }
    }

    /// Whom a join token names that is good now: there is no seat here that an old one could belong to.
    async fn member(&self, token: &str, now_ms: u64) -> Result<Arc<Identity>, Refused> {
        let identity = self.verify(token, now_ms).await?;
        if identity.is_expired { Err(expired()) } else { Ok(Arc::new(identity)) }
    }
}

/// The id or the secret is wrong; which one is not said.
pub(crate) fn unknown_pair() -> Refused {
    invalid("There is no such API key pair.")
}
