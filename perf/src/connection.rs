//! A connection of the load generator: any number of requests under way, answers in any order, nothing
//! that blocks. Every body is checked as it comes, from where it lies in the receive buffer.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

use anyhow::{Context, Result, bail, ensure};
use hedgerow_wire::checksum::crc32c;
use hedgerow_wire::decoder::{Decoder, Step};
use hedgerow_wire::frame::{FrameHeader, Op, Status, flags};
use hedgerow_wire::limits::{FRAME_HEADER_LEN, STREAM_CREDIT_INITIAL_BYTES, STRIPE_LEN_MAX};
use hedgerow_wire::types::ObjectChecksum;

use crate::clock;
use crate::pattern::Pattern;
use crate::request::{Answer, Kind, Request};

/// Bytes taken from a socket in one call.
pub const RECEIVE_BYTES: usize = 256 << 10;

/// How much of every answer is looked at, beside the checksum of its frame, which covers every byte.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Check {
    /// That each block is the one that was asked for.
    Stamps,
    /// Every byte, against what was put.
    All,
}

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

/// One connection.
pub struct Connection {
    socket: TcpStream,
    decoder: Decoder,
    incoming: Incoming,
    out: Vec<u8>,
    out_at: usize,
    pending: Vec<Option<Pending>>,
    /// Places in `pending` that are `None`.
    free: Vec<usize>,
    under_way: usize,
    /// Puts that have frames left to send.
    streams: Vec<usize>,
    check: Check,
}

impl Connection {
    /// Connects and says hello.
    pub fn open(address: SocketAddr, check: Check) -> Result<Connection> {
        let mut socket = TcpStream::connect(address).with_context(|| format!("connecting to {address}"))?;
        socket.set_nodelay(true)?;
        crate::control::say_hello(&mut socket)?;
        socket.set_nonblocking(true)?;
        Ok(Connection {
            socket,
            decoder: Decoder::new(),
            incoming: Incoming::None,
            out: Vec::new(),
            out_at: 0,
            pending: Vec::new(),
            free: Vec::new(),
            under_way: 0,
            streams: Vec::new(),
            check,
        })
    }

    /// The socket, to wait for.
    pub fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// Requests that are not answered.
    pub fn under_way(&self) -> usize {
        self.under_way
    }

    /// Bytes wait for the socket to take them.
    pub fn wants_to_write(&self) -> bool {
        self.out_at < self.out.len()
    }

