//! The words in which the shell and signaling speak to the SFU: ids, requests, events, paths.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;

pub use turn_server::Now;

use crate::{Snapshot, Workers, sdp};

/// A peer: one participant's transport in the SFU. Minted by signaling, unique for the life of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PeerId(pub u64);

/// A room, as the SFU knows it. Minted by signaling, unique for the life of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RoomId(pub u64);

/// A published track, minted by the SFU. On the wire `tr_` and 16 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TrackId(pub u64);

impl fmt::Display for TrackId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tr_{:016x}", self.0)
    }
}

impl FromStr for TrackId {
    type Err = ();

    fn from_str(s: &str) -> Result<Self, ()> {
        let hex = s.strip_prefix("tr_").filter(|h| h.len() == 16).ok_or(())?;
        if !hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
            return Err(());
        }
        u64::from_str_radix(hex, 16).map(TrackId).map_err(|_| ())
    }
}

/// Whether a track is heard or seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Heard.
    Audio,
    /// Seen.
    Video,
}

impl Kind {
    /// The RTP clock rate of all codecs of the kind, Hz.
    pub(crate) fn clock_rate(self) -> u32 {
        match self {
            Kind::Audio => 48_000,
            Kind::Video => 90_000,
        }
    }

    /// The SDP media name, `audio` or `video`.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Audio => "audio",
            Kind::Video => "video",
        }
    }
}

/// What a track shows, as its publisher said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// A camera.
    Camera,
    /// A microphone.
    Microphone,
    /// A shared screen.
    Screen,
    /// The sound of a shared screen.
    ScreenAudio,
}

impl Source {
    /// The word on the wire (PROTOCOL: `camera`, `microphone`, `screen`, `screen-audio`).
    pub fn as_str(self) -> &'static str {
        match self {
            Source::Camera => "camera",
            Source::Microphone => "microphone",
            Source::Screen => "screen",
            Source::ScreenAudio => "screen-audio",
        }
    }

    /// Whether it is heard or seen.
    pub fn kind(self) -> Kind {
        match self {
            Source::Camera | Source::Screen => Kind::Video,
            Source::Microphone | Source::ScreenAudio => Kind::Audio,
        }
    }

    /// The reverse of [`Source::as_str`].
    pub fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "camera" => Source::Camera,
            "microphone" => Source::Microphone,
            "screen" => Source::Screen,
            "screen-audio" => Source::ScreenAudio,
            _ => return None,
        })
    }
}

/// A set of sources.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sources(u8);

impl Sources {
    /// Nothing.
    pub const NONE: Sources = Sources(0);
    /// Everything.
    pub const ALL: Sources = Sources(0b1111);

    /// The set with one more.
    pub const fn with(self, source: Source) -> Self {
        Sources(self.0 | 1 << source as u8)
    }

    /// The set with one less.
    pub const fn without(self, source: Source) -> Self {
        Sources(self.0 & !(1 << source as u8))
    }

    /// Whether it is in the set.
    pub const fn has(self, source: Source) -> bool {
        self.0 & 1 << source as u8 != 0
    }

    /// What is in both.
    pub const fn and(self, other: Sources) -> Self {
        Sources(self.0 & other.0)
    }

    /// What is in it, in the order of [`Source`].
    pub fn iter(self) -> impl Iterator<Item = Source> {
        [Source::Camera, Source::Microphone, Source::Screen, Source::ScreenAudio]
            .into_iter()
            .filter(move |s| self.has(*s))
    }
}

impl FromIterator<Source> for Sources {
    fn from_iter<I: IntoIterator<Item = Source>>(sources: I) -> Self {
        sources.into_iter().fold(Sources::NONE, Sources::with)
    }
}

/// Which codecs may be negotiated for video; Opus always may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Codecs(u8);

impl Codecs {
    /// Each that we forward.
    pub const ALL: Codecs = Codecs(u8::MAX);

