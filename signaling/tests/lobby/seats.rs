//! Seats: grace, resume, replacement, two tabs.

use serde_json::{Value, json};
use sfu::Request;
use signaling::{RoomSettings, SameUser};

use crate::world::*;

#[test]
fn a_dropped_socket_keeps_its_seat_for_the_grace_time() {
    let mut w = world();
    let ann = w.join("math", "ann");
    let bob = w.join("math", "bob");
    w.wait(200);
    w.mail(ann);
    w.drop(bob);
    assert_eq!(w.roster(ann)[1]["state"], "reconnecting");
    w.wait(GRACE_MS - 1);
    assert_eq!(w.mail(ann), []);
    w.wait(1);
    assert_eq!(w.one(ann, "user-left")["reason"], "disconnected");
    w.wait(100);
    assert_eq!(w.lobby.gauges().participants, 1);
}

#[test]
fn a_clean_goodbye_leaves_at_once() {
    let mut w = world();
    let ann = w.join("math", "ann");
    let bob = w.join("math", "bob");
    w.mail(ann);
    w.bye(bob);
    assert_eq!(w.one(ann, "user-left")["reason"], "left");
}

#[test]
fn the_resume_token_continues_the_seat() {
    let mut w = world();
    let ann = w.join("math", "ann");
    let (bob, first) = w.join_with("math", "bob", json!({}));
    w.drop(bob);
    w.wait(GRACE_MS - 1);
    w.mail(ann);
    let (_, again) = w.join_with("math", "bob", json!({ "resumeToken": first["resumeToken"] }));
    assert_eq!(again["resumed"], true);
    assert_eq!(again["participantId"], first["participantId"]);
    assert_eq!(again["meetingId"], first["meetingId"]);
    let mail = w.mail(ann);
    assert_eq!(names(&mail), ["participants-update"], "for the others nobody left or came");
    assert_eq!(mail[0].1["participants"][1]["state"], "connected");
    w.wait(2 * GRACE_MS);
    assert_eq!(w.lobby.gauges().participants, 2, "the grace time is over for good");
}

#[test]
fn a_resume_takes_over_a_socket_that_still_lives() {
    let mut w = world();
    let (old, first) = w.join_with("math", "bob", json!({}));
    let (_, again) = w.join_with("math", "bob", json!({ "resumeToken": first["resumeToken"] }));
    assert_eq!(again["resumed"], true);
    assert_eq!(w.one(old, "session-error")["code"], "session/replaced");
    assert!(w.closed.contains(&old));
    // What the old socket still says is refused, and its end is not the seat's.
    assert_eq!(w.refused(old, "chat-message", json!({ "message": "x" })), "session/not_joined");
    w.bye(old);
    w.wait(2 * GRACE_MS);
    assert_eq!(w.lobby.gauges().participants, 1);
}

#[test]
fn a_resume_gives_back_the_unanswered_offer_and_the_young_answer() {
    let mut w = world();
    let (bob, first, peer) = w.join_sfu("math", "bob");
    w.granted(bob, "offer", to_sfu("offer", "o1"));
    w.drop(bob);
    w.sfu(answered(peer, "a1"));
    w.sfu(offered(peer, "o2"));
    w.wait(1_000);
    w.requests();
    let resume = json!({ "media": "sfu", "resumeToken": first["resumeToken"] });
    let (bob, _) = w.join_with("math", "bob", resume.clone());
    let mail = w.mail(bob);
    assert_eq!(names(&mail), ["answer", "offer", "participants-update"], "as the SFU said them");
    assert_eq!(mail[0].1["answer"], json!({ "type": "answer", "sdp": "a1" }));
    assert_eq!(mail[1].1["offer"], json!({ "type": "offer", "sdp": "o2" }));
    assert!(w.requests().is_empty(), "the SFU need not know");
    // Answered offers and old answers are not repeated.
    w.granted(bob, "answer", to_sfu("answer", "a2"));
    w.wait(30_000);
    w.drop(bob);
    let (bob, _) = w.join_with("math", "bob", resume);
    let mail = w.mail(bob);
    assert!(!names(&mail).contains(&"offer") && !names(&mail).contains(&"answer"), "{mail:?}");
}

#[test]
fn an_offer_whose_answer_was_refused_is_still_unanswered() {
    let mut w = world();
    let (bob, first, peer) = w.join_sfu("math", "bob");
    w.sfu(offered(peer, "o1"));
    w.granted(bob, "answer", to_sfu("answer", "nonsense"));
    w.mail(bob);
    w.sfu(sfu::Event::Refused {
        peer,
        description: sfu::Description::Answer,
        refusal: sfu::Refusal::InvalidSdp,
        message: "No m-line.".into(),
    });
    let error = w.one(bob, "session-error");
    assert_eq!(error, json!({ "code": "media/invalid_sdp", "message": "No m-line.", "event": "answer" }));
    w.drop(bob);
    let (bob, _) = w.join_with("math", "bob", json!({ "resumeToken": first["resumeToken"] }));
    assert_eq!(w.one(bob, "offer")["offer"]["sdp"], "o1");
}

