//! What a coordinator asks of a shard of another member, and its answers, as bodies of frames.
//!
//! Fixed binary layouts, little-endian. A deadline travels as the budget in the frame's header, the
//! acknowledgement level too; the key and namespace of a part read are those of the frame. Shards are
//! named by their position in the list of the member that is asked.
//!
//! Owns: the bodies of the ops `PartRead` to `Touch` and of their answers. Never: payloads; they
//! stand after the heads that are written and read here.

use std::ops::Range;

use crate::checksum::crc32c;
use crate::frame::{FrameHeader, Status};
use crate::limits::{PART_BATCH_MAX, PART_PREFIX_LEN};
use crate::part::{
    PartAnswer, PartConfirm, PartDrop, PartHead, PartHeadError, PartMeta, PartPlace, PartRead, PartTouch,
    PartWrite, RecordName, Standing, WritePurpose, decode_part_head, encode_part_head,
};
use crate::time::Timestamp;
use crate::types::{Key, KeyHash, Record, Version};

/// Length of the body of a part read, in bytes.
pub const PART_READ_LEN: usize = 24;
/// Length of the body of a part confirm, in bytes.
pub const PART_CONFIRM_LEN: usize = 40;
/// What stands before the entries of a drop or touch, in bytes.
pub const BATCH_PREFIX_LEN: usize = 8;
/// Length of one entry of a drop, in bytes.
pub const DROP_ENTRY_LEN: usize = 32;
/// Length of one entry of a touch, in bytes.
pub const TOUCH_ENTRY_LEN: usize = 32;

/// Why a body is no part message.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PartMessageError {
    /// Its length is not that of the message.
    #[error("a part message of {need} bytes, this one has {have}")]
    Length {
        /// Bytes that the message has.
        need: usize,
        /// Bytes that are there.
        have: usize,
    },
    /// A field has a value that is not allowed.
    #[error("part message field '{field}' has the value {value}, which is not allowed")]
    Field {
        /// The field's name.
        field: &'static str,
        /// What it holds.
        value: u64,
    },
    /// The frame has no key though the message needs one.
    #[error("a part read without a key")]
    NoKey,
    /// The part's head is wrong.
    #[error(transparent)]
    Head(#[from] PartHeadError),
    /// The payload is not what the head says.
    #[error("part payload checksum {found:#010x}, computed {computed:#010x}")]
    PayloadChecksum {
        /// In the head.
        found: u32,
        /// Of the bytes.
        computed: u32,
    },
}

/// Where in a body a part's payload stands; verified.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PayloadAt {
    /// Bytes of the body.
    pub range: Range<usize>,
    /// CRC-32C of the payload.
    pub checksum: u32,
}

/// Reads little-endian fields of a body whose length has been checked.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn array<const N: usize>(&self, at: usize) -> [u8; N] {
        std::array::from_fn(|i| self.0[at + i])
    }

    fn u16(&self, at: usize) -> u16 {
        u16::from_le_bytes(self.array(at))
    }

    fn u32(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.array(at))
    }

    fn u64(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.array(at))
    }

    fn hash(&self, at: usize) -> KeyHash {
        KeyHash(u128::from_le_bytes(self.array(at)))
    }

    fn version(&self, hlc_at: usize, coordinator_at: usize) -> Version {
        Version { hlc: self.u64(hlc_at), coordinator: self.u16(coordinator_at) }
    }

    fn zero(&self, range: Range<usize>) -> Result<(), PartMessageError> {
        match self.0[range].iter().find(|&&b| b != 0) {
            Some(&b) => Err(field("reserved", b)),
            None => Ok(()),
        }
    }
}

fn field(field: &'static str, value: impl Into<u64>) -> PartMessageError {
    PartMessageError::Field { field, value: value.into() }
}

fn exactly(body: &[u8], need: usize) -> Result<Fields<'_>, PartMessageError> {
    if body.len() == need {
        Ok(Fields(body))
    } else {
        Err(PartMessageError::Length { need, have: body.len() })
    }
}

fn at_least(body: &[u8], need: usize) -> Result<Fields<'_>, PartMessageError> {
    if body.len() >= need {
        Ok(Fields(body))
    } else {
        Err(PartMessageError::Length { need, have: body.len() })
    }
}

