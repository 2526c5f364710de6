//! What single deeds cost the machines, in memory: a description written and read, an event of a socket, a broadcast to a room, a packet
//! through the TURN server. `--count-instructions` does a fixed number of one of them, for callgrind.

use std::fmt;
use std::hint::black_box;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::{Value, json};
use sfu::sdp::{self, Direction, Local, LocalMedia, LocalSend, MediaKind, Mid, Setup};
use signaling::{AckId, Input, Lobby, Now, Output, Recipients, SocketId};
use turn_server::{Action, AllocationId, Client, Server, credential};

use crate::forward::median;
use crate::turn::client::{Login, TurnClient};

/// Members of the room that is told something: as many as the default lets in.
pub const MEMBERS: usize = 500;
/// m-lines of the description.
const M_LINES: usize = 10;
/// Bytes of a relayed packet.
const RELAYED_BYTES: usize = 1_100;
/// Slices of which the median counts, and how long each takes about.
pub const SLICES: usize = 50;
const SLICE: Duration = Duration::from_millis(5);
/// Deeds whose instructions are counted.
const COUNTED: usize = 100;
/// Between two events of one socket: slower than any limit of rates.
const EVENT_INTERVAL: Duration = Duration::from_millis(250);

/// A deed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// A description of ten m-lines is written.
    SdpWrite,
    /// The same is read.
    SdpParse,
    /// A socket says something alone in its room: acknowledged, and told to itself.
    Event,
    /// One says something in a room of [`MEMBERS`].
    Broadcast,
    /// Somebody joins a room of a hundred, and leaves it.
    Join,
    /// ChannelData of a client on its way to a peer.
    RelayOut,
    /// A peer's packet on its way to the client.
    RelayIn,
}

impl Deed {
    /// All of them.
    pub const ALL: [Deed; 7] =
        [Deed::SdpWrite, Deed::SdpParse, Deed::Event, Deed::Broadcast, Deed::Join, Deed::RelayOut, Deed::RelayIn];

    /// Its word on the command line.
    pub fn word(self) -> &'static str {
        match self {
            Deed::SdpWrite => "sdp-write",
            Deed::SdpParse => "sdp-parse",
            Deed::Event => "event",
            Deed::Broadcast => "broadcast",
            Deed::Join => "join",
            Deed::RelayOut => "relay-out",
            Deed::RelayIn => "relay-in",
        }
    }

    /// Made ready; each call does it once.
    fn ready(self) -> Box<dyn FnMut()> {
        match self {
            Deed::SdpWrite => {
                let local = description();
                Box::new(move || drop(black_box(local.write())))
            }
            Deed::SdpParse => {
                let text = description().write();
                Box::new(move || drop(black_box(sdp::parse(black_box(&text)))))
            }
            Deed::Event => {
                let mut talk = Talk::new(1, 1);
                Box::new(move || assert_eq!(talk.say(0), 1))
            }
            Deed::Broadcast => {
                let mut talk = Talk::new(1, MEMBERS);
                Box::new(move || assert_eq!(talk.say(0), MEMBERS))
            }
            Deed::Join => {
                let mut talk = Talk::new(1, 100);
                Box::new(move || assert!(black_box(talk.come_and_go()) >= 100))
            }
            Deed::RelayOut => {
                let (mut relay, packet) = Relay::new();
                Box::new(move || assert!(relay.out(&packet)))
            }
            Deed::RelayIn => {
                let (mut relay, _) = Relay::new();
                Box::new(move || assert!(relay.back()))
            }
        }
    }
}

impl FromStr for Deed {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        let words = || Deed::ALL.map(Deed::word).join(", ");
        Deed::ALL.into_iter().find(|deed| deed.word() == word).ok_or_else(|| format!("expected one of {}", words()))
    }
}

/// What one deed costs.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// See [`Deed::word`].
    pub deed: &'static str,
    /// The median slice.
    pub ns: f64,
    /// The fastest.
    pub best_ns: f64,
}

/// All of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Table(pub Vec<Row>);

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| deed | ns | best |\n|---|---|---|")?;
        self.0.iter().try_for_each(|row| writeln!(f, "| {} | {:.0} | {:.0} |", row.deed, row.ns, row.best_ns))
    }
}

/// Measures each.
pub fn run(deeds: &[Deed]) -> Table {
    let row = |deed: &Deed| {
        let mut ready = deed.ready();
        let (ns, best_ns) = time(&mut *ready, SLICES);
        Row { deed: deed.word(), ns, best_ns }
    };
    Table(deeds.iter().map(row).collect())
}

