//! Opening a device, slab by slab: which ones hold something, and what.

use hedgerow_wire::part::{PartKind, decode_part_head};

use super::append::{Growing, index_entry};
use super::commit::{BATCHES_IN_FLIGHT_MAX, encode_contents};
use super::layout::{
    BLOCK_LEN, ContentsEntry, SLAB_DATA_START, SlabHeader, SlabTrailer, align_block, contents_start,
    slab_start,
};
use super::recover::{Contents, Io, Opening, Stage, Unsealed, Waiting};
use super::scan::Scanner;
use super::superblock::Superblock;
use super::table::{TAIL_LEN, Tail, parse_contents, parse_tail};
use super::{Buffers, Effect, IoError};
use crate::mistakes::{Mistake, planted};

/// Bytes of a slab that are read to learn its generation: the header, and the head of its first part.
const FIRST_LEN: usize = 2 * BLOCK_LEN;
/// Bytes of one read of a scan.
const SCAN_READ_LEN: u32 = 1 << 20;

/// So many parts ahead of the one that is taken, their buckets of the index begin to come into the cache.
const PREFETCHED_AHEAD: usize = 16;

impl<D: Buffers> Opening<D> {
    /// Reads the first blocks of the next slabs.
    pub(super) fn pump_firsts(&mut self) {
        let superblock = self.sb();
        while self.ios.len() < self.config.open_reads_max && self.next_slab < superblock.slabs {
            let slab = self.next_slab;
            self.next_slab += 1;
            self.read(Io::First(slab), slab_start(slab, superblock.slab_len), FIRST_LEN);
        }
        if self.ios.is_empty() {
            self.held.sort_by_key(|&(_, generation)| std::cmp::Reverse(generation));
            self.to_read = self.held.clone();
            self.progress.slabs_done = superblock.slabs - self.held.len() as u32;
            self.stage = Stage::Contents;
            self.pump_contents();
        }
    }

    pub(super) fn first_read(&mut self, slab: u32, result: Result<D::Read, IoError>) {
        let superblock = self.sb();
        let known = result.as_ref().map(|bytes| generation_of(bytes.as_ref(), &superblock, slab));
        if let Ok(First::Generation(generation)) = known {
            self.note_generation(slab, generation);
            return self.pump_firsts();
        }
        let end = slab_start(slab + 1, superblock.slab_len);
        let blank = matches!(known, Ok(First::Blank));
        self.read(Io::Last { slab, blank }, end - BLOCK_LEN as u64, BLOCK_LEN);
    }

    /// The trailer is read of a slab whose first blocks tell nothing. If it does not either, and the header is
    /// `blank`, nothing was ever completed there.
    pub(super) fn last_read(&mut self, slab: u32, blank: bool, result: Result<D::Read, IoError>) {
        let shard_id = self.sb().shard_id;
        // What cannot be read may hold something, whatever the power took.
        self.unsure |= result.is_err() && !blank;
        let trailer = result.ok().and_then(|bytes| SlabTrailer::decode(bytes.as_ref()));
        if let Some(trailer) = trailer.filter(|trailer| trailer.shard_id == shard_id && trailer.slab == slab)
        {
            self.note_generation(slab, trailer.generation);
        } else if !blank {
            // It holds something, of a generation that nothing tells.
            self.damage_found();
        }
        self.pump_firsts();
    }

    fn note_generation(&mut self, slab: u32, generation: u64) {
        let superblock = self.sb();
        if generation > superblock.generation_bound {
            // None was ever given out that is so high.
            self.damage_found();
        } else if generation > superblock.evicted_through {
            self.held.push((slab, generation));
        }
    }

