//! The task that delivers: finds what is due, tries it, and writes down what came of it.
//!
//! Each endpoint has attempts of its own, so one that hangs delays nobody else. All that must outlive the process stands in the
//! store; while that is away nothing is tried.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{Id, JoinHandle, JoinSet};
use tokio::time::MissedTickBehavior;

use super::schedule::{Outcome, Verdict, judge};
use super::sign::Secret;
use crate::clock;
use crate::config::WebhookSettings;
use crate::outbound::Outbound;
use crate::seldom::Seldom;
use crate::store::{Backlog, Claimed, ENDPOINT_CONFIGURED, Engine, Recipient, Store, StoreError};
use crate::traces::{self, TARGET};

/// How often the store is asked what is due. An event waits half as long on average.
const POLL: Duration = Duration::from_secs(1);
/// Attempts under way at one endpoint, of different rooms; further ones wait. With `ENDPOINTS_MAX` it bounds all.
const PER_ENDPOINT_MAX: usize = 4;
/// How often the backlog is counted, in polls.
const COUNT_EVERY: u64 = 5;

/// What deliveries came to, for metrics.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Attempts that arrived.
    pub(crate) delivered: AtomicU64,
    /// Attempts that did not, and are made again.
    pub(crate) failed: AtomicU64,
    /// Attempts that were the last.
    pub(crate) dead: AtomicU64,
    /// Deliveries that wait now.
    pub(crate) waiting: AtomicU64,
    /// Dead ones in the store.
    pub(crate) buried: AtomicU64,
    /// Since when the oldest waits, Unix ms; 0 if none does.
    oldest_ms: AtomicU64,
}

