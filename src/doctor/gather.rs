//! What is asked of the machine, of the network and of the server that runs here, if one does. Every question has a deadline.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use turn_server::stun::{Class, Message, Method, TransactionId, Writer};

use crate::addresses;
use crate::applier;
use crate::ask;
use crate::clock;
use crate::config::Settings;
use crate::outbound::{Call, Outbound, Reach};
use crate::store::{self, Tables};
use crate::tls::{Certificates, Kept};

/// How long each thing on the network gets to answer.
const ANSWER_MAX: Duration = Duration::from_secs(3);
/// Times that a datagram is sent before it counts as lost.
const TRIES: u32 = 3;
/// How long the database gets.
const STORE_MAX: Duration = Duration::from_secs(10);
/// Longest answer to a Binding request that is read.
const STUN_BYTES_MAX: usize = 1_500;
/// Where a virtual machine of Google's cloud asks about itself, and by what it is known.
const METADATA: (Ipv4Addr, &str) = (Ipv4Addr::new(169, 254, 169, 254), "Google Compute Engine");

/// What was found. Sentences of the system stand where something failed.
#[derive(Debug, Default)]
pub(super) struct Facts {
    pub(super) local: Local,
    /// A server with these settings answers at its operator's address.
    pub(super) is_running: bool,
    /// What the cloud says is this machine's public address.
    pub(super) public: Option<IpAddr>,
    /// The wall clock against another's, in seconds; `None`: there was none to compare with.
    pub(super) clock_off_s: Option<i64>,
    /// Each port that the server is about to take, and whether it is free; empty while it runs.
    pub(super) ports: Vec<(&'static str, SocketAddr, Result<(), String>)>,
    /// TURN as browsers are told to reach it: the way, where, and the address that the server saw.
    pub(super) turn: Vec<(&'static str, SocketAddr, Result<SocketAddr, String>)>,
    /// The certificate, if there is to be one: its last second, Unix s, and the name it is for.
    pub(super) certificate: Option<Result<(i64, Option<String>), String>>,
    /// The database, or why not.
    pub(super) store: Option<Result<Tables, String>>,
    /// The key set of the identity provider, if there is to be one.
    pub(super) jwks: Option<Result<(), String>>,
}

/// What the machine alone says.
#[derive(Debug, Default)]
pub(super) struct Local {
    /// The addresses that media is offered at.
    pub(super) offered: Vec<IpAddr>,
    /// The kernel's limits on socket buffers, bytes: to read, to write.
    pub(super) buffers: [Option<u64>; 2],
    /// Whether the directory of the store can be written.
    pub(super) disk: Option<Result<(), String>>,
    /// What is free there, bytes.
    pub(super) free: Option<u64>,
    /// Unix s.
    pub(super) now_s: i64,
}

pub(super) fn local(settings: &Settings) -> Local {
    let kernel = |name: &str| std::fs::read_to_string(format!("/proc/sys/net/core/{name}")).ok()?.trim().parse().ok();
    let offered = match &settings.addresses {
        set if set.is_empty() => addresses::of_this_machine(),
        set => set.clone(),
    };
    let dir = there(&settings.store.dir);
    Local {
        offered,
        buffers: ["rmem_max", "wmem_max"].map(kernel),
        disk: Some(writable(&dir).map_err(|error| error.to_string())),
        free: free(&dir),
        now_s: i64::try_from(clock::now().unix_ms / 1_000).unwrap_or(i64::MAX),
    }
}

pub(super) async fn all(settings: &Settings) -> Facts {
    let copy = settings.clone();
    let asked = tokio::task::spawn_blocking(move || {
        let is_running = ask::admin(&copy, "GET", "/livez", None).is_ok();
        let local = local(&copy);
        let (public, clock_off_s) = cloud(local.now_s);
        let turn = if is_running { turn(&copy, &local.offered) } else { Vec::new() };
        let ports = if is_running { Vec::new() } else { ports(&copy) };
        let certificate = certificate(&copy);
        Facts { local, is_running, public, clock_off_s, ports, turn, certificate, ..Facts::default() }
    });
    let mut facts = asked.await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
    facts.store = Some(store(settings).await);
    facts.jwks = match settings.auth.jwks_url.as_str() {
        "" => None,
        url => Some(fetch(url).await),
    };
    facts
}

/// The certificate that is to be served: its last second and its name, or why it cannot be.
fn certificate(settings: &Settings) -> Option<Result<(i64, Option<String>), String>> {
    let loaded = match (&settings.tls_files, settings.acme.domains.first()) {
        ([Some(certificate), Some(key)], _) => Certificates::load(certificate, key),
        (_, Some(domain)) => Certificates::kept(&Kept::new(&settings.store.dir, &settings.acme), domain),
        _ => return None,
    };
    let loaded = loaded.map_err(|failure| failure.to_string());
    Some(loaded.map(|loaded| (loaded.ends_s(), loaded.name())))
}

/// The directory, or the nearest above it that is there: were it made here, it would be ours and not the server's.
fn there(dir: &Path) -> PathBuf {
    let dir = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
    dir.ancestors().find(|above| above.exists()).unwrap_or(&dir).to_owned()
}

fn writable(dir: &Path) -> io::Result<()> {
    let probe = dir.join(format!(".doctor-{}", std::process::id()));
    std::fs::write(&probe, b"a write that is synced")?;
    std::fs::File::open(&probe)?.sync_all()?;
    std::fs::remove_file(&probe)
}

/// As `df` says, where there is one.
fn free(dir: &Path) -> Option<u64> {
    let output = Command::new("df").arg("-Pk").arg(dir).stdin(Stdio::null()).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let kib: u64 = text.lines().nth(1)?.split_whitespace().nth(3)?.parse().ok()?;
    Some(kib * 1_024)
}

/// This machine's public address and its clock against the cloud's; asked only on a machine of that cloud.
fn cloud(now_s: i64) -> (Option<IpAddr>, Option<i64>) {
    let product = std::fs::read_to_string("/sys/class/dmi/id/product_name").unwrap_or_default();
    if product.trim() != METADATA.1 {
        return (None, None);
    }
    let asked = || -> io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&SocketAddr::from((METADATA.0, 80)), ANSWER_MAX)?;
        stream.set_read_timeout(Some(ANSWER_MAX))?;
        let path = "/computeMetadata/v1/instance/network-interfaces/0/access-configs/0/external-ip";
        write!(stream, "GET {path} HTTP/1.0\r\nHost: metadata.google.internal\r\nMetadata-Flavor: Google\r\n\r\n")?;
        let mut answer = String::new();
        stream.take(STUN_BYTES_MAX as u64).read_to_string(&mut answer)?;
        Ok(answer)
    };
    let answer = asked().unwrap_or_default();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
    let date = head.lines().find_map(|line| line.strip_prefix("Date: ")).and_then(http_date);
    (body.trim().parse().ok(), date.map(|theirs| now_s - theirs))
}

