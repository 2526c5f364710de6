//! The real binary and a foreign authority: Let's Encrypt's own test server (pebble), which looks names up in a DNS server of its
//! tests, asks back over TLS-ALPN-01, and refuses some nonces on purpose.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, missing_docs)]

mod plain;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bench::dial::Anybody;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection};
use serde_json::{Value, json};

use plain::plain;

/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_secs(120);
const DOMAIN: &str = "calls.school.example";
const SECOND: &str = "turn.school.example";

/// A folder of a test, empty.
fn folder(name: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("acme-{}-{name}", std::process::id()));
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(&path).expect("a writable target directory");
    path
}

/// A port that is free for UDP and TCP at this moment.
fn free_port() -> u16 {
    let found = (0..100).find_map(|_| {
        let udp = UdpSocket::bind("127.0.0.1:0").ok()?.local_addr().ok()?;
        TcpListener::bind(udp).ok().map(|_| udp.port())
    });
    found.expect("a port that is free")
}

/// Ends with its owner.
struct Process {
    child: Child,
    said: Arc<Mutex<String>>,
}

impl Process {
    fn start(command: &mut Command) -> Self {
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("it is installed");
        let lines = BufReader::new(child.stderr.take().expect("stderr is piped")).lines();
        let said = Arc::new(Mutex::new(String::new()));
        let copy = said.clone();
        std::thread::spawn(move || {
            lines.map_while(Result::ok).for_each(|line| copy.lock().expect("unpoisoned").extend([&line, "\n"]));
        });
        Process { child, said }
    }

    fn said(&self) -> String {
        self.said.lock().expect("unpoisoned").clone()
    }

