//! Who may use the TURN server, from when until when, and what its client is told.
//!
//! After each input of each test of the lobby the world checks that seats and viewers hold, and nobody else.

use std::sync::Arc;

use serde_json::{Value, json};
use sfu::{CloseReason, Refusal};
use signaling::limits::TURN_CREDENTIAL_LIFETIME;
use signaling::{Ask, Granted};
use turn_server::credential;

use crate::world::*;

fn holder_of(server: &Value) -> &str {
    credential::parse(server["username"].as_str().expect("a username")).expect("an expiry and a holder").1
}

fn holds(w: &World, ack: &Value) -> bool {
    w.holders.contains(ack["participantId"].as_str().expect("a participant"))
}

#[test]
fn the_ack_has_credentials_of_its_seat() {
    let mut w = world();
    let (_, ack) = w.join_with("math", "ann", json!({ "media": "sfu" }));
    let servers = ack["iceServers"].as_array().expect("a list");
    assert_eq!(servers.len(), 3);
    assert_eq!(servers[0], json!({ "urls": "stun:x" }), "what is the same for all is as it was set");
    let expires = w.now.unix_ms / 1_000 + TURN_CREDENTIAL_LIFETIME.as_secs();
    for ((server, url), secret) in servers[1..].iter().zip(["turn:inside", "turn:outside"]).zip(SECRETS) {
        let expected = credential::mint(secret, ack["participantId"].as_str().unwrap(), expires);
        let (username, password) = (expected.username, expected.password);
        assert_eq!(*server, json!({ "urls": [url], "username": username, "credential": password }));
    }
}

#[test]
fn a_mesh_client_is_told_only_of_servers_that_reach_its_like() {
    let mut w = world();
    let (_, ack) = w.join_with("math", "ann", json!({ "media": "mesh" }));
    let urls: Vec<&Value> = ack["iceServers"].as_array().unwrap().iter().map(|server| &server["urls"]).collect();
    assert_eq!(urls, [&json!("stun:x"), &json!(["turn:outside"])]);
    // Who does not say may become either.
    let (_, ack) = w.join_with("math", "bob", json!({}));
    assert_eq!(ack["iceServers"].as_array().map(Vec::len), Some(3));
}

#[test]
fn a_resumed_seat_goes_on_holding_and_gets_a_younger_credential() {
    let mut w = world();
    let (bob, first) = w.join_with("math", "bob", json!({}));
    w.drop(bob);
    w.wait(GRACE_MS - 1);
    assert!(holds(&w, &first), "within the grace time its media goes on, relayed or not");
    let (_, again) = w.join_with("math", "bob", json!({ "resumeToken": first["resumeToken"] }));
    assert_eq!(holder_of(&again["iceServers"][1]), holder_of(&first["iceServers"][1]));
    assert_ne!(again["iceServers"][1]["username"], first["iceServers"][1]["username"]);
    // A join on the same socket, and one by another tab, are the same seat too.
    let (new, taken) = w.join_with("math", "bob", json!({}));
    let joined = w.rejoin(new, "math", "bob", json!({}));
    for ack in [taken, joined] {
        assert_eq!(ack["participantId"], first["participantId"]);
        assert!(holds(&w, &ack));
    }
    assert_eq!(w.holders.len(), 1);
}

/// Something that ends the seat of a socket.
type End = fn(&mut World, signaling::SocketId);

#[test]
fn every_way_in_which_a_seat_ends_takes_it_away() {
    let mut w = world();
    let ends: [(&str, End); 5] = [
        ("leave-session", |w, socket| {
            w.granted(socket, "leave-session", json!({}));
        }),
        ("goodbye", |w, socket| w.bye(socket)),
        ("grace over", |w, socket| {
            w.drop(socket);
            w.wait(GRACE_MS);
        }),
        ("another session", |w, socket| {
            w.rejoin(socket, "art", "bob", json!({}));
        }),
        ("WHIP", |w, _| {
            w.ask(publish("math", "bob"));
        }),
    ];
    // Once with somebody who stays, once as the last of the session, which ends with it.
    for (how, end) in ends {
        for stays in [true, false] {
            if stays {
                w.join("math", "ann");
            }
            let (bob, ack, _) = w.join_sfu("math", "bob");
            assert!(holds(&w, &ack));
            end(&mut w, bob);
            assert!(!holds(&w, &ack), "{how}");
            w = world();
        }
    }
}

#[test]
fn a_seat_taken_back_from_whip_is_another() {
    let mut w = world();
    let http = w.ask(publish("math", "bob"));
    let (resource, servers) = created(&mut w, http);
    let studio = holder_of(&servers[1]).to_owned();
    assert!(studio.starts_with("p_") && studio != *resource, "the resource's own id is a secret");
    let (_, ack) = w.join_with("math", "bob", json!({}));
    assert!(holds(&w, &ack) && !w.holders.contains(studio.as_str()));
}

#[test]
fn a_viewer_holds_as_long_as_its_resource() {
    let mut w = world();
    let ann = w.join("math", "ann");
    let ends: [fn(&mut World, &str); 4] = [
        |w, resource| {
            w.ask(Ask::End { resource: resource.to_owned() });
        },
        |w, _| sfu_says(w, |peer| sfu::Event::ConsentLost { peer }),
        |w, _| sfu_says(w, |peer| sfu::Event::Closed { peer, reason: CloseReason::Dtls }),
        |w, _| w.bye(signaling::SocketId(1)),
    ];
    for end in ends {
        let http = w.ask(play("math"));
        let (resource, servers) = created(&mut w, http);
        let viewer = holder_of(&servers[2]).to_owned();
        assert!(viewer.starts_with("v_") && viewer != *resource, "the resource's own id is a secret");
        assert!(w.holders.contains(viewer.as_str()));
        end(&mut w, &resource);
        assert!(!w.holders.contains(viewer.as_str()));
    }
    assert!(w.holders.is_empty(), "{ann:?} was the last");
}

#[test]
fn who_is_refused_holds_nothing() {
    let mut w = world();
    w.join("math", "ann");
    for ask in [publish("math", "studio"), play("math")] {
        w.ask(ask);
        assert_eq!(w.holders.len(), 2);
        sfu_says(&mut w, |peer| sfu::Event::Refused {
            peer,
            description: sfu::Description::Offer,
            refusal: Refusal::InvalidSdp,
            message: "No.".into(),
        });
        assert_eq!(w.holders.len(), 1);
    }
}

fn publish(session: &str, user: &str) -> Ask {
    Ask::Publish {
        identity: None,
        session: session.into(),
        user: user.into(),
        name: None,
        instructor: false,
        sdp: "o".into(),
    }
}

fn play(session: &str) -> Ask {
    Ask::Play { identity: None, session: session.into(), participant: None, sdp: "o".into() }
}

/// The SFU says something of the newest peer.
fn sfu_says(w: &mut World, event: impl Fn(sfu::PeerId) -> sfu::Event) {
    let newest = *w.peers.last().expect("a peer");
    w.sfu(event(newest));
}

fn created(w: &mut World, http: signaling::HttpId) -> (Arc<str>, Vec<Value>) {
    sfu_says(w, |peer| answered(peer, "the answer"));
    match w.reply(http) {
        Some(Ok(Granted::Created { resource, ice_servers, .. })) => (resource, ice_servers),
        other => panic!("{other:?}"),
    }
}