    /// Those that are named (`vp8`, `h264`, `vp9`, `av1`); other words mean nothing. No words at all mean all codecs.
    pub fn named<'a>(words: impl IntoIterator<Item = &'a str>) -> Self {
        let mut words = words.into_iter().map(sdp::CodecName::from_encoding).peekable();
        if words.peek().is_none() {
            return Codecs::ALL;
        }
        words.flatten().fold(Codecs(0), |all, name| Codecs(all.0 | 1 << name as u8))
    }

    /// Whether a codec may be negotiated.
    pub fn has(self, name: sdp::CodecName) -> bool {
        let is_audio = matches!(name, sdp::CodecName::Opus | sdp::CodecName::Red);
        is_audio || self.0 & 1 << name as u8 != 0
    }
}

impl Default for Codecs {
    fn default() -> Self {
        Codecs::ALL
    }
}

/// A TCP connection of a worker (ICE-TCP), numbered by the shell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(pub u64);

pub use turn_server::AllocationId;

/// Where a datagram came from and where its answer must go: never a bare address, so that replies leave from the
/// address at which the request arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Path {
    /// A UDP 4-tuple.
    Udp {
        /// Our address and port, as the client addressed it (PKTINFO).
        local: SocketAddr,
        /// The client's address and port.
        remote: SocketAddr,
    },
    /// An accepted ICE-TCP connection.
    Tcp {
        /// Which.
        connection: ConnectionId,
        /// The client's address and port.
        remote: SocketAddr,
    },
    /// A client of the embedded TURN server, short-cut into this worker.
    Relay {
        /// The client's allocation.
        allocation: AllocationId,
        /// The relayed address that the client was given: what we would see of it without the short cut.
        relayed: SocketAddr,
        /// Which of our media addresses the client named as its peer.
        peer: SocketAddr,
    },
}

/// What the shell tells the SFU, apart from datagrams, which go through [`crate::Sfu::receive`].
#[derive(Debug)]
pub enum Input<'a> {
    /// One datagram; the slow-path twin of [`crate::Sfu::receive`] for tests and tools. The buffer is decrypted in place.
    Datagram {
        /// Where it came from.
        path: Path,
        /// Its bytes.
        bytes: &'a mut [u8],
    },
    /// A TCP connection or allocation has ended: its path must not be used again.
    PathClosed(Path),
    /// Something that signaling wants.
    Request(Request),
    /// The deadline has come.
    Tick,
}

/// What signaling asks of the SFU. A request about a peer that is gone is ignored.
#[derive(Debug, Clone)]
pub enum Request {
    /// Create a peer. Every later request names it.
    Join {
        /// The new peer.
        peer: PeerId,
        /// The room it joins; created when it is the first.
        room: RoomId,
        /// The participant id: `msid` stream id and CNAME of all that this peer publishes. 1–64 of `[A-Za-z0-9_-]`.
        participant: Arc<str>,
        /// Subscribe to everything that the others publish.
        auto_subscribe: bool,
        /// Offer first as soon as there is something to offer (`media: "sfu"`), rather than wait for the client's offer.
        offer_first: bool,
        /// What the participant is and may do.
        rights: Rights,
        /// What its room lets it send and receive video in.
        codecs: Codecs,
        /// How its m-lines are filled.
        view: View,
    },
    /// The client's SDP offer.
    Offer {
        /// Who offers.
        peer: PeerId,
        /// The SDP, at most [`crate::sdp::SDP_BYTES_MAX`] bytes.
        sdp: String,
        /// What the client says its m-lines are.
        tracks: Vec<TrackHint>,
        /// Whether an unanswered offer of ours was delivered on the client's present socket. If it was and the offers
        /// cross, ours stands (we are the impolite side); if it was not, ours is rolled back.
        saw_ours: bool,
    },
    /// The client's SDP answer to our offer.
    Answer {
        /// Who answers.
        peer: PeerId,
        /// The SDP.
        sdp: String,
        /// What the client says its m-lines are.
        tracks: Vec<TrackHint>,
    },
    /// Send a full offer even though nothing changed: the client may have a new RTCPeerConnection, or lost the last one.
    Reoffer {
        /// To whom.
        peer: PeerId,
    },
    /// Offer with a new ICE ufrag and password.
    RestartIce {
        /// To whom.
        peer: PeerId,
    },
    /// What a subscriber wants of a track.
    Subscription {
        /// The subscriber.
        peer: PeerId,
        /// The track.
        track: TrackId,
        /// What changes.
        wish: Wish,
    },
    /// The publisher muted or unmuted a track. Unmuting lets go of a held one, too.
    Mute {
        /// The publisher.
        peer: PeerId,
        /// Its track.
        track: TrackId,
        /// The new state.
        muted: bool,
    },
    /// A moderator silences a track, or lets it be heard again: nothing of a held track is forwarded, whatever its publisher
    /// sends. The publisher's own [`Request::Mute`] with `muted: false` lets go of it too.
    Hold {
        /// The publisher.
        peer: PeerId,
        /// Its track.
        track: TrackId,
        /// The new state.
        held: bool,
    },
    /// What a participant may do has changed. Tracks that it may not publish any more stop, subscriptions end.
    Rights {
        /// Whose.
        peer: PeerId,
        /// From now on.
        rights: Rights,
    },
    /// Remove a peer, its tracks and subscriptions.
    Leave {
        /// Which.
        peer: PeerId,
    },
    /// Tell what a room's media is like: [`Event::Snapshot`] answers each exactly once, also for a room that is gone.
    Snapshot {
        /// Which.
        room: RoomId,
        /// Only this participant, and then what it gets, too.
        only: Option<Arc<str>>,
        /// The answer has the same.
        ticket: u64,
    },
    /// A room has peers on these other workers, too: its tracks cross to them and theirs come here, through pipes
    /// ([`crate::Sfu::take_pipe`]). All workers of a room are told whenever that changes, behind the [`Request::Join`] or
    /// [`Request::Leave`] by which it does.
    Spread {
        /// Which.
        room: RoomId,
        /// All workers that have peers of it, but the one that is told.
        others: Workers,
    },
}

