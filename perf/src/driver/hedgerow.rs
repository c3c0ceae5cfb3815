//! Hedgerow's own protocol: any number of requests under way, answers in any order, bodies in frames,
//! credit for long ones.

use anyhow::{Context, Result, bail, ensure};
use hedgerow_wire::checksum::crc32c;
use hedgerow_wire::decoder::{Decoder, Step};
use hedgerow_wire::frame::{FrameHeader, Op, Status, flags};
use hedgerow_wire::limits::{FRAME_HEADER_LEN, STREAM_CREDIT_INITIAL_BYTES, STRIPE_LEN_MAX};
use hedgerow_wire::types::ObjectChecksum;

use super::Driver;
use crate::pattern::{Check, Checker, Pattern};
use crate::request::{Answer, Kind, Request};

struct Pending {
    answer: Answer,
    received: u64,
    granted: u64,
    /// A put of several frames: bytes that were sent, and that may be sent.
    put_sent: u64,
    put_credit: u64,
}

/// What the frame that is coming in belongs to.
enum Incoming {
    None,
    Passed,
    Body { slot: usize, header: Box<FrameHeader>, at: u64 },
}

/// The driver.
pub struct Hedgerow {
    decoder: Decoder,
    incoming: Incoming,
    pending: Vec<Option<Pending>>,
    /// Places in `pending` that are `None`.
    free: Vec<usize>,
    under_way: usize,
    /// Puts that have frames left to send.
    streams: Vec<usize>,
}

impl Default for Hedgerow {
    fn default() -> Hedgerow {
        Hedgerow {
            decoder: Decoder::new(),
            incoming: Incoming::None,
            pending: Vec::new(),
            free: Vec::new(),
            under_way: 0,
            streams: Vec::new(),
        }
    }
}

impl Driver for Hedgerow {
    fn send(&mut self, answer: Answer, checker: &Checker, out: &mut Vec<u8>) {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.pending.push(None);
            self.pending.len() - 1
        });
        let request = answer.request;
        let credit = u64::from(STREAM_CREDIT_INITIAL_BYTES);
        let pending = Pending { answer, received: 0, granted: credit, put_sent: 0, put_credit: credit };
        self.pending[slot] = Some(pending);
        self.under_way += 1;
        if request.kind == Kind::Put {
            self.streams.push(slot);
            self.send_puts(checker.pattern, out);
        } else {
            send_header(slot, &request, out);
        }
    }

    fn receive(
        &mut self,
        mut input: &[u8],
        checker: &Checker,
        out: &mut Vec<u8>,
        done: &mut Vec<Answer>,
    ) -> Result<()> {
        loop {
            match self.decoder.step(&mut input).context("an answer's frame")? {
                Step::NeedMore => return Ok(()),
                Step::Header { header, .. } => self.begin(header, checker, out)?,
                Step::Body(bytes) => self.body(bytes, checker),
                Step::End => self.end(out, done)?,
                Step::Refused { header, error } => {
                    bail!("answer to request {}: {error}", header.request_id)
                }
            }
        }
    }

    fn under_way(&self) -> usize {
        self.under_way
    }

    fn abandon(self: Box<Self>) -> Vec<Answer> {
        self.pending.into_iter().flatten().map(|pending| pending.answer).collect()
    }
}

impl Hedgerow {
    /// Queues the frames of puts that have credit. The queue is kept short: a put is some stripes long.
    fn send_puts(&mut self, pattern: &Pattern, out: &mut Vec<u8>) {
        let mut streams = std::mem::take(&mut self.streams);
        streams.retain(|&slot| {
            let Some(pending) = &mut self.pending[slot] else { return false };
            let request = pending.answer.request;
            loop {
                let body_len = (request.object_len - pending.put_sent).min(STRIPE_LEN_MAX as u64);
                if pending.put_credit < body_len {
                    return true;
                }
                write_put_frame(out, pattern, &request, slot, pending.put_sent, body_len as usize);
                pending.put_credit -= body_len;
                pending.put_sent += body_len;
                if pending.put_sent == request.object_len {
                    return false;
                }
            }
        });
        self.streams = streams;
    }

    fn begin(&mut self, header: FrameHeader, checker: &Checker, out: &mut Vec<u8>) -> Result<()> {
        ensure!(header.has(flags::ANSWER), "a request came where answers are expected");
        ensure!(header.request_id != 0, "the daemon says {:?} and closes", header.status);
        let slot = header.request_id as usize - 1;
        let pending = self.pending.get_mut(slot).and_then(Option::as_mut);
        if header.op == Op::Credit {
            // The put may have been answered already.
            if let Some(pending) = pending {
                pending.put_credit += u64::from(header.credit);
                self.send_puts(checker.pattern, out);
            }
            self.incoming = Incoming::Passed;
            return Ok(());
        }
        let pending = pending.with_context(|| format!("an answer to request {slot}, not under way"))?;
        let answer = &mut pending.answer;
        answer.status = header.status;
        answer.from_memory = header.has(flags::FROM_MEMORY);
        answer.unconfirmed = header.has(flags::UNCONFIRMED);
        if let (Kind::Get { offset, length }, Status::Ok) = (answer.request.kind, header.status) {
            answer.object_len = header.object_len;
            answer.wrong |= header.offset != offset + pending.received;
            if checker.check != Check::Kept {
                let expected = (answer.request.object_len, length);
                answer.wrong |= (header.object_len, header.length) != expected;
            }
        }
        let at = header.offset;
        self.incoming = Incoming::Body { slot, header: Box::new(header), at };
        Ok(())
    }

