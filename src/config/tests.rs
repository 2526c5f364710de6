//! Where settings come from, and what is said of bad ones.

use super::values::origin;
use super::*;

fn with(arguments: &[&str], environment: &[(&str, &str)]) -> Result<Settings, String> {
    let flags = Flags::try_parse_from(["lyceum"].iter().chain(arguments)).map_err(|e| e.to_string())?;
    let environment: Vec<_> = environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let gathered = sources::resolve(&flags, &environment).map_err(|wrong| wrong.join("\n"))?;
    Ok(gathered.settings)
}

#[test]
fn flags_beat_environment_and_environment_beats_defaults() {
    let settings =
        with(&["serve", "--media-port", "9000"], &[("LYCEUM__MEDIA__PORT", "8000"), ("SIGNALING_PORT", "4001")]);
    let settings = settings.expect("all of these are good");
    assert_eq!((settings.media_port, settings.http_listen.port()), (9000, 4001));
    assert_eq!(settings.admin_listen.port(), 9464);
}

#[test]
fn an_unknown_setting_names_its_neighbour() {
    let error = with(&[], &[("LYCEUM__HTTP__LISTN", "x")]).expect_err("there is no such setting");
    assert_eq!(error, "unknown setting LYCEUM__HTTP__LISTN in the environment; did you mean LYCEUM__HTTP__LISTEN?");
}

#[test]
fn an_origin_is_normalised() {
    let settings = with(&[], &[("NEXTAUTH_URL", "https://School.example:443/path")]).expect("a good URL");
    assert_eq!(settings.origins, ["https://school.example"]);
    for bad in ["school.example", "ftp://x", "https://", "https://u@x"] {
        assert!(origin(bad).is_err(), "{bad}");
    }
}

#[test]
fn turn_has_plain_names_and_its_secrets_are_not_shown() {
    let environment = [("TURN_URIS", "turn:a:3478, turns:a:5349"), ("TURN_USERNAME", "u"), ("TURN_CREDENTIAL", "hush")];
    let settings = with(&[], &environment).expect("all of these are good");
    assert_eq!(settings.turn_uris, ["turn:a:3478", "turns:a:5349"]);
    assert_eq!((settings.turn_username.as_str(), settings.turn_credential.0.as_str()), ("u", "hush"));
    assert!(!format!("{settings:?}").contains("hush"));
    let settings = with(&[], &[("TURN_SECRET", "hush, for sixteen bytes")]).expect("long enough");
    assert!(!format!("{settings:?}").contains("hush"));
    let error = with(&[], &[("TURN_SECRET", "hush")]).expect_err("too short");
    assert!(error.contains("TURN_SECRET in the environment: expected at least 16 bytes") && !error.contains("hush"));
}

#[test]
fn turn_settings_that_no_browser_could_use_are_refused() {
    let (uris, user, pass) = (("TURN_URIS", "turn:a"), ("TURN_USERNAME", "u"), ("TURN_CREDENTIAL", "c"));
    let secret = ("TURN_SECRET", "0123456789abcdef");
    for (environment, says) in [
        (&[uris][..], "set [turn] secret (TURN_SECRET), or [turn] username"),
        (&[uris, user], "belong together"),
        (&[uris, pass], "belong together"),
        (&[uris, user, pass, secret], "remove those two (TURN_USERNAME, TURN_CREDENTIAL), or secret (TURN_SECRET)"),
    ] {
        let error = with(&[], environment).expect_err(says);
        assert!(error.contains(says), "{error}");
    }
    for good in [&[uris, user, pass][..], &[uris, secret], &[secret], &[("TURN_URIS", "stun:a")], &[]] {
        assert!(with(&[], good).is_ok(), "{good:?}");
    }
}

