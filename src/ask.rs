//! Asks a running server at its operator's address, as `lyceum healthcheck` and `lyceum drain` do.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::config::{AuthSettings, Settings};
use crate::error::Failure;

/// How long the server gets to take a connection, and then for each part of its answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Most bytes read of an answer; the rest is left.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;

/// What the server answered.
pub(crate) struct Answer {
    /// The HTTP status.
    pub(crate) status: u16,
    /// What followed the head.
    pub(crate) body: String,
}

/// What shows that we are the operator, if these settings have such a thing: an `Authorization` header's value.
pub(crate) fn credentials(auth: &AuthSettings) -> Option<String> {
    if !auth.admin_key.0.is_empty() {
        return Some(format!("Bearer {}", auth.admin_key.0));
    }
    let pair = auth.keys.first()?;
    Some(format!("Basic {}", BASE64.encode(format!("{}:{}", pair.id, pair.secret.0))))
}

/// Sends one request without a body to `[admin] listen`, with `authorization` if there is one.
///
/// # Errors
/// If nobody answers there, or nobody who speaks HTTP.
pub(crate) fn admin(
    settings: &Settings,
    method: &str,
    path: &str,
    authorization: Option<&str>,
) -> Result<Answer, Failure> {
    let at = reachable(settings.admin_listen);
    let authorization = authorization.map(|shown| format!("Authorization: {shown}\r\n")).unwrap_or_default();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {at}\r\n{authorization}Content-Length: 0\r\nConnection: close\r\n\r\n"
    );
    let answer = exchange(at, head.as_bytes()).map_err(|error| {
        Failure::Broken(format!(
            "no answer at {at} ([admin] listen): {error}; is the server running, with the same settings?"
        ))
    })?;
    read(&answer).ok_or_else(|| Failure::Broken(format!("what answers at {at} ([admin] listen) does not speak HTTP")))
}

/// Where a listener is reached from its own machine.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let address = match listen.ip() {
        IpAddr::V4(v4) if v4.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(v6) if v6.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        other => other,
    };
    SocketAddr::new(address, listen.port())
}

fn exchange(at: SocketAddr, request: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&at, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    stream.write_all(request)?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
    Ok(answer)
}

/// An answer with `Connection: close`: its body ends with the connection.
fn read(answer: &[u8]) -> Option<Answer> {
    let text = String::from_utf8_lossy(answer);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
    Some(Answer { status, body: body.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_for_all_is_reached_at_loopback() {
        for (listen, at) in [
            ("0.0.0.0:9464", "127.0.0.1:9464"),
            ("[::]:9464", "[::1]:9464"),
            ("127.0.0.1:1", "127.0.0.1:1"),
            ("10.0.0.7:2", "10.0.0.7:2"),
        ] {
            assert_eq!(reachable(listen.parse().expect("good")), at.parse::<SocketAddr>().expect("good"));
        }
    }

    #[test]
    fn answers_are_read() {
        let answer = read(b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 6\r\n\r\nstuck\n").expect("HTTP");
        assert_eq!((answer.status, &*answer.body), (503, "stuck\n"));
        for bad in [&b""[..], b"SSH-2.0-x\r\n", b"HTTP/1.1\r\n\r\n", b"HTTP/1.1 abc\r\n\r\n"] {
            assert!(read(bad).is_none());
        }
    }
}
