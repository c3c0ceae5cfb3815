//! Parts: their header (one layout, on devices and in part messages), and what a coordinator asks of
//! a target. A local shard is asked with the same types that travel between members.

use smallvec::SmallVec;

use crate::checksum::{crc32c, crc32c_append};
use crate::limits::{KEY_LEN_MAX, OBJECT_LEN_MAX, PART_HEADER_LEN, STRIPE_LEN_MAX, TAGS_LEN_MAX};
use crate::time::Timestamp;
use crate::types::{
    AckLevel, ChecksumKind, Code, Key, KeyHash, Namespace, ObjectChecksum, Record, Version, wire_enum,
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
    /// Encoded tags (each a length byte and its bytes), at most [`TAGS_LEN_MAX`] bytes.
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

/// Where a part was put. All zero in a message: the target that stores it fills it in.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PartPlace {
    /// The shard's own random id.
    pub shard_id: u128,
    /// The generation of the slab.
    pub slab_generation: u64,
    /// Offset of the part's header in its slab, in bytes.
    pub slab_offset: u32,
}

/// A decoded part head: meta, place and what is needed to check the payload that follows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PartHead {
    /// What the part is.
    pub meta: PartMeta,
    /// Where it was put.
    pub place: PartPlace,
    /// Length of the payload in bytes.
    pub payload_len: u32,
    /// CRC-32C of the payload.
    pub payload_checksum: u32,
    /// Length of header and extensions in bytes: the payload follows there.
    pub head_len: usize,
}

/// Why bytes are no part head.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PartHeadError {
    /// Fewer bytes than the head says that it has.
    #[error("a part head of {need} bytes is cut off after {have}")]
    Truncated {
        /// Bytes needed.
        need: usize,
        /// Bytes there.
        have: usize,
    },
    /// Not a part head at all.
    #[error("not a part head (its magic is wrong)")]
    Magic,
    /// Written by another format version.
    #[error("part header version {found}, this build reads {PART_HEADER_VERSION}")]
    FormatVersion {
        /// Version found.
        found: u8,
    },
    /// Its checksum does not match.
    #[error("part head checksum {found:#010x}, computed {computed:#010x}")]
    Checksum {
        /// In the header.
        found: u32,
        /// Of the bytes.
        computed: u32,
    },
    /// A field has a value that no writer gives, though the checksum is right.
    #[error("part head field '{field}' has the impossible value {value}")]
    Field {
        /// The field's name.
        field: &'static str,
        /// What it holds.
        value: u64,
    },
}

/// First bytes of every part header.
pub const PART_MAGIC: [u8; 4] = *b"HgPt";
/// The version of the part header layout.
pub const PART_HEADER_VERSION: u8 = 1;

