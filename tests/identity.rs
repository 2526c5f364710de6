//! The real binary with keys: who gets in by Socket.IO, WHIP and the token route, who does not, and what leaks.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, missing_docs)]

mod plain;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use futures_util::future::join_all;
use futures_util::{SinkExt, StreamExt};
use jsonwebtoken::{EncodingKey, Header};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use crate::plain::plain;

/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);
const SECRET: &str = "the-secret-of-this-very-test-0123456789";
const PAIR: (&str, &str) = ("app", "the-pair-of-this-very-test-0123456789");
const ADMIN: &str = "the-admin-of-this-very-test-0123456789";

fn lyceum() -> Command {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let mut command = plain(env!("CARGO_BIN_EXE_lyceum"));
    let store = format!("identity-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    command.env("LYCEUM__STORE__DIR", PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(store));
    command.env("LYCEUM__TURN__PORT", "0").env("LYCEUM__TURN__TLS_PORT", "0");
    command.env("LYCEUM__LOG__LEVEL", "debug");
    command.args(["--admin-listen", "127.0.0.1:0", "--media-port", "0", "--workers", "1", "--log-format", "json"]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

struct Server {
    child: Child,
    http: SocketAddr,
    admin: SocketAddr,
    log: Arc<Mutex<String>>,
}

impl Server {
    /// With [`SECRET`], [`PAIR`] and [`ADMIN`].
    fn start(settings: &[(&str, &str)]) -> Self {
        let mut command = lyceum();
        command.env("JWT_SECRET", SECRET).env("LYCEUM__AUTH__KEYS", format!("{}:{}", PAIR.0, PAIR.1));
        command.env("LYCEUM_ADMIN_KEY", ADMIN).envs(settings.iter().copied());
        Self::run(command)
    }

    fn run(mut command: Command) -> Self {
        command.args(["--listen", "127.0.0.1:0"]);
        let mut child = command.spawn().expect("the binary starts");
        let mut lines = BufReader::new(child.stderr.take().expect("stderr is piped")).lines();
        let log = Arc::new(Mutex::new(String::new()));
        let (http, admin) = loop {
            let line = lines.next().expect("it says where it listens").expect("text");
            let json: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("the log is JSON, not {line}"));
            log.lock().expect("nobody panicked").push_str(&format!("{line}\n"));
            if json["message"] == "listening" {
                let address = |key: &str| json[key].as_str().and_then(|a| a.parse().ok()).expect("an address");
                break (address("http"), address("admin"));
            }
        };
        let copy = log.clone();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                copy.lock().expect("nobody panicked").push_str(&format!("{line}\n"));
            }
        });
        Server { child, http, admin, log }
    }

    fn metrics(&self) -> String {
        ask(self.admin, "GET", "/metrics", &[], "").text
    }

    /// Rooms and participants, as the metrics say.
    fn rooms(&self) -> (f64, f64) {
        let page = self.metrics();
        let metric = |name: &str| {
            let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.unwrap_or_else(|| panic!("no {name} in\n{page}")).parse().expect("a number")
        };
        (metric("lyceum_rooms"), metric("lyceum_participants"))
    }

    fn token(&self, headers: &[(&str, &str)], body: Value) -> Answer {
        ask(self.http, "POST", "/v1/video/token", headers, &body.to_string())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Answer {
    status: u16,
    head: String,
    text: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("JSON, not {}", self.text))
    }

    /// The status and the code of a problem.
    fn refusal(&self) -> (u16, String) {
        assert!(self.head.contains("application/problem+json"), "{}", self.head);
        (self.status, self.json()["code"].as_str().expect("a code").to_owned())
    }
}

/// One request that ends the connection, and its answer.
fn ask(to: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let mut stream = TcpStream::connect(to).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: {to}\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n{body}"
    );
    stream.write_all(request.as_bytes()).expect("it reads");
    let mut text = Vec::new();
    let _ = stream.read_to_end(&mut text);
    let text = String::from_utf8_lossy(&text).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    Answer { status, head: head.to_ascii_lowercase(), text: body.to_owned() }
}

/// Unix time in seconds, some seconds from now.
fn soon(seconds: i64) -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    i64::try_from(now).expect("before the year 9999") + seconds
}

fn sign(claims: &Value, secret: &str) -> String {
    jsonwebtoken::encode(&Header::default(), claims, &EncodingKey::from_secret(secret.as_bytes())).expect("it signs")
}

fn join_token(session: &str, user: &str, role: &str) -> String {
    let claims = json!({ "aud": "lyceum", "sub": user, "sessionId": session, "role": role, "exp": soon(600), "jti": format!("{session}-{user}") });
    sign(&claims, SECRET)
}

fn user_token(user: &str) -> String {
    sign(&json!({ "sub": user, "aud": "authenticated", "role": "authenticated", "exp": soon(600) }), SECRET)
}

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

