//! Once warm, what crosses between workers allocates nothing, and crosses once.

use bench::alloc;
use bench::forward::BURST;
use bench::spread::Spread;

#[global_allocator]
static ALLOCATOR: alloc::Counting = alloc::Counting;

/// Frames over which not one allocation may happen.
const FRAMES: u64 = 100;

#[test]
fn piping_allocates_nothing_once_warm_and_crosses_once() {
    let mut spread = Spread::new([3, 5]);
    let (allocated, crossed) = (spread.allocations, spread.crossed);
    for _ in 0..FRAMES {
        let frame = spread.frame();
        let all = [3, 5].map(|subscribers| subscribers * u64::from(BURST));
        assert_eq!(frame.packets, all, "a whole frame reaches everyone");
    }
    assert_eq!(spread.crossed - crossed, FRAMES * u64::from(BURST), "once for five");
    assert_eq!(spread.allocations, allocated, "allocations in {FRAMES} frames");
}
