//! Strangers' text on its way into the store. Postgres takes no NUL in text, and no long text in an index; neither may
//! lose an event, so it is made harmless first, on both engines alike.

use serde_json::Value;
use signaling::Fact;

use super::{StoreError, unreadable};

/// Longest text of ours that an index holds, in bytes, several times what the lobby lets through; a longer one is cut. Postgres
/// refuses a row of an index above 2,704 bytes, and ours have up to two texts.
pub(super) const BYTES_MAX: usize = 1_024;
/// What stands for a NUL.
const REPLACEMENT: &str = "\u{fffd}";

/// Without NUL, and no longer than an index can hold.
pub(super) fn clean(text: &str) -> String {
    let mut text = text.replace('\0', REPLACEMENT);
    if text.len() > BYTES_MAX {
        text.truncate(text.floor_char_boundary(BYTES_MAX));
    }
    text
}

/// Without NUL, whatever its length: for columns without an index.
pub(super) fn without_nul(text: &str) -> String {
    text.replace('\0', REPLACEMENT)
}

/// The fact with all its text cleaned, so that its columns and its JSON say the same.
pub(super) fn clean_fact(fact: &Fact) -> Result<Fact, StoreError> {
    let mut value = serde_json::to_value(fact).map_err(|why| unreadable("a fact", &why))?;
    if !clean_value(&mut value, "") {
        return Ok(fact.clone());
    }
    serde_json::from_value(value).map_err(|why| unreadable("a fact", &why))
}

/// Cleans each text in `value`, and says whether any changed. Chat messages keep their length.
pub(super) fn clean_value(value: &mut Value, key: &str) -> bool {
    match value {
        Value::String(text) => {
            let cleaned = if key == "message" { without_nul(text) } else { clean(text) };
            let changed = cleaned != *text;
            *text = cleaned;
            changed
        }
        Value::Array(items) => items.iter_mut().fold(false, |changed, item| clean_value(item, key) | changed),
        Value::Object(fields) => fields.iter_mut().fold(false, |changed, (key, item)| clean_value(item, key) | changed),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

/// The `VALUES` of several rows: `($1, $2), ($3, $4)`. The numbers go on after `first`.
pub(super) fn rows_of(rows: usize, columns: usize, first: usize) -> String {
    let row = |r: usize| {
        let numbers: Vec<String> = (0..columns).map(|c| format!("${}", first + r * columns + c)).collect();
        format!("({})", numbers.join(", "))
    };
    (0..rows).map(row).collect::<Vec<_>>().join(", ")
}
