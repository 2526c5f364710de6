//! Once warm, forwarding a packet allocates nothing.

use bench::alloc;
use bench::forward::{BURST, Stage};

#[global_allocator]
static ALLOCATOR: alloc::Counting = alloc::Counting;

/// Forwarded packets over which not one allocation may happen.
const PACKETS_MIN: u64 = 10_000;

#[test]
fn forwarding_allocates_nothing_once_warm() {
    let subscribers = 10;
    let mut stage = Stage::new(subscribers);
    let before = alloc::allocations();
    drop(Box::new(before));
    assert!(alloc::allocations() > before, "the counting allocator counts");

    let (mut allocated, mut forwarded) = (0, 0);
    while forwarded < PACKETS_MIN {
        stage.prepare();
        stage.tick();
        let before = alloc::allocations();
        stage.receive();
        let frame = stage.drain();
        allocated += alloc::allocations() - before;
        assert_eq!(frame.packets, u64::from(BURST) * subscribers as u64, "a whole frame reaches everyone");
        forwarded += frame.packets;
    }
    assert_eq!(allocated, 0, "allocations over {forwarded} forwarded packets");
}
