//! The two files: read, understood, and refused in words that help.

use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys};

use super::x509::{self, Facts};

/// Longest file taken: a chain has a few certificates of some kilobytes. A longer one is refused.
const FILE_BYTES_MAX: u64 = 256 * 1024;

/// Where certificate and key are.
#[derive(Debug)]
pub(super) struct Files {
    certificate: PathBuf,
    key: PathBuf,
    provider: Arc<CryptoProvider>,
}

/// What stands in them.
pub(super) struct Texts {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

/// A certificate that can be served.
#[derive(Clone, Debug)]
pub(super) struct Loaded {
    pub(super) key: Arc<CertifiedKey>,
    pub(super) facts: Facts,
    /// Of the texts it came from.
    pub(super) mark: u64,
}

impl Texts {
    /// The same for the same texts; others have another but for one case in 2^64. Times of files would not do: a secret that
    /// Kubernetes swaps under a symbolic link may bring an older file.
    pub(super) fn mark(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        (&self.certificate, &self.key).hash(&mut hasher);
        hasher.finish()
    }
}

impl Files {
    pub(super) fn new(certificate: &Path, key: &Path, provider: Arc<CryptoProvider>) -> Self {
        Files { certificate: certificate.to_owned(), key: key.to_owned(), provider }
    }

    /// Both texts, or a sentence about the file that cannot be read.
    pub(super) fn read(&self) -> Result<Texts, String> {
        let text = |path: &Path, setting: &str| {
            read(path).map_err(|error| {
                let shown = path.display();
                match error.kind() {
                    io::ErrorKind::NotFound => format!("{setting} names {shown}, and there is no such file"),
                    io::ErrorKind::PermissionDenied => format!(
                        "{setting} names {shown}, which lyceum may not read; give its user the right, or a copy of the file"
                    ),
                    _ => format!("{setting} names {shown}, which cannot be read: {error}"),
                }
            })
        };
        Ok(Texts { certificate: text(&self.certificate, "[tls] certificate")?, key: text(&self.key, "[tls] key")? })
    }

    /// What the texts hold, or a sentence about what is wrong with them. `now_s` is unix s.
    pub(super) fn load(&self, texts: &Texts, now_s: i64) -> Result<Loaded, String> {
        let (certificate, key) = (self.certificate.display(), self.key.display());
        let chain =
            chain(&texts.certificate).map_err(|wrong| format!("the [tls] certificate {certificate} {wrong}"))?;
        let facts = chain.first().and_then(|first| x509::read(first));
        let facts = facts.ok_or_else(|| {
            format!("the first certificate in {certificate} ([tls] certificate) cannot be understood")
        })?;
        let private = private_key(&texts.key, &self.key).map_err(|wrong| format!("the [tls] key {key} {wrong}"))?;
        let certified = CertifiedKey::from_der(chain, private, &self.provider).map_err(|error| match error {
            Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => format!(
                "the [tls] key {key} does not belong to the first certificate in {certificate}; take both from one issue, and put the server's certificate before those of its chain"
            ),
            Error::InvalidCertificate(error) => {
                format!("the first certificate in {certificate} ([tls] certificate) cannot be understood: {error:?}")
            }
            error => format!("the [tls] key {key} cannot be used: {error}; expected RSA of 2,048 bits or more, ECDSA or Ed25519"),
        })?;
        if now_s > *facts.validity.end() {
            let day = x509::day(*facts.validity.end());
            return Err(format!(
                "the [tls] certificate {certificate} has expired on {day}; renew it, for example with certbot renew"
            ));
        }
        if now_s < *facts.validity.start() {
            let day = x509::day(*facts.validity.start());
            return Err(format!(
                "the [tls] certificate {certificate} begins to be valid on {day} only; is the clock of this machine right?"
            ));
        }
        Ok(Loaded { key: Arc::new(certified), facts, mark: texts.mark() })
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut text)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it has more than {FILE_BYTES_MAX} bytes")));
    }
    Ok(text)
}

/// All certificates of a PEM file, at least one.
fn chain(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
    match chain {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        Ok(_) => Err("has no certificate in it; expected PEM, -----BEGIN CERTIFICATE-----, the server's own before those of its chain".to_owned()),
        Err(error) => Err(broken(&error)),
    }
}

/// The first private key of a PEM file.
fn private_key(text: &[u8], path: &Path) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_slice(text).map_err(|error| match error {
        pem::Error::NoItemsFound if String::from_utf8_lossy(text).contains("BEGIN ENCRYPTED PRIVATE KEY") => {
            format!("is encrypted; write it without a passphrase: openssl pkey -in {} -out FILE", path.display())
        }
        pem::Error::NoItemsFound => {
            "has no private key in it; expected PEM, -----BEGIN PRIVATE KEY-----, as certbot's privkey.pem".to_owned()
        }
        error => broken(&error),
    })
}

/// Nothing of the text is repeated: it may be a key.
fn broken(error: &pem::Error) -> String {
    match error {
        pem::Error::MissingSectionEnd { .. } => "is cut off: an -----END line is missing".to_owned(),
        _ => "is broken PEM".to_owned(),
    }
}
