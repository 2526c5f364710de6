//! The real binary behind a proxy, which it trusts or does not.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, missing_docs)]

mod plain;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bench::dial::Trust;
use bench::socketio::{Client, Frame};
use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};

use plain::plain;

/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);
/// Where the proxy's connections come from; all others come from 127.0.0.1.
const PROXY: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 2));
/// Of an API key pair.
const SECRET: &str = "proxies-never-see-this-secret-of-48-bytes-or-more";

/// A directory for one server: two cannot share one.
fn store_dir() -> PathBuf {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let name = format!("proxied-store-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name)
}

struct Server {
    child: Child,
    http: SocketAddr,
}

impl Server {
    /// One that trusts the proxy, with more settings of the environment.
    fn start(more: &[(&str, &str)]) -> Server {
        let mut command = plain(env!("CARGO_BIN_EXE_lyceum"));
        command.args(["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--media-port", "0"]);
        command.args(["--workers", "1", "--log-format", "json", "--address", "127.0.0.1"]);
        command.env("LYCEUM__TURN__PORT", "0").env("LYCEUM__TURN__TLS_PORT", "0");
        command.env("LYCEUM__STORE__DIR", store_dir()).env("LYCEUM__HTTP__TRUSTED_PROXIES", PROXY.to_string());
        command.envs(more.iter().copied()).stdin(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary starts");
        let mut lines = BufReader::new(child.stderr.take().expect("stderr is piped")).lines().map_while(Result::ok);
        let line = lines.find(|line| line.contains("\"listening\"")).expect("it says where it listens");
        // The pipe is read to its end, or what the server logs would fail.
        std::thread::spawn(move || lines.count());
        let line: Value = serde_json::from_str(&line).expect("JSON");
        Server { child, http: line["http"].as_str().and_then(|http| http.parse().ok()).expect("an address") }
    }

    /// A proxy before it that adds these lines to the head of each connection's first request; where it listens.
    fn behind(&self, lines: &str) -> SocketAddr {
        let (listener, to, lines) =
            (TcpListener::bind("127.0.0.1:0").expect("a free port"), self.http, lines.to_owned());
        let at = listener.local_addr().expect("bound");
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let lines = lines.clone();
                std::thread::spawn(move || carry(client, to, &lines));
            }
        });
        at
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One connection through the proxy. Whoever ends it first ends both ways.
fn carry(client: TcpStream, to: SocketAddr, lines: &str) {
    let upstream = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    upstream.bind(&SocketAddr::new(PROXY, 0).into()).expect("an address of loopback");
    upstream.connect(&to.into()).expect("the server listens");
    let mut upstream = TcpStream::from(upstream);
    let mut reader = BufReader::new(client.try_clone().expect("a descriptor"));
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).unwrap_or(0) == 0 {
            return;
        }
    }
    // Behind what the client said of itself.
    let head = format!("{}{lines}\r\n", head.strip_suffix("\r\n").expect("it ends so"));
    let _ = upstream.write_all(head.as_bytes());
    let (mut to_client, mut from_server) = (client, upstream.try_clone().expect("a descriptor"));
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut from_server, &mut to_client);
        let _ = to_client.shutdown(Shutdown::Both);
    });
    let _ = std::io::copy(&mut reader, &mut upstream);
    let _ = upstream.shutdown(Shutdown::Write);
}

/// Status and body of the answer to a request with further lines in its head.
fn ask(at: SocketAddr, request: &str, lines: &str, body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(at).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let head = format!("{request} HTTP/1.1\r\nhost: school.example\r\ncontent-length: {}\r\n", body.len());
    stream.write_all(format!("{head}connection: close\r\n{lines}\r\n{body}").as_bytes()).expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    let (_, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
    (status.unwrap_or_else(|| panic!("{answer}")), body.to_owned())
}

#[test]
fn open_mode_serves_who_is_near_behind_a_proxy_that_says_so() {
    let server = Server::start(&[("NEXTAUTH_URL", "http://school.example")]);
    let page = |proxy: Option<&str>, lines: &str| {
        let at = proxy.map_or(server.http, |lines| server.behind(lines));
        ask(at, "GET /", lines, "").0
    };
    assert_eq!(page(None, ""), 200);
    assert_eq!(page(Some("x-forwarded-for: 192.168.1.9\r\nvia: 1.1 proxy\r\n"), ""), 200);
    assert_eq!(page(Some("x-forwarded-for: 203.0.113.7\r\n"), ""), 403, "who is far stays out");
    assert_eq!(
        page(Some("x-forwarded-for: 203.0.113.7\r\n"), "x-forwarded-for: 127.0.0.1\r\n"),
        403,
        "whatever they say"
    );
    assert_eq!(page(Some(""), ""), 403, "the proxy is near, but who is behind it?");
    assert_eq!(page(Some("x-forwarded-for: unknown\r\n"), ""), 403);
    assert_eq!(page(None, "x-forwarded-for: 192.168.1.9\r\n"), 403, "a proxy that nobody trusts");
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_and_sockets_come_through_it() {
    let server = Server::start(&[("LYCEUM__AUTH__KEYS", &format!("app:{SECRET}"))]);
    let pair = STANDARD.encode(format!("app:{SECRET}"));
    let authorization = format!("authorization: Basic {pair}\r\n");
    let body = json!({ "sessionId": "math", "userId": "ada" }).to_string();
    let token = |at: SocketAddr, lines: &str| -> Value {
        let (status, body) = ask(at, "POST /v1/video/token", &format!("{authorization}{lines}"), &body);
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).expect("JSON")
    };
    let proxy = server.behind("x-forwarded-for: 203.0.113.7\r\nx-forwarded-proto: https\r\n");
    let granted = token(proxy, "");
    assert_eq!(granted["url"], "https://school.example");
    assert_eq!(token(server.http, "x-forwarded-proto: https\r\n")["url"], "http://school.example", "who says so?");

    let given = granted["token"].as_str().expect("a token");
    let mut client =
        Client::connect_with(&format!("http://{proxy}"), Some(given), &Trust::default()).await.expect("it lets us in");
    let join = json!({ "sessionId": "math", "userId": "ada", "userName": "Ada" });
    let id = client.emit("join-session", join).await.expect("it reads");
    let joined = async {
        loop {
            if let Frame::Ack { id: of, payload } = client.next().await.expect("a frame")
                && of == id
            {
                return payload;
            }
        }
    };
    assert_eq!(tokio::time::timeout(PATIENCE, joined).await.expect("an answer in time")["ok"], true);
}
