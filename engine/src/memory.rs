//! The memory tier: what a home core keeps of its keys, so that a read of it touches no device.
//!
//! Owns the bound on bytes, the scan-resistant choice of what stays (`quick_cache`: S3-FIFO and
//! CLOCK-Pro), and the rules that keep a hit from ever being stale:
//!
//! * A write or delete [replaces](MemoryTier::replace) or [invalidates](MemoryTier::invalidate) the
//!   key before it is acknowledged.
//! * What a read found is kept only if no write of the key came since that read began, and no other read
//!   [returned](MemoryTier::returned) anything newer: the read takes a [token](MemoryTier::begin_fill)
//!   first, and every write of the key makes it worthless.
//! * An older version never takes the place of a newer one, and a write that was overtaken, by another
//!   one or by what a read returned, is not kept, even if the newer version is gone from here by then.
//! * Expiry is checked on every hit.
//!
//! A value is known by its key's hash; it carries its key, and whoever takes it out compares. Values
//! are handles: this room neither copies nor looks at bytes.

use std::hash::{BuildHasher, Hasher};

use crate::mistakes::{Mistake, planted};
use hedgerow_wire::{KeyHash, Record, Version};
use quick_cache::unsync::Cache;
use quick_cache::{Lifecycle, OptionsBuilder, Weighter};

mod fills;

pub use fills::FillToken;
use fills::Fills;

/// What the tier's own records of an entry cost, in bytes; counted with each entry.
pub const ENTRY_OVERHEAD_BYTES: usize = 160;
/// Buckets of keys whose newest version is known together (64 KiB). A write is not kept in vain if a newer
/// one of another key of its bucket was acknowledged before it.
const VERSION_BUCKETS: usize = 4096;

const _: () = assert!(VERSION_BUCKETS.is_power_of_two());

/// One object record to be kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry<V> {
    /// Hash of the object's key.
    pub hash: KeyHash,
    /// Which record of the object.
    pub record: Record,
    /// Its version.
    pub version: Version,
    /// When it expires, in milliseconds since the Unix epoch; 0 is never.
    pub expires_ms: u64,
    /// Bytes that `value` keeps in memory.
    pub value_bytes: usize,
    /// The handle.
    pub value: V,
}

/// A hit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hit<V> {
    /// The version that is held.
    pub version: Version,
    /// The handle.
    pub value: V,
}

/// What became of an entry that was offered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kept {
    /// It is held.
    Yes,
    /// It was written, or invalidated, since the token was taken; or something newer is held, was written,
    /// or was returned by a read.
    Overtaken,
    /// It has expired.
    Expired,
    /// It is larger than the tier takes.
    TooLarge,
}

/// Counts since the start, and what is held now.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct MemoryStats {
    /// Lookups that were hits.
    pub hits: u64,
    /// Lookups that were not, for whatever reason.
    pub misses: u64,
    /// Misses because what was held had expired.
    pub expired: u64,
    /// Misses because another version was asked for.
    pub other_version: u64,
    /// Entries kept after a read.
    pub fills: u64,
    /// Entries not kept after a read, since they were overtaken by a write or another read.
    pub fills_overtaken: u64,
    /// Entries not kept for another reason, and entries of writes that were not kept.
    pub refused: u64,
    /// Entries of writes that were kept.
    pub replaced: u64,
    /// Invalidations by writes and deletes.
    pub invalidated: u64,
    /// Entries let go for others.
    pub evicted: u64,
    /// Entries held.
    pub items: u64,
    /// Bytes held, with [`ENTRY_OVERHEAD_BYTES`] for each entry.
    pub bytes: u64,
    /// Bytes that may be held.
    pub capacity_bytes: u64,
}

/// What one home core keeps of its keys.
pub struct MemoryTier<V> {
    cache: Cache<(KeyHash, Record), Entry<V>, ByteWeight, MixKeyHash, CountEvicted>,
    fills: Fills,
    /// The newest version that was acknowledged or returned, of each bucket of keys.
    newest: Box<[Version]>,
    stats: MemoryStats,
}