/// Byte offsets of the part header, little-endian throughout:
///
/// ```text
///   0 magic "HgPt"      4 version=1   5 kind   6 flags (bit 0 pinned)   7 zero
///   8 head_checksum     12 payload_checksum    16 payload_len   20 extensions_len
///  24 shard_id (16)     40 slab_generation (8)
///  48 namespace         52 namespace_generation
///  56 version.hlc (8)   64 version.coordinator (2)   66 zero (2)   68 record
///  72 object_len (8)    80 stripe_len          84 stripe_size
///  88 part   89 k   90 m   91 checksum_kind    92 slab_offset
///  96 object_checksum (16)
/// 112 created_ms (8)    120 expires_ms (8)
/// 128 encryption_key_id (8)    136 encryption_nonce (12)
/// 148 zero (44)
/// 192 extensions: each  kind u16 (1 key, 2 tags), len u16, bytes
/// ```
/// `head_checksum` is CRC-32C over header and extensions with itself as zero.
pub mod layout {
    /// [`PartKind`](super::PartKind) (u8).
    pub const KIND: usize = 5;
    /// Bit 0: pinned (u8).
    pub const FLAGS: usize = 6;
    /// CRC-32C of header and extensions with these four bytes as zero (u32).
    pub const HEAD_CHECKSUM: usize = 8;
    /// CRC-32C of the payload (u32).
    pub const PAYLOAD_CHECKSUM: usize = 12;
    /// Length of the payload in bytes (u32).
    pub const PAYLOAD_LEN: usize = 16;
    /// Length of all extensions in bytes (u32).
    pub const EXTENSIONS_LEN: usize = 20;
    /// The shard's random id (16 bytes).
    pub const SHARD_ID: usize = 24;
    /// Generation of the slab (u64).
    pub const SLAB_GENERATION: usize = 40;
    /// Namespace (u32).
    pub const NAMESPACE: usize = 48;
    /// Generation of the namespace (u32).
    pub const NAMESPACE_GENERATION: usize = 52;
    /// Version's clock (u64).
    pub const VERSION_HLC: usize = 56;
    /// Version's coordinator (u16).
    pub const VERSION_COORDINATOR: usize = 64;
    /// Record of the object (u32).
    pub const RECORD: usize = 68;
    /// Length of the object in bytes (u64).
    pub const OBJECT_LEN: usize = 72;
    /// Length of this stripe in bytes (u32).
    pub const STRIPE_LEN: usize = 80;
    /// Length of every stripe but the last in bytes (u32).
    pub const STRIPE_SIZE: usize = 84;
    /// Part number (u8).
    pub const PART: usize = 88;
    /// Data parts (u8).
    pub const K: usize = 89;
    /// Parity parts (u8).
    pub const M: usize = 90;
    /// Kind of the object checksum (u8).
    pub const CHECKSUM_KIND: usize = 91;
    /// Offset of this header in its slab in bytes (u32).
    pub const SLAB_OFFSET: usize = 92;
    /// Object checksum (16 bytes).
    pub const OBJECT_CHECKSUM: usize = 96;
    /// Time of writing, milliseconds since the Unix epoch (u64).
    pub const CREATED_MS: usize = 112;
    /// Time of expiry, milliseconds since the Unix epoch, 0 for never (u64).
    pub const EXPIRES_MS: usize = 120;
    /// Id of the key that encrypted the payload (u64).
    pub const ENCRYPTION_KEY_ID: usize = 128;
    /// Nonce of that encryption (12 bytes).
    pub const ENCRYPTION_NONCE: usize = 136;
    /// Zero from here to the end of the header (44 bytes).
    pub const RESERVED: usize = 148;

    const _: () = {
        assert!(SHARD_ID == EXTENSIONS_LEN + 4);
        assert!(NAMESPACE == SLAB_GENERATION + 8);
        assert!(RECORD == VERSION_COORDINATOR + 4);
        assert!(OBJECT_CHECKSUM == SLAB_OFFSET + 4);
        assert!(RESERVED == ENCRYPTION_NONCE + 12);
        assert!(RESERVED + 44 == crate::limits::PART_HEADER_LEN);
    };
}

const EXTENSION_PREFIX_LEN: usize = 4;
const EXTENSION_KEY: u16 = 1;
const EXTENSION_TAGS: u16 = 2;
const FLAG_PINNED: u8 = 1;

fn get<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}
fn get_u16(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(get(bytes, at))
}
fn get_u32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(get(bytes, at))
}
fn get_u64(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(get(bytes, at))
}

