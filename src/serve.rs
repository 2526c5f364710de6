//! HTTP/1.1 connections: accepted, counted, and ended when they are slow.

pub(crate) mod proxied;
pub(crate) mod secure;

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
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::time::Sleep;
use tower_service::Service;

use self::proxied::Proxies;
use crate::error::Failure;
use crate::heard::Reads;
use crate::seldom::Seldom;
use crate::socketio::Source;

/// Connections of one listener. Further ones are closed at once.
const CONNECTIONS_MAX: usize = 16_384;
/// Connections from one address: generous, because a school is one address. A trusted proxy may have all.
const CONNECTIONS_PER_ADDRESS_MAX: usize = 8_192;
/// A request's head must be complete, and an idle connection's next one must begin, within this.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// The same of a trusted proxy, which keeps connections for whoever comes next: if we ended one just then, somebody would be
/// told 502. Google's load balancers keep them for 600 s.
const PROXY_HEADER_TIMEOUT: Duration = Duration::from_secs(650);
/// A peer that takes nothing for this long is gone. Without it a client that never reads would keep its session for as
/// long as TCP does: the websocket writer waits in its write and does not see that the session was closed.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// Most bytes of a request's head; more is answered 431.
const HEADER_BYTES_MAX: usize = 32 * 1024;
/// Most headers of a request; more are answered 431.
const HEADERS_MAX: usize = 100;
/// How long a connection that we end is still read. Closing a socket that has unread bytes resets the connection, and that
/// takes from the client what it has not read yet: the answer, or why it was disconnected.
const LINGER: Duration = Duration::from_secs(2);
/// Bytes read at once from a connection that lingers.
const LINGER_READ_BYTES: usize = 4 * 1024;
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
pub(crate) async fn serve(listener: TcpListener, router: Router, proxies: Proxies) {
    accept(listener, proxies, |stream, source, place| {
        tokio::spawn(connection(Deadlined::new(stream, WRITE_TIMEOUT), source, router.clone(), place));
    })
    .await;
}

/// Accepts connections until the task is dropped, and gives each that finds a place to `each`.
async fn accept(listener: TcpListener, proxies: Proxies, each: impl Fn(TcpStream, SocketAddr, Place)) {
    let open = Open::new(CONNECTIONS_MAX, CONNECTIONS_PER_ADDRESS_MAX, proxies);
    loop {
        let (stream, source) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                static LINE: Seldom = Seldom::new();
                if let Some(more) = LINE.due() {
                    tracing::warn!(%error, more, "cannot accept connections for now; if files ran out, raise `ulimit -n`");
                }
                tokio::time::sleep(ACCEPT_RETRY).await;
                continue;
            }
        };
        // A listener for both families sees IPv4 inside of IPv6; for all others it is one address.
        let source = SocketAddr::new(source.ip().to_canonical(), source.port());
        let Some(place) = Place::take(&open, source.ip()) else {
            static LINE: Seldom = Seldom::new();
            if let Some(more) = LINE.due() {
                tracing::warn!(address = %source.ip(), more, "closed at once: too many connections, of one address or in all");
            }
            continue;
        };
        // Small messages are latency, not bandwidth.
        let _ = stream.set_nodelay(true);
        each(stream, source, place);
    }
}

async fn connection(stream: impl Stream, source: SocketAddr, router: Router, place: Place) {
    // An upgraded connection outlives hyper's: the place goes with the stream.
    let reads = Reads::default();
    let header_timeout = if place.is_proxy() { PROXY_HEADER_TIMEOUT } else { HEADER_TIMEOUT };
    let io = TokioIo::new(Lingering::new(stream, reads.clone(), Some(place)));
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(Source::new(source, reads.clone()));
        let answer = router.clone().call(request);
        async move { Ok::<_, Infallible>(answer.await.unwrap_or_else(|never| match never {})) }
    });
    // An error is a client that broke the protocol or left: nothing to do about it.
    let _ = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(header_timeout)
        .max_header_size(HEADER_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .serve_connection(io, service)
        .with_upgrades()
        .await;
}

/// Open connections by address.
#[derive(Debug)]
struct Open {
    /// How many there may be, in all and of one address.
    most: (usize, usize),
    /// Who may have all.
    proxies: Proxies,
    by_address: Mutex<(usize, HashMap<IpAddr, usize>)>,
}

