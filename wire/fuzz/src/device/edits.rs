//! Edits of a device's image: raw bytes, and fields of structures, whose checksums are then right.
//!
//! An edit is a byte that says which, and its arguments; where the input ends, the rest is zero.

use hedgerow_engine::slab::index::Entry;
use hedgerow_engine::slab::layout::{
    BLOCK_LEN, CONTENTS_ENTRY_LEN, ContentsEntry, SLABS_START, SlabHeader, SlabTrailer,
};
use hedgerow_engine::slab::snapshot::{Snapshot, SnapshotId, decode, encode_to_vec, layout};
use hedgerow_engine::slab::superblock::{COPIES, Superblock};
use hedgerow_wire::checksum::crc32c;
use hedgerow_wire::part::{PartHead, PartKind, decode_part_head, encode_part_head};
use hedgerow_wire::{KeyHash, Record};

use crate::reseal;
use crate::world::{self, SLAB_LEN, SLABS};

/// Bytes that say what to do.
pub(super) struct Input<'a>(pub(super) &'a [u8]);

impl Input<'_> {
    pub(super) fn more(&self) -> bool {
        !self.0.is_empty()
    }

    pub(super) fn byte(&mut self) -> u8 {
        self.number(1) as u8
    }

    fn short(&mut self) -> usize {
        self.number(2) as usize
    }

    fn long(&mut self) -> u64 {
        self.number(8)
    }

    fn number(&mut self, len: usize) -> u64 {
        let (bytes, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        bytes.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte))
    }
}

/// A device that is being tampered with.
pub(super) struct Edited {
    pub(super) bytes: Vec<u8>,
    pub(super) snapshot: Option<Vec<u8>>,
}

impl Edited {
    /// Does the next edit.
    pub(super) fn edit(&mut self, input: &mut Input<'_>) {
        match input.byte() % 9 {
            0 => self.raw(input),
            1 => self.copy_block(input),
            2 => self.superblock(input),
            3 => self.header(input),
            4 => self.trailer(input),
            5 => self.entry(input),
            6 => self.head(input),
            7 => self.snapshot_extra(input),
            _ => self.snapshot_index(input),
        }
    }

    fn block(&mut self, block: usize) -> &mut [u8] {
        let blocks = self.bytes.len() / BLOCK_LEN;
        &mut self.bytes[block % blocks * BLOCK_LEN..][..BLOCK_LEN]
    }

    fn slab(&mut self, input: &mut Input<'_>) -> &mut [u8] {
        let slab = usize::from(input.byte()) % SLABS as usize;
        &mut self.bytes[SLABS_START as usize + slab * SLAB_LEN as usize..][..SLAB_LEN as usize]
    }

    fn raw(&mut self, input: &mut Input<'_>) {
        let (block, at, value) = (input.short(), input.short(), input.byte());
        self.block(block)[at % BLOCK_LEN] = value;
    }

    fn copy_block(&mut self, input: &mut Input<'_>) {
        let from = self.block(input.short()).to_vec();
        self.block(input.short()).copy_from_slice(&from);
    }

    fn superblock(&mut self, input: &mut Input<'_>) {
        let block = self.block(usize::from(input.byte()) % COPIES as usize);
        let Ok(mut superblock) = Superblock::decode(block) else { return };
        let (field, value) = (input.byte(), input.long());
        match field % 15 {
            0 => superblock.shard_id = value.into(),
            1 => superblock.daemon_id = value.into(),
            2 => superblock.sequence = counter(value),
            3 => superblock.device_len = value,
            4 => superblock.slab_len = value as u32,
            5 => superblock.slabs = value as u32,
            6 => superblock.shard_index = value as u16,
            7 => superblock.parity = value as u8,
            8 => superblock.forgotten_through.hlc = value,
            9 => superblock.evicted_through = counter(value),
            10 => superblock.generation_bound = counter(value),
            11 => superblock.clean_nonce = value,
            12 => superblock.index_seed = value,
            13 => superblock.unknown_through.hlc = value,
            _ => superblock.boot = value,
        }
        superblock.encode(block);
    }

    fn header(&mut self, input: &mut Input<'_>) {
        let slab = self.slab(input);
        let Some(mut header) = SlabHeader::decode(slab) else { return };
        let (field, value) = (input.byte(), input.long());
        match field % 6 {
            0 => header.shard_id = value.into(),
            1 => header.generation = value,
            2 => header.base_hlc = value,
            3 => header.slab = value as u32,
            4 => header.slab_len = value as u32,
            _ => header.placement_hint = value as u16,
        }
        header.encode(slab);
    }

    fn trailer(&mut self, input: &mut Input<'_>) {
        let slab = self.slab(input);
        let at = slab.len() - BLOCK_LEN;
        let Some(mut trailer) = SlabTrailer::decode(&slab[at..]) else { return };
        let (field, value) = (input.byte(), input.long());
        match field % 8 {
            0 => trailer.shard_id = value.into(),
            1 => trailer.generation = value,
            2 => trailer.slab = value as u32,
            3 => trailer.parts = value as u32,
            4 => trailer.contents_checksum = value as u32,
            5 => trailer.data_end = value as u32,
            6 => trailer.highest.hlc = value,
            _ => trailer.highest.coordinator = value as u16,
        }
        trailer.encode(&mut slab[at..]);
    }

