//! Random histories: both engines end with the same rows (I13), and with those that the log says.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use signaling::attendance::{Summary, summarize};
use signaling::{Alive, Fact, Reason, Role};

use super::super::Engine;
use super::*;

/// What may happen next, with numbers that choose of whom.
#[derive(Clone, Copy, Debug)]
enum Step {
    Start(u8),
    Join(u8, u8),
    Leave(u8, u8),
    Rename(u8),
    Media(u8, bool),
    Track(u8, bool, bool),
    Beat(u8),
    Chat(u8),
    Remove(u8),
    Abort(u8),
    End(u8),
}

fn steps() -> impl Strategy<Value = Vec<(Step, u16)>> {
    let number = any::<u8>;
    let step = prop_oneof![
        2 => number().prop_map(Step::Start),
        6 => (number(), number()).prop_map(|(m, u)| Step::Join(m, u)),
        5 => (number(), number()).prop_map(|(c, r)| Step::Leave(c, r)),
        1 => number().prop_map(Step::Rename),
        1 => (number(), any::<bool>()).prop_map(|(c, up)| Step::Media(c, up)),
        3 => (number(), any::<bool>(), any::<bool>()).prop_map(|(c, on, muted)| Step::Track(c, on, muted)),
        3 => number().prop_map(Step::Beat),
        2 => number().prop_map(Step::Chat),
        1 => number().prop_map(Step::Remove),
        1 => number().prop_map(Step::Abort),
        2 => number().prop_map(Step::End),
    ];
    prop::collection::vec((step, any::<u16>()), 1..80)
}

/// The facts of a script. Much of it makes no sense, as after a damage: joins after the end, ends of nobody, ends twice.
fn facts(script: &[(Step, u16)]) -> Vec<Fact> {
    const REASONS: [Reason; 6] =
        [Reason::Left, Reason::Disconnected, Reason::Replaced, Reason::Removed, Reason::Ended, Reason::Crashed];
    let mut at = MONDAY;
    let mut connections: Vec<(Arc<str>, Arc<str>)> = vec![];
    let mut facts = vec![];
    let meeting = |n: u8| -> Arc<str> { format!("mtg_{}", n % 3).into() };
    for (number, (step, pause)) in script.iter().enumerate() {
        at += u64::from(*pause);
        let of = |n: u8| connections.get(usize::from(n) % connections.len().max(1)).cloned();
        let fact = match *step {
            Step::Start(n) => Some(started(&meeting(n), &format!("room{}", n % 2), at)),
            Step::Join(m, u) => {
                let id: Arc<str> = format!("c_{number}").into();
                connections.push((meeting(m), id.clone()));
                Some(joined(&meeting(m), &id, ["teacher", "ann", "bob", "zoé\0", "O'Hara"][usize::from(u) % 5], at))
            }
            Step::Leave(c, r) => of(c).map(|(meeting, connection)| {
                let reason = REASONS[usize::from(r) % REASONS.len()];
                Fact::Left {
                    meeting,
                    connection,
                    at,
                    reason,
                    uncertainty_ms: if reason == Reason::Crashed { 10_000 } else { 0 },
                }
            }),
            Step::Rename(c) => of(c).map(|(meeting, connection)| Fact::Changed {
                meeting,
                connection,
                name: format!("name {c}").into(),
                role: Role::Instructor,
                at,
            }),
            Step::Media(c, up) => of(c).map(|(meeting, connection)| Fact::Media { meeting, connection, up, at }),
            Step::Track(c, on, muted) => of(c).map(|(meeting, connection)| Fact::Track {
                meeting,
                connection,
                track: format!("t_{}", c % 2).into(),
                source: if c % 3 == 0 { "screen" } else { "camera" }.into(),
                on,
                muted,
                at,
            }),
            Step::Beat(m) => {
                let here = connections.iter().filter(|(of, _)| *of == meeting(m));
                let alive = here.map(|(_, id)| Alive { connection: id.clone(), at, speaking_ms: 250 }).collect();
                Some(Fact::Activity { meeting: meeting(m), alive, at })
            }
            Step::Chat(m) => Some(chat(&meeting(m), &format!("msg_{number}"), "ann", "hello\0", at)),
            Step::Remove(m) => Some(Fact::Removed {
                session: "room0".into(),
                meeting: meeting(m),
                user: "bob".into(),
                token: (m % 2 == 0).then(|| format!("jti_{m}").into()),
                expires_ms: at + MINUTE,
                at,
            }),
            Step::Abort(n) => Some(Fact::Aborted { session: format!("room{}", n % 2).into(), user: "eve".into(), at }),
            Step::End(m) => Some(ended(&meeting(m), at)),
        };
        facts.extend(fact);
    }
    facts
}

