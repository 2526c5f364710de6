//! What an operator does with the real binary: looks at settings, asks whether it lives, lets it end.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, missing_docs)]

mod plain;
mod postgres;

use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bench::socketio::{Client, Frame};
use serde_json::{Value, json};

use self::postgres::Postgres;

use plain::plain;

/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_secs(120);

const SECRET: &str = "operators-know-this-secret-of-48-bytes-or-more-0";

/// A directory for one server: two cannot share one.
fn store_dir() -> PathBuf {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let name = format!("operate-store-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name)
}

/// The binary, without the settings of whoever runs the tests.
fn lyceum() -> Command {
    let mut command = plain(env!("CARGO_BIN_EXE_lyceum"));
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
    /// `http://host:port`.
    url: String,
    admin: SocketAddr,
}

impl Server {
    fn start(set: impl FnOnce(&mut Command)) -> Self {
        Self::try_start(set).unwrap_or_else(|said| panic!("it does not start: {said}"))
    }

    /// The error is what a server said that ended at once.
    fn try_start(set: impl FnOnce(&mut Command)) -> Result<Self, String> {
        let mut command = lyceum();
        command.args(["--admin-listen", "127.0.0.1:0", "--log-format", "json"]);
        set(&mut command);
        let mut child = command.spawn().expect("the binary starts");
        let mut lines = BufReader::new(child.stderr.take().expect("stderr is piped")).lines();
        let mut said = String::new();
        let (url, admin) = loop {
            let Some(line) = lines.next() else {
                let _ = child.wait();
                return Err(said);
            };
            let line = line.expect("text");
            said.extend([&line, "\n"]);
            // Why it cannot start is no line of the log.
            let Ok(line) = serde_json::from_str::<Value>(&line) else { continue };
            if line["message"] == "listening" {
                let address = |key: &str| line[key].as_str().expect("a string").to_owned();
                break (format!("http://{}", address("http")), address("admin").parse().expect("an address"));
            }
        };
        // A pipe that nobody reads would fill.
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        Ok(Server { child, url, admin })
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([name, &pid]).status().expect("kill runs").success());
    }

    /// Waits until the process has ended, without an error.
    fn ended(&mut self) {
        let begun = Instant::now();
        loop {
            match self.child.try_wait().expect("it is our child") {
                Some(status) => return assert!(status.success(), "{status}"),
                None => assert!(begun.elapsed() < PATIENCE, "it does not end"),
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Somebody in a session; the ack.
    async fn join(&self, session: &str, user: &str) -> (Client, Value) {
        let mut client = Client::connect(&self.url).await.expect("it lets us in");
        let join = json!({ "sessionId": session, "userId": user, "userName": user });
        let id = client.emit("join-session", join).await.expect("it reads");
        let ack = until(&mut client, |frame| match frame {
            Frame::Ack { id: of, payload } if of == id => Some(payload),
            _ => None,
        });
        let ack = ack.await;
        (client, ack)
    }
}

/// The first frame of which something is made.
async fn until<T>(client: &mut Client, mut made: impl FnMut(Frame) -> Option<T>) -> T {
    let found = async {
        loop {
            if let Some(found) = made(client.next().await.expect("a frame")) {
                return found;
            }
        }
    };
    tokio::time::timeout(PATIENCE, found).await.expect("in time")
}

/// Until when the server says that calls may go on, Unix ms.
async fn told(client: &mut Client) -> u64 {
    until(client, |frame| match frame {
        Frame::Event { name, payload } if name == "server-draining" => payload["deadline"].as_u64(),
        _ => None,
    })
    .await
}

/// Status and body of what an address answers.
fn ask(at: &str, request: &str, more: &str) -> (u16, String) {
    ask_as(at, at, request, more)
}

/// The same, asked for by the name of `host`.
fn ask_as(host: &str, at: &str, request: &str, more: &str) -> (u16, String) {
    exchange(host, at, request, more, "")
}

/// The same with a body.
fn send(at: &str, request: &str, more: &str, body: &str) -> (u16, String) {
    exchange(at, at, request, more, body)
}

fn exchange(host: &str, at: &str, request: &str, more: &str, body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(at).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    let length = body.len();
    let head =
        format!("{request} HTTP/1.1\r\nhost: {host}\r\n{more}content-length: {length}\r\nconnection: close\r\n\r\n");
    write!(stream, "{head}{body}").expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    let status = answer.split(' ').nth(1).and_then(|s| s.parse().ok()).expect("a status");
    (status, answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default())
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
    let commands: Vec<&str> = listed
        .lines()
        .filter_map(|line| line.strip_prefix("  ")?.split(' ').next())
        .filter(|word| !word.is_empty() && *word != "help")
        .collect();
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

/// Media at this machine alone is right for whoever tries it out here, and told to whoever meant more.
#[tokio::test]
async fn the_readiness_page_says_what_the_doctor_found_at_the_start() {
    let server = Server::start(|c| _ = c.args(["--address", "127.0.0.1"]));
    let (status, body) = ask(&server.admin.to_string(), "GET /readyz", "");
    assert_eq!(status, 200, "{body}");
    let page: Value = serde_json::from_str(&body).expect("JSON");
    let found = page["found"].as_array().expect("a list");
    let address = found.iter().find(|finding| finding["about"] == "address").expect("it is not well");
    assert_eq!(address["state"], "broken", "{address}");
    assert!(address["mend"].as_str().is_some_and(|mend| mend.contains("LYCEUM__MEDIA__ADDRESSES=")), "{address}");
}

/// A server whose calls may go on for longer than a test may take.
fn patient() -> Server {
    Server::start(|c| {
        c.env("LYCEUM__ADMIN__DRAIN_S", "3600").env("LYCEUM__ROOM__GRACE_MS", "60000");
    })
}

#[tokio::test]
async fn calls_go_on_until_the_last_one_leaves() {
    let mut server = patient();
    let mut people = Vec::new();
    for user in 0..20 {
        people.push(server.join("math", &format!("user-{user}")).await.0);
    }
    let admin = server.admin.to_string();
    assert_eq!(ask(&admin, "GET /readyz", "").0, 200);
    server.signal("-TERM");
    for client in &mut people {
        assert!(told(client).await > 0);
    }
    let (status, body) = ask(&admin, "GET /readyz", "");
    assert!(status == 503 && body.contains("draining"), "{body}");
    let http = server.url.trim_start_matches("http://").to_owned();
    let (status, body) = ask(&http, "POST /v1/video/token", "");
    assert!(status == 503 && body.contains("server/draining"), "{body}");
    for path in ["POST /whip/math?userId=late&userName=Late", "POST /whep/math"] {
        let (status, body) = send(&http, path, "content-type: application/sdp\r\n", "v=0\r\n");
        assert!(status == 503 && body.contains("server/draining") && body.contains("in a moment"), "{path}: {body}");
    }
    let (status, body) = ask(&http, "GET /api/health", "");
    assert!(status == 200 && body.contains("draining"), "{body}");
    // Nobody new comes in; who is here goes on, also on a new connection.
    let (_, refused) = server.join("math", "late").await;
    assert_eq!(refused["error"]["code"], "server/draining", "{refused}");
    drop(people.pop());
    let (mut again, ack) = server.join("math", "user-19").await;
    assert_eq!(ack["ok"], true, "{ack}");
    assert!(told(&mut again).await > 0);
    people.push(again);
    let id =
        people[0].emit("chat-message", json!({ "sessionId": "math", "message": "still here" })).await.expect("open");
    let heard = until(&mut people[0], |frame| match frame {
        Frame::Ack { id: of, payload } if of == id => Some(payload),
        _ => None,
    });
    assert_eq!(heard.await["ok"], true);
    for client in &mut people {
        let id = client.emit("leave-session", json!({ "sessionId": "math" })).await.expect("open");
        until(client, |frame| matches!(frame, Frame::Ack { id: of, .. } if of == id).then_some(())).await;
    }
    tokio::task::spawn_blocking(move || server.ended()).await.expect("it ended");
}

#[tokio::test]
async fn a_second_word_ends_calls_at_once() {
    for second in ["-TERM", "-INT"] {
        let mut server = patient();
        let (mut client, _) = server.join("math", "ada").await;
        server.signal("-TERM");
        assert!(told(&mut client).await > 0);
        server.signal(second);
        tokio::task::spawn_blocking(move || server.ended()).await.expect("it ended");
    }
    // Whoever sits at a terminal does not wait for calls at all.
    let mut server = patient();
    let (_client, _) = server.join("math", "ada").await;
    server.signal("-INT");
    tokio::task::spawn_blocking(move || server.ended()).await.expect("it ended");
}

#[tokio::test]
async fn the_deadline_ends_calls_and_the_next_start_continues_them() {
    let dir = store_dir();
    let start = |drain_s: &str| {
        let drain_s = drain_s.to_owned();
        let dir = dir.clone();
        Server::start(move |c| {
            c.env("LYCEUM__ADMIN__DRAIN_S", drain_s).env("LYCEUM__STORE__DIR", dir);
        })
    };
    let mut server = start("1");
    let (mut client, ack) = server.join("math", "ada").await;
    server.signal("-TERM");
    told(&mut client).await;
    tokio::task::spawn_blocking(move || server.ended()).await.expect("it ended");
    let server = start("1");
    let (_client, again) = server.join("math", "ada").await;
    assert!(ack["meetingId"].is_string() && again["meetingId"] == ack["meetingId"], "{again}");
}

/// How long calls may go on in a test; within which time the process must have ended then; and what a machine that is short of
/// time may take besides.
const BRIEF: Duration = Duration::from_secs(10);
const END_MAX: Duration = Duration::from_secs(5);
const SLACK: Duration = Duration::from_secs(15);

#[tokio::test(flavor = "multi_thread")]
async fn without_its_database_it_ends_in_time_and_loses_nobody() {
    let mut database = tokio::task::block_in_place(Postgres::start);
    let (url, dir) = (database.database("lyceum"), store_dir());
    let start = || {
        Server::start(|c| {
            c.env("LYCEUM__ADMIN__DRAIN_S", BRIEF.as_secs().to_string());
            c.env("LYCEUM__STORE__DIR", &dir).env("DATABASE_URL", &url);
        })
    };
    let mut server = start();
    let mut people = Vec::new();
    for user in 0..20 {
        if user == 10 {
            tokio::task::block_in_place(|| database.kill());
        }
        let (client, ack) = server.join("math", &format!("user-{user:02}")).await;
        assert_eq!(ack["ok"], true, "{ack}");
        people.push(client);
    }
    server.signal("-TERM");
    let begun = Instant::now();
    for client in &mut people {
        assert!(told(client).await > 0);
    }
    let (_, refused) = server.join("math", "late").await;
    assert_eq!(refused["error"]["code"], "server/draining", "{refused}");
    tokio::task::block_in_place(|| server.ended());
    let took = begun.elapsed();
    assert!(took >= BRIEF && took < BRIEF + END_MAX + SLACK, "{took:?}");
    drop(people);

    tokio::task::block_in_place(|| database.start_again());
    let _next = start();
    let expected: Vec<String> = (0..20).map(|user| format!("user-{user:02}")).collect();
    let begun = Instant::now();
    loop {
        // Each with its end: the last word of the former process.
        let ended =
            "SELECT user_id FROM connections WHERE ended_at IS NOT NULL AND reason <> 'crashed' ORDER BY user_id";
        let found = tokio::task::block_in_place(|| database.psql("lyceum", ended));
        if found.lines().eq(&expected) {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "in the database: {found}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn an_idle_server_ends_at_once() {
    // Without a database, too.
    for url in ["", "postgres://nobody@127.0.0.1:1/none"] {
        let mut server = Server::start(|c| {
            c.env("LYCEUM__ADMIN__DRAIN_S", "3600").env("DATABASE_URL", url);
        });
        let _watching = Client::connect(&server.url).await.expect("who has no seat holds nobody up");
        server.signal("-TERM");
        tokio::task::spawn_blocking(move || server.ended()).await.expect("it ended");
    }
}

#[tokio::test]
async fn operators_drain_and_others_do_not() {
    let mut server = Server::start(|c| {
        c.env("JWT_SECRET", SECRET).env("LYCEUM_ADMIN_KEY", SECRET).env("LYCEUM__ADMIN__DRAIN_S", "3600");
    });
    let at = server.admin.to_string();
    for shown in ["", "authorization: Bearer somebody-guesses-something-of-32-bytes\r\n"] {
        assert_eq!(ask(&at, "POST /drain", shown).0, 401, "{shown}");
    }
    let (code, _, said) = run(lyceum().args(["drain", "--admin-listen", &at]));
    assert!(code == Some(1) && said.contains("the server refuses (401)"), "{said}");
    assert_eq!(ask(&at, "GET /readyz", "").0, 200, "nothing has begun");
    let (code, said, wrong) =
        run(lyceum().env("LYCEUM_ADMIN_KEY", SECRET).args(["drain", "--wait", "--admin-listen", &at]));
    assert_eq!(code, Some(0), "{wrong}");
    assert!(said.contains("Draining: 0 are here"), "{said}");
    server.ended();
}

#[test]
fn pages_elsewhere_do_not_end_an_open_server() {
    let mut server = Server::start(|c| _ = c.env("LYCEUM__ADMIN__DRAIN_S", "3600"));
    let at = server.admin.to_string();
    for (host, origin) in [
        (&*at, "origin: https://evil.example\r\n"),
        (&*at, "origin: null\r\n"),
        // A name of theirs that they had point to this machine.
        ("evil.example:9464", "origin: http://evil.example:9464\r\n"),
        ("evil.example:9464", ""),
    ] {
        assert_eq!(ask_as(host, &at, "POST /drain", origin).0, 403, "{host} {origin}");
    }
    assert_eq!(ask(&at, "GET /readyz", "").0, 200, "nothing has begun");
    assert_eq!(ask(&at, "POST /drain", "").0, 200);
    server.ended();
}

#[test]
fn the_doctor_makes_nothing() {
    let dir = store_dir();
    let (_, said, wrong) =
        run(lyceum().env("LYCEUM__STORE__DIR", &dir).args(["--admin-listen", "127.0.0.1:0", "doctor"]));
    assert!(said.contains("the first start makes it"), "{said}{wrong}");
    assert!(!dir.exists(), "whoever asks may not be who runs the server");
}

#[tokio::test(flavor = "multi_thread")]
async fn meetings_are_shown_without_a_page() {
    let dir = store_dir();
    let asked = |more: &[&str]| run(lyceum().env("LYCEUM__STORE__DIR", &dir).arg("meetings").args(more));
    assert_eq!(asked(&[]).1, "There are no meetings.\n");
    assert!(!dir.exists(), "whoever asks may not be who runs the server");

    let server = Server::start(|c| _ = c.env("LYCEUM__STORE__DIR", &dir));
    let (_ada, ack) = server.join("algebra", "ada").await;
    let id = ack["meetingId"].as_str().expect("it is on").to_owned();
    let begun = Instant::now();
    let said = loop {
        let (code, said, wrong) = asked(&[]);
        if code == Some(0) && said.contains(&id) {
            break said;
        }
        assert!(begun.elapsed() < PATIENCE, "{said}{wrong}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert!(said.lines().nth(1).is_some_and(|line| line.contains("  on  ") && line.ends_with("  algebra")), "{said}");
    let (code, table, wrong) = asked(&[&id]);
    assert!(code == Some(0) && table.contains(&format!("{id},algebra,ada,ada,participant,")), "{table}{wrong}");
    let list: Value = serde_json::from_str(&asked(&["--json", "--session", "algebra"]).1).expect("JSON");
    assert_eq!(list["meetings"][0]["meetingId"], id);
    assert_eq!(asked(&["--session", "geometry"]).1, "There are no meetings.\n");
    let (code, _, wrong) = asked(&["mtg_none"]);
    assert!(code == Some(1) && wrong.contains("there is no meeting \"mtg_none\""), "{wrong}");
}

/// A port that is free for UDP and TCP at this moment, if one is found.
fn free_port() -> Option<String> {
    let udp = std::net::UdpSocket::bind("0.0.0.0:0").and_then(|socket| socket.local_addr()).ok()?;
    std::net::TcpListener::bind(udp).ok().map(|_| udp.port().to_string())
}

#[test]
fn the_doctor_asks_the_running_server_and_names_what_is_broken() {
    let dir = store_dir();
    let with = |command: &mut Command, port: &str| {
        command.env("LYCEUM__TURN__PORT", port).env("LYCEUM__STORE__DIR", &dir).args(["--address", "127.0.0.1"]);
    };
    // Others may take the port between the look and the start.
    let started = (0..20).find_map(|_| {
        let port = free_port()?;
        match Server::try_start(|command| with(command, &port)) {
            Ok(server) => Some((server, port)),
            Err(said) if said.contains("EADDRINUSE") => None,
            Err(said) => panic!("it does not start: {said}"),
        }
    });
    let (server, port) = started.expect("a port that is free");
    let set = |command: &mut Command| with(command, &port);
    let at = server.admin.to_string();
    let doctor = |more: &dyn Fn(&mut Command)| {
        let mut command = lyceum();
        set(&mut command);
        command.args(["--admin-listen", &at, "doctor", "--json"]);
        more(&mut command);
        let (code, said, wrong) = run(&mut command);
        let list: Vec<Value> = serde_json::from_str(&said).unwrap_or_else(|_| panic!("{said}{wrong}"));
        (code, list)
    };
    let states = |list: &[Value], about: &str| -> Vec<String> {
        let of = list.iter().filter(|finding| finding["about"] == about);
        of.map(|finding| finding["state"].as_str().expect("a word").to_owned()).collect()
    };
    let (code, list) = doctor(&|_| {});
    assert_eq!(states(&list, "turn"), ["well", "well"], "{list:#?}");
    assert_eq!(
        (states(&list, "server"), states(&list, "database")),
        (vec!["well".to_owned()], vec!["well".to_owned()])
    );
    // Loopback is nowhere that others reach.
    assert_eq!((code, states(&list, "address")), (Some(1), vec!["broken".to_owned()]));
    let (_, list) = doctor(&|c| {
        c.env("DATABASE_URL", "postgres://nobody:hush@127.0.0.1:1/none");
    });
    assert_eq!(states(&list, "database"), ["broken"], "{list:#?}");
    assert!(!format!("{list:?}").contains("hush"));
    drop(server);
    let (_, list) = doctor(&|_| {});
    assert_eq!((states(&list, "server"), states(&list, "turn")), (vec!["doubtful".to_owned()], vec![]));
    assert_eq!(states(&list, "ports"), ["well"]);
}
