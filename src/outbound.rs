//! Calls that we make over HTTP: key sets, the authorisation hook, webhooks, certificates. Each has a deadline, reads a bounded answer, follows no
//! redirect, and connects only to an address that its policy lets through: the one that was checked, not another that
//! the name means a moment later.

mod target;

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::http::header::{CONTENT_LENGTH, HOST, RETRY_AFTER, USER_AGENT};
use axum::http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use turn_server::Prefix;

use self::target::Target;

/// Longest time to look a name up and connect, TLS included.
pub(crate) const CONNECT_MAX: Duration = Duration::from_secs(5);
/// Longest call from the first look-up to the last byte.
pub(crate) const TOTAL_MAX: Duration = Duration::from_secs(15);
/// Most bytes of an answer that are read; a longer one is a failure where the body matters, and cut where it does not.
pub(crate) const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// Most header lines of an answer; more end the call.
const HEADERS_MAX: usize = 64;
/// Bytes of an answer's head that are kept until it is whole; a longer one ends the call.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Addresses of a name that are tried, one after the other; further ones are not.
const ADDRESSES_MAX: usize = 4;

/// Where calls may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Wherever the operator's own setting says: a URL of the configuration.
    Configured,
    /// Public addresses only, and what the operator lists (`[webhooks] allow`): a URL that came by the API.
    Public,
}

/// One call.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    /// `GET`, `HEAD` or `POST`.
    pub(crate) method: &'static str,
    /// `http://…` or `https://…`.
    pub(crate) url: String,
    /// Further headers; no values are logged.
    pub(crate) headers: Vec<(Cow<'static, str>, String)>,
    /// The body.
    pub(crate) body: Vec<u8>,
    /// Where it may go.
    pub(crate) reach: Reach,
    /// Longest time in all, at most [`TOTAL_MAX`].
    pub(crate) deadline: Duration,
}

/// What came back.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    /// The status code.
    pub(crate) status: u16,
    /// All headers.
    pub(crate) headers: HeaderMap,
    /// `Retry-After` in seconds, if it was a number.
    pub(crate) retry_after_s: Option<u64>,
    /// At most [`ANSWER_BYTES_MAX`] of the body.
    pub(crate) body: Vec<u8>,
    /// The body was longer, or did not come whole.
    pub(crate) is_cut: bool,
}

/// Why a call got no answer: a stable word, and a sentence without secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CallFailed {
    /// `url`, `forbidden`, `dns`, `connect`, `tls`, `timeout`, `protocol`.
    pub(crate) word: &'static str,
    /// What to do about it.
    pub(crate) why: String,
}

/// Whether a URL can be called at all. Where it leads is seen only when it is called.
pub(crate) fn check(url: &str) -> Result<(), CallFailed> {
    Target::parse(url).map(|_| ())
}

/// The same of a URL that came by the API: an address in it must be public or in `allow`. A name is looked up at each call.
pub(crate) fn check_public(url: &str, allow: &[Prefix]) -> Result<(), CallFailed> {
    let target = Target::parse(url)?;
    match target.host.parse() {
        Ok(ip) if !target::is_public(ip, allow) => Err(not_public(&target.host)),
        _ => Ok(()),
    }
}

fn not_public(host: &str) -> CallFailed {
    let why = "leads to an address that is not public; the operator may list it in [webhooks] allow.";
    failed("forbidden", format!("{host} {why}"))
}

fn failed(word: &'static str, why: impl Into<String>) -> CallFailed {
    CallFailed { word, why: why.into() }
}

/// Makes calls. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Outbound {
    tls: TlsConnector,
    allow: Arc<[Prefix]>,
}

impl Outbound {
    /// With the system's certificate authorities (`SSL_CERT_FILE` and `SSL_CERT_DIR` are looked at). `allow` may be reached by
    /// [`Reach::Public`] as well.
    pub(crate) fn new(allow: &[Prefix]) -> Self {
        let mut roots = RootCertStore::empty();
        // An authority that cannot be read is one that nothing is trusted by; without any, https fails with a sentence.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .expect("the provider has suites for both versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Outbound { tls: Arc::new(config).into(), allow: allow.into() }
    }

    /// Makes a call. Whatever status comes back is an answer, a redirect too.
    pub(crate) async fn call(&self, call: Call) -> Result<Answer, CallFailed> {
        let target = Target::parse(&call.url)?;
        let deadline = call.deadline.min(TOTAL_MAX);
        let late = || failed("timeout", format!("{} did not answer within {} s.", target.host, deadline.as_secs_f32()));
        tokio::time::timeout(deadline, self.exchange(&target, call)).await.unwrap_or_else(|_| Err(late()))
    }

