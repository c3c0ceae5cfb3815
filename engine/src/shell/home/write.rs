//! Writes of one record: condition, version, parity, quorum, memory tier.

use std::rc::Rc;
use std::sync::Arc;

use hedgerow_wire::frame::Status;
use hedgerow_wire::part::{PartDrop, PartKind, PartMeta};
use hedgerow_wire::{Code, KeyHash, ObjectChecksum, ReadPolicy, Record, Version};
use smallvec::SmallVec;

use super::gates::Gate;
use super::read::{memory_entry, serve_read};
use super::{Condition, ObjectMeta, ReadCall, Reply, StripeBytes};
use crate::coordinator::{WriteOutcome, WriteRequest};
use crate::gates::Entry;
use crate::shell::asks::OpBytes;
use crate::shell::buffers::{PartBytes, SharedBytes};
use crate::shell::clock;
use crate::shell::core::Core;
use crate::shell::stages::{self, Stage};

/// The version of a write that begins.
pub fn next_version(core: &Core, object: &ObjectMeta) -> Version {
    core.coordinator.borrow_mut().next_version(object.name.hash, clock::now())
}

/// Whether an object's condition fails, and the reply that says so.
pub async fn condition_failure(core: &Rc<Core>, object: &ObjectMeta) -> Option<Reply<PartBytes>> {
    let expected = match object.condition {
        Condition::None => return None,
        Condition::IfVersion(version) => Some(version),
        Condition::Immutable => None,
    };
    let read = ReadCall {
        name: object.name.clone(),
        fixed: None,
        range: (0, 0),
        policy: ReadPolicy::Default,
        strict: expected.is_some(),
        immutable: expected.is_none(),
        for_condition: true,
        deadline: object.deadline,
    };
    let found = match serve_read(core, &read).await {
        Reply::Record(record) => Some(record.meta.version),
        Reply::OutOfRange { .. } | Reply::Status(Status::NotFound) => None,
        // What cannot be put together any more does not stand in the way of a new object.
        Reply::Status(Status::Unavailable) if expected.is_none() => None,
        other => return Some(other),
    };
    match (expected, found) {
        (None, Some(version)) => Some(Reply::Written { version, unchanged: true }),
        (None, None) => None,
        (Some(expected), found) if found.unwrap_or(Version::ZERO) == expected => None,
        (Some(_), found) => {
            Some(Reply::Conflict { status: Status::VersionMismatch, version: found.unwrap_or(Version::ZERO) })
        }
    }
}

fn part_meta(core: &Core, object: &ObjectMeta, kind: PartKind, version: Version, code: Code) -> PartMeta {
    PartMeta {
        kind,
        pinned: object.pinned,
        namespace: object.name.namespace,
        namespace_generation: 0,
        key: object.name.key.clone(),
        record: Record::OBJECT,
        version,
        object_len: 0,
        object_checksum: ObjectChecksum::NONE,
        stripe_len: 0,
        stripe_size: core.shared.settings.stripe_len as u32,
        part: 0,
        code,
        created_ms: clock::now().wall_ms(),
        expires_ms: object.expires_ms,
        encryption_key_id: 0,
        encryption_nonce: [0; 12],
        tags: SmallVec::new(),
    }
}

