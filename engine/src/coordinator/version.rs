//! Versions: a hybrid logical clock (Kulkarni et al., "Logical Physical Clocks", OPODIS 2014), kept
//! for buckets of key hashes, so that a key that was written fast does not push all others ahead.

use hedgerow_wire::limits::CLOCK_AHEAD_US_MAX;
use hedgerow_wire::types::{KeyHash, Version};

use super::limits::VERSION_BUCKETS;
use crate::mistakes::{Mistake, planted};

/// Gives versions.
pub(super) struct Versions {
    coordinator: u16,
    /// Highest clock given or seen, by bucket.
    last: Box<[u64; VERSION_BUCKETS]>,
    /// No version at or below this is given for any bucket.
    floor: u64,
    /// Versions given further ahead than shards accept.
    pub(super) ahead: u64,
}

impl Versions {
    pub(super) fn new(coordinator: u16) -> Versions {
        Versions { coordinator, last: Box::new([0; VERSION_BUCKETS]), floor: 0, ahead: 0 }
    }

    fn bucket(hash: KeyHash) -> usize {
        hash.0 as usize & (VERSION_BUCKETS - 1)
    }

    /// Higher than every version given or seen for the bucket of `hash`, and not below the wall clock.
    pub(super) fn next(&mut self, hash: KeyHash, wall_us: u64) -> Version {
        let last = &mut self.last[Self::bucket(hash)];
        let follows = planted(Mistake::ClockFollowed);
        let above = if follows { 0 } else { (*last).max(self.floor).saturating_add(1) };
        *last = Version::hlc_from_wall_us(wall_us).max(above);
        let version = Version { hlc: *last, coordinator: self.coordinator };
        if version.wall_us() > wall_us.saturating_add(CLOCK_AHEAD_US_MAX) {
            self.ahead += 1;
        }
        version
    }

    /// `version` exists, of no key in particular.
    pub(super) fn observe(&mut self, version: Version) {
        self.floor = self.floor.max(version.hlc);
    }

    /// `version` of `hash` exists.
    pub(super) fn saw(&mut self, hash: KeyHash, version: Version) {
        let last = &mut self.last[Self::bucket(hash)];
        *last = (*last).max(version.hlc);
    }
}

/// Age of `version`, in microseconds of the wall clock; 0 if it is ahead of it.
pub(super) fn age_us(version: Version, wall_us: u64) -> u64 {
    wall_us.saturating_sub(version.wall_us())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;

    #[test]
    fn versions_rise_and_follow_the_wall_clock() {
        let mut versions = Versions::new(3);
        let (hash, other) = (KeyHash(5), KeyHash(6));
        let first = versions.next(hash, 100 * SECOND);
        assert_eq!(first, Version { hlc: 100 << 16, coordinator: 3 });
        assert_eq!(versions.next(hash, 100 * SECOND).hlc, first.hlc + 1);
        // The clock steps back: versions of the bucket go on rising, others do not notice.
        assert_eq!(versions.next(hash, 90 * SECOND).hlc, first.hlc + 2);
        assert_eq!(versions.next(other, 90 * SECOND).hlc, 90 << 16);
        assert_eq!(versions.next(hash, 101 * SECOND).hlc, 101 << 16);
    }

    #[test]
    fn versions_are_above_all_that_was_seen() {
        let mut versions = Versions::new(3);
        versions.observe(Version { hlc: 50 << 16, coordinator: 9 });
        assert_eq!(versions.next(KeyHash(1), 10 * SECOND).hlc, (50 << 16) + 1);
        versions.saw(KeyHash(1), Version { hlc: 70 << 16, coordinator: 9 });
        assert_eq!(versions.next(KeyHash(1), 10 * SECOND).hlc, (70 << 16) + 1);
        assert_eq!(versions.next(KeyHash(2), 10 * SECOND).hlc, (50 << 16) + 1);
    }

    #[test]
    fn a_clock_too_far_ahead_is_counted() {
        let mut versions = Versions::new(0);
        versions.observe(Version { hlc: 11 << 16, coordinator: 0 });
        versions.next(KeyHash(0), 10 * SECOND + SECOND / 2);
        assert_eq!(versions.ahead, 0);
        versions.next(KeyHash(0), 9 * SECOND);
        assert_eq!(versions.ahead, 1);
    }
}
