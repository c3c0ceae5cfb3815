//! The coordinator: turns one client request into part requests and back.
//!
//! One per core, a state machine without I/O, clock or randomness of its own. It holds keys, targets,
//! times and opaque payload handles `B`; it moves no bytes. After every call of a `&mut` method the
//! shell takes [`Coordinator::poll`] until it is `None`, and calls [`Coordinator::tick`] at
//! [`Coordinator::next_deadline`].
//!
//! Where things are: `read` (what a read knows, and does next), `write`, `repair` (completion),
//! `confirm` (when a version may be returned: a pure decision), `targets` (latency, caps, who is
//! slow), `desk` (asks and actions), `batch` (touches and drops), `drive` (hands answers and time to
//! the operations, and ends them).
//!
//! Invariants: a read never mixes parts of two versions. A confirmed answer is never older than what
//! was acknowledged before the read began. Every operation ends by its deadline. What was forgotten or
//! deleted is not returned, not even unconfirmed, when a target that answered knows of it. An answer
//! that comes late, twice, or never, only counts.

pub mod api;
pub mod config;
pub mod limits;
pub mod stats;

mod batch;
mod budget;
mod confirm;
mod desk;
mod drive;
mod pool;
mod read;
mod repair;
mod targets;
mod timers;
mod version;
mod write;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use hedgerow_wire::part::{PartAnswer, PartDrop, PartTouch, RecordName};
use hedgerow_wire::time::{Now, Timestamp};
use hedgerow_wire::types::{Code, KeyHash, Record, Target, Version};

pub use api::{Action, AskId, Miss, OpId, Parts, ReadOutcome, ReadRequest, WriteOutcome, WriteRequest};
pub use config::Config;
pub use stats::{CoordinatorStats, TargetStats};

use crate::ring::Ring;
use batch::Batches;
use budget::{ByteBudget, HedgeBudget};
use desk::Desk;
use pool::Pool;
use read::{Origin, ReadOp};
use repair::{Notes, RepairOp};
use targets::Targets;
use timers::Timers;
use version::Versions;
use write::WriteOp;

/// See the module.
pub struct Coordinator<B> {
    desk: Desk<B>,
    reads: Pool<ReadOp<B>>,
    writes: Pool<WriteOp>,
    repairs: Pool<RepairOp>,
    notes: Notes,
    /// Background completions under way: reads of their own, and repairs.
    background: usize,
    batches: Batches,
    housekeeping_at: Timestamp,
}

impl<B: Clone> Coordinator<B> {
    /// A coordinator over the targets of `ring`, which should have at least `config.code.n()` of
    /// them: parts beyond have no place. `seed` decides nothing but the moments of probes.
    pub fn new(config: Config, ring: Ring, coordinator_id: u16, seed: u64) -> Self {
        let all = ring.targets(KeyHash(0), ring.len());
        let targets = Targets::new(all.to_vec(), &config, seed);
        Coordinator {
            batches: Batches::new(targets.len()),
            desk: Desk {
                hedges: HedgeBudget::new(config.hedge_ratio, config.hedge_burst),
                repair_bytes: ByteBudget::new(config.repair_bytes_per_s, config.repair_burst_bytes),
                ring,
                targets,
                asks: Pool::new(),
                actions: VecDeque::new(),
                timers: Timers::new(),
                versions: Versions::new(coordinator_id),
                stats: CoordinatorStats::default(),
                config,
            },
            reads: Pool::new(),
            writes: Pool::new(),
            repairs: Pool::new(),
            notes: Notes::default(),
            background: 0,
            housekeeping_at: Timestamp(0),
        }
    }

    /// The code to put into the meta of a tombstone: copies on all n targets of the configured code.
    pub fn tombstone_code(&self) -> Code {
        let code = self.desk.config.code;
        Code::new(1, (code.n() - 1) as u8).unwrap_or(code)
    }

    /// A version for a write of `hash`: higher than every one that this coordinator gave, was shown by
    /// [`Coordinator::observe`] or saw in an answer for it, and not below the wall clock. When it is
    /// further ahead than shards accept, `versions_ahead` counts it (and they answer `ClockAhead`).
    pub fn next_version(&mut self, hash: KeyHash, now: Now) -> Version {
        self.desk.versions.next(hash, now.wall_us)
    }

    /// Every version given from now on is higher than `version` (at start: the highest recovered).
    pub fn observe(&mut self, version: Version) {
        self.desk.versions.observe(version);
    }

    /// When an answer has to be ready, whoever gives it, for a request that is taken up at `now`: a margin
    /// before its `deadline`. The coordinator's own outcomes are.
    pub fn answer_by(&self, deadline: Timestamp, now: Timestamp) -> Timestamp {
        self.desk.config.answer_by(deadline, now)
    }

    /// Begins a read. Its outcome is a [`Action::ReadDone`], before its deadline.
    pub fn read(&mut self, request: ReadRequest, now: Now) -> OpId {
        self.desk.stats.reads += 1;
        self.housekeep(now);
        let full = self.ops() >= self.desk.config.ops_max;
        let id = self.insert_read(ReadOp::new(request, Origin::Client, &self.desk, now));
        if full {
            self.refuse_read(id);
        } else {
            self.drive_read(id, now);
        }
        id
    }

    /// Begins a write. [`Action::WriteDone`] comes before its deadline, [`Action::Release`] last.
    pub fn write(&mut self, request: WriteRequest, now: Now) -> OpId {
        self.desk.stats.writes += 1;
        self.housekeep(now);
        let full = self.ops() >= self.desk.config.ops_max;
        let id = self.insert_write(WriteOp::new(&request, &self.desk, now));
        if !full && let Some(op) = self.writes.get_mut(drive::pool_id(id)) {
            op.send(&request, &mut self.desk, now);
        }
        self.drive_write(id, now);
        id
    }

