//! Puts: a body that comes in as frames, cut into stripes, written as it comes.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use futures_lite::future::or;
use hedgerow_wire::checksum::crc32c;
use hedgerow_wire::frame::{FrameHeader, Op, Status, flags};
use hedgerow_wire::limits::{OBJECT_LEN_MAX, STREAM_CREDIT_INITIAL_BYTES, STRIPE_LEN_MAX};
use hedgerow_wire::part::RecordName;
use hedgerow_wire::time::Timestamp;
use hedgerow_wire::{Code, Key, ObjectChecksum, Record, Version};

use super::buffers::PartBytes;
use super::clock;
use super::connection::{Body, Connection, Request};
use super::core::Core;
use super::home::{Call, Condition, ObjectMeta, Reply, StripeBytes};
use super::limits::{PUT_BYTES_MAX, STREAM_STRIPES_AHEAD};
use super::oneshot::Signal;

/// The stripe that is coming in: room for its parts with their padding.
pub struct Stripe {
    data: Vec<u8>,
    filled: usize,
    len_max: usize,
    code: Code,
    /// Checksum of the frame that the stripe began with, if it is all that the stripe has.
    sole_frame: Option<u32>,
}

impl Stripe {
    /// The place for the next bytes, at most `remaining` of them.
    pub fn room(&mut self, remaining: usize) -> &mut [u8] {
        let end = self.len_max.min(self.filled + remaining);
        &mut self.data[self.filled..end]
    }

    /// `count` bytes have come into [`Stripe::room`].
    pub fn advance(&mut self, count: usize) {
        self.filled += count;
    }
}

/// What a put's task is told.
enum Event {
    /// A stripe whose frames were all verified.
    Stripe(StripeBytes),
    /// The body is complete: its length and the writer's checksum.
    End(u64, ObjectChecksum),
    /// The client broke off, or a frame was damaged.
    Abort,
    /// The client broke a rule.
    Refused(Status, &'static str),
}

/// The body of a put on its way in. The connection's reader fills it, the put's task takes from it.
pub struct PutBody {
    core: Rc<Core>,
    /// Length of the object, if the client said it.
    object_len: Option<u64>,
    stripe: RefCell<Option<Stripe>>,
    unverified: RefCell<Vec<Stripe>>,
    events: RefCell<VecDeque<Event>>,
    signal: Signal,
    received: Cell<u64>,
    allowed: Cell<u64>,
    held: Cell<usize>,
    ended: Cell<bool>,
}

impl Drop for PutBody {
    fn drop(&mut self) {
        self.hold(0);
    }
}

impl PutBody {
    /// The body of the put that `header` begins; nothing if this core has no room for one more.
    pub fn new(core: &Rc<Core>, header: &FrameHeader) -> Option<Rc<PutBody>> {
        let known = !header.has(flags::LEN_UNKNOWN);
        let body = PutBody {
            core: core.clone(),
            object_len: known.then_some(header.object_len),
            stripe: RefCell::new(None),
            unverified: RefCell::default(),
            events: RefCell::default(),
            signal: Signal::default(),
            received: Cell::new(0),
            allowed: Cell::new(u64::from(STREAM_CREDIT_INITIAL_BYTES)),
            held: Cell::new(0),
            ended: Cell::new(false),
        };
        // A put may hold the stripes that its credit lets come.
        let most = u64::from(STREAM_CREDIT_INITIAL_BYTES) + STRIPE_LEN_MAX as u64;
        let hold = body.object_len.unwrap_or(most).min(most) as usize;
        if core.put_bytes.get() + hold > PUT_BYTES_MAX {
            return None;
        }
        body.hold(hold);
        Some(Rc::new(body))
    }

    /// Sets how many bytes of this core's room for bodies this put holds.
    fn hold(&self, bytes: usize) {
        let before = self.held.replace(bytes);
        self.core.put_bytes.set(self.core.put_bytes.get() + bytes - before);
    }