fn basic(id: &str, secret: &str) -> String {
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("{id}:{secret}")))
}

struct Client {
    socket: WebSocketStream<MaybeTlsStream<tokio::net::TcpStream>>,
    acks: usize,
}

impl Client {
    /// Connects with this as `auth`; the error is the message of `connect_error`.
    async fn connect(server: &Server, auth: Option<&Value>) -> Result<Self, String> {
        let url = format!("ws://{}/socket.io/?EIO=4&transport=websocket", server.http);
        let (socket, _) = tokio_tungstenite::connect_async(url).await.expect("it upgrades");
        let mut client = Client { socket, acks: 0 };
        assert!(client.next().await.is_some_and(|open| open.starts_with('0')));
        let connect = format!("40{}", auth.map(Value::to_string).unwrap_or_default());
        client.socket.send(Message::text(connect)).await.expect("it reads");
        let answer = client.next().await.expect("an answer");
        match answer.strip_prefix("44") {
            None => {
                assert!(answer.starts_with("40{\"sid\""), "{answer}");
                Ok(client)
            }
            Some(error) => {
                let error: Value = serde_json::from_str(error).expect("JSON");
                Err(error["message"].as_str().expect("a message").to_owned())
            }
        }
    }

    async fn with_token(server: &Server, token: &str) -> Self {
        Self::connect(server, Some(&json!({ "token": token }))).await.expect("a good token")
    }

    async fn next(&mut self) -> Option<String> {
        loop {
            match tokio::time::timeout(PATIENCE, self.socket.next()).await.expect("an answer in time") {
                Some(Ok(Message::Text(text))) if text.as_str() == "2" => {
                    let _ = self.socket.send(Message::text("3")).await;
                }
                Some(Ok(Message::Text(text))) => return Some(text.as_str().to_owned()),
                Some(Ok(Message::Close(_)) | Err(_)) | None => return None,
                Some(Ok(_)) => {}
            }
        }
    }

    /// Emits, and waits for the ack.
    async fn emit(&mut self, event: &str, payload: Value) -> Value {
        self.acks += 1;
        let (packet, wanted) = (format!("42{}{}", self.acks, json!([event, payload])), format!("43{}[", self.acks));
        self.socket.send(Message::text(packet)).await.expect("it reads");
        loop {
            let text = self.next().await.expect("an ack");
            if let Some(rest) = text.strip_prefix(&wanted) {
                return serde_json::from_str(rest.strip_suffix(']').expect("an array")).expect("JSON");
            }
        }
    }

    async fn join(&mut self, session: &str, user: &str) -> Value {
        let payload = json!({ "sessionId": session, "userId": user, "userName": user, "isInstructor": true });
        self.emit("join-session", payload).await
    }
}

#[tokio::test]
async fn a_socket_needs_a_token_and_is_who_it_says() {
    let server = Server::start(&[]);
    let good = join_token("algebra", "ada", "participant");
    let refused = [
        (None, "auth/missing"),
        (Some(json!({})), "auth/missing"),
        (Some(json!({ "token": null })), "auth/missing"),
        (Some(json!({ "token": "" })), "auth/invalid"),
        (Some(json!({ "token": [good] })), "auth/invalid"),
        (Some(json!({ "token": format!("{good}{good}") })), "auth/invalid"),
        (Some(json!({ "token": "x".repeat(100_000) })), "auth/invalid"),
        (Some(json!({ "token": user_token("ada") })), "auth/invalid"),
        (
            Some(
                json!({ "token": sign(&json!({ "aud": "lyceum", "sub": "ada", "sessionId": "algebra", "exp": soon(600) }), PAIR.1) }),
            ),
            "auth/invalid",
        ),
        (
            Some(
                json!({ "token": sign(&json!({ "aud": "lyceum", "sub": "ada", "sessionId": "algebra", "exp": soon(-100_000) }), SECRET) }),
            ),
            "auth/expired",
        ),
    ];
    for (auth, code) in refused {
        assert_eq!(Client::connect(&server, auth.as_ref()).await.err().as_deref(), Some(code), "{auth:?}");
    }
    assert_eq!(server.rooms(), (0.0, 0.0));
    let mut ada = Client::with_token(&server, &good).await;
    let ack = ada.join("algebra", "grace").await;
    assert_eq!(
        (&ack["ok"], &ack["userId"], &ack["role"]),
        (&json!(true), &json!("ada"), &json!("participant")),
        "{ack}"
    );
    assert_eq!(ack["permissions"]["moderate"], false);
    assert_eq!(server.rooms(), (1.0, 1.0));
}

