//! One attempt: an account, an order, the authority's questions answered, and the certificate.

use std::fmt::Write as _;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::http::{Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use instant_acme::{
    Account, AccountCredentials, AuthorizationStatus, BodyWrapper, BytesResponse, ChallengeType, Error, HttpClient,
    Identifier, NewAccount, NewOrder, OrderStatus, Problem, RetryPolicy,
};
use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;

use super::{Held, Kept, on_disk};
use crate::config::AcmeSettings;
use crate::outbound::{Call, Outbound, Reach, TOTAL_MAX};

/// How often the authority is asked whether it has looked, and for how long.
const POLLING: RetryPolicy =
    RetryPolicy::new().initial_delay(Duration::from_millis(500)).backoff(1.5).timeout(Duration::from_secs(60));
/// Longest sentence of the authority that is passed on, in characters.
const WHY_CHARS_MAX: usize = 400;

/// Why there is no certificate.
#[derive(Debug)]
pub(super) struct Failed {
    /// A sentence without secrets.
    pub(super) why: String,
    /// The authority was asked too often.
    pub(super) is_limited: bool,
}

impl Failed {
    pub(super) fn new(why: impl Into<String>) -> Self {
        Failed { why: why.into(), is_limited: false }
    }
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        match error {
            Error::Api(problem) => {
                let is_limited = is(&problem, "rateLimited");
                Failed { why: format!("the authority says: {}", said(&problem)), is_limited }
            }
            error => Failed::new(plain(&error.to_string())),
        }
    }
}

fn broken(what: &str, error: impl std::fmt::Display) -> Failed {
    Failed::new(format!("{what}: {error}"))
}

/// Whether the problem is that of RFC 8555 §6.7.
fn is(problem: &Problem, word: &str) -> bool {
    problem.r#type.as_deref().is_some_and(|kind| kind.strip_prefix("urn:ietf:params:acme:error:") == Some(word))
}

/// The authority's own words, those about single names too.
fn said(problem: &Problem) -> String {
    let mut text = problem.detail.clone().or_else(|| problem.r#type.clone()).unwrap_or_else(|| "no reason".to_owned());
    for sub in &problem.subproblems {
        let _ = write!(text, "; {sub}");
    }
    plain(&text)
}

/// Bounded, and on one line.
fn plain(text: &str) -> String {
    text.chars().take(WHY_CHARS_MAX).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// What an attempt needs.
pub(super) struct Order<'a> {
    pub(super) settings: &'a AcmeSettings,
    pub(super) outbound: &'a Outbound,
    pub(super) kept: &'a Kept,
    pub(super) held: &'a Held,
}

impl Order<'_> {
    /// The certificate, its chain and its key, as PEM.
    pub(super) async fn run(&self) -> Result<String, Failed> {
        let account = self.account().await?;
        let identifiers: Vec<Identifier> = self.settings.domains.iter().cloned().map(Identifier::Dns).collect();
        let ordered = account.new_order(&NewOrder::new(&identifiers)).await;
        if let Err(Error::Api(problem)) = &ordered
            && is(problem, "accountDoesNotExist")
        {
            let kept = self.kept.clone();
            on_disk(move || kept.forget_account()).await.map_err(|error| broken("an account that is gone", error))?;
        }
        let mut order = ordered?;
        self.answer(&mut order).await?;
        match order.poll_ready(&POLLING).await {
            Ok(OrderStatus::Ready) => {}
            Ok(_) => return Err(refused(&mut order, None).await),
            Err(Error::Api(problem)) => return Err(refused(&mut order, Some(problem)).await),
            Err(error) => return Err(error.into()),
        }
        let cannot = |error| broken("a request for the certificate cannot be made", error);
        let key = KeyPair::generate().map_err(cannot)?;
        let mut params = CertificateParams::new(self.settings.domains.clone()).map_err(cannot)?;
        params.distinguished_name = DistinguishedName::new();
        order.finalize_csr(params.serialize_request(&key).map_err(cannot)?.der()).await?;
        let chain = order.poll_certificate(&POLLING).await?;
        Ok(format!("{}\n{}", chain.trim_end(), key.serialize_pem()))
    }

    /// The account that is kept, or a new one.
    async fn account(&self) -> Result<Account, Failed> {
        let client = || Account::builder_with_http(Box::new(Client(self.outbound.clone())));
        let kept = self.kept.clone();
        let text = on_disk(move || Ok(kept.account())).await.unwrap_or_default();
        let credentials = text.and_then(|text| serde_json::from_str::<AccountCredentials>(&text).ok());
        if let Some(credentials) = credentials {
            return Ok(client().from_credentials(credentials).await?);
        }
        let contact = format!("mailto:{}", self.settings.email);
        let contact: &[&str] = if self.settings.email.is_empty() { &[] } else { &[&contact] };
        let account =
            NewAccount { contact, terms_of_service_agreed: self.settings.accept_terms, only_return_existing: false };
        let (account, credentials) = client().create(&account, self.settings.directory.clone(), None).await?;
        let json = serde_json::to_string(&credentials).map_err(|error| broken("the account cannot be kept", error))?;
        let kept = self.kept.clone();
        on_disk(move || kept.write_account(&json))
            .await
            .map_err(|error| broken("the account cannot be kept", error))?;
        Ok(account)
    }

    /// Lets the authority ask for each name, and answers.
    async fn answer(&self, order: &mut instant_acme::Order) -> Result<(), Failed> {
        let mut answers = Vec::new();
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization?;
            match authorization.status {
                AuthorizationStatus::Pending => {}
                // It asked not long ago.
                AuthorizationStatus::Valid => continue,
                status => {
                    return Err(Failed::new(format!("the authority calls a name {status:?} before it has asked")));
                }
            }
            let Identifier::Dns(name) = authorization.identifier().identifier.clone() else {
                return Err(Failed::new("the authority asks for something else than a name"));
            };
            let Some(mut challenge) = authorization.challenge(ChallengeType::TlsAlpn01) else {
                return Err(Failed::new(format!(
                    "the authority does not ask by TLS-ALPN-01 for {name}, the one way there is here"
                )));
            };
            let key = proof(&name, challenge.key_authorization().digest().as_ref())
                .map_err(|why| broken("an answer to the authority cannot be made", why))?;
            answers.push((name.clone(), key));
            self.held.answer_challenges(answers.clone());
            challenge.set_ready().await.map_err(|error| match error {
                Error::Api(problem) => unsure(&name, &problem),
                error => error.into(),
            })?;
        }
        Ok(())
    }
}

