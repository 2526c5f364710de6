//! `--report FILE.html`: one page with everything in it, readable in light and dark, that loads nothing from anywhere.

use std::fmt::Write as _;

use super::assertion::escape;
use super::plot::{Line, Plot};
use super::report::{Media, Report, Spread};
use super::seconds::Second;

/// Rooms in the table; JSON has all.
const ROOMS_SHOWN: usize = 100;

const STYLE: &str = "
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #59636e; --paper: #fff; --card: #f6f8fa; --edge: #d1d9e0; --before: #59636e22;
  --good: #1a7f37; --bad: #cf222e; --c0: #0969da; --c1: #bc4c00; --c2: #8250df; --c3: #1a7f37 }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --soft: #9198a1; --paper: #0d1117; --card: #151b23; --edge: #3d444d;
  --before: #9198a122; --good: #3fb950; --bad: #f85149; --c0: #4493f8; --c1: #f0883e; --c2: #ab7df8; --c3: #3fb950 } }
* { box-sizing: border-box }
body { margin: 0 auto; padding: 24px; max-width: 1180px; background: var(--paper); color: var(--ink); font: 15px/1.45 system-ui, sans-serif }
h1 { font-size: 22px; margin: 0 0 4px } h2 { font-size: 17px; margin: 28px 0 10px } p { margin: 4px 0; color: var(--soft) }
.verdict { font-weight: 600 } .good { color: var(--good) } .bad { color: var(--bad) }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 10px; margin: 16px 0 }
.card { background: var(--card); border: 1px solid var(--edge); border-radius: 8px; padding: 10px 12px }
.card b { display: block; font-size: 20px; font-variant-numeric: tabular-nums } .card span { color: var(--soft); font-size: 13px }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(480px, 100%), 1fr)); gap: 14px }
figure { margin: 0; background: var(--card); border: 1px solid var(--edge); border-radius: 8px; padding: 10px 12px }
figcaption { font-weight: 600; margin-bottom: 6px } .key { font-weight: 400; font-size: 13px; margin-left: 10px }
.key::before { content: ''; display: inline-block; width: 14px; height: 3px; border-radius: 2px; margin-right: 5px; vertical-align: middle; background: currentColor }
.key.c0 { color: var(--c0) } .key.c1 { color: var(--c1) } .key.c2 { color: var(--c2) } .key.c3 { color: var(--c3) }
svg { display: block; width: 100%; height: auto } svg text { fill: var(--soft); font-size: 12px } .y { text-anchor: end } .x { text-anchor: middle }
.grid { stroke: var(--edge); stroke-width: 1 } .before { fill: var(--before) }
polyline { fill: none; stroke-width: 2; stroke-linejoin: round } polyline.c0 { stroke: var(--c0) } polyline.c1 { stroke: var(--c1) }
polyline.c2 { stroke: var(--c2) } polyline.c3 { stroke: var(--c3) } circle.c0 { fill: var(--c0) } circle.c1 { fill: var(--c1) }
circle.c2 { fill: var(--c2) } circle.c3 { fill: var(--c3) }
.wide { overflow-x: auto } table { border-collapse: collapse; font-variant-numeric: tabular-nums; min-width: 60% }
th, td { text-align: right; padding: 5px 12px; border-bottom: 1px solid var(--edge); white-space: nowrap } th { color: var(--soft); font-weight: 500 }
th:first-child, td:first-child { text-align: left } li { margin: 3px 0; overflow-wrap: anywhere } ul { padding-left: 20px }
";

/// The page of a run.
pub fn page(report: &Report, title: &str) -> String {
    let passed = report.passed();
    let (class, word) = if passed { ("good", "passed") } else { ("bad", "FAILED") };
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>{title}</title><style>{STYLE}</style></head><body>\n<h1>{title} <span class=\"verdict {class}\">{word}</span></h1>\n\
         <p>people: {}, rooms: {}, {:.0} s of media, seed {}</p>\n",
        report.people,
        report.rooms,
        report.duration_s,
        report.seed,
        title = escape(title),
    );
    cards(report, &mut out);
    says(report, &mut out);
    out.push_str("<h2>Over time</h2><p>Shaded: before all had joined.</p><div class=\"plots\">\n");
    plots(report).iter().for_each(|plot| out.push_str(&plot.svg()));
    out.push_str("</div>\n");
    joins(report, &mut out);
    rooms(report, &mut out);
    out + "</body></html>\n"
}