/// Nanoseconds of one call: of so many slices, at least one, the median and the fastest.
pub(crate) fn time(deed: &mut dyn FnMut(), slices: usize) -> (f64, f64) {
    let began = Instant::now();
    let mut warm = 0_u32;
    while began.elapsed() < SLICE {
        deed();
        warm += 1;
    }
    let slice = || {
        let began = Instant::now();
        (0..warm).for_each(|_| deed());
        began.elapsed().as_nanos() as f64 / f64::from(warm)
    };
    let mut slices: Vec<f64> = std::iter::repeat_with(slice).take(slices).collect();
    (median(&mut slices), slices[0])
}

/// Does one kind some hundred times, each inside of [`once`]; says how often.
pub fn count(deed: Deed) -> usize {
    let mut ready = deed.ready();
    ready();
    (0..COUNTED).for_each(|_| once(&mut *ready));
    COUNTED
}

/// What callgrind collects.
#[inline(never)]
pub fn once(deed: &mut dyn FnMut()) {
    deed();
}

/// An offer of ten m-lines to a browser.
fn description() -> Local {
    let media = |index: usize| {
        let kind = if index.is_multiple_of(2) { MediaKind::Audio } else { MediaKind::Video };
        let extensions = sdp::default_extensions(kind);
        let send = LocalSend {
            stream_id: format!("pa_{index}").into(),
            track_id: format!("tr_{index}"),
            cname: "cname".into(),
            ssrc: 1_000 + index as u32,
            rtx_ssrc: (kind == MediaKind::Video).then_some(2_000 + index as u32),
        };
        LocalMedia {
            kind,
            mid: Mid::new(&index.to_string()).expect("a digit is a mid"),
            rejected: false,
            direction: Direction::SendOnly,
            codecs: codecs(kind),
            extensions: (1..).zip(extensions.iter().copied()).collect(),
            mixed: true,
            rids: Vec::new(),
            send: Some(send),
        }
    };
    Local {
        session_id: 4_711,
        version: 7,
        ice_ufrag: "abcdefgh".to_owned(),
        ice_pwd: "abcdefghabcdefghabcdefgh".to_owned(),
        fingerprint: [7; 32],
        setup: Setup::ActPass,
        udp_candidates: vec![([192, 0, 2, 1], 7_882).into()],
        tcp_candidates: vec![([192, 0, 2, 1], 7_882).into()],
        media: (0..M_LINES).map(media).collect(),
    }
}

fn codecs(kind: MediaKind) -> Vec<sdp::Codec> {
    let codec = |payload_type, name, rtx| sdp::Codec {
        payload_type,
        name,
        clock_rate: if rtx { 90_000 } else { 48_000 },
        channels: if rtx { 1 } else { 2 },
        fmtp: String::new(),
        feedback: if rtx { sdp::Feedback::video() } else { sdp::Feedback::default() },
        rtx: rtx.then_some(payload_type + 1),
    };
    match kind {
        MediaKind::Audio => vec![codec(111, sdp::CodecName::Opus, false)],
        _ => vec![codec(96, sdp::CodecName::Vp8, true)],
    }
}

/// A lobby in which people sit and say things.
pub(crate) struct Talk {
    lobby: Lobby,
    now: Now,
    next: i64,
    members: usize,
}

impl Talk {
    /// So many rooms with so many members each, all in mesh calls: media is not the lobby's cost.
    pub(crate) fn new(rooms: usize, members: usize) -> Talk {
        let config = signaling::Config {
            workers: 1,
            ice: signaling::IceServers { fixed: Vec::new(), minted: Vec::new() },
            grace_ms: 20_000,
            empty_timeout_ms: 120_000,
        };
        let now = Now { mono: Instant::now(), unix_ms: 1_800_000_000_000 };
        let mut talk = Talk { lobby: Lobby::new(config, [7; 32]), now, next: 0, members };
        for number in 0..rooms * members {
            talk.come(number, number / members);
        }
        talk
    }

    fn come(&mut self, number: usize, room: usize) {
        let [.., b, c] = (number as u32 / 100).to_be_bytes();
        let socket = SocketId(number as u64);
        self.lobby.handle(Input::Connected { socket, address: IpAddr::from([10, 0, b, c]), identity: None }, self.now);
        let user = format!("user-{number}");
        let join = json!({ "sessionId": format!("room-{room}"), "userId": user, "userName": user, "media": "mesh" });
        self.event(socket, "join-session", join);
    }

