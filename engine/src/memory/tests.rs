use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::*;

const WALL_MS: u64 = 1_700_000_000_000;

fn hash(number: u64) -> KeyHash {
    KeyHash(u128::from(number.wrapping_mul(0x9E37_79B9_7F4A_7C15)) << 64 | u128::from(number))
}

fn version(hlc: u64) -> Version {
    Version { hlc, coordinator: 1 }
}

fn entry(number: u64, hlc: u64) -> Entry<u64> {
    Entry {
        hash: hash(number),
        record: Record::OBJECT,
        version: version(hlc),
        expires_ms: 0,
        value_bytes: 1000,
        value: hlc,
    }
}

fn tier() -> MemoryTier<u64> {
    MemoryTier::new(1 << 20, 1000)
}

/// What a reader of the object gets: the version it is told, which must be that of the value.
fn read(tier: &mut MemoryTier<u64>, number: u64) -> Option<u64> {
    let hit = tier.get(hash(number), Record::OBJECT, WALL_MS)?;
    assert_eq!(hit.version.hlc, hit.value);
    Some(hit.value)
}

fn fill(tier: &mut MemoryTier<u64>, entry: Entry<u64>) -> Kept {
    let token = tier.begin_fill(entry.hash);
    tier.fill(token, entry, WALL_MS)
}

#[test]
fn what_a_read_found_is_a_hit() {
    let mut tier = tier();
    assert_eq!(read(&mut tier, 1), None);
    assert_eq!(fill(&mut tier, entry(1, 10)), Kept::Yes);
    assert_eq!(read(&mut tier, 1), Some(10));
    assert_eq!(read(&mut tier, 2), None);
    let stats = tier.stats();
    assert_eq!((stats.hits, stats.misses, stats.fills, stats.items), (1, 2, 1, 1));
    assert_eq!(stats.bytes, 1000 + ENTRY_OVERHEAD_BYTES as u64);
    assert_eq!(stats.capacity_bytes, 1 << 20);
}

#[test]
fn a_fill_that_began_before_a_write_is_refused_after_it() {
    let mut tier = tier();
    let [before, older, same] = std::array::from_fn(|_| tier.begin_fill(hash(1)));
    let other = tier.begin_fill(hash(2));
    assert_eq!(tier.replace(entry(1, 20), WALL_MS), Kept::Yes);
    let after = tier.begin_fill(hash(1));
    assert_eq!(tier.fill(before, entry(1, 10), WALL_MS), Kept::Overtaken);
    assert_eq!(read(&mut tier, 1), Some(20));
    // Also when the write is no longer held, and when the read found that very write.
    tier.cache.clear();
    assert_eq!(tier.fill(older, entry(1, 10), WALL_MS), Kept::Overtaken);
    assert_eq!(tier.fill(same, entry(1, 20), WALL_MS), Kept::Overtaken);
    assert_eq!(read(&mut tier, 1), None);
    assert_eq!(tier.fill(after, entry(1, 20), WALL_MS), Kept::Yes);
    assert_eq!(tier.fill(other, entry(2, 10), WALL_MS), Kept::Yes, "another key");
    assert_eq!(tier.stats().fills_overtaken, 3);
}

#[test]
fn nothing_older_than_what_a_read_returned_is_kept() {
    let mut tier = tier();
    let [slow, same, newer] = std::array::from_fn(|_| tier.begin_fill(hash(1)));
    let other = tier.begin_fill(hash(2));
    // Found though its write was never acknowledged, and not held.
    tier.returned(hash(1), version(20));
    assert_eq!(tier.fill(slow, entry(1, 10), WALL_MS), Kept::Overtaken);
    assert_eq!(tier.replace(entry(1, 10), WALL_MS), Kept::Overtaken);
    assert_eq!(read(&mut tier, 1), None);
    assert_eq!(tier.fill(other, entry(2, 10), WALL_MS), Kept::Yes, "another key");
    assert_eq!(tier.fill(same, entry(1, 20), WALL_MS), Kept::Overtaken, "a write was acknowledged since");
    assert_eq!(tier.fill(newer, entry(1, 30), WALL_MS), Kept::Overtaken);
    let [own, newer] = std::array::from_fn(|_| tier.begin_fill(hash(1)));
    tier.returned(hash(1), version(20));
    assert_eq!(tier.fill(own, entry(1, 20), WALL_MS), Kept::Yes);
    assert_eq!(tier.fill(newer, entry(1, 30), WALL_MS), Kept::Yes);
    // What is held and older is let go.
    tier.returned(hash(1), version(40));
    assert_eq!(read(&mut tier, 1), None);
}

