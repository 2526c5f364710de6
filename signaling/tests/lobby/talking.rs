//! Chat, hands, reactions.

use serde_json::{Value, json};
use signaling::limits::*;

use crate::world::*;

#[test]
fn chat_reaches_everyone_the_sender_too() {
    let mut w = world();
    let ann = w.join("math", "ann");
    let bob = w.join("math", "bob");
    let eve = w.join("art", "eve");
    let sent = json!({ "sessionId": "math", "message": " hi\n ", "userId": "mallory", "userName": "M", "clientId": 7 });
    let ack = w.granted(ann, "chat-message", sent);
    assert!(ack["id"].as_str().unwrap().starts_with("msg_"));
    assert_eq!(ack["timestamp"], w.now.unix_ms);
    let expected = json!({
        "sessionId": "math", "id": ack["id"], "message": " hi\n ", "userId": "ann", "userName": "ANN", "clientId": "7", "timestamp": ack["timestamp"],
    });
    assert_eq!(w.one(ann, "chat-message"), expected);
    assert_eq!(w.one(bob, "chat-message"), expected);
    assert_eq!(w.got(eve, "chat-message"), Vec::<Value>::new());
}

#[test]
fn the_same_client_id_is_one_message() {
    let mut w = world();
    let (ann, joined) = w.join_with("math", "ann", json!({}));
    let bob = w.join("math", "bob");
    let message = json!({ "message": "hi", "clientId": "c1" });
    let first = w.granted(ann, "chat-message", message.clone());
    w.wait(500);
    assert_eq!(w.granted(ann, "chat-message", message.clone()), first);
    // After a reconnect too: that is what it is for.
    w.drop(ann);
    let (ann, _) = w.join_with("math", "ann", json!({ "resumeToken": joined["resumeToken"] }));
    assert_eq!(w.granted(ann, "chat-message", message.clone()), first);
    assert_eq!(w.got(bob, "chat-message").len(), 1);
    // Another's is another's; and what is long past is forgotten.
    assert_ne!(w.granted(bob, "chat-message", message.clone())["id"], first["id"]);
    for n in 0..CLIENT_IDS_MAX {
        w.wait(1_000);
        w.granted(ann, "chat-message", json!({ "message": "hi", "clientId": format!("d{n}") }));
    }
    assert_ne!(w.granted(ann, "chat-message", message)["id"], first["id"]);
}

#[test]
fn chat_is_bounded() {
    let mut w = world();
    let ann = w.join("math", "ann");
    w.granted(ann, "chat-message", json!({ "message": "x".repeat(CHAT_BYTES_MAX) }));
    for bad in [
        json!({ "message": "x".repeat(CHAT_BYTES_MAX + 1) }),
        json!({ "message": "" }),
        json!({ "message": "a\u{0}" }),
        json!({ "message": 7 }),
        json!({}),
        json!({ "message": "x", "clientId": "c".repeat(65) }),
    ] {
        assert_eq!(w.refused(ann, "chat-message", bad), "request/invalid");
    }
}

#[test]
fn hands_are_in_order() {
    let mut w = world();
    let ann = w.join("math", "ann");
    let (bob, ack) = w.join_with("math", "bob", json!({}));
    assert_eq!(w.granted(ann, "raise-hand", json!({ "raised": true }))["position"], 1);
    w.mail(ann);
    assert_eq!(w.granted(bob, "raise-hand", json!({ "raised": true }))["position"], 2);
    w.mail(bob);
    let expected = json!({ "participantId": ack["participantId"], "userId": "bob", "raised": true, "position": 2 });
    assert_eq!(w.one(ann, "hand-raised"), expected);
    assert_eq!(w.granted(bob, "raise-hand", json!({ "raised": true }))["position"], 2);
    assert_eq!(w.mail(ann), [], "the same again is no news");
    assert_eq!(w.granted(ann, "raise-hand", json!({ "raised": false }))["position"], 0);
    assert_eq!(w.one(bob, "hand-raised")["raised"], false);
    assert_eq!(w.granted(bob, "raise-hand", json!({ "raised": true }))["position"], 1);
    w.wait(100);
    let hands: Vec<_> = w.roster(ann).iter().map(|e| e["handRaised"].clone()).collect();
    assert_eq!(hands, [false, true]);
    assert_eq!(w.refused(ann, "raise-hand", json!({ "raised": "up" })), "request/invalid");
    w.bye(bob);
    assert_eq!(w.granted(ann, "raise-hand", json!({ "raised": true }))["position"], 1);
}

#[test]
fn reactions_reach_everyone() {
    let mut w = world();
    let (ann, ack) = w.join_with("math", "ann", json!({}));
    let bob = w.join("math", "bob");
    w.granted(ann, "reaction", json!({ "emoji": "👍" }));
    let expected = json!({ "participantId": ack["participantId"], "userId": "ann", "emoji": "👍" });
    assert_eq!(w.one(ann, "reaction"), expected);
    assert_eq!(w.one(bob, "reaction"), expected);
    assert_eq!(w.refused(ann, "reaction", json!({ "emoji": "👍".repeat(9) })), "request/invalid");
    assert_eq!(w.refused(ann, "reaction", json!({ "emoji": "\u{7}" })), "request/invalid");
}