/// `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110 §5.6.7) as Unix s.
pub(super) fn http_date(text: &str) -> Option<i64> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let words: Vec<&str> = text.split([' ', ':']).filter(|word| !word.is_empty()).collect();
    let [_, day, month, year, hour, minute, second, "GMT"] = words[..] else { return None };
    let number = |word: &str| word.parse::<i64>().ok();
    let month = MONTHS.iter().position(|name| *name == month)? as i64 + 1;
    let (day, year) = (number(day)?, number(year)?);
    // Days since 1970 of the proleptic Gregorian calendar, whose year begins in March here.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days =
        365 * y + y.div_euclid(4) - y.div_euclid(100) + y.div_euclid(400) + (153 * m + 2) / 5 + day - 1 - 719_468;
    Some(((days * 24 + number(hour)?) * 60 + number(minute)?) * 60 + number(second)?)
}

fn ports(settings: &Settings) -> Vec<(&'static str, SocketAddr, Result<(), String>)> {
    let all = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    let mut wanted = vec![("TCP", settings.http_listen), ("TCP", settings.admin_listen)];
    wanted.extend(settings.tls_listen.map(|listen| ("TCP", listen)));
    let media = (0..settings.workers).filter_map(|i| settings.media_port.checked_add(u16::try_from(i).ok()?));
    let turn = settings.has_turn_server().then_some(settings.turn.port);
    for port in media.filter(|_| settings.media_port != 0).chain(turn) {
        wanted.extend([("UDP", SocketAddr::new(all, port)), ("TCP", SocketAddr::new(all, port))]);
    }
    let is_free = |(way, at): (&'static str, SocketAddr)| {
        let bound = match way {
            "UDP" => UdpSocket::bind(at).map(drop),
            _ => std::net::TcpListener::bind(at).map(drop),
        };
        (way, at, bound.map_err(|error| error.to_string()))
    };
    wanted.into_iter().filter(|(_, at)| at.port() != 0).map(is_free).collect()
}

