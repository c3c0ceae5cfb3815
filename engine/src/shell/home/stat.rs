//! Where the parts of an object are: what every target says of every record of it.

use std::cmp::Ordering;
use std::rc::Rc;
use std::time::Duration;

use hedgerow_wire::messages::PartState;
use hedgerow_wire::part::{PartAnswer, PartKind, PartMeta, PartRead, RecordName};
use hedgerow_wire::time::Timestamp;
use hedgerow_wire::{Record, Target, Version};

use super::read::serve_read;
use super::{PartPosition, ReadCall, RecordPosition, Reply};
use crate::shell::buffers::PartBytes;
use crate::shell::clock;
use crate::shell::core::Core;
use crate::shell::limits::STAT_ASKS_PER_TARGET;
use crate::shell::member;
use crate::shell::message::ShardRequest;

/// What all targets say of an object. Those that have not said it by half of the time that is left are
/// unreachable: the answer is for someone who wants to know which they are.
pub async fn serve(core: &Rc<Core>, read: ReadCall) -> Reply<PartBytes> {
    let (deadline, name) = (read.deadline, read.name.clone());
    let half = || clock::timestamp() + left(deadline) / 2;
    let record = match serve_read(core, &ReadCall { deadline: half(), ..read }).await {
        Reply::Record(record) => record,
        other => return other,
    };
    let mut records = records(core, &record.meta);
    let until = half();
    let mut asking = Vec::new();
    for target in core.ring.targets(name.hash, core.shared.settings.code.n()) {
        for lane in 0..STAT_ASKS_PER_TARGET.min(records.len()) {
            let wanted = records.iter().map(|record| record.record);
            let wanted: Vec<Record> = wanted.skip(lane).step_by(STAT_ASKS_PER_TARGET).collect();
            let (core, name) = (core.clone(), name.clone());
            asking.push(core.clone().task(async move { ask(&core, target, name, wanted, until).await }));
        }
    }
    // Of each record in the order of the targets, since a record is in the same lane of all.
    for said in asking {
        for (record, position) in said.await {
            records[record.0 as usize].parts.push(position);
        }
    }
    for found in &mut records {
        judge(found, record.meta.version);
    }
    Reply::Stat { record, records }
}

/// Only parts of the object's version are its parts; they say how the record is coded, which says how many
/// targets have one. What the first targets hold of other versions is told as such, what lies on others
/// is no matter of this object.
fn judge(record: &mut RecordPosition, version: Version) {
    let metas = record.parts.iter().filter_map(|part| part.meta.as_ref());
    if let Some(meta) = metas.clone().find(|meta| meta.version == version) {
        (record.code, record.stripe_len) = (meta.code, meta.stripe_len);
    }
    record.parts.truncate(record.code.n());
    for part in &mut record.parts {
        match part.meta.as_ref().map(|meta| meta.version.cmp(&version)) {
            Some(Ordering::Less) => part.state = PartState::Older,
            Some(Ordering::Greater) => part.state = PartState::Newer,
            Some(Ordering::Equal) | None => {}
        }
    }
}

fn left(deadline: Timestamp) -> Duration {
    deadline.since(clock::timestamp())
}

/// The records that an object has, and how each is coded as far as its head and the settings say.
fn records(core: &Core, meta: &PartMeta) -> Vec<RecordPosition> {
    let empty = |record, stripe_len, code| RecordPosition { record, stripe_len, code, parts: Vec::new() };
    let mut records = vec![empty(Record::OBJECT, meta.stripe_len, meta.code)];
    if meta.kind == PartKind::Head {
        let settings = &core.shared.settings;
        let code = settings.code.for_stripe(meta.stripe_size as usize, settings.min_part);
        records.extend((0..meta.stripe_count()).map(|stripe| {
            let begin = u64::from(stripe) * u64::from(meta.stripe_size);
            let stripe_len = u64::from(meta.stripe_size).min(meta.object_len - begin) as u32;
            empty(Record::stripe(stripe), stripe_len, code)
        }));
    }
    records
}

/// Asks a target for what it holds of the records `wanted`, one after the other. Once the time is up all
/// that is left is unreachable at once.
async fn ask(
    core: &Rc<Core>,
    target: Target,
    name: RecordName,
    wanted: Vec<Record>,
    until: Timestamp,
) -> Vec<(Record, PartPosition)> {
    let mut said = Vec::with_capacity(wanted.len());
    for record in wanted {
        let name = RecordName { record, ..name.clone() };
        let (meta, state) = match left(until) {
            Duration::ZERO => (None, PartState::Unreachable),
            _ => held(core, target, &name, until).await,
        };
        let located = member::locate(core, target, name.hash, record).await;
        said.push((record, PartPosition { target, meta, located, state }));
    }
    said
}

async fn held(
    core: &Rc<Core>,
    target: Target,
    name: &RecordName,
    deadline: Timestamp,
) -> (Option<PartMeta>, PartState) {
    let read = PartRead { name: name.clone(), version: None, deadline };
    match member::ask_target(core, target, ShardRequest::Read(read), deadline).await {
        PartAnswer::Part { meta, .. } => (Some(meta), PartState::Present),
        PartAnswer::Absent { .. } => (None, PartState::Absent),
        PartAnswer::Damaged => (None, PartState::Damaged),
        _ => (None, PartState::Unreachable),
    }
}
