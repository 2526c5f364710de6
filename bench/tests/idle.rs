//! What a connected peer costs that is quiet: bytes, and no steady work for the allocator. `lyceum-bench idle` has the time.

use bench::{alloc, idle};

#[global_allocator]
static ALLOCATOR: alloc::Counting = alloc::Counting;

/// Bytes of the heap that a quiet peer may hold.
const BYTES_MAX: f64 = 65_536.0;
/// Datagrams of a quiet peer and second: its report, and a check with its answer every four seconds.
const DATAGRAMS_MAX: f64 = 2.0;

#[test]
fn a_quiet_peer_costs_next_to_nothing() {
    let report = idle::run(20, 60);
    assert!(report.bytes > 1_000.0 && report.bytes <= BYTES_MAX, "{report}");
    assert!(report.datagrams_per_second <= DATAGRAMS_MAX, "{report}");
    assert!(report.allocations_per_second <= 2.0, "{report}");
}
