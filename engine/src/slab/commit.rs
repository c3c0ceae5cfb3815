//! Write batches out, acknowledge their parts, flush.
//!
//! A batch goes out when none is under way, or when its buffer is full; so a batch takes whatever
//! arrived while the one before it was under way. A block belongs to one batch: closing a batch closes its
//! last block.

use hedgerow_wire::part::PartAnswer;
use hedgerow_wire::time::Now;
use hedgerow_wire::{AckLevel, KeyHash, Record, Version};
use smallvec::SmallVec;

use super::append::{Growing, Sealing, index_entry};
use super::layout::{BLOCK_LEN, CONTENTS_ENTRY_LEN, ContentsEntry, SlabTrailer, align_block, contents_start};
use super::store::{Io, Store};
use super::{Buffers, Effect, IoError, Token};
use crate::mistakes::{Mistake, planted};

/// Batches under way at a time: the second one hides the first one's latency when both are full.
pub(super) const BATCHES_IN_FLIGHT_MAX: usize = 2;

/// Parts that go to the device in one write.
pub(super) struct Batch<D: Buffers> {
    pub(super) number: u64,
    pub(super) slab: u32,
    /// Where in the slab it starts, in bytes.
    pub(super) base: u32,
    /// Bytes of the buffer in use.
    pub(super) used: u32,
    pub(super) parts: Vec<BatchPart>,
    pub(super) buffer: BatchBuffer<D>,
}

/// The bytes of a batch.
pub(super) enum BatchBuffer<D: Buffers> {
    Filling(D::Write),
    Frozen(D::Read),
    /// While one becomes the other.
    Between,
}

/// A part of a batch.
pub(super) struct BatchPart {
    pub(super) entry: ContentsEntry,
    pub(super) origin: Origin,
    pub(super) waiters: SmallVec<[Waiter; 1]>,
}

/// Where a part comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Origin {
    /// A request.
    Write,
    /// This place in the slab that is let go.
    Reinsert { slab: u32, offset: u32 },
}

/// Who waits for a part, and for what.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiter {
    pub(super) token: Token,
    pub(super) ack: AckLevel,
}

/// Flushes for acknowledgements, coalesced: one is under way, the next takes all who came meanwhile.
#[derive(Default)]
pub(super) struct Flusher {
    /// Their parts are on the device; the next flush is theirs.
    pub(super) waiting: Vec<Token>,
    /// They wait for the flush under way.
    current: Vec<Token>,
    in_flight: bool,
}

impl Flusher {
    pub(super) fn idle(&self) -> bool {
        !self.in_flight && self.waiting.is_empty()
    }
}

impl<D: Buffers> Batch<D> {
    pub(super) fn writable(&self) -> &[u8] {
        match &self.buffer {
            BatchBuffer::Filling(buffer) => buffer.as_ref(),
            _ => unreachable!("a batch that takes parts is not frozen"),
        }
    }

    pub(super) fn writable_mut(&mut self) -> &mut [u8] {
        match &mut self.buffer {
            BatchBuffer::Filling(buffer) => buffer.as_mut(),
            _ => unreachable!("a batch that takes parts is not frozen"),
        }
    }

    pub(super) fn frozen(&self) -> &D::Read {
        match &self.buffer {
            BatchBuffer::Frozen(buffer) => buffer,
            _ => unreachable!("a batch that is closed is frozen"),
        }
    }
}

impl<D: Buffers> Store<D> {
    /// Closes the filling batch: it takes no more parts.
    pub(super) fn close_filling(&mut self) {
        let Some(mut batch) = self.filling.take() else { return };
        if batch.used == 0 {
            // Begun for a write that waited, and was overtaken meanwhile.
            return;
        }
        let (used, len) = (batch.used as usize, align_block(batch.used) as usize);
        batch.writable_mut()[used..len].fill(0);
        if let BatchBuffer::Filling(buffer) = std::mem::replace(&mut batch.buffer, BatchBuffer::Between) {
            batch.buffer = BatchBuffer::Frozen(self.buffers.freeze(buffer, len));
        }
        self.counters.bytes_padding += (len - used) as u64;
        self.last_batch_len = len as u32;
        if let Some(growing) = self.growing.last_mut() {
            growing.cursor = batch.base + len as u32;
            growing.unsettled.push_back(batch.base);
        }
        self.ready.push_back(batch);
    }