/// The body of a part read of `shard`; key and namespace go into the frame.
///
/// ```text
///  0 shard (2)   2 flags (bit 0: version given)   3 zero   4 record (4)
///  8 version.hlc (8)   16 version.coordinator (2)   18 zero (6)
/// ```
pub fn encode_read(shard: u16, read: &PartRead) -> [u8; PART_READ_LEN] {
    let mut out = [0; PART_READ_LEN];
    let version = read.version.unwrap_or(Version::ZERO);
    out[0..2].copy_from_slice(&shard.to_le_bytes());
    out[2] = u8::from(read.version.is_some());
    out[4..8].copy_from_slice(&read.name.record.0.to_le_bytes());
    out[8..16].copy_from_slice(&version.hlc.to_le_bytes());
    out[16..18].copy_from_slice(&version.coordinator.to_le_bytes());
    out
}

/// The shard and the read of a frame that became readable at `received`.
pub fn decode_read(
    header: &FrameHeader,
    key: Option<&Key>,
    body: &[u8],
    received: Timestamp,
) -> Result<(u16, PartRead), PartMessageError> {
    let fields = exactly(body, PART_READ_LEN)?;
    fields.zero(3..4)?;
    fields.zero(18..24)?;
    let version = fields.version(8, 16);
    let version = match body[2] {
        0 if version == Version::ZERO => None,
        1 => Some(version),
        other => return Err(field("flags", other)),
    };
    let key = key.ok_or(PartMessageError::NoKey)?.clone();
    let hash = key.hash(header.namespace);
    let name = RecordName { namespace: header.namespace, key, hash, record: Record(fields.u32(4)) };
    Ok((fields.u16(0), PartRead { name, version, deadline: header.deadline(received) }))
}

/// What stands before the payload in the body of a part write: prefix and part head. The level goes
/// into the frame's `ack`. `payload_checksum`: CRC-32C of the payload.
///
/// ```text
///  0 shard (2)   2 purpose (0 put, 1 repair)   3 zero (13)
/// 16 part head (its place all zero), then the payload
/// ```
pub fn encode_write_head(shard: u16, write: &PartWrite, payload_checksum: u32) -> Vec<u8> {
    let mut out = vec![0; PART_PREFIX_LEN + write.meta.head_len()];
    out[0..2].copy_from_slice(&shard.to_le_bytes());
    out[2] = match write.purpose {
        WritePurpose::Put => 0,
        WritePurpose::Repair => 1,
    };
    append_head(&write.meta, payload_checksum, &mut out);
    out
}

fn append_head(meta: &PartMeta, payload_checksum: u32, out: &mut [u8]) {
    let payload_len = meta.part_len() as u32;
    encode_part_head(meta, &PartPlace::default(), payload_len, payload_checksum, &mut out[PART_PREFIX_LEN..]);
}

/// The shard, the write and its verified payload, of a frame that became readable at `received`.
pub fn decode_write(
    header: &FrameHeader,
    body: &[u8],
    received: Timestamp,
) -> Result<(u16, PartWrite, PayloadAt), PartMessageError> {
    let fields = at_least(body, PART_PREFIX_LEN)?;
    fields.zero(3..PART_PREFIX_LEN)?;
    let purpose = match body[2] {
        0 => WritePurpose::Put,
        1 => WritePurpose::Repair,
        other => return Err(field("purpose", other)),
    };
    let (head, payload) = decode_head_and_payload(body)?;
    // What the daemon's own clients get by default is no matter between members.
    let ack = header.ack.ok_or(field("ack", 0u8))?;
    let write = PartWrite { meta: head.meta, ack, purpose, deadline: header.deadline(received) };
    Ok((fields.u16(0), write, payload))
}

/// The part head after the prefix, and the payload, which is all that is left.
fn decode_head_and_payload(body: &[u8]) -> Result<(PartHead, PayloadAt), PartMessageError> {
    let head = decode_part_head(&body[PART_PREFIX_LEN..])?;
    if head.place != PartPlace::default() {
        return Err(field("place", head.place.slab_offset));
    }
    let range = PART_PREFIX_LEN + head.head_len..body.len();
    if range.len() != head.payload_len as usize {
        return Err(PartMessageError::Length {
            need: range.start + head.payload_len as usize,
            have: body.len(),
        });
    }
    let computed = crc32c(&body[range.clone()]);
    if computed != head.payload_checksum {
        return Err(PartMessageError::PayloadChecksum { found: head.payload_checksum, computed });
    }
    Ok((head, PayloadAt { range, checksum: computed }))
}

