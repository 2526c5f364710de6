//! WHIP and WHEP: seats and viewers without a socket.

use std::sync::Arc;

use serde_json::json;
use sfu::{CloseReason, PeerId, Refusal, Request, View};
use signaling::{Ask, Granted, HttpId};

use crate::world::*;

const OFFER: &str = "v=0\r\na=ice-ufrag:aaaa\r\na=ice-pwd:pppppppppppppppppppppp\r\n";

fn publish(session: &str, user: &str) -> Ask {
    let (session, user, sdp) = (session.into(), user.into(), OFFER.into());
    Ask::Publish { identity: None, session, user, name: Some("OBS".into()), instructor: false, sdp }
}

fn play(session: &str, participant: Option<&str>) -> Ask {
    Ask::Play { identity: None, session: session.into(), participant: participant.map(Into::into), sdp: OFFER.into() }
}

/// The peer that the SFU was asked to make and to take an offer from.
fn made(w: &mut World) -> (PeerId, View) {
    let requests = w.requests();
    let [
        Request::Join { peer, auto_subscribe: false, offer_first: false, view, .. },
        Request::Offer { peer: same, sdp, .. },
    ] = &requests[..]
    else {
        panic!("{requests:?}")
    };
    assert_eq!((peer, sdp.as_str()), (same, OFFER));
    (*peer, view.clone())
}

fn created(w: &World, http: HttpId) -> (Arc<str>, u64) {
    match w.reply(http) {
        Some(Ok(Granted::Created { resource, etag, sdp, .. })) => {
            assert_eq!(sdp, "the answer");
            (resource, etag)
        }
        other => panic!("{other:?}"),
    }
}

/// A publisher whose offer was answered.
fn publisher(w: &mut World, session: &str, user: &str) -> (PeerId, Arc<str>) {
    let http = w.ask(publish(session, user));
    let (peer, view) = made(w);
    assert_eq!(view, View::Tracks);
    assert!(w.reply(http).is_none(), "not before the SFU answers");
    w.sfu(answered(peer, "the answer"));
    (peer, created(w, http).0)
}

#[test]
fn a_publisher_is_a_participant_like_others() {
    let mut w = world();
    let ann = w.join("math", "ann");
    w.mail(ann);
    let (peer, resource) = publisher(&mut w, "math", "studio");
    assert_eq!(resource.len(), 32);
    w.sfu(published(peer, 7));
    w.wait(200);
    let mail = w.mail(ann);
    let joined = mail.iter().find(|(name, _)| *name == "user-joined").expect("the others are told");
    assert_eq!((&joined.1["userId"], &joined.1["userName"]), (&json!("studio"), &json!("OBS")));
    let roster = &mail.iter().rev().find(|(name, _)| *name == "participants-update").expect("a roster").1;
    let studio = &roster["participants"][1];
    assert_eq!((&studio["state"], studio["tracks"].as_array().map(Vec::len)), (&json!("connected"), Some(1)));

    let http = w.ask(Ask::End { resource: resource.to_string() });
    assert_eq!(w.reply(http), Some(Ok(Granted::Done)));
    assert_eq!(w.one(ann, "user-left")["reason"], "left");
    assert!(matches!(w.requests()[..], [Request::Leave { peer: p }] if p == peer));
    let http = w.ask(Ask::End { resource: resource.to_string() });
    assert_eq!(w.refusal(http), "media/unknown_resource");
}

#[test]
fn consent_is_its_life() {
    let mut w = world();
    let ann = w.join("math", "ann");
    for end in [|peer| sfu::Event::ConsentLost { peer }, |peer| sfu::Event::Closed { peer, reason: CloseReason::Dtls }]
    {
        let (peer, resource) = publisher(&mut w, "math", "studio");
        w.mail(ann);
        w.sfu(sfu::Event::PathSilent { peer });
        assert!(w.requests().is_empty() && w.mail(ann).is_empty(), "it cannot be offered anything, but may come back");
        w.sfu(end(peer));
        assert_eq!(w.one(ann, "user-left")["reason"], "disconnected");
        let http = w.ask(Ask::End { resource: resource.to_string() });
        assert_eq!(w.refusal(http), "media/unknown_resource");
        w.requests();
    }
}

