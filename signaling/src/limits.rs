//! Every limit of the lobby, by name, with what *full* means.

use std::time::{Duration, Instant};

/// Longest `sessionId`, `userId` and `userName`, in characters; longer ones are `request/invalid`.
pub const NAME_CHARS_MAX: usize = 128;
/// Longest `clientId`, `resumeToken` and `mid`, in characters; longer ones are `request/invalid`.
pub const ID_CHARS_MAX: usize = 64;
/// Longest chat message, in bytes; a longer one is `request/invalid`.
pub const CHAT_BYTES_MAX: usize = 4096;
/// Longest reaction, in bytes (most emoji need 4–8, a family of four 25); a longer one is `request/invalid`.
pub const EMOJI_BYTES_MAX: usize = 32;
/// Longest ICE candidate for the SFU, encoded, in bytes; a longer one is `request/invalid`.
pub const CANDIDATE_BYTES_MAX: usize = 2048;
/// Largest relayed payload, encoded, in bytes: a description and its surroundings; a larger one is `request/invalid`.
pub const RELAY_BYTES_MAX: usize = sfu::sdp::SDP_BYTES_MAX + 32 * 1024;
/// Most `tracks` in an offer; more are `request/invalid`.
pub const TRACK_HINTS_MAX: usize = 128;
/// Largest `width` or `height` of a subscription, in pixels.
pub const PIXELS_MAX: u16 = 16_384;
/// Largest `priority` of a subscription.
pub const PRIORITY_MAX: u16 = 255;

/// Remembered `clientId`s of a person, newest kept: a message sent again later than that is a new message.
pub const CLIENT_IDS_MAX: usize = 64;

/// Sockets of one address (a school behind one address must fit); one more is told so and disconnected.
pub const SOCKETS_PER_ADDRESS_MAX: usize = 2_000;
/// Rooms; one more is `server/overloaded`.
pub const ROOMS_MAX: usize = 10_000;
/// Snapshots of rooms on several workers that are being gathered. When full, further ones are refused.
pub const SNAPSHOTS_MAX: usize = 64;
/// Seats in all rooms, empty ones within their grace time too; one more is `server/overloaded`.
pub const SEATS_MAX: usize = 20_000;
/// Seats of a room unless its settings say otherwise; one more is `session/full`.
pub const ROOM_SEATS_DEFAULT: usize = 500;
/// Most seats that a room's settings may say.
pub const ROOM_SEATS_MAX: usize = 5_000;
/// Chat messages of a meeting that late joiners get, newest kept.
pub const CHAT_HISTORY_MAX: usize = 200;
/// Bytes of the same, encoded, newest kept: they come with each join's ack.
pub const CHAT_HISTORY_BYTES_MAX: usize = 128 * 1024;
/// Largest `metadata` of a participant, encoded, in bytes: it is in every roster. A larger one is `request/invalid`.
pub const METADATA_BYTES_MAX: usize = 2048;
/// People of whom a meeting remembers that they were there, and to what they were promoted. Beyond it who left and has no such
/// role is forgotten: a newcomer again, where newcomers wait or are refused.
pub const KNOWN_MAX: usize = 10_000;
/// People removed from a meeting; removing one more is `server/overloaded`: lock the session.
pub const REMOVED_MAX: usize = 10_000;
/// Tokens that are refused until their time is over; beyond it that which ends first is let go.
pub const REVOKED_MAX: usize = 20_000;
/// People who wait to be admitted to a session; one more is `session/full`.
pub const WAITING_MAX: usize = 200;
/// Holders of TURN credentials that came with join tokens; with one more the oldest is revoked.
pub const TOKEN_HOLDERS_MAX: usize = 20_000;
/// The same of one user in one session, so that nobody revokes others' by asking often.
pub const TOKEN_HOLDERS_PER_USER_MAX: usize = 4;
/// Sessions whose rules differ from the server's own; the rules of one more are refused by [`crate::Lobby`], which keeps its defaults.
pub const SETTINGS_MAX: usize = 100_000;

/// How long the SFU may take to answer the first offer of a WHIP or WHEP client, which takes it milliseconds; then the client is told
/// `server/overloaded`.
pub const OFFER_ANSWER_MAX: Duration = Duration::from_secs(10);
/// WHIP and WHEP resources; one more is `server/overloaded`.
pub const RESOURCES_MAX: usize = 5_000;
/// The same of one address; one more is `rate/limited`.
pub const RESOURCES_PER_ADDRESS_MAX: usize = 500;

/// How long a TURN credential opens allocations; those that are open go on. A browser allocates anew whenever its network
/// changes, with the credential of its last join, so this is the longest call that never loses its socket: a school day.
/// Our own server ends what a seat has with the seat. One outside knows nothing of seats: there a credential is good for so
/// long, and longer would be worth more to whoever was sent away.
pub const TURN_CREDENTIAL_LIFETIME: Duration = Duration::from_secs(12 * 60 * 60);

