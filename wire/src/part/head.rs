//! The part head: the fixed header of 192 bytes and the extensions after it.

use smallvec::SmallVec;

use super::{PartKind, PartMeta};
use crate::checksum::{crc32c, crc32c_append};
use crate::limits::{KEY_LEN_MAX, OBJECT_LEN_MAX, PART_HEADER_LEN, STRIPE_LEN_MAX, TAGS_LEN_MAX};
use crate::types::{ChecksumKind, Code, Key, Namespace, ObjectChecksum, Record, Version};

/// Where a part was put. All zero in a message: the target that stores it fills it in.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PartPlace {
    /// The shard's own random id.
    pub shard_id: u128,
    /// The generation of the slab.
    pub slab_generation: u64,
    /// Offset of the part's header in its slab, in bytes.
    pub slab_offset: u32,
    /// When the part was put there, all that was written of the slab from here ...
    pub settled_from: u32,
    /// ... up to here was on the device.
    pub settled_through: u32,
}

impl PartPlace {
    /// Whether both are the same place.
    pub fn is_at(&self, other: &PartPlace) -> bool {
        (self.shard_id, self.slab_generation, self.slab_offset)
            == (other.shard_id, other.slab_generation, other.slab_offset)
    }
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
/// 148 settled_from      152 settled_through      156 zero (36)
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
    /// Start of what was settled of the slab (u32).
    pub const SETTLED_FROM: usize = 148;
    /// End of what was settled of the slab (u32).
    pub const SETTLED_THROUGH: usize = 152;
    /// Zero from here to the end of the header (36 bytes).
    pub const RESERVED: usize = 156;

    const _: () = {
        assert!(SHARD_ID == EXTENSIONS_LEN + 4);
        assert!(NAMESPACE == SLAB_GENERATION + 8);
        assert!(RECORD == VERSION_COORDINATOR + 4);
        assert!(OBJECT_CHECKSUM == SLAB_OFFSET + 4);
        assert!(SETTLED_FROM == ENCRYPTION_NONCE + 12 && SETTLED_THROUGH == SETTLED_FROM + 4);
        assert!(RESERVED == SETTLED_THROUGH + 4);
        assert!(RESERVED + 36 == crate::limits::PART_HEADER_LEN);
    };
}

pub(super) const EXTENSION_PREFIX_LEN: usize = 4;
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
    put(layout::SETTLED_FROM, &place.settled_from.to_le_bytes());
    put(layout::SETTLED_THROUGH, &place.settled_through.to_le_bytes());
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
    check_meta(&meta)?;
    let payload_len = get_u32(head, layout::PAYLOAD_LEN);
    if payload_len as usize != meta.part_len() {
        return Err(field("payload_len", u64::from(payload_len)));
    }
    Ok(PartHead {
        place: PartPlace {
            shard_id: u128::from_le_bytes(get(head, layout::SHARD_ID)),
            slab_generation: get_u64(head, layout::SLAB_GENERATION),
            slab_offset: get_u32(head, layout::SLAB_OFFSET),
            settled_from: get_u32(head, layout::SETTLED_FROM),
            settled_through: get_u32(head, layout::SETTLED_THROUGH),
        },
        payload_len,
        payload_checksum: get_u32(head, layout::PAYLOAD_CHECKSUM),
        head_len: head.len(),
        meta,
    })
}

/// Whether the fields of a part agree with each other and with the limits.
fn check_meta(meta: &PartMeta) -> Result<(), PartHeadError> {
    let field = |field, value: u64| PartHeadError::Field { field, value };
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
    let copies = matches!(meta.kind, PartKind::Head | PartKind::Tombstone);
    if copies && meta.code.k() != 1 {
        return Err(field("code", meta.code.k() as u64));
    }
    check_lengths(meta)
}

/// Whether the lengths of object and stripe are possible together, for what the record is.
fn check_lengths(meta: &PartMeta) -> Result<(), PartHeadError> {
    let field = |field, value: u64| Err(PartHeadError::Field { field, value });
    let (stripe_len, stripe_size) = (u64::from(meta.stripe_len), u64::from(meta.stripe_size));
    let unknown = meta.object_len == PartMeta::OBJECT_LEN_UNKNOWN;
    let stripe_lens = match meta.kind {
        PartKind::Sole if meta.object_len != stripe_len => return field("object_len", meta.object_len),
        PartKind::Sole => 0..=stripe_size,
        PartKind::Head if unknown => return field("object_len", meta.object_len),
        PartKind::Tombstone if meta.object_len != 0 => return field("object_len", meta.object_len),
        PartKind::Head | PartKind::Tombstone => 0..=0,
        PartKind::Stripe => {
            let begin = u64::from(meta.record.0 - 1) * stripe_size;
            let object_len_max = if unknown { OBJECT_LEN_MAX } else { meta.object_len };
            let longest = stripe_size.min(object_len_max.saturating_sub(begin));
            if unknown { 1..=longest } else { longest.max(1)..=longest }
        }
    };
    if stripe_lens.contains(&stripe_len) { Ok(()) } else { field("stripe_len", stripe_len) }
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
            EXTENSION_KEY if key.is_none() && tags.is_none() => {
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

#[cfg(test)]
mod tests;
