//! What others say of this machine: the cloud that it runs in, and a STUN server. Every question has a deadline.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, ToSocketAddrs as _, UdpSocket};
use std::time::Duration;

use turn_server::stun::{Class, Message, Method, TransactionId, Writer};

/// How long each thing on the network gets to answer.
pub(crate) const ANSWER_MAX: Duration = Duration::from_secs(3);
/// Times that a datagram is sent before it counts as lost.
pub(crate) const TRIES: u32 = 3;
/// Longest answer that is read, bytes.
const ANSWER_BYTES_MAX: usize = 1_500;
/// Where a virtual machine of Google's cloud asks about itself, and by what it is known.
const METADATA: (Ipv4Addr, &str) = (Ipv4Addr::new(169, 254, 169, 254), "Google Compute Engine");

/// What the cloud says.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cloud {
    /// This machine's public address, if it has one.
    pub(crate) address: Option<IpAddr>,
    /// The cloud's clock, Unix s.
    pub(crate) clock_s: Option<i64>,
}

/// Asks the cloud, on a machine of Google's alone.
pub(crate) fn cloud() -> Cloud {
    let product = std::fs::read_to_string("/sys/class/dmi/id/product_name").unwrap_or_default();
    if product.trim() != METADATA.1 {
        return Cloud::default();
    }
    metadata(SocketAddr::from((METADATA.0, 80))).unwrap_or_default()
}

/// The answer of a metadata server. One without a public address for us answers 404.
fn metadata(at: SocketAddr) -> io::Result<Cloud> {
    let mut stream = TcpStream::connect_timeout(&at, ANSWER_MAX)?;
    stream.set_read_timeout(Some(ANSWER_MAX))?;
    let path = "/computeMetadata/v1/instance/network-interfaces/0/access-configs/0/external-ip";
    write!(stream, "GET {path} HTTP/1.0\r\nHost: metadata.google.internal\r\nMetadata-Flavor: Google\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(ANSWER_BYTES_MAX as u64).read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
    let is_found = head.split(' ').nth(1) == Some("200");
    let date = head.lines().find_map(|line| line.strip_prefix("Date: ")).and_then(http_date);
    Ok(Cloud { address: body.trim().parse().ok().filter(|_| is_found), clock_s: date })
}

/// What a STUN server, `host:port`, says is our address: the first of its addresses that answers does.
pub(crate) fn stun(server: &str) -> Result<IpAddr, String> {
    let found: Vec<SocketAddr> =
        server.to_socket_addrs().map_err(|_| format!("the name in {server} cannot be found"))?.take(4).collect();
    let mut why = format!("the name in {server} has no address");
    for at in found {
        match binding_udp(at) {
            Ok(seen) => return Ok(seen.ip().to_canonical()),
            Err(error) => why = format!("{at} does not answer: {error}"),
        }
    }
    Err(why)
}

/// `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110 §5.6.7) as Unix s.
pub(crate) fn http_date(text: &str) -> Option<i64> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let words: Vec<&str> = text.split([' ', ':']).filter(|word| !word.is_empty()).collect();
    let [_, day, month, year, hour, minute, second, "GMT"] = words[..] else { return None };
    let number = |word: &str| word.parse::<i64>().ok();
    let month = MONTHS.iter().position(|name| *name == month)? as i64 + 1;
    let (day, year) = (number(day)?, number(year)?);
    // Days since 1970 of the proleptic Gregorian calendar, whose year begins in March here.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days =
        365 * y + y.div_euclid(4) - y.div_euclid(100) + y.div_euclid(400) + (153 * m + 2) / 5 + day - 1 - 719_468;
    Some(((days * 24 + number(hour)?) * 60 + number(minute)?) * 60 + number(second)?)
}

