//! TURN as browsers meet it: an allocation (RFC 8656 §7) by each URL that they are told, with credentials that the running server
//! gives to its operator.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs as _, UdpSocket};

use serde_json::Value;
use turn_server::credential::md5_key;
use turn_server::stun::{Class, Message, Method, TransactionId, Writer};

use super::web::{self, Stream};
use crate::addresses::public::{ANSWER_MAX, TRIES};
use crate::ask;
use crate::config::Settings;
use crate::tls::ALPN_TURN;

/// `UDP` of the protocol numbers that REQUESTED-TRANSPORT names (RFC 8656 §18.7).
const TRANSPORT_UDP: u8 = 17;
/// Of a message's head (RFC 8489 §5).
const HEAD_BYTES: usize = 20;
/// Longest message that is read.
const MESSAGE_BYTES_MAX: usize = 1_500;
/// Addresses of a name that are tried; further ones are not.
const ADDRESSES_MAX: usize = 4;
/// Requests until an allocation is there or never will be: one to be told the nonce, one for it, one if it was stale.
const REQUESTS_MAX: usize = 3;

/// A server that browsers are told of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Server {
    ways: Vec<Way>,
    username: String,
    /// A secret, good for a minute.
    password: String,
}

/// One of its URLs.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Way {
    /// `UDP`, `TCP` or `TLS`.
    name: &'static str,
    host: String,
    port: u16,
}

/// What came of one way to one address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tried {
    /// `UDP`, `TCP` or `TLS`.
    pub(super) way: &'static str,
    /// An address and a port, or where a name is what counts, that and a port.
    pub(super) at: String,
    pub(super) port: u16,
    /// An allocation was made, and not only asked what address the server sees.
    pub(super) is_allocated: bool,
    /// How the server sees us, or why there was no answer.
    pub(super) seen: Result<SocketAddr, String>,
}

/// Asks the running server.
pub(super) fn told(settings: &Settings) -> Result<Vec<Server>, String> {
    let shown = ask::credentials(&settings.auth);
    let answer = ask::admin(settings, "POST", "/turn", shown.as_deref()).map_err(|failure| failure.to_string())?;
    if answer.status != 200 {
        return Err(format!("the server refuses ({})", answer.status));
    }
    let body: Value = serde_json::from_str(&answer.body).map_err(|_| "the answer is no JSON".to_owned())?;
    Ok(body["iceServers"].as_array().map(|servers| servers.iter().filter_map(server).collect()).unwrap_or_default())
}

fn server(value: &Value) -> Option<Server> {
    let text = |key: &str| value[key].as_str().map(str::to_owned);
    let ways: Vec<Way> = value["urls"].as_array()?.iter().filter_map(|url| way(url.as_str()?)).collect();
    let server = Server { ways, username: text("username")?, password: text("credential")? };
    (!server.ways.is_empty()).then_some(server)
}

/// RFC 7065 §3.1.
fn way(url: &str) -> Option<Way> {
    let (scheme, rest) = url.split_once(':')?;
    let (at, query) = rest.split_once('?').unwrap_or((rest, ""));
    let is_tcp = query.split('&').any(|pair| pair == "transport=tcp");
    let (name, default) = match scheme {
        "turn" if is_tcp => ("TCP", 3478),
        "turn" => ("UDP", 3478),
        // DTLS is none of ours.
        "turns" if is_tcp || query.is_empty() => ("TLS", 5349),
        _ => return None,
    };
    let (host, port) = match at.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()?),
        _ => (at, default),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    Some(Way { name, host, port })
}

/// An allocation by each way, at each address.
pub(super) fn tried(server: &Server) -> Vec<Tried> {
    let mut all = Vec::new();
    for way in &server.ways {
        let tried = |at: String, seen: io::Result<SocketAddr>| {
            let seen = seen.map_err(|error| error.to_string());
            Tried { way: way.name, at, port: way.port, is_allocated: true, seen }
        };
        let shown = match way.host.parse::<IpAddr>() {
            Ok(address) => SocketAddr::new(address, way.port).to_string(),
            Err(_) => format!("{}:{}", way.host, way.port),
        };
        let found = match (way.host.as_str(), way.port).to_socket_addrs() {
            Ok(found) => found.take(ADDRESSES_MAX).collect::<Vec<_>>(),
            Err(_) => {
                let unknown = io::Error::new(io::ErrorKind::NotFound, format!("the name {} cannot be found", way.host));
                all.push(tried(shown, Err(unknown)));
                continue;
            }
        };
        for at in found {
            let seen = link(way, at).and_then(|link| Allocation::new(server, link).open());
            all.push(tried(if way.name == "TLS" { shown.clone() } else { at.to_string() }, seen));
        }
    }
    all
}

/// What carries messages.
enum Link {
    Datagrams(UdpSocket),
    Stream(Box<dyn Stream>),
}

