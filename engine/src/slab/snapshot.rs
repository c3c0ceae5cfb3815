//! The index of a shard, and whatever else its store wants to keep over a clean stop, as bytes.
//!
//! Owns: the layout of these bytes. Never: a file (the shell maps or writes it). Nothing needs a
//! snapshot to be right: bytes that are not exactly a snapshot of this shard, taken at this stop, are
//! refused with a reason, and the store scans its slabs instead.
//!
//! ```text
//!   0  magic "HGINDEX\0"                  8
//!   8  snapshot version                   4
//!  12  slot layout version                4   slot.rs, LAYOUT_VERSION
//!  16  shard id                          16
//!  32  nonce                              8   the caller's: a snapshot of an earlier stop has another one
//!  40  seed of the index                  8
//!  48  buckets of the index               8
//!  56  parts in the index                 8
//!  64  highest hlc ever inserted          8
//!  72  length of the extra section        8   bytes
//!  80  reserved, zero                    44
//! 124  CRC-32C of bytes 0..124            4
//! 128  chunks of the extra section            opaque bytes of the caller
//!   -  chunks of the table                    64 bytes a bucket: 4 slots of 2 words
//! ```
//!
//! All numbers are little-endian. A section is cut into chunks of [`CHUNK_BYTES`], the last one shorter
//! (an empty section has none). After each chunk stands the CRC-32C of: the header's CRC, the chunk's
//! ordinal over both sections (8 bytes), its bytes. So the place of each chunk follows from the header,
//! chunks can be verified one after the other or in parallel, and a chunk of another snapshot, or at
//! another place, is refused although its bytes are whole.

#[cfg(test)]
mod tests;

use hedgerow_wire::checksum::{crc32c, crc32c_append};

use super::index::slot::LAYOUT_VERSION;
use super::index::{BUCKET_BYTES, BUCKETS_MAX, BUCKETS_MIN, CapacityError, Index};

/// Bytes under one checksum: whole buckets.
pub const CHUNK_BYTES: usize = 256 << 10;
/// Longest extra section, in bytes.
pub const EXTRA_BYTES_MAX: usize = 1 << 30;

/// What every snapshot begins with.
pub const MAGIC: [u8; 8] = *b"HGINDEX\0";
const SNAPSHOT_VERSION: u32 = 1;
const CHECKSUM_BYTES: usize = 4;

/// Offsets in the header.
pub mod layout {
    /// What every snapshot begins with.
    pub const MAGIC: usize = 0;
    /// Version of the snapshot's layout (u32).
    pub const SNAPSHOT_VERSION: usize = 8;
    /// Version of the layout of a slot (u32).
    pub const SLOT_LAYOUT_VERSION: usize = 12;
    /// The shard's own random id (16 bytes).
    pub const SHARD_ID: usize = 16;
    /// The nonce of the stop (u64).
    pub const NONCE: usize = 32;
    /// Seed of the index (u64).
    pub const SEED: usize = 40;
    /// Buckets of the index (u64).
    pub const BUCKETS: usize = 48;
    /// Parts in the index (u64).
    pub const PARTS: usize = 56;
    /// Highest hlc ever inserted (u64).
    pub const HIGHEST_HLC: usize = 64;
    /// Length of the extra section in bytes (u64).
    pub const EXTRA_LEN: usize = 72;
    /// Zero from here to the checksum (44 bytes).
    pub const RESERVED: usize = 80;
    /// CRC-32C of what stands before it (u32).
    pub const CHECKSUM: usize = 124;
    /// Length of the header.
    pub const LEN: usize = 128;
}

const _: () = {
    assert!(CHUNK_BYTES.is_multiple_of(BUCKET_BYTES));
    assert!(layout::SNAPSHOT_VERSION == layout::MAGIC + MAGIC.len());
    assert!(layout::SLOT_LAYOUT_VERSION == layout::SNAPSHOT_VERSION + size_of::<u32>());
    assert!(layout::SHARD_ID == layout::SLOT_LAYOUT_VERSION + size_of::<u32>());
    assert!(layout::NONCE == layout::SHARD_ID + size_of::<u128>());
    assert!(layout::SEED == layout::NONCE + size_of::<u64>());
    assert!(layout::RESERVED == layout::EXTRA_LEN + size_of::<u64>());
    assert!(layout::CHECKSUM == layout::RESERVED + 44);
    assert!(layout::LEN == layout::CHECKSUM + CHECKSUM_BYTES);
};

