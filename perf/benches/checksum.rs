//! CRC-32C kernels over lengths from a header to a stripe: `wire` is what the daemon uses.
#![allow(missing_docs, reason = "criterion's macros make public items")]

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use hedgerow_wire::checksum;

fn crc32c(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("crc32c");
    let bytes: Vec<u8> = (0..1 << 20).map(|at: u32| (at * 131 + at / 253) as u8).collect();
    for len in [64, 192, 256, 512, 1024, 4096, 16 << 10, 128 << 10, 1 << 20] {
        let run = &bytes[..len];
        group.throughput(Throughput::Bytes(len as u64));
        group.bench_function(BenchmarkId::new("crc32c crate", len), |bencher| {
            bencher.iter(|| crc32c::crc32c(run));
        });
        group.bench_function(BenchmarkId::new("crc-fast", len), |bencher| {
            bencher.iter(|| crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, run));
        });
        group.bench_function(BenchmarkId::new("wire", len), |bencher| bencher.iter(|| checksum::crc32c(run)));
    }
    group.finish();
    append(criterion, &bytes);
    let mut group = criterion.benchmark_group("crc32c_combine");
    for len in [4096u64, 1 << 20] {
        group.bench_function(BenchmarkId::from_parameter(len), |bencher| {
            bencher.iter(|| checksum::crc32c_combine(0x1234_5678, 0x9abc_def0, len));
        });
    }
}

/// Going on from a checksum: by combining, and by starting the kernel in that state.
fn append(criterion: &mut Criterion, bytes: &[u8]) {
    let mut group = criterion.benchmark_group("crc32c append");
    let first = checksum::crc32c(b"what came before");
    let from_state = |run: &[u8]| {
        let mut digest =
            crc_fast::Digest::new_with_init_state(crc_fast::CrcAlgorithm::Crc32Iscsi, u64::from(!first));
        digest.update(run);
        digest.finalize() as u32
    };
    for len in [256, 4096, 128 << 10] {
        let run = &bytes[..len];
        assert_eq!(from_state(run), crc32c::crc32c_append(first, run), "one definition");
        group.throughput(Throughput::Bytes(len as u64));
        group.bench_function(BenchmarkId::new("crc32c crate", len), |bencher| {
            bencher.iter(|| crc32c::crc32c_append(first, run));
        });
        group.bench_function(BenchmarkId::new("crc-fast from state", len), |bencher| {
            bencher.iter(|| from_state(run))
        });
        group.bench_function(BenchmarkId::new("wire", len), |bencher| {
            bencher.iter(|| checksum::crc32c_append(first, run));
        });
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(50))
        .measurement_time(Duration::from_millis(150))
        .sample_size(20);
    targets = crc32c
}
criterion_main!(benches);
