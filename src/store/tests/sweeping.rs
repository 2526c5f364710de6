//! What silent nodes left is closed, and nothing else.

use std::time::Instant;

use signaling::limits::EMPTY_TIMEOUT;
use signaling::{Alive, Fact, Now};

use super::super::{Sweeper, Swept};
use super::*;

fn sweeper() -> Sweeper {
    Sweeper::new(EMPTY_TIMEOUT)
}

/// Both clocks `seconds` after the beginning.
fn at(begun: Instant, seconds: u64) -> Now {
    Now { mono: begun + Duration::from_secs(seconds), unix_ms: MONDAY + seconds * 1_000 }
}

/// Rounds of `node` each ten seconds from `from` to `to`; gives what they closed in all.
async fn rounds(sweeper: &mut Sweeper, store: &Store, node: &NodeId, begun: Instant, from: u64, to: u64) -> Swept {
    let mut all = Swept::default();
    for seconds in (from..=to).step_by(10) {
        let swept = sweeper.round(store, node, at(begun, seconds)).await.expect("it sweeps");
        all.connections += swept.connections;
        all.meetings += swept.meetings;
    }
    all
}

fn open_meeting(id: &str) -> Vec<Fact> {
    let alive = vec![Alive { connection: format!("c_{id}").into(), at: MONDAY + 9_000, speaking_ms: 0 }];
    vec![
        started(id, "algebra", MONDAY),
        joined(id, &format!("c_{id}"), "ann", MONDAY),
        Fact::Activity { meeting: id.into(), alive, at: MONDAY + 10_000 },
    ]
}

#[tokio::test]
async fn nodes_that_live_never_close_each_others_visits() {
    for fresh in Fresh::both() {
        let begun = Instant::now();
        let (one, two) = (fresh.open().await, fresh.open().await);
        let (mut a, mut b) = (Node::new("n_a"), Node::new("n_b"));
        a.apply(&one, open_meeting("mtg_a")).await;
        b.apply(&two, open_meeting("mtg_b")).await;
        let (mut of_a, mut of_b) = (sweeper(), sweeper());
        for seconds in (0..=600).step_by(10) {
            assert_eq!(of_a.round(&one, &a.id, at(begun, seconds)).await.expect("it sweeps"), Swept::default());
            // The other's wall clock is hours away.
            let now = Now { unix_ms: MONDAY - 3 * 3_600_000 + seconds * 1_000, ..at(begun, seconds) };
            assert_eq!(of_b.round(&two, &b.id, now).await.expect("it sweeps"), Swept::default());
        }
        assert_eq!(count(&one, "SELECT COUNT(*) FROM connections WHERE ended_at IS NULL").await, 2);
        let nodes = one.nodes().await.expect("it answers");
        let mut nodes: Vec<_> =
            nodes.iter().map(|node| (node.node.as_str(), node.meetings, node.participants)).collect();
        nodes.sort_unstable();
        assert_eq!(nodes, [("n_a", 1, 1), ("n_b", 1, 1)]);
    }
}

#[tokio::test]
async fn a_silent_nodes_visits_end_at_their_last_proof_of_life() {
    for fresh in Fresh::both() {
        let begun = Instant::now();
        let store = fresh.open().await;
        let (mut a, b) = (Node::new("n_a"), node_id("n_b"));
        a.apply(&store, open_meeting("mtg_a")).await;
        let mut sweeper = sweeper();
        assert_eq!(rounds(&mut sweeper, &store, &b, begun, 0, 50).await, Swept::default());
        assert_eq!(rounds(&mut sweeper, &store, &b, begun, 60, 60).await, Swept { connections: 1, meetings: 0 });
        assert_eq!(
            rows(&store, "SELECT ended_at, reason, uncertainty_ms FROM connections").await,
            [format!("ended_at={} reason=crashed uncertainty_ms=15000", MONDAY + 9_000)]
        );
        // Empty since nine seconds after the beginning: two minutes later it is over.
        assert_eq!(rounds(&mut sweeper, &store, &b, begun, 70, 120).await, Swept::default());
        assert_eq!(rounds(&mut sweeper, &store, &b, begun, 130, 300).await, Swept { connections: 0, meetings: 1 });
        let summary = store.attendance("mtg_a", 0).await.expect("it answers").expect("it is there");
        assert_eq!((summary.ended_at, summary.uncertainty_ms), (Some(MONDAY + 9_000), 15_000));
        assert_eq!(
            events(&store, "algebra").await,
            ["session.started", "participant.joined", "participant.left", "session.ended"]
        );

        // The node comes back: what it knows takes the place of what was guessed, a join that nobody heard of is kept.
        a.apply(&store, [left("mtg_a", "c_mtg_a", MONDAY + 11_000), joined("mtg_a", "c_x", "bob", MONDAY + 11_500)])
            .await;
        assert_eq!(rounds(&mut sweeper, &store, &b, begun, 310, 360).await, Swept::default());
        assert_eq!(rounds(&mut sweeper, &store, &b, begun, 370, 520).await, Swept { connections: 1, meetings: 1 });
        let summary = store.attendance("mtg_a", 0).await.expect("it answers").expect("it is there");
        assert_eq!((summary.version, summary.total_participants), (2, 2));
        assert_eq!(summary.participants[0].connected_ms, 11_000);
    }
}

