//! The real binary on free ports: how it starts, what it refuses, and what one socket hears.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, missing_docs)]

mod plain;

use std::io::{BufRead, BufReader, Lines, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use crate::plain::plain;

/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// A directory for one server: two cannot share one.
fn store_dir() -> PathBuf {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let name = format!("start-store-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name)
}

/// The binary, without the settings of whoever runs the tests.
fn lyceum() -> Command {
    let mut command = plain(env!("CARGO_BIN_EXE_lyceum"));
    // Two servers of one machine, as tests are, cannot have the same.
    command
        .env("LYCEUM__ADMIN__DRAIN_S", "0")
        .env("LYCEUM__TURN__PORT", "0")
        .env("LYCEUM__TURN__TLS_PORT", "0")
        .env("LYCEUM__STORE__DIR", store_dir());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

struct Server {
    child: Child,
    http: SocketAddr,
    admin: SocketAddr,
    log: Arc<Mutex<String>>,
}

impl Server {
    fn start() -> Self {
        Self::start_with(|_| {})
    }

    fn start_with(set: impl FnOnce(&mut Command)) -> Self {
        let (server, lines) = Self::spawn(set);
        let copy = server.log.clone();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let mut log = copy.lock().expect("nobody panics with it");
                log.push_str(&line);
                log.push('\n');
            }
        });
        server
    }

    /// A server that listens, and what else it will write into its log.
    fn spawn(set: impl FnOnce(&mut Command)) -> (Self, Lines<BufReader<ChildStderr>>) {
        let mut command = lyceum();
        command.args([
            "--listen",
            "127.0.0.1:0",
            "--admin-listen",
            "127.0.0.1:0",
            "--media-port",
            "0",
            "--workers",
            "2",
        ]);
        command.args(["--log-format", "json", "--log-level", "debug"]);
        set(&mut command);
        let mut child = command.spawn().expect("the binary starts");
        let mut lines = BufReader::new(child.stderr.take().expect("stderr is piped")).lines();
        let mut whole = String::new();
        let (http, admin) = loop {
            let line = lines.next().expect("it says where it listens").expect("text");
            whole.push_str(&line);
            whole.push('\n');
            let line: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("the log is JSON, not {line}"));
            if line["message"] == "listening" {
                let address = |key: &str| line[key].as_str().and_then(|a| a.parse().ok()).expect("an address");
                break (address("http"), address("admin"));
            }
        };
        (Server { child, http, admin, log: Arc::new(Mutex::new(whole)) }, lines)
    }

    /// What the line says that tells where everything is.
    fn listening(&self, field: &str) -> String {
        let log = self.log.lock().expect("nobody panics with it");
        let mut lines = log.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
        let line = lines.find(|line| line["message"] == "listening").expect("it was waited for");
        line[field].as_str().expect("a string").to_owned()
    }

    /// `SIGTERM`, and how the process ended.
    fn end(&mut self) -> (ExitStatus, Duration) {
        let start = Instant::now();
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().expect("kill exists").success());
        (self.child.wait().expect("it is our child"), start.elapsed())
    }

    /// A metric without labels.
    fn metric(&self, name: &str) -> f64 {
        let page = get(self.admin, "/metrics").body;
        let line = page.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in\n{page}")).parse().expect("a number")
    }

    /// Asks until the metric has the value.
    fn wait_for_metric(&self, name: &str, value: f64) {
        let start = Instant::now();
        while self.metric(name) != value {
            assert!(start.elapsed() < PATIENCE, "{name} is {} and not {value}", self.metric(name));
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Answer {
    status: u16,
    head: String,
    body: String,
}

fn get(to: SocketAddr, path: &str) -> Answer {
    ask(to, &format!("GET {path} HTTP/1.1\r\nhost: {to}\r\nconnection: close\r\n\r\n"))
}

/// One raw request that ends the connection, and its answer.
fn ask(to: SocketAddr, request: &str) -> Answer {
    let mut stream = TcpStream::connect(to).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream.write_all(request.as_bytes()).expect("it reads");
    let mut text = Vec::new();
    // A refused request may be reset after its answer.
    let _ = stream.read_to_end(&mut text);
    let text = String::from_utf8_lossy(&text).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
    Answer { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
}

fn fails(command: &mut Command) -> String {
    let Output { status, stderr, .. } = command.output().expect("the binary starts");
    let said = String::from_utf8(stderr).expect("text");
    assert_eq!(status.code(), Some(1), "{said}");
    assert_eq!(said.lines().count(), 1, "one sentence: {said}");
    said
}

fn file(name: &str, text: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-{name}", std::process::id()));
    std::fs::write(&path, text).expect("a writable target directory");
    path
}

#[test]
fn it_starts_serves_and_ends() {
    let mut server = Server::start();
    let page = get(server.http, "/");
    assert_eq!(page.status, 200);
    assert!(page.body.contains("Signaling server running"), "{}", page.body);
    for header in [
        "content-security-policy: default-src 'none'; script-src 'self'",
        "permissions-policy: camera=(self)",
        "x-content-type-options: nosniff",
    ] {
        assert!(page.head.contains(header), "{header} in {}", page.head);
    }
    assert_eq!(get(server.http, "/nothing/here").status, 404);

    let health = get(server.http, "/api/health");
    let health_body: Value = serde_json::from_str(&health.body).expect("JSON");
    assert_eq!((health.status, &health_body["status"]), (200, &"healthy".into()));
    assert_eq!(health_body["checks"]["media"]["workersAlive"], 2);
    assert_eq!(health_body["checks"]["turn"]["status"], "healthy");
    assert!(health_body["timestamp"].as_u64().is_some() && health_body["responseTime"].is_number());

    assert_eq!(get(server.admin, "/livez").status, 200);
    let ready: Value = serde_json::from_str(&get(server.admin, "/readyz").body).expect("JSON");
    assert_eq!(ready["status"], "ready");
    assert_eq!(ready["media"].as_array().map(Vec::len), Some(2));
    assert_eq!(server.metric("lyceum_media_workers_alive"), 2.0);
    assert!(server.metric("lyceum_process_resident_bytes") > 1e6);
    // Metrics are for the operator only.
    assert_eq!(get(server.http, "/metrics").status, 404);

    let (status, took) = server.end();
    assert!(status.success(), "{status}");
    assert!(took < PATIENCE, "{took:?}");
}

/// In open mode this machine is the operator's.
#[test]
fn operators_see_their_server() {
    let server = Server::start();
    let page = get(server.http, "/admin");
    assert!(page.status == 200 && page.head.contains("default-src 'none'"), "{}", page.head);
    let look = |path: &str| -> Value {
        let answer = get(server.http, &format!("/v1/admin/{path}"));
        assert_eq!(answer.status, 200, "{}", answer.body);
        serde_json::from_str(&answer.body).expect("JSON")
    };
    let overview = look("overview");
    assert_eq!((&overview["totals"]["rooms"], &overview["turn"]["state"]), (&0.into(), &"healthy".into()));
    assert!(
        overview["workers"].as_array().is_some_and(|all| all.len() == 2 && all.iter().all(|w| w["idleMs"].is_u64()))
    );
    let own = &overview["node"]["nodeId"];
    let start = Instant::now();
    // The database hears of us when the first fact or the first round comes.
    while look("nodes")["nodes"]
        .as_array()
        .is_none_or(|all| !all.iter().any(|n| n["nodeId"] == *own && n["isThis"] == true))
    {
        assert!(start.elapsed() < PATIENCE, "this node is in the database");
        std::thread::sleep(Duration::from_millis(100));
    }
    let errors = look("errors");
    assert!(
        errors["lines"]
            .as_array()
            .is_some_and(|all| all.iter().any(|l| l["text"].as_str().is_some_and(|t| t.contains("OPEN MODE")))),
        "{errors}"
    );
    let settings = look("config");
    let workers = settings["settings"].as_array().and_then(|all| all.iter().find(|s| s["name"] == "workers"));
    assert_eq!(workers.map(|w| (&w["value"], &w["secret"])), Some((&2.into(), &false.into())), "{settings}");
    let nobody = get(server.http, "/v1/admin/sessions/art/media");
    assert!(nobody.status == 404 && nobody.body.contains("session/not_live"), "{}", nobody.body);
    let request = format!(
        "POST /v1/admin/network-test HTTP/1.1\r\nhost: {}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
        server.http
    );
    let seat: Value = serde_json::from_str(&ask(server.http, &request).body).expect("JSON");
    assert_eq!((&seat["sessionId"], &seat["token"]), (&"network-test".into(), &Value::Null));
    assert!(seat["iceServers"][0]["credential"].is_string(), "{seat}");
}

/// A supervisor may stop reading the log and close its pipe.
#[test]
fn a_log_that_nobody_reads_ends_nothing() {
    let (mut server, lines) = Server::spawn(|_| {});
    drop(lines);
    assert_eq!(
        get(server.http, "/socket.io/?EIO=4&transport=polling").status,
        200,
        "which is logged as all connections are"
    );
    assert_eq!(get(server.admin, "/livez").status, 200);
    let (status, _) = server.end();
    assert!(status.success(), "{status}: it says in the log that it ends");
}

#[test]
fn datagrams_of_strangers_are_counted() {
    let server = Server::start();
    let ready: Value = serde_json::from_str(&get(server.admin, "/readyz").body).expect("JSON");
    let client = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    for worker in ready["media"].as_array().expect("workers") {
        let port = u16::try_from(worker["port"].as_u64().expect("a port")).expect("a port");
        for _ in 0..5 {
            client.send_to(b"\xffnot for you", ("127.0.0.1", port)).expect("it is sent");
        }
    }
    server.wait_for_metric("lyceum_datagrams_in_total", 10.0);
}

#[test]
fn a_taken_port_is_named_with_its_setting() {
    let taken = TcpListener::bind("0.0.0.0:0").expect("a free port");
    let port = taken.local_addr().expect("bound").port();
    let said = fails(lyceum().env("SIGNALING_PORT", port.to_string()));
    assert_eq!(
        said,
        format!("lyceum: EADDRINUSE: port {port} is taken; choose another with SIGNALING_PORT or [http] listen\n")
    );
    let said = fails(lyceum().args(["--listen", "127.0.0.1:0", "--admin-listen", &format!("127.0.0.1:{port}")]));
    assert!(
        said.contains(&format!("port {port} is taken; choose another with LYCEUM__ADMIN__LISTEN or [admin] listen")),
        "{said}"
    );
    let udp = UdpSocket::bind("0.0.0.0:0").expect("a free port");
    let port = udp.local_addr().expect("bound").port();
    let said = fails(lyceum().args([
        "--listen",
        "127.0.0.1:0",
        "--admin-listen",
        "127.0.0.1:0",
        "--media-port",
        &port.to_string(),
    ]));
    assert!(
        said.contains(&format!("port {port} is taken; choose another with LYCEUM__MEDIA__PORT or [media] port")),
        "{said}"
    );
    let said = fails(lyceum().args(["--listen", "127.0.0.1:0"]).env("LYCEUM__TURN__PORT", port.to_string()));
    assert!(
        said.contains(&format!("port {port} is taken; choose another with LYCEUM__TURN__PORT or [turn] port")),
        "{said}"
    );
}

#[test]
fn turn_is_here_elsewhere_or_off() {
    let status = |server: &Server| {
        let health: Value = serde_json::from_str(&get(server.http, "/api/health").body).expect("JSON");
        health["checks"]["turn"]["status"].as_str().map(str::to_owned)
    };
    let outside = [("TURN_URIS", "turn:turn.example"), ("TURN_SECRET", "0123456789abcdef")];
    let elsewhere = Server::start_with(|c| {
        c.envs(outside);
    });
    assert_eq!(status(&elsewhere).as_deref(), Some("external"));
    let off = Server::start_with(|c| {
        c.env("LYCEUM__TURN__ENABLED", "false");
    });
    assert_eq!(status(&off).as_deref(), Some("off"));
    let both = Server::start_with(|c| {
        c.envs(outside).env("LYCEUM__TURN__ENABLED", "true");
    });
    assert_eq!(status(&both).as_deref(), Some("healthy"));
    let port: u16 =
        both.listening("turn").rsplit(' ').next().and_then(|port| port.parse().ok()).expect("it says where");
    let client = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    client.send_to(b"neither STUN nor a channel", ("127.0.0.1", port)).expect("a route");
    both.wait_for_metric("lyceum_turn_refusals_total{reason=\"malformed\"}", 1.0);
}

#[test]
fn a_bad_setting_is_one_sentence() {
    let config = file("unknown.toml", "[http]\nlisten = \"127.0.0.1:0\"\norigin = []\n");
    let said = fails(lyceum().arg("--config").arg(&config));
    assert!(said.contains("unknown setting http.origin in ") && said.contains("did you mean http.origins?"), "{said}");
    let config = file("broken.toml", "[http]\nlisten = = 3\n");
    assert!(fails(lyceum().arg("--config").arg(&config)).contains("broken.toml, line 2, is not TOML"));
    let said = fails(lyceum().args(["--config", "/nonexistent.toml"]));
    assert!(said.contains("cannot read the file /nonexistent.toml given by --config"), "{said}");
    let said = fails(lyceum().env("LYCEUM__MEDIA__PROT", "1"));
    assert!(said.contains("did you mean LYCEUM__MEDIA__PORT?"), "{said}");
    let config = file("value.toml", "[media]\nworkers = 0\n");
    let said = fails(lyceum().arg("--config").arg(&config));
    assert!(said.contains("media.workers in ") && said.contains("expected a whole number between 1 and 64"), "{said}");
}

#[test]
fn help_teaches() {
    let output = lyceum().arg("--help").stdout(Stdio::piped()).output().expect("the binary starts");
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(output.status.success());
    for word in ["SIGNALING_PORT", "NEXTAUTH_URL", "TURN_URIS", "--config", "grace_ms", "http://localhost:3001"] {
        assert!(text.contains(word), "{word} in {text}");
    }
}

#[test]
fn other_origins_are_refused_for_polling_and_pages() {
    let server = Server::start_with(|c| {
        c.env("NEXTAUTH_URL", "https://school.example");
    });
    let with = |origin: &str| {
        ask(
            server.http,
            &format!(
                "GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nhost: {}\r\norigin: {origin}\r\nconnection: close\r\n\r\n",
                server.http
            ),
        )
    };
    for bad in ["https://evil.example", "null", "http://127.0.0.1.evil.example", "http://school.example"] {
        let answer = with(bad);
        assert_eq!(answer.status, 403, "{bad}");
        assert!(!answer.head.contains("access-control"), "{}", answer.head);
    }
    for good in
        ["https://school.example".to_owned(), "http://localhost:5173".to_owned(), format!("http://{}", server.http)]
    {
        let answer = with(&good);
        assert_eq!(answer.status, 200, "{good}");
        assert!(answer.head.contains(&format!("access-control-allow-origin: {good}\r\n")), "{}", answer.head);
        assert!(answer.head.contains("access-control-allow-credentials: true"), "{}", answer.head);
    }
}

#[test]
fn open_mode_refuses_foreign_hosts_and_proxies() {
    let server = Server::start();
    for (lines, status) in [
        ("host: localhost", 200),
        ("host: 127.0.0.1:3001", 200),
        ("host: evil.example", 403),
        ("host: localhost\r\nx-forwarded-for: 203.0.113.9", 403),
        ("host: localhost\r\nforwarded: for=203.0.113.9", 403),
        ("host: localhost\r\nx-real-ip: 203.0.113.9", 403),
    ] {
        let answer = ask(server.http, &format!("GET / HTTP/1.1\r\n{lines}\r\nconnection: close\r\n\r\n"));
        assert_eq!(answer.status, status, "{lines}");
    }
    assert!(server.log.lock().expect("unpoisoned").contains("listening"));
}

#[test]
fn too_much_http_is_refused() {
    let server = Server::start();
    let big = format!(
        "POST /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nhost: {}\r\ncontent-length: 2000000\r\nconnection: close\r\n\r\n",
        server.http
    );
    assert_eq!(ask(server.http, &big).status, 413);
    let many: String = (0..300).map(|i| format!("x-{i}: 1\r\n")).collect();
    assert_eq!(ask(server.http, &format!("GET / HTTP/1.1\r\nhost: localhost\r\n{many}\r\n")).status, 431);
    let long = "a".repeat(64 * 1024);
    assert_eq!(ask(server.http, &format!("GET / HTTP/1.1\r\nhost: localhost\r\nx-long: {long}\r\n\r\n")).status, 431);
    let url = "a".repeat(100 * 1024);
    let status = ask(server.http, &format!("GET /{url} HTTP/1.1\r\nhost: localhost\r\n\r\n")).status;
    assert!([414, 431].contains(&status), "{status}");
    assert_eq!(get(server.http, "/").status, 200);
}

#[test]
fn a_request_that_never_ends_is_ended() {
    let server = Server::start();
    let mut stream = TcpStream::connect(server.http).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream.write_all(b"GET / HTTP/1.1\r\nhost: loc").expect("it reads");
    let start = Instant::now();
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
    assert!((Duration::from_secs(8)..PATIENCE / 2).contains(&start.elapsed()), "{:?}", start.elapsed());
}

type Socket = WebSocketStream<MaybeTlsStream<tokio::net::TcpStream>>;

async fn websocket(server: &Server, origin: Option<&str>) -> Result<Socket, Error> {
    let mut request = format!("ws://{}/socket.io/?EIO=4&transport=websocket", server.http).into_client_request()?;
    if let Some(origin) = origin {
        request.headers_mut().insert("origin", origin.parse().expect("a header value"));
    }
    tokio_tungstenite::connect_async(request).await.map(|(socket, _)| socket)
}

/// The next text packet, pings answered on the way; `None` at the end.
async fn next(socket: &mut Socket) -> Option<String> {
    loop {
        let message = tokio::time::timeout(PATIENCE, socket.next()).await.expect("an answer in time");
        match message {
            Some(Ok(Message::Text(text))) if text.as_str() == "2" => {
                let _ = socket.send(Message::text("3")).await;
            }
            Some(Ok(Message::Text(text))) => return Some(text.as_str().to_owned()),
            Some(Ok(Message::Close(_)) | Err(_)) | None => return None,
            Some(Ok(_)) => {}
        }
    }
}

/// Opens a socket and connects to `/`; gives the secret session id too.
async fn connected(server: &Server) -> (Socket, String) {
    let mut socket = websocket(server, None).await.expect("it upgrades");
    let open = next(&mut socket).await.expect("an open packet");
    let open: Value = serde_json::from_str(open.strip_prefix('0').expect("an open packet")).expect("JSON");
    assert_eq!(
        (&open["pingInterval"], &open["pingTimeout"], &open["maxPayload"]),
        (&10_000.into(), &10_000.into(), &1_000_000.into())
    );
    socket.send(Message::text("40")).await.expect("it reads");
    assert!(next(&mut socket).await.expect("a connect packet").starts_with("40{\"sid\""));
    (socket, open["sid"].as_str().expect("a session id").to_owned())
}

#[tokio::test]
async fn other_origins_are_refused_for_websockets() {
    let server = Server::start();
    for bad in ["https://evil.example", "null"] {
        match websocket(&server, Some(bad)).await {
            Err(Error::Http(answer)) => assert_eq!(answer.status(), 403, "{bad}"),
            other => panic!("{bad} got {:?}", other.map(|_| "a websocket")),
        }
    }
    let own = format!("http://{}", server.http);
    assert!(websocket(&server, Some(&own)).await.is_ok());
}

#[tokio::test]
async fn every_event_is_answered_once_and_in_order() {
    let server = Server::start();
    let (mut socket, sid) = connected(&server).await;
    // Unknown names, no payload, no object, more arguments, attachments: all are answered.
    let odd = [
        r#"421["no-such-event",{}]"#,
        r#"422["no-such-event"]"#,
        r#"423["chat-message",7]"#,
        r#"424["chat-message",null,{}]"#,
    ];
    for event in odd {
        socket.send(Message::text(event)).await.expect("it reads");
    }
    socket.send(Message::text(r#"451-5["no-such-event",{"_placeholder":true,"num":0}]"#)).await.expect("it reads");
    socket.send(Message::binary(vec![1, 2, 3])).await.expect("it reads");
    for id in 100..180 {
        socket.send(Message::text(format!(r#"42{id}["no-such-event",{{}}]"#))).await.expect("it reads");
    }
    let mut answered = Vec::new();
    while answered.len() < 85 {
        let packet = next(&mut socket).await.expect("all are answered");
        let Some(ack) = packet.strip_prefix("43") else { continue };
        let (id, body) = ack.split_at(ack.find('[').expect("a body"));
        let body: Value = serde_json::from_str(body).expect("JSON");
        assert_eq!(body[0]["ok"], false, "{ack}");
        assert!(body[0]["error"]["code"].is_string(), "{ack}");
        answered.push(id.parse::<u32>().expect("an id"));
    }
    // Events of a session may be held for a join that is under way; unknown ones are answered at once.
    let at_once: Vec<u32> = answered.iter().copied().filter(|id| ![3, 4].contains(id)).collect();
    let expected: Vec<u32> = [1, 2, 5].into_iter().chain(100..180).collect();
    assert_eq!(at_once, expected);
    answered.sort_unstable();
    answered.dedup();
    assert_eq!(answered.len(), 85);
    assert!(!server.log.lock().expect("unpoisoned").contains(&sid), "the session id is a secret");
}

#[tokio::test]
async fn sockets_that_vanish_in_any_way_are_gone() {
    let server = Server::start();
    // Gone while being accepted: CONNECT and the end of the connection in one breath.
    for _ in 0..50 {
        let mut socket = websocket(&server, None).await.expect("it upgrades");
        socket.feed(Message::text("40")).await.expect("room");
        socket.feed(Message::Close(None)).await.expect("room");
        socket.flush().await.expect("it reads");
    }
    server.wait_for_metric("lyceum_sockets", 0.0);
    // Connecting and leaving in turn is refused after a while.
    let (mut socket, _) = connected(&server).await;
    let mut refused = 0;
    for _ in 0..30 {
        socket.send(Message::text("41")).await.expect("it reads");
        socket.send(Message::text("40")).await.expect("it reads");
        refused += usize::from(next(&mut socket).await.expect("an answer") == r#"44{"message":"rate/limited"}"#);
        if refused > 0 {
            break;
        }
    }
    assert_eq!(refused, 1);
    drop(socket);
    server.wait_for_metric("lyceum_sockets", 0.0);
    // A goodbye of Socket.IO, of Engine.IO, of websockets, and none at all.
    let mut sockets = Vec::new();
    for _ in 0..4 {
        sockets.push(connected(&server).await.0);
    }
    server.wait_for_metric("lyceum_sockets", 4.0);
    sockets[0].send(Message::text("41")).await.expect("it reads");
    sockets[1].send(Message::text("1")).await.expect("it reads");
    sockets[2].send(Message::Close(None)).await.expect("it reads");
    drop(sockets.remove(3));
    server.wait_for_metric("lyceum_sockets", 0.0);
}

#[tokio::test]
async fn what_is_not_the_protocol_ends_its_connection_only() {
    let server = Server::start();
    let (mut calm, _) = connected(&server).await;
    let deep = format!(r#"42["a",{}]"#, "[".repeat(100_000));
    let announced = r#"451000000-["x"]"#;
    for bad in [r#"42["a",{]"#, r#"42[7]"#, "42{}", "42", "9", "4", "4z", announced, &deep, r#"42["connect"#] {
        let (mut socket, _) = connected(&server).await;
        socket.send(Message::text(bad)).await.expect("it reads");
        // An Engine.IO close may come before the end.
        let last = next(&mut socket).await.filter(|packet| packet != "1");
        assert_eq!((last, next(&mut socket).await), (None, None), "{bad:.40}");
    }
    let (mut socket, _) = connected(&server).await;
    // More than a message may have: the server may be gone before all of it is written.
    let _ = socket.send(Message::text(format!(r#"42["a","{}"]"#, "a".repeat(2_000_000)))).await;
    assert_eq!(next(&mut socket).await.filter(|packet| packet != "1"), None);
    calm.send(Message::text(r#"421["no-such-event"]"#)).await.expect("it reads");
    assert!(next(&mut calm).await.expect("an ack").starts_with("431["));
}

/// Sends that many events at once and gives all that comes until the end.
async fn flood(flooder: Socket, events: usize) -> Vec<String> {
    let (mut out, mut input) = flooder.split();
    let sending = tokio::spawn(async move {
        for i in 0..events {
            if out.feed(Message::text(format!(r#"42{i}["no-such-event",{{}}]"#))).await.is_err() {
                break;
            }
        }
        let _ = out.flush().await;
        // Dropped with the task, the connection would end before the answers have come.
        out
    });
    let mut heard = Vec::new();
    while let Some(Ok(message)) = tokio::time::timeout(PATIENCE, input.next()).await.expect("an end in time") {
        if let Message::Text(text) = message {
            heard.push(text.as_str().to_owned());
            // The disconnect; it is for the client to end the connection then.
            if text.as_str() == "41" {
                break;
            }
        }
    }
    sending.abort();
    heard
}

#[tokio::test]
async fn a_flood_is_answered_in_order_and_ended_with_a_reason() {
    let server = Server::start();
    for events in [3_000, 20_000] {
        let (flooder, _) = connected(&server).await;
        let heard = flood(flooder, events).await;
        let acks: Vec<usize> =
            heard.iter().filter_map(|p| p.strip_prefix("43")?.split_once('[')?.0.parse().ok()).collect();
        assert!(acks.len() > 1_000, "only {} of {events} were answered", acks.len());
        assert_eq!(acks, (0..acks.len()).collect::<Vec<_>>(), "each once and in order");
        assert!(heard.iter().any(|p| p.starts_with("43") && p.contains("rate/limited")));
        let goodbye = heard.iter().position(|p| p.starts_with(r#"42["session-error""#) && p.contains("rate/limited"));
        let end = heard.iter().position(|p| p == "41");
        assert!(goodbye.is_some() && goodbye < end, "goodbye {goodbye:?}, end {end:?} of {}", heard.len());
    }
}

#[tokio::test]
async fn a_flood_costs_only_the_flooder() {
    let server = Server::start();
    let (mut calm, _) = connected(&server).await;
    let mut floods = Vec::new();
    for _ in 0..4 {
        floods.push(tokio::spawn(flood(connected(&server).await.0, 20_000)));
    }
    for id in 0..20 {
        let start = Instant::now();
        calm.send(Message::text(format!(r#"42{id}["no-such-event",{{}}]"#))).await.expect("it reads");
        let ack = next(&mut calm).await.expect("it is answered");
        assert!(ack.starts_with(&format!("43{id}[")), "{ack}");
        assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    }
    for flood in floods {
        flood.await.expect("no panic");
    }
    assert_eq!(get(server.admin, "/livez").status, 200);
    drop(calm);
    server.wait_for_metric("lyceum_sockets", 0.0);
    server.wait_for_metric("lyceum_queue_items{queue=\"inbox\",worker=\"\"}", 0.0);
}

#[test]
fn running_out_of_files_is_survived() {
    let server = Server::start();
    let pid = server.child.id();
    let open = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("it lives").count();
    let limit = |files: usize| {
        let status = Command::new("prlimit").args([format!("--pid={pid}"), format!("--nofile={files}:")]).status();
        assert!(status.expect("prlimit exists").success());
    };
    limit(open + 10);
    let held: Vec<_> = (0..40).map(|_| TcpStream::connect(server.http).expect("the kernel accepts")).collect();
    let start = Instant::now();
    while !server.log.lock().expect("unpoisoned").contains("cannot accept connections") {
        assert!(start.elapsed() < PATIENCE, "it says so");
        std::thread::sleep(Duration::from_millis(20));
    }
    // Most of what waited found no file. What was accepted goes, and all is as before.
    drop(held);
    assert_eq!(get(server.http, "/").status, 200);
    let lines = server.log.lock().expect("unpoisoned").matches("cannot accept connections").count();
    assert_eq!(lines, 1, "said once, however often it is tried");
    assert_eq!(get(server.admin, "/livez").status, 200);
}

#[test]
fn polling_carries_events_and_acks() {
    let server = Server::start();
    let open = get(server.http, "/socket.io/?EIO=4&transport=polling").body;
    let open: Value = serde_json::from_str(&open[1..]).expect("an open packet");
    let path = format!("/socket.io/?EIO=4&transport=polling&sid={}", open["sid"].as_str().expect("a session id"));
    let post = |body: &str| {
        let head =
            format!("POST {path} HTTP/1.1\r\nhost: {}\r\ncontent-type: text/plain;charset=UTF-8\r\n", server.http);
        ask(server.http, &format!("{head}content-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())).status
    };
    assert_eq!(post("40"), 200);
    // A poll brings what waits, which may be only a ping.
    let packet = |starts_with: &str| loop {
        let body = get(server.http, &path).body;
        if let Some(packet) = body.split('\x1e').find(|packet| *packet != "2") {
            assert!(packet.starts_with(starts_with), "{packet}");
            break packet.to_owned();
        }
    };
    packet("40{");
    assert_eq!(post(r#"427["no-such-event",{}]"#), 200);
    assert!(packet("437[").contains("request/invalid"));
    assert_eq!(get(server.http, "/socket.io/?EIO=4&transport=polling&sid=AAAAAAAAAAAAAAAA").status, 400);
    assert_eq!(get(server.http, "/socket.io/?EIO=3&transport=polling").status, 400);
}
