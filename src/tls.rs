//! The operator's certificate: HTTPS and TURN over TLS speak with it, and its files may be replaced while they do.

mod acme;
mod files;
mod x509;

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{Ticketer, default_provider};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{ServerConfig, ServerConnection};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::clock;
use crate::error::Failure;
use files::{Files, Loaded};

pub(crate) use acme::{ALPN_ACME, Acme, Kept};

/// The ALPN name of TURN (RFC 7443 §3).
pub(crate) const ALPN_TURN: &[u8] = b"stun.turn";
/// The ALPN name of STUN alone (RFC 7443 §3), which TURN clients may speak before they allocate.
pub(crate) const ALPN_STUN: &[u8] = b"stun.nat-discovery";
/// HTTP/1.1 alone: websockets need it, and there is little else.
const ALPN_HTTP: &[u8] = b"http/1.1";
/// A handshake that takes longer ends its connection.
pub(crate) const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// How often the files are read. They are small; whoever cannot wait sends `SIGHUP`.
const LOOK_EVERY: Duration = Duration::from_secs(3);

/// The certificate and what is spoken with it. Clones share it.
#[derive(Clone)]
pub(crate) struct Certificates {
    files: Arc<Files>,
    held: Arc<Held>,
    pages: Arc<ServerConfig>,
    turn: Arc<ServerConfig>,
    /// What the certificate is for, where it may not be there yet.
    wanted: Option<Arc<str>>,
}

/// Counted since start.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Handshakes completed, of pages and TURN.
    pub(crate) completed: AtomicU64,
    /// Handshakes that failed or took too long.
    pub(crate) failed: AtomicU64,
    /// Connections closed before their handshake, because too many were in theirs.
    pub(crate) refused: AtomicU64,
    /// Certificates taken from files that had changed.
    pub(crate) reloads: AtomicU64,
    /// Changed files that were not taken.
    pub(crate) reload_failures: AtomicU64,
}

/// The certificate that handshakes get from now on.
#[derive(Debug)]
struct Held {
    /// `None`: the one that the server gets by itself is not there yet.
    loaded: RwLock<Option<Loaded>>,
    /// What the authority gets that asks for a name; at most one for each that is ordered.
    challenges: RwLock<Vec<(String, Arc<CertifiedKey>)>>,
    /// Why the last attempt to get one failed, or its files cannot be taken.
    trouble: RwLock<Option<String>>,
    counts: Counts,
}

impl Held {
    fn new(loaded: Option<Loaded>) -> Arc<Self> {
        Arc::new(Held {
            loaded: RwLock::new(loaded),
            challenges: RwLock::default(),
            trouble: RwLock::default(),
            counts: Counts::default(),
        })
    }

    fn loaded(&self) -> Option<Loaded> {
        self.loaded.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ResolvesServerCert for Held {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let mut protocols = hello.alpn().into_iter().flatten();
        // RFC 8737 §3: the authority names this protocol alone. Behind such a handshake nothing is served.
        if protocols.next() == Some(ALPN_ACME) && protocols.next().is_none() {
            return self.challenge(hello.server_name());
        }
        self.loaded().map(|loaded| loaded.key)
    }
}

impl Certificates {
    /// Reads both files. The error says which of them is wrong, how, and what to do.
    pub(crate) fn load(certificate: &Path, key: &Path) -> Result<Self, Failure> {
        let provider = Arc::new(default_provider());
        let files = Files::new(certificate, key, provider.clone());
        let loaded = files.read().and_then(|texts| files.load(&texts, now_s())).map_err(Failure::Setting)?;
        Self::serve(files, Held::new(Some(loaded)), provider, None)
    }

    /// The one that the server gets by itself for `domain` and others, as it was kept; until there is one, handshakes fail.
    pub(crate) fn kept(kept: &Kept, domain: &str) -> Result<Self, Failure> {
        let provider = Arc::new(default_provider());
        let files = Files::new(kept.certificate(), kept.certificate(), provider.clone());
        // One that cannot be served any more is as good as none.
        let loaded = files.read().and_then(|texts| files.load(&texts, now_s())).ok();
        Self::serve(files, Held::new(loaded), provider, Some(domain.into()))
    }

    fn serve(
        files: Files,
        held: Arc<Held>,
        provider: Arc<CryptoProvider>,
        wanted: Option<Arc<str>>,
    ) -> Result<Self, Failure> {
        let config = |protocols: &[&[u8]]| {
            configure(&provider, held.clone(), protocols)
                .map_err(|error| Failure::Broken(format!("cannot set up TLS: {error}")))
        };
        let mut protocols = vec![ALPN_HTTP, ALPN_TURN, ALPN_STUN];
        protocols.extend(wanted.as_ref().map(|_| ALPN_ACME));
        let pages = config(&protocols)?;
        let turn = config(&[ALPN_TURN, ALPN_STUN])?;
        Ok(Certificates { files: Arc::new(files), held, pages, turn, wanted })
    }

