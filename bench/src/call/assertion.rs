//! `--assert 'join_p95<2s,loss<0.5%,freeze<1%'`: what must hold of a run, so that a script or a pipeline can rely on its exit code.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use super::report::Report;
use super::words::split_unit;

/// Assertions of one command. More is refused.
pub const ASSERTIONS_MAX: usize = 100;

/// What a figure is counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    Ms,
    Percent,
    Count,
}

impl Unit {
    /// What one of `word` is in this unit; a time needs its unit, a percentage may leave out its sign.
    fn factor(self, word: &str) -> Option<f64> {
        Some(match (self, word) {
            (Unit::Ms, "us" | "µs") => 1e-3,
            (Unit::Ms, "ms") | (Unit::Percent, "%" | "") | (Unit::Count, "") => 1.0,
            (Unit::Ms, "s") => 1e3,
            (Unit::Ms, "m") => 60e3,
            _ => return None,
        })
    }

    fn name(self) -> &'static str {
        match self {
            Unit::Ms => " ms",
            Unit::Percent => " %",
            Unit::Count => "",
        }
    }

    fn expected(self) -> &'static str {
        match self {
            Unit::Ms => "a time such as 500ms or 2s",
            Unit::Percent => "a percentage such as 0.5%",
            Unit::Count => "a number",
        }
    }
}

type Figure = (&'static str, Unit, fn(&Report) -> Option<f64>);

/// All figures, by name.
const FIGURES: &[Figure] = &[
    ("join_p50", Unit::Ms, |it| it.join_ms.dtls.p50),
    ("join_p95", Unit::Ms, |it| it.join_ms.dtls.p95),
    ("join_p99", Unit::Ms, |it| it.join_ms.dtls.p99),
    ("join_max", Unit::Ms, |it| it.join_ms.dtls.max),
    ("socket_p95", Unit::Ms, |it| it.join_ms.socket.p95),
    ("ack_p95", Unit::Ms, |it| it.join_ms.ack.p95),
    ("ice_p95", Unit::Ms, |it| it.join_ms.ice.p95),
    ("first_audio_p95", Unit::Ms, |it| it.join_ms.first_audio.p95),
    ("first_frame_p95", Unit::Ms, |it| it.join_ms.first_frame.p95),
    ("joined", Unit::Percent, |it| Some(100.0 * it.media.joined as f64 / it.people.max(1) as f64)),
    ("loss", Unit::Percent, |it| Some(it.media.loss_percent)),
    ("unrepaired", Unit::Percent, |it| Some(it.media.unrepaired_percent)),
    ("uplink_loss", Unit::Percent, |it| Some(it.media.uplink_loss_percent)),
    ("delay_p50", Unit::Ms, |it| it.media.delay_ms.p50),
    ("delay_p95", Unit::Ms, |it| it.media.delay_ms.p95),
    ("delay_p99", Unit::Ms, |it| it.media.delay_ms.p99),
    ("freeze", Unit::Percent, |it| it.media.freeze_percent),
    ("paused", Unit::Percent, |it| it.media.paused_percent),
    ("freezes", Unit::Count, |it| Some(it.media.freezes as f64)),
    ("received", Unit::Count, |it| Some(it.media.received as f64)),
    ("streams_missing", Unit::Count, |it| Some(it.streams_missing as f64)),
    ("failures", Unit::Count, |it| Some(it.failures.len() as f64)),
    ("reconnect_p95", Unit::Ms, |it| it.reconnect_ms.p95),
    ("switch_p95", Unit::Ms, |it| it.switch_ms.p95),
    ("tester_late_p99", Unit::Ms, |it| it.tester.late_ms_p99),
    ("tester_limits", Unit::Count, |it| Some(it.tester.limits.len() as f64)),
    ("server_cpu_us_per_packet", Unit::Count, |it| it.server.as_ref()?.cpu_us_per_packet),
    ("attendance_faults", Unit::Count, |it| Some(it.attendance.as_ref()?.faults.len() as f64)),
    ("attendance_error_max", Unit::Ms, |it| it.attendance.as_ref()?.error_ms.max),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Relation {
    Below,
    AtMost,
    Above,
    AtLeast,
    Equal,
}

/// In the order in which they are looked for: the longer first.
const RELATIONS: [(&str, Relation); 5] = [
    ("<=", Relation::AtMost),
    (">=", Relation::AtLeast),
    ("<", Relation::Below),
    (">", Relation::Above),
    ("=", Relation::Equal),
];

impl Relation {
    fn holds(self, found: f64, limit: f64) -> bool {
        match self {
            Relation::Below => found < limit,
            Relation::AtMost => found <= limit,
            Relation::Above => found > limit,
            Relation::AtLeast => found >= limit,
            Relation::Equal => found == limit,
        }
    }
}

/// One figure and what it must be.
#[derive(Clone, Copy, Debug)]
pub struct Assertion {
    figure: &'static Figure,
    relation: Relation,
    limit: f64,
}

/// An assertion held against a run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Checked {
    /// As it was asked.
    pub assertion: String,
    /// What was found; `None` if it was not measured, which fails.
    pub found: Option<f64>,
    /// Whether it holds.
    pub passed: bool,
    /// The sentence that says so.
    pub says: String,
}

impl FromStr for Assertion {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = RELATIONS.iter().find_map(|(sign, relation)| Some((text.split_once(sign)?, *relation)));
        let ((name, limit), relation) =
            found.ok_or_else(|| format!("expected an assertion such as join_p95<2s, not {text:?}"))?;
        let name = name.trim();
        let figure = FIGURES.iter().find(|(known, ..)| *known == name).ok_or_else(|| {
            let known: Vec<&str> = FIGURES.iter().map(|(known, ..)| *known).collect();
            format!("no figure is called {name:?}; there are {}", known.join(", "))
        })?;
        let (number, unit) = split_unit(limit);
        let limit = number.parse::<f64>().ok().zip(figure.1.factor(unit)).map(|(number, factor)| number * factor);
        let limit = limit.filter(|limit| limit.is_finite());
        let limit = limit.ok_or_else(|| format!("{name} is compared with {}, not {:?}", figure.1.expected(), text))?;
        Ok(Assertion { figure, relation, limit })
    }
}

