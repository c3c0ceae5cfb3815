//! Opening a device: superblock, slab headers, contents tables; or formatting a blank one.
//!
//! Slabs are taken oldest first, so that of two parts of a record with the same clock the one that was
//! written later wins; of two with different clocks, the newer one.

use std::collections::VecDeque;

use hedgerow_wire::Version;
use hedgerow_wire::part::decode_part_head;
use hedgerow_wire::time::Now;

use super::append::{Growing, index_entry};
use super::close::decode_extra;
use super::commit::encode_contents;
use super::format::{Found, check_config, examine, index_capacity, new_superblock};
use super::index::Index;
use super::layout::{
    BLOCK_LEN, ContentsEntry, SLAB_DATA_START, SLABS_START, SlabHeader, SlabTrailer, contents_start,
    slab_start,
};
use super::persist::{encode, generation_bound};
use super::scan::Scanner;
use super::slabs::{SlabState, Slabs};
use super::snapshot::{self, SnapshotId};
use super::store::{Map, Parts};
use super::superblock::{COPIES, Superblock};
use super::table::{TAIL_LEN, Tail, parse_contents, parse_tail};
use super::{Buffers, Effect, IoError, IoId, IoResult, OpenError, Store, StoreConfig, StoreStats};

/// Bytes of a slab that are read to learn its generation: the header, and the head of its first part.
const FIRST_LEN: usize = 2 * BLOCK_LEN;
/// Bytes of one read of a scan.
const SCAN_READ_LEN: u32 = 1 << 20;

/// How far an opening is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct OpenProgress {
    /// Slabs of the device.
    pub slabs: u32,
    /// Slabs whose parts are known, or that hold none.
    pub slabs_done: u32,
    /// Slabs that had to be scanned part by part.
    pub slabs_scanned: u32,
    /// Parts found, those of which there are newer ones included.
    pub parts: u64,
    /// Whether the index came from a snapshot.
    pub from_snapshot: bool,
    /// Whether the device was blank and has been formatted.
    pub formatted: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Superblocks,
    /// Writing the copies of a new superblock.
    Format,
    /// Reading the first blocks of each slab.
    Firsts,
    /// Reading contents tables, scanning where there is none.
    Contents,
    /// Writing the contents tables that were missing.
    Seal,
    /// Writing the superblock, which makes the snapshot invalid.
    Persist,
    Flush,
    Done,
}

#[derive(Clone, Copy, Debug)]
enum Io {
    Superblocks,
    Write {
        offset: u64,
    },
    First(u32),
    /// The last block of a slab whose first ones tell nothing.
    Last(u32),
    Tail(u32),
    Contents(u32, SlabTrailer),
    Scan {
        start: u32,
    },
    Table,
}

/// What is known of the contents of a slab.
enum Contents {
    Reading,
    Missing,
    Known(Vec<ContentsEntry>),
}

struct Waiting {
    slab: u32,
    generation: u64,
    contents: Contents,
}

/// Opening a device: reads superblocks, tables and headers, or formats a blank device.
///
/// Call [`Opening::poll`] until `None`, after `new` and after each [`Opening::complete`]; once
/// [`Opening::done`], [`Opening::finish`].
pub struct Opening<D: Buffers> {
    buffers: D,
    config: StoreConfig,
    snapshot: Option<Box<dyn AsRef<[u8]>>>,
    stage: Stage,
    out: VecDeque<Effect<D>>,
    ios: Map<IoId, Io>,
    next_io: u64,
    error: Option<OpenError>,
    superblock: Option<Superblock>,
    /// The next slab to look at.
    next_slab: u32,
    /// Slabs that hold something, with their generations.
    held: Vec<(u32, u64)>,
    /// Those of them that are not looked at yet, the oldest last.
    to_read: Vec<(u32, u64)>,
    /// Those being read, the oldest first.
    waiting: VecDeque<Waiting>,
    scan: Option<Scanner>,
    to_seal: Vec<(u32, u64, Vec<ContentsEntry>)>,
    index: Option<Index>,
    slabs: Option<Slabs>,
    growing: Vec<Growing>,
    highest: Version,
    /// What the index had no room for.
    forgotten: Version,
    progress: OpenProgress,
    counters: StoreStats,
}

