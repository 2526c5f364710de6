//! Who is heard, by hand-made requests and on real connections.

use std::net::SocketAddr;

use axum::Router;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tower_service::Service;

use super::*;
use crate::auth::{Auth, OwnKey};
use crate::config::AuthSettings;
use crate::control::{INBOX_MAX, Input};
use crate::outbound::Outbound;
use crate::serve::proxied::Proxies;
use crate::{serve, socketio};

/// How long anything of these tests takes at most.
const TEST_MAX: Duration = Duration::from_secs(30);

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
    assert!(sessions.get(&sid).is_some_and(|other| Arc::ptr_eq(&other, &session)), "one session, whoever came first");
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
    let source = SocketAddr::from(([127, 0, 0, 1], 9));
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

/// A connection on which requests are written by hand.
struct ByHand(TcpStream);

impl ByHand {
    async fn connect(address: SocketAddr) -> Self {
        ByHand(TcpStream::connect(address).await.expect("it listens"))
    }

    /// Sends a request; all of the answer.
    async fn ask(&mut self, method: &str, query: &str, more: &str, body: &str) -> String {
        let length = body.len();
        let head = format!(
            "{method} /socket.io/?EIO=4&{query} HTTP/1.1\r\nHost: localhost\r\n{more}Content-Length: {length}\r\n\r\n"
        );
        self.0.write_all((head + body).as_bytes()).await.expect("it reads");
        self.read(|answer| {
            let (head, body) = answer.split_once("\r\n\r\n")?;
            let head = head.to_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
            let is_chunked = head.contains("transfer-encoding: chunked");
            let is_whole = if is_chunked { body.ends_with("0\r\n\r\n") } else { body.len() >= length.unwrap_or(0) };
            is_whole.then(|| answer.to_owned())
        })
        .await
    }

    /// What comes, once it is complete.
    async fn read(&mut self, complete: impl Fn(&str) -> Option<String>) -> String {
        let mut all = Vec::new();
        let read = async {
            loop {
                assert!(self.0.read_buf(&mut all).await.expect("it answers") > 0, "it ended");
                if let Some(answer) = complete(&String::from_utf8_lossy(&all)) {
                    return answer;
                }
            }
        };
        tokio::time::timeout(TEST_MAX, read).await.expect("in time")
    }
}

#[tokio::test]
async fn a_session_that_moves_to_a_websocket_is_heard_on_each_of_its_connections() {
    let (inbox, mut inputs) = mpsc::channel(INBOX_MAX);
    let sessions = Sessions::default();
    let auth = Auth::new(&AuthSettings::default(), OwnKey::fleeting(), &Outbound::new(&[]));
    let (layer, _sockets) = socketio::layer(inbox, sessions.clone(), auth);
    let router = Router::new()
        // A service, for a handler would be wrapped anew for each request, and with it all sessions.
        .fallback_service(axum::routing::get(|| async { StatusCode::NOT_FOUND }))
        .layer(layer)
        .layer(axum::middleware::from_fn_with_state(sessions, listen));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let server = tokio::spawn(serve::serve(listener, router, Proxies::default()));

    let mut polling = ByHand::connect(address).await;
    let opened = polling.ask("GET", "transport=polling", "", "").await;
    let sid =
        opened.split_once("\"sid\":\"").and_then(|(_, rest)| rest.split_once('"')).expect("a session").0.to_owned();
    let session = format!("transport=polling&sid={sid}");
    let lobby = tokio::spawn(async move {
        let Some(Input::Connected { heard, verdict, .. }) = inputs.recv().await else { panic!("it connects first") };
        verdict.send(Ok(())).expect("the handshake waits for it");
        (heard, inputs)
    });
    let posted = polling.ask("POST", &session, "", "40").await;
    assert!(posted.starts_with("HTTP/1.1 200"), "{posted}");
    let connected = tokio::time::timeout(TEST_MAX, lobby).await.expect("in time");
    let (heard, _inputs) = connected.expect("it does not panic");
    let heard_since = |then: Instant| heard.at() + Duration::from_millis(1) > then;

    let then = a_moment_later();
    let mut another = ByHand::connect(address).await;
    assert!(another.ask("GET", &session, "", "").await.contains("40{"), "a poll by any connection");
    assert!(heard_since(then));

    let then = a_moment_later();
    polling.ask("GET", "transport=polling", "", "").await;
    assert!(!heard_since(then), "another session on the same connection");

    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n";
    let mut websocket = ByHand::connect(address).await;
    let upgraded = websocket.ask("GET", &format!("transport=websocket&sid={sid}"), upgrade, "").await;
    assert!(upgraded.starts_with("HTTP/1.1 101"), "{upgraded}");
    let then = a_moment_later();
    // A text frame, masked with zeros.
    let probe = [&[0x81, 0x80 | 6, 0, 0, 0, 0][..], b"2probe"].concat();
    websocket.0.write_all(&probe).await.expect("it reads");
    websocket.read(|answer| answer.ends_with("3probe").then(String::new)).await;
    assert!(heard_since(then));
    server.abort();
}
