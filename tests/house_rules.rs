//! The rules of the house that a compiler does not hold: what each crate may stand on, how long a file may be, what
//! may not be in the repository, and that the documents speak of what is there.
#![allow(missing_docs)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Beyond this a file holds more than one thing.
const FILE_LINES_MAX: usize = 1_000;
/// A newcomer reads it in three minutes.
const README_LINES: std::ops::RangeInclusive<usize> = 60..=100;
/// It is read whole, or not at all.
const ARCHITECTURE_LINES_MAX: usize = 250;
/// What must be short enough to be read: sources, not lock files and recorded descriptions.
const SOURCES: [&str; 11] = ["rs", "ts", "tsx", "js", "mjs", "py", "sh", "css", "html", "toml", "md"];

/// The files that may say `unsafe`: a counting allocator cannot be written without.
const UNSAFE: [&str; 2] = ["bench/src/alloc.rs", "sfu/tests/srtp_costs.rs"];
/// The machines: bytes, requests and time in; bytes and facts out.
const PURE: [&str; 3] = ["lyceum-sfu", "lyceum-signaling", "lyceum-turn"];
/// Sockets, clocks and tasks: nothing of it below a pure crate, at any depth.
const SHELL_ONLY: [&str; 10] =
    ["tokio", "mio", "socket2", "async-std", "smol", "async-io", "hyper", "axum", "quinn-udp", "socketioxide"];
