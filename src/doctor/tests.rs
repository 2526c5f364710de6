//! Set-ups that are broken on purpose, and what is said of each.

use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};

use super::gather::{Facts, Local};
use super::turn::Tried;
use super::*;
use crate::addresses::public::{binding_tcp, binding_udp, http_date};

fn ip(text: &str) -> IpAddr {
    text.parse().expect("a literal address")
}

/// A machine on which all is well.
fn good() -> Facts {
    let local = Local {
        offered: vec![ip("198.51.100.7")],
        buffers: [Some(8 << 20); 2],
        disk: Some(Ok(())),
        free: Some(50 << 30),
        now_s: 1_700_000_000,
    };
    let certificate = Some(Ok((1_700_000_000 + 60 * 86_400, Some("calls.school.example".to_owned()))));
    Facts { local, is_running: true, certificate, store: Some(Ok(crate::store::Tables::Current)), ..Facts::default() }
}

fn tried(way: &'static str, at: SocketAddr, seen: Result<SocketAddr, String>) -> Tried {
    Tried { way, at: at.to_string(), port: at.port(), is_allocated: true, seen }
}

fn settings() -> Settings {
    Settings { workers: 4, ..Settings::default() }
}

/// The one finding that is not well.
fn wrong(facts: &Facts) -> Finding {
    let found = judge::all(&settings(), facts).into_iter().filter(|finding| finding.state != State::Well);
    let found: Vec<Finding> = found.collect();
    assert_eq!(found.len(), 1, "{found:#?}");
    found.into_iter().next().expect("one")
}

#[test]
fn a_good_machine_has_nothing_to_mend() {
    let findings = judge::all(&settings(), &good());
    assert!(findings.iter().all(|finding| finding.state == State::Well && finding.mend.is_empty()), "{findings:#?}");
    assert!(to_text(&findings).ends_with("All is well, as far as can be seen from here."));
}

/// What came of pages over TLS.
fn shown(why: &str) -> Option<(String, Result<i64, String>)> {
    Some(("calls.school.example:443".into(), Err(why.into())))
}

#[test]
fn turn_over_tls_on_443_is_proven_or_recommended() {
    let mut settings = settings();
    settings.auth.secret = crate::config::Secret("x".repeat(32));
    settings.acme.domains = vec!["calls.school.example".into()];
    let school = |facts: &Facts| judge::all(&settings, facts).into_iter().find(|finding| finding.about == "school");
    let at = |text: &str| text.parse::<SocketAddr>().expect("good");
    let mut facts = good();
    let found = school(&facts).expect("it is looked at");
    assert!(found.state == State::Doubtful && found.mend.contains("LYCEUM__TLS__LISTEN=0.0.0.0:443"), "{found:?}");
    facts.turn = vec![tried("TLS", at("198.51.100.7:5349"), Ok(at("203.0.113.1:1")))];
    let found = school(&facts).expect("it is looked at");
    assert!(found.state == State::Doubtful && found.says.contains("at port 5349"), "{found:?}");
    facts.turn.push(tried("TLS", at("198.51.100.7:443"), Ok(at("203.0.113.1:1"))));
    assert_eq!(school(&facts).map(|found| found.state), Some(State::Well));
    facts.turn[1].seen = Err("no answer".into());
    assert_eq!(school(&facts).map(|found| found.state), Some(State::Doubtful));
}

#[test]
fn each_break_is_named_with_what_mends_it() {
    type Break = fn(&mut Facts);
    let at: SocketAddr = "198.51.100.7:3478".parse().expect("good");
    let breaks: [(Break, State, &str, &str); 20] = [
        (|f| f.local.offered = vec![ip("127.0.0.1")], State::Broken, "address", "LYCEUM__MEDIA__ADDRESSES"),
        (|f| f.public = Some(ip("203.0.113.9")), State::Broken, "public", "LYCEUM__MEDIA__ADDRESSES=203.0.113.9"),
        (|f| f.clock_off_s = Some((-90, "the cloud's".into())), State::Broken, "clock", "chronyc makestep"),
        (|f| f.local.buffers = [Some(212_992); 2], State::Doubtful, "buffers", "sysctl -w net.core.rmem_max=4194304"),
        (|f| f.local.disk = Some(Err("Permission denied".into())), State::Broken, "disk", "LYCEUM__STORE__DIR"),
        (|f| f.local.free = Some(1 << 20), State::Doubtful, "disk", "df -h"),
        (|f| f.certificate = Some(Ok((1_699_999_999, None))), State::Broken, "certificate", "certbot renew"),
        (|f| f.certificate = Some(Ok((1_700_086_400, None))), State::Doubtful, "certificate", "certbot renew"),
        (|f| f.store = Some(Err("no answer".into())), State::Broken, "database", "DATABASE_URL"),
        (|f| f.jwks = Some(Err("the answer was 404".into())), State::Broken, "key set", "curl"),
        (|f| f.stun = Some(Ok(ip("203.0.113.9"))), State::Broken, "public", "LYCEUM__MEDIA__ADDRESSES=203.0.113.9"),
        (|f| f.stun = Some(Err("no answer".into())), State::Doubtful, "public", "[media] stun"),
        (
            |f| (f.public, f.stun) = (Some(ip("198.51.100.7")), Some(Ok(ip("203.0.113.9")))),
            State::Doubtful,
            "public",
            "LYCEUM__MEDIA__ADDRESSES=198.51.100.7,203.0.113.9",
        ),
        (
            |f| f.certificate = Some(Ok((0, Some("a.example".into())))),
            State::Broken,
            "certificate",
            "journalctl -u lyceum",
        ),
        (|f| f.https = shown("invalid peer certificate: Expired"), State::Broken, "https", "certbot renew"),
        (|f| f.https = shown("invalid peer certificate: UnknownIssuer"), State::Broken, "https", "fullchain.pem"),
        (|f| f.https = shown("Connection refused"), State::Broken, "https", "dig +short calls.school.example"),
        (|f| f.held = Some(Err("it was cut off after 30 s".into())), State::Broken, "websocket", "--timeout=86400"),
        (|f| f.authority = Some(Err("no answer".into())), State::Broken, "authority", "curl -sS"),
        (|f| f.is_running = false, State::Doubtful, "server", "Start it"),
    ];
    for (spoil, state, about, mend) in breaks {
        let mut facts = good();
        spoil(&mut facts);
        let found = wrong(&facts);
        assert_eq!((found.state, found.about), (state, about));
        assert!(found.mend.contains(mend), "{found:?}");
    }
    let mut facts = good();
    facts.turn = vec![tried("UDP", at, Err("no answer".into()))];
    let found = wrong(&facts);
    let rule = "gcloud compute firewall-rules create lyceum --direction=INGRESS --source-ranges=0.0.0.0/0 \
        --allow=tcp:3001,udp:7882-7885,tcp:7882-7885,udp:3478,tcp:3478";
    assert!(found.mend.starts_with(rule), "{}", found.mend);
    let mut facts = good();
    facts.ports = vec![("UDP", at, Err("Address already in use".into())), ("TCP", at, Ok(()))];
    assert!(wrong(&facts).mend.contains("ss -ulpn 'sport = :3478'"));
}

