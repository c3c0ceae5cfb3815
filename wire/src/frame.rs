//! Frames: a fixed header of 160 bytes, the key, the body.
//!
//! The header has its own checksum, so that it can be trusted before its key and body arrive. Get
//! and put are told by the header alone.

use crate::checksum::crc32c;
use crate::limits::{BODY_LEN_MAX, FRAME_HEADER_LEN, KEY_LEN_MAX};
use crate::types::{
    AckLevel, ChecksumKind, Namespace, ObjectChecksum, Priority, ReadPolicy, Version, wire_enum,
};

/// First bytes of every frame.
pub const FRAME_MAGIC: [u8; 4] = *b"HgFr";
/// The protocol version that this crate speaks.
pub const PROTOCOL_VERSION: u8 = 1;

wire_enum! {
    /// What a frame asks for, or answers.
    Op {
        /// Version and feature negotiation; the first frame of a connection, both ways.
        Hello = 1,
        /// Stores an object. Its body follows in this frame, or in this and further `Put` frames.
        Put = 2,
        /// Reads an object, or a range of it.
        Get = 3,
        /// Deletes an object.
        Delete = 4,
        /// What is known of an object: version, length, where its parts are.
        Stat = 5,
        /// Answered at once.
        Ping = 6,
        /// Counters of the daemon.
        Stats = 7,
        /// The sender no longer wants the answer of the request with this id.
        Cancel = 8,
        /// Grants the sender of a stream the right to send `credit` further bytes.
        Credit = 9,
        /// Asks a shard for its part of a record.
        PartRead = 16,
        /// Asks a shard to store a part.
        PartWrite = 17,
        /// Asks a shard to let a record go.
        PartDrop = 18,
        /// Asks a shard how what it holds stands to a version.
        PartConfirm = 19,
        /// Tells a shard that records were used. Not answered.
        Touch = 20,
        /// Injects, lists or clears faults. Refused unless the daemon was started with `--allow-faults`.
        Fault = 24,
        /// Checks stored parts, a bounded run of them at a time.
        Verify = 25,
    }
}

wire_enum! {
    /// The outcome in an answer's header.
    Status {
        /// Done.
        Ok = 0,
        /// No such object.
        NotFound = 1,
        /// A newer version exists; the write was not done.
        Superseded = 2,
        /// `if_version` did not match; nothing was done.
        VersionMismatch = 3,
        /// Not done by the deadline, and it has no effect.
        DeadlineExceeded = 4,
        /// A write's outcome was not known by its deadline.
        Indeterminate = 5,
        /// A bound was reached; nothing was done. Ask again later.
        Overloaded = 6,
        /// The object exists, but cannot be put together from what is left.
        Unavailable = 7,
        /// The request is wrong; the body says how.
        BadRequest = 8,
        /// A checksum of the frame was wrong; nothing was done.
        Corrupt = 9,
        /// The range lies outside of the object; `object_len` says how long it is.
        RangeNotSatisfiable = 10,
        /// The object, or a frame of it, is larger than the limit.
        TooLarge = 11,
        /// The operation is not allowed here (faults without `--allow-faults`).
        Refused = 12,
        /// The protocol version or a required feature is not spoken here.
        Unsupported = 13,
        /// The request was cancelled.
        Cancelled = 14,
        /// The daemon is shutting down.
        ShuttingDown = 15,
        /// The daemon failed inside; the body says where.
        Internal = 16,
    }
}

