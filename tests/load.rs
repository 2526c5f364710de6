//! The load tester against the real binary: what it measures, and that deliberate faults between the two are caught.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, missing_docs)]

mod plain;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bench::call::arguments::hold_to_truth;
use bench::call::ask::Api;
use bench::call::hooks::Hooks;
use bench::call::report::Report;
use bench::call::token::Signer;
use bench::call::verify::Tolerance;
use bench::call::way::Path;
use bench::call::{Options, assertion, run};
use bench::dial::Trust;
use bench::turn::process::free_port;
use serde_json::Value;
use sqlx::Connection as _;
use tokio::net::UdpSocket;

use crate::plain::plain;

const SECRET: &str = "a secret of the tests with more than 32 bytes";
const ADMIN_KEY: &str = "an operator's key of more than 32 bytes, too";
const HOOKS_SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
/// How long people stay when all have come: several times what their first packets need.
const DURATION: Duration = Duration::from_secs(6);
/// Server, tester and other tests share two cores.
const TOLERANCE: Tolerance = Tolerance(5_000);

struct Server {
    child: Child,
    url: String,
    /// Where TLS is spoken, if it is.
    https: Option<String>,
    media: u16,
    metrics: String,
    dir: PathBuf,
}

impl Server {
    fn start(set: impl FnOnce(&mut Command)) -> Server {
        Server::start_at([0, 0], set)
    }

