//! Verification: which parts are held, and whether their bytes are right. Reads nothing itself: whoever
//! verifies reads the ranges named here and hands the bytes back.

use hedgerow_wire::part::PartHead;

use super::index::Entry;
use super::layout::{BLOCK_LEN, block_start, slab_start};
use super::read::{Fault, verify_head, verify_payload};
use super::store::Store;
use super::{Buffers, KeyHash, Record};

/// A part that the index holds, and where on the device its bytes are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Located {
    entry: Entry,
    /// Generation of its slab.
    pub slab_generation: u64,
    /// Offset on the device in bytes, block aligned.
    pub offset: u64,
    /// Bytes from there that hold the part.
    pub len: usize,
}

impl Located {
    /// Slab in which the part lies.
    pub fn slab(&self) -> u32 {
        self.entry.slab
    }

    /// Offset in the slab, in bytes.
    pub fn slab_offset(&self) -> u32 {
        self.entry.offset
    }

    /// Offset of the part in the bytes that hold it.
    pub fn offset_in_bytes(&self) -> usize {
        (self.entry.offset - block_start(self.entry.offset)) as usize
    }
}

/// What is wrong with a part.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PartDamage {
    /// Its head is not what was written there.
    #[error("its head is damaged, or not the one that was written there")]
    Head,
    /// Its payload has another checksum.
    #[error("its payload does not have the checksum that its head gives")]
    Payload,
}

impl<D: Buffers> Store<D> {
    /// Parts in `count` buckets of the index from position `cursor` on (0 to begin); and the cursor to go
    /// on with, nothing at the end. Parts that come or go meanwhile may be missed.
    pub fn locate_parts(&self, cursor: u64, count: u64) -> (Vec<Located>, Option<u64>) {
        let buckets = self.index.bucket_count() as u64;
        let end = cursor.saturating_add(count).min(buckets);
        let entries = (cursor..end).flat_map(|bucket| self.index.bucket_entries(bucket as usize));
        (entries.map(|entry| self.located(entry)).collect(), (end < buckets).then_some(end))
    }

    /// Where what is held of a record lies, for people.
    pub fn locate(&self, hash: KeyHash, record: Record) -> Option<Located> {
        self.lookup(hash, record).map(|entry| self.located(entry))
    }

    fn located(&self, entry: Entry) -> Located {
        let start = slab_start(entry.slab, self.superblock.slab_len);
        let offset = start + u64::from(block_start(entry.offset));
        let slab_generation = self.place(entry.slab, entry.offset).slab_generation;
        Located { entry, slab_generation, offset, len: usize::from(entry.blocks) * BLOCK_LEN }
    }

    /// Checks the bytes of a part. `None` if the part has been let go, or has moved, meanwhile.
    pub fn verify_part(&self, part: &Located, bytes: &[u8]) -> Option<Result<PartHead, PartDamage>> {
        let entry = part.entry;
        let at = part.offset_in_bytes();
        let head = verify_head(bytes, at, &self.place(entry.slab, entry.offset));
        let checked = head.and_then(|head| verify_payload(bytes, at, &head).map(|_| head));
        match checked {
            Ok(head) => Some(Ok(head)),
            // The slab may have been let go since: only what the index still points to is damaged.
            Err(_) if !self.index.points_to(entry.slab, entry.offset) => None,
            Err(Fault::Head) => Some(Err(PartDamage::Head)),
            Err(Fault::Payload) => Some(Err(PartDamage::Payload)),
        }
    }
}