/// A server that runs, and all is well.
fn known() -> Known {
    let served =
        Served { ends_s: 1_700_000_000 + 60 * 86_400, name: Some("calls.school.example".into()), trouble: None };
    Known { certificate: Some(served), has_database: true, is_recording: true }
}

#[test]
fn what_ends_calls_bars_a_server_and_what_only_makes_them_worse_does_not() {
    type Break = fn(&mut Known, &mut Local);
    let mut settings = settings();
    settings.auth.secret = crate::config::Secret("x".repeat(32));
    let breaks: [(Break, &str, bool); 9] = [
        (|_, l| l.disk = Some(Err("Read-only file system".into())), "disk", true),
        (|_, l| l.offered = vec![ip("127.0.0.1")], "address", true),
        (|k, _| k.is_recording = false, "journal", true),
        (|k, _| k.certificate.as_mut().expect("one").ends_s = 1_699_999_999, "certificate", true),
        (|k, _| k.certificate.as_mut().expect("one").ends_s = 0, "certificate", true),
        (
            |k, _| k.certificate.as_mut().expect("one").trouble = Some("the key does not fit".into()),
            "certificate",
            false,
        ),
        (|k, _| k.has_database = false, "database", false),
        (|_, l| l.buffers = [Some(212_992); 2], "buffers", false),
        (|_, l| l.free = Some(1 << 20), "disk", false),
    ];
    for (spoil, about, bars) in breaks {
        let (mut known, mut local) = (known(), good().local);
        spoil(&mut known, &mut local);
        let mut found = judge::machine(&settings, &local);
        found.extend(judge::running(&settings, &known, local.now_s));
        found.retain(|finding| finding.state != State::Well);
        let [finding] = &found[..] else { panic!("{about}: {found:#?}") };
        assert_eq!((finding.about, judge::bars(&settings, finding)), (about, bars), "{finding:?}");
        assert!(!finding.mend.is_empty(), "{finding:?}");
    }
    let mut all = judge::machine(&settings, &good().local);
    all.extend(judge::running(&settings, &known(), 1_700_000_000));
    assert!(all.iter().all(|finding| finding.state == State::Well), "{all:#?}");
    // Whoever tries it out on one machine, or names its loopback address, wants no other.
    let local = Local { offered: vec![ip("127.0.0.1")], ..good().local };
    let tried_out = Settings { auth: Default::default(), ..settings.clone() };
    let named = Settings { addresses: vec![ip("127.0.0.1")], ..settings };
    for settings in [tried_out, named] {
        assert!(!judge::machine(&settings, &local).iter().any(|finding| judge::bars(&settings, finding)));
    }
}

#[test]
fn findings_read_well_and_can_be_parsed() {
    let findings = [Finding::well("disk", "fine"), Finding::broken("clock", "off", "first\nsecond")];
    let text = to_text(&findings);
    assert!(
        text.contains("✓ well     disk") && text.contains("✗ broken   clock") && text.contains("→ second"),
        "{text}"
    );
    let list: serde_json::Value = serde_json::from_str(&to_json(&findings)).expect("JSON");
    assert_eq!((&list[1]["state"], &list[1]["mend"]), (&"broken".into(), &"first\nsecond".into()));
}

#[test]
fn dates_of_http_are_read() {
    for (text, unix_s) in [
        ("Sun, 06 Nov 1994 08:49:37 GMT", Some(784_111_777)),
        ("Thu, 01 Jan 1970 00:00:00 GMT", Some(0)),
        ("Thu, 29 Feb 2024 12:00:00 GMT", Some(1_709_208_000)),
        ("yesterday", None),
    ] {
        assert_eq!(http_date(text), unix_s, "{text}");
    }
}

#[test]
fn who_does_not_speak_stun_is_no_turn_server() {
    let silent = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    assert!(binding_udp(silent.local_addr().expect("bound")).is_err());
    let closed = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let at = closed.local_addr().expect("bound");
    drop(closed);
    assert!(binding_tcp(at).is_err());
}