impl Open {
    fn new(most: usize, most_per_address: usize, proxies: Proxies) -> Arc<Self> {
        Arc::new(Open { most: (most, most_per_address), proxies, by_address: Mutex::default() })
    }
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
        let most_here = if open.proxies.contains(address) { open.most.0 } else { open.most.1 };
        if *all >= open.most.0 || here >= most_here {
            return None;
        }
        *all += 1;
        by_address.insert(address, here + 1);
        Some(Place { open: open.clone(), address })
    }

    /// Whether the other end is a trusted proxy.
    fn is_proxy(&self) -> bool {
        self.open.proxies.contains(self.address)
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

/// What a connection runs over: TCP, or TLS over it.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> Stream for S {}

/// A TCP stream whose writes fail when the peer takes nothing for `timeout`.
struct Deadlined {
    stream: TcpStream,
    timeout: Duration,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl Deadlined {
    fn new(stream: TcpStream, timeout: Duration) -> Self {
        Deadlined { stream, timeout, stalled: None }
    }

    /// The stream, to be served by somebody else.
    fn into_stream(self) -> TcpStream {
        self.stream
    }

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

/// A stream that lingers when it is dropped.
struct Lingering<S: Stream> {
    /// `None` only while it is being dropped.
    stream: Option<S>,
    /// The peer has ended the connection, or it broke: nothing is left to wait for.
    is_over: bool,
    reads: Reads,
    place: Option<Place>,
}

impl<S: Stream> Lingering<S> {
    fn new(stream: S, reads: Reads, place: Option<Place>) -> Self {
        Lingering { stream: Some(stream), is_over: false, reads, place }
    }

    fn stream(&mut self) -> Pin<&mut S> {
        Pin::new(self.stream.as_mut().expect("it is taken only by drop"))
    }

    fn note<T>(&mut self, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        self.is_over |= matches!(result, Poll::Ready(Err(_)));
        result
    }
}

impl<S: Stream> Drop for Lingering<S> {
    fn drop(&mut self) {
        let (Some(stream), Ok(runtime)) = (self.stream.take(), Handle::try_current()) else { return };
        if !self.is_over {
            runtime.spawn(linger(stream, self.place.take()));
        }
    }
}

/// Ends our side and waits for the peer to end its own; see [`LINGER`].
async fn linger(mut stream: impl Stream, _place: Option<Place>) {
    let the_end = async {
        stream.shutdown().await?;
        let mut ignored = vec![0; LINGER_READ_BYTES];
        while stream.read(&mut ignored).await? > 0 {}
        Ok::<_, io::Error>(())
    };
    // Whatever it was, it is over.
    let _ = tokio::time::timeout(LINGER, the_end).await;
}

impl<S: Stream> AsyncRead for Lingering<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = ready!(self.stream().poll_read(cx, buffer));
        let came = buffer.filled().len() > before;
        self.is_over |= read.is_err() || (!came && buffer.remaining() > 0);
        if came {
            self.reads.note();
        }
        Poll::Ready(read)
    }
}

impl<S: Stream> AsyncWrite for Lingering<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = self.stream().poll_write(cx, bytes);
        self.note(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = self.stream().poll_write_vectored(cx, slices);
        self.note(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.as_ref().is_some_and(S::is_write_vectored)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = self.stream().poll_flush(cx);
        self.note(flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let ended = self.stream().poll_shutdown(cx);
        self.note(ended)
    }
}

#[cfg(test)]
mod tests {
    use socketioxide::socket::Sid;

    use super::*;
    use crate::heard::Sessions;

    #[tokio::test]
    async fn a_peer_that_never_reads_ends_the_write() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let peer = TcpStream::connect(listener.local_addr().expect("bound")).await.expect("it listens");
        let (stream, _) = listener.accept().await.expect("it connects");
        let mut stream = Deadlined::new(stream, Duration::from_millis(100));
        let everything = vec![0; 64 << 20];
        let error = stream.write_all(&everything).await.expect_err("nobody reads");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        drop(peer);
    }

    #[tokio::test]
    async fn what_is_read_proves_life() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let mut peer = TcpStream::connect(listener.local_addr().expect("bound")).await.expect("it listens");
        let (stream, _) = listener.accept().await.expect("it connects");
        let reads = Reads::default();
        let session = Sessions::default().enter(Sid::new());
        let before = session.at();
        reads.belong_to(&session);
        let mut stream = Lingering::new(Deadlined::new(stream, Duration::from_secs(5)), reads, None);
        tokio::time::sleep(Duration::from_millis(5)).await;
        stream.write_all(b"ping").await.expect("there is room");
        assert_eq!(session.at(), before, "what we say proves nothing");
        peer.write_all(b"pong").await.expect("there is room");
        let mut heard = [0; 4];
        stream.read_exact(&mut heard).await.expect("it came");
        assert!(session.at() > before);
    }

    #[tokio::test]
    async fn the_last_words_reach_a_peer_that_still_writes() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let mut peer = TcpStream::connect(listener.local_addr().expect("bound")).await.expect("it listens");
        let (stream, _) = listener.accept().await.expect("it connects");
        let open = Open::new(1, 1, Proxies::default());
        let place = Place::take(&open, IpAddr::from([127, 0, 0, 1]));
        let mut stream = Lingering::new(Deadlined::new(stream, Duration::from_secs(5)), Reads::default(), place);
        peer.write_all(&[0; 10_000]).await.expect("there is room");
        stream.write_all(b"goodbye").await.expect("there is room");
        // Nothing of what the peer wrote was read: closed at once, the connection would be reset.
        drop(stream);
        peer.write_all(&[0; 10_000]).await.expect("it lingers");
        let mut heard = Vec::new();
        peer.read_to_end(&mut heard).await.expect("an end, and no reset");
        assert_eq!(heard, b"goodbye");
        assert_eq!(open.by_address.lock().expect("unpoisoned").0, 1, "what lingers has its place");
        drop(peer);
        while open.by_address.lock().expect("unpoisoned").0 > 0 {
            tokio::task::yield_now().await;
        }
    }

    #[test]
    fn places_come_back() {
        let proxy = IpAddr::from([10, 0, 0, 1]);
        let open = Open::new(9, 4, Proxies::new(&[turn_server::Prefix { address: proxy, bits: 32 }]));
        let address = IpAddr::from([127, 0, 0, 1]);
        let held: Vec<_> = (0..4).map(|_| Place::take(&open, address)).collect();
        assert!(held.iter().all(Option::is_some));
        assert!(Place::take(&open, address).is_none());
        assert!(Place::take(&open, IpAddr::from([127, 0, 0, 2])).is_some());
        let proxied: Vec<_> = (0..6).map(|_| Place::take(&open, proxy)).collect();
        assert_eq!(proxied.iter().flatten().count(), 5, "a trusted proxy is many, but not more than all");
        drop((held, proxied));
        let guard = open.by_address.lock().expect("nobody panicked");
        assert_eq!((guard.0, guard.1.len()), (0, 0));
    }
}
