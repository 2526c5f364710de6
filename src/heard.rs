//! When a client was last heard: its proof of life, counted where its bytes are read.
//!
//! A session over a websocket has its connection for itself, so each read of that is heard of the session. What comes by
//! polling shares connections with others (a proxy's), so there each request of the session counts when it arrives.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use axum::extract::{Request, State};
use axum::http::{StatusCode, Uri};
use axum::middleware::Next;
use axum::response::Response;
use socketioxide::socket::Sid;

use crate::clock;
use crate::socketio::Source;

/// Remembered sessions, those included that are gone. One more sweeps these out; if none is gone, it stays alone: only its CONNECT counts, and what its connection reads if it had a websocket from the beginning.
const SESSIONS_MAX: usize = 65_536;
/// Most bytes of a session id in a query: what is longer is none.
const SID_BYTES_MAX: usize = 64;

/// The time at which one client was last heard.
#[derive(Debug)]
pub(crate) struct Heard(AtomicU64);

impl Heard {
    /// Heard just now.
    fn new(now: Instant) -> Self {
        Heard(AtomicU64::new(since_start(now)))
    }

    /// It was heard.
    pub(crate) fn note(&self, at: Instant) {
        self.0.fetch_max(since_start(at), Ordering::Relaxed);
    }

    /// When it was last heard, to the millisecond below.
    pub(crate) fn at(&self) -> Instant {
        start() + Duration::from_millis(self.0.load(Ordering::Relaxed))
    }
}

/// The instant that stands for 0.
fn start() -> Instant {
    static START: OnceLock<Instant> = OnceLock::new();
    *START.get_or_init(|| clock::now().mono)
}

fn since_start(at: Instant) -> u64 {
    u64::try_from(at.saturating_duration_since(start()).as_millis()).unwrap_or(u64::MAX)
}

/// What a connection's reader tells of: the session that has the connection for itself, once there is one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reads(Arc<OnceLock<Arc<Heard>>>);

impl Reads {
    /// From now on the connection is the session's own.
    pub(crate) fn belong_to(&self, session: &Arc<Heard>) {
        // A connection is upgraded at most once, so that a second has no session to tell of.
        let _ = self.0.set(session.clone());
    }

    /// Bytes came.
    pub(crate) fn note(&self) {
        if let Some(session) = self.0.get() {
            session.note(clock::now().mono);
        }
    }
}

/// Sessions by their Engine.IO session id, a secret: it is neither logged nor shown.
#[derive(Clone, Default)]
pub(crate) struct Sessions(Arc<Mutex<HashMap<Sid, Weak<Heard>>>>);

impl Sessions {
    /// The session of that id, which is heard now. Whoever holds what this gives keeps it known.
    pub(crate) fn enter(&self, sid: Sid) -> Arc<Heard> {
        let now = clock::now().mono;
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(heard) = known.get(&sid).and_then(Weak::upgrade) {
            heard.note(now);
            return heard;
        }
        let heard = Arc::new(Heard::new(now));
        if known.len() >= SESSIONS_MAX {
            known.retain(|_, heard| heard.strong_count() > 0);
        }
        if known.len() < SESSIONS_MAX {
            known.insert(sid, Arc::downgrade(&heard));
        }
        heard
    }

    fn get(&self, sid: &Sid) -> Option<Arc<Heard>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(sid)?.upgrade()
    }
}

/// Takes note of requests that name a session, once they turn out to be good.
pub(crate) async fn listen(State(sessions): State<Sessions>, request: Request, next: Next) -> Response {
    let Some(sid) = sid(request.uri()) else { return next.run(request).await };
    let arrived = clock::now().mono;
    let reads = request.extensions().get::<Source>().map(|source| source.reads.clone());
    let response = next.run(request).await;
    match (response.status(), reads) {
        // From here on the connection is a websocket of that session, and holds what stands for it.
        (StatusCode::SWITCHING_PROTOCOLS, Some(reads)) => reads.belong_to(&sessions.enter(sid)),
        (status, _) if status.is_success() => {
            if let Some(heard) = sessions.get(&sid) {
                heard.note(arrived);
            }
        }
        _ => {}
    }
    response
}

/// The session that a request names.
fn sid(uri: &Uri) -> Option<Sid> {
    let query = uri.path().starts_with("/socket.io").then(|| uri.query())??;
    let sid = query.split('&').find_map(|pair| pair.strip_prefix("sid="))?;
    sid.parse().ok().filter(|_| sid.len() <= SID_BYTES_MAX)
}

/// Whether a session's handshake was the upgrade to a websocket, whose connection is then its own.
pub(crate) fn is_websocket(uri: &Uri) -> bool {
    uri.query().is_some_and(|query| query.split('&').any(|pair| pair == "transport=websocket"))
}

#[cfg(test)]
mod tests;
