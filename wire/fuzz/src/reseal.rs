//! Makes the checksums of bytes right: what an attacker does, and random changes do not.

use hedgerow_engine::slab::snapshot::{self, CHUNK_BYTES};
use hedgerow_wire::checksum::{crc32c, crc32c_append};
use hedgerow_wire::frame::layout as frame;
use hedgerow_wire::limits::{FRAME_HEADER_LEN, PART_HEADER_LEN};
use hedgerow_wire::part::layout as part;

/// Bytes of a checksum.
const CHECKSUM_LEN: usize = 4;

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(std::array::from_fn(|i| bytes[at + i]))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]))
}

pub(crate) fn u128_at(bytes: &[u8], at: usize) -> u128 {
    u128::from_le_bytes(std::array::from_fn(|i| bytes[at + i]))
}

fn put(bytes: &mut [u8], at: usize, checksum: u32) {
    bytes[at..at + CHECKSUM_LEN].copy_from_slice(&checksum.to_le_bytes());
}

/// Writes the checksum of all `bytes`, with itself as zero, to `at`.
fn seal(bytes: &mut [u8], at: usize) {
    put(bytes, at, 0);
    put(bytes, at, crc32c(bytes));
}

/// Every frame of a stream, as far as headers lead from one to the next: key, body, header.
pub(crate) fn stream(bytes: &mut [u8]) {
    let mut rest = bytes;
    while rest.len() >= FRAME_HEADER_LEN {
        let (header, after) = rest.split_at_mut(FRAME_HEADER_LEN);
        let key_len = usize::from(u16_at(header, frame::KEY_LEN)).min(after.len());
        let (key, after) = after.split_at_mut(key_len);
        let body_len = (u32_at(header, frame::BODY_LEN) as usize).min(after.len());
        let (body, after) = after.split_at_mut(body_len);
        put(header, frame::KEY_CHECKSUM, crc32c(key));
        put(header, frame::BODY_CHECKSUM, crc32c(body));
        seal(header, frame::HEADER_CHECKSUM);
        rest = after;
    }
}

/// A part: the payload after its head, and the head.
pub(crate) fn part(bytes: &mut [u8]) {
    if bytes.len() < PART_HEADER_LEN {
        return;
    }
    let head_len = PART_HEADER_LEN + u32_at(bytes, part::EXTENSIONS_LEN) as usize;
    if bytes.len() < head_len {
        return;
    }
    let (head, payload) = bytes.split_at_mut(head_len);
    put(head, part::PAYLOAD_CHECKSUM, crc32c(payload));
    seal(head, part::HEAD_CHECKSUM);
}

/// A snapshot of an index: the header, and the chunks of both sections, as far as there are bytes.
pub(crate) fn index_snapshot(bytes: &mut [u8]) {
    use snapshot::layout;
    let Some((header, mut rest)) = bytes.split_at_mut_checked(layout::LEN) else { return };
    put(header, layout::CHECKSUM, crc32c(&header[..layout::CHECKSUM]));
    let bucket_bytes = hedgerow_engine::slab::index::BUCKET_BYTES as u64;
    let sections =
        [u64_at(header, layout::EXTRA_LEN), u64_at(header, layout::BUCKETS).saturating_mul(bucket_bytes)];
    let bound = crc32c(&header[layout::CHECKSUM..]);
    let mut chunk = 0u64;
    for mut left in sections {
        while left > 0 {
            let len = left.min(CHUNK_BYTES as u64) as usize;
            let Some((bytes, after)) = rest.split_at_mut_checked(len + CHECKSUM_LEN) else { return };
            let checksum = crc32c_append(crc32c_append(bound, &chunk.to_le_bytes()), &bytes[..len]);
            put(bytes, len, checksum);
            (rest, left, chunk) = (after, left - len as u64, chunk + 1);
        }
    }
}