/// Writes the head of a part (header and extensions) into the first [`PartMeta::head_len`] bytes of
/// `out` and returns that length.
///
/// # Panics
/// If `out` is shorter than that.
pub fn encode_part_head(
    meta: &PartMeta,
    place: &PartPlace,
    payload_len: u32,
    payload_checksum: u32,
    out: &mut [u8],
) -> usize {
    let len = meta.head_len();
    let out = &mut out[..len];
    out[..PART_HEADER_LEN].fill(0);
    let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &PART_MAGIC);
    put(4, &[PART_HEADER_VERSION, meta.kind as u8, if meta.pinned { FLAG_PINNED } else { 0 }]);
    put(layout::PAYLOAD_CHECKSUM, &payload_checksum.to_le_bytes());
    put(layout::PAYLOAD_LEN, &payload_len.to_le_bytes());
    put(layout::EXTENSIONS_LEN, &((len - PART_HEADER_LEN) as u32).to_le_bytes());
    put(layout::SHARD_ID, &place.shard_id.to_le_bytes());
    put(layout::SLAB_GENERATION, &place.slab_generation.to_le_bytes());
    put(layout::SLAB_OFFSET, &place.slab_offset.to_le_bytes());
    put(layout::NAMESPACE, &meta.namespace.0.to_le_bytes());
    put(layout::NAMESPACE_GENERATION, &meta.namespace_generation.to_le_bytes());
    put(layout::VERSION_HLC, &meta.version.hlc.to_le_bytes());
    put(layout::VERSION_COORDINATOR, &meta.version.coordinator.to_le_bytes());
    put(layout::RECORD, &meta.record.0.to_le_bytes());
    put(layout::OBJECT_LEN, &meta.object_len.to_le_bytes());
    put(layout::STRIPE_LEN, &meta.stripe_len.to_le_bytes());
    put(layout::STRIPE_SIZE, &meta.stripe_size.to_le_bytes());
    put(
        layout::PART,
        &[meta.part, meta.code.k() as u8, meta.code.m() as u8, meta.object_checksum.kind as u8],
    );
    put(layout::OBJECT_CHECKSUM, &meta.object_checksum.bits.to_le_bytes());
    put(layout::CREATED_MS, &meta.created_ms.to_le_bytes());
    put(layout::EXPIRES_MS, &meta.expires_ms.to_le_bytes());
    put(layout::ENCRYPTION_KEY_ID, &meta.encryption_key_id.to_le_bytes());
    put(layout::ENCRYPTION_NONCE, &meta.encryption_nonce);
    let mut at = PART_HEADER_LEN;
    for (kind, bytes) in [(EXTENSION_KEY, meta.key.as_bytes()), (EXTENSION_TAGS, &meta.tags[..])] {
        if bytes.is_empty() {
            continue;
        }
        put(at, &kind.to_le_bytes());
        put(at + 2, &(bytes.len() as u16).to_le_bytes());
        put(at + EXTENSION_PREFIX_LEN, bytes);
        at += EXTENSION_PREFIX_LEN + bytes.len();
    }
    let checksum = crc32c(out);
    out[layout::HEAD_CHECKSUM..layout::HEAD_CHECKSUM + 4].copy_from_slice(&checksum.to_le_bytes());
    len
}

/// Reads and checks the head of a part at the start of `bytes`, which may be longer. Checks every
/// field; the payload is not looked at.
pub fn decode_part_head(bytes: &[u8]) -> Result<PartHead, PartHeadError> {
    let truncated = |need| PartHeadError::Truncated { need, have: bytes.len() };
    if bytes.len() < PART_HEADER_LEN {
        return Err(truncated(PART_HEADER_LEN));
    }
    if bytes[..4] != PART_MAGIC {
        return Err(PartHeadError::Magic);
    }
    if bytes[4] != PART_HEADER_VERSION {
        return Err(PartHeadError::FormatVersion { found: bytes[4] });
    }
    let extensions_len = get_u32(bytes, layout::EXTENSIONS_LEN) as usize;
    if extensions_len > KEY_LEN_MAX + TAGS_LEN_MAX + 2 * EXTENSION_PREFIX_LEN {
        return Err(PartHeadError::Field { field: "extensions_len", value: extensions_len as u64 });
    }
    let head_len = PART_HEADER_LEN + extensions_len;
    if bytes.len() < head_len {
        return Err(truncated(head_len));
    }
    let head = &bytes[..head_len];
    let found = get_u32(head, layout::HEAD_CHECKSUM);
    let computed = crc32c_append(
        crc32c_append(crc32c(&head[..layout::HEAD_CHECKSUM]), &[0; 4]),
        &head[layout::HEAD_CHECKSUM + 4..],
    );
    if found != computed {
        return Err(PartHeadError::Checksum { found, computed });
    }
    decode_checked_head(head)
}

