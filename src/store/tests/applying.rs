//! Facts become rows, each once.

use signaling::{Alive, Fact, Reason, Role};

use super::*;

fn track(meeting: &str, connection: &str, on: bool, muted: bool, at: u64) -> Fact {
    Fact::Track {
        meeting: meeting.into(),
        connection: connection.into(),
        track: "t_1".into(),
        source: "camera".into(),
        on,
        muted,
        at,
    }
}

#[tokio::test]
async fn several_that_start_at_once_make_the_tables_together() {
    for fresh in Fresh::both() {
        let starts: Vec<_> = (0..6)
            .map(|_| {
                let url = fresh.url.clone();
                tokio::spawn(async move { Store::open(&url, PATIENCE).await.map(|_| ()) })
            })
            .collect();
        for start in starts {
            start.await.expect("it does not panic").expect("it opens");
        }
        assert_eq!(count(&fresh.open().await, "SELECT COUNT(*) FROM _sqlx_migrations").await, 2);
    }
}

#[tokio::test]
async fn who_only_looks_makes_and_changes_nothing() {
    for fresh in Fresh::both() {
        let looked = async || look(&fresh.url, PATIENCE).await;
        let before = if fresh.engine == Engine::Sqlite { Tables::NoFile } else { Tables::None };
        for _ in 0..2 {
            assert_eq!(looked().await.expect("it answers"), before);
        }
        if let Some(dir) = &fresh.dir {
            assert_eq!(std::fs::read_dir(dir).expect("it is there").count(), 0, "no file was made");
            std::fs::write(dir.join("lyceum.db"), b"").expect("it can be written");
            assert_eq!(looked().await.expect("it answers"), Tables::None);
        }
        let store = fresh.open().await;
        assert_eq!(looked().await.expect("it answers"), Tables::Current);
        let pool = store.read().await.expect("it answers");
        let last = "(SELECT MAX(version) FROM _sqlx_migrations)";
        let change = |sql: String| sqlx::query(sqlx::AssertSqlSafe(sql)).execute(pool);
        change(format!("UPDATE _sqlx_migrations SET version = 99999999999999 WHERE version = {last}"))
            .await
            .expect("ok");
        assert!(looked().await.expect_err("it is newer").to_string().contains("another version"));
        change(format!("DELETE FROM _sqlx_migrations WHERE version = {last}")).await.expect("it is deleted");
        assert_eq!(looked().await.expect("it answers"), Tables::Older);
    }
}

#[tokio::test]
async fn records_are_applied_once_however_often_they_come() {
    for fresh in Fresh::both() {
        let store = fresh.open().await;
        let mut node = Node::new("n_1");
        let records = node.records(meeting(
            "mtg_1",
            "algebra",
            &[("ann", MONDAY, MONDAY + MINUTE), ("bob", MONDAY + 5, MONDAY + 9)],
        ));
        apply_all(&store, &node.id, &records[..3]).await;
        apply_all(&store, &node.id, &records[1..]).await;
        let once = everything(&store).await;
        apply_all(&store, &node.id, &records).await;
        assert_eq!(store.applied("n_1").await.expect("it answers"), 6);
        assert_eq!(everything(&store).await, once, "{:?}", fresh.engine);
        assert_eq!(
            events(&store, "algebra").await,
            [
                "session.started",
                "participant.joined",
                "participant.joined",
                "participant.left",
                "participant.left",
                "session.ended"
            ]
        );
        assert_eq!(rows(&store, "SELECT seq FROM connection_log ORDER BY seq").await.len(), 6);
        assert_eq!(
            rows(
                &store,
                "SELECT user_id, first_join_at, last_leave_at, connected_ms, visits FROM attendance ORDER BY user_id"
            )
            .await,
            [
                format!(
                    "user_id=ann first_join_at={MONDAY} last_leave_at={} connected_ms=60000 visits=1",
                    MONDAY + MINUTE
                ),
                format!(
                    "user_id=bob first_join_at={} last_leave_at={} connected_ms=4 visits=1",
                    MONDAY + 5,
                    MONDAY + 9
                ),
            ]
        );
    }
}

