//! How long joins take, for metrics and traces: from the event to its ack, and from the first word about media until it flows.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use serde_json::Value;
use serde_json::value::RawValue;
use sfu::{Durations, Event, PeerId, Request};
use signaling::AckId;
use tracing::Span;
use tracing::span::Id;

use crate::traces::{self, TARGET};

/// The event that is a join.
const JOIN: &str = "join-session";
/// What a socket is told that has to wait for somebody to admit it: how long that takes says nothing of us.
const WAITING: &str = "waiting";

/// How long each stage took, over all joins. Locked once a join, and at each scrape.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// From `join-session`, as it was read from the socket, to its ack, which waits until it is on disk that somebody came.
    ack: Mutex<Durations>,
    /// From the first word about media, which is the join itself or the first offer, until ICE and DTLS are up.
    media: Mutex<Durations>,
}

impl Tally {
    /// The stages by name.
    pub(crate) fn read(&self) -> [(&'static str, Durations); 2] {
        [("ack", &self.ack), ("media", &self.media)]
            .map(|(stage, took)| (stage, took.lock().unwrap_or_else(PoisonError::into_inner).clone()))
    }
}

fn note(stage: &Mutex<Durations>, since: Instant, now: Instant) {
    stage.lock().unwrap_or_else(PoisonError::into_inner).note(now.saturating_duration_since(since));
}

/// A join whose ack has not left yet.
#[derive(Debug)]
pub(crate) struct Joining {
    ack: Option<AckId>,
    since: Instant,
    span: Span,
}

impl Joining {
    /// If an event is a join: one that came at `since`.
    pub(crate) fn of(name: &str, payload: &Value, ack: Option<AckId>, since: Instant) -> Option<Self> {
        if name != JOIN {
            return None;
        }
        let session = payload["sessionId"].as_str().unwrap_or_default();
        Some(Joining { ack, since, span: tracing::info_span!(target: TARGET, "join", session, error = traces::EMPTY) })
    }

    /// Its span, for what follows from it.
    pub(crate) fn span(&self) -> Option<Id> {
        self.span.id()
    }

    /// Whether an event to its socket says that it waits at the door.
    pub(crate) fn is_held_up_by(event: &str) -> bool {
        event == WAITING
    }

    /// Whether this is its ack.
    pub(crate) fn is_answered_by(&self, ack: AckId) -> bool {
        self.ack == Some(ack)
    }

    /// Its ack leaves: counted, if it lets somebody in.
    pub(crate) fn answered(self, body: &RawValue, tally: &Tally, now: Instant) {
        if body.get().starts_with("{\"ok\":true") {
            note(&tally.ack, self.since, now);
        } else {
            self.span.record("error", "refused");
        }
    }
}

/// Peers whose media is not up yet, and offers of clients that are not answered: as many as the lobby has peers at most.
#[derive(Debug, Default)]
pub(crate) struct Openings(HashMap<PeerId, Opening>);

#[derive(Debug, Default)]
struct Opening {
    /// Until media is up.
    since: Option<(Instant, Span)>,
    /// The client's last offer.
    offer: Option<Span>,
}

impl Openings {
    /// The lobby asks something of a media worker, perhaps because of a join.
    pub(crate) fn asked(&mut self, request: &Request, join: Option<&Id>, now: Instant) {
        match request {
            Request::Join { peer, .. } => {
                let span = tracing::info_span!(target: TARGET, parent: None, "media", error = traces::EMPTY);
                span.follows_from(join.cloned());
                self.0.insert(*peer, Opening { since: Some((now, span)), offer: None });
            }
            Request::Offer { peer, .. } => {
                let span = tracing::info_span!(target: TARGET, parent: None, "negotiation", error = traces::EMPTY);
                let opening = self.0.entry(*peer).or_default();
                span.follows_from(opening.since.as_ref().and_then(|(_, media)| media.id()));
                opening.offer = Some(span);
            }
            Request::Leave { peer } => self.gone(*peer),
            _ => {}
        }
    }

