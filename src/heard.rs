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
mod tests {
    use axum::Router;
    use tower_service::Service;

    use super::*;

    #[test]
    fn sessions_are_found_in_queries() {
        let id = "AAAAAAAAAAAAAAHs";
        let found = |uri: &str| sid(&uri.parse().expect("a URI")).map(|sid| sid.to_string());
        assert_eq!(found(&format!("/socket.io/?EIO=4&transport=polling&sid={id}")).as_deref(), Some(id));
        assert_eq!(found("/socket.io/?EIO=4&transport=polling"), None);
        assert_eq!(found("/socket.io/?EIO=4&transport=polling&sid=nonsense"), None);
        assert_eq!(found(&format!("/api/health?sid={id}")), None);
        assert!(is_websocket(&"/socket.io/?EIO=4&transport=websocket".parse().expect("a URI")));
        assert!(!is_websocket(&"/socket.io/?EIO=4&transport=polling".parse().expect("a URI")));
    }

    #[test]
    fn a_session_is_heard_by_all_its_connections() {
        let (sessions, sid) = (Sessions::default(), Sid::new());
        let early = Reads::default();
        early.note();
        early.belong_to(&sessions.enter(sid));
        let session = sessions.enter(sid);
        let before = session.at();
        session.note(before + Duration::from_secs(60));
        assert_eq!(session.at(), before + Duration::from_secs(60));
        session.note(before);
        assert_eq!(session.at(), before + Duration::from_secs(60), "time does not go back");
        assert!(
            sessions.get(&sid).is_some_and(|other| Arc::ptr_eq(&other, &session)),
            "one session, whoever came first"
        );
        drop((session, early));
        assert!(sessions.get(&sid).is_none(), "nobody holds it");
    }

    /// Lets the clock advance by what a session's time can tell apart.
    fn a_moment_later() -> Instant {
        let then = clock::now().mono + Duration::from_millis(2);
        while clock::now().mono < then {
            std::thread::yield_now();
        }
        then
    }

    async fn request(sessions: &Sessions, sid: Sid, reads: &Reads, answer: StatusCode) {
        let state = sessions.clone();
        let mut router = Router::new()
            .fallback(move || async move { answer })
            .layer(axum::middleware::from_fn_with_state(state, listen));
        let mut request = Request::new(axum::body::Body::empty());
        *request.uri_mut() = format!("/socket.io/?EIO=4&transport=x&sid={sid}").parse().expect("a URI");
        let source = std::net::SocketAddr::from(([127, 0, 0, 1], 9));
        request.extensions_mut().insert(Source::new(source, reads.clone()));
        let answered = router.call(request).await.expect("routers do not fail");
        assert_eq!(answered.status(), answer);
    }

    #[tokio::test]
    async fn requests_count_when_they_turn_out_to_be_good() {
        let (sessions, sid, reads) = (Sessions::default(), Sid::new(), Reads::default());
        let session = sessions.enter(sid);
        let before = session.at();
        a_moment_later();
        request(&sessions, sid, &reads, StatusCode::BAD_REQUEST).await;
        reads.note();
        assert_eq!(session.at(), before, "a request that was refused proves nothing");
        let later = a_moment_later();
        request(&sessions, sid, &reads, StatusCode::OK).await;
        assert!(session.at() + Duration::from_millis(1) > later);
        let at = session.at();
        a_moment_later();
        reads.note();
        assert_eq!(session.at(), at, "polling shares its connection with others");
    }

    #[tokio::test]
    async fn an_upgraded_connection_is_its_sessions_own() {
        let (sessions, sid, reads) = (Sessions::default(), Sid::new(), Reads::default());
        // The upgrade may come before the session connects to the namespace.
        request(&sessions, sid, &reads, StatusCode::SWITCHING_PROTOCOLS).await;
        let session = sessions.enter(sid);
        let later = a_moment_later();
        reads.note();
        assert!(session.at() + Duration::from_millis(1) > later);
    }
}