    /// Takes the contents of the oldest slabs as far as they are known, and reads the next ones.
    fn pump_contents(&mut self) {
        let superblock = self.sb();
        loop {
            while self.waiting.len() < self.config.open_reads_max {
                let Some((slab, generation)) = self.to_read.pop() else { break };
                let len = TAIL_LEN.min(superblock.slab_len);
                let offset = slab_start(slab + 1, superblock.slab_len) - u64::from(len);
                self.read(Io::Tail(slab), offset, len as usize);
                self.waiting.push_back(Waiting { slab, generation, contents: Contents::Reading });
            }
            let Some(front) = self.waiting.front() else { break };
            match &front.contents {
                Contents::Reading => return,
                Contents::Missing if self.scan.is_some() => return,
                Contents::Missing => {
                    self.scan = Some(Scanner::new(superblock.shard_id, front.generation));
                    self.progress.slabs_scanned += 1;
                    return self.read_scan(SLAB_DATA_START);
                }
                Contents::Known(_) => {}
            }
            if let Some(Waiting { slab, contents: Contents::Known(entries), .. }) = self.waiting.pop_front() {
                self.take_parts(slab, &entries);
                self.progress.slabs_done += 1;
            }
        }
        self.stage = Stage::Seal;
        self.resume_newest();
        self.make_slabs();
        if self.to_seal.is_empty() {
            return self.persist();
        }
        // What was found may be in the device's cache only, and a table says that it is durable.
        let io = self.start(Io::Table);
        self.out.push_back(Effect::Flush { io });
    }

    pub(super) fn tail_read(
        &mut self,
        slab: u32,
        result: Result<D::Read, IoError>,
        trailer: Option<SlabTrailer>,
    ) {
        let superblock = self.sb();
        let tail = match (&result, trailer) {
            (Err(_), _) => Tail::None,
            (Ok(bytes), Some(trailer)) => parse_contents(bytes.as_ref(), &trailer),
            (Ok(bytes), None) => parse_tail(bytes.as_ref(), superblock.shard_id, slab, superblock.slab_len),
        };
        let Some(waiting) = self.waiting.iter_mut().find(|waiting| waiting.slab == slab) else {
            panic!("nobody waits for the contents of slab {slab}")
        };
        match tail {
            Tail::Entries(trailer, entries) if trailer.generation == waiting.generation => {
                waiting.contents = Contents::Known(entries);
            }
            Tail::More { trailer, start, len } if trailer.generation == waiting.generation => {
                let offset = slab_start(slab, superblock.slab_len) + u64::from(start);
                return self.read(Io::Contents(slab, trailer), offset, len);
            }
            _ => waiting.contents = Contents::Missing,
        }
        self.pump_contents();
    }

    fn read_scan(&mut self, start: u32) {
        let Some(slab) = self.waiting.front().map(|waiting| waiting.slab) else { return };
        let slab_len = self.sb().slab_len;
        let len = SCAN_READ_LEN.min(slab_len - start);
        self.read(Io::Scan { start }, slab_start(slab, slab_len) + u64::from(start), len as usize);
    }

    /// A piece of a slab is read; one that cannot be read is passed over.
    pub(super) fn scan_read(&mut self, start: u32, result: Result<D::Read, IoError>) {
        let slab_len = self.sb().slab_len;
        let len = SCAN_READ_LEN.min(slab_len - start);
        let Some(scan) = &mut self.scan else { panic!("no slab is being scanned") };
        let last = start + len == slab_len;
        match result {
            Ok(bytes) => scan.feed(bytes.as_ref(), last),
            Err(_) => scan.feed_unreadable(len as usize, last),
        }
        if !last {
            return self.read_scan(start + len);
        }
        let same_run = self.same_run();
        let (Some(mut scan), Some(front)) = (self.scan.take(), self.waiting.front_mut()) else { return };
        self.unsure |= !scan.all_read;
        self.unsure |= same_run && scan.judge();
        self.counters.parts_damaged += scan.rejected.len() as u64;
        let (slab, generation, entries) = (front.slab, front.generation, scan.entries.clone());
        self.to_seal.push(Unsealed { slab, generation, entries, all_read: scan.all_read });
        front.contents = Contents::Known(scan.entries);
        self.pump_contents();
    }

