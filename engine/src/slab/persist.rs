//! Flush, write the superblock, flush it.
//!
//! The first flush is for what takes the place of what the superblock lets go: newer versions, and parts that
//! eviction has put elsewhere. With the power they would else go, and the superblock that says that the old place
//! holds nothing might be there.
//!
//! One write at a time. A write that fails is made again to the same copy, so that of the three copies
//! never more than one is in doubt.

use hedgerow_wire::time::Now;

use super::close::Closing;
use super::layout::BLOCK_LEN;
use super::slabs::Slabs;
use super::store::{Io, Store};
use super::superblock::Superblock;
use super::{Buffers, Effect, IoError};

/// Generations that one superblock covers ahead: more than a device has slabs, all of which could be
/// opened before an eviction writes the superblock again.
pub(super) const GENERATIONS_AHEAD: u64 = 1 << 20;

const _: () = assert!(GENERATIONS_AHEAD > 2 * super::layout::SLABS_MAX as u64);

/// A superblock write under way.
pub(super) struct Persist {
    superblock: Superblock,
    purpose: Purpose,
    step: Step,
}

/// What the device is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    /// Making durable what was written before.
    FlushBefore,
    Write,
    FlushAfter,
}

/// What a superblock write is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Purpose {
    /// The oldest slab was let go, and may be used again after.
    Evict,
    /// To see whether a device that was set aside works again.
    Probe,
    /// The last thing of a clean stop.
    Close,
}

impl<D: Buffers> Store<D> {
    /// Starts a superblock write; none may be under way.
    pub(super) fn start_persist(&mut self, purpose: Purpose, evicted_through: u64) {
        assert!(self.persist.is_none(), "two superblock writes at a time");
        let sequence = self.superblock.sequence + 1;
        let superblock = Superblock {
            sequence,
            forgotten_through: self.forgotten_through,
            evicted_through,
            generation_bound: generation_bound(&self.superblock, &self.slabs),
            clean_nonce: if purpose == Purpose::Close { sequence } else { 0 },
            ..self.superblock
        };
        self.persist_step(Persist { superblock, purpose, step: Step::FlushBefore });
    }

    fn persist_step(&mut self, persist: Persist) {
        let (superblock, step) = (persist.superblock, persist.step);
        self.persist = Some(persist);
        let io = self.start(Io::Persist);
        if step != Step::Write {
            return self.out.push_back(Effect::Flush { io });
        }
        let buf = encode(&mut self.buffers, &superblock);
        self.counters.superblock_writes += 1;
        self.counters.bytes_written += BLOCK_LEN as u64;
        self.out.push_back(Effect::Write { io, offset: superblock.offset(), buf });
    }

    /// Tries a device that was set aside.
    pub(super) fn start_probe(&mut self) {
        if self.persist.is_none() && !self.closed() {
            self.start_persist(Purpose::Probe, self.superblock.evicted_through);
        }
    }

    /// A flush or the write is done.
    pub(super) fn persist_step_done(&mut self, result: Result<(), IoError>, now: Now) {
        let Some(persist) = self.persist.take() else { panic!("no superblock write is under way") };
        if let Err(error) = result {
            self.write_failed(error, now);
            return self.persist_failed(persist.purpose, now);
        }
        let next = match persist.step {
            Step::FlushBefore => Some(Step::Write),
            Step::Write => Some(Step::FlushAfter),
            Step::FlushAfter => None,
        };
        if let Some(step) = next {
            return self.persist_step(Persist { step, ..persist });
        }
        self.superblock = persist.superblock;
        self.health.write_errors = 0;
        match persist.purpose {
            Purpose::Evict => self.slab_left(),
            Purpose::Probe if self.health.stuck => {}
            Purpose::Probe => {
                self.health.probe_at = None;
                self.health.read_errors = 0;
            }
            Purpose::Close => self.closing = Closing::Closed { clean: true },
        }
    }

    fn persist_failed(&mut self, purpose: Purpose, now: Now) {
        match purpose {
            // The eviction starts it again as soon as the shard is not set aside.
            Purpose::Evict => {}
            Purpose::Probe => self.set_aside(now),
            Purpose::Close => self.closing = Closing::Closed { clean: false },
        }
    }
}

/// The bound for the next superblock.
pub(super) fn generation_bound(superblock: &Superblock, slabs: &Slabs) -> u64 {
    superblock.generation_bound.max(slabs.next_generation() + GENERATIONS_AHEAD)
}

/// The block of a superblock.
pub(super) fn encode<D: Buffers>(buffers: &mut D, superblock: &Superblock) -> D::Read {
    let mut block = buffers.alloc(BLOCK_LEN);
    superblock.encode(block.as_mut());
    buffers.freeze(block, BLOCK_LEN)
}
