//! Verification of a running shard: reads every part that its index points to, and checks it.

use std::rc::Rc;

use futures_lite::future::or;
use hedgerow_wire::Namespace;
use hedgerow_wire::messages::{DamagedPart, VerifyAnswer, VerifyRequest};
use hedgerow_wire::time::Timestamp;
use hedgerow_wire::{Record, Version};

use super::clock;
use super::control::on_core_async;
use super::core::Core;
use super::shard::Shard;
use super::turns::turn;
use crate::slab::{Located, PartDamage};

/// Checks the next parts of a shard, on the shard's own core.
pub async fn run(
    core: &Rc<Core>,
    request: VerifyRequest,
    deadline: Timestamp,
) -> Result<VerifyAnswer, String> {
    let Some(&owner) = core.shared.shard_cores.get(usize::from(request.shard)) else {
        let last = core.shared.shard_cores.len() - 1;
        return Err(format!("there is no shard {}: they are 0 to {last}", request.shard));
    };
    let checked =
        on_core_async(core, owner, move |there| async move { check(&there, request, deadline).await });
    checked.await.unwrap_or_else(|| Err("the daemon is stopping".to_owned()))
}

/// Buckets of the index that are looked at in one go.
const BUCKETS_AT_A_TIME: u64 = 64;

/// The cursor: the index's own in the high half, parts checked so far in the low half.
fn split(cursor: u64) -> (u64, u64) {
    (cursor >> 32, cursor & u64::from(u32::MAX))
}

async fn check(core: &Rc<Core>, request: VerifyRequest, deadline: Timestamp) -> Result<VerifyAnswer, String> {
    let Some(shard) = core.shards.borrow().get(&request.shard).cloned() else {
        return Err(format!("shard {} is set aside", request.shard));
    };
    let (mut place, done_before) = split(request.cursor);
    let mut answer = VerifyAnswer {
        next_cursor: 0,
        parts_checked: 0,
        bytes_checked: 0,
        damaged: Vec::new(),
        finished: false,
        parts_done: done_before,
        parts_total: shard.store.borrow().stats().parts,
    };
    // A bucket at a time: what is not checked by the deadline is left to the next request.
    while answer.parts_checked < request.parts_max && clock::timestamp() < deadline {
        let (parts, next) = shard.store.borrow().locate_parts(place, BUCKETS_AT_A_TIME);
        for part in &parts {
            let late = async {
                glommio::timer::sleep(deadline.since(clock::timestamp())).await;
                Err("its device does not answer".to_owned())
            };
            or(check_part(&shard, part, &mut answer), late).await?;
        }
        turn().await;
        match next {
            Some(next) => place = next,
            None => {
                answer.finished = true;
                break;
            }
        }
    }
    answer.next_cursor = place << 32 | (answer.parts_done & u64::from(u32::MAX));
    Ok(answer)
}

async fn check_part(shard: &Rc<Shard>, part: &Located, answer: &mut VerifyAnswer) -> Result<(), String> {
    let bytes = shard
        .read_outside(part.offset, part.len)
        .await
        .map_err(|error| format!("shard {}: {error}", shard.target.shard))?;
    answer.parts_checked += 1;
    answer.parts_done += 1;
    answer.bytes_checked += part.len as u64;
    if let Some(Err(damage)) = shard.store.borrow().verify_part(part, bytes.as_ref()) {
        answer.damaged.push(describe(part, bytes.as_ref(), damage));
    }
    Ok(())
}

/// What can be said of a damaged part: its names only if its head is right.
fn describe(part: &Located, bytes: &[u8], damage: PartDamage) -> DamagedPart {
    let head = bytes
        .get(part.offset_in_bytes()..)
        .and_then(|bytes| hedgerow_wire::part::decode_part_head(bytes).ok());
    let meta = head.filter(|_| damage == PartDamage::Payload).map(|head| head.meta);
    DamagedPart {
        namespace: meta.as_ref().map_or(Namespace(0), |meta| meta.namespace),
        record: meta.as_ref().map_or(Record::OBJECT, |meta| meta.record),
        part: meta.as_ref().map_or(0, |meta| meta.part),
        version: meta.as_ref().map_or(Version::ZERO, |meta| meta.version),
        slab: part.slab(),
        offset: part.slab_offset(),
        why: damage.to_string(),
        key: meta.map(|meta| meta.key),
    }
}
