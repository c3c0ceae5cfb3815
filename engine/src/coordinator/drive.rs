//! Hands answers and time to the operations, ends them, and looks after what is left to do.

use hedgerow_wire::part::{PartAnswer, PartKind, RecordName};
use hedgerow_wire::time::{Now, Timestamp};
use hedgerow_wire::types::{ReadPolicy, Version};
use std::time::Duration;

use super::Coordinator;
use super::api::{Action, Miss, OpId, Parts, ReadOutcome, ReadRequest, WriteOutcome};
use super::desk::Ask;
use super::limits::{HOUSEKEEPING_INTERVAL, PART_BYTES_UNKNOWN, REPAIR_AGE_US, REPAIRS_MAX};
use super::pool::Pool;
use super::read::step::{End, Step as ReadStep};
use super::read::wants::Wants;
use super::read::{Completion, Known, Loss, Origin, ReadOp};
use super::repair::{Cause, RepairOp};
use super::timers::TimerKey;
use super::version::age_us;
use super::write::{Step as WriteStep, WriteOp};

/// Kinds of operations, in the two highest bits of an [`OpId`].
pub(super) const READ: u8 = 0;
pub(super) const WRITE: u8 = 1;
pub(super) const REPAIR: u8 = 2;
const KIND_SHIFT: u32 = 62;

/// What kind of operation `op` is.
pub(super) fn kind(op: OpId) -> u8 {
    (op.0 >> KIND_SHIFT) as u8
}

/// Its id in the pool of its kind.
pub(super) fn pool_id(op: OpId) -> u64 {
    op.0 & ((1 << KIND_SHIFT) - 1)
}

fn op_id(kind: u8, pool_id: u64) -> OpId {
    OpId(u64::from(kind) << KIND_SHIFT | pool_id)
}

fn timer(op: OpId) -> TimerKey {
    TimerKey { kind: kind(op), index: Pool::<()>::index(pool_id(op)) }
}

impl<B: Clone> Coordinator<B> {
    pub(super) fn insert_read(&mut self, read: ReadOp<B>) -> OpId {
        let id = op_id(READ, self.reads.insert(read));
        if let Some(read) = self.reads.get_mut(pool_id(id)) {
            read.id = id;
        }
        id
    }

    pub(super) fn insert_write(&mut self, write: WriteOp) -> OpId {
        let id = op_id(WRITE, self.writes.insert(write));
        if let Some(write) = self.writes.get_mut(pool_id(id)) {
            write.id = id;
        }
        id
    }

    /// A timer went off.
    pub(super) fn drive_timer(&mut self, key: TimerKey, now: Now) {
        match key.kind {
            READ => {
                if let Some(id) = self.reads.id_at(key.index) {
                    self.drive_read(op_id(READ, id), now);
                }
            }
            WRITE => {
                if let Some(id) = self.writes.id_at(key.index) {
                    self.drive_write(op_id(WRITE, id), now);
                }
            }
            _ => {
                if let Some(id) = self.repairs.id_at(key.index) {
                    self.end_repair(op_id(REPAIR, id), now);
                }
            }
        }
    }

    fn set_timer(&mut self, op: OpId, at: Timestamp, now: Now) {
        // Never due at once: a timer that changes nothing must not hold up the core.
        self.desk.timers.set(timer(op), at.max(now.mono + Duration::from_micros(1)));
    }

    pub(super) fn answer_read(&mut self, id: OpId, ask: &Ask, answer: PartAnswer<B>, now: Now) {
        let Some(read) = self.reads.get_mut(pool_id(id)) else { return };
        read.take(ask, answer, &mut self.desk, now);
        self.drive_read(id, now);
    }

    /// Lets a read do what it can.
    pub(super) fn drive_read(&mut self, id: OpId, now: Now) {
        loop {
            let Some(read) = self.reads.get_mut(pool_id(id)) else { return };
            match read.step(&mut self.desk, now) {
                ReadStep::Wait => {
                    let at = read.wake_at(self.desk.config.confirm_patience, now);
                    return self.set_timer(id, at, now);
                }
                ReadStep::Complete(version) => self.complete_first(id, version, now),
                ReadStep::Done(end) => return self.end_read(id, end, now),
            }
        }
    }