/// Bits of [`FrameHeader::flags`].
pub mod flags {
    /// An answer (else a request).
    pub const ANSWER: u16 = 1 << 0;
    /// The last frame of this request's or answer's stream.
    pub const END: u16 = 1 << 1;
    /// An answer's stream, or a put's, ends here unfinished: forget what came before.
    pub const ABORT: u16 = 1 << 2;
    /// Get: a miss rather than an unconfirmed answer.
    pub const STRICT: u16 = 1 << 3;
    /// Answer: the version could not be confirmed by enough targets.
    pub const UNCONFIRMED: u16 = 1 << 4;
    /// Put, delete: only if the object's version is `version` (zero: only if there is none).
    pub const IF_VERSION: u16 = 1 << 5;
    /// Get: answer from the memory tier or a shard even if the key's home cannot confirm it, up to
    /// `max_stale_ms` old.
    pub const MAY_BE_STALE: u16 = 1 << 6;
    /// Put: keep the object as long as anything unpinned is left to evict.
    pub const PINNED: u16 = 1 << 7;
    /// Put: `object_len` is not known until the last frame.
    pub const LEN_UNKNOWN: u16 = 1 << 8;
    /// Answer: came from the memory tier.
    pub const FROM_MEMORY: u16 = 1 << 9;
    /// Put, get, stat, delete: the namespace is immutable (content-addressed keys).
    pub const IMMUTABLE: u16 = 1 << 10;
    /// Put answer: nothing was written, the (immutable) object was there already.
    pub const UNCHANGED: u16 = 1 << 11;
    /// Every bit that has a meaning.
    pub const KNOWN: u16 = (1 << 12) - 1;
}

/// A frame's fixed header. Which fields mean something is told by `op`; all others are zero.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FrameHeader {
    /// What is asked or answered.
    pub op: Op,
    /// Bits of [`flags`].
    pub flags: u16,
    /// Outcome (answers only).
    pub status: Status,
    /// What the request yields to.
    pub priority: Priority,
    /// What an acknowledgement of a write promises; nothing leaves it to the daemon.
    pub ack: Option<AckLevel>,
    /// How a read asks for its parts.
    pub read_policy: ReadPolicy,
    /// Length of the key after the header, in bytes.
    pub key_len: u16,
    /// CRC-32C of the key.
    pub key_checksum: u32,
    /// Length of the body after the key, in bytes.
    pub body_len: u32,
    /// CRC-32C of the body.
    pub body_checksum: u32,
    /// Chosen by the client, unique among its requests under way; answers carry it.
    pub request_id: u64,
    /// Passed along, for tracing.
    pub trace_id: u128,
    /// The topology that the sender knows; 0 is none.
    pub topology_epoch: u64,
    /// The object's namespace.
    pub namespace: Namespace,
    /// Time left for the request when it was sent, in microseconds.
    pub deadline_budget_us: u32,
    /// How old an answer may be, in milliseconds (with [`flags::MAY_BE_STALE`]).
    pub max_stale_ms: u32,
    /// Credit frames: body bytes that the receiver of this frame may send on this stream, beyond what it had.
    pub credit: u32,
    /// Requests: the version asked about (`IF_VERSION`). Answers: the object's version.
    pub version: Version,
    /// Get: first byte of the range. Streams: where in the object this body belongs.
    pub offset: u64,
    /// Get: length of the range ([`FrameHeader::TO_END`]: all there is). Get answers: length of the whole answer.
    pub length: u64,
    /// Put: length of the object, if known. Answers: length of the object.
    pub object_len: u64,
    /// Put: time to live in milliseconds, 0 for ever. Answers: what is left of it.
    pub ttl_ms: u64,
    /// Put (last frame), get answers (every frame): the writer's checksum of the whole object.
    pub object_checksum: ObjectChecksum,
}

