//! What a key's home does for its clients: the memory tier, conditions, versions, and the coordinator behind
//! them, in the order in which the shell's `home` does it, as steps instead of futures.

use std::ops::Range;
use std::rc::Rc;

use hedgerow_wire::checksum::crc32c;
use hedgerow_wire::frame::{FrameHeader, Status};
use hedgerow_wire::part::{PartKind, PartMeta};
use hedgerow_wire::time::{Now, Timestamp};
use hedgerow_wire::{ObjectChecksum, ReadPolicy, Record, Version};
use smallvec::SmallVec;

use super::bytes::{Slice, body};
use super::core::{Core, Site, Waiter};
use super::coverage::Rare;
use super::facts::{Answer, Found};
use super::parts::{OpBytes, assemble};
use super::plan::{ClientOp, Condition, OpKind};
use crate::coordinator::{Miss, OpId, ReadOutcome, ReadRequest, WriteOutcome, WriteRequest};
use crate::gates::Entry as Way;
use crate::memory::{Entry, FillToken, Kept};

/// Length of every stripe but the last of an object, in bytes; those of the simulation have one.
const STRIPE_SIZE: u32 = 1 << 20;

/// What the memory tier keeps of a record.
#[derive(Clone)]
pub(super) struct InMemory {
    meta: Rc<PartMeta>,
    bytes: Slice,
}

/// What runs when its turn comes.
pub(super) enum Task {
    /// A read has its outcome.
    ReadDone(u32, Box<ReadOutcome<Slice>>),
    /// A write has its outcome.
    WriteDone(u32, WriteOutcome),
    /// A call may pass its gate.
    Enter(u32),
    /// What was read goes into the memory tier.
    Fill(FillToken, Box<Entry<InMemory>>),
}

/// Where a call is.
enum Stage {
    /// At its gate, until then.
    Gate(Timestamp),
    /// It reads, for its client or for its condition.
    Reading(OpId, Option<FillToken>),
    /// It writes; the stripe's bytes for the memory tier.
    Writing(Box<PartMeta>, Slice),
}

/// A client's operation under way.
pub(super) struct Call {
    op: ClientOp,
    /// The version that its condition expects.
    expected: Version,
    deadline: Timestamp,
    expires_ms: u64,
    stage: Stage,
}

impl Call {
    fn whole(&self) -> bool {
        self.range() == (0, FrameHeader::TO_END)
    }

    /// Offset and length of the bytes wanted; a condition wants none.
    fn range(&self) -> (u64, u64) {
        match self.op.kind {
            OpKind::Get { range: Some((offset, len)), .. } => (u64::from(offset), u64::from(len)),
            OpKind::Get { range: None, .. } => (0, FrameHeader::TO_END),
            _ => (0, 0),
        }
    }
}

/// What a read gives.
enum Read {
    Record { meta: Rc<PartMeta>, bytes: Vec<u8>, confirmed: bool, from_memory: bool },
    OutOfRange { object_len: u64 },
    Miss(Option<Miss>),
    Status(Status),
}

impl Core {
    /// A client's operation arrives. `expected`: by its condition.
    pub(super) fn begin_call(&mut self, op: ClientOp, expected: Version, site: &mut Site<'_>) {
        let now = site.now();
        let expires_ms = match op.kind {
            OpKind::Put { ttl_ms: Some(ttl_ms), .. } => now.wall_ms().saturating_add(ttl_ms),
            _ => 0,
        };
        // A deadline travels as what is left of it, and counts from when it is read.
        let deadline = now.mono + op.deadline;
        let hash = self.setup.name(op.key).hash;
        let answer_by = self.coordinator.answer_by(deadline, now.mono);
        let call = Call { op, expected, deadline, expires_ms, stage: Stage::Gate(answer_by) };
        if !op.kind.writes() {
            self.read(call, site);
        } else {
            let way = if op.kind.condition().is_some() { Way::Exclusive } else { Way::Shared };
            let enters = self.gates.enter(hash, way, || op.id);
            self.calls.insert(op.id, call);
            if enters {
                self.entered(op.id, site);
            } else {
                self.deadlines.insert((answer_by, Waiter::Gate(op.id)));
            }
        }
        self.pump(site);
    }

    /// The client no longer wants its answer. A write goes on.
    pub(super) fn cancel_call(&mut self, op: u32, site: &mut Site<'_>) {
        let now = site.now();
        if let Some(Call {
            stage: Stage::Reading(read, _),
            op: ClientOp { kind: OpKind::Get { .. }, .. },
            ..
        }) = self.calls.get(&op)
        {
            let read = *read;
            self.calls.remove(&op);
            self.call_of.remove(&read);
            self.coordinator.cancel_read(read, now);
        }
        self.pump(site);
    }

