//! What a server that was killed knows when it is there again.

use std::time::{Duration, Instant};

use bench::socketio::Client;
use serde_json::{Value, json};

use super::bots;
use super::receiver::Receiver;
use super::server::Server;
use super::{PATIENCE, RESTART_MAX_MS, folder};

async fn join(server: &Server, user: &str) -> (Client, Value) {
    let mut client = Client::connect(&server.url).await.expect("it listens");
    let wanted = json!({ "sessionId": "lesson", "userId": user, "userName": user, "isInstructor": user == "tea" });
    let ack = bots::ask(&mut client, "join-session", wanted).await.expect("an answer");
    (client, ack)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_a_promotion_and_what_was_said_outlive_a_kill() {
    let dir = folder("restart");
    let receiver = Receiver::start().await;
    let mut server = Server::start(&dir, None, &receiver.url, RESTART_MAX_MS);
    let (mut tea, first) = join(&server, "tea").await;
    let (_ann, ann) = join(&server, "ann").await;
    for (event, payload) in [
        ("chat-message", json!({ "message": "page 12" })),
        ("moderate", json!({ "action": "promote", "participantId": ann["participantId"] })),
        ("moderate", json!({ "action": "lock" })),
    ] {
        let ack = bots::ask(&mut tea, event, payload).await.expect("an answer");
        assert_eq!(ack["ok"], true, "{ack}");
    }
    server.kill();

    let mut server = Server::start(&dir, None, &receiver.url, RESTART_MAX_MS);
    let (_eve, refused) = join(&server, "eve").await;
    assert_eq!(refused["error"]["code"], "session/locked", "{refused}");
    let (mut ann, mut ack) = join(&server, "ann").await;
    assert_eq!((&ack["meetingId"], &ack["locked"]), (&first["meetingId"], &json!(true)), "{ack}");
    assert_eq!(ack["role"], "instructor", "{ack}");
    // What was said comes from the database, for which a slow server does not wait.
    let begun = Instant::now();
    while ack["chat"].as_array().is_none_or(Vec::is_empty) {
        assert!(begun.elapsed() < PATIENCE, "{ack}\n{}", server.log());
        tokio::time::sleep(Duration::from_millis(200)).await;
        drop(ann);
        (ann, ack) = join(&server, "ann").await;
    }
    assert_eq!(ack["chat"][0]["message"], "page 12", "{ack}\n{}", server.log());
    assert!(server.end().success(), "{}", server.log());
    let _ = std::fs::remove_dir_all(&dir);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_copy_of_the_directory_ends_the_server_for_good() {
    let (dir, old) = (folder("copied"), folder("copy"));
    let receiver = Receiver::start().await;
    let mut server = Server::start(&dir, None, &receiver.url, RESTART_MAX_MS);
    let _tea = join(&server, "tea").await;
    assert!(server.end().success(), "{}", server.log());
    copy(&dir.join("journal"), &old);
    let mut server = Server::start(&dir, None, &receiver.url, RESTART_MAX_MS);
    for user in ["ann", "bob", "cay"] {
        let (_, ack) = join(&server, user).await;
        assert_eq!(ack["ok"], true, "{ack}");
    }
    // A copy is old once the database has more.
    let begun = Instant::now();
    while server.metric("lyceum_store_waiting_facts") > 0.0 {
        assert!(begun.elapsed() < PATIENCE, "the database gets nothing: {}", server.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(server.end().success(), "{}", server.log());
    copy(&old, &dir.join("journal"));
    // However often it is tried, which makes the copy grow.
    for _ in 0..3 {
        let (status, said) = Server::refuses(&dir, &receiver.url);
        assert!(!status.success() && said.contains("old copy") && said.contains("LYCEUM__STORE__DIR"), "{said}");
    }
    let _ = (std::fs::remove_dir_all(&dir), std::fs::remove_dir_all(&old));
}

/// Puts a copy of a directory of files in the place of another.
fn copy(from: &std::path::Path, to: &std::path::Path) {
    let _ = std::fs::remove_dir_all(to);
    std::fs::create_dir_all(to).expect("a writable directory");
    for file in std::fs::read_dir(from).expect("it is there") {
        let file = file.expect("it can be listed");
        std::fs::copy(file.path(), to.join(file.file_name())).expect("it can be copied");
    }
}