#[tokio::test]
async fn an_end_that_is_known_is_not_written_again() {
    for fresh in Fresh::both() {
        let store = fresh.open().await;
        let mut node = Node::new("n_1");
        let facts = [
            started("mtg_1", "algebra", MONDAY),
            joined("mtg_1", "c_1", "ann", MONDAY),
            left("mtg_1", "c_1", MONDAY + 10),
            left("mtg_1", "c_1", MONDAY + 20),
            left("mtg_1", "c_unknown", MONDAY + 20),
            joined("mtg_1", "c_1", "ann", MONDAY + 30),
            ended("mtg_1", MONDAY + 10),
            ended("mtg_1", MONDAY + 40),
        ];
        node.apply(&store, facts).await;
        assert_eq!(
            rows(&store, "SELECT kind FROM connection_log ORDER BY seq").await,
            ["kind=meeting_started", "kind=joined", "kind=left", "kind=meeting_ended"]
        );
        assert_eq!(
            rows(&store, "SELECT ended_at, reason FROM connections").await,
            [format!("ended_at={} reason=left", MONDAY + 10)]
        );
        assert_eq!(count(&store, "SELECT COUNT(*) FROM summaries").await, 1);
        assert_eq!(events(&store, "algebra").await.len(), 4);
    }
}

#[tokio::test]
async fn a_join_in_a_meeting_that_was_ended_too_soon_is_not_lost() {
    for fresh in Fresh::both() {
        let store = fresh.open().await;
        let mut node = Node::new("n_1");
        node.apply(&store, meeting("mtg_1", "algebra", &[("ann", MONDAY, MONDAY + MINUTE)])).await;
        node.apply(&store, [joined("mtg_1", "c_late", "bob", MONDAY + 2 * MINUTE)]).await;
        assert_eq!(count(&store, "SELECT COUNT(*) FROM connections WHERE ended_at IS NULL").await, 1);
        assert_eq!(
            count(&store, "SELECT COUNT(*) FROM meetings WHERE ended_at IS NULL").await,
            0,
            "it reopens nothing"
        );
        node.apply(&store, [left("mtg_1", "c_late", MONDAY + 5 * MINUTE), ended("mtg_1", MONDAY + 5 * MINUTE)]).await;

        let summary = store.attendance("mtg_1", 0).await.expect("it answers").expect("it is there");
        assert_eq!((summary.version, summary.ended_at), (2, Some(MONDAY + 5 * MINUTE)));
        let people: Vec<_> = summary.participants.iter().map(|p| (&*p.user_id, p.connected_ms)).collect();
        assert_eq!(people, [("ann", MINUTE), ("bob", 3 * MINUTE)]);
        assert_eq!(
            rows(&store, "SELECT user_id FROM attendance ORDER BY user_id").await,
            ["user_id=ann", "user_id=bob"]
        );
        assert_eq!(events(&store, "algebra").await.iter().filter(|kind| *kind == "session.ended").count(), 2);
        // Once more changes nothing.
        node.apply(&store, [ended("mtg_1", MONDAY + 5 * MINUTE)]).await;
        assert_eq!(count(&store, "SELECT COUNT(*) FROM summaries").await, 2);
    }
}

#[tokio::test]
async fn tracks_are_told_of_when_they_come_and_go_and_not_when_they_are_muted() {
    for fresh in Fresh::both() {
        let store = fresh.open().await;
        let mut node = Node::new("n_1");
        let facts = [
            started("mtg_1", "algebra", MONDAY),
            joined("mtg_1", "c_1", "ann", MONDAY),
            track("mtg_1", "c_1", true, false, MONDAY + 1),
            track("mtg_1", "c_1", true, true, MONDAY + 2),
            track("mtg_1", "c_1", false, true, MONDAY + 3),
            track("mtg_1", "c_1", false, true, MONDAY + 4),
        ];
        node.apply(&store, facts).await;
        assert_eq!(events(&store, "algebra").await[2..], ["track.published", "track.unpublished"]);
        assert_eq!(count(&store, "SELECT COUNT(*) FROM connection_log").await, 6, "the log has all");
    }
}

