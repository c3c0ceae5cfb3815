//! The index of a shard: nanoseconds an operation, bytes a part.
//!
//! `cargo bench -p hedgerow-perf --bench index` (add `-- 10M` or `-- 'get hit'` for a part of it).
//! Records are drawn at random from all that are in the table, so that at 10M slots (160 MB) nearly
//! every operation misses the caches; "draw" is what the drawing alone costs and is in every figure. "one
//! line" is the floor: a read of a random line of a plain table of the same size. At 10k slots the table
//! is in the caches: what the instructions cost. "remove" is of records that were just inserted, so of
//! cached lines; "insert new" is not.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, criterion_group, criterion_main};
use hedgerow_engine::slab::index::{Entry, Index};
use hedgerow_wire::{KeyHash, Record};

const NOW_HLC: u64 = 1_800_000_000 << 16;
const SIZES: &[(&str, usize)] = &[("10k", 10_000), ("1M", 1_000_000), ("10M", 10_000_000)];
const FILL_PERCENTS: &[usize] = &[50, 75, 90];
/// Inserts that are timed together before their records are removed again: at most 1 % of fill.
const BATCH: u64 = 100;
/// Records whose buckets are fetched before the first of them is looked up.
const PREFETCHED: usize = 16;

fn splitmix(state: u64) -> u64 {
    let mut z = state.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z ^ (z >> 27)
}

fn hash(number: u64) -> KeyHash {
    KeyHash(u128::from(splitmix(number)) << 64 | u128::from(splitmix(!number)))
}

fn entry(number: u64) -> Entry {
    Entry {
        slab: number as u32 & 0xffff,
        offset: 64,
        blocks: 5,
        hlc: NOW_HLC,
        tombstone: false,
        touched: false,
    }
}

/// An index with `slots` slots (up to rounding) that holds the records `0..` up to `percent` of them.
fn filled(slots: usize, percent: usize) -> Index {
    let mut index = Index::with_capacity(slots / 10 * 9, 42);
    for number in 0..(index.slots() * percent / 100) as u64 {
        index.insert(hash(number), Record::OBJECT, &entry(number)).expect("below 95 %");
    }
    index
}

/// A table of `slots / 4` lines and nothing else.
fn lines(slots: usize) -> Vec<Line> {
    vec![Line([1; 8]); slots / 4]
}

#[derive(Clone, Copy)]
#[repr(align(64))]
struct Line([u64; 8]);

fn floor(c: &mut BenchmarkGroup<'_, WallTime>, name: &str, slots: usize) {
    let lines = lines(slots);
    let count = lines.len() as u64;
    let mut state = 1;
    c.bench_function(BenchmarkId::new("one line", name), |b| {
        b.iter(|| lines[draw(&mut state, count) as usize].0[3]);
    });
    c.bench_function(BenchmarkId::new("one line, each waits for the last", name), |b| {
        let mut last = 0;
        b.iter(|| {
            let line = (draw(&mut state, count) + last).min(count - 1);
            last = u64::from(lines[line as usize].0[3] == 7);
        });
    });
}

/// A generator of numbers below `bound`.
fn draw(state: &mut u64, bound: u64) -> u64 {
    *state = state.wrapping_add(1);
    ((u128::from(splitmix(*state)) * u128::from(bound)) >> 64) as u64
}

/// Time of `count` calls of `operation` on records that are not in the table, in batches; `before` and
/// `after` each batch are not timed.
#[allow(clippy::disallowed_methods, reason = "a bench reads the clock")]
fn timed_batches(
    index: &mut Index,
    count: u64,
    mut before: impl FnMut(&mut Index, KeyHash),
    mut operation: impl FnMut(&mut Index, KeyHash),
    mut after: impl FnMut(&mut Index, KeyHash),
) -> Duration {
    let mut total = Duration::ZERO;
    let mut done = 0;
    while done < count {
        let batch = BATCH.min(count - done);
        let numbers = (1 << 40) + done..(1 << 40) + done + batch;
        numbers.clone().for_each(|number| before(index, hash(number)));
        let start = Instant::now();
        numbers.clone().for_each(|number| operation(index, hash(number)));
        total += start.elapsed();
        numbers.for_each(|number| after(index, hash(number)));
        done += batch;
    }
    total
}

/// Time of `count` lookups, prefetched [`PREFETCHED`] at a time.
#[allow(clippy::disallowed_methods, reason = "a bench reads the clock")]
fn timed_prefetched(index: &Index, count: u64, state: &mut u64) -> Duration {
    let start = Instant::now();
    let mut done = 0;
    while done < count {
        let hashes = [(); PREFETCHED].map(|()| hash(draw(state, index.len() as u64)));
        hashes.iter().for_each(|&hash| index.prefetch(hash, Record::OBJECT));
        for hash in hashes {
            black_box(index.get(hash, Record::OBJECT, NOW_HLC));
        }
        done += PREFETCHED as u64;
    }
    start.elapsed().mul_f64(count as f64 / done as f64)
}

fn insert_new(index: &mut Index, hash: KeyHash) {
    index.insert(hash, Record::OBJECT, &entry(1)).expect("below 95 %");
}

fn remove(index: &mut Index, hash: KeyHash) {
    black_box(index.remove(hash, Record::OBJECT));
}

fn index(c: &mut Criterion) {
    let mut group = c.benchmark_group("index");
    group.sample_size(20).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(1));
    for &(name, slots) in SIZES {
        floor(&mut group, name, slots);
        for &percent in FILL_PERCENTS {
            let mut index = filled(slots, percent);
            let live = index.len() as u64;
            eprintln!("{name} slots, {percent} %: {:.6} B/part", index.memory_bytes() as f64 / live as f64);
            let id = |what: &str| BenchmarkId::new(what, format!("{name} {percent}%"));
            let mut state = 1;
            group.bench_function(id("draw"), |b| b.iter(|| hash(draw(&mut state, live))));
            group.bench_function(id("get hit"), |b| {
                b.iter(|| index.get(hash(draw(&mut state, live)), Record::OBJECT, NOW_HLC));
            });
            group.bench_function(id("get hit, each waits for the last"), |b| {
                let mut last = 0;
                b.iter(|| {
                    let number = (draw(&mut state, live) + last).min(live - 1);
                    let found = index.get(hash(number), Record::OBJECT, NOW_HLC);
                    last = u64::from(found.is_some_and(|entry| entry.blocks == 7));
                });
            });
            group.bench_function(id("get hit, 16 prefetched, for each"), |b| {
                b.iter_custom(|count| timed_prefetched(&index, count, &mut state));
            });
            group.bench_function(id("get miss"), |b| {
                b.iter(|| index.get(hash(live + draw(&mut state, 1 << 40)), Record::OBJECT, NOW_HLC));
            });
            group.bench_function(id("replace"), |b| {
                b.iter(|| index.insert(hash(draw(&mut state, live)), Record::OBJECT, &entry(2)));
            });
            group.bench_function(id("insert new"), |b| {
                b.iter_custom(|count| timed_batches(&mut index, count, |_, _| (), insert_new, remove));
            });
            group.bench_function(id("remove"), |b| {
                b.iter_custom(|count| timed_batches(&mut index, count, insert_new, remove, |_, _| ()));
            });
        }
    }
    group.finish();
}

criterion_group!(benches, index);
criterion_main!(benches);
