//! The m-lines of one peer and how descriptions change them (JSEP, RFC 9429).
//!
//! The client is the polite side, we are the impolite one. What is agreed is in [`Negotiation::lines`]; an offer of ours
//! works on a copy, so that rolling it back is forgetting the copy. Nothing here knows tracks or transports: the peer
//! compares itself with the lines afterwards.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::data;
use crate::sdp::{
    self, Codec, CodecKey, CodecName, Description, Direction, Extension, Feedback, MEDIA_MAX, Media, MediaKind, Mid,
    Rid, SIMULCAST_MAX,
};
use crate::shared;
use crate::{Codecs, Kind, Refusal, Source, Sources, TrackHint, TrackId};

/// Changes within this time of the last offer go into one offer.
pub(crate) const OFFER_INTERVAL: Duration = Duration::from_millis(100);
/// A client that joined with `media: "sfu"` and means to publish offers within this time; only then do we offer first. Once it has
/// offered, nothing is waited for.
pub(crate) const FIRST_OFFER_DELAY: Duration = Duration::from_millis(150);

/// A page that takes over a seat and means to publish offers within this time; only then is the old session offered to
/// it. Sooner, the offers may cross, and Chromium gathers no candidates after rolling back a first offer whose mids ours
/// has, too. Later, a page that only listens waits longer.
pub(crate) const REOFFER_DELAY: Duration = Duration::from_secs(1);

/// The largest id of a header extension with a one-byte form (RFC 8285 §4.2).
const EXTENSION_ID_MAX: u8 = 14;

/// What the client sends on an m-line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Inbound {
    pub(crate) track: TrackId,
    pub(crate) source: Source,
    pub(crate) muted: bool,
    /// The client's direction says that it sends, and it may.
    pub(crate) sending: bool,
    /// The client would send but may not, and was told so.
    pub(crate) refused: bool,
    pub(crate) ssrcs: Vec<u32>,
    pub(crate) rtx_ssrcs: Vec<(u32, u32)>,
    /// The simulcast layers that were taken, in order of the client's `a=simulcast`; none where there is one encoding.
    pub(crate) rids: Vec<Arc<str>>,
    /// Those of them that the client has paused. Our descriptions repeat it: what they leave unpaused, a browser sends.
    pub(crate) paused: Vec<Arc<str>>,
}

impl Inbound {
    /// The layers as our descriptions name them.
    pub(crate) fn layers(&self) -> Vec<Rid> {
        self.rids.iter().map(|id| Rid { id: id.clone(), paused: self.paused.contains(id) }).collect()
    }
}

/// What we send on an m-line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outbound {
    /// Nothing ever.
    None,
    /// A track; `wanted` is whether the client's direction says that it receives.
    Track { track: TrackId, wanted: bool },
    /// A track that has ended: a mid never changes its track, so this line sends nothing more.
    Retired,
}

/// One m-line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) mid: Mid,
    pub(crate) kind: MediaKind,
    pub(crate) rejected: bool,
    pub(crate) inbound: Option<Inbound>,
    pub(crate) outbound: Outbound,
    /// The client's answer names a track that our offer left no way for: the next offer makes one.
    pub(crate) asks_to_send: bool,
    /// In this peer's payload types, most wanted first.
    pub(crate) codecs: Vec<Codec>,
    pub(crate) extensions: Vec<(u8, Extension)>,
    /// Packets with two-byte extension elements may come among others, both sides said.
    pub(crate) mixed: bool,
}

impl Line {
    fn rejected(mid: Mid, kind: MediaKind) -> Self {
        Line {
            mid,
            kind,
            rejected: true,
            inbound: None,
            outbound: Outbound::None,
            asks_to_send: false,
            codecs: Vec::new(),
            extensions: Vec::new(),
            mixed: false,
        }
    }

    /// Data channels are agreed on it.
    pub(crate) fn carries_data(&self) -> bool {
        self.kind == MediaKind::Application && !self.rejected
    }

    /// The track that we send, if any.
    pub(crate) fn sends(&self) -> Option<TrackId> {
        match self.outbound {
            Outbound::Track { track, .. } if !self.rejected => Some(track),
            _ => None,
        }
    }

