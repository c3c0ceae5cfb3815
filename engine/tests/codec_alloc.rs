//! With its plans in the cache, the codec allocates nothing: neither to encode nor to reconstruct, in
//! narrow codes and wide ones, whole runs and odd ends. Nor does the ring for up to 16 targets.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use hedgerow_engine::codec::Codec;
use hedgerow_engine::ring::{Ring, TargetSpec};
use hedgerow_wire::{Code, KeyHash, Member, Target};

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

/// The system's allocator, counting per thread, so that the test harness does not disturb.
struct Counting;

// SAFETY: every call is passed on unchanged to the system's allocator, which upholds the contract;
// counting neither allocates (the thread-local is constant and has no destructor) nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promise about `layout` is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: `pointer` came from `System` with this `layout`, as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations(work: impl FnOnce()) -> usize {
    let before = ALLOCATIONS.get();
    work();
    ALLOCATIONS.get() - before
}

#[test]
fn the_count_counts() {
    assert_eq!(allocations(|| drop(std::hint::black_box(vec![1u8; 100]))), 1);
}

/// Encodes, and rebuilds the `lost` first parts from the others, twice; the second time nothing may
/// be allocated.
fn check(k: u8, m: u8, part_len: usize, lost: usize) {
    let mut codec = Codec::new();
    let code = Code::new(k, m).expect("a code");
    let data: Vec<u8> = (0..code.k() * part_len).map(|at| (at * 31 + at / 251) as u8).collect();
    let mut parity = vec![0u8; code.m() * part_len];
    for round in 0..2 {
        let mut buffers: Vec<&mut [u8]> = parity.chunks_mut(part_len).collect();
        let encoding = allocations(|| codec.encode(code, &data, &mut buffers).expect("parity"));

        let parts: Vec<&[u8]> = data.chunks(part_len).chain(parity.chunks(part_len)).collect();
        let have: Vec<(u8, &[u8])> = (lost..code.n()).map(|part| (part as u8, parts[part])).collect();
        let mut rebuilt = vec![0u8; lost * part_len];
        let mut want: Vec<(u8, &mut [u8])> = (0..).zip(rebuilt.chunks_mut(part_len)).collect();
        let rebuilding = allocations(|| codec.reconstruct(code, &have, &mut want).expect("rebuilt"));
        assert!(rebuilt == data[..lost * part_len]);
        if round == 1 {
            assert_eq!((encoding, rebuilding), (0, 0), "{code}, parts of {part_len} bytes");
        }
    }
}

#[test]
fn coding_with_cached_plans_allocates_nothing() {
    for part_len in [1, 31, 4096, 25_000] {
        check(4, 2, part_len, 2);
        check(10, 4, part_len, 3);
        check(5, 1, part_len, 1);
        check(1, 2, part_len, 1);
    }
    check(200, 55, 777, 55);
}

#[test]
fn up_to_16_targets_are_found_without_allocating() {
    let specs: Vec<TargetSpec> = (0..40)
        .map(|m| TargetSpec {
            target: Target { member: Member(m), shard: 0 },
            domain: u32::from(m) / 4,
            weight: 1,
        })
        .collect();
    let ring = Ring::new(&specs);
    for hash in 0..100u128 {
        let work = || assert_eq!(ring.targets(KeyHash(hash << 90), 16).len(), 16);
        assert_eq!(allocations(work), 0);
    }
}
