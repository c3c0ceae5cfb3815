//! Pauses between attempts to connect: they double up to a limit and are spread, so that the clients
//! of a daemon that comes back do not come all at once.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use crate::limits::{BACKOFF_MAX, BACKOFF_MIN};

#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
    random: u64,
}

impl Backoff {
    /// One with a seed of the process's own.
    pub(crate) fn new() -> Backoff {
        Backoff::with_seed(RandomState::new().hash_one(0u64))
    }

    pub(crate) fn with_seed(seed: u64) -> Backoff {
        Backoff { next: BACKOFF_MIN, random: seed }
    }

    /// The pause before the next attempt: between half of the present step and all of it.
    pub(crate) fn pause(&mut self) -> Duration {
        // SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        let step = self.next;
        self.next = (step * 2).min(BACKOFF_MAX);
        step / 2 + (step / 2).mul_f64(z as f64 / u64::MAX as f64)
    }

    /// A connection was made and held: the next pause is the shortest again.
    pub(crate) fn reset(&mut self) {
        self.next = BACKOFF_MIN;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_to_a_limit_and_are_spread() {
        let mut backoff = Backoff::with_seed(7);
        let mut step = BACKOFF_MIN;
        let mut spread = false;
        for _ in 0..20 {
            let pause = backoff.pause();
            assert!(step / 2 <= pause && pause <= step, "{pause:?} of {step:?}");
            spread |= pause != step / 2 && pause != step;
            step = (step * 2).min(BACKOFF_MAX);
        }
        assert!(spread);
        assert_eq!(step, BACKOFF_MAX);
        backoff.reset();
        assert!(backoff.pause() <= BACKOFF_MIN);
    }

    #[test]
    fn two_clients_pause_differently() {
        assert_ne!(Backoff::with_seed(1).pause(), Backoff::with_seed(2).pause());
    }
}
