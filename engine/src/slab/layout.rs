//! What stands on a device. All numbers are little-endian; reserved bytes are zero, and checked.
//!
//! ```text
//! device     0            4 KiB        8 KiB        12 KiB        128 KiB       + slab length
//!            +------------+------------+------------+- - - - - - -+-------------+-------------+---
//!            | superblock | superblock | superblock | zero        | slab 0      | slab 1      |
//!            +------------+------------+------------+- - - - - - -+-------------+-------------+---
//!
//! slab       0        4 KiB                                                            slab length
//!            +--------+--------------------------+- - - - - -+-----------------+-----------+
//!            | header | parts, 64-byte aligned   | not used  | contents        | trailer   |
//!            |        | commits end with a block |           | 64 bytes a part | one block |
//!            +--------+--------------------------+- - - - - -+-----------------+-----------+
//! ```
//! Contents and trailer are written once, when a slab is sealed. The contents start with a block, so
//! that what lies between their end and the trailer is zero.
//!
//! The generation of a slab comes from one counter of the shard: it grows at each reuse of a slab, and
//! no two slabs ever have the same, so that it also says which slab a part belongs to, and which of two
//! slabs is older.

use hedgerow_wire::checksum::crc32c;
use hedgerow_wire::part::{PartHead, PartKind};
use hedgerow_wire::{KeyHash, Namespace, Record, Version};

/// Unit of device I/O, in bytes.
pub const BLOCK_LEN: usize = 4096;
/// Parts start at multiples of this, in bytes.
pub const PART_ALIGN: u32 = 64;
/// Where the slabs start, in bytes. What lies before is read as a whole before a device is formatted:
/// the marks of file systems, volume managers and partition tables lie there.
pub const SLABS_START: u64 = 128 << 10;
/// Length of a slab, unless told otherwise.
pub const SLAB_LEN_DEFAULT: u32 = 32 << 20;
/// Longest slab: what the index can address.
pub const SLAB_LEN_MAX: u32 = super::index::slot::SLAB_BYTES_MAX;
/// Shortest slab.
pub const SLAB_LEN_MIN: u32 = 64 << 10;
/// Most slabs of a device.
pub const SLABS_MAX: u32 = super::index::slot::SLABS_MAX;
/// Fewest slabs of a device: one open, one ahead of it, one being let go, one that keeps something.
pub const SLABS_MIN: u32 = 4;
/// First byte of parts in a slab.
pub const SLAB_DATA_START: u32 = BLOCK_LEN as u32;
/// Bytes of a part in the contents table.
pub const CONTENTS_ENTRY_LEN: usize = 64;

const FORMAT_VERSION: u32 = 1;
const HEADER_MAGIC: [u8; 8] = *b"HgSlabHd";
const TRAILER_MAGIC: [u8; 8] = *b"HgSlabTr";

/// Offsets in the slab header block.
mod header {
    pub const MAGIC: usize = 0;
    pub const FORMAT: usize = 8;
    pub const CHECKSUM: usize = 12;
    pub const SHARD_ID: usize = 16;
    pub const GENERATION: usize = 32;
    pub const BASE_HLC: usize = 40;
    pub const SLAB: usize = 48;
    pub const SLAB_LEN: usize = 52;
    pub const PLACEMENT_HINT: usize = 56;
    pub const RESERVED: usize = 58;

    const _: () = {
        assert!(CHECKSUM == FORMAT + 4 && SHARD_ID == CHECKSUM + 4 && GENERATION == SHARD_ID + 16);
        assert!(BASE_HLC == GENERATION + 8 && SLAB == BASE_HLC + 8 && SLAB_LEN == SLAB + 4);
        assert!(PLACEMENT_HINT == SLAB_LEN + 4 && RESERVED == PLACEMENT_HINT + 2);
    };
}

/// Offsets in the trailer block.
mod trailer {
    pub const MAGIC: usize = 0;
    pub const FORMAT: usize = 8;
    pub const CHECKSUM: usize = 12;
    pub const SHARD_ID: usize = 16;
    pub const GENERATION: usize = 32;
    pub const SLAB: usize = 40;
    pub const PARTS: usize = 44;
    pub const CONTENTS_CHECKSUM: usize = 48;
    pub const DATA_END: usize = 52;
    pub const VERSION_HLC: usize = 56;
    pub const VERSION_COORDINATOR: usize = 64;
    pub const RESERVED: usize = 66;