/// Byte offsets of the frame header, little-endian throughout:
///
/// ```text
///   0 magic "HgFr"        4 version=1   5 op   6 flags (2)
///   8 header_checksum    12 key_checksum       16 body_checksum   20 body_len
///  24 key_len (2)        26 status   27 priority   28 ack   29 read_policy   30 checksum_kind   31 zero
///  32 request_id (8)     40 trace_id (16)
///  56 topology_epoch (8) 64 namespace          68 deadline_budget_us
///  72 max_stale_ms       76 credit
///  80 version.hlc (8)    88 version.coordinator (2)   90 zero (6)
///  96 offset (8)        104 length (8)         112 object_len (8)  120 ttl_ms (8)
/// 128 object_checksum (16)
/// 144 zero (16)
/// ```
/// `header_checksum` is CRC-32C over the 160 bytes with itself as zero.
pub mod layout {
    /// Protocol version (u8).
    pub const VERSION: usize = 4;
    /// [`Op`](super::Op) (u8).
    pub const OP: usize = 5;
    /// [`flags`](super::flags) (u16).
    pub const FLAGS: usize = 6;
    /// CRC-32C of the header with these four bytes as zero (u32).
    pub const HEADER_CHECKSUM: usize = 8;
    /// CRC-32C of the key (u32).
    pub const KEY_CHECKSUM: usize = 12;
    /// CRC-32C of the body (u32).
    pub const BODY_CHECKSUM: usize = 16;
    /// Length of the body in bytes (u32).
    pub const BODY_LEN: usize = 20;
    /// Length of the key in bytes (u16).
    pub const KEY_LEN: usize = 24;
    /// [`Status`](super::Status) (u8).
    pub const STATUS: usize = 26;
    /// Priority (u8).
    pub const PRIORITY: usize = 27;
    /// Acknowledgement level (u8); 0 leaves it to the daemon.
    pub const ACK: usize = 28;
    /// Read policy (u8).
    pub const READ_POLICY: usize = 29;
    /// Kind of the object checksum (u8).
    pub const CHECKSUM_KIND: usize = 30;
    /// Request id (u64).
    pub const REQUEST_ID: usize = 32;
    /// Trace id (16 bytes).
    pub const TRACE_ID: usize = 40;
    /// Topology epoch (u64).
    pub const TOPOLOGY_EPOCH: usize = 56;
    /// Namespace (u32).
    pub const NAMESPACE: usize = 64;
    /// Deadline budget in microseconds (u32).
    pub const DEADLINE_BUDGET_US: usize = 68;
    /// Greatest age of the answer in milliseconds (u32).
    pub const MAX_STALE_MS: usize = 72;
    /// Credit in bytes (u32).
    pub const CREDIT: usize = 76;
    /// Version's clock (u64).
    pub const VERSION_HLC: usize = 80;
    /// Version's coordinator (u16).
    pub const VERSION_COORDINATOR: usize = 88;
    /// Offset in the object in bytes (u64).
    pub const OFFSET: usize = 96;
    /// Length of the range, or of the whole answer, in bytes (u64).
    pub const LENGTH: usize = 104;
    /// Length of the object in bytes (u64).
    pub const OBJECT_LEN: usize = 112;
    /// Time to live in milliseconds (u64).
    pub const TTL_MS: usize = 120;
    /// Object checksum (16 bytes).
    pub const OBJECT_CHECKSUM: usize = 128;
    /// Zero from here to the end (16 bytes).
    pub const RESERVED: usize = 144;

    const _: () = {
        assert!(REQUEST_ID == CHECKSUM_KIND + 2);
        assert!(TOPOLOGY_EPOCH == TRACE_ID + 16);
        assert!(VERSION_HLC == CREDIT + 4);
        assert!(OFFSET == VERSION_COORDINATOR + 8);
        assert!(RESERVED == OBJECT_CHECKSUM + 16);
        assert!(RESERVED + 16 == crate::limits::FRAME_HEADER_LEN);
    };
}

/// Why bytes are no frame. After any of these but a wrong checksum of key or body the stream's framing
/// is lost: the connection is closed once the answer that says so is sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FrameError {
    /// Not this protocol.
    #[error("these bytes are no Hedgerow frame (magic {found:02x?}, expected {FRAME_MAGIC:02x?})")]
    Magic {
        /// First four bytes.
        found: [u8; 4],
    },
    /// Another protocol version.
    #[error("protocol version {found}, this side speaks {PROTOCOL_VERSION}")]
    ProtocolVersion {
        /// Version found.
        found: u8,
    },
    /// The header's checksum is wrong.
    #[error("frame header checksum {found:#010x}, computed {computed:#010x}")]
    HeaderChecksum {
        /// In the header.
        found: u32,
        /// Of the bytes.
        computed: u32,
    },
    /// A field has a value that is not allowed.
    #[error("frame field '{field}' has the value {value}, which is not allowed")]
    Field {
        /// The field's name.
        field: &'static str,
        /// What it holds.
        value: u64,
    },
    /// The key's checksum is wrong.
    #[error("the key's checksum is wrong")]
    KeyChecksum,
    /// The body's checksum is wrong.
    #[error("the body's checksum is wrong")]
    BodyChecksum,
}

