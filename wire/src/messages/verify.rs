//! Verify: checks what a shard holds, a bounded run of parts at a time.

use flatbuffers::{FlatBufferBuilder, WIPOffset};

use super::{MessageError, at_most, field, key, message, text, to_version, version};
use crate::generated::hedgerow as fb;
use crate::limits::VERIFY_PARTS_MAX;
use crate::types::{Key, Namespace, Record, Version};

/// Asks a shard to read and check its next parts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct VerifyRequest {
    /// Position in the daemon's list of shards.
    pub shard: u16,
    /// 0 to begin; then what the last answer said. Opaque to the client.
    pub cursor: u64,
    /// Parts to check at most: 1 to [`VERIFY_PARTS_MAX`].
    pub parts_max: u32,
}

impl VerifyRequest {
    fn build<'a>(
        &self,
        b: &mut FlatBufferBuilder<'a>,
    ) -> Result<WIPOffset<fb::VerifyRequest<'a>>, MessageError> {
        let args =
            fb::VerifyRequestArgs { shard: self.shard, cursor: self.cursor, parts_max: self.parts_max };
        Ok(fb::VerifyRequest::create(b, &args))
    }

    fn read(table: fb::VerifyRequest<'_>) -> Result<VerifyRequest, MessageError> {
        if !(1..=VERIFY_PARTS_MAX).contains(&table.parts_max()) {
            return Err(field("parts_max", table.parts_max()));
        }
        Ok(VerifyRequest { shard: table.shard(), cursor: table.cursor(), parts_max: table.parts_max() })
    }
}

message!(VerifyRequest, VerifyRequest);

/// A part that failed a check.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DamagedPart {
    /// Namespace of its object; 0 if the head cannot be read.
    pub namespace: Namespace,
    /// Key of its object, if the head can be read.
    pub key: Option<Key>,
    /// Its record.
    pub record: Record,
    /// Its number.
    pub part: u8,
    /// Its version.
    pub version: Version,
    /// Slab in which it lies.
    pub slab: u32,
    /// Offset in the slab, in bytes.
    pub offset: u32,
    /// Which check failed, as a sentence.
    pub why: String,
}

impl DamagedPart {
    fn build<'a>(&self, b: &mut FlatBufferBuilder<'a>) -> WIPOffset<fb::DamagedPart<'a>> {
        let args = fb::DamagedPartArgs {
            namespace_id: self.namespace.0,
            key: self.key.as_ref().map(|key| b.create_vector(key.as_bytes())),
            record: self.record.0,
            part: self.part,
            version: Some(&to_version(self.version)),
            slab: self.slab,
            offset: self.offset,
            why: Some(b.create_string(&self.why)),
        };
        fb::DamagedPart::create(b, &args)
    }

    fn read(table: fb::DamagedPart<'_>) -> Result<DamagedPart, MessageError> {
        Ok(DamagedPart {
            namespace: Namespace(table.namespace_id()),
            key: table.key().map(|bytes| key(Some(bytes))).transpose()?,
            record: Record(table.record()),
            part: table.part(),
            version: version(table.version()),
            slab: table.slab(),
            offset: table.offset(),
            why: text(table.why()),
        })
    }
}

/// What a run of checks found, and where the next one begins.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VerifyAnswer {
    /// `cursor` of the next request.
    pub next_cursor: u64,
    /// Parts checked by this request.
    pub parts_checked: u32,
    /// Bytes checked by this request.
    pub bytes_checked: u64,
    /// Those that failed, at most [`VERIFY_PARTS_MAX`].
    pub damaged: Vec<DamagedPart>,
    /// The end is reached.
    pub finished: bool,
    /// Parts checked since the cursor was 0.
    pub parts_done: u64,
    /// Parts that there are; an estimate while parts come and go.
    pub parts_total: u64,
}

impl VerifyAnswer {
    fn build<'a>(
        &self,
        b: &mut FlatBufferBuilder<'a>,
    ) -> Result<WIPOffset<fb::VerifyAnswer<'a>>, MessageError> {
        at_most("damaged", self.damaged.len(), VERIFY_PARTS_MAX as usize)?;
        let damaged: Vec<_> = self.damaged.iter().map(|part| part.build(b)).collect();
        let args = fb::VerifyAnswerArgs {
            next_cursor: self.next_cursor,
            parts_checked: self.parts_checked,
            bytes_checked: self.bytes_checked,
            damaged: Some(b.create_vector(&damaged)),
            finished: self.finished,
            parts_done: self.parts_done,
            parts_total: self.parts_total,
        };
        Ok(fb::VerifyAnswer::create(b, &args))
    }

    fn read(table: fb::VerifyAnswer<'_>) -> Result<VerifyAnswer, MessageError> {
        at_most("damaged", table.damaged().map_or(0, |parts| parts.len()), VERIFY_PARTS_MAX as usize)?;
        Ok(VerifyAnswer {
            next_cursor: table.next_cursor(),
            parts_checked: table.parts_checked(),
            bytes_checked: table.bytes_checked(),
            damaged: table
                .damaged()
                .into_iter()
                .flatten()
                .map(DamagedPart::read)
                .collect::<Result<_, _>>()?,
            finished: table.finished(),
            parts_done: table.parts_done(),
            parts_total: table.parts_total(),
        })
    }
}

message!(VerifyAnswer, VerifyAnswer);
