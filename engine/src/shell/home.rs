//! What a key's home does: the memory tier, versions, conditions, and the coordinator behind them.
//! A call works on one record of an object; streams are cut into records by the connection's core.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use hedgerow_wire::checksum::crc32c;
use hedgerow_wire::frame::{FrameHeader, Status};
use hedgerow_wire::messages::PartState;
use hedgerow_wire::part::{PartAnswer, PartKind, PartMeta, PartRead, RecordName};
use hedgerow_wire::time::Timestamp;
use hedgerow_wire::{AckLevel, Code, KeyHash, ObjectChecksum, ReadPolicy, Record, Target, Version};
use smallvec::SmallVec;

use super::buffers::{PartBytes, SharedBytes};
use super::clock;
use super::core::{Core, OpBytes};
use super::mailbox::ShardRequest;
use super::member;
use super::oneshot;
use crate::codec::Codec;
use crate::coordinator::{ReadOutcome, ReadRequest, WriteOutcome, WriteRequest};
use crate::memory::{Entry, FillToken};

/// What the memory tier keeps of a record.
#[derive(Clone)]
pub struct StripeInMemory {
    /// The record.
    pub meta: Arc<PartMeta>,
    /// Its stripe; empty for a head.
    pub bytes: SharedBytes,
}

/// A read of one record.
pub struct ReadCall {
    /// Which.
    pub name: RecordName,
    /// The version, code and stripe length that the object's head has fixed (stripes of an object with a head).
    pub fixed: Option<(Version, Code, u32)>,
    /// Bytes wanted: offset and length, in the object for the object record, else in the stripe.
    /// [`FrameHeader::TO_END`] for all that follow.
    pub range: (u64, u64),
    /// How to ask for parts.
    pub policy: ReadPolicy,
    /// A miss rather than an unconfirmed answer.
    pub strict: bool,
    /// Keys of this namespace never change.
    pub immutable: bool,
    /// To be answered by then.
    pub deadline: Timestamp,
}

impl ReadCall {
    fn whole(&self) -> bool {
        self.range == (0, FrameHeader::TO_END)
    }
}

/// When a write is to be done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Condition {
    /// Always.
    None,
    /// If the object has this version; [`Version::ZERO`] if there is no object.
    IfVersion(Version),
    /// If there is no object; otherwise the write has been done already (immutable namespaces).
    Immutable,
}

/// What a client says about an object that it writes.
#[derive(Clone, Debug)]
pub struct ObjectMeta {
    /// Namespace, key and hash; the record is set by each call.
    pub name: RecordName,
    /// Expiry in milliseconds since the Unix epoch; 0 is never.
    pub expires_ms: u64,
    /// Kept as long as anything unpinned is left to evict.
    pub pinned: bool,
    /// Only then.
    pub condition: Condition,
    /// What the acknowledgement promises.
    pub ack: AckLevel,
    /// To be answered by then.
    pub deadline: Timestamp,
}

/// A stripe's bytes on their way in.
#[derive(Clone)]
pub struct StripeBytes {
    /// The stripe, padded with zeroes to `k` parts.
    pub data: Arc<Vec<u8>>,
    /// Length of the stripe without padding.
    pub len: usize,
    /// CRC-32C of the stripe without padding.
    pub checksum: u32,
    /// The code that the padding is for.
    pub code: Code,
}

/// A call to a key's home.
pub enum Call {
    /// Read a record.
    Read(ReadCall),
    /// Write an object of one stripe.
    PutSole { object: ObjectMeta, stripe: StripeBytes, checksum: ObjectChecksum },
    /// The version for an object of several stripes that is about to be written; checks its condition.
    BeginPut { object: ObjectMeta },
    /// Write one stripe of it.
    PutStripe { object: ObjectMeta, version: Version, index: u32, stripe: StripeBytes },
    /// Commit it.
    PutHead { object: ObjectMeta, version: Version, object_len: u64, checksum: ObjectChecksum },
    /// Delete an object.
    Delete { object: ObjectMeta },
    /// Where an object's parts are.
    Stat { read: ReadCall },
}

/// A piece of a body: a range of a part's or stripe's bytes.
#[derive(Clone)]
pub struct Piece<B> {
    /// The bytes that it is a range of.
    pub bytes: B,
    /// Which of them.
    pub range: Range<usize>,
    /// CRC-32C of the range.
    pub checksum: u32,
}

impl<B: AsRef<[u8]>> Piece<B> {
    /// The piece's bytes.
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes.as_ref()[self.range.clone()]
    }
}

/// The pieces of one stripe's answer, in order.
pub type Pieces<B> = SmallVec<[Piece<B>; 4]>;

