//! `lyceum meetings`: what the database of these settings knows of meetings, for whoever has no page and no API at hand.

use std::fmt::Write as _;

use clap::Args;
use serde_json::json;

use crate::api::csv;
use crate::clock;
use crate::error::Failure;
use crate::store::{Listed, MeetingFilter, PAGE_MAX, Store, StoreError};

/// What there is to say where nobody has met.
pub(super) const NONE: &str = "There are no meetings.";

/// Which of them, and how they are shown.
#[derive(Clone, Debug, Args)]
pub(crate) struct Wanted {
    /// The id of one: who attended it, as a table for spreadsheets. Of one that is on, as things stand.
    meeting: Option<String>,
    /// Only those of this session.
    #[arg(long, conflicts_with = "meeting")]
    session: Option<String>,
    /// At most so many.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=PAGE_MAX as u64))]
    limit: u64,
    /// JSON in place of text, as the API gives it.
    #[arg(long)]
    json: bool,
}

/// The text that is asked for.
///
/// # Errors
/// If the database fails, or knows no such meeting.
pub(super) async fn show(
    store: &Store,
    wanted: &Wanted,
    unreachable: fn(StoreError) -> Failure,
) -> Result<String, Failure> {
    if let Some(id) = &wanted.meeting {
        let summary = store.attendance(id, clock::now().unix_ms).await.map_err(unreachable)?;
        let none =
            || Failure::Broken(format!("there is no meeting {id:?}; `lyceum meetings` lists those that there are"));
        let summary = summary.ok_or_else(none)?;
        return Ok(if wanted.json { format!("{:#}", json!(summary)) } else { csv::attendance(&summary) });
    }
    let filter = MeetingFilter { session: wanted.session.clone(), ..MeetingFilter::default() };
    let limit = usize::try_from(wanted.limit).unwrap_or(PAGE_MAX);
    let page = store.meetings(&filter, None, limit).await.map_err(unreachable)?;
    if wanted.json {
        return Ok(format!("{:#}", json!({ "meetings": page.items, "next": page.next })));
    }
    Ok(table(&page.items, page.next.is_some()))
}

/// A line each. What strangers called their sessions is escaped: it goes to a terminal.
fn table(meetings: &[Listed], are_there_more: bool) -> String {
    if meetings.is_empty() {
        return NONE.to_owned();
    }
    let mut text = format!("{:<24}  {:>7}  {:>6}  {:<36}  session\n", "began", "minutes", "people", "meeting");
    for meeting in meetings {
        let lasted = meeting.ended_at.map(|ended| ended.saturating_sub(meeting.started_at) / 60_000);
        let lasted = lasted.map_or("on".to_owned(), |minutes| minutes.to_string());
        let people = meeting.total_participants.map_or(String::new(), |people| people.to_string());
        let (began, session) = (csv::utc(meeting.started_at), meeting.session_id.escape_debug());
        // Writing to a string does not fail.
        let _ = writeln!(text, "{began}  {lasted:>7}  {people:>6}  {:<36}  {session}", meeting.meeting_id);
    }
    if are_there_more {
        text.push_str("There are more: --limit, --session.\n");
    }
    text.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_meeting_is_a_line_and_no_session_reaches_the_terminal_raw() {
        let over = Listed {
            meeting_id: "mtg_1".into(),
            session_id: "a\u{1b}[2Jb".into(),
            started_at: 90_000,
            ended_at: Some(90_000 + 45 * 60_000 + 59_999),
            peak_participants: Some(3),
            total_participants: Some(4),
        };
        let on = Listed { ended_at: None, peak_participants: None, total_participants: None, ..over.clone() };
        let text = table(&[over, on], true);
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[1], ["1970-01-01T00:01:30.000Z", "45", "4", "mtg_1", "a\\u{1b}[2Jb"]);
        assert_eq!(lines[2], ["1970-01-01T00:01:30.000Z", "on", "mtg_1", "a\\u{1b}[2Jb"]);
        assert_eq!((lines.len(), lines[3][2]), (4, "more:"));
    }
}