    /// Begins to complete `version` before the read returns it.
    fn complete_first(&mut self, id: OpId, version: Version, now: Now) {
        let Some(read) = self.reads.get_mut(pool_id(id)) else { return };
        let shape = read.shape(Some(version), &self.desk);
        let wants = read.wants(version, &shape);
        if wants.is_empty() {
            read.completion = Completion::Over;
            return;
        }
        read.completion = Completion::Running;
        for want in &wants {
            read.slots[usize::from(want.slot)].repairing = true;
        }
        let Some(candidate) = read.candidate(version) else { return };
        let meta = candidate.meta.clone();
        let have: Parts<B> = read.parts(version, &shape.whole());
        let repair = RepairOp::new(meta, &wants, Cause::Read(id), read.request.deadline);
        self.begin_repair(repair, have, &wants, now);
    }

    fn begin_repair(&mut self, repair: RepairOp, have: Parts<B>, wants: &Wants, now: Now) {
        let (meta, deadline, bytes) = (repair.meta().clone(), repair.deadline, repair.bytes());
        let id = op_id(REPAIR, self.repairs.insert(repair));
        if let Some(repair) = self.repairs.get_mut(pool_id(id)) {
            repair.id = id;
        }
        self.desk.repair_bytes.spend(bytes);
        let want = wants.iter().map(|want| want.part).collect();
        self.desk.actions.push_back(Action::Rebuild { op: id, meta, have, want });
        self.set_timer(id, deadline, now);
    }

    /// Takes a read from the pool, and what is in flight with it.
    pub(super) fn remove_read(&mut self, id: OpId, now: Now) -> Option<ReadOp<B>> {
        let mut read = self.reads.remove(pool_id(id))?;
        self.desk.timers.clear(timer(id));
        read.withdraw_all(&mut self.desk, now);
        Some(read)
    }

    fn end_read(&mut self, id: OpId, end: End, now: Now) {
        let Some(hedge_won) = self.reads.get(pool_id(id)).map(ReadOp::hedge_won) else { return };
        let Some(read) = self.remove_read(id, now) else { return };
        for (target, drop) in read.remains(now) {
            self.desk.stats.remains_dropped += 1;
            self.batches.drop(target, drop, &mut self.desk, now);
        }
        match read.origin {
            Origin::Client => {
                self.desk.stats.hedges_won += u64::from(hedge_won);
                let outcome = self.outcome(&read, end);
                self.desk.actions.push_back(Action::ReadDone { op: id, outcome });
                if let End::Found { version, confirmed: true } = end {
                    self.complete_later(&read, version, now);
                }
            }
            Origin::Repair { attempt } => self.surveyed(read, end, attempt, now),
        }
    }

    fn outcome(&mut self, read: &ReadOp<B>, end: End) -> ReadOutcome<B> {
        let stats = &mut self.desk.stats;
        match end {
            End::Found { version, confirmed } => {
                let Some(found) = read.candidate(version) else { return ReadOutcome::DeadlineExceeded };
                if found.meta.kind == PartKind::Tombstone {
                    stats.reads_not_found += 1;
                    return ReadOutcome::NotFound { why: Miss::Deleted(version) };
                }
                stats.reads_found += 1;
                stats.reads_unconfirmed += u64::from(!confirmed);
                let parts = read.parts(version, &read.shape(Some(version), &self.desk));
                ReadOutcome::Found { meta: found.meta.clone(), parts, confirmed }
            }
            End::Miss(why) => {
                stats.reads_not_found += 1;
                ReadOutcome::NotFound { why }
            }
            End::Unavailable { have, need } => {
                stats.reads_unavailable += 1;
                ReadOutcome::Unavailable { have, need }
            }
            End::Deadline => {
                stats.reads_late += 1;
                ReadOutcome::DeadlineExceeded
            }
            End::Overloaded => {
                stats.reads_overloaded += 1;
                ReadOutcome::Overloaded
            }
        }
    }