    const _: () = {
        assert!(CHECKSUM == FORMAT + 4 && SHARD_ID == CHECKSUM + 4 && GENERATION == SHARD_ID + 16);
        assert!(SLAB == GENERATION + 8 && PARTS == SLAB + 4 && CONTENTS_CHECKSUM == PARTS + 4);
        assert!(DATA_END == CONTENTS_CHECKSUM + 4 && VERSION_HLC == DATA_END + 4);
        assert!(VERSION_COORDINATOR == VERSION_HLC + 8 && RESERVED == VERSION_COORDINATOR + 2);
    };
}

/// Offsets in an entry of the contents table.
mod entry {
    pub const HASH: usize = 0;
    pub const RECORD: usize = 16;
    pub const OFFSET: usize = 20;
    pub const PAYLOAD_LEN: usize = 24;
    pub const HEAD_LEN: usize = 28;
    pub const VERSION_COORDINATOR: usize = 30;
    pub const VERSION_HLC: usize = 32;
    pub const EXPIRES_MS: usize = 40;
    pub const PART: usize = 48;
    pub const KIND: usize = 49;
    pub const FLAGS: usize = 50;
    pub const RESERVED: usize = 51;
    pub const NAMESPACE: usize = 52;
    pub const NAMESPACE_GENERATION: usize = 56;
    pub const PAYLOAD_CHECKSUM: usize = 60;

    const _: () = {
        assert!(RECORD == HASH + 16 && OFFSET == RECORD + 4 && PAYLOAD_LEN == OFFSET + 4);
        assert!(HEAD_LEN == PAYLOAD_LEN + 4 && VERSION_COORDINATOR == HEAD_LEN + 2);
        assert!(VERSION_HLC == VERSION_COORDINATOR + 2 && EXPIRES_MS == VERSION_HLC + 8);
        assert!(PART == EXPIRES_MS + 8 && KIND == PART + 1 && FLAGS == KIND + 1 && RESERVED == FLAGS + 1);
        assert!(NAMESPACE == RESERVED + 1 && NAMESPACE_GENERATION == NAMESPACE + 4);
        assert!(PAYLOAD_CHECKSUM == NAMESPACE_GENERATION + 4);
        assert!(PAYLOAD_CHECKSUM + 4 == super::CONTENTS_ENTRY_LEN);
    };
}

const FLAG_PINNED: u8 = 1;

const _: () = {
    assert!(BLOCK_LEN == super::index::slot::BLOCK_BYTES as usize);
    assert!(PART_ALIGN == super::index::slot::OFFSET_UNIT_BYTES);
    assert!(SLAB_LEN_DEFAULT <= SLAB_LEN_MAX && SLAB_LEN_MIN < SLAB_LEN_MAX);
    assert!(SLABS_START.is_multiple_of(BLOCK_LEN as u64));
    assert!(BLOCK_LEN.is_multiple_of(CONTENTS_ENTRY_LEN));
    assert!(hedgerow_wire::limits::PART_HEAD_LEN_MAX <= u16::MAX as usize);
};

pub(super) fn array_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&bytes[at..at + N]);
    array
}
pub(super) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(array_at(bytes, at))
}
pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array_at(bytes, at))
}
pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array_at(bytes, at))
}
pub(super) fn u128_at(bytes: &[u8], at: usize) -> u128 {
    u128::from_le_bytes(array_at(bytes, at))
}
pub(super) fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

/// Writes the checksum of `block` (CRC-32C of all of it with the checksum as zero) to `at`.
pub(super) fn seal_block(block: &mut [u8], at: usize) {
    put(block, at, &[0; 4]);
    let checksum = crc32c(block);
    put(block, at, &checksum.to_le_bytes());
}

/// Whether the checksum that [`seal_block`] wrote to `at` is right.
pub(super) fn block_is_sealed(block: &[u8], at: usize) -> bool {
    use hedgerow_wire::checksum::crc32c_append;
    let computed = crc32c_append(crc32c_append(crc32c(&block[..at]), &[0; 4]), &block[at + 4..]);
    computed == u32_at(block, at)
}