#[test]
fn fills_are_known_while_they_are_under_way() {
    let tier = tier();
    let (first, second) = (tier.begin_fill(hash(1)), tier.begin_fill(hash(1)));
    let other = tier.begin_fill(hash(2));
    assert_eq!(tier.fills.len(), 2);
    drop((first, other));
    assert_eq!(tier.fills.len(), 1);
    // After a write, those from before it and those from behind it are known apart.
    tier.fills.refuse(hash(1));
    let third = tier.begin_fill(hash(1));
    drop(second);
    assert_eq!(tier.fills.len(), 1);
    drop(third);
    assert_eq!(tier.fills.len(), 0);
}

#[test]
fn a_fill_that_began_before_a_delete_is_refused_after_it() {
    let mut tier = tier();
    assert_eq!(fill(&mut tier, entry(1, 10)), Kept::Yes);
    let before = tier.begin_fill(hash(1));
    tier.invalidate(hash(1), version(20));
    assert_eq!(read(&mut tier, 1), None);
    assert_eq!(tier.fill(before, entry(1, 10), WALL_MS), Kept::Overtaken);
    assert_eq!(tier.replace(entry(1, 15), WALL_MS), Kept::Overtaken);
    assert_eq!(read(&mut tier, 1), None);
    assert_eq!(tier.replace(entry(1, 30), WALL_MS), Kept::Yes);
    assert_eq!(read(&mut tier, 1), Some(30));
    assert_eq!(tier.stats().invalidated, 1);
}

#[test]
fn a_write_that_was_overtaken_is_not_kept_and_does_not_come_back() {
    let mut tier = tier();
    assert_eq!(tier.replace(entry(1, 20), WALL_MS), Kept::Yes);
    assert_eq!(tier.replace(entry(1, 10), WALL_MS), Kept::Overtaken);
    assert_eq!(read(&mut tier, 1), Some(20));
    tier.cache.clear();
    assert_eq!(tier.replace(entry(1, 10), WALL_MS), Kept::Overtaken);
    assert_eq!(read(&mut tier, 1), None);
}

#[test]
fn a_fill_never_takes_the_place_of_something_newer_and_lets_older_go() {
    let mut tier = tier();
    assert_eq!(fill(&mut tier, entry(1, 20)), Kept::Yes);
    assert_eq!(fill(&mut tier, entry(1, 10)), Kept::Overtaken);
    assert_eq!(read(&mut tier, 1), Some(20));
    // A newer version was found that cannot be held: the older one is no longer a hit.
    let expired = Entry { expires_ms: WALL_MS, ..entry(1, 30) };
    assert_eq!(fill(&mut tier, expired), Kept::Expired);
    assert_eq!(read(&mut tier, 1), None);
}

#[test]
fn a_write_that_is_not_kept_lets_the_old_version_go() {
    let mut tier = tier();
    let cases = [
        (Entry { value_bytes: 2 << 20, ..entry(1, 20) }, Kept::TooLarge),
        (Entry { expires_ms: WALL_MS - 1, ..entry(1, 30) }, Kept::Expired),
    ];
    for (new, expected) in cases {
        tier.cache.clear();
        assert_eq!(fill(&mut tier, entry(1, 10)), Kept::Yes);
        assert_eq!(tier.replace(new, WALL_MS), expected);
        assert_eq!(read(&mut tier, 1), None);
    }
    assert_eq!((tier.stats().evicted, tier.stats().refused), (0, 2));
}

#[test]
fn nothing_is_a_hit_from_its_expiry_on() {
    let mut tier = tier();
    assert_eq!(fill(&mut tier, Entry { expires_ms: WALL_MS + 5, ..entry(1, 10) }), Kept::Yes);
    assert!(tier.get(hash(1), Record::OBJECT, WALL_MS + 4).is_some());
    assert!(tier.get(hash(1), Record::OBJECT, WALL_MS + 5).is_none());
    let stats = tier.stats();
    assert_eq!((stats.hits, stats.misses, stats.expired, stats.items), (1, 1, 1, 0));
}

#[test]
fn stripes_are_hits_of_their_version_only() {
    let mut tier = tier();
    let stripe = |hlc| Entry { record: Record::stripe(3), ..entry(1, hlc) };
    let record = Record::stripe(3);
    assert_eq!(fill(&mut tier, stripe(10)), Kept::Yes);
    assert!(tier.get_version(hash(1), record, version(10), WALL_MS).is_some());
    assert!(tier.get(hash(1), Record::OBJECT, WALL_MS).is_none());
    // One that is older than what is asked for is let go, a newer one stays.
    assert!(tier.get_version(hash(1), record, version(9), WALL_MS).is_none());
    assert!(tier.get_version(hash(1), record, version(10), WALL_MS).is_some());
    assert!(tier.get_version(hash(1), record, version(11), WALL_MS).is_none());
    assert_eq!((tier.stats().items, tier.stats().other_version), (0, 2));
    // A write of the object makes fills of its stripes worthless too.
    let token = tier.begin_fill(hash(1));
    assert_eq!(tier.replace(entry(1, 20), WALL_MS), Kept::Yes);
    assert_eq!(tier.fill(token, stripe(10), WALL_MS), Kept::Overtaken);
}

