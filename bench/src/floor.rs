//! What forwarding over UDP cannot cost less than on this machine at this time: a loop that only seals and sends, in the rhythm of a
//! forwarded camera, to as many receivers, each run by one GSO send. What a server's figure is held against on a machine that others
//! use as well.

use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use aws_lc_rs::aead::{AES_256_GCM, LessSafeKey, UnboundKey};
use quinn_udp::{RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use serde::Serialize;
use tokio::io::Interest;

use crate::forward::seal_one;
use crate::media::VIDEO_FPS;

/// Bytes of a sealed packet, as in the workload of the running server.
const PACKET_BYTES: usize = 1_100;
/// Of an AEAD.
const TAG_BYTES: usize = 16;
/// What one receive may bring.
const JOINED_BYTES_MAX: usize = 64 << 10;

/// What is done.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Receivers.
    pub subscribers: usize,
    /// Packets of a picture, which are one run.
    pub run: usize,
    /// How long.
    pub duration: Duration,
}

/// What it took.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Report {
    /// Receivers.
    pub subscribers: usize,
    /// Packets of a run.
    pub run: usize,
    /// Packets sent.
    pub packets: u64,
    /// Percent of them that came.
    pub came_percent: f64,
    /// CPU time of the sending thread for each packet, µs.
    pub us_per_packet: f64,
    /// Of this, copying and sealing, µs: of the run that was sealed fastest.
    pub seal_us: f64,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { subscribers, run, us_per_packet, seal_us, came_percent, .. } = self;
        write!(
            f,
            "{subscribers} receivers, runs of {run}: {us_per_packet:.2} µs a packet, {seal_us:.2} of it sealing; {came_percent:.1} % came"
        )
    }
}

/// Receivers on a thread of their own until dropped.
struct Receivers {
    addresses: Vec<SocketAddr>,
    received: Arc<AtomicU64>,
    _runtime: tokio::runtime::Runtime,
}

impl Receivers {
    fn start(count: usize) -> io::Result<Receivers> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let received = Arc::new(AtomicU64::new(0));
        let mut addresses = Vec::new();
        for _ in 0..count {
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
            socket.set_nonblocking(true)?;
            addresses.push(socket.local_addr()?);
            let received = received.clone();
            runtime.spawn(async move {
                // It ends with the runtime, or when the kernel refuses: then nothing comes, which the report shows.
                let _ = receive(socket, &received).await;
            });
        }
        Ok(Receivers { addresses, received, _runtime: runtime })
    }
}

async fn receive(socket: UdpSocket, received: &AtomicU64) -> io::Result<()> {
    let socket = tokio::net::UdpSocket::from_std(socket)?;
    let state = UdpSocketState::new((&socket).into())?;
    let mut buffer = vec![0; JOINED_BYTES_MAX];
    loop {
        socket.readable().await?;
        let mut meta = [RecvMeta::default()];
        let mut slices = [IoSliceMut::new(&mut buffer)];
        let got = socket.try_io(Interest::READABLE, || state.recv((&socket).into(), &mut slices, &mut meta));
        if got.is_ok() {
            received.fetch_add(meta[0].len.div_ceil(meta[0].stride.max(1)) as u64, Relaxed);
        }
    }
}

/// CPU time of this thread, by the scheduler's own account.
fn thread_cpu() -> Option<Duration> {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    Some(Duration::from_nanos(stat.split(' ').next()?.parse().ok()?))
}

/// Sends for the duration.
///
/// # Errors
/// If sockets cannot be had, or there is no `/proc`.
pub fn run(options: &Options) -> io::Result<Report> {
    let receivers = Receivers::start(options.subscribers)?;
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
    let key = |index: usize| {
        let bytes = [index as u8; 32];
        LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &bytes).expect("the key is as long as the algorithm says"))
    };
    let keys: Vec<LessSafeKey> = (0..options.subscribers).map(key).collect();
    let plain = vec![0x17; PACKET_BYTES - TAG_BYTES];
    let mut run = vec![0; options.run * PACKET_BYTES];
    let cpu = || thread_cpu().ok_or_else(|| io::Error::other("there is no /proc/thread-self/schedstat"));
    let (began, before) = (Instant::now(), cpu()?);
    let (mut packets, mut sealing, mut nonce) = (0, Duration::MAX, 0);
    let mut due = began;
    while began.elapsed() < options.duration {
        for (index, (key, to)) in keys.iter().zip(&receivers.addresses).enumerate() {
            // Reading the clock for each run would be a cost of its own.
            let sealed_at = (index % 16 == 0).then(Instant::now);
            for packet in run.chunks_exact_mut(PACKET_BYTES) {
                nonce += 1;
                seal_one(key, nonce, &plain, packet);
            }
            sealing = sealed_at.map_or(sealing, |at| sealing.min(at.elapsed()));
            packets += options.run as u64;
            let segment_size = (options.run > 1).then_some(PACKET_BYTES);
            let transmit = Transmit { destination: *to, ecn: None, contents: &run, segment_size, src_ip: None };
            state.try_send(UdpSockRef::from(&socket), &transmit)?;
        }
        due += Duration::from_secs(1) / VIDEO_FPS;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    let spent = cpu()? - before;
    let each = |time: Duration| time.as_secs_f64() * 1e6 / (packets.max(1) as f64);
    // What is under way comes within this.
    std::thread::sleep(Duration::from_millis(100));
    Ok(Report {
        subscribers: options.subscribers,
        run: options.run,
        packets,
        came_percent: 100.0 * receivers.received.load(Relaxed) as f64 / packets.max(1) as f64,
        us_per_packet: each(spent),
        seal_us: sealing.as_secs_f64() * 1e6 / options.run as f64,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Datagrams that one send may make.
    fn gso_segments() -> usize {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback is there");
        UdpSocketState::new(UdpSockRef::from(&socket)).expect("it is a socket").max_gso_segments()
    }

    #[test]
    fn what_is_sent_comes_and_is_counted() {
        let options = Options { subscribers: 3, run: 4, duration: Duration::from_millis(200) };
        // Neither is everywhere that tests run: a sandbox's kernel may lack both.
        if thread_cpu().is_none() {
            return eprintln!("skipped: there is no /proc/thread-self/schedstat");
        }
        if gso_segments() < options.run {
            return eprintln!("skipped: this kernel sends no runs of {} (UDP_SEGMENT)", options.run);
        }
        let report = run(&options).expect("loopback is there");
        assert!(report.packets >= 12 && report.packets.is_multiple_of(12), "{report}");
        assert!(report.came_percent > 0.0 && report.came_percent <= 100.0, "{report}");
        assert!(report.seal_us > 0.0, "{report}");
    }
}