    /// Hands out the batches that may go.
    pub(super) fn pump_batches(&mut self) {
        loop {
            let nothing_waits = self.ready.is_empty() && self.batches_in_flight == 0;
            if nothing_waits && self.filling.as_ref().is_some_and(|filling| !filling.parts.is_empty()) {
                self.close_filling();
            }
            let Some(next) = self.ready.front() else { return };
            if self.batches_in_flight >= BATCHES_IN_FLIGHT_MAX || !self.may_follow(next.slab, next.base) {
                return;
            }
            let Some(batch) = self.ready.pop_front() else { return };
            self.send(batch);
        }
    }

    /// Whether a batch at `base` of `slab` may be under way: the one with the slab's header goes alone,
    /// since without the header the others would not be found after a crash.
    fn may_follow(&self, slab: u32, base: u32) -> bool {
        base == 0 || self.growing.iter().any(|growing| growing.slab == slab && growing.header_written)
    }

    fn send(&mut self, batch: Batch<D>) {
        let offset = self.slabs.device_offset(batch.slab, batch.base);
        let buf = batch.frozen().clone();
        self.counters.commits += 1;
        self.counters.bytes_written += buf.as_ref().len() as u64;
        self.batches_in_flight += 1;
        let io = self.start(Io::Batch(batch));
        self.out.push_back(Effect::Write { io, offset, buf });
    }

    /// The device is done with a batch.
    pub(super) fn batch_done(&mut self, batch: Batch<D>, result: Result<(), IoError>, now: Now) {
        self.batches_in_flight -= 1;
        match result {
            Ok(()) => {
                self.health.write_errors = 0;
                self.settle(batch, true);
            }
            Err(error) => {
                let (slab, header_lost) = (batch.slab, batch.base == 0);
                self.abandon(slab);
                self.settle(batch, false);
                if header_lost {
                    self.fail_ready(|batch| batch.slab == slab);
                }
                self.write_failed(error, now);
            }
        }
    }

    /// A write to `slab` failed: it takes no more parts.
    fn abandon(&mut self, slab: u32) {
        if self.growing.last().is_some_and(|growing| growing.slab == slab && !growing.complete) {
            self.close_filling();
            self.complete_open_slab();
        }
    }

    /// Closed batches that were not handed out fail.
    fn fail_ready(&mut self, lost: impl Fn(&Batch<D>) -> bool) {
        while let Some(at) = self.ready.iter().position(&lost) {
            if let Some(batch) = self.ready.remove(at) {
                self.settle(batch, false);
            }
        }
    }

    /// Nothing waits for a device that is set aside: what was not handed out fails.
    pub(super) fn fail_waiting(&mut self) {
        self.close_filling();
        self.complete_open_slab();
        self.fail_ready(|_| true);
        for token in std::mem::take(&mut self.flusher.waiting) {
            self.finish_write(token, PartAnswer::Failed);
        }
        self.fail_backlog();
    }

    /// Makes the parts of a batch visible, or not, and answers those who wait for them.
    fn settle(&mut self, mut batch: Batch<D>, written: bool) {
        let slab = batch.slab;
        for part in &mut batch.parts {
            self.pending_bytes -= part.entry.len() as usize;
            let stored = match part.origin {
                Origin::Write => self.settle_write(batch.number, slab, &part.entry, written),
                Origin::Reinsert { slab: old_slab, offset } => {
                    self.settle_reinsertion(slab, &part.entry, (old_slab, offset), written);
                    true
                }
            };
            for waiter in std::mem::take(&mut part.waiters) {
                match (written, stored) {
                    (false, _) => self.finish_write(waiter.token, PartAnswer::Failed),
                    (true, false) => self.finish_write(waiter.token, PartAnswer::Overloaded),
                    (true, true) if waiter.ack == AckLevel::Synced && !planted(Mistake::SyncedUnflushed) => {
                        self.flusher.waiting.push(waiter.token);
                    }
                    (true, true) => self.finish_write(waiter.token, PartAnswer::Stored),
                }
            }
        }
        if let Some(growing) = self.growing.iter_mut().find(|growing| growing.slab == slab) {
            growing.unsettled.retain(|&base| base != batch.base);
            if written {
                growing.header_written |= batch.base == 0;
                growing.entries.extend(batch.parts.iter().map(|part| part.entry));
            }
        }
    }