/// ABUSE J3.
#[tokio::test]
async fn a_token_opens_one_room_and_changes_nothing_elsewhere() {
    let server = Server::start(&[]);
    let mut inside = Client::with_token(&server, &join_token("geometry", "grace", "participant")).await;
    assert_eq!(inside.join("geometry", "grace").await["ok"], true);
    // Side by side: an early event is held for 2 s, and who is inside must not be silent for 20.
    let names = ["geometry", "*", "Algebra", "algebra%20", "аlgebra", "../algebra", "algebra\u{200b}"];
    let strangers = names.map(async |session| {
        let mut stranger = Client::with_token(&server, &join_token("algebra", "ada", "instructor")).await;
        let ack = stranger.join(session, "ada").await;
        assert_eq!(ack["error"]["code"], "session/forbidden", "{session}: {ack}");
        let ack = stranger.emit("moderate", json!({ "action": "lock", "sessionId": session })).await;
        assert_eq!(ack["ok"], false, "{session}: {ack}");
    });
    join_all(strangers).await;
    // A token for what only looks like the room is good for that alone.
    let strangers = ["*", "GEOMETRY", "geometry%20"].map(async |session| {
        let mut stranger = Client::with_token(&server, &join_token(session, "ada", "instructor")).await;
        let ack = stranger.join("geometry", "ada").await;
        assert_eq!(ack["error"]["code"], "session/forbidden", "{session}: {ack}");
    });
    join_all(strangers).await;
    assert_eq!(server.rooms(), (1.0, 1.0), "no room was made, and nobody came into the other");
    // All that was told inside since its join is the roster; a fence shows that nothing else is on its way.
    inside
        .socket
        .send(Message::text(format!("4299{}", json!(["raise-hand", { "raised": false }]))))
        .await
        .expect("it reads");
    loop {
        let text = inside.next().await.expect("an ack");
        if text.starts_with("4399[") {
            break;
        }
        assert!(
            text.starts_with("42[\"participants-update\"") || text.starts_with("42[\"connection-quality\""),
            "{text}"
        );
    }
    // Spaces around a name are no part of it, in tokens as on the wire.
    let mut trimmed = Client::with_token(&server, &join_token(" geometry ", "ada", "participant")).await;
    assert_eq!(trimmed.join("geometry ", "ada").await["ok"], true);
}

/// ABUSE J2, J7: what has expired opens nothing, and does nothing to whom it names.
#[tokio::test]
async fn an_expired_token_opens_nothing_new() {
    let server = Server::start(&[]);
    let mut ada = Client::with_token(&server, &join_token("algebra", "ada", "participant")).await;
    let seat = ada.join("algebra", "ada").await;
    let claims = json!({ "aud": "lyceum", "sub": "ada", "sessionId": "algebra", "exp": soon(-60) });
    let mut late = Client::with_token(&server, &sign(&claims, SECRET)).await;
    let ack = late.join("algebra", "ada").await;
    assert_eq!(ack["error"]["code"], "auth/expired", "{ack}");
    assert_eq!(ada.emit("raise-hand", json!({ "raised": true })).await["ok"], true, "she sits where she sat");
    drop(ada);
    let resume = json!({ "sessionId": "algebra", "userId": "ada", "resumeToken": seat["resumeToken"] });
    let ack = late.emit("join-session", resume).await;
    assert_eq!(
        (&ack["ok"], &ack["resumed"]),
        (&json!(true), &json!(true)),
        "with the seat's own token it is enough: {ack}"
    );
}

#[tokio::test]
async fn a_token_is_renewed_before_it_ends() {
    let server = Server::start(&[("LYCEUM__AUTH__TOKEN_TTL_S", "300")]);
    let claims = json!({ "aud": "lyceum", "sub": "ada", "name": "Ada", "sessionId": "algebra", "role": "instructor",
        "permissions": { "publish": ["camera"] }, "exp": soon(20), "jti": "old" });
    let mut ada = Client::with_token(&server, &sign(&claims, SECRET)).await;
    let seat = ada.join("algebra", "ada").await;
    assert_eq!(seat["ok"], true, "{seat}");
    let event = loop {
        let text = ada.next().await.expect("a token");
        if let Some(rest) = text.strip_prefix("42[\"token\",") {
            break serde_json::from_str::<Value>(rest.strip_suffix(']').expect("an array")).expect("JSON");
        }
    };
    let ends = event["expiresAt"].as_i64().expect("a time") / 1000;
    assert!((soon(240)..=soon(300)).contains(&ends), "{ends}");
    drop(ada);
    let mut ada = Client::with_token(&server, event["token"].as_str().expect("a token")).await;
    let resume = json!({ "sessionId": "algebra", "userId": "ada", "resumeToken": seat["resumeToken"] });
    let back = ada.emit("join-session", resume).await;
    for same in ["userId", "role", "permissions", "participantId"] {
        assert_eq!(back[same], seat[same], "{same}");
    }
}