    fn direction(&self, sends: bool, receives: bool) -> Direction {
        match (sends, receives) {
            _ if self.rejected => Direction::Inactive,
            (true, true) => Direction::SendRecv,
            (true, false) => Direction::SendOnly,
            (false, true) => Direction::RecvOnly,
            (false, false) => Direction::Inactive,
        }
    }

    /// Our direction in an answer: never more than the client offered.
    pub(crate) fn answered(&self) -> Direction {
        let sends = matches!(self.outbound, Outbound::Track { wanted: true, .. });
        self.direction(sends, self.inbound.as_ref().is_some_and(|i| i.sending))
    }

    /// Our direction in an offer to a client that may publish these.
    pub(crate) fn offered(&self, publish: Sources) -> Direction {
        let receives = self.inbound.as_ref().is_some_and(|inbound| publish.has(inbound.source)) || self.asks_to_send;
        self.direction(matches!(self.outbound, Outbound::Track { .. }), receives)
    }
}

/// A track that we want to send and that has no m-line yet.
#[derive(Debug)]
pub(crate) struct Wanted<'a> {
    pub(crate) track: TrackId,
    pub(crate) kind: MediaKind,
    /// The codecs that its publisher may send.
    pub(crate) codecs: &'a [Codec],
}

/// What may be agreed with a client.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    /// What it may publish.
    pub(crate) publish: Sources,
    /// What its video may be in, both ways.
    pub(crate) codecs: Codecs,
}

/// A description that cannot be applied.
pub(crate) type Refused = (Refusal, String);

