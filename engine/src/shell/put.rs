//! Puts: a body that comes in as frames, cut into stripes, written as it comes.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use futures_lite::future::or;
use hedgerow_wire::checksum::crc32c;
use hedgerow_wire::frame::{FrameHeader, Op, Status, flags};
use hedgerow_wire::limits::STREAM_CREDIT_INITIAL_BYTES;
use hedgerow_wire::part::RecordName;
use hedgerow_wire::request::Refusal;
use hedgerow_wire::stream::{Progress, PutStream};
use hedgerow_wire::time::Timestamp;
use hedgerow_wire::{Code, Key, ObjectChecksum, Record, Version};

use super::buffers::PartBytes;
use super::clock;
use super::connection::{Connection, Request};
use super::core::Core;
use super::home::{Call, Condition, ObjectMeta, Reply, StripeBytes};
use super::limits::{PUT_BYTES_MAX, STREAM_STRIPES_AHEAD};
use super::oneshot::Signal;
use super::outgoing::Body;

/// The stripe that is coming in: room for its parts with their padding.
pub struct Stripe {
    data: Vec<u8>,
    /// Where in the object it begins.
    start: u64,
    filled: usize,
    len_max: usize,
    code: Code,
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
    Refused(Refusal),
}

/// The body of a put on its way in. The connection's reader fills it, the put's task takes from it.
pub struct PutBody {
    core: Rc<Core>,
    /// Length of the object, if the client said it.
    object_len: Option<u64>,
    rules: RefCell<PutStream>,
    /// What the frame under way will have brought the put to.
    progress: Cell<Progress>,
    stripe: RefCell<Option<Stripe>>,
    unverified: RefCell<Vec<Stripe>>,
    /// Bytes of the stripes that are full.
    striped: Cell<u64>,
    events: RefCell<VecDeque<Event>>,
    signal: Signal,
    held: Cell<usize>,
    ended: Cell<bool>,
}

impl Drop for PutBody {
    fn drop(&mut self) {
        self.core.put_bytes.set(self.core.put_bytes.get() - self.held.get());
    }
}

impl PutBody {
    /// The body of the put that `header` begins.
    pub fn new(core: &Rc<Core>, header: &FrameHeader) -> Result<Rc<PutBody>, Refusal> {
        let (rules, progress) = PutStream::begin(header, STREAM_CREDIT_INITIAL_BYTES)?;
        let object_len = (!header.has(flags::LEN_UNKNOWN)).then_some(header.object_len);
        if core.put_bytes.get() >= PUT_BYTES_MAX {
            return Err(too_many_bytes(core));
        }
        Ok(Rc::new(PutBody {
            core: core.clone(),
            object_len,
            rules: RefCell::new(rules),
            progress: Cell::new(progress),
            stripe: RefCell::new(None),
            unverified: RefCell::default(),
            striped: Cell::new(0),
            events: RefCell::default(),
            signal: Signal::default(),
            held: Cell::new(0),
            ended: Cell::new(false),
        }))
    }

    /// Looks at the header of a further frame. A frame that breaks a rule ends the put.
    pub fn next_frame(&self, header: &FrameHeader) {
        if !self.wants_bytes() {
            return;
        }
        match self.rules.borrow_mut().frame(header) {
            Ok(progress) => self.progress.set(progress),
            Err(refusal) => {
                self.ended.set(true);
                self.push(Event::Refused(refusal));
            }
        }
    }

    /// Counts bytes that this put holds, or lets go, in its core's sum.
    fn hold(&self, bytes: isize) {
        self.held.set(self.held.get().saturating_add_signed(bytes));
        self.core.put_bytes.set(self.core.put_bytes.get().saturating_add_signed(bytes));
    }

    /// Whether bytes that come are kept at all.
    pub fn wants_bytes(&self) -> bool {
        !self.ended.get()
    }

    fn new_stripe(&self) -> Stripe {
        let settings = &self.core.shared.settings;
        let left = self.object_len.map_or(u64::MAX, |len| len - self.striped.get());
        let len_max = left.min(settings.stripe_len as u64) as usize;
        // What decides the code: all of an object of one stripe, else the full stripe.
        let coded_len = if self.striped.get() == 0 { len_max } else { settings.stripe_len };
        let code = settings.code.for_stripe(coded_len, settings.min_part);
        let data = vec![0; code.part_len(len_max) * code.k()];
        Stripe { data, start: self.striped.get(), filled: 0, len_max, code }
    }

    /// The stripe that is coming in, to be filled and given back.
    pub fn take_stripe(&self) -> Stripe {
        let taken = self.stripe.borrow_mut().take();
        taken.unwrap_or_else(|| self.new_stripe())
    }

    /// Gives back what [`PutBody::take_stripe`] gave, with `came` more bytes in it.
    pub fn give_back(&self, stripe: Stripe, came: usize) {
        self.hold(came as isize);
        if self.core.put_bytes.get() > PUT_BYTES_MAX {
            self.ended.set(true);
            self.push(Event::Refused(too_many_bytes(&self.core)));
        }
        if stripe.filled == stripe.len_max && stripe.len_max > 0 {
            self.striped.set(self.striped.get() + stripe.filled as u64);
            self.unverified.borrow_mut().push(stripe);
        } else {
            *self.stripe.borrow_mut() = Some(stripe);
        }
    }

