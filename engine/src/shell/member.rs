//! What other members ask of this one's shards, and how any shard of this daemon is asked directly.

use std::rc::Rc;
use std::sync::Arc;

use hedgerow_wire::frame::{FrameHeader, Op, Status};
use hedgerow_wire::part::PartAnswer;
use hedgerow_wire::part_message::{
    PartMessageError, decode_confirm, decode_drop, decode_read, decode_touch, decode_write,
    encode_answer_head,
};
use hedgerow_wire::time::Timestamp;
use hedgerow_wire::{Key, KeyHash, Record, Target};

use super::bodies::WholeBody;
use super::buffers::{PartBytes, SharedBytes};
use super::connection::{Connection, Request};
use super::control::{on_core, on_core_async};
use super::core::Core;
use super::message::{Message, ShardRequest};
use crate::slab::Located;

/// Asks a shard of this daemon, on whichever core, outside of any coordinator.
pub async fn ask_target(
    core: &Rc<Core>,
    target: Target,
    request: ShardRequest,
    deadline: Timestamp,
) -> PartAnswer<PartBytes> {
    let Some(&owner) = core.shared.shard_cores.get(usize::from(target.shard)) else {
        return PartAnswer::Failed;
    };
    if owner == core.id {
        return core.ask_direct(target.shard, request, deadline).await;
    }
    let answer = on_core_async(core, owner, move |there| async move {
        let answer = there.ask_direct(target.shard, request, deadline).await;
        answer.map(PartBytes::into_shared)
    });
    answer.await.map_or(PartAnswer::Failed, |answer| answer.map(PartBytes::Shared))
}

/// Where what a shard of this daemon holds of a record lies.
pub async fn locate(core: &Rc<Core>, target: Target, hash: KeyHash, record: Record) -> Option<Located> {
    let owner = *core.shared.shard_cores.get(usize::from(target.shard))?;
    let located = on_core(core, owner, move |there| {
        let shard = there.shards.borrow().get(&target.shard).cloned()?;
        shard.store.borrow().locate(hash, record)
    });
    located.await.flatten()
}

/// Serves a part message of another member.
pub async fn serve(
    connection: &Rc<Connection>,
    request: &Request,
    header: &FrameHeader,
    key: Option<&Key>,
    body: WholeBody,
    received: Timestamp,
) {
    let core = &connection.core;
    // Counted until the answer is there.
    let WholeBody { bytes, held: _held } = body;
    let answer = match answer(core, header, key, bytes, received).await {
        Ok(answer) => answer,
        Err(error) => {
            return connection.send_error(header.op, request.id, Status::BadRequest, &error.to_string());
        }
    };
    let checksum = match &answer {
        PartAnswer::Part { payload, .. } => payload.checksum(),
        _ => 0,
    };
    let mut bytes = encode_answer_head(&answer, checksum);
    if let PartAnswer::Part { payload, .. } = &answer {
        bytes.extend_from_slice(payload.as_ref());
    }
    connection.send_bytes(FrameHeader::answer(header.op, request.id, Status::Ok), bytes);
}

async fn answer(
    core: &Rc<Core>,
    header: &FrameHeader,
    key: Option<&Key>,
    body: Vec<u8>,
    received: Timestamp,
) -> Result<PartAnswer<PartBytes>, PartMessageError> {
    let target = |shard| Target { shard, ..Target::default() };
    let (shard, request) = match header.op {
        Op::PartRead => {
            let (shard, read) = decode_read(header, key, &body, received)?;
            (shard, ShardRequest::Read(read))
        }
        Op::PartWrite => {
            let (shard, write, payload) = decode_write(header, &body, received)?;
            let bytes = SharedBytes::slice_of(&Arc::new(body), payload.range, payload.checksum);
            (shard, ShardRequest::Write(Box::new(write), bytes))
        }
        Op::PartConfirm => {
            let (shard, confirm) = decode_confirm(header, &body, received)?;
            (shard, ShardRequest::Confirm(confirm))
        }
        Op::PartDrop => {
            let (shard, drops) = decode_drop(&body)?;
            tell(core, shard, Message::Drops { shard, drops });
            return Ok(PartAnswer::Dropped);
        }
        _ => unreachable!("every other op has been served"),
    };
    Ok(ask_target(core, target(shard), request, header.deadline(received)).await)
}

/// Takes a touch of another member.
pub fn touch(core: &Rc<Core>, body: &[u8]) -> Result<(), PartMessageError> {
    let (shard, touches) = decode_touch(body)?;
    tell(core, shard, Message::Touches { shard, touches });
    Ok(())
}

/// Hands a message to the core of a shard, which may be this one.
fn tell(core: &Rc<Core>, shard: u16, message: Message) {
    let Some(&owner) = core.shared.shard_cores.get(usize::from(shard)) else { return };
    if owner == core.id {
        core.receive(core.id, message);
        core.pump();
    } else {
        core.outbox(owner).send(message);
    }
}