    async fn exchange(&self, target: &Target, call: Call) -> Result<Answer, CallFailed> {
        let late =
            || failed("timeout", format!("{} could not be reached within {} s.", target.host, CONNECT_MAX.as_secs()));
        let connect = async {
            let tcp = self.connect(target, call.reach).await?;
            if !target.is_tls {
                return Ok(Stream::Plain(tcp));
            }
            let name = ServerName::try_from(target.host.clone())
                .map_err(|_| failed("url", format!("{} is no name that a certificate can be for.", target.host)))?;
            let tls = self.tls.connect(name, tcp).await;
            tls.map(|tls| Stream::Secure(Box::new(tls)))
                .map_err(|error| failed("tls", format!("{}: {error}", target.host)))
        };
        match tokio::time::timeout(CONNECT_MAX, connect).await.unwrap_or_else(|_| Err(late()))? {
            Stream::Plain(tcp) => ask(tcp, target, call).await,
            Stream::Secure(tls) => ask(*tls, target, call).await,
        }
    }

    /// Looks the name up once, and connects to an address that was checked.
    async fn connect(&self, target: &Target, reach: Reach) -> Result<TcpStream, CallFailed> {
        let found: Vec<SocketAddr> = tokio::net::lookup_host((target.host.as_str(), target.port))
            .await
            .map_err(|_| failed("dns", format!("The name {} cannot be found.", target.host)))?
            .take(ADDRESSES_MAX)
            .collect();
        if reach == Reach::Public && found.iter().any(|it| !target::is_public(it.ip(), &self.allow)) {
            return Err(not_public(&target.host));
        }
        let mut why = failed("dns", format!("The name {} has no address.", target.host));
        for address in found {
            match TcpStream::connect(address).await {
                Ok(tcp) => return Ok(tcp),
                Err(error) => why = failed("connect", format!("{} refused the connection: {error}", target.host)),
            }
        }
        Err(why)
    }
}

enum Stream {
    Plain(TcpStream),
    Secure(Box<tokio_rustls::client::TlsStream<TcpStream>>),
}

/// One request over a fresh connection, which ends with it.
async fn ask<S>(stream: S, target: &Target, call: Call) -> Result<Answer, CallFailed>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let broken = |error: hyper::Error| failed("protocol", format!("{}: {error}", target.host));
    let (mut sender, connection) = http1::Builder::new()
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .handshake::<_, Full<Bytes>>(TokioIo::new(stream))
        .await
        .map_err(broken)?;
    let mut request = Request::builder()
        .method(call.method)
        .uri(&target.path)
        .header(HOST, &target.authority)
        .header(USER_AGENT, concat!("lyceum/", env!("CARGO_PKG_VERSION")))
        .header(CONTENT_LENGTH, call.body.len());
    for (name, value) in &call.headers {
        request = request.header(&**name, value);
    }
    let request = request
        .body(Full::new(Bytes::from(call.body)))
        .map_err(|_| failed("url", "The URL or a header has characters that HTTP does not take."))?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(broken)?;
        Ok(read(response).await)
    };
    // The connection is driven here and nowhere else, so that nothing of the call outlives it. When it ends, the exchange
    // knows, and takes what has come.
    tokio::pin!(connection, exchange);
    let mut is_open = true;
    loop {
        tokio::select! {
            biased;
            answer = &mut exchange => return answer,
            _ = &mut connection, if is_open => is_open = false,
        }
    }
}

/// The head, and of the body as much as is taken.
async fn read(response: Response<Incoming>) -> Answer {
    let (head, mut incoming) = response.into_parts();
    let (mut body, mut is_cut) = (Vec::new(), false);
    while let Some(frame) = incoming.frame().await {
        let Ok(frame) = frame else {
            is_cut = true;
            break;
        };
        let Ok(data) = frame.into_data() else { continue };
        let room = ANSWER_BYTES_MAX - body.len();
        body.extend_from_slice(&data[..data.len().min(room)]);
        if data.len() > room {
            is_cut = true;
            break;
        }
    }
    let retry_after_s = retry_after(&head.headers);
    Answer { status: head.status.as_u16(), headers: head.headers, retry_after_s, body, is_cut }
}

fn retry_after(headers: &HeaderMap) -> Option<u64> {
    headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests;
