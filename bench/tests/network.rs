//! Key rows of `lyceum-bench network`: what has been reached on bad networks stays so.

use bench::network;

/// Rows that must show all that is asked of them.
const KEPT: [&str; 16] = [
    "loss 10 %, RTT 150",
    "loss 20 %, RTT 20",
    "loss 20 %, RTT 150",
    "bursts 10 %, RTT 50",
    "jitter ±30 reordering, loss 5 %, RTT 100",
    "outage of 10 s, RTT 50",
    "outage of 10 s at 2 Mbit/s",
    "1 Mbit/s, RTT 50",
    "2 on a link of 2 Mbit/s",
    "beside nobody, RTT 50",
    "beside one at 30 kbit/s, RTT 50",
    "beside one who loses all, RTT 50",
    "listener short of time, RTT 50",
    "SFU short of time, RTT 50",
    "both short of time, RTT 50",
    "listener short of time, 2 → 0.3 → 2 Mbit/s",
];

#[test]
fn what_was_reached_on_bad_networks_stays_so() {
    let rows: Vec<String> = KEPT.iter().map(|name| (*name).to_owned()).collect();
    let table = network::run(1, &rows, |_| {});
    assert_eq!(table.rows.len(), KEPT.len(), "each name is of one row");
    let missed: Vec<_> = table.rows.iter().filter(|row| !row.missed.is_empty()).collect();
    assert!(missed.is_empty(), "{table}\n{missed:#?}");
}

#[test]
fn a_seed_replays_a_run() {
    let rows = ["loss 5 %, RTT 20".to_owned()];
    let [first, second] = [(); 2].map(|()| network::run(7, &rows, |_| {}).to_string());
    assert_eq!(first, second);
}