fn invalid<T>(message: impl Into<String>) -> Result<T, Refused> {
    Err((Refusal::InvalidSdp, message.into()))
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Negotiation {
    /// `o=` of our descriptions.
    pub(crate) session_id: u64,
    pub(crate) version: u64,
    /// `o=` of the client's: names its RTCPeerConnection.
    pub(crate) origin: Option<String>,
    /// What is agreed.
    pub(crate) lines: Vec<Line>,
    /// Our unanswered offer.
    pub(crate) offered: Option<Vec<Line>>,
    /// An offer is wanted.
    pub(crate) wants_offer: bool,
    /// … and may be made from then on.
    pub(crate) offer_from: Instant,
    /// An ICE restart waits until our offer is answered.
    pub(crate) wants_restart: bool,
    /// We never offer: a player's m-lines are its own, and we fill those on which it would receive something.
    pub(crate) only_answers: bool,
    /// The client offered, or joined as one that waits for our offer.
    pub(crate) may_offer: bool,
    pub(crate) rules: Rules,
    /// What the client was refused and is to be told of; at most one for each m-line of a description.
    refused: Vec<Source>,
    known_codecs: Vec<Codec>,
    known_extensions: Vec<(u8, Extension)>,
    minted_mids: u32,
}

impl Negotiation {
    pub(crate) fn new(session_id: u64, may_offer: bool, now: Instant) -> Self {
        Negotiation {
            session_id,
            version: 0,
            origin: None,
            lines: Vec::new(),
            offered: None,
            wants_offer: false,
            wants_restart: false,
            offer_from: now + FIRST_OFFER_DELAY,
            only_answers: false,
            may_offer,
            rules: Rules { publish: Sources::ALL, codecs: Codecs::ALL },
            refused: Vec::new(),
            known_codecs: Vec::new(),
            known_extensions: Vec::new(),
            minted_mids: 0,
        }
    }

    /// When an offer is due.
    pub(crate) fn offer_due(&self) -> Option<Instant> {
        let may_offer = self.may_offer && !self.only_answers && self.offered.is_none();
        (self.wants_offer && may_offer).then_some(self.offer_from)
    }

    /// Applies a client's offer; the answer is then [`Negotiation::lines`]. On a refusal nothing has changed.
    pub(crate) fn apply_offer(
        &mut self,
        offer: &Description,
        hints: &[TrackHint],
        mut mint: impl FnMut() -> TrackId,
    ) -> Result<(), Refused> {
        self.check_lines(offer, &self.lines)?;
        let mut lines = Vec::with_capacity(offer.media.len());
        let (mut audio, mut video) = (0, 0);
        for (index, media) in offer.media.iter().enumerate() {
            let nth = match media.kind {
                MediaKind::Audio => &mut audio,
                _ => &mut video,
            };
            let guess = guess_source(media.kind, *nth);
            *nth += u32::from(media.direction.sends() && !media.rejected);
            let old = self.lines.get(index).filter(|old| old.mid == media.mid && !old.rejected);
            let said = Said { media, hints, guess, rules: self.rules };
            let mut line = answer_line(old, said, &mut mint);
            // There is one association in a DTLS connection, and the first of these lines stands for it.
            if line.carries_data() && lines.iter().any(Line::carries_data) {
                line = Line::rejected(media.mid, media.kind);
            }
            if self.only_answers {
                line.inbound = None;
                let takes_media = line.kind != MediaKind::Application && !line.rejected && media.direction.receives();
                if line.outbound == Outbound::None && takes_media {
                    line.outbound = Outbound::Track { track: mint(), wanted: true };
                }
            }
            lines.push(line);
        }
        for line in &lines {
            self.learn(line);
        }
        self.note_refused(&lines);
        self.lines = lines;
        self.offered = None;
        self.may_offer = true;
        if self.origin.is_none() {
            self.offer_from -= FIRST_OFFER_DELAY; // what was waited for has come
        }
        self.origin = Some(offer.origin.clone());
        Ok(())
    }

    /// Applies a client's answer to our offer. From a `new_connection` nothing that was received before goes on.
    pub(crate) fn apply_answer(
        &mut self,
        answer: &Description,
        hints: &[TrackHint],
        new_connection: bool,
        mut mint: impl FnMut() -> TrackId,
    ) -> Result<(), Refused> {
        let Some(offered) = &self.offered else { return invalid("an answer came, but no offer of ours waits for one") };
        if answer.media.len() != offered.len() {
            return invalid(format!("the answer has {} m-lines, our offer {}", answer.media.len(), offered.len()));
        }
        self.check_lines(answer, offered)?;
        let lines: Vec<Line> = offered
            .iter()
            .zip(&answer.media)
            .map(|(line, media)| agreed_line(line, media, hints, self.rules, new_connection, &mut mint))
            .collect();
        for line in &lines {
            self.learn(line);
        }
        self.wants_offer |= lines.iter().any(|line| line.asks_to_send);
        // The client takes what it answered for agreed: only another offer stops it.
        self.wants_offer |= self.note_refused(&lines);
        self.lines = lines;
        self.offered = None;
        self.origin = Some(answer.origin.clone());
        Ok(())
    }

    /// Each m-line keeps its place, mid and kind, unless it was rejected and is used anew (RFC 9429 §5.3.1).
    fn check_lines(&self, theirs: &Description, ours: &[Line]) -> Result<(), Refused> {
        if theirs.media.len() < ours.len() {
            return invalid(format!(
                "m-lines cannot be removed: {} came, {} are known",
                theirs.media.len(),
                ours.len()
            ));
        }
        for (index, (line, media)) in ours.iter().zip(&theirs.media).enumerate() {
            let free = line.rejected || media.rejected;
            if !free && (line.mid != media.mid || line.kind != media.kind) {
                return invalid(format!(
                    "m-line {index} is {} {} but came as {} {}",
                    line.kind.as_str(),
                    line.mid,
                    media.kind.as_str(),
                    media.mid
                ));
            }
        }
        Ok(())
    }

    /// Payload types and extension ids mean one thing in a BUNDLE group: remember what the client calls them. What we called
    /// otherwise stood in an offer that it rolled back.
    fn learn(&mut self, line: &Line) {
        for codec in &line.codecs {
            let key = codec.key();
            let numbers = [Some(codec.payload_type), codec.rtx];
            let is_taken = |number: Option<u8>| number.is_some() && numbers.contains(&number);
            self.known_codecs.retain(|k| k.key() == key || !is_taken(Some(k.payload_type)) && !is_taken(k.rtx));
            match self.known_codecs.iter_mut().find(|k| k.key() == key) {
                Some(known) => *known = codec.clone(),
                None => self.known_codecs.push(codec.clone()),
            }
        }
        for (id, extension) in &line.extensions {
            if !self.known_extensions.contains(&(*id, *extension)) {
                self.known_extensions.retain(|(i, e)| i != id && e != extension);
                self.known_extensions.push((*id, *extension));
            }
        }
    }

    /// Whether the next offer takes tracks away.
    pub(crate) fn removes(&self) -> bool {
        self.lines.iter().any(|line| line.outbound == Outbound::Retired && !line.rejected)
    }

    /// Makes an offer: ended tracks leave their lines, `wanted` ones get lines. Returns the tracks for which there is no
    /// room. The offer is then [`Negotiation::offered`].
    pub(crate) fn make_offer(&mut self, wanted: &[Wanted<'_>], now: Instant) -> Vec<TrackId> {
        let mut lines = self.lines.clone();
        for line in &mut lines {
            if line.outbound == Outbound::Retired {
                // A line that sends nothing more and never received is given up, and may be used anew after the answer.
                line.rejected |= line.inbound.is_none();
                line.outbound = Outbound::None;
            }
        }
        let mut left_out = Vec::new();
        for want in wanted {
            // What was rejected in an earlier description both sides have let go of.
            let free =
                self.lines.iter().zip(&lines).position(|(old, line)| {
                    old.rejected && line.rejected && line.kind == want.kind && old.mid == line.mid
                });
            if free.is_none() && lines.len() >= MEDIA_MAX {
                left_out.push(want.track);
                continue;
            }
            let line = Line {
                mid: self.mint_mid(&lines),
                kind: want.kind,
                rejected: false,
                inbound: None,
                outbound: Outbound::Track { track: want.track, wanted: true },
                asks_to_send: false,
                codecs: self.own_codecs(want.codecs),
                extensions: self.own_extensions(want.kind),
                mixed: true,
            };
            match free {
                Some(index) => lines[index] = line,
                None => lines.push(line),
            }
        }
        self.offered = Some(lines);
        self.wants_offer = false;
        self.offer_from = now + OFFER_INTERVAL;
        left_out
    }

    /// The client said over signaling that a track of its is muted or not: later descriptions that do not say keep to it.
    pub(crate) fn mute(&mut self, track: TrackId, muted: bool) {
        for line in self.lines.iter_mut().chain(self.offered.iter_mut().flatten()) {
            if let Some(inbound) = line.inbound.as_mut().filter(|inbound| inbound.track == track) {
                inbound.muted = muted;
            }
        }
    }

    /// Notes what the client is refused and was not refused before; whether there is any.
    fn note_refused(&mut self, lines: &[Line]) -> bool {
        let before = self.refused.len();
        for line in lines {
            let Some(inbound) = line.inbound.as_ref().filter(|inbound| inbound.refused) else { continue };
            let known = self.lines.iter().find(|known| known.mid == line.mid).and_then(|known| known.inbound.as_ref());
            if known.is_none_or(|known| (known.refused, known.source) != (true, inbound.source)) {
                self.refused.push(inbound.source);
            }
        }
        self.refused.len() > before
    }

    /// What the client is to be told that it was refused.
    pub(crate) fn take_refused(&mut self) -> Vec<Source> {
        std::mem::take(&mut self.refused)
    }

    /// What the client may publish from now on. Lines that it may not send on any more receive nothing; lines on which it
    /// may again are offered to it.
    pub(crate) fn permit(&mut self, publish: Sources) {
        let before = std::mem::replace(&mut self.rules.publish, publish);
        for inbound in self.lines.iter_mut().filter_map(|line| line.inbound.as_mut()) {
            let may = publish.has(inbound.source);
            self.wants_offer |= may != before.has(inbound.source);
            inbound.refused = !may && (inbound.refused || inbound.sending);
            if !may {
                inbound.sending = false;
                inbound.rids.clear();
                inbound.paused.clear();
            }
        }
    }

    /// A track has ended: its line sends nothing more.
    pub(crate) fn retire(&mut self, track: TrackId) {
        self.retire_gone(|other| other != track);
        self.wants_offer = true;
    }

    /// Lines whose track is not `live` send nothing more; whether there were any.
    pub(crate) fn retire_gone(&mut self, live: impl Fn(TrackId) -> bool) -> bool {
        let mut any = false;
        for line in &mut self.lines {
            if let Outbound::Track { track, .. } = line.outbound
                && !live(track)
            {
                line.outbound = Outbound::Retired;
                any = true;
            }
        }
        any
    }

    /// A mid that nobody has. All have one width, so that packets of a run have one size.
    fn mint_mid(&mut self, lines: &[Line]) -> Mid {
        loop {
            let name = format!("s{:03x}", self.minted_mids & 0xfff);
            self.minted_mids += 1;
            if let Some(mid) = Mid::new(&name)
                && !lines.iter().any(|line| line.mid == mid)
            {
                return mid;
            }
        }
    }

    /// A publisher's codecs, most wanted first.
    fn own_codecs(&mut self, codecs: &[Codec]) -> Vec<Codec> {
        // RED needs to know the number of the Opus that it carries, wherever that stands.
        for opus in codecs.iter().filter(|codec| codec.name == CodecName::Opus) {
            self.own_codec(opus);
        }
        let mut own: Vec<Codec> = codecs.iter().filter_map(|codec| self.own_codec(codec)).collect();
        // RED we write ourselves where a link loses packets, whatever the publisher sends.
        let has = |own: &[Codec], name| own.iter().any(|codec| codec.name == name);
        if has(&own, CodecName::Opus) && !has(&own, CodecName::Red) {
            own.extend(self.own_codec(&shared::red()));
        }
        own
    }

    /// A publisher's codec under this peer's payload types; new ones are given out where it never named any.
    fn own_codec(&mut self, codec: &Codec) -> Option<Codec> {
        let key: CodecKey = codec.key();
        if let Some(known) = self.known_codecs.iter().find(|known| known.key() == key) {
            return Some(known.clone());
        }
        // The publisher's number is the likeliest to be what this client's browser would choose as well.
        let payload_type = self.free_payload_type(codec.payload_type, None)?;
        let rtx = match codec.rtx {
            Some(theirs) => Some(self.free_payload_type(theirs, Some(payload_type))?),
            None => None,
        };
        let feedback = if codec.clock_rate == 48_000 { Feedback::audio() } else { Feedback::video() };
        let mut fmtp = codec.fmtp.clone();
        if codec.name == CodecName::Red {
            let opus = self.known_codecs.iter().find(|known| known.name == CodecName::Opus)?;
            // With one redundant block (RFC 2198 §5).
            fmtp = format!("{0}/{0}", opus.payload_type);
        }
        let own =
            Codec { payload_type, rtx, fmtp, feedback: Feedback { goog_remb: false, ..feedback }, ..codec.clone() };
        self.known_codecs.push(own.clone());
        Some(own)
    }

    fn free_payload_type(&self, liked: u8, besides: Option<u8>) -> Option<u8> {
        std::iter::once(liked).chain(96..=127).chain(35..=63).find(|pt| {
            besides != Some(*pt) && !self.known_codecs.iter().any(|c| c.payload_type == *pt || c.rtx == Some(*pt))
        })
    }

    fn own_extensions(&mut self, kind: MediaKind) -> Vec<(u8, Extension)> {
        let mut own = Vec::new();
        // We name no layers; but Chromium, once it was offered video, offers its own with no other extensions than ours had,
        // and then refuses its own simulcast for want of them.
        let names: &[Extension] =
            if kind == MediaKind::Video { &[Extension::Rid, Extension::RepairedRid] } else { &[] };
        for extension in sdp::default_extensions(kind).iter().chain(names) {
            let known = self.known_extensions.iter().find(|(_, e)| e == extension).map(|(id, _)| *id);
            let is_free = |id: &u8| !self.known_extensions.iter().any(|(known, _)| known == id);
            let free = || std::iter::once(liked_id(*extension)).chain(1..=EXTENSION_ID_MAX).find(is_free);
            if let Some(id) = known.or_else(free) {
                own.push((id, *extension));
                if known.is_none() {
                    self.known_extensions.push((id, *extension));
                }
            }
        }
        own
    }
}

/// Ids that Chromium gives to nothing else. Where our offer was first, it numbers the extensions of its own video m-lines
/// from 1 by their place in its list (1 is toffset, 3 the orientation, 5 to 8 further ones, 9 to 12 as here, 13 the allocation
/// of layers) without looking at what our audio m-lines use, and then refuses its own offer: ids mean one thing in a BUNDLE
/// group. Where its own audio was first, that has 1 to 4, and what they displace goes to 14 and 13.
fn liked_id(extension: Extension) -> u8 {
    match extension {
        Extension::AudioLevel => 14,
        Extension::AbsSendTime => 2,
        Extension::VideoOrientation => 3,
        Extension::TransportCc => 4,
        Extension::PlayoutDelay => 5,
        Extension::Mid => 9,
        Extension::Rid => 10,
        Extension::RepairedRid => 11,
        Extension::DependencyDescriptor => 12,
    }
}

/// What an m-line shows when the client does not say.
fn guess_source(kind: MediaKind, nth: u32) -> Source {
    match (kind, nth) {
        (MediaKind::Audio, 0) => Source::Microphone,
        (MediaKind::Audio, _) => Source::ScreenAudio,
        (_, 0) => Source::Camera,
        (_, _) => Source::Screen,
    }
}

/// What a client says of an m-line, and what it may say.
#[derive(Clone, Copy)]
struct Said<'a> {
    media: &'a Media,
    hints: &'a [TrackHint],
    /// What it shows if nobody says.
    guess: Source,
    rules: Rules,
}

impl Said<'_> {
    /// The hint for the m-line, if what it claims can be there.
    fn hint(&self) -> Option<&TrackHint> {
        let fits = |hint: &&TrackHint| match hint.source.kind() {
            Kind::Audio => self.media.kind == MediaKind::Audio,
            Kind::Video => self.media.kind == MediaKind::Video,
        };
        self.hints.iter().find(|hint| hint.mid == self.media.mid.as_str()).filter(fits)
    }
}

