//! The words of the coordinator's door: requests in, actions out.

use std::ops::Range;

use hedgerow_wire::part::{PartConfirm, PartDrop, PartMeta, PartRead, PartTouch, RecordName, WritePurpose};
use hedgerow_wire::time::Timestamp;
use hedgerow_wire::types::{AckLevel, Code, ReadPolicy, Target, Version};
use smallvec::SmallVec;

/// One operation of a coordinator: a read, a write, or a repair that the coordinator began itself.
/// Never given twice by one coordinator (a slot's generation is part of it).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct OpId(pub u64);

/// One request to one target that is to be answered with [`super::Coordinator::answer`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct AskId(pub u64);

/// Parts of one version: number and payload handle, in the order of their numbers, all distinct.
pub type Parts<B> = SmallVec<[(u8, B); 8]>;

/// Reads one record of an object.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReadRequest {
    /// Which record.
    pub name: RecordName,
    /// Only this version, if given. It was fixed by the object's head, so it needs no confirmations.
    pub version: Option<Version>,
    /// The code that the record is thought to have; without it the configured one is expected.
    pub code_hint: Option<Code>,
    /// Length of the record's stripe in bytes, if known (of a stripe of an object with a head it is).
    /// With `code_hint` and `range` only the data parts that the range touches are asked for at
    /// first; it also sharpens what counts as late.
    pub stripe_len: Option<u32>,
    /// Bytes of the stripe that are wanted, if not all: the data parts that overlap them suffice.
    pub range: Option<Range<u32>>,
    /// How parts are asked for.
    pub policy: ReadPolicy,
    /// Rather a miss than an answer that could not be confirmed.
    pub strict: bool,
    /// The namespace is immutable: any version found is right and needs no confirmations.
    pub immutable: bool,
    /// The outcome is emitted before this.
    pub deadline: Timestamp,
}

/// Writes one record of an object (or a tombstone) to all of its targets.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WriteRequest {
    /// Meta of part 0; the others differ in `part` only. Of a tombstone, `code` is that of
    /// [`super::Coordinator::tombstone_code`].
    pub meta: PartMeta,
    /// What the acknowledgement is to promise.
    pub ack: AckLevel,
    /// The outcome is emitted before this.
    pub deadline: Timestamp,
}

/// What the shell has to do. Asks are answered with [`super::Coordinator::answer`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action<B> {
    /// Read a part.
    AskRead {
        /// Answer under this.
        ask: AskId,
        /// Whom to ask.
        target: Target,
        /// What.
        read: PartRead,
    },
    /// Write part `part` of what the shell holds under `op`.
    AskWrite {
        /// Answer under this.
        ask: AskId,
        /// The write, or the repair of [`Action::Rebuild`].
        op: OpId,
        /// Whom to ask.
        target: Target,
        /// Number of the part.
        part: u8,
        /// Put or repair.
        purpose: WritePurpose,
        /// Not to be written after this.
        deadline: Timestamp,
        /// What the answer `Stored` is to promise.
        ack: AckLevel,
    },
    /// Ask how what a target holds stands to a version.
    AskConfirm {
        /// Answer under this.
        ask: AskId,
        /// Whom to ask.
        target: Target,
        /// What.
        confirm: PartConfirm,
    },
    /// Drop records. Not answered; may be lost.
    AskDrop {
        /// Whom to ask.
        target: Target,
        /// What; at most [`super::limits::DROP_BATCH_MAX`].
        drops: Vec<PartDrop>,
    },
    /// Tell of uses. Not answered (but see [`super::Coordinator::touch_missed`]); may be lost.
    Touch {
        /// Whom to tell.
        target: Target,
        /// Of what; at most [`super::limits::TOUCH_BATCH_MAX`].
        touches: Vec<PartTouch>,
    },
    /// The answer is no longer wanted. The ask is in flight all the same until it is answered: the
    /// shell answers it when the target is done with it (with whatever came, or `Expired`).
    Withdraw {
        /// The ask.
        ask: AskId,
        /// Who was asked.
        target: Target,
    },
    /// The final outcome of a read; `op` is gone.
    ReadDone {
        /// The read.
        op: OpId,
        /// Its outcome.
        outcome: ReadOutcome<B>,
    },
    /// The final outcome of a write; its payloads are needed until [`Action::Release`].
    WriteDone {
        /// The write.
        op: OpId,
        /// Its outcome.
        outcome: WriteOutcome,
    },
    /// The payloads of this write or repair are no longer needed, and `op` is gone. The last action
    /// of every write and every repair.
    Release {
        /// The write or repair.
        op: OpId,
    },
    /// Reconstruct parts `want` from `have`, keep them under `op`, then call
    /// [`super::Coordinator::rebuilt`]. `op` is one that the shell has not seen before.
    Rebuild {
        /// A repair of the coordinator's own.
        op: OpId,
        /// Meta of the record (`part` is that of one of `have`).
        meta: PartMeta,
        /// At least k parts.
        have: Parts<B>,
        /// Numbers of the parts that will be written.
        want: SmallVec<[u8; 8]>,
    },
}

