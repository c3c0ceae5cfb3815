//! What a key's home is asked, and what it answers.

use std::ops::Range;
use std::sync::Arc;

use hedgerow_wire::frame::{FrameHeader, Status};
use hedgerow_wire::messages::PartState;
use hedgerow_wire::part::{PartMeta, RecordName};
use hedgerow_wire::time::Timestamp;
use hedgerow_wire::{AckLevel, Code, KeyHash, ObjectChecksum, ReadPolicy, Record, Target, Version};
use smallvec::SmallVec;

use crate::shell::buffers::{PartBytes, SharedBytes};
use crate::slab::Located;

/// A read of one record.
pub struct ReadCall {
    /// Which.
    pub name: RecordName,
    /// The version, code and stripe length that the object's head has fixed (stripes of an object with a head).
    pub fixed: Option<(Version, Code, u32)>,
    /// Bytes wanted: offset and length, in the object for the object record, else in the stripe.
    /// [`FrameHeader::TO_END`] for all that follow.
    pub range: (u64, u64),
    /// How to ask for parts.
    pub policy: ReadPolicy,
    /// A miss rather than an unconfirmed answer.
    pub strict: bool,
    /// Keys of this namespace never change.
    pub immutable: bool,
    /// It decides a conditional write.
    pub for_condition: bool,
    /// To be answered by then.
    pub deadline: Timestamp,
}

impl ReadCall {
    /// Whether all of the record is wanted.
    pub fn whole(&self) -> bool {
        self.range == (0, FrameHeader::TO_END)
    }
}

/// When a write is to be done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Condition {
    /// Always.
    None,
    /// If the object has this version; [`Version::ZERO`] if there is no object.
    IfVersion(Version),
    /// If there is no object; otherwise the write has been done already (immutable namespaces).
    Immutable,
}

/// What a client says about an object that it writes.
#[derive(Clone, Debug)]
pub struct ObjectMeta {
    /// Namespace, key and hash; the record is set by each call.
    pub name: RecordName,
    /// Expiry in milliseconds since the Unix epoch; 0 is never.
    pub expires_ms: u64,
    /// Kept as long as anything unpinned is left to evict.
    pub pinned: bool,
    /// Only then.
    pub condition: Condition,
    /// What the acknowledgement promises.
    pub ack: AckLevel,
    /// To be answered by then.
    pub deadline: Timestamp,
}

/// A stripe's bytes on their way in.
#[derive(Clone)]
pub struct StripeBytes {
    /// The stripe, padded with zeroes to `k` parts.
    pub data: Arc<Vec<u8>>,
    /// Length of the stripe without padding.
    pub len: usize,
    /// CRC-32C of the stripe without padding.
    pub checksum: u32,
    /// The code that the padding is for.
    pub code: Code,
}

/// A call to a key's home.
pub enum Call {
    /// Read a record.
    Read(ReadCall),
    /// Write an object of one stripe.
    PutSole { object: ObjectMeta, stripe: StripeBytes, checksum: ObjectChecksum },
    /// The version for an object of several stripes that is about to be written; checks its condition.
    BeginPut { object: ObjectMeta },
    /// Write one stripe of it.
    PutStripe { object: ObjectMeta, version: Version, index: u32, stripe: StripeBytes },
    /// Commit it.
    PutHead { object: ObjectMeta, version: Version, object_len: u64, checksum: ObjectChecksum },
    /// An object of several stripes will not be committed.
    EndPut { hash: KeyHash, version: Version },
    /// A stripe of this version is gone: what is left of the object is let go, so that it can be written
    /// again.
    Forget { hash: KeyHash, version: Version },
    /// Delete an object.
    Delete { object: ObjectMeta },
    /// Where an object's parts are.
    Stat { read: ReadCall },
}

/// A piece of a body: a range of a part's or stripe's bytes.
#[derive(Clone)]
pub struct Piece<B> {
    /// The bytes that it is a range of.
    pub bytes: B,
    /// Which of them.
    pub range: Range<usize>,
    /// CRC-32C of the range.
    pub checksum: u32,
}

impl<B: AsRef<[u8]>> Piece<B> {
    /// The piece's bytes.
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes.as_ref()[self.range.clone()]
    }
}

/// The pieces of one stripe's answer, in order.
pub type Pieces<B> = SmallVec<[Piece<B>; 4]>;

/// A record that was read.
pub struct RecordReply<B> {
    /// What it is. `part` means nothing here.
    pub meta: Arc<PartMeta>,
    /// The bytes asked for; none for a head.
    pub pieces: Pieces<B>,
    /// The version is confirmed.
    pub confirmed: bool,
    /// It came from the memory tier.
    pub from_memory: bool,
}

/// Where the parts of one record are.
#[derive(Clone, Debug)]
pub struct RecordPosition {
    /// Which record.
    pub record: Record,
    /// Length of its stripe in bytes.
    pub stripe_len: u32,
    /// How it is coded.
    pub code: Code,
    /// What its targets say, in their order.
    pub parts: Vec<PartPosition>,
}

/// What one target says of one record.
#[derive(Clone, Debug)]
pub struct PartPosition {
    /// Which target.
    pub target: Target,
    /// The part that it holds.
    pub meta: Option<PartMeta>,
    /// Where on the device it lies.
    pub located: Option<Located>,
    /// Whether it is a part of the object's version, or why there is none.
    pub state: PartState,
}

/// What a key's home answers.
pub enum Reply<B> {
    /// To a read.
    Record(RecordReply<B>),
    /// To a write or delete. `unchanged`: nothing was written, the object was there already.
    Written { version: Version, unchanged: bool },
    /// To [`Call::BeginPut`].
    Version(Version),
    /// To [`Call::EndPut`] and [`Call::Forget`].
    Noted,
    /// To [`Call::Stat`].
    Stat { record: RecordReply<B>, records: Vec<RecordPosition> },
    /// To a write: the object has this newer or other version.
    Conflict { status: Status, version: Version },
    /// The range is outside of the object.
    OutOfRange { object_len: u64 },
    /// Anything else.
    Status(Status),
}

impl Reply<PartBytes> {
    /// The reply in a form that may leave this core; copies what lies in device buffers.
    pub fn into_sendable(self) -> Reply<SharedBytes> {
        self.map(PartBytes::into_shared)
    }
}

impl<B> Reply<B> {
    /// The same reply with the bytes of its pieces turned by `f`.
    pub fn map<C>(self, f: impl Fn(B) -> C) -> Reply<C> {
        let record = |record: RecordReply<B>| RecordReply {
            pieces: record
                .pieces
                .into_iter()
                .map(|piece| Piece { bytes: f(piece.bytes), range: piece.range, checksum: piece.checksum })
                .collect(),
            meta: record.meta,
            confirmed: record.confirmed,
            from_memory: record.from_memory,
        };
        match self {
            Reply::Record(found) => Reply::Record(record(found)),
            Reply::Stat { record: found, records } => Reply::Stat { record: record(found), records },
            Reply::Written { version, unchanged } => Reply::Written { version, unchanged },
            Reply::Version(version) => Reply::Version(version),
            Reply::Noted => Reply::Noted,
            Reply::Conflict { status, version } => Reply::Conflict { status, version },
            Reply::OutOfRange { object_len } => Reply::OutOfRange { object_len },
            Reply::Status(status) => Reply::Status(status),
        }
    }
}
