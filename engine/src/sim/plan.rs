//! A plan: everything that a run of the simulated world does. The world draws latencies and other
//! small chances from the plan's seed; what clients ask and what breaks stands here, so that a plan
//! can be shortened and still be run.

mod draw;

use std::time::Duration;

use hedgerow_wire::time::Timestamp;
use hedgerow_wire::types::{AckLevel, Code, ReadPolicy};

/// Reads that ask every target, until what is missing of an object is certain to have been noticed: each ends
/// with the answers that it needs, and may miss a third of the others.
pub const READS_THAT_COMPLETE: u32 = 12;

/// A run of the simulated world.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Plan {
    /// Where the world's own chances come from.
    pub seed: u64,
    /// The cache.
    pub shape: Shape,
    /// What clients ask, in the order of their times.
    pub ops: Vec<ClientOp>,
    /// What goes wrong, in the order of their times.
    pub faults: Vec<FaultEvent>,
    /// From here on nothing goes wrong, and every key is read so that what is readable is completed.
    pub calm_at: Timestamp,
}

/// The cache that a run simulates.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shape {
    /// Members, each with a clock, a memory tier and a coordinator of its own.
    pub members: u8,
    /// Shards (targets) of each member.
    pub shards_per_member: u8,
    /// The configured code.
    pub code: Code,
    /// Slabs of each shard.
    pub slabs: u32,
    /// Length of a slab in bytes.
    pub slab_len: u32,
    /// Bytes of each member's memory tier; 0 for none.
    pub memory_bytes: u64,
    /// Smallest part in bytes: shorter objects have fewer data parts.
    pub min_part: u32,
}

/// One request of a client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ClientOp {
    /// When it is sent.
    pub at: Timestamp,
    /// Its number, distinct in a plan. Of a put it is the writer sequence that its bytes derive from.
    pub id: u32,
    /// The key.
    pub key: u16,
    /// What is asked.
    pub kind: OpKind,
    /// Time that it gets.
    pub deadline: Duration,
    /// The client cancels it so long after it was sent, if it was not answered before.
    pub cancel_after: Option<Duration>,
}

/// What a client asks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OpKind {
    /// Store `len` bytes.
    Put {
        /// Length in bytes.
        len: u32,
        /// What the acknowledgement is to promise.
        ack: AckLevel,
        /// Time to live in milliseconds, if not for ever.
        ttl_ms: Option<u64>,
        /// Only if this holds.
        condition: Option<Condition>,
    },
    /// Read.
    Get {
        /// Offset and length in bytes, if not all.
        range: Option<(u32, u32)>,
        /// Rather a miss than an answer that is not confirmed.
        strict: bool,
        /// How parts are asked for.
        policy: ReadPolicy,
    },
    /// Delete.
    Delete {
        /// What the acknowledgement is to promise.
        ack: AckLevel,
        /// Only if this holds.
        condition: Option<Condition>,
    },
}

impl OpKind {
    /// Whether it changes the object.
    pub fn writes(self) -> bool {
        !matches!(self, OpKind::Get { .. })
    }

    /// Whether it is a put.
    pub fn is_put(self) -> bool {
        matches!(self, OpKind::Put { .. })
    }

    /// The condition of a write.
    pub fn condition(self) -> Option<Condition> {
        match self {
            OpKind::Put { condition, .. } | OpKind::Delete { condition, .. } => condition,
            OpKind::Get { .. } => None,
        }
    }

    /// What the acknowledgement of a write is to promise.
    pub fn ack(self) -> Option<AckLevel> {
        match self {
            OpKind::Put { ack, .. } | OpKind::Delete { ack, .. } => Some(ack),
            OpKind::Get { .. } => None,
        }
    }
}

/// What has to hold for a conditional write to be done.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Condition {
    /// There is no object.
    Absent,
    /// The object has the version that any client saw last (`Judge::expected`).
    LastSeen,
}

/// Something goes wrong from `at` to `until`, and ends by itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FaultEvent {
    /// When it begins.
    pub at: Timestamp,
    /// When it ends. (What happens at once, like a jump of a clock, happens at `at`.)
    pub until: Timestamp,
    /// What it is.
    pub what: FaultWhat,
}

/// What goes wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FaultWhat {
    /// With a device.
    Device {
        /// Its member.
        member: u8,
        /// Its shard there.
        shard: u8,
        /// How.
        kind: DeviceFault,
    },
    /// With what `from` sends to `to`.
    Link {
        /// The sender.
        from: u8,
        /// The receiver.
        to: u8,
        /// How.
        kind: LinkFault,
    },
    /// The member stands still (SIGSTOP) until the end.
    Stop {
        /// Who.
        member: u8,
    },
    /// The member's process dies; it starts again at the end.
    Kill {
        /// Who.
        member: u8,
    },
    /// The member's power goes; it starts again at the end.
    PowerLoss {
        /// Who.
        member: u8,
    },
    /// The member's wall clock jumps, at once.
    ClockJump {
        /// Who.
        member: u8,
        /// By so many microseconds.
        us: i64,
    },
    /// The member's wall clock runs fast or slow until the end.
    ClockDrift {
        /// Who.
        member: u8,
        /// By so many millionths.
        ppm: i32,
    },
    /// The member has an older topology than the others until the end: what it asks of them, and they of
    /// it, is refused as the protocol says.
    EpochBehind {
        /// Who.
        member: u8,
    },
}

/// How a device fails. A share is in millionths of the operations.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DeviceFault {
    /// Every operation takes so many times as long.
    Slow {
        /// How many times.
        factor: u32,
    },
    /// Nothing completes until the end.
    Stall,
    /// Reads fail.
    ReadErrors {
        /// Share of the reads.
        share_ppm: u32,
    },
    /// Writes and flushes fail.
    WriteErrors {
        /// Share of the writes.
        share_ppm: u32,
    },
    /// Bits flip in what is read, and stay flipped on the medium.
    BitRot {
        /// Share of the reads.
        share_ppm: u32,
    },
    /// Only some sectors of a write arrive, and it is said to be done.
    TornWrites {
        /// Share of the writes.
        share_ppm: u32,
    },
    /// A write lands on another block, and is said to be done.
    Misdirected {
        /// Share of the writes.
        share_ppm: u32,
    },
    /// A write is said to be done, and never arrives.
    LostWrites {
        /// Share of the writes.
        share_ppm: u32,
    },
    /// Writes find no space.
    Full,
    /// The device is gone until the end, then back as it was.
    Vanish,
    /// The device is gone until the end; a blank one takes its place.
    Replaced,
}

/// How a link fails. A share is in millionths of the messages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LinkFault {
    /// Every message takes so much longer.
    Delay {
        /// Microseconds.
        us: u32,
    },
    /// Messages are lost.
    Loss {
        /// Share of the messages.
        share_ppm: u32,
    },
    /// Messages arrive twice.
    Duplicate {
        /// Share of the messages.
        share_ppm: u32,
    },
    /// Messages overtake each other: each takes up to so much longer.
    Reorder {
        /// Microseconds.
        us: u32,
    },
    /// Bits of messages flip.
    Damage {
        /// Share of the messages.
        share_ppm: u32,
    },
    /// Nothing arrives.
    Cut,
}
