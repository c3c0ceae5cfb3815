//! The store: takes requests and completions, hands out device operations and answers.

use std::collections::hash_map::DefaultHasher;
use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasherDefault;

use hedgerow_wire::part::{PartAnswer, PartDrop, PartTouch};
use hedgerow_wire::time::{Now, Timestamp};
use hedgerow_wire::{KeyHash, Record, Version};

use super::append::{Growing, PendingRecord};
use super::backlog::Backlog;
use super::close::Closing;
use super::commit::{Batch, Flusher};
use super::damage::{DAMAGE_NOTED_MAX, DamagedParts};
use super::evict::Eviction;
use super::exact::ExactVersions;
use super::index::{Entry, Index};
use super::persist::Persist;
use super::read::ReadOp;
use super::slabs::{SlabState, Slabs};
use super::superblock::Superblock;
use super::{Buffers, Effect, IoError, IoId, IoResult, Payload, StoreConfig, StoreStats, Token};
use crate::mistakes::{Mistake, planted};

/// A hash map whose hasher has no randomness: keys are either the store's own numbers, or hashed already.
pub(super) type Map<K, V> = HashMap<K, V, BuildHasherDefault<DefaultHasher>>;

/// What a device operation is for.
pub(super) enum Io<D: Buffers> {
    /// A read for a request.
    Read(ReadOp),
    /// A write of parts.
    Batch(Batch<D>),
    /// What comes before the contents table of this slab.
    FlushBeforeTable(u32),
    /// The contents table of this slab.
    Table(u32),
    /// A flush for acknowledgements.
    Flush,
    /// A step of a superblock write.
    Persist,
    /// The contents table of the slab that is let go: the rest of it if the trailer is known.
    EvictTable,
    /// The part with this position in the contents of the slab that is let go.
    EvictPart(usize),
    /// Advice to the device about this slab.
    Discard(u32),
}

/// Where the answer to a request will come from.
#[derive(Clone, Copy)]
pub(super) enum Request {
    /// A device read.
    Read(IoId),
    /// A batch.
    Write,
    /// A flush.
    Flush,
    /// A free slab.
    Backlog,
}

/// Whether the device works.
#[derive(Clone, Copy, Default)]
pub(super) struct Health {
    pub(super) write_errors: u32,
    pub(super) read_errors: u32,
    /// Set aside until then.
    pub(super) probe_at: Option<Timestamp>,
    /// Set aside for good: an operation does not come back.
    pub(super) stuck: bool,
}

/// An open shard. Made by [`super::Opening::finish`].
///
/// After every call of a method that takes `now`, call [`Store::poll`] until it gives `None`.
pub struct Store<D: Buffers> {
    pub(super) buffers: D,
    pub(super) config: StoreConfig,
    pub(super) superblock: Superblock,
    pub(super) index: Index,
    pub(super) exact: ExactVersions,
    pub(super) damage: DamagedParts,
    pub(super) slabs: Slabs,
    pub(super) growing: Vec<Growing>,
    pub(super) pending: Map<(KeyHash, Record), PendingRecord>,
    pub(super) filling: Option<Batch<D>>,
    pub(super) ready: VecDeque<Batch<D>>,
    pub(super) batches_in_flight: usize,
    pub(super) flusher: Flusher,
    pub(super) eviction: Option<Eviction>,
    pub(super) backlog: Backlog,
    pub(super) persist: Option<Persist>,
    pub(super) closing: Closing,
    pub(super) health: Health,
    pub(super) requests: Map<Token, Request>,
    pub(super) ios: Map<IoId, Io<D>>,
    pub(super) out: VecDeque<Effect<D>>,
    pub(super) next_io: u64,
    pub(super) next_batch: u64,
    pub(super) last_batch_len: u32,
    pub(super) pending_bytes: usize,
    pub(super) reads_in_flight: usize,
    pub(super) writes_waiting: usize,
    pub(super) forgotten_through: Version,
    pub(super) highest: Version,
    /// It may have held what it knows nothing of, up to `unknown_through` or what [`Store::raise_unknown`] says.
    pub(super) unsure: bool,
    pub(super) counters: StoreStats,
}