#[test]
fn a_turn_host_is_as_it_stands_in_a_url() {
    for (given, taken) in [
        ("turn.school.example", Some("turn.school.example")),
        ("192.0.2.1", Some("192.0.2.1")),
        ("2001:db8::1", Some("[2001:db8::1]")),
        ("[2001:db8::1]", Some("[2001:db8::1]")),
        ("turn.example:3478", None),
        ("turn:turn.example", None),
        ("a b", None),
    ] {
        let settings = with(&[], &[("LYCEUM__TURN__HOST", given)]);
        assert_eq!(settings.ok().map(|s| s.turn_host).as_deref(), taken, "{given}");
    }
}

#[test]
fn a_certificate_has_a_key() {
    let (certificate, key) = (("LYCEUM__TLS__CERTIFICATE", "c.pem"), ("LYCEUM__TLS__KEY", "k.pem"));
    let listen = ("LYCEUM__TLS__LISTEN", "0.0.0.0:443");
    let settings = with(&[], &[certificate, key, listen]).expect("all of these are good");
    assert_eq!(settings.tls_files, [Some("c.pem".into()), Some("k.pem".into())]);
    assert_eq!(settings.tls_listen.map(|a| a.port()), Some(443));
    for (given, says) in [
        (certificate, "[tls] certificate is set, but [tls] key is not; both name PEM files"),
        (key, "[tls] key is set, but [tls] certificate is not; both name PEM files"),
        (
            listen,
            "[tls] listen is set, but [tls] certificate is not; name PEM files with it and [tls] key, or names in [tls] acme_domains",
        ),
    ] {
        assert_eq!(with(&[], &[given]).expect_err(says), says);
    }
    let domains = ("LYCEUM__TLS__ACME_DOMAINS", "calls.school.example");
    for (given, says) in [
        (vec![domains], "[tls] acme_domains is set, but [tls] listen is not"),
        (vec![domains, listen], "[tls] acme_domains is set, but [tls] acme_accept_terms is not"),
        (vec![domains, listen, certificate, key], "remove one or the other"),
    ] {
        let said = with(&[], &given).expect_err(says);
        assert!(said.contains(says), "{said}");
    }
    let agreed = ("LYCEUM__TLS__ACME_ACCEPT_TERMS", "true");
    assert!(with(&[], &[domains, listen, agreed]).expect("all of these are good").has_certificate());
    let error = with(&[], &[("LYCEUM__TLS__KEY", "-----BEGIN PRIVATE KEY-----\nMIG")]).expect_err("no path");
    assert_eq!(error, "LYCEUM__TLS__KEY in the environment: expected the path of a PEM file, not what stands in it");
}

#[test]
fn bad_values_say_what_is_expected() {
    for (variable, value, says) in [
        ("SIGNALING_PORT", "70000", "SIGNALING_PORT is \"70000\": expected a port between 0 and 65535"),
        ("LYCEUM__MEDIA__WORKERS", "0", "expected a whole number between 1 and 64"),
        ("LYCEUM__MEDIA__ADDRESSES", "0.0.0.0", "expected IP addresses"),
        ("LYCEUM__LOG__FORMAT", "xml", "expected text or json"),
        ("TURN_URIS", "http://x", "expected URLs such as turn:"),
        ("TURN_URIS", "turn://x", "expected URLs such as turn:"),
    ] {
        let error = with(&[], &[(variable, value)]).expect_err(variable);
        assert!(error.contains(says), "{error}");
    }
    assert!(with(&[], &[("LYCEUM__MEDIA__PORT", "65535"), ("LYCEUM__MEDIA__WORKERS", "2")]).is_err());
}

const SECRET: &str = "a secret of 32 bytes and a few more";

