//! What is forgotten, and what is too old.

use signaling::attendance::{Summary, summarize};

use super::super::{Retention, RoomRetention};
use super::*;

const DAY: u64 = 24 * 60 * MINUTE;

#[tokio::test]
async fn nothing_names_who_was_erased_and_the_minutes_stay() {
    for fresh in Fresh::both() {
        let store = fresh.open().await;
        let mut node = Node::new("n_1");
        node.apply(
            &store,
            meeting("mtg_1", "algebra", &[("ann_secret", MONDAY, MONDAY + MINUTE), ("bob", MONDAY, MONDAY + 5)]),
        )
        .await;
        node.apply(
            &store,
            [chat("mtg_1", "msg_1", "ann_secret", "hello", MONDAY), chat("mtg_1", "msg_2", "bob", "hi", MONDAY)],
        )
        .await;
        node.apply(&store, [Fact::Aborted { session: "algebra".into(), user: "ann_secret".into(), at: MONDAY }]).await;
        let removed = Fact::Removed {
            session: "algebra".into(),
            meeting: "mtg_1".into(),
            user: "ann_secret".into(),
            token: Some("jti_1".into()),
            expires_ms: MONDAY + DAY,
            at: MONDAY,
        };
        node.apply(&store, [removed]).await;
        let roster =
            [super::super::Expected { user_id: "ann_secret".to_owned(), user_name: None, role: Role::Participant }];
        store.put_roster("algebra", &roster, MONDAY).await.expect("it writes");
        let minutes = "SELECT COUNT(*) AS people, CAST(SUM(connected_ms) AS BIGINT) AS ms FROM attendance";
        let before = rows(&store, minutes).await;

        let erased = store.erase("ann_secret", MONDAY + DAY).await.expect("it erases");
        assert_eq!((erased.meetings, erased.running, erased.messages), (1, 0, 1));
        for row in everything(&store).await {
            assert!(!row.contains("ann_secret"), "{row}");
        }
        assert_eq!(rows(&store, minutes).await, before);
        assert_eq!(rows(&store, "SELECT token_id FROM revocations").await, ["token_id=jti_1"], "its token stays void");
        // The log says the same.
        let said = store.attendance("mtg_1", 0).await.expect("it answers").expect("it is there");
        assert_eq!(said.version, 2);
        let mut connection = store.read().await.expect("it is there").acquire().await.expect("it connects");
        let log = super::super::meeting::facts(&mut connection, "mtg_1").await.expect("it reads");
        drop(connection);
        assert_eq!(Summary { version: 2, ..summarize(&log, 0) }, said);
        events(&store, "algebra").await;

        let again = store.erase("ann_secret", MONDAY + DAY).await.expect("it erases");
        assert_eq!((again.meetings, again.running, again.messages), (0, 0, 0));
    }
}

#[tokio::test]
async fn who_is_in_a_running_meeting_is_erased_after_its_end() {
    for fresh in Fresh::both() {
        let store = fresh.open().await;
        let mut node = Node::new("n_1");
        node.apply(&store, [started("mtg_1", "algebra", MONDAY), joined("mtg_1", "c_1", "ann", MONDAY)]).await;
        assert_eq!(store.erase("ann", MONDAY).await.expect("it erases").running, 1);
        node.apply(&store, [left("mtg_1", "c_1", MONDAY + 9), ended("mtg_1", MONDAY + 9)]).await;
        assert_eq!(store.erase("ann", MONDAY).await.expect("it erases").meetings, 1);
        assert_eq!(count(&store, "SELECT COUNT(*) FROM attendance WHERE user_id = 'ann'").await, 0);
        assert_eq!(count(&store, "SELECT COUNT(*) FROM attendance").await, 1);
    }
}

#[tokio::test]
async fn each_kind_of_data_is_kept_as_long_as_its_setting_says() {
    for fresh in Fresh::both() {
        let store = fresh.open().await;
        let mut node = Node::new("n_1");
        for day in 0..30 {
            let (id, at) = (format!("mtg_{day}"), MONDAY + day * DAY);
            node.apply(&store, meeting(&id, "algebra", &[("ann", at, at + MINUTE)])).await;
            node.apply(&store, [chat(&id, &format!("msg_{day}"), "ann", "hello", at)]).await;
            let removed = Fact::Removed {
                session: "algebra".into(),
                meeting: id.as_str().into(),
                user: "eve".into(),
                token: None,
                expires_ms: at + DAY,
                at,
            };
            node.apply(&store, [removed]).await;
        }
        node.apply(&store, [started("mtg_open", "algebra", MONDAY), joined("mtg_open", "c_open", "ann", MONDAY)]).await;
        let now = MONDAY + 30 * DAY;
        assert_eq!(store.retain(&Retention::default(), now - 30 * DAY).await.expect("it runs"), Default::default());

        let days = |n: u64| Some(Duration::from_millis(n * DAY));
        let policy = Retention { chat: days(5), log: days(10), meetings: days(20), outbox: days(15) };
        let gone = store.retain(&policy, now).await.expect("it runs");
        assert_eq!((gone.chat, gone.logs, gone.meetings, gone.revocations), (25, 20, 10, 29));
        let left = async |table: &str| count(&store, &format!("SELECT COUNT(*) FROM {table}")).await;
        assert_eq!(
            (left("chat_messages").await, left("meetings").await, left("attendance").await, left("summaries").await),
            (5, 21, 20, 20)
        );
        assert_eq!(
            count(&store, "SELECT COUNT(DISTINCT meeting_id) FROM connection_log").await,
            11,
            "ten and the one that runs"
        );
        assert_eq!((left("revocations").await, left("connections").await), (1, 21));
        assert_eq!(left("outbox").await, 15 * 4);
        assert_eq!(store.retain(&policy, now).await.expect("it runs"), Default::default());
        // Without its log a meeting still has its summary.
        assert!(store.attendance("mtg_12", 0).await.expect("it answers").is_some());
    }
}