/// What a store starts from.
pub(super) struct Parts {
    pub(super) config: StoreConfig,
    pub(super) superblock: Superblock,
    pub(super) index: Index,
    pub(super) slabs: Slabs,
    pub(super) growing: Vec<Growing>,
    pub(super) highest: Version,
    pub(super) next_io: u64,
    pub(super) unsure: bool,
    pub(super) counters: StoreStats,
}

impl<D: Buffers> Store<D> {
    pub(super) fn from_parts(buffers: D, parts: Parts) -> Store<D> {
        let exact = ExactVersions::new(parts.config.exact_versions);
        let forgotten_through = parts.superblock.forgotten_through;
        Store {
            buffers,
            config: parts.config,
            superblock: parts.superblock,
            index: parts.index,
            exact,
            damage: DamagedParts::new(DAMAGE_NOTED_MAX),
            slabs: parts.slabs,
            growing: parts.growing,
            pending: Map::default(),
            filling: None,
            ready: VecDeque::new(),
            batches_in_flight: 0,
            flusher: Flusher::default(),
            eviction: None,
            backlog: Backlog::default(),
            persist: None,
            closing: Closing::Open,
            health: Health::default(),
            requests: Map::default(),
            ios: Map::default(),
            out: VecDeque::new(),
            next_io: parts.next_io,
            next_batch: 1,
            last_batch_len: 0,
            pending_bytes: 0,
            reads_in_flight: 0,
            writes_waiting: 0,
            forgotten_through,
            highest: parts.highest.max(forgotten_through).max(parts.superblock.unknown_through),
            unsure: parts.unsure,
            counters: parts.counters,
        }
    }

    /// Lets a record go if it holds the given version or an older one. At once: `Dropped`, or `Failed` if
    /// the shard is set aside. Where the clocks are the same and only the header tells whose version it
    /// is, that is read after the answer; if it cannot be, the part stays. A drop of all that its clock gave
    /// ([`Version::last_of_clock`]) never needs the header.
    ///
    /// Only the index forgets. A crash brings the part back, and with it the state before the drop: what
    /// is older lies in the same or an older slab, which is let go before.
    pub fn drop_record(&mut self, drop: &PartDrop, _now: Now) -> PartAnswer<Payload<D::Read>> {
        if self.refuses() {
            return PartAnswer::Failed;
        }
        if let Some(pending) = self.pending.get_mut(&(drop.hash, drop.record)) {
            pending.dropped_through = pending.dropped_through.max(drop.version);
            if let Some((_, part)) = pending.visible.filter(|(_, part)| part.version <= drop.version) {
                pending.visible = None;
                self.forgotten_through = self.forgotten_through.max(part.version);
            }
        }
        if let Some(entry) = self.index.get(drop.hash, drop.record, self.index.highest_hlc()) {
            let exact = self.exact_version(drop.hash, drop.record, &entry);
            let headless = self.damage_at(drop.hash, drop.record, &entry).is_some() && exact.is_none();
            match exact {
                Some(version) if version <= drop.version => {
                    self.forget_entry(drop.hash, drop.record, &entry, version);
                    self.counters.parts_dropped += 1;
                }
                None if upper_bound(&entry) <= drop.version
                    || (headless && entry.hlc == drop.version.hlc) =>
                {
                    self.forget_entry(drop.hash, drop.record, &entry, upper_bound(&entry));
                    self.counters.parts_dropped += 1;
                }
                None if entry.hlc == drop.version.hlc => self.drop_after_head(drop, &entry),
                _ => {}
            }
        }
        PartAnswer::Dropped
    }

    /// Notes that a record was used; `false` if nothing as new is held or under way.
    pub fn touch(&mut self, touch: &PartTouch) -> bool {
        let under_way = || self.pending.get(&(touch.hash, touch.record));
        self.index.touch(touch.hash, touch.record, touch.hlc)
            || under_way().is_some_and(|pending| pending.newest.hlc >= touch.hlc)
    }

    /// Whether a request under `token` was taken and not answered.
    pub fn awaits(&self, token: Token) -> bool {
        self.requests.contains_key(&token)
    }

    /// The answer to `token` is no longer wanted: none will come. A device read that was not handed out
    /// yet is not made; one that was is counted until it is done. A write is carried out all the same.
    pub fn cancel(&mut self, token: Token) {
        let Some(request) = self.requests.remove(&token) else { return };
        self.counters.cancelled += 1;
        match request {
            Request::Read(io) => self.cancel_read(io),
            Request::Write | Request::Flush => self.writes_waiting -= 1,
            Request::Backlog => self.cancel_waiting(token),
        }
    }