    /// How many are told of it.
    fn event(&mut self, socket: SocketId, name: &str, payload: Value) -> usize {
        self.next += 1;
        let ack = Some(AckId(self.next));
        self.lobby.handle(Input::Event { socket, name: name.to_owned(), payload, ack }, self.now);
        self.drain()
    }

    /// Takes out everything; to how many sockets the largest emit goes. It is one emit, whose payload was encoded once.
    fn drain(&mut self) -> usize {
        let mut largest = 0;
        while let Some(output) = self.lobby.poll() {
            if let Output::Emit { to, .. } = black_box(&output) {
                let told = match to {
                    Recipients::One(_) => 1,
                    Recipients::Many(all) => all.len(),
                };
                largest = largest.max(told);
            }
        }
        largest
    }

    fn pass(&mut self) {
        self.now.mono += EVENT_INTERVAL;
        self.now.unix_ms += EVENT_INTERVAL.as_millis() as u64;
    }

    /// A member of a room says something; how many are told.
    pub(crate) fn say(&mut self, number: usize) -> usize {
        self.pass();
        self.event(SocketId(number as u64), "reaction", json!({ "emoji": "x" }))
    }

    /// Somebody comes to the first room and leaves it.
    pub(crate) fn come_and_go(&mut self) -> usize {
        self.pass();
        let number = 100_000 + self.next as usize;
        self.come(number, 0);
        let socket = SocketId(number as u64);
        self.lobby.handle(Input::Disconnected { socket, clean: true, heard: self.now.mono }, self.now);
        self.drain().max(self.members)
    }
}

/// A TURN server, one allocation in it, and a channel to our own media address: the short cut.
struct Relay {
    server: Server,
    now: turn_server::Now,
    client: Client,
    allocation: AllocationId,
    media: SocketAddr,
}

impl Relay {
    /// With the ChannelData that a client sends.
    fn new() -> (Relay, Vec<u8>) {
        let here = IpAddr::from([203, 0, 113, 10]);
        let media = SocketAddr::new(here, 7_882);
        let unix_s = 1_800_000_000;
        let now = turn_server::Now { mono: Instant::now(), unix_ms: unix_s * 1_000 };
        let config = turn_server::Config {
            realm: "lyceum".to_owned(),
            secret: b"secret".to_vec(),
            relayed: vec![here],
            media: vec![media],
            own: Vec::new(),
            listed: Vec::new(),
            relay_ports: 50_000..=50_099,
            limits: turn_server::Limits { allocations: 10, per_holder: 2, bandwidth_bps: u64::MAX / 16 },
        };
        let mut server = Server::new(config, [5; 32], now);
        let holder: Arc<str> = "pa_1".into();
        server.handle(turn_server::Input::Grant { holder: holder.clone() }, now);
        let credential = credential::mint(b"secret", &holder, unix_s + 3_600);
        let login = Login { username: credential.username, password: credential.password };
        let mut turn = TurnClient::new(login, now.mono);
        let client = Client::Udp { local: SocketAddr::new(here, 3_478), remote: ([198, 51, 100, 1], 40_000).into() };
        let packet = loop {
            if let Some(packet) = turn.wrap(media, &[7; RELAYED_BYTES], now.mono) {
                break packet;
            }
            let request = turn.transmit().expect("it asks until it has a channel");
            let Action::Reply(answer) = server.receive(client, &request, now) else {
                panic!("each request is answered")
            };
            let answer = answer.to_vec();
            turn.receive(&answer, now.mono);
            assert_eq!(turn.failure(), None);
        };
        let Action::Media { allocation, .. } = server.receive(client, &packet, now) else {
            panic!("our media address is reached by the short cut")
        };
        (Relay { server, now, client, allocation, media }, packet)
    }

    fn out(&mut self, packet: &[u8]) -> bool {
        matches!(black_box(self.server.receive(self.client, packet, self.now)), Action::Media { .. })
    }

    fn back(&mut self) -> bool {
        black_box(self.server.to_client(self.allocation, self.media, RELAYED_BYTES, 1, self.now)).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_deed_does_what_its_name_says() {
        for deed in Deed::ALL {
            // What is done is asserted inside.
            let mut ready = deed.ready();
            (0..3).for_each(|_| once(&mut *ready));
            assert_eq!(deed.word().parse(), Ok(deed));
        }
        assert!("sdp".parse::<Deed>().is_err());
        assert_eq!(description().write().matches("\r\nm=").count(), M_LINES);
        assert_eq!(sdp::parse(&description().write()).expect("it is ours").media.len(), M_LINES);
    }
}
