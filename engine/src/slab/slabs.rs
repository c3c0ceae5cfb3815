//! Which slab is what: free, growing, sealed, on its way out; and who still reads it.
//!
//! Invariant: slabs are let go strictly in the order of their generations, so that one number
//! (`evicted_through`) says of each slab whether it holds anything.

use std::collections::VecDeque;

use super::index::Entry;
use super::layout::{BLOCK_LEN, SLAB_DATA_START, block_start};

/// What a slab is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum SlabState {
    /// Can be written to.
    Free,
    /// Holds nothing, and is somebody else's for a while: not to be written to.
    Lent,
    /// Takes parts, or waits for its contents table.
    Growing,
    /// Complete.
    Sealed,
    /// Holds nothing any more, but may still be read, or being discarded: not to be written to.
    Leaving,
}

#[derive(Clone, Copy, Debug)]
struct Slab {
    generation: u64,
    readers: u32,
    state: SlabState,
    /// Was lent once.
    lent: bool,
}

impl Slab {
    fn new(generation: u64, state: SlabState) -> Slab {
        Slab { generation, readers: 0, state, lent: false }
    }
}

/// The slabs of a device.
#[derive(Debug)]
pub(super) struct Slabs {
    slab_len: u32,
    slabs: Vec<Slab>,
    free: VecDeque<u32>,
    /// Growing and sealed slabs, oldest first.
    order: VecDeque<u32>,
    discarding: u32,
    next_generation: u64,
}

impl Slabs {
    /// All free.
    pub(super) fn new(count: u32, slab_len: u32, next_generation: u64) -> Slabs {
        let free = Slab::new(0, SlabState::Free);
        Slabs {
            slab_len,
            slabs: vec![free; count as usize],
            free: (0..count).collect(),
            order: VecDeque::new(),
            discarding: 0,
            next_generation,
        }
    }

    /// As a device was found: the slabs that hold something, each with its generation.
    pub(super) fn restore(
        count: u32,
        slab_len: u32,
        next_generation: u64,
        held: &[(u32, u64, SlabState)],
    ) -> Slabs {
        let mut slabs = Slabs::new(count, slab_len, next_generation);
        let mut held = held.to_vec();
        held.sort_by_key(|&(_, generation, _)| generation);
        for &(slab, generation, state) in &held {
            slabs.slabs[slab as usize] = Slab::new(generation, state);
        }
        slabs.order = held.iter().map(|&(slab, ..)| slab).collect();
        slabs.free.retain(|&slab| slabs.slabs[slab as usize].state == SlabState::Free);
        slabs
    }

    pub(super) fn count(&self) -> u32 {
        self.slabs.len() as u32
    }

    pub(super) fn slab_len(&self) -> u32 {
        self.slab_len
    }

    pub(super) fn free_count(&self) -> u32 {
        self.free.len() as u32
    }

    pub(super) fn next_generation(&self) -> u64 {
        self.next_generation
    }

    pub(super) fn generation(&self, slab: u32) -> u64 {
        self.slabs[slab as usize].generation
    }

    pub(super) fn state(&self, slab: u32) -> SlabState {
        self.slabs[slab as usize].state
    }

    /// Offset on the device of `offset` in `slab`, in bytes.
    pub(super) fn device_offset(&self, slab: u32, offset: u32) -> u64 {
        super::layout::slab_start(slab, self.slab_len) + u64::from(offset)
    }

    /// Whether a part can lie where `entry` says: within a slab that holds something.
    pub(super) fn may_hold(&self, entry: &Entry) -> bool {
        let end = u64::from(block_start(entry.offset)) + u64::from(entry.blocks) * BLOCK_LEN as u64;
        let held = self.slabs.get(entry.slab as usize).is_some_and(|slab| slab.state != SlabState::Free);
        held && entry.offset >= SLAB_DATA_START && end <= u64::from(self.slab_len)
    }