    /// A call has waited at its gate for too long.
    pub(super) fn gate_is_late(&mut self, id: u32, site: &mut Site<'_>) {
        let Some(Call { op, stage: Stage::Gate(_), .. }) = self.calls.get(&id) else { return };
        // One that was let in goes on, though its turn has not come.
        if self.gates.give_up(self.setup.name(op.key).hash, |waiter| *waiter == id) {
            self.calls.remove(&id);
            site.env.answer(id, Answer::Status(Status::DeadlineExceeded));
        }
    }

    /// A task runs.
    pub(super) fn run(&mut self, task: Task, site: &mut Site<'_>) {
        match task {
            Task::ReadDone(id, outcome) => {
                let Some(mut call) = self.calls.remove(&id) else { return };
                let read = self.finish_read(&mut call, *outcome, site);
                if call.op.kind.writes() {
                    self.judge_condition(call, read, site);
                } else {
                    self.answer_read(&call, read, site);
                }
            }
            Task::WriteDone(id, outcome) => {
                let Some(call) = self.calls.remove(&id) else { return };
                self.finish_write(call, &outcome, site);
            }
            Task::Enter(id) => self.entered(id, site),
            Task::Fill(token, entry) => {
                if self.memory.fill(token, *entry, site.now().wall_ms()) == Kept::Overtaken {
                    site.env.met(Rare::FillOvertaken);
                }
            }
        }
    }

    /// A write has passed its gate.
    fn entered(&mut self, id: u32, site: &mut Site<'_>) {
        let Some(call) = self.calls.remove(&id) else { return };
        if let Stage::Gate(until) = call.stage {
            self.deadlines.remove(&(until, Waiter::Gate(id)));
        }
        match call.op.kind.condition() {
            Some(_) => self.read(call, site),
            None => self.write(call, site),
        }
    }

    /// A write is over: its gate is open for the next ones.
    fn over(&mut self, call: &Call, answer: Answer, site: &mut Site<'_>) {
        for next in self.gates.leave(self.setup.name(call.op.key).hash, |_| false) {
            self.spawn(Task::Enter(next), site);
        }
        site.env.answer(call.op.id, answer);
    }

    /// Reads, for a client or for a condition.
    fn read(&mut self, call: Call, site: &mut Site<'_>) {
        let now = site.now();
        if let Some(read) = self.read_memory(&call, now) {
            if call.op.kind.writes() {
                return self.judge_condition(call, read, site);
            }
            return self.answer_read(&call, read, site);
        }
        let name = self.setup.name(call.op.key).clone();
        let token = self.memory.begin_fill(name.hash);
        let (policy, strict) = match call.op.kind {
            OpKind::Get { strict, policy, .. } => (policy, strict),
            _ => (ReadPolicy::Default, true),
        };
        let range = (!call.whole()).then(|| {
            let (offset, len) = call.range();
            let most = u64::from(u32::MAX);
            offset.min(most) as u32..offset.saturating_add(len).min(most) as u32
        });
        let request = ReadRequest {
            version: None,
            code_hint: self.shapes.get(&name.hash).copied(),
            name,
            stripe_len: None,
            range,
            policy: if policy == ReadPolicy::Default { ReadPolicy::Hedged } else { policy },
            strict,
            immutable: false,
            deadline: call.deadline,
        };
        let op = self.coordinator.read(request, now);
        self.call_of.insert(op, call.op.id);
        self.calls.insert(call.op.id, Call { stage: Stage::Reading(op, Some(token)), ..call });
    }

    fn read_memory(&mut self, call: &Call, now: Now) -> Option<Read> {
        let name = self.setup.name(call.op.key);
        let InMemory { meta, bytes } = self.memory.get(name.hash, Record::OBJECT, now.wall_ms())?.value;
        if meta.key != name.key || meta.namespace != name.namespace {
            return None;
        }
        self.coordinator.touch(name, meta.version, meta.code, now);
        Some(match wanted(&meta, call) {
            Ok(range) => {
                let bytes = bytes.as_ref()[range].to_vec();
                Read::Record { meta, bytes, confirmed: true, from_memory: true }
            }
            Err(read) => read,
        })
    }