/// The line with which we answer an offered one.
fn answer_line(old: Option<&Line>, said: Said<'_>, mint: &mut impl FnMut() -> TrackId) -> Line {
    let Said { media, rules, .. } = said;
    let allowed = |c: &&Codec| forwardable(c, media) && rules.codecs.has(c.name);
    let codecs: Vec<Codec> = media.codecs.iter().filter(allowed).map(answered_codec).collect();
    let data = media.kind == MediaKind::Application && media.sctp_port == Some(data::PORT);
    // What we cannot forward we do not take.
    if media.rejected || codecs.is_empty() && !data {
        return Line::rejected(media.mid, media.kind);
    }
    // Ids above 14 have no one-byte form, in which we write; RIDs we only read, and Chromium gives them what ids are left.
    let writable = |id: u8, e| id <= EXTENSION_ID_MAX || matches!(e, Extension::Rid | Extension::RepairedRid);
    let accepted = |(id, e): &&(u8, Extension)| writable(*id, *e) && sdp::accepts_extension(media.kind, *e);
    let extensions = media.extensions.iter().filter(accepted).copied().collect();
    let before = old.and_then(|line| line.inbound.as_ref());
    let inbound = if data { None } else { inbound(before, said, mint) };
    let outbound = match old.map_or(Outbound::None, |line| line.outbound) {
        Outbound::Track { track, .. } => Outbound::Track { track, wanted: media.direction.receives() },
        other => other,
    };
    Line {
        mid: media.mid,
        kind: media.kind,
        rejected: false,
        inbound,
        outbound,
        asks_to_send: false,
        codecs,
        extensions,
        mixed: media.mixed,
    }
}

