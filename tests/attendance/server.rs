//! The server under test.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::receiver::SECRET;
use super::{GRACE_MS, PATIENCE};
use crate::plain::plain;

/// A process; it ends with this.
pub(crate) struct Server {
    child: Child,
    /// `http://host:port`.
    pub(crate) url: String,
    http: SocketAddr,
    admin: SocketAddr,
    log: PathBuf,
}

impl Server {
    /// Starts it and waits until it says where it listens.
    pub(crate) fn start(dir: &Path, url: Option<&str>, receiver: &str, empty_ms: u64) -> Self {
        Server::run(plain(env!("CARGO_BIN_EXE_lyceum")), dir, url, receiver, empty_ms)
    }

    /// The same on SQLite, on a disk that [`Server::fill_disk`] fills: what does not fit is an error to it as on a real one.
    pub(crate) fn start_on_small_disk(dir: &Path, receiver: &str, empty_ms: u64) -> Self {
        let mut command = plain("sh");
        command.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_lyceum")]);
        Server::run(command, dir, None, receiver, empty_ms)
    }

    /// From now on no file grows, or any may again.
    pub(crate) fn fill_disk(&self, is_full: bool) {
        let limit = if is_full { "--fsize=0:unlimited" } else { "--fsize=unlimited" };
        let pid = self.child.id().to_string();
        assert!(Command::new("prlimit").args(["--pid", &pid, limit]).status().expect("prlimit runs").success());
    }

    fn run(command: Command, dir: &Path, url: Option<&str>, receiver: &str, empty_ms: u64) -> Self {
        let (child, log) = Server::spawn(command, dir, url, receiver, empty_ms);
        let mut server = Server { child, url: String::new(), http: ([0; 4], 0).into(), admin: ([0; 4], 0).into(), log };
        let begun = Instant::now();
        let line = loop {
            let said = server.log();
            if let Some(line) = said.lines().find(|line| line.contains("\"listening\"") && line.ends_with('}')) {
                break serde_json::from_str::<Value>(line).expect("JSON");
            }
            let ended = server.child.try_wait().expect("it is our child");
            assert!(ended.is_none() && begun.elapsed() < PATIENCE, "it does not start: {said}");
            std::thread::sleep(Duration::from_millis(10));
        };
        let address = |key: &str| line[key].as_str().and_then(|a| a.parse().ok()).expect("an address");
        (server.http, server.admin) = (address("http"), address("admin"));
        server.url = format!("http://{}", server.http);
        server
    }

    /// How it ends, and what it says, where it will not serve.
    pub(crate) fn refuses(dir: &Path, receiver: &str) -> (ExitStatus, String) {
        let (mut child, log) = Server::spawn(plain(env!("CARGO_BIN_EXE_lyceum")), dir, None, receiver, 0);
        let begun = Instant::now();
        let status = loop {
            match child.try_wait().expect("it is our child") {
                Some(status) => break status,
                None if begun.elapsed() < PATIENCE => std::thread::sleep(Duration::from_millis(10)),
                None => {
                    let _ = (child.kill(), child.wait());
                    panic!("it does not end: {}", std::fs::read_to_string(&log).unwrap_or_default());
                }
            }
        };
        (status, std::fs::read_to_string(&log).unwrap_or_default())
    }

    fn spawn(mut command: Command, dir: &Path, url: Option<&str>, receiver: &str, empty_ms: u64) -> (Child, PathBuf) {
        command.args(["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--media-port", "0"]);
        command.args(["--workers", "1", "--log-format", "json", "--address", "127.0.0.1"]);
        command.env("LYCEUM__TURN__PORT", "0").env("LYCEUM__TURN__TLS_PORT", "0").env("LYCEUM__STORE__DIR", dir);
        command.env("LYCEUM__ROOM__GRACE_MS", GRACE_MS.to_string()).env("LYCEUM__ADMIN__DRAIN_S", "0");
        command.env("LYCEUM__ROOM__EMPTY_TIMEOUT_MS", empty_ms.to_string());
        command.env("LYCEUM__WEBHOOKS__URL", receiver).env("LYCEUM__WEBHOOKS__SECRET", SECRET);
        if let Some(url) = url {
            command.env("DATABASE_URL", url);
        }
        let log = dir.join("log");
        let file = File::create(&log).expect("a writable directory");
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file).spawn().expect("the binary starts");
        (child, log)
    }

    /// What it wrote.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// `SIGKILL`, and the end of the process.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it is our child");
        let log = self.log();
        assert!(!log.contains("panicked"), "{log}");
    }

    /// `SIGTERM`, and how it ended.
    pub(crate) fn end(&mut self) -> ExitStatus {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().expect("kill runs").success());
        self.child.wait().expect("it is our child")
    }

    /// Status and body of the health page.
    pub(crate) fn health(&self) -> (u16, Value) {
        let (status, body) = get(self.http, "/api/health");
        (status, serde_json::from_str(&body).expect("JSON"))
    }

    /// Status and body of the readiness page.
    pub(crate) fn ready(&self) -> (u16, String) {
        get(self.admin, "/readyz")
    }

    /// Sends JSON; the status of the answer, and its body.
    pub(crate) fn put(&self, path: &str, body: &Value) -> (u16, String) {
        request(self.http, "PUT", path, &body.to_string())
    }

    /// A metric without labels.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let (_, page) = get(self.admin, "/metrics");
        let line = page.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in\n{page}")).parse().expect("a number")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn get(address: SocketAddr, path: &str) -> (u16, String) {
    request(address, "GET", path, "")
}

fn request(address: SocketAddr, method: &str, path: &str, body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    );
    write!(stream, "{head}{body}").expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    let status = answer.split(' ').nth(1).and_then(|s| s.parse().ok()).expect("a status");
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default();
    (status, body)
}