#[test]
fn a_refused_offer_leaves_nothing() {
    let mut w = world();
    let http = w.ask(publish("math", "studio"));
    let (peer, _) = made(&mut w);
    let (description, refusal) = (sfu::Description::Offer, Refusal::InvalidSdp);
    w.sfu(sfu::Event::Refused { peer, description, refusal, message: "No.".into() });
    assert_eq!(w.refusal(http), "media/invalid_sdp");
    assert!(matches!(w.requests()[..], [Request::Leave { peer: p }] if p == peer));
    assert_eq!(w.lobby.gauges().participants, 0);
    for (ask, code) in [
        (publish("math", "sfu"), "request/invalid"),
        (publish("math", ""), "request/invalid"),
        (publish(&"x".repeat(1_000), "studio"), "request/invalid"),
        (play("math", None), "session/not_live"),
    ] {
        let http = w.ask(ask);
        assert_eq!(w.refusal(http), code);
    }
    assert!(w.requests().is_empty());
}

#[test]
fn a_seat_passes_from_browser_to_whip_and_back() {
    let mut w = world();
    let ann = w.join("math", "ann");
    let (_, resource) = publisher(&mut w, "math", "ann");
    assert_eq!(w.one(ann, "session-error")["code"], "session/replaced");
    assert!(w.closed.contains(&ann));
    w.requests();
    let (_, ack) = w.join_with("math", "ann", json!({}));
    assert_eq!(ack["participants"].as_array().map(Vec::len), Some(1));
    assert!(matches!(w.requests()[..], [Request::Leave { .. }]));
    let http = w.ask(Ask::End { resource: resource.to_string() });
    assert_eq!(w.refusal(http), "media/unknown_resource");
}

#[test]
fn ice_restarts_by_patch_and_the_etag_guards_it() {
    let mut w = world();
    let (peer, resource) = publisher(&mut w, "math", "studio");
    let patch = |etag, credentials: Option<(&str, &str)>| Ask::Patch {
        resource: resource.to_string(),
        etag,
        credentials: credentials.map(|(u, p)| (u.to_owned(), p.to_owned())),
    };
    let http = w.ask(patch(Some(2), None));
    assert_eq!(w.refusal(http), "media/stale_etag");
    for credentials in [None, Some(("aaaa", "pppppppppppppppppppppp"))] {
        let http = w.ask(patch(Some(1), credentials));
        assert_eq!(w.reply(http), Some(Ok(Granted::Done)), "candidates are not needed");
    }
    assert!(w.requests().is_empty());
    let http = w.ask(patch(None, Some(("bbbb", "qqqqqqqqqqqqqqqqqqqqqq"))));
    let requests = w.requests();
    let [Request::Offer { sdp, .. }] = &requests[..] else { panic!("{requests:?}") };
    assert_eq!(sdp, "v=0\r\na=ice-ufrag:bbbb\r\na=ice-pwd:qqqqqqqqqqqqqqqqqqqqqq\r\n");
    let impatient = w.ask(patch(None, Some(("cccc", "rrrrrrrrrrrrrrrrrrrrrr"))));
    assert_eq!(w.refusal(impatient), "rate/limited");
    w.sfu(answered(peer, "again"));
    assert_eq!(w.reply(http), Some(Ok(Granted::Restarted { etag: 2, sdp: "again".into() })));
    let http = w.ask(patch(Some(1), None));
    assert_eq!(w.refusal(http), "media/stale_etag");
}

#[test]
fn a_viewer_is_in_no_roster_and_ends_with_the_meeting() {
    let mut w = world();
    let (ann, ack) = w.join_with("math", "ann", json!({}));
    w.wait(200);
    w.mail(ann);
    let participant = ack["participantId"].as_str();
    let http = w.ask(play("math", participant));
    let (peer, view) = made(&mut w);
    assert_eq!(view, View::Program { participant: participant.map(Into::into) });
    w.sfu(answered(peer, "the answer"));
    let (resource, _) = created(&w, http);
    w.wait(2_000);
    assert_eq!(w.mail(ann), [], "nobody is told");
    assert_eq!(w.lobby.gauges().participants, 1);

    let http = w.ask(play("math", Some("p_nobody")));
    assert_eq!(w.refusal(http), "session/unknown_target");
    w.bye(ann);
    assert!(matches!(w.requests()[..], [Request::Leave { peer: p }] if p == peer));
    let http = w.ask(Ask::End { resource: resource.to_string() });
    assert_eq!(w.refusal(http), "media/unknown_resource");
}

#[test]
fn one_address_holds_so_many_and_no_more() {
    let mut w = world();
    w.join("math", "ann");
    for _ in 0..signaling::limits::RESOURCES_PER_ADDRESS_MAX {
        let http = w.ask(play("math", None));
        assert!(w.reply(http).is_none());
    }
    let http = w.ask(play("math", None));
    assert_eq!(w.refusal(http), "rate/limited");
}