impl<D: Buffers> Opening<D> {
    /// `buffers` is where the store takes its memory from; `snapshot` the bytes that a clean stop left
    /// (a map of the file will do), if any: they are only believed if the device says so.
    pub fn new(
        config: StoreConfig,
        buffers: D,
        snapshot: Option<Box<dyn AsRef<[u8]>>>,
        _now: Now,
    ) -> Opening<D> {
        let mut opening = Opening {
            buffers,
            snapshot,
            stage: Stage::Superblocks,
            out: VecDeque::new(),
            ios: Map::default(),
            next_io: 1,
            error: None,
            superblock: None,
            next_slab: 0,
            held: Vec::new(),
            to_read: Vec::new(),
            waiting: VecDeque::new(),
            scan: None,
            to_seal: Vec::new(),
            index: None,
            slabs: None,
            growing: Vec::new(),
            highest: Version::ZERO,
            forgotten: Version::ZERO,
            progress: OpenProgress::default(),
            counters: StoreStats::default(),
            config,
        };
        match check_config(&opening.config) {
            Ok(()) => opening.read(Io::Superblocks, 0, SLABS_START as usize),
            Err(error) => opening.fail(error),
        }
        opening
    }

    /// The next device operation.
    pub fn poll(&mut self) -> Option<Effect<D>> {
        self.out.pop_front()
    }

    /// Whether it has come to an end, good or bad: nothing is under way any more.
    pub fn done(&self) -> bool {
        (self.stage == Stage::Done || self.error.is_some()) && self.ios.is_empty()
    }

    /// How far it is.
    pub fn progress(&self) -> OpenProgress {
        self.progress
    }

    /// The store, or why there is none.
    ///
    /// # Panics
    /// If not [`Opening::done`].
    pub fn finish(self) -> Result<Store<D>, OpenError> {
        assert!(self.done(), "the device is still being opened: {:?}", self.stage);
        if let Some(error) = self.error {
            return Err(error);
        }
        let (Some(superblock), Some(index), Some(slabs)) = (self.superblock, self.index, self.slabs) else {
            panic!("a device is open without superblock, index or slabs")
        };
        let parts = Parts {
            config: self.config,
            superblock,
            index,
            slabs,
            growing: self.growing,
            highest: self.highest,
            next_io: self.next_io,
            counters: self.counters,
        };
        Ok(Store::from_parts(self.buffers, parts))
    }

    /// Takes what the device did.
    ///
    /// # Panics
    /// If no operation `io` is under way, or the result is of another kind of operation.
    pub fn complete(&mut self, io: IoId, result: IoResult<D>, _now: Now) {
        let Some(operation) = self.ios.remove(&io) else { panic!("no operation {io:?} is under way") };
        if self.error.is_some() {
            return;
        }
        match (operation, result) {
            (Io::Write { offset }, IoResult::Done(result)) => match result {
                Ok(()) => self.written(),
                Err(error) => self.fail(OpenError::Io { action: "write the superblock", offset, error }),
            },
            (Io::Table, IoResult::Done(Ok(()))) => self.pump_seal(),
            // Without its table, a slab is scanned the next time as well.
            (Io::Table, IoResult::Done(Err(_))) => self.persist(),
            (Io::Superblocks, IoResult::Read(Ok(bytes))) => self.superblocks_read(bytes.as_ref()),
            (Io::Superblocks, IoResult::Read(Err(error))) => {
                self.fail(OpenError::Io { action: "read the superblock", offset: 0, error });
            }
            (Io::First(slab), IoResult::Read(result)) => self.first_read(slab, result),
            (Io::Last(slab), IoResult::Read(result)) => self.last_read(slab, result),
            (Io::Tail(slab), IoResult::Read(result)) => self.tail_read(slab, result, None),
            (Io::Contents(slab, trailer), IoResult::Read(result)) => {
                self.tail_read(slab, result, Some(trailer));
            }
            (Io::Scan { start }, IoResult::Read(result)) => self.scan_read(start, result),
            _ => panic!("operation {io:?} was completed with the result of another kind"),
        }
    }

    fn fail(&mut self, error: OpenError) {
        self.error = Some(error);
        self.out.retain(|effect| {
            let (Effect::Read { io, .. } | Effect::Write { io, .. } | Effect::Flush { io }) = effect else {
                return true;
            };
            self.ios.remove(io);
            false
        });
    }

