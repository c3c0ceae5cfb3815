//! The hot pieces of a request, each by itself: nanoseconds for one. `cargo bench -p hedgerow-perf --bench hot` (add
//! `-- store` for those with this in their names).
//!
//! "store write" is a part into the open slab and its batch to the device, which is memory here. What a decision to
//! hedge costs is what "coordinator read, one target silent" takes more than "coordinator read": ticks until the part
//! is late, the decision, and the spare.
#![allow(missing_docs, reason = "criterion's macros make public items")]

use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use hedgerow_perf::hot::PIECES;

#[allow(clippy::disallowed_methods, reason = "a bench reads the clock")]
fn hot(criterion: &mut Criterion) {
    for (name, piece) in PIECES {
        criterion.bench_function(name, |bencher| {
            // What a piece does before its first time is not timed.
            bencher.iter_custom(|count| {
                let timed = |count| {
                    let start = Instant::now();
                    piece(count);
                    start.elapsed()
                };
                let before = timed(0);
                timed(count).saturating_sub(before)
            });
        });
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_millis(300))
        .sample_size(20);
    targets = hot
}
criterion_main!(benches);
