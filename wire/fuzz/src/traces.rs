//! The files that the load generator reads.

use hedgerow_perf::load::{Next, Source};
use hedgerow_perf::pattern::Random;
use hedgerow_perf::popularity::{self, Buckets};
use hedgerow_perf::request::{Answer, Kind};
use hedgerow_perf::sources::Sizes;
use hedgerow_perf::trace::Trace;
use hedgerow_wire::limits::OBJECT_LEN_MAX;

/// Steps of a trace that are taken.
const STEPS_MAX: usize = 1000;
/// Numbers that are drawn from a distribution.
const DRAWS: u64 = 16;

/// A trace is refused, or replayed: every request lies within its object, and no object is too long.
pub fn trace(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    for pace in [None, Some(2.0)] {
        let Ok(mut trace) = Trace::from_text(text, Some(STEPS_MAX), pace, 1000) else { continue };
        // A get may need a put before it.
        for _ in 0..2 * STEPS_MAX {
            trace.due_ns();
            match trace.next() {
                Next::Request(request) => {
                    assert!(request.object_len <= OBJECT_LEN_MAX, "{request:?}");
                    if let Kind::Get { offset, length } = request.kind {
                        assert!(offset + length <= request.object_len, "{request:?}");
                    }
                    trace.answered(&Answer::pending(request, 0, 0));
                }
                Next::Wait => panic!("a trace waits though everything is answered"),
                Next::End => break,
            }
        }
    }
}

/// A file of sizes or popularities is refused, or can be drawn from.
pub fn pairs(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(pairs) = popularity::pairs(text, ["a", "b"]) else { return };
    if let Ok(sizes) = Sizes::weighted(pairs.iter().copied()) {
        assert!(sizes.mean().is_finite() && sizes.mean() >= 0.0, "{}", sizes.mean());
        for object in 0..DRAWS {
            let len = sizes.of(object);
            assert!(pairs.iter().any(|&(known, weight)| known == len && weight > 0), "{len} is of no pair");
        }
    }
    if let Ok(buckets) = Buckets::new(&pairs, 1, 0.0) {
        let keys = buckets.keys();
        let mut popularity = popularity::Popularity::Buckets(buckets);
        let mut random = Random::new(1);
        for _ in 0..DRAWS {
            let key = popularity.draw(&mut random);
            assert!(key < keys, "key {key} of {keys}");
        }
    }
}