    fn start(&mut self, io: Io) -> IoId {
        let id = IoId(self.next_io);
        self.next_io += 1;
        self.ios.insert(id, io);
        id
    }

    fn read(&mut self, io: Io, offset: u64, len: usize) {
        let io = self.start(io);
        self.out.push_back(Effect::Read { io, offset, len });
    }

    /// The superblock; there is one in every stage after the first.
    fn sb(&self) -> Superblock {
        match self.superblock {
            Some(superblock) => superblock,
            None => panic!("no superblock was read yet"),
        }
    }

    fn superblocks_read(&mut self, bytes: &[u8]) {
        let superblock = match examine(bytes, &self.config) {
            Ok(Found::Blank) => {
                let superblock = new_superblock(&self.config);
                self.progress.formatted = true;
                self.stage = Stage::Format;
                self.superblock = Some(superblock);
                self.progress.slabs = superblock.slabs;
                return self.write_superblock();
            }
            Ok(Found::Superblock(superblock)) => superblock,
            Err(error) => return self.fail(error),
        };
        self.superblock = Some(superblock);
        self.progress.slabs = superblock.slabs;
        self.highest = superblock.forgotten_through;
        if self.take_snapshot(&superblock) {
            self.progress.slabs_done = superblock.slabs;
            return self.persist();
        }
        if self.make_index() {
            self.stage = Stage::Firsts;
            self.pump_firsts();
        }
    }

    fn make_index(&mut self) -> bool {
        match Index::try_with_capacity(index_capacity(&self.config), self.sb().index_seed) {
            Ok(index) => self.index = Some(index),
            Err(error) => self.fail(OpenError::Index(error)),
        }
        self.error.is_none()
    }

    /// Takes the snapshot if it is of the last clean stop.
    fn take_snapshot(&mut self, superblock: &Superblock) -> bool {
        let Some(bytes) = self.snapshot.take().filter(|_| superblock.clean_nonce != 0) else { return false };
        let id = SnapshotId { shard_id: superblock.shard_id, nonce: superblock.clean_nonce };
        let Ok(snapshot) = snapshot::decode((*bytes).as_ref(), &id) else { return false };
        if snapshot.index.slots() * 9 / 10 < index_capacity(&self.config) {
            return false;
        }
        let Some(kept) = decode_extra(&snapshot.extra, superblock) else { return false };
        self.progress.from_snapshot = true;
        self.progress.parts = snapshot.index.len() as u64;
        self.index = Some(snapshot.index);
        self.slabs = Some(kept.slabs);
        self.growing = kept.growing;
        self.highest = self.highest.max(kept.highest);
        true
    }

    /// Writes the superblock as it is to the copy that its sequence number says.
    fn write_superblock(&mut self) {
        let superblock = self.sb();
        let buf = encode(&mut self.buffers, &superblock);
        let offset = superblock.offset();
        let io = self.start(Io::Write { offset });
        self.out.push_back(Effect::Write { io, offset, buf });
    }

    /// A superblock write or a flush is done.
    fn written(&mut self) {
        match self.stage {
            Stage::Format if self.sb().sequence + 1 < COPIES => {
                if let Some(superblock) = &mut self.superblock {
                    superblock.sequence += 1;
                }
                self.write_superblock();
            }
            Stage::Format => {
                if self.make_index() {
                    self.progress.slabs_done = self.sb().slabs;
                    self.stage = Stage::Persist;
                    self.make_slabs();
                    self.flush();
                }
            }
            Stage::Persist => self.flush(),
            _ => self.stage = Stage::Done,
        }
    }

    fn flush(&mut self) {
        self.stage = Stage::Flush;
        let io = self.start(Io::Write { offset: 0 });
        self.out.push_back(Effect::Flush { io });
    }