    fn finish_read(&mut self, call: &mut Call, outcome: ReadOutcome<Slice>, site: &mut Site<'_>) -> Read {
        let now = site.now();
        let token = match &mut call.stage {
            Stage::Reading(_, token) => token.take(),
            Stage::Gate(_) | Stage::Writing(..) => None,
        };
        if let Some(version) = outcome.floor() {
            self.memory.returned(self.setup.name(call.op.key).hash, version);
        }
        let (meta, parts, confirmed) = match outcome {
            ReadOutcome::Found { meta, parts, confirmed } => (meta, parts, confirmed),
            // A condition must not take what could not be confirmed for nothing.
            ReadOutcome::NotFound { why: Miss::Unconfirmed(_) } if call.op.kind.writes() => {
                return Read::Status(Status::Unavailable);
            }
            ReadOutcome::NotFound { why } => return Read::Miss(Some(why)),
            ReadOutcome::Unavailable { .. } => return Read::Status(Status::Unavailable),
            ReadOutcome::DeadlineExceeded => return Read::Status(Status::DeadlineExceeded),
            ReadOutcome::Overloaded => return Read::Status(Status::Overloaded),
        };
        if meta.expired(now.wall_ms()) {
            return Read::Miss(None);
        }
        let name = self.setup.name(call.op.key);
        self.coordinator.touch(name, meta.version, meta.code, now);
        self.shapes.insert(name.hash, meta.code);
        let meta = Rc::new(meta);
        let range = match wanted(&meta, call) {
            Ok(range) => range,
            Err(read) => return read,
        };
        let whole = range.len() == meta.stripe_len as usize;
        let Some((bytes, rebuilt)) = assemble(site.codec, &meta, &parts, range) else {
            return Read::Status(Status::Internal);
        };
        if rebuilt {
            site.env.met(Rare::Reconstructed);
        }
        if confirmed
            && whole
            && self.setup.shape.memory_bytes > 0
            && let Some(token) = token
        {
            let held: Rc<[u8]> = Rc::from(&bytes[..]);
            let slice = Slice::new(held, 0..bytes.len());
            let entry = memory_entry(meta.clone(), slice);
            self.spawn(Task::Fill(token, Box::new(entry)), site);
        }
        Read::Record { meta, bytes, confirmed, from_memory: false }
    }

    fn answer_read(&mut self, call: &Call, read: Read, site: &mut Site<'_>) {
        let answer = match read {
            Read::Record { meta, bytes, confirmed, from_memory } => {
                if from_memory {
                    site.env.met(Rare::MemoryHit);
                }
                if !confirmed {
                    site.env.met(Rare::UnconfirmedAnswer);
                }
                let (version, object_len) = (meta.version, meta.object_len);
                Answer::Found(Found { version, object_len, bytes, confirmed, from_memory })
            }
            Read::OutOfRange { object_len } => Answer::OutOfRange { object_len },
            Read::Miss(why) => {
                if matches!(why, Some(Miss::Deleted(_))) {
                    site.env.met(Rare::Deleted);
                }
                Answer::Miss(why)
            }
            Read::Status(status) => Answer::Status(status),
        };
        site.env.answer(call.op.id, answer);
    }

    /// Goes on with a write if its condition holds.
    fn judge_condition(&mut self, call: Call, read: Read, site: &mut Site<'_>) {
        let found = match read {
            Read::Record { meta, .. } => meta.version,
            Read::OutOfRange { .. } | Read::Miss(_) => Version::ZERO,
            Read::Status(status) => return self.over(&call, Answer::Status(status), site),
        };
        let expected = match call.op.kind.condition() {
            Some(Condition::LastSeen) => call.expected,
            Some(Condition::Absent) | None => Version::ZERO,
        };
        if found == expected {
            return self.write(call, site);
        }
        site.env.met(Rare::ConditionFailed);
        let answer = Answer::Conflict { status: Status::VersionMismatch, version: found };
        self.over(&call, answer, site);
    }