    /// A part of a request is on the device, or failed. Whether it is in the index (or need not be).
    fn settle_write(&mut self, number: u64, slab: u32, part: &ContentsEntry, written: bool) -> bool {
        let key = (part.hash, part.record);
        let replaces_damaged = self.holds_damaged(part.hash, part.record, part.version);
        let Some(pending) = self.pending.get_mut(&key) else { panic!("{part:?} is not under way") };
        let shown = pending.visible.is_some_and(|(batch, entry)| batch == number && entry == *part);
        pending.outstanding -= 1;
        if shown {
            pending.visible = None;
        }
        let dropped = part.version <= pending.dropped_through;
        let current = (part.version > pending.completed || replaces_damaged) && !dropped;
        if written && current {
            pending.completed = pending.completed.max(part.version);
            if pending.visible.is_some_and(|(_, entry)| entry.version < part.version) {
                pending.visible = None;
            }
        }
        let newest_failed = !written && part.version == pending.newest;
        if pending.outstanding == 0 {
            self.pending.remove(&key);
        } else if newest_failed {
            self.find_newest(key);
        }
        if !written {
            if shown {
                self.lose_acknowledged(part);
            }
            return false;
        }
        if dropped {
            self.forgotten_through = self.forgotten_through.max(part.version);
        }
        if !current {
            return true;
        }
        if self.index.insert(part.hash, part.record, &index_entry(slab, part)).is_err() {
            self.counters.index_full += 1;
            self.forgotten_through = self.forgotten_through.max(part.version);
            return false;
        }
        self.damage.remove(part.hash, part.record);
        self.exact.put(part.hash, part.record, part.version);
        true
    }

    /// The newest version of a record under way failed: finds the one that is the newest now.
    fn find_newest(&mut self, key: (KeyHash, Record)) {
        let in_flight = self.ios.values().filter_map(|io| match io {
            Io::Batch(batch) => Some(batch),
            _ => None,
        });
        let batches = self.filling.iter().chain(&self.ready).chain(in_flight);
        let newest = batches
            .flat_map(|batch| batch.parts.iter().map(move |part| (batch.number, part)))
            .filter(|(_, part)| (part.entry.hash, part.entry.record) == key && part.origin == Origin::Write)
            .map(|(number, part)| (part.entry.version, number))
            .max();
        if let (Some(pending), Some((version, number))) = (self.pending.get_mut(&key), newest) {
            (pending.newest, pending.newest_batch) = (version, number);
        }
    }

    /// A part that was acknowledged as `buffered` never reached the device: it is forgotten, and what is
    /// older must not come back in its place.
    fn lose_acknowledged(&mut self, part: &ContentsEntry) {
        let version = Version::last_of_clock(part.version.hlc);
        let held = self.lookup(part.hash, part.record);
        if let Some(entry) = held.filter(|entry| entry.hlc <= part.version.hlc) {
            self.forget_entry(part.hash, part.record, &entry, version);
        }
        self.forgotten_through = self.forgotten_through.max(version);
    }

    /// A part is at a new place: the index follows if it still points to the old one.
    fn settle_reinsertion(&mut self, slab: u32, part: &ContentsEntry, from: (u32, u32), written: bool) {
        let there = self.lookup(part.hash, part.record);
        let points_to_old = there.is_some_and(|entry| (entry.slab, entry.offset) == from);
        if written && points_to_old {
            // It replaces an entry, so there is room.
            let _ = self.index.insert(part.hash, part.record, &index_entry(slab, part));
            self.damage.remove(part.hash, part.record);
            self.exact.put(part.hash, part.record, part.version);
        }
        self.reinsertion_settled();
    }

    /// Answers a write that waited, unless it was cancelled.
    pub(super) fn finish_write(&mut self, token: Token, answer: PartAnswer<super::Payload<D::Read>>) {
        if self.requests.remove(&token).is_some() {
            self.writes_waiting -= 1;
            self.answer(token, answer);
        }
    }

    /// A batch that is not on the device yet.
    pub(super) fn batch_mut(&mut self, number: u64) -> Option<&mut Batch<D>> {
        let in_flight = self.ios.values_mut().filter_map(|io| match io {
            Io::Batch(batch) => Some(batch),
            _ => None,
        });
        self.filling.iter_mut().chain(&mut self.ready).chain(in_flight).find(|batch| batch.number == number)
    }

