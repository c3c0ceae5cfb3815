//! What a request may say: for every op, which fields and flags may be set, whether it has a key, a
//! body and a deadline. Whatever has no meaning for an op must be zero, so that it can get one later.
//!
//! Owns: the rules that a header shows by itself. Never: what needs to know of other frames (see
//! [`crate::stream`]) or of the daemon's state.

use crate::frame::{FrameHeader, Op, Status, flags};
use crate::limits::{
    BODY_LEN_MAX, CONTROL_BODY_LEN_MAX, DEADLINE_US_MAX, OBJECT_LEN_MAX, PART_BATCH_MAX, STRIPE_LEN_MAX,
};
use crate::messages::ErrorDetail;
use crate::part_message::{
    BATCH_PREFIX_LEN, DROP_ENTRY_LEN, PART_CONFIRM_LEN, PART_READ_LEN, TOUCH_ENTRY_LEN,
};
use crate::types::{ChecksumKind, Key, ObjectChecksum, Version};

/// Why a request is not done. Its framing is right: the connection stays open.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{message} (field '{field}', value {value})")]
pub struct Refusal {
    /// The answer's status.
    pub status: Status,
    /// A sentence for a person.
    pub message: &'static str,
    /// The field at fault.
    pub field: &'static str,
    /// What it holds.
    pub value: u64,
}

impl Refusal {
    /// A [`Status::BadRequest`].
    pub fn bad(field: &'static str, value: u64, message: &'static str) -> Refusal {
        Refusal { status: Status::BadRequest, message, field, value }
    }

    /// The body of the answer.
    pub fn detail(&self) -> ErrorDetail {
        ErrorDetail {
            status: self.status,
            message: self.message.to_owned(),
            field: self.field.to_owned(),
            value: self.value,
        }
    }
}

/// Whether an op has a key, a body or a deadline.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Need {
    Never,
    Always,
    /// As the sender likes.
    Maybe,
}

/// Fields that not every op has, as bits of [`Rules::fields`].
mod fields {
    pub const ACK: u16 = 1 << 0;
    pub const READ_POLICY: u16 = 1 << 1;
    pub const NAMESPACE: u16 = 1 << 2;
    pub const MAX_STALE: u16 = 1 << 3;
    pub const CREDIT: u16 = 1 << 4;
    pub const VERSION: u16 = 1 << 5;
    pub const OFFSET: u16 = 1 << 6;
    pub const LENGTH: u16 = 1 << 7;
    pub const OBJECT_LEN: u16 = 1 << 8;
    pub const TTL: u16 = 1 << 9;
    pub const CHECKSUM: u16 = 1 << 10;
}

/// One line of the decision table. Op, request id, trace id, priority and topology epoch belong to
/// every request.
struct Rules {
    key: Need,
    body: Need,
    body_len_max: usize,
    deadline: Need,
    /// Flags that must be set.
    must: u16,
    /// Flags that may be set.
    may: u16,
    /// Fields that may be other than zero.
    fields: u16,
}

/// A request that is only a header.
const BARE: Rules = Rules {
    key: Need::Never,
    body: Need::Never,
    body_len_max: 0,
    deadline: Need::Always,
    must: flags::END,
    may: 0,
    fields: 0,
};

/// A request that is told by its body.
const fn by_body(body_len_max: usize) -> Rules {
    Rules { body: Need::Always, body_len_max, ..BARE }
}

/// A request that concerns an object.
const OBJECT: Rules = Rules { key: Need::Always, fields: fields::NAMESPACE, ..BARE };

/// An empty object has no body.
const PUT_FIRST: Rules = Rules {
    body: Need::Maybe,
    body_len_max: STRIPE_LEN_MAX,
    must: 0,
    may: flags::END | flags::IF_VERSION | flags::PINNED | flags::LEN_UNKNOWN | flags::IMMUTABLE,
    fields: fields::NAMESPACE
        | fields::ACK
        | fields::VERSION
        | fields::OBJECT_LEN
        | fields::TTL
        | fields::CHECKSUM,
    ..OBJECT
};

/// Everything but the body was said by the first frame. The deadline is that of the first frame too:
/// what is left of it may be said again.
const PUT_FURTHER: Rules = Rules {
    body: Need::Maybe,
    body_len_max: STRIPE_LEN_MAX,
    deadline: Need::Maybe,
    must: 0,
    may: flags::END | flags::ABORT,
    fields: fields::OFFSET | fields::OBJECT_LEN | fields::CHECKSUM,
    ..BARE
};

const GET: Rules = Rules {
    may: flags::STRICT | flags::MAY_BE_STALE | flags::IMMUTABLE,
    fields: fields::NAMESPACE | fields::READ_POLICY | fields::MAX_STALE | fields::OFFSET | fields::LENGTH,
    ..OBJECT
};

const DELETE: Rules = Rules {
    may: flags::IF_VERSION | flags::IMMUTABLE,
    fields: fields::NAMESPACE | fields::ACK | fields::VERSION,
    ..OBJECT
};