    /// Writes. What memory had of the key is gone before anything is written.
    fn write(&mut self, call: Call, site: &mut Site<'_>) {
        let now = site.now();
        let name = self.setup.name(call.op.key).clone();
        let version = self.coordinator.next_version(name.hash, now);
        let (kind, len, code) = match call.op.kind {
            OpKind::Put { len, .. } => {
                let code = self.config.code.for_stripe(len as usize, self.setup.shape.min_part as usize);
                (PartKind::Sole, len, code)
            }
            _ => (PartKind::Tombstone, 0, self.coordinator.tombstone_code()),
        };
        let mut bytes = body(call.op.key, call.op.id, len as usize);
        let checksum = crc32c(&bytes);
        let object_checksum = match kind {
            PartKind::Sole => ObjectChecksum::crc32c(checksum),
            _ => ObjectChecksum::NONE,
        };
        let meta = PartMeta {
            kind,
            pinned: false,
            namespace: name.namespace,
            namespace_generation: 0,
            key: name.key,
            record: Record::OBJECT,
            version,
            object_len: u64::from(len),
            object_checksum,
            stripe_len: len,
            stripe_size: STRIPE_SIZE,
            part: 0,
            code,
            created_ms: now.wall_ms(),
            expires_ms: call.expires_ms,
            encryption_key_id: 0,
            encryption_nonce: [0; 12],
            tags: SmallVec::new(),
        };
        self.memory.invalidate(name.hash, Version::ZERO);
        let (part_len, k) = (meta.part_len(), code.k());
        bytes.resize(part_len * k, 0);
        let mut parity = vec![0; part_len * code.m()];
        if part_len > 0 {
            let mut parts: Vec<&mut [u8]> = parity.chunks_exact_mut(part_len).collect();
            if site.codec.encode(code, &bytes, &mut parts).is_err() {
                return self.over(&call, Answer::Status(Status::Internal), site);
            }
        }
        let data: Rc<[u8]> = Rc::from(bytes);
        let request = WriteRequest {
            meta: meta.clone(),
            ack: call.op.kind.ack().unwrap_or(hedgerow_wire::AckLevel::Written),
            deadline: call.deadline,
        };
        let op = self.coordinator.write(request, now);
        let stripe = Slice::new(data.clone(), 0..len as usize);
        let meta = Box::new(meta);
        self.bytes.insert(op, OpBytes::Stripe { meta: meta.clone(), data, parity: Rc::from(parity) });
        self.call_of.insert(op, call.op.id);
        self.calls.insert(call.op.id, Call { stage: Stage::Writing(meta, stripe), ..call });
    }

    /// A write has its outcome: the memory tier learns of it before the client does.
    fn finish_write(&mut self, call: Call, outcome: &WriteOutcome, site: &mut Site<'_>) {
        let now = site.now();
        let Stage::Writing(meta, bytes) = &call.stage else { return };
        let (hash, version) = (meta.key_hash(), meta.version);
        let answer = match *outcome {
            WriteOutcome::Acknowledged { stored, .. } => {
                self.shapes.insert(hash, meta.code);
                if meta.kind == PartKind::Tombstone || self.setup.shape.memory_bytes == 0 {
                    self.memory.invalidate(hash, version);
                } else {
                    let entry = memory_entry(Rc::new((**meta).clone()), bytes.clone());
                    self.memory.replace(entry, now.wall_ms());
                }
                if usize::from(stored) == meta.code.write_quorum() {
                    site.env.met(Rare::QuorumMetExactly);
                }
                let newest = site.env.ledger.acknowledged.entry(call.op.key).or_insert(version);
                *newest = version.max(*newest);
                Answer::Written { version }
            }
            ref other => {
                self.memory.invalidate(hash, Version::ZERO);
                failure(other, site)
            }
        };
        self.over(&call, answer, site);
    }
}

fn failure(outcome: &WriteOutcome, site: &mut Site<'_>) -> Answer {
    match *outcome {
        WriteOutcome::Superseded { version } => {
            site.env.met(Rare::Superseded);
            Answer::Conflict { status: Status::Superseded, version }
        }
        WriteOutcome::Indeterminate => {
            site.env.met(Rare::Indeterminate);
            Answer::Status(Status::Indeterminate)
        }
        WriteOutcome::DeadlineExceeded => Answer::Status(Status::DeadlineExceeded),
        WriteOutcome::Overloaded => Answer::Status(Status::Overloaded),
        WriteOutcome::ClockAhead { .. } => Answer::Status(Status::Unavailable),
        WriteOutcome::Acknowledged { version, .. } => Answer::Written { version },
    }
}

fn memory_entry(meta: Rc<PartMeta>, bytes: Slice) -> Entry<InMemory> {
    Entry {
        hash: meta.key_hash(),
        record: meta.record,
        version: meta.version,
        expires_ms: meta.expires_ms,
        value_bytes: bytes.as_ref().len(),
        value: InMemory { meta, bytes },
    }
}

/// The bytes of the object that a call wants.
fn wanted(meta: &PartMeta, call: &Call) -> Result<Range<usize>, Read> {
    let ((offset, len), total) = (call.range(), meta.object_len);
    if offset > total || (offset == total && total > 0) {
        return Err(Read::OutOfRange { object_len: total });
    }
    Ok(offset as usize..offset.saturating_add(len).min(total) as usize)
}
