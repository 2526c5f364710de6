//! Where settings come from: a file, the environment, flags, in this order. What is wrong is collected, so that whoever
//! mends it hears of all of it at once.

use std::collections::BTreeMap;
use std::path::Path;

use super::flags::Flags;
use super::keys::{self, Key, find};
use super::values::{origin, port};
use super::{Settings, acme, auth, turn, webhooks};

/// Plain environment names, and the setting that each stands for.
const PLAIN: &[(&str, &str, &str)] = &[
    ("RUST_LOG", "log", "level"),
    ("OTEL_EXPORTER_OTLP_ENDPOINT", "log", "otlp"),
    ("OTEL_EXPORTER_OTLP_HEADERS", "log", "otlp_headers"),
    ("DATABASE_URL", "store", "url"),
    ("TURN_URIS", "turn", "uris"),
    ("TURN_USERNAME", "turn", "username"),
    ("TURN_CREDENTIAL", "turn", "credential"),
    ("TURN_SECRET", "turn", "secret"),
    ("JWT_SECRET", "auth", "secret"),
    ("SUPABASE_URL", "auth", "supabase_url"),
    ("SUPABASE_JWKS_URL", "auth", "jwks_url"),
    ("LYCEUM_ADMIN_KEY", "auth", "admin_key"),
];

/// A setting as its section and its name.
pub(super) type Name = (&'static str, &'static str);

/// What the sources came to.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    pub(super) settings: Settings,
    /// Of the settings that were given: where the value that counts came from.
    pub(super) origins: BTreeMap<Name, String>,
    /// Sentences about what is wrong.
    errors: Vec<String>,
}

/// All settings with their origins, or a sentence about each one that is wrong.
pub(super) fn resolve(flags: &Flags, environment: &[(String, String)]) -> Result<Gathered, Vec<String>> {
    let mut gathered = Gathered::default();
    if let Some(path) = &flags.config {
        gathered.take_file(path);
    }
    gathered.take_environment(environment);
    gathered.take_flags(flags);
    // What does not fit together is looked for only among what could be understood.
    if gathered.errors.is_empty() {
        let settings = &mut gathered.settings;
        let checks = [fit_media(settings), fit_tls(settings), acme::check(settings), turn::check(settings)];
        let more = [webhooks::check(settings), auth::complete(settings)];
        gathered.errors.extend(checks.into_iter().chain(more).filter_map(Result::err));
    }
    if gathered.errors.is_empty() { Ok(gathered) } else { Err(gathered.errors) }
}

fn fit_media(settings: &Settings) -> Result<(), String> {
    if settings.media_port != 0 && usize::from(settings.media_port) + settings.workers > 65_536 {
        return Err(format!(
            "[media] port {} leaves no room for {} workers, which take consecutive ports; choose a lower one",
            settings.media_port, settings.workers
        ));
    }
    Ok(())
}

fn fit_tls(settings: &Settings) -> Result<(), String> {
    let lacking = match &settings.tls_files {
        [Some(_), None] => "[tls] certificate is set, but [tls] key is not; both name PEM files",
        [None, Some(_)] => "[tls] key is set, but [tls] certificate is not; both name PEM files",
        [None, None] if settings.tls_listen.is_some() && !settings.has_certificate() => {
            "[tls] listen is set, but [tls] certificate is not; name PEM files with it and [tls] key, or names in [tls] acme_domains"
        }
        _ => return Ok(()),
    };
    Err(lacking.to_owned())
}

