//! Who is late or absent, told to a webhook by the real binary: it looks every ten seconds, so this takes about half a minute.

use std::time::{Duration, Instant};

use bench::socketio::Client;
use serde_json::json;

use super::bots::{self, Truth, unix_ms};
use super::receiver::Receiver;
use super::server::Server;
use super::{PATIENCE, RESTART_MAX_MS, folder};

#[tokio::test(flavor = "multi_thread")]
async fn who_is_late_or_does_not_come_is_told_once() {
    let dir = folder("late");
    let (receiver, truth) = (Receiver::start().await, Truth::default());
    let server = Server::start(&dir, None, &receiver.url, RESTART_MAX_MS);
    let starts_at = unix_ms() - 60_000;
    let roster = json!({
        "people": [
            { "userId": "ada", "userName": "Ada", "role": "instructor" },
            { "userId": "bob" },
            { "userId": "cleo" },
            { "userId": "dora" },
        ],
        "schedule": { "startsAt": starts_at, "lateAfterMs": 30_000, "absentAfterMs": 61_000, "hostAbsentAfterMs": 61_000 },
    });
    // Cleo has been there since before anybody is late, as far as the thresholds of another room say.
    let on_time = json!({
        "people": [{ "userId": "cleo", "role": "instructor" }],
        "schedule": { "startsAt": starts_at, "lateAfterMs": 3_600_000, "absentAfterMs": 61_000, "hostAbsentAfterMs": 3_600_000 },
    });
    for (path, body) in [("/v1/sessions/lesson/roster", &roster), ("/v1/sessions/other/roster", &on_time)] {
        let (status, said) = server.put(path, body);
        assert_eq!(status, 200, "{said}");
    }
    let mut clients = Vec::new();
    for (user, session) in [("bob", "lesson"), ("cleo", "other")] {
        let mut client = Client::connect(&server.url).await.expect("it listens");
        bots::join(&mut client, 0, (user, false), session, None, &truth).await.expect("an answer");
        clients.push(client);
    }
    let kinds = ["participant.late", "participant.absent", "host.absent"];
    let begun = Instant::now();
    while kinds.iter().map(|kind| receiver.told(kind).len()).sum::<usize>() < 5 {
        assert!(begun.elapsed() < PATIENCE, "{:?}\n{}", kinds.map(|kind| receiver.told(kind)), server.log());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let [late, absent, hosts] = kinds.map(|kind| receiver.told(kind));
    assert_eq!(late.len(), 1, "{late:?}");
    let data = &late[0]["data"];
    assert_eq!(
        (&data["sessionId"], &data["userId"], &data["startsAt"]),
        (&json!("lesson"), &json!("bob"), &json!(starts_at))
    );
    assert!(data["lateMs"].as_u64().is_some_and(|ms| (60_000..120_000).contains(&ms)), "{data}");
    let mut who: Vec<&str> = absent.iter().filter_map(|said| said["data"]["userId"].as_str()).collect();
    who.sort_unstable();
    assert_eq!(who, ["ada", "cleo", "dora"], "{absent:?}");
    assert_eq!(hosts.len(), 1, "{hosts:?}");
    assert_eq!(hosts[0]["data"], json!({ "sessionId": "lesson", "startsAt": starts_at }));
    let _ = std::fs::remove_dir_all(&dir);
}