#[test]
fn whip_needs_a_token() {
    let server = Server::start(&[]);
    let sdp = ("content-type", "application/sdp");
    let post = |path: &str, authorization: Option<&str>| {
        let headers: Vec<_> = [sdp].into_iter().chain(authorization.map(|value| ("authorization", value))).collect();
        ask(server.http, "POST", path, &headers, "v=0").refusal()
    };
    let missing = (401, "auth/missing".to_owned());
    let invalid = (401, "auth/invalid".to_owned());
    for path in ["/whip/algebra?userId=ada", "/whep/algebra"] {
        assert_eq!(post(path, None), missing);
        assert_eq!(post(path, Some(&basic(PAIR.0, PAIR.1))), missing, "who publishes is not said by it");
        assert_eq!(post(path, Some("Bearer x")), invalid);
        assert_eq!(post(path, Some(&bearer(&user_token("ada")))), invalid);
        let expired = sign(&json!({ "aud": "lyceum", "sub": "ada", "sessionId": "algebra", "exp": soon(-60) }), SECRET);
        assert_eq!(post(path, Some(&bearer(&expired))), (401, "auth/expired".to_owned()));
    }
    let good = bearer(&join_token("algebra", "ada", "participant"));
    assert_eq!(post("/whip/algebra", Some(&good)), (400, "media/invalid_sdp".to_owned()), "it is the offer's turn");
    assert_eq!(post("/whip/geometry", Some(&good)).1, "session/forbidden");
    assert_eq!(server.rooms(), (0.0, 0.0));
}

#[tokio::test]
async fn users_get_tokens_for_rooms_that_are_open_to_them() {
    let closed = Server::start(&[]);
    let user = bearer(&user_token("ada"));
    let refused = closed.token(&[("authorization", &user)], json!({ "sessionId": "algebra" }));
    assert_eq!(refused.refusal(), (403, "session/forbidden".to_owned()));
    drop(closed);
    let server = Server::start(&[("LYCEUM__AUTH__ANY_USER_MAY_JOIN", "true")]);
    let asked = json!({ "sessionId": " algebra ", "userName": "Ada", "role": "instructor", "userId": "grace", "permissions": { "moderate": true } });
    let answer = server.token(&[("authorization", &user)], asked);
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert!(answer.head.contains("cache-control: no-store"), "{}", answer.head);
    let body = answer.json();
    assert_eq!(
        (&body["userId"], &body["sessionId"], &body["role"]),
        (&json!("ada"), &json!("algebra"), &json!("participant"))
    );
    assert_eq!(body["permissions"]["moderate"], false, "a user's own token never makes more of them");
    assert_eq!(body["url"], format!("http://{}", server.http));
    let ends = body["expiresAt"].as_i64().expect("a time");
    assert!((soon(840)..=soon(900)).contains(&(ends / 1000)), "{ends}");
    assert!(body["iceServers"][0]["credential"].is_string(), "our own TURN server is told of: {body}");
    let mut ada = Client::with_token(&server, body["token"].as_str().expect("a token")).await;
    let ack = ada.join("algebra", "ada").await;
    assert_eq!((&ack["userId"], &ack["role"]), (&json!("ada"), &json!("participant")), "{ack}");
    assert_eq!(ack["participants"][0]["userName"], "Ada");
    let less = server.token(&[("authorization", &user)], json!({ "sessionId": "algebra", "role": "observer" })).json();
    assert_eq!((&less["role"], &less["permissions"]["publish"]), (&json!("observer"), &json!([])));
}

#[tokio::test]
async fn applications_get_any_token() {
    let server = Server::start(&[]);
    let pair = basic(PAIR.0, PAIR.1);
    let asked = json!({ "sessionId": "algebra", "userId": 7, "userName": "Grace", "role": "instructor", "ttlS": 60,
        "permissions": { "publish": ["microphone"] } });
    let answer = server.token(&[("authorization", &pair)], asked);
    assert_eq!(answer.status, 200, "{}", answer.text);
    let body = answer.json();
    assert_eq!((&body["userId"], &body["role"]), (&json!("7"), &json!("instructor")));
    assert_eq!(
        body["permissions"],
        json!({ "publish": ["microphone"], "subscribe": true, "chat": true, "data": true, "moderate": true })
    );
    assert!((soon(0)..=soon(60)).contains(&(body["expiresAt"].as_i64().expect("a time") / 1000)));
    let mut grace = Client::with_token(&server, body["token"].as_str().expect("a token")).await;
    let ack = grace.join("algebra", "7").await;
    assert_eq!((&ack["role"], &ack["permissions"]), (&json!("instructor"), &body["permissions"]), "{ack}");
}