fn inbound(before: Option<&Inbound>, said: Said<'_>, mint: &mut impl FnMut() -> TrackId) -> Option<Inbound> {
    let (media, hint) = (said.media, said.hint());
    let would_send = media.direction.sends();
    if before.is_none() && !would_send {
        return None;
    }
    let source = hint.map(|h| h.source).or(before.map(|i| i.source)).unwrap_or(said.guess);
    let may = said.rules.publish.has(source);
    let sending = would_send && may;
    // Without the header extension nobody could tell layers apart, and browsers refuse such an answer.
    let named = media.extensions.iter().any(|(_, extension)| *extension == Extension::Rid);
    let is_simulcast = media.kind == MediaKind::Video && sending && named;
    let taken = if is_simulcast { media.rids.len().min(SIMULCAST_MAX) } else { 0 };
    let rids = &media.rids[..taken];
    Some(Inbound {
        track: before.map_or_else(mint, |i| i.track),
        source,
        refused: !may && (would_send || before.is_some_and(|i| i.refused)),
        muted: hint.and_then(|h| h.muted).or(before.map(|i| i.muted)).unwrap_or(false),
        sending,
        ssrcs: media.ssrcs.clone(),
        rtx_ssrcs: media.rtx_ssrcs.clone(),
        rids: rids.iter().map(|rid| rid.id.clone()).collect(),
        paused: rids.iter().filter(|rid| rid.paused).map(|rid| rid.id.clone()).collect(),
    })
}