/// What a server says is our address (RFC 8489 §3), over UDP.
pub(crate) fn binding_udp(at: SocketAddr) -> io::Result<SocketAddr> {
    let socket = UdpSocket::bind(if at.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
    socket.connect(at)?;
    socket.set_read_timeout(Some(ANSWER_MAX / TRIES))?;
    let (request, id) = request();
    let mut answer = [0; ANSWER_BYTES_MAX];
    for _ in 0..TRIES {
        socket.send(&request)?;
        match socket.recv(&mut answer) {
            Ok(bytes) => {
                if let Some(seen) = seen(answer.get(..bytes).unwrap_or_default(), id) {
                    return Ok(seen);
                }
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::new(io::ErrorKind::TimedOut, "no answer"))
}

/// The same over TCP, where a message is its own frame (RFC 8489 §6.2.2).
pub(crate) fn binding_tcp(at: SocketAddr) -> io::Result<SocketAddr> {
    const HEAD_BYTES: usize = 20;
    let mut stream = TcpStream::connect_timeout(&at, ANSWER_MAX)?;
    stream.set_read_timeout(Some(ANSWER_MAX))?;
    let (request, id) = request();
    stream.write_all(&request)?;
    let mut answer = vec![0; HEAD_BYTES];
    stream.read_exact(&mut answer)?;
    let more = match answer[..] {
        [_, _, high, low, ..] => usize::from(u16::from_be_bytes([high, low])).min(ANSWER_BYTES_MAX),
        _ => 0,
    };
    answer.resize(HEAD_BYTES + more, 0);
    stream.read_exact(answer.get_mut(HEAD_BYTES..).unwrap_or_default())?;
    seen(&answer, id).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "what answers is no TURN server"))
}

fn request() -> (Vec<u8>, TransactionId) {
    let id = TransactionId(rand::random());
    let mut bytes = Vec::new();
    Writer::request(&mut bytes, Method::BINDING, id).fingerprint();
    (bytes, id)
}

fn seen(answer: &[u8], id: TransactionId) -> Option<SocketAddr> {
    let message = Message::parse(answer)?;
    (message.transaction_id() == id && message.class() == Class::Success).then(|| message.xor_mapped_address())?
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_metadata_server_says_address_and_time() {
        for (answer, expected) in [
            (
                "200 OK\r\nMetadata-Flavor: Google\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\n198.51.100.7\n",
                Some("198.51.100.7"),
            ),
            ("404 Not Found\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\n198.51.100.7", None),
            ("200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\n<html>", None),
        ] {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
            let at = listener.local_addr().expect("bound");
            let server = std::thread::spawn(move || {
                let (mut stream, _) = listener.accept().expect("it connects");
                // It may come in pieces.
                let (mut request, mut piece) = (Vec::new(), [0; 1_000]);
                while !request.ends_with(b"\r\n\r\n") {
                    let read = stream.read(&mut piece).expect("a request");
                    assert!(read > 0, "a whole request");
                    request.extend(&piece[..read]);
                }
                assert!(request.windows(17).any(|window| window == b"Metadata-Flavor: "));
                stream.write_all(format!("HTTP/1.0 {answer}").as_bytes()).expect("it reads");
            });
            let cloud = metadata(at).expect("an answer");
            server.join().expect("it does not panic");
            assert_eq!(cloud.address, expected.map(|address| address.parse().expect("a literal")));
            assert_eq!(cloud.clock_s, Some(784_111_777));
        }
    }

    #[test]
    fn a_stun_server_says_how_it_sees_us() {
        let server = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        let at = server.local_addr().expect("bound");
        std::thread::spawn(move || {
            let mut request = [0; 500];
            let (read, from) = server.recv_from(&mut request).expect("a request");
            let id = Message::parse(&request[..read]).expect("STUN").transaction_id();
            let mut answer = Vec::new();
            let seen = "203.0.113.9:7".parse().expect("a literal");
            Writer::success(&mut answer, Method::BINDING, id).xor_mapped_address(seen).fingerprint();
            server.send_to(&answer, from).expect("it listens");
        });
        assert_eq!(stun(&at.to_string()), Ok("203.0.113.9".parse().expect("a literal")));
        assert!(stun("nobody.invalid:3478").is_err());
    }
}