#[tokio::test]
async fn what_a_room_says_of_its_data_stands_before_what_is_said_of_all() {
    for fresh in Fresh::both() {
        let store = fresh.open().await;
        let mut node = Node::new("n_1");
        for (n, room) in ["plain", "brief", "kept"].iter().enumerate() {
            for day in 0..10 {
                let (id, at) = (format!("mtg_{n}_{day}"), MONDAY + day * DAY);
                node.apply(&store, meeting(&id, room, &[("ann", at, at + MINUTE)])).await;
                node.apply(&store, [chat(&id, &format!("msg_{n}_{day}"), "ann", "hello", at)]).await;
            }
        }
        let brief = RoomRetention { chat_days: Some(1), log_days: Some(2), meeting_days: Some(3) };
        let kept = RoomRetention { chat_days: Some(0), log_days: Some(0), meeting_days: Some(0) };
        for (room, kept) in [("brief", &brief), ("kept", &kept)] {
            store.put_settings(room, "{}", kept, MONDAY).await.expect("it writes");
        }
        let now = MONDAY + 10 * DAY;
        let of = async |table: &str| {
            rows(
                &store,
                &format!("SELECT session_id AS s, COUNT(*) AS n FROM {table} GROUP BY session_id ORDER BY session_id"),
            )
            .await
        };
        // Nothing is said of all.
        let gone = store.retain(&Retention::default(), now).await.expect("it runs");
        assert_eq!((gone.chat, gone.logs, gone.meetings), (9, 8, 7));
        assert_eq!(of("chat_messages").await, ["s=brief n=1", "s=kept n=10", "s=plain n=10"]);
        let days = |n: u64| Some(Duration::from_millis(n * DAY));
        let policy = Retention { chat: days(5), log: days(6), meetings: days(7), outbox: None };
        let gone = store.retain(&policy, now).await.expect("it runs");
        assert_eq!((gone.chat, gone.logs, gone.meetings), (5, 4, 3));
        assert_eq!(of("chat_messages").await, ["s=brief n=1", "s=kept n=10", "s=plain n=5"]);
        assert_eq!(of("meetings").await, ["s=brief n=3", "s=kept n=10", "s=plain n=7"]);
    }
}

#[tokio::test]
async fn what_fails_for_one_kind_does_not_keep_the_others() {
    for fresh in Fresh::both() {
        let store = fresh.open().await;
        Node::new("n_1").apply(&store, meeting("mtg_1", "algebra", &[("ann", MONDAY, MONDAY + 1)])).await;
        let mut tx = store.write().await.expect("it writes");
        sqlx::query("DROP TABLE received_events").execute(&mut *tx).await.expect("it drops");
        sqlx::query("ALTER TABLE rooms RENAME COLUMN keep_chat_ms TO keep_chat")
            .execute(&mut *tx)
            .await
            .expect("it renames");
        tx.commit().await.expect("it commits");
        let kept = Some(Duration::from_secs(1));
        let policy = Retention { chat: kept, meetings: kept, outbox: kept, ..Retention::default() };
        let error = store.retain(&policy, MONDAY + DAY).await.expect_err("a column is missing");
        assert!(error.to_string().contains("keep_chat_ms"), "{error}");
        let left = "SELECT (SELECT COUNT(*) FROM meetings) + (SELECT COUNT(*) FROM outbox)";
        assert_eq!(count(&store, left).await, 0);
    }
}

#[tokio::test]
async fn events_that_somebody_waits_for_are_not_deleted() {
    for fresh in Fresh::both() {
        let store = fresh.open().await;
        let mut tx = store.write().await.expect("it writes");
        sqlx::query("INSERT INTO webhook_endpoints (endpoint_id, url, secret, enabled, created_at) VALUES ('ep_1', 'https://x', 's', 1, 0)").execute(&mut *tx).await.expect("it inserts");
        tx.commit().await.expect("it commits");
        Node::new("n_1").apply(&store, meeting("mtg_1", "algebra", &[("ann", MONDAY, MONDAY + 1)])).await;
        let policy = Retention { outbox: Some(Duration::from_secs(1)), ..Retention::default() };
        assert_eq!(store.retain(&policy, MONDAY + DAY).await.expect("it runs").events, 0);
        let mut tx = store.write().await.expect("it writes");
        sqlx::query("UPDATE deliveries SET state = 'delivered' WHERE room_seq <= 3")
            .execute(&mut *tx)
            .await
            .expect("it updates");
        tx.commit().await.expect("it commits");
        assert_eq!(store.retain(&policy, MONDAY + DAY).await.expect("it runs").events, 3);
        assert_eq!(rows(&store, "SELECT state FROM deliveries").await, ["state=pending"]);
    }
}
