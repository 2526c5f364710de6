//! What operators see while people talk: a real Prometheus scrapes the real binary during a call, with the rules and the dashboard
//! that lie in `deploy/`, and a collector of traces takes its spans.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, missing_docs)]

mod plain;

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bench::call::hooks::Hooks;
use bench::call::token::Signer;
use bench::call::{Options, run};
use serde_json::Value;

use plain::plain;

/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_secs(120);
const SECRET: &str = "a secret of the tests with more than 32 bytes";
const HOOKS_SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
/// How long people talk: several scrapes.
const CALL: Duration = Duration::from_secs(6);

/// A process that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn directory() -> PathBuf {
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("watched-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).expect("it is ours");
    dir
}

/// What a process writes to standard error, up to the line of which something is made; the rest is read and forgotten.
fn said<T>(child: &mut Child, mut made: impl FnMut(&str) -> Option<T>) -> T {
    let mut lines = BufReader::new(child.stderr.take().expect("it is piped")).lines().map_while(Result::ok);
    let mut all = String::new();
    let found = loop {
        let line = lines.next().unwrap_or_else(|| panic!("it ended:\n{all}"));
        if let Some(found) = made(&line) {
            break found;
        }
        all.extend([&line, "\n"]);
    };
    std::thread::spawn(move || lines.for_each(drop));
    found
}

/// A server with a certificate, which sends webhooks and traces; where it and its metrics are.
fn serve(dir: &Path, hooks: &str, collector: SocketAddr) -> (Running, String, SocketAddr) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let (certificate, key) = (dir.join("tls.pem"), dir.join("tls.key"));
    std::fs::write(&certificate, made.cert.pem()).expect("it is ours");
    std::fs::write(&key, made.signing_key.serialize_pem()).expect("it is ours");
    let mut command = plain(env!("CARGO_BIN_EXE_lyceum"));
    command.args(["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--media-port", "0", "--workers", "1"]);
    command.args(["--address", "127.0.0.1", "--log-format", "json"]).env("JWT_SECRET", SECRET);
    command
        .env("LYCEUM__TURN__PORT", "0")
        .env("LYCEUM__TURN__TLS_PORT", "0")
        .env("LYCEUM__STORE__DIR", dir.join("data"));
    command.env("LYCEUM__TLS__CERTIFICATE", certificate).env("LYCEUM__TLS__KEY", key);
    command.env("LYCEUM__WEBHOOKS__URL", hooks).env("LYCEUM__WEBHOOKS__SECRET", HOOKS_SECRET);
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{collector}"));
    command.env("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20of%20the%20tests,x-scope-orgid=school");
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the binary starts");
    let line = said(&mut child, |line| {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("the log is JSON, not {line}"));
        (line["message"] == "listening").then_some(line)
    });
    let address = |key: &str| line[key].as_str().expect("an address").to_owned();
    let admin = address("admin").parse().expect("an address");
    (Running(child), format!("http://{}", address("http")), admin)
}

