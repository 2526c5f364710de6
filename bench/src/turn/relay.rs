//! Load through relay sockets: allocations whose packets go to a peer that sends them back.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::Serialize;
use socket2::SockRef;
use tokio::net::UdpSocket;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::client::{Login, TurnClient};

/// Ports tried for one allocation.
const OPEN_TRIES: usize = 3;
/// Where the peer is: not where relayed addresses are, for a server refuses to relay to itself.
pub const PEER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
/// Bytes of each packet's payload.
pub const PAYLOAD_BYTES: usize = 1_100;
/// Packets sent at once, as a frame of video.
const BURST: u32 = 10;
/// How long allocations and channels may take.
const READY_MAX: Duration = Duration::from_secs(10);
/// Media runs so long before it is measured, and after it stopped, so that the last packets come back.
const MARGIN: Duration = Duration::from_millis(500);
/// Receive buffer asked for each socket, bytes.
const RECEIVE_BUFFER_BYTES: usize = 2 << 20;

/// How much.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Allocations.
    pub allocations: usize,
    /// Packets a second of each, rounded to bursts of ten.
    pub pps: u32,
}

/// What a round cost.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Round {
    /// The server's CPU time, seconds.
    pub cpu_s: f64,
    /// Packets that came through, both ways.
    pub relayed: u64,
    /// The server's CPU time per relayed packet, µs.
    pub us_per_packet: f64,
    /// Percentage of what was sent that did not come back.
    pub loss_percent: f64,
}

/// What all tasks count.
#[derive(Default)]
struct Counts {
    sent: AtomicU64,
    at_peer: AtomicU64,
    back: AtomicU64,
}

impl Counts {
    fn relayed(&self) -> u64 {
        self.at_peer.load(Ordering::Relaxed) + self.back.load(Ordering::Relaxed)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Opening,
    Media,
    Draining,
    Done,
}

/// One round; `cpu` reads the server's clock.
pub async fn round(
    server: SocketAddr,
    login: &Login,
    load: Load,
    duration: Duration,
    cpu: impl Fn() -> io::Result<Duration>,
) -> io::Result<Round> {
    let counts = Arc::new(Counts::default());
    let peer = bind(PEER).await?;
    let peer_address = peer.local_addr()?;
    let echo = tokio::spawn(echo(peer, counts.clone()));
    let (phase, watcher) = watch::channel(Phase::Opening);
    let mut tasks = JoinSet::new();
    for _ in 0..load.allocations {
        let mut allocation = Allocation::open_soon(server, login, peer_address).await?;
        let (watcher, counts) = (watcher.clone(), counts.clone());
        tasks.spawn(async move { allocation.run(load.pps, watcher, &counts).await });
    }
    phase.send_replace(Phase::Media);
    tokio::time::sleep(MARGIN).await;
    let before = (cpu()?, counts.relayed());
    tokio::time::sleep(duration).await;
    let after = (cpu()?, counts.relayed());
    phase.send_replace(Phase::Draining);
    tokio::time::sleep(MARGIN).await;
    phase.send_replace(Phase::Done);
    for done in tasks.join_all().await {
        done?;
    }
    echo.abort();
    let (sent, back) = (counts.sent.load(Ordering::Relaxed), counts.back.load(Ordering::Relaxed));
    let (cpu_s, relayed) = ((after.0 - before.0).as_secs_f64(), after.1 - before.1);
    Ok(Round {
        cpu_s,
        relayed,
        us_per_packet: cpu_s * 1e6 / relayed.max(1) as f64,
        loss_percent: 100.0 * sent.saturating_sub(back) as f64 / sent.max(1) as f64,
    })
}

async fn bind(address: Ipv4Addr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind((address, 0)).await?;
    // The kernel gives what it allows; less than asked shows up as loss, which is reported.
    let _ = SockRef::from(&socket).set_recv_buffer_size(RECEIVE_BUFFER_BYTES);
    Ok(socket)
}

/// Sends back what comes.
async fn echo(socket: UdpSocket, counts: Arc<Counts>) {
    let mut buffer = [0; 2_048];
    loop {
        // An ICMP error of an earlier send: the next datagram is none the worse for it.
        let Ok((len, from)) = socket.recv_from(&mut buffer).await else { continue };
        counts.at_peer.fetch_add(1, Ordering::Relaxed);
        let _ = socket.send_to(&buffer[..len], from).await;
    }
}

struct Allocation {
    socket: UdpSocket,
    client: TurnClient,
    peer: SocketAddr,
}

impl Allocation {
    /// As [`Allocation::open`], by another port where the first has an allocation of an earlier round (437).
    async fn open_soon(server: SocketAddr, login: &Login, peer: SocketAddr) -> io::Result<Self> {
        for _ in 1..OPEN_TRIES {
            if let Ok(allocation) = Allocation::open(server, login.clone(), peer).await {
                return Ok(allocation);
            }
        }
        Allocation::open(server, login.clone(), peer).await
    }

    /// An allocation with a channel to the peer.
    async fn open(server: SocketAddr, login: Login, peer: SocketAddr) -> io::Result<Allocation> {
        let socket = bind(Ipv4Addr::LOCALHOST).await?;
        socket.connect(server).await?;
        let mut client = TurnClient::new(login, Instant::now());
        let mut buffer = [0; 2_048];
        let end = Instant::now() + READY_MAX;
        while !client.bind(peer, Instant::now()) {
            while let Some(datagram) = client.transmit() {
                socket.send(&datagram).await?;
            }
            let due = client.deadline().unwrap_or(end);
            if let Ok(received) = tokio::time::timeout_at(due.into(), socket.recv(&mut buffer)).await {
                client.receive(&buffer[..received?], Instant::now());
            }
            client.tick(Instant::now());
            if let Some(failure) = client.failure() {
                return Err(io::Error::other(failure.to_owned()));
            }
            if Instant::now() > end {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
        Ok(Allocation { socket, client, peer })
    }

    async fn run(&mut self, pps: u32, mut phase: watch::Receiver<Phase>, counts: &Counts) -> io::Result<()> {
        let mut bursts = tokio::time::interval(Duration::from_secs(1) * BURST / pps.max(1));
        bursts.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut buffer = [0; 2_048];
        loop {
            let now = *phase.borrow_and_update();
            tokio::select! {
                _ = bursts.tick(), if now == Phase::Media => self.burst(counts).await?,
                received = self.socket.recv(&mut buffer) => {
                    let payload = self.client.receive(&buffer[..received?], Instant::now());
                    counts.back.fetch_add(u64::from(payload.is_some()), Ordering::Relaxed);
                }
                _ = phase.changed(), if now != Phase::Done => {}
                else => {}
            }
            if *phase.borrow() == Phase::Done {
                return Ok(());
            }
        }
    }

    async fn burst(&mut self, counts: &Counts) -> io::Result<()> {
        for _ in 0..BURST {
            if let Some(packet) = self.client.wrap(self.peer, &[7; PAYLOAD_BYTES], Instant::now()) {
                self.socket.send(&packet).await?;
                counts.sent.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok(())
    }
}