impl<V: Clone> MemoryTier<V> {
    /// A tier of `capacity_bytes` (0 keeps nothing), made for about `expected_items` entries.
    pub fn new(capacity_bytes: u64, expected_items: usize) -> Self {
        let options = OptionsBuilder::new()
            .shards(1)
            .estimated_items_capacity(expected_items.max(1))
            .weight_capacity(capacity_bytes)
            .build()
            .unwrap_or_else(|error| panic!("a capacity and an estimate of items are given: {error}"));
        MemoryTier {
            cache: Cache::with_options(options, ByteWeight, MixKeyHash, CountEvicted),
            fills: Fills::default(),
            newest: vec![Version::ZERO; VERSION_BUCKETS].into_boxed_slice(),
            stats: MemoryStats { capacity_bytes, ..MemoryStats::default() },
        }
    }

    /// What is held of `record` at `wall_ms` (milliseconds since the Unix epoch), of whatever version.
    /// To be used for [`Record::OBJECT`], which says the version of an object's stripes.
    pub fn get(&mut self, hash: KeyHash, record: Record, wall_ms: u64) -> Option<Hit<V>> {
        self.lookup(hash, record, None, wall_ms)
    }

    /// As [`MemoryTier::get`], a hit only if `version` is held: for the stripes of an object whose
    /// version is known. A write of an object leaves its former stripes to age out.
    pub fn get_version(
        &mut self,
        hash: KeyHash,
        record: Record,
        version: Version,
        wall_ms: u64,
    ) -> Option<Hit<V>> {
        self.lookup(hash, record, Some(version), wall_ms)
    }

    /// What is held of `record`, expired or not; counts for nothing, and is no use of it.
    pub fn peek(&self, hash: KeyHash, record: Record) -> Option<&V> {
        self.cache.peek(&(hash, record)).map(|entry| &entry.value)
    }

    /// To be taken before a read of parts of this key starts, whose result may be kept.
    pub fn begin_fill(&self, hash: KeyHash) -> FillToken {
        self.fills.begin(hash)
    }

    /// To be called with the version of an object that a read found, or found deleted, before it is
    /// returned as confirmed: nothing older is a hit from then on. Its write need not have been
    /// acknowledged, so nothing else may have said so.
    pub fn returned(&mut self, hash: KeyHash, version: Version) {
        self.note(hash, version);
        self.fills.refuse_older(hash, version);
        self.remove_older(hash, Record::OBJECT, version);
    }

    /// Keeps what a read has found, if nothing speaks against it (see [`Kept`]). Not for reads that
    /// were answered unconfirmed: they may have missed an acknowledged write.
    pub fn fill(&mut self, token: FillToken, entry: Entry<V>, wall_ms: u64) -> Kept {
        let allowed = token.allows(entry.hash, entry.version) || planted(Mistake::FillWithoutToken);
        let kept = if allowed { self.keep(entry, wall_ms) } else { Kept::Overtaken };
        match kept {
            Kept::Yes => self.stats.fills += 1,
            Kept::Overtaken => self.stats.fills_overtaken += 1,
            Kept::Expired | Kept::TooLarge => self.stats.refused += 1,
        }
        kept
    }

    /// To be called with the object record of a write before the write is acknowledged: what was held
    /// of the key is let go, fills under way are refused, and the new version is kept if nothing
    /// speaks against it.
    pub fn replace(&mut self, entry: Entry<V>, wall_ms: u64) -> Kept {
        assert_eq!(entry.record, Record::OBJECT, "a write is acknowledged by its object record");
        let newest = self.note(entry.hash, entry.version);
        self.fills.refuse(entry.hash);
        let kept = if entry.version < newest {
            self.remove_older(entry.hash, entry.record, entry.version);
            Kept::Overtaken
        } else {
            self.keep(entry, wall_ms)
        };
        match kept {
            Kept::Yes => self.stats.replaced += 1,
            _ => self.stats.refused += 1,
        }
        kept
    }

    /// To be called for a delete, or a write that is not kept here, of version `through`, before it is
    /// acknowledged; and with [`Version::ZERO`] when a write begins or ends without a known outcome.
    /// Fills under way are refused, and no write up to `through` that is acknowledged later is kept.
    pub fn invalidate(&mut self, hash: KeyHash, through: Version) {
        self.note(hash, through);
        self.fills.refuse(hash);
        if !planted(Mistake::InvalidateForgotten) {
            self.cache.remove(&(hash, Record::OBJECT));
        }
        self.stats.invalidated += 1;
    }