/// A Prometheus with the rules of `deploy/`, which scrapes that address each second.
fn prometheus(dir: &Path, scraped: SocketAddr) -> (Running, SocketAddr) {
    let deployed = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/prometheus");
    let config = std::fs::read_to_string(deployed.join("prometheus.yml")).expect("it is there");
    let rules = deployed.join("alerts.yml").display().to_string();
    let ours = [
        ("127.0.0.1:9464", scraped.to_string()),
        ("alerts.yml", rules),
        ("15s", "1s\n  evaluation_interval: 1s".into()),
    ];
    let config = ours.iter().fold(config, |config, (theirs, ours)| {
        assert!(config.contains(theirs), "prometheus.yml lacks {theirs}");
        config.replace(theirs, ours)
    });
    let file = dir.join("prometheus.yml");
    std::fs::write(&file, config).expect("it is ours");
    let mut child = Command::new("prometheus")
        .arg(format!("--config.file={}", file.display()))
        .arg(format!("--storage.tsdb.path={}", dir.join("tsdb").display()))
        .args(["--web.listen-address=127.0.0.1:0", "--log.format=json"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("Debian's prometheus is installed: tests/run --only tools");
    let at = said(&mut child, |line| {
        let line: Value = serde_json::from_str(line).ok()?;
        let is_it = line["msg"] == "Listening on";
        line["address"].as_str().filter(|_| is_it)?.parse().ok()
    });
    until("it is ready", || get(at, "/-/ready").contains("Ready").then_some(()));
    (Running(child), at)
}

/// The body of what an address answers.
fn get(at: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(at).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    write!(stream, "GET {path} HTTP/1.0\r\nhost: {at}\r\n\r\n").expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    answer.split_once("\r\n\r\n").expect("a head").1.to_owned()
}

/// What Prometheus says of an expression: one number for each series.
fn query(prometheus: SocketAddr, expression: &str) -> Vec<f64> {
    let encoded: String = expression.bytes().map(|byte| format!("%{byte:02x}")).collect();
    let answer = get(prometheus, &format!("/api/v1/query?query={encoded}"));
    let answer: Value = serde_json::from_str(&answer).expect("JSON");
    assert_eq!(answer["status"], "success", "{expression}: {answer}");
    let series = answer["data"]["result"].as_array().expect("a vector");
    let number = |one: &Value| one["value"][1].as_str().and_then(|n| n.parse().ok()).expect("a number");
    series.iter().map(number).collect()
}

/// Waits until something is found.
fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Whether an expression is true of some series, at last.
fn expect(prometheus: SocketAddr, expression: &str) {
    until(expression, || (!query(prometheus, expression).is_empty()).then_some(()));
}

/// The bodies that a collector of traces was sent.
fn collect() -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let at = listener.local_addr().expect("bound");
    let bodies: Arc<Mutex<Vec<String>>> = Arc::default();
    let kept = bodies.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut reader = BufReader::new(stream.expect("it comes"));
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                assert!(reader.read_line(&mut head).expect("a head") > 0, "{head}");
            }
            let head = head.to_ascii_lowercase();
            assert!(head.starts_with("post /v1/traces ") && head.contains("content-type: application/json"), "{head}");
            assert!(head.contains("authorization: bearer of the tests\r\nx-scope-orgid: school\r\n"), "{head}");
            let length =
                head.split_once("content-length: ").and_then(|(_, rest)| rest.split('\r').next()?.parse().ok());
            let mut body = vec![0; length.expect("a length")];
            reader.read_exact(&mut body).expect("a body");
            kept.lock().expect("whole").push(String::from_utf8(body).expect("JSON"));
            let answer = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}";
            reader.get_mut().write_all(answer.as_bytes()).expect("it waits");
        }
    });
    (at, bodies)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_prometheus_and_a_collector_see_a_call() {
    let dir = directory();
    let hooks = Hooks::listen(([127, 0, 0, 1], 0).into(), HOOKS_SECRET, None).await.expect("a free port");
    let (collector, bodies) = collect();
    let (_server, url, admin) = serve(&dir, &hooks.url(), collector);
    let (_prometheus, at) = prometheus(&dir, admin);
    expect(at, "up{job=\"lyceum\"} == 1");
    let options = Options {
        url,
        session: "watched".to_owned(),
        participants: 2,
        video_bps: 100_000,
        fps: 15,
        duration: CALL,
        ramp: Duration::from_millis(300),
        signer: Some(Signer::secret(SECRET)),
        ..Options::default()
    };
    let call = tokio::spawn(async move { run(&options).await });
    let seen = tokio::task::spawn_blocking(move || {
        for expression in [
            "max_over_time(lyceum_participants[2m]) == 3",
            "max_over_time(lyceum_peers_connected[2m]) == 3",
            "rate(lyceum_rtp_packets_out_total[5s]) > 0",
            "rate(lyceum_forward_delay_seconds_count{kind=\"audio\"}[5s]) > 0",
            "lyceum_forward_delay_seconds_count{kind=\"video\"} > 0",
            "lyceum_join_seconds_count{stage=\"ack\"} == 3",
            "lyceum_join_seconds_count{stage=\"media\"} == 3",
        ] {
            expect(at, expression);
        }
    });
    seen.await.expect("all of it is true during the call");
    let report = call.await.expect("it ends");
    assert!(report.passed(), "{report}");
    tokio::task::spawn_blocking(move || {
        traces_tell_of_it(&bodies);
        expect(at, "lyceum_trace_spans_total{result=\"sent\"} > 0");
        the_page_is_as_prometheus_wants_it(admin);
        alerts_are_understood_and_silent(at);
        every_panel_shows_something(at);
    })
    .await
    .expect("all of it holds");
    let _ = std::fs::remove_dir_all(&dir);
}