/// The next multiple of [`PART_ALIGN`].
pub(super) fn align_part(offset: u32) -> u32 {
    offset.next_multiple_of(PART_ALIGN)
}

/// The next multiple of [`BLOCK_LEN`].
pub(super) fn align_block(offset: u32) -> u32 {
    offset.next_multiple_of(BLOCK_LEN as u32)
}

/// The multiple of [`BLOCK_LEN`] at or before `offset`.
pub(super) fn block_start(offset: u32) -> u32 {
    offset - offset % BLOCK_LEN as u32
}

/// Blocks that hold a part of `len` bytes at `offset` of its slab.
pub(super) fn part_blocks(offset: u32, len: u32) -> u16 {
    ((align_block(offset + len) - block_start(offset)) / BLOCK_LEN as u32) as u16
}

/// Where the contents table of `parts` parts starts in a slab of `slab_len` bytes.
pub(super) fn contents_start(slab_len: u32, parts: usize) -> Option<u32> {
    let len = align_block(u32::try_from(parts.checked_mul(CONTENTS_ENTRY_LEN)?).ok()?);
    slab_len.checked_sub(BLOCK_LEN as u32)?.checked_sub(len)
}

/// Offset of `slab` on the device, in bytes.
pub(super) fn slab_start(slab: u32, slab_len: u32) -> u64 {
    SLABS_START + u64::from(slab) * u64::from(slab_len)
}

/// The first block of a slab.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SlabHeader {
    /// The shard's own random id.
    pub shard_id: u128,
    /// The slab's generation.
    pub generation: u64,
    /// The highest hlc that the shard had seen when the slab was opened.
    pub base_hlc: u64,
    /// The slab's number.
    pub slab: u32,
    /// Its length in bytes.
    pub slab_len: u32,
    /// The placement hint that it was written with.
    pub placement_hint: u16,
}

impl SlabHeader {
    /// Writes the header into `block`, [`BLOCK_LEN`] bytes:
    ///
    /// ```text
    ///  0 magic "HgSlabHd"   8 format=1   12 checksum (CRC-32C of the block with itself as zero)
    /// 16 shard_id (16)     32 generation (8)     40 base_hlc (8)
    /// 48 slab   52 slab_len   56 placement_hint (2)   58 zero up to 4096
    /// ```
    pub fn encode(&self, block: &mut [u8]) {
        let block = &mut block[..BLOCK_LEN];
        block.fill(0);
        put(block, header::MAGIC, &HEADER_MAGIC);
        put(block, header::FORMAT, &FORMAT_VERSION.to_le_bytes());
        put(block, header::SHARD_ID, &self.shard_id.to_le_bytes());
        put(block, header::GENERATION, &self.generation.to_le_bytes());
        put(block, header::BASE_HLC, &self.base_hlc.to_le_bytes());
        put(block, header::SLAB, &self.slab.to_le_bytes());
        put(block, header::SLAB_LEN, &self.slab_len.to_le_bytes());
        put(block, header::PLACEMENT_HINT, &self.placement_hint.to_le_bytes());
        seal_block(block, header::CHECKSUM);
    }

    /// The header that `block` is; `None` if it is none, is damaged, or of another format.
    pub fn decode(block: &[u8]) -> Option<SlabHeader> {
        let block = block.get(..BLOCK_LEN)?;
        let ours = block.starts_with(&HEADER_MAGIC)
            && u32_at(block, header::FORMAT) == FORMAT_VERSION
            && block_is_sealed(block, header::CHECKSUM)
            && block[header::RESERVED..].iter().all(|&byte| byte == 0);
        ours.then(|| SlabHeader {
            shard_id: u128_at(block, header::SHARD_ID),
            generation: u64_at(block, header::GENERATION),
            base_hlc: u64_at(block, header::BASE_HLC),
            slab: u32_at(block, header::SLAB),
            slab_len: u32_at(block, header::SLAB_LEN),
            placement_hint: u16_at(block, header::PLACEMENT_HINT),
        })
    }
}

/// The last block of a sealed slab: where its contents table is, and whether to believe it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SlabTrailer {
    /// The shard's own random id.
    pub shard_id: u128,
    /// The slab's generation.
    pub generation: u64,
    /// The slab's number.
    pub slab: u32,
    /// Entries of the contents table.
    pub parts: u32,
    /// CRC-32C of the entries.
    pub contents_checksum: u32,
    /// End of the last part, rounded up to a block, in bytes of the slab.
    pub data_end: u32,
    /// The highest version in the slab.
    pub highest: Version,
}

