//! `[log] otlp`: where traces go, and what the collector there wants to be shown.

use axum::http::{HeaderName, HeaderValue};

use super::keys::{Key, hidden};
use super::{Secret, put};
use crate::outbound;

/// Headers for the collector; more are refused. Hosted ones want one or two.
const HEADERS_MAX: usize = 16;
/// What the call itself says.
const OURS: [&str; 6] = ["host", "content-type", "content-length", "transfer-encoding", "connection", "user-agent"];

/// Where traces are sent.
#[derive(Clone, Debug, Default)]
pub(crate) struct TraceSettings {
    /// The base URL of a collector that takes OTLP over HTTP; empty: nowhere. Its path may be a secret: never logged.
    pub(crate) url: Secret,
    /// What it is shown with each call, as names in lower case with values that HTTP takes; up to [`HEADERS_MAX`].
    pub(crate) headers: Vec<(String, Secret)>,
}

fn collector(value: &str) -> Result<Secret, String> {
    let value = value.trim();
    outbound::check(value).map_err(|why| format!("expected a URL such as http://127.0.0.1:4318. {}", why.why))?;
    Ok(Secret(value.to_owned()))
}

/// `name=value` each, as OpenTelemetry writes them: what stands behind a `%` is decoded.
fn headers(values: &[String]) -> Result<Vec<(String, Secret)>, String> {
    if values.len() > HEADERS_MAX {
        return Err(format!("expected at most {HEADERS_MAX} headers"));
    }
    values.iter().map(|value| header(value)).collect()
}

/// The error names the header at most: what follows is a secret.
fn header(pair: &str) -> Result<(String, Secret), String> {
    let (name, value) = pair.split_once('=').ok_or("expected name=value, such as authorization=Bearer%20…")?;
    let name = name.trim().to_ascii_lowercase();
    if HeaderName::try_from(&name).is_err() || OURS.contains(&&*name) {
        return Err("expected the name of a header of the collector before the =, such as authorization".to_owned());
    }
    let decoded = decoded(value.trim()).filter(|value| HeaderValue::from_str(value).is_ok());
    let value = decoded.ok_or_else(|| {
        format!("the value of {name} is none that HTTP takes; a % and two hexadecimal digits stand for a byte, %25 for the % itself")
    })?;
    Ok((name, Secret(value)))
}

/// RFC 3986 §2.1; `None` for a `%` that no two digits follow, and for what is no text.
fn decoded(value: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes().iter();
    while let Some(&byte) = rest.next() {
        let digit = |byte: &u8| char::from(*byte).to_digit(16);
        bytes.push(match byte {
            b'%' => u8::try_from(digit(rest.next()?)? * 16 + digit(rest.next()?)?).ok()?,
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

pub(super) const KEYS: &[Key] = &[
    Key::one(
        "log",
        "otlp",
        "Where traces go: a collector that takes OTLP over HTTP in JSON. OTEL_EXPORTER_OTLP_ENDPOINT says the same.",
        |s, v| put(&mut s.traces.url, collector(&v[0])),
        |s| hidden(!s.traces.url.0.is_empty()),
    )
    .secret()
    .example(r#""http://127.0.0.1:4318""#),
    Key::list(
        "log",
        "otlp_headers",
        "What the collector is shown, name=value each, a space as %20. OTEL_EXPORTER_OTLP_HEADERS says the same.",
        |s, v| put(&mut s.traces.headers, headers(v)),
        |s| hidden(!s.traces.headers.is_empty()),
    )
    .secret()
    .example(r#"["authorization=Bearer%20…"]"#),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(pairs: &[&str]) -> Result<Vec<(String, String)>, String> {
        let pairs: Vec<String> = pairs.iter().map(ToString::to_string).collect();
        Ok(headers(&pairs)?.into_iter().map(|(name, value)| (name, value.0)).collect())
    }

    #[test]
    fn headers_are_read_as_opentelemetry_writes_them() {
        let said = taken(&["Authorization=Bearer%20a=b", " x-scope-orgid = school ", "x-empty="]);
        let expected = [("authorization", "Bearer a=b"), ("x-scope-orgid", "school"), ("x-empty", "")];
        assert_eq!(said, Ok(expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into()));
    }

    #[test]
    fn what_is_no_header_is_refused_without_its_value() {
        for bad in ["hush", "=hush", "a b=hush", "Host=hush", "x=hush%2", "x=hush%zz", "x=hush%0d%0aevil", "x=hush%ff"]
        {
            let why = taken(&[bad]).expect_err(bad);
            assert!(!why.contains("hush"), "{why}");
        }
        assert!(taken(&["x=1"; HEADERS_MAX + 1]).is_err());
    }
}