/// Why a read missed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Miss {
    /// So many targets hold nothing of the record that none was acknowledged, unless it was evicted.
    Absent,
    /// A tombstone of this version was found.
    Deleted(Version),
    /// A version was seen of which too few parts exist, and so many targets hold nothing else that no
    /// other was acknowledged, unless that one took its place.
    Incomplete(Version),
    /// The read was strict, and this version could not be confirmed.
    Unconfirmed(Version),
}

/// The final outcome of a read.
#[expect(clippy::large_enum_variant, reason = "the large one is the usual one: a box would cost each read")]
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ReadOutcome<B> {
    /// Parts that suffice for what was asked: k of them, or the data parts that overlap the range.
    Found {
        /// Meta of one of the parts. Its expiry and namespace generation are not judged here.
        meta: PartMeta,
        /// The parts, data parts first choice.
        parts: Parts<B>,
        /// No acknowledged newer version existed when the read began. Always true where the version
        /// was given or the namespace is immutable.
        confirmed: bool,
    },
    /// A miss.
    NotFound {
        /// Why.
        why: Miss,
    },
    /// Too many targets failed, or could not say.
    Unavailable {
        /// Parts that were had of the newest version seen.
        have: u8,
        /// Parts that would have been needed.
        need: u8,
    },
    /// Too few parts came in time.
    DeadlineExceeded,
    /// A bound was reached: of operations of this coordinator, or of asks in flight at the targets.
    Overloaded,
}

impl<B> ReadOutcome<B> {
    /// The version that no later read of the object may go behind: what was found and is confirmed, or a
    /// tombstone. (To an ordinary read one is a miss unconfirmed, too: nothing older is worth keeping then.)
    pub fn floor(&self) -> Option<Version> {
        match self {
            ReadOutcome::Found { meta, confirmed: true, .. } => Some(meta.version),
            ReadOutcome::NotFound { why: Miss::Deleted(version) } => Some(*version),
            _ => None,
        }
    }
}

/// The final outcome of a write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WriteOutcome {
    /// The write quorum holds the version at the acknowledgement level.
    Acknowledged {
        /// The version.
        version: Version,
        /// Parts known to be stored when the quorum was reached.
        stored: u8,
    },
    /// A newer version is there.
    Superseded {
        /// The newer version.
        version: Version,
    },
    /// The quorum was not reached, but enough may have been stored for a read to find the version (now, later, or
    /// never), or not to find the former one.
    Indeterminate,
    /// The deadline had passed before anything was sent.
    DeadlineExceeded,
    /// Too many targets refused for want of room: no read will find the version, and enough of a former one is left.
    Overloaded,
    /// Too many shards find the version too far ahead of their clocks; otherwise as `Overloaded`.
    ClockAhead {
        /// The furthest that was answered, in microseconds.
        ahead_us: u64,
    },
}
