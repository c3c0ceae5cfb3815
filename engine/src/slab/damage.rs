//! Damaged parts, which stay what the shard holds.
//!
//! A part that fails a check is an erasure and not forgotten: it is still true that the shard held
//! nothing newer, so what repairs it can be told from what would bring an old version back. Its place is
//! noted, so that it is not read in vain again and its own version takes its place. Notes live in memory
//! only: after a start the next read finds the damage again.

use hedgerow_wire::part::{PartAnswer, PartMeta};
use hedgerow_wire::time::Now;
use hedgerow_wire::{KeyHash, Record, Version};

use super::index::Entry;
use super::store::{Map, Store, upper_bound};
use super::{Buffers, Payload};

/// Most damaged parts that are noted at a time: at most about 10 MB.
pub(super) const DAMAGE_NOTED_MAX: usize = 65_536;

/// What is known of a damaged part.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Damage {
    slab: u32,
    offset: u32,
    hlc: u64,
    /// The whole version, unless it went with the head.
    version: Option<Version>,
    /// 0 if never, or if it went with the head.
    expires_ms: u64,
}

impl Damage {
    /// Whether a part of `version` is the damaged one: by its clock alone, if its head is damaged.
    pub(super) fn is_of(&self, version: Version) -> bool {
        self.version.map_or(self.hlc == version.hlc, |damaged| damaged == version)
    }
}

/// The damaged parts of a store, as far as they are noted.
pub(super) struct DamagedParts {
    notes: Map<(KeyHash, Record), Damage>,
    max: usize,
}

impl DamagedParts {
    /// No damage, and room for `max` (at least one) notes.
    pub(super) fn new(max: usize) -> DamagedParts {
        DamagedParts { notes: Map::default(), max: max.max(1) }
    }

    pub(super) fn len(&self) -> usize {
        self.notes.len()
    }

    /// Where there is no room, another note goes: the next read finds that damage again. So the note of
    /// what was just found damaged is always there, and deciding a write by it ends.
    fn put(&mut self, key: (KeyHash, Record), damage: Damage) {
        let full = self.notes.len() >= self.max && !self.notes.contains_key(&key);
        if let Some(other) = self.notes.keys().next().copied().filter(|_| full) {
            self.notes.remove(&other);
        }
        self.notes.insert(key, damage);
    }

    /// The record has another part now, or none.
    pub(super) fn remove(&mut self, hash: KeyHash, record: Record) {
        self.notes.remove(&(hash, record));
    }

    /// The slab holds nothing any more.
    pub(super) fn remove_slab(&mut self, slab: u32) {
        self.notes.retain(|_, damage| damage.slab != slab);
    }
}

impl<D: Buffers> Store<D> {
    /// The damage noted of the part at `entry`.
    pub(super) fn damage_at(&self, hash: KeyHash, record: Record, entry: &Entry) -> Option<Damage> {
        let damage = self.damage.notes.get(&(hash, record)).copied()?;
        let there = (damage.slab, damage.offset, damage.hlc) == (entry.slab, entry.offset, entry.hlc);
        there.then_some(damage)
    }

    /// Whether what is held of the record is this version and noted as damaged.
    pub(super) fn holds_damaged(&self, hash: KeyHash, record: Record, version: Version) -> bool {
        let noted = self.damage.notes.get(&(hash, record)).is_some_and(|damage| damage.is_of(version));
        noted && self.lookup(hash, record).is_some_and(|entry| self.damage_at(hash, record, &entry).is_some())
    }

    /// The whole version of the part at `entry`, if it is known without a device read.
    pub(super) fn exact_version(&self, hash: KeyHash, record: Record, entry: &Entry) -> Option<Version> {
        let noted = || self.damage_at(hash, record, entry).and_then(|damage| damage.version);
        self.exact.get(hash, record, entry.hlc).or_else(noted)
    }

    /// The part at `entry` failed a check: notes it, if it is still what is held. `meta` is of its head,
    /// if that is right.
    pub(super) fn damaged(
        &mut self,
        hash: KeyHash,
        record: Record,
        entry: &Entry,
        meta: Option<&PartMeta>,
    ) -> PartAnswer<Payload<D::Read>> {
        let held = self.lookup(hash, record);
        let current = held.is_some_and(|held| (held.slab, held.offset) == (entry.slab, entry.offset));
        if current && self.damage_at(hash, record, entry).is_none() {
            let version = meta.map(|meta| meta.version).or_else(|| self.exact_version(hash, record, entry));
            let expires_ms = meta.map_or(0, |meta| meta.expires_ms);
            let Entry { slab, offset, hlc, .. } = *entry;
            self.damage.put((hash, record), Damage { slab, offset, hlc, version, expires_ms });
            self.counters.parts_damaged += 1;
        }
        PartAnswer::Damaged
    }

    /// The answer to a read of the part at `entry` that is noted as damaged.
    pub(super) fn read_damaged(
        &mut self,
        hash: KeyHash,
        record: Record,
        entry: &Entry,
        damage: &Damage,
        now: Now,
    ) -> PartAnswer<Payload<D::Read>> {
        if damage.expires_ms == 0 || damage.expires_ms > now.wall_ms() {
            return PartAnswer::Damaged;
        }
        self.counters.parts_expired += 1;
        self.forget_entry(hash, record, entry, damage.version.unwrap_or_else(|| upper_bound(entry)));
        self.absent()
    }
}
