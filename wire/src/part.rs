//! Parts: their header (one layout, on devices and in part messages), and what a coordinator asks of
//! a target. A local shard is asked with the same types that travel between members.

use std::ops::Range;

use smallvec::SmallVec;

use crate::limits::PART_HEADER_LEN;
use crate::time::Timestamp;
use crate::types::{AckLevel, Code, Key, KeyHash, Namespace, ObjectChecksum, Record, Version, wire_enum};

mod head;

use head::EXTENSION_PREFIX_LEN;
pub use head::{
    PART_HEADER_VERSION, PART_MAGIC, PartHead, PartHeadError, PartPlace, decode_part_head, encode_part_head,
    layout,
};

wire_enum! {
    /// What a record of an object is.
    PartKind {
        /// A part of the sole stripe of an object: commits it.
        Sole = 1,
        /// A copy of the head of an object of several stripes: commits it. Its payload is empty.
        Head = 2,
        /// A part of one stripe of an object that has a head.
        Stripe = 3,
        /// A delete. Its payload is empty.
        Tombstone = 4,
    }
}

/// Everything that is known of a part but its bytes and its place: enough to check it, to rebuild it
/// from its siblings, and to rebuild an index.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PartMeta {
    /// What the record is.
    pub kind: PartKind,
    /// Not to be evicted while anything unpinned is left.
    pub pinned: bool,
    /// The object's namespace.
    pub namespace: Namespace,
    /// The generation of the namespace at the time of writing; a flush of a namespace raises it.
    pub namespace_generation: u32,
    /// The object's full key.
    pub key: Key,
    /// Which record of the object this is.
    pub record: Record,
    /// The object's version.
    pub version: Version,
    /// Length of the whole object in bytes; [`PartMeta::OBJECT_LEN_UNKNOWN`] in a stripe that was
    /// written before the end of its object was known (the head has the length).
    pub object_len: u64,
    /// The writer's checksum of the whole object ([`ObjectChecksum::NONE`] in a `Stripe`).
    pub object_checksum: ObjectChecksum,
    /// Length of this record's stripe in bytes (0 for heads and tombstones).
    pub stripe_len: u32,
    /// Length of every stripe of the object but its last, in bytes.
    pub stripe_size: u32,
    /// The part's number: `0..k` are data, `k..n` parity. For heads and tombstones, the copy's number.
    pub part: u8,
    /// The code of the record. Heads and tombstones are copies: `k` is 1 there.
    pub code: Code,
    /// When the object was written, in milliseconds since the Unix epoch.
    pub created_ms: u64,
    /// When it expires, in milliseconds since the Unix epoch; 0 is never.
    pub expires_ms: u64,
    /// Which key encrypted the payload; 0 is none. Opaque to the daemon.
    pub encryption_key_id: u64,
    /// The nonce of the encryption. Opaque to the daemon.
    pub encryption_nonce: [u8; 12],
    /// Encoded tags (each a length byte and its bytes), at most [`TAGS_LEN_MAX`](crate::limits::TAGS_LEN_MAX) bytes.
    pub tags: SmallVec<[u8; 16]>,
}

impl PartMeta {
    /// `object_len` while an object's end is not known.
    pub const OBJECT_LEN_UNKNOWN: u64 = u64::MAX;

    /// The hash of the part's key.
    pub fn key_hash(&self) -> KeyHash {
        self.key.hash(self.namespace)
    }

    /// Length of the part's payload in bytes. 0 for heads and tombstones.
    pub fn part_len(&self) -> usize {
        match self.kind {
            PartKind::Head | PartKind::Tombstone => 0,
            PartKind::Sole | PartKind::Stripe => self.code.part_len(self.stripe_len as usize),
        }
    }

    /// The data parts that hold `range` of the stripe's bytes, in order, each with which of its own bytes those are.
    pub fn cuts(&self, range: Range<usize>) -> impl Iterator<Item = (u8, Range<usize>)> + Clone + use<> {
        let part_len = self.part_len();
        let numbers = match range.is_empty() {
            true => 0..0,
            false => range.start / part_len..range.end.div_ceil(part_len),
        };
        numbers.map(move |number| {
            let first = number * part_len;
            (number as u8, range.start.max(first) - first..range.end.min(first + part_len) - first)
        })
    }

    /// Stripes of the object: 0 when its length is not known.
    pub fn stripe_count(&self) -> u32 {
        if self.object_len == Self::OBJECT_LEN_UNKNOWN {
            return 0;
        }
        (self.object_len.div_ceil(u64::from(self.stripe_size.max(1)))).max(1) as u32
    }

    /// Whether the object has expired at `wall_ms`.
    pub fn expired(&self, wall_ms: u64) -> bool {
        self.expires_ms != 0 && self.expires_ms <= wall_ms
    }

    /// Length of the encoded head (header and extensions), in bytes.
    pub fn head_len(&self) -> usize {
        let tags = if self.tags.is_empty() { 0 } else { EXTENSION_PREFIX_LEN + self.tags.len() };
        PART_HEADER_LEN + EXTENSION_PREFIX_LEN + self.key.as_bytes().len() + tags
    }
}