/// Reads a list, separated by commas.
///
/// # Errors
/// A sentence that says what is wrong with the first that is.
pub fn parse(text: &str) -> Result<Vec<Assertion>, String> {
    let list: Vec<&str> = text.split(',').map(str::trim).filter(|it| !it.is_empty()).collect();
    if list.len() > ASSERTIONS_MAX {
        return Err(format!("at most {ASSERTIONS_MAX} assertions are taken"));
    }
    list.into_iter().map(str::parse).collect()
}

impl Assertion {
    /// Holds itself against a run.
    pub fn check(&self, report: &Report) -> Checked {
        let (name, unit, figure) = self.figure;
        let (relation, unit) = (self.relation, unit.name());
        let sign = RELATIONS.iter().find(|(_, it)| *it == relation).map_or("", |(sign, _)| sign);
        let assertion = format!("{name}{sign}{}{unit}", self.limit);
        let found = figure(report).filter(|found| found.is_finite());
        let passed = found.is_some_and(|found| relation.holds(found, self.limit));
        let says = match found {
            None => format!("assertion {assertion} FAILED: {name} was not measured"),
            Some(found) if passed => format!("assertion {assertion} holds: {found:.3}{unit}"),
            Some(found) => {
                let off = (found - self.limit).abs();
                format!("assertion {assertion} FAILED: {name} is {found:.3}{unit}, off by {off:.3}{unit}")
            }
        };
        Checked { assertion, found, passed, says }
    }
}

impl fmt::Display for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.says)
    }
}