fn value(value: Option<f64>, unit: &str) -> String {
    value.map_or("–".to_owned(), |value| match value {
        v if v >= 100.0 => format!("{v:.0}{unit}"),
        v if v >= 10.0 => format!("{v:.1}{unit}"),
        v => format!("{v:.2}{unit}"),
    })
}

fn cards(report: &Report, out: &mut String) {
    let Report { media, join_ms, tester, .. } = report;
    let server = report.server.as_ref();
    let mut cards = vec![
        (format!("{} of {}", media.joined, report.people), "joined"),
        (value(join_ms.dtls.p95, " ms"), "join time, p95"),
        (value(join_ms.first_frame.p95, " ms"), "first picture, p95"),
        (value(Some(media.loss_percent), " %"), "loss on the way down"),
        (value(Some(media.unrepaired_percent), " %"), "never came"),
        (value(media.delay_ms.p50, " ms"), "one-way delay, p50"),
        (value(media.delay_ms.p99, " ms"), "one-way delay, p99"),
        (value(media.freeze_percent, " %"), "of the time frozen"),
        (value(media.paused_percent, " %"), "paused for want of bandwidth"),
    ];
    cards.extend(server.map(|it| (value(it.cpu_us_per_packet, " µs"), "server CPU a packet")));
    cards.push((value(tester.late_ms_p99, " ms"), "the tester's own lateness, p99"));
    out.push_str("<div class=\"cards\">");
    for (figure, name) in cards {
        let _ = write!(out, "<div class=\"card\"><b>{figure}</b><span>{name}</span></div>");
    }
    out.push_str("</div>\n");
}

/// Assertions, failures, attendance, and whether the tester kept up: in sentences.
fn says(report: &Report, out: &mut String) {
    let mut lines: Vec<(bool, String)> = report.assertions.iter().map(|it| (it.passed, it.says.clone())).collect();
    lines.extend(report.tester.limits.iter().map(|limit| (false, format!("the tester was the bottleneck: {limit}"))));
    if let Some(verdict) = &report.attendance {
        let off = value(verdict.error_ms.max, " ms");
        let says = format!(
            "attendance: {} stays in {} meetings and {} webhooks held against the truth, off by {off} at most, {} faults",
            verdict.stays,
            verdict.meetings,
            verdict.webhooks,
            verdict.faults.len()
        );
        lines.push((verdict.passed(), says));
        lines.extend(verdict.faults.iter().map(|fault| (false, fault.clone())));
    }
    lines.extend(report.failures.iter().map(|failure| (false, failure.clone())));
    if lines.is_empty() {
        return;
    }
    out.push_str("<h2>Verdict</h2><ul>");
    for (good, line) in lines {
        let _ = write!(out, "<li class=\"{}\">{}</li>", if good { "good" } else { "bad" }, escape(&line));
    }
    out.push_str("</ul>\n");
}

fn plots(report: &Report) -> Vec<Plot<'static>> {
    let measured_from = report.seconds.iter().find(|second| second.measured).map(|second| second.at_s - 1.0);
    let line = |name, of: fn(&Second) -> Option<f64>| Line {
        name,
        points: report.seconds.iter().filter_map(|second| Some((second.at_s, of(second)?))).collect(),
    };
    let plot = |title, unit, lines| Plot { title, unit, lines, measured_from };
    let mut plots = vec![
        plot("People", "", vec![line("joined", |it| Some(it.joined as f64))]),
        plot(
            "Packets a second",
            "",
            vec![line("published", |it| Some(it.sent as f64)), line("received", |it| Some(it.received as f64))],
        ),
        plot(
            "One-way delay",
            " ms",
            vec![
                line("p50", |it| it.delay_ms_p50),
                line("p95", |it| it.delay_ms_p95),
                line("p99", |it| it.delay_ms_p99),
            ],
        ),
        plot(
            "Loss and freezes",
            " %",
            vec![line("lost", |it| Some(it.loss_percent)), line("frozen", |it| Some(it.freeze_percent))],
        ),
        plot(
            "Pictures shown by layer",
            "",
            vec![
                line("smallest", |it| Some(it.layers[0] as f64)),
                line("middle", |it| (it.layers[1] > 0).then_some(it.layers[1] as f64)),
                line("largest", |it| (it.layers[2] > 0).then_some(it.layers[2] as f64)),
            ],
        ),
        plot("Cores", "", vec![line("tester", |it| Some(it.tester_cores)), line("server", |it| it.server_cores)]),
    ];
    if report.seconds.iter().any(|second| second.server_bytes.is_some()) {
        plots.push(plot("Server memory", " MB", vec![line("resident", |it| it.server_bytes.map(|bytes| bytes / 1e6))]));
    }
    plots.push(plot("How late the tester sent, p99", " ms", vec![line("late", |it| it.tester_late_ms)]));
    plots
}