/// The body of a part confirm of `shard`.
///
/// ```text
///  0 shard (2)   2 zero (2)   4 record (4)   8 key hash (16)
/// 24 version.hlc (8)   32 version.coordinator (2)   34 zero (6)
/// ```
pub fn encode_confirm(shard: u16, confirm: &PartConfirm) -> [u8; PART_CONFIRM_LEN] {
    let mut out = [0; PART_CONFIRM_LEN];
    out[0..2].copy_from_slice(&shard.to_le_bytes());
    out[4..8].copy_from_slice(&confirm.record.0.to_le_bytes());
    out[8..24].copy_from_slice(&confirm.hash.0.to_le_bytes());
    out[24..32].copy_from_slice(&confirm.version.hlc.to_le_bytes());
    out[32..34].copy_from_slice(&confirm.version.coordinator.to_le_bytes());
    out
}

/// The shard and the confirm of a frame that became readable at `received`.
pub fn decode_confirm(
    header: &FrameHeader,
    body: &[u8],
    received: Timestamp,
) -> Result<(u16, PartConfirm), PartMessageError> {
    let fields = exactly(body, PART_CONFIRM_LEN)?;
    fields.zero(2..4)?;
    fields.zero(34..40)?;
    let confirm = PartConfirm {
        hash: fields.hash(8),
        record: Record(fields.u32(4)),
        version: fields.version(24, 32),
        deadline: header.deadline(received),
    };
    Ok((fields.u16(0), confirm))
}

fn batch_prefix(shard: u16, count: usize, entry_len: usize) -> Vec<u8> {
    assert!(count <= PART_BATCH_MAX, "a batch of {count} records, {PART_BATCH_MAX} are allowed");
    let mut out = Vec::with_capacity(BATCH_PREFIX_LEN + count * entry_len);
    out.extend_from_slice(&shard.to_le_bytes());
    out.extend_from_slice(&[0; 2]);
    out.extend_from_slice(&(count as u32).to_le_bytes());
    out
}

/// The shard of a batch and its entries, each of `entry_len` bytes.
fn batch(body: &[u8], entry_len: usize) -> Result<(u16, std::slice::ChunksExact<'_, u8>), PartMessageError> {
    let fields = at_least(body, BATCH_PREFIX_LEN)?;
    fields.zero(2..4)?;
    let count = fields.u32(4);
    if count as usize > PART_BATCH_MAX {
        return Err(field("count", count));
    }
    exactly(body, BATCH_PREFIX_LEN + count as usize * entry_len)?;
    Ok((fields.u16(0), body[BATCH_PREFIX_LEN..].chunks_exact(entry_len)))
}

/// The body of a drop of records of `shard`.
///
/// ```text
///  0 shard (2)   2 zero (2)   4 count (4)
///  8 entries: key hash (16), version.hlc (8), record (4), version.coordinator (2), zero (2)
/// ```
///
/// # Panics
/// If there are more than [`PART_BATCH_MAX`].
pub fn encode_drop(shard: u16, drops: &[PartDrop]) -> Vec<u8> {
    let mut out = batch_prefix(shard, drops.len(), DROP_ENTRY_LEN);
    for drop in drops {
        out.extend_from_slice(&drop.hash.0.to_le_bytes());
        out.extend_from_slice(&drop.version.hlc.to_le_bytes());
        out.extend_from_slice(&drop.record.0.to_le_bytes());
        out.extend_from_slice(&drop.version.coordinator.to_le_bytes());
        out.extend_from_slice(&[0; 2]);
    }
    out
}

/// The shard and the drops of a body, at most [`PART_BATCH_MAX`].
pub fn decode_drop(body: &[u8]) -> Result<(u16, Vec<PartDrop>), PartMessageError> {
    let (shard, entries) = batch(body, DROP_ENTRY_LEN)?;
    let entry = |entry| -> Result<_, PartMessageError> {
        let fields = Fields(entry);
        fields.zero(30..32)?;
        Ok(PartDrop { hash: fields.hash(0), record: Record(fields.u32(24)), version: fields.version(16, 28) })
    };
    Ok((shard, entries.map(entry).collect::<Result<_, _>>()?))
}

