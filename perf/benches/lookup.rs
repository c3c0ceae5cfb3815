//! What every request looks up in memory: the ring's targets, and the memory tier.
#![allow(missing_docs, reason = "criterion's macros make public items")]

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use hedgerow_engine::memory::{Entry, MemoryTier};
use hedgerow_engine::ring::{Ring, TargetSpec};
use hedgerow_wire::{KeyHash, Member, Record, Target, Version};

/// Hashes without end, uniform in all bits.
fn hashes() -> impl FnMut() -> KeyHash {
    let mut state = 1u128;
    move || {
        state = state.wrapping_mul(0x2360_ED05_1FC6_5DA4_4385_DF64_9FCC_F645).wrapping_add(0x5851_F42D);
        KeyHash(state ^ state >> 64)
    }
}

fn ring(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("ring");
    for (members, shards, n) in
        [(1, 6, 6), (6, 1, 6), (12, 1, 6), (12, 4, 6), (12, 4, 14), (250, 4, 6), (250, 4, 255)]
    {
        let specs: Vec<TargetSpec> = (0..members)
            .flat_map(|member| (0..shards).map(move |shard| Target { member: Member(member), shard }))
            .map(|target| TargetSpec { target, domain: u32::from(target.member.0), weight: 1 })
            .collect();
        let ring = Ring::new(&specs);
        let mut next = hashes();
        let name = BenchmarkId::new(format!("{n} of {members} members of {shards}"), n);
        group.bench_function(name, |bencher| bencher.iter(|| ring.targets(next(), n)));
    }
}

fn memory(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("memory");
    let entry = |hash| Entry {
        hash,
        record: Record::OBJECT,
        version: Version { hlc: 1, coordinator: 1 },
        expires_ms: 0,
        value_bytes: 64 << 10,
        value: std::rc::Rc::new(0u64),
    };
    for items in [1000u64, 100_000] {
        let mut tier = MemoryTier::new(items * (65 << 10), items as usize);
        let mut next = hashes();
        let known: Vec<KeyHash> = (0..items).map(|_| next()).collect();
        let fill = |tier: &mut MemoryTier<_>, hash| {
            let token = tier.begin_fill(hash);
            tier.fill(token, entry(hash), 0)
        };
        known.iter().for_each(|&hash| {
            black_box(fill(&mut tier, hash));
        });
        let mut at = 0;
        group.bench_function(BenchmarkId::new("hit", items), |bencher| {
            bencher.iter(|| {
                at = (at + 7919) % known.len();
                tier.get(known[at], Record::OBJECT, 0)
            });
        });
        group.bench_function(BenchmarkId::new("fill that evicts", items), |bencher| {
            bencher.iter(|| fill(&mut tier, next()));
        });
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(50))
        .measurement_time(Duration::from_millis(150))
        .sample_size(20);
    targets = ring, memory
}
criterion_main!(benches);