/// What a participant is and may do, as far as media is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rights {
    /// It teaches: its audio and camera come before those of others.
    pub instructor: bool,
    /// It may send on data channels.
    pub data: bool,
    /// What it may publish; nothing of other tracks is forwarded, whatever it sends.
    pub publish: Sources,
    /// It may receive what others publish.
    pub subscribe: bool,
}

impl Default for Rights {
    fn default() -> Self {
        Rights { instructor: false, data: true, publish: Sources::ALL, subscribe: true }
    }
}

/// How the m-lines of a subscriber are filled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum View {
    /// Each track that it subscribes to has an m-line of its own, which we offer.
    #[default]
    Tracks,
    /// The m-lines that the client's offer has are filled with what is shown: screen, instructor, active speaker, switched
    /// at keyframes (WHEP). We never offer.
    Program {
        /// Only what this participant publishes.
        participant: Option<Arc<str>>,
    },
}

/// What a subscriber wants of a track; `None` leaves a wish as it was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    /// `false` stops its RTP without renegotiation; `true` subscribes (also where auto-subscribe is off). A wish about a
    /// track that the peer does not subscribe to yet subscribes to it unless this is `false`.
    pub enabled: Option<bool>,
    /// Width and height, in pixels, at which it is shown; (0, 0) is not visible.
    pub size: Option<(u16, u16)>,
    /// 0 unwanted … 255 pinned; ranks tracks of one class.
    pub priority: Option<u8>,
}

/// What a client's offer says about one of its m-lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrackHint {
    /// The m-line's mid.
    pub mid: String,
    /// What it shows.
    pub source: Source,
    /// Muted or not; `None` leaves it as it was, and a new track unmuted.
    pub muted: Option<bool>,
}

/// A published track, as others are told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrackInfo {
    /// Its id.
    pub track: TrackId,
    /// Heard or seen.
    pub kind: Kind,
    /// What it shows.
    pub source: Source,
    /// Muted by its publisher.
    pub muted: bool,
}

/// What an m-line of ours carries: goes with offers and answers as `tracks`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrackLine {
    /// The m-line.
    pub mid: String,
    /// The track.
    pub track: TrackId,
    /// Who publishes it.
    pub participant: Arc<str>,
    /// What it shows.
    pub source: Source,
}