/// A record that was read.
pub struct RecordReply<B> {
    /// What it is. `part` means nothing here.
    pub meta: Arc<PartMeta>,
    /// The bytes asked for; none for a head.
    pub pieces: Pieces<B>,
    /// The version is confirmed.
    pub confirmed: bool,
    /// It came from the memory tier.
    pub from_memory: bool,
}

/// What one target says of one record.
#[derive(Clone, Debug)]
pub struct PartPosition {
    /// Which record.
    pub record: Record,
    /// Which target.
    pub target: Target,
    /// The part that it holds.
    pub meta: Option<PartMeta>,
    /// `Present`, or why it has none.
    pub state: PartState,
}

/// What a key's home answers.
pub enum Reply<B> {
    /// To a read.
    Record(RecordReply<B>),
    /// To a write or delete; `stored` parts are known to be on their targets. `unchanged`: the object
    /// was there already.
    Written { version: Version, stored: u8, unchanged: bool },
    /// To [`Call::BeginPut`].
    Version(Version),
    /// To [`Call::Stat`].
    Stat { record: RecordReply<B>, parts: Vec<PartPosition> },
    /// To a write: the object has this newer or other version.
    Conflict { status: Status, version: Version },
    /// The range is outside of the object.
    OutOfRange { object_len: u64 },
    /// Anything else.
    Status(Status),
}

impl Reply<PartBytes> {
    /// The reply in a form that may leave this core; copies what lies in device buffers.
    pub fn into_sendable(self) -> Reply<SharedBytes> {
        self.map(PartBytes::into_shared)
    }
}

impl<B> Reply<B> {
    /// The same reply with the bytes of its pieces turned by `f`.
    pub fn map<C>(self, f: impl Fn(B) -> C) -> Reply<C> {
        let record = |record: RecordReply<B>| RecordReply {
            pieces: record
                .pieces
                .into_iter()
                .map(|piece| Piece { bytes: f(piece.bytes), range: piece.range, checksum: piece.checksum })
                .collect(),
            meta: record.meta,
            confirmed: record.confirmed,
            from_memory: record.from_memory,
        };
        match self {
            Reply::Record(found) => Reply::Record(record(found)),
            Reply::Stat { record: found, parts } => Reply::Stat { record: record(found), parts },
            Reply::Written { version, stored, unchanged } => Reply::Written { version, stored, unchanged },
            Reply::Version(version) => Reply::Version(version),
            Reply::Conflict { status, version } => Reply::Conflict { status, version },
            Reply::OutOfRange { object_len } => Reply::OutOfRange { object_len },
            Reply::Status(status) => Reply::Status(status),
        }
    }
}

/// Keys that have a conditional write under way: the next one waits. Nothing else does.
#[derive(Default)]
pub struct Gates(RefCell<HashMap<KeyHash, Vec<oneshot::Sender<()>>>>);

struct Gate<'a> {
    gates: &'a Gates,
    hash: KeyHash,
}

impl Gates {
    async fn enter(&self, hash: KeyHash) -> Gate<'_> {
        loop {
            let receiver = {
                let mut gates = self.0.borrow_mut();
                match gates.get_mut(&hash) {
                    None => {
                        gates.insert(hash, Vec::new());
                        return Gate { gates: self, hash };
                    }
                    Some(waiters) => {
                        let (sender, receiver) = oneshot::channel();
                        waiters.push(sender);
                        receiver
                    }
                }
            };
            receiver.await;
        }
    }
}

impl Drop for Gate<'_> {
    fn drop(&mut self) {
        // Dropping the senders wakes all who wait; the first one to run enters.
        self.gates.0.borrow_mut().remove(&self.hash);
    }
}

/// Serves a call on the key's home core.
pub async fn serve(core: &Rc<Core>, call: Call) -> Reply<PartBytes> {
    match call {
        Call::Read(read) => serve_read(core, &read).await,
        Call::PutSole { object, stripe, checksum } => put_sole(core, object, stripe, checksum).await,
        Call::BeginPut { object } => match condition_failure(core, &object).await {
            Some(reply) => reply,
            None => Reply::Version(next_version(core, &object)),
        },
        Call::PutStripe { object, version, index, stripe } => {
            put_stripe(core, &object, version, index, stripe).await
        }
        Call::PutHead { object, version, object_len, checksum } => {
            put_head(core, object, version, object_len, checksum).await
        }
        Call::Delete { object } => delete(core, object).await,
        Call::Stat { read } => stat(core, &read).await,
    }
}

fn next_version(core: &Core, object: &ObjectMeta) -> Version {
    core.coordinator.borrow_mut().next_version(object.name.hash, clock::now())
}

