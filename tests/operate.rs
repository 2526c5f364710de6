//! What an operator does with the real binary: looks at settings, asks whether it lives.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, missing_docs)]

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value;

const SECRET: &str = "operators-know-this-secret-of-48-bytes-or-more-0";

/// A directory for one server: two cannot share one.
fn store_dir() -> PathBuf {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let name = format!("operate-store-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name)
}

/// The binary, without the settings of whoever runs the tests.
fn lyceum() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lyceum"));
    let ours =
        ["LYCEUM", "TURN_", "SUPABASE_", "JWT_SECRET", "DATABASE_URL", "SIGNALING_PORT", "NEXTAUTH_URL", "RUST_LOG"];
    for (name, _) in std::env::vars().filter(|(name, _)| ours.iter().any(|our| name.starts_with(our))) {
        command.env_remove(name);
    }
    // Two servers of one machine, as tests are, cannot have the same.
    command.env("LYCEUM__TURN__PORT", "0").env("LYCEUM__TURN__TLS_PORT", "0").env("LYCEUM__STORE__DIR", store_dir());
    command.args(["--listen", "127.0.0.1:0", "--media-port", "0", "--workers", "1"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// What a command says on both outputs, and its exit code.
fn run(command: &mut Command) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = command.output().expect("the binary starts");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (status.code(), text(stdout), text(stderr))
}

struct Server {
    child: Child,
    admin: SocketAddr,
}

impl Server {
    fn start(set: impl FnOnce(&mut Command)) -> Self {
        let mut command = lyceum();
        command.args(["--admin-listen", "127.0.0.1:0", "--log-format", "json"]);
        set(&mut command);
        let mut child = command.spawn().expect("the binary starts");
        let mut lines = BufReader::new(child.stderr.take().expect("stderr is piped")).lines();
        let admin = loop {
            let line = lines.next().expect("it says where it listens").expect("text");
            let line: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("the log is JSON, not {line}"));
            if line["message"] == "listening" {
                break line["admin"].as_str().and_then(|a| a.parse().ok()).expect("an address");
            }
        };
        // A pipe that nobody reads would fill.
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        Server { child, admin }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn settings_are_shown_checked_and_exemplified() {
    let given = |words: &[&str]| {
        let mut command = lyceum();
        command.env("JWT_SECRET", SECRET).args(words);
        command
    };
    let (code, said, _) = run(&mut given(&["config", "print"]));
    assert_eq!(code, Some(0));
    assert!(said.contains("port = 0") && said.contains("# --media-port") && !said.contains(SECRET), "{said}");
    let (code, said, _) = run(&mut given(&["config", "print", "--json"]));
    let list: Value = serde_json::from_str(&said).expect("JSON");
    let secret =
        list.as_array().and_then(|keys| keys.iter().find(|key| key["section"] == "auth" && key["name"] == "secret"));
    assert_eq!((code, &secret.expect("it is there")["origin"]), (Some(0), &"JWT_SECRET in the environment".into()));
    let (code, said, _) = run(&mut given(&["config", "check"]));
    assert!(code == Some(0) && said.contains("All settings are good"), "{said}");
    let (code, _, said) =
        run(given(&["config", "check"]).env("LYCEUM__ROOM__CHAT", "maybe").env("TURN_SECRET", "short"));
    assert_eq!((code, said.lines().count()), (Some(1), 2), "{said}");
    assert!(said.lines().all(|line| line.starts_with("lyceum: ") && line.contains(": expected ")), "{said}");
    let missing = [("LYCEUM__TLS__CERTIFICATE", "/nonexistent/c.pem"), ("LYCEUM__TLS__KEY", "/nonexistent/k.pem")];
    let (code, _, said) = run(given(&["config", "check"]).envs(missing));
    assert!(code == Some(1) && said.contains("[tls] certificate names /nonexistent/c.pem"), "{said}");
    // Whoever asks for the example may have nothing good yet.
    let (code, said, _) = run(given(&["config", "example"]).env("LYCEUM__ROOM__CHAT", "maybe"));
    assert!(code == Some(0) && said == include_str!("../deploy/lyceum.example.toml"), "{said}");
}

#[test]
fn every_command_teaches() {
    let (code, said, _) = run(lyceum().arg("--help"));
    assert_eq!(code, Some(0));
    let listed = said.split_once("Commands:").and_then(|(_, rest)| rest.split_once("\n\n")).expect("a list").0;
    let commands: Vec<&str> = listed.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert!(commands.len() > 5, "{said}");
    for command in commands {
        let (code, said, _) = run(lyceum().args([command, "--help"]));
        assert!(code == Some(0) && said.contains("Usage: lyceum"), "{said}");
        let first = said.lines().next().unwrap_or_default();
        assert!(first.split(' ').count() > 3, "{command} says nothing of itself: {first:?}");
    }
}

#[test]
fn a_container_asks_whether_it_lives() {
    let server = Server::start(|_| {});
    let at = server.admin.to_string();
    let (code, said, _) = run(lyceum().args(["healthcheck", "--admin-listen", &at]));
    assert_eq!((code, said.trim()), (Some(0), "alive"));
    // A listener for all is asked at loopback.
    let (code, _, _) =
        run(lyceum().args(["healthcheck", "--admin-listen", &format!("0.0.0.0:{}", server.admin.port())]));
    assert_eq!(code, Some(0));
    drop(server);
    let (code, _, said) = run(lyceum().args(["healthcheck", "--admin-listen", &at]));
    assert!(code == Some(1) && said.contains(&format!("no answer at {at} ([admin] listen)")), "{said}");
}
