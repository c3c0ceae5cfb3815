//! What crosses between members, as frames of the protocol: asks, drops, touches, and answers.

use std::rc::Rc;

use hedgerow_wire::encoder::{deadline_budget_us, write_frame};
use hedgerow_wire::frame::{FrameHeader, Op, Status};
use hedgerow_wire::part::{PartAnswer, PartDrop, PartTouch};
use hedgerow_wire::part_message::{
    PartMessageError, decode_answer, decode_confirm, decode_drop, decode_read, decode_touch, decode_write,
    encode_answer_head, encode_confirm, encode_drop, encode_read, encode_touch, encode_write_head,
};
use hedgerow_wire::time::Timestamp;

use super::bytes::Slice;
use super::network::Received;
use super::shard::{Request, StoreAnswer};

/// What a frame of another member asks of a shard of this one.
pub(super) enum Asked {
    /// To be answered, by then.
    Request(Request, Slice, Timestamp),
    /// Records to let go.
    Drops(Vec<PartDrop>),
    /// Records that were used.
    Touches(Vec<PartTouch>),
}

fn frame(header: FrameHeader, key: Option<&hedgerow_wire::Key>, body: &[u8]) -> Rc<[u8]> {
    let mut out = Vec::with_capacity(hedgerow_wire::limits::FRAME_HEADER_LEN + 64 + body.len());
    write_frame(header, key, body, &mut out);
    Rc::from(out)
}

/// An ask of a shard of another member; nothing if its deadline has passed.
pub(super) fn ask(
    epoch: u64,
    id: u64,
    shard: u16,
    request: &Request,
    payload: &[u8],
    now: Timestamp,
) -> Option<Rc<[u8]>> {
    let header = |op, deadline| {
        let deadline_budget_us = deadline_budget_us(deadline, now)?;
        Some(FrameHeader { topology_epoch: epoch, deadline_budget_us, ..FrameHeader::request(op, id) })
    };
    Some(match request {
        Request::Read(read) => {
            let name = &read.name;
            let header = FrameHeader { namespace: name.namespace, ..header(Op::PartRead, read.deadline)? };
            frame(header, Some(&name.key), &encode_read(shard, read))
        }
        Request::Confirm(confirm) => {
            frame(header(Op::PartConfirm, confirm.deadline)?, None, &encode_confirm(shard, confirm))
        }
        Request::Write(write) => {
            let header = FrameHeader { ack: Some(write.ack), ..header(Op::PartWrite, write.deadline)? };
            let mut body = encode_write_head(shard, write, hedgerow_wire::checksum::crc32c(payload));
            body.extend_from_slice(payload);
            frame(header, None, &body)
        }
    })
}

/// Drops for a shard of another member.
pub(super) fn drops(epoch: u64, shard: u16, drops: &[PartDrop]) -> Rc<[u8]> {
    let header = FrameHeader {
        topology_epoch: epoch,
        deadline_budget_us: hedgerow_wire::limits::DEADLINE_US_MAX,
        ..FrameHeader::request(Op::PartDrop, 0)
    };
    frame(header, None, &encode_drop(shard, drops))
}

/// Touches for a shard of another member.
pub(super) fn touches(epoch: u64, shard: u16, touches: &[PartTouch]) -> Rc<[u8]> {
    let header = FrameHeader { topology_epoch: epoch, ..FrameHeader::request(Op::Touch, 0) };
    frame(header, None, &encode_touch(shard, touches))
}

/// An answer to the request `id`.
pub(super) fn answer(op: Op, id: u64, answer: &StoreAnswer) -> Rc<[u8]> {
    let payload = match answer {
        PartAnswer::Part { payload, .. } => Some(payload),
        _ => None,
    };
    let mut body = encode_answer_head(answer, payload.map_or(0, |payload| payload.checksum()));
    body.extend_from_slice(payload.map_or(&[][..], AsRef::as_ref));
    frame(FrameHeader::answer(op, id, Status::Ok), None, &body)
}

