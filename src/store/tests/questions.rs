//! What the API asks.

use super::super::{Expected, MeetingFilter, Received, RoomRetention};
use super::*;

#[tokio::test]
async fn pages_hold_each_meeting_once_whatever_is_written_meanwhile() {
    for fresh in Fresh::both() {
        let store = fresh.open().await;
        let mut node = Node::new("n_1");
        for n in 0..7_u64 {
            // Two at a time begin together.
            let at = MONDAY + n / 2 * MINUTE;
            node.apply(&store, meeting(&format!("mtg_{n}"), "algebra", &[("ann", at, at + 1)])).await;
        }
        node.apply(&store, meeting("mtg_x", "biology", &[("ann", MONDAY, MONDAY + 1)])).await;
        let filter = MeetingFilter { session: Some("algebra".to_owned()), ..MeetingFilter::default() };
        let (mut seen, mut cursor) = (vec![], None);
        loop {
            let page = store.meetings(&filter, cursor.as_deref(), 2).await.expect("it answers");
            assert!(page.items.len() <= 2);
            seen.extend(page.items.into_iter().map(|m| m.meeting_id));
            if seen.len() == 2 {
                node.apply(
                    &store,
                    meeting("mtg_new", "algebra", &[("ann", MONDAY + 60 * MINUTE, MONDAY + 61 * MINUTE)]),
                )
                .await;
            }
            match page.next {
                Some(next) => cursor = Some(next),
                None => break,
            }
        }
        assert_eq!(seen, ["mtg_6", "mtg_4", "mtg_5", "mtg_2", "mtg_3", "mtg_0", "mtg_1"]);

        let some = MeetingFilter { session: None, from: Some(MONDAY + MINUTE), to: Some(MONDAY + 2 * MINUTE) };
        let page = store.meetings(&some, Some("nonsense"), 0).await.expect("it answers");
        assert_eq!((page.items.len(), page.next.is_some()), (1, true));
        let one = store.meeting("mtg_3").await.expect("it answers").expect("it is there");
        assert_eq!(
            (one.started_at, one.ended_at, one.total_participants),
            (MONDAY + MINUTE, Some(MONDAY + MINUTE + 1), Some(1))
        );
        assert_eq!(store.meeting("mtg_nowhere").await.expect("it answers"), None);

        let page = store.attended("ann", MONDAY, MONDAY + MINUTE, None, 2).await.expect("it answers");
        let rest = store.attended("ann", MONDAY, MONDAY + MINUTE, page.next.as_deref(), 2).await.expect("it answers");
        let of =
            |items: &[super::super::query::Attended]| items.iter().map(|a| a.meeting_id.clone()).collect::<Vec<_>>();
        assert_eq!(
            (of(&page.items), of(&rest.items)),
            (vec!["mtg_0".to_owned(), "mtg_1".to_owned()], vec!["mtg_x".to_owned()])
        );
        assert_eq!(rest.next, None);
    }
}

#[tokio::test]
async fn a_running_meeting_tells_who_is_there_now() {
    for fresh in Fresh::both() {
        let store = fresh.open().await;
        let facts = [started("mtg_1", "algebra", MONDAY), joined("mtg_1", "c_1", "ann", MONDAY + 10)];
        Node::new("n_1").apply(&store, facts).await;
        let summary = store.attendance("mtg_1", MONDAY + MINUTE).await.expect("it answers").expect("it is there");
        assert_eq!((summary.ended_at, summary.participants[0].connected_ms), (None, MINUTE - 10));
        assert_eq!(store.attendance("mtg_2", MONDAY).await.expect("it answers"), None);
    }
}

#[tokio::test]
async fn chat_is_read_back_newest_first() {
    for fresh in Fresh::both() {
        let store = fresh.open().await;
        let mut node = Node::new("n_1");
        node.apply(&store, [started("mtg_1", "algebra", MONDAY)]).await;
        node.apply(&store, (0..5).map(|n| chat("mtg_1", &format!("msg_{n}"), "ann", &format!("word {n}"), MONDAY + n)))
            .await;
        let first = store.chat("algebra", None, 3).await.expect("it answers");
        let rest = store.chat("algebra", first.next.as_deref(), 3).await.expect("it answers");
        let words: Vec<_> = first.items.iter().chain(&rest.items).map(|line| &*line.message).collect();
        assert_eq!(words, ["word 4", "word 3", "word 2", "word 1", "word 0"]);
        assert_eq!((rest.next, store.chat("biology", None, 3).await.expect("it answers").items.len()), (None, 0));
    }
}