/// The body of a touch of records of `shard`.
///
/// ```text
///  0 shard (2)   2 zero (2)   4 count (4)
///  8 entries: key hash (16), version.hlc (8), record (4), zero (4)
/// ```
///
/// # Panics
/// If there are more than [`PART_BATCH_MAX`].
pub fn encode_touch(shard: u16, touches: &[PartTouch]) -> Vec<u8> {
    let mut out = batch_prefix(shard, touches.len(), TOUCH_ENTRY_LEN);
    for touch in touches {
        out.extend_from_slice(&touch.hash.0.to_le_bytes());
        out.extend_from_slice(&touch.hlc.to_le_bytes());
        out.extend_from_slice(&touch.record.0.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
    }
    out
}

/// The shard and the touches of a body, at most [`PART_BATCH_MAX`].
pub fn decode_touch(body: &[u8]) -> Result<(u16, Vec<PartTouch>), PartMessageError> {
    let (shard, entries) = batch(body, TOUCH_ENTRY_LEN)?;
    let entry = |entry| -> Result<_, PartMessageError> {
        let fields = Fields(entry);
        fields.zero(28..32)?;
        Ok(PartTouch { hash: fields.hash(0), record: Record(fields.u32(24)), hlc: fields.u64(16) })
    };
    Ok((shard, entries.map(entry).collect::<Result<_, _>>()?))
}

/// Numbers of the variants of a [`PartAnswer`], the first byte of its body.
pub mod variant {
    /// [`PartAnswer::Part`](crate::part::PartAnswer::Part).
    pub const PART: u8 = 1;
    /// [`PartAnswer::Other`](crate::part::PartAnswer::Other).
    pub const OTHER: u8 = 2;
    /// [`PartAnswer::Absent`](crate::part::PartAnswer::Absent).
    pub const ABSENT: u8 = 3;
    /// [`PartAnswer::Held`](crate::part::PartAnswer::Held).
    pub const HELD: u8 = 4;
    /// [`PartAnswer::Stored`](crate::part::PartAnswer::Stored).
    pub const STORED: u8 = 5;
    /// [`PartAnswer::Superseded`](crate::part::PartAnswer::Superseded).
    pub const SUPERSEDED: u8 = 6;
    /// [`PartAnswer::Dropped`](crate::part::PartAnswer::Dropped).
    pub const DROPPED: u8 = 7;
    /// [`PartAnswer::ClockAhead`](crate::part::PartAnswer::ClockAhead).
    pub const CLOCK_AHEAD: u8 = 8;
    /// [`PartAnswer::Damaged`](crate::part::PartAnswer::Damaged).
    pub const DAMAGED: u8 = 9;
    /// [`PartAnswer::Overloaded`](crate::part::PartAnswer::Overloaded).
    pub const OVERLOADED: u8 = 10;
    /// [`PartAnswer::Expired`](crate::part::PartAnswer::Expired).
    pub const EXPIRED: u8 = 11;
    /// [`PartAnswer::Failed`](crate::part::PartAnswer::Failed).
    pub const FAILED: u8 = 12;
}

/// The body of an answer, up to the payload of a [`PartAnswer::Part`], whose CRC-32C is
/// `payload_checksum` (unused in the other variants). The frame's status is `Ok`.
///
/// ```text
///  0 variant   1 standing (held: 0 older, 1 same, 2 newer; absent: 1 unknown)
///  2 version.coordinator (2)   4 zero (4)
///  8 version.hlc, or how far ahead in microseconds (8)
/// 16 part only: part head (its place all zero), then the payload
/// ```
pub fn encode_answer_head<B>(answer: &PartAnswer<B>, payload_checksum: u32) -> Vec<u8> {
    let head_len = match answer {
        PartAnswer::Part { meta, .. } => meta.head_len(),
        _ => 0,
    };
    let mut out = vec![0; PART_PREFIX_LEN + head_len];
    let mut value = 0;
    let mut version_of = |version: &Version, out: &mut [u8]| {
        out[2..4].copy_from_slice(&version.coordinator.to_le_bytes());
        value = version.hlc;
    };
    out[0] = match answer {
        PartAnswer::Part { meta, .. } => {
            append_head(meta, payload_checksum, &mut out);
            variant::PART
        }
        PartAnswer::Other { version } => {
            version_of(version, &mut out);
            variant::OTHER
        }
        PartAnswer::Absent { forgotten_through, unknown } => {
            out[1] = u8::from(*unknown);
            version_of(forgotten_through, &mut out);
            variant::ABSENT
        }
        PartAnswer::Held(standing) => {
            out[1] = match standing {
                Standing::Older => 0,
                Standing::Same => 1,
                Standing::Newer => 2,
                Standing::SameClock => 3,
            };
            variant::HELD
        }
        PartAnswer::Stored => variant::STORED,
        PartAnswer::Superseded { version } => {
            version_of(version, &mut out);
            variant::SUPERSEDED
        }
        PartAnswer::Dropped => variant::DROPPED,
        PartAnswer::ClockAhead { ahead_us } => {
            value = *ahead_us;
            variant::CLOCK_AHEAD
        }
        PartAnswer::Damaged => variant::DAMAGED,
        PartAnswer::Overloaded => variant::OVERLOADED,
        PartAnswer::Expired => variant::EXPIRED,
        PartAnswer::Failed => variant::FAILED,
    };
    out[8..16].copy_from_slice(&value.to_le_bytes());
    out
}

/// The answer that a frame with `header` and `body` carries; a part's payload is verified. A status
/// other than `Ok` (the request was refused before it came to the shard) gives the answer that means
/// the same to a coordinator.
pub fn decode_answer(header: &FrameHeader, body: &[u8]) -> Result<PartAnswer<PayloadAt>, PartMessageError> {
    match header.status {
        Status::Ok => {}
        Status::Overloaded | Status::ShuttingDown => return Ok(PartAnswer::Overloaded),
        Status::DeadlineExceeded => return Ok(PartAnswer::Expired),
        _ => return Ok(PartAnswer::Failed),
    }
    let fields = at_least(body, PART_PREFIX_LEN)?;
    fields.zero(4..8)?;
    if body[0] != variant::PART {
        exactly(body, PART_PREFIX_LEN)?;
    }
    if !matches!(body[0], variant::HELD | variant::ABSENT) {
        fields.zero(1..2)?;
    }
    let version = fields.version(8, 2);
    match body[0] {
        variant::OTHER => return Ok(PartAnswer::Other { version }),
        variant::ABSENT => {
            let unknown = match body[1] {
                0 => false,
                1 => true,
                other => return Err(field("unknown", other)),
            };
            return Ok(PartAnswer::Absent { forgotten_through: version, unknown });
        }
        variant::SUPERSEDED => return Ok(PartAnswer::Superseded { version }),
        _ => fields.zero(2..4)?,
    }
    if body[0] == variant::CLOCK_AHEAD {
        return Ok(PartAnswer::ClockAhead { ahead_us: fields.u64(8) });
    }
    fields.zero(8..16)?;
    match (body[0], body[1]) {
        (variant::PART, _) => {
            let (head, payload) = decode_head_and_payload(body)?;
            Ok(PartAnswer::Part { meta: head.meta, payload })
        }
        (variant::HELD, 0) => Ok(PartAnswer::Held(Standing::Older)),
        (variant::HELD, 1) => Ok(PartAnswer::Held(Standing::Same)),
        (variant::HELD, 2) => Ok(PartAnswer::Held(Standing::Newer)),
        (variant::HELD, 3) => Ok(PartAnswer::Held(Standing::SameClock)),
        (variant::HELD, other) => Err(field("standing", other)),
        (variant::STORED, _) => Ok(PartAnswer::Stored),
        (variant::DROPPED, _) => Ok(PartAnswer::Dropped),
        (variant::DAMAGED, _) => Ok(PartAnswer::Damaged),
        (variant::OVERLOADED, _) => Ok(PartAnswer::Overloaded),
        (variant::EXPIRED, _) => Ok(PartAnswer::Expired),
        (variant::FAILED, _) => Ok(PartAnswer::Failed),
        (other, _) => Err(field("variant", other)),
    }
}

#[cfg(test)]
mod tests;
