//! Calls that we make over HTTP: key sets, the authorisation hook, webhooks. Each has a deadline, reads a bounded answer, follows no
//! redirect, and connects only to an address that its policy lets through: the one that was checked, not another that
//! the name means a moment later.

use std::sync::Arc;
use std::time::Duration;

/// Longest time to connect, TLS included.
pub(crate) const CONNECT_MAX: Duration = Duration::from_secs(5);
/// Longest call from the first look-up to the last byte.
pub(crate) const TOTAL_MAX: Duration = Duration::from_secs(15);
/// Most bytes of an answer that are read; a longer one is a failure where the body matters, and cut where it does not.
pub(crate) const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Where calls may go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Wherever the operator's own setting says: a URL of the configuration.
    Configured,
    /// Public addresses only, and what the operator lists (`[webhooks] allow`): a URL that came by the API.
    Public,
}

/// One call.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    /// `GET` or `POST`.
    pub(crate) method: &'static str,
    /// `http://…` or `https://…`.
    pub(crate) url: String,
    /// Further headers; no values are logged.
    pub(crate) headers: Vec<(&'static str, String)>,
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
    /// `Retry-After` in seconds, if it was a number.
    pub(crate) retry_after_s: Option<u64>,
    /// At most [`ANSWER_BYTES_MAX`] of the body.
    pub(crate) body: Vec<u8>,
    /// The body was longer.
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

/// Makes calls. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Outbound {
    inner: Arc<()>,
}

impl Outbound {
    /// With the system's certificate authorities (`SSL_CERT_FILE`, `SSL_CERT_DIR` are looked at).
    pub(crate) fn new() -> Self {
        Outbound { inner: Arc::new(()) }
    }

    /// Makes a call.
    pub(crate) async fn call(&self, call: Call) -> Result<Answer, CallFailed> {
        let _ = (&self.inner, call);
        Err(CallFailed { word: "protocol", why: "No calls are made yet.".to_owned() })
    }
}
