//! HTTPS, and TURN over TLS on the same port: for networks that let nothing but port 443 through.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use rustls::ServerConnection;
use tokio::io::AsyncBufReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::proxied::Proxies;
use super::{Deadlined, Open, Place, WRITE_TIMEOUT, accept, connection, linger};
use crate::seldom::Seldom;
use crate::tls::{ALPN_ACME, ALPN_STUN, ALPN_TURN, Certificates, HANDSHAKE_MAX};

/// Connections that are in their handshake. Further ones are closed at once.
const HANDSHAKES_MAX: usize = 4_096;
/// Those of one address: a school that joins at the full hour is one.
const HANDSHAKES_PER_ADDRESS_MAX: usize = 2_048;
/// The first byte of a STUN message is below this (RFC 8489 §5); HTTP begins with a letter.
const STUN_BELOW: u8 = 0x40;

/// Among a request's extensions where it came over TLS.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Encrypted;

/// Takes a TURN client over: its stream, where it comes from, and its TLS, behind the handshake and perhaps with something
/// received already, of which the kernel does not know any more.
pub(crate) type Adopt = Arc<dyn Fn(std::net::TcpStream, SocketAddr, Box<ServerConnection>) + Send + Sync>;

/// Serves pages over TLS until the task is dropped. TURN clients are given to `adopt`; without it they are closed.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    proxies: Proxies,
    certificates: Certificates,
    adopt: Option<Adopt>,
) {
    let handshakes = Open::new(HANDSHAKES_MAX, HANDSHAKES_PER_ADDRESS_MAX, proxies.clone());
    let router = router.layer(axum::Extension(Encrypted));
    accept(listener, proxies, |stream, source, place| {
        let Some(handshake) = Place::take(&handshakes, source.ip()) else {
            count(&certificates.counts().refused);
            static LINE: Seldom = Seldom::new();
            if let Some(more) = LINE.due() {
                tracing::warn!(address = %source.ip(), more, "closed at once: too many TLS handshakes, of one address or in all");
            }
            return;
        };
        let newcomer = Newcomer { stream, source, place, handshake };
        tokio::spawn(newcomer.welcome(router.clone(), certificates.clone(), adopt.clone()));
    })
    .await;
}

/// A connection before its handshake.
struct Newcomer {
    stream: TcpStream,
    source: SocketAddr,
    place: Place,
    handshake: Place,
}

impl Newcomer {
    async fn welcome(self, router: Router, certificates: Certificates, adopt: Option<Adopt>) {
        let Newcomer { stream, source, place, handshake } = self;
        let stream = Deadlined::new(stream, WRITE_TIMEOUT);
        let greeted = tokio::time::timeout(HANDSHAKE_MAX, greet(stream, &certificates)).await;
        drop(handshake);
        let Ok(Ok((tls, wants))) = greeted else {
            count(&certificates.counts().failed);
            return;
        };
        count(&certificates.counts().completed);
        match wants {
            Wants::Pages => return connection(tls, source, router, place).await,
            Wants::Proof => return linger(tls, Some(place)).await,
            Wants::Turn => {}
        }
        let (stream, tls) = tls.into_inner();
        // A stream that cannot be taken out of the runtime is closed.
        if let (Some(adopt), Ok(stream)) = (adopt, stream.into_stream().into_std()) {
            adopt(stream, source, Box::new(tls));
        }
    }
}

/// What a client wants.
enum Wants {
    Pages,
    Turn,
    /// An authority: the handshake was all.
    Proof,
}

/// The handshake, and what the client wants: by the name it chose, or else by how it begins, which stays unread.
async fn greet(stream: Deadlined, certificates: &Certificates) -> io::Result<(TlsStream<Deadlined>, Wants)> {
    let mut tls = TlsAcceptor::from(certificates.pages()).accept(stream).await?;
    if let Some(name) = tls.get_ref().1.alpn_protocol() {
        let wants = match name {
            ALPN_TURN | ALPN_STUN => Wants::Turn,
            ALPN_ACME => Wants::Proof,
            _ => Wants::Pages,
        };
        return Ok((tls, wants));
    }
    let first = tls.fill_buf().await?.first().copied();
    match first {
        Some(byte) if byte < STUN_BELOW => Ok((tls, Wants::Turn)),
        Some(byte) if byte.is_ascii_alphabetic() => Ok((tls, Wants::Pages)),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