    /// Reads the first blocks of the next slabs.
    fn pump_firsts(&mut self) {
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

    fn first_read(&mut self, slab: u32, result: Result<D::Read, IoError>) {
        let superblock = self.sb();
        let known = result.as_ref().map(|bytes| generation_of(bytes.as_ref(), &superblock, slab));
        if matches!(known, Ok(First::Blank)) {
            return self.pump_firsts();
        }
        if let Ok(First::Generation(generation)) = known {
            self.note_generation(slab, generation);
            return self.pump_firsts();
        }
        let end = slab_start(slab + 1, superblock.slab_len);
        self.read(Io::Last(slab), end - BLOCK_LEN as u64, BLOCK_LEN);
    }

    fn last_read(&mut self, slab: u32, result: Result<D::Read, IoError>) {
        let shard_id = self.sb().shard_id;
        let trailer = result.ok().and_then(|bytes| SlabTrailer::decode(bytes.as_ref()));
        if let Some(trailer) = trailer.filter(|trailer| trailer.shard_id == shard_id && trailer.slab == slab)
        {
            self.note_generation(slab, trailer.generation);
        }
        self.pump_firsts();
    }

    fn note_generation(&mut self, slab: u32, generation: u64) {
        if generation > self.sb().evicted_through {
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
        self.make_slabs();
        if self.to_seal.is_empty() {
            return self.persist();
        }
        // What was found may be in the device's cache only, and a table says that it is durable.
        let io = self.start(Io::Table);
        self.out.push_back(Effect::Flush { io });
    }

    fn tail_read(&mut self, slab: u32, result: Result<D::Read, IoError>, trailer: Option<SlabTrailer>) {
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
    fn scan_read(&mut self, start: u32, result: Result<D::Read, IoError>) {
        let slab_len = self.sb().slab_len;
        let len = SCAN_READ_LEN.min(slab_len - start);
        let Some(scan) = &mut self.scan else { panic!("no slab is being scanned") };
        let last = start + len == slab_len;
        match result {
            Ok(bytes) => scan.feed(bytes.as_ref(), last),
            Err(_) => scan.feed(&vec![0; len as usize], last),
        }
        if !last {
            return self.read_scan(start + len);
        }
        let (Some(scan), Some(front)) = (self.scan.take(), self.waiting.front_mut()) else { return };
        self.counters.parts_damaged += scan.rejected;
        self.to_seal.push((front.slab, front.generation, scan.entries.clone()));
        front.contents = Contents::Known(scan.entries);
        self.pump_contents();
    }

    fn take_parts(&mut self, slab: u32, entries: &[ContentsEntry]) {
        let Some(index) = &mut self.index else { panic!("parts are found and there is no index") };
        for part in entries {
            self.highest = self.highest.max(part.version);
            let held = index.get(part.hash, part.record, index.highest_hlc());
            if held.is_some_and(|held| held.hlc > part.version.hlc) {
                continue;
            }
            if index.insert(part.hash, part.record, &index_entry(slab, part)).is_err() {
                self.counters.index_full += 1;
                self.forgotten = self.forgotten.max(part.version);
            }
        }
        self.progress.parts += entries.len() as u64;
    }

    fn make_slabs(&mut self) {
        let superblock = self.sb();
        let held: Vec<_> =
            self.held.iter().map(|&(slab, generation)| (slab, generation, SlabState::Sealed)).collect();
        // A new device has used none of the generations that its superblock covers.
        let next = if self.progress.formatted { 1 } else { superblock.generation_bound + 1 };
        self.slabs = Some(Slabs::restore(superblock.slabs, superblock.slab_len, next, &held));
    }

    /// Writes the next contents table that was missing.
    fn pump_seal(&mut self) {
        let superblock = self.sb();
        while let Some((slab, generation, entries)) = self.to_seal.pop() {
            let data_end = entries.last().map_or(SLAB_DATA_START, |entry| entry.offset + entry.len());
            if contents_start(superblock.slab_len, entries.len()).is_none_or(|start| start < data_end) {
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

    /// From here on the device may change: no snapshot is good any more.
    fn persist(&mut self) {
        self.stage = Stage::Persist;
        let (superblock, Some(slabs)) = (self.sb(), &self.slabs) else { panic!("there are no slabs yet") };
        self.superblock = Some(Superblock {
            sequence: superblock.sequence + 1,
            clean_nonce: 0,
            forgotten_through: superblock.forgotten_through.max(self.forgotten),
            generation_bound: generation_bound(&superblock, slabs),
            ..superblock
        });
        self.write_superblock();
    }
}

/// What the first blocks of a slab tell.
enum First {
    /// Nothing was ever written there by this shard.
    Blank,
    Generation(u64),
    Unknown,
}

fn generation_of(bytes: &[u8], superblock: &Superblock, slab: u32) -> First {
    let header = &bytes[..BLOCK_LEN];
    if header.iter().all(|&byte| byte == 0) {
        return First::Blank;
    }
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
        _ => First::Unknown,
    }
}
