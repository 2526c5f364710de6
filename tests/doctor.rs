//! `lyceum doctor` against set-ups that are broken on purpose: each is named, with what mends it.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, missing_docs)]

mod plain;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use serde_json::Value;

use plain::plain;

const SECRET: &str = "doctors-know-this-secret-of-48-bytes-or-more-000";
const DOMAIN: &str = "calls.school.example";

/// A folder of a test, empty.
fn folder(name: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("doctor-{}-{name}", std::process::id()));
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(&path).expect("a writable target directory");
    path
}

/// A command without the settings of whoever runs the tests, whose outputs are read.
fn piped(program: &str) -> Command {
    let mut command = plain(program);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Writes a root and, below `good` and `expired`, certificates of it with their keys.
fn issue(folder: &Path) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = Issuer::new(params.clone(), KeyPair::generate().expect("a key"));
    let root = params.self_signed(issuer.key()).expect("a certificate");
    fs::write(folder.join("root.pem"), root.pem()).expect("it can be written");
    for (name, ends) in [("good", 2090), ("expired", 2021)] {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new([DOMAIN.to_owned()]).expect("a name");
        (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(ends, 1, 1));
        let own = params.signed_by(&key, &issuer).expect("a certificate");
        let folder = folder.join(name);
        fs::create_dir_all(&folder).expect("a writable place");
        fs::write(folder.join("fullchain.pem"), own.pem()).expect("it can be written");
        fs::write(folder.join("privkey.pem"), key.serialize_pem()).expect("it can be written");
    }
}

/// What stands behind each set-up that a script looks at: the findings of the doctor.
struct Findings(Vec<Value>);

impl Findings {
    fn read(text: &str) -> Self {
        Findings(serde_json::from_str(text).unwrap_or_else(|error| panic!("{error} in {text}")))
    }

    fn states(&self, about: &str) -> Vec<&str> {
        let of = self.0.iter().filter(|finding| finding["about"] == about);
        of.map(|finding| finding["state"].as_str().expect("a word")).collect()
    }

    /// The one finding about something that is broken, which must say this and name what mends it.
    #[track_caller]
    fn broken(&self, about: &str, says: &str, mend: &str) {
        let of: Vec<_> = self.0.iter().filter(|it| it["about"] == about && it["state"] == "broken").collect();
        let [finding] = of[..] else { panic!("{about}: {:#?}", self.0) };
        let text = |key: &str| finding[key].as_str().expect("a string");
        assert!(text("says").contains(says) && text("mend").contains(mend), "{finding:#}");
    }
}

/// A machine of its own: a public address, a name that leads to it, a server, and then one thing after the other that breaks.
const MACHINE: &str = r#"
set -eu
ip link set lo up
ip addr add 203.0.113.5/32 dev lo
echo "203.0.113.5 calls.school.example" >"$FOLDER/hosts"
mount --bind "$FOLDER/hosts" /etc/hosts
"$LYCEUM" >"$FOLDER/log" 2>&1 &
server=$!
trap 'kill $server' EXIT
tries=0
until "$LYCEUM" healthcheck >/dev/null 2>&1; do
  tries=$((tries + 1))
  [ $tries -lt 600 ] || { cat "$FOLDER/log" >&2; exit 1; }
  sleep 0.1
done
doctor() { env "$@" "$LYCEUM" doctor --json $more || true; echo ====; }
more="--wait 2 --url https://calls.school.example"
doctor A=well
more="--wait 2 --url https://calls.school.example:1"
doctor DATABASE_URL=postgres://nobody:hush@127.0.0.1:1/none
more=
doctor LYCEUM__MEDIA__ADDRESSES=198.51.100.99 LYCEUM__MEDIA__STUN=203.0.113.5:3478
doctor LYCEUM__TLS__CERTIFICATE="$FOLDER/expired/fullchain.pem" LYCEUM__TLS__KEY="$FOLDER/expired/privkey.pem"
doctor SSL_CERT_FILE=/dev/null
iptables -A INPUT -p udp --dport 3478 -j DROP
doctor A=blocked
iptables -A INPUT -p tcp --dport 443 -j REJECT
doctor A=closed
"#;