    fn body(&mut self, bytes: &[u8], checker: &Checker) {
        let Incoming::Body { slot, header, at } = &mut self.incoming else { return };
        let Some(pending) = self.pending[*slot].as_mut() else { return };
        let answer = &mut pending.answer;
        if header.status != Status::Ok || !matches!(answer.request.kind, Kind::Get { .. }) {
            answer.body.extend_from_slice(bytes);
            return;
        }
        if checker.check == Check::Kept {
            answer.body.extend_from_slice(bytes);
        } else {
            answer.wrong |= !checker.is_right(answer.request.seed(), *at, bytes);
        }
        *at += bytes.len() as u64;
        pending.received += bytes.len() as u64;
    }

    fn end(&mut self, out: &mut Vec<u8>, done: &mut Vec<Answer>) -> Result<()> {
        let Incoming::Body { slot, header, .. } = std::mem::replace(&mut self.incoming, Incoming::None)
        else {
            return Ok(());
        };
        let Some(pending) = self.pending[slot].as_mut() else { bail!("a body without a request") };
        if !header.has(flags::END) {
            // What was received is consumed: the daemon may send as much again, if there is as much.
            if pending.granted < header.length {
                pending.granted += u64::from(header.body_len);
                let credit = FrameHeader {
                    credit: header.body_len,
                    ..FrameHeader::request(Op::Credit, header.request_id)
                };
                hedgerow_wire::encoder::write_frame(credit, None, &[], out);
            }
            return Ok(());
        }
        let Some(Pending { mut answer, received, .. }) = self.pending[slot].take() else { return Ok(()) };
        self.under_way -= 1;
        self.free.push(slot);
        self.streams.retain(|&stream| stream != slot);
        answer.bytes = received;
        match answer.request.kind {
            Kind::Get { .. } if answer.status == Status::Ok => answer.wrong |= received != header.length,
            Kind::Put if answer.status == Status::Ok => answer.bytes = answer.request.object_len,
            _ => {}
        }
        done.push(answer);
        Ok(())
    }
}

fn send_header(slot: usize, request: &Request, out: &mut Vec<u8>) {
    let op = match request.kind {
        Kind::Get { .. } => Op::Get,
        Kind::Stat => Op::Stat,
        Kind::Delete => Op::Delete,
        Kind::Put | Kind::DelayedPing => Op::Ping,
    };
    let mut header = FrameHeader::request(op, slot as u64 + 1);
    header.deadline_budget_us = request.deadline_us;
    if let Kind::Get { offset, length } = request.kind {
        // As a client asks for all of an object, whose length it does not know.
        let whole = (offset, length) == (0, request.object_len);
        (header.offset, header.length) = (offset, if whole { FrameHeader::TO_END } else { length });
    }
    let key = (op != Op::Ping).then(|| request.key());
    hedgerow_wire::encoder::write_frame(header, key.as_ref(), &[], out);
}

fn write_put_frame(
    out: &mut Vec<u8>,
    pattern: &Pattern,
    request: &Request,
    slot: usize,
    offset: u64,
    body_len: usize,
) {
    let end = offset + body_len as u64 == request.object_len;
    let mut header = FrameHeader::request(Op::Put, slot as u64 + 1);
    header.offset = offset;
    header.flags = if end { flags::END } else { 0 };
    let key = (offset == 0).then(|| request.key());
    if offset == 0 {
        header.deadline_budget_us = request.deadline_us;
    }
    if offset == 0 || end {
        header.object_len = request.object_len;
    }
    let key_len = key.as_ref().map_or(0, |key| key.as_bytes().len());
    let start = out.len();
    let body_at = start + FRAME_HEADER_LEN + key_len;
    out.resize(body_at + body_len, 0);
    pattern.fill(request.seed(), offset, &mut out[body_at..]);
    let checksum = crc32c(&out[body_at..]);
    if offset == 0 && end {
        header.object_checksum = ObjectChecksum::crc32c(checksum);
    }
    let head = header.sealed_with(key.as_ref(), body_len, checksum).encode();
    out[start..start + FRAME_HEADER_LEN].copy_from_slice(&head);
    if let Some(key) = &key {
        out[start + FRAME_HEADER_LEN..body_at].copy_from_slice(key.as_bytes());
    }
}