/// Why the SFU refused a request or stopped a subscription. Signaling maps it to a stable code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// The SDP cannot be parsed or breaks a rule (`media/invalid_sdp`).
    InvalidSdp,
    /// The change needs a new RTCPeerConnection (`media/new_peer_required`).
    NewPeerRequired,
    /// The peer may not do this (`media/not_permitted`).
    NotPermitted,
}

/// Which description of a client was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Description {
    /// Its offer.
    Offer,
    /// Its answer.
    Answer,
}

/// Why a subscriber does not get a track.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unavailable {
    /// It cannot decode what the publisher sends.
    Codec,
    /// It has as many subscriptions as it may.
    Limit,
}

/// Why nothing of a track flows to a subscriber who subscribes to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pause {
    /// The subscriber's downlink does not carry it beside what comes first.
    Bandwidth,
    /// The subscriber asked for it.
    Unsubscribed,
}

/// Who is to blame for a bad connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// The way from the participant to us.
    Uplink,
    /// The way from us to the participant.
    Downlink,
    /// We send late or drop.
    Server,
    /// Its TURN relay, or a TCP path.
    Relay,
}

/// What kind of path a peer uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum PathKind {
    /// UDP.
    #[default]
    Udp,
    /// ICE-TCP.
    Tcp,
    /// Through the embedded TURN server.
    Relay,
}

/// Media in one direction since the last sample.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flow {
    /// Bits a second, headers included.
    pub bps: u64,
    /// Packets a second.
    pub pps: u32,
    /// Packets lost before repair, in millionths.
    pub loss_ppm: u32,
    /// The largest interarrival jitter of a stream, in microseconds.
    pub jitter_us: u32,
    /// Pictures that must have frozen: gaps in a video that were not repaired in time.
    pub freezes: u32,
}

/// What was measured of a peer's connection since the last sample.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// How it is connected.
    pub path: PathKind,
    /// Time since its last valid STUN check: the proof that it lives.
    pub silence: std::time::Duration,
    /// Round-trip time in microseconds, where known.
    pub rtt_us: Option<u32>,
    /// What the downlink is believed to carry, bits a second.
    pub estimate_bps: Option<u64>,
    /// From the participant to us.
    pub up: Flow,
    /// From us to the participant.
    pub down: Flow,
    /// Videos that it subscribes to and that are paused for want of bandwidth.
    pub paused: u32,
}

/// Why a peer ended by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CloseReason {
    /// DTLS failed: wrong fingerprint, alert, or never completed.
    Dtls,
    /// An assumption about this peer broke; it alone pays for it.
    Internal,
}