/// The line for a request with this header.
fn rules(header: &FrameHeader) -> Rules {
    match header.op {
        Op::Put if is_further_put(header) => PUT_FURTHER,
        Op::Put => PUT_FIRST,
        Op::Get => GET,
        Op::Delete => DELETE,
        Op::Stat => Rules { may: flags::IMMUTABLE, ..OBJECT },
        Op::Stats => BARE,
        Op::Ping => Rules { deadline: Need::Maybe, ..BARE },
        Op::Cancel => Rules { deadline: Need::Never, ..BARE },
        Op::Credit => Rules { deadline: Need::Never, fields: fields::CREDIT, ..BARE },
        Op::Hello | Op::Fault | Op::Verify => by_body(CONTROL_BODY_LEN_MAX),
        Op::PartRead => Rules { key: Need::Always, fields: fields::NAMESPACE, ..by_body(PART_READ_LEN) },
        Op::PartWrite => Rules { fields: fields::ACK, ..by_body(BODY_LEN_MAX) },
        Op::PartDrop => by_body(BATCH_PREFIX_LEN + PART_BATCH_MAX * DROP_ENTRY_LEN),
        Op::PartConfirm => by_body(PART_CONFIRM_LEN),
        Op::Touch => {
            Rules { deadline: Need::Never, ..by_body(BATCH_PREFIX_LEN + PART_BATCH_MAX * TOUCH_ENTRY_LEN) }
        }
    }
}

/// Whether this is a frame of a put after its first: those have an offset and no key.
pub fn is_further_put(header: &FrameHeader) -> bool {
    header.op == Op::Put && header.offset > 0
}

/// Checks what a request's header and key say by themselves. `key` is the frame's verified key.
pub fn check_request(header: &FrameHeader, key: Option<&Key>) -> Result<(), Refusal> {
    let rules = rules(header);
    check_flags(header, &rules)?;
    check_needs(header, key, &rules)?;
    check_fields(header, &rules)?;
    match header.op {
        Op::Put if is_further_put(header) => check_further_put(header),
        Op::Put => check_first_put(header),
        Op::Get => check_get(header),
        Op::Delete => check_condition(header),
        Op::Credit if header.credit == 0 => Err(Refusal::bad("credit", 0, "a credit frame grants something")),
        _ => Ok(()),
    }
}

fn check_flags(header: &FrameHeader, rules: &Rules) -> Result<(), Refusal> {
    let value = u64::from(header.flags);
    if header.has(flags::ANSWER) {
        return Err(Refusal::bad("flags", value, "an answer was sent where requests are expected"));
    }
    if header.flags & !(rules.must | rules.may) != 0 {
        return Err(Refusal::bad("flags", value, "a flag is set that does not belong to this op"));
    }
    if !header.has(rules.must) {
        return Err(Refusal::bad("flags", value, "a request of one frame has END set"));
    }
    Ok(())
}

fn check_needs(header: &FrameHeader, key: Option<&Key>, rules: &Rules) -> Result<(), Refusal> {
    let need = |need, there: bool| match need {
        Need::Never => !there,
        Need::Always => there,
        Need::Maybe => true,
    };
    if header.request_id == 0 && header.op != Op::Ping {
        return Err(Refusal::bad(
            "request_id",
            0,
            "only a ping, for whose answer nobody waits, may have the id 0",
        ));
    }
    if !need(rules.key, key.is_some()) {
        let message = if key.is_some() { "this op has no key" } else { "this op needs a key" };
        return Err(Refusal::bad("key_len", u64::from(header.key_len), message));
    }
    if !need(rules.body, header.body_len > 0) {
        let message = if header.body_len > 0 { "this op has no body" } else { "this op needs a body" };
        return Err(Refusal::bad("body_len", u64::from(header.body_len), message));
    }
    if header.body_len as usize > rules.body_len_max {
        let message = "the body of this op is longer than allowed";
        let refusal = Refusal::bad("body_len", u64::from(header.body_len), message);
        return Err(Refusal { status: Status::TooLarge, ..refusal });
    }
    let budget_us = header.deadline_budget_us;
    if !need(rules.deadline, budget_us > 0) {
        let message = if budget_us > 0 { "this frame has no deadline" } else { "a request needs a deadline" };
        return Err(Refusal::bad("deadline_budget_us", u64::from(budget_us), message));
    }
    if budget_us > DEADLINE_US_MAX {
        let message = "the deadline is further away than allowed";
        return Err(Refusal::bad("deadline_budget_us", u64::from(budget_us), message));
    }
    Ok(())
}

