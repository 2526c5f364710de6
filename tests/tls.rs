//! The real binary with a certificate: HTTPS, Socket.IO over it, and files that are replaced or wrong.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, missing_docs)]

mod plain;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use futures_util::{SinkExt, StreamExt};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType, date_time_ymd};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion};
use serde_json::{Value, json};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::plain::plain;

/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// Who issues the certificates of a test.
struct Authority {
    root: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root = params.self_signed(&key).expect("a certificate").der().clone();
        Authority { root, issuer: Issuer::new(params, key) }
    }

    /// Writes a certificate for this machine, valid in these years, and its key.
    fn issue(&self, folder: &Path, years: Range<i32>) {
        self.issue_with(folder, |params| {
            params.not_before = date_time_ymd(years.start, 1, 1);
            params.not_after = date_time_ymd(years.end, 1, 1);
        });
    }

    fn issue_with(&self, folder: &Path, life: impl FnOnce(&mut CertificateParams)) {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(["localhost".to_owned()]).expect("a name");
        params.subject_alt_names.push(SanType::IpAddress([127, 0, 0, 1].into()));
        life(&mut params);
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        fs::create_dir_all(folder).expect("a writable place");
        fs::write(folder.join("fullchain.pem"), certificate.pem()).expect("it can be written");
        fs::write(folder.join("privkey.pem"), key.serialize_pem()).expect("it can be written");
    }

    /// A client that trusts us.
    fn client(&self, versions: &[&'static SupportedProtocolVersion], protocols: &[&str]) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.root.clone()).expect("a root");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions);
        let builder = builder.expect("versions that the provider knows").with_root_certificates(roots);
        let mut config = builder.with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        Arc::new(config)
    }
}

/// A folder of a test, empty.
fn folder(name: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("tls-{}-{name}", std::process::id()));
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(&path).expect("a writable target directory");
    path
}

/// The binary with the files of a folder, and without the settings of whoever runs the tests.
fn lyceum(folder: &Path) -> Command {
    let mut command = plain(env!("CARGO_BIN_EXE_lyceum"));
    command.args(["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--media-port", "0", "--workers", "1"]);
    command.args(["--log-format", "json", "--address", "127.0.0.1"]).env("LYCEUM__TLS__LISTEN", "127.0.0.1:0");
    command
        .env("LYCEUM__TURN__PORT", "0")
        .env("LYCEUM__TURN__TLS_PORT", "0")
        .env("LYCEUM__STORE__DIR", folder.join("store"));
    command.env("LYCEUM__TLS__CERTIFICATE", folder.join("fullchain.pem"));
    command.env("LYCEUM__TLS__KEY", folder.join("privkey.pem"));
    command.stdin(Stdio::null()).stderr(Stdio::piped());
    command
}

struct Server {
    child: Child,
    https: SocketAddr,
    admin: SocketAddr,
    /// TURN over TLS on a port of its own.
    turns: SocketAddr,
}

impl Server {
    fn start(command: Command) -> Self {
        Self::try_start(command).expect("it says where it listens")
    }

    /// `None` if it ends before it listens.
    fn try_start(mut command: Command) -> Option<Self> {
        let mut child = command.spawn().expect("the binary starts");
        let lines = BufReader::new(child.stderr.take().expect("stderr is piped")).lines();
        let mut lines = lines.map(|line| line.expect("text"));
        let Some(line) = lines.find(|line| line.contains("\"listening\"")) else {
            let _ = child.wait();
            return None;
        };
        // The pipe is read to its end, or what the server logs would fail.
        std::thread::spawn(move || lines.count());
        let line: Value = serde_json::from_str(&line).expect("JSON");
        let address = |key: &str| line[key].as_str().and_then(|a| a.parse().ok()).unwrap_or_else(|| panic!("no {key}"));
        let turns = line["turn"].as_str().and_then(|turn| turn.rsplit_once("TLS ")?.1.parse::<u16>().ok());
        let turns = SocketAddr::from(([127, 0, 0, 1], turns.expect("TURN listens for TLS")));
        Some(Server { child, https: address("https"), admin: address("admin"), turns })
    }

    /// A connection over TLS, with the handshake behind it.
    fn connect(&self, config: Arc<ClientConfig>) -> std::io::Result<Secure> {
        connect(self.https, config)
    }