/// What the SFU tells signaling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The answer to the client's offer.
    Answer {
        /// Whose.
        peer: PeerId,
        /// The SDP.
        sdp: String,
        /// What our m-lines carry.
        tracks: Vec<TrackLine>,
    },
    /// An offer of ours. At most one is unanswered at a time.
    Offer {
        /// To whom.
        peer: PeerId,
        /// The SDP.
        sdp: String,
        /// What our m-lines carry.
        tracks: Vec<TrackLine>,
    },
    /// A client's description was refused; nothing changed.
    Refused {
        /// Whose.
        peer: PeerId,
        /// Which.
        description: Description,
        /// The reason.
        refusal: Refusal,
        /// What was expected and what came, in a sentence.
        message: String,
    },
    /// A client would publish what it may not: that m-line was agreed as one on which it sends nothing. Said once for each
    /// m-line and source.
    NotPermitted {
        /// Who.
        peer: PeerId,
        /// What.
        source: Source,
    },
    /// ICE and DTLS are up.
    Connected {
        /// Who.
        peer: PeerId,
    },
    /// No valid STUN check came for 12 s: the path is probably dead, and a restart of ICE may find another.
    PathSilent {
        /// Who.
        peer: PeerId,
    },
    /// No valid STUN check came for the consent time (RFC 7675); the peer waits for a restart or for its end.
    ConsentLost {
        /// Who.
        peer: PeerId,
    },
    /// The peer is no more (not sent for [`Request::Leave`]).
    Closed {
        /// Who.
        peer: PeerId,
        /// Why.
        reason: CloseReason,
    },
    /// A track was published, or its publisher's later description says other things of it.
    TrackPublished {
        /// By whom.
        peer: PeerId,
        /// What.
        info: TrackInfo,
    },
    /// A track was unpublished.
    TrackUnpublished {
        /// By whom.
        peer: PeerId,
        /// Which.
        track: TrackId,
    },
    /// A subscriber does not get a track.
    TrackUnavailable {
        /// The subscriber.
        peer: PeerId,
        /// The track.
        track: TrackId,
        /// Why.
        reason: Unavailable,
    },
    /// Nothing of a track flows any more to a subscriber.
    TrackPaused {
        /// The subscriber.
        peer: PeerId,
        /// The track.
        track: TrackId,
        /// Why.
        reason: Pause,
    },
    /// A paused track flows again.
    TrackResumed {
        /// The subscriber.
        peer: PeerId,
        /// The track.
        track: TrackId,
        /// Why it had been paused.
        reason: Pause,
    },
    /// Which of a track's simulcast layers anybody watches, for its publisher; sent when it changes.
    LayersWanted {
        /// The publisher.
        peer: PeerId,
        /// Its track.
        track: TrackId,
        /// Each RID in order of the publisher's description, and whether anybody watches it.
        layers: Vec<(Arc<str>, bool)>,
    },
    /// What [`Request::Snapshot`] asked for.
    Snapshot {
        /// The request's.
        ticket: u64,
        /// The media.
        snapshot: Box<Snapshot>,
    },
    /// How good a participant's connection is; sent when it changes.
    Quality {
        /// Whose.
        peer: PeerId,
        /// 0 lost, 1 bad … 4 excellent.
        score: u8,
        /// Whose fault, if it is not excellent.
        cause: Option<Cause>,
    },
    /// What was measured of a connected peer, every [`crate::SAMPLE_INTERVAL`].
    Sample {
        /// Whose.
        peer: PeerId,
        /// What.
        sample: Box<Sample>,
    },
    /// Who speaks now, loudest first; sent when it changes.
    Speakers {
        /// Where.
        room: RoomId,
        /// Peer and level (0 silent … 127 loudest), at most [`crate::SPEAKERS_MAX`].
        speakers: Vec<(PeerId, u8)>,
        /// Which shared audio m-line (`audio-<n>`) carries whom; empty where everybody has m-lines of their own.
        audio: Vec<(u8, PeerId)>,
    },
}

/// What the SFU wants done, apart from datagrams, which leave through [`crate::Sfu::next_run`].
#[derive(Debug, PartialEq, Eq)]
pub enum Output {
    /// Tell signaling.
    Event(Event),
    /// Nobody uses this connection or allocation any more: close it.
    ClosePath(Path),
}

/// Datagrams of one size (the last may be shorter) to one destination: one GSO send.
#[derive(Debug)]
pub struct Run<'a> {
    /// Where to.
    pub path: Path,
    /// The datagrams, one behind the other.
    pub bytes: &'a [u8],
    /// The size of each datagram but the last, which may be shorter.
    pub segment: usize,
}

impl Run<'_> {
    /// The datagrams, one by one.
    pub fn datagrams(&self) -> impl Iterator<Item = &[u8]> {
        self.bytes.chunks(self.segment.max(1))
    }
}