#[tokio::test]
async fn proofs_of_life_of_many_come_in_one_heartbeat() {
    for fresh in Fresh::both() {
        let store = fresh.open().await;
        let mut node = Node::new("n_1");
        let mut facts = vec![started("mtg_1", "algebra", MONDAY)];
        facts.extend((0..250).map(|n| joined("mtg_1", &format!("c_{n}"), &format!("user{n}"), MONDAY)));
        facts.push(left("mtg_1", "c_7", MONDAY + 3));
        let alive = (0..250)
            .map(|n| Alive { connection: format!("c_{n}").into(), at: MONDAY + 1_000 + n, speaking_ms: 0 })
            .collect();
        facts.push(Fact::Activity { meeting: "mtg_1".into(), alive, at: MONDAY + 2_000 });
        node.apply(&store, facts).await;
        let moved = format!("SELECT COUNT(*) FROM connections WHERE alive_at >= {}", MONDAY + 1_000);
        assert_eq!(count(&store, &moved).await, 249, "all but the one who had left");
    }
}

#[tokio::test]
async fn an_event_is_delivered_to_each_endpoint_that_wants_it() {
    for fresh in Fresh::both() {
        let store = fresh.open().await;
        for (id, events, enabled) in [
            ("all", "NULL", 1),
            ("off", "NULL", 0),
            ("ends", "'participant.left session.ended'", 1),
            ("none", "'session.en'", 1),
        ] {
            let mut tx = store.write().await.expect("it writes");
            let insert = format!(
                "INSERT INTO webhook_endpoints (endpoint_id, url, secret, events, enabled, created_at) VALUES ('{id}', 'https://x', 's', {events}, {enabled}, 0)"
            );
            sqlx::query(sqlx::AssertSqlSafe(insert)).execute(&mut *tx).await.expect("it inserts");
            tx.commit().await.expect("it commits");
        }
        Node::new("n_1").apply(&store, meeting("mtg_1", "algebra", &[("ann", MONDAY, MONDAY + MINUTE)])).await;
        assert_eq!(
            rows(&store, "SELECT endpoint_id, type FROM deliveries JOIN outbox ON outbox.event_id = deliveries.event_id ORDER BY endpoint_id, deliveries.room_seq").await,
            [
                "endpoint_id=all type=session.started",
                "endpoint_id=all type=participant.joined",
                "endpoint_id=all type=participant.left",
                "endpoint_id=all type=session.ended",
                "endpoint_id=ends type=participant.left",
                "endpoint_id=ends type=session.ended",
            ]
        );
    }
}

