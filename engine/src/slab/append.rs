//! Admit a write and put it into the buffer that takes parts.

use std::collections::VecDeque;

use hedgerow_wire::checksum::crc32c;
use hedgerow_wire::limits::CLOCK_AHEAD_US_MAX;
use hedgerow_wire::part::{
    PartAnswer, PartHead, PartKind, PartMeta, PartPlace, PartWrite, WritePurpose, encode_part_head,
};
use hedgerow_wire::time::Now;
use hedgerow_wire::{AckLevel, KeyHash, Record, Version};
use smallvec::SmallVec;

use super::commit::{Batch, BatchBuffer, BatchPart, Origin, Waiter};
use super::index::Entry;
use super::layout::{
    BLOCK_LEN, ContentsEntry, SLAB_DATA_START, SlabHeader, align_block, align_part, block_start,
    contents_start,
};
use super::store::{Request, Store, upper_bound};
use super::{Buffers, Payload, Token};
use crate::mistakes::{Mistake, planted};

/// Shortest buffer of a batch, in bytes.
const BATCH_LEN_MIN: u32 = 64 << 10;

/// A slab that takes parts, or whose contents table is not written yet.
#[derive(Debug)]
pub(super) struct Growing {
    pub(super) slab: u32,
    /// Parts that are on the device.
    pub(super) entries: Vec<ContentsEntry>,
    /// Parts that were given a place.
    pub(super) appended: usize,
    /// Where the next batch starts, in bytes.
    pub(super) cursor: u32,
    /// Where the batches start that are not on the device yet, in order.
    pub(super) unsettled: VecDeque<u32>,
    /// All batches from here on were written by this process, or by one that stopped cleanly.
    pub(super) settled_from: u32,
    /// Takes no more parts.
    pub(super) complete: bool,
    pub(super) sealing: Sealing,
    /// Its header is on the device: more than one batch may be under way.
    pub(super) header_written: bool,
}

/// How far the contents table of a slab is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Sealing {
    No,
    /// The parts are made durable first: a table that is there says that they are.
    Flushing,
    Writing,
}

/// What is known of a record of which writes are under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct PendingRecord {
    /// The newest version under way.
    pub(super) newest: Version,
    /// The batch that has it.
    pub(super) newest_batch: u64,
    /// What reads are given meanwhile: a part that was acknowledged as `buffered`, and its batch.
    pub(super) visible: Option<(u64, ContentsEntry)>,
    /// The newest version that was under way and is on the device.
    pub(super) completed: Version,
    /// These versions were dropped while under way.
    pub(super) dropped_through: Version,
    /// Parts under way.
    pub(super) outstanding: u32,
}

impl PendingRecord {
    /// Whether the newest version under way is to be reckoned with: it is neither on the device (the
    /// index has it, while an older one is still under way) nor dropped.
    pub(super) fn newest_counts(&self) -> bool {
        self.newest > self.completed && self.newest > self.dropped_through
    }
}

/// How a write stands to what is held and what is under way.
enum Order {
    /// Newer.
    Newer,
    /// Something newer is held or under way.
    Older(Version),
    /// The same version is under way, in this batch.
    UnderWay(u64),
    /// The same version is on the device.
    Held,
    /// The same version is on the device, and damaged there.
    Damaged,
    /// The clocks do not tell: the header at this entry does.
    Ask(Entry),
}

/// Where a part goes.
pub(super) enum Room {
    At(u32),
    /// No slab is free.
    None,
    /// No slab is long enough.
    Never,
}

impl<D: Buffers> Store<D> {
    /// Asks to store a part; `payload` (of `write.meta.part_len()` bytes) is copied once, into the buffer
    /// that goes to the device. The answer comes from [`Store::poll`] under `token`: `Stored`,
    /// `Superseded`, `ClockAhead`, `Overloaded`, `Expired` or `Failed`.
    pub fn write(&mut self, token: Token, write: &PartWrite, payload: &[u8], now: Now) {
        if let Some(answer) = self.refuse_write(write, payload, now) {
            return self.answer(token, answer);
        }
        let meta = &write.meta;
        let (hash, record) = (meta.key_hash(), meta.record);
        match self.order(hash, record, meta.version) {
            Order::Older(version)
                if !(planted(Mistake::RepairOverNewer) && write.purpose == WritePurpose::Repair) =>
            {
                self.answer(token, PartAnswer::Superseded { version });
            }
            Order::Held => self.acknowledge_held(token, write.ack),
            Order::UnderWay(batch) => self.join(token, write, hash, batch),
            Order::Ask(entry) => self.write_after_head(token, write, payload, entry),
            // Only what was let go since the device was opened first can be newer than what a repair's read
            // has confirmed: what the shard may have held before is not held against it.
            Order::Newer
                if write.purpose == WritePurpose::Repair && self.forgotten_through > meta.version =>
            {
                self.answer(token, PartAnswer::Superseded { version: self.forgotten_through });
            }
            // A repair of a damaged part too, whatever was forgotten: of its record nothing newer was held.
            Order::Newer | Order::Damaged | Order::Older(_) => self.append_write(token, write, hash, payload),
        }
    }