fn row(name: &str, cells: &[String], out: &mut String) {
    let cells: String = cells.iter().map(|cell| format!("<td>{cell}</td>")).collect();
    let _ = writeln!(out, "<tr><td>{name}</td>{cells}</tr>");
}

fn joins(report: &Report, out: &mut String) {
    let Report { join_ms, .. } = report;
    out.push_str("<h2>Joins</h2><div class=\"wide\"><table><tr><th>ms since the join began</th><th>p50</th><th>p95</th><th>p99</th><th>max</th></tr>\n");
    for (name, Spread { p50, p95, p99, max, .. }) in [
        ("socket", join_ms.socket),
        ("join acknowledged", join_ms.ack),
        ("ICE", join_ms.ice),
        ("DTLS: joined", join_ms.dtls),
        ("first audio, since there was any", join_ms.first_audio),
        ("first picture, since there was any", join_ms.first_frame),
        ("back after a cut connection", report.reconnect_ms),
        ("from blocked UDP to TCP", report.switch_ms),
    ] {
        if p50.is_some() {
            row(name, &[p50, p95, p99, max].map(|it| value(it, "")), out);
        }
    }
    out.push_str("</table></div>\n");
}

fn rooms(report: &Report, out: &mut String) {
    out.push_str("<h2>Rooms</h2><div class=\"wide\"><table><tr><th>room</th><th>joined</th><th>received</th><th>lost %</th><th>never came %</th><th>delay p50 ms</th><th>p95</th><th>p99</th><th>frozen %</th><th>freezes</th></tr>\n");
    for (number, room) in report.by_room.iter().enumerate().take(ROOMS_SHOWN) {
        let Media { joined, received, loss_percent, unrepaired_percent, delay_ms, freeze_percent, freezes, .. } = room;
        let cells = [
            joined.to_string(),
            received.to_string(),
            format!("{loss_percent:.3}"),
            format!("{unrepaired_percent:.3}"),
            value(delay_ms.p50, ""),
            value(delay_ms.p95, ""),
            value(delay_ms.p99, ""),
            value(*freeze_percent, ""),
            freezes.to_string(),
        ];
        row(&number.to_string(), &cells, out);
    }
    out.push_str("</table></div>\n");
    if report.by_room.len() > ROOMS_SHOWN {
        let _ = writeln!(out, "<p>… and {} more; the JSON has all.</p>", report.by_room.len() - ROOMS_SHOWN);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_holds_everything_and_loads_nothing() {
        let second = |at: u32| Second {
            at_s: f64::from(at),
            measured: at > 2,
            joined: 6,
            received: 500,
            delay_ms_p95: Some(3.0),
            server_bytes: Some(5e7),
            ..Second::default()
        };
        let report = Report {
            people: 6,
            rooms: 2,
            seconds: (1..9).map(second).collect(),
            by_room: vec![Media::default(); ROOMS_SHOWN + 5],
            failures: vec!["<script>alert(1)</script>".to_owned()],
            ..Report::default()
        };
        let page = page(&report, "a \"run\"");
        for part in [
            "FAILED",
            "Server memory",
            "One-way delay",
            "a &quot;run&quot;",
            "&lt;script&gt;",
            "and 5 more",
            "prefers-color-scheme",
        ] {
            assert!(page.contains(part), "{part}");
        }
        for foreign in ["<script", "http://", "https://", "src=", "url("] {
            assert!(!page.contains(foreign), "{foreign}");
        }
        let count = |part: &str| page.matches(part).count();
        assert_eq!((count("<svg"), count("<figure")), (count("</svg>"), count("</figure>")));
    }
}