    /// A client has its answer; what it was found to lack is completed from the parts at hand, or
    /// noted for later.
    fn complete_later(&mut self, read: &ReadOp<B>, version: Version, now: Now) {
        let shape = read.shape(Some(version), &self.desk);
        let (wants, all_said) = (read.wants(version, &shape), read.all_said(version, &shape));
        let young = age_us(version, now.wall_us) <= REPAIR_AGE_US;
        if young || read.completion == Completion::Running {
            return;
        }
        let name = &read.request.name;
        if wants.is_empty() {
            // It lacked parts, and may still do where nothing was said.
            if read.completion == Completion::Over && !all_said {
                self.note(name, now);
            }
            return;
        }
        let Some(found) = read.candidate(version) else { return };
        let at_hand = found.parts.len() >= shape.k;
        let room = self.background < REPAIRS_MAX && self.desk.repair_bytes.open(now.mono);
        if !(at_hand && room) {
            return self.note(name, now);
        }
        if self.notes.claim(name.hash, name.record) {
            let deadline = now.mono + self.desk.config.repair_deadline;
            let meta = found.meta.clone();
            let cause = Cause::Background { attempt: 0, all_said };
            let repair = RepairOp::new(meta, &wants, cause, deadline);
            self.background += 1;
            let have = read.parts(version, &shape.whole());
            self.begin_repair(repair, have, &wants, now);
        }
    }

    /// Notes a record that lacks parts.
    pub(super) fn note(&mut self, name: &RecordName, now: Now) {
        if !self.notes.add(name, now) {
            self.desk.stats.repair_notes_dropped += 1;
        }
    }

    /// A read of background completion is over.
    fn surveyed(&mut self, read: ReadOp<B>, end: End, attempt: u8, now: Now) {
        let name = read.request.name.clone();
        self.desk.repair_bytes.refund(PART_BYTES_UNKNOWN as u64);
        let found = match end {
            End::Found { version, confirmed: true } => read.candidate(version).map(|found| (version, found)),
            End::Miss(Miss::Absent | Miss::Deleted(_) | Miss::Incomplete(_)) => None,
            End::Found { .. } | End::Miss(_) | End::Unavailable { .. } | End::Deadline | End::Overloaded => {
                self.background -= 1;
                return self.put_off(name, attempt, now);
            }
        };
        if let Some((version, found)) = found {
            let shape = read.shape(Some(version), &self.desk);
            let (wants, all_said) = (read.wants(version, &shape), read.all_said(version, &shape));
            if !wants.is_empty() {
                let deadline = now.mono + self.desk.config.repair_deadline;
                let cause = Cause::Background { attempt, all_said };
                let repair = RepairOp::new(found.meta.clone(), &wants, cause, deadline);
                return self.begin_repair(repair, read.parts(version, &shape), &wants, now);
            }
            if !all_said {
                self.background -= 1;
                return self.put_off(name, attempt, now);
            }
        }
        self.background -= 1;
        self.notes.settle(name.hash, name.record);
    }

    fn put_off(&mut self, name: RecordName, attempt: u8, now: Now) {
        if !self.notes.put_off(name, attempt, now) {
            self.desk.stats.repairs_failed += 1;
        }
    }

    pub(super) fn refuse_read(&mut self, id: OpId) {
        self.reads.remove(pool_id(id));
        self.desk.stats.reads_overloaded += 1;
        self.desk.actions.push_back(Action::ReadDone { op: id, outcome: ReadOutcome::Overloaded });
    }

    pub(super) fn answer_write(&mut self, id: OpId, ask: &Ask, answer: &PartAnswer<B>, now: Now) {
        let Some(write) = self.writes.get_mut(pool_id(id)) else { return };
        write.take(ask, answer, &mut self.desk);
        self.drive_write(id, now);
    }

    /// Lets a write do what it can.
    pub(super) fn drive_write(&mut self, id: OpId, now: Now) {
        loop {
            let Some(write) = self.writes.get_mut(pool_id(id)) else { return };
            match write.step(&self.desk, now) {
                WriteStep::Wait(at) => return self.set_timer(id, at, now),
                WriteStep::Acknowledge(outcome, at) => {
                    self.desk.stats.writes_acknowledged += 1;
                    self.desk.actions.push_back(Action::WriteDone { op: id, outcome });
                    self.set_timer(id, at, now);
                }
                WriteStep::Refuse(outcome) => {
                    self.count_refused(outcome);
                    self.desk.actions.push_back(Action::WriteDone { op: id, outcome });
                    self.release_write(id, now);
                    return;
                }
                WriteStep::End { complete } => {
                    let name = write.name.clone();
                    self.release_write(id, now);
                    if !complete {
                        self.note(&name, now);
                    }
                    return;
                }
            }
        }
    }

