//! Traces for operators who gather them: spans of joins, negotiations, deliveries and the database, sent as OTLP over HTTP in
//! JSON. Nothing is made or kept unless `[log] otlp` is set: then no layer wants the spans, and their macros do nothing.
//!
//! A span ends when its last handle is dropped. One that outlives what caused it follows from that rather than being inside it,
//! so that each ends by itself; in the trace it stands below it all the same.

mod otlp;

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::MissedTickBehavior;
use tracing::field::{self, Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use crate::clock;
use crate::config::{Secret, TraceSettings, is_plain_and_far};
use crate::outbound::{Call, Outbound, Reach};
use crate::seldom::Seldom;

/// The target of spans that are meant for traces.
pub(crate) const TARGET: &str = "lyceum::trace";
/// What keeps them out of the log.
pub(crate) const NOT_LOGGED: &str = "lyceum::trace=off";
/// A field that gets its value later, if at all. What is recorded as `error` says that the span failed.
pub(crate) const EMPTY: field::Empty = field::Empty;

/// Spans that wait to be sent. When full, further ones are lost, and counted.
const SPANS_MAX: usize = 4_096;
/// Spans that are sent in one call: some 400 bytes each.
const BATCH_MAX: usize = 512;
/// How often they are sent.
const SEND_EVERY: Duration = Duration::from_secs(2);
/// Longest call to the collector, so that one that hangs costs no more than a queue of spans.
const CALL_MAX: Duration = Duration::from_secs(5);
/// Longest wait for the last spans when the server ends.
const END_MAX: Duration = Duration::from_millis(500);
/// Characters of a text that are kept: strangers choose what their sessions are called.
const TEXT_CHARS_MAX: usize = 128;

/// What became of spans, since start.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// The collector took them.
    pub(crate) sent: AtomicU64,
    /// They found no place in the queue, or the collector did not take them.
    pub(crate) lost: AtomicU64,
}

/// A span that has begun or ended.
#[derive(Clone, Debug, PartialEq)]
struct Kept {
    trace: u128,
    id: u64,
    /// 0: none.
    parent: u64,
    name: &'static str,
    /// Since 1970.
    begun: Duration,
    ended: Duration,
    attributes: Vec<(&'static str, Text)>,
    error: Option<String>,
}

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq)]
enum Text {
    Words(String),
    Number(i64),
}

/// Whether a span is meant for traces.
pub(crate) fn takes(metadata: &Metadata<'_>) -> bool {
    metadata.is_span() && metadata.target() == TARGET
}

/// Makes the layer that keeps spans, and what sends them once there is a runtime.
pub(crate) fn new(settings: &TraceSettings) -> (Spans, Sender) {
    let (queue, spans) = mpsc::channel(SPANS_MAX);
    let tally = Arc::new(Tally::default());
    let url = format!("{}/v1/traces", settings.url.0.trim_end_matches('/'));
    (Spans { queue, tally: tally.clone() }, Sender { url, shown: settings.headers.clone(), spans, tally })
}

/// The layer. Give it spans that [`takes`] lets through, and no others.
pub(crate) struct Spans {
    queue: mpsc::Sender<Kept>,
    tally: Arc<Tally>,
}

