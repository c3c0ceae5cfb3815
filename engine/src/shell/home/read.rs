//! Reads of one record: the memory tier, the coordinator, and the bytes cut out of the parts.

use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use hedgerow_wire::checksum::{crc32c, crc32c_combine};
use hedgerow_wire::frame::Status;
use hedgerow_wire::part::{PartKind, PartMeta};
use hedgerow_wire::time::Now;
use hedgerow_wire::{KeyHash, ReadPolicy, Record};
use smallvec::SmallVec;

use super::{Piece, Pieces, ReadCall, RecordReply, Reply, StripeInMemory};
use crate::codec::Codec;
use crate::coordinator::{Miss, ReadOutcome, ReadRequest};
use crate::memory::{Entry, FillToken};
use crate::shell::buffers::{PartBytes, SharedBytes};
use crate::shell::clock;
use crate::shell::core::Core;
use crate::shell::stages::{self, Stage};

/// Reads one record.
pub async fn serve_read(core: &Rc<Core>, call: &ReadCall) -> Reply<PartBytes> {
    if let Some(reply) = read_memory(core, call) {
        return reply;
    }
    let token = core.memory.borrow_mut().begin_fill(call.name.hash);
    let outcome = core.read(read_request(core, call)).await;
    if let Some(version) = outcome.floor().filter(|_| call.name.record == Record::OBJECT) {
        core.memory.borrow_mut().returned(call.name.hash, version);
    }
    let (meta, parts, confirmed) = match outcome {
        ReadOutcome::Found { meta, parts, confirmed } => (meta, parts, confirmed),
        // A condition must not take what could not be confirmed for nothing.
        ReadOutcome::NotFound { why: Miss::Unconfirmed(_) } if call.for_condition => {
            return Reply::Status(Status::Unavailable);
        }
        ReadOutcome::NotFound { .. } => return Reply::Status(Status::NotFound),
        ReadOutcome::Unavailable { .. } => return Reply::Status(Status::Unavailable),
        ReadOutcome::DeadlineExceeded => return Reply::Status(Status::DeadlineExceeded),
        ReadOutcome::Overloaded => return Reply::Status(Status::Overloaded),
    };
    if meta.expired(clock::now().wall_ms()) {
        return Reply::Status(Status::NotFound);
    }
    core.coordinator.borrow_mut().touch(&call.name, meta.version, meta.code, clock::now());
    if call.name.record == Record::OBJECT {
        core.shapes.note(call.name.hash, meta.code);
    }
    let meta = Arc::new(meta);
    let range = match stripe_range(&meta, call) {
        Ok(range) => range,
        Err(reply) => return reply,
    };
    let whole = range.len() == meta.stripe_len as usize;
    let pieces = assemble(&mut core.codec.borrow_mut(), &meta, &parts, range);
    let Some(pieces) = pieces else { return Reply::Status(Status::Internal) };
    if confirmed && whole {
        fill_memory(core, token, call, meta.clone(), pieces.clone());
    }
    Reply::Record(RecordReply { meta, pieces, confirmed, from_memory: false })
}

fn read_request(core: &Core, call: &ReadCall) -> ReadRequest {
    let range = (!call.whole()).then(|| {
        let start = call.range.0.min(u64::from(u32::MAX));
        let end = call.range.0.saturating_add(call.range.1).min(u64::from(u32::MAX));
        start as u32..end as u32
    });
    let policy = match call.policy {
        ReadPolicy::Default => core.shared.settings.read_policy,
        chosen => chosen,
    };
    ReadRequest {
        name: call.name.clone(),
        version: call.fixed.map(|(version, ..)| version),
        code_hint: match call.fixed {
            Some((_, code, _)) => Some(code),
            None => core.shapes.get(call.name.hash, core.shared.settings.code),
        },
        stripe_len: call.fixed.map(|(.., stripe_len)| stripe_len),
        range,
        policy,
        strict: call.strict,
        immutable: call.immutable,
        deadline: call.deadline,
    }
}

/// What the memory tier has for a read: the record, and the piece of its stripe that is wanted, if any is.
pub struct InMemory {
    /// The record.
    pub meta: Arc<PartMeta>,
    /// The bytes.
    pub piece: Option<Piece<PartBytes>>,
}

/// Finds a record in the memory tier of its home core, and notes that it was used. A range that it does not
/// have is a reply already.
pub fn find_in_memory(core: &Core, call: &ReadCall, now: Now) -> Option<Result<InMemory, Reply<PartBytes>>> {
    let (hash, record) = (call.name.hash, call.name.record);
    let hit = {
        let mut memory = core.memory.borrow_mut();
        match call.fixed {
            Some((version, ..)) => memory.get_version(hash, record, version, now.wall_ms()),
            None => memory.get(hash, record, now.wall_ms()),
        }?
    };
    let StripeInMemory { meta, bytes } = hit.value;
    if meta.key != call.name.key || meta.namespace != call.name.namespace {
        return None;
    }
    core.coordinator.borrow_mut().touch(&call.name, meta.version, meta.code, now);
    let range = match stripe_range(&meta, call) {
        Ok(range) => range,
        Err(reply) => return Some(Err(reply)),
    };
    let piece = (!range.is_empty()).then(|| {
        let whole = range.len() == bytes.as_ref().len();
        let checksum = if whole { bytes.checksum() } else { crc32c(&bytes.as_ref()[range.clone()]) };
        Piece { bytes: PartBytes::Shared(bytes), range, checksum }
    });
    Some(Ok(InMemory { meta, piece }))
}

