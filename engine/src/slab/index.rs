//! The index of a shard: where the part of a record lies, 16 bytes a part.
//!
//! Owns: the table of slots (layout in [`slot`]), their placement, their displacement. Never: a key
//! (a hit may be a false match, so whoever reads the part checks the key in its header), a device, a
//! clock.
//!
//! # Table
//! Partial-key cuckoo hashing (Fan et al., "Cuckoo Filter", CoNEXT 2014, section 3) in buckets of four
//! slots, one cache line each. A record has a bucket and a fingerprint; its other bucket is computed
//! from these two alone, so that slots move without their keys: `other = (h(fingerprint) - bucket) mod
//! buckets`, which is its own inverse for any number of buckets (the usual xor wants a power of two,
//! which would waste up to half of the memory). When both buckets are full, a breadth-first search
//! (Li et al., "Algorithmic Improvements for Fast Concurrent Cuckoo Hashing", EuroSys 2014, section
//! 4.3) looks for the shortest chain of moves within [`SEARCH_BUCKETS_MAX`]; only when there is one is
//! anything moved. The table never grows and is never rehashed as a whole.
//!
//! # False matches
//! A lookup of an absent record compares with the slots of two buckets: 8 at most, of which the share
//! `fill` is occupied. Bucket and fingerprint come from different words of the hash, so each occupied
//! slot has the sought fingerprint with the probability that two random fingerprints are equal. They are
//! 36 random bits with 0 mapped to 1: the sum of the squared probabilities is `(2^36 - 2 + 2^2) / 2^72 =
//! 2^-36 (1 + 2^-35)`. By the union bound a lookup has a false match with probability at most
//!
//! `8 * fill * 2^-36 (1 + 2^-35)` = 1.05e-10 at 90 % fill, 1.17e-10 for a full table.
//!
//! A false match of a read is an erasure (the header names another key); of an insert it replaces, and
//! so forgets, the other record. The hash depends on the shard's seed, so that two records which collide
//! in one shard do not collide in the shards that hold the siblings of their parts.

pub mod slot;
#[cfg(test)]
mod tests;

use hedgerow_wire::{KeyHash, Record};
use smallvec::SmallVec;

pub use slot::Entry;
use slot::{FINGERPRINT_BITS, Slot};

/// Slots of a bucket.
pub const BUCKET_SLOTS: usize = 4;
/// Bytes of a bucket: one cache line.
pub const BUCKET_BYTES: usize = 64;
/// Most parts that [`Index::with_capacity`] takes: 2^32 buckets at 90 % fill.
pub const CAPACITY_MAX: usize = ((BUCKETS_MAX as u64 * BUCKET_SLOTS as u64) / 10 * 9) as usize;
/// Buckets whose slots one insert may try to move, before it finds the table full. The search reads
/// at most four times as many.
pub const SEARCH_BUCKETS_MAX: usize = 256;

/// Bucket numbers are `u32`.
pub(super) const BUCKETS_MAX: usize = u32::MAX as usize;
/// Below this some tables cannot be filled to 90 %: 1 of 200 with 16 buckets, none of 20,000 with 56.
pub(super) const BUCKETS_MIN: usize = 64;
/// Parent of a root of the search.
const NO_PARENT: u16 = u16::MAX;

const _: () = {
    assert!(size_of::<Bucket>() == BUCKET_BYTES && align_of::<Bucket>() == BUCKET_BYTES);
    assert!(SEARCH_BUCKETS_MAX < NO_PARENT as usize);
    assert!(usize::BITS == 64);
};

/// No chain of moves within the bound frees a slot for a new record. Nothing was changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the index has no room for another part: {len} of {slots} slots are in use")]
pub struct Full {
    /// Parts in the index.
    pub len: usize,
    /// Slots of the index.
    pub slots: usize,
}