    /// Takes bytes that came in the connection's receive buffer.
    pub fn append(&self, mut bytes: &[u8]) {
        while !bytes.is_empty() && self.wants_bytes() {
            let mut stripe = self.take_stripe();
            let room = stripe.room(bytes.len());
            let count = room.len();
            room.copy_from_slice(&bytes[..count]);
            stripe.advance(count);
            bytes = &bytes[count..];
            self.give_back(stripe, count);
        }
    }

    fn push(&self, event: Event) {
        self.events.borrow_mut().push_back(event);
        self.signal.raise();
    }

    /// The client broke off.
    pub fn abort(&self) {
        self.ended.set(true);
        self.push(Event::Abort);
    }

    /// The frame under way is complete and its checksum is right.
    pub fn frame_verified(&self, header: &FrameHeader) {
        if !self.wants_bytes() {
            return;
        }
        for stripe in self.unverified.borrow_mut().drain(..) {
            self.push(Event::Stripe(finish(stripe, header)));
        }
        match self.progress.get() {
            Progress::More => {}
            Progress::Aborted => self.abort(),
            Progress::End { object_len } => {
                self.push_last(object_len, header);
                self.ended.set(true);
                self.push(Event::End(object_len, header.object_checksum));
            }
        }
    }

    /// What is left when the body ends: a stripe that is not full, or that of an empty object.
    fn push_last(&self, object_len: u64, header: &FrameHeader) {
        let last = self.stripe.borrow_mut().take().filter(|stripe| stripe.filled > 0);
        if last.is_none() && object_len > 0 {
            return;
        }
        let mut stripe = last.unwrap_or_else(|| self.new_stripe());
        if self.striped.get() == 0 {
            // All of an object whose length was not known before: its own code is that of its length.
            let settings = &self.core.shared.settings;
            stripe.code = settings.code.for_stripe(stripe.filled, settings.min_part);
        }
        self.push(Event::Stripe(finish(stripe, header)));
    }

    /// The receiver's side of the stream's credit grows by `len` bytes; whether the client is to know.
    fn grant(&self, len: u32) -> bool {
        self.rules.borrow_mut().grant(len).is_ok() && self.wants_bytes()
    }

    async fn next(&self, deadline: Timestamp) -> Option<Event> {
        loop {
            let event = self.events.borrow_mut().pop_front();
            if event.is_some() {
                return event;
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

fn too_many_bytes(core: &Core) -> Refusal {
    Refusal {
        status: Status::Overloaded,
        message: "too many bytes are on their way in: try again later, or slower",
        field: "",
        value: core.put_bytes.get() as u64,
    }
}

/// A stripe that is complete (or the last one, which may be shorter): trimmed to its parts.
fn finish(mut stripe: Stripe, header: &FrameHeader) -> StripeBytes {
    let len = stripe.filled;
    let sole_frame = header.offset == stripe.start && len == header.body_len as usize;
    let checksum = if sole_frame { header.body_checksum } else { crc32c(&stripe.data[..len]) };
    stripe.data.resize(stripe.code.part_len(len) * stripe.code.k(), 0);
    if stripe.data.capacity() > 2 * stripe.data.len() {
        // Room was made for a full stripe; the memory tier may keep this one for long.
        stripe.data.shrink_to_fit();
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
    started: Timestamp,
) {
    let deadline = header.deadline(started);
    let put = Put {
        home: connection.core.shared.home(key.hash(header.namespace)),
        object: object_meta(&connection.core, &header, key, deadline),
        connection: connection.clone(),
        request: request.clone(),
        body,
    };
    let reply = put.run().await;
    put.body.ended.set(true);
    put.body.events.borrow_mut().clear();
    *request.put.borrow_mut() = None;
    connection.finish(&request);
    if request.cancelled.get() {
        return;
    }
    super::request::answer_write(&connection, Op::Put, request.id, reply);
    connection.core.counters.latency(Op::Put, clock::timestamp().since(started));
}

/// What a put or delete says about its object.
pub fn object_meta(core: &Core, header: &FrameHeader, key: Key, deadline: Timestamp) -> ObjectMeta {
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
        ack: header.ack.unwrap_or(core.shared.settings.ack),
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
            Some(Event::Refused(refusal)) => Err(failure(refusal.status, refusal.message)),
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
        let written = self.write_stripes(version, first, second).await;
        if let Err(failure) = written {
            let call = Call::EndPut { hash: self.object.name.hash, version };
            drop(core.call(self.home, call).await);
            return Err(failure);
        }
        let (object_len, checksum) = (self.len(), self.checksum());
        let object = self.object.clone();
        let head = Call::PutHead { object, version, object_len, checksum };
        Ok((core.call(self.home, head).await, ""))
    }

    /// Writes the stripes as they come, a few at a time, until the body ends.
    async fn write_stripes(
        &self,
        version: Version,
        first: StripeBytes,
        second: StripeBytes,
    ) -> Result<(), Failure> {
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
        Ok(())
    }

    fn write_stripe(
        &self,
        under_way: &Rc<StripesUnderWay>,
        version: Version,
        index: u32,
        stripe: StripeBytes,
    ) {
        let (core, home, under_way) = (self.connection.core.clone(), self.home, under_way.clone());
        let (connection, request, body) = (self.connection.clone(), self.request.clone(), self.body.clone());
        let object = self.object.clone();
        under_way.count.set(under_way.count.get() + 1);
        core.clone().spawn(async move {
            let len = stripe.len as u32;
            let reply = core.call(home, Call::PutStripe { object, version, index, stripe }).await;
            body.hold(-(len as isize));
            under_way.count.set(under_way.count.get() - 1);
            match reply {
                Reply::Written { .. } => {
                    if body.grant(len) {
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