/// Answers a read from the memory tier of its home core, if what it wants is there.
fn read_memory(core: &Core, call: &ReadCall) -> Option<Reply<PartBytes>> {
    let _stage = stages::enter(Stage::Memory);
    let found = find_in_memory(core, call, clock::now())?;
    Some(found.map_or_else(
        |reply| reply,
        |InMemory { meta, piece }| {
            let pieces = piece.into_iter().collect();
            Reply::Record(RecordReply { meta, pieces, confirmed: true, from_memory: true })
        },
    ))
}

/// The bytes of the stripe that a call wants; none of a head.
fn stripe_range(meta: &PartMeta, call: &ReadCall) -> Result<Range<usize>, Reply<PartBytes>> {
    let (offset, len) = call.range;
    let total = match meta.kind {
        PartKind::Stripe => u64::from(meta.stripe_len),
        _ => meta.object_len,
    };
    if offset > total || (offset == total && total > 0) {
        return Err(Reply::OutOfRange { object_len: total });
    }
    if meta.kind == PartKind::Head {
        return Ok(0..0);
    }
    Ok(offset as usize..offset.saturating_add(len).min(total) as usize)
}

/// Cuts the bytes `range` of a stripe out of its parts, rebuilding those data parts that are needed
/// and missing. `None` if the parts do not suffice, which the coordinator has ruled out.
fn assemble(
    codec: &mut Codec,
    meta: &PartMeta,
    parts: &[(u8, PartBytes)],
    range: Range<usize>,
) -> Option<Pieces<PartBytes>> {
    let mut pieces = Pieces::new();
    let cuts = meta.cuts(range);
    let has = |number: u8| parts.iter().find(|(part, _)| *part == number);
    let missing: SmallVec<[u8; 8]> =
        cuts.clone().map(|(number, _)| number).filter(|&number| has(number).is_none()).collect();
    let rebuilt = rebuild(codec, meta, parts, &missing);
    if rebuilt.len() != missing.len() {
        return None;
    }
    for (number, inside) in cuts {
        let bytes = match has(number) {
            Some((_, bytes)) => bytes.clone(),
            None => PartBytes::Shared(
                rebuilt.iter().find(|(part, _)| *part == number).map(|(_, bytes)| bytes.clone())?,
            ),
        };
        let whole = inside.len() == bytes.as_ref().len();
        let checksum = if whole { bytes.checksum() } else { crc32c(&bytes.as_ref()[inside.clone()]) };
        pieces.push(Piece { bytes, range: inside, checksum });
    }
    Some(pieces)
}

/// Rebuilds the parts `want` from `have`; fewer than asked for if `have` does not suffice.
pub fn rebuild(
    codec: &mut Codec,
    meta: &PartMeta,
    have: &[(u8, PartBytes)],
    want: &[u8],
) -> Vec<(u8, SharedBytes)> {
    if want.is_empty() {
        return Vec::new();
    }
    let _stage = stages::enter(Stage::Codec);
    match codec.rebuild(meta.code, meta.part_len(), have, want) {
        Ok(rebuilt) => {
            let shared = rebuilt.into_iter().map(|bytes| {
                let checksum = crc32c(&bytes);
                SharedBytes::new(bytes, checksum)
            });
            want.iter().copied().zip(shared).collect()
        }
        Err(error) => {
            tracing::error!(%error, key = %meta.key, code = %meta.code, "parts could not be rebuilt");
            Vec::new()
        }
    }
}

/// Puts a record into the memory tier, after it was answered: the copy that this takes (so that the
/// tier holds no device buffers) is not in the way of the answer.
fn fill_memory(
    core: &Rc<Core>,
    token: FillToken,
    call: &ReadCall,
    meta: Arc<PartMeta>,
    pieces: Pieces<PartBytes>,
) {
    if core.shared.settings.memory_bytes == 0 {
        return;
    }
    let (home, hash, record) = (core.clone(), call.name.hash, call.name.record);
    core.spawn(stages::within(Stage::Memory, async move {
        let bytes = match &pieces[..] {
            [Piece { bytes: PartBytes::Shared(bytes), .. }] => bytes.clone(),
            pieces => {
                let mut all = Vec::with_capacity(pieces.iter().map(|piece| piece.range.len()).sum());
                let mut checksum = 0;
                for piece in pieces {
                    let slice = piece.as_slice();
                    all.extend_from_slice(slice);
                    checksum = crc32c_combine(checksum, piece.checksum, slice.len() as u64);
                }
                SharedBytes::new(all, checksum)
            }
        };
        let entry = memory_entry(hash, record, meta, bytes);
        home.memory.borrow_mut().fill(token, entry, clock::now().wall_ms());
    }));
}

/// What the memory tier is offered of a record.
pub fn memory_entry(
    hash: KeyHash,
    record: Record,
    meta: Arc<PartMeta>,
    bytes: SharedBytes,
) -> Entry<StripeInMemory> {
    Entry {
        hash,
        record,
        version: meta.version,
        expires_ms: meta.expires_ms,
        value_bytes: bytes.as_ref().len(),
        value: StripeInMemory { meta, bytes },
    }
}