/// Names a record of an object; `hash` is always the hash of `key` in `namespace`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RecordName {
    /// The object's namespace.
    pub namespace: Namespace,
    /// The object's key.
    pub key: Key,
    /// Its hash.
    pub hash: KeyHash,
    /// Which record.
    pub record: Record,
}

/// Asks a target for the part that it holds of a record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PartRead {
    /// Which record.
    pub name: RecordName,
    /// Only this version, if given: any other is answered [`PartAnswer::Other`].
    pub version: Option<Version>,
    /// Worthless after this.
    pub deadline: Timestamp,
}

/// Why a part is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WritePurpose {
    /// A client's put or delete.
    Put,
    /// To complete a version that exists: refused by a shard that holds anything newer, or that has
    /// forgotten anything newer.
    Repair,
}

/// Asks a target to store a part. The payload travels beside it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PartWrite {
    /// The part.
    pub meta: PartMeta,
    /// What the acknowledgement is to promise.
    pub ack: AckLevel,
    /// Put or repair.
    pub purpose: WritePurpose,
    /// Not to be written after this.
    pub deadline: Timestamp,
}

/// Asks a target to let a record go if it holds `version` or older. Names the record by hash: the
/// shard's index needs no more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PartDrop {
    /// Hash of the object's key.
    pub hash: KeyHash,
    /// Which record.
    pub record: Record,
    /// The newest version to let go.
    pub version: Version,
}

/// Asks a target how what it holds of a record stands to `version`. Answered from the index alone: the
/// device is not touched, so that the answer comes while it is stuck.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PartConfirm {
    /// Hash of the object's key.
    pub hash: KeyHash,
    /// Which record.
    pub record: Record,
    /// The version to be confirmed.
    pub version: Version,
    /// Worthless after this.
    pub deadline: Timestamp,
}

/// Tells a target that a record was used. Batched and lossy.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PartTouch {
    /// Hash of the object's key.
    pub hash: KeyHash,
    /// Which record.
    pub record: Record,
    /// The clock of the version that was used: a target that holds nothing as new has missed it.
    pub hlc: u64,
}

/// What a target holds, against the version it was asked about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// Something older.
    Older,
    /// That version.
    Same,
    /// Something newer.
    Newer,
    /// A version of the same clock. Whether it is that version, or an older or newer one that another
    /// coordinator gave in the same moment, the index does not tell: a read does.
    SameClock,
}

/// A target's answer to any part request. `B` is the handle of a payload, opaque to the coordinator.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PartAnswer<B> {
    /// To a read: a verified part (head and tombstone too; their payload is empty).
    Part {
        /// What it is.
        meta: PartMeta,
        /// Its bytes, verified.
        payload: B,
    },
    /// To a read of one version: the target holds another one.
    Other {
        /// The version that it holds.
        version: Version,
    },
    /// To a read or confirm: nothing is held of the record, and nothing above this was forgotten.
    Absent {
        /// The highest version that the shard ever evicted, expired or dropped, or may have held without
        /// knowing of it.
        forgotten_through: Version,
        /// It may have held, and knows nothing of it: its device was replaced, or is damaged. Nothing as
        /// new as that was let go since, and a repair of what is older is taken.
        unknown: bool,
    },
    /// To a confirm: what is held.
    Held(Standing),
    /// To a write, at its acknowledgement level (also when that version is held already).
    Stored,
    /// To a write: a newer version is held. To a repair: or was forgotten.
    Superseded {
        /// The newer version.
        version: Version,
    },
    /// To a drop: done (or nothing to do).
    Dropped,
    /// To a write: its version is more than the limit ahead of the shard's clock.
    ClockAhead {
        /// How far, in microseconds.
        ahead_us: u64,
    },
    /// To a read or confirm: what is stored failed a check. An erasure; the target still holds it, and takes
    /// a write of the same version in its place.
    Damaged,
    /// A bound was reached; nothing was done.
    Overloaded,
    /// The deadline had passed before the device was touched; nothing was done.
    Expired,
    /// The device failed, or the target is set aside.
    Failed,
}

impl<B> PartAnswer<B> {
    /// The same answer with its payload, if it has one, turned by `f`.
    pub fn map<C>(self, f: impl FnOnce(B) -> C) -> PartAnswer<C> {
        match self {
            PartAnswer::Part { meta, payload } => PartAnswer::Part { meta, payload: f(payload) },
            PartAnswer::Other { version } => PartAnswer::Other { version },
            PartAnswer::Absent { forgotten_through, unknown } => {
                PartAnswer::Absent { forgotten_through, unknown }
            }
            PartAnswer::Held(standing) => PartAnswer::Held(standing),
            PartAnswer::Stored => PartAnswer::Stored,
            PartAnswer::Superseded { version } => PartAnswer::Superseded { version },
            PartAnswer::Dropped => PartAnswer::Dropped,
            PartAnswer::ClockAhead { ahead_us } => PartAnswer::ClockAhead { ahead_us },
            PartAnswer::Damaged => PartAnswer::Damaged,
            PartAnswer::Overloaded => PartAnswer::Overloaded,
            PartAnswer::Expired => PartAnswer::Expired,
            PartAnswer::Failed => PartAnswer::Failed,
        }
    }
}