/// Writes a record with its quorum. What memory had of the key is gone before anything is written, and
/// again, with `value` in its place, before the write is acknowledged.
async fn write_record(
    core: &Rc<Core>,
    object: &ObjectMeta,
    meta: PartMeta,
    stripe: Option<&StripeBytes>,
) -> Reply<PartBytes> {
    let (hash, record, version) = (object.name.hash, meta.record, meta.version);
    core.memory.borrow_mut().invalidate(hash, Version::ZERO);
    let parity = match stripe {
        Some(stripe) => match encode(core, &meta, stripe) {
            Some(parity) => parity,
            None => return Reply::Status(Status::Internal),
        },
        None => Vec::new(),
    };
    let data = stripe.map_or_else(Default::default, |stripe| stripe.data.clone());
    let bytes = OpBytes::Stripe { meta: meta.clone(), data: data.clone(), parity: Arc::new(parity) };
    let request = WriteRequest { meta: meta.clone(), ack: object.ack, deadline: object.deadline };
    let outcome = core.write(request, bytes).await;
    let _stage = stages::enter(Stage::Memory);
    let mut memory = core.memory.borrow_mut();
    match outcome {
        WriteOutcome::Acknowledged { .. } => {
            if record == Record::OBJECT {
                core.shapes.note(hash, meta.code);
            }
            if meta.kind == PartKind::Tombstone || core.shared.settings.memory_bytes == 0 {
                memory.invalidate(hash, version);
            } else {
                let bytes = stripe.map_or_else(
                    || SharedBytes::new(Vec::new(), 0),
                    |stripe| SharedBytes::slice_of(&data, 0..stripe.len, stripe.checksum),
                );
                let entry = memory_entry(hash, record, Arc::new(meta), bytes);
                let wall_ms = clock::now().wall_ms();
                if record == Record::OBJECT {
                    memory.replace(entry, wall_ms);
                } else {
                    // A stripe is found by its version only: it replaces nothing that may be read.
                    let token = memory.begin_fill(hash);
                    memory.fill(token, entry, wall_ms);
                }
            }
            Reply::Written { version, unchanged: false }
        }
        other => {
            memory.invalidate(hash, Version::ZERO);
            write_failure(&other)
        }
    }
}

fn write_failure(outcome: &WriteOutcome) -> Reply<PartBytes> {
    match outcome {
        WriteOutcome::Superseded { version } => {
            Reply::Conflict { status: Status::Superseded, version: *version }
        }
        WriteOutcome::Indeterminate => Reply::Status(Status::Indeterminate),
        WriteOutcome::DeadlineExceeded => Reply::Status(Status::DeadlineExceeded),
        WriteOutcome::Overloaded => Reply::Status(Status::Overloaded),
        WriteOutcome::ClockAhead { .. } => Reply::Status(Status::Unavailable),
        WriteOutcome::Acknowledged { .. } => unreachable!("an acknowledgement is no failure"),
    }
}

fn encode(core: &Core, meta: &PartMeta, stripe: &StripeBytes) -> Option<Vec<u8>> {
    let _stage = stages::enter(Stage::Codec);
    let part_len = meta.part_len();
    let mut parity = vec![0; part_len * meta.code.m()];
    if parity.is_empty() {
        return Some(parity);
    }
    let mut parts: SmallVec<[&mut [u8]; 8]> = parity.chunks_exact_mut(part_len).collect();
    let coded =
        core.codec.borrow_mut().encode(meta.code, &stripe.data[..part_len * meta.code.k()], &mut parts);
    drop(parts);
    match coded {
        Ok(()) => Some(parity),
        Err(error) => {
            tracing::error!(%error, code = %meta.code, "a stripe could not be coded");
            None
        }
    }
}

/// Writes an object of one stripe.
pub async fn put_sole(
    core: &Rc<Core>,
    object: ObjectMeta,
    stripe: StripeBytes,
    checksum: ObjectChecksum,
) -> Reply<PartBytes> {
    let Some(_gate) = gate(core, &object).await else { return Reply::Status(Status::DeadlineExceeded) };
    if let Some(reply) = condition_failure(core, &object).await {
        return reply;
    }
    let version = next_version(core, &object);
    let meta = PartMeta {
        object_len: stripe.len as u64,
        object_checksum: checksum,
        stripe_len: stripe.len as u32,
        ..part_meta(core, &object, PartKind::Sole, version, stripe.code)
    };
    write_record(core, &object, meta, Some(&stripe)).await
}

/// Waits for a write's turn among the writes of its key.
async fn gate(core: &Core, object: &ObjectMeta) -> Option<Gate> {
    let entry = match object.condition {
        Condition::None => Entry::Shared,
        Condition::IfVersion(_) | Condition::Immutable => Entry::Exclusive,
    };
    let answer_by = core.answer_by(object.deadline, clock::timestamp());
    core.gates.enter(object.name.hash, entry, answer_by).await
}

