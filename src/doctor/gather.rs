//! What is asked of the machine, of the network and of the server that runs here, if one does. Every question has a deadline.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::now_s;
use super::turn::{self, Tried};
use super::web;
use crate::addresses;
use crate::addresses::public::{ANSWER_MAX, binding_tcp, binding_udp, cloud, http_date, stun};
use crate::applier;
use crate::ask;
use crate::config::Settings;
use crate::outbound::{Answer, Call, Outbound, Reach};
use crate::store::{self, Tables};
use crate::tls::{Certificates, Kept};

/// How long the database gets.
const STORE_MAX: Duration = Duration::from_secs(10);
/// What is to be held open, and for how long.
#[derive(Clone, Debug)]
pub(crate) struct Wait {
    /// The public URL, `https://…` or `http://…`.
    pub(crate) url: String,
    /// At most [`web::HOLD_MAX`].
    pub(crate) time: Duration,
}

/// What was found. Sentences of the system stand where something failed.
#[derive(Debug, Default)]
pub(super) struct Facts {
    pub(super) local: Local,
    /// A server with these settings answers at its operator's address.
    pub(super) is_running: bool,
    /// What the cloud says is this machine's public address.
    pub(super) public: Option<IpAddr>,
    /// What a STUN server says is this machine's public address; `None`: none is to be asked.
    pub(super) stun: Option<Result<IpAddr, String>>,
    /// The wall clock against another's, in seconds, and whose; `None`: there was none to compare with.
    pub(super) clock_off_s: Option<(i64, String)>,
    /// Each port that the server is about to take, and whether it is free; empty while it runs.
    pub(super) ports: Vec<(&'static str, SocketAddr, Result<(), String>)>,
    /// TURN as browsers are told to reach it.
    pub(super) turn: Vec<Tried>,
    /// Pages over TLS as browsers reach them: by which name and port, and the last second of what was shown, Unix s.
    pub(super) https: Option<(String, Result<i64, String>)>,
    /// The authority that gives us certificates, if one is to.
    pub(super) authority: Option<Result<(), String>>,
    /// How long a WebSocket through the public URL lived, s, or why there was none; `None`: it was not to be tried.
    pub(super) held: Option<Result<(), String>>,
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

pub(super) fn local(settings: &Settings, offered: Vec<IpAddr>) -> Local {
    let kernel = |name: &str| std::fs::read_to_string(format!("/proc/sys/net/core/{name}")).ok()?.trim().parse().ok();
    let dir = there(&settings.store.dir);
    Local {
        offered,
        buffers: ["rmem_max", "wmem_max"].map(kernel),
        disk: Some(writable(&dir).map_err(|error| error.to_string())),
        free: free(&dir),
        now_s: now_s(),
    }
}

pub(super) async fn all(settings: &Settings, wait: Option<&Wait>) -> Facts {
    let copy = settings.clone();
    let asked = tokio::task::spawn_blocking(move || {
        let is_running = ask::admin(&copy, "GET", "/livez", None).is_ok();
        let local = local(&copy, addresses::announced(&copy).addresses);
        let cloud = cloud();
        let clock_off_s = cloud.clock_s.map(|theirs| (local.now_s - theirs, "the cloud's".to_owned()));
        let stun = Some(&copy.stun).filter(|server| !server.is_empty()).map(|server| stun(server));
        let turn = if is_running { turn(&copy, &local.offered) } else { Vec::new() };
        let ports = if is_running { Vec::new() } else { ports(&copy) };
        let certificate = certificate(&copy);
        let https = match (&certificate, copy.tls_listen.filter(|listen| is_running && listen.port() != 0)) {
            (Some(Ok((_, Some(name)))), Some(listen)) => {
                let shown = web::handshake(name, listen.port()).map_err(|error| error.to_string());
                Some((format!("{name}:{}", listen.port()), shown))
            }
            _ => None,
        };
        let public = cloud.address;
        Facts { local, is_running, public, stun, clock_off_s, ports, turn, certificate, https, ..Facts::default() }
    });
    let mut facts = asked.await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
    facts.store = Some(store(settings).await);
    let outbound = Outbound::new(&[]);
    if !settings.auth.jwks_url.is_empty() {
        let answer = fetch(&outbound, &settings.auth.jwks_url).await;
        compare(&mut facts, &answer, "the key set's server");
        facts.jwks = Some(answer.and_then(|answer| key_set(&answer)));
    }
    if !settings.acme.domains.is_empty() {
        let answer = fetch(&outbound, &settings.acme.directory).await;
        compare(&mut facts, &answer, "the certificate authority's");
        facts.authority = Some(answer.and_then(|answer| directory(&answer)));
    }
    if let Some(Wait { url, time }) = wait {
        let (url, time, auth) = (url.clone(), *time, settings.auth.clone());
        let held = tokio::task::spawn_blocking(move || web::hold(&url, time, &auth)).await;
        facts.held = Some(held.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic())));
    }
    facts
}