/// The run as a JUnit file: one case for each assertion, and one for the run itself.
pub fn junit(report: &Report) -> String {
    let mut cases = vec![("run".to_owned(), report.failures.join("\n"))];
    if let Some(verdict) = &report.attendance {
        cases.push(("attendance".to_owned(), verdict.faults.join("\n")));
    }
    let checked = report.assertions.iter();
    cases.extend(checked.map(|it| (it.assertion.clone(), if it.passed { String::new() } else { it.says.clone() })));
    let failures = cases.iter().filter(|(_, failure)| !failure.is_empty()).count();
    let case = |(name, failure): &(String, String)| {
        let name = escape(name);
        match failure.is_empty() {
            true => format!("  <testcase classname=\"lyceum-bench.call\" name=\"{name}\"/>\n"),
            false => format!(
                "  <testcase classname=\"lyceum-bench.call\" name=\"{name}\">\n    <failure message=\"{}\"/>\n  </testcase>\n",
                escape(failure)
            ),
        }
    };
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuite name=\"lyceum-bench call\" tests=\"{}\" failures=\"{failures}\" time=\"{:.3}\">\n{}</testsuite>\n",
        cases.len(),
        report.duration_s,
        cases.iter().map(case).collect::<String>()
    )
}

/// Text within an attribute of XML or HTML. Control characters, which XML forbids, become blanks.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' => out.push_str("&#10;"),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::report::{Media, Spread};
    use super::*;
    use proptest::prelude::*;

    fn report() -> Report {
        let mut report = Report {
            people: 4,
            media: Media { joined: 4, loss_percent: 1.02, ..Default::default() },
            ..Default::default()
        };
        report.join_ms.dtls = Spread::of([500.0, 600.0].into_iter());
        report
    }

    #[test]
    fn assertions_hold_or_say_by_how_much_they_fail() {
        let check = |text: &str| {
            let assertions = parse(text).expect("they are right");
            assertions.iter().map(|it| it.check(&report())).collect::<Vec<_>>()
        };
        assert!(check("join_p95<2s, joined=100%, loss<1.5,join_max<=600ms,failures=0").iter().all(|it| it.passed));
        let failed = check("loss<0.5%").remove(0);
        assert!(!failed.passed);
        assert_eq!(failed.says, "assertion loss<0.5 % FAILED: loss is 1.020 %, off by 0.520 %");
        assert!(check("freeze<1%")[0].says.contains("was not measured"));
    }

    #[test]
    fn what_is_no_assertion_is_refused_and_the_names_are_told() {
        for wrong in ["loss", "loss<", "loss<5s", "join_p95<2", "join_p95<fast", "loss<nan%", "loss<<1%", "<1"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        let error = parse("lose<1%").expect_err("nothing is called that");
        assert!(error.contains("\"lose\"") && error.contains("join_p95, ") && error.contains("loss, "), "{error}");
        assert!(parse(&"loss<1%,".repeat(ASSERTIONS_MAX + 1)).is_err());
        assert_eq!(parse(" , ").map(|list| list.len()), Ok(0));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,40}", name in "[a-z_0-9]{0,12}", rest in "[<>=]{0,2}[-0-9.e%a-zµ ]{0,9}") {
            let _ = parse(&text);
            let _ = parse(&format!("{name}{rest}"));
        }
    }

    #[test]
    fn junit_names_what_failed() {
        let mut report = report();
        report.assertions = parse("loss<0.5%,joined=100%").expect("right").iter().map(|it| it.check(&report)).collect();
        report.failures = vec!["bench-1: \"odd\" <failure>".to_owned()];
        let xml = junit(&report);
        assert!(xml.contains("tests=\"3\" failures=\"2\""), "{xml}");
        assert!(xml.contains("&quot;odd&quot; &lt;failure&gt;") && xml.contains("off by 0.520 %"), "{xml}");
    }
}