/// Whether we forward a codec of an m-line; RED only over the Opus of the same m-line, to which it falls back.
fn forwardable(codec: &Codec, media: &Media) -> bool {
    let carries = |opus: &Codec| {
        let opus_type = Some(opus.payload_type);
        opus.name == CodecName::Opus && codec.fmtp.split('/').all(|block| block.trim().parse().ok() == opus_type)
    };
    sdp::supported(codec)
        && (codec.name != CodecName::Red || media.codecs.iter().any(|c| sdp::supported(c) && carries(c)))
}

/// A codec of an offer as we answer it. One congestion control is enough: transport-wide feedback where there is a choice.
fn answered_codec(codec: &Codec) -> Codec {
    let ours =
        if codec.clock_rate == 48_000 { Feedback { nack: true, ..Feedback::audio() } } else { Feedback::video() };
    let mut feedback = codec.feedback.intersection(ours);
    feedback.goog_remb &= !feedback.transport_cc;
    Codec { feedback, ..codec.clone() }
}

/// What an offered line of ours became by the client's answer.
fn agreed_line(
    line: &Line,
    media: &Media,
    hints: &[TrackHint],
    rules: Rules,
    new_connection: bool,
    mint: &mut impl FnMut() -> TrackId,
) -> Line {
    if line.rejected || media.rejected {
        return Line { mid: line.mid, ..Line::rejected(line.mid, line.kind) };
    }
    let codecs = media.codecs.iter().filter_map(|theirs| {
        let ours = line.codecs.iter().find(|c| c.payload_type == theirs.payload_type)?;
        let rtx = ours.rtx.filter(|_| theirs.rtx == ours.rtx);
        (ours.name == theirs.name).then(|| Codec { rtx, ..ours.clone() })
    });
    let before = line.inbound.as_ref().filter(|_| !new_connection);
    let guess = line.inbound.as_ref().map_or_else(|| guess_source(media.kind, 0), |i| i.source);
    let said = Said { media, hints, guess, rules };
    let may_send = line.inbound.is_some() || line.asks_to_send;
    Line {
        mid: line.mid,
        kind: line.kind,
        rejected: false,
        inbound: if may_send { inbound(before, said, mint) } else { None },
        outbound: match line.outbound {
            Outbound::Track { track, .. } => Outbound::Track { track, wanted: media.direction.receives() },
            other => other,
        },
        // A browser lets addTrack take over a transceiver that our offer made. If another offer of ours comes before its
        // own, Chromium names the track in its answer, and never offers it, since `recvonly` is all that it could answer.
        asks_to_send: !may_send
            && media.msid.is_some()
            && !media.direction.sends()
            && rules.publish.has(said.hint().map_or(guess, |hint| hint.source)),
        codecs: codecs.collect(),
        extensions: line.extensions.iter().filter(|e| media.extensions.contains(e)).copied().collect(),
        mixed: line.mixed && media.mixed,
    }
}

#[cfg(test)]
mod tests;
