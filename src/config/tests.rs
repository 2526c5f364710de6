//! Where settings come from, and what is said of bad ones.

use super::*;

fn with(arguments: &[&str], environment: &[(&str, &str)]) -> Result<Settings, String> {
    let flags = Flags::try_parse_from(["lyceum"].iter().chain(arguments)).map_err(|e| e.to_string())?;
    let environment: Vec<_> = environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    resolve(&flags, &environment).map_err(|e| e.to_string())
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
        (listen, "[tls] listen is set, but [tls] certificate is not; name PEM files with it and [tls] key"),
    ] {
        assert_eq!(with(&[], &[given]).expect_err(says), says);
    }
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
