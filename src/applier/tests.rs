//! The way from the journal to a store that is new, there already, or ahead.

use std::path::PathBuf;

use signaling::{Fact, FactId};
use tokio::sync::mpsc;

use super::*;

/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

fn folder(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("lyceum-applier-{}-{name}", std::process::id()));
    let _ = std::fs::remove_dir_all(&path);
    path
}

/// A journal with so many new facts that are on disk. What had it before may still let go of it.
async fn journal(dir: &Path, facts: u64) -> Journal {
    // Control is not there to be told.
    let (inbox, _) = mpsc::channel(1);
    let (ended, _) = mpsc::unbounded_channel();
    let (journal, _) = Journal::start(dir, u64::MAX, inbox, ended).unwrap_or_else(|failure| panic!("{failure}"));
    for id in 1..=facts {
        let fact = Fact::Aborted { session: "math".into(), user: format!("u{id}").into(), at: id };
        assert!(journal.facts.write(FactId(id), fact, clock::now()).is_ok());
    }
    tokio::time::timeout(PATIENCE, journal.facts.flush()).await.expect("a good disk");
    journal
}

fn store(dir: &Path) -> Store {
    Store::new(&sqlite(dir).expect("a path")).expect("a good URL")
}

async fn until(what: &str, is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_store_gets_each_fact_once_whoever_carries_it_on() {
    let dir = folder("once");
    // More than a batch.
    let before = journal(&dir, 2 * BATCH_MAX as u64 + 3).await;
    let store = store(&dir);
    let first = Arc::new(Applying::default());
    let task = tokio::spawn(run(store.clone(), before, first.clone()));
    until("a batch is applied", || first.applied() > 0).await;
    // It dies wherever it is.
    task.abort();
    assert!(task.await.is_err_and(|ended| ended.is_cancelled()));
    let journal = journal(&dir, 0).await;
    let second = Arc::new(Applying::default());
    let task = tokio::spawn(run(store.clone(), journal.clone(), second.clone()));
    until("all is applied", || second.applied() == journal.committed()).await;
    assert!(second.is_up());
    until("nothing waits", || second.age(u64::MAX) == Duration::ZERO).await;
    task.abort();
    assert_eq!(store.applied(&journal.node).await.expect("it is there"), journal.committed());
    let _ = std::fs::remove_dir_all(&dir);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_copy_of_a_journal_is_not_taken_for_ours() {
    let (dir, old) = (folder("new"), folder("old"));
    let journal_ = journal(&dir, 10).await;
    let store = store(&dir);
    let status = Arc::new(Applying::default());
    let task = tokio::spawn(run(store.clone(), journal_.clone(), status.clone()));
    until("all is applied", || status.applied() == 10).await;
    task.abort();
    std::fs::create_dir_all(old.join("journal")).expect("a writable directory");
    std::fs::copy(dir.join("journal/node-id"), old.join("journal/node-id")).expect("it is there");
    drop(journal(&old, 3).await);
    // Nobody looks until it has more than the store: what is new in it is not what the store has under these numbers.
    let copy = journal(&old, 30).await;
    assert_eq!((&copy.node, copy.found, copy.committed()), (&journal_.node, 3, 33));
    let status = Arc::new(Applying::default());
    let ahead = tokio::time::timeout(PATIENCE, run(store.clone(), copy, status.clone())).await.expect("it gives up");
    assert_eq!(ahead, Ahead { applied: 10, given: 3, boot: journal_.boot });
    assert!(!status.is_up() && status.applied() == 0);
    assert_eq!(store.applied(&journal_.node).await.expect("it is there"), 10, "nothing was skipped");
    // Nor is it the next time, when it had more from the beginning.
    let again = journal(&old, 0).await;
    assert_eq!(again.found, 33);
    let ahead = run(store.clone(), again, Arc::new(Applying::default()));
    let ahead = tokio::time::timeout(PATIENCE, ahead).await.expect("it gives up");
    assert_eq!(ahead, Ahead { applied: 10, given: 33, boot: journal_.boot });
    assert_eq!(store.applied(&journal_.node).await.expect("it is there"), 10);
    let said = status.trouble.lock().expect("nobody panics with it").clone().expect("a reason");
    assert!(said.contains("old copy") && said.contains("LYCEUM__STORE__DIR"), "{said}");
    let _ = (std::fs::remove_dir_all(&dir), std::fs::remove_dir_all(&old));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_store_refuses_to_tell_is_left_out() {
    let dir = folder("refused");
    std::fs::create_dir_all(&dir).expect("a writable directory");
    let store = store(&dir);
    let mut tx = store.write().await.expect("it writes");
    sqlx::query("DROP TABLE chat_messages").execute(&mut *tx).await.expect("it drops");
    tx.commit().await.expect("it commits");
    let applying = Arc::new(Applying::default());
    let (inbox, mut inputs) = mpsc::channel(1);
    let meetings = vec![("mtg_1".into(), 1), ("mtg_2".into(), 1)];
    let recalled = recall(store, 0, applying.clone(), meetings, inbox.downgrade());
    tokio::time::timeout(PATIENCE, recalled).await.expect("it gives up");
    assert!(inputs.try_recv().is_err() && applying.failures() == 0, "facts still come to it");
    let _ = std::fs::remove_dir_all(&dir);
}