#[test]
fn what_is_no_request_gets_no_token() {
    let server = Server::start(&[("LYCEUM__AUTH__ANY_USER_MAY_JOIN", "true")]);
    let (user, pair) = (bearer(&user_token("ada")), basic(PAIR.0, PAIR.1));
    let good = json!({ "sessionId": "algebra", "userId": "ada" });
    let anon = bearer(&sign(&json!({ "role": "anon", "iss": "supabase", "exp": soon(600) }), SECRET));
    let expired = bearer(&sign(&json!({ "sub": "ada", "exp": soon(-31) }), SECRET));
    for (authorization, code) in [
        (basic(PAIR.0, SECRET), "auth/invalid"),
        (basic("other", PAIR.1), "auth/invalid"),
        (basic("", ""), "auth/invalid"),
        ("Basic !!!".to_owned(), "auth/invalid"),
        ("Digest x".to_owned(), "auth/invalid"),
        ("Bearer".to_owned(), "auth/invalid"),
        (bearer(&join_token("algebra", "ada", "participant")), "auth/invalid"),
        (bearer(ADMIN), "auth/invalid"),
        (anon, "auth/invalid"),
        (expired, "auth/expired"),
    ] {
        let answer = server.token(&[("authorization", &authorization)], good.clone());
        assert_eq!(answer.refusal(), (401, code.to_owned()), "{authorization}");
        assert!(answer.head.contains("www-authenticate: bearer"), "{}", answer.head);
    }
    assert_eq!(server.token(&[], good.clone()).refusal(), (401, "auth/missing".to_owned()));
    let twice = [("authorization", user.as_str()), ("authorization", pair.as_str())];
    assert_eq!(server.token(&twice, good).refusal(), (401, "auth/invalid".to_owned()));
    for (authorization, body) in [
        (&user, json!([])),
        (&user, json!({})),
        (&user, json!({ "sessionId": "" })),
        (&user, json!({ "sessionId": "a\u{0}b" })),
        (&user, json!({ "sessionId": "x".repeat(129) })),
        (&user, json!({ "sessionId": "a", "role": "admin" })),
        (&user, json!({ "sessionId": "a", "userName": ["x"] })),
        (&pair, json!({ "sessionId": "a" })),
        (&pair, json!({ "sessionId": "a", "userId": "sfu" })),
        (&pair, json!({ "sessionId": "a", "userId": "b", "permissions": { "publish": "all" } })),
        (&pair, json!({ "sessionId": "a", "userId": "b", "ttlS": 1e9 })),
    ] {
        let answer = server.token(&[("authorization", authorization)], body.clone());
        assert_eq!(answer.refusal(), (400, "request/invalid".to_owned()), "{body}");
    }
    assert_eq!(server.rooms(), (0.0, 0.0));
}

#[test]
fn a_user_who_asks_too_often_is_told_when_to_ask_again() {
    let server = Server::start(&[("LYCEUM__AUTH__ANY_USER_MAY_JOIN", "true")]);
    let ask =
        |user: &str| server.token(&[("authorization", &bearer(&user_token(user)))], json!({ "sessionId": "algebra" }));
    let limited = (0..200).map(|_| ask("ada")).find(|answer| answer.status != 200).expect("there is a limit");
    assert_eq!(limited.refusal(), (429, "rate/limited".to_owned()));
    let wait = limited.head.lines().find_map(|line| line.strip_prefix("retry-after: ")).expect("a time");
    assert!((1..=4).contains(&wait.parse::<u64>().expect("seconds")), "{wait}");
    assert_eq!(ask("grace").status, 200, "others are served");
}