/// The first clock that can be had is compared with.
fn compare(facts: &mut Facts, answer: &Result<Answer, String>, whose: &str) {
    let date = answer.as_ref().ok().and_then(|answer| answer.headers.get("date")?.to_str().ok());
    if let (None, Some(theirs)) = (&facts.clock_off_s, date.and_then(http_date)) {
        facts.clock_off_s = Some((now_s() - theirs, whose.to_owned()));
    }
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

/// Tries TURN where browsers are told that it is: an allocation by each way, if the server gives us credentials; else it is only asked
/// what address it sees.
fn turn(settings: &Settings, offered: &[IpAddr]) -> Vec<Tried> {
    if let Ok(servers) = turn::told(settings) {
        return servers.iter().flat_map(turn::tried).collect();
    }
    if !settings.has_turn_server() || settings.turn.port == 0 {
        return Vec::new();
    }
    let host = settings.turn_host.trim_matches(['[', ']']);
    let at: Vec<SocketAddr> = match std::net::ToSocketAddrs::to_socket_addrs(&(host, settings.turn.port)) {
        Ok(found) if !host.is_empty() => found.collect(),
        _ => offered.iter().map(|address| SocketAddr::new(*address, settings.turn.port)).collect(),
    };
    let asked = |at: &SocketAddr| [("UDP", *at, binding_udp(*at)), ("TCP", *at, binding_tcp(*at))];
    let tried = |(way, at, seen): (_, SocketAddr, io::Result<SocketAddr>)| Tried {
        way,
        at: at.to_string(),
        port: at.port(),
        is_allocated: false,
        seen: seen.map_err(|error| error.to_string()),
    };
    at.iter().flat_map(asked).map(tried).collect()
}

async fn store(settings: &Settings) -> Result<Tables, String> {
    let url = applier::url(&settings.store).map_err(|failure| failure.to_string())?;
    store::look(&url, STORE_MAX).await.map_err(|error| error.to_string())
}

async fn fetch(outbound: &Outbound, url: &str) -> Result<Answer, String> {
    let call = Call {
        method: "GET",
        url: url.to_owned(),
        headers: vec![("accept".into(), "application/json".to_owned())],
        body: Vec::new(),
        reach: Reach::Configured,
        deadline: ANSWER_MAX,
    };
    outbound.call(call).await.map_err(|failed| failed.why)
}

fn key_set(answer: &Answer) -> Result<(), String> {
    let has_keys = serde_json::from_slice::<serde_json::Value>(&answer.body).is_ok_and(|set| set["keys"].is_array());
    match answer.status {
        200 if has_keys => Ok(()),
        200 => Err("the answer is no key set".to_owned()),
        status => Err(format!("the answer was {status}")),
    }
}

fn directory(answer: &Answer) -> Result<(), String> {
    let is_one = serde_json::from_slice::<serde_json::Value>(&answer.body).is_ok_and(|it| it["newOrder"].is_string());
    match answer.status {
        200 if is_one => Ok(()),
        200 => Err("the answer is no ACME directory".to_owned()),
        status => Err(format!("the answer was {status}")),
    }
}
