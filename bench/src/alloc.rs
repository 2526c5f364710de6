//! A global allocator that counts, so that "no heap allocation per forwarded packet" is a number and not a hope.
//!
//! `unsafe` is allowed in this one file because `GlobalAlloc` is an unsafe trait; each method forwards to [`System`]
//! unchanged.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    // Const-initialised and without a destructor, so that touching it never allocates.
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
    static BYTES: Cell<i64> = const { Cell::new(0) };
}

/// Counts allocations and reallocations of each thread. Install it with `#[global_allocator]`.
pub struct Counting;

/// How often the calling thread has allocated or reallocated since it started; always 0 when [`Counting`] is not installed.
pub fn allocations() -> u64 {
    ALLOCATIONS.with(Cell::get)
}

/// Bytes that the calling thread has allocated and not freed, less what it freed for others; always 0 when [`Counting`] is
/// not installed.
pub fn bytes() -> i64 {
    BYTES.with(Cell::get)
}

fn count(bytes: usize) {
    ALLOCATIONS.with(|n| n.set(n.get() + 1));
    hold(bytes as i64);
}

fn hold(bytes: i64) {
    BYTES.with(|n| n.set(n.get() + bytes));
}

// SAFETY: every method passes its arguments to `System` unchanged and returns what it returned, so `System`'s
// guarantees hold; counting touches only a thread-local cell that needs no allocation.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller's promise about `layout` is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller's promise about `layout` is passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        hold(-(layout.size() as i64));
        // SAFETY: `block` came from `System` through this allocator with this `layout`, as the caller promises.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size);
        hold(-(layout.size() as i64));
        // SAFETY: as for `dealloc`, and `size` is passed on unchanged.
        unsafe { System.realloc(block, layout, size) }
    }
}
