//! Let the oldest slab go, and keep of it what is used.
//!
//! 1. Read its contents table.
//! 2. Choose what is kept, within a share of the slab; read those parts and append them as if they were
//!    new.
//! 3. When all of them are on the device, whatever the index still finds in the slab is forgotten,
//!    `forgotten_through` covers it, and the superblock says so durably.
//! 4. Only then can the slab be written to again, and only when nobody reads it.

use hedgerow_wire::limits::TOMBSTONE_KEEP_US;
use hedgerow_wire::part::PartKind;
use hedgerow_wire::time::Now;
use hedgerow_wire::{Record, Version};

use super::index::Entry;
use super::layout::{BLOCK_LEN, ContentsEntry, block_start, part_blocks};
use super::persist::Purpose;
use super::read::{verify_head, verify_payload};
use super::store::{Io, Store, upper_bound};
use super::table::{TAIL_LEN, Tail, parse_contents, parse_tail};
use super::{Buffers, Effect, EvictedPart, IoError};
use crate::mistakes::{Mistake, planted};

/// A slab on its way out.
pub(super) struct Eviction {
    slab: u32,
    generation: u64,
    stage: Stage,
    entries: Vec<ContentsEntry>,
    /// Positions in `entries` of the parts to keep, the next one last.
    keep: Vec<usize>,
    reads_in_flight: usize,
    /// Kept parts that are not on the device at their new place yet.
    unsettled: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// The trailer is being read.
    Tail,
    /// The rest of the table that this trailer names is being read.
    Contents(super::layout::SlabTrailer),
    /// Parts are being kept.
    Keep,
    /// All of it is forgotten; the superblock is to say so.
    Persist,
}

/// What becomes of a part of a slab that is let go.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Fate {
    /// A delete that laggards may still meet.
    KeepTombstone,
    /// Asked for by its writer.
    KeepPinned,
    /// Used since it was written here.
    KeepTouched,
    /// Not worth its room.
    Forget,
}

/// What the fate of a live part depends on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Life {
    pub(super) expired: bool,
    /// It failed a check.
    pub(super) damaged: bool,
    /// A newer version is under way.
    pub(super) being_replaced: bool,
    pub(super) tombstone: bool,
    /// The tombstone is younger than it must be kept for.
    pub(super) young: bool,
    /// A stripe whose object is gone or was replaced.
    pub(super) orphan: bool,
    pub(super) pinned: bool,
    pub(super) touched: bool,
}

/// The decision, first line that fits.
pub(super) fn fate(life: &Life) -> Fate {
    match *life {
        Life { expired: true, .. } | Life { damaged: true, .. } | Life { being_replaced: true, .. } => {
            Fate::Forget
        }
        Life { tombstone: true, young: true, .. } => Fate::KeepTombstone,
        Life { tombstone: true, .. } | Life { orphan: true, .. } => Fate::Forget,
        Life { pinned: true, .. } => Fate::KeepPinned,
        Life { touched: true, .. } => Fate::KeepTouched,
        _ => Fate::Forget,
    }
}

impl Eviction {
    /// Whether a clean stop may leave the slab as it is.
    pub(super) fn may_be_given_up(&self) -> bool {
        self.stage != Stage::Persist && self.reads_in_flight == 0 && self.unsettled == 0
    }
}

impl<D: Buffers> Store<D> {
    /// Goes on with the eviction under way, or starts one if free slabs or the index run out.
    pub(super) fn pump_eviction(&mut self, now: Now) {
        if self.eviction.is_none() && self.needs_eviction() {
            self.start_eviction();
        }
        let Some(eviction) = &self.eviction else { return };
        match eviction.stage {
            Stage::Tail | Stage::Contents(_) => {}
            Stage::Keep => self.pump_keep(now),
            Stage::Persist => {
                if self.persist.is_none() {
                    self.start_persist(Purpose::Evict, eviction.generation);
                }
            }
        }
    }

    fn needs_eviction(&self) -> bool {
        if self.closing != super::close::Closing::Open {
            return false;
        }
        let coming = self.slabs.free_count() + self.slabs.discarding_count();
        let index_fills = self.index.len() * 100 >= self.index.slots() * 90;
        coming < self.config.free_slabs_target || index_fills
    }

    fn start_eviction(&mut self) {
        let Some(slab) = self.slabs.oldest_sealed() else { return };
        self.eviction = Some(Eviction {
            slab,
            generation: self.slabs.generation(slab),
            stage: Stage::Tail,
            entries: Vec::new(),
            keep: Vec::new(),
            reads_in_flight: 0,
            unsettled: 0,
        });
        let slab_len = self.slabs.slab_len();
        let start = slab_len - TAIL_LEN.min(slab_len);
        self.read_table(slab, start, (slab_len - start) as usize);
    }