fn link(way: &Way, at: SocketAddr) -> io::Result<Link> {
    if way.name == "UDP" {
        let socket = UdpSocket::bind(if at.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
        socket.connect(at)?;
        socket.set_read_timeout(Some(ANSWER_MAX / TRIES))?;
        return Ok(Link::Datagrams(socket));
    }
    let stream = TcpStream::connect_timeout(&at, ANSWER_MAX)?;
    stream.set_read_timeout(Some(ANSWER_MAX))?;
    stream.set_write_timeout(Some(ANSWER_MAX))?;
    if way.name == "TCP" {
        return Ok(Link::Stream(Box::new(stream)));
    }
    Ok(Link::Stream(Box::new(web::secure(&way.host, stream, ALPN_TURN)?)))
}

impl Link {
    /// Sends a request until it is answered. What answers something else is passed over.
    fn ask(&mut self, request: &[u8], id: TransactionId) -> io::Result<Vec<u8>> {
        let is_answer = |bytes: &[u8]| Message::parse(bytes).is_some_and(|message| message.transaction_id() == id);
        match self {
            Link::Datagrams(socket) => {
                let mut answer = [0; MESSAGE_BYTES_MAX];
                for _ in 0..TRIES {
                    socket.send(request)?;
                    match socket.recv(&mut answer) {
                        Ok(bytes) => {
                            let answer = answer.get(..bytes).unwrap_or_default();
                            if is_answer(answer) {
                                return Ok(answer.to_vec());
                            }
                        }
                        Err(error) if is_late(&error) => {}
                        Err(error) => return Err(error),
                    }
                }
                Err(io::Error::new(io::ErrorKind::TimedOut, "no answer"))
            }
            Link::Stream(stream) => {
                stream.write_all(request)?;
                stream.flush()?;
                let mut answer = vec![0; HEAD_BYTES];
                let late =
                    |error| if is_late(&error) { io::Error::new(io::ErrorKind::TimedOut, "no answer") } else { error };
                stream.read_exact(&mut answer).map_err(late)?;
                let more = match answer[..] {
                    [_, _, high, low, ..] => usize::from(u16::from_be_bytes([high, low])).min(MESSAGE_BYTES_MAX),
                    _ => 0,
                };
                answer.resize(HEAD_BYTES + more, 0);
                stream.read_exact(answer.get_mut(HEAD_BYTES..).unwrap_or_default()).map_err(late)?;
                is_answer(&answer)
                    .then_some(answer)
                    .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "what answers is no TURN server"))
            }
        }
    }
}

fn is_late(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

/// One allocation, which ends as soon as it is there.
struct Allocation<'a> {
    server: &'a Server,
    link: Link,
    /// What the server asked for: its realm and its nonce.
    challenge: Option<(String, Vec<u8>)>,
}

impl<'a> Allocation<'a> {
    fn new(server: &'a Server, link: Link) -> Self {
        Allocation { server, link, challenge: None }
    }

    /// How the server sees us, once it has granted one.
    fn open(mut self) -> io::Result<SocketAddr> {
        let refused = |why: String| io::Error::new(io::ErrorKind::PermissionDenied, why);
        for _ in 0..REQUESTS_MAX {
            let answer = self.request(Method::ALLOCATE, |writer| writer.requested_transport(TRANSPORT_UDP))?;
            let broken = || refused("an answer that cannot be read".to_owned());
            let message = Message::parse(&answer).ok_or_else(broken)?;
            match (message.class(), message.error_code()) {
                (Class::Success, _) => {
                    let seen = message.xor_mapped_address().zip(message.xor_relayed_address()).ok_or_else(broken)?.0;
                    // Whoever does not hear of it ends it by itself, in minutes.
                    let _ = self.request(Method::REFRESH, |writer| writer.lifetime(0));
                    return Ok(seen);
                }
                (_, Some((401 | 438, _)))
                    if self.challenge.is_none() || message.error_code().is_some_and(|e| e.0 == 438) =>
                {
                    let (realm, nonce) = message.realm().zip(message.nonce()).ok_or_else(broken)?;
                    self.challenge = Some((realm.to_owned(), nonce.to_owned()));
                }
                (_, Some((code, _))) => return Err(refused(format!("an allocation was refused with {code}"))),
                _ => return Err(broken()),
            }
        }
        Err(refused("each nonce was refused".to_owned()))
    }

    fn request(&mut self, method: Method, fill: impl FnOnce(Writer<'_>) -> Writer<'_>) -> io::Result<Vec<u8>> {
        let (id, mut bytes) = (TransactionId(rand::random()), Vec::new());
        let writer = fill(Writer::request(&mut bytes, method, id));
        match &self.challenge {
            None => writer.fingerprint(),
            Some((realm, nonce)) => {
                let Server { username, password, .. } = self.server;
                let key = md5_key(username, realm, password);
                writer.username(username).realm(realm).nonce(nonce).integrity(&key).fingerprint();
            }
        }
        self.link.ask(&bytes, id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_as_browsers_read_them() {
        for (url, expected) in [
            ("turn:192.0.2.1:3478?transport=udp", Some(("UDP", "192.0.2.1", 3478))),
            ("turn:turn.example", Some(("UDP", "turn.example", 3478))),
            ("turn:[2001:db8::1]:99?transport=tcp", Some(("TCP", "2001:db8::1", 99))),
            ("turn:[2001:db8::1]?transport=tcp", Some(("TCP", "2001:db8::1", 3478))),
            ("turns:turn.example:443?transport=tcp", Some(("TLS", "turn.example", 443))),
            ("turns:turn.example", Some(("TLS", "turn.example", 5349))),
            ("turns:turn.example?transport=udp", None),
            ("stun:stun.example", None),
            ("turn:turn.example:port", None),
            ("turn", None),
        ] {
            let read = way(url);
            assert_eq!(read.as_ref().map(|way| (way.name, way.host.as_str(), way.port)), expected, "{url}");
        }
        let value = serde_json::json!({ "urls": ["turn:a:1", "stun:b"], "username": "u", "credential": "c" });
        assert_eq!(server(&value).map(|server| server.ways.len()), Some(1));
        assert_eq!(server(&serde_json::json!({ "urls": ["stun:b"] })), None);
    }
}