#[test]
fn keys_make_tokens_required() {
    assert!(!with(&[], &[]).expect("no key is open mode").auth.is_required());
    for key in [
        ("JWT_SECRET", SECRET),
        ("LYCEUM__AUTH__SECRET", SECRET),
        ("LYCEUM__AUTH__KEYS", "app:a secret of 32 bytes and a few more"),
        ("SUPABASE_URL", "https://abc.supabase.co"),
        ("SUPABASE_JWKS_URL", "https://abc.supabase.co/auth/v1/.well-known/jwks.json"),
    ] {
        let settings = with(&[], &[key]).expect("a key");
        assert!(settings.auth.is_required(), "{key:?}");
        assert!(!format!("{settings:?}").contains("a few more"), "{settings:?}");
    }
}

#[test]
fn a_supabase_project_gives_issuer_key_set_and_audience() {
    let keys = "https://abc.supabase.co/auth/v1/.well-known/jwks.json";
    for given in [("SUPABASE_URL", "https://abc.supabase.co/"), ("SUPABASE_JWKS_URL", keys)] {
        let auth = with(&[], &[given]).expect("a project").auth;
        assert_eq!((auth.issuer.as_str(), auth.jwks_url.as_str()), ("https://abc.supabase.co/auth/v1", keys));
        assert!(auth.audience == "authenticated" && auth.is_supabase());
    }
    let own = [("SUPABASE_URL", "https://abc.supabase.co"), ("LYCEUM__AUTH__AUDIENCE", "calls")];
    assert_eq!(with(&[], &own).expect("a project").auth.audience, "calls");
    let other = [
        ("LYCEUM__AUTH__JWKS_URL", "https://id.example/keys"),
        ("LYCEUM__AUTH__ISSUER", "https://id.example"),
        ("LYCEUM__AUTH__AUDIENCE", "calls"),
    ];
    assert!(!with(&[], &other).expect("an issuer").auth.is_supabase());
    for lacking in [&other[..1], &other[..2]] {
        assert!(with(&[], lacking).expect_err("an audience").contains("needs [auth] issuer and [auth] audience"));
    }
    let join = [other[0], other[1], ("LYCEUM__AUTH__AUDIENCE", "lyceum")];
    assert!(with(&[], &join).expect_err("that is ours").contains("which is that of join tokens"));
    for bad in ["abc.supabase.co", "ftp://abc", "https://", "https://user:word@abc.supabase.co", "https://abc\u{7f}"] {
        assert!(with(&[], &[("SUPABASE_URL", bad)]).is_err(), "{bad}");
    }
}

#[test]
fn secrets_that_protect_nothing_are_refused_and_not_shown() {
    let error = |name: &'static str, value: &str| with(&[], &[(name, value)]).expect_err(name);
    for name in ["JWT_SECRET", "LYCEUM_ADMIN_KEY", "LYCEUM__AUTH__HOOK_SECRET"] {
        let short = error(name, "hush");
        assert!(short.contains("expected at least 32 bytes") && !short.contains("hush"), "{short}");
    }
    for (pairs, says) in [
        ("hush", "expected id:secret"),
        ("a b:hush", "expected id:secret"),
        (":hush", "expected id:secret"),
        ("app:hush", "the secret of app: expected at least 32 bytes"),
    ] {
        let short = error("LYCEUM__AUTH__KEYS", pairs);
        assert!(short.contains(says) && !short.contains("hush"), "{short}");
    }
    let twice = format!("app:{SECRET},app:{SECRET}");
    assert!(error("LYCEUM__AUTH__KEYS", &twice).contains("the id app stands there twice"));
    // Trying things out on this machine alone, one may use what everybody knows.
    let known = ("JWT_SECRET", "super-secret-jwt-token-with-at-least-32-characters-long");
    assert!(with(&["--listen", "127.0.0.1:3001"], &[known]).is_ok());
    assert!(with(&["--listen", "0.0.0.0:3001"], &[known]).expect_err("known").contains("a well-known example"));
}

