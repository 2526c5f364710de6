//! The database goes and comes back.

use super::super::{Engine, StoreError};
use super::*;

#[tokio::test]
async fn a_postgres_that_stops_or_is_killed_costs_nothing_that_was_applied() {
    // Its own server: others use the common one.
    let mut server = Postgres::start();
    let store = Store::new(&server.database("lyceum")).expect("the URL is right");
    let mut node = Node::new("n_1");
    let records =
        node.records(meeting("mtg_1", "algebra", &[("ann", MONDAY, MONDAY + MINUTE), ("bob", MONDAY, MONDAY + 5)]));
    for kill in [false, true] {
        let half = if kill { &records[3..] } else { &records[..3] };
        if kill {
            server.kill();
        } else {
            server.stop();
        }
        let refused = tokio::time::timeout(PATIENCE, store.apply(&node.id, half)).await.expect("it answers in time");
        assert!(matches!(refused, Err(StoreError::Away(_))), "{refused:?}");
        server.start_again();
        let mut again = store.apply(&node.id, half).await;
        // Connections from before fail once each.
        while let Err(StoreError::Away(_)) = again {
            again = store.apply(&node.id, half).await;
        }
        assert_eq!(again.expect("it applies"), if kill { 6 } else { 3 });
    }
    assert_eq!(count(&store, "SELECT COUNT(*) FROM connection_log").await, 6);
    assert_eq!(events(&store, "algebra").await.len(), 6);
}

#[tokio::test]
async fn a_start_without_the_database_fails_in_time_and_later_succeeds() {
    let dir = std::env::temp_dir().join(format!("lyceum-nowhere-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&dir);
    let lite = format!("sqlite://{}/lyceum.db", dir.display());
    let gres = format!("postgres:///lyceum?user=postgres&host={}", dir.display());
    for url in [&lite, &gres] {
        let refused = Store::open(url, PATIENCE).await;
        assert!(matches!(refused, Err(StoreError::Away(_))), "{refused:?}");
    }
    let store = Store::new(&lite).expect("the URL is right");
    assert!(store.migrate().await.is_err());
    std::fs::create_dir_all(&dir).expect("the temporary directory is writable");
    store.migrate().await.expect("now it is there");
    Node::new("n_1").apply(&store, meeting("mtg_1", "algebra", &[("ann", MONDAY, MONDAY + 1)])).await;
    std::fs::remove_dir_all(&dir).expect("it is ours");
}

#[tokio::test]
async fn a_batch_that_finds_a_lock_fails_as_a_whole_and_is_applied_later() {
    for fresh in Fresh::both() {
        let (one, two) = (fresh.open().await, fresh.open().await);
        let mut node = Node::new("n_1");
        let records = node.records(meeting("mtg_1", "algebra", &[("ann", MONDAY, MONDAY + 1)]));
        apply_all(&one, &node.id, &records[..1]).await;
        let before = everything(&one).await;
        let mut other = two.write().await.expect("it writes");
        // The last record of the batch would need this row; on SQLite there is but one writer anyway.
        sqlx::query("UPDATE rooms SET settings = '{}' WHERE session_id = 'algebra'")
            .execute(&mut *other)
            .await
            .expect("it updates");
        let refused = one.apply(&node.id, &records).await;
        assert!(matches!(refused, Err(StoreError::Away(_))), "{refused:?}");
        other.rollback().await.expect("it rolls back");
        assert_eq!(everything(&one).await, before);
        apply_all(&one, &node.id, &records).await;
        assert_eq!(count(&one, "SELECT COUNT(*) FROM summaries").await, 1);
    }
}

#[tokio::test]
async fn a_slow_database_takes_a_batch_in_parts() {
    let fresh = Fresh::new(Engine::Postgres);
    let store = fresh.open().await;
    let slow =
        "CREATE FUNCTION slow() RETURNS trigger AS $$ BEGIN PERFORM pg_sleep(0.4); RETURN NEW; END $$ LANGUAGE plpgsql;
                CREATE TRIGGER slow BEFORE INSERT ON connection_log FOR EACH ROW EXECUTE FUNCTION slow()";
    server().psql(&fresh.name, slow);
    let mut node = Node::new("n_1");
    let people: Vec<_> =
        ["ann", "bob", "eve", "joe", "kim", "leo"].iter().map(|user| (*user, MONDAY, MONDAY + 1)).collect();
    let records = node.records(meeting("mtg_1", "algebra", &people));
    let first = store.apply(&node.id, &records).await.expect("it applies");
    assert!((1..14).contains(&first), "{first}");
    assert_eq!(count(&store, "SELECT COUNT(*) FROM connection_log").await, first, "what it says is there");
    apply_all(&store, &node.id, &records).await;
    assert_eq!(count(&store, "SELECT COUNT(*) FROM connection_log").await, 14);
    assert_eq!(events(&store, "algebra").await.len(), 14);
}

#[tokio::test]
async fn errors_never_say_the_password() {
    for url in
        ["postgres://lyceum:hunter2@127.0.0.1:1/x", "postgres://lyceum:hunter2@[/x", "mysql://lyceum:hunter2@h/x"]
    {
        let error = match Store::new(url) {
            Ok(store) => {
                assert!(!format!("{store:?}").contains("hunter2"));
                store.migrate().await.expect_err("nobody is there")
            }
            Err(error) => error,
        };
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
    }
}
