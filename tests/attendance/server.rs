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
        let mut command = Command::new(env!("CARGO_BIN_EXE_lyceum"));
        for (name, _) in std::env::vars() {
            if name.starts_with("LYCEUM") || name.starts_with("TURN_") {
                command.env_remove(name);
            }
        }
        for name in ["SIGNALING_PORT", "NEXTAUTH_URL", "RUST_LOG", "DATABASE_URL"] {
            command.env_remove(name);
        }
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
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    let status = answer.split(' ').nth(1).and_then(|s| s.parse().ok()).expect("a status");
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default();
    (status, body)
}
