//! Opening a device: superblock, slab headers, contents tables; or formatting a blank one.
//!
//! Slabs are taken oldest first, so that of two parts of a record with the same clock the one that was
//! written later wins; of two with different clocks, the newer one.

use std::collections::VecDeque;

use hedgerow_wire::Version;
use hedgerow_wire::limits::CLOCK_AHEAD_US_MAX;
use hedgerow_wire::time::Now;

use super::append::Growing;
use super::close::decode_extra;
use super::format::{Found, check_config, examine, index_capacity, new_superblock};
use super::index::Index;
use super::layout::{ContentsEntry, SLABS_START, SlabTrailer};
use super::persist::{encode, generation_bound};
use super::scan::Scanner;
use super::slabs::{SlabState, Slabs};
use super::snapshot::{self, SnapshotId};
use super::store::{Map, Parts};
use super::superblock::{COPIES, Superblock};
use super::{Buffers, Effect, IoId, IoResult, OpenError, Store, StoreConfig, StoreStats};

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
pub(super) enum Stage {
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
pub(super) enum Io {
    Superblocks,
    Write {
        offset: u64,
    },
    First(u32),
    /// The last block of a slab whose first ones tell nothing; `blank` if its header is.
    Last {
        slab: u32,
        blank: bool,
    },
    Tail(u32),
    Contents(u32, SlabTrailer),
    Scan {
        start: u32,
    },
    Table,
}

/// What is known of the contents of a slab.
pub(super) enum Contents {
    Reading,
    Missing,
    Known(Vec<ContentsEntry>),
}

pub(super) struct Waiting {
    pub(super) slab: u32,
    pub(super) generation: u64,
    pub(super) contents: Contents,
}

/// A slab that has no contents table.
pub(super) struct Unsealed {
    pub(super) slab: u32,
    pub(super) generation: u64,
    pub(super) entries: Vec<ContentsEntry>,
    /// Every piece of it could be read.
    pub(super) all_read: bool,
}

/// Opening a device: reads superblocks, tables and headers, or formats a blank device.
///
/// Call [`Opening::poll`] until `None`, after `new` and after each [`Opening::complete`]; once
/// [`Opening::done`], [`Opening::finish`].
pub struct Opening<D: Buffers> {
    pub(super) buffers: D,
    pub(super) config: StoreConfig,
    snapshot: Option<Box<dyn AsRef<[u8]>>>,
    pub(super) stage: Stage,
    pub(super) out: VecDeque<Effect<D>>,
    pub(super) ios: Map<IoId, Io>,
    next_io: u64,
    error: Option<OpenError>,
    superblock: Option<Superblock>,
    /// The next slab to look at.
    pub(super) next_slab: u32,
    /// Slabs that hold something, with their generations.
    pub(super) held: Vec<(u32, u64)>,
    /// Those of them that are not looked at yet, the oldest last.
    pub(super) to_read: Vec<(u32, u64)>,
    /// Those being read, the oldest first.
    pub(super) waiting: VecDeque<Waiting>,
    pub(super) scan: Option<Scanner>,
    pub(super) to_seal: Vec<Unsealed>,
    pub(super) index: Option<Index>,
    slabs: Option<Slabs>,
    pub(super) growing: Vec<Growing>,
    pub(super) highest: Version,
    /// What the index had no room for.
    pub(super) forgotten: Version,
    /// No shard has accepted anything newer until the opening began.
    newest_possible: Version,
    /// The shard may have held what it knows nothing of.
    pub(super) unsure: bool,
    pub(super) progress: OpenProgress,
    pub(super) counters: StoreStats,
}

impl<D: Buffers> Opening<D> {
    /// `buffers` is where the store takes its memory from; `snapshot` the bytes that a clean stop left
    /// (a map of the file will do), if any: they are only believed if the device says so.
    pub fn new(
        config: StoreConfig,
        buffers: D,
        snapshot: Option<Box<dyn AsRef<[u8]>>>,
        now: Now,
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
            newest_possible: newest_possible(now),
            unsure: false,
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
            unsure: self.unsure,
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
            (Io::Last { slab, blank }, IoResult::Read(result)) => self.last_read(slab, blank, result),
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

    pub(super) fn start(&mut self, io: Io) -> IoId {
        let id = IoId(self.next_io);
        self.next_io += 1;
        self.ios.insert(id, io);
        id
    }

    pub(super) fn read(&mut self, io: Io, offset: u64, len: usize) {
        let io = self.start(io);
        self.out.push_back(Effect::Read { io, offset, len });
    }

    /// The superblock; there is one in every stage after the first.
    pub(super) fn sb(&self) -> Superblock {
        match self.superblock {
            Some(superblock) => superblock,
            None => panic!("no superblock was read yet"),
        }
    }

    fn superblocks_read(&mut self, bytes: &[u8]) {
        let (superblock, doubtful) = match examine(bytes, &self.config) {
            Ok(Found::Blank) => {
                let superblock = new_superblock(&self.config, self.newest_possible);
                self.unsure = true;
                self.progress.formatted = true;
                self.stage = Stage::Format;
                self.superblock = Some(superblock);
                self.progress.slabs = superblock.slabs;
                return self.write_superblock();
            }
            Ok(Found::Superblock { newest, doubtful }) => (newest, doubtful),
            Err(error) => return self.fail(error),
        };
        self.superblock = Some(superblock);
        self.progress.slabs = superblock.slabs;
        self.highest = superblock.forgotten_through;
        if doubtful {
            self.damage_found();
        }
        if self.take_snapshot(&superblock) {
            self.progress.slabs_done = superblock.slabs;
            return self.persist();
        }
        if self.make_index() {
            self.stage = Stage::Firsts;
            self.pump_firsts();
        }
    }

    /// Whether the machine runs on since the shard was opened last: then all that the device had completed is
    /// there, flushed or not, and what is not as it was is damaged.
    pub(super) fn same_run(&self) -> bool {
        self.config.boot != 0 && self.sb().boot == self.config.boot
    }

    /// Something is damaged that nothing else tells the contents of. After the machine has stopped it may
    /// as well be torn.
    pub(super) fn damage_found(&mut self) {
        self.unsure |= self.same_run();
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
        // An index keeps its size for life; one of another size is made anew from the contents tables.
        let (slots, wanted) = (snapshot.index.slots(), Index::slots_for(index_capacity(&self.config)));
        if slots < wanted - wanted / 16 || slots > wanted + wanted / 16 {
            return false;
        }
        let Some(kept) = decode_extra(&snapshot.extra, superblock) else { return false };
        if !snapshot.index.entries(0).all(|entry| kept.slabs.may_hold(&entry)) {
            return false;
        }
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

    fn state_of(&self, slab: u32) -> SlabState {
        let resumed = self.growing.iter().any(|growing| growing.slab == slab);
        if resumed { SlabState::Growing } else { SlabState::Sealed }
    }

    pub(super) fn make_slabs(&mut self) {
        let superblock = self.sb();
        let held: Vec<_> =
            self.held.iter().map(|&(slab, generation)| (slab, generation, self.state_of(slab))).collect();
        // A new device has used none of the generations that its superblock covers.
        let next = if self.progress.formatted { 1 } else { superblock.generation_bound + 1 };
        self.slabs = Some(Slabs::restore(superblock.slabs, superblock.slab_len, next, &held));
    }

    /// From here on the device may change: no snapshot is good any more.
    pub(super) fn persist(&mut self) {
        self.stage = Stage::Persist;
        let (superblock, Some(slabs)) = (self.sb(), &self.slabs) else { panic!("there are no slabs yet") };
        let unknown = if self.unsure { self.newest_possible } else { Version::ZERO };
        self.superblock = Some(Superblock {
            sequence: superblock.sequence + 1,
            clean_nonce: 0,
            forgotten_through: superblock.forgotten_through.max(self.forgotten),
            generation_bound: generation_bound(&superblock, slabs),
            unknown_through: superblock.unknown_through.max(unknown),
            boot: self.config.boot,
            ..superblock
        });
        self.write_superblock();
    }
}

/// The highest version that any shard accepts at `now`.
fn newest_possible(now: Now) -> Version {
    Version::last_of_clock(Version::hlc_from_wall_us(now.wall_us.saturating_add(CLOCK_AHEAD_US_MAX)))
}