/// A put of several stripes begins. Under a condition it keeps others of its key out until its end, so
/// what held at its begin holds when it commits; the stripes that it writes meanwhile take the place of the
/// object's, of which readers then find too few.
pub async fn begin_put(core: &Rc<Core>, object: ObjectMeta) -> Reply<PartBytes> {
    let Some(gate) = gate(core, &object).await else { return Reply::Status(Status::DeadlineExceeded) };
    if let Some(reply) = condition_failure(core, &object).await {
        return reply;
    }
    let version = next_version(core, &object);
    let gate = (object.condition != Condition::None).then_some(gate);
    core.open_puts.begin(object.name.hash, version, gate);
    Reply::Version(version)
}

/// What is left of an object that cannot be read any more is let go everywhere, so that it can be written
/// again. Not while it is: then the put under way decides what becomes of the key.
pub fn forget(core: &Rc<Core>, hash: KeyHash, version: Version) {
    if core.open_puts.any(hash) {
        return;
    }
    core.memory.borrow_mut().invalidate(hash, Version::ZERO);
    let drop = PartDrop { hash, record: Record::OBJECT, version };
    core.coordinator.borrow_mut().drop_record(drop, clock::now());
    core.pump();
}

/// Writes one stripe of an object of several.
pub async fn put_stripe(
    core: &Rc<Core>,
    object: &ObjectMeta,
    version: Version,
    index: u32,
    stripe: StripeBytes,
) -> Reply<PartBytes> {
    let meta = PartMeta {
        record: Record::stripe(index),
        object_len: PartMeta::OBJECT_LEN_UNKNOWN,
        stripe_len: stripe.len as u32,
        ..part_meta(core, object, PartKind::Stripe, version, stripe.code)
    };
    write_record(core, object, meta, Some(&stripe)).await
}

/// A head is copied to as many targets as may confirm a read.
fn copies(core: &Core) -> Code {
    let m = core.shared.settings.code.m() as u8;
    Code::new(1, m).unwrap_or_else(|error| panic!("1+{m} follows from the configured code: {error}"))
}

/// Commits an object of several stripes, which ends its put.
pub async fn put_head(
    core: &Rc<Core>,
    object: ObjectMeta,
    version: Version,
    object_len: u64,
    checksum: ObjectChecksum,
) -> Reply<PartBytes> {
    let hash = object.name.hash;
    let reply = commit(core, object, version, object_len, checksum).await;
    core.open_puts.end(hash, version);
    reply
}

async fn commit(
    core: &Rc<Core>,
    object: ObjectMeta,
    version: Version,
    object_len: u64,
    checksum: ObjectChecksum,
) -> Reply<PartBytes> {
    let _gate = match core.open_puts.gated(object.name.hash, version) {
        Some(true) => None,
        Some(false) => match gate(core, &object).await {
            Some(gate) => Some(gate),
            None => return Reply::Status(Status::DeadlineExceeded),
        },
        None => return Reply::Status(Status::Internal),
    };
    let meta = PartMeta {
        object_len,
        object_checksum: checksum,
        ..part_meta(core, &object, PartKind::Head, version, copies(core))
    };
    write_record(core, &object, meta, None).await
}

/// Writes a tombstone.
pub async fn delete(core: &Rc<Core>, mut object: ObjectMeta) -> Reply<PartBytes> {
    if object.condition == Condition::Immutable {
        // That a key's bytes never change does not keep them from being deleted.
        object.condition = Condition::None;
    }
    let Some(_gate) = gate(core, &object).await else { return Reply::Status(Status::DeadlineExceeded) };
    if let Some(reply) = condition_failure(core, &object).await {
        return reply;
    }
    let version = next_version(core, &object);
    let code = core.coordinator.borrow().tombstone_code();
    let meta = part_meta(core, &object, PartKind::Tombstone, version, code);
    write_record(core, &object, meta, None).await
}
