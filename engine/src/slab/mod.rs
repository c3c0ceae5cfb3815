//! One shard's store of parts on a device or a file: a state machine without I/O, clock or randomness
//! of its own.
//!
//! Owns: the layout of the device ([`layout`], [`superblock`]), which slab is written to, what is
//! forgotten, and what an acknowledgement means. Never: a byte of an object that was not verified, a
//! block written twice within a generation of its slab, an answer after which a crash could bring back
//! something older.
//!
//! The way of a request: a method of [`Store`] takes it, [`Store::poll`] gives out device operations and
//! answers, [`Store::complete`] takes what the device did. `docs/format.md` shows the layouts in one
//! place and argues why recovery is right.
//!
//! | file | what it does |
//! |---|---|
//! | `store.rs` | takes events, hands out effects |
//! | `read.rs` | read and confirm: index, device, verify, answer |
//! | `append.rs` | admit a write and put it into the buffer that takes parts |
//! | `backlog.rs` | writes that wait until a slab is free |
//! | `commit.rs` | write buffers out, acknowledge, flush, seal |
//! | `slabs.rs` | which slab is what, and who reads it |
//! | `evict.rs` | let the oldest slab go, keep what is used |
//! | `lend.rs` | free slabs lent out to be written through |
//! | `damage.rs` | parts that failed a check |
//! | `persist.rs` | write the superblock: evictions, clean stop, probes of a failed device |
//! | `format.rs`, `recover.rs`, `recover_slabs.rs`, `table.rs`, `scan.rs` | open a device |
//! | `close.rs` | clean stop, and what its snapshot keeps |
//! | `exact.rs` | versions that need no header read |

mod append;
mod backlog;
mod close;
mod commit;
mod config;
mod damage;
#[cfg(any(test, feature = "sim"))]
pub(crate) mod device;
mod evict;
mod exact;
mod format;
pub mod index;
pub mod layout;
mod lend;
mod open_error;
mod persist;
mod read;
mod recover;
mod recover_slabs;
mod scan;
mod slabs;
pub mod snapshot;
mod stats;
mod store;
pub mod superblock;
mod table;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod verify;

use std::ops::Range;

use hedgerow_wire::part::PartAnswer;
use hedgerow_wire::{KeyHash, Record, Version};

pub use config::{ConfigError, StoreConfig};
pub use lend::LentSlab;
pub use open_error::OpenError;
pub use recover::{OpenProgress, Opening};
pub use stats::StoreStats;
pub use store::Store;
pub use verify::{Located, PartDamage};

/// Memory for device I/O; the shell's are DMA buffers, tests' are aligned vectors.
pub trait Buffers {
    /// Exclusively owned, block aligned.
    type Write: AsMut<[u8]> + AsRef<[u8]>;
    /// Shared, immutable: a completed device read, or a frozen write buffer.
    type Read: AsRef<[u8]> + Clone;
    /// A buffer of `len` bytes, a multiple of [`layout::BLOCK_LEN`]; zeroed is not promised.
    fn alloc(&mut self, len: usize) -> Self::Write;
    /// Cuts the buffer to its first `len` bytes (a multiple of the block length), no longer to be written
    /// to: how much of a buffer a commit fills is only known when it closes, and all of what is frozen is
    /// written to the device.
    fn freeze(&mut self, write: Self::Write, len: usize) -> Self::Read;
}

/// A part's verified payload: a range of a device buffer, which it keeps alive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payload<R> {
    buffer: R,
    start: u32,
    len: u32,
    checksum: u32,
}

impl<R: AsRef<[u8]>> Payload<R> {
    fn new(buffer: R, range: Range<usize>, checksum: u32) -> Payload<R> {
        debug_assert!(range.end <= buffer.as_ref().len());
        Payload { buffer, start: range.start as u32, len: range.len() as u32, checksum }
    }

    /// CRC-32C of the payload, verified.
    pub fn checksum(&self) -> u32 {
        self.checksum
    }

    /// The buffer that holds it.
    pub fn buffer(&self) -> &R {
        &self.buffer
    }

    /// Where in the buffer it is, in bytes.
    pub fn range(&self) -> Range<usize> {
        self.start as usize..(self.start + self.len) as usize
    }
}

impl<R: AsRef<[u8]>> AsRef<[u8]> for Payload<R> {
    fn as_ref(&self) -> &[u8] {
        &self.buffer.as_ref()[self.range()]
    }
}

/// Names a request; chosen by the shell, unique among those of a store that are not answered.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Token(pub u128);

/// Names a device operation; chosen by the store, never reused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct IoId(pub u64);

/// What a store wants done.
pub enum Effect<D: Buffers> {
    /// Read `len` bytes at `offset` of the device. Both are multiples of the block length.
    Read {
        /// To complete it by.
        io: IoId,
        /// Offset on the device, in bytes.
        offset: u64,
        /// Bytes.
        len: usize,
    },
    /// Write all of `buf` at `offset` of the device, block aligned.
    Write {
        /// To complete it by.
        io: IoId,
        /// Offset on the device, in bytes.
        offset: u64,
        /// The bytes; parts in it may be read meanwhile.
        buf: D::Read,
    },
    /// Make every completed write durable.
    Flush {
        /// To complete it by.
        io: IoId,
    },
    /// Advice: these bytes are no longer needed. Completed like the others; an error means nothing.
    Discard {
        /// To complete it by.
        io: IoId,
        /// Offset on the device, in bytes.
        offset: u64,
        /// Bytes.
        len: u64,
    },
    /// Answer a request.
    Answer {
        /// Which.
        token: Token,
        /// With what.
        answer: PartAnswer<Payload<D::Read>>,
    },
    /// These parts were let go to make room: for the home coordinators, which drop the siblings.
    Evicted(Vec<EvictedPart>),
}

/// A part that was let go to make room.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EvictedPart {
    /// Hash of the object's key.
    pub hash: KeyHash,
    /// Which record.
    pub record: Record,
    /// The version that was held.
    pub version: Version,
}

/// What the device did.
pub enum IoResult<D: Buffers> {
    /// Of [`Effect::Read`]: a buffer of the length asked for.
    Read(Result<D::Read, IoError>),
    /// Of the others.
    Done(Result<(), IoError>),
}

/// Why a device operation failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the device failed: {kind}, code {os} of the operating system")]
pub struct IoError {
    /// Its kind.
    pub kind: IoErrorKind,
    /// Code of the operating system (`errno`).
    pub os: i32,
}

/// Kinds of device errors that are told apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IoErrorKind {
    /// No room.
    NoSpace,
    /// The device is gone.
    Gone,
    /// Any other.
    Other,
}

impl std::fmt::Display for IoErrorKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            IoErrorKind::NoSpace => "no space",
            IoErrorKind::Gone => "it is gone",
            IoErrorKind::Other => "input/output error",
        })
    }
}

impl IoError {
    /// The error with this code of the operating system (Linux numbers).
    pub fn from_os(os: i32) -> IoError {
        const ENXIO: i32 = 6;
        const ENODEV: i32 = 19;
        const ENOSPC: i32 = 28;
        let kind = match os {
            ENOSPC => IoErrorKind::NoSpace,
            ENXIO | ENODEV => IoErrorKind::Gone,
            _ => IoErrorKind::Other,
        };
        IoError { kind, os }
    }
}
