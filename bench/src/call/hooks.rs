//! A receiver of webhooks: it verifies each as Standard Webhooks say, answers at once, and writes down what came in which order.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::seat::unix_ms;

/// Longest request; a longer one is refused. Summaries of large meetings are long.
const REQUEST_BYTES_MAX: usize = 16 << 20;
/// Longest head of a request.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// Events kept. When full, further ones are refused, so that the server keeps them.
const EVENTS_MAX: usize = 1_000_000;
/// How long a connection may say nothing.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// How far a timestamp may be from our clock, s.
const TOLERANCE_S: u64 = 300;

/// By their names in lower case.
type Headers = BTreeMap<String, String>;

/// What an event said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// `webhook-id`.
    pub id: String,
    /// Its type.
    pub kind: String,
    /// The session.
    pub session: String,
    /// The meeting.
    pub meeting: String,
    /// Its place among the session's events.
    pub room_seq: u64,
    /// The connection, if it is about one.
    pub connection: String,
    /// The user, if it is about one.
    pub user: String,
    /// When what it tells of happened, Unix ms.
    pub at: u64,
}

impl Event {
    fn read(id: &str, body: &[u8]) -> Option<Event> {
        let body: Value = serde_json::from_slice(body).ok()?;
        let data = &body["data"];
        let word = |key: &str| data[key].as_str().unwrap_or_default().to_owned();
        let at = ["joinedAt", "leftAt", "startedAt", "at"].iter().find_map(|key| data[*key].as_u64());
        Some(Event {
            id: id.to_owned(),
            kind: body["type"].as_str()?.to_owned(),
            session: word("sessionId"),
            meeting: word("meetingId"),
            room_seq: body["roomSeq"].as_u64()?,
            connection: word("connectionId"),
            user: word("userId"),
            at: at.or(body["timestamp"].as_u64())?,
        })
    }
}

#[derive(Default)]
struct Came {
    events: Vec<Event>,
    requests: u64,
    refused: u64,
}

/// Listens as long as the runtime does. Cheap to clone.
#[derive(Clone)]
pub struct Hooks {
    address: SocketAddr,
    key: Arc<hmac::Key>,
    came: Arc<Mutex<Came>>,
    lose: Option<u64>,
}

impl Hooks {
    /// Listens. `secret` is `whsec_…`. `lose` is a deliberate fault: the event of that number, from 1, is taken and forgotten.
    ///
    /// # Errors
    /// If the address is taken or the secret is none.
    pub async fn listen(address: SocketAddr, secret: &str, lose: Option<u64>) -> io::Result<Hooks> {
        let key = secret.trim().strip_prefix("whsec_").and_then(|secret| STANDARD.decode(secret).ok());
        let key = key.ok_or_else(|| io::Error::other("the webhook secret is whsec_ and Base64 behind it"))?;
        let listener = TcpListener::bind(address).await?;
        let hooks = Hooks {
            address: listener.local_addr()?,
            key: Arc::new(hmac::Key::new(hmac::HMAC_SHA256, &key)),
            came: Arc::default(),
            lose,
        };
        let acceptor = hooks.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let hooks = acceptor.clone();
                // What is no request ends its connection, and the server tries again.
                tokio::spawn(async move { hooks.serve(stream).await });
            }
        });
        Ok(hooks)
    }

    /// Where webhooks go.
    pub fn url(&self) -> String {
        format!("http://{}/hooks", self.address)
    }

    /// What came, in order.
    pub fn events(&self) -> Vec<Event> {
        self.came().events.clone()
    }

    /// Requests that were refused: wrong signatures, above all.
    pub fn refused(&self) -> u64 {
        self.came().refused
    }

    fn came(&self) -> MutexGuard<'_, Came> {
        self.came.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn serve(&self, mut stream: TcpStream) -> io::Result<()> {
        let mut held = Vec::new();
        loop {
            let request = tokio::time::timeout(IDLE_TIMEOUT, read_request(&mut stream, &mut held)).await;
            let Some((headers, body)) = request.map_err(|_| io::ErrorKind::TimedOut)?? else { return Ok(()) };
            let status = self.take(&headers, &body);
            stream.write_all(format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n").as_bytes()).await?;
        }
    }

    fn take(&self, headers: &Headers, body: &[u8]) -> &'static str {
        let header = |name: &str| headers.get(name).map(String::as_str).unwrap_or_default();
        let (id, timestamp) = (header("webhook-id"), header("webhook-timestamp"));
        let believed = self.verify(id, timestamp, header("webhook-signature"), body);
        let event = Event::read(id, body).filter(|_| believed);
        let mut came = self.came();
        came.requests += 1;
        let Some(event) = event.filter(|_| came.events.len() < EVENTS_MAX) else {
            came.refused += 1;
            return "401 Unauthorized";
        };
        if Some(came.requests) != self.lose {
            came.events.push(event);
        }
        "204 No Content"
    }

    /// HMAC-SHA256 over `id.timestamp.body` under one of the signatures, and a timestamp of now.
    fn verify(&self, id: &str, timestamp: &str, signatures: &str, body: &[u8]) -> bool {
        let signed = [id.as_bytes(), b".", timestamp.as_bytes(), b".", body].concat();
        let mut given = signatures.split(' ').filter_map(|it| STANDARD.decode(it.strip_prefix("v1,")?).ok());
        let fresh = timestamp.parse::<u64>().is_ok_and(|at| at.abs_diff(unix_ms() / 1_000) <= TOLERANCE_S);
        fresh && !id.is_empty() && given.any(|tag| hmac::verify(&self.key, &signed, &tag).is_ok())
    }
}