    /// The answer to a request that ends the connection; it must end as TLS wants it.
    fn ask(&self, config: Arc<ClientConfig>, request: &str) -> String {
        let mut tls = self.connect(config).expect("it is trusted");
        tls.write_all(request.as_bytes()).expect("it reads");
        let mut answer = Vec::new();
        tls.read_to_end(&mut answer).expect("an answer and a clean end");
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// One of the operator's pages, head and all.
    fn page(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(self.admin).expect("it listens");
        let request = format!("GET {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n", self.admin);
        stream.write_all(request.as_bytes()).expect("it reads");
        let mut page = String::new();
        stream.read_to_string(&mut page).expect("a page");
        page
    }

    /// A metric without labels.
    fn metric(&self, name: &str) -> f64 {
        let page = self.page("/metrics");
        let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
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

    /// `SIGHUP`.
    fn look_now(&self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-HUP", &pid]).status().expect("kill exists").success());
    }
}

type Secure = StreamOwned<ClientConnection, TcpStream>;

/// A connection over TLS, with the handshake behind it.
fn connect(to: SocketAddr, config: Arc<ClientConfig>) -> std::io::Result<Secure> {
    let name = ServerName::try_from("localhost").expect("a name");
    let stream = TcpStream::connect(to).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let mut tls = StreamOwned::new(ClientConnection::new(config, name).expect("a good configuration"), stream);
    while tls.conn.is_handshaking() {
        tls.conn.complete_io(&mut tls.sock)?;
    }
    Ok(tls)
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn get(server: &Server, path: &str, more: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: {}\r\n{more}connection: close\r\n\r\n", server.https)
}

#[test]
fn pages_come_over_both_versions_and_to_good_origins() {
    let (authority, folder) = (Authority::new(), folder("pages"));
    authority.issue(&folder, 2020..2090);
    let mut command = lyceum(&folder);
    command.env("NEXTAUTH_URL", "https://school.example");
    let server = Server::start(command);
    for (version, protocols) in
        [(&TLS12, &[][..]), (&TLS12, &["http/1.1"]), (&TLS13, &[]), (&TLS13, &["h2", "http/1.1"])]
    {
        let answer = server.ask(authority.client(&[version], protocols), &get(&server, "/", ""));
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("</html>"), "{answer}");
    }
    let polling = "/socket.io/?EIO=4&transport=polling";
    let own = format!("https://{}", server.https);
    for (origin, status) in [
        (&*own, "200"),
        ("https://school.example", "200"),
        ("https://localhost:5173", "200"),
        ("https://evil.example", "403"),
        ("https://school.example.evil", "403"),
    ] {
        let request = get(&server, polling, &format!("origin: {origin}\r\n"));
        let answer = server.ask(authority.client(&[&TLS13], &["http/1.1"]), &request);
        assert_eq!(answer.split(' ').nth(1), Some(status), "{origin}: {answer}");
        assert_eq!(answer.contains(&format!("access-control-allow-origin: {origin}\r\n")), status == "200");
    }
    server.wait_for_metric("lyceum_tls_handshakes_total", 9.0);
    // 2090-01-01.
    assert_eq!(server.metric("lyceum_tls_certificate_expires_seconds"), 3_786_912_000.0);
}

#[test]
fn strangers_get_no_further_than_their_handshake() {
    let (authority, folder) = (Authority::new(), folder("strangers"));
    authority.issue(&folder, 2020..2090);
    let server = Server::start(lyceum(&folder));
    // One that says nothing at all, for as long as it may.
    let mut silent = TcpStream::connect(server.https).expect("it listens");
    let silent_since = Instant::now();

    // A ClientHello of TLS 1.1, with one cipher suite and one signature algorithm.
    let extensions = [0, 8, 0, 13, 0, 4, 0, 2, 4, 3];
    let hello = [&[1, 0, 0, 51, 3, 2][..], &[7; 32], &[0, 0, 2, 0xc0, 0x13, 1, 0], &extensions].concat();
    let old = [&[22, 3, 1, 0, hello.len() as u8][..], &hello].concat();
    for (bytes, answer) in [
        // protocol_version (RFC 8446 §6), and whatever comes of no TLS at all.
        (&old[..], Some(70)),
        (b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n", None),
    ] {
        let mut stream = TcpStream::connect(server.https).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.write_all(bytes).expect("it reads");
        let mut heard = Vec::new();
        // What was not read may reset the connection behind the alert.
        let _ = stream.read_to_end(&mut heard);
        assert!(heard.first().is_none_or(|first| *first == 21), "an alert and not {heard:?}");
        if let Some(alert) = answer {
            assert_eq!(heard.last(), Some(&alert), "{heard:?}");
        }
    }
    // No protocol of ours; and one that trusts somebody else.
    assert!(server.connect(authority.client(&[&TLS13], &["h2", "imap"])).is_err());
    assert!(server.connect(Authority::new().client(&[&TLS13], &["http/1.1"])).is_err());
    // Neither HTTP nor STUN, where nothing was said of a protocol.
    let mut odd = server.connect(authority.client(&[&TLS13], &[])).expect("it is trusted");
    odd.write_all(b"\xffodd").expect("it reads");
    let mut heard = Vec::new();
    let _ = odd.read_to_end(&mut heard);
    assert_eq!(heard, b"");
    server.wait_for_metric("lyceum_tls_handshakes_failed_total", 5.0);

    silent.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let _ = silent.read_to_end(&mut Vec::new());
    let waited = silent_since.elapsed();
    assert!((Duration::from_secs(8)..PATIENCE / 2).contains(&waited), "{waited:?}");
    server.wait_for_metric("lyceum_tls_handshakes_failed_total", 6.0);
    assert_eq!(server.metric("lyceum_tls_handshakes_total"), 0.0);
}

type Socket = WebSocketStream<TlsStream<tokio::net::TcpStream>>;

/// A Socket.IO connection over TLS, and the certificate that the server showed.
async fn socket(server: &Server, authority: &Authority) -> Result<(Socket, CertificateDer<'static>), Error> {
    let stream = tokio::net::TcpStream::connect(server.https).await?;
    let name = ServerName::try_from("localhost").expect("a name");
    let tls = TlsConnector::from(authority.client(&[&TLS13], &["http/1.1"])).connect(name, stream).await?;
    let shown = tls.get_ref().1.peer_certificates().expect("it shows one")[0].clone().into_owned();
    let url = format!("wss://localhost:{}/socket.io/?EIO=4&transport=websocket", server.https.port());
    let mut request = url.into_client_request()?;
    let own = format!("https://localhost:{}", server.https.port());
    request.headers_mut().insert("origin", own.parse().expect("a header value"));
    let (mut socket, _) = tokio_tungstenite::client_async(request, tls).await?;
    assert!(next(&mut socket).await.starts_with('0'));
    socket.send(Message::text("40")).await?;
    assert!(next(&mut socket).await.starts_with("40{\"sid\""));
    Ok((socket, shown))
}

/// The next text packet, pings answered on the way.
async fn next(socket: &mut Socket) -> String {
    loop {
        let message = tokio::time::timeout(PATIENCE, socket.next()).await.expect("an answer in time");
        match message.expect("no end").expect("a message") {
            Message::Text(text) if text.as_str() == "2" => socket.send(Message::text("3")).await.expect("it reads"),
            Message::Text(text) => return text.as_str().to_owned(),
            _ => {}
        }
    }
}

async fn acked(socket: &mut Socket, id: u32, event: &str, payload: Value) -> Value {
    socket.send(Message::text(format!("42{id}{}", json!([event, payload])))).await.expect("it reads");
    let prefix = format!("43{id}");
    loop {
        if let Some(ack) = next(socket).await.strip_prefix(&prefix) {
            return serde_json::from_str::<Value>(ack).expect("JSON")[0].take();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_replaced_while_people_talk() {
    let (authority, folder) = (Authority::new(), folder("replaced"));
    // As Kubernetes mounts secrets: files that are links through a link, which is swapped.
    authority.issue(&folder.join("first"), 2020..2090);
    authority.issue(&folder.join("second"), 2020..2091);
    let swap = |to: &str| {
        std::os::unix::fs::symlink(to, folder.join("..tmp")).expect("a link");
        fs::rename(folder.join("..tmp"), folder.join("..data")).expect("it is renamed");
    };
    swap("first");
    for file in ["fullchain.pem", "privkey.pem"] {
        std::os::unix::fs::symlink(format!("..data/{file}"), folder.join(file)).expect("a link");
    }
    let server = Server::start(lyceum(&folder));
    let (mut old, first) = socket(&server, &authority).await.expect("a socket");
    let seat = json!({ "sessionId": "tls", "userId": "ada" });
    assert_eq!(acked(&mut old, 1, "join-session", seat).await["ok"], true);

    swap("second");
    server.wait_for_metric("lyceum_tls_certificate_reloads_total", 1.0);
    let (mut new, second) = socket(&server, &authority).await.expect("a socket");
    assert_ne!(first, second);
    // 2091-01-01.
    assert_eq!(server.metric("lyceum_tls_certificate_expires_seconds"), 3_818_448_000.0);

    // What cannot be served is not taken; whoever asks is told at once.
    fs::write(folder.join("second/privkey.pem"), "nothing").expect("it can be written");
    server.look_now();
    server.wait_for_metric("lyceum_tls_certificate_reload_failures_total", 1.0);
    assert_eq!(socket(&server, &authority).await.expect("a socket").1, second);

    // The connection from before is there all the while.
    let seat = json!({ "sessionId": "tls", "userId": "bob" });
    assert_eq!(acked(&mut new, 1, "join-session", seat).await["participants"].as_array().map(Vec::len), Some(2));
    let chat = json!({ "sessionId": "tls", "message": "still here", "userId": "ada", "userName": "Ada" });
    assert_eq!(acked(&mut old, 2, "chat-message", chat).await["ok"], true);
}

/// A server cannot be started with a certificate that has expired, but a certificate can expire while it runs: then browsers get
/// neither pages nor TURN over TLS, and nobody should be sent there until it is replaced.
#[test]
fn a_certificate_that_expires_bars_the_server_until_it_is_replaced() {
    let (authority, folder) = (Authority::new(), folder("expires"));
    // Where the start takes longer than the certificate is good, a longer one is tried.
    let server = [3, 12, 48].into_iter().find_map(|good_s| {
        let ends = SystemTime::now() + Duration::from_secs(good_s);
        authority.issue_with(&folder, |params| params.not_after = ends.into());
        Server::try_start(lyceum(&folder))
    });
    let server = server.expect("it starts before its certificate expires");
    let ready = |expected: &str| {
        let start = Instant::now();
        loop {
            let page = server.page("/readyz");
            if page.starts_with(&format!("HTTP/1.1 {expected} ")) {
                return page;
            }
            assert!(start.elapsed() < PATIENCE, "{page}");
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    let page = ready("503");
    assert!(page.contains("\"reason\":\"certificate: that for localhost has expired"), "{page}");
    assert!(page.contains("certbot renew"), "what mends it is there: {page}");

    // What cannot be served is no help, and the page says so.
    fs::write(folder.join("fullchain.pem"), "nothing").expect("it can be written");
    server.look_now();
    server.wait_for_metric("lyceum_tls_certificate_reload_failures_total", 1.0);
    assert!(ready("503").contains("has no certificate in it"));

    authority.issue(&folder, 2020..2090);
    server.look_now();
    assert!(!ready("200").contains("expired"));
    assert!(server.connect(authority.client(&[&TLS13], &["http/1.1"])).is_ok());
}

/// A binding request (RFC 8489 §5) and the head of what answers it, but for its length.
const BINDING: [u8; 20] = *b"\x00\x01\x00\x00\x21\x12\xa4\x42lyceum-tests";

/// Reads an answer, which must say where we come from (XOR-MAPPED-ADDRESS, RFC 8489 §14.2).
fn bound(tls: &mut Secure) {
    let mut answer = [0; 20];
    tls.read_exact(&mut answer).expect("an answer");
    assert_eq!((&answer[..2], &answer[4..]), (&[1, 1][..], &BINDING[4..]));
    let mut attributes = vec![0; usize::from(u16::from_be_bytes([answer[2], answer[3]]))];
    tls.read_exact(&mut attributes).expect("attributes");
    let port = tls.sock.local_addr().expect("connected").port() ^ 0x2112;
    let mapped = [&[0, 0x20, 0, 8, 0, 1][..], &port.to_be_bytes(), &[127 ^ 0x21, 0x12, 0xa4, 1 ^ 0x42]].concat();
    assert!(attributes.windows(mapped.len()).any(|window| window == mapped), "{attributes:x?}");
}

#[test]
fn turn_has_a_port_and_shares_the_one_of_pages() {
    let (authority, folder) = (Authority::new(), folder("turn"));
    authority.issue(&folder, 2020..2090);
    let mut command = lyceum(&folder);
    // A listener for both families tells IPv4 clients their own address, too.
    command.env("LYCEUM__TLS__LISTEN", "[::]:0");
    let mut server = Server::start(command);
    server.https.set_ip([127, 0, 0, 1].into());
    for (to, version, protocols) in [
        (server.turns, &TLS12, &[][..]),
        (server.turns, &TLS13, &["stun.turn"]),
        (server.https, &TLS12, &[]),
        (server.https, &TLS13, &[]),
        (server.https, &TLS13, &["stun.turn"]),
        (server.https, &TLS13, &["stun.nat-discovery"]),
    ] {
        let mut tls = connect(to, authority.client(&[version], protocols)).expect("it is trusted");
        assert_eq!(tls.conn.alpn_protocol(), protocols.first().map(|name| name.as_bytes()));
        // Once in pieces, in records of their own, then twice at once.
        for piece in BINDING.chunks(7) {
            tls.write_all(piece).expect("it reads");
            tls.flush().expect("it reads");
        }
        bound(&mut tls);
        tls.write_all(&[BINDING, BINDING].concat()).expect("it reads");
        bound(&mut tls);
        bound(&mut tls);
    }
    server.wait_for_metric("lyceum_tls_handshakes_total", 6.0);
    assert_eq!(server.metric("lyceum_tls_handshakes_failed_total"), 0.0);
    // A browser that is sent to that port gets no further.
    assert!(connect(server.turns, authority.client(&[&TLS13], &["http/1.1"])).is_err());
    server.wait_for_metric("lyceum_tls_handshakes_failed_total", 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn people_are_told_of_turn_at_the_port_of_pages() {
    let (authority, folder) = (Authority::new(), folder("told"));
    authority.issue(&folder, 2020..2090);
    let server = Server::start(lyceum(&folder));
    let (mut socket, _) = socket(&server, &authority).await.expect("a socket");
    let seat = json!({ "sessionId": "tls", "userId": "ada", "media": "sfu" });
    let ack = acked(&mut socket, 1, "join-session", seat).await;
    let told = format!("turns:localhost:{}?transport=tcp", server.https.port());
    let servers = ack["iceServers"].as_array().expect("servers").iter();
    let urls: Vec<&Value> = servers.flat_map(|server| server["urls"].as_array().expect("URLs")).collect();
    assert!(urls.contains(&&Value::from(told)), "{urls:?}");
}

#[test]
fn bad_files_end_the_start_with_a_sentence() {
    let (authority, folder) = (Authority::new(), folder("bad"));
    let fails = || {
        let output = lyceum(&folder).output().expect("the binary starts");
        let said = String::from_utf8(output.stderr).expect("text");
        assert_eq!((output.status.code(), said.lines().count()), (Some(1), 1), "{said}");
        said
    };
    let certificate = folder.join("fullchain.pem");
    let said = fails();
    let gone = format!("lyceum: [tls] certificate names {}, and there is no such file\n", certificate.display());
    assert_eq!(said, gone);
    authority.issue(&folder, 2020..2021);
    assert!(fails().ends_with("has expired on 2021-01-01; renew it, for example with certbot renew\n"));
    authority.issue(&folder, 2020..2090);
    let kept = fs::read(&certificate).expect("it was written");
    authority.issue(&folder, 2020..2090);
    fs::write(&certificate, kept).expect("it can be written");
    assert!(fails().contains("privkey.pem does not belong to the first certificate in "));

    let output = lyceum(&folder).env_remove("LYCEUM__TLS__KEY").output().expect("the binary starts");
    let said = String::from_utf8(output.stderr).expect("text");
    assert_eq!(said, "lyceum: [tls] certificate is set, but [tls] key is not; both name PEM files\n");
}
