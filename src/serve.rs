//! HTTP/1.1 connections: accepted, counted, and ended when they are slow (ABUSE E8).

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Sleep;
use tower_service::Service;

use crate::error::Failure;
use crate::socketio::Source;

/// Connections of one listener. Further ones are closed at once.
const CONNECTIONS_MAX: usize = 16_384;
/// Connections from one address: generous, because a school or a proxy is one address.
const CONNECTIONS_PER_ADDRESS_MAX: usize = 8_192;
/// A request's head must be complete, and an idle connection's next one must begin, within this.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// A peer that takes nothing for this long is gone. Without it a client that never reads would keep its session for as
/// long as TCP does: the websocket writer waits in its write and does not see that the session was closed.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// Most bytes of a request's head; more is answered 431.
const HEADER_BYTES_MAX: usize = 32 * 1024;
/// Most headers of a request; more are answered 431.
const HEADERS_MAX: usize = 100;
/// How long to wait when accepting fails, which it does when file descriptors run out.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Binds a listener; `choose` ends the sentence that a taken port is refused with.
pub(crate) fn listen(address: SocketAddr, choose: &'static str) -> Result<TcpListener, Failure> {
    let bind = || {
        let listener = std::net::TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        TcpListener::from_std(listener)
    };
    bind().map_err(|error| Failure::Bind { address: address.to_string(), port: address.port(), choose, error })
}

/// Serves until the task is dropped.
pub(crate) async fn serve(listener: TcpListener, router: Router) {
    let open = Arc::new(Open::default());
    loop {
        let (stream, source) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(_) => {
                tokio::time::sleep(ACCEPT_RETRY).await;
                continue;
            }
        };
        if let Some(place) = Place::take(&open, source.ip()) {
            // Small messages are latency, not bandwidth.
            let _ = stream.set_nodelay(true);
            tokio::spawn(connection(stream, source, router.clone(), place));
        }
    }
}

async fn connection(stream: TcpStream, source: SocketAddr, router: Router, place: Place) {
    // An upgraded connection outlives hyper's: the place goes with the stream.
    let io = TokioIo::new(Deadlined { stream, timeout: WRITE_TIMEOUT, stalled: None, _place: Some(place) });
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(Source::new(source));
        let answer = router.clone().call(request);
        async move { Ok::<_, Infallible>(answer.await.unwrap_or_else(|never| match never {})) }
    });
    // An error is a client that broke the protocol or left: nothing to do about it.
    let _ = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_header_size(HEADER_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .serve_connection(io, service)
        .with_upgrades()
        .await;
}

/// Open connections by address.
#[derive(Debug, Default)]
struct Open {
    by_address: Mutex<(usize, HashMap<IpAddr, usize>)>,
}

/// One connection's place among them, given back when dropped.
#[derive(Debug)]
struct Place {
    open: Arc<Open>,
    address: IpAddr,
}

impl Place {
    fn take(open: &Arc<Open>, address: IpAddr) -> Option<Self> {
        let mut guard = open.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        let (all, by_address) = &mut *guard;
        let here = by_address.get(&address).copied().unwrap_or(0);
        if *all >= CONNECTIONS_MAX || here >= CONNECTIONS_PER_ADDRESS_MAX {
            return None;
        }
        *all += 1;
        by_address.insert(address, here + 1);
        Some(Place { open: open.clone(), address })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut guard = self.open.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        let (all, by_address) = &mut *guard;
        *all -= 1;
        if let Some(here) = by_address.get_mut(&self.address) {
            *here -= 1;
            if *here == 0 {
                by_address.remove(&self.address);
            }
        }
    }
}

/// A TCP stream whose writes fail when the peer takes nothing for `timeout`.
struct Deadlined {
    stream: TcpStream,
    timeout: Duration,
    stalled: Option<Pin<Box<Sleep>>>,
    _place: Option<Place>,
}

impl Deadlined {
    fn progressed(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(self.timeout)));
        ready!(stalled.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Deadlined {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Deadlined {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.progressed(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.progressed(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;

    #[tokio::test]
    async fn a_peer_that_never_reads_ends_the_write() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let peer = TcpStream::connect(listener.local_addr().expect("bound")).await.expect("it listens");
        let (stream, _) = listener.accept().await.expect("it connects");
        let mut stream = Deadlined { stream, timeout: Duration::from_millis(100), stalled: None, _place: None };
        let everything = vec![0; 64 << 20];
        let error = stream.write_all(&everything).await.expect_err("nobody reads");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        drop(peer);
    }

    #[test]
    fn places_come_back() {
        let open = Arc::new(Open::default());
        let address = IpAddr::from([127, 0, 0, 1]);
        let held: Vec<_> = (0..CONNECTIONS_PER_ADDRESS_MAX).map(|_| Place::take(&open, address)).collect();
        assert!(held.iter().all(Option::is_some));
        assert!(Place::take(&open, address).is_none());
        assert!(Place::take(&open, IpAddr::from([127, 0, 0, 2])).is_some());
        drop(held);
        let guard = open.by_address.lock().expect("nobody panicked");
        assert_eq!((guard.0, guard.1.len()), (0, 0));
    }
}