    /// A line of a contents table.
    fn entry(&mut self, input: &mut Input<'_>) {
        let slab = self.slab(input);
        let Some(mut table) = Table::of(slab) else { return };
        let number = usize::from(input.byte()) % table.entries.len();
        let entry = &mut table.entries[number];
        let (field, value) = (input.byte(), input.long());
        match field % 12 {
            0 => entry.hash = KeyHash(value.into()),
            1 => entry.record = Record(value as u32),
            2 => entry.offset = value as u32,
            3 => entry.payload_len = value as u32,
            4 => entry.head_len = value as u16,
            5 => entry.version.hlc = value,
            6 => entry.version.coordinator = value as u16,
            7 => entry.expires_ms = value,
            8 => entry.part = value as u8,
            9 => entry.kind = PartKind::ALL[value as usize % PartKind::ALL.len()],
            10 => entry.pinned = value & 1 != 0,
            _ => entry.payload_checksum = value as u32,
        }
        table.write(slab);
    }

    /// The head of a part that a contents table leads to, or of the first one of a slab without a table.
    fn head(&mut self, input: &mut Input<'_>) {
        let slab = self.slab(input);
        let number = usize::from(input.byte());
        let at = match Table::of(slab) {
            Some(table) => table.entries[number % table.entries.len()].offset as usize,
            None => BLOCK_LEN,
        };
        let Ok(mut head) = decode_part_head(&slab[at..]) else { return };
        let (field, value) = (input.byte(), input.long());
        change_head(&mut head, field, value);
        let payload_len = head.meta.part_len();
        let Some(payload) = slab.get(at + head.head_len..at + head.head_len + payload_len) else { return };
        let checksum = crc32c(payload);
        encode_part_head(&head.meta, &head.place, payload_len as u32, checksum, &mut slab[at..]);
    }

    /// The bytes that a stop keeps beside its index.
    fn snapshot_extra(&mut self, input: &mut Input<'_>) {
        let (at, value) = (input.short(), input.long().to_le_bytes());
        self.change_snapshot(|snapshot| {
            let at = at % snapshot.extra.len();
            let len = value.len().min(snapshot.extra.len() - at);
            snapshot.extra[at..at + len].copy_from_slice(&value[..len]);
        });
    }

    /// Where the index leads to.
    fn snapshot_index(&mut self, input: &mut Input<'_>) {
        let names = &world::image().names;
        let name = &names[usize::from(input.byte()) % names.len()];
        let (slab, offset, blocks, hlc) = (input.short(), input.short(), input.short(), input.long());
        let entry = Entry {
            slab: slab as u32,
            offset: offset as u32 * 64,
            blocks: blocks as u16 % 512,
            hlc,
            tombstone: hlc & 1 != 0,
            touched: hlc & 2 != 0,
        };
        if entry.blocks > 0 {
            self.change_snapshot(|snapshot| {
                let _full = snapshot.index.insert(name.hash, name.record, &entry);
            });
        }
    }

    fn change_snapshot(&mut self, change: impl FnOnce(&mut Snapshot)) {
        let Some(bytes) = &mut self.snapshot else { return };
        let id = SnapshotId {
            shard_id: reseal::u128_at(bytes, layout::SHARD_ID),
            nonce: reseal::u64_at(bytes, layout::NONCE),
        };
        let Ok(mut snapshot) = decode(bytes, &id) else { return };
        change(&mut snapshot);
        bytes.clear();
        encode_to_vec(&snapshot.index, &id, &snapshot.extra, bytes);
    }
}

/// Not so near the end of what a counter may be that a device opens once more and then never again.
fn counter(value: u64) -> u64 {
    if value >> 61 == 1 { value >> 1 } else { value }
}

fn change_head(head: &mut PartHead, field: u8, value: u64) {
    let (meta, place) = (&mut head.meta, &mut head.place);
    match field % 16 {
        0 => meta.kind = PartKind::ALL[value as usize % PartKind::ALL.len()],
        1 => meta.pinned = value & 1 != 0,
        2 => meta.namespace.0 = value as u32,
        3 => meta.record = Record(value as u32),
        4 => meta.version.hlc = value,
        5 => meta.version.coordinator = value as u16,
        6 => meta.object_len = value,
        7 => meta.stripe_len = value as u32,
        8 => meta.stripe_size = value as u32,
        9 => meta.part = value as u8,
        10 => meta.expires_ms = value,
        11 => place.shard_id = value.into(),
        12 => place.slab_generation = value,
        13 => place.slab_offset = value as u32,
        14 => place.settled_from = value as u32,
        _ => place.settled_through = value as u32,
    }
}

/// The contents table of a sealed slab.
struct Table {
    trailer: SlabTrailer,
    start: usize,
    entries: Vec<ContentsEntry>,
}

impl Table {
    /// The table at the end of a slab, if there is one that has entries.
    fn of(slab: &[u8]) -> Option<Table> {
        let end = slab.len() - BLOCK_LEN;
        let trailer = SlabTrailer::decode(&slab[end..])?;
        let len = (trailer.parts as usize).checked_mul(CONTENTS_ENTRY_LEN)?;
        let start = end.checked_sub(len.next_multiple_of(BLOCK_LEN))?;
        let entries: Option<Vec<_>> = slab[start..start + len]
            .as_chunks()
            .0
            .iter()
            .map(|bytes| ContentsEntry::decode(bytes, trailer.data_end))
            .collect();
        Some(Table { trailer, start, entries: entries.filter(|entries| !entries.is_empty())? })
    }

    fn write(&mut self, slab: &mut [u8]) {
        let bytes: Vec<u8> = self.entries.iter().flat_map(ContentsEntry::encode).collect();
        slab[self.start..self.start + bytes.len()].copy_from_slice(&bytes);
        self.trailer.contents_checksum = crc32c(&bytes);
        let end = slab.len() - BLOCK_LEN;
        self.trailer.encode(&mut slab[end..]);
    }
}