    /// A media worker reports.
    pub(crate) fn heard(&mut self, event: &Event, tally: &Tally, now: Instant) {
        match event {
            Event::Connected { peer } => {
                if let Some((since, _)) = self.0.get_mut(peer).and_then(|opening| opening.since.take()) {
                    note(&tally.media, since, now);
                }
                self.tidy(*peer);
            }
            Event::Answer { peer, .. } => self.negotiated(*peer, None),
            Event::Refused { peer, description: sfu::Description::Offer, .. } => {
                // Why is in the answer; it may hold what the client wrote.
                self.negotiated(*peer, Some("the offer was refused"));
            }
            Event::Closed { peer, .. } => self.gone(*peer),
            _ => {}
        }
    }

    fn negotiated(&mut self, peer: PeerId, error: Option<&str>) {
        if let Some((span, error)) = self.0.get_mut(&peer).and_then(|opening| opening.offer.take()).zip(error) {
            span.record("error", error);
        }
        self.tidy(peer);
    }

    /// One whose media never came up is no join that took long: it shows as a peer that is not connected.
    fn gone(&mut self, peer: PeerId) {
        if let Some((_, span)) = self.0.remove(&peer).and_then(|opening| opening.since) {
            span.record("error", "it left before media was up");
        }
    }

    /// Forgets a peer of which nothing is under way.
    fn tidy(&mut self, peer: PeerId) {
        if self.0.get(&peer).is_some_and(|opening| opening.since.is_none() && opening.offer.is_none()) {
            self.0.remove(&peer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn body(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.to_owned()).expect("JSON")
    }

    fn counts(tally: &Tally) -> [u64; 2] {
        tally.read().map(|(_, took)| took.count())
    }

    #[test]
    fn joins_that_let_somebody_in_are_counted_from_when_they_were_read() {
        let (tally, since) = (Tally::default(), Instant::now());
        let joining = |ack| Joining::of(JOIN, &Value::Null, Some(AckId(ack)), since).expect("a join");
        assert!(Joining::of("leave-session", &Value::Null, None, since).is_none());
        assert!(joining(1).is_answered_by(AckId(1)) && !joining(1).is_answered_by(AckId(2)));
        joining(1).answered(&body("{\"ok\":false}"), &tally, since);
        assert_eq!(counts(&tally), [0, 0]);
        joining(1).answered(&body("{\"ok\":true,\"more\":1}"), &tally, since + Duration::from_millis(7));
        assert_eq!(counts(&tally), [1, 0]);
        assert_eq!(tally.read()[0].1.sum, Duration::from_millis(7));
    }

    #[test]
    fn media_is_counted_once_a_peer_and_forgotten_with_it() {
        let (tally, since) = (Tally::default(), Instant::now());
        let mut openings = Openings::default();
        let begin = |openings: &mut Openings, peer| {
            openings.0.insert(PeerId(peer), Opening { since: Some((since, Span::none())), offer: None });
        };
        begin(&mut openings, 1);
        begin(&mut openings, 2);
        let up = Event::Connected { peer: PeerId(1) };
        openings.heard(&up, &tally, since + Duration::from_secs(1));
        // A restart of ICE is no join.
        openings.heard(&up, &tally, since + Duration::from_secs(9));
        openings.asked(&Request::Leave { peer: PeerId(2) }, None, since);
        assert_eq!((counts(&tally), openings.0.len()), ([0, 1], 0));
        let offer = || Request::Offer { peer: PeerId(1), sdp: String::new(), tracks: Vec::new(), saw_ours: false };
        openings.asked(&offer(), None, since);
        assert_eq!(openings.0.len(), 1);
        openings.heard(&Event::Answer { peer: PeerId(1), sdp: String::new(), tracks: Vec::new() }, &tally, since);
        assert!(openings.0.is_empty() && counts(&tally) == [0, 1]);
    }
}