/// Why no certificate is given: what was wrong with the answer for a name, or else what the order itself says.
async fn refused(order: &mut instant_acme::Order, problem: Option<Problem>) -> Failed {
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        let name = authorization.identifier().to_string();
        let Ok(state) = authorization.refresh().await else { continue };
        if let Some(problem) = state.challenges.iter().find_map(|challenge| challenge.error.as_ref()) {
            return unsure(&name, problem);
        }
    }
    let unsaid = || Failed::new("the authority could not make sure of a name, and does not say why");
    problem.map_or_else(unsaid, |problem| Error::Api(problem).into())
}

/// The authority asked for a name and did not get what it wanted.
fn unsure(name: &str, problem: &Problem) -> Failed {
    let why = said(problem);
    Failed {
        why: format!(
            "the authority could not make sure of {name}: {why} (it asks at port 443 of the address that the name leads to)"
        ),
        is_limited: is(problem, "rateLimited"),
    }
}

/// The certificate that answers for a name (RFC 8737 §3).
fn proof(name: &str, digest: &[u8]) -> Result<Arc<CertifiedKey>, String> {
    if digest.len() != 32 {
        return Err("no digest of SHA-256".to_owned());
    }
    let key = KeyPair::generate().map_err(|error| error.to_string())?;
    let mut params = CertificateParams::new([name.to_owned()]).map_err(|error| error.to_string())?;
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
    let certificate = params.self_signed(&key).map_err(|error| error.to_string())?;
    let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let signing = default_provider().key_provider.load_private_key(private).map_err(|error| error.to_string())?;
    // Whether both fit is not asked: no reader of ours takes the extension, which is critical.
    Ok(Arc::new(CertifiedKey::new(vec![certificate.der().clone()], signing)))
}

/// Our own calls, with their deadlines and bounds, for the library.
struct Client(Outbound);

impl HttpClient for Client {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let outbound = self.0.clone();
        Box::pin(async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await.unwrap_or_else(|never| match never {}).to_bytes();
            let method = match head.method {
                Method::GET => "GET",
                Method::HEAD => "HEAD",
                _ => "POST",
            };
            let jose = [("content-type".into(), "application/jose+json".to_owned())];
            let headers = jose.into_iter().filter(|_| method == "POST").collect();
            let (url, reach) = (head.uri.to_string(), Reach::Configured);
            let call = Call { method, url, headers, body: body.to_vec(), reach, deadline: TOTAL_MAX };
            let answer = outbound.call(call).await.map_err(|failed| Error::Other(failed.why.into()))?;
            if answer.is_cut {
                return Err(Error::Str("the end of the authority's answer"));
            }
            let mut response = Response::new(Full::new(Bytes::from(answer.body)));
            *response.status_mut() = axum::http::StatusCode::from_u16(answer.status).unwrap_or_default();
            *response.headers_mut() = answer.headers;
            Ok(BytesResponse::from(response))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_authority_says_is_bounded_and_plain() {
        let problem: Problem = serde_json::from_value(serde_json::json!({
            "type": "urn:ietf:params:acme:error:rateLimited",
            "detail": format!("too many\r\n\u{1b}[31m{}", "x".repeat(10_000)),
        }))
        .expect("a problem");
        let failed = Failed::from(Error::Api(problem));
        assert!(
            failed.is_limited && failed.why.starts_with("the authority says: too many   [31mxxx"),
            "{}",
            failed.why
        );
        assert!(failed.why.len() < WHY_CHARS_MAX + 50 && !failed.why.contains(char::is_control));
        let failed = Failed::from(Error::Str("nothing"));
        assert!(!failed.is_limited);
    }

    #[test]
    fn a_proof_is_for_one_name_and_has_the_digest() {
        let proof = proof("calls.school.example", &[7; 32]).expect("a proof");
        let certificate = proof.end_entity_cert().expect("one");
        // RFC 8737 §6.1: 1.3.6.1.5.5.7.1.31, critical, and the digest in an octet string of its own.
        let extension =
            [&[0x06, 8, 0x2b, 6, 1, 5, 5, 7, 1, 31, 0x01, 1, 0xff, 0x04, 34, 0x04, 32][..], &[7; 32]].concat();
        assert!(certificate.windows(extension.len()).any(|window| window == extension));
    }
}
