//! Exact versions of records that were met lately.
//!
//! The index keeps a version's clock but not the coordinator that gave it. Where a question depends on
//! the coordinator, the part's header has the answer; this table saves most of these device reads.
//! Direct mapped and of fixed size: what it does not have is read.

use hedgerow_wire::{KeyHash, Record, Version};

#[derive(Clone, Copy)]
struct Known {
    hash: KeyHash,
    record: Record,
    version: Version,
}

pub(super) struct ExactVersions {
    slots: Vec<Known>,
}

impl ExactVersions {
    pub(super) fn new(slots: usize) -> ExactVersions {
        let nothing = Known { hash: KeyHash(0), record: Record(0), version: Version::ZERO };
        ExactVersions { slots: vec![nothing; slots.max(1)] }
    }

    fn at(&self, hash: KeyHash, record: Record) -> usize {
        let mixed = (hash.0 as u64) ^ u64::from(record.0).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        ((u128::from(mixed) * self.slots.len() as u128) >> 64) as usize
    }

    /// The whole version of the record whose clock is `hlc`, if it is known.
    pub(super) fn get(&self, hash: KeyHash, record: Record, hlc: u64) -> Option<Version> {
        let known = self.slots[self.at(hash, record)];
        let same = known.hash == hash && known.record == record && known.version.hlc == hlc;
        (same && hlc != 0).then_some(known.version)
    }

    /// The record that the index holds has this version.
    pub(super) fn put(&mut self, hash: KeyHash, record: Record, version: Version) {
        let at = self.at(hash, record);
        self.slots[at] = Known { hash, record, version };
    }
}