/// Each meeting's rows are what its log says as it stands.
async fn agrees(store: &Store) {
    for row in
        rows(store, "SELECT meeting_id FROM meetings WHERE ended_at IS NOT NULL AND last_seq = summary_seq").await
    {
        let id = row.trim_start_matches("meeting_id=");
        let log: Vec<Fact> =
            rows(store, &format!("SELECT fact FROM connection_log WHERE meeting_id = '{id}' ORDER BY seq"))
                .await
                .iter()
                .map(|row| serde_json::from_str(row.trim_start_matches("fact=")).expect("it reads"))
                .collect();
        let said = store.attendance(id, 0).await.expect("it answers").expect("it has ended");
        let derived = Summary { version: said.version, ..summarize(&log, 0) };
        assert_eq!(serde_json::to_string(&said).ok(), serde_json::to_string(&derived).ok());
        assert_eq!(
            count(store, &format!("SELECT COUNT(*) FROM attendance WHERE meeting_id = '{id}'")).await,
            said.participants.len() as u64
        );
        let visits: usize = said.participants.iter().map(|p| p.visits.len()).sum();
        assert_eq!(
            count(store, &format!("SELECT COUNT(*) FROM visits WHERE meeting_id = '{id}'")).await,
            visits as u64
        );
    }
    assert_eq!(count(store, "SELECT COUNT(*) FROM connections WHERE ended_at < started_at").await, 0);
    let dense = "SELECT COUNT(*) FROM meetings WHERE last_seq <> (SELECT COUNT(*) FROM connection_log WHERE connection_log.meeting_id = meetings.meeting_id)
                 OR last_seq <> (SELECT COALESCE(MAX(seq), 0) FROM connection_log WHERE connection_log.meeting_id = meetings.meeting_id)";
    assert_eq!(count(store, dense).await, 0);
    for session in ["room0", "room1", ""] {
        events(store, session).await;
    }
}

#[test]
fn both_engines_end_with_the_same_rows() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime starts");
    let long = std::env::var("LYCEUM_LONG").is_ok_and(|long| !long.is_empty());
    let config = Config {
        cases: if long { 300 } else { 12 },
        max_shrink_iters: 100,
        failure_persistence: None,
        ..Config::default()
    };
    let tried = TestRunner::new(config).run(&(steps(), 1_usize..20), |(script, batch)| {
        runtime.block_on(async {
            let facts = facts(&script);
            let mut ends = vec![];
            for fresh in Fresh::both() {
                let store = fresh.open().await;
                let mut node = Node::new("n_1");
                let records = node.records(facts.iter().cloned());
                // SQLite gets them in pieces, some twice; Postgres all at once.
                let batch = if fresh.engine == Engine::Sqlite { batch } else { usize::MAX };
                for some in records.chunks(batch.min(records.len().max(1))) {
                    apply_all(&store, &node.id, some).await;
                }
                apply_all(&store, &node.id, &records).await;
                agrees(&store).await;
                ends.push(everything(&store).await);
            }
            prop_assert_eq!(&ends[0], &ends[1]);
            Ok(())
        })
    });
    if let Err(failure) = tried {
        panic!("{failure}");
    }
}
