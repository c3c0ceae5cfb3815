//! Requests other than puts: from a whole frame to the frames of its answer.

use std::collections::VecDeque;
use std::ops::Range;
use std::rc::Rc;
use std::time::Duration;

use futures_lite::future::or;
use hedgerow_wire::checksum::crc32c_combine;
use hedgerow_wire::frame::{FrameHeader, Op, Status, flags};
use hedgerow_wire::part::{PartKind, PartMeta, RecordName};
use hedgerow_wire::time::Timestamp;
use hedgerow_wire::{Key, Record};

use super::bodies::WholeBody;
use super::buffers::PartBytes;
use super::clock;
use super::connection::{Connection, Request};
use super::control;
use super::faults;
use super::home::{Call, InMemory, Pieces, ReadCall, RecordReply, Reply};
use super::limits::STREAM_STRIPES_AHEAD;
use super::outgoing::Body;
use super::permits::Permit;
use super::{member, put};

/// Serves a request whose frame is complete.
pub async fn serve(
    connection: Rc<Connection>,
    request: Rc<Request>,
    header: FrameHeader,
    key: Option<Key>,
    body: WholeBody,
    started: Timestamp,
) {
    let op = header.op;
    let served = async {
        match (op, key) {
            (Op::Get, Some(key)) => get(&connection, &request, &header, key, started).await,
            (Op::Delete, Some(key)) => delete(&connection, &request, &header, key, started).await,
            (Op::Stat, Some(key)) => {
                control::stat(&connection, &header, read_call(&header, key, started)).await
            }
            (Op::Stats, _) => control::stats(&connection, &header).await,
            (Op::Fault, _) => faults::requests::answer(&connection, &header, &body.bytes).await,
            (Op::Verify, _) => {
                control::verify(&connection, &header, &body.bytes, header.deadline(started)).await
            }
            (_, key) => member::serve(&connection, &request, &header, key.as_ref(), body, started).await,
        }
    };
    let cancelled = async {
        while !request.cancelled.get() {
            request.signal.wait().await;
        }
    };
    or(cancelled, served).await;
    connection.finish(&request);
    connection.core.counters.latency(op, clock::timestamp().since(started));
}

/// What a get or stat asks a home for.
pub fn read_call(header: &FrameHeader, key: Key, started: Timestamp) -> ReadCall {
    let namespace = header.namespace;
    ReadCall {
        name: RecordName { namespace, hash: key.hash(namespace), key, record: Record::OBJECT },
        fixed: None,
        range: if header.op == Op::Get { (header.offset, header.length) } else { (0, 0) },
        policy: header.read_policy,
        strict: header.has(flags::STRICT),
        immutable: header.has(flags::IMMUTABLE),
        for_condition: false,
        deadline: header.deadline(started),
    }
}

/// Sends a failed reply to a read.
fn answer_failure(connection: &Connection, op: Op, id: u64, reply: &Reply<PartBytes>) {
    match reply {
        Reply::OutOfRange { object_len } => {
            let mut header = FrameHeader::answer(op, id, Status::RangeNotSatisfiable);
            header.object_len = *object_len;
            connection.core.counters.refused(Status::RangeNotSatisfiable);
            connection.send(header, Body::Empty, 0);
        }
        Reply::Status(Status::NotFound) => {
            connection.core.counters.refused(Status::NotFound);
            connection.send(FrameHeader::answer(op, id, Status::NotFound), Body::Empty, 0);
        }
        Reply::Status(status) => connection.send_error(op, id, *status, status_sentence(*status)),
        _ => connection.send_error(op, id, Status::Internal, "the home answered something else"),
    }
}

/// What a person needs to know of a status.
fn status_sentence(status: Status) -> &'static str {
    match status {
        Status::DeadlineExceeded => "not done by the deadline",
        Status::Indeterminate => {
            "too few targets are known to have stored the write: read the object, or write it again"
        }
        Status::Overloaded => "a bound was reached: try again later, or slower",
        Status::Unavailable => "too many of the object's targets failed, or cannot decide what there is",
        Status::ShuttingDown => "the daemon is stopping",
        Status::Cancelled => "the request was cancelled",
        Status::Internal => "the daemon failed inside: its log says where",
        _ => "",
    }
}

