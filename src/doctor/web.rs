//! Pages as browsers reach them: TLS with what they would believe, and a WebSocket that is held open.

use std::io::{self, BufRead as _, BufReader, Read, Write};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::http::Uri;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::addresses::public::ANSWER_MAX;
use crate::auth;
use crate::auth::cli::Wanted;
use crate::config::AuthSettings;
use crate::tls;

/// Longest time that a WebSocket is held.
pub(crate) const HOLD_MAX: Duration = Duration::from_secs(3_600);
/// Pings come each 10 s: without one for so long nothing comes through any more.
const SILENCE_MAX: Duration = Duration::from_secs(25);
/// Longest head of an answer, and longest message, bytes.
const BYTES_MAX: u64 = 64 * 1024;
/// Opcodes (RFC 6455 §5.2).
const TEXT: u8 = 1;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// What TCP and TLS have in common.
pub(super) trait Stream: Read + Write {}

impl<S: Read + Write> Stream for S {}

/// TLS, with the name and the time checked against the system's authorities; the handshake is over.
pub(super) fn secure(
    host: &str,
    mut stream: TcpStream,
    protocol: &[u8],
) -> io::Result<StreamOwned<ClientConnection, TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()));
    let builder = builder.with_safe_default_protocol_versions().map_err(io::Error::other)?;
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    let mut tls = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
    while tls.is_handshaking() {
        tls.complete_io(&mut stream)?;
    }
    Ok(StreamOwned::new(tls, stream))
}

fn connect(host: &str, port: u16) -> io::Result<TcpStream> {
    let unknown = || io::Error::new(io::ErrorKind::NotFound, format!("the name {host} cannot be found"));
    let at = (host, port).to_socket_addrs().map_err(|_| unknown())?.next().ok_or_else(unknown)?;
    let stream = TcpStream::connect_timeout(&at, ANSWER_MAX)?;
    stream.set_read_timeout(Some(ANSWER_MAX))?;
    stream.set_write_timeout(Some(ANSWER_MAX))?;
    Ok(stream)
}

/// The last second of the certificate that is shown under a name, Unix s.
pub(super) fn handshake(host: &str, port: u16) -> io::Result<i64> {
    let tls = secure(host, connect(host, port)?, b"http/1.1")?;
    let shown = tls.conn.peer_certificates().and_then(|chain| chain.first());
    shown.and_then(|shown| tls::last_second(shown)).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Holds a WebSocket open as a browser does, through whatever stands before the server. The error says what went wrong, and when.
pub(super) fn hold(url: &str, time: Duration, auth: &AuthSettings) -> Result<(), String> {
    let begun = Instant::now();
    let mut socket = WebSocket::open(url)?;
    // A client that does not connect to the namespace is sent away after 10 s.
    socket.send(TEXT, hello(auth).as_bytes()).map_err(|error| error.to_string())?;
    loop {
        let left = time.saturating_sub(begun.elapsed());
        if left.is_zero() {
            return Ok(());
        }
        let waits = left.min(SILENCE_MAX);
        match socket.next(waits) {
            Ok((TEXT, text)) if text == b"2" => socket.send(TEXT, b"3").map_err(|error| error.to_string())?,
            Ok((TEXT, text)) if text.starts_with(b"44") => {
                return Err(format!("the server refuses it: {}", String::from_utf8_lossy(&text)));
            }
            Ok((PING, text)) => socket.send(PONG, &text).map_err(|error| error.to_string())?,
            Ok((CLOSE, _)) => return Err(format!("it was closed after {} s", begun.elapsed().as_secs())),
            Ok(_) => {}
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                if waits == SILENCE_MAX {
                    return Err(format!("nothing came through any more after {} s", begun.elapsed().as_secs()));
                }
            }
            Err(_) => return Err(format!("it was cut off after {} s", begun.elapsed().as_secs())),
        }
    }
}

/// What connects to the namespace, with a token if we can sign one.
fn hello(auth: &AuthSettings) -> String {
    let wanted = Wanted {
        session: "doctor".into(),
        user: "doctor".into(),
        name: None,
        role: Some("observer".into()),
        ttl_s: None,
    };
    match auth::cli::token(auth, &wanted, crate::clock::now().unix_ms) {
        Ok(token) if auth.is_required() => format!("40{}", serde_json::json!({ "token": token })),
        _ => "40".to_owned(),
    }
}

struct WebSocket {
    stream: BufReader<Box<dyn Stream>>,
    /// The same connection, for its deadlines.
    tcp: TcpStream,
}

impl WebSocket {
    fn open(url: &str) -> Result<Self, String> {
        let uri: Uri = url.parse().map_err(|_| format!("{url} is no URL"))?;
        let is_tls = matches!(uri.scheme_str(), Some("https" | "wss"));
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
        let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        let failed = |error: io::Error| error.to_string();
        let tcp = connect(host, port).map_err(failed)?;
        let copy = tcp.try_clone().map_err(failed)?;
        let stream: Box<dyn Stream> =
            if is_tls { Box::new(secure(host, tcp, b"http/1.1").map_err(failed)?) } else { Box::new(tcp) };
        let mut socket = WebSocket { stream: BufReader::new(stream), tcp: copy };
        let key = STANDARD.encode(rand::random::<[u8; 16]>());
        let authority = uri.authority().map_or(host, |authority| authority.as_str());
        let request = format!(
            "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: {authority}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n"
        );
        socket.stream.get_mut().write_all(request.as_bytes()).map_err(failed)?;
        socket.stream.get_mut().flush().map_err(failed)?;
        let mut head = String::new();
        let mut lines = (&mut socket.stream).take(BYTES_MAX);
        while !head.ends_with("\r\n\r\n") {
            if lines.read_line(&mut head).map_err(failed)? == 0 {
                return Err("the connection was ended before the answer".to_owned());
            }
        }
        match head.split(' ').nth(1) {
            Some("101") => Ok(socket),
            status => Err(format!("the answer to the upgrade was {}", status.unwrap_or("none of HTTP"))),
        }
    }

    /// A short message, masked as RFC 6455 §5.3 wants it of clients; longer ones than 64 KiB are not sent.
    fn send(&mut self, opcode: u8, text: &[u8]) -> io::Result<()> {
        let mut frame = vec![0x80 | opcode];
        match u8::try_from(text.len()) {
            Ok(short) if short < 126 => frame.push(0x80 | short),
            _ => {
                frame.push(0x80 | 126);
                frame.extend(u16::try_from(text.len()).map_err(|_| io::ErrorKind::InvalidInput)?.to_be_bytes());
            }
        }
        let mask: [u8; 4] = rand::random();
        frame.extend(mask);
        frame.extend(text.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        self.stream.get_mut().write_all(&frame)?;
        self.stream.get_mut().flush()
    }

    /// The next frame: its opcode and what it holds. A server masks nothing.
    fn next(&mut self, waits: Duration) -> io::Result<(u8, Vec<u8>)> {
        self.tcp.set_read_timeout(Some(waits))?;
        let mut head = [0; 2];
        self.stream.read_exact(&mut head)?;
        let [first, second] = head;
        let length = match second & 0x7f {
            126 => {
                let mut length = [0; 2];
                self.stream.read_exact(&mut length)?;
                u64::from(u16::from_be_bytes(length))
            }
            127 => return Err(io::ErrorKind::InvalidData.into()),
            short => u64::from(short),
        };
        let mut text = Vec::new();
        (&mut self.stream).take(length).read_to_end(&mut text)?;
        Ok((first & 0x0f, text))
    }
}
