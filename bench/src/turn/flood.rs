//! Strangers' requests in numbers: what a TURN server remembers of them.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use turn_server::stun::{Message, Method, TransactionId, Writer};

/// How long an answer may take before the next port has its turn.
const PATIENCE: Duration = Duration::from_secs(1);

/// What strangers sent.
#[derive(Clone, Copy, Debug, Default)]
pub struct Flood {
    /// Requests.
    pub requests: u64,
    /// Ports whose last request was answered: the server had come so far.
    pub answered: u64,
}

/// Sends well-made requests without valid credentials from `ports` ports, each from another address of 127/8, `each` from
/// each: Binding, Allocate without credentials, Allocate with invented ones. The last of each port is waited for.
pub fn run(server: SocketAddr, ports: u32, each: u32) -> io::Result<Flood> {
    let mut flood = Flood::default();
    for n in 0..ports {
        let [_, high, low, _] = (n << 8).to_be_bytes();
        let address = Ipv4Addr::new(127, high, low, 77);
        let port = 10_000 + (n % 50_000) as u16;
        let socket = UdpSocket::bind((address, port)).or_else(|_| UdpSocket::bind((address, 0)))?;
        socket.connect(server)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let mut last = TransactionId([0; 12]);
        for request in 0..each {
            last = TransactionId(rand::random());
            let kind = if request + 1 == each { 0 } else { request % 3 };
            // A full buffer of the server shows up as an answer that does not come.
            let _ = socket.send(&message(kind, last));
            flood.requests += 1;
        }
        flood.answered += u64::from(is_answered(&socket, last));
    }
    Ok(flood)
}

fn message(kind: u32, id: TransactionId) -> Vec<u8> {
    let mut out = Vec::new();
    match kind {
        0 => Writer::request(&mut out, Method::BINDING, id).fingerprint(),
        1 => Writer::request(&mut out, Method::ALLOCATE, id).requested_transport(17).fingerprint(),
        _ => {
            let writer = Writer::request(&mut out, Method::ALLOCATE, id).requested_transport(17);
            let username = format!("1900000000:pa_{:08x}", rand::random::<u32>());
            let nonce = format!("{:012x}", rand::random::<u64>());
            writer.username(&username).realm("lyceum").nonce(nonce.as_bytes()).integrity(b"invented").fingerprint();
        }
    }
    out
}

fn is_answered(socket: &UdpSocket, id: TransactionId) -> bool {
    let mut buffer = [0; 1_500];
    while let Ok(len) = socket.recv(&mut buffer) {
        if Message::parse(&buffer[..len]).is_some_and(|message| message.transaction_id() == id) {
            return true;
        }
    }
    false
}