#[test]
fn bytes_are_bounded_and_what_is_used_survives_a_scan() {
    let mut tier = tier();
    let fits = (1 << 20) / (1000 + ENTRY_OVERHEAD_BYTES as u64);
    for number in 0..fits / 4 {
        assert_eq!(fill(&mut tier, entry(number, 1)), Kept::Yes);
    }
    for number in 0..fits / 4 {
        assert!(read(&mut tier, number).is_some());
    }
    for number in 10_000..10_000 + 5 * fits {
        assert_eq!(fill(&mut tier, entry(number, 1)), Kept::Yes);
        let stats = tier.stats();
        assert!(stats.bytes <= 1 << 20 && stats.items <= fits, "{stats:?}");
    }
    let kept = (0..fits / 4).filter(|&number| read(&mut tier, number).is_some()).count() as u64;
    assert!(kept > fits / 5, "a scan pushed out {} of {} used entries", fits / 4 - kept, fits / 4);
    let stats = tier.stats();
    assert_eq!(stats.evicted, stats.fills - stats.items);
}

#[test]
fn a_tier_without_bytes_keeps_nothing() {
    let mut tier: MemoryTier<u64> = MemoryTier::new(0, 0);
    assert_eq!(fill(&mut tier, Entry { value_bytes: 0, ..entry(1, 10) }), Kept::TooLarge);
    assert_eq!(read(&mut tier, 1), None);
}

/// Reads and writes of few keys in random order, each a step at a time as the shell interleaves them;
/// no hit may be older than the last acknowledged write, or than what a read returned.
#[test]
fn no_hit_is_ever_older_than_what_was_acknowledged_or_returned() {
    const KEYS: u64 = 4;
    for seed in 0..30 {
        let mut rng = SmallRng::seed_from_u64(seed);
        // Room for two entries, so that what was written is often gone.
        let mut tier: MemoryTier<u64> = MemoryTier::new(2400, 2);
        let mut stored = [0u64; KEYS as usize];
        let mut promised = [0u64; KEYS as usize];
        let mut clock = 1;
        let mut reads: Vec<(FillToken, u64, u64)> = Vec::new();
        let mut writes: Vec<(u64, u64, bool)> = Vec::new();
        for step in 0..3000 {
            let number = rng.random_range(0..KEYS);
            match rng.random_range(0..6) {
                0 if reads.len() < 8 => {
                    reads.push((tier.begin_fill(hash(number)), number, stored[number as usize]))
                }
                1 if !reads.is_empty() => {
                    let (token, number, found) = reads.swap_remove(rng.random_range(0..reads.len()));
                    tier.returned(hash(number), version(found));
                    promised[number as usize] = promised[number as usize].max(found);
                    if rng.random_ratio(7, 8) {
                        tier.fill(token, entry(number, found), WALL_MS);
                    }
                }
                2 => {
                    clock += 1;
                    let acknowledged = rng.random_ratio(3, 4);
                    if !acknowledged {
                        tier.invalidate(hash(number), Version::ZERO);
                    }
                    writes.push((number, clock, acknowledged));
                }
                // Writes are acknowledged in any order; a later version wins.
                3 if !writes.is_empty() => {
                    let (number, version, acknowledged) =
                        writes.swap_remove(rng.random_range(0..writes.len()));
                    stored[number as usize] = stored[number as usize].max(version);
                    // Of some it was said before that it is not known whether they will be there.
                    if acknowledged {
                        promised[number as usize] = promised[number as usize].max(version);
                        tier.replace(entry(number, version), WALL_MS);
                    }
                }
                4 if rng.random_ratio(1, 10) => {
                    clock += 1;
                    stored[number as usize] = clock;
                    promised[number as usize] = clock;
                    tier.invalidate(hash(number), version(clock));
                }
                _ => {
                    if let Some(found) = read(&mut tier, number) {
                        let newest = promised[number as usize];
                        assert!(found >= newest, "seed {seed}, step {step}: {found} after {newest}");
                    }
                }
            }
        }
        let stats = tier.stats();
        assert!(stats.hits > 50 && stats.fills > 50 && stats.fills_overtaken > 50, "{stats:?}");
    }
}
