//! What holds here and where it came from; and a file to begin with.

use std::fmt::Write as _;

use serde_json::json;

use super::keys::{self, Key};
use super::{Origins, Settings};

/// Where a comment begins behind a value, if the value is shorter.
const COMMENT_COLUMN: usize = 36;
/// Longest line of a comment in the example.
const LINE_CHARS_MAX: usize = 110;

/// All settings as a TOML file that loads as it stands, each with its origin; secrets hidden. With `as_json` a list of objects:
/// `section`, `name`, `value` (`null`: not set), `origin`, `secret`.
pub(crate) fn print(settings: &Settings, origins: &Origins, as_json: bool) -> String {
    let shown = keys::all().map(|key| (key, (key.show)(settings), origins.of(key, settings)));
    if as_json {
        let list: Vec<_> = shown
            .map(|(key, value, origin)| {
                json!({ "section": key.section, "name": key.name, "value": value, "origin": origin, "secret": key.is_secret })
            })
            .collect();
        return format!("{:#}", serde_json::Value::Array(list));
    }
    let mut text = String::new();
    let mut section = "";
    for (key, value, origin) in shown {
        begin(&mut text, &mut section, key);
        let (line, note) = match value {
            None => (format!("# {} is not set", key.name), String::new()),
            Some(_) if key.is_secret => (format!("# {} is set and hidden", key.name), format!("# {origin}")),
            Some(value) => (format!("{} = {value}", key.name), format!("# {origin}")),
        };
        let _ = writeln!(text, "{}", format_args!("{line:<COMMENT_COLUMN$} {note}").to_string().trim_end());
    }
    text.trim_end().to_owned()
}

/// A TOML file with every setting, each commented out: its default, or an example where there is none.
pub(crate) fn example() -> String {
    let mut text = "# Every setting of Lyceum, with its default, or with an example where it has none.\n\
        # In the environment a setting is LYCEUM__SECTION__KEY; a list is separated by commas, and …_FILE names a\n\
        # file that holds the value. `lyceum --config FILE config check` says whether a file is good.\n"
        .to_owned();
    let defaults = Settings::default();
    let mut section = "";
    for key in keys::all() {
        begin(&mut text, &mut section, key);
        for line in wrapped(key.about) {
            let _ = writeln!(text, "# {line}");
        }
        let value = match (key.show)(&defaults) {
            Some(value) if key.example.is_empty() => value.to_string(),
            _ => key.example.to_owned(),
        };
        let _ = writeln!(text, "# {} = {value}", key.name);
    }
    text.trim_end().to_owned()
}

fn begin(text: &mut String, section: &mut &'static str, key: &Key) {
    if *section != key.section {
        *section = key.section;
        let gap = if text.is_empty() { "" } else { "\n" };
        let _ = writeln!(text, "{gap}[{section}]");
    }
}

fn wrapped(about: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in about.split(' ') {
        match lines.last_mut().filter(|line| line.chars().count() + word.chars().count() < LINE_CHARS_MAX) {
            Some(line) => {
                line.push(' ');
                line.push_str(word);
            }
            None => lines.push(word.to_owned()),
        }
    }
    lines
}

impl Origins {
    fn of(&self, key: &Key, settings: &Settings) -> String {
        if let Some(origin) = self.0.get(&(key.section, key.name)) {
            return origin.clone();
        }
        let is_default = (key.show)(settings) == (key.show)(&Settings::default());
        if is_default { "default" } else { "follows from other settings" }.to_owned()
    }
}
