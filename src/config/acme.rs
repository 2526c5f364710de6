//! `[tls] acme_…`: certificates that the server gets by itself.

use super::keys::{Key, text, texts};
use super::values::truth;
use super::{Settings, put};
use crate::outbound;

/// Most names of one certificate: each is checked by the authority at each renewal.
const DOMAINS_MAX: usize = 16;
/// Longest name (RFC 1035 §2.3.4), bytes.
const DOMAIN_BYTES_MAX: usize = 253;

/// What is asked for, and of whom.
#[derive(Clone, Debug)]
pub(crate) struct AcmeSettings {
    /// The names of the certificate, lower case, at most [`DOMAINS_MAX`]; empty: none is asked for.
    pub(crate) domains: Vec<String>,
    /// Whom the authority may write to; empty: nobody.
    pub(crate) email: String,
    /// The URL of the authority's directory (RFC 8555 §7.1.1), https.
    pub(crate) directory: String,
    /// The operator has agreed to the authority's terms.
    pub(crate) accept_terms: bool,
}

impl Default for AcmeSettings {
    fn default() -> Self {
        AcmeSettings {
            domains: Vec::new(),
            email: String::new(),
            directory: "https://acme-v02.api.letsencrypt.org/directory".to_owned(),
            accept_terms: false,
        }
    }
}

pub(super) const KEYS: &[Key] = &[
    Key::list(
        "tls",
        "acme_domains",
        "Names that reach this machine, in place of certificate and key: the server then gets a certificate for them by itself, and renews it. Needs listen, which the authority must reach at port 443.",
        |s, v| put(&mut s.acme.domains, domains(v)),
        |s| texts(&s.acme.domains),
    )
    .example(r#"["calls.school.example"]"#),
    Key::one(
        "tls",
        "acme_accept_terms",
        "You have read the authority's terms, of Let's Encrypt at https://letsencrypt.org/repository/, and agree.",
        |s, v| put(&mut s.acme.accept_terms, truth(&v[0])),
        |s| Some(s.acme.accept_terms.into()),
    ),
    Key::one(
        "tls",
        "acme_email",
        "Whom the authority may write to.",
        |s, v| put(&mut s.acme.email, email(&v[0])),
        |s| text(&s.acme.email),
    )
    .example(r#""operators@school.example""#),
    Key::one(
        "tls",
        "acme_directory",
        "The authority, by the URL of its ACME directory.",
        |s, v| put(&mut s.acme.directory, directory(&v[0])),
        |s| text(&s.acme.directory),
    ),
];

fn domains(values: &[String]) -> Result<Vec<String>, String> {
    if values.len() > DOMAINS_MAX {
        return Err(format!("expected at most {DOMAINS_MAX} names"));
    }
    let names: Vec<String> = values.iter().map(|name| name.trim().to_ascii_lowercase()).collect();
    if names.iter().any(|name| name.starts_with("*.")) {
        return Err(
            "expected each name for itself: one that begins with *. needs a certificate from elsewhere".to_owned()
        );
    }
    if names.iter().all(|name| is_domain(name)) {
        return Ok(names);
    }
    Err("expected names such as calls.school.example, without scheme, port or address".to_owned())
}

fn is_domain(name: &str) -> bool {
    let is_label = |label: &str| {
        let is_plain = label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        (1..=63).contains(&label.len()) && is_plain && !label.starts_with('-') && !label.ends_with('-')
    };
    let is_number = |label: &str| label.bytes().all(|b| b.is_ascii_digit());
    let last = name.rsplit('.').next().unwrap_or_default();
    name.len() <= DOMAIN_BYTES_MAX && name.contains('.') && name.split('.').all(is_label) && !is_number(last)
}

/// One address: RFC 8555 §7.3 forbids lists and header fields behind it.
fn email(value: &str) -> Result<String, String> {
    let is_address =
        value.split_once('@').is_some_and(|(who, at)| !who.is_empty() && is_domain(&at.to_ascii_lowercase()));
    let is_plain = value.bytes().all(|b| b.is_ascii_graphic() && !b",?:<>\"".contains(&b));
    (is_address && is_plain)
        .then(|| value.to_owned())
        .ok_or_else(|| "expected one address such as operators@school.example".to_owned())
}

fn directory(value: &str) -> Result<String, String> {
    let is_good = value.starts_with("https://") && outbound::check(value).is_ok();
    is_good
        .then(|| value.to_owned())
        .ok_or_else(|| "expected a URL such as https://acme-staging-v02.api.letsencrypt.org/directory".to_owned())
}

/// Refuses what does not fit together.
pub(super) fn check(settings: &Settings) -> Result<(), String> {
    let wrong = match &settings.acme {
        acme if acme.domains.is_empty() => return Ok(()),
        _ if settings.tls_files.iter().any(Option::is_some) => {
            "[tls] acme_domains makes the server get its own certificate, beside [tls] certificate and key: remove one or the other"
        }
        _ if settings.tls_listen.is_none() => {
            "[tls] acme_domains is set, but [tls] listen is not: the authority asks at port 443; set listen = \"0.0.0.0:443\""
        }
        acme if !acme.accept_terms => {
            "[tls] acme_domains is set, but [tls] acme_accept_terms is not: read the authority's terms, of Let's Encrypt at https://letsencrypt.org/repository/, and set it to true"
        }
        _ => return Ok(()),
    };
    Err(wrong.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_an_authority_can_look_up() {
        let good = |name: &str| domains(&[name.to_owned()]).is_ok();
        for name in ["calls.school.example", "CALLS.School.example", "xn--bcher-kva.example", "a.b", "1.example"] {
            assert!(good(name), "{name}");
        }
        let long = "a".repeat(64) + ".example";
        for name in [
            "",
            "localhost",
            "*.school.example",
            "198.51.100.7",
            "::1",
            "https://a.example",
            "a.example:443",
            "a..b",
            "-a.b",
            "a_b.example",
            "a.b.",
            &long,
        ] {
            assert!(!good(name), "{name}");
        }
        assert!(domains(&vec!["a.example".to_owned(); DOMAINS_MAX + 1]).is_err());
    }

    #[test]
    fn who_is_written_to_has_one_address() {
        assert!(email("ops+tls@school.example").is_ok());
        for bad in [
            "",
            "ops",
            "mailto:ops@school.example",
            "a@b.example,c@d.example",
            "a@b.example?subject=x",
            "a b@c.example",
        ] {
            assert!(email(bad).is_err(), "{bad}");
        }
        assert!(directory("http://acme.example/directory").is_err());
        assert!(directory("https://127.0.0.1:14000/dir").is_ok());
    }
}