/// Which snapshot this is: of which shard, taken at which stop.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SnapshotId {
    /// The shard's own random id.
    pub shard_id: u128,
    /// A number that the shard gives to one clean stop only, and keeps where it would lose it at once
    /// when anything is written after.
    pub nonce: u64,
}

/// What a snapshot held.
pub struct Snapshot {
    /// The index as it was, seed and all.
    pub index: Index,
    /// The caller's own bytes.
    pub extra: Vec<u8>,
}

/// Why bytes are not the wanted snapshot.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SnapshotError {
    /// Something else altogether.
    #[error("this is no index snapshot")]
    Magic,
    /// Written by another release.
    #[error("snapshot version {found}, this daemon reads {SNAPSHOT_VERSION}")]
    SnapshotVersion {
        /// The version in the header.
        found: u32,
    },
    /// Its slots have another layout.
    #[error("slot layout version {found}, this daemon reads {LAYOUT_VERSION}")]
    SlotLayoutVersion {
        /// The version in the header.
        found: u32,
    },
    /// Its header is damaged.
    #[error("the snapshot's header is damaged: checksum {found:08x}, expected {expected:08x}")]
    HeaderChecksum {
        /// The checksum of the bytes.
        found: u32,
        /// The checksum in the header.
        expected: u32,
    },
    /// It belongs to another shard.
    #[error("the snapshot is of shard {found:032x}, not {expected:032x}")]
    ShardId {
        /// The shard id in the header.
        found: u128,
        /// The caller's.
        expected: u128,
    },
    /// It was taken at another stop.
    #[error("the snapshot has nonce {found:016x}, not {expected:016x}: it is of another stop")]
    Nonce {
        /// The nonce in the header.
        found: u64,
        /// The caller's.
        expected: u64,
    },
    /// A field of the header cannot be.
    #[error("the snapshot's {field} cannot be {value}")]
    Field {
        /// Which.
        field: &'static str,
        /// Its value.
        value: u64,
    },
    /// The end is missing.
    #[error("a snapshot of {need} bytes is cut off after {have}")]
    Truncated {
        /// Bytes that it has by its header (or of the header itself).
        need: u64,
        /// Bytes that were given.
        have: u64,
    },
    /// There is more than a snapshot.
    #[error("a snapshot of {need} bytes is followed by {excess} others")]
    Trailing {
        /// Bytes that it has by its header.
        need: u64,
        /// Bytes after these.
        excess: u64,
    },
    /// A chunk is damaged, misplaced or of another snapshot.
    #[error("chunk {chunk} of the snapshot is damaged: checksum {found:08x}, expected {expected:08x}")]
    ChunkChecksum {
        /// Ordinal of the chunk over both sections.
        chunk: u64,
        /// The checksum of the bytes.
        found: u32,
        /// The checksum after them.
        expected: u32,
    },
    /// A slot is neither empty nor the place of a part.
    #[error("a slot of bucket {bucket} of the snapshot cannot be")]
    Slot {
        /// The bucket.
        bucket: u64,
    },
    /// The slots are not as many as the header says.
    #[error("the snapshot says that it has {expected} parts, and has {found}")]
    PartCount {
        /// Slots in use.
        found: u64,
        /// Parts by the header.
        expected: u64,
    },
    /// The index cannot be made.
    #[error(transparent)]
    Capacity(#[from] CapacityError),
}

/// Length of the snapshot of `index` with `extra_len` bytes of the caller, in bytes.
pub fn encoded_len(index: &Index, extra_len: usize) -> u64 {
    layout::LEN as u64
        + section_len(extra_len as u64)
        + section_len((index.bucket_count() * BUCKET_BYTES) as u64)
}