    /// Drops what all targets of a record hold of it up to `drop.version`. Batched; may be lost.
    pub fn drop_record(&mut self, drop: PartDrop, now: Now) {
        for target in self.desk.order(drop.hash, self.desk.config.code.n()) {
            self.batches.drop(target, drop, &mut self.desk, now);
        }
    }

    /// Target `from` evicted these (each named as the drop of it): what the records' other targets
    /// hold is dropped too, and of a stripe the object record everywhere, so that objects live and go
    /// as a whole. Batched; may be lost.
    ///
    /// With all that their clocks gave: a slab that is let go has thousands of parts, and to tell a version
    /// from another one of the same record and the same 15 us, each target would read a head for each of
    /// them. It would be forgotten, as what is evicted is, and not be confused with the other.
    pub fn evicted(&mut self, evicted: &[PartDrop], from: Target, now: Now) {
        let from = self.desk.targets.index_of(from);
        for evicted in evicted {
            let drop = PartDrop { version: Version::last_of_clock(evicted.version.hlc), ..*evicted };
            let order = self.desk.order(drop.hash, self.desk.config.code.n());
            // What lies outside of a record's targets is left over from an earlier ring.
            if !order.iter().any(|&target| Some(target) == from) {
                continue;
            }
            let object = PartDrop { record: Record::OBJECT, ..drop };
            for target in order {
                if Some(target) != from {
                    self.batches.drop(target, drop, &mut self.desk, now);
                }
                if drop.record != Record::OBJECT {
                    self.batches.drop(target, object, &mut self.desk, now);
                }
            }
        }
    }

    /// `version` of a record, with `code`, was used: its targets are told. Batched; may be lost; the same
    /// record is told of only now and then. (The code says which targets hold a part; the name is kept for
    /// [`Coordinator::touch_missed`].)
    pub fn touch(&mut self, name: &RecordName, version: Version, code: Code, now: Now) {
        if !self.batches.note_touch(name, now) {
            return;
        }
        let touch = PartTouch { hash: name.hash, record: name.record, hlc: version.hlc };
        for target in self.desk.order(name.hash, code.n()) {
            self.batches.touch(target, touch, &mut self.desk, now);
        }
    }

    /// `target` holds nothing as new of a record as what it was told of as used: it is completed if the name
    /// is still known (a touch names it by hash only).
    pub fn touch_missed(&mut self, hash: KeyHash, record: Record, target: Target, now: Now) {
        self.desk.stats.touches_missed += 1;
        let known = self.desk.targets.index_of(target).is_some();
        if known && let Some(name) = self.batches.touched_name(hash, record).cloned() {
            self.note(&name, now);
        }
    }

    /// The outcome of a read is no longer wanted: no `ReadDone` follows. (A write goes to its end: what
    /// has become of it has to be known.)
    pub fn cancel_read(&mut self, op: OpId, now: Now) {
        if drive::kind(op) == drive::READ {
            self.remove_read(op, now);
        }
    }

    /// The answer to an ask. Answers to asks unknown, or answered before, are counted and ignored.
    pub fn answer(&mut self, ask: AskId, answer: PartAnswer<B>, now: Now) {
        let Some(asked) = self.desk.answered(ask, &answer, now) else { return };
        let Some(op) = asked.op else { return };
        match drive::kind(op) {
            drive::READ => self.answer_read(op, &asked, answer, now),
            drive::WRITE => self.answer_write(op, &asked, &answer, now),
            _ => self.answer_repair(op, &asked, &answer, now),
        }
    }

    /// The shell has the parts that [`Action::Rebuild`] asked for.
    pub fn rebuilt(&mut self, op: OpId, now: Now) {
        let Some(repair) = self.repairs.get_mut(drive::pool_id(op)) else { return };
        repair.send(&mut self.desk, now);
        if repair.over() {
            self.end_repair(op, now);
        }
    }

    /// The shell cannot rebuild: it has no room, or the parts contradict each other.
    pub fn rebuild_failed(&mut self, op: OpId, now: Now) {
        if drive::kind(op) == drive::REPAIR {
            self.end_repair(op, now);
        }
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Now) {
        while let Some(key) = self.desk.timers.pop_due(now.mono) {
            self.drive_timer(key, now);
        }
        self.batches.flush(&mut self.desk, now);
        self.housekeep(now);
    }

    /// The next thing that the shell has to do.
    pub fn poll(&mut self) -> Option<Action<B>> {
        self.desk.actions.pop_front()
    }

    /// When [`Coordinator::tick`] is due next.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        let working = self.desk.asks.len() > 0 || self.notes.any_waiting();
        let housekeeping = working.then_some(self.housekeeping_at);
        [self.desk.timers.first(), self.batches.flush_at, housekeeping].into_iter().flatten().min()
    }

    /// Counters.
    pub fn stats(&self) -> CoordinatorStats {
        CoordinatorStats {
            under_redundant: self.notes.len() as u64,
            versions_ahead: self.desk.versions.ahead,
            ops: self.ops() as u64,
            asks: self.desk.asks.len() as u64,
            ..self.desk.stats
        }
    }

    /// What is known of each target.
    pub fn target_stats(&self) -> Vec<TargetStats> {
        self.desk.targets.stats()
    }

    fn ops(&self) -> usize {
        self.reads.len() + self.writes.len() + self.repairs.len()
    }
}