#[tokio::test]
async fn what_was_said_of_a_room_is_kept_and_other_nodes_hear_of_it() {
    for fresh in Fresh::both() {
        let (one, two) = (fresh.open().await, fresh.open().await);
        one.put_settings("algebra", r#"{"capacity":5}"#, &RoomRetention::default(), MONDAY).await.expect("it writes");
        let expected = |user: &str| Expected { user_id: user.to_owned(), user_name: None, role: Role::Participant };
        one.put_roster("biology", &[expected("ann"), expected("bob"), expected("ann")], MONDAY + 5)
            .await
            .expect("it writes");
        // A meeting alone changes nothing that others must hear of.
        Node::new("n_1").apply(&one, meeting("mtg_1", "chemistry", &[("ann", MONDAY, MONDAY + 1)])).await;
        let changed = two.rooms_changed(0, "").await.expect("it answers");
        assert_eq!(
            changed.iter().map(|room| (&*room.session, room.updated_at)).collect::<Vec<_>>(),
            [("algebra", MONDAY), ("biology", MONDAY + 5)]
        );
        assert_eq!(changed[0].settings.as_deref(), Some(r#"{"capacity":5}"#));
        assert_eq!(two.rooms_changed(MONDAY + 1, "").await.expect("it answers").len(), 1);
        assert_eq!(two.roster("biology").await.expect("it answers"), [expected("ann"), expected("bob")]);

        two.put_settings("algebra", "{}", &RoomRetention::default(), MONDAY + 9).await.expect("it writes");
        two.put_roster("biology", &[], MONDAY + 9).await.expect("it writes");
        let changed = one.rooms_changed(MONDAY + 9, "").await.expect("it answers");
        assert_eq!(changed[0].settings.as_deref(), Some("{}"));
        assert_eq!(one.roster("biology").await.expect("it answers"), []);
    }
}

#[tokio::test]
async fn another_servers_meeting_is_written_once_and_its_newer_version_takes_its_place() {
    for fresh in Fresh::both() {
        // The sender has a store of its own.
        let sender = Fresh::new(fresh.engine);
        let (from, to) = (sender.open().await, fresh.open().await);
        let mut node = Node::new("n_1");
        node.apply(&from, meeting("mtg_1", "algebra", &[("ann", MONDAY, MONDAY + MINUTE)])).await;
        node.apply(
            &from,
            [
                joined("mtg_1", "c_late", "bob", MONDAY + MINUTE),
                left("mtg_1", "c_late", MONDAY + 2 * MINUTE),
                ended("mtg_1", MONDAY + 2 * MINUTE),
            ],
        )
        .await;
        let mut received = vec![];
        for row in rows(&from, "SELECT event_id, body FROM outbox ORDER BY room_seq").await {
            let (id, body) = row.split_once(" body=").expect("two columns");
            let event: Received = serde_json::from_str(body).expect("it reads");
            received.push(Received { id: id.trim_start_matches("event_id=").to_owned(), ..event });
        }
        // The newer version first, and each twice.
        received.reverse();
        for event in &received {
            assert!(to.receive(event, MONDAY).await.expect("it is taken"));
            assert!(!to.receive(event, MONDAY).await.expect("it answers"));
        }
        for table in ["attendance", "visits"] {
            let all = format!("SELECT * FROM {table} ORDER BY user_id");
            assert_eq!(rows(&from, &all).await, rows(&to, &all).await);
        }
        assert_eq!(
            to.attendance("mtg_1", 0).await.expect("it answers"),
            from.attendance("mtg_1", 0).await.expect("it answers")
        );
        assert_eq!(
            rows(&to, "SELECT session_id, node_id, total_participants FROM meetings").await,
            ["session_id=algebra node_id=received total_participants=2"]
        );

        // What was here already is not written over, and nonsense is refused and may come again.
        for event in &received {
            assert!(from.receive(event, MONDAY).await.expect("it is taken"));
        }
        assert_eq!(count(&from, "SELECT COUNT(*) FROM summaries").await, 2);
        let nonsense = Received {
            id: "msg_x".to_owned(),
            r#type: "session.ended".to_owned(),
            data: serde_json::json!({ "meetingId": 7 }),
        };
        for _ in 0..2 {
            assert!(matches!(to.receive(&nonsense, MONDAY).await, Err(super::super::StoreError::Broken(_))));
        }
    }
}
