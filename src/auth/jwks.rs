//! An issuer's key set, fetched when it is needed: at most one fetch at a time, old keys go on while the issuer is away, and names
//! that nobody knows cause few fetches, whoever makes them up.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use signaling::{ErrorCode, Refused};

use super::keys::{Published, published};
use super::token::{Alg, Key, unknown_key};
use crate::config::site;
use crate::outbound::{Call, Outbound, Reach};
use crate::seldom::Seldom;

/// A set that is older is fetched anew, in the background: how long a withdrawn key may go on.
const REFRESH_AFTER: Duration = Duration::from_secs(10 * 60);
/// Fetches are not closer together than this, whatever is asked for: how long a new key may have to wait.
const FETCH_EVERY: Duration = Duration::from_secs(10);
/// How long keys are believed that cannot be fetched anew.
const STALE_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// Longest fetch.
const FETCH_MAX: Duration = Duration::from_secs(5);

/// A key set. Cheap to clone.
#[derive(Clone)]
pub(super) struct KeySet(Arc<Inner>);

struct Inner {
    url: String,
    outbound: Outbound,
    state: Mutex<State>,
    /// Held by who fetches.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    keys: Vec<Published>,
    /// When the keys came.
    fetched: Option<Instant>,
    /// When the last fetch began.
    tried: Option<Instant>,
    /// It brought nothing.
    has_failed: bool,
}

impl KeySet {
    pub(super) fn new(url: String, outbound: Outbound) -> Self {
        let (state, turn) = (Mutex::default(), tokio::sync::Mutex::default());
        KeySet(Arc::new(Inner { url, outbound, state, turn }))
    }

    /// The key for tokens with this header. Fetches if there is none and the last fetch is long ago.
    pub(super) async fn find(&self, alg: Alg, kid: Option<&str>, now: Instant) -> Result<Key, Refused> {
        if let Some(key) = self.known(alg, kid, now) {
            self.refresh_if_old(now);
            return Ok(key);
        }
        let _turn = self.0.turn.lock().await;
        // Another may have fetched it while this one waited; then `tried` says so, too.
        if let Some(key) = self.known(alg, kid, now) {
            return Ok(key);
        }
        if self.0.state().may_fetch(now) {
            self.0.fetch(now).await;
        }
        let has_failed = self.0.state().has_failed;
        self.known(alg, kid, now).ok_or_else(|| if has_failed { away() } else { unknown_key() })
    }

    /// A token that names no key is taken if only one key is of its algorithm.
    fn known(&self, alg: Alg, kid: Option<&str>, now: Instant) -> Option<Key> {
        let state = self.0.state();
        state.fetched.filter(|at| now.saturating_duration_since(*at) < STALE_MAX)?;
        let mut fitting = state.keys.iter().filter(|published| {
            published.key.alg == alg && kid.is_none_or(|kid| published.kid.as_deref() == Some(kid))
        });
        let first = fitting.next()?;
        (kid.is_some() || fitting.next().is_none()).then(|| first.key.clone())
    }

    fn refresh_if_old(&self, now: Instant) {
        let state = self.0.state();
        let is_old = state.fetched.is_none_or(|at| now.saturating_duration_since(at) >= REFRESH_AFTER);
        if !is_old || !state.may_fetch(now) {
            return;
        }
        drop(state);
        let inner = self.0.clone();
        tokio::spawn(async move {
            // Who holds it fetches already.
            let Ok(_turn) = inner.turn.try_lock() else { return };
            if inner.state().may_fetch(now) {
                inner.fetch(now).await;
            }
        });
    }

    /// Fetches the set before the first user comes.
    pub(super) async fn warm(&self, now: Instant) {
        let _turn = self.0.turn.lock().await;
        if self.0.state().may_fetch(now) {
            self.0.fetch(now).await;
        }
    }
}

impl State {
    fn may_fetch(&self, now: Instant) -> bool {
        self.tried.is_none_or(|at| now.saturating_duration_since(at) >= FETCH_EVERY)
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// By who has the turn.
    async fn fetch(&self, now: Instant) {
        self.state().tried = Some(now);
        let call = Call {
            method: "GET",
            url: self.url.clone(),
            headers: vec![("accept".into(), "application/json".to_owned())],
            body: Vec::new(),
            reach: Reach::Configured,
            deadline: FETCH_MAX,
        };
        let fetched = match self.outbound.call(call).await {
            Ok(answer) if answer.status != 200 => Err(format!("the answer was {}", answer.status)),
            Ok(answer) if answer.is_cut => Err("the answer is too long".to_owned()),
            Ok(answer) => published(&answer.body).ok_or_else(|| "the answer is no key set".to_owned()),
            Err(failed) => Err(failed.why),
        };
        let fetched = fetched.and_then(|keys| {
            if keys.is_empty() { Err("there is no key of RS256, ES256 or EdDSA in it".to_owned()) } else { Ok(keys) }
        });
        let mut state = self.state();
        state.has_failed = fetched.is_err();
        match fetched {
            Ok(keys) => (state.keys, state.fetched) = (keys, Some(now)),
            Err(why) => {
                static LINE: Seldom = Seldom::new();
                if let Some(more) = LINE.due() {
                    let url = site(&self.url);
                    tracing::warn!(%url, %why, more, "the key set of [auth] cannot be fetched; the keys from before go on for a day");
                }
            }
        }
    }
}

fn away() -> Refused {
    let message = "The keys of the token's issuer cannot be fetched at the moment: try again in some seconds.";
    Refused { code: ErrorCode::Overloaded, message: message.to_owned() }
}