    /// Counts since the start, and what is held now.
    pub fn stats(&self) -> MemoryStats {
        MemoryStats { items: self.cache.len() as u64, bytes: self.cache.weight(), ..self.stats }
    }

    fn lookup(
        &mut self,
        hash: KeyHash,
        record: Record,
        version: Option<Version>,
        wall_ms: u64,
    ) -> Option<Hit<V>> {
        let Some(entry) = self.cache.get(&(hash, record)) else {
            self.stats.misses += 1;
            return None;
        };
        let dead = if entry.expired(wall_ms) {
            self.stats.expired += 1;
            true
        } else if let Some(version) = version.filter(|version| *version != entry.version) {
            self.stats.other_version += 1;
            // A newer one is what the next reader will ask for.
            entry.version < version
        } else {
            self.stats.hits += 1;
            return Some(Hit { version: entry.version, value: entry.value.clone() });
        };
        self.stats.misses += 1;
        if dead {
            self.cache.remove(&(hash, record));
        }
        None
    }

    /// Holds `entry` in place of anything older, or nothing older in any case.
    fn keep(&mut self, entry: Entry<V>, wall_ms: u64) -> Kept {
        self.remove_older(entry.hash, entry.record, entry.version);
        let (key, version) = ((entry.hash, entry.record), entry.version);
        if self.cache.peek(&key).is_some_and(|held| held.version > version) {
            return Kept::Overtaken;
        }
        if entry.expired(wall_ms) {
            return Kept::Expired;
        }
        let mut evicted = Evicted::default();
        self.cache.insert_with_lifecycle(key, entry, &mut evicted);
        // The cache lets go at once what is larger than nearly all of it.
        if self.cache.peek(&key).is_none() {
            return Kept::TooLarge;
        }
        self.stats.evicted += evicted.count;
        Kept::Yes
    }

    /// Nothing older than `version` may be a hit from here on; the newest version known by now.
    fn note(&mut self, hash: KeyHash, version: Version) -> Version {
        let newest = &mut self.newest[bucket(hash)];
        *newest = version.max(*newest);
        *newest
    }

    fn remove_older(&mut self, hash: KeyHash, record: Record, version: Version) {
        self.cache.remove_if(&(hash, record), |held| held.version < version);
    }
}

impl<V> Entry<V> {
    fn expired(&self, wall_ms: u64) -> bool {
        self.expires_ms != 0 && self.expires_ms <= wall_ms && !planted(Mistake::ExpiryIgnored)
    }
}

fn bucket(hash: KeyHash) -> usize {
    // Not a plain remainder: all keys of one home may agree in the bits that chose it.
    ((hash.0 >> 64) as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) as usize >> 32 & (VERSION_BUCKETS - 1)
}

#[derive(Clone)]
struct ByteWeight;

impl<K, V> Weighter<K, Entry<V>> for ByteWeight {
    fn weight(&self, _: &K, entry: &Entry<V>) -> u64 {
        (entry.value_bytes + ENTRY_OVERHEAD_BYTES) as u64
    }
}

#[derive(Clone)]
struct CountEvicted;

#[derive(Default)]
struct Evicted {
    count: u64,
}

impl<K, V> Lifecycle<K, V> for CountEvicted {
    type RequestState = Evicted;

    fn on_evict(&self, state: &mut Evicted, _: K, _: V) {
        state.count += 1;
    }
}

/// Key hashes are uniform already; the record is mixed in.
#[derive(Clone, Default)]
struct MixKeyHash;

impl BuildHasher for MixKeyHash {
    type Hasher = Mixer;

    fn build_hasher(&self) -> Mixer {
        Mixer(0)
    }
}

struct Mixer(u64);

impl Hasher for Mixer {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.write_u64(byte.into()));
    }

    fn write_u128(&mut self, value: u128) {
        self.write_u64(value as u64);
    }

    fn write_u32(&mut self, value: u32) {
        self.write_u64(value.into());
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = (self.0.rotate_left(26) ^ value).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }

    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 32)
    }
}

#[cfg(test)]
mod tests;