    fn take_parts(&mut self, slab: u32, entries: &[ContentsEntry]) {
        let Some(index) = &mut self.index else { panic!("parts are found and there is no index") };
        for (number, part) in entries.iter().enumerate() {
            if let Some(ahead) = entries.get(number + PREFETCHED_AHEAD) {
                index.prefetch(ahead.hash, ahead.record);
            }
            self.highest = self.highest.max(part.version);
            let held = index.get(part.hash, part.record, index.highest_hlc());
            let passed_over = part.kind == PartKind::Tombstone && planted(Mistake::TombstonesForgotten);
            if passed_over || held.is_some_and(|held| held.hlc > part.version.hlc) {
                continue;
            }
            if index.insert(part.hash, part.record, &index_entry(slab, part)).is_err() {
                self.counters.index_full += 1;
                self.forgotten = self.forgotten.max(part.version);
            }
        }
        self.progress.parts += entries.len() as u64;
    }

    /// The newest slab goes on taking parts if it was not sealed, so that the crash of a process costs no slab.
    /// What was being written behind the last part that is whole is not believed. The device may still be
    /// writing it though its process is gone: what comes next keeps clear of where that could be.
    ///
    /// Not if the machine was down since: what the power took would be missed after a crash of the new run,
    /// which takes nothing. Nor if a piece of it could not be read, where there may be parts.
    fn resume_newest(&mut self) {
        let newest = self.held.iter().map(|&(_, generation)| generation).max();
        let Some(at) = self.to_seal.iter().position(|slab| Some(slab.generation) == newest) else { return };
        let Unsealed { slab, entries, all_read, .. } = &self.to_seal[at];
        let late_writes = BATCHES_IN_FLIGHT_MAX as u32 * self.config.commit_len_max;
        let cursor = align_block(data_end(entries)).saturating_add(late_writes);
        let room = contents_start(self.sb().slab_len, entries.len()).is_some_and(|start| cursor <= start);
        if room && *all_read && self.same_run() {
            self.growing.push(Growing::restored(*slab, entries.clone(), cursor, cursor));
            self.to_seal.swap_remove(at);
        }
    }

    /// Writes the next contents table that was missing.
    pub(super) fn pump_seal(&mut self) {
        let superblock = self.sb();
        while let Some(Unsealed { slab, generation, entries, .. }) = self.to_seal.pop() {
            let end = data_end(&entries);
            if contents_start(superblock.slab_len, entries.len()).is_none_or(|start| start < end) {
                continue;
            }
            let slab_of = (slab, generation, superblock.slab_len);
            let (start, buf) = encode_contents(&mut self.buffers, superblock.shard_id, slab_of, entries);
            let io = self.start(Io::Table);
            let offset = slab_start(slab, superblock.slab_len) + u64::from(start);
            self.out.push_back(Effect::Write { io, offset, buf });
            return;
        }
        self.persist();
    }
}

/// Where the last of a slab's parts ends, in bytes.
fn data_end(entries: &[ContentsEntry]) -> u32 {
    entries.last().map_or(SLAB_DATA_START, |entry| entry.offset + entry.len())
}

/// What the first blocks of a slab tell.
enum First {
    /// Nothing, and the header is blank.
    Blank,
    Generation(u64),
    Unknown,
}

fn generation_of(bytes: &[u8], superblock: &Superblock, slab: u32) -> First {
    let header = &bytes[..BLOCK_LEN];
    let blank = header.iter().all(|&byte| byte == 0);
    if let Some(header) = SlabHeader::decode(header) {
        let ours = header.shard_id == superblock.shard_id && header.slab == slab;
        return if ours { First::Generation(header.generation) } else { First::Unknown };
    }
    match decode_part_head(&bytes[SLAB_DATA_START as usize..]) {
        Ok(head)
            if head.place.shard_id == superblock.shard_id && head.place.slab_offset == SLAB_DATA_START =>
        {
            First::Generation(head.place.slab_generation)
        }
        _ if blank => First::Blank,
        _ => First::Unknown,
    }
}