#[test]
fn a_mode_fits_its_keys() {
    let (open, required) = (("LYCEUM__AUTH__MODE", "open"), ("LYCEUM__AUTH__MODE", "required"));
    assert!(!with(&[], &[open]).expect("no key").auth.is_required());
    assert!(with(&[], &[required, ("JWT_SECRET", SECRET)]).expect("a key").auth.is_required());
    assert!(with(&[], &[required]).expect_err("no key").contains("set JWT_SECRET"));
    assert!(with(&[], &[open, ("JWT_SECRET", SECRET)]).expect_err("a key").contains("remove one or the other"));
    assert!(with(&[], &[("LYCEUM__AUTH__MODE", "closed")]).expect_err("no mode").contains("expected open or required"));
}

#[test]
fn of_urls_that_may_hold_a_key_only_the_site_is_shown() {
    let environment = [
        ("LYCEUM__AUTH__JWKS_URL", "https://id.example:8443/hush/keys.json?apikey=hush"),
        ("LYCEUM__AUTH__ISSUER", "https://id.example"),
        ("LYCEUM__AUTH__AUDIENCE", "school"),
        ("LYCEUM__AUTH__HOOK_URL", "http://127.0.0.1:8000/hush"),
    ];
    let (settings, origins) = loaded(&[], &environment);
    for as_json in [false, true] {
        let said = print(&settings, &origins, as_json);
        assert!(said.contains("\"https://id.example:8443\"") && said.contains("\"http://127.0.0.1:8000\""), "{said}");
        assert!(!said.contains("hush"), "{said}");
    }
    assert_eq!((site(""), site("https://id.example")), (String::new(), "https://id.example".to_owned()));
}

#[test]
fn what_can_be_changed_on_its_way() {
    for (url, is_so) in [
        ("http://id.example/keys", true),
        ("http://10.0.0.7/keys", true),
        ("https://id.example/keys", false),
        ("http://localhost:54321/keys", false),
        ("http://127.0.0.1/keys", false),
        ("http://[::1]:8000/keys", false),
        ("", false),
    ] {
        assert_eq!(is_plain_and_far(url), is_so, "{url}");
    }
}

fn loaded(arguments: &[&str], environment: &[(&str, &str)]) -> (Settings, Origins) {
    let flags = Flags::try_parse_from(["lyceum"].iter().chain(arguments)).expect("flags that there are");
    let environment: Vec<_> = environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let gathered = sources::resolve(&flags, &environment).expect("good settings");
    (gathered.settings, Origins(gathered.origins))
}

#[test]
fn all_that_is_wrong_is_said_at_once() {
    let wrong = [("SIGNALING_PORT", "x"), ("LYCEUM__ROOM__CHAT", "maybe"), ("LYCEUM__HTTP__LISTN", "y")];
    let error = with(&["--workers", "0"], &wrong).expect_err("four are wrong");
    let said: Vec<&str> = error.lines().collect();
    assert_eq!(said.len(), 4, "{error}");
    assert!(said[0].starts_with("SIGNALING_PORT is \"x\": expected a port"), "{error}");
    assert_eq!(said[1], "LYCEUM__ROOM__CHAT in the environment is \"maybe\": expected true or false");
    assert!(said[2].ends_with("did you mean LYCEUM__HTTP__LISTEN?"), "{error}");
    assert!(said[3].starts_with("--workers is \"0\": expected a whole number"), "{error}");
    // What does not fit together, too.
    let unfit = [("TURN_URIS", "turn:a"), ("LYCEUM__TLS__KEY", "k.pem")];
    assert_eq!(with(&[], &unfit).expect_err("two do not fit").lines().count(), 2);
}