    /// Takes what the device did.
    ///
    /// # Panics
    /// If no operation `io` is under way, or the result is of another kind of operation.
    pub fn complete(&mut self, io: IoId, result: IoResult<D>, now: Now) {
        let Some(operation) = self.ios.remove(&io) else { panic!("no operation {io:?} is under way") };
        match (operation, result) {
            (Io::Read(read), IoResult::Read(result)) => self.read_done(read, result, now),
            (Io::EvictTable, IoResult::Read(result)) => self.evict_table_read(result, now),
            (Io::EvictPart(at), IoResult::Read(result)) => self.evict_part_read(at, result, now),
            (Io::Batch(batch), IoResult::Done(result)) => self.batch_done(batch, result, now),
            (Io::FlushBeforeTable(slab), IoResult::Done(result)) => {
                self.flushed_before_table(slab, result, now);
            }
            (Io::Table(slab), IoResult::Done(result)) => self.table_done(slab, result, now),
            (Io::Flush, IoResult::Done(result)) => self.flush_done(result, now),
            (Io::Persist, IoResult::Done(result)) => self.persist_step_done(result, now),
            (Io::Discard(slab), IoResult::Done(_)) => self.slabs.discarded(slab),
            _ => panic!("operation {io:?} was completed with the result of another kind"),
        }
    }

    /// The next thing to do.
    pub fn poll(&mut self, now: Now) -> Option<Effect<D>> {
        loop {
            if let Some(effect) = self.out.pop_front() {
                match self.still_wanted(effect, now) {
                    Some(effect) => return Some(effect),
                    None => continue,
                }
            }
            self.pump(now);
            if self.out.is_empty() {
                return None;
            }
        }
    }

    /// Starts whatever can be started.
    fn pump(&mut self, now: Now) {
        self.give_up_eviction();
        if self.health.probe_at.is_none() {
            self.pump_batches();
            self.pump_tables();
            self.pump_flush();
            self.pump_eviction(now);
            if self.pump_backlog(now) {
                self.pump_batches();
            }
        }
        self.pump_close();
    }