impl Tally {
    /// How long the oldest delivery waits.
    pub(crate) fn age(&self, unix_ms: u64) -> Duration {
        match self.oldest_ms.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            oldest => Duration::from_millis(unix_ms.saturating_sub(oldest)),
        }
    }

    fn note(&self, verdict: Verdict) {
        let counter = match verdict {
            Verdict::Delivered => &self.delivered,
            Verdict::Again(_) => &self.failed,
            Verdict::Dead | Verdict::Gone => &self.dead,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    fn count(&self, backlog: Backlog) {
        self.waiting.store(backlog.pending, Ordering::Relaxed);
        self.buried.store(backlog.dead, Ordering::Relaxed);
        self.oldest_ms.store(backlog.oldest_ms.unwrap_or(0), Ordering::Relaxed);
    }
}

/// A deliverer that runs.
pub(crate) struct Delivering {
    /// What it does.
    pub(crate) tally: Arc<Tally>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Delivering {
    /// Begins nothing new, and waits for what is under way. What does not end in the caller's time is tried again by the next
    /// start.
    pub(crate) async fn end(self) {
        let _ = self.stop.send(true);
        let _ = self.task.await;
    }
}

/// Delivers.
pub(crate) struct Deliverer {
    store: Store,
    outbound: Outbound,
    node: String,
    settings: WebhookSettings,
    /// When we started, Unix ms.
    since_ms: u64,
    tally: Arc<Tally>,
}

impl Deliverer {
    /// One that delivers what is in `store` in the name of `node`.
    pub(crate) fn start(store: Store, node: &str, settings: &WebhookSettings) -> Delivering {
        let tally = Arc::new(Tally::default());
        let (stop, stopped) = watch::channel(false);
        let deliverer = Arc::new(Deliverer {
            store,
            outbound: Outbound::new(&settings.allow),
            node: node.to_owned(),
            settings: settings.clone(),
            since_ms: clock::now().unix_ms,
            tally: tally.clone(),
        });
        Delivering { tally, stop, task: tokio::spawn(deliverer.run(stopped)) }
    }

    async fn run(self: Arc<Self>, mut stopped: watch::Receiver<bool>) {
        let mut attempts = JoinSet::new();
        // Of which endpoint each attempt is that is under way.
        let mut under_way: HashMap<Id, String> = HashMap::new();
        let mut ticks = tokio::time::interval(POLL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut is_prepared, mut polls) = (false, 0_u64);
        loop {
            let only = tokio::select! {
                _ = stopped.changed() => break,
                Some(ended) = attempts.join_next_with_id() => {
                    let id = match &ended {
                        Ok((id, ())) => *id,
                        Err(error) => error.id(),
                    };
                    under_way.remove(&id)
                }
                _ = ticks.tick() => {
                    polls += 1;
                    None
                }
            };
            let done = async {
                if !is_prepared {
                    self.prepare().await?;
                    is_prepared = true;
                }
                self.begin(only.as_deref(), &mut attempts, &mut under_way).await?;
                if only.is_none() && polls % COUNT_EVERY == 1 {
                    self.tally.count(self.store.backlog().await?);
                }
                Ok(())
            };
            if let Err(error) = done.await {
                complain(&error);
            }
        }
        while attempts.join_next().await.is_some() {}
    }

    /// What must be true before anything is tried.
    async fn prepare(&self) -> Result<(), StoreError> {
        self.store.release_claims(&self.node).await?;
        if self.settings.url.0.is_empty() {
            // Another server at the same database may have it in its settings.
            if self.store.engine() == Engine::Postgres {
                return Ok(());
            }
            let reason = "it is not in the settings any more";
            return self.store.switch_off(ENDPOINT_CONFIGURED, reason).await.map(|_| ());
        }
        let (url, secret, now_ms) = (&self.settings.url.0, &self.settings.secret.0, clock::now().unix_ms);
        self.store.configure_endpoint(url, secret, self.since_ms, now_ms).await
    }

    /// Claims what is due, at one endpoint or at all, and begins to try it.
    async fn begin(
        self: &Arc<Self>,
        only: Option<&str>,
        attempts: &mut JoinSet<()>,
        under_way: &mut HashMap<Id, String>,
    ) -> Result<(), StoreError> {
        let now_ms = clock::now().unix_ms;
        for recipient in self.store.recipients(now_ms).await? {
            let busy = under_way.values().filter(|id| **id == recipient.id).count();
            let free = PER_ENDPOINT_MAX.saturating_sub(busy);
            if free == 0 || only.is_some_and(|only| only != recipient.id) {
                continue;
            }
            let claimed = self.store.claim(&self.node, &recipient.id, free, now_ms).await?;
            let recipient = Arc::new(recipient);
            for one in claimed {
                let attempt = attempts.spawn(self.clone().attempt(recipient.clone(), one));
                under_way.insert(attempt.id(), recipient.id.clone());
            }
        }
        Ok(())
    }

    async fn attempt(self: Arc<Self>, recipient: Arc<Recipient>, claimed: Claimed) {
        let secrets: Vec<Secret> = recipient.secrets.iter().filter_map(|text| Secret::parse(text).ok()).collect();
        let now_ms = clock::now().unix_ms;
        let call = super::call(&recipient.id, &recipient.url, &secrets, &claimed.event, &claimed.body, now_ms);
        let span = tracing::info_span!(
            target: TARGET, parent: None, "webhook",
            endpoint = recipient.id, event = claimed.event, attempt = claimed.attempt, error = traces::EMPTY
        );
        let outcome = Outcome::from(self.outbound.call(call).await);
        if let Some(error) = &outcome.error {
            // What follows names the receiver: it is in the log.
            span.record("error", error.split_once(':').map_or(error.as_str(), |(word, _)| word));
        }
        drop(span);
        let now_ms = clock::now().unix_ms;
        let verdict = judge(&outcome, claimed.attempt, now_ms, rand::random());
        self.tally.note(verdict);
        log(&claimed, &outcome, verdict);
        // What cannot be written down is tried again when the claim has run out.
        if let Err(error) = self.store.settle(&self.node, &claimed, &outcome, verdict, now_ms).await {
            complain(&error);
        }
    }
}

fn log(claimed: &Claimed, outcome: &Outcome, verdict: Verdict) {
    static FAILED: Seldom = Seldom::new();
    static DEAD: Seldom = Seldom::new();
    let (endpoint, event, attempt) = (&claimed.endpoint, &claimed.event, claimed.attempt);
    let error = outcome.error.as_deref().unwrap_or_default();
    match verdict {
        Verdict::Delivered => {}
        Verdict::Again(_) => {
            if let Some(left_out) = FAILED.due() {
                tracing::warn!(
                    endpoint,
                    event,
                    attempt,
                    error,
                    left_out,
                    "a webhook did not arrive; it is tried again"
                );
            }
        }
        Verdict::Dead => {
            if let Some(left_out) = DEAD.due() {
                tracing::error!(
                    endpoint,
                    event,
                    attempt,
                    error,
                    left_out,
                    "a webhook is given up; replay it when its receiver is well"
                );
            }
        }
        Verdict::Gone => {
            tracing::error!(endpoint, error, "a webhook endpoint is switched off; switch it on again or remove it");
        }
    }
}

fn complain(error: &StoreError) {
    static LINE: Seldom = Seldom::new();
    if let Some(left_out) = LINE.due() {
        tracing::warn!(%error, left_out, "webhooks wait for the database");
    }
}