    fn read_table(&mut self, slab: u32, start: u32, len: usize) {
        let offset = self.slabs.device_offset(slab, start);
        let io = self.start(Io::EvictTable);
        self.out.push_back(Effect::Read { io, offset, len });
        if let Some(eviction) = &mut self.eviction {
            eviction.reads_in_flight += 1;
        }
    }

    /// The trailer, or the table, of the slab is read.
    pub(super) fn evict_table_read(&mut self, result: Result<D::Read, IoError>, now: Now) {
        let Some(eviction) = &mut self.eviction else { panic!("no slab is being let go") };
        eviction.reads_in_flight -= 1;
        let (slab, generation, stage) = (eviction.slab, eviction.generation, eviction.stage);
        let (shard_id, slab_len) = (self.superblock.shard_id, self.slabs.slab_len());
        let tail = match (&result, stage) {
            (Err(_), _) => Tail::None,
            (Ok(bytes), Stage::Contents(trailer)) => parse_contents(bytes.as_ref(), &trailer),
            (Ok(bytes), _) => parse_tail(bytes.as_ref(), shard_id, slab, slab_len),
        };
        match tail {
            Tail::Entries(trailer, entries) if trailer.generation == generation => {
                self.choose(entries, now);
            }
            Tail::More { trailer, start, len } if trailer.generation == generation => {
                if let Some(eviction) = &mut self.eviction {
                    eviction.stage = Stage::Contents(trailer);
                }
                self.read_table(slab, start, len);
            }
            _ => {
                self.counters.tables_damaged += 1;
                self.forget_unseen(slab);
            }
        }
        match result {
            Ok(_) => self.health.read_errors = 0,
            Err(error) => self.read_failed(error, now),
        }
    }

    /// Without its table, all that the index finds in the slab is forgotten. Nobody is told, since the
    /// index does not know whose parts they are: the siblings are let go with their own slabs.
    fn forget_unseen(&mut self, slab: u32) {
        let mut highest = Version::ZERO;
        let before = self.index.len();
        self.index.retain(|entry| {
            if entry.slab == slab {
                highest = highest.max(upper_bound(entry));
            }
            entry.slab != slab
        });
        self.counters.parts_evicted += (before - self.index.len()) as u64;
        self.forgotten_through = self.forgotten_through.max(highest);
        if let Some(eviction) = &mut self.eviction {
            eviction.stage = Stage::Keep;
        }
    }

    /// Chooses what is kept of the slab: deletes first, then what is pinned, then what is used, as far as
    /// the share goes.
    fn choose(&mut self, entries: Vec<ContentsEntry>, now: Now) {
        let Some(slab) = self.eviction.as_ref().map(|eviction| eviction.slab) else { return };
        let mut kept: Vec<(Fate, usize)> = Vec::new();
        for (at, part) in entries.iter().enumerate() {
            let Some(entry) = self.live_entry(slab, part) else { continue };
            let fate = fate(&self.life(part, &entry, now));
            if fate != Fate::Forget {
                kept.push((fate, at));
            }
        }
        kept.sort_unstable();
        let share = u64::from(self.slabs.slab_len()) * u64::from(self.config.reinsert_percent) / 100;
        let mut room = share;
        kept.retain(|&(fate, at)| {
            let len = u64::from(entries[at].len().next_multiple_of(super::layout::PART_ALIGN));
            let fits = len <= room;
            room -= if fits { len } else { 0 };
            self.counters.tombstones_cut += u64::from(!fits && fate == Fate::KeepTombstone);
            fits
        });
        let mut keep: Vec<usize> = kept.into_iter().map(|(_, at)| at).collect();
        keep.sort_unstable_by(|a, b| b.cmp(a));
        if let Some(eviction) = &mut self.eviction {
            eviction.entries = entries;
            eviction.keep = keep;
            eviction.stage = Stage::Keep;
        }
    }

    /// The index entry of a part, if it points to `slab`.
    fn live_entry(&self, slab: u32, part: &ContentsEntry) -> Option<Entry> {
        let entry = self.lookup(part.hash, part.record)?;
        (entry.slab == slab && entry.offset == part.offset).then_some(entry)
    }

    fn life(&self, part: &ContentsEntry, entry: &Entry, now: Now) -> Life {
        let pending = self.pending.get(&(part.hash, part.record));
        let orphan = part.record != Record::OBJECT
            && self
                .lookup(part.hash, Record::OBJECT)
                .is_none_or(|object| object.tombstone || object.hlc > part.version.hlc);
        Life {
            expired: part.expires_ms != 0 && part.expires_ms <= now.wall_ms(),
            damaged: self.damage_at(part.hash, part.record, entry).is_some(),
            being_replaced: pending.is_some_and(|pending| pending.newest > part.version),
            tombstone: part.kind == PartKind::Tombstone,
            young: part.version.wall_us().saturating_add(TOMBSTONE_KEEP_US) > now.wall_us,
            orphan,
            pinned: part.pinned,
            touched: entry.touched,
        }
    }