    /// What HTTPS speaks, on a port that takes TURN too.
    pub(crate) fn pages(&self) -> Arc<ServerConfig> {
        self.pages.clone()
    }

    /// A new connection to the TURN port, before its handshake.
    pub(crate) fn turn_session(&self) -> Box<ServerConnection> {
        let session = ServerConnection::new(self.turn.clone());
        Box::new(session.expect("nothing but the length of fragments is checked, and we set none"))
    }

    /// When the certificate ends, unix s; 0 while there is none.
    pub(crate) fn ends_s(&self) -> i64 {
        self.held.loaded().map_or(0, |loaded| *loaded.facts.validity.end())
    }

    /// Why another certificate is not taken from the files, or could not be had; `None`: there is no trouble.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.held.trouble.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The day on which the certificate ends, such as `2026-12-31`.
    pub(crate) fn last_day(&self) -> String {
        x509::day(self.ends_s())
    }

    /// The first host that the certificate names; none if it names addresses or `*.` alone.
    pub(crate) fn name(&self) -> Option<String> {
        let wanted = || self.wanted.as_deref().map(str::to_owned);
        self.held.loaded().map_or_else(wanted, |loaded| loaded.facts.name)
    }

    fn set_trouble(&self, why: Option<String>) {
        *self.held.trouble.write().unwrap_or_else(PoisonError::into_inner) = why;
    }

    /// What was counted.
    pub(crate) fn counts(&self) -> &Counts {
        &self.held.counts
    }
}

fn configure(
    provider: &Arc<CryptoProvider>,
    held: Arc<Held>,
    protocols: &[&[u8]],
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let builder = ServerConfig::builder_with_provider(provider.clone()).with_protocol_versions(&[&TLS13, &TLS12])?;
    let mut config = builder.with_no_client_auth().with_cert_resolver(held);
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    // Clients that come back resume without a signature, and the memory of it is theirs.
    config.ticketer = Ticketer::new()?;
    Ok(Arc::new(config))
}

/// The last second of a DER certificate, Unix s; `None` if it is none.
pub(crate) fn last_second(certificate: &[u8]) -> Option<i64> {
    x509::read(certificate).map(|facts| *facts.validity.end())
}

fn now_s() -> i64 {
    i64::try_from(clock::now().unix_ms / 1_000).unwrap_or(i64::MAX)
}

/// What looks after the files.
pub(crate) struct Watch {
    certificates: Certificates,
    hangup: Signal,
    /// What was wrong at the last look, and whether it was said.
    trouble: Option<(String, bool)>,
}

impl Watch {
    /// From now on `SIGHUP` means to look at once, and ends the process no more.
    pub(crate) fn new(certificates: Certificates) -> io::Result<Self> {
        Ok(Watch { certificates, hangup: signal(SignalKind::hangup())?, trouble: None })
    }

    /// Looks after the files until it is dropped.
    pub(crate) async fn run(mut self) {
        loop {
            let told = tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => false,
                _ = self.hangup.recv() => true,
            };
            let certificates = self.certificates.clone();
            // Files may lie on a disk that does not answer.
            let Ok(found) = tokio::task::spawn_blocking(move || certificates.look()).await else { return };
            self.report(found, told);
        }
    }

    /// What is wrong is said when it is wrong at two looks, so not of a file that was just being written, and said once; or
    /// at once to whoever asked.
    fn report(&mut self, found: Result<bool, String>, told: bool) {
        let counts = self.certificates.counts();
        match found {
            Ok(taken) => {
                self.trouble = None;
                self.certificates.set_trouble(None);
                if taken {
                    counts.reloads.fetch_add(1, Ordering::Relaxed);
                    tracing::info!(until = self.certificates.last_day(), "new certificate");
                } else if told {
                    tracing::info!(until = self.certificates.last_day(), "the certificate has not changed");
                }
            }
            Err(wrong) => {
                let (again, said) = match &self.trouble {
                    Some((before, said)) if *before == wrong => (true, *said),
                    _ => (false, false),
                };
                let say = told || again && !said;
                if say {
                    self.certificates.set_trouble(Some(wrong.clone()));
                    counts.reload_failures.fetch_add(1, Ordering::Relaxed);
                    tracing::warn!(
                        "{wrong}; the certificate from before stays, until {}",
                        self.certificates.last_day()
                    );
                }
                self.trouble = Some((wrong, said || say));
            }
        }
    }
}

impl Certificates {
    /// Takes the files if they have changed; whether they had.
    fn look(&self) -> Result<bool, String> {
        let texts = self.files.read()?;
        if self.held.loaded().is_some_and(|loaded| loaded.mark == texts.mark()) {
            return Ok(false);
        }
        let loaded = self.files.load(&texts, now_s())?;
        *self.held.loaded.write().unwrap_or_else(PoisonError::into_inner) = Some(loaded);
        Ok(true)
    }
}

#[cfg(test)]
pub(crate) mod tests;