/// An answer that is a status alone.
pub(super) fn refusal(op: Op, id: u64, status: Status) -> Rc<[u8]> {
    frame(FrameHeader::answer(op, id, status), None, &[])
}

/// What the answer in a frame says; one that cannot be understood says that the target failed.
pub(super) fn answered(received: &Received) -> PartAnswer<Slice> {
    let answer = decode_answer(&received.header, received.body()).unwrap_or(PartAnswer::Failed);
    let start = received.body_start();
    answer.map(|payload| {
        let range = start + payload.range.start..start + payload.range.end;
        Slice::new(received.frame.clone(), range)
    })
}

/// The shard that a request in a frame is for, and the request.
pub(super) fn asked(received: &Received, now: Timestamp) -> Result<(u16, Asked), PartMessageError> {
    let (header, body) = (&received.header, received.body());
    let deadline = header.deadline(now);
    let nothing = || Slice::new(Rc::from([]), 0..0);
    Ok(match header.op {
        Op::PartRead => {
            let (shard, read) = decode_read(header, received.key.as_ref(), body, now)?;
            (shard, Asked::Request(Request::Read(read), nothing(), deadline))
        }
        Op::PartWrite => {
            let (shard, write, payload) = decode_write(header, body, now)?;
            let start = received.body_start();
            let range = start + payload.range.start..start + payload.range.end;
            let bytes = Slice::new(received.frame.clone(), range);
            (shard, Asked::Request(Request::Write(Box::new(write)), bytes, deadline))
        }
        Op::PartConfirm => {
            let (shard, confirm) = decode_confirm(header, body, now)?;
            (shard, Asked::Request(Request::Confirm(confirm), nothing(), deadline))
        }
        Op::PartDrop => decode_drop(body).map(|(shard, drops)| (shard, Asked::Drops(drops)))?,
        _ => decode_touch(body).map(|(shard, touches)| (shard, Asked::Touches(touches)))?,
    })
}

/// An answer as the trace has it.
pub(super) struct Variant<'a>(pub(super) &'a StoreAnswer);

impl std::fmt::Display for Variant<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            PartAnswer::Part { meta, .. } => write!(f, "part {} of {}", meta.part, meta.version),
            PartAnswer::Other { version } => write!(f, "other {version}"),
            PartAnswer::Absent { forgotten_through, unknown } => {
                write!(f, "absent, forgotten {forgotten_through}, unknown {unknown}")
            }
            PartAnswer::Superseded { version } => write!(f, "superseded by {version}"),
            PartAnswer::Held(standing) => write!(f, "{standing:?}"),
            PartAnswer::ClockAhead { ahead_us } => write!(f, "ahead by {ahead_us} us"),
            PartAnswer::Stored => f.write_str("stored"),
            PartAnswer::Dropped => f.write_str("dropped"),
            PartAnswer::Damaged => f.write_str("damaged"),
            PartAnswer::Overloaded => f.write_str("overloaded"),
            PartAnswer::Expired => f.write_str("expired"),
            PartAnswer::Failed => f.write_str("failed"),
        }
    }
}

/// A frame as the trace has it: its op and id, and the variant of an answer.
pub(super) struct Told<'a>(pub(super) &'a [u8]);

impl std::fmt::Display for Told<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        use hedgerow_wire::frame::layout;
        let id = |bytes: &[u8]| bytes.iter().rev().fold(0, |id, &byte| id << 8 | u64::from(byte));
        let op = Op::from_u8(self.0[layout::OP]).unwrap_or(Op::Ping);
        write!(f, "{op:?} {:x}", id(&self.0[layout::REQUEST_ID..layout::REQUEST_ID + 8]))?;
        let body = &self.0[hedgerow_wire::limits::FRAME_HEADER_LEN..];
        match (u16::from_le_bytes([self.0[layout::FLAGS], 0]) & hedgerow_wire::frame::flags::ANSWER, body) {
            (0, _) => Ok(()),
            (_, [variant, detail, ..]) => write!(f, " answer {variant}.{detail}"),
            (_, _) => write!(f, " status {}", self.0[layout::STATUS]),
        }
    }
}