    /// Whether bytes that come are kept at all.
    pub fn wants_bytes(&self) -> bool {
        !self.ended.get()
    }

    fn new_stripe(&self) -> Stripe {
        let stripe_len = self.core.shared.settings.stripe_len;
        let left = self.object_len.map_or(u64::MAX, |len| len - self.received.get());
        let first = self.received.get() == 0;
        let len_max = left.min(stripe_len as u64) as usize;
        // What decides the code: all of an object of one stripe, else the full stripe.
        let coded_len = if first { len_max } else { stripe_len };
        let code = self.core.shared.settings.code.for_stripe(coded_len, self.core.shared.settings.min_part);
        Stripe {
            data: vec![0; code.part_len(len_max) * code.k()],
            filled: 0,
            len_max,
            code,
            sole_frame: None,
        }
    }

    /// The stripe that is coming in, to be filled and given back.
    pub fn take_stripe(&self) -> Stripe {
        let taken = self.stripe.borrow_mut().take();
        taken.unwrap_or_else(|| self.new_stripe())
    }

    /// Gives back what [`PutBody::take_stripe`] gave.
    pub fn give_back(&self, stripe: Stripe) {
        // `received` counts whole stripes here; the one under way is added in `frame_verified`.
        if stripe.filled == stripe.len_max && stripe.len_max > 0 {
            self.received.set(self.received.get() + stripe.filled as u64);
            self.unverified.borrow_mut().push(stripe);
        } else {
            *self.stripe.borrow_mut() = Some(stripe);
        }
    }

    /// Takes bytes that came in the connection's receive buffer.
    pub fn append(&self, mut bytes: &[u8]) {
        while !bytes.is_empty() && self.wants_bytes() {
            if self.object_len.is_some_and(|len| self.received.get() >= len) {
                return self.refuse(Status::BadRequest, "the body is longer than object_len says");
            }
            let mut stripe = self.take_stripe();
            let room = stripe.room(bytes.len());
            let count = room.len();
            room.copy_from_slice(&bytes[..count]);
            stripe.advance(count);
            bytes = &bytes[count..];
            self.give_back(stripe);
        }
    }

    fn push(&self, event: Event) {
        self.events.borrow_mut().push_back(event);
        self.signal.raise();
    }

    fn refuse(&self, status: Status, why: &'static str) {
        self.ended.set(true);
        self.push(Event::Refused(status, why));
    }

    /// The client broke off.
    pub fn abort(&self) {
        self.ended.set(true);
        self.push(Event::Abort);
    }

    fn came(&self) -> u64 {
        self.received.get() + self.stripe.borrow().as_ref().map_or(0, |stripe| stripe.filled as u64)
    }

    /// The frame under way is complete and its checksum is right.
    pub fn frame_verified(&self, header: &FrameHeader) {
        if !self.wants_bytes() {
            return;
        }
        if header.has(flags::ABORT) {
            return self.abort();
        }
        let came = self.came();
        if header.offset + u64::from(header.body_len) != came {
            return self.refuse(Status::BadRequest, "the frames of a put must follow each other");
        }
        if came > OBJECT_LEN_MAX {
            return self.refuse(Status::TooLarge, "the object is larger than the daemon takes");
        }
        if came > self.allowed.get() {
            return self.refuse(Status::BadRequest, "the client sent more than its credit");
        }
        let end = header.has(flags::END);
        if end && self.object_len.is_some_and(|len| len != came) {
            return self.refuse(Status::BadRequest, "the body is shorter than object_len says");
        }
        for stripe in self.unverified.borrow_mut().drain(..) {
            self.push(Event::Stripe(finish(stripe, header)));
        }
        if end {
            let last = self.stripe.borrow_mut().take();
            if came == 0 || last.as_ref().is_some_and(|stripe| stripe.filled > 0) {
                let stripe = last.unwrap_or_else(|| self.new_stripe());
                self.push(Event::Stripe(finish(stripe, header)));
            }
            self.ended.set(true);
            self.push(Event::End(came, header.object_checksum));
        }
    }

