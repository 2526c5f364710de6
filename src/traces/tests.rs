use serde_json::{Value, json};
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt as _;

use super::*;

/// The spans that were made meanwhile, as they would be sent, and how many were lost.
fn spans(make: impl FnOnce()) -> (Vec<Value>, u64) {
    let (layer, mut sender) = new(&TraceSettings { url: Secret("http://127.0.0.1:1/".into()), headers: Vec::new() });
    assert_eq!(sender.url, "http://127.0.0.1:1/v1/traces");
    let subscriber = tracing_subscriber::registry().with(layer.with_filter(filter_fn(takes)));
    tracing::subscriber::with_default(subscriber, make);
    let mut kept = Vec::new();
    while let Ok(one) = sender.spans.try_recv() {
        kept.push(one);
    }
    let body: Value = serde_json::from_slice(&otlp::body(&kept)).expect("JSON");
    let spans = body["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().expect("a list").clone();
    (spans, sender.tally.lost.load(Ordering::Relaxed))
}

#[test]
fn spans_end_by_themselves_and_stand_below_what_they_follow() {
    let (spans, lost) = spans(|| {
        let join = tracing::info_span!(target: TARGET, "join", session = "math", error = EMPTY);
        let media = tracing::info_span!(target: TARGET, parent: None, "media", peer = 7, error = EMPTY);
        media.follows_from(&join);
        drop(join);
        media.record("error", "it left");
        let _other = tracing::info_span!("not meant for traces");
        tracing::error!(target: TARGET, "nor are lines of the log");
    });
    let [join, media] = &spans[..] else { panic!("{spans:?}") };
    assert_eq!(lost, 0);
    assert_eq!((&join["name"], &media["name"]), (&json!("join"), &json!("media")), "in the order in which they ended");
    assert_eq!((&media["traceId"], &media["parentSpanId"]), (&join["traceId"], &join["spanId"]));
    assert_eq!(join["attributes"], json!([{ "key": "lyceum.session", "value": { "stringValue": "math" } }]));
    assert_eq!(media["attributes"], json!([{ "key": "lyceum.peer", "value": { "intValue": "7" } }]));
    assert_eq!((join.get("status"), &media["status"]), (None, &json!({ "code": 2, "message": "it left" })));
    let length = |value: &Value| value.as_str().map_or(0, str::len);
    assert_eq!((length(&join["traceId"]), length(&join["spanId"])), (32, 16));
    let at = |key: &str| join[key].as_str().and_then(|ns| ns.parse::<u64>().ok()).expect("nanoseconds");
    assert!(at("startTimeUnixNano") > 1_700_000_000_000_000_000 && at("endTimeUnixNano") >= at("startTimeUnixNano"));
}

#[test]
fn what_does_not_fit_is_lost_and_counted_and_long_words_are_cut() {
    let (spans, lost) = spans(|| {
        for _ in 0..SPANS_MAX + 3 {
            let _span = tracing::info_span!(target: TARGET, "join", session = "x".repeat(500));
        }
    });
    assert_eq!((spans.len(), lost), (SPANS_MAX, 3));
    let session = spans[0]["attributes"][0]["value"]["stringValue"].as_str().expect("a string");
    assert_eq!(session.len(), TEXT_CHARS_MAX);
}