/// Gives the snapshot of `index` and of `extra` to `sink`, piece by piece: the header, then each chunk
/// with its checksum. Stops at the first error of `sink`, which is given back.
///
/// # Panics
/// If `extra` is longer than [`EXTRA_BYTES_MAX`].
pub fn encode<E>(
    index: &Index,
    id: &SnapshotId,
    extra: &[u8],
    mut sink: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<(), E> {
    assert!(extra.len() <= EXTRA_BYTES_MAX, "an extra section of {} bytes is too long", extra.len());
    let header = encode_header(index, id, extra.len());
    let mut chunks = ChunkChecksums::new(&header);
    sink(&header)?;
    let mut piece = Vec::with_capacity(CHUNK_BYTES + CHECKSUM_BYTES);
    for chunk in extra.chunks(CHUNK_BYTES) {
        piece.clear();
        piece.extend_from_slice(chunk);
        chunks.seal(&mut piece);
        sink(&piece)?;
    }
    const CHUNK_BUCKETS: usize = CHUNK_BYTES / BUCKET_BYTES;
    for first in (0..index.bucket_count()).step_by(CHUNK_BUCKETS) {
        piece.clear();
        for bucket in first..index.bucket_count().min(first + CHUNK_BUCKETS) {
            piece.extend_from_slice(&index.bucket_bytes(bucket));
        }
        chunks.seal(&mut piece);
        sink(&piece)?;
    }
    Ok(())
}

/// As [`encode`], onto the end of `out`.
pub fn encode_to_vec(index: &Index, id: &SnapshotId, extra: &[u8], out: &mut Vec<u8>) {
    out.reserve(encoded_len(index, extra.len()) as usize);
    let Ok(()) = encode(index, id, extra, |piece| {
        out.extend_from_slice(piece);
        Ok::<(), std::convert::Infallible>(())
    });
}

/// The snapshot that `bytes` are, if they are all of a snapshot `expected` and nothing else.
///
/// Lengths are checked before memory is taken: never more than `bytes` themselves have.
pub fn decode(bytes: &[u8], expected: &SnapshotId) -> Result<Snapshot, SnapshotError> {
    let header = decode_header(bytes, expected)?;
    let mut chunks = ChunkChecksums::new(&bytes[..layout::LEN]);
    let mut rest = &bytes[layout::LEN..];
    let mut extra = Vec::with_capacity(header.extra_len);
    while extra.len() < header.extra_len {
        let len = CHUNK_BYTES.min(header.extra_len - extra.len());
        extra.extend_from_slice(chunks.take(&mut rest, len)?);
    }
    let mut index = Index::with_buckets(header.buckets, header.seed)?;
    let mut bucket = 0;
    while bucket < header.buckets {
        let len = CHUNK_BYTES.min((header.buckets - bucket) * BUCKET_BYTES);
        for bytes in chunks.take(&mut rest, len)?.as_chunks::<BUCKET_BYTES>().0 {
            if !index.restore_bucket(bucket, bytes) {
                return Err(SnapshotError::Slot { bucket: bucket as u64 });
            }
            bucket += 1;
        }
    }
    index.restore_highest_hlc(header.highest_hlc);
    let found = index.len() as u64;
    if found != header.parts {
        return Err(SnapshotError::PartCount { found, expected: header.parts });
    }
    Ok(Snapshot { index, extra })
}

/// What [`decode`] needs of a header that is in order.
struct Header {
    seed: u64,
    buckets: usize,
    parts: u64,
    highest_hlc: u64,
    extra_len: usize,
}

fn encode_header(index: &Index, id: &SnapshotId, extra_len: usize) -> [u8; layout::LEN] {
    let mut header = [0; layout::LEN];
    let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
    put(layout::MAGIC, &MAGIC);
    put(layout::SNAPSHOT_VERSION, &SNAPSHOT_VERSION.to_le_bytes());
    put(layout::SLOT_LAYOUT_VERSION, &LAYOUT_VERSION.to_le_bytes());
    put(layout::SHARD_ID, &id.shard_id.to_le_bytes());
    put(layout::NONCE, &id.nonce.to_le_bytes());
    put(layout::SEED, &index.seed().to_le_bytes());
    put(layout::BUCKETS, &(index.bucket_count() as u64).to_le_bytes());
    put(layout::PARTS, &(index.len() as u64).to_le_bytes());
    put(layout::HIGHEST_HLC, &index.highest_hlc().to_le_bytes());
    put(layout::EXTRA_LEN, &(extra_len as u64).to_le_bytes());
    let checksum = crc32c(&header[..layout::CHECKSUM]);
    header[layout::CHECKSUM..].copy_from_slice(&checksum.to_le_bytes());
    header
}

fn decode_header(bytes: &[u8], expected: &SnapshotId) -> Result<Header, SnapshotError> {
    let have = bytes.len() as u64;
    let Some(header) = bytes.first_chunk::<{ layout::LEN }>() else {
        return Err(SnapshotError::Truncated { need: layout::LEN as u64, have });
    };
    if !header.starts_with(&MAGIC) {
        return Err(SnapshotError::Magic);
    }
    let found = u32_at(header, layout::SNAPSHOT_VERSION);
    if found != SNAPSHOT_VERSION {
        return Err(SnapshotError::SnapshotVersion { found });
    }
    let stored = u32_at(header, layout::CHECKSUM);
    let found = crc32c(&header[..layout::CHECKSUM]);
    if found != stored {
        return Err(SnapshotError::HeaderChecksum { found, expected: stored });
    }
    let found = u32_at(header, layout::SLOT_LAYOUT_VERSION);
    if found != LAYOUT_VERSION {
        return Err(SnapshotError::SlotLayoutVersion { found });
    }
    let found = u128::from_le_bytes(array_at(header, layout::SHARD_ID));
    if found != expected.shard_id {
        return Err(SnapshotError::ShardId { found, expected: expected.shard_id });
    }
    let found = u64_at(header, layout::NONCE);
    if found != expected.nonce {
        return Err(SnapshotError::Nonce { found, expected: expected.nonce });
    }
    decode_sizes(header, have)
}

fn decode_sizes(header: &[u8; layout::LEN], have: u64) -> Result<Header, SnapshotError> {
    let field = |field, value| Err(SnapshotError::Field { field, value });
    let buckets = u64_at(header, layout::BUCKETS);
    let extra_len = u64_at(header, layout::EXTRA_LEN);
    if let Some(&byte) = header[layout::RESERVED..layout::CHECKSUM].iter().find(|&&byte| byte != 0) {
        return field("reserved", u64::from(byte));
    }
    if !(BUCKETS_MIN as u64..=BUCKETS_MAX as u64).contains(&buckets) {
        return field("buckets", buckets);
    }
    if extra_len > EXTRA_BYTES_MAX as u64 {
        return field("extra_len", extra_len);
    }
    let need = layout::LEN as u64 + section_len(extra_len) + section_len(buckets * BUCKET_BYTES as u64);
    if have < need {
        return Err(SnapshotError::Truncated { need, have });
    }
    if have > need {
        return Err(SnapshotError::Trailing { need, excess: have - need });
    }
    Ok(Header {
        seed: u64_at(header, layout::SEED),
        buckets: buckets as usize,
        parts: u64_at(header, layout::PARTS),
        highest_hlc: u64_at(header, layout::HIGHEST_HLC),
        extra_len: extra_len as usize,
    })
}

/// Checksums of the chunks, in their order.
struct ChunkChecksums {
    header_checksum: [u8; CHECKSUM_BYTES],
    next: u64,
}

impl ChunkChecksums {
    fn new(header: &[u8]) -> ChunkChecksums {
        ChunkChecksums { header_checksum: array_at(header, layout::CHECKSUM), next: 0 }
    }

    fn checksum(&self, chunk: &[u8]) -> u32 {
        let bound = crc32c_append(crc32c(&self.header_checksum), &self.next.to_le_bytes());
        crc32c_append(bound, chunk)
    }

    /// Appends the checksum of the next chunk to it.
    fn seal(&mut self, chunk: &mut Vec<u8>) {
        let checksum = self.checksum(chunk);
        chunk.extend_from_slice(&checksum.to_le_bytes());
        self.next += 1;
    }

    /// Takes the next chunk, of `len` bytes, and its checksum off `rest`, which has them.
    fn take<'a>(&mut self, rest: &mut &'a [u8], len: usize) -> Result<&'a [u8], SnapshotError> {
        let (chunk, after) = rest.split_at(len);
        let expected = u32_at(after, 0);
        let found = self.checksum(chunk);
        if found != expected {
            return Err(SnapshotError::ChunkChecksum { chunk: self.next, found, expected });
        }
        *rest = &after[CHECKSUM_BYTES..];
        self.next += 1;
        Ok(chunk)
    }
}

/// Length of a section of `len` bytes with the checksums of its chunks.
fn section_len(len: u64) -> u64 {
    len + len.div_ceil(CHUNK_BYTES as u64) * CHECKSUM_BYTES as u64
}

fn array_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&bytes[at..at + N]);
    array
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array_at(bytes, at))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array_at(bytes, at))
}
