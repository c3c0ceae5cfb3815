//! Mutations of an input: a few small changes, as fuzzers make them.

use rand::Rng;
use rand::rngs::SmallRng;

/// Values at which arithmetic turns over.
const EDGES: [u64; 10] =
    [0, 1, 0x7f, 0xff, 0xffff, 0x7fff_ffff, 0xffff_ffff, 1 << 32, i64::MAX as u64, u64::MAX];

/// Changes `bytes` in one to six places; `other` is another input, to take from.
pub fn mutate(bytes: &mut Vec<u8>, other: &[u8], rng: &mut SmallRng) {
    for _ in 0..rng.random_range(1..=6) {
        change(bytes, other, rng);
    }
}

fn change(bytes: &mut Vec<u8>, other: &[u8], rng: &mut SmallRng) {
    let at = rng.random_range(0..=bytes.len());
    let kind = rng.random_range(0..9);
    match kind {
        0 if at < bytes.len() => bytes[at] ^= 1 << rng.random_range(0..8),
        1 if at < bytes.len() => bytes[at] = rng.random(),
        2 | 3 => {
            let edge =
                EDGES[rng.random_range(0..EDGES.len())].wrapping_add(rng.random_range(0..3)).wrapping_sub(1);
            let len = [1, 2, 4, 8][rng.random_range(0..4)].min(bytes.len() - at);
            bytes[at..at + len].copy_from_slice(&edge.to_le_bytes()[..len]);
        }
        4 => bytes.insert(at, rng.random()),
        5 => bytes.truncate(at),
        6 => {
            let end = (at + rng.random_range(1..32)).min(bytes.len());
            bytes.drain(at..end);
        }
        7 => {
            let (from, to) = piece(bytes.len(), rng);
            let piece = bytes[from..to].to_vec();
            bytes.splice(at..at, piece);
        }
        _ => {
            let (from, to) = piece(other.len(), rng);
            let end = (at + (to - from)).min(bytes.len());
            bytes.splice(at..end, other[from..to].iter().copied());
        }
    }
}

/// A short range within `len`.
fn piece(len: usize, rng: &mut SmallRng) -> (usize, usize) {
    let from = rng.random_range(0..=len);
    (from, (from + rng.random_range(0..64)).min(len))
}
