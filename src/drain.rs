//! How the server ends: nobody new gets in, calls go on until they are over or the deadline comes, and then what is in memory is
//! written down.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::HeaderValue;
use axum::http::header::RETRY_AFTER;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use signaling::{ErrorCode, Refused};
use tokio::sync::{Notify, mpsc, oneshot};

use crate::clock;
use crate::control::{Counts, Input};
use crate::whip::refuse;

/// How often it is looked whether calls are over.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// When to ask again, seconds: whoever follows us has begun by then, mostly.
const RETRY_AFTER_S: &str = "5";

/// Whether the server drains, and until when. Clones share it.
#[derive(Clone)]
pub(crate) struct Drain(Arc<Shared>);

struct Shared {
    /// How long calls may go on.
    most: Duration,
    /// Unix ms; 0: the server does not drain.
    deadline_ms: AtomicU64,
    begun: Notify,
}

impl Drain {
    /// Of a server whose calls may go on for so long (`[admin] drain_s`).
    pub(crate) fn new(most: Duration) -> Self {
        Drain(Arc::new(Shared { most, deadline_ms: AtomicU64::new(0), begun: Notify::new() }))
    }

    /// Begins, unless it has begun; the deadline, Unix ms.
    pub(crate) fn begin(&self) -> u64 {
        let most_ms = u64::try_from(self.0.most.as_millis()).unwrap_or(u64::MAX);
        let deadline = clock::now().unix_ms.saturating_add(most_ms).max(1);
        let before = self.0.deadline_ms.compare_exchange(0, deadline, Ordering::Relaxed, Ordering::Relaxed);
        self.0.begun.notify_one();
        before.map_or_else(|earlier| earlier, |_| deadline)
    }

    /// The deadline, Unix ms, if it has begun.
    pub(crate) fn deadline_ms(&self) -> Option<u64> {
        Some(self.0.deadline_ms.load(Ordering::Relaxed)).filter(|deadline| *deadline > 0)
    }

    /// Announces the end to everybody, and returns when the last call is over or the deadline has come.
    ///
    /// The caller drops this when it is told to end at once.
    pub(crate) async fn until_over(&self, inbox: &mpsc::WeakSender<Input>, counts: &Counts) {
        self.0.begun.notified().await;
        if self.0.most.is_zero() {
            // There is no time in which to do anything about it.
            return;
        }
        let deadline_ms = self.begin();
        let deadline = tokio::time::Instant::now() + self.0.most;
        // Without control there is nobody to tell; one that is stuck delays nothing beyond the deadline.
        if let Some(inbox) = inbox.upgrade() {
            let (done, announced) = oneshot::channel();
            let announce = async {
                let _ = inbox.send(Input::Drain { deadline_ms, done }).await;
                let _ = announced.await;
            };
            let _ = tokio::time::timeout_at(deadline, announce).await;
        }
        let people = || counts.participants.load(Ordering::Relaxed);
        if people() == 0 {
            return;
        }
        tracing::info!(
            participants = people(),
            most_s = self.0.most.as_secs(),
            "draining: nobody new gets in, calls go on"
        );
        let over = async {
            while people() > 0 {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        match tokio::time::timeout_at(deadline, over).await {
            Ok(()) => tracing::info!("drained: nobody is here any more"),
            Err(_) => tracing::info!(
                participants = people(),
                "the time to drain is over; who is here comes back to whoever follows"
            ),
        }
    }
}

/// These routes, refused while the server drains.
pub(crate) fn refusing(router: Router, drain: Drain) -> Router {
    async fn check(State(drain): State<Drain>, request: Request, next: Next) -> Response {
        match drain.deadline_ms() {
            None => next.run(request).await,
            Some(_) => refused(),
        }
    }
    router.layer(from_fn_with_state(drain, check))
}

fn refused() -> Response {
    let message = "The server is about to stop: ask again in a moment.".to_owned();
    let mut response = refuse(&Refused { code: ErrorCode::Draining, message }).into_response();
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_S));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server with so many people, and what tells whether its lobby heard of the end.
    fn server(participants: usize) -> (mpsc::Sender<Input>, mpsc::Receiver<Input>, Arc<Counts>) {
        let (inbox, inputs) = mpsc::channel(4);
        let counts = Arc::new(Counts::default());
        counts.participants.store(participants, Ordering::Relaxed);
        (inbox, inputs, counts)
    }

    async fn announced(inputs: &mut mpsc::Receiver<Input>) -> u64 {
        match inputs.recv().await {
            Some(Input::Drain { deadline_ms, done }) => {
                done.send(()).expect("it waits");
                deadline_ms
            }
            _ => panic!("something else came"),
        }
    }

    /// So long that whoever waits for it fails the test by its own time.
    const LONG: Duration = Duration::from_secs(3_600);

    #[tokio::test]
    async fn who_is_here_stays_until_the_deadline() {
        let most = Duration::from_millis(300);
        let (inbox, mut inputs, counts) = server(2);
        let drain = Drain::new(most);
        let begun = tokio::time::Instant::now();
        let deadline = drain.begin();
        assert_eq!((drain.begin(), drain.deadline_ms()), (deadline, Some(deadline)), "the first word counts");
        let weak = inbox.downgrade();
        let (told, ()) = tokio::join!(announced(&mut inputs), drain.until_over(&weak, &counts));
        assert_eq!(told, deadline);
        assert!(begun.elapsed() >= most);
    }

    #[tokio::test]
    async fn a_lobby_that_is_stuck_delays_nothing_beyond_the_deadline() {
        let (inbox, _inputs) = mpsc::channel(1);
        let counts = Counts::default();
        // The first finds a place and no answer, the second no place.
        for _ in 0..2 {
            let drain = Drain::new(Duration::from_millis(100));
            drain.begin();
            drain.until_over(&inbox.downgrade(), &counts).await;
        }
        assert_eq!(inbox.capacity(), 0);
    }

    #[tokio::test]
    async fn it_is_over_when_the_last_one_leaves_and_at_once_when_nobody_is_here() {
        let drain = Drain::new(LONG);
        let (inbox, mut inputs, counts) = server(1);
        drain.begin();
        let last = async {
            announced(&mut inputs).await;
            counts.participants.store(0, Ordering::Relaxed);
        };
        let weak = inbox.downgrade();
        tokio::join!(last, drain.until_over(&weak, &counts));
        let hasty = Drain::new(Duration::ZERO);
        hasty.begin();
        let (inbox, mut inputs, counts) = server(1);
        hasty.until_over(&inbox.downgrade(), &counts).await;
        assert!(inputs.try_recv().is_err(), "nobody is told what is over already");
        let idle = Drain::new(LONG);
        idle.begin();
        let (inbox, mut inputs, counts) = server(0);
        let weak = inbox.downgrade();
        tokio::join!(announced(&mut inputs), idle.until_over(&weak, &counts));
    }
}