/// A Supabase project with one ES256 key: its URL, and what signs access tokens for a user.
fn supabase() -> (String, impl Fn(&str) -> String) {
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
    let part = |bytes: &[u8]| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes);
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key");
    let point = pair.public_key().as_ref().to_vec();
    let (x, y) = (part(&point[1..33]), part(&point[33..]));
    let key = json!({ "kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "key_ops": ["verify"], "ext": true, "kid": "k1", "x": x, "y": y });
    let set = json!({ "keys": [key] }).to_string();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let (mut request, mut buffer) = (Vec::new(), [0; 4096]);
            while !request.ends_with(b"\r\n\r\n") {
                let read = stream.read(&mut buffer).expect("a request");
                assert!(read > 0, "it ended early");
                request.extend_from_slice(&buffer[..read]);
            }
            assert!(request.starts_with(b"GET /auth/v1/.well-known/jwks.json HTTP/1.1\r\n"));
            let length = set.len();
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{set}");
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    let issuer = format!("{url}/auth/v1");
    let sign = move |user: &str| {
        let claims = json!({ "iss": issuer, "sub": user, "aud": "authenticated", "role": "authenticated", "exp": soon(600),
            "app_metadata": { "provider": "email" }, "user_metadata": { "role": "instructor" } });
        let header = json!({ "alg": "ES256", "typ": "JWT", "kid": "k1" });
        let message = format!("{}.{}", part(header.to_string().as_bytes()), part(claims.to_string().as_bytes()));
        let signature = pair.sign(&aws_lc_rs::rand::SystemRandom::new(), message.as_bytes()).expect("it signs");
        format!("{message}.{}", part(signature.as_ref()))
    };
    (url, sign)
}

#[tokio::test]
async fn users_of_a_supabase_project_get_in_and_their_tokens_outlive_a_restart() {
    let (url, sign) = supabase();
    let store = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("identity-supabase-{}", std::process::id()));
    let start = || {
        let mut command = lyceum();
        command
            .env("SUPABASE_URL", &url)
            .env("LYCEUM__AUTH__ANY_USER_MAY_JOIN", "true")
            .env("LYCEUM__STORE__DIR", &store);
        Server::run(command)
    };
    let server = start();
    let user = sign("6f1c");
    assert_eq!(Client::connect(&server, Some(&json!({ "token": user }))).await.err().as_deref(), Some("auth/invalid"));
    let answer =
        server.token(&[("authorization", &bearer(&user))], json!({ "sessionId": "algebra", "userName": "Ada" }));
    assert_eq!(answer.status, 200, "{}", answer.text);
    let granted = answer.json();
    assert_eq!((&granted["userId"], &granted["role"]), (&json!("6f1c"), &json!("participant")));
    // A stranger's project has a key of the same name.
    let (_, forge) = supabase();
    let forged = server.token(&[("authorization", &bearer(&forge("6f1c")))], json!({ "sessionId": "algebra" }));
    assert_eq!(forged.refusal(), (401, "auth/invalid".to_owned()));
    let token = granted["token"].as_str().expect("a token");
    assert_eq!(Client::with_token(&server, token).await.join("algebra", "x").await["userId"], "6f1c");
    drop(server);
    let server = start();
    assert_eq!(Client::with_token(&server, token).await.join("algebra", "x").await["userId"], "6f1c");
}

/// Answers each request with this body and remembers what was asked.
fn hook(body: &'static str) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}/may-join", listener.local_addr().expect("bound"));
    let asked = Arc::new(Mutex::new(Vec::new()));
    let copy = asked.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let (mut request, mut buffer) = (Vec::new(), [0; 4096]);
            // The body is one JSON object without braces inside, and ends with one.
            while !request.ends_with(b"}") {
                let read = stream.read(&mut buffer).expect("a request");
                assert!(read > 0, "it ended early");
                request.extend_from_slice(&buffer[..read]);
            }
            copy.lock().expect("nobody panicked").push(String::from_utf8(request).expect("text"));
            let length = body.len();
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}");
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    (url, asked)
}