/// Asks the embedded TURN server, where browsers are told that it is, what address it sees.
fn turn(settings: &Settings, offered: &[IpAddr]) -> Vec<(&'static str, SocketAddr, Result<SocketAddr, String>)> {
    if !settings.has_turn_server() || settings.turn.port == 0 {
        return Vec::new();
    }
    let host = settings.turn_host.trim_matches(['[', ']']);
    let at: Vec<SocketAddr> = match std::net::ToSocketAddrs::to_socket_addrs(&(host, settings.turn.port)) {
        Ok(found) if !host.is_empty() => found.collect(),
        _ => offered.iter().map(|address| SocketAddr::new(*address, settings.turn.port)).collect(),
    };
    let asked = |at: &SocketAddr| [("UDP", *at, binding_udp(*at)), ("TCP", *at, binding_tcp(*at))];
    at.iter().flat_map(asked).map(|(way, at, seen)| (way, at, seen.map_err(|error| error.to_string()))).collect()
}

/// What a server says is our address (RFC 8489 §3), over UDP.
pub(super) fn binding_udp(at: SocketAddr) -> io::Result<SocketAddr> {
    let socket = UdpSocket::bind(if at.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
    socket.connect(at)?;
    socket.set_read_timeout(Some(ANSWER_MAX / TRIES))?;
    let (request, id) = request();
    let mut answer = [0; STUN_BYTES_MAX];
    for _ in 0..TRIES {
        socket.send(&request)?;
        match socket.recv(&mut answer) {
            Ok(bytes) => {
                if let Some(seen) = seen(answer.get(..bytes).unwrap_or_default(), id) {
                    return Ok(seen);
                }
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::new(io::ErrorKind::TimedOut, "no answer"))
}

/// The same over TCP, where a message is its own frame (RFC 8489 §6.2.2).
pub(super) fn binding_tcp(at: SocketAddr) -> io::Result<SocketAddr> {
    const HEAD_BYTES: usize = 20;
    let mut stream = TcpStream::connect_timeout(&at, ANSWER_MAX)?;
    stream.set_read_timeout(Some(ANSWER_MAX))?;
    let (request, id) = request();
    stream.write_all(&request)?;
    let mut answer = vec![0; HEAD_BYTES];
    stream.read_exact(&mut answer)?;
    let more = match answer[..] {
        [_, _, high, low, ..] => usize::from(u16::from_be_bytes([high, low])).min(STUN_BYTES_MAX),
        _ => 0,
    };
    answer.resize(HEAD_BYTES + more, 0);
    stream.read_exact(answer.get_mut(HEAD_BYTES..).unwrap_or_default())?;
    seen(&answer, id).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "what answers is no TURN server"))
}

fn request() -> (Vec<u8>, TransactionId) {
    let id = TransactionId(rand::random());
    let mut bytes = Vec::new();
    Writer::request(&mut bytes, Method::BINDING, id).fingerprint();
    (bytes, id)
}

fn seen(answer: &[u8], id: TransactionId) -> Option<SocketAddr> {
    let message = Message::parse(answer)?;
    (message.transaction_id() == id && message.class() == Class::Success).then(|| message.xor_mapped_address())?
}

async fn store(settings: &Settings) -> Result<Tables, String> {
    let url = applier::url(&settings.store).map_err(|failure| failure.to_string())?;
    store::look(&url, STORE_MAX).await.map_err(|error| error.to_string())
}

async fn fetch(url: &str) -> Result<(), String> {
    let call = Call {
        method: "GET",
        url: url.to_owned(),
        headers: vec![("accept", "application/json".to_owned())],
        body: Vec::new(),
        reach: Reach::Configured,
        deadline: ANSWER_MAX,
    };
    let answer = Outbound::new(&[]).call(call).await.map_err(|failed| failed.why)?;
    let has_keys = serde_json::from_slice::<serde_json::Value>(&answer.body).is_ok_and(|set| set["keys"].is_array());
    match answer.status {
        200 if has_keys => Ok(()),
        200 => Err("the answer is no key set".to_owned()),
        status => Err(format!("the answer was {status}")),
    }
}