/// Monotonic counters of one worker; the shell sums workers at scrape time. All count since start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Datagrams received.
    pub datagrams_in: u64,
    /// Bytes received.
    pub bytes_in: u64,
    /// RTP packets accepted from publishers.
    pub rtp_in: u64,
    /// RTP packets forwarded to subscribers, first sends only.
    pub rtp_out: u64,
    /// Of these, packets of video that were padded to the length of their neighbours, with which they left by one send.
    pub rtp_padded_out: u64,
    /// Bytes sent to peers, RTP and RTX, with headers and tags.
    pub bytes_out: u64,
    /// Retransmissions sent to subscribers (RTX).
    pub rtx_out: u64,
    /// Retransmissions received from publishers.
    pub rtx_in: u64,
    /// NACKed packets asked of publishers.
    pub nack_out: u64,
    /// NACKed packets that subscribers asked for.
    pub nack_in: u64,
    /// Keyframe requests sent to publishers.
    pub keyframe_requests_out: u64,
    /// Keyframe requests from subscribers.
    pub keyframe_requests_in: u64,
    /// RTP packets handed to other workers, each worker's counted.
    pub piped_out: u64,
    /// RTP packets that came from other workers.
    pub piped_in: u64,
    /// GSO runs handed out by [`crate::Sfu::next_run`] that carried RTP.
    pub runs: u64,
    /// For each of them that carried what had not been sent before: from the arrival of its oldest packet at the machine to its
    /// own departure. Audio, then video, which waits for the pacer, too.
    pub forward_delays: [crate::Durations; 2],
    /// Handshakes completed.
    pub dtls_connected: u64,
    /// Handshakes failed.
    pub dtls_failed: u64,
    /// Messages that came on data channels and were for somebody.
    pub data_messages_in: u64,
    /// Messages relayed on data channels, each receiver's counted.
    pub data_messages_out: u64,
    /// Data associations ended because the peer did not keep up or broke the rules.
    pub data_peers_dropped: u64,
    /// Peers ended by a panic of their own.
    pub peer_panics: u64,
    /// Datagrams and packets dropped, by reason; the order of [`Drop::ALL`].
    pub drops: [u64; Drop::ALL.len()],
}

macro_rules! drops {
    ($($(#[$doc:meta])* $name:ident = $word:literal),* $(,)?) => {
        /// Why a datagram or packet was dropped. A stranger's bytes are never an error: they are counted.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Drop { $($(#[$doc])* $name),* }
        impl Drop {
            /// All reasons, in the order of [`Counters::drops`].
            pub const ALL: [Drop; [$(Drop::$name),*].len()] = [$(Drop::$name),*];
            /// The metric label.
            pub fn as_str(self) -> &'static str { match self { $(Drop::$name => $word),* } }
        }
    };
}

drops! {
    /// First byte not of RFC 7983's table, or too short.
    Unknown = "unknown",
    /// DTLS from an address that no valid STUN check came from, or RTP or RTCP from there that is of no peer.
    UnknownPath = "unknown_path",
    /// Malformed STUN.
    StunMalformed = "stun_malformed",
    /// STUN for a ufrag that nobody has.
    StunUnknownUfrag = "stun_unknown_ufrag",
    /// STUN whose MESSAGE-INTEGRITY does not verify.
    StunIntegrity = "stun_integrity",
    /// STUN from a path by which another peer is heard.
    ContestedPath = "contested_path",
    /// RTP or RTCP before DTLS is done.
    BeforeDtls = "before_dtls",
    /// Malformed RTP.
    RtpMalformed = "rtp_malformed",
    /// Malformed RTCP.
    RtcpMalformed = "rtcp_malformed",
    /// SRTP or SRTCP authentication failed.
    Authentication = "authentication",
    /// Replayed, or too old to tell.
    Replay = "replay",
    /// More SSRCs than one peer may use.
    TooManyStreams = "too_many_streams",
    /// RTP that belongs to no m-line.
    UnknownStream = "unknown_stream",
    /// A payload type that was not negotiated.
    UnknownPayloadType = "unknown_payload_type",
    /// RTP for a track that may not be published or that a moderator holds, or a message of who may send none.
    NotPermitted = "not_permitted",
    /// A packet that had already come.
    Duplicate = "duplicate",
    /// A subscriber fell behind the slab and lost packets.
    Overrun = "overrun",
    /// No SCTP, or a message that says nobody can tell to whom.
    DataMalformed = "data_malformed",
    /// A message of a lossy channel beyond its sender's rate.
    DataRate = "data_rate",
    /// A message of a lossy channel to a peer that does not keep up.
    DataOverrun = "data_overrun",
    /// A message to a peer that takes none so long.
    DataTooLong = "data_too_long",
    /// A padding-only packet (nothing to forward).
    Padding = "padding",
    /// A packet to another worker that does not keep up.
    PipeFull = "pipe_full",
}