#[test]
fn the_newest_of_two_tabs_wins_the_seat() {
    let mut w = world();
    let ann = w.join("math", "ann");
    let (old, first) = w.join_with("math", "bob", json!({}));
    w.wait(200);
    w.mail(ann);
    let (new, again) = w.join_with("math", "bob", json!({ "resumeToken": "wrong" }));
    assert_eq!(again["resumed"], false);
    assert_eq!(again["participantId"], first["participantId"]);
    assert_ne!(again["resumeToken"], first["resumeToken"]);
    let error = w.one(old, "session-error");
    assert_eq!(error["code"], "session/replaced");
    assert!(w.closed.contains(&old) && !w.closed.contains(&new));
    // Mesh: the others build their RTCPeerConnections anew.
    let mail = w.mail(ann);
    assert_eq!(names(&mail), ["user-left", "user-joined", "participants-update"]);
    assert_eq!(mail[0].1["reason"], "replaced");
    assert_eq!(mail[1].1["participantId"], first["participantId"]);
    // The old tab's token is worth nothing any more.
    let (_, third) = w.join_with("math", "bob", json!({ "resumeToken": first["resumeToken"] }));
    assert_eq!(third["resumed"], false);
}

#[test]
fn replacing_an_sfu_seat_keeps_its_peer_and_offers_again() {
    let mut w = world();
    let ann = w.join("math", "ann");
    let (_, first, peer) = w.join_sfu("math", "bob");
    w.wait(200);
    w.mail(ann);
    let (_, again) = w.join_with("math", "bob", json!({ "media": "sfu" }));
    assert_eq!(again["participantId"], first["participantId"]);
    assert!(matches!(w.requests()[..], [Request::Reoffer { peer: p }] if p == peer));
    assert_eq!(names(&w.mail(ann)), ["participants-update"]);
}

#[test]
fn what_was_under_way_for_a_replaced_page_does_not_reach_the_new_one() {
    let mut w = world();
    let (old, _, peer) = w.join_sfu("math", "bob");
    w.granted(old, "offer", to_sfu("offer", "old"));
    let (new, _) = w.join_with("math", "bob", json!({ "media": "sfu" }));
    w.granted(new, "offer", to_sfu("offer", "new"));
    w.mail(new);
    w.sfu(answered(peer, "for old"));
    w.sfu(offered(peer, "again"));
    assert_eq!(w.mail(new), [], "the SFU rolls its offer back when it reads the new page's");
    w.sfu(answered(peer, "for new"));
    assert_eq!(w.one(new, "answer")["answer"]["sdp"], "for new");
}

#[test]
fn a_plain_client_that_came_back_gets_no_offers_until_it_speaks_to_the_sfu() {
    let mut w = world();
    let (old, _, peer) = w.join_sfu("math", "bob");
    w.sfu(offered(peer, "o1"));
    w.drop(old);
    w.wait(200);
    w.requests();
    let (new, _) = w.join_with("math", "bob", json!({}));
    w.sfu(offered(peer, "o2"));
    assert!(w.requests().is_empty());
    assert_eq!(names(&w.mail(new)), ["participants-update"]);
    w.granted(new, "ice-candidate", json!({ "targetUserId": "sfu", "candidate": null }));
    assert_eq!(w.one(new, "offer")["offer"]["sdp"], "o2");

    // By an offer of its own: the SFU is told that ours was not seen, and ours is not shown.
    let (newer, _) = w.join_with("math", "bob", json!({}));
    w.granted(newer, "offer", to_sfu("offer", "c1"));
    assert!(matches!(&w.requests()[..], [Request::Offer { saw_ours: false, .. }]));
    assert_eq!(w.got(newer, "offer"), Vec::<Value>::new());
    w.sfu(answered(peer, "a1"));
    w.sfu(offered(peer, "o3"));
    assert_eq!(names(&w.mail(newer)), ["answer", "offer"]);
}

#[test]
fn an_sfu_client_may_become_a_mesh_client() {
    let mut w = world();
    let ann = w.join("math", "ann");
    let (_, _, peer) = w.join_sfu("math", "bob");
    w.sfu(published(peer, 5));
    w.wait(200);
    w.mail(ann);
    w.join_with("math", "bob", json!({ "media": "mesh" }));
    assert!(matches!(w.requests()[..], [Request::Leave { peer: p }] if p == peer));
    let mail = w.mail(ann);
    assert_eq!(names(&mail), ["user-left", "user-joined", "participants-update"]);
    assert_eq!(mail[2].1["participants"][1]["tracks"], json!([]));
}

#[test]
fn policy_reject_lets_the_older_win_while_it_lives() {
    let mut w = world();
    w.lobby.set_room_settings(RoomSettings { same_user: SameUser::Reject, ..Default::default() });
    let (old, first) = w.join_with("math", "bob", json!({}));
    let new = w.connect();
    assert_eq!(w.refused(new, "join-session", json!({ "sessionId": "math", "userId": "bob" })), "session/forbidden");
    w.drop(old);
    let ack = w.rejoin(new, "math", "bob", json!({}));
    assert_eq!(ack["participantId"], first["participantId"]);
}

#[test]
fn policy_allow_gives_two_seats_and_relays_to_both() {
    let mut w = world();
    w.lobby.set_room_settings(RoomSettings { same_user: SameUser::Allow, ..Default::default() });
    let ann = w.join("math", "ann");
    let (one, first) = w.join_with("math", "bob", json!({}));
    let (two, second) = w.join_with("math", "bob", json!({}));
    assert_ne!(first["participantId"], second["participantId"]);
    assert!(w.closed.is_empty());
    w.granted(ann, "offer", json!({ "targetUserId": "bob", "offer": 1 }));
    assert_eq!(w.one(one, "offer")["userId"], "ann");
    assert_eq!(w.one(two, "offer")["userId"], "ann");
    w.granted(one, "answer", json!({ "targetUserId": "bob", "answer": 1 }));
    assert_eq!(w.got(one, "answer").len(), 0);
    assert_eq!(w.got(two, "answer").len(), 1);
}