    /// At these ports for HTTP and for the operator.
    fn start_at([http, admin]: [u16; 2], set: impl FnOnce(&mut Command)) -> Server {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("load-store-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        let mut command = plain(env!("CARGO_BIN_EXE_lyceum"));
        command.arg(format!("--listen=127.0.0.1:{http}")).arg(format!("--admin-listen=127.0.0.1:{admin}"));
        command.args(["--media-port", "0"]);
        command.args(["--address", "127.0.0.1", "--log-format", "json"]).env("LYCEUM__MEDIA__WORKERS", "1");
        command.env("LYCEUM__TURN__PORT", "0").env("LYCEUM__TURN__TLS_PORT", "0").env("LYCEUM__STORE__DIR", &dir);
        set(&mut command);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the binary starts");
        let mut lines = BufReader::new(child.stderr.take().expect("stderr is piped")).lines();
        let line = loop {
            let line = lines.next().expect("it says where it listens").expect("text");
            let line: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("the log is JSON, not {line}"));
            if line["message"] == "listening" {
                break line;
            }
        };
        // The pipe is read to its end, or what the server logs would fail.
        std::thread::spawn(move || lines.for_each(drop));
        let address = |key: &str| line[key].as_str().expect("an address").to_owned();
        let (url, metrics) = (format!("http://{}", address("http")), format!("http://{}/metrics", address("admin")));
        let https = line["https"].as_str().map(|address| format!("https://{address}"));
        let media = line["media_ports"].as_str().and_then(|ports| ports.split(',').next()?.parse().ok());
        Server { child, url, https, media: media.expect("a port"), metrics, dir }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn options(server: &Server) -> Options {
    Options {
        url: server.url.clone(),
        session: "load".to_owned(),
        rooms: 2,
        instructors: 1,
        participants: 2,
        video_bps: 100_000,
        fps: 15,
        duration: DURATION,
        ramp: Duration::from_millis(500),
        ..Options::default()
    }
}

/// What the assertions say, each with whether it holds.
fn check(report: &Report, assertions: &str) -> Vec<(bool, String)> {
    let assertions = assertion::parse(assertions).expect("they are right");
    assertions.iter().map(|it| it.check(report)).map(|it| (it.passed, it.says)).collect()
}

fn assert_holds(report: &Report, assertions: &str) {
    for (holds, says) in check(report, assertions) {
        assert!(holds, "{says}\n{report}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rooms_are_measured_from_the_socket_to_the_picture() {
    let server = Server::start(|command| _ = command.env("JWT_SECRET", SECRET));
    let options = Options {
        signer: Some(Signer::secret(SECRET)),
        metrics: Some(server.metrics.clone()),
        screen: true,
        simulcast: true,
        ..options(&server)
    };
    let report = run(&options).await;
    assert!(report.passed(), "{report}");
    // In each room three are heard and seen by two, and a screen by two.
    assert_eq!((report.streams_expected, report.streams_missing), (2 * (6 + 6 + 2), 0), "{report}");
    assert_holds(
        &report,
        "joined=100%,loss<40%,received>500,join_max<60s,first_audio_p95<60s,first_frame_p95<60s,delay_p99<60s",
    );
    let steps = [report.join_ms.socket, report.join_ms.ack, report.join_ms.ice, report.join_ms.dtls];
    let steps = steps.map(|step| step.p50.unwrap_or_else(|| panic!("each step is measured\n{report}")));
    assert!(steps.is_sorted(), "{steps:?}");
    assert_eq!(report.by_room.len(), 2);
    assert!(report.by_room.iter().all(|room| room.joined == 3 && room.received > 100), "{report}");
    assert!(!report.seconds.is_empty() && report.seconds.iter().any(|second| second.received > 0));
    assert!(report.server.as_ref().and_then(|server| server.cpu_us_per_packet).is_some_and(|us| us > 0.0), "{report}");
    let page = serde_json::to_value(&report).expect("JSON");
    assert_eq!(page["media"]["joined"], 6);

    let strangers = run(&Options { signer: None, duration: Duration::ZERO, ..options }).await;
    assert!(!strangers.passed() && strangers.to_string().contains("auth/missing"), "{strangers}");
}

/// A room that outgrows its worker: who is on another hears and sees all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_room_on_two_workers_is_one_room() {
    let server = Server::start(|command| {
        command.env("LYCEUM__MEDIA__WORKERS", "2").env("LYCEUM__MEDIA__ROOM_SPREAD_AT", "2");
    });
    let options = Options {
        rooms: 1,
        participants: 4,
        screen: true,
        simulcast: true,
        metrics: Some(server.metrics.clone()),
        ..options(&server)
    };
    let report = run(&options).await;
    assert!(report.passed(), "{report}");
    // Five are heard and seen by four, and a screen by four.
    assert_eq!((report.streams_expected, report.streams_missing), (20 + 20 + 4, 0), "{report}");
    assert_holds(&report, "joined=100%,loss<40%,received>500,first_audio_p95<60s,first_frame_p95<60s");
    let page = bench::metrics::scrape(&server.metrics, &Trust::default()).await.expect("metrics");
    assert!(page.value("lyceum_piped_packets_total").is_some_and(|piped| piped > 100.0), "{report}");
}

/// A proxy between clients and the server's media that loses each hundredth datagram, in both directions; each client has a socket of
/// its own towards the server. It lives as long as the runtime.
async fn lossy_proxy(server: SocketAddr) -> SocketAddr {
    const LOST: usize = 100;
    let any = (Ipv4Addr::LOCALHOST, 0);
    let front = Arc::new(UdpSocket::bind(any).await.expect("a free port"));
    let address = front.local_addr().expect("it is bound");
    tokio::spawn(async move {
        let mut ways = HashMap::<SocketAddr, Arc<UdpSocket>>::new();
        let mut buffer = vec![0; 2_048];
        for number in 1.. {
            let (len, client) = front.recv_from(&mut buffer).await.expect("it is open");
            if let Entry::Vacant(place) = ways.entry(client) {
                let back = Arc::new(UdpSocket::bind(any).await.expect("a free port"));
                back.connect(server).await.expect("loopback");
                place.insert(back.clone());
                let front = front.clone();
                tokio::spawn(async move {
                    let mut buffer = vec![0; 2_048];
                    for number in 1.. {
                        let Ok(len) = back.recv(&mut buffer).await else { continue };
                        if number % LOST != 0 {
                            let _ = front.send_to(&buffer[..len], client).await;
                        }
                    }
                });
            }
            if number % LOST != 0 {
                let _ = ways[&client].send(&buffer[..len]).await;
            }
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_loses_one_packet_in_a_hundred_is_caught_by_an_assertion() {
    let server = Server::start(|_| {});
    let via = Some(lossy_proxy((Ipv4Addr::LOCALHOST, server.media).into()).await);
    let report = run(&Options { via, ..options(&server) }).await;
    let (holds, says) = check(&report, "loss<0.5%").remove(0);
    assert!(!holds && says.contains("FAILED: loss is"), "{says}\n{report}");
    assert_eq!((report.media.joined, report.streams_missing), (6, 0), "{report}");
    // Most of it is repaired, and the uplink's losses are seen too.
    assert!(report.media.unrepaired_percent < report.media.loss_percent, "{report}");
    assert!(report.media.uplink_loss_percent > 0.0, "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn media_goes_by_tcp_and_through_turn() {
    let server = Server::start(|_| {});
    for (path, codec) in [(Path::Tcp, "h264"), (Path::Turn, "vp9")] {
        let codec = codec.parse().expect("it is right");
        let session = format!("by-{path:?}");
        let report = run(&Options { path, codec, session, rooms: 1, ..options(&server) }).await;
        assert!(report.passed(), "{path:?}: {report}");
        assert_holds(&report, "joined=100%,streams_missing=0,received>100");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sockets_are_killed_udp_is_blocked_and_people_come_back() {
    let server = Server::start(|_| {});
    let deed = |text: &str| text.parse().expect("it is right");
    let chaos = vec![deed("kill-socket@200ms:34%"), deed("block-udp@400ms:34%"), deed("leave@600ms:34%:300ms")];
    let report = run(&Options { chaos, duration: Duration::from_secs(10), ..options(&server) }).await;
    assert!(report.passed(), "{report}");
    assert_eq!((report.reconnect_ms.count, report.switch_ms.count), (2, 2), "{report}");
    // Two came back to their seats, and two came anew.
    assert_eq!(report.stays.len(), 6 + 2 + 2, "{:#?}", report.stays);
    assert_eq!(report.stays.iter().filter(|stay| stay.resumed).count(), 2, "{:#?}", report.stays);
}

/// By HTTPS, to a server whose certificate nobody else vouches for; and what is not believed is not called.
#[tokio::test(flavor = "multi_thread")]
async fn servers_are_called_by_tls() {
    let name = format!("load-tls-{}", std::process::id());
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::create_dir_all(&folder).expect("it can be made");
    let key = rcgen::KeyPair::generate().expect("rcgen makes keys");
    let certificate = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("an address");
    let certificate = certificate.self_signed(&key).expect("rcgen signs with its own key");
    let (pem, private) = (folder.join("certificate.pem"), folder.join("key.pem"));
    std::fs::write(&pem, certificate.pem()).expect("it can be written");
    std::fs::write(&private, key.serialize_pem()).expect("it can be written");
    let server = Server::start(|command| {
        command.env("LYCEUM__TLS__LISTEN", "127.0.0.1:0");
        command.env("LYCEUM__TLS__CERTIFICATE", &pem).env("LYCEUM__TLS__KEY", &private);
    });
    let url = server.https.clone().expect("it speaks TLS");
    let short = Options { url, rooms: 1, participants: 1, duration: Duration::from_millis(500), ..options(&server) };
    for trust in [Trust::new(Some(&pem), false), Trust::new(None, true)] {
        let report = run(&Options { trust: trust.expect("it is a certificate"), ..short.clone() }).await;
        assert!(report.media.joined == 2 && report.failures.is_empty(), "{report}");
    }
    let strangers = run(&Options { trust: Trust::new(None, false).expect("the machine's"), ..short }).await;
    assert!(!strangers.passed() && strangers.media.joined == 0, "{strangers}");
    std::fs::remove_dir_all(folder).expect("it is ours");
}

/// A server that is killed and started anew by the chaos that was asked for: everybody comes back, and history lacks nothing.
#[tokio::test(flavor = "multi_thread")]
async fn who_was_in_when_the_server_was_restarted_comes_back() {
    let (port, admin) = (free_port().expect("a free port"), free_port().expect("another"));
    let server = Server::start_at([port, admin], |command| _ = command.env("LYCEUM_ADMIN_KEY", ADMIN_KEY));
    let (log, pid) = (server.dir.join("restarted.log"), server.dir.join("restarted.pid"));
    let (log, pid, dir) = (log.display(), pid.display(), server.dir.display());
    let restart = format!(
        "kill -KILL {old}
         env -i LYCEUM__STORE__DIR='{dir}' LYCEUM__TURN__PORT=0 LYCEUM__TURN__TLS_PORT=0 LYCEUM_ADMIN_KEY=\"{ADMIN_KEY}\" LYCEUM__MEDIA__WORKERS=1 \
           '{binary}' --listen 127.0.0.1:{port} --admin-listen 127.0.0.1:{admin} --media-port 0 --address 127.0.0.1 --log-format json >'{log}' 2>&1 &
         echo $! >'{pid}'
         until grep -q '\"listening\"' '{log}'; do kill -0 $! || exit 1; sleep 0.1; done",
        old = server.child.id(),
        binary = env!("CARGO_BIN_EXE_lyceum"),
    );
    let _second = Second(server.dir.join("restarted.pid"));
    let chaos = vec!["restart@1s".parse().expect("it is right")];
    let options = Options {
        chaos,
        restart_command: Some(restart),
        rooms: 1,
        video_bps: 50_000,
        duration: 2 * DURATION,
        ..options(&server)
    };
    let mut report = run(&options).await;
    assert!(report.failures.is_empty(), "{report}");
    assert_eq!(report.reconnect_ms.count, 3, "{report}");
    assert_eq!(report.stays.len(), 6, "each stayed twice: {:#?}", report.stays);
    // What was killed was last heard some seconds before: that much is uncertain, and said to be.
    hold_to_truth(&mut report, &api(&server), None, TOLERANCE, [PATIENCE; 2]).await;
    assert!(report.passed(), "{report}");
}

/// The server that a command started; it ends with the test.
struct Second(PathBuf);

impl Drop for Second {
    fn drop(&mut self) {
        if let Ok(pid) = std::fs::read_to_string(&self.0) {
            let _ = Command::new("kill").args(["-KILL", pid.trim()]).status();
        }
    }
}

/// A run whose attendance is held against the truth; the receiver forgets the event of that number.
async fn verified(lose: Option<u64>) -> (Report, Server, Hooks) {
    let hooks = Hooks::listen(([127, 0, 0, 1], 0).into(), HOOKS_SECRET, lose).await.expect("a free port");
    let server = Server::start(|command| {
        command.env("LYCEUM_ADMIN_KEY", ADMIN_KEY);
        command.env("LYCEUM__WEBHOOKS__URL", hooks.url()).env("LYCEUM__WEBHOOKS__SECRET", HOOKS_SECRET);
    });
    let chaos = vec![
        "kill-socket@200ms:17%".parse().expect("it is right"),
        "leave@300ms:17%:300ms".parse().expect("it is right"),
    ];
    let mut report = run(&Options { chaos, ..options(&server) }).await;
    let webhooks = if lose.is_some() { IN_VAIN } else { PATIENCE };
    hold_to_truth(&mut report, &api(&server), Some(&hooks), TOLERANCE, [PATIENCE, webhooks]).await;
    (report, server, hooks)
}

fn api(server: &Server) -> Api {
    Api { url: server.url.clone(), admin_key: ADMIN_KEY.to_owned(), trust: Trust::default() }
}

/// Far more than summaries and webhooks take.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long a webhook is waited for that was lost.
const IN_VAIN: Duration = Duration::from_secs(8);

#[tokio::test(flavor = "multi_thread")]
async fn attendance_and_webhooks_say_what_people_really_did() {
    let (mut report, server, hooks) = verified(None).await;
    let verdict = report.attendance.as_ref().unwrap_or_else(|| panic!("it was asked\n{report}"));
    assert!(report.passed(), "{report}");
    assert_eq!((verdict.stays, verdict.meetings), (8, 2), "{report}");
    // Each stay began and ended, and each meeting began, whatever tracks were told of besides.
    assert!(verdict.webhooks >= 2 * 8 + 2, "{report}");

    // Somebody makes one of them stay for an hour longer.
    let url = format!("sqlite://{}", server.dir.join("lyceum.db").display());
    let mut store = sqlx::SqliteConnection::connect(&url).await.expect("the store");
    let changed = sqlx::query(
        "UPDATE connection_log SET fact = json_set(fact, '$.at', json_extract(fact, '$.at') + 3600000)
         WHERE kind = 'left' AND seq = (SELECT MAX(seq) FROM connection_log WHERE kind = 'left')",
    );
    assert!(changed.execute(&mut store).await.expect("it can be written").rows_affected() > 0);
    hold_to_truth(&mut report, &api(&server), Some(&hooks), TOLERANCE, [PATIENCE; 2]).await;
    let verdict = report.attendance.as_ref().expect("it was asked again");
    assert!(!report.passed() && verdict.wrong > 0, "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_loses_one_webhook_is_found_out() {
    let (report, ..) = verified(Some(5)).await;
    assert!(!report.passed(), "{report}");
    let verdict = report.attendance.as_ref().expect("it was asked");
    assert!(verdict.missing > 0 && verdict.faults.iter().any(|fault| fault.starts_with("missing: ")), "{report}");
    assert_eq!((verdict.doubled, verdict.misordered, verdict.wrong), (0, 0, 0), "{report}");
}
