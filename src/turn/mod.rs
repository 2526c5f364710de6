//! The embedded TURN server: one thread with its listeners, its clients' streams, all relay sockets and the machine.

mod clients;
mod relay;
mod stream;
mod thread;
mod tls;

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use mio::{Poll, Waker};
use rustls::ServerConnection;
use tokio::sync::mpsc::UnboundedSender;
use turn_server::{Config, Counters, Input};

use crate::config::TurnServer;
use crate::crossing::TurnEnd;
use crate::error::Failure;
use crate::ports;
use crate::pulse::{End, Pulse};
use crate::stream::Listeners;
use crate::tls::Certificates;
use crate::udp::Sockets;

/// Orders that wait for the thread. When full, control waits, and adopted connections are closed.
const ORDERS_MAX: usize = 4_096;
/// The realm of credentials: short, for it is in every 401.
pub(crate) const REALM: &str = "lyceum";

/// What others want of the thread.
enum Order {
    /// For the machine.
    Input(Input),
    /// A connection to take over.
    Adopt(Adopted),
}

/// A connection that somebody else accepted and that turned out to speak TURN.
#[derive(Debug)]
pub(crate) struct Adopted {
    /// The connection; it may block or not.
    pub(crate) stream: TcpStream,
    /// The client.
    pub(crate) remote: SocketAddr,
    /// Its TLS, behind the handshake and perhaps with something received.
    pub(crate) tls: Box<ServerConnection>,
}

/// What the thread last said of itself.
#[derive(Clone, Debug, Default)]
pub(crate) struct Report {
    /// The machine's.
    pub(crate) machine: Counters,
    /// The sockets'.
    pub(crate) sockets: SocketCounts,
    /// The streams'.
    pub(crate) streams: stream::Counts,
    /// Payloads for media workers that found no room in their crossing.
    pub(crate) crossing_dropped: u64,
    /// Relay sockets that are open.
    pub(crate) relay_sockets: u64,
}

/// What went through the sockets of the thread; counted since start.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SocketCounts {
    /// Runs cut short because a socket's buffer was full.
    pub(crate) blocked: u64,
    /// Runs that the kernel refused.
    pub(crate) refused: u64,
    /// Errors of receiving.
    pub(crate) receive_errors: u64,
}

/// Ask again later.
#[derive(Debug)]
pub(crate) struct Full(pub(crate) Input);

/// The shell's hold on the thread.
#[derive(Clone)]
pub(crate) struct Turn {
    /// The port, for UDP and TCP.
    pub(crate) port: u16,
    /// The port for TLS, if there is a certificate.
    pub(crate) tls_port: Option<u16>,
    orders: SyncSender<Order>,
    waker: Arc<Waker>,
    pulse: Arc<Pulse<Report>>,
}

impl Turn {
    /// Queues an input and wakes the thread; gives it back when the queue is full. Orders to a dead thread vanish: the
    /// process is ending.
    pub(crate) fn order(&self, input: Input) -> Result<(), Full> {
        let sent = self.orders.try_send(Order::Input(input));
        // Failing to wake would delay the order by REPORT_EVERY at most.
        let _ = self.waker.wake();
        match sent {
            Err(TrySendError::Full(Order::Input(input))) => Err(Full(input)),
            _ => Ok(()),
        }
    }

    /// Hands over a connection; it is closed when the queue is full.
    pub(crate) fn adopt(&self, adopted: Adopted) {
        // Dropped, it is closed: the client tries again.
        let _ = self.orders.try_send(Order::Adopt(adopted));
        let _ = self.waker.wake();
    }

    /// The last report.
    pub(crate) fn report(&self) -> Report {
        self.pulse.report()
    }

    /// Time since the loop last ran; `None` when the thread has ended.
    pub(crate) fn idle(&self) -> Option<Duration> {
        self.pulse.idle()
    }
}

/// Listeners that wait for their thread: media workers need its waker before they start, and it needs their addresses.
pub(crate) struct Bound {
    poll: Poll,
    waker: Arc<Waker>,
    sockets: Sockets,
    listeners: Listeners,
    secure: Option<Secure>,
}

/// Listeners for TLS, and what is spoken there.
struct Secure {
    listeners: Listeners,
    certificates: Certificates,
}

/// Takes the port for UDP and TCP and, where there is a certificate, the one for TLS; 0 takes any.
pub(crate) fn bind(settings: &TurnServer, certificates: Option<&Certificates>) -> Result<Bound, Failure> {
    let (sockets, listeners) = ports::bind(settings.port, true, "LYCEUM__TURN__PORT or [turn] port")?;
    let port = settings.tls_port;
    let secure = certificates.map(|certificates| {
        let listeners = crate::stream::listen(port, sockets.v6.is_some()).map_err(|error| Failure::Bind {
            address: format!("TCP port {port}"),
            port,
            choose: "LYCEUM__TURN__TLS_PORT or [turn] tls_port",
            error,
        })?;
        Ok(Secure { listeners, certificates: certificates.clone() })
    });
    let broken = |error| Failure::Broken(format!("the TURN server cannot wait for its sockets: {error}"));
    let poll = Poll::new().map_err(broken)?;
    let waker = Arc::new(Waker::new(poll.registry(), thread::WAKE).map_err(broken)?);
    Ok(Bound { poll, waker, sockets, listeners, secure: secure.transpose()? })
}

impl Bound {
    /// What wakes the thread.
    pub(crate) fn waker(&self) -> Arc<Waker> {
        self.waker.clone()
    }

    /// Starts the thread. `workers` are those to which payload crosses, each with its media addresses. What ends the thread
    /// goes to `ended`, once.
    pub(crate) fn start(
        self,
        config: Config,
        workers: Vec<(Vec<SocketAddr>, TurnEnd)>,
        ended: UnboundedSender<Failure>,
    ) -> Result<Turn, Failure> {
        let port = self.sockets.port();
        let tls_port = self.secure.as_ref().and_then(|secure| {
            let listener = secure.listeners.iter().flatten().next()?;
            Some(listener.local_addr().ok()?.port())
        });
        let waker = self.waker.clone();
        let (orders, queue) = sync_channel(ORDERS_MAX);
        let pulse = Pulse::<Report>::new();
        let thread_pulse = pulse.clone();
        let machine = thread::Machine::new(self, config, workers, queue, pulse.clone())
            .map_err(|error| Failure::Broken(format!("the TURN server cannot wait for its sockets: {error}")))?;
        std::thread::Builder::new()
            .name("turn".to_owned())
            .spawn(move || {
                let mut end = End::new("the TURN thread".to_owned(), thread_pulse, ended);
                end.reason = machine.run();
            })
            .map_err(|error| Failure::Broken(format!("cannot start the TURN thread: {error}")))?;
        Ok(Turn { port, tls_port, orders, waker, pulse })
    }
}

#[cfg(test)]
mod tests;