/// Whatever the op has no use for is zero.
fn check_fields(header: &FrameHeader, rules: &Rules) -> Result<(), Refusal> {
    let checksum = header.object_checksum;
    let values: [(u16, &'static str, u64); 13] = [
        (0, "status", header.status as u64),
        (fields::ACK, "ack", header.ack.map_or(0, |ack| ack as u64)),
        (fields::READ_POLICY, "read_policy", header.read_policy as u64),
        (fields::NAMESPACE, "namespace", u64::from(header.namespace.0)),
        (fields::MAX_STALE, "max_stale_ms", u64::from(header.max_stale_ms)),
        (fields::CREDIT, "credit", u64::from(header.credit)),
        (fields::VERSION, "version", header.version.hlc | u64::from(header.version.coordinator)),
        (fields::OFFSET, "offset", header.offset),
        (fields::LENGTH, "length", header.length),
        (fields::OBJECT_LEN, "object_len", header.object_len),
        (fields::TTL, "ttl_ms", header.ttl_ms),
        (fields::CHECKSUM, "checksum_kind", checksum.kind as u64),
        (fields::CHECKSUM, "object_checksum", u64::from(checksum.bits != 0)),
    ];
    match values.iter().find(|(bit, _, value)| rules.fields & bit == 0 && *value != 0) {
        Some((_, field, value)) => {
            Err(Refusal::bad(field, *value, "a field is set that does not belong to this op"))
        }
        None => check_checksum(checksum),
    }
}

fn check_checksum(checksum: ObjectChecksum) -> Result<(), Refusal> {
    let unused = match checksum.kind {
        ChecksumKind::None => checksum.bits,
        ChecksumKind::Crc32c => checksum.bits >> 32,
        ChecksumKind::Opaque128 => 0,
    };
    if unused != 0 {
        let message = "the object checksum has more bits than its kind";
        return Err(Refusal::bad("object_checksum", unused as u64, message));
    }
    Ok(())
}

/// What `IF_VERSION` and `IMMUTABLE` have to do with each other and with `version`.
fn check_condition(header: &FrameHeader) -> Result<(), Refusal> {
    if header.version != Version::ZERO && !header.has(flags::IF_VERSION) {
        return Err(Refusal::bad("version", header.version.hlc, "a version without IF_VERSION"));
    }
    if header.has(flags::IF_VERSION | flags::IMMUTABLE) {
        let message = "an immutable object has one version only: IF_VERSION says nothing";
        return Err(Refusal::bad("flags", u64::from(header.flags), message));
    }
    Ok(())
}

fn too_large(object_len: u64) -> Refusal {
    let message = "the object is larger than the limit";
    Refusal { status: Status::TooLarge, ..Refusal::bad("object_len", object_len, message) }
}

fn check_first_put(header: &FrameHeader) -> Result<(), Refusal> {
    check_condition(header)?;
    if header.object_len > OBJECT_LEN_MAX {
        return Err(too_large(header.object_len));
    }
    let (body_len, object_len) = (u64::from(header.body_len), header.object_len);
    let (end, unknown) = (header.has(flags::END), header.has(flags::LEN_UNKNOWN));
    if unknown && (end || object_len != 0) {
        let message = "LEN_UNKNOWN: the last frame says the length, and it is not the first one";
        return Err(Refusal::bad("object_len", object_len, message));
    }
    if !unknown && (if end { body_len != object_len } else { body_len >= object_len }) {
        let message = "END is set if, and only if, the whole object is in this frame";
        return Err(Refusal::bad("object_len", object_len, message));
    }
    check_piece(header)
}

fn check_further_put(header: &FrameHeader) -> Result<(), Refusal> {
    let (end, abort) = (header.has(flags::END), header.has(flags::ABORT));
    let object_len = header.offset.saturating_add(u64::from(header.body_len));
    if object_len > OBJECT_LEN_MAX {
        return Err(too_large(object_len));
    }
    let said = if end && !abort { object_len } else { 0 };
    if header.object_len != said {
        let message = "the last frame, and no other after the first, says the object's length";
        return Err(Refusal::bad("object_len", header.object_len, message));
    }
    if abort && (!end || header.body_len > 0 || header.object_checksum != ObjectChecksum::NONE) {
        let message = "an abort has END set, no body and no checksum";
        return Err(Refusal::bad("flags", u64::from(header.flags), message));
    }
    check_piece(header)
}

/// What holds for every frame of a put.
fn check_piece(header: &FrameHeader) -> Result<(), Refusal> {
    if header.has(flags::END) {
        return Ok(());
    }
    if header.body_len == 0 {
        return Err(Refusal::bad("body_len", 0, "only the last frame of a put may be without a body"));
    }
    if header.object_checksum != ObjectChecksum::NONE {
        let kind = header.object_checksum.kind as u64;
        return Err(Refusal::bad("checksum_kind", kind, "the object checksum belongs to the last frame"));
    }
    Ok(())
}

fn check_get(header: &FrameHeader) -> Result<(), Refusal> {
    if header.length == 0 {
        return Err(Refusal::bad(
            "length",
            0,
            "a get of nothing: all there is is 2^64 - 1, stat has no body",
        ));
    }
    if header.length != FrameHeader::TO_END && header.offset.checked_add(header.length).is_none() {
        return Err(Refusal::bad("length", header.length, "offset and length overflow"));
    }
    if header.max_stale_ms != 0 && !header.has(flags::MAY_BE_STALE) {
        let message = "max_stale_ms without MAY_BE_STALE";
        return Err(Refusal::bad("max_stale_ms", u64::from(header.max_stale_ms), message));
    }
    if header.has(flags::STRICT | flags::MAY_BE_STALE) {
        let message = "STRICT and MAY_BE_STALE contradict each other";
        return Err(Refusal::bad("flags", u64::from(header.flags), message));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
