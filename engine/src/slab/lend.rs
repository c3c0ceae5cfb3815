//! Free slabs that are lent out, to be written through: the first write to a block of a file that is only
//! allocated costs the file system more than later ones.
//!
//! Invariant: a slab that is lent takes no parts until it is back. A crash meanwhile leaves a slab that never
//! held anything, blank or not.

use super::Buffers;
use super::close::Closing;
use super::layout::slab_start;
use super::store::Store;

/// A slab that is lent: nothing of it is read or written by the store. To be given back with
/// [`Store::take_back`]; one that is not is missing until the next start.
#[derive(Debug)]
#[must_use]
pub struct LentSlab {
    slab: u32,
    /// Where it begins on the device, in bytes; a multiple of the block length, like its length.
    pub offset: u64,
    /// Its length in bytes.
    pub len: u64,
}

impl<D: Buffers> Store<D> {
    /// Lends a free slab that never held anything since the device was opened, each once if it is used, as long as more
    /// are free than eviction keeps.
    pub fn lend(&mut self) -> Option<LentSlab> {
        if self.closing != Closing::Open || self.health.stuck || self.health.probe_at.is_some() {
            return None;
        }
        let slab = self.slabs.lend(self.config.free_slabs_target + 1)?;
        let slab_len = self.slabs.slab_len();
        Some(LentSlab { slab, offset: slab_start(slab, slab_len), len: u64::from(slab_len) })
    }

    /// Takes a slab back; it must hold zeroes, or what it held before. It is lent again if it was not `used`.
    pub fn take_back(&mut self, lent: LentSlab, used: bool) {
        self.slabs.take_back(lent.slab, used);
    }
}
