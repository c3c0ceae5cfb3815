//! Clean stop, and what its snapshot keeps beside the index: which slab is what, and the parts of the open
//! slab.
//!
//! ```text
//! 0 format=1   4 slabs   8 open slab, or 2^32 - 1   12 end of its data
//! 16 its parts  20 from where on its batches are all there   24 highest version: hlc (8)   32 coordinator (2)   34 zero (6)
//! 40 of each slab: its generation (8), 0 if it holds nothing
//!  - of each part of the open slab: its contents entry (64)
//! ```

use hedgerow_wire::Version;
use hedgerow_wire::time::Now;

use super::append::Growing;
use super::evict::Eviction;
use super::layout::{
    BLOCK_LEN, CONTENTS_ENTRY_LEN, ContentsEntry, SLAB_DATA_START, contents_start, put, u16_at, u32_at,
    u64_at,
};
use super::persist::Purpose;
use super::slabs::{SlabState, Slabs};
use super::snapshot::{self, SnapshotId};
use super::store::Store;
use super::{Buffers, superblock::Superblock};

/// How far a clean stop is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Closing {
    /// Not begun.
    Open,
    /// What is under way is completed.
    Begun,
    /// Nothing is under way.
    Closed { clean: bool },
}

const FORMAT: u32 = 1;
const NO_SLAB: u32 = u32::MAX;
const FIXED_LEN: usize = 40;

impl<D: Buffers> Store<D> {
    /// Begins a clean stop: new requests are answered `Failed`, what is under way is completed. A device
    /// operation that never completes holds it up.
    pub fn begin_close(&mut self, _now: Now) {
        if self.closing == Closing::Open {
            self.closing = Closing::Begun;
        }
    }

    /// Whether the clean stop is complete: nothing is under way any more. If the device failed
    /// meanwhile, the stop is not clean and [`Store::snapshot`] gives nothing.
    pub fn closed(&self) -> bool {
        matches!(self.closing, Closing::Closed { .. })
    }

    /// After [`Store::closed`]: appends the bytes to be given to the next [`super::Opening::new`].
    /// Whether there are any.
    pub fn snapshot(&self, out: &mut Vec<u8>) -> bool {
        if self.closing != (Closing::Closed { clean: true }) {
            return false;
        }
        let id = SnapshotId { shard_id: self.superblock.shard_id, nonce: self.superblock.clean_nonce };
        snapshot::encode_to_vec(&self.index, &id, &self.encode_extra(), out);
        true
    }

    /// A stop leaves the slab that is on its way out where it is, if that is still possible.
    pub(super) fn give_up_eviction(&mut self) {
        let may = |eviction: &Eviction| eviction.may_be_given_up();
        if self.closing != Closing::Open && self.eviction.as_ref().is_some_and(may) {
            self.eviction = None;
        }
    }

    /// Ends a stop when nothing is under way.
    pub(super) fn pump_close(&mut self) {
        if self.closing != Closing::Begun {
            return;
        }
        let idle = self.ios.is_empty() && self.filling.is_none() && self.ready.is_empty();
        if !idle || self.persist.is_some() || !self.out.is_empty() {
            return;
        }
        if self.health.probe_at.is_some() {
            self.closing = Closing::Closed { clean: false };
        } else if self.eviction.is_none() && self.flusher.idle() {
            self.start_persist(Purpose::Close, self.superblock.evicted_through);
        }
    }

    fn encode_extra(&self) -> Vec<u8> {
        let open = self.growing.last();
        let entries = open.map_or(&[][..], |growing| &growing.entries);
        let count = self.slabs.count();
        let mut bytes = vec![0; FIXED_LEN + count as usize * 8];
        put(&mut bytes, 0, &FORMAT.to_le_bytes());
        put(&mut bytes, 4, &count.to_le_bytes());
        put(&mut bytes, 8, &open.map_or(NO_SLAB, |growing| growing.slab).to_le_bytes());
        put(&mut bytes, 12, &open.map_or(0, |growing| growing.cursor).to_le_bytes());
        put(&mut bytes, 16, &(entries.len() as u32).to_le_bytes());
        put(&mut bytes, 20, &open.map_or(0, |growing| growing.settled_from).to_le_bytes());
        put(&mut bytes, 24, &self.highest.hlc.to_le_bytes());
        put(&mut bytes, 32, &self.highest.coordinator.to_le_bytes());
        for (slab, generation, _) in self.slabs.held() {
            put(&mut bytes, FIXED_LEN + slab as usize * 8, &generation.to_le_bytes());
        }
        for entry in entries {
            bytes.extend_from_slice(&entry.encode());
        }
        bytes
    }
}

/// What a clean stop kept beside the index.
pub(super) struct Kept {
    pub(super) slabs: Slabs,
    pub(super) growing: Vec<Growing>,
    pub(super) highest: Version,
}

/// The reverse of `encode_extra`; `None` if it does not fit the device.
pub(super) fn decode_extra(bytes: &[u8], superblock: &Superblock) -> Option<Kept> {
    let table_end = FIXED_LEN + superblock.slabs as usize * 8;
    if bytes.len() < table_end || u32_at(bytes, 0) != FORMAT || u32_at(bytes, 4) != superblock.slabs {
        return None;
    }
    let (open, cursor, parts) = (u32_at(bytes, 8), u32_at(bytes, 12), u32_at(bytes, 16) as usize);
    let entries = bytes[table_end..].as_chunks::<CONTENTS_ENTRY_LEN>();
    if entries.0.len() != parts || !entries.1.is_empty() {
        return None;
    }
    let mut held = Vec::new();
    for (slab, bytes) in bytes[FIXED_LEN..table_end].chunks_exact(8).enumerate() {
        let generation = u64_at(bytes, 0);
        if generation > superblock.generation_bound {
            return None;
        }
        if generation > superblock.evicted_through {
            let state = if slab as u32 == open { SlabState::Growing } else { SlabState::Sealed };
            held.push((slab as u32, generation, state));
        }
    }
    let mut growing = Vec::new();
    if open != NO_SLAB {
        let settled_from = u32_at(bytes, 20);
        let limit = contents_start(superblock.slab_len, parts)?;
        let possible = (SLAB_DATA_START..=limit).contains(&cursor)
            && cursor.is_multiple_of(BLOCK_LEN as u32)
            && (SLAB_DATA_START..=cursor).contains(&settled_from);
        if !possible || !held.iter().any(|&(slab, ..)| slab == open) {
            return None;
        }
        let entries: Option<Vec<_>> =
            entries.0.iter().map(|bytes| ContentsEntry::decode(bytes, cursor)).collect();
        growing.push(Growing::restored(open, entries?, settled_from, cursor));
    }
    let next_generation = superblock.generation_bound + 1;
    let slabs = Slabs::restore(superblock.slabs, superblock.slab_len, next_generation, &held);
    let highest = Version { hlc: u64_at(bytes, 24), coordinator: u16_at(bytes, 32) };
    Some(Kept { slabs, growing, highest })
}