impl SlabTrailer {
    /// Writes the trailer into `block`, [`BLOCK_LEN`] bytes:
    ///
    /// ```text
    ///  0 magic "HgSlabTr"   8 format=1   12 checksum (CRC-32C of the block with itself as zero)
    /// 16 shard_id (16)     32 generation (8)
    /// 40 slab   44 parts   48 contents_checksum   52 data_end
    /// 56 highest version: hlc (8)   64 coordinator (2)   66 zero up to 4096
    /// ```
    pub fn encode(&self, block: &mut [u8]) {
        let block = &mut block[..BLOCK_LEN];
        block.fill(0);
        put(block, trailer::MAGIC, &TRAILER_MAGIC);
        put(block, trailer::FORMAT, &FORMAT_VERSION.to_le_bytes());
        put(block, trailer::SHARD_ID, &self.shard_id.to_le_bytes());
        put(block, trailer::GENERATION, &self.generation.to_le_bytes());
        put(block, trailer::SLAB, &self.slab.to_le_bytes());
        put(block, trailer::PARTS, &self.parts.to_le_bytes());
        put(block, trailer::CONTENTS_CHECKSUM, &self.contents_checksum.to_le_bytes());
        put(block, trailer::DATA_END, &self.data_end.to_le_bytes());
        put(block, trailer::VERSION_HLC, &self.highest.hlc.to_le_bytes());
        put(block, trailer::VERSION_COORDINATOR, &self.highest.coordinator.to_le_bytes());
        seal_block(block, trailer::CHECKSUM);
    }

    /// The trailer that `block` is; `None` if it is none, is damaged, or of another format.
    pub fn decode(block: &[u8]) -> Option<SlabTrailer> {
        let block = block.get(..BLOCK_LEN)?;
        let ours = block.starts_with(&TRAILER_MAGIC)
            && u32_at(block, trailer::FORMAT) == FORMAT_VERSION
            && block_is_sealed(block, trailer::CHECKSUM)
            && block[trailer::RESERVED..].iter().all(|&byte| byte == 0);
        ours.then(|| SlabTrailer {
            shard_id: u128_at(block, trailer::SHARD_ID),
            generation: u64_at(block, trailer::GENERATION),
            slab: u32_at(block, trailer::SLAB),
            parts: u32_at(block, trailer::PARTS),
            contents_checksum: u32_at(block, trailer::CONTENTS_CHECKSUM),
            data_end: u32_at(block, trailer::DATA_END),
            highest: Version {
                hlc: u64_at(block, trailer::VERSION_HLC),
                coordinator: u16_at(block, trailer::VERSION_COORDINATOR),
            },
        })
    }
}

/// A part as the contents table of its slab has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ContentsEntry {
    /// Hash of the object's key.
    pub hash: KeyHash,
    /// Which record.
    pub record: Record,
    /// Offset of the part's head in the slab, in bytes.
    pub offset: u32,
    /// Length of the payload, in bytes.
    pub payload_len: u32,
    /// Length of header and extensions, in bytes.
    pub head_len: u16,
    /// The version.
    pub version: Version,
    /// When the object expires, in milliseconds since the Unix epoch; 0 is never.
    pub expires_ms: u64,
    /// The part's number.
    pub part: u8,
    /// What the record is.
    pub kind: PartKind,
    /// Not to be evicted while anything unpinned is left.
    pub pinned: bool,
    /// The object's namespace.
    pub namespace: Namespace,
    /// The generation of the namespace.
    pub namespace_generation: u32,
    /// CRC-32C of the payload.
    pub payload_checksum: u32,
}

impl ContentsEntry {
    /// The entry of a part that is at `head.place`.
    pub fn of(head: &PartHead) -> ContentsEntry {
        let meta = &head.meta;
        ContentsEntry {
            hash: meta.key_hash(),
            record: meta.record,
            offset: head.place.slab_offset,
            payload_len: head.payload_len,
            head_len: head.head_len as u16,
            version: meta.version,
            expires_ms: meta.expires_ms,
            part: meta.part,
            kind: meta.kind,
            pinned: meta.pinned,
            namespace: meta.namespace,
            namespace_generation: meta.namespace_generation,
            payload_checksum: head.payload_checksum,
        }
    }

