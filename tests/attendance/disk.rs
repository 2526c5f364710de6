//! The real binary on a disk that fills up while calls run.

use std::time::{Duration, Instant};

use bench::socketio::{Client, Frame};
use serde_json::{Value, json};

use super::bots::{self, Truth};
use super::receiver::Receiver;
use super::server::Server;
use super::{EMPTY_MS, PATIENCE, check, folder, settled};

async fn until(what: &str, server: &Server, is_so: impl Fn(&Value) -> bool) {
    let begun = Instant::now();
    loop {
        let (status, health) = server.health();
        assert_eq!(status, 200, "it serves all the time: {health}");
        if is_so(&health) {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "{what}: {health}\n{}", server.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_disk_is_full_calls_go_on_nobody_new_gets_in_and_nothing_acknowledged_is_lost() {
    let dir = folder("disk");
    let database = format!("sqlite://{}", dir.join("lyceum.db").display());
    let (receiver, truth) = (Receiver::start().await, Truth::default());
    let mut server = Server::start_on_small_disk(&dir, &receiver.url, EMPTY_MS);
    let connect = || Client::connect(&server.url);
    let mut ada = connect().await.expect("it listens");
    let (ada_is, _) = bots::join(&mut ada, 0, ("ada", false), "lesson", None, &truth).await.expect("an answer");
    server.fill_disk(true);
    // Who comes before the disk is found to be full waits for its answer until it has room again.
    let (url, of_bob) = (server.url.clone(), truth.clone());
    let bob = tokio::spawn(async move {
        let mut client = Client::connect(&url).await.expect("it listens");
        bots::join(&mut client, 0, ("bob", false), "lesson", None, &of_bob).await.map(|joined| (client, joined.0))
    });
    until("the disk is found to be full", &server, |health| health["checks"]["journal"]["status"] == "degraded").await;
    let (status, ready) = server.ready();
    assert!(status == 503 && ready.contains("journal: facts cannot be written down"), "{ready}");
    let mut cay = connect().await.expect("it listens");
    let wanted = json!({ "sessionId": "lesson", "userId": "cay", "userName": "Cay" });
    let refused = bots::ask(&mut cay, "join-session", wanted).await.expect("an answer");
    assert_eq!(refused["error"]["code"], "server/overloaded", "{refused}");
    // What ada says is not acknowledged before it is kept, which keeps nothing else from her.
    let said = ada.emit("chat-message", json!({ "message": "still here" })).await.expect("it reads");
    for raised in [true, false] {
        let hand = bots::ask(&mut ada, "raise-hand", json!({ "raised": raised })).await.expect("an answer");
        assert_eq!(hand["ok"], true, "who is in stays in: {hand}");
    }
    assert!(!bob.is_finished(), "nobody is told what is not on disk");

    server.fill_disk(false);
    let acknowledged = async {
        loop {
            if let Frame::Ack { id, payload } = ada.next().await.expect("it stays open")
                && id == said
            {
                return payload;
            }
        }
    };
    let kept = tokio::time::timeout(PATIENCE, acknowledged).await.expect("an answer in time");
    assert_eq!(kept["ok"], true, "{kept}");
    let (_bob, bob_is) = bob.await.expect("no panic").expect("an answer");
    until("all is well again", &server, |health| health["status"] == "healthy").await;
    assert_eq!(server.ready().0, 200, "{}", server.ready().1);
    let (cay_is, _) = bots::join(&mut cay, 0, ("cay", false), "lesson", None, &truth).await.expect("an answer");
    let left = bots::ask(&mut ada, "leave-session", json!({})).await.expect("an answer");
    assert_eq!(left["ok"], true, "{left}");
    server.kill();

    let server = Server::start(&dir, None, &receiver.url, EMPTY_MS);
    settled(&server, &database).await;
    for (stay, reason) in [(ada_is, "left"), (bob_is, "crashed"), (cay_is, "crashed")] {
        assert_eq!(check::end_of(&database, &stay.participant).await.1, reason, "{stay:?}");
    }
    let _ = std::fs::remove_dir_all(&dir);
}
