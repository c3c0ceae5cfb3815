//! Bytes that can be made again from a number, and their comparison.

use std::fmt::Display;

use rand::rngs::SmallRng;
use rand::{RngCore, SeedableRng};

/// The `len` bytes that belong to `seed`.
pub fn content(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    SmallRng::seed_from_u64(seed).fill_bytes(&mut bytes);
    bytes
}

/// Compares without printing megabytes; says where the first difference is.
#[track_caller]
pub fn assert_same(what: impl Display, got: &[u8], expected: &[u8]) {
    if got == expected {
        return;
    }
    let at = got.iter().zip(expected).position(|(a, b)| a != b);
    panic!("{what}: {} bytes came, {} expected, first difference at {at:?}", got.len(), expected.len());
}

/// The random source of a test: of `HEDGEROW_SEED`, or new. The seed is printed, and so shown when the
/// test fails.
pub fn random(test: &str) -> SmallRng {
    let seed = match std::env::var("HEDGEROW_SEED") {
        Ok(text) => text.parse().expect("HEDGEROW_SEED is a number"),
        Err(_) => {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            u64::from(now.map_or(0, |since| since.subsec_nanos()))
        }
    };
    println!("{test}: repeat with HEDGEROW_SEED={seed}");
    SmallRng::seed_from_u64(seed)
}