#[test]
fn each_break_of_a_machine_is_named_with_what_mends_it() {
    let folder = folder("machine");
    issue(&folder);
    let mut command = piped("unshare");
    // Whoever is not root is it in a namespace of users.
    let is_root = Command::new("id").arg("-u").output().expect("id runs").stdout == b"0\n";
    command.args(["--net", "--mount"]).args((!is_root).then_some("--map-root-user"));
    command.args(["sh", "-c", MACHINE]).env("LYCEUM", env!("CARGO_BIN_EXE_lyceum")).env("FOLDER", &folder);
    command.env("LYCEUM__MEDIA__ADDRESSES", "203.0.113.5").env("LYCEUM__MEDIA__WORKERS", "1");
    command.env("LYCEUM__STORE__DIR", folder.join("store")).env("LYCEUM__TURN__HOST", DOMAIN);
    command.env("JWT_SECRET", SECRET).env("LYCEUM_ADMIN_KEY", SECRET).env("SSL_CERT_FILE", folder.join("root.pem"));
    command.env("LYCEUM__TLS__CERTIFICATE", folder.join("good/fullchain.pem"));
    command.env("LYCEUM__TLS__KEY", folder.join("good/privkey.pem")).env("LYCEUM__TLS__LISTEN", "0.0.0.0:443");
    let output = command.output().expect("unshare is there");
    let (said, wrong) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}\n{wrong}");
    assert!(!said.contains("hush") && !said.contains(SECRET));
    let all: Vec<Findings> =
        said.split("====").map(str::trim).filter(|text| !text.is_empty()).map(Findings::read).collect();
    let [well, database, address, expired, unbelieved, blocked, closed] = &all[..] else { panic!("{said}") };

    assert_eq!(well.states("turn"), ["well"; 3], "UDP, TCP and TLS by the public name: {:#?}", well.0);
    for about in ["server", "address", "certificate", "https", "school", "websocket", "database"] {
        assert_eq!(well.states(about), ["well"], "{:#?}", well.0);
    }

    database.broken("database", "", "pg_isready");
    database.broken("websocket", "refused", "--timeout=86400");
    address.broken(
        "public",
        "sees 203.0.113.5, but media is offered at 198.51.100.99",
        "LYCEUM__MEDIA__ADDRESSES=203.0.113.5",
    );
    expired.broken("certificate", "has expired on 2021-01-01", "sudo certbot renew");
    unbelieved.broken("https", "UnknownIssuer", "fullchain.pem, not cert.pem");
    unbelieved.broken("turn", "over TLS", "fullchain.pem, not cert.pem");
    let rule = "gcloud compute firewall-rules create lyceum --direction=INGRESS --source-ranges=0.0.0.0/0 \
        --allow=tcp:3001,tcp:443,udp:7882,tcp:7882,udp:3478,tcp:3478,tcp:5349";
    blocked.broken("turn", "over UDP, where browsers are told to ask: no answer", rule);
    assert_eq!(blocked.states("turn").iter().filter(|state| **state == "well").count(), 2, "TCP and TLS come through");
    closed.broken("https", "nobody gets pages at calls.school.example:443", "dig +short calls.school.example");
    assert_eq!(closed.states("school"), ["doubtful"]);
}

#[test]
fn a_clock_that_is_wrong_is_seen_by_another() {
    // There the cloud's own clock is believed before all others.
    let is_google = fs::read_to_string("/sys/class/dmi/id/product_name").is_ok_and(|name| name.starts_with("Google"));
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let at = listener.local_addr().expect("bound");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut reader = BufReader::new(stream.try_clone().expect("a descriptor"));
            let mut line = String::new();
            while reader.read_line(&mut line).unwrap_or(0) > 2 {
                line.clear();
            }
            let head = "HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Length: 11\r\n";
            let _ = stream.write_all(format!("{head}Connection: close\r\n\r\n{{\"keys\":[]}}").as_bytes());
        }
    });
    let mut command = piped(env!("CARGO_BIN_EXE_lyceum"));
    command.args(["--admin-listen", "127.0.0.1:0", "--listen", "127.0.0.1:0", "--media-port", "0", "doctor", "--json"]);
    command.args(["--wait", "5", "--url", &format!("http://{at}")]);
    command.env("LYCEUM__TURN__PORT", "0").env("LYCEUM__TURN__TLS_PORT", "0");
    command.env("LYCEUM__STORE__DIR", folder("clock")).env("SUPABASE_JWKS_URL", format!("http://{at}/keys"));
    command.env("LYCEUM__AUTH__ISSUER", "https://id.example").env("LYCEUM__AUTH__AUDIENCE", "authenticated");
    let output = command.output().expect("the binary starts");
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    let found = Findings::read(&String::from_utf8_lossy(&output.stdout));
    if !is_google {
        found.broken("clock", "s ahead of the key set's server", "sudo chronyc makestep");
    }
    found.broken("websocket", "the answer to the upgrade was 200", "Upgrade and Connection passed on");
    assert_eq!(found.states("key set"), ["well"]);
}