    /// Starts a flush if anybody waits for one.
    pub(super) fn pump_flush(&mut self) {
        if self.flusher.in_flight || self.flusher.waiting.is_empty() {
            return;
        }
        self.flusher.current = std::mem::take(&mut self.flusher.waiting);
        self.flusher.in_flight = true;
        self.counters.flushes += 1;
        let io = self.start(Io::Flush);
        self.out.push_back(Effect::Flush { io });
    }

    /// A flush is done.
    pub(super) fn flush_done(&mut self, result: Result<(), IoError>, now: Now) {
        self.flusher.in_flight = false;
        for token in std::mem::take(&mut self.flusher.current) {
            let answer = if result.is_ok() { PartAnswer::Stored } else { PartAnswer::Failed };
            self.finish_write(token, answer);
        }
        if let Err(error) = result {
            self.write_failed(error, now);
        }
    }

    /// Seals slabs whose data is complete: flush, then write the contents table.
    pub(super) fn pump_tables(&mut self) {
        let ready = |growing: &Growing| {
            growing.complete && growing.unsettled.is_empty() && growing.sealing == Sealing::No
        };
        while let Some(at) = self.growing.iter().position(ready) {
            let growing = &mut self.growing[at];
            growing.sealing = Sealing::Flushing;
            let slab = growing.slab;
            let io = self.start(Io::FlushBeforeTable(slab));
            self.out.push_back(Effect::Flush { io });
        }
    }

    /// The parts of a slab are durable.
    pub(super) fn flushed_before_table(&mut self, slab: u32, result: Result<(), IoError>, now: Now) {
        if let Err(error) = result {
            return self.table_done(slab, Err(error), now);
        }
        let Some(growing) = self.growing.iter_mut().find(|growing| growing.slab == slab) else {
            panic!("slab {slab} is being sealed and is gone")
        };
        growing.sealing = Sealing::Writing;
        let entries = std::mem::take(&mut growing.entries);
        let (start, buf) = self.encode_table(slab, entries);
        let offset = self.slabs.device_offset(slab, start);
        let len = buf.as_ref().len() as u64;
        self.counters.bytes_tables += len;
        self.counters.bytes_written += len;
        let io = self.start(Io::Table(slab));
        self.out.push_back(Effect::Write { io, offset, buf });
    }

    fn encode_table(&mut self, slab: u32, entries: Vec<ContentsEntry>) -> (u32, D::Read) {
        encode_contents(
            &mut self.buffers,
            self.superblock.shard_id,
            (slab, self.slabs.generation(slab), self.slabs.slab_len()),
            entries,
        )
    }

    /// A contents table is written. If that failed, a recovery scans the slab instead.
    pub(super) fn table_done(&mut self, slab: u32, result: Result<(), IoError>, now: Now) {
        self.growing.retain(|growing| growing.slab != slab);
        self.slabs.seal(slab);
        if let Err(error) = result {
            self.write_failed(error, now);
        }
    }
}

/// The contents table and trailer of `slab` (its number, generation and length) and where they start.
pub(super) fn encode_contents<D: Buffers>(
    buffers: &mut D,
    shard_id: u128,
    (slab, generation, slab_len): (u32, u64, u32),
    mut entries: Vec<ContentsEntry>,
) -> (u32, D::Read) {
    entries.sort_unstable_by_key(|entry| entry.offset);
    let Some(start) = contents_start(slab_len, entries.len()) else {
        panic!("slab {slab} has {} parts and no room for their table", entries.len())
    };
    let len = (slab_len - start) as usize;
    let mut buffer = buffers.alloc(len);
    let bytes = buffer.as_mut();
    let entries_len = entries.len() * CONTENTS_ENTRY_LEN;
    for (to, entry) in bytes.chunks_exact_mut(CONTENTS_ENTRY_LEN).zip(&entries) {
        to.copy_from_slice(&entry.encode());
    }
    bytes[entries_len..len].fill(0);
    let trailer = SlabTrailer {
        shard_id,
        generation,
        slab,
        parts: entries.len() as u32,
        contents_checksum: hedgerow_wire::checksum::crc32c(&bytes[..entries_len]),
        data_end: entries.last().map_or(BLOCK_LEN as u32, |entry| align_block(entry.offset + entry.len())),
        highest: entries.iter().map(|entry| entry.version).max().unwrap_or(Version::ZERO),
    };
    trailer.encode(&mut bytes[len - BLOCK_LEN..]);
    (start, buffers.freeze(buffer, len))
}