/// Answers a put or a delete.
pub fn answer_write(
    connection: &Connection,
    op: Op,
    id: u64,
    (reply, why): (Reply<PartBytes>, &'static str),
) {
    match reply {
        Reply::Written { version, unchanged } => {
            let mut header = FrameHeader::answer(op, id, Status::Ok);
            header.version = version;
            if unchanged {
                header.flags |= flags::UNCHANGED;
            }
            connection.send(header, Body::Empty, 0);
        }
        Reply::Conflict { status, version } => {
            let mut header = FrameHeader::answer(op, id, status);
            header.version = version;
            connection.core.counters.refused(status);
            connection.send(header, Body::Empty, 0);
        }
        Reply::Status(status) if !why.is_empty() => connection.send_error(op, id, status, why),
        other => answer_failure(connection, op, id, &other),
    }
}

async fn delete(
    connection: &Rc<Connection>,
    request: &Request,
    header: &FrameHeader,
    key: Key,
    started: Timestamp,
) {
    let object = put::object_meta(&connection.core, header, key, header.deadline(started));
    let home = connection.core.shared.home(object.name.hash);
    let reply = connection.core.call(home, Call::Delete { object }).await;
    answer_write(connection, Op::Delete, request.id, (reply, ""));
}

/// The header of the first frame of an answer to `request` that carries bytes of the object.
fn object_header(request: &FrameHeader, meta: &PartMeta, confirmed: bool, from_memory: bool) -> FrameHeader {
    let mut header = FrameHeader::answer(Op::Get, request.request_id, Status::Ok);
    header.offset = request.offset;
    header.length = request.length.min(meta.object_len - request.offset);
    if !confirmed {
        header.flags |= flags::UNCONFIRMED;
    }
    if from_memory {
        header.flags |= flags::FROM_MEMORY;
    }
    header.version = meta.version;
    header.object_len = meta.object_len;
    header.object_checksum = meta.object_checksum;
    if meta.expires_ms != 0 {
        header.ttl_ms = meta.expires_ms.saturating_sub(clock::now().wall_ms()).max(1);
    }
    header
}

fn pieces_checksum(pieces: &Pieces<PartBytes>) -> u32 {
    let mut pieces = pieces.iter();
    let first = pieces.next().map_or(0, |piece| piece.checksum);
    pieces.fold(first, |sum, piece| crc32c_combine(sum, piece.checksum, piece.range.len() as u64))
}

/// A turn to fetch something for a connection: the answers that it has not taken bound how much.
async fn turn(connection: &Connection, deadline: Timestamp) -> Option<Permit> {
    let turn = async {
        let permit = connection.gets.take().await;
        connection.room_to_send(deadline).await.then_some(permit)
    };
    let late = async {
        glommio::timer::sleep(deadline.since(clock::timestamp())).await;
        None
    };
    or(turn, late).await
}

/// Answers with a record that is the whole object.
fn send_record(connection: &Connection, header: &FrameHeader, record: RecordReply<PartBytes>) {
    let answer = object_header(header, &record.meta, record.confirmed, record.from_memory);
    connection.core.counters.sent(record.from_memory, answer.length);
    let checksum = pieces_checksum(&record.pieces);
    let body = if record.pieces.is_empty() { Body::Empty } else { Body::Pieces(record.pieces) };
    connection.send(answer, body, checksum);
}

/// Answers with an object that is in memory.
pub fn send_from_memory(connection: &Connection, header: &FrameHeader, found: InMemory) {
    let answer = object_header(header, &found.meta, true, true);
    connection.core.counters.sent(true, answer.length);
    let checksum = found.piece.as_ref().map_or(0, |piece| piece.checksum);
    connection.send(answer, found.piece.map_or(Body::Empty, Body::Piece), checksum);
}

async fn get(
    connection: &Rc<Connection>,
    request: &Request,
    header: &FrameHeader,
    key: Key,
    started: Timestamp,
) {
    let call = read_call(header, key, started);
    let (name, deadline) = (call.name.clone(), call.deadline);
    let answer_by = connection.core.answer_by(deadline, started);
    let Some(turn) = turn(connection, answer_by).await else {
        return answer_failure(connection, Op::Get, request.id, &Reply::Status(Status::DeadlineExceeded));
    };
    let home = connection.core.shared.home(name.hash);
    let reply = connection.core.call(home, Call::Read(call)).await;
    let Reply::Record(record) = reply else {
        return answer_failure(connection, Op::Get, request.id, &reply);
    };
    if record.meta.kind == PartKind::Head {
        // Each of its stripes takes a turn of its own.
        drop(turn);
        let head = &record.meta;
        let stream = GetStream { connection, request, header, name, home, deadline, answer_by, head };
        return stream.run(object_header(header, head, record.confirmed, record.from_memory)).await;
    }
    send_record(connection, header, record);
}

/// A get of an object of several stripes.
struct GetStream<'a> {
    connection: &'a Rc<Connection>,
    request: &'a Request,
    header: &'a FrameHeader,
    name: RecordName,
    home: usize,
    deadline: Timestamp,
    /// When its last frame has to be ready.
    answer_by: Timestamp,
    head: &'a PartMeta,
}

/// A stripe that is being fetched, and the turn that it was given until it is sent.
type Fetch = (glommio::Task<Reply<PartBytes>>, Permit);