/// Why an index of the wanted size cannot be had.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CapacityError {
    /// More than bucket numbers can count.
    #[error("an index of {parts} parts is too large: at most {CAPACITY_MAX}")]
    TooLarge {
        /// Parts that were asked for.
        parts: usize,
    },
    /// The memory is not to be had.
    #[error("no memory for an index of {bytes} bytes")]
    Memory {
        /// Bytes of the table.
        bytes: usize,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[repr(C, align(64))]
struct Bucket {
    slots: [Slot; BUCKET_SLOTS],
}

impl Bucket {
    /// Bit `i` is set if slot `i` holds a part with `fingerprint`.
    #[inline]
    fn matches(&self, fingerprint: u64) -> u32 {
        mask(self.slots.map(|slot| slot.matches(fingerprint)))
    }

    /// Bit `i` is set if slot `i` is empty.
    #[inline]
    fn empties(&self) -> u32 {
        mask(self.slots.map(Slot::is_empty))
    }

    /// The first empty slot.
    #[inline]
    fn free(&self) -> Option<usize> {
        let empties = self.empties();
        (empties != 0).then(|| empties.trailing_zeros() as usize)
    }
}

/// Where a record may be: its fingerprint and both of its buckets.
#[derive(Clone, Copy)]
struct Probe {
    fingerprint: u64,
    buckets: [usize; 2],
}

/// A slot's position.
#[derive(Clone, Copy)]
struct Position {
    bucket: usize,
    slot: usize,
}

/// A bucket that the search for room reached.
#[derive(Clone, Copy)]
struct Step {
    bucket: u32,
    /// Index of the step before this one in the search, or [`NO_PARENT`].
    parent: u16,
    /// The slot of the parent's bucket that could move here.
    slot: u8,
}

/// A fixed table from records to places. See the module for its properties.
pub struct Index {
    buckets: Vec<Bucket>,
    seed: u64,
    /// `seed`, spread over the words that the hash uses.
    hash_keys: [u64; 2],
    len: usize,
    highest_hlc: u64,
}

impl Index {
    /// An empty index in which `parts` parts fit at 90 % fill or less. `seed` is the shard's own.
    ///
    /// # Panics
    /// Where [`Index::try_with_capacity`] gives an error.
    pub fn with_capacity(parts: usize, seed: u64) -> Index {
        match Index::try_with_capacity(parts, seed) {
            Ok(index) => index,
            Err(error) => panic!("{error}"),
        }
    }

    /// As [`Index::with_capacity`], for sizes that come from outside.
    pub fn try_with_capacity(parts: usize, seed: u64) -> Result<Index, CapacityError> {
        if parts > CAPACITY_MAX {
            return Err(CapacityError::TooLarge { parts });
        }
        Index::with_buckets(Index::slots_for(parts) / BUCKET_SLOTS, seed)
    }

    /// Slots of an index that `parts` parts fit in at 90 % fill or less.
    pub fn slots_for(parts: usize) -> usize {
        (parts * 10).div_ceil(9 * BUCKET_SLOTS).max(BUCKETS_MIN) * BUCKET_SLOTS
    }

    /// An empty index of `count` buckets.
    pub(super) fn with_buckets(count: usize, seed: u64) -> Result<Index, CapacityError> {
        let mut buckets = Vec::new();
        buckets
            .try_reserve_exact(count)
            .map_err(|_| CapacityError::Memory { bytes: count.saturating_mul(BUCKET_BYTES) })?;
        buckets.resize(count, Bucket::default());
        let hash_keys = [mix(seed, 0x9e37_79b9_7f4a_7c15), mix(!seed, 0xd6e8_feb8_6659_fd93)];
        Ok(Index { buckets, seed, hash_keys, len: 0, highest_hlc: 0 })
    }

    /// Starts to bring the record's buckets into the cache, and returns at once. Worth it where several
    /// records are known before the first is looked up (the contents of a slab, a batch of touches): 16
    /// ahead, a lookup in a table far larger than the caches takes half as long as in a plain loop, and
    /// a quarter of one that stands alone (`perf/benches/index.rs`).
    #[inline]
    pub fn prefetch(&self, hash: KeyHash, record: Record) {
        for bucket in self.probe(hash, record).buckets {
            prefetch_line(&self.buckets[bucket]);
        }
    }

    /// What the index has of `record` of the object `hash`. The hlc is rebuilt near `now_hlc`: exact if
    /// it is at most [`slot::HLC_AHEAD_UNITS`] above it and less than 8 years below.
    #[inline]
    pub fn get(&self, hash: KeyHash, record: Record, now_hlc: u64) -> Option<Entry> {
        let at = self.find(&self.probe(hash, record))?;
        Some(self.slot(at).unpack(now_hlc))
    }

    /// Puts `entry` for the record and gives back what it replaced (its hlc rebuilt near
    /// [`Index::highest_hlc`]).
    ///
    /// # Panics
    /// If a field of `entry` is outside its documented range.
    pub fn insert(&mut self, hash: KeyHash, record: Record, entry: &Entry) -> Result<Option<Entry>, Full> {
        let probe = self.probe(hash, record);
        let slot = Slot::pack(probe.fingerprint, entry);
        let highest_hlc = self.highest_hlc.max(entry.hlc);
        if let Some(at) = self.find(&probe) {
            let replaced = std::mem::replace(self.slot_mut(at), slot);
            self.highest_hlc = highest_hlc;
            return Ok(Some(replaced.unpack(highest_hlc)));
        }
        let full = Full { len: self.len, slots: self.slots() };
        let at = self.free(&probe).or_else(|| self.make_room(&probe)).ok_or(full)?;
        *self.slot_mut(at) = slot;
        self.highest_hlc = highest_hlc;
        self.len += 1;
        Ok(None)
    }

    /// Removes what the index has of the record and gives it back (its hlc rebuilt near
    /// [`Index::highest_hlc`]).
    pub fn remove(&mut self, hash: KeyHash, record: Record) -> Option<Entry> {
        let at = self.find(&self.probe(hash, record))?;
        Some(self.take(at).unpack(self.highest_hlc))
    }

    /// Removes the record if it lies at `offset` (bytes) of `slab`; whether it did.
    pub fn remove_at(&mut self, hash: KeyHash, record: Record, slab: u32, offset: u32) -> bool {
        let Some(at) = self.find(&self.probe(hash, record)) else { return false };
        let slot = self.slot(at);
        let there = slot.slab() == slab && slot.offset() == offset;
        if there {
            self.take(at);
        }
        there
    }

    /// Marks the record as used, if the index has it of a version that is not older than `hlc` (near
    /// [`Index::highest_hlc`]); whether it has.
    pub fn touch(&mut self, hash: KeyHash, record: Record, hlc: u64) -> bool {
        let highest_hlc = self.highest_hlc;
        let Some(at) = self.find(&self.probe(hash, record)) else { return false };
        let slot = self.slot_mut(at);
        let as_new = slot.unpack(highest_hlc).hlc >= hlc;
        if as_new {
            slot.set_touched();
        }
        as_new
    }

    /// Whether the record was marked as used; the mark is cleared.
    pub fn take_touched(&mut self, hash: KeyHash, record: Record) -> bool {
        let at = self.find(&self.probe(hash, record));
        at.is_some_and(|at| self.slot_mut(at).take_touched())
    }

    /// Every entry, in no order, hlc rebuilt near `now_hlc`.
    pub fn entries(&self, now_hlc: u64) -> impl Iterator<Item = Entry> + '_ {
        let slots = self.buckets.iter().flat_map(|bucket| bucket.slots.iter());
        slots.filter(|slot| !slot.is_empty()).map(move |slot| slot.unpack(now_hlc))
    }

    /// The entries of one bucket, hlc rebuilt near [`Index::highest_hlc`].
    pub fn bucket_entries(&self, bucket: usize) -> impl Iterator<Item = Entry> + '_ {
        let slots = self.buckets[bucket].slots.iter().filter(|slot| !slot.is_empty());
        slots.map(|slot| slot.unpack(self.highest_hlc))
    }

    /// Whether any entry points to `offset` of `slab`: looks at all of them.
    pub fn points_to(&self, slab: u32, offset: u32) -> bool {
        self.entries(self.highest_hlc).any(|entry| (entry.slab, entry.offset) == (slab, offset))
    }

    /// Removes the entries for which `keep` is false (hlc rebuilt near [`Index::highest_hlc`]).
    pub fn retain(&mut self, mut keep: impl FnMut(&Entry) -> bool) {
        for slot in self.buckets.iter_mut().flat_map(|bucket| bucket.slots.iter_mut()) {
            if !slot.is_empty() && !keep(&slot.unpack(self.highest_hlc)) {
                *slot = Slot::EMPTY;
                self.len -= 1;
            }
        }
    }

    /// Parts in the index.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Slots: parts that the index would hold at 100 % fill.
    pub fn slots(&self) -> usize {
        self.buckets.len() * BUCKET_SLOTS
    }

    /// All memory of the index, in bytes.
    pub fn memory_bytes(&self) -> usize {
        size_of::<Index>() + self.buckets.capacity() * BUCKET_BYTES
    }

    /// The seed that it was made with.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// The highest hlc that was ever inserted, 0 if none was.
    pub fn highest_hlc(&self) -> u64 {
        self.highest_hlc
    }

    pub(super) fn bucket_count(&self) -> usize {
        self.buckets.len()
    }

    /// A bucket as the snapshot has it: its slots one after the other.
    #[inline]
    pub(super) fn bucket_bytes(&self, bucket: usize) -> [u8; BUCKET_BYTES] {
        let mut bytes = [0; BUCKET_BYTES];
        for (to, slot) in bytes.as_chunks_mut().0.iter_mut().zip(&self.buckets[bucket].slots) {
            *to = slot.to_bytes();
        }
        bytes
    }

    /// Puts the slots of [`Index::bucket_bytes`] into an empty bucket; `false` if one of them cannot be.
    #[inline]
    pub(super) fn restore_bucket(&mut self, bucket: usize, bytes: &[u8; BUCKET_BYTES]) -> bool {
        for (from, slot) in bytes.as_chunks().0.iter().zip(&mut self.buckets[bucket].slots) {
            let Some(restored) = Slot::from_bytes(*from) else { return false };
            self.len += usize::from(!restored.is_empty());
            *slot = restored;
        }
        true
    }

    pub(super) fn restore_highest_hlc(&mut self, hlc: u64) {
        self.highest_hlc = hlc;
    }

    #[inline]
    fn slot(&self, at: Position) -> Slot {
        self.buckets[at.bucket].slots[at.slot]
    }

    #[inline]
    fn slot_mut(&mut self, at: Position) -> &mut Slot {
        &mut self.buckets[at.bucket].slots[at.slot]
    }

    fn take(&mut self, at: Position) -> Slot {
        self.len -= 1;
        std::mem::take(self.slot_mut(at))
    }

    /// Two rounds of a Feistel network over the 128 bits of the key's hash, the record added first and
    /// the seed in both rounds: for one record a bijection, so nothing is lost before the words are cut,
    /// and which records share bucket and fingerprint differs from seed to seed.
    #[inline]
    fn probe(&self, hash: KeyHash, record: Record) -> Probe {
        let mut left = (hash.0 as u64).wrapping_add(u64::from(record.0).wrapping_mul(0xe703_7ed1_a0b4_28db));
        let mut right = (hash.0 >> 64) as u64;
        right ^= mix(left ^ self.hash_keys[0], 0xa076_1d64_78bd_642f);
        left ^= mix(right ^ self.hash_keys[1], 0xe703_7ed1_a0b4_28db);
        let fingerprint = (left >> (u64::BITS - FINGERPRINT_BITS)).max(1);
        let bucket = scale(right, self.buckets.len());
        Probe { fingerprint, buckets: [bucket, self.other_bucket(bucket, fingerprint)] }
    }

    /// The other bucket of a slot with `fingerprint` that may be in `bucket`. Its own inverse.
    #[inline]
    fn other_bucket(&self, bucket: usize, fingerprint: u64) -> usize {
        let sum = scale(fingerprint.wrapping_mul(0x9e37_79b9_7f4a_7c15), self.buckets.len());
        if sum >= bucket { sum - bucket } else { sum + self.buckets.len() - bucket }
    }

    #[inline]
    fn find(&self, probe: &Probe) -> Option<Position> {
        self.first(probe, |bucket| bucket.matches(probe.fingerprint))
    }

    #[inline]
    fn free(&self, probe: &Probe) -> Option<Position> {
        self.first(probe, Bucket::empties)
    }

    /// The first slot of both buckets in the masks that `slots` gives. Branches on the bucket, which is
    /// mostly the first, but not on the slot, which cannot be predicted: a wrong guess would also hold
    /// up the cache misses of whatever comes next.
    #[inline]
    fn first(&self, probe: &Probe, slots: impl Fn(&Bucket) -> u32) -> Option<Position> {
        for bucket in probe.buckets {
            let mask = slots(&self.buckets[bucket]);
            if mask != 0 {
                return Some(Position { bucket, slot: mask.trailing_zeros() as usize });
            }
        }
        None
    }

    /// Frees a slot in one of the record's buckets, both full, by moving others along the shortest
    /// chain; `None` and nothing moved if there is none within the bound. The slot still holds the
    /// first one that was moved.
    #[cold]
    fn make_room(&mut self, probe: &Probe) -> Option<Position> {
        let mut steps: SmallVec<[Step; SEARCH_BUCKETS_MAX]> = SmallVec::new();
        steps.extend(probe.buckets.map(|bucket| Step { bucket: bucket as u32, parent: NO_PARENT, slot: 0 }));
        let mut at = 0;
        while at < steps.len() {
            let bucket = steps[at].bucket as usize;
            for slot in 0..BUCKET_SLOTS {
                let next = self.other_bucket(bucket, self.buckets[bucket].slots[slot].fingerprint());
                if let Some(free) = self.buckets[next].free() {
                    let from = Position { bucket, slot };
                    return Some(self.shift(&steps, at, from, Position { bucket: next, slot: free }));
                }
                if steps.len() < SEARCH_BUCKETS_MAX {
                    steps.push(Step { bucket: next as u32, parent: at as u16, slot: slot as u8 });
                }
            }
            at += 1;
        }
        None
    }

    /// Moves the slots of a chain, the last first, so that each is written to its new place before its
    /// old one is overwritten. `from` is a slot of the bucket of step `at` and moves to `to`, which is
    /// free. Gives the slot of a root bucket that has become free to overwrite.
    ///
    /// No bucket is twice in the chain: its steps from the earlier occurrence on would have been found
    /// sooner, since the search goes by distance and treats every occurrence alike.
    fn shift(&mut self, steps: &[Step], at: usize, from: Position, to: Position) -> Position {
        let (mut at, mut from, mut to) = (at, from, to);
        loop {
            let slot = self.slot(from);
            debug_assert_eq!(self.other_bucket(from.bucket, slot.fingerprint()), to.bucket);
            *self.slot_mut(to) = slot;
            let step = steps[at];
            if step.parent == NO_PARENT {
                return from;
            }
            at = usize::from(step.parent);
            to = from;
            from = Position { bucket: steps[at].bucket as usize, slot: usize::from(step.slot) };
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[inline]
fn prefetch_line(bucket: &Bucket) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    // SAFETY: SSE is part of every x86-64, and a prefetch is a hint: it reads nothing into the program
    // and never faults, whatever the address (here that of a live bucket).
    unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(bucket).cast()) }
}

#[cfg(not(target_arch = "x86_64"))]
#[inline]
fn prefetch_line(_bucket: &Bucket) {}

#[inline]
fn mask(bits: [bool; BUCKET_SLOTS]) -> u32 {
    bits.iter().rev().fold(0, |mask, &bit| mask << 1 | u32::from(bit))
}

/// Folded multiplication: both halves of the 128-bit product, xored.
#[inline]
fn mix(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

/// `hash / 2^64 * count`: multiply-shift instead of a division.
#[inline]
fn scale(hash: u64, count: usize) -> usize {
    ((u128::from(hash) * count as u128) >> 64) as usize
}