    /// Length of head and payload, in bytes.
    pub fn len(&self) -> u32 {
        u32::from(self.head_len) + self.payload_len
    }

    /// Never: a part has a head.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Writes the entry:
    ///
    /// ```text
    ///  0 hash (16)   16 record   20 offset   24 payload_len   28 head_len (2)
    /// 30 version.coordinator (2)   32 version.hlc (8)   40 expires_ms (8)
    /// 48 part   49 kind   50 flags (bit 0 pinned)   51 zero
    /// 52 namespace   56 namespace_generation   60 payload_checksum
    /// ```
    pub fn encode(&self) -> [u8; CONTENTS_ENTRY_LEN] {
        let mut bytes = [0; CONTENTS_ENTRY_LEN];
        put(&mut bytes, entry::HASH, &self.hash.0.to_le_bytes());
        put(&mut bytes, entry::RECORD, &self.record.0.to_le_bytes());
        put(&mut bytes, entry::OFFSET, &self.offset.to_le_bytes());
        put(&mut bytes, entry::PAYLOAD_LEN, &self.payload_len.to_le_bytes());
        put(&mut bytes, entry::HEAD_LEN, &self.head_len.to_le_bytes());
        put(&mut bytes, entry::VERSION_COORDINATOR, &self.version.coordinator.to_le_bytes());
        put(&mut bytes, entry::VERSION_HLC, &self.version.hlc.to_le_bytes());
        put(&mut bytes, entry::EXPIRES_MS, &self.expires_ms.to_le_bytes());
        bytes[entry::PART] = self.part;
        bytes[entry::KIND] = self.kind as u8;
        bytes[entry::FLAGS] = if self.pinned { FLAG_PINNED } else { 0 };
        put(&mut bytes, entry::NAMESPACE, &self.namespace.0.to_le_bytes());
        put(&mut bytes, entry::NAMESPACE_GENERATION, &self.namespace_generation.to_le_bytes());
        put(&mut bytes, entry::PAYLOAD_CHECKSUM, &self.payload_checksum.to_le_bytes());
        bytes
    }

    /// The entry that `bytes` are, in a slab whose parts end at `data_end`; `None` if no part can be so.
    pub fn decode(bytes: &[u8; CONTENTS_ENTRY_LEN], data_end: u32) -> Option<ContentsEntry> {
        let kind = PartKind::from_u8(bytes[entry::KIND])?;
        let found = ContentsEntry {
            hash: KeyHash(u128_at(bytes, entry::HASH)),
            record: Record(u32_at(bytes, entry::RECORD)),
            offset: u32_at(bytes, entry::OFFSET),
            payload_len: u32_at(bytes, entry::PAYLOAD_LEN),
            head_len: u16_at(bytes, entry::HEAD_LEN),
            version: Version {
                hlc: u64_at(bytes, entry::VERSION_HLC),
                coordinator: u16_at(bytes, entry::VERSION_COORDINATOR),
            },
            expires_ms: u64_at(bytes, entry::EXPIRES_MS),
            part: bytes[entry::PART],
            kind,
            pinned: bytes[entry::FLAGS] & FLAG_PINNED != 0,
            namespace: Namespace(u32_at(bytes, entry::NAMESPACE)),
            namespace_generation: u32_at(bytes, entry::NAMESPACE_GENERATION),
            payload_checksum: u32_at(bytes, entry::PAYLOAD_CHECKSUM),
        };
        let end = u64::from(found.offset) + u64::from(found.head_len) + u64::from(found.payload_len);
        let possible = bytes[entry::RESERVED] == 0
            && bytes[entry::FLAGS] & !FLAG_PINNED == 0
            && usize::from(found.head_len) > hedgerow_wire::limits::PART_HEADER_LEN
            && usize::from(found.head_len) <= hedgerow_wire::limits::PART_HEAD_LEN_MAX
            && found.payload_len as usize <= hedgerow_wire::limits::STRIPE_LEN_MAX
            && found.offset >= SLAB_DATA_START
            && found.offset.is_multiple_of(PART_ALIGN)
            && end <= u64::from(data_end);
        possible.then_some(found)
    }
}
