//! The codec: encode and reconstruct. Throughput counts the bytes of the whole stripe, so that times
//! and rates of one stripe size compare across codes.
#![allow(missing_docs, reason = "criterion's macros make public items")]

mod aligned;

use std::time::Duration;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use hedgerow_engine::codec::Codec;
use hedgerow_wire::Code;

use crate::aligned::Aligned;

const STRIPE_LENS: [usize; 4] = [16 << 10, 64 << 10, 256 << 10, 1 << 20];

/// A stripe's parts, encoded.
struct Stripe {
    code: Code,
    part_len: usize,
    bytes: Aligned,
}

impl Stripe {
    fn new(codec: &mut Codec, code: Code, stripe_len: usize) -> Stripe {
        let part_len = code.part_len(stripe_len);
        let mut bytes = Aligned::new(code.n() * part_len);
        let (data, parity) = bytes.split_at_mut(code.k() * part_len);
        let mut buffers: Vec<&mut [u8]> = parity.chunks_mut(part_len).collect();
        codec.encode(code, data, &mut buffers).expect("buffers fit the code");
        Stripe { code, part_len, bytes }
    }

    fn parts_without(&self, lost: &[u8]) -> Vec<(u8, &[u8])> {
        (0u8..).zip(self.bytes.chunks(self.part_len)).filter(|(part, _)| !lost.contains(part)).collect()
    }
}

fn code(k: u8, m: u8) -> Code {
    Code::new(k, m).expect("a code")
}

fn encode(criterion: &mut Criterion) {
    let mut codec = Codec::new();
    let mut group = criterion.benchmark_group(format!("encode ({})", codec.kernel()));
    for code in [code(1, 2), code(4, 1), code(4, 2), code(8, 3), code(10, 4), code(64, 16), code(200, 55)] {
        for stripe_len in STRIPE_LENS {
            let part_len = code.part_len(stripe_len);
            let data = Aligned::new(code.k() * part_len);
            let mut parity = Aligned::new(code.m() * part_len);
            let mut buffers: Vec<&mut [u8]> = parity.chunks_mut(part_len).collect();
            group.throughput(Throughput::Bytes(stripe_len as u64));
            group.bench_function(BenchmarkId::new(code.to_string(), stripe_len), |bencher| {
                bencher.iter(|| codec.encode(code, &data, &mut buffers));
            });
        }
    }
}

/// Rebuilds the lost parts, all of them, from as few as are needed.
fn reconstruct_one(criterion: &mut Criterion, group: &str, code: Code, stripe_len: usize, lost: &[u8]) {
    let mut codec = Codec::new();
    let stripe = Stripe::new(&mut codec, code, stripe_len);
    let have = stripe.parts_without(lost);
    let mut rebuilt = Aligned::new(lost.len() * stripe.part_len);
    let mut want: Vec<(u8, &mut [u8])> =
        lost.iter().copied().zip(rebuilt.chunks_mut(stripe.part_len)).collect();
    let mut group = criterion.benchmark_group(group);
    group.throughput(Throughput::Bytes(stripe_len as u64));
    let name = match lost.len() {
        0..=2 => lost.iter().map(u8::to_string).collect::<Vec<_>>().join(","),
        count => format!("first {count}"),
    };
    group.bench_function(format!("{stripe_len} lost {name}"), |bencher| {
        bencher.iter(|| codec.reconstruct(stripe.code, &have, &mut want));
    });
}

fn reconstruct_every_loss_of_4_2(criterion: &mut Criterion) {
    for stripe_len in STRIPE_LENS {
        for first in 0..6 {
            reconstruct_one(criterion, "reconstruct 4+2", code(4, 2), stripe_len, &[first]);
            for second in first + 1..6 {
                reconstruct_one(criterion, "reconstruct 4+2", code(4, 2), stripe_len, &[first, second]);
            }
        }
    }
}

fn reconstruct_other_codes(criterion: &mut Criterion) {
    for (k, m) in [(1, 2), (8, 3), (10, 4), (64, 16), (200, 55), (128, 127)] {
        for stripe_len in [256 << 10, 1 << 20] {
            let group = format!("reconstruct {k}+{m}");
            reconstruct_one(criterion, &group, code(k, m), stripe_len, &[0]);
            let most: Vec<u8> = (0..m.min(k)).collect();
            if most.len() > 1 {
                reconstruct_one(criterion, &group, code(k, m), stripe_len, &most);
            }
        }
    }
}

/// The first reconstruction of a pattern, whose plan is not in the cache yet: parts of 64 bytes, so
/// that the time is the plan's.
fn plan(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("plan");
    for (k, m, lose) in [(4, 2, 2), (10, 4, 1), (10, 4, 4), (64, 16, 16), (200, 55, 55)] {
        let code = code(k, m);
        let stripe = Stripe::new(&mut Codec::new(), code, 64 * code.k());
        let lost: Vec<u8> = (0..lose).collect();
        let have = stripe.parts_without(&lost);
        let mut rebuilt = Aligned::new(lost.len() * stripe.part_len);
        group.bench_function(format!("{code} lost first {lose}"), |bencher| {
            bencher.iter_batched_ref(
                Codec::new,
                |codec| {
                    let mut want: Vec<(u8, &mut [u8])> =
                        lost.iter().copied().zip(rebuilt.chunks_mut(stripe.part_len)).collect();
                    codec.reconstruct(code, &have, &mut want)
                },
                BatchSize::SmallInput,
            );
        });
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(50))
        .measurement_time(Duration::from_millis(150))
        .sample_size(20);
    targets = encode, reconstruct_every_loss_of_4_2, reconstruct_other_codes, plan
}
criterion_main!(benches);