    /// Why a write is refused whatever is held.
    fn refuse_write(
        &mut self,
        write: &PartWrite,
        payload: &[u8],
        now: Now,
    ) -> Option<PartAnswer<Payload<D::Read>>> {
        let meta = &write.meta;
        if self.refuses() || payload.len() != meta.part_len() {
            return Some(PartAnswer::Failed);
        }
        if write.deadline <= now.mono {
            return Some(PartAnswer::Expired);
        }
        let ahead_us = meta.version.wall_us().saturating_sub(now.wall_us);
        if ahead_us > CLOCK_AHEAD_US_MAX {
            return Some(PartAnswer::ClockAhead { ahead_us });
        }
        let len = meta.head_len() + payload.len();
        let full = self.pending_bytes + len > self.config.pending_bytes_max;
        if full || self.writes_waiting >= self.config.writes_max {
            return Some(PartAnswer::Overloaded);
        }
        None
    }

    fn order(&self, hash: KeyHash, record: Record, version: Version) -> Order {
        let pending = self.pending.get(&(hash, record));
        if let Some(pending) = pending.filter(|pending| pending.newest_counts()) {
            return match version.cmp(&pending.newest) {
                std::cmp::Ordering::Less => Order::Older(pending.newest),
                std::cmp::Ordering::Equal => Order::UnderWay(pending.newest_batch),
                std::cmp::Ordering::Greater => Order::Newer,
            };
        }
        let Some(entry) = self.lookup(hash, record) else { return Order::Newer };
        if entry.hlc < version.hlc {
            return Order::Newer;
        }
        let damage = self.damage_at(hash, record, &entry);
        if damage.is_some_and(|damage| damage.is_of(version)) {
            return Order::Damaged;
        }
        match self.exact_version(hash, record, &entry) {
            // Its clock is another one, thus a newer one.
            None if damage.is_some() => Order::Older(upper_bound(&entry)),
            None => Order::Ask(entry),
            Some(held) => match version.cmp(&held) {
                std::cmp::Ordering::Less => Order::Older(held),
                std::cmp::Ordering::Equal => Order::Held,
                std::cmp::Ordering::Greater => Order::Newer,
            },
        }
    }

    /// Acknowledges a part that is on the device.
    fn acknowledge_held(&mut self, token: Token, ack: AckLevel) {
        if ack == AckLevel::Synced {
            self.requests.insert(token, Request::Flush);
            self.writes_waiting += 1;
            self.flusher.waiting.push(token);
        } else {
            self.answer(token, PartAnswer::Stored);
        }
    }

    /// Waits for a part that is under way already.
    fn join(&mut self, token: Token, write: &PartWrite, hash: KeyHash, number: u64) {
        let key = (hash, write.meta.record);
        let Some(batch) = self.batch_mut(number) else { panic!("batch {number} has parts and is gone") };
        let same = |part: &&mut BatchPart| {
            part.entry.hash == key.0 && part.entry.record == key.1 && part.entry.version == write.meta.version
        };
        let Some(part) = batch.parts.iter_mut().rev().find(same) else {
            panic!("batch {number} lost a part that is under way")
        };
        let entry = part.entry;
        if write.ack == AckLevel::Buffered {
            self.show(key, number, entry);
            return self.answer(token, PartAnswer::Stored);
        }
        part.waiters.push(Waiter { token, ack: write.ack });
        self.requests.insert(token, Request::Write);
        self.writes_waiting += 1;
    }

    fn show(&mut self, key: (KeyHash, Record), number: u64, entry: ContentsEntry) {
        if let Some(pending) = self.pending.get_mut(&key) {
            pending.visible = Some((number, entry));
        }
    }