#[tokio::test]
async fn names_that_a_database_may_refuse_lose_nothing() {
    let names = [
        "'; DROP TABLE meetings; --".to_owned(),
        "<script>alert(1)</script>".to_owned(),
        "line\r\nline".to_owned(),
        "\u{202e}evil".to_owned(),
        "NUL\0in the middle\0".to_owned(),
        "\\u0000 spelt out".to_owned(),
        "é".repeat(1_000_000),
        "=cmd()".to_owned(),
    ];
    let mut dumps = vec![];
    for fresh in Fresh::both() {
        let store = fresh.open().await;
        let mut node = Node::new("n_1");
        for (n, name) in names.iter().enumerate() {
            let (meeting, connection) = (format!("mtg_{n}"), format!("c_{n}"));
            let mut facts = vec![started(&meeting, name, MONDAY)];
            facts.push(Fact::Joined {
                meeting: meeting.as_str().into(),
                connection: connection.as_str().into(),
                participant: "p_1".into(),
                user: name.as_str().into(),
                name: name.as_str().into(),
                role: Role::Observer,
                at: MONDAY,
                resumes: None,
            });
            facts.push(chat(&meeting, &format!("msg_{n}"), name, name, MONDAY + 1));
            facts.push(Fact::Aborted { session: name.as_str().into(), user: name.as_str().into(), at: MONDAY + 2 });
            facts.push(Fact::Removed {
                session: name.as_str().into(),
                meeting: meeting.as_str().into(),
                user: name.as_str().into(),
                token: Some(name.as_str().into()),
                expires_ms: MONDAY,
                at: MONDAY,
            });
            facts.push(left(&meeting, &connection, MONDAY + 3));
            facts.push(ended(&meeting, MONDAY + 3));
            node.apply(&store, facts).await;
        }
        assert_eq!(count(&store, "SELECT COUNT(*) FROM attendance").await, names.len() as u64);
        let stored = rows(&store, "SELECT user_name FROM attendance ORDER BY meeting_id").await;
        assert_eq!(stored[0], format!("user_name={}", names[0]));
        assert_eq!(stored[3], format!("user_name={}", names[3]));
        assert_eq!(stored[4], "user_name=NUL\u{fffd}in the middle\u{fffd}");
        assert_eq!(stored[5], format!("user_name={}", names[5]));
        assert!(stored[6].len() < 1_100, "{}", stored[6].len());
        dumps.push(everything(&store).await);
    }
    assert_eq!(dumps[0], dumps[1]);
}

#[tokio::test]
async fn who_was_removed_stays_known() {
    for fresh in Fresh::both() {
        let store = fresh.open().await;
        let mut node = Node::new("n_1");
        let removed = |token: Option<&str>, expires_ms| Fact::Removed {
            session: "algebra".into(),
            meeting: "mtg_1".into(),
            user: "eve".into(),
            token: token.map(Into::into),
            expires_ms,
            at: MONDAY,
        };
        node.apply(
            &store,
            [
                removed(Some("jti_1"), MONDAY + MINUTE),
                removed(Some("jti_2"), MONDAY + 2 * MINUTE),
                removed(None, MONDAY),
            ],
        )
        .await;
        let expiry = "SELECT token_id, expires_at FROM revocations ORDER BY token_id";
        assert_eq!(
            rows(&store, expiry).await,
            [
                format!("token_id= expires_at={MONDAY}"),
                format!("token_id=jti_1 expires_at={}", MONDAY + MINUTE),
                format!("token_id=jti_2 expires_at={}", MONDAY + 2 * MINUTE),
            ]
        );
    }
}

#[tokio::test]
async fn a_meeting_whose_beginning_is_unknown_is_kept() {
    for fresh in Fresh::both() {
        let store = fresh.open().await;
        let mut node = Node::new("n_1");
        node.apply(&store, [joined("mtg_1", "c_1", "ann", MONDAY), left("mtg_1", "c_1", MONDAY + 10)]).await;
        assert_eq!(
            rows(&store, "SELECT session_id, started_at FROM meetings").await,
            [format!("session_id= started_at={MONDAY}")]
        );
        assert_eq!(count(&store, "SELECT COUNT(*) FROM connection_log").await, 2);
    }
}

#[tokio::test]
async fn connections_still_open_at_the_end_end_with_it() {
    for fresh in Fresh::both() {
        let store = fresh.open().await;
        let mut node = Node::new("n_1");
        node.apply(
            &store,
            [started("mtg_1", "algebra", MONDAY), joined("mtg_1", "c_1", "ann", MONDAY), ended("mtg_1", MONDAY + 10)],
        )
        .await;
        assert_eq!(
            rows(&store, "SELECT reason FROM connections").await,
            [format!("reason={}", Reason::Ended.as_str())]
        );
    }
}