/// The fields of a head whose checksum is right.
fn decode_checked_head(head: &[u8]) -> Result<PartHead, PartHeadError> {
    let field = |field, value: u64| PartHeadError::Field { field, value };
    let zero = [&head[7..8], &head[66..68], &head[layout::RESERVED..PART_HEADER_LEN]];
    if zero.iter().any(|bytes| bytes.iter().any(|&b| b != 0)) {
        return Err(field("reserved", 1));
    }
    if head[layout::FLAGS] & !FLAG_PINNED != 0 {
        return Err(field("flags", u64::from(head[layout::FLAGS])));
    }
    let kind = PartKind::from_u8(head[layout::KIND]).ok_or(field("kind", u64::from(head[layout::KIND])))?;
    let checksum_kind = ChecksumKind::from_u8(head[layout::CHECKSUM_KIND])
        .ok_or(field("checksum_kind", u64::from(head[layout::CHECKSUM_KIND])))?;
    let code = Code::new(head[layout::K], head[layout::M])
        .map_err(|_| field("code", u64::from(get_u16(head, layout::K))))?;
    let (key, tags) = decode_extensions(&head[PART_HEADER_LEN..])?;
    let meta = PartMeta {
        kind,
        pinned: head[layout::FLAGS] & FLAG_PINNED != 0,
        namespace: Namespace(get_u32(head, layout::NAMESPACE)),
        namespace_generation: get_u32(head, layout::NAMESPACE_GENERATION),
        key,
        record: Record(get_u32(head, layout::RECORD)),
        version: Version {
            hlc: get_u64(head, layout::VERSION_HLC),
            coordinator: get_u16(head, layout::VERSION_COORDINATOR),
        },
        object_len: get_u64(head, layout::OBJECT_LEN),
        object_checksum: ObjectChecksum {
            kind: checksum_kind,
            bits: u128::from_le_bytes(get(head, layout::OBJECT_CHECKSUM)),
        },
        stripe_len: get_u32(head, layout::STRIPE_LEN),
        stripe_size: get_u32(head, layout::STRIPE_SIZE),
        part: head[layout::PART],
        code,
        created_ms: get_u64(head, layout::CREATED_MS),
        expires_ms: get_u64(head, layout::EXPIRES_MS),
        encryption_key_id: get_u64(head, layout::ENCRYPTION_KEY_ID),
        encryption_nonce: get(head, layout::ENCRYPTION_NONCE),
        tags,
    };
    if usize::from(meta.part) >= meta.code.n()
        && meta.kind != PartKind::Tombstone
        && meta.kind != PartKind::Head
    {
        return Err(field("part", u64::from(meta.part)));
    }
    if meta.object_len > OBJECT_LEN_MAX && meta.object_len != PartMeta::OBJECT_LEN_UNKNOWN {
        return Err(field("object_len", meta.object_len));
    }
    if meta.stripe_len as usize > STRIPE_LEN_MAX {
        return Err(field("stripe_len", u64::from(meta.stripe_len)));
    }
    if meta.stripe_size == 0 || meta.stripe_size as usize > STRIPE_LEN_MAX {
        return Err(field("stripe_size", u64::from(meta.stripe_size)));
    }
    let object_record = matches!(meta.kind, PartKind::Sole | PartKind::Head | PartKind::Tombstone);
    if object_record != (meta.record == Record::OBJECT) {
        return Err(field("record", u64::from(meta.record.0)));
    }
    let payload_len = get_u32(head, layout::PAYLOAD_LEN);
    if payload_len as usize != meta.part_len() {
        return Err(field("payload_len", u64::from(payload_len)));
    }
    Ok(PartHead {
        place: PartPlace {
            shard_id: u128::from_le_bytes(get(head, layout::SHARD_ID)),
            slab_generation: get_u64(head, layout::SLAB_GENERATION),
            slab_offset: get_u32(head, layout::SLAB_OFFSET),
        },
        payload_len,
        payload_checksum: get_u32(head, layout::PAYLOAD_CHECKSUM),
        head_len: head.len(),
        meta,
    })
}

fn decode_extensions(mut rest: &[u8]) -> Result<(Key, SmallVec<[u8; 16]>), PartHeadError> {
    let field = |field, value: usize| PartHeadError::Field { field, value: value as u64 };
    let mut key = None;
    let mut tags = None;
    while !rest.is_empty() {
        if rest.len() < EXTENSION_PREFIX_LEN {
            return Err(field("extension", rest.len()));
        }
        let (kind, len) = (get_u16(rest, 0), usize::from(get_u16(rest, 2)));
        rest = &rest[EXTENSION_PREFIX_LEN..];
        if len > rest.len() {
            return Err(field("extension length", len));
        }
        let (bytes, tail) = rest.split_at(len);
        rest = tail;
        match kind {
            EXTENSION_KEY if key.is_none() => {
                key = Some(Key::new(bytes).map_err(|e| field("key length", e.len))?);
            }
            EXTENSION_TAGS if tags.is_none() && (1..=TAGS_LEN_MAX).contains(&len) => {
                tags = Some(SmallVec::from_slice(bytes));
            }
            _ => return Err(field("extension kind", usize::from(kind))),
        }
    }
    Ok((key.ok_or(field("key", 0))?, tags.unwrap_or_default()))
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

/// Asks a target how what it holds of a record stands to `version`. Answered from the index.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PartConfirm {
    /// Hash of the object's key.
    pub hash: KeyHash,
    /// Which record.
    pub record: Record,
    /// The version to be confirmed.
    pub version: Version,
}

