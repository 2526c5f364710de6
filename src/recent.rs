//! The last warnings and errors of the log, for operators to look at without a shell.

use std::collections::VecDeque;
use std::fmt::{Debug, Write as _};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use crate::clock;

/// Lines that are kept. When full, the oldest goes: the log itself has it.
const LINES_MAX: usize = 200;
/// Bytes of a line; what is longer is cut.
const LINE_BYTES_MAX: usize = 1_024;

/// A line of the log.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Line {
    /// Unix ms.
    at: u64,
    /// `warn` or `error`.
    level: &'static str,
    /// The module.
    target: &'static str,
    /// What, and then the fields as `name=value`.
    text: String,
}

/// Takes them as the log does. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Recent(Arc<Mutex<VecDeque<Line>>>);

impl Recent {
    /// The newest first.
    pub(crate) fn lines(&self) -> Vec<Line> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().rev().cloned().collect()
    }

    fn note(&self, line: Line) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() >= LINES_MAX {
            lines.pop_front();
        }
        lines.push_back(line);
    }
}

impl<S: Subscriber> Layer<S> for Recent {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let level = match *event.metadata().level() {
            Level::ERROR => "error",
            Level::WARN => "warn",
            _ => return,
        };
        let mut words = Words::default();
        event.record(&mut words);
        let mut text = words.message + &words.fields;
        if text.len() > LINE_BYTES_MAX {
            text.truncate(text.floor_char_boundary(LINE_BYTES_MAX));
            text.push('…');
        }
        self.note(Line { at: clock::now().unix_ms, level, target: event.metadata().target(), text });
    }
}

/// What an event says.
#[derive(Default)]
struct Words {
    message: String,
    fields: String,
}

impl Visit for Words {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        // Writing to a string cannot fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    #[test]
    fn the_newest_warnings_and_errors_are_kept() {
        let recent = Recent::default();
        let log = tracing_subscriber::registry().with(recent.clone());
        tracing::subscriber::with_default(log, || {
            tracing::info!("nobody asks for this");
            for n in 0..LINES_MAX {
                tracing::warn!(n, "before");
            }
            tracing::warn!(path = "a b", more = 3, "cannot read");
            tracing::error!("{}", "é".repeat(LINE_BYTES_MAX));
        });
        let lines = recent.lines();
        assert_eq!(lines.len(), LINES_MAX);
        assert_eq!((lines[0].level, lines[1].level), ("error", "warn"));
        assert!(lines[0].text.len() <= LINE_BYTES_MAX + '…'.len_utf8() && lines[0].text.ends_with("é…"));
        assert_eq!(lines[1].text, "cannot read path=a b more=3");
        assert_eq!(lines[1].target, module_path!());
        assert_eq!(lines[LINES_MAX - 1].text, "before n=2", "the oldest went");
    }
}
