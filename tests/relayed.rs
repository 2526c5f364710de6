//! The real binary's TURN server under load: a call through it, and strangers who leave nothing behind.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, missing_docs)]

use std::path::Path;
use std::time::Duration;

use bench::bots;
use bench::turn::{self, Lyceum};

const BINARY: &str = env!("CARGO_BIN_EXE_lyceum");

/// Real ICE and DTLS through allocations; signaling and media end where they do without.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_goes_through_the_turn_server() {
    let server = Lyceum::start(Path::new(BINARY), false).expect("the server starts");
    let options = bots::Options {
        url: server.url.clone(),
        session: "relayed".to_owned(),
        participants: 3,
        rooms: 1,
        publishers: None,
        duration: Duration::from_secs(2),
        joins_per_second: 10,
        video_pps: Some(28),
        audio: true,
        metrics: Some(server.metrics.clone()),
        turn: true,
        progress: false,
    };
    let report = bots::run(&options).await;
    assert!(report.passed(), "{report}");
    // Each of three publishes 78 packets a second, and gets those of two.
    assert!(report.relayed > 3 * 78 * 2, "{report}");
    let counters = &report.server.as_ref().expect("the metrics page was read").counters;
    assert!(counters["lyceum_turn_media_bytes_total"] > 10_000.0, "{report}");
    assert_eq!(counters["lyceum_turn_relay_bytes_total"], 0.0, "no relay socket was needed");
}

/// A share of what `lyceum-bench turn --parts flood` sends.
#[test]
fn strangers_requests_take_no_memory() {
    let memory = turn::memory(Path::new(BINARY), (1_000, 50)).expect("the server starts");
    assert_eq!(memory.requests, 50_000);
    assert!(memory.answered >= 900, "it read what was sent: {memory:?}");
    assert!(memory.grown_bytes < 2_000_000, "{memory:?}");
}
