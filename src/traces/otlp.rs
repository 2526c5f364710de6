//! Spans as OTLP has them in JSON (opentelemetry-proto, `trace/v1`): ids in hexadecimal, times in nanoseconds as strings.

use serde_json::{Value, json};

use super::{Kept, Text};

/// `SpanKind`: work of ours, an answer to somebody, a call to somebody.
const INTERNAL: u8 = 1;
const SERVER: u8 = 2;
const CLIENT: u8 = 3;
/// `StatusCode`.
const ERROR: u8 = 2;

/// The body of an `ExportTraceServiceRequest`.
pub(super) fn body(spans: &[Kept]) -> Vec<u8> {
    let version = env!("CARGO_PKG_VERSION");
    let resource = [attribute("service.name", words("lyceum")), attribute("service.version", words(version))];
    let spans: Vec<Value> = spans.iter().map(span).collect();
    let scope = json!({ "scope": { "name": "lyceum", "version": version }, "spans": spans });
    let all = json!({ "resourceSpans": [{ "resource": { "attributes": resource }, "scopeSpans": [scope] }] });
    all.to_string().into_bytes()
}

fn words(text: &str) -> Value {
    json!({ "stringValue": text })
}

fn attribute(key: &str, value: Value) -> Value {
    json!({ "key": key, "value": value })
}

fn span(kept: &Kept) -> Value {
    let kind = match kept.name {
        "join" => SERVER,
        "webhook" | "database" => CLIENT,
        _ => INTERNAL,
    };
    let attributes = kept.attributes.iter().map(|(name, value)| match value {
        Text::Words(text) => attribute(&format!("lyceum.{name}"), words(text)),
        Text::Number(number) => attribute(&format!("lyceum.{name}"), json!({ "intValue": number.to_string() })),
    });
    let mut span = json!({
        "traceId": format!("{:032x}", kept.trace),
        "spanId": format!("{:016x}", kept.id),
        "name": kept.name,
        "kind": kind,
        "startTimeUnixNano": kept.begun.as_nanos().to_string(),
        "endTimeUnixNano": kept.ended.as_nanos().to_string(),
        "attributes": attributes.collect::<Vec<_>>(),
    });
    if kept.parent != 0 {
        span["parentSpanId"] = format!("{:016x}", kept.parent).into();
    }
    if let Some(error) = &kept.error {
        span["status"] = json!({ "code": ERROR, "message": error });
    }
    span
}