fn traces_tell_of_it(bodies: &Mutex<Vec<String>>) {
    let wanted: BTreeSet<&str> = ["join", "media", "negotiation", "database", "webhook"].into();
    let spans = until("spans of each kind", || {
        let mut spans = Vec::new();
        for body in bodies.lock().expect("whole").iter() {
            assert!(!body.contains(SECRET) && !body.contains("whsec_") && !body.contains("eyJ"), "{body}");
            let body: Value = serde_json::from_str(body).expect("JSON");
            spans.extend(body["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().expect("a list").clone());
        }
        let names: BTreeSet<&str> = spans.iter().filter_map(|span| span["name"].as_str()).collect();
        names.is_superset(&wanted).then(|| spans.clone())
    });
    let ids = |name: &str, key: &str| -> BTreeSet<String> {
        spans.iter().filter(|span| span["name"] == name).map(|span| span[key].to_string()).collect()
    };
    assert_eq!(ids("media", "parentSpanId"), ids("join", "spanId"), "each stands below its join");
    assert_eq!(ids("media", "traceId"), ids("join", "traceId"));
    let failed: Vec<_> = spans.iter().filter(|span| span.get("status").is_some()).collect();
    assert!(failed.is_empty(), "{failed:#?}");
}

fn the_page_is_as_prometheus_wants_it(admin: SocketAddr) {
    let page = get(admin, "/metrics");
    assert!(!page.contains("watched") && !page.contains("participant="), "nobody is named");
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool comes with prometheus");
    promtool.stdin.take().expect("piped").write_all(page.as_bytes()).expect("it reads");
    let output = promtool.wait_with_output().expect("it ends");
    let said = [output.stdout, output.stderr].map(|text| String::from_utf8(text).expect("text")).concat();
    assert!(output.status.success() && said.is_empty(), "{said}");
}

fn alerts_are_understood_and_silent(prometheus: SocketAddr) {
    let answer: Value = serde_json::from_str(&get(prometheus, "/api/v1/rules?type=alert")).expect("JSON");
    let rules = answer["data"]["groups"][0]["rules"].as_array().expect("rules").clone();
    assert!(rules.len() > 10, "{rules:#?}");
    for rule in rules {
        assert!(rule["health"] == "ok" && rule["state"] != "firing", "{rule:#}");
    }
}

/// What Grafana demands of a dashboard, and that each of its expressions has an answer.
fn every_panel_shows_something(prometheus: SocketAddr) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/grafana/dashboards/lyceum.json");
    let dashboard: Value = serde_json::from_str(&std::fs::read_to_string(file).expect("it is there")).expect("JSON");
    assert!(dashboard["schemaVersion"].as_u64() >= Some(36) && dashboard["title"].is_string());
    assert!(dashboard["uid"].is_string() && dashboard["time"]["from"].is_string(), "as the link of an alert needs it");
    let variable = &dashboard["templating"]["list"][0];
    assert!(variable["name"] == "datasource" && variable["type"] == "datasource" && variable["query"] == "prometheus");
    let panels = dashboard["panels"].as_array().expect("panels");
    let mut taken = BTreeSet::new();
    for panel in panels {
        let title = panel["title"].as_str().expect("a title");
        let [x, y, w, h] = ["x", "y", "w", "h"].map(|side| panel["gridPos"][side].as_u64().expect("a number"));
        assert!(w > 0 && h > 0 && x + w <= 24, "{title} is within the grid of 24 columns");
        for cell in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
            assert!(taken.insert(cell), "{title} lies over another panel");
        }
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{title}");
        assert!(panel["type"] == "timeseries" && panel["fieldConfig"]["defaults"]["unit"].is_string(), "{title}");
        let targets = panel["targets"].as_array().expect("targets");
        let names: BTreeSet<_> = targets.iter().filter_map(|target| target["refId"].as_str()).collect();
        assert!(!targets.is_empty() && names.len() == targets.len(), "{title}: each target has a name of its own");
        for target in targets {
            let expression = target["expr"].as_str().expect("an expression");
            assert!(!query(prometheus, expression).is_empty(), "{title}: nothing answers to {expression}");
        }
    }
}