#[test]
fn what_holds_is_shown_with_its_origin_and_without_secrets() {
    let given = [
        ("JWT_SECRET", SECRET),
        ("DATABASE_URL", "postgres://lyceum:hush@db/lyceum"),
        ("SUPABASE_URL", "https://abc.supabase.co"),
        ("NEXTAUTH_URL", "https://school.example"),
        ("LYCEUM__WEBHOOKS__ALLOW", "10.1.0.0/16"),
    ];
    let (settings, origins) = loaded(&["--media-port", "9000"], &given);
    let text = print(&settings, &origins, false);
    for (line, origin) in [
        ("port = 9000", "# --media-port"),
        ("listen = \"127.0.0.1:9464\"", "# default"),
        ("# secret is set and hidden", "# JWT_SECRET in the environment"),
        ("# url is set and hidden", "# DATABASE_URL in the environment"),
        ("mode = \"required\"", "# follows from other settings"),
        ("audience = \"authenticated\"", "# follows from other settings"),
        ("origins = [\"https://school.example\"]", "# NEXTAUTH_URL in the environment"),
        ("allow = [\"10.1.0.0/16\"]", "# LYCEUM__WEBHOOKS__ALLOW in the environment"),
        ("# certificate is not set", ""),
    ] {
        let is_it = |l: &str| l.starts_with(line) && l.ends_with(origin);
        assert!(text.lines().any(is_it), "{line} {origin} in\n{text}");
    }
    let json = print(&settings, &origins, true);
    for secret in [SECRET, "hush"] {
        assert!(!text.contains(secret) && !json.contains(secret));
    }
    let list: Vec<serde_json::Value> = serde_json::from_str(&json).expect("a list");
    assert_eq!(list.len(), keys::all().count());
    let port = list.iter().find(|key| key["section"] == "media" && key["name"] == "port").expect("it is there");
    assert_eq!((&port["value"], &port["origin"]), (&9000.into(), &"--media-port".into()));
}

#[test]
fn what_is_shown_can_be_given() {
    let (settings, origins) = loaded(&["--address", "192.0.2.1"], &[("LYCEUM__TURN__PEERS", "192.0.2.0/24")]);
    let text = print(&settings, &origins, false);
    let file = std::env::temp_dir().join(format!("lyceum-shown-{}.toml", std::process::id()));
    std::fs::write(&file, &text).expect("there is room");
    let (again, origins) = loaded(&["--config", file.to_str().expect("a plain path")], &[]);
    std::fs::remove_file(&file).expect("it is there");
    let values = |text: &str| -> Vec<String> {
        text.lines().map(|line| line.split(" # ").next().unwrap_or_default().trim_end().to_owned()).collect()
    };
    assert_eq!(values(&print(&again, &origins, false)), values(&text));
}

#[test]
fn the_example_is_current_and_each_line_of_it_is_good() {
    let kept = include_str!("../../deploy/lyceum.example.toml");
    assert_eq!(kept, format!("{}\n", example()), "write it anew: lyceum config example >deploy/lyceum.example.toml");
    let table: toml::Table = kept.parse().expect("it loads as it stands");
    assert!(table.values().all(|section| section.as_table().is_some_and(toml::Table::is_empty)));
    for key in keys::all() {
        let mut settings = Settings::default();
        let line = kept
            .split_once(&format!("[{}]\n", key.section))
            .and_then(|(_, rest)| rest.lines().find_map(|line| line.strip_prefix(&format!("# {} = ", key.name))))
            .unwrap_or_else(|| panic!("the example lacks [{}] {}", key.section, key.name));
        let value: toml::Table = format!("value = {line}").parse().unwrap_or_else(|e| panic!("{line}: {e}"));
        let values = sources::strings(&value["value"], key.is_list).expect("one value, or a list");
        let taken = (key.set)(&mut settings, &values);
        // What stands for a secret must not be one.
        assert!(taken.is_ok() || key.is_secret, "[{}] {} = {line}: {taken:?}", key.section, key.name);
    }
}

#[test]
fn the_operations_page_has_every_setting() {
    let page = include_str!("../../docs/operations.md");
    for key in keys::all() {
        assert!(page.contains(&format!("`[{}] {}`", key.section, key.name)), "[{}] {}", key.section, key.name);
    }
}
