//! Connections to a server's HTTP port: TCP, or TLS over it for `https://`.

use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;

/// A connection.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Whose certificates are believed.
#[derive(Clone, Debug, Default)]
pub struct Trust(Option<Arc<ClientConfig>>);

impl Trust {
    /// Those that the certificates of a PEM file vouch for; without one, those of the machine's store. `anybody`: all.
    ///
    /// # Errors
    /// A sentence that says what is wrong with the file.
    pub fn new(authorities: Option<&Path>, anybody: bool) -> Result<Trust, String> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone());
        let builder = builder.with_safe_default_protocol_versions().map_err(|error| error.to_string())?;
        if anybody {
            let verifier = Arc::new(Anybody(provider));
            return Ok(Trust(Some(Arc::new(
                builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth(),
            ))));
        }
        let mut roots = RootCertStore::empty();
        match authorities {
            Some(path) => {
                let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
                for certificate in CertificateDer::pem_file_iter(path).map_err(|error| failed(&error))? {
                    roots.add(certificate.map_err(|error| failed(&error))?).map_err(|error| failed(&error))?;
                }
                if roots.is_empty() {
                    return Err(failed(&"there is no certificate in it"));
                }
            }
            None => _ = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs),
        }
        if roots.is_empty() {
            // Nobody can be believed then; whoever calls nobody by TLS need not know.
            return Ok(Trust(None));
        }
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
        let verifier = verifier.map_err(|error| error.to_string())?;
        Ok(Trust(Some(Arc::new(builder.with_webpki_verifier(verifier).with_no_client_auth()))))
    }
}

/// `scheme://host:port` of a URL, and what follows.
///
/// # Errors
/// If it is neither `http://` nor `https://`.
pub(crate) fn split(url: &str) -> io::Result<(bool, &str, &str)> {
    let (is_tls, rest) = match (url.strip_prefix("http://"), url.strip_prefix("https://")) {
        (Some(rest), _) => (false, rest),
        (_, Some(rest)) => (true, rest),
        _ => return Err(io::Error::new(io::ErrorKind::InvalidInput, "the URL must begin with http:// or https://")),
    };
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    Ok((is_tls, authority, path))
}

/// Connects to what a URL names, from an address of ours if one is given.
pub(crate) async fn connect(url: &str, source: Option<IpAddr>, trust: &Trust) -> io::Result<Box<dyn Stream>> {
    let (is_tls, authority, _) = split(url)?;
    let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    let named = if has_port { authority.to_owned() } else { format!("{authority}:{}", if is_tls { 443 } else { 80 }) };
    let stream = match source {
        Some(source) => {
            let to = tokio::net::lookup_host(&named).await?.find(|to| to.is_ipv4() == source.is_ipv4());
            let to = to.ok_or(io::ErrorKind::AddrNotAvailable)?;
            let socket = if source.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
            socket.bind((source, 0).into())?;
            socket.connect(to).await?
        }
        None => TcpStream::connect(&named).await?,
    };
    stream.set_nodelay(true)?;
    if !is_tls {
        return Ok(Box::new(stream));
    }
    let Trust(Some(config)) = trust else {
        return Err(io::Error::other("no certificate is believed here: name one by --ca, or --insecure"));
    };
    let host = named.rsplit_once(':').map_or(&*named, |(host, _)| host).trim_matches(['[', ']']);
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    Ok(Box::new(TlsConnector::from(config.clone()).connect(name, stream).await?))
}

/// Believes every certificate, for servers on trial; signatures are checked all the same.
#[derive(Debug)]
pub struct Anybody(
    /// Whose algorithms are checked.
    pub Arc<rustls::crypto::CryptoProvider>,
);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_split() {
        let split = |url| split(url).map_err(|error| error.to_string());
        assert_eq!(split("http://a:1/b/c"), Ok((false, "a:1", "b/c")));
        assert_eq!(split("https://a"), Ok((true, "a", "")));
        assert!(split("ws://a").is_err_and(|why| why.contains("https://")));
    }
}