    /// Waits until something is true; `what` it is.
    fn until<T>(&self, what: &str, mut found: impl FnMut() -> Option<T>) -> T {
        let start = Instant::now();
        loop {
            if let Some(found) = found() {
                return found;
            }
            assert!(start.elapsed() < PATIENCE, "{what} did not come; it said\n{}", self.said());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The authority, and where it is.
struct Authority {
    _pebble: Process,
    _names: Process,
    directory: String,
    /// The certificate that its own HTTPS is believed by.
    root: PathBuf,
}

impl Authority {
    /// One that asks back at `port`, and gives certificates for so many seconds.
    fn start(folder: &Path, port: u16, life_s: u32) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = Issuer::new(params.clone(), KeyPair::generate().expect("a key"));
        let root = params.self_signed(issuer.key()).expect("a certificate");
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(["localhost".to_owned()]).expect("a name");
        params.subject_alt_names.push(SanType::IpAddress([127, 0, 0, 1].into()));
        let own = params.signed_by(&key, &issuer).expect("a certificate");
        let [certificate, private, trusted] = ["cert.pem", "key.pem", "root.pem"].map(|name| folder.join(name));
        fs::write(&certificate, own.pem()).expect("it can be written");
        fs::write(&private, key.serialize_pem()).expect("it can be written");
        fs::write(&trusted, root.pem()).expect("it can be written");
        let [at, management, names, manage_names] = [(); 4].map(|()| format!("127.0.0.1:{}", free_port()));
        let config = json!({ "pebble": {
            "listenAddress": at, "managementListenAddress": management, "certificate": certificate, "privateKey": private,
            "httpPort": 1, "tlsPort": port, "ocspResponderURL": "", "externalAccountBindingRequired": false,
            "certificateValidityPeriod": life_s,
        }});
        fs::write(folder.join("pebble.json"), config.to_string()).expect("it can be written");
        let mut command = Command::new("pebble-challtestsrv");
        command.args(["-defaultIPv4", "127.0.0.1", "-defaultIPv6", "", "-dns01", &names, "-management", &manage_names]);
        let names_server = Process::start(command.args(["-http01", "", "-https01", "", "-tlsalpn01", ""]));
        let mut command = Command::new("pebble");
        command.arg("-config").arg(folder.join("pebble.json")).args(["-dnsserver", &names]);
        // Some nonces are refused, as real authorities do; nobody waits without a reason.
        let pebble = Process::start(command.env("PEBBLE_VA_NOSLEEP", "1").env("PEBBLE_WFE_NONCEREJECT", "3"));
        pebble.until("pebble", || TcpStream::connect(&at).ok());
        names_server.until("its DNS server", || TcpStream::connect(&names).ok());
        Authority { _pebble: pebble, _names: names_server, directory: format!("https://{at}/dir"), root: trusted }
    }
}

struct Server {
    process: Process,
    https: SocketAddr,
    admin: SocketAddr,
    turns: SocketAddr,
}

impl Server {
    /// The binary that asks this authority, with HTTPS at `port`.
    fn start(folder: &Path, authority: &Authority, port: u16) -> Self {
        let mut command = plain(env!("CARGO_BIN_EXE_lyceum"));
        command.args(["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--media-port", "0"]);
        command.args(["--workers", "1", "--log-format", "json", "--address", "127.0.0.1"]);
        command.env("LYCEUM__TURN__PORT", "0").env("LYCEUM__TURN__TLS_PORT", "0");
        command.env("LYCEUM__STORE__DIR", folder.join("store")).env("SSL_CERT_FILE", &authority.root);
        command.env("LYCEUM__TLS__LISTEN", format!("127.0.0.1:{port}"));
        command.env("LYCEUM__TLS__ACME_DOMAINS", format!("{DOMAIN},{SECOND}"));
        command.env("LYCEUM__TLS__ACME_DIRECTORY", &authority.directory);
        command.env("LYCEUM__TLS__ACME_EMAIL", "operators@school.example");
        let process = Process::start(command.env("LYCEUM__TLS__ACME_ACCEPT_TERMS", "true"));
        let line = process.until("where it listens", || {
            process.said().lines().find(|line| line.contains("\"listening\"")).map(str::to_owned)
        });
        let line: Value = serde_json::from_str(&line).expect("JSON");
        let address = |key: &str| line[key].as_str().and_then(|a| a.parse().ok()).unwrap_or_else(|| panic!("no {key}"));
        let turns = line["turn"].as_str().and_then(|turn| turn.rsplit_once("TLS ")?.1.parse::<u16>().ok());
        let turns = SocketAddr::from(([127, 0, 0, 1], turns.expect("TURN listens for TLS")));
        Server { https: address("https"), admin: address("admin"), turns, process }
    }

    /// The certificate that is served under the name, once there is one.
    fn shown(&self, at: SocketAddr, protocol: &str) -> Option<CertificateDer<'static>> {
        let provider = Arc::new(default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
        let builder = builder.expect("versions that the provider knows").dangerous();
        // What is tested is what is served, whoever signed it.
        let mut config = builder.with_custom_certificate_verifier(Arc::new(Anybody(provider))).with_no_client_auth();
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        let name = ServerName::try_from(DOMAIN).expect("a name");
        let mut tls = ClientConnection::new(Arc::new(config), name).expect("a good configuration");
        let mut stream = TcpStream::connect(at).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        while tls.is_handshaking() {
            tls.complete_io(&mut stream).ok()?;
        }
        tls.peer_certificates()?.first().cloned().map(CertificateDer::into_owned)
    }

    fn page(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(self.admin).expect("it listens");
        let request = format!("GET {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n", self.admin);
        stream.write_all(request.as_bytes()).expect("it reads");
        let mut page = String::new();
        stream.read_to_string(&mut page).expect("a page");
        page
    }
}

#[test]
fn a_certificate_is_got_kept_and_renewed() {
    let (folder, port) = (folder("got"), free_port());
    // Renewed after two thirds of it.
    let authority = Authority::start(&folder, port, 15);
    let server = Server::start(&folder, &authority, port);
    let first = server.process.until("a certificate", || server.shown(server.https, "http/1.1"));
    assert!(server.page("/readyz").starts_with("HTTP/1.1 200 "), "{}", server.page("/readyz"));
    let turn = server.shown(server.turns, "stun.turn").expect("TURN has it too");
    let on_pages = server.shown(server.https, "stun.turn").expect("on the port of pages too");
    for name in [DOMAIN, SECOND] {
        assert!(first.windows(name.len()).any(|window| window == name.as_bytes()), "it is for {name}");
    }
    let second = server.process.until("another", || {
        server.shown(server.https, "http/1.1").filter(|now| ![&first, &turn, &on_pages].contains(&now))
    });
    // Nothing but the authority gets anything by its name, and that only while it asks.
    assert_eq!(server.shown(server.https, "acme-tls/1"), None);

    let kept: Vec<_> = fs::read_dir(folder.join("store/acme")).expect("a folder").map(|e| e.expect("a file")).collect();
    assert_eq!(kept.len(), 3, "account, certificate, attempts: {kept:?}");
    for file in &kept {
        assert_eq!(file.metadata().expect("it is there").permissions().mode() & 0o777, 0o600, "{file:?}");
    }
    let account =
        kept.iter().find(|file| file.file_name().to_string_lossy().starts_with("account-")).expect("it is kept");
    let before = fs::read_to_string(account.path()).expect("it can be read");
    drop(server);
    // The next start has it at once, and goes on with the account.
    let server = Server::start(&folder, &authority, port);
    let again = server.process.until("the kept one or its successor", || server.shown(server.https, "http/1.1"));
    assert_ne!(again, first);
    let _ = second;
    assert_eq!(fs::read_to_string(account.path()).expect("it can be read"), before);
}

#[test]
fn what_fails_is_said_and_tried_again_later() {
    let (folder, port) = (folder("fails"), free_port());
    // It asks at a port where nobody answers, as behind a firewall.
    let authority = Authority::start(&folder, free_port(), 3_600);
    let server = Server::start(&folder, &authority, port);
    let said = server.process.until("a sentence", || {
        server.process.said().lines().find(|line| line.contains("cannot get a certificate")).map(str::to_owned)
    });
    assert!(said.contains("could not make sure of ") && said.contains("port 443"), "{said}");
    let ready = server.page("/readyz");
    assert!(ready.starts_with("HTTP/1.1 503 ") && ready.contains("certificate: there is none yet for "), "{ready}");
    assert_eq!(server.shown(server.https, "http/1.1"), None);
    assert!(server.page("/livez").starts_with("HTTP/1.1 200 "), "a restart would not help");
    // Whoever restarts it again and again is held off before the authority's limit is reached.
    drop(server);
    let attempts = folder.join("store/acme/attempts");
    let one = fs::read_to_string(&attempts).expect("it was noted");
    assert_eq!(one.lines().count(), 1, "{one}");
    fs::write(&attempts, one.repeat(4)).expect("it can be written");
    let server = Server::start(&folder, &authority, port);
    server.process.until("a sentence", || {
        server.process.said().contains("would reach the limits of the authority").then_some(())
    });
    assert_eq!(fs::read_to_string(&attempts).expect("it is there"), one.repeat(4), "nobody was asked");
}
