//! Stat: what is known of an object, down to where each part lies.

use flatbuffers::{FlatBufferBuilder, WIPOffset};

use super::{
    MessageError, at_most, bytes, code, field, key, message, target, to_code, to_version, to_wide, version,
    wide,
};
use crate::generated::hedgerow as fb;
use crate::limits::TAGS_LEN_MAX;
use crate::part::PartKind;
use crate::types::{ChecksumKind, Code, Key, Namespace, ObjectChecksum, Record, Target, Version, wire_enum};

wire_enum! {
    /// How what a target holds of a record stands to the object's version.
    PartState {
        /// Its part of this version.
        Present = 0,
        /// Nothing.
        Absent = 1,
        /// A part of an older version.
        Older = 2,
        /// A part of a newer version.
        Newer = 3,
        /// A part that fails its checks.
        Damaged = 4,
        /// It did not say in time, or is set aside.
        Unreachable = 5,
    }
}

/// What one target holds of one record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StatPart {
    /// The target that was asked.
    pub target: Target,
    /// What it said.
    pub state: PartState,
    /// Number of the part that it holds.
    pub part: u8,
    /// Version of that part.
    pub version: Version,
    /// Slab in which it lies.
    pub slab: u32,
    /// Generation of that slab.
    pub slab_generation: u64,
    /// Offset in the slab, in bytes.
    pub offset: u32,
    /// Length of the part's payload, in bytes.
    pub len: u32,
}

impl StatPart {
    fn build<'a>(&self, b: &mut FlatBufferBuilder<'a>) -> WIPOffset<fb::StatPart<'a>> {
        let args = fb::StatPartArgs {
            target: Some(&fb::Target::new(self.target.member.0, self.target.shard)),
            state: self.state as u8,
            part: self.part,
            version: Some(&to_version(self.version)),
            slab: self.slab,
            slab_generation: self.slab_generation,
            offset: self.offset,
            len: self.len,
        };
        fb::StatPart::create(b, &args)
    }

    fn read(table: fb::StatPart<'_>) -> Result<StatPart, MessageError> {
        Ok(StatPart {
            target: target(table.target())?,
            state: PartState::from_u8(table.state()).ok_or_else(|| field("state", table.state()))?,
            part: table.part(),
            version: version(table.version()),
            slab: table.slab(),
            slab_generation: table.slab_generation(),
            offset: table.offset(),
            len: table.len(),
        })
    }
}

/// One record of the object.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StatRecord {
    /// Which one.
    pub record: Record,
    /// Length of its stripe in bytes; 0 for heads and tombstones.
    pub stripe_len: u32,
    /// Its own code.
    pub code: Code,
    /// What its targets hold, in the ring's order.
    pub parts: Vec<StatPart>,
}

impl StatRecord {
    fn build<'a>(&self, b: &mut FlatBufferBuilder<'a>) -> WIPOffset<fb::StatRecord<'a>> {
        let parts: Vec<_> = self.parts.iter().map(|part| part.build(b)).collect();
        let args = fb::StatRecordArgs {
            record: self.record.0,
            stripe_len: self.stripe_len,
            code: Some(&to_code(self.code)),
            parts: Some(b.create_vector(&parts)),
        };
        fb::StatRecord::create(b, &args)
    }

    fn read(table: fb::StatRecord<'_>) -> Result<StatRecord, MessageError> {
        Ok(StatRecord {
            record: Record(table.record()),
            stripe_len: table.stripe_len(),
            code: code(table.code())?,
            parts: table.parts().into_iter().flatten().map(StatPart::read).collect::<Result<_, _>>()?,
        })
    }
}

/// Everything that is known of an object.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StatAnswer {
    /// Its namespace.
    pub namespace: Namespace,
    /// Its key.
    pub key: Key,
    /// Its version.
    pub version: Version,
    /// `Sole`, `Head` or `Tombstone`.
    pub kind: PartKind,
    /// Its length in bytes.
    pub object_len: u64,
    /// Length of every stripe but the last, in bytes.
    pub stripe_size: u32,
    /// The code of the record that commits it.
    pub code: Code,
    /// When it was written, in milliseconds since the Unix epoch.
    pub created_ms: u64,
    /// When it expires, in milliseconds since the Unix epoch; 0 is never.
    pub expires_ms: u64,
    /// The writer's checksum.
    pub checksum: ObjectChecksum,
    /// Kept as long as anything unpinned is left to evict.
    pub pinned: bool,
    /// The version was confirmed by enough targets.
    pub confirmed: bool,
    /// The memory tier holds it.
    pub from_memory: bool,
    /// Encoded tags (each a length byte and its bytes).
    pub tags: Vec<u8>,
    /// Its records: the object record, then one for each stripe if it has a head.
    pub records: Vec<StatRecord>,
}

impl StatAnswer {
    fn build<'a>(
        &self,
        b: &mut FlatBufferBuilder<'a>,
    ) -> Result<WIPOffset<fb::StatAnswer<'a>>, MessageError> {
        at_most("tags", self.tags.len(), TAGS_LEN_MAX)?;
        let records: Vec<_> = self.records.iter().map(|record| record.build(b)).collect();
        let args = fb::StatAnswerArgs {
            namespace_id: self.namespace.0,
            key: Some(b.create_vector(self.key.as_bytes())),
            version: Some(&to_version(self.version)),
            kind: self.kind as u8,
            object_len: self.object_len,
            stripe_size: self.stripe_size,
            code: Some(&to_code(self.code)),
            created_ms: self.created_ms,
            expires_ms: self.expires_ms,
            checksum_kind: self.checksum.kind as u8,
            checksum: Some(&to_wide(self.checksum.bits)),
            pinned: self.pinned,
            confirmed: self.confirmed,
            from_memory: self.from_memory,
            tags: Some(b.create_vector(&self.tags)),
            records: Some(b.create_vector(&records)),
        };
        Ok(fb::StatAnswer::create(b, &args))
    }

    fn read(table: fb::StatAnswer<'_>) -> Result<StatAnswer, MessageError> {
        let checksum = ObjectChecksum {
            kind: ChecksumKind::from_u8(table.checksum_kind())
                .ok_or_else(|| field("checksum_kind", table.checksum_kind()))?,
            bits: wide(table.checksum()),
        };
        let tags = bytes(table.tags());
        at_most("tags", tags.len(), TAGS_LEN_MAX)?;
        Ok(StatAnswer {
            namespace: Namespace(table.namespace_id()),
            key: key(table.key())?,
            version: version(table.version()),
            kind: PartKind::from_u8(table.kind()).ok_or_else(|| field("kind", table.kind()))?,
            object_len: table.object_len(),
            stripe_size: table.stripe_size(),
            code: code(table.code())?,
            created_ms: table.created_ms(),
            expires_ms: table.expires_ms(),
            checksum,
            pinned: table.pinned(),
            confirmed: table.confirmed(),
            from_memory: table.from_memory(),
            tags,
            records: table.records().into_iter().flatten().map(StatRecord::read).collect::<Result<_, _>>()?,
        })
    }
}

message!(StatAnswer, StatAnswer);