async fn serve_read(core: &Rc<Core>, call: &ReadCall) -> Reply<PartBytes> {
    if let Some(reply) = read_memory(core, call) {
        return reply;
    }
    let token = core.memory.borrow_mut().begin_fill(call.name.hash);
    let outcome = core.read(read_request(core, call)).await;
    let (meta, parts, confirmed) = match outcome {
        ReadOutcome::Found { meta, parts, confirmed, .. } => (meta, parts, confirmed),
        ReadOutcome::NotFound { .. } => return Reply::Status(Status::NotFound),
        ReadOutcome::Unavailable { .. } => return Reply::Status(Status::Unavailable),
        ReadOutcome::DeadlineExceeded => return Reply::Status(Status::DeadlineExceeded),
        ReadOutcome::Overloaded => return Reply::Status(Status::Overloaded),
    };
    if meta.expired(clock::now().wall_ms()) {
        return Reply::Status(Status::NotFound);
    }
    core.coordinator.borrow_mut().touch(&call.name, meta.code, clock::now());
    let meta = Arc::new(meta);
    let range = match stripe_range(&meta, call) {
        Ok(range) => range,
        Err(reply) => return reply,
    };
    let pieces = assemble(&mut core.codec.borrow_mut(), &meta, &parts, range);
    let Some(pieces) = pieces else { return Reply::Status(Status::Internal) };
    if confirmed && (call.whole() || meta.kind == PartKind::Head) {
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
        code_hint: call.fixed.map(|(_, code, _)| code),
        stripe_len: call.fixed.map(|(.., stripe_len)| stripe_len),
        range,
        policy,
        strict: call.strict,
        immutable: call.immutable,
        deadline: call.deadline,
    }
}

