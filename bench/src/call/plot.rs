//! Lines over time as inline SVG. Colours come from the page's custom properties, so that dark and light are the page's matter.

use std::fmt::Write as _;

use super::assertion::escape;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 220.0;
const LEFT: f64 = 56.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 28.0;
/// Points drawn of each line; of more, each stands for the largest of those that it replaces.
const POINTS_MAX: usize = 600;
/// Lines of one plot have so many colours.
pub const COLOURS: usize = 4;

/// One line.
pub struct Line {
    /// What it shows.
    pub name: &'static str,
    /// Time in s and value, in order of time; what was not measured is left out.
    pub points: Vec<(f64, f64)>,
}

/// A plot.
pub struct Plot<'a> {
    /// What it shows.
    pub title: &'a str,
    /// What values are counted in.
    pub unit: &'a str,
    /// Its lines, at most [`COLOURS`]; further ones are left out.
    pub lines: Vec<Line>,
    /// When what is measured began, s.
    pub measured_from: Option<f64>,
}

impl Plot<'_> {
    /// A figure with legend and title; empty when there is nothing to show.
    pub fn svg(&self) -> String {
        let lines: Vec<&Line> = self.lines.iter().filter(|line| !line.points.is_empty()).take(COLOURS).collect();
        let points = || lines.iter().flat_map(|line| &line.points);
        let Some(end) = points().map(|(at, _)| *at).max_by(f64::total_cmp) else { return String::new() };
        let (step, top) = scale(points().map(|(_, value)| *value).fold(0.0, f64::max));
        let (step_s, _) = scale(end);
        let x = |at: f64| LEFT + (WIDTH - LEFT - RIGHT) * at / end.max(1e-9);
        let y = |value: f64| HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value / top).clamp(0.0, 1.0);
        let mut out = format!("<figure><figcaption>{}", escape(self.title));
        for (number, line) in lines.iter().enumerate() {
            let _ = write!(out, " <span class=\"key c{number}\">{}</span>", escape(line.name));
        }
        let _ = write!(
            out,
            "</figcaption><svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">",
            escape(self.title)
        );
        if let Some(from) = self.measured_from.filter(|from| *from > 0.0) {
            let (begin, width) = (x(0.0), x(from.min(end)) - x(0.0));
            let _ = write!(
                out,
                "<rect class=\"before\" x=\"{begin:.1}\" y=\"{TOP}\" width=\"{width:.1}\" height=\"{}\"/>",
                HEIGHT - TOP - BOTTOM
            );
        }
        for tick in 0..=(top / step).round() as usize {
            let value = step * tick as f64;
            let (y, right) = (y(value), WIDTH - RIGHT);
            let _ = write!(out, "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>");
            let _ = write!(
                out,
                "<text class=\"y\" x=\"{}\" y=\"{:.1}\">{}{}</text>",
                LEFT - 6.0,
                y + 4.0,
                number(value, step),
                if tick == 0 { "" } else { self.unit }
            );
        }
        for tick in 0..=(end / step_s) as usize {
            let at = step_s * tick as f64;
            let _ = write!(
                out,
                "<text class=\"x\" x=\"{:.1}\" y=\"{}\">{} s</text>",
                x(at),
                HEIGHT - 8.0,
                number(at, step_s)
            );
        }
        for (number, line) in lines.iter().enumerate() {
            let drawn = thinned(&line.points).map(|(at, value)| format!("{:.1},{:.1}", x(at), y(value)));
            let drawn: Vec<String> = drawn.collect();
            let _ = write!(out, "<polyline class=\"c{number}\" points=\"{}\"/>", drawn.join(" "));
            if let [only] = &*drawn {
                let (x, y) = only.split_once(',').unwrap_or_default();
                let _ = write!(out, "<circle class=\"c{number}\" cx=\"{x}\" cy=\"{y}\" r=\"3\"/>");
            }
        }
        out + "</svg></figure>\n"
    }
}

/// A round step that divides the axis into two to five parts, and where the axis ends.
fn scale(largest: f64) -> (f64, f64) {
    let largest = if largest.is_finite() && largest > 0.0 { largest } else { 1.0 };
    let power = 10_f64.powf((largest / 5.0).log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|factor| factor * power).find(|step| largest / step <= 5.0);
    let step = step.unwrap_or(10.0 * power);
    (step, step * (largest / step).ceil())
}

/// A number with as many decimals as steps of this size need.
fn number(value: f64, step: f64) -> String {
    let decimals = (-step.log10().floor()).clamp(0.0, 6.0) as usize;
    format!("{value:.decimals$}")
}

fn thinned(points: &[(f64, f64)]) -> impl Iterator<Item = (f64, f64)> + '_ {
    let size = points.len().div_ceil(POINTS_MAX).max(1);
    points.chunks(size).filter_map(|chunk| {
        let finite = chunk.iter().copied().filter(|(_, value)| value.is_finite());
        finite.max_by(|a, b| a.1.total_cmp(&b.1))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_end_at_round_numbers() {
        for (largest, expected) in
            [(0.0, (0.2, 1.0)), (7.3, (2.0, 8.0)), (100.0, (20.0, 100.0)), (1_234.0, (500.0, 1_500.0))]
        {
            let (step, top) = scale(largest);
            assert!((step - expected.0).abs() < 1e-9 && (top - expected.1).abs() < 1e-9, "{largest}: {step} {top}");
        }
        assert_eq!((number(0.4, 0.2), number(1_500.0, 500.0)), ("0.4".to_owned(), "1500".to_owned()));
    }

    #[test]
    fn a_plot_shows_what_there_is_and_escapes_names() {
        let line = |name, points: &[(f64, f64)]| Line { name, points: points.to_vec() };
        let many: Vec<(f64, f64)> = (0..5_000).map(|at| (f64::from(at), f64::from(at % 7))).collect();
        let plot = |lines| Plot { title: "a < b", unit: " ms", lines, measured_from: Some(2.0) }.svg();
        assert_eq!(plot(vec![line("nothing", &[])]), "");
        let svg = plot(vec![line("p50", &[(1.0, 3.0), (2.0, f64::NAN)]), line("p95", &many)]);
        assert!(
            svg.contains("a &lt; b") && svg.contains("class=\"key c1\"") && svg.contains("class=\"before\""),
            "{svg}"
        );
        assert!(!svg.contains("NaN"), "{svg}");
        assert!(svg.len() < 40_000, "{} bytes", svg.len());
    }
}
