//! The ring: which targets hold the parts of a key, in which order. A pure function of the targets'
//! list and the key's hash; every member computes the same order from the same list.
//!
//! Consistent hashing with virtual nodes (Karger et al., "Consistent Hashing and Random Trees", STOC
//! 1997): each target owns points on a circle of 64 bits, in number proportional to its weight, and a
//! key's order is the order in which the targets are met from the key's position on. A target's
//! points depend on that target and its weight alone, so a change of the list moves only the share of
//! the targets that changed.
//!
//! The order is part of the stored format: another order would not find what was stored. It never
//! changes for a given list of targets.

use hedgerow_wire::{KeyHash, Target};
use smallvec::SmallVec;

/// Points on the circle for each unit of weight. The standard deviation of a target's share is about
/// `1 / sqrt(POINTS_PER_WEIGHT * weight)` of it: 6 % for weight 1.
const POINTS_PER_WEIGHT: u32 = 256;

/// Highest weight that counts; a higher one is taken as this. Bounds the ring's memory (12 bytes a
/// point, 3 KiB for each unit of weight).
pub const WEIGHT_MAX: u32 = 256;

/// A target as the ring is told of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TargetSpec {
    /// Its address.
    pub target: Target,
    /// Its failure domain: targets of one domain are expected to fail together.
    pub domain: u32,
    /// Its share of the keys relative to the other targets (1 for all, if they are of one size), up
    /// to [`WEIGHT_MAX`]. A target of weight 0 gets no keys.
    pub weight: u32,
}

/// The order of targets for every key. Immutable; a change of topology makes a new one.
#[derive(Clone, Debug)]
pub struct Ring {
    /// The targets with a weight, ordered by address.
    specs: Vec<TargetSpec>,
    /// Distinct failure domains among `specs`.
    domain_count: usize,
    /// The points' positions on the circle, ascending.
    positions: Vec<u64>,
    /// For each point, whose it is: an index into `specs`.
    owners: Vec<u32>,
}

impl Ring {
    /// The ring of `specs`, in whatever order they are given. A target that is listed twice counts
    /// once, as it was listed first.
    pub fn new(specs: &[TargetSpec]) -> Ring {
        let mut specs: Vec<TargetSpec> = specs.iter().filter(|spec| spec.weight > 0).copied().collect();
        specs.sort_by_key(|spec| spec.target);
        specs.dedup_by_key(|spec| spec.target);
        let mut domains: Vec<u32> = specs.iter().map(|spec| spec.domain).collect();
        domains.sort_unstable();
        domains.dedup();

        let mut points: Vec<(u64, u32)> = Vec::new();
        for (owner, spec) in (0u32..).zip(&specs) {
            let count = spec.weight.min(WEIGHT_MAX) * POINTS_PER_WEIGHT;
            points.extend((0..count).map(|index| (point_position(spec.target, index), owner)));
        }
        // Owners are ordered by address, so that points that coincide have one order on every member.
        points.sort_unstable();
        let (positions, owners) = points.into_iter().unzip();
        Ring { specs, domain_count: domains.len(), positions, owners }
    }

    /// The first `n` targets for `hash` (fewer if the ring has fewer), all distinct: first one target
    /// of each failure domain, in the order in which the circle is met from the key on, then all
    /// others in that order. For `a < b`, `targets(hash, a)` is a prefix of `targets(hash, b)`.
    ///
    /// Does not allocate for `n <= 16`.
    pub fn targets(&self, hash: KeyHash, n: usize) -> SmallVec<[Target; 16]> {
        let n = n.min(self.specs.len());
        let start = self.positions.partition_point(|&position| position < key_position(hash));
        let walk = || self.owners[start..].iter().chain(&self.owners[..start]).copied();

        let mut picked: SmallVec<[u32; 16]> = SmallVec::with_capacity(n);
        let mut domains: SmallVec<[u32; 16]> = SmallVec::with_capacity(n.min(self.domain_count));
        let mut points = walk();
        while picked.len() < n.min(self.domain_count)
            && let Some(owner) = points.next()
        {
            let domain = self.specs[owner as usize].domain;
            if !domains.contains(&domain) {
                domains.push(domain);
                picked.push(owner);
            }
        }
        let mut points = walk();
        while picked.len() < n
            && let Some(owner) = points.next()
        {
            if !picked.contains(&owner) {
                picked.push(owner);
            }
        }
        picked.iter().map(|&owner| self.specs[owner as usize].target).collect()
    }

    /// Targets that get keys.
    pub fn len(&self) -> usize {
        self.specs.len()
    }

    /// Whether there is no target that gets keys.
    pub fn is_empty(&self) -> bool {
        self.specs.is_empty()
    }

    /// Distinct failure domains among the targets that get keys.
    pub fn distinct_domains(&self) -> usize {
        self.domain_count
    }
}

/// Where a key is on the circle. Mixed, so that the keys of one arc still differ in every bit of
/// their hash, which the shards' indexes rely on.
fn key_position(hash: KeyHash) -> u64 {
    mix(mix((hash.0 >> 64) as u64) ^ hash.0 as u64)
}

/// Where the point number `index` of `target` is on the circle.
fn point_position(target: Target, index: u32) -> u64 {
    let address = u64::from(target.member.0) << 16 | u64::from(target.shard);
    mix(mix(address ^ 0x6865_6467_6572_6f77).wrapping_add(u64::from(index)))
}

/// The step of SplitMix64: a bijection whose every output bit depends on every input bit (Steele et
/// al., "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014, with Stafford's variant 13).
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests;