    fn append_write(&mut self, token: Token, write: &PartWrite, hash: KeyHash, payload: &[u8]) {
        let meta = &write.meta;
        if self.lookup(hash, meta.record).is_none() && self.index_is_full() {
            self.counters.index_full += 1;
            return self.answer(token, PartAnswer::Overloaded);
        }
        let len = (meta.head_len() + payload.len()) as u32;
        let at = match self.make_room(len) {
            Room::At(at) => at,
            Room::None => return self.wait_for_slab(token, write, payload),
            Room::Never => return self.answer(token, PartAnswer::Failed),
        };
        let (number, entry) = self.append(meta, hash, payload, crc32c(payload), at, Origin::Write);
        self.counters.parts_admitted += 1;
        self.counters.bytes_admitted += u64::from(len);
        self.highest = self.highest.max(meta.version);
        let pending = self.pending.entry((hash, meta.record)).or_insert(PendingRecord {
            newest: Version::ZERO,
            newest_batch: number,
            visible: None,
            completed: Version::ZERO,
            dropped_through: Version::ZERO,
            outstanding: 0,
        });
        pending.newest = meta.version;
        pending.newest_batch = number;
        pending.outstanding += 1;
        if pending.dropped_through >= meta.version {
            pending.dropped_through = Version::ZERO;
        }
        if write.ack == AckLevel::Buffered {
            pending.visible = Some((number, entry));
            return self.answer(token, PartAnswer::Stored);
        }
        self.requests.insert(token, Request::Write);
        self.writes_waiting += 1;
        if let Some(part) = self.filling.as_mut().and_then(|filling| filling.parts.last_mut()) {
            part.waiters.push(Waiter { token, ack: write.ack });
        }
    }

    /// Whether a new record would fill the index further than it can be relied on.
    fn index_is_full(&self) -> bool {
        (self.index.len() + self.pending.len()) * 100 >= self.index.slots() * 95
    }

    /// Writes a part again that lies in the slab that is let go; `false` if there is no room for it.
    pub(super) fn append_again(&mut self, head: &PartHead, payload: &[u8], from: (u32, u32)) -> bool {
        let len = (head.head_len + payload.len()) as u32;
        let Room::At(at) = self.make_room(len) else { return false };
        let origin = Origin::Reinsert { slab: from.0, offset: from.1 };
        self.append(&head.meta, head.meta.key_hash(), payload, head.payload_checksum, at, origin);
        self.counters.parts_reinserted += 1;
        self.counters.bytes_reinserted += u64::from(len);
        true
    }

    /// Puts a part into the filling batch at `at` of its slab, where [`Store::make_room`] made room.
    fn append(
        &mut self,
        meta: &PartMeta,
        hash: KeyHash,
        payload: &[u8],
        checksum: u32,
        at: u32,
        origin: Origin,
    ) -> (u64, ContentsEntry) {
        let Some(slab) = self.filling.as_ref().map(|filling| filling.slab) else {
            panic!("a part is to be appended and no batch takes parts")
        };
        let place = self.new_place(slab, at);
        let entry = ContentsEntry {
            hash,
            record: meta.record,
            offset: at,
            payload_len: payload.len() as u32,
            head_len: meta.head_len() as u16,
            version: meta.version,
            expires_ms: meta.expires_ms,
            part: meta.part,
            kind: meta.kind,
            pinned: meta.pinned,
            namespace: meta.namespace,
            namespace_generation: meta.namespace_generation,
            payload_checksum: checksum,
        };
        let Some(filling) = self.filling.as_mut() else { unreachable!("it was there a moment ago") };
        let (gap, start) = (filling.used as usize, (at - filling.base) as usize);
        let bytes = filling.writable_mut();
        bytes[gap..start].fill(0);
        let head_len = encode_part_head(meta, &place, payload.len() as u32, checksum, &mut bytes[start..]);
        let payload_start = start + head_len;
        bytes[payload_start..payload_start + payload.len()].copy_from_slice(payload);
        filling.used = (payload_start + payload.len()) as u32;
        filling.parts.push(BatchPart { entry, origin, waiters: SmallVec::new() });
        let number = filling.number;
        self.counters.bytes_padding += (start - gap) as u64;
        self.pending_bytes += entry.len() as usize;
        if let Some(growing) = self.growing.last_mut() {
            growing.appended += 1;
        }
        (number, entry)
    }

    /// The place of a part that is put at `at` of the slab that takes parts.
    fn new_place(&self, slab: u32, at: u32) -> PartPlace {
        let place = self.place(slab, at);
        let (Some(growing), Some(filling)) = (self.growing.last(), &self.filling) else { return place };
        let settled_from = growing.settled_from;
        let settled = growing.unsettled.front().copied().unwrap_or(filling.base);
        PartPlace { settled_from, settled_through: settled.max(settled_from), ..place }
    }