/// Cryptography comes from one library; two would double what must be watched.
const FOREIGN_CRYPTOGRAPHY: [&str; 5] = ["ring", "openssl", "openssl-sys", "native-tls", "boring"];
/// Licences under which we may pass a dependency on.
const LICENCES: [&str; 9] = [
    "MIT",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "Zlib",
    "Unicode-3.0",
    "CDLA-Permissive-2.0",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn output(command: &mut Command) -> String {
    let output = command.current_dir(root()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("it writes UTF-8")
}

/// Tracked files that are still there, relative to the root.
fn tracked() -> Vec<PathBuf> {
    // The clone may belong to another user, as in a container.
    let list = output(Command::new("git").args(["-c", "safe.directory=*", "ls-files", "-z"]));
    let files: Vec<PathBuf> =
        list.split_terminator('\0').map(PathBuf::from).filter(|f| root().join(f).is_file()).collect();
    assert!(files.len() > 100, "git knows {} files", files.len());
    files
}

/// The text of a file; `None` for pictures and the like.
fn text(file: &Path) -> Option<String> {
    String::from_utf8(std::fs::read(root().join(file)).expect("a tracked file can be read")).ok()
}

fn extension(file: &Path) -> &str {
    file.extension().and_then(|e| e.to_str()).unwrap_or_default()
}

#[test]
fn files_are_short() {
    for file in tracked().iter().filter(|f| SOURCES.contains(&extension(f))) {
        let lines = text(file).expect("a source is text").lines().count();
        assert!(lines <= FILE_LINES_MAX, "{} has {lines} lines; split it by what it is about", file.display());
    }
}

#[test]
fn unsafe_is_where_it_must_be() {
    // The lint table denies it; so whoever writes it must lift the lint, and that is what is looked for.
    let lifted = concat!("unsafe", "_code");
    for file in tracked().iter().filter(|f| extension(f) == "rs") {
        let may = UNSAFE.contains(&file.to_str().unwrap_or_default());
        assert!(may || !text(file).expect("text").contains(lifted), "{} lifts the lint against unsafe", file.display());
    }
    for manifest in tracked().iter().filter(|f| f.ends_with("Cargo.toml") && f.iter().all(|part| part != "fuzz")) {
        let table: toml::Table = text(manifest).expect("text").parse().expect("a manifest is TOML");
        let follows = table.get("lints").and_then(|l| l.get("workspace")).and_then(toml::Value::as_bool);
        assert_eq!(follows, Some(true), "{} does not follow the one lint table", manifest.display());
    }
}

#[test]
fn nothing_speaks_of_one_machine() {
    let homes = [concat!("/ro", "ot/"), concat!("/ho", "me/"), concat!("/Us", "ers/"), concat!("/wo", "rk/")];
    for file in tracked() {
        let Some(text) = text(&file) else { continue };
        for (number, line) in text.lines().enumerate() {
            let found = homes.iter().find(|home| line.contains(**home));
            assert_eq!(found, None, "{}:{} names a place on somebody's machine", file.display(), number + 1);
        }
    }
}

#[test]
fn documents_have_their_size() {
    let lines = |name: &str| text(Path::new(name)).expect("text").lines().count();
    let readme = lines("README.md");
    assert!(README_LINES.contains(&readme), "README.md has {readme} lines");
    let architecture = lines("ARCHITECTURE.md");
    assert!(architecture <= ARCHITECTURE_LINES_MAX, "ARCHITECTURE.md has {architecture} lines");
}

/// What stands between each pair of `open` and `close`, line by line.
fn between<'t>(text: &'t str, open: &'t str, close: char) -> impl Iterator<Item = &'t str> {
    text.lines()
        .flat_map(move |line| line.split(open).skip(1).filter_map(move |rest| rest.split_once(close)))
        .map(|(inner, _)| inner)
}

#[test]
fn documents_name_what_is_there() {
    for file in tracked().iter().filter(|f| extension(f) == "md") {
        let text = text(file).expect("text");
        let here = file.parent().expect("a file is in a folder");
        for link in between(&text, "](", ')').filter(|link| !link.contains("://") && !link.starts_with('#')) {
            let path = link.split('#').next().unwrap_or_default();
            assert!(root().join(here).join(path).exists(), "{} links to {link}", file.display());
        }
    }
    let map = text(Path::new("ARCHITECTURE.md")).expect("text");
    for name in map.split('`').skip(1).step_by(2).filter(|name| name.ends_with(".rs") && !name.contains(' ')) {
        assert!(root().join(name).is_file(), "ARCHITECTURE.md names {name}");
    }
    let folders = ["src", "sfu/src", "signaling/src"].map(Path::new);
    let modules =
        tracked().into_iter().filter(|f| extension(f) == "rs" && folders.iter().any(|d| f.parent() == Some(d)));
    // A module's tests are found beside it.
    for module in modules.filter(|module| !module.ends_with("tests.rs")) {
        assert!(map.contains(&format!("`{}`", module.display())), "the code map lacks {}", module.display());
    }
}

#[test]
fn the_protocol_page_has_every_code() {
    let page = text(Path::new("docs/protocol.md")).expect("text");
    for code in signaling::ErrorCode::ALL {
        assert!(page.contains(&format!("`{}`", code.as_str())), "docs/protocol.md lacks {}", code.as_str());
    }
}

#[test]
fn the_operations_page_names_metrics_that_there_are() {
    let page = text(Path::new("docs/operations.md")).expect("text");
    let admin = text(Path::new("src/admin.rs")).expect("text");
    let metrics: BTreeSet<&str> = between(&page, "`lyceum_", '`').collect();
    assert!(metrics.len() > 20, "the page names {} metrics", metrics.len());
    for metric in metrics {
        assert!(admin.contains(&format!("\"{metric}\"")), "there is no metric lyceum_{metric}");
    }
}

/// The metrics that a text names after `lyceum_`, without the endings of histograms.
fn metrics_named(text: &str) -> BTreeSet<String> {
    let word = |rest: &str| rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect::<String>();
    let plain = |name: String| {
        let ending = ["_bucket", "_sum", "_count"].into_iter().find_map(|ending| name.strip_suffix(ending));
        ending.map(str::to_owned).unwrap_or(name)
    };
    text.split("lyceum_").skip(1).map(word).map(plain).collect()
}

#[test]
fn alerts_and_dashboard_look_at_metrics_that_there_are() {
    let admin = text(Path::new("src/admin.rs")).expect("text");
    for (file, fewest) in [("deploy/prometheus/alerts.yml", 10), ("deploy/grafana/dashboards/lyceum.json", 30)] {
        let named = metrics_named(&text(Path::new(file)).expect("text"));
        assert!(named.len() >= fewest, "{file} names {named:?}");
        for metric in named {
            assert!(admin.contains(&format!("\"{metric}\"")), "{file}: there is no metric lyceum_{metric}");
        }
    }
    let [alerts, tests] =
        ["alerts.yml", "tests.yml"].map(|name| text(&Path::new("deploy/prometheus").join(name)).expect("text"));
    for alert in alerts.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
        let names = tests.lines().filter(|line| line.trim().strip_prefix("alertname: ") == Some(alert)).count();
        assert!(names >= 3, "deploy/prometheus/tests.yml: {alert} is not tested before, at and without its cause");
    }
    let dashboard: Value =
        serde_json::from_str(&text(Path::new("deploy/grafana/dashboards/lyceum.json")).expect("text")).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let ids: BTreeSet<u64> = panels.iter().filter_map(|panel| panel["id"].as_u64()).collect();
    assert_eq!(ids.len(), panels.len(), "each panel has an id of its own");
}

#[test]
fn who_supervises_waits_longer_than_a_drain() {
    let file = |name: &str| text(Path::new(name)).expect("text");
    let number = |text: &str, after: &str| -> u64 {
        let rest = text.split_once(after).unwrap_or_else(|| panic!("no {after}")).1;
        rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse().expect("a number")
    };
    let default = number(&file("deploy/lyceum.example.toml"), "# drain_s = ");
    assert!(number(&file("deploy/systemd/lyceum.service"), "TimeoutStopSec=") >= default + 5);
    assert!(number(&file("deploy/compose.yaml"), "stop_grace_period: ") >= default + 5);
    let pod = file("deploy/kubernetes/lyceum.yaml");
    let set = number(&pod, "LYCEUM__ADMIN__DRAIN_S, value: \"");
    assert!(number(&pod, "terminationGracePeriodSeconds: ") >= set + 5);
}

/// `tests/newcomer` runs them word by word.
#[test]
fn the_readme_has_the_commands_of_a_newcomer() {
    let shown = output(Command::new("bash").arg("tests/newcomer").env("NEWCOMER_SHOW", "1"));
    let [commands, serve, url] = shown.lines().collect::<Vec<_>>()[..] else { panic!("{shown}") };
    assert!(commands.starts_with("npm --prefix web ci && ") && commands.ends_with(&format!(" && {serve}")), "{shown}");
    assert_eq!((serve, url), ("cargo run --release", "http://localhost:3001"));
}

#[test]
fn the_dockerfile_copies_what_is_there() {
    let dockerfile = text(Path::new("Dockerfile")).expect("text");
    let copies: Vec<&str> =
        dockerfile.lines().filter_map(|l| l.strip_prefix("COPY ")).filter(|l| !l.starts_with("--from")).collect();
    assert!(!copies.is_empty());
    let ignored = text(Path::new(".dockerignore")).expect("text");
    let sent: BTreeSet<&str> = ignored.lines().filter_map(|line| line.strip_prefix('!')).collect();
    for copy in copies {
        let words: Vec<&str> = copy.split_whitespace().filter(|w| !w.starts_with("--")).collect();
        let (_, sources) = words.split_last().expect("COPY has a destination");
        for source in sources {
            assert!(root().join(source).exists(), "Dockerfile copies {source}");
            let top = source.split('/').next().expect("there is one");
            assert!(sent.contains(top), ".dockerignore keeps {top} from the Dockerfile");
        }
    }
}

/// The names of all that a package stands on as it is built: not for tests or builds, and nothing that only an option names
/// which nobody takes (`cargo metadata` would list that too).
fn below(package: &str) -> BTreeSet<String> {
    let arguments = ["tree", "--locked", "--edges=normal", "--prefix=none", "--format={p}", "--package", package];
    let tree = output(Command::new(env!("CARGO")).args(arguments));
    tree.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

/// All packages of this platform with their licences.
fn licences() -> BTreeMap<String, String> {
    let cargo = env!("CARGO");
    let version = output(Command::new(cargo).arg("-vV"));
    let host = version.lines().find_map(|l| l.strip_prefix("host: ")).expect("cargo says its host");
    let text =
        output(Command::new(cargo).args(["metadata", "--format-version=1", "--locked", "--filter-platform", host]));
    let metadata: Value = serde_json::from_str(&text).expect("cargo writes JSON");
    let list = |value: &Value| value.as_array().expect("a list").clone();
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let used: BTreeSet<String> = list(&metadata["resolve"]["nodes"]).iter().map(|node| word(&node["id"])).collect();
    let packages = list(&metadata["packages"]);
    packages.iter().filter(|p| used.contains(&word(&p["id"]))).map(|p| (word(&p["id"]), word(&p["license"]))).collect()
}

#[test]
fn crates_stand_on_what_they_may() {
    for package in PURE {
        let below = below(package);
        let forbidden: Vec<_> = SHELL_ONLY.iter().filter(|name| below.contains(**name)).collect();
        assert!(forbidden.is_empty(), "{package} is pure and stands on {forbidden:?}");
    }
    // Arrows go down only: the shell, signaling, the SFU, TURN.
    for (lower, uppers) in [
        ("lyceum-turn", &["lyceum-sfu", "lyceum-signaling", "lyceum"][..]),
        ("lyceum-sfu", &["lyceum-signaling", "lyceum"]),
        ("lyceum-signaling", &["lyceum"]),
        ("lyceum", &["lyceum-bench"]),
    ] {
        let below = below(lower);
        assert!(uppers.iter().all(|upper| !below.contains(*upper)), "{lower} stands on one of {uppers:?}");
    }
    let below = below("lyceum");
    let foreign: Vec<_> = FOREIGN_CRYPTOGRAPHY.iter().filter(|name| below.contains(**name)).collect();
    assert!(foreign.is_empty(), "the binary contains {foreign:?}");
    assert!(below.contains("aws-lc-rs") && below.contains("tokio"), "the tree is read rightly");
}

#[test]
fn licences_allow_passing_on() {
    let licences = licences();
    assert!(licences.len() > 100, "there are {} packages", licences.len());
    for (package, licence) in &licences {
        assert!(allowed(licence), "{package} is under {licence:?}");
    }
}

/// Whether an SPDX expression can be met by [`LICENCES`]; `/` is an old way to write `OR`.
fn allowed(expression: &str) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut at = 0;
    any_of(&words, &mut at) && at == words.len()
}

fn any_of(words: &[&str], at: &mut usize) -> bool {
    let mut met = all_of(words, at);
    while words.get(*at) == Some(&"OR") {
        *at += 1;
        met |= all_of(words, at);
    }
    met
}

fn all_of(words: &[&str], at: &mut usize) -> bool {
    let mut met = one(words, at);
    while words.get(*at) == Some(&"AND") {
        *at += 1;
        met &= one(words, at);
    }
    met
}

fn one(words: &[&str], at: &mut usize) -> bool {
    let word = words.get(*at);
    *at += 1;
    let Some(word) = word else { return false };
    if *word == "(" {
        let met = any_of(words, at);
        let closed = words.get(*at) == Some(&")");
        *at += 1;
        return met && closed;
    }
    if words.get(*at) == Some(&"WITH") {
        *at += 2;
        return words
            .get(*at - 1)
            .is_some_and(|exception| LICENCES.contains(&format!("{word} WITH {exception}").as_str()));
    }
    LICENCES.contains(word)
}

#[test]
fn licence_expressions_are_understood() {
    for good in [
        "MIT",
        "MIT/Apache-2.0",
        "GPL-3.0 OR MIT",
        "(MIT OR GPL-3.0) AND ISC",
        "Apache-2.0 WITH LLVM-exception OR GPL-2.0",
    ] {
        assert!(allowed(good), "{good}");
    }
    for bad in ["", "GPL-3.0", "MIT AND GPL-3.0", "(MIT", "MIT)", "Apache-2.0 WITH X", "MIT OR"] {
        assert!(!allowed(bad), "{bad}");
    }
}
