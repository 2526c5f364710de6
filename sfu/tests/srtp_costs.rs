//! What sealing and opening cost: no allocation; and, on demand, how many nanoseconds. What aws-lc allocates in C would
//! not be counted; its AES, GCM and HMAC contexts are flat, and a count of `malloc` by preloading finds nothing per packet.
#![allow(unsafe_code, clippy::disallowed_methods)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::Instant;

use sfu::srtp::{Opener, Profile, Sealer};

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

fn count() {
    // A thread on its way out has no counter left, and nothing to count either.
    let _ = ALLOCATIONS.try_with(|allocations| allocations.set(allocations.get() + 1));
}

// SAFETY: all is left to `System`; counting neither allocates nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        unsafe { System.alloc(layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count();
        unsafe { System.realloc(at, layout, new_size) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const PROFILES: [Profile; 2] = [Profile::AeadAes128Gcm, Profile::Aes128CmSha1_80];
const HEADER_LEN: usize = 12;
const PLAIN_LEN: usize = 1100;

fn ends(profile: Profile) -> (Opener, Sealer) {
    let salt = &[2; 14][..profile.salt_len()];
    (Opener::new(profile, &[1; 16], salt).unwrap(), Sealer::new(profile, &[1; 16], salt).unwrap())
}

fn allocations(work: impl FnOnce()) -> usize {
    let before = ALLOCATIONS.get();
    work();
    ALLOCATIONS.get() - before
}

#[test]
fn the_counter_counts() {
    assert_eq!(allocations(|| drop(std::hint::black_box(Box::new(7)))), 1);
}

#[test]
fn no_packet_allocates() {
    for profile in PROFILES {
        let (mut opener, mut sealer) = ends(profile);
        let mut packet = [0x80; PLAIN_LEN + 16];
        let mut compound = Vec::with_capacity(200);
        let mut round = |index: u64| {
            let len = sealer.seal_rtp(&mut packet, HEADER_LEN, PLAIN_LEN, 1, index);
            assert_eq!(opener.open_rtp(&mut packet[..len], HEADER_LEN, 1, index as u16), Ok((PLAIN_LEN, index)));
            packet[20] ^= 1;
            let forged = opener.open_rtp(&mut packet[..len], HEADER_LEN, 1, index as u16 + 1);
            assert!(forged.is_err());
            compound.clear();
            compound.extend_from_slice(&[0x80; 100]);
            sealer.seal_rtcp(&mut compound).unwrap();
            assert_eq!(opener.open_rtcp(&mut compound), Ok(100));
        };
        round(1); // The first packet of an SSRC makes room for its window.
        let spent = allocations(|| (2..2000).for_each(&mut round));
        assert_eq!(spent, 0, "{profile:?}");
    }
}

/// `cargo test --release -p lyceum-sfu --test srtp_costs -- --ignored --nocapture`
#[test]
#[ignore = "prints nanoseconds, which only a release build on a quiet machine makes meaningful"]
fn nanoseconds_per_packet() {
    const ROUNDS: u64 = 200_000;
    for profile in PROFILES {
        let (mut opener, sealer) = ends(profile);
        let mut packet = [0x80; PLAIN_LEN + 16];
        let begin = Instant::now();
        for index in 0..ROUNDS {
            sealer.seal_rtp(&mut packet, HEADER_LEN, PLAIN_LEN, 1, index);
        }
        let seal = begin.elapsed();
        let begin = Instant::now();
        for index in 0..ROUNDS {
            let len = sealer.seal_rtp(&mut packet, HEADER_LEN, PLAIN_LEN, 1, index);
            opener.open_rtp(&mut packet[..len], HEADER_LEN, 1, index as u16).unwrap();
        }
        let both = begin.elapsed();
        println!(
            "{profile:?}, {PLAIN_LEN} bytes: seal {} ns, open {} ns",
            seal.as_nanos() / u128::from(ROUNDS),
            both.saturating_sub(seal).as_nanos() / u128::from(ROUNDS)
        );
        assert!(!seal.is_zero());
    }
}