    /// Takes the slab that was free for longest, with a new generation.
    pub(super) fn open(&mut self) -> Option<u32> {
        let slab = self.free.pop_front()?;
        let entry = &mut self.slabs[slab as usize];
        assert!(
            entry.state == SlabState::Free && entry.readers == 0,
            "slab {slab} is to be written to and is {entry:?}"
        );
        *entry = Slab::new(self.next_generation, SlabState::Growing);
        self.next_generation += 1;
        self.order.push_back(slab);
        Some(slab)
    }

    /// Lends the next slab that never held anything, once each if it is used, if more than `keep` are free.
    pub(super) fn lend(&mut self, keep: u32) -> Option<u32> {
        if self.free_count() <= keep {
            return None;
        }
        let blank = |&slab: &u32| {
            let entry = &self.slabs[slab as usize];
            entry.generation == 0 && !entry.lent
        };
        let slab = self.free.remove(self.free.iter().position(blank)?)?;
        let entry = &mut self.slabs[slab as usize];
        (entry.state, entry.lent) = (SlabState::Lent, true);
        Some(slab)
    }

    /// Takes a slab back that was lent: the next one to be written to. One that was not `used` may be lent again.
    pub(super) fn take_back(&mut self, slab: u32, used: bool) {
        let entry = &mut self.slabs[slab as usize];
        assert!(entry.state == SlabState::Lent, "slab {slab} is given back and is {entry:?}");
        (entry.state, entry.lent) = (SlabState::Free, used);
        self.free.push_front(slab);
    }

    /// Its contents table is written, or never will be.
    pub(super) fn seal(&mut self, slab: u32) {
        let entry = &mut self.slabs[slab as usize];
        assert!(entry.state == SlabState::Growing, "slab {slab} is to be sealed and is {entry:?}");
        entry.state = SlabState::Sealed;
    }

    /// The oldest slab, if it is complete: the next one to be let go.
    pub(super) fn oldest_sealed(&self) -> Option<u32> {
        let slab = *self.order.front()?;
        (self.state(slab) == SlabState::Sealed).then_some(slab)
    }

    /// Slabs that are free as soon as the device has taken an advice. Those that wait for a reader are not
    /// among them: a read that never comes back must not stop the eviction.
    pub(super) fn discarding_count(&self) -> u32 {
        self.discarding
    }

    /// The device is told about a slab that has left; [`Slabs::discarded`] when it was.
    pub(super) fn discard(&mut self) {
        self.discarding += 1;
    }

    /// The device was told about `slab`.
    pub(super) fn discarded(&mut self, slab: u32) {
        self.discarding -= 1;
        self.free(slab);
    }

    /// The oldest slab holds nothing any more.
    pub(super) fn leave(&mut self, slab: u32) {
        assert!(self.order.front() == Some(&slab), "slab {slab} is let go before an older one");
        self.order.pop_front();
        self.slabs[slab as usize].state = SlabState::Leaving;
    }

    /// Frees a slab that has left; only when nobody reads it ([`Slabs::readers`]).
    pub(super) fn free(&mut self, slab: u32) {
        let entry = &mut self.slabs[slab as usize];
        assert!(
            entry.state == SlabState::Leaving && entry.readers == 0,
            "slab {slab} is to be free and is {entry:?}"
        );
        entry.state = SlabState::Free;
        self.free.push_back(slab);
    }

    /// Device reads of the slab under way.
    pub(super) fn readers(&self, slab: u32) -> u32 {
        self.slabs[slab as usize].readers
    }

    /// A device read of the slab begins: until [`Slabs::unpin`] it is not written to again.
    pub(super) fn pin(&mut self, slab: u32) {
        self.slabs[slab as usize].readers += 1;
    }

    /// A device read of the slab is over.
    pub(super) fn unpin(&mut self, slab: u32) {
        self.slabs[slab as usize].readers -= 1;
    }

    /// The slabs that hold something, oldest first.
    pub(super) fn held(&self) -> impl Iterator<Item = (u32, u64, SlabState)> + '_ {
        self.order.iter().map(|&slab| (slab, self.generation(slab), self.state(slab)))
    }
}