impl<S: Subscriber + for<'l> LookupSpan<'l>> Layer<S> for Spans {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut kept = Kept {
            trace: rand::random::<u128>().max(1),
            id: rand::random::<u64>().max(1),
            parent: 0,
            name: span.name(),
            begun: clock::both().1,
            ended: Duration::ZERO,
            attributes: Vec::new(),
            error: None,
        };
        attributes.record(&mut kept);
        span.extensions_mut().insert(kept);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        if let Some(kept) = span.extensions_mut().get_mut::<Kept>() {
            values.record(kept);
        }
    }

    fn on_follows_from(&self, id: &Id, follows: &Id, context: Context<'_, S>) {
        let of = |id| context.span(id).and_then(|span| span.extensions().get::<Kept>().map(|k| (k.trace, k.id)));
        let (Some(before), Some(span)) = (of(follows), context.span(id)) else { return };
        if let Some(kept) = span.extensions_mut().get_mut::<Kept>() {
            (kept.trace, kept.parent) = before;
        }
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let Some(mut kept) = context.span(&id).and_then(|span| span.extensions_mut().remove::<Kept>()) else { return };
        // Durations are those of the wall clock: a collector knows no other.
        kept.ended = clock::both().1.max(kept.begun);
        if self.queue.try_send(kept).is_err() {
            self.tally.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Kept {
    fn note(&mut self, field: &Field, value: Text) {
        match (field.name(), value) {
            ("error", Text::Words(words)) => self.error = Some(words),
            (name, value) => self.attributes.push((name, value)),
        }
    }
}

impl Visit for Kept {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.note(field, Text::Words(value.chars().take(TEXT_CHARS_MAX).collect()));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.note(field, Text::Number(i64::try_from(value).unwrap_or(i64::MAX)));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.note(field, Text::Number(value));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}

/// What sends spans, before it is started.
pub(crate) struct Sender {
    url: String,
    /// What the collector is shown with each call.
    shown: Vec<(String, Secret)>,
    spans: mpsc::Receiver<Kept>,
    tally: Arc<Tally>,
}

/// The task that sends them.
pub(crate) struct Sending {
    /// What became of them.
    pub(crate) tally: Arc<Tally>,
    end: oneshot::Sender<()>,
    task: tokio::task::JoinHandle<()>,
}

impl Sender {
    /// Starts to send.
    pub(crate) fn start(self) -> Sending {
        if !self.shown.is_empty() && is_plain_and_far(&self.url) {
            tracing::warn!(
                "[log] otlp is plain http:// and leads elsewhere: whoever is on the way reads [log] otlp_headers; an https:// URL hides them"
            );
        }
        let (end, ended) = oneshot::channel();
        let tally = self.tally.clone();
        Sending { tally, end, task: tokio::spawn(self.run(ended)) }
    }

    async fn run(mut self, mut ended: oneshot::Receiver<()>) {
        let outbound = Outbound::new(&[]);
        let mut every = tokio::time::interval(SEND_EVERY);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut is_ending = false;
        while !is_ending {
            tokio::select! {
                _ = every.tick() => {}
                _ = &mut ended => is_ending = true,
            }
            while !self.spans.is_empty() {
                self.send(&outbound).await;
            }
        }
    }

    /// Sends what waits, of which there is something, up to [`BATCH_MAX`].
    async fn send(&mut self, outbound: &Outbound) {
        static LINE: Seldom = Seldom::new();
        let mut batch = Vec::with_capacity(BATCH_MAX);
        let count = self.spans.recv_many(&mut batch, BATCH_MAX).await as u64;
        let mut headers = vec![("content-type".into(), "application/json".to_owned())];
        headers.extend(self.shown.iter().map(|(name, value)| (name.clone().into(), value.0.clone())));
        let call = Call {
            method: "POST",
            url: self.url.clone(),
            headers,
            body: otlp::body(&batch),
            reach: Reach::Configured,
            deadline: CALL_MAX,
        };
        let why = match outbound.call(call).await {
            Ok(answer) if answer.status / 100 == 2 => {
                self.tally.sent.fetch_add(count, Ordering::Relaxed);
                return;
            }
            Ok(answer) => format!("it answers {}", answer.status),
            Err(failed) => failed.why,
        };
        self.tally.lost.fetch_add(count, Ordering::Relaxed);
        if let Some(left_out) = LINE.due() {
            tracing::warn!(why, left_out, "the collector of traces ([log] otlp) did not take what it was sent");
        }
    }
}

impl Sending {
    /// Sends what waits and ends.
    pub(crate) async fn end(self) {
        // A task that has ended does not listen.
        let _ = self.end.send(());
        let _ = tokio::time::timeout(END_MAX, self.task).await;
    }
}

#[cfg(test)]
mod tests;
