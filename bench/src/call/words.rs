//! Small words of the command line: times, shares, rates.

use std::time::Duration;

/// Reads `500ms`, `30s`, `2m`, `1h`; a bare number is seconds.
///
/// # Errors
/// A sentence that says what is expected.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split_unit(text);
    let number: f64 =
        number.parse().map_err(|_| format!("expected a duration such as 30s, 500ms or 2m, not {text:?}"))?;
    let seconds = match unit {
        "us" | "µs" => number / 1e6,
        "ms" => number / 1e3,
        "" | "s" => number,
        "m" => number * 60.0,
        "h" => number * 3_600.0,
        _ => return Err(format!("the units are ms, s, m and h, not {unit:?}")),
    };
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

/// Reads `1%` or `0.5%` as a part of one.
///
/// # Errors
/// A sentence that says what is expected.
pub fn parse_percent(text: &str) -> Result<f64, String> {
    let number = text.trim().strip_suffix('%').and_then(|number| number.trim().parse::<f64>().ok());
    let part = number.map(|number| number / 100.0).filter(|part| (0.0..=1.0).contains(part));
    part.ok_or_else(|| format!("expected a share between 0% and 100%, not {text:?}"))
}

/// Reads `500k`, `2M` or a bare number of bits a second.
///
/// # Errors
/// A sentence that says what is expected.
pub fn parse_rate(text: &str) -> Result<u64, String> {
    let (number, unit) = split_unit(text);
    let factor = match unit {
        "" => Some(1.0),
        "k" | "kbps" => Some(1e3),
        "M" | "Mbps" => Some(1e6),
        _ => None,
    };
    let rate = number.parse::<f64>().ok().zip(factor).map(|(number, factor)| number * factor);
    let rate = rate.filter(|rate| (1_000.0..=1e11).contains(rate));
    rate.map(|rate| rate as u64).ok_or_else(|| format!("expected bits a second such as 500k or 2M, not {text:?}"))
}

/// A number and the letters behind it.
pub(crate) fn split_unit(text: &str) -> (&str, &str) {
    let text = text.trim();
    let at = text.trim_end_matches(|c: char| c.is_alphabetic() || c == '%').len();
    let (number, unit) = text.split_at(at);
    (number.trim(), unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_or_refused() {
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(parse_duration("1.5"), Ok(Duration::from_millis(1_500)));
        assert_eq!(
            (parse_percent("0.5%"), parse_rate("500k"), parse_rate("2M")),
            (Ok(0.005), Ok(500_000), Ok(2_000_000))
        );
        for wrong in ["", "s", "-1s", "3y", "1e400s", "nans"] {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
        }
        assert!(parse_percent("5").is_err() && parse_percent("101%").is_err() && parse_percent("nan%").is_err());
        assert!(parse_rate("12").is_err() && parse_rate("5 apples").is_err());
    }
}