    /// Queues a request. `start_ns`: when it was to be sent. Nothing leaves before [`Connection::flush`].
    pub fn send(&mut self, request: Request, start_ns: u64, pattern: &Pattern) {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.pending.push(None);
            self.pending.len() - 1
        });
        let answer = Answer {
            request,
            start_ns,
            sent_ns: clock::now_ns(),
            end_ns: 0,
            status: Status::Internal,
            bytes: 0,
            from_memory: false,
            unconfirmed: false,
            wrong: false,
            body: Vec::new(),
        };
        let credit = u64::from(STREAM_CREDIT_INITIAL_BYTES);
        let pending = Pending { answer, received: 0, granted: credit, put_sent: 0, put_credit: credit };
        self.pending[slot] = Some(pending);
        self.under_way += 1;
        if request.kind == Kind::Put {
            self.streams.push(slot);
            self.send_puts(pattern);
        } else {
            self.send_header(slot, &request);
        }
    }

    fn send_header(&mut self, slot: usize, request: &Request) {
        let op = match request.kind {
            Kind::Get { .. } => Op::Get,
            Kind::Stat => Op::Stat,
            Kind::Put | Kind::DelayedPing => Op::Ping,
        };
        let mut header = FrameHeader::request(op, slot as u64 + 1);
        header.deadline_budget_us = request.deadline_us;
        if let Kind::Get { offset, length } = request.kind {
            (header.offset, header.length) = (offset, length);
        }
        let key = (op != Op::Ping).then(|| request.key());
        hedgerow_wire::encoder::write_frame(header, key.as_ref(), &[], &mut self.out);
    }

    /// Queues the frames of puts that have credit. The queue is kept short: a put is some stripes long.
    fn send_puts(&mut self, pattern: &Pattern) {
        let mut streams = std::mem::take(&mut self.streams);
        streams.retain(|&slot| {
            let Some(pending) = &mut self.pending[slot] else { return false };
            let request = pending.answer.request;
            loop {
                let body_len = (request.object_len - pending.put_sent).min(STRIPE_LEN_MAX as u64);
                if pending.put_credit < body_len {
                    return true;
                }
                write_put_frame(&mut self.out, pattern, &request, slot, pending.put_sent, body_len as usize);
                pending.put_credit -= body_len;
                pending.put_sent += body_len;
                if pending.put_sent == request.object_len {
                    return false;
                }
            }
        });
        self.streams = streams;
    }

    /// Hands what waits to the socket.
    pub fn flush(&mut self) -> Result<()> {
        while self.wants_to_write() {
            match self.socket.write(&self.out[self.out_at..]) {
                Ok(count) => self.out_at += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("sending"),
            }
        }
        self.out.clear();
        self.out_at = 0;
        Ok(())
    }

    /// Takes what the socket has and hands finished answers to `done`. Whether there may be more.
    pub fn receive(&mut self, buffer: &mut [u8], pattern: &Pattern, done: &mut Vec<Answer>) -> Result<bool> {
        let count = match self.socket.read(buffer) {
            Ok(0) => bail!("the daemon closed the connection with {} requests under way", self.under_way),
            Ok(count) => count,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                return Ok(false);
            }
            Err(error) => return Err(error).context("receiving"),
        };
        let mut input = &buffer[..count];
        loop {
            match self.decoder.step(&mut input).context("an answer's frame")? {
                Step::NeedMore => break,
                Step::Header { header, .. } => self.begin(header, pattern)?,
                Step::Body(bytes) => self.body(bytes, pattern),
                Step::End => self.end(done)?,
                Step::Refused { header, error } => {
                    bail!("answer to request {}: {error}", header.request_id)
                }
            }
        }
        Ok(count == buffer.len())
    }

    fn begin(&mut self, header: FrameHeader, pattern: &Pattern) -> Result<()> {
        ensure!(header.has(flags::ANSWER), "a request came where answers are expected");
        ensure!(header.request_id != 0, "the daemon says {:?} and closes", header.status);
        let slot = header.request_id as usize - 1;
        let pending = self.pending.get_mut(slot).and_then(Option::as_mut);
        if header.op == Op::Credit {
            // The put may have been answered already.
            if let Some(pending) = pending {
                pending.put_credit += u64::from(header.credit);
                self.send_puts(pattern);
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
            let expected = (answer.request.object_len, length, offset + pending.received);
            answer.wrong |= (header.object_len, header.length, header.offset) != expected;
        }
        let at = header.offset;
        self.incoming = Incoming::Body { slot, header: Box::new(header), at };
        Ok(())
    }

    fn body(&mut self, bytes: &[u8], pattern: &Pattern) {
        let Incoming::Body { slot, header, at } = &mut self.incoming else { return };
        let Some(pending) = self.pending[*slot].as_mut() else { return };
        let answer = &mut pending.answer;
        if header.status != Status::Ok || !matches!(answer.request.kind, Kind::Get { .. }) {
            answer.body.extend_from_slice(bytes);
            return;
        }
        let seed = answer.request.seed();
        let right = match self.check {
            Check::Stamps => Pattern::check_stamps(seed, *at, bytes),
            Check::All => pattern.check_all(seed, *at, bytes),
        };
        answer.wrong |= !right;
        *at += bytes.len() as u64;
        pending.received += bytes.len() as u64;
    }

    fn end(&mut self, done: &mut Vec<Answer>) -> Result<()> {
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
                hedgerow_wire::encoder::write_frame(credit, None, &[], &mut self.out);
            }
            return Ok(());
        }
        let Some(Pending { mut answer, received, .. }) = self.pending[slot].take() else { return Ok(()) };
        self.under_way -= 1;
        self.free.push(slot);
        self.streams.retain(|&stream| stream != slot);
        answer.end_ns = clock::now_ns();
        answer.bytes = received;
        match answer.request.kind {
            Kind::Get { length, .. } if answer.status == Status::Ok => answer.wrong |= received != length,
            Kind::Put if answer.status == Status::Ok => answer.bytes = answer.request.object_len,
            _ => {}
        }
        done.push(answer);
        Ok(())
    }
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