/// The next request on a connection: its headers by their names in lower case, and its body. `None` at its end.
async fn read_request(stream: &mut TcpStream, held: &mut Vec<u8>) -> io::Result<Option<(Headers, Vec<u8>)>> {
    let head_len = loop {
        if let Some(at) = held.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        if held.len() > HEAD_BYTES_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        if stream.read_buf(held).await? == 0 {
            return Ok(None);
        }
    };
    let head = String::from_utf8_lossy(&held[..head_len]).into_owned();
    let lines = head.lines().skip(1).filter_map(|line| line.split_once(':'));
    let headers: Headers = lines.map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned())).collect();
    let length: usize = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    if length > REQUEST_BYTES_MAX {
        return Err(io::ErrorKind::InvalidData.into());
    }
    while held.len() < head_len + length {
        if stream.read_buf(held).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    let body = held[head_len..head_len + length].to_vec();
    held.drain(..head_len + length);
    Ok(Some((headers, body)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    async fn post(hooks: &Hooks, id: &str, timestamp: u64, body: &str, spoil: bool) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &STANDARD.decode(&SECRET[6..]).expect("Base64"));
        let tag = hmac::sign(&key, format!("{id}.{timestamp}.{body}").as_bytes());
        let body = if spoil { body.replace("ann", "eve") } else { body.to_owned() };
        let request = format!(
            "POST /hooks HTTP/1.1\r\nWebhook-Id: {id}\r\nwebhook-timestamp: {timestamp}\r\nwebhook-signature: v1,{}\r\ncontent-length: {}\r\n\r\n{body}",
            STANDARD.encode(tag),
            body.len()
        );
        let mut stream = TcpStream::connect(hooks.address).await.expect("it listens");
        stream.write_all(request.as_bytes()).await.expect("it reads");
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await.expect("it answers");
        String::from_utf8_lossy(&answer[9..]).into_owned()
    }

    #[tokio::test]
    async fn what_is_signed_is_written_down_and_all_else_refused() {
        let hooks = Hooks::listen(([127, 0, 0, 1], 0).into(), SECRET, Some(2)).await.expect("a free port");
        let body = r#"{"type":"participant.left","timestamp":5,"data":{"meetingId":"m","sessionId":"s","userId":"ann","connectionId":"c","leftAt":7},"roomSeq":3}"#;
        let now = unix_ms() / 1_000;
        assert_eq!(post(&hooks, "msg_1", now, body, false).await, "204");
        assert_eq!(post(&hooks, "msg_2", now, body, false).await, "204", "it is lost on purpose");
        assert_eq!(post(&hooks, "msg_3", now, body, true).await, "401");
        assert_eq!(post(&hooks, "msg_4", now - 1_000, body, false).await, "401");
        let events = hooks.events();
        assert_eq!((events.len(), hooks.refused()), (1, 2));
        assert_eq!((&*events[0].id, &*events[0].user, events[0].at, events[0].room_seq), ("msg_1", "ann", 7, 3));
    }
}