#[test]
fn the_hook_decides() {
    let user = bearer(&user_token("ada"));
    let ask = |body: &'static str| {
        let (url, asked) = hook(body);
        let secret = "what-the-hook-is-shown-0123456789abcd";
        let server = Server::start(&[
            ("LYCEUM__AUTH__HOOK_URL", &url),
            ("LYCEUM__AUTH__HOOK_SECRET", secret),
            ("LYCEUM__AUTH__ANY_USER_MAY_JOIN", "true"),
        ]);
        let answer = server.token(&[("authorization", &user)], json!({ "sessionId": "algebra", "userName": "Ada" }));
        let asked = asked.lock().expect("nobody panicked").concat();
        assert!(asked.contains(r#""sessionId":"algebra""#) && asked.contains(r#""userId":"ada""#), "{asked}");
        assert!(asked.contains(&format!("Bearer {secret}")), "{asked}");
        answer
    };
    let answer = ask(r#"{"allow":true,"role":"instructor"}"#);
    assert_eq!((answer.status, &answer.json()["role"]), (200, &json!("instructor")));
    assert_eq!(ask(r#"{"allow":false}"#).refusal(), (403, "session/forbidden".to_owned()));
    assert_eq!(ask(r#"{"allow":"yes"}"#).refusal(), (503, "server/overloaded".to_owned()));
}

/// Sets the rules of a session as the operator does.
fn put(server: &Server, path: &str, body: Value) {
    let answer = ask(
        server.http,
        "PUT",
        path,
        &[("authorization", &bearer(ADMIN)), ("content-type", "application/json")],
        &body.to_string(),
    );
    assert!((200..300).contains(&answer.status), "{} {}", answer.status, answer.text);
}

#[test]
fn a_roster_lets_its_own_in() {
    let server = Server::start(&[]);
    put(&server, "/v1/sessions/algebra/roster", json!({ "people": [{ "userId": "ada" }] }));
    let ask = |user: &str, session: &str| {
        let answer = server.token(&[("authorization", &bearer(&user_token(user)))], json!({ "sessionId": session }));
        answer.status
    };
    assert_eq!((ask("ada", "algebra"), ask("ada", "geometry"), ask("grace", "algebra")), (200, 403, 403));
}

/// ABUSE J6: as many as there are places, however they come, and never one more.
#[tokio::test]
async fn a_full_room_stays_full() {
    const PLACES: usize = 10;
    let server = Arc::new(Server::start(&[]));
    put(&server, "/v1/sessions/algebra", json!({ "capacity": PLACES }));
    let all: Vec<_> = (0..PLACES + 50)
        .map(|number| {
            let server = server.clone();
            tokio::spawn(async move {
                let user = format!("u{number}");
                let mut client = Client::with_token(&server, &join_token("algebra", &user, "participant")).await;
                let ack = client.join("algebra", &user).await;
                (client, user, ack)
            })
        })
        .collect();
    let (mut seated, mut refused) = (Vec::new(), Vec::new());
    for one in all {
        let (client, user, ack) = one.await.expect("it does not panic");
        if ack["ok"] == true {
            seated.push((client, user, ack));
        } else {
            assert_eq!(ack["error"]["code"], "session/full", "{ack}");
            refused.push((client, user));
        }
    }
    assert_eq!((seated.len(), refused.len()), (PLACES, 50));
    // All who sit there vanish and come back, and all who were refused try to be quicker.
    let back = seated.into_iter().map(|(old, user, seat)| {
        let server = server.clone();
        tokio::spawn(async move {
            drop(old);
            let mut client = Client::with_token(&server, &join_token("algebra", &user, "participant")).await;
            let resume = json!({ "sessionId": "algebra", "userId": user, "resumeToken": seat["resumeToken"] });
            let ack = client.emit("join-session", resume).await;
            assert_eq!(ack["resumed"], true, "{ack}");
            client
        })
    });
    let pushing = refused.into_iter().map(|(mut client, user)| {
        tokio::spawn(async move {
            let ack = client.join("algebra", &user).await;
            assert_eq!(ack["error"]["code"], "session/full", "{ack}");
            client
        })
    });
    let mut all = Vec::new();
    for one in back.chain(pushing).collect::<Vec<_>>() {
        all.push(one.await.expect("it does not panic"));
    }
    assert_eq!(server.rooms(), (1.0, PLACES as f64));
    drop(all);
}

/// ABUSE J5.
#[tokio::test]
async fn who_was_removed_stays_out_whatever_token_comes() {
    let server = Server::start(&[("LYCEUM__AUTH__ANY_USER_MAY_JOIN", "true")]);
    let token = join_token("algebra", "ada", "participant");
    let mut grace = Client::with_token(&server, &join_token("algebra", "grace", "instructor")).await;
    assert_eq!(grace.join("algebra", "grace").await["ok"], true);
    let mut ada = Client::with_token(&server, &token).await;
    let seat = ada.join("algebra", "ada").await;
    // She may not do to others what is about to be done to her.
    let ack = ada.emit("moderate", json!({ "action": "remove", "participantId": seat["participantId"] })).await;
    assert_eq!(ack["ok"], false, "{ack}");
    let ack = grace.emit("moderate", json!({ "action": "remove", "participantId": seat["participantId"] })).await;
    assert_eq!(ack["ok"], true, "{ack}");
    let claims = json!({ "aud": "lyceum", "sub": "ada", "sessionId": "algebra", "role": "instructor", "exp": soon(600), "jti": "new" });
    // The token itself is withdrawn; another lets her connect, and no further.
    let refused = Client::connect(&server, Some(&json!({ "token": token }))).await.err();
    assert_eq!(refused.as_deref(), Some("auth/revoked"));
    let mut ada = Client::with_token(&server, &sign(&claims, SECRET)).await;
    let resume = json!({ "sessionId": "algebra", "userId": "ada", "resumeToken": seat["resumeToken"] });
    let ack = ada.emit("join-session", resume).await;
    assert_eq!(ack["error"]["code"], "auth/revoked", "{ack}");
    let answer = server.token(&[("authorization", &bearer(&user_token("ada")))], json!({ "sessionId": "algebra" }));
    assert_eq!(answer.refusal(), (401, "auth/revoked".to_owned()));
    assert_eq!(server.rooms(), (1.0, 1.0));
}

/// The error shows where it stands and not all that was said.
fn assert_absent(said: &str, secret: &str) {
    let line = said.lines().find(|line| line.contains(secret));
    let found = line.map(|line| line.chars().take(300).collect::<String>());
    assert_eq!(found, None, "{secret} was written");
}

/// ABUSE J8.
#[tokio::test]
async fn no_secret_is_written_anywhere() {
    let mut server = Server::start(&[("LYCEUM__AUTH__ANY_USER_MAY_JOIN", "true"), ("LYCEUM__LOG__LEVEL", "trace")]);
    let mut said = String::new();
    let pair = basic(PAIR.0, PAIR.1);
    let token = join_token("algebra", "ada", "instructor");
    let forged = sign(&json!({ "aud": "lyceum", "sub": "ada", "sessionId": "algebra", "exp": soon(600) }), PAIR.1);
    for shown in [&token, &forged, &user_token("ada")] {
        for (path, body) in
            [("/v1/video/token", "{}"), ("/whip/algebra", "x"), ("/whep/algebra", "x"), ("/nothing", "")]
        {
            for authorization in [bearer(shown), bearer(ADMIN), basic(PAIR.0, SECRET), basic(SECRET, shown)] {
                let headers = [("authorization", authorization.as_str()), ("content-type", "application/sdp")];
                said += &ask(server.http, "POST", path, &headers, body).text;
            }
        }
        said +=
            &Client::connect(&server, Some(&json!({ "token": format!("{shown}x") }))).await.err().unwrap_or_default();
    }
    let granted = server.token(&[("authorization", &pair)], json!({ "sessionId": "algebra", "userId": "ada" })).json();
    let mut ada = Client::with_token(&server, granted["token"].as_str().expect("a token")).await;
    said += &ada.join("algebra", "ada").await.to_string();
    said +=
        &ada.emit("join-session", json!({ "sessionId": token, "userId": forged })).await["error"]["code"].to_string();
    said += &server.metrics();
    said += &ask(server.http, "GET", "/api/health", &[], "").text;
    drop(ada);
    let pid = server.child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().expect("kill exists").success());
    assert!(server.child.wait().expect("it is our child").success());
    said += &server.log.lock().expect("nobody panicked");
    for secret in [SECRET, PAIR.1, ADMIN] {
        assert_absent(&said, secret);
    }
    // So begins each part of a JWT: base64 of a JSON object.
    assert_absent(&said, "eyJ");
}

#[test]
fn what_protects_nothing_ends_the_start() {
    let fails = |settings: &[(&str, &str)], says: &str| {
        let output = lyceum().args(["--listen", "0.0.0.0:0"]).envs(settings.iter().copied()).output();
        let Output { status, stderr, .. } = output.expect("the binary starts");
        let said = String::from_utf8(stderr).expect("text");
        assert_eq!(status.code(), Some(1), "{said}");
        assert!(said.contains(says), "{says} in {said}");
        assert_eq!(said.lines().count(), 1, "one sentence: {said}");
        for (_, value) in settings.iter().filter(|(name, _)| name.contains("SECRET") || name.contains("KEYS")) {
            assert!(!said.contains(value.rsplit(':').next().unwrap_or_default()), "{said}");
        }
    };
    fails(&[("JWT_SECRET", "hush-hush")], "expected at least 32 bytes");
    fails(&[("LYCEUM__AUTH__KEYS", "app:hush-hush")], "expected at least 32 bytes");
    fails(&[("LYCEUM_ADMIN_KEY", "hush-hush"), ("JWT_SECRET", SECRET)], "expected at least 32 bytes");
    fails(&[("LYCEUM__AUTH__MODE", "required")], "but there is no key");
    fails(&[("LYCEUM__AUTH__MODE", "open"), ("JWT_SECRET", SECRET)], "remove one or the other");
    for known in [
        "super-secret-jwt-token-with-at-least-32-characters-long",
        "changeme-changeme-changeme-changeme-changeme",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        "123123123123123123123123123123123123123123",
    ] {
        fails(&[("JWT_SECRET", known)], "anybody could sign tokens with it");
    }
    fails(&[("LYCEUM__AUTH__JWKS_URL", "https://issuer.example/keys")], "needs [auth] issuer and [auth] audience");
}

#[test]
fn required_mode_serves_proxies_and_foreign_hosts_but_no_foreign_pages() {
    let server = Server::start(&[]);
    let status = |headers: &[(&str, &str)]| ask(server.http, "GET", "/api/health", headers, "").status;
    assert_eq!(status(&[("x-forwarded-for", "203.0.113.7"), ("forwarded", "for=203.0.113.7")]), 200);
    assert_eq!(status(&[("origin", "https://evil.example")]), 403);
    let answer =
        ask(server.http, "GET", "/socket.io/?EIO=4&transport=polling", &[("origin", "https://evil.example")], "");
    assert_eq!(answer.status, 403);
    let start = Instant::now();
    while !server.log.lock().expect("nobody panicked").contains("tokens required: JWT_SECRET, 1 API key pair(s)") {
        assert!(start.elapsed() < PATIENCE, "the log says what is asked for");
        std::thread::sleep(Duration::from_millis(20));
    }
}