    async fn next(&self, deadline: Timestamp) -> Option<Event> {
        loop {
            if let Some(event) = self.events.borrow_mut().pop_front() {
                return Some(event);
            }
            let now = clock::timestamp();
            if now >= deadline {
                return None;
            }
            or(self.signal.wait(), async {
                glommio::timer::sleep(deadline.since(now)).await;
            })
            .await;
        }
    }
}

/// A stripe that is complete (or the last one, which may be shorter): trimmed to its parts.
fn finish(mut stripe: Stripe, header: &FrameHeader) -> StripeBytes {
    let len = stripe.filled;
    stripe.sole_frame = (len == header.body_len as usize).then_some(header.body_checksum);
    let checksum = stripe.sole_frame.unwrap_or_else(|| crc32c(&stripe.data[..len]));
    if len < stripe.len_max {
        // Shorter than was made room for: its parts are, too.
        let padded = stripe.code.part_len(len) * stripe.code.k();
        stripe.data.resize(padded.max(len), 0);
        stripe.data.truncate(padded);
    }
    StripeBytes { data: Arc::new(stripe.data), len, checksum, code: stripe.code }
}

/// Serves a put: waits for its body, writes it, answers.
pub async fn serve(
    connection: Rc<Connection>,
    request: Rc<Request>,
    header: FrameHeader,
    key: Key,
    body: Rc<PutBody>,
) {
    let started = clock::timestamp();
    let deadline = header.deadline(started);
    let put = Put {
        home: connection.core.shared.home(key.hash(header.namespace)),
        object: object_meta(&header, key, deadline),
        connection: connection.clone(),
        request: request.clone(),
        body,
    };
    let reply = put.run().await;
    put.body.ended.set(true);
    put.body.events.borrow_mut().clear();
    *request.put.borrow_mut() = None;
    connection.finish(request.id);
    if request.cancelled.get() {
        return;
    }
    super::request::answer_write(&connection, Op::Put, request.id, reply);
    connection.core.counters.latency(Op::Put, clock::timestamp().since(started));
}

/// What a put or delete says about its object.
pub fn object_meta(header: &FrameHeader, key: Key, deadline: Timestamp) -> ObjectMeta {
    let condition = if header.has(flags::IF_VERSION) {
        Condition::IfVersion(header.version)
    } else if header.has(flags::IMMUTABLE) {
        Condition::Immutable
    } else {
        Condition::None
    };
    let expires_ms = match header.ttl_ms {
        0 => 0,
        ttl_ms => clock::now().wall_ms().saturating_add(ttl_ms),
    };
    ObjectMeta {
        name: RecordName {
            namespace: header.namespace,
            hash: key.hash(header.namespace),
            key,
            record: Record::OBJECT,
        },
        expires_ms,
        pinned: header.has(flags::PINNED),
        condition,
        ack: header.ack,
        deadline,
    }
}

struct Put {
    connection: Rc<Connection>,
    request: Rc<Request>,
    home: usize,
    object: ObjectMeta,
    body: Rc<PutBody>,
}

/// The answer to a put that is over before its end.
type Failure = (Reply<PartBytes>, &'static str);

fn failure(status: Status, why: &'static str) -> Failure {
    (Reply::Status(status), why)
}

impl Put {
    async fn run(&self) -> Failure {
        let first = match self.stripe_or_end().await {
            Ok(Some(stripe)) => stripe,
            Ok(None) => return failure(Status::Internal, "a body without a stripe"),
            Err(failure) => return failure,
        };
        match self.stripe_or_end().await {
            Ok(None) => {
                let checksum = self.checksum();
                let call = Call::PutSole { object: self.object.clone(), stripe: first, checksum };
                (self.connection.core.call(self.home, call).await, "")
            }
            Ok(Some(second)) => self.run_stream(first, second).await.unwrap_or_else(|failure| failure),
            Err(failure) => failure,
        }
    }

    /// The next stripe; nothing at the end of the body.
    async fn stripe_or_end(&self) -> Result<Option<StripeBytes>, Failure> {
        match self.body.next(self.object.deadline).await {
            Some(Event::Stripe(stripe)) => Ok(Some(stripe)),
            Some(Event::End(len, checksum)) => {
                self.body.events.borrow_mut().push_front(Event::End(len, checksum));
                Ok(None)
            }
            Some(Event::Abort) => Err(failure(Status::Cancelled, "the client broke off")),
            Some(Event::Refused(status, why)) => Err(failure(status, why)),
            None => Err(failure(Status::DeadlineExceeded, "the body had not come by the deadline")),
        }
    }

    fn checksum(&self) -> ObjectChecksum {
        match self.body.events.borrow().front() {
            Some(Event::End(_, checksum)) => *checksum,
            _ => ObjectChecksum::NONE,
        }
    }

    fn len(&self) -> u64 {
        match self.body.events.borrow().front() {
            Some(Event::End(len, _)) => *len,
            _ => 0,
        }
    }

    async fn run_stream(&self, first: StripeBytes, second: StripeBytes) -> Result<Failure, Failure> {
        let core = &self.connection.core;
        let begun = core.call(self.home, Call::BeginPut { object: self.object.clone() }).await;
        let Reply::Version(version) = begun else { return Err((begun, "")) };
        let under_way = Rc::new(StripesUnderWay::default());
        let mut next = Some(first);
        let mut after = Some(second);
        let mut index = 0;
        while let Some(stripe) = next {
            under_way.wait_below(STREAM_STRIPES_AHEAD).await;
            if under_way.failed.borrow().is_some() {
                break;
            }
            self.write_stripe(&under_way, version, index, stripe);
            index += 1;
            next = match after.take() {
                Some(stripe) => Some(stripe),
                None => self.stripe_or_end().await?,
            };
        }
        under_way.wait_below(1).await;
        if let Some(reply) = under_way.failed.borrow_mut().take() {
            return Err((reply, "a stripe could not be written"));
        }
        let (object_len, checksum) = (self.len(), self.checksum());
        let object = self.object.clone();
        let head = Call::PutHead { object, version, object_len, checksum };
        Ok((core.call(self.home, head).await, ""))
    }

    fn write_stripe(&self, under_way: &Rc<StripesUnderWay>, version: Version, index: u32, stripe: StripeBytes) {
        let (core, home, under_way) = (self.connection.core.clone(), self.home, under_way.clone());
        let (connection, request, body) = (self.connection.clone(), self.request.clone(), self.body.clone());
        let object = self.object.clone();
        under_way.count.set(under_way.count.get() + 1);
        core.clone().spawn(async move {
            let len = stripe.len as u32;
            let reply = core.call(home, Call::PutStripe { object, version, index, stripe }).await;
            under_way.count.set(under_way.count.get() - 1);
            match reply {
                Reply::Written { .. } => {
                    body.allowed.set(body.allowed.get() + u64::from(len));
                    if body.wants_bytes() {
                        let mut grant = FrameHeader::request(Op::Credit, request.id);
                        grant.flags |= flags::ANSWER;
                        grant.credit = len;
                        connection.send(grant, Body::Empty, 0);
                    }
                }
                other => drop(under_way.failed.borrow_mut().get_or_insert(other)),
            }
            under_way.signal.raise();
        });
    }
}

#[derive(Default)]
struct StripesUnderWay {
    count: Cell<usize>,
    failed: RefCell<Option<Reply<PartBytes>>>,
    signal: Signal,
}

impl StripesUnderWay {
    async fn wait_below(&self, limit: usize) {
        while self.count.get() >= limit {
            self.signal.wait().await;
        }
    }
}