#[tokio::test]
async fn an_outage_of_the_store_is_nobodys_death() {
    for fresh in Fresh::both() {
        let begun = Instant::now();
        let store = fresh.open().await;
        let (mut a, b) = (Node::new("n_a"), node_id("n_b"));
        a.apply(&store, open_meeting("mtg_a")).await;
        let mut sweeper = sweeper();
        rounds(&mut sweeper, &store, &b, begun, 0, 40).await;
        // Ten minutes without the store, for both: then the watch begins anew.
        assert_eq!(rounds(&mut sweeper, &store, &b, begun, 640, 680).await, Swept::default());
        store.seen("n_a", MONDAY + 690_000).await.expect("it answers");
        assert_eq!(rounds(&mut sweeper, &store, &b, begun, 690, 740).await, Swept::default());
        assert_eq!(
            rounds(&mut sweeper, &store, &b, begun, 750, 760).await.connections,
            1,
            "silent for a minute after all"
        );
    }
}

#[tokio::test]
async fn two_sweepers_close_everything_once() {
    for fresh in Fresh::both() {
        let begun = Instant::now();
        let (one, two) = (fresh.open().await, fresh.open().await);
        let mut gone = Node::new("n_gone");
        for meeting in 0..20 {
            gone.apply(&one, open_meeting(&format!("mtg_{meeting}"))).await;
        }
        let (b, c) = (node_id("n_b"), node_id("n_c"));
        let (mut of_b, mut of_c) = (sweeper(), sweeper());
        let mut all = Swept::default();
        for seconds in (0..=300).step_by(10) {
            let (x, y) =
                tokio::join!(of_b.round(&one, &b, at(begun, seconds)), of_c.round(&two, &c, at(begun, seconds)));
            for swept in [x.expect("it sweeps"), y.expect("it sweeps")] {
                all.connections += swept.connections;
                all.meetings += swept.meetings;
            }
        }
        assert_eq!(all, Swept { connections: 20, meetings: 20 });
        assert_eq!(count(&one, "SELECT COUNT(*) FROM summaries").await, 20);
        assert_eq!(count(&one, "SELECT COUNT(*) FROM connection_log WHERE kind = 'left'").await, 20);
        assert_eq!(events(&one, "algebra").await.len(), 80);
    }
}

#[tokio::test]
async fn what_a_large_school_left_is_closed_as_soon_as_its_rooms_are_empty_for_as_long_as_its_settings_say() {
    for fresh in Fresh::both() {
        let begun = Instant::now();
        let store = fresh.open().await;
        let mut gone = Node::new("n_gone");
        for meeting in 0..75 {
            gone.apply(&store, open_meeting(&format!("mtg_{meeting:02}"))).await;
        }
        let mut sweeper = Sweeper::new(Duration::from_secs(600));
        let b = node_id("n_b");
        assert_eq!(rounds(&mut sweeper, &store, &b, begun, 0, 600).await, Swept { connections: 75, meetings: 0 });
        assert_eq!(rounds(&mut sweeper, &store, &b, begun, 610, 800).await, Swept { connections: 0, meetings: 75 });
        assert_eq!(count(&store, "SELECT COUNT(*) FROM summaries").await, 75);
    }
}
