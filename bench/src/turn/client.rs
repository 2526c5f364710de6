//! A TURN client (RFC 8656) over UDP as a pure machine: one allocation, ChannelData both ways.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::ops::Range;
use std::time::{Duration, Instant};

use turn_server::credential;
use turn_server::stun::{Class, Message, Method, TransactionId, Writer};

/// UDP, as REQUESTED-TRANSPORT names it.
const TRANSPORT_UDP: u8 = 17;
/// How soon a request is repeated.
const RETRY: Duration = Duration::from_millis(250);
/// How often.
const TRIES_MAX: u32 = 20;
/// Permissions last five minutes and channels ten; binding a channel again renews both.
const RENEW: Duration = Duration::from_secs(240);
/// The first channel.
const CHANNEL_MIN: u16 = 0x4000;
/// Of ChannelData.
const HEAD_BYTES: usize = 4;

/// What opens an allocation.
#[derive(Clone, Debug, Default)]
pub struct Login {
    /// The username.
    pub username: String,
    /// The password.
    pub password: String,
}

/// One allocation.
pub struct TurnClient {
    login: Login,
    realm: String,
    nonce: Vec<u8>,
    relayed: Option<SocketAddr>,
    channels: Vec<Channel>,
    pending: Vec<Pending>,
    out: VecDeque<Vec<u8>>,
    failure: Option<String>,
    sent: u64,
    received: u64,
}

struct Channel {
    peer: SocketAddr,
    number: u16,
    bound: Option<Instant>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    Allocate,
    Bind(usize),
}

struct Pending {
    what: What,
    id: TransactionId,
    bytes: Vec<u8>,
    at: Instant,
    tries: u32,
}

impl TurnClient {
    /// Asks for an allocation.
    pub fn new(login: Login, now: Instant) -> Self {
        let mut client = TurnClient {
            login,
            realm: String::new(),
            nonce: Vec::new(),
            relayed: None,
            channels: Vec::new(),
            pending: Vec::new(),
            out: VecDeque::new(),
            failure: None,
            sent: 0,
            received: 0,
        };
        client.request(What::Allocate, now);
        client
    }

    /// The relayed address, once there is one.
    pub fn relayed(&self) -> Option<SocketAddr> {
        self.relayed
    }

    /// Why there is no allocation or no channel.
    pub fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    /// Datagrams with payload that were sent and received.
    pub fn payloads(&self) -> (u64, u64) {
        (self.sent, self.received)
    }

    /// Whether payload can go to a peer; if not, it will soon.
    pub fn bind(&mut self, peer: SocketAddr, now: Instant) -> bool {
        let index = match self.channels.iter().position(|channel| channel.peer == peer) {
            Some(index) => index,
            None => {
                let number = CHANNEL_MIN + self.channels.len() as u16;
                self.channels.push(Channel { peer, number, bound: None });
                self.channels.len() - 1
            }
        };
        let bound = self.channels[index].bound;
        let fresh = bound.is_some_and(|at| now.saturating_duration_since(at) < RENEW);
        if self.relayed.is_some() && !fresh && !self.pending.iter().any(|pending| pending.what == What::Bind(index)) {
            self.request(What::Bind(index), now);
        }
        bound.is_some()
    }

    /// Payload as it goes to the server; `None` while there is no channel to the peer, which is then asked for.
    pub fn wrap(&mut self, peer: SocketAddr, payload: &[u8], now: Instant) -> Option<Vec<u8>> {
        if !self.bind(peer, now) {
            return None;
        }
        let channel = self.channels.iter().find(|channel| channel.peer == peer)?;
        let mut out = Vec::with_capacity(HEAD_BYTES + payload.len());
        out.extend(channel.number.to_be_bytes());
        out.extend(u16::try_from(payload.len()).ok()?.to_be_bytes());
        out.extend(payload);
        self.sent += 1;
        Some(out)
    }

    /// Takes a datagram of the server; if it is payload, whose and where.
    pub fn receive(&mut self, datagram: &[u8], now: Instant) -> Option<(SocketAddr, Range<usize>)> {
        let (head, _) = datagram.split_first_chunk::<HEAD_BYTES>()?;
        if head[0] >> 6 != 1 {
            self.answered(&Message::parse(datagram)?, now);
            return None;
        }
        let (number, len) = (u16::from_be_bytes([head[0], head[1]]), u16::from_be_bytes([head[2], head[3]]));
        let channel = self.channels.iter().find(|channel| channel.number == number)?;
        let payload = HEAD_BYTES..HEAD_BYTES + usize::from(len);
        datagram.get(payload.clone())?;
        self.received += 1;
        Some((channel.peer, payload))
    }

    /// Repeats what was not answered.
    pub fn tick(&mut self, now: Instant) {
        for pending in &mut self.pending {
            if now.saturating_duration_since(pending.at) >= RETRY {
                pending.at = now;
                pending.tries += 1;
                self.out.push_back(pending.bytes.clone());
            }
        }
        if self.pending.iter().any(|pending| pending.tries > TRIES_MAX) {
            self.pending.clear();
            self.failure = Some("the TURN server does not answer".to_owned());
        }
    }

    /// When [`TurnClient::tick`] is due.
    pub fn deadline(&self) -> Option<Instant> {
        self.pending.iter().map(|pending| pending.at + RETRY).min()
    }

    /// The next datagram for the server that is no payload.
    pub fn transmit(&mut self) -> Option<Vec<u8>> {
        self.out.pop_front()
    }

    fn request(&mut self, what: What, now: Instant) {
        let id = TransactionId(rand::random());
        let mut bytes = Vec::new();
        let writer = match what {
            What::Allocate => Writer::request(&mut bytes, Method::ALLOCATE, id).requested_transport(TRANSPORT_UDP),
            What::Bind(index) => {
                let Channel { peer, number, .. } = self.channels[index];
                Writer::request(&mut bytes, Method::CHANNEL_BIND, id).channel_number(number).xor_peer_address(peer)
            }
        };
        if !self.nonce.is_empty() {
            let Login { username, password } = &self.login;
            let key = credential::md5_key(username, &self.realm, password);
            writer.username(username).realm(&self.realm).nonce(&self.nonce).integrity(&key);
        }
        self.out.push_back(bytes.clone());
        self.pending.push(Pending { what, id, bytes, at: now, tries: 0 });
    }

    fn answered(&mut self, message: &Message<'_>, now: Instant) {
        let Some(at) = self.pending.iter().position(|pending| pending.id == message.transaction_id()) else { return };
        let Pending { what, bytes, .. } = self.pending.swap_remove(at);
        match (message.class(), message.error_code()) {
            (Class::Success, _) => match what {
                What::Allocate => self.relayed = message.xor_relayed_address(),
                What::Bind(index) => self.channels[index].bound = Some(now),
            },
            (_, Some((401 | 438, _))) if Message::parse(&bytes).is_none_or(|ours| ours.nonce() != message.nonce()) => {
                self.realm = message.realm().unwrap_or_default().to_owned();
                self.nonce = message.nonce().unwrap_or_default().to_vec();
                self.request(what, now);
            }
            (_, code) => {
                let code = code.map_or(0, |(code, _)| code);
                let of = if what == What::Allocate { "an allocation" } else { "a channel" };
                self.failure = Some(format!("the TURN server refused {of}: {code}"));
            }
        }
    }
}