fn read_memory(core: &Rc<Core>, call: &ReadCall) -> Option<Reply<PartBytes>> {
    let now = clock::now();
    let hit = core.memory.borrow_mut().get(call.name.hash, call.name.record, now.wall_ms())?;
    let StripeInMemory { meta, bytes } = hit.value;
    if meta.key != call.name.key || meta.namespace != call.name.namespace {
        return None;
    }
    if call.fixed.is_some_and(|(version, ..)| version != meta.version) {
        return None;
    }
    core.coordinator.borrow_mut().touch(&call.name, meta.code, now);
    let range = match stripe_range(&meta, call) {
        Ok(range) => range,
        Err(reply) => return Some(reply),
    };
    let mut pieces = Pieces::new();
    if !range.is_empty() {
        let whole = range.len() == bytes.as_ref().len();
        let checksum = if whole { bytes.checksum() } else { crc32c(&bytes.as_ref()[range.clone()]) };
        pieces.push(Piece { bytes: PartBytes::Shared(bytes), range, checksum });
    }
    Some(Reply::Record(RecordReply { meta, pieces, confirmed: true, from_memory: true }))
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
    if range.is_empty() {
        return Some(pieces);
    }
    let part_len = meta.part_len();
    let numbers = range.start / part_len..=(range.end - 1) / part_len;
    let has = |number: usize| parts.iter().find(|(part, _)| usize::from(*part) == number);
    let missing: SmallVec<[u8; 8]> =
        numbers.clone().filter(|&number| has(number).is_none()).map(|number| number as u8).collect();
    let rebuilt = rebuild(codec, meta, parts, &missing);
    if rebuilt.len() != missing.len() {
        return None;
    }
    for number in numbers {
        let first = number * part_len;
        let inside = range.start.max(first) - first..range.end.min(first + part_len) - first;
        let bytes = match has(number) {
            Some((_, bytes)) => bytes.clone(),
            None => PartBytes::Shared(
                rebuilt.iter().find(|(part, _)| usize::from(*part) == number).map(|(_, b)| b.clone())?,
            ),
        };
        let whole = inside.len() == part_len;
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
    let part_len = meta.part_len();
    if part_len == 0 {
        return want.iter().map(|&part| (part, SharedBytes::new(Vec::new(), 0))).collect();
    }
    if want.is_empty() {
        return Vec::new();
    }
    let have: SmallVec<[(u8, &[u8]); 16]> =
        have.iter().map(|(part, bytes)| (*part, bytes.as_ref())).collect();
    let mut buffers: SmallVec<[Vec<u8>; 8]> = want.iter().map(|_| vec![0; part_len]).collect();
    let mut wanted: SmallVec<[(u8, &mut [u8]); 8]> =
        want.iter().zip(buffers.iter_mut()).map(|(&part, buffer)| (part, buffer.as_mut_slice())).collect();
    if let Err(error) = codec.reconstruct(meta.code, &have, &mut wanted) {
        tracing::error!(%error, key = %meta.key, code = %meta.code, "parts could not be rebuilt");
        return Vec::new();
    }
    drop(wanted);
    want.iter()
        .zip(buffers)
        .map(|(&part, buffer)| {
            let checksum = crc32c(&buffer);
            (part, SharedBytes::new(buffer, checksum))
        })
        .collect()
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
    core.spawn(async move {
        let bytes = match &pieces[..] {
            [Piece { bytes: PartBytes::Shared(bytes), .. }] => bytes.clone(),
            pieces => {
                let mut all = Vec::with_capacity(pieces.iter().map(|piece| piece.range.len()).sum());
                let mut checksum = 0;
                for piece in pieces {
                    let slice = piece.as_slice();
                    all.extend_from_slice(slice);
                    checksum =
                        hedgerow_wire::checksum::crc32c_combine(checksum, piece.checksum, slice.len() as u64);
                }
                SharedBytes::new(all, checksum)
            }
        };
        let entry = memory_entry(hash, record, meta, bytes);
        home.memory.borrow_mut().fill(token, entry, clock::now().wall_ms());
    });
}

fn memory_entry(
    hash: KeyHash,
    record: Record,
    meta: Arc<PartMeta>,
    bytes: SharedBytes,
) -> Entry<StripeInMemory> {
    Entry {
        hash,
        record,
        version: meta.version,
        namespace: meta.namespace,
        namespace_generation: meta.namespace_generation,
        expires_ms: meta.expires_ms,
        value_bytes: bytes.as_ref().len(),
        value: StripeInMemory { meta, bytes },
    }
}

/// Whether an object's condition fails, and the reply that says so.
async fn condition_failure(core: &Rc<Core>, object: &ObjectMeta) -> Option<Reply<PartBytes>> {
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
        (None, Some(version)) => Some(Reply::Written { version, stored: 0, unchanged: true }),
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
        namespace_generation: core.memory.borrow().namespace_generation(object.name.namespace),
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
    let mut memory = core.memory.borrow_mut();
    match outcome {
        WriteOutcome::Acknowledged { stored, .. } => {
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
            Reply::Written { version, stored: stored as u8, unchanged: false }
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
        WriteOutcome::Acknowledged { .. } => unreachable!("an acknowledgement is no failure"),
        _ => Reply::Status(Status::Unavailable),
    }
}

fn encode(core: &Core, meta: &PartMeta, stripe: &StripeBytes) -> Option<Vec<u8>> {
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

async fn put_sole(
    core: &Rc<Core>,
    object: ObjectMeta,
    stripe: StripeBytes,
    checksum: ObjectChecksum,
) -> Reply<PartBytes> {
    let _gate = conditional_gate(core, &object).await;
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

async fn conditional_gate<'a>(core: &'a Rc<Core>, object: &ObjectMeta) -> Option<Gate<'a>> {
    match object.condition {
        Condition::None => None,
        Condition::IfVersion(_) | Condition::Immutable => Some(core.gates.enter(object.name.hash).await),
    }
}

async fn put_stripe(
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

async fn put_head(
    core: &Rc<Core>,
    object: ObjectMeta,
    version: Version,
    object_len: u64,
    checksum: ObjectChecksum,
) -> Reply<PartBytes> {
    let _gate = conditional_gate(core, &object).await;
    if let Some(reply) = condition_failure(core, &object).await {
        return reply;
    }
    let meta = PartMeta {
        object_len,
        object_checksum: checksum,
        ..part_meta(core, &object, PartKind::Head, version, copies(core))
    };
    write_record(core, &object, meta, None).await
}

async fn delete(core: &Rc<Core>, object: ObjectMeta) -> Reply<PartBytes> {
    let _gate = conditional_gate(core, &object).await;
    if let Some(reply) = condition_failure(core, &object).await {
        return reply;
    }
    let version = next_version(core, &object);
    let code = core.coordinator.borrow().tombstone_code();
    let meta = part_meta(core, &object, PartKind::Tombstone, version, code);
    write_record(core, &object, meta, None).await
}

async fn stat(core: &Rc<Core>, read: &ReadCall) -> Reply<PartBytes> {
    let record = match serve_read(core, read).await {
        Reply::Record(record) => record,
        other => return other,
    };
    let mut parts = Vec::new();
    let records = match record.meta.kind {
        PartKind::Head => record.meta.stripe_count() + 1,
        _ => 1,
    };
    for number in 0..records {
        let name = RecordName { record: Record(number), ..read.name.clone() };
        let targets = core.ring.targets(name.hash, core.shared.settings.code.n());
        for target in targets {
            let (meta, state) = part_position(core, &name, target, read.deadline).await;
            parts.push(PartPosition { record: name.record, target, meta, state });
        }
    }
    Reply::Stat { record, parts }
}

async fn part_position(
    core: &Rc<Core>,
    name: &RecordName,
    target: Target,
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