impl GetStream<'_> {
    async fn run(&self, mut answer: FrameHeader) {
        let stripe_size = u64::from(self.head.stripe_size);
        let (first, end) = (answer.offset, answer.offset + answer.length);
        if answer.length == 0 {
            return self.connection.send(answer, Body::Empty, 0);
        }
        let mut stripes = (first / stripe_size..=(end - 1) / stripe_size).peekable();
        let mut ahead: VecDeque<Fetch> = VecDeque::new();
        let mut offset = first;
        loop {
            while ahead.len() < STREAM_STRIPES_AHEAD
                && let Some(&stripe) = stripes.peek()
                && let Some(fetch) = self.fetch(stripe, first..end, ahead.is_empty()).await
            {
                stripes.next();
                ahead.push_back(fetch);
            }
            let record = match ahead.pop_front() {
                Some((fetched, turn)) => (fetched.await, turn),
                None if stripes.peek().is_none() => return,
                None => return self.break_off(offset == first, Reply::Status(Status::DeadlineExceeded)),
            };
            let (record, _turn) = match record {
                (Reply::Record(record), turn) => (record, turn),
                (other, _) => return self.break_off(offset == first, other),
            };
            let len: usize = record.pieces.iter().map(|piece| piece.range.len()).sum();
            answer.offset = offset;
            offset += len as u64;
            answer.flags &= !flags::END;
            if offset == end {
                answer.flags |= flags::END;
            }
            self.connection.core.counters.sent(record.from_memory, len as u64);
            let checksum = pieces_checksum(&record.pieces);
            self.connection.send(answer.clone(), Body::Pieces(record.pieces), checksum);
        }
    }

    /// Begins to fetch one stripe's share of the bytes `wanted` of the object, once the client has granted
    /// credit for it and the connection has a turn and room; so what waits for a client holds nothing.
    /// With `wait` nothing if the deadline comes first, else nothing if it cannot begin at once: a
    /// stream that holds turns never waits for another one.
    async fn fetch(&self, stripe: u64, wanted: Range<u64>, wait: bool) -> Option<Fetch> {
        let stripe_size = u64::from(self.head.stripe_size);
        let begin = stripe * stripe_size;
        let stripe_len = stripe_size.min(self.head.object_len - begin);
        let share = wanted.start.max(begin) - begin..(wanted.end - begin).min(stripe_len);
        let len = share.end - share.start;
        let turn = if wait {
            self.wait_for_credit(len).await.then_some(())?;
            turn(self.connection, self.answer_by).await?
        } else {
            let room = self.connection.has_room() && self.connection.core_has_room();
            (self.request.credit.get() >= len && room).then_some(())?;
            self.connection.gets.try_take()?
        };
        self.request.credit.set(self.request.credit.get() - len);
        Some((self.start(stripe, stripe_len, share), turn))
    }

    /// Starts the read of `share` of a stripe.
    fn start(&self, stripe: u64, stripe_len: u64, share: Range<u64>) -> glommio::Task<Reply<PartBytes>> {
        let settings = &self.connection.core.shared.settings;
        let code = settings.code.for_stripe(self.head.stripe_size as usize, settings.min_part);
        let whole = share == (0..stripe_len);
        let range = if whole { (0, FrameHeader::TO_END) } else { (share.start, share.end - share.start) };
        let call = Call::Read(ReadCall {
            name: RecordName { record: Record::stripe(stripe as u32), ..self.name.clone() },
            fixed: Some((self.head.version, code, stripe_len as u32)),
            range,
            policy: self.header.read_policy,
            strict: false,
            immutable: false,
            for_condition: false,
            deadline: self.deadline,
        });
        let (core, home) = (self.connection.core.clone(), self.home);
        // Dropping the task, when the client cancels, ends the read.
        core.clone().task(async move { core.call(home, call).await })
    }

    /// Waits until the client has granted `len` bytes; `false` if the deadline comes first.
    async fn wait_for_credit(&self, len: u64) -> bool {
        while self.request.credit.get() < len {
            let left = self.answer_by.since(clock::timestamp());
            if left == Duration::ZERO {
                return false;
            }
            or(self.request.credit_signal.wait(), async {
                glommio::timer::sleep(left).await;
            })
            .await;
        }
        true
    }

    /// A stripe cannot be had: before anything was sent that is the answer, later the stream is
    /// aborted. A stripe that is gone although its head is there is a miss.
    fn break_off(&self, nothing_sent: bool, reply: Reply<PartBytes>) {
        if let Reply::Status(Status::NotFound) = reply {
            let (core, home) = (self.connection.core.clone(), self.home);
            let call = Call::Forget { hash: self.name.hash, version: self.head.version };
            core.clone().spawn(async move { drop(core.call(home, call).await) });
        }
        if nothing_sent {
            return answer_failure(self.connection, Op::Get, self.request.id, &reply);
        }
        let status = match reply {
            // Its time came while it was read.
            Reply::Status(Status::NotFound) if self.head.expired(clock::now().wall_ms()) => Status::NotFound,
            // The object is there, as far as its head is known; what is gone is a stripe of it.
            Reply::Status(Status::NotFound) => Status::Unavailable,
            Reply::Status(status) => status,
            _ => Status::Unavailable,
        };
        let mut header = FrameHeader::answer(Op::Get, self.request.id, status);
        header.flags |= flags::ABORT;
        self.connection.core.counters.refused(status);
        self.connection.send(header, Body::Empty, 0);
    }
}