/// How long an event waits for its socket's join. Longer would delay the error, shorter lose what a reconnecting client flushes.
pub const EARLY_WAIT: Duration = Duration::from_secs(2);
/// Events that wait for a socket's join; one more is `session/not_joined` at once.
pub const EARLY_EVENTS_MAX: usize = 64;
/// Bytes that wait for a socket's join, encoded; more are `session/not_joined` at once.
pub const EARLY_BYTES_MAX: usize = 512 * 1024;

/// By how much clocks of those who mint tokens may be wrong.
pub const TOKEN_SKEW: Duration = Duration::from_secs(30);
/// How long before its end a token is minted anew for who is still there. Later might be too late for a slow network.
pub const RENEW_BEFORE: Duration = Duration::from_secs(60);
/// Tokens of a seat are not renewed closer together than this.
pub const RENEW_EVERY: Duration = Duration::from_secs(1);

/// How often a socket is asked whether it is there: so far apart are the proofs of life of one that says nothing by itself. Clients
/// are told so when they connect, and rely on it.
pub const PING_EVERY: Duration = Duration::from_secs(10);
/// How often a meeting's proofs of life are written down. Rarer would be less to write and a worse guess of when the server died.
pub const HEARTBEAT_EVERY: Duration = Duration::from_secs(5);
/// What a crash may cost a connection: the last answer to a ping may be so old, and come right after a heartbeat.
pub const CRASH_ERROR_MAX: Duration = PING_EVERY.saturating_add(HEARTBEAT_EVERY);
/// How long a meeting stays open with nobody there: who comes within it comes back to the same meeting.
pub const EMPTY_TIMEOUT: Duration = Duration::from_secs(120);

/// How old an answer may be and still be repeated to a resumed socket: an older one was certainly received.
pub const ANSWER_REPEAT_MAX: Duration = Duration::from_secs(30);
/// Up to so many seats everybody is told how good everybody's connection is; in a larger room only the participant itself and
/// instructors: nobody sees the others all at once, and it would be told a square of people times.
pub const QUALITY_TO_ALL_MAX: usize = 50;
/// ICE restarts by the server, of one peer: not closer together than this.
pub const ICE_RESTART_EVERY: Duration = Duration::from_secs(5);

/// Whole rosters of a room: not closer together than this.
pub const ROSTER_EVERY: Duration = Duration::from_millis(100);
/// The same in a large room, where `participant-updated`, `user-joined` and `user-left` carry the changes meanwhile.
pub const ROSTER_LARGE_EVERY: Duration = Duration::from_secs(1);
/// The same in the largest rooms. Between, the time grows with the square of the people, for the roster grows with them and goes to each
/// of them: what a room is told stays below 20 MB a second. Lower, a room that fills disconnects those whose machine does not
/// keep up; higher, clients that look at nothing else learn later who came.
pub const ROSTER_HUGE_EVERY: Duration = Duration::from_secs(10);
/// Seats at which that is reached.
pub const ROSTER_HUGE_MIN: usize = 1_000;
/// Above this many seats a room is large.
pub const ROSTER_SMALL_MAX: usize = 100;

/// Events of one socket, all kinds. The burst is what a mesh client of 25 needs when it joins: an offer or answer and a dozen candidates each.
pub(crate) const EVENTS: Rate = Rate { interval: Duration::from_millis(20), burst: 500 };
/// Events refused at once before the socket is disconnected.
pub const EXCESS_EVENTS_MAX: u32 = 1_000;
/// Events refused for [`EVENTS`] or any narrower rate: when these are used up the socket is disconnected.
pub(crate) const EXCESS: Rate = Rate { interval: Duration::from_millis(100), burst: EXCESS_EVENTS_MAX };
/// Chat messages of one socket.
pub(crate) const CHATS: Rate = Rate { interval: Duration::from_millis(200), burst: 30 };
/// Offers of one socket: the burst is a mesh client's that joins a room of 60.
pub(crate) const OFFERS: Rate = Rate { interval: Duration::from_millis(200), burst: 60 };
/// Hands and reactions of one socket, which go to everybody.
pub(crate) const GESTURES: Rate = Rate { interval: Duration::from_millis(200), burst: 20 };
/// Joins of one socket, which go to everybody and answer with the roster.
pub(crate) const JOINS: Rate = Rate { interval: Duration::from_millis(500), burst: 20 };

/// So many at once, then one an interval.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rate {
    pub(crate) interval: Duration,
    pub(crate) burst: u32,
}

/// A token bucket, kept as the time at which it will be full again.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Bucket {
    full_at: Option<Instant>,
}

impl Bucket {
    /// Takes a token; `false` if there is none.
    pub(crate) fn take(&mut self, rate: Rate, now: Instant) -> bool {
        let full_at = self.full_at.map_or(now, |t| t.max(now)) + rate.interval;
        let granted = full_at - now <= rate.interval * rate.burst;
        if granted {
            self.full_at = Some(full_at);
        }
        granted
    }
}