impl Gathered {
    fn take_file(&mut self, path: &Path) {
        let shown = path.display();
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) => return self.errors.push(format!("cannot read the file {shown} given by --config: {error}")),
        };
        let table = match text.parse::<toml::Table>() {
            Ok(table) => table,
            Err(error) => {
                let line = error.span().map_or(1, |span| text[..span.start.min(text.len())].lines().count().max(1));
                return self.errors.push(format!("{shown}, line {line}, is not TOML: {}", error.message()));
            }
        };
        for (section, keys) in &table {
            let toml::Value::Table(keys) = keys else {
                self.errors.push(unknown(section, &format!("in {shown}"), &keys::names()));
                continue;
            };
            for (name, value) in keys {
                let shown_key = format!("{section}.{name}");
                let Some(key) = find(section, name) else {
                    self.errors.push(unknown(&shown_key, &format!("in {shown}"), &keys::names()));
                    continue;
                };
                match strings(value, key.is_list) {
                    Ok(values) => self.apply(key, &values, &format!("{shown_key} in {shown}")),
                    Err(expected) => self.errors.push(format!("{shown_key} in {shown}: {expected}")),
                }
            }
        }
    }

    fn take_environment(&mut self, environment: &[(String, String)]) {
        for (variable, section, name) in PLAIN {
            let key = find(section, name).expect("PLAIN names only keys of the table");
            for (wanted, is_file) in [((*variable).to_owned(), false), (format!("{variable}_FILE"), true)] {
                if let Some((_, value)) = environment.iter().find(|(k, v)| *k == wanted && !v.is_empty()) {
                    self.take_variable(key, &wanted, value, is_file);
                }
            }
        }
        let given = |name: &str| environment.iter().find(|(k, v)| k == name && !v.is_empty()).map(|(_, v)| v);
        if let Some(value) = given("SIGNALING_PORT") {
            match port(value) {
                Ok(port) => self.settings.http_listen.set_port(port),
                Err(expected) => self.errors.push(format!("SIGNALING_PORT is {value:?}: {expected}")),
            }
            self.origins.insert(("http", "listen"), "SIGNALING_PORT in the environment".to_owned());
        }
        for (variable, value) in environment {
            let Some(rest) = variable.strip_prefix("LYCEUM__") else { continue };
            let rest = rest.to_ascii_lowercase();
            let named = |rest: &str| rest.split_once("__").and_then(|(section, name)| find(section, name));
            match (named(&rest), rest.strip_suffix("_file").and_then(named)) {
                (Some(key), _) => self.take_variable(key, variable, value, false),
                (None, Some(key)) => self.take_variable(key, variable, value, true),
                (None, None) => {
                    let names: Vec<String> = keys::all()
                        .map(|k| format!("LYCEUM__{}__{}", k.section, k.name).to_ascii_uppercase())
                        .collect();
                    self.errors.push(unknown(variable, "in the environment", &names));
                }
            }
        }
        // Added last: it stands beside whatever list there is.
        if let Some(value) = given("NEXTAUTH_URL") {
            match origin(value) {
                Ok(origin) => self.settings.origins.push(origin),
                Err(expected) => self.errors.push(format!("NEXTAUTH_URL is {value:?}: {expected}")),
            }
            let added = "NEXTAUTH_URL in the environment";
            let from = self.origins.entry(("http", "origins")).or_default();
            *from = if from.is_empty() { added.to_owned() } else { format!("{from}, and {added}") };
        }
    }

    fn take_variable(&mut self, key: &'static Key, variable: &str, value: &str, is_file: bool) {
        let value = if is_file {
            match std::fs::read_to_string(value) {
                Ok(text) => text.trim_end().to_owned(),
                Err(error) => {
                    return self.errors.push(format!("cannot read the file {value} given by {variable}: {error}"));
                }
            }
        } else {
            value.to_owned()
        };
        let values: Vec<String> = if key.is_list {
            value.split(',').map(|v| v.trim().to_owned()).filter(|v| !v.is_empty()).collect()
        } else {
            vec![value]
        };
        self.apply(key, &values, &format!("{variable} in the environment"));
    }

    fn take_flags(&mut self, flags: &Flags) {
        let one = |value: &Option<String>| value.iter().cloned().collect::<Vec<_>>();
        let given = [
            ("--listen", "http", "listen", one(&flags.listen)),
            ("--origin", "http", "origins", flags.origins.clone()),
            ("--media-port", "media", "port", one(&flags.media_port)),
            ("--workers", "media", "workers", one(&flags.workers)),
            ("--address", "media", "addresses", flags.addresses.clone()),
            ("--admin-listen", "admin", "listen", one(&flags.admin_listen)),
            ("--log-format", "log", "format", one(&flags.log_format)),
            ("--log-level", "log", "level", one(&flags.log_level)),
        ];
        for (flag, section, name, values) in given {
            if !values.is_empty() {
                self.apply(find(section, name).expect("flags name only keys of the table"), &values, flag);
            }
        }
    }

    fn apply(&mut self, key: &'static Key, values: &[String], origin: &str) {
        let Err(expected) = (key.set)(&mut self.settings, values) else {
            self.origins.insert((key.section, key.name), origin.to_owned());
            return;
        };
        // Neither is a key shown that stands where its file should be named.
        let is_private = key.section == "tls" && values.iter().any(|v| v.contains("-----"));
        self.errors.push(if key.is_secret || is_private {
            format!("{origin}: {expected}")
        } else {
            format!("{origin} is {:?}: {expected}", values.join(","))
        });
    }
}

pub(super) fn strings(value: &toml::Value, list: bool) -> Result<Vec<String>, String> {
    match value {
        toml::Value::String(s) => Ok(vec![s.clone()]),
        toml::Value::Integer(n) => Ok(vec![n.to_string()]),
        toml::Value::Boolean(b) => Ok(vec![b.to_string()]),
        toml::Value::Array(items) if list => {
            items.iter().map(|item| strings(item, false).map(|mut one| one.remove(0))).collect()
        }
        _ if list => Err("expected a list of strings".to_owned()),
        _ => Err("expected one value".to_owned()),
    }
}

fn unknown(given: &str, origin: &str, valid: &[String]) -> String {
    let nearest = valid.iter().min_by_key(|name| distance(given, name)).expect("there are settings");
    format!("unknown setting {given} {origin}; did you mean {nearest}?")
}

/// Edits between two words (Levenshtein); `given` is cut at 64 bytes.
fn distance(given: &str, name: &str) -> usize {
    let given = &given.as_bytes()[..given.len().min(64)];
    let mut row: Vec<usize> = (0..=name.len()).collect();
    for (i, a) in given.iter().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, b) in name.bytes().enumerate() {
            let substituted = diagonal + usize::from(!a.eq_ignore_ascii_case(&b));
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[name.len()]
}