    /// When [`Store::tick`] is to be called.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        let probe = self.health.probe_at.filter(|_| self.persist.is_none() && !self.closed());
        probe.into_iter().chain(self.backlog.next_deadline()).min()
    }

    /// Time has passed: a device that was set aside is tried again, and writes that have waited for room for
    /// too long are answered.
    pub fn tick(&mut self, now: Now) {
        if self.backlog.next_deadline().is_some_and(|at| at <= now.mono) {
            self.expire_backlog(now);
        }
        let probes = self.persist.is_none() && !self.closed();
        if probes && self.health.probe_at.is_some_and(|at| at <= now.mono) {
            self.start_probe();
        }
    }

    /// Counters and gauges.
    pub fn stats(&self) -> StoreStats {
        StoreStats {
            parts: self.index.len() as u64,
            index_slots: self.index.slots() as u64,
            index_bytes: self.index.memory_bytes() as u64,
            slabs: u64::from(self.slabs.count()),
            slabs_free: u64::from(self.slabs.free_count()),
            requests_under_way: self.requests.len() as u64,
            reads_under_way: self.reads_in_flight as u64,
            pending_bytes: self.pending_bytes as u64,
            set_aside: self.health.probe_at.is_some(),
            stuck: self.health.stuck,
            forgotten_through_hlc: self.forgotten_through.hlc,
            unknown_through_hlc: self.superblock.unknown_through.hlc,
            parts_damaged_now: self.damage.len() as u64,
            ..self.counters
        }
    }

    /// The daemon's shards have seen versions up to `version`. A shard whose device was formatted or found
    /// damaged when it was opened may have held any of them: the clock alone does not say so if it was set back.
    pub fn raise_unknown(&mut self, version: Version) {
        if self.unsure && version > self.superblock.unknown_through {
            self.superblock.unknown_through = version;
            self.highest = self.highest.max(version);
            self.start_probe();
        }
    }

    /// The highest version that the shard has ever seen, or may have held.
    pub fn highest_version(&self) -> Version {
        self.highest
    }

    /// Whether requests are answered `Failed`.
    pub(super) fn refuses(&self) -> bool {
        self.health.probe_at.is_some() || self.closing != Closing::Open
    }

    /// Names a device operation and notes what it is for.
    pub(super) fn start(&mut self, io: Io<D>) -> IoId {
        let id = IoId(self.next_io);
        self.next_io += 1;
        self.ios.insert(id, io);
        id
    }

    /// Answers a request that is not in `requests`, or no longer.
    pub(super) fn answer(&mut self, token: Token, answer: PartAnswer<Payload<D::Read>>) {
        match &answer {
            PartAnswer::Overloaded => self.counters.overloaded += 1,
            PartAnswer::Expired => self.counters.deadline_passed += 1,
            PartAnswer::Superseded { .. } => self.counters.superseded += 1,
            PartAnswer::ClockAhead { .. } => self.counters.clock_ahead += 1,
            PartAnswer::Part { .. } => self.counters.read_hits += 1,
            PartAnswer::Absent { .. } => self.counters.read_misses += 1,
            _ => {}
        }
        self.out.push_back(Effect::Answer { token, answer });
    }

    /// What the index has of a record.
    pub(super) fn lookup(&self, hash: KeyHash, record: Record) -> Option<Entry> {
        self.index.get(hash, record, self.index.highest_hlc())
    }

    /// Lets the part at `entry` go, whose version is at most `version`, if the index still points there.
    pub(super) fn forget_entry(&mut self, hash: KeyHash, record: Record, entry: &Entry, version: Version) {
        if self.index.remove_at(hash, record, entry.slab, entry.offset) {
            self.damage.remove(hash, record);
            self.forgotten_through = self.forgotten_through.max(version);
        }
    }

    /// A device read of `slab` is over; the slab may have waited for it.
    pub(super) fn unpin(&mut self, slab: u32) {
        self.slabs.unpin(slab);
        if self.slabs.state(slab) == SlabState::Leaving {
            self.free_if_unread(slab);
        }
    }

    /// Frees a slab that holds nothing, once nobody reads it.
    pub(super) fn free_if_unread(&mut self, slab: u32) {
        if self.slabs.readers(slab) != 0 && !planted(Mistake::PinIgnored) {
            return;
        }
        if !self.config.discard {
            return self.slabs.free(slab);
        }
        self.slabs.discard();
        let offset = self.slabs.device_offset(slab, 0);
        let io = self.start(Io::Discard(slab));
        self.out.push_back(Effect::Discard { io, offset, len: u64::from(self.slabs.slab_len()) });
    }

    /// Counts a failed write or flush; too many in a row set the shard aside.
    pub(super) fn write_failed(&mut self, _error: IoError, now: Now) {
        self.counters.write_errors += 1;
        self.health.write_errors += 1;
        if self.health.write_errors >= self.config.write_errors_max {
            self.set_aside(now);
        }
    }

    /// Counts a failed read; too many in a row set the shard aside.
    pub(super) fn read_failed(&mut self, _error: IoError, now: Now) {
        self.counters.read_errors += 1;
        self.health.read_errors += 1;
        if self.health.read_errors >= self.config.read_errors_max {
            self.set_aside(now);
        }
    }

    /// From now on everything is answered `Failed`, until a probe succeeds.
    pub(super) fn set_aside(&mut self, now: Now) {
        let wait = std::time::Duration::from_micros(self.config.probe_interval_us);
        self.health.probe_at = Some(if self.health.stuck { Timestamp::NEVER } else { now.mono + wait });
        self.fail_waiting();
    }

    /// A device operation is under way for so long that nobody should wait for it, or for what comes behind
    /// it: everything that waits is answered `Failed`, and so is everything from now on, even if the device
    /// is done with it after all. What it was doing then is not known, so that only a new opening tells what
    /// is there.
    pub fn give_up(&mut self, now: Now) {
        self.health.stuck = true;
        self.set_aside(now);
        let waiting: Vec<Token> = self.requests.keys().copied().collect();
        for token in waiting {
            self.cancel(token);
            self.answer(token, PartAnswer::Failed);
        }
    }
}

/// The highest version that `entry` can have.
pub(super) fn upper_bound(entry: &Entry) -> Version {
    Version::last_of_clock(entry.hlc)
}