    /// Reads the next parts to keep; when all are settled, the slab is forgotten.
    fn pump_keep(&mut self, now: Now) {
        loop {
            let Some(eviction) = &mut self.eviction else { return };
            let settled = eviction.reads_in_flight == 0 && eviction.unsettled == 0;
            let busy = eviction.reads_in_flight >= self.config.evict_reads_max
                || self.pending_bytes >= self.config.pending_bytes_max;
            if eviction.keep.is_empty() && settled {
                return self.forget_slab(now);
            }
            if busy {
                return;
            }
            let Some(at) = eviction.keep.pop() else { return };
            let (slab, part) = (eviction.slab, eviction.entries[at]);
            eviction.reads_in_flight += 1;
            let offset = self.slabs.device_offset(slab, block_start(part.offset));
            let len = usize::from(part_blocks(part.offset, part.len())) * BLOCK_LEN;
            let io = self.start(Io::EvictPart(at));
            self.out.push_back(Effect::Read { io, offset, len });
        }
    }

    /// A part to keep is read. Where anything stands against keeping it, it is forgotten with the slab.
    pub(super) fn evict_part_read(&mut self, at: usize, result: Result<D::Read, IoError>, now: Now) {
        let Some(eviction) = &mut self.eviction else { panic!("no slab is being let go") };
        eviction.reads_in_flight -= 1;
        let (slab, part) = (eviction.slab, eviction.entries[at]);
        let bytes = match result {
            Ok(bytes) => bytes,
            Err(error) => return self.read_failed(error, now),
        };
        self.health.read_errors = 0;
        let Some(entry) = self.live_entry(slab, &part) else { return };
        let life = self.life(&part, &Entry { touched: true, ..entry }, now);
        if self.refuses() || fate(&life) == Fate::Forget {
            return;
        }
        let start = (part.offset - block_start(part.offset)) as usize;
        let place = self.place(slab, part.offset);
        let head = verify_head(bytes.as_ref(), start, &place).ok();
        let payload = head.as_ref().and_then(|head| verify_payload(bytes.as_ref(), start, head).ok());
        let (Some(head), Some(payload)) = (&head, payload) else {
            self.damaged(part.hash, part.record, &entry, head.as_ref().map(|head| &head.meta));
            return;
        };
        let kept = self.append_again(head, &bytes.as_ref()[payload], (slab, part.offset));
        if let Some(eviction) = &mut self.eviction {
            eviction.unsettled += usize::from(kept);
        }
    }

    /// A part that is kept is on the device at its new place, or failed to get there.
    pub(super) fn reinsertion_settled(&mut self) {
        if let Some(eviction) = &mut self.eviction {
            eviction.unsettled -= 1;
        }
    }

    /// What the index still finds in the slab is forgotten, and the home coordinators are told; not of
    /// deletes, which go everywhere at their age.
    fn forget_slab(&mut self, _now: Now) {
        let Some(eviction) = &mut self.eviction else { return };
        eviction.stage = Stage::Persist;
        let slab = eviction.slab;
        let mut evicted = Vec::new();
        for part in std::mem::take(&mut eviction.entries) {
            if !self.index.remove_at(part.hash, part.record, slab, part.offset) {
                continue;
            }
            self.forgotten_through = self.forgotten_through.max(part.version);
            self.counters.parts_evicted += 1;
            if part.kind != PartKind::Tombstone {
                evicted.push(EvictedPart { hash: part.hash, record: part.record, version: part.version });
            }
        }
        self.damage.remove_slab(slab);
        self.counters.slabs_evicted += 1;
        if !evicted.is_empty() {
            self.out.push_back(Effect::Evicted(evicted));
        }
        if planted(Mistake::ReusedTooSoon) {
            return self.slab_left();
        }
        let generation = self.slabs.generation(slab);
        if self.persist.is_none() {
            self.start_persist(Purpose::Evict, generation);
        }
    }

    /// The superblock says that the slab holds nothing.
    pub(super) fn slab_left(&mut self) {
        let Some(eviction) = self.eviction.take() else { panic!("no slab is being let go") };
        self.slabs.leave(eviction.slab);
        self.counters.slabs_left_read += u64::from(self.slabs.readers(eviction.slab) != 0);
        self.free_if_unread(eviction.slab);
    }
}
