//! What the judge may know of the world beside the answers: what was lost where, what was let go, and
//! whether every bound holds. Nothing that would make its judgement depend on the code under test.

use hedgerow_wire::frame::Status;
use hedgerow_wire::time::Timestamp;
use hedgerow_wire::types::{Target, Version};

use crate::coordinator::Miss;

/// What a client got for a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// The put or delete is acknowledged.
    Written {
        /// Its version.
        version: Version,
    },
    /// `VersionMismatch` or `Superseded`.
    Conflict {
        /// Which.
        status: Status,
        /// The version that there is.
        version: Version,
    },
    /// Bytes.
    Found(Found),
    /// `NotFound`; why, unless it expired.
    Miss(Option<Miss>),
    /// The range begins beyond the end.
    OutOfRange {
        /// The object's length in bytes.
        object_len: u64,
    },
    /// Any other status.
    Status(Status),
    /// The connection broke: the member died.
    Broken,
    /// The client cancelled it.
    Cancelled,
}

/// The object, or the range of it, that a get found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Found {
    /// Its version.
    pub version: Version,
    /// Length of the object in bytes.
    pub object_len: u64,
    /// The bytes that were asked for.
    pub bytes: Vec<u8>,
    /// `UNCONFIRMED` is not set.
    pub confirmed: bool,
    /// From the memory tier.
    pub from_memory: bool,
}

/// A target lost something.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Loss {
    /// When.
    pub at: Timestamp,
    /// What.
    pub kind: LossKind,
}

/// What a target loses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LossKind {
    /// What was in the memory of its process only: it died, or could not write it.
    Memory,
    /// What was not flushed: the power went.
    Unflushed,
    /// Something that it finds to be lost when it looks: damaged, or unreadable.
    Noticed,
    /// Everything: its device is another one, and blank.
    Blank,
    /// Something that it cannot know of: its device said that it was done.
    Unnoticed,
}

/// What a target holds of a key's object record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Held {
    /// Nothing.
    Nothing,
    /// A part, with a right checksum on the device.
    Whole {
        /// Of this version.
        version: Version,
        /// Number of the part.
        part: u8,
    },
    /// Something that cannot be read.
    Damaged,
    /// The target does not serve.
    Away,
}

/// What the judge may know.
pub trait Facts {
    /// The first n targets of a key in the order of the ring, n of the configured code.
    fn targets(&self, key: u16) -> Vec<Target>;
    /// What a target lost, in the order of time.
    fn losses(&self, target: Target) -> &[Loss];
    /// The highest version of a key that a target evicted or let go as expired; [`Version::ZERO`] for
    /// none. (What is dropped because another target evicted it counts there.)
    fn let_go(&self, target: Target, key: u16) -> Version;
    /// The clock of the highest version, of any key, that a target says to have forgotten: it takes no repair of
    /// what is not newer.
    fn forgotten_hlc(&self, target: Target) -> u64;
    /// What a target holds of a key at this moment.
    fn held(&self, target: Target, key: u16) -> Held;
    /// Whether the key's home stood still, or was not there, at any time from `from` to `to`.
    fn home_was_away(&self, key: u16, from: Timestamp, to: Timestamp) -> bool;
    /// Every bound that is exceeded at this moment.
    fn beyond_bounds(&self) -> Vec<String>;
    /// What is still taken of what has to be given back: asks, pins, permits, operations. Asked when the
    /// world is idle.
    fn leaks(&self) -> Vec<String>;
}