impl FrameHeader {
    /// `length` of a get that wants everything from `offset` on.
    pub const TO_END: u64 = u64::MAX;

    /// A request with this id; all other fields at their defaults, no key, no body.
    pub fn request(op: Op, request_id: u64) -> FrameHeader {
        FrameHeader {
            op,
            flags: flags::END,
            status: Status::Ok,
            priority: Priority::Normal,
            ack: None,
            read_policy: ReadPolicy::Default,
            key_len: 0,
            key_checksum: 0,
            body_len: 0,
            body_checksum: 0,
            request_id,
            trace_id: 0,
            topology_epoch: 0,
            namespace: Namespace(0),
            deadline_budget_us: 0,
            max_stale_ms: 0,
            credit: 0,
            version: Version::ZERO,
            offset: 0,
            length: 0,
            object_len: 0,
            ttl_ms: 0,
            object_checksum: ObjectChecksum::NONE,
        }
    }

    /// An answer to `request_id`: its only frame, unless `flags::END` is taken away.
    pub fn answer(op: Op, request_id: u64, status: Status) -> FrameHeader {
        FrameHeader { flags: flags::ANSWER | flags::END, status, ..FrameHeader::request(op, request_id) }
    }

    /// Whether all bits of `flag` are set.
    pub fn has(&self, flag: u16) -> bool {
        self.flags & flag == flag
    }