/// Tells a target that a record was used. Batched and lossy.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PartTouch {
    /// Hash of the object's key.
    pub hash: KeyHash,
    /// Which record.
    pub record: Record,
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
        /// The highest version that the shard ever evicted, expired or dropped.
        forgotten_through: Version,
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
    /// To a read: what is stored failed a check. An erasure; the target has let it go.
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
            PartAnswer::Absent { forgotten_through } => PartAnswer::Absent { forgotten_through },
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

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> PartMeta {
        PartMeta {
            kind: PartKind::Sole,
            pinned: true,
            namespace: Namespace(0x0102_0304),
            namespace_generation: 7,
            key: Key::new(b"photos/1.jpg").unwrap(),
            record: Record::OBJECT,
            version: Version { hlc: 0x1122_3344_5566_7788, coordinator: 0x99aa },
            object_len: 100_000,
            object_checksum: ObjectChecksum::crc32c(0xdead_beef),
            stripe_len: 100_000,
            stripe_size: 1 << 20,
            part: 3,
            code: Code::new(4, 2).unwrap(),
            created_ms: 1_700_000_000_000,
            expires_ms: 1_800_000_000_000,
            encryption_key_id: 5,
            encryption_nonce: *b"nonce-nonce!",
            tags: SmallVec::from_slice(b"\x03red"),
        }
    }

    fn encoded(meta: &PartMeta) -> Vec<u8> {
        let place = PartPlace { shard_id: 0xabcdef, slab_generation: 12, slab_offset: 4096 };
        let mut bytes = vec![0xff; meta.head_len()];
        let len = encode_part_head(meta, &place, meta.part_len() as u32, 0x1234_5678, &mut bytes);
        assert_eq!(len, bytes.len());
        bytes
    }

    fn reseal(bytes: &mut [u8]) {
        bytes[8..12].fill(0);
        let checksum = crc32c(bytes);
        bytes[8..12].copy_from_slice(&checksum.to_le_bytes());
    }

    #[test]
    fn golden_bytes() {
        let bytes = encoded(&sample());
        let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
        let expected = concat!(
            "4867507401010100",
            "CHECKSUM",
            "78563412a861000018000000",
            "efcdab00000000000000000000000000",
            "0c00000000000000",
            "0403020107000000",
            "8877665544332211aa99000000000000",
            "a086010000000000a086010000001000",
            "0304020100100000",
            "efbeadde000000000000000000000000",
            "0068e5cf8b01000000505c18a3010000",
            "05000000000000006e6f6e63652d6e6f6e636521",
            "0000000000000000000000000000000000000000000000000000000000000000000000000000000000000000",
            "01000c0070686f746f732f312e6a7067",
            "0200040003726564",
        );
        assert_eq!(hex.replacen(&hex[16..24], "CHECKSUM", 1), expected);
        assert_eq!(decode_part_head(&bytes).unwrap().meta, sample());
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_refused() {
        let bytes = encoded(&sample());
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(decode_part_head(&damaged).is_err(), "bit {bit}");
        }
        for len in 0..bytes.len() {
            assert!(decode_part_head(&bytes[..len]).is_err(), "length {len}");
        }
    }

    #[test]
    fn impossible_fields_are_refused_though_the_checksum_is_right() {
        let cases: &[(usize, u8, &str)] = &[
            (layout::KIND, 9, "kind"),
            (layout::KIND, PartKind::Stripe as u8, "record"),
            (layout::FLAGS, 2, "flags"),
            (layout::RESERVED, 1, "reserved"),
            (7, 1, "reserved"),
            (layout::K, 0, "code"),
            (layout::PART, 6, "part"),
            (layout::CHECKSUM_KIND, 77, "checksum_kind"),
            (layout::OBJECT_LEN + 6, 1, "object_len"),
            (layout::STRIPE_LEN + 3, 1, "stripe_len"),
            (layout::PAYLOAD_LEN, 0, "payload_len"),
            (PART_HEADER_LEN, 3, "extension kind"),
        ];
        for &(at, value, expected) in cases {
            let mut bytes = encoded(&sample());
            bytes[at] = value;
            reseal(&mut bytes);
            match decode_part_head(&bytes) {
                Err(PartHeadError::Field { field, .. }) => assert_eq!(field, expected),
                other => panic!("{expected}: {other:?}"),
            }
        }
    }
}