    /// Sees to it that the filling batch takes a part of `len` bytes, and says where in its slab.
    pub(super) fn make_room(&mut self, len: u32) -> Room {
        let slab_len = self.slabs.slab_len();
        if contents_start(slab_len, 1).is_none_or(|limit| align_block(SLAB_DATA_START + len) > limit) {
            return Room::Never;
        }
        loop {
            if let Some(filling) = &self.filling {
                let at = align_part(filling.base + filling.used);
                let fits_slab = self.slab_takes(align_block(at + len));
                if fits_slab && at + len <= filling.base + filling.writable().len() as u32 {
                    return Room::At(at);
                }
                self.close_filling();
                if !fits_slab {
                    self.complete_open_slab();
                }
                continue;
            }
            if self.growing.last().is_none_or(|growing| growing.complete) {
                let Some(slab) = self.slabs.open() else { return Room::None };
                assert!(
                    self.slabs.generation(slab) <= self.superblock.generation_bound,
                    "generation {} of slab {slab} is not covered by {:?}",
                    self.slabs.generation(slab),
                    self.superblock
                );
                self.growing.push(Growing::new(slab));
            }
            if !self.start_filling(len) {
                self.complete_open_slab();
            }
        }
    }

    /// Whether the open slab has room for one more part that ends at `end`, and for its entry in the
    /// contents table.
    fn slab_takes(&self, end: u32) -> bool {
        let appended = self.growing.last().map_or(0, |growing| growing.appended);
        let end = if planted(Mistake::SlabEnd) { end - BLOCK_LEN as u32 } else { end };
        contents_start(self.slabs.slab_len(), appended + 1).is_some_and(|limit| end <= limit)
    }

    /// Starts a batch in the open slab for a part of `len` bytes; `false` if the slab is too full.
    fn start_filling(&mut self, len: u32) -> bool {
        let Some(growing) = self.growing.last() else { return false };
        let (slab, base) = (growing.slab, growing.cursor);
        let header_len = if base == 0 { BLOCK_LEN as u32 } else { 0 };
        let need = align_block(header_len + len);
        if !self.slab_takes(base + need) {
            return false;
        }
        let limit = contents_start(self.slabs.slab_len(), growing.appended + 1).map_or(0, block_start);
        let wish = (self.last_batch_len * 2).next_power_of_two().max(BATCH_LEN_MIN);
        let buffer_len = wish.min(block_start(self.config.commit_len_max)).max(need).min(limit - base);
        let mut buffer = self.buffers.alloc(buffer_len as usize);
        if base == 0 {
            let header = SlabHeader {
                shard_id: self.superblock.shard_id,
                generation: self.slabs.generation(slab),
                base_hlc: self.highest.hlc,
                slab,
                slab_len: self.slabs.slab_len(),
                placement_hint: self.config.placement_hint,
            };
            header.encode(buffer.as_mut());
            self.counters.bytes_tables += BLOCK_LEN as u64;
        }
        self.filling = Some(Batch {
            number: self.next_batch,
            slab,
            base,
            used: header_len,
            parts: Vec::new(),
            buffer: BatchBuffer::Filling(buffer),
        });
        self.next_batch += 1;
        true
    }

    /// The open slab takes no more parts.
    pub(super) fn complete_open_slab(&mut self) {
        if let Some(growing) = self.growing.last_mut() {
            growing.complete = true;
        }
    }
}

impl Growing {
    fn new(slab: u32) -> Growing {
        Growing {
            slab,
            entries: Vec::new(),
            appended: 0,
            cursor: 0,
            unsettled: VecDeque::new(),
            settled_from: SLAB_DATA_START,
            complete: false,
            sealing: Sealing::No,
            header_written: false,
        }
    }

    /// A slab that is resumed, or that only lacks its contents table.
    /// Its batches from `settled_from` on are all there.
    pub(super) fn restored(
        slab: u32,
        entries: Vec<ContentsEntry>,
        settled_from: u32,
        cursor: u32,
    ) -> Growing {
        Growing {
            appended: entries.len(),
            entries,
            settled_from,
            cursor,
            header_written: true,
            ..Growing::new(slab)
        }
    }
}

/// The index entry of a part in `slab`.
pub(super) fn index_entry(slab: u32, part: &ContentsEntry) -> Entry {
    Entry {
        slab,
        offset: part.offset,
        blocks: super::layout::part_blocks(part.offset, part.len()),
        hlc: part.version.hlc,
        tombstone: part.kind == PartKind::Tombstone,
        touched: false,
    }
}