    /// The 160 bytes of this header.
    pub fn encode(&self) -> [u8; FRAME_HEADER_LEN] {
        let mut out = [0; FRAME_HEADER_LEN];
        let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &FRAME_MAGIC);
        put(layout::VERSION, &[PROTOCOL_VERSION, self.op as u8]);
        put(layout::FLAGS, &self.flags.to_le_bytes());
        put(layout::KEY_CHECKSUM, &self.key_checksum.to_le_bytes());
        put(layout::BODY_CHECKSUM, &self.body_checksum.to_le_bytes());
        put(layout::BODY_LEN, &self.body_len.to_le_bytes());
        put(layout::KEY_LEN, &self.key_len.to_le_bytes());
        put(
            layout::STATUS,
            &[
                self.status as u8,
                self.priority as u8,
                self.ack.map_or(0, |ack| ack as u8),
                self.read_policy as u8,
                self.object_checksum.kind as u8,
            ],
        );
        put(layout::REQUEST_ID, &self.request_id.to_le_bytes());
        put(layout::TRACE_ID, &self.trace_id.to_le_bytes());
        put(layout::TOPOLOGY_EPOCH, &self.topology_epoch.to_le_bytes());
        put(layout::NAMESPACE, &self.namespace.0.to_le_bytes());
        put(layout::DEADLINE_BUDGET_US, &self.deadline_budget_us.to_le_bytes());
        put(layout::MAX_STALE_MS, &self.max_stale_ms.to_le_bytes());
        put(layout::CREDIT, &self.credit.to_le_bytes());
        put(layout::VERSION_HLC, &self.version.hlc.to_le_bytes());
        put(layout::VERSION_COORDINATOR, &self.version.coordinator.to_le_bytes());
        put(layout::OFFSET, &self.offset.to_le_bytes());
        put(layout::LENGTH, &self.length.to_le_bytes());
        put(layout::OBJECT_LEN, &self.object_len.to_le_bytes());
        put(layout::TTL_MS, &self.ttl_ms.to_le_bytes());
        put(layout::OBJECT_CHECKSUM, &self.object_checksum.bits.to_le_bytes());
        let checksum = crc32c(&out);
        out[layout::HEADER_CHECKSUM..layout::HEADER_CHECKSUM + 4].copy_from_slice(&checksum.to_le_bytes());
        out
    }

    /// Reads and checks a header. Key and body are checked by whoever has received them.
    pub fn decode(bytes: &[u8; FRAME_HEADER_LEN]) -> Result<FrameHeader, FrameError> {
        let field = |field, value: u64| FrameError::Field { field, value };
        let u16_at = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let u32_at = |at: usize| u32::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        let u64_at = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        let u128_at = |at: usize| u128::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        if bytes[..4] != FRAME_MAGIC {
            return Err(FrameError::Magic { found: std::array::from_fn(|i| bytes[i]) });
        }
        if bytes[layout::VERSION] != PROTOCOL_VERSION {
            return Err(FrameError::ProtocolVersion { found: bytes[layout::VERSION] });
        }
        let found = u32_at(layout::HEADER_CHECKSUM);
        let mut unsealed = *bytes;
        unsealed[layout::HEADER_CHECKSUM..layout::HEADER_CHECKSUM + 4].fill(0);
        let computed = crc32c(&unsealed);
        if found != computed {
            return Err(FrameError::HeaderChecksum { found, computed });
        }
        let reserved = [&bytes[31..32], &bytes[90..96], &bytes[layout::RESERVED..]];
        if reserved.iter().any(|r| r.iter().any(|&b| b != 0)) {
            return Err(field("reserved", 1));
        }
        let byte = |name, at: usize| (name, u64::from(bytes[at]));
        let bad = |(name, value)| field(name, value);
        let header = FrameHeader {
            op: Op::from_u8(bytes[layout::OP]).ok_or_else(|| bad(byte("op", layout::OP)))?,
            flags: u16_at(layout::FLAGS),
            status: Status::from_u8(bytes[layout::STATUS])
                .ok_or_else(|| bad(byte("status", layout::STATUS)))?,
            priority: Priority::from_u8(bytes[layout::PRIORITY])
                .ok_or_else(|| bad(byte("priority", layout::PRIORITY)))?,
            ack: match bytes[layout::ACK] {
                0 => None,
                level => Some(AckLevel::from_u8(level).ok_or_else(|| bad(byte("ack", layout::ACK)))?),
            },
            read_policy: ReadPolicy::from_u8(bytes[layout::READ_POLICY])
                .ok_or_else(|| bad(byte("read_policy", layout::READ_POLICY)))?,
            key_len: u16_at(layout::KEY_LEN),
            key_checksum: u32_at(layout::KEY_CHECKSUM),
            body_len: u32_at(layout::BODY_LEN),
            body_checksum: u32_at(layout::BODY_CHECKSUM),
            request_id: u64_at(layout::REQUEST_ID),
            trace_id: u128_at(layout::TRACE_ID),
            topology_epoch: u64_at(layout::TOPOLOGY_EPOCH),
            namespace: Namespace(u32_at(layout::NAMESPACE)),
            deadline_budget_us: u32_at(layout::DEADLINE_BUDGET_US),
            max_stale_ms: u32_at(layout::MAX_STALE_MS),
            credit: u32_at(layout::CREDIT),
            version: Version {
                hlc: u64_at(layout::VERSION_HLC),
                coordinator: u16_at(layout::VERSION_COORDINATOR),
            },
            offset: u64_at(layout::OFFSET),
            length: u64_at(layout::LENGTH),
            object_len: u64_at(layout::OBJECT_LEN),
            ttl_ms: u64_at(layout::TTL_MS),
            object_checksum: ObjectChecksum {
                kind: ChecksumKind::from_u8(bytes[layout::CHECKSUM_KIND])
                    .ok_or_else(|| bad(byte("checksum_kind", layout::CHECKSUM_KIND)))?,
                bits: u128_at(layout::OBJECT_CHECKSUM),
            },
        };
        header.check_bounds()?;
        Ok(header)
    }

    fn check_bounds(&self) -> Result<(), FrameError> {
        let field = |field, value: u64| Err(FrameError::Field { field, value });
        if self.flags & !flags::KNOWN != 0 {
            return field("flags", u64::from(self.flags));
        }
        if usize::from(self.key_len) > KEY_LEN_MAX {
            return field("key_len", u64::from(self.key_len));
        }
        if self.body_len as usize > BODY_LEN_MAX {
            return field("body_len", u64::from(self.body_len));
        }
        Ok(())
    }
}
