//! The SQL of docs/attendance.md, run by psql on the real tables.

use super::super::{Engine, Expected};
use super::*;

const PAGE: &str = include_str!("../../../docs/attendance.md");
const WEEK: u64 = 7 * 24 * 60 * MINUTE;

/// The questions of the page, in order.
fn questions() -> Vec<&'static str> {
    PAGE.split("```sql\n").skip(1).filter_map(|rest| rest.split_once("```")).map(|(sql, _)| sql).collect()
}

#[tokio::test]
async fn the_questions_of_schools_are_answered_by_psql() {
    let fresh = Fresh::new(Engine::Postgres);
    let store = fresh.open().await;
    let mut node = Node::new("n_1");
    let ten = MONDAY + 8 * 60 * MINUTE; // 10 o'clock in Berlin
    let first = [
        ("teacher", ten, ten + 60 * MINUTE),
        ("ann", ten, ten + 60 * MINUTE),
        ("bob", ten + 25 * MINUTE, ten + 60 * MINUTE),
    ];
    node.apply(&store, meeting("mtg_1", "algebra", &first)).await;
    let ten = ten + 2 * 24 * 60 * MINUTE;
    let second = [
        ("teacher", ten + 5 * MINUTE, ten + 60 * MINUTE),
        ("ann", ten, ten + 30 * MINUTE),
        ("eve", ten + 14 * MINUTE, ten + 60 * MINUTE),
    ];
    node.apply(&store, meeting("mtg_2", "algebra", &second)).await;
    let ten = ten + WEEK;
    node.apply(&store, meeting("mtg_3", "algebra", &[("ann", ten, ten + 90_000)])).await;
    node.apply(&store, meeting("mtg_4", "biology", &[("ann", ten, ten + MINUTE)])).await;
    node.apply(
        &store,
        [started("mtg_5", "algebra", ten), joined("mtg_5", "c_5", "ann", ten), joined("mtg_5", "c_6", "ann", ten)],
    )
    .await;
    let roster: Vec<_> = ["ann", "bob"]
        .iter()
        .map(|user| Expected { user_id: (*user).to_owned(), user_name: None, role: Role::Participant })
        .collect();
    store.put_roster("algebra", &roster, MONDAY).await.expect("it writes");

    let answers: Vec<String> = questions().iter().map(|sql| server().psql(&fresh.name, sql)).collect();
    let [minutes, missed, late, short, now] = &answers[..] else { panic!("five questions: {answers:#?}") };
    assert_eq!(
        minutes.lines().collect::<Vec<_>>(),
        [
            "2026-09-07|ann|Name of ann|90.0",
            "2026-09-07|bob|Name of bob|35.0",
            "2026-09-07|eve|Name of eve|46.0",
            "2026-09-14|ann|Name of ann|1.5",
        ]
    );
    assert_eq!(missed.lines().collect::<Vec<_>>(), ["2026-09-09|bob", "2026-09-16|bob"]);
    assert_eq!(late.lines().collect::<Vec<_>>(), ["2026-09-07|bob|25.0"], "eve came nine minutes after the teacher");
    assert_eq!(short.lines().collect::<Vec<_>>(), ["mtg_1|bob|58", "mtg_2|ann|50"]);
    assert_eq!(now, "algebra|ann|Name of ann");
}
