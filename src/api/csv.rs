//! Attendance as a table that spreadsheets open (RFC 4180).

use std::fmt::Write as _;

use signaling::attendance::Summary;

/// Spreadsheets take a file without it for another character set than UTF-8.
const BYTE_ORDER_MARK: &str = "\u{feff}";
const COLUMNS: &str = "meeting_id,session_id,user_id,user_name,role,first_join_utc,last_leave_utc,connected_minutes,connected_ms,\
    speaking_ms,camera_ms,screen_ms,visits,uncertainty_ms";

/// One line a person.
pub(crate) fn attendance(summary: &Summary) -> String {
    let mut table = format!("{BYTE_ORDER_MARK}{COLUMNS}\r\n");
    for person in &summary.participants {
        let uncertainty_ms = person.visits.iter().map(|visit| visit.uncertainty_ms).max().unwrap_or(0);
        let texts =
            [&*summary.meeting_id, &*summary.session_id, &*person.user_id, &*person.user_name, person.role.as_str()];
        for text in texts {
            table.push_str(&cell(text));
            table.push(',');
        }
        let last_leave = person.last_leave_at.map(utc).unwrap_or_default();
        // Writing to a string does not fail.
        let _ = write!(
            table,
            "{},{last_leave},{:.1},{},{},{},{},{},{uncertainty_ms}\r\n",
            utc(person.first_join_at),
            person.connected_ms as f64 / 60_000.0,
            person.connected_ms,
            person.speaking_ms,
            person.camera_ms,
            person.screen_ms,
            person.visits.len(),
        );
    }
    table
}

/// A text that no spreadsheet takes for a formula: an apostrophe goes before what could begin one.
fn cell(text: &str) -> String {
    let is_formula = text.trim_start().starts_with(['=', '+', '-', '@', '＝', '＋', '－', '＠'])
        || text.starts_with(['\t', '\r', '\n']);
    let safe = if is_formula { format!("'{text}") } else { text.to_owned() };
    if safe.contains(['"', ',', '\r', '\n', ';', '\t']) { format!("\"{}\"", safe.replace('"', "\"\"")) } else { safe }
}

/// `2026-11-21T09:30:00.000Z`, the proleptic Gregorian calendar (Howard Hinnant's `civil_from_days`).
pub(crate) fn utc(unix_ms: u64) -> String {
    let (days, ms) = (unix_ms / 86_400_000, unix_ms % 86_400_000);
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (seconds, ms) = (ms / 1_000, ms % 1_000);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{ms:03}Z",
        seconds / 3_600,
        seconds / 60 % 60,
        seconds % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use signaling::Role;
    use signaling::attendance::Attendee;

    #[test]
    fn times_are_written_as_people_and_programs_read_them() {
        for (unix_ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_709_251_199_999, "2024-02-29T23:59:59.999Z"),
            (1_763_717_400_123, "2025-11-21T09:30:00.123Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(utc(unix_ms), text);
        }
    }

    #[test]
    fn no_name_is_a_formula() {
        for (name, safe) in [
            ("Ada", "Ada"),
            ("=cmd()", "'=cmd()"),
            ("+1", "'+1"),
            ("-1", "'-1"),
            ("@x", "'@x"),
            (" =x", "' =x"),
            ("＝x", "'＝x"),
            ("\t=x", "\"'\t=x\""),
            ("a,b", "\"a,b\""),
            ("say \"hi\"", "\"say \"\"hi\"\"\""),
            ("=HYPERLINK(\"http://x\",\"y\")", "\"'=HYPERLINK(\"\"http://x\"\",\"\"y\"\")\""),
            ("two\r\nlines", "\"two\r\nlines\""),
        ] {
            assert_eq!(cell(name), safe);
        }
    }

    #[test]
    fn a_person_is_a_line() {
        let person = Attendee {
            user_id: "u1".into(),
            user_name: "=cmd()".into(),
            role: Role::Participant,
            first_join_at: 0,
            last_leave_at: Some(90_000),
            connected_ms: 90_000,
            ..Attendee::default()
        };
        let summary = Summary {
            meeting_id: "mtg_1".into(),
            session_id: "algebra".into(),
            participants: vec![person],
            ..Summary::default()
        };
        let table = attendance(&summary);
        let line = table.lines().nth(1).expect("a line");
        assert_eq!(
            line,
            "mtg_1,algebra,u1,'=cmd(),participant,1970-01-01T00:00:00.000Z,1970-01-01T00:01:30.000Z,1.5,90000,0,0,0,0,0"
        );
    }
}