    fn count_refused(&mut self, outcome: WriteOutcome) {
        let stats = &mut self.desk.stats;
        match outcome {
            WriteOutcome::Superseded { .. } => stats.writes_superseded += 1,
            WriteOutcome::Indeterminate => stats.writes_indeterminate += 1,
            _ => stats.writes_failed += 1,
        }
    }

    fn release_write(&mut self, id: OpId, now: Now) {
        let Some(mut write) = self.writes.remove(pool_id(id)) else { return };
        self.desk.timers.clear(timer(id));
        write.withdraw_all(&mut self.desk, now);
        self.desk.actions.push_back(Action::Release { op: id });
    }

    pub(super) fn answer_repair(&mut self, id: OpId, ask: &Ask, answer: &PartAnswer<B>, now: Now) {
        let Some(repair) = self.repairs.get_mut(pool_id(id)) else { return };
        repair.take(ask, answer, &mut self.desk);
        let (cause, version, over) = (repair.cause, repair.meta().version, repair.over());
        if let Cause::Read(parent) = cause
            && let Some(read) = self.reads.get_mut(pool_id(parent))
        {
            read.repaired(usize::from(ask.slot), version, answer);
        }
        if over {
            self.end_repair(id, now);
        } else if let Cause::Read(parent) = cause {
            self.drive_read(parent, now);
        }
    }

    /// A repair is over, or given up.
    pub(super) fn end_repair(&mut self, id: OpId, now: Now) {
        let Some(mut repair) = self.repairs.remove(pool_id(id)) else { return };
        self.desk.timers.clear(timer(id));
        let complete = repair.complete();
        repair.withdraw_all(&mut self.desk, now);
        self.desk.actions.push_back(Action::Release { op: id });
        let name = repair.name();
        match repair.cause {
            Cause::Background { attempt, all_said } => {
                self.background -= 1;
                if complete && all_said {
                    self.notes.settle(name.hash, name.record);
                } else {
                    self.put_off(name, attempt, now);
                }
            }
            Cause::Read(parent) => {
                self.desk.stats.completions += u64::from(complete);
                if !complete {
                    self.note(&name, now);
                }
                if let Some(read) = self.reads.get_mut(pool_id(parent)) {
                    read.completion = Completion::Over;
                    for slot in read.slots.iter_mut().filter(|slot| slot.repairing) {
                        slot.repairing = false;
                        slot.known = Known::Lost(Loss::Failed);
                    }
                    self.drive_read(parent, now);
                }
            }
        }
    }

    /// Looks after targets, lost asks and what is noted for completion, now and then.
    pub(super) fn housekeep(&mut self, now: Now) {
        if now.mono < self.housekeeping_at {
            return;
        }
        self.housekeeping_at = now.mono + HOUSEKEEPING_INTERVAL;
        self.desk.targets.judge(now.mono);
        self.desk.sweep_lost(now);
        while self.background < REPAIRS_MAX
            && self.notes.any_waiting()
            && self.desk.repair_bytes.open(now.mono)
        {
            let Some(note) = self.notes.next(now) else { return };
            let request = ReadRequest {
                name: note.name,
                version: None,
                code_hint: None,
                stripe_len: None,
                range: None,
                policy: ReadPolicy::Hedged,
                strict: false,
                immutable: false,
                deadline: now.mono + self.desk.config.repair_deadline,
            };
            self.background += 1;
            // What it will write is not known before it has read.
            self.desk.repair_bytes.spend(PART_BYTES_UNKNOWN as u64);
            let origin = Origin::Repair { attempt: note.attempt };
            let id = self.insert_read(ReadOp::new(request, origin, &self.desk, now));
            self.drive_read(id, now);
        }
    }
}
